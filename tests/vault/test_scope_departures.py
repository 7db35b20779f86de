"""What a role that may not read a scope any more could know stays listed until it has another value."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from securecfg.vault.departures import find_exposed
from tests.vault.scope_world import scope_world

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from securecfg import Vault
    from tests.vault.scope_world import ScopeWorld


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ScopeWorld]:
    """A scope with two readers and secrets in it."""
    world = scope_world(tmp_path)
    world.scopes().create("pay", read=["pay", "web"], list=["audit"])
    for name in ("a", "b"):
        world.admin().write(f"pay/{name}", f"value of {name}")
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
