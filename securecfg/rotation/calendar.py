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
        due: When it is due next, where that was decided before; None where the schedule says it.
    """

    name: str
    target: str
    schedule: Schedule
    seed: bytes
    after: datetime
    created: datetime | None = None
    expires: datetime | None = None
    due: datetime | None = None


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


def upcoming(rotations: Iterable[Planned], *, now: datetime, until: datetime) -> Iterator[Occurrence]:
    """Return all that will be due before a time, the earliest first.

    Each is taken to succeed when it begins; the new version lives as long as the one before. Memory is taken for each
    secret, not for each time.

    Args:
        rotations: What is rotated.
        now: What was due before begins now, or in the next window.
        until: Before when.

    Raises:
        InvalidRotation: A stored schedule has no meaning.
        ExtraMissing: A cron expression needs a library that is not installed.
    """
    standing = list(rotations)
    first = ((next_of(planned, now), index) for index, planned in enumerate(standing))
    heap = [(at, index) for at, index in first if at is not None]
    heapq.heapify(heap)
    return _taken(heap, standing, until)


def _taken(heap: list[tuple[datetime, int]], standing: list[Planned], until: datetime) -> Iterator[Occurrence]:
    while heap and heap[0][0] < until:
        at, index = heap[0]
        planned = standing[index]
        created, expires = planned.created, planned.expires
        expired = expires if expires is not None and expires <= at else None
        life = None if expires is None else max(expires - (created or planned.after), at - at)
        expires = None if life is None else at + life
        standing[index] = planned._replace(after=at, created=at, expires=expires, due=None)
        following = next_of(standing[index], at)
        if following is None:
            heapq.heappop(heap)
        else:
            heapq.heapreplace(heap, (following, index))
        yield Occurrence(at, planned.name, planned.target, expired)


def next_of(planned: Planned, now: datetime) -> datetime | None:
    """Return when a rotation begins next, None for never; what was due before now begins now or in its next window."""
    if planned.due is not None:
        return begin_at(planned.schedule, due=planned.due, now=now)
    due = next_due(
        planned.schedule, after=planned.after, created=planned.created, expires=planned.expires, seed=planned.seed
    )
    return due if due is None or due >= now else begin_at(planned.schedule, due=due, now=now)
