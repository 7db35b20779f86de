"""`securecfg scope`: sealing parts of a vault for roles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
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
    assert dry.json == {"path": "payments/", "roles": {"list": [], "read": ["role:pay"], "write": []}, "is_done": False}
    assert people("scope", "show", "payments", "--json").json["revision"] == 1


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
    ):
        outcome = people(*arguments, "--json")
        assert (outcome.code, outcome.error) == (code, error), arguments
        assert outcome.json["error"]["hint"] or error == "invalid-path"


def test_a_backup_of_a_vault_with_scopes_is_refused(people: Cli) -> None:
    people("scope", "create", "payments", "--read", "role:pay")
    outcome = people("vault", "backup", "copies", "--json", "--to", "file:key")
    assert (outcome.code, outcome.error) == (10, "unsupported")
    assert not Path("copies").exists()


def test_an_import_puts_nothing_beside_a_scope_nor_into_it(people: Cli) -> None:
    people("scope", "create", "app", "--read", "role:pay", "--write", "role:pay")
    Path("app.toml").write_text('password = "hunter2-canary-4711"\n', encoding="utf-8")
    beside = people("import", "app.toml", "--yes", "--json")
    assert (beside.code, beside.error) == (7, "scope-sealed")
    into = people("import", "app.toml", "--yes", "--json", "--key", "identity:pay.identity")
    assert into.code != 0
    assert "hunter2-canary-4711" in Path("app.toml").read_text(encoding="utf-8")
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
    assert refused.error == "conflict"
    assert "svc:pay" in sealed("role", "list").text


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
