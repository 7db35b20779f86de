"""The KV engines of the Vault server for tests.

Rules and messages are those of `path_data.go`, `path_metadata.go`, `path_delete.go`, `path_destroy.go`,
`path_config.go` and `passthrough.go` of `vault-plugin-secrets-kv`, which OpenBao has taken over: an engine of version 2
keeps versions under a number that never falls, marks deleted ones with a time, lists what is deleted too, and compares
nothing but numbers, so that a secret without a version and one that never was are the same.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from dataclasses import dataclass, field

from tests.keys.vault_answers import Answer, Given, refuse, refuse_with

KEPT = 10
METADATA_MAX = 64
INVALID = "custom_metadata validation failed"


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def written(time: dt.datetime | None) -> str:
    """Return a time as Go writes it, with nine digits."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.%f000Z") if time else ""


def seconds(given: str | int) -> int:
    if isinstance(given, int) or given.isdigit():
        return int(given)
    return sum(int(number) * {"h": 3_600, "m": 60, "s": 1}[unit] for number, unit in re.findall(r"(\d+)([hms])", given))


def duration(whole: int) -> str:
    hours, rest = divmod(whole, 3_600)
    minutes, left = divmod(rest, 60)
    return f"{hours}h{minutes}m{left}s" if hours else f"{minutes}m{left}s" if minutes else f"{left}s"


def level(names: list[str], folder: str) -> Answer:
    """Return what lies in one folder: names, and folders with a slash."""
    folder = f"{folder.rstrip('/')}/" if folder.strip("/") else ""
    below = [name.removeprefix(folder) for name in names if name.startswith(folder) and name != folder]
    keys = sorted({name.partition("/")[0] + "/" * ("/" in name) for name in below})
    return {"data": {"keys": keys}} if keys else refuse(404)


class Plain:
    """Version 1 of the engine."""

    version = "1"

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def has(self, path: str) -> bool:
        return path in self.values

    def handle(self, method: str, path: str, given: Given, _params: Given) -> Answer:
        match method:
            case "LIST":
                return level(list(self.values), path)
            case "GET":
                return {"data": json.loads(self.values[path])} if path in self.values else refuse(404)
            case "PUT":
                if not given:
                    refuse(400, "missing data fields")
                self.values[path] = json.dumps(given)
            case "DELETE":
                self.values.pop(path, None)
            case _:
                refuse(405, "unsupported operation")
        return {}


@dataclass
class Version:
    """A version of a secret."""

    data: str | None
    created: dt.datetime = field(default_factory=now)
    deletion: dt.datetime | None = None
    destroyed: bool = False

    @property
    def is_deleted(self) -> bool:
        return self.deletion is not None and self.deletion < now()

    def told(self) -> Given:
        return {
            "created_time": written(self.created),
            "deletion_time": written(self.deletion),
            "destroyed": self.destroyed,
        }


@dataclass
class Metadata:
    """What is known of a secret besides its values."""

    versions: dict[int, Version] = field(default_factory=dict)
    current: int = 0
    custom: dict[str, str] | None = None
    kept: int = 0
    cas_required: bool = False
    delete_after: int = 0
    created: dt.datetime = field(default_factory=now)
    updated: dt.datetime = field(default_factory=now)


class Versioned:
    """Version 2 of the engine."""

    version = "2"

    def __init__(self) -> None:
        self.secrets: dict[str, Metadata] = {}
        self.config = Metadata()

    def has(self, path: str) -> bool:
        return path.partition("/")[2] in self.secrets

    def handle(self, method: str, path: str, given: Given, params: Given) -> Answer:
        part, _, name = path.partition("/")
        handlers = {
            ("GET", "config"): self._read_config,
            ("PUT", "config"): self._configure,
            ("GET", "data"): self._read,
            ("PUT", "data"): self._write,
            ("DELETE", "data"): self._delete_newest,
            ("PUT", "delete"): self._delete,
            ("PUT", "undelete"): self._undelete,
            ("PUT", "destroy"): self._destroy,
            ("LIST", "metadata"): lambda name, _given: level(list(self.secrets), name),
            ("GET", "metadata"): self._read_metadata,
            ("PUT", "metadata"): self._write_metadata,
            ("DELETE", "metadata"): self._forget,
        }
        if (method, part) not in handlers:
            refuse_with(404, {})  # with a warning about paths of version 2
        return handlers[method, part](name, given | params)

    # --- data ---------------------------------------------------------------------------------------------------------

    def _read(self, name: str, given: Given) -> Answer:
        secret = self.secrets.get(name) or refuse(404)
        number = int(given.get("version", 0))
        number = number if number > 0 else secret.current
        version = secret.versions.get(number) or refuse(404)
        told = {"version": number, "custom_metadata": secret.custom, **version.told()}
        if version.is_deleted or version.destroyed or version.data is None:
            refuse_with(404, {"data": None, "metadata": told})
        return {"data": {"data": json.loads(version.data), "metadata": told}}

    def _write(self, name: str, given: Given) -> Answer:
        if "data" not in given:
            refuse(400, "no data provided")
        secret = self.secrets.get(name) or Metadata()
        options = given.get("options") or {}
        if "cas" in options:
            if int(options["cas"]) != secret.current:
                refuse(400, "check-and-set parameter did not match the current version")
        elif secret.cas_required or self.config.cas_required:
            refuse(400, "check-and-set parameter required for this call")
        secret.current += 1
        version = secret.versions[secret.current] = Version(json.dumps(given["data"]), deletion=self._end_of(secret))
        secret.updated = version.created
        for number in sorted(secret.versions)[: -(secret.kept or self.config.kept or KEPT)]:
            del secret.versions[number]
        self.secrets[name] = secret
        return {"data": {"version": secret.current, "custom_metadata": secret.custom, **version.told()}}

    def _end_of(self, secret: Metadata) -> dt.datetime | None:
        after = min(filter(None, (secret.delete_after, self.config.delete_after)), default=0)
        return now() + dt.timedelta(seconds=after) if after else None

    def _delete_newest(self, name: str, _given: Given) -> Answer:
        secret = self.secrets.get(name)
        return self._delete(name, {"versions": [secret.current]}) if secret else {}

    def _delete(self, name: str, given: Given) -> Answer:
        for version in self._named(name, given):
            if not version.destroyed and not version.is_deleted:
                version.deletion = now()
        return {}

    def _undelete(self, name: str, given: Given) -> Answer:
        for version in self._named(name, given):
            if not version.destroyed:
                version.deletion = self._end_of(self.secrets[name])
        return {}

    def _destroy(self, name: str, given: Given) -> Answer:
        for version in self._named(name, given):
            version.destroyed, version.data = True, None
        return {}

    def _named(self, name: str, given: Given) -> list[Version]:
        numbers = list(map(int, given.get("versions") or ())) or refuse(400, "No version number provided")
        secret = self.secrets.get(name) or Metadata()
        return [secret.versions[number] for number in numbers if number in secret.versions]

    # --- metadata -----------------------------------------------------------------------------------------------------

    def _read_metadata(self, name: str, _given: Given) -> Answer:
        secret = self.secrets.get(name) or refuse(404)
        return {
            "data": {
                "versions": {str(number): version.told() for number, version in secret.versions.items()},
                "current_version": secret.current,
                "oldest_version": min(secret.versions, default=0),
                "created_time": written(secret.created),
                "updated_time": written(secret.updated),
                "max_versions": secret.kept,
                "cas_required": secret.cas_required,
                "delete_version_after": duration(secret.delete_after),
                "custom_metadata": secret.custom,
            }
        }

    def _write_metadata(self, name: str, given: Given) -> Answer:
        if "custom_metadata" in given:
            check_custom(given["custom_metadata"])
        secret = self.secrets.setdefault(name, Metadata())
        self._set(secret, given)
        secret.custom = given.get("custom_metadata", secret.custom)
        return {}

    def _forget(self, name: str, _given: Given) -> Answer:
        self.secrets.pop(name, None)
        return {}

    def _read_config(self, _name: str, _given: Given) -> Answer:
        return {
            "data": {
                "max_versions": self.config.kept,
                "cas_required": self.config.cas_required,
                "delete_version_after": duration(self.config.delete_after),
            }
        }

    def _configure(self, _name: str, given: Given) -> Answer:
        self._set(self.config, given)
        return {}

    @staticmethod
    def _set(what: Metadata, given: Given) -> None:
        what.kept = given.get("max_versions", what.kept)
        what.cas_required = given.get("cas_required", what.cas_required)
        if "delete_version_after" in given:
            what.delete_after = seconds(given["delete_version_after"])


def check_custom(custom: dict[str, str]) -> None:
    if len(custom) > METADATA_MAX:
        refuse(400, f"{INVALID}: payload must contain at most {METADATA_MAX} keys, provided {len(custom)}")
    for name, text in custom.items():
        if not 0 < len(name.encode()) <= 128:
            refuse(400, f"{INVALID}: length of key {json.dumps(name)} is wrong")
        if not 0 < len(text.encode()) <= 512:
            refuse(400, f"{INVALID}: length of value for key {json.dumps(name)} is wrong")
        if not (name + text).isprintable():
            refuse(400, f"{INVALID}: value for key {json.dumps(name)} contains unprintable characters")
