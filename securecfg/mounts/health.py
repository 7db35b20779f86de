"""When a backend is asked: a breaker that lets a failing one rest, and limits of how often one is asked."""

from __future__ import annotations

import threading
import time
from random import SystemRandom
from typing import TYPE_CHECKING

from securecfg.errors import BackendUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_REST_S = 5.0
LONGEST_REST_S = 60.0
WAIT_MAX_S = 10.0


class Breaker:
    """Lets a backend rest that gave no answer, and one caller at a time see whether it answers again.

    Args:
        now: Seconds of a clock that is never put back.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        """Let everybody through."""
        self._now = now
        self._lock = threading.Lock()
        self._random = SystemRandom()
        self._failures = 0
        self._rests_until = 0.0
        self._is_tried = False

    def admits(self) -> bool:
        """Return whether a caller may ask; it says afterwards how that went."""
        with self._lock:
            if not self._failures:
                return True
            if self._is_tried or self._now() < self._rests_until:
                return False
            self._is_tried = True
            return True

    def succeeded(self) -> None:
        """Note an answer, were it a refusal."""
        with self._lock:
            self._failures, self._is_tried = 0, False

    def failed(self) -> None:
        """Note that there was none."""
        with self._lock:
            self._failures, self._is_tried = self._failures + 1, False
            longest = min(FIRST_REST_S * 2 ** min(self._failures - 1, 10), LONGEST_REST_S)
            self._rests_until = self._now() + longest * self._random.uniform(0.5, 1.0)

    @property
    def rests_s(self) -> float:
        """How long it still rests; 0 where it does not."""
        with self._lock:
            return max(0.0, self._rests_until - self._now()) if self._failures else 0.0


class Limits:
    """How often the backends of a mount are asked by this process: a token bucket.

    Args:
        calls_per_s: In the mean; as many may come at once. 0 for no limit.
        now: Seconds of a clock that is never put back.
        sleep: Waits.
    """

    def __init__(
        self,
        calls_per_s: int,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Begin with a full bucket."""
        self._rate = calls_per_s
        self._now, self._sleep = now, sleep
        self._lock = threading.Lock()
        self._tokens, self._filled = float(calls_per_s), now()

    def take(self, calls: int = 1) -> None:
        """Wait until so many more calls are within the limits.

        Raises:
            BackendUnavailable: That would take too long.
        """
        pause = self._reserve(calls)
        if pause > 0:
            self._sleep(pause)

    def _reserve(self, calls: int) -> float:
        with self._lock:
            now = self._now()
            pause = 0.0
            if self._rate:
                tokens = min(float(self._rate), self._tokens + (now - self._filled) * self._rate)
                pause = max(0.0, (calls - tokens) / self._rate)
                if pause > WAIT_MAX_S:
                    message = f"more calls wait than the {self._rate} in a second that the mount allows"
                    raise BackendUnavailable(message, hint="`--calls-per-s` of the mount says how many there may be")
                self._tokens, self._filled = tokens - calls, now
            return pause
