"""What one handle sees of what others do, and what happens between two reads of the store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from securecfg.audit import Checkpoint, Tree, leaf_hash, origin_of, parse_leaf, sign_checkpoint
from securecfg.errors import Conflict, SecretDestroyed, Tampered
from securecfg.keys import ROOTS_ROW, generate_key_file, open_provider
from securecfg.store import Delete, Put, Space, open_sqlite
from securecfg.vault.commits.maintenance import compact
from securecfg.vault.keys.changes import KeyChanges
from securecfg.vault.keys.slots import Slots
from securecfg.vault.state import replica
from securecfg.vault.state.head import build_head, parse_head
from securecfg.vault.state.replica import HEADER_ID, read_slots
from tests.vault.world import World, interrupted, text_of

if TYPE_CHECKING:
    from pathlib import Path

    from securecfg.store import Store
    from securecfg.vault.vault import Vault


LARGE = bytes(range(256)) * 5_000


def test_sees_what_another_handle_wrote(world: World, vault: Vault) -> None:
    other = world.open()
    vault.write("app/one", "1")
    assert text_of(other, "app/one") == "1"
    vault.write("app/one", "2")
    assert text_of(other, "app/one") == "2"
    vault.delete("app/one")
    assert other.list() == []


def test_does_not_read_back_the_head_that_it_committed(world: World, vault: Vault) -> None:
    """A look at the store's revision tells that nobody else has committed since."""
    other, store = interrupted(world)
    looks: list[str] = []
    other.write("app/a", "1")
    store.interrupt("head", None, lambda: looks.append("its own"))
    other.write("app/a", "2")
    assert text_of(other, "app/a") == "2"
    assert not looks
    vault.write("app/a", "3")
    assert other.write("app/a", "4") == 4
    assert looks


def test_a_handle_that_lags_behind_a_compaction_catches_up(world: World, vault: Vault) -> None:
    other = world.open()
    for number in range(20):
        vault.write(f"app/{number}", str(number))
    assert compact(vault.opened)
    assert len(other.list()) == 20
    vault.write("app/0", "new")
    assert text_of(other, "app/0") == "new"


def test_a_list_goes_on_over_a_compaction_in_its_middle(world: World, vault: Vault) -> None:
    for number in range(20):
        vault.write(f"app/{number}", str(number))
    compact(vault.opened)
    vault.write("app/20", "20")
    other, store = interrupted(world)
    store.interrupt("get", Space.SEGMENT, lambda: compact(vault.opened))
    assert len(other.list()) == 21


def test_a_read_goes_on_over_a_compaction_in_its_middle(world: World, vault: Vault) -> None:
    vault.write("app/a", "1")
    compact(vault.opened)
    vault.write("app/b", "2")
    other, store = interrupted(world)
    store.interrupt("get", Space.SEGMENT, lambda: compact(vault.opened))
    assert text_of(other, "app/a") == "1"


def test_a_read_goes_on_over_a_write_in_its_middle(world: World, vault: Vault) -> None:
    vault.write("app/a", "1")
    other, store = interrupted(world)
    store.interrupt("get", Space.HISTORY, lambda: vault.write("app/a", "2"))
    assert text_of(other, "app/a") == "2"


def test_a_write_goes_on_over_another_write_in_its_middle(world: World, vault: Vault) -> None:
    vault.write("app/a", "1")
    other, store = interrupted(world)
    other.list()
    store.interrupt("get", Space.HISTORY, lambda: vault.write("app/a", "2"))
    assert other.write("app/a", "3") == 3


def test_a_move_in_the_middle_of_a_stream_leaves_what_was_found(world: World, vault: Vault) -> None:
    vault.write("app/a", b"1" * 100_000)
    other, store = interrupted(world)
    other.list()

    def replace() -> None:
        vault.move("app/a", "app/b")
        vault.write("app/a", b"2" * 100_000)

    store.interrupt("get", Space.DEK, replace)
    _, pieces = other.stream("app/a")
    assert b"".join(pieces) == b"1" * 100_000


def test_a_stream_goes_on_over_a_replacement_in_its_middle(world: World, vault: Vault) -> None:
    vault.write("app/a", b"1" * 100_000)
    other, store = interrupted(world)
    other.list()

    def replace() -> None:
        vault.write("app/a", b"2" * 100_000)
        vault.destroy("app/a", 1)

    store.interrupt("get", Space.DEK, replace)
    _, pieces = other.stream("app/a")
    assert b"".join(pieces) == b"2" * 100_000


@pytest.mark.parametrize("is_moved", [False, True])
def test_a_stream_whose_version_is_destroyed_meanwhile_says_so(world: World, vault: Vault, *, is_moved: bool) -> None:
    vault.write("app/a", LARGE)
    vault.write("app/a", "small")
    other = world.open()
    _, pieces = other.stream("app/a", at=1)
    assert LARGE.startswith(next(pieces))
    path = "app/a"
    if is_moved:
        path = "app/b"
        vault.move("app/a", path)
    vault.destroy(path, 1)
    compact(vault.opened)
    with pytest.raises(SecretDestroyed) as ended:
        list(pieces)
    assert ended.value.code == "secret-destroyed"
    assert text_of(other, path) == "small"


@pytest.mark.parametrize("is_moved", [False, True])
def test_a_stream_whose_version_gets_a_new_data_key_meanwhile_says_so(
    world: World, vault: Vault, *, is_moved: bool
) -> None:
    vault.write("app/a", LARGE)
    other = world.open()
    _, pieces = other.stream("app/a")
    assert LARGE.startswith(next(pieces))
    if is_moved:
        vault.move("app/a", "app/b")
    KeyChanges(vault.authority).rotate_data("")
    with pytest.raises(Conflict, match="version 1 of `app/a`") as ended:
        list(pieces)
    assert ended.value.code == "conflict"
    assert other.read("app/b" if is_moved else "app/a").field("").reveal() == LARGE


def test_a_stream_over_a_row_that_was_taken_away_is_tampering(world: World, vault: Vault) -> None:
    vault.write("app/a", LARGE)
    other = world.open()
    _, pieces = other.stream("app/a")
    next(pieces)
    entry = vault.opened.entry(b"app/a")
    assert entry is not None
    version = vault.opened.locate(b"app/a", entry, 1).version
    vault.opened.store.stage([Delete(Space.VALUE, version.value_id + version.value_rows)])
    vault.delete("app/a")
    with pytest.raises(Tampered) as ended:
        list(pieces)
    assert ended.value.code == "tampered"


def test_a_read_of_a_large_version_that_is_destroyed_in_its_middle_says_so(world: World, vault: Vault) -> None:
    vault.write("app/a", LARGE)
    vault.write("app/a", "small")
    other, store = interrupted(world)
    other.list()

    rows = iter(("the record", "the first row", "a later one"))

    def destroy_before_the_last() -> None:
        if next(rows) == "a later one":
            vault.destroy("app/a", 1)
            compact(vault.opened)
        else:
            store.interrupt("get", Space.VALUE, destroy_before_the_last)

    store.interrupt("get", Space.VALUE, destroy_before_the_last)
    with pytest.raises(SecretDestroyed):
        other.read("app/a", at=1)
    assert text_of(other, "app/a") == "small"


def test_an_opener_that_another_process_overtakes_suspects_nothing(world: World, vault: Vault) -> None:
    vault.write("app/a", "1")
    other, store = interrupted(world)

    def overtake() -> None:
        for number in range(3):
            vault.write("app/b", str(number))

    store.interrupt("commit", None, overtake)
    other.write("app/c", "1")
    assert other.list() == ["app/a", "app/b", "app/c"]


def test_an_opener_suspects_nothing_where_the_root_is_replaced_between_header_and_slots(
    world: World, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault.write("a/b", "1")
    left = [1, 1]

    def overtaken(store: Store) -> dict[int, bytes]:
        if left and store is not vault.opened.store:
            left.pop()
            KeyChanges(vault.authority).rotate_root()
        return read_slots(store)

    monkeypatch.setattr(replica, "read_slots", overtaken)
    assert text_of(world.open(), "a/b") == "1"
    assert not left


def test_an_anchor_that_is_ahead_of_a_slow_handle_is_no_rollback(world: World, vault: Vault) -> None:
    slow = world.open()
    for number in range(3):
        vault.write("app/b", str(number))
    anchor = slow.opened._anchor
    assert anchor is not None
    known = anchor.read()
    assert known is not None
    assert known.mark.size > slow.opened.replica.checkpoint.size
    slow.opened.verify_mark(known.mark)


def test_header_and_slots_of_an_older_state_are_refused_though_the_root_vouches_for_them(
    world: World, vault: Vault, tmp_path: Path
) -> None:
    places = [(Space.META, number) for number in (HEADER_ID, ROOTS_ROW)]
    older = vault.opened.store.get_many(places)
    generate_key_file(tmp_path / "other")
    Slots(vault.authority).add(open_provider(f"file:{tmp_path / 'other'}"))
    vault.close()
    store = open_sqlite(world.path)
    store.stage([Put(*place, row or b"") for place, row in zip(places, older, strict=True)])
    store.close()
    with pytest.raises(Tampered, match="does not match the state"):
        world.open()


def test_a_head_that_somebody_without_a_key_signed_turns_no_open_handle_back(world: World, vault: Vault) -> None:
    vault.write("app/a", "old")
    other = world.open()
    assert text_of(other, "app/a") == "old"
    store = open_sqlite(world.path)
    older = [
        (space, id_, row) for space in (Space.HISTORY, Space.DELTA) for id_, row in store.scan(space, 0, 2**63 - 1, 99)
    ]
    changed = max(index for index, leaf in store.scan(Space.LOG, 0, 99, 99) if parse_leaf(leaf, index).delta_hashes)
    vault.write("app/a", "new")
    assert text_of(other, "app/a") == "new"
    # All of this lies in the file and in an older copy of it.
    key = Ed25519PrivateKey.generate()
    _, state, _ = parse_head(store.head() or b"")
    leaves = [row for _, row in store.scan(Space.LOG, 0, 99, 99)]
    tree = Tree()
    for leaf in (*leaves, leaves[changed]):
        tree.append(leaf_hash(leaf))
    forged = state._replace(generation=state.generation + 1, epoch_key=key.public_key().public_bytes_raw())
    origin = origin_of(vault.opened.replica.vault_id)
    note = sign_checkpoint(Checkpoint(origin, tree.size, tree.root(), forged.digest()), key)
    rows = [Put(Space.LOG, len(leaves), leaves[changed]), *(Put(*row) for row in older)]
    store.commit(rows, expect=store.head(), head=build_head(note, forged.to_bytes()))
    store.close()
    with pytest.raises(Tampered, match="log's key"):
        other.read("app/a")
    with pytest.raises(Tampered):
        vault.write("app/a", "newer")
