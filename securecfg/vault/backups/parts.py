"""The parts of a backup as files in a folder: written whole or not at all, read as what they may be (format 13.1)."""

from __future__ import annotations

import os
import re
import secrets
from contextlib import contextmanager, suppress
from hashlib import file_digest, sha256
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple, Self

from securecfg.crypto.chunked import HEADER_BYTES, ROW_BYTES
from securecfg.errors import BackupChainBroken, BackupTruncated, FileMissing, NotABackup, StoreBusy, StoreFailed
from securecfg.files import PRIVATE, give_name, sync_directory
from securecfg.vault.backups.format import (
    HEADER_BYTES_MAX,
    TRAILER,
    TRAILER_MAGIC,
    End,
    Message,
    Messages,
    PartHeader,
    altered,
    open_part_key,
    parse_items,
)
from securecfg.vault.backups.inventory import parse_inventory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from securecfg.crypto import KeyBytes
    from securecfg.keys import SlotKey
    from securecfg.store import Space
    from securecfg.vault.backups.inventory import Inventory

_NAME = re.compile(r"\d{6}\.part", re.ASCII)
_UNFINISHED = re.compile(r"\.\d{6}\.part\.(?:[0-9a-f]{12}\.tmp|claim)", re.ASCII)
_BROKEN_HINT = "put the parts of one chain, all of them, into one folder"
PARTS_MAX = 999_999


def name_of_part(part: int) -> str:
    """Return the file name of a part."""
    return f"{part:06}.part"


class _Section(NamedTuple):
    start: int
    length: int


class Part:
    """A part of a backup, of which only the readable beginning was looked at.

    Attributes:
        path: Its file.
        header: What it says of itself; authentic once a message of it was opened.
        size_bytes: Of the file.
    """

    def __init__(self, path: Path) -> None:
        """Read the header and where the messages lie.

        Raises:
            NotABackup: It is none.
            BackupTruncated: It ends before it is whole.
            UnsupportedFormat: A later version made it.
            StoreFailed: It cannot be read.
        """
        self.path = path
        try:
            with open(path, "rb") as file:
                beginning = file.read(HEADER_BYTES_MAX)
                self.size_bytes = file.seek(0, os.SEEK_END)
                file.seek(max(0, self.size_bytes - TRAILER.size))
                trailer = file.read()
        except OSError as error:
            raise _unreadable(path, error) from None
        try:
            self.header, start = PartHeader.parse(beginning)
        except NotABackup:
            if beginning[:4] == b"SCFB" and not trailer.endswith(TRAILER_MAGIC):
                raise _truncated(path) from None
            raise
        *lengths, magic = TRAILER.unpack(trailer.rjust(TRAILER.size, b"\x00"))
        if magic != TRAILER_MAGIC or start + sum(lengths) + TRAILER.size != self.size_bytes:
            raise _truncated(path)
        self._sections: dict[Message, _Section] = {}
        for message, length in zip(Message, lengths, strict=True):
            self._sections[message] = _Section(start, length)
            start += length

    def digest(self) -> bytes:
        """Return the SHA-256 of the file.

        Raises:
            StoreFailed: It cannot be read.
        """
        try:
            with open(self.path, "rb") as file:
                return file_digest(file, sha256).digest()
        except OSError as error:
            raise _unreadable(self.path, error) from None

    def open(self, slot_key: SlotKey) -> OpenPart:
        """Return what the part holds, for a recipient.

        Raises:
            BackupAltered: It does not open with the key of its slot.
            StoreFailed: It cannot be read.
        """
        return self.open_with(open_part_key(slot_key, self.header))

    def open_with(self, part_key: KeyBytes) -> OpenPart:
        """Return what the part holds, for whoever knows its key.

        Raises:
            BackupAltered: It was altered.
            StoreFailed: It cannot be read.
        """
        messages = Messages(self.header, part_key, part_key)  # the end is under the part's key, and names the other
        end = End.parse(b"".join(messages.open(Message.END, self.sealed(Message.END))))
        return OpenPart(self, Messages(self.header, part_key, end.inventory_key), end)

    def open_inventory(self, inventory_key: KeyBytes) -> Inventory:
        """Return which rows the state has, for the maker of the next part.

        Raises:
            BackupAltered: It was altered, or is of another chain.
            StoreFailed: It cannot be read.
        """
        messages = Messages(self.header, inventory_key, inventory_key)
        raw = b"".join(messages.open(Message.INVENTORY, self.sealed(Message.INVENTORY)))
        return parse_inventory(raw, self.header.part)

    def sealed(self, message: Message) -> Iterator[bytes]:
        """Yield the sealed rows of a message.

        Raises:
            StoreFailed: The file cannot be read.
        """
        start, left = self._sections[message]
        try:
            with open(self.path, "rb") as file:
                file.seek(start)
                size = HEADER_BYTES + ROW_BYTES
                while left:
                    piece = file.read(min(size, left))
                    if not piece:
                        raise _truncated(self.path)
                    yield piece
                    left -= len(piece)
                    size = ROW_BYTES
        except OSError as error:
            raise _unreadable(self.path, error) from None


class OpenPart:
    """What a part holds.

    Attributes:
        part: The part.
        end: What it says of its state.
    """

    def __init__(self, part: Part, messages: Messages, end: End) -> None:
        """Read nothing yet."""
        self.part = part
        self.end = end
        self._messages = messages

    def inventory(self) -> Inventory:
        """Return what the state consists of, of which the part holds the heads that it says it does.

        Raises:
            BackupAltered: It was altered.
            StoreFailed: The file cannot be read.
        """
        number = self.part.header.part
        hashed = _Hashed(self.part.sealed(Message.INVENTORY))
        raw = b"".join(self._messages.open(Message.INVENTORY, hashed))
        if hashed.digest() != self.end.inventory_digest:
            raise altered()
        inventory = parse_inventory(raw, number)
        heads = [(held.number, held.head_digest) for held in inventory if held.part == number]
        if heads != [(partition, sha256(head).digest()) for partition, head in self.end.heads]:
            raise altered()
        return inventory

    def rows(self) -> Iterator[tuple[int, Space, int, bytes]]:
        """Yield the rows that the part holds, each with the number of its partition.

        Only when this ends without an error are they all of them.

        Raises:
            BackupAltered: They were altered.
            StoreFailed: The file cannot be read.
        """
        hashed = _Hashed(self.part.sealed(Message.ROWS))
        count = 0
        for item in parse_items(self._messages.open(Message.ROWS, hashed)):
            count += 1
            yield item
        if count != self.end.rows or hashed.digest() != self.end.rows_digest:
            raise altered()


class _Hashed:
    """An iterator that hashes what it yields."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._hash = sha256()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        piece = next(self._pieces)
        self._hash.update(piece)
        return piece

    def digest(self) -> bytes:
        return self._hash.digest()


def open_chain(folder: Path) -> list[Part]:
    """Return the parts in a folder in their order; none where there are none.

    That the hashes of the files are those which later parts name is for `verify_previous`.

    Raises:
        FileMissing: There is no such folder.
        BackupChainBroken: A part is missing, or is of another chain.
        NotABackup, BackupTruncated, UnsupportedFormat, StoreFailed: As for `Part`.
    """
    try:
        names = sorted(entry.name for entry in folder.iterdir() if _NAME.fullmatch(entry.name))
    except FileNotFoundError:
        message = f"`{folder}` does not exist"
        raise FileMissing(message, hint="name the folder that `securecfg vault backup` wrote") from None
    except OSError as error:
        raise _unreadable(folder, error) from None
    parts: list[Part] = []
    for number, name in enumerate(names, start=1):
        if name != name_of_part(number):
            message = f"`{folder / name_of_part(number)}` is missing"
            raise BackupChainBroken(message, hint=_BROKEN_HINT)
        parts.append(Part(folder / name))
        header, first = parts[-1].header, parts[0].header
        slots = [slot.row for slot in header.slots]
        known = (first.vault_id, first.chain_id, number, [slot.row for slot in first.slots])
        if (header.vault_id, header.chain_id, header.part, slots) != known or (number == 1) != (
            not any(header.previous)
        ):
            raise _foreign(parts[-1])
    return parts


def verify_previous(parts: Sequence[Part]) -> None:
    """Check that each part names the file before it.

    Raises:
        BackupChainBroken: One names another.
        StoreFailed: A file cannot be read.
    """
    for before, part in pairwise(parts):
        if part.header.previous != before.digest():
            raise _foreign(part)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Be the only one who adds to a chain, in a folder that is made where there is none.

    What an earlier process left unfinished is removed.

    Raises:
        StoreBusy: Another process adds to it.
        StoreFailed: The folder cannot be made or written.
    """
    import fcntl

    try:
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            sync_directory(folder.parent)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _unreadable(folder, error) from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for entry in list(folder.iterdir()):
                if _UNFINISHED.fullmatch(entry.name):
                    entry.unlink()
        except BlockingIOError:
            message = f"another process makes a backup in `{folder}`"
            raise StoreBusy(message, hint="try again when it is done") from None
        except OSError as error:
            raise _unreadable(folder, error) from None
        yield
    finally:
        os.close(descriptor)


class PartDraft:
    """A part that is being written, under a name that nobody takes for a part.

    Args:
        folder: Where, locked by the caller.
        header: Its header.

    Raises:
        StoreFailed: The file system refuses.
    """

    def __init__(self, folder: Path, header: PartHeader) -> None:
        """Begin the file."""
        self._target = folder / name_of_part(header.part)
        self.path = folder / f".{self._target.name}.{secrets.token_hex(6)}.tmp"
        self._lengths: list[int] = []
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._file = open(os.open(self.path, flags, PRIVATE), "wb")  # noqa: SIM115 - closed by `finish` and `discard`
        except OSError as error:
            raise _unwritable(self._target, error) from None
        self._write(header.to_bytes())

    def append(self, sealed: Iterable[bytes]) -> bytes:
        """Write a message and return its SHA-256.

        Raises:
            StoreFailed: The file system refuses.
        """
        hashed = _Hashed(sealed)
        length = 0
        for piece in hashed:
            self._write(piece)
            length += len(piece)
        self._lengths.append(length)
        return hashed.digest()

    def finish(self) -> Part:
        """End the file, make it durable and return it as a reader sees it.

        Raises:
            StoreFailed: The file system refuses.
        """
        self._write(TRAILER.pack(*self._lengths, TRAILER_MAGIC))
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        except OSError as error:
            raise _unwritable(self._target, error) from None
        return Part(self.path)

    def keep(self) -> Path:
        """Give the finished file its name and return that.

        Raises:
            AlreadyExists: There is something of this name.
            StoreFailed: The file system refuses.
        """
        give_name(self.path, self._target)
        return self._target

    def discard(self) -> None:
        """Remove what was written, unless it got its name."""
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self.path.unlink()

    def _write(self, content: bytes) -> None:
        try:
            self._file.write(content)
        except OSError as error:
            raise _unwritable(self._target, error) from None


def _truncated(path: Path) -> BackupTruncated:
    return BackupTruncated(f"`{path}` ends before it is whole", hint="use another copy of it")


def _foreign(part: Part) -> BackupChainBroken:
    message = f"`{part.path}` does not continue the parts before it"
    return BackupChainBroken(message, hint=_BROKEN_HINT)


def _unreadable(path: Path, error: OSError) -> StoreFailed:
    return StoreFailed(f"cannot read `{path}`: {error.strerror}")


def _unwritable(path: Path, error: OSError) -> StoreFailed:
    return StoreFailed(f"cannot write `{path}`: {error.strerror}")
