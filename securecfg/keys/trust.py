"""Whose word counts in sealed scopes: some keys, and how many of them have to sign."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from securecfg.octets import U32, Malformed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from securecfg.octets import Cursor

    Signatures = tuple[tuple[bytes, bytes], ...]
    """Ed25519 public keys of 32 bytes, each with a signature of 64 bytes."""

PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64
ADMINISTRATORS_MAX = 32


class Trust(NamedTuple):
    """Whose signatures a charter and a membership need, as their reader knows beforehand.

    Attributes:
        administrators: Their Ed25519 public keys, 32 bytes each.
        threshold: How many of them have to sign.
        serial: How often administrators were replaced before these.
    """

    administrators: tuple[bytes, ...]
    threshold: int
    serial: int = 0

    def holds(self, signatures: Signatures, message: bytes) -> bool:
        """Return whether enough of the administrators, each counted once, signed a message.

        Never where none would be enough.
        """
        signed = {
            key for key, signature in signatures if key in self.administrators and is_signed(key, signature, message)
        }
        return 0 < self.threshold <= len(signed)

    def alone(self) -> frozenset[bytes]:
        """Return the administrators of whom each can sign by himself."""
        return frozenset(self.administrators if self.threshold == 1 else ())

    def to_bytes(self) -> bytes:
        """Return it as it is signed."""
        counts = bytes((self.threshold, len(self.administrators)))
        return U32.pack(self.serial) + counts + b"".join(self.administrators)

    @classmethod
    def read(cls, cursor: Cursor) -> Trust:
        """Return what `to_bytes` gave.

        Raises:
            Malformed: The threshold cannot be reached, or a key is there twice.
        """
        serial, threshold, count = cursor.u32(), cursor.u8(), cursor.u8()
        keys = tuple(cursor.take(PUBLIC_KEY_BYTES) for _ in range(count))
        if not 0 < threshold <= count or len(set(keys)) < count or count > ADMINISTRATORS_MAX:
            message = "breaks a rule of administrators"
            raise Malformed(message)
        return cls(keys, threshold, serial)


def signatures_to_bytes(signatures: Signatures) -> bytes:
    """Return signatures as they are kept."""
    return bytes((len(signatures),)) + b"".join(key + signature for key, signature in signatures)


def read_signatures(cursor: Cursor) -> Signatures:
    """Return signatures as they were kept; they are not looked at.

    Raises:
        Malformed: They are cut short.
    """
    return tuple((cursor.take(PUBLIC_KEY_BYTES), cursor.take(SIGNATURE_BYTES)) for _ in range(cursor.u8()))


def join_signatures(several: Iterable[Signatures]) -> Signatures:
    """Return the signatures of several, one of each key."""
    return tuple(dict(one for signatures in several for one in signatures).items())


def is_signed(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Return whether a signature is that of an Ed25519 key over a message."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True
