"""Secrets in sealed scopes: whom their rotations are hidden from, who rotates them, and what a crash leaves."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from securecfg.cli.invocation import Invocation
from securecfg.cli.rotation_run import Leader
from securecfg.errors import (
    AccessDenied,
    Conflict,
    InvalidRotation,
    RotationBusy,
    RotationNotFound,
    ScopeSealed,
)
from securecfg.policy import Document
from securecfg.rotation.document import Rotation
from securecfg.rotation.machine import State
from securecfg.rotation.parts import part_of
from securecfg.rotation.steps import Steps
from securecfg.testing.rotation_kill_matrix import Died, MortalProcess, Point
from securecfg.vault.verification import verify_vault
from tests.rotation.scope_world import FIRST, PATH, RULES, all_stored, make_due, password, sealed_world

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from securecfg.rotation import Options, Rotator
    from securecfg.rotation.rotations import Rotations
    from securecfg.vault.vault import Vault
    from tests.rotation.scope_world import SealedWorld

world = sealed_world

_CHANGES: list[Callable[[Rotations], object]] = [
    lambda rotations: rotations.set(PATH, RULES),
    lambda rotations: rotations.remove(PATH),
    lambda rotations: rotations.pause(PATH),
    lambda rotations: rotations.resume(PATH),
    lambda rotations: rotations.retry(PATH),
    lambda rotations: rotations.cancel(PATH),
]
_LOOKS: list[Callable[[Rotations], object]] = [
    lambda rotations: rotations.find(PATH),
    lambda rotations: rotations.check(PATH),
    lambda rotations: rotations.verify_may_rotate(PATH),
    lambda rotations: rotations.may_lead(PATH),
    lambda rotations: rotations.acknowledge(PATH, 1),
]


@pytest.fixture
def vault(world: SealedWorld) -> Vault:
    """The vault as a member opens it who reads and writes the scope, in which a rotation is set."""
    vault = world.as_member("pay")
    world.rotations(vault).set(PATH, RULES)
    return vault


def _events(part: Vault) -> list[str]:
    return [entry.record.event.value for entry in part.log.records() if entry.record.event.value.startswith("rotation")]


# --- who is no member -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(len(_CHANGES) + len(_LOOKS)))
def test_who_is_no_member_sees_and_changes_nothing(world: SealedWorld, vault: Vault, number: int) -> None:
    stranger = world.rotations(world.as_member("web"))
    with pytest.raises(ScopeSealed):
        [*_CHANGES, *_LOOKS][number](stranger)
    assert stranger.all() == []
    assert world.rotations(vault).find(PATH).rules == RULES


def test_nothing_of_a_rotation_in_a_scope_lies_outside_of_it(world: SealedWorld, vault: Vault) -> None:
    world.lead_on(world.runner(part_of(vault, PATH)), "asked")
    whole = dict(world.admin().parts())[""]
    assert all_stored(whole) == []
    assert _events(whole) == []
    assert _events(vault.scope("pay"))[:2] == ["rotation.set", "rotation.stepped"]


# --- who does not read and write --------------------------------------------------------------------------------------


@pytest.mark.parametrize("change", _CHANGES[:3])
def test_who_only_reads_a_scope_changes_no_rotation(
    world: SealedWorld, vault: Vault, change: Callable[[Rotations], object]
) -> None:
    before = all_stored(vault.scope("pay"))
    with pytest.raises(ScopeSealed):
        change(world.rotations(world.as_member("audit")))
    assert all_stored(vault.scope("pay")) == before


def test_who_only_reads_a_scope_sees_what_is_rotated_and_runs_nothing(world: SealedWorld, vault: Vault) -> None:
    reader = world.as_member("audit")
    assert [each.path for each in world.rotations(reader).all()] == [PATH]
    assert not world.rotations(reader).may_lead(PATH)
    make_due(vault.scope("pay"))
    runner = world.runner(part_of(reader, PATH))
    before = runner.steps.find(PATH)
    with pytest.raises(ScopeSealed, match="does not write"):
        runner.advance(before, "due")
    assert runner.steps.find(PATH) == before
    assert world.account.accepted == {FIRST}


def test_who_only_writes_a_scope_begins_nothing_that_he_could_not_end(world: SealedWorld) -> None:
    world.scopes().create("box", read=["pay"], write=["web"])
    world.admin()
    writer, reader = world.as_member("web"), world.as_member("pay")
    writer.write("box/key", "of the box")
    with pytest.raises(ScopeSealed):
        world.rotations(writer).set("box/key", RULES)
    assert not world.rotations(writer).may_lead("box/key")
    with pytest.raises(ScopeSealed):
        world.rotations(reader).set("box/key", RULES)
    assert world.rotations(reader).all() == []


def test_the_vaults_own_key_lists_the_rotations_of_a_scope_and_leads_none(world: SealedWorld, vault: Vault) -> None:
    admin = world.admin()
    assert [each.path for each in world.rotations(admin).all()] == [PATH]
    assert world.rotations(admin).all("db/") == []
    with pytest.raises(ScopeSealed):
        world.rotations(admin).set(PATH, RULES)
    runner = world.runner(part_of(admin, PATH))
    before = all_stored(vault.scope("pay"))
    with pytest.raises(ScopeSealed):
        runner.advance(runner.steps.find(PATH), "asked")
    assert all_stored(vault.scope("pay")) == before


def test_a_new_member_begins_nothing_while_the_value_is_sealed_from_him(world: SealedWorld, vault: Vault) -> None:
    world.scopes().grant("pay", "web", "read")
    world.scopes().grant("pay", "web", "write")
    late = world.as_member("web")
    runner = world.runner(part_of(late, PATH))
    before = runner.steps.find(PATH)
    with pytest.raises(ScopeSealed):
        runner.advance(before, "asked")
    with pytest.raises(ScopeSealed):
        world.rotations(late).set(PATH, RULES)
    assert runner.steps.find(PATH) == before
    world.as_member("pay")  # who gives to the others what they lack
    assert world.lead_on(world.runner(part_of(world.as_member("web"), PATH)), "asked").rotations == 1
    del vault


def test_a_right_that_was_taken_away_ends_the_work_of_who_has_the_scope_open(world: SealedWorld, vault: Vault) -> None:
    world.scopes().grant("pay", "web", "write")
    runner = world.runner(part_of(vault, PATH))
    stored = runner.steps.find(PATH)
    world.scopes().revoke("pay", "pay", "write")
    with pytest.raises(ScopeSealed, match="does not write"):
        runner.advance(stored, "asked")
    assert world.account.accepted == {FIRST}


def test_the_policy_decides_in_a_scope_as_elsewhere(world: SealedWorld, vault: Vault) -> None:
    text = '[roles.pay]\nmembers = ["svc:pay"]\n[[roles.pay.grants]]\nactions = ["read", "write"]\npaths = ["pay/**"]\n'
    text += '[[roles.pay.grants]]\nactions = ["audit.read"]\n'
    world.admin().administration.apply_policy([Document("grants.toml", "grants", text)])
    member = world.as_member("pay")
    with pytest.raises(AccessDenied):
        world.rotations(member).pause(PATH)
    with pytest.raises(AccessDenied):
        world.rotations(member).find(PATH)
    assert world.rotations(member).all() == []
    assert not world.rotations(member).may_lead(PATH)
    runner = world.runner(part_of(member, PATH))
    with pytest.raises(AccessDenied):
        runner.advance(runner.steps.find(PATH), "asked")
    denied = [entry for entry in member.scope("pay").log.records() if entry.record.event.value == "access.denied"]
    assert {entry.record.obj["action"] for entry in denied} >= {"rotate", "list"}
    del vault


# --- what options refer to --------------------------------------------------------------------------------------------


def test_an_option_refers_to_nothing_outside_of_the_scope(world: SealedWorld) -> None:
    world.scopes().create("shared", write=["pay"], read=["pay"], is_shared=True)
    both = world.as_member("pay")
    both.write("shared/key", "of the application")
    both.write("pay/admin", "of the scope")
    for path in ("db/admin", "pay/admin", "web/key"):
        with pytest.raises(InvalidRotation, match="outside of the sealed scope `shared/`"):
            world.rotations(both).set("shared/key", RULES._replace(options={"admin": f"${{secret:{path}}}"}))
    assert world.rotations(both).all() == []
    world.rotations(both).set(PATH, RULES._replace(options={"admin": "${secret:pay/admin}"}))


def test_what_a_writer_puts_into_a_rotation_reads_no_other_part_for_him(world: SealedWorld) -> None:
    """A writer may store what he likes; who leads it on reads with it what lies in the scope, and nothing else."""
    world.scopes().create("other", write=["pay"], read=["pay"])
    daemon = world.as_member("pay")
    daemon.write("other/admin", "of the other scope")
    part = daemon.scope("pay")
    rules = RULES._replace(options={"admin": "${secret:other/admin}"})
    obj = {"path": PATH, "rotator": "account"}
    Steps(part.authority).create(PATH, lambda record, _: Rotation(record, PATH, rules, "svc:pay"), obj)
    given: list[Options] = []

    def find(name: str, options: Options) -> Rotator:
        given.append(options)
        return world.account.rotator(name, options)

    runner = world.runner(part_of(daemon, PATH))
    runner.find = find
    with suppress(AccessDenied):
        runner.advance(runner.steps.find(PATH), "asked")
    assert given == []
    read = [entry.record.obj for entry in daemon.scope("other").log.records() if "read" in entry.record.event.value]
    assert {"path": "other/admin", "ver": 1} not in read


# --- rotating ---------------------------------------------------------------------------------------------------------


def test_a_member_rotates_alone_and_every_step_is_in_the_log_of_the_scope(world: SealedWorld, vault: Vault) -> None:
    rotation = world.lead_on(world.runner(part_of(vault, PATH)), "asked")
    assert (rotation.rotations, rotation.progress and rotation.progress.state) == (1, State.RETIRED)
    assert world.account.accepted == {password(vault)}
    assert password(vault) != FIRST
    assert password(world.as_member("audit")) == password(vault)
    steps = [
        entry.record
        for entry in vault.scope("pay").log.records()
        if entry.record.event.value == "rotation.stepped" and entry.record.obj["from"] != entry.record.obj["to"]
    ]
    states = ["begun", "pending", "set", "tested", "current", "previous", "retired"]
    assert [record.obj["to"] for record in steps] == states
    assert {record.subject.id for record in steps} == {"svc:pay"}


def test_a_person_says_what_is_to_become_of_it_as_elsewhere(world: SealedWorld, vault: Vault) -> None:
    rotations, runner = world.rotations(vault), world.runner(part_of(vault, PATH))
    assert rotations.pause(PATH).is_paused
    assert runner.advance(runner.steps.find(PATH), "asked").rotation.progress is None
    assert not rotations.resume(PATH).is_paused
    runner.stop()
    runner = world.runner(part_of(vault, PATH))
    stored = runner.steps.find(PATH)
    while stored.rotation.progress is None or stored.rotation.progress.state is not State.CURRENT:
        stored = runner.advance(stored, "asked")
    with pytest.raises(Conflict):
        rotations.remove(PATH)
    world.lead_on(runner)
    rotations.remove(PATH)
    assert rotations.all() == []
    with pytest.raises(RotationNotFound):
        rotations.find(PATH)


def test_a_member_of_several_scopes_rotates_in_each(world: SealedWorld) -> None:
    world.scopes().create("jobs", read=["pay"], write=["pay"])
    vault = world.as_member("pay")
    vault.write("jobs/key", {"username": "shop", "password": FIRST})
    rotations = world.rotations(vault)
    rotations.set(PATH, RULES)
    rotations.set("jobs/key", RULES)
    assert [each.path for each in rotations.all()] == ["jobs/key", PATH]
    assert [each.path for each in rotations.all("jobs/")] == ["jobs/key"]
    assert rotations.now_ns() > 0
    assert rotations.check(PATH) == []
    parts = [part_of(vault, path) for path in (PATH, "jobs/key")]
    assert [len(all_stored(part)) for part in parts] == [1, 1]
    assert parts[0] is not parts[1]


def test_two_members_work_at_one_rotation_one_after_the_other(world: SealedWorld, vault: Vault) -> None:
    first, second = world.runner(part_of(vault, PATH)), world.runner(part_of(world.as_member("pay"), PATH))
    started = first.steps.find(PATH)
    seen: list[type[Exception]] = []

    def interfere(moment: str) -> None:
        if moment == "before apply" and not seen:
            seen.append(RotationBusy)
            with pytest.raises(RotationBusy):
                second.advance(second.steps.find(PATH))

    world.account.hook = interfere
    first.advance(started, "asked")
    assert seen
    world.account.hook = lambda _moment: None
    assert world.lead_on(second).rotations == 1


@pytest.mark.parametrize("kind", ["commit", "call"])
@pytest.mark.parametrize("is_after", [False, True])
def test_a_crash_at_any_step_leaves_what_another_member_goes_on_with(
    world: SealedWorld, vault: Vault, kind: str, is_after: bool
) -> None:
    other = world.as_member("pay")
    number, deaths = 0, 0
    while True:
        number += 1
        mortal = MortalProcess(
            part_of(vault, PATH),
            world.account.rotator,
            _Clocks(world),  # type: ignore[arg-type]  # what it has of them
            f"mortal-{number}",
            Point(kind, number, is_after),
        )
        with suppress(Died):
            world.lead_on(mortal.runner, "asked")
        if not mortal.is_dead:
            break
        deaths += 1
        stored = Steps(part_of(other, PATH).authority).find(PATH)
        numbers = {info.version for info in other.history(PATH)}
        accepted = {password(other, at) for at in _labels(other)}
        assert accepted & world.account.accepted, "no stored version is accepted"
        if stored.rotation.is_running:
            world.wait(31)  # for which its lease is good
            after = world.runner(part_of(other, PATH))
            _wait_for_lease(world, after)
            assert world.lead_on(after).progress is not None
        assert world.account.accepted == {password(other)}
        assert {"current"} == _labels(other)
        assert numbers <= {info.version for info in other.history(PATH)}
    assert deaths >= 4
    vault.scope("pay").log.verify()
    report = verify_vault(vault.scope("pay").opened)
    assert (report.problems, report.orphans) == ([], {})


class _Clocks:
    def __init__(self, world: SealedWorld) -> None:
        self._world = world

    def elapsed_s(self) -> float:
        return self._world.elapsed


def _wait_for_lease(world: SealedWorld, runner: object) -> None:
    steps, leases = runner.steps, runner.leases  # type: ignore[attr-defined]  # of a runner
    if not leases.may_take(steps.find(PATH)):
        world.wait(31)


def _labels(vault: Vault) -> set[str]:
    found: Iterator[str] = (label for info in vault.history(PATH) for label in info.labels)
    return set(found) & {"current", "previous", "pending"}


# --- over the edge ----------------------------------------------------------------------------------------------------


def test_what_is_rotated_in_a_scope_does_not_leave_it(world: SealedWorld, vault: Vault) -> None:
    world.scopes().create("jobs", read=["pay"], write=["pay"])
    both = world.as_member("pay")
    with pytest.raises(Conflict, match="is rotated"):
        both.move(PATH, "jobs/db")
    with pytest.raises(Conflict, match="is rotated"):
        world.moves().merge("pay", reader=world.identity("pay"))
    both.move(PATH, "pay/eu/db")  # in the scope it goes along
    with pytest.raises(Conflict, match="is rotated"):
        world.moves().split("pay", "pay/eu", reader=world.identity("pay"))
    assert [each.path for each in world.rotations(both).all()] == ["pay/eu/db"]
    world.rotations(both).remove("pay/eu/db")
    both.move("pay/eu/db", "jobs/db")
    assert world.rotations(world.as_member("pay")).all() == []
    del vault


@pytest.mark.parametrize("who", ["audit", "pay", "root"])
def test_what_is_exposed_in_a_scope_is_told_to_who_cannot_rotate_it_there(world: SealedWorld, who: str) -> None:
    world.scopes().grant("pay", "web", "read")
    world.as_member("pay")
    world.as_member("web").read(PATH)
    world.scopes().revoke("pay", "web", "list")
    world.rotations(world.as_member("pay")).set(PATH, RULES)
    vault = world.admin() if who == "root" else world.as_member(who)
    leader = Leader(vault, Invocation(None, None, None, is_json=False, is_silent=True, is_confirmed=False))
    leader.rotations = world.rotations(vault)
    assert leader.find_exposed() == ({PATH: "exposed"}, [])
