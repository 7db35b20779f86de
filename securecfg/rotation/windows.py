"""Maintenance windows: when in a week something may be done, and when on the clock that is."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from securecfg.errors import InvalidRotation
from securecfg.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import tzinfo
    from typing import Final

DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
WINDOWS_MAX = 16
_TEXT_MAX = 64
_DAY_MINUTES = 24 * 60
_ONE_DAY = timedelta(days=1)
_ONE_SECOND = timedelta(seconds=1)
# A window opens at least once in 7 days; one that is open may be of the day before, and a zone may leave out a day.
_SEARCHED_DAYS = 10


class Window(NamedTuple):
    """A time of some days of the week, in the time zone of the schedule.

    Attributes:
        days: On which days it opens, 0 for Monday, ascending.
        opens: When, in minutes of the day.
        closes: When it closes, in minutes of the day, at most 1,440; of the day after, where that is before `opens`.
    """

    days: tuple[int, ...]
    opens: int
    closes: int


class Opening(NamedTuple):
    """A window that is open.

    Attributes:
        start: From when, in UTC.
        end: Until before when.
    """

    start: datetime
    end: datetime


def parse_window(text: str) -> Window:
    """Return the window that a text such as `Sat,Sun 02:00-05:00`, `Mon-Fri 22:00-04:00` or `02:00-05:00` describes.

    Raises:
        InvalidRotation: It describes none. The hint says what one looks like.
    """
    match = len(text) <= _TEXT_MAX and re.fullmatch(
        r"(?:([A-Za-z,-]+) )?([0-9]{2}):([0-9]{2})-([0-9]{2}):([0-9]{2})", text, re.ASCII
    )
    if not match:
        what = "is not written as one"
        raise _wrong(what)
    opens, closes = _minutes(match[2], match[3]), _minutes(match[4], match[5])
    days = _parse_days(match[1]) if match[1] else tuple(range(7))
    return checked_window(Window(days, opens, closes))


def checked_window(window: Window) -> Window:
    """Return a window that makes sense.

    Raises:
        InvalidRotation: This one does not.
    """
    if not window.days or list(window.days) != sorted(set(window.days)) or not set(window.days) <= set(range(7)):
        what = "names no days of the week"
        raise _wrong(what)
    if not (0 <= window.opens < _DAY_MINUTES and 0 < window.closes <= _DAY_MINUTES):
        what = "has a time that no day has"
        raise _wrong(what)
    if window.opens == window.closes:
        what = "opens and closes at the same time"
        raise _wrong(what)
    return window


def describe_window(window: Window) -> str:
    """Return a window in words: `Sat and Sun 02:00-05:00`."""
    times = f"{_clock(window.opens)}-{_clock(window.closes)}"
    days, first, last = window.days, window.days[0], window.days[-1]
    if len(days) == len(DAYS):
        return f"daily {times}"
    if len(days) > 2 and days == tuple(range(first, last + 1)):  # noqa: PLR2004 - two days are both named
        return f"{DAYS[first]} to {DAYS[last]} {times}"
    named = [DAYS[day] for day in days]
    return f"{' and '.join(filter(None, (', '.join(named[:-1]), named[-1])))} {times}"


def opening_after(windows: tuple[Window, ...], zone: tzinfo, moment: datetime) -> Opening:
    """Return the first opening that ends after a moment; of several the one that begins first.

    Args:
        windows: At least one.
        zone: Where its days and times are.
        moment: From when on; it may lie in the opening.
    """
    today = moment.astimezone(zone).date()
    for ahead in range(-2, _SEARCHED_DAYS):
        # An opening belongs to the day on which it begins, and another one that begins on a later day begins later.
        found = [each for each in openings_of(windows, zone, today + ahead * _ONE_DAY) if each.end > moment]
        if found:
            return min(found)
    raise AssertionError  # each window opens once a week


def openings_before(windows: tuple[Window, ...], zone: tzinfo, moment: datetime, since: datetime) -> Iterator[Opening]:
    """Yield the openings that begin at or before a moment, the last first, and after another moment.

    Args:
        windows: At least one.
        zone: Where its days and times are.
        moment: Until when they begin.
        since: After when they begin.
    """
    day = moment.astimezone(zone).date() + _ONE_DAY
    first = max(since.astimezone(zone).date(), day - _SEARCHED_DAYS * _ONE_DAY) - _ONE_DAY
    while day >= first:
        found = [each for each in openings_of(windows, zone, day) if since < each.start <= moment]
        yield from sorted(found, reverse=True)
        day -= _ONE_DAY


def instant_of(day: date, minutes: int, zone: tzinfo) -> datetime:
    """Return when a clock shows a time, in UTC: the first of two times; when it jumps, if it jumps over that."""
    wall = datetime.combine(day, time()) + timedelta(minutes=minutes)
    first, second = (wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if first <= second:
        return first
    # Passed over (PEP 495): by the offset of before it is later than the jump, by that of after it is earlier.
    late, early = first, second
    before = early.astimezone(zone).utcoffset()
    while late - early > _ONE_SECOND:
        middle = early + (late - early) // 2
        if middle.astimezone(zone).utcoffset() == before:
            early = middle
        else:
            late = middle
    return late.replace(microsecond=0)


@lru_cache(maxsize=4_096)
def openings_of(windows: tuple[Window, ...], zone: tzinfo, day: date) -> tuple[Opening, ...]:
    """Return the windows that open on a day of a clock, in the order in which they are named."""
    found = []
    for window in windows:
        if day.weekday() not in window.days:
            continue
        length = (window.closes - window.opens) % _DAY_MINUTES or _DAY_MINUTES
        start, end = (instant_of(day, minutes, zone) for minutes in (window.opens, window.opens + length))
        # One that the clock passes over as a whole is not left out for a week: it opens when the clock has jumped.
        found.append(Opening(start, end if end > start else start + timedelta(minutes=length)))
    return tuple(found)


def _parse_days(text: str) -> tuple[int, ...]:
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        begin, end = _day(first), _day(last) if dash else _day(first)
        if end < begin:
            end += len(DAYS)
        found.update(day % len(DAYS) for day in range(begin, end + 1))
    return tuple(sorted(found))


def _day(name: str) -> int:
    try:
        return DAYS.index(name.capitalize())
    except ValueError:
        what = "names a day that there is not"
        raise _wrong(what) from None


def _minutes(hours: str, minutes: str) -> int:
    if int(minutes) >= 60:  # noqa: PLR2004 - minutes
        what = "has a time that no day has"
        raise _wrong(what)
    return int(hours) * 60 + int(minutes)


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _wrong(what: str) -> InvalidRotation:
    message = f"a maintenance window {what}"
    return InvalidRotation(message, hint="for instance `Sat,Sun 02:00-05:00`, `Mon-Fri 22:00-04:00` or `02:00-05:00`")
