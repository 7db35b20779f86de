"""Targets that do not answer are left alone for a while, whichever secret is to be rotated there."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from securecfg.errors import TargetUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

FAILURES_MAX = 5
OPEN_S = 60.0


class Breakers:
    """What one process knows of the targets that it calls. May be used by any thread.

    Args:
        elapsed: A clock in seconds that nobody sets.
    """

    def __init__(self, elapsed: Callable[[], float]) -> None:
        """Know nothing of any target."""
        self._elapsed = elapsed
        self._lock = threading.Lock()
        self._failures: dict[str, int] = {}
        self._until: dict[str, float] = {}

    def verify(self, target: str) -> None:
        """Let a call pass. Of those that come when the pause is over one passes, until it is known how it ended.

        Raises:
            TargetUnavailable: The target has not answered several times in a row, and is left alone.
        """
        with self._lock:
            until, now = self._until.get(target), self._elapsed()
            if until is None:
                return
            if until <= now:
                self._until[target] = now + OPEN_S
                return
            message = "the target has not answered several times, and is left alone for a while"
            error = TargetUnavailable(message)
            error.retry_after_s = until - now
            raise error

    def failed(self, target: str) -> None:
        """Note that a target did not answer."""
        with self._lock:
            count = self._failures[target] = self._failures.get(target, 0) + 1
            if count >= FAILURES_MAX:
                self._until[target] = self._elapsed() + OPEN_S

    def answered(self, target: str) -> None:
        """Note that a target answered, whatever it said."""
        with self._lock:
            self._failures.pop(target, None)
            self._until.pop(target, None)
