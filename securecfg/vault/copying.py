"""Copies of secrets in another part of a vault: the same history, sealed anew under the keys of that part."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from securecfg.errors import ConfusablePath, IntegrityError
from securecfg.store import Delete, Space
from securecfg.vault.deltas import FreedRun
from securecfg.vault.drafts import LOOKALIKE_HINT, Content, Drafts
from securecfg.vault.history import DESTROYED
from securecfg.vault.index import prefix_end
from securecfg.vault.opened import Located
from securecfg.vault.publishing import Plan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from securecfg.vault.authority import Authority
    from securecfg.vault.history import History, Version
    from securecfg.vault.opened import OpenVault
    from securecfg.vault.segments import Entry


class Subtree(NamedTuple):
    """All secrets below a folder, which keep their paths.

    Attributes:
        prefix: The folder, with its `/`.
    """

    prefix: bytes

    @property
    def below(self) -> str:
        """What imports call it by in the old place."""
        return self.prefix.decode()

    @property
    def target_below(self) -> str:
        """What notes call it by in the new place."""
        return self.prefix.decode()

    def entries(self, opened: OpenVault) -> dict[bytes, Entry]:
        """Return what there is of it."""
        return dict(opened.replica.index.scan(self.prefix, prefix_end(self.prefix)))

    def target_of(self, path: bytes) -> bytes:
        """Return where a secret goes."""
        return path


class Single(NamedTuple):
    """One secret, which may get another path.

    Attributes:
        path: Where it is.
        target: Where it goes.
        is_lookalike_allowed: Whether the new path may look like one that exists.
    """

    path: bytes
    target: bytes
    is_lookalike_allowed: bool

    @property
    def below(self) -> str:
        """What imports call it by in the old place."""
        return self.path.decode()

    @property
    def target_below(self) -> str:
        """What notes call it by in the new place."""
        return self.target.decode()

    def entries(self, opened: OpenVault) -> dict[bytes, Entry]:
        """Return it, where it is there."""
        entry = opened.replica.index.get(self.path)
        return {} if entry is None else {self.path: entry}

    def target_of(self, _path: bytes) -> bytes:
        """Return where it goes."""
        return self.target


class Copy(NamedTuple):
    """A secret that was copied.

    Attributes:
        entry: What it was copied from.
        newest: The number of its newest version then.
        versions: How many of its versions have a value.
        source: What takes it out of the old part.
        target: Its entry in the new one.
    """

    entry: Entry
    newest: int
    versions: int
    source: Plan
    target: Entry


class Resealing(Drafts):
    """Drafts of secrets that were elsewhere before."""

    def copy(
        self,
        opened: OpenVault,
        moved: tuple[bytes, bytes],
        entry: Entry,
        known: Copy | None,
        take: Callable[[Plan], None],
    ) -> Copy:
        """Seal anew every version of a secret that was not copied before, and write its history.

        Args:
            opened: The part that it is in.
            moved: Its path there, and the one here.
            entry: What it is now.
            known: The copy that was made before, of the same secret.
            take: Takes up what was drafted, one version after the other.
        """
        path, target = moved
        history = opened.history(path, entry)
        versions = list(oldest_first(opened, history))
        before = self.find(target, known.target) if known is not None else None
        lines = self.lines(before) if before is not None else {}
        rec_id = before.rec_id if before is not None else self.allocate()
        sealed, fresh, gone = [], Plan(), Plan()
        try:
            for version in versions:
                line = lines.get(version.number)
                if line is not None and DESTROYED not in {line.state, version.state}:
                    sealed.append(version.placed_as(line))
                    continue
                if line is not None:
                    _add_rows(gone, line)
                plan, changed = self.reseal(rec_id, version, content_of(opened, Located(entry, history, version)))
                _add_rows(fresh, changed)
                take(plan)
                sealed.append(changed)
        except IntegrityError:
            take(as_freed(fresh))
            raise
        plan = self.put(history._replace(rec_id=rec_id, path=target, older=(), versions=()), sealed, before)
        if known is not None:
            gone.freed.append(FreedRun(Space.HISTORY, known.target.history_id, 1))
        take(as_freed(gone))
        take(plan)
        ((_, put),) = plan.changes
        if put is None:
            raise TypeError
        with_value = sum(version.state != DESTROYED for version in versions)
        return Copy(entry, history.newest, with_value, rows_of(history, entry, versions), put)

    def allocate(self) -> int:
        """Return an id that was never used."""
        return self._workspace.allocate()

    def find(self, path: bytes, entry: Entry) -> History:
        """Return the history of a copy that was drafted before."""
        return self._history(path, entry)

    def lines(self, history: History) -> dict[int, Version]:
        """Return all versions of a copy that was drafted before, by number."""
        pages = [self._page(history, page) for page in range(len(history.older))]
        return {version.number: version for page in (*pages, history.versions) for version in page}

    def reseal(self, rec_id: int, version: Version, content: Content | None) -> tuple[Plan, Version]:
        """Return the draft of a version under keys of this part; of a destroyed one nothing but its line is left."""
        plan = Plan()
        if content is None:
            return plan, version
        record = rec_id, version.number
        place = self._seal_content(plan, record, version.created, content, is_system=False)
        return plan, version._replace(**place._asdict())

    def put(self, front: History, versions: Sequence[Version], before: History | None) -> Plan:
        """Return the draft of a history and its index entry; older pages that are as they were before stay.

        Args:
            front: All but its pages.
            versions: The oldest first.
            before: As it was drafted before.
        """
        plan = Plan()
        places = before.older if before is not None else ()
        kept = 0
        for page, place in enumerate(places):
            count = place.last - place.first + 1
            if before is None or self._page(before, page) != tuple(reversed(versions[:count])):
                break
            versions = versions[count:]
            kept += 1
        plan.freed += [FreedRun(Space.HISTORY, place.history_id, 1) for place in places[kept:]]
        front = front._replace(older=places[:kept], versions=tuple(reversed(versions)))
        return self._put_history(plan, front.path, None, front)

    def verify_no_lookalike(self, path: bytes, authority: Authority, chosen: Single) -> None:
        """Check that a path does not look like another one; of one that may not be listed nothing is told.

        Raises:
            ConfusablePath: It does.
        """
        try:
            self._check_lookalike(path, is_allowed=chosen.is_lookalike_allowed)
        except ConfusablePath as error:
            session = authority.session()
            if any(session.decide("list", alike).allowed for alike in (error.alike, f"{error.alike}/")):
                raise
            message = "the path looks like one that exists"
            raise ConfusablePath(message, hint=LOOKALIKE_HINT) from None


def rows_of(history: History, entry: Entry, versions: Sequence[Version]) -> Plan:
    """Return the draft that takes a secret out of its part, with all its rows."""
    plan = Plan(changes=[(history.path, None)], deletes=[Delete(Space.HISTORY, entry.history_id)])
    plan.deletes += [Delete(Space.HISTORY, page.history_id) for page in history.older]
    for version in versions:
        _add_rows(plan, version)
    return plan


def _add_rows(plan: Plan, version: Version) -> None:
    """Add the rows of a version to those that go."""
    if version.state != DESTROYED:
        plan.deletes.append(Delete(Space.DEK, version.dek_id))
        plan.freed.append(FreedRun(Space.VALUE, version.value_id, version.value_rows + 1))


def as_runs(rows: Plan) -> list[FreedRun]:
    """Return rows that go as runs, for a delta that frees them."""
    return [*(FreedRun(delete.space, delete.id, 1) for delete in rows.deletes), *rows.freed]


def as_freed(rows: Plan) -> Plan:
    """Return the draft that frees rows, and changes nothing else."""
    return Plan(deletes=rows.deletes, freed=rows.freed)


def oldest_first(opened: OpenVault, history: History) -> Iterator[Version]:
    """Yield all versions of a secret."""
    for page in range(len(history.older)):
        yield from reversed(opened.older_versions(history, page))
    yield from reversed(history.versions)


def content_of(opened: OpenVault, located: Located) -> Content | None:
    """Return what a version holds, to be sealed anew; it does not leave this process.

    Raises:
        ScopeSealed: The key at hand does not open it.
    """
    version = located.version
    if version.state == DESTROYED:
        return None
    if not version.value_rows:
        kind, whole = opened.open_inline(located)
        return Content(kind, len(whole), lambda: (whole,))
    return Content(version.kind, version.length, lambda: opened.open_chunked(located))
