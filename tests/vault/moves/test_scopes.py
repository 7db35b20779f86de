"""Scopes around what is there already: made, split and merged, with every secret where its path leads all the time."""

from __future__ import annotations

import itertools
import shutil
import sqlite3
import threading
from contextlib import closing, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from securecfg.audit import Event
from securecfg.errors import (
    AccessDenied,
    AlreadyExists,
    Conflict,
    InvalidPath,
    ScopeSealed,
    SecretNotFound,
    SecurecfgError,
    StoreFailed,
    Tampered,
    ValueTooLarge,
    WrongKey,
)
from securecfg.policy import Document
from securecfg.vault.keys.departures import find_exposed
from securecfg.vault.moves.relocation import Relocation
from securecfg.vault.moves.scopes import ScopeMoves
from securecfg.vault.scopes.opening import charter_of
from securecfg.vault.scopes.registry import read_registry
from securecfg.vault.scopes.scoped import ScopedVault
from securecfg.vault.scopes.seats import Seat
from securecfg.vault.state.anchor import AnchorFile
from securecfg.vault.state.replica import Replica
from securecfg.vault.vault import Vault
from securecfg.vault.verification import verify_vault
from tests.reliability.test_leaks import encodings
from tests.vault.crash_steps import crashes, dying
from tests.vault.moves.test_relocation import full, history_of, values_of
from tests.vault.scope_world import ScopeWorld, bare_world, scope_world, verify_parts
from tests.vault.world import text_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

world = bare_world


def verify_no_leftovers(world: ScopeWorld) -> None:
    """Check that nothing is damaged, and that there is nothing besides the parts that there are."""
    verify_parts(world)
    with closing(sqlite3.connect(world.path)) as database:
        numbers = {number for (number,) in database.execute("SELECT DISTINCT n FROM p UNION SELECT i FROM g")}
    registry = read_registry(world.admin().opened)
    assert numbers == {place.number for place in registry.scopes.values()}
    assert registry.making == {}


# --- sealing what is there --------------------------------------------------------------------------------------------


def test_a_subtree_with_secrets_is_sealed_with_all_their_history(world: ScopeWorld) -> None:
    admin = world.admin()
    full(admin, world, "app/a")
    admin.write("app/deep/er", "1")
    admin.write("beside", "1")
    before, values = history_of(admin, "app/a"), values_of(admin, "app/a")
    info, moved = world.moves().seal("app", roles={"read": ["pay"]})
    assert (info.path, info.roles) == ("app/", {"administrator": ("list", "write"), "pay": ("list", "read")})
    assert (moved.secrets, moved.versions) == (2, 8)
    pay = world.as_member("pay")
    assert pay.list() == ["app/a", "app/deep/er"]
    assert (history_of(pay, "app/a"), values_of(pay, "app/a")) == (before, values)
    with pytest.raises(ScopeSealed):
        world.admin().read("app/a")
    assert world.admin().list() == ["app/a", "app/deep/er", "beside"]
    verify_no_leftovers(world)


def test_what_was_sealed_later_is_exposed_until_it_has_another_value(world: ScopeWorld) -> None:
    world.admin().write("app/a", "1")
    world.moves().seal("app", roles={"read": ["pay"], "write": ["pay"]})
    pay = world.as_member("pay")
    assert [(each.path, each.is_move, each.label) for each in find_exposed(pay.authority)] == [("app/a", True, "/")]
    pay.write("app/a", "2")
    assert find_exposed(pay.authority) == []
    pay.rollback("app/a", 1)
    assert [each.version for each in find_exposed(pay.authority)] == [3]
    world.admin().write("common/a", "1")
    world.moves().seal("common", roles={"read": ["web"]}, is_shared=True)
    assert find_exposed(world.as_member("web").authority) == []


def test_sealing_an_empty_subtree_is_making_a_scope(world: ScopeWorld) -> None:
    info, moved = world.moves().seal("app", roles={"read": ["pay"]})
    assert (info.path, moved.secrets) == ("app/", 0)
    with pytest.raises(AlreadyExists):
        world.moves().seal("app", roles={"read": ["pay"]})


def test_sealing_needs_the_rights_on_every_secret(world: ScopeWorld) -> None:
    admin = world.admin()
    for name in "abc":
        admin.write(f"app/{name}", "1")
    text = (
        '[roles.keeper]\nmembers = ["svc:keeper"]\n[[roles.keeper.grants]]\nactions = ["key.manage"]\n'
        '[[roles.keeper.grants]]\nactions = ["read", "delete", "write"]\npaths = ["app/a", "app/b"]\n'
    )
    admin.administration.apply_policy([Document("grants.toml", "grants", text)])
    with pytest.raises(AccessDenied) as raised:
        ScopeMoves(world.open("svc:keeper").authority).seal("app", roles={"read": ["pay"]})
    assert "app/c" not in f"{raised.value.message} {raised.value.hint}"  # who may not list is not told
    admin.administration.apply_policy(
        [Document("grants.toml", "grants", text + '[[roles.keeper.grants]]\nactions = ["list"]\npaths = ["app/*"]\n')]
    )
    with pytest.raises(AccessDenied, match="app/c"):
        ScopeMoves(world.open("svc:keeper").authority).seal("app", roles={"read": ["pay"]})
    assert world.admin().list() == ["app/a", "app/b", "app/c"]
    assert world.admin().opened.store.partitions() == []


def test_what_comes_while_a_subtree_is_sealed_is_decided_on_too(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin, permit, copy = world.admin(), Relocation._permit, Relocation._copy_changed
    admin.write("app/a", "1")
    decided: list[list[bytes]] = []

    def noted(move: Relocation) -> object:
        decided.append(sorted(move._entries()))
        return permit(move)

    def overtaken(move: Relocation, **rest: bool) -> None:
        if not admin.list("app/new"):
            admin.write("app/new", "1")
        copy(move, **rest)

    monkeypatch.setattr(Relocation, "_permit", noted)
    monkeypatch.setattr(Relocation, "_copy_changed", overtaken)
    world.moves().seal("app", roles={"read": ["pay"]})
    assert decided[-1] == [b"app/a", b"app/new"]


def test_members_see_nothing_of_a_scope_before_it_is_made(world: ScopeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    from securecfg.vault.moves.relocation import Relocation

    admin = world.admin()
    admin.write("app/a", "1")
    early = world.admin()
    commit = Relocation._commit

    def watched(self: Relocation, *arguments: Any) -> None:  # noqa: ANN401 - those of the step
        with pytest.raises(WrongKey):
            world.as_member("pay")
        assert text_of(early, "app/a") == "1"
        early.write("app/a", "2")
        monkeypatch.setattr(Relocation, "_commit", commit)
        commit(self, *arguments)

    monkeypatch.setattr(Relocation, "_commit", watched)
    world.moves().seal("app", roles={"read": ["pay"]})
    assert text_of(world.as_member("pay"), "app/a") == "2"
    for use in (lambda: early.read("app/a"), lambda: early.write("app/a", "3"), lambda: early.history("app/a")):
        with pytest.raises(ScopeSealed, match="sealed scope"):
            use()


def test_a_sealing_that_fails_leaves_nothing_of_the_scope(world: ScopeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    admin = world.admin()
    for number in range(3):
        admin.write(f"app/{number}", str(number))
    admin.write("app/large", b"x" * 1_200_000)
    monkeypatch.setattr("securecfg.vault.state.data_keys.SEALED_LIMIT_BYTES", 1_000_000)
    with pytest.raises(ValueTooLarge):
        world.moves().seal("app", roles={"read": ["pay"]})
    verify_no_leftovers(world)
    assert [len(world.admin().list()), len(read_registry(world.admin().opened).retired)] == [4, 1]
    events = [entry.record.event for entry in world.admin().log.records()]
    assert (events.count(Event.SCOPE_BEGUN), events.count(Event.SCOPE_ABANDONED)) == (1, 1)
    monkeypatch.undo()
    assert world.moves().seal("app", roles={"read": ["pay"]})[0].number == 2


def test_a_scope_that_was_begun_and_is_made_empty_leaves_nothing_of_the_first(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.admin().write("app/a", "1")
    with monkeypatch.context() as patched:
        patched.setattr("securecfg.vault.scopes.making._give_up", lambda *_: None)
        patched.setattr(
            "securecfg.vault.moves.relocation.publish_together",
            lambda *_, **__: (_ for _ in ()).throw(StoreFailed("x")),
        )
        with pytest.raises(StoreFailed):
            world.moves().seal("app", roles={"read": ["pay"]})
    admin = world.admin()
    admin.move("app/a", "beside")
    assert world.scopes().create("app", read=["pay"]).number == 2
    world.admin()
    verify_no_leftovers(world)


def test_a_policy_that_changes_during_the_move_is_that_of_the_scope(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    from securecfg.vault.moves.relocation import Relocation

    world.admin().write("app/a", "1")
    commit = Relocation._commit

    def changed(self: Relocation, *arguments: Any) -> None:  # noqa: ANN401 - those of the step
        monkeypatch.setattr(Relocation, "_commit", commit)
        text = '[roles.pay]\nmembers = ["svc:pay"]\n[[roles.pay.grants]]\nactions = ["list"]\npaths = ["**"]\n'
        world.admin().administration.apply_policy([Document("grants.toml", "grants", text)])
        commit(self, *arguments)

    monkeypatch.setattr(Relocation, "_commit", changed)
    world.moves().seal("app", roles={"read": ["pay"]})
    pay = world.as_member("pay")
    assert pay.list() == ["app/a"]
    with pytest.raises(AccessDenied):
        pay.read("app/a")


def test_of_two_who_seal_the_same_one_does(world: ScopeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    from securecfg.vault.moves.relocation import Relocation

    world.admin().write("app/a", "1")
    commit = Relocation._commit

    def overtaken(self: Relocation, *arguments: Any) -> None:  # noqa: ANN401 - those of the step
        monkeypatch.setattr(Relocation, "_commit", commit)
        world.moves().seal("app", roles={"read": ["web"]})
        commit(self, *arguments)

    monkeypatch.setattr(Relocation, "_commit", overtaken)
    with pytest.raises((Conflict, AlreadyExists)):
        world.moves().seal("app", roles={"read": ["pay"]})
    assert text_of(world.as_member("web"), "app/a") == "1"
    with pytest.raises(WrongKey):
        world.as_member("pay")


# --- splitting --------------------------------------------------------------------------------------------------------


@pytest.fixture
def two(world: ScopeWorld) -> ScopeWorld:
    """A scope that its readers write, with a subtree that is to be one of its own."""
    world.scopes().create("web", read=["web"], write=["web"], list=["audit"])
    web = world.as_member("web")
    web.write("web/a", "1")
    full(web, world, "web/in/a")
    web.write("web/in/b", "2")
    return world


def test_a_subtree_of_a_scope_becomes_a_scope_with_the_same_roles(two: ScopeWorld) -> None:
    web = two.as_member("web")
    before, values = history_of(web, "web/in/a"), values_of(web, "web/in/a")
    info, moved = two.moves().split("web", "web/in", reader=two.identity("web"))
    assert (info.path, moved.secrets) == ("web/in/", 2)
    assert info.roles == two.scopes().show("web").roles
    assert two.scopes().show("web").excluded == ("web/in/",)
    again = two.as_member("web")
    assert again.list() == ["web/a", "web/in/a", "web/in/b"]
    assert (history_of(again, "web/in/a"), values_of(again, "web/in/a")) == (before, values)
    assert again.scope("web").list() == ["web/a"]
    again.write("web/in/b", "newer")
    assert text_of(two.as_member("web"), "web/in/b") == "newer"
    assert two.as_member("audit").list() == ["web/a", "web/in/a", "web/in/b"]
    verify_no_leftovers(two)


def test_after_a_split_rights_are_granted_apart(two: ScopeWorld) -> None:
    two.moves().split("web", "web/in", reader=two.identity("web"))
    two.scopes().grant("web/in", "pay", "read")
    two.scopes().revoke("web", "audit", "list")
    assert two.as_member("pay").list() == ["web/in/a", "web/in/b"]
    assert two.as_member("audit").list() == ["web/in/a", "web/in/b"]
    two.scopes().revoke("web/in", "web", "list")
    web = two.as_member("web")
    assert web.list() == ["web/a"]
    for use in (
        lambda: web.read("web/in/a"),
        lambda: web.write("web/in/a", "x"),
        lambda: web.history("web/in/a"),
        lambda: web.scope("web").read("web/in/a"),
        lambda: web.scope("web").write("web/in/new", "x"),
        lambda: web.move("web/a", "web/in/new"),
    ):
        with pytest.raises(ScopeSealed):
            use()


def test_a_split_takes_somebody_who_reads(two: ScopeWorld) -> None:
    with pytest.raises(ScopeSealed, match="sealed from the vault's own key") as caught:
        two.moves().split("web", "web/in")
    assert "--with identity:" in caught.value.hint
    with pytest.raises(ScopeSealed):
        two.moves().split("web", "web/in", reader=two.identity("audit"))
    with pytest.raises(WrongKey):
        two.moves().split("web", "web/in", reader=two.identity("pay"))
    assert two.scopes().paths() == ["web/"]
    info, moved = two.moves().split("web", "web/empty")
    assert (info.path, moved.secrets) == ("web/empty/", 0)


def test_refuses_a_split_of_what_is_no_subtree(two: ScopeWorld) -> None:
    for subtree in ("web", "we", "other", "webin", "web-in"):
        with pytest.raises(InvalidPath):
            two.moves().split("web", subtree)
    with pytest.raises(SecretNotFound):
        two.moves().split("nowhere", "nowhere/in")
    two.moves().split("web", "web/in", reader=two.identity("web"))
    for outer, inner in (("web", "web/in"), ("web", "web/in/deeper")):
        with pytest.raises(AlreadyExists):
            two.moves().split(outer, inner)
    with pytest.raises(AlreadyExists):
        two.scopes().create("web/other", read=["web"])
    two.moves().split("web/in", "web/in/deeper")
    assert two.scopes().show("web/in").excluded == ("web/in/deeper/",)


def test_scopes_in_scopes_keep_their_places_when_one_between_them_comes_and_goes(two: ScopeWorld) -> None:
    web = two.as_member("web")
    web.write("web/in/x/y", "deep")
    who = two.identity("web")
    two.moves().split("web", "web/in/x", reader=who)
    two.moves().split("web", "web/in", reader=who)
    assert two.scopes().show("web").excluded == ("web/in/",)
    assert two.scopes().show("web/in").excluded == ("web/in/x/",)
    everything = ["web/a", "web/in/a", "web/in/b", "web/in/x/y"]
    assert two.as_member("web").list() == everything
    two.moves().merge("web/in", reader=who)
    assert two.scopes().show("web").excluded == ("web/in/x/",)
    assert two.as_member("web").list() == everything
    assert text_of(two.as_member("web"), "web/in/x/y") == "deep"
    verify_no_leftovers(two)


# --- merging ----------------------------------------------------------------------------------------------------------


def test_a_scope_goes_back_into_the_one_around_it(two: ScopeWorld) -> None:
    web = two.as_member("web")
    before, values = history_of(web, "web/in/a"), values_of(web, "web/in/a")
    who = two.identity("web")
    two.moves().split("web", "web/in", reader=who)
    place = read_registry(two.admin().opened).scopes["web/in/"]
    two.as_member("web")
    anchor = AnchorFile(place.scope_id, two.path)
    assert anchor.read() is not None
    merging, moved = two.moves().merge("web/in", reader=who)
    assert (merging.into, merging.secrets, moved.secrets) == ("web/", 2, 2)
    assert (merging.lost(), merging.gained()) == ({}, {})
    again = two.as_member("web")
    assert again.scope("web/in") is again.scope("web")
    assert (history_of(again, "web/in/a"), values_of(again, "web/in/a")) == (before, values)
    assert two.scopes().show("web").excluded == ()
    assert two.scopes().paths() == ["web/"]
    assert anchor.read() is None
    verify_no_leftovers(two)
    assert find_exposed(again.authority) == []


def test_a_scope_goes_back_into_the_vault(two: ScopeWorld) -> None:
    web = two.as_member("web")
    before, values = history_of(web, "web/in/a"), values_of(web, "web/in/a")
    merging = two.moves().plan_merge("web")
    assert (merging.into, merging.secrets) == ("/", 3)
    assert merging.lost() == merging.before
    size, root = (getattr(two.as_member("web").opened.replica.checkpoint, name) for name in ("size", "root"))
    two.moves().merge("web", reader=two.identity("web"))
    admin = two.admin()
    assert (history_of(admin, "web/in/a"), values_of(admin, "web/in/a")) == (before, values)
    assert (two.scopes().paths(), admin.opened.store.partitions()) == ([], [])
    ended = [entry.record.obj for entry in admin.log.records() if entry.record.event is Event.SCOPE_MERGED]
    assert [(obj["path"], obj["size"] >= size, len(obj["digest"])) for obj in ended] == [("web/", True, len(root) * 2)]
    with pytest.raises(WrongKey):
        two.as_member("web")
    assert {(each.path, each.label) for each in find_exposed(admin.authority)} == {
        (path, "web/") for path in ("web/a", "web/in/a", "web/in/b")
    }
    info = two.scopes().create("other", read=["web"])
    assert info.number == 2
    two.close()
    content = two.path.read_bytes()
    assert b"canary-4711" not in content


def test_a_merge_takes_somebody_who_reads(two: ScopeWorld) -> None:
    for who in (None, two.identity("audit")):
        with pytest.raises(ScopeSealed):
            two.moves().merge("web", reader=who)
    with pytest.raises(SecretNotFound):
        two.moves().merge("nowhere")
    assert two.as_member("web").list() == ["web/a", "web/in/a", "web/in/b"]


def test_a_merge_says_who_gains_and_who_loses(two: ScopeWorld) -> None:
    two.moves().split("web", "web/in", reader=two.identity("web"))
    two.scopes().grant("web/in", "pay", "read")
    two.scopes().revoke("web/in", "audit", "list")
    merging = two.moves().plan_merge("web/in")
    assert (merging.lost(), merging.gained()) == ({"pay": ("list", "read")}, {"audit": ("list",)})
    two.moves().merge("web/in", reader=two.identity("web"))
    assert {each.path for each in find_exposed(two.as_member("web").authority)} == {"web/in/a", "web/in/b"}


def test_handles_that_were_open_follow_scopes_that_come_and_go(two: ScopeWorld) -> None:
    two.scopes().create("both", read=["web"], is_shared=True)
    admin, web = two.admin(), two.as_member("web")
    admin.write("both/in/a", "1")
    assert (text_of(admin, "both/in/a"), text_of(web, "both/in/a")) == ("1", "1")
    two.moves().split("both", "both/in")
    assert text_of(admin, "both/in/a") == "1"
    with pytest.raises(ScopeSealed, match="open the vault again"):
        web.read("both/in/a")
    assert text_of(two.as_member("web"), "both/in/a") == "1"
    admin.write("both/in/a", "2")
    inner = two.as_member("web")
    assert text_of(inner, "both/in/a") == "2"
    two.moves().merge("both/in")
    assert text_of(admin, "both/in/a") == "2"
    assert text_of(inner, "both/in/a") == "2"
    assert [type(one).__name__ for one in admin.read_many([("both/in/a", None)])] == ["SecretVersion"]
    admin.write("both/in/a", "3")
    two.moves().merge("both")
    assert text_of(admin, "both/in/a") == "3"
    assert admin.list("both/") == ["both/in/a"]
    with pytest.raises(SecurecfgError):
        inner.read("both/in/a")
    two.moves().seal("both", roles={"read": ["web"]}, is_shared=True)
    assert text_of(admin, "both/in/a") == "3"
    assert text_of(two.as_member("web"), "both/in/a") == "3"


def test_a_handle_that_has_not_opened_a_scope_yet_finds_what_was_merged_out_of_it(world: ScopeWorld) -> None:
    world.scopes().create("both", read=["web"], is_shared=True)
    world.admin().write("both/a", "1")
    late = [world.admin() for _ in range(4)]
    world.moves().merge("both")
    assert text_of(late[0], "both/a") == "1"
    assert late[1].list() == ["both/a"]
    assert late[2].search("BOTH") == ["both/a"]
    assert [path for path, _ in late[3].parts()] == [""]


@pytest.mark.parametrize(("source", "target"), [("both/a", "app/a"), ("app/b", "both/b")])
def test_a_listing_misses_nothing_that_is_moved_meanwhile(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch, source: str, target: str
) -> None:
    world.scopes().create("both", read=["web"], is_shared=True)
    lister, mover = world.admin(), world.admin()
    mover.write("both/a", "1")
    mover.write("app/b", "1")
    listed = Vault.list
    done: list[Vault] = []

    def overtaken(part: Vault, prefix: str = "") -> list[str]:
        paths = listed(part, prefix)
        if not done:
            done.append(part)
            mover.move(source, target)
        return paths

    monkeypatch.setattr(Vault, "list", overtaken)
    found = lister.list()
    assert done == [lister._whole]  # type: ignore[attr-defined]  # of a scoped vault
    assert target in found
    assert lister.list() == sorted({"both/a", "app/b"} - {source} | {target})


def test_a_listing_ends_where_secrets_move_to_and_fro_all_the_time(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.scopes().create("both", read=["web"], is_shared=True)
    lister, mover = world.admin(), world.admin()
    mover.write("both/a", "1")
    places = itertools.cycle([("both/a", "app/a"), ("app/a", "both/a")])
    listed = Vault.list

    def overtaken(part: Vault, prefix: str = "") -> list[str]:
        paths = listed(part, prefix)
        mover.move(*next(places))
        return paths

    monkeypatch.setattr(Vault, "list", overtaken)
    assert set(lister.list()) <= {"both/a", "app/a"}


def test_a_reference_follows_its_secret_into_a_scope_and_out_of_it(two: ScopeWorld) -> None:
    two.scopes().create("both", read=["web"], is_shared=True)
    admin = two.admin()
    admin.write("app/a", "1")
    ref = admin.ref("app/a")
    changed = threading.Event()
    stop = ref.on_change(lambda _ref: changed.set())
    two.moves().seal("app", roles={"read": ["web"]}, is_shared=True)
    assert ref.reveal() == "1"
    assert changed.wait(10)
    changed.clear()
    two.admin().write("app/a", "2")
    assert changed.wait(10)
    assert ref.reveal() == "2"
    two.moves().merge("app")
    assert ref.reveal() == "2"
    changed.clear()
    two.admin().write("app/a", "3")
    assert changed.wait(10)
    stop()


def test_nothing_that_was_moved_is_readable_in_any_file(two: ScopeWorld) -> None:
    words = ("canary-folder", "canary-name", "canary-value", "canary-author")
    admin = two.admin()
    path = "canary-folder/canary-name"
    admin.write(path, "canary-value", metadata={"owner": "canary-author"})
    admin.write("canary-folder/large", b"canary-value" * 60_000)
    images = []

    def take_image() -> None:
        files = [file for file in two.folder.rglob("*") if file.is_file() and file.suffix != ".identity"]
        images.append(b"".join(file.read_bytes() for file in files))

    two.moves().seal("canary-folder", roles={"read": ["web"]}, is_shared=True)
    take_image()
    two.moves().split("canary-folder", "canary-folder/canary-name")
    two.moves().merge("canary-folder")
    take_image()
    admin.move("canary-folder/large", "web-large")
    two.close()
    take_image()
    for image in images:
        assert not [word for word in words for form in encodings(word) if form in image]


# --- hostile ----------------------------------------------------------------------------------------------------------


def lawless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process publish whatever it wants, signed with the key that it has."""
    monkeypatch.setattr(Replica, "may_change", True)
    monkeypatch.setattr(Seat, "may_write", True)
    monkeypatch.setattr(Seat, "signer", property(lambda self: self._signer))


def test_what_a_writer_puts_where_another_scope_begins_is_read_by_nobody(
    two: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    two.moves().split("web", "web/in", reader=two.identity("web"))
    two.scopes().revoke("web/in", "web", "list")
    two.scopes().grant("web/in", "pay", "read")
    web = two.as_member("web").scope("web")
    with monkeypatch.context() as patched:
        patched.setattr("securecfg.vault.opened.OpenVault._scope_inside", lambda *_: None)
        web.write("web/in/b", "forged")
        web.write("web/in/new", "forged")
    for vault in (two.admin(), two.as_member("web"), two.as_member("audit")):
        assert "web/in/new" not in vault.list()
        with pytest.raises((ScopeSealed, SecretNotFound)):
            vault.read("web/in/new")
    assert [name for name, _, _ in verify_vault(two.admin().scope("web").opened).problems] == ["web/in/b", "web/in/new"]
    two.scopes().revoke("web/in", "audit", "list")
    two.scopes().grant("web/in", "web", "read")
    two.as_member("pay")


@pytest.mark.parametrize("when", ["before", "during", "again"])
def test_what_a_writer_puts_where_another_scope_begins_neither_stops_a_merge_nor_comes_into_force_by_it(
    two: ScopeWorld, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    two.moves().split("web", "web/in", reader=two.identity("web"))
    web, commit = two.as_member("web").scope("web"), Relocation._commit

    def plant(value: str) -> None:
        with monkeypatch.context() as patched:
            patched.setattr("securecfg.vault.opened.OpenVault._scope_inside", lambda *_: None)
            web.write("web/in/b", value)
            web.write("web/in/new", value)

    def overtaken(move: Relocation, *rest: Any) -> None:  # noqa: ANN401 - handed on
        monkeypatch.setattr(Relocation, "_commit", commit)
        plant("forged once more")
        commit(move, *rest)

    if when != "during":
        plant("forged")
    if when != "before":
        monkeypatch.setattr(Relocation, "_commit", overtaken)
    two.moves().merge("web/in", reader=two.identity("web"))
    member = two.as_member("web")
    assert member.list() == ["web/a", "web/in/a", "web/in/b"]
    assert not text_of(member, "web/in/b").startswith("forged")
    assert verify_vault(two.admin().scope("web").opened).problems == []
    removed = [entry.record for entry in member.log.records() if entry.record.obj.get("change") == "secret.destroyed"]
    assert [record.obj["items"] for record in removed] == [[["web/in/b", 0], ["web/in/new", 0]]]


@pytest.mark.parametrize("name", ["web", "audit"])
def test_nobody_but_administrators_takes_back_what_a_charter_leaves_out(
    two: ScopeWorld, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from securecfg.keys.role_keys import RoleKey
    from securecfg.vault.scopes.changes import ScopeChanges
    from securecfg.vault.trust.signatories import own_signatory
    from tests.vault.scopes.test_attacks import role_key

    two.moves().split("web", "web/in", reader=two.identity("web"))
    part = two.as_member(name).scope("web")
    key = role_key(two, name)
    assert isinstance(key, RoleKey)
    changes = ScopeChanges(part.opened, part.authority.identity, key, own_signatory(key), {})
    planner = changes.plan_exclusion(lambda _excluded: ())
    with monkeypatch.context() as patched:
        lawless(patched)
        with pytest.raises(Tampered):
            part.opened.publisher.publish(planner)
    with pytest.raises(Tampered):
        two.as_member("web")


def test_a_note_of_a_move_is_believed_from_the_vault_alone(two: ScopeWorld) -> None:
    """Who only lists, or only writes the file, puts a scope where the vault says none is made or merged."""
    two.close()
    copied = two.folder / "copied.vault"
    shutil.copy(two.path, copied)
    two.moves().merge("web", reader=two.identity("web"))
    number = 1
    two.close()
    with closing(sqlite3.connect(two.path)) as database:
        database.execute("ATTACH ? AS old", (str(copied),))
        database.execute("INSERT INTO p SELECT * FROM old.p WHERE n = ?", (number,))
        database.execute("INSERT INTO g SELECT * FROM old.g WHERE i = ?", (number,))
        database.commit()
    admin = two.admin()
    assert admin.list() == ["web/a", "web/in/a", "web/in/b"]
    assert [path for path, _ in admin.parts()] == [""]
    admin.write("web/a", "of the vault")
    assert text_of(admin, "web/a") == "of the vault"


def test_a_scope_that_was_merged_and_put_back_is_refused_by_who_opens_the_one_around_it(two: ScopeWorld) -> None:
    who = two.identity("web")
    two.moves().split("web", "web/in", reader=who)
    two.close()
    copied = two.folder / "copied.vault"
    shutil.copy(two.path, copied)
    two.moves().merge("web/in", reader=who)
    two.close()
    with closing(sqlite3.connect(two.path)) as database:
        database.execute("ATTACH ? AS old", (str(copied),))
        database.execute("INSERT INTO p SELECT * FROM old.p WHERE n = 2")
        database.execute("INSERT INTO g SELECT * FROM old.g WHERE i = 2")
        database.commit()
    with pytest.raises(Tampered, match="says that it is a scope"):
        two.as_member("web")
    assert two.admin().list() == ["web/a", "web/in/a", "web/in/b"]


# --- wherever it dies -------------------------------------------------------------------------------------------------


CHANGES: dict[str, Callable[[Vault], object]] = {
    "seal": lambda vault: ScopeMoves(vault.authority).seal("app", roles={"read": ["web"]}, is_shared=True),
    "split": lambda vault: ScopeMoves(vault.authority).split("both", "both/in"),
    "merge-inner": lambda vault: ScopeMoves(vault.authority).merge("other/in"),
    "merge": lambda vault: ScopeMoves(vault.authority).merge("both"),
    "move-in": lambda vault: vault.move("app/0", "both/moved"),
    "move-out": lambda vault: vault.move("both/0", "app/moved"),
}


@pytest.mark.no_cover
@pytest.mark.parametrize("change", CHANGES)
def test_wherever_a_move_dies_every_path_answers_as_before_or_as_after(tmp_path: Path, change: str) -> None:
    (tmp_path / "origin").mkdir()
    origin = scope_world(tmp_path / "origin")
    for scope in ("both", "other"):
        origin.scopes().create(scope, read=["web"], is_shared=True)
    values = {}
    for below, number in itertools.product(("app", "both", "both/in", "other", "other/in"), range(2)):
        values[f"{below}/{number}"] = f"{below} {number}"
        origin.admin().write(f"{below}/{number}", "older")
        origin.admin().write(f"{below}/{number}", f"{below} {number}")
    origin.moves().split("other", "other/in")
    origin.close()
    for crash in crashes(origin, tmp_path):
        with crash as world:
            is_done = True
            try:
                CHANGES[change](ScopedVault.over(dying(world, crash.changes)))
            except SecurecfgError:
                is_done = False
            verify_values(world, values)
            if is_done:
                verify_no_leftovers(world)
                break
            with suppress(AlreadyExists, SecretNotFound):  # where all was done but the last erasure
                CHANGES[change](world.admin())
            world.clock.advance(timedelta(hours=3))
            verify_values(world, values)
            world.admin().write("app/last" if change != "seal" else "last", "1")
            finish(world)
            verify_no_leftovers(world)
    assert crash.changes >= 4


def finish(world: ScopeWorld) -> None:
    """Let everything that a crash has left be swept, as opening and compacting do in time."""
    from securecfg.vault.commits.maintenance import compact

    for _, part in world.admin().parts():
        compact(part.opened)


def verify_values(world: ScopeWorld, values: dict[str, str]) -> None:
    """Check that each path has its value, exactly once, and members read what they may."""
    moved = {"app/0": "both/moved", "both/0": "app/moved"}
    admin, web = world.admin(), world.as_member("web")
    listed = admin.list()
    assert len(listed) == len(set(listed))
    for path, value in values.items():
        places = [each for each in (path, moved.get(path, path)) if each in listed]
        assert len(set(places)) == 1, (path, places)
        assert text_of(admin, places[0]) == value
        assert text_of(admin, places[0], at=1) == "older"
        if places[0] in web.list():
            assert text_of(web, places[0]) == value
    names = {charter_of(part.opened).path for name, part in admin.parts() if name}
    assert names >= {"other/"}
