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

from securecfg.policy.context import context_key, context_problem, to_json
from securecfg.policy.index import ScopeIndex, candidates
from securecfg.policy.requests import (
    ADMIN_ROLE,
    ADMIN_RULE,
    Decision,
    Entity,
    Request,
    misshapen,
    principal_entity,
    resource_entity,
    time_values,
)
from securecfg.policy.schema import IMPERSONATE, SECRET_ACTIONS
from securecfg.policy.usage import Usage, usage_of

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    from securecfg.policy.explanation import Explanation
    from securecfg.policy.listing import Treatment
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


@dataclass(frozen=True, slots=True)
class Asker:
    """A principal with the roles that it holds.

    Attributes:
        entity: The principal.
        is_admin: Whether it holds `role:admin`.
        handle: The engine's form of the entity.
    """

    entity: Entity
    is_admin: bool
    handle: cedarpy.Entities


class Policy:
    """A compiled policy. It does not change, and many threads may use it at once.

    Attributes:
        digest: `sha256:` and the hash of all that decides: schema, documents and memberships.
    """

    __slots__ = ("_askers", "_contexts", "_index", "_roles", "_set", "_slices", "_treatments", "_usages", "digest")

    def __init__(self, rules: RuleSet, roles: Roles, digest: str) -> None:
        """Use `compile_policy` instead."""
        self.digest = digest
        self._set = rules
        self._roles = roles
        self._index = ScopeIndex(rules.templates)
        self._usages = tuple(usage_of(template.clauses) for template in rules.templates)
        # Caches of what is a pure function of the rules; losing a race costs time, not truth.
        self._askers: dict[tuple[str, frozenset[str]], Asker] = {}
        self._contexts: dict[Hashable, Mapping[str, str] | str] = {}
        self._treatments: dict[int, Treatment] = {}
        self._slices: dict[tuple[int, ...], Slice] = {}

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

    def decide(self, request: Request) -> Decision:
        """Decide one request.

        A request that has no meaning, a context that does not fit the schema, and a rule that cannot be evaluated
        are answered with a denial whose `error` says so; nothing is raised.
        """
        settled = self._settle(request)
        if settled is not None:
            return settled
        asker = self._asker(request)
        resource = self._resource(request)
        return self._evaluate(request, asker, resource, self._candidates(request, asker, resource))

    def _candidates(self, request: Request, asker: Asker, resource: Entity) -> tuple[int, ...]:
        return candidates(self._index.for_principal(request.action, asker.entity.keys), resource.keys)

    def explain(self, request: Request) -> Explanation:
        """Explain the decision on one request, by evaluating every rule with a second evaluator.

        It tells of roles, rules and context, so it is for those who may know them: the caller sees to that.
        """
        from securecfg.policy.explanation import Explainer, Explanation

        settled = self._settle(request)
        if settled is not None:
            roles = tuple(sorted(self.roles_of(request.principal)))
            return Explanation(request.principal, request.action, request.path, roles, settled, ())
        asker = self._asker(request)
        resource = self._resource(request)
        positions = self._candidates(request, asker, resource)
        timed = frozenset(position for position, usage in enumerate(self._usages) if usage.time)
        explainer = Explainer(self._set, timed, positions, asker.entity, resource, request)
        return explainer.explain(self._evaluate(request, asker, resource, positions))

    def _settle(self, request: Request) -> Decision | None:
        """Answer what needs no rules: errors of the request and administrators."""
        error = misshapen(request)
        if error is not None:
            return _failed(error)
        if self._asker(request).is_admin:
            return _BY_ADMIN
        if request.action == IMPERSONATE and ADMIN_ROLE in self.roles_of(request.path):
            return _NOT_FOR_ADMIN
        known = self._host_context(request.context)
        return _failed(known) if isinstance(known, str) else None

    def _host_context(self, context: Mapping[str, object]) -> Mapping[str, str] | str:
        """Return the attributes that the host gives, each in Cedar's JSON, or why they do not fit."""
        key = context_key(context)
        known = self._contexts.get(key) if key is not None else None
        if known is None:
            types = self._set.context_types
            known = context_problem(context, types)
            if known is None:
                known = {name: to_json(name, value, types) for name, value in {"mfa": False, **context}.items()}
            if key is not None:
                _bound(self._contexts)[key] = known
        return known

    def _context(self, request: Request, usage: Usage) -> str:
        """Return what rules look at of the context, in Cedar's JSON."""
        host = self._host_context(request.context)
        attributes = {} if isinstance(host, str) else dict(host)  # `_settle` saw to it that it fits
        wanted = self._set.context_types if usage.whole_context else usage.context
        if usage.time:
            types = self._set.context_types
            times = time_values(request.now)
            attributes |= {name: to_json(name, times[name], types) for name in wanted if name in times}
        return "{" + ",".join(attributes[name] for name in wanted if name in attributes) + "}"

    def _asker(self, request: Request) -> Asker:
        key = (request.principal, request.extra_roles)
        known = self._askers.get(key)
        if known is None:
            own = self._roles.of(request.principal)
            extra = self._roles.closure(request.extra_roles) - {ADMIN_ROLE}
            entity = principal_entity(request.principal, own | extra)
            known = Asker(entity, ADMIN_ROLE in own, cedarpy.Entities.from_json_str(f"[{entity.json}]"))
            _bound(self._askers)[key] = known
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

    def _evaluate(self, request: Request, asker: Asker, resource: Entity, positions: tuple[int, ...]) -> Decision:
        """Let the engine decide by the rules at some positions."""
        if not request.clock_trusted:
            timed = [position for position in positions if self._usages[position].time]
            if any(self._set.templates[position].effect == "forbid" for position in timed):
                return _failed("the clock is behind the log, and a rule that forbids depends on the time")
            if timed:
                untimed = tuple(position for position in positions if position not in timed)
                return replace(self._evaluate(request, asker, resource, untimed), cacheable=False)
        if not positions:
            return _DEFAULT
        rules = self._slice(positions)
        entities = asker.handle
        # The engine takes each entity once: who acts for themselves is both principal and resource.
        if resource.keys[0] != asker.entity.keys[0]:
            entities = entities.with_added_json_str(
                f"[{resource.json_with_tags if rules.usage.tags else resource.json}]"
            )
        result = cedarpy.is_authorized(
            {
                "principal": {"type": asker.entity.type, "id": asker.entity.id},
                "action": {"type": "Action", "id": request.action},
                "resource": {"type": resource.type, "id": resource.id},
                "context": self._context(request, rules.usage),
            },
            rules.handle,
            entities,
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
        settled = self._settle(replace(template, path="any"))
        if template.action not in SECRET_ACTIONS or (settled is not None and settled.error is not None):
            return [self.decide(replace(template, path=path)).allowed for path in paths]
        from securecfg.policy.listing import Listing

        asker = self._asker(template)
        listing = Listing(self._index.for_principal(template.action, asker.entity.keys), self._treatment)
        shared: dict[tuple[int, ...], bool] = {}
        answers: list[bool] = []
        for path in paths:
            positions = listing.rules_for(path)
            if positions is None:
                answers.append(self.decide(replace(template, path=path)).allowed)
                continue
            allowed = shared.get(positions) if settled is None else settled.allowed
            if allowed is None:
                request = replace(template, path=path)
                allowed = self._evaluate(request, asker, resource_entity(path), positions).allowed
                shared[positions] = allowed
            answers.append(allowed)
        return answers

    def _treatment(self, position: int) -> Treatment:
        known = self._treatments.get(position)
        if known is None:
            from securecfg.policy.listing import treatment

            known = self._treatments[position] = treatment(self._set.templates[position])
        return known


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
