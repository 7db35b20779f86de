"""`securecfg scope break-glass`: shares are made, a scope is opened with them, and everybody sees it afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.running import CANARY
from tests.cli.test_scope import people

if TYPE_CHECKING:
    from tests.cli.running import Cli

__all__ = ["people"]

_GRANTS = """
[roles.{0}]
members = {1}
[[roles.{0}.grants]]
actions = ["read", "list", "write"]
paths = ["**"]
[[roles.{0}.grants]]
actions = ["audit.read"]
"""
WHY = "incident 42"


@pytest.fixture
def scoped(people: Cli) -> Cli:
    """A scope with a value, and a policy that lets the role of break-glass read it."""
    grants = [("pay", '["svc:pay"]'), ("web", '["svc:web"]'), ("break-glass", "[]")]
    Path("grants.toml").write_text("".join(_GRANTS.format(*one) for one in grants), encoding="utf-8")
    assert people("policy", "apply", "grants.toml", "--yes").code == 0
    assert people("scope", "create", "payments", "--read", "role:pay").code == 0
    assert people("secret", "put", "payments/key", stdin=CANARY).code == 0
    return people


def make(cli: Cli, *arguments: str) -> None:
    made = cli("scope", "break-glass", *arguments, "--threshold", "2", "--yes")
    assert made.code == 0, made.err
    # What was written before is given to it by a reader.
    assert cli("secret", "list", "--key", "identity:pay.identity").code == 0


def key(folder: str, *numbers: int, suffix: str = "txt") -> str:
    return f"identity:{folder}/break-glass.identity?shares=" + ",".join(f"{folder}/share-{n}.{suffix}" for n in numbers)


def findings(cli: Cli) -> list[tuple[str, str]]:
    checks = cli("doctor", "--json").json["checks"]
    return [(one["grade"], one["message"]) for one in checks if one["name"] == "break-glass"]


def test_shares_open_a_scope_for_a_reason_and_everybody_sees_it(scoped: Cli) -> None:
    assert findings(scoped) == []
    make(scoped, "payments", "--shares", "3", "--out", "glass")
    assert sorted(path.name for path in Path("glass").iterdir()) == [
        "break-glass.identity",
        "break-glass.pub",
        "share-1.txt",
        "share-2.txt",
        "share-3.txt",
    ]
    assert {path.stat().st_mode & 0o777 for path in Path("glass").glob("*[!b]")} == {0o600}
    assert findings(scoped) == [("ok", "ready for `payments/`, and not used since it was made")]
    read = ("secret", "get", "payments/key", "--reveal", "--key", key("glass", 1, 3))
    refused = scoped(*read, "--json")
    assert (refused.code, refused.error) == (2, "setting-missing")
    assert findings(scoped)[0][0] == "ok"
    opened = scoped(*read, "--reason", WHY, reveals=True)
    assert (opened.code, opened.text) == (0, CANARY)
    ((grade, message),) = findings(scoped)
    assert grade == "warning"
    assert message.startswith("`role:break-glass` has opened `payments/` 1 time, at ")
    (use,) = scoped("vault", "status", "--json").json["break_glass"]
    assert (use["path"], use["role"], use["use_count"]) == ("payments/", "break-glass", 1)
    assert "break-glass  `role:break-glass` has opened `payments/` 1 time" in scoped("vault", "status").text
    shown = scoped("audit", "show", "--scope", "payments").text
    line = next(line for line in shown.splitlines() if "BREAK-GLASS" in line)
    assert WHY in line
    assert scoped("audit", "report", "--scope", "payments", "-o", "report.html").code == 0
    page = Path("report.html").read_text(encoding="utf-8")
    assert page.index('<h2 id="break-glass">') < page.index('<h2 id="principals">')
    assert WHY in page
    scoped("audit", "report", "-o", "vault.html")
    assert 'id="break-glass"' not in Path("vault.html").read_text(encoding="utf-8")


def test_a_renewal_ends_it_and_only_the_new_shares_open(scoped: Cli) -> None:
    make(scoped, "payments", "--shares", "3", "--out", "glass")
    scoped("secret", "list", "--key", key("glass", 1, 2), "--reason", WHY)
    asked = scoped("scope", "break-glass", "--renew", "--threshold", "2", "--shares", "3", "--out", "x", "--json")
    assert (asked.code, asked.error) == (2, "confirmation-required")
    assert not Path("x").exists()
    make(scoped, "--renew", "--shares", "3", "--out", "second")
    assert findings(scoped) == [("ok", "ready for `payments/`, and not used since it was made")]
    assert scoped("vault", "status", "--json").json["break_glass"] == []
    read = ("secret", "get", "payments/key", "--reveal", "--reason", WHY)
    assert scoped(*read, "--key", key("glass", 1, 2), "--json").error == "wrong-key"
    assert scoped(*read, "--key", key("second", 2, 3), reveals=True).text == CANARY
    assert [one["path"] for one in scoped("audit", "exposed", "--json").json["secrets"]] == ["payments/key"]


def test_shares_are_sealed_to_their_holders(scoped: Cli) -> None:
    make(scoped, "payments", "--holder", "pay.pub", "--holder", "web.pub", "--out", "glass")
    assert not list(Path("glass").glob("*.txt"))
    for number, name in ((1, "pay"), (2, "web")):
        sealed = f"glass/share-{number}.sealed"
        identity = f"identity:{name}.identity"
        opened = scoped("key", "ceremony", "open", sealed, "--with", identity, "--out", f"glass/share-{number}.txt")
        assert opened.code == 0, opened.err
    theirs = ("glass/share-1.sealed", "--with", "identity:web.identity", "--out", "x")
    assert scoped("key", "ceremony", "open", *theirs, "--json").error == "share-refused"
    read = ("secret", "get", "payments/key", "--reveal", "--key", key("glass", 1, 2), "--reason", WHY)
    assert scoped(*read, reveals=True).text == CANARY


def test_what_cannot_be_made_leaves_nothing_behind(scoped: Cli) -> None:
    common = ("--threshold", "2", "--out", "glass", "--json")
    for arguments, code, error in (
        (("payments",), 2, "setting-missing"),
        (("payments", "--shares", "1"), 2, "usage"),
        (("payments", "--shares", "3", "--holder", "pay.pub", "--holder", "web.pub"), 2, "usage"),
        (("payments", "--holder", "pay.pub", "--holder", "pay.pub"), 2, "usage"),
        (("none", "--shares", "3"), 3, "secret-not-found"),
        (("payments", "--shares", "3", "--renew"), 3, "secret-not-found"),
        (("payments", "--shares", "3", "--name", "web"), 6, "already-exists"),
        (("payments", "--shares", "3", "--name", "nobody"), 6, "conflict"),
    ):
        refused = scoped("scope", "break-glass", *arguments, *common)
        assert (refused.code, refused.error) == (code, error), arguments
        assert refused.json["error"]["hint"], arguments
        assert not Path("glass").exists()
    dry = scoped("scope", "break-glass", "payments", "--shares", "3", *common, "--dry-run").json
    assert (dry["is_done"], dry["scopes"]) == (False, ["payments/"])
    assert not Path("glass").exists()
    assert "break-glass" not in json.dumps(scoped("scope", "list", "--json").json)
    Path("glass").mkdir()
    assert scoped("scope", "break-glass", "payments", "--shares", "3", *common).error == "already-exists"


def test_doctor_says_what_a_role_that_is_not_ready_lacks(scoped: Cli) -> None:
    made = scoped("scope", "break-glass", "payments", "--threshold", "2", "--shares", "3", "--out", "glass", "--json")
    assert (made.json["is_complete"], made.json["is_done"]) == (False, True)
    assert "does not open what was written before" in findings(scoped)[0][1]
    Path("grants.toml").write_text(_GRANTS.format("pay", '["svc:pay"]'), encoding="utf-8")
    scoped("policy", "apply", "grants.toml", "--yes")
    scoped("secret", "list", "--key", "identity:pay.identity")
    ((grade, message),) = findings(scoped)
    assert (grade, "does not let" in message) == ("warning", True)
