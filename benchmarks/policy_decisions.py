"""How long a policy decision takes, and that it does not grow with the policy.

Run with `python -m benchmarks --only policy_decisions`. For every size of policy: uncached decisions (another path each
time) beside the floor, the engine on pre-parsed handles with a rule of one clause; a session's repeats; listings of
100,000 paths.
"""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import cedarpy

from benchmarks.rows import alone, interleave, over_floor, repeated
from securecfg.audit import Masker
from securecfg.clock import SystemClock
from securecfg.policy import Document, Policy, Request, compile_policy
from securecfg.vault.session import Identity, Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.rows import Bench, Row

SIZES = (10, 100, 1_000, 10_000)
DECISIONS = 500
PATHS = 100_000
TO_REACH_US = 60.0
NOW = datetime(2026, 1, 5, 9, tzinfo=UTC)
CONTEXT = {"mfa": True, "source": "10.1.2.3", "purpose": "INC-1"}
CONDITIONS = (
    "",
    "when = { mfa = true }",
    'when = { hours = "08:00-18:00", weekdays = "mon-fri" }',
    'when = { source = ["10.0.0.0/8"], purpose = "INC-*" }',
)
KINDS = ("no condition", "a flag", "hours and weekdays", "address and purpose")


def policy_of(size: int) -> Policy:
    """Return a policy of a hundred roles at most, with a grant on a folder of its own for each rule."""
    roles = min(size, 100)
    table = [f'[roles.r{number}]\nmembers = ["svc:s{number}"]\n' for number in range(roles)]
    for number in range(size):
        condition = CONDITIONS[number % len(CONDITIONS)]
        head = f"[[roles.r{number % roles}.grants]]\nid = 'g{number}'\n"
        table.append(f'{head}actions = ["read", "list"]\npaths = ["f{number}/**"]\n{condition}\n')
    half = len(table) // 2
    documents = [
        Document(f"{part}", "grants", "".join(lines)) for part, lines in enumerate((table[:half], table[half:]))
    ]
    return compile_policy([document for document in documents if document.text])


def folder_of(size: int, kind: int) -> int:
    """Return the folder of a rule with one kind of condition, half-way through the policy."""
    return size // 2 // len(CONDITIONS) * len(CONDITIONS) + kind


def decider(policy: Policy, size: int, kind: int) -> Callable[[], object]:
    """Return one decision on another secret each time, by a rule with one kind of condition."""
    folder = folder_of(size, kind)
    principal = f"svc:s{folder % min(size, 100)}"
    numbers = itertools.count()

    def decide() -> None:
        path = f"f{folder}/app/{next(numbers)}"
        assert policy.decide(Request(principal, "read", path, CONTEXT, NOW)).allowed

    decide()
    return decide


def floor() -> Callable[[], object]:
    """Return the engine's decision alone: handles, a small context, one rule."""
    rules = cedarpy.PolicySet.from_str("permit (principal, action, resource) when { context.mfa };")
    entities = cedarpy.Entities.from_json_str("[]")
    request = {
        "principal": {"type": "User", "id": "a"},
        "action": {"type": "Action", "id": "read"},
        "resource": {"type": "Secret", "id": "a"},
        "context": '{"mfa":true}',
    }
    return lambda: cedarpy.is_authorized(request, rules, entities)


def cached(policy: Policy, size: int) -> Callable[[], object]:
    """Return a decision that its session took before."""
    folder = folder_of(size, 0)
    identity = Identity(f"svc:s{folder % min(size, 100)}", context=CONTEXT)
    session = Session(identity, policy, Masker(0, bytes(32)), SystemClock(), clock_trusted=True)
    path = f"f{folder}/app"
    assert session.decide("read", path).cacheable
    return lambda: session.decide("read", path)


def rows(bench: Bench) -> Iterator[Row]:
    sizes = [size for size in SIZES if size <= bench.scale]
    policies = {size: policy_of(size) for size in sizes}
    count = bench.repeats(DECISIONS)
    contenders = {"engine alone": repeated(floor(), count)}
    for size, policy in policies.items():
        contenders[f"cached {size}"] = repeated(cached(policy, size), count * 100)
        for kind in range(len(CONDITIONS)):
            contenders[f"{size} {kind}"] = repeated(decider(policy, size, kind), count)
    found = interleave(contenders, bench.rounds)
    alone_s = ("the engine with one rule", found["engine alone"])
    for size in sizes:
        for kind, name in enumerate(KINDS):
            series = found[f"{size} {kind}"]
            yield alone(f"decision, uncached, {size:,} rules, {name}", series, "s", TO_REACH_US / 1e6)
        yield over_floor(f"decision, uncached, {size:,} rules, {KINDS[0]}", found[f"{size} 0"], alone_s)
        yield alone(f"decision, cached, {size:,} rules", found[f"cached {size}"], "s", 1e-6)
    yield from listings(bench, policies)


def listings(bench: Bench, policies: dict[int, Policy]) -> Iterator[Row]:
    paths = [f"f{number % 1_000}/app{number % 7}/{number}" for number in range(min(PATHS, bench.scale))]
    template = Request("svc:s0", "list", "", CONTEXT, NOW)
    contenders = {
        f"{size}": repeated(partial(policy.decide_many, template, paths), 1) for size, policy in policies.items()
    }
    for size, series in interleave(contenders, bench.rounds).items():
        yield alone(f"listing of {len(paths):,} paths, {int(size):,} rules", series, "s")
