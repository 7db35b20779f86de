"""Wrapped keys: AES-256-SIV (RFC 5297) over 32 random bytes.

Without a nonce nothing needs counting, and determinism discloses nothing, because what is wrapped is random and unique.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from securecfg.crypto.context import DEK_ID_BYTES, SUITE, dek_context_front
from securecfg.crypto.derive import KEY_BYTES
from securecfg.crypto.hybrid import HYBRID_OVERHEAD_BYTES, open_sealed, seal_to
from securecfg.crypto.key_bytes import KeyBytes
from securecfg.errors import Tampered

if TYPE_CHECKING:
    from collections.abc import Callable

SIV_KEY_BYTES = 64
WRAPPED_BYTES = 48
DEK_ROW_BYTES = 54
DEK_FORM_WRAPPED = 1
DEK_FORM_GRANTED = 2
DEK_FORM_SEALED = 3
SEALED_DEK_ROW_BYTES = 6 + HYBRID_OVERHEAD_BYTES + KEY_BYTES

_DEK_HEAD = struct.Struct(">BBI")
_DEK_ROW_BYTES = {
    DEK_FORM_WRAPPED: DEK_ROW_BYTES,
    DEK_FORM_GRANTED: DEK_ROW_BYTES,
    DEK_FORM_SEALED: SEALED_DEK_ROW_BYTES,
}


class KeyWrap:
    """Wraps 32-byte keys under one key. May be shared by threads.

    Args:
        siv_key: 64 uniformly random bytes.

    Raises:
        ValueError: The key does not have 64 bytes.
    """

    __slots__ = ("_siv",)

    def __init__(self, siv_key: bytes) -> None:
        """Hold the cipher."""
        if len(siv_key) != SIV_KEY_BYTES:
            message = "the key of AES-256-SIV has 64 bytes"
            raise ValueError(message)
        self._siv = AESSIV(siv_key)

    @property
    def open_siv(self) -> Callable[[bytes, list[bytes]], bytes]:
        """The decryption itself, for loops over many keys; raises what the cipher raises."""
        return self._siv.decrypt

    @property
    def seal_siv(self) -> Callable[[bytes, list[bytes]], bytes]:
        """The encryption itself, for loops over many keys; checks no size."""
        return self._siv.encrypt

    def wrap(self, key: bytes, ctx: bytes) -> bytes:
        """Return the 48 bytes that hold `key` in this context.

        Raises:
            ValueError: The key does not have 32 bytes.
        """
        if len(key) != KEY_BYTES:
            raise _no_key()
        return self._siv.encrypt(key, [ctx])

    def unwrap(self, wrapped: bytes, ctx: bytes) -> KeyBytes:
        """Return the key that `wrapped` holds.

        Raises:
            Tampered: The bytes were altered, or wrapped under another key or in another context.
        """
        if len(wrapped) == WRAPPED_BYTES:
            try:
                return KeyBytes(self._siv.decrypt(wrapped, [ctx]))
            except InvalidTag:
                pass
        message = "a wrapped key does not match its key and place"
        raise Tampered(message)


class DekWrap:
    """Makes the rows of data keys under one value key (format, section 5.1). May be shared by threads.

    Args:
        value_key: The value key of `epoch`.
        vault_id: 16 bytes.
        scope_id: 16 bytes.
        epoch: The epoch, which row and context name.
        form: 1 under a key of the keyring, 2 under one that was granted apart from it.

    Raises:
        ValueError: An id does not have 16 bytes.
    """

    __slots__ = ("_encrypt", "_head", "_place")

    def __init__(
        self, value_key: KeyWrap, vault_id: bytes, scope_id: bytes, epoch: int, form: int = DEK_FORM_WRAPPED
    ) -> None:
        """Hold the cipher, and what all rows and contexts begin with."""
        self._encrypt = value_key.seal_siv
        self._head = _DEK_HEAD.pack(form, SUITE, epoch)
        self._place = dek_context_front(vault_id, scope_id, epoch)

    def seal(self, dek: bytes, dek_id: int) -> bytes:
        """Return the row of a data key.

        Args:
            dek: The data key, 32 bytes.
            dek_id: The id of the row.

        Raises:
            ValueError: The data key does not have 32 bytes.
        """
        if len(dek) != KEY_BYTES:
            raise _no_key()
        return self._head + self._encrypt(dek, [self._place + dek_id.to_bytes(DEK_ID_BYTES)])


def seal_dek(public_key: bytes, epoch: int, dek: bytes, ctx: bytes) -> bytes:
    """Return the row of a data key that only the readers of a sealed scope open, made without being one (form 3).

    Args:
        public_key: The scope's of this epoch, 1,216 bytes.
        epoch: The epoch, which the context names as well.
        dek: The data key, 32 bytes.
        ctx: The context 0x16.

    Raises:
        Tampered: The public key is none.
    """
    return _DEK_HEAD.pack(DEK_FORM_SEALED, SUITE, epoch) + seal_to(public_key, dek, ctx)


class DekRewrap:
    """Wraps data keys of one epoch anew for another. May be shared by threads.

    Args:
        vault_id: 16 bytes.
        scope_id: 16 bytes.
        old: The value key that wrapped them, and its epoch.
        new: The value key to wrap them under, and its epoch.

    Raises:
        ValueError: An id does not have 16 bytes.
    """

    __slots__ = ("_decrypt", "_encrypt", "_head", "_new_place", "_old_place")

    def __init__(self, vault_id: bytes, scope_id: bytes, old: tuple[KeyWrap, int], new: tuple[KeyWrap, int]) -> None:
        """Hold both ciphers, and what all rows and contexts begin with."""
        self._decrypt, self._encrypt = old[0].open_siv, new[0].seal_siv
        self._old_place, self._new_place = (dek_context_front(vault_id, scope_id, epoch) for _, epoch in (old, new))
        self._head = _DEK_HEAD.pack(DEK_FORM_WRAPPED, SUITE, new[1])

    def rewrap(self, dek_id: int, row: bytes) -> bytes:
        """Return the new row of a data key from its row of the old epoch, which `parse_dek` has told.

        Raises:
            Tampered: The row was altered, or belongs to another key or place.
        """
        place = dek_id.to_bytes(DEK_ID_BYTES)
        try:
            dek = self._decrypt(row[_DEK_HEAD.size :], [self._old_place + place])
        except InvalidTag:
            message = f"the data key {dek_id} does not match its key and place"
            raise Tampered(message) from None
        return self._head + self._encrypt(dek, [self._new_place + place])


def _no_key() -> ValueError:
    return ValueError("a wrapped key has 32 bytes")


def parse_dek(row: bytes) -> tuple[int, int]:
    """Return the form of the row of a data key, and the epoch of the key that opens it.

    Raises:
        Tampered: The row is of no form.
    """
    if len(row) < _DEK_HEAD.size:
        raise _malformed_dek()
    form, suite, epoch = _DEK_HEAD.unpack_from(row)
    if suite != SUITE or len(row) != _DEK_ROW_BYTES.get(form):
        raise _malformed_dek()
    return form, epoch


def parse_dek_epoch(row: bytes) -> int:
    """Return the epoch whose value key opens the row of a data key.

    Raises:
        Tampered: The row is not one of form 1.
    """
    form, epoch = parse_dek(row)
    if form != DEK_FORM_WRAPPED:
        raise _malformed_dek()
    return epoch


def _malformed_dek() -> Tampered:
    return Tampered("the row of a data key is malformed")


def unwrap_dek(value_key: KeyWrap, row: bytes, ctx: bytes) -> KeyBytes:
    """Return the data key of a row of form 1, whose epoch `parse_dek` or `parse_dek_epoch` named.

    Raises:
        Tampered: The row was altered, or belongs to another key or place.
    """
    return value_key.unwrap(row[6:], ctx)


def open_granted_dek(row: bytes, ctx: bytes, value_key: KeyWrap, private_key: bytes) -> KeyBytes:
    """Return the data key of a row of form 2 or 3, whose epoch `parse_dek` named.

    Args:
        row: The row.
        ctx: The context 0x16.
        value_key: What readers wrap with in this epoch.
        private_key: What others seal to in this epoch, 96 bytes.

    Raises:
        Tampered: The row was altered, or belongs to another key or place.
    """
    if row[0] == DEK_FORM_GRANTED:
        return value_key.unwrap(row[6:], ctx)
    dek = KeyBytes(open_sealed(private_key, row[6:], ctx))
    if len(dek) != KEY_BYTES:
        message = "a sealed data key has another size"
        raise Tampered(message)
    return dek
