"""What shows without any key of a sealed scope that its state is whole: signatures and hashes (format 13.3).

Whose signatures these are only the charter says, which a key opens. Whoever may write the file can make a state that
passes here; none that a member believes.
"""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from securecfg.audit import VerifierKey, leaf_hash, open_checkpoint, origin_of, parse_leaf
from securecfg.audit.merkle import HASH_BYTES, root_after
from securecfg.errors import LogTampered, NotAVault, Tampered
from securecfg.keys import Header, slots_of_rows, slots_to_bytes
from securecfg.octets import Malformed
from securecfg.store import Space
from securecfg.vault.index.rows import verify_digest
from securecfg.vault.scopes.charters import VOUCHER_ID, parse_voucher
from securecfg.vault.state.head import hash_header, parse_head
from securecfg.vault.state.replica import HEADER_ID, KEYRING_ID, MANIFEST_ID, ROOTS_AND_SLOTS_IDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from securecfg.audit import Checkpoint
    from securecfg.store import Store
    from securecfg.vault.scopes.charters import Voucher
    from securecfg.vault.state.head import State

META_IDS = (HEADER_ID, KEYRING_ID, MANIFEST_ID, VOUCHER_ID, *ROOTS_AND_SLOTS_IDS)

_LEAVES_AT_ONCE = 512
_HINT = "somebody who may write the file may have changed it; restore it from a backup made before"


def open_head(vault_id: bytes, head: bytes) -> tuple[State, Checkpoint]:
    """Return the state and the checkpoint of a head, which must be signed as it says.

    Raises:
        Tampered: It is malformed, or signed otherwise.
    """
    try:
        note, state, digest = parse_head(head)
        checkpoint = open_checkpoint(note, [VerifierKey(origin_of(vault_id), state.epoch_key)])
    except Malformed:
        message = "the head of the vault is malformed"
        raise Tampered(message) from None
    except LogTampered as error:
        raise Tampered(error.message) from None
    if checkpoint.state != digest:
        message = "the state is not the one that was signed"
        raise Tampered(message)
    return state, checkpoint


class Front(NamedTuple):
    """What the head of a scope says, and the voucher for it; that its log and its deltas fit is for the methods.

    Attributes:
        state: The state.
        checkpoint: It is signed with the key in the state, and binds that.
        voucher: It covers the state, and is signed with the key in it.
    """

    state: State
    checkpoint: Checkpoint
    voucher: Voucher

    @classmethod
    def parse(cls, head: bytes, meta: Mapping[int, bytes], scope_id: bytes) -> Front:
        """Return the front of a scope that fits together.

        Args:
            head: The head row.
            meta: The rows of META by their ids.
            scope_id: Whose it must be.

        Raises:
            Tampered: It does not.
        """
        state, checkpoint = open_head(scope_id, head)
        header = meta.get(HEADER_ID, b"")
        try:
            slots = slots_of_rows({id_: meta[id_] for id_ in ROOTS_AND_SLOTS_IDS if id_ in meta})
            is_ours = Header.parse(header).vault_id == scope_id
        except (NotAVault, Malformed):
            is_ours, slots = False, {}
        if not is_ours or not hmac.compare_digest(hash_header(header, slots_to_bytes(slots)), state.header_digest):
            message = "the header or an unlock slot does not match the state of the scope"
            raise Tampered(message, hint=_HINT)
        verify_digest(meta.get(KEYRING_ID), state.keyring_digest, "the keyring")
        verify_digest(meta.get(MANIFEST_ID), state.manifest_digest, "the manifest")
        voucher = parse_voucher(meta.get(VOUCHER_ID))
        voucher.verify_signature(scope_id, state)
        if not state.base_size <= voucher.size <= checkpoint.size:
            message = "what is vouched for in the scope is not what its log holds"
            raise Tampered(message, hint=_HINT)
        return cls(state, checkpoint, voucher)

    def verify_log(self, hashed_leaves: bytes) -> None:
        """Check that the log leads to the roots in checkpoint and voucher.

        Args:
            hashed_leaves: The hashes of all leaves, one after the other.

        Raises:
            Tampered: It does not.
        """
        for size, root in ((self.voucher.size, self.voucher.root), (self.checkpoint.size, self.checkpoint.root)):
            ends = range(HASH_BYTES, size * HASH_BYTES + 1, HASH_BYTES)
            if root_after(0, (), (hashed_leaves[end - HASH_BYTES : end] for end in ends)) != root:
                message = "the log of the scope is not the one that was signed"
                raise Tampered(message, hint=_HINT)

    def deltas_of(self, index: int, leaf: bytes) -> tuple[bytes, ...]:
        """Return the hashes of the deltas that a record names.

        Raises:
            Tampered: Nobody vouches for them, or the record is malformed.
        """
        try:
            digests = parse_leaf(leaf, index).delta_hashes
        except LogTampered as error:
            raise Tampered(error.message) from None
        if digests and index >= self.voucher.size:
            message = "a record that no writer of the scope vouches for changes data"
            raise Tampered(message, hint=_HINT)
        return digests


class Witness:
    """Takes the rows of a scope as they come, the records in their order, and then checks what needs no key.

    A row that comes again replaces the one before.

    Args:
        scope_id: Whose they must be, 16 bytes.
    """

    def __init__(self, scope_id: bytes) -> None:
        """Take none yet."""
        self._scope_id = scope_id
        self._meta: dict[int, bytes] = {}
        self._hashed_leaves = bytearray()
        self._naming: dict[int, bytes] = {}
        self._deltas: set[bytes] = set()

    def take(self, space: Space, id_: int, row: bytes) -> None:
        """Take a row.

        Raises:
            Tampered: It is a record, and the one before is missing.
        """
        if space is Space.META:
            self._meta[id_] = row
        elif space is Space.DELTA:
            self._deltas.add(sha256(row).digest())
        elif space is Space.LOG:
            start = id_ * HASH_BYTES
            if start > len(self._hashed_leaves):
                message = f"record {len(self._hashed_leaves) // HASH_BYTES} is missing from the log"
                raise Tampered(message)
            self._hashed_leaves[start : start + HASH_BYTES] = leaf_hash(row)
            self._naming.pop(id_, None)
            try:
                if parse_leaf(row, id_).delta_hashes:
                    self._naming[id_] = row
            except LogTampered as error:
                raise Tampered(error.message) from None

    def verify(self, head: bytes) -> Front:
        """Check that the rows are those of a head.

        Raises:
            Tampered: They are not.
        """
        front = Front.parse(head, self._meta, self._scope_id)
        front.verify_log(bytes(self._hashed_leaves))
        for index, leaf in sorted(self._naming.items()):
            digests = front.deltas_of(index, leaf)
            if index >= front.state.base_size and not self._deltas.issuperset(digests):
                message = f"a delta of record {index} is missing"
                raise Tampered(message, hint=_HINT)
        return front


def root_of_log(store: Store, size: int) -> bytes:
    """Return the root of the tree over the first records of a log.

    Raises:
        Tampered: A record is missing.
        StoreFailed: The store cannot be read.
    """
    return root_after(0, (), (leaf_hash(leaf) for _, leaf in _leaves(store, size)))


def _leaves(store: Store, size: int) -> Iterator[tuple[int, bytes]]:
    first = 0
    while first < size:
        rows = store.scan(Space.LOG, first, size - 1, _LEAVES_AT_ONCE)
        if [index for index, _ in rows] != list(range(first, first + len(rows))) or not rows:
            message = f"record {first} is missing from the log"
            raise Tampered(message)
        yield from rows
        first += len(rows)
