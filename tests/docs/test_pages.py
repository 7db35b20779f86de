"""Every code block of the documentation is true: it runs, or is read by what reads such files, or says why not."""

from __future__ import annotations

import json
import os
import re
import sys
import tomllib
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import click
import pytest

from securecfg.cli.program import program
from securecfg.config.formats import parse_document
from securecfg.config.tree import Layer
from securecfg.errors import KeyProviderUnavailable
from securecfg.policy import Document, compile_policy, parse_cases
from tests.docs.blocks import Block, blocks_of, commands_of
from tests.docs.keyring_session import unlocked_keyring
from tests.docs.scenes import MADE_BY_INIT, SCENES, Scene
from tests.docs.shell import NO_KEYRING, Shell, answers_in, matches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md"))
)
ALL_PAGES = [*PAGES, *sorted(path.name for path in ROOT.glob("*.md") if path.name != "README.md")]
LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\((?P<target>[^)\s]+)\)")
COMMAND = re.compile(r"(?:`|\$ )securecfg ([a-z]+(?: [a-z]+)?)(?=[ `\n])")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
PROSE = {"", "text", "{toctree}"}
MEDIA_TYPES = {"yaml": "application/yaml", "ini": "application/x-ini", "dotenv": "application/x-dotenv"}


@pytest.fixture(autouse=True)
def undisturbed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo what the code of a page does to the process."""
    before = dict(os.environ)
    monkeypatch.syspath_prepend("")
    yield
    os.environ.clear()
    os.environ.update(before)
    sys.modules.pop("page", None)


@pytest.mark.parametrize("page", PAGES)
def test_the_page_is_true(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    play(page, SCENES.get(page, Scene()), tmp_path, monkeypatch, NO_KEYRING)


def test_the_five_minutes_are_true_where_there_is_a_keyring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: Callable[[str], str], home: Path
) -> None:
    """The README to the letter, but for the recovery code; elsewhere the pages run on a machine without a keyring."""
    from keyring.backends.SecretService import Keyring

    scene = replace(SCENES["README.md"], stand_ins={"7K4M-...": MADE_BY_INIT["7K4M-..."]})
    with unlocked_keyring(program, home) as variables:
        monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", variables["DBUS_SESSION_BUS_ADDRESS"])
        # The page's Python runs in this process, which may have looked for a keyring before and keeps what it found.
        monkeypatch.setattr("keyring.core._keyring_backend", Keyring())  # type: ignore[no-untyped-call]  # it publishes no types
        play("README.md", scene, tmp_path, monkeypatch, variables)
        assert 'key = "keyring:"' in (tmp_path / "shop" / ".securecfg" / "local.toml").read_text()
        assert not list(home.glob(".config/securecfg/**/*.key"))
    outcome = Shell(tmp_path / "shop", tmp_path / "state").run("securecfg secret list", [])
    assert outcome[0] == KeyProviderUnavailable.exit_code


def play(
    page: str, scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variables: Mapping[str, str]
) -> None:
    """Run all blocks of a page, one after the other."""
    blocks = list(blocks_of(ROOT / page))
    if not blocks:
        return
    project, state = tmp_path / scene.project, tmp_path / "state"
    project.mkdir()
    state.mkdir()
    monkeypatch.chdir(project)
    module = ModuleType("page")
    sys.modules["page"] = module
    with scene.prepare(project) as names:
        shell = Shell(project, state, variables)
        vars(module).update(names)
        for block in blocks:
            if block.not_run:
                continue
            try:
                run(block, page, shell, module, scene)
            except Exception as error:
                error.add_note(f"at {page}:{block.line}")
                raise


def run(block: Block, page: str, shell: Shell, module: ModuleType, scene: Scene) -> None:
    """Run one block, or have it read."""
    text = block.text
    for said, meant in scene.places.items():
        text = text.replace(said, meant)
    if block.file:
        Path(block.file).parent.mkdir(parents=True, exist_ok=True)
        Path(block.file).write_text(text, encoding="utf-8")
    match block.language:
        case "python":
            if not block.file:
                exec(compile("\n" * block.line + text, page, "exec", dont_inherit=True), vars(module))  # noqa: S102 - the page's own code
            else:
                compile(text, block.file, "exec")
        case "console":
            run_console(block, page, shell, scene)
        case "toml":
            read_toml(text)
        case "yaml" | "ini" | "dotenv":
            parse_document(text.encode(), MEDIA_TYPES[block.language], Layer("page", "page", None))
        case "json":
            json.loads(text)
        case "cedar":
            is_policy = "permit" in text or "forbid" in text
            compile_policy([Document("page", "cedar" if is_policy else "schema-extension", text)])
        case language:
            assert language in PROSE, f"nobody knows how to check a block of `{language}`"
            assert not re.search(r"^\$ ", text, re.MULTILINE), "commands belong into a `console` block"


def run_console(block: Block, page: str, shell: Shell, scene: Scene) -> None:
    for command in commands_of(block):
        code, output = shell.run(command.command, answers_in(command.output))
        shown = f"{page}:{command.line}: $ {command.command}\nexit code {code}\n{output}"
        if re.search(r"^error: ", command.output, re.MULTILINE):
            assert code > 1, shown
        else:
            assert code == 0, shown
        if command.output:
            assert matches(command.output, output, scene.stand_ins), f"{shown}--- the page shows\n{command.output}"


def read_toml(text: str) -> None:
    content = tomllib.loads(text)
    if "roles" in content:
        compile_policy([Document("page", "grants", text)])
    if "cases" in content:
        parse_cases("page", text)


@pytest.mark.parametrize("page", ALL_PAGES)
def test_links_lead_somewhere(page: str) -> None:
    source = ROOT / page
    text = re.sub(r"^```.*?^```", "", source.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for link in LINK.finditer(text):
        target, _, fragment = link["target"].partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        path = (source.parent / target).resolve() if target else source
        assert path.exists(), f"{page} links to `{link['target']}`"
        if fragment and path.suffix == ".md":
            assert fragment in anchors(path), f"{page} links to `{link['target']}`, and there is no such heading"


def anchors(page: Path) -> set[str]:
    """Return the names that a page's headings have as GitHub and MyST make them."""
    headings = HEADING.findall(page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def test_all_reasons_are_given() -> None:
    skipped = [block for page in PAGES for block in blocks_of(ROOT / page) if block.not_run]
    assert all(len(block.not_run.split()) > 2 for block in skipped)


def test_a_wrong_page_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```console\n$ echo one\ntwo\n```\n```python\nassert False\n```\n", encoding="utf-8")
    console, python = blocks_of(page)
    shell = Shell(tmp_path, tmp_path)
    with pytest.raises(AssertionError, match="the page shows"):
        run_console(console, "page.md", shell, Scene())
    with pytest.raises(AssertionError):
        run(python, "page.md", shell, ModuleType("page"), Scene())


def test_dots_and_times_stand_for_others() -> None:
    assert matches("12:00:01  svc:x ... read\n...\nend\n", "23:59:59 svc:x a b read\n1\n2\nend\n", {})
    assert not matches("12:00:01  svc:x\n", "23:59:59 svc:y\n", {})


def test_a_question_is_answered_as_the_page_shows(tmp_path: Path) -> None:
    page = "Move? [Y/n] y\nmoved y\n"
    code, output = Shell(tmp_path, tmp_path).run("read -p 'Move? [Y/n] ' said; echo moved $said", answers_in(page))
    assert code == 0
    assert matches(page, output, {})


@pytest.mark.parametrize("page", ALL_PAGES)
def test_the_commands_that_are_named_exist(page: str) -> None:
    source = (ROOT / page).read_text(encoding="utf-8")
    for named in COMMAND.finditer(source):
        command: click.Command | None = program
        for name in named[1].split():
            if not isinstance(command, click.Group):
                break
            command = command.get_command(click.Context(command), name)
            assert command is not None, f"{page} names `securecfg {named[1]}`"
