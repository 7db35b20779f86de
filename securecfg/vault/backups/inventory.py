"""What a part of a backup says its state consists of: the second message (format 13.2). Bytes in, values out."""

from __future__ import annotations

import struct
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from securecfg.octets import U32, Cursor, Malformed, var16, var32
from securecfg.store import ID_LIMIT, PARTITION_LIMIT, Space
from securecfg.vault.backups.format import ROW_SPACES, altered

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Runs = dict[tuple[Space, int], list[range]]
"""Which rows there are: ascending runs of ids by space and tag. The tag is the epoch of a data key, and 0 elsewhere."""

Marks = dict[tuple[Space, int], list[bytes]]
"""What tells the rows of each run, `MARK_BYTES` for each of its `pieces_of`, from others under the same ids."""

MARK_BYTES = 8

_LINE = struct.Struct(">32sI32sI")
_GROUP = struct.Struct(">BIQ")
_ID = struct.Struct(">Q")
_VARINT_BITS = 7
_VARINT_BYTES = 10
_VAULT_ID_BYTES = 16
_PIECE_ROWS = 64
_GROUPED_SPACES = ROW_SPACES - {Space.META, Space.GRANT}


class Holding(NamedTuple):
    """What a state has of the vault, or of one partition.

    Attributes:
        number: Of the partition; 0 is the vault.
        vault_id: 16 bytes, of the vault or the scope.
        path: Of the scope, where the vault names it; else empty.
        head_digest: The SHA-256 of the head row.
        part: Which part has the head and the rows of META.
        grants_digest: What `digest_of_grants` gives of the rows of GRANT.
        grants_part: Which part has these.
        runs: The other rows.
        marks: Of these, in a partition; empty for the vault.
    """

    number: int
    vault_id: bytes
    path: str
    head_digest: bytes
    part: int
    grants_digest: bytes
    grants_part: int
    runs: Runs
    marks: Marks


Inventory = tuple[Holding, ...]
"""The vault, and its partitions by ascending number."""


def digest_of_grants(rows: Iterable[tuple[int, bytes]]) -> bytes:
    """Return the hash of all rows of GRANT, ascending by their ids."""
    hashed = sha256()
    for id_, row in rows:
        hashed.update(_ID.pack(id_) + var32(row))
    return hashed.digest()


def runs_of(ids: Iterable[int]) -> list[range]:
    """Return ascending ids, which may repeat, as runs."""
    runs: list[range] = []
    first = end = -1
    for id_ in ids:
        if id_ == end:
            end += 1
        elif id_ > end:
            if first >= 0:
                runs.append(range(first, end))
            first, end = id_, id_ + 1
    if first >= 0:
        runs.append(range(first, end))
    return runs


def pieces_of(run: range) -> Iterator[range]:
    """Yield a run in pieces, each of which has a mark."""
    for start in range(run.start, run.stop, _PIECE_ROWS):
        yield range(start, min(start + _PIECE_ROWS, run.stop))


def mark_of(hashes: Iterable[bytes]) -> bytes:
    """Return the mark of rows from the SHA-256 of each, ascending by their ids."""
    return sha256(b"".join(hashes)).digest()[:MARK_BYTES]


def inventory_to_bytes(inventory: Inventory) -> bytes:
    """Return the plaintext of the second message."""
    parts = [U32.pack(len(inventory))]
    for holding in inventory:
        number, vault_id, path, head_digest, part, grants_digest, grants_part, runs, marks = holding
        parts.append(U32.pack(number) + vault_id + var16(path.encode()))
        parts.append(_LINE.pack(head_digest, part, grants_digest, grants_part))
        parts.append(_runs_to_bytes(runs, marks))
    return b"".join(parts)


def parse_inventory(raw: bytes, part: int) -> Inventory:
    """Return what the second message of a part holds.

    Args:
        raw: The plaintext.
        part: The number of the part.

    Raises:
        BackupAltered: It is malformed.
    """
    cursor = Cursor(raw)
    try:
        inventory = tuple(_parse_holding(cursor, part) for _ in range(cursor.u32()))
        cursor.finish()
    except Malformed:
        raise altered() from None
    numbers = [holding.number for holding in inventory]
    if numbers[:1] != [0] or numbers != sorted(set(numbers)) or inventory[0].part != part:
        raise altered()
    return inventory


def _parse_holding(cursor: Cursor, newest: int) -> Holding:
    number, vault_id, path = cursor.u32(), cursor.take(_VAULT_ID_BYTES), cursor.str16()
    head_digest, part, grants_digest, grants_part = _LINE.unpack(cursor.take(_LINE.size))
    if number >= PARTITION_LIMIT or not (0 < part <= newest and 0 < grants_part <= part):
        message = "names a part that cannot be"
        raise Malformed(message)
    runs, marks = _parse_runs(cursor, is_marked=bool(number))
    return Holding(number, vault_id, path, head_digest, part, grants_digest, grants_part, runs, marks)


def _runs_to_bytes(groups: Runs, marks: Marks) -> bytes:
    parts = [len(groups).to_bytes(2)]
    for (space, tag), runs in sorted(groups.items()):
        parts.append(_GROUP.pack(space, tag, len(runs)))
        last = 0
        for number, run in enumerate(runs):
            parts.append(_varint(run.start - last) + _varint(len(run)))
            if marks:
                parts.append(marks[space, tag][number])
            last = run.stop
    return b"".join(parts)


def _parse_runs(cursor: Cursor, *, is_marked: bool) -> tuple[Runs, Marks]:
    groups: Runs = {}
    marks: Marks = {}
    for _ in range(cursor.u16()):
        space, tag, count = _GROUP.unpack(cursor.take(_GROUP.size))
        if space not in _GROUPED_SPACES or (Space(space), tag) in groups or count > len(cursor.data):
            raise Malformed
        runs = groups[Space(space), tag] = []
        last = 0
        for _ in range(count):
            start = last + _parse_varint(cursor)
            length = _parse_varint(cursor)
            if not length or start + length > ID_LIMIT or (runs and start == last):
                raise Malformed
            runs.append(range(start, start + length))
            last = start + length
            if is_marked:
                size_bytes = -(-length // _PIECE_ROWS) * MARK_BYTES
                marks.setdefault((Space(space), tag), []).append(cursor.take(size_bytes))
    return groups, marks


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number >> _VARINT_BITS:
        encoded.append(number & 0x7F | 0x80)
        number >>= _VARINT_BITS
    encoded.append(number)
    return bytes(encoded)


def _parse_varint(cursor: Cursor) -> int:
    number = 0
    for position in range(_VARINT_BYTES):
        byte = cursor.u8()
        number |= (byte & 0x7F) << (_VARINT_BITS * position)
        if byte < 0x80:  # noqa: PLR2004 - the bit that says that more follows
            if position and not byte:
                break
            return number
    message = "holds a number that is not written as it must be"
    raise Malformed(message)
