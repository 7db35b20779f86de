"""Where the next time of a schedule lies, in whole microseconds since 1970.

`Times` says what the clock of the schedule does. For one secret that clock itself is asked (`Clock`); who goes through
a year of many keeps what it has said (`Timeline`). What is decided about a time is decided here, for both.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left, bisect_right
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import TYPE_CHECKING, Protocol

from securecfg.rotation.cron import cron_after
from securecfg.rotation.windows import opening_after, openings_before, openings_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date, tzinfo
    from typing import Final

    from securecfg.rotation.schedule import Schedule

    Opening = tuple[int, int]

SECOND: Final = 1_000_000
DAY: Final = 86_400 * SECOND
JITTER_MAX: Final = timedelta(days=1)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_ONE_DAY = timedelta(days=1)
_LEAD_SHARE = 20
_AHEAD_DAYS = 16
_BEHIND_DAYS = 12
"""From where a window may be that was open lately: at least those days that are searched by `windows`."""

LAST: Final = (datetime(9_900, 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND
"""A later time is none: calendars end soon after."""


def to_us(moment: datetime) -> int:
    """Return a time, which has a time zone, in microseconds since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


def from_us(moment: int) -> datetime:
    """Return a time in UTC.

    Raises:
        OverflowError: No calendar has it.
    """
    return _EPOCH + timedelta(microseconds=moment)


class Times(Protocol):
    """What the clock of a schedule does."""

    def cron_after(self, moment: int) -> int | None:
        """Return the first time after a moment that the expression means; None where there is none."""
        ...

    def opening_after(self, moment: int) -> Opening:
        """Return the first window that ends after a moment, from when and until before when."""
        ...

    def openings_before(self, moment: int, since: int) -> Iterator[Opening]:
        """Yield the windows that open at or before a moment and after another one, the last first."""
        ...


class Clock:
    """A clock that is asked each time.

    Args:
        schedule: Whose.
        zone: Its time zone.
    """

    def __init__(self, schedule: Schedule, zone: tzinfo) -> None:
        """Ask nothing yet."""
        self._cron, self._windows, self._zone = schedule.cron or "", schedule.windows, zone

    def cron_after(self, moment: int) -> int | None:
        """Return the first time after a moment that the expression means; None where there is none."""
        found = cron_after(self._cron, self._zone, from_us(moment))
        return None if found is None else to_us(found)

    def opening_after(self, moment: int) -> Opening:
        """Return the first window that ends after a moment, from when and until before when."""
        start, end = opening_after(self._windows, self._zone, from_us(moment))
        return to_us(start), to_us(end)

    def openings_before(self, moment: int, since: int) -> Iterator[Opening]:
        """Yield the windows that open at or before a moment and after another one, the last first."""
        for start, end in openings_before(self._windows, self._zone, from_us(moment), from_us(since)):
            yield to_us(start), to_us(end)


class Timeline:
    """A clock that is asked once for each time. Answers the same, from the first moment that it was asked about on.

    Args:
        schedule: Whose.
        zone: Its time zone.
        begins: Nothing earlier is asked.
    """

    def __init__(self, schedule: Schedule, zone: tzinfo, begins: int) -> None:
        """Ask nothing yet."""
        self._clock = Clock(schedule, zone)
        self._windows, self._zone, self._has_cron = schedule.windows, zone, schedule.cron is not None
        self._instants: list[int] = []
        self._asked, self._is_whole = begins, False
        self._day: date = from_us(begins).astimezone(zone).date() - _BEHIND_DAYS * _ONE_DAY
        self._starts: list[int] = []
        self._ends: list[int] = []
        self._latest_ends: list[int] = []

    def cron_after(self, moment: int) -> int | None:
        """Return the first time after a moment that the expression means; None where there is none."""
        while self._asked <= moment and not self._is_whole:
            found = self._clock.cron_after(self._asked)
            if found is None:
                self._is_whole = True
            else:
                self._instants.append(found)
                self._asked = found
        place = bisect_right(self._instants, moment)
        return self._instants[place] if place < len(self._instants) else None

    def cron_between(self, begins: int, ends: int) -> int:
        """Return how many times after a moment and before another one the expression means, if any."""
        if not self._has_cron:
            return 0
        self.cron_after(ends)
        return bisect_left(self._instants, ends) - bisect_right(self._instants, begins)

    def opening_after(self, moment: int) -> Opening:
        """Return the first window that ends after a moment, from when and until before when."""
        self._look_to(moment)
        place = bisect_right(self._latest_ends, moment)
        return self._starts[place], self._ends[place]

    def openings_before(self, moment: int, since: int) -> Iterator[Opening]:
        """Yield the windows that open at or before a moment and after another one, the last first."""
        self._look_to(moment)
        for place in range(bisect_right(self._starts, moment) - 1, -1, -1):
            if self._starts[place] <= since:
                return
            yield self._starts[place], self._ends[place]

    def forget(self, before: int) -> None:
        """Drop the times of the expression before a moment, about which nobody asks any more."""
        del self._instants[: bisect_right(self._instants, before)]

    def _look_to(self, moment: int) -> None:
        """See to it that all openings of the week after a moment are known."""
        if self._starts and self._starts[-1] > moment + _AHEAD_DAYS // 2 * DAY:
            return
        until = from_us(moment).astimezone(self._zone).date() + _AHEAD_DAYS * _ONE_DAY
        while self._day <= until:
            for start, end in sorted(openings_of(self._windows, self._zone, self._day)):
                self._starts.append(to_us(start))
                self._ends.append(to_us(end))
            self._day += _ONE_DAY
        # The first that ends after a moment is the first at which the latest end so far does.
        self._latest_ends = list(accumulate(self._ends, max))


class Placing:
    """A schedule, and the clock that it goes by."""

    def __init__(self, schedule: Schedule, times: Times) -> None:
        """Know both."""
        self._times = times
        self._every = None if schedule.every_s is None else schedule.every_s * SECOND
        self._ttl_permille = schedule.ttl_permille
        self._jitter_permille = schedule.jitter_permille
        self._has_cron, self._has_windows = schedule.cron is not None, bool(schedule.windows)

    def due(self, after: int, created: int | None, expires: int | None, seed: bytes) -> int | None:
        """Return when a secret is due next, as `next_due` has it; None for never."""
        if after >= LAST:
            return None
        origin = after if created is None else created
        share = None
        if self._has_cron:
            base = self._times.cron_after(after)
        else:
            length = self.length(created, expires)
            share = None if length is None else self.share_of(length)
            base = None if length is None or share is None else origin + length - share
        if base is None or base > LAST:
            return None
        latest = None if expires is None else latest_of(origin, expires)
        due = self._placed(base, share, latest, seed)
        if due < after:
            due = self._made_up(after, share, latest, seed)
        if latest is None or due <= latest:
            return due
        return self._before_expiry((after, origin), share, latest, seed)

    def length(self, created: int | None, expires: int | None) -> int | None:
        """Return how long the interval is, or the part of the life; None where it is neither, or there is no life."""
        if self._ttl_permille is None or created is None or expires is None:
            return self._every
        return max((expires - created) * self._ttl_permille // 1_000, SECOND)

    def share_of(self, length: int) -> int:
        """Return over how much of a time it is spread, in whole seconds."""
        share = min(length * self._jitter_permille // 1_000, JITTER_MAX // _MICROSECOND)
        return share - share % SECOND

    def _placed(self, base: int, share: int | None, latest: int | None, seed: bytes) -> int:
        """Return a time in a window, spread."""
        if not self._has_windows:
            return self._spread((base, None), share, latest, seed)
        start, end = self._times.opening_after(base)
        return self._spread((max(base, start), end), share, latest, seed)

    def _made_up(self, moment: int, share: int | None, latest: int | None, seed: bytes) -> int:
        """Return when a time is made up for that has passed: at once, or in its place in the next window."""
        if not self._has_windows:
            return moment
        return max(moment, self._spread(self._times.opening_after(moment), share, latest, seed))

    def _before_expiry(self, since: tuple[int, int], share: int | None, latest: int, seed: bytes) -> int:
        """Return when it is due if it must not wait: in the last window in time that opens after it was made."""
        after, origin = since
        if not self._has_windows:
            return max(after, latest)
        for opening in self._times.openings_before(latest, origin):
            if opening[1] > after:
                return max(self._spread(opening, share, latest, seed), after)
        return self._made_up(max(after, latest), share, latest, seed)

    def _spread(self, within: tuple[int, int | None], share: int | None, latest: int | None, seed: bytes) -> int:
        """Return a time from a start on and before an end: the same for the same start, whatever was put off to it."""
        start, end = within
        span = self._cron_share(start) if share is None else share
        if end is not None:
            span = min(span, end - start - SECOND)
        if latest is not None and latest > start:
            span = min(span, latest - start)
        seconds = span // SECOND
        return start if seconds <= 0 else start + SECOND * ((seconds + 1) * draw(start // SECOND, seed) >> 64)

    def _cron_share(self, start: int) -> int:
        if not self._jitter_permille:
            return 0
        following = self._times.cron_after(start)
        return 0 if following is None else self.share_of(following - start)


def latest_of(origin: int, expires: int) -> int:
    """Return the last time that leaves a twentieth of a life, at most a day, for what may go wrong."""
    twentieth, rest = divmod(max(expires - origin, 0), _LEAD_SHARE)
    if 2 * rest > _LEAD_SHARE or (2 * rest == _LEAD_SHARE and twentieth % 2):
        twentieth += 1  # halves go to what is even, as in a division of a `timedelta`
    return max(expires - min(twentieth, DAY), origin + SECOND)


def draw(start_s: int, seed: bytes) -> int:
    """Return a number of 64 bits for a time, in seconds since 1970, and a secret."""
    return int.from_bytes(hashlib.sha256(b"%d:%b" % (start_s, seed)).digest()[:8], "big")
