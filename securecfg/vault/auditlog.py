"""The log of an open vault: showing, verifying, exporting and proving what is in it."""

from __future__ import annotations

import json
from base64 import b64decode
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from securecfg.audit import Event, VerifierKey, origin_of, parse_leaf
from securecfg.audit.attestation import collect_evidence, prefix_checkpoint
from securecfg.audit.epoch import parse_hand_over
from securecfg.audit.opening import RecordOpener
from securecfg.audit.proof import create_proof
from securecfg.audit.report import Report, Row
from securecfg.audit.tiles import export_tiles
from securecfg.audit.verify import History, find_tampered, verify_fresh, verify_tree
from securecfg.errors import LogTampered, Tampered
from securecfg.keys import Purpose
from securecfg.octets import Cursor, Malformed
from securecfg.store import Space
from securecfg.vault.replica import StoredTree, tile_id
from securecfg.vault.rows import digest_id, verify_digest
from securecfg.vault.staging import PART_FRONT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta
    from pathlib import Path

    from securecfg.audit import Record
    from securecfg.audit.epoch import HandOver
    from securecfg.vault.authority import Authority

_ROWS_AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class Entry:
    """A record and where it stands in the log, from 0."""

    index: int
    record: Record


@dataclass(frozen=True, slots=True)
class Verified:
    """What a verification of the log found sound.

    Attributes:
        size: The number of records.
        epochs: The number of signing keys so far.
        last_time_ns: When the newest record was written, 0 where the records were not opened.
        behind: Records whose clock was more than five minutes behind an earlier one.
    """

    size: int
    epochs: int
    last_time_ns: int
    behind: tuple[int, ...]


class AuditLog:
    """The log, as one identity may see it.

    Args:
        authority: Decides and records for it.
    """

    def __init__(self, authority: Authority) -> None:
        """Read nothing yet."""
        self._authority = authority
        self._opened = authority.opened
        replica = self._opened.replica
        key = replica.keyring.active(Purpose.AUDIT).key
        self._opener = RecordOpener(key, replica.vault_id, self._sealer_row)

    @property
    def vkey(self) -> VerifierKey:
        """The verifier key of the log's first epoch, with which everything else can be checked."""
        replica = self._opened.replica
        return VerifierKey(origin_of(replica.vault_id), replica.header.first_log_key)

    @property
    def note(self) -> bytes:
        """The newest checkpoint, as a signed note."""
        return self._opened.mark().note

    def records(self, first: int = 0, last: int | None = None) -> Iterator[Entry]:
        """Yield the records from one index to another, both included, oldest first; the reading is recorded before.

        Raises:
            AccessDenied: The caller may not `audit.read`.
            LogTampered: A record does not open.
        """
        self._authorize("audit.read", Event.AUDIT_READ, _interval(first, last))
        return self._entries(first, self._last(last))

    def follow(self, first: int, timeout_s: float) -> list[Entry]:
        """Return the records from an index on, after waiting for some if there are none.

        For a caller that has begun with `records`.

        Raises:
            AccessDenied: The caller may no longer `audit.read`.
            LogTampered: A record does not open.
        """
        self._authority.require("audit.read", "")
        opened = self._opened
        revision = opened.store.revision()
        opened.refresh()
        if opened.replica.checkpoint.size <= first:
            opened.store.wait(revision, timeout_s)
            opened.refresh()
        return list(self._entries(first, opened.replica.checkpoint.size - 1))

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
        opened = self._opened
        opened.refresh()
        checkpoint = opened.replica.checkpoint
        try:
            verify_tree(checkpoint, self._leaves(checkpoint.size), self._tile)
        except LogTampered as error:
            index = error.index
            if index is None:
                index = find_tampered(self._leaves(checkpoint.size), self._opener)
            if index is None:
                raise
            message = f"record {index} was altered" if error.index is None else error.message
            raise LogTampered(message, index=index, hint=error.hint) from None
        if not opens_records:
            return Verified(checkpoint.size, opened.replica.state.epoch + 1, 0, ())
        history = History(self.vkey)
        for row in self._leaves(checkpoint.size):
            history.add(row, self._opener)
        history.open_checkpoint(self.note)
        if max_age is not None:
            verify_fresh(history.last_time_ns, opened.clock.now_ns(), max_age)
        return Verified(history.size, len(history.epochs.keys), history.last_time_ns, tuple(history.behind))

    def export_tiles(self, directory: Path) -> int:
        """Write the log as C2SP tlog-tiles with `checkpoint` and `vkey`, and return the number of records.

        Raises:
            AccessDenied: The caller may not `audit.export`.
            LogTampered: What is stored does not lead to the signed root.
            StoreFailed: A file cannot be written.
        """
        size = self._opened.replica.checkpoint.size
        self._authorize("audit.export", Event.AUDIT_EXPORTED, {"size": size, "format": "tiles"})
        checkpoint = self._opened.replica.checkpoint
        replica = self._opened.replica
        vkey = VerifierKey(origin_of(replica.vault_id), replica.state.epoch_key)
        export_tiles(directory, self._leaves(checkpoint.size), self.note, vkey)
        return checkpoint.size

    def prove(self, index: int, *, opens_record: bool = False) -> bytes:
        """Return the tlog-proof of a record, which discloses its content where asked to.

        Raises:
            AccessDenied: The caller may not `audit.export`.
            LogTampered: There is no such record, or it does not lead to the signed root.
        """
        obj = {"size": 1, "format": "proof", "first": index, "last": index}
        self._authorize("audit.export", Event.AUDIT_EXPORTED, obj)
        tree = StoredTree(self._opened.store)
        key = b""
        if opens_record:
            key = self._opener.leaf_key(parse_leaf(tree.leaf(index), index), index)
        return create_proof(tree, index, self.note, key)

    def report(self, start_ns: int, end_ns: int, file_format: str) -> Report:
        """Return a report of all records from one moment up to another, with its evidence.

        Raises:
            AccessDenied: The caller may not `audit.export`.
            LogTampered: A record does not open, or the log does not lead to the signed root.
        """
        self._authorize("audit.export", Event.AUDIT_EXPORTED, {"size": 0, "format": file_format})
        opened = self._opened
        size = opened.replica.checkpoint.size
        entries = list(self._entries(0, size - 1))
        rows = tuple(Row(entry.index, entry.record) for entry in entries if start_ns <= entry.record.time_ns < end_ns)
        first = rows[0].index if rows else size
        tree = StoredTree(opened.store)
        replica = opened.replica
        older = prefix_checkpoint(tree, origin_of(replica.vault_id), first, replica.signer)
        hand_overs = _hand_overs(entries)
        evidence = collect_evidence(tree, older, self.note, hand_overs)
        return Report(start_ns=start_ns, end_ns=end_ns, made_ns=opened.clock.now_ns(), rows=rows, evidence=evidence)

    def _authorize(self, action: str, event: Event, obj: dict[str, object]) -> None:
        session, decision = self._authority.require(action, "")
        if self._opened.options.read_only:
            return
        self._authority.publish_records([session.record(event, obj, decision=decision)])

    def _last(self, last: int | None) -> int:
        newest = self._opened.replica.checkpoint.size - 1
        return newest if last is None else min(last, newest)

    def _entries(self, first: int, last: int) -> Iterator[Entry]:
        for index, row in self._rows(first, last):
            yield Entry(index, self._opener.open_row(row, index))

    def _rows(self, first: int, last: int) -> Iterator[tuple[int, bytes]]:
        while first <= last:
            rows = self._opened.store.scan(Space.LOG, first, min(last, first + _ROWS_AT_ONCE - 1), _ROWS_AT_ONCE)
            for index, row in rows:
                if index != first:
                    message = f"record {first} is missing"
                    raise LogTampered(message, index=first)
                yield index, row
                first += 1
            if not rows:
                message = f"record {first} is missing"
                raise LogTampered(message, index=first)

    def _leaves(self, size: int) -> Iterator[bytes]:
        first = 0
        while first < size:
            last = min(size, first + _ROWS_AT_ONCE) - 1
            rows = self._opened.store.scan(Space.LOG, first, last, _ROWS_AT_ONCE)
            for index, row in rows:
                if index != first:
                    break
                yield row
                first += 1
            if first <= last:
                newest = self._opened.store.scan(Space.LOG, first, size - 1, 1)
                if newest:
                    message = f"record {first} is missing"
                    raise LogTampered(message, index=first)
                return

    def _tile(self, level: int, index: int) -> bytes | None:
        return self._opened.store.get(Space.TILE, tile_id(level, index))

    def _sealer_row(self, sealer_id: bytes) -> bytes | None:
        return self._opened.store.get(Space.SEALER, digest_id(sealer_id))

    def _open_part(self, digest: bytes, key: bytes) -> list[tuple[str, int]]:
        row = verify_digest(self._opened.store.get(Space.PART, digest_id(digest)), digest, "a part of a record")
        try:
            cursor = Cursor(AESGCM(key).decrypt(bytes(12), row[len(PART_FRONT) :], row[: len(PART_FRONT)]))
            text = cursor.var32()
            cursor.finish_padding()
        except (InvalidTag, Malformed, ValueError):
            message = "a part of a record does not open"
            raise Tampered(message) from None
        return [(str(path), int(number)) for path, number in json.loads(text)]


def _interval(first: int, last: int | None) -> dict[str, object]:
    return {"first": first} if last is None else {"first": first, "last": last}


def _hand_overs(entries: list[Entry]) -> list[HandOver]:
    return [
        parse_hand_over(entry.record.obj, entry.index) for entry in entries if entry.record.event is Event.AUDIT_EPOCH
    ]
