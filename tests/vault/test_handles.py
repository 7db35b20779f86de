"""Handles that are lent, followed or forgotten: nothing is told that the policy does not allow, and no read is lost."""

from __future__ import annotations

import queue
import threading
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from securecfg.errors import AccessDenied, StoreBusy, StoreFailed, VaultClosed
from securecfg.vault.authority import DENIALS_KEPT, DENIALS_RECORDED
from tests.vault.world import ADMIN, BLIND, READER, grant, interrupted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securecfg.audit import Record
    from securecfg.vault.references import SecretRef
    from securecfg.vault.vault import Vault
    from tests.vault.world import InterruptedStore, World

EXPORTER = """
[roles.exporter]
members = ["svc:exporter"]
[[roles.exporter.grants]]
actions = ["audit.export"]
"""


def recorded(vault: Vault, event: str) -> Iterator[Record]:
    return (entry.record for entry in list(vault.log.records()) if entry.record.event == event)


def test_a_lent_handle_is_of_no_use_after_its_block(vault: Vault) -> None:
    grant(vault)
    vault.write("app/x", "v")
    with vault.acting(READER) as lent:
        lent.read("app/x")
        lent.read("app/x")
    for call in (lambda: lent.read("app/x"), lent.list, lambda: lent.write("app/x", "w")):
        with pytest.raises(VaultClosed):
            call()
    lent.close()
    assert [record.count for record in recorded(vault, "secret.read.counted")] == [1]


def test_lending_a_lent_handle_on_hides_nobody(vault: Vault) -> None:
    grant(vault)
    vault.write("app/x", "v")
    with vault.acting(READER) as first, first.acting(READER) as second:
        second.read("app/x")
    assert [record.subject.via for record in recorded(vault, "secret.read")] == [ADMIN]


def test_counts_survive_a_destruction(world: World, vault: Vault) -> None:
    vault.write("a", "1")
    vault.write("b", "1")
    for _ in range(5):
        vault.read("a")
    vault.destroy("b", 1)
    vault.close()
    assert [record.count for record in recorded(world.open(), "secret.read.counted")] == [4]


def test_a_read_that_is_remembered_twice_keeps_its_counts(vault: Vault) -> None:
    vault.write("a", "1")
    for _ in range(3):
        vault.read("a")
    reads = vault._reads
    hit = reads._hits["a"]
    # As two threads do that read for the first time together.
    reads._remember(hit.revision, hit.finding, vault.read("a"))
    vault.authority.flush()
    assert [record.count for record in recorded(vault, "secret.read.counted")] == [3]


def test_denials_are_counted_and_flushed_though_nothing_is_read(world: World, vault: Vault) -> None:
    reader = world.open(READER)
    for _ in range(DENIALS_RECORDED + 3):
        with pytest.raises(AccessDenied):
            reader.read("secret")
    world.clock.advance(timedelta(minutes=2))
    with pytest.raises(AccessDenied):
        reader.read("secret")
    assert [record.count for record in recorded(vault, "access.denied.counted")] == [3]


def test_a_clock_that_was_put_back_silences_no_denials(world: World, vault: Vault) -> None:
    reader = world.open(READER)
    for _ in range(DENIALS_RECORDED):
        with pytest.raises(AccessDenied):
            reader.read("secret")
    world.clock.advance(timedelta(days=-1))
    with pytest.raises(AccessDenied):
        reader.read("secret")
    assert len(list(recorded(vault, "access.denied"))) == DENIALS_RECORDED + 1


def test_what_is_remembered_of_denials_is_bounded(world: World, vault: Vault) -> None:
    authority = world.open(READER).authority
    authority._denials = {("read", str(number)): [0, 1, 0] for number in range(DENIALS_KEPT)}
    with pytest.raises(AccessDenied):
        authority.require("read", "secret")
    assert len(authority._denials) == 1
    assert vault.list() == []


def test_disclosing_records_needs_the_right_to_read_them(world: World, vault: Vault) -> None:
    grant(vault, EXPORTER)
    exporter = world.open("svc:exporter")
    assert exporter.log.prove(0)
    with pytest.raises(AccessDenied):
        exporter.log.prove(0, opens_record=True)
    with pytest.raises(AccessDenied):
        exporter.log.report(0, 1 << 62, "csv")
    assert vault.log.prove(0, opens_record=True)


def test_the_log_cannot_be_followed_from_its_beginning_without_a_record(vault: Vault) -> None:
    log = vault.log
    assert [entry.record.event for entry in log.follow(0, 0)][-1] == "audit.read"
    size = vault.opened.replica.checkpoint.size
    assert log.follow(size, 0) == []
    assert vault.opened.replica.checkpoint.size == size


def test_who_may_not_read_a_secret_does_not_learn_that_it_changes(world: World, vault: Vault) -> None:
    grant(vault)
    vault.write("app/x", "1")
    with pytest.raises(AccessDenied):
        world.open(READER).ref("other").on_change(lambda _: None)
    told = threading.Event()
    calls: list[SecretRef] = []
    reader = world.open(READER)
    reader.ref("app/x").on_change(calls.append)
    vault_ref = world.open(BLIND).ref("app/x")
    grant(vault, "")
    vault.ref("app/x").on_change(lambda _: told.set())
    vault.write("app/x", "2")
    assert told.wait(10)
    assert calls == []
    with pytest.raises(AccessDenied):
        vault_ref.on_change(calls.append)


def failing(store: InterruptedStore, method: str, times: int) -> threading.Event:
    """Let a method of a store fail so often; return what is set when it has done so."""
    over = threading.Event()
    left = iter(range(times, 0, -1))

    def fail() -> None:
        if next(left) > 1:
            store.interrupt(method, None, fail)
        else:
            over.set()
        message = "the store is busy"
        raise StoreBusy(message)

    store.interrupt(method, None, fail)
    return over


@pytest.mark.parametrize("method", ["revision", "head", "wait"])
def test_a_followed_secret_is_followed_on_when_the_store_comes_back(
    world: World, vault: Vault, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    vault.write("app/x", "1")
    following, store = interrupted(world)
    told: queue.SimpleQueue[str | bytes] = queue.SimpleQueue()
    following.ref("app/x").on_change(lambda ref: told.put(ref.reveal()))
    over = failing(store, method, 3)
    vault.write("app/x", "2")
    assert over.wait(10)
    assert told.get(timeout=10) == "2"
    vault.write("app/x", "3")
    assert told.get(timeout=10) == "3"
    assert told.empty()
    logged = [record for record in caplog.records if getattr(record, "event", "") == "watch.interrupted"]
    assert len(logged) == 1


def test_what_changes_before_the_first_look_is_told(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    class Late(threading.Thread):
        def start(self) -> None:
            vault.write("app/x", "2")
            super().start()

    vault.write("app/x", "1")
    told = threading.Event()
    monkeypatch.setattr("threading.Thread", Late)
    vault.ref("app/x").on_change(lambda _: told.set())
    monkeypatch.undo()
    assert told.wait(10)


@pytest.mark.parametrize("fails", [False, True])
def test_nobody_looks_any_more_once_the_vault_is_closed_or_nothing_is_to_be_called(
    world: World, vault: Vault, *, fails: bool
) -> None:
    vault.write("app/x", "1")
    following, store = interrupted(world)
    ref = following.ref("app/x")
    stop = ref.on_change(lambda _: None)
    watcher = ref._watcher
    assert watcher is not None
    if fails:
        assert failing(store, "revision", 5).wait(10)
    stop()
    watcher.join(10)
    assert not watcher.is_alive()
    ref.on_change(lambda _: None)
    watcher = ref._watcher
    assert watcher is not None
    if fails:
        assert failing(store, "revision", 5).wait(10)
    following.close()
    watcher.join(10)
    assert not watcher.is_alive()


def test_one_failure_at_the_end_loses_no_counts_of_others(world: World, vault: Vault) -> None:
    vault.write("a", "1")
    vault.read("a")
    vault.read("a")

    def fail() -> None:
        message = "full"
        raise StoreFailed(message)

    vault.opened._cleanups.insert(0, fail)
    with pytest.raises(StoreFailed):
        vault.close()
    assert vault.opened.is_closed
    assert [record.count for record in recorded(world.open(), "secret.read.counted")] == [1]
