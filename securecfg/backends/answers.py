"""What is the same for all servers that are asked over HTTP: that an answer makes no sense."""

from __future__ import annotations

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
