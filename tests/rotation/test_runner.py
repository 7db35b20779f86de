"""The runner: what it stores before each step, and what it does where one fails."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import pytest

from securecfg.errors import (
    AccessDenied,
    CommitUnknown,
    CredentialRefused,
    InvalidRotation,
    RotationBusy,
    RotationNotFound,
    SecurecfgError,
    StoreBusy,
    TargetUnavailable,
)
from securecfg.keys import open_provider
from securecfg.rotation import Candidate, Strategy
from securecfg.rotation.document import Rules
from securecfg.rotation.lease import Leases
from securecfg.rotation.machine import State
from securecfg.rotation.rotations import Rotations
from securecfg.rotation.runner import Runner
from securecfg.rotation.values import with_field
from securecfg.secret import Secret
from securecfg.store import open_sqlite
from securecfg.testing.account import Account, Mood
from securecfg.testing.faults import FaultyStore
from securecfg.vault.creation import open_rows
from securecfg.vault.opened import Options as VaultOptions
from securecfg.vault.session import Identity
from securecfg.vault.vault import Vault
from securecfg.vault.verification import verify_vault
from tests.rotation.conftest import FIRST, PATH, progress_of
from tests.vault.world import ADMIN, grant

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.rotation import Fields, Run
    from securecfg.store import Store
    from tests.rotation.conftest import RotationWorld

CANARY = "canary-of-the-target-4711"
ROTATOR_GRANTS = """
[roles.rotator]
members = ["svc:rotator"]
[[roles.rotator.grants]]
actions = ["read", "rotate"]
paths = ["app/**"]
"""


def _password(vault: Vault, at: int | str | None = None) -> str:
    value = vault.read(PATH, at=at).field("password").reveal()
    assert isinstance(value, str)
    return value


def _write(vault: Vault, password: str, username: str = "shop") -> int:
    return cast("int", vault.write(PATH, {"username": username, "password": password}))


def _labels(vault: Vault) -> dict[str, int]:
    return {label: cast("int", info.version) for info in vault.history(PATH) for label in info.labels}


def _steps(vault: Vault) -> list[tuple[str, str]]:
    """Return the steps in the log, without those that only note something."""
    found = [entry.record.obj for entry in vault.log.records() if entry.record.event.value == "rotation.stepped"]
    return [(str(obj["from"]), str(obj["to"])) for obj in found if obj["from"] != obj["to"]]


def _verify(vault: Vault) -> None:
    vault.log.verify()
    checked = verify_vault(vault.opened)
    assert not checked.problems
    assert not checked.orphan_rows


class _Scripted:
    """The account's rotator, in which a method does something else."""

    def __init__(self, account: Account, **instead: Callable[..., object]) -> None:
        self._rotator = account.rotator()
        self._instead = instead
        self.strategy, self.target, self.identity = account.strategy, "account", frozenset({"username"})

    def propose(self, run: Run, /) -> Candidate:
        return cast("Candidate", self._instead.get("propose", self._rotator.propose)(run))

    def apply(self, run: Run, /) -> None:
        self._instead.get("apply", self._rotator.apply)(run)

    def verify(self, value: Fields, run: Run, /) -> None:
        self._instead.get("verify", self._rotator.verify)(value, run)

    def retire(self, run: Run, /) -> None:
        self._instead.get("retire", self._rotator.retire)(run)


def _scripted(world: RotationWorld, vault: Vault, **instead: Callable[..., object]) -> Runner:
    return world.runner(vault, lambda *_: _Scripted(world.account, **instead))


def _raising(error: BaseException) -> Callable[..., object]:
    def raise_it(*_: object) -> object:
        raise error

    return raise_it


# --- a rotation in which nothing goes wrong --------------------------------------------------------------------------


def test_rotates_and_retires_after_the_grace(world: RotationWorld) -> None:
    vault = world.begin()
    runner = world.runner(vault)
    after = world.advance(runner, "asked")
    assert after.progress is not None
    assert after.progress.state is State.CURRENT
    assert _password(vault, "previous") == FIRST
    assert world.account.accepted == {FIRST, _password(vault)}
    world.wait(61)
    after = world.advance(runner)
    assert after.progress is not None
    assert after.progress.state is State.RETIRED
    assert world.account.accepted == {_password(vault)}
    assert [info.labels for info in vault.history(PATH)] == [("current",), ()]
    vault.close()
    with world.open() as again:
        again.log.verify()


def test_a_rotation_whose_candidate_was_deleted_fails_and_can_be_taken_back(world: RotationWorld) -> None:
    vault = world.begin()
    runner = world.runner(vault)
    world.account.mood = Mood.UNREACHABLE
    waiting = world.advance(runner, "asked").progress
    assert waiting is not None
    assert waiting.state is State.PENDING
    vault.delete(PATH, version=waiting.version)
    world.account.mood = Mood.WELL
    world.wait(10)
    failed = world.advance(runner).progress
    assert failed is not None
    assert (failed.state, failed.reason) == (State.FAILED, "version-not-found")
    assert failed.failed_ns >= failed.began_ns + 10_000_000_000
    world.rotations(vault).cancel(PATH)
    over = world.advance(runner).progress
    assert over is not None
    assert over.state is State.CANCELLED
    assert _password(vault) == FIRST
    vault.close()


def test_retires_nothing_before_the_grace_is_over(world: RotationWorld) -> None:
    vault = world.begin()
    runner = world.runner(vault)
    world.advance(runner, "asked")
    for _ in range(4):
        world.wait(14)
        assert progress_of(world.advance(runner)).state is State.CURRENT
    assert "retire" not in world.account.calls
    assert FIRST in world.account.accepted


def test_a_candidate_is_stored_before_the_target_is_told_and_current_only_after_it_was_tried(
    world: RotationWorld,
) -> None:
    vault = world.begin()
    seen: dict[str, dict[str, int]] = {}
    states: dict[str, State] = {}

    def look(moment: str) -> None:
        seen.setdefault(moment, _labels(vault))
        states.setdefault(moment, progress_of(world.rotations(vault).find(PATH)).state)

    world.account.hook = look
    runner = world.runner(vault)
    world.advance(runner, "asked")
    world.wait(61)
    world.lead_on(runner)
    assert seen["before apply"] == {"current": 1, "pending": 2}
    assert seen["before verify"] == {"current": 1, "pending": 2}
    assert seen["before retire"] == {"current": 2, "previous": 1}
    assert states["before apply"] is State.PENDING
    assert states["before verify"] is State.SET
    assert states["before retire"] is State.PREVIOUS


def test_each_value_is_recorded_as_read_before_it_is_handed_over(world: RotationWorld) -> None:
    vault = world.begin()
    read_by_then: dict[str, set[object]] = {}

    def look(moment: str) -> None:
        records = [entry.record for entry in vault.log.records()]
        read = {record.obj["ver"] for record in records if record.event.value == "secret.read"}
        read_by_then.setdefault(moment, read)

    world.account.hook = look
    runner = world.runner(vault)
    world.advance(runner, "asked")
    assert read_by_then["before apply"] == {1, 2}
    world.wait(61)
    world.lead_on(runner)
    assert read_by_then["before retire"] == {1, 2}


def test_the_log_tells_each_step_with_its_token_and_the_candidate(world: RotationWorld) -> None:
    vault = world.begin()
    runner = world.runner(vault)
    world.advance(runner, "asked")
    world.wait(61)
    done = world.lead_on(runner)
    expected = ["idle", "begun", "pending", "set", "tested", "current", "previous", "retired"]
    assert _steps(vault) == list(pairwise(expected))
    for entry in vault.log.records():
        if entry.record.event.value == "rotation.stepped":
            obj = entry.record.obj
            assert (obj["path"], obj["token"]) == (PATH, done.token)
            assert obj.get("ver") == (2 if obj["to"] != "begun" else None)
    _verify(vault)


@pytest.mark.parametrize("strategy", Strategy)
def test_rotates_again_and_again_with_each_strategy(world: RotationWorld, strategy: Strategy) -> None:
    vault = world.begin(strategy)
    runner = world.runner(vault)
    for number in range(2, 6):
        done = world.lead_on(runner, "asked")
        assert (done.state, done.version) == (State.RETIRED, number)
        assert world.account.accepts(_password(vault))
        assert _labels(vault) == {"current": number}
    assert world.rotations(vault).find(PATH).rotations == 4
    _verify(vault)


def test_nothing_begins_without_a_reason(world: RotationWorld) -> None:
    vault = world.begin()
    assert world.advance(world.runner(vault)).progress is None
    assert world.account.calls == []


def test_large_values_are_candidates_too(world: RotationWorld) -> None:
    vault = world.begin()
    large = Secret("x" * 3_000_000)

    def propose(run: Run) -> Candidate:
        return Candidate({**(run.current or {}), "password": Secret("new-password-4711"), "ca": large})

    done = world.lead_on(_scripted(world, vault, propose=propose), "asked")
    assert done.state is State.RETIRED
    assert vault.read(PATH).field("ca") == large
    _verify(vault)


def test_what_ends_by_itself_ends_in_the_vault_too(world: RotationWorld) -> None:
    vault = world.begin()
    ends = datetime(2030, 1, 1, tzinfo=UTC)

    def propose(run: Run) -> Candidate:
        return Candidate(with_field(run.current, "password", Secret("new-password-4711")), ends)

    world.advance(_scripted(world, vault, propose=propose), "asked")
    assert vault.history(PATH)[0].expires == ends


# --- 5: failures -----------------------------------------------------------------------------------------------------


def test_a_target_that_is_not_reached_is_asked_again_later_and_later(world: RotationWorld) -> None:
    vault = world.begin()
    world.account.mood = Mood.UNREACHABLE
    runner = world.runner(vault)
    pauses = []
    why = "asked"
    for _ in range(4):
        progress = progress_of(world.advance(runner, why))
        why = ""
        assert (progress.state, progress.reason) == (State.PENDING, "target-unavailable")
        assert world.advance(runner).holder is None
        pauses.append(round((progress.not_before_ns - world.clock.ns) / 1e9, 2))
        world.wait(pauses[-1] + 0.01)
    assert pauses == [3.75, 7.5, 15.0, 30.0]
    assert len(world.account.calls) == 4
    world.account.mood = Mood.WELL
    assert world.lead_on(runner).state is State.RETIRED


def test_a_target_that_never_answers_is_left_alone_for_a_minute(world: RotationWorld) -> None:
    vault = world.begin()
    world.account.mood = Mood.UNREACHABLE
    runner = world.runner(vault)
    world.advance(runner, "asked")
    for _ in range(4):
        world.clock.ns += 3_600_000_000_000
        world.advance(runner)
    assert len(world.account.calls) == 5
    for _ in range(3):
        world.clock.ns += 3_600_000_000_000
        assert progress_of(world.advance(runner)).reason == "target-unavailable"
    assert len(world.account.calls) == 5
    world.account.mood = Mood.WELL
    world.wait(3_601)
    assert progress_of(world.advance(runner)).state is State.CURRENT


@pytest.mark.parametrize("strategy", [Strategy.OVERLAPPING, Strategy.SINGLE_SLOT])
@pytest.mark.parametrize("mood", [Mood.LOST_ANSWER, Mood.SLOW_TO_KNOW, Mood.HALF_APPLIED])
def test_finds_out_and_goes_on(world: RotationWorld, mood: Mood, strategy: Strategy) -> None:
    vault = world.begin(strategy)
    world.account.mood = mood
    done = world.lead_on(world.runner(vault), "asked")
    assert (done.state, done.version) == (State.RETIRED, 2)
    assert world.account.accepted == {_password(vault)}


def test_a_rejected_candidate_is_replaced_by_a_fresh_one_under_another_token(world: RotationWorld) -> None:
    vault = world.begin()
    told: list[tuple[str, str]] = []
    left: list[str] = []

    def apply(run: Run) -> None:
        assert run.pending is not None
        told.append((run.token, str(run.pending["password"].reveal())))
        world.account.mood = Mood.REJECTING if len(told) <= 2 else Mood.WELL
        world.account.rotator().apply(run)

    def retire(run: Run) -> None:
        assert run.previous is not None
        assert run.current is not None
        assert run.current["password"].reveal() not in left
        left.append(str(run.previous["password"].reveal()))
        world.account.rotator().retire(run)

    def propose(run: Run) -> Candidate:
        assert run.pending is None
        return world.account.rotator().propose(run)

    done = world.lead_on(_scripted(world, vault, propose=propose, apply=apply, retire=retire), "asked")
    assert (done.state, done.version, done.candidates) == (State.RETIRED, 3, 2)
    assert told[0] == told[1]
    assert told[2][0] != told[0][0]
    assert told[2][1] != told[0][1]
    # What was dropped is left nowhere, and what was current before last.
    assert left == [told[0][1], FIRST]
    assert [info.state.value for info in vault.history(PATH)] == ["live", "deleted", "deleted"]


def test_a_rejected_candidate_is_dropped_by_a_target_that_knows_no_version_any_more(world: RotationWorld) -> None:
    vault = world.begin()
    told: list[str] = []

    def apply(run: Run) -> None:
        assert run.pending is not None
        told.append(str(run.pending["password"].reveal()))
        if len(told) <= 2:
            world.account.set_accepted()
            rejected = machine_error("candidate-rejected")
            raise rejected
        world.account.rotator().apply(run)

    def retire(run: Run) -> None:
        assert run.current is not None
        if not world.account.accepts(str(run.current["password"].reveal())):
            refused = machine_error("credential-refused")
            raise refused
        world.account.rotator().retire(run)

    done = world.lead_on(_scripted(world, vault, apply=apply, retire=retire), "asked")
    assert (done.state, done.candidates) == (State.RETIRED, 2)
    assert told == [told[0], told[0], FIRST, _password(vault)]
    assert world.account.accepted == {_password(vault)}


def test_fails_after_three_candidates_were_rejected(world: RotationWorld) -> None:
    vault = world.begin()
    world.account.mood = Mood.REJECTING
    failed = world.lead_on(world.runner(vault), "asked")
    assert (failed.state, failed.reason, failed.candidates) == (State.FAILED, "candidate-rejected", 3)
    assert world.account.calls.count("apply") == 6
    assert world.account.accepted == {FIRST}
    assert _password(vault) == FIRST
    world.account.mood = Mood.WELL
    world.rotations(vault).retry(PATH)
    assert world.lead_on(world.runner(vault)).state is State.RETIRED


def test_what_is_rejected_although_it_is_accepted_goes_on(world: RotationWorld) -> None:
    vault = world.begin()

    def apply(run: Run) -> None:
        world.account.rotator().apply(run)
        error = machine_error("candidate-rejected")
        raise error

    done = world.lead_on(_scripted(world, vault, apply=apply), "asked")
    assert (done.state, done.version) == (State.RETIRED, 2)


def machine_error(code: str) -> SecurecfgError:
    """Return an error of this library by its code."""
    kinds = list(SecurecfgError.__subclasses__())
    for kind in kinds:
        kinds += kind.__subclasses__()
    return next(kind for kind in kinds if kind.code == code)("as the target says")


@pytest.mark.parametrize("method", ["propose", "apply", "retire"])
@pytest.mark.parametrize("code", ["credential-refused", "candidate-rejected"])
def test_a_refused_login_of_the_rotator_fails_the_third_time_whichever_call_it_is(
    world: RotationWorld, method: str, code: str
) -> None:
    vault = world.begin()
    runner = _scripted(world, vault, **{method: _raising(machine_error(code))})
    failed = world.lead_on(runner, "asked")
    assert (failed.state, failed.reason) == (State.FAILED, code)
    assert world.account.accepts(_password(vault))
    assert world.account.accepts(FIRST)
    world.rotations(vault).retry(PATH)
    assert world.lead_on(world.runner(vault)).state is State.RETIRED


def test_a_login_that_stays_refused_is_applied_three_times_and_then_fails(world: RotationWorld) -> None:
    vault = world.begin()
    applied: list[str] = []

    def refuse_what_is_new(value: Fields, run: Run) -> None:
        if run.pending == value:
            message = "not yet"
            raise CredentialRefused(message)
        world.account.rotator().verify(value, run)

    def apply(run: Run) -> None:
        applied.append(run.token)

    began = world.clock.ns
    failed = world.lead_on(_scripted(world, vault, verify=refuse_what_is_new, apply=apply), "asked")
    assert (failed.state, failed.failed_in, failed.reason) == (State.FAILED, State.SET, "credential-refused")
    assert applied == [failed.token] * 3
    assert (world.clock.ns - began) / 1e9 == pytest.approx(180, abs=2)
    assert _labels(vault) == {"current": 1, "pending": 2}


@pytest.mark.parametrize("strategy", [Strategy.OVERLAPPING, Strategy.SINGLE_SLOT])
def test_a_login_that_may_do_nothing_never_becomes_current(world: RotationWorld, strategy: Strategy) -> None:
    vault = world.begin(strategy)
    world.account.mood = Mood.LOCKED
    failed = world.lead_on(world.runner(vault), "asked")
    assert (failed.state, failed.failed_in, failed.reason) == (State.FAILED, State.SET, "privilege-missing")
    assert _labels(vault) == {"current": 1, "pending": 2}


def test_the_old_version_is_kept_where_the_new_one_can_do_nothing_any_more(world: RotationWorld) -> None:
    vault = world.begin()
    runner = world.runner(vault)
    world.advance(runner, "asked")
    world.account.mood = Mood.LOCKED
    world.wait(61)
    failed = world.lead_on(runner)
    assert (failed.state, failed.failed_in, failed.reason) == (State.FAILED, State.PREVIOUS, "privilege-missing")
    assert world.account.accepts(FIRST)
    assert _password(vault, "previous") == FIRST


class _Foreign(Exception):
    pass


@pytest.mark.parametrize(
    "error", [_Foreign(CANARY), TimeoutError(CANARY), SystemExit(CANARY), KeyboardInterrupt(CANARY)]
)
@pytest.mark.parametrize("method", ["propose", "apply", "verify", "retire"])
def test_nothing_is_kept_of_the_text_of_a_foreign_error(
    world: RotationWorld, method: str, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    vault = world.begin()
    failed = world.lead_on(_scripted(world, vault, **{method: _raising(error)}), "asked")
    assert (failed.state, failed.reason) == (State.FAILED, "rotator-broken")
    said = caplog.text + str([entry.record.obj for entry in vault.log.records()]) + str(failed)
    assert CANARY not in said
    assert world.account.accepts(_password(vault))


def _garbage(value: object, ends: object = None) -> Callable[..., object]:
    return lambda _: Candidate(value, ends)  # type: ignore[arg-type]  # as foreign code may do it


GARBAGE = {
    "nothing": lambda _: None,
    "text": lambda _: CANARY,
    "no secret": _garbage(CANARY),
    "fields that are no secrets": _garbage({"username": "shop", "password": CANARY}),
    "a naive end": _garbage({"username": Secret("shop"), "password": Secret("x")}, datetime(2030, 1, 1)),  # noqa: DTZ001 - that is the point
    "an end in the past": _garbage(
        {"username": Secret("shop"), "password": Secret("x")}, datetime(2020, 1, 1, tzinfo=UTC)
    ),
    "an end before all time": _garbage(
        {"username": Secret("shop"), "password": Secret("x")}, datetime(1, 1, 1, tzinfo=UTC)
    ),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_a_candidate_that_is_none_is_stored_nowhere(
    world: RotationWorld, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    vault = world.begin()
    failed = world.lead_on(_scripted(world, vault, propose=GARBAGE[name]), "asked")
    assert (failed.state, failed.failed_in) == (State.FAILED, State.BEGUN)
    assert failed.reason in {"rotator-broken", "invalid-rotation", "usage", "invalid-metadata"}
    assert _labels(vault) == {"current": 1}
    assert CANARY not in caplog.text


@pytest.mark.parametrize("error", [_Foreign(CANARY), InvalidRotation("an option is gone")])
def test_a_rotator_that_cannot_be_made_fails_the_rotation(world: RotationWorld, error: Exception) -> None:
    vault = world.begin()
    failed = world.lead_on(world.runner(vault, _raising(error)), "asked")  # type: ignore[arg-type]  # returns never
    expected = "rotator-broken" if isinstance(error, _Foreign) else "invalid-rotation"
    assert (failed.state, failed.reason) == (State.FAILED, expected)


def test_a_rotator_that_does_not_say_what_it_is_fails_the_rotation(world: RotationWorld) -> None:
    class Vague(_Scripted):
        def __init__(self, account: Account) -> None:
            super().__init__(account)
            self.strategy = "whatever"  # type: ignore[assignment]  # as foreign code may do it

    vault = world.begin()
    failed = world.lead_on(world.runner(vault, lambda *_: Vague(world.account)), "asked")
    assert (failed.state, failed.reason) == (State.FAILED, "rotator-broken")


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1e300, "soon"])
def test_a_senseless_wish_to_be_left_alone_is_none(world: RotationWorld, seconds: float) -> None:
    vault = world.begin()
    error = TargetUnavailable("busy")
    error.retry_after_s = seconds
    progress = progress_of(world.advance(_scripted(world, vault, apply=_raising(error)), "asked"))
    assert progress.state is State.PENDING
    assert 3 < (progress.not_before_ns - world.clock.ns) / 1e9 < 4


# --- 4: finding out --------------------------------------------------------------------------------------------------


def _cut_off(world: RotationWorld, vault: Vault, at: str = "before apply") -> None:
    """Let a rotation be cut off at a moment of the account, whose process never comes back."""
    dead = world.runner(vault)
    store = dead.steps.change

    def stop(moment: str) -> None:
        if moment == at:
            dead.steps.change = _raising(RotationBusy("it is dead"))  # type: ignore[method-assign, assignment]  # it is no more
            raise _Foreign

    world.account.hook = stop
    with pytest.raises(RotationBusy):
        world.advance(dead, "asked")
    dead.steps.change = store  # type: ignore[method-assign]  # for the others
    world.account.hook = lambda _: None
    world.account.calls.clear()
    world.wait(31)


def _succeed(world: RotationWorld, vault: Vault) -> Runner:
    """Return a runner that has waited for the time of a lease."""
    runner = world.runner(vault)
    with pytest.raises(RotationBusy):
        world.advance(runner)
    world.wait(30.1)
    return runner


def _accepting(world: RotationWorld, vault: Vault, *labels: str) -> None:
    world.account.set_accepted(*(_password(vault, label) for label in labels))


def test_asks_what_is_accepted_after_another_process_and_applies_where_that_is_the_old_one(
    world: RotationWorld,
) -> None:
    vault = world.begin()
    _cut_off(world, vault)
    runner = _succeed(world, vault)
    assert progress_of(world.advance(runner)).state is State.CURRENT
    # The candidate, the current one, then the candidate is applied and tried.
    assert world.account.calls == ["verify", "verify", "apply", "verify"]


def test_applies_nothing_where_the_candidate_is_accepted_already(world: RotationWorld) -> None:
    vault = world.begin()
    _cut_off(world, vault, "after apply")
    runner = _succeed(world, vault)
    assert progress_of(world.advance(runner)).state is State.CURRENT
    assert world.account.calls == ["verify", "verify"]


def test_applies_the_candidate_where_nothing_is_accepted(world: RotationWorld) -> None:
    vault = world.begin()
    _cut_off(world, vault)
    world.account.set_accepted()
    runner = _succeed(world, vault)
    assert progress_of(world.advance(runner)).state is State.CURRENT
    assert world.account.accepts(_password(vault))


def test_fails_where_nothing_is_accepted_and_the_candidate_cannot_be_applied(world: RotationWorld) -> None:
    vault = world.begin()
    _cut_off(world, vault)
    world.account.set_accepted()
    world.wait(31)
    runner = _scripted(world, vault, apply=_raising(CredentialRefused("no login is left")))
    with pytest.raises(RotationBusy):
        world.advance(runner)
    world.wait(31)
    failed = world.lead_on(runner)
    assert (failed.state, failed.reason) == (State.FAILED, "credential-refused")


def test_gives_readers_the_previous_version_back_where_only_that_is_accepted(world: RotationWorld) -> None:
    vault = world.begin()
    _cut_off(world, vault)
    _write(vault, "written-by-hand-and-wrong")
    assert _labels(vault) == {"current": 3, "previous": 1, "pending": 2}
    runner = _succeed(world, vault)
    read: list[str] = []

    def look(moment: str) -> None:
        if moment == "before apply":
            read.append(_password(vault))

    world.account.hook = look
    progress = progress_of(world.advance(runner))
    assert (progress.state, progress.former) == (State.CURRENT, 1)
    assert read == [FIRST]
    assert _labels(vault) == {"current": 2, "previous": 1}
    reasons = [entry.record.obj.get("reason") for entry in vault.log.records() if "token" in entry.record.obj]
    assert "restored" in reasons


def test_what_is_written_by_hand_is_what_is_current_and_the_candidate_goes_on(world: RotationWorld) -> None:
    vault = world.begin()
    _cut_off(world, vault)
    _write(vault, "written-by-hand-4711")
    world.account.set_accepted("written-by-hand-4711")
    runner = _succeed(world, vault)
    done = world.lead_on(runner)
    assert (done.state, done.version, done.former) == (State.RETIRED, 2, 3)
    assert world.account.accepted == {_password(vault)}


def test_a_hand_written_value_for_another_login_is_given_to_no_target(world: RotationWorld) -> None:
    vault = world.begin()
    _cut_off(world, vault)
    _write(vault, "written-by-hand-4711", username="somebody-else")
    runner = _succeed(world, vault)
    failed = world.lead_on(runner)
    assert (failed.state, failed.reason) == (State.FAILED, "invalid-rotation")
    assert world.account.calls == []
    world.account.set_accepted()
    world.rotations(vault).cancel(PATH)
    failed = world.lead_on(runner)
    assert (failed.failed_in, failed.reason) == (State.CANCELLING, "invalid-rotation")
    assert "apply" not in world.account.calls


@pytest.mark.parametrize("username", ["somebody-else", None])
def test_a_candidate_for_another_login_is_refused(world: RotationWorld, username: str | None) -> None:
    vault = world.begin()
    fields = {"password": Secret("x" * 20)} | ({"username": Secret(username)} if username else {})
    failed = world.lead_on(_scripted(world, vault, propose=lambda _: Candidate(fields)), "asked")
    assert (failed.state, failed.failed_in, failed.reason) == (State.FAILED, State.BEGUN, "invalid-rotation")
    assert world.account.calls == []
    assert _labels(vault) == {"current": 1}


@pytest.mark.parametrize("strategy", [Strategy.OVERLAPPING, Strategy.SINGLE_SLOT])
def test_the_old_version_is_not_retired_where_the_target_was_put_back(world: RotationWorld, strategy: Strategy) -> None:
    vault = world.begin(strategy)
    runner = world.runner(vault)
    world.advance(runner, "asked")
    world.account.set_accepted(FIRST)
    world.wait(61)
    world.account.calls.clear()
    done = world.lead_on(runner)
    assert done.state is State.RETIRED
    assert world.account.calls[:3] == ["verify", "apply", "verify"]
    assert world.account.accepted == {_password(vault)}


def test_a_value_written_by_hand_after_the_swap_that_is_refused_keeps_the_old_one(world: RotationWorld) -> None:
    vault = world.begin()
    runner = world.runner(vault)
    world.advance(runner, "asked")
    _write(vault, "written-by-hand-and-wrong")
    world.account.set_accepted(FIRST)
    world.wait(61)
    failed = world.lead_on(runner)
    assert (failed.failed_in, failed.reason) == (State.PREVIOUS, "credential-refused")
    assert world.account.accepted == {FIRST}
    assert _password(vault, 1) == FIRST


def test_an_old_version_that_was_made_current_again_is_not_retired(world: RotationWorld) -> None:
    vault = world.begin()
    runner = world.runner(vault)
    world.advance(runner, "asked")
    vault.rollback(PATH, 1)
    world.wait(61)
    done = world.lead_on(runner)
    assert done.state is State.RETIRED
    assert FIRST in world.account.accepted
    assert _password(vault) == FIRST


# --- what people do meanwhile ----------------------------------------------------------------------------------------


def _waiting(world: RotationWorld, vault: Vault, strategy: Strategy | None = None) -> Runner:
    """Return a runner that waits in `pending` for a target that does not answer, which it does again."""
    del strategy
    runner = world.runner(vault)
    world.account.mood = Mood.UNREACHABLE
    assert progress_of(world.advance(runner, "asked")).state is State.PENDING
    world.account.mood = Mood.WELL
    world.wait(10)
    world.account.calls.clear()
    return runner


def test_a_candidate_that_somebody_deleted_fails_and_another_one_is_made_when_it_is_retried(
    world: RotationWorld,
) -> None:
    vault = world.begin()
    runner = _waiting(world, vault)
    vault.delete(PATH, 2)
    failed = world.lead_on(runner)
    assert (failed.state, failed.reason) == (State.FAILED, "version-not-found")
    assert world.account.calls == []
    world.rotations(vault).retry(PATH)
    done = world.lead_on(runner)
    assert (done.state, done.version) == (State.RETIRED, 3)
    assert done.token != failed.token


def test_a_rotation_whose_candidate_was_destroyed_can_be_taken_back(world: RotationWorld) -> None:
    vault = world.begin()
    runner = _waiting(world, vault)
    vault.destroy(PATH, 2)
    world.lead_on(runner)
    world.rotations(vault).cancel(PATH)
    assert world.lead_on(runner).state is State.CANCELLED
    assert world.account.accepted == {FIRST}


def test_a_deleted_secret_is_not_brought_back_and_its_rotation_can_be_removed(world: RotationWorld) -> None:
    vault = world.begin()
    runner = _waiting(world, vault)
    vault.delete(PATH)
    failed = world.lead_on(runner)
    assert (failed.state, failed.reason) == (State.FAILED, "secret-not-found")
    assert world.account.calls == []
    assert "current" not in _labels(vault)
    world.rotations(vault).remove(PATH)


def test_the_old_version_is_kept_where_somebody_deleted_the_new_one(world: RotationWorld) -> None:
    vault = world.begin()
    runner = world.runner(vault)
    world.advance(runner, "asked")
    vault.delete(PATH)
    world.wait(61)
    failed = world.lead_on(runner)
    assert (failed.failed_in, failed.reason) == (State.PREVIOUS, "secret-not-found")
    assert _password(vault, 1) == FIRST
    assert FIRST in world.account.accepted


def test_a_deleted_old_version_is_no_reason_to_fail(world: RotationWorld) -> None:
    vault = world.begin()
    runner = world.runner(vault)
    world.advance(runner, "asked")
    vault.delete(PATH, 1)
    world.wait(61)
    assert world.lead_on(runner).state is State.RETIRED


def test_a_pause_in_the_middle_of_a_call_stops_before_the_next_and_resuming_finds_out(world: RotationWorld) -> None:
    vault = world.begin()
    rotations = world.rotations(vault)
    world.account.hook = lambda moment: rotations.pause(PATH) and None if moment == "after apply" else None
    runner = world.runner(vault)
    with pytest.raises(RotationBusy):
        world.advance(runner, "asked")
    world.account.hook = lambda _: None
    assert progress_of(world.advance(runner)).state is State.PENDING
    assert world.account.calls == ["apply"]
    rotations.resume(PATH)
    assert progress_of(world.advance(runner)).state is State.CURRENT
    assert world.account.calls == ["apply", "verify", "verify"]


def test_a_policy_that_is_revoked_in_the_middle_stops_everything(world: RotationWorld) -> None:
    vault = world.begin()
    grant(vault, ROTATOR_GRANTS)
    as_rotator = world.open("svc:rotator")
    runner = world.runner(as_rotator)

    def revoke(moment: str) -> None:
        if moment == "after apply":
            grant(vault, ROTATOR_GRANTS.replace('"read", "rotate"', '"list"'))

    world.account.hook = revoke
    with pytest.raises(AccessDenied):
        world.advance(runner, "asked")
    world.account.hook = lambda _: None
    for _ in range(3):
        world.wait(31)
        with pytest.raises(AccessDenied):
            world.advance(runner)
    assert world.account.calls == ["apply"]
    grant(vault, ROTATOR_GRANTS)
    assert world.lead_on(runner).state is State.RETIRED


@pytest.mark.parametrize("action", ["read", "rotate"])
def test_needs_both_rights_at_each_step(world: RotationWorld, action: str) -> None:
    vault = world.begin()
    other = {"read": "rotate", "rotate": "read"}[action]
    grant(vault, ROTATOR_GRANTS.replace('"read", "rotate"', f'"{other}"'))
    runner = world.runner(world.open("svc:rotator"))
    with pytest.raises(AccessDenied):
        world.advance(runner, "asked")
    assert world.account.calls == []
    assert _labels(vault) == {"current": 1}


def test_the_right_to_rotate_is_enough_to_store_candidates(world: RotationWorld) -> None:
    vault = world.begin()
    grant(vault, ROTATOR_GRANTS)
    as_rotator = world.open("svc:rotator")
    assert world.lead_on(world.runner(as_rotator), "asked").state is State.RETIRED
    with pytest.raises(AccessDenied):
        _write(as_rotator, "something-else-4711")


def test_an_option_that_the_caller_may_not_read_fails_nothing_for_those_who_may(world: RotationWorld) -> None:
    vault = world.open()
    vault.write("other/admin", "admin-password-4711")
    rules = Rules("account", {"admin": "${secret:other/admin}"}, grace_s=60)
    world.rotations(vault).set(PATH, rules)
    grant(vault, ROTATOR_GRANTS)
    with pytest.raises(AccessDenied):
        world.advance(world.runner(world.open("svc:rotator")), "asked")
    assert world.account.calls == []
    assert progress_of(world.rotations(vault).find(PATH)).state is State.BEGUN
    runner = _succeed(world, vault)
    assert world.lead_on(runner).state is State.RETIRED


def test_a_moved_secret_is_followed(world: RotationWorld) -> None:
    vault = world.begin()
    runner = _waiting(world, vault)
    before = runner.steps.find(PATH)
    vault.move(PATH, "app/elsewhere")
    with pytest.raises(RotationBusy):
        runner.advance(before)
    assert world.account.calls == []
    stored = runner.steps.find_record(before.rotation.record)
    assert stored is not None
    assert stored.rotation.path == "app/elsewhere"
    after = runner.advance(stored).rotation
    assert (progress_of(after).state, after.path) == (State.CURRENT, "app/elsewhere")
    world.wait(61)
    after = runner.advance(runner.steps.find("app/elsewhere")).rotation
    assert progress_of(after).state is State.RETIRED


@pytest.mark.parametrize("seconds", [0, 61])
def test_another_secret_at_the_old_path_is_given_to_no_target(world: RotationWorld, seconds: int) -> None:
    vault = world.begin()
    runner = world.runner(vault)
    world.advance(runner, "asked")
    if not seconds:
        world.wait(61)
        world.lead_on(runner)
        world.account.mood = Mood.UNREACHABLE
        world.advance(runner, "asked")
        world.account.mood = Mood.WELL
    before = runner.steps.find(PATH)
    world.wait(seconds or 10)
    world.account.calls.clear()
    given: list[object] = []
    watched = _scripted(world, vault, retire=given.append, apply=given.append, verify=lambda *run: given.append(run))
    standing = watched.steps.standing

    def move_first(path: str) -> object:
        watched.steps.standing = standing  # type: ignore[method-assign]  # once
        vault.move(PATH, "app/elsewhere")
        for number in range(3):
            _write(vault, f"of-another-secret-{number}")
        return standing(path)

    watched.steps.standing = move_first  # type: ignore[method-assign, assignment]  # in the middle of a step
    with pytest.raises(RotationBusy):
        watched.advance(before)
    assert given == []


# --- taking back -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", Strategy)
@pytest.mark.parametrize("held", ["old", "new", "both"])
def test_taking_back_makes_what_is_current_accepted_before_the_candidate_is_refused(
    world: RotationWorld, strategy: Strategy, held: str
) -> None:
    vault = world.begin(strategy)
    runner = _waiting(world, vault)
    candidate = _password(vault, "pending")
    world.account.set_accepted(*{"old": (FIRST,), "new": (candidate,), "both": (FIRST, candidate)}[held])
    world.rotations(vault).cancel(PATH)

    def look(moment: str) -> None:
        if moment in {"before retire", "after retire"}:
            assert world.account.accepts(FIRST)

    world.account.hook = look
    done = world.lead_on(runner)
    assert done.state is State.CANCELLED
    assert world.account.accepts(FIRST)
    if strategy is not Strategy.SINGLE_SLOT or held == "new":
        assert not world.account.accepts(candidate)
    assert _labels(vault) == {"current": 1}
    assert world.rotations(vault).find(PATH).rotations == 0
    _verify(vault)


def test_taking_back_fails_where_what_is_current_cannot_be_made_accepted(world: RotationWorld) -> None:
    vault = world.begin(Strategy.SINGLE_SLOT)
    runner = _waiting(world, vault)
    candidate = _password(vault, "pending")
    world.account.set_accepted(candidate)
    world.rotations(vault).cancel(PATH)
    failed = world.lead_on(_scripted(world, vault, apply=lambda _: None))
    assert (failed.state, failed.failed_in) == (State.FAILED, State.CANCELLING)
    assert world.account.accepts(_password(vault, "pending"))
    world.rotations(vault).retry(PATH)
    assert world.lead_on(runner).state is State.CANCELLED


# --- time ------------------------------------------------------------------------------------------------------------


def test_a_clock_that_is_put_back_in_the_middle_of_a_step_gives_no_lease_back(world: RotationWorld) -> None:
    vault = world.begin()
    runner = _waiting(world, vault)
    held: list[object] = []

    def look(moment: str) -> None:
        if moment == "before verify":
            world.clock.ns -= 8_000_000_000
            world.elapsed += 25
        held.append(world.rotations(vault).find(PATH).holder)

    world.account.hook = look
    world.advance(runner)
    assert None not in held


def test_the_grace_is_neither_lost_nor_lasts_for_ever_where_the_clock_is_put_back(world: RotationWorld) -> None:
    vault = world.begin()
    runner = world.runner(vault)
    world.advance(runner, "asked")
    world.clock.ns -= 365 * 86_400_000_000_000
    assert progress_of(world.advance(runner)).state is State.CURRENT
    world.wait(59)
    assert progress_of(world.advance(runner)).state is State.CURRENT
    world.wait(2)
    assert progress_of(world.advance(runner)).state is State.RETIRED


def _quick(world: RotationWorld, vault: Vault, rotator: _Scripted, lease_s: int = 30) -> Runner:
    return Runner(vault, leases=Leases("quick", lease_s=lease_s), jitter=lambda: 0.5, find=lambda *_: rotator)


def test_a_call_that_hangs_is_left_behind_and_the_lease_is_renewed_meanwhile(
    world: RotationWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("securecfg.rotation.calls._MARGIN_S", 0.0)
    vault = world.begin(timeout_s=1)
    end = threading.Event()
    rotator = _Scripted(world.account, apply=lambda _: end.wait(20))
    began = time.monotonic()
    progress = progress_of(world.advance(_quick(world, vault, rotator, lease_s=1), "asked"))
    end.set()
    assert 0.9 < time.monotonic() - began < 5
    assert (progress.state, progress.reason, progress.is_known) == (State.PENDING, "target-unavailable", False)
    notes = [obj for obj in (entry.record.obj for entry in vault.log.records()) if obj.get("from") == obj.get("to")]
    assert len([obj for obj in notes if obj.get("from") == "pending" and "reason" not in obj]) >= 2
    world.account.mood = Mood.WELL
    world.wait(10)
    assert world.lead_on(world.runner(vault)).state is State.RETIRED


def test_nothing_is_called_under_a_lease_that_was_over_before_it_was_renewed(world: RotationWorld) -> None:
    vault = world.begin()
    runner = world.runner(vault)
    change = runner.steps.change

    def slow(*given: object) -> object:
        stored = change(*given)  # type: ignore[arg-type]  # passed on
        world.elapsed += 31
        return stored

    runner.steps.change = slow  # type: ignore[method-assign, assignment]  # a store that takes half a minute
    with pytest.raises(RotationBusy):
        world.advance(runner, "asked")
    assert world.account.calls == []


def test_another_process_that_took_over_is_noticed_before_the_next_call(world: RotationWorld) -> None:
    vault = world.begin()
    slow = world.runner(vault)
    other = world.runner(world.open())

    def sleep(moment: str) -> None:
        if moment != "after apply":
            return
        world.account.hook = lambda _: None
        with pytest.raises(RotationBusy):
            world.advance(other)
        world.wait(30.1)
        assert progress_of(world.advance(other)).state is State.CURRENT

    world.account.hook = sleep
    with pytest.raises(RotationBusy):
        world.advance(slow, "asked")
    assert world.account.calls == ["apply", "verify", "verify"]
    assert world.lead_on(other).state is State.RETIRED


def test_a_runner_that_stops_gives_the_lease_back_with_the_step(world: RotationWorld) -> None:
    vault = world.begin()
    runner = world.runner(vault)
    holders: list[object] = []

    def stop(moment: str) -> None:
        if moment == "before apply":
            runner.stop()
        holders.append(world.rotations(vault).find(PATH).holder)

    world.account.hook = stop
    after = world.advance(runner, "asked")
    assert (progress_of(after).state, after.holder) == (State.SET, None)
    assert None not in holders
    assert world.lead_on(world.runner(vault)).state is State.RETIRED


# --- a store that fails ----------------------------------------------------------------------------------------------


def _faulty(world: RotationWorld) -> tuple[Vault, FaultyStore]:
    store = FaultyStore(open_sqlite(world.path))
    given = (cast("Store", store), open_provider(world.key), world.path, world.clock, VaultOptions())
    opened, slot = open_rows(*given)
    vault = Vault(opened, Identity(ADMIN, slot=slot.slot_id.hex()))
    world.vaults.append(vault)
    return vault, store


COMMITS = range(11)


@pytest.mark.parametrize("kind", ["unknown-and-done", "unknown-and-not-done", "busy"])
@pytest.mark.parametrize("number", COMMITS)
def test_goes_on_after_a_commit_that_failed(world: RotationWorld, number: int, kind: str) -> None:
    world.begin().close()
    vault, store = _faulty(world)
    runner = world.runner(vault)
    error: SecurecfgError = StoreBusy("busy") if kind == "busy" else CommitUnknown("gone in the middle")
    looking = world.open()
    runner.steps.find(PATH)
    store.fail("commit", error, after=number, takes_effect=kind == "unknown-and-done")
    why = "asked"
    for _ in range(60):
        try:
            progress = progress_of(world.advance(runner, why))
        except SecurecfgError:
            progress = None
        found = world.rotations(looking).find(PATH).progress
        why = "" if found is not None else "asked"
        if progress is not None and progress.is_over:
            break
        assert found is None or found.state is not State.FAILED
        assert any(world.account.accepts(_password(looking, label)) for label in _labels(looking))
        world.wait(31)
    assert progress is not None
    assert progress.state is State.RETIRED
    assert _labels(looking) == {"current": progress.version}
    assert world.account.accepts(_password(looking))
    looking.close()
    vault.close()
    with world.open() as again:
        _verify(again)


@pytest.mark.parametrize("error", [StoreBusy("busy"), CommitUnknown("gone in the middle"), RotationBusy("taken")])
def test_what_goes_wrong_in_the_vault_in_the_middle_of_a_call_is_no_answer_of_the_target(
    world: RotationWorld, error: SecurecfgError, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("securecfg.rotation.calls._RENEWALS", 3_000)
    vault = world.begin()
    runner = world.runner(vault)
    change = runner.steps.change

    def fail(moment: str) -> None:
        if moment == "before verify":
            world.account.hook = lambda _: None
            runner.steps.change = _raising(error)  # type: ignore[method-assign, assignment]  # as the vault may

    world.account.hook = fail
    end = threading.Event()

    def verify(value: Fields, run: Run) -> None:
        world.account.rotator().verify(value, run)
        end.wait(5)

    runner.find = lambda *_: _Scripted(world.account, verify=verify)
    with pytest.raises(type(error)):
        world.advance(runner, "asked")
    end.set()
    runner.steps.change = change  # type: ignore[method-assign]  # it is well again
    found = world.rotations(vault).find(PATH)
    assert progress_of(found).state is State.SET


class _Issuer:
    """A target that issues passwords, and whose first answer is lost."""

    strategy = Strategy.OVERLAPPING
    target = "issuer"
    identity: frozenset[str] = frozenset()

    def __init__(self) -> None:
        self.issued = {FIRST: ""}
        self.calls: list[str] = []

    def propose(self, run: Run, /) -> Candidate:
        self.calls.append("propose")
        self.issued = {password: token for password, token in self.issued.items() if token != run.token}
        self.issued[password := f"issued-{len(self.calls)}"] = run.token
        if len(self.calls) == 1:
            message = "the answer is lost"
            raise TargetUnavailable(message)
        return Candidate(with_field(run.current, "password", Secret(password)))

    def apply(self, run: Run, /) -> None:
        self.calls.append("apply")

    def verify(self, value: Fields, run: Run, /) -> None:
        if value["password"].reveal() not in self.issued:
            message = "refused"
            raise CredentialRefused(message)

    def retire(self, run: Run, /) -> None:
        assert run.previous is not None
        self.issued.pop(str(run.previous["password"].reveal()), None)


def test_what_was_issued_and_not_stored_is_taken_back_with_the_rotation(world: RotationWorld) -> None:
    vault, issuer = world.open(), _Issuer()
    rotations = Rotations(vault, find=lambda _name, _options: issuer)
    rotations.set(PATH, Rules("issuer"))
    runner = Runner(vault, leases=Leases("issuing", lambda: world.elapsed), find=lambda _name, _options: issuer)
    world.advance(runner, "asked")
    assert len(issuer.issued) == 2
    rotations.cancel(PATH)
    assert progress_of(world.advance(runner)).state is State.CANCELLED
    assert set(issuer.issued) == {FIRST}
    assert issuer.calls == ["propose", "propose"]


# --- rotations that are removed meanwhile -----------------------------------------------------------------------------


def test_a_run_that_was_abandoned_in_the_middle_of_a_call_is_not_brought_back(world: RotationWorld) -> None:
    vault = world.begin()
    rotations = world.rotations(vault)
    world.advance(_scripted(world, vault, apply=_raising(TargetUnavailable("away"))), "asked")
    rotations.cancel(PATH)

    def abandoned(*_: object) -> object:
        rotations.remove(PATH, is_abandoned=True)
        message = "away"
        raise TargetUnavailable(message)

    with pytest.raises(RotationBusy):
        world.advance(_scripted(world, vault, verify=abandoned))
    with pytest.raises(RotationNotFound):
        rotations.find(PATH)


def test_nothing_begins_of_a_rotation_that_was_removed_since_it_was_seen(world: RotationWorld) -> None:
    vault = world.begin()
    runner = world.runner(vault)
    stored = runner.steps.find(PATH)
    world.rotations(vault).remove(PATH)
    with pytest.raises(RotationBusy):
        runner.advance(stored, "due")
    with pytest.raises(RotationBusy):
        runner.steps.acknowledge(stored, stored.rotation, 1)
    with pytest.raises(RotationNotFound):
        runner.steps.find(PATH)


def test_what_the_target_may_accept_is_kept_after_a_run_was_abandoned(world: RotationWorld) -> None:
    vault = world.begin(Strategy.SINGLE_SLOT)
    rotations = world.rotations(vault)
    world.account.mood = Mood.LOST_ANSWER
    world.advance(world.runner(vault), "asked")
    [accepted] = world.account.accepted
    world.account.mood = Mood.UNREACHABLE
    rotations.cancel(PATH)
    rotations.remove(PATH, is_abandoned=True)
    assert [info.labels for info in vault.history(PATH)] == [(), ("current",)]
    rotations.set(PATH, Rules("account", grace_s=0, is_hard_cut=True))
    world.account.mood = Mood.WELL
    assert world.lead_on(world.runner(vault), "asked").state is State.RETIRED
    assert str(vault.read(PATH, at=2).field("password").reveal()) == accepted


def test_a_retry_before_there_is_a_candidate_keeps_the_token_under_which_one_may_have_been_issued(
    world: RotationWorld,
) -> None:
    vault = world.begin()
    tokens: list[str] = []

    def propose(run: Run) -> object:
        tokens.append(run.token)
        message = "nothing fits"
        raise InvalidRotation(message)

    world.account.mood = Mood.REJECTING
    runner = world.runner(vault)
    world.advance(runner, "asked")
    world.wait(3600)
    refusing = _scripted(world, vault, propose=propose)
    assert progress_of(world.advance(refusing)).state is State.FAILED
    assert runner.steps.standing(PATH).pending == 2
    world.rotations(vault).retry(PATH)
    world.advance(refusing)
    assert tokens[0] == tokens[1]


# --- calls ------------------------------------------------------------------------------------------------------------


def test_a_thread_that_cannot_be_started_stops_no_rotation_for_good(
    world: RotationWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = world.begin()
    runner = world.runner(vault)
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "securecfg-rotator":
            message = "can't start new thread"
            raise RuntimeError(message)
        start(thread)

    with monkeypatch.context() as full:
        full.setattr(threading.Thread, "start", refuse)
        assert progress_of(world.advance(runner, "asked")).reason == "target-unavailable"
    world.wait(3600)
    assert progress_of(world.advance(runner)).state is State.CURRENT


def test_nothing_is_kept_of_what_a_call_that_was_left_behind_gives(
    world: RotationWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("securecfg.rotation.calls._MARGIN_S", 0.0)
    vault = world.begin(timeout_s=1)
    go_on = threading.Event()

    def late(run: Run) -> Candidate:
        go_on.wait(20)
        return world.account.rotator().propose(run)

    runner = Runner(vault, jitter=lambda: 0.5, find=lambda *_: _Scripted(world.account, propose=late))
    assert progress_of(world.advance(runner, "asked")).reason == "target-unavailable"
    assert runner.calls._under_way
    go_on.set()
    deadline = time.monotonic() + 20
    while runner.calls._under_way and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not runner.calls._under_way
