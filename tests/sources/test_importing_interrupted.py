"""Killed between any two steps, an import or an undo loses nothing, and goes on or back as asked."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from securecfg.sources.importing import (
    ImportState,
    import_secrets,
    list_imports,
    plan_import,
    resume_imports,
    undo_import,
)
from tests.sources.project import CANARIES, FOUND, Project, make_project, open_project
from tests.vault.world import text_of

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[2]
FORTH = [
    ("planned", 1),
    ("rewriting", 1),
    ("rewritten", 1),
    ("rewriting", 3),
    ("rewritten", 3),
    ("rewritten", 5),
    ("applied", 1),
]
BACK = [("undoing", 1), ("restoring", 1), ("restored", 1), ("restored", 3), ("restored", 5), ("undone", 1)]


def start(folder: Path, verb: str, step: str, number: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.sources.importing_process", str(folder), verb, step, str(number)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def killed_at(folder: Path, verb: str, step: str, number: int) -> None:
    process = start(folder, verb, step, number)
    _, problem = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, problem


def check_nothing_is_lost(project: Project) -> None:
    """Each value is in its file, or in the vault and referred to by its file."""
    before, now = project.before(), project.contents()
    stored = project.vault.list()
    for name, content in now.items():
        assert content == before[name] or b"${secret:" in content
        if content != before[name]:
            targets = [path for path in FOUND if f"{{secret:{path}".encode() in content]
            assert targets
            assert set(targets) <= set(stored)


def check_moved(project: Project) -> None:
    assert set(project.vault.list()) == FOUND
    assert text_of(project.vault, "mail/smtp/password") == "toml-canary-password"
    for content in project.contents().values():
        assert not [canary for canary in CANARIES if canary.encode() in content]
    assert [each.state for each in list_imports(project.vault)] == [ImportState.APPLIED]
    assert plan_import(project.vault, project.given).findings == ()


def check_restored(project: Project) -> None:
    assert project.contents() == project.before()
    assert project.vault.list() == []
    assert list_imports(project.vault)[-1].state is ImportState.UNDONE


def resume(project: Project) -> None:
    resume_imports(project.vault)


def undo(project: Project) -> None:
    if [each for each in list_imports(project.vault) if each.state is not ImportState.UNDONE]:
        undo_import(project.vault)


def import_again(project: Project) -> None:
    resume_imports(project.vault)
    import_secrets(project.vault, project.given)


@pytest.mark.parametrize(("step", "number"), FORTH)
def test_a_killed_import_is_resumed_or_undone(tmp_path: Path, step: str, number: int) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    make_project(folder).world.close()
    killed_at(folder, "import", step, number)
    for name, act, check in (
        ("resume", resume, check_moved),
        ("again", import_again, check_moved),
        ("undo", undo, check_restored),
    ):
        swapped_in(folder, tmp_path / name, act, check)


@pytest.mark.parametrize(("step", "number"), BACK)
def test_a_killed_undo_is_finished_either_way(tmp_path: Path, step: str, number: int) -> None:
    folder = tmp_path / "p"
    folder.mkdir()
    project = make_project(folder)
    import_secrets(project.vault, project.given)
    project.world.close()
    killed_at(folder, "undo", step, number)
    for name, act in (("resume", resume), ("undo", undo)):
        swapped_in(folder, tmp_path / name, act, check_restored)


def swapped_in(folder: Path, saved: Path, act: Callable[[Project], None], check: Callable[[Project], None]) -> None:
    """Act on what a killed process has left, then put it back for the next act; paths in the vault are absolute."""
    shutil.copytree(folder, saved)
    state = Path(os.environ["XDG_STATE_HOME"])
    shutil.copytree(state, saved.with_suffix(".state"))
    project = open_project(folder)
    try:
        check_nothing_is_lost(project)
        act(project)
        check(project)
        project.vault.log.verify()
    finally:
        project.world.close()
    shutil.rmtree(folder)
    shutil.move(saved, folder)
    shutil.rmtree(state)
    shutil.move(saved.with_suffix(".state"), state)


def test_what_a_killed_process_left_beside_a_file_is_removed(tmp_path: Path) -> None:
    make_project(tmp_path).world.close()
    killed_at(tmp_path, "import", "rewriting", 2)
    leftover = tmp_path / "shop" / "config" / ".mail.toml.0123456789ab.tmp"
    leftover.write_text("half a file")
    other = tmp_path / "shop" / "config" / ".mail.toml.other.tmp"
    other.write_text("not ours")
    project = open_project(tmp_path)
    resume_imports(project.vault)
    assert not leftover.exists()
    assert other.exists()
    check_moved(project)
    project.world.close()


def test_kills_at_any_moment_lose_nothing(tmp_path: Path) -> None:
    make_project(tmp_path).world.close()
    draw = random.Random(20)
    for _ in range(8):
        process = start(tmp_path, "import", "never", 0)
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        time.sleep(draw.uniform(0.0, 0.12))
        process.kill()
        process.communicate(timeout=60)
        project = open_project(tmp_path)
        check_nothing_is_lost(project)
        resume_imports(project.vault)
        if list_imports(project.vault) and list_imports(project.vault)[-1].state is ImportState.APPLIED:
            check_nothing_is_lost(project)
            undo_import(project.vault)
        assert project.contents() == project.before()
        assert project.vault.list() == []
        project.world.close()
