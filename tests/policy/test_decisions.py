from __future__ import annotations

import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from ipaddress import ip_address
from pathlib import Path

import pytest

import securecfg.policy as policy_face
from securecfg.errors import InvalidGrants, InvalidPolicy
from securecfg.policy import (
    ADMINISTRATIVE_ACTIONS,
    SECRET_ACTIONS,
    Decision,
    Document,
    Policy,
    Request,
    compile_policy,
    open_policy,
)
from securecfg.policy.cedar import Verdict
from securecfg.policy.decisions import MAX_ASKERS
from securecfg.policy.engine import MAX_CACHED, _to_decision
from tests.policy.worlds import START, engine_decision

ADMIN = {"user:me": frozenset({"role:admin"})}


def cedar(text: str, **memberships: frozenset[str]) -> Policy:
    return compile_policy([Document("p.cedar", "cedar", text)], memberships=memberships)


def permit_when(condition: str, *, extension: str = "") -> Policy:
    text = f'@id("p") permit (principal, action == Action::"read", resource) when {{ {condition} }};'
    documents = [Document("p.cedar", "cedar", text)]
    if extension:
        documents.append(Document("x", "schema-extension", f"type Context = {{ {extension} }};"))
    return compile_policy(documents)


def read(path: str = "a/b", principal: str = "svc:web", **context: object) -> Request:
    return Request(principal, "read", path, context, START)


def test_nothing_is_permitted_that_no_rule_permits() -> None:
    assert compile_policy([]).decide(read()) == Decision(allowed=False, rules=(), cacheable=True)


def test_a_forbid_outweighs_permits() -> None:
    policy = cedar(
        '@id("yes") permit (principal, action, resource);'
        '@id("no") forbid (principal, action, resource in Folder::"a");'
        '@id("also-no") forbid (principal is Service, action, resource);'
    )
    assert policy.decide(read()) == Decision(allowed=False, rules=("also-no", "no"))
    assert policy.decide(read("c", "user:olga")) == Decision(allowed=True, rules=("yes",))


def test_a_forbid_that_cannot_be_evaluated_denies() -> None:
    policy = cedar(
        '@id("yes") permit (principal, action == Action::"read", resource);'
        '@id("no") forbid (principal, action, resource) when { context.hour + 9223372036854775807 > 0 };'
    )
    decision = policy.decide(read()._replace(now=START + timedelta(hours=1)))
    assert decision == Decision(allowed=False, error="could not be evaluated: rule `no`", rules=(), cacheable=False)
    assert policy.decide(read()).rules == ("no",)


@pytest.mark.parametrize("action", [*SECRET_ACTIONS, *ADMINISTRATIVE_ACTIONS, "impersonate"])
def test_an_admin_may_do_everything_whatever_is_forbidden(action: str) -> None:
    policy = compile_policy(
        [Document("p", "cedar", '@id("no") forbid (principal, action, resource);')],
        memberships=ADMIN | {"user:two": frozenset({"role:admin"})},
    )
    path = "" if action in ADMINISTRATIVE_ACTIONS else "user:two" if action == "impersonate" else "a/b"
    request = Request("user:me", action, path, {"unknown": 1}, START)
    assert policy.decide(request) == Decision(allowed=True, rules=("admin",))
    assert policy.explain(request).decision.rules == ("admin",)


def test_admin_is_reached_through_roles_and_tables() -> None:
    text = "[roles.admin]\nmembers = ['role:owners']\n[roles.owners]\nmembers = ['user:olga']\n"
    policy = compile_policy([Document("t", "grants", text)])
    assert policy.roles_of("user:olga") == {"role:owners", "role:admin"}
    assert policy.decide(read(principal="user:olga")).rules == ("admin",)


def test_a_request_does_not_make_an_admin() -> None:
    text = "[roles.admin]\nmembers = ['role:owners']\n"
    policy = compile_policy([Document("t", "grants", text)])
    for roles in ({"role:admin"}, {"role:owners"}):
        assert not policy.decide(read()._replace(extra_roles=frozenset(roles))).allowed


def test_extra_roles_count_with_what_they_belong_to() -> None:
    policy = cedar(
        '@id("p") permit (principal in Role::"web", action == Action::"read", resource);',
        **{"role:front": frozenset({"role:web"})},
    )
    assert not policy.decide(read()).allowed
    assert policy.decide(read()._replace(extra_roles=frozenset({"role:front"}))).allowed
    assert not policy.decide(read()).allowed


def test_only_an_admin_acts_for_an_admin() -> None:
    policy = compile_policy(
        [Document("p", "cedar", '@id("any") permit (principal, action == Action::"impersonate", resource);')],
        memberships=ADMIN,
    )
    request = Request("svc:web", "impersonate", "user:me", {}, START)
    assert policy.decide(request) == Decision(allowed=False, rules=("admin",))
    assert "only `role:admin` may act for one who holds it" in str(policy.explain(request))
    assert policy.decide(request._replace(path="user:olga")).rules == ("any",)
    assert policy.decide(request._replace(path="svc:web")).rules == ("any",)


def test_who_may_be_acted_for_is_the_resource() -> None:
    text = (
        "[roles.api]\nmembers = ['svc:api']\n[[roles.api.grants]]\nactions = ['impersonate']\nas = ['role:customers']\n"
    )
    policy = compile_policy([Document("t", "grants", text)], memberships={"user:ann": frozenset({"role:customers"})})
    request = Request("svc:api", "impersonate", "user:ann", {}, START)
    assert policy.decide(request).allowed
    assert not policy.decide(request._replace(path="user:olga")).allowed


def test_administration_is_of_the_root_folder() -> None:
    text = "[roles.ops]\nmembers = ['user:olga']\n[[roles.ops.grants]]\nactions = ['audit.read']\n"
    policy = compile_policy([Document("t", "grants", text)])
    request = Request("user:olga", "audit.read", "", {}, START)
    assert policy.decide(request).allowed
    assert not policy.decide(request._replace(action="audit.export")).allowed


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"action": "raed"}, "the action is not known"),
        ({"principal": "web"}, "the principal is neither `user:NAME` nor `svc:NAME`"),
        ({"principal": "svc:"}, "the principal is neither `user:NAME` nor `svc:NAME`"),
        ({"principal": "role:web"}, "the principal is neither `user:NAME` nor `svc:NAME`"),
        ({"now": datetime(2026, 1, 1)}, "the time has no time zone"),  # noqa: DTZ001 - what is refused
        ({"extra_roles": frozenset({"web"})}, "an extra role is not `role:NAME`"),
        ({"principal": "svc:\udc80"}, "a name or the path is not Unicode text"),
        ({"path": "a/\udc80"}, "a name or the path is not Unicode text"),
        ({"extra_roles": frozenset({"role:\udc80"})}, "a name or the path is not Unicode text"),
        ({"path": ""}, "`read` is of a secret, not of a folder"),
        ({"path": "a/"}, "`read` is of a secret, not of a folder"),
        ({"path": "/a"}, "the path has an empty segment"),
        ({"path": "a//b"}, "the path has an empty segment"),
        ({"action": "audit.read"}, "`audit.read` is of the whole vault: its path is empty"),
        ({"action": "impersonate"}, "`impersonate` needs the principal to act for as its path"),
        ({"context": {"mfaa": True}}, "the context has no attribute `mfaa`"),
        ({"context": {"mfa": 1}}, "the context's `mfa` is not a Bool"),
        ({"context": {"mfa": "true"}}, "the context's `mfa` is not a Bool"),
        ({"context": {"source": "office"}}, "the context's `source` is not a ipaddr"),
        ({"context": {"source": "fe80::1%eth0"}}, "the context's `source` is not a ipaddr"),
        ({"context": {"source": 167772161}}, "the context's `source` is not a ipaddr"),
        ({"context": {"purpose": "a\x00"}}, "the context's `purpose` is not a String"),
        ({"context": {"purpose": ["unhashable"]}}, "the context's `purpose` is not a String"),
        ({"context": {"hour": 9}}, "the time is the vault's to set, not the context's"),
        ({"context": {"now": START}}, "the time is the vault's to set, not the context's"),
    ],
)
def test_a_request_without_meaning_is_an_error(change: dict[str, object], error: str) -> None:
    policy = cedar('@id("yes") permit (principal, action, resource);')
    request = read()._replace(**change)  # type: ignore[arg-type]  # some are wrong on purpose
    assert policy.decide(request) == Decision(allowed=False, error=error, rules=(), cacheable=False)
    assert policy.explain(request).decision.error == error
    assert policy.decide_many(request, ["a", "b/c"]) == [
        policy.decide(request._replace(path=p)).allowed for p in ["a", "b/c"]
    ]


def test_true_and_one_are_not_the_same_context() -> None:
    policy = permit_when("context.mfa")
    assert policy.decide(read(mfa=True)).allowed
    assert policy.decide(read(mfa=1)).error is not None


@pytest.mark.parametrize(
    ("source", "allowed"),
    [
        ("10.1.2.3", True),
        (ip_address("10.1.2.3"), True),
        ("::ffff:10.1.2.3", True),
        (ip_address("::ffff:10.1.2.3"), True),
        ("11.1.2.3", False),
        ("2001:db8::1", False),
    ],
)
def test_an_address_is_in_its_network_however_it_came(source: object, allowed: bool) -> None:
    policy = permit_when('context has source && context.source.isInRange(ip("10.0.0.0/8"))')
    assert policy.decide(read(source=source)).allowed is allowed
    assert policy.explain(read(source=source)).withheld == ""


@pytest.mark.parametrize(
    ("extension", "condition", "value", "wrong"),
    [
        ("x?: Long", "context.x == 3", 3, [True, 2**63, "3", 3.0]),
        ("x?: String", 'context.x == "y"', "y", [1, None]),
        ("x?: Bool", "context.x", True, [1]),
        ("x?: ipaddr", "context.x.isLoopback()", "127.0.0.1", ["x"]),
        ("x?: datetime", 'context.x > datetime("2026-01-01")', START, [datetime(2026, 1, 1), "2026"]),  # noqa: DTZ001 - what is refused
        ("x?: duration", 'context.x == duration("1h")', timedelta(hours=1), [3600]),
        (
            "x?: decimal",
            'context.x.lessThan(decimal("1.5"))',
            Decimal("1.25"),
            [1.25, Decimal("NaN"), Decimal("1.00001"), Decimal(10**15)],
        ),
        ("x?: Set<Long>", "context.x.contains(3)", [3, 4], ["3", 3, ["3"], [True]]),
        ("x?: Set<ipaddr>", 'context.x.contains(ip("10.0.0.1"))', {"10.0.0.1"}, [["x"]]),
        ("x?: Set<String>,", 'context.x.containsAll(["a"])', ("a", "b"), ["a"]),
    ],
)
def test_an_attribute_of_an_extension_has_its_type(
    extension: str, condition: str, value: object, wrong: list[object]
) -> None:
    policy = permit_when(f"context has x && {condition}", extension=extension)
    assert policy.decide(read(x=value)).rules == ("p",)
    assert policy.explain(read(x=value)).withheld == ""
    assert not policy.decide(read()).allowed
    for other in wrong:
        assert (
            policy.decide(read(x=other)).error
            == f"the context's `x` is not a {extension.rstrip(',').partition(': ')[2]}"
        )


def test_a_listing_meets_any_path() -> None:
    policy = permit_when("true")
    paths = ["a", "\udc80", "é/ü", "a/\udc80", "", "/", "//", "a/", "x" * 5000, "/".join("a" * 500), 'a"b', "a\x00"]
    expected = [policy.decide(read(path)).allowed for path in paths]
    assert policy.decide_many(read(), paths) == expected
    assert expected == [True, False, True, False, False, False, False, False, True, True, True, True]


def test_times_are_utc() -> None:
    policy = permit_when("context.hour == 8 && context.weekday == 1 && context.minute_of_day == 510")
    moment = datetime(2026, 1, 5, 8, 30, tzinfo=UTC)
    assert policy.decide(read()._replace(now=moment)).allowed
    assert policy.decide(read()._replace(now=moment.astimezone(timezone(timedelta(hours=11))))).allowed


@pytest.mark.parametrize(
    "condition",
    [
        "context.hour == 0",
        "context.weekday == 1",
        'context.now > datetime("2026-01-01")',
        "context.minute_of_day == 0",
        "context == context",
    ],
)
def test_a_decision_that_may_depend_on_the_time_is_not_cacheable(condition: str) -> None:
    policy = permit_when(condition)
    assert policy.decide(read()) == Decision(allowed=True, rules=("p",), cacheable=False)
    other = Request("svc:web", "write", "a/b", {}, START)
    assert policy.decide(other).cacheable


TIMED = '@id("timed") permit (principal, action == Action::"read", resource) when { context.hour == 0 };'
TIMED_FORBID = '@id("never") forbid (principal, action, resource in Folder::"a") when { context.hour == 5 };'


def test_a_permit_by_time_does_not_apply_where_the_clock_is_not_trusted() -> None:
    policy = cedar(TIMED + '@id("plain") permit (principal, action == Action::"read", resource in Folder::"b");')
    request = read()._replace(clock_trusted=False)
    assert policy.decide(request) == Decision(allowed=False, cacheable=False)
    assert policy.decide(request._replace(path="b/c")) == Decision(allowed=True, rules=("plain",), cacheable=False)
    assert policy.decide_many(request, ["a/b", "b/c"]) == [False, True]
    assert "needs\n    - a clock that is not behind the log" in str(policy.explain(request))


def test_a_forbid_by_time_is_an_error_where_the_clock_is_not_trusted() -> None:
    policy = cedar('@id("yes") permit (principal, action, resource);' + TIMED_FORBID)
    request = read()._replace(clock_trusted=False)
    error = "the clock is behind the log, and a rule that forbids depends on the time"
    assert policy.decide(request).error == error
    assert policy.explain(request).withheld == ""
    assert policy.decide(request._replace(path="c")).allowed


def test_the_digest_is_of_all_that_decides() -> None:
    one, two = Document("a", "cedar", TIMED), Document("b", "cedar", TIMED_FORBID)
    digest = compile_policy([one, two]).digest
    assert digest.startswith("sha256:")
    assert compile_policy([two, one]).digest == digest
    others = [
        compile_policy([one]),
        compile_policy([one, two._replace(name="c")]),
        compile_policy([one, two._replace(text=TIMED_FORBID + "\n")]),
        compile_policy([one, two], memberships=ADMIN),
    ]
    assert len({digest, *(other.digest for other in others)}) == 5


def test_refuses_two_documents_of_one_name() -> None:
    with pytest.raises(InvalidPolicy, match="a:1:1: there are two documents called `a`"):
        compile_policy([Document("a", "cedar", ""), Document("a", "cedar", "")])


def test_refuses_a_document_of_no_known_kind() -> None:
    with pytest.raises(InvalidPolicy, match="a:1:1: `rego` is no kind of policy document"):
        compile_policy([Document("a", "rego", "")])  # type: ignore[arg-type]  # what is refused


@pytest.mark.parametrize(
    "memberships",
    [{"me": frozenset({"role:a"})}, {"user:me": frozenset({"admin"})}, {"user:me": frozenset({"role:"})}],
)
def test_refuses_memberships_that_mean_nothing(memberships: dict[str, frozenset[str]]) -> None:
    with pytest.raises(InvalidPolicy, match="is no membership of a principal in a role"):
        compile_policy([], memberships=memberships)


def test_refuses_a_cycle_between_tables_and_the_vault() -> None:
    document = Document("t", "grants", "[roles.a]\nmembers = ['role:b']\n")
    with pytest.raises(InvalidPolicy, match="contain one another"):
        compile_policy([document], memberships={"role:a": frozenset({"role:b"})})
    with pytest.raises(InvalidGrants, match="t:2:12"):
        compile_policy([document._replace(text="[roles.b]\nmembers = ['role:b']\n")])


def test_caches_are_bounded() -> None:
    policy = cedar('@id("p") permit (principal, action == Action::"read", resource);')
    for number in range(max(MAX_ASKERS, MAX_CACHED) + 10):
        assert policy.decide(read(principal=f"svc:{number}", purpose=f"{number}")).allowed
    assert len(policy._askers) <= MAX_ASKERS
    assert len(policy.compile()._contexts) <= MAX_CACHED


def test_many_threads_get_the_same_answers() -> None:
    policy = cedar("".join(f'@id("p{n}") permit (principal, action, resource in Folder::"f{n}");' for n in range(40)))
    wrong: list[str] = []

    def ask() -> None:
        for number in range(200):
            path = f"f{number % 50}/x"
            if policy.decide(read(path)).allowed is not (number % 50 < 40):
                wrong.append(path)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_name_with_quotes_and_umlauts_reaches_the_engine_as_it_is() -> None:
    policy = cedar('@id("p") permit (principal == User::"örg\\"x", action == Action::"read", resource);')
    request = read(principal='user:örg"x')
    assert policy.decide(request).allowed
    assert engine_decision(policy, request) == (True, ("p",), False)


def test_an_engine_that_makes_no_decision_denies() -> None:
    policy = cedar('@id("p") permit (principal, action, resource);')
    rules = policy.compile()._slice((0,))
    for verdict in ("NoDecision", "Allow", "Deny"):
        silent = verdict == "NoDecision"
        errors = [] if silent else ["something else"]
        decision = _to_decision(Verdict(verdict, [], errors), rules)
        assert decision == Decision(allowed=False, error="the policy engine made no decision", cacheable=False)


def test_what_is_no_address_is_refused_by_the_engine_too() -> None:
    documents = [Document("c", "cedar", '@id("p") permit (principal, action, resource) when { ip("x").isIpv4() };')]
    with pytest.raises(InvalidPolicy, match="c:1:1: rule `p`: "):
        compile_policy(documents)


def test_rules_that_cannot_be_compiled_any_more_let_nobody_in_but_administrators() -> None:
    documents = [Document("c", "cedar", '@id("p") permit (principal, action, resource) when { ip("x").isIpv4() };')]
    policy = open_policy(documents, memberships=ADMIN)
    assert policy.administrators() == {"user:me"}
    assert policy.decide(read(principal="user:me")).allowed
    assert policy.decide_many(read(principal="user:me"), ["a", "a//b", "\ud800"]) == [True, False, False]
    for ask in (policy.decide, policy.explain, lambda request: policy.decide_many(request, ["a"])):
        with pytest.raises(InvalidPolicy, match="c:1:1: rule `p`: "):
            ask(read())


def test_the_face_has_every_name_it_promises_and_no_other() -> None:
    assert [getattr(policy_face, name) for name in policy_face.__all__]
    with pytest.raises(AttributeError, match=r"has no attribute .nothing."):
        policy_face.nothing  # noqa: B018 - the access is the point


def test_the_engine_is_not_loaded_for_what_an_administrator_may() -> None:
    program = """
import sys
from datetime import UTC, datetime
from securecfg.policy import Document, Request, open_policy

grants = '[roles.web]\\nmembers = ["svc:web"]\\n[[roles.web.grants]]\\nactions = ["read"]\\npaths = ["a/**"]\\n'
policy = open_policy([Document("t", "grants", grants)], memberships={"user:me": frozenset({"role:admin"})})
assert policy.decide(Request("user:me", "read", "a/b", {}, datetime.now(UTC))).allowed
assert "securecfg.policy.cedar" not in sys.modules
assert policy.decide(Request("svc:web", "read", "a/b", {}, datetime.now(UTC))).allowed
assert "securecfg.policy.cedar" in sys.modules
assert not {name for name in sys.modules if name.startswith("cedarpy")}
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])
