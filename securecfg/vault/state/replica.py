"""A vault's authenticated state as one process knows it, brought up to date from the store.

The state is replayed from the head: the manifest as of `base_size`, then the leaves and deltas up to the size of the
signed checkpoint (format 7 and 8). It only ever moves forward.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, NoReturn

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from securecfg.audit import NoteSigner, Tree, leaf_hash, open_own_checkpoint, origin_of, parse_delta_hashes
from securecfg.crypto import FORM_INLINE, ROOT_SCOPE, ValueKey, value_context
from securecfg.errors import HeadMoved, IntegrityError, LogTampered, NotAVault, RollbackSuspected, SlotRemoved, Tampered
from securecfg.keys import (
    FIRST_ROOT_ROW,
    FIRST_SLOT_ROW,
    ROOTS_ROW,
    Header,
    Keyring,
    Purpose,
    Slot,
    Unlocked,
    root_row_of,
    slots_of_rows,
    slots_to_bytes,
)
from securecfg.octets import Malformed
from securecfg.store import Space
from securecfg.tuples import NamedTuple
from securecfg.vault.index.in_memory import Index
from securecfg.vault.index.rows import IndexRows, digest_id, verify_digest
from securecfg.vault.state.data_keys import DataKeys
from securecfg.vault.state.head import hash_header, parse_head
from securecfg.words import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from securecfg.audit import Checkpoint
    from securecfg.crypto import KeyBytes
    from securecfg.keys import SlotKey
    from securecfg.keys.value_grants import ValueGrants
    from securecfg.store import Operation, Store
    from securecfg.vault.index.deltas import Change
    from securecfg.vault.index.segments import Manifest, Segment, SegmentLine
    from securecfg.vault.scopes.charters import Voucher
    from securecfg.vault.scopes.seats import Seat
    from securecfg.vault.state.head import State

HEADER_ID, KEYRING_ID, MANIFEST_ID = 1, 2, 3
SLOT_IDS = range(FIRST_SLOT_ROW, FIRST_ROOT_ROW)
ROOTS_AND_SLOTS_IDS = range(ROOTS_ROW, FIRST_ROOT_ROW)

_LEAVES_AT_ONCE = 512
_ATTEMPTS = 8


class Member(NamedTuple):
    """A record that a publication adds to the log, and what it changes in the index."""

    leaf: bytes
    changes: tuple[Change, ...]


class Finished(NamedTuple):
    """A publication that is ready to be committed: the operations, and the state once they are durable."""

    operations: list[Operation]
    head: bytes
    note: bytes
    state: State
    checkpoint: Checkpoint
    tree: Tree
    members: list[Member]
    root: KeyBytes | None
    voucher: Voucher | None = None


class StoredTree:
    """The log's stored tiles and leaves, for proofs."""

    def __init__(self, store: Store) -> None:
        """Read from a store."""
        self._store = store

    def tile(self, level: int, index: int) -> bytes | None:
        """Return the stored hashes of a tile."""
        return self._store.get(Space.TILE, tile_id(level, index))

    def leaf(self, index: int) -> bytes:
        """Return a leaf.

        Raises:
            LogTampered: It is missing.
        """
        row = self._store.get(Space.LOG, index)
        if row is None:
            message = f"record {index} is missing"
            raise LogTampered(message, index=index)
        return row


def tile_id(level: int, index: int) -> int:
    """Return the id of a tile's row."""
    return (level << 56) + index


class Keys(NamedTuple):
    """The keys of one generation of header and keyring, and what seals and opens rows with them."""

    unlocked: Unlocked
    keyring: Keyring
    signer: Ed25519PrivateKey
    note_signer: NoteSigner
    rows: IndexRows
    data_keys: DataKeys


class Generation(NamedTuple):
    """Header, slots and keyring that belong together, and the keys that they give."""

    header: Header
    slots: dict[int, bytes]
    audit_epoch: int
    keys: Keys


class Hold:
    """Holds a state in a `with` block. A class: a generator would cost every commit as much as a row.

    Attributes:
        depth: In how many such blocks it is held.
    """

    __slots__ = ("depth",)

    def __init__(self) -> None:
        """Hold nothing yet."""
        self.depth = 0

    def __enter__(self) -> None:
        """Hold it."""
        self.depth += 1

    def __exit__(self, *_: object) -> None:
        """Let go, unless it is held around this block too."""
        self.depth -= 1


class Replica:
    """The state, kept in step with the store. Public methods may be called by any thread.

    What is not verified yet is in no attribute: other threads read them meanwhile.

    Attributes:
        audit_epoch: The epoch of the audit key in use, which records are sealed to.
        after_change: Called once the state is another one because of others, by whoever takes it up.

    Args:
        store: Where the rows are.
        unlocked: The root key, and the key of the slot that gave it, which gives the next one too.
        seat: Of a sealed scope whose charter is trusted, and what to vouch with; None for an ordinary vault.

    Raises:
        NotAVault: The store holds no vault.
        Tampered: A row does not match the signed state, or nobody vouches for it who may.
    """

    def __init__(self, store: Store, unlocked: Unlocked, seat: Seat | None = None) -> None:
        """Replay the state from the head."""
        self.store = store
        self.seat = seat
        self.lock = threading.RLock()
        self.after_change: Callable[[], None] = lambda: None
        self._keys: Keys | None = None
        self._opening: Keys | None = None  # what opens segments while a state is verified
        self._refuse: Callable[[], NoReturn]
        self._hold = Hold()
        self._revision: Hashable = store.revision()
        self.head, meta = _read_front(store)
        self.note, self.state, digest = _parse_head(self.head)
        self._take_keys(self._load_keys(unlocked, meta[0], meta[1], self.state))
        self.checkpoint = _open_note(self.note, self.state, digest, self.note_signer)
        self.tree = Tree()
        self.index: Index
        self._rebuild(meta[2])

    @property
    def vault_id(self) -> bytes:
        """The vault's 16 bytes."""
        return self.header.vault_id

    @property
    def root(self) -> bytes:
        """The root key."""
        return (self._keys or self._refuse()).unlocked.root

    @property
    def keyring(self) -> Keyring:
        """All other long-lived keys."""
        return (self._keys or self._refuse()).keyring

    @property
    def signer(self) -> Ed25519PrivateKey:
        """The key that signs the log."""
        return (self._keys or self._refuse()).signer

    @property
    def epoch_key(self) -> bytes:
        """The public half of it, 32 bytes."""
        return (self._keys or self._refuse()).note_signer.vkey.public_key

    @property
    def note_signer(self) -> NoteSigner:
        """What signs checkpoints with it."""
        return (self._keys or self._refuse()).note_signer

    @property
    def rows(self) -> IndexRows:
        """What seals and opens the rows of the index."""
        return (self._keys or self._refuse()).rows

    @property
    def data_keys(self) -> DataKeys:
        """What seals and opens data keys."""
        return (self._keys or self._refuse()).data_keys

    @property
    def may_change(self) -> bool:
        """Whether data that this process publishes is accepted by others: always, but in a sealed scope."""
        return self.seat is None or self.seat.signer is not None

    def is_current(self) -> bool:
        """Return whether nobody has committed anything since the state was read."""
        return self.store.revision() == self._revision

    def refresh(self) -> bool:
        """Bring the state up to date and return whether it changed.

        Raises:
            RollbackSuspected: The store went back, or its log is not a continuation of the one known.
            Tampered: A row does not match the signed state.
            HeadMoved: It changed, and this thread holds it.
        """
        revision = self.store.revision()
        if revision == self._revision:
            return False
        with self.lock:
            head = self.store.head()
            changed = head != self.head
            if changed:
                if self._hold.depth:
                    message = "another writer published first"
                    raise HeadMoved(message)
                self._advance(head)
            # The token was taken before the head was read, so a commit in between is seen the next time.
            self._revision = revision
            return changed

    def held(self) -> Hold:
        """Let nothing advance the state, which a publication in the making builds on. The caller holds the lock.

        A plan may look whether a row that is missing was replaced by another writer, and so refresh. Were the newer
        state taken up then, the publication would be committed on top of it with leaves that follow on the older one.
        """
        return self._hold

    def accept(self, finished: Finished, revision: Hashable | None) -> None:
        """Take up a publication of this process that has been committed. The caller holds the lock.

        Args:
            finished: The publication.
            revision: Of the store with this commit as its newest, or None where that is not known.

        Raises:
            Tampered: It changed keys, and what is in the store is not what was committed.
        """
        if (finished.state.header_digest, finished.state.keyring_digest) != (
            self.state.header_digest,
            self.state.keyring_digest,
        ):
            # Whoever publishes next, perhaps a thread that waits already, must sign and seal with the new keys.
            if finished.root is not None and self._keys is not None:
                unlocked = self._keys.unlocked._replace(root=finished.root, vouched=None)
                self._keys = self._keys._replace(unlocked=unlocked)
            self._advance(self.store.head())
            return
        if self.seat is not None and finished.voucher is not None:
            if finished.voucher.charter_digest != self.seat.charter_digest:
                self._advance(self.store.head())
                return
            self.seat.voucher = finished.voucher
        first = self.tree.size
        for offset, member in enumerate(finished.members):
            if member.changes:
                self.index.apply(first + offset, member.changes)
        self.tree, self.checkpoint = finished.tree, finished.checkpoint
        self.head, self.note, self.state = finished.head, finished.note, finished.state
        if revision is not None:
            self._revision = revision

    def rebase(self, manifest: Manifest) -> None:
        """Take up a manifest of this process that has been committed. The caller holds the lock."""
        self.index = self.index.rebased(manifest)

    def forget_keys(self, refuse: Callable[[], NoReturn]) -> None:
        """Drop every key. Nothing can be read afterwards.

        The caller holds the lock, unless there is no other thread: who holds it may be taking up new keys.

        Args:
            refuse: Raises what whoever asks for a key from now on is told.
        """
        self._refuse = refuse
        self._keys = None
        if self.seat is not None:
            self.seat.forget()

    def _advance(self, head: bytes | None) -> None:
        for _ in range(_ATTEMPTS):
            try:
                self._take_up(head)
            except RollbackSuspected:
                raise
            except IntegrityError:
                # A compaction may have replaced rows between two reads; a head that stands still proves otherwise.
                newer = self.store.head()
                if newer == head:
                    raise
                head = newer
            else:
                return
        message = "the vault changes faster than it can be read"
        raise Tampered(message)

    def _take_up(self, head: bytes | None) -> None:
        if head is None and self.seat is not None:
            message = "the sealed scope is gone: it was merged into what lies around it, or somebody removed it"
            raise Tampered(message, hint="open the vault again, with a key that opens what lies around the scope")
        if head is None:
            message = "the head of the vault is missing"
            raise Tampered(message)
        note, state, digest = _parse_head(head)
        known, keys, generation = self.state, self._keys or self._refuse(), None
        if state.keyring_digest != known.keyring_digest or state.header_digest != known.header_digest:
            header, keyring = self.store.get_many([(Space.META, HEADER_ID), (Space.META, KEYRING_ID)])
            generation = self._load_keys(keys.unlocked, header, keyring, state)
            keys = generation.keys
        checkpoint = _open_note(note, state, digest, keys.note_signer)
        if checkpoint.size < self.tree.size or state.generation < known.generation:
            message = f"the log went back from {self.tree.size} to {checkpoint.size} while the vault is open"
            raise RollbackSuspected(message, hint=_ROLLBACK_HINT)
        tree = self.tree.copy()
        voucher = self.seat.read_voucher(self.store) if self.seat is not None else None
        changes = self._replay(tree, checkpoint, state.base_size, voucher, keys.rows)
        index = self.index
        if state.manifest_digest != known.manifest_digest:
            row = self.store.get(Space.META, MANIFEST_ID)
            index = index.rebased(keys.rows.open_manifest(row, state.manifest_digest, state.base_size))
        elif self.seat is not None:
            index = index.copied()  # who vouches for the changes is told from them
        for log_index, change in changes:
            index.apply(log_index, change)
        self._take_seat(voucher, index, state, keys)
        if generation is not None:
            self._take_keys(generation)
        self.tree, self.checkpoint, self.index = tree, checkpoint, index
        self.head, self.note, self.state = head, note, state
        self.after_change()

    def _rebuild(self, manifest_row: bytes | None) -> None:
        manifest = self.rows.open_manifest(manifest_row, self.state.manifest_digest, self.state.base_size)
        self.tree = Tree(manifest.base_size, manifest.peaks, StoredTree(self.store))
        self.index = Index(manifest, self.load_segment)
        voucher = self.seat.read_voucher(self.store) if self.seat is not None else None
        for log_index, change in self._replay(self.tree, self.checkpoint, self.state.base_size, voucher, self.rows):
            self.index.apply(log_index, change)
        self._take_seat(voucher, self.index, self.state, self._keys or self._refuse())

    def load_segment(self, line: SegmentLine) -> Segment:
        """Read, check and open a segment that the manifest names.

        Raises:
            Tampered: It is missing or another one.
        """
        row = self.store.get(Space.SEGMENT, line.segment_id)
        return (self._opening or self._keys or self._refuse()).rows.open_segment(row, line.segment_id, line.digest)

    def _take_keys(self, generation: Generation) -> None:
        self.header, self.slots, self.audit_epoch, self._keys = generation

    def _take_seat(self, voucher: Voucher | None, index: Index, state: State, keys: Keys) -> None:
        """In a sealed scope, check that one who may vouches for the data of a state."""
        if self.seat is not None:
            self._opening = keys
            try:
                load = partial(self._document_of, index, keys)
                charter = self.seat.verify(voucher, self.vault_id, keys.keyring, state, load)
            finally:
                self._opening = None
            self.seat.charter, self.seat.voucher = charter, voucher

    def _document_of(self, index: Index, keys: Keys, path: bytes) -> bytes | None:
        entry = index.get(path)
        if entry is not None:
            row = self.store.get(Space.HISTORY, entry.history_id)
            _, version = keys.rows.find_version(row, (entry.rec_id, path), entry.digest, 0)
            if version is not None and not version.value_rows:
                dek = keys.data_keys.open(version.dek_id, self.store.get(Space.DEK, version.dek_id))
                ctx = value_context(
                    self.vault_id, ROOT_SCOPE, (entry.rec_id, version.number), version.created, FORM_INLINE
                )
                value = self.store.get(Space.VALUE, version.value_id) or b""
                key = ValueKey(dek, ctx)
                return key.open(value, keys.data_keys.expect(version.commitment, key.commitment, (value,)))[1]
        return None

    def _replay(
        self, tree: Tree, checkpoint: Checkpoint, base_size: int, voucher: Voucher | None, index_rows: IndexRows
    ) -> list[tuple[int, tuple[Change, ...]]]:
        """Append the leaves up to a checkpoint, prove that they lead to its root, and read their deltas.

        What lies below `base_size` is in the segments of the manifest; a compaction may have deleted those deltas. In a
        sealed scope the leaves that the voucher does not cover may change nothing.
        """
        vouched = checkpoint.size if voucher is None else voucher.size
        is_behind = self.seat is not None and vouched < tree.size and voucher != self.seat.voucher
        if not base_size <= vouched <= checkpoint.size or is_behind:
            message = "what is vouched for in the scope is not what its log holds"
            raise Tampered(message)
        _verify_vouched(tree, voucher)
        wanted: list[tuple[int, bytes]] = []
        while tree.size < checkpoint.size:
            first = tree.size
            last = min(checkpoint.size, first + _LEAVES_AT_ONCE) - 1
            rows = self.store.scan(Space.LOG, first, last, _LEAVES_AT_ONCE)
            if [index for index, _ in rows] != list(range(first, last + 1)):
                message = f"records are missing from the log between {first} and {last}"
                raise Tampered(message)
            for index, row in rows:
                tree.append_stored(leaf_hash(row))
                if voucher is not None:
                    _verify_vouched(tree, voucher)
                if index >= base_size:
                    hashes = parse_delta_hashes(row, index)
                    if hashes and index >= vouched:
                        message = "a record that no writer of the scope vouches for changes data"
                        raise Tampered(message)
                    wanted += [(index, digest) for digest in hashes]
        if tree.root() != checkpoint.root:
            message = f"the log of {counted(checkpoint.size, 'record')} does not lead to the signed root"
            raise Tampered(message, hint="run `securecfg audit verify`; it names the record")
        deltas = []
        for start in range(0, len(wanted), _LEAVES_AT_ONCE):
            part = wanted[start : start + _LEAVES_AT_ONCE]
            rows_of_part = self.store.get_many([(Space.DELTA, digest_id(digest)) for _, digest in part])
            for (index, digest), delta in zip(part, rows_of_part, strict=True):
                deltas.append((index, index_rows.open_delta(delta, digest).changes))
        return deltas

    def _load_keys(
        self, unlocked: Unlocked, header_row: bytes | None, keyring_row: bytes | None, state: State
    ) -> Generation:
        if header_row is None:
            message = "the header of the vault is missing"
            raise NotAVault(message)
        header, slots, root = self._verify_front(unlocked, header_row, state)
        row = verify_digest(keyring_row, state.keyring_digest, "the keyring")
        keyring = Keyring.open(row, root, header.vault_id, header.generation)
        signer = Ed25519PrivateKey.from_private_bytes(keyring.active(Purpose.LOG_SIGNING).key)
        note_signer = NoteSigner(origin_of(header.vault_id), signer)
        if keyring.is_sealed != (self.seat is not None):
            message = "the values of the vault are not sealed as it says"
            raise Tampered(message)
        rows = IndexRows(header.vault_id, keyring)
        data_keys = DataKeys(
            header.vault_id,
            keyring,
            self._grants_of(header.vault_id, keyring, slots, unlocked.key) if keyring.is_sealed else None,
        )
        vouched = Unlocked(root, unlocked.key, (header_row, slots))
        keys = Keys(vouched, keyring, signer, note_signer, rows, data_keys)
        return Generation(header, slots, keyring.active(Purpose.AUDIT).epoch, keys)

    def _verify_front(
        self, unlocked: Unlocked, header_row: bytes, state: State
    ) -> tuple[Header, dict[int, bytes], KeyBytes]:
        """Return the header and the slots that a state names, and the root that vouches for them."""
        if unlocked.vouched is not None and unlocked.vouched[0] == header_row:
            # Read a moment ago to find the slot: if the state names the same, the root has been checked for these.
            slots = dict(unlocked.vouched[1])
            if hash_header(header_row, slots_to_bytes(slots)) == state.header_digest:
                return Header.parse(header_row), slots, unlocked.root
        try:
            slots = read_slots(self.store)
        except Malformed:
            slots = {}
        if hash_header(header_row, slots_to_bytes(slots)) != state.header_digest:
            message = "the header or an unlock slot does not match the state of the vault"
            raise Tampered(message)
        header = Header.parse(header_row)
        return header, slots, _root_for(unlocked, header, slots)

    def _grants_of(self, vault_id: bytes, keyring: Keyring, slots: dict[int, bytes], key: SlotKey) -> ValueGrants:
        from securecfg.keys.value_grants import ValueGrants, grant_row_of  # few vaults have them

        row_id = next(
            (
                number
                for number, row in slots.items()
                if number < FIRST_ROOT_ROW and Slot.parse(row).slot_id == key.slot_id
            ),
            None,
        )
        if row_id is None:
            raise _slot_removed()
        return ValueGrants(
            vault_id, keyring, key, lambda epoch: self.store.get(Space.GRANT, grant_row_of(row_id, epoch))
        )


_ROLLBACK_HINT = "someone may have put back an older copy; if you did so yourself, run `securecfg vault adopt`"


def _open_note(note: bytes, state: State, digest: bytes, signer: NoteSigner) -> Checkpoint:
    if state.epoch_key != signer.vkey.public_key:
        # Anybody can sign with a key of his own and say that it is the log's.
        message = "the log's key is not the one in the keyring"
        raise Tampered(message)
    try:
        checkpoint = open_own_checkpoint(note, signer)
    except LogTampered as error:
        raise Tampered(error.message) from None
    if checkpoint.state != digest:
        message = "the state is not the one that was signed"
        raise Tampered(message)
    return checkpoint


def _verify_vouched(tree: Tree, voucher: Voucher | None) -> None:
    """Check the root of the tree where it has the size that a voucher covers.

    Raises:
        Tampered: It is another one.
    """
    if voucher is not None and tree.size == voucher.size and tree.root() != voucher.root:
        message = "the log of the scope is not the one that is vouched for"
        raise Tampered(message)


def _root_for(unlocked: Unlocked, header: Header, slots: dict[int, bytes]) -> KeyBytes:
    """Return the root that vouches for a header and its slots: the one known, or its successor.

    Raises:
        Tampered: Header and slots are not as a holder of the root left them.
        SlotRemoved: There is a new root, and the slot that this process opened the vault with is gone.
    """
    with suppress(Tampered):
        header.verify(unlocked.root, slots)
        return unlocked.root
    for row_id, row in slots.items():
        if row_id < FIRST_ROOT_ROW and Slot.parse(row).slot_id == unlocked.slot_id:
            root = unlocked.key.open_root(slots.get(root_row_of(row_id)))
            header.verify(root, slots)
            return root
    raise _slot_removed()


def _slot_removed() -> SlotRemoved:
    message = "the key that opened this vault was removed from it"
    return SlotRemoved(message, hint="open it again with another key")


def read_header(store: Store) -> tuple[Header, dict[int, bytes]]:
    """Return the header, and the unlock slots with their sealed roots, checked for their shape only: no key is at hand.

    Raises:
        NotAVault: There is none, or it is malformed.
        UnsupportedFormat: The vault needs a newer program.
    """
    row = store.get(Space.META, HEADER_ID)
    for _ in range(_ATTEMPTS):
        if row is None:
            message = "the file holds no vault"
            raise NotAVault(message)
        header, slots, fault = Header.parse(row), {}, ""
        try:
            slots = read_slots(store)
        except Malformed as error:
            fault = str(error)
        # Each change of the slots changes the header too: one that stands still goes with them.
        newer = store.get(Space.META, HEADER_ID)
        if newer == row:
            break
        row = newer
    if fault:
        message = f"the sealed roots of the vault {fault}"
        raise NotAVault(message)
    return header, slots


def read_slots(store: Store) -> dict[int, bytes]:
    """Return all unlock slots by their ids and sealed roots by those of their slots and 256, from one snapshot.

    Raises:
        Malformed: The row with the sealed roots is missing, or not laid out as one.
    """
    ids = ROOTS_AND_SLOTS_IDS
    return slots_of_rows(dict(store.scan(Space.META, ids.start, ids.stop - 1, len(ids))))


def _read_front(store: Store) -> tuple[bytes, list[bytes | None]]:
    head, meta = store.snapshot([(Space.META, number) for number in (HEADER_ID, KEYRING_ID, MANIFEST_ID)])
    if head is None:
        message = "the file holds no vault"
        raise NotAVault(message)
    return head, meta


def _parse_head(head: bytes) -> tuple[bytes, State, bytes]:
    try:
        return parse_head(head)
    except Malformed:
        message = "the head of the vault is malformed"
        raise Tampered(message) from None
