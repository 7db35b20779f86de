"""The states of a rotation, as a table, and what each outcome of a step leads to. Pure: values in, values out.

Sections 2, 4 and 5 of `docs/security/rotation.md`. The runner calls a function for what has happened, and stores what
it returns before it does anything else.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

REJECTIONS_MAX = 2
"""Of one candidate, before another one is made."""

CANDIDATES_MAX = 3
"""Of one rotation, before a person is needed."""

SETBACKS_MAX = 3
"""How often a candidate that was accepted may be found refused, or a login be refused, before a person is needed."""

FIRST_PAUSE_NS = 5_000_000_000
LONGEST_PAUSE_NS = 3_600_000_000_000
FIRST_PROPAGATION_PAUSE_NS = 200_000_000
LONGEST_PROPAGATION_PAUSE_NS = 5_000_000_000
_DOUBLINGS_MAX = 40


class State(StrEnum):
    """How far a rotation is; section 2 of the contract says what is true in each."""

    BEGUN = "begun"
    PENDING = "pending"
    SET = "set"
    TESTED = "tested"
    CURRENT = "current"
    PREVIOUS = "previous"
    RETIRED = "retired"
    FAILED = "failed"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


OVER = frozenset((State.RETIRED, State.CANCELLED))
"""Nothing is left to be done."""

BEFORE_SWAP = frozenset((State.BEGUN, State.PENDING, State.SET, State.TESTED))
"""Readers get the old version yet, and the rotation may be taken back."""

TRANSITIONS: Mapping[State, frozenset[State]] = MappingProxyType(
    {
        State.BEGUN: frozenset((State.PENDING, State.FAILED, State.CANCELLING)),
        State.PENDING: frozenset((State.BEGUN, State.SET, State.FAILED, State.CANCELLING)),
        State.SET: frozenset((State.PENDING, State.TESTED, State.FAILED, State.CANCELLING)),
        State.TESTED: frozenset((State.PENDING, State.CURRENT, State.FAILED, State.CANCELLING)),
        State.CURRENT: frozenset((State.PREVIOUS,)),
        State.PREVIOUS: frozenset((State.RETIRED, State.FAILED)),
        State.RETIRED: frozenset(),
        State.FAILED: frozenset(
            (State.BEGUN, State.PENDING, State.SET, State.TESTED, State.PREVIOUS, State.CANCELLING)
        ),
        State.CANCELLING: frozenset((State.CANCELLED, State.FAILED)),
        State.CANCELLED: frozenset(),
    }
)
"""Every transition that there is. Staying in a state, to note what happened in it, is none."""

RETRIED = TRANSITIONS[State.FAILED]
"""The states in which a rotation may fail."""

WITH_CANDIDATE = frozenset((State.PENDING, State.SET, State.TESTED, State.CURRENT, State.PREVIOUS, State.RETIRED))
"""There is a candidate, or what was one."""


class IllegalTransition(Exception):
    """The caller wants what the table has not: a mistake of this package, never of a target."""


class Progress(NamedTuple):
    """How far one rotation is.

    Attributes:
        token: Of the present candidate: 32 hexadecimal digits.
        state: The state.
        began_ns: When the rotation began.
        since_ns: When the token was noted down.
        why: What began it: `due`, `asked` or `exposed`.
        version: The candidate's number, 0 before there is one.
        former: The number of the version that it takes the place of; 0 before the swap.
        is_known: Whether it is known what the target accepts. It is not after a call that failed.
        attempts: Calls that failed one after the other.
        rejections: How often the target rejected the present candidate.
        candidates: How many there have been.
        setbacks: How often what was accepted was found refused.
        not_before_ns: When the next step may be taken.
        tried_ns: When the present candidate was tried first since it was applied; 0 before.
        swapped_ns: When it became current; 0 before.
        failed_in: The state in which it failed, where it has.
        failed_ns: When it failed last; 0 for never.
        reason: Why it waits or has failed: the code of an error; empty where all is well.
        acknowledged: The consumers that have the new version.
    """

    token: str
    state: State
    began_ns: int
    since_ns: int
    why: str
    version: int = 0
    former: int = 0
    is_known: bool = True
    attempts: int = 0
    rejections: int = 0
    candidates: int = 0
    setbacks: int = 0
    not_before_ns: int = 0
    tried_ns: int = 0
    swapped_ns: int = 0
    failed_in: State | None = None
    failed_ns: int = 0
    reason: str = ""
    acknowledged: tuple[str, ...] = ()

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to be done."""
        return self.state in OVER


def begin(token: str, now_ns: int, why: str) -> Progress:
    """Return a rotation that begins."""
    return Progress(token, State.BEGUN, now_ns, now_ns, why)


def proposed(progress: Progress, version: int) -> Progress:
    """A candidate is stored; nobody was told of it."""
    at = _to(progress, State.PENDING)
    return _well(at)._replace(version=version, candidates=at.candidates + 1, rejections=0, tried_ns=0)


def applied(progress: Progress) -> Progress:
    """The target accepts the candidate, or says so."""
    return _well(_to(progress, State.SET))._replace(tried_ns=0)


def tested(progress: Progress) -> Progress:
    """What logs in with the candidate can do what it is for."""
    return _well(_to(progress, State.TESTED))


def swapped(progress: Progress, former: int, now_ns: int, grace_ns: int) -> Progress:
    """The candidate is current; the old version may be retired when the grace is over."""
    at = _to(progress, State.CURRENT)
    return _well(at)._replace(former=former, swapped_ns=now_ns, not_before_ns=now_ns + grace_ns, setbacks=0, tried_ns=0)


def swapped_later(progress: Progress, now_ns: int, grace_ns: int) -> Progress:
    """The clock was put back to before the swap: the grace begins anew, neither cut short nor as long as the jump."""
    if progress.state is not State.CURRENT:
        raise IllegalTransition
    return progress._replace(swapped_ns=now_ns, not_before_ns=now_ns + grace_ns)


def acknowledged(progress: Progress, principal: str) -> Progress:
    """A consumer has the new version."""
    if progress.state is not State.CURRENT:
        raise IllegalTransition
    return progress._replace(acknowledged=tuple(sorted({*progress.acknowledged, principal})))


def released(progress: Progress) -> Progress:
    """Nobody needs the old version any more."""
    return _well(_to(progress, State.PREVIOUS))


def retired(progress: Progress) -> Progress:
    """The target refuses the old version."""
    return _well(_to(progress, State.RETIRED))


def rejected(progress: Progress, token: str, now_ns: int, reason: str, jitter: float) -> Progress:
    """The target will not have the candidate. It is repeated, or another is made under another token, or it fails."""
    count = progress.rejections + 1
    if count < REJECTIONS_MAX:
        return unavailable(progress, now_ns, reason, jitter)._replace(rejections=count)
    if progress.candidates >= CANDIDATES_MAX:
        return failed(progress, now_ns, reason)
    return _anew(_to(progress, State.BEGUN), token, now_ns)._replace(reason=reason)


def unavailable(progress: Progress, now_ns: int, reason: str, jitter: float, retry_after_ns: int = 0) -> Progress:
    """A call failed in a way that may pass. What the target accepts is unknown, and it is asked later.

    Args:
        progress: Before.
        now_ns: When.
        reason: The code of the error.
        jitter: A random number from 0 up to 1.
        retry_after_ns: How long the target wants to be left alone.
    """
    longest = min(FIRST_PAUSE_NS << min(progress.attempts, _DOUBLINGS_MAX), LONGEST_PAUSE_NS)
    pause = max(int(longest * (1 + jitter) / 2), min(retry_after_ns, LONGEST_PAUSE_NS))
    return progress._replace(
        attempts=progress.attempts + 1, not_before_ns=now_ns + pause, is_known=False, reason=reason
    )


def refused(progress: Progress, now_ns: int, reason: str, jitter: float) -> Progress:
    """What the rotator logs in with is refused, which may pass; after some times it fails."""
    if progress.setbacks + 1 >= SETBACKS_MAX:
        return failed(progress, now_ns, reason)
    return unavailable(progress, now_ns, reason, jitter)._replace(setbacks=progress.setbacks + 1)


def not_yet(progress: Progress, now_ns: int, reason: str, propagation_ns: int) -> Progress:
    """The target does not accept what was applied: it may be slow, until the deadline.

    A candidate is applied again then. What is current after the swap, or is to be that again, is what only a person
    can mend.
    """
    tried = progress.tried_ns or now_ns
    # A clock that was put back must not make it wait for ever.
    if not 0 <= now_ns - tried < propagation_ns:
        if progress.state not in BEFORE_SWAP or progress.setbacks + 1 >= SETBACKS_MAX:
            return failed(progress, now_ns, reason)
        at = _to(progress, State.PENDING)
        return at._replace(setbacks=progress.setbacks + 1, tried_ns=0, attempts=0, is_known=False, reason=reason)
    longest = FIRST_PROPAGATION_PAUSE_NS << min(progress.attempts, _DOUBLINGS_MAX)
    pause = min(longest, LONGEST_PROPAGATION_PAUSE_NS, max(propagation_ns - (now_ns - tried), 0))
    return progress._replace(
        tried_ns=tried, attempts=progress.attempts + 1, not_before_ns=now_ns + pause, reason=reason
    )


def failed(progress: Progress, now_ns: int, reason: str) -> Progress:
    """A person is needed."""
    return _to(progress, State.FAILED)._replace(
        failed_in=progress.state, failed_ns=now_ns, reason=reason, not_before_ns=0, is_known=False
    )


def retry(progress: Progress) -> Progress:
    """A person says that it may go on; all is counted anew, and what the target accepts is found out first."""
    if progress.state is not State.FAILED or progress.failed_in is None:
        raise IllegalTransition
    at = _to(progress, State.CANCELLING if progress.failed_in is State.CANCELLING else progress.failed_in)
    return at._replace(
        failed_in=None, reason="", attempts=0, rejections=0, setbacks=0, candidates=min(at.candidates, 1), tried_ns=0
    )


def retry_anew(progress: Progress, token: str, now_ns: int) -> Progress:
    """A person says that it may go on, and there is no candidate any more: another one is made."""
    if progress.state is not State.FAILED or progress.failed_in not in BEFORE_SWAP:
        raise IllegalTransition
    at = _anew(_to(progress, State.BEGUN), token, now_ns)
    return at._replace(failed_in=None, reason="", setbacks=0, candidates=0)


def redirected(progress: Progress) -> Progress:
    """Its rotator has other options: what the target accepts is found out, at once unless consumers are waited for."""
    is_waiting = progress.state in {State.CURRENT, State.FAILED}
    return progress._replace(is_known=False, not_before_ns=progress.not_before_ns if is_waiting else 0)


def cancel(progress: Progress) -> Progress:
    """A person wants it taken back, before the swap."""
    if progress.failed_in is State.PREVIOUS:
        raise IllegalTransition
    at = _to(progress, State.CANCELLING)
    return at._replace(failed_in=None, reason="", attempts=0, setbacks=0, not_before_ns=0, tried_ns=0, is_known=False)


def cancelled(progress: Progress) -> Progress:
    """It is taken back."""
    return _well(_to(progress, State.CANCELLED))


def _to(progress: Progress, state: State) -> Progress:
    if state not in TRANSITIONS[progress.state]:
        raise IllegalTransition
    return progress._replace(state=state)


def _anew(progress: Progress, token: str, now_ns: int) -> Progress:
    return progress._replace(
        token=token, since_ns=now_ns, version=0, rejections=0, attempts=0, not_before_ns=0, tried_ns=0
    )


def _well(progress: Progress) -> Progress:
    return progress._replace(attempts=0, not_before_ns=0, reason="", is_known=True)
