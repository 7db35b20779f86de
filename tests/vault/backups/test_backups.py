"""Backups: whole states of a vault in use, under keys of their own, and the exact error where something is wrong."""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
from contextlib import closing, suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from securecfg.audit import Event
from securecfg.crypto import KIND_TEXT, generate_key
from securecfg.errors import (
    AccessDenied,
    AlreadyExists,
    BackupAltered,
    BackupChainBroken,
    BackupTruncated,
    Conflict,
    FileMissing,
    InvalidMetadata,
    NotABackup,
    RollbackSuspected,
    SecretDestroyed,
    SecurecfgError,
    SettingMissing,
    StoreBusy,
    UnsupportedFormat,
    VersionNotFound,
    WrongKey,
)
from securecfg.keys import generate_key_file, open_provider
from securecfg.store import Space, open_sqlite
from securecfg.vault.adoption import adopt
from securecfg.vault.backups.backups import Backups
from securecfg.vault.backups.copying import VaultCopy
from securecfg.vault.backups.format import End, Message, Messages, PartSlot, seal_part_key
from securecfg.vault.backups.inventory import inventory_to_bytes
from securecfg.vault.backups.notes import find_chain
from securecfg.vault.backups.parts import PartDraft, open_chain
from securecfg.vault.backups.restoring import Restoring
from securecfg.vault.commits.maintenance import compact
from securecfg.vault.commits.staging import StagingArea
from securecfg.vault.drafts import Content, Drafts, NewVersion
from securecfg.vault.keys.changes import KeyChanges
from securecfg.vault.keys.slots import Slots
from securecfg.vault.verification import verify_vault
from tests.vault.world import ADMIN, World, grant, interrupted, text_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from securecfg import Vault
    from securecfg.keys import KeyProvider
    from securecfg.vault.backups.backups import Backup


@pytest.fixture
def recipient(tmp_path: Path) -> KeyProvider:
    generate_key_file(tmp_path / "backup.key")
    return open_provider(f"file:{tmp_path / 'backup.key'}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "backup"


def back_up(vault: Vault, folder: Path, recipient: KeyProvider) -> Backup:
    return Backups(vault.authority).make(folder, [] if folder.exists() else [recipient])


def restore(world: World, folder: Path, recipient: KeyProvider, part: int | None = None) -> Vault:
    """Restore a state beside its vault, accept it, and open it."""
    path = world.folder / f"restored-{part}.vault"
    restoring = Restoring(folder, recipient, world.clock)
    if restoring.restore(restoring.find(part=part), path, ADMIN).needs_adoption:
        adopt(path, open_provider(world.key), ADMIN, clock=world.clock)
    return world.open(path=path)


# --- what a backup holds ----------------------------------------------------------------------------------------------


def test_a_restored_vault_holds_what_the_vault_held(
    world: World, vault: Vault, folder: Path, recipient: KeyProvider
) -> None:
    vault.write("app/a", "1")
    vault.write("app/a", "2")
    vault.write("app/large", b"x" * 900_000)
    with vault.batch() as batch:
        for number in range(3_000):
            batch.write(f"many/{number}", str(number))
    done = back_up(vault, folder, recipient)
    assert (done.part, done.path.name, done.recipients) == (1, "000001.part", ("file",))
    assert done.path.stat().st_mode & 0o777 == 0o600
    assert done.path.stat().st_size == done.size_bytes
    vault.write("app/a", "later")
    restored = restore(world, folder, recipient)
    assert [text_of(restored, "app/a", at) for at in (1, 2)] == ["1", "2"]
    assert restored.read("app/large").field("").reveal() == b"x" * 900_000
    assert text_of(restored, "many/2999") == "2999"
    assert verify_vault(restored.opened).orphans == {}
    restored.log.verify()
    assert sorted(path.name for path in folder.iterdir()) == ["000001.part"]


def test_a_later_part_holds_only_what_changed(world: World, vault: Vault, folder: Path, recipient: KeyProvider) -> None:
    for number in range(200):
        vault.write(f"app/{number}", "x" * 2_000)
    first = back_up(vault, folder, recipient)
    vault.write("app/1", "new")
    second = back_up(vault, folder, recipient)
    third = back_up(vault, folder, recipient)
    assert first.row_count > 800
    assert second.row_count < 40
    assert third.row_count < second.row_count
    assert second.size_bytes < first.size_bytes / 10
    assert text_of(restore(world, folder, recipient, 1), "app/1") == "x" * 2_000
    assert text_of(restore(world, folder, recipient, 3), "app/1") == "new"


def test_restores_to_a_point_in_time(world: World, vault: Vault, folder: Path, recipient: KeyProvider) -> None:
    for number in range(3):
        vault.write("app/a", str(number))
        back_up(vault, folder, recipient)
        world.clock.advance(timedelta(hours=1))
    restoring = Restoring(folder, recipient, world.clock)
    first, second, third = restoring.states()
    assert restoring.find() == third
    assert restoring.find(part=2) == second
    assert restoring.find(at=second.taken) == second
    assert restoring.find(at=second.taken - timedelta(microseconds=1)) == first
    for wanted in ({"part": 4}, {"at": first.taken - timedelta(microseconds=1)}):
        with pytest.raises(VersionNotFound):
            restoring.find(**wanted)


@pytest.mark.parametrize("when", ["before", "between"])
def test_key_changes_leave_every_state_readable(
    world: World, vault: Vault, folder: Path, recipient: KeyProvider, when: str
) -> None:
    changes = KeyChanges(vault.authority)
    for number in range(50):
        vault.write(f"app/{number}", f"value {number}")
    if when == "between":
        back_up(vault, folder, recipient)
    changes.begin_scope_epoch()
    changes.carry_over()
    changes.retire_older()
    changes.rotate_data("app/")
    changes.rotate_root()
    generate_key_file(world.folder / "second")
    slots = Slots(vault.authority)
    slots.remove(slots.add(open_provider(f"file:{world.folder / 'second'}")))
    last = back_up(vault, folder, recipient).part
    for part in range(1, last + 1):
        restored = restore(world, folder, recipient, part)
        assert text_of(restored, "app/49") == "value 49"
        assert verify_vault(restored.opened).problems == []


def test_what_was_destroyed_is_only_in_the_parts_made_before(
    world: World, vault: Vault, folder: Path, recipient: KeyProvider
) -> None:
    vault.write("app/a", "secret")
    vault.write("app/a", "other")
    back_up(vault, folder, recipient)
    vault.destroy("app/a", 1)
    back_up(vault, folder, recipient)
    assert text_of(restore(world, folder, recipient, 1), "app/a", 1) == "secret"
    after = restore(world, folder, recipient, 2)
    with pytest.raises(SecretDestroyed):
        after.read("app/a", at=1)
    deks = after.opened.store.scan(Space.DEK, 0, 2**62, 1_000)
    assert deks == vault.opened.store.scan(Space.DEK, 0, 2**62, 1_000)[: len(deks)]
    assert verify_vault(after.opened).orphans == {}


def test_another_key_for_the_restored_vault(world: World, vault: Vault, folder: Path, recipient: KeyProvider) -> None:
    vault.write("app/a", "1")
    back_up(vault, folder, recipient)
    generate_key_file(world.folder / "new")
    key = f"file:{world.folder / 'new'}"
    path = world.folder / "r.vault"
    restoring = Restoring(folder, recipient, world.clock)
    restoring.restore(restoring.find(), path, ADMIN, add=open_provider(key))
    adopt(path, open_provider(key), ADMIN, clock=world.clock)
    assert text_of(world.open(path=path, key=key), "app/a") == "1"


def test_the_vault_knows_its_backups(vault: Vault, folder: Path, recipient: KeyProvider) -> None:
    back_up(vault, folder, recipient)
    done = back_up(vault, folder, recipient)
    first, second = Backups(vault.authority).list()
    assert (second.backup, second.part, second.size_bytes) == (done.backup, 2, done.size_bytes)
    assert (second.recipients, second.place, second.is_finished) == (("file",), str(folder), True)
    assert first.begun < second.begun
    events = [entry.record.event for entry in vault.log.records(1, vault.opened.replica.checkpoint.size - 1)]
    assert events == ["backup.begun", "backup.finished"] * 2


def test_a_plan_writes_nothing(vault: Vault, folder: Path, recipient: KeyProvider) -> None:
    size = vault.opened.replica.checkpoint.size
    assert Backups(vault.authority).plan(folder, [recipient]).part == 1
    assert not folder.exists()
    assert vault.opened.replica.checkpoint.size == size
    back_up(vault, folder, recipient)
    assert Backups(vault.authority).plan(folder).part == 2
    assert len(list(folder.iterdir())) == 1


# --- while others write -----------------------------------------------------------------------------------------------


def write_until(stop: threading.Event, vault: Vault, seed: int) -> None:
    """Change what is in a vault in all ways; two secrets are always written together."""
    count = 0
    while not stop.is_set():
        count += 1
        with vault.batch() as batch:
            batch.write(f"pair/{seed}/left", str(count))
            batch.write(f"pair/{seed}/right", str(count))
        vault.write(f"app/{count % 100}", f"{seed}:{count}")
        if count % 7 == 0:
            vault.destroy(f"app/{count % 100}", 1)
        if count % 23 == 0:
            compact(vault.opened)


def test_every_part_is_whole_while_others_write(
    world: World, vault: Vault, folder: Path, recipient: KeyProvider
) -> None:
    for number in range(100):
        vault.write(f"app/{number}", "0")
    stop = threading.Event()
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            while not stop.is_set():
                with suppress(SecretDestroyed, StoreBusy, Conflict), world.open() as other:
                    write_until(stop, other, seed)
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(2)]
    for thread in threads:
        thread.start()
    try:
        parts = [back_up(vault, folder, recipient).part for _ in range(3)]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert failures == []
    for part in parts:
        restored = restore(world, folder, recipient, part)
        report = verify_vault(restored.opened)
        assert (report.problems, report.orphans) == ([], {})
        for seed in range(2):
            if f"pair/{seed}/left" in restored.list():
                assert text_of(restored, f"pair/{seed}/left") == text_of(restored, f"pair/{seed}/right")
        restored.log.verify()


def write_many(vault: Vault) -> None:
    with vault.batch() as batch:
        for number in range(300):
            batch.write(f"many/{number}", str(number))


def rotate(vault: Vault) -> None:
    changes = KeyChanges(vault.authority)
    changes.begin_scope_epoch()
    changes.carry_over()
    changes.retire_older()
    changes.rotate_data("app/")


CHANGES: dict[str, Callable[[Vault], object]] = {
    "a write": lambda vault: vault.write("app/a", "changed"),
    "a destruction": lambda vault: vault.destroy("app/a", 1),
    "a compaction": lambda vault: compact(vault.opened),
    "a large batch": write_many,
    "a new root": lambda vault: KeyChanges(vault.authority).rotate_root(),
    "new keys of everything": rotate,
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(
    ("method", "space"),
    [
        *(("scan", space) for space in (Space.HISTORY, Space.DEK, Space.VALUE, Space.SEGMENT, Space.LOG)),
        ("snapshot", None),
        ("get", Space.DELTA),
        ("scan", Space.SEALER),
        ("scan", Space.PART),
    ],
)
def test_a_change_at_any_moment_leaves_a_whole_state(
    world: World, folder: Path, recipient: KeyProvider, change: str, method: str, space: Space | None
) -> None:
    with world.create() as vault:
        for number in range(20):
            vault.write(f"app/{number}", str(number))
        vault.write("app/a", "first")
        vault.write("app/a", "second")
    vault, store = interrupted(world)
    Backups(vault.authority).make(folder, [recipient])
    other = world.open()
    store.interrupt(method, space, lambda: CHANGES[change](other))
    Backups(vault.authority).make(folder)
    other.close()
    restored = restore(world, folder, recipient, 2)
    report = verify_vault(restored.opened)
    assert (report.problems, report.orphans) == ([], {})
    assert text_of(restored, "app/a") in {"second", "changed"}
    restored.log.verify()


def test_what_was_staged_before_and_published_meanwhile_is_there(
    world: World, folder: Path, recipient: KeyProvider
) -> None:
    world.create().close()
    vault, store = interrupted(world)
    other = world.open()
    area = StagingArea(other.opened)
    written = NewVersion(ADMIN, world.clock.now_ns())
    area.take(Drafts(other.opened, area).write(b"app/staged", Content(KIND_TEXT, 5, lambda: (b"later",)), written))
    record = other.authority.session().record(Event.SECRET_WRITTEN, {"path": "app/staged", "ver": 1})
    # Its rows come into the store after those of their ids were copied.
    store.interrupt("snapshot", None, lambda: area.publish(lambda: [record], lambda: None, ""))
    Backups(vault.authority).make(folder, [recipient])
    assert text_of(restore(world, folder, recipient), "app/staged") == "later"


# --- what is refused --------------------------------------------------------------------------------------------------


def test_a_new_backup_needs_recipients_and_an_old_one_has_its_own(
    vault: Vault, folder: Path, recipient: KeyProvider
) -> None:
    backups = Backups(vault.authority)
    with pytest.raises(SettingMissing):
        backups.make(folder)
    with pytest.raises(Conflict):
        backups.make(folder, [recipient] * 33)
    backups.make(folder, [recipient])
    with pytest.raises(Conflict):
        backups.make(folder, [recipient])
    with pytest.raises(Conflict):
        backups.plan(folder, [recipient])


def test_only_who_may_back_up_does(vault: Vault, folder: Path, recipient: KeyProvider) -> None:
    grant(vault)
    with vault.acting("svc:reader") as reader:
        backups = Backups(reader.authority)
        for call in (backups.list, lambda: backups.make(folder, [recipient]), lambda: backups.plan(folder)):
            with pytest.raises(AccessDenied):
                call()
    assert not folder.exists()


def test_only_who_may_restore_does(world: World, vault: Vault, folder: Path, recipient: KeyProvider) -> None:
    grant(vault)
    back_up(vault, folder, recipient)
    restoring = Restoring(folder, recipient, world.clock)
    path = world.folder / "r.vault"
    with pytest.raises(AccessDenied):
        restoring.restore(restoring.find(), path, "svc:reader")
    with pytest.raises(InvalidMetadata):
        restoring.restore(restoring.find(), path, "")
    assert [entry.name for entry in world.folder.iterdir() if "r.vault" in entry.name] == []


def test_nothing_is_restored_over_something(world: World, vault: Vault, folder: Path, recipient: KeyProvider) -> None:
    back_up(vault, folder, recipient)
    restoring = Restoring(folder, recipient, world.clock)
    path = world.folder / "r.vault"
    path.symlink_to(world.folder / "nothing")
    with pytest.raises(AlreadyExists):
        restoring.restore(restoring.find(), path, ADMIN)
    with pytest.raises(AlreadyExists):
        restoring.restore(restoring.find(), world.path, ADMIN)


def test_a_restored_vault_is_refused_until_it_is_adopted(
    world: World, vault: Vault, folder: Path, recipient: KeyProvider
) -> None:
    vault.write("app/a", "1")
    back_up(vault, folder, recipient)
    vault.write("app/a", "2")
    vault.close()
    world.path.rename(world.folder / "old.vault")
    restoring = Restoring(folder, recipient, world.clock)
    for path in (world.path, world.folder / "elsewhere.vault"):
        done = restoring.restore(restoring.find(), path, ADMIN, reason="the disk broke")
        assert done.needs_adoption
        assert done.recorded_count is not None
        with pytest.raises(RollbackSuspected):
            world.open(path=path)
        adopt(path, open_provider(world.key), ADMIN, clock=world.clock)
        restored = world.open(path=path)
        events = [entry.record for entry in restored.log.records(done.record_count - 1, done.record_count)]
        assert [record.event for record in events] == ["vault.restored", "vault.adopted"]
        assert events[0].obj["reason"] == "the disk broke"


def test_a_machine_that_knows_nothing_of_the_vault_accepts_it(
    world: World, vault: Vault, folder: Path, recipient: KeyProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(vault, folder, recipient)
    monkeypatch.setenv("XDG_STATE_HOME", str(world.folder / "another machine"))
    restoring = Restoring(folder, recipient, world.clock)
    path = world.folder / "r.vault"
    assert not restoring.restore(restoring.find(), path, ADMIN).needs_adoption
    assert world.open(path=path).list() == []


def test_another_key_opens_nothing(world: World, vault: Vault, folder: Path, recipient: KeyProvider) -> None:
    back_up(vault, folder, recipient)
    with pytest.raises(WrongKey):
        Restoring(folder, open_provider(world.key), world.clock)


def _truncate(folder: Path) -> None:
    part = folder / "000002.part"
    part.write_bytes(part.read_bytes()[:-100])


def _alter(folder: Path, position: int, name: str = "000002.part") -> None:
    content = bytearray((folder / name).read_bytes())
    content[position] ^= 1
    (folder / name).write_bytes(content)


def _lengthen(folder: Path) -> None:
    with (folder / "000002.part").open("ab") as file:
        file.write(b"more")


def _replace(folder: Path, source: str, name: str) -> None:
    shutil.copy(folder.parent / source, folder / name)


WRONG: dict[str, tuple[type[SecurecfgError], Callable[[Path], object]]] = {
    "cut off": (BackupTruncated, _truncate),
    "empty": (NotABackup, lambda folder: (folder / "000002.part").write_bytes(b"")),
    "only its header": (
        BackupTruncated,
        lambda folder: (folder / "000002.part").write_bytes((folder / "000002.part").read_bytes()[:1_000]),
    ),
    "longer": (BackupTruncated, _lengthen),
    "another file": (NotABackup, lambda folder: (folder / "000002.part").write_text("x" * 5_000)),
    "of a later format": (UnsupportedFormat, lambda folder: _alter(folder, 5)),
    "with another time": (BackupAltered, lambda folder: _alter(folder, 50)),
    "with another part before it": (BackupAltered, lambda folder: _alter(folder, 60)),
    "with another key sealed in it": (BackupAltered, lambda folder: _alter(folder, 800)),
    "with altered rows": (BackupAltered, lambda folder: _alter(folder, 1_800)),
    "with an altered end": (BackupAltered, lambda folder: _alter(folder, -60)),
    "before one with altered rows": (BackupAltered, lambda folder: _alter(folder, 5_000, "000001.part")),
    "with another number": (BackupChainBroken, lambda folder: _alter(folder, 43)),
    "of another vault": (BackupChainBroken, lambda folder: _alter(folder, 10)),
    "of another chain": (BackupChainBroken, lambda folder: _replace(folder, "other/000002.part", "000002.part")),
    "after another one": (BackupChainBroken, lambda folder: _replace(folder, "fork/000001.part", "000001.part")),
    "one of which the first is missing": (BackupChainBroken, lambda folder: (folder / "000001.part").unlink()),
}


def restore_newest(world: World, folder: Path, recipient: KeyProvider, path: Path) -> None:
    restoring = Restoring(folder, recipient, world.clock)
    restoring.restore(restoring.find(), path, ADMIN)


def verify_newest(world: World, folder: Path, recipient: KeyProvider) -> None:
    restoring = Restoring(folder, recipient, world.clock)
    restoring.verify(restoring.find())


@pytest.mark.parametrize("wrong", WRONG)
def test_a_part_that_is_wrong(world: World, vault: Vault, folder: Path, recipient: KeyProvider, wrong: str) -> None:
    expected, damage = WRONG[wrong]
    vault.write("app/a", "1" * 5_000)
    back_up(vault, folder, recipient)
    shutil.copytree(folder, world.folder / "fork")
    back_up(vault, folder, recipient)
    for _ in range(2):
        back_up(vault, world.folder / "other", recipient)
    if wrong == "after another one":
        make_another_part(world.folder / "fork", vault)
    damage(folder)
    path = world.folder / "r.vault"
    with pytest.raises(expected) as refused:
        restore_newest(world, folder, recipient, path)
    assert type(refused.value) is expected
    with pytest.raises(expected):
        verify_newest(world, folder, recipient)
    assert [entry.name for entry in world.folder.iterdir() if "r.vault" in entry.name] == []
    # Whoever adds a part reads the last one only.
    if wrong not in {"before one with altered rows", "after another one"}:
        with pytest.raises(SecurecfgError):
            Backups(vault.authority).make(folder)


def make_another_part(folder: Path, vault: Vault, claimed: int | None = None) -> None:
    """Make a first part anew, whole and of the same chain, as only who holds the vault's note can.

    It may claim a row that it does not have.
    """
    header = open_chain(folder)[0].header
    chain = find_chain(vault.opened, header.chain_id)
    assert chain is not None
    key = generate_key()
    sealed = seal_part_key(chain.recipients[0].public_key, header.chain_id, chain.recipients[0].slot_id, 1, key)
    header = header._replace(slots=(PartSlot(header.slots[0].row, sealed),))
    (folder / "000001.part").unlink()
    draft = PartDraft(folder, header)
    messages = Messages(header, key, chain.inventory_key)
    copy = VaultCopy(vault.opened, (), None)
    rows = draft.append(messages.seal(Message.ROWS, copy.items()))
    held = copy.inventory(1)
    if claimed is not None:
        held[0].runs[Space.VALUE, 0].append(range(claimed, claimed + 1))
    inventory = draft.append(messages.seal(Message.INVENTORY, (inventory_to_bytes(held),)))
    end = End(copy.taken_ns, copy.root, chain.inventory_key, copy.count, rows, inventory, copy.heads)
    draft.append(messages.seal(Message.END, (end.to_bytes(),)))
    draft.finish()
    draft.keep()


def test_a_row_that_no_part_has_is_missed(world: World, vault: Vault, folder: Path, recipient: KeyProvider) -> None:
    vault.write("app/a", "1")
    back_up(vault, folder, recipient)
    make_another_part(folder, vault)
    verify_newest(world, folder, recipient)
    make_another_part(folder, vault, claimed=10_000)
    with pytest.raises(BackupChainBroken):
        verify_newest(world, folder, recipient)


def test_a_folder_without_parts(world: World, folder: Path, recipient: KeyProvider) -> None:
    with pytest.raises(FileMissing):
        Restoring(folder, recipient, world.clock)
    folder.mkdir()
    (folder / "notes.txt").write_text("x")
    with pytest.raises(NotABackup):
        Restoring(folder, recipient, world.clock)


def test_a_chain_that_the_vault_does_not_know_is_not_continued(
    world: World, vault: Vault, folder: Path, recipient: KeyProvider, tmp_path: Path
) -> None:
    back_up(vault, folder, recipient)
    restored = restore(world, folder, recipient)
    back_up(vault, folder, recipient)
    # The restored vault knows of a beginning that was not finished when it was copied.
    with pytest.raises(BackupChainBroken):
        Backups(restored.authority).make(folder)
    (tmp_path / "b").mkdir()
    other = World(tmp_path / "b")
    try:
        with pytest.raises(BackupChainBroken):
            Backups(other.create().authority).make(folder)
    finally:
        other.close()


def test_two_processes_do_not_write_one_part(vault: Vault, folder: Path, recipient: KeyProvider) -> None:
    folder.mkdir()
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(StoreBusy):
            Backups(vault.authority).make(folder, [recipient])
    finally:
        os.close(descriptor)


def test_what_was_left_unfinished_is_removed_and_no_part(vault: Vault, folder: Path, recipient: KeyProvider) -> None:
    back_up(vault, folder, recipient)
    left = folder / ".000002.part.0123456789ab.tmp"
    left.write_bytes((folder / "000001.part").read_bytes()[:2_000])
    assert back_up(vault, folder, recipient).part == 2
    assert not left.exists()


def test_a_backup_that_fails_leaves_nothing_and_the_next_one_goes_on(
    world: World, folder: Path, recipient: KeyProvider
) -> None:
    world.create().close()
    vault, store = interrupted(world)

    def fail() -> None:
        message = "the store is away"
        raise StoreBusy(message)

    for method, space in (("scan", Space.VALUE), ("snapshot", None), ("scan", Space.PART)):
        store.interrupt(method, space, fail)
        with pytest.raises(StoreBusy):
            Backups(vault.authority).make(folder, [recipient])
        assert list(folder.iterdir()) == []
    unfinished = Backups(vault.authority).list()
    assert [note.is_finished for note in unfinished] == [False] * 3
    assert Backups(vault.authority).make(folder, [recipient]).part == 1


def test_the_restored_file_is_opened_by_nobody_half_written(
    world: World, vault: Vault, folder: Path, recipient: KeyProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    back_up(vault, folder, recipient)
    restoring = Restoring(folder, recipient, world.clock)
    path = world.folder / "r.vault"
    seen: list[str] = []

    def watch(_done: int, _total: int) -> None:
        assert not path.exists()
        (half,) = [entry for entry in world.folder.iterdir() if entry.suffix == ".restoring"]
        seen.append(half.name)

    restoring.restore(restoring.find(), path, ADMIN, progress=watch)
    assert seen
    with suppress(FileNotFoundError), closing(open_sqlite(path)) as store:
        assert store.head() is not None
    assert [entry.name for entry in world.folder.iterdir() if ".restoring" in entry.name] == []
