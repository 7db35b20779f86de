"""Group commit: what one plan does wrong harms no other, and no half of a plan is ever published."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import pytest

from securecfg.audit import Event
from securecfg.crypto import KIND_TEXT, parse_dek_epoch
from securecfg.errors import (
    AccessDenied,
    CommitUnknown,
    ConfusablePath,
    InvalidMetadata,
    LastSlot,
    SlotRemoved,
    StoreBusy,
    ValueTooLarge,
)
from securecfg.keys import open_provider
from securecfg.keys.keyfile import generate_key_file
from securecfg.policy import Document
from securecfg.store import ID_LIMIT, Space, open_sqlite
from securecfg.vault.commits.epochs import rotate_signing_key
from securecfg.vault.commits.publishing import Plan
from securecfg.vault.creation import open_rows
from securecfg.vault.drafts import Content, Drafts, NewVersion
from securecfg.vault.keys.changes import KeyChanges
from securecfg.vault.keys.slots import Slots
from securecfg.vault.opened import Options
from securecfg.vault.session import Identity
from securecfg.vault.vault import Vault
from securecfg.vault.verification import verify_vault
from tests.vault.world import ADMIN, READER, grant, interrupted, text_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.vault.commits.publishing import Publication
    from tests.vault.world import World

NOBODY = """
[roles.nobody]
members = ["svc:nobody"]
"""
KEEPER = """
[roles.keeper]
members = ["user:ada"]
[[roles.keeper.grants]]
actions = ["key.manage"]
"""


class Busy:
    """Keeps a vault's leader occupied, so that what is handed in meanwhile forms one group."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._begun, self._go_on = threading.Event(), threading.Event()
        self._threads: list[threading.Thread] = []
        self.errors: dict[str, BaseException] = {}
        self.start("leader", lambda: vault.opened.publisher.publish(self._occupy))
        assert self._begun.wait(10)

    def _occupy(self, _publication: Publication) -> Plan:
        self._begun.set()
        assert self._go_on.wait(10)
        return Plan()

    def start(self, name: str, call: Callable[[], object]) -> None:
        """Call something in a thread, and wait until it waits in the queue."""
        publisher = self._vault.opened.publisher
        waiting = len(publisher._queue)

        def run() -> None:
            try:
                call()
            except BaseException as error:  # noqa: BLE001 - to be looked at by the test
                self.errors[name] = error

        thread = threading.Thread(target=run)
        self._threads.append(thread)
        thread.start()
        while name != "leader" and thread.is_alive() and len(publisher._queue) == waiting:
            pass

    def go_on(self) -> None:
        self._go_on.set()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()


def test_a_record_that_cannot_be_written_leaves_the_secret_as_it_was(world: World, vault: Vault) -> None:
    vault.write("a", "one")
    talkative = world.open(context={f"name{number}": "x" * 1_000 for number in range(40)})
    with pytest.raises(InvalidMetadata):
        talkative.write("a", "two")
    assert text_of(world.open(), "a") == "one"


def test_what_a_plan_changes_of_policy_and_roles_holds_for_those_after_it(world: World, vault: Vault) -> None:
    grant(vault)
    vault.write("app/a", "1")
    with vault.acting(READER) as reader:
        busy = Busy(vault)
        busy.start("policy", lambda: vault.administration.apply_policy([Document("none.toml", "grants", NOBODY)]))
        busy.start("read", lambda: reader.read("app/a"))
        busy.go_on()
    assert set(busy.errors) == {"read"}
    assert isinstance(busy.errors["read"], AccessDenied)


def test_two_changes_that_each_leave_an_administrator_do_not_leave_none_together(world: World, vault: Vault) -> None:
    grant(vault, KEEPER)  # who is an administrator no more may manage keys all the same
    vault.administration.add_member("admin", "user:bob")
    for name, principal in (("ada", ADMIN), ("bob", "user:bob")):
        generate_key_file(world.folder / name)
        Slots(vault.authority).add(open_provider(f"file:{world.folder / name}"), principals=[principal])
    handle = world.open(key=f"file:{world.folder / 'ada'}")
    Slots(handle.authority).remove(1)
    busy = Busy(handle)
    busy.start("member", lambda: handle.administration.remove_member("admin", ADMIN))
    busy.start("slot", lambda: Slots(handle.authority).remove(3))
    busy.go_on()
    assert set(busy.errors) == {"slot"}
    assert isinstance(busy.errors["slot"], LastSlot)
    assert Slots(world.open("user:bob", key=f"file:{world.folder / 'bob'}").authority).list()


def test_a_change_that_is_durable_succeeds_even_if_it_cannot_be_read_after_it(world: World, vault: Vault) -> None:
    generate_key_file(world.folder / "second")
    Slots(vault.authority).add(open_provider(f"file:{world.folder / 'second'}"), principals=[ADMIN])
    handle, other = world.open(), world.open(key=f"file:{world.folder / 'second'}")
    accept = handle.opened.replica.accept

    def overtaken(*arguments: Any) -> None:  # noqa: ANN401 - those of the method
        Slots(other.authority).remove(1)
        accept(*arguments)

    handle.opened.replica.accept = overtaken  # type: ignore[method-assign, assignment]  # right after the commit
    KeyChanges(handle.authority).begin_scope_epoch()
    with pytest.raises(SlotRemoved):
        handle.list()
    scope = [usage.epoch for usage in KeyChanges(other.authority).usage() if usage.purpose == "scope"]
    assert max(scope) >= 1


def test_a_plan_that_meets_the_commit_of_another_writer_is_made_anew(world: World, vault: Vault) -> None:
    other = world.open()
    vault.write("a", "one")
    attempts, reached = [], []

    def plan(publication: Publication) -> Plan:
        attempts.append(publication.entry(b"b"))
        if len(attempts) == 1:
            other.write("b", "two")
        vault.opened.refresh()  # as whoever misses a row does, to see whether another writer replaced it
        reached.append(publication)
        content = Content(KIND_TEXT, 5, lambda: (b"three",))
        return Drafts(vault.opened, publication).write(b"a", content, NewVersion(ADMIN, vault.opened.clock.now_ns()))

    def planned(publication: Publication) -> Plan:
        made = plan(publication)
        made.records = [vault.authority.session().record(Event.SECRET_WRITTEN, {"path": "a", "ver": 2})]
        return made

    vault.opened.publisher.publish(planned)
    assert [entry is not None for entry in attempts] == [False, True]
    assert len(reached) == 1
    again = world.open()
    assert (text_of(again, "a"), text_of(again, "b")) == ("three", "two")
    assert [len(handle.history(path)) for handle in (vault, other, again) for path in ("a", "b")] == [2, 1] * 3
    assert verify_vault(again.opened).problems == []


def test_a_document_of_some_size_is_published_whole(world: World, vault: Vault) -> None:
    text = json.dumps(["x" * 1_000] * 300).encode()
    path = b"\x01large"

    def plan(publication: Publication) -> Plan:
        plan = Drafts(vault.opened, publication).write(path, content, NewVersion(ADMIN, vault.opened.clock.now_ns()))
        plan.records = [vault.authority.session().record(Event.POLICY_APPLIED, {"rev": 1})]
        return plan

    content = Content(KIND_TEXT, len(text), lambda: (text,))
    vault.opened.publisher.publish(plan)
    assert world.open().opened.system_document(path, None) == ["x" * 1_000] * 300
    content = Content(KIND_TEXT, 4 * len(text), lambda: (text * 4,))
    with pytest.raises(ValueTooLarge):
        vault.opened.publisher.publish(plan)
    assert world.open().opened.system_document(path, None) == ["x" * 1_000] * 300


def test_a_role_with_more_members_than_a_record_holds_locks_nobody_out(world: World, vault: Vault) -> None:
    vault.write("a", "one")
    members = [f"user:{'x' * 100}{number}" for number in range(400)]

    def add_all() -> None:
        for member in members:
            vault.administration.add_member("ops", member)

    with pytest.raises(InvalidMetadata):
        add_all()
    assert text_of(world.open(), "a") == "one"


def test_a_plan_that_fails_while_it_is_taken_in_leaves_nothing_to_the_others(world: World, vault: Vault) -> None:
    vault.write("a", "one")
    talkative = world.open(context={f"name{number}": "x" * 1_000 for number in range(40)})
    shared = vault.opened.publisher
    talkative.opened.publisher = shared
    busy = Busy(vault)
    busy.start("bad", lambda: talkative.write("a", "two"))
    busy.start("good", lambda: vault.write("b", "two"))
    busy.go_on()
    assert {name: type(error) for name, error in busy.errors.items()} == {"bad": InvalidMetadata}
    fresh = world.open()
    assert (text_of(fresh, "a"), text_of(fresh, "b")) == ("one", "two")


def test_who_is_beaten_again_and_again_has_the_store_kept_for_it(world: World, vault: Vault) -> None:
    slow, store = interrupted(world)
    eager = open_sqlite(world.path, busy_timeout_s=0.05)
    opened, slot = open_rows(eager, open_provider(world.key), world.path, world.clock, Options())
    other = Vault(opened, Identity(ADMIN, slot=slot.slot_id.hex()))
    was_kept_out: list[bool] = []

    def beat() -> None:
        # Whatever the slow one is about to publish, the other one has published before.
        store.interrupt("commit", None, beat)
        try:
            other.write("app/b", str(len(was_kept_out)))
        except StoreBusy:
            was_kept_out.append(True)
        else:
            was_kept_out.append(False)

    store.interrupt("commit", None, beat)
    slow.write("app/a", "1")
    assert was_kept_out == [False, False, False, True]
    assert (text_of(vault, "app/a"), text_of(vault, "app/b")) == ("1", "2")
    other.close()


def test_foreign_exceptions_in_a_plan_harm_no_other_plan(world: World, vault: Vault) -> None:
    def fail(_publication: Publication) -> Plan:
        raise ZeroDivisionError

    busy = Busy(vault)
    busy.start("bad", lambda: vault.opened.publisher.publish(fail))
    busy.start("good", lambda: vault.write("b", "two"))
    busy.go_on()
    assert {name: type(error) for name, error in busy.errors.items()} == {"bad": ZeroDivisionError}
    assert text_of(world.open(), "b") == "two"


def test_two_paths_that_look_alike_are_not_published_together(vault: Vault) -> None:
    busy = Busy(vault)
    busy.start("first", lambda: vault.write("payments", "1"))
    busy.start("second", lambda: vault.write("payrnents", "2"))
    busy.go_on()
    assert {name: type(error) for name, error in busy.errors.items()} == {"second": ConfusablePath}
    assert vault.list() == ["payments"]


def test_who_waits_for_a_leader_that_is_interrupted_is_told_that_the_outcome_is_unknown(vault: Vault) -> None:
    def interrupt(_publication: Publication) -> Plan:
        raise KeyboardInterrupt

    busy = Busy(vault)
    busy.start("interrupted", lambda: vault.opened.publisher.publish(interrupt))
    busy.start("other", lambda: vault.write("b", "two"))
    busy.go_on()
    assert isinstance(busy.errors["interrupted"], KeyboardInterrupt)
    error = busy.errors["other"]
    assert isinstance(error, CommitUnknown)
    assert vault.resolve(error.request_id) is None
    assert vault.write("b", "three") == 1


def test_one_that_stops_waiting_passes_the_leadership_on(vault: Vault) -> None:
    publisher = vault.opened.publisher
    busy = Busy(vault)
    busy.start("gone", lambda: vault.write("a", "1"))
    busy.start("other", lambda: vault.write("b", "1"))
    gone = publisher._queue[0]
    # What an interrupt does to the thread that waits, before and after it was appointed.
    publisher._leave(gone)
    gone.fail(KeyboardInterrupt())
    gone.gate.release()
    busy.go_on()
    assert vault.list() == ["b"]
    with publisher._mutex:
        publisher._has_leader = True
        publisher._queue[:] = [first, second] = [type(gone)(lambda _: Plan(), ""), type(gone)(lambda _: Plan(), "")]
        publisher._appoint()
    publisher._leave(first)
    assert second.leads
    assert second.gate.acquire(blocking=False)
    publisher._leave(second)
    assert vault.write("c", "1") == 1


def test_whoever_publishes_right_after_a_change_of_keys_uses_the_new_ones(world: World, vault: Vault) -> None:
    generate_key_file(world.folder / "other")
    other = open_provider(f"file:{world.folder / 'other'}")
    busy = Busy(vault)
    # The leader takes all of them into one group or into several; in both the later ones follow a new key.
    for number in range(4):
        busy.start(f"rotate{number}", lambda: rotate_signing_key(vault.authority))
        busy.start(f"write{number}", lambda number=number: vault.write(f"s{number}", "1"))  # type: ignore[misc]  # lambda default
        busy.start(f"slot{number}", lambda: Slots(vault.authority).add(other))
    busy.go_on()
    fresh = world.open()
    assert len(fresh.list()) == 4
    assert fresh.log.verify().epochs == fresh.opened.replica.state.epoch + 1
    added = sum(name.startswith("slot") for name in busy.errors)
    assert len(Slots(fresh.authority).list()) == 1 + 4 - added


def test_the_new_keys_are_in_force_before_anybody_else_can_publish(world: World, vault: Vault) -> None:
    publisher = vault.opened.publisher
    publish = publisher.publish

    def overtaken(planner: Callable[[Publication], Plan], request_id: str = "") -> object:
        result = publish(planner, request_id)
        publisher.publish = publish  # type: ignore[method-assign]  # once
        vault.write("b", "two")
        return result

    publisher.publish = overtaken  # type: ignore[method-assign]  # between the commit and its caller
    rotate_signing_key(vault.authority)
    assert text_of(world.open(principal=ADMIN), "b") == "two"


def test_what_waits_behind_a_change_of_keys_is_sealed_under_the_new_ones(world: World, vault: Vault) -> None:
    changes = KeyChanges(vault.authority)
    busy = Busy(vault)
    busy.start("keys", changes.begin_scope_epoch)
    busy.start("write", lambda: vault.write("a", "one"))
    busy.go_on()
    assert not busy.errors
    rows = vault.opened.store.scan(Space.DEK, 0, ID_LIMIT - 1, 1_000)
    assert parse_dek_epoch(rows[-1][1]) == 1
    assert text_of(vault, "a") == "one"


def test_two_changes_of_one_document_at_the_same_moment_are_both_made(vault: Vault) -> None:
    busy = Busy(vault)
    busy.start("one", lambda: vault.administration.add_member("web", "svc:one"))
    busy.start("two", lambda: vault.administration.add_member("web", "svc:two"))
    busy.go_on()
    assert busy.errors == {}
    assert vault.administration.roles()["web"] == ["svc:one", "svc:two"]
