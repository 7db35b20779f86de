"""The index in memory: sealed segments under a manifest, with the newest changes on top.

Segments are loaded when a look-up needs them, and kept. A look-up takes the newest change of a path, else the one
segment that the manifest names for it.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import deque
from typing import TYPE_CHECKING

from securecfg.vault.paths import SYSTEM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from securecfg.vault.index.deltas import Change
    from securecfg.vault.index.segments import Entry, Manifest, Segment, SegmentLine

_ABSENT = object()
_PAUSE_S = 0.000_2


class Index:
    """What paths there are, as of one size of the log.

    Reading needs no lock: of a path the newest change counts, a new manifest replaces this object, and a scan begins
    with a copy of the changes that it lies between.

    Args:
        manifest: The segments.
        load: Reads, checks and opens one of them.
        segments: Segments that are loaded already, by id.
    """

    __slots__ = ("_applied", "_begun", "_load", "_overlay", "_segments", "_sorted", "manifest", "system_changes")

    def __init__(
        self,
        manifest: Manifest,
        load: Callable[[SegmentLine], Segment],
        segments: dict[int, Segment] | None = None,
    ) -> None:
        """Begin with the manifest alone."""
        self.manifest = manifest
        self._load = load
        self._segments = segments if segments is not None else {}
        self._overlay: dict[bytes, Entry | None] = {}
        self._applied: deque[tuple[int, tuple[Change, ...]]] = deque()
        self._begun = 0  # as many as are applied, or one more while one is put on top
        self.system_changes = 0
        self._sorted: tuple[int, list[bytes]] = (0, [])

    def apply(self, log_index: int, changes: tuple[Change, ...]) -> None:
        """Put the changes that a record of the log made on top."""
        self._begun += 1
        for path, entry in changes:
            self._overlay[path] = entry
            if path.startswith(SYSTEM):
                self.system_changes += 1
        self._applied.append((log_index, changes))

    def copied(self) -> Index:
        """Return the same index, to put further changes on top that nobody sees in this one."""
        index = Index(self.manifest, self._load, self._segments)
        index._overlay = self._overlay.copy()
        index._applied = self._applied.copy()
        index._begun, index.system_changes = self._begun, self.system_changes
        return index

    def rebased(self, manifest: Manifest) -> Index:
        """Return the same index over a newer manifest, keeping what the manifest does not include yet."""
        kept = {line.segment_id for line in manifest.lines}
        # Other threads load segments meanwhile.
        segments = {number: segment for number, segment in self._segments.copy().items() if number in kept}
        index = Index(manifest, self._load, segments)
        for log_index, changes in self._applied:
            if log_index >= manifest.base_size:
                index.apply(log_index, changes)
        return index

    @property
    def applied(self) -> int:
        """The number of records on top of the manifest; while it stands, so does all that the index says."""
        return len(self._applied)

    @property
    def overlay_size(self) -> int:
        """The number of paths that changed since the manifest."""
        return len(self._overlay)

    def changes_before(self, size: int) -> dict[bytes, Entry | None]:
        """Return the newest change of each path among the first `size` records of the log."""
        merged: dict[bytes, Entry | None] = {}
        for log_index, changes in list(self._applied):
            if log_index < size:
                merged.update(changes)
        return merged

    def changed_since(self, size: int) -> set[bytes] | None:
        """Return which paths changed after the first `size` records of the log.

        None where that is not known any more: the manifest includes some of those changes.
        """
        if self.manifest.base_size > size:
            return None
        changed: set[bytes] = set()
        for log_index, changes in reversed(list(self._applied)):
            if log_index < size:
                break
            changed.update(path for path, _ in changes)
        return changed

    def get(self, path: bytes) -> Entry | None:
        """Return the entry of a path."""
        entry = self._overlay.get(path, _ABSENT)
        if entry is not _ABSENT:
            return entry  # type: ignore[return-value]  # the sentinel is excluded
        manifest = self.manifest
        position = manifest.position_of(path)
        if position < 0:
            return None
        segment = self._segments.get(manifest.lines[position].segment_id) or self.segment(position)
        return segment.find(path)

    def holds(self, path: bytes) -> bool:
        """Return whether there is a secret at a path, or below it."""
        return self.get(path) is not None or self.holds_below(path + b"/")

    def holds_below(self, prefix: bytes) -> bool:
        """Return whether there is a path that begins with a prefix."""
        ordered, overlay = self._ordered()[1], self._overlay
        for place in range(bisect_left(ordered, prefix), len(ordered)):
            path = ordered[place]
            if not path.startswith(prefix):
                break
            if overlay[path] is not None:
                return True
        return next(self.scan(prefix, prefix_end(prefix)), None) is not None

    def segment(self, position: int) -> Segment:
        """Return a segment by its place in the manifest."""
        line = self.manifest.lines[position]
        segment = self._segments.get(line.segment_id)
        if segment is None:
            segment = self._segments[line.segment_id] = self._load(line)
        return segment

    def scan(self, first: bytes, end: bytes | None) -> Iterator[tuple[bytes, Entry]]:
        """Yield paths and entries from `first` on, up to but without `end`, in order, all of one state."""
        yield from merged(self._scan_segments(first, end), self._changed_between(first, end))

    def _changed_between(self, first: bytes, end: bytes | None) -> list[Change]:
        """Return what changed in a range, in order, as it was between two records."""
        while True:
            applied, ordered = self._ordered()
            start = bisect_left(ordered, first)
            within = ordered[start:] if end is None else ordered[start : bisect_left(ordered, end)]
            found = [(path, self._overlay[path]) for path in within]
            if self._begun == applied:
                return found
            time.sleep(_PAUSE_S)  # another thread puts a change on top

    def _ordered(self) -> tuple[int, list[bytes]]:
        """Return all paths that were changed, in order, and how many records that were."""
        applied = len(self._applied)
        stamp, ordered = self._sorted
        if stamp != applied:
            # Where a change is half put on top this one is never asked for again once it is whole.
            ordered = sorted(self._overlay)
            self._sorted = (applied, ordered)
        return applied, ordered

    def _scan_segments(self, first: bytes, end: bytes | None) -> Iterator[tuple[bytes, Entry]]:
        manifest = self.manifest
        start = max(manifest.position_of(first), 0)
        for position in range(start, len(manifest.lines)):
            if end is not None and manifest.fences[position] >= end:
                return
            segment = self.segment(position)
            place = segment.first_at_or_after(first) if position == start else 0
            for item in range(place, segment.count):
                path = segment.path(item)
                if end is not None and path >= end:
                    return
                yield path, segment.entry(item)


def merged(items: Iterable[tuple[bytes, Entry]], changes: Sequence[Change]) -> Iterator[tuple[bytes, Entry]]:
    """Yield paths and entries with changes on top of them, all in the order of their paths."""
    place = 0
    for path, entry in items:
        while place < len(changes) and changes[place][0] < path:
            yield from _present(changes[place])
            place += 1
        if place < len(changes) and changes[place][0] == path:
            yield from _present(changes[place])
            place += 1
        else:
            yield path, entry
    for change in changes[place:]:
        yield from _present(change)


def _present(change: Change) -> Iterable[tuple[bytes, Entry]]:
    path, entry = change
    return () if entry is None else ((path, entry),)


def prefix_end(prefix: bytes) -> bytes | None:
    """Return the smallest bytes above everything that begins with a prefix, or None where there is none."""
    stripped = prefix.rstrip(b"\xff")
    return stripped[:-1] + bytes((stripped[-1] + 1,)) if stripped else None
