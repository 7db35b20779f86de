"""Leads rotations on: stores each step before it is taken, and takes it.

The way of a step:

1. hold it             nobody else is at work, or has been for the time of the lease
2. what is next        by the state that is stored
3. read                the versions that the rotator is given, each decided on and recorded
4. call                the rotator, once, bounded in time, under a lease that is good
5. store               what it came to: state, versions and record in one transaction
"""

from __future__ import annotations

import secrets
import threading
from concurrent.futures import Future
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from securecfg.clock import to_datetime, to_ns
from securecfg.errors import (
    CandidateRejected,
    CredentialRefused,
    InvalidRotation,
    PrivilegeMissing,
    RotationBusy,
    SecretDestroyed,
    SecurecfgError,
    TargetUnavailable,
    Unavailable,
    VersionNotFound,
)
from securecfg.rotation import machine
from securecfg.rotation.breaker import Breakers
from securecfg.rotation.document import NS
from securecfg.rotation.due import due_after
from securecfg.rotation.interface import Run, Strategy
from securecfg.rotation.lease import Leases
from securecfg.rotation.machine import State
from securecfg.rotation.names import open_rotator
from securecfg.rotation.references import resolve_options
from securecfg.rotation.steps import Steps
from securecfg.secret import Secret
from securecfg.vault.changes import content_of
from securecfg.vault.drafts import NewVersion
from securecfg.vault.paths import path_to_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from securecfg.rotation.document import Rotation, Stored
    from securecfg.rotation.interface import Candidate, Fields, Options, Rotator
    from securecfg.rotation.machine import Progress
    from securecfg.rotation.steps import Effect
    from securecfg.vault.commits.publishing import Plan
    from securecfg.vault.drafts import Drafts
    from securecfg.vault.vault import Vault

T = TypeVar("T")

BROKEN = "rotator-broken"
"""The reason where a rotator raises what is no error of this library."""

_RENEWALS = 3
"""How often a lease is renewed in its time, as long as a call takes."""

_MARGIN_S = 1.0
"""How much longer than its time a call may take until it is left behind."""


class Runner:
    """Leads the rotations of one vault on, as the vault's principal. One thread at a time works at one rotation.

    Args:
        vault: The vault itself.
        leases: Who this is as a holder.
        breakers: What is known of targets that do not answer.
        jitter: Returns a random number from 0 up to 1.
        find: Returns a rotator by its name and options.
        observe: Is told of each step.
        pace: Called with a target before each call of it; may wait, to call it no more often than it should be.
    """

    def __init__(
        self,
        vault: Vault,
        *,
        leases: Leases | None = None,
        breakers: Breakers | None = None,
        jitter: Callable[[], float] | None = None,
        find: Callable[[str, Options], Rotator] = open_rotator,
        observe: Callable[[StepDetails], None] = lambda _: None,
        pace: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Do nothing yet."""
        self.observe, self.pace = observe, pace
        self.is_stopping = False
        self.vault = vault
        self.steps = Steps(vault.authority)
        self.leases = leases or Leases()
        self.breakers = breakers or Breakers(self.leases.now_s)
        self.jitter = jitter or secrets.SystemRandom().random
        self.find = find

    def advance(self, stored: Stored, why: str = "") -> Stored:
        """Lead a rotation on as far as can be done now, and return what it has come to. Never sleeps.

        Args:
            stored: The rotation as it was seen last.
            why: What it is to begin for where none is under way: `due`, `asked` or `exposed`; empty begins none.

        Raises:
            RotationBusy: Another process is at work, or changed the rotation meanwhile.
            AccessDenied: The policy does not allow it, or not any more.
            CommitUnknown, StoreBusy, StoreFailed, AuditUnavailable: The vault cannot be written; what was stored last
                is what to go on from.
        """
        try:
            return _Work(self, stored).go(why)
        finally:
            self.leases.ended(stored.rotation.record)

    def stop(self) -> None:
        """Begin no further step: what is under way is left where it is stored, for whoever goes on."""
        self.is_stopping = True


class StepDetails(NamedTuple):
    """A step that was stored; may get more fields.

    Attributes:
        rotator: The rotator's name.
        from_: The state before, `idle` where a rotation began.
        to: The state after, the same where something was only noted.
        reason: The code of what went wrong; empty where nothing did.
        began_ns: When the rotation began.
        due_ns: When it was due; 0 where somebody asked for it.
        token: Of the rotation, by which the vault's log tells which one it is.
        started_ns: When the step was begun.
        ended_ns: When it was stored.
    """

    rotator: str
    from_: str
    to: str
    reason: str
    began_ns: int
    due_ns: int
    token: str = ""
    started_ns: int = 0
    ended_ns: int = 0


class _CallFailed(Exception):
    """A rotator has failed for a reason that only a person can mend."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class _Work:
    """The work at one rotation, from taking the lease to giving it back."""

    def __init__(self, runner: Runner, stored: Stored) -> None:
        self._runner = runner
        self._vault = runner.vault
        self._leases = runner.leases
        self._stored = stored
        self._started_ns = self._now_ns()
        self._rotator: Rotator | None = None

    def go(self, why: str) -> Stored:
        """Lead the rotation on."""
        rotation = self._stored.rotation
        if self._runner.is_stopping or rotation.is_paused:
            return self._stored
        if not (self._has_work() if rotation.is_running else why):
            return self._stored
        if not self._leases.may_take(self._stored):
            message = f"another process is at work on the rotation of `{rotation.path}`"
            hint = f"it has the lease for {self._leases.free_in_s(self._stored):.0f} s more, if it does nothing"
            raise RotationBusy(message, hint=hint)
        if rotation.is_running:
            # Whoever held it may have called the target and died, or been cut off, before it could say so.
            is_known = rotation.holder is None and self._progress.is_known
            self._note(self._progress._replace(is_known=is_known))
        else:
            token, now = secrets.token_hex(16), self._now_ns()
            self._move("idle", lambda _: machine.begin(token, now, why))
        while self._has_work():
            self._step()
        if self._stored.rotation.holder is not None:
            self._note(self._progress)  # to give the lease back
        return self._stored

    # --- 2: what is next ---------------------------------------------------------------------------------------------

    def _has_work(self) -> bool:
        return not self._runner.is_stopping and has_work(self._stored.rotation, self._now_ns())

    def _step(self) -> None:
        state = self._progress.state
        try:
            _STEPS[state](self)
        except TargetUnavailable as error:
            after_ns = int(error.retry_after_s * NS)
            jitter = self._runner.jitter()
            self._note(machine.unavailable(self._progress, self._now_ns(), error.code, jitter, after_ns))
        except _CallFailed as failure:
            self._to(machine.failed(self._progress, self._now_ns(), failure.code))

    def propose(self) -> None:
        """Ask for a candidate, in `begun`."""
        run = self._run()
        candidate: Candidate = self._call(lambda rotator: rotator.propose(run))
        value, path = candidate.value, self._encoded
        try:
            _verify_candidate(self._opened_rotator, value, run)
            content = content_of(_plain(value))
        except SecurecfgError as error:
            raise _CallFailed(error.code) from None
        finally:
            del value
        expires = to_ns(candidate.ends) if candidate.ends is not None else 0
        new = NewVersion(self._vault.principal, self._now_ns(), expires)
        del candidate

        def effect(drafts: Drafts) -> Plan:
            return drafts.propose(path, content, new)

        self._move(State.BEGUN, lambda version: machine.proposed(self._progress, version), effect)

    def apply(self) -> None:
        """Make the target accept the candidate, in `pending`."""
        run = self._run()
        if not self._progress.is_known:
            accepted = self._find_out(run)
            if accepted == "pending":
                self._to(machine.applied(self._progress))
                return
            if accepted == "previous":
                self._swap_back()
                return
        try:
            self._call(lambda rotator: rotator.apply(run))
        except CandidateRejected as error:
            if run.pending is not None and self._accepts(run.pending, run):
                self._to(machine.applied(self._progress))
                return
            now, jitter = self._now_ns(), self._runner.jitter()
            self._to(machine.rejected(self._progress, secrets.token_hex(16), now, error.code, jitter))
        except CredentialRefused as error:
            self._to(machine.refused(self._progress, self._now_ns(), error.code, self._runner.jitter()))
        else:
            self._to(machine.applied(self._progress))

    def verify(self) -> None:
        """Try the candidate, in `set`; in `tested` swap the labels, or try it again where somebody else had."""
        run = self._run()
        progress = self._progress
        if progress.state is State.TESTED and progress.is_known:
            self._swap()
            return
        try:
            self._call(lambda rotator: rotator.verify(_there(run.pending), run))
        except CredentialRefused as error:
            propagation_ns = self._stored.rotation.rules.propagation_s * NS
            self._to(machine.not_yet(progress, self._now_ns(), error.code, propagation_ns))
            return
        if progress.state is State.TESTED:
            self._note(self._progress._replace(is_known=True))
        else:
            self._to(machine.tested(self._progress))

    def _swap(self) -> None:
        version, path = self._progress.version, self._encoded
        grace_ns = self._stored.rotation.rules.grace_s * NS

        def effect(drafts: Drafts) -> Plan:
            return drafts.swap(path, version)

        self._move(
            State.TESTED,
            lambda former: machine.swapped(self._progress, former, self._now_ns(), grace_ns),
            effect,
        )

    def _swap_back(self) -> None:
        """Let readers have the version that the target accepts."""
        path, previous = self._encoded, self._runner.steps.standing(self._path).previous

        def effect(drafts: Drafts) -> Plan:
            return drafts.swap(path, previous)

        progress = self._progress._replace(is_known=True, reason="restored")
        self._move(progress.state, lambda _: progress, effect)

    def release(self) -> None:
        """Say that nobody needs the old version any more, in `current`."""
        self._to(machine.released(self._progress))

    def retire(self) -> None:
        """Make the target refuse the old version, in `previous`."""
        progress = self._progress
        current, former = (self._read(number) for number in (progress.version, progress.former))
        if former is not None and current is not None:
            run = self._with(Run(*self._noted(), current=current, previous=former))
            try:
                self._call(lambda rotator: rotator.retire(run))
            except CredentialRefused as error:
                self._to(machine.refused(self._progress, self._now_ns(), error.code, self._runner.jitter()))
                return
        self._finish(machine.retired(self._progress), progress.former if former is not None else 0)

    def cancel(self) -> None:
        """Take the rotation back, in `cancelling`."""
        progress = self._progress
        if progress.version:
            run = self._versions()
            if run.pending is not None and self._accepts(run.pending, run):
                self._take_back(run)
            if run.current is not None and not self._accepts(run.current, run):
                raise _CallFailed(CredentialRefused.code)
        pending = self._runner.steps.standing(self._path).pending
        self._finish(machine.cancelled(self._progress), pending)

    def _take_back(self, run: Run) -> None:
        current, pending = run.current, run.pending
        try:
            if self._opened_rotator.strategy is Strategy.SINGLE_SLOT:
                # Read from right to left: what was current takes the place of the candidate.
                self._call(lambda rotator: rotator.apply(run._replace(current=pending, pending=current)))
            else:
                self._call(lambda rotator: rotator.retire(run._replace(previous=pending, pending=None)))
        except (CandidateRejected, CredentialRefused) as error:
            raise _CallFailed(error.code) from None

    def _finish(self, progress: Progress, ended: int) -> None:
        """Store that a rotation is over, with the deletion of the version that it leaves behind."""
        steps, path, now = self._runner.steps, self._encoded, self._now_ns()
        rotation = self._stored.rotation
        due = due_after(rotation.rules, rotation.record, now, steps.standing(self._path))
        is_retired = progress.state is State.RETIRED

        def effect(drafts: Drafts) -> Plan:
            return drafts.delete(path, ended, now)

        def after(_: int) -> Rotation:
            return rotation._replace(
                progress=progress,
                holder=None,
                due_ns=due,
                rotations=rotation.rotations + is_retired,
                finished_ns=now if is_retired else rotation.finished_ns,
            )

        self._store(self._progress.state, progress, after, effect if ended else None)

    # --- 3: read -----------------------------------------------------------------------------------------------------

    def _run(self) -> Run:
        """Return what a rotator is given before the swap."""
        run = self._versions()
        if self._progress.version and run.pending is None:
            # Somebody deleted it: there is nothing to go on with.
            raise _CallFailed(VersionNotFound.code)
        return run

    def _versions(self) -> Run:
        """Return the same where the candidate may have been deleted, which is nothing to be taken back."""
        standing = self._runner.steps.standing(self._path)
        current, previous = self._read(standing.current), self._read(standing.previous)
        pending = self._read(self._progress.version) if self._progress.version == standing.pending else None
        return self._with(Run(*self._noted(), current=current, previous=previous, pending=pending))

    def _noted(self) -> tuple[str, datetime, float]:
        progress, rules = self._progress, self._stored.rotation.rules
        return progress.token, to_datetime(progress.since_ns), float(rules.timeout_s)

    def _with(self, run: Run) -> Run:
        """Return a run, with the rotator at hand that it is for."""
        if self._rotator is None:
            rules = self._stored.rotation.rules
            try:
                self._rotator = self._runner.find(rules.rotator, resolve_options(self._vault, rules.options))
            except Unavailable:
                raise  # the vault's own
            except SecurecfgError as error:
                raise _CallFailed(error.code) from None
        return run

    def _read(self, number: int) -> Fields | None:
        """Return a version as a rotator gets it, None where there is none any more."""
        if not number:
            return None
        try:
            value = self._vault.read(self._path, at=number, allow_expired=True).value
        except (VersionNotFound, SecretDestroyed):
            return None
        return MappingProxyType({"": value}) if isinstance(value, Secret) else value

    # --- 4: call -----------------------------------------------------------------------------------------------------

    def _find_out(self, run: Run) -> str:
        """Return which version the target accepts, in the order of section 4 of the contract; empty for none."""
        for name in ("pending", "current", "previous"):
            value: Fields | None = getattr(run, name)
            if value is not None and self._accepts(value, run):
                return name
        return ""

    def _accepts(self, value: Fields, run: Run) -> bool:
        try:
            self._call(lambda rotator: rotator.verify(value, run), is_missing_fine=True)
        except CredentialRefused:
            return False
        return True

    def _call(self, ask: Callable[[Rotator], T], *, is_missing_fine: bool = False) -> T:
        """Call the rotator once.

        Raises:
            TargetUnavailable, CandidateRejected, CredentialRefused: As the rotator raises it.
            _CallFailed: It raised something else.
        """
        rotator, breakers = self._opened_rotator, self._runner.breakers
        target = rotator.target
        breakers.verify(target)
        self._runner.pace(target)
        try:
            answer = self._in_time(lambda: ask(rotator))
        except TargetUnavailable:
            breakers.failed(target)
            raise
        except (CandidateRejected, CredentialRefused):
            breakers.answered(target)
            raise
        except PrivilegeMissing as error:
            breakers.answered(target)
            if is_missing_fine:
                return None  # type: ignore[return-value]  # of `verify`, which returns nothing
            raise _CallFailed(error.code) from None
        except SecurecfgError as error:
            raise _CallFailed(error.code) from None
        breakers.answered(target)
        return answer

    def _in_time(self, ask: Callable[[], T]) -> T:
        """Return the answer of a call, in a thread that is left behind in the end; the lease is renewed meanwhile."""
        lease_s, timeout_s = self._leases.holder.lease_s, self._stored.rotation.rules.timeout_s + _MARGIN_S
        if self._leases.left_s(self._stored.rotation.record) < lease_s / _RENEWALS:
            self._note(self._progress)
        answer: Future[T] = Future()
        threading.Thread(target=_ask, args=(ask, answer), name="securecfg-rotator", daemon=True).start()
        until = self._leases.now_s() + timeout_s
        while True:
            left = until - self._leases.now_s()
            try:
                return answer.result(max(0.0, min(left, lease_s / _RENEWALS)))
            except TimeoutError:
                if answer.done():
                    raise  # what the call itself raised
                if left <= 0:
                    message = "the target gave no answer in time"
                    raise TargetUnavailable(message) from None
                self._note(self._progress)

    # --- 5: store ----------------------------------------------------------------------------------------------------

    def _to(self, progress: Progress) -> None:
        """Store another state, or what has happened in this one."""
        self._move(self._progress.state, lambda _: progress)

    def _note(self, progress: Progress) -> None:
        """Store what has happened without another state, and renew the lease."""
        self._move(progress.state, lambda _: progress)

    def _move(self, from_: str, after: Callable[[int], Progress], effect: Effect | None = None) -> None:
        rotation = self._stored.rotation
        sample = after(0)

        def whole(result: int) -> Rotation:
            changed = rotation._replace(progress=after(result))
            # The lease is given back with the last thing that can be done for now.
            is_done = self._runner.is_stopping or not has_work(changed, self._now_ns())
            holder = None if is_done else self._leases.holder
            return changed._replace(holder=holder)

        self._store(from_, sample, whole, effect)

    def _store(self, from_: str, progress: Progress, after: Callable[[int], Rotation], effect: Effect | None) -> None:
        began_s = self._leases.now_s()
        obj: dict[str, object] = {"path": self._path, "token": progress.token, "from": str(from_)}
        obj |= {"to": str(progress.state)} | ({"ver": progress.version} if progress.version else {})
        obj |= {"reason": progress.reason} if progress.reason else {}
        rules, due_ns = self._stored.rotation.rules, self._stored.rotation.due_ns
        self._stored = self._runner.steps.change(self._stored, after, obj, effect)
        if self._stored.rotation.holder is None:
            self._leases.ended(self._stored.rotation.record)
        else:
            self._leases.taken(self._stored.rotation.record, began_s)
        due_ns = due_ns if progress.why == "due" else 0
        details = (rules.rotator, str(from_), str(progress.state), progress.reason, progress.began_ns, due_ns)
        started_ns, self._started_ns = self._started_ns, self._now_ns()
        self._runner.observe(StepDetails(*details, progress.token, started_ns, self._started_ns))

    # --- short names -------------------------------------------------------------------------------------------------

    @property
    def _progress(self) -> Progress:
        progress = self._stored.rotation.progress
        assert progress is not None  # noqa: S101 - asked of rotations that have begun
        return progress

    @property
    def _path(self) -> str:
        return self._stored.rotation.path

    @property
    def _encoded(self) -> bytes:
        return path_to_bytes(self._path)

    @property
    def _opened_rotator(self) -> Rotator:
        assert self._rotator is not None  # noqa: S101 - `_run` has found it
        return self._rotator

    def _now_ns(self) -> int:
        return self._vault.opened.clock.now_ns()


_STEPS: Mapping[State, Callable[[_Work], None]] = MappingProxyType(
    {
        State.BEGUN: _Work.propose,
        State.PENDING: _Work.apply,
        State.SET: _Work.verify,
        State.TESTED: _Work.verify,
        State.CURRENT: _Work.release,
        State.PREVIOUS: _Work.retire,
        State.CANCELLING: _Work.cancel,
    }
)


def has_work(rotation: Rotation, now_ns: int) -> bool:
    """Return whether a rotation that is under way can be led on now."""
    progress = rotation.progress
    if progress is None or rotation.is_paused or progress.is_over or progress.state is State.FAILED:
        return False
    consumers = rotation.rules.consumers
    if progress.state is State.CURRENT and consumers and set(consumers) <= set(progress.acknowledged):
        return True
    return progress.not_before_ns <= now_ns


def _ask(ask: Callable[[], T], answer: Future[T]) -> None:
    try:
        answer.set_result(ask())
    except SecurecfgError as error:
        # Without the frames of the call, whose variables hold values.
        answer.set_exception(error.with_traceback(None))
    except BaseException:  # noqa: BLE001 - foreign code; its text could quote a value
        answer.set_exception(_CallFailed(BROKEN))


def _verify_candidate(rotator: Rotator, value: Secret[str] | Secret[bytes] | Fields, run: Run) -> None:
    """Check that a candidate is for the login that the current version is for.

    Raises:
        InvalidRotation: It is not.
    """
    fields = {} if isinstance(value, Secret) else value
    for name in rotator.identity:
        known = None if run.current is None else run.current.get(name)
        new = fields.get(name)
        if (known is None) is not (new is None) or (known is not None and new is not None and known != new):
            message = f"the candidate is for another login: its field `{name}` differs"
            raise InvalidRotation(message)


def _plain(value: Secret[str] | Secret[bytes] | Fields) -> str | bytes | dict[str, str | bytes]:
    if isinstance(value, Secret):
        return value.reveal()
    return {name: field.reveal() for name, field in value.items()}


def _there(value: Fields | None) -> Fields:
    assert value is not None  # noqa: S101 - there is a candidate in every state that is tried
    return value
