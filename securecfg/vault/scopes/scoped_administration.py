"""Policy, roles and members of a vault with sealed scopes, as administrators change them: the scopes have them too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.errors import SecurecfgError
from securecfg.keys.role_keys import membership_row_of
from securecfg.store import Delete, Space
from securecfg.vault.administration import Administration
from securecfg.vault.members import identities_of
from securecfg.vault.scopes.registry import read_registry
from securecfg.vault.scopes.scopes import Scopes

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.audit import Event
    from securecfg.keys import Identity as PublicHalf
    from securecfg.vault.administration import Change
    from securecfg.vault.authority import Authority
    from securecfg.vault.trust.signatories import Signing


class ScopedAdministration(Administration):
    """Policy and roles of a vault with sealed scopes; what is changed reaches these too.

    Args:
        authority: Decides and records in the vault.
        signing: Returns who signs, for some administrators, who is a new member of a role; see `Scopes.with_signing`.
    """

    def __init__(self, authority: Authority, signing: Signing | None = None) -> None:
        """Change nothing yet."""
        super().__init__(authority)
        self._signing = signing

    def propagate(self) -> None:
        """Bring policy, roles and members to the scopes where they differ; see `Scopes.propagate`."""
        Scopes.with_signing(self._authority, self._signing).propagate()

    def remove_member(self, role: str, principal: str) -> None:
        """Take a role from a principal, and the row by which it comes to the key of the role; see `Administration`.

        A key that it has copied stays known to it: `RoleRotation` gives the role another one. The row of the last one
        who has the key stays, since without it nobody could let anybody else in.
        """
        scopes = Scopes(self._authority)
        was_member, gone = scopes.has_member(role, principal), identities_of(self._opened).get(principal)
        try:
            super().remove_member(role, principal)
        except SecurecfgError:
            # Where it has the role no more, what is left to do is in the scopes.
            if was_member and not scopes.has_member(role, principal):
                self._delete_membership(role, gone)
            raise
        self._delete_membership(role, gone)

    def _delete_membership(self, role: str, gone: PublicHalf | None) -> None:
        key = read_registry(self._opened).roles.get(role)
        if gone is not None and key is not None and Scopes(self._authority).holders(role, key):
            self._opened.store.stage([Delete(Space.GRANT, membership_row_of(gone, key))])

    def _replace(self, right: str, event: Event, make: Callable[[], Change]) -> int:
        number = super()._replace(right, event, make)
        self.propagate()
        return number
