"""The program as a user meets it: in this process where possible, on a pseudo-terminal where it asks."""

from __future__ import annotations

import io
import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from securecfg.cli import main
from securecfg.vault.state.anchor import lineage
from tests.cli.running import CANARY, ROOT, Cli, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Cli:
    """Run the program in this process. Whatever is not said to reveal must not show the canary."""
    monkeypatch.setenv("LOGNAME", "ana")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(open(1, "wb", closefd=False), encoding="utf-8"))  # noqa: SIM115 - stands for the stream of the test
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(open(2, "wb", closefd=False), encoding="utf-8"))  # noqa: SIM115 - the same

    def run(*arguments: str, stdin: str | bytes = "", reveals: bool = False) -> Outcome:
        given = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given), encoding="utf-8"))
        code = main(list(arguments))
        sys.stdout.flush()
        sys.stderr.flush()
        out, err = capfdbinary.readouterr()
        if not reveals:
            assert CANARY.encode() not in out + err
        return Outcome(code, out, err.decode())

    return run


class Made:
    """What commands made of an empty project and an empty home, for each test a copy of its own.

    Args:
        folder: Where to keep it.
    """

    def __init__(self, folder: Path) -> None:
        """Make nothing yet."""
        self._folder = folder

    def put(self, project: Path, home: Path, make: Callable[[], None]) -> None:
        """Put it into a project and a home: the first time by making it there, later by copying."""
        kept_project, kept_home = self._folder / "project", self._folder / "home"
        if not self._folder.exists():
            make()
            shutil.copytree(project, kept_project)
            shutil.copytree(home, kept_home)
            return
        shutil.copytree(kept_project, project, dirs_exist_ok=True)
        shutil.copytree(kept_home, home, dirs_exist_ok=True)
        # What is known of a vault is known of it at its place.
        (vault,) = project.glob(".securecfg/*.vault")
        for anchor in home.glob(".local/state/securecfg/anchors/*"):
            anchor.rename(anchor.with_name(f"{anchor.name.partition('-')[0]}-{lineage(vault)}"))


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """What `securecfg init` made, once for all tests of this process: it takes as long as most of them."""
    return Made(tmp_path_factory.mktemp("made") / "init")


@pytest.fixture
def project(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli, made: Made) -> Path:
    """A project after `securecfg init`; the working directory."""
    folder = tmp_path / "shop"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def make() -> None:
        outcome = cli("init")
        assert outcome.code == 0, outcome.err

    made.put(folder, home, make)
    return folder


@pytest.fixture
def stored(project: Path, cli: Cli) -> Path:
    """A project with the secret `db/main` in its vault, in one version."""
    assert cli("secret", "put", "db/main", stdin=CANARY).code == 0
    return project
