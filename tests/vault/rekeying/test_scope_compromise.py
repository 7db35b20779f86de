"""The worst day of a vault with sealed scopes: all keys are replaced, and who reads does what the root cannot."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from securecfg.audit import Event
from securecfg.crypto import ROOT_SCOPE, dek_context, open_granted_dek
from securecfg.errors import Conflict, RollbackSuspected, Tampered, VersionNotFound
from securecfg.keys import Keyring, Purpose
from securecfg.keys.value_grants import ValueGrants
from securecfg.store import ID_LIMIT, Space
from securecfg.vault.commits.epochs import plan_key_change
from securecfg.vault.keys.changes import find_older
from securecfg.vault.keys.departures import Departure, find_exposed, new_compromise, newest_compromise
from securecfg.vault.moves.scopes import ScopeMoves
from securecfg.vault.rekeying.compromise import Compromise
from securecfg.vault.rekeying.scope_compromise import ScopeCompromise, finish_as_member
from securecfg.vault.scopes.opening import grants_of
from securecfg.vault.scopes.registry import read_registry
from securecfg.vault.verification import verify_vault
from tests.vault.copies import copy_of
from tests.vault.crash_steps import Attempt, crashes, dying
from tests.vault.scope_world import ScopeWorld, scope_world
from tests.vault.world import text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from securecfg.vault.commits.publishing import Plan, Publication


def filled(folder: Path) -> ScopeWorld:
    world = scope_world(folder)
    fill(world)
    return world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ScopeWorld]:
    world = copy_of(filled, tmp_path)
    yield world
    world.close()


def fill(world: ScopeWorld) -> None:
    """Make a scope whose readers write, one whose readers do not, and one that is shared."""
    scopes = world.scopes()
    scopes.create("web", read=["web"], write=["web"])
    scopes.create("pay", read=["pay"])
    scopes.create("both", read=["web"], is_shared=True)
    admin = world.admin()
    admin.write("app/a", "of the vault")
    world.as_member("web").write("web/a", "of web")
    admin.write("pay/a", "of pay")
    admin.write("pay/a", "of pay again")
    admin.write("both/a", "of both")


def worst(world: ScopeWorld) -> ScopeCompromise:
    return ScopeCompromise(world.admin().authority)


def rows_of(world: ScopeWorld, path: str, space: Space) -> list[tuple[int, bytes]]:
    return world.admin().scope(path).opened.store.scan(space, 0, ID_LIMIT - 1, 10_000)


def test_whoever_had_every_key_opens_no_row_of_a_scope_that_is_there_now(world: ScopeWorld) -> None:
    web = world.as_member("web").scope("web").opened
    root, vault_id, keyring, seed = bytes(web.replica.root), web.replica.vault_id, web.replica.keyring, None
    seed = grants_of(web).seed(0)
    thief = ValueGrants(vault_id, keyring, None, lambda _: None)  # type: ignore[arg-type]  # opens nothing
    thief._seeds[0] = seed
    spaces = (Space.HISTORY, Space.DEK, Space.VALUE, Space.SEGMENT)
    before = {(space, row) for space in spaces for _, row in rows_of(world, "web", space)}
    worst(world).declare(reason="a stolen laptop")
    finish_as_member(world.as_member("web"))
    worst(world).resume()
    sealed = dict(rows_of(world, "web", Space.META))[2]
    with pytest.raises(Tampered):
        Keyring.open(sealed, root, vault_id, int.from_bytes(sealed[2:10]))
    after = {(space, row) for space in spaces for _, row in rows_of(world, "web", space)}
    assert not before & after
    for number, row in rows_of(world, "web", Space.DEK):
        if row[0] != 1:
            ctx = dek_context(vault_id, ROOT_SCOPE, 0, number)
            with pytest.raises(Tampered):
                open_granted_dek(row, ctx, thief.wrap(0), thief.private_key(0))
    now = world.as_member("web").scope("web").opened.replica.keyring
    for purpose in (Purpose.AUDIT, Purpose.LOG_SIGNING, Purpose.MASKING, Purpose.SCOPE, Purpose.VALUE):
        assert now.active(purpose).key not in {entry.key for entry in keyring.keys}
    epochs = [(entry.purpose, entry.epoch) for entry in now.keys if entry.purpose in {Purpose.SCOPE, Purpose.VALUE}]
    # The scope key is replaced once more with the own key of the vault.
    assert sorted(epochs) == sorted([(Purpose.SCOPE, 2), (Purpose.VALUE, 1)])


def test_says_of_each_scope_who_is_needed(world: ScopeWorld) -> None:
    _, left = worst(world).declare()
    told = {each.path: (each.waiting, each.secrets, each.has_both, each.is_done) for each in left}
    assert told == {
        "both/": (0, 0, True, True),
        "pay/": (2, 1, False, False),
        "web/": (1, 1, True, False),
    }
    ((count, web),) = [each for each in finish_as_member(world.as_member("web")) if each[1].path == "web/"]
    assert (count, web.waiting, web.secrets) == (1, 0, 0)
    ((count, pay),) = finish_as_member(world.as_member("pay"))
    assert (count, pay.waiting, pay.secrets, pay.has_both) == (0, 0, 1, False)
    world.scopes().grant("pay", "pay", "write")
    ((count, pay),) = finish_as_member(world.as_member("pay"))
    assert (count, pay.is_done) == (1, True)
    _, left = worst(world).resume()
    assert all(each.is_done for each in left)
    assert {info.value_epochs for info in map(world.scopes().show, ("web", "pay", "both"))} == {1}
    for path in ("web", "pay", "both"):
        assert verify_vault(world.admin().scope(path).opened).problems == []


def test_everything_reads_as_before(world: ScopeWorld) -> None:
    worst(world).declare()
    web, pay = world.as_member("web"), world.as_member("pay")
    assert [text_of(web, path) for path in ("web/a", "both/a")] == ["of web", "of both"]
    assert [text_of(pay, "pay/a", at) for at in (1, 2)] == ["of pay", "of pay again"]
    assert text_of(world.admin(), "app/a") == "of the vault"
    for path in ("web", "pay", "both"):
        world.admin().scope(path).log.verify()


def test_the_report_is_over_all_versions_of_the_scopes_too(world: ScopeWorld) -> None:
    done, _ = worst(world).declare(reason="a theft")
    assert [(each.path, each.versions) for each in done.exposed] == [
        ("app/a", (1,)),
        ("both/a", (1,)),
        ("pay/a", (1, 2)),
        ("web/a", (1,)),
    ]
    admin = world.admin()
    listed = [each for _, part in admin.parts() for each in find_exposed(part.authority)]
    everything = {(path, "everything (a theft)") for path in ("app/a", "both/a", "pay/a", "web/a")}
    # The own key of the vault, which read what is shared, is replaced too.
    assert {(each.path, each.key) for each in listed} == everything | {("both/a", "slot 1 (role, administrator)")}
    admin.write("pay/a", "a new value")
    assert find_exposed(world.admin().scope("pay").authority) == []


def test_a_scope_that_was_made_later_is_left_alone(world: ScopeWorld) -> None:
    worst(world).declare()
    world.scopes().create("later", read=["web"])
    _, left = worst(world).resume()
    assert [each.path for each in left] == ["both/", "pay/", "web/"]
    assert newest_compromise(world.admin().scope("later").opened) is None


def epochs_of(world: ScopeWorld, path: str) -> set[tuple[int, int]]:
    keyring = world.admin().scope(path).opened.replica.keyring
    purposes = (Purpose.SCOPE, Purpose.VALUE, Purpose.AUDIT, Purpose.MASKING)
    return {(purpose, keyring.active(purpose).epoch) for purpose in purposes}


def test_a_scope_that_was_made_where_the_clock_was_ahead_is_not_passed_over(world: ScopeWorld) -> None:
    world.clock.advance(timedelta(minutes=4))
    world.scopes().create("ahead", read=["web"], write=["web"])
    world.as_member("web").write("ahead/a", "of web")
    world.clock.advance(-timedelta(minutes=4))
    before = epochs_of(world, "ahead")
    _, left = worst(world).declare()
    assert not before & epochs_of(world, "ahead")
    assert ("ahead/", 1) in {(each.path, each.secrets) for each in left}
    assert [each.path for each in find_exposed(world.admin().scope("ahead").authority)] == ["ahead/a"]


def test_a_writer_cannot_exempt_his_scope_by_its_header(world: ScopeWorld) -> None:
    part = world.as_member("web").scope("web")
    opened, replica = part.opened, part.opened.replica

    def plan(publication: Publication) -> Plan:
        kept = replica.header
        replica.header = kept._replace(created_ns=1 << 63)
        try:
            plan = plan_key_change(opened, publication, replica.slots, replica.keyring)
        finally:
            replica.header = kept
        plan.records = [part.authority.session().record(Event.KEY_ROTATED, {"kind": "root", "epoch": 2})]
        return plan

    opened.publisher.publish(plan)
    before = epochs_of(world, "web")
    worst(world).declare()
    assert not before & epochs_of(world, "web")


def test_a_compromise_comes_before_a_scope_that_is_being_made(world: ScopeWorld) -> None:
    seen: list[bool] = []

    def progress(_done: int, _whole: int) -> None:
        if not seen:
            seen.append(True)
            Compromise(world.admin().authority).replace_keys(new_compromise(), "", drops_slots=False)

    with pytest.raises(Conflict, match="replaced while the scope was made"):
        ScopeMoves(world.admin().authority).seal("app", roles={"read": ["web"], "write": ["web"]}, progress=progress)
    assert seen
    worst(world).resume()
    ScopeMoves(world.admin().authority).seal("app", roles={"read": ["web"], "write": ["web"]})
    assert text_of(world.as_member("web"), "app/a") == "of the vault"


def test_a_note_of_before_that_names_no_scopes_is_about_all_of_them(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Departure, "__new__", _without_scopes(Departure.__new__))
        Compromise(world.admin().authority).replace_keys(new_compromise(), "", drops_slots=False)
    declared = newest_compromise(world.admin().opened)
    assert declared is not None
    assert declared.scope_ids is None
    before = epochs_of(world, "web")
    _, left = worst(world).resume()
    assert [each.path for each in left] == ["both/", "pay/", "web/"]
    noted = newest_compromise(world.admin().scope("web").opened)
    assert noted is not None
    assert noted.name == declared.name
    after = epochs_of(world, "web")
    assert not before & after
    worst(world).resume()
    assert epochs_of(world, "web") == after


def _without_scopes(make: Callable[..., Departure]) -> Callable[..., Departure]:
    """Make notes as they were before they named scopes."""
    return lambda *args, **named: make(*args, **{**named, "scopes": None})


def test_a_member_goes_on_only_where_something_was_declared(world: ScopeWorld) -> None:
    with pytest.raises(VersionNotFound):
        finish_as_member(world.as_member("web"))
    with pytest.raises(VersionNotFound):
        worst(world).resume()


def test_a_second_one_begins_anew(world: ScopeWorld) -> None:
    worst(world).declare()
    first = newest_compromise(world.admin().scope("web").opened)
    worst(world).declare()
    second = newest_compromise(world.admin().scope("web").opened)
    assert first is not None
    assert second is not None
    assert first.name != second.name
    assert text_of(world.as_member("web"), "web/a") == "of web"


@pytest.mark.no_cover
def test_wherever_it_dies_it_can_be_finished(tmp_path: Path) -> None:
    (tmp_path / "origin").mkdir()
    origin = scope_world(tmp_path / "origin", ["web"])
    origin.scopes().create("web", read=["web"], write=["web"])
    origin.scopes().create("both", read=["web"], is_shared=True)
    origin.as_member("web").write("web/a", "of web")
    origin.close()
    for crash in crashes(origin, tmp_path):
        with crash as world:
            with Attempt(world) as attempt:
                ScopeCompromise(dying(world, crash.changes).authority).declare()
            with suppress(RollbackSuspected):  # of which some scopes have the new administrators, and some not yet
                assert text_of(world.as_member("web"), "web/a") == "of web"
            if newest_compromise(world.admin().opened) is None:
                worst(world).declare()
            else:
                worst(world).resume()
            finish_as_member(world.as_member("web"))
            _, left = worst(world).resume()
            assert [(each.path, each.is_done) for each in left] == [("both/", True), ("web/", True)]
            names, ends = set(), []
            for path in ("both", "web"):
                part = world.admin().scope(path)
                declared = newest_compromise(part.opened)
                assert declared is not None
                names.add(declared.name)
                ends.append(declared.end)
                assert verify_vault(part.opened).problems == []
            vaults = newest_compromise(world.admin().opened)
            assert vaults is not None
            places = read_registry(world.admin().opened).scopes.values()
            assert names == {vaults.name_in(place.scope_id) for place in places}
            assert find_older(world.admin().scope("web").opened, ends[-1]) == []
            assert text_of(world.as_member("web"), "web/a") == "of web"
            if attempt.is_done:
                break
    assert crash.changes >= 20
