from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.running import CANARY, Cli

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT = """\
database:
  host: localhost
  port: 5432
  password: ${secret:db/main}
  url: postgres://app:${secret:db/main|url}@db/shop
servers:
  - name: a
  - name: b
empty: {}
"a.b": dotted
born: 2026-01-31
"""
MODEL = """\
from dataclasses import dataclass
from securecfg import Secret

@dataclass
class Database:
    host: str
    port: {port}
    password: {password}
    url: Secret[str]

@dataclass
class Settings:
    database: Database
    servers: list[dict[str, str]]
    empty: dict[str, str]
    born: object
"""


@pytest.fixture
def configured(stored: Path) -> Path:
    """A project with layers of configuration, one of them with a secret in plain text."""
    (stored / "config").mkdir()
    (stored / "config" / "default.yaml").write_text(DEFAULT)
    (stored / "config" / "prod.yaml").write_text("database: {host: prod}\n")
    (stored / ".env").write_text(f"STRIPE_API_KEY={CANARY}\nLEVEL=info\n")
    return stored


@pytest.fixture
def model(configured: Path) -> Iterator[str]:
    """The name of a module for models, forgotten afterwards."""
    yield "models_of_the_test"
    sys.modules.pop("models_of_the_test", None)


# --- show -------------------------------------------------------------------------------------------------------------


def test_shows_references_and_masks_what_is_secret(configured: Path, cli: Cli) -> None:
    assert cli("config", "show").text.splitlines() == [
        'database.host = "localhost"',
        "database.port = 5432",
        "database.password = ${secret:db/main}",
        "database.url = ${secret:db/main}",
        'servers.0.name = "a"',
        'servers.1.name = "b"',
        "empty = {}",
        '"a.b" = "dotted"',
        'born = "2026-01-31"',
        "STRIPE_API_KEY = ***",
        'LEVEL = "info"',
    ]


def test_shows_where_each_value_is_written(configured: Path, cli: Cli) -> None:
    lines = [line.split() for line in cli("config", "show", "--profile", "prod", "--origins").text.splitlines()]
    assert lines[0] == ["database.host", "=", '"prod"', "config/prod.yaml:1:18"]
    assert lines[1] == ["database.port", "=", "5432", "config/default.yaml:3:9"]
    data = cli("config", "show", "--profile", "prod", "--origins", "--json").json
    assert data["origins"]["STRIPE_API_KEY"] == ".env:1:16"
    assert data["values"]["database"]["password"] == "${secret:db/main}"
    assert data["values"]["STRIPE_API_KEY"] == "***"


def test_showing_reads_no_secret_and_needs_no_vault(configured: Path, cli: Cli) -> None:
    (configured / "securecfg.toml").unlink()
    assert cli("config", "show", "config").code == 0


def test_documents_of_the_vault_are_a_source(configured: Path, cli: Cli) -> None:
    put = ("secret", "put", "app/config", "--content-type", "application/yaml")
    assert cli(*put, stdin="database: {host: vaulted}\n").code == 0
    outcome = cli("config", "show", "config/default.yaml", "vault:app/config", "--origins")
    assert outcome.text.splitlines()[0].split()[-2:] == ['"vaulted"', "vault:app/config:1:18"]
    assert cli("config", "get", "database.host", "--config", "vault:app/config").text == "vaulted\n"


@pytest.mark.parametrize(
    ("name", "content", "code", "place"),
    [
        ("a.yaml", "a: [", "config-syntax", "a.yaml:2:1"),
        ("a.json", '{"a": 1, "a": 2}', "config-syntax", "a.json:1:"),
        ("a.toml", "x = \n", "config-syntax", "a.toml:1:"),
        ("a.yaml", "a: ${secret:}", "invalid-reference", "a.yaml:1:4"),
        ("a.json", '{"a":' * 1_000, "config-limit", "a.json:1:"),
        ("a.yaml", b"a: \xff", "config-syntax", "a.yaml:1:"),
        ("a.txt", "", "config-syntax", "a.txt"),
    ],
)
def test_a_malformed_file_is_named_with_its_place(
    project: Path, cli: Cli, name: str, content: str | bytes, code: str, place: str
) -> None:
    Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
    for command in (("show", name), ("check", name), ("get", "a", "--config", name)):
        outcome = cli("config", *command, "--json")
        assert (outcome.code, outcome.error) == (2, code)
        assert place in outcome.json["error"]["message"]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "code"),
    [
        (("show", "nowhere.yaml"), 3, "file-missing"),
        (("show", "--profile", "test"), 2, "unknown-profile"),
        (("get", "database.hots"), 3, "config-key-not-found"),
        (("origin", "database.hots"), 3, "config-key-not-found"),
        (("get", "servers.9"), 3, "config-key-not-found"),
        (("get", "database", "--reveal"), 2, "usage"),
        (("get", "database.password", "--reveal", "--as", "svc:nobody"), 5, "denied"),
        (("check", "--model", "nothing"), 2, "usage"),
        (("check", "--model", "no_such_module:A"), 2, "usage"),
        (("check", "--model", "os:sep"), 2, "usage"),
        (("check", "--model", "os:nothing"), 2, "usage"),
    ],
)
def test_refuses_what_is_not_there(
    configured: Path, cli: Cli, arguments: tuple[str, ...], exit_code: int, code: str
) -> None:
    outcome = cli("config", *arguments, "--json")
    assert (outcome.code, outcome.error) == (exit_code, code)


def test_a_project_without_configuration_says_so(project: Path, cli: Cli) -> None:
    outcome = cli("config", "show", "--json")
    assert (outcome.code, outcome.error) == (3, "file-missing")


# --- get and origin ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("database.host", "localhost"),
        ("database.port", "5432"),
        ("database.password", "${secret:db/main}"),
        ("STRIPE_API_KEY", "***"),
        ("servers.1.name", "b"),
        ("servers.0", '{"name": "a"}'),
        ("a.b", "dotted"),
        ('"a.b"', "dotted"),
        ("born", "2026-01-31"),
        ("pin.password", "***"),
        ("pin.token_ttl", "3600"),
    ],
)
def test_gets_one_value(configured: Path, cli: Cli, key: str, shown: str) -> None:
    (configured / "config" / "default.yaml").write_text(DEFAULT + "pin: {password: 424242, token_ttl: 3600}\n")
    assert cli("config", "get", key).text == f"{shown}\n"


def test_reveals_only_when_told_and_records_it(configured: Path, cli: Cli) -> None:
    assert cli("config", "get", "database.password", "--reveal", reveals=True).text == CANARY
    url = cli("config", "get", "database.url", "--reveal", "--json", reveals=True).json
    assert url == {"key": "database.url", "value": f"postgres://app:{CANARY}@db/shop", "is_secret": True}
    assert cli("config", "get", "STRIPE_API_KEY", "--reveal", reveals=True).text == CANARY
    assert cli("config", "get", "database.port", "--reveal").text == "5432"
    assert cli("config", "get", "born", "--reveal", "--json").json["value"] == "2026-01-31"
    reads = cli("audit", "show", "--action", "read", "--json").json["records"]
    assert [read["object"]["path"] for read in reads] == ["db/main", "db/main"]


def test_says_where_a_value_is_written_and_what_it_replaces(configured: Path, cli: Cli) -> None:
    outcome = cli("config", "origin", "database.host", "--profile", "prod")
    assert outcome.text == "config/prod.yaml:1:18\n  instead of config/default.yaml:2:9\n"
    data = cli("config", "origin", "database.host", "--profile", "prod", "--json").json
    assert (data["origin"], data["line"], data["shadowed"][0]["line"]) == ("config/prod.yaml:1:18", 1, 2)


# --- check ------------------------------------------------------------------------------------------------------------


def test_a_sound_configuration_is_counted(configured: Path, cli: Cli) -> None:
    outcome = cli("config", "check")
    assert outcome.text == "sound  11 values, 2 secrets among them\n"
    assert "secrets in plain text: 1" in outcome.err


def test_a_configuration_fits_its_model(configured: Path, cli: Cli, model: str) -> None:
    Path(f"{model}.py").write_text(MODEL.format(port="int", password="Secret[str]") + '    a: str = ""\n')
    text = DEFAULT.replace('"a.b": dotted\n', "")
    (configured / "config" / "default.yaml").write_text(text)
    outcome = cli("config", "check", "--model", f"{model}:Settings")
    assert outcome.code == 0, outcome.err
    assert f"fits   {model}:Settings" in outcome.text


def test_all_problems_are_reported_at_once_with_their_places(configured: Path, cli: Cli, model: str) -> None:
    Path(f"{model}.py").write_text(MODEL.format(port="bool", password="str"))
    outcome = cli("config", "check", "--model", f"{model}:Settings", "--json")
    assert (outcome.code, outcome.error) == (2, "config-errors")
    message = outcome.json["error"]["message"]
    assert all(place in message for place in ("default.yaml:3:9", "default.yaml:4:13", "default.yaml:10:8"))


def test_an_absent_secret_is_found_by_the_model(configured: Path, cli: Cli, model: str) -> None:
    Path(f"{model}.py").write_text(MODEL.format(port="int", password="Secret[str]"))
    text = DEFAULT.replace('"a.b": dotted\n', "").replace("${secret:db/main}", "${secret:db/gone}")
    (configured / "config" / "default.yaml").write_text(text)
    outcome = cli("config", "check", "--model", f"{model}:Settings", "--json")
    assert (outcome.code, outcome.error) == (3, "secret-not-found")


def test_a_model_that_fails_to_import_shows_none_of_its_text(configured: Path, cli: Cli, model: str) -> None:
    Path(f"{model}.py").write_text(f"raise ValueError('{CANARY}')\n")
    outcome = cli("config", "check", "--model", f"{model}:Settings", "--json")
    assert (outcome.code, outcome.error) == (2, "usage")
    assert "ValueError" in outcome.json["error"]["message"]


def test_a_model_without_a_vault_lacks_its_secrets(configured: Path, cli: Cli, model: str) -> None:
    Path(f"{model}.py").write_text(MODEL.format(port="int", password="Secret[str]"))
    (configured / "config" / "default.yaml").write_text(DEFAULT.replace('"a.b": dotted\n', ""))
    (configured / "securecfg.toml").unlink()
    outcome = cli("config", "check", "config", "--model", f"{model}:Settings", "--json")
    assert outcome.code == 2
    assert "no vault was given" in outcome.json["error"]["message"]
