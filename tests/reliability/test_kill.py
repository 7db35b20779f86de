"""Processes that are killed while they write: every change they were told of is there, and the vault goes on."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from securecfg.errors import SecretDestroyed
from securecfg.testing.kill import kill_repeatedly
from securecfg.vault.commits.maintenance import compact
from securecfg.vault.verification import verify_vault
from tests.conftest import ROOT
from tests.vault.world import World

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.no_cover

DESTROYED = "destroyed"


def test_killed_writers_lose_nothing_they_were_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    world = World(tmp_path)
    world.clock.ns += 10**18  # later than the writers' own clocks, so that what they left behind has expired
    world.create().close()

    def check(lines: list[list[str]]) -> None:
        told: dict[tuple[str, int], str] = {}
        for process in lines:
            for line in process:
                path, version, value = line.split(" ")
                if told.get((path, int(version))) != DESTROYED:
                    told[path, int(version)] = value
        vault = world.open()
        for (path, number), value in told.items():
            try:
                content = str(vault.read(path, at=number).field("").reveal())[:40]
            except SecretDestroyed:
                # A process may have been killed between the destruction and the line about it.
                continue
            assert content == value[:40] if "x" not in value else content.startswith(value[:8])
        vault.log.verify()
        result = verify_vault(vault.opened)
        assert result.problems == []
        compact(vault.opened)
        assert verify_vault(vault.opened).orphans == {}
        assert vault.opened.replica.state.stagings == ()
        assert not vault.opened.is_destruction_pending
        vault.close()
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.vault", "key"]

    report = kill_repeatedly(
        lambda turn, number: [
            *(sys.executable, "-m", "tests.reliability.kill_worker"),
            *(str(world.path), world.key, f"w{turn}.{number}"),
        ],
        check,
        processes=3,
        duration_s=6,
    )
    print(f"{report.kills} kills in {report.rounds} rounds, {report.acknowledged} changes acknowledged")
    assert report.kills >= 3
    assert report.acknowledged > 20
