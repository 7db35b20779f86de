"""What a machine remembers of a scope that it drops into, kept outside the vault.

Whoever may write the file can put back an older drop order, which names a value key that somebody holds who may read no
more. So a machine takes no order that is older than one it has seen. It also dates what it drops so that each is later
than the one before, since those that take it in tell a row that was put back by its time.
"""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from securecfg.errors import AnchorMissing, RollbackSuspected, StoreFailed
from securecfg.files import PRIVATE
from securecfg.tuples import NamedTuple
from securecfg.vault.logger import logger
from securecfg.vault.state.anchor import lineage, state_directory

if TYPE_CHECKING:
    from collections.abc import Iterator

_LINE = "securecfg-drops-1 {:010d} {:020d}\n"
_PATTERN = re.compile(rb"securecfg-drops-1 ([0-9]{10}) ([0-9]{20})\n")
_LINE_BYTES = len(_LINE.format(0, 0))


class Noted(NamedTuple):
    """What was noted last.

    Attributes:
        serial: Of the newest order.
        time_ms: When something was last dropped, 0 where nothing was.
    """

    serial: int
    time_ms: int


class DropMemory:
    """The note of one scope in one place. May be shared by threads.

    Args:
        path: Where the vault lies.
        scope_id: The vault id of the scope, 16 bytes.
        is_required: Whether to refuse a scope that nothing was noted of.
    """

    def __init__(self, path: str | os.PathLike[str], scope_id: bytes, *, is_required: bool = False) -> None:
        """Know the place; touch nothing."""
        self.path = Path(state_directory(), "drops", f"{scope_id.hex()}-{lineage(path)}")
        self._is_required = is_required

    @contextmanager
    def held(self) -> Iterator[Held]:
        """Keep every other process and thread of this machine from dropping into the scope.

        Raises:
            StoreFailed: What was noted cannot be read.
        """
        try:
            descriptor = self._open()
        except OSError as error:
            self.warn(error)
            yield Held(self, None, None)
            return
        try:
            _lock(descriptor)
            yield Held(self, descriptor, self._read(descriptor))
        finally:
            os.close(descriptor)

    def read(self) -> Noted | None:
        """Return what was noted, None where nothing was.

        Raises:
            StoreFailed: It cannot be read.
        """
        if not self.path.exists():
            return None
        with self.held() as held:
            return held.known

    def replace(self, serial: int) -> None:
        """Note the serial of an order that may be older than one that was seen. Only `adopt` may do this.

        Raises:
            StoreFailed: What was noted cannot be read.
        """
        if self.path.exists():
            with self.held() as held:
                held.replace_order(serial)

    def verify(self, known: Noted | None, serial: int) -> None:
        """Check that an order is not older than one that this machine has seen.

        Raises:
            RollbackSuspected: It is.
            AnchorMissing: None was seen, and that is required.
        """
        if known is None and self._is_required:
            message = "no drop order of this scope is known on this machine, and one is required to be"
            raise AnchorMissing(message, hint="open it once without requiring that, where nobody can have changed it")
        if known is not None and serial < known.serial:
            message = "the drop order of the scope went back"
            raise RollbackSuspected(message, hint="somebody who may write the file may have put back an older one")

    def warn(self, error: OSError) -> None:
        """Log that nothing can be noted."""
        logger().warning(
            "what was dropped cannot be noted in `%s`: %s; an older drop order may pass unnoticed",
            self.path,
            error.strerror,
            extra={"event": "drops.failed"},
        )

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.open(self.path, flags, PRIVATE)
        except FileNotFoundError:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            return os.open(self.path, flags, PRIVATE)

    def _read(self, descriptor: int) -> Noted | None:
        raw = os.pread(descriptor, _LINE_BYTES + 1, 0)
        match = _PATTERN.fullmatch(raw)
        if match is not None:
            return Noted(int(match[1]), int(match[2]))
        if raw:
            message = f"what was dropped before cannot be read from `{self.path}`"
            raise StoreFailed(message, hint="if you know that the vault is not an older copy, remove the file")
        return None


class Held:
    """The note while nobody else can change it.

    Args:
        memory: Whose it is.
        descriptor: The open file; None where there can be none.
        known: What it says; None where nothing was noted yet.
    """

    def __init__(self, memory: DropMemory, descriptor: int | None, known: Noted | None) -> None:
        """Take it up."""
        self._memory = memory
        self._descriptor = descriptor
        self._known = known

    def note_order(self, serial: int) -> None:
        """Note that an order was seen.

        Raises:
            RollbackSuspected: A newer one was seen before.
            AnchorMissing: None was seen, and that is required.
        """
        self._memory.verify(self._known, serial)
        if self._known is None or serial > self._known.serial:
            self._note(Noted(serial, self._known.time_ms if self._known is not None else 0))

    @property
    def known(self) -> Noted | None:
        """What was noted; None where nothing was yet."""
        return self._known

    def replace_order(self, serial: int) -> None:
        """Note an order in the place of any that was seen; what is dropped is dated later than before all the same."""
        self._note(Noted(serial, self._known.time_ms if self._known is not None else 0))

    def next_time_ms(self, now_ms: int) -> int:
        """Return the time of what is dropped next, which is noted: later than of all before."""
        known = self._known or Noted(0, 0)
        time_ms = max(now_ms, known.time_ms + 1)
        self._note(known._replace(time_ms=time_ms))
        return time_ms

    def _note(self, noted: Noted) -> None:
        self._known = noted
        if self._descriptor is None:
            return
        try:
            os.pwrite(self._descriptor, _LINE.format(*noted).encode(), 0)
        except OSError as error:
            self._memory.warn(error)


def _lock(descriptor: int) -> None:
    import fcntl  # not every platform has it

    fcntl.flock(descriptor, fcntl.LOCK_EX)
