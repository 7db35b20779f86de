"""How members come to the keys of their roles: what an identity opens of a vault without its root."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.errors import Tampered, WrongKey
from securecfg.keys.role_keys import membership_info, parse_membership, sealed_membership_of
from securecfg.store import ID_LIMIT, Space

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from securecfg.keys import IdentityProvider
    from securecfg.keys.role_keys import Certificate, RoleKey
    from securecfg.keys.trust import Trust
    from securecfg.store import Store

_ROWS_AT_ONCE = 64


def find_roles(store: Store, vault_id: bytes, provider: IdentityProvider) -> list[tuple[RoleKey, Certificate]]:
    """Return the keys of the roles that an identity is a member of, each with the word of administrators for it.

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
        groups.setdefault(certificate.trust, []).append(key)
    return groups


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
