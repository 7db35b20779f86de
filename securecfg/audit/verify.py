"""Verification of a log, in levels; each needs more than the one before and says more.

    1  the newest checkpoint is well formed and signed          `open_checkpoint`
    2  every stored leaf and tile hashes to its root            `verify_tree`
    3  epochs, continuity and times, from the opened records    `History`
    4  the checkpoint binds the state of the vault              the vault's own part
       and continues the checkpoints known from elsewhere       `verify_continues`, `verify_fresh`

What is found is one of three: `LogTampered`, with the first wrong record where one can be named; `LogTruncated`, where
records are missing at the end; `LogStale`, where the newest record is too old.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.audit.checkpoint import open_signed_checkpoint
from securecfg.audit.epoch import Epochs, parse_hand_over
from securecfg.audit.events import Event
from securecfg.audit.leaf import parse_leaf
from securecfg.audit.merkle import (
    EMPTY_ROOT,
    HASH_BYTES,
    TILE_BYTES,
    TILE_HEIGHT,
    TILE_WIDTH,
    build_tiles,
    verify_consistency,
)
from securecfg.errors import LogStale, LogTampered, LogTruncated
from securecfg.words import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import timedelta

    from securecfg.audit.checkpoint import Checkpoint
    from securecfg.audit.note import VerifierKey
    from securecfg.audit.opening import RecordOpener

    TileReader = Callable[[int, int], bytes | None]

CLOCK_TOLERANCE_NS = 5 * 60 * 10**9


def verify_tree(checkpoint: Checkpoint, leaves: Iterable[bytes], tile: TileReader) -> None:
    """Check that leaves and stored tiles are those of a checkpoint: every leaf is hashed again.

    Args:
        checkpoint: One whose signature was checked.
        leaves: All leaf rows from 0, in order.
        tile: Returns the stored hashes of a tile by level and index. It may return None only for the last tile of
            level 0 where that is not full.

    Raises:
        LogTampered: A leaf or tile is wrong. The index is known where leaf and tile disagree; where they agree and the
            root does not, it is None, and `find_tampered` can name it for a holder of the audit key.
        LogTruncated: There are fewer leaves than the checkpoint says.
    """
    rows = iter(leaves)
    root = build_tiles(checkpoint.size, rows, lambda level, index, hashes: _compare(level, index, hashes, tile))
    if next(rows, None) is not None:
        message = f"the log goes on after its {counted(checkpoint.size, 'signed record')}"
        raise LogTampered(message, index=checkpoint.size)
    if root != checkpoint.root:
        message = "the records do not hash to the signed root"
        raise LogTampered(message)


def _compare(level: int, index: int, computed: bytes, tile: TileReader) -> None:
    stored = tile(level, index)
    if stored is None and level == 0 and len(computed) < TILE_BYTES:
        return
    stored = stored or b""
    if stored[: len(computed)] != computed:
        steps = range(0, len(computed), HASH_BYTES)
        wrong = next(at for at in steps if stored[at : at + HASH_BYTES] != computed[at : at + HASH_BYTES])
        first = (index * TILE_WIDTH + wrong // HASH_BYTES) << (TILE_HEIGHT * level)
        message = f"record {first} does not match tile {index} of level {level}"
        raise LogTampered(message, index=first)


def find_tampered(leaves: Iterable[bytes], opener: RecordOpener) -> int | None:
    """Return the first record that its own key does not open, or None: what `verify_tree` cannot name.

    Raises:
        UnsupportedFormat: A record was written by a later version of this library.
    """
    for index, row in enumerate(leaves):
        try:
            opener.open_row(row, index)
        except LogTampered:
            return index
    return None


class History:
    """What the records of a log establish together, taken in their order from the first.

    Attributes:
        epochs: The keys of the log.
        size: How many records were taken.
        last_time_ns: The time of the last one.
        behind: The records whose time is more than five minutes behind an earlier one: the clock of their writer was
            wrong, or the one before. Order is the log's, so this is a finding and not a failure.
    """

    __slots__ = ("_counters", "_latest_ns", "behind", "epochs", "last_time_ns", "size")

    def __init__(self, genesis: VerifierKey) -> None:
        """Start before the first record.

        Args:
            genesis: The key of epoch 0, from the vault's header or printed when the vault was created.
        """
        self.epochs = Epochs(genesis)
        self.size = 0
        self.last_time_ns = 0
        self.behind: list[int] = []
        self._latest_ns = 0
        self._counters: dict[bytes, int] = {}

    def add(self, row: bytes, opener: RecordOpener) -> None:
        """Open the next leaf and check what it says against all before it.

        Raises:
            LogTampered: It does not open; a sealer's counter does not rise; the first record does not create the vault
                with this key, or a later one does; a hand-over breaks the chain of epochs.
            UnsupportedFormat: The record was written by a later version of this library.
        """
        index = self.size
        leaf = parse_leaf(row, index)
        record = opener.open(leaf, index)
        if leaf.counter <= self._counters.get(leaf.sealer_id, -1):
            message = f"record {index} uses a counter of its sealer again"
            raise LogTampered(message, index=index)
        self._counters[leaf.sealer_id] = leaf.counter
        if (record.event is Event.VAULT_CREATED) != (index == 0) or (
            index == 0 and record.obj["vkey"] != str(self.epochs.keys[0])
        ):
            message = f"record {index} is not what a log that began with this key has there"
            raise LogTampered(message, index=index)
        if record.event is Event.AUDIT_EPOCH:
            self.epochs.add(parse_hand_over(record.obj, index), index)
        if record.time_ns < self._latest_ns - CLOCK_TOLERANCE_NS:
            self.behind.append(index)
        self._latest_ns = max(self._latest_ns, record.time_ns)
        self.last_time_ns = record.time_ns
        self.size += 1

    def open_checkpoint(self, raw: bytes) -> Checkpoint:
        """Return a checkpoint of at most this size that is signed by the key of its epoch.

        Raises:
            LogTampered: It is malformed, or signed by the key of an earlier or later epoch, or by none.
            LogTruncated: It speaks of more records than were taken.
        """
        checkpoint, key = open_signed_checkpoint(raw, self.epochs.keys)
        if checkpoint.size > self.size:
            message = f"the log has {counted(self.size, 'record')} of the {checkpoint.size} that were signed"
            raise LogTruncated(message)
        if key not in self.epochs.signers_of(checkpoint.size):
            message = f"the checkpoint of {counted(checkpoint.size, 'record')} is signed by the key of another epoch"
            raise LogTampered(message)
        return checkpoint


def verify_continues(older: Checkpoint, newer: Checkpoint, proof: Sequence[bytes]) -> None:
    """Check that a log has only grown since an earlier checkpoint, such as an anchor or one in a report.

    Raises:
        LogTruncated: The newer one is smaller.
        LogTampered: The newer one does not contain the older, or they are of different logs.
    """
    if older.origin != newer.origin:
        message = f"`{newer.origin}` is another log than `{older.origin}`"
        raise LogTampered(message)
    if newer.size < older.size:
        message = f"the log has {counted(newer.size, 'record')} and had {older.size}"
        hint = "someone may have put back an older copy; if you did so yourself, run `securecfg vault adopt`"
        raise LogTruncated(message, hint=hint)
    if older.size:
        verify_consistency(older.size, newer.size, older.root, newer.root, proof)
    elif proof or older.root != EMPTY_ROOT:
        message = "the older checkpoint is not of an empty log"
        raise LogTampered(message)


def verify_fresh(last_time_ns: int, now_ns: int, max_age: timedelta) -> None:
    """Check that the newest record is not older than allowed.

    Raises:
        LogStale: It is.
    """
    age_s = (now_ns - last_time_ns) // 10**9
    if age_s > max_age.total_seconds():
        message = f"the newest record is {counted(age_s, 'second')} old, {int(max_age.total_seconds())} are allowed"
        raise LogStale(message)
