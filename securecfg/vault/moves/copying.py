"""Copies of secrets in another part of a vault: the same history, sealed anew under the keys of that part."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING, NamedTuple

from securecfg.errors import ConfusablePath, IntegrityError
from securecfg.store import Delete, Space
from securecfg.vault.commits.publishing import Plan
from securecfg.vault.drafts import LOOKALIKE_HINT, Content, Drafts
from securecfg.vault.index.deltas import FreedRun
from securecfg.vault.index.history import DESTROYED
from securecfg.vault.index.in_memory import prefix_end
from securecfg.vault.opened import Located

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from securecfg.vault.authority import Authority
    from securecfg.vault.index.history import History, OlderPage, Version
    from securecfg.vault.index.segments import Entry
    from securecfg.vault.opened import OpenVault


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


class Original(NamedTuple):
    """A secret as it is where it is copied from.

    Attributes:
        entry: Its entry there.
        history: The front of its history.
        versions: All of it, the oldest first.
    """

    entry: Entry
    history: History
    versions: Sequence[Version]

    @classmethod
    def read(cls, opened: OpenVault, path: bytes, entry: Entry, before: Original | None = None) -> Original:
        """Read it.

        Args:
            opened: The part that it is in.
            path: Its path there.
            entry: Its entry.
            before: The same secret as it was read before; pages that are as they were then are not read again.

        Raises:
            IntegrityError: It is not what the entry says, perhaps because it was changed meanwhile.
        """
        history = opened.history(path, entry)
        known = before.history.older if before is not None else ()
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(history.older, known, strict=False)))
        versions = list(before.versions[: sum(map(_count, known[:same]))]) if before is not None else []
        for page in range(same, len(history.older)):
            versions += reversed(opened.older_versions(history, page))
        return cls(entry, history, [*versions, *reversed(history.versions)])


class Copy(NamedTuple):
    """A secret that was copied.

    Attributes:
        entry: What it was copied from.
        newest: The number of its newest version then.
        versions: How many of its versions have a value.
        target: Its entry in the new part.
        source: What takes it out of the old one; None where it is traced.
        trace: What tells at once what is new of it, where it was changed during the move and may be changed again.
    """

    entry: Entry
    newest: int
    versions: int
    target: Entry
    source: Plan | None
    trace: Trace | None

    def leave(self) -> Plan:
        """Return the draft that takes the secret out of the old part."""
        if self.trace is not None:
            return rows_of(self.trace.original)
        return self.source or Plan()


class Trace(NamedTuple):
    """What was read of a secret, and written of its copy.

    Attributes:
        original: What was read.
        lines: The versions of the copy, by number.
    """

    original: Original
    lines: Mapping[int, Version]


class Resealing(Drafts):
    """Drafts of secrets that were elsewhere before."""

    def copy(
        self,
        opened: OpenVault,
        original: Original,
        target: bytes,
        known: Copy | None,
        take: Callable[[Plan], None],
    ) -> Copy:
        """Seal anew every version of a secret that was not copied before, and write its history.

        Args:
            opened: The part that it is in.
            original: What it is there.
            target: Its path here.
            known: The copy that was made before, of the same secret.
            take: Takes up what was drafted, one version after the other.
        """
        entry, history, versions = original
        before = self.find(target, known.target) if known is not None else None
        lines: Mapping[int, Version] = {}
        if known is not None and before is not None:
            lines = known.trace.lines if known.trace is not None else self.lines(before)
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
        older = before.older if before is not None else ()
        plan = self.put(history._replace(rec_id=rec_id, path=target, older=older, versions=()), sealed, lines)
        if known is not None:
            gone.freed.append(FreedRun(Space.HISTORY, known.target.history_id, 1))
        take(as_freed(gone))
        take(plan)
        ((_, put),) = plan.changes
        if put is None:
            raise TypeError
        with_value = sum(version.state != DESTROYED for version in versions)
        if known is None:
            return Copy(entry, history.newest, with_value, put, rows_of(original), None)
        trace = Trace(original, {version.number: version for version in sealed})
        return Copy(entry, history.newest, with_value, put, None, trace)

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

    def put(self, front: History, versions: Sequence[Version], lines: Mapping[int, Version]) -> Plan:
        """Return the draft of a history and its index entry; older pages that are as they were before stay.

        Args:
            front: What it is to say, with the older pages as they were drafted before.
            versions: The oldest first.
            lines: The versions as they were drafted before.
        """
        plan, places = Plan(), front.older
        kept = at = 0
        for place in places:
            page = versions[at : at + _count(place)]
            if page != [lines.get(number) for number in range(place.first, place.last + 1)]:
                break
            at += len(page)
            kept += 1
        plan.freed += [FreedRun(Space.HISTORY, place.history_id, 1) for place in places[kept:]]
        front = front._replace(older=places[:kept], versions=tuple(reversed(versions[at:])))
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


def _count(page: OlderPage) -> int:
    return page.last - page.first + 1


def rows_of(original: Original) -> Plan:
    """Return the draft that takes a secret out of its part, with all its rows."""
    entry, history, versions = original
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
        return Content.of(kind, whole)
    return Content(version.kind, version.length, lambda: opened.open_chunked(located))
