"""What a request over HTTP that failed leaves in doubt, and when to come back."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from securecfg.errors import BackendNotReached, BackendRefused, BackendUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator


class Refusal(BackendRefused):
    """The service refuses, for a reason that the backend may know better by its code.

    Attributes:
        reason: The code.
    """

    reason: str = ""


@contextmanager
def looking_first() -> Iterator[None]:
    """Let a request that only looks, before anything is changed, leave nothing in doubt where it has no answer."""
    try:
        yield
    except BackendUnavailable as error:
        unchanged = BackendNotReached(error.message, hint=error.hint)
        unchanged.retry_after_s = error.retry_after_s
        raise unchanged from None


def is_sent(error: Any) -> bool:  # noqa: ANN401 - the package `requests` has no types
    """Return whether a request may have arrived for which `requests` raised an error."""
    from ssl import SSLCertVerificationError

    from requests.exceptions import ConnectTimeout, ProxyError
    from urllib3.exceptions import NewConnectionError

    if isinstance(error, ConnectTimeout | ProxyError | ValueError):  # the last: it is no request
        return False
    reason = getattr(error.args[0] if error.args else None, "reason", None)
    cause = reason.args[0] if reason is not None and reason.args else None
    return not isinstance(reason, NewConnectionError) and not isinstance(cause, SSLCertVerificationError)


def parse_date(text: str | None) -> datetime | None:
    """Return the time that a header of HTTP names, None where it names none."""
    try:
        found = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    return found if found.tzinfo else None


def parse_retry_after(text: str | None) -> float:
    """Return how many seconds a `Retry-After` means, which is a number of them or a date; 0 where it means nothing."""
    if text and text.isascii() and text.isdigit():
        return float(text)
    until = parse_date(text)
    return max(0.0, (until - datetime.now(UTC)) / timedelta(seconds=1)) if until else 0.0
