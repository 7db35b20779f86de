"""The reference page and the help texts: every command, every option, and nothing heavy for `--help`."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import click
import pytest

from securecfg.cli.program import program
from tests.cli.running import CANARY, ROOT, Cli, call

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEAVY = ("apsw", "cedarpy", "cryptography", "pydantic", "rich", "yaml", "securecfg.vault", "securecfg.config")


def commands(group: Any = program, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:  # noqa: ANN401 - a group, or the lazy one
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


ALL = dict(commands())


def test_the_reference_is_what_the_commands_say() -> None:
    spec = importlib.util.spec_from_file_location("cli_reference", ROOT / "docs" / "cli_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    page = (ROOT / "docs" / "reference" / "cli.md").read_text("utf-8")
    assert page == module.render(), "run: python docs/cli_reference.py > docs/reference/cli.md"


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_explains_itself(path: tuple[str, ...], cli: Cli) -> None:
    outcome = cli(*path, "--help")
    assert outcome.code == 0
    assert f"Usage: securecfg {' '.join(path)}" in outcome.text
    assert "Examples:" in outcome.text
    for flag in ("--vault", "--key", "--as", "--json", "--no-input", "--yes"):
        assert flag in outcome.text


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_option_says_what_it_is_for(path: tuple[str, ...]) -> None:
    options = [one for one in ALL[path].params if isinstance(one, click.Option)]
    assert [one.name for one in options if not one.help] == []


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_refuses_surplus_arguments_without_repeating_them(path: tuple[str, ...], cli: Cli) -> None:
    if any(argument.nargs == -1 for argument in ALL[path].params if isinstance(argument, click.Argument)):
        return
    outcome = cli(*path, *["surplus-canary"] * 9)
    assert outcome.code == 2
    assert "surplus-canary" not in outcome.err


@pytest.mark.parametrize("arguments", [["--help"], ["secret", "--help"], ["secret", "get", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        f"import sys; from securecfg.cli import main; main({arguments!r})\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
    assert done.stdout.splitlines()[-1] == b"[]"


GRANTS = """
[roles.web]
members = ["svc:web"]
[[roles.web.grants]]
actions = ["read"]
paths = ["db/*"]
"""
SPARED = (
    "cedarpy",
    "decimal",
    "difflib",
    "getpass",
    "ipaddress",
    "logging",
    "pathlib",
    "tempfile",
    "securecfg.crypto.password",
    "securecfg.vault.commits.staging",
    "securecfg.vault.writing",
)
SPARED_BY_AN_ADMINISTRATOR = ("securecfg.policy.cedar", "securecfg.policy.engine")


def imported_by_a_read(spared: tuple[str, ...]) -> list[bytes]:
    """Return what a read prints, and what it imports of what it should do without."""
    code = (
        "import sys; from securecfg.cli import main; main(['secret', 'get', 'db/main', '--reveal'])\n"
        f"print('', [name for name in {spared!r} if name in sys.modules], sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, timeout=60)
    return done.stdout.splitlines()


@pytest.mark.usefixtures("stored")
def test_a_read_by_an_administrator_imports_nothing_that_it_does_without() -> None:
    assert imported_by_a_read(SPARED + SPARED_BY_AN_ADMINISTRATOR) == [CANARY.encode(), b"[]"]


@pytest.mark.usefixtures("stored")
def test_a_read_under_a_grant_table_imports_nothing_that_it_does_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "grants.toml"
    table.write_text(GRANTS)
    assert call("policy", "apply", str(table)).code == 0
    monkeypatch.setenv("SECURECFG_AS", "svc:web")
    assert imported_by_a_read(SPARED) == [CANARY.encode(), b"[]"]
    assert imported_by_a_read(SPARED_BY_AN_ADMINISTRATOR)[-1] == repr(list(SPARED_BY_AN_ADMINISTRATOR)).encode()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_offered(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_SECURECFG_COMPLETE", f"{shell}_source")
    outcome = call()
    assert outcome.code == 0
    assert "_SECURECFG_COMPLETE" in outcome.text


def test_completion_completes_verbs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_SECURECFG_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "securecfg secret un")
    monkeypatch.setenv("COMP_CWORD", "2")
    assert "undelete" in call().text
