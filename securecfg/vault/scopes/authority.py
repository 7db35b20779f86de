"""The authority of an administrator in a sealed scope, whose policy a writer of the scope may have damaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.errors import InvalidGrants, InvalidPolicy, Tampered
from securecfg.policy import open_policy
from securecfg.vault.authority import Authority
from securecfg.vault.session import Session

if TYPE_CHECKING:
    from securecfg.policy import Decision


class AdministratorAuthority(Authority):
    """Decides by the policy of the scope, and records also where that cannot be read.

    What is decided by the vault's policy alone, such as to put the right one in its place, so goes on and is recorded;
    what the scope's own policy has to decide ends with what is wrong with it.
    """

    def session(self) -> Session:
        """Return the session under the policy of the scope; under one that allows nothing where it cannot be read."""
        try:
            return super().session()
        except (InvalidGrants, InvalidPolicy, Tampered):
            opened, nothing = self.opened, open_policy([], memberships={})
            return Session(self.identity, nothing, opened.masker, opened.clock, clock_trusted=opened.is_clock_trusted())

    def require(self, action: str, path: str) -> tuple[Session, Decision]:
        """Return the session and the decision as `Authority.require` does; without a policy nothing is decided.

        Raises:
            AccessDenied: It is not allowed.
            Tampered: The policy of the scope is damaged.
        """
        super().session()  # under a policy that allows nothing it would be denied, and that recorded as a decision
        return super().require(action, path)
