"""Power cuts where files are made and named by ordinary calls: backups, exports, whatever is not a store's own.

A `FolderRecorder` notes what this process does to the files below a folder through the module `os`, and what SQLite
does in the stores that are opened meanwhile. The model of `FolderDisk` is stricter than that for stores
alone: a name, made, given or taken away, is durable once its folder was synced, and until then any subset of such
changes may be there. SQLite itself syncs the folder of a new log when it first syncs that.
"""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Self

import apsw

from securecfg import files
from securecfg.testing.crash import Disk, Event, FileState, Image, Recorder

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.testing.crash import Kind, Recording

_WATCHED = (
    *((os, name) for name in ("open", "close", "fsync", "link", "rename", "replace", "unlink", "mkdir")),
    (files, "rename_exclusively"),  # a call of the system that `os` does not know
)
_PIECE_BYTES = 16_384
_SHARE_LOST = 0.4


class FolderRecorder(Recorder):
    """A recorder of stores and of ordinary files below one folder; a context manager, for one thread at a time.

    Args:
        root: The folder. Names in the recording are relative to it, those of stores are their last parts.
        has_hard_links: Whether the file system has them; without, each is refused.
    """

    def __init__(self, root: Path, *, has_hard_links: bool = True) -> None:
        """Take notes of what is there."""
        super().__init__()
        self._root = root.resolve()
        self._has_hard_links = has_hard_links
        self._open_files: dict[int, str] = {}
        self._written: dict[str, int] = {}
        self._calls: dict[str, Callable[..., Any]] = {}
        for file in sorted(self._root.rglob("*")):
            name = file.relative_to(self._root).as_posix()
            if file.is_dir():
                self.recording.initial[f"{name}/"] = b""
            elif file.is_file():
                self.recording.initial[name] = file.read_bytes()
                self.known.add(name)

    def __enter__(self) -> Self:
        """Begin to watch."""
        super().__enter__()
        for module, name in _WATCHED:
            self._calls[name] = getattr(module, name)
            setattr(module, name, getattr(self, f"_{name}"))
        apsw.set_default_vfs(self.vfs_name)
        return self

    def __exit__(self, *raised: object) -> None:
        """Watch no more."""
        apsw.set_default_vfs(self.base)
        for module, name in _WATCHED:
            setattr(module, name, self._calls[name])
        super().__exit__(*raised)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - apsw's name
        """Open a file of a store, whose writes are noted as they are made."""
        text = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._written.pop(Path(text).name if text else "", None)
        return super().xOpen(name, flags)

    def acknowledge(self, label: object) -> None:
        """Note that a caller was just told that something is durable."""
        self._catch_up()
        super().acknowledge(label)

    # --- the calls ---------------------------------------------------------------------------------------------------

    def _open(self, path: Any, flags: int, *args: Any, **options: Any) -> int:  # noqa: ANN401 - those of `os.open`
        name = self._name_of(path)
        is_new = name is not None and flags & os.O_CREAT and not os.path.lexists(path)
        descriptor: int = self._calls["open"](path, flags, *args, **options)
        self._open_files.pop(descriptor, None)
        if name is not None:
            self._open_files[descriptor] = name
            if is_new:
                self._note("create", name)
                self._written[name] = 0
        return descriptor

    def _close(self, descriptor: int) -> None:
        self._open_files.pop(descriptor, None)
        self._calls["close"](descriptor)

    def _fsync(self, descriptor: int) -> None:
        self._calls["fsync"](descriptor)
        name = self._open_files.get(descriptor)
        if name is not None:
            is_folder = (self._root / name).is_dir()
            self._note("sync-folder" if is_folder else "sync", name)

    def _link(self, source: Any, target: Any, **options: Any) -> None:  # noqa: ANN401 - those of `os.link`
        if not self._has_hard_links:
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))
        self._calls["link"](source, target, **options)
        self._note_pair("link", source, target)

    def _rename(self, source: Any, target: Any, **options: Any) -> None:  # noqa: ANN401 - those of `os.rename`
        self._calls["rename"](source, target, **options)
        self._note_pair("rename", source, target)

    def _replace(self, source: Any, target: Any, **options: Any) -> None:  # noqa: ANN401 - those of `os.replace`
        self._calls["replace"](source, target, **options)
        self._note_pair("rename", source, target)

    def _rename_exclusively(self, source: Path, target: Path) -> None:
        self._calls["rename_exclusively"](source, target)
        self._note_pair("rename", source, target)

    def _unlink(self, path: Any, **options: Any) -> None:  # noqa: ANN401 - those of `os.unlink`
        self._calls["unlink"](path, **options)
        name = self._name_of(path)
        if name is not None:
            self._note("delete", name)
            self._written.pop(name, None)

    def _mkdir(self, path: Any, *args: Any, **options: Any) -> None:  # noqa: ANN401 - those of `os.mkdir`
        self._calls["mkdir"](path, *args, **options)
        name = self._name_of(path)
        if name is not None:
            self._note("create", f"{name}/")

    # --- pieces ------------------------------------------------------------------------------------------------------

    def _note(self, kind: Any, name: str) -> None:  # noqa: ANN401 - the kind of an event
        self._catch_up()
        self.note(Event(kind, name))

    def _note_pair(self, kind: Any, source: Any, target: Any) -> None:  # noqa: ANN401 - the kind of an event, and paths
        old, new = self._name_of(source), self._name_of(target)
        if old is not None and new is not None:
            self._catch_up()
            self.note(Event(kind, old, label=new))
            if kind == "rename" and old in self._written:
                self._written[new] = self._written.pop(old)

    def _catch_up(self) -> None:
        """Note what was appended to files meanwhile; what writes them does not pass through here."""
        for name, start in list(self._written.items()):
            try:
                content = (self._root / name).read_bytes()
            except FileNotFoundError:
                continue
            for place in range(start, len(content), _PIECE_BYTES):
                self.note(Event("write", name, place, content[place : place + _PIECE_BYTES]))
            self._written[name] = len(content)

    def _name_of(self, path: Any) -> str | None:  # noqa: ANN401 - whatever `os` takes
        try:
            text = os.fsdecode(path)
        except TypeError:
            return None
        whole = Path(text).parent.resolve() / Path(text).name  # of a link the link, not what it names
        return whole.relative_to(self._root).as_posix() if whole.is_relative_to(self._root) else None


class FolderDisk(Disk):
    """The replay of a recording in which names have to be made durable too."""

    def __init__(self, recording: Recording) -> None:
        """Begin with what was there, all of it durable."""
        super().__init__(recording)
        self._inodes: dict[int, FileState] = {}
        self._names: dict[str, int] = {}
        for name, content in recording.initial.items():
            self._names[name] = self._inode(content)
        self._durable = dict(self._names)
        self._changes: list[tuple[str, str, str, int]] = []
        self._new_logs: set[str] = set()

    def step(self, event: Event) -> None:
        """Let an event happen."""
        if event.kind == "ack":
            self.acknowledged.append(event.label)
        elif event.kind == "create":
            if event.file not in self._names:
                self._names[event.file] = self._inode(b"")
                self._changes.append(("add", event.file, "", self._names[event.file]))
                if event.file.endswith(("-wal", "-journal")):
                    self._new_logs.add(event.file)
        elif event.kind == "delete":
            gone = self._names.pop(event.file, None)
            if gone is not None:
                self._changes.append(("remove", event.file, "", gone))
        elif event.kind in {"link", "rename"}:
            inode, new = self._names[event.file], str(event.label)
            self._names[new] = inode
            if event.kind == "rename":
                del self._names[event.file]
            self._changes.append((event.kind, event.file, new, inode))
        elif event.kind == "sync-folder":
            self._sync_folder(event.file)
        else:
            file = self._inodes[self._names[event.file]]
            if event.kind != "sync":
                file.pending.append(event)
                return
            file.sync()
            if event.file in self._new_logs:
                self._new_logs.discard(event.file)
                self._sync_folder(str(PurePosixPath(event.file).parent))

    def has_choices(self) -> bool:
        """Return whether a crash now could leave more than one state."""
        return bool(self._changes) or any(self._inodes[inode].pending for inode in self._names.values())

    def render(self, kind: Kind, point: int, draw: random.Random) -> Image:
        """Return what a crash now may leave."""
        names = dict(self._durable)
        survivors = draw.randrange(len(self._changes) + 1)
        for number, change in enumerate(self._changes):
            is_there = {"kept": True, "dropped": False, "torn": number < survivors}.get(kind)
            if draw.random() > _SHARE_LOST if is_there is None else is_there:
                _apply(names, change)
        contents = {inode: self._inodes[inode].render(kind, draw) for inode in sorted(set(names.values()))}
        folders = {name for name in names if name.endswith("/")}
        files = {
            name: contents[inode]
            for name, inode in names.items()
            if not name.endswith("/") and all(f"{each}/" in folders for each in _parents(name))
        }
        return Image(files, tuple(self.acknowledged), point, kind)

    def everything(self) -> dict[str, bytes]:
        """Return what there is if nothing is lost, as the beginning of another recording."""
        draw = random.Random(0)  # noqa: S311 - nothing is left to chance
        return {name: self._inodes[inode].render("kept", draw) for name, inode in self._names.items()}

    def _inode(self, content: bytes) -> int:
        number = len(self._inodes)
        self._inodes[number] = FileState(bytearray(content))
        return number

    def _sync_folder(self, folder: str) -> None:
        left = []
        for change in self._changes:
            _, name, _, _ = change
            if str(PurePosixPath(name.rstrip("/")).parent) == folder:
                _apply(self._durable, change)
            else:
                left.append(change)
        self._changes = left


def _apply(names: dict[str, int], change: tuple[str, str, str, int]) -> None:
    kind, name, new, inode = change
    if kind in {"remove", "rename"}:
        names.pop(name, None)
    if kind != "remove":
        names[new or name] = inode


def _parents(name: str) -> list[str]:
    return [str(parent) for parent in PurePosixPath(name).parents][:-1]
