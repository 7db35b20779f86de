"""Values of named fields (format, section 5.2, kind 2)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.errors import InvalidMetadata, Tampered, ValueTooLarge
from securecfg.octets import U16, Cursor, Malformed, var8, var32

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_FIELDS = 1_000
NAME_LIMIT_BYTES = 255

_BYTES = b"\x00"
_TEXT = b"\x01"


def encode_fields(fields: Mapping[str, str | bytes]) -> bytes:
    """Return the content of a value of named fields, in the one order that the format allows.

    Raises:
        InvalidMetadata: A name is empty or has more than 255 bytes, or a text has lone surrogates.
        ValueTooLarge: There are more than 1,000 fields.
    """
    if len(fields) > MOST_FIELDS:
        message = f"a value has at most {MOST_FIELDS} fields"
        raise ValueTooLarge(message)
    encoded = [U16.pack(len(fields))]
    for name, content in sorted((_utf8(name), content) for name, content in fields.items()):
        if not 0 < len(name) <= NAME_LIMIT_BYTES:
            message = f"the name of a field has from 1 to {NAME_LIMIT_BYTES} bytes"
            raise InvalidMetadata(message)
        encoded.append(var8(name))
        encoded.append(_TEXT + var32(_utf8(content)) if isinstance(content, str) else _BYTES + var32(content))
    return b"".join(encoded)


def decode_fields(content: bytes) -> dict[str, str | bytes]:
    """Return the named fields of a value, in the order of their names.

    Raises:
        Tampered: The content is not what `encode_fields` writes.
    """
    try:
        return _decode(Cursor(content))
    except (Malformed, UnicodeDecodeError):
        message = "the fields of a value are malformed"
        raise Tampered(message) from None


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        message = "a field holds text that is not Unicode"
        raise InvalidMetadata(message, hint="give bytes instead of text") from None


def _decode(cursor: Cursor) -> dict[str, str | bytes]:
    fields: dict[str, str | bytes] = {}
    before = b""
    for _ in range(cursor.u16()):
        name = cursor.var8()
        # Every name is after the empty one, so this refuses an empty name too.
        if name <= before:
            message = "names do not ascend"
            raise Malformed(message)
        before = name
        kind = cursor.take(1)
        if kind not in {_BYTES, _TEXT}:
            message = "a field is neither bytes nor text"
            raise Malformed(message)
        raw = cursor.var32()
        fields[name.decode()] = raw if kind == _BYTES else raw.decode()
    cursor.finish()
    return fields
