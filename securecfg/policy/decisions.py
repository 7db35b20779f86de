"""The policy: decides requests by the rules that might apply to them.

The Cedar engine skips a rule that fails to evaluate, so that a `forbid` with an error forbids nothing. Here any error
denies. Nothing else is added to what the engine says, except the one built-in rule: who holds `role:admin` may do
everything, and nobody else may act for one who does.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeVar

import cedarpy

from securecfg.policy.context import context_json, context_problem
from securecfg.policy.index import ScopeIndex, candidates
from securecfg.policy.requests import (
    ADMIN_ROLE,
    ADMIN_RULE,
    Decision,
    Entity,
    Request,
    context_values,
    misshapen,
    principal_entity,
    resource_entity,
)
from securecfg.policy.schema import IMPERSONATE, TIME_ATTRIBUTES
from securecfg.policy.usage import Usage, usage_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from securecfg.policy.roles import Roles
    from securecfg.policy.rules import Rule, RuleSet

K = TypeVar("K")
V = TypeVar("V")

MAX_CACHED: Final = 4096
_POLICY = re.compile(r"`policy(\d+)`")
_BY_ADMIN: Final = Decision(allowed=True, rules=(ADMIN_RULE,))
_NOT_FOR_ADMIN: Final = Decision(allowed=False, rules=(ADMIN_RULE,))
_DEFAULT: Final = Decision(allowed=False)


def _failed(error: str) -> Decision:
    return Decision(allowed=False, error=error, cacheable=False)


@dataclass(frozen=True, slots=True)
class Slice:
    """Some rules, parsed together.

    Attributes:
        ids: What they are called, in order.
        handle: The engine's form of them.
        usage: What they look at.
    """

    ids: tuple[str, ...]
    handle: cedarpy.PolicySet
    usage: Usage


class Policy:
    """A compiled policy. It does not change, and many threads may use it at once.

    Attributes:
        digest: `sha256:` and the hash of all that decides: schema, documents and memberships.
    """

    __slots__ = ("_index", "_principals", "_roles", "_set", "_slices", "_usages", "digest")

    def __init__(self, rules: RuleSet, roles: Roles, digest: str) -> None:
        """Use `compile_policy` instead."""
        self.digest = digest
        self._set = rules
        self._roles = roles
        self._index = ScopeIndex(rules.templates)
        self._usages = tuple(usage_of(template.clauses) for template in rules.templates)
        # Caches of what is a pure function of the rules; losing a race costs time, not truth.
        self._principals: dict[tuple[str, frozenset[str]], tuple[Entity, bool]] = {}
        self._slices: dict[tuple[int, ...], Slice] = {}

    @property
    def rules(self) -> tuple[Rule, ...]:
        """All rules, in the order of their documents."""
        return self._set.rules

    def roles_of(self, principal: str) -> frozenset[str]:
        """Return all roles (`role:NAME`) of a principal, roles of roles included."""
        return self._roles.of(principal)

    def decide(self, request: Request) -> Decision:
        """Decide one request.

        A request that has no meaning, a context that does not fit the schema, and a rule that cannot be evaluated
        are answered with a denial whose `error` says so; nothing is raised.
        """
        settled = self._settle(request)
        if settled is not None:
            return settled
        principal, _ = self._principal(request)
        resource = self._resource(request)
        maps = self._index.for_principal(request.action, principal.keys)
        return self._evaluate(request, principal, resource, candidates(maps, resource.keys))

    def _settle(self, request: Request) -> Decision | None:
        """Answer what needs no rules: errors of the request and administrators."""
        error = misshapen(request)
        if error is not None:
            return _failed(error)
        if self._principal(request)[1]:
            return _BY_ADMIN
        if request.action == IMPERSONATE and ADMIN_ROLE in self.roles_of(request.path):
            return _NOT_FOR_ADMIN
        types = self._set.context_types
        if not TIME_ATTRIBUTES.isdisjoint(request.context):
            return _failed("the time is the vault's to set, not the context's")
        error = context_problem(request.context, types)
        return None if error is None else _failed(error)

    def _principal(self, request: Request) -> tuple[Entity, bool]:
        """Return who asks, and whether they are an administrator."""
        key = (request.principal, request.extra_roles)
        known = self._principals.get(key)
        if known is None:
            own = self._roles.of(request.principal)
            extra = self._roles.closure(request.extra_roles) - {ADMIN_ROLE}
            known = principal_entity(request.principal, own | extra), ADMIN_ROLE in own
            _bound(self._principals)[key] = known
        return known

    def _resource(self, request: Request) -> Entity:
        if request.action == IMPERSONATE:
            return principal_entity(request.path, self.roles_of(request.path))
        return resource_entity(request.path)

    def _slice(self, positions: tuple[int, ...]) -> Slice:
        known = self._slices.get(positions)
        if known is None:
            rules = [self._set.rules[position] for position in positions]
            usage = Usage()
            for position in positions:
                usage |= self._usages[position]
            handle = cedarpy.PolicySet.from_str("\n".join(rule.cedar for rule in rules))
            known = Slice(tuple(rule.id for rule in rules), handle, usage)
            _bound(self._slices)[positions] = known
        return known

    def _evaluate(self, request: Request, principal: Entity, resource: Entity, positions: tuple[int, ...]) -> Decision:
        """Let the engine decide by the rules at some positions."""
        if not request.clock_trusted:
            timed = [position for position in positions if self._usages[position].time]
            if any(self._set.templates[position].effect == "forbid" for position in timed):
                return _failed("the clock is behind the log, and a rule that forbids depends on the time")
            positions = tuple(position for position in positions if position not in timed)
        if not positions:
            return _DEFAULT
        rules = self._slice(positions)
        usage = rules.usage
        wanted: Iterable[str] = self._set.context_types if usage.whole_context else usage.context
        tagged = resource.json_with_tags if usage.tags else resource.json
        result = cedarpy.is_authorized(
            {
                "principal": {"type": principal.type, "id": principal.id},
                "action": {"type": "Action", "id": request.action},
                "resource": {"type": resource.type, "id": resource.id},
                "context": context_json(context_values(request), self._set.context_types, wanted),
            },
            rules.handle,
            # The engine takes each entity once: who acts for themselves is both principal and resource.
            f"[{principal.json}]" if principal.keys[0] == resource.keys[0] else f"[{principal.json},{tagged}]",
        )
        return _to_decision(result, rules)

    def decide_many(self, template: Request, paths: Sequence[str]) -> list[bool]:
        """Decide the same question about many paths, for listings.

        Equal to `[policy.decide(replace(template, path=path)).allowed for path in paths]`, and much faster: paths to
        which the same rules apply share one decision where the rules look at nothing else of a path.

        Args:
            template: Who asks what; its path is not used.
            paths: Secrets and folders.
        """
        return [self.decide(replace(template, path=path)).allowed for path in paths]


def _bound(cache: dict[K, V]) -> dict[K, V]:
    """Return a cache that has room."""
    if len(cache) >= MAX_CACHED:
        cache.clear()
    return cache


def _to_decision(result: cedarpy.AuthzResult, rules: Slice) -> Decision:
    errors = result.diagnostics.errors
    if errors or result.decision is cedarpy.Decision.NoDecision:
        named = sorted({rules.ids[int(number)] for text in errors for number in _POLICY.findall(text)})
        if named:
            return _failed("could not be evaluated: rule " + ", ".join(f"`{name}`" for name in named))
        return _failed("the policy engine made no decision")
    reasons = sorted(rules.ids[int(reason.removeprefix("policy"))] for reason in result.diagnostics.reasons)
    return Decision(allowed=result.allowed, rules=tuple(reasons), cacheable=not rules.usage.time)
