"""A backend in memory that keeps the whole contract, and shows faults when it is told to."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from securecfg.backends.interface import Capabilities, Changes, Deletion, Found, Kind, State, StoredVersion
from securecfg.errors import (
    AlreadyExists,
    SecretDestroyed,
    SecretNotFound,
    StaleWrite,
    VersionDisabled,
    VersionNotFound,
)
from securecfg.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from securecfg.backends.interface import Content, Writing
    from securecfg.vault.values import Value

VALUE_BYTES_MAX = 65_536
PATH_BYTES_MAX = 1_024
BATCH_MAX = 10
WATCH_S = 0.05

ALL = Capabilities(
    kinds=frozenset(Kind),
    value_bytes_max=VALUE_BYTES_MAX,
    path_bytes_max=PATH_BYTES_MAX,
    writes=True,
    creates=True,
    compares=True,
    keeps_versions=True,
    labels=True,
    metadata=True,
    deletes=Deletion.SOFT,
    reads_at_once=BATCH_MAX,
    is_write_repeatable=True,
    watches=True,
)


@dataclass
class _Held:
    """One secret.

    Attributes:
        contents: By the ids of its versions, oldest first.
        created: When, by id.
        states: What has become of a version, by id.
        labels: Which version a label points at.
        metadata: The text beside it.
        is_deleted: Whether it waits for somebody to bring it back.
    """

    contents: dict[str, Content] = field(default_factory=dict)
    created: dict[str, datetime] = field(default_factory=dict)
    states: dict[str, State] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    is_deleted: bool = False

    @property
    def current(self) -> str:
        return next(reversed(self.contents))

    def version(self, id_: str) -> StoredVersion:
        labels = tuple(sorted(label for label, at in self.labels.items() if at == id_))
        return StoredVersion(id_, self.states[id_], self.created[id_], labels)


class MemoryStore:
    """The place that memory backends speak to: what is in it outlives each of them.

    Attributes:
        asked: How many calls there were.
    """

    def __init__(self) -> None:
        """Hold nothing."""
        self.asked = 0
        self.lock = threading.RLock()
        self.secrets: dict[str, _Held] = {}
        self.changed: list[str] = []
        self.news = threading.Condition(self.lock)
        self._faults: list[Callable[[], object] | None] = []
        self._always: Callable[[], object] | None = None
        self._late: list[Callable[[], object]] = []

    def fail(self, fault: Callable[[], object] | None) -> None:
        """Call this before everything that is asked from now on; None for nothing."""
        self._always = fault

    def fail_next(self, *faults: Callable[[], object] | None) -> None:
        """Call each of these before one of the next calls."""
        self._faults.extend(faults)

    def fail_late(self, fault: Callable[[], object]) -> None:
        """Call this when the next call has done what it was asked, instead of answering."""
        self._late.append(fault)

    def take(self) -> None:
        """Count a call and show its fault."""
        with self.lock:
            self.asked += 1
            fault = self._faults.pop(0) if self._faults else self._always
        if fault is not None:
            fault()

    def answer(self) -> None:
        """Show the fault that comes instead of an answer."""
        if self._late:
            self._late.pop(0)()

    def change(self, path: str) -> None:
        """Tell those who watch."""
        with self.news:
            self.changed.append(path)
            self.news.notify_all()

    def set_state(self, path: str, version: str, state: State) -> None:
        """Let a version be disabled, deleted or destroyed, as an operator of the store does."""
        self.secrets[path].states[version] = state


class MemoryBackend:
    """Speaks to a store in memory.

    Args:
        store: The place.
        capabilities: What it says that it can do; all by default. What is said without the methods for it, or the other
            way round, breaks the contract, as a plug-in may.
    """

    scheme: Final = "memory"
    name: Final = "of a test"

    def __init__(self, store: MemoryStore, capabilities: Capabilities = ALL) -> None:
        """Keep nothing of its own."""
        self._store = store
        self.capabilities = capabilities

    def read(self, path: str, version: str | None) -> Found:
        """Return a secret."""
        self._store.take()
        with self._store.lock:
            held = self._find(path)
            id_ = held.current if version is None else version
            if id_ not in held.contents:
                id_ = held.labels.get(id_, "")
            found = self._found(path, held, id_, is_current=version is None)
        self._store.answer()
        return found

    def read_many(self, paths: Sequence[str]) -> Mapping[str, Found]:
        """Return several secrets."""
        self._store.take()
        with self._store.lock:
            held = {path: self._store.secrets[path] for path in paths if path in self._store.secrets}
            live = {path: one for path, one in held.items() if not one.is_deleted}
            return {path: self._found(path, one, one.current, is_current=True) for path, one in live.items()}

    def list(self, prefix: str) -> Iterator[str]:
        """Yield paths."""
        self._store.take()
        with self._store.lock:
            live = [path for path, held in self._store.secrets.items() if not held.is_deleted]
        yield from (path for path in live if path.startswith(prefix))

    def versions(self, path: str) -> Iterator[StoredVersion]:
        """Yield versions, newest first."""
        self._store.take()
        with self._store.lock:
            held = self._find(path)
            found = [held.version(id_) for id_ in reversed(held.contents)]
        yield from found

    def write(self, path: str, content: Content, writing: Writing) -> str:
        """Write a version whose id is the token."""
        self._store.take()
        with self._store.lock:
            held = self._store.secrets.get(path)
            if held is None or writing.token not in held.contents:
                self._verify_expected(path, held, writing.expect)
                held = self._store.secrets.setdefault(path, _Held())
                held.is_deleted = False
                held.contents[writing.token] = content
                held.created[writing.token] = datetime.now(UTC)
                held.states[writing.token] = State.LIVE
            if writing.metadata is not None:
                held.metadata = dict(writing.metadata)
            self._store.change(path)
        self._store.answer()
        return writing.token

    def label(self, path: str, label: str, version: str | None) -> None:
        """Move a label."""
        self._store.take()
        with self._store.lock:
            held = self._find(path)
            if version is None and label in held.labels:
                del held.labels[label]
            elif version in held.contents:
                held.labels[label] = version
            else:
                raise _no_version(path)
        self._store.answer()

    def delete(self, path: str) -> None:
        """Delete a secret."""
        self._store.take()
        with self._store.lock:
            self._find(path).is_deleted = True
            self._store.change(path)
        self._store.answer()

    def recover(self, path: str) -> None:
        """Bring a secret back."""
        self._store.take()
        with self._store.lock:
            if path not in self._store.secrets:
                raise _not_found(path)
            self._store.secrets[path].is_deleted = False
            self._store.change(path)
        self._store.answer()

    def watch(self, prefix: str) -> Iterator[Changes]:
        """Yield what changes."""
        self._store.take()
        seen = len(self._store.changed)
        yield Changes((), is_whole=True)
        while True:
            self._store.take()
            with self._store.news:
                if len(self._store.changed) == seen:
                    self._store.news.wait(WATCH_S)
                changed, seen = self._store.changed[seen:], len(self._store.changed)
            paths = dict.fromkeys(path for path in changed if path.startswith(prefix))
            yield Changes(tuple(paths), is_whole=True)

    def _find(self, path: str) -> _Held:
        held = self._store.secrets.get(path)
        if held is None or held.is_deleted:
            raise _not_found(path)
        return held

    def _found(self, path: str, held: _Held, id_: str, *, is_current: bool) -> Found:
        state = held.states.get(id_, State.DELETED)
        if state is State.DELETED:
            raise _not_found(path) if is_current else _no_version(path)
        if state is State.DISABLED:
            message = f"version `{id_}` of `{path}` is disabled"
            raise VersionDisabled(message)
        if state is State.DESTROYED:
            message = f"version `{id_}` of `{path}` is destroyed"
            raise SecretDestroyed(message)
        return Found(_value(held.contents[id_], path), held.version(id_), dict(held.metadata))

    @staticmethod
    def _verify_expected(path: str, held: _Held | None, expect: str | None) -> None:
        is_there = held is not None and not held.is_deleted
        if expect == "" and is_there:
            message = f"`{path}` is there already"
            raise AlreadyExists(message)
        if expect and not is_there:
            raise _not_found(path)
        if expect and held is not None and held.current != expect:
            message = f"`{path}` has another version by now"
            raise StaleWrite(message)


def _value(content: Content, path: str) -> Value:
    if isinstance(content, str | bytes):
        return _secret(content, path)
    return {name: _secret(part, f"{path}#{name}") for name, part in content.items()}


def _secret(content: str | bytes, label: str) -> Secret[str] | Secret[bytes]:
    if isinstance(content, str):
        return Secret(content, label=label)
    return Secret(content, label=label)


def _not_found(path: str) -> SecretNotFound:
    return SecretNotFound(f"there is no secret `{path}`")


def _no_version(path: str) -> VersionNotFound:
    return VersionNotFound(f"`{path}` has no such version or label")
