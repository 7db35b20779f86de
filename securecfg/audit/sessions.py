"""Sessions: records that are made where the log cannot be written, to be merged into it later (bundles.md, section 5).

A session has a sealer of its own, whose records only holders of the vault's audit key can read. Its entries are
chained, and each is signed by the identity that reads.
"""

from __future__ import annotations

import json
import struct
from enum import IntEnum
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from securecfg.audit.leaf import SEALER_ID_BYTES, derive_leaf_key, open_leaf, parse_leaf
from securecfg.audit.note import verify_signature
from securecfg.audit.record import parse_record
from securecfg.audit.sealer import create_sealer, sealer_id_of
from securecfg.crypto.derive import Label
from securecfg.errors import LogTampered, SignatureInvalid
from securecfg.octets import Cursor, Malformed, var32

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from securecfg.audit.record import Record

NO_CHAIN = bytes(32)

_FRONT = struct.Struct(f">B{SEALER_ID_BYTES}sQ64s")
_LINK = struct.Struct(f">B{SEALER_ID_BYTES}sQ")


class EntryKind(IntEnum):
    """What an entry is."""

    START = 1
    RECORD = 2
    END = 3


class Entry(NamedTuple):
    """One entry of a session.

    Attributes:
        kind: What it is.
        session_id: 16 bytes.
        sequence: Its place in the session, from 0.
        signature: By the identity's signing key, 64 bytes.
        content: Of the start the sealer row and a leaf, of a record a leaf, of the end nothing.
    """

    kind: EntryKind
    session_id: bytes
    sequence: int
    signature: bytes
    content: bytes

    @classmethod
    def parse(cls, raw: bytes) -> Entry:
        """Return the entry in some bytes.

        Raises:
            Malformed: There is none.
        """
        cursor = Cursor(raw)
        kind, session_id, sequence, signature = _FRONT.unpack(cursor.take(_FRONT.size))
        content = cursor.var32()
        cursor.finish()
        if kind not in _KINDS or (kind == EntryKind.START) != (sequence == 0):
            raise Malformed
        return cls(EntryKind(kind), session_id, sequence, signature, content)

    def to_bytes(self) -> bytes:
        """Return the bytes of the entry."""
        return _FRONT.pack(*self[:4]) + var32(self.content)

    def link(self, chain: bytes) -> bytes:
        """Return the hash of the session up to this entry, given that up to the one before."""
        told = _LINK.pack(self.kind, self.session_id, self.sequence) + self.content
        return sha256(Label.SINK.encode() + b"\x00" + chain + told).digest()


_KINDS = frozenset(EntryKind)


class Start(NamedTuple):
    """What a session says of itself.

    Attributes:
        bundle: The serial number of the bundle that is read.
        digest: The SHA-256 of its body, in hexadecimal digits.
        identity: The public line of the reader's identity.
    """

    bundle: int
    digest: str
    identity: str

    def to_bytes(self) -> bytes:
        """Return its one encoding."""
        return json.dumps(self._asdict() | {"v": 1}, sort_keys=True, separators=(",", ":")).encode()


class SessionWriter:
    """Makes the entries of one session. Not synchronised.

    Args:
        vault_id: 16 bytes.
        audit_key: The public half of the vault's audit key.
        sign: Signs for the identity that reads.
    """

    def __init__(self, vault_id: bytes, audit_key: bytes, sign: Callable[[bytes], bytes]) -> None:
        """Make a sealer."""
        self._sealer = create_sealer(vault_id, audit_key)
        self._sign = sign
        self._sequence = 0
        self._chain = NO_CHAIN

    def start(self, start: Start) -> bytes:
        """Return the first entry."""
        return self._entry(EntryKind.START, var32(self._sealer.row) + self._sealer.seal(start.to_bytes(), 0))

    def record(self, record: Record) -> bytes:
        """Return the entry of a record.

        Raises:
            InvalidMetadata: The record is longer than a leaf can hold.
        """
        return self._entry(EntryKind.RECORD, self._sealer.seal(record.to_bytes(), self._sequence))

    def end(self) -> bytes:
        """Return the last entry."""
        entry = self._entry(EntryKind.END, b"")
        self._sealer.wipe()
        return entry

    def _entry(self, kind: EntryKind, content: bytes) -> bytes:
        entry = Entry(kind, self._sealer.id, self._sequence, bytes(64), content)
        self._chain = entry.link(self._chain)
        self._sequence += 1
        return entry._replace(signature=self._sign(_signed(self._chain))).to_bytes()


class SessionReader:
    """Verifies and opens the entries of one session, in their order.

    Args:
        first: Its start.
        open_row: Returns the key of the sealer in a row.
        vault_id: 16 bytes.

    Raises:
        LogTampered: It is not the start of a session of this vault.
    """

    def __init__(self, first: Entry, open_row: Callable[[bytes], bytes], vault_id: bytes) -> None:
        """Open the sealer."""
        self.session_id = first.session_id
        self.sequence = 0
        self.chain = NO_CHAIN
        self.has_ended = False
        self._vault_id = vault_id
        cursor = Cursor(first.content)
        try:
            row = cursor.var32()
            leaf = cursor.data[cursor.position :]
        except Malformed:
            raise _tampered(first) from None
        if first.kind is not EntryKind.START or sealer_id_of(row) != first.session_id:
            raise _tampered(first)
        self._key = open_row(row)
        self.start = self._parse_start(self._open(leaf, first), first)
        self._first = first

    def verify_start(self, public_key: bytes) -> None:
        """Check that the identity that the start names signed it, and hold all further entries to that key.

        Raises:
            LogTampered: It did not.
        """
        self._public_key = public_key
        self._take(self._first)

    def add(self, entry: Entry) -> Record | None:
        """Return the record of the next entry, or None at the end.

        Raises:
            LogTampered: It is not the next one, or was altered.
            UnsupportedFormat: A later version of this library wrote it.
        """
        if self.has_ended or entry.kind is EntryKind.START:
            raise _tampered(entry)
        sequence = self.sequence
        self._take(entry)
        if entry.kind is EntryKind.END:
            self.has_ended = True
            return None
        return parse_record(self._open(entry.content, entry), sequence)

    def _take(self, entry: Entry) -> None:
        if entry.sequence != self.sequence or entry.session_id != self.session_id:
            raise _tampered(entry)
        self.chain = entry.link(self.chain)
        try:
            verify_signature(self._public_key, entry.signature, _signed(self.chain))
        except SignatureInvalid:
            raise _tampered(entry) from None
        self.sequence += 1

    def _open(self, raw: bytes, entry: Entry) -> bytes:
        leaf = parse_leaf(raw, entry.sequence)
        key = derive_leaf_key(self._key, self._vault_id, leaf.sealer_id, leaf.counter, entry.sequence)
        if leaf.sealer_id != self.session_id or leaf.delta_hashes:
            raise _tampered(entry)
        return open_leaf(leaf, key, entry.sequence)

    def _parse_start(self, raw: bytes, entry: Entry) -> Start:
        try:
            data: Mapping[str, object] = json.loads(raw)
            bundle, digest, identity = data["bundle"], data["digest"], data["identity"]
            if type(bundle) is int and isinstance(digest, str) and isinstance(identity, str):
                start = Start(bundle, digest, identity)
                if start.to_bytes() == raw:
                    return start
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
        raise _tampered(entry)


def sessions_of(entries: Sequence[Entry]) -> dict[bytes, list[Entry]]:
    """Return entries by session, each in the order in which they were written."""
    sessions: dict[bytes, list[Entry]] = {}
    for entry in entries:
        sessions.setdefault(entry.session_id, []).append(entry)
    return sessions


def _signed(chain: bytes) -> bytes:
    return Label.SINK.encode() + b"\x01" + chain


def _tampered(entry: Entry) -> LogTampered:
    message = f"entry {entry.sequence} of the session {entry.session_id.hex()} was altered, or one before it is missing"
    return LogTampered(message, hint="take the file as its reader wrote it; nothing of the session was merged")
