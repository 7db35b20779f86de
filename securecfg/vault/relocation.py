"""Moving secrets from one part of a vault to another, with all their history, sealed anew.

1. permit    to read and delete where they are, to write where they go
2. copy      each version is opened where it is and sealed under the keys of where it goes, as rows that nothing
             references yet; whoever reads or writes them goes on where they are
3. compare   what was changed there meanwhile is copied again
4. commit    one commit of both parts: they are gone there and here from then on
5. erase     their data keys at the old place, for ever

Until the commit a move changes nothing that anybody sees, so whoever dies leaves it to be made again.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, NamedTuple

from securecfg.audit import Event
from securecfg.errors import AlreadyExists, CommitUnknown, IntegrityError, SecretNotFound, StoreBusy, Unsupported
from securecfg.store import Delete, Space
from securecfg.vault.deltas import FreedRun
from securecfg.vault.departures import MoveNote, draft_move
from securecfg.vault.drafts import LOOKALIKE_HINT, Content, Drafts
from securecfg.vault.history import DESTROYED
from securecfg.vault.imports import Imports
from securecfg.vault.index import prefix_end
from securecfg.vault.joint import PartChange, publish_together
from securecfg.vault.maintenance import finish_destruction
from securecfg.vault.opened import Located
from securecfg.vault.publishing import Plan, new_request_id, no_writer
from securecfg.vault.staging import StagingArea, StagingMoved
from securecfg.vault.state import FLAG_DESTRUCTION_PENDING
from securecfg.vault.unfinished import UnfinishedPart
from securecfg.vault.writing import fit_in_record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from securecfg.audit import Record
    from securecfg.vault.authority import Authority, Stamp
    from securecfg.vault.history import History, Version
    from securecfg.vault.joint import Planner
    from securecfg.vault.opened import OpenVault
    from securecfg.vault.segments import Entry

    Progress = Callable[[int, int], None]

WHOLE = "/"
_ROUNDS = 16


class Place(NamedTuple):
    """A part of a vault.

    Attributes:
        authority: Decides and records in it.
        name: What the log of another part calls it: the path of a sealed scope, or `/` for what is in none.
    """

    authority: Authority
    name: str

    @property
    def opened(self) -> OpenVault:
        """The part."""
        return self.authority.opened


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


class Companions(NamedTuple):
    """What is published in the same commit as a move.

    Attributes:
        source: In the part that the secrets leave.
        target: In the part that they come to.
        others: In further parts.
        ends_source: Whether the part that they leave ends, with all that is in it.
    """

    source: Sequence[Planner] = ()
    target: Sequence[Planner] = ()
    others: Sequence[PartChange] = ()
    ends_source: bool = False


class Moved(NamedTuple):
    """What a move came to.

    Attributes:
        secrets: How many secrets were moved.
        versions: How many of their versions have a value, which whoever opened the old place may know.
    """

    secrets: int
    versions: int


class _Copy(NamedTuple):
    """A secret that was copied: as of which entry, and the rows of both sides."""

    entry: Entry
    newest: int
    versions: int
    source: Plan
    target: Plan


class Relocation:
    """A move of secrets between two parts. Used once, by one thread.

    Args:
        source: Where they are.
        target: Where they go.
        chosen: Which.
        is_exposing: Whether others than those who open the new place could read them.
        progress: Called with how many secrets are copied, and of how many.
    """

    def __init__(
        self,
        source: Place,
        target: Place,
        chosen: Subtree | Single,
        *,
        is_exposing: bool = True,
        progress: Progress | None = None,
    ) -> None:
        """Copy nothing yet."""
        self._source = source
        self._target = target
        self._chosen = chosen
        self._is_exposing = is_exposing
        self._progress = progress
        self._note_id = secrets.token_hex(8)
        self._begin()

    def run(self, companions: Callable[[], Companions] = Companions) -> Moved:
        """Move them.

        Args:
            companions: Returns what else the commit publishes, anew for each attempt.

        Raises:
            AccessDenied: The policy does not let the caller read, delete or write one of them.
            ScopeSealed: The key at hand does not open one of their values, or nobody would believe that it writes here.
            SecretNotFound: There is no such secret.
            AlreadyExists: The new path holds a secret or its history.
            ConfusablePath: The new path looks like one that exists.
            Conflict: An import that was interrupted holds one of them.
            ValueTooLarge: A value is larger than a sealed scope takes, or there are too many for one commit.
            CommitUnknown: The store failed while committing.
            StoreBusy, StoreFailed: Nothing was changed.
        """
        for place in (self._source, self._target):
            if place.opened.options.read_only:
                message = "the vault is open for reading only"
                raise Unsupported(message, hint="open it for writing")
        try:
            self._permit()
            Imports(self._source.authority).release_below(self._chosen.below)
            for _ in range(_ROUNDS):
                try:
                    stamps = self._permit()
                    self._copy_changed()
                    self._commit(stamps, companions())
                    break
                except StagingMoved:
                    self._retract()
            else:
                message = "what is to be moved is changed faster than it can be copied"
                raise StoreBusy(message, hint="try again when less is written there")
        except BaseException:
            # What is not finished is seen by nobody, and erased as a whole; a commit in doubt may have finished it.
            if not isinstance(self._target.opened.store, UnfinishedPart):
                self._arriving.abandon()
            raise
        self._arriving.conclude()
        self._source.authority.keep_counts()
        return Moved(len(self._copies), sum(copy.versions for copy in self._copies.values()))

    def _begin(self) -> None:
        self._copies: dict[bytes, _Copy] = {}
        self._arriving = StagingArea(self._target.opened)
        self._drafts = _Resealing(self._target.opened, self._arriving)

    def _retract(self) -> None:
        """Make ready for another attempt, from the start where what was copied cannot be used any more."""
        try:
            self._arriving.retract_deltas()
        except StagingMoved:
            self._arriving.abandon()
            self._begin()

    # --- 1. permit ---------------------------------------------------------------------------------------------------

    def _permit(self) -> tuple[Stamp, Stamp]:
        """Decide on every path, and return what tells the policies that decided from others."""
        source, target = self._source, self._target
        for place in (source, target):
            place.opened.refresh()
        stamps = source.opened.policy_stamp(), target.opened.policy_stamp()
        chosen = self._chosen
        paths = [path.decode() for path in self._entries()]
        if isinstance(chosen, Single):
            paths = [chosen.path.decode()]
            for place, encoded in ((source, chosen.path), (target, chosen.target)):
                seat = place.opened.replica.seat
                if seat is not None and not seat.may_write:
                    raise no_writer()
                place.opened.verify_unsealed(encoded.decode())
        targets = [chosen.target_of(path.encode()).decode() for path in paths]
        for place, action, asked in ((source, "delete", paths), (source, "read", paths), (target, "write", targets)):
            allowed = place.authority.session().decide_many(action, asked)
            for path, is_allowed in zip(asked, allowed, strict=True):
                if not is_allowed:
                    place.authority.require(action, path)
        return stamps

    def _verify_stamps(self, stamps: tuple[Stamp, Stamp]) -> None:
        """Check that the decisions still hold.

        Raises:
            StagingMoved: The policy, the roles or the scopes have changed.
        """
        if stamps != (self._source.opened.policy_stamp(), self._target.opened.policy_stamp()):
            message = "the policy changed meanwhile"
            raise StagingMoved(message)

    # --- 2. copy -----------------------------------------------------------------------------------------------------

    def _entries(self) -> dict[bytes, Entry]:
        opened = self._source.opened
        return opened.consistently(lambda: self._chosen.entries(opened))

    def _copy_changed(self) -> None:
        """Copy what is new or another than what was copied, and drop what is gone."""
        self._source.opened.refresh()
        entries = self._entries()
        if isinstance(self._chosen, Single):
            self._verify_there(self._chosen, entries.get(self._chosen.path))
        for path in self._copies.keys() - entries.keys():
            self._arriving.take(Plan(changes=[(self._chosen.target_of(path), None)]))
            self._discard(path)
        for done, (path, entry) in enumerate(entries.items(), start=1):
            known = self._copies.get(path)
            if known is None or known.entry != entry:
                self._discard(path)
                self._copy(path, entry)
            if self._progress is not None:
                self._progress(done, len(entries))
        if self._is_exposing and self._copies:
            self._note_exposure()

    def _verify_there(self, chosen: Single, entry: Entry | None) -> None:
        if entry is None or not entry.live:
            path = chosen.path.decode()
            authority = self._source.authority
            session = authority.session()
            if session.decide("list", path).allowed:
                message = f"there is no secret `{path}`"
                raise SecretNotFound(message, hint="`securecfg secret list` shows what there is")
            raise authority.deny(session, "delete", path, session.decide("delete", path))

    def _copy(self, path: bytes, entry: Entry) -> None:
        """Seal every version of a secret anew.

        Raises:
            StagingMoved: It was changed meanwhile, so that its rows are rightly gone.
        """
        opened, target = self._source.opened, self._chosen.target_of(path)
        rows = Plan()
        try:
            self._verify_free(target)
            history = opened.history(path, entry)
            versions = list(_oldest_first(opened, history))
            copied = self._drafts.begin(target, history)
            sealed = []
            for version in versions:
                content = _content_of(opened, Located(entry, history, version))
                plan, changed = self._drafts.reseal(copied.rec_id, version, content)
                _add_rows(rows, changed)
                self._arriving.take(plan)
                sealed.append(changed)
            plan = self._drafts.put(target, copied._replace(versions=tuple(reversed(sealed))))
        except IntegrityError:
            self._arriving.take(_as_freed(rows))
            opened.refresh()
            if self._chosen.entries(opened).get(path) == entry:
                raise
            message = f"`{path.decode()}` changed meanwhile"
            raise StagingMoved(message) from None
        rows.deletes += [Delete(put.space, put.id) for put in plan.puts]
        self._arriving.take(plan)
        with_value = sum(version.state != DESTROYED for version in versions)
        self._copies[path] = _Copy(entry, history.newest, with_value, rows_of(history, entry, versions), rows)

    def _verify_free(self, target: bytes) -> None:
        """Check that nothing is where a secret goes.

        Raises:
            AlreadyExists: Something is.
            ConfusablePath: Something that looks like it is.
        """
        if self._arriving.entry(target) is not None:
            message = f"`{target.decode()}` exists already"
            raise AlreadyExists(message, hint="choose another path; even a deleted secret keeps its history")
        if isinstance(self._chosen, Single):
            self._drafts.verify_no_lookalike(target, self._target.authority, self._chosen)

    def _discard(self, path: bytes) -> None:
        """Give up a copy that was made before, whose rows the delta of the move frees."""
        copy = self._copies.pop(path, None)
        if copy is not None:
            self._arriving.take(Plan(changes=[(self._chosen.target_of(path), None)]))
            self._arriving.take(_as_freed(copy.target))

    def _note_exposure(self) -> None:
        """Note in the new place that others may know what came."""
        author, opened = self._target.authority.identity.principal, self._target.opened
        ending = self._arriving.allocate()
        note = MoveNote(
            self._note_id, self._source.name, self._chosen.target_below, opened.clock.now_ns(), next_id=ending
        )
        self._arriving.take(draft_move(self._drafts, note, author))

    # --- 3. compare, 4. commit, 5. erase -----------------------------------------------------------------------------

    def _commit(self, stamps: tuple[Stamp, Stamp], companions: Companions) -> None:
        request_id = new_request_id()

        def verify() -> None:
            self._verify_stamps(stamps)
            self._verify_copied()

        comes = _recorder(self._target, self._arriving, self._items(targets=True), request_id, source=self._source.name)
        arriving = [self._arriving.prepare(comes, verify)] if self._copies else []
        changes = [PartChange(self._target.opened, [*arriving, *companions.target]), *companions.others]
        leaving = StagingArea(self._source.opened)
        try:
            if companions.ends_source:
                changes.append(PartChange(self._source.opened, verify_end=verify))
            else:
                if self._copies:
                    leaving.allocate()  # until the commit nobody may take its deltas for leftovers
                for path, copy in self._copies.items():
                    leaving.entry(path)
                    leaving.take(copy.source)
                goes = _recorder(self._source, leaving, self._items(targets=False), request_id, to=self._target.name)
                left = [leaving.prepare(goes, verify, flags=FLAG_DESTRUCTION_PENDING)] if self._copies else []
                changes.append(PartChange(self._source.opened, [*left, *companions.source]))
            _join(changes)
            publish_together(changes)
        except CommitUnknown as error:
            leaving.abandon()
            raise CommitUnknown(error.message, request_id=request_id, hint=error.hint) from None
        except BaseException:
            leaving.abandon()
            raise
        if not companions.ends_source:
            leaving.conclude()

    def erase(self) -> None:
        """Make the data keys at the old place unrecoverable.

        Raises:
            DestroyPending: Bytes may lie in the store's log until another reader lets go; the next opener finishes.
        """
        if self._source.opened.is_destruction_pending:
            finish_destruction(self._source.opened)

    def _verify_copied(self) -> None:
        """Check, under the lock of the part, that what was copied is all that there is.

        Raises:
            StagingMoved: Something was changed since.
        """
        if self._chosen.entries(self._source.opened) != {path: copy.entry for path, copy in self._copies.items()}:
            message = "what is to be moved has changed meanwhile"
            raise StagingMoved(message)

    def _items(self, *, targets: bool) -> list[tuple[str, int]]:
        return [
            ((self._chosen.target_of(path) if targets else path).decode(), copy.newest)
            for path, copy in self._copies.items()
        ]


class _Resealing(Drafts):
    """Drafts of secrets that were elsewhere before."""

    def begin(self, path: bytes, history: History) -> History:
        """Return the front of a history that continues under a new number of its own."""
        return history._replace(rec_id=self._workspace.allocate(), path=path, older=(), versions=())

    def reseal(self, rec_id: int, version: Version, content: Content | None) -> tuple[Plan, Version]:
        """Return the draft of a version under keys of this part; of a destroyed one nothing but its line is left."""
        plan = Plan()
        if content is None:
            return plan, version
        record = rec_id, version.number
        place = self._seal_content(plan, record, version.created, content, is_system=False)
        return plan, version._replace(**place._asdict())

    def put(self, path: bytes, history: History) -> Plan:
        """Return the draft of the index entry."""
        return self._put_history(Plan(), path, None, history)

    def verify_no_lookalike(self, path: bytes, authority: Authority, chosen: Single) -> None:
        """Check that a path does not look like another one; of one that may not be listed nothing is told.

        Raises:
            ConfusablePath: It does.
        """
        from securecfg.errors import ConfusablePath

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


def _as_freed(rows: Plan) -> Plan:
    return Plan(deletes=rows.deletes, freed=rows.freed)


def _oldest_first(opened: OpenVault, history: History) -> Iterator[Version]:
    for page in range(len(history.older)):
        yield from reversed(opened.older_versions(history, page))
    yield from reversed(history.versions)


def _content_of(opened: OpenVault, located: Located) -> Content | None:
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


def _recorder(
    place: Place, area: StagingArea, items: Sequence[tuple[str, int]], request_id: str, **where: str
) -> Callable[[], list[Record]]:
    """Return what makes the record of what leaves a part or comes to it; parts of it are staged now."""
    obj: dict[str, object] = {"count": len(items), "change": Event.SECRET_MOVED.value, **where}
    if items and not fit_in_record(items):
        obj["parts"] = area.stage_parts(items)
    else:
        obj["items"] = [list(item) for item in items]
    return lambda: [place.authority.session().record(Event.BATCH_WRITTEN, obj, request_id=request_id)]


def _join(changes: list[PartChange]) -> None:
    """Put what several changes do in one part into one."""
    joined: dict[int, PartChange] = {}
    for change in changes:
        part = change.opened.store.part
        known = joined.get(part)
        joined[part] = change if known is None else known._replace(planners=[*known.planners, *change.planners])
    changes[:] = joined.values()
