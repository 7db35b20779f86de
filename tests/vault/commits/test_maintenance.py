"""Compaction and the end of what was destroyed."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from securecfg.errors import DestroyPending, SecretDestroyed, StoreFailed, Tampered
from securecfg.store import Delete, MemoryStore, Put, Space
from securecfg.vault.commits.maintenance import compact, finish_destruction, freed_rows
from securecfg.vault.index.deltas import FreedRun
from securecfg.vault.paths import FIRST_USER_PATH
from tests.vault.world import World, interrupted, text_of

if TYPE_CHECKING:
    from securecfg.vault.vault import Vault


def pending(world: World) -> bool:
    world.vaults[0].opened.refresh()
    return world.vaults[0].opened.is_destruction_pending


def test_compaction_changes_nothing_that_can_be_seen(world: World, vault: Vault) -> None:
    for number in range(60):
        vault.write(f"app/{number:02}", str(number))
    for number in range(0, 60, 3):
        vault.delete(f"app/{number:02}")
    for number in range(1, 60, 3):
        vault.move(f"app/{number:02}", f"moved/{number:02}")
    before = {path: text_of(vault, path) for path in vault.list()}
    assert compact(vault.opened)
    assert not compact(vault.opened)
    other = world.open()
    for handle in (vault, other):
        assert {path: text_of(handle, path) for path in handle.list()} == before
    assert other.opened.replica.index.overlay_size == 0


def test_compaction_deletes_what_it_folds_in(vault: Vault) -> None:
    for number in range(30):
        vault.write("app/a", str(number))
    assert vault.opened.store.scan(Space.DELTA, 0, 2**63 - 1, 100)
    compact(vault.opened)
    assert vault.opened.store.scan(Space.DELTA, 0, 2**63 - 1, 100) == []
    vault.write("app/b", "1")
    compact(vault.opened)
    assert len(vault.opened.store.scan(Space.SEGMENT, 0, 2**63 - 1, 100)) == 1


def test_segments_split_and_join(world: World, vault: Vault) -> None:
    with vault.batch() as batch:
        for number in range(2_500):
            batch.write(f"app/{number:04}", "1")
    compact(vault.opened)
    assert len(vault.opened.replica.index.manifest.lines) == 5
    with vault.batch() as batch:
        for number in range(100, 2_500):
            batch.move(f"app/{number:04}", f"moved/{number:04}")
    compact(vault.opened)
    assert len(world.open().list("app/")) == 100
    assert len(vault.list("moved/")) == 2_400


def test_documents_of_the_vault_itself_lie_apart_from_many_secrets(world: World, vault: Vault) -> None:
    def segments() -> list[tuple[bool, bool]]:
        """Return of each segment whether it begins with a document of the vault, and ends with a secret."""
        compact(vault.opened)
        index = vault.opened.replica.index
        found = [list(index.segment(place).items()) for place in range(len(index.manifest.lines))]
        return [(items[0][0] < FIRST_USER_PATH, items[-1][0] >= FIRST_USER_PATH) for items in found]

    vault.write("app/0", "1")
    assert segments() == [(True, True)]
    with vault.batch() as batch:
        for number in range(1, 300):
            batch.write(f"app/{number}", "1")
    assert segments() == [(True, False), (False, True)]
    vault.administration.add_member("admin", "user:bob")
    assert segments() == [(True, False), (False, True)]
    vault.write("a", "before the first of the others")
    assert segments() == [(True, True), (False, True)]
    with vault.batch() as batch:
        for number in range(300):
            batch.write(f"a/{number}", "1")
    assert segments() == [(True, False), (False, True), (False, True)]
    assert len(world.open().list()) == 601


def test_a_vault_that_was_emptied_by_moves_can_be_compacted_again(world: World, vault: Vault) -> None:
    vault.write("app/a", "1")
    compact(vault.opened)
    vault.move("app/a", "b")
    compact(vault.opened)
    vault.move("b", "app/a")
    compact(vault.opened)
    assert world.open().list() == ["app/a"]


def test_two_compactions_at_once_leave_one_whole_index(world: World, vault: Vault) -> None:
    for number in range(50):
        vault.write(f"app/{number}", str(number))
    other = world.open()
    start = threading.Barrier(3)
    results: list[object] = []

    def run(handle: Vault) -> None:
        start.wait()
        try:
            results.append(compact(handle.opened))
        except BaseException as error:  # noqa: BLE001 - shown by the assertion
            results.append(error)

    threads = [threading.Thread(target=run, args=(handle,)) for handle in (vault, other, vault)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(isinstance(result, bool) for result in results), results
    assert results.count(True) >= 1
    assert len(world.open().list()) == 50
    assert len(vault.opened.store.scan(Space.SEGMENT, 0, 2**63 - 1, 100)) == 1


def test_writers_go_on_during_compactions(world: World, vault: Vault) -> None:
    other = world.open()
    failures: list[BaseException] = []
    is_done = threading.Event()

    def compact_all_the_time() -> None:
        try:
            while not is_done.is_set():
                compact(other.opened)
        except BaseException as error:  # noqa: BLE001 - shown by the assertion
            failures.append(error)

    thread = threading.Thread(target=compact_all_the_time)
    thread.start()
    for number in range(150):
        vault.write(f"app/{number % 40}", str(number))
    is_done.set()
    thread.join()
    assert failures == []
    assert {path: text_of(vault, path) for path in vault.list()} == {
        f"app/{number % 40}": str(number) for number in range(110, 150)
    }


def test_a_compaction_over_a_missing_segment_is_tampering(vault: Vault) -> None:
    vault.write("app/a", "1")
    compact(vault.opened)
    vault.opened.replica.index._segments.clear()
    vault.write("app/b", "1")
    vault.opened.replica.index._segments.clear()
    ((number, _),) = vault.opened.store.scan(Space.SEGMENT, 0, 2**63 - 1, 10)
    vault.opened.store.stage([Delete(Space.SEGMENT, number)])
    with pytest.raises(Tampered):
        compact(vault.opened)


def test_destroyed_bytes_are_nowhere_in_the_file(world: World, vault: Vault) -> None:
    vault.write("app/a", "1")
    located = vault.opened.replica.index.get(b"app/a")
    assert located is not None
    version = vault.opened.history(b"app/a", located).versions[0]
    rows = [
        vault.opened.store.get(Space.DEK, version.dek_id),
        vault.opened.store.get(Space.VALUE, version.value_id),
    ]
    vault.destroy("app/a", 1)
    with pytest.raises(SecretDestroyed):
        vault.read("app/a", at=1)
    vault.close()
    content = world.path.read_bytes()
    for row in rows:
        assert row is not None
        assert row[8:40] not in content
        assert row[-32:] not in content


def test_a_destruction_that_a_reader_holds_up_is_pending_until_the_next_opener(world: World, vault: Vault) -> None:
    vault.write("app/a", "1")
    other, store = interrupted(world)

    def refuse() -> None:
        message = "in use"
        raise DestroyPending(message)

    store.interrupt("purge", None, refuse)
    with pytest.raises(DestroyPending) as raised:
        other.destroy("app/a", 1)
    assert raised.value.code == "destroy-pending"
    assert pending(world)
    with pytest.raises(SecretDestroyed):
        vault.read("app/a", at=1)
    world.open()
    assert not pending(world)


def test_a_failure_after_the_destruction_is_pending_and_not_a_failure_to_destroy(world: World, vault: Vault) -> None:
    vault.write("app/a", "1")
    other, store = interrupted(world)

    def fail() -> None:
        message = "disk"
        raise StoreFailed(message)

    store.interrupt("purge", None, fail)
    with pytest.raises(DestroyPending):
        other.destroy("app/a", 1)
    assert pending(world)


def test_a_destruction_by_another_handle_meanwhile_stays_pending(world: World, vault: Vault) -> None:
    """Whoever clears the flag after its own purge must not clear it for one that has not purged yet."""
    vault.write("app/a", "1")
    vault.write("app/b", "1")
    slow, slow_store = interrupted(world)
    other, store = interrupted(world)

    def refuse() -> None:
        message = "in use"
        raise DestroyPending(message)

    store.interrupt("purge", None, refuse)

    def destroy_the_other() -> None:
        """After the purge of the slow one, before it clears the flag."""
        with pytest.raises(DestroyPending):
            other.destroy("app/b", 1)

    purge = slow_store._store.purge

    def purge_then_lose_time() -> None:
        purge()
        if text:
            text.pop()
            destroy_the_other()
            slow_store._store.purge = refuse  # type: ignore[method-assign]  # its log is in use from now on

    text = ["once"]
    slow_store._store.purge = purge_then_lose_time  # type: ignore[method-assign]  # a purge with an event after it
    with pytest.raises(DestroyPending):
        slow.destroy("app/a", 1)
    assert pending(world)


def test_finishing_twice_is_harmless(world: World, vault: Vault) -> None:
    vault.write("app/a", "1")
    vault.destroy("app/a", 1)
    finish_destruction(vault.opened)
    assert not pending(world)


def test_of_a_long_run_of_freed_rows_those_are_deleted_that_are_there() -> None:
    store = MemoryStore()
    store.stage([Put(Space.VALUE, number, b"row") for number in (3, 1 << 40, (1 << 63) - 1)])
    found = freed_rows(store, [FreedRun(Space.DEK, 7, 2), FreedRun(Space.VALUE, 4, (1 << 63) - 4)])
    assert found == [
        *(Delete(Space.DEK, number) for number in (7, 8)),
        *(Delete(Space.VALUE, number) for number in (1 << 40, (1 << 63) - 1)),
    ]
