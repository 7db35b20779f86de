"""Scopes that are made, split and merged while somebody else changes the scopes, the policy or the members of roles."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from securecfg.audit import Event
from securecfg.errors import AccessDenied, AlreadyExists, Conflict, StoreBusy, WrongKey
from securecfg.policy import Document
from securecfg.vault.administration import Administration, to_document
from securecfg.vault.commits.joint import PartChange
from securecfg.vault.commits.publisher import Publisher
from securecfg.vault.keys.changes import KeyChanges
from securecfg.vault.keys.departures import find_exposed
from securecfg.vault.keys.slots import Slots
from securecfg.vault.moves import relocation
from securecfg.vault.moves import scopes as scope_moves
from securecfg.vault.moves.scopes import ScopeMoves
from securecfg.vault.opened import ROLES_PATH
from securecfg.vault.rekeying.roles import RoleRotation
from securecfg.vault.scopes import chartering as scope_chartering
from securecfg.vault.scopes import making as scope_making
from securecfg.vault.scopes import scopes
from securecfg.vault.scopes.changes import ScopeChanges
from securecfg.vault.scopes.opening import charter_of
from securecfg.vault.scopes.registry import ABANDONED_NS, read_registry
from securecfg.vault.scopes.scopes import Scopes
from securecfg.vault.trust.certificates import CERTIFICATES_PATH, read_certificates
from securecfg.vault.trust.signatories import HeldKeys
from tests.vault.copies import copy_of
from tests.vault.scope_world import ScopeWorld, scope_world
from tests.vault.world import text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from securecfg.vault.drafts import Content
    from securecfg.vault.scopes.rotation import ScopeRotation

WRITERS = {"read": ["pay"], "write": ["pay"]}


def make_world(folder: Path) -> ScopeWorld:
    world = scope_world(folder)
    for path in ("a/y", "a/b/x", "a/b/c/z"):
        world.admin().write(path, path)
    return world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ScopeWorld]:
    world = copy_of(make_world, tmp_path)
    yield world
    world.close()


def split(world: ScopeWorld, path: str, subtree: str) -> None:
    world.moves().split(path, subtree, reader=world.identity("pay"))


def merge(world: ScopeWorld, path: str) -> None:
    world.moves().merge(path, reader=world.identity("pay"))


def once_before(monkeypatch: pytest.MonkeyPatch, owner: object, name: str, happens: Callable[[], object]) -> None:
    """Do something right before the next call of a function."""
    real = getattr(owner, name)

    def interrupted(*args: Any, **named: Any) -> object:  # noqa: ANN401 - handed on
        monkeypatch.setattr(owner, name, real)
        happens()
        return real(*args, **named)

    monkeypatch.setattr(owner, name, interrupted)


def before_commit(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object]) -> None:
    """Do something when all of the next move is copied."""
    once_before(monkeypatch, relocation, "publish_together", happens)


def verify_whole(world: ScopeWorld, *scopes: str) -> None:
    """Check which scopes there are, and that every secret is read and listed where its path leads."""
    admin = world.admin()
    registry = read_registry(admin.opened)
    assert sorted(registry.scopes) == sorted(scopes)
    assert registry.making == {}
    pay = world.as_member("pay")
    for path in ("a/y", "a/b/x", "a/b/c/z"):
        part = pay if registry.scope_of(path) else admin
        assert text_of(part, path) == path
        assert path in part.list()


def test_no_scope_is_given_older_members_than_somebody_else_gave_it_meanwhile(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.scopes().create("pay", read=["pay"])
    world.person("pay", "left")
    world.as_member("pay")
    assert world.as_member("left").list() == []
    other = world.admin().administration
    once_before(monkeypatch, ScopeChanges, "plan_documents", lambda: other.remove_member("pay", "svc:left"))
    world.person("audit", "new")
    roles: dict[str, list[str]] = world.admin().scope("pay").opened.system_document(ROLES_PATH, {})
    assert roles["pay"] == ["svc:pay"]
    world.as_member("pay")  # gives the key of the role to who lacks it
    with pytest.raises(WrongKey):
        world.as_member("left")


@pytest.mark.parametrize("role", ["web", "pay"])
def test_roles_of_a_scope_are_those_of_the_vault_whoever_is_faster(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    world.scopes().create("pay", read=["pay"])
    world.person(role, "left")
    other = world.admin().administration
    once_before(monkeypatch, ScopeChanges, "plan_documents", lambda: other.remove_member(role, "svc:left"))
    world.person("audit", "new")
    roles: dict[str, list[str]] = world.admin().scope("pay").opened.system_document(ROLES_PATH, {})
    assert roles == world.admin().opened.system_document(ROLES_PATH, {})
    assert roles[role] == [f"svc:{role}"]


@pytest.mark.parametrize("change", ["first key", "grant", "rotate"])
def test_no_scope_gets_older_members_with_a_key_than_it_has(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    world.scopes().create("pay", read=["pay"])
    world.scopes().grant("pay", "web", "read")
    world.person("web", "left")
    world.as_member("web")
    assert world.as_member("left").list() == []
    other, serials = world.admin().administration, list[int]()
    real = Scopes.propagate

    def died(scopes: Scopes, only: object = None) -> None:
        if scopes is changing:
            raise KeyboardInterrupt
        real(scopes, None)
        del only

    def leave() -> None:
        other.remove_member("web", "svc:left")
        serials.append(charter_of(world.admin().scope("pay").opened).serial)

    changing = RoleRotation(world.admin().authority)
    changes: dict[str, Callable[[], object]] = {
        "first key": lambda: changing.grant("pay", "audit", "read"),
        "grant": lambda: changing.grant("pay", "web", "write"),
        "rotate": lambda: changing.rotate_role("pay"),
    }
    monkeypatch.setattr(Scopes, "propagate", died)
    once_before(monkeypatch, scope_chartering, "publish_together", leave)
    with pytest.raises(KeyboardInterrupt):
        changes[change]()
    assert charter_of(world.admin().scope("pay").opened).serial > serials[0]
    world.as_member("web")
    with pytest.raises(WrongKey):
        world.as_member("left")


def test_a_certificate_that_comes_meanwhile_is_not_lost(world: ScopeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world.scopes().create("pay", read=["pay"])
    once_before(monkeypatch, ScopeChanges, "plan_documents", lambda: world.person("pay", "second"))
    world.person("pay", "first")
    assert set(read_certificates(world.admin().scope("pay").opened)["pay"]) == {"svc:pay", "svc:first", "svc:second"}


def test_certificates_that_somebody_adds_right_before_are_not_overwritten(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.scopes().create("pay", read=["pay"])
    around = PartChange(world.admin().opened, verify_settled=lambda: None)
    found: list[list[str]] = []
    with world.scopes()._inside("pay") as first, world.scopes()._inside("pay") as second:

        def write(inside: ScopeRotation, member: str) -> None:
            def make() -> tuple[dict[bytes, Content], PartChange]:
                known = read_certificates(inside.opened)["pay"]
                found.append(sorted(known))
                return {CERTIFICATES_PATH: to_document({"pay": known | {member: []}})}, around

            inside.write_documents(make)

        once_before(monkeypatch, ScopeChanges, "plan_documents", lambda: write(second, "svc:second"))
        write(first, "svc:first")
    assert found == [["svc:pay"], ["svc:pay"], ["svc:pay", "svc:second"]]
    assert sorted(read_certificates(world.admin().scope("pay").opened)["pay"]) == ["svc:first", "svc:pay", "svc:second"]


def test_members_that_change_all_the_time_end_with_an_error(world: ScopeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world.scopes().create("pay", read=["pay"])
    other, others = Administration(world.admin().authority), itertools.count()
    real = ScopeChanges.plan_documents

    def overtaken(*args: Any) -> object:  # noqa: ANN401 - handed on
        other.add_member("audit", f"svc:{next(others)}")
        return real(*args)

    monkeypatch.setattr(ScopeChanges, "plan_documents", overtaken)
    with pytest.raises(StoreBusy):
        world.person("audit", "new")


# --- scopes in scopes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second"), [("a", "a/b"), ("a/b", "a")])
def test_of_two_who_seal_one_subtree_in_another_one_does(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch, first: str, second: str
) -> None:
    def overtaken() -> None:
        with pytest.raises(Conflict, match=f"a scope is being made at `{second}/`"):
            world.moves().seal(first, roles=WRITERS)

    before_commit(monkeypatch, overtaken)
    world.moves().seal(second, roles=WRITERS)
    verify_whole(world, f"{second}/")


def test_no_empty_scope_is_made_in_what_is_being_sealed(world: ScopeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    def overtaken() -> None:
        with pytest.raises(Conflict, match="a scope is being made at `a/`"):
            world.scopes().create("a/new", read=["pay"])

    before_commit(monkeypatch, overtaken)
    world.moves().seal("a", roles=WRITERS)
    verify_whole(world, "a/")


def test_no_scope_is_begun_that_was_free_until_it_was_signed(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    once_before(monkeypatch, scope_moves, "begin_making", lambda: world.moves().seal("a", roles=WRITERS))
    with pytest.raises(AlreadyExists):
        world.moves().seal("a/b", roles=WRITERS)
    verify_whole(world, "a/")


@pytest.mark.parametrize("change", ["seal", "create"])
def test_no_scope_is_registered_in_one_that_was_begun_while_people_signed(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    outer = world.admin().authority
    changes: dict[str, tuple[object, Callable[[], object]]] = {
        "seal": (scope_moves, lambda: world.moves().seal("a/b", roles=WRITERS)),
        "create": (scopes, lambda: world.moves().create("a/new", read=["pay"])),
    }
    module, make = changes[change]
    once_before(monkeypatch, module, "begin_making", lambda: scope_making.begin_making(outer, "a/", {}, bytes(16)))
    with pytest.raises(Conflict, match="a scope is being made at `a/`"):
        make()
    assert read_registry(world.admin().opened).scopes == {}


def test_of_two_splits_of_one_subtree_in_another_one_is_made(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.moves().seal("a", roles=WRITERS)

    def overtaken() -> None:
        with pytest.raises(Conflict, match="a scope is being made at `a/b/`"):
            split(world, "a", "a/b/c")

    before_commit(monkeypatch, overtaken)
    split(world, "a", "a/b")
    verify_whole(world, "a/", "a/b/")


def test_a_scope_that_was_begun_and_left_keeps_nobody_from_making_others(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(scope_making, "_give_up", lambda *_: None)
        patched.setattr(relocation, "publish_together", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            world.moves().seal("a", roles=WRITERS)
    with pytest.raises(Conflict, match="a scope is being made at `a/`"):
        world.moves().seal("a/b", roles=WRITERS)
    world.clock.ns += ABANDONED_NS + 1
    world.moves().seal("a/b", roles=WRITERS)
    verify_whole(world, "a/b/")


def test_a_scope_that_was_begun_and_left_is_made_again_at_once(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(scope_making, "_give_up", lambda *_: None)
        patched.setattr(relocation, "publish_together", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            world.moves().seal("a", roles=WRITERS)
    world.moves().seal("a", roles=WRITERS)
    verify_whole(world, "a/")


def test_a_move_that_took_too_long_makes_no_scope_around_another_one(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overtaken() -> None:
        world.clock.ns += ABANDONED_NS + 1
        world.moves().create("a/new", read=["pay"])

    before_commit(monkeypatch, overtaken)
    with pytest.raises(AlreadyExists, match="sealed scope at `a/new/`"):
        world.moves().seal("a", roles=WRITERS)
    verify_whole(world, "a/new/")


def test_a_move_whose_scope_somebody_else_makes_ends_with_a_conflict(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it had copied is erased by then, and nobody has tampered with it."""

    def overtaken() -> None:
        scope_making.begin_making(world.admin().authority, "a/", {}, bytes(16))

    before_commit(monkeypatch, overtaken)
    with pytest.raises(Conflict, match="somebody else makes the scope `a/`"):
        world.moves().seal("a", roles=WRITERS)
    world.moves().seal("a", roles=WRITERS)
    verify_whole(world, "a/")


# --- what a charter leaves out ----------------------------------------------------------------------------------------


def test_what_is_split_off_while_a_scope_is_merged_is_left_out_by_the_one_around(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.moves().seal("a", roles=WRITERS)
    split(world, "a", "a/b")
    before_commit(monkeypatch, lambda: split(world, "a/b", "a/b/c"))
    merge(world, "a/b")
    assert world.scopes().show("a").excluded == ("a/b/c/",)
    verify_whole(world, "a/", "a/b/c/")


def test_what_is_merged_back_while_a_scope_is_merged_goes_along(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.moves().seal("a", roles=WRITERS)
    split(world, "a", "a/b")
    split(world, "a/b", "a/b/c")
    before_commit(monkeypatch, lambda: merge(world, "a/b/c"))
    merge(world, "a/b")
    assert world.scopes().show("a").excluded == ()
    verify_whole(world, "a/")


def test_a_scope_is_not_merged_into_one_that_is_not_around_it_any_more(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.moves().seal("a", roles=WRITERS)
    split(world, "a", "a/b/c")
    before_commit(monkeypatch, lambda: split(world, "a", "a/b"))
    with pytest.raises(Conflict):
        merge(world, "a/b/c")
    verify_whole(world, "a/", "a/b/", "a/b/c/")


def test_a_subtree_in_which_another_one_is_merged_back_is_not_split_off(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.moves().seal("a", roles=WRITERS)
    split(world, "a", "a/b/c")
    before_commit(monkeypatch, lambda: merge(world, "a/b/c"))
    with pytest.raises(Conflict, match="what it leaves out"):
        split(world, "a", "a/b")
    verify_whole(world, "a/")


def test_a_subtree_in_which_another_one_was_split_off_is_not_split_off(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by a version of this library that does not look whether another scope is being made."""
    world.moves().seal("a", roles=WRITERS)

    def overtaken() -> None:
        with monkeypatch.context() as patched:
            for module in (scope_moves, scope_making):
                patched.setattr(module, "verify_none_begun", lambda *_: None)
            split(world, "a", "a/b/c")

    before_commit(monkeypatch, overtaken)
    with pytest.raises(Conflict, match="what it leaves out"):
        split(world, "a", "a/b")
    verify_whole(world, "a/", "a/b/c/")


def test_who_reads_meanwhile_what_is_merged_is_not_forgotten(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would lose the right by the merge, which nobody was told of, and know values that nobody lists."""
    world.moves().seal("a", roles=WRITERS, is_shared=True)
    split(world, "a", "a/b")
    before_commit(monkeypatch, lambda: world.scopes().grant("a/b", "web", "read"))
    with pytest.raises(Conflict, match="who may do what in `a/b/`"):
        merge(world, "a/b")
    merge(world, "a/b")
    exposed = {found.path for found in find_exposed(world.as_member("pay").scope("a").authority)}
    assert {"a/b/x", "a/b/c/z"} <= exposed
    verify_whole(world, "a/")


@pytest.mark.parametrize("into", ["a", ""])
def test_a_merge_is_refused_that_would_change_other_rights_than_it_says(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch, into: str
) -> None:
    """Where it goes into the vault itself all rights end; else those of the scope around count, too."""
    world.moves().seal("a", roles=WRITERS)
    split(world, "a", "a/b")
    if not into:
        merge(world, "a/b")
    before_commit(monkeypatch, lambda: world.scopes().grant("a", "web", "list"))
    with pytest.raises(Conflict, match="who may do what in `a/`"):
        merge(world, "a/b" if into else "a")
    verify_whole(world, "a/", *(["a/b/"] if into else []))


# --- members and policy -----------------------------------------------------------------------------------------------


def removal(world: ScopeWorld, name: str) -> Callable[[], object]:
    """Return what takes the role that was just given away from a member."""
    return lambda: world.admin().administration.remove_member("pay", f"svc:{name}")


@pytest.mark.parametrize("when", ["signed", "staged"])
@pytest.mark.parametrize("change", ["create", "seal", "grant", "rotate"])
def test_who_is_removed_while_a_key_of_his_role_is_made_does_not_get_it(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch, change: str, when: str
) -> None:
    world.person("pay", "gone")
    if change in {"grant", "rotate"}:
        world.scopes().create("new", read=["pay" if change == "rotate" else "web"])
    steps: dict[str, tuple[object, str]] = {
        "create": (scopes, "begin_making"),
        "seal": (scope_moves, "begin_making"),
        "grant": (Scopes, "_register"),
        "rotate": (RoleRotation, "_change_registry"),
    }
    make: Callable[[], object] = {
        "create": lambda: world.scopes().create("new", read=["pay"]),
        "seal": lambda: world.moves().seal("a", roles=WRITERS),
        "grant": lambda: world.scopes().grant("new", "pay", "read"),
        "rotate": lambda: RoleRotation(world.admin().authority).rotate_role("pay"),
    }[change]
    remove = removal(world, "gone")
    once_before(monkeypatch, *((Scopes, "_stage_memberships") if when == "signed" else steps[change]), remove)
    before = read_registry(world.admin().opened).roles
    with pytest.raises(Conflict, match="before all was signed"):
        make()
    assert read_registry(world.admin().opened).roles == before
    make()
    key = read_registry(world.admin().opened).roles["pay"]
    assert key != before.get("pay")
    assert world.scopes().holders("pay", key) == ["svc:pay"]
    with pytest.raises(WrongKey):
        world.as_member("gone")


def test_a_member_who_is_removed_when_a_scope_is_begun_is_none_in_it(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also by a handle that was opened when the vault had no scope, and no role a key."""
    world.person("pay", "gone")
    handle = world.admin()
    once_before(
        monkeypatch,
        scopes,
        "publish_together",
        lambda: handle.administration.remove_member("pay", "svc:gone"),
    )
    with pytest.raises(Conflict, match="before all was signed"):
        world.scopes().create("new", read=["pay"])
    key = read_registry(world.admin().opened).roles["pay"]
    world.scopes().create("new", read=["pay"])
    assert read_registry(world.admin().opened).roles["pay"] == key
    members: dict[str, list[str]] = world.as_member("pay").scope("new").opened.system_document(ROLES_PATH, {})
    assert members["pay"] == ["svc:pay"]
    with pytest.raises(WrongKey):
        world.as_member("gone")


@pytest.mark.parametrize("subtree", ["a/b", "a/empty"])
def test_a_policy_that_is_applied_during_a_split_is_that_of_the_scope(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch, subtree: str
) -> None:
    """Who applied it looked for the scopes before there was one, and comes to the one around it a moment later."""
    world.moves().seal("a", roles=WRITERS)
    text = '[roles.pay]\nmembers = ["svc:pay"]\n[[roles.pay.grants]]\nactions = ["list", "write"]\npaths = ["**"]\n'

    def apply() -> None:
        Administration(world.admin().authority).apply_policy([Document("grants.toml", "grants", text)])

    before_commit(monkeypatch, apply)
    split(world, "a", subtree)
    pay = world.as_member("pay")
    pay.write(f"{subtree}/x", "newer")
    with pytest.raises(AccessDenied):
        pay.read(f"{subtree}/x")


def test_a_role_that_loses_its_members_during_a_split_has_none_in_the_scope(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.moves().seal("a", roles=WRITERS)
    before_commit(monkeypatch, lambda: Administration(world.admin().authority).remove_member("web", "svc:web"))
    split(world, "a", "a/b")
    members: dict[str, list[str]] = world.as_member("pay").scope("a/b").opened.system_document(ROLES_PATH, {})
    assert "web" not in members


# --- the right to manage keys -----------------------------------------------------------------------------------------

KEEPER = """
[roles.keeper]
members = ["svc:keeper"]
[[roles.keeper.grants]]
actions = ["read", "delete", "write", "list"]
paths = ["**"]
"""
MANAGES = """
[[roles.keeper.grants]]
actions = ["key.manage"]
"""


def let(world: ScopeWorld, text: str) -> None:
    world.admin().administration.apply_policy([Document("grants.toml", "grants", text)])


@pytest.mark.parametrize(
    ("change", "step"),
    [
        ("seal", (relocation, "publish_together")),
        ("seal", (scope_moves, "begin_making")),
        ("split", (relocation, "publish_together")),
        ("merge", (relocation, "publish_together")),
        ("create", (scopes, "begin_making")),
        ("grant", (Publisher, "publish")),
        ("revoke", (HeldKeys, "sign")),
        ("root", (Publisher, "publish")),
        ("scope", (Publisher, "publish")),
        ("slot", (Publisher, "publish")),
        ("create", (scopes, "publish_together")),
        ("merge-back", (relocation, "publish_together")),
    ],
)
def test_who_loses_the_right_to_manage_keys_meanwhile_changes_nothing(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch, change: str, step: tuple[object, str]
) -> None:
    world.moves().seal("b", roles={"read": ["pay"]})
    if change in {"split", "merge", "merge-back"}:
        world.moves().seal("a", roles=WRITERS)
    if change == "merge-back":
        split(world, "a", "a/b")
    let(world, KEEPER + MANAGES)
    keeper = world.open("svc:keeper").authority
    reader = world.identity("pay")
    make: Callable[[], object] = {
        "seal": lambda: ScopeMoves(keeper).seal("a", roles=WRITERS),
        "split": lambda: ScopeMoves(keeper).split("a", "a/b", reader=reader),
        "merge": lambda: ScopeMoves(keeper).merge("a", reader=reader),
        "merge-back": lambda: ScopeMoves(keeper).merge("a/b", reader=reader),
        "create": lambda: Scopes(keeper).create("new", read=["pay"]),
        "grant": lambda: Scopes(keeper).grant("b", "web", "read"),
        "revoke": lambda: Scopes(keeper).revoke("b", "pay", "list"),
        "root": lambda: KeyChanges(keeper).rotate_root(),
        "scope": lambda: KeyChanges(keeper).begin_scope_epoch(),
        "slot": lambda: Slots(keeper).add(reader),
    }[change]
    before = read_registry(world.admin().opened)
    once_before(monkeypatch, *step, lambda: let(world, KEEPER))
    with pytest.raises(AccessDenied):
        make()
    admin = world.admin()
    after = read_registry(admin.opened)
    assert (after.scopes, after.making) == (before.scopes, {})
    assert set(world.scopes().show("b").roles) == {"administrator", "pay"}
    records = [entry.record for _, part in admin.parts() for entry in part.log.records()]
    theirs = [record for record in records if record.subject.id == "svc:keeper"]
    assert Event.ACCESS_DENIED in {record.event for record in theirs}
    assert not {Event.SCOPE_CREATED, Event.KEY_ROTATED, Event.KEY_SLOT_ADDED} & {record.event for record in theirs}
