"""A store that lives in memory: for tests, simulations and vaults that must leave no trace."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from securecfg.errors import HeadMoved, VaultClosed, VaultForked
from securecfg.store.forks import FORKS
from securecfg.store.interface import (
    Put,
    Replace,
    Space,
    check_batch,
    check_id,
    check_partition,
    check_parts,
    check_staging,
)

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Sequence

    from securecfg.store.interface import Operation, PartCommit, Staged


class MemoryBacking:
    """The rows, which any number of `MemoryStore` handles of one process may share."""

    def __init__(self) -> None:
        """Start empty."""
        self.changed = threading.Condition()
        self.parts: dict[int, dict[tuple[int, int], bytes]] = {}
        self.heads: dict[int, bytes] = {}
        self.revision = 0

    def part(self, number: int) -> dict[tuple[int, int], bytes]:
        """Return the rows of a partition; the store itself is number 0."""
        return self.parts.setdefault(number, {})

    def publish(self, number: int, operations: Sequence[Staged]) -> None:
        """Apply operations to a partition and wake the waiting; the caller holds `changed`."""
        rows = self.part(number)
        for operation in operations:
            key = (int(operation.space), operation.id)
            if isinstance(operation, Put):
                rows[key] = bytes(operation.row)
            elif isinstance(operation, Replace):
                if rows.get(key) == operation.old:
                    rows[key] = bytes(operation.row)
            else:
                rows.pop(key, None)
        self.revision += 1
        self.changed.notify_all()


class MemoryStore:
    """One handle on rows in memory; see `Store` for what each method promises, as far as memory lasts."""

    erases: Literal["now"] = "now"

    def __init__(self, backing: MemoryBacking | None = None) -> None:
        """Open `backing`, or an empty one of its own."""
        self._backing = MemoryBacking() if backing is None else backing
        self._number = 0
        self._refusal: type[VaultClosed | VaultForked] | None = None
        FORKS.watch(self)

    @property
    def part(self) -> int:
        """The number of this part, 0 for the store itself."""
        return self._number

    def head(self) -> bytes | None:
        """Return the head row, None in a new store."""
        return self._open().heads.get(self._number)

    def get(self, space: Space, id_: int, /) -> bytes | None:
        """Return one row, None where there is none."""
        check_id(id_)
        return self._open().part(self._number).get((space, id_))

    def get_many(self, keys: Sequence[tuple[Space, int]]) -> list[bytes | None]:
        """Return rows in the order of `keys`, all from one snapshot."""
        return self.snapshot(keys)[1]

    def snapshot(self, keys: Sequence[tuple[Space, int]]) -> tuple[bytes | None, list[bytes | None]]:
        """Return the head row and rows, all from one snapshot."""
        for _, id_ in keys:
            check_id(id_)
        backing = self._open()
        with backing.changed:
            rows = backing.part(self._number)
            return backing.heads.get(self._number), [rows.get(key) for key in keys]

    def scan(self, space: Space, first: int, last: int, limit: int) -> list[tuple[int, bytes]]:
        """Return at most `limit` rows with ids from `first` to `last` inclusive, ascending, from one snapshot."""
        check_id(first)
        check_id(last)
        backing = self._open()
        with backing.changed:
            rows = backing.part(self._number)
            found = sorted((i, row) for (s, i), row in rows.items() if s == space and first <= i <= last)
        return found[: max(limit, 0)]

    def commit(self, operations: Sequence[Operation], *, expect: bytes | None, head: bytes) -> Hashable | None:
        """Replace the head and apply the operations as one atomic publication; see `Store.commit`."""
        check_batch(operations, head)
        backing = self._open()
        with backing.changed:
            if backing.heads.get(self._number) != expect:
                message = "another writer published first"
                raise HeadMoved(message, hint="read the new head and try again")
            backing.heads[self._number] = bytes(head)
            backing.publish(self._number, operations)
            return backing.revision

    def commit_parts(self, commits: Sequence[PartCommit]) -> None:
        """Publish in several parts; see `Store.commit_parts`."""
        check_parts(commits)
        backing = self._open()
        with backing.changed:
            if any(backing.heads.get(commit.part) != commit.expect for commit in commits):
                message = "another writer published first"
                raise HeadMoved(message, hint="read the new heads and try again")
            for commit in commits:
                if commit.head is None:
                    backing.heads.pop(commit.part, None)
                else:
                    backing.heads[commit.part] = bytes(commit.head)
                backing.publish(commit.part, commit.operations)

    def stage(self, operations: Sequence[Staged]) -> None:
        """Apply operations atomically without touching the head; see `Store.stage`."""
        check_staging(operations)
        backing = self._open()
        with backing.changed:
            backing.publish(self._number, operations)

    def partition(self, number: int) -> MemoryStore:
        """Return a part with rows and a head of its own; see `Store.partition`."""
        check_partition(number)
        return _MemoryPartition(self, self._open(), number)

    def partitions(self) -> list[int]:
        """Return the numbers of the parts that have a head."""
        backing = self._open()
        with backing.changed:
            return sorted(number for number in backing.heads if number)

    @contextmanager
    def reserve(self) -> Iterator[None]:
        """Hold the rows still for everybody else; see `Store.reserve`."""
        with self._open().changed:
            yield

    def revision(self) -> Hashable:
        """Return the number of publications so far."""
        return self._open().revision

    def wait(self, revision: Hashable, timeout_s: float) -> bool:
        """Wait until the revision is another one; return whether that happened before the time was out."""
        backing = self._open()
        with backing.changed:
            return backing.changed.wait_for(lambda: self._open().revision != revision, timeout_s)

    def purge(self) -> None:
        """Do nothing: a row that was deleted is kept nowhere."""
        self._open()

    def close(self) -> None:
        """Let go of the rows; idempotent."""
        if self._refusal is None:
            self._refusal = VaultClosed
            FORKS.discard(self)
            with self._backing.changed:
                self._backing.changed.notify_all()

    def before_fork(self) -> None:
        """Hold the rows still, so that the child does not inherit a lock that nobody will release."""
        self._backing.changed.acquire()

    def after_fork_in_parent(self) -> None:
        """Let the rows change again."""
        self._backing.changed.release()

    def after_fork_in_child(self) -> None:
        """Refuse from now on: what a child wrote would reach nobody."""
        self._refusal = VaultForked
        self._backing.changed.release()

    def _open(self) -> MemoryBacking:
        if self._refusal is VaultForked:
            message = "the store was opened before this process was forked"
            raise VaultForked(message, hint="open it again in the child")
        if self._refusal is not None:
            message = "the store is closed"
            raise VaultClosed(message)
        return self._backing


class _MemoryPartition(MemoryStore):
    """A part of a store, open as long as that is."""

    def __init__(self, store: MemoryStore, backing: MemoryBacking, number: int) -> None:
        self._store = store
        self._backing = backing
        self._number = number

    def close(self) -> None:
        """Do nothing: the store that it is a part of is closed."""

    def _open(self) -> MemoryBacking:
        return self._store._open()  # noqa: SLF001 - a part of it
