"""Cron expressions: which times of the clock they mean, and when these are.

What an expression matches is `cronsim`'s answer, as Debian's cron has it. What happens where a clock is set is
decided here: `cronsim` passes over times where clocks move by half an hour, and may give a time that has gone by.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from securecfg.errors import ExtraMissing, InvalidRotation
from securecfg.rotation.windows import instant_of

if TYPE_CHECKING:
    from datetime import tzinfo

CRON_MAX = 128
"""Characters of an expression."""

_FIELDS = 5
_HOURS = 24
_FIRST = datetime(2000, 1, 1)  # noqa: DTZ001 - times of the clock; from here on 50 years hold each day of the calendar
_SHAPE = r"[0-9A-Za-z*/,#-]+(?: [0-9A-Za-z*/,#-]+){4}"
_STEP = timedelta(hours=26)  # longer than a clock is ever set back


def check_cron_shape(text: str) -> None:
    """Check that a text has five fields of the characters that there are, without asking what they mean.

    Raises:
        InvalidRotation: It has not.
    """
    if len(text) > CRON_MAX:
        message = f"a cron expression has more than {CRON_MAX} characters"
        raise _wrong(message)
    if not re.fullmatch(_SHAPE, text, re.ASCII):
        message = "a cron expression is not five fields"
        raise _wrong(message)


def check_cron(text: str) -> None:
    """Check that an expression means a time that there is.

    Raises:
        InvalidRotation: It means none within 50 years.
        ExtraMissing: `cronsim` is not installed.
    """
    check_cron_shape(text)
    _is_hourly(text)
    if _wall_after(text, _FIRST) is None:
        message = "a cron expression means a day that never comes"
        raise _wrong(message)


def cron_after(text: str, zone: tzinfo, moment: datetime) -> datetime | None:
    """Return the first time after a moment that an expression means, in UTC; None where there is none within 50 years.

    Args:
        text: Five fields.
        zone: Of which clock.
        moment: After when.

    Raises:
        InvalidRotation: The expression has no meaning.
        ExtraMissing: `cronsim` is not installed.
    """
    return (_hourly_after if _is_hourly(text) else _at_times_after)(text, zone, moment)


def explain_cron(text: str) -> str:
    """Return an expression in words: `at 03:00 every day`; as it is written, where `cronsim` is not installed."""
    written = f"by the cron expression `{text}`"
    try:
        from cronsim import CronSim
    except ImportError:
        return written
    try:
        said: str = CronSim(text, _FIRST).explain()
    except Exception:  # noqa: BLE001 - it raises what it likes over what is no expression
        return written
    return f"{said[0].lower()}{said[1:]} (cron `{text}`)"


def _at_times_after(text: str, zone: tzinfo, moment: datetime) -> datetime | None:
    """Of certain hours: each time of the clock counts once, also where the clock shows it twice or never."""
    wall: datetime | None = _wall(moment, zone)
    while wall is not None:
        wall = _wall_after(text, wall)
        if wall is not None:
            instant = instant_of(wall.date(), wall.hour * 60 + wall.minute, zone)
            if instant > moment:  # the first of two times may have gone by
                return instant
    return None


def _hourly_after(text: str, zone: tzinfo, moment: datetime) -> datetime | None:
    """Of all hours: they go by as they pass, and one that the clock shows twice counts twice."""
    change = _change_after(zone, moment)
    wall = _wall_after(text, _wall(moment, zone))
    found = None if wall is None else _as_it_passes(wall, zone, moment)
    if change is not None and (found is None or found >= change):
        # From the change itself on, which may be what the expression means.
        wall = _wall_after(text, _wall(change, zone) - timedelta(minutes=1))
        found = None if wall is None else _as_it_passes(wall, zone, change)
    return found


def _as_it_passes(wall: datetime, zone: tzinfo, since: datetime) -> datetime:
    """Return when a clock will show a time if it goes on as it did at a moment; if that is far off, when it does."""
    instant = (wall - _offset(since, zone)).replace(tzinfo=UTC)
    return instant if instant <= since + _STEP else instant_of(wall.date(), wall.hour * 60 + wall.minute, zone)


def _change_after(zone: tzinfo, moment: datetime) -> datetime | None:
    """Return when the clock is set next, where that is soon."""
    low, high = moment, moment + _STEP
    before = _offset(low, zone)
    if _offset(high, zone) == before:
        return None
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) // 2
        if _offset(middle, zone) == before:
            low = middle
        else:
            high = middle
    return high.replace(microsecond=0)


def _offset(moment: datetime, zone: tzinfo) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta()


def _wall(moment: datetime, zone: tzinfo) -> datetime:
    """Return what the clock shows, to the minute: what follows that and what follows a second of it is the same."""
    return moment.astimezone(zone).replace(second=0, microsecond=0, tzinfo=None, fold=0)


@lru_cache(maxsize=256)
def _is_hourly(text: str) -> bool:
    try:
        from cronsim import CronSim
    except ImportError:
        message = "a cron expression needs the package `cronsim`"
        raise ExtraMissing(message, hint="pip install 'securecfg-vault[rotation]'") from None
    check_cron_shape(text)
    try:
        hours: set[int] = CronSim(text, _FIRST).hours
    except Exception:  # noqa: BLE001 - a number too many for it is an `AssertionError` in places, and its text quotes nothing
        message = "a cron expression has a field that means nothing, or a day that never comes"
        raise _wrong(message) from None
    return len(hours) == _HOURS


@lru_cache(maxsize=16_384)
def _wall_after(text: str, wall: datetime) -> datetime | None:
    """Return the first time of a clock that an expression means, after another one, as if it went on evenly."""
    from cronsim import CronSim

    found: datetime | None = next(CronSim(text, wall), None)
    return found


def _wrong(message: str) -> InvalidRotation:
    return InvalidRotation(message, hint="minute, hour, day of the month, month, day of the week: `0 3 * * SAT`")
