"""Finding a path that looks like a new one (UTS #39): `payments` and `payrnents` should not lie side by side."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from securecfg.vault.index import prefix_end
from securecfg.vault.paths import SYSTEM, skeleton

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from securecfg.vault.deltas import Change
    from securecfg.vault.index import Index
    from securecfg.vault.segments import Entry


class Lookalikes:
    """What the names in each folder look like, remembered per folder once it was asked for.

    It may remember names that are gone; a find is checked against the index.
    """

    def __init__(self) -> None:
        """Know nothing yet."""
        self._folders: dict[bytes, dict[str, list[bytes]]] = {}
        # The folders that are known to exist, and in which state of which index.
        self._present: tuple[Index | None, int, set[bytes]] = (None, 0, set())

    def find(self, index: Index, path: bytes, new: Sequence[NewNames] = ()) -> str | None:
        """Return an existing name beside the first new segment of a path that looks the same, or None.

        Args:
            index: What exists.
            path: The path, which may exist.
            new: What exists besides once the changes in the making are published.
        """
        present = self._present_in(index)
        start = 0
        while True:
            end = path.find(b"/", start)
            folder, name = path[:start], path[start:] if end < 0 else path[start:end]
            if folder + name in present or any(folder + name in names for names in new):
                pass
            elif _exists(index, folder + name):
                present.add(folder + name)
            else:
                look = skeleton(name.decode())
                known = (folder + alike for alike in self._names(index, folder).get(look, ()) if alike != name)
                there = (place for place in known if _exists(index, place))
                found = next(chain(there, *(names.alike(folder, look) for names in new)), None)
                return None if found is None else found.decode()
            if end < 0:
                return None
            start = end + 1

    def add(self, path: bytes) -> None:
        """Remember a path that was written."""
        if path.startswith(SYSTEM) or not self._folders:
            return
        folder = b""
        for segment in path.split(b"/"):
            names = self._folders.get(folder)
            if names is not None:
                _add(names, segment)
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

    def _names(self, index: Index, folder: bytes) -> dict[str, list[bytes]]:
        names = self._folders.get(folder)
        if names is None:
            names = {}
            for name in _children(index, folder):
                _add(names, name)
            self._folders[folder] = names
        return names


class NewNames:
    """The names that changes in the making add, by what they look like: they are compared with each other too.

    Args:
        pending: The newest change of each path that was added.
    """

    __slots__ = ("_alike", "_pending", "_places", "_waiting")

    def __init__(self, pending: Mapping[bytes, Entry | None]) -> None:
        """Know no change yet."""
        self._pending = pending
        self._waiting: list[Change] = []
        self._places: set[bytes] = set()
        self._alike: dict[tuple[bytes, str], list[bytes]] = {}

    def add(self, changes: Sequence[Change]) -> None:
        """Remember the paths of some changes. They are looked at when a new path is."""
        self._waiting += changes

    def __contains__(self, place: bytes) -> bool:
        """Return whether a change is at a path, or below it."""
        self._take_up()
        return place in self._places

    def alike(self, folder: bytes, look: str) -> Iterator[bytes]:
        """Yield the paths in a folder that look like this and will hold something, themselves or below them."""
        self._take_up()
        for place in self._alike.get((folder, look), ()):
            beneath = place + b"/"
            # A path may have been moved away again.
            if any(
                entry is not None and (path == place or path.startswith(beneath))
                for path, entry in self._pending.items()
            ):
                yield place

    def _take_up(self) -> None:
        waiting, self._waiting = self._waiting, []
        for path, _ in waiting:
            start = -1 if path.startswith(SYSTEM) else 0
            while start >= 0:
                end = path.find(b"/", start)
                place = path if end < 0 else path[:end]
                if place not in self._places:
                    self._places.add(place)
                    look = skeleton(place[start:].decode())
                    self._alike.setdefault((path[:start], look), []).append(place)
                start = end + 1 or -1


def _add(names: dict[str, list[bytes]], name: bytes) -> None:
    alike = names.setdefault(skeleton(name.decode()), [])
    if name not in alike:
        alike.append(name)


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
