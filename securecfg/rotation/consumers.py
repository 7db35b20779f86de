"""Programs that follow secrets: who is told of which new current version, in which order, and how often.

One thread looks whether anything in the vault has changed, and then at the changed secrets that somebody follows. It
notes down whom to call; a few others call, and acknowledge the version. Section 9 of `docs/security/rotation.md`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from securecfg.audit import Event
from securecfg.errors import (
    AccessDenied,
    IntegrityError,
    InvalidPath,
    PathMounted,
    ScopeSealed,
    Sealed,
    SecurecfgError,
    Unsupported,
    UnsupportedFormat,
    VaultClosed,
    VaultForked,
)
from securecfg.policy import parse_pattern, pattern_problem
from securecfg.rotation.document import document_path, find_rotation
from securecfg.rotation.machine import State
from securecfg.rotation.rotations import Rotations
from securecfg.rotation.versions import Seen, became_current
from securecfg.store import Space
from securecfg.vault.index.history import LIVE
from securecfg.vault.index.in_memory import prefix_end
from securecfg.vault.paths import FIRST_USER_PATH, ROTATIONS, SYSTEM, scope_among
from securecfg.vault.references import SecretRef

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Hashable, Iterator

    from securecfg.policy import Pattern
    from securecfg.vault.index.history import History, Version
    from securecfg.vault.index.segments import Entry
    from securecfg.vault.opened import OpenVault
    from securecfg.vault.vault import Vault

    Callback = Callable[[SecretRef | None, SecretRef], object]

CALLS_AT_ONCE = 4
"""How many callbacks run at the same time, each of another secret."""

LOOKED_AT_S = 0.1
"""How often it is seen whether anything in the vault has changed, which is a comparison of memory."""

FIRST_PAUSE_S = 0.1
LONGEST_PAUSE_S = 60.0
_GLANCE_S = 0.001
_ROWS_AT_ONCE = 512
_ONE_BY_ONE = "`vault.ref(path).on_change(function)` follows one secret, wherever it lies"

_log = logging.getLogger(__name__)


class _Follower:
    """A callback, and what was seen of the secrets that it follows."""

    def __init__(self, pattern: Pattern, callback: Callback, since_ns: int) -> None:
        self.callback = callback
        self.since_ns = since_ns
        self.is_stopped = False
        self.size = 0  # of the log, as of when it was looked last
        self.seen: dict[int, Seen] = {}
        self._beginning = pattern.beginning.encode()
        self._regex: re.Pattern[str] = pattern.to_regex()

    def matches(self, path: bytes) -> bool:
        return not path.startswith(SYSTEM) and self._regex.fullmatch(path.decode()) is not None

    def entries(self, opened: OpenVault) -> list[tuple[bytes, Entry]]:
        """Return what matches, as of the state that was read last."""
        found = opened.entries(self._beginning or FIRST_USER_PATH, prefix_end(self._beginning))
        return [(path, entry) for path, entry in found if self.matches(path)]


class _Call(NamedTuple):
    """What is to be told: a version has taken the place of another one, 0 for none."""

    old: int
    new: int


class _Line:
    """The calls of one follower for one secret, one after the other."""

    __slots__ = ("calls", "due_s", "follower", "is_made", "pause_s", "record")

    def __init__(self, follower: _Follower, record: int) -> None:
        self.follower, self.record = follower, record
        self.calls: deque[_Call] = deque()
        self.is_made = False  # the first call was; that it was is not stored yet
        self.due_s = 0.0
        self.pause_s = FIRST_PAUSE_S


class Consumers:
    """The callbacks of a vault handle in one part. Threads run while there is somebody to call. Any thread may use it.

    Args:
        vault: The handle, on whose behalf secrets are read and versions acknowledged.
        part: The part of it whose secrets are followed; None where it has but one.
        after_look: Called whenever it was looked at what changed.
        after_end: Called where there is nothing more to look at: the part was merged, or taken away.

    Attributes:
        looked_ns: When it was looked last.
    """

    def __init__(
        self,
        vault: Vault,
        part: Vault | None = None,
        after_look: Callable[[], object] = lambda: None,
        after_end: Callable[[], object] = lambda: None,
    ) -> None:
        """Follow nothing yet."""
        self._vault, self._part = vault, part or vault
        self._after_look, self._after_end = after_look, after_end
        self.looked_ns = self._part.opened.clock.now_ns()
        self._changed = threading.Condition()
        self._followers: list[_Follower] = []
        self._lines: dict[tuple[_Follower, int], _Line] = {}
        self._called: set[int] = set()
        self._heard: set[tuple[int, int]] = set()  # versions that a callback has, and nobody has acknowledged yet
        self._workers = 0
        self._watcher: threading.Thread | None = None

    def follow(self, pattern: str, callback: Callback, since_ns: int | None = None) -> Callable[[], None]:
        """Call something after each new current version of the secrets that match; see `Vault.on_rotate`.

        Args:
            pattern: Which secrets.
            callback: What is called.
            since_ns: From when on versions are news; None for from now on.
        """
        parsed = parse_followed(pattern)
        opened = self._part.opened
        opened.refresh()
        self._part.authority.filter_listed([])  # which asks on whose behalf
        _verify_own(pattern, opened)
        follower = _Follower(parsed, callback, opened.clock.now_ns() if since_ns is None else since_ns)
        if since_ns is None:
            self._look_first(follower)
        calls = [(follower, record, call) for record, call in self._awaited(follower)]
        with self._changed:
            self._followers.append(follower)
            self._put(calls)
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, name="securecfg-consumers", daemon=True)
                self._watcher.start()

        def stop() -> None:
            with self._changed:
                follower.is_stopped = True
                if follower in self._followers:
                    self._followers.remove(follower)
                for line in self._lines.values():
                    if line.follower is follower:
                        # It is not called any more, but may be the one that acknowledges what others have heard.
                        line.due_s, line.pause_s = 0.0, FIRST_PAUSE_S
                self._begin()
                self._changed.notify_all()

        return stop

    # --- looking -----------------------------------------------------------------------------------------------------

    def _look_first(self, follower: _Follower) -> None:
        """See what there is; nothing of it is news."""
        opened = self._part.opened
        with opened.replica.lock:
            follower.size = opened.replica.checkpoint.size
        entries = follower.entries(opened)
        for start in range(0, len(entries), _ROWS_AT_ONCE):
            part = entries[start : start + _ROWS_AT_ONCE]
            rows = opened.store.get_many([(Space.HISTORY, entry.history_id) for _, entry in part])
            for (path, entry), row in zip(part, rows, strict=True):
                try:
                    history, _ = opened.replica.rows.find_version(row, (entry.rec_id, path), entry.digest, 0)
                except IntegrityError:
                    found = self._find(path)  # it changed meanwhile, or raises that it is damaged
                    if found is not None:
                        follower.seen[found[0].rec_id] = Seen.of(found[1], found[0].digest)
                else:
                    follower.seen[entry.rec_id] = Seen.of(history, entry.digest)

    def _awaited(self, follower: _Follower) -> Iterator[tuple[int, _Call]]:
        """Yield the current versions for which rotations wait that the caller has not acknowledged."""
        opened, principal = self._part.opened, self._vault.principal
        names = {name for name, entry in opened.entries(ROTATIONS, prefix_end(ROTATIONS)) if entry.live}
        for record, seen in follower.seen.items():
            try:
                stored = find_rotation(opened, record) if document_path(record) in names else None
            except UnsupportedFormat:
                continue  # whether a newer version's rotation waits for anybody is not known here
            progress = stored.rotation.progress if stored is not None else None
            if stored is None or progress is None or progress.state is not State.CURRENT:
                continue
            is_awaited = principal in stored.rotation.rules.consumers and principal not in progress.acknowledged
            if is_awaited and progress.version == seen.current:
                yield record, _Call(progress.former, progress.version)

    def _watch(self) -> None:
        pause_s = FIRST_PAUSE_S
        with suppress(VaultClosed, VaultForked):
            while self._is_followed():
                try:
                    revision, now_ns = self._part.opened.store.revision(), self._part.opened.clock.now_ns()
                    self._look()
                    self.looked_ns = now_ns
                    self._after_look()
                    self._wait(revision)
                    pause_s = FIRST_PAUSE_S
                except (VaultClosed, VaultForked):
                    raise
                except SecurecfgError as error:
                    if self._has_ended(error):
                        with suppress(SecurecfgError):
                            self._after_end()
                        return
                    if pause_s == FIRST_PAUSE_S:
                        extra = {"event": "consumers.interrupted", "code": error.code}
                        _log.warning("secrets that are followed cannot be looked at for now", extra=extra)
                    self._rest(pause_s)
                    pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    def _has_ended(self, error: SecurecfgError) -> bool:
        """Return whether the sealed scope that is followed was merged, or taken away from the key at hand."""
        opened = self._part.opened
        if opened.replica.seat is None:
            return False
        return isinstance(error, Sealed) or (isinstance(error, IntegrityError) and not opened.has_head())

    def _is_followed(self) -> bool:
        with self._changed:
            if not self._followers:
                self._watcher = None
            return bool(self._followers)

    def _look(self) -> None:
        """Note down whom to call for what changed since."""
        opened = self._part.opened
        opened.refresh()
        with opened.replica.lock:
            index, size = opened.replica.index, opened.replica.checkpoint.size
        with self._changed:
            followers = list(self._followers)
        calls: list[tuple[_Follower, int, _Call]] = []
        looked: list[tuple[_Follower, dict[int, Seen]]] = []
        for follower in followers:
            changed = index.changed_since(follower.size)
            paths = [path for path, _ in follower.entries(opened)] if changed is None else sorted(changed)
            seen: dict[int, Seen] = {}
            for path in filter(follower.matches, paths):
                calls += [(follower, record, call) for record, call in self._look_at(follower, path, seen)]
            looked.append((follower, seen))
        # All at once, so that none acknowledges a version that others of this program are yet to be told of.
        with self._changed:
            for follower, seen in looked:
                follower.seen.update(seen)
                follower.size = size
            self._put(calls)

    def _look_at(self, follower: _Follower, path: bytes, seen: dict[int, Seen]) -> Iterator[tuple[int, _Call]]:
        found = self._find(path)
        if found is None:
            return
        entry, history = found
        before = follower.seen.get(entry.rec_id)
        if before is not None and (before.path, before.digest) == (path, entry.digest):
            return
        known = before.newest if before is not None else 0
        versions = list(self._part.opened.consistently(lambda: self._newer(history, known)))
        old = before.current if before is not None else 0
        for new in became_current(before, history, versions, follower.since_ns):
            yield entry.rec_id, _Call(old, new)
            old = new
        seen[entry.rec_id] = Seen.of(history, entry.digest)

    def _find(self, path: bytes) -> tuple[Entry, History] | None:
        opened = self._part.opened

        def read() -> tuple[Entry, History] | None:
            entry = opened.replica.index.get(path)
            return None if entry is None else (entry, opened.history(path, entry))

        return opened.consistently(read)

    def _newer(self, history: History, known: int) -> list[Version]:
        versions = list(history.versions)
        for page in range(len(history.older) - 1, -1, -1):
            if history.older[page].last <= known:
                break
            versions += self._part.opened.older_versions(history, page)
        return versions

    def _wait(self, revision: Hashable) -> None:
        """Wait until something in the vault has changed or nobody is followed, and begin what is due meanwhile."""
        opened = self._part.opened
        while True:
            self._part.authority.session()  # which is over where the handle was lent
            with self._changed:
                if not self._followers:
                    return
                self._begin()
                self._changed.wait(LOOKED_AT_S)
            if opened.store.wait(revision, _GLANCE_S):
                return

    def _rest(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and self._followers:
            self._part.opened.check_open()
            time.sleep(min(left, LOOKED_AT_S))

    # --- calling -----------------------------------------------------------------------------------------------------

    def _put(self, calls: list[tuple[_Follower, int, _Call]]) -> None:
        """Note calls down and begin them; the caller holds the lock."""
        for follower, record, call in calls:
            if not follower.is_stopped:
                line = self._lines.setdefault((follower, record), _Line(follower, record))
                line.calls.append(call)
        self._begin()

    def _begin(self) -> None:
        """Let as many work as have something to do; the caller holds the lock."""
        now = time.monotonic()
        ready = {line.record for line in self._lines.values() if line.due_s <= now} - self._called
        for _ in range(min(len(ready), CALLS_AT_ONCE - self._workers)):
            self._workers += 1
            # Not of a pool: a callback that hangs must not keep the process from ending.
            threading.Thread(target=self._work, name="securecfg-consumer", daemon=True).start()

    def _work(self) -> None:
        while (line := self._take()) is not None:
            is_over = True
            try:
                is_over = self._lead_on(line)
            except (VaultClosed, VaultForked):
                self._drop(line)
            except SecurecfgError as error:
                is_over = False
                extra = {"event": "consumers.interrupted", "code": error.code}
                _log.warning("a consumer of a secret cannot be called for now", extra=extra)
            except Exception as error:  # noqa: BLE001 - the outermost loop of a thread; its text could quote a value
                is_over = False
                extra = {"event": "consumers.broken", "code": type(error).__name__}
                _log.error("calling a consumer met a defect of this library", extra=extra)
            finally:
                self._give_back(line, is_over=is_over)

    def _take(self) -> _Line | None:
        with self._changed:
            now = time.monotonic()
            for line in self._lines.values():
                if line.due_s <= now and line.record not in self._called:
                    self._called.add(line.record)
                    return line
            self._workers -= 1
            return None

    def _give_back(self, line: _Line, *, is_over: bool) -> None:
        with self._changed:
            self._called.discard(line.record)
            if is_over:
                line.is_made = False
                line.pause_s, line.due_s = FIRST_PAUSE_S, 0.0
                if line.calls:
                    line.calls.popleft()
                if not line.calls:
                    self._lines.pop((line.follower, line.record), None)
            elif not self._followers:
                self._lines.pop((line.follower, line.record), None)  # nobody is there to begin it again
            else:
                line.due_s = time.monotonic() + line.pause_s
                line.pause_s = min(2 * line.pause_s, LONGEST_PAUSE_S)

    def _drop(self, line: _Line) -> None:
        with self._changed:
            line.calls.clear()

    def _lead_on(self, line: _Line) -> bool:
        """Make the first call of a line and acknowledge it; return whether nothing is left to do for it.

        Raises:
            SecurecfgError: The vault cannot be used for now.
        """
        opened, follower, call = self._part.opened, line.follower, line.calls[0]
        opened.refresh()
        size, path = opened.replica.checkpoint.size, follower.seen[line.record].path
        entry = opened.entry(path)
        if entry is None or entry.rec_id != line.record:
            # It was moved. Where to is known once that was looked at; nothing is to be done where it does not match.
            with self._changed:
                return follower.is_stopped or (follower.size >= size and follower.seen[line.record].path == path)
        version = (line.record, call.new)
        if not line.is_made:
            refs = self._refs(line, call, path)
            if refs is not None and not self._call(follower.callback, *refs):
                self._record_failure(path.decode(), call.new)
                return False
            with self._changed:
                if refs is not None:
                    self._heard.add(version)
                elif version not in self._heard:
                    return True
            line.is_made = True
        if not self._is_told_to_others(line, call):
            # Somebody who gave up the right to read it in the meantime has nothing to acknowledge, nor has who does not
            # understand the rotation; and nobody would believe it of who does not write the sealed scope that it lies
            # in: the grace is as long as it is.
            with suppress(AccessDenied, ScopeSealed, UnsupportedFormat):
                Rotations(self._vault).acknowledge(path.decode(), call.new)
            with self._changed:
                self._heard.discard(version)
        return True

    def _refs(self, line: _Line, call: _Call, path: bytes) -> tuple[SecretRef | None, SecretRef] | None:
        """Return what a callback is given, None where it is not to be called any more."""
        name = path.decode()
        try:
            self._part.opened.verify_own(name)
        except (PathMounted, ScopeSealed):
            return None
        if line.follower.is_stopped or not self._part.authority.session().decide("read", name).allowed:
            return None
        if not self._is_there(path, line.record, call.new):
            return None
        old = SecretRef(self._vault, name, at=call.old) if self._is_there(path, line.record, call.old) else None
        return old, SecretRef(self._vault, name, at=call.new)

    def _is_there(self, path: bytes, record: int, number: int) -> bool:
        """Return whether a version can be read by who may."""
        if not number:
            return False
        opened = self._part.opened

        def read() -> bool:
            entry = opened.replica.index.get(path)
            if entry is None or entry.rec_id != record:
                return False
            version = opened.locate(path, entry, number).version
            if version.state == LIVE and opened.replica.seat is not None:
                opened.data_key(version.dek_id)
            return version.state == LIVE and not 0 < version.expires <= opened.clock.now_ns()

        try:
            return opened.consistently(read)
        except (KeyError, ScopeSealed):
            return False

    def _call(self, callback: Callback, old: SecretRef | None, new: SecretRef) -> bool:
        try:
            callback(old, new)
        except (VaultClosed, VaultForked):
            self._part.opened.check_open()
            return False
        except BaseException:  # noqa: BLE001 - foreign code at the outer end of a thread
            # Its text and its traceback could show what it did with the value.
            return False
        return True

    def _record_failure(self, path: str, number: int) -> None:
        _log.warning("a callback for a rotated secret failed", extra={"event": "rotation.callback.failed"})
        authority = self._part.authority
        record = authority.session().record(Event.ROTATION_CALLBACK_FAILED, {"path": path, "ver": number})
        authority.publish_records([record])

    def _is_told_to_others(self, line: _Line, call: _Call) -> bool:
        """Return whether another callback of this program is yet to be told of the same version."""
        with self._changed:
            others = [other for other in self._lines.values() if other.record == line.record and other is not line]
            return any(waiting.new == call.new for other in others for waiting in other.calls)


def _verify_own(pattern: str, opened: OpenVault) -> None:
    """Refuse a pattern of what lies in a mount or another part, and a vault in which nothing can be read."""
    place, registry = pattern.partition("*")[0], opened.scopes()
    if opened.options.read_only:
        message = "the vault is open for reading only, and a read of a new version cannot be recorded in it"
        raise Unsupported(message, hint="open it for writing")
    if (mount := scope_among(opened.mounts(), place)) is not None:
        message = f"a store is mounted at `{mount}`, and its secrets are not rotated here"
        raise Unsupported(message, hint=_ONE_BY_ONE)
    if registry is not None and (scope := registry.sealed_around(place)) is not None:
        message = f"`{scope}` is a sealed scope since the vault was opened"
        raise Unsupported(message, hint="open the vault again")


def parse_followed(text: str) -> Pattern:
    """Return a pattern of what is to be followed.

    Raises:
        InvalidPath: It is none.
    """
    problem = pattern_problem(text)
    if problem is not None:
        message = f"the pattern `{text}` {problem[0]}"
        raise InvalidPath(message, hint=problem[1])
    return parse_pattern(text)
