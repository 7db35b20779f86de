"""Secrets that go in and out of scopes while other processes read and write them: no value is old, none is lost."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from securecfg.vault.moves.scopes import ScopeMoves
from securecfg.vault.verification import verify_vault
from tests.reliability.move_worker import OTHERS, PATH
from tests.vault.scope_world import scope_world
from tests.vault.world import text_of

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.no_cover

ROUNDS = 3


def test_processes_read_and_write_what_is_moved_about(tmp_path: Path) -> None:
    world = scope_world(tmp_path)
    try:
        world.scopes().create("other", read=["web"], is_shared=True)
        world.admin().write(PATH, "1")
        for number in range(OTHERS):
            world.admin().write(f"app/in/{number}", str(number))
        world.close()
        world.vaults.clear()
        stop = tmp_path / "stop"
        command = [sys.executable, "-m", "tests.reliability.move_worker"]
        arguments = [str(world.path), world.key, str(stop)]
        workers = [
            subprocess.Popen([*command, role, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for role in ("write", "read", "list")
        ]
        try:
            moves = ScopeMoves(world.open(clock=None).authority)
            for _ in range(ROUNDS):
                moves.seal("app", roles={"read": ["web"]}, is_shared=True)
                moves.split("app", "app/in")
                moves.merge("app/in")
                moves.merge("app")
        finally:
            stop.touch()
            outcomes = [worker.communicate(timeout=60) for worker in workers]
        assert [worker.returncode for worker in workers] == [0, 0, 0], outcomes
        written, read, listed = (json.loads(out) for out, _ in outcomes)
        assert written["count"] > ROUNDS
        assert read["count"] > ROUNDS
        assert listed["count"] > ROUNDS
        admin = world.open(clock=None)
        assert text_of(admin, PATH) == str(written["last"])
        assert [info.version for info in admin.history(PATH)] == list(range(written["last"], 0, -1))
        assert len(admin.list("app/in/")) == OTHERS + 1
        for _, part in admin.parts():
            assert verify_vault(part.opened).problems == []
    finally:
        world.close()
