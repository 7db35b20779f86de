"""When a rotation is due: values in, values out (`docs/security/rotation.md`, section 10).

No clock is read and nothing is drawn: who knows the same of a secret comes to the same time, on whatever machine.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC
from functools import lru_cache
from typing import TYPE_CHECKING, cast

from securecfg.errors import InvalidRotation
from securecfg.rotation.cron import check_cron, check_cron_shape, explain_cron
from securecfg.rotation.placing import LAST, Clock, Placing, from_us, to_us
from securecfg.rotation.windows import (
    WINDOWS_MAX,
    Window,
    checked_window,
    describe_window,
    opening_after,
    parse_window,
)
from securecfg.tuples import NamedTuple
from securecfg.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, tzinfo
    from typing import Final

EVERY_MAX_S: Final = 36_500 * 86_400
TTL_PERMILLE_MAX: Final = 950
"""The rest of a life is left for what may go wrong."""

JITTER_PERMILLE_MAX: Final = 500
DEFAULT_JITTER_PERMILLE: Final = 50
"""Of an interval; other schedules have none unless told."""

_FORMAT = 1
_UNITS = {"w": 604_800, "d": 86_400, "h": 3_600, "m": 60, "s": 1}
_NAMES = {"w": "week", "d": "day", "h": "hour", "m": "minute", "s": "second"}
_ECHO_MAX = 40
_ZONE_MAX = 64


class Schedule(NamedTuple):
    """When a secret is rotated: by one of `every_s`, `cron` and `ttl_permille`, or with none of them only when asked.

    `parse_schedule` and `from_json` make those that make sense.

    Attributes:
        every_s: At most so long after the current version was made; hours that pass, not days of a calendar.
        cron: When a clock shows what this says.
        ttl_permille: When so much of the life of the current version is over, in thousandths.
        jitter_permille: Over how much of that a time is spread, in thousandths.
        windows: When it may begin; always where there are none.
        zone: The time zone of `cron` and `windows`.
    """

    every_s: int | None = None
    cron: str | None = None
    ttl_permille: int | None = None
    jitter_permille: int = 0
    windows: tuple[Window, ...] = ()
    zone: str = "UTC"

    @property
    def is_asked_for(self) -> bool:
        """Whether it is due only when somebody asks."""
        return self.every_s is None and self.cron is None and self.ttl_permille is None

    def to_json(self) -> dict[str, object]:
        """Return what `from_json` takes: only objects, lists, text and whole numbers."""
        return {
            "format": _FORMAT,
            "every_s": self.every_s,
            "cron": self.cron,
            "ttl_permille": self.ttl_permille,
            "jitter_permille": self.jitter_permille,
            "windows": [[list(window.days), window.opens, window.closes] for window in self.windows],
            "zone": self.zone,
        }

    @staticmethod
    def from_json(document: Mapping[str, object]) -> Schedule:
        """Return the schedule of a document. What a cron expression means is looked at when it is used.

        Raises:
            InvalidRotation: It holds something else, or is of another format.
        """
        if not _has_shape(document):
            message = "a stored schedule is malformed, or of another version of this library"
            raise InvalidRotation(message, hint="set it anew, with the version that is to use it")
        fields = cast("dict[str, object]", {name: document[name] for name in Schedule._fields})
        windows = cast("list[tuple[list[int], int, int]]", document["windows"])
        fields["windows"] = tuple(checked_window(Window(tuple(days), *times)) for days, *times in windows)
        schedule = Schedule(**fields)  # type: ignore[arg-type]  # `_has_shape` has looked at them
        if schedule.cron is not None:
            check_cron_shape(schedule.cron)
        return _checked(schedule)


def parse_schedule(
    *,
    every: str | None = None,
    cron: str | None = None,
    ttl_fraction: str | None = None,
    jitter: str | None = None,
    windows: Sequence[str] = (),
    zone: str = "UTC",
) -> Schedule:
    """Return the schedule that people describe, with at most one of the first three.

    Args:
        every: Such as `30d`, `12h` or `1w`; units are s, m, h, d and w.
        cron: Five fields: minute, hour, day of the month, month and day of the week.
        ttl_fraction: Such as `0.8` or `80%`: of the time from when a version is made to when it expires.
        jitter: Such as `5%` or `0.05`; 5 % where it is not given with `every`.
        windows: Such as `Sat,Sun 02:00-05:00`.
        zone: Such as `Europe/Berlin`.

    Raises:
        InvalidRotation: It describes none, or several. The message says which part, the hint how one is written.
        ExtraMissing: A cron expression needs a library that is not installed.
    """
    if sum(given is not None for given in (every, cron, ttl_fraction)) > 1:
        message = "a schedule is an interval, a cron expression or a part of the life, and no two of them"
        raise InvalidRotation(message, hint="give one of `--every`, `--cron` and `--ttl-fraction`")
    if cron is not None:
        check_cron(cron)
    share = DEFAULT_JITTER_PERMILLE if every is not None else 0
    if jitter is not None:
        share = _parse_share("jitter", jitter, 0, JITTER_PERMILLE_MAX)
    if len(windows) > WINDOWS_MAX:
        message = f"a schedule has more than {WINDOWS_MAX} maintenance windows"
        raise InvalidRotation(message, hint="name several days in one, as in `Mon-Fri 02:00-05:00`")
    schedule = Schedule(
        None if every is None else _parse_interval(every),
        cron,
        None if ttl_fraction is None else _parse_share("ttl-fraction", ttl_fraction, 1, TTL_PERMILLE_MAX),
        share,
        tuple(_parse_window(number, text) for number, text in enumerate(windows, start=1)),
        zone,
    )
    return _checked(schedule)


def describe_schedule(schedule: Schedule) -> str:
    """Return a schedule in words: `every 30 days, Sat and Sun 02:00-05:00 Europe/Berlin`."""
    if schedule.every_s is not None:
        said = _describe_interval(schedule.every_s)
    elif schedule.cron is not None:
        said = explain_cron(schedule.cron)
    elif schedule.ttl_permille is not None:
        said = f"when {_percent(schedule.ttl_permille)} of its life is over"
    else:
        return "only when asked"
    parts = [said, *(describe_window(window) for window in schedule.windows)]
    if schedule.cron is not None or schedule.windows:
        parts[-1] += f" {schedule.zone}"
    usual = DEFAULT_JITTER_PERMILLE if schedule.every_s is not None else 0
    if schedule.jitter_permille != usual:
        parts.append(f"spread over {_percent(schedule.jitter_permille)}" if schedule.jitter_permille else "not spread")
    return ", ".join(parts)


def next_due(
    schedule: Schedule, *, after: datetime, created: datetime | None, expires: datetime | None, seed: bytes
) -> datetime | None:
    """Return when a secret is due next, in UTC; None for never.

    However much time has passed, a secret is due once: what comes out may have gone by. Never before `after`, inside a
    window where there are windows, and the same again for the same arguments.

    Args:
        schedule: By what.
        after: Since when nothing was due: when its last rotation was over, or the schedule was set. Not the time at
            which one asks: what was missed before it is forgotten.
        created: When the current version was made.
        expires: When it ceases to be good. What would be due too late for that is due in the last window before.
        seed: What spreads secrets that are due together, such as their numbers.

    Raises:
        InvalidRotation: The cron expression of a stored schedule has no meaning.
        ExtraMissing: A cron expression needs a library that is not installed.
        ValueError: A time has no time zone.
    """
    if any(moment is not None and moment.tzinfo is None for moment in (after, created, expires)):
        message = "a datetime without a time zone is ambiguous"
        raise ValueError(message)
    made, ends = (None if moment is None else to_us(moment) for moment in (created, expires))
    try:
        placing = Placing(schedule, Clock(schedule, zone_of(schedule.zone)))
        due = placing.due(to_us(after), made, ends, seed)
    except OverflowError:
        return None
    return from_us(due) if due is not None and due < LAST else None


def begin_at(schedule: Schedule, *, due: datetime, now: datetime) -> datetime:
    """Return from when on a secret may be rotated that is due, in UTC: where that is not later than now, at once.

    A time that was missed is made up for in a window, as it would have been kept in one.

    Args:
        schedule: By what.
        due: When it is due, as `next_due` says.
        now: The time.

    Raises:
        InvalidRotation: The time zone is not known on this machine.
    """
    moment = max(due, now).astimezone(UTC)
    if not schedule.windows:
        return moment
    return max(moment, opening_after(schedule.windows, zone_of(schedule.zone), moment).start)


@lru_cache(maxsize=64)
def zone_of(name: str) -> tzinfo:
    """Return a time zone by its name in the IANA database.

    Raises:
        InvalidRotation: There is none, or this machine does not know it.
    """
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo

    # Names of places begin with capitals; others, such as `localtime`, are another zone on another machine.
    if len(name) <= _ZONE_MAX and re.fullmatch(r"[A-Z][A-Za-z0-9_+-]*(?:/[A-Z][A-Za-z0-9_+-]*)*", name, re.ASCII):
        try:
            return ZoneInfo(name)
        except (OSError, ValueError, KeyError):
            pass
    message = f"there is no time zone {_shown(name)}, or this machine does not know it"
    raise InvalidRotation(
        message, hint="for instance `Europe/Berlin`; a machine without time zones needs the package `tzdata`"
    )


def _checked(schedule: Schedule) -> Schedule:
    if schedule.is_asked_for and (schedule.windows or schedule.jitter_permille):
        message = "maintenance windows and jitter are of a schedule, and there is none"
        raise InvalidRotation(message, hint="give `--every`, `--cron` or `--ttl-fraction` as well")
    zone_of(schedule.zone)
    return schedule


def _has_shape(document: object) -> bool:
    """Return whether a document has the fields of a schedule, each of its type and in its range."""
    if not isinstance(document, Mapping) or document.keys() != {"format", *Schedule._fields}:
        return False
    every, cron, ttl, windows = (document[name] for name in ("every_s", "cron", "ttl_permille", "windows"))
    return (
        _is_number(document["format"], _FORMAT, _FORMAT)
        and (every is None or _is_number(every, 1, EVERY_MAX_S))
        and (cron is None or isinstance(cron, str))
        and (ttl is None or _is_number(ttl, 1, TTL_PERMILLE_MAX))
        and sum(given is not None for given in (every, cron, ttl)) <= 1
        and _is_number(document["jitter_permille"], 0, JITTER_PERMILLE_MAX)
        and isinstance(document["zone"], str)
        and isinstance(windows, list)
        and len(windows) <= WINDOWS_MAX
        and all(map(_is_window, windows))
    )


def _is_window(item: object) -> bool:
    return (
        isinstance(item, list)
        and [type(part) for part in item] == [list, int, int]
        and len(item[0]) <= 7  # noqa: PLR2004 - days of a week
        and all(type(day) is int for day in item[0])
    )


def _is_number(value: object, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _parse_interval(text: str) -> int:
    match = re.fullmatch(r"([1-9][0-9]{0,9})([smhdw])", text, re.ASCII)
    seconds = int(match[1]) * _UNITS[match[2]] if match else 0
    if not 1 <= seconds <= EVERY_MAX_S:
        message = f"`--every`: {_shown(text)} is no interval of up to 36,500 days"
        raise InvalidRotation(message, hint="for instance `30d`; units are s, m, h, d and w")
    return seconds


def _parse_share(option: str, text: str, least: int, most: int) -> int:
    """Return a share in thousandths."""
    match = re.fullmatch(r"([0-9]{1,3})(?:\.([0-9]{1,3}))?(%?)", text, re.ASCII)
    thousandths = -1
    if match:
        whole, part, percent = match[1], match[2] or "", match[3]
        if not (percent and len(part) > 1):  # what is finer would not come out as it was written
            thousandths = int(whole + part.ljust(1 if percent else 3, "0"))
    if not least <= thousandths <= most:
        message = f"`--{option}`: {_shown(text)} is no share from {_percent(least)} to {_percent(most)}"
        raise InvalidRotation(message, hint="for instance `0.8`" if option == "ttl-fraction" else "for instance `5%`")
    return thousandths


def _parse_window(number: int, text: str) -> Window:
    try:
        return parse_window(text)
    except InvalidRotation as error:
        message = f"`--window` {number}, {_shown(text)}: {error.message}"
        raise InvalidRotation(message, hint=error.hint) from None


def _describe_interval(seconds: int) -> str:
    unit = next(unit for unit, length in _UNITS.items() if seconds % length == 0 and unit != "w")
    number = seconds // _UNITS[unit]
    return f"every {_NAMES[unit]}" if number == 1 else f"every {counted(number, _NAMES[unit])}"


def _percent(permille: int) -> str:
    return f"{permille // 10}{f'.{permille % 10}' if permille % 10 else ''} %"


def _shown(text: str) -> str:
    """Return what was given as an error shows it: not more than one line of it, and no control characters."""
    shown = ascii(text[:_ECHO_MAX])[1:-1].replace("`", "'")
    return f"`{shown}{'...' if len(text) > _ECHO_MAX else ''}`"
