"""Secrets that are rotated, and sealed scopes, where nothing would go on with that."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from securecfg.errors import Conflict
from securecfg.rotation.document import Rules
from securecfg.rotation.rotations import Rotations
from tests.vault.scope_world import pay_world

if TYPE_CHECKING:
    from tests.vault.scope_world import ScopeWorld

world = pay_world


def test_what_is_rotated_is_moved_into_no_sealed_scope(world: ScopeWorld) -> None:
    vault = world.admin()
    vault.write("app/key", "of the application")
    rotations = Rotations(vault)
    rotations.set("app/key", Rules("random"))
    with pytest.raises(Conflict):
        vault.move("app/key", "pay/moved")
    with pytest.raises(Conflict):
        world.moves().seal("app", roles={"read": ["web"]})
    assert [each.path for each in rotations.all()] == ["app/key"]
    assert vault.read("app/key").value == vault.read("app/key", at=1).value
    rotations.remove("app/key")
    vault.move("app/key", "pay/moved")
    assert rotations.all() == []


def test_what_is_set_while_a_folder_is_sealed_is_not_lost_with_it(world: ScopeWorld) -> None:
    vault = world.admin()
    vault.write("app/key", "of the application")
    rotations = Rotations(vault)

    def set_late(_done: int, _count: int) -> None:
        rotations.set("app/key", Rules("random"))

    with pytest.raises(Conflict, match="is rotated"):
        world.moves().seal("app", roles={"read": ["web"]}, progress=set_late)
    assert [each.path for each in rotations.all()] == ["app/key"]
    assert vault.list("app/") == ["app/key"]
