"""Every call of the file system fails once or for ever: the right error, all or nothing, and a store that goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest

from securecfg.errors import (
    CommitUnknown,
    DestroyPending,
    SecurecfgError,
    StoreBusy,
    StoreFailed,
)
from securecfg.store import MemoryStore, Put, Space, create_sqlite, open_sqlite
from securecfg.testing.faults import Fault, FaultyStore, FaultyVfs
from securecfg.testing.store_conformance import StoreConformance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from securecfg.store import SqliteStore
    from securecfg.testing.faults import Call

KEYS = [(Space.VALUE, 1), (Space.DEK, 1), (Space.HISTORY, 1)]


@pytest.fixture
def vfs() -> Iterator[FaultyVfs]:
    with FaultyVfs() as vfs:
        yield vfs


def publish(store: SqliteStore, number: int) -> None:
    rows = [Put(space, id_, b"%d" % number * 3000) for space, id_ in KEYS]
    store.commit(rows, expect=b"%d" % (number - 1) if number else None, head=b"%d" % number)


def seen(store: SqliteStore) -> int:
    """Return the newest publication, which is there as a whole."""
    head, rows = store.snapshot(KEYS)
    assert head is not None
    assert rows == [head * 3000] * 3
    return int(head)


def test_a_commit_that_meets_an_error_is_whole_or_absent_and_says_which(tmp_path: Path, vfs: FaultyVfs) -> None:
    sweep: list[tuple[Call, int]] = [("write", 12), ("sync", 3), ("open", 3), ("lock", 3), ("read", 6), ("truncate", 2)]
    errors: list[Literal["IOERR", "FULL"]] = ["IOERR", "FULL"]
    faults = [
        Fault(call, nth, error, is_lasting=lasting, is_after=after)
        for call, calls in sweep
        for nth in range(1, calls)
        for error in errors[: 2 if call == "write" else 1]
        for lasting in (False, True)
        for after in ((False, True) if call == "sync" else (False,))
    ]
    outcomes: dict[str, int] = {}
    struck = 0
    for number, fault in enumerate(faults):
        path = tmp_path / f"{number}.vault"
        store = create_sqlite(path, vfs=vfs.vfs_name)
        publish(store, 0)
        vfs.plant(fault)
        problem = error_of(publish, store, 1)
        outcome = "committed" if problem is None else problem.code
        assert problem is None or (path.name in problem.message and "INSERT" not in problem.message)
        struck += vfs.has_struck
        vfs.heal()
        with open_again(path) as fresh:
            now = seen(fresh)
        assert outcome in {"committed", "store-failed", "commit-unknown"}
        if outcome == "committed":
            assert now == 1
        elif outcome == "store-failed":
            assert now == 0
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
        publish(store, now + 1)
        assert seen(store) == now + 1
        store.close()
    print(f"{len(faults)} faults, {struck} struck: {outcomes}")
    assert struck > 30
    assert outcomes["store-failed"] > 5
    assert outcomes["commit-unknown"] > 5


def create_and_close(path: Path, vfs: FaultyVfs) -> None:
    create_sqlite(path, vfs=vfs.vfs_name).close()


def open_and_close(path: Path, vfs: FaultyVfs) -> None:
    open_sqlite(path, vfs=vfs.vfs_name).close()


def error_of(call: Callable[..., object], *arguments: object) -> SecurecfgError | None:
    """Return the error of a call that may fail; any error that is not ours passes."""
    try:
        call(*arguments)
    except SecurecfgError as error:
        return error
    return None


class open_again:  # noqa: N801 - reads as a verb
    def __init__(self, path: Path) -> None:
        self.store = open_sqlite(path)

    def __enter__(self) -> SqliteStore:
        return self.store

    def __exit__(self, *_: object) -> None:
        self.store.close()


@pytest.mark.parametrize("lasting", [False, True])
def test_a_full_disk_is_named_and_nothing_is_committed(tmp_path: Path, vfs: FaultyVfs, lasting: bool) -> None:
    store = create_sqlite(tmp_path / "a.vault", vfs=vfs.vfs_name)
    publish(store, 0)
    vfs.plant(Fault("write", 2, "FULL", is_lasting=lasting))
    with pytest.raises(StoreFailed, match=r"the disk that holds `.*a\.vault` is full") as caught:
        publish(store, 1)
    assert caught.value.code == "store-failed"
    assert seen(store) == 0
    vfs.heal()
    publish(store, 1)
    assert seen(store) == 1
    store.close()


@pytest.mark.parametrize("after", [False, True])
def test_a_sync_that_fails_leaves_the_commit_unknown(tmp_path: Path, vfs: FaultyVfs, after: bool) -> None:
    store = create_sqlite(tmp_path / "a.vault", vfs=vfs.vfs_name)
    publish(store, 0)
    vfs.plant(Fault("sync", 1, is_after=after))
    with pytest.raises(CommitUnknown, match="may or may not be durable") as caught:
        publish(store, 1)
    assert caught.value.code == "commit-unknown"
    assert caught.value.exit_code == 9
    publish(store, seen(store) + 1)
    store.close()


def test_a_read_that_fails_is_an_error_and_the_next_one_works(tmp_path: Path, vfs: FaultyVfs) -> None:
    store = create_sqlite(tmp_path / "a.vault", vfs=vfs.vfs_name)
    publish(store, 0)
    store.purge()
    store.close()
    store = open_sqlite(tmp_path / "a.vault", vfs=vfs.vfs_name)
    for nth in range(1, 4):
        vfs.plant(Fault("read", nth))
        for _ in range(2):
            problem = error_of(store.get, Space.VALUE, 1)
            assert problem is None or (problem.code == "store-failed" and "SELECT" not in problem.message)
        vfs.heal()
        assert seen(store) == 0
    store.close()


@pytest.mark.parametrize("call", ["open", "read", "write", "sync", "lock", "truncate"])
def test_opening_and_creating_fail_with_one_of_our_errors_and_leave_nothing_behind(
    tmp_path: Path, vfs: FaultyVfs, call: Call
) -> None:
    store = create_sqlite(tmp_path / "there.vault")
    publish(store, 0)
    store.close()
    for nth in range(1, 12):
        vfs.plant(Fault(call, nth))
        path = tmp_path / f"{call}{nth}.vault"
        problem = error_of(create_and_close, path, vfs)
        assert problem is None or (isinstance(problem, StoreFailed) and not list(tmp_path.glob(f"{path.name}*")))
        vfs.plant(Fault(call, nth))
        problem = error_of(open_and_close, tmp_path / "there.vault", vfs)
        assert problem is None or isinstance(problem, StoreFailed)
        vfs.heal()
        with open_again(tmp_path / "there.vault") as again:
            assert seen(again) == 0


def test_a_purge_that_cannot_write_fails_and_keeps_the_rows(tmp_path: Path, vfs: FaultyVfs) -> None:
    store = create_sqlite(tmp_path / "a.vault", vfs=vfs.vfs_name)
    publish(store, 0)
    calls: list[Call] = ["write", "sync", "truncate"]
    for call in calls:
        publish(store, seen(store) + 1)
        vfs.plant(Fault(call, 1))
        with pytest.raises((StoreFailed, DestroyPending)):
            store.purge()
        vfs.heal()
        seen(store)
        store.purge()
    store.close()


class TestFaultyStoreWithoutFaults(StoreConformance):
    """What stands in front of a store changes nothing until it is told to."""

    def create_store(self, place: Path) -> FaultyStore:
        self.first = MemoryStore()
        return FaultyStore(self.first)

    def open_store(self, place: Path) -> FaultyStore:
        return FaultyStore(MemoryStore(self.first._backing))


def test_a_faulty_store_fails_as_planned() -> None:
    store = FaultyStore(MemoryStore())
    store.fail("commit", StoreBusy("busy"), after=1)
    store.fail("commit", CommitUnknown("unknown"), takes_effect=True)
    store.commit([], expect=None, head=b"1")
    with pytest.raises(StoreBusy):
        store.commit([], expect=b"1", head=b"2")
    assert store.head() == b"1"
    with pytest.raises(CommitUnknown):
        store.commit([], expect=b"1", head=b"2")
    assert store.head() == b"2"
    store.commit([], expect=b"2", head=b"3")
    assert store.calls["commit"] == 4
