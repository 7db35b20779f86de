"""Values as what a secret of Azure Key Vault holds: one text, and a content type that says what it stands for. Pure."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Final, NamedTuple

from securecfg.backends.json_fields import to_text
from securecfg.backends.json_fields import to_value as value_of_text
from securecfg.errors import BackendRefused, ValueTooLarge
from securecfg.secret import Secret

if TYPE_CHECKING:
    from securecfg.backends.interface import Content
    from securecfg.vault.values import Value

VALUE_BYTES_MAX: Final = 25_600

TEXT = "text/plain"
FIELDS = "application/json"
BYTES = "application/octet-stream; encoding=base64"
_MAY_BE_FIELDS = frozenset({"", FIELDS})


class Held(NamedTuple):
    """What is held for a value.

    Attributes:
        text: Of at most 25,600 bytes.
        content_type: What it stands for.
    """

    text: str
    content_type: str


def to_held(content: Content) -> Held:
    """Return what is held for a value.

    Raises:
        Unsupported: There are bytes among fields.
        ValueTooLarge: It is longer than a secret may be.
    """
    if isinstance(content, str):
        held = Held(content, TEXT)
    elif isinstance(content, bytes):
        held = Held(b64encode(content).decode(), BYTES)
    else:
        held = Held(str(to_text(content)), FIELDS)
    if len(held.text.encode()) > VALUE_BYTES_MAX:
        message = f"Azure Key Vault takes values of at most {VALUE_BYTES_MAX} bytes"
        raise ValueTooLarge(message, hint="bytes are held as base64, which is a third longer, and fields as JSON")
    return held


def to_value(held: Held, path: str) -> Value:
    """Return the value that a secret stands for, by us or by others.

    Raises:
        BackendRefused: It is marked as bytes of ours, and is no base64.
    """
    if held.content_type == BYTES:
        try:
            content = b64decode(held.text, validate=True)
        except ValueError:
            content = None
        if content is None:
            del held  # a traceback that shows locals must not show it
            message = f"`{path}` in Azure Key Vault is said to be base64, and is not"
            raise BackendRefused(message, hint=f"its content type is `{BYTES}`; somebody else has written it")
        return Secret(content, label=path)
    if held.content_type in _MAY_BE_FIELDS:
        return value_of_text(held.text, path)
    return Secret(held.text, label=path)
