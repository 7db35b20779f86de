"""A part of a store that is being made: its rows are written, and its head is kept from everybody else.

To others it is empty until somebody commits the head. Where that never happens, what is left are rows that no head
leads to, in a partition whose number is given to nobody else.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Literal

from securecfg.errors import HeadMoved, Unsupported
from securecfg.store import ID_LIMIT, STAGE_LIMIT_OPERATIONS, Delete, Space

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence
    from contextlib import AbstractContextManager

    from securecfg.store import Operation, PartCommit, Staged, Store


class UnfinishedPart:
    """A partition with a head in memory; see `Store` for what each method promises. Used by one thread.

    Args:
        store: The partition, which has no head.
    """

    def __init__(self, store: Store) -> None:
        """Begin without a head."""
        self._store = store
        self._head: bytes | None = None
        self._count = 0

    @property
    def part(self) -> int:
        """The number of the partition."""
        return self._store.part

    @property
    def erases(self) -> Literal["now", "after-vacuum", "never"]:
        """What the store says."""
        return self._store.erases

    def head(self) -> bytes | None:
        """Return the head that nobody else sees."""
        return self._head

    def get(self, space: Space, id_: int, /) -> bytes | None:
        """Return one row."""
        return self._store.get(space, id_)

    def get_many(self, keys: Sequence[tuple[Space, int]]) -> list[bytes | None]:
        """Return rows."""
        return self._store.get_many(keys)

    def snapshot(self, keys: Sequence[tuple[Space, int]]) -> tuple[bytes | None, list[bytes | None]]:
        """Return the head and rows."""
        return self._head, self._store.get_many(keys)

    def scan(self, space: Space, first: int, last: int, limit: int) -> list[tuple[int, bytes]]:
        """Return rows of a range."""
        return self._store.scan(space, first, last, limit)

    def commit(self, operations: Sequence[Operation], *, expect: bytes | None, head: bytes) -> Hashable | None:
        """Write the rows, then take up the head. A crash in between leaves a partition without a head, as before.

        Raises:
            HeadMoved: The head is not `expect`.
            As for `Store.stage`.
        """
        if expect != self._head:
            message = "another writer published first"
            raise HeadMoved(message)
        self.stage(operations)
        self._head = head
        return None

    def commit_parts(self, commits: Sequence[PartCommit]) -> None:
        """Commit in the store, which this part is finished by.

        Raises:
            As for `Store.commit_parts`.
        """
        self._store.commit_parts(commits)

    def stage(self, operations: Sequence[Staged]) -> None:
        """Write rows."""
        self._store.stage(operations)
        self._count += 1

    def reserve(self) -> AbstractContextManager[None]:
        """Do nothing: nobody else writes here."""
        return nullcontext()

    def partition(self, number: int) -> Store:
        """Refuse: this is a part itself."""
        message = f"a part of a store has no part {number}"
        raise Unsupported(message)

    def partitions(self) -> list[int]:
        """Return nothing: this is a part itself."""
        return []

    def revision(self) -> Hashable:
        """Return how often something was written here."""
        return self._count

    def wait(self, revision: Hashable, timeout_s: float) -> bool:
        """Return whether something was written here; nobody else writes."""
        del timeout_s
        return revision != self._count

    def purge(self) -> None:
        """Erase, as the store does."""
        self._store.purge()

    def close(self) -> None:
        """Do nothing: the store that it is a part of is closed."""


def erase_rows(store: Store) -> None:
    """Delete all rows of a part that has no head. Their bytes are gone once the store is purged.

    Raises:
        StoreBusy, StoreFailed: Some are still there.
    """
    for space in Space:
        while rows := store.scan(space, 0, ID_LIMIT - 1, _ROWS_AT_ONCE):
            store.stage([Delete(space, number) for number, _ in rows])


_ROWS_AT_ONCE = min(64, STAGE_LIMIT_OPERATIONS)  # they may be large, and only their ids are needed
