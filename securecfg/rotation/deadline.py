"""Until when a call of a rotator has to be over, whatever the target does."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from securecfg.errors import TargetUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

T = TypeVar("T")

_LEFT_MIN_S = 0.001


class Deadline:
    """The time that a call has.

    Args:
        timeout_s: How much, from now on.
        target: What is called, for errors.
    """

    def __init__(self, timeout_s: float, target: str) -> None:
        """Begin now."""
        self._until = time.monotonic() + timeout_s
        self._target = target

    def left_s(self) -> float:
        """Return how much time is left, more than none.

        Raises:
            TargetUnavailable: None is.
        """
        left_s = self._until - time.monotonic()
        if left_s > 0:
            return left_s
        raise self._too_slow()

    def bound(self, call: Callable[[], T]) -> T:
        """Return what a call returns, which is left behind in a thread of its own once the time is up.

        For clients whose own time limits begin anew with each byte that comes in. A call that is left behind is one
        request whose answer nobody hears.

        Raises:
            TargetUnavailable: The time is up.
            SecurecfgError: As the call raises it, which raises nothing else.
        """
        from securecfg.flights import Flights

        try:
            return Flights("securecfg-rotation").fly(object(), call, self.left_s())
        except TimeoutError:
            failure = self._too_slow()
        raise failure

    def _too_slow(self) -> TargetUnavailable:
        return TargetUnavailable(f"{self._target} gave no answer in time", hint="it may or may not have done something")


def left_of(until: float) -> float:
    """Return how much time is left, and a millisecond where none is: to a socket 0 says to wait for nothing.

    Args:
        until: By `time.monotonic`.
    """
    return max(_LEFT_MIN_S, until - time.monotonic())


def shares(items: Sequence[T], until: float) -> Iterator[tuple[T, float]]:
    """Yield each of some items with when its share of the time is over that is left, by `time.monotonic`.

    So that the first of several that never answers leaves time for the others.
    """
    for number, item in enumerate(items):
        now = time.monotonic()
        yield item, now + max(0.0, until - now) / (len(items) - number)


@contextmanager
def broken_off(until: float, break_off: Callable[[], None]) -> Iterator[None]:
    """Call a function in the middle of the block where that is not over in time.

    Who sends byte by byte is in time with each of them, whatever limit a socket has.
    """
    timer = threading.Timer(max(0.0, until - time.monotonic()), break_off)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
