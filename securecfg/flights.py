"""Calls of services that are under way: each in a thread of its own, shared by all who ask the same."""

from __future__ import annotations

import copy
import threading
import time
from concurrent.futures import Future
from random import SystemRandom
from typing import TYPE_CHECKING, Any, TypeVar

from securecfg.errors import SecurecfgError, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from securecfg.patience import Patience

T = TypeVar("T")


class Flights:
    """The calls of one process that are under way.

    Args:
        name: What their threads are called.
    """

    def __init__(self, name: str) -> None:
        """Begin with none."""
        self._name = name
        self._lock = threading.Lock()
        self._flights: dict[Hashable, Future[Any]] = {}

    def fly(self, question: Hashable, ask: Callable[[], T], deadline_s: float) -> T:
        """Return the answer to a question, which is asked now unless somebody is asking it already.

        Args:
            question: Equal for calls that have the same answer.
            ask: Asks.
            deadline_s: How long to wait. The call is left behind then, and nobody joins it any more.

        Raises:
            TimeoutError: There was no answer in time.
            SecurecfgError: As `ask` raises it, which raises nothing else.
        """
        flight = self._join(question, ask)
        try:
            answer: T = flight.result(deadline_s)
        except TimeoutError:  # of the wait: the call itself raises only our own errors
            self._leave(question, flight)
            raise
        except SecurecfgError as error:
            # A copy for each who waits: hints are added, and the original drags along the frames of another thread.
            failure = copy.copy(error)
        else:
            return answer
        raise failure

    def _join(self, question: Hashable, ask: Callable[[], T]) -> Future[T]:
        with self._lock:
            flight: Future[T] | None = self._flights.get(question)
            if flight is None:
                flight = Future()
                threading.Thread(target=self._run, args=(question, flight, ask), name=self._name, daemon=True).start()
                self._flights[question] = flight
            return flight

    def _leave(self, question: Hashable, flight: Future[Any]) -> None:
        with self._lock:
            if self._flights.get(question) is flight:
                del self._flights[question]

    def _run(self, question: Hashable, flight: Future[T], ask: Callable[[], T]) -> None:
        # An answer is for those who are waiting for it and is kept for nobody, so the flight is left first.
        try:
            answer = ask()
        except BaseException as error:  # noqa: BLE001 - it is raised where somebody waits for it
            self._leave(question, flight)
            flight.set_exception(error)
        else:
            self._leave(question, flight)
            flight.set_result(answer)


def ask_again(call: Callable[[], T], patience: Patience, passing: type[Unavailable], note: Callable[[int], None]) -> T:
    """Return the answer of a service, asked again while what it says may pass.

    Args:
        call: Asks once.
        patience: How long, and how often.
        passing: What may pass. Where the service says when to come back, that is kept.
        note: Called with the number of each attempt that failed, before the next.

    Raises:
        SecurecfgError: As `call` raised it the last time.
    """
    until, random = time.monotonic() + patience.deadline_s, SystemRandom()
    for attempt, longest in enumerate(patience.pauses_s, start=1):
        try:
            return call()
        except passing as error:
            pause = max(random.uniform(0, longest), error.retry_after_s)
            if time.monotonic() + pause >= until:
                raise
        note(attempt)
        time.sleep(pause)
    return call()
