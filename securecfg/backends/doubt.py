"""What a request that failed leaves in doubt."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from securecfg.errors import BackendNotReached, BackendUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def looking_first() -> Iterator[None]:
    """Let a request that only looks, before anything is changed, leave nothing in doubt where it has no answer."""
    try:
        yield
    except BackendUnavailable as error:
        unchanged = BackendNotReached(error.message, hint=error.hint)
        unchanged.retry_after_s = error.retry_after_s
        raise unchanged from None


def is_sent(error: Any) -> bool:  # noqa: ANN401 - the package that raises it has no types
    """Return whether a request may have arrived, whose client raised what `requests` has."""
    from ssl import SSLCertVerificationError

    from requests.exceptions import ConnectTimeout
    from urllib3.exceptions import ConnectTimeoutError, NewConnectionError, ProxyError

    if isinstance(error, ConnectTimeout | ValueError):  # the latter: it is no request
        return False
    reason = error.args[0] if error.args else None
    reason = getattr(reason, "reason", reason)
    if isinstance(reason, ProxyError):  # so it is called, too, where the proxy breaks off what it has handed on
        reason = reason.original_error
    cause = reason.args[0] if isinstance(reason, Exception) and reason.args else None
    is_tunnel_refused = type(reason) is OSError
    return not (
        isinstance(reason, NewConnectionError | ConnectTimeoutError)
        or isinstance(cause, SSLCertVerificationError)
        or is_tunnel_refused
    )
