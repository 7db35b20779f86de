"""Keys of a scope change while dropped values wait in it: none of them is lost, and nobody who left drops another."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from securecfg.errors import EpochInUse, ScopeSealed, WrongKey
from securecfg.keys.former_grants import FIRST_FORMER_ROW, LAST_FORMER_ROW, FormerGrants
from securecfg.keys.slots import Slot
from securecfg.keys.value_grants import EPOCHS_MAX, ROWS_OF_EPOCH
from securecfg.policy import Document
from securecfg.store import Space
from securecfg.vault.commits.maintenance import finish_destruction
from securecfg.vault.drops.collecting import Collection
from securecfg.vault.drops.orders import FIRST_ORDER, order_row_of
from securecfg.vault.drops.rows import FIRST_DROP
from securecfg.vault.keys.departures import find_exposed
from securecfg.vault.rekeying.roles import RoleRotation
from securecfg.vault.rekeying.scope_compromise import ScopeCompromise, finish_as_member
from securecfg.vault.rekeying.scopes import ScopeKeyring
from securecfg.vault.scopes.formers import has_formers, retired_formers
from securecfg.vault.scopes.late_grants import drop_needless
from securecfg.vault.scopes.opening import charter_of
from securecfg.vault.scopes.registry import read_registry
from tests.vault.copies import copy_of
from tests.vault.drops.drop_world import drop_world, role_key, rows_waiting
from tests.vault.scope_world import EVERYTHING
from tests.vault.world import text_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.vault.scope_world import ScopeWorld


def make_world(folder: Path) -> ScopeWorld:
    world = drop_world(folder)
    world.as_member("pay").write("pay/old", "old")
    return world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ScopeWorld]:
    world = copy_of(make_world, tmp_path)
    yield world
    world.close()


def drop(world: ScopeWorld, path: str) -> str:
    world.clock.advance(timedelta(seconds=1))
    receipt = world.as_member("web").drop(path, path).id
    world.clock.advance(timedelta(seconds=1))
    return receipt


def keyring(world: ScopeWorld) -> ScopeKeyring:
    return ScopeKeyring(world.admin().authority)


def with_members(world: ScopeWorld, role: str, *members: str) -> None:
    text = "".join(EVERYTHING.format(name) for name in ("pay", "web", "audit"))
    named = ", ".join(f'"svc:{name}"' for name in members)
    text = text.replace(f'["svc:{role}"]', f"[{named}]")
    world.admin().administration.apply_policy([Document("grants.toml", "grants", text)])


def test_the_four_kinds_of_rows_have_ranges_of_their_own(world: ScopeWorld) -> None:
    """Whatever a slot's id or a role's key is: a row of one kind is none of another."""
    slot_ids = [bytes(16), b"\xff" * 16, *(bytes((byte,)) * 16 for byte in range(1, 200))]
    (slot,) = (raw for number, raw in world.admin().opened.replica.slots.items() if number < 512)
    former = [FormerGrants(Slot.parse(slot)._replace(slot_id=slot_id), {}).row_id for slot_id in slot_ids]
    orders = [order_row_of(slot_id * 78, slot_id) for slot_id in slot_ids]
    assert EPOCHS_MAX * ROWS_OF_EPOCH <= FIRST_FORMER_ROW
    assert all(FIRST_FORMER_ROW <= row <= LAST_FORMER_ROW < FIRST_ORDER for row in former)
    assert all(FIRST_ORDER <= row < FIRST_DROP for row in orders)


def test_a_role_that_reads_gets_another_key_while_values_wait(world: ScopeWorld) -> None:
    receipt = drop(world, "pay/waits")
    before = rows_waiting(world)
    RoleRotation(world.admin().authority).rotate_role("pay")
    part = world.admin().scope("pay")
    assert has_formers(part.opened.store)
    # None of those who look for rows of one kind takes those of another for his.
    assert retired_formers(part.opened.store, 0) == []
    assert not drop_needless(part.opened)
    finish_destruction(part.opened)
    assert (rows_waiting(world), has_formers(part.opened.store)) == (before, True)
    pay = world.as_member("pay")
    assert (text_of(pay, "pay/old"), text_of(pay, "pay/waits")) == ("old", "pay/waits")
    assert [version.author for version in pay.history("pay/waits")] == ["svc:web"]
    assert pay.find_drop(receipt).state == "collected"
    again = drop(world, "pay/later")
    assert text_of(world.as_member("pay"), "pay/later") == "pay/later"
    assert world.as_member("pay").find_drop(again).state == "collected"


def test_who_collects_leaves_what_a_former_slot_was_granted(world: ScopeWorld) -> None:
    world.scopes().grant("pay", "audit", "read")
    world.scopes().grant("pay", "audit", "write")
    text_of(world.as_member("pay"), "pay/old")
    text_of(world.as_member("audit"), "pay/old")
    RoleRotation(world.admin().authority).rotate_role("pay")
    done = Collection(world.as_member("audit").scope("pay").authority).run()
    assert (done.versions, dict(done.refused)) == ((), {})
    assert has_formers(world.admin().scope("pay").opened.store)


def test_no_value_key_is_forgotten_that_a_waiting_value_is_under(world: ScopeWorld) -> None:
    keys = keyring(world)
    keys.rotate("pay")
    text_of(world.as_member("pay"), "pay/old")
    drop(world, "pay/waits")
    assert keyring(world).rotate("pay").retired_values == (0,)
    # The data keys are all brought over, by a reader who takes nothing in.
    world.scopes().grant("pay", "audit", "read")
    text_of(world.as_member("pay"), "pay/old")
    assert rows_waiting(world) == []
    drop(world, "pay/again")
    assert keyring(world).rotate("pay").retired_values == (1, 2)
    text_of(world.as_member("audit"), "pay/old")
    done = keyring(world).rotate("pay", resumes=True)
    assert (done.waiting, done.retired_values) == (0, ())
    with pytest.raises(EpochInUse, match="dropped value"):
        keyring(world).retire("pay", 3, of_values=True)
    assert text_of(world.as_member("pay"), "pay/again") == "pay/again"
    assert keyring(world).rotate("pay", resumes=True).retired_values == (3,)


def test_what_is_dropped_after_a_change_of_keys_is_under_the_key_in_use(world: ScopeWorld) -> None:
    keyring(world).rotate("pay")
    drop(world, "pay/one")
    keyring(world).rotate_roots()
    keyring(world).rotate_audit("pay")
    drop(world, "pay/two")
    assert [int.from_bytes(row[2:6]) for _, row in rows_waiting(world)] == [1, 1]
    ScopeCompromise(world.admin().authority).declare()
    drop(world, "pay/three")
    epochs = [int.from_bytes(row[2:6]) for _, row in rows_waiting(world)]
    assert epochs[:2] == [1, 1]
    assert epochs[2] > 1
    finish_as_member(world.as_member("pay"))
    for name in ("one", "two", "three"):
        assert text_of(world.as_member("pay"), f"pay/{name}") == f"pay/{name}"
    _, left = ScopeCompromise(world.admin().authority).resume()
    assert [each.is_done for each in left] == [True]
    assert world.scopes().show("pay").value_epochs == 1


def test_who_has_left_a_role_that_drops_does_not_any_more(world: ScopeWorld) -> None:
    with_members(world, "web", "web", "leaver")
    world.person("web", "leaver")
    world.as_member("web")
    leaver = world.as_member("leaver")
    leaver.drop("pay/x", "while he may")
    assert text_of(world.as_member("pay"), "pay/x") == "while he may"
    kept = role_key(world, "leaver")
    world.admin().administration.remove_member("web", "svc:leaver")
    done = RoleRotation(world.admin().authority).rotate_role("web")
    assert (done.members, done.scopes) == (["svc:web"], ["pay/"])
    part = world.admin().scope("pay")
    charter = charter_of(part.opened)
    party = charter.party("web")
    assert party is not None
    assert (party.rights, party.slot_id) == (8, bytes(16))
    assert party.signing_key != kept.signing_key
    assert part.opened.store.get(Space.GRANT, order_row_of(kept.public_key, charter.scope_id)) is None
    world.clock.advance(timedelta(seconds=1))
    with pytest.raises(ScopeSealed, match="any more"):
        leaver.drop("pay/x", "no more")
    with pytest.raises(WrongKey):
        world.as_member("leaver")
    drop(world, "pay/y")
    assert text_of(world.as_member("pay"), "pay/y") == "pay/y"
    registry = read_registry(world.admin().opened)
    assert (dict(registry.formers), registry.unfinished) == ({}, frozenset())


def test_a_role_that_reads_and_drops_keeps_both_under_another_key(world: ScopeWorld) -> None:
    world.scopes().grant("pay", "web", "read")
    text_of(world.as_member("pay"), "pay/old")
    assert text_of(world.as_member("web"), "pay/old") == "old"
    RoleRotation(world.admin().authority).rotate_role("web")
    assert text_of(world.as_member("web"), "pay/old") == "old"
    drop(world, "pay/x")
    assert text_of(world.as_member("pay"), "pay/x") == "pay/x"


@pytest.mark.parametrize("how", ["rotate", "revoke", "twice"])
def test_what_waited_when_a_reader_left_is_exposed_once_it_is_taken_in(world: ScopeWorld, how: str) -> None:
    scopes = world.scopes()
    scopes.grant("pay", "audit", "read")
    drop(world, "pay/waits")
    if how == "twice":
        keyring(world).rotate("pay")
    if how == "revoke":
        scopes.revoke("pay", "audit", "read")
    else:
        RoleRotation(world.admin().authority).rotate_role("audit")
    drop(world, "pay/later")
    world.clock.advance(timedelta(days=1))
    pay = world.as_member("pay")
    assert (text_of(pay, "pay/waits"), text_of(pay, "pay/later")) == ("pay/waits", "pay/later")
    assert [each.path for each in find_exposed(pay.authority)] == ["pay/old", "pay/waits"]
    keyring(world).rotate("pay")
    pay.write("pay/waits", "another value")
    assert [each.path for each in find_exposed(pay.authority)] == ["pay/old"]


def test_what_waited_is_not_exposed_to_who_left_before_it_was_dropped(world: ScopeWorld) -> None:
    world.scopes().grant("pay", "audit", "read")
    RoleRotation(world.admin().authority).rotate_role("audit")
    drop(world, "pay/waits")
    keyring(world).rotate("pay")
    pay = world.as_member("pay")
    assert text_of(pay, "pay/waits") == "pay/waits"
    assert [each.path for each in find_exposed(pay.authority)] == ["pay/old"]


def test_a_compromise_is_not_over_while_values_wait_under_a_key_of_before(world: ScopeWorld) -> None:
    drop(world, "pay/waits")
    _, left = ScopeCompromise(world.admin().authority).declare()
    assert [(each.drops, each.is_done) for each in left] == [(1, False)]
    drop(world, "pay/later")
    pay = world.as_member("pay")
    assert text_of(pay, "pay/waits") == "pay/waits"
    finish_as_member(pay)
    _, left = ScopeCompromise(world.admin().authority).resume()
    assert [(each.waiting, each.secrets, each.drops, each.is_done) for each in left] == [(0, 0, 0, True)]
    assert world.scopes().show("pay").value_epochs == 1
    assert [each.path for each in find_exposed(pay.authority)] == ["pay/old", "pay/waits"]
