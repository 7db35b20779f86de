"""Marks on values that stood in the history of a repository hold for as long as somebody may know the current one."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from securecfg.vault.exposures import Exposures, Mark
from tests.vault.scope_world import bare_world

if TYPE_CHECKING:
    from securecfg import Vault
    from tests.vault.scope_world import ScopeWorld

world = bare_world


def mark(vault: Vault, path: str, version: int = 1) -> None:
    since = datetime(2026, 1, 1, tzinfo=UTC)
    Exposures(vault.authority_over(path)).mark([Mark(path, "", version, "c0ffee", since, ".env")])


def marked(vault: Vault) -> list[str]:
    return [each.path for each in Exposures(vault.authority).unrotated()]


def test_a_value_that_comes_back_after_its_mark_was_closed_is_listed_again(world: ScopeWorld) -> None:
    vault = world.admin()
    vault.write("app/a", "first")
    mark(vault, "app/a")
    vault.write("app/a", "second")
    assert marked(vault) == []
    vault.rollback("app/a", to=1)
    assert marked(vault) == ["app/a"]
    vault.write("app/a", "third")
    assert marked(vault) == []
    for version in (4, 3, 2):
        vault.delete("app/a", version=version)
    vault.undelete("app/a", 1)
    assert marked(vault) == ["app/a"]


def test_a_closed_mark_goes_along_and_who_cannot_compare_does_not_see_it(world: ScopeWorld) -> None:
    vault = world.admin()
    vault.write("app/a", "first")
    mark(vault, "app/a")
    vault.write("app/a", "second")
    assert marked(vault) == []
    world.scopes().create("both", read=["pay"], list=["audit"], is_shared=True)
    world.admin().move("app/a", "both/a")
    assert marked(world.admin().scope("both")) == []
    world.admin().rollback("both/a", to=1)
    assert marked(world.admin().scope("both")) == ["both/a"]
    assert marked(world.as_member("audit").scope("both")) == []


def test_another_secret_at_a_path_takes_no_mark_away_from_the_one_that_was_there(world: ScopeWorld) -> None:
    vault = world.admin()
    vault.write("app/a", "first")
    mark(vault, "app/a")
    vault.move("app/a", "app/b")
    vault.write("app/a", "another")
    mark(vault, "app/a")
    mark(vault, "app/a")
    assert marked(vault) == ["app/a", "app/b"]
