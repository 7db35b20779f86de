"""The Merkle tree of RFC 6962 with SHA-256: growing it, storing it as tiles, making and checking proofs.

A tree is stored as the hash tiles of c2sp.org/tlog-tiles: tile `(level, index)` holds up to 256 hashes of 32 bytes, and
each hash of level `l + 1` is the root of one full tile of level `l`. Hashes of the last, incomplete tile of level 0 are
not stored: they are the hashes of leaves that are at hand.

Everything here is pure; a `HashReader` says where stored tiles and leaves come from.
"""

from __future__ import annotations

from hashlib import sha256
from hmac import compare_digest
from itertools import islice
from typing import TYPE_CHECKING, Protocol, Self

from securecfg.errors import LogTampered, LogTruncated, ValueTooLarge
from securecfg.words import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

HASH_BYTES = 32
TILE_WIDTH = 256
TILE_BYTES = TILE_WIDTH * HASH_BYTES
TILE_HEIGHT = 8
MAX_LEAF_BYTES = 65_535
MAX_SIZE = 1 << 63
EMPTY_ROOT = sha256().digest()


class Tile:
    """A tile to be stored; it replaces a shorter one of the same place."""

    __slots__ = ("hashes", "index", "level")

    def __init__(self, level: int, index: int, hashes: bytes) -> None:
        """Take its place and its hashes."""
        self.level = level
        self.index = index
        self.hashes = hashes


class HashReader(Protocol):
    """Where the hashes of a stored tree come from. What it returns is checked, never trusted."""

    def tile(self, level: int, index: int) -> bytes | None:
        """Return the stored hashes of a tile, all that there are, or None if it is not stored."""
        ...

    def leaf(self, index: int) -> bytes:
        """Return the bytes of a leaf."""
        ...


def leaf_hash(leaf: bytes) -> bytes:
    """Return the hash of a leaf, RFC 6962 section 2.1.

    Raises:
        ValueTooLarge: The leaf is longer than an entry bundle allows.
    """
    if len(leaf) > MAX_LEAF_BYTES:
        message = f"a leaf of {len(leaf)} bytes is longer than {MAX_LEAF_BYTES}"
        raise ValueTooLarge(message)
    return sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node, RFC 6962 section 2.1."""
    return sha256(b"\x01" + left + right).digest()


def tile_root(tile: bytes) -> bytes:
    """Return the root over the hashes of a tile, of which there are a power of two."""
    while len(tile) > HASH_BYTES:
        tile = b"".join([sha256(b"\x01" + tile[at : at + 64]).digest() for at in range(0, len(tile), 64)])
    return tile


def fold_peaks(peaks: Sequence[bytes]) -> bytes:
    """Return the root of the tree whose complete subtrees, largest first, have these roots."""
    if not peaks:
        return EMPTY_ROOT
    root = peaks[-1]
    for peak in reversed(peaks[:-1]):
        root = sha256(b"\x01" + peak + root).digest()  # `node_hash` without a call for each
    return root


class Tree:
    """A growing tree, kept as the roots of its complete subtrees.

    Appending needs nothing else; what was there before is read only when a tile is completed. It is not
    synchronised: whoever holds the lock of the log holds its tree.

    Args:
        size: The number of leaves.
        peaks: The roots of the complete subtrees, largest first. They are trusted: they come from an authenticated
            head.
        reader: Gives the tiles and leaves that were stored before; checked against the peaks.
    """

    __slots__ = ("_edges", "_peaks", "_reader", "_size", "_tail")

    _edges: dict[int, bytes]
    _tail: list[bytes]

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = (), reader: HashReader | None = None) -> None:
        """Take up a tree where it was left, or start an empty one.

        Raises:
            LogTampered: The peaks do not fit the size.
        """
        if not 0 <= size < MAX_SIZE or len(peaks) != size.bit_count() or any(len(peak) != HASH_BYTES for peak in peaks):
            message = f"the subtree roots do not fit a log of {counted(size, 'record')}"
            raise LogTampered(message)
        self._size = size
        self._peaks = list(peaks)
        self._reader = reader
        self._tail = []
        self._edges = {}

    @property
    def size(self) -> int:
        """The number of leaves."""
        return self._size

    @property
    def peaks(self) -> tuple[bytes, ...]:
        """The roots of the complete subtrees, largest first."""
        return tuple(self._peaks)

    def copy(self) -> Self:
        """Return an independent tree of the same state, so that a commit that fails leaves this one as it was."""
        other = object.__new__(type(self))  # what was checked once need not be checked for every publication
        other._size, other._reader = self._size, self._reader
        other._peaks = self._peaks.copy()
        other._tail = self._tail.copy()
        other._edges = self._edges.copy()
        return other

    def root(self) -> bytes:
        """Return the root hash."""
        return fold_peaks(self._peaks)

    def append(self, hashed_leaf: bytes) -> list[Tile]:
        """Add a leaf by its hash and return the tiles that must be stored with it, lowest level first.

        Raises:
            LogTampered: A tile is complete, and what was stored of it before does not match the tree.
        """
        index = self._size
        completed = _merge(self._peaks, index, hashed_leaf)
        self._size += 1
        self._tail.append(hashed_leaf)
        if not completed:
            return []
        tiles = [Tile(0, index // TILE_WIDTH, self._complete_tail(index, completed[0]))]
        for level, root in enumerate(completed, start=1):
            entry = index >> (TILE_HEIGHT * level)
            above = completed[level] if level < len(completed) else None
            tiles.append(Tile(level, entry // TILE_WIDTH, self._extend_edge(level, entry, root, above)))
        return tiles

    def append_stored(self, hashed_leaf: bytes) -> None:
        """Add a leaf whose tiles are stored already, such as one that another process has published.

        Nothing is read now; whether the leaf belongs there shows in the root. A tree without a reader cannot complete
        tiles of its own afterwards.
        """
        completed = _merge(self._peaks, self._size, hashed_leaf)
        self._size += 1
        self._tail.append(hashed_leaf)
        if completed:
            self._tail.clear()
            self._edges.clear()

    def _complete_tail(self, last: int, root: bytes) -> bytes:
        """Return the full tile of level 0 that ends with leaf `last`; the leaves appended here are in memory."""
        first = last - TILE_WIDTH + 1
        missing = TILE_WIDTH - len(self._tail)
        if missing:
            reader = _need(self._reader, first)
            self._tail[:0] = [leaf_hash(reader.leaf(index)) for index in range(first, first + missing)]
        tile = b"".join(self._tail)
        if missing and tile_root(tile) != root:
            message = f"the records {first} to {last} do not match the signed tree"
            raise LogTampered(message, index=first)
        self._tail.clear()
        return tile

    def _extend_edge(self, level: int, entry: int, root: bytes, above: bytes | None) -> bytes:
        """Return the last tile of a level with one more entry; `above` is its root if that makes it full."""
        width = entry % TILE_WIDTH + 1
        tile = self._edges.get(level)
        if tile is None and width > 1:
            first = (entry - width + 1) << (TILE_HEIGHT * level)
            stored = _need(self._reader, first).tile(level, entry // TILE_WIDTH) or b""
            tile = stored[: (width - 1) * HASH_BYTES] + root
            peaks = self._peaks[-width.bit_count() :] if above is None else [above]
            if len(tile) != width * HASH_BYTES or complete_subtrees(tile) != peaks:
                message = f"tile {entry // TILE_WIDTH} of level {level} does not match the signed tree"
                raise LogTampered(message, index=first)
        else:
            tile = (tile or b"") + root
        self._edges[level] = b"" if width == TILE_WIDTH else tile
        return tile


def _merge(peaks: list[bytes], size: int, hashed_leaf: bytes) -> list[bytes]:
    """Add a leaf to the complete subtrees of a tree, and return the roots of the tiles that it fills, by level."""
    node = hashed_leaf
    height = 0
    filled = []
    while size >> height & 1:
        node = sha256(b"\x01" + peaks.pop() + node).digest()  # as above
        height += 1
        if height % TILE_HEIGHT == 0:
            filled.append(node)
    peaks.append(node)
    return filled


def root_after(size: int, peaks: Sequence[bytes], hashed_leaves: Iterable[bytes]) -> bytes:
    """Return the root of a tree, given by its peaks, with more leaves appended.

    Raises:
        LogTampered: The peaks do not fit the size.
    """
    subtrees = list(Tree(size, peaks).peaks)
    for index, hashed_leaf in enumerate(hashed_leaves, start=size):
        _merge(subtrees, index, hashed_leaf)
    return fold_peaks(subtrees)


def _need(reader: HashReader | None, first: int) -> HashReader:
    if reader is None:
        message = f"the records from {first} on are needed and cannot be read"
        raise LogTampered(message, index=first)
    return reader


def complete_subtrees(hashes: bytes) -> list[bytes]:
    """Return the roots of the complete subtrees, largest first, over hashes in a row."""
    peaks = []
    start = 0
    left = len(hashes) // HASH_BYTES
    while left:
        width = 1 << (left.bit_length() - 1)
        peaks.append(tile_root(hashes[start : start + width * HASH_BYTES]))
        start += width * HASH_BYTES
        left -= width
    return peaks


def build_tiles(size: int, leaves: Iterable[bytes], visit: Callable[[int, int, bytes], None]) -> bytes:
    """Hash the leaves of a tree again, hand out each of its tiles once, and return the root.

    Args:
        size: How many leaves to take.
        leaves: In order, from 0; not read further than `size`.
        visit: Is called with level, index and hashes of each tile; a tile that is not full comes at the end.

    Raises:
        LogTruncated: There are fewer leaves.
    """
    rows = iter(leaves)
    pending = [b""]  # the hashes of each level that do not fill a tile yet
    done = 0
    while done < size:
        width = min(TILE_WIDTH, size - done)
        hashes = b"".join([sha256(b"\x00" + row).digest() for row in islice(rows, width)])
        done += len(hashes) // HASH_BYTES
        if len(hashes) < width * HASH_BYTES:
            message = f"the log has {counted(done, 'record')} of the {size} that were signed"
            raise LogTruncated(message)
        pending[0] = hashes
        level = 0
        while len(pending[level]) == TILE_BYTES:
            visit(level, (done >> TILE_HEIGHT * (level + 1)) - 1, pending[level])
            if level + 1 == len(pending):
                pending.append(b"")
            pending[level + 1] += tile_root(pending[level])
            pending[level] = b""
            level += 1
    peaks = []
    for level in reversed(range(len(pending))):
        if pending[level]:
            visit(level, done >> TILE_HEIGHT * (level + 1), pending[level])
            peaks += complete_subtrees(pending[level])
    return fold_peaks(peaks)


# --- making proofs ----------------------------------------------------------------------------------------------------


def inclusion_proof(reader: HashReader, index: int, size: int) -> tuple[bytes, ...]:
    """Return the audit path of a leaf in the tree of this size, RFC 6962 section 2.1.1.

    The path is as right as what the reader returns: verify it before it is handed out.

    Raises:
        LogTampered: A needed tile is missing, or there is no such leaf in a tree of this size.
    """
    if not 0 <= index < size:
        message = f"a log of {counted(size, 'record')} has no record {index}"
        raise LogTampered(message, index=index)
    start, end = 0, size
    path = []
    while end - start > 1:
        split = start + _split(end - start)
        if index < split:
            path.append(_range_hash(reader, split, end))
            end = split
        else:
            path.append(_range_hash(reader, start, split))
            start = split
    return tuple(reversed(path))


def consistency_proof(reader: HashReader, old_size: int, new_size: int) -> tuple[bytes, ...]:
    """Return the proof that the tree of the old size is a prefix of the new one, RFC 6962 section 2.1.2.

    The proof is as right as what the reader returns: verify it before it is handed out.

    Raises:
        LogTampered: A needed tile is missing, or the old size is 0 or larger than the new one.
    """
    if not 0 < old_size <= new_size:
        message = f"a log of {counted(new_size, 'record')} cannot be shown to continue one of {old_size}"
        raise LogTampered(message)
    if old_size == new_size:
        return ()
    start, end = 0, new_size
    proof = []
    while old_size != end:
        split = start + _split(end - start)
        if old_size <= split:
            proof.append(_range_hash(reader, split, end))
            end = split
        else:
            proof.append(_range_hash(reader, start, split))
            start = split
    if start:
        proof.append(_range_hash(reader, start, end))
    return tuple(reversed(proof))


def subtree_roots(reader: HashReader, size: int) -> tuple[bytes, ...]:
    """Return the roots of the complete subtrees of the tree of this size, largest first.

    Raises:
        LogTampered: A needed tile is missing.
    """
    peaks = []
    start = 0
    while start < size:
        height = (size - start).bit_length() - 1
        peaks.append(_subtree_hash(reader, height, start >> height))
        start += 1 << height
    return tuple(peaks)


def _split(width: int) -> int:
    """Return the largest power of two below `width`."""
    return 1 << ((width - 1).bit_length() - 1)


def _range_hash(reader: HashReader, start: int, end: int) -> bytes:
    """Return the root over leaves `start` to `end`, where `start` is a multiple of a power of two that spans them."""
    peaks = []
    while start < end:
        height = (end - start).bit_length() - 1
        peaks.append(_subtree_hash(reader, height, start >> height))
        start += 1 << height
    return fold_peaks(peaks)


def _subtree_hash(reader: HashReader, height: int, index: int) -> bytes:
    """Return the root of the complete subtree number `index` of this height, from one tile or from leaves."""
    level, rest = divmod(height, TILE_HEIGHT)
    count = 1 << rest
    first = index << rest  # of this level's hashes
    tile = reader.tile(level, first // TILE_WIDTH)
    if tile is None and level == 0:
        return tile_root(b"".join([leaf_hash(reader.leaf(first + offset)) for offset in range(count)]))
    start = first % TILE_WIDTH * HASH_BYTES
    hashes = (tile or b"")[start : start + count * HASH_BYTES]
    if len(hashes) != count * HASH_BYTES:
        message = f"tile {first // TILE_WIDTH} of level {level} is missing or too short"
        raise LogTampered(message, index=index << height)
    return tile_root(hashes)


# --- checking proofs --------------------------------------------------------------------------------------------------


def verify_inclusion(index: int, size: int, hashed_leaf: bytes, proof: Sequence[bytes], root: bytes) -> None:
    """Check that a leaf is in the tree, RFC 9162 section 2.1.3.2.

    Raises:
        LogTampered: It is not, or the proof is malformed.
    """
    if not 0 <= index < size < MAX_SIZE:
        message = f"a log of {counted(size, 'record')} has no record {index}"
        raise LogTampered(message, index=index)
    _check_hashes((hashed_leaf, *proof, root))
    position, last = index, size - 1
    computed = hashed_leaf
    for sibling in proof:
        if last == 0:
            message = f"the proof of record {index} is too long"
            raise LogTampered(message, index=index)
        if position & 1 or position == last:
            computed = node_hash(sibling, computed)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            computed = node_hash(computed, sibling)
        position >>= 1
        last >>= 1
    if last != 0 or not compare_digest(computed, root):
        message = f"the proof of record {index} does not lead to the signed root"
        raise LogTampered(message, index=index)


def verify_consistency(old_size: int, new_size: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> None:
    """Check that the old tree is a prefix of the new one, RFC 9162 section 2.1.4.2.

    An empty old tree is refused: every tree continues it, so there is nothing to prove.

    Raises:
        LogTampered: It is not, or the proof is malformed.
    """
    if not 0 < old_size <= new_size < MAX_SIZE:
        message = f"a log of {counted(new_size, 'record')} cannot be shown to continue one of {old_size}"
        raise LogTampered(message)
    _check_hashes((old_root, new_root, *proof))
    if old_size == new_size:
        if proof or old_root != new_root:
            message = f"two logs of {counted(new_size, 'record')} differ"
            raise LogTampered(message)
        return
    if not proof:
        message = "the consistency proof is empty"
        raise LogTampered(message)
    # A complete old tree is its own first node; its root is then left out of the proof.
    path = [old_root, *proof] if old_size & (old_size - 1) == 0 else list(proof)
    position, last = old_size - 1, new_size - 1
    while position & 1:
        position >>= 1
        last >>= 1
    old_computed = new_computed = path[0]
    for sibling in path[1:]:
        if last == 0:
            message = "the consistency proof is too long"
            raise LogTampered(message)
        if position & 1 or position == last:
            old_computed = node_hash(sibling, old_computed)
            new_computed = node_hash(sibling, new_computed)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            new_computed = node_hash(new_computed, sibling)
        position >>= 1
        last >>= 1
    if last != 0 or not compare_digest(old_computed, old_root) or not compare_digest(new_computed, new_root):
        message = f"the log of {counted(new_size, 'record')} does not continue the one of {old_size}"
        raise LogTampered(message)


def _check_hashes(hashes: Iterable[bytes]) -> None:
    if any(len(hashed) != HASH_BYTES for hashed in hashes):
        message = f"a hash in a proof is not {HASH_BYTES} bytes long"
        raise LogTampered(message)
