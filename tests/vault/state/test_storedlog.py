from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest

from securecfg.audit import parse_checkpoint
from securecfg.audit.report import render_jsonl
from securecfg.errors import (
    LogStale,
    LogTampered,
    LogTruncated,
    NotFound,
    SecurecfgError,
    StoreFailed,
    Tampered,
    UsageError,
    WrongKey,
)
from securecfg.keys import Purpose, generate_key_file, open_provider
from securecfg.store import Delete, Put, Space, open_sqlite
from securecfg.vault.commits.epochs import rotate_signing_key
from securecfg.vault.state.anchor import AnchorFile
from securecfg.vault.state.replica import KEYRING_ID, MANIFEST_ID
from securecfg.vault.state.storedlog import (
    CHECKPOINT,
    RECORDS,
    STATE,
    TREE,
    Expectation,
    StoredLog,
    Verified,
    verify_log_file,
)
from tests.vault.world import InterruptedStore, World

if TYPE_CHECKING:
    from securecfg.store import Operation, Store


def written(world: World, count: int = 12) -> World:
    vault = world.create()
    for number in range(count):
        vault.write(f"app/{number}", "a value")
    vault.close()
    return world


def change(world: World, *operations: Operation) -> None:
    store = open_sqlite(world.path)
    head = store.head()
    assert head is not None
    store.commit(operations, expect=head, head=head)
    store.close()


def verify(world: World, level: int = STATE, expected: Expectation | None = None) -> Verified:
    provider = open_provider(world.key)
    return verify_log_file(world.path, provider, level=level, expected=expected, clock=world.clock)


@pytest.mark.parametrize("level", [CHECKPOINT, TREE, RECORDS, STATE])
def test_each_level_accepts_a_whole_log(world: World, level: int) -> None:
    found = verify(written(world), level)
    assert (found.size, found.epochs, found.behind) == (13, 1, ())
    assert found.genesis == found.vkey


@pytest.mark.parametrize(
    ("space", "row", "level", "error"),
    [
        (Space.META, KEYRING_ID, CHECKPOINT, Tampered),
        (Space.META, 1, CHECKPOINT, SecurecfgError),
        (Space.META, 256, CHECKPOINT, SecurecfgError),
        (Space.META, MANIFEST_ID, STATE, Tampered),
        (Space.LOG, 4, TREE, LogTampered),
        (Space.LOG, 12, TREE, LogTampered),
    ],
)
def test_a_replaced_row_is_found_at_its_level_and_not_before(
    world: World, space: Space, row: int, level: int, error: type[Exception]
) -> None:
    written(world)
    store = open_sqlite(world.path)
    old = store.get(space, row)
    store.close()
    assert old is not None
    change(world, Put(space, row, old[:-1] + bytes([old[-1] ^ 1])))
    for below in range(CHECKPOINT, level):
        verify(world, below)
    with pytest.raises(error):
        verify(world, level)


def test_a_missing_record_is_named_and_missing_ones_at_the_end_are_truncated(world: World) -> None:
    written(world)
    change(world, Delete(Space.LOG, 12), Delete(Space.LOG, 11))
    with pytest.raises(LogTruncated):
        verify(world, TREE)
    change(world, Delete(Space.LOG, 5))
    with pytest.raises(LogTampered) as caught:
        verify(world, TREE)
    assert caught.value.index == 5


def test_a_missing_sealer_is_found_where_records_are_opened(world: World) -> None:
    written(world)
    store = open_sqlite(world.path)
    sealers = [number for number, _ in store.scan(Space.SEALER, 0, (1 << 63) - 1, 10)]
    store.close()
    change(world, *(Delete(Space.SEALER, number) for number in sealers))
    verify(world, TREE)
    with pytest.raises(LogTampered):
        verify(world, RECORDS)


def test_another_key_opens_no_log(world: World, tmp_path: Path) -> None:
    written(world)
    generate_key_file(tmp_path / "other")
    with pytest.raises(WrongKey):
        verify_log_file(world.path, open_provider(f"file:{tmp_path / 'other'}"))


def test_a_log_is_stale_from_the_age_that_is_allowed(world: World) -> None:
    written(world)
    verify(world, RECORDS, Expectation(timedelta(hours=1)))
    world.clock.advance(timedelta(hours=2))
    with pytest.raises(LogStale):
        verify(world, RECORDS, Expectation(timedelta(hours=1)))


def test_what_the_machine_recorded_must_be_readable(world: World) -> None:
    vault = written(world).open()
    anchor = Path(AnchorFile(vault.opened.replica.vault_id, world.path).path)
    vault.close()
    anchor.unlink()
    verify(world)
    anchor.mkdir()
    with pytest.raises(StoreFailed):
        verify(world)


def test_keys_that_change_meanwhile_are_read_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    written(world)

    def rotate() -> None:
        with world.open() as vault:
            rotate_signing_key(vault.authority)

    def interrupted(path: Path, *, read_only: bool) -> Store:
        store = InterruptedStore(open_sqlite(path, read_only=read_only))
        store.interrupt("snapshot", None, rotate)
        return cast("Store", store)

    monkeypatch.setattr("securecfg.vault.state.storedlog.open_sqlite", interrupted)
    found = verify(world)
    assert (found.size, found.epochs) == (14, 2)
    assert found.genesis != found.vkey


def test_a_head_whose_state_was_not_signed_is_refused(world: World) -> None:
    written(world)
    store = open_sqlite(world.path)
    head = store.head()
    assert head is not None
    store.commit([], expect=head, head=head[:-2] + bytes([head[-2] ^ 1]) + head[-1:])
    store.close()
    with pytest.raises(Tampered):
        verify(world, CHECKPOINT)


def test_progress_counts_records_of_both_passes(world: World) -> None:
    written(world)
    seen: list[tuple[int, int]] = []
    provider = open_provider(world.key)
    verify_log_file(
        world.path, provider, level=RECORDS, clock=world.clock, progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(0, 13), (0, 13)]


def test_a_log_ends_at_its_checkpoint_whatever_is_written_meanwhile(world: World) -> None:
    vault = written(world).open()
    replica = vault.opened.replica
    log = StoredLog(vault.opened.store, replica.header, replica.keyring, vault.log.note)
    vault.write("app/later", "a value")
    log.verify_tree()
    assert log.verify_records().size == parse_checkpoint(log.note).size == 13
    assert replica.keyring.active(Purpose.LOG_SIGNING).epoch == 0


def test_a_report_has_the_parts_of_a_batch(world: World) -> None:
    vault = world.create()
    with vault.batch() as batch:
        for number in range(2_000):
            batch.write(f"bulk/{number}", "a value")
    report = vault.log.report(0, 1 << 62, "jsonl")
    (row,) = [row for row in report.rows if row.parts]
    assert len(row.versions) == 2_000
    assert b'["bulk/1999",1]' in render_jsonl(report, vault.opened.replica.signer)


def test_a_report_without_a_period_is_of_the_whole_log(world: World) -> None:
    vault = world.create()
    vault.write("app/first", "a value")
    world.clock.advance(timedelta(hours=-1))  # a clock that was set back
    vault.write("app/second", "a value")
    report = vault.log.report(None, None, "jsonl")
    times_ns = [row.record.time_ns for row in report.rows]
    assert len(report.rows) == report.newer.size
    assert (report.start_ns, report.end_ns) == (min(times_ns), max(times_ns) + 1)
    assert report.start_ns < times_ns[0]


def test_a_report_ends_after_it_begins(world: World) -> None:
    vault = world.create()
    first_ns = next(iter(vault.log.records())).record.time_ns
    for start_ns, end_ns in ((None, first_ns), (first_ns, first_ns), (1 << 62, None)):
        with pytest.raises(UsageError, match="the period ends before it begins"):
            vault.log.report(start_ns, end_ns, "jsonl")


def test_there_is_no_proof_of_a_record_that_is_not_there(world: World) -> None:
    vault = world.create()
    with pytest.raises(NotFound):
        vault.log.prove(1)
    assert vault.log.prove(0).startswith(b"c2sp.org/tlog-proof@v1\n")
