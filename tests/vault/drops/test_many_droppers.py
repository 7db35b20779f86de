"""Many roles that drop, beside many that read: no change is too large, and nobody drops under a key before."""

from __future__ import annotations

import shutil
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from securecfg.crypto import generate_key
from securecfg.errors import Conflict, ScopeSealed
from securecfg.keys import Purpose
from securecfg.keys.role_keys import RoleKey, RolePublic
from securecfg.store import Delete, Put, Space, open_sqlite
from securecfg.vault.administrators.replacing import AdministratorChanges
from securecfg.vault.commits.joint import PartChange
from securecfg.vault.drops.orders import open_order, order_row_of
from securecfg.vault.rekeying.roles import RoleRotation
from securecfg.vault.rekeying.scope_compromise import ScopeCompromise
from securecfg.vault.rekeying.scopes import ScopeKeyring
from securecfg.vault.scopes.charters import DROP, LIST, READ
from securecfg.vault.scopes.late_grants import WITH_CHANGE
from securecfg.vault.scopes.opening import charter_of, trusts_of
from securecfg.vault.scopes.orders import ORDERS_WITH_CHANGE, ScopeOrders
from securecfg.vault.scopes.registry import read_registry
from securecfg.vault.scopes.scopes import Scopes
from tests.vault.crash_steps import FIRST_STEPS, Attempt, crashes, dying
from tests.vault.drops.drop_world import role_key
from tests.vault.moves.test_moves_with_others import moves
from tests.vault.scope_world import ScopeWorld, scope_world
from tests.vault.scopes.test_many_roles import settle_nothing
from tests.vault.world import text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from securecfg.vault.authority import Authority
    from securecfg.vault.opened import OpenVault
    from securecfg.vault.scopes.charters import Charter

pytestmark = pytest.mark.no_cover

DROPPERS = {name: RoleKey(name, generate_key()) for name in (f"d{number}" for number in range(48))}
READERS = {name: RoleKey(name, generate_key()) for name in (f"r{number}" for number in range(WITH_CHANGE))}


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScopeWorld]:
    """A shared scope with 48 roles that drop, 18 slots that read, and 17 value keys."""
    with pytest.MonkeyPatch.context() as patched:
        know_all(patched)
        world = scope_world(tmp_path_factory.mktemp("full"), ["pay", "web"])
        scopes = world.scopes()
        scopes.create("pay", read=["pay", "web"], write=["pay"], is_shared=True)
        world.as_member("pay").write("pay/in/a", "1")
        around = PartChange(world.admin().opened)
        with scopes._inside("pay") as inside:
            for name, key in READERS.items():
                inside.grant(name, RolePublic(key.public_key), LIST | READ, settle_nothing, around)
            for name, key in DROPPERS.items():
                inside.grant(name, RolePublic(key.public_key), DROP, settle_nothing, around)
            for _ in range(WITH_CHANGE):
                inside.begin_epochs()
        world.close()
        yield world


def know_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the vault know the public keys of roles that have no members."""
    known = Scopes._keys_of_roles

    def keys_of_roles(self: Scopes, opened: OpenVault) -> object:
        return {**{name: (key.public_key, []) for name, key in (READERS | DROPPERS).items()}, **known(self, opened)}

    monkeypatch.setattr(Scopes, "_keys_of_roles", keys_of_roles)


@pytest.fixture
def world(full: ScopeWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ScopeWorld]:
    """Return a copy of it."""
    know_all(monkeypatch)
    shutil.copytree(full.folder, tmp_path / "copy")
    world = ScopeWorld(tmp_path / "copy", full.clock)
    yield world
    world.close()


def epochs_of_orders(world: ScopeWorld) -> list[int]:
    """Return the epochs that the orders name which are there, once they are those of the charter in force."""
    scope = world.admin().scope("pay").opened
    charter, active = charter_of(scope), scope.replica.keyring.active(Purpose.VALUE).epoch
    found = []
    for key in DROPPERS.values():
        row = scope.store.get(Space.GRANT, order_row_of(key.public_key, charter.scope_id))
        if row is not None:
            order = open_order(key, (charter.vault_id, charter.scope_id), row, trusts_of(scope)[0]).order
            assert (order.serial, order.epoch) == (charter.serial, active)
            found.append(order.epoch)
    return found


CHANGES: dict[str, Callable[[Authority], object]] = {
    "revoke": lambda authority: Scopes(authority).revoke("pay", "web", "list"),
    "role": lambda authority: RoleRotation(authority).rotate_role("web"),
    "own key": lambda authority: AdministratorChanges(authority).rotate(),
    "keys": lambda authority: ScopeKeyring(authority).rotate("pay", keeps=True),
    "compromise": lambda authority: ScopeCompromise(authority).declare(),
}


@pytest.mark.parametrize("change", CHANGES)
def test_no_change_is_too_large_and_every_order_names_the_key_in_use(world: ScopeWorld, change: str) -> None:
    CHANGES[change](world.admin().authority)
    assert len(epochs_of_orders(world)) == len(DROPPERS)


# --- the orders that come after the change ----------------------------------------------------------------------------


@pytest.fixture
def box(tmp_path: Path) -> Iterator[ScopeWorld]:
    """A scope of `pay`, with more roles that drop than get their order with a change."""
    names = [f"d{number}" for number in range(ORDERS_WITH_CHANGE + 2)]
    (tmp_path / "box").mkdir()
    world = scope_world(tmp_path / "box", ["pay", *names])
    world.scopes().create("pay", read=["pay"], write=["pay"], drop=names)
    world.as_member("pay").write("pay/in/a", "1")
    yield world
    world.close()


LAST = f"d{ORDERS_WITH_CHANGE + 1}"


def verify_drops(world: ScopeWorld) -> None:
    """Check that the last of those who drop can do so, and that it is taken in."""
    world.as_member(LAST).drop(f"pay/{LAST}", "dropped")
    assert text_of(world.as_member("pay"), f"pay/{LAST}") == "dropped"


def late_row(world: ScopeWorld) -> tuple[int, bytes | None]:
    """Return the id and the row of the order of the last of those who drop."""
    registry = read_registry(world.admin().opened)
    id_ = order_row_of(registry.roles[LAST], registry.scopes["pay/"].scope_id)
    return id_, world.admin().opened.store.partition(registry.scopes["pay/"].number).get(Space.GRANT, id_)


def test_those_who_get_their_order_late_drop_after_a_split_and_a_merge(box: ScopeWorld) -> None:
    moves(box).split("pay", "pay/in", reader=box.identity("pay"))
    verify_drops(box)
    moves(box).merge("pay/in", reader=box.identity("pay"))
    verify_drops(box)
    assert text_of(box.as_member("pay"), "pay/in/a") == "1"


def test_wherever_a_change_dies_nobody_has_an_order_for_a_key_before(tmp_path: Path, box: ScopeWorld) -> None:
    box.close()
    for crash in crashes(box, tmp_path):
        with crash as world:
            with Attempt(world) as attempt:
                RoleRotation(dying(world, crash.changes).authority).rotate_role("pay")
            scope = world.admin().scope("pay").opened
            row = late_row(world)[1]
            if row is not None:
                order = open_order(role_key(world, LAST), ids_of(scope), row, trusts_of(scope)[0]).order
                assert order.epoch == scope.replica.keyring.active(Purpose.VALUE).epoch
            if attempt.is_done:
                break
            RoleRotation(world.admin().authority).rotate_role("pay", resumes=True)
            verify_drops(world)
    assert crash.changes > FIRST_STEPS


def test_who_lacks_an_order_is_refused_until_the_change_is_finished(box: ScopeWorld) -> None:
    early = box.as_member(LAST)
    number = box.scopes().show("pay").number
    with closing(open_sqlite(box.path)) as store:
        store.partition(number).stage([Delete(Space.GRANT, late_row(box)[0])])
    with pytest.raises(ScopeSealed, match="not while its keys are changed"):
        early.drop("pay/x", "1")
    AdministratorChanges(box.admin().authority).resume()
    verify_drops(box)


def test_an_order_that_somebody_puts_back_in_the_middle_of_a_change_ends_it(
    box: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, (id_, row) = box.scopes().show("pay").number, late_row(box)
    assert row is not None
    withdraw = ScopeOrders.withdraw

    def put_back(self: ScopeOrders, charter: Charter) -> None:
        withdraw(self, charter)
        with closing(open_sqlite(box.path)) as store:
            store.partition(number).stage([Put(Space.GRANT, id_, row)])

    with monkeypatch.context() as patched:
        patched.setattr(ScopeOrders, "withdraw", put_back)
        with pytest.raises(Conflict, match="drop orders"):
            ScopeKeyring(box.admin().authority).rotate("pay")
    ScopeKeyring(box.admin().authority).rotate("pay")
    verify_drops(box)


def ids_of(scope: OpenVault) -> tuple[bytes, bytes]:
    """Return the vault ids of the vault and of a scope."""
    charter = charter_of(scope)
    return charter.vault_id, charter.scope_id
