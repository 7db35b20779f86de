"""The way of a write.

1. who asks            the session
2. may they            the policy, on each action and path
3. draft               seal the value, wrap its key, make the history row and the index entry
4. publish             {rows, delta, log leaf, checkpoint, head} as one atomic batch
5. anchor              the new checkpoint, recorded outside
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, cast

from securecfg.audit import Event
from securecfg.audit.record import format_time
from securecfg.errors import (
    Conflict,
    ConfusablePath,
    IntegrityError,
    SecretNotFound,
    StoreBusy,
    Unsupported,
)
from securecfg.vault.authority import PolicyMoved
from securecfg.vault.commits.publishing import BYTES_FOR_PLANS, OPERATIONS_FOR_PLANS, Plan, new_request_id, no_writer
from securecfg.vault.commits.staging import StagingArea, StagingMoved
from securecfg.vault.drafts import LOOKALIKE_HINT, Drafts
from securecfg.vault.index.lookalikes import NewNames

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from securecfg.audit import Record
    from securecfg.errors import AccessDenied
    from securecfg.store import Space
    from securecfg.vault.authority import Authority, Stamp
    from securecfg.vault.commits.publishing import Publication
    from securecfg.vault.drafts import Content, NewVersion
    from securecfg.vault.index.segments import Entry

    Draft = Callable[[Drafts], Plan]

_RETRIES = 16
_AT_ONCE_MAX = 12
_SINGLE_MAX = 32
# These say no more than a path and a version. Everything else gets a record of its own as long as there is room.
_LISTED = frozenset((Event.SECRET_WRITTEN, Event.SECRET_DELETED, Event.SECRET_UNDELETED))
_ITEMS_IN_RECORD = 100
_ITEMS_IN_RECORD_BYTES = 16_384


class _TooLarge(Conflict):
    """The draft needs a staging."""

    code = "needs-staging"


class _Unlisted(Conflict):
    """There is no such secret, which the caller may not know: it looks like a denial."""

    code = "unlisted"

    def __init__(self, action: str, path: str) -> None:
        super().__init__("there is nothing, and the caller may not know")
        self.action = action
        self.path = path


class Wanted(Protocol):
    """One change that a caller asks for."""

    @property
    def rights(self) -> tuple[tuple[str, str], ...]:
        """The actions and paths that it needs."""
        ...

    @property
    def draft(self) -> Draft:
        """Makes the rows."""
        ...

    @property
    def event(self) -> Event:
        """What the log calls it."""
        ...

    @property
    def describe(self) -> Callable[[object], Mapping[str, object]]:
        """Returns the record's object for the draft's result."""
        ...

    def items(self, result: object) -> Sequence[tuple[str, int]]:
        """Return the paths and versions by which a list of changes shows it, for the draft's result."""
        ...


class WantedChange(NamedTuple):
    """A change of any kind; for its parts see `Wanted`."""

    rights: tuple[tuple[str, str], ...]
    draft: Draft
    event: Event
    describe: Callable[[object], Mapping[str, object]]

    def items(self, result: object) -> Sequence[tuple[str, int]]:
        """Return the paths and versions of it: of a move both paths, one after the other."""
        obj = self.describe(result)
        number = obj.get("ver", result)
        version = number if isinstance(number, int) else 0
        return [(str(obj[name]), version) for name in ("path", "to") if name in obj]


class WantedWrite:
    """A new version of a secret.

    A batch may hold 200,000. With a function for each part the collector of cycles would look through six times as many
    objects as the batch has secrets, again and again.

    Args:
        path: Where.
        encoded: The path's bytes.
        content: What is to be sealed.
        new: What is asked for besides.
    """

    __slots__ = ("_content", "_encoded", "_new", "_path")

    event = Event.SECRET_WRITTEN

    def __init__(self, path: str, encoded: bytes, content: Content, new: NewVersion) -> None:
        """Keep what is to be written."""
        self._path, self._encoded, self._content, self._new = path, encoded, content, new

    @property
    def rights(self) -> tuple[tuple[str, str], ...]:
        """The right to write at the path."""
        return (("write", self._path),)

    def draft(self, drafts: Drafts) -> Plan:
        """Make the rows."""
        return drafts.write(self._encoded, self._content, self._new)

    def describe(self, number: object) -> Mapping[str, object]:
        """Return the record's object for the number of the version."""
        obj: dict[str, object] = {"path": self._path, "ver": number}
        if self._new.expires:
            obj["expires"] = format_time(self._new.expires)
        return obj

    def items(self, number: object) -> Sequence[tuple[str, int]]:
        """Return the path and the number of the version."""
        return ((self._path, cast("int", number)),)


class Writes:
    """The changes of one identity.

    Args:
        authority: Decides and records for it.
        unmounting: The folder of a mount that ends with the changes.
    """

    def __init__(self, authority: Authority, unmounting: str | None = None) -> None:
        """Change nothing yet."""
        self._authority = authority
        self._opened = authority.opened
        self._unmounting = unmounting

    def apply(self, wanted: Wanted, *, is_large: bool = False) -> object:
        """Make one change durable and return the draft's result.

        Args:
            wanted: The change.
            is_large: Whether it is known not to fit into one publication.

        Raises:
            AccessDenied: The policy does not allow it.
            CommitUnknown: The store failed while committing.
            Unsupported: The vault is open for reading only.
        """
        for _ in range(_RETRIES):
            try:
                stamp = self._require(wanted.rights)
                if is_large:
                    return self._apply_staged([wanted], stamp, in_batch=False)[0]
                return self._apply_at_once(wanted, stamp)
            except _TooLarge:
                is_large = True
            except _Unlisted as error:
                raise self._denial(error) from None
            except (PolicyMoved, StagingMoved):
                continue
        raise _too_busy()

    def apply_batch(self, batch: Sequence[Wanted]) -> list[object]:
        """Make many changes durable in one transaction and return their results, in order.

        Raises:
            AccessDenied: The policy does not allow one of them; none is made.
            CommitUnknown: The store failed while committing.
            Unsupported: The vault is open for reading only.
        """
        if not batch:
            return []
        for _ in range(_RETRIES):
            try:
                stamp = self._require([right for wanted in batch for right in wanted.rights])
                if len(batch) <= _AT_ONCE_MAX:
                    try:
                        return self._apply_batch_at_once(batch, stamp)
                    except _TooLarge:
                        pass
                return self._apply_staged(batch, stamp, in_batch=True)
            except (PolicyMoved, StagingMoved):
                continue
            except _Unlisted as error:
                raise self._denial(error) from None
        raise _too_busy()

    def _require(self, rights: Sequence[tuple[str, str]]) -> Stamp:
        if self._opened.options.read_only:
            message = "the vault is open for reading only"
            raise Unsupported(message, hint="open it for writing")
        # Taken before the decisions, so that none of them is under an older policy; one that is old itself starts over.
        stamp = self._opened.policy_stamp()
        for action, path in rights if len(rights) <= _AT_ONCE_MAX else self._find_refused(rights):
            self._authority.require(action, path)
        seat = self._opened.replica.seat
        # What has no path is a document of the scope itself, which its administrators may change too.
        if seat is not None and not (
            seat.may_write or (seat.signer is not None and not any(path for _, path in rights))
        ):
            raise no_writer()
        if seat is not None or self._opened.scopes() is not None or self._opened.mounts():
            for _, path in rights:
                self._opened.verify_own(path, self._unmounting)
        return stamp

    def _find_refused(self, rights: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Return which of many rights are not given. Deciding them together is much faster than one by one."""
        self._opened.refresh()
        session = self._authority.session()
        paths: dict[str, list[str]] = {}
        for action, path in rights:
            paths.setdefault(action, []).append(path)
        return [
            (action, path)
            for action, asked in paths.items()
            for path, is_allowed in zip(asked, session.decide_many(action, asked), strict=True)
            if not is_allowed
        ]

    def _verify_stamp(self, stamp: Stamp) -> None:
        if stamp != self._opened.policy_stamp():
            message = "the policy changed meanwhile"
            raise PolicyMoved(message)

    def _apply_at_once(self, wanted: Wanted, stamp: Stamp) -> object:
        request_id = new_request_id()

        def plan(publication: Publication) -> Plan:
            self._verify_stamp(stamp)
            plan = self._draft(wanted, Drafts(self._opened, publication))
            _verify_size(plan)
            plan.records = [self._record(wanted, plan.result, request_id)]
            return plan

        return self._opened.publisher.publish(plan, request_id)

    def _apply_batch_at_once(self, batch: Sequence[Wanted], stamp: Stamp) -> list[object]:
        request_id = new_request_id()

        def plan(publication: Publication) -> Plan:
            self._verify_stamp(stamp)
            area = _Overlay(publication)
            drafts = Drafts(self._opened, area)
            results = []
            for wanted in batch:
                plan = self._draft(wanted, drafts)
                results.append(plan.result)
                area.take(plan)
            whole = area.plan
            _verify_size(whole)
            whole.records = self._batch_records(_group(batch, results), {}, request_id)
            whole.result = results
            return whole

        results = self._opened.publisher.publish(plan, request_id)
        return results if isinstance(results, list) else []

    def _apply_staged(self, batch: Sequence[Wanted], stamp: Stamp, *, in_batch: bool) -> list[object]:
        request_id = new_request_id()
        area = StagingArea(self._opened)
        drafts = Drafts(self._opened, area)
        results: list[object] = []
        try:
            for wanted in batch:
                plan = self._draft(wanted, drafts)
                results.append(plan.result)
                area.take(plan)
            grouped = _group(batch, results) if in_batch else _Grouped({}, [(batch[0], results[0])])
            parts = {
                event: area.stage_parts(items) for event, items in grouped.listed.items() if not fit_in_record(items)
            }

            def make_records() -> list[Record]:
                return self._batch_records(grouped, parts, request_id)

            area.publish(make_records, lambda: self._verify_stamp(stamp), request_id)
        except IntegrityError:
            area.abandon()
            # Rows that another process replaced while they were read are no tampering.
            area.verify_unmoved()
            raise
        except BaseException:
            area.abandon()
            raise
        return results

    def _draft(self, wanted: Wanted, drafts: Drafts) -> Plan:
        """Draft a change; what goes wrong names nothing that the caller may not list."""
        try:
            return wanted.draft(drafts)
        except SecretNotFound:
            action, path = wanted.rights[0]
            if self._may_list(path):
                raise
            raise _Unlisted(action, path) from None
        except ConfusablePath as error:
            if self._may_list(error.alike) or self._may_list(f"{error.alike}/"):
                raise
            message = "the path looks like one that exists"
            raise ConfusablePath(message, hint=LOOKALIKE_HINT) from None

    def _may_list(self, path: str) -> bool:
        return self._authority.session().decide("list", path).allowed

    def _denial(self, unlisted: _Unlisted) -> AccessDenied:
        """Return the same denial, with the same record, as where the right itself is missing."""
        session = self._authority.session()
        decision = session.decide(unlisted.action, unlisted.path)
        return self._authority.deny(session, unlisted.action, unlisted.path, decision)

    def _record(self, wanted: Wanted, result: object, request_id: str) -> Record:
        session = self._authority.session()
        decision = session.decide(*wanted.rights[0]) if wanted.rights else None
        return session.record(wanted.event, wanted.describe(result), decision=decision, request_id=request_id)

    def _batch_records(
        self,
        grouped: _Grouped,
        parts: Mapping[Event, list[list[str]]],
        request_id: str,
    ) -> list[Record]:
        """Return one record for each kind of change of which there may be many, and one for every other change."""
        records = []
        for event, items in grouped.listed.items():
            obj: dict[str, object] = {"count": len(items)}
            if event is not Event.SECRET_WRITTEN:
                obj["change"] = event.value
            if event in parts:
                obj["parts"] = parts[event]
            else:
                obj["items"] = [list(item) for item in items]
            records.append(self._authority.session().record(Event.BATCH_WRITTEN, obj, request_id=request_id))
        return records + [self._record(wanted, result, request_id) for wanted, result in grouped.single]


class _Overlay:
    """A workspace in which the drafts of one batch see each other, over a publication that none has entered yet."""

    def __init__(self, publication: Publication) -> None:
        self._publication = publication
        self._entries: dict[bytes, Entry | None] = {}
        self._names = NewNames(self._entries)
        self.new_names = (self._names, *publication.new_names)
        self._rows: dict[tuple[Space, int], bytes] = {}
        self.plan = Plan()

    def entry(self, path: bytes) -> Entry | None:
        return self._entries[path] if path in self._entries else self._publication.entry(path)

    def row(self, space: Space, id_: int) -> bytes | None:
        row = self._rows.get((space, id_))
        return row if row is not None else self._publication.row(space, id_)

    def allocate(self, count: int = 1) -> int:
        return self._publication.allocate(count)

    def take(self, plan: Plan) -> None:
        self._entries.update(plan.changes)
        self._names.add(plan.changes)
        self._rows.update({(put.space, put.id): put.row for put in plan.puts})
        self.plan.join(plan)


def _verify_size(plan: Plan) -> None:
    operations, size = plan.cost()
    if plan.streams or operations >= OPERATIONS_FOR_PLANS or size >= BYTES_FOR_PLANS:
        message = "the change needs to be staged"
        raise _TooLarge(message)


class _Grouped(NamedTuple):
    """The changes of a batch as the log words them: lists of paths and versions, and what needs a record of its own."""

    listed: dict[Event, list[tuple[str, int]]]
    single: list[tuple[Wanted, object]]


def _group(batch: Sequence[Wanted], results: Sequence[object]) -> _Grouped:
    grouped = _Grouped({}, [])
    for wanted, result in zip(batch, results, strict=True):
        if wanted.event in _LISTED:
            grouped.listed.setdefault(wanted.event, []).extend(wanted.items(result))
        else:
            grouped.single.append((wanted, result))
    if len(grouped.single) > _SINGLE_MAX:
        for wanted, result in grouped.single:
            grouped.listed.setdefault(wanted.event, []).extend(wanted.items(result))
        grouped.single.clear()
    return grouped


def fit_in_record(items: Sequence[tuple[str, int]]) -> bool:
    """Return whether a record has room for a list of paths and versions."""
    if len(items) > _ITEMS_IN_RECORD:
        return False
    return sum(2 * len(path.encode()) + 16 for path, _ in items) <= _ITEMS_IN_RECORD_BYTES


def _too_busy() -> StoreBusy:
    return StoreBusy("other writers were faster every time", hint="try again in a moment")
