"""What a vault shows without revealing a value: paths, folders and versions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from securecfg.clock import to_datetime
from securecfg.vault.documents import metadata_of
from securecfg.vault.index.history import DELETED, DESTROYED, labels_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from securecfg.vault.index.history import History, Version
    from securecfg.vault.values import VersionId


class VersionState(StrEnum):
    """What has become of a version."""

    LIVE = "live"
    EXPIRED = "expired"
    DISABLED = "disabled"
    DELETED = "deleted"
    DESTROYED = "destroyed"


class Origin(NamedTuple):
    """Where what is known of a mounted secret comes from.

    Attributes:
        store: What the backend is called.
        served: `store` where it was asked now, `cache` where it was a moment ago, `last-good` where it gives no answer.
        fetched: When the store said so.
    """

    store: str
    served: str
    fetched: datetime


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """What is known of a version besides its value.

    Attributes:
        version: Its number, from 1, or what a store that is mounted calls it.
        state: Whether it can be read.
        created: When it was written; None where a store that is mounted does not say.
        expires: When it stops being readable, or None.
        deleted: When it was deleted, or None.
        labels: The labels that point at it.
        metadata: Text that is shown with it.
        author: The principal that wrote it; empty where a store that is mounted has it.
        content_type: Of a configuration document; empty otherwise.
        size_bytes: The size of its value, 0 once destroyed; None where a store that is mounted has it.
        origin: Of what is mounted; None for what the vault itself holds.
    """

    version: VersionId
    state: VersionState
    created: datetime | None
    expires: datetime | None
    deleted: datetime | None
    labels: tuple[str, ...]
    metadata: Mapping[str, str]
    author: str
    content_type: str
    size_bytes: int | None
    origin: Origin | None = None


def version_info(history: History, version: Version, now_ns: int) -> VersionInfo:
    """Return what is known of a version."""
    if version.state == DESTROYED:
        state = VersionState.DESTROYED
    elif version.state == DELETED:
        state = VersionState.DELETED
    elif version.expires and version.expires <= now_ns:
        state = VersionState.EXPIRED
    else:
        state = VersionState.LIVE
    return VersionInfo(
        version=version.number,
        state=state,
        created=to_datetime(version.created),
        expires=to_datetime(version.expires) if version.expires else None,
        deleted=to_datetime(version.deleted) if version.deleted else None,
        labels=labels_of(history, version.number),
        metadata=metadata_of(version.metadata),
        author=version.author,
        content_type=version.content_type,
        size_bytes=version.length,
    )


def cut_to_depth(paths: Iterable[str], prefix: str, depth: int) -> list[str]:
    """Return paths cut to so many levels below a prefix, folders ending in `/`, each once and in order."""
    base = prefix.rfind("/") + 1
    seen: dict[str, None] = {}
    for path in paths:
        segments = path[base:].split("/")
        cut = "/".join(segments[:depth]) + ("/" if len(segments) > depth else "")
        seen[path[:base] + cut] = None
    return sorted(seen)
