"""Stores that fail on purpose: at the level of the file system, and at the level of the store's interface."""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self, TypeVar

import apsw

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence
    from contextlib import AbstractContextManager

    from securecfg.errors import SecurecfgError
    from securecfg.store import Operation, PartCommit, Space, Staged, Store

Call = Literal["open", "read", "write", "truncate", "sync", "lock", "delete"]

T = TypeVar("T")

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Fault:
    """Which call of the file system fails, and how.

    Attributes:
        call: The kind of call.
        nth: The first one that fails, counted from 1 since the fault was planted.
        error: `IOERR`, or `FULL` for writes.
        is_lasting: Whether all later calls of this kind fail too.
        is_after: Whether the call takes effect before it fails.
    """

    call: Call
    nth: int
    error: Literal["IOERR", "FULL"] = "IOERR"
    is_lasting: bool = False
    is_after: bool = False


class FaultyVfs(apsw.VFS):
    """A VFS over the ordinary one whose calls fail when they are told to; a context manager.

    Attributes:
        vfs_name: The name to open stores with.
        counts: The calls of each kind since the last `plant` or `heal`.
        has_struck: Whether the planted fault has occurred.
    """

    def __init__(self, *, sync_delay_s: float = 0) -> None:
        """Register the VFS; every sync is to take `sync_delay_s` longer."""
        self.vfs_name = f"securecfg-faults-{next(_numbers)}"
        self.counts: dict[Call, int] = {}
        self.has_struck = False
        self._fault: Fault | None = None
        self._sync_delay_s = sync_delay_s
        self._lock = threading.Lock()
        super().__init__(self.vfs_name, "")

    def __enter__(self) -> Self:
        """Return the VFS."""
        return self

    def __exit__(self, *_: object) -> None:
        """Unregister the VFS; stores that use it must be closed by now."""
        self.unregister()

    def plant(self, fault: Fault) -> None:
        """Make a call fail; it replaces an earlier fault."""
        with self._lock:
            self._fault, self.has_struck, self.counts = fault, False, {}

    def heal(self) -> None:
        """Let everything work again and count from the start."""
        with self._lock:
            self._fault, self.counts = None, {}

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - apsw's name
        """Open a file."""
        return self.pass_through("open", lambda: _FaultyFile(self, name, flags))

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: FBT001, N802 - apsw's signature
        """Delete a file."""
        self.pass_through("delete", lambda: super(FaultyVfs, self).xDelete(filename, syncdir))

    def pass_through(self, call: Call, perform: Callable[[], T]) -> T:
        """Count a call and perform it, or fail.

        Raises:
            apsw.IOError: As planted.
            apsw.FullError: As planted.
        """
        with self._lock:
            number = self.counts[call] = self.counts.get(call, 0) + 1
            fault = self._fault
            strikes = (
                fault is not None
                and fault.call == call
                and (number == fault.nth or (fault.is_lasting and number > fault.nth))
            )
            self.has_struck |= strikes
        if call == "sync" and self._sync_delay_s:
            time.sleep(self._sync_delay_s)
        if not strikes or fault is None:
            return perform()
        if fault.is_after:
            perform()
        if fault.error == "FULL":
            raise apsw.FullError
        raise apsw.IOError


class _FaultyFile(apsw.VFSFile):
    def __init__(self, vfs: FaultyVfs, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__("", name, flags)
        self._pass_through = vfs.pass_through

    def xRead(self, amount: int, offset: int) -> bytes:  # noqa: N802 - apsw's name
        return self._pass_through("read", lambda: super(_FaultyFile, self).xRead(amount, offset))

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - apsw's name
        self._pass_through("write", lambda: super(_FaultyFile, self).xWrite(data, offset))

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 - apsw's name
        self._pass_through("truncate", lambda: super(_FaultyFile, self).xTruncate(newsize))

    def xSync(self, flags: int) -> None:  # noqa: N802 - apsw's name
        self._pass_through("sync", lambda: super(_FaultyFile, self).xSync(flags))

    def xLock(self, level: int) -> None:  # noqa: N802 - apsw's name
        self._pass_through("lock", lambda: super(_FaultyFile, self).xLock(level))


class FaultyStore:
    """Any store, whose next calls fail as planned; for tests of what stands on a store.

    Attributes:
        calls: The number of calls of each method so far.
    """

    def __init__(self, store: Store) -> None:
        """Stand in front of `store`."""
        self._store = store
        self._planned: dict[str, list[tuple[SecurecfgError | None, bool]]] = {}
        self.calls: dict[str, int] = {}

    def fail(self, method: str, error: SecurecfgError, *, after: int = 0, takes_effect: bool = False) -> None:
        """Make a call of `method` raise, the next one or a later one.

        Args:
            method: The name of a method of `Store`.
            error: What it raises.
            after: How many calls of this method succeed before.
            takes_effect: Whether the call does its work before it raises, as an ambiguous commit may.
        """
        self._planned.setdefault(method, []).extend([(None, True)] * after + [(error, takes_effect)])

    @property
    def erases(self) -> Literal["now", "after-vacuum", "never"]:
        """What the store says."""
        return self._store.erases

    @property
    def part(self) -> int:
        """The number of this part."""
        return self._store.part

    def head(self) -> bytes | None:
        """Return the head row."""
        return self._call("head", self._store.head)

    def get(self, space: Space, id_: int, /) -> bytes | None:
        """Return one row."""
        return self._call("get", lambda: self._store.get(space, id_))

    def get_many(self, keys: Sequence[tuple[Space, int]]) -> list[bytes | None]:
        """Return rows."""
        return self._call("get_many", lambda: self._store.get_many(keys))

    def snapshot(self, keys: Sequence[tuple[Space, int]]) -> tuple[bytes | None, list[bytes | None]]:
        """Return the head row and rows."""
        return self._call("snapshot", lambda: self._store.snapshot(keys))

    def scan(self, space: Space, first: int, last: int, limit: int) -> list[tuple[int, bytes]]:
        """Return rows of a range."""
        return self._call("scan", lambda: self._store.scan(space, first, last, limit))

    def commit(self, operations: Sequence[Operation], *, expect: bytes | None, head: bytes) -> Hashable | None:
        """Publish."""
        return self._call("commit", lambda: self._store.commit(operations, expect=expect, head=head))

    def commit_parts(self, commits: Sequence[PartCommit]) -> None:
        """Publish in several parts."""
        self._call("commit_parts", lambda: self._store.commit_parts(commits))

    def stage(self, operations: Sequence[Staged]) -> None:
        """Write rows that nothing refers to."""
        self._call("stage", lambda: self._store.stage(operations))

    def reserve(self) -> AbstractContextManager[None]:
        """Keep others out."""
        return self._call("reserve", self._store.reserve)

    def partition(self, number: int) -> Store:
        """Return a part, in which nothing fails on purpose."""
        return self._call("partition", lambda: self._store.partition(number))

    def partitions(self) -> list[int]:
        """Return the numbers of the parts."""
        return self._call("partitions", self._store.partitions)

    def revision(self) -> Hashable:
        """Return the token of freshness."""
        return self._call("revision", self._store.revision)

    def wait(self, revision: Hashable, timeout_s: float) -> bool:
        """Wait for another revision."""
        return self._call("wait", lambda: self._store.wait(revision, timeout_s))

    def purge(self) -> None:
        """Erase."""
        self._call("purge", self._store.purge)

    def close(self) -> None:
        """Close the store."""
        self._store.close()

    def _call(self, method: str, perform: Callable[[], T]) -> T:
        self.calls[method] = self.calls.get(method, 0) + 1
        planned = self._planned.get(method)
        error, takes_effect = planned.pop(0) if planned else (None, True)
        if error is None:
            return perform()
        if takes_effect:
            perform()
        raise error
