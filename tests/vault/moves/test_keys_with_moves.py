"""Keys of scopes that lie in one another are replaced, and no role gets another key while one is being made."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from securecfg.errors import Conflict, ScopeSealed
from securecfg.policy import Document
from securecfg.vault.keys.departures import find_exposed, newest_compromise
from securecfg.vault.rekeying.data import rotate_data
from securecfg.vault.rekeying.roles import RoleRotation
from securecfg.vault.rekeying.scope_compromise import ScopeCompromise, finish_as_member
from securecfg.vault.rekeying.scopes import ScopeKeyring
from securecfg.vault.scopes.making import begin_making
from securecfg.vault.scopes.opening import charter_of
from securecfg.vault.verification import verify_vault
from tests.vault.copies import copy_of
from tests.vault.moves.test_moves_with_others import moves
from tests.vault.scope_world import EVERYTHING, scope_world
from tests.vault.world import text_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.vault.scope_world import ScopeWorld


def make_nested(folder: Path) -> ScopeWorld:
    """A scope in another one: `pay` reads and writes both, `web` reads the inner one too."""
    world = scope_world(folder)
    world.scopes().create("pay", read=["pay"], write=["pay"])
    world.as_member("pay").write("pay/a", "outer")
    world.as_member("pay").write("pay/in/a", "inner")
    moves(world).split("pay", "pay/in", reader=world.identity("pay"))
    return world


@pytest.fixture
def nested(tmp_path: Path) -> Iterator[ScopeWorld]:
    world = copy_of(make_nested, tmp_path)
    yield world
    world.close()


def verify(world: ScopeWorld) -> None:
    pay = world.as_member("pay")
    assert (text_of(pay, "pay/a"), text_of(pay, "pay/in/a")) == ("outer", "inner")
    for path in ("pay", "pay/in"):
        assert verify_vault(world.admin().scope(path).opened).problems == []
    assert charter_of(world.admin().scope("pay").opened).excluded == ("pay/in/",)


def test_the_keys_of_one_are_replaced_and_the_other_stays_as_it_is(nested: ScopeWorld) -> None:
    keyring = ScopeKeyring(nested.admin().authority)
    before = nested.scopes().show("pay").revision
    assert keyring.rotate("pay/in/a").path == "pay/in/"
    assert nested.scopes().show("pay").revision == before
    assert keyring.rotate("pay/a").path == "pay/"
    verify(nested)


def test_a_role_gets_another_key_in_both(nested: ScopeWorld) -> None:
    done = RoleRotation(nested.admin().authority).rotate_role("pay")
    assert done.scopes == ["pay/", "pay/in/"]
    verify(nested)
    exposed = [each.path for _, part in nested.admin().parts() for each in find_exposed(part.authority)]
    assert exposed == ["pay/a", "pay/in/a"]


def test_a_compromise_is_brought_to_its_end_in_both(nested: ScopeWorld) -> None:
    ScopeCompromise(nested.admin().authority).declare()
    finish_as_member(nested.as_member("pay"))
    _, left = ScopeCompromise(nested.admin().authority).resume()
    assert [(each.path, each.is_done) for each in left] == [("pay/", True), ("pay/in/", True)]
    verify(nested)


def test_data_keys_of_the_inner_one_are_replaced_by_who_does_not_open_the_outer_one(nested: ScopeWorld) -> None:
    scopes = nested.scopes()
    scopes.grant("pay/in", "web", "read")
    scopes.grant("pay/in", "web", "write")
    scopes.grant("pay", "web", "list")
    text = f'{EVERYTHING.format("pay")}{EVERYTHING.format("web")}[[roles.web.grants]]\nactions = ["key.manage"]\n'
    nested.admin().administration.apply_policy([Document("grants.toml", "grants", text)])
    nested.as_member("pay")
    assert rotate_data(nested.as_member("web"), "pay/in/").secrets == 1
    with pytest.raises(ScopeSealed):
        rotate_data(nested.as_member("web"), "pay/a")
    assert rotate_data(nested.as_member("web"), "").left == ("pay/",)


def test_a_compromise_that_came_along_with_secrets_is_none_of_the_scope(nested: ScopeWorld) -> None:
    ScopeCompromise(nested.admin().authority).declare()
    finish_as_member(nested.as_member("pay"))
    ScopeCompromise(nested.admin().authority).resume()
    first = newest_compromise(nested.admin().scope("pay").opened)
    moves(nested).merge("pay/in", reader=nested.identity("pay"))
    assert newest_compromise(nested.admin().scope("pay").opened) == first
    moves(nested).split("pay", "pay/in", reader=nested.identity("pay"))
    assert newest_compromise(nested.admin().scope("pay/in").opened) is None
    # What came into a scope that was made since is listed there all the same.
    assert {each.path for each in find_exposed(nested.admin().scope("pay/in").authority)} == {"pay/in/a"}


def test_no_role_gets_another_key_while_a_scope_is_being_made(
    nested: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_args: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("securecfg.vault.moves.scopes.plan_made", die)
    monkeypatch.setattr("securecfg.vault.scopes.making._give_up", lambda *_: None)
    nested.as_member("pay").write("pay/more/a", "1")
    with pytest.raises(KeyboardInterrupt):
        moves(nested).split("pay", "pay/more", reader=nested.identity("pay"))
    monkeypatch.undo()
    with pytest.raises(Conflict, match="being made at `pay/more/`"):
        RoleRotation(nested.admin().authority).rotate_role("pay")
    nested.clock.advance(timedelta(hours=3))
    RoleRotation(nested.admin().authority).rotate_role("pay")
    verify(nested)


def test_no_scope_is_begun_with_a_key_that_a_role_has_no_more(
    nested: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rotate_before(*args: Any, **options: Any) -> object:  # noqa: ANN401 - those of the step
        monkeypatch.undo()
        RoleRotation(nested.admin().authority).rotate_role("pay")
        return begin_making(*args, **options)

    nested.as_member("pay").write("pay/more/a", "1")
    monkeypatch.setattr("securecfg.vault.moves.scopes.begin_making", rotate_before)
    with pytest.raises(Conflict):
        moves(nested).split("pay", "pay/more", reader=nested.identity("pay"))
    assert nested.scopes().paths() == ["pay/", "pay/in/"]
    verify(nested)
