"""Handles that are open while scopes end: they find what was merged, and miss nothing in silence."""

from __future__ import annotations

from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import pytest

from securecfg.errors import ScopeSealed, Tampered
from securecfg.store import PartCommit
from securecfg.vault.moves.scopes import ScopeMoves
from securecfg.vault.scopes.parts import Parts
from securecfg.vault.scopes.registry import read_registry
from securecfg.vault.scopes.scoped import ScopedVault
from tests.vault.copies import copy_of
from tests.vault.scope_world import scope_world
from tests.vault.world import text_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from securecfg.vault import Vault
    from securecfg.vault.references import SecretRef
    from tests.vault.scope_world import ScopeWorld


def moves(world: ScopeWorld) -> ScopeMoves:
    return ScopeMoves(world.admin().authority)


def make_world(folder: Path) -> ScopeWorld:
    """A scope in a scope, with a secret in each."""
    world = scope_world(folder)
    world.scopes().create("pay", read=["pay"], write=["pay"])
    pay = world.as_member("pay")
    pay.write("pay/a", "outer")
    pay.write("pay/in/a", "inner")
    moves(world).split("pay", "pay/in", reader=world.identity("pay"))
    return world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ScopeWorld]:
    world = copy_of(make_world, tmp_path)
    yield world
    world.close()


def merge(world: ScopeWorld, path: str = "pay/in") -> None:
    moves(world).merge(path, reader=world.identity("pay"))


@pytest.mark.parametrize("is_used", [False, True])
def test_a_lent_handle_finds_what_was_merged_meanwhile(world: ScopeWorld, *, is_used: bool) -> None:
    member = world.as_member("pay")
    with member.acting("svc:pay") as lent:
        if is_used:
            assert text_of(lent, "pay/in/a") == "inner"
        merge(world)
        for handle in (lent, lent, member):
            assert text_of(handle, "pay/in/a") == "inner"
            assert handle.list() == ["pay/a", "pay/in/a"]
    with member.acting("svc:pay") as lent:
        assert lent.list() == ["pay/a", "pay/in/a"]


def test_a_scope_that_another_thread_takes_for_ended_meanwhile_is_looked_for_again(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    member, get = world.as_member("pay"), Parts.get
    inner = member.scope("pay/in")
    merge(world)

    def overtaken(parts: Parts, scope: str) -> Vault:
        parts.drop(inner)
        return get(parts, scope)

    monkeypatch.setattr(Parts, "get", overtaken)
    assert text_of(member, "pay/in/a") == "inner"


def test_two_threads_that_meet_the_end_of_a_scope_both_forget_it(world: ScopeWorld) -> None:
    member = world.as_member("pay")
    parts, inner = member._parts, member.scope("pay/in")
    merge(world)

    class Racing(dict[str, "Vault"]):
        def pop(self, path: str, *default: object) -> Any:  # noqa: ANN401 - as it is called
            del self[path]  # the other thread is faster
            return super().pop(path, *default)

    assert parts.together is not None
    parts.together = Racing(parts.together)
    parts.drop(inner)
    assert list(parts.together) == ["pay/"]


def test_a_handle_all_of_whose_scopes_have_ended_says_so(world: ScopeWorld) -> None:
    member = world.as_member("pay")
    merge(world)
    merge(world, "pay")
    assert member.list() == []
    with pytest.raises(ScopeSealed):
        member.read("pay/a")
    with pytest.raises(ScopeSealed), member.acting("svc:pay"):
        pass
    with pytest.raises(ScopeSealed):
        _ = member.opened


@pytest.mark.parametrize("is_used", [False, True])
def test_a_listing_does_not_leave_out_a_scope_whose_head_somebody_took_away(
    world: ScopeWorld, *, is_used: bool
) -> None:
    admin = world.admin()
    assert isinstance(admin, ScopedVault)
    if is_used:
        assert admin.list() == ["pay/a", "pay/in/a"]
    store, number = admin.opened.store, read_registry(admin.opened).scopes["pay/in/"].number
    store.commit_parts([PartCommit(number, (), store.partition(number).head(), None)])
    if is_used:
        for prefix in ("", "pay/in/", "pay/in/a"):
            with pytest.raises(Tampered, match="`pay/in/` is not there"):
                admin.list(prefix)
        with pytest.raises(Tampered, match="`pay/in/` is not there"):
            admin.search("in")
    else:
        assert admin.closed().scopes == ("pay/in/",)
        with pytest.raises(Tampered, match="`pay/in/` is not there"):
            list(admin.parts())


def test_rotations_are_followed_in_what_a_key_opens_and_in_no_other_part(world: ScopeWorld) -> None:
    told: SimpleQueue[tuple[str, object, object]] = SimpleQueue()

    def tell(old: SecretRef | None, new: SecretRef) -> None:
        told.put((new.path, old and old.reveal(), new.reveal()))

    admin = world.admin()
    for pattern in ("pay/a", "pay/**", "pay/in/*"):
        with pytest.raises(ScopeSealed, match="opens the values"):
            admin.on_rotate(pattern, tell)
    admin.write("web/a", "1")
    admin.on_rotate("**", tell)
    world.as_member("pay").write("pay/a", "new")
    admin.write("web/a", "2")
    assert told.get(timeout=10) == ("web/a", "1", "2")
    assert told.empty()
    moves(world).seal("web", roles={"read": ["web"], "write": ["web"]})
    world.as_member("web").write("web/a", "3")
    admin.write("own", "4")
    assert told.get(timeout=10) == ("own", None, "4")
    assert told.empty()
