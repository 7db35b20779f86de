from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.cli.test_policy_apply import SHIPPED, WEB, write

if TYPE_CHECKING:
    from tests.cli.running import Cli

CASE = """\
[[cases]]
name = "the web reads its database"
who = "svc:web"
what = "read"
where = "db/main"
expected = "allowed"
"""


# --- test -------------------------------------------------------------------------------------------------------------


def test_the_shipped_cases_hold_without_a_vault(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = cli("policy", "test", str(SHIPPED / "cases.toml"), "--policy", str(SHIPPED))
    assert (outcome.code, outcome.text) == (0, "passed  14 cases\n")


def test_a_failed_case_exits_with_conflict_and_names_it(project: Path, cli: Cli) -> None:
    path = write(project, "cases.toml", CASE)
    outcome = cli("policy", "test", path)
    assert outcome.code == 6
    assert f"{path}:1:1" in outcome.text
    assert "expected allowed, but it is denied (no rule permits it)" in outcome.text
    assert outcome.err.startswith("error: 1 of 1 cases failed\n")
    data = cli("policy", "test", path, "--json")
    assert (data.code, data.error) == (6, "check-failed")
    assert [(each["passed"], each["allowed"]) for each in data.json["cases"]] == [(False, False)]
    cli("policy", "apply", write(project, "web.toml", WEB))
    assert cli("policy", "test", path).code == 0


@pytest.mark.parametrize("text", ["", "[[cases]]\n", "x =", b"\xff", "[[cases]]\nwho = 'web'\nwhat = 'read'\n"])
def test_refuses_wrong_cases(cli: Cli, tmp_path: Path, text: str | bytes) -> None:
    path = write(tmp_path, "cases.toml", text)
    outcome = cli("policy", "test", path, "--policy", str(SHIPPED), "--json")
    assert (outcome.code, outcome.error) == (2, "invalid-cases")
    assert f"{path}:" in outcome.json["error"]["message"]


def test_cases_that_are_not_there_are_not_found(cli: Cli) -> None:
    outcome = cli("policy", "test", "nowhere.toml", "--policy", str(SHIPPED), "--json")
    assert (outcome.code, outcome.error) == (3, "file-missing")


# --- explain ----------------------------------------------------------------------------------------------------------


def test_explains_in_words_what_is_missing(project: Path, cli: Cli) -> None:
    cli("policy", "apply", str(SHIPPED))
    outcome = cli("policy", "explain", "read", "db/main", "--principal", "svc:nightly", "--at", "2026-01-05T12:00:00Z")
    assert outcome.code == 0
    assert outcome.text.startswith("denied: `svc:nightly` may not read `db/main`\n")
    assert "was 12:00" in outcome.text
    night = cli("policy", "explain", "read", "db/main", "--principal", "svc:nightly", "--at", "2026-01-05T02:00:00Z")
    assert night.text.startswith("allowed: `svc:nightly` may read `db/main`\n")


def test_explains_as_data(project: Path, cli: Cli) -> None:
    cli("policy", "apply", write(project, "web.toml", WEB))
    data = cli("policy", "explain", "read", "db/main", "--principal", "svc:web", "--json").json
    assert (data["allowed"], data["by"], data["roles"]) == (True, ["web#1"], ["role:web"])


def test_takes_a_context_into_account(project: Path, cli: Cli) -> None:
    when = 'when = { mfa = true, source = ["10.0.0.0/8"], purpose = true }\n'
    cli("policy", "apply", write(project, "web.toml", WEB + when))
    explain = ("policy", "explain", "read", "db/main", "--principal", "svc:web", "--json")
    assert not cli(*explain).json["allowed"]
    given = ("--context", "mfa=true", "--context", "source=10.1.2.3", "--context", "purpose=incident 7")
    assert cli(*explain, *given).json["allowed"]


def test_anybody_may_ask_about_themselves(project: Path, cli: Cli) -> None:
    outcome = cli("policy", "explain", "write", "db/main", "--as", "svc:shop")
    assert outcome.code == 0
    assert "project-default" in outcome.text


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("raed", "db/main"), "usage"),
        (("read", ""), "usage"),
        (("read", "a//b"), "usage"),
        (("audit.read", "db/main"), "usage"),
        (("read", "db/main", "--principal", "web"), "invalid-metadata"),
        (("read", "db/main", "--context", "mfa"), "usage"),
        (("read", "db/main", "--context", "mfa=true", "--context", "mfa=false"), "usage"),
        (("read", "db/main", "--at", "yesterday"), "usage"),
        (("read", "db/main", "--at", "2026-01-05T12:00:00"), "usage"),
        (("read", "db/main", "too", "many"), "usage"),
    ],
)
def test_refuses_a_question_without_meaning(project: Path, cli: Cli, arguments: tuple[str, ...], code: str) -> None:
    outcome = cli("policy", "explain", *arguments, "--json")
    assert (outcome.code, outcome.error) == (2, code)


def test_a_context_that_does_not_fit_denies_and_says_so(project: Path, cli: Cli) -> None:
    outcome = cli("policy", "explain", "read", "a", "--principal", "svc:shop", "--context", "mfa=5")
    assert "error: the context's `mfa` is not a Bool" in outcome.text


# --- fmt --------------------------------------------------------------------------------------------------------------


def test_formats_in_place_and_says_what_changed(cli: Cli, tmp_path: Path) -> None:
    path = Path(write(tmp_path, "web.toml", WEB.replace(" = ", "=") + "# the end\n"))
    path.chmod(0o640)
    check = cli("policy", "fmt", str(tmp_path), "--check", "--json")
    assert (check.code, check.error, check.json["changed"]) == (6, "check-failed", [str(path)])
    assert "=[" in path.read_text()
    assert cli("policy", "fmt", str(path)).text == f"changed  {path}\n"
    assert path.read_text() == WEB + "# the end\n"
    assert path.stat().st_mode & 0o777 == 0o640
    again = cli("policy", "fmt", str(path), "--check")
    assert (again.code, again.text) == (0, "")


def test_formats_nothing_if_one_file_is_wrong(cli: Cli, tmp_path: Path) -> None:
    good = Path(write(tmp_path, "a.toml", WEB.replace(" = ", "=")))
    write(tmp_path, "b.toml", "x = ")
    write(tmp_path, "c.cedar", "permit(")
    outcome = cli("policy", "fmt", str(tmp_path))
    assert outcome.code == 2
    assert "b.toml:1:" in outcome.err
    assert "c.cedar:1:" in outcome.err
    assert "=[" in good.read_text()


def test_leaves_extensions_of_the_schema_as_they_are(cli: Cli, tmp_path: Path) -> None:
    path = write(tmp_path, "a.cedarschema", "type   Context = { ticket?: String };")
    assert cli("policy", "fmt", path, "--check").code == 0


def test_the_shipped_files_are_in_canonical_form(cli: Cli) -> None:
    assert cli("policy", "fmt", str(SHIPPED), "--check").code == 0


# --- role -------------------------------------------------------------------------------------------------------------


def test_gives_and_takes_roles(project: Path, cli: Cli) -> None:
    assert cli("role", "add", "web", "--member", "svc:web").text == "added  svc:web to web\n"
    rows = cli("role", "list").text.splitlines()
    assert [row.split() for row in rows] == [
        ["ROLE", "MEMBER", "FROM", "FINGERPRINT"],
        ["admin", "user:ana", "vault"],
        ["project", "svc:shop", "project.toml:6:12"],
        ["web", "svc:web", "vault"],
    ]
    assert cli("role", "remove", "web", "--member", "svc:web").code == 0
    roles = cli("role", "list", "--json").json["roles"]
    assert [each["role"] for each in roles] == ["admin", "project"]


@pytest.mark.parametrize(
    ("arguments", "exit_code", "code"),
    [
        (("add", "web", "--member", "web"), 2, "invalid-metadata"),
        (("add", "a b", "--member", "svc:web"), 2, "invalid-metadata"),
        (("add", "web"), 2, "usage"),
        (("remove", "web", "--member", "svc:web"), 3, "secret-not-found"),
        (("remove", "admin", "--member", "user:ana"), 6, "conflict"),
        (("add", "web", "--member", "svc:web", "--as", "svc:shop"), 5, "denied"),
        (("remove", "web", "--member", "svc:web", "--as", "svc:shop"), 5, "denied"),
        (("list", "--as", "svc:shop"), 5, "denied"),
    ],
)
def test_refuses_a_wrong_change_of_roles(
    project: Path, cli: Cli, arguments: tuple[str, ...], exit_code: int, code: str
) -> None:
    outcome = cli("role", *arguments, "--json")
    assert (outcome.code, outcome.error) == (exit_code, code)
