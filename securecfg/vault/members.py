"""The public keys of those who hold roles in a vault: what is sealed for them needs nothing else of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.errors import KeyProviderRefused, Tampered
from securecfg.keys.identity import format_identity, parse_identity_file
from securecfg.vault.documents import read_shaped
from securecfg.vault.paths import SYSTEM

if TYPE_CHECKING:
    from collections.abc import Mapping

    from securecfg.keys import Identity
    from securecfg.vault.opened import OpenVault

IDENTITIES_PATH = SYSTEM + b"identities"


def identities_of(opened: OpenVault) -> dict[str, Identity]:
    """Return the public keys that the vault knows, by principal.

    A change of them is always one of the roles too, so the policy's stamp tells that they are still the same.

    Raises:
        Tampered: The document is damaged.
    """
    lines: dict[str, str] = read_shaped(opened, IDENTITIES_PATH, dict, str)
    return {principal: _parse(principal, line) for principal, line in lines.items()}


def identities_to_json(identities: Mapping[str, Identity]) -> dict[str, str]:
    """Return the content of the document."""
    return {principal: format_identity(identity) for principal, identity in identities.items()}


def _parse(principal: str, line: str) -> Identity:
    try:
        identity = parse_identity_file(f"{line}\n".encode()).identity
    except KeyProviderRefused:
        identity = None
    if identity is None or identity.name != principal:
        message = f"the public key of `{principal}` in the vault is damaged"
        raise Tampered(message)
    return identity
