"""The connections of one SQLite store: a pool for readers and the writer, whose first one pins the WAL-index."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import apsw

from securecfg.errors import SecurecfgError, StoreBusy, VaultClosed, VaultForked
from securecfg.store.failures import FOREIGN, translated
from securecfg.store.interface import ROW_LIMIT_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

_REST_LIMIT_S = 2.0

_SWITCHES = (
    (apsw.SQLITE_DBCONFIG_DEFENSIVE, 1),
    (apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0),
    (apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0),
    (apsw.SQLITE_DBCONFIG_ENABLE_VIEW, 0),
    (apsw.SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0),
    (apsw.SQLITE_DBCONFIG_ENABLE_ATTACH_CREATE, 0),
    (apsw.SQLITE_DBCONFIG_ENABLE_ATTACH_WRITE, 0),
    (apsw.SQLITE_DBCONFIG_DQS_DDL, 0),
    (apsw.SQLITE_DBCONFIG_DQS_DML, 0),
    # Only `Pool.close` may remove the write-ahead log. A forked child that drops what it inherited must not.
    (apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1),
)
# `fullfsync` is what makes a sync mean one on macOS. The last one lets a log that one large import blew up shrink.
_SETTINGS = """
    PRAGMA cell_size_check = ON;
    PRAGMA mmap_size = 0;
    PRAGMA temp_store = MEMORY;
    PRAGMA secure_delete = ON;
    PRAGMA synchronous = FULL;
    PRAGMA fullfsync = ON;
    PRAGMA checkpoint_fullfsync = ON;
    PRAGMA journal_size_limit = 16777216;
"""


def open_connection(name: str, flags: int, vfs: str | None, busy_timeout_s: float) -> apsw.Connection:
    """Open a connection with every safety on.

    Raises:
        apsw.Error: SQLite refuses.
    """
    connection = apsw.Connection(name, flags, vfs)
    try:
        for switch, value in _SWITCHES:
            connection.config(switch, value)
        connection.limit(apsw.SQLITE_LIMIT_LENGTH, ROW_LIMIT_BYTES + 1024)
        connection.limit(apsw.SQLITE_LIMIT_ATTACHED, 0)
        connection.set_busy_timeout(round(busy_timeout_s * 1000))
        connection.execute(_SETTINGS).fetchall()
    except BaseException:
        # Nobody gets it, and until it was collected it would hold the file.
        connection.close(True)  # noqa: FBT003 - apsw's signature
        raise
    return connection


class Inherited:
    """Connections that a forked child got from its parent; one object, since forks happen to a process."""

    def __init__(self) -> None:
        """Start with none."""
        self._connections: list[apsw.Connection] = []
        self._is_stuck = False

    def add(self, connections: list[apsw.Connection], *, at_rest: bool) -> None:
        """Keep connections, untouched, until this process opens a store of its own."""
        self._connections += connections
        self._is_stuck |= not at_rest

    def let_go(self) -> None:
        """Close what was inherited, so that SQLite does not count the parent's locks as this process's own.

        Nothing on disk is touched: the locks stay the parent's, and these connections never checkpoint.

        Raises:
            VaultForked: A thread of the parent was inside SQLite for too long when the process was forked.
        """
        if self._is_stuck:
            message = "the process was forked while one of its stores was in use"
            raise VaultForked(message, hint="start the child with the `spawn` method, or fork before opening a vault")
        while self._connections:
            with suppress(*FOREIGN):
                self._connections.pop().close(True)  # noqa: FBT003 - apsw's signature


INHERITED = Inherited()


class Pool:
    """Connections to one database, lent to one thread at a time.

    A writer takes the connection that was used last, like any reader: it has the pages that a change was drafted from,
    and keeps those that it writes for whoever reads next. Another one would read them again after each commit.

    Attributes:
        idle: Cursors that nobody uses, the most recently used last; where a borrowed one is given back. Taking and
            giving back are single list operations, so they need no lock.
        lending: Where cursors are taken from: `idle`, or an empty list while the pool is at rest or closed.
        pin: The connection that keeps the WAL-index alive: the first that was opened, which is lent like the others.
    """

    def __init__(self, path: str, opened: apsw.Connection, connect: Callable[[], apsw.Connection]) -> None:
        """Keep `opened` as the pin; `connect` opens more of the same."""
        self.path = path
        self.pin = opened
        self.idle: list[apsw.Cursor] = [opened.cursor()]
        self.lending = self.idle
        self._connect = connect
        self._cursors: set[apsw.Cursor] = set(self.idle)
        self._watcher: apsw.Cursor | None = None
        self._watching = threading.Lock()
        self._growing = threading.Lock()
        self._writing = threading.Lock()
        self._rest = threading.Lock()
        self._writer: apsw.Cursor | None = None
        self._refusal: type[VaultClosed | VaultForked] | None = None
        self._held: list[threading.Lock] = []
        self._resting: list[apsw.Cursor] = []
        self._is_at_rest = False

    def check_open(self) -> None:
        """Refuse what is closed or was inherited.

        Raises:
            VaultClosed: The pool is closed.
            VaultForked: This process is a child of the one that opened it.
        """
        if self._refusal is VaultForked:
            message = "the store was opened before this process was forked"
            raise VaultForked(message, hint="open it again in the child")
        if self._refusal is not None:
            message = "the store is closed"
            raise VaultClosed(message)

    def take(self) -> apsw.Cursor:
        """Return a cursor for reading; give it back with `idle.append`, or `retire` it if anything went wrong."""
        try:
            return self.lending.pop()
        except IndexError:
            return self._take_new()

    def _take_new(self) -> apsw.Cursor:
        with self._growing:
            self.check_open()
            with suppress(IndexError):
                return self.idle.pop()
            cursor = self._open()
            self._cursors.add(cursor)
            return cursor

    def retire(self, cursor: apsw.Cursor) -> None:
        """Close a connection in doubt; its transaction, if any, is rolled back. Another one follows the pin."""
        self._cursors.discard(cursor)
        if self._refusal is not None:
            with suppress(*FOREIGN):
                _close(cursor.connection)  # which is closed already, and then names none
            return
        if cursor.connection is not self.pin or self._replace_pin():
            _close(cursor.connection)
            return
        # Without it the WAL-index would go. It is lent no more.
        with suppress(*FOREIGN):
            cursor.close(True)  # noqa: FBT003 - apsw's signature
            if self.pin.in_transaction:
                self.pin.execute("ROLLBACK")

    def data_version(self) -> int:
        """Return a number that changes with every commit of others.

        It is that of one connection, which nobody reads from: in the middle of a read it would not be the newest.

        Raises:
            VaultClosed, VaultForked: As for `check_open`.
            apsw.Error: SQLite refuses.
        """
        with self._watching:
            self.check_open()
            if self._watcher is None:
                self._watcher = self._open()
            return int(self._watcher.execute("PRAGMA data_version").get)

    def writing(self, timeout_s: float) -> Writing:
        """Lend the writer's cursor, one thread at a time, for a `with` block."""
        return Writing(self, timeout_s)

    def take_writer(self, timeout_s: float) -> apsw.Cursor:
        """Return the writer's cursor to the only thread that has it; `return_writer` must follow.

        Raises:
            StoreBusy: Another thread of this process has been writing for too long.
        """
        self.check_open()
        if not self._writing.acquire(timeout=timeout_s):
            message = f"`{self.path}` is locked by another thread of this process"
            raise StoreBusy(message, hint="try again")
        try:
            self.check_open()
            self._writer = cursor = self._take_for_writing()
        except BaseException:
            # Who gets no cursor returns none, and everybody after him would wait in vain.
            self._writing.release()
            raise
        return cursor

    def return_writer(self) -> None:
        """Take the writer's cursor back; one that is still inside a transaction is in doubt, whatever the reason."""
        try:
            cursor = self._writer
            if cursor is not None and cursor.connection.in_transaction:
                self.poison()
            elif cursor is not None:
                self._writer = None
                self.idle.append(cursor)
        finally:
            self._writing.release()

    def poison(self) -> None:
        """Close the writer's connection; the next writer gets another one. For the thread that holds the writer."""
        if self._writer is not None:
            cursor, self._writer = self._writer, None
            self.retire(cursor)

    def close(self) -> None:
        """Close every connection; the last one to the database, in any process, folds the log into it."""
        self.come_to_rest()
        try:
            if self._refusal is not None:
                return
            self._refusal = VaultClosed
            self.poison()
            for connection in {cursor.connection for cursor in (*self._resting, *self._watchers())} - {self.pin}:
                _close(connection)
            self._resting.clear()
            self._cursors.clear()
            with suppress(*FOREIGN):
                self.pin.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0)
            _close(self.pin)
        finally:
            self.go_on()

    def come_to_rest(self) -> None:
        """Stop lending and wait for what is lent, for a bounded time; `go_on` must follow."""
        self._rest.acquire()
        self.lending = []
        deadline = time.monotonic() + _REST_LIMIT_S
        for lock in (self._growing, self._writing, self._watching):
            if lock.acquire(timeout=max(0.0, deadline - time.monotonic())):
                self._held.append(lock)
        while len(self._resting) < len(self._cursors):
            try:
                self._resting.append(self.idle.pop())
            except IndexError:
                if time.monotonic() > deadline:
                    break
                time.sleep(0.0002)
        self._is_at_rest = len(self._held) == 3 and len(self._resting) == len(self._cursors)  # noqa: PLR2004 - all locks

    def go_on(self) -> None:
        """Lend again."""
        self.idle.extend(self._resting)
        self._resting.clear()
        if self._refusal is None:
            self.lending = self.idle
        while self._held:
            self._held.pop().release()
        self._rest.release()

    def disinherit(self) -> None:
        """In a forked child: refuse from now on, and touch nothing."""
        cursors = {*self._cursors, *self._resting, *self._watchers()}
        INHERITED.add([*{self.pin, *(cursor.connection for cursor in cursors)}], at_rest=self._is_at_rest)
        self._refusal = VaultForked
        self.idle.clear()
        self._growing, self._writing, self._rest, self._watching = (threading.Lock() for _ in range(4))

    def _watchers(self) -> tuple[apsw.Cursor, ...]:
        return () if self._watcher is None else (self._watcher,)

    def _take_for_writing(self) -> apsw.Cursor:
        # Whoever brings the pool to rest holds `_growing` while it waits for `_writing`, which is held here.
        with suppress(IndexError):
            return self.idle.pop()
        cursor = self._open()
        self._cursors.add(cursor)
        return cursor

    def _replace_pin(self) -> bool:
        with suppress(*FOREIGN, SecurecfgError):  # of a file that was replaced, for one
            pin = self._connect()
            pin.execute("PRAGMA page_count").fetchall()  # an open connection holds the WAL-index from its first read on
            self.pin = pin
            return True
        return False

    def _open(self) -> apsw.Cursor:
        try:
            return self._connect().cursor()
        except FOREIGN as error:
            raise translated(error, self.path) from None


class Writing:
    """The writer's cursor, lent for a `with` block. A class: a generator would cost as much as a statement."""

    __slots__ = ("_pool", "_timeout_s")

    def __init__(self, pool: Pool, timeout_s: float) -> None:
        """Lend nothing yet."""
        self._pool = pool
        self._timeout_s = timeout_s

    def __enter__(self) -> apsw.Cursor:
        """Return the cursor."""
        return self._pool.take_writer(self._timeout_s)

    def __exit__(self, *_: object) -> None:
        """Take it back."""
        self._pool.return_writer()


def _close(connection: apsw.Connection) -> None:
    with suppress(*FOREIGN):
        connection.close(True)  # noqa: FBT003 - apsw's signature
