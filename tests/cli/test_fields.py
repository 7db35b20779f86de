"""`securecfg secret put --field`: the other fields stay, whatever happens meanwhile."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from securecfg.errors import StaleWrite
from securecfg.vault import Vault
from tests.cli.running import CANARY, Cli, Terminal
from tests.vault.world import grant

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from securecfg.vault.values import VersionId

PASSWORD = ("secret", "put", "db/main", "--field", "password")
WRITER = """
[roles.writer]
members = ["user:wim"]
[[roles.writer.grants]]
actions = ["write"]
paths = ["db/**"]
[roles.reader]
members = ["user:rea"]
[[roles.reader.grants]]
actions = ["read", "write"]
paths = ["db/**"]
"""


@pytest.fixture
def fields(project: Path, cli: Cli) -> Path:
    """A project with the secret `db/main`, which has three fields."""
    given = {"host": "db.internal", "user": "app", "password": CANARY, "pin": {"base64": "/w=="}}
    assert cli("secret", "put", "db/main", "--fields", "--meta", "owner=web", stdin=json.dumps(given)).code == 0
    return project


def shown(cli: Cli, path: str = "db/main") -> object:
    return cli("secret", "get", path, "--reveal", reveals=True).json


def test_a_field_is_written_and_the_others_are_kept(fields: Path, cli: Cli) -> None:
    assert cli(*PASSWORD, stdin="new").text == "written  db/main@2\n"
    kept = {"host": "db.internal", "user": "app", "pin": {"base64": "/w=="}}
    assert shown(cli) == kept | {"password": "new"}
    assert cli("secret", "put", "db/main", "--field", "port", "--expect", "2", stdin="5432").code == 0
    assert shown(cli) == kept | {"password": "new", "port": "5432"}
    assert cli("secret", "get", "db/main", "--json").json["metadata"] == {"owner": "web"}
    (fields / "ca.pem").write_bytes(b"pem\n")
    assert cli("secret", "put", "db/main", "--field", "ca", "--file", "ca.pem").code == 0
    assert shown(cli) == kept | {"password": "new", "port": "5432", "ca": "pem\n"}


def test_with_replace_no_other_is_kept_and_none_is_read(fields: Path, cli: Cli) -> None:
    before = cli("vault", "open", "--json").json["record_count"]
    assert cli(*PASSWORD, "--replace", stdin="new").code == 0
    assert cli("vault", "open", "--json").json["record_count"] == before + 1
    assert shown(cli) == {"password": "new"}


def test_fields_as_json_are_all_there_are(fields: Path, cli: Cli) -> None:
    assert cli("secret", "put", "db/main", "--fields", stdin='{"user": "app"}').code == 0
    assert shown(cli) == {"user": "app"}


def test_what_is_kept_was_read_and_the_log_says_so(fields: Path, cli: Cli) -> None:
    cli(*PASSWORD, stdin="new")
    with Vault.open() as vault:
        events = [entry.record.event for entry in vault.log.records()]
    assert [event for event in events if event.startswith("secret.")][-2:] == ["secret.read", "secret.written"]


def test_a_new_secret_has_the_fields_that_are_given(project: Path, cli: Cli) -> None:
    assert cli("secret", "put", "db/new", "--field", "user", stdin="app").code == 0
    assert shown(cli, "db/new") == {"user": "app"}


def test_of_a_deleted_secret_nothing_is_kept(fields: Path, cli: Cli) -> None:
    cli("secret", "delete", "db/main")
    assert cli(*PASSWORD, stdin="new").text == "written  db/main@2\n"
    assert shown(cli) == {"password": "new"}


@pytest.mark.parametrize("arguments", [(), ("--expect", "1")])
def test_a_value_without_fields_is_not_replaced_by_one_field(
    project: Path, cli: Cli, arguments: tuple[str, ...]
) -> None:
    cli("secret", "put", "db/main", stdin=CANARY)
    outcome = cli(*PASSWORD, *arguments, "--json", stdin="new")
    assert (outcome.code, outcome.error) == (2, "usage")
    assert "--replace" in outcome.json["error"]["hint"]
    assert cli("secret", "get", "db/main", "--reveal", reveals=True).out == CANARY.encode()


def test_what_has_expired_is_not_kept(project: Path, cli: Cli) -> None:
    with Vault.open() as vault:
        vault.write("db/main", {"user": "app", "password": CANARY}, ttl=timedelta(microseconds=1))
    outcome = cli(*PASSWORD, "--json", stdin="new")
    assert (outcome.code, outcome.error) == (3, "secret-expired")
    assert "--replace" in outcome.json["error"]["hint"]
    assert cli(*PASSWORD, "--replace", stdin="new").code == 0


@pytest.mark.parametrize("principal", ["user:wim", "user:rea"])
@pytest.mark.parametrize("path", ["db/main", "db/absent"])
def test_who_may_write_and_not_read_or_list_keeps_nothing(fields: Path, cli: Cli, principal: str, path: str) -> None:
    with Vault.open() as vault:
        grant(vault, WRITER)
    arguments = ("secret", "put", path, "--field", "password", "--as", principal)
    outcome = cli(*arguments, "--json", stdin="new")
    assert (outcome.code, outcome.error) == (5, "denied")
    assert "--replace" in outcome.json["error"]["hint"]
    assert cli(*arguments, "--replace", stdin="new").code == 0
    assert shown(cli, path) == {"password": "new"}


@pytest.mark.parametrize("expect", [0, 2])
def test_another_version_than_the_expected_one_is_stale(fields: Path, cli: Cli, expect: int) -> None:
    outcome = cli(*PASSWORD, "--expect", str(expect), "--json", stdin="new")
    assert (outcome.code, outcome.error) == (6, StaleWrite.code)
    assert cli("secret", "history", "db/main", "--json").json["versions"][0]["version"] == 1


def test_replace_alone_means_nothing(fields: Path, cli: Cli) -> None:
    for arguments in ((), ("--fields",)):
        outcome = cli("secret", "put", "db/main", *arguments, "--replace", "--json", stdin="{}")
        assert (outcome.code, outcome.error) == (2, "usage")


@pytest.mark.parametrize("path", ["db/main", "db/new"])
def test_what_somebody_writes_between_reading_and_writing_is_not_lost(
    fields: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    whole: Callable[..., VersionId] = Vault.write

    def interrupted(vault: Vault, *arguments: object, **options: object) -> VersionId:
        monkeypatch.setattr(Vault, "write", whole)
        with Vault.open() as other:
            other.write(path, {"user": "another"})
        return whole(vault, *arguments, **options)

    monkeypatch.setattr(Vault, "write", interrupted)
    outcome = cli("secret", "put", path, "--field", "password", "--json", stdin="new")
    assert (outcome.code, outcome.error) == (6, StaleWrite.code)
    assert shown(cli, path) == {"user": "another"}


def test_what_somebody_writes_while_a_field_is_typed_is_not_lost(fields: Path, cli: Cli) -> None:
    terminal = Terminal(*PASSWORD)
    terminal.expect("password: ")
    with Vault.open() as other:
        other.write("db/main", {"user": "another", "port": "5432"})
    terminal.type("new password")
    terminal.expect("password again: ")
    terminal.type("new password")
    assert terminal.end() == 6
    assert "`db/main` is at version 2, not 1" in terminal.shown
    assert shown(cli) == {"user": "another", "port": "5432"}


def test_nobody_types_what_cannot_be_written(project: Path, cli: Cli) -> None:
    cli("secret", "put", "db/main", stdin="plain")
    terminal = Terminal(*PASSWORD)
    assert terminal.end() == 2
    assert "password: " not in terminal.shown
