"""A vault opened by the text of format.md and audit-log.md alone.

Nothing of the package is imported here, and nothing here was written with its source at hand: if the package and this
decoder read the same out of a file, the pages say enough for somebody else to do it too.
"""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import tempfile
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from tests.decoder.ciphers import chunked_open, context, derive, gcm_open, padme, same, siv_open
from tests.decoder.index import (
    DELETED,
    DESTROYED,
    LIVE,
    Entry,
    History,
    Manifest,
    VersionLine,
    open_delta,
    open_manifest,
    open_newest_page,
    open_older_page,
    open_segment,
)
from tests.decoder.keys import (
    ROOT_SCOPE,
    Header,
    Key,
    Keyring,
    SlotEntry,
    open_keyring,
    open_root,
    parse_header,
    parse_roots,
    parse_slot,
    unlock,
    var32,
    verify_header,
)
from tests.decoder.octets import Octets, u8, u32, u64
from tests.decoder.records import Leaf, Record, open_leaf, open_parts, open_sealer, parse_leaf, verify_epochs
from tests.decoder.refusals import (
    AnchorRefused,
    DataKeyRefused,
    DeltasRefused,
    EpochRefused,
    HeadRefused,
    HistoryRefused,
    LeavesRefused,
    ManifestRefused,
    PartRefused,
    RecordRefused,
    SealerRefused,
    SegmentRefused,
    SnapshotRefused,
    SpacesRefused,
    ValueRefused,
    demand,
    refusing,
)
from tests.decoder.tree import (
    Checkpoint,
    Frontier,
    State,
    leaf_hash,
    parse_anchor,
    parse_checkpoint,
    parse_head,
    root_of,
    verify_note,
    verify_tiles,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

META, HISTORY, DEK, VALUE, SEGMENT, DELTA, LOG, TILE, GRANT, SEALER, PART = range(11)
ALLOCATED = (HISTORY, DEK, VALUE, SEGMENT)
BY_DIGEST = (DELTA, SEALER, PART)
ROW_LIMIT = 512 * 1024
INLINE_LIMIT = 65_536
ROOTS_ID = 255
SLOT_IDS = range(256, 512)

Content = bytes | str | dict[str, bytes | str]


@dataclass(frozen=True, slots=True)
class Version:
    """A version with its content; a destroyed one has none."""

    number: int
    state: str
    kind: str
    content: Content | None
    size_bytes: int
    created: int
    expires: int
    deleted: int
    author: str
    content_type: str
    metadata: dict[str, str]


@dataclass(frozen=True, slots=True)
class Secret:
    """A path with all its versions, oldest first."""

    path: str
    rec_id: int
    newest: int
    current: int
    previous: int
    pending: int
    labels: dict[str, int]
    versions: dict[int, Version]


@dataclass(frozen=True, slots=True)
class Contents:
    """All that a vault holds."""

    vault_id: bytes
    created: int
    generation: int
    opened_slot: bytes
    slots: tuple[SlotEntry, ...]
    state: State
    checkpoint: Checkpoint
    epoch_keys: list[bytes]
    secrets: dict[str, Secret]
    documents: dict[str, Secret]
    records: list[Record]
    batches: dict[int, list[tuple[str, int]]]
    unreferenced: set[tuple[int, int]]


def decode(path: Path, key: Key, *, anchor: Path | None = None) -> Contents:
    """Open a vault, check everything in it, and return what it holds.

    The file is copied first, and may be in use.

    Raises:
        Refused: The class names the step that failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        # In a process of its own: SQLite's locks belong to a process, which loses them when it closes the file.
        is_in_use = path.with_name(path.name + "-wal").exists()
        command = [sys.executable, "-c", _SNAPSHOT] if is_in_use else ["cp", "--"]
        subprocess.run([*command, path, copy], check=True)
        rows = read_rows(copy)
    return decode_rows(rows, key, anchor=anchor.read_bytes() if anchor else b"")


_SNAPSHOT = """
import sqlite3, sys
source = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)
copy = sqlite3.connect(sys.argv[2])
source.backup(copy)
copy.close()
source.close()
"""

Rows = dict[int, dict[int, bytes]]
HEAD = -1


def read_rows(path: Path) -> Rows:
    """Read every row of a SQLite store; the head row is in a space of its own: section 2."""
    statements = {f"CREATE TABLE s{space}(i INTEGER PRIMARY KEY, b BLOB NOT NULL)" for space in range(11)}
    statements.add("CREATE TABLE h(i INTEGER PRIMARY KEY, b BLOB NOT NULL)")
    tables = {HEAD: "h"} | {space: f"s{space}" for space in range(11)}
    try:
        with closing(sqlite3.connect(path)) as database, refusing(SnapshotRefused, "SQLite"):
            demand(database.execute("PRAGMA application_id").fetchone() == (0x53434647,), "another application id")
            schema = {sql for (sql,) in database.execute("SELECT sql FROM sqlite_schema")}
            demand(schema == statements, "another schema")
            rows = {space: dict(database.execute(f"SELECT i, b FROM {name}")) for space, name in tables.items()}  # noqa: S608 - names from this function
            for name, space in rows.items():
                demand(all(type(row) is bytes for row in space.values()), f"a row of {name} that is no blob")
                demand(all(type(number) is int and number >= 0 for number in space), f"an id of {name} below 0")
                demand(all(len(row) <= ROW_LIMIT for row in space.values()), f"a row of {name} over 512 KiB")
            return rows
    except sqlite3.Error as error:
        raise SnapshotRefused(str(error)) from error


def decode_rows(rows: Rows, key: Key, *, anchor: bytes = b"") -> Contents:
    """Open a vault whose rows were read in one snapshot."""
    opened = _open(rows, key, anchor)
    reading = Reading(opened)
    secrets, documents = reading.secrets()
    records, batches = reading.records()
    return Contents(
        opened.header.vault_id,
        opened.header.created,
        opened.header.generation,
        opened.slot_id,
        opened.keyring.slots,
        opened.state,
        opened.checkpoint,
        reading.epoch_keys,
        secrets,
        documents,
        records,
        batches,
        reading.unreferenced(),
    )


@dataclass(frozen=True, slots=True)
class Opened:
    """What section 8 yields."""

    rows: Rows
    header: Header
    slot_id: bytes
    keyring: Keyring
    state: State
    checkpoint: Checkpoint
    text: str
    note: bytes
    manifest: Manifest
    leaves: list[Leaf]
    overlay: dict[bytes, Entry | None]
    freed: list[tuple[int, int, int]]


def _open(rows: Rows, key: Key, anchor: bytes) -> Opened:
    """Open a vault in the order of section 8."""
    # 1. Head, header, slots and keyring.
    meta = rows[META]
    with refusing(SnapshotRefused):
        demand(set(rows[HEAD]) == {1}, "not one head")
        demand(1 in meta, "the header is missing")
        demand(ROOTS_ID in meta, "the sealed roots are missing")
        demand(set(meta) - {1, 2, 3, ROOTS_ID} <= set(SLOT_IDS), "a META row that no page knows")
        roots = parse_roots(meta[ROOTS_ID])
        slots = {number: row for number, row in meta.items() if number in roots}
    header = parse_header(meta[1])
    parsed = [parse_slot(row) for _, row in sorted(slots.items())]

    # 2. The slot and its key.
    slot_id, slot_key = unlock(header, parsed, key)

    # 3. The root, the header's MAC and the keyring.
    root = open_root(header, slot_id, slot_key, roots.values())
    verify_header(header, slots, meta[ROOTS_ID], root)
    keyring = open_keyring(header, meta.get(2, b""), root, slots)

    # 4. The head: epoch, signature, origin, state; header and keyring.
    with refusing(HeadRefused):
        note, state, encoded = parse_head(rows[HEAD][1])
        demand(keyring.signing_key() == (state.log_epoch, state.public_key), "the epoch's key is not the keyring's")
        origin = f"securecfg/{header.vault_id.hex()}"
        text = verify_note(note, origin, state.public_key)
        checkpoint = parse_checkpoint(text)
        demand(checkpoint.origin == origin, "another origin")
        demand(same(sha256(b"securecfg/1/state\0" + encoded).digest(), checkpoint.state_hash), "another state")
        covered = header.row + b"".join(map(var32, [meta[ROOTS_ID], *(row for _, row in sorted(slots.items()))]))
        demand(same(sha256(b"securecfg/1/header\0" + covered).digest(), state.header_digest), "another header")
        demand(same(sha256(meta[2]).digest(), state.keyring_digest), "another keyring")
        demand(state.log_epoch > 0 or state.public_key == header.first_public_key, "another key of epoch 0")

    # 5. The manifest.
    with refusing(ManifestRefused):
        demand(3 in meta, "the manifest is missing")
        demand(same(sha256(meta[3]).digest(), state.manifest_digest), "another manifest")
        manifest = open_manifest(keyring, meta[3])
        demand(manifest.base_size == state.base_size, f"base {manifest.base_size}, in the state {state.base_size}")

    # 6. The newest leaves, and their deltas in order.
    with refusing(LeavesRefused):
        demand(manifest.base_size <= checkpoint.size, "a base beyond the log")
        demand(set(rows[LOG]) == set(range(checkpoint.size)), "other leaves than the checkpoint counts")
        frontier = Frontier(manifest.base_size, manifest.peaks)
        for index in range(manifest.base_size, checkpoint.size):
            frontier.append(leaf_hash(rows[LOG][index]))
        demand(same(frontier.root(), checkpoint.root), "another root")
        leaves = [parse_leaf(index, rows[LOG][index]) for index in range(checkpoint.size)]
    overlay: dict[bytes, Entry | None] = {}
    freed: list[tuple[int, int, int]] = []
    for leaf in leaves[manifest.base_size :]:
        for digest in leaf.deltas:
            with refusing(DeltasRefused, f"record {leaf.index}"):
                delta = open_delta(keyring, by_digest(rows, DELTA, digest))
            overlay |= dict(delta.changes)
            freed += delta.freed

    # 7. The anchor.
    with refusing(AnchorRefused):
        for _, size, old_root, _, _ in parse_anchor(anchor)[:1]:
            demand(size <= checkpoint.size, f"the anchor knows {size} records, the vault has {checkpoint.size}")
            known = root_of([leaf_hash(rows[LOG][index]) for index in range(size)])
            demand(same(known, old_root), "another history than the anchor's")
    return Opened(
        rows, header, slot_id, keyring, state, checkpoint, text, note, manifest, leaves, overlay, freed
    )  # fmt: skip


def by_digest(rows: Rows, space: int, digest: bytes) -> bytes:
    """Find a row whose id comes from its own hash, and compare the hash: section 2."""
    row = rows[space].get(int.from_bytes(digest[:8], "big") >> 1)
    demand(row is not None, "a row is missing")
    assert row is not None
    demand(same(sha256(row).digest(), digest), "a row with another hash")
    return row


@dataclass(slots=True)
class Reading:
    """The rest of a vault: values, the whole log, and what nothing refers to."""

    opened: Opened
    epoch_keys: list[bytes] = field(default_factory=list)
    used: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))

    def secrets(self) -> tuple[dict[str, Secret], dict[str, Secret]]:
        """Read all secrets and system documents: section 9."""
        secrets: dict[str, Secret] = {}
        documents: dict[str, Secret] = {}
        rec_ids: set[int] = set()
        for path, entry in sorted(self._entries().items()):
            with refusing(HistoryRefused, "entries"):
                demand(entry.rec_id not in rec_ids, "two secrets with one rec_id")
                rec_ids.add(entry.rec_id)
            system = path[:1] == b"\1"
            secret = self._secret(path, entry)
            (documents if system else secrets)[secret.path] = secret
        return secrets, documents

    def _entries(self) -> dict[bytes, Entry]:
        """Merge the segments with the newest changes: section 6."""
        entries: dict[bytes, Entry] = {}
        last = b""
        for line in self.opened.manifest.segments:
            with refusing(SegmentRefused, f"segment {line.segment_id}"):
                row = self._row(SEGMENT, line.segment_id)
                demand(same(sha256(row).digest(), line.digest), "another hash")
                segment = open_segment(self.opened.keyring, line.segment_id, row)
                demand(len(segment) == line.entries, "another number of entries")
                demand(min(segment) == line.first_path, "another first path")
                demand(not entries or last < min(segment), "segments that overlap")
                entries |= segment
                last = max(segment)
        for path, entry in self.opened.overlay.items():
            if entry is None:
                entries.pop(path, None)
            else:
                entries[path] = entry
        return entries

    def _row(self, space: int, number: int) -> bytes:
        demand(number in self.opened.rows[space], f"row {number} of space {space} is missing")
        demand(number not in self.used[space], f"row {number} of space {space} is used twice")
        demand(number < self.opened.state.next_id, f"row {number} of space {space} was never allocated")
        self.used[space].add(number)
        return self.opened.rows[space][number]

    def _secret(self, path: bytes, entry: Entry) -> Secret:
        history = self._history(path, entry)
        versions = {line.number: self._version(entry.rec_id, line) for line in reversed(history.versions)}
        with refusing(HistoryRefused, f"record {entry.rec_id}"):
            demand(bool(history.current) == bool(entry.flags & 1), "flags of the entry that do not fit the history")
            demand(list(versions) == list(range(1, history.newest + 1)), "versions with a gap")
            live = {line.number for line in history.versions if line.state == LIVE}
            deleted = {line.number for line in history.versions if line.state == DELETED}
            marks = {history.current, history.previous, history.pending} - {0}
            demand(marks <= live, "a mark of a version that is not live")
            demand(set(history.labels.values()) <= live | deleted, "a label of a version that is not there")
        return Secret(
            path.decode(),
            entry.rec_id,
            *(history.newest, history.current, history.previous, history.pending),
            history.labels,
            versions,
        )

    def _history(self, path: bytes, entry: Entry) -> History:
        """Read all pages of a history: section 6.3."""
        keyring = self.opened.keyring
        with refusing(HistoryRefused, f"record {entry.rec_id}"):
            row = self._row(HISTORY, entry.history_id)
            demand(same(sha256(row).digest(), entry.history_digest), "another hash")
            history = open_newest_page(keyring, entry.rec_id, row)
            demand(history.path == path, "the history of another path")
            for page, line in reversed(list(enumerate(history.older))):
                row = self._row(HISTORY, line.history_id)
                demand(same(sha256(row).digest(), line.digest), f"another hash of page {page}")
                history.versions.extend(open_older_page(keyring, entry.rec_id, page, line, row))
        return history

    def _version(self, rec_id: int, line: VersionLine) -> Version:
        name = f"version {line.number} of record {rec_id}"
        content: Content | None = None
        if line.state != DESTROYED:
            with refusing(DataKeyRefused, name):
                dek = self._data_key(line.dek_id)
            with refusing(ValueRefused, name):
                content = self._content(rec_id, line, dek)
        return Version(
            line.number,
            {1: "live", 2: "deleted", 3: "destroyed"}[line.state],
            {0: "bytes", 1: "text", 2: "fields"}[line.kind],
            content,
            *(line.length, line.created, line.expires, line.deleted, line.author, line.content_type, line.metadata),
        )

    def _data_key(self, dek_id: int) -> bytes:
        """Unwrap a data key: section 5.1."""
        keyring = self.opened.keyring
        octets = Octets(self._row(DEK, dek_id))
        demand(octets.u8() == 1, "another form of data key")
        demand(octets.u8() == 1, "another suite")
        epoch, sealed = octets.u32(), octets.take(48)
        octets.end()
        aad = context(0x16, keyring.vault_id, ROOT_SCOPE, epoch, u64(dek_id))
        return siv_open(keyring.scope_key("securecfg/1/val", epoch, 64), sealed, aad)

    def _content(self, rec_id: int, line: VersionLine, dek: bytes) -> Content:
        """Open a value: section 5.2, with the comparisons of section 9 before anything is decrypted."""
        row = self._row(VALUE, line.value_id)
        octets = Octets(row)
        octets.start(0x56)
        form, flags, commitment = octets.u8(), octets.u8(), octets.take(32)
        demand(form in {1, 2} and flags == 0, f"form {form}, flags {flags}")
        place = u64(rec_id) + u32(line.number) + u64(line.created) + u8(form)
        info = context(0x17, self.opened.header.vault_id, ROOT_SCOPE, 0, place)
        material = derive(dek, "securecfg/1/dek", info, 64)
        demand(same(commitment, line.commitment), "another commitment than in the history")
        demand(same(commitment, material[32:]), "another commitment than the data key gives")
        if form == 1:
            demand(line.value_rows == 0 and line.length <= INLINE_LIMIT, "an inline value that should be chunked")
            plain: Iterator[bytes] = iter([gcm_open(material[:32], octets.rest(), row[:36])])
        else:
            octets.end()
            demand(line.length > INLINE_LIMIT, "a chunked value that should be inline")
            numbers = range(line.value_id + 1, line.value_id + 1 + line.value_rows)
            plain = chunked_open(material[:32], (self._row(VALUE, number) for number in numbers), info)
        return _parse_content(line, _unpadded(line, plain))

    def records(self) -> tuple[list[Record], dict[int, list[tuple[str, int]]]]:
        """Open the whole log: audit-log.md."""
        opened = self.opened
        with refusing(LeavesRefused):
            hashes = [leaf_hash(opened.rows[LOG][leaf.index]) for leaf in opened.leaves]
            demand(same(root_of(hashes), opened.checkpoint.root), "another root over all leaves")
            older = root_of(hashes[: opened.manifest.base_size])
            peaks = Frontier(opened.manifest.base_size, opened.manifest.peaks)
            demand(same(peaks.root(), older), "peaks that the leaves do not give")
        verify_tiles(hashes, opened.rows[TILE])
        sealers = self._sealers()
        records: list[Record] = []
        batches: dict[int, list[tuple[str, int]]] = {}
        counters: set[tuple[bytes, int]] = set()
        for leaf in opened.leaves:
            with refusing(RecordRefused, f"record {leaf.index}"):
                demand((leaf.sealer_id, leaf.counter) not in counters, "a counter that was used before")
                counters.add((leaf.sealer_id, leaf.counter))
                demand(leaf.sealer_id in sealers, "its sealer is missing")
                records.append(open_leaf(leaf, sealers[leaf.sealer_id], opened.header.vault_id))
                items = open_parts(records[-1], self._part)
                if items is not None:
                    batches[leaf.index] = items
        self._verify_signer(records)
        return records, batches

    def _sealers(self) -> dict[bytes, bytes]:
        """Open the sealers that leaves name; their ids come from their own hashes."""
        sealers: dict[bytes, bytes] = {}
        for number, row in self.opened.rows[SEALER].items():
            digest = sha256(row).digest()
            with refusing(SealerRefused, f"row {number}"):
                demand(number == int.from_bytes(digest[:8], "big") >> 1, "an id that is not that of its row")
            vault_id = self.opened.header.vault_id
            sealers[digest[:16]] = open_sealer(row, vault_id, self.opened.keyring.audit_keys())
        return sealers

    def _part(self, digest: bytes) -> bytes:
        with refusing(PartRefused):
            row = by_digest(self.opened.rows, PART, digest)
        self.used[PART].add(int.from_bytes(digest[:8], "big") >> 1)
        return row

    def _verify_signer(self, records: list[Record]) -> None:
        """Follow the hand-overs up to the key that signed the head: audit-log.md section 7."""
        opened = self.opened
        name = opened.checkpoint.origin
        self.epoch_keys = verify_epochs(records, name, opened.header.first_public_key)
        with refusing(EpochRefused, "head"):
            epoch, last = len(self.epoch_keys) - 1, records[-1]["ev"] == "audit.epoch"
            before = {(epoch - 1, self.epoch_keys[epoch - 1])} if last else set()
            signer = (opened.state.log_epoch, opened.state.public_key)
            demand(signer in {(epoch, self.epoch_keys[epoch])} | before, "signed by the key of another epoch")

    def unreferenced(self) -> set[tuple[int, int]]:
        """List the rows that nothing refers to, that no delta has freed, and that no staging reserves."""
        opened = self.opened
        used = self.used
        for leaf in opened.leaves:
            used[SEALER].add(int.from_bytes(leaf.sealer_id[:8], "big") >> 1)
            used[DELTA] |= {int.from_bytes(digest[:8], "big") >> 1 for digest in leaf.deltas}
        for space, first, count in opened.freed:
            used[space] |= set(range(first, first + count))
        for staging in opened.state.stagings:
            for space in ALLOCATED:
                used[space] |= set(range(staging.first, staging.last + 1))
        with refusing(SpacesRefused):
            for space in BY_DIGEST:
                for number, row in opened.rows[space].items():
                    expected = int.from_bytes(sha256(row).digest()[:8], "big") >> 1
                    demand(number == expected, f"row {number} of space {space} has an id that is not its own")
        return {
            (space, number) for space in (*ALLOCATED, *BY_DIGEST) for number in set(opened.rows[space]) - used[space]
        }


def _unpadded(line: VersionLine, pieces: Iterator[bytes]) -> bytes:
    """Take the content out of `length ‖ kind ‖ content ‖ padding`, piece by piece, and check the padding."""
    head, content, total = b"", bytearray(), 0
    whole = max(64, padme(9 + line.length))
    for piece in pieces:
        total += len(piece)
        demand(total <= whole, f"more than {whole} bytes")
        missing = 9 - len(head)
        head += piece[:missing]
        rest = piece[missing:]
        wanted = line.length - len(content)
        content += rest[:wanted]
        demand(not any(rest[wanted:]), "padding that is not zero")
    demand(total == whole, f"padded to {total} bytes instead of {whole}")
    octets = Octets(head)
    demand(octets.u64() == line.length, "another length than in the history")
    demand(octets.u8() == line.kind, "another kind than in the history")
    return bytes(content)


def _parse_content(line: VersionLine, content: bytes) -> Content:
    if line.kind == 0:
        return content
    if line.kind == 1:
        return content.decode()
    octets = Octets(content)
    fields: dict[str, bytes | str] = {}
    names: list[bytes] = []
    for _ in range(octets.u16()):
        name, kind, value = octets.str8(), octets.u8(), octets.var32()
        demand(kind in {0, 1}, f"kind {kind} of a field")
        names.append(name.encode())
        fields[name] = value.decode() if kind else value
    octets.end()
    demand(all(names) and names == sorted(set(names)), "names of fields that are empty or do not ascend")
    demand(len(names) <= 1_000, "more than 1,000 fields")
    return fields
