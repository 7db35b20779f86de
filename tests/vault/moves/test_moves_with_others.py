"""Scopes that are split and merged while values wait in them, are dropped later, and where several people sign."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from securecfg.errors import Conflict, InvalidMetadata, ScopeSealed, SignaturesMissing, Tampered
from securecfg.store import ID_LIMIT, PartCommit, Space, open_sqlite
from securecfg.vault.administrators.signing_words import to_words
from securecfg.vault.closed import Closed
from securecfg.vault.drops.dropping import DropState
from securecfg.vault.moves.relocation import Relocation
from securecfg.vault.moves.scopes import ScopeMoves
from securecfg.vault.scopes.opening import charter_of
from tests.vault.administrators.test_administrators import PEOPLE, hand_over
from tests.vault.drops.drop_world import SCOPE, collected, drop_world
from tests.vault.scope_world import ScopeWorld, accepted_by, scope_world
from tests.vault.world import text_of

if TYPE_CHECKING:
    from pathlib import Path


def moves(world: ScopeWorld, *signers: str) -> ScopeMoves:
    authority = world.admin().authority
    return ScopeMoves.with_signing(authority, PEOPLE.only(*signers)) if signers else ScopeMoves(authority)


@pytest.fixture
def box(tmp_path: Path) -> ScopeWorld:
    """A scope with a drop box, and a secret in a subtree of it."""
    world = drop_world(tmp_path)
    world.as_member("pay").write("pay/in/a", "1")
    return world


# --- drop boxes -------------------------------------------------------------------------------------------------------


def test_nothing_is_split_or_merged_while_values_wait(box: ScopeWorld) -> None:
    box.as_member("web").drop("pay/in/late", "dropped")
    for change in (
        lambda: moves(box).split("pay", "pay/in", reader=box.identity("pay")),
        lambda: moves(box).merge("pay", reader=box.identity("pay")),
    ):
        with pytest.raises(Conflict, match="wait in `pay/`"):
            change()
    assert text_of(box.as_member("pay"), "pay/in/late") == "dropped"
    moves(box).split("pay", "pay/in", reader=box.identity("pay"))
    assert text_of(box.as_member("pay"), "pay/in/late") == "dropped"


@pytest.mark.parametrize("change", ["split", "merge"])
def test_a_value_that_is_dropped_while_secrets_are_moved_is_not_lost(
    box: ScopeWorld, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    web, commit, receipts = box.as_member("web"), Relocation._commit, []

    def overtaken(relocation: Relocation, *rest: Any) -> None:  # noqa: ANN401 - handed on
        receipts.append(web.drop("pay/in/late", "dropped"))
        commit(relocation, *rest)

    def run() -> None:
        if change == "split":
            moves(box).split("pay", "pay/in", reader=box.identity("pay"))
        else:
            moves(box).merge("pay", reader=box.identity("pay"))

    with monkeypatch.context() as patched:
        patched.setattr(Relocation, "_commit", overtaken)
        with pytest.raises(Conflict, match="wait in `pay/`"):
            run()
    assert box.as_member("web").find_drop(receipts[0].id).state is DropState.WAITING
    assert text_of(box.as_member("pay"), "pay/in/late") == "dropped"
    run()
    assert len(box.scopes().paths()) == (2 if change == "split" else 0)


def test_nothing_is_dropped_into_a_merged_scope_whose_rows_are_still_there(
    box: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = box.as_member("web")
    with monkeypatch.context() as patched:
        patched.setattr("securecfg.vault.moves.scopes.finish_destruction", lambda _opened: None)
        moves(box).merge("pay", reader=box.identity("pay"))
    with pytest.raises(ScopeSealed):
        web.drop("pay/in/late", "dropped")
    web.close()
    box.close()
    box.admin()
    with closing(open_sqlite(box.path)) as store:
        assert store.partitions() == []
        assert not any(store.partition(SCOPE).scan(space, 0, ID_LIMIT - 1, 1) for space in Space)


@pytest.mark.parametrize("is_met_twice", [False, True])
def test_a_head_that_somebody_gives_to_a_merged_scope_does_not_keep_its_rows(
    box: ScopeWorld, monkeypatch: pytest.MonkeyPatch, *, is_met_twice: bool
) -> None:
    def overtaken(*arguments: Any) -> PartCommit:  # noqa: ANN401 - handed on
        monkeypatch.undo()
        change = PartCommit(*arguments)
        with closing(open_sqlite(box.path)) as store:
            store.commit_parts([change])
        return change

    with monkeypatch.context() as patched:
        patched.setattr("securecfg.vault.moves.scopes.finish_destruction", lambda _opened: None)
        moves(box).merge("pay", reader=box.identity("pay"))
    with closing(open_sqlite(box.path)) as store:
        store.partition(SCOPE).commit([], expect=None, head=b"")
    box.close()
    if is_met_twice:
        monkeypatch.setattr("securecfg.vault.scopes.ends.PartCommit", overtaken)
    box.admin()
    with closing(open_sqlite(box.path)) as store:
        assert store.partitions() == []
        assert not any(store.partition(SCOPE).scan(space, 0, ID_LIMIT - 1, 1) for space in Space)


def test_after_a_split_values_are_dropped_where_their_paths_lie(box: ScopeWorld) -> None:
    moves(box).split("pay", "pay/in", reader=box.identity("pay"))
    web = box.as_member("web")
    web.drop("pay/in/x", "inner")
    web.drop("pay/y", "outer")
    collected(box)
    pay = box.as_member("pay")
    assert (text_of(pay, "pay/in/x"), text_of(pay, "pay/y")) == ("inner", "outer")
    assert pay.scope("pay/in").list() == ["pay/in/a", "pay/in/x"]
    assert pay.scope("pay").list() == ["pay/y"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_nothing_is_dropped_into_a_scope_that_was_merged_and_put_back(box: ScopeWorld, when: str) -> None:
    """Who read the inner scope, and does not read the outer one, would read what is dropped."""
    moves(box).split("pay", "pay/in", reader=box.identity("pay"))
    number = box.admin().opened.scopes().scopes["pay/in/"].number  # type: ignore[union-attr]  # there are some
    web = box.as_member("web") if when == "before" else None
    with closing(sqlite3.connect(box.path)) as database:
        rows = database.execute("SELECT * FROM p WHERE n = ?", (number,)).fetchall()
        heads = database.execute("SELECT * FROM g WHERE i = ?", (number,)).fetchall()
    moves(box).merge("pay/in", reader=box.identity("pay"))
    with closing(sqlite3.connect(box.path)) as database:
        database.executemany(f"INSERT INTO p VALUES ({','.join('?' * len(rows[0]))})", rows)  # noqa: S608 - no input
        database.executemany(f"INSERT INTO g VALUES ({','.join('?' * len(heads[0]))})", heads)  # noqa: S608 - no input
        database.commit()
    with pytest.raises(Tampered, match="`pay/in/` says that it is a scope"):
        (web or box.as_member("web")).drop("pay/in/x", "for the vault")


def test_a_value_is_dropped_into_a_scope_in_a_scope_in_a_scope(box: ScopeWorld) -> None:
    box.as_member("pay").write("pay/in/deep/a", "1")
    moves(box).split("pay", "pay/in", reader=box.identity("pay"))
    moves(box).split("pay/in", "pay/in/deep", reader=box.identity("pay"))
    box.as_member("web").drop("pay/in/deep/x", "1")
    box.scopes().revoke("pay/in", "web", "drop")
    box.as_member("web").drop("pay/in/deep/y", "2")
    assert box.as_member("pay").list("pay/in/deep/") == ["pay/in/deep/a", "pay/in/deep/x", "pay/in/deep/y"]


def test_what_the_outer_scope_leaves_out_is_not_dropped_there(box: ScopeWorld) -> None:
    moves(box).split("pay", "pay/in", reader=box.identity("pay"))
    box.scopes().revoke("pay/in", "web", "drop")
    with pytest.raises(ScopeSealed):
        box.as_member("web").drop("pay/in/x", "inner")
    box.as_member("web").drop("pay/y", "outer")


def test_what_is_sealed_with_its_secrets_needs_a_collector_too(tmp_path: Path) -> None:
    world = scope_world(tmp_path)
    world.admin().write("web/a", "1")
    with pytest.raises(InvalidMetadata):
        moves(world).seal("web", roles={"read": ["web"], "drop": ["audit"]})
    moves(world).seal("web", roles={"read": ["web"], "write": ["web"], "drop": ["audit"]})
    world.as_member("audit").drop("web/b", "dropped")
    assert text_of(world.as_member("web"), "web/b") == "dropped"


# --- several administrators -------------------------------------------------------------------------------------------


def test_a_split_and_a_merge_take_as_many_signatures_as_a_charter(tmp_path: Path) -> None:
    world = scope_world(tmp_path)
    world.scopes().create("web", read=["web"], write=["web"])
    world.as_member("web").write("web/in/a", "1")
    hand_over(world, "alice", "bob", "carol")
    with pytest.raises(SignaturesMissing):
        moves(world, "alice").split("web", "web/in", reader=world.identity("web"))
    assert world.scopes().paths() == ["web/"]
    moves(world, "alice", "carol").split("web", "web/in", reader=world.identity("web"))
    assert accepted_by(world, "web", "web/in/a") == "1"
    with pytest.raises(SignaturesMissing):
        moves(world, "bob").merge("web/in", reader=world.identity("web"))
    moves(world, "bob", "carol").merge("web/in", reader=world.identity("web"))
    assert accepted_by(world, "web", "web/in/a") == "1"
    assert world.scopes().show("web").excluded == ()


def test_who_signs_sees_what_a_charter_leaves_out(box: ScopeWorld) -> None:
    moves(box).split("pay", "pay/in", reader=box.identity("pay"))
    charter = charter_of(box.as_member("pay").scope("pay").opened)
    assert charter.excluded == ("pay/in/",)
    assert any("pay/in/" in line for line in to_words(charter.message))


# --- what is closed to the key at hand --------------------------------------------------------------------------------


def test_a_scope_in_a_scope_that_is_closed_is_told_of_by_what_the_outer_one_leaves_out(box: ScopeWorld) -> None:
    moves(box).split("pay", "pay/in", reader=box.identity("pay"))
    assert box.as_member("pay").closed("pay/") == Closed()
    box.scopes().grant("pay/in", "audit", "read")
    box.scopes().revoke("pay/in", "pay", "list")
    pay = box.as_member("pay")
    inner = Closed(is_whole=False, scope_count=1, scopes=("pay/in/",))
    assert [pay.closed(prefix) for prefix in ("pay/", "pay/in/", "pay/in/deep/")] == [inner] * 3
    assert pay.closed("pay/other/") == Closed()
