"""Somebody leaves a role that gets another key: nothing is lost by it, and nobody keeps a right over it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from securecfg.errors import Conflict, InvalidMetadata, SecurecfgError, StoreFailed, Tampered
from securecfg.keys.identity import read_identity_file
from securecfg.store import Put, Space
from securecfg.vault.rekeying.roles import RoleRotation
from securecfg.vault.scopes.opening import Doorway, charter_of
from securecfg.vault.scopes.registry import read_registry
from tests.vault.copies import copy_of
from tests.vault.rekeying.test_roles import keys_of, memberships, partition, rotation
from tests.vault.scope_world import ScopeWorld, scope_world
from tests.vault.world import text_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VOUCHER_ID = 4


def make_world(folder: Path) -> ScopeWorld:
    """A scope of one role, with a value in it."""
    world = scope_world(folder)
    world.scopes().create("pay", read=["pay"], write=["pay"])
    world.as_member("pay").write("pay/old", "old")
    return world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ScopeWorld]:
    world = copy_of(make_world, tmp_path)
    yield world
    world.close()


def key_in(world: ScopeWorld, path: str) -> bytes:
    party = charter_of(world.admin().scope(path).opened).party("pay")
    assert party is not None
    return party.signing_key


# --- what those who stay read -----------------------------------------------------------------------------------------


def test_another_role_that_was_not_given_what_is_there_does_not_keep_it(world: ScopeWorld) -> None:
    world.scopes().grant("pay", "web", "read")
    world.person("pay", "second")
    for leaves in ("verify", "remove"):
        with pytest.raises(Conflict, match="nobody else reads `pay/`"):
            rotation(world).verify_kept("pay", leaving="svc:pay")
        if leaves == "verify":
            world.admin().administration.remove_member("pay", "svc:pay")
    with pytest.raises(Conflict, match="nobody else reads `pay/`"):
        rotation(world).rotate_role("pay")
    # Whoever was the last with the key has kept it for this.
    world.as_member("pay")
    rotation(world).rotate_role("pay")
    assert [text_of(world.as_member(name), "pay/old") for name in ("web", "second")] == ["old", "old"]


def test_another_role_of_which_nobody_has_the_key_does_not_keep_it(world: ScopeWorld) -> None:
    world.scopes().grant("pay", "web", "read")
    world.as_member("pay")
    world.person("pay", "second")
    rotation(world).verify_kept("pay", leaving="svc:pay")
    world.admin().administration.remove_member("web", "svc:web")
    with pytest.raises(Conflict, match="nobody else reads `pay/`"):
        rotation(world).verify_kept("pay", leaving="svc:pay")


def test_what_only_a_former_key_of_another_role_reads_is_kept(world: ScopeWorld) -> None:
    world.scopes().grant("pay", "web", "read")
    world.as_member("pay")
    rotation(world).rotate_role("web")
    world.person("pay", "second")
    world.admin().administration.remove_member("pay", "svc:pay")
    rotation(world).rotate_role("pay")
    assert [text_of(world.as_member(name), "pay/old") for name in ("web", "second")] == ["old", "old"]


def test_a_key_under_which_nothing_is_keeps_nobody_from_another_one(world: ScopeWorld) -> None:
    """The role was given nothing but the newest value key, which others have too."""
    world.scopes().grant("pay", "audit", "read")
    rotation(world).verify_kept("audit")
    world.person("audit", "second")
    world.admin().administration.remove_member("audit", "svc:audit")
    rotation(world).rotate_role("audit")
    assert text_of(world.as_member("pay"), "pay/old") == "old"


# --- going on ---------------------------------------------------------------------------------------------------------


def test_going_on_forgets_nobody_who_left_meanwhile_and_is_needed(world: ScopeWorld) -> None:
    world.person("pay", "second")
    world.admin().administration.add_member("web", "svc:pay")
    rotation(world).rotate_role("pay")
    world.admin().administration.remove_member("pay", "svc:pay")
    before = memberships(world)
    for resumes in (False, True):
        with pytest.raises(Conflict, match="nobody who stays has the key of `role:pay`"):
            rotation(world).rotate_role("pay", resumes=resumes)
    assert memberships(world) == before
    # He comes back, is let in by who has the newest key, and gives the others what he has.
    identity = read_identity_file(world.folder / "pay.identity").identity
    world.admin().administration.add_member("pay", "svc:pay", identity=identity, replace=True)
    for name in ("second", "pay", "second"):
        member = world.as_member(name)
    assert text_of(member, "pay/old") == "old"
    world.admin().administration.remove_member("pay", "svc:pay")
    rotation(world).rotate_role("pay")
    assert text_of(world.as_member("second"), "pay/old") == "old"


def test_going_on_takes_the_rights_of_who_left_although_he_is_needed(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.person("pay", "second")
    (kept,) = keys_of(world, "pay")
    with monkeypatch.context() as patched:
        patched.setattr(RoleRotation, "_tried_in_each", lambda *_: ([], {"pay/": Tampered("died")}))
        with pytest.raises(Tampered):
            rotation(world).rotate_role("pay")
    assert key_in(world, "pay") == kept.signing_key
    world.admin().administration.remove_member("pay", "svc:pay")
    with pytest.raises(Conflict, match="nobody who stays has the key"):
        rotation(world).rotate_role("pay", resumes=True)
    assert key_in(world, "pay") == read_registry(world.admin().opened).roles["pay"][-32:] != kept.signing_key


# --- damaged scopes ---------------------------------------------------------------------------------------------------


def test_a_damaged_scope_keeps_no_role_from_another_key_in_the_others(world: ScopeWorld) -> None:
    scopes = world.scopes()
    scopes.create("aaa", read=["web"], write=["web"])
    scopes.create("bbb", read=["pay"], write=["pay"])
    world.person("pay", "leaver")
    world.as_member("pay").write("bbb/x", "1")
    (kept,) = keys_of(world, "leaver")
    sound = {path: partition(world, path).get(Space.META, VOUCHER_ID) or b"" for path in ("aaa", "bbb")}
    for path in sound:
        partition(world, path).stage([Put(Space.META, VOUCHER_ID, bytes(202))])
    rotation(world).verify_kept("pay", leaving="svc:leaver")
    with pytest.raises(Tampered):
        world.admin().administration.remove_member("pay", "svc:leaver")
    assert keys_of(world, "leaver") == []
    for resumes in (False, True):
        with pytest.raises(Tampered) as failed:
            rotation(world).rotate_role("pay", resumes=resumes)
        assert "all scopes but `aaa/`, `bbb/` are done, and `securecfg role rotate pay --resume`" in failed.value.hint
    assert key_in(world, "pay") == read_registry(world.admin().opened).roles["pay"][-32:] != kept.signing_key
    assert read_registry(world.admin().opened).unfinished == {"pay"}
    # Once they are restored the rest is done.
    for path, row in sound.items():
        number = read_registry(world.admin().opened).scopes[f"{path}/"].number
        world.admin().opened.store.partition(number).stage([Put(Space.META, VOUCHER_ID, row)])
    assert rotation(world).rotate_role("pay", resumes=True).scopes == ["bbb/", "pay/"]
    assert read_registry(world.admin().opened).unfinished == frozenset()
    assert [text_of(world.as_member("pay"), path) for path in ("pay/old", "bbb/x")] == ["old", "1"]


def test_nobody_is_forgotten_who_may_be_needed_in_a_damaged_scope(world: ScopeWorld) -> None:
    world.person("pay", "second")
    world.admin().administration.add_member("web", "svc:pay")
    store = partition(world, "pay")
    sound = store.get(Space.META, VOUCHER_ID) or b""
    store.stage([Put(Space.META, VOUCHER_ID, bytes(202))])
    with pytest.raises(Tampered):
        world.admin().administration.remove_member("pay", "svc:pay")
    with pytest.raises(Tampered):
        rotation(world).rotate_role("pay")
    assert len(keys_of(world, "pay")) == 1
    store.stage([Put(Space.META, VOUCHER_ID, sound)])
    with pytest.raises(Conflict, match="nobody who stays has the key"):
        rotation(world).rotate_role("pay", resumes=True)
    assert len(keys_of(world, "pay")) == 1


def test_a_scope_that_cannot_be_read_now_is_not_passed_over(world: ScopeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    number = read_registry(world.admin().opened).scopes["pay/"].number
    open_scope = Doorway.open

    def fail(self: Doorway, part: int, *args: object) -> object:
        if part == number:
            message = "no disk"
            raise StoreFailed(message)
        return open_scope(self, part, *args)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(Doorway, "open", fail)
    for leaving in ("", "svc:pay"):
        with pytest.raises(StoreFailed):
            rotation(world).verify_kept("pay", leaving)
    with pytest.raises(StoreFailed):
        rotation(world).rotate_role("pay")
    assert read_registry(world.admin().opened).formers == {}


# --- the last one -----------------------------------------------------------------------------------------------------


def test_refuses_another_key_for_a_role_that_its_last_member_is_about_to_leave(world: ScopeWorld) -> None:
    world.scopes().create("both", read=["pay", "web"], write=["pay", "web"])
    with pytest.raises(InvalidMetadata, match="no other member with a public key") as failed:
        rotation(world).verify_kept("pay", leaving="svc:pay")
    assert "`securecfg scope revoke PATH --list role:pay`" in failed.value.hint
    world.person("web", "second")
    world.as_member("web")
    rotation(world).verify_kept("web", leaving="svc:web")


def test_a_role_without_a_key_is_left_by_anybody(world: ScopeWorld) -> None:
    rotation(world).verify_kept("audit", leaving="svc:audit")
    with pytest.raises(SecurecfgError):
        rotation(world).rotate_role("audit")
