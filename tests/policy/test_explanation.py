from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta

from cedarpy import pst

from securecfg.policy import Document, Policy, Request, compile_policy
from securecfg.policy.explanation import Explainer
from securecfg.policy.requests import Decision, principal_entity, resource_entity
from securecfg.policy.rules import read_documents
from tests.policy.worlds import START

TABLE = """
[roles.web]
members = ["svc:web"]

[[roles.web.grants]]
actions = ["read", "list"]
paths = ["payments/**", "db/main"]
when = { mfa = true, hours = "08:00-18:00", weekdays = "mon-fri", source = ["10.0.0.0/8"], purpose = "INC-*" }

[[roles.web.grants]]
actions = ["write"]
paths = ["own/**"]

[[roles.web.grants]]
id = "careful"
actions = ["write"]
paths = ["own/x/**", "other/**"]
forbid = true
unless = { mfa = true, purpose = true }
"""


def table() -> Policy:
    return compile_policy([Document("t", "grants", TABLE)])


def cedar(text: str) -> Policy:
    return compile_policy([Document("c", "cedar", text)])


def ask(action: str, path: str, principal: str = "svc:web", **context: object) -> Request:
    return Request(principal, action, path, context, START + timedelta(hours=21, minutes=4))


def test_tells_each_condition_that_is_missing_and_what_was_seen() -> None:
    assert str(table().explain(ask("read", "payments/key", source="192.0.2.1"))) == (
        "denied: `svc:web` may not read `payments/key`\n"
        "  no rule permits it\n"
        "  web#1 (t:5:1) would permit it, but needs\n"
        "    - a second factor; was mfa false\n"
        "    - 08:00-18:00 UTC; was 21:04 UTC\n"
        "    - a request from 10.0.0.0/8; was `192.0.2.1`\n"
        "    - a purpose like `INC-*`; was no purpose"
    )


def test_tells_the_role_the_action_or_the_path_that_is_missing() -> None:
    policy = table()
    role = str(policy.explain(ask("write", "own/a", "svc:intern")))
    assert role.splitlines()[2:] == [
        "  web#2 (t:10:1) would permit it, but needs",
        "    - `role:web`; was svc:intern with no role",
    ]
    action = str(policy.explain(ask("destroy", "own/a")))
    assert action.splitlines()[2:] == [
        "  web#2 (t:10:1) would permit it, but needs",
        "    - to be asked for write; was destroy",
    ]
    path = str(policy.explain(ask("read", "db/other"))).splitlines()
    assert "    - one of `payments/**` or `db/main`; was db/other" in path


def test_tells_the_rule_that_forbids() -> None:
    explanation = table().explain(ask("write", "own/x/y", mfa=True))
    assert str(explanation) == "denied: `svc:web` may not write `own/x/y`\n  forbidden by careful (t:14:1)"
    rule = explanation.rules[0]
    assert (rule.id, rule.effect, rule.applies) == ("careful", "forbid", True)
    assert rule.clauses[-1].needs == "not to have a second factor and a purpose"
    assert rule.clauses[-1].seen == {"context.mfa": "mfa true", "context.purpose": "no purpose"}


def test_tells_the_rule_that_permits() -> None:
    explanation = table().explain(ask("write", "own/a"))
    assert str(explanation) == "allowed: `svc:web` may write `own/a`\n  permitted by web#2 (t:10:1)"


def test_says_the_same_as_data() -> None:
    data = table().explain(ask("read", "payments/key", mfa=True)).to_data()
    assert json.loads(json.dumps(data)) == data
    rules = data["rules"]
    assert isinstance(rules, list)
    assert data | {"rules": []} == {
        "principal": "svc:web",
        "action": "read",
        "path": "payments/key",
        "roles": ["role:web"],
        "allowed": False,
        "error": None,
        "by": [],
        "withheld": "",
        "rules": [],
    }
    assert rules[0]["clauses"][:5] == [
        {
            "part": "principal",
            "text": 'principal in Role::"web"',
            "needs": "`role:web`",
            "outcome": "true",
            "seen": {"principal": "svc:web with role:web"},
        },
        {
            "part": "action",
            "text": 'action in [Action::"read", Action::"list"]',
            "needs": "to be asked for read or list",
            "outcome": "true",
            "seen": {"action": "read"},
        },
        {
            "part": "resource",
            "text": "resource",
            "needs": "anything",
            "outcome": "true",
            "seen": {"resource": "payments/key"},
        },
        {
            "part": "resource",
            "text": 'resource in Folder::"payments" || resource == Secret::"db/main"',
            "needs": "one of `payments/**` or `db/main`",
            "outcome": "true",
            "seen": {"resource": "payments/key"},
        },
        {
            "part": "when",
            "text": "context.mfa",
            "needs": "a second factor",
            "outcome": "true",
            "seen": {"context.mfa": "mfa true"},
        },
    ]


def test_cuts_a_clause_written_by_hand_at_its_conjunctions() -> None:
    policy = cedar(
        '@id("p") permit (principal, action, resource)'
        " when { context.mfa && context has source && context.source.isLoopback() && context.hour < 4 }"
        " unless { context has purpose };"
    )
    rule = policy.explain(ask("read", "a", mfa=True)).rules[0]
    assert [(clause.part, clause.text, clause.outcome) for clause in rule.clauses[3:]] == [
        ("when", "context.mfa", "true"),
        ("when", "context has source", "false"),
        ("when", "context.source.isLoopback()", "not reached"),
        ("when", "context.hour < 4", "not reached"),
        ("unless", "context has purpose", "true"),
    ]
    assert [clause.text for clause in rule.missing] == ["context has source"]


def test_a_clause_that_an_earlier_one_guards_is_not_an_error() -> None:
    policy = cedar(
        '@id("p") permit (principal, action, resource)'
        " when { context has purpose } when { context.hour * 999999999999999999 > 3 };"
    )
    explanation = policy.explain(ask("read", "a"))
    assert (explanation.withheld, explanation.decision.error) == ("", None)
    assert explanation.rules[0].clauses[-1].outcome == "not reached"


def test_tells_an_error_and_where_it_is() -> None:
    policy = cedar('@id("p") permit (principal, action, resource) when { context.hour * 999999999999999999 > 3 };')
    assert str(policy.explain(ask("read", "a"))) == (
        "denied: `svc:web` may not read `a`\n"
        "  error: could not be evaluated: rule `p`\n"
        "  p (c:1:1) cannot be evaluated:\n"
        "    - `context.hour * 999999999999999999 > 3`, but a number is out of range; was `21`"
    )


def test_names_every_kind_of_scope() -> None:
    policy = cedar(
        '@id("1") permit (principal == User::"olga", action == Action::"read", resource);'
        '@id("2") permit (principal is User, action == Action::"read", resource);'
        '@id("3") permit (principal is User in Role::"ops", action == Action::"read", resource);'
        '@id("4") permit (principal, action == Action::"read", resource == Secret::"x/y");'
        '@id("5") permit (principal, action == Action::"read", resource is Secret in Folder::"x");'
    )
    needs = {rule.id: [clause.needs for clause in rule.missing] for rule in policy.explain(ask("read", "a")).rules}
    assert needs == {
        "1": ["`user:olga`"],
        "2": ["a user"],
        "3": ["a user in `role:ops`"],
        "4": ["`x/y`"],
        "5": ["a secret in `x/**`"],
    }
    policy = cedar(
        '@id("6") permit (principal in Role::"x", action == Action::"list", resource in Folder::"/");'
        '@id("7") permit (principal, action in [Action::"key.manage"], resource == Folder::"/");'
    )
    six, seven = policy.explain(ask("list", "")).rules
    assert [clause.needs for clause in six.clauses] == ["`role:x`", "to be asked for list", "`**`"]
    assert [clause.needs for clause in seven.clauses] == ["anything", "to be asked for key.manage", "the root folder"]


def test_shows_five_rules_in_words_and_all_as_data() -> None:
    policy = cedar(
        "".join(f'@id("p{n}") permit (principal, action, resource) when {{ context.mfa }};' for n in range(8))
    )
    explanation = policy.explain(ask("read", "a"))
    assert str(explanation).splitlines()[-1] == "  and 3 more rules come near"
    assert len(explanation.rules) == 8


def test_does_not_tell_of_rules_that_are_about_something_else() -> None:
    policy = cedar(
        '@id("far") permit (principal == User::"x", action == Action::"write", resource);'
        '@id("no") forbid (principal, action == Action::"write", resource);'
    )
    assert policy.explain(ask("read", "a")).rules == ()


def test_shows_sets_and_weekdays_as_people_write_them() -> None:
    head = '@id("p") permit (principal, action, resource)'
    later = 'when { context has x && context.x.contains("q") }'
    documents = [
        Document(
            "c",
            "cedar",
            f"{head} when {{ context.weekday == 7 }} {later};",
        ),
        Document("x", "schema-extension", "type Context = { x?: Set<String> };"),
    ]
    seen = [
        clause.seen for clause in compile_policy(documents).explain(ask("read", "a", x={"b", "a"})).rules[0].missing
    ]
    assert seen == [{"context.weekday": "Monday"}, {"context.x": "[a, b]"}]
    now = cedar('@id("p") permit (principal, action, resource) when { context.now < datetime("2020-01-01") };')
    assert now.explain(ask("read", "a")).rules[0].missing[0].seen == {"context.now": "2026-01-05 21:04 UTC"}


def test_is_withheld_where_it_does_not_lead_to_the_decision() -> None:
    rules = read_documents([Document("t", "grants", TABLE)])
    request = ask("write", "own/a")
    principal = principal_entity("svc:web", frozenset({"role:web"}))
    explainer = Explainer(rules, frozenset(), (), principal, resource_entity("own/a"), request)
    assert explainer.explain(Decision(allowed=True, rules=("web#2",))).withheld == ""
    for wrong in (
        Decision(allowed=False),
        Decision(allowed=True, rules=("web#1",)),
        Decision(allowed=False, error="x"),
    ):
        explanation = explainer.explain(wrong)
        assert explanation.rules == ()
        assert "no explanation: it does not lead to the decision that was made" in str(explanation)


def test_a_node_that_is_not_known_is_an_error() -> None:
    rules = read_documents([Document("c", "cedar", '@id("p") permit (principal, action, resource);')])
    strange = replace(rules.templates[0], clauses=(pst.When(pst.Slot("resource")),))
    rules._templates = (strange,)
    explainer = Explainer(
        rules, frozenset(), (), principal_entity("svc:a", frozenset()), resource_entity("a"), ask("read", "a")
    )
    explanation = explainer.explain(Decision(allowed=False, error="x"))
    assert explanation.rules[0].missing[0].text == "?resource"
