"""Deltas: what one mutation changes in the index (format 6.4). Pure."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from securecfg.octets import U32, U64, Cursor, Malformed, pad
from securecfg.store import ID_LIMIT, Space
from securecfg.tuples import NamedTuple
from securecfg.vault.index.segments import ENTRY_SIZE, Entry

if TYPE_CHECKING:
    from collections.abc import Sequence

PADDING = 64
FREED_RUN_SIZE = 17
_SET, _REMOVE = 1, 2
_CHANGE = struct.Struct(">BH")  # what is done, and the size of the path
_SPACES = frozenset(Space)

Change = tuple[bytes, Entry | None]


class FreedRun(NamedTuple):
    """Rows that nothing references any more."""

    space: int
    first: int
    length: int


class Delta(NamedTuple):
    """Changes of the index, in order, and the rows they free."""

    changes: tuple[Change, ...]
    freed: tuple[FreedRun, ...] = ()

    def to_bytes(self) -> bytes:
        """Return the plaintext."""
        parts = [U32.pack(len(self.changes))]
        for path, entry in self.changes:
            parts.append(_CHANGE.pack(_REMOVE if entry is None else _SET, len(path)))
            parts.append(path)
            if entry is not None:
                parts.append(entry.to_bytes())
        parts.append(U32.pack(len(self.freed)))
        parts.extend(bytes((run.space,)) + U64.pack(run.first) + U64.pack(run.length) for run in self.freed)
        return pad(b"".join(parts), PADDING)


def parse_delta(plaintext: bytes) -> Delta:
    """Read a plaintext.

    Raises:
        Malformed: It breaks the format.
    """
    cursor = Cursor(plaintext)
    changes = tuple(_parse_change(cursor) for _ in range(cursor.u32()))
    freed = tuple(_parse_run(cursor) for _ in range(cursor.u32()))
    cursor.finish_padding(PADDING)
    return Delta(changes, freed)


def split_changes(changes: Sequence[Change], limit_bytes: int) -> list[tuple[Change, ...]]:
    """Cut changes into runs whose plaintexts stay below a size."""
    runs: list[tuple[Change, ...]] = []
    run: list[Change] = []
    size = 0
    for change in changes:
        cost = 3 + len(change[0]) + ENTRY_SIZE
        if run and size + cost > limit_bytes:
            runs.append(tuple(run))
            run, size = [], 0
        run.append(change)
        size += cost
    runs.append(tuple(run))
    return runs


def _parse_change(cursor: Cursor) -> Change:
    operation = cursor.u8()
    path = cursor.str16().encode()
    if operation == _SET:
        return path, Entry.from_bytes(cursor.take(ENTRY_SIZE))
    if operation == _REMOVE:
        return path, None
    message = "names an unknown operation"
    raise Malformed(message)


def _parse_run(cursor: Cursor) -> FreedRun:
    run = FreedRun(cursor.u8(), cursor.u64(), cursor.u64())
    if run.space not in _SPACES or run.first + run.length > ID_LIMIT:
        message = "frees rows that there cannot be"
        raise Malformed(message)
    return run
