"""What a crash leaves is swept, whenever it comes, and what a writer may still publish is not."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from securecfg.audit import Event
from securecfg.crypto import KIND_TEXT
from securecfg.errors import LogTampered, SecurecfgError
from securecfg.store import Delete, Put, Space
from securecfg.vault.commits import maintenance, staging
from securecfg.vault.commits.maintenance import compact
from securecfg.vault.commits.orphans import Unsettled, find_deltas, find_parts, sweep_orphans
from securecfg.vault.commits.staging import StagingArea
from securecfg.vault.drafts import Content, Drafts, NewVersion
from securecfg.vault.keys.changes import KeyChanges
from securecfg.vault.verification import verify_vault
from tests.decoder.decoder import decode
from tests.decoder.keys import KeyFile
from tests.vault.crash_steps import dying
from tests.vault.world import ADMIN, World, interrupted, text_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.vault.vault import Vault


LARGE = b"large" * 60_000


def die(world: World, changes: int, call: Callable[[Vault], object]) -> bool:
    """Return whether a call died; if so, what it had reserved has expired, and another process has opened the vault."""
    try:
        call(dying(world, changes))
    except SecurecfgError:
        world.clock.advance(timedelta(hours=2))
        world.open().close()
        return True
    return False


def write_many(vault: Vault, turn: int) -> None:
    """Write so much that the record needs a part: new secrets, and one that frees rows."""
    with vault.batch() as batch:
        batch.write("app/again", str(turn))
        for number in range(120):
            batch.write(f"app/{turn}/{number:03}", "1")


def rows_of(vault: Vault, space: Space) -> int:
    return len(vault.opened.store.scan(space, 0, 2**63 - 1, 100_000))


def verify_clean(world: World, vault: Vault) -> None:
    """Check that nothing is left, nothing is missing, and that the independent decoder agrees."""
    vault.opened.refresh()
    result = verify_vault(vault.opened)
    assert result.problems == []
    assert result.orphans == {}
    assert vault.opened.replica.state.stagings == ()
    assert rows_of(vault, Space.DELTA) == 0
    assert rows_of(vault, Space.SEGMENT) == len(vault.opened.replica.index.manifest.lines)
    for entry in vault.log.records():
        vault.log.items(entry.record)
    assert decode(world.path, KeyFile(world.folder / "key")).unreferenced == set()


def test_wherever_a_large_change_dies_nothing_is_left(
    world: World, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    # After three rows for each of 121 changes, the delta ends a step and the part begins the next one.
    monkeypatch.setattr(staging, "STAGE_LIMIT_OPERATIONS", 91)
    vault.write("app/again", "0")
    left: Counter[str] = Counter()
    turn = 0
    while die(world, turn, lambda writer, turn=turn: write_many(writer, turn)):  # type: ignore[misc]  # lambda default
        vault.opened.refresh()
        left += verify_vault(vault.opened).orphans
        compact(vault.opened)
        assert verify_vault(vault.opened).orphans == {}
        turn += 1
    assert turn >= 7
    assert left.keys() == {"delta", "part"}
    compact(vault.opened)
    verify_clean(world, vault)
    assert text_of(vault, "app/again") == str(turn)
    assert len(vault.list(f"app/{turn}/")) == 120


def test_wherever_a_compaction_dies_nothing_is_left(
    world: World, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "STAGE_LIMIT_OPERATIONS", 3)
    left: Counter[str] = Counter()
    turn = 0

    def change() -> None:
        for number in range(3):
            vault.write(f"app/{number}", str(turn))
        version = vault.write("app/large", LARGE)
        vault.destroy("app/large", version)

    change()
    compact(vault.opened)
    change()
    while die(world, turn, lambda writer: compact(writer.opened)):
        vault.opened.refresh()
        left += verify_vault(vault.opened).orphans
        compact(vault.opened)
        verify_clean(world, vault)
        turn += 1
        change()
    assert turn >= 6
    assert left.keys() == {"delta", "segment", "value"}
    vault.opened.refresh()
    verify_clean(world, vault)
    assert text_of(vault, "app/0") == str(turn)


def test_wherever_a_sweep_dies_the_next_one_goes_on(
    world: World, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_orphans(world, vault)
    monkeypatch.setattr(maintenance, "STAGE_LIMIT_OPERATIONS", 1)
    turn = 0
    while die(world, turn, lambda sweeper: sweep_orphans(sweeper.opened)):
        assert find_deltas(vault.opened)
        turn += 1
    assert turn >= 3
    compact(vault.opened)
    verify_clean(world, vault)


def leave_orphans(world: World, vault: Vault) -> None:
    """Let a large change and a compaction die late."""
    vault.write("app/x", "1")
    compact(vault.opened)
    vault.write("app/x", "2")
    # The reservation and all rows are written, and then the publication fails.
    assert die(world, 2, lambda writer: write_many(writer, 1))
    # The same of a compaction, and its publication too.
    assert die(world, 3, lambda writer: compact(writer.opened))
    vault.opened.refresh()
    assert verify_vault(vault.opened).orphans.keys() == {"delta", "part", "segment"}


def test_segments_that_were_only_sealed_anew_are_swept_when_that_is_done_again(world: World, vault: Vault) -> None:
    vault.write("app/a", "1")
    compact(vault.opened)
    KeyChanges(vault.authority).begin_scope_epoch()
    compact(vault.opened)  # the record of that
    assert die(world, 3, lambda writer: compact(writer.opened, seals_anew=True))
    vault.opened.refresh()
    assert verify_vault(vault.opened).orphans == {"segment": 1}
    compact(vault.opened, seals_anew=True)
    verify_clean(world, vault)


class Late:
    """A large change that is prepared at one moment and published at another."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._area = StagingArea(vault.opened)
        self._parts: list[list[str]] = []
        self.is_published = False

    def prepare(self) -> None:
        opened, value = self._vault.opened, b"late"
        new = NewVersion(ADMIN, opened.clock.now_ns())
        drafts = Drafts(opened, self._area)
        self._area.take(drafts.write(b"app/late", Content(KIND_TEXT, len(value), lambda: (value,)), new))
        self._parts = self._area.stage_parts([("app/late", 1)])
        self._area._flush()

    def publish(self) -> None:
        obj = {"count": 1, "parts": self._parts}
        record = self._vault.authority.session().record(Event.BATCH_WRITTEN, obj)
        self._area.publish(lambda: [record], lambda: None, "")
        self.is_published = True


BEFORE, AFTER = "before", "after"
MOMENTS = (BEFORE, Space.DELTA, Space.LOG, Space.SEGMENT, Space.PART, AFTER)


@pytest.mark.parametrize(
    ("begins", "ends"),
    [(begins, ends) for number, begins in enumerate(MOMENTS) for ends in MOMENTS[number:]],
)
def test_what_is_prepared_or_published_during_a_sweep_survives_it(
    world: World, vault: Vault, begins: str | Space, ends: str | Space
) -> None:
    leave_orphans(world, vault)
    sweeper, store = interrupted(world)
    late = Late(world.open())
    happens: dict[str | Space, list[Callable[[], None]]] = {moment: [] for moment in MOMENTS}
    happens[begins].append(late.prepare)
    happens[ends].append(late.publish)

    def let_happen(moment: str | Space) -> None:
        while happens[moment]:
            happens[moment].pop(0)()

    for moment in MOMENTS:
        if isinstance(moment, Space):
            store.interrupt("scan", moment, lambda moment=moment: let_happen(moment))  # type: ignore[misc]  # lambda default
    let_happen(BEFORE)
    sweep_orphans(sweeper.opened)
    # A sweep that is in doubt ends early, and then some moments never come.
    for moment in MOMENTS:
        let_happen(moment)
    assert late.is_published
    assert text_of(vault, "app/late") == "late"
    (batch,) = (entry.record for entry in vault.log.records() if "parts" in entry.record.obj)
    assert vault.log.items(batch) == [("app/late", 1)]
    compact(vault.opened)
    verify_clean(world, vault)


def test_nothing_is_judged_while_a_large_change_is_prepared(world: World, vault: Vault) -> None:
    leave_orphans(world, vault)
    late = Late(world.open())
    late.prepare()
    before = {space: rows_of(vault, space) for space in (Space.DELTA, Space.PART, Space.SEGMENT)}
    for find in (find_deltas, find_parts):
        with pytest.raises(Unsettled):
            find(vault.opened)
    sweep_orphans(vault.opened)
    assert {space: rows_of(vault, space) for space in before} == before
    assert not {"delta", "part"} & verify_vault(vault.opened).orphans.keys()
    late.publish()
    compact(vault.opened)
    verify_clean(world, vault)


def test_a_staging_that_was_condemned_keeps_no_sweep_waiting(world: World, vault: Vault) -> None:
    leave_orphans(world, vault)
    area = StagingArea(vault.opened)
    area.allocate()
    assert staging._condemn(vault.opened, vault.opened.replica.state.stagings)
    sweep_orphans(vault.opened)
    assert find_deltas(vault.opened) == set()


def test_a_staging_that_was_published_meanwhile_is_not_swept(world: World, vault: Vault) -> None:
    late = Late(world.open())
    late.prepare()
    vault.opened.refresh()
    stagings = vault.opened.replica.state.stagings
    assert len(stagings) == 1
    late.publish()
    staging.sweep(vault.opened, stagings)
    assert text_of(vault, "app/late") == "late"


def test_a_writer_whose_staging_was_swept_leaves_nothing(world: World, vault: Vault) -> None:
    late = Late(world.open())
    late.prepare()
    world.clock.advance(timedelta(hours=2))
    world.open()
    late._area.abandon()
    compact(vault.opened)
    verify_clean(world, vault)
    assert rows_of(vault, Space.PART) == 0


def test_a_writer_whose_staging_was_swept_writes_no_more_rows(world: World, vault: Vault) -> None:
    late = Late(world.open())
    late.prepare()
    world.clock.advance(timedelta(hours=2))
    world.open()
    before = rows_of(vault, Space.VALUE)
    late._area.put(Put(Space.VALUE, late._area.allocate(), b"too late"))
    with pytest.raises(SecurecfgError) as refused:
        late._area._flush()
    assert refused.value.code == "store-busy"
    assert rows_of(vault, Space.VALUE) == before


def test_what_a_delta_freed_is_not_believed_where_it_was_altered(world: World, vault: Vault) -> None:
    version = vault.write("app/large", LARGE)
    vault.destroy("app/large", version)
    freed = rows_of(vault, Space.VALUE)
    assert die(world, 3, lambda writer: compact(writer.opened))
    store = vault.opened.store
    for number, row in store.scan(Space.DELTA, 0, 2**63 - 1, 100):
        store.stage([Put(Space.DELTA, number, row[:-1] + bytes((row[-1] ^ 1,)))])
    compact(vault.opened)
    assert rows_of(vault, Space.DELTA) == 0
    assert rows_of(vault, Space.VALUE) == freed


def test_without_every_record_nothing_is_swept(world: World, vault: Vault) -> None:
    leave_orphans(world, vault)
    before = rows_of(vault, Space.DELTA)
    vault.opened.store.stage([Delete(Space.LOG, 1)])
    with pytest.raises(LogTampered):
        sweep_orphans(vault.opened)
    assert rows_of(vault, Space.DELTA) == before
