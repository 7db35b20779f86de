"""Whose slots and keys a charter names: who runs a change could name his own, and readers give values to slots."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from securecfg.crypto import generate_key
from securecfg.errors import Tampered
from securecfg.keys import SlotInfo, seal_slot
from securecfg.keys.identity import read_identity_file
from securecfg.keys.role_keys import RoleKey, RolePublic
from securecfg.vault.administrators.replacing import AdministratorChanges
from securecfg.vault.commits.epochs import plan_key_change
from securecfg.vault.commits.joint import PartChange
from securecfg.vault.keys.departures import newest_compromise
from securecfg.vault.rekeying.roles import RoleRotation
from securecfg.vault.rekeying.scope_compromise import ScopeCompromise
from securecfg.vault.scopes.chartering import CharterDraft, settled
from securecfg.vault.scopes.charters import DROP, LIST, READ
from securecfg.vault.scopes.completion import complete_grants
from securecfg.vault.scopes.opening import charter_of, grants_of
from securecfg.vault.scopes.registry import read_own_keys, read_registry
from securecfg.vault.scopes.scopes import Scopes
from securecfg.vault.state.replica import SLOT_IDS
from tests.vault.copies import copy_of
from tests.vault.scope_world import accepted_by, scope_world
from tests.vault.scopes.test_attacks import role_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from securecfg.keys import Keyring
    from securecfg.vault.opened import OpenVault
    from tests.vault.scope_world import ScopeWorld

ATTACKER = RoleKey("pay", generate_key())


def make_world(folder: Path) -> ScopeWorld:
    """A scope that `pay` reads and `audit` lists; `svc:audit` has the keys of both."""
    world = scope_world(folder)
    world.scopes().create("pay", read=["pay", "web"], write=["pay"], list=["audit"])
    world.as_member("pay").write("pay/key", "of pay")
    world.person("audit", "listing")
    identity = read_identity_file(world.folder / "audit.identity").identity
    world.admin().administration.add_member("pay", "svc:audit", identity=identity)
    world.as_member("pay")
    assert accepted_by(world, "audit", "pay/key") == "of pay"
    return world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ScopeWorld]:
    world = copy_of(make_world, tmp_path)
    yield world
    world.close()


def with_another_slot(world: ScopeWorld) -> None:
    """Have a charter made that gives `pay` a slot which an attacker opens; the one that it opens stays there."""
    with world.scopes()._inside("pay") as inside:
        opened, replica = inside.opened, inside.opened.replica
        new_slot = seal_slot(replica.vault_id, ATTACKER)

        def draft() -> CharterDraft:
            charter = charter_of(opened)
            free = next(number for number in SLOT_IDS if number not in replica.slots)
            slots = replica.slots | new_slot.rows(free, replica.vault_id, replica.root)
            info = SlotInfo(new_slot.slot.slot_id, new_slot.public_key, opened.clock.now_ns(), "role", "pay")
            parties = tuple(
                party._replace(slot_id=info.slot_id) if party.role == "pay" else party for party in charter.parties
            )
            return CharterDraft(parties, replica.keyring.with_slot(info), slots, {}, [])

        inside._chartering.publish(
            draft,
            lambda publication, drafted: plan_key_change(opened, publication, drafted.slots, drafted.keyring),
            settled,
        )


def with_another_public_key(world: ScopeWorld) -> None:
    """Have a charter made under which the slot of `pay` stays, and what readers seal to for it is an attacker's."""
    with world.scopes()._inside("pay") as inside:
        opened, replica = inside.opened, inside.opened.replica
        party = charter_of(opened).party("pay")
        assert party is not None
        info = replica.keyring.slot(party.slot_id)
        public_key = seal_slot(replica.vault_id, ATTACKER).public_key
        slots = tuple(each._replace(public_key=public_key) if each == info else each for each in replica.keyring.slots)
        keyring: Keyring = type(replica.keyring)(replica.keyring.keys, slots)

        def draft() -> CharterDraft:
            return CharterDraft(charter_of(opened).parties, keyring, replica.slots, {}, [])

        inside._chartering.publish(
            draft,
            lambda publication, drafted: plan_key_change(opened, publication, drafted.slots, drafted.keyring),
            settled,
        )


CHANGES = {"slot": with_another_slot, "public key": with_another_public_key}


def opened_with(world: ScopeWorld, *keys: RoleKey) -> OpenVault:
    """Return the scope as some keys of roles open it, which are tried in this order."""
    door = Scopes(world.admin().authority).doorway()
    assert door is not None
    number = read_registry(world.admin().opened).scopes["pay/"].number
    found = door._replace(keys=keys, newest=None).open(number)
    assert found is not None
    return found[0]


@pytest.mark.parametrize("change", CHANGES)
def test_who_has_the_key_of_a_role_refuses_a_charter_in_which_its_slot_is_not_its_own(
    world: ScopeWorld, change: str
) -> None:
    lists, reads = role_key(world, "listing"), role_key(world, "pay")
    CHANGES[change](world)
    assert accepted_by(world, "pay", "pay/key") == "tampered"
    assert accepted_by(world, "audit", "pay/key") == "tampered"
    for keys in ((lists, reads), (reads, lists)):
        with pytest.raises(Tampered, match="gives a role the slot of another one"):
            opened_with(world, *keys)


@pytest.mark.parametrize("change", CHANGES)
def test_who_has_a_scope_open_gives_nothing_to_a_slot_that_is_not_its_roles_own(world: ScopeWorld, change: str) -> None:
    part, keys = world.as_member("pay").scope("pay"), [role_key(world, "pay")]
    CHANGES[change](world)
    with world.scopes()._inside("pay") as inside:
        inside.grant("late", RoleKey("late", ATTACKER.seed), LIST | READ, dict, PartChange(world.admin().opened))

    def complete_later() -> None:
        part.opened.refresh()
        complete_grants(part.authority, keys)

    with pytest.raises(Tampered):
        complete_later()
    late = opened_with(world, ATTACKER)
    assert not grants_of(late).is_granted(0)
    late.close()


def with_another_role(world: ScopeWorld, name: str = "pay2") -> RoleKey:
    """Have a thief who knows the vault's own key make a charter with a role of his; return its key."""
    thief = RoleKey(name, generate_key())
    with world.scopes()._inside("pay") as inside:
        inside.grant(name, RolePublic(thief.public_key), LIST | READ, dict, PartChange(world.admin().opened))
    return thief


def values_known_to(world: ScopeWorld, thief: RoleKey) -> bool:
    """Return whether what is written from now on is sealed to a key too."""
    door = Scopes(world.admin().authority).doorway()
    assert door is not None
    found = door._replace(keys=[thief], newest=None).open(read_registry(world.admin().opened).scopes["pay/"].number)
    if found is None:
        return False
    grants = grants_of(found[0])
    is_known = grants.is_granted(grants.active)
    found[0].close()
    return is_known


def test_a_compromise_gives_no_new_key_to_a_role_that_the_vault_does_not_know(world: ScopeWorld) -> None:
    world.scopes().create("web", read=["web"], write=["web"])
    thief = with_another_role(world)
    with pytest.raises(Tampered, match=r"`role:pay2` takes part in `pay/` with a key that the vault does not know"):
        ScopeCompromise(world.admin().authority).declare()
    web = world.admin().scope("web").opened
    assert newest_compromise(web) is not None
    assert newest_compromise(world.admin().scope("pay").opened) is None
    with pytest.raises(Tampered, match="role:pay2"):
        ScopeCompromise(world.admin().authority).resume()
    assert "pay2" not in world.scopes().revoke("pay", "pay2", "list").roles
    _, left = ScopeCompromise(world.admin().authority).resume()
    assert [each.path for each in left] == ["pay/", "web/"]
    world.as_member("pay").write("pay/later", "after the compromise")
    assert not values_known_to(world, thief)
    assert accepted_by(world, "web", "pay/later") == "after the compromise"


def test_a_key_of_a_role_that_the_vault_does_not_know_gives_way_to_the_newest(world: ScopeWorld) -> None:
    registry = read_registry(world.admin().opened)
    thief = RoleKey("web", generate_key())
    with world.scopes()._inside("pay") as inside:
        inside.replace_role("web", RolePublic(thief.public_key), dict, PartChange(world.admin().opened))
    assert registry.roles == read_registry(world.admin().opened).roles
    with pytest.raises(Tampered, match="role:web"):
        ScopeCompromise(world.admin().authority).declare()
    RoleRotation(world.admin().authority).rotate_role("web", resumes=True)
    ScopeCompromise(world.admin().authority).resume()
    world.as_member("pay").write("pay/later", "after the compromise")
    assert not values_known_to(world, thief)
    assert accepted_by(world, "web", "pay/later") == "after the compromise"


def test_a_new_own_key_says_which_role_the_vault_does_not_know(world: ScopeWorld) -> None:
    with_another_role(world)
    before = read_own_keys(world.admin().opened)
    with pytest.raises(Tampered, match="role:pay2"):
        AdministratorChanges(world.admin().authority).rotate()
    after = read_own_keys(world.admin().opened)
    assert before is not None
    assert after is not None
    assert (after.current.signing_key != before.current.signing_key, after.former) == (True, ())
    world.scopes().revoke("pay", "pay2", "list")
    assert AdministratorChanges(world.admin().authority).resume().pending == []


def test_a_role_that_drops_and_that_the_vault_does_not_know_can_be_revoked(world: ScopeWorld) -> None:
    thief = RoleKey("pay2", generate_key())
    with world.scopes()._inside("pay") as inside:
        inside.grant("pay2", RolePublic(thief.public_key), DROP, dict, PartChange(world.admin().opened))
    world.scopes().grant("pay", "audit", "drop")
    assert "pay2" not in world.scopes().revoke("pay", "pay2", "list").roles
    ScopeCompromise(world.admin().authority).declare()


def test_a_slot_that_no_role_has_opens_nothing_after_a_compromise(world: ScopeWorld) -> None:
    with world.scopes()._inside("pay") as inside:
        opened, replica = inside.opened, inside.opened.replica
        new_slot = seal_slot(replica.vault_id, ATTACKER)

        def draft() -> CharterDraft:
            free = next(number for number in SLOT_IDS if number not in replica.slots)
            slots = replica.slots | new_slot.rows(free, replica.vault_id, replica.root)
            info = SlotInfo(new_slot.slot.slot_id, new_slot.public_key, opened.clock.now_ns(), "role", "pay")
            return CharterDraft(charter_of(opened).parties, replica.keyring.with_slot(info), slots, {}, [])

        inside._chartering.publish(
            draft,
            lambda publication, drafted: plan_key_change(opened, publication, drafted.slots, drafted.keyring),
            settled,
        )
    opened_with(world, ATTACKER).close()
    ScopeCompromise(world.admin().authority).declare()
    door = Scopes(world.admin().authority).doorway()
    assert door is not None
    number = read_registry(world.admin().opened).scopes["pay/"].number
    assert door._replace(keys=[ATTACKER], newest=None).open(number) is None
    assert accepted_by(world, "pay", "pay/key") == "of pay"
