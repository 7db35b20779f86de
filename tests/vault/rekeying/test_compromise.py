"""The worst day, rehearsed: somebody has every key of the vault and a copy of it, and learns nothing more."""

from __future__ import annotations

from contextlib import closing
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from securecfg.crypto import ROOT_SCOPE, dek_context, unwrap_dek
from securecfg.errors import (
    AccessDenied,
    LastSlot,
    SecurecfgError,
    SlotRemoved,
    StoreBusy,
    Tampered,
    VersionNotFound,
    WrongKey,
)
from securecfg.keys import Keyring, Purpose, generate_key_file, open_provider
from securecfg.store import Put, Space, open_sqlite
from securecfg.vault.backups.backups import Backups
from securecfg.vault.commits.maintenance import compact
from securecfg.vault.commits.staging import StagingArea
from securecfg.vault.index.rows import IndexRows, digest_of
from securecfg.vault.keys.changes import KeyChanges
from securecfg.vault.keys.departures import find_exposed
from securecfg.vault.keys.slots import Slots
from securecfg.vault.rekeying.compromise import Compromise, ExposedVersions
from securecfg.vault.rekeying.scope_compromise import ScopeCompromise
from securecfg.vault.state.replica import SLOT_IDS
from securecfg.vault.verification import verify_vault
from tests.decoder import KeyFile, decode
from tests.vault.crash_steps import crashes, dying
from tests.vault.world import ADMIN, World, grant, text_of

if TYPE_CHECKING:
    from pathlib import Path

    from securecfg import Vault


def add_key(world: World, vault: Vault, name: str) -> str:
    generate_key_file(world.folder / name)
    uri = f"file:{world.folder / name}"
    Slots(vault.authority).add(open_provider(uri), label=name)
    return uri


def fill(vault: Vault) -> None:
    vault.write("app/a", "first")
    vault.write("app/a", "second")
    vault.write("app/large", b"x" * 200_000)
    vault.write("app/gone", "deleted")
    vault.delete("app/gone")
    vault.write("app/destroyed", "1")
    vault.destroy("app/destroyed", 1)
    with vault.batch() as batch:
        for number in range(100):
            batch.write("app/many", str(number))


def rows_of(world: World, space: Space) -> list[tuple[int, bytes]]:
    with closing(open_sqlite(world.path, read_only=True)) as store:
        return store.scan(space, 0, 2**63 - 1, 100_000)


def test_whoever_had_every_key_opens_no_row_that_is_there_now(world: World, vault: Vault) -> None:
    fill(vault)
    replica = vault.opened.replica
    root, keyring, vault_id = replica.root, replica.keyring, replica.vault_id
    old_keys = {vault.opened.unwrap_data_key(id_, row) for id_, row in rows_of(world, Space.DEK)}
    old_rows = {(space, row) for space in Space for _, row in rows_of(world, space)}
    done = Compromise(vault.authority).declare(reason="a stolen laptop")
    vault.close()

    meta = dict(rows_of(world, Space.META))
    with pytest.raises(Tampered):
        Keyring.open(meta[2], root, vault_id, int.from_bytes(meta[2][2:10]))
    thief = IndexRows(vault_id, keyring)
    scope = keyring.scope(ROOT_SCOPE)
    known = {info.epoch for info in keyring.keys if info.purpose == Purpose.SCOPE}
    for id_, row in rows_of(world, Space.DEK):
        assert int.from_bytes(row[2:6]) not in known
        with pytest.raises(Tampered):
            unwrap_dek(scope.wrap, row, dek_context(vault_id, ROOT_SCOPE, scope.epoch, id_))
    for space in (Space.HISTORY, Space.SEGMENT, Space.DELTA):
        assert all(int.from_bytes(row[2:6]) not in known for _, row in rows_of(world, space))
    with pytest.raises(Tampered):
        thief.open_manifest(meta[3], digest_of(meta[3]), int.from_bytes(meta[3][6:14]))
    for space in (Space.HISTORY, Space.DEK, Space.VALUE, Space.SEGMENT):
        assert not old_rows.intersection((space, row) for _, row in rows_of(world, space))
    opened = world.open().opened
    new_keys = {opened.unwrap_data_key(id_, row) for id_, row in rows_of(world, Space.DEK)}
    assert not new_keys & old_keys
    assert opened.replica.keyring.active(Purpose.LOG_SIGNING).key != keyring.active(Purpose.LOG_SIGNING).key
    assert opened.replica.keyring.active(Purpose.AUDIT).key not in {each.key for each in keyring.keys}
    assert opened.replica.keyring.active(Purpose.MASKING).key not in {each.key for each in keyring.keys}
    assert len(new_keys) >= done.encrypted_count


def test_everything_reads_as_before(world: World, vault: Vault) -> None:
    fill(vault)
    phone = add_key(world, vault, "phone")
    before = [(info.version, info.created, info.state) for info in vault.history("app/many")]
    done = Compromise(vault.authority).declare()
    assert done.slots == 2
    assert [text_of(vault, "app/a", at) for at in (1, 2)] == ["first", "second"]
    assert [(info.version, info.created, info.state) for info in vault.history("app/many")] == before
    vault.close()
    other = world.open(key=phone)
    assert other.read("app/large").field("").reveal() == b"x" * 200_000
    other.undelete("app/gone", 1)
    assert text_of(other, "app/gone") == "deleted"
    report = verify_vault(other.opened)
    assert (report.problems, report.orphans) == ([], {})
    other.log.verify()
    other.close()
    assert decode(world.path, KeyFile(world.folder / "key")).unreferenced == set()


def test_the_report_names_every_version_that_could_be_read(world: World, vault: Vault) -> None:
    fill(vault)
    done = Compromise(vault.authority).declare(reason="a stolen laptop")
    assert list(done.exposed) == [
        ExposedVersions("app/a", (1, 2), is_live=True),
        ExposedVersions("app/gone", (1,), is_live=False),
        ExposedVersions("app/large", (1,), is_live=True),
        ExposedVersions("app/many", tuple(range(1, 101)), is_live=True),
    ]
    known = find_exposed(vault.authority)
    assert {each.path for each in known} == {"app/a", "app/large", "app/many"}
    assert {(each.is_compromise, each.key) for each in known} == {(True, "everything (a stolen laptop)")}
    for path in ("app/a", "app/large", "app/many"):
        vault.write(path, f"a new {path}")
    vault.write("app/later", "1")
    assert find_exposed(vault.authority) == []


def test_backups_made_before_stay_readable_and_are_named(world: World, vault: Vault) -> None:
    generate_key_file(world.folder / "backup.key")
    provider = open_provider(f"file:{world.folder / 'backup.key'}")
    backup = Backups(vault.authority).make(world.folder / "backup", [provider])
    done = Compromise(vault.authority).declare()
    assert [(note.backup, note.part, note.place) for note in done.backups] == [
        (backup.backup, 1, str(world.folder / "backup"))
    ]
    # What was put into the note of the chain before goes on to work with it.
    assert Backups(vault.authority).make(world.folder / "backup").part == 2


def test_slots_stay_with_their_keys_unless_they_are_dropped(world: World, vault: Vault) -> None:
    vault.write("app/a", "1")
    phone = add_key(world, vault, "phone")
    copy = world.open(key=phone)
    Compromise(vault.authority).declare()
    assert text_of(copy, "app/a") == "1"
    done = Compromise(vault.authority).declare(drops_slots=True)
    assert done.slots == 1
    with pytest.raises(SlotRemoved):
        copy.read("app/a", at=1)
    with pytest.raises(WrongKey):
        world.open(key=phone)
    assert text_of(world.open(), "app/a") == "1"
    record = next(entry.record for entry in vault.log.records() if entry.record.obj.get("removed"))
    assert (record.event, len(record.obj["removed"])) == ("key.compromised", 1)


def test_the_row_of_a_dropped_slot_is_no_slot_before_it_is_deleted(world: World, vault: Vault) -> None:
    phone = add_key(world, vault, "phone")
    row = vault.opened.replica.slots[SLOT_IDS.start + 1]
    Compromise(vault.authority).declare(drops_slots=True)
    vault.close()
    world.put_rows({(Space.META, SLOT_IDS.start + 1): row})
    with pytest.raises(WrongKey):
        world.open(key=phone)
    vault = world.open()
    assert [slot.number for slot in Slots(vault.authority).list()] == [1]
    assert len(decode(world.path, KeyFile(world.folder / "key")).slots) == 1
    KeyChanges(vault.authority).rotate_root()
    assert not {id_ for id_, _ in rows_of(world, Space.META)}.intersection(SLOT_IDS[1:])
    assert add_key(world, vault, "tablet")
    assert [slot.number for slot in Slots(vault.authority).list()] == [1, 2]


def test_slots_are_not_dropped_where_no_administrator_could_open(world: World, vault: Vault) -> None:
    generate_key_file(world.folder / "web")
    uri = f"file:{world.folder / 'web'}"
    Slots(vault.authority).add(open_provider(uri), principals=["svc:web"])
    grant(vault, '[roles.keys]\nmembers = ["svc:web"]\n[[roles.keys.grants]]\nactions = ["key.manage"]\n')
    web = world.open(key=uri, principal="svc:web")
    with pytest.raises(LastSlot):
        Compromise(web.authority).declare(drops_slots=True)
    assert len(world.open().opened.replica.keyring.slots) == 2


def test_a_handle_that_was_open_masks_with_the_new_key(world: World, vault: Vault) -> None:
    vault.write("app/a", "1")
    world.open().opened.refresh()
    Compromise(world.open().authority).declare()
    vault.write("app/b", "1")
    sources = [entry.record.source.host for entry in world.open().log.records() if entry.record.obj.get("path")]
    assert [source.partition(":")[0] for source in sources] == ["m0", "m1"]


def test_it_needs_the_right(vault: Vault) -> None:
    grant(vault)
    with vault.acting("svc:reader") as reader:
        worst = Compromise(reader.authority)
        for call in (worst.declare, worst.resume, worst.find_exposed):
            with pytest.raises(AccessDenied):
                call()
    assert vault.opened.replica.header.generation == 1


def test_there_is_nothing_to_resume_where_nothing_was_declared(vault: Vault) -> None:
    with pytest.raises(VersionNotFound):
        Compromise(vault.authority).resume()


def test_waits_for_a_large_change_and_goes_on_later(
    world: World, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("securecfg.vault.rekeying.compromise._PAUSE_S", 0.0)
    vault.write("app/a", "1")
    other = world.open()
    area = StagingArea(other.opened)
    row = vault.opened.store.get(Space.HISTORY, vault.opened.entries(b"", None)[0][1].history_id) or b""
    area.put(Put(Space.HISTORY, area.allocate(), row))
    area._flush()
    with pytest.raises(StoreBusy):
        Compromise(vault.authority).declare()
    assert text_of(vault, "app/a") == "1"
    area.abandon()
    Compromise(vault.authority).resume()
    assert [usage.epoch for usage in KeyChanges(vault.authority).usage() if usage.purpose == "scope"] == [1]


@pytest.mark.parametrize("drops_slots", [False, True])
def test_wherever_it_dies_the_vault_opens_and_it_can_go_on(tmp_path: Path, *, drops_slots: bool) -> None:
    origin = World(tmp_path / "origin")
    origin.folder.mkdir()
    with origin.create() as vault:
        for number in range(30):
            vault.write(f"app/{number}", str(number))
        vault.write("app/large", b"x" * 100_000)
        phone = add_key(origin, vault, "phone")
        compact(vault.opened)
    origin.close()
    for crash in crashes(origin, tmp_path):
        with crash as world:
            if not dies(world, crash.changes, drops_slots=drops_slots):
                break
            vault = world.open()
            if any(entry.record.event == "key.compromised" for entry in vault.log.records()):
                Compromise(vault.authority).resume()
                scope = [usage for usage in KeyChanges(vault.authority).usage() if usage.purpose == "scope"]
                assert [usage.epoch for usage in scope] == [1]
            assert text_of(vault, "app/29") == "29"
            report = verify_vault(vault.opened)
            assert report.problems == []
            opens(world, f"file:{world.folder / 'phone'}")
    assert crash.changes > 10
    assert phone


def dies(world: World, changes: int, **options: Any) -> bool:  # noqa: ANN401 - those of `declare`
    """Return whether a declaration died after some changes; what it reserved has expired then."""
    try:
        Compromise(dying(world, changes).authority).declare(**options)
    except SecurecfgError:
        world.clock.advance(timedelta(hours=2))
        return True
    return False


def opens(world: World, key: str) -> None:
    """Check that a key opens the vault, or that its slot was dropped whole."""
    try:
        world.open(key=key, principal=ADMIN)
    except WrongKey:
        kinds = [entry.record.obj.get("removed") for entry in world.open().log.records()]
        assert any(kinds)


def test_a_damaged_page_does_not_keep_the_keys_from_being_replaced(world: World) -> None:
    vault = world.create()
    vault.write("app/a", "first")
    vault.write("app/b", "other")
    opened = vault.opened
    entry = opened.entry(b"app/a")
    assert entry is not None
    opened.store.stage([Put(Space.HISTORY, entry.history_id, bytes(64))])
    epoch = opened.replica.keyring.active(Purpose.SCOPE).epoch
    for declare in (Compromise(vault.authority).declare, ScopeCompromise(vault.authority).declare):
        with pytest.raises(Tampered):
            declare()
        assert opened.replica.keyring.active(Purpose.SCOPE).epoch == (epoch := epoch + 1)
