"""`securecfg scope`: sealing parts of a vault for roles."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from securecfg.audit import Event
from securecfg.crypto import KIND_TEXT
from securecfg.keys import IdentityProvider, open_provider
from securecfg.keys.trust import Trust
from securecfg.store import Put, Space, open_sqlite
from securecfg.vault import Vault
from securecfg.vault.administrators.signing_requests import Request, read_request, write_signatures
from securecfg.vault.drafts import Content, Drafts, NewVersion
from securecfg.vault.paths import SYSTEM
from securecfg.vault.trust.successions import step_message

if TYPE_CHECKING:
    from securecfg.vault.commits.publishing import Plan, Publication
    from tests.cli.running import Cli

_GRANTS = """
[roles.{0}]
members = ["svc:{0}"]
[[roles.{0}.grants]]
actions = ["read", "list", "write"]
paths = ["**"]
"""


@pytest.fixture
def people(project: Path, cli: Cli) -> Cli:
    """Two services with identities, and a policy that lets both do everything."""
    Path("grants.toml").write_text("".join(_GRANTS.format(name) for name in ("pay", "web")), encoding="utf-8")
    assert cli("policy", "apply", "grants.toml", "--yes").code == 0
    for name in ("pay", "web"):
        cli("identity", "create", f"svc:{name}", "--out", f"{name}.identity", "--public", f"{name}.pub")
        added = cli("role", "add", name, "--member", f"svc:{name}", "--identity", f"{name}.pub")
        assert added.code == 0, added.err
    return cli


def as_service(cli: Cli, name: str, *arguments: str) -> tuple[int, str]:
    outcome = cli(*arguments, "--key", f"identity:{name}.identity")
    return outcome.code, outcome.text or outcome.err


def test_two_services_read_only_their_own_scope(people: Cli) -> None:
    made = people("scope", "create", "payments", "--read", "role:pay")
    assert made.code == 0, made.err
    assert made.text == (
        "sealed  payments/ (sealed, also from the vault's root), revision 1\n"
        "  administrator: list, write\n"
        "  pay: list, read\n"
    )
    assert people("scope", "create", "web", "--read", "role:web", "--write", "role:web").code == 0
    assert people("secret", "put", "payments/key", stdin="sk-canary").code == 0
    outcome = people("secret", "get", "payments/key", "--reveal", "--key", "identity:pay.identity", reveals=True)
    assert (outcome.code, outcome.text) == (0, "sk-canary")
    assert as_service(people, "web", "secret", "list") == (0, "")
    code, text = as_service(people, "web", "secret", "get", "payments/key", "--reveal")
    assert code == 7
    assert "no scope that this key opens" in text
    refused = people("secret", "get", "payments/key", "--reveal", "--json")
    assert (refused.code, refused.error) == (7, "scope-sealed")
    assert as_service(people, "pay", "secret", "list") == (0, "payments/key\n")
    assert people("secret", "list").text == "payments/key\n"


def test_list_show_grant_and_revoke(people: Cli) -> None:
    people("scope", "create", "payments", "--read", "role:pay")
    shown = people("scope", "list", "--json").json["scopes"]
    assert shown == [
        {
            "path": "payments/",
            "shared": False,
            "revision": 1,
            "roles": {"administrator": ["list", "write"], "pay": ["list", "read"]},
            "value_epochs": 1,
            "waiting": 0,
            "excluded": [],
        }
    ]
    granted = people("scope", "grant", "payments", "--list", "role:web", "--write", "role:web", "--json").json
    assert (granted["roles"]["web"], granted["revision"]) == (["list", "write"], 3)
    revoked = people("scope", "revoke", "payments", "--list", "role:web", "--json").json
    assert "web" not in revoked["roles"]
    assert "payments/" in people("scope", "list").text
    assert people("scope", "show", "payments").text.startswith("scope  payments/")


def test_dry_runs_change_nothing(people: Cli) -> None:
    assert people("scope", "create", "payments", "--read", "role:pay", "--dry-run").text == "would seal  payments\n"
    assert people("scope", "list", "--json").json == {"scopes": []}
    people("scope", "create", "payments", "--read", "role:pay")
    again = people("scope", "create", "payments", "--read", "role:pay", "--dry-run", "--json")
    assert (again.code, again.error) == (6, "already-exists")
    dry = people("scope", "revoke", "payments", "--read", "role:pay", "--dry-run", "--json")
    roles = {"list": [], "read": ["role:pay"], "write": [], "drop": []}
    assert dry.json == {"path": "payments/", "roles": roles, "is_done": False}
    assert people("scope", "show", "payments", "--json").json["revision"] == 1


def test_a_scope_is_made_with_the_secrets_that_are_there(people: Cli) -> None:
    for number in range(3):
        people("secret", "put", f"db/{number}", stdin=f"canary-{number}")
    refused = people("scope", "create", "db", "--read", "role:pay", "--json")
    assert (refused.code, refused.error) == (6, "conflict")
    assert "--move" in refused.json["error"]["hint"]
    dry = people("scope", "create", "db", "--read", "role:pay", "--move", "--dry-run")
    assert dry.text == "would seal  db with 3 secrets\n"
    made = people("scope", "create", "db", "--read", "role:pay", "--move")
    assert made.code == 0, made.err
    assert made.text.endswith("  pay: list, read\nmoved  3 secrets, 3 versions\n")
    assert "may know what was moved" in made.err
    outcome = people("secret", "get", "db/1", "--reveal", "--key", "identity:pay.identity", reveals=True)
    assert (outcome.code, outcome.text) == (0, "canary-1")
    exposed = people("audit", "exposed", "--json").json["secrets"]
    assert [(each["path"], each["reason"], each["label"]) for each in exposed] == [
        (f"db/{number}", "moved", "/") for number in range(3)
    ]
    assert "moved from the vault, by its root" in people("audit", "exposed").text


def test_what_is_exposed_is_listed_also_where_a_part_cannot_be_read(people: Cli) -> None:
    people("secret", "put", "key", stdin="sk-canary")
    people("scope", "create", "web", "--read", "role:web", "--write", "role:web")
    assert people("key", "compromise", "--yes").code == 0
    with Vault.open(key="identity:web.identity") as member:
        part = member.scope("web")
        new = NewVersion("svc:web", part.opened.clock.now_ns())
        record = part.authority.session().record(Event.SCOPE_CHANGED, {"path": "web/", "rev": 1, "digest": "00" * 32})

        def plan(publication: Publication) -> Plan:
            content = Content(KIND_TEXT, 2, lambda: (b"{}",))
            plan = Drafts(part.opened, publication).write(SYSTEM + b"departed/z", content, new)
            plan.records = [record]
            return plan

        part.opened.publisher.publish(plan)
    shown = people("audit", "exposed")
    assert shown.code == 8
    assert shown.text.splitlines()[1].startswith("key ")
    assert "error: what is exposed in `web/` cannot be read: the document" in shown.err
    told = people("audit", "exposed", "--json")
    assert (told.code, [each["path"] for each in told.json["secrets"]]) == (8, ["key"])
    assert [(each["part"], each["code"]) for each in told.json["failed"]] == [("web/", "tampered")]


def test_a_secret_is_moved_into_a_scope(people: Cli) -> None:
    people("scope", "create", "payments", "--read", "role:pay")
    people("secret", "put", "key", stdin="sk-canary")
    moved = people("secret", "move", "key", "payments/key")
    assert (moved.code, moved.text) == (0, "moved  key -> payments/key\n")
    assert "who could read key may know its values" in moved.err
    back = people("secret", "move", "payments/key", "key", "--json")
    assert (back.code, back.error) == (7, "scope-sealed")


def test_split_and_merge(people: Cli) -> None:
    people("scope", "create", "payments", "--read", "role:pay")
    for path in ("payments/a", "payments/eu/b"):
        people("secret", "put", path, stdin="sk-canary")
    missing = people("scope", "split", "payments", "payments/eu", "--json")
    assert (missing.code, missing.error) == (7, "scope-sealed")
    assert "--with identity:FILE" in missing.json["error"]["hint"]
    who = ("--with", "identity:pay.identity")
    dry = people("scope", "split", "payments", "payments/eu", *who, "--dry-run")
    assert dry.text == "would split  payments/eu from payments with 1 secret\n"
    split = people("scope", "split", "payments", "payments/eu", *who)
    assert split.code == 0, split.err
    assert split.text.endswith("  pay: list, read\nmoved  1 secret, 1 version\n")
    assert "  without payments/eu/, a scope of its own\n" in people("scope", "show", "payments").text
    assert people("scope", "grant", "payments/eu", "--list", "role:web").code == 0
    assert as_service(people, "web", "secret", "list") == (0, "payments/eu/b\n")
    plan = people("scope", "merge", "payments/eu", *who, "--dry-run", "--json").json
    assert (plan["into"], plan["lost"], plan["gained"], plan["is_done"]) == ("payments/", {"web": ["list"]}, {}, False)
    unconfirmed = people("scope", "merge", "payments/eu", *who, "--no-input", "--json")
    assert unconfirmed.error == "confirmation-required"
    merged = people("scope", "merge", "payments/eu", *who, "--yes")
    assert (merged.code, merged.text) == (0, "merged  payments/eu/ into payments/: 1 secret, 1 version\n")
    assert "  web: loses list\n" in merged.err
    assert as_service(people, "pay", "secret", "list") == (0, "payments/a\npayments/eu/b\n")
    again = people("scope", "merge", "payments", *who, "--yes", "--json").json
    assert (again["into"], again["secret_count"], again["is_done"]) == ("/", 2, True)
    assert people("scope", "list", "--json").json == {"scopes": []}
    assert people("secret", "get", "payments/a", "--reveal", reveals=True).text == "sk-canary"


def test_verify_says_what_the_key_at_hand_opens(people: Cli) -> None:
    people("scope", "create", "payments", "--read", "role:pay")
    people("secret", "put", "payments/key", stdin="sk-canary")
    by_root = people("scope", "verify", "payments", "--json").json
    assert (by_root["path"], by_root["sealed_count"]) == ("payments/", 1)
    whole = people("vault", "verify", "--json").json
    assert (whole["scopes"], whole["sealed_count"]) == (["payments/"], 1)
    assert "scopes   payments/: sound" in people("vault", "verify").text


def test_usage_errors_say_what_to_do(people: Cli) -> None:
    for arguments, code, error in (
        (("scope", "create", "payments"), 2, "usage"),
        (("scope", "create", "payments", "--read", "role:nobody"), 2, "invalid-metadata"),
        (("scope", "create", "../x", "--read", "role:pay"), 2, "invalid-path"),
        (("scope", "grant", "payments", "--read", "role:pay"), 3, "secret-not-found"),
        (("scope", "grant", "payments"), 2, "usage"),
        (("scope", "show", "payments"), 3, "secret-not-found"),
        (("scope", "verify", "payments"), 3, "secret-not-found"),
        (("scope", "split", "payments", "payments/eu"), 3, "secret-not-found"),
        (("scope", "split", "payments", "other"), 2, "invalid-path"),
        (("scope", "merge", "payments"), 3, "secret-not-found"),
        (("scope", "split", "payments", "payments/eu", "--with", "file:key"), 2, "usage"),
    ):
        outcome = people(*arguments, "--json")
        assert (outcome.code, outcome.error) == (code, error), arguments
        assert outcome.json["error"]["hint"] or error == "invalid-path"


@pytest.fixture
def backed_up(people: Cli) -> Cli:
    """A vault with two scopes, and a backup of it in the folder `copies`."""
    people("scope", "create", "payments", "--read", "role:pay")
    people("scope", "create", "web", "--read", "role:web", "--write", "role:web")
    assert people("secret", "put", "payments/key", stdin="sk-canary").code == 0
    assert people("key", "generate", "backup.key").code == 0
    made = people("vault", "backup", "copies", "--to", "file:backup.key", "--json")
    assert (made.json["scope_count"], made.json["scopes"]) == (2, ["payments/", "web/"])
    return people


def test_a_backup_says_which_scopes_are_in_it(backed_up: Cli) -> None:
    again = backed_up("vault", "backup", "copies")
    assert "scopes  2: payments/, web/   sealed as they are" in again.text
    (first, _) = backed_up("vault", "backups", "--json").json["backups"]
    assert (first["scope_count"], first["scopes"]) == (2, ["payments/", "web/"])
    given = ("vault", "restore", "copies", "r.vault", "--with", "file:backup.key")
    states = backed_up(*given, "--dry-run", "--json").json["states"]
    assert [state["scopes"] for state in states] == [["payments/", "web/"]] * 2
    assert "payments/, web/" in backed_up(*given, "--dry-run").text
    done = backed_up(*given, "--json").json["scopes"]
    assert [(scope["path"], scope["was_opened"]) for scope in done] == [("payments/", True), ("web/", True)]


def test_a_restored_scope_is_refused_until_a_member_adopts_it(
    backed_up: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The member's machine has seen more of the scope than is restored to the same place, from another machine."""
    assert backed_up("secret", "put", "payments/key", stdin="sk-newer").code == 0
    assert as_service(backed_up, "pay", "secret", "list") == (0, "payments/key\n")
    (path,) = Path().rglob("*.vault")
    path.rename("lost")
    home = os.environ["XDG_STATE_HOME"]
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another machine"))
    restored = backed_up("vault", "restore", "copies", str(path), "--with", "file:backup.key")
    assert "securecfg vault adopt --key identity:PATH" in restored.err
    monkeypatch.setenv("XDG_STATE_HOME", home)
    got = ("secret", "get", "payments/key", "--reveal")
    code, text = as_service(backed_up, "pay", *got)
    assert (code, "securecfg vault adopt" in text) == (8, True)
    adopting = ("vault", "adopt", "--key", "identity:pay.identity", "--json")
    unsure = backed_up(*adopting, "--no-input")
    assert (unsure.code, unsure.error) == (2, "confirmation-required")
    assert as_service(backed_up, "pay", *got)[0] == 8
    done = backed_up(*adopting, "--yes", "--reason", "the disk broke")
    assert done.code == 0, done.err
    (scope,) = done.json["scopes"]
    assert (scope["path"], scope["recorded_count"] > 0) == ("payments/", True)
    outcome = backed_up(*got, "--key", "identity:pay.identity", reveals=True)
    assert (outcome.code, outcome.text) == (0, "sk-canary")
    assert as_service(backed_up, "web", "vault", "adopt", "--yes")[0] == 0


def test_an_identity_makes_no_backup(backed_up: Cli) -> None:
    for verb in (("backup", "copies"), ("backups",)):
        refused = backed_up("vault", *verb, "--json", "--key", "identity:pay.identity")
        assert (refused.code, refused.error) == (7, "scope-sealed")
        assert "a key of the vault" in refused.json["error"]["hint"]


def test_an_import_goes_into_a_scope_by_a_key_that_writes_it(people: Cli) -> None:
    people("scope", "create", "app", "--read", "role:pay", "--write", "role:pay")
    Path("app.toml").write_text('password = "hunter2-canary-4711"\n', encoding="utf-8")
    for more in ((), ("--dry-run",)):
        refused = people("import", "app.toml", "--yes", "--json", *more)
        assert (refused.code, refused.error) == (7, "scope-sealed")
        assert "--key identity:FILE" in refused.json["error"]["hint"]
    assert "hunter2-canary-4711" in Path("app.toml").read_text(encoding="utf-8")
    into = people("import", "app.toml", "--yes", "--json", "--key", "identity:pay.identity")
    assert into.code == 0, into.err
    assert "hunter2-canary-4711" not in Path("app.toml").read_text(encoding="utf-8")
    assert people("secret", "list").text == "app/password\n"
    beside = people("import", "--list", "--json").json["imports"]
    assert [each["state"] for each in beside] == ["applied"]


def test_an_import_goes_beside_a_scope(people: Cli) -> None:
    people("scope", "create", "payments", "--read", "role:pay")
    Path("app.toml").write_text('password = "hunter2-canary-4711"\n', encoding="utf-8")
    assert people("import", "app.toml", "--yes").code == 0
    assert people("secret", "get", "app/password", "--reveal", reveals=True).text == "hunter2-canary-4711"
    assert people("import", "--undo", "--yes").code == 0
    assert people("secret", "list").text == ""


# --- keys -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def sealed(people: Cli) -> Cli:
    """A scope that role `pay` reads and the administrator writes."""
    assert people("scope", "create", "payments", "--read", "role:pay").code == 0
    assert people("secret", "put", "payments/key", stdin="sk-canary").code == 0
    return people


def test_rotates_the_keys_of_a_scope_with_the_help_of_a_reader(sealed: Cli) -> None:
    would = sealed("key", "rotate", "scope", "payments", "--dry-run")
    assert would.text == "would put a new scope key and a new value key in use in payments/\n"
    done = sealed("key", "rotate", "scope", "payments")
    assert done.text == "rotated  payments/   scope key of epoch 1, value key of epoch 1\n"
    assert "until a reader opens the scope: 1 data key of payments/" in done.err
    assert sealed("key", "retire", "0", "payments", "--value", "--json").error == "epoch-in-use"
    code, text = as_service(sealed, "pay", "key", "rotate", "scope", "payments")
    assert (code, "by whoever opens the vault by its root" in text) == (7, True)
    code, text = as_service(sealed, "pay", "key", "rotate", "scope", "payments", "--resume")
    assert (code, text) == (0, "rotated  payments   all data keys are under the value key in use\n")
    keys = sealed("key", "usage", "payments", "--json").json["keys"]
    values = [(key["epoch"], key["is_active"], key["rows"]) for key in keys if key["purpose"] == "value"]
    assert values == [(0, False, 0), (1, True, 1)]
    done = sealed("key", "rotate", "scope", "payments", "--resume", "--json").json
    assert (done["retired_value_epochs"], done["waiting"]) == ([0], 0)
    shown = sealed("secret", "get", "payments/key", "--reveal", "--key", "identity:pay.identity", reveals=True)
    assert shown.text == "sk-canary"


def test_forgets_a_value_key_by_its_epoch(sealed: Cli) -> None:
    sealed("key", "rotate", "scope", "payments", "--keep")
    as_service(sealed, "pay", "secret", "list")
    assert sealed("key", "retire", "0", "--value", "--json").error == "usage"
    assert sealed("key", "retire", "0", "payments", "--value").text == "retired  value key of epoch 0\n"
    assert sealed("key", "retire", "0", "payments").text == "retired  scope key of epoch 0\n"
    assert sealed("scope", "show", "payments", "--json").json["value_epochs"] == 1


def test_the_root_of_every_scope_is_replaced_too(sealed: Cli) -> None:
    assert sealed("key", "rotate", "root", "--dry-run", "--json").json["scopes"] == ["payments/"]
    assert sealed("key", "rotate", "root").text.endswith("rotated  root of payments/\n")
    code, text = as_service(sealed, "pay", "key", "rotate", "root")
    assert (code, "this key opens scopes of it" in text) == (7, True)
    assert as_service(sealed, "pay", "secret", "list") == (0, "payments/key\n")


def test_the_log_of_a_scope_gets_a_new_key(sealed: Cli) -> None:
    done = sealed("key", "rotate", "audit", "payments", "--json").json
    assert done["epoch"] == 1
    assert sealed("scope", "verify", "payments").code == 0
    assert sealed("key", "rotate", "audit", "nowhere", "--json").error == "secret-not-found"


def test_data_keys_are_replaced_by_who_reads_and_writes(sealed: Cli) -> None:
    refused = sealed("key", "rotate", "data", "payments/key")
    assert (refused.code, "sealed from this key" in refused.err) == (7, True)
    assert "--key identity:FILE" in refused.err
    code, text = as_service(sealed, "pay", "key", "rotate", "data", "payments/")
    assert (code, "reads `payments/` and does not write it" in text) == (7, True)
    assert sealed("scope", "grant", "payments", "--write", "role:pay").code == 0
    code, text = as_service(sealed, "pay", "key", "rotate", "data", "payments/key")
    assert (code, "may not key.manage" in text) == (5, True)
    more = '\n[[roles.pay.grants]]\nactions = ["key.manage"]\n'
    tables = _GRANTS.format("pay") + more
    Path("grants.toml").write_text(tables, encoding="utf-8")
    assert sealed("policy", "apply", "grants.toml", "--yes").code == 0
    code, text = as_service(sealed, "pay", "key", "rotate", "data", "payments/")
    assert (code, text) == (0, "rotated  the data keys of 1 secret\n")
    sealed("secret", "put", "app/key", stdin="outside")
    everything = sealed("key", "rotate", "data", "", "--json").json
    assert (everything["secret_count"], everything["left"]) == (1, ["payments/"])
    shown = sealed("secret", "get", "payments/key", "--reveal", "--key", "identity:pay.identity", reveals=True)
    assert shown.text == "sk-canary"


def test_what_a_role_could_read_is_listed_as_exposed(sealed: Cli) -> None:
    assert sealed("scope", "grant", "payments", "--read", "role:web").code == 0
    assert sealed("scope", "revoke", "payments", "--list", "role:web").code == 0
    assert sealed("scope", "revoke", "payments", "--list", "role:web").code == 0
    told = sealed("audit", "exposed", "--json").json["secrets"]
    assert [(each["path"], each["reason"], each["kind"], each["label"]) for each in told] == [
        ("payments/key", "removed-key", "role", "web")
    ]
    code, text = as_service(sealed, "pay", "audit", "exposed")
    assert (code, "payments/key" in text) == (0, True)


# --- who leaves a role ------------------------------------------------------------------------------------------------


@pytest.fixture
def second(sealed: Cli) -> Cli:
    """A second member of role `pay`, who has its key."""
    tables = _GRANTS.format("pay").replace('["svc:pay"]', '["svc:pay", "svc:second"]')
    Path("grants.toml").write_text(tables, encoding="utf-8")
    assert sealed("policy", "apply", "grants.toml", "--yes").code == 0
    sealed("identity", "create", "svc:second", "--out", "second.identity", "--public", "second.pub")
    assert sealed("role", "add", "pay", "--member", "svc:second", "--identity", "second.pub").code == 0
    as_service(sealed, "pay", "secret", "list")
    assert as_service(sealed, "second", "secret", "list") == (0, "payments/key\n")
    return sealed


def test_a_role_gets_another_key_when_somebody_leaves(second: Cli) -> None:
    removed = second("role", "remove", "pay", "--member", "svc:second")
    assert removed.text == "removed  svc:second from pay\n"
    assert "svc:second may have kept the key of pay, which opens sealed scopes" in removed.err
    assert "securecfg role rotate pay" in removed.err
    would = second("role", "rotate", "pay", "--dry-run", "--json").json
    assert would == {"role": "pay", "members": ["svc:pay"], "scopes": ["payments/"], "is_done": False}
    done = second("role", "rotate", "pay")
    assert done.text == "rotated  pay in payments/\nmember   svc:pay\n"
    assert "waits in payments/" in done.err
    assert second("secret", "put", "payments/new", stdin="sk-newer").code == 0
    for name in ("key", "new"):
        shown = second("secret", "get", f"payments/{name}", "--reveal", "--key", "identity:pay.identity", reveals=True)
        assert shown.code == 0, shown.err
    assert as_service(second, "second", "secret", "list")[0] == 7
    assert second("role", "rotate", "pay", "--resume", "--json").json["waiting"] == []
    exposed = second("audit", "exposed", "--json").json["secrets"]
    assert [each["path"] for each in exposed] == ["payments/key"]


def test_removing_a_recipient_is_one_operation(second: Cli) -> None:
    removed = second("role", "remove", "pay", "--member", "svc:second", "--rotate", "--json").json
    assert removed == {"role": "pay", "member": "svc:second", "is_rotated": True}
    assert as_service(second, "second", "secret", "list")[0] == 7
    assert as_service(second, "pay", "secret", "list") == (0, "payments/key\n")
    assert second("role", "rotate", "web", "--json").error == "secret-not-found"


# --- the worst day ----------------------------------------------------------------------------------------------------


def test_a_compromise_names_the_scopes_that_need_a_reader(sealed: Cli) -> None:
    would = sealed("key", "compromise", "--dry-run", "--json").json
    assert (would["scopes"], [each["path"] for each in would["exposed"]]) == (["payments/"], ["payments/key"])
    code, text = as_service(sealed, "pay", "key", "compromise", "--yes")
    assert (code, "by whoever opens the vault by its root" in text) == (7, True)
    code, text = as_service(sealed, "pay", "key", "compromise", "--resume")
    assert (code, "no compromise was declared" in text) == (3, True)
    done = sealed("key", "compromise", "--yes", "--reason", "a theft")
    assert "replaced  all keys of payments/\n" in done.text
    assert "exposed  payments/key@1\n" in done.text
    assert "1 data key of payments/ wait for somebody who reads it" in done.err
    assert "`securecfg key compromise --resume --key identity:FILE`" in done.err
    told = sealed("key", "compromise", "--resume", "--key", "identity:pay.identity")
    assert told.text == "replaced  payments/   0 secrets encrypted anew\n"
    assert "hint: no role does both; for that time: `securecfg scope grant payments/ --write ROLE`" in told.err
    sealed("scope", "grant", "payments", "--write", "role:pay")
    told = sealed("key", "compromise", "--resume", "--json", "--key", "identity:pay.identity").json
    assert [(each["encrypted_count"], each["is_done"]) for each in told["scopes"]] == [(1, True)]
    assert [each["is_done"] for each in sealed("key", "compromise", "--resume", "--json").json["scopes"]] == [True]
    assert sealed("scope", "show", "payments", "--json").json["value_epochs"] == 1
    shown = sealed("secret", "get", "payments/key", "--reveal", "--key", "identity:pay.identity", reveals=True)
    assert shown.text == "sk-canary"


def test_taking_the_last_reader_away_is_asked_first(sealed: Cli) -> None:
    for right in ("--read", "--list"):
        refused = sealed("scope", "revoke", "payments", right, "role:pay", "--no-input", "--json")
        assert refused.error == "confirmation-required"
    assert as_service(sealed, "pay", "secret", "list") == (0, "payments/key\n")
    assert sealed("scope", "grant", "payments", "--read", "role:web").code == 0
    assert sealed("scope", "revoke", "payments", "--list", "role:pay", "--no-input").code == 0
    assert sealed("scope", "revoke", "payments", "--read", "role:web", "--yes").code == 0


def test_refuses_to_remove_the_last_who_could_read(sealed: Cli) -> None:
    refused = sealed("role", "remove", "pay", "--member", "svc:pay", "--rotate", "--json")
    assert refused.error == "invalid-metadata"
    assert "`securecfg scope revoke PATH --list role:pay`" in refused.json["error"]["hint"]
    sealed("identity", "create", "svc:second", "--out", "second.identity", "--public", "second.pub")
    assert sealed("role", "add", "pay", "--member", "svc:second", "--identity", "second.pub").code == 0
    refused = sealed("role", "remove", "pay", "--member", "svc:pay", "--rotate", "--json")
    assert refused.error == "conflict"
    assert "svc:pay" in sealed("role", "list").text


def test_a_scope_that_does_not_open_keeps_nobody_in_the_others(second: Cli) -> None:
    assert second("scope", "create", "broken", "--read", "role:web", "--write", "role:web").code == 0
    store = open_sqlite(Path(".securecfg/shop.vault"))
    store.partition(max(store.partitions())).stage([Put(Space.META, 4, bytes(202))])
    store.close()
    removed = second("role", "remove", "pay", "--member", "svc:second", "--rotate")
    assert removed.code == 8
    assert "note: svc:second is no member of pay any more" in removed.err
    assert "`securecfg role rotate pay --resume` goes on" in removed.err
    members = [each for role in second("role", "list", "--json").json["roles"] for each in role["members"]]
    assert [each["source"] for each in members if each["principal"] == "svc:second"] == ["grants.toml:3:23"]


# --- bundles ----------------------------------------------------------------------------------------------------------


def test_an_identity_publishes_its_scopes_and_merges_what_was_read(people: Cli) -> None:
    tables = "".join(_GRANTS.format(name) for name in ("pay", "web")).replace('"write"]', '"write", "export"]')
    more = '\n[[roles.web.grants]]\nactions = ["audit.read", "role.read"]\n'
    Path("grants.toml").write_text(tables + more, encoding="utf-8")
    assert people("policy", "apply", "grants.toml", "--yes").code == 0
    for scope in ("front", "back"):
        assert people("scope", "create", scope, "--read", "role:web", "--write", "role:web").code == 0
        put = people("secret", "put", f"{scope}/key", "--key", "identity:web.identity", stdin=f"of {scope}")
        assert put.code == 0, put.err
    mine = ("--key", "identity:web.identity")
    would = people("vault", "publish", "--for", "web", "--dry-run", "--json", *mine).json
    assert (would["secrets"], would["scopes"], would["left_out"]) == (
        ["back/key", "front/key"],
        ["back/", "front/"],
        [],
    )
    done = people("vault", "publish", "--for", "web", "-o", "web.sealed", "--from", "front", "--json", *mine)
    assert done.code == 0, done.err
    reading = ("--vault", "web.sealed", *mine, "--audit-sink", "file:reads.sink")
    for scope in ("front", "back"):
        shown = people("secret", "get", f"{scope}/key", "--reveal", *reading, reveals=True)
        assert (shown.code, shown.text) == (0, f"of {scope}")
    merged = people("audit", "merge", "reads.sink", "--json", *mine)
    assert merged.code == 0, merged.err
    assert merged.json["files"][0]["record_count"] == 2


@pytest.fixture
def administered(people: Cli) -> Cli:
    """The same, with identities of three people who shall administer the scopes."""
    people("scope", "create", "payments", "--read", "role:pay")
    people("secret", "put", "payments/key", stdin="sk-canary")
    for name in ("alice", "bob", "carol"):
        people("identity", "create", name, "--out", f"{name}.identity", "--public", f"{name}.pub")
    return people


def set_administrators(cli: Cli, *signers: str, more: tuple[str, ...] = ("--yes",)) -> tuple[int, str]:
    names = [part for name in ("alice", "bob", "carol") for part in ("--administrator", f"{name}.pub")]
    signing = [part for name in signers for part in ("--sign", f"identity:{name}.identity")]
    outcome = cli("scope", "administrators", "set", "--threshold", "2", *names, *signing, *more)
    return outcome.code, outcome.text or outcome.err


def test_several_administrators_sign_at_one_place(administered: Cli) -> None:
    cli = administered
    assert "the vault's own key signs" in cli("scope", "administrators", "show").text
    code, text = set_administrators(cli, "alice")
    assert (code, "signatures of administrators" in text) == (5, True)
    code, text = set_administrators(cli, "alice", "bob", more=("--dry-run",))
    assert (code, text.splitlines()[0]) == (0, "would make administrators, of whom 2 sign:")
    assert cli("scope", "administrators", "show", "--json").json["threshold"] == 1
    code, text = set_administrators(cli, "alice", "bob")
    assert code == 0, text
    shown = cli("scope", "administrators", "show", "--json").json
    assert (shown["threshold"], shown["revision"], shown["pending"]) == (2, 1, [])
    assert [each["principal"] for each in shown["administrators"]] == ["user:alice", "user:bob", "user:carol"]
    refused = cli("scope", "grant", "payments", "--read", "role:web", "--json")
    assert (refused.code, refused.error) == (5, "signatures-missing")
    both = ("--sign", "identity:alice.identity", "--sign", "identity:carol.identity")
    granted = cli("scope", "grant", "payments", "--read", "role:web", *both)
    assert granted.code == 0, granted.err
    assert as_service(cli, "web", "secret", "list") == (0, "payments/key\n")
    assert cli("scope", "revoke", "payments", "--list", "role:web", *both).code == 0
    assert cli("scope", "administrators", "rotate", *both).code == 0
    assert cli("scope", "administrators", "resume").code == 0
    back = cli("scope", "administrators", "set", "--vault-key", *both, "--yes")
    assert back.code == 0, back.err
    assert cli("scope", "grant", "payments", "--read", "role:web").code == 0
    assert as_service(cli, "pay", "secret", "list") == (0, "payments/key\n")


def test_a_new_member_is_signed_for(administered: Cli) -> None:
    cli = administered
    assert set_administrators(cli, "alice", "bob")[0] == 0
    cli("identity", "create", "svc:late", "--out", "late.identity", "--public", "late.pub")
    both = ("--sign", "identity:alice.identity", "--sign", "identity:carol.identity")
    added = cli("role", "add", "pay", "--member", "svc:late", "--identity", "late.pub", *both)
    assert added.code == 0, added.err
    as_service(cli, "pay", "secret", "list")
    assert as_service(cli, "late", "secret", "list") == (0, "payments/key\n")


def test_what_is_not_said_or_cannot_be_is_refused(administered: Cli) -> None:
    cli = administered
    for arguments in (
        ("set", "--yes"),
        ("set", "--vault-key", "--administrator", "alice.pub", "--yes"),
        ("set", "--administrator", "alice.pub", "--threshold", "2", "--yes"),
        ("rotate", "--sign", "file:x.key"),
    ):
        refused = cli("scope", "administrators", *arguments)
        assert refused.code == 2, refused.err
    names = ("--administrator", "alice.pub", "--sign", "identity:alice.identity")
    unconfirmed = cli("scope", "administrators", "set", *names, "--no-input")
    assert (unconfirmed.code, "--yes" in unconfirmed.err) == (2, True)
    assert "the vault's own key signs" in cli("scope", "administrators", "show").text


def test_an_administrator_signs_a_request_after_seeing_what_it_says(administered: Cli) -> None:
    cli = administered
    before = Trust((b"a" * 32,), 1)
    request = Request((step_message(b"v" * 16, before, Trust((b"b" * 32, b"c" * 32), 2, 1)),))
    Path("x.request").write_text(request.to_text("a lie").replace("from now on", "lunch"), encoding="utf-8")
    unconfirmed = cli("scope", "sign", "x.request", "--key", "identity:alice.identity", "--no-input")
    assert unconfirmed.code == 2
    assert "from now on 2 of 2" in unconfirmed.err
    assert list(Path().glob("*.signatures")) == []
    signed = cli("scope", "sign", "x.request", "--key", "identity:alice.identity", "--yes", "--json")
    assert signed.code == 0, signed.err
    assert (signed.json["request"], signed.json["signer"]) == (request.id, "user:alice")
    assert [str(file) for file in Path().glob("*.signatures")] == [signed.json["signatures"]]
    assert cli("scope", "sign", "x.request", "--key", "identity:alice.pub", "--yes").code == 7
    Path("y.request").write_text("SECURECFG-REQUEST-1 x\n", encoding="utf-8")
    assert cli("scope", "sign", "y.request", "--key", "identity:alice.identity", "--yes").code == 2


def test_nobody_waits_longer_than_asked(administered: Cli) -> None:
    code, text = set_administrators(administered, "alice", more=("--yes", "--requests", "asked", "--wait", "0"))
    assert (code, "1 of the 2 signatures" in text) == (5, True)
    assert list(Path("asked").iterdir()) == []


def test_administrators_who_are_elsewhere_are_asked_by_files(administered: Cli) -> None:
    signers = [open_provider(f"identity:{name}.identity") for name in ("alice", "bob")]
    has_ended = threading.Event()

    def sign_elsewhere() -> None:
        seen: set[Path] = set()
        while not has_ended.wait(0.02):
            for file in set(Path("asked").glob("*.request")) - seen:
                seen.add(file)
                request = read_request(file)
                for signer in signers:
                    assert isinstance(signer, IdentityProvider)
                    write_signatures(file, request, signer.read_identity().verifier, signer.sign)

    elsewhere = threading.Thread(target=sign_elsewhere)
    elsewhere.start()
    try:
        code, text = set_administrators(administered, more=("--yes", "--requests", "asked"))
        assert code == 0, text
        granted = administered("scope", "grant", "payments", "--read", "role:web", "--requests", "asked")
        assert granted.code == 0, granted.err
        assert "securecfg scope sign" in granted.err
    finally:
        has_ended.set()
        elsewhere.join()
    assert as_service(administered, "web", "secret", "list") == (0, "payments/key\n")


@pytest.fixture
def inbox(people: Cli) -> Cli:
    """A scope that `pay` reads and writes, and into which `web` drops."""
    made = people("scope", "create", "payments", "--read", "role:pay", "--write", "role:pay", "--drop", "role:web")
    assert made.code == 0, made.err
    assert made.text.endswith("  administrator: list\n  pay: list, read, write\n  web: drop\n")
    return people


WEB, PAY = ("--key", "identity:web.identity"), ("--key", "identity:pay.identity")


def test_put_drops_where_one_may_do_nothing_else(inbox: Cli) -> None:
    dropped = inbox("secret", "put", "payments/key", *WEB, stdin="sk-canary\n")
    assert dropped.code == 0, dropped.err
    assert dropped.text.startswith("dropped  payments/key; receipt ")
    assert "ends with a newline" in dropped.err
    receipt = dropped.text.split()[-1]
    assert inbox("secret", "receipt", receipt, *WEB).text == f"waiting  {receipt}\n"
    assert "\n  1 dropped value waiting\n" in inbox("scope", "show", "payments").text
    assert inbox("scope", "show", "payments", "--json").json["waiting"] == 1
    assert inbox("secret", "list", *WEB).text == ""
    refused = inbox("secret", "get", "payments/key", "--reveal", *WEB, "--json")
    assert (refused.code, refused.error) == (7, "scope-sealed")
    shown = inbox("secret", "get", "payments/key", "--reveal", *PAY, reveals=True)
    assert (shown.code, shown.text) == (0, "sk-canary\n")
    assert inbox("secret", "receipt", receipt, *PAY).text == "written  payments/key@1\n"
    assert inbox("secret", "receipt", receipt, *PAY, "--json").json == {
        "receipt": receipt,
        "state": "collected",
        "path": "payments/key",
        "version": 1,
    }
    assert inbox("secret", "receipt", receipt, *WEB, "--json").json == {"receipt": receipt, "state": "gone"}
    assert inbox("secret", "receipt", receipt, *WEB).text.startswith(f"gone  {receipt}")
    assert inbox("secret", "receipt", "nonsense", *WEB).code == 2


def test_what_needs_the_version_before_cannot_be_dropped(inbox: Cli) -> None:
    for options in (("--expect", "0"), ("--allow-lookalike",), ("--field", "a")):
        refused = inbox("secret", "put", "payments/key", *options, *WEB, stdin="x")
        assert refused.code == 2, options
    dropped = inbox("secret", "put", "payments/key", "--field", "a", "--replace", *WEB, "--json", stdin="x")
    assert (dropped.code, dropped.json["path"], len(dropped.json["receipt"])) == (0, "payments/key", 32)
    assert "version" not in dropped.json
    assert inbox("secret", "put", "other/key", *WEB, stdin="x").code == 7


def test_collect_takes_in_what_waits_and_says_what_was_refused(inbox: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("securecfg.vault.drops.collecting.AT_ONCE", 1)
    assert inbox("secret", "put", "payments/mail", *PAY, stdin="x").code == 0
    inbox("secret", "put", "payments/one", *WEB, stdin="x")
    lookalike = inbox("secret", "put", "payments/rnail", *WEB, stdin="x").text.split()[-1]
    taken = inbox("scope", "collect", "payments", *PAY)
    assert taken.code == 0, taken.err
    assert taken.text == "written  payments/one@1\nrefused  1 value: confusable-path 1\n"
    assert inbox("secret", "receipt", lookalike, *PAY).text == "refused  payments/rnail: confusable-path\n"
    assert inbox("scope", "collect", "payments", *PAY).text == "nothing waits\n"
    assert inbox("scope", "collect", "payments", *PAY, "--json").json == {
        "path": "payments",
        "secrets": [],
        "refused": {},
        "waiting": 0,
    }
    for key in (WEB, ()):
        assert inbox("scope", "collect", "payments", *key, "--json").error == "scope-sealed"


def test_a_compromise_names_the_scopes_in_which_values_wait(inbox: Cli) -> None:
    inbox("secret", "put", "payments/one", *WEB, stdin="x")
    done = inbox("key", "compromise", "--yes")
    collect = "`securecfg scope collect payments/ --key identity:FILE`"
    assert f"note: 1 dropped value of payments/ waits under a key that may be known: {collect}" in done.err
    assert "0 secrets" not in done.err
    (left,) = inbox("key", "compromise", "--resume", "--json").json["scopes"]
    assert (left["waiting_drops"], left["is_done"]) == (1, False)
    assert inbox("scope", "collect", "payments", *PAY).text == "written  payments/one@1\n"
    (left,) = inbox("key", "compromise", "--resume", "--json").json["scopes"]
    assert (left["waiting_drops"], left["is_done"]) == (0, True)
    exposed = inbox("audit", "exposed", *PAY, "--json").json["secrets"]
    assert [each["path"] for each in exposed] == ["payments/one"]


def test_a_drop_box_needs_somebody_who_empties_it(people: Cli) -> None:
    refused = people("scope", "create", "payments", "--read", "role:pay", "--drop", "role:web")
    assert refused.code == 2
    assert "no role reads and writes" in refused.err
    assert people("scope", "list", "--json").json == {"scopes": []}
    people("scope", "create", "payments", "--read", "role:pay", "--write", "role:pay")
    granted = people("scope", "grant", "payments", "--drop", "role:web", "--json").json
    assert granted["roles"]["web"] == ["drop"]
    would = people("scope", "revoke", "payments", "--drop", "role:web", "--dry-run")
    assert would.text == "would change  drop of role:web in payments/\n"
    assert "web" not in people("scope", "revoke", "payments", "--drop", "role:web", "--json").json["roles"]
