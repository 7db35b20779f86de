"""Dropped values: rows that wait in a sealed scope until somebody who reads and writes there takes them in.

Whoever drops a value seals it to the value key that a drop order names, and signs it twice: by the key of the role that
may drop, and by the own identity, so that the author is proved. The row opens in its place and in no other one.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from securecfg.crypto import HYBRID_OVERHEAD_BYTES, KIND_FIELDS, KeyBytes, Label, open_sealed, seal_to
from securecfg.errors import Tampered, ValueTooLarge
from securecfg.keys.trust import is_signed
from securecfg.octets import U32, U64, Cursor, Malformed, var8, var16, var32
from securecfg.store import ID_LIMIT, Space
from securecfg.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from securecfg.store import Store

FIRST_DROP = 1 << 62
PLACE_BITS = 18
WAITING_MAX = 1_000
VALUE_BYTES_MAX = 256 * 1_024

_FRONT = b"\x45\x01"
_HEAD_BYTES = len(_FRONT) + 4
_SIGNATURE_BYTES = 64
_SIZES = (*(1 << bits for bits in range(11, 19)), 3 << 17)
_KEEPS_METADATA, _HAS_METADATA = 0, 1
_RECEIPT_CHARS = 32
_ROWS_AT_ONCE = 16


class Place(NamedTuple):
    """What a dropped value is bound to.

    Attributes:
        scope_id: The vault id of the scope, 16 bytes.
        epoch: The value key that it is sealed to.
        row_id: Where it lies; it says when it was dropped.
    """

    scope_id: bytes
    epoch: int
    row_id: int

    @property
    def time_ms(self) -> int:
        """When it was dropped, in milliseconds, as the clock of the dropper had it."""
        return (self.row_id - FIRST_DROP) >> PLACE_BITS

    def to_bytes(self) -> bytes:
        """Return what is signed and authenticated of it."""
        return b"\x00" + self.scope_id + U32.pack(self.epoch) + U64.pack(self.row_id)


class Drop(NamedTuple):
    """What is handed in.

    Attributes:
        path: Where it is to become a version.
        kind: Bytes, text or fields.
        content: The value.
        content_type: Of a configuration document, or empty.
        metadata: The encoded metadata, or None to keep what the newest version has.
        expires: When it stops being readable, 0 for never.
        member: The principal that drops it.
        role: By which of its roles, without `role:`.
    """

    path: str
    kind: int
    content: KeyBytes
    content_type: str
    metadata: bytes | None
    expires: int
    member: str
    role: str

    def to_bytes(self) -> bytes:
        """Return the bytes that are signed."""
        flag = bytes((_KEEPS_METADATA if self.metadata is None else _HAS_METADATA,))
        return b"".join(
            (
                var8(self.member.encode()),
                var8(self.role.encode()),
                var16(self.path.encode()),
                bytes((self.kind,)),
                var8(self.content_type.encode()),
                flag,
                var16(self.metadata or b""),
                U64.pack(self.expires),
                var32(self.content),
            )
        )


class SignedDrop(NamedTuple):
    """A dropped value as it was opened.

    Attributes:
        drop: What it says.
        place: Where it lay.
        by_role: The signature of the role's key, 64 bytes.
        by_member: The signature of the member's identity, 64 bytes.
    """

    drop: Drop
    place: Place
    by_role: bytes
    by_member: bytes

    def is_signed_by_role(self, public_key: bytes) -> bool:
        """Return whether an Ed25519 key signed it for the role."""
        return is_signed(public_key, self.by_role, role_message(self.place, self.drop.to_bytes()))

    def is_signed_by_member(self, public_key: bytes) -> bool:
        """Return whether an Ed25519 key signed it for the member."""
        return is_signed(public_key, self.by_member, member_message(self.place, self.drop.to_bytes()))


def role_message(place: Place, body: bytes) -> bytes:
    """Return what the key of the role signs."""
    return Label.DROP.encode() + b"/role" + place.to_bytes() + hashlib.sha256(body).digest()


def member_message(place: Place, body: bytes) -> bytes:
    """Return what the identity of the member signs."""
    return Label.DROP.encode() + b"/member" + place.to_bytes() + hashlib.sha256(body).digest()


def row_id_at(time_ms: int, random: int) -> int:
    """Return the id of the row of what is dropped at a time; rows of one time are told apart by a random number."""
    return FIRST_DROP + (time_ms << PLACE_BITS) + random % (1 << PLACE_BITS)


def seal_drop(
    drop: Drop, place: Place, public_key: bytes, sign_as_role: Callable[[bytes], bytes], sign: Callable[[bytes], bytes]
) -> bytes:
    """Return the row of a dropped value.

    Args:
        drop: The value.
        place: Where it will lie.
        public_key: The public half of the value key of the epoch, 1,216 bytes.
        sign_as_role: Signs by the key of the role.
        sign: Signs by the identity of the member.

    Raises:
        Tampered: The public key is none.
    """
    body = KeyBytes(drop.to_bytes())
    signatures = sign_as_role(role_message(place, body)) + sign(member_message(place, body))
    size = len(var32(body)) + len(signatures)
    plaintext = KeyBytes((var32(body) + signatures).ljust(_padded(size), b"\x00"))
    return _FRONT + U32.pack(place.epoch) + seal_to(public_key, plaintext, _info(place))


def epoch_of_drop(row: bytes) -> int | None:
    """Return the epoch of the value key that a row says it is sealed to, None where it is no dropped value."""
    size = len(row) - _HEAD_BYTES - HYBRID_OVERHEAD_BYTES
    return int.from_bytes(row[len(_FRONT) : _HEAD_BYTES]) if row[: len(_FRONT)] == _FRONT and size in _SIZES else None


def open_drop(private_key: KeyBytes, place: Place, row: bytes) -> SignedDrop:
    """Return what a row holds; nobody's signature is looked at yet.

    Args:
        private_key: That of the value key of the epoch, 96 bytes.
        place: Where the row lies, and the epoch that it names.
        row: As it was read.

    Raises:
        Tampered: It does not open here, or is malformed.
    """
    plaintext = KeyBytes(open_sealed(private_key, row[_HEAD_BYTES:], _info(place)))
    try:
        cursor = Cursor(plaintext)
        body = KeyBytes(cursor.var32())
        by_role, by_member = cursor.take(_SIGNATURE_BYTES), cursor.take(_SIGNATURE_BYTES)
        drop = _parse(body)
        left = plaintext[cursor.position :]
        if len(plaintext) != _padded(cursor.position) or left.count(0) != len(left):
            raise _malformed()
    except Malformed:
        raise _malformed() from None
    return SignedDrop(drop, place, by_role, by_member)


def too_large() -> ValueTooLarge:
    """Return the error for a value that is too large to be dropped."""
    message = f"a value that is dropped has at most {VALUE_BYTES_MAX >> 10} KiB"
    return ValueTooLarge(message, hint="keep the file elsewhere, encrypted, and drop its key")


def receipt_of(row: bytes) -> str:
    """Return the receipt of a dropped value: 128 bits of the hash of its row, in hexadecimal digits."""
    return hashlib.sha256(row).hexdigest()[:_RECEIPT_CHARS]


def waiting_rows(store: Store, first: int = FIRST_DROP) -> Iterator[tuple[int, bytes]]:
    """Yield the rows that wait in a scope, the oldest first."""
    while first < ID_LIMIT and (rows := store.scan(Space.GRANT, first, ID_LIMIT - 1, _ROWS_AT_ONCE)):
        yield from rows
        first = rows[-1][0] + 1


def has_waiting(store: Store) -> bool:
    """Return whether a row waits in a scope."""
    return bool(store.scan(Space.GRANT, FIRST_DROP, ID_LIMIT - 1, 1))


def count_waiting(store: Store) -> int:
    """Return how many rows wait in a scope, but not more than one above `WAITING_MAX`."""
    return sum(1 for _ in zip(waiting_rows(store), range(WAITING_MAX + 1), strict=False))


def _parse(body: KeyBytes) -> Drop:
    cursor = Cursor(body)
    member, role, path, kind = cursor.str8(), cursor.str8(), cursor.str16(), cursor.u8()
    content_type, flag, metadata = cursor.str8(), cursor.u8(), cursor.var16()
    expires, content = cursor.u64(), KeyBytes(cursor.var32())
    cursor.finish()
    has_metadata = flag == _HAS_METADATA
    if flag > _HAS_METADATA or (metadata and not has_metadata) or kind > KIND_FIELDS:
        raise _malformed()
    return Drop(path, kind, content, content_type, metadata if has_metadata else None, expires, member, role)


def _padded(size: int) -> int:
    """Return the least of the sizes that rows may have into which so many bytes fit."""
    return next((padded for padded in _SIZES if padded >= size), -1)


def _info(place: Place) -> bytes:
    return Label.DROP.encode() + place.to_bytes()


def _malformed() -> Tampered:
    return Tampered("a dropped value is malformed")
