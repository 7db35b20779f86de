"""Power cuts while backups are made and restored: `python -m tests.reliability.backup_crash --images 2000`.

A vault with a sealed scope is backed up, changed, backed up again and restored, over a file system that takes notes. In
every state that a crash may leave, a part that was reported is there, whatever has the name of a part is whole and can
be restored, the next backup goes on, and the restored vault is whole or not there.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import sys
import tempfile
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from securecfg.keys import generate_key_file, open_provider
from securecfg.store import open_sqlite
from securecfg.testing.crash import MEMORY_FOLDER, Recording, explore
from securecfg.testing.folders import FolderDisk, FolderRecorder
from securecfg.vault.backups.backups import Backups
from securecfg.vault.backups.restoring import Restoring
from securecfg.vault.creation import open_rows
from securecfg.vault.opened import Options
from securecfg.vault.session import Identity
from securecfg.vault.vault import Vault
from securecfg.vault.verification import verify_vault
from tests.vault.scope_world import scope_world
from tests.vault.world import ADMIN, ManualClock

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.keys import KeyProvider
    from securecfg.testing.crash import Event, Report

IMAGES_PER_WORKLOAD = 900
RESTORED = "restored.vault"
_EXPENSIVE_EVERY = 8


@dataclass(slots=True)
class Story:
    """A recorded workload, and the keys to look at what it leaves.

    Attributes:
        place: The folder with the keys.
        clock: The time when it was over.
        recording: What happened.
        values: What the secrets in vault and scope are called and hold, by the number of the part.
    """

    place: Path
    clock: ManualClock
    recording: Recording
    values: dict[int, list[str]] = field(default_factory=dict)

    @property
    def recipient(self) -> KeyProvider:
        """The key of the backup."""
        return open_provider(f"file:{self.place / 'backup.key'}")

    @property
    def key(self) -> KeyProvider:
        """The key of the vault."""
        return open_provider(f"file:{self.place / 'key'}")


def record(folder: Path, *, has_hard_links: bool = True) -> Story:
    """Back up, change, back up and restore, and return what happened."""
    keys, disk = folder / "keys", folder / "disk"
    keys.mkdir()
    disk.mkdir()
    world = scope_world(keys, ["pay"])
    world.scopes().create("pay", read=["pay"])
    world.close()
    generate_key_file(keys / "backup.key")
    world.path.rename(disk / "a.vault")
    story = Story(keys, world.clock, Recording())
    with ExitStack() as stack:
        recorder = stack.enter_context(FolderRecorder(disk, has_hard_links=has_hard_links))
        story.recording = recorder.recording
        vault = _open(story, open_sqlite(disk / "a.vault"))
        stack.callback(vault.close)
        for part in (1, 2):
            _write(vault, part)
            story.values[part] = _paths(vault)
            done = Backups(vault.authority).make(disk / "backup", [story.recipient] if part == 1 else [])
            assert done.part == part
            recorder.acknowledge(part)
        restoring = Restoring(disk / "backup", story.recipient, world.clock)
        restoring.restore(restoring.find(), disk / RESTORED, ADMIN)
        recorder.acknowledge(RESTORED)
        vault.write("app/later", "x")
    return story


class Check:
    """Holds one image after another to a story."""

    def __init__(self, story: Story) -> None:
        """Know the story."""
        self._story = story
        self._looked_at = 0
        self._numbers = itertools.count()

    def __call__(self, folder: Path, acknowledged: tuple[object, ...]) -> None:
        """Find fault with an image by an error."""
        self._looked_at += 1
        story = self._story
        parts = sorted(int(path.name[:6]) for path in (folder / "backup").glob("[0-9]*.part"))
        reported = [label for label in acknowledged if isinstance(label, int)]
        assert set(reported) <= set(parts), "a part that was reported is lost"
        assert parts == list(range(1, len(parts) + 1)), "a part is missing before another one"
        if parts:
            restoring = Restoring(folder / "backup", story.recipient, story.clock)
            for state in restoring.states():
                restoring.verify(state)
        is_there = (folder / RESTORED).exists()
        assert is_there or RESTORED not in acknowledged, "a vault that was restored is lost"
        if is_there:
            self._verify_vault(folder / RESTORED, 2)
        if self._looked_at % _EXPENSIVE_EVERY == 0:
            self._verify_use(folder, parts)

    def _verify_vault(self, path: Path, part: int) -> None:
        """A vault and its scope are whole."""
        with closing(_open(self._story, open_sqlite(path))) as vault:
            assert _paths(vault) == self._story.values[part], "a vault that was restored lacks something"
            for _, each in vault.parts():
                each.log.verify()
                report = verify_vault(each.opened)
                assert (report.problems, report.orphans) == ([], {}), "a vault that was restored is damaged"

    def _verify_use(self, folder: Path, parts: list[int]) -> None:
        """What was left is restored, and the next backup goes on."""
        story = self._story
        with closing(_open(story, open_sqlite(folder / "a.vault"))) as vault:
            done = Backups.of(vault).make(folder / "backup", [] if parts else [story.recipient])
            assert done.part == len(parts) + 1, "the next backup does not go on"
        left = [path.name for path in (folder / "backup").iterdir() if not path.name.endswith(".part")]
        assert left == [], "what was not finished is left behind"
        restoring = Restoring(folder / "backup", story.recipient, story.clock)
        for part in (*parts, done.part):
            target = folder / f"again-{part}.vault"
            restoring.restore(restoring.find(part=part), target, ADMIN)
            if part in parts:
                self._verify_vault(target, part)


def phases(recording: Recording) -> list[Recording]:
    """Return the first backup, the second one, and the end of the restore, each with all before it durable."""
    events = recording.events
    ends = [number + 1 for number, event in enumerate(events) if event.kind == "ack"]
    opened_last = max(n for n, e in enumerate(events) if e.kind == "create" and e.file.endswith(".restoring"))
    cuts = [(0, ends[0]), (ends[0], ends[1]), (opened_last, len(events))]
    found = []
    for first, last in cuts:
        disk = FolderDisk(recording)
        for event in events[:first]:
            disk.step(event)
        before = [event for event in events[:first] if event.kind == "ack"]
        found.append(Recording(disk.everything(), [*before, *events[first:last]]))
    return found


def explored(
    folder: Path,
    *,
    count: int,
    seed: int,
    has_hard_links: bool = True,
    phase: int | None = None,
    without: Callable[[Event], bool] = lambda _: False,
) -> list[Report]:
    """Record one workload and explore images of its phases, or of one of them.

    Args:
        folder: Where.
        count: How many images of each phase.
        seed: What makes a run repeatable.
        has_hard_links: Whether the file system has them.
        phase: Which phase; all of them otherwise.
        without: Which events never reach the disk.
    """
    story = record(folder, has_hard_links=has_hard_links)
    recordings = phases(story.recording)
    check = Check(story)
    return [
        explore(
            Recording(recording.initial, [event for event in recording.events if not without(event)]),
            check,
            count=count,
            seed=seed,
            disk=FolderDisk,
        )
        for recording in (recordings if phase is None else recordings[phase : phase + 1])
    ]


def _open(story: Story, store: object) -> Vault:
    from securecfg.store import SqliteStore
    from securecfg.vault.scopes.scoped import ScopedVault

    assert isinstance(store, SqliteStore)
    opened, slot = open_rows(store, story.key, None, story.clock, Options())
    vault = Vault(opened, Identity(ADMIN, slot=slot.slot_id.hex()))
    return ScopedVault.over(vault)


def _write(vault: Vault, part: int) -> None:
    vault.write(f"app/{part}", "x" * 3_000)
    vault.write(f"pay/{part}", "y" * 3_000)


def _paths(vault: Vault) -> list[str]:
    return vault.list()


def _work(task: tuple[int, int]) -> list[Report]:
    seed, count = task
    parent = MEMORY_FOLDER if MEMORY_FOLDER.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="securecfg-crash-", dir=parent) as folder:
        os.environ["XDG_STATE_HOME"] = f"{folder}/state"  # of a process that only explores
        return explored(Path(folder), count=count // 3, seed=seed, has_hard_links=bool(seed % 2))


def main() -> int:
    """Explore as many images as asked for, in several processes, and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2_000)
    parser.add_argument("--jobs", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    total = violations = 0
    tasks = [
        (options.seed + number, min(IMAGES_PER_WORKLOAD, options.images - start))
        for number, start in enumerate(range(0, options.images, IMAGES_PER_WORKLOAD))
    ]
    with multiprocessing.get_context("spawn").Pool(options.jobs) as pool:
        for reports in pool.imap_unordered(_work, tasks):
            for report in reports:
                total += len(report.digests)
                violations += report.violation_count
                for violation in report.violations:
                    print(f"{violation.problem} (event {violation.image.point}, {violation.image.kind})")
            print(f"{total:>8} images of backups, {violations} violations", flush=True)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
