"""Wrapped keys: AES-256-SIV (RFC 5297) over 32 random bytes.

Without a nonce nothing needs counting, and determinism discloses nothing, because what is wrapped is random and unique.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from securecfg.crypto.context import SUITE
from securecfg.crypto.derive import KEY_BYTES
from securecfg.crypto.hybrid import HYBRID_OVERHEAD_BYTES, open_sealed, seal_to
from securecfg.crypto.key_bytes import KeyBytes
from securecfg.errors import Tampered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

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
            message = "a wrapped key has 32 bytes"
            raise ValueError(message)
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


def wrap_dek(value_key: KeyWrap, epoch: int, dek: bytes, ctx: bytes, form: int = DEK_FORM_WRAPPED) -> bytes:
    """Return the row of a data key (format, section 5.1).

    Args:
        value_key: The value key of `epoch`.
        epoch: The epoch, which the context names as well.
        dek: The data key, 32 bytes.
        ctx: The context 0x16.
        form: 1 under a key of the keyring, 2 under one that was granted apart from it.

    Raises:
        ValueError: The data key does not have 32 bytes.
    """
    return _DEK_HEAD.pack(form, SUITE, epoch) + value_key.wrap(dek, ctx)


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
    """Wraps data keys of one epoch anew for another, many of them with little work for each.

    Args:
        old: The value key of the epoch that wrapped them.
        new: The value key to wrap them under.
        old_ctx: The context 0x16 of the old epoch without its last field, the id of the row.
        new_ctx: The same of the new epoch.
        epoch: The new epoch.
    """

    __slots__ = ("_decrypt", "_encrypt", "_front", "_new_ctx", "_old_ctx")

    def __init__(self, old: KeyWrap, new: KeyWrap, old_ctx: bytes, new_ctx: bytes, epoch: int) -> None:
        """Hold both ciphers."""
        self._decrypt, self._encrypt = old.open_siv, new.seal_siv
        self._old_ctx, self._new_ctx = old_ctx, new_ctx
        self._front = _DEK_HEAD.pack(DEK_FORM_WRAPPED, SUITE, epoch)

    def rewrap(self, rows: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes, bytes]]:
        """Yield id, old row and new row for rows of the old epoch, which `parse_dek_epoch` has told.

        Raises:
            Tampered: A row was altered, or belongs to another key or place.
        """
        decrypt, encrypt = self._decrypt, self._encrypt
        old_ctx, new_ctx, front = self._old_ctx, self._new_ctx, self._front
        for dek_id, row in rows:
            place = dek_id.to_bytes(8)
            try:
                new = front + encrypt(decrypt(row[6:], [old_ctx + place]), [new_ctx + place])
            except InvalidTag:
                message = f"the data key {dek_id} does not match its key and place"
                raise Tampered(message) from None
            yield dek_id, row, new


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
