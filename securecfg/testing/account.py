"""An account at a simulated target, with the rotator for it: what the real ones do wrong, it does on demand."""

from __future__ import annotations

import threading
from enum import StrEnum
from typing import TYPE_CHECKING

from securecfg.errors import CandidateRejected, CredentialRefused, PrivilegeMissing, TargetUnavailable
from securecfg.rotation import Candidate, Strategy
from securecfg.rotation.passwords import ALPHABETS, Rules, new_password
from securecfg.rotation.values import text_of, with_field
from securecfg.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.rotation import Fields, Options, Rotator, Run

_RULES = Rules(24, ALPHABETS["alphanumeric"])


class Mood(StrEnum):
    """What the target does with what it is asked.

    Attributes:
        WELL: What it should.
        REJECTING: It will have no new password.
        UNREACHABLE: Nobody answers.
        LOST_ANSWER: It does what it is asked, and the answer is lost.
        SLOW_TO_KNOW: What it was told counts only after it was asked for it three times.
        FLAPPING: Every second call is not answered.
        HALF_APPLIED: It forgets the old password, fails, and knows the new one only when it is told again.
        LOCKED: The login works, and may do nothing.
    """

    WELL = "well"
    REJECTING = "rejecting"
    UNREACHABLE = "unreachable"
    LOST_ANSWER = "lost-answer"
    SLOW_TO_KNOW = "slow-to-know"
    FLAPPING = "flapping"
    HALF_APPLIED = "half-applied"
    LOCKED = "locked"


class Account:
    """One account at a target. Any thread may use it.

    Args:
        password: What it accepts at first.
        strategy: Whether it accepts several passwords at a time.
    """

    def __init__(self, password: str, strategy: Strategy = Strategy.OVERLAPPING) -> None:
        """Accept the first password."""
        self.strategy = strategy
        self.mood = Mood.WELL
        self.calls: list[str] = []
        self.hook: Callable[[str], None] = lambda _: None
        self._lock = threading.Lock()
        self._accepted = {password}
        self._unknown: dict[str, int] = {}
        self._has_failed = False

    def accepts(self, password: str) -> bool:
        """Return whether a login would work, without one."""
        with self._lock:
            return password in self._accepted and not self._unknown.get(password)

    @property
    def accepted(self) -> frozenset[str]:
        """The passwords that it accepts, or will."""
        with self._lock:
            return frozenset(self._accepted)

    def set_accepted(self, *passwords: str) -> None:
        """Make it accept just these."""
        with self._lock:
            self._accepted = set(passwords)
            self._unknown.clear()

    def rotator(self, name: str = "account", options: Options | None = None) -> Rotator:
        """Return a rotator for it; for `Runner(find=...)`."""
        del name, options
        return _AccountRotator(self)

    def tell(self, password: str) -> None:
        """Ask it to accept a password."""
        self._begin("apply")
        with self._lock:
            if self.mood is Mood.REJECTING and password not in self._accepted:
                message = "the target will not have this password"
                raise CandidateRejected(message)
            if self.mood is Mood.HALF_APPLIED and not self._has_failed:
                self._has_failed = True
                if self.strategy is Strategy.SINGLE_SLOT:
                    self._accepted.clear()
                raise _unreachable()
            if password not in self._accepted and self.mood is Mood.SLOW_TO_KNOW:
                self._unknown[password] = 3
            if self.strategy is Strategy.SINGLE_SLOT:
                self._accepted.clear()
            self._accepted.add(password)
        self._end("apply")

    def log_in(self, password: str) -> None:
        """Log in, and do what the account is for."""
        self._begin("verify")
        with self._lock:
            if password in self._accepted and self._unknown.get(password):
                self._unknown[password] -= 1
            elif password in self._accepted:
                if self.mood is Mood.LOCKED:
                    message = "the login may do nothing"
                    raise PrivilegeMissing(message)
                return
            message = "the target refuses the login"
            raise CredentialRefused(message)

    def forget(self, password: str) -> None:
        """Ask it to refuse a password from now on."""
        self._begin("retire")
        with self._lock:
            self._accepted.discard(password)
        self._end("retire")

    def _begin(self, call: str) -> None:
        self.hook(f"before {call}")
        self.calls.append(call)
        if self.mood is Mood.UNREACHABLE or (self.mood is Mood.FLAPPING and len(self.calls) % 2):
            raise _unreachable()

    def _end(self, call: str) -> None:
        self.hook(f"after {call}")
        if self.mood is Mood.LOST_ANSWER and not self._has_failed:
            self._has_failed = True
            raise _unreachable()


class _AccountRotator:
    identity = frozenset({"username"})
    target = "account"

    def __init__(self, account: Account) -> None:
        self._account = account
        self.strategy = account.strategy

    def propose(self, run: Run, /) -> Candidate:
        return Candidate(with_field(run.current, "password", Secret(new_password(_RULES))))

    def apply(self, run: Run, /) -> None:
        self._account.tell(text_of(run.pending, "password").reveal())

    def verify(self, value: Fields, run: Run, /) -> None:
        del run
        self._account.log_in(text_of(value, "password").reveal())

    def retire(self, run: Run, /) -> None:
        if self.strategy is not Strategy.SINGLE_SLOT:
            self._account.forget(text_of(run.previous, "password").reveal())


def _unreachable() -> TargetUnavailable:
    return TargetUnavailable("the target does not answer")
