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
from securecfg.errors import (
    Conflict,
    InvalidMetadata,
    KeyProviderRefused,
    LogTampered,
    Tampered,
    Unsupported,
    UnsupportedFormat,
)
from securecfg.keys import Purpose
from securecfg.keys.identity import parse_identity_file
from securecfg.vault.bundles.notes import published_by
from securecfg.vault.bundles.sinks import read_file
from securecfg.vault.documents import parsing
from securecfg.vault.drafts import Content, Drafts, NewVersion
from securecfg.vault.paths import SYSTEM
from securecfg.vault.state.storedlog import StoredLog

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from securecfg.audit.sessions import Entry
    from securecfg.errors import SecurecfgError
    from securecfg.keys import Identity
    from securecfg.vault.authority import Authority
    from securecfg.vault.commits.publishing import Plan, Publication
    from securecfg.vault.vault import Vault

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
        sessions: How many sessions are sound.
        unfinished: How many of them have no end: they go on, their process died, or the end was cut off.
        damaged: How many lines are no entries: cut off by a crash, or damaged.
        foreign: The sessions that no audit key of this vault opens: they are another vault's, or damaged.
        refused: The sessions of which nothing was taken, in hexadecimal digits, and why.
    """

    records: int
    known: int
    sessions: int
    unfinished: int
    damaged: int
    foreign: frozenset[bytes]
    refused: tuple[tuple[str, SecurecfgError], ...]


def merge_into_parts(vault: Vault, path: str | os.PathLike[str], name: str = "") -> Merged:
    """Take what is new in a file of records into the logs of a vault and of its sealed scopes, each into its own.

    Args:
        vault: As the key at hand opens it.
        path: The file.
        name: What the logs call it; empty leaves that out.

    Raises:
        ScopeSealed: There are records of a scope that the key at hand does not write, or may only read.
        As for `Merging.merge`.
    """
    found = [Merging(part.authority).merge(path, name) for _, part in vault.parts()]
    return Merged(
        sum(each.records for each in found),
        sum(each.known for each in found),
        sum(each.sessions for each in found),
        sum(each.unfinished for each in found),
        found[0].damaged,
        frozenset.intersection(*(each.foreign for each in found)),
        tuple(refused for each in found for refused in each.refused),
    )


class _Publication(NamedTuple):
    """A bundle as the vault knows it."""

    role: str
    policy: str
    versions: frozenset[tuple[str, int]]


class _ForeignSession(Exception):
    """No audit key of the vault opens the session."""


class _Session(NamedTuple):
    """A session that was verified as a whole.

    Attributes:
        reader: What read it.
        identity: Whose it is.
        records: All its records as the log tells them, with their sequence numbers.
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
        self._publications: dict[str, _Publication] = {}

    def merge(self, path: str | os.PathLike[str], name: str = "") -> Merged:
        """Take what is new in a file of records into the log. A session is verified as a whole before any is taken.

        Args:
            path: The file.
            name: What the log calls it; empty leaves that out.

        Raises:
            AccessDenied: The caller may not `audit.read`.
            AuditUnavailable: The log cannot be written.
            Conflict: Somebody else merges the same records right now.
            FileMissing, ValueTooLarge, StoreFailed: The file cannot be read.
            Unsupported: The vault is open for reading only.
        """
        self._authority.require("audit.read", "")
        if self._opened.options.read_only:
            message = "the vault is open for reading only"
            raise Unsupported(message, hint="open it for writing")
        entries, damaged = read_file(path)
        self._opened.refresh()
        sessions, refused, foreign = [], [], set()
        for session_id, each in sessions_of(entries).items():
            try:
                sessions.append(self._verify(each))
            except _ForeignSession:
                foreign.add(session_id)
            except (LogTampered, UnsupportedFormat) as error:
                refused.append((session_id.hex(), error))
        taken = sum(self._take(session, name) for session in sessions)
        known = sum(sequence < session.known for session in sessions for sequence, _ in session.records)
        unfinished = sum(not session.reader.has_ended for session in sessions)
        return Merged(taken, known, len(sessions), unfinished, damaged, frozenset(foreign), tuple(refused))

    # --- verifying ---------------------------------------------------------------------------------------------------

    def _verify(self, entries: Sequence[Entry]) -> _Session:
        """Return a session whose every record can be taken.

        Raises:
            LogTampered: An entry was altered or is missing, or is not by a reader of a bundle of this vault.
            UnsupportedFormat: A later version of this library wrote it.
            _ForeignSession: It is not of this vault.
        """
        replica = self._opened.replica
        reader = SessionReader(entries[0], self._open_row, replica.vault_id)
        identity, publication = self._reader_of(reader)
        reader.verify_start(identity.verifier)
        records, chains = [], [reader.chain]
        for entry in entries[1:]:
            record = reader.add(entry)
            if record is not None:
                records.append((entry.sequence, self._told(reader, identity, publication, record)))
            chains.append(reader.chain)
        note_path = _NOTES + reader.session_id.hex().encode()
        known, version = self._known(note_path, reader, chains)
        return _Session(reader, identity, records, chains, note_path, known, version)

    def _open_row(self, row: bytes) -> bytes:
        """Return the key of a sealer, which any audit key of the vault may open.

        Raises:
            _ForeignSession: None does.
        """
        replica = self._opened.replica
        for key in replica.keyring.all(Purpose.AUDIT):
            try:
                return open_sealer(row, key, replica.vault_id)
            except Tampered:
                continue
        raise _ForeignSession

    def _reader_of(self, reader: SessionReader) -> tuple[Identity, _Publication]:
        """Return the identity that a session names, and the bundle, once the log says that it was published for it.

        Raises:
            LogTampered: It was not.
        """
        start = reader.start
        try:
            identity = parse_identity_file(f"{start.identity}\n".encode()).identity
        except (KeyProviderRefused, ValueError):
            raise _refusal(reader, "names no identity") from None
        opened = self._opened
        with opened.replica.lock:
            log = StoredLog(opened.store, opened.replica.header, opened.replica.keyring, opened.mark().note)
        if 0 <= start.bundle < log.checkpoint.size:
            record = log.opener.open_row(log.tree.leaf(start.bundle), start.bundle)
            recipient = f"{identity.name}:{identity.fingerprint.hex()}"
            if (
                record.event is Event.BUNDLE_PUBLISHED
                and record.obj["digest"] == start.digest
                and recipient in record.obj["recipients"]
            ):
                publication = self._publication(start.digest)
                if publication is not None and publication.role == record.obj["role"]:
                    return identity, publication
        raise _refusal(reader, "is of a bundle that this vault did not publish for its reader")

    def _publication(self, digest: str) -> _Publication | None:
        """Return what the vault's note of a bundle says, or None where there is none."""
        if digest not in self._publications:
            opened = self._opened
            for noted in published_by(opened):
                places = frozenset((path, number) for path, number, _, _ in noted.versions)
                self._publications.setdefault(noted.digest, _Publication(noted.role, noted.policy, places))
        return self._publications.get(digest)

    def _told(self, reader: SessionReader, identity: Identity, publication: _Publication, record: Record) -> Record:
        """Return a reader's record as the log tells it. Its time is that of the publication which takes it.

        Raises:
            LogTampered: No reader of the bundle makes such a record.
        """
        place = record.obj.get("path"), record.obj.get("ver")
        is_read = _EVENTS.get(record.event) is Event.BUNDLE_READ
        if (
            record.event not in _EVENTS
            or record.subject.id != identity.name
            or not record.request_id
            or (is_read and place not in publication.versions)
        ):
            raise _refusal(reader, "holds a record that no reader of a bundle makes")
        own = self._authority.identity
        who = Subject(
            identity.name, is_proved=True, roles=(f"role:{publication.role}",), slot=own.slot, via=own.principal
        )
        try:
            obj = dict(record.obj) | {"bundle": reader.start.bundle, "at": format_time(record.time_ns)}
            obj |= {"count": record.count} if record.count is not None else {}
            host = self._opened.masker.mask("host", record.source.host) if record.source.host else ""
            told = Record(
                time_ns=self._opened.clock.now_ns(),
                event=_EVENTS[record.event],
                subject=who,
                source=Source(record.source.pid, record.source.program, host),
                obj=obj,
                policy=publication.policy,
                request_id=record.request_id,
            )
            told.to_bytes()
        except (InvalidMetadata, ValueError, OverflowError):
            raise _refusal(reader, "holds a record that the log cannot take") from None
        return told

    def _known(self, path: bytes, reader: SessionReader, chains: Sequence[bytes]) -> tuple[int, int]:
        """Return how many entries of a session were taken before, and the version of the note of it."""
        opened = self._opened
        entry = opened.replica.index.get(path)
        if entry is None:
            return 0, 0
        note: dict[str, str] = opened.system_document(path, {})
        with parsing(opened, path):
            known, chain = int(note["next"]), b64decode(note["chain"])
        if not 0 < known <= len(chains) or chains[known - 1] != chain:
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
        content = Content.of(KIND_TEXT, encoded)
        new = NewVersion(self._authority.identity.principal, opened.clock.now_ns(), expect=version)
        current, decision = self._authority.require("audit.read", "")
        obj: dict[str, object] = {"bundle": session.reader.start.bundle, "count": len(part)}
        obj |= {"file": name} if name else {}

        def plan(publication: Publication) -> Plan:
            plan = Drafts(opened, publication).write(session.note_path, content, new)
            merged = current.record(Event.BUNDLE_MERGED, obj, decision=decision)
            plan.records = [merged, *(_at(record, merged.time_ns) for _, record in part)]
            return plan

        try:
            self._authority.publish(plan)
        except Conflict:
            message = "somebody else merges the same records right now"
            raise Conflict(message, hint="merge the file again; what was taken is not taken twice") from None


def _at(record: Record, time_ns: int) -> Record:
    return Record(
        time_ns=time_ns,
        event=record.event,
        subject=record.subject,
        source=record.source,
        obj=record.obj,
        policy=record.policy,
        request_id=record.request_id,
    )


def _refusal(reader: SessionReader, what: str) -> LogTampered:
    message = f"the session {reader.session_id.hex()} {what}"
    return LogTampered(message, hint="nothing of the session was taken; find out where it comes from")
