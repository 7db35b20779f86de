"""Large changes are prepared in rows that nothing references; a failure on the way leaves and loses nothing."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from securecfg.crypto import KIND_BYTES
from securecfg.errors import CommitUnknown, SecurecfgError, StoreBusy, StoreFailed
from securecfg.store import Put, Space, Store
from securecfg.vault.commits.maintenance import compact
from securecfg.vault.commits.staging import ALLOCATED_SPACES, StagingArea, StagingMoved, sweep, sweep_expired
from securecfg.vault.drafts import Content, Drafts, NewVersion
from securecfg.vault.state.head import STAGINGS_MAX
from securecfg.vault.values import as_number
from tests.vault.world import ADMIN, World, interrupted

if TYPE_CHECKING:
    from securecfg.vault.vault import Vault

CONTENT = bytes(range(256)) * 4_000


def fail(error: SecurecfgError) -> object:
    raise error


def rows_of(store: Store) -> dict[tuple[int, int], bytes]:
    return {(int(s), i): row for s in ALLOCATED_SPACES for i, row in store.scan(s, 0, 2**63 - 1, 10_000)}


def large(vault: Vault, path: str, content: bytes = CONTENT) -> int:
    return as_number(vault.write(path, content))


def content_of(vault: Vault, path: str) -> bytes:
    return b"".join(vault.stream(path)[1])


def test_a_large_value_comes_back_in_pieces(vault: Vault) -> None:
    large(vault, "app/a")
    assert content_of(vault, "app/a") == CONTENT
    assert vault.read("app/a").field("").reveal() == CONTENT
    assert vault.opened.replica.state.stagings == ()


def test_what_fails_before_the_commit_leaves_no_rows(world: World, vault: Vault) -> None:
    other, store = interrupted(world)
    before = rows_of(vault.opened.store)
    stages = iter([None, StoreFailed("disk")])

    def second_fails() -> None:
        error = next(stages)
        if error is not None:
            raise error
        store.interrupt("stage", None, second_fails)

    store.interrupt("stage", None, second_fails)
    with pytest.raises(StoreFailed):
        large(other, "app/a", CONTENT * 5)
    vault.opened.refresh()
    assert rows_of(vault.opened.store) == before
    assert vault.opened.replica.state.stagings == ()
    assert vault.list() == []


def test_an_ambiguous_commit_that_took_place_keeps_its_rows(world: World, vault: Vault) -> None:
    """A staged change whose commit is ambiguous must not be swept away as if it had failed."""
    other, store = interrupted(world)
    commit = store._store.commit
    calls = []

    def commit_then_fail(*args: object, **options: object) -> None:
        commit(*args, **options)  # type: ignore[arg-type]  # passed through
        calls.append(args)
        if len(calls) == 2:  # the reservation comes first
            message = "the store failed while committing"
            raise CommitUnknown(message)

    store._store.commit = commit_then_fail  # type: ignore[method-assign]  # a store that lies about one commit
    with pytest.raises(CommitUnknown):
        large(other, "app/a")
    assert vault.list() == ["app/a"]
    assert content_of(vault, "app/a") == CONTENT


def test_an_ambiguous_reservation_is_a_failure_that_changed_nothing(world: World, vault: Vault) -> None:
    other, store = interrupted(world)
    store.interrupt("commit", None, lambda: fail(CommitUnknown("the store failed while committing")))
    with pytest.raises(StoreFailed):
        large(other, "app/a")
    assert vault.list() == []


def test_an_ambiguous_staging_is_a_failure_that_changed_nothing(world: World, vault: Vault) -> None:
    other, store = interrupted(world)
    store.interrupt("stage", None, lambda: fail(CommitUnknown("the store failed while committing")))
    with pytest.raises(StoreFailed):
        large(other, "app/a")
    assert vault.list() == []


def test_a_change_that_is_durable_succeeds_even_if_the_sweep_after_it_fails(world: World, vault: Vault) -> None:
    vault.write("app/a", "1")
    other, store = interrupted(world)
    stages = iter([None, StoreFailed("disk")])

    def fails_when_deleting() -> None:
        error = next(stages)
        if error is not None:
            raise error
        store.interrupt("stage", None, fails_when_deleting)

    store.interrupt("stage", None, fails_when_deleting)
    assert large(other, "app/a") == 2
    assert content_of(vault, "app/a") == CONTENT


def test_a_staging_that_was_condemned_cannot_be_published(world: World, vault: Vault) -> None:
    other, store = interrupted(world)
    area = StagingArea(other.opened)
    area.allocate()
    vault.opened.refresh()
    # All rows are staged by then.
    store.interrupt("commit", None, lambda: sweep(vault.opened, vault.opened.replica.state.stagings))
    with pytest.raises(StoreBusy):
        area.publish(list, lambda: None, "")


def test_a_staging_that_was_published_cannot_be_swept(vault: Vault) -> None:
    large(vault, "app/a")
    area = StagingArea(vault.opened)
    area.allocate()
    (staging,) = vault.opened.replica.state.stagings
    area.publish(list, lambda: None, "")
    before = rows_of(vault.opened.store)
    sweep(vault.opened, [staging])
    assert rows_of(vault.opened.store) == before
    assert content_of(vault, "app/a") == CONTENT


def test_the_next_opener_sweeps_what_a_crashed_writer_left(world: World, vault: Vault) -> None:
    before = rows_of(vault.opened.store)
    area = StagingArea(vault.opened)
    first = area.allocate(3)
    for number in range(first, first + 3):
        area.put(Put(Space.VALUE, number, b"left behind"))
    area._flush()
    assert world.open().opened.replica.state.stagings != ()
    world.clock.advance(timedelta(hours=2))
    opened = world.open().opened
    assert opened.replica.state.stagings == ()
    assert rows_of(opened.store) == before


def test_a_writer_that_is_swept_while_it_prepares_is_told_and_loses_nothing(world: World, vault: Vault) -> None:
    other, store = interrupted(world)

    def sweep_it() -> None:
        world.clock.advance(timedelta(hours=2))
        vault.opened.refresh()
        sweep_expired(vault.opened)

    store.interrupt("stage", None, sweep_it)
    with pytest.raises(StoreBusy):
        large(other, "app/a")
    assert vault.list() == []


def test_too_many_writers_that_prepare_at_once_are_refused(vault: Vault) -> None:
    areas = [StagingArea(vault.opened) for _ in range(STAGINGS_MAX)]
    for area in areas:
        area.allocate()
    with pytest.raises(StoreBusy):
        large(vault, "app/a")
    vault.write("app/b", "small ones go on")
    for area in areas:
        area.abandon()
    assert large(vault, "app/a") == 1


def test_a_secret_that_changes_while_a_large_value_is_prepared_is_written_again(world: World, vault: Vault) -> None:
    vault.write("app/a", "1")
    other, store = interrupted(world)
    store.interrupt("stage", None, lambda: vault.write("app/a", "2"))
    assert large(other, "app/a") == 3
    assert [info.version for info in vault.history("app/a")] == [3, 2, 1]


def test_two_stagings_of_one_secret_in_one_publication_see_each_other(world: World, vault: Vault) -> None:
    """Threads of one process share publications; the second would overwrite what the first one writes."""
    opened = vault.opened
    planners = []
    for content in (b"first", b"second"):
        area = StagingArea(opened)
        drafted = Drafts(opened, area).write(
            b"app/a", Content.of(KIND_BYTES, content), NewVersion(ADMIN, world.clock.now_ns())
        )
        area.take(drafted)
        planners.append(area.prepare(list, lambda: None))
    with opened.replica.lock, opened.replica.held(), pytest.raises(StagingMoved):
        opened.publisher.make_share(planners)


def test_rows_that_another_writer_replaces_while_a_large_value_is_prepared_are_no_tampering(
    world: World, vault: Vault
) -> None:
    vault.write("app/a", "1")
    other, store = interrupted(world)
    other.list()
    store.interrupt("get", Space.HISTORY, lambda: vault.write("app/a", "2"))
    assert large(other, "app/a") == 3


def test_a_compaction_whose_commit_is_ambiguous_keeps_its_segments(world: World, vault: Vault) -> None:
    for number in range(20):
        vault.write(f"app/{number}", "1")
    other, store = interrupted(world)
    commit = store._store.commit
    calls = []

    def commit_then_fail(*args: object, **options: object) -> None:
        commit(*args, **options)  # type: ignore[arg-type]  # passed through
        calls.append(args)
        if len(calls) == 2:
            message = "the store failed while committing"
            raise CommitUnknown(message)

    store._store.commit = commit_then_fail  # type: ignore[method-assign]  # a store that lies about one commit
    with pytest.raises(CommitUnknown):
        compact(other.opened)
    assert len(vault.list()) == 20
    assert len(world.open().list()) == 20
