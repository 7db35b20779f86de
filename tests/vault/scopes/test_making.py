"""A scope is there with one commit, and stands on the keys, the signatures and the documents that are in force then."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from securecfg.errors import AlreadyExists, Conflict, RollbackSuspected, ScopeSealed, SecurecfgError, Tampered
from securecfg.keys import Purpose
from securecfg.policy import Document
from securecfg.vault.administrators.break_glass_sets import BreakGlass
from securecfg.vault.administrators.introducing import introduce
from securecfg.vault.administrators.replacing import AdministratorChanges
from securecfg.vault.commits.joint import publish_together
from securecfg.vault.rekeying.roles import RoleRotation
from securecfg.vault.rekeying.scope_compromise import ScopeCompromise
from securecfg.vault.rekeying.scopes import ScopeKeyring
from securecfg.vault.scopes.founding import found_scope
from securecfg.vault.scopes.opening import charter_of
from securecfg.vault.scopes.registry import read_own_keys, read_registry
from securecfg.vault.scopes.scopes import Scopes
from tests.vault.administrators.test_administrators import ALL, hand_over
from tests.vault.copies import copy_of
from tests.vault.crash_steps import crashes, dying
from tests.vault.moves.test_moves_with_others import moves
from tests.vault.scope_world import EVERYTHING, ROLES, ScopeWorld, scope_world
from tests.vault.world import text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Change = Callable[[ScopeWorld], object]

NEW = "old/in"


def make_world(folder: Path) -> ScopeWorld:
    """A scope `old` that a subtree may be split from, and secrets in none."""
    world = scope_world(folder)
    world.scopes().create("old", read=["web"], write=["web"])
    world.as_member("web").write("old/in/a", "of old")
    world.admin().write("app/a", "of app")
    return world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ScopeWorld]:
    world = copy_of(make_world, tmp_path)
    yield world
    world.close()


MAKINGS: dict[str, Change] = {
    "create": lambda world: world.scopes().create("new", read=["web"], write=["web"]),
    "seal": lambda world: moves(world).seal("app", roles={"read": ["web"], "write": ["web"]}),
    "split": lambda world: moves(world).split("old", "old/in", reader=world.identity("web")),
}
REPLACED: dict[str, Change] = {
    "rotate": lambda world: AdministratorChanges(world.admin().authority).rotate(),
    "compromise": lambda world: ScopeCompromise(world.admin().authority).declare(),
    "hand-over": lambda world: hand_over(world, "alice", "bob", "carol"),
}


def while_it_is_copied(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """Let somebody else change something once a scope is founded that secrets are moved into."""

    def overtaken(*arguments: Any, **options: Any) -> object:  # noqa: ANN401 - those of the step
        keeper = found_scope(*arguments, **options)
        change()
        return keeper

    monkeypatch.setattr("securecfg.vault.moves.scopes.found_scope", overtaken)


def just_before_it_is_there(monkeypatch: pytest.MonkeyPatch, change: Callable[[], object]) -> None:
    """Let somebody else change something before the commit that gives a scope its head."""
    is_done = False

    def overtaken(*arguments: Any, **options: Any) -> None:  # noqa: ANN401 - those of the step
        nonlocal is_done
        if not is_done:
            is_done = True
            change()
        publish_together(*arguments, **options)

    for module in ("moves.relocation", "scopes.scopes"):
        monkeypatch.setattr(f"securecfg.vault.{module}.publish_together", overtaken)


@pytest.mark.parametrize("replaced", REPLACED)
@pytest.mark.parametrize("making", MAKINGS)
def test_no_scope_is_made_with_what_was_replaced_meanwhile(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch, making: str, replaced: str
) -> None:
    with monkeypatch.context() as patched:
        hook = just_before_it_is_there if making == "create" else while_it_is_copied
        hook(patched, lambda: REPLACED[replaced](world))
        with pytest.raises(SecurecfgError):
            MAKINGS[making](world)
    registry = read_registry(world.admin().opened)
    assert (list(registry.scopes), dict(registry.making)) == (["old/"], {})
    assert text_of(world.admin(), "app/a") == "of app"
    assert text_of(world.as_member("web"), "old/in/a") == "of old"
    if replaced != "hand-over":
        MAKINGS[making](world)
        own = read_own_keys(world.admin().opened)
        assert own is not None
        for path in world.scopes().paths():
            assert charter_of(world.admin().scope(path).opened).own_key() == own.current.signing_key
        assert text_of(world.as_member("web"), "old/in/a") == "of old"
        RoleRotation(world.admin().authority).rotate_role("web")


def test_no_scope_that_people_signed_is_made_with_a_former_own_key(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    hand_over(world)

    def create() -> None:
        Scopes.with_signing(world.admin().authority, ALL).create("new", read=["web"], write=["web"])

    with monkeypatch.context() as patched:
        just_before_it_is_there(patched, lambda: AdministratorChanges(world.admin().authority, ALL).rotate())
        with pytest.raises(Conflict, match="was replaced"):
            create()
    create()
    assert world.scopes().paths() == ["new/", "old/"]
    assert world.admin().scope("new").list() == []


@pytest.mark.parametrize("making", ["create", "seal"])
def test_no_scope_is_made_with_the_key_of_a_role_that_was_forgotten_meanwhile(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch, making: str
) -> None:
    just_before_it_is_there(
        monkeypatch,
        lambda: BreakGlass(world.admin().authority)._forget_key("web", None),
    )
    with pytest.raises(Conflict):
        MAKINGS[making](world)


def test_who_left_a_role_meanwhile_is_none_of_its_members_in_a_new_scope(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.person("web", "leaver")
    world.as_member("web")
    with monkeypatch.context() as patched:
        just_before_it_is_there(patched, lambda: world.admin().administration.remove_member("web", "svc:leaver"))
        with pytest.raises(Conflict):
            MAKINGS["create"](world)
    MAKINGS["create"](world)
    with pytest.raises(SecurecfgError):
        world.as_member("leaver")


def test_a_scope_that_is_split_off_has_the_policy_of_the_vault_as_it_is_then(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "".join(EVERYTHING.format(role) for role in ROLES).replace('"read", ', "")
    newer = [Document("grants.toml", "grants", text)]
    just_before_it_is_there(monkeypatch, lambda: world.admin().administration.apply_policy(newer))
    MAKINGS["split"](world)
    web = world.as_member("web")
    assert web.list() == ["old/in/a"]
    assert not web.explain("read", "old/in/a").decision.allowed


def test_wherever_the_making_dies_the_vault_names_no_scope_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "origin").mkdir()
    origin = scope_world(tmp_path / "origin")
    origin.close()
    for crash in crashes(origin, tmp_path):
        with crash as world:
            is_done = True
            try:
                Scopes(dying(world, crash.changes).authority).create("new", read=["web"], write=["web"])
            except SecurecfgError:
                is_done = False
            admin = world.admin()
            places = read_registry(admin.opened).scopes.values()
            assert [place.number for place in places] == admin.opened.store.partitions()
            if "new/" not in world.scopes().paths():
                world.scopes().create("new", read=["web"], write=["web"])
            world.as_member("web").write("new/a", "1")
            assert text_of(world.as_member("web"), "new/a") == "1"
            if is_done:
                break
    assert crash.changes >= 1


# --- a scope that is named and has no head ----------------------------------------------------------------------------


@contextmanager
def without_head(world: ScopeWorld, number: int) -> Iterator[None]:
    """Take the head of a scope away for some time, as whoever may write the file can."""
    world.close()
    with closing(sqlite3.connect(world.path)) as database:
        ((head,),) = database.execute("SELECT b FROM g WHERE i = ?", (number,)).fetchall()
        database.execute("DELETE FROM g WHERE i = ?", (number,))
        database.commit()
    yield
    world.close()
    with closing(sqlite3.connect(world.path)) as database:
        database.execute("INSERT INTO g (i, b) VALUES (?, ?)", (number, head))
        database.commit()


HEADLESS: dict[str, Change] = {
    **{name: REPLACED[name] for name in ("rotate", "compromise", "hand-over")},
    "resume": lambda world: AdministratorChanges(world.admin().authority).resume(),
    "roots": lambda world: ScopeKeyring(world.admin().authority).rotate_roots(),
    "role": lambda world: RoleRotation(world.admin().authority).rotate_role("web"),
    "members": lambda world: world.person("pay", "second"),
    "create": lambda world: world.scopes().create("old", read=["web"]),
    "adopt": lambda world: world.scopes().adopt(),
    "introduction": lambda world: introduce(world.admin().authority),
}


@pytest.mark.parametrize("change", HEADLESS)
def test_a_scope_whose_head_was_taken_away_is_missed(world: ScopeWorld, change: str) -> None:
    with (
        without_head(world, world.scopes().show("old").number),
        pytest.raises((Tampered, ScopeSealed, AlreadyExists), match="`old/`"),
    ):
        HEADLESS[change](world)


def test_a_scope_whose_head_was_away_during_a_compromise_gets_new_keys_once_it_is_back(world: ScopeWorld) -> None:
    def epoch() -> int:
        return world.admin().scope("old").opened.replica.keyring.active(Purpose.SCOPE).epoch

    before, own = epoch(), read_own_keys(world.admin().opened)
    assert own is not None
    with without_head(world, world.scopes().show("old").number):
        with pytest.raises(Tampered, match="`old/` is not there"):
            ScopeCompromise(world.admin().authority).declare()
        now = read_own_keys(world.admin().opened)
        assert now is not None
        assert own.current.signing_key in {key.signing_key for key in now.former}
    with pytest.raises(RollbackSuspected, match="`old/`"):
        ScopeCompromise(world.admin().authority).resume()
    AdministratorChanges(world.admin().authority).resume(accept=["old/"])
    ScopeCompromise(world.admin().authority).resume()
    assert epoch() > before + 1
    now = read_own_keys(world.admin().opened)
    assert now is not None
    assert now.former == ()
    assert text_of(world.as_member("web"), "old/in/a") == "of old"
