"""The log of an open vault: showing, verifying, exporting and proving what is in it."""

from __future__ import annotations

import json
from base64 import b64decode
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from securecfg.audit import Event, parse_leaf
from securecfg.audit.attestation import collect_evidence, prefix_checkpoint
from securecfg.audit.epoch import parse_hand_over
from securecfg.audit.proof import create_proof
from securecfg.audit.record import format_time
from securecfg.audit.report import Report, Row
from securecfg.audit.tiles import export_tiles
from securecfg.audit.verify import verify_fresh
from securecfg.errors import NotFound, Tampered, UsageError
from securecfg.octets import Cursor, Malformed
from securecfg.store import Space
from securecfg.vault.commits.staging import PART_FRONT, PART_PADDING
from securecfg.vault.index.rows import digest_id, verify_digest
from securecfg.vault.state.storedlog import StoredLog

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import timedelta
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from securecfg.audit import Checkpoint, Record, VerifierKey
    from securecfg.audit.epoch import HandOver
    from securecfg.vault.authority import Authority
    from securecfg.vault.state.storedlog import Verified


@dataclass(frozen=True, slots=True)
class Entry:
    """A record and where it stands in the log, from 0."""

    index: int
    record: Record


class LogSeal(NamedTuple):
    """What a statement about the log is signed with.

    Attributes:
        genesis: The verifier key of the first epoch.
        checkpoint: The newest checkpoint.
        signer: The signing key of the epoch that it is of.
        hand_overs: All hand-overs from the first epoch's key to this one.
    """

    genesis: VerifierKey
    checkpoint: Checkpoint
    signer: Ed25519PrivateKey
    hand_overs: tuple[HandOver, ...]


class AuditLog:
    """The log, as one identity may see it.

    Args:
        authority: Decides and records for it.
    """

    def __init__(self, authority: Authority) -> None:
        """Read nothing yet."""
        self._authority = authority
        self._opened = authority.opened
        self._is_being_read = False

    @property
    def vkey(self) -> VerifierKey:
        """The verifier key of the log's first epoch, with which everything else can be checked."""
        return self._log().genesis

    @property
    def current_vkey(self) -> VerifierKey:
        """The verifier key that the newest checkpoint is signed with."""
        return self._log().vkey

    @property
    def note(self) -> bytes:
        """The newest checkpoint, as a signed note."""
        self._opened.check_open()
        return self._opened.mark().note

    def records(self, first: int = 0, last: int | None = None) -> Iterator[Entry]:
        """Yield the records from one index to another, both included, oldest first; the reading is recorded before.

        Raises:
            AccessDenied: The caller may not `audit.read`.
            LogTampered: A record does not open.
        """
        self._authorize("audit.read", Event.AUDIT_READ, _interval(first, last))
        self._is_being_read = True
        return self._entries(first, last)

    def follow(self, first: int, timeout_s: float) -> list[Entry]:
        """Return the records from an index on, after waiting for some if there are none.

        The first reading through this object is recorded, as by `records`; going on is not.

        Raises:
            AccessDenied: The caller may not, or no longer, `audit.read`.
            LogTampered: A record does not open.
        """
        if self._is_being_read:
            self._authority.require("audit.read", "")
        else:
            self._authorize("audit.read", Event.AUDIT_READ, _interval(first, None))
            self._is_being_read = True
        opened = self._opened
        revision = opened.store.revision()
        opened.refresh()
        if opened.replica.checkpoint.size <= first:
            opened.store.wait(revision, timeout_s)
            opened.refresh()
        return list(self._entries(first, None))

    def items(self, record: Record) -> list[tuple[str, int]]:
        """Return the paths and versions that the record of a batch is about, from its parts where it has any.

        Raises:
            Tampered: A part is missing or was altered.
        """
        if "parts" not in record.obj:
            return [(str(path), int(number)) for path, number in record.obj.get("items", ())]
        items: list[tuple[str, int]] = []
        for digest, key in record.obj["parts"]:
            items += self._open_part(b64decode(digest), b64decode(key))
        return items

    def verify(self, *, opens_records: bool = True, max_age: timedelta | None = None) -> Verified:
        """Check the whole log: every leaf and tile, every signature, and, opened, every record's place.

        Args:
            opens_records: Whether to open every record too, which finds more and takes longer.
            max_age: How old the newest record may be.

        Raises:
            LogTampered: A record or what vouches for it was altered; the index is given where it can be.
            LogTruncated: Records are missing at the end.
            LogStale: The newest record is too old.
        """
        self._opened.refresh()
        log = self._log()
        log.verify_tree()
        if not opens_records:
            return log.verified(None)
        history = log.verify_records()
        if max_age is not None:
            verify_fresh(history.last_time_ns, self._opened.clock.now_ns(), max_age)
        return log.verified(history)

    def export_tiles(self, directory: Path) -> int:
        """Write the log as C2SP tlog-tiles with `checkpoint` and `vkey`, and return the number of records.

        Raises:
            AccessDenied: The caller may not `audit.export`.
            AlreadyExists: The directory holds something else than an export of this log.
            LogTampered: What is stored does not lead to the signed root.
            StoreFailed: A file cannot be written.
        """
        size = self._opened.replica.checkpoint.size
        self._authorize("audit.export", Event.AUDIT_EXPORTED, {"size": size, "format": "tiles"})
        log = self._log()
        export_tiles(directory, log.leaves(), log.note, log.vkey)
        return log.checkpoint.size

    def prove(self, index: int, *, opens_record: bool = False) -> bytes:
        """Return the tlog-proof of a record, which discloses its content where asked to.

        Raises:
            AccessDenied: The caller may not `audit.export`, or not `audit.read` what is disclosed.
            NotFound: There is no such record.
            LogTampered: It does not lead to the signed root.
        """
        self._authority.require("audit.export", "")
        if opens_record:
            self._authority.require("audit.read", "")
        size = self._opened.replica.checkpoint.size
        if index >= size:
            message = f"the log has no record {index}"
            raise NotFound(message, hint=f"its records are 0 to {size - 1}")
        obj = {"size": 1, "format": "proof", "first": index, "last": index}
        self._authorize("audit.export", Event.AUDIT_EXPORTED, obj)
        log = self._log()
        key = log.opener.leaf_key(parse_leaf(log.tree.leaf(index), index), index) if opens_record else b""
        return create_proof(log.tree, index, log.note, key)

    def report(self, start_ns: int | None, end_ns: int | None, file_format: str) -> Report:
        """Return a report of all records from one moment up to another, with its evidence.

        Args:
            start_ns: The first moment, nanoseconds since 1970; None begins with the first record of the log.
            end_ns: The first moment after the period; None ends it now, or with a record that claims to be of later.
            file_format: What the report will be written as, for the record of the export.

        Raises:
            AccessDenied: The caller may not both `audit.export` and `audit.read`.
            UsageError: The period ends before it begins.
            LogTampered: A record does not open, or the log does not lead to the signed root.
            Tampered: A part of a batch's record is missing or was altered.
        """
        self._authority.require("audit.read", "")
        self._authorize("audit.export", Event.AUDIT_EXPORTED, {"size": 0, "format": file_format})
        log = self._log()
        entries = [Entry(index, log.opener.open_row(row, index)) for index, row in enumerate(log.leaves())]
        now_ns = self._opened.clock.now_ns()
        # A clock that was set back wrote records that are older than the ones before, or newer than now.
        times_ns = [entry.record.time_ns for entry in entries]
        start_ns = min(times_ns) if start_ns is None else start_ns
        end_ns = max(now_ns, *times_ns) + 1 if end_ns is None else end_ns
        if end_ns <= start_ns:
            message = "the period ends before it begins"
            raise UsageError(message, hint=f"the first record is of {format_time(min(times_ns))}")
        rows = tuple(
            Row(entry.index, entry.record, parts=self._parts(entry.record))
            for entry in entries
            if start_ns <= entry.record.time_ns < end_ns
        )
        first = rows[0].index if rows else log.checkpoint.size
        older = prefix_checkpoint(log.tree, log.vkey.name, first, self._opened.replica.signer)
        evidence = collect_evidence(log.tree, older, log.note, _hand_overs(entries))
        return Report(start_ns=start_ns, end_ns=end_ns, made_ns=now_ns, rows=rows, evidence=evidence)

    def stored(self) -> StoredLog:
        """Return the log up to its newest checkpoint, for what is verified against it; nothing is recorded.

        Raises:
            VaultClosed: The vault is closed.
        """
        self._opened.refresh()
        return self._log()

    def seal(self) -> LogSeal:
        """Return what a statement about the log is signed with: its head, its key, and how that came to be trusted.

        Raises:
            LogTampered: A record does not open.
        """
        opened = self._opened
        opened.check_open()
        with opened.replica.lock:  # another writer may put a new key in use
            log, signer = self._log(), opened.replica.signer
        return LogSeal(log.genesis, log.checkpoint, signer, hand_overs_of(log, log.checkpoint.size))

    def _authorize(self, action: str, event: Event, obj: dict[str, object]) -> None:
        session, decision = self._authority.require(action, "")
        if self._opened.options.read_only:
            return
        self._authority.publish_records([session.record(event, obj, decision=decision)])

    def _log(self) -> StoredLog:
        """Return the log up to its newest checkpoint; that is taken once, since other writers go on meanwhile."""
        opened = self._opened
        opened.check_open()
        replica = opened.replica
        with replica.lock:
            return StoredLog(opened.store, replica.header, replica.keyring, opened.mark().note)

    def _entries(self, first: int, last: int | None) -> Iterator[Entry]:
        log = self._log()
        newest = log.checkpoint.size - 1
        for index, row in log.rows(first, newest if last is None else min(last, newest)):
            self._opened.check_open()  # many rows are read ahead
            yield Entry(index, log.opener.open_row(row, index))

    def _parts(self, record: Record) -> tuple[tuple[str, int], ...]:
        return tuple(self.items(record)) if "parts" in record.obj else ()

    def _open_part(self, digest: bytes, key: bytes) -> list[tuple[str, int]]:
        row = verify_digest(self._opened.store.get(Space.PART, digest_id(digest)), digest, "a part of a record")
        try:
            cursor = Cursor(AESGCM(key).decrypt(bytes(12), row[len(PART_FRONT) :], row[: len(PART_FRONT)]))
            text = cursor.var32()
            cursor.finish_padding(PART_PADDING)
        except (InvalidTag, Malformed, ValueError):
            message = "a part of a record does not open"
            raise Tampered(message) from None
        return [(str(path), int(number)) for path, number in json.loads(text)]


def hand_overs_of(log: StoredLog, size: int) -> tuple[HandOver, ...]:
    """Return the hand-overs among the first records of a log.

    Raises:
        LogTampered: A record does not open, or is missing.
    """
    if log.vkey == log.genesis:
        return ()
    entries = (Entry(index, log.opener.open_row(row, index)) for index, row in log.rows(0, size - 1))
    return tuple(_hand_overs(entries))


def _interval(first: int, last: int | None) -> dict[str, object]:
    return {"first": first} if last is None else {"first": first, "last": last}


def _hand_overs(entries: Iterable[Entry]) -> list[HandOver]:
    return [
        parse_hand_over(entry.record.obj, entry.index) for entry in entries if entry.record.event is Event.AUDIT_EPOCH
    ]
