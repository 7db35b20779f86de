"""A process that uses secrets while others move them about: `python -m tests.reliability.move_worker`.

It counts one up, or checks that what it reads of it only grows, or that it lists all of them, until a file is there;
then it prints what it saw.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from securecfg.errors import StoreBusy
from securecfg.vault import Vault

PATH = "app/in/counter"
OTHERS = 30
PAUSE_S = 0.02  # histories of thousands of versions would make the moves last, and show nothing more


def main(role: str, vault_path: str, key: str, stop: str) -> None:
    """Read, write or list until the file is there."""
    count, last = 0, 0
    with Vault.open(vault_path, key=key, principal="user:ada", cache_values=64) as vault:
        while not Path(stop).exists():
            try:
                if role == "list":
                    check_listed(vault.list("app/in/"))
                else:
                    last = check_read(vault, last)
                if role == "write":
                    vault.write(PATH, str(last + 1), expect=last)
                    last += 1
            except StoreBusy:
                continue
            count += 1
            if role != "read":
                time.sleep(PAUSE_S)
    print(json.dumps({"count": count, "last": last}))


def check_read(vault: Vault, least: int) -> int:
    """Return what the secret counts up, and check that it does not go back."""
    version = vault.read(PATH)
    value = int(str(version.field("").reveal()))
    if value < least or version.version != value:
        message = f"read {value} as version {version.version} after {least}"
        raise AssertionError(message)
    return value


def check_listed(found: list[str]) -> None:
    """Check that a listing misses nothing."""
    if found != sorted([PATH, *(f"app/in/{number}" for number in range(OTHERS))]):
        message = f"listed {found}"
        raise AssertionError(message)


if __name__ == "__main__":
    main(*sys.argv[1:])
