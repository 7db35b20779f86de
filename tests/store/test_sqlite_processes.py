"""Locks, freshness and forks: what POSIX makes easy to get wrong."""

from __future__ import annotations

import contextlib
import gc
import os
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import apsw
import pytest

from securecfg.errors import SecurecfgError, StoreBusy, StoreFailed, VaultForked
from securecfg.store import Delete, MemoryStore, Put, Space, Store, create_sqlite, open_sqlite
from securecfg.store.walindex import count_commits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="not applicable: this platform does not fork")

OTHER = """
import sys
from securecfg.errors import SecurecfgError
from securecfg.store import *
store = open_sqlite(sys.argv[1], busy_timeout_s=0.05)
for line in sys.stdin:
    try:
        if line.strip() == "purge":
            store.purge()
        else:
            head = store.head()
            store.commit([Put(Space.VALUE, 1, line.encode())], expect=head, head=b"%d" % (int(head or b"0") + 1))
        print("done", flush=True)
    except SecurecfgError as error:
        print(error.code, error.message, flush=True)
store.close()
"""


class Other:
    """Another process that has the store open and does as it is told."""

    def __init__(self, path: Path) -> None:
        command = [sys.executable, "-c", OTHER, str(path)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def tell(self, line: str) -> str:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(line + "\n")
        stdin.flush()
        return stdout.readline().strip()

    def end(self) -> None:
        self._process.communicate()
        assert self._process.returncode == 0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "a.vault"
    store = create_sqlite(path)
    store.commit([Put(Space.VALUE, 1, b"row")], expect=None, head=b"1")
    store.close()
    return path


@pytest.fixture
def other(path: Path) -> Iterator[Other]:
    other = Other(path)
    assert other.tell("ready") == "done"
    yield other
    other.end()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# --- locks ------------------------------------------------------------------------------------------------------------


def test_a_busy_store_names_the_process_that_holds_it(path: Path, other: Other) -> None:
    store = open_sqlite(path)
    with store._pool.writing(1) as cursor:
        cursor.execute("BEGIN IMMEDIATE")
        answer = other.tell("write")
        cursor.execute("ROLLBACK")
    assert answer.startswith("store-busy ")
    assert f"is locked by process {os.getpid()} (`" in answer
    assert other.tell("write") == "done"
    store.close()


def test_a_writer_waits_no_longer_than_it_was_told_for_a_thread_of_its_own_process(path: Path) -> None:
    store = open_sqlite(path, busy_timeout_s=0.05)
    with store._pool.writing(1), pytest.raises(StoreBusy, match="another thread of this process") as caught:
        store.stage([Delete(Space.VALUE, 9)])
    assert caught.value.code == "store-busy"
    assert caught.value.exit_code == 9
    second = open_sqlite(path, busy_timeout_s=0.05)
    with store._pool.writing(1) as cursor:
        cursor.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusy):
            second.stage([Delete(Space.VALUE, 9)])
        cursor.execute("ROLLBACK")
    second.close()
    store.close()


@pytest.mark.parametrize("holder", ["a store", "a connection of the program's own"])
def test_opening_and_closing_handles_drops_no_lock(path: Path, other: Other, holder: str) -> None:
    store = open_sqlite(path)
    connection = store._pool.pin if holder == "a store" else apsw.Connection(str(path))
    if holder != "a store":
        store.close()
    connection.execute("BEGIN IMMEDIATE")
    for _ in range(3):
        for read_only in (False, True):
            handle = open_sqlite(path, read_only=read_only)
            handle.get(Space.VALUE, 1)
            handle.close()
            assert other.tell("write").startswith("store-busy")
    connection.execute("ROLLBACK")
    assert other.tell("write") == "done"
    store.close()
    connection.close()


def test_descriptors_do_not_accumulate(path: Path) -> None:
    open_sqlite(path).close()
    before = descriptors()
    for _ in range(10):
        store = open_sqlite(path)
        second = open_sqlite(path)
        store.commit([], expect=store.head(), head=b"h")
        store.close()
        second.close()
    assert descriptors() == before


def test_an_index_that_lives_on_is_mapped_once(path: Path, other: Other) -> None:
    open_sqlite(path).close()
    before = descriptors()
    for _ in range(10):
        open_sqlite(path).close()
    assert descriptors() == before
    store = open_sqlite(path)
    revision = store.revision()
    other.tell("write")
    assert store.revision() != revision
    store.close()


# --- freshness --------------------------------------------------------------------------------------------------------


def test_every_commit_of_another_process_shows_through_checkpoints_and_resets(path: Path, other: Other) -> None:
    store = open_sqlite(path)
    assert store._header is not None
    seen = {store.revision()}
    for number in range(120):
        if number % 25 == 24:
            assert other.tell("purge") == "done"
        if number % 40 == 39:
            store.purge()
        seen.add(store.revision())
        known = len(seen)
        assert other.tell(f"write {number}") == "done"
        seen.add(store.revision())
        assert len(seen) == known + 1
        assert store.get(Space.VALUE, 1) == b"write %d\n" % number
    assert store._header is not None
    store.close()


def test_a_commit_knows_its_own_revision_through_checkpoints_and_resets(path: Path, other: Other) -> None:
    store = open_sqlite(path)
    for number in range(3, 30):
        made = store.commit([], expect=b"%d" % (number - 1), head=b"%d" % number)
        assert made is not None
        assert made == store.revision()
        if number % 10 == 5:
            store.purge()
    assert other.tell("a change") == "done"
    assert made != store.revision()
    store.close()


def test_a_commit_that_another_one_followed_is_not_taken_for_the_newest(path: Path, other: Other) -> None:
    store = open_sqlite(path)
    end = store._end

    def end_and_be_followed(cursor: apsw.Cursor) -> None:
        end(cursor)
        assert other.tell("a change") == "done"

    store._end = end_and_be_followed  # type: ignore[method-assign]  # the moment between a commit and the look at it
    assert store.commit([], expect=b"2", head=b"3") is None
    assert store.head() == b"4"
    store.close()


@pytest.mark.parametrize(
    ("before", "after", "commits"), [(5, 5, 0), (5, 6, 1), (5, 7, 2), (0xFFFF_FFFF, 0, 1), (6, 5, 0xFFFF_FFFF)]
)
def test_counts_commits_by_the_change_counter_of_the_header(before: int, after: int, commits: int) -> None:
    first, second = (bytes(8) + counter.to_bytes(4, sys.byteorder) + bytes(84) for counter in (before, after))
    assert count_commits(first, second) == commits


def test_a_store_opened_anew_maps_the_new_index(path: Path, other: Other) -> None:
    for _ in range(5):
        store = open_sqlite(path)
        before = store.revision()
        assert other.tell("write") == "done"
        assert store.revision() != before
        store.close()


def test_a_mapping_that_shows_no_commit_is_abandoned(path: Path, tmp_path: Path) -> None:
    stranger = create_sqlite(tmp_path / "b.vault")
    store = open_sqlite(path)
    store._header = stranger._header
    store.commit([], expect=b"1", head=b"2")
    assert store._header is None
    before = store.revision()
    store.commit([], expect=b"2", head=b"3")
    assert store.revision() != before
    store.close()
    stranger.close()


def test_a_file_put_in_place_of_the_open_one_is_noticed(path: Path, tmp_path: Path) -> None:
    store = open_sqlite(path)
    create_sqlite(tmp_path / "b.vault").close()
    (tmp_path / "b.vault").replace(path)
    revision = store.revision()
    first = store._pool.take()  # a second thread's read opens the file again
    calls: list[Callable[[], object]] = [
        lambda: store.get(Space.VALUE, 1),
        lambda: store.commit([], expect=b"1", head=b"2"),
        lambda: store.stage([Delete(Space.VALUE, 1)]),
        lambda: store.wait(revision, 5),
    ]
    for call in calls:
        with pytest.raises(StoreFailed, match="replaced"):
            call()
    store._pool.idle.append(first)
    store.close()


def test_another_connection_follows_the_first_one_where_that_is_in_doubt(path: Path) -> None:
    store = open_sqlite(path)
    cursor = store._pool.take()
    first = cursor.connection
    assert first is store._pool.pin
    cursor.execute("BEGIN; SELECT * FROM h")
    store._pool.retire(cursor)
    assert store._pool.pin is not first
    with pytest.raises(apsw.ConnectionClosedError):
        first.execute("SELECT 1")
    assert store.head() == b"1"
    store.commit([], expect=b"1", head=b"2")
    store.purge()  # no connection that is left holds up a checkpoint
    store.close()


def test_a_first_connection_that_none_can_follow_stays_open_and_is_used_no_more(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_sqlite(path)
    cursor = store._pool.take()
    cursor.execute("BEGIN; SELECT * FROM h")
    with monkeypatch.context() as broken:
        broken.setattr(store._pool, "_connect", _refuse)
        store._pool.retire(cursor)
    assert not store._pool.pin.in_transaction
    after = store._pool.take()
    assert after.connection is not store._pool.pin
    store._pool.idle.append(after)
    assert store.head() == b"1"
    store.commit([], expect=b"1", head=b"2")
    store.purge()  # the connection that is left holds up no checkpoint
    store.close()


def _refuse() -> apsw.Connection:
    message = "the file was replaced"
    raise StoreFailed(message)


def test_the_version_of_the_data_is_not_that_of_a_read_under_way(path: Path, other: Other) -> None:
    store = open_sqlite(path)
    store._header = None  # as where no WAL-index can be mapped
    before = store.revision()
    cursor = store._pool.take()
    cursor.execute("BEGIN")
    cursor.execute("SELECT * FROM h").fetchall()
    assert other.tell("write") == "done"
    assert store.revision() != before
    cursor.execute("COMMIT")
    store._pool.idle.append(cursor)
    store.close()


# --- what was forgotten -----------------------------------------------------------------------------------------------


def test_a_store_that_nobody_refers_to_closes_itself(path: Path, tmp_path: Path) -> None:
    store = open_sqlite(path)
    store.commit([], expect=b"1", head=b"2")
    del store
    gc.collect()
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.vault"]


def test_a_program_that_ends_without_closing_leaves_one_file(path: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from securecfg.store import *; s = open_sqlite(sys.argv[1]); s.commit([], expect=b'1', head=b'2')"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.vault"]


# --- forks ------------------------------------------------------------------------------------------------------------


def in_child(work: Callable[[], None]) -> None:
    """Run `work` in a forked child that ends like an ordinary program; fail with what it raised."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException as error:  # noqa: BLE001 - a child of a test must not run on into pytest
            os.write(writing, repr(error).encode()[:4000])
        finally:
            gc.collect()
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        problem = pipe.read().decode()
    _, status = os.waitpid(child, 0)
    assert status == 0, problem


def calls_of(store: Store) -> list[Callable[[], object]]:
    return [
        store.head,
        lambda: store.get(Space.VALUE, 1),
        lambda: store.get_many([(Space.VALUE, 1)]),
        lambda: store.snapshot([]),
        lambda: store.scan(Space.VALUE, 0, 1, 1),
        lambda: store.commit([], expect=b"1", head=b"2"),
        lambda: store.stage([Delete(Space.VALUE, 1)]),
        store.revision,
        lambda: store.wait(b"", 1),
        store.purge,
    ]


def refuse_all(store: Store) -> None:
    for call in calls_of(store):
        with pytest.raises(VaultForked) as caught:
            call()
        assert caught.value.code == "vault-forked"
    # A `with` block that the child leaves must not replace the exception that makes it leave.
    store.close()


def test_a_child_is_refused_and_the_parent_goes_on(path: Path) -> None:
    memory = MemoryStore()
    for store in (open_sqlite(path), open_sqlite(path, read_only=True), memory):
        store.snapshot([])
        in_child(partial(refuse_all, store))
        assert store.get(Space.VALUE, 2) is None
        store.close()


def test_a_childs_end_drops_no_lock_of_the_parent(path: Path, other: Other) -> None:
    store = open_sqlite(path)
    store.get(Space.VALUE, 1)
    with store._pool.writing(1) as cursor:
        cursor.execute("BEGIN IMMEDIATE")
        pool = store._pool
        pool._writing.release()

        def drop_everything() -> None:
            nonlocal store, pool, cursor
            del store, pool, cursor
            gc.collect()

        try:
            in_child(drop_everything)
        finally:
            pool._writing.acquire()
        assert other.tell("write").startswith("store-busy")
        cursor.execute("ROLLBACK")
    assert other.tell("write") == "done"
    store.close()


def test_a_child_that_opens_the_store_again_is_a_process_like_any_other(path: Path, other: Other) -> None:
    store = open_sqlite(path)
    store.commit([], expect=store.head(), head=b"10")

    def work() -> None:
        again = open_sqlite(path)
        assert again.head() == b"10"
        before = again.revision()
        again.commit([Put(Space.VALUE, 5, b"child")], expect=b"10", head=b"11")
        assert again.revision() != before
        with again._pool.writing(1) as cursor:
            cursor.execute("BEGIN IMMEDIATE")
            assert other.tell("write").startswith("store-busy")
            cursor.execute("ROLLBACK")
        again.close()

    in_child(work)
    assert store.snapshot([(Space.VALUE, 5)]) == (b"11", [b"child"])
    assert other.tell("write") == "done"
    assert store.head() == b"12"
    store.close()


def test_a_child_may_outlive_its_parents_store(path: Path, tmp_path: Path) -> None:
    store = open_sqlite(path)
    store.commit([], expect=b"1", head=b"2")
    to_child, to_parent = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        with contextlib.suppress(BaseException):
            os.close(to_child[1])  # so that the child ends if the parent's test does
            os.read(to_child[0], 1)
            again = open_sqlite(path)
            assert again.head() == b"2"
            again.commit([], expect=b"2", head=b"3")
            os.write(to_parent[1], b".")
            os.read(to_child[0], 1)
            assert again.head() == b"4"
            again.commit([], expect=b"4", head=b"5")
            again.close()
            status = 0
        os._exit(status)
    store.close()
    os.write(to_child[1], b".")
    os.read(to_parent[0], 1)
    third = open_sqlite(path)
    third.commit([], expect=b"3", head=b"4")
    third.close()
    os.write(to_child[1], b".")
    assert os.waitpid(child, 0)[1] == 0
    for descriptor in (*to_child, *to_parent):
        os.close(descriptor)
    last = open_sqlite(path)
    assert last.head() == b"5"
    last.close()
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.vault"]


def test_a_child_removes_no_log_that_somebody_else_left(path: Path) -> None:
    store = open_sqlite(path)
    store.commit([], expect=b"1", head=b"2")
    to_child, to_parent = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        with contextlib.suppress(BaseException):
            os.close(to_parent)  # so that the child ends if the parent's test does
            os.read(to_child, 1)
            again = open_sqlite(path)
            status = 0 if again.head() == b"crashed" else 2
            again.close()
        os._exit(status)
    store.close()
    code = """if True:
        import os, sys
        from securecfg.store import open_sqlite
        store = open_sqlite(sys.argv[1])
        store.commit([], expect=b"2", head=b"crashed")
        os._exit(0)
    """
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    assert Path(f"{path}-wal").stat().st_size
    os.write(to_parent, b".")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.close(to_child)
    os.close(to_parent)


@pytest.mark.no_cover
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_forks_in_the_middle_of_the_work_of_many_threads(path: Path) -> None:
    store = open_sqlite(path)
    stop = threading.Event()
    errors: list[SecurecfgError] = []

    def read() -> None:
        try:
            while not stop.is_set():
                store.get(Space.VALUE, 1)
        except SecurecfgError as error:
            errors.append(error)

    def write() -> None:
        try:
            while not stop.is_set():
                store.stage([Put(Space.VALUE, 7, b"x" * 3000)])
        except SecurecfgError as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for work in (read, read, read, write, write)]
    for thread in threads:
        thread.start()

    def work() -> None:
        with pytest.raises(VaultForked):
            store.get(Space.VALUE, 1)
        again = open_sqlite(path)
        assert again.get(Space.VALUE, 1) == b"row"
        again.stage([Put(Space.VALUE, 8, b"child")])
        again.close()

    for _ in range(10):
        in_child(work)
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
    assert store.get(Space.VALUE, 8) == b"child"
    store.close()
