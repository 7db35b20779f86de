from __future__ import annotations

import pytest

from securecfg.errors import InvalidGrants
from securecfg.policy import Document, Request, compile_policy, to_cedar
from tests.policy.worlds import START

GRANT = '[[roles.web.grants]]\nactions = ["read"]\npaths = ["a"]\n'


def refusal(text: str) -> InvalidGrants:
    with pytest.raises(InvalidGrants) as caught:
        compile_policy([Document("t.toml", "grants", text)])
    assert caught.value.code == "invalid-grants"
    return caught.value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("role = 1\n", "t.toml:1:1: unknown key `role`"),
        ("roles = 1\n", "t.toml:1:1: `roles` is not a table"),
        ("[roles]\nweb = 3\n", "t.toml:2:1: `web` is not a table"),
        ('[roles."a b"]\n', "t.toml:1:1: the name of the role `a b` has a space"),
        ('[roles.""]\n', "t.toml:1:1: the name of the role `` is empty"),
        (f"[roles.{'x' * 257}]\n", "is longer than 256 bytes"),
        ('[roles."e\u0301"]\n', "is not in Unicode normal form NFC"),
        ("[roles.web]\nmember = []\n", "t.toml:2:1: unknown key `member`"),
        ("[roles.web]\nmembers = 'svc:web'\n", "t.toml:2:1: `members` is not a list of texts"),
        ("[roles.web]\nmembers = ['svc:web', 3]\n", "t.toml:2:1: `members` is not a list of texts"),
        ("[roles.web]\nmembers = [\n  'svc:web',\n  'web',\n]\n", "t.toml:4:3: `web` is not a principal"),
        ("[roles.web]\nmembers = ['svc:']\n", "t.toml:2:12: the name in `svc:` is empty"),
        ("[roles.web]\nmembers = ['role:*']\n", "t.toml:2:12: the name in `role:*` has a space"),
        ("[roles.web]\nmembers = ['svc:a', 'svc:a']\n", "t.toml:2:21: `svc:a` is there twice"),
        ("[roles.admin]\nmembers = ['user:*']\n", "would make everyone an administrator"),
        ("[roles.admin]\n[[roles.admin.grants]]\nactions=['read']\npaths=['**']\n", "needs no grants"),
        ("[roles.web]\ndescription = 3\n", "t.toml:2:1: `description` is not a text"),
        ("[roles.web]\ngrants = 3\n", "t.toml:2:1: `grants` of the role `web` is not a list of tables"),
        ("[roles.web]\ngrants = [3]\n", "t.toml:2:11: `0` is not a table"),
        ("[[roles.web.grants]]\npaths = ['a']\n", "t.toml:1:1: a grant needs `actions`"),
        ("[[roles.web.grants]]\nactions = []\npaths = ['a']\n", "t.toml:2:1: a grant needs `actions`"),
        ("[[roles.web.grants]]\nactions = ['raed']\npaths = ['a']\n", "t.toml:2:12: unknown action `raed`"),
        ("[[roles.web.grants]]\nactions = ['read']\n", "t.toml:1:1: a grant needs `paths`"),
        ("[[roles.web.grants]]\nactions = ['read', 'audit.read']\npaths=['a']\n", "do not go into one grant"),
        ("[[roles.web.grants]]\nactions = ['*', 'impersonate']\npaths=['a']\n", "do not go into one grant"),
        ("[[roles.web.grants]]\nactions = ['audit.read']\npaths=['a']\n", "t.toml:3:1: `audit.read` takes no `paths`"),
        ("[[roles.web.grants]]\nactions = ['impersonate']\n", "t.toml:1:1: a grant of `impersonate` needs `as`"),
        ("[[roles.web.grants]]\nactions = ['impersonate']\nas = ['olga']\n", "t.toml:3:7: `olga` is not a principal"),
        ("[[roles.web.grants]]\nactions = ['impersonate']\nas = ['role:*']\n", "`role:*` is not a principal"),
        (GRANT + "as = ['user:*']\n", "t.toml:4:1: `as` is only for a grant of `impersonate`"),
        (GRANT + "id = 3\n", "t.toml:4:1: `id` is not a text"),
        (GRANT + "id = ''\n", "t.toml:4:1: the id of a rule is empty"),
        (GRANT + "id = 'admin'\n", "t.toml:4:1: the id `admin` is that of the built-in rule"),
        (GRANT + "forbid = 1\n", "t.toml:4:1: `forbid` is neither `true` nor `false`"),
        (GRANT + "unless = { mfa = true }\n", "t.toml:4:1: `unless` is only for a grant with `forbid = true`"),
        (GRANT + "description = 1\n", "t.toml:4:1: `description` is not a text"),
        (GRANT + "when = 3\n", "t.toml:4:1: `when` is not a table"),
        (GRANT + "when = { mfa = false }\n", "t.toml:4:10: `mfa` can only be `true`"),
        (GRANT + "when = { mfa = 1 }\n", "t.toml:4:10: `mfa` can only be `true`"),
        (GRANT + "when = { hour = '1' }\n", "t.toml:4:10: unknown key `hour`"),
        (GRANT + "when = { hours = '8-18' }\n", "t.toml:4:10: `hours` is not `HH:MM-HH:MM`"),
        (GRANT + "when = { hours = '08:00-25:00' }\n", "`hours` is not `HH:MM-HH:MM`"),
        (GRANT + "when = { hours = '24:00-08:00' }\n", "`hours` is not `HH:MM-HH:MM`"),
        (GRANT + "when = { hours = 8 }\n", "`hours` is not `HH:MM-HH:MM`"),
        (GRANT + "when = { hours = '08:00-08:00' }\n", "`hours` begins when it ends"),
        (GRANT + "when = { weekdays = 'monday' }\n", "`monday` is not a day of the week"),
        (GRANT + "when = { weekdays = 'mon-' }\n", "`` is not a day of the week"),
        (GRANT + "when = { weekdays = [] }\n", "`weekdays` is neither text nor a list of texts"),
        (GRANT + "when = { weekdays = [1] }\n", "`weekdays` is neither text nor a list of texts"),
        (GRANT + "when = { source = 'office' }\n", "`office` is not an address or network"),
        (GRANT + "when = { source = '10.0.0.1/8' }\n", "`10.0.0.1/8` is not an address or network"),
        (GRANT + "when = { source = '2001:DB8::/32' }\n", "`2001:DB8::/32` is not in canonical form"),
        (GRANT + f"when = {{ source = {['10.0.0.0/8'] * 17} }}\n", "`source` has more than 16 items"),
        (GRANT + "when = { purpose = false }\n", "`purpose` is neither text nor a list of texts"),
        (GRANT + "when = { purpose = '' }\n", "a `purpose` is empty or has characters that cannot be shown"),
        (GRANT + "when = { purpose = 'a\\\\b' }\n", "a `purpose` is empty or has characters that cannot be shown"),
        (f"[[roles.web.grants]]\nactions=['read']\npaths={[f'a{n}' for n in range(201)]}\n", "more than 200 paths"),
        (f"[[roles.web.grants]]\nactions=['read']\npaths={[f'*/{n}' for n in range(17)]}\n", "more than 16 with a `*`"),
        (
            f"[[roles.a.grants]]\nactions=['impersonate']\nas={[f'svc:{n}' for n in range(201)]}\n",
            "more than 200 princ",
        ),
    ],
)
def test_refuses_a_table_that_is_wrong(text: str, message: str) -> None:
    assert message in str(refusal(text))


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("/a", "begins with `/`"),
        ("a/", "ends with `/`"),
        ("a//b", "empty, `.` or `..` segment"),
        ("", "empty, `.` or `..` segment"),
        ("a/../b", "empty, `.` or `..` segment"),
        ("a/./b", "empty, `.` or `..` segment"),
        ("a/**/b", "`**` before its end or within a segment"),
        ("a**", "`**` before its end or within a segment"),
        ("**/**", "`**` before its end or within a segment"),
        ("a/***", "`**` before its end or within a segment"),
        ("a#b", "contains `#`"),
        ("a{b", "contains `{`"),
        ("e\u0301", "NFC"),
        ("a\u00a0b", "contains a control, invisible"),
        ("x" * 1025, "longer than 1024 bytes"),
        ("*/" * 16 + "a", "more than 16 segments"),
    ],
)
def test_refuses_a_path_that_is_wrong(pattern: str, message: str) -> None:
    text = f'[[roles.web.grants]]\nactions = ["read"]\npaths = [\n  "{pattern}"]\n'
    error = refusal(text)
    assert str(error).startswith("t.toml:4:3: the path")
    assert message in str(error)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[roles.web\n", "t.toml:1:11: expected ']' at the end of a table declaration"),
        ("a = 'x", "t.toml:1:7: "),
        ("a = 1\na = 2\n", "t.toml:2:"),
        ("[roles.web]\n[roles.web]\n", "t.toml:2:"),
        ("a = " + "[" * 3000 + "]" * 3000, "t.toml:1:1: nested too deeply"),
        ("a = " + "{b=" * 3000 + "1" + "}" * 3000, "t.toml:1:1: nested too deeply"),
        ("# " + "x" * (1024 * 1024), "t.toml:1:1: longer than 1048576 characters"),
        ("a." * 400_000 + "a = 1\n", "t.toml:1:1: a key of more than 16 parts"),
        ("x = 1\n[ " + '"a" . ' * 17 + "a]\n", "t.toml:2:1: a key of more than 16 parts"),
        ("# a\x00b\n", "t.toml:1:4: has the control character U+0000"),
        ("# a\u202eb\n", "t.toml:1:4: has the invisible or unassigned character U+202E"),
        ("# a\udc80b\n", "t.toml:1:4: has the invisible or unassigned character U+DC80"),
        ("\ufeff[roles]\n", "t.toml:1:1: begins with a byte order mark"),
    ],
)
def test_refuses_text_that_is_no_table(text: str, message: str) -> None:
    assert message in str(refusal(text))


def test_reports_every_problem_in_the_order_of_lines() -> None:
    text = '[roles.web]\nmembrs = []\n[[roles.web.grants]]\nactions = ["raed"]\npaths = ["/a", "b/"]\n'
    error = refusal(text)
    places = [line.strip().split(": ")[0] for line in str(error).splitlines()[1:]]
    assert places == ["t.toml:2:1", "t.toml:4:12", "t.toml:5:10", "t.toml:5:16"]
    assert error.hint == "did you mean `members`?"


def test_shows_fifty_problems_and_counts_the_rest() -> None:
    text = "[roles.web]\n" + "".join(f"k{number} = 1\n" for number in range(60))
    assert str(refusal(text)).endswith("and 10 more")


def test_a_place_is_found_inside_every_form_of_table() -> None:
    text = (
        'roles.a.members = [ # one\n  "x",\n]\n'
        'roles.b = { members = [ "y" ], "grants" = [ { actions = ["no"], paths = ["a"] } ] }\n'
        "[roles.'c']\nmembers = [\n'''z''', \"\"\"w\"\"\"]\n"
        "[[roles.c.grants]]\nactions = ['read']\npaths = ['a']\n"
        "[roles.c.grants.when]\nmfa = 2\n"
    )
    places = [line.strip().split(": ")[0] for line in str(refusal(text)).splitlines()[1:]]
    assert places == ["t.toml:2:3", "t.toml:4:25", "t.toml:4:58", "t.toml:7:1", "t.toml:7:10", "t.toml:12:1"]


def test_a_place_that_is_not_found_is_the_nearest_known() -> None:
    deep = "roles." + ".".join("x" * 30) + " = 1\n"
    assert "t.toml:1:1: " in str(refusal("roles.web.x." + ".".join("y" * 20) + " = 1\n"))
    assert "t.toml:1:1" in str(refusal(deep))


def test_what_the_search_for_places_does_not_understand_ends_it_quietly() -> None:
    text = '[roles.web]\ndescription = """quoted""""\nmembers = ["web"]\n'
    assert "t.toml:1:1: `web` is not a principal" in str(refusal(text))
    text = "[roles.web]\nsince = 2026-01-05 09:00:00\nmembers = ['web']\n"
    assert "t.toml:3:12: `web` is not a principal" in str(refusal(text))
    deep = "[roles.web]\nx = " + "[" * 20 + "]" * 20 + "\nmembers = ['web']\n"
    assert "t.toml:1:1: `web` is not a principal" in str(refusal(deep))


def test_ids_must_differ() -> None:
    text = GRANT + "id = 'one'\n" + GRANT + "id = 'one'\n"
    assert "t.toml:5:1: the id `one` is already at t.toml:1:1" in str(refusal(text))


def test_a_grant_is_called_by_its_role_and_number_or_by_its_id() -> None:
    policy = compile_policy([Document("t", "grants", GRANT + "id = 'named'\n" + GRANT + GRANT)])
    assert [rule.id for rule in policy.rules] == ["named", "web#2", "web#3"]


def test_refuses_roles_that_contain_one_another() -> None:
    text = "[roles.a]\nmembers = ['role:b']\n[roles.b]\nmembers = ['role:c']\n[roles.c]\nmembers = ['role:a']\n"
    error = refusal(text)
    assert "t.toml:2:12: `role:b` and `role:a` contain one another" in str(error)
    assert "`role:a` and `role:a` contain" in str(refusal("[roles.a]\nmembers = ['role:a']\n"))


def test_one_role_may_stand_in_several_documents() -> None:
    documents = [
        Document("a", "grants", "[roles.web]\nmembers = ['svc:a']\n"),
        Document("b", "grants", "[roles.web]\nmembers = ['svc:b']\n" + GRANT),
    ]
    policy = compile_policy(documents)
    assert policy.decide(Request("svc:a", "read", "a", {}, START)).allowed
    assert policy.decide(Request("svc:b", "read", "a", {}, START)).allowed


def test_everyone_of_a_kind_may_be_a_member() -> None:
    policy = compile_policy([Document("t", "grants", "[roles.web]\nmembers = ['svc:*']\n" + GRANT)])
    assert policy.decide(Request("svc:new", "read", "a", {}, START)).allowed
    assert not policy.decide(Request("user:new", "read", "a", {}, START)).allowed
    assert policy.roles_of("svc:new") == {"role:web"}


def test_all_secret_actions_have_a_short_form() -> None:
    text = "[roles.web]\nmembers = ['svc:a']\n[[roles.web.grants]]\nactions = ['*']\npaths = ['a']\n"
    policy = compile_policy([Document("t", "grants", text)])
    assert policy.decide(Request("svc:a", "destroy", "a", {}, START)).allowed
    assert not policy.decide(Request("svc:a", "audit.read", "", {}, START)).allowed


def test_compiles_to_the_cedar_that_a_person_would_write() -> None:
    text = """
[[roles.web.grants]]
actions = ["read", "list"]
paths = ["payments/**", "db/main", "db/two", "a/*/b", "t/*/s-*/**"]
when = { mfa = true, hours = "22:00-06:30", weekdays = "fri-mon, wed", source = ["10.0.0.0/8", "::1"], purpose = "I*" }

[[roles.web.grants]]
actions = ["destroy"]
paths = ["**"]
forbid = true
unless = { mfa = true, purpose = ["A", "B"] }

[[roles.web.grants]]
actions = ["impersonate"]
as = ["user:*", "user:olga", "svc:job", "role:ops"]

[[roles.web.grants]]
actions = ["audit.read"]
when = { hours = "06:00-24:00", weekdays = ["sun"], source = "10.0.0.1", purpose = true }
"""
    policy = compile_policy([Document("t", "grants", text)])
    assert to_cedar(policy) == (
        """\
// t:2:1
@id("web#1")
permit (
  principal in Role::"web",
  action in [Action::"read", Action::"list"],
  resource
)
when
{
  resource in Folder::"payments" ||
  resource in [Secret::"db/main", Secret::"db/two"] ||
  (resource is Secret &&
   resource in Folder::"a" &&
   resource.path like "a/*/b" &&
   resource.depth == 3) ||
  (resource in Folder::"t" &&
   resource.hasTag("2") &&
   resource.hasTag("3") &&
   resource.getTag("3") like "s-*")
}
when { context.mfa }
when { context.minute_of_day >= 1320 || context.minute_of_day < 390 }
when { [1, 3, 5, 6, 7].contains(context.weekday) }
when
{
  context has source &&
  (context.source.isInRange(ip("10.0.0.0/8")) || context.source.isInRange(ip("::1")))
}
when { context has purpose && context.purpose like "I*" };

// t:7:1
@id("web#2")
forbid (
  principal in Role::"web",
  action == Action::"destroy",
  resource
)
unless
{ context.mfa && context has purpose && (context.purpose like "A" || context.purpose like "B") };

// t:13:1
@id("web#3")
permit (
  principal in Role::"web",
  action == Action::"impersonate",
  resource
)
when
{
  resource is User ||
  resource == User::"olga" ||
  resource == Service::"job" ||
  resource in Role::"ops"
};

// t:17:1
@id("web#4")
permit (
  principal in Role::"web",
  action == Action::"audit.read",
  resource == Folder::"/"
)
when { context.minute_of_day >= 360 && context.minute_of_day < 1440 }
when { [7].contains(context.weekday) }
when { context has source && context.source.isInRange(ip("10.0.0.1")) }
when { context has purpose && context.purpose != "" };
"""
    )
