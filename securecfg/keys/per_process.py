"""What each process makes for itself: connections and sessions that a forked child must not share with its parent."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class PerProcess(Generic[T]):
    """One object in each process, made at its first use there.

    A child does not touch its parent's: it shares the sockets but not the threads, one of which may hold a lock. It
    keeps a reference, though, so that nothing is closed that is the parent's.

    Args:
        make: Makes one. It is called again where it raised.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        """Make nothing yet."""
        self._make = make
        self._made: dict[int, _Once[T]] = {}

    def get(self) -> T:
        """Return the object of this process."""
        # `setdefault` is atomic, so no lock of ours can be held across a fork.
        return self._made.setdefault(os.getpid(), _Once(self._make)).get()


class _Once(Generic[T]):
    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made: list[T] = []

    def get(self) -> T:
        with self._lock:
            if not self._made:
                self._made.append(self._make())
            return self._made[0]
