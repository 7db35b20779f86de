"""Rotates what is due, for as long as it runs. Many may run: a lease lets one work at each rotation.

One thread knows what is due next, and waits for it without looking at the others; a few work; all that they know is
in the vault, so that a daemon may be killed at any moment.
"""

from __future__ import annotations

import logging
import threading
import time
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from securecfg.errors import (
    AccessDenied,
    FileMissing,
    IntegrityError,
    RotationBusy,
    Sealed,
    SecurecfgError,
    Unavailable,
    UnsupportedFormat,
    VaultClosed,
    VaultForked,
)
from securecfg.rotation.agenda import Agenda, next_moment
from securecfg.rotation.document import LEASE_S, NS, all_rotations
from securecfg.rotation.due import begin_ns
from securecfg.rotation.lease import Leases, elapsed_s
from securecfg.rotation.machine import State
from securecfg.rotation.names import open_rotator
from securecfg.rotation.news import read_news
from securecfg.rotation.own_keys import replace_due_keys
from securecfg.rotation.pace import Pace
from securecfg.rotation.runner import Runner, has_work

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from securecfg.rotation.document import Rotation, Stored
    from securecfg.rotation.interface import Options, Rotator
    from securecfg.rotation.runner import StepDetails
    from securecfg.vault.vault import Vault

LOOKED_AT_S = 0.2
"""How often it is seen whether anything in the vault has changed, which is a comparison of memory."""

AWAKE_S = 5.0
"""How long it waits at most, so that a clock that was set is noticed."""

FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
_BUSY_PAUSE_NS = NS // 4
_DENIED_PAUSE_NS = 300 * NS

_log = logging.getLogger(__name__)


class Limits(NamedTuple):
    """How much a daemon does at once.

    Attributes:
        workers: At how many rotations it works at the same time.
        calls_per_s: How many calls of one target it begins in a second.
        stop_s: How long it waits for steps that are under way when it is to end.
        lease_s: After how long without a sign of life another daemon goes on with what this one has begun.
        keys_s: How often it looks whether the vault's own keys have come to their limits; 0 for never.
    """

    workers: int = 8
    calls_per_s: float = 20.0
    stop_s: float = 20.0
    lease_s: int = LEASE_S
    keys_s: float = 0.0


class Health(NamedTuple):
    """How a daemon is.

    Attributes:
        is_alive: Whether it has looked around lately.
        is_ready: Whether it has the vault open, knows what is due, and its last change of the vault was made.
        reason: The code of what keeps it from being ready; empty where nothing does.
        rotations: How many rotations there are, by state; `idle` are those that wait until they are due.
        next_ns: When something is due next; None for never.
        working: At how many rotations it works.
        hindered: How many rotations could not be led on when that was tried last, by the code of why; not those whose
            target is away, which is a part of their state.
    """

    is_alive: bool
    is_ready: bool
    reason: str
    rotations: dict[str, int]
    next_ns: int | None
    working: int
    hindered: Mapping[str, int] = MappingProxyType({})


class Daemon:
    """Rotates what is due in one vault.

    Args:
        open_vault: Opens the vault; called again where it could not be opened, or had to be closed.
        limits: How much it does at once.
        observe: Is told of each step.
        find: Returns a rotator by its name and options.
    """

    def __init__(
        self,
        open_vault: Callable[[], Vault],
        *,
        limits: Limits = Limits(),  # noqa: B008 - a tuple, which nobody changes
        observe: Callable[[StepDetails], None] = lambda _: None,
        find: Callable[[str, Options], Rotator] = open_rotator,
    ) -> None:
        """Do nothing yet."""
        self._open_vault = open_vault
        self._limits = limits
        self._observe = observe
        self._find = find
        self._stopping = threading.Event()
        self._wake = threading.Condition()
        self._must_reload = False
        self._agenda = Agenda()
        self._states: dict[int, str] = {}
        self._working: set[int] = set()
        self._again: dict[int, int | None] = {}
        self._changed: set[int] = set()
        self._keys_s = 0.0
        self._is_at_keys = False
        self._hindered: dict[int, type[SecurecfgError]] = {}
        self._reason = "starting"
        # One holder for all openings of the vault: what was under way in the last one need not be waited for.
        self._leases = Leases(lease_s=limits.lease_s)
        self._seen_s = elapsed_s()
        self._latest_ns = 0
        self._runner: Runner | None = None

    # --- from outside, by any thread ---------------------------------------------------------------------------------

    def stop(self) -> None:
        """End soon: begin nothing, and leave each rotation where its next step is stored. May be called by a signal."""
        self._stopping.set()
        runner = self._runner
        if runner is not None:
            runner.stop()

    def reload(self) -> None:
        """Look at all rotations anew. May be called by a signal."""
        self._must_reload = True

    def health(self) -> Health:
        """Return how it is."""
        with self._wake:
            counts: dict[str, int] = {}
            for state in self._states.values():
                counts[state] = counts.get(state, 0) + 1
            hindered: dict[str, int] = {}
            reason = self._reason or ("stopping" if self._stopping.is_set() else "")
            for kind in self._hindered.values():
                hindered[kind.code] = hindered.get(kind.code, 0) + 1
                if issubclass(kind, (IntegrityError, Unavailable)):
                    reason = reason or kind.code
            is_alive = elapsed_s() - self._seen_s < 6 * AWAKE_S
            is_ready = is_alive and not reason
            return Health(is_alive, is_ready, reason, counts, self._agenda.next_ns(), len(self._working), hindered)

    # --- the loop ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Rotate until `stop` is called.

        Raises:
            IntegrityError: The vault was altered or is older than it was; somebody must look at it.
            SecurecfgError: It cannot be opened for a reason that does not pass by itself.
        """
        pause_s = FIRST_PAUSE_S
        while not self._stopping.is_set():
            try:
                vault = self._open_vault()
            except (FileMissing, Sealed, Unavailable) as error:
                self._hold_on(error, pause_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
                continue
            pause_s = FIRST_PAUSE_S
            try:
                with vault:
                    self._serve(vault)
            except (Sealed, Unavailable, VaultClosed) as error:
                self._hold_on(error, FIRST_PAUSE_S)

    def _hold_on(self, error: SecurecfgError, pause_s: float) -> None:
        """Wait until the vault is to be opened again, or somebody asks for that."""
        with self._wake:
            self._reason = error.code
        extra = {"event": "rotation.vault.unavailable", "code": error.code}
        _log.warning("the vault cannot be used for now", extra=extra)
        until = time.monotonic() + pause_s
        while not self._must_reload and (left_s := until - time.monotonic()) > 0:
            self._look_around()
            if self._stopping.wait(min(left_s, LOOKED_AT_S)):
                return
        self._must_reload = False

    def _look_around(self) -> None:
        with self._wake:
            self._seen_s = elapsed_s()

    def _serve(self, vault: Vault) -> None:
        """Rotate what is due in an open vault, until it is to end or the vault cannot be used any more."""
        pace = Pace(self._limits.calls_per_s, self._leases.now_s, self._stopping.wait)
        runner = Runner(vault, leases=self._leases, observe=self._observe, pace=pace, find=self._find)
        self._runner = runner
        if self._stopping.is_set():
            return
        seen = self._load(vault)
        revision = vault.opened.store.revision()
        try:
            while not self._stopping.is_set():
                self._take_back(runner)
                if self._must_reload:
                    self._must_reload = False
                    seen = self._load(vault)
                self._begin(runner)
                self._look_at_keys(vault)
                self._wait(vault, revision)
                if vault.opened.store.revision() != revision:
                    revision = vault.opened.store.revision()
                    seen = self._follow(runner, seen)
        finally:
            runner.stop()
            self._finish()

    def _load(self, vault: Vault) -> int:
        """Look at all rotations; return which news that includes."""
        opened = vault.opened
        opened.refresh()
        news = read_news(opened)
        with self._wake:
            self._agenda = Agenda()
            self._states = {record: state for record, state in self._states.items() if record in self._working}
            self._hindered = {record: why for record, why in self._hindered.items() if record in self._working}
            newer: set[int] = set()
            for stored in opened.consistently(lambda: list(all_rotations(opened, newer))):
                if stored.rotation.record not in self._working:
                    self._know(stored.rotation, _moment(stored.rotation, opened.clock.now_ns()))
            for record in newer - self._working:
                self._agenda.put(record, 0)
            self._changed |= self._working
            self._reason = ""
            self._seen_s = elapsed_s()
            count = len(self._states)
        _log.info("knows what is to be rotated", extra={"event": "rotation.loaded", "count": count})
        return news.number

    def _follow(self, runner: Runner, seen: int) -> int:
        """Look at the rotations that were changed since; return which news that includes."""
        opened = runner.vault.opened
        opened.refresh()
        news = read_news(opened)
        changed = news.since(seen)
        if changed is None:
            return self._load(runner.vault)
        for record in changed:
            self._look_at(runner, record)
        return news.number

    def _look_at(self, runner: Runner, record: int) -> None:
        with self._wake:
            if record in self._working or record in self._again:
                # What its worker says of it may be older, and is taken back first.
                self._changed.add(record)
                return
        try:
            stored = runner.steps.find_record(record)
        except UnsupportedFormat:
            with self._wake:
                self._states.pop(record, None)
                self._agenda.put(record, 0)  # whoever takes it up says so, and looks at it again after a while
            return
        with self._wake:
            if stored is None:
                self._forget(record)
            else:
                self._know(stored.rotation, _moment(stored.rotation, runner.vault.opened.clock.now_ns()))

    def _wait(self, vault: Vault, revision: object) -> None:
        """Wait until something is due, something has changed, or it is time to look around."""
        self._look_around()
        until = time.monotonic() + AWAKE_S
        store = vault.opened.store
        while not self._stopping.is_set() and not self._must_reload and store.revision() == revision:
            with self._wake:
                left_s, now_ns = until - time.monotonic(), vault.opened.clock.now_ns()
                if now_ns < self._latest_ns - NS:
                    self._must_reload = True  # the clock was put back: moments that were noted lie too far ahead
                self._latest_ns = now_ns
                due_ns = self._agenda.next_ns()
                if due_ns is not None and len(self._working) < self._limits.workers:
                    left_s = min(left_s, (due_ns - now_ns) / NS)
                if left_s <= 0 or self._again:
                    return
                self._wake.wait(min(left_s, LOOKED_AT_S))

    def _begin(self, runner: Runner) -> None:
        with self._wake:
            now_ns = runner.vault.opened.clock.now_ns()
            taken = self._agenda.take(now_ns, self._limits.workers - len(self._working))
            self._working.update(taken)
        for record in taken:
            self._start(runner, record)

    def _start(self, runner: Runner, record: int) -> None:
        # Not of a pool: a step that hangs must not keep the process from ending.
        thread = threading.Thread(target=self._work, args=(runner, record), name="securecfg-rotation", daemon=True)
        thread.start()

    def _work(self, runner: Runner, record: int) -> None:
        """Lead one rotation on, in a thread of its own, and say when to look at it next."""
        try:
            stored = runner.steps.find_record(record)
            if stored is None:
                self._done(record, None)
                return
            why = ""
            if not stored.rotation.is_running and self._is_due(runner, stored):
                now_ns = runner.vault.opened.clock.now_ns()
                begins_ns = begin_ns(stored.rotation.rules, stored.rotation.due_ns, now_ns)
                if begins_ns > now_ns:
                    self._done(record, begins_ns, stored.rotation)
                    return
                why = "due"
            after = runner.advance(stored, why).rotation
            self._done(record, _moment(after, runner.vault.opened.clock.now_ns()), after)
        except RotationBusy:
            self._done(record, self._busy_until(runner, record))
        except (VaultClosed, VaultForked):
            # Whoever has the vault open again, if anybody, finds out for himself.
            with self._wake:
                self._changed.add(record)
            self._done(record, None)
        except SecurecfgError as error:
            extra = {"event": "rotation.interrupted", "code": error.code}
            _log.warning("a rotation cannot go on for now", extra=extra)
            pause_ns = _DENIED_PAUSE_NS if isinstance(error, (AccessDenied, UnsupportedFormat)) else 5 * NS
            self._done(record, runner.vault.opened.clock.now_ns() + pause_ns, hindered_by=type(error))
        except Exception as error:  # noqa: BLE001 - the outermost loop of a thread; its text could quote a value
            extra = {"event": "rotation.broken", "code": type(error).__name__}
            _log.error("a rotation met a defect of this library", extra=extra)
            self._done(record, runner.vault.opened.clock.now_ns() + _DENIED_PAUSE_NS)

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

    def _done(
        self,
        record: int,
        at_ns: int | None,
        rotation: Rotation | None = None,
        hindered_by: type[SecurecfgError] | None = None,
    ) -> None:
        with self._wake:
            self._again[record] = at_ns
            if rotation is not None:
                self._states[record] = _state_of(rotation)
            if hindered_by is not None:
                self._hindered[record] = hindered_by
            else:
                self._hindered.pop(record, None)
            self._working.discard(record)
            self._wake.notify()

    def _look_at_keys(self, vault: Vault) -> None:
        """Replace the vault's own keys where they are due, in a thread of its own."""
        now_s = elapsed_s()
        if not self._limits.keys_s or self._is_at_keys or now_s < self._keys_s:
            return
        self._keys_s, self._is_at_keys = now_s + self._limits.keys_s, True
        threading.Thread(target=self._replace_keys, args=(vault,), name="securecfg-own-keys", daemon=True).start()

    def _replace_keys(self, vault: Vault) -> None:
        try:
            for subject in replace_due_keys(vault):
                _log.info("a key of the vault was replaced", extra={"event": "rotation.key.replaced", "kind": subject})
        except SecurecfgError as error:
            extra = {"event": "rotation.key.postponed", "code": error.code}
            _log.warning("the keys of the vault cannot be looked at for now", extra=extra)
        finally:
            self._is_at_keys = False

    def _take_back(self, runner: Runner) -> None:
        """Take the rotations back that were worked at, and look at those again that somebody changed meanwhile."""
        with self._wake:
            for record, at_ns in self._again.items():
                self._agenda.put(record, at_ns)
            self._again.clear()
            changed = self._changed - self._working
            self._changed &= self._working
        for record in changed:
            self._look_at(runner, record)

    def _know(self, rotation: Rotation, at_ns: int | None) -> None:
        self._states[rotation.record] = _state_of(rotation)
        self._hindered.pop(rotation.record, None)
        self._agenda.put(rotation.record, at_ns)

    def _forget(self, record: int) -> None:
        self._states.pop(record, None)
        self._hindered.pop(record, None)
        self._agenda.put(record, None)

    def _finish(self) -> None:
        """Wait for the steps that are under way."""
        until = time.monotonic() + self._limits.stop_s
        with self._wake:
            while self._working and (left := until - time.monotonic()) > 0:
                self._seen_s = elapsed_s()
                self._wake.wait(min(left, AWAKE_S))
            count = len(self._working)
        if count:
            extra = {"event": "rotation.left", "count": count}
            _log.warning("steps that are under way are left to whoever goes on", extra=extra)


def _moment(rotation: Rotation, now_ns: int) -> int | None:
    """Return when a rotation can be led on: at once where it waits for a time that a clock was put back from."""
    at_ns = next_moment(rotation)
    return now_ns if at_ns is not None and at_ns > now_ns and has_work(rotation, now_ns) else at_ns


def _state_of(rotation: Rotation) -> str:
    progress = rotation.progress
    if rotation.is_paused:
        return "paused"
    return "idle" if progress is None or progress.state in {State.RETIRED, State.CANCELLED} else str(progress.state)
