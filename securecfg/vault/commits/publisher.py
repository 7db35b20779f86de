"""Group commit: threads hand in plans, one of them publishes for all that wait, then hands over.

Whoever finds no leader becomes it and publishes at once; whoever comes meanwhile waits on a lock of its own and is
woken with its result, or with the leadership. There is no linger time: a lone thread pays for exactly one commit.
"""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING

from securecfg.audit import Event, Record
from securecfg.errors import CommitUnknown, HeadMoved, IntegrityError, SecurecfgError, StoreBusy
from securecfg.tuples import NamedTuple
from securecfg.vault.commits.publishing import Plan, Publication
from securecfg.vault.logger import logger
from securecfg.vault.paths import SYSTEM

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from securecfg.audit import Sealer
    from securecfg.clock import Clock
    from securecfg.vault.state.replica import Finished, Member, Replica

    Planner = Callable[[Publication], Plan]

_GROUP_MAX = 48
_ATTEMPTS_MAX = 8
# Whoever was beaten so often has the store kept for it, so that writers without a pause cannot hold it up for ever.
_ATTEMPTS_IN_RACE = 3
_PAUSE_S = 0.000_5


class Share(NamedTuple):
    """A publication that is committed together with those of other parts."""

    publication: Publication
    finished: Finished
    notes_clock: bool


class _Waiter:
    """One call that waits for its plan to be durable."""

    __slots__ = ("error", "gate", "has_left", "is_done", "leads", "planner", "request_id", "result")

    def __init__(self, planner: Planner, request_id: str) -> None:
        self.planner = planner
        self.request_id = request_id
        self.result: object = None
        self.error: BaseException | None = None
        self.is_done = False
        self.leads = False
        self.has_left = False
        self.gate = threading.Lock()
        self.gate.acquire()

    def fail(self, error: BaseException) -> None:
        """Take an error as the outcome."""
        self.error = error
        self.is_done = True


class Publisher:
    """Publishes plans of this process, in groups.

    Args:
        replica: The state that plans build on.
        clock: For the time of publication.
        make_sealer: Makes the session's sealer when the first record is written.
        after_commit: Called with the new records after each durable commit, under the replica's lock.
    """

    def __init__(
        self,
        replica: Replica,
        clock: Clock,
        make_sealer: Callable[[], Sealer],
        after_commit: Callable[[Sequence[Member]], None],
    ) -> None:
        """Start with an empty queue."""
        self._replica = replica
        self._clock = clock
        self._make_sealer = make_sealer
        self._after_commit = after_commit
        self._sealer: Sealer | None = None
        self._sealed_for = 0
        self._sealer_stored = False
        self._is_clock_noted = False
        self._mutex = threading.Lock()
        self._queue: list[_Waiter] = []
        self._has_leader = False

    def publish(self, planner: Callable[[Publication], Plan], request_id: str = "") -> object:
        """Publish what a planner plans and return the plan's result once it is durable.

        The planner is called under the replica's lock with the newest state, again for each attempt; what it raises is
        raised here and harms no other plan.

        Raises:
            CommitUnknown: The store failed while committing; the change may or may not be durable.
            StoreBusy: Other writers kept the store for too long; nothing was written.
            StoreFailed: The store failed before committing; nothing was written.
        """
        waiter = _Waiter(planner, request_id)
        with self._mutex:
            self._queue.append(waiter)
            leads = not self._has_leader
            self._has_leader = True
        if not leads:
            try:
                waiter.gate.acquire()
            except BaseException:
                self._leave(waiter)
                raise
        if not waiter.is_done:
            self._lead()
        if waiter.error is not None:
            raise waiter.error
        return waiter.result

    def make_share(self, planners: Sequence[Planner]) -> Share:
        """Plan a publication that somebody else commits, together with those of other parts.

        The caller holds the replica's lock from before its last refresh until after the commit and `take_up`, and its
        state while anything is planned.

        Args:
            planners: Called one after the other; each sees what the plans of the earlier ones change.

        Raises:
            HeadMoved: A row that a planner read was replaced by another process.
            As for what the planners raise.
        """
        self._renew_sealer()
        publication = self._begin_publication()
        try:
            for planner in planners:
                publication.add(planner(publication))
        except IntegrityError as error:
            self._verify_unmoved(error)
            raise
        now_ns = self._clock.now_ns()
        notes_clock = self._note_clock(publication, now_ns)
        return Share(publication, publication.finish(now_ns), notes_clock)

    def take_up(self, share: Share) -> None:
        """Take up a share that has been committed. The caller holds the replica's lock."""
        self._note_committed(share.publication, notes_clock=share.notes_clock)
        if self._accept(share.finished, None):
            self._after_commit(share.publication.members)

    def wipe(self) -> None:
        """Forget the session's sealer."""
        if self._sealer is not None:
            self._sealer.wipe()

    def _lead(self) -> None:
        with self._mutex:
            group, self._queue = self._queue[:_GROUP_MAX], self._queue[_GROUP_MAX:]
        own = group[0]
        left: list[_Waiter] = group
        try:
            left = self._serve(group)
        except BaseException as error:  # noqa: BLE001 - nobody may wait for ever, whatever went wrong
            for waiter in group:
                if not waiter.is_done:
                    is_theirs = waiter is own or isinstance(error, SecurecfgError)
                    waiter.fail(error if is_theirs else _interrupted(waiter))
            if not isinstance(error, Exception):
                own.fail(error)
            left = []
        with self._mutex:
            self._queue[:0] = [waiter for waiter in left if not waiter.has_left]
            successor = self._appoint()
        for waiter in group:
            if waiter.is_done and waiter is not own:
                waiter.gate.release()
        if successor is not None:
            successor.gate.release()

    def _appoint(self) -> _Waiter | None:
        """Make the first in the queue the leader and return it, to be woken. The caller holds the mutex."""
        successor = self._queue[0] if self._queue else None
        self._has_leader = successor is not None
        if successor is not None:
            successor.leads = True
        return successor

    def _leave(self, waiter: _Waiter) -> None:
        """Give up waiting after an interrupt; who was to lead appoints another one."""
        with self._mutex:
            waiter.has_left = True
            if waiter not in self._queue:
                return
            self._queue.remove(waiter)
            successor = self._appoint() if waiter.leads else None
        if successor is not None:
            successor.gate.release()

    def _serve(self, group: list[_Waiter]) -> list[_Waiter]:
        """Publish as many of a group as fit into one publication and return the rest."""
        for attempt in range(_ATTEMPTS_MAX):
            with self._replica.lock:
                if attempt < _ATTEMPTS_IN_RACE:
                    left = self._attempt(group)
                else:
                    with self._replica.store.reserve():
                        left = self._attempt(group)
            if left is not None:
                return left
            group = [waiter for waiter in group if not waiter.is_done]
            # Another process was faster. The pause grows, and is random so that two do not meet for ever.
            time.sleep(random.uniform(0, _PAUSE_S * 2**attempt))  # noqa: S311 - no secret
        message = "other writers were faster every time"
        raise StoreBusy(message, hint="try again; use `batch()` for many changes at once")

    def _attempt(self, group: list[_Waiter]) -> list[_Waiter] | None:
        """Publish as `_serve`, on the state that there is now; return None where another process was faster."""
        self._replica.refresh()
        try:
            with self._replica.held():
                publication, planned, left = self._plan(group)
            if publication is None or self._commit(publication, planned):
                return left
        except HeadMoved:
            pass
        return None

    def _plan(
        self,
        group: list[_Waiter],
    ) -> tuple[Publication | None, list[_Waiter], list[_Waiter]]:
        self._renew_sealer()
        publication = self._begin_publication()
        planned: list[_Waiter] = []
        for position, waiter in enumerate(group):
            stagings = list(publication.stagings)
            try:
                plan = waiter.planner(publication)
            except HeadMoved:
                raise
            except Exception as error:  # noqa: BLE001 - a planner may call foreign code, and harms no other plan
                publication.stagings = stagings
                self._verify_unmoved(error)
                waiter.fail(error)
                continue
            if planned and not publication.fits(plan):
                publication.stagings = stagings
                return publication, planned, group[position:]
            try:
                publication.add(plan)
            except SecurecfgError as error:
                # Rows that it put in or deleted must not be published without their record: all others plan anew.
                waiter.fail(error)
                return self._plan([other for other in group if not other.is_done])
            waiter.result = plan.result
            planned.append(waiter)
            if "keyring_digest" in plan.state or plan.charter is not None or _changes_rules(plan):
                # Whoever comes after it seals with the new keys, and decides by the new policy, roles and scopes.
                return publication, planned, group[position + 1 :]
        if publication.is_empty:
            for waiter in planned:
                waiter.is_done = True
            return None, planned, []
        return publication, planned, []

    def _renew_sealer(self) -> None:
        if self._sealer is None or self._sealed_for != self._replica.audit_epoch:
            # A new audit key means that somebody who knew the old one must not read what follows.
            self.wipe()
            self._sealer, self._sealer_stored = self._make_sealer(), False
            self._sealed_for = self._replica.audit_epoch

    def _begin_publication(self) -> Publication:
        if self._sealer is None:
            raise TypeError
        return Publication(self._replica, self._sealer, sealer_stored=self._sealer_stored)

    def _note_committed(self, publication: Publication, *, notes_clock: bool) -> None:
        self._sealer_stored = self._sealer_stored or bool(publication.members)
        self._is_clock_noted = self._is_clock_noted or notes_clock

    def _verify_unmoved(self, error: Exception) -> None:
        """Let the group start over where a row that a planner read was replaced by another process.

        Raises:
            HeadMoved: The vault changed since the planners looked at it.
        """
        if isinstance(error, IntegrityError) and self._replica.store.head() != self._replica.head:
            message = "another writer published first"
            raise HeadMoved(message)

    def _commit(self, publication: Publication, planned: list[_Waiter]) -> bool:
        """Commit and tell everyone; return False where the head had moved."""
        replica = self._replica
        now_ns = self._clock.now_ns()
        notes_clock = self._note_clock(publication, now_ns)
        finished = publication.finish(now_ns)
        try:
            revision = replica.store.commit(finished.operations, expect=publication.head, head=finished.head)
        except HeadMoved:
            return False
        except CommitUnknown as error:
            for waiter in planned:
                waiter.fail(CommitUnknown(error.message, request_id=waiter.request_id, hint=_UNKNOWN_HINT))
            return True
        except SecurecfgError as error:
            for waiter in planned:
                waiter.fail(error)
            return True
        self._note_committed(publication, notes_clock=notes_clock)
        is_read = self._accept(finished, revision)
        for waiter in planned:
            waiter.is_done = True
        if is_read:
            self._after_commit(publication.members)
        return True

    def _accept(self, finished: Finished, revision: Hashable | None) -> bool:
        """Take up what is durable. Where it cannot be read whoever uses the vault next is told; return whether it was.

        Raises:
            IntegrityError: What is there is not what may be there.
        """
        try:
            self._replica.accept(finished, revision)
        except IntegrityError:
            raise
        except SecurecfgError as error:
            logger().info("what was published is not read yet: %s", error.message, extra={"event": "refresh.postponed"})
            return False
        return True

    def _note_clock(self, publication: Publication, now_ns: int) -> bool:
        """Record that the clock is behind where a record is published with it and no earlier one said so."""
        record, behind_ns = publication.first_record, publication.state.clock_behind_ns(now_ns)
        if record is None or not behind_ns or self._is_clock_noted:
            return False
        notice = Record(
            time_ns=record.time_ns,
            event=Event.CLOCK_BEHIND,
            subject=record.subject,
            source=record.source,
            obj={"behind_s": behind_ns // 1_000_000_000},
        )
        publication.add(Plan(records=[notice]))
        return True


def _changes_rules(plan: Plan) -> bool:
    return any(path.startswith(SYSTEM) for path, _ in plan.changes)


_UNKNOWN_HINT = "open the vault again and ask `resolve(request_id)` whether the change is there"


def _interrupted(waiter: _Waiter) -> CommitUnknown:
    message = "the thread that was committing for this one was interrupted: the change may or may not be durable"
    return CommitUnknown(message, request_id=waiter.request_id, hint=_UNKNOWN_HINT)
