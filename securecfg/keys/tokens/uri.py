"""PKCS#11 URIs (RFC 7512), read strictly: what is not understood is refused, not ignored."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote_to_bytes

from securecfg.errors import InvalidKeyUri

if TYPE_CHECKING:
    from collections.abc import Mapping

    from securecfg.keys.provider import KeyUri

# RFC 7512, section 2.3: pk11-pchar and pk11-qchar.
_PATH_VALUE = re.compile(r"(?:[A-Za-z0-9._~:\[\]@!$'()*+,=&-]|%[0-9A-Fa-f]{2})+", re.ASCII)
_QUERY_VALUE = re.compile(r"(?:[A-Za-z0-9._~:\[\]@!$'()*+,=/?|-]|%[0-9A-Fa-f]{2})+", re.ASCII)
_SLOT_ID = re.compile(r"[0-9]{1,19}", re.ASCII)
_MODULE_NAME = re.compile(r"[A-Za-z0-9._+-]{1,64}", re.ASCII)
_PATH_NAMES = frozenset({"token", "manufacturer", "serial", "model", "slot-id", "object", "id", "type"})
_QUERY_NAMES = frozenset({"module-path", "module-name", "pin-source", "pin-value"})
_TYPES = frozenset({"secret-key", "private"})

_EXAMPLE = "for instance `pkcs11:token=hsm;object=vault?module-path=/usr/lib/softhsm/libsofthsm2.so`"


class TokenUri(NamedTuple):
    """What a PKCS#11 URI names. What it does not mention is None.

    Attributes:
        token: The token's label.
        manufacturer: Who made the token.
        serial: Its serial number.
        model: Its model.
        slot_id: The slot in which it is.
        object: The key's label.
        id: The key's CKA_ID.
        type: `secret-key` or `private`.
        module_path: The library that speaks to the token.
        module_name: The same by its name, without folder, `lib` and `.so`.
        pin_source: Where the PIN comes from.
    """

    token: str | None
    manufacturer: str | None
    serial: str | None
    model: str | None
    slot_id: int | None
    object: str | None
    id: bytes | None
    type: str | None
    module_path: str | None
    module_name: str | None
    pin_source: str | None

    @property
    def key_name(self) -> str:
        """What to call the key in messages."""
        return self.object if self.object is not None else f"id {self.id.hex()}" if self.id else ""

    def of_token(self) -> TokenUri:
        """Return what it says of the token and the module alone."""
        return self._replace(object=None, id=None, type=None, pin_source=None)

    @property
    def token_name(self) -> str:
        """What to call the token in messages."""
        named = (self.token, self.serial, None if self.slot_id is None else f"slot {self.slot_id}", self.model)
        return next((name for name in named if name), "any token")


def parse_token_uri(uri: KeyUri) -> TokenUri:
    """Return what a PKCS#11 URI names.

    Raises:
        InvalidKeyUri: It is none, names no key or no module, holds a PIN, or has an attribute that is not understood.
    """
    # Its parts are not kept in variables, which a traceback might show: somebody may have written a PIN there.
    named = _attributes(uri.rest.partition("?")[0].split(";"), _PATH_NAMES, _PATH_VALUE)
    asked = _attributes(uri.rest.partition("?")[2].split("&"), _QUERY_NAMES, _QUERY_VALUE)
    if "pin-value" in asked:
        asked.clear()
        message = "a PIN does not belong into a key URI"
        raise InvalidKeyUri(message, hint="it is asked for, or comes from `pin-source=env:NAME`, `fd:N` or `file:PATH`")
    if not named.keys() & {"object", "id"}:
        message = "a `pkcs11:` key has a label or an id"
        raise InvalidKeyUri(message, hint=_EXAMPLE)
    if ("module-path" in asked and "module-name" in asked) or not asked.keys() & {"module-path", "module-name"}:
        message = "a `pkcs11:` key names its module, once"
        raise InvalidKeyUri(message, hint=_EXAMPLE)
    return TokenUri(
        token=_text(named, "token"),
        manufacturer=_text(named, "manufacturer"),
        serial=_text(named, "serial"),
        model=_text(named, "model"),
        slot_id=_slot_id(named),
        object=_text(named, "object"),
        id=unquote_to_bytes(named["id"]) if "id" in named else None,
        type=_type(named),
        module_path=_module_path(asked),
        module_name=_module_name(asked),
        pin_source=_text(asked, "pin-source"),
    )


def _attributes(parts: list[str], names: frozenset[str], value: re.Pattern[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in parts:
        name, equals, content = part.partition("=")
        if name not in names or name in found or not equals or not value.fullmatch(content):
            known = ", ".join(f"`{known}`" for known in sorted(names - {"pin-value"}))
            del part, parts, name, content, found
            message = (
                "a `pkcs11:` key has an attribute that is unknown, empty, there twice or not written as in RFC 7512"
            )
            raise InvalidKeyUri(message, hint=f"there may be {known}, each once")
        found[name] = content
    return found


def _text(attributes: Mapping[str, str], name: str) -> str | None:
    content = attributes.get(name)
    if content is None:
        return None
    try:
        text = unquote_to_bytes(content).decode()
    except UnicodeDecodeError:
        text = ""
    if not text.isprintable() or not text:
        message = f"the attribute `{name}` of a `pkcs11:` key is not text"
        raise InvalidKeyUri(message, hint=_EXAMPLE)
    return text


def _slot_id(attributes: Mapping[str, str]) -> int | None:
    content = attributes.get("slot-id")
    if content is None:
        return None
    if not _SLOT_ID.fullmatch(content):
        message = "the `slot-id` of a `pkcs11:` key is not a number"
        raise InvalidKeyUri(message, hint=_EXAMPLE)
    return int(content)


def _type(attributes: Mapping[str, str]) -> str | None:
    content = attributes.get("type")
    if content is not None and content not in _TYPES:
        message = "a `pkcs11:` key is of the type `secret-key` or `private`"
        raise InvalidKeyUri(message, hint="an AES key, or the private half of an RSA key")
    return content


def _module_path(attributes: Mapping[str, str]) -> str | None:
    path = _text(attributes, "module-path")
    if path is not None and not path.startswith("/"):
        message = "the `module-path` of a `pkcs11:` key begins with `/`"
        raise InvalidKeyUri(message, hint="a relative one would load whatever lies in the working directory")
    return path


def _module_name(attributes: Mapping[str, str]) -> str | None:
    name = _text(attributes, "module-name")
    if name is not None and not _MODULE_NAME.fullmatch(name):
        message = "the `module-name` of a `pkcs11:` key is a name without folders"
        raise InvalidKeyUri(message, hint="`softhsm2` for `libsofthsm2.so`; or `module-path` with the whole path")
    return name
