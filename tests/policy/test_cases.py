from __future__ import annotations

from datetime import UTC, datetime

import pytest

from securecfg.errors import InvalidCases
from securecfg.policy import Document, compile_policy, parse_cases, run_cases

CASE = '[[cases]]\nwho = "svc:web"\nwhat = "read"\nwhere = "a"\nexpected = "allowed"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "c.toml:1:1: there are no cases"),
        ("cases = []\n", "c.toml:1:1: there are no cases"),
        ("cases = 3\n", "c.toml:1:1: `cases` is not a list of tables"),
        ("case = 3\n", "c.toml:1:1: unknown key `case`"),
        ("cases = [3]\n", "c.toml:1:10: `0` is not a table"),
        ("[[cases]]\n", "c.toml:1:1: a case needs `who`"),
        ('[[cases]]\nwho = "svc:a"\n', "c.toml:1:1: a case needs `what`"),
        (CASE + "by_rule = 'x'\n", "c.toml:6:1: unknown key `by_rule`"),
        (CASE + "name = 3\n", "c.toml:6:1: `name` is not a text"),
        (CASE + "context = 3\n", "c.toml:6:1: `context` is not a table"),
        (CASE + "now = 3\n", "c.toml:6:1: `now` is not a time with a time zone"),
        (CASE + "now = 2026-01-05T09:00:00\n", "c.toml:6:1: `now` is not a time with a time zone"),
        (CASE + "by = 3\n", "c.toml:6:1: `by` is not a list of texts"),
        (CASE + "roles = ['ops']\n", "c.toml:6:10: `ops` is not a role"),
        (CASE.replace("svc:web", "web"), "c.toml:2:1: `web` is not a principal"),
        (CASE.replace("read", "raed"), "c.toml:3:1: unknown action `raed`"),
        (CASE.replace("read", "audit.read"), "c.toml:4:1: `audit.read` takes no `where`"),
        (CASE.replace("read", "impersonate"), "c.toml:4:1: `impersonate` needs the principal"),
        (CASE.replace('"a"', '"/a"'), "c.toml:4:1: the path `/a` has an empty"),
        (CASE.replace("allowed", "yes"), "c.toml:5:1: `expected` is neither"),
        (CASE.replace('"allowed"', "true"), "c.toml:5:1: `expected` is neither"),
        ("[[cases]\n", "c.toml:1:"),
        ("# \x00", "control character"),
        ("# " + "x" * (4 * 1024 * 1024), "longer than"),
        ("a = " + "[" * 5000, "nested too deeply"),
        ("\udcff", "U+DCFF"),
    ],
)
def test_refuses_cases_that_are_wrong(text: str, message: str) -> None:
    with pytest.raises(InvalidCases) as caught:
        parse_cases("c.toml", text)
    assert caught.value.code == "invalid-cases"
    assert message in str(caught.value)


def test_a_case_says_who_what_where_in_which_context_and_when() -> None:
    text = (
        CASE + 'name = "n"\ncontext = { mfa = true }\nroles = ["role:x"]\nnow = 2026-01-05T09:00:00Z\nby = ["a", "b"]\n'
    )
    (case,) = parse_cases("c.toml", text)
    assert (case.name, case.expected, case.by, case.place) == ("n", "allowed", ("a", "b"), "c.toml:1:1")
    request = case.request
    assert (request.principal, request.action, request.path) == ("svc:web", "read", "a")
    assert request.context == {"mfa": True}
    assert request.extra_roles == {"role:x"}
    assert request.now == datetime(2026, 1, 5, 9, tzinfo=UTC)


def test_a_case_is_named_by_what_it_asks_and_is_on_a_working_day_at_noon() -> None:
    (case,) = parse_cases("c.toml", CASE)
    assert case.name == "svc:web read a"
    assert (case.request.now.isoweekday(), case.request.now.hour, case.by) == (1, 12, None)


def test_results_tell_what_is_not_as_expected() -> None:
    table = "[roles.web]\nmembers = ['svc:web']\n[[roles.web.grants]]\nactions = ['read']\npaths = ['a']\n"
    policy = compile_policy([Document("t", "grants", table)])
    text = (
        CASE
        + CASE
        + 'by = "web#1"\n'
        + CASE
        + 'by = "web#2"\n'
        + CASE
        + "by = []\n"
        + CASE
        + 'by = ""\n'
        + CASE.replace('"allowed"', '"denied"')
        + CASE.replace('"a"', '"b"')
        + CASE.replace('"a"', '"b/"').replace('"read"', '"list"')
        + CASE
        + "context = { mfa = 1 }\n"
        + CASE.replace('"allowed"', '"error"')
        + "context = { mfa = 1 }\n"
    )
    results = run_cases(policy, parse_cases("c", text))
    assert [result.failure for result in results] == [
        "",
        "",
        "expected by `web#2`, but it is by `web#1`",
        "expected by no rule, but it is by `web#1`",
        "expected by no rule, but it is by `web#1`",
        "expected denied, but it is allowed (web#1)",
        "expected allowed, but it is denied (no rule permits it)",
        "expected allowed, but it is denied (no rule permits it)",
        "expected allowed, but it is error (the context's `mfa` is not a Bool)",
        "",
    ]
    assert [result.passed for result in results].count(True) == 3
