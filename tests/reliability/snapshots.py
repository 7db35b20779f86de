"""Everything that a vault holds, opened below the policy and the log, for comparison with a model."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from securecfg.crypto import ChunkedValueKey
from securecfg.store import Space
from securecfg.vault.index.history import DESTROYED
from securecfg.vault.opened import Located

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securecfg.vault.index.segments import Entry
    from securecfg.vault.opened import OpenVault

# Path, then each version: number, state, digest of its content, labels.
Snapshot = tuple[tuple[bytes, tuple[tuple[object, ...], ...]], ...]


class VersionRows(NamedTuple):
    """The rows of one version's value."""

    data_key: bytes
    value: bytes


def snapshot(opened: OpenVault) -> Snapshot:
    """Return every version of every secret and system document; every value is opened on the way."""
    return tuple((path, _versions(opened, path, entry)) for path, entry in opened.entries(b"", None))


def rows_of_version(opened: OpenVault, path: str, number: int) -> VersionRows:
    """Return the rows of a version's data key and value."""
    entry = opened.entry(path.encode())
    assert entry is not None
    version = opened.locate(path.encode(), entry, number).version
    data_key = opened.store.get(Space.DEK, version.dek_id)
    value = opened.store.get(Space.VALUE, version.value_id)
    assert data_key is not None
    assert value is not None
    return VersionRows(data_key, value)


def _versions(opened: OpenVault, path: bytes, entry: Entry) -> tuple[tuple[object, ...], ...]:
    history = opened.history(path, entry)
    versions = list(history.versions)
    for page in range(len(history.older) - 1, -1, -1):
        versions += opened.older_versions(history, page)
    marks = (history.current, history.previous, tuple(sorted(history.labels.items())))
    found: list[tuple[object, ...]] = [marks]
    for version in versions:
        content = b""
        if version.state != DESTROYED:
            content = sha256(b"".join(_content(opened, path, Located(entry, history, version)))).digest()
        found.append((version.number, version.state, content, version.metadata))
    return tuple(found)


def _content(opened: OpenVault, path: bytes, located: Located) -> Iterator[bytes]:
    version = located.version
    rec_id = located.entry.rec_id
    if not version.value_rows:
        yield opened.open_inline(located)[1]
        return
    key = ChunkedValueKey(opened.data_key(version.dek_id), opened.value_context(rec_id, version))
    rows = (
        opened.store.get(Space.VALUE, number) or b""
        for number in range(version.value_id + 1, version.value_id + 1 + version.value_rows)
    )
    yield from key.open(opened.store.get(Space.VALUE, version.value_id) or b"", version.commitment, rows)
