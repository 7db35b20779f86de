"""Rules at work: which of them might apply to a request, and what the Cedar engine says of those.

The engine skips a rule that fails to evaluate, so that a `forbid` with an error forbids nothing. Here any error denies.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeVar

from securecfg.policy.cedar import load_engine
from securecfg.policy.context import context_key, context_problem, to_json
from securecfg.policy.index import ScopeIndex, candidates
from securecfg.policy.requests import Decision, Entity, Request, failed, resource_entity, time_values
from securecfg.policy.usage import Usage, usage_of
from securecfg.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping, Sequence

    import cedarpy

    from securecfg.policy.cedar import Verdict
    from securecfg.policy.explanation import Explainer
    from securecfg.policy.listing import Treatment
    from securecfg.policy.rules import RuleSet

K = TypeVar("K")
V = TypeVar("V")

MAX_CACHED: Final = 4096
_POLICY: Final = r"`policy(\d+)`"
_DEFAULT: Final = Decision(allowed=False)


class Slice(NamedTuple):
    """Some rules, parsed together.

    Attributes:
        ids: What they are called, in order.
        handle: The engine's form of them.
        usage: What they look at.
    """

    ids: tuple[str, ...]
    handle: cedarpy.PolicySet
    usage: Usage


class RuleEngine:
    """Decides by rules alone. It does not change, and many threads may use it at once."""

    __slots__ = ("_cedar", "_contexts", "_handles", "_index", "_set", "_slices", "_treatments", "_usages")

    def __init__(self, rules: RuleSet) -> None:
        """Take rules.

        Raises:
            Problems: The engine does not accept them.
        """
        self._set = rules
        self._cedar = load_engine()
        self._index = ScopeIndex(rules.trees)
        self._usages = tuple(usage_of(tree["conditions"]) for tree in rules.trees)
        # Caches of what is a pure function of the rules; losing a race costs time, not truth.
        self._handles: dict[str, cedarpy.Entities] = {}
        self._contexts: dict[Hashable, Mapping[str, str] | str] = {}
        self._treatments: dict[int, Treatment] = {}
        self._slices: dict[tuple[int, ...], Slice] = {}

    def decide(self, request: Request, principal: Entity, resource: Entity) -> Decision:
        """Decide a request that has a meaning and a context that fits."""
        return self._evaluate(request, principal, resource, self._candidates(request, principal, resource))

    def explainer(self, request: Request, principal: Entity, resource: Entity) -> Explainer:
        """Return what explains the decision on a request."""
        from securecfg.policy.explanation import Explainer

        positions = self._candidates(request, principal, resource)
        timed = frozenset(position for position, usage in enumerate(self._usages) if usage.time)
        return Explainer(self._set, timed, positions, principal, resource, request)

    def context_problem(self, context: Mapping[str, object]) -> str | None:
        """Return why what the host vouches for does not fit the schema, or None."""
        known = self._host_context(context)
        return known if isinstance(known, str) else None

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

    def _candidates(self, request: Request, principal: Entity, resource: Entity) -> tuple[int, ...]:
        return candidates(self._index.for_principal(request.action, principal.keys), resource.keys)

    def _context(self, request: Request, usage: Usage) -> str:
        """Return what rules look at of the context, in Cedar's JSON."""
        host = self._host_context(request.context)
        attributes = {} if isinstance(host, str) else dict(host)  # the policy saw to it that it fits
        wanted = self._set.context_types if usage.whole_context else usage.context
        if usage.time:
            types = self._set.context_types
            times = time_values(request.now)
            attributes |= {name: to_json(name, times[name], types) for name in wanted if name in times}
        return "{" + ",".join(attributes[name] for name in wanted if name in attributes) + "}"

    def _handle(self, principal: Entity) -> cedarpy.Entities:
        """Return the engine's form of a principal."""
        known = self._handles.get(principal.json)
        if known is None:
            known = _bound(self._handles)[principal.json] = self._cedar.parse_entities(f"[{principal.json}]")
        return known

    def _slice(self, positions: tuple[int, ...]) -> Slice:
        known = self._slices.get(positions)
        if known is None:
            rules = [self._set.rules[position] for position in positions]
            usage = Usage()
            for position in positions:
                usage |= self._usages[position]
            handle = self._cedar.parse_rules("\n".join(rule.cedar for rule in rules))
            known = Slice(tuple(rule.id for rule in rules), handle, usage)
            _bound(self._slices)[positions] = known
        return known

    def _evaluate(self, request: Request, principal: Entity, resource: Entity, positions: tuple[int, ...]) -> Decision:
        """Let the engine decide by the rules at some positions."""
        if not request.clock_trusted:
            timed = [position for position in positions if self._usages[position].time]
            if any(self._set.trees[position]["effect"] == "forbid" for position in timed):
                return failed("the clock is behind the log, and a rule that forbids depends on the time")
            if timed:
                untimed = tuple(position for position in positions if position not in timed)
                return self._evaluate(request, principal, resource, untimed)._replace(cacheable=False)
        if not positions:
            return _DEFAULT
        rules = self._slice(positions)
        entities = self._handle(principal)
        # The engine takes each entity once: who acts for themselves is both principal and resource.
        if resource.keys[0] != principal.keys[0]:
            entities = entities.with_added_json_str(
                f"[{resource.json_with_tags if rules.usage.tags else resource.json}]"
            )
        verdict = self._cedar.decide(
            {
                "principal": {"type": principal.type, "id": principal.id},
                "action": {"type": "Action", "id": request.action},
                "resource": {"type": resource.type, "id": resource.id},
                "context": self._context(request, rules.usage),
            },
            rules.handle,
            entities,
        )
        return _to_decision(verdict, rules)

    def decide_many(self, template: Request, principal: Entity, paths: Sequence[str]) -> list[bool | None]:
        """Decide the same question about many secrets; None stands for a path that has to be decided by itself."""
        from securecfg.policy.listing import Listing

        listing = Listing(self._index.for_principal(template.action, principal.keys), self._treatment)
        shared: dict[tuple[int, ...], bool] = {}
        answers: list[bool | None] = []
        for path in paths:
            positions = listing.rules_for(path)
            allowed = None
            if positions is not None:
                allowed = shared.get(positions)
                if allowed is None:
                    request = template._replace(path=path)
                    allowed = self._evaluate(request, principal, resource_entity(path), positions).allowed
                    shared[positions] = allowed
            answers.append(allowed)
        return answers

    def _treatment(self, position: int) -> Treatment:
        known = self._treatments.get(position)
        if known is None:
            from securecfg.policy.listing import treatment

            known = self._treatments[position] = treatment(self._set.trees[position])
        return known


def _bound(cache: dict[K, V]) -> dict[K, V]:
    """Return a cache that has room."""
    if len(cache) >= MAX_CACHED:
        cache.clear()
    return cache


def _to_decision(verdict: Verdict, rules: Slice) -> Decision:
    if verdict.errors or verdict.decision not in {"Allow", "Deny"}:
        named = sorted({rules.ids[int(number)] for text in verdict.errors for number in re.findall(_POLICY, text)})
        if named:
            return failed("could not be evaluated: rule " + ", ".join(f"`{name}`" for name in named))
        return failed("the policy engine made no decision")
    reasons = sorted(rules.ids[int(reason.removeprefix("policy"))] for reason in verdict.reasons)
    return Decision(allowed=verdict.decision == "Allow", rules=tuple(reasons), cacheable=not rules.usage.time)
