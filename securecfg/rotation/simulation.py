"""A plan tried out: what a year of schedules comes to, before it has passed."""

from __future__ import annotations

from collections import Counter, deque
from datetime import timedelta
from heapq import nsmallest
from typing import TYPE_CHECKING

from securecfg.rotation.placing import DAY, LAST, SECOND, from_us, to_us
from securecfg.rotation.walks import Gone, Stretch, Walk
from securecfg.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import date, datetime
    from typing import Final

    from securecfg.rotation.calendar import Planned

EVENTS_MAX: Final = 50_000_000
COLLISIONS_MAX: Final = 1_000
"""How many are kept, those that begin first; all are counted."""

_YEAR = timedelta(days=365)
_WITHIN = timedelta(minutes=10)
_AT_ONCE = 5
_ONE_SECOND = timedelta(seconds=1)
_HELD_MIN = 65_536
_HELD_FACTOR = 4
"""About how many times are held at once, for each secret, where there are many."""


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
        ends: Until when; earlier than asked for where there was too much to try, at the second that would be too much.
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
    progress: Callable[[int, int], object] = lambda _done, _total: None,
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
        progress: Is told again and again how much of the time has passed, and how long it is, in seconds.

    Raises:
        InvalidRotation: A stored schedule has no meaning.
        ExtraMissing: A cron expression needs a library that is not installed.
    """
    planned = list(rotations)
    walk, tally = Walk(planned, now=start), _Tally(at_once, within)
    begins, asked = to_us(start), to_us(start + span)
    at, end = begins, asked
    while at < end:
        day = at // DAY
        # No longer than what is held, of the times in it, is about as large as what is known of the secrets.
        held = max(_HELD_FACTOR * len(planned), _HELD_MIN)
        length = max(DAY * held // max(walk.most_on(day), held), SECOND)
        until = min(at + length, (day + 1) * DAY, end)
        stretch = walk.take(until) if at < LAST else Stretch()
        if tally.count + stretch.count > events_max:
            end = _cut(stretch, events_max - tally.count, at)
        tally.add(day, stretch)
        at = until
        progress((at - begins) // SECOND, (asked - begins) // SECOND)
    tally.lapse(walk.lapsing(end))
    return Outcome(
        start,
        from_us(end),
        end == asked,
        tally.count,
        tally.per_day,
        max(tally.per_day.items(), key=lambda item: item[1], default=None),
        tally.collisions(),
        tally.collision_count,
        tuple(sorted(tally.lapses.values(), key=lambda each: (each.expired, each.name))),
        tuple(each.name for each in walk.never_due),
    )


def _cut(stretch: Stretch, at_most: int, begins: int) -> int:
    """Leave as many whole seconds of a stretch as have no more than a number of times; return where they end."""
    times = sorted(at for each in stretch.times.values() for at in each)
    end = max(times[at_most] // SECOND * SECOND, begins)
    for each in stretch.times.values():
        each[:] = [at for at in each if at < end]
    # What is replaced after that has lapsed all the same, and is not replaced any more.
    gone = [each if each.at is None or each.at < end else each._replace(at=None) for each in stretch.gone]
    stretch.gone = [each for each in gone if each.at is not None or each.expired < end]
    return end


class _Tally:
    """What has come together by now."""

    def __init__(self, at_once: int, within: timedelta) -> None:
        self.count = 0
        self.per_day: dict[date, int] = {}
        self.lapses: dict[str, Lapse] = {}
        self.collision_count = 0
        self._at_once, self._within_s = at_once, -(-within // _ONE_SECOND)
        self._crowds: dict[str, _Crowd] = {}
        self._kept: list[Collision] = []

    def add(self, day: int, stretch: Stretch) -> None:
        """Take in what begins in a stretch of a day."""
        count = stretch.count
        if count:
            self.count += count
            date_ = from_us(day * DAY).date()
            self.per_day[date_] = self.per_day.get(date_, 0) + count
        for target, times in stretch.times.items():
            crowd = self._crowds.get(target)
            if crowd is None:
                crowd = self._crowds[target] = _Crowd(self._at_once, self._within_s)
            for meeting in crowd.join([at // SECOND for at in times]):
                self._keep(target, meeting)
        self.lapse(stretch.gone)

    def lapse(self, gone: Iterable[Gone]) -> None:
        """Take in versions that ceased to be good, of each secret in order."""
        for each in gone:
            known = self.lapses.get(each.name)
            if known is None:
                rotated = None if each.at is None else from_us(each.at)
                self.lapses[each.name] = Lapse(each.name, from_us(each.expired), rotated, 1)
            else:
                self.lapses[each.name] = known._replace(times=known.times + 1)

    def collisions(self) -> tuple[Collision, ...]:
        """Return those that are kept, after the last stretch."""
        for target, crowd in self._crowds.items():
            for meeting in crowd.disperse():
                self._keep(target, meeting)
        return tuple(nsmallest(COLLISIONS_MAX, self._kept, key=_order))

    def _keep(self, target: str, meeting: _Meeting) -> None:
        self.collision_count += 1
        begins, ends = (from_us(second * SECOND) for second in meeting[:2])
        self._kept.append(Collision(target, begins, ends, meeting.most))
        if len(self._kept) >= 2 * COLLISIONS_MAX:
            self._kept = nsmallest(COLLISIONS_MAX, self._kept, key=_order)


def _order(collision: Collision) -> tuple[datetime, str]:
    return collision.begins, collision.target


class _Meeting(NamedTuple):
    """A collision, of whichever target; its times are seconds."""

    begins: int
    ends: int
    most: int


class _Crowd:
    """What is due at one target within a time: the seconds, each with how many."""

    def __init__(self, at_once: int, within_s: int) -> None:
        self._at_once = at_once
        self._within_s = within_s
        self._recent: deque[tuple[int, int]] = deque()
        self._size = 0
        self._meeting: _Meeting | None = None

    def join(self, seconds: list[int]) -> list[_Meeting]:
        """Take in all that are due in a stretch; return the collisions that have ended."""
        if self._size + len(seconds) <= self._at_once and self._meeting is None:
            # However close they are, they are too few.
            self._recent += [(second, 1) for second in sorted(seconds)]
            self._size += len(seconds)
            return []
        counts, ended = Counter(seconds), []
        recent, size, at_once, within_s = self._recent, self._size, self._at_once, self._within_s
        for second in sorted(counts):
            while recent and second - recent[0][0] >= within_s:
                size -= recent.popleft()[1]
            if size <= at_once and self._meeting is not None:
                ended += self.disperse()
            recent.append((second, counts[second]))
            size += counts[second]
            if size > at_once:
                known = self._meeting
                if known is None:
                    self._meeting = _Meeting(recent[0][0], second, size)
                else:
                    self._meeting = _Meeting(known.begins, second, max(known.most, size))
        self._size = size
        return ended

    def disperse(self) -> list[_Meeting]:
        """End a collision, and return it, where there is one."""
        ended, self._meeting = self._meeting, None
        return [] if ended is None else [ended]
