"""A store in one SQLite file: WAL, `synchronous=FULL`, `secure_delete`, one table for each space.

Never open and close a vault's file or its `-shm` by other means in a process that has it open: POSIX drops all locks of
the process on a file with any descriptor of it, and a second writer gets in.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from contextlib import contextmanager, suppress
from itertools import groupby
from operator import attrgetter, itemgetter
from typing import TYPE_CHECKING, Any, Literal, NoReturn

import apsw

from securecfg.errors import CommitUnknown, DestroyPending, HeadMoved, StoreBusy, StoreFailed, Tampered
from securecfg.files import create_private, sync_directory
from securecfg.store.connections import INHERITED, Pool
from securecfg.store.database import PARTITION_TABLES, DatabaseFile
from securecfg.store.failures import FOREIGN, translated, words_of
from securecfg.store.filesystems import refuse_network
from securecfg.store.forks import FORKS
from securecfg.store.interface import (
    ID_LIMIT,
    PARTITION_LIMIT,
    Put,
    Replace,
    Space,
    check_batch,
    check_id,
    check_partition,
    check_parts,
    check_staging,
)
from securecfg.store.walindex import HEADER_BYTES, WAL_INDEXES, WalIndex, count_commits

if TYPE_CHECKING:
    import mmap
    from collections.abc import Hashable, Iterator, Sequence

    from securecfg.store.interface import Operation, PartCommit, Staged

BUSY_TIMEOUT_S = 5.0

_HAS_PARTITIONS = "SELECT x'01' FROM sqlite_schema WHERE name = 'g'"
_PARTITIONS = f"SELECT i FROM g WHERE i > 0 AND i < {PARTITION_LIMIT} ORDER BY i"  # noqa: S608 - a number


class _Statements:
    """The statements of a store, or of one of its partitions, by space."""

    __slots__ = ("delete", "delete_head", "get", "get_head", "put", "put_head", "replace", "scan")

    def __init__(self, heads: str, number: int, places: Sequence[tuple[str, str, str]]) -> None:
        """Build them from the place of the head, and of each space table, constant columns of new rows, condition."""
        self.get_head = f"SELECT b FROM {heads} WHERE i = {number}"  # noqa: S608 - a number
        self.put_head = f"INSERT OR REPLACE INTO {heads} VALUES ({number}, ?)"  # noqa: S608 - a number
        self.delete_head = f"DELETE FROM {heads} WHERE i = {number}"  # noqa: S608 - a number
        self.get = tuple(f"SELECT b FROM {table} WHERE {where}i = ?" for table, _, where in places)  # noqa: S608 - numbers
        self.scan = tuple(
            f"SELECT i, b FROM {table} WHERE {where}i BETWEEN ? AND ? ORDER BY i LIMIT ?"  # noqa: S608 - numbers
            for table, _, where in places
        )
        self.put = tuple(f"INSERT OR REPLACE INTO {table} VALUES ({front}?, ?)" for table, front, _ in places)  # noqa: S608 - numbers
        self.replace = tuple(
            f"UPDATE {table} SET b = ? WHERE {where}i = ? AND b = ?"  # noqa: S608 - numbers
            for table, _, where in places
        )
        self.delete = tuple(f"DELETE FROM {table} WHERE {where}i = ?" for table, _, where in places)  # noqa: S608 - numbers


_WHOLE = _Statements("h", 1, [(f"s{space.value}", "", "") for space in Space])


def _statements_of(number: int) -> _Statements:
    """Return the statements of a partition, for 0 those of the store itself."""
    if not number:
        return _WHOLE
    places = [("p", f"{number}, {space.value}, ", f"n = {number} AND s = {space.value} AND ") for space in Space]
    return _Statements("g", number, places)


_PURGE_LIMIT_S = 2.0
_POLL_S = 0.004
_MAPPING_ATTEMPTS = 20


class SqliteStore:
    """An open SQLite file; see `Store` for what each method promises. Made by `create_sqlite` and `open_sqlite`.

    Attributes:
        path: The file as it was named.
        part: The number of this part, 0 for the store itself.
    """

    erases: Literal["now"] = "now"

    def __init__(self, file: DatabaseFile, pin: apsw.Connection, *, busy_timeout_s: float) -> None:
        """Take over a connection that has been checked."""
        self.path = file.shown
        self.part = 0
        self._file = file
        self._sql = _WHOLE
        self._busy_timeout_s = busy_timeout_s
        self._pool = Pool(file.shown, pin, lambda: file.connect(busy_timeout_s))
        self._idle = self._pool.idle
        # The thread that has reserved the store, and its cursor, inside a transaction.
        self._reserved: tuple[int, apsw.Cursor] | None = None
        self._wal_index = _map_index(file, pin)
        # None where there is no mapped WAL-index to look at, and after `close`.
        self._header = self._wal_index.header if self._wal_index else None
        self._finalizer = weakref.finalize(self, _let_go, self._pool, self._wal_index, file)
        FORKS.watch(self)

    def head(self) -> bytes | None:
        """Return the head row, None in a new store."""
        return self.snapshot([])[0]

    def get(self, space: Space, id_: int, /) -> bytes | None:
        """Return one row, None where there is none."""
        if not 0 <= id_ < ID_LIMIT:
            check_id(id_)
        try:
            cursor = self._pool.lending.pop()
        except IndexError:
            cursor = self._pool.take()
        try:
            row: bytes | None = cursor.execute(self._sql.get[space], (id_,)).get
        except BaseException as error:  # noqa: BLE001 - raised again by `_fail`
            self._fail(cursor, error)
        self._idle.append(cursor)
        if row.__class__ is not bytes:
            self._check_row(row)
        return row

    def get_many(self, keys: Sequence[tuple[Space, int]]) -> list[bytes | None]:
        """Return rows in the order of `keys`, all from one snapshot."""
        get = self._sql.get
        if len(keys) != 2:  # noqa: PLR2004 - as many as a data key and its value are, on the way of every read
            return self._read_many([(get[space], id_) for space, id_ in keys])
        (one, first), (other, second) = keys
        if not (0 <= first < ID_LIMIT and 0 <= second < ID_LIMIT):
            check_id(first)
            check_id(second)
        cursor = self._pool.take()
        try:
            # One statement has one snapshot by itself, and locks the file once.
            rows = cursor.execute(f"SELECT ({get[one]}), ({get[other]})", (first, second)).get
        except BaseException as error:  # noqa: BLE001 - raised again by `_fail`
            self._fail(cursor, error)
        self._idle.append(cursor)
        if not rows[0].__class__ is rows[1].__class__ is bytes:
            for row in rows:
                self._check_row(row)
        return list(rows)

    def snapshot(self, keys: Sequence[tuple[Space, int]]) -> tuple[bytes | None, list[bytes | None]]:
        """Return the head row and rows, all from one snapshot."""
        get = self._sql.get
        head, *rows = self._read_many([(self._sql.get_head, None), *((get[space], id_) for space, id_ in keys)])
        return head, rows

    def scan(self, space: Space, first: int, last: int, limit: int) -> list[tuple[int, bytes]]:
        """Return at most `limit` rows with ids from `first` to `last` inclusive, ascending, from one snapshot."""
        check_id(first)
        check_id(last)
        cursor = self._pool.take()
        try:
            found: list[Any] = cursor.execute(self._sql.scan[space], (first, last, max(limit, 0))).fetchall()
        except BaseException as error:  # noqa: BLE001 - raised again by `_fail`
            self._fail(cursor, error)
        self._idle.append(cursor)
        for _, row in found:
            if row.__class__ is not bytes:
                if row is None:
                    # A damaged file can hold what its schema rules out.
                    message = f"`{self.path}` holds a row without content"
                    raise Tampered(message)
                self._check_row(row)
        return found

    def commit(self, operations: Sequence[Operation], *, expect: bytes | None, head: bytes) -> Hashable | None:
        """Replace the head and apply the operations as one atomic publication; see `Store.commit`."""
        check_batch(operations, head)
        reserved = self._reserved
        if reserved is not None and reserved[0] == threading.get_ident():
            self._reserved = None
            return self._commit(reserved[1], operations, expect, head)
        with self._pool.writing(self._busy_timeout_s) as cursor:
            self._begin(cursor)
            return self._commit(cursor, operations, expect, head)

    def commit_parts(self, commits: Sequence[PartCommit]) -> None:
        """Publish in several parts; see `Store.commit_parts`."""
        check_parts(commits)
        reserved = self._reserved
        if reserved is not None and reserved[0] == threading.get_ident():
            self._reserved = None
            self._commit_parts(reserved[1], commits)
            return
        with self._pool.writing(self._busy_timeout_s) as cursor:
            self._begin(cursor)
            self._commit_parts(cursor, commits)

    def stage(self, operations: Sequence[Staged]) -> None:
        """Apply operations atomically without touching the head; see `Store.stage`."""
        check_staging(operations)
        with self._pool.writing(self._busy_timeout_s) as cursor:
            self._begin(cursor)
            try:
                _apply_staged(cursor, operations, self._sql)
            except FOREIGN as error:
                self._roll_back(error)
            self._end(cursor)

    @contextmanager
    def reserve(self) -> Iterator[None]:
        """Begin the transaction of the next commit now; see `Store.reserve`."""
        with self._pool.writing(self._busy_timeout_s) as cursor:
            self._begin(cursor)
            self._reserved = threading.get_ident(), cursor
            try:
                yield
                if self._reserved is not None:
                    cursor.execute("ROLLBACK")
            except FOREIGN as error:
                self._roll_back(error)
            finally:
                self._reserved = None

    def partition(self, number: int) -> SqliteStore:
        """Return a part with rows and a head of its own; see `Store.partition`."""
        check_partition(number)
        return _Partition(self, number)

    def partitions(self) -> list[int]:
        """Return the numbers of the parts that have a head."""
        cursor = self._pool.take()
        try:
            is_any = cursor.execute(_HAS_PARTITIONS).get
            found = [int(number) for (number,) in cursor.execute(_PARTITIONS)] if is_any else []
        except BaseException as error:  # noqa: BLE001 - raised again by `_fail`
            self._fail(cursor, error)
        self._idle.append(cursor)
        return found

    def revision(self) -> Hashable:
        """Return the WAL-index header, or SQLite's data version where the index is not mapped.

        A file opened for reading only where its folder cannot be written may never show a change, and neither does a
        file whose path leads to another one by now; `wait` and every commit notice that.
        """
        try:
            return self._header[:HEADER_BYTES]  # type: ignore[index]  # None is the slow path, and a check costs time
        except (TypeError, ValueError):
            return self._data_version()

    def wait(self, revision: Hashable, timeout_s: float) -> bool:
        """Wait until the revision is another one; return whether that happened before the time was out."""
        deadline = time.monotonic() + timeout_s
        while self.revision() == revision:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            self._file.check_in_place()
            time.sleep(min(left, _POLL_S))
        return True

    def purge(self) -> None:
        """Fold the log into the file, whose freed bytes are overwritten already, and empty it; see `Store.purge`."""
        if self._file.is_read_only:
            self._refuse_writing()
        with self._pool.writing(self._busy_timeout_s) as cursor:
            deadline = time.monotonic() + _PURGE_LIMIT_S
            while True:
                try:
                    cursor.connection.set_busy_timeout(100)
                    try:
                        cursor.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
                    finally:
                        cursor.connection.set_busy_timeout(round(self._busy_timeout_s * 1000))
                    self._file.sync_log()
                    return
                except (apsw.BusyError, apsw.LockedError):
                    if time.monotonic() > deadline:
                        message = f"bytes of deleted rows may still lie in the log of `{self.path}`: it is in use"
                        raise DestroyPending(message, hint="the next to open the vault finishes") from None
                    time.sleep(0.01)
                except FOREIGN as error:
                    self._pool.poison()
                    raise translated(error, self.path) from None

    def close(self) -> None:
        """Let go of everything; idempotent. The last handle in any process leaves one file behind."""
        FORKS.discard(self)
        self._header = None
        self._finalizer()

    def before_fork(self) -> None:
        """Come to rest, so that no thread is inside SQLite when the process is copied."""
        self._pool.come_to_rest()

    def after_fork_in_parent(self) -> None:
        """Go on."""
        self._pool.go_on()

    def after_fork_in_child(self) -> None:
        """Refuse from now on, and touch nothing."""
        self._header = None
        self._finalizer.detach()
        self._pool.disinherit()
        WAL_INDEXES.after_fork_in_child()

    def _read_many(self, queries: Sequence[tuple[str, int | None]]) -> list[bytes | None]:
        for _, id_ in queries:
            if id_ is not None:
                check_id(id_)
        cursor = self._pool.take()
        try:
            cursor.execute("BEGIN")
            rows = [cursor.execute(query, None if id_ is None else (id_,)).get for query, id_ in queries]
            cursor.execute("COMMIT")
        except BaseException as error:  # noqa: BLE001 - raised again by `_fail`
            self._fail(cursor, error)
        self._idle.append(cursor)
        for row in rows:
            self._check_row(row)
        return rows

    def _fail(self, cursor: apsw.Cursor, error: BaseException) -> NoReturn:
        self._pool.retire(cursor)
        if isinstance(error, FOREIGN):
            raise translated(error, self.path) from None
        raise error

    def _check_row(self, row: object) -> None:
        if row is not None and not isinstance(row, bytes):
            message = f"`{self.path}` holds a row that is not bytes"
            raise Tampered(message)

    def _commit(
        self, cursor: apsw.Cursor, operations: Sequence[Operation], expect: bytes | None, head: bytes
    ) -> Hashable | None:
        """Publish in a transaction that has begun, and end it."""
        try:
            if cursor.execute(self._sql.get_head).get != expect:
                cursor.execute("ROLLBACK")
                message = "another writer published first"
                raise HeadMoved(message, hint="read the new head and try again")
            _apply(cursor, operations, self._sql)
            cursor.execute(self._sql.put_head, (head,))
        except FOREIGN as error:
            self._roll_back(error)
        header = self._mapped()
        before = header[:HEADER_BYTES] if header is not None else b""  # nobody else can change it before the end
        self._end(cursor)
        if header is None:
            return None
        after = header[:HEADER_BYTES]
        if after == before:
            # A commit that does not show: this mapping is not the live one.
            self._stop_looking()
        return after if count_commits(before, after) == 1 else None

    def _commit_parts(self, cursor: apsw.Cursor, commits: Sequence[PartCommit]) -> None:
        """Publish in several parts in a transaction that has begun, and end it."""
        shares = [(_statements_of(commit.part), commit) for commit in commits]
        try:
            if any(commit.part for commit in commits):
                _make_partition_tables(cursor)
            if any(cursor.execute(sql.get_head).get != commit.expect for sql, commit in shares):
                cursor.execute("ROLLBACK")
                message = "another writer published first"
                raise HeadMoved(message, hint="read the new heads and try again")
            for sql, commit in shares:
                _apply(cursor, commit.operations, sql)
                if commit.head is None:
                    cursor.execute(sql.delete_head)
                else:
                    cursor.execute(sql.put_head, (commit.head,))
        except FOREIGN as error:
            self._roll_back(error)
        self._end(cursor)

    def _mapped(self) -> mmap.mmap | None:
        """Return the live WAL-index, None where none is mapped."""
        return self._header

    def _stop_looking(self) -> None:
        self._header = None

    def _begin(self, cursor: apsw.Cursor) -> None:
        if self._file.is_read_only:
            self._refuse_writing()
        try:
            cursor.execute("BEGIN IMMEDIATE")
        except (apsw.BusyError, apsw.LockedError):
            message = f"`{self.path}` is locked by {self._holder()}"
            raise StoreBusy(message, hint="try again") from None
        except FOREIGN as error:
            self._pool.poison()
            raise translated(error, self.path) from None
        # A commit into a file that lost its name would be acknowledged and never seen again.
        try:
            self._file.check_in_place()
        except StoreFailed:
            # Nothing is wrong with the connection, which reads go on with.
            with suppress(*FOREIGN):
                cursor.execute("ROLLBACK")
            raise

    def _roll_back(self, error: BaseException) -> NoReturn:
        # Closing the connection is the roll-back that needs nothing to work.
        self._pool.poison()
        raise translated(error, self.path) from None

    def _end(self, cursor: apsw.Cursor) -> None:
        try:
            cursor.execute("COMMIT")
        except apsw.FullError as error:
            # A write failed, and the frame that commits is the last one written: it is not in the log.
            self._roll_back(error)
        except FOREIGN as error:
            self._pool.poison()
            what = words_of(error)[0]
            message = f"`{self.path}` failed while committing ({what}): the change may or may not be durable"
            raise CommitUnknown(message, hint="open the vault again and resolve the request") from None

    def _holder(self) -> str:
        pid = self._wal_index.writer() if self._wal_index else None
        if pid is None:
            return "another writer"
        try:
            with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as file:
                name = file.read().strip()
        except OSError:
            return f"process {pid}"
        return f"process {pid} (`{name}`)"

    def _refuse_writing(self) -> NoReturn:
        self._pool.check_open()
        message = f"`{self.path}` is open for reading only"
        raise StoreFailed(message, hint="open it for writing")

    def _data_version(self) -> int:
        try:
            return self._pool.data_version()
        except FOREIGN as error:
            raise translated(error, self.path) from None


# ruff: noqa: SLF001 - a part of a store is as near to it as the store itself
class _Partition(SqliteStore):
    """A part of a store: its connections, and statements of its own. Open as long as the store is."""

    def __init__(self, store: SqliteStore, number: int) -> None:
        self.path = store.path
        self._file, self._pool, self._idle = store._file, store._pool, store._idle
        self._busy_timeout_s, self._wal_index = store._busy_timeout_s, store._wal_index
        self._store = store
        self._reserved = None
        self.part = number
        self._sql = _statements_of(number)
        self._is_there = False

    def scan(self, space: Space, first: int, last: int, limit: int) -> list[tuple[int, bytes]]:
        """Return rows of a range, as the store does."""
        check_id(first)
        check_id(last)
        return super().scan(space, first, last, limit) if self._exists() else []

    def revision(self) -> Hashable:
        """Return that of the store."""
        return self._store.revision()

    def close(self) -> None:
        """Do nothing: the store that it is a part of is closed."""

    def get(self, space: Space, id_: int, /) -> bytes | None:
        """Return one row, None where there is none."""
        check_id(id_)
        return super().get(space, id_) if self._exists() else None

    def get_many(self, keys: Sequence[tuple[Space, int]]) -> list[bytes | None]:
        """Return rows in the order of `keys`, all from one snapshot."""
        for _, id_ in keys:
            check_id(id_)
        return super().get_many(keys) if self._exists() else [None] * len(keys)

    def _read_many(self, queries: Sequence[tuple[str, int | None]]) -> list[bytes | None]:
        return super()._read_many(queries) if self._exists() else [None] * len(queries)

    def _exists(self) -> bool:
        """Return whether there are partitions at all; once there are, they stay."""
        if not self._is_there:
            self._is_there = super()._read_many([(_HAS_PARTITIONS, None)]) != [None]
        return self._is_there

    def _begin(self, cursor: apsw.Cursor) -> None:
        super()._begin(cursor)
        if not self._is_there:
            try:
                _make_partition_tables(cursor)
            except FOREIGN as error:
                self._roll_back(error)

    def _mapped(self) -> mmap.mmap | None:
        return self._store._mapped()

    def _stop_looking(self) -> None:
        self._store._stop_looking()


def create_sqlite(
    path: str | os.PathLike[str], *, vfs: str | None = None, busy_timeout_s: float = BUSY_TIMEOUT_S
) -> SqliteStore:
    """Create an empty store, mode 0600 from its first moment, and open it.

    Args:
        path: Where; nothing may be there.
        vfs: The name of an apsw VFS to use instead of SQLite's own, for instruments.
        busy_timeout_s: How long a writer waits for another one.

    Raises:
        AlreadyExists: There is something at this path.
        UnsupportedFileSystem: The folder lies on a network file system.
        InvalidPath: No file can have this name.
        StoreFailed: The file system refuses; nothing is left behind.
    """
    file = DatabaseFile(path, vfs)
    INHERITED.let_go()
    folder = os.path.dirname(file.entry)
    refuse_network(folder)
    create_private(file.entry, b"")
    try:
        file.remember()
        connection = file.connect(busy_timeout_s)
        try:
            file.lay_out(connection)
            sync_directory(folder)
            file.check(connection)
            return SqliteStore(file, connection, busy_timeout_s=busy_timeout_s)
        except BaseException:
            connection.close(True)  # noqa: FBT003 - apsw's signature
            raise
    except BaseException as error:
        file.remove()
        if isinstance(error, FOREIGN):
            raise file.diagnosed(error) from None
        raise


def open_sqlite(
    path: str | os.PathLike[str],
    *,
    read_only: bool = False,
    vfs: str | None = None,
    busy_timeout_s: float = BUSY_TIMEOUT_S,
) -> SqliteStore:
    """Open an existing store.

    For reading only, a file or folder without write permission will do, also one with a log that was left behind by
    a crash; a change by another process is then seen only if that process has the store open already.

    Args:
        path: The file; a symbolic link is followed.
        read_only: Refuse every change.
        vfs: The name of an apsw VFS to use instead of SQLite's own, for instruments.
        busy_timeout_s: How long a writer waits for another one.

    Raises:
        VaultNotFound: There is no such file.
        NotAVault: It is a directory, a device, a pipe, another kind of file, or cut short.
        Tampered: It is a database of ours that is damaged, or has other tables than ours.
        UnsupportedFileSystem: It lies on a network file system and is to be written.
        InvalidPath: No file can have this name.
        StoreBusy: Another process keeps it locked while it recovers.
        StoreFailed: It cannot be opened.
        VaultForked: This process was forked while a store of its parent was in use.
    """
    file = DatabaseFile(path, vfs)
    file.remember()
    INHERITED.let_go()
    if read_only:
        file.choose_reading()
    else:
        refuse_network(file.real)
    try:
        connection = file.connect(busy_timeout_s)
        try:
            file.check(connection)
            return SqliteStore(file, connection, busy_timeout_s=busy_timeout_s)
        except BaseException:
            connection.close(True)  # noqa: FBT003 - apsw's signature
            raise
    except BaseException as error:
        file.discard_copy()
        if isinstance(error, FOREIGN):
            raise file.diagnosed(error) from None
        raise


def _make_partition_tables(cursor: apsw.Cursor) -> None:
    """Make the tables of partitions where they are not there yet."""
    for sql in PARTITION_TABLES.values():
        cursor.execute(sql.replace("TABLE", "TABLE IF NOT EXISTS", 1))


def _apply(cursor: apsw.Cursor, operations: Sequence[Operation], sql: _Statements) -> None:
    execute, put, delete = cursor.execute, sql.put, sql.delete
    for operation in operations:
        # The fields behind the space are what is bound.
        execute((put if operation.__class__ is Put else delete)[operation[0]], operation[1:])


def _apply_staged(cursor: apsw.Cursor, operations: Sequence[Staged], sql: _Statements) -> None:
    """Apply operations of which there may be thousands, those of a kind in one call of SQLite."""
    if set(map(type, operations)) == {Put}:
        # The rows of secrets come in turns: a data key, a value, a history. Of one id the last one still counts.
        operations = sorted(operations, key=_space_of)
    for (kind, space), run in groupby(operations, _kind_of):
        if kind is Put:
            cursor.executemany(sql.put[space], map(_id_and_row, run))
        elif kind is Replace:
            cursor.executemany(sql.replace[space], map(_row_id_and_old, run))
        else:
            cursor.executemany(sql.delete[space], map(_id_alone, run))


# What is called for each of thousands of operations, without a frame of Python's.
_space_of = attrgetter("space")
_kind_of = attrgetter("__class__", "space")
_id_and_row = attrgetter("id", "row")
_row_id_and_old = attrgetter("row", "id", "old")
_id_alone = itemgetter(slice(1, 2))


def _map_index(file: DatabaseFile, pin: apsw.Connection) -> WalIndex | None:
    """Map the WAL-index that `pin` keeps alive, if it proves to be this database's."""
    index = WAL_INDEXES.open(file.wal_index_path)
    if index is None:
        return None
    for _ in range(_MAPPING_ATTEMPTS):
        # Between the two looks another process may commit, so one mismatch says nothing.
        if index.is_plausible(int(pin.execute("PRAGMA page_count").get)):
            return index
    WAL_INDEXES.release(index)
    return None


def _let_go(pool: Pool, index: WalIndex | None, file: DatabaseFile) -> None:
    pool.close()
    if index is not None:
        WAL_INDEXES.release(index)
    file.discard_copy()
