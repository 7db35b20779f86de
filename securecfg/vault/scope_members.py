"""How members come to the keys of their roles: what an identity opens of a vault without its root."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.errors import Tampered, WrongKey
from securecfg.keys.role_keys import (
    Certificate,
    membership_info,
    membership_row_of,
    parse_membership,
    seal_membership,
    sealed_membership_of,
)
from securecfg.store import ID_LIMIT, Put, Space
from securecfg.vault.charters import Trust
from securecfg.vault.members import identities_of
from securecfg.vault.paths import SYSTEM

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from securecfg.keys import Identity, IdentityProvider
    from securecfg.keys.role_keys import RoleKey
    from securecfg.store import Store
    from securecfg.vault.opened import OpenVault

CERTIFICATES_PATH = SYSTEM + b"certificates"

_ROWS_AT_ONCE = 64


def find_roles(store: Store, vault_id: bytes, provider: IdentityProvider) -> list[tuple[RoleKey, Certificate]]:
    """Return the keys of the roles that an identity is a member of, each with an administrator's word for it.

    Args:
        store: The vault's.
        vault_id: Its id, 16 bytes.
        provider: Holds the identity.

    Raises:
        FileMissing, KeyProviderRefused, KeyProviderUnavailable, SettingMissing, WrongKey: The private half of the
            identity cannot be used.
    """
    member = provider.read_identity()
    found = []
    for sealed in _sealed_memberships(store):
        try:
            key, certificate = parse_membership(provider.open_for_owner(sealed, membership_info(vault_id)))
        except Tampered:
            continue  # somebody else's, or made by somebody who does not know how
        if certificate.is_signed(vault_id, member):
            found.append((key, certificate))
    return found


def trust_of(roles: Sequence[tuple[RoleKey, Certificate]]) -> dict[Trust, list[RoleKey]]:
    """Return the keys of roles by whom their certificates say to believe."""
    groups: dict[Trust, list[RoleKey]] = {}
    for key, certificate in roles:
        groups.setdefault(Trust(certificate.administrators, certificate.threshold), []).append(key)
    return groups


def admit_members(opened: OpenVault, store: Store, vault_id: bytes, keys: Sequence[RoleKey], trust: Trust) -> int:
    """Give the key of a role to those whom an administrator certified as its members, and return how many got it.

    Only who has the key can give it. Each certificate is signed for one member, and the scope's documents vouched for.

    Args:
        opened: A scope that names the roles.
        store: The vault's, where memberships lie.
        vault_id: The vault's id, 16 bytes.
        keys: The keys of roles at hand.
        trust: Whose certificates count.
    """
    signatures: dict[str, dict[str, str]] = opened.system_document(CERTIFICATES_PATH, {})
    identities = identities_of(opened)
    rows = []
    for key in keys:
        for name, signature in signatures.get(key.name, {}).items():
            member = identities.get(name)
            if member is None or store.get(Space.GRANT, membership_row_of(member, key.public_key)) is not None:
                continue
            row = _admission(key, member, vault_id, trust, bytes.fromhex(signature))
            if row is not None:
                rows.append(Put(Space.GRANT, membership_row_of(member, key.public_key), row))
    if rows:
        store.stage(rows)
    return len(rows)


def _admission(key: RoleKey, member: Identity, vault_id: bytes, trust: Trust, signature: bytes) -> bytes | None:
    for signer in trust.administrators:
        certificate = Certificate(key.name, key.public_key, trust.administrators, trust.threshold, signer, signature)
        if certificate.is_signed(vault_id, member):
            return seal_membership(key.seed, certificate, vault_id, member)
    return None


def _sealed_memberships(store: Store) -> Iterator[bytes]:
    first = 0
    while first < ID_LIMIT and (rows := store.scan(Space.GRANT, first, ID_LIMIT - 1, _ROWS_AT_ONCE)):
        for _, row in rows:
            sealed = sealed_membership_of(row)
            if sealed is not None:
                yield sealed
        first = rows[-1][0] + 1


def no_role() -> WrongKey:
    """Return the error for an identity that neither a slot nor a role knows."""
    message = "neither an unlock slot nor a role of the vault knows this identity"
    hint = "an administrator adds it: `securecfg role add ROLE --member PRINCIPAL --identity PUBLIC-FILE`"
    return WrongKey(message, hint=hint)
