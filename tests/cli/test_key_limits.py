"""`securecfg key policy` and `key usage`: what keys may come to, and who is told in time."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from securecfg import Vault
from securecfg.audit import Event
from securecfg.clock import SystemClock
from securecfg.errors import AccessDenied, UsageError
from securecfg.keys import generate_key_file
from securecfg.vault.commits.epochs import rotate_signing_key
from securecfg.vault.keys.limits import MOST_USES, Limit, read_limits, set_limit
from securecfg.vault.keys.usage import look_at_keys

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.running import Cli

DAY_NS = 86_400 * 10**9


class Ago(SystemClock):
    """The time some days ago."""

    def __init__(self, days: int) -> None:
        self._days = days

    def now_ns(self) -> int:
        return time.time_ns() - self._days * DAY_NS


@pytest.fixture
def aged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a vault whose keys and slot are a hundred days old."""
    monkeypatch.chdir(tmp_path)
    generate_key_file("k.key")
    Vault.create("v", key="file:k.key", admin="ana", clock=Ago(100)).close()
    for name, value in (("VAULT", "v"), ("KEY", "file:k.key"), ("AS", "user:ana")):
        monkeypatch.setenv(f"SECURECFG_{name}", value)
    return tmp_path


def keys(cli: Cli) -> dict[tuple[str, int], dict[str, Any]]:
    return {(key["purpose"], key["epoch"]): key for key in cli("key", "usage", "--json").json["keys"]}


def told(cli: Cli) -> list[tuple[str, str]]:
    checks = cli("doctor", "--json").json["checks"]
    return [
        (check["message"], check["hint"])
        for check in checks
        if check["name"] == "key limits" and check["grade"] != "ok"
    ]


# --- what is set ------------------------------------------------------------------------------------------------------


def test_limits_are_kept_in_the_vault_and_recorded(aged: Path, cli: Cli) -> None:
    assert cli("key", "policy", "set", "scope", "--max-age", "90d", "--max-uses", "1000").code == 0
    assert cli("key", "policy", "set", "slot:file", "--max-age", "30d").code == 0
    with Vault.open() as vault:
        assert read_limits(vault.opened).own == {
            "scope": Limit(timedelta(days=90), 1000),
            "slot:file": Limit(timedelta(days=30)),
        }
        records = [entry.record for entry in vault.log.records() if entry.record.event is Event.KEY_LIMITED]
    assert [dict(record.obj) for record in records] == [
        {"kind": "scope", "max_age_s": 7_776_000, "max_uses": 1000},
        {"kind": "slot:file", "max_age_s": 2_592_000},
    ]
    assert cli("vault", "verify").code == 0


def test_what_is_set_again_replaces_what_was_set(aged: Path, cli: Cli) -> None:
    cli("key", "policy", "set", "scope", "--max-age", "90d", "--max-uses", "1000")
    cli("key", "policy", "set", "scope", "--max-age", "60d")
    shown = {each["key"]: each for each in cli("key", "policy", "show", "--json").json["limits"]}
    assert shown["scope"] == {"key": "scope", "is_set": True, "max_age_s": 5_184_000, "max_uses": 1 << 48}
    assert cli("key", "policy", "unset", "scope").code == 0
    shown = {each["key"]: each for each in cli("key", "policy", "show", "--json").json["limits"]}
    assert shown["scope"] == {"key": "scope", "is_set": False, "max_age_s": 31_536_000, "max_uses": 1 << 48}
    assert shown["log-signing"]["max_uses"] == 1 << 20
    assert shown["masking"] == {"key": "masking", "is_set": False, "max_age_s": None, "max_uses": None}
    assert "at most 365 days old, at most 2^48 uses" in cli("key", "policy", "show").text


@pytest.mark.parametrize(
    "arguments",
    [
        ("scope",),
        ("scope", "--max-age", "0s"),
        ("scope", "--max-age", "40000d"),
        ("scope", "--max-age", "soon"),
        ("scope", "--max-uses", "0"),
        ("scope", "--max-uses", "-1"),
        ("audit", "--max-uses", "5"),
        ("slot", "--max-uses", "5"),
        ("log-signing", "--max-uses", "1048577"),
        ("root", "--max-age", "90d"),
        ("slot:", "--max-age", "90d"),
        ("slot:a b", "--max-age", "90d"),
        ("slots", "--max-age", "90d"),
        ("", "--max-age", "90d"),
    ],
)
def test_refuses_limits_that_cannot_be_meant(aged: Path, cli: Cli, arguments: tuple[str, ...]) -> None:
    outcome = cli("key", "policy", "set", *arguments, "--json")
    assert (outcome.code, outcome.error) == (2, "usage")
    with Vault.open() as vault:
        assert read_limits(vault.opened).own == {}


def test_refuses_an_age_that_is_kept_as_none(aged: Path) -> None:
    with Vault.open() as vault, pytest.raises(UsageError, match="from a second"):
        set_limit(vault.authority, "scope", Limit(timedelta(milliseconds=999)))


def test_a_kind_that_no_slot_has_is_noted(aged: Path, cli: Cli) -> None:
    noted = cli("key", "policy", "set", "slot:passphrse", "--max-age", "1d")
    assert noted.code == 0
    assert "no slot is of this kind" in noted.err
    assert "slot:file" in noted.err
    assert cli("key", "policy", "set", "slot:file", "--max-age", "1d").err == ""


def test_no_vault_allows_more_than_is_published(aged: Path) -> None:
    with Vault.open() as vault:
        for subject, most in MOST_USES.items():
            set_limit(vault.authority, subject, Limit(max_uses=most))
            with pytest.raises(UsageError, match="at most"):
                set_limit(vault.authority, subject, Limit(max_uses=most + 1))


def test_only_who_may_manage_keys_sets_or_sees_limits(aged: Path, cli: Cli) -> None:
    cli("key", "policy", "set", "scope", "--max-age", "90d")
    for arguments in (("set", "scope", "--max-age", "1d"), ("unset", "scope"), ("show",)):
        assert cli("key", "policy", *arguments, "--as", "user:eve", "--json").code == 5
    assert cli("key", "usage", "--as", "user:eve", "--json").code == 5
    with Vault.open() as vault, vault.acting("user:eve") as eve, pytest.raises(AccessDenied):
        set_limit(eve.authority, "scope", Limit())
    with Vault.open() as vault:
        assert read_limits(vault.opened).own["scope"].max_age == timedelta(days=90)


def test_two_who_set_limits_at_once_keep_both(aged: Path) -> None:
    with Vault.open() as one, Vault.open() as two:
        assert read_limits(one.opened).own == {}
        set_limit(two.authority, "audit", Limit(timedelta(days=2)))
        set_limit(one.authority, "scope", Limit(timedelta(days=1)))
    with Vault.open() as vault:
        assert set(read_limits(vault.opened).own) == {"audit", "scope"}


# --- what is told -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("days", "said"), [(126, None), (125, "near"), (101, "near"), (100, "passed"), (1, "passed")])
def test_doctor_tells_from_four_fifths_of_an_age_on(aged: Path, cli: Cli, days: int, said: str | None) -> None:
    cli("key", "policy", "set", "scope", "--max-age", f"{days}d")
    found = told(cli)
    assert len(found) == (said is not None)
    if said is not None:
        [(message, hint)] = found
        assert said in message
        assert f"of {days} day" in message
        assert "`securecfg key rotate scope /`" in hint


@pytest.mark.parametrize(
    ("subject", "hint"),
    [
        ("log-signing", "`securecfg key rotate audit`"),
        ("audit", "`securecfg key remove SLOT`"),
        ("masking", "`securecfg key compromise`"),
        ("slot:file", "`securecfg key remove 1`"),
        ("slot", "`securecfg key add URI`"),
    ],
)
def test_every_key_has_a_limit_of_age_and_a_way_to_replace_it(aged: Path, cli: Cli, subject: str, hint: str) -> None:
    assert told(cli) == []
    cli("key", "policy", "set", subject, "--max-age", "110d")
    [(message, said)] = told(cli)
    assert "91% of 110 days" in message
    assert hint in said


def test_a_kind_of_slots_goes_before_all_slots(aged: Path, cli: Cli) -> None:
    cli("key", "policy", "set", "slot", "--max-age", "10d")
    cli("key", "policy", "set", "slot:file", "--max-age", "1000d")
    assert told(cli) == []
    assert cli("key", "usage", "--json").json["slots"] == [
        {
            "slot": 1,
            "kind": "file",
            "added": cli("key", "list", "--json").json["slots"][0]["added"],
            "age_s": pytest.approx(100 * 86_400, abs=600),
            "age_share": pytest.approx(0.1, abs=0.001),
            "max_age_s": 86_400_000,
            "max_uses": None,
        }
    ]


def test_a_new_key_is_young_again(aged: Path, cli: Cli) -> None:
    cli("key", "policy", "set", "scope", "--max-age", "90d")
    assert told(cli)
    assert cli("key", "rotate", "scope", "/").code == 0
    assert told(cli) == []


def test_rows_that_a_key_sealed_are_counted(aged: Path, cli: Cli) -> None:
    cli("key", "policy", "set", "scope", "--max-uses", "20")
    before = keys(cli)["scope", 0]
    for number in range(6):
        cli("secret", "put", f"a/{number}", stdin="x")
    after = keys(cli)["scope", 0]
    assert after["rows"] > before["rows"]
    assert after["uses_share"] == after["rows"] / 20
    [(message, _)] = told(cli)
    assert f"{after['uses_share']:.0%} of 20 rows" in message


def test_records_are_counted_from_the_hand_over_on(aged: Path, cli: Cli) -> None:
    size = cli("vault", "status", "--json").json["record_count"]
    assert keys(cli)["log-signing", 0]["records"] == size
    assert cli("key", "rotate", "audit").code == 0
    assert keys(cli)["log-signing", 1]["records"] == 1
    cli("secret", "put", "a", stdin="x")
    assert cli("key", "policy", "set", "log-signing", "--max-uses", "4").code == 0
    assert keys(cli)["log-signing", 1]["records"] == 3
    assert keys(cli)["log-signing", 1]["uses_share"] == 0.75
    assert told(cli) == []
    cli("secret", "put", "a", stdin="y")
    [(message, hint)] = told(cli)
    assert "100% of 4 records" in message
    assert "`securecfg key rotate audit`" in hint


@pytest.mark.parametrize("days", [100, 0, 200], ids=["in order", "later", "before everything"])
def test_the_hand_over_is_found_wherever_it_is_and_whatever_the_clock_said(
    aged: Path, monkeypatch: pytest.MonkeyPatch, days: int
) -> None:
    monkeypatch.setattr("securecfg.vault.keys.usage._RECORDS_AT_ONCE", 4)
    with Vault.open(clock=Ago(100)) as vault:
        for number in range(20):
            vault.write(f"a/{number}", "x")
    with Vault.open(clock=Ago(days)) as vault:
        rotate_signing_key(vault.authority)
    with Vault.open(clock=Ago(100)) as vault:
        for number in range(20):
            vault.write(f"b/{number}", "x")
        [signing] = [key for key in look_at_keys(vault.authority, ("log-signing",)) if key.subject == "log-signing"]
        size = vault.opened.replica.checkpoint.size
        handed_over = next(each.index for each in vault.log.records() if each.record.event is Event.AUDIT_EPOCH)
    assert (signing.number, signing.uses) == (1, size - handed_over)


def test_a_clock_that_is_behind_makes_no_key_older_than_nothing(tmp_path: Path) -> None:
    generate_key_file(tmp_path / "k")
    with Vault.create(tmp_path / "v", key=f"file:{tmp_path / 'k'}", admin="ana", clock=Ago(-3)) as vault:
        pass
    with Vault.open(tmp_path / "v", key=f"file:{tmp_path / 'k'}", principal="user:ana") as vault:
        assert {key.age for key in look_at_keys(vault.authority, ())} == {timedelta(0)}


def test_looking_counts_nothing_that_is_not_asked_for_and_records_nothing(aged: Path) -> None:
    with Vault.open() as vault:
        size = vault.opened.replica.checkpoint.size
        assert {key.uses for key in look_at_keys(vault.authority, ())} == {None}
        assert {key.uses is None for key in look_at_keys(vault.authority, ("scope",)) if key.subject == "scope"} == {
            False
        }
        vault.opened.refresh()
        assert vault.opened.replica.checkpoint.size == size


def test_the_table_shows_age_use_and_share(aged: Path, cli: Cli) -> None:
    cli("key", "policy", "set", "slot", "--max-age", "200d")
    text = cli("key", "usage").text
    assert "100 days" in text
    assert "27% of 365 days, 0% of 2^48 rows" in text
    assert "slot 1 file" in text
    assert "50% of 200 days" in text


def test_whoever_runs_doctor_without_rights_leaves_no_denial(aged: Path, cli: Cli) -> None:
    cli("key", "policy", "set", "scope", "--max-age", "90d")
    before = cli("vault", "status", "--json").json["record_count"]
    checks = cli("doctor", "--as", "user:eve", "--json").json["checks"]
    assert [check["grade"] for check in checks if check["name"] == "key limits"] == ["warning"]
    assert cli("vault", "status", "--json").json["record_count"] == before
