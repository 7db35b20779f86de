"""What keeps a vault small and its promises kept: compaction of the index, and the end of what was destroyed."""

from __future__ import annotations

import threading
from bisect import bisect_left
from typing import TYPE_CHECKING

from securecfg.audit import parse_leaf
from securecfg.crypto import ROOT_SCOPE
from securecfg.errors import DestroyPending, IntegrityError, SecurecfgError, Unavailable
from securecfg.keys import FIRST_SLOT_ROW, Purpose
from securecfg.store import STAGE_LIMIT_OPERATIONS, Delete, Put, Space
from securecfg.vault.commits.publishing import Plan
from securecfg.vault.index.in_memory import merged
from securecfg.vault.index.rows import digest_id, digest_of, epoch_of
from securecfg.vault.index.segments import ENTRIES_MAX, Manifest, SegmentLine, build_segment
from securecfg.vault.logger import logger
from securecfg.vault.paths import FIRST_USER_PATH
from securecfg.vault.state.head import FLAG_DESTRUCTION_PENDING
from securecfg.vault.state.replica import MANIFEST_ID, SLOT_IDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from securecfg.store import Store
    from securecfg.vault.commits.publishing import Publication
    from securecfg.vault.commits.staging import StagingArea
    from securecfg.vault.index.deltas import Delta, FreedRun
    from securecfg.vault.index.in_memory import Index
    from securecfg.vault.index.segments import Entry
    from securecfg.vault.opened import OpenVault

OVERLAY_MAX = 2_000
OVERLAY_SHARE = 0.05
LEAVES_MAX = 2_000
LEAVES_LEFT_AT_CLOSE = 400
_PURGES_MAX = 4
_DELETES_AT_ONCE = 48
_SPLIT_INTO = ENTRIES_MAX * 3 // 4
_JOIN_BELOW = 256
_LEAVES_AT_ONCE = 512
_RUN_MAX = 1_024


def finish_destruction(opened: OpenVault) -> None:
    """Make the bytes of what was destroyed unrecoverable, and note that in the state.

    Raises:
        DestroyPending: Another reader prevents it for now; the next opener tries again.
    """
    try:
        for _ in range(_PURGES_MAX):
            opened.refresh()
            _delete_removed_slots(opened)
            generation = opened.replica.state.generation
            _delete_freed_keys(opened)
            _delete_retired_grants(opened)
            if opened.replica.seat is None and (registry := opened.scopes()) is not None:
                from securecfg.vault.scopes.ends import erase_retired  # few vaults have scopes

                erase_retired(opened, registry)
            opened.store.purge()
            if opened.publisher.publish(lambda publication, seen=generation: _plan_end(publication, seen)):  # type: ignore[misc]  # lambda default
                return
    except DestroyPending:
        raise
    except Unavailable as error:
        message = f"bytes of what was destroyed may still lie in the vault's files: {error.message}"
        raise DestroyPending(message, hint="the next to open the vault finishes") from None


def _delete_freed_keys(opened: OpenVault) -> None:
    """Delete data keys that nothing references any more: a large batch that crashed has not deleted its own yet.

    Neither has, perhaps, a compaction that folded the batch in and crashed or is still at it.
    """
    from securecfg.vault.commits.orphans import find_freed  # every open vault imports this module

    first, size = opened.replica.state.base_size, opened.replica.checkpoint.size
    deletes = find_freed(opened)
    for _, delta in stored_deltas(opened, first, size):
        deletes += freed_rows(opened.store, delta.freed)
    delete_rows(opened, [delete for delete in deletes if delete.space is Space.DEK])


def _delete_retired_grants(opened: OpenVault) -> None:
    """Delete, in a sealed scope, what was granted of value keys that the keyring has forgotten."""
    keyring = opened.replica.keyring
    if keyring.is_sealed:
        from securecfg.keys.value_grants import grant_row_of  # few vaults have them
        from securecfg.vault.scopes.formers import retired_formers

        oldest = min(entry.epoch for entry in keyring.keys if entry.purpose == Purpose.VALUE)
        end = grant_row_of(FIRST_SLOT_ROW, oldest)
        while end and (rows := opened.store.scan(Space.GRANT, 0, end - 1, STAGE_LIMIT_OPERATIONS)):
            delete_rows(opened, [Delete(Space.GRANT, number) for number, _ in rows])
        delete_rows(opened, retired_formers(opened.store, oldest))


def _delete_removed_slots(opened: OpenVault) -> None:
    """Delete the rows of slots that no root is sealed to any more; many may have gone at once.

    Each time in a publication, which fails where somebody else has put a new slot in such a place.
    """
    if not _removed_slots(opened):
        return

    def plan(_publication: Publication) -> Plan:
        deletes = [Delete(Space.META, id_) for id_ in _removed_slots(opened)[:_DELETES_AT_ONCE]]
        return Plan(deletes=deletes, result=len(deletes))

    while opened.publisher.publish(plan):
        pass


def _removed_slots(opened: OpenVault) -> list[int]:
    rows = opened.store.scan(Space.META, SLOT_IDS.start, SLOT_IDS.stop - 1, len(SLOT_IDS))
    return [id_ for id_, _ in rows if id_ not in opened.replica.slots]


def _plan_end(publication: Publication, seen: int) -> Plan:
    """Plan to clear the flag, unless somebody may have destroyed something since the purge."""
    if publication.state.generation != seen or publication.members:
        return Plan(result=False)
    return Plan(state={"flags": publication.state.flags & ~FLAG_DESTRUCTION_PENDING}, result=True)


def needs_compaction(opened: OpenVault) -> bool:
    """Return whether opening the vault would have to replay more than it should."""
    replica = opened.replica
    leaves = replica.checkpoint.size - replica.state.base_size
    changed = replica.index.overlay_size
    return leaves > LEAVES_MAX or changed > max(OVERLAY_MAX, OVERLAY_SHARE * replica.index.manifest.entries)


def compact(opened: OpenVault, *, seals_anew: bool = False) -> bool:
    """Fold the changes since the manifest into its segments, and return whether there was anything to do.

    Only the last step, which is small, holds up other writers. Where another process compacted meanwhile, this
    compaction is thrown away. What crashes have left of earlier ones, and of large changes, is deleted too.

    Args:
        opened: The vault.
        seals_anew: Seal what is under an older key anew as well.

    Raises:
        Tampered: A segment, or a record that tells what is referenced, does not match the signed state.
        Unavailable: The store cannot write.
    """
    from securecfg.vault.commits.orphans import sweep_orphans, sweep_segments  # every open vault imports this module

    with opened.compaction_lock:
        is_done = _compact(opened, seals_anew=seals_anew)
        sweep_orphans(opened)
        if seals_anew:
            sweep_segments(opened)
    return is_done


def _compact(opened: OpenVault, *, seals_anew: bool) -> bool:
    from securecfg.vault.commits.staging import StagingArea, StagingMoved  # every open vault imports this module

    replica = opened.replica
    with replica.lock:
        replica.refresh()
        index, size = replica.index, replica.checkpoint.size
        base, peaks = replica.state.manifest_digest, replica.tree.peaks
    first = index.manifest.base_size
    old = _find_sealed_before(opened, index) if seals_anew else frozenset()
    if size == first and not old:
        return False
    changes = sorted(index.changes_before(size).items())
    area = StagingArea(opened)
    try:
        lines, fences, gone = _merge_segments(opened, area, index, changes, old)
        manifest = Manifest(size, peaks, sum(line.entries for line in lines), tuple(lines), tuple(fences))
        row = replica.rows.seal_manifest(manifest)
        area.publish_manifest(Put(Space.META, MANIFEST_ID, row), digest_of(row), size, base)
    except StagingMoved:
        area.abandon()
        return False
    except IntegrityError:
        area.abandon()
        opened.refresh()
        if replica.state.manifest_digest == base:
            raise
        return False
    except BaseException:
        # What was staged is seen by nobody, and goes as a whole.
        area.abandon()
        raise
    with replica.lock:
        if replica.state.manifest_digest == digest_of(row):
            replica.rebase(manifest)
    _delete_folded(opened, first, size, gone)
    return True


class Compactor:
    """Compacts in a thread of its own when there is enough to fold in, so that no caller waits for it.

    Args:
        opened: The vault.
    """

    def __init__(self, opened: OpenVault) -> None:
        """Start no thread yet."""
        self._opened = opened
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Compact soon if there is enough to fold in."""
        opened = self._opened
        if not needs_compaction(opened) or opened.is_closed:
            return
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="securecfg-compaction", daemon=True)
                self._thread.start()

    def finish(self) -> None:
        """Wait for a compaction that runs, and compact a last time if opening would otherwise take long."""
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()
        opened = self._opened
        left = opened.replica.checkpoint.size - opened.replica.state.base_size
        if left > LEAVES_LEFT_AT_CLOSE and not opened.options.read_only:
            self._compact()

    def _run(self) -> None:
        try:
            self._compact()
        finally:
            with self._lock:
                self._thread = None

    def _compact(self) -> None:
        try:
            compact(self._opened)
        except SecurecfgError as error:
            # Another process was faster, the disk is full, or the vault was closed: the next one tries again.
            logger().info("compaction is left for later: %s", error.message, extra={"event": "compaction.postponed"})


def _merge_segments(
    opened: OpenVault,
    area: StagingArea,
    index: Index,
    changes: list[tuple[bytes, Entry | None]],
    old: frozenset[int],
) -> tuple[list[SegmentLine], list[bytes], list[int]]:
    """Stage new segments where something changed, and for old ones.

    Returns:
        The lines and fences of all segments, and the ids of those that are replaced.
    """
    manifest = index.manifest
    lines: list[SegmentLine] = []
    fences: list[bytes] = []
    gone: list[int] = []
    carried: list[tuple[bytes, Entry]] = []
    place = 0
    for position, line in enumerate(manifest.lines):
        end = manifest.fences[position + 1] if position + 1 < len(manifest.fences) else None
        start = place
        while place < len(changes) and (end is None or changes[place][0] < end):
            place += 1
        if start == place and not carried and line.segment_id not in old:
            lines.append(line)
            fences.append(manifest.fences[position])
            continue
        segment = index.segment(position)
        items = carried + list(merged(segment.items(), changes[start:place]))
        gone.append(line.segment_id)
        # A segment that became small is joined with the next one, but for what opening a vault reads by itself.
        is_small = len(items) < _JOIN_BELOW and end is not None and not _are_apart(manifest.fences[position], end)
        carried = items if is_small else []
        if not carried:
            _stage_segments(opened, area, items, lines, fences)
    if not manifest.lines:
        carried = [(path, entry) for path, entry in changes if entry is not None]
    if carried:
        _stage_segments(opened, area, carried, lines, fences)
    return lines, fences, gone


def _find_sealed_before(opened: OpenVault, index: Index) -> frozenset[int]:
    """Return the ids of the manifest and the segments that are not sealed under the key in use."""
    active = opened.replica.keyring.scope(ROOT_SCOPE).epoch
    rows = {MANIFEST_ID: opened.store.get(Space.META, MANIFEST_ID)}
    rows |= {line.segment_id: opened.store.get(Space.SEGMENT, line.segment_id) for line in index.manifest.lines}
    return frozenset(number for number, row in rows.items() if row is not None and epoch_of(row) != active)


def _stage_segments(
    opened: OpenVault,
    area: StagingArea,
    items: list[tuple[bytes, Entry]],
    lines: list[SegmentLine],
    fences: list[bytes],
) -> None:
    for part in _parts_of(items):
        segment_id = area.allocate()
        row = opened.replica.rows.seal_segment(segment_id, build_segment(part))
        area.put(Put(Space.SEGMENT, segment_id, row))
        lines.append(SegmentLine(segment_id, digest_of(row), len(part)))
        fences.append(part[0][0])


def _parts_of(items: list[tuple[bytes, Entry]]) -> Iterator[list[tuple[bytes, Entry]]]:
    """Yield what goes into one segment each.

    The documents of the vault itself, which every opening looks for, lie apart from secrets, unless these are few.
    """
    first = bisect_left(items, (FIRST_USER_PATH,))
    runs = (items[:first], items[first:]) if len(items) - first >= _JOIN_BELOW else (items,)
    for run in runs:
        width = len(run) if len(run) <= ENTRIES_MAX else _SPLIT_INTO
        for start in range(0, len(run), max(width, 1)):
            yield run[start : start + width]


def _are_apart(first: bytes, end: bytes) -> bool:
    """Return whether a segment holds documents of the vault itself, and the next one none."""
    return first < FIRST_USER_PATH <= end


def _delete_folded(opened: OpenVault, first: int, size: int, segments: list[int]) -> None:
    """Delete the segments that were replaced, the deltas that are folded in, and what those freed."""
    deletes = [Delete(Space.SEGMENT, number) for number in segments]
    for digest, delta in stored_deltas(opened, first, size):
        deletes += freed_rows(opened.store, delta.freed)
        deletes.append(Delete(Space.DELTA, digest_id(digest)))
    delete_rows(opened, deletes)


def stored_deltas(opened: OpenVault, first: int, size: int) -> Iterator[tuple[bytes, Delta]]:
    """Yield the deltas of some records, those that are still there, with their digests."""
    store, rows = opened.store, opened.replica.rows
    for start in range(first, size, _LEAVES_AT_ONCE):
        for index, leaf in store.scan(Space.LOG, start, min(size, start + _LEAVES_AT_ONCE) - 1, _LEAVES_AT_ONCE):
            for digest in parse_leaf(leaf, index).delta_hashes:
                row = store.get(Space.DELTA, digest_id(digest))
                if row is not None:
                    yield digest, rows.open_delta(row, digest)


def delete_rows(opened: OpenVault, deletes: Sequence[Delete]) -> None:
    """Delete rows that nothing references, in their order.

    Raises:
        Unavailable: The store cannot write.
    """
    for start in range(0, len(deletes), STAGE_LIMIT_OPERATIONS):
        opened.store.stage(deletes[start : start + STAGE_LIMIT_OPERATIONS])


def freed_rows(store: Store, runs: Iterable[FreedRun]) -> list[Delete]:
    """Return the deletions of the rows that a delta has freed.

    Of a long run those that are there: how long one is a writer of the part has said.
    """
    deletes: list[Delete] = []
    for run in runs:
        space, first, end = Space(run.space), run.first, run.first + run.length
        if run.length <= _RUN_MAX:
            deletes += [Delete(space, number) for number in range(first, end)]
            continue
        while first < end and (rows := store.scan(space, first, end - 1, STAGE_LIMIT_OPERATIONS)):
            deletes += [Delete(space, number) for number, _ in rows]
            first = rows[-1][0] + 1
    return deletes
