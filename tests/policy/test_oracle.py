"""What the index, the listing and the second evaluator say, against the engine on all rules at once."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from securecfg.policy import compile_policy
from tests.policy.worlds import engine_decision, random_path, random_request, random_world

SEEDS = st.integers(0, 2**32)


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.sampled_from([1, 3, 8, 25]))
def test_a_slice_decides_like_the_whole_policy(seed: int, size: int) -> None:
    random = Random(seed)
    world = random_world(random, size)
    policy = compile_policy(world.documents, memberships=world.memberships)
    for _ in range(20):
        request = random_request(random)
        decision = policy.decide(request)
        assert (decision.allowed, decision.rules, decision.error is not None) == engine_decision(policy, request)


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.sampled_from([1, 3, 8, 25]))
def test_an_explanation_leads_to_the_decision(seed: int, size: int) -> None:
    random = Random(seed)
    world = random_world(random, size)
    policy = compile_policy(world.documents, memberships=world.memberships)
    for _ in range(20):
        request = random_request(random)._replace(clock_trusted=random.random() < 0.8)
        explanation = policy.explain(request)
        assert explanation.decision == policy.decide(request)
        assert explanation.withheld == ""
        applied = tuple(sorted(rule.id for rule in explanation.rules if rule.id in explanation.decision.rules))
        assert applied == explanation.decision.rules


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.sampled_from([1, 3, 8, 25]))
def test_a_listing_decides_like_one_request_after_another(seed: int, size: int) -> None:
    random = Random(seed)
    world = random_world(random, size)
    policy = compile_policy(world.documents, memberships=world.memberships)
    template = random_request(random)._replace(action=random.choice(["list", "read"]))
    paths = [random_path(random) + random.choice(["", "", "", "/"]) for _ in range(60)] + ["", "/a", "a//b"]
    one_by_one = [policy.decide(template._replace(path=path)).allowed for path in paths]
    assert policy.decide_many(template, paths) == one_by_one


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_what_is_cacheable_does_not_change_with_time(seed: int) -> None:
    random = Random(seed)
    world = random_world(random, 8)
    policy = compile_policy(world.documents, memberships=world.memberships)
    for _ in range(10):
        request = random_request(random)
        decision = policy.decide(request)
        if decision.cacheable:
            later = request._replace(now=random_request(random).now)
            assert policy.decide(later) == decision
