"""What arguments stand for: durations, moments, labels and pairs. No error repeats what was given."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from securecfg.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

_DURATION = r"(?:(\d{1,5})w)?(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9})s)?"


class Duration(click.ParamType[timedelta]):
    """A span of time such as `90d`, `12h` or `1h30m`."""

    name = "duration"

    def convert(self, value: object, _param: click.Parameter | None, _ctx: click.Context | None) -> timedelta:
        """Return the span.

        Raises:
            UsageError: It is not one.
        """
        if isinstance(value, timedelta):
            return value
        match = re.fullmatch(_DURATION, str(value), re.ASCII)
        if not value or match is None:
            message = "a duration is not written as one"
            raise UsageError(message, hint="for instance `90d`, `12h`, `15m` or `1h30m`")
        weeks, days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        return timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)


def written_duration(seconds: int) -> str:
    """Return a number of seconds as a `Duration` is written."""
    parts = []
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= length:
            parts.append(f"{seconds // length}{unit}")
            seconds %= length
    return "".join([*parts, f"{seconds}s"] if seconds or not parts else parts)


class Number(click.ParamType[int]):
    """A whole number from a least one on, such as a version."""

    name = "number"

    def __init__(self, least: int = 1) -> None:
        """Know the least."""
        self._least = least

    def convert(self, value: object, param: click.Parameter | None, _ctx: click.Context | None) -> int:
        """Return the number.

        Raises:
            UsageError: It is not one, or is too small.
        """
        text = str(value)
        if not (text.isascii() and text.isdecimal() and len(text) <= 9 and int(text) >= self._least):  # noqa: PLR2004 - 32 bits
            name = param.human_readable_name if param is not None else "it"
            message = f"{name} is not a whole number from {self._least} on"
            raise UsageError(message)
        return int(text)


class VersionName(click.ParamType[int | str]):
    """What names a version: its number from a least one on, or what a store that is mounted calls it."""

    name = "version"

    def __init__(self, least: int = 1) -> None:
        """Know the least number."""
        self._least = least

    def convert(self, value: object, param: click.Parameter | None, _ctx: click.Context | None) -> int | str:
        """Return the number or the name.

        Raises:
            UsageError: It is a number that is too small, or no text that a store would give.
        """
        text = str(value)
        number = _number_in(text)
        if (number is not None and number < self._least) or not text.isprintable() or not text:
            name = param.human_readable_name if param is not None else "it"
            message = f"{name} is neither a whole number from {self._least} on nor what a store calls a version"
            raise UsageError(message)
        return text if number is None else number


class At(click.ParamType[int | str | datetime]):
    """A version: its number, a label, or a moment."""

    name = "version"

    def convert(
        self, value: object, _param: click.Parameter | None, _ctx: click.Context | None
    ) -> int | str | datetime:
        """Return the version's number, the label or the moment.

        Raises:
            UsageError: It is a moment without a time zone.
        """
        if isinstance(value, datetime):
            return value
        text = str(value)
        number = _number_in(text)
        if number is not None:
            return number
        moment = parse_moment(text)
        return text if moment is None else moment


def _number_in(text: str) -> int | None:
    """Return the number that a text is; None for any other, and where it would not come out as it was written."""
    if text.isascii() and text.isdecimal() and len(text) <= 9 and (text == "0" or text[0] != "0"):  # noqa: PLR2004 - versions have 32 bits
        return int(text)
    return None


def parse_moment(text: str) -> datetime | None:
    """Return the moment that an ISO 8601 text stands for, or None; a date is its beginning in UTC.

    Raises:
        UsageError: It has a time and no time zone.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        if "T" in text or ":" in text:
            message = "a moment without a time zone is ambiguous"
            raise UsageError(message, hint="append `Z` for UTC, as in `2026-01-31T12:00:00Z`")
        return moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC)


def parse_pairs(pairs: Sequence[str], what: str, example: str) -> dict[str, str]:
    """Return `NAME=TEXT` arguments as a mapping.

    Args:
        pairs: As they are given.
        what: What they are, for errors.
        example: How one is given.

    Raises:
        UsageError: One has no `=`, or a name is given twice.
    """
    mapping: dict[str, str] = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not separator or not name or name in mapping:
            message = f"{what} is given as `NAME=TEXT`, each name once"
            raise UsageError(message, hint=f"for instance `{example}`")
        mapping[name] = text
    return mapping
