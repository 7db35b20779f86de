"""The first minutes of a project: `init`, then `run`; and what `init` leaves behind when it fails."""

from __future__ import annotations

import json
import signal
import stat
import subprocess
import tomllib
from typing import TYPE_CHECKING

import pytest

from tests.cli.running import CANARY, Cli, Terminal, call, command

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "my shop!"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def configured(stored: Path) -> Path:
    """The stored project with configuration that refers to its secret."""
    (stored / "config").mkdir()
    (stored / "config" / "default.yaml").write_text(
        "database:\n  url: postgres://app:${secret:db/main|url}@localhost/shop\n  pool-size: 5\n"
        "debug: false\nnothing: null\nhosts: [a, b]\n"
    )
    (stored / "config" / "prod.yaml").write_text("debug: true\n")
    (stored / ".env").write_text("API_KEY=${secret:db/main}\nlower_case=1\nA__B=2\n")
    return stored


def variables(*arguments: str) -> dict[str, str]:
    outcome = call("run", *arguments, "--", "env", "-0")
    assert outcome.code == 0, outcome.err
    return dict(line.split("=", 1) for line in outcome.text.rstrip("\0").split("\0"))


# --- init -------------------------------------------------------------------------------------------------------------


def test_init_prints_what_it_made_and_the_recovery_code_once(empty: Path, cli: Cli, home: Path) -> None:
    (empty / ".env").write_text("A=1\n")
    outcome = cli("init")
    assert outcome.code == 0
    first, second = outcome.text.splitlines()
    assert first.startswith("vault  .securecfg/my-shop.vault (git-ignored)   key  ")
    assert first.endswith("   you  user:ana (admin)")
    assert second.startswith("recovery code ")
    assert second.endswith("(shown once)   next: securecfg import .env")


def test_init_keeps_the_key_outside_the_project_for_its_owner_alone(empty: Path, cli: Cli, home: Path) -> None:
    settings = cli("init", "--json").json
    assert settings["key"].startswith("file:~/.config/securecfg/keys/my-shop-")
    file = home / settings["key"].removeprefix("file:~/")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE((empty / ".securecfg" / "my-shop.vault").stat().st_mode) == 0o600
    assert (empty / ".securecfg" / ".gitignore").read_text() == "*\n"


def test_init_writes_settings_that_make_flags_unnecessary(empty: Path, cli: Cli) -> None:
    key = cli("init", "--json").json["key"]
    shared = tomllib.loads((empty / "securecfg.toml").read_text())
    assert shared == {"vault": ".securecfg/my-shop.vault", "service": "svc:my-shop"}
    assert tomllib.loads((empty / ".securecfg" / "local.toml").read_text()) == {"key": key, "as": "user:ana"}
    assert cli("secret", "put", "a", stdin="x").code == 0
    assert cli("secret", "get", "a", "--reveal").text == "x"


def test_what_is_to_be_committed_names_no_person_and_no_home(empty: Path, cli: Cli, home: Path) -> None:
    subprocess.run(["git", "init", "--quiet"], check=True)
    cli("init", "--vault", str(home / "vaults.vault"))
    listed = ["git", "ls-files", "--others", "--exclude-standard"]
    names = subprocess.run(listed, check=True, capture_output=True, text=True).stdout.split()
    assert names == ["securecfg.toml"]
    text = (empty / "securecfg.toml").read_text()
    assert not any(word in text for word in ("ana", "key", str(home), "~"))
    assert cli("vault", "open").code == 0


def test_the_recovery_code_opens_the_vault(empty: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODE", cli("init", "--json").json["recovery_code"])
    assert cli("vault", "open", "--key", "recovery:?env=CODE").code == 0


def test_a_second_init_is_a_conflict_and_changes_nothing(project: Path, cli: Cli) -> None:
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    outcome = cli("init", "--json")
    assert (outcome.code, outcome.error) == (6, "already-exists")
    assert "vault status" in outcome.json["error"]["hint"]
    assert {path: path.read_bytes() for path in project.rglob("*") if path.is_file()} == before


def test_init_that_fails_leaves_nothing_behind(empty: Path, cli: Cli, home: Path) -> None:
    outcome = cli("init", "--key", "passphrase:", "--no-input", "--json")
    assert (outcome.code, outcome.error) == (2, "setting-missing")
    assert list(empty.iterdir()) == []
    assert cli("init", "--as", "nobody at all").code == 2
    assert list(empty.iterdir()) == []


def test_init_takes_a_passphrase(empty: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PW", CANARY)
    assert cli("init", "--key", "passphrase:?env=PW").code == 0
    assert cli("secret", "list").code == 0
    monkeypatch.setenv("PW", "another")
    assert cli("secret", "list").code == 7


# --- a project that others began --------------------------------------------------------------------------------------


@pytest.fixture
def clone(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What somebody else has after a clone of the project: what git takes, and none of the rest."""
    folder = tmp_path / "clone"
    folder.mkdir()
    (folder / "securecfg.toml").write_bytes((project / "securecfg.toml").read_bytes())
    monkeypatch.chdir(folder)
    monkeypatch.setenv("LOGNAME", "bo")
    return folder


def shared_with(clone: Path, vault: Path) -> None:
    """Let the project's settings name a vault that all can reach."""
    (clone / "securecfg.toml").write_text(f'vault = "{vault}"\nservice = "svc:shop"\n')


def test_a_clone_says_what_to_do_and_makes_nothing(clone: Path, cli: Cli) -> None:
    outcome = cli("secret", "list", "--json")
    assert (outcome.code, outcome.error) == (2, "setting-missing")
    assert "securecfg init" in outcome.json["error"]["hint"]
    outcome = cli("init", "--no-input", "--json")
    assert (outcome.code, outcome.error) == (3, "vault-not-found")
    assert "`.securecfg/shop.vault`, which is not here" in outcome.json["error"]["message"]
    assert "securecfg init --yes" in outcome.json["error"]["hint"]
    assert [path.name for path in clone.iterdir()] == ["securecfg.toml"]


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 3), ("", 3)])
def test_a_clone_gets_a_vault_of_its_own_where_its_owner_says_yes(clone: Path, answer: str, code: int) -> None:
    terminal = Terminal("init")
    terminal.expect("Make one of your own there? [y/N] ")
    terminal.type(answer)
    assert terminal.end() == code
    assert (clone / ".securecfg" / "shop.vault").exists() is (code == 0)


def test_a_vault_of_ones_own_leaves_the_shared_settings_as_they_are(clone: Path, project: Path, cli: Cli) -> None:
    before = (clone / "securecfg.toml").read_bytes()
    made = cli("init", "--yes", "--json").json
    assert (made["service"], made["principal"], made["is_new"]) == ("svc:shop", "user:bo", True)
    assert (clone / "securecfg.toml").read_bytes() == before
    assert cli("secret", "put", "a", stdin="x").code == 0
    assert cli("secret", "get", "a", "--reveal", "--as", "svc:shop").text == "x"
    assert made["vault"] == str(clone / ".securecfg" / "shop.vault") != str(project / ".securecfg" / "shop.vault")


def test_somebody_joins_a_vault_that_is_there(
    clone: Path, project: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    cli("key", "generate", str(clone / "bo.key"))
    assert cli("key", "add", f"file:{clone / 'bo.key'}", "--principal", "user:bo").code == 0
    monkeypatch.chdir(clone)
    shared_with(clone, project / ".securecfg" / "shop.vault")
    unnamed = cli("init", "--json")
    assert (unnamed.code, unnamed.error) == (2, "setting-missing")
    assert "securecfg key add" in unnamed.json["error"]["hint"]
    other = cli("init", "--key", "file:bo.key", "--as", "user:ana", "--json")
    assert (other.code, other.error) == (4, "not-authenticated")
    assert not (clone / ".securecfg").exists()
    joined = cli("init", "--key", "file:bo.key", "--json").json
    assert (joined["principal"], joined["is_new"]) == ("user:bo", False)
    assert "recovery_code" not in joined
    assert tomllib.loads((clone / ".securecfg" / "local.toml").read_text()) == {"key": "file:bo.key", "as": "user:bo"}
    assert cli("vault", "open", "--json").json["principal"] == "user:bo"
    assert cli("init", "--json").error == "already-exists"


def test_a_wrong_key_joins_nothing(clone: Path, project: Path, cli: Cli) -> None:
    shared_with(clone, project / ".securecfg" / "shop.vault")
    cli("key", "generate", "other.key")
    outcome = cli("init", "--key", "file:other.key", "--json")
    assert (outcome.code, outcome.error) == (7, "wrong-key")
    assert not (clone / ".securecfg").exists()


def test_settings_in_pyproject_are_joined_too(clone: Path, cli: Cli) -> None:
    (clone / "securecfg.toml").unlink()
    (clone / "pyproject.toml").write_text('[tool.securecfg]\nvault = ".securecfg/x.vault"\nservice = "svc:x"\n')
    assert cli("init", "--yes", "--json").json["settings"] == str(clone / "pyproject.toml")
    assert not (clone / "securecfg.toml").exists()
    assert cli("vault", "open").code == 0


# --- run --------------------------------------------------------------------------------------------------------------


def test_run_resolves_and_names_values(configured: Path) -> None:
    found = variables()
    assert found["DATABASE_URL"] == f"postgres://app:{CANARY}@localhost/shop"
    assert found["DATABASE_POOL_SIZE"] == "5"
    assert found["DEBUG"] == "false"
    assert json.loads(found["HOSTS"]) == ["a", "b"]
    assert "NOTHING" not in found
    assert found["API_KEY"] == CANARY
    assert (found["lower_case"], found["A__B"]) == ("1", "2")


def test_run_takes_the_profile(configured: Path) -> None:
    assert variables("--profile", "prod")["DEBUG"] == "true"


def test_run_acts_for_the_service_and_records_all_reads_at_once(configured: Path, cli: Cli) -> None:
    from securecfg import Vault

    variables()
    with Vault.open() as vault:
        entries = list(vault.log.records())
    reads = [entry.record for entry in entries if str(entry.record.event) == "secret.read"]
    assert {record.subject.id for record in reads} == {"svc:shop"}


def test_what_the_environment_has_stays(configured: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEBUG", "maybe")
    outcome = call("run", "--", "sh", "-c", 'printf %s "$DEBUG"')
    assert outcome.text == "maybe"
    assert outcome.err == "note: already in the environment, and kept: DEBUG\n"


def test_run_passes_the_exit_code_and_the_arguments(configured: Path) -> None:
    assert call("run", "--", "sh", "-c", "exit 42").code == 42
    assert call("run", "echo", "--json", "--help").text == "--json --help\n"


def test_run_passes_signals(configured: Path) -> None:
    process = subprocess.Popen(command("run", "--", "sh", "-c", "echo ready; exec sleep 60"), stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGTERM


def test_run_refuses_a_service_that_may_not_read(configured: Path, cli: Cli) -> None:
    outcome = cli("run", "--as", "svc:other", "--", "env")
    assert outcome.code == 5
    assert "config/default.yaml:2:8" in outcome.err
    assert ".env:1:9" in outcome.err


def test_run_reports_a_missing_secret_with_its_place(configured: Path, cli: Cli) -> None:
    (configured / ".env").write_text("API_KEY=${secret:db/none}\n")
    outcome = cli(
        "run",
        "--",
        "env",
    )
    assert outcome.code == 3
    assert ".env:1:9: there is no secret `db/none`" in outcome.err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: {b_c: 1}\na_b: {c: 2}\n", "`a_b.c` and `a.b_c` are both `A_B_C` in the environment"),
        ('a: "x\\0y"\n', "`a` contains a NUL character"),
    ],
)
def test_run_refuses_what_no_environment_can_hold(project: Path, cli: Cli, content: str, message: str) -> None:
    (project / "c.yaml").write_text(content)
    outcome = cli("run", "--config", "c.yaml", "--", "env")
    assert outcome.code == 2
    assert message in outcome.err


def test_run_without_a_program_reads_no_secret(configured: Path, cli: Cli) -> None:
    before = cli("vault", "open", "--json").json["record_count"]
    outcome = cli("run", "--json", "--", "no-such-program")
    assert (outcome.code, outcome.error) == (3, "file-missing")
    assert cli("vault", "open", "--json").json["record_count"] == before


def test_run_says_what_to_load(project: Path, cli: Cli) -> None:
    outcome = cli("run", "--", "env")
    assert outcome.code == 3
    assert "--config" in outcome.err
    assert cli("run", "--profile", "none", "--config", ".", "--", "env").code in {2, 3}


def test_run_names_the_profiles_where_one_is_needed(configured: Path, cli: Cli) -> None:
    (configured / "config" / "default.yaml").unlink()
    (configured / ".env").unlink()
    outcome = cli("run", "--", "env")
    assert outcome.code == 3
    assert "give `--profile`; there are: `prod`" in outcome.err


def test_run_gives_lists_their_secrets_too(stored: Path) -> None:
    (stored / "c.yaml").write_text(
        'tokens: ["${secret:db/main}", {at: "${secret:db/main}", on: true}]\nsince: 2026-01-31\n'
    )
    found = variables("--config", "c.yaml")
    assert json.loads(found["TOKENS"]) == [CANARY, {"at": CANARY, "on": True}]
    assert found["SINCE"] == "2026-01-31"
