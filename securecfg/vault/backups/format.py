"""The layout of a part of a backup: header, rows and end (format 13). Bytes in, values out; no files."""

from __future__ import annotations

import struct
from enum import IntEnum
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple, Self

from securecfg.crypto import (
    HYBRID_OVERHEAD_BYTES,
    KEY_BYTES,
    SUITE,
    ChunkOpener,
    ChunkSealer,
    KeyBytes,
    Label,
    backup_context,
    expand,
    seal_to,
)
from securecfg.errors import BackupAltered, NotABackup, NotAVault, Tampered, UnsupportedFormat
from securecfg.keys import MOST_SLOTS, Slot
from securecfg.octets import U32, Cursor, Malformed, var16, var32
from securecfg.store import ID_LIMIT, PARTITION_LIMIT, Space

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from securecfg.keys import SlotKey

FORMAT = 1
SEALED_KEY_BYTES = KEY_BYTES + HYBRID_OVERHEAD_BYTES
TRAILER = struct.Struct(">QQQ4s")
TRAILER_MAGIC = b"SCFE"
HEADER_BYTES_MAX = 2 * 1024 * 1024

_MAGIC = b"SCFB"
_FRONT = struct.Struct(">4sHBB16s16sIQ32sH")
_ITEM = struct.Struct(">BQI")
_END = struct.Struct(">Q32s32sQ32s32s")
_PARTITION = 0xFF
_STRAY = "a part of a backup is not as it was made"
_HINT = "use another copy of the part; the parts before it can still be restored"


class Message(IntEnum):
    """The messages of a part, by their numbers."""

    ROWS = 1
    INVENTORY = 2
    END = 3


class PartSlot(NamedTuple):
    """A recipient in the header of a part.

    Attributes:
        row: Its unlock slot, the same in all parts of the chain.
        sealed_key: The part's key, sealed to the slot.
    """

    row: bytes
    sealed_key: bytes


class PartHeader(NamedTuple):
    """The readable beginning of a part.

    Attributes:
        vault_id: 16 bytes.
        chain_id: 16 bytes.
        part: Its number, from 1.
        begun_ns: When it was begun.
        previous: The SHA-256 of the file of the part before; zeros in part 1.
        slots: The recipients.
    """

    vault_id: bytes
    chain_id: bytes
    part: int
    begun_ns: int
    previous: bytes
    slots: tuple[PartSlot, ...]

    @classmethod
    def parse(cls, raw: bytes) -> tuple[Self, int]:
        """Return the header at the beginning of some bytes, and how many it takes.

        Raises:
            NotABackup: There is none.
            UnsupportedFormat: A later version made it.
        """
        if len(raw) < _FRONT.size or raw[:4] != _MAGIC:
            message = "the file is not a part of a backup"
            raise NotABackup(message, hint="name the folder that `securecfg vault backup` wrote")
        _, number, suite, flags, vault_id, chain_id, part, begun, previous, count = _FRONT.unpack_from(raw)
        if (number, suite, flags) != (FORMAT, SUITE, 0):
            message = f"the backup is of format {number}, suite {suite}"
            raise UnsupportedFormat(message, hint="a newer version of securecfg may read it")
        cursor = Cursor(raw, _FRONT.size)
        try:
            if not (part and 0 < count <= MOST_SLOTS):
                raise Malformed
            slots = tuple(PartSlot(cursor.var16(), cursor.take(SEALED_KEY_BYTES)) for _ in range(count))
            for slot in slots:
                Slot.parse(slot.row)
        except (Malformed, NotAVault):
            message = "the header of a part of a backup is malformed"
            raise NotABackup(message, hint=_HINT) from None
        return cls(vault_id, chain_id, part, begun, previous, slots), cursor.position

    def to_bytes(self) -> bytes:
        """Return the bytes of the header."""
        front = _FRONT.pack(
            _MAGIC,
            FORMAT,
            SUITE,
            0,
            self.vault_id,
            self.chain_id,
            self.part,
            self.begun_ns,
            self.previous,
            len(self.slots),
        )
        return front + b"".join(var16(slot.row) + slot.sealed_key for slot in self.slots)


class End(NamedTuple):
    """What a part says once all its rows are written.

    Attributes:
        taken_ns: When the head was read.
        root: The root key of the vault.
        inventory_key: Opens the inventories of the chain.
        rows: How many rows the part holds.
        rows_digest: The SHA-256 of the first message.
        inventory_digest: That of the second.
        heads: The head rows that the part holds, each with the number of its partition; 0 is the vault.
    """

    taken_ns: int
    root: KeyBytes
    inventory_key: KeyBytes
    rows: int
    rows_digest: bytes
    inventory_digest: bytes
    heads: tuple[tuple[int, bytes], ...]

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Return the end that a message holds.

        Raises:
            BackupAltered: It is malformed.
        """
        cursor = Cursor(raw)
        try:
            taken, root, key, rows, rows_digest, inventory_digest = _END.unpack(cursor.take(_END.size))
            heads = tuple((cursor.u32(), cursor.var32()) for _ in range(cursor.u32()))
            cursor.finish()
        except Malformed:
            raw = root = key = b""  # a traceback that shows locals must not show the root
            cursor = Cursor(raw)
            raise altered() from None
        return cls(taken, KeyBytes(root), KeyBytes(key), rows, rows_digest, inventory_digest, heads)

    def to_bytes(self) -> bytes:
        """Return the plaintext of the message."""
        heads = [U32.pack(number) + var32(head) for number, head in self.heads]
        return _END.pack(*self[:6]) + U32.pack(len(heads)) + b"".join(heads)


class Messages:
    """Seals and opens the messages of one part.

    Args:
        header: Its header.
        part_key: Its own key.
        inventory_key: The chain's.
    """

    def __init__(self, header: PartHeader, part_key: bytes, inventory_key: bytes) -> None:
        """Derive the keys."""
        rest = header.vault_id + header.chain_id + header.part.to_bytes(4)
        own = KeyBytes(expand(part_key, Label.BACKUP, rest, KEY_BYTES))
        shared = KeyBytes(expand(inventory_key, Label.BACKUP, rest, KEY_BYTES))
        self._keys = {Message.ROWS: own, Message.INVENTORY: shared, Message.END: own}
        self._place = (header.vault_id, header.chain_id, header.part)
        self._digest = sha256(header.to_bytes()).digest()

    def seal(self, message: Message, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the sealed rows of a message."""
        return ChunkSealer(self._keys[message], self._context(message)).seal(pieces)

    def open(self, message: Message, sealed: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the plaintext of a message; see `ChunkOpener.open`.

        Raises:
            BackupAltered: It does not open.
        """
        try:
            yield from ChunkOpener(self._keys[message], self._context(message)).open(sealed)
        except Tampered:
            raise altered() from None

    def _context(self, message: Message) -> bytes:
        return backup_context(*self._place, message, self._digest)


def seal_part_key(public_key: bytes, chain_id: bytes, slot_id: bytes, part: int, key: KeyBytes) -> bytes:
    """Return a part's key, sealed to a recipient.

    Raises:
        Tampered: The public key is none.
    """
    return seal_to(public_key, key, _info(chain_id, slot_id, part))


def open_part_key(slot_key: SlotKey, header: PartHeader) -> KeyBytes:
    """Return a part's key for the recipient that holds a slot's key.

    Raises:
        BackupAltered: What the header holds for this slot does not open, or there is none.
    """
    for slot in header.slots:
        if Slot.parse(slot.row).slot_id == slot_key.slot_id:
            info = _info(header.chain_id, slot_key.slot_id, header.part)
            try:
                return slot_key.open(slot.sealed_key, info)
            except Tampered:
                break
    raise altered()


def item_to_bytes(space: Space, id_: int, row: bytes) -> bytes:
    """Return a row as the first message holds it."""
    return _ITEM.pack(space, id_, len(row)) + row


def partition_to_bytes(number: int) -> bytes:
    """Return what precedes the rows of a partition in the first message; 0 is the vault, whose rows come first."""
    return _ITEM.pack(_PARTITION, number, 0)


def parse_items(pieces: Iterable[bytes]) -> Iterator[tuple[int, Space, int, bytes]]:
    """Yield the rows of the first message, each with the number of its partition.

    Raises:
        BackupAltered: Something else is in it.
    """
    buffer = b""
    partition = 0
    for piece in pieces:
        buffer += piece
        place = 0
        while len(buffer) - place >= _ITEM.size:
            space, id_, length = _ITEM.unpack_from(buffer, place)
            end = place + _ITEM.size + length
            if end > len(buffer):
                break
            if space == _PARTITION and id_ < PARTITION_LIMIT and not length:
                partition = id_
            elif space in ROW_SPACES and id_ < ID_LIMIT:
                yield partition, Space(space), id_, buffer[place + _ITEM.size : end]
            else:
                raise altered()
            place = end
        buffer = buffer[place:]
    if buffer:
        raise altered()


ROW_SPACES = frozenset(Space) - {Space.TILE}


def altered() -> BackupAltered:
    """Return the error for a part that is not as it was made."""
    return BackupAltered(_STRAY, hint=_HINT)


def _info(chain_id: bytes, slot_id: bytes, part: int) -> bytes:
    return Label.BACKUP.encode() + b"\x00" + chain_id + slot_id + part.to_bytes(4)
