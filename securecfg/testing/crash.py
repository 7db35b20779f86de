"""Power cuts: record what a store writes and syncs, then look at what a crash at any moment may leave behind.

A `Recorder` is an apsw VFS that passes everything through and takes notes. From the notes `images` makes, for chosen
crash points, states of the files that a disk may hold afterwards: what was synced is there; what was not is there, or
lost, or cut at a sector, or a random subset of sectors with some garbage. `explore` writes each image into a folder
and calls a check, which opens it with the ordinary store.

The model: sectors of 512 bytes; a write damages nothing outside its range; creating a file is durable at once; the
deletion of one may be undone until the next sync of any file. The WAL-index is memory and never survives.
"""

from __future__ import annotations

import hashlib
import itertools
import random
import shutil
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import apsw

from securecfg.errors import SecurecfgError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECTOR_BYTES = 512
MEMORY_FOLDER = Path("/dev/shm")  # noqa: S108 - images are written into a private folder below it

Syncs = Literal["honest", "lying", "normal"]
Kind = Literal["kept", "dropped", "torn", "subset"]

_KINDS: tuple[Kind, ...] = ("kept", "dropped", "torn", "torn", "subset", "subset", "subset", "subset")
_SHARE_LOST = 0.4
_SHARE_GARBAGE = 0.05
_SHARE_RESURRECTED = 0.3
_ATTEMPTS_PER_IMAGE = 4
_KEPT_VIOLATIONS = 20

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened: to a file, or `ack` where the caller was told that something is durable.

    A `link` and a `rename` are of `file` and have the other name as their `label`; `sync-folder` makes the names in a
    folder durable.
    """

    kind: Literal["create", "write", "truncate", "sync", "delete", "link", "rename", "sync-folder", "ack"]
    file: str = ""
    offset: int = 0
    data: bytes = b""
    label: object = None


@dataclass(slots=True)
class Recording:
    """What happened to a set of files, in order, with what they held when they were first opened."""

    initial: dict[str, bytes] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)


class Recorder(apsw.VFS):
    """A VFS that takes notes; a context manager. Give its `vfs_name` to `create_sqlite` or `open_sqlite`.

    Args:
        syncs: `honest`; `lying` claims to sync and does not count it, as bad disks do; `normal` sells SQLite's
            `synchronous=NORMAL` as FULL. The last two are negative controls: a check must find fault with them.

    Attributes:
        vfs_name: The name to open stores with.
        recording: The notes so far.
        known: The names of the files it has seen.
        base: The name of the VFS below.
    """

    def __init__(self, syncs: Syncs = "honest") -> None:
        """Register the VFS."""
        self.vfs_name = f"securecfg-recorder-{next(_numbers)}"
        self.recording = Recording()
        self.known: set[str] = set()
        self.syncs = syncs
        self._lock = threading.Lock()
        # By its name: the default may be this one by the time when a file is opened.
        self.base = apsw.vfs_names()[0]
        super().__init__(self.vfs_name, self.base)

    def __enter__(self) -> Self:
        """Let connections be weakened where that is asked for."""
        if self.syncs == "normal":
            apsw.connection_hooks.append(self._weaken)
        return self

    def __exit__(self, *_: object) -> None:
        """Unregister the VFS; stores that use it must be closed by now."""
        if self.syncs == "normal":
            apsw.connection_hooks.remove(self._weaken)
        self.unregister()

    def acknowledge(self, label: object) -> None:
        """Note that a caller was just told that something is durable."""
        self.note(Event("ack", label=label))

    def note(self, event: Event) -> None:
        """Append an event."""
        with self._lock:
            self.recording.events.append(event)

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - apsw's name
        """Open a file, noting all of the database and its log, and nothing of temporary files."""
        return _RecordedFile(self, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: FBT001, N802 - apsw's signature
        """Delete a file."""
        super().xDelete(filename, syncdir)
        self.note(Event("delete", Path(filename).name))

    def _weaken(self, connection: apsw.Connection) -> None:
        if connection.open_vfs == self.vfs_name:
            connection.execute("PRAGMA synchronous = NORMAL").close()


class _RecordedFile(apsw.VFSFile):
    def __init__(self, recorder: Recorder, name: str | apsw.URIFilename | None, flags: list[int]) -> None:
        super().__init__(recorder.base, name, flags)
        self._recorder = recorder
        text = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._name = Path(text).name if text else ""
        if self._name and self._name not in recorder.known:
            recorder.known.add(self._name)
            size = self.xFileSize()
            if size:
                recorder.recording.initial[self._name] = self.xRead(size, 0)
        if self._name:
            recorder.note(Event("create", self._name))

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - apsw's name
        self._note("write", offset, bytes(data))
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 - apsw's name
        self._note("truncate", newsize)
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: ARG002, N802 - apsw's signature; what is durable is ours to say
        if self._recorder.syncs != "lying":
            self._note("sync")

    def xFileControl(self, op: int, ptr: int) -> bool:  # noqa: N802 - apsw's name
        if op == apsw.SQLITE_FCNTL_PRAGMA and self._recorder.syncs == "normal":
            pragma = apsw.VFSFcntlPragma(ptr)
            if pragma.name == "synchronous" and pragma.value == "FULL":
                pragma.result = "2"
                return True
        return super().xFileControl(op, ptr)

    def _note(self, kind: Literal["write", "truncate", "sync"], offset: int = 0, data: bytes = b"") -> None:
        if self._name:
            self._recorder.note(Event(kind, self._name, offset, data))


@dataclass(frozen=True, slots=True)
class Image:
    """What a disk may hold after a crash.

    Attributes:
        files: Content by name.
        acknowledged: The labels of all acknowledgements before the crash, in order.
        point: The number of events before the crash.
        kind: What became of unsynced writes.
        digest: What tells images apart: a hash of the files and of the number of acknowledgements.
    """

    files: dict[str, bytes]
    acknowledged: tuple[object, ...]
    point: int
    kind: Kind
    digest: bytes = field(init=False)

    def __post_init__(self) -> None:
        """Hash."""
        digest = hashlib.sha256(b"%d" % len(self.acknowledged))
        for name in sorted(self.files):
            content = self.files[name]
            digest.update(b"%b\0%d\0" % (name.encode(), len(content)))
            digest.update(content)
        object.__setattr__(self, "digest", digest.digest())


@dataclass(slots=True)
class FileState:
    """What a disk holds of a file for sure, and the writes that may or may not have reached it."""

    durable: bytearray
    pending: list[Event] = field(default_factory=list)

    def render(self, kind: Kind, draw: random.Random) -> bytes:
        """Return what may be in the file after a crash."""
        content = bytearray(self.durable)
        if kind == "kept":
            for event in self.pending:
                _apply(content, event)
        elif kind == "torn" and self.pending:
            survivors = draw.randrange(len(self.pending))
            for event in self.pending[:survivors]:
                _apply(content, event)
            _tear(content, self.pending[survivors], draw)
        elif kind == "subset":
            for event in self.pending:
                _scatter(content, event, draw)
        return bytes(content)

    def sync(self) -> None:
        """Let everything reach the disk."""
        for event in self.pending:
            _apply(self.durable, event)
        self.pending.clear()


def _apply(content: bytearray, event: Event) -> None:
    if event.kind == "truncate":
        del content[event.offset :]
        content.extend(bytes(event.offset - len(content)))
        return
    content.extend(bytes(max(0, event.offset - len(content))))
    content[event.offset : event.offset + len(event.data)] = event.data


def _sectors(event: Event) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position < len(event.data):
        size = SECTOR_BYTES - (event.offset + position) % SECTOR_BYTES
        yield event.offset + position, event.data[position : position + size]
        position += size


def _tear(content: bytearray, event: Event, draw: random.Random) -> None:
    if event.kind == "write":
        sectors = list(_sectors(event))
        for offset, data in sectors[: draw.randrange(len(sectors) + 1)]:
            _apply(content, Event("write", event.file, offset, data))


def _scatter(content: bytearray, event: Event, draw: random.Random) -> None:
    if event.kind == "truncate":
        if draw.random() > _SHARE_LOST:
            _apply(content, event)
        return
    for offset, data in _sectors(event):
        fate = draw.random()
        if fate < _SHARE_GARBAGE:
            _apply(content, Event("write", event.file, offset, draw.randbytes(len(data))))
        elif fate > _SHARE_LOST:
            _apply(content, Event("write", event.file, offset, data))


class Disk:
    """The replay of a recording up to some event. One of another model may take its place in `images`."""

    def __init__(self, recording: Recording) -> None:
        """Begin with what was there."""
        self.files = {name: FileState(bytearray(content)) for name, content in recording.initial.items()}
        self.deleted: dict[str, bytes] = {}
        self.acknowledged: list[object] = []

    def step(self, event: Event) -> None:
        """Let an event happen."""
        if event.kind == "ack":
            self.acknowledged.append(event.label)
        elif event.kind == "delete":
            gone = self.files.pop(event.file, None)
            if gone is not None:
                self.deleted[event.file] = bytes(gone.durable)
        elif event.kind == "sync":
            self.deleted.clear()
            self._file(event).sync()
        elif event.kind == "create":
            self._file(event)
        else:
            self._file(event).pending.append(event)

    def has_choices(self) -> bool:
        """Return whether a crash now could leave more than one state."""
        return bool(self.deleted) or any(file.pending for file in self.files.values())

    def render(self, kind: Kind, point: int, draw: random.Random) -> Image:
        """Return what a crash now may leave."""
        files = {name: file.render(kind, draw) for name, file in self.files.items()}
        if kind != "kept":
            for name, content in self.deleted.items():
                if name not in files and draw.random() < _SHARE_RESURRECTED:
                    files[name] = content
        return Image(files, tuple(self.acknowledged), point, kind)

    def _file(self, event: Event) -> FileState:
        return self.files.setdefault(event.file, FileState(bytearray()))


def images(recording: Recording, *, count: int, seed: int, disk: type[Disk] = Disk) -> Iterator[Image]:
    """Yield at most `count` distinct images, spread over all crash points; the same seed yields the same ones.

    Fewer come where the recording does not have as many. A crash just before an acknowledgement is left out: the crash
    just after it leaves the same bytes and owes more.
    """
    draw = random.Random(seed)  # noqa: S311 - a failure must be repeatable
    seen: set[bytes] = set()
    is_exhausted = False
    while len(seen) < count and not is_exhausted:
        before = len(seen)
        yield from _pass(recording, count, draw, seen, disk)
        is_exhausted = len(seen) == before


def _pass(
    recording: Recording, count: int, draw: random.Random, seen: set[bytes], model: type[Disk]
) -> Iterator[Image]:
    events = recording.events
    points = [p for p in range(1, len(events) + 1) if p == len(events) or events[p].kind != "ack"]
    disk = model(recording)
    done = 0
    for index, point in enumerate(points):
        for event in events[done:point]:
            disk.step(event)
        done = point
        quota = -(-(count - len(seen)) // (len(points) - index))
        for _ in range(quota * _ATTEMPTS_PER_IMAGE if disk.has_choices() else 1):
            if quota <= 0:
                break
            image = disk.render(draw.choice(_KINDS), point, draw)
            if image.digest not in seen:
                seen.add(image.digest)
                quota -= 1
                yield image


@dataclass(frozen=True, slots=True)
class Violation:
    """An image that a check found fault with."""

    image: Image
    problem: str


@dataclass(slots=True)
class Report:
    """What an exploration found.

    Attributes:
        digests: One for each image, so that reports of several processes can be counted without duplicates.
        kinds: The number of images of each kind.
        violations: The first of them, with their images.
        violation_count: All of them.
    """

    digests: set[bytes] = field(default_factory=set)
    kinds: dict[str, int] = field(default_factory=dict)
    violations: list[Violation] = field(default_factory=list)
    violation_count: int = 0

    def summary(self) -> str:
        """Return one line with the figures."""
        kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(self.kinds.items()))
        return f"{len(self.digests)} distinct images ({kinds}): {self.violation_count} violations"


def explore(
    recording: Recording,
    check: Callable[[Path, tuple[object, ...]], None],
    *,
    count: int,
    seed: int = 0,
    disk: type[Disk] = Disk,
) -> Report:
    """Check at most `count` crash images.

    Args:
        recording: What a `Recorder` noted.
        check: Called with the folder that holds the image's files and the acknowledgements that must have survived. It
            finds fault by an `AssertionError` or any error of this library; other errors are its own defects and pass.
        count: How many images, all distinct.
        seed: What makes a run repeatable.
        disk: The model of what a crash may leave.
    """
    report = Report()
    parent = MEMORY_FOLDER if MEMORY_FOLDER.is_dir() else None
    root = Path(tempfile.mkdtemp(prefix="securecfg-crash-", dir=parent))
    folder = root / "image"
    try:
        for image in images(recording, count=count, seed=seed, disk=disk):
            folder.mkdir()
            for name, content in image.files.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(content)
            report.digests.add(image.digest)
            report.kinds[image.kind] = report.kinds.get(image.kind, 0) + 1
            try:
                check(folder, image.acknowledged)
            except (AssertionError, SecurecfgError) as error:
                report.violation_count += 1
                if len(report.violations) < _KEPT_VIOLATIONS:
                    problem = str(error).partition("\n")[0]
                    report.violations.append(Violation(image, f"{type(error).__name__}: {problem}"))
            shutil.rmtree(folder)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return report
