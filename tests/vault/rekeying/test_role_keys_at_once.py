"""Two administrators who change the keys of one role, or give it rights, at the same moment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from securecfg.errors import Conflict
from securecfg.vault.commits import maintenance
from securecfg.vault.commits.joint import publish_together
from securecfg.vault.rekeying import scopes as scope_keys
from securecfg.vault.rekeying.roles import RoleRotation
from securecfg.vault.rekeying.scopes import ScopeKeyring
from securecfg.vault.scopes.opening import charter_of
from securecfg.vault.scopes.registry import read_registry
from securecfg.vault.scopes.rotation import ScopeRotation
from securecfg.vault.scopes.scopes import Scopes
from tests.vault.copies import copy_of
from tests.vault.rekeying.test_roles import keys_of, memberships, rotation
from tests.vault.scope_world import ScopeWorld, scope_world
from tests.vault.world import text_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from securecfg.store import Delete
    from securecfg.vault.opened import OpenVault
    from securecfg.vault.scopes.registry import Registry

PATHS = ("aaa", "bbb", "ccc")


def make_world(folder: Path) -> ScopeWorld:
    """Two scopes that a role reads and writes, and one that it lists."""
    world = scope_world(folder)
    world.scopes().create("aaa", read=["pay"], write=["pay"])
    world.scopes().create("bbb", read=["pay"], write=["pay"])
    world.scopes().create("ccc", read=["web"], list=["pay"])
    pay = world.as_member("pay")
    pay.write("aaa/x", "of aaa")
    pay.write("bbb/x", "of bbb")
    return world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ScopeWorld]:
    world = copy_of(make_world, tmp_path)
    yield world
    world.close()


def registry(world: ScopeWorld) -> Registry:
    return read_registry(world.admin().opened)


def key_in(world: ScopeWorld, path: str, role: str = "pay") -> bytes:
    party = charter_of(world.admin().scope(path).opened).party(role)
    assert party is not None
    return party.signing_key


def newest(world: ScopeWorld, role: str = "pay") -> bytes:
    return registry(world).roles[role][-32:]


def rotate_before_scope(world: ScopeWorld, number: int, patched: pytest.MonkeyPatch) -> None:
    """Have a role rotated from beginning to end before somebody else rotates it in one of its scopes."""
    replace_role, left = ScopeRotation.replace_role, [number]

    def replace(self: ScopeRotation, *args: object) -> None:
        left[0] -= 1
        if left[0] == 0:
            rotation(world).rotate_role("pay")
        replace_role(self, *args)  # type: ignore[arg-type]  # as they came

    patched.setattr(ScopeRotation, "replace_role", replace)


@pytest.mark.parametrize("number", [1, 2, 3])
def test_of_two_rotations_at_once_the_older_one_replaces_no_newer_key(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    with monkeypatch.context() as patched:
        rotate_before_scope(world, number, patched)
        with pytest.raises(Conflict, match="another key at the same moment"):
            rotation(world).rotate_role("pay")
    assert {key_in(world, path) for path in PATHS} == {newest(world)}
    assert registry(world).unfinished == frozenset()
    # What is documented to end the former keys ends nobody's access.
    world.as_member("pay")
    for path in PATHS:
        ScopeKeyring(world.admin().authority).rotate(path, resumes=True)
    assert registry(world).formers == {}
    pay = world.as_member("pay")
    assert [text_of(pay, f"{path}/x") for path in ("aaa", "bbb")] == ["of aaa", "of bbb"]


def test_no_former_key_is_forgotten_that_a_scope_names(world: ScopeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(RoleRotation, "_tried_in_each", lambda *_: ([], {}))
        patched.setattr(RoleRotation, "_verify_unnamed", lambda *_: None)
        patched.setattr(RoleRotation, "sweep_memberships", lambda *_: None)
        rotation(world).rotate_role("pay")
    assert registry(world).unfinished == frozenset()
    before = memberships(world)
    ScopeKeyring(world.admin().authority).sweep_memberships()
    assert (memberships(world), len(registry(world).formers["pay"])) == (before, 1)
    assert text_of(world.as_member("pay"), "aaa/x") == "of aaa"


def test_a_rotation_is_not_over_while_a_scope_names_a_former_key(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(ScopeRotation, "replace_role", lambda *_: None)
        with pytest.raises(Conflict, match="the scope `aaa/` names a former key of `role:pay`"):
            rotation(world).rotate_role("pay")
    assert registry(world).unfinished == {"pay"}
    rotation(world).rotate_role("pay", resumes=True)
    assert {key_in(world, path) for path in PATHS} == {newest(world)}


def test_a_key_that_the_vault_does_not_know_is_nobodys(world: ScopeWorld) -> None:
    def forget(known: Registry) -> Registry:
        return known._replace(roles={**known.roles, "pay": known.roles["web"]})

    rotation(world)._change_registry({"role": "pay"}, forget)
    with pytest.raises(Conflict, match="nobody who stays has the key of `role:pay`"):
        rotation(world).rotate_role("pay")


def test_no_right_is_given_to_a_key_that_is_replaced_at_the_same_moment(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.person("pay", "leaver")
    world.as_member("pay")
    (kept,) = keys_of(world, "leaver")
    world.scopes().create("ddd", read=["web"], write=["web"])
    register = Scopes._register

    def rotate_after(self: Scopes, *args: object) -> None:
        register(self, *args)  # type: ignore[arg-type]  # as they came
        monkeypatch.setattr(Scopes, "_register", register)
        world.admin().administration.remove_member("pay", "svc:leaver")
        rotation(world).rotate_role("pay")

    monkeypatch.setattr(Scopes, "_register", rotate_after)
    with pytest.raises(Conflict, match="another key at the same moment"):
        world.scopes().grant("ddd", "pay", "read")
    assert charter_of(world.admin().scope("ddd").opened).party("pay") is None
    world.scopes().grant("ddd", "pay", "read")
    assert key_in(world, "ddd") == newest(world) != kept.signing_key


def test_no_role_gets_another_key_while_a_scope_is_made(world: ScopeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    def rotate_before(*arguments: Any, **options: Any) -> None:  # noqa: ANN401 - handed on
        with pytest.raises(Conflict, match="being made"):
            rotation(world).rotate_role("pay")
        publish_together(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr("securecfg.vault.scopes.scopes.publish_together", rotate_before)
        world.scopes().create("ddd", read=["pay"], write=["pay"])
    assert key_in(world, "ddd") == newest(world)
    rotation(world).rotate_role("pay")
    assert {key_in(world, path) for path in (*PATHS, "ddd")} == {newest(world)}


def test_what_another_rotation_adds_meanwhile_is_not_swept(world: ScopeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    rotation(world).rotate_role("pay")
    world.as_member("pay")
    delete_rows = maintenance.delete_rows

    def rotate_after(opened: OpenVault, deletes: Sequence[Delete]) -> None:
        monkeypatch.setattr(scope_keys, "delete_rows", delete_rows)
        delete_rows(opened, deletes)
        rotation(world).rotate_role("pay")

    for path in ("aaa", "bbb"):
        ScopeKeyring(world.admin().authority).rotate(path, resumes=True)
    rotation(world).rotate_role("pay")
    world.as_member("pay")
    ScopeKeyring(world.admin().authority).rotate("aaa", resumes=True)
    former = registry(world).roles["pay"]
    monkeypatch.setattr(scope_keys, "delete_rows", rotate_after)
    ScopeKeyring(world.admin().authority).rotate("bbb", resumes=True)
    assert registry(world).formers["pay"] == (former,)
    assert text_of(world.as_member("pay"), "aaa/x") == "of aaa"
