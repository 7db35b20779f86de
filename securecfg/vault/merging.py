"""Bringing the records that readers of bundles made into the log, once each (bundles.md, section 6)."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from securecfg.audit import Event, Record, Source, Subject
from securecfg.audit.record import format_time
from securecfg.audit.sealer import open_sealer
from securecfg.audit.sessions import SessionReader, sessions_of
from securecfg.crypto import KIND_TEXT
from securecfg.errors import Conflict, KeyProviderRefused, LogTampered, Tampered, Unsupported
from securecfg.keys import Purpose
from securecfg.keys.identity import parse_identity_file
from securecfg.vault.drafts import Content, Drafts, NewVersion
from securecfg.vault.paths import SYSTEM
from securecfg.vault.sinks import read_file
from securecfg.vault.storedlog import StoredLog

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from securecfg.audit.sessions import Entry
    from securecfg.keys import Identity
    from securecfg.vault.authority import Authority
    from securecfg.vault.publishing import Plan, Publication

_NOTES = SYSTEM + b"merged/"
_VERSION = 1
_AT_ONCE = 40
_EVENTS = {
    Event.SECRET_READ: Event.BUNDLE_READ,
    Event.SECRET_READ_COUNTED: Event.BUNDLE_READ,
    Event.ACCESS_DENIED: Event.BUNDLE_DENIED,
    Event.ACCESS_DENIED_COUNTED: Event.BUNDLE_DENIED,
}


@dataclass(frozen=True, slots=True)
class Merged:
    """What a merge found and took.

    Attributes:
        records: How many records were taken.
        known: How many had been taken before.
        sessions: How many sessions there are.
        unfinished: How many of them have no end: they go on, their process died, or the end was cut off.
        damaged: How many lines are no entries: cut off by a crash, or damaged.
    """

    records: int
    known: int
    sessions: int
    unfinished: int
    damaged: int


class _Session(NamedTuple):
    """A session that was verified as a whole.

    Attributes:
        reader: What read it.
        identity: Whose it is.
        records: All its records, with their sequence numbers.
        chains: The hash up to each entry.
        note_path: Where the vault keeps how much it has taken.
        known: How many entries it has taken.
        version: The version of that note, 0 for none.
    """

    reader: SessionReader
    identity: Identity
    records: list[tuple[int, Record]]
    chains: list[bytes]
    note_path: bytes
    known: int
    version: int


class Merging:
    """Merges files of records, as one identity may.

    Args:
        authority: Decides and records for it.
    """

    def __init__(self, authority: Authority) -> None:
        """Merge nothing yet."""
        self._authority = authority
        self._opened = authority.opened

    def merge(self, path: str | os.PathLike[str], name: str = "") -> Merged:
        """Take what is new in a file of records into the log. All of it is verified before any is taken.

        Args:
            path: The file.
            name: What the log calls it; empty leaves that out.

        Raises:
            AccessDenied: The caller may not `audit.read`.
            AuditUnavailable: The log cannot be written.
            Conflict: Somebody else merges the same records right now.
            FileMissing, ValueTooLarge, StoreFailed: The file cannot be read.
            LogTampered: An entry was altered or is missing, or is not by a reader of a bundle of this vault.
            Unsupported: The vault is open for reading only.
            UnsupportedFormat: A later version of this library wrote it.
        """
        self._authority.require("audit.read", "")
        if self._opened.options.read_only:
            message = "the vault is open for reading only"
            raise Unsupported(message, hint="open it for writing")
        entries, damaged = read_file(path)
        self._opened.refresh()
        sessions = [self._verify(session) for session in sessions_of(entries).values()]
        taken = sum(self._take(session, name) for session in sessions)
        known = sum(sequence < session.known for session in sessions for sequence, _ in session.records)
        unfinished = sum(not session.reader.has_ended for session in sessions)
        return Merged(taken, known, len(sessions), unfinished, damaged)

    # --- verifying ---------------------------------------------------------------------------------------------------

    def _verify(self, entries: Sequence[Entry]) -> _Session:
        replica = self._opened.replica
        reader = SessionReader(entries[0], self._open_row, replica.vault_id)
        identity = self._reader_of(reader)
        reader.verify_start(identity.verifier)
        records, chains = [], [reader.chain]
        for entry in entries[1:]:
            record = reader.add(entry)
            if record is not None:
                if record.event not in _EVENTS or record.subject.id != identity.name or not record.request_id:
                    raise _refusal(reader, "holds a record that no reader of a bundle makes")
                records.append((entry.sequence, record))
            chains.append(reader.chain)
        note_path = _NOTES + reader.session_id.hex().encode()
        known, version = self._known(note_path, reader, chains)
        return _Session(reader, identity, records, chains, note_path, known, version)

    def _open_row(self, row: bytes) -> bytes:
        """Return the key of a sealer, which any audit key of the vault may open.

        Raises:
            LogTampered: None does.
        """
        replica = self._opened.replica
        for key in replica.keyring.all(Purpose.AUDIT):
            try:
                return open_sealer(row, key, replica.vault_id)
            except Tampered:
                continue
        message = "a session was not recorded for this vault"
        raise LogTampered(message, hint="merge the file into the vault that published the bundle")

    def _reader_of(self, reader: SessionReader) -> Identity:
        """Return the identity that a session names, once the log says that the bundle was published for it.

        Raises:
            LogTampered: It was not.
        """
        start = reader.start
        try:
            identity = parse_identity_file(f"{start.identity}\n".encode()).identity
        except KeyProviderRefused:
            raise _refusal(reader, "names no identity") from None
        opened = self._opened
        with opened.replica.lock:
            log = StoredLog(opened.store, opened.replica.header, opened.replica.keyring, opened.mark().note)
        if start.bundle < log.checkpoint.size:
            record = log.opener.open_row(log.tree.leaf(start.bundle), start.bundle)
            recipient = f"{identity.name}:{identity.fingerprint.hex()}"
            if (
                record.event is Event.BUNDLE_PUBLISHED
                and record.obj["digest"] == start.digest
                and recipient in record.obj["recipients"]
            ):
                return identity
        raise _refusal(reader, "is of a bundle that this vault did not publish for its reader")

    def _known(self, path: bytes, reader: SessionReader, chains: Sequence[bytes]) -> tuple[int, int]:
        """Return how many entries of a session were taken before, and the version of the note of it."""
        opened = self._opened
        entry = opened.replica.index.get(path)
        if entry is None:
            return 0, 0
        note: dict[str, str] = opened.system_document(path, {})
        known = int(note["next"])
        if known > len(chains) or chains[known - 1] != b64decode(note["chain"]):
            raise _refusal(reader, "lacks what was merged before, or has other records in its place")
        return known, opened.history(path, entry).newest

    # --- taking ------------------------------------------------------------------------------------------------------

    def _take(self, session: _Session, name: str) -> int:
        """Record what is new of a session, and how far it was taken, in publications that each do both."""
        fresh = [(sequence, record) for sequence, record in session.records if sequence >= session.known]
        version = session.version
        for start in range(0, len(fresh), _AT_ONCE):
            part = fresh[start : start + _AT_ONCE]
            is_last = start + _AT_ONCE >= len(fresh)
            upto = len(session.chains) if is_last else part[-1][0] + 1
            self._publish(session, part, upto, version, name)
            version += 1
        return len(fresh)

    def _publish(
        self, session: _Session, part: Sequence[tuple[int, Record]], upto: int, version: int, name: str
    ) -> None:
        opened = self._opened
        note = {"v": _VERSION, "next": upto, "chain": b64encode(session.chains[upto - 1]).decode()}
        encoded = json.dumps(note, separators=(",", ":")).encode()
        content = Content(KIND_TEXT, len(encoded), lambda: (encoded,))
        new = NewVersion(self._authority.identity.principal, opened.clock.now_ns(), expect=version)
        current, decision = self._authority.require("audit.read", "")
        obj: dict[str, object] = {"bundle": session.reader.start.bundle, "count": len(part)}
        obj |= {"file": name} if name else {}

        def plan(publication: Publication) -> Plan:
            plan = Drafts(opened, publication).write(session.note_path, content, new)
            merged = current.record(Event.BUNDLE_MERGED, obj, decision=decision)
            plan.records = [merged, *(self._told(session, record, merged) for _, record in part)]
            return plan

        try:
            self._authority.publish(plan)
        except Conflict:
            message = "somebody else merges the same records right now"
            raise Conflict(message, hint="merge the file again; what was taken is not taken twice") from None

    def _told(self, session: _Session, record: Record, merged: Record) -> Record:
        """Return a reader's record as the log tells it."""
        identity = self._authority.identity
        obj = dict(record.obj) | {"bundle": session.reader.start.bundle, "at": format_time(record.time_ns)}
        obj |= {"count": record.count} if record.count is not None else {}
        host = self._opened.masker.mask("host", record.source.host) if record.source.host else ""
        who = Subject(
            session.identity.name,
            is_proved=True,
            roles=record.subject.roles,
            slot=identity.slot,
            via=identity.principal,
        )
        return Record(
            time_ns=merged.time_ns,
            event=_EVENTS[record.event],
            subject=who,
            source=Source(record.source.pid, record.source.program, host),
            obj=obj,
            policy=record.policy,
            request_id=record.request_id,
        )


def _refusal(reader: SessionReader, what: str) -> LogTampered:
    message = f"the session {reader.session_id.hex()} {what}"
    return LogTampered(message, hint="nothing of the file was taken; find out where it comes from")
