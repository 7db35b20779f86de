"""What was destroyed or replaced for good is in none of the vault's files, while it is open too."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from securecfg.errors import DestroyPending, StoreFailed
from securecfg.keys import open_provider
from securecfg.keys.keyfile import generate_key_file
from securecfg.store import Space
from securecfg.vault.commits.epochs import rotate_signing_key
from securecfg.vault.commits.maintenance import compact
from securecfg.vault.keys.changes import KeyChanges
from securecfg.vault.keys.slots import Slots
from securecfg.vault.state.replica import KEYRING_ID, SLOT_IDS
from tests.vault.world import interrupted

if TYPE_CHECKING:
    from securecfg.vault.vault import Vault
    from tests.vault.world import InterruptedStore, World


def all_bytes(world: World) -> bytes:
    """Return all files of the vault. Another process reads them: closing a file here would drop SQLite's locks."""
    script = (
        "import pathlib, sys; [sys.stdout.buffer.write(p.read_bytes()) for p in pathlib.Path('.').glob('a.vault*')]"
    )
    return subprocess.run([sys.executable, "-c", script], cwd=world.folder, check=True, capture_output=True).stdout


def row_of(vault: Vault, space: Space, number: int) -> bytes:
    row = vault.opened.store.get(space, number)
    assert row is not None
    return row


def test_the_bytes_of_a_removed_slot_are_erased(world: World, vault: Vault) -> None:
    generate_key_file(world.folder / "other")
    number = Slots(vault.authority).add(open_provider(f"file:{world.folder / 'other'}"))
    row = row_of(vault, Space.META, SLOT_IDS.start + number - 1)
    assert row[20:60] in all_bytes(world)
    Slots(vault.authority).remove(number)
    assert row[20:60] not in all_bytes(world)


def test_the_bytes_of_an_old_signing_key_are_erased(world: World, vault: Vault) -> None:
    keyring = row_of(vault, Space.META, KEYRING_ID)
    assert keyring[40:80] in all_bytes(world)
    rotate_signing_key(vault.authority)
    assert keyring[40:80] not in all_bytes(world)
    assert not vault.opened.is_destruction_pending


def test_a_signing_key_that_cannot_be_erased_yet_is_erased_by_the_next_opener(world: World, vault: Vault) -> None:
    keyring = row_of(vault, Space.META, KEYRING_ID)
    other, store = interrupted(world)

    def refuse() -> None:
        message = "in use"
        raise DestroyPending(message)

    store.interrupt("purge", None, refuse)
    with pytest.raises(DestroyPending):
        rotate_signing_key(other.authority)
    assert keyring[40:80] in all_bytes(world)
    world.open()
    assert keyring[40:80] not in all_bytes(world)


def test_a_key_that_an_interrupted_move_left_goes_with_its_version(world: World, vault: Vault) -> None:
    other, store = interrupted(world)
    for number in range(40):
        other.write("a", io.BytesIO(b"x" * 70_000) if not number else "v")
    entry = other.opened.entry(b"a")
    assert entry is not None
    old = row_of(other, Space.DEK, other.opened.locate(b"a", entry, 1).version.dek_id)

    def fail() -> None:
        message = "the disk is full"
        raise StoreFailed(message)

    def stage_then_fail() -> None:
        # The first step stages the new rows, the second one would delete the old ones.
        store.interrupt("stage", None, fail)

    store.interrupt("stage", None, stage_then_fail)
    other.move("a", "b")
    assert old[8:] in all_bytes(world)
    vault.destroy("b", 1)
    assert old[8:] not in all_bytes(world)
    assert vault.read("b").version == 40


def test_a_key_that_a_batch_and_a_compaction_left_goes_before_its_destruction_is_over(
    world: World, vault: Vault
) -> None:
    vault.write("a", "v")
    entry = vault.opened.entry(b"a")
    assert entry is not None
    old_id = vault.opened.locate(b"a", entry, 1).version.dek_id
    old = row_of(vault, Space.DEK, old_id)

    def fail_from_the_second(store: InterruptedStore) -> None:
        def fail() -> None:
            store.interrupt("stage", None, fail)
            message = "the disk is full"
            raise StoreFailed(message)

        store.interrupt("stage", None, lambda: store.interrupt("stage", None, fail))

    compactor, compactors_store = interrupted(world)
    writer, writers_store = interrupted(world)
    # What is staged is written, and what is freed stays.
    fail_from_the_second(writers_store)
    with pytest.raises(DestroyPending):
        KeyChanges(writer.authority).rotate_data("a")
    fail_from_the_second(compactors_store)
    with pytest.raises(StoreFailed):
        compact(compactor.opened)
    assert row_of(vault, Space.DEK, old_id) == old
    opened = world.open().opened
    assert not opened.is_destruction_pending
    assert opened.store.get(Space.DEK, old_id) is None
    assert old[8:] not in all_bytes(world)
