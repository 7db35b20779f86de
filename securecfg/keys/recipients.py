"""Wrapping for whoever holds the private half of a key pair: HPKE gives the KEK of the slot (format, section 4.11)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.crypto import HYBRID_OVERHEAD_BYTES, KEY_BYTES, KeyBytes, generate_key, open_sealed, seal_to
from securecfg.errors import Tampered
from securecfg.keys.kek import open_under_kek, parse_params, seal_under_kek, wrong_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.crypto import Label
    from securecfg.keys.provider import WrapContext


def wrap_to_recipient(
    recipient: bytes, kind: int, label: Label, key: bytes, context: WrapContext, *, tag: bytes = b""
) -> bytes:
    """Return `key` wrapped for the holder of a private key.

    Args:
        recipient: The public half, 1,216 bytes.
        kind: Of the slot.
        label: What kind of recipient it is.
        key: 32 bytes.
        context: The slot.
        tag: What the parameters begin with.

    Raises:
        Tampered: The public half is none.
    """
    kek = generate_key()
    params = tag + seal_to(recipient, kek, _info(label, kind, context))
    return seal_under_kek(kek, kind, params, key, context)


def unwrap_as_recipient(
    opening_key: Callable[[], KeyBytes],
    kind: int,
    label: Label,
    wrapped: bytes,
    context: WrapContext,
    *,
    tag: bytes = b"",
) -> bytes:
    """Return the key that was wrapped for the holder of a private key.

    Args:
        opening_key: Returns the private half, 96 bytes; asked only for what may be for it.
        kind: Of the slot.
        label: As for `wrap_to_recipient`.
        wrapped: What that returned.
        context: The slot.
        tag: What the parameters have to begin with.

    Raises:
        WrongKey: It is for somebody else, or the bytes or the context are other ones.
    """
    params = parse_params(wrapped)
    if len(params) != len(tag) + HYBRID_OVERHEAD_BYTES + KEY_BYTES or params[: len(tag)] != tag:
        raise wrong_key()
    try:
        kek = KeyBytes(open_sealed(opening_key(), params[len(tag) :], _info(label, kind, context)))
    except Tampered:
        raise wrong_key() from None
    return open_under_kek(kek, kind, wrapped, context)


def _info(label: Label, kind: int, context: WrapContext) -> bytes:
    return label.encode() + b"\x00" + context.to_bytes(kind, b"")
