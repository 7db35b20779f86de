"""As many unlock slots as the format allows: each change of keys is one publication still, at every step of a crash."""

from __future__ import annotations

import shutil
from contextlib import closing, suppress
from typing import TYPE_CHECKING

import pytest

from securecfg.errors import Conflict, SecretNotFound, WrongKey
from securecfg.keys import MOST_SLOTS, Slot, generate_key_file, open_provider, open_slot, root_row_of
from securecfg.store import Space, open_sqlite
from securecfg.vault.keys.changes import KeyChanges
from securecfg.vault.keys.slots import Slots
from securecfg.vault.rekeying.compromise import Compromise
from securecfg.vault.state.replica import SLOT_IDS
from securecfg.vault.verification import verify_vault
from tests.vault.crash_steps import Attempt, crashes, dying
from tests.vault.world import World, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from securecfg.vault.vault import Vault

pytestmark = pytest.mark.no_cover

# The longest label and principal, so that the keyring is as large as slots make it.
_LABEL, _PRINCIPAL = "l" * 255, "svc:" + "p" * 128


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Return a vault whose slots are as many and as large as they may be, under three key files."""
    world = World(tmp_path_factory.mktemp("full"))
    vault = world.create()
    vault.write("app/a", "1")
    generate_key_file(world.folder / "other")
    generate_key_file(world.folder / "last")
    slots = Slots(vault.authority)
    for number in range(2, MOST_SLOTS + 1):
        provider = open_provider(f"file:{world.folder / ('last' if number == MOST_SLOTS else 'other')}")
        assert slots.add(provider, label=_LABEL, principals=[_PRINCIPAL]) == number
    world.close()
    return world


@pytest.fixture
def world(full: World, tmp_path: Path) -> Iterator[World]:
    """Return a copy of it."""
    folder = tmp_path / "copy"
    shutil.copytree(full.folder, folder)
    world = World(folder, full.clock)
    yield world
    world.close()


def last_key(world: World) -> str:
    return f"file:{world.folder / 'last'}"


def rotate(vault: Vault) -> object:
    return KeyChanges(vault.authority).rotate_root()


def remove(vault: Vault) -> None:
    Slots(vault.authority).remove(MOST_SLOTS)


def compromise(vault: Vault) -> object:
    return Compromise(vault.authority).declare()


def drop(vault: Vault) -> object:
    return Compromise(vault.authority).declare(drops_slots=True)


# What is changed, and how many slots there are after it.
CHANGES: dict[str, tuple[Callable[[Vault], object], int]] = {
    "rotate-root": (rotate, MOST_SLOTS),
    "remove": (remove, MOST_SLOTS - 1),
    "compromise": (compromise, MOST_SLOTS),
    "compromise-and-drop": (drop, 1),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_of_keys_takes_all_slots(world: World, change: str) -> None:
    vault = world.open()
    act, left = CHANGES[change]
    before = bytes(vault.opened.replica.root)
    act(vault)
    assert bytes(vault.opened.replica.root) != before
    assert len(Slots(vault.authority).list()) == left
    assert [text_of(world.open(), "app/a")] == ["1"]
    if left == MOST_SLOTS:
        assert world.open(_PRINCIPAL, key=last_key(world)).opened.replica.root == vault.opened.replica.root
    else:
        with pytest.raises(WrongKey):
            world.open(_PRINCIPAL, key=last_key(world))
    verify_slots(world, {left})
    assert stored_slots(world) == left
    assert verify_vault(vault.opened).problems == []


def test_one_more_slot_is_refused(world: World) -> None:
    with pytest.raises(Conflict):
        Slots(world.open().authority).add(open_provider(last_key(world)))


@pytest.mark.parametrize("change", ["rotate-root", "remove", "compromise-and-drop"])
def test_wherever_a_change_dies_all_slots_open_the_same_root(world: World, tmp_path: Path, change: str) -> None:
    act, left = CHANGES[change]
    for crash in crashes(world, tmp_path):
        with crash as copy:
            with Attempt(copy) as attempt:
                act(dying(copy, crash.changes))
            verify_slots(copy, {left, MOST_SLOTS})
            if attempt.is_done:
                break
            vault = copy.open()
            assert text_of(vault, "app/a") == "1"
            with suppress(SecretNotFound):  # where all was done but the last erasure
                act(vault)
            verify_slots(copy, {left})
            assert stored_slots(copy) == left
    assert crash.changes >= 2


def verify_slots(world: World, counts: set[int]) -> None:
    """Check that there is one of some numbers of slots, and that each of them gives the root of the vault as it is."""
    replica = world.open().opened.replica
    slots = {number: Slot.parse(row) for number, row in replica.slots.items() if number in SLOT_IDS}
    assert len(slots) == len(replica.keyring.slots)
    assert len(slots) in counts
    providers = {name: open_provider(f"file:{world.folder / name}") for name in ("key", "other", "last")}
    for row, slot in slots.items():
        number = row - SLOT_IDS.start + 1
        provider = providers[{1: "key", MOST_SLOTS: "last"}.get(number, "other")]
        _, pair = open_slot(replica.vault_id, {row: slot}, provider)
        assert pair.open_root(replica.slots[root_row_of(row)]) == replica.root


def stored_slots(world: World) -> int:
    """Return how many rows of slots are in the file."""
    with closing(open_sqlite(world.path, read_only=True)) as store:
        return len(store.scan(Space.META, SLOT_IDS.start, SLOT_IDS.stop - 1, len(SLOT_IDS)))
