"""A scope that is lost is given up, in one step and for ever; one that somebody can still use is not, by a mistake."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from securecfg.audit import Event
from securecfg.errors import (
    AccessDenied,
    AlreadyExists,
    Conflict,
    RollbackSuspected,
    ScopeSealed,
    SecretNotFound,
    SecurecfgError,
    Tampered,
)
from securecfg.keys import open_provider
from securecfg.policy import Document
from securecfg.store import ID_LIMIT, Delete, Put, Space, open_sqlite
from securecfg.vault.administration import Administration
from securecfg.vault.administrators.break_glass_sets import BreakGlass, unfinished
from securecfg.vault.adoption import adopt
from securecfg.vault.commits.epochs import plan_key_change
from securecfg.vault.moves.scopes import ScopeMoves
from securecfg.vault.rekeying.roles import RoleRotation
from securecfg.vault.scopes import scopes as scopes_module
from securecfg.vault.scopes.chartering import CharterDraft, settled
from securecfg.vault.scopes.discarding import Condition, LostScopes
from securecfg.vault.scopes.opening import charter_of, slot_ids
from securecfg.vault.scopes.registry import read_registry
from securecfg.vault.state.replica import KEYRING_ID
from securecfg.vault.verification import verify_vault
from tests.vault.copies import copy_of
from tests.vault.crash_steps import crashes, dying
from tests.vault.scope_world import ScopeWorld, scope_world
from tests.vault.scopes.test_scopes_meanwhile import once_before
from tests.vault.world import ADMIN, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from securecfg.vault.commits.publishing import Plan, Publication
    from securecfg.vault.scopes.discarding import Judgement


def made_world(folder: Path) -> ScopeWorld:
    """Return a world with a scope `lost` of web, another one of web and pay, and secrets in both and in none."""
    world = scope_world(folder)
    world.scopes().create("lost", read=["web"], write=["web"])
    world.scopes().create("other", read=["web", "pay"], write=["web"])
    web = world.as_member("web")
    web.write("lost/key", "of lost")
    web.write("other/key", "of other")
    world.admin().write("app/key", "of app")
    world.close()
    return world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ScopeWorld]:
    world = copy_of(made_world, tmp_path / "world")
    yield world
    world.close()


def lost(world: ScopeWorld) -> LostScopes:
    return LostScopes(world.admin().authority)


def number_of(world: ScopeWorld, path: str = "lost/") -> int:
    return read_registry(world.admin().opened).scopes[path].number


# --- what can become of a scope ---------------------------------------------------------------------------------------


def take_head(world: ScopeWorld, path: str = "lost/") -> None:
    """Take the head of a scope away, as whoever may write the file can."""
    number = number_of(world, path)
    world.close()
    with closing(sqlite3.connect(world.path)) as database:
        database.execute("DELETE FROM g WHERE i = ?", (number,))
        database.commit()


def alter_keyring(world: ScopeWorld) -> None:
    with closing(open_sqlite(world.path)) as store:
        part = store.partition(number_of(world))
        row = part.get(Space.META, KEYRING_ID) or b""
        part.stage([Put(Space.META, KEYRING_ID, row[:-1] + bytes([row[-1] ^ 1]))])


def take_rows(world: ScopeWorld, space: Space, last: int = 64) -> None:
    with closing(open_sqlite(world.path)) as store:
        part = store.partition(number_of(world))
        part.stage([Delete(space, id_) for id_, _ in part.scan(space, 0, ID_LIMIT - 1, 64)[-last:]])


def take_slot(world: ScopeWorld) -> None:
    """Take the slot of the vault's own key away, as somebody can who writes the scope."""
    with world.scopes()._inside("lost") as inside:
        opened, replica = inside.opened, inside.opened.replica
        own = charter_of(opened).party("administrator")
        assert own is not None
        rows = [row for row, slot_id in slot_ids(replica.slots).items() if slot_id == own.slot_id]
        slots = {id_: raw for id_, raw in replica.slots.items() if id_ not in {*rows, *(row + 256 for row in rows)}}

        def draft() -> CharterDraft:
            return CharterDraft(charter_of(opened).parties, replica.keyring, slots, {}, [])

        def make(publication: Publication, drafted: CharterDraft) -> Plan:
            plan = plan_key_change(opened, publication, drafted.slots, drafted.keyring)
            plan.deletes += [Delete(Space.META, row) for row in rows]
            return plan

        inside._chartering.publish(draft, make, settled)


def leave_role(world: ScopeWorld) -> None:
    world.admin().administration.remove_member("web", "svc:web")


LOSSES: dict[str, tuple[Condition, Callable[[ScopeWorld], None]]] = {
    "head": (Condition.MISSING, take_head),
    "keyring": (Condition.DAMAGED, alter_keyring),
    "meta": (Condition.DAMAGED, lambda world: take_rows(world, Space.META)),
    "log": (Condition.DAMAGED, lambda world: take_rows(world, Space.LOG)),
    "a data key": (Condition.INCOMPLETE, lambda world: take_rows(world, Space.DEK, last=1)),
    "own slot": (Condition.CLOSED, take_slot),
    "readers": (Condition.UNREAD, leave_role),
}


def discard(world: ScopeWorld, *, is_lost: bool = True) -> None:
    scopes = lost(world)
    scopes.discard(scopes.judge("lost"), is_lost=is_lost, reason="flood")


def verify_given_up(world: ScopeWorld) -> None:
    """Check that nothing is left of the scope, and that nothing comes to lie where it was."""
    admin = world.admin()
    registry = read_registry(admin.opened)
    assert list(registry.scopes) == ["other/"]
    assert registry.reserved == {"lost/"}
    store = admin.opened.store
    (place,) = registry.retired
    assert place.number not in store.partitions()
    assert [store.partition(place.number).scan(space, 0, ID_LIMIT - 1, 64) for space in Space] == [[]] * len(Space)
    assert not admin.opened.is_destruction_pending
    assert admin.list() == ["app/key", "other/key"]
    uses: tuple[Callable[[], object], ...] = (lambda: admin.write("lost/key", "open"), lambda: admin.read("lost/key"))
    for use in uses:
        with pytest.raises(ScopeSealed, match="`lost/` was a sealed scope and was given up"):
            use()
    for part in (admin, admin.scope("other")):
        assert verify_vault(part.opened).problems == []


@pytest.mark.parametrize("loss", LOSSES)
def test_a_scope_that_is_lost_is_given_up(world: ScopeWorld, loss: str) -> None:
    condition, lose = LOSSES[loss]
    lose(world)
    scopes = lost(world)
    judgement = scopes.judge("lost/")
    assert judgement.condition is condition
    assert judgement.message
    discard(world, is_lost=condition not in {Condition.MISSING, Condition.DAMAGED})
    verify_given_up(world)
    (record,) = (each.record for each in world.admin().log.records() if each.record.event is Event.SCOPE_DISCARDED)
    told = {"path": "lost/", "number": 1, "kind": str(condition), "reason": "flood"}
    assert {name: record.obj[name] for name in told} == told
    if loss == "readers":
        world.admin().administration.add_member("web", "svc:web", identity=world.identity("web").read_identity())
    RoleRotation(world.admin().authority).rotate_role("web")
    assert text_of(world.as_member("web"), "other/key") == "of other"


@pytest.mark.parametrize("loss", ["a data key", "own slot", "readers"])
def test_what_somebody_might_still_use_is_not_given_up_without_a_word(world: ScopeWorld, loss: str) -> None:
    LOSSES[loss][1](world)
    with pytest.raises(Conflict) as caught:
        discard(world, is_lost=False)
    assert "--lost" in (caught.value.hint or "")
    assert sorted(read_registry(world.admin().opened).scopes) == ["lost/", "other/"]
    if loss == "own slot":
        assert text_of(world.as_member("web"), "lost/key") == "of lost"


def test_a_scope_that_somebody_reads_is_never_given_up(world: ScopeWorld) -> None:
    with pytest.raises(Conflict, match="`lost/` is whole, and somebody reads it"):
        discard(world)
    assert text_of(world.as_member("web"), "lost/key") == "of lost"


def test_a_scope_that_the_vault_reads_itself_is_never_given_up(world: ScopeWorld) -> None:
    world.scopes().create("shared", read=["pay"], is_shared=True)
    world.admin().write("shared/key", "of shared")
    world.admin().administration.remove_member("pay", "svc:pay")
    scopes = lost(world)
    judgement = scopes.judge("shared")
    assert judgement.condition is Condition.WHOLE
    with pytest.raises(Conflict):
        scopes.discard(judgement, is_lost=True)


def test_a_scope_that_went_back_is_adopted_and_not_given_up(world: ScopeWorld, tmp_path: Path) -> None:
    number, older = number_of(world), keep(world, tmp_path)
    web = world.as_member("web")
    web.write("lost/key", "newer")
    world.admin().scope("lost").list()
    put_back(world, older, number)
    with pytest.raises(RollbackSuspected):
        lost(world).judge("lost")


def keep(world: ScopeWorld, tmp_path: Path) -> Path:
    """Return a copy of the file as it is."""
    world.close()
    return Path(shutil.copy(world.path, tmp_path / "kept.vault"))


def put_back(world: ScopeWorld, kept: Path, number: int) -> None:
    """Put back all rows of a partition, and its head, from a copy of the file."""
    world.close()
    with closing(sqlite3.connect(world.path)) as database:
        database.execute("ATTACH ? AS old", (str(kept),))
        database.execute("DELETE FROM p WHERE n = ?", (number,))
        database.execute("DELETE FROM g WHERE i = ?", (number,))
        database.execute("INSERT INTO p SELECT * FROM old.p WHERE n = ?", (number,))
        database.execute("INSERT INTO g SELECT * FROM old.g WHERE i = ?", (number,))
        database.commit()


def test_who_puts_the_rows_of_a_scope_back_does_not_bring_it_back(world: ScopeWorld, tmp_path: Path) -> None:
    number, kept = number_of(world), keep(world, tmp_path)
    take_head(world)
    discard(world)
    put_back(world, kept, number)
    with closing(open_sqlite(world.path)) as store:
        assert number in store.partitions()
    verify_given_up(world)


def test_beside_a_new_scope_at_its_path_the_old_one_is_noticed(world: ScopeWorld, tmp_path: Path) -> None:
    number, kept = number_of(world), keep(world, tmp_path)
    take_head(world)
    discard(world)
    world.scopes().create("lost", read=["web"], write=["web"])
    assert number_of(world) != number
    world.as_member("web").write("lost/key", "new")
    put_back(world, kept, number)
    with pytest.raises(Tampered, match="two scopes say that they are `lost/`"):
        world.as_member("web")
    assert [path for path, _ in world.admin().parts()] == ["", "lost/", "other/"]
    assert text_of(world.as_member("web"), "lost/key") == "new"


def test_its_path_is_free_for_another_scope_and_for_nothing_else(world: ScopeWorld) -> None:
    take_head(world)
    discard(world)
    admin = world.admin()
    changes: tuple[Callable[[], object], ...] = (
        lambda: admin.move("app/key", "lost/key"),
        lambda: admin.write("lost/deep/er", "x"),
    )
    for change in changes:
        with pytest.raises(ScopeSealed, match="given up"):
            change()
    world.scopes().create("lost", read=["pay"], write=["pay"])
    pay = world.as_member("pay")
    pay.write("lost/key", "of pay")
    assert read_registry(world.admin().opened).reserved == frozenset()
    ScopeMoves(world.admin().authority).merge("lost", reader=world.identity("pay"))
    world.admin().write("lost/key", "of the vault")
    assert text_of(world.admin(), "lost/key") == "of the vault"


def test_a_scope_around_it_frees_its_path_too(world: ScopeWorld) -> None:
    world.scopes().create("a/b", read=["web"], write=["web"])
    take_head(world, "a/b/")
    scopes = lost(world)
    scopes.discard(scopes.judge("a/b"))
    world.scopes().create("a", read=["web"], write=["web"])
    assert read_registry(world.admin().opened).reserved == frozenset()
    world.as_member("web").write("a/b/key", "sealed")
    assert text_of(world.as_member("web"), "a/b/key") == "sealed"


@pytest.fixture
def nested(world: ScopeWorld) -> ScopeWorld:
    """A scope `other/in` in `other`."""
    ScopeMoves(world.admin().authority).split("other", "other/in", reader=world.identity("web"))
    world.as_member("web").write("other/in/key", "of in")
    return world


def test_the_scope_around_goes_on_to_leave_it_out(nested: ScopeWorld) -> None:
    take_head(nested, "other/in/")
    scopes = lost(nested)
    scopes.discard(scopes.judge("other/in"))
    with pytest.raises(ScopeSealed):
        nested.admin().write("other/in/key", "unsealed")
    with pytest.raises(ScopeSealed):
        nested.as_member("web").write("other/in/key", "of the outer one")
    with pytest.raises(AlreadyExists, match="`other/`"):
        nested.scopes().create("other/in", read=["web"])
    ScopeMoves(nested.admin().authority).split("other", "other/in", reader=nested.identity("web"))
    nested.as_member("web").write("other/in/key", "new")
    assert text_of(nested.as_member("web"), "other/in/key") == "new"
    assert text_of(nested.as_member("web"), "other/key") == "of other"


def test_what_lay_in_it_stays_and_is_left_out_by_another_one_in_its_place(nested: ScopeWorld) -> None:
    take_head(nested, "other/")
    scopes = lost(nested)
    scopes.discard(scopes.judge("other"))
    assert text_of(nested.as_member("web"), "other/in/key") == "of in"
    with pytest.raises(ScopeSealed, match="given up"):
        ScopeMoves(nested.admin().authority).merge("other/in", reader=nested.identity("web"))
    with pytest.raises(ScopeSealed, match="given up"):
        nested.admin().write("other/key", "unsealed")
    assert nested.scopes().create("other", read=["web"], write=["web"]).excluded == ("other/in/",)
    web = nested.as_member("web")
    web.write("other/key", "new")
    assert [text_of(web, path) for path in ("other/key", "other/in/key")] == ["new", "of in"]
    ScopeMoves(nested.admin().authority).merge("other/in", reader=nested.identity("web"))
    assert text_of(nested.as_member("web"), "other/in/key") == "of in"


def test_no_scope_is_made_around_one_that_was_merged_meanwhile(
    nested: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    ScopeMoves(nested.admin().authority).split("other/in", "other/in/deep", reader=nested.identity("web"))
    take_head(nested, "other/")
    scopes = lost(nested)
    scopes.discard(scopes.judge("other"))
    take_head(nested, "other/in/")

    def meanwhile() -> None:
        scopes = lost(nested)
        scopes.discard(scopes.judge("other/in"))

    once_before(monkeypatch, scopes_module, "publish_together", meanwhile)
    with pytest.raises(Conflict, match="somebody else changed the scopes"):
        nested.scopes().create("other", read=["web"], write=["web"])


def test_a_backup_from_before_brings_it_back_only_where_it_is_adopted(world: ScopeWorld, tmp_path: Path) -> None:
    kept = keep(world, tmp_path)
    take_head(world)
    discard(world)
    world.close()
    shutil.copy(kept, world.path)
    with pytest.raises(RollbackSuspected):
        world.admin()
    adopt(world.path, open_provider(world.key), ADMIN, clock=world.clock)
    assert read_registry(world.admin().opened).reserved == frozenset()
    assert text_of(world.as_member("web"), "lost/key") == "of lost"


# --- what changes meanwhile -------------------------------------------------------------------------------------------


def judged(world: ScopeWorld) -> tuple[LostScopes, Judgement]:
    scopes = lost(world)
    return scopes, scopes.judge("lost")


def test_a_scope_that_was_mended_meanwhile_is_kept(world: ScopeWorld, tmp_path: Path) -> None:
    number, kept = number_of(world), keep(world, tmp_path)
    take_head(world)
    scopes, judgement = judged(world)
    put_back(world, kept, number)
    scopes = lost(world)
    with pytest.raises(Conflict, match="at the same moment"):
        scopes.discard(judgement, is_lost=True)
    assert text_of(world.as_member("web"), "lost/key") == "of lost"


def test_a_scope_that_somebody_changed_meanwhile_is_kept(world: ScopeWorld) -> None:
    web = world.as_member("web")
    take_slot(world)
    scopes, judgement = judged(world)
    web.write("lost/key", "newer")
    with pytest.raises(Conflict, match="at the same moment"):
        scopes.discard(judgement, is_lost=True)
    assert text_of(world.as_member("web"), "lost/key") == "newer"


def test_a_scope_that_somebody_came_to_read_meanwhile_is_kept(world: ScopeWorld) -> None:
    web = world.identity("web").read_identity()
    leave_role(world)
    scopes, judgement = judged(world)
    # Who died before the scope heard of it.
    Administration(world.admin().authority).add_member("web", "svc:web", identity=web)
    with pytest.raises(Conflict, match="at the same moment"):
        scopes.discard(judgement, is_lost=True)
    world.scopes().propagate()
    assert text_of(world.as_member("web"), "lost/key") == "of lost"


def test_a_scope_that_somebody_else_gave_up_meanwhile_is_no_more(world: ScopeWorld) -> None:
    take_head(world)
    scopes, judgement = judged(world)
    discard(world)
    with pytest.raises(Conflict, match="at the same moment"):
        scopes.discard(judgement)
    with pytest.raises(SecretNotFound):
        scopes.judge("lost")


def test_who_may_not_manage_keys_gives_nothing_up(world: ScopeWorld) -> None:
    take_head(world)
    _, judgement = judged(world)
    text = '[roles.writer]\nmembers = ["svc:writer"]\n[[roles.writer.grants]]\n'
    text += 'actions = ["read", "write", "list", "destroy"]\npaths = ["**"]\n'
    with pytest.raises(SecurecfgError):
        world.admin().administration.apply_policy([Document("grants.toml", "grants", text)])
    writer = LostScopes(world.open("svc:writer").authority)
    with pytest.raises(AccessDenied):
        writer.judge("lost")
    with pytest.raises(AccessDenied):
        writer.discard(judgement)
    assert "lost/" in read_registry(world.admin().opened).scopes


def test_no_break_glass_role_goes_on_to_wait_for_it(world: ScopeWorld) -> None:
    BreakGlass(world.admin().authority)._note("glass", ["lost/", "other/"])
    take_head(world)
    discard(world)
    assert unfinished(world.admin().opened) == {"glass": ["other/"]}


@pytest.mark.parametrize("loss", ["head", "keyring", "readers"])
def test_wherever_giving_up_dies_the_scope_is_as_it_was_or_given_up(tmp_path: Path, loss: str) -> None:
    (tmp_path / "origin").mkdir()
    origin = made_world(tmp_path / "origin")
    LOSSES[loss][1](origin)
    origin.close()
    for crash in crashes(origin, tmp_path):
        with crash as world:
            scopes = LostScopes(dying(world, crash.changes).authority)
            is_done = True
            try:
                scopes.discard(scopes.judge("lost"), is_lost=True)
            except SecurecfgError:
                is_done = False
            registry = read_registry(world.admin().opened)
            assert ("lost/" in registry.scopes) != ("lost/" in registry.reserved)
            if "lost/" in registry.scopes:
                assert lost(world).judge("lost").condition is LOSSES[loss][0]
                discard(world)
            verify_given_up(world)
            if is_done:
                break
    assert crash.changes >= 1
