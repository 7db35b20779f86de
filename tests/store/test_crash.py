"""Promise 1 at the level of the store: a publication is there as a whole or not at all, and once returned it stays."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from securecfg.errors import NotAVault
from securecfg.store import Delete, Put, Space, Store, create_sqlite, open_sqlite
from securecfg.testing.crash import Recorder, Recording, explore, images

if TYPE_CHECKING:
    from pathlib import Path

    from securecfg.store import Operation
    from securecfg.testing.crash import Report, Syncs

pytestmark = pytest.mark.no_cover

COMMITS = 40
SPACES = (Space.VALUE, Space.DEK, Space.HISTORY)


def row(space: Space, number: int) -> bytes:
    return b"%d:%d:" % (space, number) * (300 if space == Space.VALUE else 9)


def publish(store: Store, number: int) -> None:
    """Write one row in each of three spaces, stage one before, delete one of an earlier publication."""
    store.stage([Put(Space.SEGMENT, number, b"segment %d" % number * 200)])
    operations: list[Operation] = [Put(space, number, row(space, number)) for space in SPACES]
    if number > 5:
        operations.append(Delete(Space.SEGMENT, number - 5))
    store.commit(operations, expect=b"%d" % (number - 1) if number else None, head=b"%d" % number)


def publish_in_two(store: Store, number: int) -> None:
    """The planted defect: one row of the publication comes in a transaction of its own, after the head."""
    first, *rest = [Put(space, number, row(space, number)) for space in SPACES]
    store.commit(rest, expect=b"%d" % (number - 1) if number else None, head=b"%d" % number)
    store.stage([first])


def record(path: Path, syncs: Syncs = "honest", publish: object = publish) -> Recording:
    assert callable(publish)
    with Recorder(syncs) as recorder:
        store = create_sqlite(path / "a.vault", vfs=recorder.vfs_name)
        recorder.acknowledge(-1)
        for number in range(COMMITS):
            publish(store, number)
            recorder.acknowledge(number)
            if number % 16 == 15:
                store.purge()
        store.close()
    return recorder.recording


def check(folder: Path, acknowledged: tuple[object, ...]) -> None:
    try:
        store = open_sqlite(folder / "a.vault")
    except NotAVault:
        assert not acknowledged, "a store that was created is none"
        return
    try:
        keys = [(space, i) for space in SPACES for i in range(COMMITS)]
        head, rows = store.snapshot(keys)
        newest = -1 if head is None else int(head)
        assert newest >= max((int(str(number)) for number in acknowledged), default=-1), (
            "an acknowledged commit is lost"
        )
        for (space, i), found in zip(keys, rows, strict=True):
            assert found == (row(space, i) if i <= newest else None), "a publication is there in part"
        segments = dict(store.scan(Space.SEGMENT, 0, COMMITS, COMMITS))
        wanted = [i for i in range(max(newest - 4, 0), newest + 1) if i]
        assert all(segments.get(i) == b"segment %d" % i * 200 for i in wanted), "a staged row is lost"
    finally:
        store.close()


def explored(recording: Recording, count: int) -> Report:
    report = explore(recording, check, count=count, seed=1)
    print(report.summary())
    return report


def test_no_crash_loses_or_tears_a_publication(tmp_path: Path) -> None:
    recording = record(tmp_path)
    started = time.perf_counter()
    report = explored(recording, 1500)
    print(f"{1500 / (time.perf_counter() - started):.0f} images/s")
    assert len(report.digests) == 1500
    assert report.violations == []


def test_finds_fault_with_a_disk_that_lies_about_syncs(tmp_path: Path) -> None:
    assert explored(record(tmp_path, "lying"), 400).violation_count > 100


def test_finds_fault_with_normal_sold_as_full(tmp_path: Path) -> None:
    report = explored(record(tmp_path, "normal"), 400)
    assert report.violation_count > 20
    assert {violation.problem for violation in report.violations} == {
        "AssertionError: an acknowledged commit is lost",
    }


def test_finds_a_publication_in_two_transactions(tmp_path: Path) -> None:
    report = explored(record(tmp_path, publish=publish_in_two), 400)
    assert any("in part" in violation.problem for violation in report.violations)


def test_the_same_seed_makes_the_same_distinct_images(tmp_path: Path) -> None:
    recording = record(tmp_path)
    first = [image.digest for image in images(recording, count=200, seed=7)]
    assert first == [image.digest for image in images(recording, count=200, seed=7)]
    assert len(set(first)) == 200
    assert first != [image.digest for image in images(recording, count=200, seed=8)]


def test_what_was_there_before_the_recording_is_in_every_image(tmp_path: Path) -> None:
    store = create_sqlite(tmp_path / "a.vault")
    publish(store, 0)
    store.close()
    with Recorder() as recorder:
        store = open_sqlite(tmp_path / "a.vault", vfs=recorder.vfs_name)
        recorder.acknowledge(0)
        publish(store, 1)
        recorder.acknowledge(1)
        store.close()
    report = explored(recorder.recording, 100)
    assert report.violations == []


def test_no_crash_brings_back_what_was_purged(tmp_path: Path) -> None:
    canary = b"canary-93e0-of-a-data-key"
    with Recorder() as recorder:
        store = create_sqlite(tmp_path / "a.vault", vfs=recorder.vfs_name)
        store.commit([Put(Space.DEK, i, canary * 3) for i in range(30)], expect=None, head=b"0")
        store.commit([Put(Space.VALUE, 1, canary * 2000)], expect=b"0", head=b"1")
        store.commit([Delete(Space.VALUE, 1), *(Delete(Space.DEK, i) for i in range(30))], expect=b"1", head=b"2")
        store.purge()
        recorder.acknowledge("purged")
        for number in range(3, 12):
            store.commit([Put(Space.VALUE, 2, b"x" * 3000)], expect=b"%d" % (number - 1), head=b"%d" % number)
        store.close()

    def check_erased(folder: Path, acknowledged: tuple[object, ...]) -> None:
        found = [path.name for path in folder.iterdir() if canary in path.read_bytes()]
        assert not (acknowledged and found), f"purged bytes are back in {found}"

    report = explore(recorder.recording, check_erased, count=600, seed=3)
    assert report.violations == []
    without = Recording(
        events=[event for event in recorder.recording.events if not (event.kind == "sync" and "wal" in event.file)]
    )
    assert explore(without, check_erased, count=600, seed=3).violation_count, "the check sees nothing"
