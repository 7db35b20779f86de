"""A process that takes a mount home: `python -m tests.reliability.migration_worker PATH KEY FILE`.

The store is in memory, filled from a file of names and values, so that it is the same in each process.
"""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from securecfg.backends import open_backend, uri
from securecfg.mounts.migration import Homecoming, finish_homecoming
from securecfg.vault import Vault
from tests.mounts.memory import STORES
from tests.vault.world import ADMIN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FOLDER = "app/corp/"


def fill(file: Path) -> None:
    """Let the scheme `memory:` have a store with what a file says, each value under a version of its own."""
    uri.BUILT_IN["memory"] = "tests.mounts.memory"
    STORES.clear()
    handle = open_backend("memory:one")
    for name, value in json.loads(file.read_text("utf-8")).items():
        handle.write(name, value)
    for held in STORES["one"].secrets.values():
        # The ids are random; a store that outlives processes has the same ones each time.
        (id_,) = held.contents
        held.contents = {"1": held.contents[id_]}
        held.created = {"1": held.created[id_]}
        held.states = {"1": held.states[id_]}


@contextmanager
def told(what: str) -> Iterator[Callable[[int, int], None]]:
    """Print which step begins."""
    print(what, flush=True)
    yield lambda _done, _total: None


def main(path: str, key: str, file: str) -> None:
    """Go on where the last one was, until all is home."""
    fill(Path(file))
    with Vault.open(path, key=key, principal=ADMIN) as vault:
        if finish_homecoming(vault, FOLDER, told) is None:
            home = Homecoming(vault, FOLDER, told, takes_versions=False)
            done = home.take_over(home.fetch())
            assert done.late == []
    print("home", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
