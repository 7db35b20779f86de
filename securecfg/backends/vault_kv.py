"""Versions 1 and 2 of the KV engine of Vault.

A secret is a JSON object there. One whose only field is `value` is a text; any other is fields.
"""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from securecfg.backends.interface import Capabilities, Deletion, Found, Kind, State, StoredVersion
from securecfg.backends.vault_server import Request, before_a_change
from securecfg.errors import (
    AlreadyExists,
    BackendUnavailable,
    CommitUnknown,
    InvalidMetadata,
    InvalidPath,
    SecretDestroyed,
    SecretNotFound,
    SecurecfgError,
    StaleWrite,
    Unsupported,
    VersionNotFound,
)
from securecfg.secret import Secret
from securecfg.vault.paths import path_to_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from securecfg.backends.interface import Content, Writing
    from securecfg.backends.vault_server import Answer, VaultServer
    from securecfg.vault.values import Value

TEXT_FIELD = "value"
VALUE_BYTES_MAX = 1 << 19
"""What Vault documents for an entry of its smallest storage, Consul; others take twice that."""
PATH_BYTES_MAX = 1_024
ONLY_VERSION = "current"
"""The id of what version 1 of the engine holds."""

_KINDS = frozenset({Kind.TEXT, Kind.FIELDS})
_READERS = 8
_READ_AHEAD = 32
_METADATA_MAX, _METADATA_KEY_MAX, _METADATA_VALUE_MAX = 64, 128, 512
_NUMBER = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)


class _Kv:
    """What both versions of the engine have in common.

    Args:
        server: Asks the engine.
        folder: What stands before every path: empty, or a path and `/`.
    """

    scheme: Final = "vault"

    def __init__(self, server: VaultServer, folder: str) -> None:
        """Call nothing yet."""
        self._server, self._folder = server, folder

    def __repr__(self) -> str:
        """Show which store."""
        return f"{type(self).__name__}({self.name!r})"

    @property
    def name(self) -> str:
        """Mount point and folder."""
        return f"{self._server.mount}/{self._folder}".rstrip("/")

    def _at(self, path: str, below: str = "") -> str:
        """Return what the engine calls a path, below one of its own folders."""
        if ".." in path:
            message = f"`{path}` has two dots in a row"
            raise InvalidPath(message, hint="Vault's storage takes no such path")
        return "/".join(filter(None, (self._server.mount, below, self._folder + path)))

    def _names(self, prefix: str, below: str = "") -> Iterator[list[str]]:
        """Yield the paths of each folder that begins with a prefix; an empty text for what is no path."""
        folders = [prefix]
        while folders:
            folder = folders.pop()
            names = [folder + name for name in self._listed(self._at(folder, below))]
            # What is no path is not asked for: with a segment `..` another one would be.
            folders += [name for name in names if name.endswith("/") and is_path(name[:-1])]
            found = [name for name in names if not name.endswith("/") and is_path(name)]
            yield found + [""] * sum(not is_path(name.removesuffix("/")) for name in names)

    def _listed(self, where: str) -> list[str]:
        def pick(answer: Answer) -> list[str]:
            if answer.is_missing:
                return []
            keys = answer.body["data"]["keys"]
            if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
                raise TypeError
            return keys

        return self._server.ask(Request("get", where, params={"list": "true"}), pick)


class PlainKv(_Kv):
    """Version 1 of the engine: one value for each path, and nothing else."""

    capabilities: Final = Capabilities(_KINDS, VALUE_BYTES_MAX, PATH_BYTES_MAX, writes=True, deletes=Deletion.FINAL)

    def read(self, path: str, _version: str | None) -> Found:
        """Return a secret.

        Raises:
            SecretNotFound: There is none.
        """
        return self._server.ask(Request("get", self._at(path)), lambda answer: self._found(path, answer))

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the paths that begin with a prefix."""
        for names in self._names(prefix):
            yield from names

    def write(self, path: str, content: Content, _writing: Writing) -> str:
        """Write what is there from now on.

        Raises:
            Unsupported: It would come back as something else.
        """
        self._server.ask(Request("post", self._at(path), to_data(content)), _done)
        return ONLY_VERSION

    def delete(self, path: str) -> None:
        """Delete a secret for ever. Vault does not say whether there was one, so it is read before.

        Raises:
            SecretNotFound: There is none.
        """
        before_a_change(lambda: self.read(path, None))
        self._server.ask(Request("delete", self._at(path)), _done)

    @staticmethod
    def _found(path: str, answer: Answer) -> Found:
        if answer.is_missing:
            raise _not_there(path)
        return Found(to_value(answer.body["data"], path), StoredVersion(ONLY_VERSION), {})


class VersionedKv(_Kv):
    """Version 2 of the engine: versions, comparison, metadata, and deletion that can be undone."""

    capabilities: Final = Capabilities(
        _KINDS,
        VALUE_BYTES_MAX,
        PATH_BYTES_MAX,
        writes=True,
        creates=True,
        compares=True,
        keeps_versions=True,
        metadata=True,
        deletes=Deletion.SOFT,
    )

    def read(self, path: str, version: str | None) -> Found:
        """Return a secret: its newest version, or the one with this number.

        Raises:
            SecretNotFound, VersionNotFound, SecretDestroyed: There is none to be read.
        """
        params = None
        if version is not None:
            # Any other text, and a number below one, would give the newest version.
            if not _NUMBER.fullmatch(version):
                raise _no_version(path, version)
            params = {"version": version}
        request = Request("get", self._at(path, "data"), params=params)
        return self._server.ask(request, lambda answer: _found(path, version, answer))

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the paths of live secrets. Vault lists deleted ones too, so the versions of each are asked for."""
        for names in self._names(prefix, "metadata"):
            paths = [name for name in names if name]
            yield from names[len(paths) :]
            # A few at a time, so that little is under way where nobody waits for it any more.
            with ThreadPoolExecutor(_READERS) as readers:
                for start in range(0, len(paths), _READ_AHEAD):
                    part = paths[start : start + _READ_AHEAD]
                    live = readers.map(self._is_live, part)
                    yield from (path for path, is_live in zip(part, live, strict=True) if is_live)

    def versions(self, path: str) -> Iterator[StoredVersion]:
        """Yield the versions of a secret, newest first.

        Raises:
            SecretNotFound: There is no such secret, or none of its versions is left but deleted ones.
        """
        versions = self._versions(path)
        states = {version.state for version in versions}
        if not versions or (State.LIVE not in states and State.DELETED in states):
            raise _not_there(path)
        yield from versions

    def write(self, path: str, content: Content, writing: Writing) -> str:
        """Write a new version, then the metadata where they are given, and return the version's number.

        Raises:
            Unsupported: It would come back as something else.
            InvalidMetadata: Vault takes no such metadata.
            AlreadyExists, StaleWrite: It is not what the writer expects.
            CommitUnknown: The version was written, and the metadata were not.
        """
        expect, metadata, _token = writing
        if expect and not _NUMBER.fullmatch(expect):
            raise _stale(path, expect)
        if metadata is not None:
            _check_metadata(metadata)
        options = {} if expect is None else {"cas": int(expect or 0)}
        request = Request("post", self._at(path, "data"), {"data": to_data(content), "options": options})
        version = self._server.ask(request, lambda answer: _written(path, expect, answer))
        if metadata is not None:
            self._write_metadata(path, metadata, version)
        return version

    def delete(self, path: str) -> None:
        """Delete all versions of a secret, so that they can come back.

        Raises:
            SecretNotFound: None of its versions is live.
        """
        live = [int(version.id) for version in self._seen(path) if version.state is State.LIVE]
        if not live:
            raise _not_there(path)
        self._server.ask(Request("post", self._at(path, "delete"), {"versions": live}), _done)

    def recover(self, path: str) -> None:
        """Bring all deleted versions of a secret back, unless its newest one is live.

        Raises:
            SecretNotFound: None of its versions is deleted.
        """
        versions = self._seen(path)
        if versions and versions[0].state is State.LIVE:
            return
        deleted = [int(version.id) for version in versions if version.state is State.DELETED]
        if not deleted:
            raise _not_there(path)
        self._server.ask(Request("post", self._at(path, "undelete"), {"versions": deleted}), _done)

    def _seen(self, path: str) -> tuple[StoredVersion, ...]:
        """Return the versions that are to be changed."""
        return before_a_change(lambda: self._versions(path))

    def _versions(self, path: str) -> tuple[StoredVersion, ...]:
        return self._server.ask(Request("get", self._at(path, "metadata")), _versions)

    def _is_live(self, path: str) -> bool:
        versions = self._versions(path)
        return bool(versions) and versions[0].state is State.LIVE

    def _write_metadata(self, path: str, metadata: Mapping[str, str], version: str) -> None:
        request = Request("post", self._at(path, "metadata"), {"custom_metadata": dict(metadata)})
        try:
            self._server.ask(request, _done)
            return
        except SecurecfgError as error:
            why = error.message
        # Whatever it was: the caller would take any other error for a write that was not made, or make it again.
        message = f"version {version} of `{path}` was written, but perhaps not its metadata: {why}"
        raise CommitUnknown(message, hint="metadata need `create` and `update` on `metadata/...`; look what is there")


def to_data(content: Content) -> dict[str, str]:
    """Return the fields that a value is kept as.

    Raises:
        Unsupported: It would come back as something else.
    """
    if isinstance(content, str):
        return {TEXT_FIELD: content}
    if isinstance(content, bytes) or any(isinstance(part, bytes) for part in content.values()):
        message = "bytes cannot be held, as Vault keeps JSON"
        raise Unsupported(message, hint="write text, for instance base64")
    if content.keys() == {TEXT_FIELD}:
        message = f"fields of which `{TEXT_FIELD}` is the only one would come back as a text"
        raise Unsupported(message, hint="write it as text")
    return {name: str(part) for name, part in content.items()}


def to_value(data: object, label: str) -> Value:
    """Return the value that fields stand for. What others have put there as something else than text is given as JSON.

    Raises:
        TypeError: It is no object.
    """
    if not isinstance(data, dict):
        raise TypeError
    if data.keys() == {TEXT_FIELD}:
        return Secret(_text(data[TEXT_FIELD]), label=label)
    return {name: Secret(_text(part), label=f"{label}#{name}") for name, part in data.items()}


def _text(part: object) -> str:
    return part if isinstance(part, str) else json.dumps(part, ensure_ascii=False, separators=(",", ":"))


# --- answers ----------------------------------------------------------------------------------------------------------


def _found(path: str, version: str | None, answer: Answer) -> Found:
    if answer.is_missing:
        held = (answer.body.get("data") or {}).get("metadata") or {}
        if held.get("destroyed") is True:
            message = f"version {held['version']:d} of `{path}` is destroyed"
            raise SecretDestroyed(message)
        raise _not_there(path) if version is None else _no_version(path, version)
    data = answer.body["data"]
    held = data["metadata"]
    stored = StoredVersion(f"{held['version']:d}", State.LIVE, _time(held["created_time"]))
    metadata = {str(name): _text(text) for name, text in (held.get("custom_metadata") or {}).items()}
    return Found(to_value(data["data"], path), stored, metadata)


def _versions(answer: Answer) -> tuple[StoredVersion, ...]:
    """Return the versions of a secret, newest first; none where there is no such secret."""
    if answer.is_missing:
        return ()
    versions = answer.body["data"]["versions"].items()
    return tuple(
        StoredVersion(f"{int(number):d}", _state(held, answer.at), _time(held["created_time"]))
        for number, held in sorted(versions, key=lambda item: int(item[0]), reverse=True)
    )


def _state(version: Mapping[str, Any], at: datetime) -> State:
    if version["destroyed"]:
        return State.DESTROYED
    ends = _time(version["deletion_time"])
    # A version may be going to be deleted. The server's own clock decides, of which it tells whole seconds.
    is_deleted = ends is not None and ends < at + timedelta(seconds=1)
    return State.DELETED if is_deleted else State.LIVE


def _written(path: str, expect: str | None, answer: Answer) -> str:
    if answer.is_stale:
        raise _stale(path, expect or "")
    if answer.is_missing:
        message = "the Vault server answered a write with nothing"
        raise BackendUnavailable(message)
    return f"{answer.body['data']['version']:d}"


def _done(answer: Answer) -> None:
    """Verify that it was Vault that said so: it answers with nothing (204), or names the request."""
    if answer.status != 204 and (answer.is_missing or "request_id" not in answer.body):  # noqa: PLR2004 - of HTTP
        raise ValueError


def _time(text: str) -> datetime | None:
    """Return a time as Go writes it (RFC 3339 with up to nine digits of a second), None for none."""
    return datetime.fromisoformat(text).astimezone(UTC) if text else None


# --- checks -----------------------------------------------------------------------------------------------------------


def _check_metadata(metadata: Mapping[str, str]) -> None:
    if len(metadata) > _METADATA_MAX:
        message = f"Vault takes at most {_METADATA_MAX} metadata for a secret"
        raise InvalidMetadata(message)
    for name, text in metadata.items():
        if len(name.encode()) > _METADATA_KEY_MAX or not 0 < len(text.encode()) <= _METADATA_VALUE_MAX:
            message = (
                f"in Vault a metadata key has at most {_METADATA_KEY_MAX} bytes, a value 1 to {_METADATA_VALUE_MAX}"
            )
            raise InvalidMetadata(message)
        if not text.isprintable():
            message = "Vault takes only metadata that can be printed"
            raise InvalidMetadata(message)


def is_path(name: str) -> bool:
    """Return whether Vault can hold a name as a path of ours."""
    try:
        path_to_bytes(name)
    except InvalidPath:
        return False
    return ".." not in name


def _not_there(path: str) -> SecretNotFound:
    return SecretNotFound(f"there is no secret `{path}`")


def _no_version(path: str, version: str) -> VersionNotFound:
    return VersionNotFound(f"`{path}` has no version `{version}`")


def _stale(path: str, expect: str) -> SecurecfgError:
    if expect:
        return StaleWrite(f"`{path}` has another version than `{expect}` by now", hint="read it again")
    hint = "one that is deleted is there too: recover it, or write without expecting anything"
    return AlreadyExists(f"`{path}` is there already", hint=hint)
