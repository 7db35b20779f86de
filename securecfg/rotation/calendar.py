"""What is due when, of many rotations at once: for those who plan, and for those who try a plan out."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from securecfg.rotation.schedule import Schedule, begin_at, next_due
from securecfg.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime


class Planned(NamedTuple):
    """A rotation as a plan sees it.

    Attributes:
        name: Of the secret.
        target: Who is told of a new version.
        schedule: When it is rotated.
        seed: As for `next_due`.
        after: As for `next_due`.
        created: When the current version was made.
        expires: When that ceases to be good.
    """

    name: str
    target: str
    schedule: Schedule
    seed: bytes
    after: datetime
    created: datetime | None = None
    expires: datetime | None = None


class Occurrence(NamedTuple):
    """One rotation that will be due.

    Attributes:
        at: When it begins, in UTC.
        name: Of the secret.
        target: Who is told.
        expired: When the version that it replaces has ceased to be good, where that is not later; else None.
    """

    at: datetime
    name: str
    target: str
    expired: datetime | None


class Agenda:
    """Rotations in the order in which they are due, each with the one time that is its next.

    Each is taken to succeed when it begins; the new version lives as long as the one before.

    Args:
        rotations: What is rotated.
        now: What was due before begins now, or in the next window.
    """

    def __init__(self, rotations: Iterable[Planned], *, now: datetime) -> None:
        """Find the next time of each."""
        self._standing = list(rotations)
        self.never_due: list[Planned] = []
        self._heap: list[tuple[datetime, int]] = []
        for index, planned in enumerate(self._standing):
            at = _next(planned, now)
            if at is None:
                self.never_due.append(planned)
            else:
                self._heap.append((at, index))
        heapq.heapify(self._heap)

    def take(self, until: datetime) -> Iterator[Occurrence]:
        """Yield what begins before a time, the earliest first, and go on from there when called again."""
        heap, standing = self._heap, self._standing
        while heap and heap[0][0] < until:
            at, index = heap[0]
            planned = standing[index]
            created, expires = planned.created, planned.expires
            expired = expires if expires is not None and expires <= at else None
            life = None if expires is None else max(expires - (created or planned.after), at - at)
            renewed = planned._replace(after=at, created=at, expires=None if life is None else at + life)
            standing[index] = renewed
            following = _next(renewed, at)
            if following is None:
                heapq.heappop(heap)
            else:
                heapq.heapreplace(heap, (following, index))
            yield Occurrence(at, planned.name, planned.target, expired)

    def standing(self) -> Iterator[Planned]:
        """Yield each rotation with the version that it has by now."""
        yield from self._standing


def upcoming(rotations: Iterable[Planned], *, now: datetime, until: datetime) -> Iterator[Occurrence]:
    """Yield all that will be due before a time, the earliest first.

    Memory is taken for each secret, not for each time.

    Args:
        rotations: What is rotated.
        now: What was due before begins now, or in the next window.
        until: Before when.

    Raises:
        InvalidRotation: A stored schedule has no meaning.
        ExtraMissing: A cron expression needs a library that is not installed.
    """
    return Agenda(rotations, now=now).take(until)


def _next(planned: Planned, now: datetime) -> datetime | None:
    due = next_due(
        planned.schedule, after=planned.after, created=planned.created, expires=planned.expires, seed=planned.seed
    )
    return due if due is None or due >= now else begin_at(planned.schedule, due=due, now=now)
