"""`securecfg scope abandon` and `discard`: giving up what was interrupted, and what is lost."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from securecfg.vault import Vault
from securecfg.vault.scopes.making import begin_making
from tests.cli.test_scope import people

if TYPE_CHECKING:
    from tests.cli.running import Cli

__all__ = ["people"]


def begin(path: str) -> None:
    """Begin to make a scope, as a process does that dies then."""
    with Vault.open() as vault:
        begin_making(vault.authority, path, {}, bytes(16))


@pytest.fixture
def begun(people: Cli) -> Cli:
    """A scope that `role:pay` takes part in, and one whose making was interrupted."""
    assert people("scope", "create", "web", "--read", "role:pay").code == 0
    begin("payments/")
    return people


def test_a_making_that_was_interrupted_is_shown_and_given_up(begun: Cli) -> None:
    refused = begun("role", "rotate", "pay")
    assert refused.code == 6
    assert "`securecfg scope abandon payments/`" in refused.err
    (shown,) = begun("scope", "list", "--json").json["making"]
    assert shown.pop("begun").endswith("Z")
    assert 0 <= shown.pop("age_s") < 60
    assert shown == {"path": "payments/", "is_in_the_way": True}
    assert "being made, begun less than a minute ago" in begun("scope", "list").text
    checks = begun("doctor", "--json").json["checks"]
    (check,) = (each for each in checks if each["name"] == "scopes")
    assert (check["grade"], check["message"]) == ("note", "`payments/` is being made, begun less than a minute ago")
    assert "`securecfg scope abandon payments/`" in check["hint"]
    given_up = begun("scope", "abandon", "payments", "--yes", "--reason", "lost power")
    assert (given_up.code, given_up.text) == (0, "given up  the making of payments/, begun less than a minute ago\n")
    assert begun("scope", "list", "--json").json["making"] == []
    assert begun("role", "rotate", "pay").code == 0
    assert "lost power" in begun("audit", "show", "--json").text


def test_nothing_is_given_up_without_a_word(begun: Cli) -> None:
    refused = begun("scope", "abandon", "payments", "--no-input", "--json")
    assert (refused.code, refused.error) == (2, "confirmation-required")
    dry = begun("scope", "abandon", "payments", "--dry-run", "--json").json
    assert (dry["path"], dry["is_done"]) == ("payments/", False)
    assert len(begun("scope", "list", "--json").json["making"]) == 1
    done = begun("scope", "abandon", "payments", "--yes", "--json").json
    assert (done["path"], done["is_done"]) == ("payments/", True)


@pytest.mark.parametrize(("path", "code", "error"), [("web", 3, "secret-not-found"), ("../x", 2, "invalid-path")])
def test_what_is_not_being_made_is_not_given_up(begun: Cli, path: str, code: int, error: str) -> None:
    refused = begun("scope", "abandon", path, "--yes", "--json")
    assert (refused.code, refused.error) == (code, error)
    assert len(begun("scope", "list", "--json").json["making"]) == 1


def test_a_vault_without_scopes_has_nothing_to_say_of_them(people: Cli) -> None:
    checks = people("doctor", "--json").json["checks"]
    assert [each for each in checks if each["name"] == "scopes"] == []


# --- a scope that is lost ---------------------------------------------------------------------------------------------


@pytest.fixture
def gone(people: Cli) -> Cli:
    """A scope `web`, and one `payments` whose head somebody has taken away."""
    for path in ("web", "payments"):
        assert people("scope", "create", path, "--read", "role:pay").code == 0
    with Vault.open() as vault:
        file = Path(vault.opened.path or "")
    with closing(sqlite3.connect(file)) as database:
        database.execute("DELETE FROM g WHERE i = 2")
        database.commit()
    return people


def test_a_scope_that_is_lost_is_shown_and_given_up(gone: Cli) -> None:
    listed = gone("scope", "list", "--json")
    assert listed.code == 8
    assert [each["path"] for each in listed.json["scopes"]] == ["web/"]
    (failed,) = listed.json["failed"]
    assert (failed["path"], failed["code"]) == ("payments/", "tampered")
    assert "`securecfg scope discard payments/`" in listed.err
    doctor = gone("doctor", "--json")
    assert doctor.code == 8
    assert "problem" in {each["grade"] for each in doctor.json["checks"] if each["name"] == "scope payments/"}
    assert gone("role", "rotate", "pay").code == 8
    dry = gone("scope", "discard", "payments", "--dry-run", "--json").json
    message = "the sealed scope `payments/` is not there"
    assert dry == {"path": "payments/", "condition": "missing", "message": message, "is_done": False}
    done = gone("scope", "discard", "payments", "--yes", "--reason", "flood")
    assert (done.code, done.text) == (0, "given up  payments/ (missing)\n")
    assert "change those values where they are used" in done.err
    assert gone("scope", "list").code == 0
    assert gone("role", "rotate", "pay", "--resume").code == 0
    exposed = gone("audit", "exposed", "--json")
    assert exposed.json["given_up"] == ["payments/"]
    assert "what was in `payments/`, which was given up, is not known" in exposed.err
    refused = gone("secret", "put", "payments/key", "--json", stdin="sk-canary")
    assert (refused.code, refused.error) == (7, "scope-sealed")
    assert gone("scope", "create", "payments", "--read", "role:pay").code == 0
    assert gone("secret", "put", "payments/key", stdin="sk-canary").code == 0
    assert "given_up" not in gone("audit", "exposed", "--json").json


def test_no_scope_is_given_up_without_a_word(gone: Cli) -> None:
    refused = gone("scope", "discard", "payments", "--no-input", "--json")
    assert (refused.code, refused.error) == (2, "confirmation-required")
    assert gone("scope", "list").code == 8


def test_what_somebody_reads_is_not_given_up_and_what_nobody_reads_only_by_name(people: Cli) -> None:
    people("scope", "create", "web", "--read", "role:web")
    for flags in ((), ("--lost",), ("--lost", "--dry-run")):
        refused = people("scope", "discard", "web", "--yes", "--json", *flags)
        assert (refused.code, refused.error) == (6, "conflict")
    people("role", "remove", "web", "--member", "svc:web")
    policy = Path("grants.toml").read_text(encoding="utf-8").replace('["svc:web"]', "[]")
    Path("grants.toml").write_text(policy, encoding="utf-8")
    assert people("policy", "apply", "grants.toml", "--yes").code == 0
    refused = people("scope", "discard", "web", "--yes")
    assert refused.code == 6
    assert "nobody is left who reads `web/`" in refused.err
    assert "--lost" in refused.err
    assert people("scope", "discard", "web", "--yes", "--lost").text == "given up  web/ (unread)\n"


@pytest.mark.parametrize(("path", "code"), [("nothing", 3), ("../x", 2)])
def test_what_is_no_scope_is_not_given_up(gone: Cli, path: str, code: int) -> None:
    assert gone("scope", "discard", path, "--yes", "--lost").code == code
