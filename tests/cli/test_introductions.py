"""`securecfg scope introduce` and `vault trust`: the two sides of a telephone call."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.test_scope import people

if TYPE_CHECKING:
    from tests.cli.running import Cli

__all__ = ["people"]

ID = "identity:pay.identity"


@pytest.fixture
def scoped(people: Cli) -> Cli:
    """A scope with a value that `svc:pay` reads."""
    assert people("scope", "create", "payments", "--read", "role:pay").code == 0
    assert people("secret", "put", "payments/key", stdin="sk-1").code == 0
    return people


def move(monkeypatch: pytest.MonkeyPatch, name: str = "member") -> None:
    """Go to a machine that has never seen the vault."""
    monkeypatch.setenv("XDG_STATE_HOME", str(Path(name).absolute()))


def test_both_sides_see_the_same_fingerprint_and_the_member_knows_the_vault_afterwards(
    scoped: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = scoped("scope", "introduce", "--for", "svc:pay", "-o", "pay.introduction")
    assert made.code == 0, made.err
    assert made.text.startswith("written  pay.introduction   for  svc:pay\nscopes   payments/\nadministrators  ")
    fingerprint = made.text.split()[-1]
    assert scoped("scope", "show", "payments").text.endswith(f"  administrators' fingerprint: {fingerprint}\n")
    move(monkeypatch)
    trusted = scoped("vault", "trust", "pay.introduction", "--key", ID, "--fingerprint", fingerprint)
    assert trusted.code == 0, trusted.err
    assert f"administrators  {fingerprint}\n" in trusted.text
    assert "  payments/, revision 1: " in trusted.text
    verified = scoped("scope", "verify", "payments", "--key", ID, "--json").json
    assert verified["administrators_fingerprint"] == fingerprint
    again = scoped("vault", "trust", "pay.introduction", "--key", ID, "--yes", "--json")
    logs = {one["path"]: one for one in again.json["logs"]}
    assert logs["payments/"]["recorded_count"] >= logs["payments/"]["record_count"]
    assert "this machine knows" in scoped("vault", "trust", "pay.introduction", "--key", ID, "--yes").text


def test_an_older_copy_of_the_vault_is_refused(scoped: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    vault = next(Path(".securecfg").glob("*.vault"))
    shutil.copy(vault, "old")
    scoped("secret", "put", "payments/key", stdin="sk-2")
    scoped("scope", "introduce", "-o", "everybody.introduction")
    move(monkeypatch)
    shutil.copy("old", vault)
    refused = scoped("vault", "trust", "everybody.introduction", "--yes", "--json")
    assert (refused.code, refused.error) == (8, "rollback-suspected")
    assert not Path("member").exists()


def test_nothing_is_believed_without_a_yes_or_with_another_fingerprint(
    scoped: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    scoped("scope", "introduce", "-o", "everybody.introduction")
    move(monkeypatch)
    asked = scoped("vault", "trust", "everybody.introduction", "--no-input", "--json")
    assert (asked.code, asked.error) == (2, "confirmation-required")
    other = scoped("vault", "trust", "everybody.introduction", "--fingerprint", "0000-0000", "--json")
    assert (other.code, other.error) == (8, "signature-invalid")
    assert not Path("member").exists()


def test_what_is_no_introduction_or_somebody_elses_is_refused(scoped: Cli) -> None:
    scoped("scope", "introduce", "--for", "svc:pay", "-o", "pay.introduction")
    again = scoped("scope", "introduce", "--for", "svc:pay", "-o", "pay.introduction", "--json")
    assert (again.code, again.error) == (6, "already-exists")
    theirs = scoped("vault", "trust", "pay.introduction", "--key", "identity:web.identity", "--yes", "--json")
    assert (theirs.code, theirs.error) == (7, "wrong-key")
    garbage = scoped("vault", "trust", "web.pub", "--yes", "--json")
    assert (garbage.code, garbage.error) == (8, "signature-invalid")
    nobody = scoped("scope", "introduce", "--for", "svc:web", "-o", "web.introduction", "--json")
    assert (nobody.code, nobody.error) == (3, "secret-not-found")
    assert not Path("web.introduction").exists()


def test_a_checkpoint_is_taken_up_for_a_vault_without_scopes(
    project: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    del project
    Path("today").write_text(cli("audit", "checkpoint").text, encoding="utf-8")
    move(monkeypatch)
    usage = cli("vault", "trust", "today", "--fingerprint", "0000-0000", "--json")
    assert (usage.code, usage.error) == (2, "usage")
    trusted = cli("vault", "trust", "today", "--yes", "--json").json
    assert (trusted["administrators_fingerprint"], len(trusted["logs"])) == (None, 1)
    assert cli("vault", "status", "--json").json["anchor_record_count"] >= trusted["logs"][0]["record_count"]
    assert cli("audit", "verify").code == 0
