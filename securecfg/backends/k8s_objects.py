"""How a Secret or a ConfigMap of Kubernetes stands for a path, a value and its metadata. Pure.

A `/` of a path is a `.` of a name, which is possible both ways as a path that has a `.` is refused. Each key of an
object is a field; an object whose only key is `value` is a text, or bytes. A ConfigMap tells text and bytes apart by
where they lie. A Secret holds bytes only: what is UTF-8 is text, but for the keys that an annotation of ours names.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode, b64encode
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from securecfg.backends.interface import Found, StoredVersion
from securecfg.backends.json_fields import parse_fields
from securecfg.errors import BackendRefused, InvalidMetadata, InvalidPath, Unsupported
from securecfg.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from securecfg.backends.interface import Content
    from securecfg.vault.values import Value

TEXT_FIELD = "value"
BYTES_ANNOTATION = "securecfg/bytes"
"""The keys of a Secret that are bytes although they may be UTF-8, with commas between them."""
METADATA_ANNOTATION = "securecfg/metadata"
"""The metadata, as a JSON object of texts."""

NAME_LENGTH_MAX = 253
VALUE_BYTES_MAX = 1 << 20
"""Of all values of an object together, without its keys and annotations (`MaxSecretSize` of the API server)."""
ANNOTATIONS_BYTES_MAX = 1 << 18
"""Of all annotations, keys and values (`TotalAnnotationSizeLimitB`)."""

MACHINERY = ("kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token", "helm.sh/release.v1")
"""The types of Secrets that the cluster and Helm keep for themselves; no listing has them."""

_PART = "[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_PATH = re.compile(rf"{_PART}(?:/{_PART})*", re.ASCII)
_NAME = re.compile(rf"{_PART}(?:\.{_PART})*", re.ASCII)
_KEY = re.compile(r"(?!\.\.|\.$)[-._a-zA-Z0-9]{1,253}", re.ASCII)
_REPLACE = {"$patch": "replace"}


class Held(NamedTuple):
    """What an object holds for a value.

    Attributes:
        parts: Members of the object, each with its keys; empty ones too.
        annotations: Of ours; None for one that must not be there.
    """

    parts: Mapping[str, Mapping[str, str]]
    annotations: Mapping[str, str | None]


class ObjectKind(NamedTuple):
    """A kind of objects.

    Attributes:
        kind: As the API calls it.
        resource: As its URLs, roles and errors call it.
        method: As the methods of the client call it.
        selector: Which of them are listed.
        hold: Returns what an object holds for a value.
        value: Returns the value that an object stands for, under a label.
    """

    kind: str
    resource: str
    method: str
    selector: str
    hold: Callable[[Content], Held]
    value: Callable[[Any, str], Value]


def to_name(path: str) -> str:
    """Return the name of the object for a path.

    Raises:
        InvalidPath: There can be none.
    """
    if not _PATH.fullmatch(path) or len(path) > NAME_LENGTH_MAX:
        message = f"`{path}` can be no name of an object of Kubernetes"
        hint = (
            "a segment is lower-case letters, digits and -, and neither begins nor ends with -; 253 characters in all"
        )
        raise InvalidPath(message, hint=hint)
    return path.replace("/", ".")


def to_path(name: str) -> str:
    """Return the path that a name stands for, an empty text where it stands for none."""
    return name.replace(".", "/") if _NAME.fullmatch(name) else ""


def to_new(kind: ObjectKind, name: str, content: Content, metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return an object that is not there yet.

    Raises:
        Unsupported: It can hold no such value.
        InvalidMetadata: They are too long.
    """
    held = kind.hold(content)
    annotations = {**held.annotations, METADATA_ANNOTATION: _to_annotation(metadata)}
    return {
        "apiVersion": "v1",
        "kind": kind.kind,
        "metadata": {"name": name, "annotations": {key: text for key, text in annotations.items() if text is not None}},
        **{part: dict(keys) for part, keys in held.parts.items() if keys},
    }


def to_patch(
    kind: ObjectKind, content: Content, metadata: Mapping[str, str] | None, expect: str | None
) -> dict[str, Any]:
    """Return a strategic merge patch that replaces the value and what belongs to it, and leaves alone all else.

    Args:
        kind: Of the object.
        content: The value.
        metadata: None for those that are there.
        expect: The version that the API server has to find there.

    Raises:
        Unsupported: It can hold no such value.
        InvalidMetadata: They are too long.
    """
    held = kind.hold(content)
    annotations = dict(held.annotations)
    if metadata is not None:
        annotations[METADATA_ANNOTATION] = _to_annotation(metadata)
    about: dict[str, Any] = {"annotations": annotations}
    if expect is not None:
        about["resourceVersion"] = expect
    return {
        "metadata": about,
        **{part: {**_REPLACE, **keys} if keys else None for part, keys in held.parts.items()},
    }


def to_found(kind: ObjectKind, body: Mapping[str, Any], path: str) -> Found:
    """Return what an object stands for.

    Raises:
        BackendRefused: The annotation that holds the metadata is broken.
        LookupError, TypeError, ValueError, AttributeError: It is no such object.
    """
    return Found(kind.value(body, path), to_version(body), _metadata(body, path))


def to_version(body: Mapping[str, Any]) -> StoredVersion:
    """Return the version of an object, whose time is that of its latest change as its `managedFields` tell it.

    Raises:
        LookupError, TypeError, ValueError, AttributeError: It is no object.
    """
    about = body["metadata"]
    times = [datetime.fromisoformat(entry["time"]) for entry in about.get("managedFields") or () if "time" in entry]
    return StoredVersion(text_of(about["resourceVersion"]), created=max(times).astimezone(UTC) if times else None)


def text_of(held: object) -> str:
    """Return a text of an answer.

    Raises:
        TypeError: It is something else.
    """
    if not isinstance(held, str):
        raise TypeError
    return held


# --- the two kinds ----------------------------------------------------------------------------------------------------


def _hold_in_secret(content: Content) -> Held:
    fields = _fields(content)
    data = {name: _to_base64(part.encode() if isinstance(part, str) else part) for name, part in fields.items()}
    of_bytes = ",".join(name for name, part in fields.items() if isinstance(part, bytes))
    return Held({"data": data}, {BYTES_ANNOTATION: of_bytes or None})


def _value_of_secret(body: Mapping[str, Any], label: str) -> Value:
    of_bytes = (body["metadata"].get("annotations") or {}).get(BYTES_ANNOTATION, "").split(",")
    fields: dict[str, str | bytes] = {}
    for name, held in (body.get("data") or {}).items():
        part = _from_base64(held)
        fields[name] = part if name in of_bytes else _text_or_bytes(part)
    return _to_value(fields, label)


def _hold_in_config_map(content: Content) -> Held:
    fields = _fields(content).items()
    texts = {name: part for name, part in fields if isinstance(part, str)}
    binary = {name: _to_base64(part) for name, part in fields if isinstance(part, bytes)}
    return Held({"data": texts, "binaryData": binary}, {})


def _value_of_config_map(body: Mapping[str, Any], label: str) -> Value:
    texts = {name: "" if held is None else text_of(held) for name, held in (body.get("data") or {}).items()}
    binary = {name: _from_base64(held) for name, held in (body.get("binaryData") or {}).items()}
    return _to_value({**texts, **binary}, label)


SECRETS = ObjectKind(
    "Secret",
    "secrets",
    "secret",
    ",".join(f"type!={machinery}" for machinery in MACHINERY),
    _hold_in_secret,
    _value_of_secret,
)
CONFIG_MAPS = ObjectKind("ConfigMap", "configmaps", "config_map", "", _hold_in_config_map, _value_of_config_map)


def _fields(content: Content) -> Mapping[str, str | bytes]:
    """Return a value as fields.

    Raises:
        Unsupported: It would come back as something else, or a field has a name that cannot be a key.
    """
    if isinstance(content, str | bytes):
        return {TEXT_FIELD: content}
    if content.keys() == {TEXT_FIELD}:
        message = f"fields of which `{TEXT_FIELD}` is the only one would come back as its value alone"
        raise Unsupported(message, hint="write the text, or the bytes")
    _check_keys(content)
    return content


def _check_keys(names: Iterable[str]) -> None:
    for name in names:
        if not _KEY.fullmatch(name):
            message = f"a field `{name}` can be no key of an object of Kubernetes"
            hint = "at most 253 ASCII letters, digits and - _ . are, but neither `.` nor what begins with `..`"
            raise Unsupported(message, hint=hint)


def _to_value(fields: Mapping[str, str | bytes], label: str) -> Value:
    if fields.keys() == {TEXT_FIELD}:
        return _secret(fields[TEXT_FIELD], label)
    return {name: _secret(part, f"{label}#{name}") for name, part in fields.items()}


def _secret(part: str | bytes, label: str) -> Secret[str] | Secret[bytes]:
    if isinstance(part, str):
        return Secret(part, label=label)
    return Secret(part, label=label)


def _text_or_bytes(part: bytes) -> str | bytes:
    try:
        return part.decode()
    except UnicodeDecodeError:
        return part


def _to_base64(part: bytes) -> str:
    return b64encode(part).decode()


def _from_base64(held: object) -> bytes:
    """Return bytes; Go writes those that were never set as null."""
    return b"" if held is None else b64decode(text_of(held), validate=True)


# --- metadata ---------------------------------------------------------------------------------------------------------


def _to_annotation(metadata: Mapping[str, str]) -> str | None:
    if not metadata:
        return None
    annotation = json.dumps(dict(metadata), ensure_ascii=False, separators=(",", ":"))
    if len(METADATA_ANNOTATION) + len(annotation.encode()) > ANNOTATIONS_BYTES_MAX:
        message = "metadata are longer than the 256 KiB that Kubernetes takes for all annotations of an object"
        raise InvalidMetadata(message)
    return annotation


def _metadata(body: Mapping[str, Any], path: str) -> Mapping[str, str]:
    annotation = (body["metadata"].get("annotations") or {}).get(METADATA_ANNOTATION)
    if annotation is None:
        return {}
    fields = parse_fields(text_of(annotation))
    if fields is None:
        message = f"the annotation `{METADATA_ANNOTATION}` of `{path}` is no JSON object of texts"
        raise BackendRefused(message, hint="somebody else has changed it; take it away, or write the metadata anew")
    return fields
