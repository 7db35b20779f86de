"""One publication: plans of changes become one atomic batch with its leaves, tiles, checkpoint and head (format 7).

A plan says what one call wants to write and record. Plans that are ready at the same time share a publication, so that
many threads pay for one durable commit together.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING

from securecfg.audit import Checkpoint, NoteSigner, leaf_hash, origin_of
from securecfg.errors import Conflict, ScopeSealed, Tampered
from securecfg.store import BATCH_LIMIT_BYTES, BATCH_LIMIT_OPERATIONS, ID_LIMIT, Delete, Put, Space
from securecfg.vault.index.deltas import FREED_RUN_SIZE, Delta, split_changes
from securecfg.vault.index.lookalikes import NewNames
from securecfg.vault.index.rows import digest_id
from securecfg.vault.state.head import State, build_head, hash_state
from securecfg.vault.state.replica import Finished, Member, tile_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from securecfg.audit import Record, Sealer
    from securecfg.crypto import KeyBytes
    from securecfg.store import Operation
    from securecfg.vault.index.deltas import Change, FreedRun
    from securecfg.vault.index.in_memory import Index
    from securecfg.vault.index.segments import Entry
    from securecfg.vault.scopes.charters import SignedCharter, Voucher
    from securecfg.vault.state.replica import Replica

# Leave room for the tiles, the sealer and the head that every publication may carry.
OPERATIONS_FOR_PLANS = BATCH_LIMIT_OPERATIONS - 8
BYTES_FOR_PLANS = BATCH_LIMIT_BYTES - 128 * 1024
DELTA_LIMIT_BYTES = 384 * 1024
# What of the state anybody may change who can open a sealed scope.
_FREE = frozenset({"flags", "published"})


@dataclass(slots=True)
class Plan:
    """What one call wants to publish.

    Attributes:
        records: What the log says of it; none for maintenance that changes nothing a person sees. The first one
            carries the changes.
        puts: Rows that nothing references before this publication.
        deletes: Rows that nothing references after it.
        changes: Changes of the index.
        streams: Runs of rows that nothing references before: space, first id, the rows. Only a staging takes many.
        freed: Rows that a later compaction may delete.
        delta_digests: The digests of the deltas of the changes where they are in the store already.
        state: What changes in the state besides ids and generation.
        signer: Signs this publication's checkpoint in place of the key in the keyring, which it replaces.
        root: The root that vouches for a header in this publication, where it has one.
        charter: Who may do what in a sealed scope from now on.
        writer: Vouches for a sealed scope in place of the key that opened it, which this publication replaces.
        result: What the call returns once the publication is durable.
    """

    records: list[Record] = field(default_factory=list)
    puts: list[Put] = field(default_factory=list)
    deletes: list[Delete] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    streams: list[tuple[Space, int, Iterator[bytes]]] = field(default_factory=list)
    freed: list[FreedRun] = field(default_factory=list)
    delta_digests: list[bytes] = field(default_factory=list)
    state: dict[str, object] = field(default_factory=dict)
    signer: Ed25519PrivateKey | None = None
    root: KeyBytes | None = None
    charter: SignedCharter | None = None
    writer: Ed25519PrivateKey | None = None
    result: object = None

    def join(self, other: Plan) -> None:
        """Take in the rows and changes of another plan."""
        self.puts += other.puts
        self.deletes += other.deletes
        self.changes += other.changes
        self.streams += other.streams
        self.freed += other.freed

    def take_in_streams(self) -> None:
        """Put the rows of its streams with the others: a document of some size is published as it is."""
        for space, first, rows in self.streams:
            self.puts += [Put(space, id_, row) for id_, row in enumerate(rows, start=first)]
        self.streams = []

    @property
    def changes_data(self) -> bool:
        """Whether it does more than add records."""
        return bool(
            self.changes or self.freed or self.delta_digests or self.charter or not _FREE.issuperset(self.state)
        )

    def cost(self) -> tuple[int, int]:
        """Return about how many operations and bytes the plan adds to a publication."""
        operations = len(self.puts) + len(self.deletes) + len(self.records) + bool(self.changes)
        inline_changes = 0 if self.delta_digests else len(self.changes)
        size = sum([len(put.row) for put in self.puts]) + 1_200 * inline_changes + 4_096 * len(self.records)
        return operations, size + FREED_RUN_SIZE * len(self.freed)


class Publication:
    """A batch in the making, from one state of the replica. Used by one thread, under the replica's lock.

    Later plans see the changes of earlier ones.

    Args:
        replica: The state to build on.
        sealer: Seals the records of this session.
        sealer_stored: Whether the sealer's row is in the store already.

    Attributes:
        head: Of the state that it builds on; it may be committed on no other one.
    """

    def __init__(self, replica: Replica, sealer: Sealer, *, sealer_stored: bool) -> None:
        """Begin with nothing to write."""
        self._replica = replica
        self.head = replica.head
        self._sealer = sealer
        self._sealer_stored = sealer_stored
        self._operations: list[Operation] = []
        self._pending: dict[bytes, Entry | None] = {}
        self._names = NewNames(self._pending)
        self.new_names = (self._names,)
        self._next_id = replica.state.next_id
        self._changed_state: dict[str, object] = {}
        self._signer = replica.note_signer
        self._root: KeyBytes | None = None
        self._charter: SignedCharter | None = None
        self._writer: Ed25519PrivateKey | None = None
        self._changes_data = False
        self.stagings = list(replica.state.stagings)
        self.tree = replica.tree.copy()
        self.members: list[Member] = []
        self.first_record: Record | None = None
        self._uncounted: list[Plan] = []
        self._operations_left = OPERATIONS_FOR_PLANS
        self._bytes_left = BYTES_FOR_PLANS

    @property
    def state(self) -> State:
        """The state that the publication builds on."""
        return self._replica.state

    @property
    def is_sealed(self) -> bool:
        """Whether it is of a sealed scope, for which somebody has to vouch."""
        return self._replica.seat is not None

    @property
    def next_id(self) -> int:
        """The next id that would be allocated."""
        return self._next_id

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to publish."""
        return (
            not self.members
            and not self._operations
            and not self._changed_state
            and tuple(self.stagings) == self._replica.state.stagings
        )

    def entry(self, path: bytes) -> Entry | None:
        """Return the index entry of a path, earlier plans of this publication included."""
        if path in self._pending:
            return self._pending[path]
        return self._replica.index.get(path)

    def changes_below(self, folder: bytes) -> bool:
        """Return whether an earlier plan of this publication changes a path in a folder."""
        return any(path.startswith(folder) for path in self._pending)

    def is_of(self, index: Index, applied: int) -> bool:
        """Return whether all entries are those of an index when so many records were on top of its manifest."""
        return not self._pending and self._replica.index is index and index.applied == applied

    def holds_below(self, prefix: bytes) -> bool:
        """Return whether a path that begins with a prefix has an entry, earlier plans of this publication included."""
        pending = any(entry is not None and path.startswith(prefix) for path, entry in self._pending.items())
        return pending or self._replica.index.holds_below(prefix)

    def row(self, space: Space, id_: int) -> bytes | None:
        """Return a row, earlier plans of this publication included."""
        for operation in reversed(self._operations):
            if operation.space is space and operation.id == id_:
                return operation.row if isinstance(operation, Put) else None
        return self._replica.store.get(space, id_)

    def allocate(self, count: int = 1) -> int:
        """Return the first of `count` consecutive ids that were never used.

        Raises:
            Tampered: There are none left, which takes longer than any vault lasts.
        """
        first = self._next_id
        if first + count >= ID_LIMIT:
            raise _counted_out()
        self._next_id += count
        return first

    def claim(self, name: str) -> None:
        """Refuse to let two plans of one publication change the same part of the state.

        Raises:
            Conflict: An earlier plan changes it.
        """
        if name in self._changed_state:
            message = "somebody else changes the same part of the vault right now"
            raise Conflict(message, hint="try again")

    def fits(self, plan: Plan) -> bool:
        """Return whether a plan still fits in; the first one always does as far as this class is concerned."""
        plan.take_in_streams()
        if not self._operations:
            return True
        for taken in self._uncounted:
            operations, size = taken.cost()
            self._operations_left -= operations
            self._bytes_left -= size
        self._uncounted.clear()
        operations, size = plan.cost()
        return operations <= self._operations_left and size <= self._bytes_left

    def add(self, plan: Plan) -> None:
        """Take a plan in.

        Raises:
            ScopeSealed: It changes data of a sealed scope, and nobody would believe this process.
        """
        if plan.changes_data:
            if not self._replica.may_change and plan.writer is None:
                raise no_writer()
            self._changes_data = True
        plan.take_in_streams()
        self._uncounted.append(plan)  # only another plan makes it worth counting what there is room for
        self._root = plan.root or self._root
        self._charter = plan.charter or self._charter
        self._writer = plan.writer or self._writer
        self._operations += plan.puts
        self._operations += plan.deletes
        self._changed_state |= plan.state
        if plan.signer is not None:
            self._signer = NoteSigner(origin_of(self._replica.vault_id), plan.signer)
        digests = self._seal_deltas(plan)
        changes = tuple(plan.changes)
        for record in plan.records:
            self._log(record, digests, changes)
            digests, changes = [], ()

    def finish(self, now_ns: int) -> Finished:
        """Return what is to be committed.

        Args:
            now_ns: When it is published.

        Raises:
            Tampered: Its number would be one that there cannot be.
        """
        replica, known = self._replica, self._replica.state
        generation = known.generation + 1
        if generation >= ID_LIMIT:
            raise _counted_out()
        if self.members and not self._sealer_stored:
            row = self._sealer.row
            self._operations.append(Put(Space.SEALER, digest_id(sha256(row).digest()), row))
        # A clock that is behind must not vouch for itself by what was published with it.
        published = max(now_ns, known.published)
        state = State(generation, published, self._next_id, *known[3:10], tuple(self.stagings))
        if self._changed_state:
            state = state._replace(**self._changed_state)  # type: ignore[arg-type]  # fields of State
        raw = state.to_bytes()
        checkpoint = Checkpoint(replica.checkpoint.origin, self.tree.size, self.tree.root(), hash_state(raw))
        note = self._signer.sign(checkpoint.text)
        head = build_head(note, raw)
        voucher = self._vouch(state, checkpoint) if self._changes_data else None
        return Finished(self._operations, head, note, state, checkpoint, self.tree, self.members, self._root, voucher)

    def _vouch(self, state: State, checkpoint: Checkpoint) -> Voucher | None:
        """Sign for the data of a sealed scope as it will be."""
        replica, seat = self._replica, self._replica.seat
        writer = self._writer or (seat.signer if seat is not None else None)
        if seat is None or writer is None:
            return None
        from securecfg.vault.scopes.charters import VOUCHER_ID, sign_voucher  # few vaults have them

        digest = self._charter.charter.digest if self._charter is not None else seat.charter_digest
        voucher = sign_voucher(writer, replica.vault_id, digest, (checkpoint.size, checkpoint.root), state)
        self._operations.append(Put(Space.META, VOUCHER_ID, voucher.to_bytes()))
        return voucher

    def _seal_deltas(self, plan: Plan) -> list[bytes]:
        self._pending.update(plan.changes)
        self._names.add(plan.changes)
        if plan.delta_digests or not (plan.changes or plan.freed):
            return plan.delta_digests
        digests = []
        freed = tuple(plan.freed)
        for run in split_changes(plan.changes, DELTA_LIMIT_BYTES):
            row = self._replica.rows.seal_delta(Delta(run, freed))
            freed = ()
            digest = sha256(row).digest()
            digests.append(digest)
            self._operations.append(Put(Space.DELTA, digest_id(digest), row))
        return digests

    def _log(self, record: Record, digests: list[bytes], changes: tuple[Change, ...]) -> None:
        index = self.tree.size
        if self.first_record is None:
            self.first_record = record
        leaf = self._sealer.seal(record.to_bytes(), index, digests)
        self._operations.append(Put(Space.LOG, index, leaf))
        for tile in self.tree.append(leaf_hash(leaf)):
            self._operations.append(Put(Space.TILE, tile_id(tile.level, tile.index), tile.hashes))
        self.members.append(Member(leaf, changes))


def new_request_id() -> str:
    """Return a new request id, 32 hexadecimal digits."""
    return os.urandom(16).hex()


def _counted_out() -> Tampered:
    message = "the state of the vault counts further than there can be rows"
    return Tampered(message, hint="who may open a sealed scope may have done so; restore it from a backup")


def no_writer() -> ScopeSealed:
    """Return the error for a change that nobody in a sealed scope would believe."""
    message = "only a writer of the scope can change what is in it"
    return ScopeSealed(message, hint="an administrator may grant it: `securecfg scope grant PATH --write ROLE`")
