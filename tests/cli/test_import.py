"""`securecfg import` and `securecfg audit exposed`, as a user meets them."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from securecfg.sources.importing import apply_import, plan_import
from securecfg.vault import Vault
from tests.cli.running import CANARY, Cli, Terminal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ENV = f"# payments\nDEBUG=1\nSTRIPE_API_KEY=sk_live_{CANARY.replace('-', '')}39HqLyjWDarj\nDB_PASSWORD={CANARY}\n"
YAML = f"database:\n  url: postgres://shop:{CANARY}@db.internal/shop   # primary\n  pool: 5\n"
PLAN = """\
.env:3              STRIPE_API_KEY  stripe key           -> env/STRIPE_API_KEY
.env:4              DB_PASSWORD     name says password   -> env/DB_PASSWORD
config/prod.yaml:2  database.url    password in URL      -> prod/database/url#password
"""


@pytest.fixture
def shop(project: Path) -> Path:
    """A project after `securecfg init` with three secrets in two files; the working directory."""
    (project / "config").mkdir()
    (project / ".env").write_text(ENV)
    (project / "config" / "prod.yaml").write_text(YAML)
    return project


def is_moved(shop: Path) -> bool:
    return CANARY not in (shop / ".env").read_text() + (shop / "config" / "prod.yaml").read_text()


def is_untouched(shop: Path) -> bool:
    return ((shop / ".env").read_text(), (shop / "config" / "prod.yaml").read_text()) == (ENV, YAML)


def interrupt(shop: Path, cli: Cli) -> None:
    """Leave an import behind that has rewritten no file."""

    def stop(step: str, file: str) -> None:
        raise KeyboardInterrupt

    with Vault.open() as vault, pytest.raises(KeyboardInterrupt):
        apply_import(vault, plan_import(vault, [".env", "config"]), observe=stop)


# --- the way of a new user --------------------------------------------------------------------------------------------


def test_shows_the_plan_asks_and_moves(shop: Path, cli: Cli) -> None:
    terminal = Terminal("import", ".env", "config/", columns=120)
    terminal.expect("3 found, 2 untouched. Move them? [Y/n] ")
    assert PLAN.replace("\n", "\r\n") in terminal.shown
    assert is_untouched(shop)
    terminal.type("")
    assert terminal.end() == 0
    assert "moved  3 secrets, 2 files    undo: securecfg import --undo" in terminal.shown
    assert CANARY not in terminal.shown
    assert is_moved(shop)
    assert cli("secret", "get", "env/DB_PASSWORD", "--reveal", reveals=True).text == CANARY


def test_a_no_changes_nothing(shop: Path, cli: Cli) -> None:
    terminal = Terminal("import", ".env")
    terminal.expect("[Y/n] ")
    terminal.type("n")
    assert terminal.end() == 2
    assert "nothing was changed" in terminal.shown
    assert is_untouched(shop)
    assert cli("secret", "list").text == ""


def test_the_walk_of_the_first_five_minutes(shop: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = cli("import", ".env", "config/", "--yes")
    assert outcome.code == 0
    assert outcome.text == (
        f"{PLAN}3 found, 2 untouched.\nmoved  3 secrets, 2 files    undo: securecfg import --undo\n"
    )
    assert outcome.err == ""
    ran = Terminal("run", "--profile", "prod", "--", "sh", "-c", 'echo "<$DATABASE_URL|$DB_PASSWORD|$DEBUG>"')
    assert ran.end() == 0
    assert f"<postgres://shop:{CANARY}@db.internal/shop|{CANARY}|1>" in ran.shown
    again = cli("import", ".env", "config/", "--yes")
    assert (again.code, again.text) == (0, "0 found, 5 untouched.\n")
    undone = cli("import", "--undo")
    assert (undone.code, undone.text) == (0, "restored  3 secrets, 2 files\n")
    assert is_untouched(shop)
    assert cli("secret", "list").text == ""


def test_says_which_files_a_program_gets_only_where_they_are_named(shop: Path, cli: Cli) -> None:
    for name in ("config/eu/sms.yaml", "deploy/mail.yaml"):
        (shop / name).parent.mkdir(exist_ok=True)
        (shop / name).write_text(f"password: {CANARY}\n")
    outcome = cli("import", ".env", "config", "deploy", "--yes")
    assert outcome.code == 0
    assert outcome.err.startswith("note: `securecfg run` loads `config/` and `.env`, and where `--config` names it: ")
    assert outcome.err.endswith("config/eu/sms.yaml, deploy/mail.yaml\n")


def test_nobody_is_asked_with_no_input(shop: Path, cli: Cli) -> None:
    refused = cli("import", ".env", "config", "--no-input", "--json")
    assert (refused.code, refused.error) == (2, "confirmation-required")
    assert is_untouched(shop)
    assert cli("import", ".env", "config", "--no-input", "--yes").code == 0
    assert is_moved(shop)


def test_a_dry_run_changes_nothing_and_needs_no_vault(shop: Path, cli: Cli) -> None:
    shown = cli("import", ".env", "config", "--dry-run")
    assert (shown.code, shown.text) == (0, f"{PLAN}3 found, 2 untouched.\n")
    (shop / "securecfg.toml").unlink()
    without = cli("import", ".env", "config", "--dry-run")
    assert (without.code, without.text) == (0, shown.text)
    assert "empty vault" in without.err
    assert is_untouched(shop)


def test_json_is_one_object_without_a_value(shop: Path, cli: Cli) -> None:
    result = cli("import", ".env", "config", "--yes", "--json").json
    assert re.fullmatch(r"\d{8}-\d{6}-\d{6}", result["import"])
    assert result["untouched"] == 2
    assert (result["notices"], result["problems"], result["conflicts"]) == ([], [], [])
    assert result["files"] == [str(shop / ".env"), str(shop / "config" / "prod.yaml")]
    assert result["findings"][2] == {
        "file": "config/prod.yaml",
        "line": 2,
        "column": 8,
        "key": "database.url",
        "why": "password in URL",
        "confidence": "certain",
        "path": "prod/database/url",
        "field": "password",
        "exposed": None,
    }
    assert cli("import", ".env", "--dry-run", "--json").json["import"] is None


def test_a_prefix_goes_in_front_of_every_path(shop: Path, cli: Cli) -> None:
    assert cli("import", ".env", "--prefix", "shop/live/", "--yes").code == 0
    assert cli("secret", "list").text == "shop/live/env/DB_PASSWORD\nshop/live/env/STRIPE_API_KEY\n"
    assert cli("import", ".env", "--prefix", "a//b", "--yes", "--json").error == "invalid-path"


# --- what is not right ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("import",),
        ("import", "--undo", "--history"),
        ("import", "--list", "--prefix", "a"),
        ("import", "--undo", "a", "b"),
        ("import", "--resume", "a"),
        ("import", "--list", ".env"),
    ],
)
def test_refuses_what_does_not_go_together(shop: Path, cli: Cli, arguments: tuple[str, ...]) -> None:
    assert (cli(*arguments).code, cli(*arguments, "--json").error) == (2, "usage")


def test_refuses_a_caller_without_the_right_before_asking(shop: Path, cli: Cli) -> None:
    refused = cli("import", ".env", "--as", "svc:shop", "--json", "--no-input")
    assert (refused.code, refused.error) == (5, "denied")
    assert is_untouched(shop)


def test_a_conflict_is_shown_and_left(shop: Path, cli: Cli) -> None:
    assert cli("secret", "put", "env/DB_PASSWORD", stdin="another").code == 0
    outcome = cli("import", ".env", "config", "--yes")
    assert outcome.code == 6
    assert "-> env/DB_PASSWORD             conflict" in outcome.text
    assert "2 found, 2 untouched, 1 in conflict." in outcome.text
    assert "--prefix" in outcome.err
    assert f"DB_PASSWORD={CANARY}" in (shop / ".env").read_text()


def test_files_that_cannot_be_read_are_named_and_the_others_are_moved(shop: Path, cli: Cli) -> None:
    (shop / "config" / "bad.json").write_text('{"a": 1,,}')
    outcome = cli("import", "config", "missing.yaml", "--yes")
    assert outcome.code == 3
    assert "problem: `missing.yaml` does not exist" in outcome.err
    assert "problem: config/bad.json:1:9" in outcome.err
    assert "${secret:" in (shop / "config" / "prod.yaml").read_text()
    problems = cli("import", "config", "missing.yaml", "--yes", "--json").json["problems"]
    assert [problem["code"] for problem in problems] == ["file-missing", "config-syntax"]


def test_names_cannot_move_the_cursor(shop: Path, cli: Cli) -> None:
    (shop / "config" / "a\x1b[2Jb.env").write_text(f"DB_PASSWORD={CANARY}\n")
    shown = cli("import", "config", "--dry-run")
    assert "\x1b" not in shown.text + shown.err
    assert "a\\x1b[2Jb.env:1" in shown.text


# --- afterwards -------------------------------------------------------------------------------------------------------


def test_undo_refuses_a_file_that_changed_and_restores_the_others(shop: Path, cli: Cli) -> None:
    cli("import", ".env", "config", "--yes")
    with (shop / ".env").open("a") as file:
        file.write("NEW=1\n")
    outcome = cli("import", "--undo")
    assert (outcome.code, outcome.text) == (6, "restored  1 secret, 1 file\n")
    assert "problem: `.env` has changed since" in outcome.err
    assert (shop / "config" / "prod.yaml").read_text() == YAML
    assert cli("secret", "list").text == "env/DB_PASSWORD\nenv/STRIPE_API_KEY\n"


def test_undo_works_from_another_folder(shop: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    cli("import", ".env", "config", "--yes")
    monkeypatch.chdir(shop / "config")
    assert cli("import", "--undo").code == 0
    assert is_untouched(shop)


def test_undo_after_confirm_is_unavailable(shop: Path, cli: Cli) -> None:
    cli("import", ".env", "config", "--yes")
    refused = cli("import", "--confirm", "--no-input", "--json")
    assert (refused.code, refused.error) == (2, "confirmation-required")
    confirmed = cli("import", "--confirm", "--yes")
    assert confirmed.code == 0
    assert "can no longer be undone" in confirmed.text
    [name] = [each["import"] for each in cli("import", "--list", "--json").json["imports"]]
    for arguments in (["--undo"], ["--undo", name], ["--confirm", name, "--yes"]):
        outcome = cli("import", *arguments, "--json")
        assert (outcome.code, outcome.error) == (6, "undo-unavailable")
    assert is_moved(shop)


def test_lists_the_imports_and_how_far_they_are(shop: Path, cli: Cli) -> None:
    assert cli("import", "--list").text == "no imports\n"
    cli("import", ".env", "--yes")
    cli("import", "--undo")
    cli("import", "config", "--yes")
    rows = [line.split() for line in cli("import", "--list").text.splitlines()]
    assert rows[0] == ["IMPORT", "STATE", "CREATED", "BY", "SECRETS", "FILES"]
    assert [(row[1], row[-2], row[-1]) for row in rows[1:]] == [
        ("undone", "2", ".env"),
        ("applied", "1", "config/prod.yaml"),
    ]
    listed = cli("import", "--list", "--json").json["imports"]
    assert [each["state"] for each in listed] == ["undone", "applied"]
    assert listed[1]["secrets"] == [{"path": "prod/database/url", "version": 1}]


def test_an_interrupted_import_is_resumed(shop: Path, cli: Cli) -> None:
    assert cli("import", "--resume").text == "nothing was interrupted\n"
    interrupt(shop, cli)
    assert is_untouched(shop)
    assert cli("import", "--list").text.splitlines()[1].split()[1] == "planned"
    refused = cli("import", "--confirm", "--yes", "--json")
    assert (refused.code, refused.error) == (6, "conflict")
    assert cli("import", "--resume").text == "moved  3 secrets, 2 files\n"
    assert is_moved(shop)


def test_an_interrupted_import_is_finished_by_the_next(shop: Path, cli: Cli) -> None:
    interrupt(shop, cli)
    (shop / "more.env").write_text(f"MAIL_PASSWORD={CANARY}\n")
    outcome = cli("import", "more.env", "--yes")
    assert outcome.code == 0
    assert "interrupted and is finished now: moved  3 secrets, 2 files" in outcome.err
    assert is_moved(shop)


def test_an_interrupted_import_is_undone(shop: Path, cli: Cli) -> None:
    interrupt(shop, cli)
    assert cli("import", "--undo").text == "restored  3 secrets, 2 files\n"
    assert is_untouched(shop)
    assert cli("secret", "list").text == ""


# --- history ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def committed(shop: Path, program: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same project with its secrets in git history."""
    git = program("git")
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_DATE", "2024-01-02T12:00:00Z")
        monkeypatch.setenv(f"GIT_{name}_NAME", "ana")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "ana@example.org")
    for arguments in (["init", "-q"], ["add", "config"], ["commit", "-q", "-m", "all"]):
        subprocess.run([git, *arguments], cwd=shop, check=True, capture_output=True, timeout=60)
    return shop


def test_history_marks_what_is_exposed_until_it_is_rotated(committed: Path, cli: Cli) -> None:
    assert cli("audit", "exposed").text == "no secret is known to be exposed\n"
    outcome = cli("import", "config", "--history", "--yes")
    assert re.search(r"-> prod/database/url#password  exposed since [0-9a-f]{10} \(\d+ days\)\n", outcome.text)
    header, row = cli("audit", "exposed").text.splitlines()
    assert header.split() == ["PATH", "SINCE", "DAYS", "KNOWN", "FROM"]
    path, since, days, _, commit, file = row.replace(",", "").split()
    assert (path, since, file) == ("prod/database/url#password", "2024-01-02", "config/prod.yaml")
    [found] = cli("audit", "exposed", "--json").json["secrets"]
    assert found["commit"].startswith(commit)
    assert (found["path"], found["field"], found["version"]) == ("prod/database/url", "password", 1)
    assert (found["since"], str(found["days"])) == ("2024-01-02T12:00:00Z", days)
    assert cli("secret", "put", "prod/database/url", "--fields", stdin='{"password": "rotated"}').code == 0
    assert cli("audit", "exposed", "--json").json == {"secrets": []}
    assert "exposure.closed" in cli("audit", "show").text


def test_history_outside_a_repository_is_refused(shop: Path, cli: Cli) -> None:
    if any((folder / ".git").exists() for folder in shop.parents):
        pytest.skip("not applicable: the temporary folder is in a repository")
    refused = cli("import", "config", "--history", "--yes", "--json")
    assert (refused.code, refused.error) == (2, "usage")
    assert is_untouched(shop)


def test_no_file_outside_the_originals_holds_a_value(shop: Path, cli: Cli, home: Path) -> None:
    assert cli("import", ".env", "config", "--yes").code == 0
    for folder in (shop, home):
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink():
                assert CANARY.encode() not in path.read_bytes(), path
    cli("import", "--undo")
    originals = {shop / ".env", shop / "config" / "prod.yaml"}
    for path in shop.rglob("*"):
        if path.is_file() and path not in originals:
            assert CANARY.encode() not in path.read_bytes(), path
    assert not list(shop.rglob("*.tmp"))


def test_files_of_one_name_in_different_folders_are_imported_one_after_the_other(project: Path, cli: Cli) -> None:
    for region in ("eu", "us"):
        (project / region).mkdir()
        (project / region / "sms.ini").write_text(f"[sms]\npassword = {CANARY}-{region}\n")
        outcome = cli("import", f"{region}/sms.ini", "--yes")
        assert outcome.code == 0, outcome.err
    assert cli("secret", "list").text.split() == ["eu/sms/sms/password", "us/sms/sms/password"]
    assert "${secret:us/sms/sms/password}" in (project / "us" / "sms.ini").read_text()
