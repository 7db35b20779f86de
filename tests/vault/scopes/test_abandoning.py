"""A scope whose making died is given up at once; one that is still being made is refused then, and never half made."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from securecfg.audit import Event
from securecfg.errors import AccessDenied, Conflict, SecretNotFound, SecurecfgError
from securecfg.policy import Document
from securecfg.store import ID_LIMIT, Space
from securecfg.vault.commits.unfinished import UnfinishedPart
from securecfg.vault.rekeying.roles import RoleRotation
from securecfg.vault.scopes import making as scope_making
from securecfg.vault.scopes.abandoning import abandon, find_unfinished, unfinished_scopes
from securecfg.vault.scopes.making import begin_making
from securecfg.vault.scopes.registry import ABANDONED_NS, read_registry
from tests.vault.copies import copy_of
from tests.vault.crash_steps import crashes, dying
from tests.vault.scope_world import ScopeWorld, scope_world
from tests.vault.scopes.test_making import MAKINGS, just_before_it_is_there, while_it_is_copied
from tests.vault.scopes.test_scopes_meanwhile import once_before
from tests.vault.world import text_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from securecfg.store import Store

PATHS = {"create": "new/", "seal": "app/", "split": "old/in/"}


def made_world(folder: Path) -> ScopeWorld:
    """Return a world with a scope `old` that a subtree may be split from, and secrets in none."""
    world = scope_world(folder)
    world.scopes().create("old", read=["web"], write=["web"])
    world.as_member("web").write("old/in/a", "of old")
    world.admin().write("app/a", "of app")
    return world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ScopeWorld]:
    world = copy_of(made_world, tmp_path)
    yield world
    world.close()


def rows_of(store: Store, number: int) -> int:
    """Return how many rows there are in a partition."""
    part = store.partition(number)
    return sum(len(part.scan(space, 0, ID_LIMIT - 1, 64)) for space in Space)


def die_while_making(world: ScopeWorld, monkeypatch: pytest.MonkeyPatch, making: str) -> int:
    """Make a scope in a process that dies when all but the last commit is done, and return its partition."""

    def stops() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(scope_making, "_give_up", lambda *_: None)
        just_before_it_is_there(patched, stops)
        with pytest.raises(KeyboardInterrupt):
            MAKINGS[making](world)
    (made,) = read_registry(world.admin().opened).making.values()
    return made.place.number


@pytest.mark.parametrize("making", MAKINGS)
def test_a_making_that_died_is_in_the_way_of_others_until_it_is_given_up(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch, making: str
) -> None:
    number = die_while_making(world, monkeypatch, making)
    admin = world.admin()
    with pytest.raises(Conflict, match="a scope is being made") as caught:
        RoleRotation(admin.authority).rotate_role("web")
    assert caught.value.hint is not None
    assert f"`securecfg scope abandon {PATHS[making]}`" in caught.value.hint
    found = find_unfinished(admin.authority, PATHS[making])
    assert rows_of(admin.opened.store, number)
    abandon(admin.authority, found, reason="the machine is gone")
    assert unfinished_scopes(admin.opened) == []
    assert rows_of(admin.opened.store, number) == 0
    RoleRotation(admin.authority).rotate_role("web")
    (record,) = (each.record for each in admin.log.records() if each.record.event is Event.SCOPE_ABANDONED)
    assert (record.obj["path"], record.obj["reason"]) == (PATHS[making], "the machine is gone")
    assert text_of(world.admin(), "app/a") == "of app"
    assert text_of(world.as_member("web"), "old/in/a") == "of old"
    MAKINGS[making](world)
    assert PATHS[making] in world.scopes().paths()


@pytest.mark.parametrize("step", ["first", "copied", "last"])
@pytest.mark.parametrize("making", MAKINGS)
def test_a_making_that_goes_on_after_it_was_given_up_is_refused_and_leaves_nothing(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch, making: str, step: str
) -> None:
    def given_up() -> None:
        admin = world.admin()
        abandon(admin.authority, find_unfinished(admin.authority, PATHS[making]))

    with monkeypatch.context() as patched:
        if step == "first":
            once_before(patched, UnfinishedPart, "stage", given_up)
        else:
            hook = while_it_is_copied if step == "copied" and making != "create" else just_before_it_is_there
            hook(patched, given_up)
        with pytest.raises(Conflict, match="was given up"):
            MAKINGS[making](world)
    admin = world.admin()
    registry = read_registry(admin.opened)
    assert (list(registry.scopes), registry.making) == (["old/"], {})
    assert len(registry.retired) == 1
    assert rows_of(admin.opened.store, registry.retired[0].number) == 0
    assert not admin.opened.is_destruction_pending
    assert text_of(admin, "app/a") == "of app"
    assert text_of(world.as_member("web"), "old/in/a") == "of old"
    MAKINGS[making](world)
    assert PATHS[making] in world.scopes().paths()


def test_a_scope_that_came_to_be_meanwhile_is_not_given_up(world: ScopeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    admin = world.admin()
    just_before_it_is_there(monkeypatch, lambda: seen.append(find_unfinished(admin.authority, "app")))
    MAKINGS["seal"](world)
    with pytest.raises(SecretNotFound, match="no scope is being made at `app/`"):
        abandon(admin.authority, seen[0])
    assert text_of(world.as_member("web"), "app/a") == "of app"


def test_a_making_that_was_begun_again_meanwhile_is_left_alone(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    die_while_making(world, monkeypatch, "create")
    admin = world.admin()
    seen = find_unfinished(admin.authority, "new")
    begin_making(admin.authority, "new/", {}, bytes(16))
    with pytest.raises(Conflict, match="begun to make `new/` again"):
        abandon(admin.authority, seen)
    assert [each.path for each in unfinished_scopes(admin.opened)] == ["new/"]


def test_who_may_not_manage_keys_gives_nothing_up(world: ScopeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    die_while_making(world, monkeypatch, "create")
    seen = find_unfinished(world.admin().authority, "new")
    text = '[roles.writer]\nmembers = ["svc:writer"]\n[[roles.writer.grants]]\n'
    text += 'actions = ["read", "write", "list"]\npaths = ["**"]\n'
    world.admin().administration.apply_policy([Document("grants.toml", "grants", text)])
    writer = world.open("svc:writer").authority
    with pytest.raises(AccessDenied):
        find_unfinished(writer, "new")
    with pytest.raises(AccessDenied):
        abandon(writer, seen)
    assert [each.path for each in unfinished_scopes(world.admin().opened)] == ["new/"]


def test_its_age_is_shown_and_never_less_than_nothing(world: ScopeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    die_while_making(world, monkeypatch, "create")
    world.clock.advance(timedelta(minutes=90))
    (found,) = unfinished_scopes(world.admin().opened)
    assert timedelta(minutes=90) <= found.age < timedelta(minutes=91)
    assert found.is_in_the_way
    world.clock.ns += ABANDONED_NS
    (found,) = unfinished_scopes(world.admin().opened)
    assert not found.is_in_the_way
    world.clock.advance(timedelta(days=-30))
    (found,) = unfinished_scopes(world.admin().opened)
    assert (found.age, found.is_in_the_way) == (timedelta(0), True)
    abandon(world.admin().authority, found)
    RoleRotation(world.admin().authority).rotate_role("web")


def test_what_is_not_being_made_is_not_found(world: ScopeWorld) -> None:
    with pytest.raises(SecretNotFound, match="no scope is being made at `old/`") as caught:
        find_unfinished(world.admin().authority, "old")
    assert caught.value.hint == "it is there: `securecfg scope show old/`"


def test_wherever_giving_up_dies_the_making_is_as_it_was_or_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "origin").mkdir()
    origin = made_world(tmp_path / "origin")
    number = die_while_making(origin, monkeypatch, "seal")
    origin.close()
    for crash in crashes(origin, tmp_path):
        with crash as world:
            authority = dying(world, crash.changes).authority
            is_done = True
            try:
                abandon(authority, find_unfinished(authority, "app"))
            except SecurecfgError:
                is_done = False
            admin = world.admin()
            if unfinished_scopes(admin.opened):
                abandon(admin.authority, find_unfinished(admin.authority, "app"))
            assert unfinished_scopes(admin.opened) == []
            assert rows_of(admin.opened.store, number) == 0
            assert text_of(admin, "app/a") == "of app"
            MAKINGS["seal"](world)
            assert text_of(world.as_member("web"), "app/a") == "of app"
            if is_done:
                break
    assert crash.changes >= 1
