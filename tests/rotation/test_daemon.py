"""The daemon: what it does by itself, next to others, and when it is disturbed."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import pytest

from securecfg.clock import SystemClock
from securecfg.errors import FileMissing, KeyProviderUnavailable, SecurecfgError, StoreFailed, Tampered, WrongKey
from securecfg.rotation import daemon as module
from securecfg.rotation import lease
from securecfg.rotation.agenda import Agenda
from securecfg.rotation.daemon import Daemon, Limits
from securecfg.rotation.document import Rules
from securecfg.rotation.lease import this_process
from securecfg.rotation.machine import State
from securecfg.rotation.posts import Post
from securecfg.rotation.rotations import Rotations
from securecfg.rotation.runner import Runner
from securecfg.rotation.schedule import parse_schedule
from securecfg.rotation.steps import Steps
from securecfg.testing.account import Mood
from tests.rotation.conftest import FIRST, PATH
from tests.rotation.test_documents import put_newer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from securecfg.vault.vault import Vault
    from tests.rotation.conftest import RotationWorld

PATIENCE_S = 20.0


def until(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.01)


@contextmanager
def running(daemon: Daemon) -> Iterator[Daemon]:
    thread = threading.Thread(target=daemon.run)
    thread.start()
    try:
        yield daemon
    finally:
        daemon.stop()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


class _Office:
    """A vault in which the daemon has something to do, by the real time."""

    def __init__(self, world: RotationWorld) -> None:
        self.world = world
        self.account = world.account
        self.vault = self.open()

    def open(self) -> Vault:
        return self.world.open(clock=SystemClock())

    def daemon(self, **limits: float) -> Daemon:
        return Daemon(self.open, limits=Limits(**{"calls_per_s": 1e6, **limits}), find=self.account.rotator)  # type: ignore[arg-type]  # by their names

    def set(self, path: str = PATH, **rules: object) -> None:
        given = {"grace_s": 0, "is_hard_cut": True, **rules}
        Rotations(self.vault, find=self.account.rotator).set(path, Rules("account", **given))  # type: ignore[arg-type]  # by their names

    def make_due(self, path: str = PATH) -> None:
        """Say that a rotation is due now, as its schedule would."""
        steps = Steps(self.vault.authority)
        stored = steps.find(path)
        due_ns = self.vault.opened.clock.now_ns()
        obj = {"path": path, "rotator": "account", "action": "due"}
        steps.change(stored, lambda _: stored.rotation._replace(due_ns=due_ns), obj)

    def count(self, path: str = PATH) -> int:
        return Steps(self.vault.authority).find(path).rotation.rotations

    def state(self, path: str = PATH) -> State | None:
        progress = Steps(self.vault.authority).find(path).rotation.progress
        return None if progress is None else progress.state

    def password(self, at: int | str | None = None) -> str:
        return str(self.vault.read(PATH, at=at).field("password").reveal())


@pytest.fixture
def office(world: RotationWorld) -> _Office:
    world.clock.ns = 0  # the records of the past are older than those of the real time
    return _Office(world)


def test_an_agenda_gives_the_first_ones_first() -> None:
    agenda = Agenda()
    for record, moment in ((1, 30), (2, 10), (3, 20), (2, 40), (4, None)):
        agenda.put(record, moment)
    assert agenda.next_ns() == 20
    assert agenda.take(35, 1) == [3]
    assert agenda.take(35, 5) == [1]
    assert agenda.take(35, 5) == []
    agenda.put(2, None)
    assert (len(agenda), agenda.next_ns()) == (0, None)


def test_an_agenda_does_not_grow_with_what_is_put_off() -> None:
    agenda = Agenda()
    for moment in range(10_000):
        agenda.put(moment % 10, moment)
    assert len(agenda._heap) <= 100
    assert len(agenda.take(10_000, 100)) == 10


def test_rotates_what_is_due(office: _Office) -> None:
    office.set()
    office.make_due()
    with running(office.daemon()):
        until(lambda: office.count() == 1)
    assert office.account.accepted == {office.password()}
    assert office.password() != FIRST


def test_sees_what_becomes_due_while_it_runs(office: _Office) -> None:
    office.set()
    with running(office.daemon()) as daemon:
        until(lambda: daemon.health().is_ready)
        for number in (1, 2, 3):
            office.make_due()
            until(lambda number=number: office.count() == number)  # type: ignore[misc]  # lambda default
    assert office.account.accepted == {office.password()}


def test_goes_on_where_another_one_has_died(office: _Office) -> None:
    office.set()
    office.make_due()
    death = threading.Event()

    def hang(moment: str) -> None:
        if moment == "after apply" and not death.is_set():
            death.set()
            time.sleep(0.5)  # without an answer until it is not waited for any more

    office.account.hook = hang
    first = office.daemon(stop_s=0.0, lease_s=1)
    with running(first):
        until(death.is_set)
    with running(office.daemon()):
        until(lambda: office.count() == 1)
    assert office.account.accepted == {office.password()}


def test_two_do_not_rotate_twice(office: _Office) -> None:
    office.set()
    with running(office.daemon()), running(office.daemon()):
        for number in range(1, 6):
            office.make_due()
            until(lambda number=number: office.count() == number)  # type: ignore[misc]  # lambda default
    assert office.count() == 5
    assert office.account.calls.count("apply") == 5


def test_begins_nothing_that_is_paused_or_not_due(office: _Office) -> None:
    office.set()
    rotations = Rotations(office.vault, find=office.account.rotator)
    rotations.pause(PATH)
    office.make_due()
    with running(office.daemon()) as daemon:
        until(lambda: daemon.health().rotations == {"paused": 1})
        assert office.count() == 0
        rotations.resume(PATH)
        until(lambda: office.count() == 1)


def test_retires_when_the_grace_is_over(office: _Office) -> None:
    office.set(grace_s=1)
    office.make_due()
    with running(office.daemon()):
        until(lambda: office.state() is State.CURRENT)
        assert office.account.accepted == {FIRST, office.password()}
        until(lambda: office.state() is State.RETIRED)
    assert office.account.accepted == {office.password()}


def test_a_failed_rotation_stays_failed_until_somebody_says_so(office: _Office) -> None:
    office.account.mood = Mood.LOCKED
    office.set()
    office.make_due()
    with running(office.daemon()) as daemon:
        until(lambda: office.state() is State.FAILED)
        until(lambda: daemon.health().rotations == {"failed": 1})
        office.account.mood = Mood.WELL
        Rotations(office.vault, find=office.account.rotator).retry(PATH)
        until(lambda: office.count() == 1)


def test_waits_for_a_vault_that_cannot_be_opened_yet(office: _Office) -> None:
    office.set()
    office.make_due()
    attempts = []

    def open_late() -> Vault:
        attempts.append(1)
        if len(attempts) == 1:
            message = "the key service is away"
            raise KeyProviderUnavailable(message)
        return office.open()

    daemon = Daemon(open_late, find=office.account.rotator)
    with running(daemon):
        until(lambda: daemon.health().reason == "key-provider-unavailable")
        assert not daemon.health().is_ready
        until(lambda: office.count() == 1)
        assert daemon.health().is_ready


def test_ends_where_the_vault_was_altered() -> None:
    def open_altered() -> Vault:
        message = "a row was altered"
        raise Tampered(message)

    with pytest.raises(Tampered):
        Daemon(open_altered).run()


def test_ends_before_it_has_begun() -> None:
    daemon = Daemon(lambda: pytest.fail("the vault is opened"))
    daemon.stop()
    daemon.run()
    assert daemon.health().reason == "starting"


def test_looks_at_all_where_it_is_told_to(office: _Office) -> None:
    office.set()
    with running(office.daemon()) as daemon:
        until(lambda: daemon.health().is_ready)
        daemon.reload()
        office.make_due()
        until(lambda: office.count() == 1)


def test_many_are_rotated_by_few_workers(office: _Office) -> None:
    paths = [f"app/db{number}" for number in range(12)]
    for path in paths:
        office.vault.write(path, {"username": "shop", "password": FIRST})
        office.set(path)
        office.make_due(path)
    with running(office.daemon(workers=3)):
        until(lambda: all(office.count(path) == 1 for path in paths))


def test_is_alive_while_it_waits_for_the_vault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AWAKE_S", 0.1)  # it is taken for dead after six times that
    attempts: list[float] = []

    def open_never() -> Vault:
        attempts.append(time.monotonic())
        message = "the key service is away"
        raise KeyProviderUnavailable(message)

    daemon = Daemon(open_never)
    with running(daemon):
        until(lambda: len(attempts) == 1)
        while len(attempts) == 1:
            assert daemon.health().is_alive
            time.sleep(0.02)


@pytest.mark.parametrize("error", [KeyProviderUnavailable, WrongKey, FileMissing])
def test_tries_to_open_the_vault_at_once_where_it_is_told_to(
    error: type[SecurecfgError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE_S", 3_600.0)
    attempts: list[float] = []

    def open_never() -> Vault:
        attempts.append(time.monotonic())
        message = "not now"
        raise error(message)

    daemon = Daemon(open_never)
    with running(daemon):
        for number in (1, 2, 3):
            until(lambda number=number: len(attempts) == number)  # type: ignore[misc]  # lambda default
            until(lambda: daemon.health().reason == error.code)
            daemon.reload()


def test_says_what_it_may_not_rotate(office: _Office) -> None:
    office.set()
    office.make_due()
    stranger = Daemon(lambda: office.world.open("svc:stranger", clock=SystemClock()), find=office.account.rotator)
    with running(stranger):
        until(lambda: stranger.health().hindered == {"denied": 1})
        assert stranger.health().is_ready
        Rotations(office.vault, find=office.account.rotator).pause(PATH)
        until(lambda: not stranger.health().hindered)
    assert office.count() == 0


@pytest.mark.parametrize("is_running", [True, False])
def test_leaves_alone_what_a_newer_version_has_set(
    office: _Office, caplog: pytest.LogCaptureFixture, *, is_running: bool
) -> None:
    office.set()
    office.vault.write("app/newer", "x")
    office.set("app/newer")
    if not is_running:
        put_newer(office.vault, "app/newer")
    with running(office.daemon()) as daemon:
        until(lambda: daemon.health().is_ready)
        if is_running:
            put_newer(office.vault, "app/newer")
        until(lambda: daemon.health().hindered == {"unsupported-format": 1})
        office.make_due()
        until(lambda: office.count() == 1)
        assert daemon.health().is_ready
        assert daemon.health().rotations == {"idle": 1}
    told = [record for record in caplog.records if getattr(record, "event", "") == "rotation.interrupted"]
    assert [record.__dict__["code"] for record in told] == ["unsupported-format"]


def test_goes_on_with_what_was_under_way_when_the_vault_had_to_be_opened_again(office: _Office) -> None:
    office.set()
    office.make_due()
    opened: list[Vault] = []
    is_hanging, may_go_on = threading.Event(), threading.Event()

    def hang(moment: str) -> None:
        if moment == "before apply" and not is_hanging.is_set():
            is_hanging.set()
            may_go_on.wait(PATIENCE_S)

    def open_noted() -> Vault:
        opened.append(office.open())
        return opened[-1]

    office.account.hook = hang
    daemon = Daemon(open_noted, limits=Limits(stop_s=0.0, calls_per_s=1e6), find=office.account.rotator)
    with running(daemon):
        until(is_hanging.is_set)
        opened[0].close()
        until(lambda: len(opened) == 2 and daemon.health().is_ready)
        may_go_on.set()
        until(lambda: office.count() == 1)


def test_what_was_changed_after_a_worker_has_looked_is_not_lost(office: _Office) -> None:
    office.set()
    post, runner = Post(threading.Condition()), Runner(office.vault, find=office.account.rotator)
    record = runner.steps.find(PATH).rotation.record
    post.done(record, None)
    office.make_due()
    post.look_at(runner, record)
    post.take_back(runner)
    assert post.agenda.next_ns() == runner.steps.find(PATH).rotation.due_ns


def test_what_hinders_one_rotation_is_not_forgotten_with_the_success_of_another() -> None:
    daemon = Daemon(lambda: pytest.fail("the vault is opened"))
    daemon._reason = ""
    post = Post(daemon._wake)
    daemon._open = [(post, cast("Runner", None))]
    post.done(1, 5, hindered_by=StoreFailed)
    post.done(2, None)
    assert daemon.health().reason == "store-failed"
    post.done(1, None)
    assert daemon.health().is_ready


def test_a_process_that_is_hidden_is_not_taken_for_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    holder = this_process()
    monkeypatch.setattr(lease, "_started", lambda _pid: "")  # as under `/proc` for processes of other users
    assert not lease._is_gone(holder)
    place, _, rest = holder.partition("/")
    assert lease._is_gone(f"{place}/{2**22 + 1}/{rest.partition('/')[2]}")
    assert not lease._is_gone(f"{place}/{2**80}/{rest.partition('/')[2]}")  # no number of a process


def test_what_a_closed_vault_has_interrupted_is_looked_at_again(office: _Office) -> None:
    office.set()
    office.make_due()
    closed = Runner(office.open(), find=office.account.rotator)
    stored = closed.steps.find(PATH)
    closed.vault.close()
    post = Post(threading.Condition())
    post.work(closed, stored.rotation.record)
    post.take_back(Runner(office.vault, find=office.account.rotator))
    assert post.agenda.next_ns() == stored.rotation.due_ns


def test_what_a_worker_said_last_is_not_taken_for_what_is_known_since(world: RotationWorld) -> None:
    vault = world.begin(schedule=parse_schedule(every="30d").to_json())
    record = world.rotations(vault).find(PATH).record
    post, runner = Post(threading.Condition()), world.runner(vault)
    post.load(runner)
    world.wait(31 * 86_400)
    assert post.agenda.take(world.clock.ns, 1) == [record]
    post.working.add(record)
    post.done(record, None)
    post.load(runner)
    moment = post.agenda.next_ns()
    post.take_back(runner)
    assert post.agenda.next_ns() == moment is not None
