"""Root and scope keys are replaced while the vault is in use; old keys go only once nothing needs them."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from securecfg.audit import Event
from securecfg.crypto import KIND_TEXT, parse_dek_epoch
from securecfg.errors import (
    AccessDenied,
    EpochInUse,
    SecretNotFound,
    SlotRemoved,
    StoreBusy,
    Tampered,
    VersionNotFound,
    WrongKey,
)
from securecfg.keys import Purpose, generate_key_file, open_provider, rows_of_slots
from securecfg.store import ID_LIMIT, Put, Space
from securecfg.vault.commits.maintenance import compact
from securecfg.vault.commits.staging import StagingArea, StagingMoved
from securecfg.vault.drafts import Content, Drafts, NewVersion
from securecfg.vault.index.history import PAGE_FULL
from securecfg.vault.index.in_memory import prefix_end
from securecfg.vault.index.rows import epoch_of
from securecfg.vault.keys.changes import _PAGES, KeyChanges, find_older
from securecfg.vault.keys.slots import Slots
from securecfg.vault.opened import Located, OpenVault
from securecfg.vault.paths import SYSTEM
from securecfg.vault.state.replica import MANIFEST_ID
from securecfg.vault.verification import verify_vault
from tests.decoder.agreement import assert_agrees
from tests.decoder.keys import KeyFile
from tests.vault.world import ADMIN, World, interrupted, text_of

if TYPE_CHECKING:
    from securecfg import Vault
    from securecfg.vault.index.segments import Entry
    from securecfg.vault.keys.changes import _Change


def key_changes(vault: Vault) -> KeyChanges:
    return KeyChanges(vault.authority)


def epochs_of(vault: Vault, space: Space) -> set[int]:
    return {int.from_bytes(row[2:6]) for _, row in vault.opened.store.scan(space, 0, ID_LIMIT - 1, 100_000)}


def data_keys(vault: Vault) -> dict[int, bytes]:
    return {number: vault.opened.data_key(number) for number, _ in data_key_rows(vault)}


def data_key_rows(vault: Vault) -> list[tuple[int, bytes]]:
    return vault.opened.store.scan(Space.DEK, 0, ID_LIMIT - 1, 100_000)


def written_by(world: World) -> NewVersion:
    return NewVersion(ADMIN, world.clock.now_ns())


def system_entries(vault: Vault) -> list[tuple[bytes, Entry]]:
    return vault.opened.entries(SYSTEM, prefix_end(SYSTEM))


def filled(vault: Vault) -> dict[str, str]:
    """Write secrets of every shape: several pages of versions, segments and newest changes, deleted and destroyed."""
    for number in range(PAGE_FULL + 20):
        vault.write("app/long", str(number))
    for number in range(40):
        vault.write(f"app/{number}", f"first {number}")
    compact(vault.opened)
    for number in range(20):
        vault.write(f"app/{number}", f"second {number}")
    vault.delete("app/30")
    vault.write("app/31", "gone")
    vault.destroy("app/31", 1)
    return {path: text_of(vault, path) for path in vault.list()}


# --- root -------------------------------------------------------------------------------------------------------------


def test_a_new_root_opens_with_every_key_that_opened_before(world: World, vault: Vault) -> None:
    generate_key_file(world.folder / "second")
    Slots(vault.authority).add(open_provider(f"file:{world.folder / 'second'}"), label="second")
    vault.write("app/a", "1")
    old = vault.opened.replica.root
    generation = vault.opened.replica.header.generation
    assert key_changes(vault).rotate_root() == generation + 1
    assert vault.opened.replica.root != old
    assert text_of(vault, "app/a") == "1"
    vault.write("app/a", "2")
    vault.close()
    for name in ("key", "second"):
        assert text_of(world.open(key=f"file:{world.folder / name}"), "app/a") == "2"


def test_other_handles_follow_to_a_new_root(world: World, vault: Vault) -> None:
    other = world.open()
    vault.write("app/a", "1")
    for number in range(3):
        key_changes(vault).rotate_root()
        assert text_of(other, "app/a") == str(number + 1)
        other.write("app/a", str(number + 2))
    assert other.opened.replica.root == vault.opened.replica.root
    assert text_of(vault, "app/a") == "4"


def test_a_new_root_is_recorded_and_needs_the_right(world: World, vault: Vault) -> None:
    with vault.acting("svc:reader") as reader, pytest.raises(AccessDenied):
        key_changes(reader).rotate_root()
    key_changes(vault).rotate_root()
    events = [entry.record for entry in vault.log.records()]
    rotated = [record for record in events if record.event is Event.KEY_ROTATED]
    assert [record.obj["kind"] for record in rotated] == ["root"]
    assert rotated[0].subject.id == ADMIN


def test_the_old_root_opens_nothing_that_was_written_since(world: World, vault: Vault) -> None:
    replica = vault.opened.replica
    old = bytes(replica.root)
    key_changes(vault).rotate_root()
    with pytest.raises(Tampered):
        replica.header.verify(old, replica.slots)
    row = vault.opened.store.get(Space.META, 2)
    assert row is not None
    with pytest.raises(Tampered):
        type(replica.keyring).open(row, old, replica.vault_id, replica.header.generation)


def test_rows_of_an_older_root_put_back_are_noticed(world: World, vault: Vault) -> None:
    before = dict(vault.opened.replica.slots)
    key_changes(vault).rotate_root()
    vault.close()
    world.put_rows({(Space.META, number): row for number, row in rows_of_slots(before).items()})
    with pytest.raises((Tampered, WrongKey)):
        world.open()


# --- removing a slot --------------------------------------------------------------------------------------------------


def test_removing_a_slot_changes_every_key_that_its_holder_knew(world: World, vault: Vault) -> None:
    generate_key_file(world.folder / "second")
    second = f"file:{world.folder / 'second'}"
    slots = Slots(vault.authority)
    number = slots.add(open_provider(second))
    known = filled(vault)
    theirs = world.open(key=second)
    replica = theirs.opened.replica
    old = {(entry.purpose, entry.epoch): entry.key for entry in replica.keyring.keys}
    slots.remove(number)
    keyring = vault.opened.replica.keyring
    for purpose in (Purpose.SCOPE, Purpose.AUDIT, Purpose.LOG_SIGNING):
        assert keyring.active(purpose).key not in old.values()
    for space in (Space.DEK, Space.HISTORY, Space.SEGMENT, Space.DELTA):
        assert epochs_of(vault, space) <= {keyring.active(Purpose.SCOPE).epoch}
    assert {path: text_of(vault, path) for path in vault.list()} == known
    with pytest.raises(SlotRemoved) as refused:
        theirs.read("app/long")
    assert refused.value.code == "slot-removed"
    theirs.opened.is_closed = True  # its counts can be recorded by nobody
    with pytest.raises(WrongKey):
        world.open(key=second)


def test_whoever_removes_the_slot_that_opened_goes_on_until_it_closes(world: World, vault: Vault) -> None:
    generate_key_file(world.folder / "second")
    slots = Slots(vault.authority)
    slots.add(open_provider(f"file:{world.folder / 'second'}"))
    slots.remove(1)
    vault.write("app/a", "1")
    assert text_of(vault, "app/a") == "1"
    vault.close()
    with pytest.raises(WrongKey):
        world.open()
    assert text_of(world.open(key=f"file:{world.folder / 'second'}"), "app/a") == "1"


def test_records_after_a_removal_are_sealed_to_a_key_that_the_removed_one_never_saw(world: World, vault: Vault) -> None:
    generate_key_file(world.folder / "second")
    slots = Slots(vault.authority)
    number = slots.add(open_provider(f"file:{world.folder / 'second'}"))
    other = world.open()
    other.write("app/a", "1")  # its session has a sealer to the old audit key
    slots.remove(number)
    sealers = dict(vault.opened.store.scan(Space.SEALER, 0, ID_LIMIT - 1, 100))
    other.write("app/a", "2")
    newer = dict(vault.opened.store.scan(Space.SEALER, 0, ID_LIMIT - 1, 100))
    assert len(newer) == len(sealers) + 1
    assert len(list(vault.log.records())) == vault.opened.replica.checkpoint.size
    vault.log.verify()


# --- scope ------------------------------------------------------------------------------------------------------------


def test_a_new_scope_key_is_used_at_once_and_the_old_one_still_opens(vault: Vault) -> None:
    known = filled(vault)
    assert key_changes(vault).begin_scope_epoch() == 1
    vault.write("app/0", "third")
    assert epochs_of(vault, Space.DEK) == {0, 1}
    assert {path: text_of(vault, path) for path in vault.list()} == known | {"app/0": "third"}


def test_everything_is_carried_over_and_reads_as_before(world: World, vault: Vault) -> None:
    known = filled(vault)
    states = {path: [(info.version, info.state) for info in vault.history(path)] for path in vault.list()}
    other = world.open()
    changes = key_changes(vault)
    changes.begin_scope_epoch()
    seen: list[tuple[int, int]] = []
    changes.carry_over(lambda done, total: seen.append((done, total)))
    for space in (Space.DEK, Space.HISTORY, Space.SEGMENT):
        assert epochs_of(vault, space) == {1}
    assert epochs_of(vault, Space.DELTA) <= {1}
    assert seen
    assert {path: text_of(vault, path) for path in vault.list()} == known
    assert {path: [(info.version, info.state) for info in vault.history(path)] for path in vault.list()} == states
    assert {path: text_of(other, path) for path in other.list()} == known
    assert [text_of(vault, "app/long", at=number) for number in (1, 30)] == ["0", "29"]
    assert not verify_vault(vault.opened).problems
    vault.log.verify()
    vault.close()
    assert_agrees(world.path, KeyFile(world.folder / "key"), world.open())


def test_what_a_busy_store_kept_goes_in_the_next_round(world: World, vault: Vault) -> None:
    filled(vault)
    other, store = interrupted(world)
    changes = key_changes(other)
    changes.begin_scope_epoch()
    changes.rewrap()

    def refuse() -> None:
        # The next staging of this handle is the one that deletes the pages that were replaced.
        store.interrupt("stage", None, busy)

    def busy() -> None:
        message = "locked"
        raise StoreBusy(message)

    store.interrupt("commit", None, lambda: store.interrupt("commit", None, refuse))
    changes.carry_over()
    for space in (Space.DEK, Space.HISTORY, Space.SEGMENT):
        assert epochs_of(vault, space) == {1}
    changes.retire(0)


def test_a_long_history_that_somebody_writes_to_all_the_time_is_carried_over_in_parts(
    world: World, vault: Vault
) -> None:
    for number in range(PAGE_FULL * 10):
        vault.write("app/long", str(number))
    other, store = interrupted(world)
    changes = key_changes(other)
    changes.begin_scope_epoch()
    changes.rewrap()

    def write() -> None:
        # Whatever this handle has prepared is out of date when it is published.
        vault.write("app/long", "newer")
        store.interrupt("stage", None, write)

    store.interrupt("stage", None, write)
    changes._publish_anew(_PAGES, [b"app/long"])
    assert epochs_of(vault, Space.HISTORY) == {0, 1}  # those of the vault's own documents are left
    vault.opened.refresh()
    (entry,) = [entry for path, entry in vault.opened.entries(b"app/long", None)]
    history = vault.opened.history(b"app/long", entry)
    assert len(history.older) > 12
    rows = [vault.opened.store.get(Space.HISTORY, place.history_id) for place in history.older]
    assert {int.from_bytes((row or b"")[2:6]) for row in rows} == {1}
    assert text_of(vault, "app/long", at=7) == "6"


def test_older_pages_are_found_however_often_the_newest_one_is_replaced(
    world: World, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(PAGE_FULL * 3):
        vault.write("app/long", str(number))
    other = world.open()
    changes = key_changes(other)
    changes.begin_scope_epoch()
    vault.write("app/long", "newer")
    list_entries = OpenVault.entries

    def list_and_be_late(opened: OpenVault, first: bytes, end: bytes | None) -> list[tuple[bytes, Entry]]:
        entries = list_entries(opened, first, end)
        vault.write("app/long", "newer")
        other.opened.refresh()
        return entries

    monkeypatch.setattr(OpenVault, "entries", list_and_be_late)
    changes.carry_over()
    assert epochs_of(vault, Space.HISTORY) == {1}
    assert text_of(vault, "app/long", at=7) == "6"


def test_carrying_over_again_does_nothing(vault: Vault) -> None:
    filled(vault)
    changes = key_changes(vault)
    changes.begin_scope_epoch()
    changes.carry_over()
    head = vault.opened.replica.head
    assert changes.rewrap() == 0
    changes.carry_over()
    assert vault.opened.replica.head == head


def test_a_new_scope_key_and_the_carrying_over_need_the_right(vault: Vault) -> None:
    with vault.acting("svc:reader") as reader:
        for call in (
            key_changes(reader).begin_scope_epoch,
            key_changes(reader).carry_over,
            key_changes(reader).rewrap,
            key_changes(reader).usage,
            lambda: key_changes(reader).retire(0),
        ):
            with pytest.raises(AccessDenied):
                call()
    assert vault.opened.replica.keyring.active(Purpose.SCOPE).epoch == 0


def test_a_data_key_that_was_destroyed_meanwhile_does_not_come_back(world: World, vault: Vault) -> None:
    vault.write("app/a", "1")
    vault.write("app/a", "2")
    changes = key_changes(vault)
    changes.begin_scope_epoch()
    keys = [number for number, _ in vault.opened.store.scan(Space.DEK, 0, ID_LIMIT - 1, 100)]
    other, store = interrupted(world)
    store.interrupt("stage", None, lambda: vault.destroy("app/a", 1))
    assert key_changes(other).rewrap() == len(keys)
    left = [number for number, _ in vault.opened.store.scan(Space.DEK, 0, ID_LIMIT - 1, 100)]
    assert len(left) == len(keys) - 1
    assert text_of(vault, "app/a") == "2"


def test_an_altered_data_key_stops_the_wrapping_and_changes_nothing(world: World, vault: Vault) -> None:
    vault.write("app/a", "1")
    changes = key_changes(vault)
    changes.begin_scope_epoch()
    (last, row) = vault.opened.store.scan(Space.DEK, 0, ID_LIMIT - 1, 100)[-1]
    world.put_rows({(Space.DEK, last): row[:-1] + bytes((row[-1] ^ 1,))})
    with pytest.raises(Tampered):
        changes.rewrap()
    assert all(parse_dek_epoch(row) == 0 for _, row in vault.opened.store.scan(Space.DEK, 0, ID_LIMIT - 1, 100))


def test_writers_and_readers_go_on_while_keys_are_changed(world: World, vault: Vault) -> None:
    filled(vault)
    other = world.open()
    stop = threading.Event()
    failures: list[BaseException] = []
    written: list[int] = []

    def work() -> None:
        number = 0
        try:
            while not stop.is_set():
                number += 1
                other.write("app/busy", str(number))
                assert text_of(other, "app/busy") == str(number)
                assert text_of(other, f"app/{number % 20}") == f"second {number % 20}"
                written.append(number)
        except BaseException as error:  # noqa: BLE001 - whatever it is fails the test
            failures.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    changes = key_changes(vault)
    for _ in range(3):
        changes.rotate_root()
        epoch = changes.begin_scope_epoch()
        changes.carry_over()
        changes.retire(epoch - 1)
    stop.set()
    worker.join()
    assert not failures
    assert text_of(vault, "app/busy") == str(written[-1])
    assert text_of(other, "app/busy") == str(written[-1])


# --- data keys --------------------------------------------------------------------------------------------------------


def test_data_keys_are_replaced_and_everything_else_stays(world: World, vault: Vault) -> None:
    known = filled(vault)
    vault.write("app/large", b"x" * 300_000)
    vault.label("app/1", "canary", 1)
    before = {path: vault.history(path) for path in vault.list()}
    old = data_keys(vault)
    system_keys = sum(len(list(vault.opened.history(path, entry).versions)) for path, entry in system_entries(vault))
    assert key_changes(vault).rotate_data("app/") == len(vault.list()) + 1  # a deleted one too
    assert {path: vault.history(path) for path in vault.list()} == before
    assert {path: text_of(vault, path) for path in known} == known
    assert vault.read("app/large").field("").reveal() == b"x" * 300_000
    assert text_of(vault, "app/long", at=3) == "2"
    kept = old.items() & data_keys(vault).items()
    assert len(kept) == system_keys
    assert not set(dict(old.items() - kept).values()) & set(dict(data_keys(vault).items() - kept).values())
    assert not vault.opened.is_destruction_pending
    report = verify_vault(vault.opened)
    assert not report.problems
    assert not report.orphans
    vault.close()
    assert_agrees(world.path, KeyFile(world.folder / "key"), world.open())


def test_the_data_keys_of_one_secret_are_replaced(vault: Vault) -> None:
    vault.write("app/a", "1")
    vault.write("app/a/b", "2")
    before = dict(vault.opened.store.scan(Space.DEK, 0, ID_LIMIT - 1, 100))
    assert key_changes(vault).rotate_data("app/a") == 1
    after = dict(vault.opened.store.scan(Space.DEK, 0, ID_LIMIT - 1, 100))
    assert len(before.items() - after.items()) == 1
    assert (text_of(vault, "app/a"), text_of(vault, "app/a/b")) == ("1", "2")
    for nothing in ("app/x", "nowhere/", "app"):
        with pytest.raises(SecretNotFound):
            key_changes(vault).rotate_data(nothing)


@pytest.mark.parametrize("prefix", ["app/a", "app/", ""])
def test_what_gets_another_path_meanwhile_gets_new_data_keys_too(
    world: World, vault: Vault, monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    vault.write("app/a", "1")
    vault.write("app/b", "2")
    other, end = world.open(), vault.opened.replica.state.next_id
    publish = KeyChanges._publish_anew

    def overtaken(changes: KeyChanges, change: _Change, paths: list[bytes]) -> None:
        monkeypatch.setattr(KeyChanges, "_publish_anew", publish)
        other.move("app/a", "moved/c")
        publish(changes, change, paths)

    monkeypatch.setattr(KeyChanges, "_publish_anew", overtaken)
    assert key_changes(vault).rotate_data(prefix) == (1 if prefix == "app/a" else 2)
    vault.opened.refresh()
    left = [path for path in find_older(vault.opened, end) if not path.startswith(SYSTEM)]
    assert left == ([b"app/b"] if prefix == "app/a" else [])
    assert (text_of(vault, "moved/c"), text_of(vault, "app/b")) == ("1", "2")
    assert not vault.opened.is_destruction_pending


def test_what_gets_another_path_between_listing_and_look_is_found(
    world: World, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault.write("app/a", "1")
    other, end, entries, turns = world.open(), vault.opened.replica.state.next_id, OpenVault.entries, [0]

    def overtaken(opened: OpenVault, first: bytes, last: bytes | None) -> list[tuple[bytes, Entry]]:
        found = entries(opened, first, last)
        if opened is vault.opened and first == b"" and turns[0] < turns_most:
            turns[0] += 1
            other.move(*(("app/a", "app/c") if turns[0] % 2 else ("app/c", "app/a")))
            vault.opened.refresh()
        return found

    monkeypatch.setattr(OpenVault, "entries", overtaken)
    turns_most = 5
    assert key_changes(vault).encrypt_older(end) > 1
    assert turns == [5]
    assert find_older(vault.opened, end) == []
    turns_most, end = 1_000, vault.opened.replica.state.next_id
    with pytest.raises(StoreBusy):
        key_changes(vault).encrypt_older(end)


# --- retirement -------------------------------------------------------------------------------------------------------


def test_a_key_is_forgotten_once_nothing_needs_it(world: World, vault: Vault) -> None:
    known = filled(vault)
    changes = key_changes(vault)
    old = vault.opened.replica.keyring.active(Purpose.SCOPE).key
    changes.begin_scope_epoch()
    changes.carry_over()
    changes.retire(0)
    assert old not in [entry.key for entry in vault.opened.replica.keyring.keys]
    assert not vault.opened.is_destruction_pending
    assert {path: text_of(vault, path) for path in vault.list()} == known
    vault.close()
    assert {path: text_of(world.open(), path) for path in world.open().list()} == known


def test_refuses_to_forget_a_key_that_something_needs(vault: Vault) -> None:
    filled(vault)
    changes = key_changes(vault)
    with pytest.raises(EpochInUse) as refused:
        changes.retire(0)
    assert "in use" in refused.value.message
    changes.begin_scope_epoch()
    with pytest.raises(EpochInUse) as refused:
        changes.retire(0)
    for what in ("data keys", "history pages", "segments", "the manifest"):
        assert what in refused.value.message
    changes.rewrap()
    with pytest.raises(EpochInUse) as refused:
        changes.retire(0)
    assert "data keys" not in refused.value.message
    with pytest.raises(VersionNotFound):
        changes.retire(7)


def test_a_newer_key_takes_the_older_ones_with_it(vault: Vault) -> None:
    filled(vault)
    changes = key_changes(vault)
    changes.begin_scope_epoch()
    changes.rewrap()
    changes.begin_scope_epoch()
    with pytest.raises(EpochInUse):
        changes.retire(1)  # pages of epoch 0 are left
    changes.carry_over()
    changes.retire(1)
    scopes = [entry.epoch for entry in vault.opened.replica.keyring.keys if entry.purpose == Purpose.SCOPE]
    assert scopes == [2]


def test_no_key_is_forgotten_while_somebody_prepares_a_large_change_under_it(world: World, vault: Vault) -> None:
    other = world.open()
    area = StagingArea(other.opened)
    area.take(Drafts(other.opened, area).write(b"app/a", Content(KIND_TEXT, 1, lambda: (b"1",)), written_by(world)))
    area._flush()
    changes = key_changes(vault)
    changes.begin_scope_epoch()
    with pytest.raises(StoreBusy):
        changes.carry_over()
    with pytest.raises(EpochInUse):
        changes.retire(0)
    area.abandon()
    changes.carry_over()
    changes.retire(0)


def test_what_was_prepared_under_an_old_key_is_not_published(world: World, vault: Vault) -> None:
    other = world.open()
    area = StagingArea(other.opened)
    area.take(Drafts(other.opened, area).write(b"app/a", Content(KIND_TEXT, 1, lambda: (b"1",)), written_by(world)))
    area._flush()
    key_changes(vault).begin_scope_epoch()
    with pytest.raises(StagingMoved):
        area.publish(list, lambda: None, "")
    assert vault.list() == []


def test_no_row_is_prepared_under_an_old_key(world: World, vault: Vault) -> None:
    area = StagingArea(world.open().opened)
    number = area.allocate()
    area.put(Put(Space.VALUE, number, b"row"))
    key_changes(vault).begin_scope_epoch()
    with pytest.raises(StagingMoved):
        area._flush()
    assert vault.opened.store.get(Space.VALUE, number) is None


def test_a_large_change_is_made_anew_where_the_key_changes_meanwhile(world: World, vault: Vault) -> None:
    other, store = interrupted(world)
    store.interrupt("stage", None, key_changes(vault).begin_scope_epoch)
    other.write("app/large", b"x" * 1_500_000)
    assert vault.read("app/large").field("").reveal() == b"x" * 1_500_000
    entry = vault.opened.entry(b"app/large")
    assert entry is not None
    assert epoch_of(vault.opened.store.get(Space.HISTORY, entry.history_id) or b"") == 1


def test_a_compaction_under_an_old_key_is_not_published(world: World, vault: Vault) -> None:
    vault.write("app/a", "1")
    other, store = interrupted(world)
    store.interrupt("stage", None, key_changes(vault).begin_scope_epoch)
    assert not compact(other.opened)
    assert epoch_of(vault.opened.store.get(Space.META, MANIFEST_ID) or b"") == 0
    key_changes(vault).carry_over()
    key_changes(vault).retire(0)
    assert text_of(other, "app/a") == "1"


def test_what_a_forgotten_key_wrapped_and_nothing_references_is_left_to_the_sweep(world: World, vault: Vault) -> None:
    vault.write("app/a", "1")
    _, row = data_key_rows(vault)[-1]
    changes = key_changes(vault)
    changes.begin_scope_epoch()
    changes.carry_over()
    changes.retire(0)
    stray = vault.opened.replica.state.next_id + 1
    # As of a writer that stood still between its last look and its writing, for as long as the rotation took.
    world.put_rows({(Space.DEK, stray): row})
    changes.begin_scope_epoch()
    changes.rewrap()
    assert vault.opened.store.get(Space.DEK, stray) == row
    assert text_of(vault, "app/a") == "1"


def test_usage_counts_what_each_key_sealed(vault: Vault) -> None:
    filled(vault)
    changes = key_changes(vault)
    changes.begin_scope_epoch()
    vault.write("app/0", "new")
    usage = {(key.purpose, key.epoch): key for key in changes.usage()}
    assert usage["scope", 0].rows
    assert not usage["scope", 0].is_active
    assert usage["scope", 1].is_active
    assert usage["scope", 1].rows == 3  # data key, history page, delta
    assert {purpose for purpose, _ in usage} == {"scope", "log-signing", "audit", "masking"}
    changes.carry_over()
    assert {key.epoch: key.rows for key in changes.usage() if key.purpose == "scope"}[0] == 0


def test_a_read_goes_on_over_a_change_of_keys_in_its_middle(
    world: World, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(vault)
    other = world.open()
    assert text_of(other, "app/4") == "second 4"  # so that only the secret is left to be opened
    open_inline = other.opened.open_inline

    def open_later(located: Located) -> tuple[int, bytes]:
        monkeypatch.undo()
        changes = key_changes(vault)
        changes.begin_scope_epoch()
        changes.rewrap()
        return open_inline(located)

    monkeypatch.setattr(other.opened, "open_inline", open_later)
    assert text_of(other, "app/3") == "second 3"
