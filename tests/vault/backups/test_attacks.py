"""What somebody who may write the file, or who is a member of one scope, does so that backups are worth nothing."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from securecfg.audit import Checkpoint, Event, Sealer, leaf_hash, origin_of, sign_checkpoint
from securecfg.audit.merkle import root_after
from securecfg.clock import to_datetime
from securecfg.errors import RollbackSuspected, Tampered
from securecfg.keys import open_provider
from securecfg.policy import Document
from securecfg.store import PARTITION_LIMIT, ROW_LIMIT_BYTES, Put, Space, open_sqlite
from securecfg.vault.adoption import adopt
from securecfg.vault.backups import rows as backup_rows
from securecfg.vault.backups.restoring import Restoring
from securecfg.vault.commits.maintenance import compact
from securecfg.vault.commits.publishing import Plan
from securecfg.vault.scopes import sealed_states
from securecfg.vault.scopes.adoption import adopt_scopes, compare_scopes
from securecfg.vault.scopes.charters import VOUCHER_ID, sign_voucher
from securecfg.vault.state.head import build_head, parse_head
from securecfg.vault.state.replica import read_header
from tests.vault.backups.test_scopes import PAY, WEB, back_up, folder, identity, put_in_place, recipient, restore, world
from tests.vault.scope_world import EVERYTHING, ROLES, ScopeWorld
from tests.vault.world import ADMIN, ManualClock, text_of

if TYPE_CHECKING:
    from pathlib import Path

    from securecfg.keys import KeyProvider
    from tests.vault.backups.test_scopes import Restore

__all__ = ["folder", "recipient", "restore", "world"]

UNNAMED = 9


def copy_of(world: ScopeWorld) -> Path:
    """Return a copy of the file, as somebody may keep who reads it."""
    world.close()
    with closing(open_sqlite(world.path)) as store:
        store.purge()
    copy = world.folder / "copy.vault"
    shutil.copy(world.path, copy)
    return copy


def forge(world: ScopeWorld, leaf: bytes, *, ahead: timedelta = timedelta()) -> None:
    """Put a scope with one record beside the others, signed by a key of one's own."""
    put_in_place(world, copy_of(world), WEB, UNNAMED)
    key = Ed25519PrivateKey.generate()
    with closing(open_sqlite(world.path)) as store:
        part = store.partition(UNNAMED)
        scope_id = read_header(part)[0].vault_id
        before = part.head() or b""
        state = parse_head(before)[1]._replace(
            base_size=1, epoch_key=key.public_key().public_bytes_raw(), next_id=1, stagings=()
        )
        state = state._replace(published=state.published + int(ahead.total_seconds() * 1e9))
        root = root_after(0, (), [leaf_hash(leaf)])
        note = sign_checkpoint(Checkpoint(origin_of(scope_id), 1, root, state.digest()), key)
        voucher = sign_voucher(key, scope_id, bytes(32), (1, root), state)
        rows = [Put(Space.LOG, 0, leaf), Put(Space.META, VOUCHER_ID, voucher.to_bytes())]
        part.commit(rows, expect=before, head=build_head(note, state.to_bytes()))


def test_no_backup_is_made_of_a_record_that_whoever_restores_would_refuse(
    world: ScopeWorld, folder: Path, recipient: KeyProvider
) -> None:
    """What no key is needed for is looked at in the same way on both sides: one stray scope would spoil all."""
    forge(world, b"no leaf at all")
    with pytest.raises(Tampered, match="the sealed scope in partition 9"):
        back_up(world, folder, recipient)


def test_another_scope_in_the_place_of_one_that_no_key_opens_spoils_nothing(
    world: ScopeWorld, folder: Path, recipient: KeyProvider, restore: Restore
) -> None:
    other = copy_of(world)
    put_in_place(world, other, WEB, UNNAMED)
    back_up(world, folder, recipient)
    world.close()
    put_in_place(world, other, PAY, UNNAMED)
    back_up(world, folder, recipient)
    there, _ = restore()
    assert text_of(there.as_member("web"), "web/key") == "of web"


@pytest.mark.parametrize("number", [0, PAY], ids=["vault", "scope"])
@pytest.mark.parametrize("space", [Space.SEALER, Space.GRANT, Space.VALUE])
def test_no_backup_is_made_of_a_row_that_no_store_takes_back(
    world: ScopeWorld, folder: Path, recipient: KeyProvider, space: Space, number: int
) -> None:
    """Nothing refers to it, so nobody else notices it."""
    world.close()
    row, id_ = bytes(ROW_LIMIT_BYTES + 1), 1 if space is Space.VALUE else 5_000
    with closing(sqlite3.connect(world.path)) as connection:
        if number:
            connection.execute("INSERT INTO p VALUES (?, ?, ?, ?)", (number, space.value, id_, row))
        else:
            connection.execute(f"INSERT INTO s{space.value} VALUES (?, ?)", (id_, row))  # noqa: S608 - a number
        connection.commit()
    with pytest.raises(Tampered, match="a row has 524289 bytes"):
        back_up(world, folder, recipient)
    assert list(folder.iterdir()) == []


def test_a_part_is_not_dated_by_the_clock_of_a_member(
    world: ScopeWorld, folder: Path, recipient: KeyProvider, restore: Restore
) -> None:
    back_up(world, folder, recipient)
    ahead = ManualClock(world.clock.ns)
    ahead.advance(timedelta(days=5_000))
    world.open(None, key=f"identity:{world.folder / 'web'}.identity", clock=ahead).write("web/late", "x")
    back_up(world, folder, recipient)
    found = Restoring(folder, recipient, world.clock).find(at=to_datetime(world.clock.now_ns()))
    assert found.part == 2
    there, _ = restore(2)
    assert "web/late" in there.as_member("web").list()


def test_a_part_is_not_dated_by_who_has_no_key(world: ScopeWorld, folder: Path, recipient: KeyProvider) -> None:
    leaf = world.admin().opened.store.partition(WEB).get(Space.LOG, 0) or b""
    forge(world, leaf, ahead=timedelta(days=5_000))
    back_up(world, folder, recipient)
    assert Restoring(folder, recipient).find(at=to_datetime(world.clock.now_ns())).part == 1


def test_what_no_partition_can_be_stops_nobody(world: ScopeWorld, folder: Path, recipient: KeyProvider) -> None:
    world.close()
    with closing(sqlite3.connect(world.path)) as connection:
        connection.execute("INSERT INTO g VALUES (?, x'00')", (PARTITION_LIMIT,))
        connection.commit()
    assert text_of(world.as_member("pay"), "pay/key") == "of pay"
    assert back_up(world, folder, recipient).scopes == ("pay/", "web/")


def append_what_nobody_opens(world: ScopeWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a member who may only list add a record to the log of the scope, as its own program may."""
    member = world.as_member("audit")
    member.list()
    with monkeypatch.context() as hostile:
        seal = Sealer.seal

        def spoilt(*args: Any) -> bytes:  # noqa: ANN401 - those of `seal`
            leaf = seal(*args)
            return leaf[:-1] + bytes((leaf[-1] ^ 1,))

        hostile.setattr(Sealer, "seal", spoilt)
        record = member.authority.session().record(Event.SCOPE_ADOPTED, {"path": "pay/", "size": 1, "old_size": 0})
        member.authority.publish(lambda _: Plan(records=[record]))
    world.close()


@pytest.mark.parametrize("harm", ["a record by who may only list", "without a voucher in the backup"])
def test_a_scope_that_is_damaged_does_not_keep_the_rest_from_being_restored(
    world: ScopeWorld, folder: Path, recipient: KeyProvider, monkeypatch: pytest.MonkeyPatch, harm: str
) -> None:
    if harm == "a record by who may only list":
        append_what_nobody_opens(world, monkeypatch)
    else:
        monkeypatch.setattr(sealed_states, "META_IDS", [id_ for id_ in sealed_states.META_IDS if id_ != VOUCHER_ID])
        monkeypatch.setattr(backup_rows, "_META_KEYS", [(Space.META, id_) for id_ in sealed_states.META_IDS])
        monkeypatch.setattr(sealed_states.Front, "parse", lambda *_: None)
    back_up(world, folder, recipient)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_STATE_HOME", str(world.folder / "another machine"))
    restoring = Restoring(folder, recipient, world.clock)
    there = ScopeWorld(world.folder / "there", world.clock)
    there.folder.mkdir()
    for file in (*world.folder.glob("*.identity"), world.folder / "key"):
        shutil.copy(file, there.folder)
    with pytest.raises(Tampered, match=r"the sealed scope `(pay|web)/` in the backup is damaged"):
        restoring.restore(restoring.find(), there.path, ADMIN)
    assert not there.path.exists()
    done = restoring.restore(restoring.find(), there.path, ADMIN, keeps_damaged=True)
    damaged = {scope.path: bool(scope.damage) for scope in done.scopes}
    assert damaged["pay/"]
    assert not damaged["web/"] or harm != "a record by who may only list"
    try:
        assert text_of(there.admin(), "app/key") == "of the vault"
        if harm == "a record by who may only list":
            assert text_of(there.as_member("web"), "web/key") == "of web"
            assert text_of(there.as_member("pay"), "pay/key") == "of pay"
        else:
            with pytest.raises(Tampered):
                there.as_member("pay")
    finally:
        there.close()


def test_a_part_does_not_mix_a_scope_with_what_somebody_put_back(
    world: ScopeWorld, folder: Path, recipient: KeyProvider, restore: Restore
) -> None:
    """What a compaction changed after the backup before: no log, and so no anchor, shows that it is gone."""
    before = copy_of(world)
    compact(world.as_member("web").opened)
    world.close()
    back_up(world, folder, recipient)
    world.close()
    put_in_place(world, before, WEB, WEB)
    compact(world.as_member("web").opened)
    world.as_member("web").write("web/more", "x")
    world.close()
    back_up(world, folder, recipient)
    there, done = restore(2)
    assert [scope.was_opened for scope in done.scopes] == [True, True]
    assert text_of(there.as_member("web"), "web/more") == "x"


@pytest.mark.parametrize("key", ["identity", "vault"])
@pytest.mark.parametrize("name", ["web", "drop"], ids=["reads another scope", "only drops"])
def test_who_drops_into_a_restored_scope_accepts_it_too(
    world: ScopeWorld, folder: Path, recipient: KeyProvider, monkeypatch: pytest.MonkeyPatch, name: str, key: str
) -> None:
    """The drop order went back, for which the machine refused all that the identity opens."""
    grant_drop(world)
    world.scopes().create("box", read=["pay"], write=["pay"], drop=["web", "drop"])
    back_up(world, folder, recipient)
    world.scopes().grant("box", "audit", "list")
    world.as_member(name).drop("box/a", "x")
    world.close()
    world.path.unlink()
    with monkeypatch.context() as elsewhere:
        elsewhere.setenv("XDG_STATE_HOME", str(world.folder / "another machine"))
        restoring = Restoring(folder, recipient, world.clock)
        restoring.restore(restoring.find(), world.path, ADMIN)
    with pytest.raises(RollbackSuspected):
        world.as_member(name)
    if key == "identity":
        (would,) = [
            each for each in compare_scopes(world.path, identity(world, name), clock=world.clock) if each.is_box
        ]
        with pytest.raises(RollbackSuspected):
            world.as_member(name)
        done = adopt_scopes(world.path, identity(world, name), clock=world.clock)
        assert would in done
        assert (would.path, would.size, would.recorded_size) == ("box/", 1, 2)
    else:
        adopt(world.path, open_provider(world.key), ADMIN, clock=world.clock)
    world.as_member(name).drop("box/b", "dropped")
    if key == "identity":
        adopt_scopes(world.path, identity(world, "pay"), clock=world.clock)
    assert text_of(world.as_member("pay"), "box/b") == "dropped"


def grant_drop(world: ScopeWorld) -> None:
    """Add a role whose member may do nothing but drop, and what policy asks for."""
    text = "".join(EVERYTHING.format(role) for role in (*ROLES, "drop"))
    world.admin().administration.apply_policy([Document("grants.toml", "grants", text)])
    world.person("drop")
