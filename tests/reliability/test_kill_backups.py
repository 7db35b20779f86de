"""Processes that are killed while they back up and restore: what has the name of a part or a vault is whole."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from securecfg.clock import SystemClock
from securecfg.keys import generate_key_file, open_provider
from securecfg.testing.kill import kill_repeatedly
from securecfg.vault.adoption import adopt
from securecfg.vault.backups.backups import Backups
from securecfg.vault.backups.restoring import Restoring
from securecfg.vault.vault import Vault
from securecfg.vault.verification import verify_vault
from tests.conftest import ROOT
from tests.vault.world import ADMIN, World, text_of

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.no_cover


def test_a_part_and_a_restored_vault_are_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    world = World(tmp_path)
    world.make_key()
    generate_key_file(tmp_path / "backup.key")
    folder, backup_key = tmp_path / "backup", f"file:{tmp_path / 'backup.key'}"
    with Vault.create(world.path, key=world.key, admin=ADMIN) as vault:
        for number in range(100):
            vault.write(f"many/{number}", "x" * 3_000)
    checked: set[str] = set()

    def check(lines: list[list[str]]) -> None:
        told = [line.split(" ") for process in lines for line in process]
        parts = sorted(path.name for path in folder.glob("*.part"))
        assert {f"{int(number):06}.part" for what, number, _ in told if what == "part"} <= set(parts)
        if parts:
            restoring = Restoring(folder, open_provider(backup_key))
            restoring.verify(restoring.find())
        restored = {str(path) for path in tmp_path.glob("a.vault.*") if path.suffix not in {".restoring", ".key"}}
        assert {target for what, target, _ in told if what == "restored"} <= restored
        for target in restored - checked:
            checked.add(target)
            adopt(target, open_provider(world.key), ADMIN, clock=SystemClock())
            with Vault.open(target, key=world.key, principal=ADMIN) as vault:
                assert verify_vault(vault.opened).problems == []
                assert text_of(vault, "many/99") == "x" * 3_000
        with Vault.open(world.path, key=world.key, principal=ADMIN) as vault:
            finished = {note.part for note in Backups(vault.authority).list() if note.is_finished}
            assert {int(name[:6]) for name in parts} <= finished

    report = kill_repeatedly(
        lambda turn, number: [
            *(sys.executable, "-m", "tests.reliability.backup_worker"),
            *(str(world.path), world.key, str(folder), backup_key, f"w{turn}-{number}"),
        ],
        check,
        processes=1,
        duration_s=8,
    )
    print(f"{report.kills} kills, {report.acknowledged} parts and vaults acknowledged")
    assert report.kills >= 3
