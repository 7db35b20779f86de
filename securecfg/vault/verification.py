"""Checking a whole vault: every row that the state vouches for is read, and every row that is there accounted for."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from securecfg.errors import IntegrityError, ScopeSealed
from securecfg.store import Space
from securecfg.vault.commits.maintenance import freed_rows, stored_deltas
from securecfg.vault.commits.orphans import Unsettled, find_deltas, find_parts, ids_of
from securecfg.vault.index.deltas import FreedRun
from securecfg.vault.index.history import DESTROYED, History, Version
from securecfg.vault.opened import Located

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from securecfg.vault.index.segments import Entry
    from securecfg.vault.opened import OpenVault

_ROUNDS = 4


@dataclass(slots=True)
class Verification:
    """What was checked, and what is wrong.

    Attributes:
        secrets: How many secrets there are, deleted ones included.
        versions: How many versions, destroyed ones included.
        sealed: How many of these are sealed from the key at hand, so that their rows were compared and not opened.
        orphan_rows: Rows that nothing references: leftovers of writers that crashed. They do no harm; the next
            compaction deletes them.
        problems: The path and version of each value that is damaged, with what is wrong.
    """

    secrets: int = 0
    versions: int = 0
    sealed: int = 0
    orphan_rows: list[tuple[Space, int]] = field(default_factory=list)
    problems: list[tuple[str, int, str]] = field(default_factory=list)

    @property
    def orphans(self) -> Counter[str]:
        """How many rows nothing references, by the names of their spaces."""
        return Counter(space.name.lower() for space, _ in self.orphan_rows)


class _Checked(NamedTuple):
    """What was found of a secret, as of one entry of the index."""

    entry: Entry
    versions: int
    sealed: int
    problems: list[tuple[str, int, str]]


def verify_vault(opened: OpenVault, progress: Callable[[int, int], None] | None = None) -> Verification:
    """Open every version of every secret, and find rows that nothing references.

    Values are opened and dropped; none leaves this function and none is recorded as read.

    Args:
        opened: The vault.
        progress: Called with the number of secrets done and of all of them.

    Raises:
        Tampered: The index itself is damaged, so that not every secret can be found.
    """
    opened.refresh()
    result = Verification()
    used: dict[Space, set[int]] = {space: set() for space in _ACCOUNTED}
    state = opened.replica.state
    used[Space.SEGMENT].update(line.segment_id for line in opened.replica.index.manifest.lines)
    checked: dict[bytes, _Checked] = {}
    for _ in range(_ROUNDS):
        entries = opened.entries(b"", None)
        changed = [(path, entry) for path, entry in entries if path not in checked or checked[path].entry != entry]
        for done, (path, entry) in enumerate(changed, len(entries) - len(changed) + 1):
            checked[path] = _check(opened, path, entry, used)
            if progress is not None:
                progress(done, len(entries))
        opened.refresh()
        if not changed:
            break
    # What changed meanwhile was looked for in rows that were rightly gone; the last round saw it in the new ones.
    latest = dict(opened.entries(b"", None))
    result.secrets = len(latest)
    for path, found in checked.items():
        if latest.get(path) == found.entry:
            result.versions += found.versions
            result.sealed += found.sealed
            result.problems += found.problems
    for _, delta in stored_deltas(opened, state.base_size, opened.replica.checkpoint.size):
        for delete in freed_rows(opened.store, delta.freed):  # the next compaction does
            used.setdefault(delete.space, set()).add(delete.id)
    stagings = {*state.stagings, *opened.replica.state.stagings}
    reserved = [range(staging.first, staging.last + 1) for staging in stagings]
    for space in _ACCOUNTED:
        known = used[space]
        for number in sorted(ids_of(opened.store, space, state.next_id) - known):
            if not any(number in ids for ids in reserved):
                result.orphan_rows.append((space, number))
    result.orphan_rows += _find_loose(opened)
    return result


def _find_loose(opened: OpenVault) -> list[tuple[Space, int]]:
    """Return the orphans among the rows that have ids of their own, unless a writer may yet publish some of them."""
    try:
        found = ((Space.DELTA, find_deltas(opened)), (Space.PART, find_parts(opened)))
    except Unsettled:
        return []
    return [(space, number) for space, numbers in found for number in sorted(numbers)]


def _check(opened: OpenVault, path: bytes, entry: Entry, used: dict[Space, set[int]]) -> _Checked:
    """Open every version of a secret, and note the rows they use."""
    name = "a system document" if path.startswith(b"\x01") else path.decode()
    used[Space.HISTORY].add(entry.history_id)
    misplaced = [] if path.startswith(b"\x01") else _find_misplaced(opened, name)
    try:
        history = opened.history(path, entry)
        versions = list(_all_versions(opened, history, used[Space.HISTORY]))
    except IntegrityError as error:
        return _Checked(entry, 0, 0, [(name, 0, error.message)])
    problems = misplaced
    sealed = 0
    for version in versions:
        if version.state == DESTROYED:
            continue
        used[Space.DEK].add(version.dek_id)
        rows = FreedRun(Space.VALUE, version.value_id, version.value_rows + 1)
        used[Space.VALUE].update(delete.id for delete in freed_rows(opened.store, [rows]))
        try:
            sealed += _verify_value(opened, Located(entry, history, version))
        except IntegrityError as error:
            problems.append((name, version.number, error.message))
    return _Checked(entry, len(versions), sealed, problems)


def _find_misplaced(opened: OpenVault, path: str) -> list[tuple[str, int, str]]:
    """Return the problem that nobody reads a secret, since its path belongs into a sealed scope."""
    try:
        opened.verify_own(path)
    except ScopeSealed:
        return [(path, 0, "lies where another scope begins, and is not read by anybody")]
    return []


def _all_versions(opened: OpenVault, history: History, pages: set[int]) -> Iterator[Version]:
    yield from history.versions
    for page, place in enumerate(history.older):
        pages.add(place.history_id)
        yield from opened.older_versions(history, page)


def _verify_value(opened: OpenVault, located: Located) -> bool:
    """Check a value, and return whether it is sealed from the key at hand, so that only its rows could be compared."""
    try:
        if not located.version.value_rows:
            opened.open_inline(located)
            return False
        for _ in opened.open_chunked(located):
            pass
    except ScopeSealed:
        opened.verify_sealed(located.version)
        return True
    return False


_ACCOUNTED = (Space.HISTORY, Space.DEK, Space.VALUE, Space.SEGMENT)
