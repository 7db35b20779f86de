"""What things are called in Google Secret Manager: secrets, versions, aliases, annotations. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from securecfg.backends.interface import State, StoredVersion
from securecfg.errors import InvalidMetadata, InvalidPath

if TYPE_CHECKING:
    from collections.abc import Mapping

TITLE = "Google Secret Manager"
NAME_LENGTH_MAX = 255
ANNOTATIONS_BYTES_MAX = 16_384
ANNOTATION_PREFIX = "securecfg."
"""What the keys of annotations begin with that are metadata. All others belong to whoever made them."""

NUMBER = re.compile(r"[1-9][0-9]{0,17}", re.ASCII)
ALIAS = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}", re.ASCII)
_SEGMENT = r"\w+(?:-\w+)*"
_PATH = re.compile(rf"{_SEGMENT}(?:/{_SEGMENT})*", re.ASCII)
_NAME = re.compile(r"projects/[^/]+/(?:locations/[^/]+/)?secrets/([^/]+)(?:/versions/([1-9][0-9]{0,17}))?", re.ASCII)
_ANNOTATION = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", re.ASCII)
_STATES: Final = {"ENABLED": State.LIVE, "DISABLED": State.DISABLED, "DESTROYED": State.DESTROYED}


def name_of(path: str) -> str:
    """Return the name under which a path is held: `/` is `--`, which therefore is nowhere else.

    Raises:
        InvalidPath: Google takes no such name.
    """
    name = path.replace("/", "--")
    if not _PATH.fullmatch(path) or len(name) > NAME_LENGTH_MAX:
        message = f"`{path}` can be no name in {TITLE}"
        hint = (
            f"it takes letters, digits, _ and single - between them; at most {NAME_LENGTH_MAX}, where `/` counts twice"
        )
        raise InvalidPath(message, hint=hint)
    return name


def path_of(name: str) -> str:
    """Return the path that a name stands for, an empty text where it stands for none."""
    path = name.replace("--", "/")
    return path if _PATH.fullmatch(path) else ""


def id_in(name: str) -> str:
    """Return a secret's name in its resource name, in which the project may be a number."""
    match = _NAME.fullmatch(name)
    if match is None or match[2]:
        raise ValueError
    return match[1]


def number_in(name: str, resource: str) -> str:
    """Return a version's number in its resource name, which has to be one of a secret."""
    match = _NAME.fullmatch(name)
    if match is None or not match[2] or not resource.endswith(f"/secrets/{match[1]}"):
        raise ValueError
    return match[2]


def version_of(entry: Any, resource: str, aliases: Mapping[str, int]) -> StoredVersion:  # noqa: ANN401 - Google's types are there when they are installed
    """Return a version of a secret as Google describes it."""
    number, when = number_in(entry.name, resource), entry.create_time
    created = datetime.combine(when.date(), when.time(), UTC) if when else None
    return StoredVersion(number, _STATES[entry.state.name], created, aliases_of(number, aliases))


def aliases_of(number: str, aliases: Mapping[str, int]) -> tuple[str, ...]:
    """Return which aliases point at a version."""
    return tuple(sorted(alias for alias, at in aliases.items() if str(at) == number))


def annotations_of(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return metadata as annotations.

    Raises:
        InvalidMetadata: Google takes no such annotations.
    """
    annotations = {ANNOTATION_PREFIX + key: text for key, text in metadata.items()}
    for key in annotations:
        if not _ANNOTATION.fullmatch(key):
            message = f"the metadata `{key.removeprefix(ANNOTATION_PREFIX)}` can be no annotation in {TITLE}"
            hint = "letters, digits and between them - _ . too; at most 53 characters"
            raise InvalidMetadata(message, hint=hint)
    check_size(annotations)
    return annotations


def check_size(annotations: Mapping[str, str]) -> None:
    """Check that a secret can have so many annotations.

    Raises:
        InvalidMetadata: They are too long together.
    """
    if sum(len((key + text).encode()) for key, text in annotations.items()) >= ANNOTATIONS_BYTES_MAX:
        message = f"{TITLE} takes less than {ANNOTATIONS_BYTES_MAX} bytes of annotations for each secret"
        raise InvalidMetadata(message, hint="those of others count too")
