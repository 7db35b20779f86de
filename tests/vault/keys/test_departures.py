"""What the holder of a removed key may know stays listed until it has another value."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from securecfg.errors import AccessDenied
from securecfg.keys import generate_key_file, open_provider
from securecfg.store import Space
from securecfg.vault.keys.changes import KeyChanges
from securecfg.vault.keys.departures import find_exposed
from securecfg.vault.keys.slots import Slots
from securecfg.vault.rekeying.compromise import Compromise
from tests.vault.world import World, grant, interrupted

if TYPE_CHECKING:
    from securecfg import Vault


def remove_a_key(world: World, vault: Vault, label: str = "laptop") -> int:
    name = f"key-{label}"
    generate_key_file(world.folder / name)
    slots = Slots(vault.authority)
    number = slots.add(open_provider(f"file:{world.folder / name}"), label=label)
    slots.remove(number)
    return number


def exposed(vault: Vault) -> dict[str, int]:
    return {each.path: each.version for each in find_exposed(vault.authority)}


def test_nothing_is_exposed_where_no_key_was_removed(vault: Vault) -> None:
    vault.write("app/a", "1")
    assert find_exposed(vault.authority) == []


def test_everything_that_was_there_is_exposed_until_it_changes(world: World, vault: Vault) -> None:
    for name in ("a", "b", "c"):
        vault.write(f"app/{name}", f"value of {name}")
    number = remove_a_key(world, vault)
    vault.write("app/new", "made after it")
    found = find_exposed(vault.authority)
    assert [(each.path, each.version, each.slot, each.kind, each.label) for each in found] == [
        (f"app/{name}", 1, number, "file", "laptop") for name in ("a", "b", "c")
    ]
    assert found[0].key == f"slot {number} (file, laptop)"
    assert found[0].days(found[0].since + timedelta(days=3, hours=1)) == 3
    vault.write("app/a", "another")
    vault.delete("app/b")
    assert exposed(vault) == {"app/c": 1}
    vault.undelete("app/b", 1)
    assert exposed(vault) == {"app/b": 1, "app/c": 1}
    vault.close()
    assert exposed(world.open()) == {"app/b": 1, "app/c": 1}


def test_a_rollback_and_the_same_value_again_change_nothing(world: World, vault: Vault) -> None:
    vault.write("app/a", "first")
    vault.write("app/a", "second")
    vault.write("app/large", b"x" * 100_000)
    remove_a_key(world, vault)
    vault.write("app/a", "third")
    vault.write("app/large", b"y" * 100_000)
    assert exposed(vault) == {}
    vault.rollback("app/a", to=1)
    vault.write("app/large", b"x" * 100_000)
    assert exposed(vault) == {"app/a": 4, "app/large": 3}


def test_new_data_keys_are_no_new_value(world: World, vault: Vault) -> None:
    vault.write("app/a", "1")
    remove_a_key(world, vault)
    KeyChanges(vault.authority).rotate_data("")
    assert exposed(vault) == {"app/a": 1}
    vault.move("app/a", "app/elsewhere")
    assert exposed(vault) == {"app/elsewhere": 1}


def test_a_value_that_a_clock_ahead_of_the_removal_wrote_is_exposed(world: World, vault: Vault) -> None:
    world.clock.advance(timedelta(days=1))
    vault.write("app/a", "1")
    world.clock.advance(-timedelta(days=1))
    remove_a_key(world, vault)
    assert exposed(vault) == {"app/a": 1}


def test_what_a_clock_ahead_of_the_removal_wrote_stays_exposed_under_new_data_keys(world: World, vault: Vault) -> None:
    vault.write("app/a", "of now")
    world.clock.advance(timedelta(minutes=2))
    vault.write("app/b", "of a clock that is ahead")
    world.clock.advance(-timedelta(minutes=2))
    remove_a_key(world, vault)
    changes = KeyChanges(vault.authority)
    assert changes.rotate_data("app/a") == 1
    vault.write("app/c", "written later")
    assert exposed(vault) == {"app/a": 1, "app/b": 1}
    changes.rotate_data("")
    changes.rotate_data("app/b")
    assert set(exposed(vault)) >= {"app/a", "app/b"}
    world.clock.advance(timedelta(minutes=3))
    vault.write("app/b", "another")
    vault.write("app/c", "another")
    assert exposed(vault) == {"app/a": 1}


def test_a_compromise_lists_what_a_clock_ahead_of_it_wrote(world: World, vault: Vault) -> None:
    world.clock.advance(timedelta(minutes=2))
    vault.write("app/a", "1")
    world.clock.advance(-timedelta(minutes=2))
    Compromise(vault.authority).declare()
    assert exposed(vault) == {"app/a": 1}
    Compromise(vault.authority).resume()
    assert exposed(vault) == {"app/a": 1}


def test_a_removal_while_data_keys_are_replaced_is_seen(world: World, vault: Vault) -> None:
    world.clock.advance(timedelta(minutes=2))
    vault.write("app/a", "1")
    world.clock.advance(-timedelta(minutes=2))
    other, store = interrupted(world)
    store.interrupt("get", Space.VALUE, lambda: remove_a_key(world, vault))
    KeyChanges(other.authority).rotate_data("")
    assert exposed(vault) == {"app/a": 1}


def test_a_value_comes_back_from_an_old_page_or_from_a_deleted_version(world: World, vault: Vault) -> None:
    for name in ("app/paged", "app/deleted"):
        vault.write(name, "first")
    remove_a_key(world, vault)
    for number in range(40):
        vault.write("app/paged", f"{number:5}", metadata={"note": "x" * 8_000 + str(number)})
    vault.write("app/deleted", "later")
    assert exposed(vault) == {}
    vault.write("app/paged", "first")
    vault.delete("app/deleted", version=1)
    vault.write("app/deleted", "first")
    assert exposed(vault) == {"app/paged": 42, "app/deleted": 3}


def test_each_removed_key_has_a_list_of_its_own(world: World, vault: Vault) -> None:
    vault.write("app/a", "1")
    remove_a_key(world, vault, "one")
    vault.write("app/b", "1")
    remove_a_key(world, vault, "two")
    assert sorted((each.path, each.label) for each in find_exposed(vault.authority)) == [
        ("app/a", "one"),
        ("app/a", "two"),
        ("app/b", "two"),
    ]


def test_names_only_what_the_caller_may_list(world: World, vault: Vault) -> None:
    grant(vault)
    vault.write("app/a", "1")
    vault.write("other/b", "1")
    remove_a_key(world, vault)
    assert exposed(vault) == {"app/a": 1, "other/b": 1}
    with vault.acting("svc:reader") as reader:
        assert exposed(reader) == {"app/a": 1}


def test_a_removal_that_is_denied_leaves_no_note(world: World, vault: Vault) -> None:
    vault.write("app/a", "1")
    with vault.acting("svc:reader") as reader, pytest.raises(AccessDenied):
        Slots(reader.authority).remove(1)
    assert find_exposed(vault.authority) == []
