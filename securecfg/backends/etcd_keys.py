"""Keys of etcd as secrets: one key for each, whose revision of last change is its version."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from securecfg.backends.byte_values import to_bytes, to_value
from securecfg.backends.etcd_server import KeyRange, RevisionGone, decode, encode
from securecfg.backends.interface import Capabilities, Changes, Deletion, Found, Kind, StoredVersion
from securecfg.errors import (
    AlreadyExists,
    BackendUnavailable,
    InvalidPath,
    SecretNotFound,
    SecurecfgError,
    StaleWrite,
    ValueTooLarge,
    VersionNotFound,
)
from securecfg.vault.paths import path_to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from securecfg.backends.etcd_server import EtcdServer
    from securecfg.backends.interface import Content, Writing

VALUE_BYTES_MAX = 1_556_480
"""What is left of a request of 1.5 MiB, etcd's limit unless it is told another one, with a key that is named thrice."""
PATH_BYTES_MAX = 1_024
READS_AT_ONCE = 32
"""Of 128 that one request may hold, so that an answer with the longest values stays below 64 MiB."""
WATCH_S = 10.0

_CAPABILITIES = Capabilities(
    frozenset(Kind),
    VALUE_BYTES_MAX,
    PATH_BYTES_MAX,
    writes=True,
    creates=True,
    compares=True,
    deletes=Deletion.FINAL,
    reads_at_once=READS_AT_ONCE,
    watches=True,
)
_PAGE = 1_000
_REVISION = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
_ALL_THAT_FOLLOW = b"\0"


class _Kv(NamedTuple):
    """A key and what it holds, at one revision."""

    key: bytes
    created: int
    revision: int
    value: bytes


class EtcdKeys:
    """Keys as they are now.

    Args:
        server: Asks the cluster.
        folder: What stands before every path.
    """

    scheme: Final = "etcd"

    def __init__(self, server: EtcdServer, folder: str) -> None:
        """Call nothing yet."""
        self._server, self._folder = server, folder.encode()

    def __repr__(self) -> str:
        """Show which store."""
        return f"{type(self).__name__}({self.name!r})"

    @property
    def name(self) -> str:
        """The folder."""
        return self._folder.decode()

    @property
    def capabilities(self) -> Capabilities:
        """What etcd can do."""
        return _CAPABILITIES

    def read(self, path: str, _version: str | None) -> Found:
        """Return a secret.

        Raises:
            SecretNotFound: There is none.
        """
        return _found(path, self._current(path))

    def read_many(self, paths: Sequence[str]) -> Mapping[str, Found]:
        """Return several secrets, all as they are at one revision."""
        reads = [{"request_range": {"key": encode(self._key(path))}} for path in paths]
        answer = self._server.ask("kv/txn", {"success": reads}, _responses)
        found = {path: one for path, one in zip(paths, answer, strict=True) if one is not None}
        if any(one.key != self._key(path) for path, one in found.items()):
            message = "the etcd server answered with another key"
            raise BackendUnavailable(message)
        return {path: _found(path, one) for path, one in found.items()}

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the paths that begin with a prefix, as they are at one revision.

        Raises:
            BackendUnavailable: Meanwhile etcd has compacted that revision.
        """
        keys = self._keys(prefix)
        body: dict[str, Any] = {**keys.to_json(), "keys_only": True, "limit": str(_PAGE)}
        while True:
            try:
                page = self._server.ask("kv/range", body, _page)
            except RevisionGone:
                page = None
            if page is None:  # raised here, so that it drags along no frame
                message = "etcd has compacted what was being listed"
                raise BackendUnavailable(message, hint="list it again")
            yield from map(self._path, page.keys)
            if not page.is_followed:
                return
            body["key"] = encode(page.keys[-1] + b"\0")
            body.setdefault("revision", str(page.revision))  # of the first page: each says to what etcd has come since

    def write(self, path: str, content: Content, writing: Writing) -> str:
        """Write what is there from now on, and return the revision that etcd came to with it.

        Raises:
            Unsupported: It would come back as something else.
            AlreadyExists, StaleWrite, SecretNotFound: It is not what the writer expects.
        """
        expect, held = writing.expect, to_bytes(content)
        if len(held) > VALUE_BYTES_MAX:
            message = f"`{path}` would hold more than {VALUE_BYTES_MAX} bytes"
            raise ValueTooLarge(message, hint="fields take more room as JSON")
        if expect and not _REVISION.fullmatch(expect):
            raise _stale(path, expect)
        key = encode(self._key(path))
        body: dict[str, Any] = {"success": [{"request_put": {"key": key, "value": encode(held)}}]}
        if expect is not None:
            what = ("MOD", "mod_revision") if expect else ("CREATE", "create_revision")
            body["compare"] = [{"key": key, "result": "EQUAL", "target": what[0], what[1]: expect or "0"}]
            body["failure"] = [{"request_range": {"key": key, "keys_only": True}}]
        return self._server.ask("kv/txn", body, lambda answer: _written(path, expect, answer))

    def delete(self, path: str) -> None:
        """Delete a secret. What it held before can be read by its revision until etcd compacts that.

        Raises:
            SecretNotFound: There is none.
        """
        if not self._server.ask("kv/deleterange", {"key": encode(self._key(path))}, _deleted):
            raise _not_there(path)

    def watch(self, prefix: str) -> Iterator[Changes]:
        """Yield what changes. Where the connection is lost, the watch goes on with the next revision."""
        keys, server = self._keys(prefix), self._server
        following = server.follow(keys, None)
        try:
            yield Changes((), is_whole=True)
            while True:
                is_whole = True
                try:
                    found = following.keys(WATCH_S)
                except RevisionGone:
                    start, is_whole, found = None, False, []
                except BackendUnavailable:
                    if not following.is_progressing:  # it has just been resumed
                        raise
                    start, found = following.start, []
                else:
                    yield self._changes(found)
                    continue
                following.close()
                try:
                    following = server.follow(keys, start)
                except RevisionGone:
                    following, is_whole = server.follow(keys, None), False
                yield Changes((), is_whole)
        finally:
            following.close()

    def _changes(self, keys: Sequence[bytes]) -> Changes:
        return Changes(tuple(dict.fromkeys(filter(None, map(self._path, keys)))), is_whole=True)

    def _current(self, path: str) -> _Kv:
        found = self._server.ask("kv/range", {"key": encode(self._key(path))}, _only)
        if found is None:
            raise _not_there(path)
        if found.key != self._key(path):
            message = "the etcd server answered with another key"
            raise BackendUnavailable(message)
        return found

    def _key(self, path: str) -> bytes:
        return self._folder + path.encode()

    def _keys(self, prefix: str) -> KeyRange:
        first = self._key(prefix)
        # A prefix ends in `/`, which has a successor.
        return KeyRange(first, first[:-1] + bytes((first[-1] + 1,))) if first else KeyRange(b"\0", _ALL_THAT_FOLLOW)

    def _path(self, key: bytes) -> str:
        """Return the path of a key, an empty text where it is none."""
        if not key.startswith(self._folder):
            message = "the etcd server answered with another key"
            raise BackendUnavailable(message)
        try:
            path = key[len(self._folder) :].decode()
            path_to_bytes(path)
        except (UnicodeDecodeError, InvalidPath):
            return ""
        return path


class EtcdHistory(EtcdKeys):
    """Keys as they are and as they were: the URI says that the cluster keeps its revisions long enough."""

    @property
    def capabilities(self) -> Capabilities:
        """What etcd can do that keeps revisions."""
        return _CAPABILITIES._replace(keeps_versions=True)

    def read(self, path: str, version: str | None) -> Found:
        """Return a secret that is there: as it is, or as it was when etcd came to a revision with it.

        Raises:
            SecretNotFound: There is none, or not any more.
            VersionNotFound: There is no such revision of it, or etcd has compacted it.
        """
        if version is None:
            return super().read(path, None)
        found, revision = None, int(version) if _REVISION.fullmatch(version) else 0
        current = self._current(path)
        if revision == current.revision:
            found = current
        elif revision >= current.created:  # what was there before belongs to one that is deleted
            found = self._at(path, revision)
        if found is None or found.revision != revision:
            message = f"`{path}` has no version `{version}`, or none any more"
            raise VersionNotFound(message)
        return _found(path, found)

    def versions(self, path: str) -> Iterator[StoredVersion]:
        """Yield what a secret was since it was created, or since etcd compacted.

        Raises:
            SecretNotFound: There is none.
        """
        found: _Kv | None = self._current(path)
        while found is not None:
            yield StoredVersion(str(found.revision))
            before = self._at(path, found.revision - 1) if found.revision > found.created else None
            # What was current when etcd compacted is seen by that, but cannot be read by its own revision.
            found = None if before is None else self._at(path, before.revision)

    def _at(self, path: str, revision: int) -> _Kv | None:
        try:
            return self._server.ask("kv/range", {"key": encode(self._key(path)), "revision": str(revision)}, _only)
        except RevisionGone:
            return None


# --- answers ----------------------------------------------------------------------------------------------------------


class _Page(NamedTuple):
    keys: Sequence[bytes]
    revision: int
    is_followed: bool


def _page(answer: Mapping[str, Any]) -> _Page:
    keys = [decode(kv["key"]) for kv in answer.get("kvs", ())]
    is_followed = answer.get("more", False) is True
    if is_followed and not keys:
        raise ValueError
    return _Page(keys, int(answer["header"]["revision"]), is_followed)


def _only(answer: Mapping[str, Any]) -> _Kv | None:
    """Return the one key that was asked for, None where it is not there."""
    found = answer.get("kvs", ())
    if len(found) > 1:
        raise ValueError
    for kv in found:
        return _Kv(decode(kv["key"]), int(kv["create_revision"]), int(kv["mod_revision"]), decode(kv.get("value", "")))
    return None


def _responses(answer: Mapping[str, Any]) -> Sequence[_Kv | None]:
    if answer["succeeded"] is not True:
        raise ValueError
    return [_only(response["response_range"]) for response in answer["responses"]]


def _written(path: str, expect: str | None, answer: Mapping[str, Any]) -> str:
    if answer.get("succeeded", False) is True:
        return str(int(answer["header"]["revision"]))
    if expect is None:
        raise ValueError
    [response] = answer["responses"]
    is_there = _only(response["response_range"]) is not None
    if expect and not is_there:
        raise _not_there(path)
    raise _stale(path, expect)


def _deleted(answer: Mapping[str, Any]) -> int:
    return int(answer.get("deleted", "0"))


def _found(path: str, kv: _Kv) -> Found:
    return Found(to_value(kv.value, path), StoredVersion(str(kv.revision)), {})


def _not_there(path: str) -> SecretNotFound:
    return SecretNotFound(f"there is no secret `{path}`")


def _stale(path: str, expect: str) -> SecurecfgError:
    if expect:
        return StaleWrite(f"`{path}` has another version than `{expect}` by now", hint="read it again")
    return AlreadyExists(f"`{path}` is there already")
