"""The manifest, segments, deltas and history pages: format.md section 6."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from tests.decoder.octets import Octets, u32, u64
from tests.decoder.refusals import demand

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.decoder.keys import Keyring

INDEX_LABEL = "securecfg/1/idx"
LOG_LABEL = "securecfg/1/log"
NEWEST_PAGE = 2**32 - 1
SET, REMOVE = 1, 2
LIVE, DELETED, DESTROYED = 1, 2, 3


@dataclass(frozen=True, slots=True)
class Entry:
    """What the index knows of a secret."""

    rec_id: int
    history_id: int
    history_digest: bytes
    flags: int


def _entry(octets: Octets) -> Entry:
    entry = Entry(octets.u64(), octets.u64(), octets.take(32), octets.u8())
    demand(entry.flags in {0, 1}, f"flags {entry.flags} of an entry")
    return entry


def _paths(octets: Octets, ends: Sequence[int]) -> list[bytes]:
    block = octets.take(ends[-1] if ends else 0)
    demand(list(ends) == sorted(ends), "offsets of paths that do not ascend")
    paths = [block[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    demand(all(one < other for one, other in pairwise(paths)), "paths that do not ascend")
    return paths


@dataclass(frozen=True, slots=True)
class SegmentLine:
    """What the manifest says of a segment."""

    segment_id: int
    digest: bytes
    entries: int
    first_path: bytes


@dataclass(frozen=True, slots=True)
class Manifest:
    """The state of the index after the first `base_size` records."""

    base_size: int
    peaks: tuple[bytes, ...]
    entries: int
    segments: tuple[SegmentLine, ...]


def open_manifest(keyring: Keyring, row: bytes) -> Manifest:
    """Open the manifest: section 6.2."""
    octets = Octets(row)
    octets.start(0x4D)
    epoch, base_size = octets.u32(), octets.u64()
    plain = Octets(keyring.open_box(INDEX_LABEL, 0x12, epoch, u64(base_size), octets.rest()))
    peaks = tuple(plain.take(32) for _ in range(plain.u8()))
    entries = plain.u64()
    lines = [(plain.u64(), plain.take(32), plain.u32()) for _ in range(plain.u32())]
    first = _paths(plain, [plain.u32() for _ in lines])
    plain.padding(512)
    segments = tuple(SegmentLine(*line, path) for line, path in zip(lines, first, strict=True))
    demand(entries == sum(segment.entries for segment in segments), "another number of entries than in the segments")
    return Manifest(base_size, peaks, entries, segments)


def open_segment(keyring: Keyring, segment_id: int, row: bytes) -> dict[bytes, Entry]:
    """Open a segment: section 6.1."""
    octets = Octets(row)
    octets.start(0x47)
    plain = Octets(keyring.open_box(INDEX_LABEL, 0x13, octets.u32(), u64(segment_id), octets.rest()))
    count = plain.u32()
    demand(0 < count <= 1_024, f"{count} entries")
    ends = [plain.u32() for _ in range(count)]
    entries = [_entry(plain) for _ in range(count)]
    paths = _paths(plain, ends)
    plain.padding(4_096)
    return dict(zip(paths, entries, strict=True))


@dataclass(frozen=True, slots=True)
class Delta:
    """The newest changes: paths with their new entry, or with none."""

    changes: tuple[tuple[bytes, Entry | None], ...]
    freed: tuple[tuple[int, int, int], ...]


def open_delta(keyring: Keyring, row: bytes) -> Delta:
    """Open a delta: section 6.4."""
    octets = Octets(row)
    octets.start(0x44)
    plain = Octets(keyring.open_box(LOG_LABEL, 0x15, octets.u32(), b"", octets.rest()))
    changes: list[tuple[bytes, Entry | None]] = []
    for _ in range(plain.u32()):
        op, path = plain.u8(), plain.str16()
        demand(op in {SET, REMOVE}, f"change {op}")
        changes.append((path, _entry(plain) if op == SET else None))
    freed = tuple((plain.u8(), plain.u64(), plain.u64()) for _ in range(plain.u32()))
    plain.padding(64)
    return Delta(tuple(changes), freed)


@dataclass(frozen=True, slots=True)
class VersionLine:
    """What a history page says of a version."""

    number: int
    state: int
    kind: int
    dek_id: int
    value_id: int
    value_rows: int
    length: int
    commitment: bytes
    created: int
    expires: int
    deleted: int
    author: str
    content_type: str
    metadata: dict[str, str]


@dataclass(frozen=True, slots=True)
class OlderPage:
    """What the newest page says of an older one."""

    history_id: int
    digest: bytes
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class History:
    """The newest page of a secret."""

    rec_id: int
    path: bytes
    newest: int
    current: int
    previous: int
    pending: int
    older: tuple[OlderPage, ...]
    labels: dict[str, int]
    versions: list[VersionLine] = field(default_factory=list)


def _version(octets: Octets) -> VersionLine:
    line = VersionLine(
        *(octets.u32(), octets.u8(), octets.u8(), octets.u64(), octets.u64(), octets.u32(), octets.u64()),
        *(octets.take(32), octets.u64(), octets.u64(), octets.u64(), octets.str8(), octets.str8()),
        metadata=_metadata(octets.str16()),
    )
    demand(line.state in {LIVE, DELETED, DESTROYED}, f"state {line.state} of version {line.number}")
    demand(line.kind in {0, 1, 2}, f"kind {line.kind} of version {line.number}")
    gone = (line.dek_id, line.value_id, line.value_rows, line.length, any(line.commitment)) == (0, 0, 0, 0, False)
    demand(gone == (line.state == DESTROYED), f"places of version {line.number} that do not fit its state")
    return line


def _metadata(encoded: bytes) -> dict[str, str]:
    if not encoded:
        return {}
    metadata: dict[str, str] = json.loads(encoded)
    demand(isinstance(metadata, dict), "metadata that are not an object")
    demand(all(isinstance(value, str) for value in metadata.values()), "metadata that are not text")
    return metadata


def _versions(octets: Octets) -> list[VersionLine]:
    versions = [_version(octets) for _ in range(octets.u16())]
    numbers = [version.number for version in versions]
    demand(numbers == sorted(set(numbers), reverse=True), "versions that are not newest first")
    octets.padding(128)
    return versions


def _page(keyring: Keyring, rec_id: int, page: int, row: bytes) -> Octets:
    octets = Octets(row)
    octets.start(0x59)
    plain = keyring.open_box(INDEX_LABEL, 0x14, octets.u32(), u64(rec_id) + u32(page), octets.rest())
    return Octets(plain)


def open_newest_page(keyring: Keyring, rec_id: int, row: bytes) -> History:
    """Open the newest page of a history: section 6.3."""
    octets = _page(keyring, rec_id, NEWEST_PAGE, row)
    numbers = octets.u64(), octets.str16(), octets.u32(), octets.u32(), octets.u32(), octets.u32()
    older = tuple(OlderPage(octets.u64(), octets.take(32), octets.u32(), octets.u32()) for _ in range(octets.u16()))
    labels = [(octets.str8(), octets.u32()) for _ in range(octets.u16())]
    demand(len(dict(labels)) == len(labels), "one label twice")
    history = History(*numbers, older, dict(labels), _versions(octets))
    demand(history.rec_id == rec_id, "the history of another secret")
    demand(len(history.versions) <= 64, "more than 64 versions on the newest page")
    return history


def open_older_page(keyring: Keyring, rec_id: int, page: int, line: OlderPage, row: bytes) -> list[VersionLine]:
    """Open an older page of a history: section 6.3."""
    octets = _page(keyring, rec_id, page, row)
    demand((octets.u64(), octets.u32()) == (rec_id, page), "the page of another history")
    versions = _versions(octets)
    demand(bool(versions), "a page without versions")
    demand(
        (versions[-1].number, versions[0].number) == (line.first, line.last), "other versions than the newest page says"
    )
    return versions
