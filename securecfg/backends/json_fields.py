"""Fields in stores that hold one text for each secret: a JSON object (section 4 of the contract). Pure."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from securecfg.errors import Unsupported, ValueTooLarge
from securecfg.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

    from securecfg.backends.interface import Content
    from securecfg.vault.values import Value


def to_text(content: Content) -> str | bytes:
    """Return what a store of one text, or bytes, for each secret holds for a value.

    Raises:
        Unsupported: It would come back as something else.
    """
    if isinstance(content, bytes):
        return content
    if isinstance(content, str):
        if parse_fields(content) is not None:
            message = "a text that is a JSON object of texts would come back as fields"
            raise Unsupported(message, hint="write it as fields")
        return content
    if any(isinstance(part, bytes) for part in content.values()):
        message = "a field of bytes cannot be held, as fields are kept as JSON"
        raise Unsupported(message, hint="write text, for instance base64")
    return json.dumps(dict(content), ensure_ascii=False, separators=(",", ":"))


def held_of(content: Content, bytes_max: int, title: str) -> str | bytes:
    """Return what is held for a value.

    Raises:
        Unsupported: It would come back as something else, or is empty.
        ValueTooLarge: It is longer than the store takes.
    """
    held = to_text(content)
    if not held:
        message = f"{title} holds no empty value"
        raise Unsupported(message)
    if len(held.encode() if isinstance(held, str) else held) > bytes_max:
        message = f"{title} takes values of at most {bytes_max} bytes, fields together with their JSON"
        raise ValueTooLarge(message)
    return held


def to_value(held: str | bytes, label: str) -> Value:
    """Return the value that a text or bytes in such a store stand for."""
    if isinstance(held, bytes):
        return Secret(held, label=label)
    fields = parse_fields(held)
    if fields is None:
        return Secret(held, label=label)
    return {name: Secret(part, label=f"{label}#{name}") for name, part in fields.items()}


def parse_fields(text: str) -> Mapping[str, str] | None:
    """Return the fields of a text that is a JSON object of texts, numbers and truth values; None for any other text.

    What others have put there as a number or a truth value is given as it is written.
    """
    if not text.lstrip(" \t\n\r").startswith("{"):
        return None
    try:
        pairs = json.loads(
            text,
            object_pairs_hook=_Pairs,
            parse_int=str,
            parse_float=str,
            parse_constant=_refuse,
        )
    except (ValueError, RecursionError):
        return None
    if not isinstance(pairs, _Pairs) or not pairs:
        return None
    fields: dict[str, str] = {}
    for name, part in pairs:
        if isinstance(part, bool):
            part = "true" if part else "false"  # noqa: PLW2901 - as it is written
        if not isinstance(part, str) or not name or name in fields:
            return None
        fields[name] = part
    try:
        json.dumps(fields, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # a lone surrogate by an escape
        return None
    return fields


class _Pairs(list[tuple[str, object]]):
    """The members of an object as they are written, so that a name that is there twice is seen."""


def _refuse(_constant: str) -> None:
    message = "no JSON"
    raise ValueError(message)
