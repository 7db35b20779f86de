"""Who holds which role, roles of roles included."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.policy.problems import Problem, Problems
from securecfg.policy.requests import ADMIN_ROLE, KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from securecfg.policy.grants import Membership

VAULT = "memberships"
"""What the place of a membership that comes from the vault's state is called."""


class Roles:
    """Memberships of principals and roles in roles."""

    __slots__ = ("_direct",)

    def __init__(
        self, tables: Iterable[tuple[str, Membership]], memberships: Mapping[str, frozenset[str]] | None
    ) -> None:
        """Join the memberships of grant tables with those of the vault.

        Args:
            tables: Names of documents and what they say.
            memberships: For each `user:NAME`, `svc:NAME` or `role:NAME`, the roles (`role:NAME`) it belongs to.

        Raises:
            Problems: Roles contain one another, everyone would be an administrator, or a membership of the vault is
                malformed.
        """
        direct: dict[str, set[str]] = {}
        places: dict[tuple[str, str], Problem] = {}
        for member, roles in (memberships or {}).items():
            for role in roles:
                direct.setdefault(member, set()).add(role)
                places[member, role] = Problem(VAULT, 1, 1, "")
        for document, membership in tables:
            direct.setdefault(membership.member, set()).add(membership.role)
            place = Problem(document, membership.line, membership.column, "")
            places.setdefault((membership.member, membership.role), place)
        self._direct = {member: frozenset(roles) for member, roles in direct.items()}
        wrong = [
            Problem(VAULT, 1, 1, f"`{member}` in `{role}` is no membership of a principal in a role")
            for member, role in places
            if member.partition(":")[0] not in KINDS or not role.removeprefix("role:") or not role.startswith("role:")
        ]
        cycles = [
            Problem(place.document, place.line, place.column, f"`{member}` and `{role}` contain one another")
            for (member, role), place in places.items()
            if member.startswith("role:") and member in self.closure({role})
        ]
        everyone = [
            Problem(place.document, place.line, place.column, f"`{member}` would make everyone an administrator")
            for (member, role), place in places.items()
            if member.endswith(":*") and ADMIN_ROLE in self.closure({role})
        ]
        if wrong or cycles or everyone:
            raise Problems(sorted(wrong + cycles + everyone))

    def closure(self, roles: Iterable[str]) -> frozenset[str]:
        """Return roles with all roles that they belong to."""
        found: set[str] = set()
        waiting = list(roles)
        while waiting:
            role = waiting.pop()
            if role not in found:
                found.add(role)
                waiting.extend(self._direct.get(role, ()))
        return frozenset(found)

    def of(self, principal: str) -> frozenset[str]:
        """Return all roles of a principal."""
        kind = principal.partition(":")[0]
        return self.closure(self._direct.get(principal, frozenset()) | self._direct.get(f"{kind}:*", frozenset()))

    def administrators(self) -> frozenset[str]:
        """Return the principals that hold `role:admin`, directly or through other roles."""
        return frozenset(
            member for member in self._direct if not member.startswith("role:") and ADMIN_ROLE in self.of(member)
        )

    def state(self) -> list[list[object]]:
        """Return all memberships in a canonical order."""
        return [[member, sorted(roles)] for member, roles in sorted(self._direct.items())]
