"""The second evaluator and the rendering, against the engine."""

from __future__ import annotations

from random import Random

import pytest
from cedarpy import policies_to_pst, pst
from hypothesis import given, settings
from hypothesis import strategies as st

from securecfg.errors import InvalidPolicy
from securecfg.policy import Document, Request, compile_policy
from securecfg.policy.rendering import cedar_text
from tests.policy.worlds import random_path, random_request

LONGS = ["0", "1", "7", "-3", "9223372036854775807", "context.hour", "context.minute_of_day", "resource.depth"]
STRINGS = ['"a"', '"a/b"', '"A*"', '"é"', "resource.path"]
ADDRESSES = ['ip("10.0.0.0/8")', 'ip("10.1.2.3")', 'ip("127.0.0.1")', 'ip("::1")', 'ip("224.0.0.1")', 'ip("ff00::/8")']
INSTANTS = [
    "context.now",
    'datetime("2026-01-06")',
    'datetime("2026-01-05T12:00:00.500Z")',
    'datetime("1969-12-31T23:00:00+0100")',
]
SPANS = ['duration("1d2h3m4s5ms")', 'duration("-90m")', "context.now.toTime()", 'duration("9223372036854775807ms")']
LIKES = ['"*"', '"a*"', '"*/b"', r'"A\*"']
DECIMALS = ['decimal("1.5")', 'decimal("-0.0001")', 'decimal("922337203685477.5807")']
ENTITIES = ["principal", "resource", 'User::"olga"', 'Service::"web"', 'Secret::"a/b"', 'Folder::"a"', 'Role::"ops"']


def long(random: Random, depth: int) -> str:
    if depth == 0 or random.random() < 0.3:
        return random.choice(LONGS)
    inner = long(random, depth - 1)
    span = (
        f"{random.choice(SPANS)}.{random.choice(['toMilliseconds', 'toSeconds', 'toMinutes', 'toHours', 'toDays'])}()"
    )
    return random.choice([f"({inner} {random.choice('+-*')} {long(random, depth - 1)})", f"-({inner})", span])


def comparison(random: Random, depth: int) -> str:
    order = random.choice(["<", "<=", ">", ">=", "==", "!="])
    method = random.choice(["lessThan", "lessThanOrEqual", "greaterThan", "greaterThanOrEqual"])
    sets = ["[1, 2, 7]", "[context.hour]", "[7, resource.depth, 7]"]
    moved = f"{random.choice(INSTANTS)}.offset({random.choice(SPANS)})"
    since = f"{random.choice(INSTANTS)}.durationSince({random.choice(INSTANTS)})"
    pick = random.choice
    return pick(
        [
            f"{long(random, depth)} {order} {long(random, depth)}",
            f"{pick(INSTANTS)} {order} {pick(INSTANTS)}",
            f"{moved} {order} {pick(INSTANTS)}.toDate()",
            f"{since} {order} {pick(SPANS)}",
            f"{pick(SPANS)} {order} {pick(SPANS)}",
            f"{pick(DECIMALS)}.{method}({pick(DECIMALS)})",
            f"{pick(STRINGS)} == {pick(STRINGS)}",
            f"{pick(STRINGS)} like {pick(LIKES)}",
            f"{pick(ADDRESSES)}.isInRange({pick(ADDRESSES)})",
            f"{pick(ADDRESSES)}.{pick(['isIpv4', 'isIpv6', 'isLoopback', 'isMulticast'])}()",
            f"{pick(ADDRESSES)} == {pick(ADDRESSES)}",
            f"{pick(sets)}.{pick(['contains(7)', 'containsAll([7, 2])', 'containsAny([3, 7])', 'isEmpty()'])}",
            f"{pick(sets)} == {pick(sets)}",
            f"{pick(ENTITIES)} in {pick(ENTITIES)}",
            f"{pick(ENTITIES)} is {pick(['User', 'Secret'])}",
            f"{pick(ENTITIES)} is Secret in {pick(ENTITIES)}",
            'principal in [Role::"ops", Role::"web"]',
            "(context has source && context.source.isLoopback())",
            '(if context has purpose then context.purpose else "none") == "INC-1"',
            '{a: {"b c": context.hour}}.a["b c"] == 7',
            "resource has path",
            'Secret::"zz" has depth',
            'Secret::"zz".depth == 1',
            'resource.hasTag("1") && resource.getTag("1") == "a"',
            'Secret::"zz".hasTag("1")',
            "context.mfa",
            "true",
        ]
    )


def condition(random: Random, depth: int) -> str:
    if depth == 0 or random.random() < 0.2:
        return comparison(random, 2)
    left, right = condition(random, depth - 1), condition(random, depth - 1)
    return random.choice(
        [
            f"({left}) && ({right})",
            f"({left}) || ({right})",
            f"!({left})",
            f"if {left} then {right} else {condition(random, depth - 1)}",
        ]
    )


@settings(max_examples=400, deadline=None)
@given(st.integers(0, 2**32))
def test_an_expression_has_the_value_that_the_engine_gives_it(seed: int) -> None:
    random = Random(seed)
    expression = condition(random, 3)
    text = f'@id("p") permit (principal, action in [Action::"read", Action::"list"], resource) when {{ {expression} }};'
    try:
        policy = compile_policy(
            [Document("c", "cedar", text), Document("x", "schema-extension", "type Context = { ticket?: Set<Long> };")],
            memberships={"svc:web": frozenset({"role:ops"})},
        )
    except InvalidPolicy:
        return  # strict validation refuses some combinations of types
    for _ in range(5):
        request = random_request(random)
        request = Request(request.principal, "read", random_path(random), request.context, request.now)
        assert policy.explain(request).withheld == "", (expression, request)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32))
def test_a_rendered_expression_parses_to_the_same_tree(seed: int) -> None:
    text = condition(Random(seed), 3)
    tree = clause_of(text)
    assert clause_of(cedar_text(tree)) == tree


def clause_of(text: str) -> pst.Expr:
    template = policies_to_pst(f"permit (principal, action, resource) when {{ {text} }};").static_policies["policy0"]
    return template.clauses[0].expr


@pytest.mark.parametrize(
    "text",
    [
        'context["a b"] == 1',
        "1 + 2 * 3 - (4 - 5) == -1",
        "(1 + 2) * 3 == 9",
        "-(-3) == 3",
        "!(!context.mfa)",
        "(1 == 2) == (context.mfa == true)",
        'context has "a b"',
        "context has a.b.c",
        '{"a": 1, "b c": [1, 2]}.a == 1',
        "(if true then 1 else 2) == 1",
        '(context.purpose like "a\\*b*") || false',
        'principal is User in Role::"x" && true',
        "[1].isEmpty()",
        "(true || false) && (false || true)",
        "(1 - 2) - 3 == 1 - (2 - 3)",
    ],
)
def test_renders_no_more_parentheses_than_needed(text: str) -> None:
    tree = clause_of(text)
    rendered = cedar_text(tree)
    assert clause_of(rendered) == tree
    assert rendered.count("(") <= text.count("(")


def test_renders_quotes_and_stars_escaped() -> None:
    assert cedar_text(clause_of('context.a like "x\\"\\*y*"')) == 'context.a like "x\\"\\*y*"'
