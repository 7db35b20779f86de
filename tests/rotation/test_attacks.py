"""What happens to rotations at the worst moment, or because somebody means ill; each left a target or a label wrong."""

from __future__ import annotations

import os
import socket
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

import pytest

from securecfg.errors import InvalidRotation, RotationBusy, SecurecfgError, TargetUnavailable
from securecfg.rotation import Run, Strategy, open_rotator
from securecfg.rotation.daemon import Daemon, Limits
from securecfg.rotation.document import Rules
from securecfg.rotation.lease import Leases
from securecfg.rotation.machine import State
from securecfg.rotation.runner import Runner
from securecfg.secret import Secret
from securecfg.testing.account import Mood
from tests.rotation.conftest import FIRST, PATH, progress_of
from tests.rotation.test_daemon import _Office, running, until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from securecfg.rotation.document import Stored
    from securecfg.rotation.runner import StepDetails
    from securecfg.rotation.steps import After, Effect
    from securecfg.vault.vault import Vault
    from tests.rotation.conftest import RotationWorld


class _Killed(BaseException):
    """Ends a process."""


@pytest.fixture
def office(world: RotationWorld) -> _Office:
    world.clock.ns = 0
    return _Office(world)


def _password(vault: Vault, at: int | str | None = None) -> str:
    return str(vault.read(PATH, at=at).field("password").reveal())


def _labels(vault: Vault) -> dict[str, int]:
    return {label: cast("int", info.version) for info in vault.history(PATH) for label in info.labels}


def _stop_in(world: RotationWorld, vault: Vault, state: State) -> Runner:
    """Return a runner that ended in order, right after it had stored a state."""
    runner = world.runner(vault)
    runner.observe = lambda step: runner.stop() if step.to == state and step.from_ != step.to else None
    assert progress_of(world.advance(runner, "asked")).state is state
    return runner


def _before_the_swap(runner: Runner, do: Callable[[], object]) -> None:
    """Let something be done between the last look at the secret and the transaction that swaps its labels."""
    change = runner.steps.change

    def change_late(stored: Stored, after: After, obj: Mapping[str, object], effect: Effect | None = None) -> Stored:
        runner.steps.change = change  # type: ignore[method-assign]  # once
        do()
        return change(stored, after, obj, effect)

    def observe(step: StepDetails) -> None:
        if step.to == State.TESTED:
            runner.observe = lambda _: None
            runner.steps.change = change_late  # type: ignore[method-assign]  # what comes between is not there to be waited for

    runner.observe = observe


# --- wake-ups --------------------------------------------------------------------------------------------------------


def test_a_daemon_goes_on_with_what_was_paused_in_its_middle(office: _Office) -> None:
    office.set(grace_s=0)
    office.make_due()
    rotations = office.world.rotations(office.vault)

    def pause(moment: str) -> None:
        if moment == "before verify":
            office.account.hook = lambda _: None
            rotations.pause(PATH)

    office.account.hook = pause
    with running(office.daemon()) as daemon:
        until(lambda: daemon.health().rotations == {"paused": 1} and not daemon.health().working)
        rotations.resume(PATH)
        until(lambda: office.count() == 1)


def test_a_daemon_goes_on_with_what_another_process_began_and_died_of(office: _Office) -> None:
    office.set()
    with running(office.daemon()) as daemon:
        until(lambda: daemon.health().is_ready)
        other = Runner(office.vault, leases=Leases("another-machine/1/1/x", lease_s=1), find=office.account.rotator)

        def die(step: object) -> None:
            raise _Killed

        other.observe = die
        with pytest.raises(_Killed):
            other.advance(other.steps.find(PATH), "asked")
        until(lambda: office.count() == 1)


def test_a_clock_that_was_put_back_does_not_let_a_daemon_wait(world: RotationWorld) -> None:
    vault = world.begin(grace_s=0)
    world.account.mood = Mood.UNREACHABLE
    assert progress_of(world.advance(world.runner(vault), "asked")).state is State.PENDING
    world.account.mood = Mood.WELL
    daemon = Daemon(world.open, limits=Limits(calls_per_s=1e6), find=world.account.rotator)
    with running(daemon):
        until(lambda: daemon.health().is_ready)
        world.clock.ns -= 86_400_000_000_000
        until(lambda: world.rotations(vault).find(PATH).rotations == 1)


# --- what is known of the target --------------------------------------------------------------------------------------


def test_what_was_tried_by_one_that_ended_in_order_is_tried_again_before_readers_get_it(world: RotationWorld) -> None:
    vault = world.begin()
    _stop_in(world, vault, State.TESTED)
    world.account.set_accepted(FIRST)  # a backup of the target was restored meanwhile
    world.account.hook = lambda moment: seen.append((moment, _labels(vault)["current"]))
    seen: list[tuple[str, int]] = []
    assert world.lead_on(world.runner(vault)).state is State.RETIRED
    assert ("before apply", 1) in seen
    assert seen[0] == ("before verify", 1)


def test_what_is_written_while_labels_are_swapped_back_stays_current(world: RotationWorld) -> None:
    vault = world.begin()
    world.account.mood = Mood.UNREACHABLE
    runner = world.runner(vault)
    world.advance(runner, "asked")
    vault.write(PATH, {"username": "shop", "password": "written-wrong"})
    world.account.mood = Mood.WELL
    world.wait(10)
    tries = []

    def write(moment: str) -> None:
        if moment == "before verify":
            tries.append(moment)
            if len(tries) == 3:  # the candidate and what is current are refused; this one is `previous`
                vault.write(PATH, {"username": "shop", "password": "written-right"})
                world.account.set_accepted(FIRST, "written-right")
        if moment == "before apply":
            at_apply.append(_password(vault))

    at_apply: list[str] = []
    world.account.hook = write
    for _ in range(5):
        try:
            world.advance(runner)
        except RotationBusy:
            continue
        break
    assert at_apply == ["written-right"]


def test_a_secret_that_is_deleted_right_before_the_swap_stays_deleted(world: RotationWorld) -> None:
    vault = world.begin()
    runner = world.runner(vault)

    _before_the_swap(runner, lambda: vault.delete(PATH))
    with pytest.raises(SecurecfgError):
        world.advance(runner, "asked")
    assert "current" not in _labels(vault)
    failed = progress_of(world.advance(runner))
    assert (failed.state, failed.reason) == (State.FAILED, "secret-not-found")


# --- calls that are not over ------------------------------------------------------------------------------------------


def test_nothing_is_taken_back_while_a_call_is_under_way(world: RotationWorld) -> None:
    vault = world.begin(Strategy.SINGLE_SLOT, timeout_s=1)
    go_on, is_over = threading.Event(), threading.Event()

    class _Slow:
        strategy, target, identity = Strategy.SINGLE_SLOT, "account", frozenset({"username"})

        def __init__(self) -> None:
            inner = world.account.rotator()
            self.propose, self.verify, self.retire = inner.propose, inner.verify, inner.retire
            self._inner = inner

        def apply(self, run: Run, /) -> None:
            if not go_on.is_set():
                go_on.wait(20)
                self._inner.apply(run)
                is_over.set()
                return
            self._inner.apply(run)

    runner = Runner(vault, leases=Leases("holder", lease_s=30), jitter=lambda: 0.5, find=lambda *_: _Slow())
    assert progress_of(world.advance(runner, "asked")).reason == "target-unavailable"
    world.rotations(vault).cancel(PATH)
    world.wait(10)
    for _ in range(3):
        with pytest.raises(RotationBusy):
            world.advance(runner)
    reopened = Runner(vault, leases=runner.leases, calls=runner.calls, find=lambda *_: _Slow())
    with pytest.raises(RotationBusy):
        world.advance(reopened)
    go_on.set()
    assert is_over.wait(20)
    until(lambda: _is_free(world, runner))
    assert progress_of(world.rotations(vault).find(PATH)).state is State.CANCELLED
    assert world.account.accepted == {_password(vault)} == {FIRST}


def _is_free(world: RotationWorld, runner: Runner) -> bool:
    try:
        world.advance(runner)
    except RotationBusy:
        return False
    return True


# --- confused deputies ------------------------------------------------------------------------------------------------


def test_what_somebody_wrote_by_hand_is_not_told_to_a_target_for_another_login(world: RotationWorld) -> None:
    vault = world.begin()
    world.account.mood = Mood.UNREACHABLE
    runner = world.runner(vault)
    waiting = progress_of(world.advance(runner, "asked"))
    vault.delete(PATH, version=waiting.version)
    vault.write(PATH, {"username": "victim", "password": "known-to-who-wrote-it"})
    world.account.mood = Mood.WELL
    world.wait(10)
    assert progress_of(world.advance(runner)).state is State.FAILED
    world.rotations(vault).cancel(PATH)
    world.lead_on(runner)
    assert "known-to-who-wrote-it" not in world.account.accepted


def test_what_somebody_wrote_for_another_login_is_not_retired(world: RotationWorld) -> None:
    vault = world.begin()
    runner = world.runner(vault)
    world.account.set_accepted(FIRST, "of-the-victim")
    victims = {"username": "victim", "password": "of-the-victim"}
    _before_the_swap(runner, lambda: vault.write(PATH, victims))
    world.advance(runner, "asked")
    world.wait(61)
    assert progress_of(world.advance(runner)).state is State.FAILED
    assert "of-the-victim" in world.account.accepted


# --- what is stored and shown -----------------------------------------------------------------------------------------


class _Named(TargetUnavailable):
    """An error of foreign code, whose code is what it likes."""


@pytest.mark.parametrize("code", ["canary-of-foreign-code", 5, None])
def test_no_code_of_foreign_code_is_kept(world: RotationWorld, code: Any) -> None:  # noqa: ANN401 - of any type
    vault = world.begin()
    told: list[StepDetails] = []

    def fail(moment: str) -> None:
        if moment == "before apply":
            error = _Named("it does not answer")
            error.code = code  # type: ignore[misc]  # foreign code does so
            raise error

    world.account.hook = fail
    runner = world.runner(vault)
    runner.observe = told.append
    world.advance(runner, "asked")
    assert progress_of(world.rotations(vault).find(PATH)).reason == "target-unavailable"
    assert {step.reason for step in told} == {"", "target-unavailable"}


def test_nothing_is_stored_that_could_not_be_read_again(world: RotationWorld) -> None:
    vault = world.open()
    with pytest.raises(InvalidRotation):
        world.rotations(vault).set(PATH, Rules("account", is_hard_cut="yes"))  # type: ignore[arg-type]  # as untyped callers may
    assert world.rotations(vault).all() == []


@pytest.mark.parametrize("rotator", ["postgresql", "mysql", "redis"])
def test_no_device_or_pipe_is_read_for_authorities(tmp_path: Path, rotator: str) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        where = {"host": "127.0.0.1", "port": str(port)}
        if rotator == "redis":
            where = {"hosts": f"127.0.0.1:{port}", "persist": "none"}
        for file in ("/dev/zero", str(pipe)):
            login = {"username": Secret("u"), "password": Secret("p" * 20)}
            opened = open_rotator(rotator, {**where, "tls": "verified", "tls-ca": file})
            began = time.monotonic()
            with pytest.raises((TargetUnavailable, InvalidRotation)):
                opened.verify(login, Run("a1" * 16, datetime.now(UTC), 30.0, login))
            assert time.monotonic() - began < 15
