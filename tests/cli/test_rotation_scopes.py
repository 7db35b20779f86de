"""Rotations in sealed scopes on the command line: a member does all of it, and others are told why they cannot."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from securecfg.rotation import names
from securecfg.testing.account import Account
from securecfg.vault import Vault
from tests.cli.running import CANARY
from tests.rotation.accounts import ACCOUNTS, MISSING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.cli.running import Cli

PATH = "pay/db"
PAY, READER, WEB = (("--key", f"identity:{name}.identity") for name in ("pay", "reader", "web"))
_GRANTS = """
[roles.{0}]
[[roles.{0}.grants]]
actions = ["read", "list", "write", "rotate"]
paths = ["**"]
[[roles.{0}.grants]]
actions = ["audit.read"]
"""


@pytest.fixture(autouse=True)
def rotators(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(names.BUILT_IN, "account", "tests.rotation.accounts")
    ACCOUNTS.append(Account(CANARY))
    yield
    ACCOUNTS.clear()
    MISSING.clear()


@pytest.fixture
def sealed(project: Path, cli: Cli) -> Path:
    """A project with the scopes pay/ and web/, and a credential in pay/ that is rotated when that is asked for."""
    (project / "grants.toml").write_text("".join(map(_GRANTS.format, ("pay", "reader", "web"))))
    assert cli("policy", "apply", "grants.toml", "--yes").code == 0
    for name in ("pay", "reader", "web"):
        made = cli("identity", "create", f"svc:{name}", "--out", f"{name}.identity", "--public", f"{name}.pub")
        assert made.code == 0, made.err
        assert cli("role", "add", name, "--member", f"svc:{name}", "--identity", f"{name}.pub").code == 0
    both = ("--read", "role:pay", "--read", "role:reader", "--write", "role:pay")
    assert cli("scope", "create", "pay", *both).code == 0
    assert cli("scope", "create", "web", "--read", "role:web", "--write", "role:web").code == 0
    value = json.dumps({"username": "shop", "password": CANARY})
    assert cli("secret", "put", PATH, "--fields", *PAY, stdin=value).code == 0
    outcome = cli("rotation", "set", PATH, "--rotator", "account", "--every", "30d", *PAY)
    assert outcome.code == 0, outcome.err
    return project


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", PATH),
        ("set", PATH, "--rotator", "account"),
        ("unset", PATH),
        ("pause", PATH),
        ("check", PATH),
        ("status", PATH),
        ("history", PATH),
    ],
)
def test_who_is_no_member_is_told_that_the_scope_is_sealed(sealed: Path, cli: Cli, arguments: tuple[str, ...]) -> None:
    assert sealed.exists()
    outcome = cli("rotation", *arguments, *WEB, "--json")
    assert (outcome.code, outcome.error) == (7, "scope-sealed")
    assert cli("rotation", "status", *WEB).text == "nothing is rotated\n"
    assert cli("rotation", "plan", *WEB, "--json").json["not_planned"] == []


@pytest.mark.parametrize("who", [READER, ()])
@pytest.mark.parametrize("arguments", [("run", PATH), ("set", PATH, "--rotator", "account"), ("unset", PATH)])
def test_who_does_not_read_and_write_the_scope_changes_nothing(
    sealed: Path, cli: Cli, who: tuple[str, ...], arguments: tuple[str, ...]
) -> None:
    assert sealed.exists()
    before = cli("rotation", "status", PATH, *PAY, "--json").json
    outcome = cli("rotation", *arguments, *who, "--json")
    assert (outcome.code, outcome.error or outcome.json["results"][0]["error"]["code"]) == (7, "scope-sealed")
    assert cli("rotation", "status", PATH, *PAY, "--json").json == before
    assert cli("rotation", "run", "--all", "--yes", *who).text == "nothing is to be done\n"
    assert ACCOUNTS[-1].accepted == {CANARY}


def test_a_member_rotates_with_nothing_but_an_identity(sealed: Path, cli: Cli) -> None:
    assert sealed.exists()
    assert cli("rotation", "check", PATH, *PAY).code == 0
    assert cli("rotation", "check", *PAY).code == 0
    assert cli("rotation", "run", "--due", *PAY).text == "nothing is to be done\n"
    ran = cli("rotation", "run", PATH, *PAY)
    assert ran.code == 0, ran.err
    assert ran.text.startswith(f"rotated  {PATH}@2")
    assert CANARY not in ran.text
    [one] = cli("rotation", "status", *PAY, "--json").json["rotations"]
    assert one["path"] == PATH
    events = cli("rotation", "history", PATH, *PAY, "--json").json["events"]
    assert [each["to"] for each in events if each["to"] != each["from"]][-1] == "current"
    assert {each["principal"] for each in events} == {"svc:pay"}
    planned = cli("rotation", "plan", *PAY, "--days", "60", "--json").json
    assert [each["path"] for day in planned["days"] for each in day["rotations"]][:1] == [PATH]
    assert cli("rotation", "simulate", *PAY, "--days", "60", "--json").json["rotation_count"] >= 1
    for word in ("pause", "resume"):
        assert cli("rotation", word, PATH, *PAY).code == 0
    with Vault.open(key="identity:pay.identity") as vault:
        assert ACCOUNTS[-1].accepted >= {str(vault.read(PATH).field("password").reveal())}


def test_the_vaults_own_key_lists_what_is_rotated_and_does_not_do_it(sealed: Path, cli: Cli) -> None:
    assert sealed.exists()
    [one] = cli("rotation", "status", "--json").json["rotations"]
    assert one["path"] == PATH
    assert cli("rotation", "check").text == "there is nothing to check\n"
    assert cli("rotation", "history", PATH, "--json").code == 0
    checks = cli("doctor", *PAY, "--json").json["checks"]
    assert [each["grade"] for each in checks if each["name"] == "rotations"] == ["ok"]


def test_an_option_names_no_secret_outside_of_the_scope(sealed: Path, cli: Cli) -> None:
    assert sealed.exists()
    outcome = cli("rotation", "set", PATH, "--option", "admin=${secret:web/key}", *PAY, "--json")
    assert (outcome.code, outcome.error) == (2, "invalid-rotation")
    assert "outside of the sealed scope" in outcome.json["error"]["message"]
