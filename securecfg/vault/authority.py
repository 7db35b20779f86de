"""One identity's authority over an open vault: its decisions, its records and the counts of what it repeats."""

from __future__ import annotations

import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from securecfg.audit import Event
from securecfg.errors import (
    AccessDenied,
    AuditUnavailable,
    CommitUnknown,
    Conflict,
    SecurecfgError,
    Unavailable,
    VaultClosed,
)
from securecfg.vault.commits.epochs import rotate_if_due
from securecfg.vault.commits.publishing import Plan
from securecfg.vault.opened import POLICY_PATH, ROLES_PATH
from securecfg.vault.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from securecfg.audit import Record
    from securecfg.policy import Decision
    from securecfg.vault.commits.publishing import Publication
    from securecfg.vault.opened import OpenVault
    from securecfg.vault.session import Identity

    Stamp = tuple[bytes, bytes, bytes]
    DecidedPlanner = Callable[[Publication, Session, Decision], Plan]

FLUSH_INTERVAL_NS = 60 * 1_000_000_000
DENIALS_RECORDED = 10
DENIALS_KEPT = 10_000
DENIAL_WINDOW_NS = 60 * 1_000_000_000
RECORDS_AT_ONCE = 48

_POLICY_MOVED = "the policy changed meanwhile"


class PolicyMoved(Conflict):
    """The policy changed between a decision and the publication that it was made for. Never leaves the vault."""

    code = "policy-moved"


class Authority:
    """Decides, records and counts for one identity. May be used by any thread.

    Args:
        opened: The vault.
        identity: Who asks.
    """

    def __init__(self, opened: OpenVault, identity: Identity) -> None:
        """Nothing was asked yet."""
        self.opened = opened
        self.identity = identity
        self._session: tuple[Stamp, bool, bytes, Session] | None = None
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, int], int] = {}
        self._denials: dict[tuple[str, str], list[int]] = {}
        self._take_counts: Callable[[], dict[tuple[str, int], int]] = dict
        self._others: list[Callable[[], None]] = []
        self._flushed_ns = opened.clock.now_ns()
        self._has_ended = False
        opened.on_close(self.flush)

    def flush_with(self, flush: Callable[[], None]) -> None:
        """Let somebody else record what it has counted, whenever the counts are flushed."""
        self._others.append(flush)

    def count_with(self, take_counts: Callable[[], dict[tuple[str, int], int]]) -> None:
        """Ask for further counts of repeated reads at every flush."""
        self._take_counts = take_counts

    def session(self) -> Session:
        """Return the session under the policy now in force.

        Raises:
            Tampered: The policy in the vault is damaged.
            VaultClosed: This authority was lent, and its time is over.
        """
        if self._has_ended:
            message = "the handle was lent for one request, which has ended"
            raise VaultClosed(message, hint="use it inside its `with` block")
        opened = self.opened
        stamp, trusted = opened.policy_stamp(), opened.is_clock_trusted()
        keyring, known = opened.replica.state.keyring_digest, self._session
        if known is not None and known[0] == stamp and known[1] == trusted and known[2] == keyring:
            return known[3]
        stamp, policy = opened.policy()
        session = Session(self.identity, policy, opened.masker, opened.clock, clock_trusted=trusted)
        self._session = (stamp, trusted, keyring, session)
        return session

    def require(self, action: str, path: str) -> tuple[Session, Decision]:
        """Return the session and the decision where an action is allowed; record and raise where it is not.

        Raises:
            AccessDenied: It is not allowed.
            NotAuthenticated: Nobody says who asks.
            AuditUnavailable: The denial cannot be recorded.
        """
        self.opened.refresh()
        rotate_if_due(self)
        session = self.session()
        decision = session.decide(action, path)
        if not decision.allowed:
            raise self.deny(session, action, path, decision)
        return session, decision

    def deny(self, session: Session, action: str, path: str, decision: Decision) -> AccessDenied:
        """Record a denial and return the error to raise. After ten alike in a minute the rest are counted.

        Raises:
            AuditUnavailable: The denial cannot be recorded.
        """
        record, error = session.denial(action, path, decision)
        now = self.opened.clock.now_ns()
        with self._lock:
            if len(self._denials) >= DENIALS_KEPT:
                self._denials = {key: kept for key, kept in self._denials.items() if kept[2] or _is_recent(kept, now)}
            window = self._denials.setdefault((action, path), [now, 0, 0])
            if not _is_recent(window, now):
                window[:2] = [now, 0]
            window[1] += 1
            is_counted = window[1] > DENIALS_RECORDED
            window[2] += is_counted
        if not is_counted and not self.opened.options.read_only:
            self.publish(lambda _: Plan(records=[record]))
        self.flush_if_due()
        return error

    def filter_listed(self, paths: Sequence[str]) -> list[str]:
        """Return those of some paths that may be listed.

        Raises:
            NotAuthenticated: Nobody says who asks.
        """
        paths = list(paths)
        allowed = self.session().decide_many("list", paths)
        return [path for path, is_allowed in zip(paths, allowed, strict=True) if is_allowed]

    def decide_now(self, publication: Publication, action: str) -> tuple[Session, Decision]:
        """Return the session and the decision for a plan, by the policy that is in force when it is published.

        Raises:
            PolicyMoved: It is not allowed; or an earlier plan of the same publication changes the policy.
        """
        if any(publication.entry(path) != self.opened.entry(path) for path in (POLICY_PATH, ROLES_PATH)):
            raise PolicyMoved(_POLICY_MOVED)
        session = self.session()
        decision = session.decide(action, "")
        if not decision.allowed:
            raise PolicyMoved(_POLICY_MOVED)
        return session, decision

    def publish_allowed(self, action: str, planner: DecidedPlanner) -> object:
        """Publish what an action plans, where the policy that is in force in that moment allows it.

        Raises:
            AccessDenied: It is not allowed, or not any more.
            As for `require`, and for `Publisher.publish`.
        """
        while True:
            self.require(action, "")
            with suppress(PolicyMoved):
                return self.opened.publisher.publish(
                    lambda publication: planner(publication, *self.decide_now(publication, action))
                )

    def publish(self, planner: Callable[[Publication], Plan], request_id: str = "") -> object:
        """Publish records that an access depends on.

        Raises:
            AuditUnavailable: The log cannot be written, so the access must not happen.
        """
        try:
            return self.opened.publisher.publish(planner, request_id)
        except CommitUnknown as error:
            message = f"the log cannot be written: {error.message}"
            raise AuditUnavailable(message, hint=error.hint) from None
        except Unavailable as error:
            message = f"the log cannot be written: {error.message}"
            raise AuditUnavailable(message, hint=error.hint) from None

    def count_read(self, path: str, number: int, count: int = 1) -> None:
        """Count repeats of a read that was recorded before."""
        with self._lock:
            self._counts[path, number] = self._counts.get((path, number), 0) + count
        self.flush_if_due()

    def flush_if_due(self) -> None:
        """Flush the counts if that was last done more than a minute ago.

        Raises:
            AuditUnavailable: The log cannot be written; the counts are kept.
        """
        # A clock that was put back must not put the next flush off.
        if not 0 <= self.opened.clock.now_ns() - self._flushed_ns <= FLUSH_INTERVAL_NS:
            self.flush()

    def keep_counts(self) -> None:
        """Take over the counts of repeated reads that are about to be forgotten elsewhere."""
        with self._lock:
            for key, count in self._take_counts().items():
                self._counts[key] = self._counts.get(key, 0) + count

    def flush(self) -> None:
        """Record how often reads were repeated and denials went unrecorded since the last flush.

        Raises:
            AuditUnavailable: The log cannot be written; the counts are kept.
        """
        if self.opened.is_closed:
            message = "the vault is closed"
            raise VaultClosed(message)
        try:
            self._flush_own()
        finally:
            for flush in list(self._others):
                flush()

    def _flush_own(self) -> None:
        self.keep_counts()
        with self._lock:
            self._flushed_ns = self.opened.clock.now_ns()
            reads, self._counts = self._counts, {}
            denials = {key: window[2] for key, window in self._denials.items() if window[2]}
            for window in self._denials.values():
                window[2] = 0
        if self.opened.options.read_only or not (reads or denials):
            return
        try:
            self.publish_records(self._count_records(reads, denials))
        except SecurecfgError:
            with self._lock:
                for key, count in reads.items():
                    self._counts[key] = self._counts.get(key, 0) + count
                for denied, count in denials.items():
                    self._denials[denied][2] += count
            raise

    def close(self) -> None:
        """Flush, and be forgotten by the vault, which stays open for others.

        Raises:
            AuditUnavailable: The log cannot be written.
        """
        if self._has_ended or self.opened.is_closed:
            return
        self.opened.off_close(self.flush)
        try:
            self.flush()
        finally:
            self._has_ended = True

    def _count_records(
        self,
        reads: dict[tuple[str, int], int],
        denials: dict[tuple[str, str], int],
    ) -> list[Record]:
        session = self.session()
        records = [
            session.record(Event.SECRET_READ_COUNTED, {"path": path, "ver": number}, count=count)
            for (path, number), count in reads.items()
        ]
        for (action, path), count in denials.items():
            obj = {"action": action, "path": path} if path else {"action": action}
            records.append(session.record(Event.ACCESS_DENIED_COUNTED, obj, count=count))
        return records

    def publish_records(self, records: Sequence[Record]) -> None:
        """Make records durable.

        Raises:
            AuditUnavailable: The log cannot be written.
        """
        for start in range(0, len(records), RECORDS_AT_ONCE):
            part = list(records[start : start + RECORDS_AT_ONCE])
            self.publish(lambda _, part=part: Plan(records=part))  # type: ignore[misc]  # lambda default


def _is_recent(window: list[int], now_ns: int) -> bool:
    return 0 <= now_ns - window[0] <= DENIAL_WINDOW_NS
