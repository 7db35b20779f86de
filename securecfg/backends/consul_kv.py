"""Keys of Consul's KV store as secrets: one key for each, whose index of last change is its version.

What is written, deleted or read together is a transaction, whose answer alone says which index a key has come to.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from securecfg.backends.byte_values import to_bytes, to_value
from securecfg.backends.consul_server import INDEX, PERMISSION_DENIED
from securecfg.backends.interface import Capabilities, Changes, Deletion, Found, Kind, StoredVersion
from securecfg.errors import (
    AlreadyExists,
    BackendNotReached,
    BackendRefused,
    BackendUnavailable,
    InvalidPath,
    SecretNotFound,
    SecurecfgError,
    StaleWrite,
    ValueTooLarge,
)
from securecfg.vault.paths import path_to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from securecfg.backends.consul_server import ConsulServer
    from securecfg.backends.interface import Content, Writing
    from securecfg.http_client import Answer

VALUE_BYTES_MAX = 389_120
"""380 KiB: what is left of a transaction of 512 KiB, Consul's limit, for a value in base64 beside its key."""
PATH_BYTES_MAX = 1_024
READS_AT_ONCE = 64
"""As many operations as a transaction may have."""
WATCH_S = 9.0
"""Consul waits up to a sixteenth longer."""

_INDEX = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
_NO_TEXT = "\ufffd"
"""What Consul shows of a key that is no UTF-8."""
_STALE, _MISSING, _UNKNOWN = "index is stale", "doesn't exist", "unknown KV verb"


class _Entry(NamedTuple):
    """A key and what it holds.

    Attributes:
        changed: The index of its last change; 0 where it is not there.
    """

    key: str
    changed: int
    value: bytes


class ConsulKv:
    """Keys below a folder.

    Args:
        server: Asks the agent.
        folder: What stands before every path.
    """

    scheme: Final = "consul"
    capabilities: Final = Capabilities(
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

    def __init__(self, server: ConsulServer, folder: str) -> None:
        """Call nothing yet."""
        self._server, self._folder = server, folder

    def __repr__(self) -> str:
        """Show which store."""
        return f"ConsulKv({self.name!r})"

    @property
    def name(self) -> str:
        """The folder."""
        return self._folder

    def read(self, path: str, _version: str | None) -> Found:
        """Return a secret.

        Raises:
            SecretNotFound: There is none.
        """
        key = self._key(path)
        [found] = self._server.get(key, {}, lambda answer: _entries(answer) or [None])
        if found is None:
            raise _not_there(path)
        return self._found(path, found)

    def read_many(self, paths: Sequence[str]) -> Mapping[str, Found]:
        """Return several secrets, all as they are at one index.

        Raises:
            BackendDenied: One of them may not be read.
        """
        operations = [{"Verb": "get-or-empty", "Key": self._key(path)} for path in paths]
        entries = {entry.key: entry for entry in self._server.transact(operations, self._results)}
        if not entries.keys() >= {self._key(path) for path in paths}:
            raise self._server.denied()  # Consul leaves out what the token may not read
        found = {path: entries[self._key(path)] for path in paths}
        return {path: self._found(path, entry) for path, entry in found.items() if entry.changed}

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the paths that begin with a prefix; Consul gives them in one answer."""
        yield from self._server.get(self._key(prefix), {"keys": ""}, self._paths)

    def write(self, path: str, content: Content, writing: Writing) -> str:
        """Write what is there from now on, and return the index of its last change.

        What is there already is not changed by it, and keeps its index.

        Raises:
            Unsupported: It would come back as something else.
            AlreadyExists, StaleWrite: It is not what the writer expects.
        """
        expect, held = writing.expect, to_bytes(content)
        if len(held) > VALUE_BYTES_MAX:
            message = f"`{path}` would hold more than {VALUE_BYTES_MAX} bytes"
            raise ValueTooLarge(message, hint="fields take more room as JSON")
        if expect and not _INDEX.fullmatch(expect):
            raise _stale(path, expect)
        operation: dict[str, str | int] = {"Verb": "set", "Key": self._key(path), "Value": b64encode(held).decode()}
        if expect is not None:
            operation |= {"Verb": "cas", "Index": int(expect or 0)}

        def written(answer: Answer) -> str:
            if expect is not None and _STALE in _refusals(answer):
                raise _stale(path, expect)
            [entry] = self._results(answer)
            if entry.key != operation["Key"] or not entry.changed:
                raise ValueError
            return str(entry.changed)

        return self._server.transact([operation], written)

    def delete(self, path: str) -> None:
        """Delete a secret for ever.

        Raises:
            SecretNotFound: There is none.
        """
        key = self._key(path)

        def deleted(answer: Answer) -> None:
            if _MISSING in _refusals(answer):
                raise _not_there(path)
            [entry] = self._results(answer)
            if entry.key != key:
                raise ValueError

        # Consul alone would not say whether there was anything. Nothing is deleted where the first of them fails.
        self._server.transact([{"Verb": "get", "Key": key}, {"Verb": "delete", "Key": key}], deleted)

    def watch(self, prefix: str) -> Iterator[Changes]:
        """Yield what changes: each answer holds all that is there, which is compared with the one before.

        Where one is lost, the next is compared with the last that was seen, so that nothing is missed.
        """
        seen = self._look(prefix, None)
        yield Changes((), is_whole=True)
        is_resumed = False
        while True:
            try:
                now = self._look(prefix, seen)
            except BackendUnavailable as error:
                if is_resumed or isinstance(error, BackendNotReached):
                    raise
                is_resumed = True
                continue
            is_resumed = False
            changed = {key for key, _ in seen.changed.items() ^ now.changed.items()}
            seen = now
            yield Changes(tuple(filter(None, map(self._path, sorted(changed)))), is_whole=True)

    def _look(self, prefix: str, before: _Seen | None) -> _Seen:
        """Return what is there, at once or as soon as it is another than before."""
        params = {"recurse": ""}
        if before is not None:
            params |= {"index": str(before.reached), "wait": f"{WATCH_S:g}s"}
        return self._server.get(self._key(prefix), params, _seen, 0.0 if before is None else WATCH_S)

    def _results(self, answer: Answer) -> Sequence[_Entry]:
        """Return the entries of a transaction that was made.

        Raises:
            SecurecfgError: It was not.
        """
        words = _refusals(answer)
        if PERMISSION_DENIED in words:
            raise self._server.denied()
        if _UNKNOWN in words:
            message = "the Consul server does not know what was asked"
            raise BackendRefused(message, hint="Consul 1.14 and later do")
        if answer.status != 200:  # noqa: PLR2004 - of HTTP
            message = "the Consul server refuses what was asked"
            raise BackendRefused(message, hint="its log says why")
        return [_entry(result["KV"]) for result in json.loads(answer.body)["Results"] or ()]

    def _found(self, path: str, entry: _Entry) -> Found:
        if entry.key != self._key(path) or not entry.changed:
            message = "the Consul agent answered with another key"
            raise BackendUnavailable(message)
        return Found(to_value(entry.value, path), StoredVersion(str(entry.changed)), {})

    def _paths(self, answer: Answer) -> Sequence[str]:
        if answer.status == 404:  # noqa: PLR2004 - of HTTP
            return ()
        keys = json.loads(answer.body)
        if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
            raise TypeError
        return [self._path(key) for key in keys]

    def _key(self, path: str) -> str:
        if _NO_TEXT in path:
            message = "Consul shows U+FFFD for what is no text, so that no path may hold it"
            raise InvalidPath(message)
        return self._folder + path

    def _path(self, key: str) -> str:
        """Return the path of a key, an empty text where it is none.

        Raises:
            ValueError: It does not begin as was asked for.
        """
        if not key.startswith(self._folder):
            raise ValueError
        path = key[len(self._folder) :]
        try:
            path_to_bytes(path)
        except InvalidPath:
            return ""
        return "" if _NO_TEXT in path else path


# --- answers ----------------------------------------------------------------------------------------------------------


class _Seen(NamedTuple):
    """What a watch has seen.

    Attributes:
        reached: The index that Consul has come to.
        changed: That of the last change of each key.
    """

    reached: int
    changed: Mapping[str, int]


def _entry(kv: Mapping[str, Any]) -> _Entry:
    value, index = b64decode(kv["Value"] or "", validate=True), kv["ModifyIndex"]
    if not isinstance(index, int) or not isinstance(kv["Key"], str):
        raise TypeError
    return _Entry(kv["Key"], index, value)


def _entries(answer: Answer) -> list[_Entry | None]:
    if answer.status == 404:  # noqa: PLR2004 - of HTTP
        return []
    return [_entry(kv) for kv in json.loads(answer.body)]


def _seen(answer: Answer) -> _Seen:
    # Below 1 it would not wait. Where it has gone back, it is taken as it is: all that is there came with it.
    index = max(int(answer.headers[INDEX]), 1)
    if answer.status == 404:  # noqa: PLR2004 - of HTTP
        return _Seen(index, {})
    return _Seen(index, {kv["Key"]: int(kv["ModifyIndex"]) for kv in json.loads(answer.body)})


def _refusals(answer: Answer) -> str:
    """Return the words of a transaction that was not made, which are not to be shown."""
    if answer.status != 409:  # noqa: PLR2004 - of HTTP
        return ""
    return " ".join(str(error["What"]) for error in json.loads(answer.body)["Errors"])


def _not_there(path: str) -> SecretNotFound:
    return SecretNotFound(f"there is no secret `{path}`")


def _stale(path: str, expect: str) -> SecurecfgError:
    if expect:
        return StaleWrite(f"`{path}` has another version than `{expect}` by now", hint="read it again")
    return AlreadyExists(f"`{path}` is there already")
