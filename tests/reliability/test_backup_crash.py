"""Backups and restores over power cuts: a sample of what `make crash` explores, and controls that must be caught."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from securecfg.testing.folders import FolderDisk
from tests.reliability.backup_crash import explored, record

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from securecfg.testing.crash import Event

pytestmark = pytest.mark.no_cover


@pytest.mark.parametrize("has_hard_links", [True, False], ids=["links", "renames"])
def test_no_crash_loses_or_tears_a_backup_or_what_is_restored(tmp_path: Path, *, has_hard_links: bool) -> None:
    reports = explored(tmp_path, count=80, seed=1, has_hard_links=has_hard_links)
    assert [report.violations for report in reports] == [[], [], []]
    assert [len(report.digests) for report in reports] == [80] * 3


FIRST, SECOND, RESTORING = range(3)
LEFT_OUT: dict[str, tuple[int, Callable[[Event], bool], str]] = {
    "a part that is not synced": (
        SECOND,
        lambda event: event.kind == "sync" and event.file.startswith("backup/"),
        "BackupTruncated",
    ),
    "the folder of the parts": (
        SECOND,
        lambda event: event.kind == "sync-folder" and event.file == "backup",
        "a part that was reported is lost",
    ),
    "the folder around a new one": (
        FIRST,
        lambda event: event.kind == "sync-folder" and event.file == ".",
        "a part that was reported is lost",
    ),
    "the folder of the restored vault": (
        RESTORING,
        lambda event: event.kind == "sync-folder" and event.file == ".",
        "a vault that was restored is lost",
    ),
    "a restored vault that is not synced": (
        RESTORING,
        lambda event: event.kind == "sync" and ".restoring" in event.file,
        "is cut short",
    ),
    "the note of a part that is not synced": (
        SECOND,
        lambda event: event.kind == "sync" and event.file == "a.vault-wal",
        "is not the part that this vault made",
    ),
}


@pytest.mark.parametrize("left_out", LEFT_OUT)
def test_a_sync_that_is_left_out_is_caught(tmp_path: Path, left_out: str) -> None:
    phase, without, problem = LEFT_OUT[left_out]
    (report,) = explored(tmp_path, count=400, seed=2, phase=phase, without=without)
    print(report.summary())
    assert any(problem in violation.problem for violation in report.violations)


def test_the_recording_has_all_that_happens_to_the_files(tmp_path: Path) -> None:
    """Replayed to its end with everything kept, it is what lies there now."""
    recording = record(tmp_path).recording
    disk = FolderDisk(recording)
    for event in recording.events:
        disk.step(event)
    found = {name: content for name, content in disk.everything().items() if not name.endswith("/")}
    there = {
        file.relative_to(tmp_path / "disk").as_posix(): file.read_bytes()
        for file in (tmp_path / "disk").rglob("*")
        if file.is_file() and not file.name.endswith("-shm")
    }
    assert found == there
