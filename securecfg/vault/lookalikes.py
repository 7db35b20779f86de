"""Finding a path that looks like a new one (UTS #39): `payments` and `payrnents` should not lie side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.vault.index import prefix_end
from securecfg.vault.paths import SYSTEM, skeleton

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securecfg.vault.index import Index


class Lookalikes:
    """What the names in each folder look like, remembered per folder once it was asked for.

    It may remember names that are gone; a find is checked against the index.
    """

    def __init__(self) -> None:
        """Know nothing yet."""
        self._folders: dict[bytes, dict[str, bytes]] = {}
        # The folders that are known to exist, and in which state of which index.
        self._present: tuple[Index | None, int, set[bytes]] = (None, 0, set())

    def find(self, index: Index, path: bytes) -> str | None:
        """Return an existing name beside the first new segment of a path that looks the same, or None."""
        present = self._present_in(index)
        start = 0
        while True:
            end = path.find(b"/", start)
            folder, name = path[:start], path[start:] if end < 0 else path[start:end]
            if folder + name in present:
                pass
            elif _exists(index, folder + name):
                present.add(folder + name)
            else:
                alike = self._names(index, folder).get(skeleton(name.decode()))
                if alike is None or alike == name or not _exists(index, folder + alike):
                    return None
                return (folder + alike).decode()
            if end < 0:
                return None
            start = end + 1

    def add(self, path: bytes) -> None:
        """Remember a path that was written."""
        if path.startswith(SYSTEM):
            return
        folder = b""
        for segment in path.split(b"/"):
            names = self._folders.get(folder)
            if names is not None:
                names.setdefault(skeleton(segment.decode()), segment)
            folder += segment + b"/"

    def clear(self) -> None:
        """Forget everything, after others changed the vault."""
        self._folders.clear()
        self._present = (None, 0, set())

    def _present_in(self, index: Index) -> set[bytes]:
        known, applied, present = self._present
        if known is not index or applied != index.applied:
            present = set()
            self._present = (index, index.applied, present)
        return present

    def _names(self, index: Index, folder: bytes) -> dict[str, bytes]:
        names = self._folders.get(folder)
        if names is None:
            names = {skeleton(name.decode()): name for name in _children(index, folder)}
            self._folders[folder] = names
        return names


def _exists(index: Index, path: bytes) -> bool:
    if index.get(path) is not None:
        return True
    folder = path + b"/"
    return next(index.scan(folder, prefix_end(folder)), None) is not None


def _children(index: Index, folder: bytes) -> Iterator[bytes]:
    """Yield the names of the secrets and folders directly in a folder, jumping over what lies deeper."""
    end = prefix_end(folder)
    position: bytes | None = folder or SYSTEM + b"\xff"
    while position is not None:
        for path, _ in index.scan(position, end):
            name, slash, _ = path[len(folder) :].partition(b"/")
            yield name
            if slash:
                position = prefix_end(folder + name + b"/")
                break
        else:
            return
