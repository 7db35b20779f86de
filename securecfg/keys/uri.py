"""Key URIs: `SCHEME:REST` names who holds a key.

The schemes of this package are found in a table, so that they work from a source checkout and cost no scan of the
installed packages; all others are entry points of the group `securecfg.key_providers`, loaded when they are used.
"""

from __future__ import annotations

import re
from importlib import import_module
from typing import TYPE_CHECKING, cast

from securecfg.errors import InvalidKeyUri
from securecfg.keys.provider import KeyUri

if TYPE_CHECKING:
    from securecfg.keys.provider import Ask, KeyProvider, ProviderFactory

ENTRY_POINT_GROUP = "securecfg.key_providers"

BUILT_IN = (
    "awskms",
    "azurekeyvault",
    "command",
    "composite",
    "file",
    "gcpkms",
    "identity",
    "keyring",
    "passphrase",
    "passphrase+file",
    "pkcs11",
    "recovery",
    "shamir",
    "vaulttransit",
)
EXTRAS = {
    "awskms": "boto3",
    "azurekeyvault": "azure.keyvault.keys",
    "gcpkms": "google.cloud.kms",
    "pkcs11": "pkcs11",
    "vaulttransit": "hvac",
}
"""The schemes whose providers need more than this package, and a module of what they need."""

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,31}", re.ASCII)


def open_provider(key: str | KeyProvider, *, ask: Ask | None = None) -> KeyProvider:
    """Return the provider that a key URI names; a provider is returned as it is.

    No file is read, nobody is asked and nothing is called until a key is wrapped or unwrapped.

    Args:
        key: A key URI such as `file:/etc/app.key`, or a provider.
        ask: Asks a person for what the URI does not name a source for.

    Raises:
        InvalidKeyUri: The URI cannot be parsed or its scheme is unknown.
    """
    if not isinstance(key, str):
        return key
    uri = parse_key_uri(key)
    del key
    return _find_factory(uri.scheme)(uri, ask)


def parse_key_uri(text: str) -> KeyUri:
    """Return scheme and rest of a key URI.

    Raises:
        InvalidKeyUri: There is no scheme.
    """
    scheme, colon, rest = text.partition(":")
    scheme = scheme.lower()
    # What was given is not shown, here or below: it may be the passphrase itself.
    if not colon or not _SCHEME.fullmatch(scheme):
        del text, scheme, rest
        message = "a key is given as a URI with a scheme"
        raise InvalidKeyUri(message, hint="for instance `file:PATH`, `passphrase:` or `keyring:`")
    return KeyUri(scheme, rest)


def names_code(text: str) -> bool:
    """Return whether a key URI names a program to start or a library to load, by its path.

    Such a URI is taken from whoever opens a vault, never from a file that may have come from somebody else. A library
    of the system that is named without its path, `module-name=` of `pkcs11:`, is nobody else's choice.

    Raises:
        InvalidKeyUri: It begins with `composite:` and goes on otherwise than it may.
    """
    scheme, _, rest = text.partition(":")
    match scheme.lower():
        case "command":
            return True
        case "pkcs11":
            return any(part.partition("=")[0] == "module-path" for part in rest.partition("?")[2].split("&"))
        case "composite":
            from securecfg.keys.parts import uris_of  # which needs all of the slots

            return any(names_code(one) for one in uris_of(text))
    return False


def distribution_for(scheme: str) -> str:
    """Return what to install for a scheme, as a shell takes it."""
    return f"'securecfg-vault[{scheme}]'"


def _find_factory(scheme: str) -> ProviderFactory:
    if scheme in BUILT_IN:
        module = import_module(f"securecfg.keys.providers.{scheme.replace('+', '_')}")
        return cast("ProviderFactory", module.from_uri)
    from importlib.metadata import entry_points

    found = entry_points(group=ENTRY_POINT_GROUP)
    for entry in found:
        if entry.name == scheme:
            return cast("ProviderFactory", entry.load())
    from difflib import get_close_matches

    known = sorted({*BUILT_IN, *(entry.name for entry in found)})
    close = get_close_matches(scheme, known, n=1)
    message = "no key provider has the scheme that the key URI begins with"
    hint = f"did you mean `{close[0]}:`?" if close else "known are " + ", ".join(f"`{name}:`" for name in known)
    raise InvalidKeyUri(message, hint=hint)
