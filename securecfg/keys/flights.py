"""Calls of remote providers that are under way, one for all who ask the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.crypto import KeyBytes
from securecfg.errors import KeyProviderUnavailable
from securecfg.flights import Flights, ask_again
from securecfg.keys.calls import guarded
from securecfg.keys.per_process import PerProcess

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.keys.provider import RemoteKeyProvider
    from securecfg.patience import Patience

# Single flight is a property of the process: its threads may hold different objects that name the same key.
_FLIGHTS = PerProcess(lambda: Flights("securecfg-key"))


def fly(provider: RemoteKeyProvider, question: object, call: Callable[[], bytes], patience: Patience) -> KeyBytes:
    """Return the answer of a service, asked as `patience` allows.

    Args:
        provider: Who asks the service.
        question: Equal for calls that have the same answer.
        call: Asks once.
        patience: How long to wait, and how often to ask again.

    Raises:
        KeyProviderUnavailable: The service cannot be reached, or does not answer in time.
        SecurecfgError: As the provider promised.
    """

    def ask() -> KeyBytes:
        return KeyBytes(guarded(provider, lambda: ask_again(call, patience, KeyProviderUnavailable, _note)))

    try:
        return _FLIGHTS.get().fly(question, ask, patience.deadline_s)
    except TimeoutError:
        message = f"`{provider.scheme}:` key `{provider.key_name}` gave no answer within {patience.deadline_s:g} s"
    raise KeyProviderUnavailable(message, hint="try again later")


def _note(attempt: int) -> None:
    import logging

    logging.getLogger("securecfg.keys").info(
        "a key service is unavailable and is asked again", extra={"event": "key.retried", "count": attempt}
    )
