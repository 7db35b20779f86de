"""The anchor: the last checkpoint that this machine has seen, kept outside the vault (format 10)."""

from __future__ import annotations

import hashlib
import os
import struct
import weakref
from functools import partial
from typing import TYPE_CHECKING

from securecfg.errors import StoreFailed
from securecfg.files import PRIVATE
from securecfg.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

SLOT_SIZE = 1_024
NOTE_MAX = 800
_MAGIC = b"SCFA\x00\x01\x00\x00"
_FRONT = struct.Struct(">8sQQ32s32sI32sI")
_NO_CHARTER = bytes(32)


class Mark(NamedTuple):
    """A checkpoint as the anchor keeps it.

    Attributes:
        size: The number of records.
        root: The root of the tree over them.
        epoch_key: What signed it, 32 zero bytes where that is not known.
        note: The checkpoint as it was signed; empty where it is not known.
        serial: In a sealed scope the serial of the charter that was in force, else 0.
        charter: The digest of that charter.
    """

    size: int
    root: bytes
    epoch_key: bytes
    note: bytes
    serial: int = 0
    charter: bytes = _NO_CHARTER


class Anchor(NamedTuple):
    """A mark and how many were recorded up to it."""

    counter: int
    mark: Mark

    def to_bytes(self) -> bytes:
        """Return the bytes of one slot."""
        size, root, epoch_key, note, serial, charter = self.mark
        front = _FRONT.pack(_MAGIC, self.counter, size, root, epoch_key, serial, charter, len(note))
        body = (front + note).ljust(SLOT_SIZE - 32, b"\x00")
        return body + hashlib.sha256(body).digest()


def parse_slot(raw: bytes) -> Anchor | None:
    """Return the anchor in a slot, or None where the slot was never or only partly written."""
    body = raw[: SLOT_SIZE - 32]
    if len(raw) != SLOT_SIZE or hashlib.sha256(body).digest() != raw[SLOT_SIZE - 32 :]:
        return None
    magic, counter, size, root, epoch_key, serial, charter, length = _FRONT.unpack_from(body)
    if magic != _MAGIC or length > NOTE_MAX:
        return None
    note = body[_FRONT.size : _FRONT.size + length]
    return Anchor(counter, Mark(size, root, epoch_key, note, serial, charter))


def state_directory() -> str:
    """Return the folder for state of this program, `$XDG_STATE_HOME/securecfg`.

    Raises:
        StoreFailed: Nobody says where the user's home is.
    """
    home = os.environ.get("XDG_STATE_HOME", "")
    base = home if home.startswith("/") else os.path.expanduser("~/.local/state")
    if not os.path.isabs(base):
        message = "the user has no home directory, where the anchor of a vault is kept"
        raise StoreFailed(message, hint="set HOME or XDG_STATE_HOME to an absolute path")
    return os.path.join(base, "securecfg")


def lineage(vault_path: str | os.PathLike[str]) -> str:
    """Return what tells a vault at this place from a copy of it elsewhere: 16 hexadecimal digits."""
    return lineage_of_name(os.path.realpath(vault_path))


def lineage_of_name(name: str) -> str:
    """Return the lineage of a vault whose real path this is, or was."""
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:16]


def newest_known(vault_id: bytes) -> Mark | None:
    """Return the newest checkpoint that this machine has recorded of a vault, wherever its file lay.

    Raises:
        OSError: An anchor cannot be read.
    """
    from pathlib import Path  # opening a vault does without it

    marks = []
    for path in Path(state_directory(), "anchors").glob(f"{vault_id.hex()}-*"):
        anchor = _newest(path.read_bytes()[: 2 * SLOT_SIZE])
        if anchor is not None:
            marks.append(anchor.mark)
    return max(marks, key=lambda mark: mark.size, default=None)


class AnchorFile:
    """Two slots, overwritten in turn under a lock. The larger counter wins.

    Args:
        vault_id: The vault's 16 bytes.
        vault_path: Where the vault lies.
    """

    def __init__(self, vault_id: bytes, vault_path: str | os.PathLike[str]) -> None:
        """Know the place; touch nothing."""
        self.path = os.path.join(state_directory(), "anchors", f"{vault_id.hex()}-{lineage(vault_path)}")
        self._last: Anchor | None = None
        self._raw = b""
        self._file: _OpenFile | None = None

    def read(self) -> Anchor | None:
        """Return the newest anchor, or None where none was ever recorded.

        Raises:
            OSError: The file is there and cannot be read.
        """
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            raw = os.pread(descriptor, 2 * SLOT_SIZE, 0)
        finally:
            os.close(descriptor)
        self._last = _newest(raw)
        return self._last

    def advance(self, mark: Mark, verify_prefix: Callable[[Mark], None]) -> None:
        """Record a mark that continues the one recorded before, unless another process recorded a larger one.

        Args:
            mark: What to record.
            verify_prefix: Raises unless the mark it is given is a prefix of the vault as the caller knows it. Called
                where another process recorded something since this object last read or wrote.

        Raises:
            RollbackSuspected: By `verify_prefix`.
            OSError: The file system refuses.
        """
        file = self._locked()
        try:
            raw = os.pread(file.descriptor, 2 * SLOT_SIZE, 0)
            newest = self._last if raw == self._raw else _newest(raw)
            if newest is not None and newest != self._last:
                verify_prefix(newest.mark)
            if newest is not None and newest.mark.size >= mark.size:
                self._last = newest
                return
            self._write(file.descriptor, raw, newest, mark)
        finally:
            file.unlock()

    def replace(self, mark: Mark) -> None:
        """Record a mark whatever was recorded before. Only `adopt` may do this.

        Raises:
            OSError: The file system refuses.
        """
        file = self._locked()
        try:
            raw = os.pread(file.descriptor, 2 * SLOT_SIZE, 0)
            self._write(file.descriptor, raw, _newest(raw), mark)
            os.fsync(file.descriptor)
        finally:
            file.unlock()

    def sync(self) -> None:
        """Make what was written durable, where that matters more than the time that it takes.

        Raises:
            OSError: The file system refuses.
        """
        if self._file is not None:
            os.fsync(self._file.descriptor)

    def close(self) -> None:
        """Let go of the file; it is opened again where it is needed."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write(self, descriptor: int, raw: bytes, newest: Anchor | None, mark: Mark) -> None:
        counter = 1 if newest is None else newest.counter + 1
        anchor = Anchor(counter, mark)
        slot, start = anchor.to_bytes(), SLOT_SIZE * (counter % 2)
        os.pwrite(descriptor, slot, start)
        self._last = anchor
        self._raw = raw[:start].ljust(start, b"\x00") + slot + raw[start + SLOT_SIZE :]

    def _locked(self) -> _OpenFile:
        """Return the file that is at the path now, opened by this process and locked."""
        file = self._file
        if file is None or not file.is_ours_at(self.path):
            self.close()
            file = self._file = _OpenFile(self._open())
        file.lock()
        return file

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.open(self.path, flags, PRIVATE)
        except FileNotFoundError:
            from pathlib import Path

            Path(self.path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(self.path, flags, PRIVATE)


class _OpenFile:
    """A descriptor that is kept, and closed with its owner."""

    __slots__ = ("__weakref__", "_inode", "_pid", "close", "descriptor", "lock", "unlock")

    def __init__(self, descriptor: int) -> None:
        import fcntl  # not every platform has it

        self.descriptor = descriptor
        self.lock = partial(fcntl.flock, descriptor, fcntl.LOCK_EX)
        self.unlock = partial(fcntl.flock, descriptor, fcntl.LOCK_UN)
        self._pid = os.getpid()
        status = os.fstat(descriptor)
        self._inode = (status.st_dev, status.st_ino)
        self.close = weakref.finalize(self, os.close, descriptor)

    def is_ours_at(self, name: str) -> bool:
        """Return whether the path still leads here, in the process that opened it: a forked child shares its locks."""
        try:
            status = os.lstat(name)
        except FileNotFoundError:
            return False
        return (status.st_dev, status.st_ino) == self._inode and self._pid == os.getpid()


def _newest(raw: bytes) -> Anchor | None:
    slots = [parse_slot(raw[start : start + SLOT_SIZE]) for start in (0, SLOT_SIZE)]
    return max((slot for slot in slots if slot is not None), key=lambda slot: slot.counter, default=None)
