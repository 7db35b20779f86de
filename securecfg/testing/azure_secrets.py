"""The secrets of Azure Key Vault, as far as its published REST API tells what becomes of them.

What it does not tell is decided here as others have seen it: versions are listed in the order of their ids, which says
nothing of their age, and a secret that is not there has an empty list of versions. Times are whole seconds, and the
clock of this service goes on by one with each version, as nobody waits in tests.
"""

from __future__ import annotations

import json
import os
import threading
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

SECRET_PERMISSIONS = frozenset({"get", "list", "set", "delete", "recover"})
VALUE_BYTES_MAX = 25_600
PAGE_MAX = 25
TAGS_MAX = 15
RECOVERABLE = "Recoverable+Purgeable"
RETENTION_DAYS = 90

_NAME_LENGTH_MAX = 127
_CONTENT_TYPE_LENGTH_MAX = 255
_DAY_S = 86_400


class Refused(Exception):
    """What the service answers instead."""

    def __init__(self, status: int, code: str, message: str, inner: str = "") -> None:
        """Say why; `inner` is the code that says it most precisely."""
        super().__init__(code)
        self.status = status
        self.headers: dict[str, str] = {}
        self.body: dict[str, Any] = {"error": {"code": code, "message": message}}
        if inner:
            self.body["error"]["innererror"] = {"code": inner}


@dataclass
class SecretVersion:
    """One version of a secret.

    Attributes:
        number: 32 hexadecimal digits, in no order.
        value: What it holds.
        created: When, in whole seconds.
        content_type: What it says of its value.
        tags: The text beside it.
        attributes: `enabled`, `exp` and `nbf`.
    """

    number: str
    value: str
    created: int
    content_type: str | None = None
    tags: dict[str, str] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=lambda: {"enabled": True})


@dataclass
class StoredSecret:
    """A secret.

    Attributes:
        name: As it was written first; case does not tell two apart.
        versions: Oldest first.
        deleted: When it was deleted, None where it was not.
        busy: With what the service is busy with it, and how many requests for it that takes.
    """

    name: str
    versions: list[SecretVersion] = field(default_factory=list)
    deleted: int | None = None
    busy: tuple[str, int] = ("", 0)


class VaultSecrets:
    """The secrets of all vaults.

    Attributes:
        permissions: What the only client may do.
        recovery_level: Of all vaults; `Purgeable` where soft deletion is off.
        settling: How many requests for a secret find the service busy after it was deleted or brought back.
        clock: Gives whole seconds since 1970.
    """

    def __init__(self) -> None:
        """Hold none."""
        self._lock = threading.Lock()
        self.clear()

    def clear(self) -> None:
        """Hold none any more, and allow everything."""
        self._secrets: dict[tuple[str, str], StoredSecret] = {}
        self._last = 0
        self.permissions = set(SECRET_PERMISSIONS)
        self.recovery_level = RECOVERABLE
        self.settling = 0
        self.clock: Callable[[], int] = self._next_second

    def secret(self, host: str, name: str) -> StoredSecret:
        """Return what a vault holds under a name, deleted or not."""
        return self._secrets[host, name.lower()]

    def put(self, host: str, name: str, value: str, **options: Any) -> SecretVersion:  # noqa: ANN401 - of a version
        """Write a version as somebody else would."""
        secret = self._secrets.setdefault((host, name.lower()), StoredSecret(name))
        version = SecretVersion(os.urandom(16).hex(), value, self.clock(), **options)
        secret.versions.append(version)
        return version

    def fill(self, host: str, names: Iterable[str]) -> None:
        """Make many secrets."""
        for name in names:
            self.put(host, name, "x")

    def answer(  # noqa: PLR0911 - a table of what there is
        self, verb: str, host: str, path: str, query: str, body: bytes
    ) -> dict[str, Any] | None:
        """Return the answer to a request of somebody who has shown who he is, None for one without a body.

        Raises:
            Refused: There is another answer.
        """
        parameters = dict(parse_qsl(query))
        with self._lock:
            match verb, *path.strip("/").split("/"):
                case "GET", "secrets":
                    self._allow("list")
                    live = [secret for secret in self._held(host) if secret.deleted is None]
                    entries = [self._item(host, secret.name, secret.versions[-1], is_latest=True) for secret in live]
                    return _page(host, "/secrets", entries, parameters)
                case "GET", "secrets", name, "versions":
                    self._allow("list")
                    return self._versions(host, name, parameters)
                case "GET", "secrets", name, *number:
                    self._allow("get")
                    return self._get(host, name, "".join(number))
                case "PUT", "secrets", name:
                    self._allow("set")
                    return self._set(host, name, json.loads(body))
                case "PATCH", "secrets", name, *number:
                    self._allow("set")
                    return self._update(host, name, "".join(number), json.loads(body))
                case "DELETE", "secrets", name:
                    self._allow("delete")
                    return self._delete(host, name)
                case "GET", "deletedsecrets":
                    self._allow("list")
                    gone = [secret for secret in self._held(host) if secret.deleted is not None]
                    return _page(host, "/deletedsecrets", [self._deleted_item(host, each) for each in gone], parameters)
                case "GET", "deletedsecrets", name:
                    self._allow("get")
                    return self._deleted_item(host, self._find_deleted(host, name))
                case "POST", "deletedsecrets", name, "recover":
                    self._allow("recover")
                    return self._recover(host, name)
                case "DELETE", "deletedsecrets", name:
                    self._allow("purge")
                    self._purge(host, name)
                    return None
                case _:
                    raise Refused(404, "ResourceNotFound", "There is no such operation.")

    def _next_second(self) -> int:
        self._last = max(int(time.time()), self._last + 1)
        return self._last

    def _allow(self, right: str) -> None:
        if right not in self.permissions:
            message = f"Caller is not authorized to perform action on resource. Action: '{right}'"
            raise Refused(403, "Forbidden", message, "ForbiddenByRbac")

    def _held(self, host: str) -> list[StoredSecret]:
        return [secret for (where, _name), secret in sorted(self._secrets.items()) if where == host]

    def _settled(self, host: str, name: str) -> StoredSecret | None:
        """Return what there is under a name, unless the service is still busy with it."""
        secret = self._secrets.get((host, name.lower()))
        if secret is not None and secret.busy[1]:
            inner, left = secret.busy
            secret.busy = (inner, left - 1)
            raise Refused(409, "Conflict", f"Secret {name} is busy; canary of the service.", inner)
        return secret

    def _find(self, host: str, name: str) -> StoredSecret:
        secret = self._settled(host, name)
        if secret is None or secret.deleted is not None:
            raise _not_found(name)
        return secret

    def _find_deleted(self, host: str, name: str) -> StoredSecret:
        secret = self._settled(host, name)
        if secret is None or secret.deleted is None:
            raise _not_found(name)
        return secret

    def _find_version(self, host: str, name: str, number: str) -> SecretVersion:
        secret = self._find(host, name)
        found = [version for version in secret.versions if number in {"", version.number}]
        if not found:
            raise _not_found(name)
        return found[-1]

    def _get(self, host: str, name: str, number: str) -> dict[str, Any]:
        version = self._find_version(host, name, number)
        if not version.attributes["enabled"]:
            raise Refused(403, "Forbidden", "Operation get is not allowed on a disabled secret.", "SecretDisabled")
        return {"value": version.value, **self._item(host, self._find(host, name).name, version)}

    def _versions(self, host: str, name: str, parameters: Mapping[str, str]) -> dict[str, Any]:
        try:
            secret = self._find(host, name)
        except Refused as refused:
            if refused.status == 404:  # noqa: PLR2004 - of HTTP
                return {"value": [], "nextLink": None}
            raise
        versions = sorted(secret.versions, key=lambda version: version.number)
        entries = [self._item(host, secret.name, version) for version in versions]
        return _page(host, f"/secrets/{name}/versions", entries, parameters)

    def _set(self, host: str, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
        value, content_type, tags = given.get("value"), given.get("contentType"), given.get("tags") or {}
        secret = self._settled(host, name)
        if secret is not None and secret.deleted is not None:
            message = f"Secret {name} is currently in a deleted but recoverable state, and its name cannot be reused."
            raise Refused(409, "Conflict", message, "ObjectIsDeletedButRecoverable")
        if (
            not isinstance(value, str)
            or len(value.encode()) > VALUE_BYTES_MAX
            or len(content_type or "") > _CONTENT_TYPE_LENGTH_MAX
            or len(tags) > TAGS_MAX
            or len(name) > _NAME_LENGTH_MAX
            or not name.replace("-", "a").isalnum()
        ):
            raise Refused(400, "BadParameter", "The request was invalid; canary of the service.")
        attributes = {"enabled": True, **(given.get("attributes") or {})}
        version = self.put(host, name, value, content_type=content_type, tags=tags, attributes=attributes)
        return {"value": value, **self._item(host, self._find(host, name).name, version)}

    def _update(self, host: str, name: str, number: str, given: Mapping[str, Any]) -> dict[str, Any]:
        version = self._find_version(host, name, number)
        version.attributes.update(given.get("attributes") or {})
        version.tags = given.get("tags", version.tags)
        version.content_type = given.get("contentType", version.content_type)
        return self._item(host, name, version)

    def _delete(self, host: str, name: str) -> dict[str, Any]:
        secret = self._find(host, name)
        if "Recoverable" not in self.recovery_level:
            del self._secrets[host, name.lower()]
            return self._item(host, secret.name, secret.versions[-1])
        secret.deleted = self.clock()
        secret.busy = ("ObjectIsBeingDeleted", self.settling)
        return self._deleted_item(host, secret)

    def _recover(self, host: str, name: str) -> dict[str, Any]:
        secret = self._find_deleted(host, name)
        secret.deleted = None
        secret.busy = ("ObjectIsBeingRecovered", self.settling)
        return self._item(host, secret.name, secret.versions[-1])

    def _purge(self, host: str, name: str) -> None:
        self._find_deleted(host, name)
        if "Purgeable" not in self.recovery_level:
            raise Refused(403, "Forbidden", "Operation purge is not allowed on this secret.", "ForbiddenByPolicy")
        del self._secrets[host, name.lower()]

    def _item(self, host: str, name: str, version: SecretVersion, *, is_latest: bool = False) -> dict[str, Any]:
        times = {"created": version.created, "updated": version.created}
        recovery = {"recoveryLevel": self.recovery_level, "recoverableDays": RETENTION_DAYS}
        item = {
            "id": f"https://{host}/secrets/{name}" + ("" if is_latest else f"/{version.number}"),
            "attributes": {**version.attributes, **times, **recovery},
            "tags": version.tags,
        }
        return item if version.content_type is None else {**item, "contentType": version.content_type}

    def _deleted_item(self, host: str, secret: StoredSecret) -> dict[str, Any]:
        deleted = secret.deleted or 0
        return {
            **self._item(host, secret.name, secret.versions[-1], is_latest=True),
            "recoveryId": f"https://{host}/deletedsecrets/{secret.name}",
            "deletedDate": deleted,
            "scheduledPurgeDate": deleted + RETENTION_DAYS * _DAY_S,
        }


def _page(host: str, path: str, entries: list[dict[str, Any]], parameters: Mapping[str, str]) -> dict[str, Any]:
    size = int(parameters.get("maxresults", PAGE_MAX))
    if not 0 < size <= PAGE_MAX:
        raise Refused(400, "BadParameter", "Invalid maxresults.")
    token = parameters.get("$skiptoken", "")
    start = int(urlsafe_b64decode(token)) if token else 0
    following = start + size
    link = None
    if following < len(entries):
        token = urlsafe_b64encode(str(following).encode()).decode()
        api = parameters["api-version"]
        link = f"https://{host}:443{path}?api-version={api}&$skiptoken={token}&maxresults={size}"
    return {"value": entries[start:following], "nextLink": link}


def _not_found(name: str) -> Refused:
    return Refused(404, "SecretNotFound", f"A secret with (name/id) {name} was not found in this key vault.")
