"""What is the same for all servers that are asked over HTTP: what an answer means, and that there is none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, TypeVar

from securecfg.errors import BackendUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def understood(call: Callable[[], T], server: str) -> T:
    """Return what is made of an answer, which makes no sense where a lookup, type or value fails.

    Args:
        call: Asks, and takes the answer apart.
        server: What it is called in an error, such as `the etcd server`.

    Raises:
        BackendUnavailable: It makes no sense.
    """
    try:
        return call()
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError):
        pass
    message = f"{server} gave no answer that can be understood"
    raise BackendUnavailable(message, hint=f"is it {server} that the address leads to?")


def parse_date(text: str | None) -> datetime | None:
    """Return the time that a header tells, None where it tells none."""
    try:
        found = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    return found if found.tzinfo else None


def parse_retry_after(text: str | None) -> float:
    """Return how many seconds a `Retry-After` means, which is a number of them or a date; 0 where it means none."""
    if text and text.isascii() and text.isdigit():
        return float(text)
    until = parse_date(text)
    return max(0.0, (until - datetime.now(UTC)) / timedelta(seconds=1)) if until else 0.0
