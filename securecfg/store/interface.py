"""What a store is: the contract that the vault relies on and every back end keeps."""

from __future__ import annotations

from enum import IntEnum
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Literal, Protocol

from securecfg.errors import ValueTooLarge
from securecfg.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence
    from contextlib import AbstractContextManager

ROW_LIMIT_BYTES = 512 * 1024
BATCH_LIMIT_OPERATIONS = 64
BATCH_LIMIT_BYTES = 1024 * 1024
STAGE_LIMIT_OPERATIONS = 2048
STAGE_LIMIT_BYTES = 4 * 1024 * 1024
ID_LIMIT = 2**63
PARTITION_LIMIT = 2**31


class Space(IntEnum):
    """The spaces of rows; the numbers are part of the format."""

    META = 0
    HISTORY = 1
    DEK = 2
    VALUE = 3
    SEGMENT = 4
    DELTA = 5
    LOG = 6
    TILE = 7
    GRANT = 8
    SEALER = 9
    PART = 10


class Put(NamedTuple):
    """Write a row, over an older one if there is one."""

    space: Space
    id: int
    row: bytes


to_put = partial(tuple.__new__, Put)
"""Makes one from a tuple of its fields, in two thirds of the time."""


class Delete(NamedTuple):
    """Remove a row; one that does not exist is no error."""

    space: Space
    id: int


class Replace(NamedTuple):
    """Write a row where exactly `old` is; where something else or nothing is, do nothing. For stagings only."""

    space: Space
    id: int
    old: bytes
    row: bytes


to_replace = partial(tuple.__new__, Replace)


class PartCommit(NamedTuple):
    """What a commit of several parts does to one of them.

    Attributes:
        part: Its number, 0 for the store itself.
        operations: To apply to it.
        expect: The head that it must have.
        head: Its head from then on; None leaves it without one.
    """

    part: int
    operations: Sequence[Operation]
    expect: bytes | None
    head: bytes | None


Operation = Put | Delete
Staged = Put | Delete | Replace


def check_batch(operations: Sequence[Operation], head: bytes = b"") -> None:
    """Hold a batch and its head row to the limits that every store keeps.

    Raises:
        ValueTooLarge: A row, the number of operations or their bytes together exceed the limits.
        ValueError: An id is not from 0 to 2^63-1.
    """
    _check_sizes(operations, len(head), BATCH_LIMIT_OPERATIONS, BATCH_LIMIT_BYTES)


def check_staging(operations: Sequence[Staged]) -> None:
    """Hold rows that are staged to the limits that every store keeps.

    Raises:
        ValueTooLarge: A row, the number of operations or their bytes together exceed the limits.
        ValueError: An id is not from 0 to 2^63-1.
    """
    _check_sizes(operations, 0, STAGE_LIMIT_OPERATIONS, STAGE_LIMIT_BYTES)


def check_parts(commits: Sequence[PartCommit]) -> None:
    """Hold a commit of several parts to the limits of one batch, and each part to one share of it.

    Raises:
        ValueTooLarge: A row, the number of operations or their bytes together exceed the limits.
        ValueError: An id or a number is outside its range, or a part has two shares.
    """
    for commit in commits:
        if commit.part:
            check_partition(commit.part)
    if len({commit.part for commit in commits}) < len(commits):
        message = "a part of a store has two shares of one commit"
        raise ValueError(message)
    heads = sum(len(commit.head or b"") for commit in commits)
    operations = [operation for commit in commits for operation in commit.operations]
    _check_sizes(operations, heads, BATCH_LIMIT_OPERATIONS, BATCH_LIMIT_BYTES)


def _check_sizes(operations: Sequence[Staged], head_bytes: int, most_operations: int, most_bytes: int) -> None:
    if len(operations) > most_operations:
        message = f"{len(operations)} operations in one batch, of which there may be {most_operations}"
        raise ValueTooLarge(message, hint="split it: rows may be staged in steps and published by a small batch")
    ids = list(map(_id_of, operations))
    if ids:
        check_id(min(ids))
        check_id(max(ids))
    sizes = [head_bytes]
    sizes += [len(operation.row) for operation in operations if not isinstance(operation, Delete)]
    total, largest = sum(sizes), max(sizes)
    if largest > ROW_LIMIT_BYTES:
        message = f"a row of {largest} bytes, of which there may be {ROW_LIMIT_BYTES}"
        raise ValueTooLarge(message, hint="split the row")
    if total > most_bytes:
        message = f"{total} bytes in one batch, of which there may be {most_bytes}"
        raise ValueTooLarge(message, hint="split it: rows may be staged in steps and published by a small batch")


_id_of = attrgetter("id")


def check_id(id_: int) -> None:
    """Refuse an id outside the range of the format; callers allocate ids, so this is a defect and not bad input.

    Raises:
        ValueError: The id is not from 0 to 2^63-1.
    """
    if not 0 <= id_ < ID_LIMIT:
        message = f"a row id from 0 to 2^63-1 is needed, not {id_}"
        raise ValueError(message)


def check_partition(number: int) -> None:
    """Refuse a number outside the range of the format, as `check_id` does.

    Raises:
        ValueError: The number is not from 1 to 2^31-1.
    """
    if not 0 < number < PARTITION_LIMIT:
        message = f"the number of a partition from 1 to 2^31-1 is needed, not {number}"
        raise ValueError(message)


class Store(Protocol):
    """Spaces of rows, one head row, atomic durable publication and a watch. Every method may be called by any thread.

    Every method raises `VaultClosed` after `close`, and `VaultForked` in a child of the process that opened the store;
    `close` itself may be repeated, and in such a child it only lets go. Reads raise `StoreFailed`, `StoreBusy` or,
    where the container itself is damaged, `Tampered`. An id outside 0..2^63-1 is a `ValueError`.
    """

    @property
    def erases(self) -> Literal["now", "after-vacuum", "never"]:
        """When `purge` makes the bytes of deleted rows unrecoverable from what the store itself keeps."""
        ...

    @property
    def part(self) -> int:
        """The number of this part, 0 for the store itself."""
        ...

    def head(self) -> bytes | None:
        """Return the head row, None in a new store."""
        ...

    def get(self, space: Space, id_: int, /) -> bytes | None:
        """Return one row, None where there is none."""
        ...

    def get_many(self, keys: Sequence[tuple[Space, int]]) -> list[bytes | None]:
        """Return rows in the order of `keys`, all from one snapshot."""
        ...

    def snapshot(self, keys: Sequence[tuple[Space, int]]) -> tuple[bytes | None, list[bytes | None]]:
        """Return the head row and rows, all from one snapshot."""
        ...

    def scan(self, space: Space, first: int, last: int, limit: int) -> list[tuple[int, bytes]]:
        """Return at most `limit` rows with ids from `first` to `last` inclusive, ascending, from one snapshot."""
        ...

    def commit(self, operations: Sequence[Operation], *, expect: bytes | None, head: bytes) -> Hashable | None:
        """Replace the head and apply the operations as one atomic publication, durable when this returns.

        Later operations of a batch win over earlier ones on the same row. Returned is the revision that this commit
        alone has made, so that the caller need not read its own head again; None where a store cannot tell, or where
        somebody else may have committed since.

        Raises:
            HeadMoved: The head is not `expect`; nothing was written.
            StoreBusy: Another writer held the store too long; nothing was written.
            StoreFailed: An error, or a store opened for reading only; nothing was written.
            CommitUnknown: The store failed while committing: all of it or nothing may be durable.
            ValueTooLarge: A limit is exceeded; nothing was written.
        """
        ...

    def commit_parts(self, commits: Sequence[PartCommit]) -> None:
        """Publish in several parts of one store as `commit` does in one: all of it becomes durable, or nothing.

        May be called on any of the parts, also in its `reserve`. Together they are held to the limits of one batch.

        Raises:
            HeadMoved: The head of a part is not the one expected; nothing was written.
            StoreBusy, StoreFailed, CommitUnknown, ValueTooLarge: As for `commit`.
        """
        ...

    def stage(self, operations: Sequence[Staged]) -> None:
        """Apply operations without touching the head; durable before any later commit is.

        For rows that no published state references yet, or no longer does, and for rows that may be replaced by others
        of the same meaning. So it need not be atomic: a store may apply them in several steps, in their order, each
        `Replace` in one.

        Raises:
            StoreBusy: Another writer held the store too long; nothing was written.
            StoreFailed: An error, or a store opened for reading only; nothing was written.
            CommitUnknown: The store failed while committing; staging the same rows again is harmless.
            ValueTooLarge: A limit is exceeded; nothing was written.
        """
        ...

    def reserve(self) -> AbstractContextManager[None]:
        """Keep every other writer out until the calling thread has committed, or leaves the block.

        For a writer whom others keep beating: a commit in the block never finds the head moved since it was read in it.
        One commit, and no other change; others wait meanwhile as they do for a commit, so a block ought to be short.

        Raises:
            StoreBusy: Another writer held the store too long.
            StoreFailed: An error, or a store opened for reading only.
        """
        ...

    def partition(self, number: int) -> Store:
        """Return a part of this store that has spaces and a head of its own, and commits of its own.

        It shares the container with the store it came from, and with it `revision`, `wait`, `purge` and `erases`; it is
        closed with that store, and its own `close` does nothing. A part that nothing was ever committed to is empty.

        Raises:
            ValueError: The number is not from 1 to 2^31-1.
        """
        ...

    def partitions(self) -> list[int]:
        """Return the numbers of the parts that have a head, ascending."""
        ...

    def revision(self) -> Hashable:
        """Return a cheap token that differs from an earlier one if anything was committed by anyone since.

        It may also differ where nothing was; tokens of different stores are not comparable.
        """
        ...

    def wait(self, revision: Hashable, timeout_s: float) -> bool:
        """Wait until the revision is another one; return whether that happened before the time was out."""
        ...

    def purge(self) -> None:
        """Make the bytes of deleted rows unrecoverable from the store's own files.

        Raises:
            DestroyPending: Another reader or writer prevents it for now.
            StoreFailed: An error, or a store opened for reading only.
        """
        ...

    def close(self) -> None:
        """Let go of everything; idempotent."""
        ...
