"""Setting rotations, seeing them, and what people do about them: who may, and what is refused."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, cast

import pytest

from securecfg.backends import uri
from securecfg.errors import (
    AccessDenied,
    Conflict,
    InvalidRotation,
    NotAuthenticated,
    RotationBusy,
    RotationFailed,
    RotationNotFound,
    SecretNotFound,
    SecurecfgError,
    VersionNotFound,
)
from securecfg.mounts import Mount, Mounts
from securecfg.mounts import Rules as MountRules
from securecfg.rotation import Strategy
from securecfg.rotation.document import Rules
from securecfg.rotation.machine import State
from securecfg.rotation.rotations import Rotations
from securecfg.rotation.schedule import parse_schedule
from securecfg.testing.account import Account, Mood
from tests.rotation.conftest import FIRST, PATH, progress_of
from tests.vault.world import grant

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.rotation import Run
    from securecfg.rotation.document import Rotation
    from securecfg.rotation.interface import Options, Rotator
    from securecfg.vault.vault import Vault
    from tests.rotation.conftest import RotationWorld

RULES = Rules("account", grace_s=60, is_hard_cut=True)
SOMEBODY = "svc:somebody"


def _as(world: RotationWorld, *actions: str, path: str = "app/**") -> Rotations:
    """Return the rotations as somebody sees them who may do some things."""
    listed = ", ".join(f'"{action}"' for action in actions)
    with world.open() as admin:
        table = f'[roles.some]\nmembers = ["{SOMEBODY}"]\n'
        grants = f'[[roles.some.grants]]\nactions = [{listed}]\npaths = ["{path}"]\n' if actions else ""
        grant(admin, table + grants)
    return world.rotations(world.open(SOMEBODY))


def _failed(world: RotationWorld) -> None:
    with world.open() as vault:
        world.account.mood = Mood.LOCKED
        assert world.lead_on(world.runner(vault), "asked").state is State.FAILED
        world.account.mood = Mood.WELL


# --- 7: who may ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("actions", [*combinations(("read", "write", "rotate", "list"), 3), ("read",), ()])
def test_setting_needs_to_read_write_and_rotate(world: RotationWorld, actions: tuple[str, ...]) -> None:
    rotations = _as(world, *actions)
    if {"read", "write", "rotate"} <= set(actions):
        assert rotations.set(PATH, RULES).set_by == SOMEBODY
        return
    with pytest.raises(AccessDenied):
        rotations.set(PATH, RULES)
    with world.open() as admin, pytest.raises(RotationNotFound):
        world.rotations(admin).find(PATH)


def test_changing_needs_the_same(world: RotationWorld) -> None:
    world.begin().close()
    with pytest.raises(AccessDenied):
        _as(world, "read", "rotate").set(PATH, RULES._replace(grace_s=0))
    with world.open() as admin:
        assert world.rotations(admin).find(PATH).rules.grace_s == 60


def test_setting_needs_to_read_what_an_option_refers_to(world: RotationWorld) -> None:
    with world.open() as admin:
        admin.write("other/admin", "admin-password-4711")
    rules = RULES._replace(options={"admin": "${secret:other/admin}"})
    with pytest.raises(AccessDenied):
        _as(world, "read", "write", "rotate").set(PATH, rules)
    with world.open() as admin:
        world.rotations(admin).set(PATH, rules)
        records = [entry.record for entry in admin.log.records()]
        assert {"path": "other/admin", "ver": 1} in [dict(record.obj) for record in records]


ACTS: dict[str, Callable[[Rotations], object]] = {
    "pause": lambda rotations: rotations.pause(PATH),
    "resume": lambda rotations: rotations.resume(PATH),
    "retry": lambda rotations: rotations.retry(PATH),
    "cancel": lambda rotations: rotations.cancel(PATH),
    "remove": lambda rotations: rotations.remove(PATH),
}


@pytest.mark.parametrize("name", ACTS)
def test_what_people_do_about_a_rotation_needs_to_rotate_and_no_more(world: RotationWorld, name: str) -> None:
    world.begin().close()
    if name in {"retry", "cancel"}:
        _failed(world)
    act = ACTS[name]
    with pytest.raises(AccessDenied):
        act(_as(world, "read", "write", "list", "delete"))
    act(_as(world, "rotate"))


def test_seeing_needs_to_list(world: RotationWorld) -> None:
    world.begin().close()
    blind = _as(world, "read", "write", "rotate")
    with pytest.raises(AccessDenied):
        blind.find(PATH)
    assert blind.all() == []
    seeing = _as(world, "list")
    assert seeing.find(PATH).path == PATH
    assert [rotation.path for rotation in seeing.all()] == [PATH]


def test_nobody_sees_or_sets_anything(world: RotationWorld) -> None:
    world.begin().close()
    rotations = world.rotations(world.open(None))
    for act in (rotations.all, lambda: rotations.find(PATH), lambda: rotations.set(PATH, RULES)):
        with pytest.raises(NotAuthenticated):
            act()


def test_checking_needs_to_rotate_and_to_read(world: RotationWorld) -> None:
    world.begin().close()
    for actions in (("read",), ("rotate",)):
        with pytest.raises(AccessDenied):
            _as(world, *actions).check(PATH)
    assert _as(world, "read", "rotate").check(PATH) == []
    assert world.account.calls == []


# --- setting ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"grace_s": -1},
        {"grace_s": 366 * 86_400 + 1},
        {"grace_s": 1.5},
        {"grace_s": float("nan")},
        {"grace_s": True},
        {"grace_s": "60"},
        {"propagation_s": 86_401},
        {"timeout_s": 0},
        {"timeout_s": 901},
        {"timeout_s": None},
        {"options": {f"option-{number}": "x" for number in range(65)}},
        {"options": {"x": "y" * 4_097}},
        {"options": {"x" * 4_097: "y"}},
        {"options": {"x": "\ud800"}},
        {"options": {"\udfff": "x"}},
        {"options": {"admin": "${secret:}"}},
        {"options": {"admin": "${secret:other/admin"}},
        {"options": {"admin": "with ${secret:other/admin} inside"}},
        {"options": {"admin": "${secret:other/admin}${secret:other/admin}"}},
        {"consumers": tuple(f"svc:c{number}" for number in range(65))},
    ],
)
def test_rules_that_make_no_sense_are_refused(world: RotationWorld, changes: dict[str, object]) -> None:
    vault = world.open()
    with pytest.raises(InvalidRotation):
        world.rotations(vault).set(PATH, RULES._replace(**changes))  # type: ignore[arg-type]  # as a caller may
    with pytest.raises(RotationNotFound):
        world.rotations(vault).find(PATH)


def test_a_consumer_is_a_principal(world: RotationWorld) -> None:
    with pytest.raises(SecurecfgError):
        world.rotations(world.open()).set(PATH, RULES._replace(consumers=("nobody in particular",)))


@pytest.mark.parametrize("reference", ["${secret:no/such}", "${secret:app/db#no-such-field}", "${secret:app/db@99}"])
def test_a_reference_that_cannot_be_read_is_refused(world: RotationWorld, reference: str) -> None:
    vault = world.open()
    with pytest.raises(SecurecfgError):
        world.rotations(vault).set(PATH, RULES._replace(options={"admin": reference}))
    with pytest.raises(RotationNotFound):
        world.rotations(vault).find(PATH)


def test_a_hard_cut_has_to_be_acknowledged(world: RotationWorld) -> None:
    vault = world.begin(Strategy.SINGLE_SLOT)
    with pytest.raises(InvalidRotation) as caught:
        world.rotations(vault).set(PATH, RULES._replace(is_hard_cut=False))
    assert "--hard-cut" in caught.value.hint


def test_what_is_not_there_is_not_rotated(world: RotationWorld) -> None:
    vault = world.open()
    with pytest.raises(SecretNotFound):
        world.rotations(vault).set("app/no-such", RULES)
    vault.delete(PATH)
    with pytest.raises((SecretNotFound, VersionNotFound)):
        world.rotations(vault).set(PATH, RULES)


def test_a_secret_in_a_store_that_is_mounted_is_not_rotated(
    world: RotationWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(uri.BUILT_IN, "memory", "tests.mounts.memory")
    Mounts(world.open().authority).add(Mount("corp/", ("memory:one",), MountRules()))
    with pytest.raises(InvalidRotation) as caught:
        world.rotations(world.open()).set("corp/key", RULES)
    assert "mounted" in caught.value.message
    assert "open the vault again" not in caught.value.hint


def test_setting_again_keeps_how_far_it_is(world: RotationWorld) -> None:
    vault = world.begin()
    rotations = world.rotations(vault)
    world.lead_on(world.runner(vault), "asked")
    after = rotations.set(PATH, RULES._replace(grace_s=0))
    assert (after.rotations, after.rules.grace_s) == (1, 0)
    assert progress_of(after).state is State.RETIRED


def test_the_rotator_is_not_changed_under_way_and_the_grace_may_be(world: RotationWorld) -> None:
    vault = world.begin()
    world.advance(world.runner(vault), "asked")
    rotations = world.rotations(vault)
    with pytest.raises(Conflict):
        rotations.set(PATH, RULES._replace(rotator="another"))
    assert progress_of(rotations.set(PATH, RULES._replace(grace_s=0))).state is State.CURRENT


def test_setting_undoes_no_step_of_the_same_moment(world: RotationWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    vault = world.begin()
    rotations, steps = world.rotations(vault), world.runner(vault).steps
    old = steps.find(PATH)
    rotations.pause(PATH)
    # What a plan of the same publication sees: the state before it.
    monkeypatch.setattr("securecfg.rotation.steps.find_rotation", lambda *_: old)
    with pytest.raises(RotationBusy):
        rotations.set(PATH, RULES)
    monkeypatch.undo()
    assert rotations.find(PATH).is_paused


# --- removing, pausing, going on -------------------------------------------------------------------------------------


def test_nothing_is_done_about_what_nothing_rotates(world: RotationWorld) -> None:
    rotations = world.rotations(world.open())
    others: list[Callable[[Rotations], object]] = [lambda known: known.find(PATH), lambda known: known.check(PATH)]
    for act in (*ACTS.values(), *others):
        with pytest.raises(RotationNotFound):
            act(rotations)
    with pytest.raises(RotationNotFound):
        rotations.pause("app/no-such")
    assert not rotations.acknowledge(PATH, 1)


def test_a_rotation_under_way_is_not_removed_unless_it_is_taken_back(world: RotationWorld) -> None:
    vault = world.begin()
    rotations, runner = world.rotations(vault), world.runner(vault)
    world.account.mood = Mood.UNREACHABLE
    world.advance(runner, "asked")
    with pytest.raises(Conflict):
        rotations.remove(PATH)
    world.account.mood = Mood.WELL
    rotations.cancel(PATH)
    assert world.lead_on(runner).state is State.CANCELLED
    rotations.remove(PATH)
    assert rotations.all() == []
    assert vault.read(PATH).field("username").reveal() == "shop"


def test_a_rotation_that_was_changed_meanwhile_is_not_removed(world: RotationWorld) -> None:
    vault = world.begin()
    steps = world.runner(vault).steps
    stored = steps.find(PATH)
    world.rotations(vault).pause(PATH)
    with pytest.raises(RotationBusy):
        steps.remove(stored)
    stored = steps.find(PATH)
    steps.remove(stored)
    with pytest.raises(RotationBusy):
        steps.remove(stored)


def test_a_pause_lasts_until_it_is_resumed_and_both_may_be_said_twice(world: RotationWorld) -> None:
    vault = world.begin()
    rotations, runner = world.rotations(vault), world.runner(vault)
    for _ in range(2):
        assert rotations.pause(PATH).is_paused
    world.wait(10_000)
    assert world.advance(runner, "due").progress is None
    for _ in range(2):
        assert not rotations.resume(PATH).is_paused
    assert progress_of(world.advance(runner, "due")).state is State.CURRENT
    actions = [entry.record.obj.get("action") for entry in vault.log.records() if "action" in entry.record.obj]
    assert actions == ["pause", "resume"]


def test_what_has_not_failed_is_not_retried(world: RotationWorld) -> None:
    vault = world.begin()
    rotations, runner = world.rotations(vault), world.runner(vault)
    with pytest.raises(RotationFailed):
        rotations.retry(PATH)
    world.advance(runner, "asked")
    with pytest.raises(RotationFailed):
        rotations.retry(PATH)
    world.wait(61)
    world.lead_on(runner)
    for act in (rotations.retry, rotations.cancel):
        with pytest.raises(RotationFailed):
            act(PATH)


def test_after_the_swap_nothing_is_taken_back(world: RotationWorld) -> None:
    vault = world.begin()
    rotations, runner = world.rotations(vault), world.runner(vault)
    world.advance(runner, "asked")
    with pytest.raises(RotationFailed):
        rotations.cancel(PATH)
    world.account.mood = Mood.LOCKED
    world.wait(61)
    assert world.lead_on(runner).failed_in is State.PREVIOUS
    with pytest.raises(RotationFailed):
        rotations.cancel(PATH)
    world.account.mood = Mood.WELL
    rotations.retry(PATH)
    assert world.lead_on(runner).state is State.RETIRED


def test_taking_back_may_be_said_twice_and_before_there_is_a_candidate(world: RotationWorld) -> None:
    vault = world.begin()
    rotations, runner = world.rotations(vault), world.runner(vault)
    stored = runner.steps.find(PATH)
    world.account.hook = lambda _: None
    broken = world.runner(vault, lambda *_: cast("object", None))  # type: ignore[arg-type]  # none at all
    broken.advance(stored, "asked")
    assert progress_of(rotations.find(PATH)).failed_in is State.BEGUN
    for _ in range(2):
        assert progress_of(rotations.cancel(PATH)).state is State.CANCELLING
    assert world.lead_on(runner).state is State.CANCELLED
    assert world.account.calls == ["retire"]  # of what might have been issued


def test_a_rotation_whose_rotator_is_broken_can_be_taken_back(world: RotationWorld) -> None:
    vault = world.begin()
    broken = world.runner(vault, lambda *_: cast("object", None))  # type: ignore[arg-type]  # none at all
    broken.advance(broken.steps.find(PATH), "asked")
    world.rotations(vault).cancel(PATH)
    assert world.lead_on(broken).state is State.CANCELLED
    assert world.account.calls == []


def test_a_secret_is_found_under_the_path_that_it_has_by_now(world: RotationWorld) -> None:
    vault = world.begin()
    rotations = world.rotations(vault)
    vault.move(PATH, "app/moved")
    vault.write(PATH, "another secret")
    assert [rotation.path for rotation in rotations.all()] == ["app/moved"]
    assert rotations.all("app/mov") != []
    assert rotations.all("app/db") == []
    with pytest.raises(RotationNotFound):
        rotations.find(PATH)
    assert rotations.pause("app/moved").path == "app/moved"


# --- acknowledging ---------------------------------------------------------------------------------------------------


def _with_consumers(world: RotationWorld) -> tuple[Vault, Rotation]:
    vault = world.begin(consumers=("svc:reader", "svc:somebody"))
    grant(vault)
    return vault, world.advance(world.runner(vault), "asked")


def test_the_old_version_is_retired_when_every_consumer_has_the_new_one(world: RotationWorld) -> None:
    vault, rotation = _with_consumers(world)
    version = progress_of(rotation).version
    assert world.rotations(world.open("svc:reader")).acknowledge(PATH, version)
    assert progress_of(world.advance(world.runner(vault))).state is State.CURRENT
    assert _as(world, "read").acknowledge(PATH, version)
    assert progress_of(world.advance(world.runner(vault))).state is State.RETIRED
    events = [entry.record.event.value for entry in vault.log.records()]
    assert events.count("rotation.acknowledged") == 2


def test_what_nobody_waits_for_is_not_stored(world: RotationWorld) -> None:
    vault, rotation = _with_consumers(world)
    version = progress_of(rotation).version
    number = world.runner(vault).steps.find(PATH).number
    reader = world.rotations(world.open("svc:reader"))
    assert not reader.acknowledge(PATH, version - 1)
    assert not reader.acknowledge(PATH, version + 1)
    assert not world.rotations(vault).acknowledge(PATH, version)
    assert world.runner(vault).steps.find(PATH).number == number
    assert reader.acknowledge(PATH, version)
    assert not reader.acknowledge(PATH, version)


def test_who_may_not_read_acknowledges_nothing(world: RotationWorld) -> None:
    _, rotation = _with_consumers(world)
    with pytest.raises(AccessDenied):
        _as(world, "list", "write", "rotate").acknowledge(PATH, progress_of(rotation).version)


def test_what_is_due_and_was_taken_back_waits_for_a_person(world: RotationWorld) -> None:
    vault = world.begin(schedule=parse_schedule(every="1h").to_json())
    rotations, runner = world.rotations(vault), world.runner(vault)
    world.wait(2 * 3600)
    world.account.mood = Mood.LOCKED
    world.advance(runner, "due")
    rotations.cancel(PATH)
    world.account.mood = Mood.WELL
    assert world.lead_on(runner).state is State.CANCELLED
    taken_back = rotations.find(PATH)
    assert taken_back.due_ns <= world.clock.ns
    assert taken_back.is_paused
    assert progress_of(world.advance(runner, "due")).state is State.CANCELLED
    rotations.resume(PATH)
    assert world.lead_on(runner, "due").state is State.RETIRED


def test_what_is_not_due_and_was_taken_back_goes_by_its_schedule(world: RotationWorld) -> None:
    vault = world.begin(schedule=parse_schedule(every="30d").to_json())
    rotations, runner = world.rotations(vault), world.runner(vault)
    world.account.mood = Mood.LOCKED
    world.advance(runner, "asked")
    rotations.cancel(PATH)
    world.account.mood = Mood.WELL
    assert world.lead_on(runner).state is State.CANCELLED
    assert not rotations.find(PATH).is_paused


def test_a_run_whose_target_was_named_wrongly_goes_on_where_it_is_named_rightly(world: RotationWorld) -> None:
    vault = world.open()
    nobody = Account(FIRST)
    nobody.mood = Mood.UNREACHABLE

    def find(name: str, options: Options) -> Rotator:
        at = nobody if options["host"] == "typo" else world.account
        return at.rotator(name, options)

    rotations, runner = Rotations(vault, find=find), world.runner(vault, find)
    rules = RULES._replace(options={"host": "typo"})
    rotations.set(PATH, rules)
    assert progress_of(world.advance(runner, "asked")).reason == "target-unavailable"
    with pytest.raises(Conflict):
        rotations.set(PATH, RULES._replace(rotator="other", options={"host": "db"}))
    for host in ("typo", "db"):
        rotations.set(PATH, rules._replace(options={"host": host}))
    stored = rotations.find(PATH)
    assert (progress_of(stored).is_known, progress_of(stored).state) == (False, State.PENDING)
    assert progress_of(world.advance(runner)).state is State.CURRENT
    assert world.lead_on(runner).state is State.RETIRED
    assert world.account.accepted == {str(vault.read(PATH).field("password").reveal())}


def test_what_was_tried_at_one_target_is_tried_at_the_other_before_it_is_current(world: RotationWorld) -> None:
    vault = world.begin(options={"host": "a"})
    runner = world.runner(vault)
    runner.observe = lambda step: runner.stop() if step.to == State.TESTED else None
    assert progress_of(world.advance(runner, "asked")).state is State.TESTED
    world.account = Account(FIRST)  # the other one, which has not been told
    world.rotations(vault).set(PATH, RULES._replace(options={"host": "b"}))
    assert world.lead_on(world.runner(vault)).state is State.RETIRED
    assert world.account.accepted == {str(vault.read(PATH).field("password").reveal())}


def test_a_run_goes_on_with_no_rotator_that_would_cut_off_who_was_not(world: RotationWorld) -> None:
    vault = world.begin(options={"host": "a"})
    world.account.mood = Mood.UNREACHABLE
    world.advance(world.runner(vault), "asked")
    cutting = Account(FIRST, Strategy.SINGLE_SLOT)

    def find(name: str, options: Options) -> Rotator:
        return (world.account if options["host"] == "a" else cutting).rotator(name, options)

    with pytest.raises(Conflict):
        Rotations(vault, find=find).set(PATH, RULES._replace(options={"host": "b"}))


def test_a_run_is_abandoned_only_after_somebody_has_tried_to_take_it_back(world: RotationWorld) -> None:
    vault = world.begin()
    rotations, runner = world.rotations(vault), world.runner(vault)
    world.account.mood = Mood.UNREACHABLE
    world.advance(runner, "asked")
    with pytest.raises(Conflict):
        rotations.remove(PATH, is_abandoned=True)
    rotations.cancel(PATH)
    with pytest.raises(Conflict):
        rotations.remove(PATH)
    versions = [info.version for info in vault.history(PATH)]
    rotations.remove(PATH, is_abandoned=True)
    with pytest.raises(RotationNotFound):
        rotations.find(PATH)
    assert [info.version for info in vault.history(PATH)] == versions
    assert vault.read(PATH, at=versions[0]).version == versions[0]
    with pytest.raises(VersionNotFound):
        vault.read(PATH, at="pending")  # which a later rotation would delete


def test_a_check_is_given_what_is_current_and_what_was_before(world: RotationWorld) -> None:
    vault = world.begin()
    rotations, runner = world.rotations(vault), world.runner(vault)
    seen: list[Run] = []

    class _Checking:
        strategy, target, identity = Strategy.OVERLAPPING, "account", frozenset({"username"})

        def __init__(self) -> None:
            inner = world.account.rotator()
            self.propose, self.apply, self.verify, self.retire = inner.propose, inner.apply, inner.verify, inner.retire

        def check(self, run: Run, /) -> list[str]:
            seen.append(run)
            return []

    checking = Rotations(vault, find=lambda *_: _Checking())
    checking.check(PATH)
    world.advance(runner, "asked")
    assert progress_of(rotations.find(PATH)).state is State.CURRENT
    checking.check(PATH)
    passwords = [[each and str(each["password"].reveal()) for each in (run.current, run.previous)] for run in seen]
    assert passwords == [[FIRST, None], [str(vault.read(PATH).field("password").reveal()), FIRST]]
