"""What can be changed in a vault, at once or in a batch, and what each change needs and is called."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, BinaryIO, cast

from securecfg.audit import Event
from securecfg.crypto import INLINE_LIMIT_BYTES, KIND_BYTES
from securecfg.errors import InvalidMetadata, SecurecfgError
from securecfg.tuples import NamedTuple
from securecfg.vault.paths import check_content_type, check_label, check_metadata, path_to_bytes
from securecfg.vault.values import as_number, encode_value, stream_length

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from securecfg.vault.authority import Authority
    from securecfg.vault.commits.publishing import Plan
    from securecfg.vault.drafts import Content, Drafts, NewVersion
    from securecfg.vault.values import Plain, VersionId
    from securecfg.vault.writing import Draft, Wanted, WantedChange, WantedWrite

TTL_MAX = timedelta(days=36_500)
_PIECE_BYTES = 1 << 18


class Changes(ABC):
    """What can be changed: directly on a vault, or collected in a batch."""

    _authority: Authority

    def write(
        self,
        path: str,
        value: Plain | BinaryIO,
        *,
        expect: VersionId | None = None,
        ttl: timedelta | None = None,
        metadata: Mapping[str, str] | None = None,
        content_type: str = "",
        allow_lookalike: bool = False,
    ) -> VersionId:
        """Write a new version and return its number, from 1.

        Args:
            path: Where.
            value: Text, bytes, a mapping of field names to those, or a binary file to stream from (up to 1 GiB).
            expect: The newest version that the caller has seen, deleted ones included; 0 for a secret that was never
                written. None writes whatever there is.
            ttl: How long it can be read; None for ever.
            metadata: Text to show with it; None keeps what the newest version has.
            content_type: Of a whole configuration document, such as `application/yaml`.
            allow_lookalike: Whether a new path may look like one that exists.

        Raises:
            InvalidPath: The path breaks the rules.
            InvalidMetadata: Metadata, content type or ttl break theirs.
            UsageError: The value is of no supported type.
            ValueTooLarge: The value has more than 1 GiB.
            StaleWrite: The newest version is not the one expected.
            ConfusablePath: The path is new and looks like one that exists.
            AccessDenied: The policy does not allow it.
            CommitUnknown: The store failed while committing; `resolve` tells the outcome.
            StoreBusy, StoreFailed: Nothing was written.
        """
        encoded = path_to_bytes(path)
        try:
            content = content_of(value)
        except SecurecfgError as error:
            raise error.with_traceback(None) from None
        finally:
            del value  # a traceback that shows locals must not show it
        new = self._new_version(ttl, metadata, content_type)
        if expect is not None or allow_lookalike:
            number = None if expect is None else as_number(expect)
            new = new._replace(expect=number, is_lookalike_allowed=allow_lookalike)
        wanted = _asked().write(path, encoded, content, new)
        return cast("int", self._apply(wanted, is_large=not content.is_inline))

    def delete(self, path: str, version: VersionId | None = None) -> None:
        """Delete the current version, or one version; `undelete` brings it back.

        Raises:
            SecretNotFound: There is no live secret at the path.
            VersionNotFound: It has no such version.
            AccessDenied: The policy does not allow it.
            CommitUnknown, StoreBusy, StoreFailed: As for `write`.
        """
        encoded, now = path_to_bytes(path), self._now_ns()
        number = None if version is None else as_number(version)
        self._change("delete", path, lambda drafts: drafts.delete(encoded, number, now), Event.SECRET_DELETED)

    def undelete(self, path: str, version: VersionId) -> None:
        """Bring a deleted version back.

        Raises:
            SecretNotFound: The path never held a secret.
            VersionNotFound: It has no such version.
            SecretDestroyed: The version was destroyed.
            AccessDenied: The policy does not allow it.
            CommitUnknown, StoreBusy, StoreFailed: As for `write`.
        """
        encoded, number = path_to_bytes(path), as_number(version)
        self._change("undelete", path, lambda drafts: drafts.undelete(encoded, number), Event.SECRET_UNDELETED)

    def rollback(self, path: str, to: VersionId) -> VersionId:
        """Write the value of an old version as a new one and return the new number.

        Raises:
            SecretNotFound: The path never held a secret.
            VersionNotFound: It has no such version or label, or the version is deleted.
            SecretDestroyed: The version was destroyed.
            AccessDenied: The policy does not allow it.
            CommitUnknown, StoreBusy, StoreFailed: As for `write`.
        """
        encoded = path_to_bytes(path)
        new = self._new_version(None, None, "")
        source = 0

        def draft(drafts: Drafts) -> Plan:
            nonlocal source
            source = drafts.number(encoded, to)
            return drafts.roll_back(encoded, source, new)

        wanted = _wanted(
            (("write", path),),
            draft,
            Event.SECRET_ROLLED_BACK,
            lambda number: {"path": path, "ver": number, "source_ver": source},
        )
        return cast("int", self._apply(wanted))

    def label(self, path: str, label: str, version: VersionId | None) -> None:
        """Make a label point at a version; None takes the label away.

        Raises:
            InvalidMetadata: It is not a label, or belongs to the vault.
            SecretNotFound: The path never held a secret.
            VersionNotFound: It has no such version, or no such label to take away.
            AccessDenied: The policy does not allow it.
            CommitUnknown, StoreBusy, StoreFailed: As for `write`.
        """
        encoded, name = path_to_bytes(path), check_label(label)
        number = None if version is None else as_number(version)
        wanted = _wanted(
            (("write", path),),
            lambda drafts: drafts.label(encoded, name, number),
            Event.SECRET_LABELLED,
            lambda _: {"path": path, "label": name} | ({} if number is None else {"ver": number}),
        )
        self._apply(wanted)

    def move(self, path: str, target: str, *, allow_lookalike: bool = False) -> None:
        """Give a secret another path, with all its versions.

        Needs the rights to read and delete the old path and to write the new one.

        Raises:
            SecretNotFound: There is no live secret at the path.
            AlreadyExists: The target holds a secret or its history.
            ConfusablePath: The target is new and looks like a path that exists.
            AccessDenied: The policy does not allow it.
            CommitUnknown, StoreBusy, StoreFailed: As for `write`.
        """
        encoded, encoded_target = path_to_bytes(path), path_to_bytes(target)
        wanted = _wanted(
            (("delete", path), ("read", path), ("write", target)),
            lambda drafts: drafts.move(encoded, encoded_target, is_lookalike_allowed=allow_lookalike),
            Event.SECRET_MOVED,
            lambda _: {"path": path, "to": target},
        )
        self._apply(wanted)

    def _change(self, action: str, path: str, draft: Draft, event: Event) -> None:
        self._apply(_wanted(((action, path),), draft, event, lambda number: {"path": path, "ver": number}))

    @abstractmethod
    def _apply(self, wanted: Wanted, *, is_large: bool = False) -> object:
        """Make a change, or keep it for the end of the batch."""

    def _now_ns(self) -> int:
        return self._authority.opened.clock.now_ns()

    def _new_version(self, ttl: timedelta | None, metadata: Mapping[str, str] | None, content_type: str) -> NewVersion:
        return new_version_of(self._author(), self._now_ns(), ttl, metadata, content_type)

    def _author(self) -> str:
        return self._authority.identity.principal


def new_version_of(
    author: str, now_ns: int, ttl: timedelta | None, metadata: Mapping[str, str] | None, content_type: str
) -> NewVersion:
    """Return what a write asks for besides its content; see `Changes.write`.

    Raises:
        InvalidMetadata: Metadata, content type or ttl break their rules.
    """
    if ttl is None and metadata is None and not content_type:
        return _asked().version(author, now_ns)
    expires = 0
    if ttl is not None:
        if not timedelta() < ttl <= TTL_MAX:
            message = "a time to live is positive and at most 100 years"
            raise InvalidMetadata(message)
        expires = now_ns + (ttl.days * 86_400 + ttl.seconds) * 1_000_000_000 + ttl.microseconds * 1_000
    encoded = None if metadata is None else encode_metadata(metadata)
    return _asked().version(author, now_ns, expires, encoded, check_content_type(content_type))


class _Asked(NamedTuple):
    """What a change is asked for with."""

    content: type[Content]
    version: type[NewVersion]
    change: type[WantedChange]
    write: type[WantedWrite]


@cache
def _asked() -> _Asked:
    """Return what a change is asked for with. Every open vault imports this module, and most only read."""
    from securecfg.vault.drafts import Content, NewVersion
    from securecfg.vault.writing import WantedChange, WantedWrite

    return _Asked(Content, NewVersion, WantedChange, WantedWrite)


def _wanted(
    rights: tuple[tuple[str, str], ...],
    draft: Draft,
    event: Event,
    describe: Callable[[object], Mapping[str, object]],
) -> Wanted:
    return _asked().change(rights, draft, event, describe)


def content_of(value: Plain | BinaryIO) -> Content:
    """Return what is to be sealed of a value; see `Changes.write`.

    Raises:
        UsageError, InvalidMetadata, ValueTooLarge: It is none that can be written.
    """
    if not isinstance(value, str) and hasattr(value, "read"):
        source = cast("BinaryIO", value)
        start = source.tell() if source.seekable() else 0
        length = stream_length(source)
        if length <= INLINE_LIMIT_BYTES:
            # Foreign code is not called while other writers wait.
            return _asked().content.of(KIND_BYTES, b"".join(iter(lambda: source.read(_PIECE_BYTES), b"")))

        def pieces() -> Iterator[bytes]:
            source.seek(start)
            # Without a name of its own, no piece is seen in a traceback that shows locals.
            yield from iter(lambda: source.read(_PIECE_BYTES), b"")

        return _asked().content(KIND_BYTES, length, pieces)
    return _asked().content.of(*encode_value(value))


def encode_metadata(metadata: Mapping[str, str]) -> bytes:
    """Return metadata as a version has them.

    Raises:
        InvalidMetadata: They break the rules.
    """
    plain = check_metadata(metadata)
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode() if plain else b""
