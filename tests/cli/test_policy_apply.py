from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.cli.running import Cli

SHIPPED = Path(__file__).parents[2] / "policies"
WEB = """\
[roles.web]
members = ["svc:web"]

[[roles.web.grants]]
actions = ["read", "list"]
paths = ["db/**"]
"""
AUDITOR = """
[roles.writer]
members = ["user:wil"]
[[roles.writer.grants]]
actions = ["policy.write"]
"""


def write(folder: Path, name: str, text: str | bytes) -> str:
    path = folder / name
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return str(path)


def test_apply_shows_what_changes_and_is_in_force_at_once(project: Path, cli: Cli) -> None:
    outcome = cli("policy", "apply", write(project, "web.toml", WEB))
    assert outcome.code == 0
    assert outcome.text.splitlines() == [
        "- member svc:shop of role:project",
        "+ member svc:web of role:web",
        "- rule project-default",
        "+ rule web#1",
        "applied  revision 2",
    ]
    assert cli("secret", "list", "--as", "svc:web").code == 0
    assert cli("policy", "show").text == WEB


def test_apply_takes_any_mix_of_files_and_folders(project: Path, cli: Cli) -> None:
    outcome = cli("policy", "apply", str(SHIPPED), write(project, "web2.toml", WEB.replace("web", "web2")), "--json")
    assert outcome.code == 0
    names = [document["name"].rpartition("/")[2] for document in outcome.json["documents"]]
    assert names == ["default.cedar", "roles.toml", "web2.toml"]
    assert {"change": "added", "what": "rule web2#1"} in outcome.json["changes"]


def test_apply_of_the_same_documents_makes_no_revision(project: Path, cli: Cli) -> None:
    path = write(project, "web.toml", WEB)
    cli("policy", "apply", path)
    outcome = cli("policy", "apply", path, "--json")
    assert (outcome.json["revision"], outcome.json["is_new"], outcome.json["changes"]) == (2, False, [])


def test_apply_shows_no_rules_to_one_who_may_only_write_them(project: Path, cli: Cli) -> None:
    path = write(project, "a.toml", WEB + AUDITOR)
    cli("policy", "apply", path)
    outcome = cli("policy", "apply", write(project, "b.toml", WEB + AUDITOR + "\n"), "--as", "user:wil")
    assert (outcome.code, outcome.text) == (0, "applied  revision 3\n")


@pytest.mark.parametrize(
    ("name", "text", "code", "place"),
    [
        ("a.toml", "x = ", "invalid-grants", "a.toml:1:"),
        ("a.toml", b"[roles.web]\n# \xff", "invalid-grants", "a.toml:2:3: is not UTF-8"),
        ("a.cedar", "permit(principal, action, resource);", "invalid-policy", "a.cedar:1:1"),
        ("a.cedar", "permit(" * 1_000, "invalid-policy", "a.cedar:"),
        ("a.cedarschema", "entity X;", "invalid-policy", "a.cedarschema:1:1"),
        ("a.toml", "[roles.web]\nmember = 1\n", "invalid-grants", "a.toml:2:"),
        ("a.txt", "", "usage", "a.txt"),
        ("a.toml", b"#" * ((16 << 20) + 1), "value-too-large", "a.toml"),
        ("a.toml", "[[cases]]\nwho = 'svc:web'\n", "invalid-grants", "a.toml:1:"),
    ],
)
def test_refuses_a_wrong_document_with_its_place_and_changes_nothing(
    project: Path, cli: Cli, name: str, text: str | bytes, code: str, place: str
) -> None:
    path = write(project, name, text)
    for verb in ("apply", "check"):
        outcome = cli("policy", verb, path, "--json")
        assert (outcome.code, outcome.error) == (2, code)
        assert place in outcome.json["error"]["message"]
    assert [each["revision"] for each in cli("policy", "history", "--json").json["revisions"]] == [1]


def test_names_every_problem_of_every_file(project: Path, cli: Cli) -> None:
    write(project, "p/a.toml", "[roles.web]\nmember = 1\n[roles.a]\nb = 2\n")
    write(project, "p/b.cedar", "permit(principal, action, resource);")
    outcome = cli("policy", "check", "p")
    assert outcome.code == 2
    assert all(place in outcome.err for place in ("p/a.toml:2:1", "p/a.toml:4:1", "p/b.cedar:1:1"))


@pytest.mark.parametrize("path", ["nowhere.toml", "empty"])
def test_refuses_what_is_not_there(project: Path, cli: Cli, path: str) -> None:
    (project / "empty").mkdir()
    outcome = cli("policy", "apply", path, "--json")
    assert (outcome.code, outcome.error) == (3, "file-missing")


@pytest.mark.parametrize(
    "command",
    [
        ("apply", "web.toml"),
        ("rollback", "1"),
        ("show",),
        ("history",),
        ("test", "cases.toml"),
        ("explain", "read", "db/main", "--principal", "user:eve"),
    ],
)
def test_everything_about_the_policy_needs_a_right(project: Path, cli: Cli, command: tuple[str, ...]) -> None:
    write(project, "web.toml", WEB)
    write(project, "cases.toml", (SHIPPED / "cases.toml").read_text())
    outcome = cli("policy", *command, "--as", "svc:web", "--json")
    assert (outcome.code, outcome.error) == (5, "denied")


def test_who_may_not_apply_learns_nothing_of_the_files(project: Path, cli: Cli) -> None:
    assert cli("policy", "apply", "nowhere.toml", "--as", "svc:web").code == 5


def test_shows_earlier_revisions_and_goes_back_to_them(project: Path, cli: Cli) -> None:
    first = cli("policy", "show").text
    cli("policy", "apply", write(project, "web.toml", WEB))
    assert cli("policy", "show", "--revision", "1").text == first
    outcome = cli("policy", "rollback", "1")
    assert outcome.code == 0
    assert outcome.text.endswith("applied  revision 3\n")
    assert "+ rule project-default" in outcome.text
    assert cli("policy", "show").text == first
    history = cli("policy", "history", "--json").json["revisions"]
    assert [(each["revision"], each["is_current"]) for each in history] == [(3, True), (2, False), (1, False)]


@pytest.mark.parametrize("command", [("show", "--revision", "9"), ("rollback", "9")])
def test_an_unknown_revision_is_not_found(project: Path, cli: Cli, command: tuple[str, ...]) -> None:
    outcome = cli("policy", *command, "--json")
    assert (outcome.code, outcome.error) == (3, "version-not-found")


def test_shows_all_rules_as_cedar(project: Path, cli: Cli) -> None:
    cli("policy", "apply", str(SHIPPED))
    text = cli("policy", "show", "--cedar").text
    assert '@id("web#1")' in text
    assert '@id("no-personal-secrets")' in text
    assert cli("policy", "show").text.count("==> ") == 2


def test_checks_against_the_roles_of_a_vault_that_is_named(project: Path, cli: Cli) -> None:
    path = write(project, "web.toml", WEB)
    (vault,) = (project / ".securecfg").glob("*.vault")
    outcome = cli("policy", "check", path, "--vault", str(vault), "--json")
    assert (outcome.code, outcome.json["rule_count"]) == (0, 1)
    assert cli("policy", "check", path, "--vault", str(vault), "--as", "svc:web").code == 5
