"""Calls of remote providers that are under way: each in a thread of its own, shared by all who ask the same."""

from __future__ import annotations

import copy
import threading
import time
from concurrent.futures import Future
from random import SystemRandom
from typing import TYPE_CHECKING

from securecfg.crypto import KeyBytes
from securecfg.errors import KeyProviderUnavailable, SecurecfgError
from securecfg.keys.calls import guarded
from securecfg.keys.per_process import PerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from securecfg.keys.calls import Patience
    from securecfg.keys.provider import RemoteKeyProvider


class Flights:
    """The calls of one process that are under way."""

    def __init__(self) -> None:
        """Begin with none."""
        self._lock = threading.Lock()
        self._flights: dict[object, Future[KeyBytes]] = {}

    def join(self, question: object, ask: Callable[[], bytes]) -> Future[KeyBytes]:
        """Return the future answer to a question, which is asked now unless somebody is asking it already."""
        with self._lock:
            flight = self._flights.get(question)
            if flight is None:
                flight = Future()
                thread = threading.Thread(
                    target=self._run, args=(question, flight, ask), name="securecfg-key", daemon=True
                )
                thread.start()
                self._flights[question] = flight
            return flight

    def leave(self, question: object, flight: Future[KeyBytes]) -> None:
        """Let nobody join a flight any more."""
        with self._lock:
            if self._flights.get(question) is flight:
                del self._flights[question]

    def _run(self, question: object, flight: Future[KeyBytes], ask: Callable[[], bytes]) -> None:
        # An answer is for those who are waiting for it and is kept for nobody, so the flight is left first.
        try:
            answer = KeyBytes(ask())
        except BaseException as error:  # noqa: BLE001 - it is raised where somebody waits for it
            self.leave(question, flight)
            flight.set_exception(error)
        else:
            self.leave(question, flight)
            flight.set_result(answer)


# Single flight is a property of the process: its threads may hold different objects that name the same key.
_FLIGHTS = PerProcess(Flights)


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
    flights = _FLIGHTS.get()
    flight = flights.join(question, lambda: guarded(provider, lambda: _ask(call, patience)))
    try:
        return flight.result(patience.deadline_s)
    except TimeoutError:  # of the wait: the call itself raises only our own errors
        flights.leave(question, flight)
        message = f"`{provider.scheme}:` key `{provider.key_name}` gave no answer within {patience.deadline_s:g} s"
        raise KeyProviderUnavailable(message, hint="try again later") from None
    except SecurecfgError as error:
        # A copy for each who waits: hints are added to it, and the original drags along the frames of another thread.
        failure = copy.copy(error)
    raise failure


def _ask(call: Callable[[], bytes], patience: Patience) -> bytes:
    until = time.monotonic() + patience.deadline_s
    for attempt, pause in enumerate(_drawn(patience.pauses_s), start=1):
        try:
            return call()
        except KeyProviderUnavailable:
            if time.monotonic() + pause >= until:
                raise
        _note(attempt)
        time.sleep(pause)
    return call()


def _drawn(longest: Iterable[float]) -> Iterable[float]:
    random = SystemRandom()
    return (random.uniform(0, pause) for pause in longest)


def _note(attempt: int) -> None:
    import logging

    logging.getLogger("securecfg.keys").info(
        "a key service is unavailable and is asked again", extra={"event": "key.retried", "count": attempt}
    )
