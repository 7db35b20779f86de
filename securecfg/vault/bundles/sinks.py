"""Where records go that are made away from the vault: sinks, found by URI.

`file:PATH` is built in; all others are entry points of the group `securecfg.audit_sinks`, loaded when they are used.
Sealing, chaining and signing is not theirs: they keep bytes.
"""

from __future__ import annotations

import os
import re
import stat
import threading
from base64 import b64decode, b64encode
from binascii import Error
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from securecfg.audit.sessions import Entry, EntryKind
from securecfg.errors import AuditUnavailable, SecurecfgError, StoreFailed, UsageError
from securecfg.files import PRIVATE, read_bounded, sync_directory
from securecfg.octets import Malformed
from securecfg.vault.kinds import is_database

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ENTRY_POINT_GROUP = "securecfg.audit_sinks"
FILE_BYTES_MAX = 1 << 30

_BEGINNING_BYTES = 1 << 18
# In an entry, after its type and the id of its session.
_SEQUENCE = slice(17, 25)
_CUT_OFF = re.compile(rb"[A-Za-z0-9+/]+={0,2}")
_OWN_FILE = "name a file of its own for the records"
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]{0,31}", re.ASCII)


class AuditSink(Protocol):
    """Keeps entries of records, in order, for as long as it takes until somebody merges them.

    Calls come one at a time. What it raises, whatever it is, means that nothing may be taken as kept.
    """

    def append(self, entries: Sequence[bytes]) -> None:
        """Return once all of them are durable."""
        ...

    def close(self) -> None:
        """Let go of what is held. May be called again."""
        ...


def open_sink(sink: str | AuditSink) -> AuditSink:
    """Return the sink that a URI names; a sink is returned as it is.

    Raises:
        UsageError: The URI names none.
        AuditUnavailable: It cannot be used.
    """
    if not isinstance(sink, str):
        return sink
    scheme, colon, rest = sink.partition(":")
    scheme = scheme.lower()
    if not colon or not rest or not _SCHEME.fullmatch(scheme):
        message = "a sink of records is given as a URI with a scheme"
        raise UsageError(message, hint="for instance `file:/var/lib/shop/reads.sink`")
    return FileSink(rest) if scheme == "file" else _load(scheme, rest)


def append(sink: AuditSink, entries: Sequence[bytes]) -> None:
    """Append to a sink, whatever it raises.

    Raises:
        AuditUnavailable: It did not keep the entries.
    """
    try:
        sink.append(entries)
    except SecurecfgError as error:
        message = f"the record cannot be kept: {error.message}"
        raise AuditUnavailable(message, hint=error.hint) from None
    except Exception as error:  # a plug-in may raise anything; its text may hold anything, so it is only chained
        message = "the record cannot be kept: the sink failed"
        raise AuditUnavailable(message, hint="the cause is chained to this error") from error


class FileSink:
    """A file that only grows: one line of base64 for each entry. Several processes may append to one file.

    Args:
        path: Where; it is made where there is none, with mode 0600, in a folder that is there.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open the file.

        Raises:
            AuditUnavailable: It cannot be written, is no regular file, or others may write to it.
        """
        self._path = Path(path).expanduser().absolute()
        self._lock = threading.Lock()
        self._descriptor = -1
        self._is_closed = False
        try:
            self._open()
        except OSError as error:
            raise self._failed(error) from None

    def append(self, entries: Sequence[bytes]) -> None:
        """Write the lines and make them durable.

        Raises:
            AuditUnavailable: The file system refuses; some of them may be there, the last one cut off.
        """
        import fcntl

        lines = b"".join(b64encode(entry) + b"\n" for entry in entries)
        with self._lock:
            if self._is_closed:
                message = f"`{self._path}` is closed as a sink"
                raise AuditUnavailable(message, hint="open the bundle again")
            try:
                if self._descriptor < 0:
                    self._open()
                fcntl.flock(self._descriptor, fcntl.LOCK_EX)
                try:
                    self._append(lines)
                finally:
                    if self._descriptor >= 0:
                        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            except OSError as error:
                raise self._failed(error) from None

    def close(self) -> None:
        """Close the file. May be called again."""
        with self._lock:
            self._is_closed = True
            self._release()

    def _open(self) -> None:
        if is_database(self._path):
            message = f"`{self._path}` is a vault"
            raise AuditUnavailable(message, hint=_OWN_FILE)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        self._descriptor = os.open(self._path, flags, PRIVATE)
        self._written = 0
        try:
            self._verify()
            sync_directory(self._path.parent)
        except BaseException:
            # Nothing may be appended to a file that was not looked at.
            self._release()
            raise

    def _release(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _append(self, lines: bytes) -> None:
        size = os.fstat(self._descriptor).st_size
        self._verify_place(size)
        # What a crash has cut off stays a line of its own.
        if size and os.pread(self._descriptor, 1, size - 1) != b"\n":
            lines = b"\n" + lines
        if size + len(lines) > FILE_BYTES_MAX:
            message = f"`{self._path}` is full: more than {FILE_BYTES_MAX} bytes are not merged"
            raise AuditUnavailable(message, hint="merge it (`securecfg audit merge`), and move it away")
        view = memoryview(lines)
        while view:
            view = view[os.write(self._descriptor, view) :]
        os.fsync(self._descriptor)
        self._written = size + len(lines)

    def _verify_place(self, size: int) -> None:
        """Check that the file is the one at the path, and as long as it was: else nobody would merge what is written.

        The next entries then go into a file that is opened anew. They begin a session, as after any failure.

        Raises:
            AuditUnavailable: It was moved, removed, replaced or cut off.
        """
        held = os.fstat(self._descriptor)
        try:
            there: os.stat_result | None = os.lstat(self._path)
        except FileNotFoundError:
            there = None
        if there is None or (held.st_dev, held.st_ino) != (there.st_dev, there.st_ino) or size < self._written:
            self._release()
            message = f"`{self._path}` was moved, removed or cut off"
            raise AuditUnavailable(message, hint="try again; the records then go into a new file")

    def _verify(self) -> None:
        status = os.fstat(self._descriptor)
        if not stat.S_ISREG(status.st_mode):
            message = f"`{self._path}` is not a regular file"
            raise AuditUnavailable(message, hint=_OWN_FILE)
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            message = f"others may write to `{self._path}`"
            raise AuditUnavailable(message, hint=f"`chmod 600 {self._path}`")
        if status.st_uid not in {os.geteuid(), 0}:
            message = f"`{self._path}` belongs to another user"
            raise AuditUnavailable(message, hint=_OWN_FILE)
        if status.st_size and not _holds_entries(os.pread(self._descriptor, _BEGINNING_BYTES, 0)):
            message = f"`{self._path}` holds something else than records"
            raise AuditUnavailable(message, hint=_OWN_FILE)

    def _failed(self, error: OSError) -> AuditUnavailable:
        message = f"the records cannot be written to `{self._path}`: {error.strerror}"
        return AuditUnavailable(
            message, hint="name a file on a disk that can be written; no value is given out without"
        )


def _holds_entries(beginning: bytes) -> bool:
    """Return whether a file begins with an entry; what crashes have cut off may stand before it, or be all there is."""
    for line in beginning.removesuffix(b"\n").split(b"\n"):
        if _parse_line(line) is not None:
            return True
        if not _is_cut_off(line):
            return False
    return True


def _is_cut_off(line: bytes) -> bool:
    """Return whether a line may be the beginning of an entry that starts a session, as the first in a file does."""
    if not _CUT_OFF.fullmatch(line):
        return False
    digits = line.rstrip(b"=")
    front = b64decode(digits + b"A" * (-len(digits) % 4))[: len(digits) * 6 // 8]
    return digits[:1] == b"A" and front[:1] in {b"", bytes((EntryKind.START,))} and not any(front[_SEQUENCE])


def _parse_line(line: bytes) -> Entry | None:
    try:
        return Entry.parse(b64decode(line, validate=True))
    except (Malformed, Error, ValueError):
        return None


def read_file(path: str | os.PathLike[str]) -> tuple[list[Entry], int]:
    """Return the entries of a file, and how many lines are none: cut off by a crash, or damaged.

    Raises:
        FileMissing, ValueTooLarge, StoreFailed: As for `read_bounded`.
    """
    if is_database(path):
        message = f"`{os.fspath(path)}` is a vault, and no file of records"
        raise StoreFailed(message, hint="name what a reader of a bundle wrote")
    entries, damaged = [], 0
    for line in read_bounded(path, FILE_BYTES_MAX).splitlines():
        entry = _parse_line(line)
        if entry is None:
            damaged += 1
        else:
            entries.append(entry)
    return entries, damaged


def _load(scheme: str, rest: str) -> AuditSink:
    from importlib.metadata import entry_points

    found = entry_points(group=ENTRY_POINT_GROUP, name=scheme)
    if not found:
        message = "no sink of records has the scheme that its URI begins with"
        raise UsageError(message, hint="`file:PATH` is built in; others are installed as packages")
    try:
        make = cast("Callable[[str], AuditSink]", next(iter(found)).load())
        return make(rest)
    except SecurecfgError:
        raise
    except Exception as error:  # a plug-in may raise anything; its text may hold anything, so it is only chained
        message = "the sink of records cannot be opened"
        raise AuditUnavailable(message, hint="the cause is chained to this error") from error
