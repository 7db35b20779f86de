"""What SQLite and the operating system report, in the words of this library.

No statement, no path but the vault's own, and no name of an SQLite code gets into a message.
"""

from __future__ import annotations

import apsw

from securecfg.errors import SecurecfgError, StoreBusy, StoreFailed, Tampered, VaultClosed

FOREIGN = (apsw.Error, OSError, UnicodeDecodeError)
"""What a call of SQLite may raise; the last one for a cell that holds text, where this library stores none."""

_DAMAGED = (apsw.CorruptError, apsw.NotADBError, apsw.TooBigError, apsw.MismatchError, UnicodeDecodeError)

_LOOK_AT_DISK = "look at the disk and the system's log"
_LOOK_AT_PERMISSIONS = "look at the permissions of the file and of its folder"
_WRITABLE_FOLDER = "let this user write the folder: the write-ahead log lies in it while the vault is open"
_LOCAL_DISK = "keep the vault on a local disk, whose locks and shared memory work"
# For SQLite's codes, the extended ones first: what is the matter with the file, and what to do.
_WORDS = {
    apsw.SQLITE_READONLY_DIRECTORY: ("its folder cannot be written", _WRITABLE_FOLDER),
    apsw.SQLITE_READONLY_DBMOVED: ("it was moved, removed or replaced", "close the vault and open it again"),
    apsw.SQLITE_READONLY_RECOVERY: ("what a crash left behind cannot be written into it", _LOOK_AT_PERMISSIONS),
    apsw.SQLITE_READONLY_ROLLBACK: ("what a crash left behind cannot be written into it", _LOOK_AT_PERMISSIONS),
    apsw.SQLITE_READONLY_CANTINIT: ("the file beside it that ends in `-shm` cannot be written", _LOOK_AT_PERMISSIONS),
    apsw.SQLITE_READONLY_CANTLOCK: ("the file beside it that ends in `-shm` cannot be written", _LOOK_AT_PERMISSIONS),
    apsw.SQLITE_READONLY: ("it cannot be written", _LOOK_AT_PERMISSIONS),
    apsw.SQLITE_CANTOPEN_DIRTYWAL: ("the log of a crash beside it cannot be opened", _LOOK_AT_PERMISSIONS),
    apsw.SQLITE_CANTOPEN: ("it, or its log beside it, cannot be opened", _LOOK_AT_PERMISSIONS),
    apsw.SQLITE_PERM: ("the system refuses access", _LOOK_AT_PERMISSIONS),
    apsw.SQLITE_AUTH: ("the system refuses access", _LOOK_AT_PERMISSIONS),
    apsw.SQLITE_IOERR_NOMEM: ("there is not enough memory", "end other programs and try again"),
    apsw.SQLITE_NOMEM: ("there is not enough memory", "end other programs and try again"),
    apsw.SQLITE_IOERR_READ: ("it cannot be read", _LOOK_AT_DISK),
    apsw.SQLITE_IOERR_SHORT_READ: ("a part of it cannot be read", _LOOK_AT_DISK),
    apsw.SQLITE_IOERR_CORRUPTFS: ("the file system is damaged", _LOOK_AT_DISK),
    apsw.SQLITE_IOERR_WRITE: ("the disk refuses to write", "look at the disk, its quota and the system's log"),
    apsw.SQLITE_IOERR_TRUNCATE: ("the disk refuses to shorten its log", _LOOK_AT_DISK),
    apsw.SQLITE_IOERR_FSYNC: ("the disk does not confirm what was written", _LOOK_AT_DISK),
    apsw.SQLITE_IOERR_DIR_FSYNC: ("the disk does not confirm what was written", _LOOK_AT_DISK),
    apsw.SQLITE_IOERR_LOCK: ("the file system refuses to lock it", _LOCAL_DISK),
    apsw.SQLITE_IOERR_RDLOCK: ("the file system refuses to lock it", _LOCAL_DISK),
    apsw.SQLITE_IOERR_SHMOPEN: ("its users cannot share memory beside it", _LOOK_AT_PERMISSIONS),
    apsw.SQLITE_IOERR_SHMSIZE: (
        "its users cannot share memory beside it",
        "look at the disk, its quota and free space",
    ),
    apsw.SQLITE_IOERR_SHMLOCK: ("its users cannot share memory beside it", _LOCAL_DISK),
    apsw.SQLITE_IOERR_SHMMAP: ("its users cannot share memory beside it", _LOCAL_DISK),
    apsw.SQLITE_IOERR: ("the disk reports an error", _LOOK_AT_DISK),
    apsw.SQLITE_NOLFS: ("the file system cannot hold so large a file", "move the vault to another one"),
}
_DEFECT = ("the database reports a defect", _LOOK_AT_DISK)


def translated(error: BaseException, path: str) -> SecurecfgError:
    """Return the error to raise in place of a foreign one, where nothing was being committed."""
    if isinstance(error, (apsw.BusyError, apsw.LockedError, apsw.ProtocolError)):
        return StoreBusy(f"`{path}` is locked by another process", hint="try again")
    if isinstance(error, _DAMAGED):
        hint = "restore the vault from a backup; keep the damaged file for whoever looks into it"
        return Tampered(f"`{path}` is damaged inside", hint=hint)
    if isinstance(error, apsw.FullError):
        return StoreFailed(f"the disk that holds `{path}` is full", hint="make room and try again")
    if isinstance(error, apsw.ConnectionClosedError):
        return VaultClosed("the store is closed")
    what, hint = words_of(error)
    return StoreFailed(f"cannot use `{path}`: {what}", hint=hint)


def words_of(error: BaseException) -> tuple[str, str]:
    """Return what an error is about, as the end of a sentence, and what to do."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror, _LOOK_AT_DISK
    for code in (getattr(error, "extendedresult", -1), getattr(error, "result", -1)):
        if code in _WORDS:
            return _WORDS[code]
    return _DEFECT
