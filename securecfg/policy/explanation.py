"""Why a request was allowed or denied: which rules came near, and what each of their clauses saw and needs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal

from cedarpy import pst

from securecfg.policy.evaluation import EvaluationFailed, Evaluator
from securecfg.policy.index import scope_actions
from securecfg.policy.rendering import cedar_text
from securecfg.policy.requests import ADMIN_ROLE, ADMIN_RULE, Decision, context_values
from securecfg.policy.schema import ROOT
from securecfg.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from securecfg.policy.requests import Entity, Request
    from securecfg.policy.rules import Rule, RuleSet

Part = Literal["principal", "action", "resource", "when", "unless", "clock"]
Outcome = Literal["true", "false", "error", "not reached"]

MAX_IN_WORDS: Final = 5
_WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_PRINCIPALS: Final = {"User": "user", "Service": "svc", "Role": "role"}


@dataclass(frozen=True, slots=True)
class Clause:
    """One thing that a rule asks for.

    Attributes:
        part: Where in the rule it stands.
        text: As Cedar writes it.
        needs: What it needs, in words.
        outcome: `true` where the rule has what it asks for; for an `unless`, where its condition is false.
        seen: What it looked at, by name, as text.
    """

    part: Part
    text: str
    needs: str
    outcome: Outcome
    seen: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RuleExplanation:
    """What became of one rule.

    Attributes:
        id: As in decisions.
        effect: `permit` or `forbid`.
        place: `document:line:column`.
        applies: Whether all its clauses are true; None where one of them cannot be evaluated.
        clauses: In the order of the rule: principal, action, resource, then the rest.
    """

    id: str
    effect: pst.Effect
    place: str
    applies: bool | None
    clauses: tuple[Clause, ...]

    @property
    def missing(self) -> tuple[Clause, ...]:
        """The clauses that keep the rule from applying."""
        return tuple(clause for clause in self.clauses if clause.outcome in {"false", "error"})


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a decision is what it is.

    Attributes:
        principal: Who asked.
        action: What for.
        path: On what.
        roles: What the principal held.
        decision: The decision.
        rules: The rules that determine it, then those that come near, nearest first.
        withheld: Why there are no rules here, or an empty string. An explanation that does not lead to the same
            decision as the engine's is not shown.
    """

    principal: str
    action: str
    path: str
    roles: tuple[str, ...]
    decision: Decision
    rules: tuple[RuleExplanation, ...]
    withheld: str = ""

    def __str__(self) -> str:
        """Tell it in words, one line for each fact."""
        return "\n".join(self._lines())

    def to_data(self) -> dict[str, object]:
        """Return the same as plain values, for JSON."""
        return {
            "principal": self.principal,
            "action": self.action,
            "path": self.path,
            "roles": list(self.roles),
            "allowed": self.decision.allowed,
            "error": self.decision.error,
            "by": list(self.decision.rules),
            "withheld": self.withheld,
            "rules": [
                {
                    "id": rule.id,
                    "effect": rule.effect,
                    "place": rule.place,
                    "applies": rule.applies,
                    "clauses": [
                        {
                            "part": clause.part,
                            "text": clause.text,
                            "needs": clause.needs,
                            "outcome": clause.outcome,
                            "seen": dict(clause.seen),
                        }
                        for clause in rule.clauses
                    ],
                }
                for rule in self.rules
            ],
        }

    def _lines(self) -> Iterator[str]:
        verdict, may = ("allowed", "may") if self.decision.allowed else ("denied", "may not")
        where = f" `{self.path}`" if self.path else ""
        yield f"{verdict}: `{self.principal}` {may} {self.action}{where}"
        yield from self._reasons()
        if self.withheld:
            yield f"  no explanation: {self.withheld}"
        near = [rule for rule in self.rules if rule.id not in self.decision.rules and rule.missing]
        if self.decision.allowed:
            return
        for rule in near[:MAX_IN_WORDS]:
            yield from _in_words(rule)
        if len(near) > MAX_IN_WORDS:
            yield f"  and {counted(len(near) - MAX_IN_WORDS, 'more rule comes', 'more rules come')} near"

    def _reasons(self) -> Iterator[str]:
        if self.decision.error is not None:
            yield f"  error: {self.decision.error}"
        elif self.decision.rules == (ADMIN_RULE,):
            held = f"the built-in rule: `{ADMIN_ROLE}` may do everything"
            needed = f"the built-in rule: only `{ADMIN_ROLE}` may act for one who holds it"
            yield f"  {held if self.decision.allowed else needed}"
        elif not self.decision.rules and not self.withheld:
            yield "  no rule permits it"
        verb = "permitted" if self.decision.allowed else "forbidden"
        for rule in self.rules:
            if rule.id in self.decision.rules:
                yield f"  {verb} by {rule.id} ({rule.place})"


def _in_words(rule: RuleExplanation) -> Iterator[str]:
    verb = "permit" if rule.effect == "permit" else "forbid"
    if rule.applies is None:
        yield f"  {rule.id} ({rule.place}) cannot be evaluated:"
    else:
        yield f"  {rule.id} ({rule.place}) would {verb} it, but needs"
    for clause in rule.missing:
        seen = "; ".join(clause.seen.values())
        yield f"    - {clause.needs}" + (f"; was {seen}" if seen else "")


@dataclass(frozen=True, slots=True)
class Explainer:
    """Explains one decision by evaluating every rule.

    Attributes:
        rules: All rules.
        timed: Positions of those that mention time.
        candidates: Positions of those that the index finds.
        principal: Who asks.
        resource: About what.
        request: What.
    """

    rules: RuleSet
    timed: frozenset[int]
    candidates: tuple[int, ...]
    principal: Entity
    resource: Entity
    request: Request

    def explain(self, decision: Decision) -> Explanation:
        """Return the explanation of a decision, without rules where it does not lead to the same decision."""
        told = [self._rule(position) for position in range(len(self.rules.rules))]
        by_this = self._decision(told)
        request = self.request
        same = (by_this.allowed, by_this.rules) == (decision.allowed, decision.rules)
        reproduced = same and (by_this.error is None) == (decision.error is None)
        near = [rule for rule in told if rule is not None]
        near.sort(key=lambda rule: (rule.id not in decision.rules, _distance(rule.clauses), len(rule.missing)))
        return Explanation(
            principal=request.principal,
            action=request.action,
            path=request.path,
            roles=tuple(f"role:{name}" for _, name in self.principal.ancestors),
            decision=decision,
            rules=tuple(near) if reproduced else (),
            withheld="" if reproduced else "it does not lead to the decision that was made",
        )

    def _decision(self, told: Sequence[RuleExplanation | None]) -> Decision:
        """Return what the rules as evaluated here decide."""
        templates = self.rules.templates
        timed = self.timed.intersection(self.candidates)
        if not self.request.clock_trusted and any(templates[position].effect == "forbid" for position in timed):
            return Decision(allowed=False, error="clock")
        rules = [rule for rule in told if rule is not None]
        if any(rule.applies is None for rule in rules):
            return Decision(allowed=False, error="evaluation")
        forbids = sorted(rule.id for rule in rules if rule.applies and rule.effect == "forbid")
        permits = sorted(rule.id for rule in rules if rule.applies and rule.effect == "permit")
        return Decision(allowed=bool(permits) and not forbids, rules=tuple(forbids or permits))

    def _rule(self, position: int) -> RuleExplanation | None:
        """Return what becomes of one rule, or None where it does not even come near."""
        rule, template = self.rules.rules[position], self.rules.templates[position]
        scope = self._scope(template)
        farthest = 1 if template.effect == "permit" else 0
        if _distance(scope) > farthest:
            return None
        clauses = [*scope, *self._clauses(rule, template)]
        if _distance(clauses) > farthest:
            return None
        if not self.request.clock_trusted and position in self.timed and template.effect == "permit":
            needs = "a clock that is not behind the log"
            clauses.insert(len(scope), Clause("clock", "", needs, "false", {}))
        first = next((clause.outcome for clause in clauses if clause.outcome != "true"), "true")
        applies = None if first == "error" else first == "true"
        place = f"{rule.document}:{rule.line}:{rule.column}"
        return RuleExplanation(rule.id, template.effect, place, applies, tuple(clauses))

    def _evaluator(self) -> Evaluator:
        context = context_values(self.request)
        return Evaluator(self.principal, self.request.action, self.resource, context, self.rules.context_types)

    def _scope(self, template: pst.Template) -> list[Clause]:
        evaluator = self._evaluator()
        actions = scope_actions(template.action)
        roles = ", ".join(f"role:{name}" for _, name in self.principal.ancestors) or "no role"
        who, what = self.request.principal, self.request.path or "the root folder"
        return [
            _scope_clause("principal", template.principal, evaluator, {"principal": f"{who} with {roles}"}),
            Clause(
                "action",
                "action" if isinstance(template.action, pst.ScopeAny) else _actions_text(actions),
                "to be asked for " + " or ".join(actions),
                "true" if self.request.action in actions else "false",
                {"action": self.request.action},
            ),
            _scope_clause("resource", template.resource, evaluator, {"resource": what}),
        ]

    def _clauses(self, rule: Rule, template: pst.Template) -> Iterator[Clause]:
        """Yield the clauses after the scope; one that fails after another may never have been reached."""
        stopped = False
        conditions = _conditions_of(rule)
        leading = len(template.clauses) - len(conditions)
        for number, clause in enumerate(template.clauses):
            words = conditions[number - leading] if number >= leading and conditions else None
            told = list(self._parts(rule, clause, words))
            if stopped and any(part.outcome == "error" for part in told):
                told = [_unreached(part) for part in told]
            yield from told
            stopped = stopped or any(part.outcome != "true" for part in told)

    def _parts(self, rule: Rule, clause: pst.Clause, words: str | None) -> Iterator[Clause]:
        """Yield one clause, cut at its `&&` where it was written by hand."""
        if isinstance(clause, pst.Unless):
            text = cedar_text(clause.expr)
            yield self._clause("unless", clause.expr, words or f"`{text}` to be false")
            return
        if rule.grant is not None:
            paths = " or ".join(f"`{path}`" for path in rule.grant.paths or rule.grant.principals)
            yield self._clause("when" if words else "resource", clause.expr, words or f"one of {paths}")
            return
        reached = True
        for conjunct in _conjuncts(clause.expr):
            part = self._clause("when", conjunct, f"`{cedar_text(conjunct)}`")
            yield part if reached else _unreached(part)
            reached = reached and part.outcome == "true"

    def _clause(self, part: Part, expr: pst.Expr, needs: str) -> Clause:
        evaluator = self._evaluator()
        try:
            holds = evaluator.is_true(expr) is (part != "unless")
        except EvaluationFailed as error:
            return Clause(part, cedar_text(expr), f"{needs}, but {error}", "error", _shown(evaluator.seen))
        seen = _shown(evaluator.seen)
        if part == "resource":
            seen = {"resource": self.request.path or "the root folder"}
        return Clause(part, cedar_text(expr), needs, "true" if holds else "false", seen)


def _distance(clauses: Sequence[Clause]) -> int:
    """Return how far a rule is: whether it is about another principal, action or path counts, conditions do not."""
    return sum(clause.outcome == "false" and clause.part in {"principal", "action", "resource"} for clause in clauses)


def _unreached(clause: Clause) -> Clause:
    return Clause(clause.part, clause.text, clause.needs, "not reached", {})


def _conjuncts(expr: pst.Expr) -> Iterator[pst.Expr]:
    match expr:
        case pst.BinaryOp("and", left, right):
            yield from _conjuncts(left)
            yield from _conjuncts(right)
        case _:
            yield expr


def _conditions_of(rule: Rule) -> list[str]:
    """Return in words the clauses of a grant that follow the one about its paths."""
    if rule.grant is None:
        return []
    words = [condition.needs for condition in rule.grant.when]
    if rule.grant.unless:
        words.append("not to have " + " and ".join(condition.needs for condition in rule.grant.unless))
    return words


def _scope_clause(
    name: Literal["principal", "resource"],
    constraint: pst.PrincipalOrResourceConstraint,
    evaluator: Evaluator,
    seen: Mapping[str, str],
) -> Clause:
    text, needs = _constraint(name, constraint)
    return Clause(name, text, needs, "true" if evaluator.matches(name, constraint) else "false", seen)


def _constraint(name: str, constraint: pst.PrincipalOrResourceConstraint) -> tuple[str, str]:
    """Return a part of a scope as text and in words."""
    match constraint:
        case pst.ScopeEq(pst.EntityUid() as uid):
            return f"{name} == {uid}", _named(uid)
        case pst.ScopeIn(pst.EntityUid() as uid):
            return f"{name} in {uid}", _inside(uid)
        case pst.ScopeIs(entity_type):
            return f"{name} is {entity_type}", f"a {entity_type.basename.lower()}"
        case pst.ScopeIsIn(entity_type, pst.EntityUid() as uid):
            return f"{name} is {entity_type} in {uid}", f"a {entity_type.basename.lower()} in {_inside(uid)}"
        case _:
            return name, "anything"


def _named(uid: pst.EntityUid) -> str:
    kind = _PRINCIPALS.get(uid.type.basename)
    if kind is not None:
        return f"`{kind}:{uid.id}`"
    return "the root folder" if uid.id == ROOT else f"`{uid.id}`"


def _inside(uid: pst.EntityUid) -> str:
    if uid.type.basename == "Folder":
        return "`**`" if uid.id == ROOT else f"`{uid.id}/**`"
    return _named(uid)


def _actions_text(actions: Sequence[str]) -> str:
    entities = [f'Action::"{action}"' for action in actions]
    return f"action == {entities[0]}" if len(entities) == 1 else f"action in [{', '.join(entities)}]"


def _shown(seen: Mapping[str, object]) -> dict[str, str]:
    return {name: _show(name, value) for name, value in seen.items()}


def _show(name: str, value: object) -> str:
    bare = name.removeprefix("context.")
    match value:
        case None:
            shown = f"no {bare}"
        case bool():
            shown = f"{bare} {'true' if value else 'false'}"
        case datetime():
            shown = f"{value.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        case int() if bare == "weekday":
            shown = _WEEKDAYS[value - 1]
        case int() if bare == "minute_of_day":
            shown = f"{value // 60:02}:{value % 60:02} UTC"
        case list() | tuple() | set() | frozenset():
            shown = f"[{', '.join(sorted(map(str, value)))}]"
        case _:
            shown = f"`{value}`"
    return shown
