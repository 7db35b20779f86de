"""What becomes of open stores when the process forks.

A child shares its parent's descriptors but none of its locks, so nothing that was open may be used there. Stores are
brought to rest before a fork: neither SQLite's own mutexes nor ours are then held by a thread that the child lacks.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Protocol
from weakref import WeakSet

if TYPE_CHECKING:
    from collections.abc import Callable


class Forkable(Protocol):
    """What is told of a fork."""

    def before_fork(self) -> None:
        """Come to rest and stay so."""
        ...

    def after_fork_in_parent(self) -> None:
        """Go on."""
        ...

    def after_fork_in_child(self) -> None:
        """Refuse everything from now on."""
        ...


class Forks:
    """The open stores of this process; one object, since forks happen to a process."""

    def __init__(self) -> None:
        """Register nothing yet: that is left to the first store."""
        self._members: WeakSet[Forkable] = WeakSet()
        self._resting: list[Forkable] = []
        self._lock = threading.RLock()
        self._registered = False

    def watch(self, member: Forkable) -> None:
        """Tell `member` of every fork until it is discarded."""
        with self._lock:
            if not self._registered and hasattr(os, "register_at_fork"):
                os.register_at_fork(
                    before=self._before,
                    after_in_parent=self._after_in_parent,
                    after_in_child=self._after_in_child,
                )
                self._registered = True
            self._members.add(member)

    def discard(self, member: Forkable) -> None:
        """Tell `member` nothing more."""
        with self._lock:
            self._members.discard(member)

    def _before(self) -> None:
        # Held across the fork, by the thread that survives in the child.
        self._lock.acquire()
        self._resting = list(self._members)
        self._each(Forkable.before_fork)

    def _after_in_parent(self) -> None:
        self._each(Forkable.after_fork_in_parent)
        self._resting = []
        self._lock.release()

    def _after_in_child(self) -> None:
        self._each(Forkable.after_fork_in_child)
        self._resting = []
        self._members.clear()
        self._lock.release()

    def _each(self, step: Callable[[Forkable], None]) -> None:
        for member in self._resting:
            getattr(member, step.__name__)()


FORKS = Forks()
