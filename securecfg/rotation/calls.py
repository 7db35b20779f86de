"""Calls of rotators, one at a time, bounded in time and held by a lease.

A rotator is foreign code: of what it raises the code of the error is kept and no word of it, for that could be a value.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

from securecfg.errors import (
    CandidateRejected,
    CredentialRefused,
    InvalidRotation,
    PrivilegeMissing,
    SecurecfgError,
    TargetUnavailable,
)
from securecfg.rotation.breaker import Breakers
from securecfg.rotation.document import NS
from securecfg.rotation.interface import Strategy

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from securecfg.rotation.interface import Fields, Rotator, Run
    from securecfg.rotation.lease import Leases

T = TypeVar("T")

BROKEN = "rotator-broken"
"""The reason where a rotator raises what is no error of this library."""

_RENEWALS = 3
"""How often a lease is renewed in its time, as long as a call takes."""

_NO_CALL: Future[object] = Future()
_NO_CALL.set_result(None)

_MARGIN_S = 1.0
"""How much longer than its time a call may take until it is left behind."""


class CallFailed(Exception):
    """A rotator has failed for a reason that only a person can mend."""

    def __init__(self, code: str) -> None:
        """Keep the code, which is all that is told."""
        super().__init__(code)
        self.code = code


class Held(Protocol):
    """What is held while a rotator is called: the work at one rotation."""

    def hold(self, at_least_s: float) -> None:
        """Renew the lease unless it is good for some time yet.

        Raises:
            RotationBusy: It was over before the renewal was stored: another process may be at work.
        """

    def renew(self) -> None:
        """Renew the lease in the middle of a step.

        Raises:
            RotationBusy: Another process has changed the rotation.
        """


class CheckedRotator:
    """A rotator, with what it says of itself, asked for once."""

    def __init__(self, rotator: Rotator) -> None:
        """Ask for it."""
        self.rotator = rotator
        self.strategy, self.target = Strategy(rotator.strategy), str(rotator.target)
        self.identity = frozenset(rotator.identity)

    def verify_login(self, fields: Fields, run: Run) -> None:
        """Check that a candidate is for the login that the current version is for.

        Raises:
            InvalidRotation: It is not.
        """
        for name in self.identity:
            known = None if run.current is None else run.current.get(name)
            new = fields.get(name)
            if (known is None) is not (new is None) or (known is not None and new is not None and known != new):
                message = f"the candidate is for another login: its field `{name}` differs"
                raise InvalidRotation(message)


class Calls:
    """The calls of one process, and which of them it has left behind.

    Args:
        leases: By whose clock they are bounded.
        breakers: What is known of targets that do not answer; nothing yet unless given.
        pace: Called with a target before each call of it; may wait, to call it no more often than it should be.
    """

    def __init__(
        self, leases: Leases, breakers: Breakers | None = None, pace: Callable[[str], None] = lambda _: None
    ) -> None:
        """Call nothing yet."""
        self._leases, self._breakers, self._pace = leases, breakers or Breakers(leases.now_s), pace
        self._under_way: dict[Hashable, Future[object]] = {}
        self._lock = threading.Lock()

    def are_over(self, key: Hashable) -> bool:
        """Return whether no call for a rotation is under way that was left behind."""
        return self._under_way.get(key, _NO_CALL).done()

    def make(
        self,
        key: Hashable,
        rotator: CheckedRotator,
        ask: Callable[[Rotator], T],
        *,
        held: Held,
        timeout_s: float,
        is_missing_fine: bool = False,
    ) -> T:
        """Call a rotator once.

        Args:
            key: Tells the rotation that it is for from all others.
            rotator: The rotator.
            ask: Calls it.
            held: What is held meanwhile.
            timeout_s: How long it may take.
            is_missing_fine: Whether a privilege that is missing is as good as an answer; of calls that return nothing.

        Raises:
            TargetUnavailable, CandidateRejected, CredentialRefused: As the rotator raises it.
            CallFailed: It raised something else.
            RotationBusy: Another process may be at work. The call is left behind where it was made.
        """
        breakers, target = self._breakers, rotator.target
        breakers.verify(target)
        self._pace(target)
        # What goes wrong in the vault meanwhile is no answer of the target, and does not count as one.
        given = self._in_time(key, lambda: ask(rotator.rotator), held, timeout_s + _MARGIN_S)
        try:
            if given is None:
                message = "the target gave no answer in time"
                raise TargetUnavailable(message)
            answer = given.result()
        except TargetUnavailable:
            breakers.failed(target)
            raise
        except (CandidateRejected, CredentialRefused):
            breakers.answered(target)
            raise
        except PrivilegeMissing as error:
            breakers.answered(target)
            if is_missing_fine:
                return None  # type: ignore[return-value]  # of a call that returns nothing
            raise CallFailed(code_of(error)) from None
        except SecurecfgError as error:
            raise CallFailed(code_of(error)) from None
        breakers.answered(target)
        return answer

    def _in_time(self, key: Hashable, ask: Callable[[], T], held: Held, timeout_s: float) -> Future[T] | None:
        """Make a call, in a thread that is left behind in the end; the lease is renewed meanwhile.

        Returns:
            What it came to; None where it has not ended in time.
        """
        lease_s = self._leases.holder.lease_s
        held.hold(lease_s / _RENEWALS)
        answer: Future[T] = Future()
        with self._lock:
            self._under_way[key] = cast("Future[object]", answer)
        answer.add_done_callback(lambda _: self._forget(key, answer))
        try:
            threading.Thread(target=_ask, args=(ask, answer), name="securecfg-rotator", daemon=True).start()
        except RuntimeError:  # the system has no more of them
            self._forget(key, answer)
            message = "there is no thread to call the target in"
            raise TargetUnavailable(message) from None
        until = self._leases.now_s() + timeout_s
        while True:
            left = until - self._leases.now_s()
            wait((answer,), max(0.0, min(left, lease_s / _RENEWALS)))
            if answer.done():
                return answer
            if left <= 0:
                return None
            held.renew()

    def _forget(self, key: Hashable, answer: Future[T]) -> None:
        """Keep no answer, which may be a value; but for another call's, made since this one was left behind."""
        with self._lock:
            if self._under_way.get(key) is answer:
                del self._under_way[key]


def code_of(error: SecurecfgError) -> str:
    """Return the code of the class of this library that an error is of; what foreign code says could be a value."""
    families = (each for each in type(error).__mro__ if issubclass(each, SecurecfgError))
    return next(family.code for family in families if family.__module__ == SecurecfgError.__module__)


def pause_ns(seconds: float) -> int:
    """Return how long a target wants to be left alone; foreign code says so."""
    if not isinstance(seconds, int | float):
        return 0
    try:
        return max(int(seconds * NS), 0)
    except (OverflowError, ValueError):
        return 0


def _ask(ask: Callable[[], T], answer: Future[T]) -> None:
    try:
        answer.set_result(ask())
    except SecurecfgError as error:
        # Without the frames of the call, whose variables hold values.
        answer.set_exception(error.with_traceback(None))
    except BaseException:  # noqa: BLE001 - foreign code; its text could quote a value
        answer.set_exception(CallFailed(BROKEN))
