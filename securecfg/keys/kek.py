"""A key under a key-encryption key: the sealed part of an unlock slot (format, section 4.2)."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from securecfg.crypto import KEY_BYTES, KeyBytes, KeyWrap, Label, expand
from securecfg.errors import Tampered, WrongKey
from securecfg.octets import Cursor, Malformed, var16

if TYPE_CHECKING:
    from securecfg.keys.provider import WrapContext

SEALED_BYTES = 80
MOST_PARAMS_BYTES = 3996  # of the largest slot

_SIV_KEY_BYTES = 64
_COMMITMENT_BYTES = 32


def seal_under_kek(kek: bytes, kind: int, params: bytes, key: bytes, context: WrapContext) -> bytes:
    """Return `str16 params || commitment [32] || SIV [48]`.

    Args:
        kek: 32 uniformly random bytes, or what Argon2id gave.
        kind: The kind of the slot.
        params: What the provider needs to find the KEK again; readable by anyone.
        key: The key to wrap, 32 bytes.
        context: The slot.

    Raises:
        ValueError: A key does not have 32 bytes.
    """
    ctx = context.to_bytes(kind, params)
    siv, commitment = _derive(kek, ctx)
    return var16(params) + commitment + siv.wrap(key, ctx)


def parse_params(wrapped: bytes) -> bytes:
    """Return the parameters of a wrapped key.

    Raises:
        WrongKey: The bytes are not laid out as a wrapped key.
    """
    return _parse(wrapped)[0]


def open_under_kek(kek: bytes, kind: int, wrapped: bytes, context: WrapContext) -> KeyBytes:
    """Return the key that `seal_under_kek` wrapped.

    Raises:
        WrongKey: The KEK is another one, or the bytes, the kind or the context are not those that were sealed.
        ValueError: The KEK does not have 32 bytes.
    """
    params, commitment, sealed = _parse(wrapped)
    ctx = context.to_bytes(kind, params)
    siv, expected = _derive(kek, ctx)
    del kek  # a traceback that shows locals must not show it
    # The commitment comes first: without it one crafted ciphertext could test many passphrases at once.
    if not hmac.compare_digest(commitment, expected):
        raise wrong_key()
    try:
        return siv.unwrap(sealed, ctx)
    except Tampered:
        raise wrong_key() from None


def _derive(kek: bytes, ctx: bytes) -> tuple[KeyWrap, bytes]:
    if len(kek) != KEY_BYTES:
        message = "a key-encryption key has 32 bytes"
        raise ValueError(message)
    derived = expand(kek, Label.SLOT, ctx, _SIV_KEY_BYTES + _COMMITMENT_BYTES)
    return KeyWrap(derived[:_SIV_KEY_BYTES]), derived[_SIV_KEY_BYTES:]


def _parse(wrapped: bytes) -> tuple[bytes, bytes, bytes]:
    cursor = Cursor(wrapped)
    try:
        params = cursor.var16()
        commitment = cursor.take(_COMMITMENT_BYTES)
        sealed = cursor.take(SEALED_BYTES - _COMMITMENT_BYTES)
        cursor.finish()
    except Malformed:
        raise wrong_key() from None
    if len(params) > MOST_PARAMS_BYTES:
        raise wrong_key()
    return params, commitment, sealed


def wrong_key() -> WrongKey:
    """Return the one error for a wrong key, another context and altered bytes."""
    hint = "try the passphrase again, or check that the key belongs to this vault"
    return WrongKey("no unlock slot opens with this key", hint=hint)
