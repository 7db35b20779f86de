"""Moving secrets from one part of a vault to another, with all their history, sealed anew.

1. permit    to read and delete where they are, to write where they go
2. copy      each version is opened where it is and sealed under the keys of where it goes, as rows that nothing
             references yet; whoever reads or writes them goes on where they are
3. compare   what was changed there meanwhile is copied again; what is changed all the time is copied in the commit
4. commit    one commit of both parts: they are gone there and here from then on
5. erase     their data keys at the old place, for ever

Until the commit a move changes nothing that anybody sees, so whoever dies leaves it to be made again.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, NamedTuple

from securecfg.audit import Event
from securecfg.errors import (
    AccessDenied,
    AlreadyExists,
    CommitUnknown,
    Conflict,
    IntegrityError,
    SecretNotFound,
    StoreBusy,
    Unsupported,
)
from securecfg.vault.commits.joint import PartChange, publish_together
from securecfg.vault.commits.maintenance import finish_destruction
from securecfg.vault.commits.publishing import Plan, new_request_id, no_writer
from securecfg.vault.commits.staging import StagingArea, StagingMoved
from securecfg.vault.commits.unfinished import UnfinishedPart
from securecfg.vault.imports.steps import Imports
from securecfg.vault.index.in_memory import prefix_end
from securecfg.vault.keys.departures import draft_move
from securecfg.vault.moves.copying import Copy, Original, Resealing, Single, Subtree, as_freed, as_runs, rows_of
from securecfg.vault.moves.notes import RelocationNotes
from securecfg.vault.paths import ROTATIONS
from securecfg.vault.state.head import FLAG_DESTRUCTION_PENDING
from securecfg.vault.writing import fit_in_record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from securecfg.audit import Record
    from securecfg.vault.authority import Authority, Stamp
    from securecfg.vault.commits.joint import Planner
    from securecfg.vault.commits.publishing import Publication
    from securecfg.vault.index.segments import Entry
    from securecfg.vault.opened import OpenVault

    Progress = Callable[[int, int], None]

WHOLE = "/"
_ROUNDS = 16
_ROUNDS_IN_RACE = 2
_CATCH_UPS_MAX = 4
# What is copied in the commit is to fit into it, besides all else.
_LATE_MAX = 8
_LATE_OPERATIONS_MAX = 24
_LATE_BYTES_MAX = 400_000


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


class Companions(NamedTuple):
    """What is published in the same commit as a move.

    Attributes:
        source: In the part that the secrets leave.
        target: In the part that they come to.
        others: In further parts.
        ends_source: Whether the part that they leave ends, with all that is in it.
        source_writer: Vouches for what the commit does in the part that they leave, where the key at hand does not.
        target_writer: The same for the part that they come to.
        verify_settled: Raises where something waits in the part that they leave which the commit would strand.
    """

    source: Sequence[Planner] = ()
    target: Sequence[Planner] = ()
    others: Sequence[PartChange] = ()
    ends_source: bool = False
    source_writer: Ed25519PrivateKey | None = None
    target_writer: Ed25519PrivateKey | None = None
    verify_settled: Callable[[], None] | None = None


class Moved(NamedTuple):
    """What a move came to.

    Attributes:
        secrets: How many secrets were moved.
        versions: How many of their versions have a value, which whoever opened the old place may know.
    """

    secrets: int
    versions: int


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
        self._imports = Imports(source.authority)
        self._imported: dict[bytes, Entry] = {}
        self._permitted: set[str] = set()
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
            Conflict: An import that was interrupted holds one of them, or one is rotated.
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
            for attempt in range(_ROUNDS):
                try:
                    stamps = self._permit()
                    self._release()
                    self._copy_changed()
                    self._commit(stamps, companions(), attempt)
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
        moved = (self._copies | self._caught_up).values()
        return Moved(len(moved), sum(copy.versions for copy in moved))

    def _begin(self) -> None:
        self._copies: dict[bytes, Copy] = {}
        self._leaving: dict[bytes, Copy] = {}
        self._caught_up: dict[bytes, Copy] = {}
        self._planted: dict[bytes, Entry] = {}
        self._arriving = StagingArea(self._target.opened)
        self._drafts = Resealing(self._target.opened, self._arriving)
        self._notes = RelocationNotes(
            self._source,
            self._target,
            self._chosen,
            arriving=self._arriving,
            drafts=self._drafts,
            note_id=self._note_id,
            is_exposing=self._is_exposing,
        )

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
                place.opened.verify_own(encoded.decode())
        targets = [chosen.target_of(path.encode()).decode() for path in paths]
        for place, action, asked in ((source, "delete", paths), (source, "read", paths), (target, "write", targets)):
            allowed = place.authority.session().decide_many(action, asked)
            for path, is_allowed in zip(asked, allowed, strict=True):
                if not is_allowed:
                    self._require(place, action, path)
        self._verify_not_rotated()
        self._permitted = set(paths)
        return stamps

    def _verify_not_rotated(self) -> None:
        """Check that nothing rotates a secret: its rotation lies in the part that it leaves, and would be lost.

        Raises:
            Conflict: Something does.
        """
        found = self._source.opened.entries(ROTATIONS, prefix_end(ROTATIONS))
        rotated = {name for name, entry in found if entry.live}
        for path, entry in self._entries().items() if rotated else ():
            if ROTATIONS + b"%016x" % entry.rec_id in rotated:
                what = path.decode() if isinstance(self._chosen, Single) else self._chosen.below
                message = f"`{what}` is rotated, or something below it"
                hint = "and set it again where the secret goes"
                raise Conflict(message, hint=f"end its rotation first, `securecfg rotation unset PATH`, {hint}")

    def _require(self, place: Place, action: str, path: str) -> None:
        """Refuse where an action is not allowed; of a secret that the caller may not list the error names the folder.

        Raises:
            AccessDenied: It is not allowed.
        """
        try:
            place.authority.require(action, path)
        except AccessDenied:
            if isinstance(self._chosen, Single) or place.authority.session().decide("list", path).allowed:
                raise
            message = (
                f"`{place.authority.identity.principal}` may not {action} all secrets below `{self._chosen.below}`"
            )
            raise AccessDenied(message, hint="who may list them sees which: `securecfg secret list`") from None

    def _release(self) -> None:
        """Destroy the undo material that holds what is moved; what comes of it until the commit is looked at again."""
        opened, imports = self._source.opened, self._imports
        while True:
            opened.refresh()
            self._imported = opened.consistently(imports.entries)
            imports.release_below(self._chosen.below)
            opened.refresh()
            if self._imported == opened.consistently(imports.entries):
                return

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
        self._clear()
        is_noted = self._notes.read()
        entries = self._entries()
        if isinstance(self._chosen, Single):
            self._verify_there(self._chosen, entries.get(self._chosen.path))
        if any(path.decode() not in self._permitted for path in entries):
            message = "a secret was added since it was decided what may be moved"
            raise StagingMoved(message)
        for path in self._copies.keys() - entries.keys():
            self._discard(path)
        for done, (path, entry) in enumerate(entries.items(), start=1):
            known = self._copies.get(path)
            if known is None or known.entry != entry or is_noted:
                self._copy_now(path, entry)
            if self._progress is not None:
                self._progress(done, len(entries))
        if self._copies:
            self._notes.stage()

    def _entries_there(self) -> dict[bytes, Entry]:
        """Return what lies where a subtree goes."""
        return self._chosen.entries(self._target.opened) if isinstance(self._chosen, Subtree) else {}

    def _clear(self) -> None:
        """Take out what lies where a subtree goes: it was put there while that was not its part, and is void.

        Its rows are left alone, since whoever put it there may have had it name the rows of other secrets.
        """
        opened = self._target.opened
        opened.refresh()
        found = opened.consistently(self._entries_there)
        new = found.keys() - self._planted.keys()
        is_changed = any(found.get(path) != entry for path, entry in self._planted.items())
        if is_changed or any(self._chosen.target_of(path) in new for path in self._copies):
            self._arriving.abandon()
            self._begin()
        for path, entry in found.items():
            if path not in self._planted:
                self._planted[path] = entry
                self._arriving.entry(path)
                self._arriving.take(Plan(changes=[(path, None)]))

    def _verify_there(self, chosen: Single, entry: Entry | None) -> None:
        if entry is None or not entry.live:
            path = chosen.path.decode()
            authority = self._source.authority
            session = authority.session()
            if session.decide("list", path).allowed:
                message = f"there is no secret `{path}`"
                raise SecretNotFound(message, hint="`securecfg secret list` shows what there is")
            raise authority.deny(session, "delete", path, session.decide("delete", path))

    def _copy_now(self, path: bytes, entry: Entry) -> None:
        """Copy a secret, or what is new of one that was copied before.

        Raises:
            StagingMoved: It was changed meanwhile, so that its rows are rightly gone.
        """
        opened, known = self._source.opened, self._copies.get(path)
        if known is not None and known.entry.rec_id != entry.rec_id:
            self._discard(path)
            known = None
        target = self._chosen.target_of(path)
        original = None
        try:
            if known is None:
                self._verify_free(target)
            original = self._original(path, entry, known)
            self._copies[path] = self._drafts.copy(opened, original, target, known, self._arriving.take)
            self._notes.carry(path, original, self._copies[path])
        except IntegrityError:
            opened.refresh()
            if opened.entry(path) == (original.entry if original is not None else entry):
                raise
            message = f"`{path.decode()}` changed meanwhile"
            raise StagingMoved(message) from None

    def _original(self, path: bytes, entry: Entry, known: Copy | None) -> Original:
        """Return a secret as it is now, which may be newer than an entry that was just looked up.

        Raises:
            StagingMoved: It is gone, or another one.
        """
        opened = self._source.opened
        while True:
            try:
                return Original.read(opened, path, entry, _original_of(known))
            except IntegrityError:
                opened.refresh()
                newer = opened.entry(path)
                if newer == entry:
                    raise
            if newer is None or newer.rec_id != entry.rec_id:
                message = f"`{path.decode()}` changed meanwhile"
                raise StagingMoved(message)
            entry = newer

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
        copy, target = self._copies.pop(path), self._chosen.target_of(path)
        history = self._drafts.find(target, copy.target)
        rows = rows_of(Original(copy.target, history, list(self._drafts.lines(history).values())))
        self._arriving.take(Plan(changes=[(target, None)]))
        self._arriving.take(as_freed(rows))

    # --- 3. compare, 4. commit, 5. erase -----------------------------------------------------------------------------

    def _commit(self, stamps: tuple[Stamp, Stamp], companions: Companions, attempt: int) -> None:
        """Publish the move.

        Args:
            stamps: The policies that decided.
            companions: What is published with it.
            attempt: How many were made before. The first ones begin anew where anything was changed meanwhile. A writer
                without a pause would be faster every time, so later ones copy it in the commit, which keeps it out.
        """
        is_racing = attempt < _ROUNDS_IN_RACE
        request_id = new_request_id()

        def verify() -> None:
            self._verify_stamps(stamps)
            self._verify_copied(is_racing=is_racing)
            self._verify_not_rotated()  # it may have been set since

        leaving = StagingArea(self._source.opened)
        try:
            departure = self._depart(leaving, companions, request_id, verify)
            if not is_racing:
                self._catch_up()
            changes = [self._arrive(companions, request_id, verify), *companions.others, departure]
            _join(changes)
            publish_together(changes, reserves=not is_racing)
        except CommitUnknown as error:
            leaving.abandon()
            raise CommitUnknown(error.message, request_id=request_id, hint=error.hint) from None
        except BaseException:
            leaving.abandon()
            raise
        if not companions.ends_source:
            leaving.conclude()

    def _depart(
        self, leaving: StagingArea, companions: Companions, request_id: str, verify: Callable[[], None]
    ) -> PartChange:
        """Return what becomes of the part that the secrets leave."""
        opened = self._source.opened
        self._leaving = dict(self._copies)
        if companions.ends_source:
            return PartChange(opened, (), verify, companions.verify_settled)
        planners: list[Planner] = []
        if self._copies:
            for copy in self._copies.values():
                leaving.take(copy.leave())
            goes = _recorder(self._source, leaving, self._items(targets=False), request_id, to=self._target.name)
            planners.append(leaving.prepare(goes, verify, flags=FLAG_DESTRUCTION_PENDING))
        else:
            planners.append(_verifying(verify))
        planners.append(lambda publication: self._plan_late_departure(publication, request_id))
        planners = [_vouched(planner, companions.source_writer) for planner in (*planners, *companions.source)]
        return PartChange(opened, planners, verify_settled=companions.verify_settled)

    def _arrive(self, companions: Companions, request_id: str, verify: Callable[[], None]) -> PartChange:
        """Return what becomes of the part that the secrets come to."""
        came = _recorder(self._target, self._arriving, self._items(targets=True), request_id, source=self._source.name)

        def comes() -> list[Record]:
            return [*(came() if self._copies else ()), *self._cleared(request_id)]

        planners: list[Planner] = [self._arriving.prepare(comes, verify)] if self._copies or self._planted else []
        planners.append(lambda publication: self._plan_late_arrival(publication, request_id))
        planners = [_vouched(planner, companions.target_writer) for planner in (*planners, *companions.target)]
        return PartChange(self._target.opened, planners)

    def _catch_up(self) -> None:
        """Copy again what was changed while all was made ready, so that little is left for the commit."""
        for _ in range(_CATCH_UPS_MAX):
            self._source.opened.refresh()
            changed = {
                path: entry
                for path, entry in self._entries().items()
                if path in self._copies and self._copies[path].entry != entry
            }
            if not changed:
                break
            for path, entry in changed.items():
                self._copy_now(path, entry)
            self._notes.stage()

    def erase(self) -> None:
        """Make the data keys at the old place unrecoverable.

        Raises:
            DestroyPending: Bytes may lie in the store's log until another reader lets go; the next opener finishes.
        """
        if self._source.opened.is_destruction_pending:
            finish_destruction(self._source.opened)

    def _verify_copied(self, *, is_racing: bool) -> None:
        """Check, under the lock of the part, that what was copied is all that there is.

        Raises:
            StagingMoved: Something was changed since, or more than can be copied now.
        """
        if self._entries_there() != self._planted:
            message = "something was put where the secrets go"
            raise StagingMoved(message)
        if self._imported != self._imports.entries():
            message = "something was imported meanwhile"
            raise StagingMoved(message)
        if self._notes.have_changed():
            message = "something was noted meanwhile"
            raise StagingMoved(message)
        if len(self._changed_late(self._copies)) > (0 if is_racing else _LATE_MAX):
            message = "what is to be moved has changed meanwhile"
            raise StagingMoved(message)

    def _changed_late(self, before: Mapping[bytes, Copy]) -> dict[bytes, Entry]:
        """Return what is another than when it was copied, as it is now that nobody else can change it.

        Raises:
            StagingMoved: A secret is gone, or new.
        """
        found = self._chosen.entries(self._source.opened)
        if found.keys() != before.keys() or any(before[path].entry.rec_id != found[path].rec_id for path in found):
            message = "secrets were added or removed meanwhile"
            raise StagingMoved(message)
        return {path: entry for path, entry in found.items() if entry != before[path].entry}

    def _plan_late_arrival(self, publication: Publication, request_id: str) -> Plan:
        """Plan to copy in the commit itself what has changed since it was copied.

        Raises:
            StagingMoved: It is too much, or somebody is noted to know what is new of it.
        """
        whole, drafts, first = Plan(), Resealing(self._target.opened, publication), publication.next_id
        self._caught_up = {}
        for path, entry in self._changed_late(self._copies).items():
            known, target = self._copies[path], self._chosen.target_of(path)
            original = Original.read(self._source.opened, path, entry, _original_of(known))
            if self._notes.is_known_to_more(path, original):
                message = f"others may know what has become of `{path.decode()}` meanwhile"
                raise StagingMoved(message)
            self._caught_up[path] = drafts.copy(self._source.opened, original, target, known, whole.join)
        items = [(self._chosen.target_of(path).decode(), copy.newest) for path, copy in self._caught_up.items()]
        _verify_small(whole)
        if items:
            if self._is_exposing:
                author = self._target.authority.identity.principal
                note = self._notes.note_of_move(publication.next_id, (first, publication.next_id - 1))
                whole.join(draft_move(drafts, note, author))
            whole.records = [_record(self._target, items, request_id, source=self._source.name)]
        return whole

    def _plan_late_departure(self, publication: Publication, request_id: str) -> Plan:
        """Plan to take out of the old part what has changed since that was prepared.

        Raises:
            StagingMoved: It is too much.
        """
        whole, items, opened = Plan(), [], self._source.opened
        for path, entry in self._changed_late(self._leaving).items():
            original = Original.read(opened, path, entry, _original_of(self._copies[path]))
            gone = rows_of(original)
            whole.changes += gone.changes
            # The history may be long. Most of it is freed by the delta that was staged for this commit.
            staged = set(as_runs(self._leaving[path].leave()))
            whole.freed += [run for run in as_runs(gone) if run not in staged]
            items.append((path.decode(), original.history.newest))
        _verify_small(whole)
        if items:
            whole.records = [_record(self._source, items, request_id, to=self._target.name)]
            whole.state["flags"] = publication.state.flags | FLAG_DESTRUCTION_PENDING
        return whole

    def _cleared(self, request_id: str) -> list[Record]:
        """Return the record of what was taken out of the place where the secrets go."""
        if not self._planted:
            return []
        items = [(path.decode(), 0) for path in sorted(self._planted)]
        obj: dict[str, object] = {"count": len(items), "change": Event.SECRET_DESTROYED.value}
        if fit_in_record(items):
            obj["items"] = [list(item) for item in items]
        return [self._target.authority.session().record(Event.BATCH_WRITTEN, obj, request_id=request_id)]

    def _items(self, *, targets: bool) -> list[tuple[str, int]]:
        return [
            ((self._chosen.target_of(path) if targets else path).decode(), copy.newest)
            for path, copy in self._copies.items()
        ]


def _original_of(copy: Copy | None) -> Original | None:
    return copy.trace.original if copy is not None and copy.trace is not None else None


def _verify_small(late: Plan) -> None:
    """Check that what is left for a commit fits into it, besides all else.

    Raises:
        StagingMoved: It does not.
    """
    operations, size = late.cost()
    if late.streams or operations > _LATE_OPERATIONS_MAX or size > _LATE_BYTES_MAX:
        message = "what is changed all the time does not fit into one commit"
        raise StagingMoved(message)


def _verifying(verify: Callable[[], None]) -> Planner:
    """Return what plans nothing, and raises where what was decided holds no more."""

    def plan(_publication: Publication) -> Plan:
        verify()
        return Plan()

    return plan


def _vouched(planner: Planner, writer: Ed25519PrivateKey | None) -> Planner:
    """Return a planner whose plan somebody else than the key at hand vouches for."""

    def plan(publication: Publication) -> Plan:
        planned = planner(publication)
        if writer is not None and publication.is_sealed:
            planned.writer = writer
        return planned

    return plan


def _recorder(
    place: Place, area: StagingArea, items: Sequence[tuple[str, int]], request_id: str, **where: str
) -> Callable[[], list[Record]]:
    """Return what makes the record of what leaves a part or comes to it; parts of it are staged now."""
    parts = area.stage_parts(items) if items and not fit_in_record(items) else None
    return lambda: [_record(place, items, request_id, parts, **where)]


def _record(
    place: Place,
    items: Sequence[tuple[str, int]],
    request_id: str,
    parts: list[list[str]] | None = None,
    **where: str,
) -> Record:
    obj: dict[str, object] = {"count": len(items), "change": Event.SECRET_MOVED.value, **where}
    obj |= {"items": [list(item) for item in items]} if parts is None else {"parts": parts}
    return place.authority.session().record(Event.BATCH_WRITTEN, obj, request_id=request_id)


def _join(changes: list[PartChange]) -> None:
    """Put what several changes do in one part into one."""
    joined: dict[int, PartChange] = {}
    for change in changes:
        part = change.opened.store.part
        known = joined.get(part)
        joined[part] = change if known is None else known._replace(planners=[*known.planners, *change.planners])
    changes[:] = joined.values()
