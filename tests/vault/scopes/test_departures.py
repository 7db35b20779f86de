"""What a role that may not read a scope any more could know stays listed until it has another value."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from securecfg.vault.keys.changes import KeyChanges
from securecfg.vault.keys.departures import find_exposed
from securecfg.vault.moves.scopes import ScopeMoves
from tests.vault.copies import copy_of
from tests.vault.scope_world import scope_world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from securecfg import Vault
    from tests.vault.scope_world import ScopeWorld


def make_world(folder: Path) -> ScopeWorld:
    """A scope with two readers and secrets in it."""
    world = scope_world(folder)
    world.scopes().create("pay", read=["pay", "web"], list=["audit"])
    for name in ("a", "b"):
        world.admin().write(f"pay/{name}", f"value of {name}")
    return world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ScopeWorld]:
    world = copy_of(make_world, tmp_path)
    yield world
    world.close()


def exposed(part: Vault) -> dict[str, int]:
    return {each.path: each.version for each in find_exposed(part.authority)}


@pytest.mark.parametrize("right", ["read", "list"])
def test_all_that_a_role_could_read_is_listed_until_it_has_another_value(world: ScopeWorld, right: str) -> None:
    world.scopes().revoke("pay", "web", right)
    admin = world.admin()
    admin.write("pay/new", "written later")
    for part in (admin.scope("pay"), world.as_member("pay"), world.as_member("audit")):
        assert exposed(part) == {"pay/a": 1, "pay/b": 1}
    found = find_exposed(world.as_member("pay").authority)
    assert {(each.kind, each.label) for each in found} == {("role", "web")}
    admin.write("pay/a", "another value")
    assert exposed(admin.scope("pay")) == {"pay/b": 1}
    admin.write("pay/b", "another value")
    assert exposed(world.as_member("pay")) == {}


def test_who_only_listed_or_wrote_knows_no_value(world: ScopeWorld) -> None:
    scopes = world.scopes()
    scopes.grant("pay", "audit", "write")
    scopes.revoke("pay", "audit", "write")
    scopes.revoke("pay", "audit", "list")
    assert exposed(world.admin().scope("pay")) == {}


def test_a_value_that_comes_back_is_found_by_who_reads(world: ScopeWorld) -> None:
    world.scopes().revoke("pay", "web", "read")
    admin = world.admin()
    admin.write("pay/a", "value of z")
    admin.write("pay/a", "value of a")
    assert exposed(world.as_member("pay")) == {"pay/a": 3, "pay/b": 1}
    assert exposed(admin.scope("pay")) == {"pay/b": 1}


def test_a_role_that_is_let_in_again_and_goes_knows_what_came_meanwhile(world: ScopeWorld) -> None:
    scopes = world.scopes()
    scopes.revoke("pay", "web", "read")
    admin = world.admin()
    admin.write("pay/a", "second")
    scopes.grant("pay", "web", "read")
    scopes.revoke("pay", "web", "read")
    assert exposed(admin.scope("pay")) == {"pay/a": 2, "pay/b": 1}


def encrypt_anew(part: Vault) -> None:
    KeyChanges(part.authority).finish_encryption(part.opened.replica.state.next_id)


def test_what_a_clock_ahead_wrote_stays_exposed_under_new_data_keys_and_in_another_part(world: ScopeWorld) -> None:
    world.scopes().grant("pay", "pay", "write")
    world.clock.advance(timedelta(minutes=2))
    for name in ("key", "gone"):
        world.admin().write(f"pay/eu/{name}", "1")
    world.clock.advance(-timedelta(minutes=2))
    world.scopes().revoke("pay", "web", "read")
    world.admin().delete("pay/eu/gone")
    ScopeMoves(world.admin().authority).split("pay", "pay/eu", reader=world.identity("pay"))
    pay = world.as_member("pay")
    assert exposed(pay.scope("pay/eu")) == {"pay/eu/key": 1}
    pay.undelete("pay/eu/gone", 1)
    for part in (pay.scope("pay"), pay.scope("pay/eu")):
        encrypt_anew(part)
    assert exposed(pay.scope("pay")) == {"pay/a": 1, "pay/b": 1}
    assert exposed(pay.scope("pay/eu")) == {"pay/eu/gone": 1, "pay/eu/key": 1}
    world.clock.advance(timedelta(minutes=3))
    pay.write("pay/eu/key", "another")
    assert exposed(pay.scope("pay/eu")) == {"pay/eu/gone": 1}


def test_what_was_moved_stays_exposed_under_other_data_keys_and_another_path(world: ScopeWorld) -> None:
    world.scopes().grant("pay", "pay", "write")
    world.admin().write("app/key", "1")
    world.admin().move("app/key", "pay/moved")
    pay = world.as_member("pay")
    encrypt_anew(pay.scope("pay"))
    pay.move("pay/moved", "pay/elsewhere")
    assert exposed(pay.scope("pay")) == {"pay/elsewhere": 1}
    pay.write("pay/moved", "another secret")
    assert exposed(pay.scope("pay")) == {"pay/elsewhere": 1}
    pay.write("pay/elsewhere", "another")
    assert exposed(pay.scope("pay")) == {}
