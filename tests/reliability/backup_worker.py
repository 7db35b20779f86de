"""A process that backs a vault up and restores it until it is killed.

`python -m tests.reliability.backup_worker PATH KEY FOLDER BACKUP-KEY NAME`. It writes a line for each part and for each
restored vault that it was told is there.
"""

from __future__ import annotations

import sys
from pathlib import Path

from securecfg.errors import StoreBusy
from securecfg.keys import open_provider
from securecfg.vault.backups.backups import Backups
from securecfg.vault.backups.restoring import Restoring
from securecfg.vault.vault import Vault
from tests.vault.world import ADMIN


def main() -> None:
    """Go on for ever."""
    path, key, folder, backup_key, name = sys.argv[1:]
    provider = open_provider(backup_key)
    vault = Vault.open(path, key=key, principal=ADMIN)
    count = 0
    while True:
        count += 1
        vault.write("app/a", f"{name}:{count}")
        try:
            done = Backups(vault.authority).make(folder, [] if list(Path(folder).glob("*.part")) else [provider])
        except StoreBusy:
            continue  # a process that is not dead yet has the folder
        print("part", done.part, f"{name}:{count}", flush=True)
        restoring = Restoring(folder, provider)
        target = f"{path}.{name}.{count}"
        restoring.restore(restoring.find(), target, ADMIN)
        print("restored", target, f"{name}:{count}", flush=True)


if __name__ == "__main__":
    main()
