"""How long a policy decision takes, and that it does not grow with the policy.

Run with `python -m benchmarks.policy_decisions`. Each round measures in turn, for every size of policy, uncached
decisions (another path each time) and the floor: the engine on pre-parsed handles with a rule of one clause. Then
listings of 100,000 paths, and compilation.
"""

from __future__ import annotations

import itertools
import time
from datetime import UTC, datetime
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

import cedarpy

from securecfg.policy import Document, Policy, Request, compile_policy

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS = 7
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


def microseconds(run: Callable[[], object], count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        run()
    return (time.perf_counter() - start) / count * 1e6


def decider(policy: Policy, size: int, kind: int) -> Callable[[], object]:
    """Return one decision on another secret each time, by a rule with one kind of condition."""
    folder = size // 2 // len(CONDITIONS) * len(CONDITIONS) + kind
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


def spread(values: list[float]) -> str:
    return f"{median(values):8.1f} ({min(values):.1f}-{max(values):.1f})"


def main() -> None:
    policies: dict[int, Policy] = {}
    for size in SIZES:
        start = time.perf_counter()
        policies[size] = policy_of(size)
        print(f"compile {size:6} rules: {time.perf_counter() - start:7.3f} s")
    runs = {"engine alone": floor()}
    for size, policy in policies.items():
        for kind, condition in enumerate(CONDITIONS):
            runs[f"{size:6} rules, {condition or 'plain'}"] = decider(policy, size, kind)
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            found[name].append(microseconds(run, DECISIONS))
    print(f"\ndecision, uncached, us: median (least-most) of {ROUNDS} rounds; to reach: {TO_REACH_US:.0f}")
    for name, values in found.items():
        print(f"{name:75} {spread(values)}")
    paths = [f"f{number % 1_000}/app{number % 7}/{number}" for number in range(PATHS)]
    template = Request("svc:s0", "list", "", CONTEXT, NOW)
    for size, policy in policies.items():
        listing = [microseconds(partial(policy.decide_many, template, paths), 1) / 1e3 for _ in range(ROUNDS)]
        print(f"list {PATHS} paths, {size:6} rules, ms: {spread(listing)}")


if __name__ == "__main__":
    main()
