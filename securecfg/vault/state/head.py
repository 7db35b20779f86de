"""The head row: a signed checkpoint and the state it vouches for (format 7). Pure."""

from __future__ import annotations

import hashlib
import struct

from securecfg.octets import Cursor, Malformed, var32
from securecfg.store import ID_LIMIT
from securecfg.tuples import NamedTuple

FLAG_DESTRUCTION_PENDING = 1
STAGINGS_MAX = 32
CLOCK_TOLERANCE_NS = 300 * 1_000_000_000

_FIXED = struct.Struct(">QQQQ32s32s32sI32sB")
_STAGING = struct.Struct(">QQQ")
_PREFIX = b"\x48\x01"


class Staging(NamedTuple):
    """A range of ids that a writer is filling with rows that nothing references yet."""

    first: int
    last: int
    expires: int


class State(NamedTuple):
    """What a checkpoint's state hash covers."""

    generation: int
    published: int
    next_id: int
    base_size: int
    manifest_digest: bytes
    keyring_digest: bytes
    header_digest: bytes
    epoch: int
    epoch_key: bytes
    flags: int
    stagings: tuple[Staging, ...] = ()

    def to_bytes(self) -> bytes:
        """Return the bytes that are hashed."""
        return b"".join(
            (
                _FIXED.pack(*self[:10]),
                bytes((len(self.stagings),)),
                *(_STAGING.pack(*staging) for staging in self.stagings),
            ),
        )

    def clock_behind_ns(self, now_ns: int) -> int:
        """Return how far a clock is behind the newest publication; up to five minutes count as none."""
        behind_ns = self.published - now_ns
        return behind_ns if behind_ns > CLOCK_TOLERANCE_NS else 0

    def digest(self) -> bytes:
        """Return the hash that the checkpoint carries."""
        return hash_state(self.to_bytes())


def hash_state(raw: bytes) -> bytes:
    """Return the SHA-256 that a checkpoint carries for a state."""
    return hashlib.sha256(b"securecfg/1/state\x00" + raw).digest()


def hash_header(header: bytes, slots: bytes) -> bytes:
    """Return the SHA-256 of the header and of the slots and sealed roots as `slots_to_bytes` has them."""
    return hashlib.sha256(b"securecfg/1/header\x00" + header + slots).digest()


def build_head(note: bytes, state: bytes) -> bytes:
    """Return the head row of a signed note and the bytes of the state that it vouches for."""
    return _PREFIX + var32(note) + state


def parse_head(row: bytes) -> tuple[bytes, State, bytes]:
    """Return the note, the state and the state's hash.

    Raises:
        Malformed: The row breaks the format.
    """
    cursor = Cursor(row)
    if cursor.take(2) != _PREFIX:
        message = "is not a head"
        raise Malformed(message)
    note = cursor.var32()
    raw = row[cursor.position :]
    fixed = State._make((*_FIXED.unpack(cursor.take(_FIXED.size)), ()))
    stagings = tuple(Staging(*_STAGING.unpack(cursor.take(_STAGING.size))) for _ in range(cursor.u8()))
    cursor.finish()
    # Who is no writer of a sealed scope can sign any state of it.
    if max(fixed.next_id, fixed.generation, *(staging.last for staging in stagings)) >= ID_LIMIT:
        message = "counts further than there can be rows"
        raise Malformed(message)
    return note, fixed._replace(stagings=stagings), hash_state(raw)
