"""The values of secrets as rotators take them apart and put them together."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, cast

from securecfg.errors import InvalidRotation
from securecfg.secret import Secret

if TYPE_CHECKING:
    from securecfg.rotation.interface import Fields, Run

_FIELD = re.compile(r"\w[\w.-]{0,63}", re.ASCII)


def is_field_name(text: str) -> bool:
    """Return whether an option of a rotator can name a field."""
    return bool(_FIELD.fullmatch(text))


def text_of(value: Fields | None, field: str, default: str | None = None) -> Secret[str]:
    """Return a field that is text, or with `""` the whole of a value that has no fields.

    Raises:
        InvalidRotation: There is none, and no default.
    """
    found = None if value is None else value.get(field)
    if found is None and default is not None:
        return Secret(default)
    if found is None or not isinstance(found.reveal(), str):
        where = f"a field `{field}`" if field else "a value without fields"
        message = f"the secret has not {where} that is text"
        raise InvalidRotation(message)
    return cast("Secret[str]", found)


def is_current(value: Fields, run: Run) -> bool:
    """Return whether a value is what readers get, and no candidate besides.

    Rotators of what nobody is told of do not look at it: it is what it was, whatever becomes of the run.
    """
    return value == run.current and value != run.pending


def with_field(
    value: Fields | None, field: str, new: Secret[str] | Secret[bytes]
) -> Secret[str] | Secret[bytes] | Fields:
    """Return a value in which one field is another, and the others are as they were.

    Raises:
        InvalidRotation: A value with fields is to be replaced as a whole, or one without has none to replace.
    """
    has_fields = value is not None and "" not in value
    if value is not None and has_fields != bool(field):
        message = (
            "the secret has fields, and the rotation says not which is replaced"
            if has_fields
            else "the secret has no fields"
        )
        raise InvalidRotation(
            message, hint="say it with the option `field`" if has_fields else "leave the option `field` out"
        )
    if not field:
        return new
    return {**(value or {}), field: new}
