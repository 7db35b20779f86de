"""A process that reads or writes one secret while others move it about: `python -m tests.reliability.move_worker`.

It counts the secret up, or checks that what it reads only grows, until a file is there; then it prints what it saw.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from securecfg.errors import StoreBusy
from securecfg.vault import Vault

PATH = "app/in/counter"


def main(role: str, vault_path: str, key: str, stop: str) -> None:
    """Read or write until the file is there."""
    count, last = 0, 0
    with Vault.open(vault_path, key=key, principal="user:ada", cache_values=64) as vault:
        while not Path(stop).exists():
            try:
                version = vault.read(PATH)
                value = int(str(version.field("").reveal()))
                if value < last or version.version != value:
                    message = f"read {value} as version {version.version} after {last}"
                    raise AssertionError(message)
                last = value
                if role == "write":
                    vault.write(PATH, str(value + 1), expect=value)
                    last = value + 1
            except StoreBusy:
                continue
            count += 1
    print(json.dumps({"count": count, "last": last}))


if __name__ == "__main__":
    main(*sys.argv[1:])
