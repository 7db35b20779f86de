"""Copying one whole state of a vault while others write to it (format 13.3).

There is no long read transaction. All rows are read once, in small steps; then what was allocated meanwhile, until what
is left fits into the one snapshot in which the head is read. Rows never change under their ids, but for data keys.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import defaultdict
from itertools import chain
from typing import TYPE_CHECKING

from securecfg.audit import VerifierKey, open_checkpoint, origin_of, parse_leaf
from securecfg.crypto import KeyBytes
from securecfg.errors import StoreBusy, Tampered
from securecfg.keys import Purpose
from securecfg.octets import Malformed
from securecfg.store import ID_LIMIT, Space
from securecfg.vault.backup_format import Inventory, item_to_bytes, runs_of
from securecfg.vault.replica import HEADER_ID, KEYRING_ID, MANIFEST_ID, ROOTS_AND_SLOTS_IDS
from securecfg.vault.rows import digest_id, epoch_of
from securecfg.vault.staging import ALLOCATED_SPACES
from securecfg.vault.state import parse_head

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from securecfg.vault.opened import OpenVault
    from securecfg.vault.state import State

    Progress = Callable[[int, int], None]

_ROWS_AT_ONCE = 64  # they may be large
_WINDOW = 512
_ROUNDS = 64
_META_KEYS = [(Space.META, id_) for id_ in (HEADER_ID, KEYRING_ID, MANIFEST_ID, *ROOTS_AND_SLOTS_IDS)]


class RowsCopy:
    """The rows of one state. Iterate over `items` first; then it knows the state.

    Args:
        opened: The vault.
        known: The rows that the chain has.
        progress: Called with the ids that were looked at, and how many there may be.

    Attributes:
        head: The head row that vouches for the rows.
        state: What it says.
        size: The number of records it has.
        root: The root key of that state.
        taken_ns: When it was read.
        count: How many rows were new.
    """

    def __init__(self, opened: OpenVault, known: Inventory, progress: Progress | None = None) -> None:
        """Copy nothing yet."""
        self._opened = opened
        self._store = opened.store
        self._known = known
        self._progress = progress
        self._starts = {group: [run.start for run in runs] for group, runs in known.items()}
        self._ids: dict[tuple[Space, int], array[int]] = defaultdict(lambda: array("Q"))
        self._lacks_data_keys = False
        self.head = b""
        self.state: State
        self.size = 0
        self.root = KeyBytes()
        self.taken_ns = self._taken_ns = 0
        self.count = 0

    def items(self) -> Iterator[bytes]:
        """Yield the rows that are new, as a part holds them.

        Raises:
            StoreBusy: Others change the vault faster than it can be copied.
            Tampered: A row that is needed is missing.
            StoreFailed: The store cannot be read.
        """
        opened = self._opened
        opened.refresh()
        state = opened.replica.state
        next_id, watched = state.next_id, set(state.stagings)
        yield from self._copy_allocated(range(next_id), reports=True)
        yield from self._copy_log(opened.replica.checkpoint.size)
        for _ in range(_ROUNDS):
            head, meta, window = self._look(next_id)
            state, size = _open(opened.replica.vault_id, head)
            published = watched.difference(state.stagings)
            if state.next_id <= next_id + _WINDOW and not published:
                yield from chain.from_iterable(
                    self._take(space, id_, row) for space, id_, row in window if id_ < state.next_id
                )
                if self._knows_keys_of(state):
                    yield from self._copy_log(size)
                    if (deltas := self._copy_deltas(state)) is not None:
                        yield from deltas
                        yield from self._finish(head, state, meta)
                        return
            for staging in published:
                yield from self._copy_allocated(range(staging.first, staging.last + 1))
            yield from self._copy_allocated(range(next_id, state.next_id))
            if self._lacks_data_keys:
                yield from self._copy_allocated(range(state.next_id), [Space.DEK])
            next_id, watched = state.next_id, set(state.stagings)
        message = "the vault changes faster than it can be copied"
        raise StoreBusy(message, hint="try again when fewer write to it")

    def inventory(self) -> Inventory:
        """Return which rows the state consists of."""
        return {group: runs_of(sorted(ids)) for group, ids in self._ids.items() if ids}

    # --- pieces ------------------------------------------------------------------------------------------------------

    def _copy_allocated(
        self, ids: range, spaces: Sequence[Space] = ALLOCATED_SPACES, *, reports: bool = False
    ) -> Iterator[bytes]:
        total = len(ids) * len(spaces)
        for place, space in enumerate(spaces):
            for id_, row in self._scan(space, ids):
                yield from self._take(space, id_, row)
                if reports and self._progress is not None and not len(self._ids[space, 0]) % _ROWS_AT_ONCE:
                    self._progress(place * len(ids) + id_, total)
        if reports and self._progress is not None:
            self._progress(total, total)

    def _scan(self, space: Space, ids: range) -> Iterator[tuple[int, bytes]]:
        first = ids.start
        while first < ids.stop and (rows := self._store.scan(space, first, ids.stop - 1, _ROWS_AT_ONCE)):
            yield from rows
            first = rows[-1][0] + 1

    def _take(self, space: Space, id_: int, row: bytes | None) -> Iterator[bytes]:
        """Note a row that belongs to the state, and yield it where the chain does not have it."""
        if row is None:
            return
        group = (space, epoch_of(row) if space is Space.DEK else 0)
        self._ids[group].append(id_)
        if not self._is_known(group, id_):
            self.count += 1
            yield item_to_bytes(space, id_, row)

    def _is_known(self, group: tuple[Space, int], id_: int) -> bool:
        runs = self._known.get(group)
        return runs is not None and id_ in runs[bisect_right(self._starts[group], id_) - 1]

    def _look(self, next_id: int) -> tuple[bytes, dict[int, bytes], list[tuple[Space, int, bytes | None]]]:
        """Return the head, META and the rows that were allocated last, all from one snapshot."""
        window = [(space, id_) for space in ALLOCATED_SPACES for id_ in range(next_id, next_id + _WINDOW)]
        head, rows = self._store.snapshot(_META_KEYS + window)
        self._taken_ns = self._opened.clock.now_ns()
        if head is None:
            message = "the head of the vault is missing"
            raise Tampered(message)
        meta = {id_: row for (_, id_), row in zip(_META_KEYS, rows[: len(_META_KEYS)], strict=True) if row is not None}
        found = zip(window, rows[len(_META_KEYS) :], strict=True)
        return head, meta, [(space, id_, row) for (space, id_), row in found]

    def _knows_keys_of(self, state: State) -> bool:
        """Return whether this process has the keys of a state, and they open every data key that was copied."""
        replica = self._opened.replica
        self._opened.refresh()
        with replica.lock:
            known = replica.state
            if (known.header_digest, known.keyring_digest) != (state.header_digest, state.keyring_digest):
                return False
            self.root = KeyBytes(replica.root)
            epochs = {entry.epoch for entry in replica.keyring.keys if entry.purpose == Purpose.SCOPE}
        gone = [group for group in self._ids if group[0] is Space.DEK and group[1] not in epochs]
        for group in gone:
            del self._ids[group]
        self._lacks_data_keys = bool(gone)
        return not gone

    def _copy_log(self, size: int) -> Iterator[bytes]:
        """Copy the records up to a size that are not copied yet. They are never deleted."""
        for index, leaf in self._scan(Space.LOG, range(self.size, size)):
            if index != self.size:
                break
            self.size += 1
            yield from self._take(Space.LOG, index, leaf)
        if self.size != size:
            message = f"record {self.size} is missing from the log"
            raise Tampered(message)

    def _copy_deltas(self, state: State) -> list[bytes] | None:
        """Return the deltas since the manifest as a part holds them, or None where one was folded in meanwhile."""
        ids = [
            digest_id(digest)
            for index, leaf in self._scan(Space.LOG, range(state.base_size, self.size))
            for digest in parse_leaf(leaf, index).delta_hashes
        ]
        rows = [self._store.get(Space.DELTA, id_) for id_ in ids]
        if None in rows:
            return None
        return [item for id_, row in zip(ids, rows, strict=True) for item in self._take(Space.DELTA, id_, row)]

    def _finish(self, head: bytes, state: State, meta: dict[int, bytes]) -> Iterator[bytes]:
        """Yield the rest of a state: what is never deleted, and META."""
        for space in (Space.SEALER, Space.PART):
            for id_, row in self._scan(space, range(ID_LIMIT)):
                yield from self._take(space, id_, row)
        for id_, row in meta.items():
            self.count += 1
            yield item_to_bytes(Space.META, id_, row)
        self.head, self.state = head, state
        # Whatever the state holds was published by then, whoever's clock that was.
        self.taken_ns = max(self._taken_ns, state.published)


def _open(vault_id: bytes, head: bytes) -> tuple[State, int]:
    """Return the state and the number of records of a head, which must be signed as it says."""
    try:
        note, state, digest = parse_head(head)
    except Malformed:
        message = "the head of the vault is malformed"
        raise Tampered(message) from None
    checkpoint = open_checkpoint(note, [VerifierKey(origin_of(vault_id), state.epoch_key)])
    if checkpoint.state != digest:
        message = "the state is not the one that was signed"
        raise Tampered(message)
    return state, checkpoint.size
