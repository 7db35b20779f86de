"""What a path pattern matches, against a matcher of segments written apart."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securecfg.policy import Document, Policy, Request, compile_policy, parse_pattern, pattern_problem
from tests.policy.worlds import START

NAME = st.sampled_from(["a", "b", "ab", "aa", "b-a", "payments", "payments2"])
PATH = st.lists(NAME, min_size=1, max_size=5).map("/".join)
SEGMENT = st.one_of(NAME, st.sampled_from(["*", "a*", "*a", "a*b", "*-*"]))
PATTERN = st.builds(
    lambda segments, tail: "/".join([*segments, *tail]) or "**",
    st.lists(SEGMENT, max_size=4),
    st.sampled_from([[], ["**"]]),
)


def granting(*patterns: str) -> Policy:
    paths = ", ".join(f'"{pattern}"' for pattern in patterns)
    text = f'[roles.web]\nmembers = ["svc:web"]\n[[roles.web.grants]]\nactions = ["list"]\npaths = [{paths}]\n'
    return compile_policy([Document("t", "grants", text)])


def asking(path: str) -> Request:
    return Request("svc:web", "list", path, {}, START)


def matches(pattern: str, path: str) -> bool:
    wanted, names = pattern.split("/"), path.rstrip("/").split("/") if path else []
    is_folder = not path or path.endswith("/")
    if wanted[-1] == "**":
        wanted = wanted[:-1]
        folders = names if is_folder else names[:-1]
        return len(folders) >= len(wanted) and all(map(fnmatch.fnmatchcase, folders, wanted))
    return not is_folder and len(names) == len(wanted) and all(map(fnmatch.fnmatchcase, names, wanted))


@settings(max_examples=150, deadline=None)
@given(st.lists(PATTERN, min_size=1, max_size=4, unique=True), st.lists(PATH, min_size=1, max_size=12))
def test_a_path_is_granted_if_one_pattern_matches_its_segments(patterns: list[str], paths: list[str]) -> None:
    policy = granting(*patterns)
    paths = [*paths, *(f"{path}/" for path in paths), ""]
    expected = [any(matches(pattern, path) for pattern in patterns) for path in paths]
    assert [policy.decide(asking(path)).allowed for path in paths] == expected
    assert policy.decide_many(asking(""), paths) == expected
    assert [policy.explain(asking(path)).withheld for path in paths] == [""] * len(paths)


@settings(max_examples=300, deadline=None)
@given(PATTERN, st.lists(PATH, min_size=1, max_size=12))
def test_a_pattern_fits_the_same_secrets_where_no_policy_is_asked(text: str, paths: list[str]) -> None:
    assert pattern_problem(text) is None
    pattern = parse_pattern(text)
    fitting = [path for path in paths if pattern.to_regex().fullmatch(path)]
    assert fitting == [path for path in paths if matches(text, path)]
    assert all(path.startswith(pattern.beginning) for path in fitting)


@pytest.mark.parametrize(
    ("text", "beginning"),
    [("db/main", "db/main"), ("db/**", "db/"), ("**", ""), ("db/m*", "db/m"), ("*/**", ""), ("a/*/b/**", "a/")],
)
def test_a_pattern_says_what_all_that_matches_begins_with(text: str, beginning: str) -> None:
    assert parse_pattern(text).beginning == beginning


def test_what_a_pattern_writes_out_is_no_expression() -> None:
    assert parse_pattern("a.c/(x)").to_regex().fullmatch("abc/x") is None
    assert parse_pattern("a.c/(x)").to_regex().fullmatch("a.c/(x)")


def test_a_folder_does_not_match_its_longer_namesake() -> None:
    policy = granting("payments/**")
    assert policy.decide(asking("payments/x")).allowed
    assert not policy.decide(asking("payments2/x")).allowed
    assert not policy.decide(asking("paymentsx")).allowed


def test_a_subtree_holds_its_folder_but_no_secret_of_the_same_name() -> None:
    for pattern in ("payments/**", "pay*/**"):
        policy = granting(pattern)
        assert policy.decide(asking("payments/")).allowed
        assert not policy.decide(asking("payments")).allowed


def test_a_star_does_not_cross_a_slash() -> None:
    policy = granting("a/*/b")
    assert policy.decide(asking("a/x/b")).allowed
    assert not policy.decide(asking("a/x/y/b")).allowed
    assert not policy.decide(asking("a/b")).allowed


def test_case_matters() -> None:
    assert not granting("payments/**").decide(asking("Payments/x")).allowed


def test_characters_that_mean_something_elsewhere_mean_themselves() -> None:
    for name in ["a.b", "[ab]", "a in [b", "(x", "é", "a'b", "x && y", "$x", "a+b"]:
        policy = granting(f"{name}/*")
        assert policy.decide(asking(f"{name}/x")).allowed
        assert policy.decide_many(asking(""), [f"{name}/x", "aXb/x", "a/x"]) == [True, False, False]
        assert granting(name).decide(asking(name)).allowed


def test_a_listing_of_something_else_than_secrets_is_decided_one_by_one() -> None:
    policy = granting("**")
    template = asking("")._replace(action="audit.read")
    assert policy.decide_many(template, ["", "a"]) == [False, False]


@pytest.mark.parametrize(
    ("condition", "paths"),
    [
        ('resource.path == "a/b"', ["a/b"]),
        ('!(resource.path == "a/b")', ["a", "a/c", "b/c/d"]),
        ('resource in [Secret::"a", Secret::"a/c"] && resource.depth > 1', ["a/c"]),
        ("resource.depth > 1 && resource in [resource]", ["a/b", "a/c", "b/c/d"]),
        ("resource is Folder || resource.depth >= 3", ["b/c/d"]),
        ('resource is User || resource in User::"x" || resource == Folder::"a"', []),
        ('resource.hasTag("2") && resource.getTag("2") == "c"', ["b/c/d"]),
        ("resource.hasTag(resource.path)", []),
        ('(if resource.depth == 1 then "x" else "y") like "x"', ["a"]),
        ('(if resource.depth == 1 then "x" else "y") == "x"', ["a"]),
        ("context.mfa || resource.depth == 1", ["a"]),
        ('resource in [Secret::"a", Secret::"a/c"]', ["a", "a/c"]),
        ("true } unless { resource.depth == 1", ["a/b", "a/c", "b/c/d"]),
        ("resource.depth == 2 } when { resource.depth != 1", ["a/b", "a/c"]),
        ("resource.depth <= 2 && resource.depth != 1 && resource.depth < 3", ["a/b", "a/c"]),
    ],
)
def test_a_listing_by_hand_written_conditions_is_like_one_request_after_another(
    condition: str, paths: list[str]
) -> None:
    text = f'@id("p") permit (principal, action == Action::"list", resource) when {{ {condition} }};'
    policy = compile_policy([Document("c", "cedar", text)])
    asked = ["a", "a/b", "a/c", "b/c/d"]
    assert [
        path for path, allowed in zip(asked, policy.decide_many(asking(""), asked), strict=True) if allowed
    ] == paths
    assert [path for path in asked if policy.decide(asking(path)).allowed] == paths
