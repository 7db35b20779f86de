from __future__ import annotations

import re
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from securecfg import Vault
from tests.cli.running import CANARY, Cli, command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TIME = re.compile(r"^\d\d:\d\d:\d\d  ")


@pytest.fixture
def busy(stored: Path, cli: Cli) -> Path:
    """A project in which something happened: a read by the service, a denial, a change of roles, a batch."""
    assert cli("secret", "get", "db/main", "--reveal", "--as", "svc:shop", reveals=True).code == 0
    assert cli("secret", "put", "db/main", "--as", "svc:shop", stdin=CANARY).code == 5
    assert cli("role", "add", "web", "--member", "svc:web").code == 0
    with Vault.open() as vault, vault.batch() as batch:
        batch.write("app/one", CANARY)
        batch.write("other/two", CANARY)
    return stored


def words(cli: Cli, *arguments: str) -> list[list[str]]:
    outcome = cli("audit", "show", *arguments)
    assert outcome.code == 0, outcome.err
    return [TIME.sub("", line).split() for line in outcome.text.splitlines()]


def test_a_read_is_shown_in_one_line(busy: Path, cli: Cli) -> None:
    assert words(cli, "--action", "read") == [
        ["svc:shop", "(asserted)", "read", "db/main@1", "allowed", "by", "project-default"]
    ]


def test_each_record_is_a_line_with_its_outcome(busy: Path, cli: Cli) -> None:
    shown = [" ".join(line) for line in words(cli)]
    assert "user:ana (asserted) write db/main@1 allowed by admin" in shown
    assert "svc:shop (asserted) write db/main denied" in shown
    assert "user:ana (asserted) role.changed added svc:web members svc:web role web allowed by admin" in shown
    assert shown[-1] == "user:ana (asserted) audit.read allowed by admin"


def test_a_batch_is_followed_by_what_it_changed(busy: Path, cli: Cli) -> None:
    shown = [" ".join(line) for line in words(cli, "--action", "batch.written")]
    assert shown == ["user:ana (asserted) write count 2 allowed", "app/one@1", "other/two@1"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--principal", "svc:shop"), ["read", "write"]),
        (("--outcome", "denied"), ["write"]),
        (("--outcome", "error"), []),
        (("--path", "db/*"), ["write", "read", "write"]),
        (("--path", "app/**"), ["write"]),
        (("--path", "d*"), []),
        (("--path", "**", "--outcome", "allowed"), ["write", "read", "write"]),
        (("--action", "role.changed"), ["role.changed"]),
        (("--action", "secret.read"), ["read"]),
        (("--since", "1h", "--principal", "svc:shop", "--last", "1"), ["write"]),
        (("--since", "2999-01-01"), []),
        (("--until", "2020-01-01T00:00:00Z"), []),
    ],
)
def test_shows_only_what_was_asked_for(busy: Path, cli: Cli, arguments: tuple[str, ...], expected: list[str]) -> None:
    records = cli("audit", "show", "--json", *arguments).json["records"]
    assert [record["action"] for record in records] == expected


def test_as_data_a_record_has_all_that_it_says(busy: Path, cli: Cli) -> None:
    (record,) = cli("audit", "show", "--json", "--action", "read").json["records"]
    assert record["principal"] == "svc:shop"
    assert (record["outcome"], record["rules"], record["is_proved"]) == ("allowed", ["project-default"], False)
    assert record["object"] == {"path": "db/main", "ver": 1}
    (batch,) = cli("audit", "show", "--json", "--action", "batch.written").json["records"]
    assert batch["items"] == [{"path": "app/one", "version": 1}, {"path": "other/two", "version": 1}]


def test_a_day_that_is_not_today_is_named_above_its_records(
    busy: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datetime import date

    from securecfg.cli.audit_records import Listing

    with Vault.open() as vault:
        entries = list(vault.log.records())
        lines = Listing(date.min, vault.log.items).lines(entries)
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", lines[0])
    assert sum(bool(re.fullmatch(r"\d{4}-\d\d-\d\d", line)) for line in lines) <= 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("--since", "yesterday"),
        ("--since", "2026-01-01T12:00:00"),
        ("--outcome", "maybe"),
        ("--last", "0"),
        ("--last", "many"),
        ("surplus",),
    ],
)
def test_refuses_a_filter_without_meaning(busy: Path, cli: Cli, arguments: tuple[str, ...]) -> None:
    outcome = cli("audit", "show", "--json", *arguments)
    assert (outcome.code, outcome.error) == (2, "usage")


def test_reading_the_log_needs_a_right_and_is_recorded(busy: Path, cli: Cli) -> None:
    outcome = cli("audit", "show", "--as", "svc:shop", "--json")
    assert (outcome.code, outcome.error) == (5, "denied")
    assert ["svc:shop", "(asserted)", "audit.read", "denied"] in words(cli)


@pytest.fixture(params=["", "--json"], ids=["lines", "json"])
def following(busy: Path, home: Path, request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    arguments = command("audit", "show", "--follow", "--path", "new/**", "--last", "1", *request.param.split())
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.communicate(timeout=30)


def test_follow_shows_what_others_do_until_it_is_interrupted(
    following: subprocess.Popen[str], busy: Path, cli: Cli
) -> None:
    assert following.stdout is not None
    assert cli("secret", "put", "new/one", stdin=CANARY).code == 0
    assert "new/one" in following.stdout.readline()
    assert cli("secret", "put", "new/two", stdin=CANARY).code == 0
    assert "new/two" in following.stdout.readline()
    following.send_signal(signal.SIGINT)
    assert following.wait(timeout=30) == 130
