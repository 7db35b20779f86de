"""Replacing the keys of sealed scopes: who can do which part, and what whoever kept the old ones learns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from securecfg.audit import Event
from securecfg.crypto import KIND_TEXT, parse_dek
from securecfg.errors import EpochInUse, ScopeSealed, SecretNotFound, VersionNotFound
from securecfg.keys import Purpose
from securecfg.store import ID_LIMIT, Space
from securecfg.vault.commits.staging import StagingArea, StagingMoved
from securecfg.vault.drafts import Content, Drafts, NewVersion
from securecfg.vault.keys.changes import KeyChanges
from securecfg.vault.keys.usage import look_at_keys
from securecfg.vault.rekeying.scopes import ScopeKeyring
from securecfg.vault.scopes.opening import charter_of, grants_of
from securecfg.vault.scopes.value_keys import rewrap_values
from securecfg.vault.verification import verify_vault
from tests.vault.copies import copy_of
from tests.vault.crash_steps import Attempt, crashes, dying
from tests.vault.scope_world import ScopeWorld, scope_world
from tests.vault.world import ADMIN, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from securecfg import Vault


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
    """Make a scope that the administrator writes, and one that is shared, with secrets in both."""
    scopes = world.scopes()
    scopes.create("pay", read=["pay"])
    scopes.create("both", read=["web"], write=["web"], is_shared=True)
    admin = world.admin()
    for number in range(3):
        admin.write(f"pay/{number}", f"pay {number}")
    admin.write("pay/large", b"x" * 1_500_000)
    world.as_member("web").write("both/a", "of web")


def keyring(world: ScopeWorld) -> ScopeKeyring:
    return ScopeKeyring(world.admin().authority)


def data_keys(part: Vault) -> set[tuple[int, int]]:
    """Return form and epoch of all data keys that only readers open."""
    rows = part.opened.store.scan(Space.DEK, 0, ID_LIMIT - 1, 1_000)
    return {parse_dek(row) for _, row in rows if parse_dek(row)[0] != 1}


def granted(part: Vault) -> set[int]:
    """Return the epochs of which anything is granted to anybody."""
    return {number >> 8 for number, _ in part.opened.store.scan(Space.GRANT, 0, ID_LIMIT - 1, 1_000)}


def verify_values(world: ScopeWorld) -> None:
    pay = world.as_member("pay")
    assert [text_of(pay, f"pay/{number}") for number in range(3)] == [f"pay {number}" for number in range(3)]
    assert pay.read("pay/large").field("").reveal() == b"x" * 1_500_000
    assert verify_vault(pay.opened).problems == []
    pay.log.verify()


# --- key rotate scope PATH --------------------------------------------------------------------------------------------


def test_who_does_not_read_brings_over_the_names_and_a_reader_the_data_keys(world: ScopeWorld) -> None:
    done = keyring(world).rotate("pay/2")
    assert (done.path, done.epoch, done.value_epoch, done.is_scope_key_alone) == ("pay/", 1, 1, True)
    assert (done.retired_values, done.waiting) == ((), 4)
    part = world.admin().scope("pay")
    assert data_keys(part) == {(3, 0)}
    pay = world.as_member("pay")  # opening is enough
    assert data_keys(pay) == {(2, 1)}
    done = keyring(world).rotate("pay", resumes=True)
    assert (done.epoch, done.value_epoch, done.retired_values, done.waiting) == (1, 1, (0,), 0)
    assert granted(world.admin().scope("pay")) == {1}
    verify_values(world)


def test_where_the_administrator_reads_all_is_done_at_once(world: ScopeWorld) -> None:
    done = keyring(world).rotate("both")
    assert (done.retired_values, done.waiting, done.is_scope_key_alone) == ((0,), 0, True)
    assert text_of(world.as_member("web"), "both/a") == "of web"
    assert granted(world.admin().scope("both")) == {1}


def test_what_is_written_meanwhile_is_under_the_new_keys_and_open_handles_go_on(world: ScopeWorld) -> None:
    admin, pay = world.admin(), world.as_member("pay")
    text_of(pay, "pay/0")
    keyring(world).rotate("pay")
    admin.write("pay/0", "newer")
    assert (text_of(pay, "pay/0"), text_of(pay, "pay/1")) == ("newer", "pay 1")
    assert data_keys(pay) == {(3, 0), (3, 1)}
    assert rewrap_values(pay.opened) == 4
    assert rewrap_values(pay.opened) == 0


def test_the_charter_names_the_new_value_key_and_the_log_says_who_made_it(world: ScopeWorld) -> None:
    before = charter_of(world.as_member("pay").opened)
    keyring(world).rotate("pay")
    after = charter_of(world.as_member("pay").opened)
    assert (after.serial, after.previous, after.parties) == (before.serial + 1, before.digest, before.parties)
    assert after.keys != before.keys
    rotated = [
        (entry.record.obj["kind"], entry.record.obj["epoch"])
        for entry in world.admin().scope("pay").log.records()
        if entry.record.event is Event.KEY_ROTATED
    ]
    assert rotated[:2] == [("scope", 1), ("value", 1)]


def test_a_value_key_stays_as_long_as_a_data_key_is_under_it(world: ScopeWorld) -> None:
    scopes = keyring(world)
    scopes.rotate("pay")
    with pytest.raises(EpochInUse, match="4 data keys"):
        scopes.retire("pay", 0, of_values=True)
    with pytest.raises(EpochInUse, match="in use"):
        scopes.retire("pay", 1, of_values=True)
    with pytest.raises(VersionNotFound):
        scopes.retire("pay", 7, of_values=True)
    verify_values(world)
    scopes.retire("pay", 0, of_values=True)
    assert granted(world.admin().scope("pay")) == {1}
    verify_values(world)


def test_usage_tells_how_many_data_keys_are_under_each_value_key(world: ScopeWorld) -> None:
    keyring(world).rotate("pay")
    part = world.admin().scope("pay")
    part.write("pay/new", "1")
    values = [key for key in look_at_keys(part.authority, ["scope"]) if key.subject == "value"]
    assert [(key.number, key.is_active, key.uses) for key in values] == [(0, False, 4), (1, True, 1)]
    told = [(key.epoch, key.rows) for key in KeyChanges(part.authority).usage() if key.purpose == "value"]
    assert told == [(0, 4), (1, 1)]


def test_refuses_paths_in_no_scope(world: ScopeWorld) -> None:
    for path in ("app", "pa", "pay2/x"):
        with pytest.raises(SecretNotFound):
            keyring(world).rotate(path)


def test_several_rotations_before_a_reader_comes_leave_nothing_behind(world: ScopeWorld) -> None:
    scopes = keyring(world)
    for number in range(3):
        scopes.rotate("pay")
        world.admin().write(f"pay/extra{number}", str(number))
    verify_values(world)
    assert scopes.rotate("pay", resumes=True).retired_values == (0, 1, 2)
    verify_values(world)


def test_a_large_change_that_was_prepared_under_a_value_key_before_is_not_published_under_it(
    world: ScopeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    scopes = world.scopes()
    scopes.grant("pay", "audit", "read")
    publish = StagingArea.publish

    def late(area: StagingArea, *args: object, **options: object) -> None:
        monkeypatch.undo()
        scopes.revoke("pay", "audit", "read")
        publish(area, *args, **options)  # type: ignore[arg-type]  # passed through

    admin = world.admin()
    monkeypatch.setattr(StagingArea, "publish", late)
    admin.write("pay/large", b"y" * 1_500_000)
    opened = admin.authority_over("pay/large").opened
    opened.refresh()
    entry = opened.entry(b"pay/large")
    assert entry is not None
    version = opened.locate(b"pay/large", entry, 0).version
    assert version.number == 2
    epoch = parse_dek(opened.store.get(Space.DEK, version.dek_id) or b"")[1]
    assert epoch == opened.replica.keyring.active(Purpose.VALUE).epoch
    with pytest.raises(ScopeSealed):
        grants_of(world.as_member("audit").opened).seed(epoch)


def test_rows_that_were_prepared_under_a_value_key_before_are_published_by_nobody(world: ScopeWorld) -> None:
    """Moves and new keys prepare rows too, and no decision of a policy stands between them and their publication."""
    scopes = world.scopes()
    scopes.grant("pay", "audit", "read")
    opened = world.admin().authority_over("pay/late").opened
    area = StagingArea(opened)
    new = NewVersion(ADMIN, world.clock.now_ns())
    area.take(Drafts(opened, area).write(b"pay/late", Content.of(KIND_TEXT, b"y"), new))
    scopes.revoke("pay", "audit", "read")
    with pytest.raises(StagingMoved):
        area.publish(list, lambda: None, "")


def test_a_damaged_data_key_does_not_keep_readers_out(world: ScopeWorld) -> None:
    keyring(world).rotate("pay")
    store = world.admin().scope("pay").opened.store
    dek_id, row = next((number, row) for number, row in store.scan(Space.DEK, 0, ID_LIMIT - 1, 1_000) if row[0] == 3)
    from securecfg.store import Put

    store.stage([Put(Space.DEK, dek_id, row[:-1] + bytes((row[-1] ^ 1,)))])
    pay = world.as_member("pay")
    assert data_keys(pay) == {(3, 0), (2, 1)}
    assert keyring(world).rotate("pay", resumes=True).waiting == 1


# --- root and log -----------------------------------------------------------------------------------------------------


def test_every_scope_gets_a_root_of_its_own_and_everybody_goes_on(world: ScopeWorld) -> None:
    pay = world.as_member("pay")
    before = bytes(pay.opened.replica.root)
    assert keyring(world).rotate_roots() == ["both/", "pay/"]
    assert text_of(pay, "pay/0") == "pay 0"
    assert bytes(pay.opened.replica.root) != before
    verify_values(world)


def test_a_scope_that_fails_does_not_hold_up_the_others(world: ScopeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    before = bytes(world.as_member("pay").opened.replica.root)
    rotate = KeyChanges.rotate_root
    calls = []

    def fail_first(changes: KeyChanges) -> int:
        calls.append(changes)
        if len(calls) == 1:
            message = "no"
            raise SecretNotFound(message)
        return rotate(changes)

    monkeypatch.setattr(KeyChanges, "rotate_root", fail_first)
    with pytest.raises(SecretNotFound):
        keyring(world).rotate_roots()
    assert bytes(world.as_member("pay").opened.replica.root) != before


def test_the_log_of_a_scope_gets_a_new_key(world: ScopeWorld) -> None:
    epoch, vkey = keyring(world).rotate_audit("pay")
    pay = world.as_member("pay")
    assert (epoch, vkey) == (1, str(pay.log.current_vkey))
    pay.log.verify()


# --- crashes ----------------------------------------------------------------------------------------------------------


def test_wherever_a_rotation_dies_everybody_goes_on_and_it_can_be_finished(tmp_path: Path) -> None:
    (tmp_path / "origin").mkdir()
    origin = scope_world(tmp_path / "origin")
    fill(origin)
    origin.close()
    for crash in crashes(origin, tmp_path):
        with crash as world:
            with Attempt(world) as attempt:
                ScopeKeyring(dying(world, crash.changes).authority).rotate("both")
            assert text_of(world.as_member("web"), "both/a") == "of web"
            done = keyring(world).rotate("both", resumes=attempt.is_done or crash.changes > 0)
            assert (done.waiting, done.is_scope_key_alone) == (0, True)
            part = world.as_member("web").scope("both")
            assert granted(part) == {done.value_epoch}
            report = verify_vault(part.opened)
            assert (report.problems, report.orphans) == ([], {})
            if attempt.is_done:
                break
    assert crash.changes >= 5
