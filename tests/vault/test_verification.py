"""Checking a whole vault: what is damaged or left over is named, and writers meanwhile are no damage."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.store import Delete, Put, Space
from securecfg.vault.commits.maintenance import compact
from securecfg.vault.verification import verify_vault
from tests.vault.world import World, interrupted

if TYPE_CHECKING:
    from securecfg.vault.vault import Vault


def test_a_sound_vault_has_no_problems(vault: Vault) -> None:
    for number in range(70):
        vault.write("app/a", str(number))
    vault.write("app/large", b"x" * 200_000)
    vault.destroy("app/a", 1)
    vault.delete("app/a")
    compact(vault.opened)
    steps: list[tuple[int, int]] = []
    result = verify_vault(vault.opened, lambda done, total: steps.append((done, total)))
    assert result.problems == []
    assert (result.secrets, result.versions) == (3, 72)
    assert result.orphans == {}
    assert steps == [(1, 3), (2, 3), (3, 3)]


def test_damage_is_named_by_path_and_version(vault: Vault) -> None:
    vault.write("app/a", "1")
    vault.write("app/a", "2")
    vault.write("app/b", "1")
    opened = vault.opened
    entry = opened.entry(b"app/a")
    other = opened.entry(b"app/b")
    assert entry is not None
    assert other is not None
    first = opened.history(b"app/a", entry).versions[-1]
    opened.store.stage([Put(Space.VALUE, first.value_id, b"damaged"), Delete(Space.HISTORY, other.history_id)])
    result = verify_vault(opened)
    assert [(path, version) for path, version, _ in result.problems] == [("app/a", 1), ("app/b", 0)]


def test_rows_that_nothing_references_are_counted(vault: Vault) -> None:
    first = vault.opened.replica.state.next_id
    vault.write("app/a", "1")
    vault.opened.store.stage([Put(Space.VALUE, 1, b"left over"), Put(Space.DEK, 1, b"left over")])
    assert verify_vault(vault.opened).orphans == {"value": 1, "dek": 1}
    assert first > 1


def test_a_writer_meanwhile_is_no_damage(world: World, vault: Vault) -> None:
    vault.write("app/a", "1")
    vault.write("app/b", "1")
    other, store = interrupted(world)
    other.list()

    def write() -> None:
        vault.write("app/a", "2")
        vault.move("app/b", "app/c")

    store.interrupt("get", Space.HISTORY, write)
    result = verify_vault(other.opened)
    assert result.problems == []
    assert result.orphans == {}
