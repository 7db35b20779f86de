from __future__ import annotations

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securecfg.errors import InvalidGrants, InvalidPolicy
from securecfg.policy import Document, compile_policy, default_documents, format_cedar, format_grants, to_cedar

UNTIDY = """

# who
[roles.web]
members=["svc:web",
 "role:ops", # not this [
   ]
description   =   "a  =  b"
# why
  [[roles.web.grants]]
\tactions   =   ["read"]
paths=["a/**"]


when = {mfa=true}
"""


def test_a_grant_table_gets_its_canonical_form() -> None:
    tidy = format_grants("t", UNTIDY)
    assert (
        tidy
        == """\
# who
[roles.web]
members = ["svc:web",
    "role:ops", # not this [
]
description = "a  =  b"

# why
[[roles.web.grants]]
actions = ["read"]
paths = ["a/**"]

when = {mfa=true}
"""
    )
    assert format_grants("t", tidy) == tidy


def test_an_empty_table_stays_empty() -> None:
    assert format_grants("t", "\n \n") == ""


def test_refuses_to_format_what_is_wrong() -> None:
    with pytest.raises(InvalidGrants, match="t:1:1: unknown key `x`"):
        format_grants("t", "x = 1\n")
    with pytest.raises(InvalidPolicy, match="p:1:1: a policy has no `@id`"):
        format_cedar("p", "permit (principal, action, resource);")


def test_refuses_where_formatting_would_change_a_text_over_several_lines() -> None:
    text = '[roles.web]\ndescription = """\n  a=1\n"""\n'
    with pytest.raises(InvalidGrants, match="cannot be formatted without changing what it says"):
        format_grants("t", text)


SPACE = st.sampled_from(["", " ", "  ", "\t"])


@settings(max_examples=60, deadline=None)
@given(st.lists(SPACE, min_size=6, max_size=6), st.integers(0, 3))
def test_formatting_a_table_keeps_what_it_says(spaces: list[str], empty: int) -> None:
    a, b, c, d, e, f = spaces
    text = (
        f"{a}[roles.web]{b}\n{c}members{d}={e}[{f}\n'svc:a',{a}\n\"svc:b\"{b}]{c}\n"
        + "\n" * empty
        + f"{d}[[roles.web.grants]]\n{e}actions{f}=['read']\npaths = [ 'x' ]{a}# {b}\n"
    )
    tidy = format_grants("t", text)
    assert tomllib.loads(tidy) == tomllib.loads(text)
    assert format_grants("t", tidy) == tidy


def test_a_cedar_document_gets_its_canonical_form() -> None:
    text = '// why\n@id("a")permit(principal,action,resource)when{context.mfa};'
    tidy = format_cedar("p", text)
    assert tidy == '// why\n@id("a")\npermit (principal, action, resource)\nwhen { context.mfa };\n'
    assert format_cedar("p", tidy) == tidy
    assert format_cedar("p", "// nothing\n") == "// nothing\n"


def test_a_policy_is_shown_as_cedar_that_compiles_to_the_same_rules() -> None:
    policy = compile_policy(default_documents("shop", "user:me"))
    again = compile_policy([Document("shown", "cedar", to_cedar(policy))])
    assert [rule.id for rule in again.rules] == [rule.id for rule in policy.rules]
    assert to_cedar(compile_policy([])) == ""
