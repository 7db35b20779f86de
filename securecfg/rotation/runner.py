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
from contextlib import suppress
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from securecfg.clock import to_datetime, to_ns
from securecfg.errors import (
    AccessDenied,
    CandidateRejected,
    CredentialRefused,
    InvalidRotation,
    RotationBusy,
    SecretDestroyed,
    SecretNotFound,
    SecurecfgError,
    TargetUnavailable,
    Unavailable,
    VersionNotFound,
)
from securecfg.rotation import machine
from securecfg.rotation.calls import BROKEN, CallFailed, Calls, CheckedRotator, code_of, pause_ns
from securecfg.rotation.document import NS
from securecfg.rotation.due import due_after
from securecfg.rotation.interface import Run, Strategy
from securecfg.rotation.lease import Leases
from securecfg.rotation.machine import State
from securecfg.rotation.names import open_rotator
from securecfg.rotation.parts import verify_led
from securecfg.rotation.references import resolve_options
from securecfg.rotation.steps import Standing, Steps
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
    from securecfg.vault.drafts import Content, Drafts
    from securecfg.vault.vault import Vault

T = TypeVar("T")


class Runner:
    """Leads the rotations of one vault on, as the vault's principal. One thread at a time works at one rotation.

    Args:
        vault: The vault itself, or a sealed scope of it, as `parts.part_of` returns them.
        leases: Who this is as a holder.
        calls: How targets are called; one for all runners of a process that are for the same part.
        jitter: Returns a random number from 0 up to 1.
        find: Returns a rotator by its name and options.
        observe: Is told of each step.
    """

    def __init__(
        self,
        vault: Vault,
        *,
        leases: Leases | None = None,
        calls: Calls | None = None,
        jitter: Callable[[], float] | None = None,
        find: Callable[[str, Options], Rotator] = open_rotator,
        observe: Callable[[StepDetails], None] = lambda _: None,
    ) -> None:
        """Do nothing yet."""
        self.observe = observe
        self.is_stopping = False
        self.vault = vault
        self.steps = Steps(vault.authority)
        self.leases = leases or Leases()
        self.calls = calls or Calls(self.leases)
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
            ScopeSealed: The secret lies in a sealed scope that the key at hand does not both read and write.
            ExtraMissing: The schedule needs a library that is not installed here; nothing was done.
            CommitUnknown, StoreBusy, StoreFailed, AuditUnavailable: The vault cannot be written; what was stored last
                is what to go on from.
        """
        verify_led(self.vault.opened, stored.rotation.path)
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


class _Work:
    """The work at one rotation, from taking the lease to giving it back."""

    def __init__(self, runner: Runner, stored: Stored) -> None:
        self._runner = runner
        self._vault = runner.vault
        self._leases = runner.leases
        self._stored = stored
        self._started_ns = self._now_ns()
        self._rotator: CheckedRotator | None = None
        self._standing = Standing(0, 0, 0)

    def go(self, why: str) -> Stored:
        """Lead the rotation on."""
        rotation = self._stored.rotation
        if self._runner.is_stopping or rotation.is_paused:
            return self._stored
        if not (self._has_work() if rotation.is_running else why):
            return self._stored
        if not self._runner.calls.are_over(self._key):
            # What it tells the target late would undo what is told in between.
            message = f"a call of the target for `{rotation.path}` was left behind, and is not over"
            raise RotationBusy(
                message, hint="it may do what it was to do yet; a rotator that hangs ends with its process"
            )
        if not self._leases.may_take(self._stored):
            message = f"another process is at work on the rotation of `{rotation.path}`"
            hint = f"it has the lease for {self._leases.free_in_s(self._stored):.0f} s more, if it does nothing"
            raise RotationBusy(message, hint=hint)
        self._next_due_ns()  # where that cannot be worked out, what is begun or led on could not be ended
        if rotation.is_running:
            # Whoever held it may have called the target and died, or given it back long ago: it is found out again.
            self._note(self._progress._replace(is_known=False))
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
            jitter = self._runner.jitter()
            after_ns = pause_ns(error.retry_after_s)
            self._note(machine.unavailable(self._progress, self._now_ns(), code_of(error), jitter, after_ns))
        except (CandidateRejected, CredentialRefused) as error:
            self._to(machine.refused(self._progress, self._now_ns(), code_of(error), self._runner.jitter()))
        except CallFailed as failure:
            self._to(machine.failed(self._progress, self._now_ns(), failure.code))

    def propose(self) -> None:
        """Ask for a candidate, in `begun`."""
        run = self._run()
        path, now = self._encoded, self._now_ns()
        content, expires = self._take(self._call(lambda rotator: rotator.propose(run)), run)
        new = NewVersion(self._vault.principal, now, expires)

        def effect(drafts: Drafts) -> Plan:
            return drafts.propose(path, content, new)

        self._move(State.BEGUN, lambda version: machine.proposed(self._progress, version), effect)

    def _take(self, candidate: Candidate, run: Run) -> tuple[Content, int]:
        """Return what is to be stored of a candidate, and when it ends.

        Raises:
            CallFailed: It is for another login, or none that can be stored.
        """
        try:
            value = candidate.value
            self._opened_rotator.verify_login({} if isinstance(value, Secret) else value, run)
            expires = to_ns(candidate.ends) if candidate.ends is not None else 0
            if candidate.ends is not None and expires <= self._now_ns():
                raise CallFailed(InvalidRotation.code)
            return content_of(_plain(value)), expires
        except SecurecfgError as error:
            raise CallFailed(code_of(error)) from None
        except CallFailed:
            raise
        except Exception:  # noqa: BLE001 - what foreign code has returned; the text of the error could quote a value
            raise CallFailed(BROKEN) from None
        finally:
            del candidate, run
            value = None  # type: ignore[assignment]  # a traceback that shows locals must not show it

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
            if not self._accepts(_there(run.pending), run):
                now, jitter = self._now_ns(), self._runner.jitter()
                after = machine.rejected(self._progress, secrets.token_hex(16), now, code_of(error), jitter)
                if after.state is State.BEGUN:
                    self._drop_rejected(run)
                self._to(after)
                return
        self._to(machine.applied(self._progress))

    def _drop_rejected(self, run: Run) -> None:
        """Let nothing be left at the target of a candidate that it has rejected."""
        try:
            self._drop(run)
        except CredentialRefused:
            if self._accepts(_there(run.current), run):
                raise
            # A target that knows none of them takes nothing away: it is to know what is current first.
            self._call(lambda rotator: rotator.apply(run._replace(current=run.pending, pending=run.current)))
            self._drop(run)

    def _drop(self, run: Run) -> None:
        """Let nothing be left at the target of a candidate that will not be current."""
        if self._opened_rotator.strategy is not Strategy.SINGLE_SLOT:
            self._call(lambda rotator: rotator.retire(run._replace(previous=run.pending, pending=None)))

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
            self._to(machine.not_yet(progress, self._now_ns(), code_of(error), propagation_ns))
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
        path, tried = self._encoded, self._standing

        def effect(drafts: Drafts) -> Plan:
            if (drafts.number(path, "current"), drafts.number(path, "previous")) != (tried.current, tried.previous):
                message = f"`{path.decode()}` was written in the same moment"
                raise RotationBusy(message, hint="what the target accepts of it by now is found out")
            return drafts.swap(path, tried.previous)

        progress = self._progress._replace(is_known=True, reason="restored")
        self._move(progress.state, lambda _: progress, effect)

    def release(self) -> None:
        """Say that nobody needs the old version any more, in `current`."""
        progress, rules, now = self._progress, self._stored.rotation.rules, self._now_ns()
        if now < progress.swapped_ns and not _has_acknowledged(self._stored.rotation):
            self._note(machine.swapped_later(progress, now, rules.grace_s * NS))
            return
        self._to(machine.released(progress))

    def retire(self) -> None:
        """Make the target refuse the old version, in `previous`."""
        progress = self._progress
        number = self._runner.steps.standing(self._path).current
        current, former = self._read(number), self._read(progress.former)
        self._runner.steps.verify_place(self._stored.rotation)
        if current is None:
            raise CallFailed(SecretNotFound.code)
        if former is None or former == current:
            # Somebody deleted the old version, or made its value current again, which must go on to be accepted.
            self._finish(machine.retired(progress), 0)
            return
        run = self._with(Run(*self._noted(), current=current, previous=former))
        self._verify_login(run._replace(pending=former))
        # The target may have been restored meanwhile: the old version may be the only one that it accepts.
        if not self._works(current, run):
            if number == progress.version:
                self._call(lambda rotator: rotator.apply(Run(*self._noted(), current=former, pending=current)))
            if not self._works(current, run):
                self._not_yet()
                return
        self._call(lambda rotator: rotator.retire(run))
        self._finish(machine.retired(self._progress), progress.former)

    def _not_yet(self) -> None:
        propagation_ns = self._stored.rotation.rules.propagation_s * NS
        self._to(machine.not_yet(self._progress, self._now_ns(), CredentialRefused.code, propagation_ns))

    def cancel(self) -> None:
        """Take the rotation back, in `cancelling`."""
        if not self._progress.version:
            self._take_issued_back()
        elif not self._take_back(self._versions()):
            self._not_yet()
            return
        pending = self._runner.steps.standing(self._path).pending
        self._finish(machine.cancelled(self._progress), pending)

    def _take_issued_back(self) -> None:
        """Let a target that issues credentials take back what nobody has stored.

        To propose again removes what an earlier call with the token has left, and what that gives is retired at once.
        Where the target has reasons not to, nothing more can be done: the rotation is over all the same.
        """
        with suppress(CandidateRejected, CredentialRefused, CallFailed):
            run = self._versions()
            if run.current is None or self._opened_rotator.strategy not in {Strategy.OVERLAPPING, Strategy.LEASED}:
                return
            value = self._call(lambda rotator: rotator.propose(run)).value
            issued = MappingProxyType({"": value}) if isinstance(value, Secret) else value
            del value
            self._call(lambda rotator: rotator.retire(run._replace(previous=issued, pending=None)))

    def _take_back(self, run: Run) -> bool:
        """Make the target accept what is current, and then the candidate no more; return whether that is so."""
        current, pending = run.current, run.pending
        if current is None:
            raise CallFailed(SecretNotFound.code)
        if not self._accepts(current, run):
            # Read from right to left: what was current takes the place of the candidate.
            other = run.previous if pending is None else pending
            if pending is not None:
                self._verify_login(run)
            elif self._standing.current > self._progress.version:
                # Written since, and there is no candidate any more to tell for whom it should be.
                raise CallFailed(InvalidRotation.code)
            self._call(lambda rotator: rotator.apply(run._replace(current=other, pending=current)))
            if not self._accepts(current, run):
                return False
        if pending is not None and pending != current:
            self._drop(run)
        return True

    def _finish(self, progress: Progress, ended: int) -> None:
        """Store that a rotation is over, with the deletion of the version that it leaves behind."""
        path, due, now = self._encoded, self._next_due_ns(), self._now_ns()
        rotation = self._stored.rotation
        is_retired = progress.state is State.RETIRED

        def effect(drafts: Drafts) -> Plan:
            return drafts.delete(path, ended, now)

        def after(_: int) -> Rotation:
            return rotation._replace(
                progress=progress,
                holder=None,
                due_ns=due,
                # Who takes it back does not want it begun anew at once.
                is_paused=rotation.is_paused or (not is_retired and 0 < due <= now),
                rotations=rotation.rotations + is_retired,
                finished_ns=now if is_retired else rotation.finished_ns,
            )

        self._store(self._progress.state, progress, after, effect if ended else None)

    def _next_due_ns(self) -> int:
        """Return when the secret is due again if this is over now.

        Raises:
            ExtraMissing: The schedule needs a library that is not installed.
        """
        rotation, standing = self._stored.rotation, self._runner.steps.standing(self._path)
        return due_after(rotation.rules, rotation.record, self._now_ns(), standing)

    # --- 3: read -----------------------------------------------------------------------------------------------------

    def _run(self) -> Run:
        """Return what a rotator is given before the swap."""
        run = self._versions()
        if run.current is None:
            raise CallFailed(SecretNotFound.code)
        if self._progress.version:
            if run.pending is None:
                # Somebody deleted it: there is nothing to go on with.
                raise CallFailed(VersionNotFound.code)
            self._verify_login(run)
        return run

    def _versions(self) -> Run:
        """Return the same where the candidate may have been deleted, which is nothing to be taken back."""
        self._standing = standing = self._runner.steps.standing(self._path)
        version = self._progress.version
        current, previous = self._read(standing.current), self._read(standing.previous)
        pending = self._read(version) if version == standing.pending else None
        # Of a secret that was moved, these are another one's values.
        self._runner.steps.verify_place(self._stored.rotation)
        return self._with(Run(*self._noted(), current=current, previous=previous, pending=pending))

    def _verify_login(self, run: Run) -> None:
        """Check that what is current, which somebody may have written by hand, is for the login of another version."""
        try:
            self._opened_rotator.verify_login(_there(run.pending), run)
        except InvalidRotation as error:
            raise CallFailed(code_of(error)) from None

    def _noted(self) -> tuple[str, datetime, float]:
        progress, rules = self._progress, self._stored.rotation.rules
        return progress.token, to_datetime(progress.since_ns), float(rules.timeout_s)

    def _with(self, run: Run) -> Run:
        """Return a run, with the rotator at hand that it is for."""
        if self._rotator is None:
            rules = self._stored.rotation.rules
            try:
                options = resolve_options(self._vault, rules.options)
            except (Unavailable, AccessDenied):
                raise  # the vault's own: who may not read them all must not make it fail for those who may
            except SecurecfgError as error:
                raise CallFailed(code_of(error)) from None
            try:
                self._rotator = CheckedRotator(self._runner.find(rules.rotator, options))
            except SecurecfgError as error:
                raise CallFailed(code_of(error)) from None
            except Exception:  # noqa: BLE001 - foreign code; its text could quote a value
                raise CallFailed(BROKEN) from None
        return run

    def _read(self, number: int) -> Fields | None:
        """Return a version as a rotator gets it, None where there is none any more."""
        if not number:
            return None
        try:
            value = self._vault.read(self._path, at=number, allow_expired=True).value
        except (SecretNotFound, VersionNotFound, SecretDestroyed):
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

    def _works(self, value: Fields, run: Run) -> bool:
        """Return whether a value is accepted and can do what it is for."""
        try:
            self._call(lambda rotator: rotator.verify(value, run))
        except CredentialRefused:
            return False
        return True

    def _call(self, ask: Callable[[Rotator], T], *, is_missing_fine: bool = False) -> T:
        """Call the rotator once; see `Calls.make`."""
        timeout_s = self._stored.rotation.rules.timeout_s
        return self._runner.calls.make(
            self._key,
            self._opened_rotator,
            ask,
            held=self,
            timeout_s=timeout_s,
            is_missing_fine=is_missing_fine,
        )

    def hold(self, at_least_s: float) -> None:
        """Renew the lease unless it is good for some time yet.

        Raises:
            RotationBusy: It was over before the renewal was stored: another process may be at work.
        """
        record = self._stored.rotation.record
        if self._leases.left_s(record) < at_least_s:
            self.renew()
        if self._leases.left_s(record) <= 0:
            message = f"storing that a process is at work on the rotation of `{self._path}` took longer than that holds"
            raise RotationBusy(message, hint="the store is very slow; it is tried again")

    def renew(self) -> None:
        """Renew the lease in the middle of a step: whatever the clock says, it is not given back there."""
        rotation, holder = self._stored.rotation, self._leases.holder
        self._store(self._progress.state, self._progress, lambda _: rotation._replace(holder=holder), None)

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
        obj |= {"to": str(progress.state)} | ({"reason": progress.reason} if progress.reason else {})
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
    def _key(self) -> tuple[bytes, int]:
        return self._vault.opened.replica.vault_id, self._stored.rotation.record

    @property
    def _path(self) -> str:
        return self._stored.rotation.path

    @property
    def _encoded(self) -> bytes:
        return path_to_bytes(self._path)

    @property
    def _opened_rotator(self) -> CheckedRotator:
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
    pause_ns = progress.not_before_ns - now_ns
    # A clock that was put back must not make anything wait for ever.
    if progress.state is State.CURRENT:
        return pause_ns <= 0 or now_ns < progress.swapped_ns or _has_acknowledged(rotation)
    return pause_ns <= 0 or pause_ns > machine.LONGEST_PAUSE_NS


def _has_acknowledged(rotation: Rotation) -> bool:
    """Return whether every consumer has the new version, where there are consumers."""
    consumers, progress = rotation.rules.consumers, rotation.progress
    return bool(consumers) and progress is not None and set(consumers) <= set(progress.acknowledged)


def _plain(value: Secret[str] | Secret[bytes] | Fields) -> str | bytes | dict[str, str | bytes]:
    if isinstance(value, Secret):
        return value.reveal()
    return {name: field.reveal() for name, field in value.items()}


def _there(value: Fields | None) -> Fields:
    assert value is not None  # noqa: S101 - there is a candidate in every state that is tried
    return value
