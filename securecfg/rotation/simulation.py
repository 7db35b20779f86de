"""A plan tried out: what a year of schedules comes to, before it has passed."""

from __future__ import annotations

from collections import deque
from datetime import timedelta
from typing import TYPE_CHECKING

from securecfg.rotation.calendar import Agenda, Planned
from securecfg.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date, datetime
    from typing import Final

EVENTS_MAX: Final = 50_000_000
COLLISIONS_MAX: Final = 1_000
"""How many are kept; all are counted."""

_YEAR = timedelta(days=365)
_WITHIN = timedelta(minutes=10)
_AT_ONCE = 5


class Collision(NamedTuple):
    """A time in which too many rotations of one target are due.

    Attributes:
        target: Whose.
        begins: When the first of them is due.
        ends: When the last is.
        most: The most in a row of as many minutes as were asked about.
    """

    target: str
    begins: datetime
    ends: datetime
    most: int


class Lapse(NamedTuple):
    """A secret that ceases to be good before it is rotated.

    Attributes:
        name: Of the secret.
        expired: When that happens first.
        rotated: When it is rotated after that; None where it is not within the time that was looked at.
        times: How often it happens.
    """

    name: str
    expired: datetime
    rotated: datetime | None
    times: int


class Outcome(NamedTuple):
    """What a plan comes to.

    Attributes:
        begins: From when it was tried out.
        ends: Until when; earlier than asked for where there was too much to try.
        is_complete: Whether it is as long as was asked for.
        rotations: How many there were.
        per_day: How many on each day, in UTC, those with none left out.
        peak: The first day with the most, and how many; None where there was none.
        collisions: Those that were kept, the first first.
        collision_count: How many there were.
        lapses: One for each secret to which it happens, the first first.
        never_due: The secrets that are never due.
    """

    begins: datetime
    ends: datetime
    is_complete: bool
    rotations: int
    per_day: dict[date, int]
    peak: tuple[date, int] | None
    collisions: tuple[Collision, ...]
    collision_count: int
    lapses: tuple[Lapse, ...]
    never_due: tuple[str, ...]


def simulate(
    rotations: Iterable[Planned],
    *,
    start: datetime,
    span: timedelta = _YEAR,
    at_once: int = _AT_ONCE,
    within: timedelta = _WITHIN,
    events_max: int = EVENTS_MAX,
) -> Outcome:
    """Return what a plan comes to, on a clock that is only counted; each rotation succeeds when it begins.

    Memory is taken for each secret and each day, not for each rotation.

    Args:
        rotations: What is rotated.
        start: From when.
        span: For how long.
        at_once: How many rotations of one target are fine.
        within: In how much time.
        events_max: How many rotations are tried out at most.

    Raises:
        InvalidRotation: A stored schedule has no meaning.
        ExtraMissing: A cron expression needs a library that is not installed.
    """
    end, count = start + span, 0
    agenda = Agenda(rotations, now=start)
    per_day: dict[date, int] = {}
    crowds: dict[str, _Crowd] = {}
    collisions = _Collisions()
    lapses: dict[str, Lapse] = {}
    for occurrence in agenda.take(end):
        if count == events_max:
            end = occurrence.at
            break
        count += 1
        day = occurrence.at.date()
        per_day[day] = per_day.get(day, 0) + 1
        crowd = crowds.get(occurrence.target)
        if crowd is None:
            crowd = crowds[occurrence.target] = _Crowd(occurrence.target, at_once, within)
        crowd.join(occurrence.at, collisions)
        if occurrence.expired is not None:
            _note(lapses, Lapse(occurrence.name, occurrence.expired, occurrence.at, 1))
    for crowd in crowds.values():
        crowd.disperse(collisions)
    for planned in agenda.standing():
        if planned.expires is not None and planned.expires < end:
            _note(lapses, Lapse(planned.name, planned.expires, None, 1))
    peak = max(per_day.items(), key=lambda item: item[1], default=None)
    return Outcome(
        start,
        end,
        end == start + span,
        count,
        per_day,
        peak,
        tuple(sorted(collisions.kept, key=lambda each: (each.begins, each.target))),
        collisions.count,
        tuple(sorted(lapses.values(), key=lambda each: (each.expired, each.name))),
        tuple(planned.name for planned in agenda.never_due),
    )


class _Collisions:
    """All are counted, and the first of them kept."""

    def __init__(self) -> None:
        self.kept: list[Collision] = []
        self.count = 0

    def add(self, collision: Collision) -> None:
        self.count += 1
        if len(self.kept) < COLLISIONS_MAX:
            self.kept.append(collision)


class _Crowd:
    """What is due at one target within a time: the seconds, each with how many."""

    def __init__(self, target: str, at_once: int, within: timedelta) -> None:
        self._target = target
        self._at_once = at_once
        self._within = within
        self._recent: deque[tuple[datetime, int]] = deque()
        self._size = 0
        self._begins: datetime | None = None
        self._ends: datetime | None = None
        self._most = 0

    def join(self, at: datetime, collisions: _Collisions) -> None:
        """Take in one that is due."""
        recent = self._recent
        at = at.replace(microsecond=0)
        while recent and at - recent[0][0] >= self._within:
            self._size -= recent.popleft()[1]
        if self._size <= self._at_once:
            self.disperse(collisions)
        if recent and recent[-1][0] == at:
            recent[-1] = (at, recent[-1][1] + 1)
        else:
            recent.append((at, 1))
        self._size += 1
        if self._size > self._at_once:
            self._begins = self._begins or recent[0][0]
            self._ends, self._most = at, max(self._most, self._size)

    def disperse(self, collisions: _Collisions) -> None:
        """End a collision, where there is one."""
        if self._begins is not None and self._ends is not None:
            collisions.add(Collision(self._target, self._begins, self._ends, self._most))
        self._begins, self._ends, self._most = None, None, 0


def _note(lapses: dict[str, Lapse], lapse: Lapse) -> None:
    known = lapses.get(lapse.name)
    lapses[lapse.name] = lapse if known is None else known._replace(times=known.times + 1)
