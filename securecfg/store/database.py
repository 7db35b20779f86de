"""The file of a SQLite store: what it may be, how it is opened, and whether it is one of ours."""

from __future__ import annotations

import os
import stat
import struct
from contextlib import suppress
from typing import TYPE_CHECKING

import apsw

from securecfg.errors import (
    InvalidPath,
    NotAVault,
    SecurecfgError,
    StoreFailed,
    Tampered,
    UnsupportedFileSystem,
    VaultNotFound,
)
from securecfg.store.connections import open_connection
from securecfg.store.failures import FOREIGN, translated
from securecfg.store.filesystems import file_system_of, is_network
from securecfg.store.interface import Space

if TYPE_CHECKING:
    import tempfile
    from collections.abc import Iterator

APPLICATION_ID = 0x53434647

_COLUMNS = "(i INTEGER PRIMARY KEY, b BLOB NOT NULL)"
_TABLES = ("h", *(f"s{space.value}" for space in Space))
# Made with the first partition, so that a store without any is as it always was.
PARTITION_TABLES = {
    "g": f"CREATE TABLE g{_COLUMNS}",
    "p": "CREATE TABLE p(n INTEGER, s INTEGER, i INTEGER, b BLOB NOT NULL, PRIMARY KEY(n, s, i)) WITHOUT ROWID",
}
_PLAIN = {name: f"CREATE TABLE {name}{_COLUMNS}" for name in _TABLES}
_SCHEMAS = [
    sorted(repr(("table", name, name, sql)) for name, sql in tables.items())
    for tables in (_PLAIN, _PLAIN | PARTITION_TABLES)
]

_WRITING = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_NOFOLLOW
_READING = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_NOFOLLOW
_COPY_CHUNK_BYTES = 1024 * 1024
_HEADER = struct.Struct(">16xH10xI36xI")  # page size, number of pages, application id


def read_beginning(path: str | os.PathLike[str], length: int) -> bytes:
    """Return the first bytes of a regular file, which may be a store that this process has open.

    They are read through SQLite, as everything that may be a store must be: whoever closes another descriptor of it
    drops the locks of the process. Of what is no regular file, or cannot be read, nothing is returned.
    """
    try:
        real = os.path.realpath(path)
        if not stat.S_ISREG(os.stat(real).st_mode):
            return b""
        file = apsw.VFSFile("", real, [apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_MAIN_DB, 0])
        try:
            return file.xRead(min(length, file.xFileSize()), 0)
        finally:
            file.xClose()
    except (*FOREIGN, ValueError):
        return b""


class DatabaseFile:
    """One database file, by name and by inode.

    Attributes:
        shown: The path as it was given, for messages.
        real: The path without symbolic links, which SQLite opens.
        is_read_only: Whether connections refuse to change anything.
    """

    def __init__(self, path: str | os.PathLike[str], vfs: str | None) -> None:
        """Name the file.

        Raises:
            InvalidPath: No file can have this name.
        """
        self.shown = os.fspath(path)
        if not self.shown or "\0" in self.shown:
            message = "a vault's path is empty or contains NUL"
            raise InvalidPath(message)
        self.real = os.path.realpath(self.shown)
        self.is_read_only = False
        self._vfs = vfs
        self._name = self.real
        self._flags = _WRITING
        self._inode: tuple[int, int] | None = None
        self._copy: tempfile.TemporaryDirectory[str] | None = None

    @property
    def entry(self) -> str:
        """Where a new file is made: the folder without symbolic links, and the name as it was given."""
        return os.path.join(os.path.realpath(os.path.dirname(self.shown)), os.path.basename(self.shown))

    @property
    def wal_index_path(self) -> str:
        """The file that SQLite's processes share as memory; there is none beside a file that cannot change."""
        return self.real + "-shm"

    def remember(self) -> None:
        """Look at the file and keep its inode, so that later connections reach the same one.

        Raises:
            VaultNotFound: There is no such file.
            NotAVault: It is not a regular file.
            StoreFailed: It cannot be looked at.
        """
        try:
            status = os.stat(self.real)
        except (FileNotFoundError, NotADirectoryError):
            message = f"there is no vault at `{self.shown}`"
            raise VaultNotFound(message, hint="check the path, or create a vault there") from None
        except OSError as error:
            raise translated(error, self.shown) from None
        if not stat.S_ISREG(status.st_mode):
            message = f"`{self.shown}` is not a regular file"
            raise NotAVault(message, hint="name the vault's own file")
        self._inode = (status.st_dev, status.st_ino)

    def check_in_place(self) -> None:
        """Check that the path still leads to the file that was opened.

        Raises:
            StoreFailed: Another file took its place, or none is there.
        """
        try:
            status = os.stat(self.real)
            is_in_place = (status.st_dev, status.st_ino) == self._inode
        except OSError:
            is_in_place = False
        if not is_in_place:
            message = f"`{self.shown}` was moved, removed or replaced by another file"
            raise StoreFailed(message, hint="close the vault and open it again")

    def connect(self, busy_timeout_s: float) -> apsw.Connection:
        """Open a connection, without looking inside.

        Raises:
            apsw.Error: SQLite refuses.
            StoreFailed: Another file took this one's place.
        """
        connection = open_connection(self._name, self._flags, self._vfs, busy_timeout_s)
        try:
            self.check_in_place()
            if self.is_read_only:
                connection.execute("PRAGMA query_only = ON").close()
        except BaseException:
            # Nobody gets it, and until it was collected it would hold the file.
            connection.close(True)  # noqa: FBT003 - apsw's signature
            raise
        return connection

    def lay_out(self, connection: apsw.Connection) -> None:
        """Turn an empty database into an empty store whose whole content is in the main file.

        Raises:
            apsw.Error: SQLite refuses.
        """
        connection.execute("PRAGMA journal_mode = WAL").close()
        tables = "".join(f"CREATE TABLE {name}{_COLUMNS};" for name in _TABLES)
        connection.execute(f"BEGIN IMMEDIATE; PRAGMA application_id = {APPLICATION_ID}; {tables} COMMIT").close()
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)

    def check(self, connection: apsw.Connection) -> None:
        """Check that a database is one of ours and holds exactly our tables.

        Raises:
            NotAVault: It is something else, or cut short.
            Tampered: It is damaged, or has other tables than ours.
            StoreBusy: Another process is recovering it.
            StoreFailed: It cannot be read, or cannot be written and should be.
        """
        try:
            if not self.is_read_only and connection.readonly("main"):
                message = f"`{self.shown}` cannot be written"
                raise StoreFailed(message, hint="look at its permissions, or open it for reading only")
            if connection.execute("PRAGMA application_id").get != APPLICATION_ID:
                raise self._not_a_vault()
            found = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema").fetchall()
            page_size = int(connection.execute("PRAGMA page_size").get)
            if os.stat(self.real).st_size % page_size and not self._log_size():
                # SQLite reads what is missing of the last page as zeros.
                raise self._not_a_vault(how="cut short")
            journal = "wal" if self.is_read_only else connection.execute("PRAGMA journal_mode = WAL").get
        except FOREIGN as error:
            raise self.diagnosed(error) from None
        if sorted(map(repr, found)) not in _SCHEMAS:
            message = f"`{self.shown}` does not hold exactly the tables of a vault"
            raise Tampered(message, hint="restore the vault from a backup")
        if journal != "wal":
            message = f"`{self.shown}` lies where SQLite cannot share memory between processes"
            raise UnsupportedFileSystem(message, hint="keep the vault on a local disk")

    def diagnosed(self, error: BaseException) -> SecurecfgError:
        """Return the error to raise in place of a foreign one that occurred while opening."""
        if isinstance(error, apsw.NotADBError):
            return self._not_a_vault()
        if isinstance(error, apsw.CorruptError) and self._is_cut_short():
            return self._not_a_vault(how="cut short")
        return translated(error, self.shown)

    def choose_reading(self) -> None:
        """Choose how to read without changing anything, by what the file system permits.

        Raises:
            StoreFailed: A log was left behind, and it cannot be copied.
        """
        self.is_read_only = True
        may_share = _is_writable(self.real) and _is_writable(os.path.dirname(self.real))
        if may_share and not is_network(file_system_of(self.real)):
            # An ordinary opener that refuses to write: it takes part in locking and leaves nothing behind.
            return
        self._flags = _READING
        if os.path.exists(self.wal_index_path) and not is_network(file_system_of(self.real)):
            return
        if self._log_size():
            self._copy_privately()
        else:
            from urllib.parse import quote

            self._flags |= apsw.SQLITE_OPEN_URI
            self._name = f"file:{quote(self.real)}?immutable=1"

    def sync_log(self) -> None:
        """Make the length of the write-ahead log durable, which SQLite leaves to the next commit.

        Raises:
            apsw.Error: The file system refuses.
        """
        # Locks lie on the other two files, so a descriptor of the log may come and go.
        flags = [apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_WAL, 0]
        log = apsw.VFSFile(self._vfs or "", self.real + "-wal", flags)
        try:
            log.xSync(apsw.SQLITE_SYNC_NORMAL)
        finally:
            log.xClose()

    def remove(self) -> None:
        """Remove the file and what SQLite puts beside it, after a creation that failed."""
        for suffix in ("", "-wal", "-shm", "-journal"):
            with suppress(OSError):
                os.unlink(self.real + suffix)

    def discard_copy(self) -> None:
        """Remove the private copy, if there is one."""
        if self._copy is not None:
            self._copy.cleanup()

    def _copy_privately(self) -> None:
        import tempfile  # a third of what this module takes to import, for what is rare

        # Recovery needs to write, and here it may not. What is copied is ciphertext.
        self._copy = tempfile.TemporaryDirectory(prefix="securecfg-")
        self._name = os.path.join(os.path.realpath(self._copy.name), "copy")
        self._flags = _WRITING
        try:
            for suffix in ("", "-wal"):
                with open(self._name + suffix, "xb") as target:
                    target.writelines(self._chunks(suffix))
        except FOREIGN as error:
            self.discard_copy()
            raise translated(error, self.shown) from None

    def _chunks(self, suffix: str) -> Iterator[bytes]:
        # Through SQLite, which keeps the descriptor open as long as the process has locks on the file.
        kind = apsw.SQLITE_OPEN_WAL if suffix else apsw.SQLITE_OPEN_MAIN_DB
        file = apsw.VFSFile(self._vfs or "", self.real + suffix, [apsw.SQLITE_OPEN_READONLY | kind, 0])
        try:
            size = file.xFileSize()
            for offset in range(0, size, _COPY_CHUNK_BYTES):
                yield file.xRead(min(_COPY_CHUNK_BYTES, size - offset), offset)
        finally:
            file.xClose()

    def _log_size(self) -> int:
        try:
            return os.stat(self.real + "-wal").st_size
        except OSError:
            return 0

    def _is_cut_short(self) -> bool:
        try:
            beginning = next(self._chunks(""), b"")
            size = os.stat(self.real).st_size
        except FOREIGN:
            return False
        if len(beginning) < _HEADER.size:
            return True
        page_size, pages, application = _HEADER.unpack_from(beginning)
        return bool(application != APPLICATION_ID or size < page_size * pages)

    def _not_a_vault(self, *, how: str = "not a vault") -> NotAVault:
        return NotAVault(f"`{self.shown}` is {how}", hint="name a vault's own file, or restore it from a backup")


def _is_writable(path: str) -> bool:
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)
