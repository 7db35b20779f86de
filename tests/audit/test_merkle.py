from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymerkle import InmemoryTree

from securecfg.audit.merkle import (
    EMPTY_ROOT,
    HASH_BYTES,
    MAX_LEAF_BYTES,
    MAX_SIZE,
    Tree,
    build_tiles,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    subtree_roots,
    verify_consistency,
    verify_inclusion,
)
from securecfg.errors import LogTampered, LogTruncated, ValueTooLarge
from tests.audit.sample import plain_log

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LOG = plain_log(66_200)
SIZES = st.integers(1, LOG.tree.size)


def reference_root(leaves: list[bytes]) -> bytes:
    """RFC 6962 section 2.1, word for word."""
    if not leaves:
        return EMPTY_ROOT
    if len(leaves) == 1:
        return leaf_hash(leaves[0])
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(reference_root(leaves[:split]), reference_root(leaves[split:]))


def root_at(size: int) -> bytes:
    return Tree(size, subtree_roots(LOG, size)).root()


class TestTheTree:
    @pytest.mark.parametrize("size", [0, 1, 2, 3, 7, 8, 255, 256, 257, 511, 512, 513, 1000])
    def test_has_the_root_of_rfc_6962(self, size: int) -> None:
        assert plain_log(size).tree.root() == reference_root([f"leaf {n}".encode() for n in range(size)])

    def test_has_the_root_that_another_implementation_has(self) -> None:
        other = InmemoryTree(algorithm="sha256")
        for leaf in LOG.leaves[:1500]:
            other.append_entry(leaf)
        assert root_at(1500) == other.get_root()

    def test_stores_every_tile_that_is_due(self) -> None:
        widths = {place: len(tile) // HASH_BYTES for place, tile in LOG.tiles.items()}
        assert sum(level == 0 for level, _ in widths) == 258
        assert all(width == 256 for (level, _), width in widths.items() if level == 0)
        assert (widths[1, 0], widths[1, 1], widths[2, 0]) == (256, 2, 1)

    @given(st.integers(0, 900), st.lists(st.integers(1, 300), max_size=4))
    @settings(max_examples=30, deadline=None)
    def test_stores_the_same_tiles_when_taken_up_anew(self, start: int, steps: list[int]) -> None:
        log = plain_log(start)
        for step in steps:
            log.tree = Tree(log.tree.size, log.tree.peaks, log)
            for number in range(log.tree.size, log.tree.size + step):
                log.append_leaf(f"leaf {number}".encode())
        whole = plain_log(log.tree.size)
        assert (log.tiles, log.tree.root()) == (whole.tiles, whole.tree.root())

    @given(st.integers(0, 700), st.lists(st.tuples(st.booleans(), st.integers(1, 300)), max_size=5))
    @settings(max_examples=30, deadline=None)
    def test_follows_what_others_have_stored(self, start: int, steps: list[tuple[bool, int]]) -> None:
        log = plain_log(start)
        follower = Tree(start, log.tree.peaks, log)
        for is_own, step in steps:
            for number in range(follower.size, follower.size + step):
                leaf = f"leaf {number}".encode()
                if is_own:
                    log.leaves.append(leaf)
                    for tile in follower.append(leaf_hash(leaf)):
                        log.tiles[tile.level, tile.index] = tile.hashes
                else:
                    log.append_leaf(leaf)
                    follower.append_stored(leaf_hash(leaf))
            log.tree = Tree(follower.size, follower.peaks, log)
            follower = Tree(follower.size, follower.peaks, log) if start % 2 else follower
        whole = plain_log(follower.size)
        assert (log.tiles, follower.root()) == (whole.tiles, whole.tree.root())

    def test_leaves_the_original_alone_when_a_copy_grows(self) -> None:
        tree = plain_log(255).tree
        before = tree.root()
        copy = tree.copy()
        assert [tile.level for tile in copy.append(leaf_hash(b"x"))] == [0, 1]
        assert (tree.size, tree.root()) == (255, before)
        assert [tile.level for tile in tree.append(leaf_hash(b"y"))] == [0, 1]
        assert tree.root() != copy.root()

    @pytest.mark.parametrize(
        ("size", "peaks"),
        [(1, []), (0, [bytes(32)]), (3, [bytes(32)]), (1, [bytes(31)]), (-1, []), (MAX_SIZE, [bytes(32)])],
    )
    def test_refuses_peaks_that_do_not_fit_its_size(self, size: int, peaks: list[bytes]) -> None:
        with pytest.raises(LogTampered):
            Tree(size, peaks)

    def test_refuses_an_altered_leaf_when_its_tile_is_completed(self) -> None:
        log = plain_log(255)
        log.leaves[3] = b"altered"
        tree = Tree(255, log.tree.peaks, log)
        with pytest.raises(LogTampered, match="records 0 to 255"):
            tree.append(bytes(32))

    @pytest.mark.parametrize("stored", [None, b"", bytes(32), bytes(31)])
    def test_refuses_an_altered_tile_of_an_upper_level(self, stored: bytes | None) -> None:
        log = plain_log(511)
        log.tiles.pop((1, 0))
        if stored is not None:
            log.tiles[1, 0] = stored
        tree = Tree(511, log.tree.peaks, log)
        with pytest.raises(LogTampered, match="tile 0 of level 1") as caught:
            tree.append(leaf_hash(b"leaf 511"))
        assert caught.value.index == 0

    def test_refuses_an_altered_tile_that_becomes_full(self) -> None:
        log = plain_log(65_535)
        log.tiles[1, 0] = bytes(32) + log.tiles[1, 0][32:]
        tree = Tree(65_535, log.tree.peaks, log)
        with pytest.raises(LogTampered, match="tile 0 of level 1"):
            tree.append(leaf_hash(b"leaf 65535"))

    def test_cannot_complete_a_tile_that_it_cannot_read(self) -> None:
        tree = Tree(255, plain_log(255).tree.peaks)
        with pytest.raises(LogTampered, match="cannot be read"):
            tree.append(bytes(32))

    def test_refuses_a_leaf_that_an_entry_bundle_cannot_hold(self) -> None:
        leaf_hash(bytes(MAX_LEAF_BYTES))
        with pytest.raises(ValueTooLarge):
            leaf_hash(bytes(MAX_LEAF_BYTES + 1))


class TestBuildingTiles:
    @pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 65_536, 66_200])
    def test_gives_each_tile_once_and_the_root(self, size: int) -> None:
        seen: dict[tuple[int, int], bytes] = {}

        def visit(level: int, index: int, hashes: bytes) -> None:
            assert (level, index) not in seen
            seen[level, index] = hashes

        assert build_tiles(size, LOG.leaves, visit) == root_at(size)
        for (level, index), hashes in seen.items():
            stored = LOG.tile(level, index)
            assert stored is None or stored.startswith(hashes)

    @pytest.mark.parametrize("size", [1, 256, 300])
    def test_notices_that_leaves_are_missing(self, size: int) -> None:
        with pytest.raises(LogTruncated, match=f"{size - 1} records of the {size}"):
            build_tiles(size, LOG.leaves[: size - 1], lambda *_: None)


class TestProofs:
    @given(SIZES, st.data())
    @settings(max_examples=150, deadline=None)
    def test_of_any_leaf_in_any_tree_hold(self, size: int, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, size - 1))
        proof = inclusion_proof(LOG, index, size)
        verify_inclusion(index, size, leaf_hash(LOG.leaves[index]), proof, root_at(size))

    @given(SIZES, SIZES)
    @settings(max_examples=150, deadline=None)
    def test_of_any_earlier_tree_hold(self, one: int, two: int) -> None:
        old, new = sorted((one, two))
        verify_consistency(old, new, root_at(old), root_at(new), consistency_proof(LOG, old, new))

    @given(SIZES, st.data())
    @settings(max_examples=150, deadline=None)
    def test_of_inclusion_fail_when_anything_is_altered(self, size: int, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, size - 1))
        parts = [leaf_hash(LOG.leaves[index]), *inclusion_proof(LOG, index, size), root_at(size)]
        which = data.draw(st.integers(0, len(parts) - 1))
        bit = data.draw(st.integers(0, 255))
        parts[which] = (int.from_bytes(parts[which]) ^ 1 << bit).to_bytes(32)
        with pytest.raises(LogTampered):
            verify_inclusion(index, size, parts[0], parts[1:-1], parts[-1])

    @given(SIZES, SIZES, st.data())
    @settings(max_examples=150, deadline=None)
    def test_of_consistency_fail_when_anything_is_altered(self, one: int, two: int, data: st.DataObject) -> None:
        old, new = sorted((one, two))
        parts = [root_at(old), *consistency_proof(LOG, old, new), root_at(new)]
        which = data.draw(st.integers(0, len(parts) - 1))
        bit = data.draw(st.integers(0, 255))
        parts[which] = (int.from_bytes(parts[which]) ^ 1 << bit).to_bytes(32)
        with pytest.raises(LogTampered):
            verify_consistency(old, new, parts[0], parts[-1], parts[1:-1])

    @pytest.mark.parametrize(("index", "size"), [(0, 0), (-1, 5), (5, 5), (6, 5)])
    def test_of_a_record_outside_the_log_are_not_made(self, index: int, size: int) -> None:
        with pytest.raises(LogTampered):
            inclusion_proof(LOG, index, size)

    @pytest.mark.parametrize(("old", "new"), [(0, 5), (-1, 5), (6, 5), (0, 0)])
    def test_of_a_log_that_cannot_be_a_prefix_are_not_made(self, old: int, new: int) -> None:
        with pytest.raises(LogTampered):
            consistency_proof(LOG, old, new)

    def test_need_the_tiles_of_upper_levels(self) -> None:
        log = plain_log(600)
        del log.tiles[1, 0]
        with pytest.raises(LogTampered, match="tile 0 of level 1 is missing") as caught:
            inclusion_proof(log, 599, 600)
        assert caught.value.index == 0

    def test_need_whole_tiles(self) -> None:
        log = plain_log(600)
        log.tiles[0, 1] = log.tiles[0, 1][:-1]
        with pytest.raises(LogTampered, match="tile 1 of level 0") as caught:
            inclusion_proof(log, 300, 600)
        assert caught.value.index is not None

    @pytest.mark.parametrize(("old", "new"), [(1, MAX_SIZE), (0, 0), (2, 1)])
    def test_of_consistency_refuse_impossible_sizes(self, old: int, new: int) -> None:
        with pytest.raises(LogTampered):
            verify_consistency(old, new, bytes(32), bytes(32), [])

    def test_of_inclusion_refuse_impossible_sizes(self) -> None:
        with pytest.raises(LogTampered):
            verify_inclusion(0, MAX_SIZE, bytes(32), [], bytes(32))

    def test_refuse_hashes_of_another_length(self) -> None:
        with pytest.raises(LogTampered, match="32 bytes"):
            verify_inclusion(0, 2, bytes(32), [bytes(33)], bytes(32))
        with pytest.raises(LogTampered, match="32 bytes"):
            verify_consistency(1, 2, bytes(32), bytes(31), [bytes(32)])

    @pytest.mark.parametrize("count", [60, 1_000_000])
    def test_of_any_length_are_refused_in_bounded_time(self, count: int) -> None:
        with pytest.raises(LogTampered, match="too long"):
            verify_inclusion(0, 2, bytes(32), [bytes(32)] * count, bytes(32))
        with pytest.raises(LogTampered, match="too long"):
            verify_consistency(1, 2, bytes(32), bytes(32), [bytes(32)] * count)


def load(path: Path) -> dict[str, Any]:
    vector: dict[str, Any] = json.loads(path.read_text())
    return vector


def decode(encoded: str | None) -> bytes:
    return base64.b64decode(encoded or "")


def check(wants_error: bool, verify: Callable[[], None]) -> None:
    if wants_error:
        with pytest.raises(LogTampered):
            verify()
    else:
        verify()


class TestPublishedVectors:
    """transparency-dev/merkle, testdata."""

    def test_of_inclusion_agree(self, vectors: Path) -> None:
        paths = sorted((vectors / "merkle/inclusion").rglob("*.json"))
        assert len(paths) == 98
        for path in paths:
            vector = load(path)
            proof = [decode(part) for part in vector["proof"] or []]

            def verify(vector: dict[str, Any] = vector, proof: list[bytes] = proof) -> None:
                verify_inclusion(
                    vector["leafIdx"], vector["treeSize"], decode(vector["leafHash"]), proof, decode(vector["root"])
                )

            check(vector["wantErr"], verify)

    def test_of_consistency_agree(self, vectors: Path) -> None:
        paths = sorted((vectors / "merkle/consistency").rglob("*.json"))
        assert len(paths) == 98
        skipped = 0
        for path in paths:
            vector = load(path)
            old_root, new_root = decode(vector["root1"]), decode(vector["root2"])
            if not vector["wantErr"] and len(old_root) != HASH_BYTES:
                skipped += 1  # one vector has roots of 12 bytes, which SHA-256 cannot have
                continue
            proof = [decode(part) for part in vector["proof"] or []]

            def verify(
                vector: dict[str, Any] = vector,
                roots: tuple[bytes, bytes] = (old_root, new_root),
                proof: list[bytes] = proof,
            ) -> None:
                verify_consistency(vector["size1"], vector["size2"], *roots, proof)

            check(vector["wantErr"], verify)
        assert skipped == 1
