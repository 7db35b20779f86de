"""The log as a store holds it, with the keys that check and open it. It decides nothing and records nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from securecfg.audit import (
    Checkpoint,
    VerifierKey,
    consistency_proof,
    open_checkpoint,
    origin_of,
    parse_checkpoint,
    vkey_of,
)
from securecfg.audit.opening import RecordOpener
from securecfg.audit.verify import History, find_tampered, verify_continues, verify_fresh, verify_tree
from securecfg.clock import SystemClock
from securecfg.errors import IntegrityError, LogTampered, StoreFailed, Tampered
from securecfg.keys import Keyring, Purpose, unlock
from securecfg.octets import Malformed
from securecfg.store import Space, open_sqlite
from securecfg.vault.index.rows import digest_id, verify_digest
from securecfg.vault.state.anchor import AnchorFile
from securecfg.vault.state.head import parse_head
from securecfg.vault.state.replica import KEYRING_ID, Replica, StoredTree, read_header, tile_id

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator
    from datetime import timedelta

    from securecfg.clock import Clock
    from securecfg.keys import Header, KeyProvider
    from securecfg.store import Store

    Progress = Callable[[int, int], None]

CHECKPOINT, TREE, RECORDS, STATE = 1, 2, 3, 4
"""The levels of a verification."""

_ROWS_AT_ONCE = 512
_ATTEMPTS = 8


@dataclass(frozen=True, slots=True)
class Verified:
    """What a verification of the log found sound.

    Attributes:
        size: The number of records.
        epochs: The number of signing keys so far.
        last_time_ns: When the newest record was written, 0 where the records were not opened.
        behind: Records whose clock was more than five minutes behind an earlier one.
        genesis: The verifier key of the first epoch.
        vkey: The one that the newest checkpoint is signed with.
    """

    size: int
    epochs: int
    last_time_ns: int
    behind: tuple[int, ...]
    genesis: VerifierKey
    vkey: VerifierKey


@dataclass(frozen=True, slots=True)
class Expectation:
    """What is known of a log from elsewhere.

    Attributes:
        max_age: How old the newest record may be, or None.
        checkpoint: A signed note that was kept, which the log must continue, or None. It is trusted as it is.
    """

    max_age: timedelta | None = None
    checkpoint: bytes | None = None


class StoredLog:
    """The log up to one checkpoint.

    Args:
        store: Where the rows are.
        header: The vault's, verified.
        keyring: The vault's, of the moment of the checkpoint.
        note: The checkpoint as a signed note.

    Raises:
        LogTampered: The checkpoint is malformed or not signed by this key.
    """

    def __init__(self, store: Store, header: Header, keyring: Keyring, note: bytes) -> None:
        """Check the checkpoint; read no record."""
        self._store = store
        origin = origin_of(header.vault_id)
        entry = keyring.active(Purpose.LOG_SIGNING)
        self._epoch = entry.epoch
        self.genesis = VerifierKey(origin, header.first_log_key)
        self.vkey = vkey_of(origin, Ed25519PrivateKey.from_private_bytes(entry.key))
        self.note = note
        self.checkpoint: Checkpoint = open_checkpoint(note, [self.vkey])
        self.tree = StoredTree(store)
        self.opener = RecordOpener(keyring.all(Purpose.AUDIT), header.vault_id, self._sealer_row)

    def rows(self, first: int, last: int) -> Iterator[tuple[int, bytes]]:
        """Yield the leaves from one index to another, both included.

        Raises:
            LogTampered: One is missing.
        """
        for index, row in self._stored(first, last):
            yield index, row
            first = index + 1
        if first <= last:
            raise _missing(first)

    def leaves(self) -> Iterator[bytes]:
        """Yield all leaves in order; fewer where they are missing at the end.

        Raises:
            LogTampered: One is missing before the end.
        """
        first, last = 0, self.checkpoint.size - 1
        for index, row in self._stored(first, last):
            yield row
            first = index + 1
        if first <= last and self._store.scan(Space.LOG, first, last, 1):
            raise _missing(first)

    def verify_tree(self, progress: Progress | None = None) -> None:
        """Check that every leaf and tile hashes to the signed root.

        Args:
            progress: Called with the number of records done and of all.

        Raises:
            LogTampered: A record was altered; with its index where one can be named.
            LogTruncated: Records are missing at the end.
        """
        try:
            verify_tree(self.checkpoint, self._counted(progress), self._tile)
        except LogTampered as error:
            index = error.index if error.index is not None else find_tampered(self.leaves(), self.opener)
            if index is None:
                raise
            message = f"record {index} was altered" if error.index is None else error.message
            raise LogTampered(message, index=index, hint=error.hint) from None

    def verify_records(self, progress: Progress | None = None) -> History:
        """Open every record and check what they establish together, the signer of the checkpoint included.

        Args:
            progress: Called with the number of records done and of all.

        Raises:
            LogTampered: A record does not open, or contradicts those before it.
            LogTruncated: Records are missing at the end.
        """
        history = History(self.genesis)
        for row in self._counted(progress):
            history.add(row, self.opener)
        history.open_checkpoint(self.note)
        return history

    def verified(self, history: History | None) -> Verified:
        """Return what was found; without opened records, less is known."""
        size = self.checkpoint.size
        if history is None:
            return Verified(size, self._epoch + 1, 0, (), self.genesis, self.vkey)
        keys = len(history.epochs.keys)
        return Verified(size, keys, history.last_time_ns, tuple(history.behind), self.genesis, self.vkey)

    def verify_continues(self, older: Checkpoint) -> None:
        """Check that the log has only grown since a checkpoint that was kept elsewhere.

        Raises:
            LogTruncated: The checkpoint is of more records.
            LogTampered: It is of another log or another past.
        """
        proof: tuple[bytes, ...] = ()
        if older.origin == self.checkpoint.origin and 0 < older.size <= self.checkpoint.size:
            proof = consistency_proof(self.tree, older.size, self.checkpoint.size)
        verify_continues(older, self.checkpoint, proof)

    def _counted(self, progress: Progress | None) -> Iterator[bytes]:
        for index, row in enumerate(self.leaves()):
            if progress is not None and index % _ROWS_AT_ONCE == 0:
                progress(index, self.checkpoint.size)
            yield row

    def _stored(self, first: int, last: int) -> Iterator[tuple[int, bytes]]:
        """Yield leaves until the end or the first that is missing."""
        while first <= last:
            rows = self._store.scan(Space.LOG, first, min(last, first + _ROWS_AT_ONCE - 1), _ROWS_AT_ONCE)
            for index, row in rows:
                if index != first:
                    return
                yield index, row
                first += 1
            if not rows:
                return

    def _tile(self, level: int, index: int) -> bytes | None:
        return self._store.get(Space.TILE, tile_id(level, index))

    def _sealer_row(self, sealer_id: bytes) -> bytes | None:
        return self._store.get(Space.SEALER, digest_id(sealer_id))


def verify_log_file(
    path: str | os.PathLike[str],
    provider: KeyProvider,
    *,
    level: int = STATE,
    expected: Expectation | None = None,
    clock: Clock | None = None,
    progress: Progress | None = None,
) -> Verified:
    """Check the log of a vault file, which may be damaged too much to be opened, or read-only. Nothing is written.

    1. The newest checkpoint is signed by the log's key, and header and keyring are those that its state names.
    2. Every leaf and tile hashes to its root.
    3. Every record opens, and together they hold: epochs, counters, the first record.
    4. The log continues the checkpoint that this machine recorded and the one given, and the vault's state follows
       from the log.

    Args:
        path: The vault.
        provider: Holds one of its keys.
        level: How far to go.
        expected: What is known of the log from elsewhere; an age needs level 3, a checkpoint level 4.
        clock: The time.
        progress: Called with the number of records done and of all.

    Raises:
        LogTampered: A record or what vouches for it was altered; the index is given where it can be.
        LogTruncated: Records are missing at the end.
        LogStale: The newest record is too old.
        StoreFailed: The vault, or what this machine recorded of it, cannot be read.
        Tampered: Something else than the log was altered.
        VaultNotFound, NotAVault, UnsupportedFormat: There is no vault that this program reads.
        WrongKey: No unlock slot opens with the key.
    """
    expected = expected or Expectation()
    store = open_sqlite(path, read_only=True)
    try:
        header, slots = read_header(store)
        unlocked = unlock(header, slots, provider)
        log = _open_log(store, unlocked.root)  # 1
        history = None
        if level >= TREE:
            log.verify_tree(progress)  # 2
        if level >= RECORDS:
            history = log.verify_records(progress)  # 3
            if expected.max_age is not None:
                verify_fresh(history.last_time_ns, (clock or SystemClock()).now_ns(), expected.max_age)
        if level >= STATE:
            for kept in (_anchored(header.vault_id, path), _parsed(expected.checkpoint)):  # 4
                if kept is not None:
                    log.verify_continues(kept)
            Replica(store, unlocked)
    finally:
        store.close()
    return log.verified(history)


def _open_log(store: Store, root: bytes) -> StoredLog:
    for _ in range(_ATTEMPTS):
        head = store.head()
        try:
            return _read_log(store, root)
        except IntegrityError:
            # Rows that belong to two states look tampered with; a head that stands still proves that they are.
            if store.head() == head:
                raise
    return _read_log(store, root)


def _read_log(store: Store, root: bytes) -> StoredLog:
    header, slots = read_header(store)
    header.verify(root, slots)
    head, (row,) = store.snapshot([(Space.META, KEYRING_ID)])
    try:
        note, state, digest = parse_head(head or b"")
    except Malformed:
        message = "the head of the vault is malformed"
        raise Tampered(message) from None
    row = verify_digest(row, state.keyring_digest, "the keyring")
    log = StoredLog(store, header, Keyring.open(row, root, header.vault_id, header.generation), note)
    if log.checkpoint.state != digest:
        message = "the state is not the one that was signed"
        raise Tampered(message)
    return log


def _parsed(note: bytes | None) -> Checkpoint | None:
    return parse_checkpoint(note) if note is not None else None


def _anchored(vault_id: bytes, path: str | os.PathLike[str]) -> Checkpoint | None:
    try:
        anchor = AnchorFile(vault_id, path).read()
    except OSError as error:
        message = f"what this machine recorded of the vault cannot be read: {error.strerror}"
        raise StoreFailed(message) from None
    if anchor is None:
        return None
    mark = anchor.mark
    # What an introduction has brought has no note.
    return (
        parse_checkpoint(mark.note) if mark.note else Checkpoint(origin_of(vault_id), mark.size, mark.root, bytes(32))
    )


def _missing(index: int) -> LogTampered:
    return LogTampered(f"record {index} is missing", index=index)
