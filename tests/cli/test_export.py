"""`securecfg vault export`: what one may take out, each version in the log, in formats that others read."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from securecfg.config.from_dotenv import parse_dotenv
from securecfg.config.tree import Layer
from tests.cli.running import CANARY

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.running import Cli

GRANTS = """
[roles.leaver]
members = ["svc:leaver"]
[[roles.leaver.grants]]
actions = ["list"]
paths = ["**"]
[[roles.leaver.grants]]
actions = ["read", "export"]
paths = ["app/**"]
[[roles.leaver.grants]]
actions = ["export"]
paths = ["unread/**"]
"""
VALUES = {
    "APP_PLAIN": "plain",
    "APP_QUOTED": 'it\'s "quoted" $HOME `x` \\ \n two lines',
    "APP_SPACE": " a b ",
    "APP_HASH": "a # b",
}


@pytest.fixture
def filled(project: Path, cli: Cli) -> Path:
    for name, value in VALUES.items():
        path = name.lower().replace("_", "/")
        assert cli("secret", "put", path, stdin=value).code == 0
    assert cli("secret", "put", "db/main", stdin=CANARY).code == 0
    return project


def reads(cli: Cli) -> list[str]:
    records = cli("audit", "show", "--json", "--action", "secret.read").json["records"]
    return [record["object"]["path"] for record in records]


def test_json_has_every_secret_and_each_is_recorded(filled: Path, cli: Cli) -> None:
    secrets = cli("vault", "export", "--format", "json", "--yes", reveals=True).json["secrets"]
    assert [(secret["path"], secret["version"]) for secret in secrets][-1] == ("db/main", 1)
    assert {secret["value"] for secret in secrets} == {*VALUES.values(), CANARY}
    assert sorted(reads(cli)) == sorted(secret["path"] for secret in secrets)


def test_fields_and_bytes_are_in_json(filled: Path, cli: Cli) -> None:
    assert cli("secret", "put", "f/fields", "--fields", stdin='{"user": "u", "key": {"base64": "/w=="}}').code == 0
    (secret,) = cli("vault", "export", "f/", "--format", "json", "--yes").json["secrets"]
    assert secret["fields"] == {"user": "u", "key": {"base64": "/w=="}}
    assert (
        cli("vault", "export", "f/", "--format", "dotenv", "--yes", "--out", "f.env", "--json").error == "config-type"
    )
    assert not (filled / "f.env").exists()


def test_dotenv_is_read_back_as_it_was(filled: Path, cli: Cli) -> None:
    assert cli("vault", "export", "app/", "--format", "dotenv", "--yes", "--out", "app.env").code == 0
    file = filled / "app.env"
    assert file.stat().st_mode & 0o777 == 0o600
    parsed = parse_dotenv(file.read_bytes(), Layer("app.env", "app.env"))
    assert parsed.__dict__ == VALUES
    assert cli("vault", "export", "--format", "dotenv", "--yes", "--out", "app.env", "--json").error == "already-exists"


def test_two_secrets_of_one_name_are_refused(filled: Path, cli: Cli) -> None:
    assert cli("secret", "put", "app-plain", stdin="x").code == 0
    assert cli("vault", "export", "--format", "dotenv", "--yes", "--out", "a.env", "--json").error == "config-type"


def test_only_what_one_may_export_and_read_is_given_out(filled: Path, cli: Cli) -> None:
    assert cli("secret", "put", "unread/a", stdin=CANARY).code == 0
    (filled / "leaver.toml").write_text(GRANTS)
    assert cli("policy", "apply", "leaver.toml", "--yes").code == 0
    outcome = cli("vault", "export", "--format", "json", "--yes", "--as", "svc:leaver")
    assert {secret["path"] for secret in outcome.json["secrets"]} == {name.lower().replace("_", "/") for name in VALUES}
    assert "left out  db/main: you may not export `db/main`" in outcome.err
    assert "left out  unread/a: `svc:leaver` may not read `unread/a`" in outcome.err
    tried = cli("vault", "export", "--format", "json", "--dry-run", "--as", "svc:leaver", "--json").json
    assert (tried["secret_count"], tried["left_out"], tried["is_done"]) == (5, ["db/main"], False)
    records = cli("audit", "show", "--json", "--outcome", "denied").json["records"]
    assert sorted(record["object"]["action"] for record in records) == ["export", "read"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--format", "json"), "confirmation-required"),
        (("--format", "age"), "usage"),
        (("--format", "dotenv", "--yes"), "usage"),
        (("--format", "json", "--recipient", "age1x"), "usage"),
    ],
)
def test_what_is_refused(filled: Path, cli: Cli, arguments: tuple[str, ...], code: str) -> None:
    assert cli("vault", "export", *arguments, "--json", "--no-input").error == code
    assert reads(cli) == []


def test_without_age_the_format_says_what_is_missing(filled: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(filled))
    outcome = cli("vault", "export", "--format", "age", "--recipient", "age1x", "--out", "x.age", "--json")
    assert outcome.error == "extra-missing"


@pytest.mark.skipif(shutil.which("age") is None, reason="needs the program `age`")
def test_age_encrypts_for_its_recipients(filled: Path, cli: Cli) -> None:
    made = subprocess.run(["age-keygen", "-o", "id.txt"], capture_output=True, check=True, text=True)
    recipient = made.stderr.removeprefix("Public key: ").strip()
    outcome = cli("vault", "export", "--format", "age", "--recipient", recipient, "--out", "x.age")
    assert outcome.code == 0, outcome.err
    assert CANARY.encode() not in (filled / "x.age").read_bytes()
    opened = subprocess.run(["age", "-d", "-i", "id.txt", "x.age"], capture_output=True, check=True)
    assert len(json.loads(opened.stdout)["secrets"]) == 5
    assert (
        cli("vault", "export", "--format", "age", "--recipient", "age1x", "--json", "-o", "y").error == "store-failed"
    )
    assert not (filled / "y").exists()
