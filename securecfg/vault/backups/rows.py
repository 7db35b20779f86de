"""Copying one whole state of a vault, or of a sealed scope, while others write to it (format 13.3).

There is no long read transaction. All rows are read once, in small steps; then what was allocated meanwhile, until what
is left fits into the one snapshot in which the head is read. Rows never change under their ids, but for data keys,
which mean the same as long as the keyring is the same, and for META and GRANT, which are read last.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections import defaultdict
from hashlib import sha256
from itertools import chain
from typing import TYPE_CHECKING

from securecfg.audit import leaf_hash, parse_leaf
from securecfg.errors import StoreBusy, Tampered
from securecfg.store import ID_LIMIT, ROW_LIMIT_BYTES, Space
from securecfg.vault.backups.format import item_to_bytes
from securecfg.vault.backups.inventory import MARK_BYTES, Holding, Runs, digest_of_grants, mark_of, pieces_of, runs_of
from securecfg.vault.commits.staging import ALLOCATED_SPACES
from securecfg.vault.index.rows import digest_id, epoch_of, verify_digest
from securecfg.vault.scopes.sealed_states import META_IDS, Front, open_head

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from securecfg.clock import Clock
    from securecfg.store import Store
    from securecfg.vault.state.head import Staging, State

    Progress = Callable[[int, int], None]

_ROWS_AT_ONCE = 64  # they may be large
_WINDOW = 512
_ROUNDS = 64
_META_KEYS = [(Space.META, id_) for id_ in META_IDS]


def read_grants(store: Store) -> Iterator[tuple[int, bytes]]:
    """Yield the rows of GRANT, ascending. Some come and go without a new head: memberships, and dropped values."""
    first = 0
    while first < ID_LIMIT and (rows := store.scan(Space.GRANT, first, ID_LIMIT - 1, _ROWS_AT_ONCE)):
        yield from rows
        first = rows[-1][0] + 1


class RowsCopy:
    """The rows of one state: `begin`, then `settle` as often as the head has moved, then `finish`.

    Args:
        store: The vault's, or a partition of it.
        vault_id: Of the vault or the scope, 16 bytes.
        known: What the chain has of it; None where that is nothing.
        is_scope: Whether to check what can be checked of a sealed scope without its keys.
        clock: The time.

    Attributes:
        head: The head row that vouches for the rows; empty until one was found.
        state: What it says.
        size: The number of records it has.
        taken_ns: When it was read.
        count: How many rows were handed over.
    """

    def __init__(self, store: Store, vault_id: bytes, known: Holding | None, clock: Clock, *, is_scope: bool) -> None:
        """Copy nothing yet."""
        self._store = store
        self._clock = clock
        self._is_scope = is_scope
        self._known = known
        self._known_runs: Runs = known.runs if known is not None else {}
        self._starts = {group: [run.start for run in runs] for group, runs in self._known_runs.items()}
        self._ids: dict[tuple[Space, int], array[int]] = defaultdict(lambda: array("Q"))
        self._has_marks = is_scope
        self._hashes: dict[tuple[Space, int], bytearray] = defaultdict(bytearray)
        self._known_rows: dict[tuple[Space, int], dict[int, bytes]] = {}
        self._hashed_leaves = bytearray()
        self._next_id = 0
        self._watched: frozenset[Staging] = frozenset()
        self._keyring = b""
        self._meta: dict[int, bytes] = {}
        self._grants: list[tuple[int, bytes]] = []
        self.vault_id = vault_id
        self.head = b""
        self.state: State
        self.size = 0
        self.taken_ns = 0
        self.count = 0

    def begin(self, progress: Progress | None = None) -> Iterator[bytes]:
        """Yield the rows that are there now and new to the chain, as a part holds them.

        Args:
            progress: Called with the ids that were looked at, and how many there may be.

        Raises:
            Tampered: The head is damaged, or a record is missing.
            StoreFailed: The store cannot be read.
        """
        state, checkpoint = open_head(self.vault_id, self._store.head() or b"")
        if self._has_marks:
            self._find_known_rows()
        self._follow(state)
        yield from self._copy_allocated(range(state.next_id), progress=progress)
        yield from self._copy_log(checkpoint.size)

    def settle(self) -> Iterator[bytes]:
        """Yield the rows that came since, until they are those of one head.

        Raises:
            StoreBusy: Others change the vault faster than it can be copied.
            Tampered: A row that is needed is missing, or too large, or a scope is not as it was signed.
            LogTampered: A record of a scope is malformed.
            StoreFailed: The store cannot be read.
        """
        for _ in range(_ROUNDS):
            head, meta, window = self._look()
            state, checkpoint = open_head(self.vault_id, head)
            published = self._watched.difference(state.stagings)
            has_keys = state.keyring_digest == self._keyring
            if state.next_id <= self._next_id + _WINDOW and not published and has_keys:
                yield from chain.from_iterable(
                    self._take(space, id_, row) for space, id_, row in window if id_ < state.next_id
                )
                front = Front.parse(head, meta, self.vault_id) if self._is_scope else None
                yield from self._copy_log(checkpoint.size)
                if (deltas := self._copy_deltas(head, state, front)) is not None:
                    yield from deltas
                    yield from self._copy_kept()
                    if front is not None:
                        front.verify_log(bytes(self._hashed_leaves))
                    self._follow(state)
                    self.head, self.state, self._meta = head, state, meta
                    return
            for staging in published:
                yield from self._copy_allocated(range(staging.first, staging.last + 1))
            yield from self._copy_allocated(range(self._next_id, state.next_id))
            if not has_keys:
                # What was copied may be wrapped under a key that is gone.
                for group in [group for group in self._ids if group[0] is Space.DEK]:
                    self._forget(group)
                yield from self._copy_allocated(range(state.next_id), [Space.DEK])
            self._follow(state)
        message = "the vault changes faster than it can be copied"
        raise StoreBusy(message, hint="try again when fewer write to it")

    def finish(self) -> Iterator[bytes]:
        """Yield the rows that may be others under the same ids in every state."""
        for id_, row in self._meta.items():
            yield self._item(Space.META, id_, row)
        if self._known is None or self._known.grants_digest != digest_of_grants(self._grants):
            for id_, row in self._grants:
                yield self._item(Space.GRANT, id_, row)

    def holding(self, number: int, path: str, part: int) -> Holding:
        """Return what a part says of the state that was copied into it."""
        digest, known = digest_of_grants(self._grants), self._known
        grants_part = known.grants_part if known is not None and known.grants_digest == digest else part
        runs = {group: runs_of(sorted(ids)) for group, ids in self._ids.items() if ids}
        marks = {group: self._marks(group, each) for group, each in runs.items()} if self._has_marks else {}
        return Holding(number, self.vault_id, path, sha256(self.head).digest(), part, digest, grants_part, runs, marks)

    # --- pieces ------------------------------------------------------------------------------------------------------

    def _find_known_rows(self) -> None:
        """Find the rows that the chain has as they are here.

        Who may write the file can put back what a scope was before a publication without a record, as of a compaction.
        No log shows it, its members go on from there, and give the same ids to other rows.
        """
        marks = self._known.marks if self._known is not None else {}
        for group, runs in self._known_runs.items():
            rows = self._known_rows[group] = {}
            for run, marked in zip(runs, marks[group], strict=True):
                for place, piece in enumerate(pieces_of(run)):
                    found = {id_: sha256(row).digest() for id_, row in self._scan(group[0], piece)}
                    if mark_of(found.values()) == marked[place * MARK_BYTES : (place + 1) * MARK_BYTES]:
                        rows |= found

    def _marks(self, group: tuple[Space, int], runs: Sequence[range]) -> list[bytes]:
        """Return the marks of the rows that were taken, of one that came again as it was last."""
        hashes, size = self._hashes[group], sha256().digest_size
        places = {id_: place * size for place, id_ in enumerate(self._ids[group])}

        def hash_of(id_: int) -> bytes:
            return bytes(hashes[places[id_] : places[id_] + size])

        return [b"".join(mark_of(map(hash_of, piece)) for piece in pieces_of(run)) for run in runs]

    def _forget(self, group: tuple[Space, int]) -> None:
        self._ids.pop(group, None)
        self._hashes.pop(group, None)

    def _follow(self, state: State) -> None:
        self._next_id, self._watched = state.next_id, frozenset(state.stagings)
        self._keyring = state.keyring_digest

    def _copy_allocated(
        self, ids: range, spaces: Sequence[Space] = ALLOCATED_SPACES, *, progress: Progress | None = None
    ) -> Iterator[bytes]:
        total = len(ids) * len(spaces)
        for place, space in enumerate(spaces):
            for id_, row in self._scan(space, ids):
                yield from self._take(space, id_, row)
                if progress is not None and not len(self._ids[space, 0]) % _ROWS_AT_ONCE:
                    progress(place * len(ids) + id_, total)
        if progress is not None:
            progress(total, total)

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
        if self._has_marks:
            digest = sha256(row).digest()
            self._hashes[group] += digest
            is_known = self._known_rows.get(group, {}).get(id_) == digest
        else:
            is_known = self._is_known(group, id_)
        if not is_known:
            yield self._item(space, id_, row)

    def _item(self, space: Space, id_: int, row: bytes) -> bytes:
        """Count a row and return it as a part holds it.

        Raises:
            Tampered: No store would take it back. Whether anything refers to it does not matter: nothing would restore.
        """
        if len(row) > ROW_LIMIT_BYTES:
            message = f"a row has {len(row)} bytes, of which there may be {ROW_LIMIT_BYTES}"
            raise Tampered(message, hint="somebody who may write the file has put it there")
        self.count += 1
        return item_to_bytes(space, id_, row)

    def _is_known(self, group: tuple[Space, int], id_: int) -> bool:
        runs = self._known_runs.get(group)
        return runs is not None and id_ in runs[bisect_right(self._starts[group], id_) - 1]

    def _look(self) -> tuple[bytes, dict[int, bytes], list[tuple[Space, int, bytes | None]]]:
        """Return the head, META and the rows that were allocated last, all from one snapshot."""
        ids = range(self._next_id, self._next_id + _WINDOW)
        window = [(space, id_) for space in ALLOCATED_SPACES for id_ in ids]
        head, rows = self._store.snapshot(_META_KEYS + window)
        self.taken_ns = self._clock.now_ns()
        if head is None:
            message = "the head of the vault is missing"
            raise Tampered(message)
        meta = {id_: row for (_, id_), row in zip(_META_KEYS, rows[: len(_META_KEYS)], strict=True) if row is not None}
        found = zip(window, rows[len(_META_KEYS) :], strict=True)
        return head, meta, [(space, id_, row) for (space, id_), row in found]

    def _copy_log(self, size: int) -> Iterator[bytes]:
        """Copy the records up to a size that are not copied yet. They are never deleted."""
        for index, leaf in self._scan(Space.LOG, range(self.size, size)):
            if index != self.size:
                break
            self.size += 1
            if self._is_scope:
                parse_leaf(leaf, index)  # whoever restores will look at every one
                self._hashed_leaves += leaf_hash(leaf)
            yield from self._take(Space.LOG, index, leaf)
        if self.size != size:
            message = f"record {self.size} is missing from the log"
            raise Tampered(message)

    def _copy_deltas(self, head: bytes, state: State, front: Front | None) -> list[bytes] | None:
        """Return the deltas since the manifest as a part holds them, or None where one was folded in meanwhile."""
        digests: list[bytes] = []
        for index, leaf in self._scan(Space.LOG, range(state.base_size, self.size)):
            named = parse_leaf(leaf, index).delta_hashes if front is None else front.deltas_of(index, leaf)
            digests.extend(named)
        rows = [self._store.get(Space.DELTA, digest_id(digest)) for digest in digests]
        if None in rows:
            if self._store.head() == head:
                message = "a delta that a record names is missing"
                raise Tampered(message)
            return None
        self._forget((Space.DELTA, 0))  # those of a head that was looked at before may be folded in by now
        items: list[bytes] = []
        for digest, row in zip(digests, rows, strict=True):
            if front is not None:
                verify_digest(row, digest, "a delta")
            items.extend(self._take(Space.DELTA, digest_id(digest), row))
        return items

    def _copy_kept(self) -> Iterator[bytes]:
        """Yield what is never deleted, and read what is replaced."""
        for space in (Space.SEALER, Space.PART):
            self._forget((space, 0))
            for id_, row in self._scan(space, range(ID_LIMIT)):
                yield from self._take(space, id_, row)
        self._grants = list(read_grants(self._store))
