"""Programs that follow rotations: who is called, when, in which order, and what that comes to."""

from __future__ import annotations

import queue
import threading
import time
import traceback
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest

from securecfg.audit import Event
from securecfg.config import bind, get
from securecfg.errors import (
    AccessDenied,
    InvalidPath,
    NotAuthenticated,
    StoreBusy,
    Unsupported,
    UsageError,
    VersionNotFound,
)
from securecfg.rotation import Strategy, with_retry_on_auth_failure
from securecfg.rotation.consumers import CALLS_AT_ONCE, LONGEST_PAUSE_S, Consumers
from securecfg.rotation.machine import State
from securecfg.rotation.rotations import Rotations
from securecfg.rotation.versions import Seen, became_current
from securecfg.secret import Secret
from securecfg.sources import load
from securecfg.vault.commits.maintenance import compact
from securecfg.vault.index.history import DELETED, LIVE, History, Version
from tests.rotation.conftest import FIRST, PATH
from tests.vault.world import ADMIN, BLIND, READER, grant, interrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from securecfg.vault.references import SecretRef
    from securecfg.vault.values import Value
    from securecfg.vault.vault import Vault
    from tests.rotation.conftest import RotationWorld

PATIENCE_S = 20.0
CANARY = "canary-in-a-callback"


def _until(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.005)


class _Told:
    """A callback that notes down what it was told, and fails as often as it should."""

    def __init__(self, failures: int = 0) -> None:
        self.calls: queue.SimpleQueue[tuple[str, object, object]] = queue.SimpleQueue()
        self.failures = failures

    def __call__(self, old: SecretRef | None, new: SecretRef) -> None:
        self.calls.put((new.path, old and old.at, new.at))
        if self.failures > 0:
            self.failures -= 1
            raise ValueError(CANARY)

    def next(self) -> tuple[str, object, object]:
        return self.calls.get(timeout=PATIENCE_S)

    def settled(self, vault: Vault) -> bool:
        """Return whether nothing is told of what was changed before now."""
        marked = _Told()
        stop = vault.on_rotate("zz/mark", marked)
        vault.write("zz/mark", "x")
        marked.next()
        _until(lambda: not vault._consumers._lines)
        stop()
        return self.calls.empty()


def _password(vault: Vault, at: int | str | None = None) -> str:
    return str(vault.read(PATH, at=at).field("password").reveal())


def _events(vault: Vault, event: Event) -> list[Mapping[str, object]]:
    return [entry.record.obj for entry in vault.log.records() if entry.record.event == event]


@pytest.fixture
def vault(world: RotationWorld) -> Vault:
    return world.open()


# --- which patterns, and for whom -------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["", "/app", "app/", "app//x", "**/x", "a**", "app/..", "app/#x"])
def test_refuses_what_is_no_pattern_of_grant_tables(vault: Vault, pattern: str) -> None:
    with pytest.raises(InvalidPath):
        vault.on_rotate(pattern, _Told())


def test_refuses_to_follow_on_behalf_of_nobody(world: RotationWorld) -> None:
    with pytest.raises(NotAuthenticated):
        world.open(None).on_rotate("**", _Told())


def test_refuses_a_vault_in_which_no_read_can_be_recorded(world: RotationWorld) -> None:
    with pytest.raises(Unsupported, match="reading only"):
        world.open(read_only=True).on_rotate("**", _Told())


@pytest.mark.parametrize(
    ("pattern", "told"),
    [
        ("app/db", ["app/db"]),
        ("app/*", ["app/db"]),
        ("app/**", ["app/db", "app/sub/db"]),
        ("*/sub/*", ["app/sub/db"]),
        ("app/d*", ["app/db"]),
        ("ap/**", []),
        ("**", ["app/db", "app/sub/db", "appendix"]),
    ],
)
def test_calls_for_what_matches_as_in_grant_tables(vault: Vault, pattern: str, told: list[str]) -> None:
    callback = _Told()
    vault.on_rotate(pattern, callback)
    for path in ("app/db", "app/sub/db", "appendix"):
        vault.write(path, {"username": "shop", "password": "new"})
    assert sorted(callback.next()[0] for _ in told) == told
    if pattern != "**":
        assert callback.settled(vault)


def test_calls_nobody_for_what_he_may_not_read(world: RotationWorld, vault: Vault) -> None:
    grant(vault)
    reader, callback = world.open(READER), _Told()
    reader.on_rotate("**", callback)
    vault.write("other/db", "hidden")
    vault.write("app/x", "shown")
    assert callback.next() == ("app/x", None, 1)
    assert callback.calls.empty()
    grant(vault, "")
    vault.write("app/x", "hidden by now")
    control = _Told()
    vault.on_rotate("app/x", control)
    vault.write("app/x", "hidden as well")
    control.next()
    _until(lambda: not reader._consumers._lines and _caught_up(reader))
    assert callback.calls.empty()


def _caught_up(vault: Vault) -> bool:
    vault.opened.refresh()
    size = vault.opened.replica.checkpoint.size
    return all(follower.size >= size for follower in vault._consumers._followers)


# --- when, and in which order -----------------------------------------------------------------------------------------


def test_what_changed_before_is_not_told(vault: Vault) -> None:
    vault.write(PATH, "2")
    callback = _Told()
    vault.on_rotate(PATH, callback)
    assert callback.settled(vault)
    vault.write(PATH, "3")
    assert callback.next() == (PATH, 2, 3)


def test_gives_handles_on_the_versions(vault: Vault) -> None:
    told: queue.SimpleQueue[tuple[object, object]] = queue.SimpleQueue()

    @vault.on_rotate("app/**")
    def tell(old: SecretRef | None, new: SecretRef) -> None:
        assert old is not None
        told.put((old.read().field("password").reveal(), new.read().field("password").reveal()))

    assert callable(tell)
    for before, after in ((FIRST, "second"), ("second", "third")):
        vault.write(PATH, {"username": "shop", "password": after})
        assert told.get(timeout=PATIENCE_S) == (before, after)


def test_calls_for_one_secret_come_in_order_and_one_at_a_time(world: RotationWorld, vault: Vault) -> None:
    told: list[tuple[object, object]] = []
    busy, most, lock = [0], [0], threading.Lock()

    def tell(old: SecretRef | None, new: SecretRef) -> None:
        with lock:
            busy[0] += 1
            most[0] = max(most[0], busy[0])
        time.sleep(0.001)
        told.append((old and old.at, new.at))
        with lock:
            busy[0] -= 1

    vault.on_rotate("app/**", tell)
    other = world.open()
    for number in range(40):
        (vault, other)[number % 2].write(PATH, f"value {number}")
    _until(lambda: len(told) >= 40)
    assert told == [(number, number + 1) for number in range(1, 41)]
    assert most == [1]


def test_a_version_that_is_deleted_meanwhile_is_left_out(vault: Vault) -> None:
    hold, began, told = threading.Event(), threading.Event(), _Told()

    def tell(old: SecretRef | None, new: SecretRef) -> None:
        told(old, new)
        began.set()
        assert hold.wait(PATIENCE_S)

    vault.on_rotate(PATH, tell)
    vault.write(PATH, "2")
    assert began.wait(PATIENCE_S)
    for number in (3, 4):
        vault.write(PATH, str(number))
    _until(lambda: _caught_up(vault))
    vault.delete(PATH, 3)
    hold.set()
    assert [told.next(), told.next()] == [(PATH, 1, 2), (PATH, None, 4)]
    assert told.settled(vault)


def test_different_secrets_are_called_for_side_by_side_and_only_so_many(vault: Vault) -> None:
    together = threading.Barrier(CALLS_AT_ONCE)
    done: queue.SimpleQueue[str] = queue.SimpleQueue()

    def tell(_: SecretRef | None, new: SecretRef) -> None:
        together.wait(PATIENCE_S)
        done.put(new.path)

    vault.on_rotate("many/*", tell)
    with vault.batch() as batch:
        for number in range(2 * CALLS_AT_ONCE):
            batch.write(f"many/{number}", "x")
    assert len({done.get(timeout=PATIENCE_S) for _ in range(2 * CALLS_AT_ONCE)}) == 2 * CALLS_AT_ONCE
    assert sum(thread.name == "securecfg-consumer" for thread in threading.enumerate()) <= CALLS_AT_ONCE


def test_a_secret_that_is_moved_is_followed_where_it_matches(vault: Vault) -> None:
    callback = _Told()
    vault.on_rotate("app/**", callback)
    vault.move(PATH, "app/moved")
    vault.write("app/moved", "2")
    assert callback.next() == ("app/moved", 1, 2)
    vault.move("app/moved", "away/db")
    vault.write("away/db", "3")
    assert callback.settled(vault)
    vault.move("away/db", PATH)
    assert callback.next() == (PATH, 2, 3)


@pytest.mark.parametrize("target", ["app/moved", "away/db"])
def test_a_secret_that_is_moved_before_its_turn_is_told_of_where_it_is(vault: Vault, target: str) -> None:
    hold, began, told = threading.Event(), threading.Event(), _Told()

    def tell(old: SecretRef | None, new: SecretRef) -> None:
        told(old, new)
        began.set()
        assert hold.wait(PATIENCE_S)

    vault.on_rotate("app/**", tell)
    vault.write(PATH, "2")
    assert began.wait(PATIENCE_S)
    vault.write(PATH, "3")
    _until(lambda: _caught_up(vault))
    vault.move(PATH, target)
    hold.set()
    assert told.next() == (PATH, 1, 2)
    if target.startswith("app/"):
        assert told.next() == (target, 2, 3)
    assert told.settled(vault)


def test_a_version_that_has_expired_by_its_turn_is_left_out(world: RotationWorld, vault: Vault) -> None:
    broken = _Told(failures=1)
    vault.on_rotate(PATH, broken)
    vault.write(PATH, "2", ttl=timedelta(seconds=60))
    broken.next()
    world.wait(61)
    vault.write(PATH, "3")
    assert broken.next() == (PATH, None, 3)


def test_of_a_secret_that_is_moved_here_only_the_current_version_is_told(vault: Vault) -> None:
    for number in range(3):
        vault.write("away/db", str(number))
    callback = _Told()
    vault.on_rotate("app/**", callback)
    vault.move("away/db", "app/came")
    assert callback.next() == ("app/came", None, 3)
    assert callback.settled(vault)


def test_labels_and_deletions_are_no_new_versions(vault: Vault) -> None:
    vault.write(PATH, "2")
    callback = _Told()
    vault.on_rotate(PATH, callback)
    vault.label(PATH, "canary", 1)
    vault.delete(PATH, 1)
    vault.undelete(PATH, 1)
    vault.delete(PATH)
    assert callback.settled(vault)
    vault.undelete(PATH, 2)
    assert callback.next() == (PATH, None, 2)


def test_what_a_compaction_has_folded_away_is_told_all_the_same(world: RotationWorld, vault: Vault) -> None:
    callback = _Told()
    following = world.open()
    following.on_rotate("app/**", callback)
    with following._consumers._changed:  # nobody looks meanwhile
        for number in range(2, 5):
            vault.write(PATH, str(number))
        compact(vault.opened)
    assert [callback.next()[1:] for _ in range(3)] == [(1, 2), (2, 3), (3, 4)]


def test_what_changes_while_the_store_is_away_is_told_when_it_comes_back(world: RotationWorld, vault: Vault) -> None:
    following, store = interrupted(world)
    callback = _Told()
    following.on_rotate("app/**", callback)
    over, left = threading.Event(), iter(range(3, 0, -1))

    def fail() -> None:
        if next(left) > 1:
            store.interrupt("wait", None, fail)
        else:
            over.set()
        message = "the store is busy"
        raise StoreBusy(message)

    store.interrupt("wait", None, fail)
    vault.write(PATH, "2")
    vault.write(PATH, "3")
    assert [callback.next()[1:], callback.next()[1:]] == [(1, 2), (2, 3)]
    assert over.wait(PATIENCE_S)
    vault.write(PATH, "4")
    assert callback.next() == (PATH, 3, 4)


# --- failures ---------------------------------------------------------------------------------------------------------


def test_one_that_fails_is_recorded_without_its_text_and_called_again(
    vault: Vault, caplog: pytest.LogCaptureFixture
) -> None:
    callback = _Told(failures=2)
    vault.on_rotate(PATH, callback)
    vault.write(PATH, "2")
    vault.write(PATH, "3")
    assert [callback.next()[1:] for _ in range(4)] == [(1, 2), (1, 2), (1, 2), (2, 3)]
    _until(lambda: not vault._consumers._lines)
    assert _events(vault, Event.ROTATION_CALLBACK_FAILED) == [{"path": PATH, "ver": 2}] * 2
    assert CANARY not in caplog.text
    assert PATH not in caplog.text


def test_the_pauses_grow_to_a_minute(vault: Vault) -> None:
    callback = _Told(failures=1)
    vault.on_rotate(PATH, callback)
    consumers: Consumers = vault._consumers
    vault.write(PATH, "2")
    callback.next()
    _until(lambda: [line.pause_s for line in list(consumers._lines.values())] == [0.2])
    [line] = consumers._lines.values()
    for _ in range(12):
        consumers._give_back(line, is_over=False)
    assert line.pause_s == LONGEST_PAUSE_S


def test_one_that_fails_does_not_hold_up_others(vault: Vault) -> None:
    broken, well = _Told(failures=10**6), _Told()
    vault.on_rotate("app/**", broken)
    vault.on_rotate("app/**", well)
    for number in range(3 * CALLS_AT_ONCE):
        vault.write(f"app/{number}", "x")
    assert len({well.next()[0] for _ in range(3 * CALLS_AT_ONCE)}) == 3 * CALLS_AT_ONCE


def test_a_callback_that_ends_its_thread_is_one_that_failed(vault: Vault) -> None:
    calls = queue.SimpleQueue[int]()

    def leave(_: SecretRef | None, new: SecretRef) -> None:
        calls.put(cast("int", new.at))
        if calls.qsize() == 1:
            raise SystemExit

    vault.on_rotate(PATH, leave)
    vault.write(PATH, "2")
    _until(lambda: calls.qsize() == 2)
    assert len(_events(vault, Event.ROTATION_CALLBACK_FAILED)) == 1


# --- the end ----------------------------------------------------------------------------------------------------------


def test_nothing_is_called_once_it_is_stopped(vault: Vault) -> None:
    callback, other = _Told(), _Told(failures=10**6)
    stop, stop_other = vault.on_rotate(PATH, callback), vault.on_rotate(PATH, other)
    vault.write(PATH, "2")
    callback.next()
    stop()
    stop()
    vault.write(PATH, "3")
    watcher = vault._consumers._watcher
    stop_other()
    assert callback.settled(vault)
    watcher.join(PATIENCE_S)
    assert not watcher.is_alive()
    assert vault._consumers._lines == {}
    again = _Told()
    vault.on_rotate(PATH, again)
    vault.write(PATH, "4")
    assert again.next() == (PATH, 3, 4)


@pytest.mark.parametrize("fails", [False, True])
def test_the_threads_end_with_the_vault(world: RotationWorld, *, fails: bool) -> None:
    vault, callback = world.open(), _Told(failures=10**6 * fails)
    vault.on_rotate(PATH, callback)
    vault.write(PATH, "2")
    callback.next()
    watcher = vault._consumers._watcher
    vault.close()
    watcher.join(PATIENCE_S)
    assert not watcher.is_alive()
    _until(lambda: not any(thread.name == "securecfg-consumer" for thread in threading.enumerate()))


def test_what_is_lent_follows_no_longer_than_it_is(world: RotationWorld, vault: Vault) -> None:
    grant(vault)
    callback = _Told()
    with vault.acting(READER) as lent:
        lent.on_rotate(PATH, callback)
        watcher = lent._consumers._watcher
        vault.write(PATH, "2")
        assert callback.next() == (PATH, 1, 2)
    watcher.join(PATIENCE_S)
    assert not watcher.is_alive()
    vault.write(PATH, "3")
    assert callback.settled(vault)


# --- rotations --------------------------------------------------------------------------------------------------------


def _progress(world: RotationWorld, vault: Vault) -> Any:  # noqa: ANN401 - a tuple of another module
    return world.rotations(vault).find(PATH).progress


def test_a_consumer_that_has_the_new_version_ends_the_grace(world: RotationWorld) -> None:
    vault = world.begin(consumers=(ADMIN,))
    callback = _Told()
    vault.on_rotate("app/**", callback)
    runner = world.runner(vault)
    world.advance(runner, "asked")
    assert callback.next() == (PATH, 1, 2)
    _until(lambda: bool(_progress(world, vault).acknowledged))
    after = world.advance(runner)
    assert after.progress is not None
    assert after.progress.state is State.RETIRED
    assert _events(vault, Event.ROTATION_ACKNOWLEDGED) == [{"path": PATH, "ver": 2}]
    assert callback.settled(vault)


def test_a_candidate_is_told_to_nobody_before_it_is_current(world: RotationWorld) -> None:
    vault = world.begin()
    callback = _Told()
    vault.on_rotate("app/**", callback)
    seen: list[bool] = []

    def look(_: str) -> None:
        _until(lambda: _caught_up(vault) and not vault._consumers._lines)
        seen.append(callback.calls.empty())

    world.account.hook = look
    world.advance(world.runner(vault), "asked")
    assert seen
    assert all(seen)
    assert callback.next() == (PATH, 1, 2)
    assert callback.settled(vault)


def test_what_failed_is_not_acknowledged_and_the_grace_goes_on(world: RotationWorld) -> None:
    vault = world.begin(consumers=(ADMIN,))
    callback = _Told(failures=10**6)
    vault.on_rotate("app/**", callback)
    runner = world.runner(vault)
    world.advance(runner, "asked")
    callback.next()
    callback.next()
    after = world.advance(runner)
    assert after.progress is not None
    assert (after.progress.state, after.progress.acknowledged) == (State.CURRENT, ())
    assert _password(vault, "previous") == FIRST
    callback.failures = 0
    _until(lambda: bool(_progress(world, vault).acknowledged))


def test_a_version_is_acknowledged_when_all_callbacks_of_the_program_have_it(world: RotationWorld) -> None:
    vault = world.begin(consumers=(ADMIN,))
    well, broken = _Told(), _Told(failures=10**6)
    vault.on_rotate("app/**", well)
    vault.on_rotate("app/*", broken)
    world.advance(world.runner(vault), "asked")
    well.next()
    broken.next()
    broken.next()
    assert _progress(world, vault).acknowledged == ()
    broken.failures = 0
    _until(lambda: _progress(world, vault).acknowledged == (ADMIN,))


@pytest.mark.parametrize("is_failing", [True, False])
def test_what_one_callback_has_is_acknowledged_where_the_other_is_stopped_before_its_turn(
    world: RotationWorld, *, is_failing: bool
) -> None:
    vault = world.begin(consumers=(ADMIN,))
    well, late = _Told(), _Told(failures=10**6 if is_failing else 0)
    stops: list[Callable[[], None]] = []

    def stop_the_other(old: SecretRef | None, new: SecretRef) -> None:
        well(old, new)
        if not is_failing:
            stops[0]()

    vault.on_rotate("app/**", stop_the_other)
    stops.append(vault.on_rotate("app/*", late))
    world.advance(world.runner(vault), "asked")
    well.next()
    if is_failing:
        late.next()
        late.next()
        assert _progress(world, vault).acknowledged == ()
        stops[0]()
    _until(lambda: _progress(world, vault).acknowledged == (ADMIN,))
    _until(lambda: not vault._consumers._lines and not vault._consumers._heard)
    assert late.settled(vault) or is_failing


def test_what_no_callback_has_is_not_acknowledged_because_one_is_stopped(world: RotationWorld) -> None:
    vault = world.begin(consumers=(ADMIN,))
    broken = _Told(failures=10**6)
    vault.on_rotate("zz/*", _Told())
    stop = vault.on_rotate("app/**", broken)
    world.advance(world.runner(vault), "asked")
    broken.next()
    broken.next()
    stop()
    _until(lambda: not vault._consumers._lines and not vault._consumers._workers)
    assert _progress(world, vault).acknowledged == ()


def test_only_whom_the_rotation_names_acknowledges(world: RotationWorld) -> None:
    vault = world.begin(consumers=(READER,))
    grant(vault)
    callback, reading = _Told(), _Told()
    vault.on_rotate("app/**", callback)
    reader = world.open(READER)
    world.advance(world.runner(vault), "asked")
    callback.next()
    _until(lambda: not vault._consumers._lines)
    assert _progress(world, vault).acknowledged == ()
    reader.on_rotate("app/**", reading)
    assert reading.next() == (PATH, 1, 2)
    _until(lambda: _progress(world, vault).acknowledged == (READER,))


def test_what_a_rotation_waits_for_is_told_once_at_the_start(world: RotationWorld) -> None:
    vault = world.begin(consumers=(ADMIN,))
    world.advance(world.runner(vault), "asked")
    callback, later = _Told(), _Told()
    stop = vault.on_rotate("app/**", callback)
    assert callback.next() == (PATH, 1, 2)
    _until(lambda: bool(_progress(world, vault).acknowledged))
    assert callback.settled(vault)
    stop()
    vault.on_rotate("app/**", later)
    assert later.settled(vault)


def test_an_acknowledgement_that_cannot_be_stored_is_tried_again_without_another_call(
    world: RotationWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = world.begin(consumers=(ADMIN,))
    acknowledge, attempts = Rotations.acknowledge, []

    def fail_first(self: Rotations, path: str, version: int) -> bool:
        attempts.append(version)
        if len(attempts) == 1:
            message = "the store is busy"
            raise StoreBusy(message)
        return acknowledge(self, path, version)

    monkeypatch.setattr(Rotations, "acknowledge", fail_first)
    callback = _Told()
    vault.on_rotate("app/**", callback)
    world.advance(world.runner(vault), "asked")
    callback.next()
    _until(lambda: bool(_progress(world, vault).acknowledged))
    assert attempts == [2, 2]
    assert callback.settled(vault)


# --- the overlap ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", [Strategy.OVERLAPPING, Strategy.TWO_USERS])
def test_current_and_previous_can_be_read_and_are_accepted_in_the_overlap(
    world: RotationWorld, strategy: Strategy
) -> None:
    vault = world.begin(strategy)
    current, previous = vault.ref(f"{PATH}#password"), vault.ref(f"{PATH}#password", at="previous")
    assert current.reveal() == FIRST
    with pytest.raises(VersionNotFound):
        previous.reveal()
    runner = world.runner(vault)
    world.advance(runner, "asked")
    assert current.reveal() != FIRST
    assert previous.reveal() == FIRST
    assert world.account.accepted == {current.reveal(), FIRST}
    world.wait(61)
    world.advance(runner)
    with pytest.raises(VersionNotFound):
        previous.reveal()
    assert world.account.accepted == {current.reveal()}


def test_at_no_moment_of_a_rotation_does_a_handle_give_what_is_not_accepted(world: RotationWorld) -> None:
    vault = world.begin(grace_s=0)
    ref = vault.ref(f"{PATH}#password")
    moments = []

    def look(moment: str) -> None:
        moments.append(moment)
        assert world.account.accepts(str(ref.reveal()))

    world.account.hook = look
    runner = world.runner(vault)
    for _ in range(3):
        before = ref.reveal()
        world.advance(runner, "asked")
        assert ref.reveal() != before
    assert {"before apply", "after apply", "before verify", "before retire", "after retire"} == set(moments)


@dataclass
class _Settings:
    username: str
    password: Secret[str]


def test_a_rotated_secret_reaches_configuration_as_it_is_loaded(world: RotationWorld, tmp_path: Path) -> None:
    vault = world.begin()
    (tmp_path / "default.yaml").write_text(f"username: shop\npassword: ${{secret:{PATH}#password}}\n")
    config = load(tmp_path, vault=vault)
    lazy, bound = get(config, "password", Secret), bind(config, _Settings)
    anew: queue.SimpleQueue[_Settings] = queue.SimpleQueue()
    vault.on_rotate(PATH, lambda _old, _new: anew.put(bind(config, _Settings)))
    world.advance(world.runner(vault), "asked")
    new = _password(vault)
    assert new != FIRST
    assert (config.password.reveal(), lazy.reveal()) == (new, new)  # each time from the vault
    assert bound.password.reveal() == FIRST  # what a model holds was read when it was made
    assert anew.get(timeout=PATIENCE_S).password.reveal() == new


# --- logging in -------------------------------------------------------------------------------------------------------


class _Refused(Exception):
    """What a client library raises."""


class _Target:
    """What is logged in to: accepts some passwords, and notes down those that were tried."""

    def __init__(self, *accepted: str) -> None:
        self.accepted, self.tried = accepted, list[str]()
        self.before: Callable[[], None] = lambda: None

    def connect(self, value: Value) -> str:
        password = str((value if isinstance(value, Secret) else value["password"]).reveal())
        self.before()
        self.tried.append(password)
        if password not in self.accepted:
            try:
                raise ValueError(password[:0])
            except ValueError as error:
                message = "refused"
                raise _Refused(message) from error
        return f"session {len(self.tried)}"

    def log_in(self, ref: SecretRef) -> str:
        return with_retry_on_auth_failure(ref, self.connect, is_auth_failure=lambda error: type(error) is _Refused)


def test_logs_in_once_where_that_works(vault: Vault) -> None:
    target = _Target(FIRST)
    assert target.log_in(vault.ref(f"{PATH}#password")) == "session 1"
    assert target.log_in(vault.ref(PATH)) == "session 2"


def test_logs_in_with_the_version_that_became_current_in_the_middle(world: RotationWorld, vault: Vault) -> None:
    other, target = world.open(), _Target("new")

    def rotate() -> None:
        target.before = lambda: None
        other.write(PATH, {"username": "shop", "password": "new"})

    target.before = rotate
    assert target.log_in(vault.ref(PATH)) == "session 2"
    assert target.tried == [FIRST, "new"]


def test_logs_in_with_the_previous_version_where_the_target_does_not_know_the_current_one(vault: Vault) -> None:
    vault.write(PATH, {"username": "shop", "password": "not known yet"})
    target = _Target(FIRST)
    assert target.log_in(vault.ref(PATH)) == "session 2"
    assert target.tried == ["not known yet", FIRST]


def test_tries_each_version_once_and_raises_the_last_refusal(vault: Vault) -> None:
    target = _Target()
    with pytest.raises(_Refused):
        target.log_in(vault.ref(PATH))
    assert target.tried == [FIRST]
    vault.write(PATH, {"username": "shop", "password": "2"})
    with pytest.raises(_Refused):
        target.log_in(vault.ref(f"{PATH}#password"))
    assert target.tried == [FIRST, "2", FIRST]
    vault.delete(PATH, 1)
    with pytest.raises(_Refused):
        target.log_in(vault.ref(PATH))
    assert target.tried == [FIRST, "2", FIRST, "2"]


def test_what_is_no_refusal_is_raised_at_once(vault: Vault) -> None:
    vault.write(PATH, {"username": "shop", "password": "2"})
    target = _Target()

    def break_down() -> None:
        message = "the network is down"
        raise OSError(message)

    target.before = break_down
    with pytest.raises(OSError, match="network"):
        target.log_in(vault.ref(PATH))
    assert target.tried == []


def test_no_frame_of_an_error_holds_a_value(vault: Vault) -> None:
    vault.write(PATH, {"username": "shop", "password": "canary-in-a-frame"})
    with pytest.raises(_Refused) as refused:
        _Target().log_in(vault.ref(PATH))
    shown = "".join(traceback.TracebackException.from_exception(refused.value, capture_locals=True).format())
    assert "with_retry_on_auth_failure" in shown
    assert "canary-in-a-frame" not in shown
    assert FIRST not in shown


def test_a_group_of_errors_and_one_in_a_circle_lose_their_frames_too(vault: Vault) -> None:
    def connect(value: Value) -> None:
        password = cast("Mapping[str, Secret[str]]", value)["password"].reveal()
        try:
            raise ValueError(len(password))
        except ValueError as error:
            error.__cause__ = error
            message = "all addresses"
            raise ExceptionGroup(message, [error]) from error

    with pytest.raises(ExceptionGroup) as refused:
        with_retry_on_auth_failure(vault.ref(PATH), connect, is_auth_failure=lambda _: True)
    assert refused.value.exceptions[0].__traceback__ is None


def test_refuses_a_handle_that_is_on_one_version(vault: Vault) -> None:
    with pytest.raises(UsageError, match="follows no rotation"):
        _Target().log_in(vault.ref(PATH, at=1))


def test_who_may_not_read_logs_in_with_nothing(world: RotationWorld, vault: Vault) -> None:
    grant(vault)
    target = _Target()
    with pytest.raises(AccessDenied):
        target.log_in(world.open(BLIND).ref("other/db"))
    assert target.tried == []


# --- which versions became current, from what is seen -----------------------------------------------------------------


def _version(number: int, state: int = LIVE, created: int = 0) -> Version:
    return Version(number, state, 1, 1, 1, 0, 1, bytes(32), created, 0, 0, "user:ada", "", b"")


def _seen(current: int, newest: int, pending: int = 0) -> Seen:
    return Seen(b"app/db", bytes(32), current, newest, pending)


def _history(current: int, newest: int, pending: int = 0) -> History:
    return History(1, b"app/db", newest, current, 0, pending)


@pytest.mark.parametrize(
    ("seen", "history", "states", "became"),
    [
        (_seen(1, 1), _history(1, 1), {1: LIVE}, []),
        (_seen(1, 1), _history(2, 2), {1: LIVE, 2: LIVE}, [2]),
        (_seen(1, 1), _history(4, 4), {1: LIVE, 2: LIVE, 3: LIVE, 4: LIVE}, [2, 3, 4]),
        (_seen(1, 1), _history(4, 4), {1: LIVE, 2: LIVE, 3: DELETED, 4: LIVE}, [2, 4]),
        (_seen(1, 1), _history(1, 2, 2), {1: LIVE, 2: LIVE}, []),
        (_seen(1, 2, 2), _history(2, 2), {1: LIVE, 2: LIVE}, [2]),
        (_seen(1, 2, 2), _history(1, 2), {1: LIVE, 2: DELETED}, []),
        (_seen(1, 2, 2), _history(3, 3, 2), {1: LIVE, 2: LIVE, 3: LIVE}, [3]),
        (_seen(1, 2, 2), _history(3, 3), {1: LIVE, 2: LIVE, 3: LIVE}, [2, 3]),
        (_seen(1, 1), _history(2, 3), {1: LIVE, 2: LIVE, 3: LIVE}, [3, 2]),
        (_seen(2, 2), _history(1, 2), {1: LIVE, 2: LIVE}, [1]),
        (_seen(1, 2, 2), _history(1, 2), {1: LIVE, 2: LIVE}, [2, 1]),
        (_seen(2, 2), _history(0, 2), {1: LIVE, 2: DELETED}, []),
        (_seen(1, 1), _history(0, 3), {1: LIVE, 2: LIVE, 3: DELETED}, [2]),
        (None, _history(2, 2), {1: LIVE, 2: LIVE}, [1, 2]),
    ],
)
def test_what_became_current_is_told_by_what_is_left(
    seen: Seen | None, history: History, states: dict[int, int], became: list[int]
) -> None:
    versions = [_version(number, state, 10) for number, state in states.items()]
    assert became_current(seen, history, versions, 5) == became
