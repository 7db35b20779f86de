"""Values in stores that hold bytes for each secret and do not say what they are (section 4 of the contract). Pure.

What is UTF-8 is a text, or fields where it is a JSON object; everything else is bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.backends import json_fields
from securecfg.errors import Unsupported

if TYPE_CHECKING:
    from securecfg.backends.interface import Content
    from securecfg.vault.values import Value


BYTES_HINT = "write them as text; where they are random, as hexadecimal digits or base64"


def to_bytes(content: Content, hint: str = BYTES_HINT) -> bytes:
    """Return what such a store holds for a value.

    Args:
        content: The value.
        hint: How bytes can be written that are text too.

    Raises:
        Unsupported: It would come back as something else.
    """
    held = json_fields.to_text(content)
    if isinstance(held, str):
        return held.encode()
    if _text_of(held) is not None:
        message = "bytes that are UTF-8 would come back as text"
        raise Unsupported(message, hint=hint)
    return held


def to_value(held: bytes, label: str) -> Value:
    """Return the value that such bytes stand for."""
    text = _text_of(held)
    return json_fields.to_value(held if text is None else text, label)


def _text_of(held: bytes) -> str | None:
    try:
        return held.decode()
    except UnicodeDecodeError:
        return None
