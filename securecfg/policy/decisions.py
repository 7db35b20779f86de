"""The policy: who holds which role, and what the rules say of it.

Nothing is added to what the engine says, except the one built-in rule: who holds `role:admin` may do everything, and
nobody else may act for one who does. That rule needs no engine, which is a large library: it is loaded for the first
request that the rules decide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from securecfg.policy.problems import Problems, raise_invalid
from securecfg.policy.requests import (
    ADMIN_ROLE,
    ADMIN_RULE,
    Decision,
    Entity,
    Request,
    failed,
    misshapen,
    misshapen_path,
    principal_entity,
    resource_entity,
)
from securecfg.policy.schema import IMPERSONATE, SECRET_ACTIONS
from securecfg.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from securecfg.policy.engine import RuleEngine
    from securecfg.policy.explanation import Explanation
    from securecfg.policy.roles import Roles
    from securecfg.policy.rules import Rule, RuleSet

MAX_ASKERS: Final = 4096
_BY_ADMIN: Final = Decision(allowed=True, rules=(ADMIN_RULE,))
_NOT_FOR_ADMIN: Final = Decision(allowed=False, rules=(ADMIN_RULE,))


class Asker(NamedTuple):
    """A principal with the roles that it holds.

    Attributes:
        entity: The principal.
        is_admin: Whether it holds `role:admin`.
    """

    entity: Entity
    is_admin: bool


class Policy:
    """A policy. It does not change, and many threads may use it at once.

    Attributes:
        digest: `sha256:` and the hash of all that decides: schema, documents and memberships.
    """

    __slots__ = ("_askers", "_engine", "_roles", "_set", "digest")

    def __init__(self, rules: RuleSet, roles: Roles, digest: str) -> None:
        """Use `compile_policy` or `open_policy` instead."""
        self.digest = digest
        self._set = rules
        self._roles = roles
        self._engine: RuleEngine | None = None
        # What is a pure function of the roles; losing a race costs time, not truth.
        self._askers: dict[tuple[str, frozenset[str]], Asker] = {}

    @property
    def rules(self) -> tuple[Rule, ...]:
        """All rules, in the order of their documents."""
        return self._set.rules

    def roles_of(self, principal: str) -> frozenset[str]:
        """Return all roles (`role:NAME`) of a principal, roles of roles included."""
        return self._roles.of(principal)

    def administrators(self) -> frozenset[str]:
        """Return the principals that hold `role:admin`."""
        return self._roles.administrators()

    def compile(self) -> RuleEngine:
        """Validate and compile the rules, unless that is done, and return what decides by them.

        Raises:
            InvalidGrants, InvalidPolicy: As for `compile_policy`; never if that is where the policy comes from.
        """
        if self._engine is None:
            from securecfg.policy.engine import RuleEngine

            try:
                self._engine = RuleEngine(self._set)
            except Problems as found:
                raise_invalid(found.problems, self._set.kinds)
        return self._engine

    def decide(self, request: Request) -> Decision:
        """Decide one request.

        A request that has no meaning, a context that does not fit the schema, and a rule that cannot be evaluated
        are answered with a denial whose `error` says so.

        Raises:
            InvalidGrants, InvalidPolicy: The rules had to be compiled for it, and cannot be.
        """
        settled = self._settle(request)
        if settled is not None:
            return settled
        return self.compile().decide(request, self._asker(request).entity, self._resource(request))

    def explain(self, request: Request) -> Explanation:
        """Explain the decision on one request, by evaluating every rule with a second evaluator.

        It tells of roles, rules and context, so it is for those who may know them: the caller sees to that.

        Raises:
            InvalidGrants, InvalidPolicy: The rules had to be compiled for it, and cannot be.
        """
        settled = self._settle(request)
        if settled is not None:
            from securecfg.policy.explanation import Explanation

            roles = tuple(sorted(self.roles_of(request.principal)))
            return Explanation(request.principal, request.action, request.path, roles, settled, ())
        principal, resource, engine = self._asker(request).entity, self._resource(request), self.compile()
        return engine.explainer(request, principal, resource).explain(engine.decide(request, principal, resource))

    def _settle(self, request: Request) -> Decision | None:
        """Answer what needs no rules: errors of the request and administrators."""
        error = misshapen(request)
        if error is not None:
            return failed(error)
        if self._asker(request).is_admin:
            return _BY_ADMIN
        if request.action == IMPERSONATE and ADMIN_ROLE in self.roles_of(request.path):
            return _NOT_FOR_ADMIN
        error = self.compile().context_problem(request.context)
        return None if error is None else failed(error)

    def _asker(self, request: Request) -> Asker:
        key = (request.principal, request.extra_roles)
        known = self._askers.get(key)
        if known is None:
            own = self._roles.of(request.principal)
            extra = self._roles.closure(request.extra_roles) - {ADMIN_ROLE}
            known = Asker(principal_entity(request.principal, own | extra), ADMIN_ROLE in own)
            if len(self._askers) >= MAX_ASKERS:
                self._askers.clear()
            self._askers[key] = known
        return known

    def _resource(self, request: Request) -> Entity:
        if request.action == IMPERSONATE:
            return principal_entity(request.path, self.roles_of(request.path))
        return resource_entity(request.path)

    def decide_many(self, template: Request, paths: Sequence[str]) -> list[bool]:
        """Decide the same question about many paths, for listings.

        Equal to `[policy.decide(template._replace(path=path)).allowed for path in paths]`, and much faster: paths to
        which the same rules apply share one decision where the rules look at nothing else of a path.

        Args:
            template: Who asks what; its path is not used.
            paths: Secrets and folders.

        Raises:
            InvalidGrants, InvalidPolicy: The rules had to be compiled for it, and cannot be.
        """
        settled = self._settle(template._replace(path="any"))
        if template.action not in SECRET_ACTIONS or (settled is not None and settled.error is not None):
            return [self.decide(template._replace(path=path)).allowed for path in paths]
        if settled is not None:
            return [settled.allowed and misshapen_path(template.action, path) is None for path in paths]
        answers = self.compile().decide_many(template, self._asker(template).entity, paths)
        return [
            self.decide(template._replace(path=path)).allowed if answer is None else answer
            for path, answer in zip(paths, answers, strict=True)
        ]
