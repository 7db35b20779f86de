"""The program as a user meets it: in this process where possible, on a pseudo-terminal where it asks."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

import pytest

from securecfg.cli import main
from tests.cli.running import CANARY, ROOT, Cli, Outcome

if TYPE_CHECKING:
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


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> Path:
    """A project after `securecfg init`; the working directory."""
    folder = tmp_path / "shop"
    folder.mkdir()
    monkeypatch.chdir(folder)
    outcome = cli("init")
    assert outcome.code == 0, outcome.err
    return folder


@pytest.fixture
def stored(project: Path, cli: Cli) -> Path:
    """A project with the secret `db/main` in its vault, in one version."""
    assert cli("secret", "put", "db/main", stdin=CANARY).code == 0
    return project
