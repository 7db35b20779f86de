"""A process that writes to a vault until it is killed: `python -m tests.reliability.kill_worker PATH KEY NAME`.

It writes a line for each change that it was told is durable: path, version, value.
"""

from __future__ import annotations

import random
import sys

from securecfg.errors import Conflict, NotFound, StoreBusy
from securecfg.vault.commits.maintenance import compact
from securecfg.vault.values import as_number
from securecfg.vault.vault import Vault
from tests.vault.world import ADMIN


def main() -> None:
    """Write for ever."""
    path, key, name = sys.argv[1:]
    draw = random.Random(name)
    vault = Vault.open(path, key=key, principal=ADMIN)
    count = 0
    while True:
        count += 1
        try:
            _change(vault, name, count, draw)
        except (Conflict, NotFound, StoreBusy):
            continue
        if count % 25 == 0:
            vault.close()
            vault = Vault.open(path, key=key, principal=ADMIN)


def _change(vault: Vault, name: str, count: int, draw: random.Random) -> None:
    path = f"app/{draw.randrange(8)}"
    value = f"{name}:{count}"
    kind = draw.random()
    if kind < 0.6:
        _say(path, vault.write(path, value), value)
    elif kind < 0.75:
        # The record of a larger one lists its items in a part.
        with vault.batch() as batch:
            for number in range(20 if kind < 0.7 else 120):
                batch.write(f"{name}/{number % 4}", value)
        for number, version in enumerate(batch.results):
            _say(f"{name}/{number % 4}", version, value)
    elif kind < 0.8:
        _say(f"{name}/large", vault.write(f"{name}/large", value + "x" * 100_000), value + "x" * 20)
    elif kind < 0.9:
        vault.read(path)
    elif kind < 0.95:
        compact(vault.opened)
    else:
        number = as_number(vault.history(path)[-1].version)
        vault.destroy(path, number)
        _say(path, number, "destroyed")


def _say(path: str, version: object, value: str) -> None:
    print(path, version, value[:40], flush=True)


if __name__ == "__main__":
    main()
