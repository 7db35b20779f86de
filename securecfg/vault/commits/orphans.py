"""Rows that a crash left: nothing references them, and nobody can publish them any more (format 7).

Deltas tell of them: a staging writes its deltas before its parts, and a delta is deleted after all that goes with it.
So where nothing is wrong a sweep costs one look at the few deltas there are. Its way:

1. list     what is in the store
2. judge    by a state that is read afterwards, and only if it has no staging that could publish what was listed
3. explain  each delta that is not in force: it was folded in, or its staging was abandoned
4. delete   what goes with it, then the delta
"""

from __future__ import annotations

from base64 import b64decode
from hashlib import sha256
from typing import TYPE_CHECKING

from securecfg.audit import Event, parse_leaf
from securecfg.audit.opening import RecordOpener
from securecfg.errors import Conflict, LogTampered
from securecfg.keys import Purpose
from securecfg.store import ID_LIMIT, Delete, Space
from securecfg.vault.commits.maintenance import delete_rows, freed_rows
from securecfg.vault.commits.staging import CONDEMNED
from securecfg.vault.index.rows import digest_id

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securecfg.audit import Leaf
    from securecfg.store import Store
    from securecfg.vault.opened import OpenVault

_ROWS_AT_ONCE = 64  # they may be large, and only their ids are kept
_LEAVES_AT_ONCE = 512


class Unsettled(Conflict):
    """A writer may yet publish rows that nothing references. Never leaves the vault."""

    code = "unsettled"


def sweep_orphans(opened: OpenVault) -> None:
    """Delete the rows that crashes have left. Where a writer may yet publish some of them, all stay until later.

    Raises:
        LogTampered: A record is missing or does not open, so that nobody can tell what is referenced.
        Unavailable: The store cannot be read or written.
    """
    try:
        deltas = find_deltas(opened)
        if not deltas:
            return
        freed = _freed_by(opened, deltas)
        gone = [delete for deletes in freed.values() for delete in deletes]
        if freed:
            gone += _find_segments(opened)
        if len(freed) < len(deltas):
            gone += [Delete(Space.PART, number) for number in find_parts(opened)]
    except Unsettled:
        return
    gone += [Delete(Space.DELTA, number) for number in deltas]
    delete_rows(opened, gone)


def sweep_segments(opened: OpenVault) -> None:
    """Delete the segments that a crash left: no delta tells of those that were only sealed under another key.

    Raises:
        Unavailable: The store cannot be read or written.
    """
    try:
        delete_rows(opened, _find_segments(opened))
    except Unsettled:
        return


def find_deltas(opened: OpenVault) -> set[int]:
    """Return the ids of the deltas that are not in force and never will be.

    Raises:
        Unsettled: That cannot be told now.
        LogTampered: A record is missing.
    """
    there = ids_of(opened.store, Space.DELTA)
    _settle(opened)
    return _not_in_force(opened, there)


def find_freed(opened: OpenVault) -> list[Delete]:
    """Return the deletions of rows that deltas have freed which were folded in and are still there.

    Raises:
        LogTampered: A record is missing.
    """
    left = _not_in_force(opened, ids_of(opened.store, Space.DELTA))
    return [delete for deletes in _freed_by(opened, left).values() for delete in deletes]


def find_parts(opened: OpenVault) -> set[int]:
    """Return the ids of the parts that no record lists and none ever will.

    Raises:
        Unsettled: That cannot be told now.
        LogTampered: A record is missing or does not open.
    """
    there = ids_of(opened.store, Space.PART)
    _settle(opened)
    replica, store = opened.replica, opened.store
    keys = replica.keyring.all(Purpose.AUDIT)
    opener = RecordOpener(keys, replica.vault_id, lambda id_: store.get(Space.SEALER, digest_id(id_)))
    is_batch = False
    for index, leaf in _leaves(store, 0, replica.checkpoint.size if there else 0):
        # The records of a batch follow one another, and the first one carries the deltas.
        if leaf.delta_hashes or is_batch:
            record = opener.open(leaf, index)
            is_batch = record.event is Event.BATCH_WRITTEN
            there.difference_update(digest_id(b64decode(digest)) for digest, _ in record.obj.get("parts", ()))
    return there


def ids_of(store: Store, space: Space, end: int = ID_LIMIT) -> set[int]:
    """Return the ids of the rows of a space that are below one."""
    found: set[int] = set()
    first = 0
    while first < end and (rows := store.scan(space, first, end - 1, _ROWS_AT_ONCE)):
        found.update(number for number, _ in rows)
        first = rows[-1][0] + 1
    return found


def _not_in_force(opened: OpenVault, deltas: set[int]) -> set[int]:
    replica = opened.replica
    with replica.lock:
        first, end = replica.state.base_size, replica.checkpoint.size
    return deltas.difference(*(map(digest_id, leaf.delta_hashes) for _, leaf in _leaves(opened.store, first, end)))


def _find_segments(opened: OpenVault) -> list[Delete]:
    there = ids_of(opened.store, Space.SEGMENT)
    _settle(opened)
    there.difference_update(line.segment_id for line in opened.replica.index.manifest.lines)
    return [Delete(Space.SEGMENT, number) for number in there]


def _settle(opened: OpenVault) -> None:
    """Read the state by which rows that were listed before can be judged.

    Raises:
        Unsettled: There is a staging that can still be published.
    """
    opened.refresh()
    if any(staging.expires != CONDEMNED for staging in opened.replica.state.stagings):
        message = "a large change is being prepared"
        raise Unsettled(message)


def _freed_by(opened: OpenVault, deltas: set[int]) -> dict[int, list[Delete]]:
    """Return what those of some deltas have freed that earlier records list. Others belong to no record."""
    store, rows = opened.store, opened.replica.rows
    found: dict[int, list[Delete]] = {}
    for end in range(opened.replica.state.base_size, 0, -_LEAVES_AT_ONCE):
        if len(found) == len(deltas):
            break
        for _, leaf in _leaves(store, max(end - _LEAVES_AT_ONCE, 0), end):
            for digest in leaf.delta_hashes:
                number = digest_id(digest)
                if number in deltas:
                    row = store.get(Space.DELTA, number) or b""
                    # What it freed is known from a delta that is what the record says, and from no other.
                    is_whole = sha256(row).digest() == digest
                    found[number] = freed_rows(store, rows.open_delta(row, digest).freed) if is_whole else []
    return found


def _leaves(store: Store, first: int, end: int) -> Iterator[tuple[int, Leaf]]:
    """Yield the leaves from one index up to another.

    Raises:
        LogTampered: One is missing or malformed.
    """
    for start in range(first, end, _LEAVES_AT_ONCE):
        stop = min(end, start + _LEAVES_AT_ONCE)
        rows = store.scan(Space.LOG, start, stop - 1, _LEAVES_AT_ONCE)
        if len(rows) != stop - start:
            message = f"records are missing from the log between {start} and {stop - 1}"
            raise LogTampered(message, index=start)
        for index, row in rows:
            yield index, parse_leaf(row, index)
