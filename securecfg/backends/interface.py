"""What a backend is: the contract between the handle that everybody uses and whoever speaks to one store.

The whole of it, with what is not in types, is `docs/security/backends.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from datetime import datetime

    from securecfg.secret import Secret
    from securecfg.vault.values import Value

Content = str | bytes | Mapping[str, str | bytes]
"""A value as it goes into a store: text, bytes, or fields."""


class Kind(StrEnum):
    """What a value can be."""

    TEXT = "text"
    BYTES = "bytes"
    FIELDS = "fields"


class State(StrEnum):
    """What has become of a version."""

    LIVE = "live"
    DISABLED = "disabled"
    DELETED = "deleted"
    DESTROYED = "destroyed"


class Deletion(StrEnum):
    """How a store deletes."""

    SOFT = "soft"
    FINAL = "final"
    NONE = "none"


class Capabilities(NamedTuple):
    """What a store can do as the URI names it (section 2 of the contract); what is not declared is refused.

    Attributes:
        kinds: What comes back as what was written.
        value_bytes_max: Of the longest value.
        path_bytes_max: Of the longest path.
        writes: Whether it is written here at all.
        creates: Whether the store itself writes only where there is nothing.
        compares: Whether it itself writes only on the version that the writer has seen.
        keeps_versions: Whether earlier versions can be read and listed.
        labels: Whether names can point at versions.
        metadata: Whether there is text beside a secret.
        deletes: How.
        reads_at_once: How many secrets one call reads.
        is_write_repeatable: Whether a write that is sent twice with one token is made once.
        watches: Whether it says what changes.
    """

    kinds: frozenset[Kind]
    value_bytes_max: int
    path_bytes_max: int
    writes: bool = False
    creates: bool = False
    compares: bool = False
    keeps_versions: bool = False
    labels: bool = False
    metadata: bool = False
    deletes: Deletion = Deletion.NONE
    reads_at_once: int = 1
    is_write_repeatable: bool = False
    watches: bool = False


class StoredVersion(NamedTuple):
    """A version as its store has it.

    Attributes:
        id: An opaque text.
        state: What has become of it.
        created: Aware and in UTC; None where the store does not say.
        labels: What points at it.
    """

    id: str
    state: State = State.LIVE
    created: datetime | None = None
    labels: tuple[str, ...] = ()


class Found(NamedTuple):
    """What a read gives.

    Attributes:
        value: A `Secret`, or a mapping of field names to `Secret`s.
        version: Which version it is.
        metadata: The text beside the secret.
    """

    value: Value
    version: StoredVersion
    metadata: Mapping[str, str]


class Writing(NamedTuple):
    """What a write asks for besides its value.

    Attributes:
        expect: The current version that the writer has seen, `""` for none, None for whatever there is.
        metadata: The text beside the secret, None to keep what is there.
        token: A random text of 32 hexadecimal digits, one for each write, the same for each attempt.
    """

    expect: str | None
    metadata: Mapping[str, str] | None
    token: str


class Changes(NamedTuple):
    """What a watch has seen since it said something last.

    Attributes:
        paths: Of the secrets that were written, deleted or brought back; perhaps none.
        is_whole: Whether these are all; False where some may have been missed, so that anything may have changed.
    """

    paths: tuple[str, ...]
    is_whole: bool


class Backend(Protocol):
    """Speaks to one store: once for each call, without waiting, repeating, caching or recording.

    Obligations, held by `BackendConformance` of `securecfg.testing.backend_conformance`, are those of sections 2 to 8
    of the contract. One object may be used by many threads, and by a forked child.

    Attributes:
        scheme: The URI scheme that names the kind of store.
        name: What this store is called in errors; holds no secret.
        capabilities: What it can do; known without a call.
    """

    @property
    def scheme(self) -> str:
        """The URI scheme that names the kind of store."""
        ...

    @property
    def name(self) -> str:
        """What this store is called in errors; holds no secret."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What it can do; known without a call."""
        ...

    def read(self, path: str, version: str | None) -> Found:
        """Return a secret: its current version, or the one with this id or label.

        Raises:
            InvalidPath: The store can hold no such path.
            SecretNotFound, VersionNotFound, VersionDisabled, SecretDestroyed: There is none to be read.
            SecurecfgError: See section 7 of the contract.
        """
        ...

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the paths of the live secrets that begin with a prefix, in any order; each page when it is needed.

        The prefix is empty or ends in `/`. A name in the store that is no path is yielded as an empty text.

        Raises:
            SecurecfgError: See section 7 of the contract.
        """
        ...


@runtime_checkable
class Writes(Protocol):
    """A backend whose store is written through it: an optional interface."""

    def write(self, path: str, content: Content, writing: Writing) -> str:
        """Write a new version and return its id.

        Raises:
            InvalidPath: The store can hold no such path.
            Unsupported: It can hold no such value.
            AlreadyExists, StaleWrite: It is not what the writer expects.
            BackendNotReached: The request did not arrive, or was refused before it was taken: nothing was written.
            SecurecfgError: See section 7 of the contract.
        """
        ...


@runtime_checkable
class KeepsVersions(Protocol):
    """A backend whose store keeps earlier versions: an optional interface."""

    def versions(self, path: str) -> Iterator[StoredVersion]:
        """Yield the versions of a secret, newest first, deleted and destroyed ones included.

        Raises:
            SecretNotFound: There is no such secret, or it is deleted as a whole.
            SecurecfgError: See section 7 of the contract.
        """
        ...


@runtime_checkable
class Labels(Protocol):
    """A backend whose store lets names point at versions: an optional interface."""

    def label(self, path: str, label: str, version: str | None) -> None:
        """Make a label point at a version; None takes it away.

        Raises:
            SecretNotFound, VersionNotFound: There is none such.
            InvalidMetadata: The store takes no such label, or moves it by itself.
            SecurecfgError: See section 7 of the contract.
        """
        ...


@runtime_checkable
class Deletes(Protocol):
    """A backend whose store deletes: an optional interface."""

    def delete(self, path: str) -> None:
        """Delete a secret with all its versions.

        Raises:
            SecretNotFound: There is none.
            SecurecfgError: See section 7 of the contract.
        """
        ...


@runtime_checkable
class Recovers(Protocol):
    """A backend whose store brings back what was deleted: an optional interface."""

    def recover(self, path: str) -> None:
        """Bring a deleted secret back; nothing happens to one that is there.

        Raises:
            SecretNotFound: There is none that could come back.
            SecurecfgError: See section 7 of the contract.
        """
        ...


@runtime_checkable
class ReadsAtOnce(Protocol):
    """A backend whose store reads several secrets in one call: an optional interface."""

    def read_many(self, paths: Sequence[str]) -> Mapping[str, Found]:
        """Return the current versions of at most `reads_at_once` secrets; those that are not there are left out.

        Raises:
            SecurecfgError: See section 7 of the contract.
        """
        ...


@runtime_checkable
class Watches(Protocol):
    """A backend whose store says what changes: an optional interface."""

    def watch(self, prefix: str) -> Iterator[Changes]:
        """Yield what changes below a prefix: nothing as soon as it is seen; then every 10 s at the latest.

        It has no end of its own. Closing it frees what it holds.

        Raises:
            SecurecfgError: See section 7 of the contract.
        """
        ...


class BackendUri(NamedTuple):
    """A URI of a backend, cut at its first colon.

    Attributes:
        scheme: What stands before the colon, in lower case.
        rest: What stands between it and the question mark.
        options: What follows the question mark, each name once.
        credentials: What whoever opens the backend has for it, by the names of the variables of the environment that
            would hold them.
    """

    scheme: str
    rest: str
    options: Mapping[str, str]
    credentials: Mapping[str, Secret[str]] = MappingProxyType({})


BackendFactory = Callable[[BackendUri], Backend]
"""What an entry point of the group `securecfg.backends` loads, under the scheme as its name.

It parses the URI, raises `InvalidBackendUri`, and calls nothing.
"""
