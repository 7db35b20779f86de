"""The handle of a backend: what is the same for all stores, so that no plug-in can forget it.

1. what the store cannot do     refused before anything is sent
2. what is given                checked: path, value, size
3. the call                     in a thread of its own, left behind when the time is up
4. further attempts             of reads always, of changes where nothing can be done twice
5. what comes out               our own errors only
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from random import SystemRandom
from time import sleep
from typing import TYPE_CHECKING, NamedTuple, Self, TypeVar

from securecfg.backends.interface import (
    Changes,
    Deletes,
    Deletion,
    Found,
    KeepsVersions,
    Kind,
    Labels,
    ReadsAtOnce,
    Recovers,
    StoredVersion,
    Watches,
    Writes,
    Writing,
)
from securecfg.errors import (
    BackendNotReached,
    BackendUnavailable,
    CommitUnknown,
    InvalidMetadata,
    InvalidPath,
    NotFound,
    SecurecfgError,
    Unsupported,
    UsageError,
    ValueTooLarge,
)
from securecfg.flights import Flights, ask_again
from securecfg.keys.per_process import PerProcess
from securecfg.patience import PATIENCE
from securecfg.secret import Secret
from securecfg.vault.paths import check_metadata, check_prefix, path_to_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence

    from securecfg.backends.interface import Backend, Capabilities, Content
    from securecfg.patience import Patience
    from securecfg.vault.values import Plain

T = TypeVar("T")

_VERSION_LENGTH_MAX = 1_024
_READERS = 8


class Names(NamedTuple):
    """What a listing gives.

    Attributes:
        paths: Sorted.
        passed_over: How many names in the store are no paths.
    """

    paths: list[str]
    passed_over: int


class _Given(NamedTuple):
    """A value to be written, behind a function so that nothing that shows locals shows it."""

    load: Callable[[], Content]
    kind: Kind
    size_bytes: int


class OpenBackend:
    """A store that somebody else keeps, opened by a URI or over a backend. May be used by many threads.

    What it does is neither decided by a policy nor recorded. Every method raises, besides what it says,
    `BackendLoginRefused`, `BackendDenied`, `BackendUnavailable` and `BackendRefused` (section 7 of
    `docs/security/backends.md`), and `ExtraMissing` where the store's client is not installed.

    Args:
        backend: Who speaks to the store.
        patience: How long to wait, and how often to ask again.
    """

    def __init__(self, backend: Backend, patience: Patience = PATIENCE) -> None:
        """Call nothing yet."""
        self._backend = backend
        self._patience = patience
        self._flights = PerProcess(lambda: Flights("securecfg-backend"))

    def __enter__(self) -> Self:
        """Use it in a `with` block."""
        return self

    def __exit__(self, *_exc: object) -> None:
        """Do nothing: connections belong to the process."""

    def __repr__(self) -> str:
        """Show which store."""
        return f"OpenBackend({self._backend.scheme!r}, {self._backend.name!r})"

    @property
    def name(self) -> str:
        """What the store is called in errors."""
        return self._backend.name

    @property
    def capabilities(self) -> Capabilities:
        """What the store can do."""
        return self._backend.capabilities

    def read(self, path: str, version: str | None = None) -> Found:
        """Return a secret. Threads that ask for the same at the same time share one call.

        Args:
            path: Which.
            version: The id of a version, or a label; None for the current one.

        Raises:
            InvalidPath: It is no path, or none that the store can hold.
            SecretNotFound, VersionNotFound, VersionDisabled, SecretDestroyed: There is none to be read.
            Unsupported: A version is asked for, and the store keeps none.
        """
        self._check_path(path)
        if version is not None:
            self._verify_can(self.capabilities.keeps_versions, "keeps no earlier versions")
            _check_version(version)
        return self._ask(("read", path, version), lambda: _one(self._backend.read(path, version), Found))

    def read_many(self, paths: Iterable[str]) -> dict[str, Found]:
        """Return the current versions of several secrets in as few calls as the store allows, eight at a time.

        Those that are not there are left out.

        Raises:
            InvalidPath: One is no path, or none that the store can hold.
        """
        wanted = list(dict.fromkeys(paths))
        for path in wanted:
            self._check_path(path)
        size = self.capabilities.reads_at_once if isinstance(self._backend, ReadsAtOnce) else 1
        parts = [tuple(wanted[start : start + size]) for start in range(0, len(wanted), size)]
        if len(parts) == 1:
            return self._read_part(parts[0])
        from concurrent.futures import ThreadPoolExecutor

        found: dict[str, Found] = {}
        with ThreadPoolExecutor(_READERS, "securecfg-backend-reader") as readers:
            for part in readers.map(self._read_part, parts):
                found |= part
        return found

    def list(self, prefix: str = "") -> Names:
        """Return the paths of all live secrets that begin with a prefix, which is empty or ends in `/`.

        Raises:
            InvalidPath: It is no prefix.
        """
        _check_folder(prefix)
        names = self._ask(("list", prefix), lambda: [_one(name, str) for name in self._backend.list(prefix)])
        paths = [name for name in names if name and _is_path(name)]
        return Names(sorted(set(paths)), len(names) - len(paths))

    def versions(self, path: str) -> Sequence[StoredVersion]:
        """Return the versions of a secret, newest first.

        Raises:
            InvalidPath: It is no path, or none that the store can hold.
            SecretNotFound: There is no such secret, or it is deleted as a whole.
            Unsupported: The store keeps none.
        """
        self._check_path(path)
        backend = self._backend
        if not isinstance(backend, KeepsVersions):
            lacking = "keeps no earlier versions"
            raise self._cannot(lacking)
        return self._ask(
            ("versions", path), lambda: [_one(version, StoredVersion) for version in backend.versions(path)]
        )

    def write(
        self, path: str, value: Plain, *, expect: str | None = None, metadata: Mapping[str, str] | None = None
    ) -> str:
        """Write a new version and return its id.

        Args:
            path: Where.
            value: Text, bytes, or a mapping of field names to those.
            expect: The id of the version that the caller has seen, `""` for a secret that is not there. None writes
                whatever there is.
            metadata: Text beside the secret; None keeps what is there.

        Raises:
            InvalidPath: It is no path, or none that the store can hold.
            UsageError: The value is of no supported type.
            ValueTooLarge: It is longer than the store takes.
            Unsupported: The store is only read, cannot hold it, or cannot do what is asked for besides.
            AlreadyExists, StaleWrite: It is not what the caller expects.
            CommitUnknown: No answer came, and it may have been written.
        """
        self._check_path(path)
        backend, can = self._backend, self.capabilities
        if not isinstance(backend, Writes) or not can.writes:
            lacking = "is only read"
            raise self._cannot(lacking)
        if expect == "":
            self._verify_can(can.creates, "cannot write only where there is nothing")
        elif expect is not None:
            self._verify_can(can.compares, "cannot write only on a version that was seen")
            _check_version(expect)
        if metadata is not None:
            self._verify_can(can.metadata, "holds no metadata")
            metadata = check_metadata(metadata)
        given = _given(value)
        del value  # a traceback that shows locals must not show it
        if isinstance(given, UsageError):
            raise given
        self._check_given(given)
        writing = Writing(expect, metadata, os.urandom(16).hex())
        return self._change(
            f"the write to `{path}`",
            lambda: _one(backend.write(path, given.load(), writing), str),
            is_repeatable=can.is_write_repeatable,
        )

    def label(self, path: str, label: str, version: str | None) -> None:
        """Make a label point at a version; None takes it away.

        Raises:
            InvalidPath: It is no path, or none that the store can hold.
            SecretNotFound, VersionNotFound: There is none such.
            InvalidMetadata: The store takes no such label, or moves it by itself.
            Unsupported: The store has no labels.
            CommitUnknown: No answer came, and it may have been done.
        """
        self._check_path(path)
        backend = self._backend
        if not isinstance(backend, Labels):
            lacking = "has no labels"
            raise self._cannot(lacking)
        if not label or len(label) > _VERSION_LENGTH_MAX or not label.isprintable():
            message = "a label is printable text"
            raise InvalidMetadata(message)
        if version is not None:
            _check_version(version)
        self._change(f"the label of `{path}`", lambda: backend.label(path, label, version))

    def delete(self, path: str) -> None:
        """Delete a secret with all its versions; `capabilities.deletes` says whether it can come back.

        Raises:
            InvalidPath: It is no path, or none that the store can hold.
            SecretNotFound: There is none.
            Unsupported: The store deletes nothing.
            CommitUnknown: No answer came, and it may have been done.
        """
        self._check_path(path)
        backend = self._backend
        if not isinstance(backend, Deletes):
            lacking = "deletes nothing"
            raise self._cannot(lacking)
        self._change(f"the deletion of `{path}`", lambda: backend.delete(path))

    def recover(self, path: str) -> None:
        """Bring a deleted secret back.

        Raises:
            InvalidPath: It is no path, or none that the store can hold.
            SecretNotFound: There is none that could come back.
            Unsupported: What the store deletes is gone.
            CommitUnknown: No answer came, and it may have been done.
        """
        self._check_path(path)
        backend = self._backend
        if not isinstance(backend, Recovers) or self.capabilities.deletes is not Deletion.SOFT:
            lacking = "brings nothing back"
            raise self._cannot(lacking)
        self._change(f"the recovery of `{path}`", lambda: backend.recover(path))

    def watch(self, prefix: str = "") -> Generator[Changes]:
        """Yield what changes below a prefix, which is empty or ends in `/`.

        Nothing is yielded at once, when changes are seen from then on; after that what has changed, every 10 s at the
        latest, were it nothing. Where the store cannot be reached for a moment it is watched anew, and `is_whole` is
        False once. It has no end of its own; it is closed by its user.

        Raises:
            InvalidPath: It is no prefix.
            Unsupported: The store does not say what changes.
        """
        _check_folder(prefix)
        backend = self._backend
        if not isinstance(backend, Watches):
            lacking = "does not say what changes"
            raise self._cannot(lacking)
        return self._watch(backend, prefix)

    def _read_part(self, part: tuple[str, ...]) -> dict[str, Found]:
        """Return what one call reads."""
        backend = self._backend
        if isinstance(backend, ReadsAtOnce):
            return self._ask(("read_many", part), lambda: _each_of(backend.read_many(part), part))
        try:
            return {path: self.read(path) for path in part}
        except NotFound:
            return {}

    # --- checks -------------------------------------------------------------------------------------------------------

    def _check_path(self, path: str) -> None:
        most = self.capabilities.path_bytes_max
        if len(path_to_bytes(path)) > most:
            message = f"{self._store} takes paths of at most {most} bytes"
            raise InvalidPath(message)

    def _check_given(self, given: _Given) -> None:
        if given.kind not in self.capabilities.kinds:
            lacking = f"holds no values of {given.kind}"
            raise self._cannot(lacking)
        if given.size_bytes > self.capabilities.value_bytes_max:
            message = f"{self._store} takes values of at most {self.capabilities.value_bytes_max} bytes"
            raise ValueTooLarge(message)

    def _verify_can(self, can: bool, what: str) -> None:  # noqa: FBT001 - what was looked up
        if not can:
            raise self._cannot(what)

    def _cannot(self, what: str) -> Unsupported:
        return Unsupported(f"{self._store} {what}", hint="`capabilities` says what it can do")

    @property
    def _store(self) -> str:
        return f"`{self._backend.scheme}:` {self._backend.name}".rstrip()

    # --- calls --------------------------------------------------------------------------------------------------------

    def _ask(self, question: tuple[object, ...], call: Callable[[], T]) -> T:
        """Return the answer to what changes nothing."""
        try:
            return self._flights.get().fly(
                question,
                lambda: ask_again(lambda: self._guarded(call), self._patience, BackendUnavailable, _note),
                self._patience.deadline_s,
            )
        except TimeoutError:
            failure = self._too_slow()
        raise failure

    def _change(self, what: str, call: Callable[[], T], *, is_repeatable: bool = False) -> T:
        """Return the answer to what changes something, asked again only where nothing can be done twice.

        Raises:
            CommitUnknown: It may have been done.
        """
        passing = BackendUnavailable if is_repeatable else BackendNotReached
        in_doubt = False

        def once() -> T:
            nonlocal in_doubt
            try:
                return self._guarded(call)
            except BackendUnavailable as error:
                in_doubt = in_doubt or not isinstance(error, BackendNotReached)
                raise

        failure: SecurecfgError
        try:
            return self._flights.get().fly(
                object(), lambda: ask_again(once, self._patience, passing, _note), self._patience.deadline_s
            )
        except TimeoutError:
            in_doubt, failure = True, self._too_slow()
        except CommitUnknown as error:
            in_doubt, failure = False, error
        except SecurecfgError as error:
            failure = error
        if in_doubt:
            # Whatever the last attempt met with, a refusal included, says nothing of one that had no answer.
            message = f"{what} may or may not have been done: {failure.message}"
            raise CommitUnknown(message, hint="look what is there before it is tried again")
        raise failure

    def _watch(self, backend: Watches, prefix: str) -> Generator[Changes]:
        attempts, is_whole = 0, True
        while True:
            watching = self._guarded(lambda: backend.watch(prefix))
            try:
                while True:
                    changes = self._guarded(lambda: _one(next(watching), Changes))  # noqa: B023 - called at once
                    attempts = 0
                    yield changes._replace(is_whole=changes.is_whole and is_whole)
                    is_whole = True
            except BackendUnavailable as error:
                if attempts >= len(self._patience.pauses_s):
                    raise
                pause = max(SystemRandom().uniform(0, self._patience.pauses_s[attempts]), error.retry_after_s)
            finally:
                self._guarded(lambda: _close(watching))  # noqa: B023 - called at once
            attempts, is_whole = attempts + 1, False
            _note(attempts)
            sleep(pause)

    def _guarded(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except SecurecfgError:
            raise
        except Exception:  # noqa: BLE001 - a plug-in may raise anything, and its text may quote anything
            message = f"the backend of `{self._backend.scheme}:` broke down"
            raise BackendUnavailable(message, hint="this is a mistake in the backend; please report it") from None

    def _too_slow(self) -> BackendUnavailable:
        return BackendUnavailable(
            f"{self._store} gave no answer within {self._patience.deadline_s:g} s", hint="try again later"
        )


def _one(answer: object, kind: type[T]) -> T:
    """Return what a plug-in gave, where it is of the kind that it owes."""
    if not isinstance(answer, kind):
        message = "a backend gave something else"
        raise TypeError(message)
    return answer


def _each_of(answer: Mapping[str, Found], paths: Sequence[str]) -> dict[str, Found]:
    return {path: _one(answer[path], Found) for path in paths if path in answer}


def _close(watching: Iterator[Changes]) -> None:
    close = getattr(watching, "close", None)
    if close is not None:
        close()


def _check_folder(prefix: str) -> None:
    check_prefix(prefix)
    if prefix and not prefix.endswith("/"):
        message = f"`{prefix}` does not end in `/`"
        raise InvalidPath(message, hint="a prefix is a folder")


def _is_path(name: str) -> bool:
    try:
        path_to_bytes(name)
    except InvalidPath:
        return False
    return True


def _check_version(version: str) -> None:
    if not version or len(version) > _VERSION_LENGTH_MAX or not version.isprintable():
        message = "a version is named by its id or a label"
        raise UsageError(message)


def _given(value: object) -> _Given | UsageError:
    """Return a value as a backend takes it, or what is wrong with it; raised elsewhere, without this frame."""
    content = _content_of(value)
    if content is None:
        return UsageError("a value is text, bytes, or a mapping of field names to text or bytes")
    parts: tuple[str | bytes, ...] = (content,) if isinstance(content, str | bytes) else (*content, *content.values())
    try:
        size = sum(len(part.encode() if isinstance(part, str) else part) for part in parts)
    except UnicodeEncodeError:
        return UsageError("the value is not valid Unicode text", hint="give bytes instead of text")
    if isinstance(content, str):
        return _Given(lambda: content, Kind.TEXT, size)
    return _Given(lambda: content, Kind.BYTES if isinstance(content, bytes) else Kind.FIELDS, size)


def _content_of(value: object) -> Content | None:
    plain = value.reveal() if isinstance(value, Secret) else value
    if isinstance(plain, str | bytes):
        return plain
    if isinstance(plain, bytearray):
        return bytes(plain)
    if isinstance(plain, Mapping) and plain:
        fields = {name: part.reveal() if isinstance(part, Secret) else part for name, part in plain.items()}
        if all(isinstance(name, str) and name and isinstance(part, str | bytes) for name, part in fields.items()):
            return fields
    return None


def _note(attempt: int) -> None:
    import logging

    logging.getLogger("securecfg.backends").info(
        "a backend is unavailable and is asked again", extra={"event": "backend.retried", "count": attempt}
    )
