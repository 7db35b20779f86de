"""What a vault knows of its sealed scopes: where they lie, the public keys of roles, and its own key.

The documents lie in the vault under its authenticated state. Nothing in them opens the values of a sealed scope: the
vault's own key opens what lists it, and the seeds of roles are with their members alone.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from securecfg.crypto import generate_key
from securecfg.keys.identity import format_identity, parse_identity_file
from securecfg.keys.role_keys import RoleKey
from securecfg.tuples import NamedTuple
from securecfg.vault.administration import to_document
from securecfg.vault.opened import REGISTRY_PATH
from securecfg.vault.paths import SYSTEM, scope_among
from securecfg.vault.scopes.charters import OWN_ROLE
from securecfg.vault.trust.signatories import own_signatory
from securecfg.vault.trust.successions import Succession, succession_from_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from securecfg.keys import Identity
    from securecfg.keys.trust import Trust
    from securecfg.vault.commits.publishing import Plan
    from securecfg.vault.drafts import Drafts, NewVersion
    from securecfg.vault.opened import OpenVault

BREAK_GLASS_PATH = SYSTEM + b"break-glass"
OWN_KEY_PATH = SYSTEM + b"administrator"
ADMINISTRATORS_PATH = SYSTEM + b"administrators"
ABANDONED_NS = 2 * 3_600 * 1_000_000_000  # no move takes longer: its stagings expire before


class ScopePlace(NamedTuple):
    """Where a sealed scope lies.

    Attributes:
        number: Its partition.
        scope_id: The vault id in it, 16 bytes.
    """

    number: int
    scope_id: bytes


class Making(NamedTuple):
    """A scope that is being made. Until that is done it is nobody's, and secrets that go into it are where they were.

    Attributes:
        place: Where it will lie.
        begun_ns: When it was begun.
    """

    place: ScopePlace
    begun_ns: int


class Registry(NamedTuple):
    """The scopes and the keys of roles.

    Attributes:
        scopes: By path, ending in `/`.
        roles: The public key of each role that a scope was granted to, 1,248 bytes.
        formers: The public keys that roles had before, as long as members may need them.
        unfinished: The roles whose newest key is not in every scope yet.
        making: The scopes that are being made, by path.
        retired: Where scopes lay that were merged, or given up before they were finished; their rows are erased.
    """

    scopes: dict[str, ScopePlace]
    roles: dict[str, bytes]
    formers: Mapping[str, tuple[bytes, ...]] = MappingProxyType({})
    unfinished: frozenset[str] = frozenset()
    making: Mapping[str, Making] = MappingProxyType({})
    retired: tuple[ScopePlace, ...] = ()

    def scope_of(self, path: str) -> str | None:
        """Return the path of the scope that a path lies in, None where it lies in none."""
        return scope_among(self.scopes, path)

    def next_number(self, taken: Iterable[int]) -> int:
        """Return the number of a partition that was never given to a scope; some are taken whatever is said here."""
        places = [*self.scopes.values(), *(making.place for making in self.making.values()), *self.retired]
        return 1 + max([*(place.number for place in places), *taken], default=0)

    def enclosing(self, scope: str) -> str | None:
        """Return the path of the innermost scope that another one lies in, None where it lies in none."""
        return scope_among(self.scopes, scope.removesuffix("/"))

    def without_making(self, scope: str) -> Registry:
        """Return it without a scope that was begun and not finished; its place is retired."""
        making = dict(self.making)
        given_up = making.pop(scope, None)
        return self if given_up is None else self._replace(making=making, retired=(*self.retired, given_up.place))

    def overlapping(self, scope: str) -> str | None:
        """Return the path of a scope that lies in another one, or in which that lies."""
        return _overlapping(self.scopes, scope)

    def begun(self, now_ns: int) -> list[str]:
        """Return the paths of the scopes that are being made, without those that were begun too long ago for that."""
        return [path for path, making in self.making.items() if now_ns - making.begun_ns <= ABANDONED_NS]

    def overlapping_begun(self, scope: str, now_ns: int) -> str | None:
        """Return the path of a scope that is being made in another one or around it, None where there is none."""
        return _overlapping([path for path in self.begun(now_ns) if path != scope], scope)

    def to_json(self) -> dict[str, Any]:
        """Return the content of the document."""
        document: dict[str, Any] = {
            "scopes": {path: _to_json(place) for path, place in self.scopes.items()},
            "roles": {name: b64encode(key).decode() for name, key in self.roles.items()},
            "formers": {name: [b64encode(key).decode() for key in keys] for name, keys in self.formers.items()},
            "unfinished": sorted(self.unfinished),
        }
        if self.making:
            document["making"] = {
                path: [*_to_json(making.place), making.begun_ns] for path, making in self.making.items()
            }
        if self.retired:
            document["retired"] = [_to_json(place) for place in self.retired]
        return document


def read_registry(opened: OpenVault) -> Registry:
    """Return what the vault knows of its scopes.

    Raises:
        Tampered: The document is damaged.
    """
    raw: dict[str, Any] = opened.system_document(REGISTRY_PATH, {})
    scopes = {path: _to_place(*place) for path, place in raw.get("scopes", {}).items()}
    roles = {name: b64decode(key) for name, key in raw.get("roles", {}).items()}
    formers = {name: tuple(b64decode(key) for key in keys) for name, keys in raw.get("formers", {}).items()}
    unfinished = frozenset(raw.get("unfinished", ()))
    making = {
        path: Making(_to_place(number, hexed), begun_ns)
        for path, (number, hexed, begun_ns) in raw.get("making", {}).items()
    }
    retired = tuple(_to_place(*place) for place in raw.get("retired", ()))
    return Registry(scopes, roles, formers, unfinished, making, retired)


class OwnKeys(NamedTuple):
    """The vault's own key, which opens its scopes.

    Attributes:
        current: The key in use.
        made: The first id of the vault that was not given yet when the current one was put in use.
        former: Those that a scope may still need whose key was not replaced yet, the newest first.
    """

    current: RoleKey
    made: int = 0
    former: tuple[RoleKey, ...] = ()

    @property
    def all(self) -> list[RoleKey]:
        """Every key that a scope may need, the one in use first."""
        return [self.current, *self.former]

    def to_json(self) -> dict[str, Any]:
        """Return the content of the document."""
        former = [b64encode(key.seed).decode() for key in self.former]
        current = {"seed": b64encode(self.current.seed).decode(), "made": self.made}
        return current | ({"former": former} if former else {})


class Administrators(NamedTuple):
    """Who signs for a vault's scopes.

    Attributes:
        succession: From the first administrators to those of today.
        people: The public halves of their identities, by the key that they sign with. The vault's own key has none.
        awaited: The digests of the charters that the last of them take over from those before, by the paths of scopes,
            until all are taken over. What former administrators sign afterwards is not among them.
    """

    succession: Succession
    people: dict[bytes, Identity]
    awaited: Mapping[str, bytes] = {}

    @property
    def trust(self) -> Trust:
        """Whose signatures count today."""
        return self.succession.newest

    def to_json(self) -> dict[str, Any]:
        """Return the content of the document."""
        people = [format_identity(person) for person in self.people.values()]
        awaited = {path: digest.hex() for path, digest in self.awaited.items()}
        return {**self.succession.to_json(), "people": people} | ({"awaited": awaited} if awaited else {})


def read_own_keys(opened: OpenVault) -> OwnKeys | None:
    """Return the vault's own key, None where there is none yet.

    Raises:
        Tampered: The document is damaged.
    """
    raw: dict[str, Any] = opened.system_document(OWN_KEY_PATH, {})
    if not raw:
        return None
    current, *former = (RoleKey(OWN_ROLE, b64decode(seed)) for seed in (raw["seed"], *raw.get("former", ())))
    return OwnKeys(current, raw["made"], tuple(former))


def read_administrators(opened: OpenVault, own: RoleKey) -> Administrators:
    """Return who signs for the scopes of a vault: the vault's own key, until others are named.

    Raises:
        Tampered: The document is damaged.
    """
    raw: dict[str, Any] = opened.system_document(ADMINISTRATORS_PATH, {})
    if not raw:
        return Administrators(Succession(own_signatory(own).trust), {})
    people = [parse_identity_file(f"{line}\n".encode()).identity for line in raw["people"]]
    awaited = {path: bytes.fromhex(digest) for path, digest in raw.get("awaited", {}).items()}
    return Administrators(succession_from_json(raw), {person.verifier: person for person in people}, awaited)


def _overlapping(paths: Iterable[str], scope: str) -> str | None:
    return next((other for other in paths if other.startswith(scope) or scope.startswith(other)), None)


def _to_json(place: ScopePlace) -> list[object]:
    return [place.number, place.scope_id.hex()]


def _to_place(number: int, scope_id: str) -> ScopePlace:
    return ScopePlace(number, bytes.fromhex(scope_id))


def draft_registry(drafts: Drafts, registry: Registry, new: NewVersion) -> Plan:
    """Return the draft that replaces the registry."""
    return drafts.write(REGISTRY_PATH, to_document(registry.to_json()), new)


def draft_own_keys(drafts: Drafts, keys: OwnKeys, new: NewVersion) -> Plan:
    """Return the draft that replaces the vault's own key."""
    return drafts.write(OWN_KEY_PATH, to_document(keys.to_json()), new)


def draft_administrators(drafts: Drafts, administrators: Administrators, new: NewVersion) -> Plan:
    """Return the draft that says who signs from now on."""
    return drafts.write(ADMINISTRATORS_PATH, to_document(administrators.to_json()), new)


def new_own_key() -> RoleKey:
    """Return a new key for a vault to have as its own."""
    return RoleKey(OWN_ROLE, generate_key())


def read_break_glass(opened: OpenVault) -> dict[str, list[str]]:
    """Return the roles that are break-glass, each with the scopes that it is still to be granted.

    Raises:
        Tampered: The document is damaged.
    """
    roles: dict[str, list[str]] = opened.system_document(BREAK_GLASS_PATH, {})
    return roles
