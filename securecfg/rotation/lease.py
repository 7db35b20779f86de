"""Who is at work on a rotation (section 8 of the contract).

The clocks of two machines are not compared: who waits has seen the same version of the document for the whole time of
the lease by its own clock, one that goes on while the machine sleeps.
"""

from __future__ import annotations

import os
import re
import secrets
import time
from pathlib import Path
from typing import TYPE_CHECKING

from securecfg.rotation.document import LEASE_S, Holder

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.rotation.document import Stored

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PROCESSES = Path("/proc/self/ns/pid")
_PID = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
_START_FIELD = 19
"""Of `/proc/PID/stat` behind the name of the program: when the process was started, which tells it from a later one."""


def elapsed_s() -> float:
    """Return seconds that go on while the machine sleeps, and that nobody can set."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


def this_process() -> str:
    """Return what one object in this process is called as a holder: no other one, anywhere, is called the same."""
    return f"{_surroundings()}/{os.getpid()}/{_started(os.getpid())}/{secrets.token_hex(8)}"


class Leases:
    """What one process knows of the leases of others, and of its own.

    Args:
        id_: What this holder is called; another name for each `Leases` that is in use at the same time.
        elapsed: A clock that goes on while the machine sleeps, in seconds.
        lease_s: For how long a lease is taken.
    """

    def __init__(
        self, id_: str | None = None, elapsed: Callable[[], float] = elapsed_s, lease_s: int = LEASE_S
    ) -> None:
        """Hold nothing yet."""
        self.holder = Holder(id_ or this_process(), lease_s)
        self._elapsed = elapsed
        self._seen: dict[int, tuple[int, float]] = {}
        self._taken: dict[int, float] = {}

    def may_take(self, stored: Stored) -> bool:
        """Return whether nobody else is at work, or whoever was has lost the lease."""
        holder = stored.rotation.holder
        if holder is None or holder.id == self.holder.id or _is_gone(holder.id):
            return True
        return self.free_in_s(stored) <= 0

    def free_in_s(self, stored: Stored) -> float:
        """Return in how many seconds another holder's lease will be over, if it does nothing more."""
        holder, record = stored.rotation.holder, stored.rotation.record
        if holder is None:
            return 0.0
        number, since = self._seen.get(record, (0, 0.0))
        now = self._elapsed()
        if number != stored.number:
            since = now
            self._seen[record] = (stored.number, since)
        return since + holder.lease_s - now

    def taken(self, record: int, at_s: float) -> None:
        """Note that a lease was taken or renewed by a transition that was begun at a time of this clock."""
        self._seen.pop(record, None)
        self._taken[record] = at_s

    def ended(self, record: int) -> None:
        """Note that a lease was given back, or lost, or never taken. What was seen of another one's goes on."""
        self._taken.pop(record, None)

    def left_s(self, record: int) -> float:
        """Return for how many seconds more a lease of this process is good."""
        taken = self._taken.get(record)
        return 0.0 if taken is None else taken + self.holder.lease_s - self._elapsed()

    def now_s(self) -> float:
        """Return the time of the clock that leases are measured by."""
        return self._elapsed()


def _is_gone(holder: str) -> bool:
    """Return whether a holder was a process that could be seen from here, and runs no more."""
    where, _, rest = holder.partition("/")
    pid, _, rest = rest.partition("/")
    started = rest.partition("/")[0]
    if not where or where != _surroundings() or not _PID.fullmatch(pid) or not started:
        return False
    found = _started(int(pid))
    # Where processes of others are hidden, one that cannot be looked at is still there to be asked for.
    return found != started if found else not _is_there(int(pid))


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _surroundings() -> str:
    """Return which start of which machine this is, and which container of it: a process has a number only there."""
    try:
        return f"{_BOOT_ID.read_text(encoding='ascii').strip()}:{_PROCESSES.stat().st_ino}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    try:
        status = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return ""
    return start_of(status)


def start_of(status: bytes) -> str:
    """Return when a process was started, of what `/proc` says of it; empty where that does not say it."""
    fields = status.rpartition(b")")[2].split()
    return fields[_START_FIELD].decode("ascii", "replace") if len(fields) > _START_FIELD else ""
