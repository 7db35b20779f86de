"""Keys that a service holds: a random key-encryption key, and what the service made of it (format, section 4.2)."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from securecfg.crypto import KEY_BYTES, generate_key
from securecfg.errors import KeyProviderUnavailable
from securecfg.keys.kek import MOST_PARAMS_BYTES, open_under_kek, parse_params, seal_under_kek, wrong_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.crypto import KeyBytes
    from securecfg.keys.provider import RemoteKeyProvider, WrapContext

_HINT_LABEL = b"securecfg key hint\x00"


def seal_with_service(
    provider: RemoteKeyProvider, key: bytes, context: WrapContext, encrypt: Callable[[bytes], bytes]
) -> bytes:
    """Return `key` under a random key-encryption key that a service has encrypted.

    Args:
        provider: Who asks the service.
        key: The key to wrap, 32 bytes.
        context: The slot.
        encrypt: Has the service encrypt 32 bytes, bound to the slot where the service knows how. What it returns
            becomes a part of the slot that anyone can read.

    Raises:
        ValueError: The key does not have 32 bytes.
        KeyProviderUnavailable: By `encrypt`, or what it returned is no ciphertext.
        KeyProviderRefused: By `encrypt`.
    """
    if len(key) != KEY_BYTES:
        message = "a wrapped key has 32 bytes"
        raise ValueError(message)
    kek = generate_key()
    ciphertext = encrypt(kek)
    if not 0 < len(ciphertext) < MOST_PARAMS_BYTES:
        message = (
            f"`{provider.scheme}:` key `{provider.key_name}` gave {len(ciphertext)} bytes, which are no ciphertext"
        )
        raise KeyProviderUnavailable(message, hint="is it really the service that answers?")
    params = bytes((_hint(provider.key_name, context.slot_id),)) + ciphertext
    return seal_under_kek(kek, provider.kind, params, key, context)


def open_with_service(
    provider: RemoteKeyProvider, wrapped: bytes, context: WrapContext, decrypt: Callable[[bytes], bytes]
) -> KeyBytes:
    """Return the key that `seal_with_service` wrapped.

    Args:
        provider: Who asks the service.
        wrapped: What was returned then.
        context: The slot.
        decrypt: Has the service decrypt what `encrypt` returned. It is not called for what cannot be a wrapped key.

    Raises:
        WrongKey: The service gave another key, or the bytes, the kind or the context are not those that were sealed.
        KeyProviderUnavailable, KeyProviderRefused: By `decrypt`.
    """
    params = parse_params(wrapped)
    if len(params) <= 1:
        raise wrong_key()
    kek = decrypt(params[1:])
    if len(kek) != KEY_BYTES:
        del kek  # a traceback that shows locals must not show it
        raise wrong_key()
    return open_under_kek(kek, provider.kind, wrapped, context)


def is_hinted(params: bytes, key_name: str, slot_id: bytes) -> bool:
    """Return whether a slot was probably made with the key of this name; a slot that was not may fit all the same."""
    return params[:1] == bytes((_hint(key_name, slot_id),))


def _hint(key_name: str, slot_id: bytes) -> int:
    return sha256(_HINT_LABEL + slot_id + key_name.encode()).digest()[0]
