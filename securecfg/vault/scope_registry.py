"""What a vault knows of its sealed scopes: where they lie, the public keys of roles, and its own key.

The documents lie in the vault under its authenticated state. Nothing in them opens the values of a sealed scope: the
vault's own key opens what lists it, and the seeds of roles are with their members alone.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from securecfg.crypto import generate_key
from securecfg.keys.role_keys import RoleKey
from securecfg.tuples import NamedTuple
from securecfg.vault.administration import to_document
from securecfg.vault.opened import REGISTRY_PATH
from securecfg.vault.paths import SYSTEM, scope_among

if TYPE_CHECKING:
    from collections.abc import Mapping

    from securecfg.vault.drafts import Drafts, NewVersion
    from securecfg.vault.opened import OpenVault
    from securecfg.vault.publishing import Plan

OWN_KEY_PATH = SYSTEM + b"administrator"
ADMINISTRATOR = "administrator"


class ScopePlace(NamedTuple):
    """Where a sealed scope lies.

    Attributes:
        number: Its partition.
        scope_id: The vault id in it, 16 bytes.
    """

    number: int
    scope_id: bytes


class Registry(NamedTuple):
    """The scopes and the keys of roles.

    Attributes:
        scopes: By path, ending in `/`.
        roles: The public key of each role that a scope was granted to, 1,248 bytes.
        formers: The public keys that roles had before, as long as members may need them.
        unfinished: The roles whose newest key is not in every scope yet.
    """

    scopes: dict[str, ScopePlace]
    roles: dict[str, bytes]
    formers: Mapping[str, tuple[bytes, ...]] = MappingProxyType({})
    unfinished: frozenset[str] = frozenset()

    def scope_of(self, path: str) -> str | None:
        """Return the path of the scope that a path lies in, None where it lies in none."""
        return scope_among(self.scopes, path)

    def overlapping(self, scope: str) -> str | None:
        """Return the path of a scope that lies in another one, or in which that lies."""
        return next((other for other in self.scopes if other.startswith(scope) or scope.startswith(other)), None)

    def to_json(self) -> dict[str, Any]:
        """Return the content of the document."""
        return {
            "scopes": {path: [place.number, place.scope_id.hex()] for path, place in self.scopes.items()},
            "roles": {name: b64encode(key).decode() for name, key in self.roles.items()},
            "formers": {name: [b64encode(key).decode() for key in keys] for name, keys in self.formers.items()},
            "unfinished": sorted(self.unfinished),
        }


def read_registry(opened: OpenVault) -> Registry:
    """Return what the vault knows of its scopes.

    Raises:
        Tampered: The document is damaged.
    """
    raw: dict[str, Any] = opened.system_document(REGISTRY_PATH, {})
    scopes = {path: ScopePlace(number, bytes.fromhex(hexed)) for path, (number, hexed) in raw.get("scopes", {}).items()}
    roles = {name: b64decode(key) for name, key in raw.get("roles", {}).items()}
    formers = {name: tuple(b64decode(key) for key in keys) for name, keys in raw.get("formers", {}).items()}
    return Registry(scopes, roles, formers, frozenset(raw.get("unfinished", ())))


def read_own_key(opened: OpenVault) -> RoleKey | None:
    """Return the vault's own key, which opens the scopes, None where there is none yet.

    Raises:
        Tampered: The document is damaged.
    """
    raw: dict[str, str] = opened.system_document(OWN_KEY_PATH, {})
    return RoleKey(ADMINISTRATOR, b64decode(raw["seed"])) if raw else None


def draft_registry(drafts: Drafts, registry: Registry, new: NewVersion) -> Plan:
    """Return the draft that replaces the registry."""
    return drafts.write(REGISTRY_PATH, to_document(registry.to_json()), new)


def draft_own_key(drafts: Drafts, new: NewVersion) -> Plan:
    """Return the draft that makes a new key of the vault's own."""
    return drafts.write(OWN_KEY_PATH, to_document({"seed": b64encode(generate_key()).decode()}), new)
