"""The records of one open bundle, durable in its sink before anything is given out (bundles.md, section 5)."""

from __future__ import annotations

import os
import secrets
import sys
import threading
from typing import TYPE_CHECKING

from securecfg.audit import Event, Record, Source, Subject
from securecfg.audit.sessions import SessionWriter, Start
from securecfg.errors import VaultClosed, VaultForked
from securecfg.keys.identity import format_identity
from securecfg.vault.authority import DENIAL_WINDOW_NS, DENIALS_KEPT, DENIALS_RECORDED, FLUSH_INTERVAL_NS
from securecfg.vault.bundles.sinks import append

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from securecfg.clock import Clock
    from securecfg.keys import IdentityProvider
    from securecfg.vault.bundles.opening import OpenBundle
    from securecfg.vault.bundles.sinks import AuditSink


class Trail:
    """The records of one open bundle: durable in its sink before anything is given out.

    Args:
        sink: Keeps them.
        bundle: What is read.
        provider: Signs for its reader.
        clock: The time.
    """

    def __init__(self, sink: AuditSink, bundle: OpenBundle, provider: IdentityProvider, clock: Clock) -> None:
        """Begin a session, so that a sink that does not work is found before anything else.

        Raises:
            AuditUnavailable: The sink does not keep its start.
        """
        self.is_closed = False
        self._sink = sink
        self._bundle = bundle
        self._provider = provider
        self._clock = clock
        self._pid = os.getpid()
        self._lock = threading.Lock()
        # One for each vault, or sealed scope of it, that is read from: each takes in its own.
        self._sessions: dict[bytes, SessionWriter] = {}
        self._recorded: set[tuple[str, int]] = set()
        self._counts: dict[tuple[str, int], int] = {}
        self._denials: dict[tuple[str, str], list[int]] = {}
        self._flushed_ns = clock.now_ns()
        self._subject = Subject(bundle.reader.name, is_proved=True, roles=(f"role:{bundle.inventory.role}",))
        program = os.path.basename(sys.argv[0]) if sys.argv else ""  # noqa: PTH119 - without `pathlib`, as `session`
        self._source = Source(self._pid, program, os.uname().nodename)
        with self._lock:
            self._append([])

    def check(self) -> None:
        """Refuse what was closed, or opened by a parent of this process.

        Raises:
            VaultClosed: It was closed.
            VaultForked: The session is the parent's.
        """
        if self._pid != os.getpid():
            message = "the bundle was opened before this process was forked"
            raise VaultForked(message, hint="open it again in the child")
        if self.is_closed:
            message = "the bundle is closed"
            raise VaultClosed(message, hint="open it again")

    def reads(self, places: Sequence[tuple[str, int]], *, repeats: bool) -> None:
        """Record what is about to be read: the first time durably, later in counts.

        Args:
            places: Paths and versions.
            repeats: Whether repeats are recorded each too.

        Raises:
            AuditUnavailable: The sink does not keep it.
            VaultClosed: The bundle was closed meanwhile.
        """
        with self._lock:
            self.check()
            fresh = [place for place in places if repeats or place not in self._recorded]
            known = [] if repeats else [place for place in places if place in self._recorded]
            if fresh:
                self._append([self._record(Event.SECRET_READ, {"path": path, "ver": n}) for path, n in fresh])
            for place in known:
                self._counts[place] = self._counts.get(place, 0) + 1
            self._recorded.update(fresh)
            self._flush_if_due()

    def denied(self, action: str, path: str) -> None:
        """Record a denial. After ten alike in a minute the rest are counted.

        Raises:
            AuditUnavailable: The sink does not keep it.
            VaultClosed: The bundle was closed meanwhile.
        """
        now = self._clock.now_ns()
        with self._lock:
            self.check()
            if len(self._denials) >= DENIALS_KEPT:
                self._denials = {key: window for key, window in self._denials.items() if window[2]}
            window = self._denials.setdefault((action, path), [now, 0, 0])
            if not 0 <= now - window[0] <= DENIAL_WINDOW_NS:
                window[:2] = [now, 0]
            window[1] += 1
            if window[1] <= DENIALS_RECORDED:
                self._append([self._record(Event.ACCESS_DENIED, {"action": action, "path": path})])
            else:
                window[2] += 1
            self._flush_if_due()

    def close(self) -> None:
        """Record the counts and the end of the session. May be called again.

        Raises:
            AuditUnavailable: The sink does not keep them.
        """
        if self._pid != os.getpid():
            return
        with self._lock:
            if self.is_closed:
                return
            self.is_closed = True
            try:
                self._flush()
                if self._sessions:
                    append(self._sink, [session.end() for session in self._sessions.values()])
            finally:
                self._sink.close()

    def _flush_if_due(self) -> None:
        if not 0 <= self._clock.now_ns() - self._flushed_ns <= FLUSH_INTERVAL_NS:
            self._flush()

    def _flush(self) -> None:
        self._flushed_ns = self._clock.now_ns()
        records = [
            self._record(Event.SECRET_READ_COUNTED, {"path": path, "ver": number}, count)
            for (path, number), count in self._counts.items()
        ]
        records += [
            self._record(Event.ACCESS_DENIED_COUNTED, {"action": action, "path": path}, window[2])
            for (action, path), window in self._denials.items()
            if window[2]
        ]
        if records:
            self._append(records)
        self._counts = {}
        for window in self._denials.values():
            window[2] = 0

    def _append(self, records: Sequence[Record]) -> None:
        origins = {} if records else {self._bundle.vault_id: self._bundle.origin_of("")}
        groups: dict[bytes, list[Record]] = {vault_id: [] for vault_id in origins}
        for record in records:
            origin = self._bundle.origin_of(str(record.obj.get("path", "")))
            origins[origin.vault_id] = origin
            groups.setdefault(origin.vault_id, []).append(record)
        entries: list[bytes] = []
        used: dict[bytes, SessionWriter] = {}
        for vault_id, those in groups.items():
            session = self._sessions.get(vault_id)
            if session is None:
                origin, bundle = origins[vault_id], self._bundle
                session = SessionWriter(vault_id, origin.audit_key, self._provider.sign)
                entries.append(session.start(Start(origin.serial, bundle.digest, format_identity(bundle.reader))))
            used[vault_id] = session
            entries += [session.record(record) for record in those]
        # What a sink did with entries that it did not say it kept is not known: they end their sessions.
        self._sessions = {vault_id: session for vault_id, session in self._sessions.items() if vault_id not in used}
        append(self._sink, entries)
        self._sessions |= used

    def _record(self, event: Event, obj: Mapping[str, object], count: int | None = None) -> Record:
        return Record(
            time_ns=self._clock.now_ns(),
            event=event,
            subject=self._subject,
            source=self._source,
            obj=obj,
            policy=self._bundle.inventory.policy,
            request_id=secrets.token_hex(16),
            count=count,
        )
