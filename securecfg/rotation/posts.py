"""What a daemon knows of the rotations in one part of a vault, and its work at them."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from securecfg.errors import (
    AccessDenied,
    RotationBusy,
    ScopeSealed,
    SecurecfgError,
    UnsupportedFormat,
    VaultClosed,
    VaultForked,
)
from securecfg.rotation.agenda import Agenda, next_moment
from securecfg.rotation.document import NS, all_rotations
from securecfg.rotation.due import begin_ns
from securecfg.rotation.machine import State
from securecfg.rotation.news import read_news
from securecfg.rotation.parts import is_led
from securecfg.rotation.runner import has_work

if TYPE_CHECKING:
    from securecfg.rotation.document import Rotation, Stored
    from securecfg.rotation.runner import Runner

_BUSY_PAUSE_NS = NS // 4
_DENIED_PAUSE_NS = 300 * NS

_log = logging.getLogger(__name__)


class Post:
    """What is to be done in one part of a vault, be it the vault itself or a sealed scope. Outlives its openings.

    Args:
        wake: Held while what is known is looked at or changed; notified when a worker is done.

    Attributes:
        agenda: When what is to be done next.
        states: How each rotation is, by the number of its secret.
        working: What is worked at, by whichever runner.
        hindered: What could not be led on when that was tried last, and why.
        is_led: Whether the key at hand reads and writes the part.
    """

    def __init__(self, wake: threading.Condition) -> None:
        """Know of nothing."""
        self._wake = wake
        self.agenda = Agenda()
        self.states: dict[int, str] = {}
        self.working: set[int] = set()
        self.hindered: dict[int, type[SecurecfgError]] = {}
        self._again: dict[int, int | None] = {}
        self._changed: set[int] = set()
        self._seen = 0
        self.is_led = True

    @property
    def has_news(self) -> bool:
        """Whether a worker is done whose rotation was not taken back yet."""
        return bool(self._again)

    # --- looking -----------------------------------------------------------------------------------------------------

    def load(self, runner: Runner) -> None:
        """Look at all rotations of the part.

        In a scope that the key at hand does not both read and write there are none for this daemon.

        Raises:
            Sealed: The part is open no more.
            IntegrityError: It is not what it should be, or is no more.
        """
        opened = runner.vault.opened
        opened.refresh()
        news, self.is_led = read_news(opened), is_led(opened)
        with self._wake:
            self.agenda = Agenda()
            self.states = {record: state for record, state in self.states.items() if record in self.working}
            self.hindered = {record: why for record, why in self.hindered.items() if record in self.working}
            newer: set[int] = set()
            for stored in opened.consistently(lambda: list(all_rotations(opened, newer))) if self.is_led else ():
                if stored.rotation.record not in self.working:
                    self._know(stored.rotation, _moment(stored.rotation, opened.clock.now_ns()))
            for record in newer - self.working:
                self.agenda.put(record, 0)
            self._changed |= self.working | self._again.keys()
        self._seen = news.number

    def follow(self, runner: Runner) -> None:
        """Look at the rotations that were changed since.

        Raises:
            As for `load`.
        """
        opened = runner.vault.opened
        opened.refresh()
        if is_led(opened) is not self.is_led:
            self.load(runner)
            return
        if not self.is_led:
            return
        news = read_news(opened)
        changed = news.since(self._seen)
        if changed is None:
            self.load(runner)
            return
        for record in changed:
            self.look_at(runner, record)
        self._seen = news.number

    def look_at(self, runner: Runner, record: int) -> None:
        """Look at one rotation, once nobody works at it."""
        with self._wake:
            if record in self.working or record in self._again:
                # What its worker says of it may be older, and is taken back first.
                self._changed.add(record)
                return
        try:
            stored = runner.steps.find_record(record)
        except UnsupportedFormat:
            with self._wake:
                self.states.pop(record, None)
                self.agenda.put(record, 0)  # whoever takes it up says so, and looks at it again after a while
            return
        with self._wake:
            if stored is None:
                self._forget(record)
            else:
                self._know(stored.rotation, _moment(stored.rotation, runner.vault.opened.clock.now_ns()))

    def take_back(self, runner: Runner) -> None:
        """Take the rotations back that were worked at, and look at those again that somebody changed meanwhile."""
        with self._wake:
            for record, at_ns in self._again.items():
                self.agenda.put(record, at_ns)
            self._again.clear()
            changed = self._changed - self.working
            self._changed &= self.working
        for record in changed:
            self.look_at(runner, record)

    def leave(self) -> None:
        """Know of nothing any more but what is worked at: the part is not open."""
        with self._wake:
            self.agenda = Agenda()
            self._again.clear()
            self.states.clear()
            self.hindered.clear()

    # --- working -----------------------------------------------------------------------------------------------------

    def start(self, runner: Runner, record: int) -> None:
        """Lead a rotation on that was taken from the agenda, in a thread of its own."""
        # Not of a pool: a step that hangs must not keep the process from ending.
        thread = threading.Thread(target=self.work, args=(runner, record), name="securecfg-rotation", daemon=True)
        thread.start()

    def work(self, runner: Runner, record: int) -> None:
        """Lead a rotation on, and say when to look at it next."""
        try:
            stored = runner.steps.find_record(record)
            if stored is None:
                self.done(record, None)
                return
            why = ""
            if not stored.rotation.is_running and self._is_due(runner, stored):
                now_ns = runner.vault.opened.clock.now_ns()
                begins_ns = begin_ns(stored.rotation.rules, stored.rotation.due_ns, now_ns)
                if begins_ns > now_ns:
                    self.done(record, begins_ns, stored.rotation)
                    return
                why = "due"
            after = runner.advance(stored, why).rotation
            self.done(record, _moment(after, runner.vault.opened.clock.now_ns()), after)
        except RotationBusy:
            self.done(record, self._busy_until(runner, record))
        except (VaultClosed, VaultForked):
            # Whoever has the vault open again, if anybody, finds out for himself.
            with self._wake:
                self._changed.add(record)
            self.done(record, None)
        except SecurecfgError as error:
            extra = {"event": "rotation.interrupted", "code": error.code}
            _log.warning("a rotation cannot go on for now", extra=extra)
            pause_ns = _DENIED_PAUSE_NS if isinstance(error, (AccessDenied, ScopeSealed, UnsupportedFormat)) else 5 * NS
            self.done(record, runner.vault.opened.clock.now_ns() + pause_ns, hindered_by=type(error))
        except Exception as error:  # noqa: BLE001 - the outermost loop of a thread; its text could quote a value
            extra = {"event": "rotation.broken", "code": type(error).__name__}
            _log.error("a rotation met a defect of this library", extra=extra)
            self.done(record, runner.vault.opened.clock.now_ns() + _DENIED_PAUSE_NS)

    @staticmethod
    def _is_due(runner: Runner, stored: Stored) -> bool:
        return 0 < stored.rotation.due_ns <= runner.vault.opened.clock.now_ns()

    @staticmethod
    def _busy_until(runner: Runner, record: int) -> int | None:
        try:
            stored = runner.steps.find_record(record)
        except SecurecfgError:
            return runner.vault.opened.clock.now_ns() + NS
        if stored is None:
            return None
        # Not for the whole lease: whoever holds it may be seen to be gone before that.
        pause_ns = min(max(int(runner.leases.free_in_s(stored) * NS), _BUSY_PAUSE_NS), NS)
        return runner.vault.opened.clock.now_ns() + pause_ns

    def done(
        self,
        record: int,
        at_ns: int | None,
        rotation: Rotation | None = None,
        hindered_by: type[SecurecfgError] | None = None,
    ) -> None:
        """Say how a rotation is that was worked at, and when to look at it next."""
        with self._wake:
            self._again[record] = at_ns
            if rotation is not None:
                self.states[record] = _state_of(rotation)
            if hindered_by is not None:
                self.hindered[record] = hindered_by
            else:
                self.hindered.pop(record, None)
            self.working.discard(record)
            self._wake.notify()

    def _know(self, rotation: Rotation, at_ns: int | None) -> None:
        self.states[rotation.record] = _state_of(rotation)
        self.hindered.pop(rotation.record, None)
        self.agenda.put(rotation.record, at_ns)

    def _forget(self, record: int) -> None:
        self.states.pop(record, None)
        self.hindered.pop(record, None)
        self.agenda.put(record, None)


def _moment(rotation: Rotation, now_ns: int) -> int | None:
    """Return when a rotation can be led on: at once where it waits for a time that a clock was put back from."""
    at_ns = next_moment(rotation)
    return now_ns if at_ns is not None and at_ns > now_ns and has_work(rotation, now_ns) else at_ns


def _state_of(rotation: Rotation) -> str:
    progress = rotation.progress
    if rotation.is_paused:
        return "paused"
    return "idle" if progress is None or progress.state in {State.RETIRED, State.CANCELLED} else str(progress.state)
