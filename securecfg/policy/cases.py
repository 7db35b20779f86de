"""Test cases of a policy as data: who asks what where, and what the answer must be, by which rule.

[[cases]]
name = "the shop reads its database password"
who = "svc:shop"
what = "read"
where = "db/main"
context = { mfa = true }
now = 2026-01-05T09:00:00Z
expected = "allowed"
by = "shop#1"
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from securecfg.errors import InvalidCases
from securecfg.policy.patterns import path_problem
from securecfg.policy.problems import Problem, Problems, did_you_mean, raise_all
from securecfg.policy.requests import Decision, Request, is_principal
from securecfg.policy.schema import ACTIONS, ADMINISTRATIVE_ACTIONS, IMPERSONATE
from securecfg.policy.toml_reader import TableReader, load_toml

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from securecfg.policy.decisions import Policy
    from securecfg.policy.places import Key

MAX_CASES: Final = 4 * 1024 * 1024
MONDAY_NOON: Final = datetime(2026, 1, 5, 12, tzinfo=UTC)
"""What the time is in a case that does not say."""

_KEYS: Final = ("name", "who", "what", "where", "context", "roles", "now", "expected", "by")
_VERDICTS: Final = ("allowed", "denied", "error")


@dataclass(frozen=True, slots=True)
class Case:
    """One case.

    Attributes:
        name: What it is called in results.
        request: What is asked.
        expected: `allowed`, `denied` or `error`; an error denies too, but not by intent.
        by: The rules that must determine the decision, or None where any may.
        place: `document:line:column`.
    """

    name: str
    request: Request
    expected: str
    by: tuple[str, ...] | None
    place: str


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What became of one case.

    Attributes:
        case: The case.
        decision: The decision of the policy.
        failure: Why it is not what the case expects, or an empty string.
    """

    case: Case
    decision: Decision
    failure: str

    @property
    def passed(self) -> bool:
        """Whether the decision is what the case expects."""
        return not self.failure


def parse_cases(document: str, text: str) -> tuple[Case, ...]:
    """Read cases.

    Args:
        document: What places are called by.
        text: A TOML document.

    Raises:
        InvalidCases: Everything that is wrong with it, with places.
    """
    try:
        return _parse(document, text)
    except Problems as found:
        raise_all(InvalidCases, found.problems)


def run_cases(policy: Policy, cases: Sequence[Case]) -> tuple[CaseResult, ...]:
    """Ask a policy all cases, in their order."""
    return tuple(_run(policy, case) for case in cases)


def _run(policy: Policy, case: Case) -> CaseResult:
    decision = policy.decide(case.request)
    verdict = "error" if decision.error is not None else "allowed" if decision.allowed else "denied"
    failure = ""
    if verdict != case.expected:
        why = decision.error or ", ".join(decision.rules) or "no rule permits it"
        failure = f"expected {case.expected}, but it is {verdict} ({why})"
    elif case.by is not None and tuple(sorted(case.by)) != decision.rules:
        failure = f"expected by {_listed(case.by)}, but it is by {_listed(decision.rules)}"
    return CaseResult(case, decision, failure)


def _listed(rules: Sequence[str]) -> str:
    return ", ".join(f"`{rule}`" for rule in rules) or "no rule"


def _parse(document: str, text: str) -> tuple[Case, ...]:
    content, places = load_toml(document, text, MAX_CASES)
    reader = TableReader(document, text, places)
    listed = reader.table((), content, ("cases",)).get("cases", [])
    if not isinstance(listed, list):
        reader.complain(("cases",), "`cases` is not a list of tables", "write each as `[[cases]]`")
        listed = []
    cases = [_case(reader, ("cases", index), value) for index, value in enumerate(listed)]
    if not listed and not reader.problems:
        hint = "a file without a `[[cases]]` would pass whatever the policy says"
        reader.problems.append(Problem(document, 1, 1, "there are no cases", hint))
    if reader.problems:
        raise Problems(sorted(reader.problems))
    return tuple(cases)


def _case(reader: TableReader, key: Key, value: object) -> Case:
    given = reader.table(key, value, _KEYS)
    for needed in ("who", "what", "expected"):
        if needed not in given:
            reader.complain(key, f"a case needs `{needed}`")
    texts = {name: reader.text((*key, name), given.get(name, "")) for name in ("name", "who", "what", "where")}
    request = Request(
        principal=texts["who"],
        action=texts["what"],
        path=texts["where"],
        context=_context(reader, (*key, "context"), given.get("context", {})),
        now=_now(reader, (*key, "now"), given.get("now", MONDAY_NOON)),
        extra_roles=frozenset(role for _, role in reader.texts((*key, "roles"), given.get("roles", []))),
    )
    _check(reader, key, given, request)
    line, column = reader.line_and_column(key)
    return Case(
        name=texts["name"] or f"{request.principal} {request.action} {request.path}".rstrip(),
        request=request,
        expected=str(given.get("expected")),
        by=_by(reader, (*key, "by"), given["by"]) if "by" in given else None,
        place=f"{reader.document}:{line}:{column}",
    )


def _check(reader: TableReader, key: Key, given: Mapping[str, object], request: Request) -> None:
    """Complain about a request that no policy could be asked."""
    if request.principal and not is_principal(request.principal):
        hint = "write `user:NAME` or `svc:NAME`"
        reader.complain((*key, "who"), f"`{request.principal}` is not a principal", hint)
    if request.action and request.action not in ACTIONS:
        hint = did_you_mean(request.action, ACTIONS)
        reader.complain((*key, "what"), f"unknown action `{request.action}`", hint)
    elif request.action in ADMINISTRATIVE_ACTIONS and request.path:
        reader.complain((*key, "where"), f"`{request.action}` takes no `where`", "administration is of the whole vault")
    elif request.action == IMPERSONATE and not is_principal(request.path):
        reader.complain((*key, "where"), "`impersonate` needs the principal to act for in `where`")
    elif request.path and request.action != IMPERSONATE:
        problem = path_problem(request.path.removesuffix("/"))
        if problem:
            reader.complain((*key, "where"), f"the path `{request.path}` {problem}")
    expected = given.get("expected", "allowed")
    if expected not in _VERDICTS:
        message = "`expected` is neither `allowed` nor `denied` nor `error`"
        reader.complain((*key, "expected"), message, did_you_mean(str(expected), _VERDICTS))
    for place, role in reader.texts((*key, "roles"), given.get("roles", [])) if "roles" in given else ():
        if not role.startswith("role:"):
            reader.complain(place, f"`{role}` is not a role", "write `role:NAME`")


def _context(reader: TableReader, key: Key, value: object) -> Mapping[str, object]:
    if isinstance(value, dict):
        return value
    reader.complain(key, "`context` is not a table")
    return {}


def _now(reader: TableReader, key: Key, value: object) -> datetime:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value
    reader.complain(key, "`now` is not a time with a time zone", "for instance 2026-01-05T09:00:00Z")
    return MONDAY_NOON


def _by(reader: TableReader, key: Key, value: object) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,) if value else ()
    return tuple(rule for _, rule in reader.texts(key, value))
