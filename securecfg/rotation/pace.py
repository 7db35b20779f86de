"""How often and by how many at once a target is called."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    Sleep = Callable[[float], object]


class Pace:
    """Spreads the calls of each target over time. May be used by any thread, which is kept waiting for its turn.

    Args:
        calls_per_s: How many calls of one target begin in a second, in the mean.
        elapsed: A clock in seconds that nobody sets.
        sleep: Waits.
    """

    def __init__(self, calls_per_s: float, elapsed: Callable[[], float], sleep: Sleep) -> None:
        """Know of no call yet."""
        self._pause_s = 1.0 / calls_per_s
        self._elapsed = elapsed
        self._sleep = sleep
        self._lock = threading.Lock()
        self._next: dict[str, float] = {}

    def __call__(self, target: str) -> None:
        """Wait until it is this call's turn."""
        with self._lock:
            now = self._elapsed()
            turn = max(now, self._next.get(target, now))
            self._next[target] = turn + self._pause_s
        if turn > now:
            self._sleep(turn - now)
