"""The vaults that are measured: a service with one grant, values of 38 bytes, as many secrets as asked for."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from securecfg import Vault
from securecfg.keys import open_provider
from securecfg.keys.keyfile import generate_key_file
from securecfg.policy import Document
from securecfg.store import Delete, Put, Space, open_sqlite
from securecfg.vault.commits.maintenance import compact
from securecfg.vault.creation import open_rows
from securecfg.vault.opened import Options
from securecfg.vault.session import Identity

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence
    from pathlib import Path

    import apsw

    from benchmarks.rows import Bench
    from securecfg.store import Operation, Store

ADMIN = "user:admin"
SERVICE = "svc:bench"
BATCH = 50_000
GRANTS = f"""
[roles.bench]
members = ["{SERVICE}"]
[[roles.bench.grants]]
actions = ["read", "write", "list"]
paths = ["**"]
"""


def path_of(number: int) -> str:
    return f"team-{number % 997:03}/service-{number // 997:05}/password"


def value_of(number: int) -> str:
    return f"value-{number:032}"


@dataclass(frozen=True, slots=True)
class Place:
    """A vault file with its key beside it.

    Attributes:
        count: The number of secrets.
    """

    folder: Path
    count: int

    @property
    def vault(self) -> Path:
        return self.folder / "a.vault"

    @property
    def key(self) -> str:
        return f"file:{self.folder / 'key'}"

    def open(self, **options: Any) -> Vault:  # noqa: ANN401 - those of `Vault.open`
        return Vault.open(self.vault, key=self.key, principal=SERVICE, **options)

    def open_over(self, store: Store) -> Vault:
        """Open the vault over a store of the caller's."""
        from securecfg.clock import SystemClock

        opened, slot = open_rows(store, open_provider(self.key), self.vault, SystemClock(), Options())
        return Vault(opened, Identity(SERVICE, slot=slot.slot_id.hex()))


def fill(vault: Vault, first: int, count: int) -> None:
    """Write secrets in one batch."""
    with vault.batch() as batch:
        for number in range(first, first + count):
            batch.write(path_of(number), value_of(number))


def create(folder: Path, count: int) -> Place:
    """Create a vault with `count` secrets and a compacted index."""
    folder.mkdir(parents=True)
    place = Place(folder, count)
    generate_key_file(folder / "key")
    with Vault.create(place.vault, key=place.key, admin=ADMIN) as vault:
        vault.administration.apply_policy([Document("grants.toml", "grants", GRANTS)])
        for first in range(0, count, BATCH):
            fill(vault, first, min(BATCH, count - first))
            compact(vault.opened)
    return place


def scale_vault(bench: Bench, count: int) -> Place:
    """Return a vault of this size, from the cache if there is one, or built now."""
    folder = (bench.cache or bench.folder) / f"vault-{count}"
    ready = folder / "ready"
    if not ready.exists():
        started = time.perf_counter()
        create(folder, count)
        ready.touch()
        print(f"built a vault of {count:,} secrets in {time.perf_counter() - started:.0f} s", flush=True)
    return Place(folder, count)


def use_state_below(folder: Path) -> None:
    """Keep anchors away from those of the user."""
    os.environ["XDG_STATE_HOME"] = str(folder / "state")


class Capture:
    """A store that keeps a copy of what is committed through it, so that a floor can commit the same bytes.

    Attributes:
        commits: The operations and the head row of each commit; of a staging the operations alone.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        # What every write asks for: to find it by `__getattr__` would be measured with it.
        self.get, self.head, self.revision = store.get, store.head, store.revision
        self.commits: list[tuple[Sequence[Operation], bytes | None]] = []

    def commit(self, operations: Sequence[Operation], *, expect: bytes | None, head: bytes) -> Hashable | None:
        revision = self._store.commit(operations, expect=expect, head=head)
        self.commits.append((operations, head))
        return revision

    def stage(self, operations: Sequence[Operation]) -> None:
        self._store.stage(operations)
        self.commits.append((operations, None))

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - any other method of a store
        return getattr(self._store, name)


def open_captured(place: Place, vfs: str | None = None) -> tuple[Vault, Capture]:
    """Open a vault over a store that keeps what is committed."""
    capture = Capture(open_sqlite(place.vault, vfs=vfs))
    return place.open_over(cast("Store", capture)), capture


class Replay:
    """The floor of a commit: raw apsw with SQLite's own settings as the vault has them, the same rows, no more."""

    def __init__(self, path: Path, vfs: str | None = None) -> None:
        import apsw

        self._connection = apsw.Connection(str(path), vfs=vfs)
        self._cursor = self._connection.cursor()
        self._cursor.execute(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON"
        ).fetchall()
        tables = [f"CREATE TABLE s{space.value}(i INTEGER PRIMARY KEY, b BLOB NOT NULL);" for space in Space]
        self._cursor.execute("".join(tables) + "CREATE TABLE h(i INTEGER PRIMARY KEY, b BLOB NOT NULL)")

    @property
    def connection(self) -> apsw.Connection:
        return self._connection

    def commit(self, operations: Sequence[Operation], head: bytes | None) -> None:
        execute = self._cursor.execute
        execute("BEGIN IMMEDIATE")
        for operation in operations:
            match operation:
                case Put(space, number, row):
                    execute(f"INSERT OR REPLACE INTO s{space.value} VALUES (?, ?)", (number, row))  # noqa: S608 - a number
                case Delete(space, number):
                    execute(f"DELETE FROM s{space.value} WHERE i = ?", (number,))  # noqa: S608 - a number
        if head is not None:
            execute("INSERT OR REPLACE INTO h VALUES (1, ?)", (head,))
        execute("COMMIT")

    def replay(self, capture: Capture) -> float:
        """Commit all that was captured; return the seconds."""
        commits, capture.commits = capture.commits, []
        started = time.perf_counter()
        for operations, head in commits:
            self.commit(operations, head)
        return time.perf_counter() - started

    def close(self) -> None:
        self._connection.close()
