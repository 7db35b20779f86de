"""The mapped header of SQLite's WAL-index: whether anybody committed, answered without a system call.

The first 96 bytes of the `-shm` file are two copies of what SQLite itself compares to see that a snapshot is stale
(https://www.sqlite.org/walformat.html#the_wal_index_header). They are valid only while a connection is open.

POSIX drops all locks of a process on a file when the process closes *any* descriptor of it, SQLite's included. So
each inode is opened once in a process, and its descriptor is closed only after the inode lost its name.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
import threading

HEADER_BYTES = 96
_COPY = struct.Struct("=IIIBBHII24x")  # version, -, change, initialized, big-endian, page size, frames, pages
_VERSION = 3_007_000
_WRITE_LOCK_OFFSET = 120
_FLOCK = struct.Struct("hhqqi4x")  # struct flock of Linux with 64-bit offsets


def count_commits(before: bytes, after: bytes) -> int:
    """Return how many commits lie between two headers, by the counter of changes in them."""
    return (_COPY.unpack_from(after)[2] - _COPY.unpack_from(before)[2]) & 0xFFFF_FFFF  # type: ignore[no-any-return]  # integers


class WalIndex:
    """One mapped header.

    Attributes:
        key: The inode of the file, on which device.
        descriptor: Of the file.
        header: The first 96 bytes, live.
        users: How many stores look at it.
    """

    __slots__ = ("descriptor", "header", "key", "users")

    def __init__(self, key: tuple[int, int], descriptor: int, header: mmap.mmap) -> None:
        """Nobody looks at it yet."""
        self.key = key
        self.descriptor = descriptor
        self.header = header
        self.users = 0

    def is_plausible(self, pages: int) -> bool:
        """Return whether this looks like the index of a database that has this number of pages."""
        first, second = self.header[:48], self.header[48:96]
        version, _, _, initialized, _, _, frames, indexed_pages = _COPY.unpack(first)
        return first == second and version == _VERSION and initialized == 1 and (frames == 0 or indexed_pages == pages)

    def writer(self) -> int | None:
        """Return the process that holds the write lock, None where no other process does or that is not known."""
        if sys.platform != "linux":
            return None
        import fcntl

        try:
            ask = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, _WRITE_LOCK_OFFSET, 1, 0)
            kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(self.descriptor, fcntl.F_GETLK, ask))
        except OSError:
            return None
        return int(pid) if kind != fcntl.F_UNLCK and pid > 0 else None


class WalIndexes:
    """Every WAL-index mapped by this process; one object, since locks belong to processes."""

    def __init__(self) -> None:
        """Map nothing yet."""
        self._mapped: dict[tuple[int, int], WalIndex] = {}
        self._lock = threading.RLock()  # a store that is garbage collected here releases its own index

    def open(self, path: str) -> WalIndex | None:
        """Map the header of a `-shm` file that a connection of this process keeps alive; None where that fails."""
        if sys.platform == "win32":
            return None
        with self._lock:
            self._sweep()
            try:
                status = os.stat(path)
                index = self._mapped.get((status.st_dev, status.st_ino)) or self._map(path)
            except (OSError, ValueError):
                return None
            index.users += 1
            return index

    def release(self, index: WalIndex) -> None:
        """Forget one use; call it after the connection that kept the file alive is closed."""
        with self._lock:
            index.users -= 1
            self._sweep()

    def after_fork_in_child(self) -> None:
        """Replace a lock that another thread of the parent may have held."""
        self._lock = threading.RLock()

    def _map(self, path: str) -> WalIndex:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        status = os.fstat(descriptor)
        key = (status.st_dev, status.st_ino)
        # From here on nothing closes the descriptor, not even a failure: its inode may be locked by SQLite.
        header = mmap.mmap(descriptor, HEADER_BYTES, mmap.MAP_SHARED, mmap.PROT_READ)
        index = WalIndex(key, descriptor, header)
        self._mapped[key] = index
        return index

    def _sweep(self) -> None:
        for index in [index for index in list(self._mapped.values()) if not index.users]:
            if os.fstat(index.descriptor).st_nlink == 0:
                del self._mapped[index.key]
                index.header.close()
                os.close(index.descriptor)


WAL_INDEXES = WalIndexes()
