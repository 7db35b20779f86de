"""Taking in what was dropped into a sealed scope: each value becomes one version, in the name of who dropped it.

Whoever may write the file can put rows into it, and whoever may drop can say in one what he likes. It counts only if

1. it opens in its place, under a value key of the scope;
2. that key was in use when it was dropped, as the row says;
3. the charter in force lets the role drop, and the role's key signed it;
4. the member holds the role, and the identity that the vault knows of the member signed it;
5. the path lies in the scope, and the policy of the scope lets the member write there;
6. the member has dropped nothing at the path that is as new and was taken in.

What does not count is removed, with a record of why.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from securecfg.audit import Event
from securecfg.audit.record import format_time
from securecfg.errors import (
    Conflict,
    InvalidMetadata,
    InvalidPath,
    ScopeSealed,
    Tampered,
    UsageError,
)
from securecfg.keys import Purpose
from securecfg.keys.value_grants import grant_row_of, is_grant_of
from securecfg.store import Delete, Put, Space
from securecfg.tuples import NamedTuple
from securecfg.vault.administration import to_document
from securecfg.vault.commits.publishing import Plan
from securecfg.vault.documents import read_shaped
from securecfg.vault.drafts import Content, Drafts, NewVersion
from securecfg.vault.drops.rows import (
    VALUE_BYTES_MAX,
    Place,
    SignedDrop,
    count_waiting,
    epoch_of_drop,
    open_drop,
    receipt_of,
    waiting_rows,
)
from securecfg.vault.members import identities_of
from securecfg.vault.opened import ROLES_PATH
from securecfg.vault.paths import (
    SYSTEM,
    check_content_type,
    check_metadata,
    check_principal,
    check_role,
    path_to_bytes,
)
from securecfg.vault.scopes.charters import DROP, READ
from securecfg.vault.scopes.opening import charter_of, grants_of, slot_ids
from securecfg.vault.session import Identity, Session
from securecfg.vault.values import decode_value

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from securecfg.vault.authority import Authority
    from securecfg.vault.commits.publishing import Publication
    from securecfg.vault.drops.rows import Drop

    Progress = Callable[[int, int], None]

MARKS = SYSTEM + b"drops/"
AT_ONCE = 64

_TOLD_MAX = 16
# What another thread of this process takes in at the same path goes first.
_AGAIN = object()
_DELETES_AT_ONCE = 48


class _Refused(Exception):
    """A dropped value does not count; the reason is for the log."""

    def __init__(self, reason: str) -> None:
        """Hold the reason."""
        super().__init__(reason)
        self.reason = reason


class Collected(NamedTuple):
    """What became of the values that waited.

    Attributes:
        versions: The paths and the numbers of the versions that were made.
        refused: How many were removed, by the reason.
        is_done: Whether none waits that this key could have taken in.
    """

    versions: tuple[tuple[str, int], ...]
    refused: Mapping[str, int]
    is_done: bool

    def after(self, other: Collected | None) -> Collected:
        """Return what both together have come to, this one after another."""
        if other is None:
            return self
        refused = Counter(other.refused) + Counter(self.refused)
        return Collected(other.versions + self.versions, dict(refused), self.is_done)


def may_collect(authority: Authority) -> bool:
    """Return whether a process reads and writes a scope, and somebody says on whose behalf."""
    opened = authority.opened
    seat, grants = opened.replica.seat, opened.replica.data_keys.grants
    return (
        seat is not None
        and grants is not None
        and not opened.options.read_only
        and bool(authority.identity.principal)
        and seat.may_write
        and grants.is_granted(grants.active)
    )


class Collection:
    """Takes in what waits in one scope.

    Args:
        authority: Over the scope, of a member who reads and writes.

    Raises:
        ScopeSealed: It does not read and write.
    """

    def __init__(self, authority: Authority) -> None:
        """Take in nothing yet."""
        if not may_collect(authority):
            message = "what was dropped into a scope is taken in by who reads and writes there"
            raise ScopeSealed(message, hint="`securecfg scope show PATH` shows who does")
        self._authority = authority
        self._opened = authority.opened
        self._versions: list[tuple[str, int]] = []
        self._refused: Counter[str] = Counter()
        self._told = 0
        self._untold: dict[str, list[tuple[int, bytes]]] = {}

    def run(self, limit: int | None = None, progress: Progress | None = None) -> Collected:
        """Take in values, the oldest first.

        Args:
            limit: How many rows are looked at; None looks at all.
            progress: Called with how many were looked at, and how many waited.

        Raises:
            CommitUnknown, StoreBusy, StoreFailed: As for a write; what was taken in before stays so.
        """
        rows = waiting_rows(self._opened.store)
        is_done = False
        total = count_waiting(self._opened.store) if progress is not None else 0
        for count in range(limit) if limit is not None else itertools.count():
            found = next(rows, None)
            if found is None:
                is_done = True
                break
            self._take(*found)
            if progress is not None:
                progress(count + 1, max(total, count + 1))
        for reason in list(self._untold):
            self._remove_untold(reason)
        return Collected(tuple(self._versions), dict(self._refused), is_done)

    def _take(self, row_id: int, row: bytes) -> None:
        """Make a version of one row, or remove it."""
        signed = self._open(row_id, row)
        if signed is None:
            return
        receipt = receipt_of(row)

        def plan(publication: Publication) -> Plan:
            if publication.row(Space.GRANT, row_id) != row:
                return Plan()  # somebody else has taken it in
            drafts = Drafts(self._opened, publication)
            if not drafts.is_settled([MARKS + signed.drop.path.encode()]):
                return Plan(result=_AGAIN)
            try:
                return self._draft(drafts, signed, receipt)
            except _Refused as error:
                if self._told >= _TOLD_MAX:
                    return Plan(result=error.reason)
                plan = self._refusal(error.reason, signed.drop, receipt)
                plan.deletes.append(Delete(Space.GRANT, row_id))
                plan.result = error
                return plan

        result = self._opened.publisher.publish(plan, receipt)
        while result is _AGAIN:
            result = self._opened.publisher.publish(plan, receipt)
        if isinstance(result, int):
            self._versions.append((signed.drop.path, result))
        elif isinstance(result, _Refused):
            self._told += 1
            self._refused[result.reason] += 1
        elif isinstance(result, str):
            self._put_off(result, row_id, row)

    def _open(self, row_id: int, row: bytes) -> SignedDrop | None:
        """Return what a row holds; None where it is removed, or is for somebody else to open."""
        opened = self._opened
        opened.refresh()
        epoch, grants = epoch_of_drop(row), grants_of(opened)
        if epoch is not None and any(
            entry.purpose == Purpose.VALUE and entry.epoch == epoch for entry in opened.replica.keyring.keys
        ):
            if grants.is_granted(epoch):
                with suppress(Tampered):
                    return open_drop(grants.private_key(epoch), Place(opened.replica.vault_id, epoch, row_id), row)
            elif self._is_held(epoch):
                return None
        self._put_off("unreadable", row_id, row)
        return None

    def _is_held(self, epoch: int) -> bool:
        """Return whether a reader was granted a value key. Where none was, none can give it to another one."""
        replica = self._opened.replica
        rows = {slot_id: row for row, slot_id in slot_ids(replica.slots).items()}
        return any(
            is_grant_of(replica.store.get(Space.GRANT, grant_row_of(rows[party.slot_id], epoch)), party.slot_id)
            for party in charter_of(self._opened).parties
            if party.rights & READ
        )

    def _draft(self, drafts: Drafts, signed: SignedDrop, receipt: str) -> Plan:
        """Return the draft of the version, in the numbered steps above.

        Raises:
            _Refused: The row does not count.
        """
        opened, drop, place = self._opened, signed.drop, signed.place
        end_ns = self._end_of_key(place)
        if end_ns is not None and (place.time_ms + 1) * 1_000_000 > end_ns:  # 2
            reason = "key"
            raise _Refused(reason)
        charter = charter_of(opened)
        party = charter.party(drop.role)
        if party is None or not party.rights & DROP or not signed.is_signed_by_role(party.signing_key):  # 3
            reason = "role"
            raise _Refused(reason)
        self._verify_member(signed)  # 4
        if not charter.covers(drop.path):  # 5
            reason = "path"
            raise _Refused(reason)
        path = _verify_content(drop)
        session = self._session_of(drop.member)
        decision = session.decide("write", drop.path)
        if not decision.allowed and not opened.is_clock_trusted():
            return Plan()  # it is left to somebody whose clock rules with times are for
        if not decision.allowed:
            reason = "policy"
            raise _Refused(reason)
        marks = self._verify_new(signed, path)  # 6
        now_ns = opened.clock.now_ns()
        # Whoever had a value key until another took its place could read what waits under it: a version of that time.
        created = now_ns if end_ns is None else min(now_ns, end_ns)
        new = NewVersion(drop.member, created, drop.expires, drop.metadata, drop.content_type)
        content = Content.of(drop.kind, drop.content)
        try:
            plan = drafts.write(path, content, new)
            plan.join(drafts.write(MARKS + path, to_document(marks), NewVersion(drop.member, now_ns)))
        except (Conflict, UsageError) as error:
            raise _Refused(error.code) from None
        number = plan.result
        plan.puts += [Put(space, first + at, row) for space, first, rows in plan.streams for at, row in enumerate(rows)]
        plan.streams = []
        plan.deletes.append(Delete(Space.GRANT, place.row_id))
        obj: dict[str, object] = {"path": drop.path, "ver": number, "role": drop.role}
        if drop.expires:
            obj["expires"] = format_time(drop.expires)
        plan.records = [session.record(Event.SECRET_WRITTEN, obj, decision=decision, request_id=receipt)]
        plan.result = number
        return plan

    def _end_of_key(self, place: Place) -> int | None:
        """Return when another value key took the place of the one of a dropped value, None where that is in use.

        Who could read before may hold it, and may have put back the order that names it.
        """
        later = (
            entry.created_ns
            for entry in self._opened.replica.keyring.keys
            if entry.purpose == Purpose.VALUE and entry.epoch > place.epoch
        )
        return min(later, default=None)

    def _verify_member(self, signed: SignedDrop) -> None:
        opened, drop = self._opened, signed.drop
        roles: dict[str, list[str]] = read_shaped(opened, ROLES_PATH, dict, list, str)
        member = identities_of(opened).get(drop.member)
        holds = drop.member in roles.get(drop.role, [])
        if member is None or not holds or not signed.is_signed_by_member(member.verifier):
            reason = "member"
            raise _Refused(reason)

    def _verify_new(self, signed: SignedDrop, path: bytes) -> dict[str, Any]:
        """Return what is to be remembered: the time of the newest value of each member that was taken in at a path."""
        marks: dict[str, int] = read_shaped(self._opened, MARKS + path, dict, int)
        if signed.place.time_ms <= marks.get(signed.drop.member, -1):
            reason = "replayed"
            raise _Refused(reason)
        return marks | {signed.drop.member: signed.place.time_ms}

    def _session_of(self, member: str) -> Session:
        """Return a session of the member, whom its signature proves, and for whom this one acts."""
        opened, own = self._opened, self._authority.identity
        who = Identity(member, is_proved=True, slot=own.slot, via=own.principal)
        _, policy = opened.policy()
        return Session(who, policy, opened.masker, opened.clock, clock_trusted=opened.is_clock_trusted())

    def _refusal(self, reason: str, drop: Drop, receipt: str) -> Plan:
        """Return the record of a refusal; what it says of the drop is what that says of itself."""
        obj: dict[str, object] = {"reason": reason}
        with suppress(InvalidPath, InvalidMetadata):
            path_to_bytes(drop.path)
            role, member = check_role(drop.role), check_principal(drop.member)
            obj |= {"path": drop.path, "role": role, "principals": [member]}
        return Plan(records=[self._authority.session().record(Event.DROP_REFUSED, obj, request_id=receipt)])

    def _put_off(self, reason: str, row_id: int, row: bytes) -> None:
        """Remove a row later, together with others and without a record of its own."""
        rows = self._untold.setdefault(reason, [])
        rows.append((row_id, row))
        if len(rows) >= _DELETES_AT_ONCE:
            self._remove_untold(reason)

    def _remove_untold(self, reason: str) -> None:
        rows = self._untold.pop(reason)

        def plan(publication: Publication) -> Plan:
            there = [row_id for row_id, row in rows if publication.row(Space.GRANT, row_id) == row]
            if not there:
                return Plan(result=0)
            obj: dict[str, object] = {"reason": reason, "count": len(there)}
            records = [self._authority.session().record(Event.DROP_REFUSED, obj)]
            return Plan(deletes=[Delete(Space.GRANT, row_id) for row_id in there], records=records, result=len(there))

        count = self._opened.publisher.publish(plan)
        if isinstance(count, int) and count:
            self._refused[reason] += count


def _verify_content(drop: Drop) -> bytes:
    """Return the bytes of the path of something that could have been written as it is.

    Raises:
        _Refused: It could not.
    """
    reason = "malformed"
    try:
        path = path_to_bytes(drop.path)
        decode_value(drop.kind, bytes(drop.content), drop.path)
        check_content_type(drop.content_type)
        if drop.metadata:
            plain = check_metadata(json.loads(drop.metadata))
            if json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() != drop.metadata:
                raise _Refused(reason)
    except InvalidPath:
        reason = "path"
        raise _Refused(reason) from None
    except (Tampered, InvalidMetadata, ValueError, AttributeError, RecursionError):
        raise _Refused(reason) from None
    if len(drop.content) > VALUE_BYTES_MAX:
        raise _Refused(reason)
    return path
