"""History pages: all versions of one secret (format 6.3).

Pure: bytes in, values out. Sealing and hashing are the caller's.
"""

from __future__ import annotations

import struct
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from securecfg.octets import U8, U16, U32, U64, Cursor, Malformed, pad, var8
from securecfg.store import ID_LIMIT

if TYPE_CHECKING:
    from collections.abc import Mapping

LIVE, DELETED, DESTROYED = 1, 2, 3
NEWEST_PAGE = 0xFFFF_FFFF
PAGE_FULL = 64
PAGE_MOVED = 32
PAGE_BYTES = 128 * 1024
PADDING = 128

_FIXED = struct.Struct(">IBBQQIQ32sQQQ")
_LINE = struct.Struct(f"{_FIXED.format}B")  # and the size of the author
_OLDER = struct.Struct(">Q32sII")
_OWNER = struct.Struct(">QH")
_MARKS = struct.Struct(">IIIIH")  # and the number of older pages
_PLAIN_MARKS = struct.Struct(">IIIIHHH")  # where there are neither those nor labels, with all three counts

_OWNER_BYTES, _PLAIN_BYTES, _FIXED_BYTES = _OWNER.size, _PLAIN_MARKS.size, _FIXED.size


class Version(NamedTuple):
    """One version of a secret. Times are nanoseconds since the epoch, 0 for none."""

    number: int
    state: int
    kind: int
    dek_id: int
    value_id: int
    value_rows: int
    length: int
    commitment: bytes
    created: int
    expires: int
    deleted: int
    author: str
    content_type: str
    metadata: bytes

    def to_bytes(self) -> bytes:
        """Return the line of the page."""
        *fixed, by, kind_of_content, metadata = self
        author, content_type = by.encode(), kind_of_content.encode()
        front = _LINE.pack(*fixed, len(author))
        return b"".join((front, author, U8.pack(len(content_type)), content_type, U16.pack(len(metadata)), metadata))

    @property
    def size_bytes(self) -> int:
        """The size of the line; authors and content types are ASCII."""
        return _FIXED.size + 4 + len(self.author) + len(self.content_type) + len(self.metadata)

    def placed_as(self, other: Version) -> Version:
        """Return the version with its value where that of another one lies, which is a copy of it."""
        return self._replace(
            dek_id=other.dek_id,
            value_id=other.value_id,
            value_rows=other.value_rows,
            commitment=other.commitment,
        )

    def destroyed(self) -> Version:
        """Return what remains of the version once it is destroyed."""
        return self._replace(
            state=DESTROYED,
            dek_id=0,
            value_id=0,
            value_rows=0,
            length=0,
            commitment=bytes(32),
        )


to_version = partial(tuple.__new__, Version)
"""Makes one from a tuple of its fields, in half the time."""


class OlderPage(NamedTuple):
    """Where an older page lies."""

    history_id: int
    digest: bytes
    first: int
    last: int


_to_older = partial(tuple.__new__, OlderPage)


class History(NamedTuple):
    """The newest page of a secret's history.

    Attributes:
        rec_id: The secret's number, which never changes.
        path: Its path, in UTF-8.
        newest: The newest version's number, deleted ones included.
        current: What `read` returns, 0 for none; likewise `previous` and `pending`.
        older: The older pages, oldest first.
        labels: Labels that people set, with their versions.
        versions: The versions of this page, newest first.
    """

    rec_id: int
    path: bytes
    newest: int = 0
    current: int = 0
    previous: int = 0
    pending: int = 0
    older: tuple[OlderPage, ...] = ()
    labels: Mapping[str, int] = MappingProxyType({})
    versions: tuple[Version, ...] = ()

    def to_bytes(self) -> bytes:
        """Return the plaintext of the page."""
        rec_id, path, newest, current, previous, pending, older, labels, versions = self
        parts = [_OWNER.pack(rec_id, len(path)), path, _MARKS.pack(newest, current, previous, pending, len(older))]
        if older:
            parts += [_OLDER.pack(*page) for page in older]
        parts.append(U16.pack(len(labels)))
        if labels:
            parts += [var8(name.encode()) + U32.pack(number) for name, number in sorted(labels.items())]
        parts.append(U16.pack(len(versions)))
        parts += map(Version.to_bytes, versions)
        return pad(b"".join(parts), PADDING)

    @classmethod
    def parse(cls, plaintext: bytes) -> History:
        """Read a newest page.

        Raises:
            Malformed: The page breaks the format.
        """
        history, count, position = _parse_front(plaintext)
        versions, position = _parse_versions(plaintext, count, position)
        Cursor(plaintext, position).finish_padding(PADDING)
        return cls(*history[:-1], versions)

    @property
    def live(self) -> bool:
        """Whether some version is neither deleted nor destroyed, older pages apart."""
        return self.current != 0

    def find(self, number: int) -> Version | None:
        """Return a version of this page."""
        for version in self.versions:
            if version.number == number:
                return version
        return None

    def with_replaced(self, changed: Version) -> History:
        """Return the page with one of its versions replaced."""
        return self._replace(
            versions=tuple(changed if version.number == changed.number else version for version in self.versions),
        )


to_history = partial(tuple.__new__, History)
"""Makes one from a tuple of its fields, in half the time."""


def find_version(plaintext: bytes, wanted: int) -> tuple[History, Version | None]:
    """Read the front of a newest page and only the version wanted; 0 stands for the current one.

    This is the way of a read: it stops at the version and looks at nothing behind it.

    Raises:
        Malformed: The page breaks the format.
    """
    history, count, position = _parse_front(plaintext)
    number = wanted or history.current
    for _ in range(count):
        version, position = _parse_version(plaintext, position)
        if version.number == number:
            return history, version
    return history, None


def older_page_to_bytes(rec_id: int, page: int, versions: tuple[Version, ...]) -> bytes:
    """Return the plaintext of an older page."""
    body = b"".join(version.to_bytes() for version in versions)
    return pad(U64.pack(rec_id) + U32.pack(page) + U16.pack(len(versions)) + body, PADDING)


def parse_older_page(plaintext: bytes, rec_id: int, page: int) -> tuple[Version, ...]:
    """Read an older page, which must be this page of this secret.

    Raises:
        Malformed: The page breaks the format or is another one.
    """
    cursor = Cursor(plaintext)
    if cursor.u64() != rec_id or cursor.u32() != page:
        message = "is another page"
        raise Malformed(message)
    count = cursor.u16()
    versions, position = _parse_versions(plaintext, count, cursor.position)
    Cursor(plaintext, position).finish_padding(PADDING)
    return versions


def _parse_front(plaintext: bytes) -> tuple[History, int, int]:
    """Return the page without its versions, how many those are, and where they begin."""
    # As `_parse_version`: without a call for each field. Nearly every page has neither older pages nor labels, and then
    # the three counts stand together.
    older: tuple[OlderPage, ...] = ()
    labels: dict[str, int] = {}
    try:
        rec_id, length = _OWNER.unpack_from(plaintext)
        end = _OWNER_BYTES + length
        newest, current, previous, pending, pages, named, count = _PLAIN_MARKS.unpack_from(plaintext, end)
    except struct.error:
        message = "ends too early"
        raise Malformed(message) from None
    place = end + _PLAIN_BYTES
    if pages or named:
        cursor = Cursor(plaintext, end + _MARKS.size)
        older, labels = _parse_older(cursor, pages), {cursor.str8(): cursor.u32() for _ in range(cursor.u16())}
        count, place = cursor.u16(), cursor.position
    path = plaintext[_OWNER_BYTES:end]
    return to_history((rec_id, path, newest, current, previous, pending, older, labels, ())), count, place


def _parse_older(cursor: Cursor, pages: int) -> tuple[OlderPage, ...]:
    older = tuple(map(_to_older, _OLDER.iter_unpack(cursor.take(pages * _OLDER.size))))
    if any(page.history_id >= ID_LIMIT for page in older):
        message = "names a page that there cannot be"
        raise Malformed(message)
    return older


def _parse_versions(data: bytes, count: int, position: int) -> tuple[tuple[Version, ...], int]:
    versions = []
    for _ in range(count):
        version, position = _parse_version(data, position)
        versions.append(version)
    return tuple(versions), position


def _parse_version(data: bytes, position: int) -> tuple[Version, int]:
    """Return the version at a position, and where it ends."""
    # On the way of every read and write: one call for the fixed part and plain slices for the rest.
    try:
        fixed = _FIXED.unpack_from(data, position)
        at = position + _FIXED_BYTES
        end = at + 1 + data[at]
        author = data[at + 1 : end].decode()
        at = end + 1 + data[end]
        content_type = data[end + 1 : at].decode()
        end = at + 2 + (data[at] << 8 | data[at + 1])
    except (struct.error, IndexError, UnicodeDecodeError):
        message = "holds a version that is cut off or not UTF-8"
        raise Malformed(message) from None
    if end > len(data) or not LIVE <= fixed[1] <= DESTROYED:
        message = "holds a version that is cut off or in an unknown state"
        raise Malformed(message)
    if fixed[3] >= ID_LIMIT or fixed[4] + fixed[5] >= ID_LIMIT:
        message = "holds a version with rows that there cannot be"
        raise Malformed(message)
    return to_version((*fixed, author, content_type, data[at + 2 : end])), end


def count_overflow(versions: tuple[Version, ...]) -> int:
    """Return how many of the oldest versions must move to an older page: none where the newest page holds them all."""
    if len(versions) == 1:
        return 0
    sizes = [version.size_bytes for version in versions]
    if len(versions) <= PAGE_FULL and sum(sizes) <= PAGE_BYTES:
        return 0
    count = total = 0
    for size in reversed(sizes[1:]):
        total += size
        if count == PAGE_MOVED or (count and total > PAGE_BYTES):
            break
        count += 1
    return count


def labels_of(history: History, number: int) -> tuple[str, ...]:
    """Return the labels that point at a version, the vault's own first."""
    _, _, _, current, previous, pending, _, named, _ = history
    labels = []
    if current == number:
        labels.append("current")
    if previous == number:
        labels.append("previous")
    if pending == number:
        labels.append("pending")
    if named:
        labels += [name for name, target in sorted(named.items()) if target == number]
    return tuple(labels)


def number_of_label(history: History, label: str) -> int:
    """Return the version that a label points at; a label of digits is a number.

    Raises:
        KeyError: The label points at nothing.
    """
    if label.isdecimal() and label.isascii():
        return check_number(int(label[:10]))
    own = {"current": history.current, "previous": history.previous, "pending": history.pending}
    number = own.get(label) or history.labels.get(label)
    if not number:
        raise KeyError(label)
    return number


def check_number(number: int) -> int:
    """Return a number that a version may have.

    Raises:
        KeyError: It may not.
    """
    if isinstance(number, bool) or not 0 < number < 1 << 32:
        raise KeyError(number)
    return number
