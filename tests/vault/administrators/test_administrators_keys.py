"""Where people are the administrators, no key of a scope is replaced without as many of them as it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from securecfg.errors import SignaturesMissing, Tampered
from securecfg.store import Put, Space
from securecfg.vault.keys.departures import find_exposed, newest_compromise
from securecfg.vault.rekeying.roles import RoleRotation
from securecfg.vault.rekeying.scope_compromise import ScopeCompromise, finish_as_member
from securecfg.vault.rekeying.scopes import ScopeKeyring
from securecfg.vault.scopes.charters import VOUCHER_ID
from securecfg.vault.scopes.opening import charter_of
from securecfg.vault.scopes.scopes import Scopes
from securecfg.vault.verification import verify_vault
from tests.vault.administrators.test_administrators import ALL, PEOPLE, hand_over
from tests.vault.copies import copy_of
from tests.vault.scope_world import scope_world
from tests.vault.world import text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from securecfg.vault.trust.signatories import Signing
    from tests.vault.scope_world import ScopeWorld

ONE = PEOPLE.only("alice")
TWO = PEOPLE.only("alice", "carol")


def make_world(folder: Path) -> ScopeWorld:
    """Two scopes of three administrators, of whom two sign; a role writes in the first, the vault's key in none."""
    world = scope_world(folder)
    world.scopes().create("pay", read=["pay"], write=["pay"])
    world.scopes().create("both", read=["pay"], write=["web"], is_shared=True)
    world.as_member("pay").write("pay/key", "of pay")
    world.as_member("web").write("both/key", "of both")
    hand_over(world)
    return world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ScopeWorld]:
    world = copy_of(make_world, tmp_path)
    yield world
    world.close()


def keyring(world: ScopeWorld, signing: Signing | None = TWO) -> ScopeKeyring:
    return ScopeKeyring.with_signing(world.admin().authority, signing)


def roles(world: ScopeWorld, signing: Signing | None = TWO) -> RoleRotation:
    return RoleRotation.with_signing(world.admin().authority, signing)


def verify(world: ScopeWorld) -> None:
    for path in ("pay", "both"):
        assert verify_vault(world.admin().scope(path).opened).problems == []
    assert text_of(world.as_member("pay"), "pay/key") == "of pay"
    assert text_of(world.as_member("pay"), "both/key") == "of both"


CHANGES: dict[str, Callable[[ScopeWorld, Signing | None], object]] = {
    "scope": lambda world, signing: keyring(world, signing).rotate("pay"),
    "resume": lambda world, signing: keyring(world, signing).rotate("pay", resumes=True),
    "roots": lambda world, signing: keyring(world, signing).rotate_roots(),
    "audit": lambda world, signing: keyring(world, signing).rotate_audit("pay"),
    "role": lambda world, signing: roles(world, signing).rotate_role("pay"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_it_takes_as_many_signatures_as_a_charter(world: ScopeWorld, change: str) -> None:
    before = {path: world.scopes().show(path) for path in ("pay", "both")}
    for signing in (None, ONE):
        with pytest.raises(SignaturesMissing):
            CHANGES[change](world, signing)
        assert {path: world.scopes().show(path) for path in ("pay", "both")} == before
    verify(world)
    CHANGES[change](world, TWO)
    verify(world)
    assert world.scopes().show("pay").revision > before["pay"].revision


def test_old_keys_are_forgotten_by_those_who_sign(world: ScopeWorld) -> None:
    keyring(world).rotate("pay", keeps=True)
    text_of(world.as_member("pay"), "pay/key")
    for of_values in (True, False):
        with pytest.raises(SignaturesMissing):
            keyring(world, ONE).retire("pay", 0, of_values=of_values)
        keyring(world).retire("pay", 0, of_values=of_values)
    assert world.scopes().show("pay").value_epochs == 1
    verify(world)


def test_members_follow_to_another_key_of_their_role(world: ScopeWorld) -> None:
    open_before = world.as_member("pay")
    done = roles(world).rotate_role("pay")
    assert (done.members, done.scopes) == (["svc:pay"], ["both/", "pay/"])
    verify(world)
    world.as_member("pay").write("pay/new", "new of pay")
    assert text_of(world.as_member("pay"), "pay/new") == "new of pay"
    open_before.close()


def test_a_compromise_replaces_the_keys_of_scopes_once_enough_sign(world: ScopeWorld) -> None:
    own = charter_of(world.admin().scope("pay").opened).own_key()
    with pytest.raises(SignaturesMissing):
        ScopeCompromise.with_signing(world.admin().authority, ONE).declare()
    # The vault is done all the same.
    assert newest_compromise(world.admin().opened) is not None
    assert newest_compromise(world.admin().scope("pay").opened) is None
    ScopeCompromise.with_signing(world.admin().authority, ALL).resume()
    assert newest_compromise(world.admin().scope("pay").opened) is not None
    assert charter_of(world.admin().scope("pay").opened).own_key() != own
    finish_as_member(world.as_member("pay"))
    world.scopes().show("both")
    Scopes.with_signing(world.admin().authority, TWO).grant("both", "web", "read")
    world.as_member("pay")
    finish_as_member(world.as_member("web"))
    _, left = ScopeCompromise.with_signing(world.admin().authority, TWO).resume()
    assert [(each.path, each.is_done) for each in left] == [("both/", True), ("pay/", True)]
    verify(world)


def test_a_new_own_key_leaves_exposed_what_the_one_before_read(world: ScopeWorld) -> None:
    from securecfg.vault.administrators.replacing import AdministratorChanges

    AdministratorChanges(world.admin().authority, TWO).rotate()
    for path, known in (("both", ["both/key"]), ("pay", [])):
        part = world.admin().scope(path)
        assert [each.path for each in find_exposed(part.authority)] == known


def test_a_damaged_scope_keeps_the_vault_and_the_others_from_nothing(world: ScopeWorld) -> None:
    part = world.admin().scope("both").opened.store
    part.stage([Put(Space.META, VOUCHER_ID, bytes(202))])
    with pytest.raises(Tampered):
        ScopeCompromise.with_signing(world.admin().authority, TWO).find_exposed()
    with pytest.raises(Tampered):
        ScopeCompromise.with_signing(world.admin().authority, TWO).declare()
    declared = newest_compromise(world.admin().opened)
    done = newest_compromise(world.admin().scope("pay").opened)
    assert declared is not None
    assert done is not None
    assert done.name == declared.name_in(world.admin().scope("pay").opened.replica.vault_id)
    assert verify_vault(world.admin().scope("pay").opened).problems == []
