"""Finding a path that looks like a new one (UTS #39): `payments` and `payrnents` should not lie side by side."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from securecfg.vault.index.in_memory import prefix_end
from securecfg.vault.paths import SYSTEM, skeleton

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from securecfg.vault.index.deltas import Change
    from securecfg.vault.index.in_memory import Index
    from securecfg.vault.index.segments import Entry

_BETWEEN = b"\0"


class _Alike:
    """Names by what they look like.

    There may be as many as a vault has paths, and hardly ever two that look alike. So those that do are in one piece of
    bytes, between zeros, which no name contains: the collector of cycles looks at none of them.
    """

    __slots__ = ("_names",)

    def __init__(self) -> None:
        self._names: dict[bytes, bytes] = {}

    def add(self, look: bytes, name: bytes) -> None:
        """Add a name that was not added before."""
        known = self._names.get(look)
        self._names[look] = name if known is None else known + _BETWEEN + name

    def get(self, look: bytes) -> Sequence[bytes]:
        """Return the names that look like this."""
        known = self._names.get(look)
        return () if known is None else known.split(_BETWEEN)


class _Folder:
    """The names in one folder, and what they look like."""

    __slots__ = ("alike", "names")

    def __init__(self, names: Iterable[bytes]) -> None:
        self.names: set[bytes] = set()
        self.alike = _Alike()
        for name in names:
            if name not in self.names:  # a secret and a folder may share one
                self.add(name)

    def add(self, name: bytes) -> None:
        """Remember a name that is not among them."""
        self.names.add(name)
        self.alike.add(_look(name), name)


class Lookalikes:
    """What the names in each folder look like, remembered per folder once it was asked for.

    It knows of every name that there is in such a folder. It may remember names that are gone; a find is checked
    against the index.
    """

    def __init__(self) -> None:
        """Know nothing yet."""
        self._folders: dict[bytes, _Folder] = {}
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
        for names in new:
            names.take_up()
        end = path.find(b"/")
        start = 0
        while True:
            place = path if end < 0 else path[:end]
            if place not in present and not _is_among(new, place):
                folder, name = path[:start], place[start:]
                known = self._folders.get(folder)
                if (known is not None and name not in known.names) or not index.holds(place):
                    return self._alike(index, folder, name, new)
                present.add(place)
            if end < 0:
                return None
            start = end + 1
            end = path.find(b"/", start)

    def add(self, path: bytes) -> None:
        """Remember a path that was written."""
        folders = self._folders
        if not folders or path.startswith(SYSTEM):
            return
        outer, slash, name = path.rpartition(b"/")
        while True:
            folder = folders.get(outer + slash)
            if folder is not None and name not in folder.names:
                folder.add(name)
            if not slash:
                return
            outer, slash, name = outer.rpartition(b"/")

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

    def _alike(self, index: Index, folder: bytes, name: bytes, new: Sequence[NewNames]) -> str | None:
        """Return another name in a folder that looks like a new one, as a path."""
        known = self._folders.get(folder)
        if known is None:
            known = self._folders[folder] = _Folder(_children(index, folder))
        look = _look(name)
        for alike in known.alike.get(look):
            if alike != name and index.holds(folder + alike):
                return (folder + alike).decode()
        for names in new:
            alike = names.find_alike(folder, look)
            if alike:
                return alike.decode()
        return None


@lru_cache(maxsize=4_096)
def _look(name: bytes) -> bytes:
    """Return what a segment looks like. The same few names are in many folders."""
    return skeleton(name.decode()).encode()


def _is_among(new: Sequence[NewNames], place: bytes) -> bool:
    for names in new:  # noqa: SIM110 - on the way of every new path of a batch, where a generator costs as much again
        if place in names.places:
            return True
    return False


class NewNames:
    """The names that changes in the making add, by what they look like: they are compared with each other too.

    Args:
        pending: The newest change of each path that was added.

    Attributes:
        places: The paths at which, or below which, there is a change, as far as they were taken up.
    """

    __slots__ = ("_alike", "_pending", "_waiting", "places")

    def __init__(self, pending: Mapping[bytes, Entry | None]) -> None:
        """Know no change yet."""
        self.places: set[bytes] = set()
        self._pending = pending
        self._waiting: list[Change] = []
        self._alike = _Alike()  # whole paths, by their folder and what their last segment looks like

    def add(self, changes: Sequence[Change]) -> None:
        """Remember the paths of some changes. Few publications have a new path that they would be compared with."""
        self._waiting += changes

    def take_up(self) -> None:
        """Look at the changes that were remembered, as far as that was not done yet."""
        waiting, places = self._waiting, self.places
        if not waiting:
            return
        self._waiting = []
        add = self._alike.add
        for place, _ in waiting:
            if place.startswith(SYSTEM):
                continue
            # From the leaf upwards, as far as nothing was taken up yet.
            while place not in places:
                places.add(place)
                folder, slash, name = place.rpartition(b"/")
                add(folder + slash + _BETWEEN + _look(name), place)
                if not slash:
                    break
                place = folder  # noqa: PLW2901 - the one that it is in

    def find_alike(self, folder: bytes, look: bytes) -> bytes:
        """Return a path in a folder that looks like this and will hold something, itself or below it; or nothing."""
        for place in self._alike.get(folder + _BETWEEN + look):
            if self._is_held(place):
                return place
        return b""

    def _is_held(self, place: bytes) -> bool:
        """Return whether something will be at a path or below it: it may have been moved away again."""
        beneath = place + b"/"
        return any(
            entry is not None and (path == place or path.startswith(beneath)) for path, entry in self._pending.items()
        )


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
