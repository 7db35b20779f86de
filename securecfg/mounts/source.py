"""One mount as its readers see it: what is known is handed out, and who holds the store is asked in turn.

1. what was fetched a moment ago     from memory, or the sealed copy of another process
2. the backends, in their order      those that rest after a failure are passed over
3. the last good copy                where none of them can be reached, and it is not too old
"""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from enum import StrEnum
from functools import cached_property
from random import SystemRandom
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from securecfg.backends import Found, OpenBackend, State, StoredVersion
from securecfg.errors import (
    BackendLoginRefused,
    BackendUnavailable,
    NotFound,
    SecretNotFound,
    SecurecfgError,
    Unsupported,
    VersionNotFound,
)
from securecfg.mounts.copies import Copy
from securecfg.mounts.health import Breaker, Limits
from securecfg.mounts.table import PATIENCE
from securecfg.mounts.usage import Numbers, Usage
from securecfg.secret import Secret, behind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

    from securecfg.backends.handle import Names
    from securecfg.clock import Clock
    from securecfg.mounts.copies import Copies
    from securecfg.mounts.table import Mount
    from securecfg.vault.values import Plain

    T = TypeVar("T")

_NS = 1_000_000_000
_ALL = ""  # no path is empty
_LISTING = "\x00"  # before the prefix of a listing, which no path begins with
_EARLIER = 0.1  # of the time that a value is fresh: not all are asked for again at once
_WATCH_PAUSE_S = 30.0
_CHANGES_KEPT = 4_096
_CALLS_TOGETHER = 32  # so that none waits for a number of calls that no limit allows at once


class Served(StrEnum):
    """Where a value came from."""

    STORE = "store"
    CACHE = "cache"
    LAST_GOOD = "last-good"


class Answer(NamedTuple):
    """A value, and where it came from.

    Attributes:
        found: The value and its version.
        served: From where.
        store: What the backend is called.
        fetched_ns: When the store said so.
        fresh_until_ns: Until when it is handed out without asking.
    """

    found: Found
    served: Served
    store: str
    fetched_ns: int
    fresh_until_ns: int


class Fetched(NamedTuple):
    """What became of fetching ahead.

    Attributes:
        known: How many of the secrets are known now.
        failures: Why others are not, those that are not there left out.
    """

    known: int
    failures: list[SecurecfgError]


class _Kept(NamedTuple):
    copy: Copy
    fresh_until_ns: int


class _Backend:
    """One of the backends, opened, with its breaker."""

    def __init__(self, handle: OpenBackend) -> None:
        self.handle, self.breaker = handle, Breaker()


class Source:
    """One mount, opened. Shared by all handles on a vault, and by threads.

    Args:
        mount: Which.
        copies: Where sealed copies lie; None keeps none.
        clock: The time.
        kept: How many values are kept in memory at most.
        backends: The backends, opened; None opens those that the mount names.

    Attributes:
        changes: Counts what is handed out no more. What was known before it moved must not be handed out unseen.
    """

    def __init__(
        self,
        mount: Mount,
        copies: Copies | None,
        clock: Clock,
        kept: int,
        backends: Sequence[OpenBackend] | None = None,
    ) -> None:
        """Call nothing yet."""
        self.mount = mount
        self.changes = 0
        self._rules = mount.rules
        self._copies, self._clock, self._kept_max = copies, clock, kept
        self._given = backends
        self._limits = Limits(mount.rules.calls_per_s)
        folder = copies.folder if copies is not None else None
        self.usage = Usage(folder, clock, mount.rules.calls_per_day)
        self._random = SystemRandom()
        self._lock = threading.Lock()
        self._kept: dict[str, _Kept] = {}
        self._missing: dict[str, int] = {}
        self._refreshing: set[str] = set()
        self._changed: dict[str, int] = {}
        self._all_changed_ns = 0
        self._refused: set[str] = set()
        self._is_closed = threading.Event()
        self._watcher: threading.Thread | None = None

    @cached_property
    def _backends(self) -> list[_Backend]:
        # At the first use: where a plug-in is not installed, only what it would have to serve cannot be read.
        opened = self._given or [self.mount.open(uri, PATIENCE) for uri in self.mount.backends]
        return [_Backend(handle) for handle in opened]

    @property
    def first(self) -> OpenBackend:
        """The backend that is written, and asked for versions."""
        return self._backends[0].handle

    def resting(self) -> list[tuple[str, float]]:
        """Return the name of each backend, and for how many seconds it rests after a failure."""
        return [(backend.handle.name, backend.breaker.rests_s) for backend in self._backends]

    # --- reading -----------------------------------------------------------------------------------------------------

    def read(self, path: str) -> Answer:
        """Return the current version of a secret.

        Raises:
            SecretNotFound: There is none.
            BackendUnavailable: Nobody can be asked, and there is no copy that is young enough.
            As for `OpenBackend.read`.
        """
        self._watch()
        known = self._known(path)
        if known is not None:
            return known
        return self._fetch(path)

    def read_many(self, paths: Sequence[str]) -> dict[str, Answer | SecurecfgError]:
        """Return the current versions of several secrets, or the error of each, in as few calls as the store allows."""
        self._watch()
        answers: dict[str, Answer | SecurecfgError] = {}
        wanted: list[str] = []
        for path in dict.fromkeys(paths):
            try:
                known = self._known(path)
            except SecurecfgError as error:
                answers[path] = error
                continue
            if known is None:
                wanted.append(path)
            else:
                answers[path] = known
        return answers | self._fetch_many(wanted)

    def prefetch(self, paths: Sequence[str]) -> Fetched:
        """Fetch what is not fresh, in as few calls as the store allows, and keep it. Nothing is handed out."""
        if not self._keeps_any:
            return Fetched(0, [])
        self._watch()
        paths = list(dict.fromkeys(paths))
        wanted = [path for path in paths if not self._is_fresh(path)]
        failed: dict[str, SecurecfgError] = {}
        # Nobody waits for a value yet: what the limits let pass more slowly comes more slowly, and is not refused.
        together = min(_CALLS_TOGETHER, self._rules.calls_per_s or _CALLS_TOGETHER)
        for part in self._parts(wanted, together):
            answers = self._fetch_part(part)
            failed |= {path: answer for path, answer in answers.items() if isinstance(answer, SecurecfgError)}
        known = sum(path not in failed and self._is_kept(path) for path in paths)
        return Fetched(known, [error for error in failed.values() if not isinstance(error, NotFound)])

    def read_version(self, path: str, version: str) -> Answer:
        """Return a version by its id or label; only the first backend has it under this name.

        Raises:
            As for `OpenBackend.read`.
        """
        self._verify_online(path)
        backend = self._backends[0]
        now = self._clock.now_ns()
        found = self._call(backend, lambda handle: handle.read(path, version))
        return Answer(found, Served.STORE, backend.handle.name, now, now)

    def version_at(self, path: str, moment: datetime) -> str:
        """Return the id of the newest version that was there at a moment and can be read.

        Raises:
            VersionNotFound: There was none, or the store does not say when its versions were made.
            As for `OpenBackend.versions`.
        """
        for version in self.versions(path):
            if version.created is not None and version.created <= moment and version.state is State.LIVE:
                return version.id
        message = f"`{self.mount.folder}{path}` had no version then"
        raise VersionNotFound(message)

    def versions(self, path: str) -> Sequence[StoredVersion]:
        """Return the versions of a secret, newest first; the one that there is, where the store keeps no others.

        Raises:
            As for `OpenBackend.versions`.
        """
        if not self.first.capabilities.keeps_versions:
            return [self.read(path).found.version]
        self._verify_online(path)
        return self._call(self._backends[0], lambda handle: handle.versions(path))

    def list(self, prefix: str) -> list[str]:
        """Return the paths that begin with a prefix, which is empty or ends in `/`.

        Raises:
            BackendUnavailable: Nobody can be asked, and what was listed last is too old.
            As for `OpenBackend.list`.
        """
        self._watch()
        name = _LISTING + prefix
        known = self._known(name)
        if known is None:
            known = self._ask_or_keep(name, lambda handle: _listing(handle.list(prefix)))
        value = known.found.value
        return json.loads(value.reveal()) if isinstance(value, Secret) else []

    def read_now(self, paths: Sequence[str]) -> dict[str, Answer | SecurecfgError]:
        """Return what the first backend says at this moment, or the error of each: nothing known, nothing kept.

        Raises:
            BackendUnavailable: It gives no answer, or may not be asked.
            BackendLoginRefused: It lets nobody in.
        """
        self._verify_online("")
        backend, size = self._backends[0], self.first.capabilities.reads_at_once * _CALLS_TOGETHER
        answers: dict[str, Answer | SecurecfgError] = {}
        for start in range(0, len(paths), size):
            part = paths[start : start + size]
            now = self._clock.now_ns()
            try:
                found = self._call(backend, lambda handle, part=part: handle.read_many(part), len(part))  # type: ignore[misc]  # of each turn
            except (BackendUnavailable, BackendLoginRefused):
                raise
            except SecurecfgError as error:
                if len(part) == 1:
                    answers[part[0]] = error
                else:  # one of them is at fault, and the others are to be had
                    for path in part:
                        answers |= self.read_now([path])
                continue
            for path in part:
                if path in found:
                    answers[path] = Answer(found[path], Served.STORE, backend.handle.name, now, now)
                else:
                    answers[path] = self._not_there(path)
        return answers

    def list_now(self, prefix: str) -> Names:
        """Return what the first backend lists at this moment below a prefix, which is empty or ends in `/`.

        Raises:
            BackendUnavailable: It gives no answer, or may not be asked.
            As for `OpenBackend.list`.
        """
        self._verify_online(_LISTING)
        return self._call(self._backends[0], lambda handle: handle.list(prefix))

    # --- changing ----------------------------------------------------------------------------------------------------

    def write(self, path: str, value: Plain, expect: str | None, metadata: Mapping[str, str] | None) -> str:
        """Write to the first backend; see `OpenBackend.write`."""
        load = behind(value)
        del value  # a traceback that shows locals must not show it
        return self._change(path, lambda handle: handle.write(path, load(), expect=expect, metadata=metadata))

    def delete(self, path: str) -> None:
        """Delete from the first backend; see `OpenBackend.delete`."""
        self._change(path, lambda handle: handle.delete(path))

    def recover(self, path: str) -> None:
        """Bring back what was deleted; see `OpenBackend.recover`."""
        self._change(path, lambda handle: handle.recover(path))

    def label(self, path: str, label: str, version: str | None) -> None:
        """Move a label; see `OpenBackend.label`."""
        self._change(path, lambda handle: handle.label(path, label, version))

    def forget(self, path: str) -> None:
        """Hand out nothing of a secret any more that was fetched until now, whatever happens: it is known to be old."""
        self._outdate(path)
        folders = [path[: end + 1] for end, letter in enumerate(path) if letter == "/"]
        with self._lock:
            self._kept.pop(path, None)
        if self._copies is not None:
            for name in (path, _LISTING, *(_LISTING + folder for folder in folders)):
                self._copies.drop(name)

    def close(self) -> None:
        """Watch nothing any more, forget all values, and add what was counted to what all processes have counted."""
        self._is_closed.set()
        self.usage.save()
        with self._lock:
            self._kept.clear()

    # --- pieces ------------------------------------------------------------------------------------------------------

    def _known(self, path: str) -> Answer | None:
        """Return what need not be asked for.

        Raises:
            SecretNotFound: It was not there a moment ago.
        """
        now = self._clock.now_ns()
        kept = self._look_up(path, now)
        if kept is None:
            return None
        if now >= kept.fresh_until_ns and not self._rules.is_offline:
            age = now - kept.copy.fetched_ns
            if age > (self._rules.max_age_s + self._rules.refresh_s) * _NS or path.startswith(_LISTING):
                return None
            self._refresh(path)
        self.usage.note(Numbers(hits=1))
        return _answer(kept, Served.LAST_GOOD if self._rules.is_offline else Served.CACHE)

    def _is_fresh(self, path: str) -> bool:
        """Return whether a secret need not be asked for, not even to refresh it: it is known, or known not to be."""
        now = self._clock.now_ns()
        try:
            kept = self._look_up(path, now)
        except SecretNotFound:
            return True
        return kept is not None and (self._rules.is_offline or now < kept.fresh_until_ns)

    @property
    def _keeps_any(self) -> bool:
        """Whether anything outlives the call that fetched it."""
        rules = self._rules
        is_copied = self._copies is not None and rules.keep_s > 0
        return is_copied or (self._kept_max > 0 and rules.max_age_s + rules.refresh_s > 0)

    def _is_kept(self, path: str) -> bool:
        with self._lock:
            if path in self._kept:
                return True
        return self._copies is not None and self._copies.get(path) is not None

    def _look_up(self, path: str, now: int) -> _Kept | None:
        """Return what is kept of a secret and may be handed out for its age, fresh or not.

        Raises:
            SecretNotFound: It was not there a moment ago.
        """
        with self._lock:
            kept = self._kept.get(path)
            missing = self._missing.get(path)
            if missing is not None and not 0 <= missing - now <= self._rules.missing_s * _NS:
                del self._missing[path]
                missing = None
            is_refused = path in self._refused or _ALL in self._refused
        if missing is not None:
            raise self._not_there(path)
        if is_refused:
            return None
        if kept is None and self._copies is not None:
            copy = self._copies.get(path)
            if copy is not None:
                kept = self._keep(copy)
        if kept is None or self._is_changed(kept.copy):
            return None
        age = now - kept.copy.fetched_ns
        if age < 0 or (self._rules.is_offline and age > self._rules.keep_s * _NS):
            return None
        return kept

    def _outdate(self, path: str | None) -> None:
        """Ask for a secret anew, or for all; what was fetched before is handed out where nobody can be asked."""
        now = self._clock.now_ns()
        with self._lock:
            self.changes += 1
            if path is None or len(self._changed) >= _CHANGES_KEPT:
                self._changed.clear()
                self._missing.clear()
                self._all_changed_ns = now
            else:
                self._changed[path] = self._changed[_LISTING] = now
                self._missing.pop(path, None)

    def _is_changed(self, copy: Copy) -> bool:
        with self._lock:
            kind = _LISTING if copy.path.startswith(_LISTING) else copy.path
            return copy.fetched_ns <= max(self._all_changed_ns, self._changed.get(kind, 0))

    def _fetch(self, path: str) -> Answer:
        return self._ask_or_keep(path, lambda handle: handle.read(path))

    def _fetch_many(self, paths: Sequence[str]) -> dict[str, Answer | SecurecfgError]:
        answers: dict[str, Answer | SecurecfgError] = {}
        for part in self._parts(paths, _CALLS_TOGETHER):
            answers |= self._fetch_part(part)
        return answers

    def _parts(self, paths: Sequence[str], calls: int) -> Iterator[Sequence[str]]:
        """Yield paths in parts of so many calls of the first backend."""
        if paths:
            size = self.first.capabilities.reads_at_once * calls
            for start in range(0, len(paths), size):
                yield paths[start : start + size]

    def _fetch_part(self, paths: Sequence[str]) -> dict[str, Answer | SecurecfgError]:
        if len(paths) == 1:
            return {paths[0]: _or_error(lambda: self._fetch(paths[0]))}
        now = self._clock.now_ns()
        try:
            self._verify_online("")
            store, found = self._ask(lambda handle: handle.read_many(paths), len(paths))
        except BackendUnavailable as error:
            failure = error
            return {path: _or_error(lambda path=path: self._last_good(path, failure)) for path in paths}  # type: ignore[misc]  # of each turn
        except BackendLoginRefused as error:
            self._note_refused(_ALL)
            return dict.fromkeys(paths, error)
        except SecurecfgError:
            # One of them is at fault, and the others are to be had.
            return {path: _or_error(lambda path=path: self._fetch(path)) for path in paths}  # type: ignore[misc]  # of each turn
        answers: dict[str, Answer | SecurecfgError] = {}
        for path in paths:
            if path in found:
                answers[path] = self._take(Copy(path, found[path], now, store))
            else:
                answers[path] = self._note_missing(path)
        return answers

    def _ask_or_keep(self, path: str, call: Callable[[OpenBackend], Found]) -> Answer:
        now = self._clock.now_ns()  # before the store is asked: a change meanwhile is newer
        try:
            self._verify_online(path)
            store, found = self._ask(call)
        except BackendUnavailable as error:
            return self._last_good(path, error)
        except SecretNotFound:
            raise self._note_missing(path) from None
        except BackendLoginRefused:
            self._note_refused(_ALL)
            raise
        except SecurecfgError:
            self._note_refused(path)
            raise
        return self._take(Copy(path, found, now, store))

    def _note_refused(self, path: str) -> None:
        """Hand out nothing of a secret, or of all, until the store gives it again: it is obeyed, asked by whomever."""
        with self._lock:
            self.changes += 1
            if path == _ALL:
                self._kept.clear()
            self._kept.pop(path, None)
            if len(self._refused) >= _CHANGES_KEPT:
                path = _ALL
            self._refused.add(path)
        if self._copies is not None and path != _ALL:
            self._copies.drop(path)

    def _last_good(self, path: str, failure: BackendUnavailable) -> Answer:
        """Return the last good copy.

        Raises:
            BackendUnavailable: There is none, or it is too old.
        """
        with self._lock:
            kept = self._kept.get(path)
            if path in self._refused or _ALL in self._refused:
                raise failure
        copy = kept.copy if kept is not None else self._copies.get(path) if self._copies is not None else None
        if copy is not None:
            age = self._clock.now_ns() - copy.fetched_ns
            if 0 <= age <= self._rules.keep_s * _NS:
                self.usage.note(Numbers(last_good=1))
                return _answer(_Kept(copy, 0), Served.LAST_GOOD)
            failure.hint = f"the last good value is {age // _NS} s old, and {self._rules.keep_s} s are allowed"
        raise failure

    def _take(self, copy: Copy) -> Answer:
        with self._lock:
            self._missing.pop(copy.path, None)
            self._refused -= {copy.path, _ALL}
        if self._is_changed(copy):  # meanwhile
            return Answer(copy.found, Served.STORE, copy.store, copy.fetched_ns, copy.fetched_ns)
        if self._copies is not None and self._rules.keep_s and not self._is_closed.is_set():
            self._copies.put(copy)
        return _answer(self._keep(copy), Served.STORE)

    def _keep(self, copy: Copy) -> _Kept:
        rules = self._rules
        fresh_ns = int(rules.max_age_s * _NS * (1 - self._random.uniform(0, _EARLIER)))
        kept = _Kept(copy, copy.fetched_ns + fresh_ns)
        if self._kept_max:
            with self._lock:
                self._kept.pop(copy.path, None)
                while len(self._kept) >= self._kept_max:
                    del self._kept[next(iter(self._kept))]
                self._kept[copy.path] = kept
        return kept

    def _note_missing(self, path: str) -> SecretNotFound:
        with self._lock:
            self.changes += 1
            self._kept.pop(path, None)
            if self._rules.missing_s:
                while len(self._missing) >= max(self._kept_max, 1):
                    del self._missing[next(iter(self._missing))]
                self._missing[path] = self._clock.now_ns() + self._rules.missing_s * _NS
        if self._copies is not None:
            self._copies.drop(path)
        return self._not_there(path)

    def _not_there(self, path: str) -> SecretNotFound:
        return SecretNotFound(f"there is no secret `{self.mount.folder}{path}`")

    def _ask(self, call: Callable[[OpenBackend], T], secrets: int = 1) -> tuple[str, T]:
        """Return the answer of the first backend that gives one, and its name.

        Args:
            call: Asks.
            secrets: How many secrets it asks for.

        Raises:
            BackendUnavailable: None does.
        """
        failure: BackendUnavailable | None = None
        for backend in self._backends:
            if backend.breaker.admits():
                try:
                    return backend.handle.name, self._call(backend, call, secrets)
                except BackendUnavailable as error:
                    failure = error
        if failure is None:
            message = f"what is mounted at `{self.mount.folder}` gave no answer a moment ago, and is not asked yet"
            failure = BackendUnavailable(message, hint="try again in a minute")
        raise failure

    def _call(self, backend: _Backend, call: Callable[[OpenBackend], T], secrets: int = 1) -> T:
        calls = -(-secrets // backend.handle.capabilities.reads_at_once)
        try:
            self.usage.take(calls)
            self._limits.take(calls)
        except BackendUnavailable:
            backend.breaker.succeeded()  # it was not asked
            raise
        try:
            answer = call(backend.handle)
        except BackendUnavailable:
            self.usage.note(Numbers(failures=1))
            backend.breaker.failed()
            raise
        except BaseException:
            backend.breaker.succeeded()
            raise
        backend.breaker.succeeded()
        return answer

    def _change(self, path: str, call: Callable[[OpenBackend], T]) -> T:
        self._verify_online(path)
        try:
            return self._call(self._backends[0], call)
        finally:
            self.forget(path)

    def _verify_online(self, path: str) -> None:
        if self._rules.is_offline:
            what = f"`{self.mount.folder}{path}`" if not path.startswith(_LISTING) else f"`{self.mount.folder}`"
            message = f"{what} is mounted offline, and there is no copy of it that is young enough"
            hint = f"`securecfg vault mount {self.mount.folder} --replace --online` asks the store again"
            raise BackendUnavailable(message, hint=hint)

    # --- behind the back of who reads ---------------------------------------------------------------------------------

    def _refresh(self, path: str) -> None:
        with self._lock:
            if path in self._refreshing:
                return
            self._refreshing.add(path)

        def run() -> None:
            try:
                with suppress(SecurecfgError):
                    self._fetch(path)
            finally:
                with self._lock:
                    self._refreshing.discard(path)

        threading.Thread(target=run, name="securecfg-mount-refresh", daemon=True).start()

    def _watch(self) -> None:
        if not self._rules.is_watched or self._rules.is_offline or self._watcher is not None:
            return
        with self._lock:
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._follow, name="securecfg-mount-watch", daemon=True)
                self._watcher.start()

    def _follow(self) -> None:
        """Forget what changes, until the source is closed. Where that fails it is begun anew after a while."""
        while not self._is_closed.is_set():
            try:
                watching = self.first.watch()
                try:
                    for changes in watching:
                        if self._is_closed.is_set():
                            return
                        for path in changes.paths if changes.is_whole else (None,):
                            self._outdate(path)
                finally:
                    watching.close()
            except Unsupported:
                return
            except SecurecfgError:
                self._is_closed.wait(_WATCH_PAUSE_S)


def _answer(kept: _Kept, served: Served) -> Answer:
    return Answer(kept.copy.found, served, kept.copy.store, kept.copy.fetched_ns, kept.fresh_until_ns)


def _listing(names: Names) -> Found:
    return Found(Secret(json.dumps(names.paths, ensure_ascii=False)), StoredVersion(""), {})


def _or_error(call: Callable[[], Answer]) -> Answer | SecurecfgError:
    try:
        return call()
    except (NotFound, SecurecfgError) as error:
        return error
