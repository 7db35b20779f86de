"""Time as an argument.

Whatever decides by time takes a `Clock`, so that tests and simulations can supply one.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from operator import index
from typing import Protocol

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Clock(Protocol):
    """A source of the current time."""

    def now_ns(self) -> int:
        """Return nanoseconds since 1970-01-01T00:00:00Z."""
        ...


class SystemClock:
    """The operating system's clock."""

    __slots__ = ()

    def now_ns(self) -> int:
        """Return nanoseconds since 1970-01-01T00:00:00Z."""
        return time.time_ns()


def to_datetime(ns: int) -> datetime:
    """Return nanoseconds since the epoch as an aware UTC datetime, cut to microseconds."""
    return _EPOCH + timedelta(0, 0, index(ns) // 1_000)


def to_ns(moment: datetime) -> int:
    """Return an aware datetime as nanoseconds since the epoch.

    Raises:
        ValueError: The datetime is naive.
    """
    if moment.tzinfo is None:
        message = "a datetime without a time zone is ambiguous"
        raise ValueError(message)
    delta = moment - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000_000 + delta.microseconds * 1_000
