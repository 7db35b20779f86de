"""Index segments and the manifest above them (format 6.1 and 6.2).

Pure: bytes in, values out. Sealing and hashing are the caller's.
"""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_left, bisect_right
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from securecfg.octets import U32, U64, Cursor, Malformed, pad
from securecfg.store import ID_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ENTRIES_MAX = 1_024
SEGMENT_PADDING = 4_096
MANIFEST_PADDING = 512
FLAG_LIVE = 1
_STRIDE = 16  # of a segment's paths every so many are kept apart, where a search needs no Python

_ENTRY = struct.Struct(">QQ32sB")
_LINE = struct.Struct(">Q32sI")
ENTRY_SIZE = _ENTRY.size
_ID_FIRST_BYTE_LIMIT = ID_LIMIT >> 56


class Entry(NamedTuple):
    """What the index knows of a secret."""

    rec_id: int
    history_id: int
    digest: bytes
    flags: int

    def to_bytes(self) -> bytes:
        """Return the 49 bytes."""
        return _ENTRY.pack(*self)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Entry:
        """Read 49 bytes.

        Raises:
            Malformed: It names a row that there cannot be.
        """
        entry = cls(*_ENTRY.unpack(raw))
        if max(entry.rec_id, entry.history_id) >= ID_LIMIT:
            raise _no_id()
        return entry

    @property
    def live(self) -> bool:
        """Whether some version can be read."""
        return bool(self.flags & FLAG_LIVE)


to_entry = partial(tuple.__new__, Entry)
"""Makes one from a tuple of its fields, in half the time."""


class SegmentLine(NamedTuple):
    """What the manifest knows of a segment."""

    segment_id: int
    digest: bytes
    entries: int


_to_line = partial(tuple.__new__, SegmentLine)
_entries = attrgetter("entries")


def _ends_to_bytes(lengths: Sequence[int]) -> bytes:
    ends = array("I")
    total = 0
    for length in lengths:
        total += length
        ends.append(total)
    if sys.byteorder == "little":
        ends.byteswap()
    return ends.tobytes()


def _parse_ends(raw: bytes) -> array[int]:
    ends = array("I")
    ends.frombytes(raw)
    if sys.byteorder == "little":
        ends.byteswap()
    return ends


def build_segment(items: Sequence[tuple[bytes, Entry]]) -> bytes:
    """Return the plaintext of a segment from items whose paths ascend strictly."""
    parts = [
        U32.pack(len(items)),
        _ends_to_bytes([len(path) for path, _ in items]),
        *(_ENTRY.pack(*entry) for _, entry in items),
        *(path for path, _ in items),
    ]
    return pad(b"".join(parts), SEGMENT_PADDING)


class Segment:
    """A sorted run of entries, searched in place.

    The plaintext is kept as it is: 1,024 entries cost their bytes, and little more.
    """

    __slots__ = ("_bounds", "_entries", "_fences", "_paths", "_plain", "count")

    def __init__(self, plaintext: bytes) -> None:
        """Check the outline of a plaintext.

        Raises:
            Malformed: The counts do not fit the bytes, a path is no text, or an id that of no row.
        """
        cursor = Cursor(plaintext)
        self.count = cursor.u32()
        if not 0 < self.count <= ENTRIES_MAX:
            message = "holds too few or too many entries"
            raise Malformed(message)
        # Where each path begins, and behind the last one where it ends.
        self._bounds = array("I", [0]) + _parse_ends(cursor.take(4 * self.count))
        self._entries = cursor.position
        cursor.take(ENTRY_SIZE * self.count)
        self._paths = cursor.position
        paths = cursor.take(self._bounds[-1])
        cursor.finish_padding(SEGMENT_PADDING)
        # The first bytes of all numbers of secrets, and of all ids of their histories.
        for first in (self._entries, self._entries + U64.size):
            if max(plaintext[first : self._paths : ENTRY_SIZE]) >= _ID_FIRST_BYTE_LIMIT:
                raise _no_id()
        self._plain = plaintext
        if not paths.isascii():
            self._verify_text()
        bounds = self._bounds
        self._fences = [paths[start:end] for start, end in zip(bounds[:-1:_STRIDE], bounds[1::_STRIDE], strict=True)]

    def _verify_text(self) -> None:
        try:
            for position in range(self.count):
                self.path(position).decode()
        except UnicodeDecodeError:
            message = "holds a path that is not UTF-8"
            raise Malformed(message) from None

    def path(self, position: int) -> bytes:
        """Return the path at a position."""
        return self._plain[self._paths + self._bounds[position] : self._paths + self._bounds[position + 1]]

    def entry(self, position: int) -> Entry:
        """Return the entry at a position."""
        return to_entry(_ENTRY.unpack_from(self._plain, self._entries + position * ENTRY_SIZE))

    def first_at_or_after(self, path: bytes) -> int:
        """Return the position of the first path that is not below the one given."""
        return bisect_left(range(self.count), path, key=self.path)

    def find(self, path: bytes) -> Entry | None:
        """Return the entry of a path."""
        high = bisect_right(self._fences, path) * _STRIDE
        if not high:
            return None
        low, high = high - _STRIDE, min(high, self.count)
        plain, bounds, base = self._plain, self._bounds, self._paths
        end = base + bounds[high]
        # These paths stand one behind the other, and are searched as one text. What begins elsewhere is no path.
        place = plain.find(path, base + bounds[low], end)
        while place >= 0:
            start = place - base
            low = bisect_left(bounds, start, low, high)
            while low < high and bounds[low] == bounds[low + 1]:
                low += 1  # an empty path, which a hostile writer may have put there
            if bounds[low] == start and low < high and bounds[low + 1] == start + len(path):
                return self.entry(low)
            place = plain.find(path, max(place + 1, base + bounds[low]), end)
        return None

    def items(self) -> Iterator[tuple[bytes, Entry]]:
        """Yield all paths and entries in order."""
        for position in range(self.count):
            yield self.path(position), self.entry(position)


class Manifest(NamedTuple):
    """Which segments there are, and from which state of the log they were made.

    Attributes:
        base_size: The number of log records that the segments include.
        peaks: The roots of the perfect subtrees of the log of that size, largest first.
        entries: The number of secrets.
        lines: The segments, in order.
        fences: The first path of each segment.
    """

    base_size: int
    peaks: tuple[bytes, ...]
    entries: int
    lines: tuple[SegmentLine, ...]
    fences: tuple[bytes, ...]

    def to_bytes(self) -> bytes:
        """Return the plaintext."""
        parts = [
            bytes((len(self.peaks),)),
            *self.peaks,
            U64.pack(self.entries),
            U32.pack(len(self.lines)),
            *(_LINE.pack(*line) for line in self.lines),
            _ends_to_bytes([len(fence) for fence in self.fences]),
            *self.fences,
        ]
        return pad(b"".join(parts), MANIFEST_PADDING)

    @classmethod
    def parse(cls, plaintext: bytes, base_size: int) -> Manifest:
        """Read a plaintext.

        Raises:
            Malformed: It breaks the format.
        """
        cursor = Cursor(plaintext)
        peaks = tuple(cursor.take(32) for _ in range(cursor.u8()))
        entries = cursor.u64()
        count = cursor.u32()
        # No Python runs for each line: a vault of a million secrets has well over a thousand, and opening reads all.
        packed = cursor.take(_LINE.size * count)
        if max(packed[:: _LINE.size], default=0) >= _ID_FIRST_BYTE_LIMIT:
            raise _no_id()
        lines: tuple[SegmentLine, ...] = tuple(map(_to_line, _LINE.iter_unpack(packed)))
        ends = _parse_ends(cursor.take(4 * count))
        block = cursor.take(ends[-1] if count else 0)
        starts = array("I", [0]) + ends[:-1]
        fences = tuple(map(block.__getitem__, map(slice, starts, ends))) if count else ()
        cursor.finish_padding(MANIFEST_PADDING)
        if sum(map(_entries, lines)) != entries:
            message = "counts its entries wrongly"
            raise Malformed(message)
        return cls(base_size, peaks, entries, lines, fences)

    def position_of(self, path: bytes) -> int:
        """Return which segment may hold a path, or -1 where none can."""
        return bisect_right(self.fences, path) - 1


def _no_id() -> Malformed:
    return Malformed("names a row that there cannot be")
