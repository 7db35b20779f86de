"""The Merkle tree, its tiles, and the head: audit-log.md sections 5 and 6, format.md section 7."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tests.decoder.ciphers import same
from tests.decoder.octets import Octets
from tests.decoder.refusals import TileRefused, demand, refusing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HASHES_IN_A_TILE = 256


def leaf_hash(leaf: bytes) -> bytes:
    return sha256(b"\0" + leaf).digest()


class Frontier:
    """The roots of the perfect subtrees of a growing tree, largest first."""

    def __init__(self, size: int = 0, peaks: Sequence[bytes] = ()) -> None:
        demand(len(peaks) == size.bit_count(), f"{len(peaks)} peaks for a tree of {size} leaves")
        self.size = size
        self.peaks = list(peaks)

    def append(self, hash_: bytes) -> None:
        for _ in range((~self.size & (self.size + 1)).bit_length() - 1):
            hash_ = sha256(b"\1" + self.peaks.pop() + hash_).digest()
        self.peaks.append(hash_)
        self.size += 1

    def root(self) -> bytes:
        if not self.peaks:
            return sha256().digest()
        root = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            root = sha256(b"\1" + peak + root).digest()
        return root


def root_of(hashes: Sequence[bytes]) -> bytes:
    frontier = Frontier()
    for hash_ in hashes:
        frontier.append(hash_)
    return frontier.root()


def tiles_of(hashes: Sequence[bytes]) -> dict[int, bytes]:
    """Return the rows of the tiles that the leaves give."""
    expected: dict[int, bytes] = {}
    level, row = 0, list(hashes)
    while row:
        full = len(row) // HASHES_IN_A_TILE
        for index in range(-(-len(row) // HASHES_IN_A_TILE)):
            if index < full or level:
                first = index * HASHES_IN_A_TILE
                expected[(level << 56) + index] = b"".join(row[first : first + HASHES_IN_A_TILE])
        row = [root_of(row[index * 256 : (index + 1) * 256]) for index in range(full)]
        level += 1
    return expected


def verify_tiles(hashes: Sequence[bytes], tiles: Mapping[int, bytes]) -> None:
    """Compare the stored tiles with those that the leaves give; none may be missing and none too many."""
    expected = tiles_of(hashes)
    with refusing(TileRefused):
        for place, tile in expected.items():
            name = f"tile {place >> 56}/{place & (1 << 56) - 1}"
            demand(place in tiles, f"{name} is missing")
            demand(same(tiles[place], tile), f"{name} differs from the leaves")
        demand(set(tiles) == set(expected), "a tile that the tree does not have")


@dataclass(frozen=True, slots=True)
class Staging:
    """A reserved range of ids."""

    first: int
    last: int
    expires: int


@dataclass(frozen=True, slots=True)
class State:
    """The state that the checkpoint binds: section 7."""

    generation: int
    published: int
    next_id: int
    base_size: int
    manifest_digest: bytes
    keyring_digest: bytes
    header_digest: bytes
    log_epoch: int
    public_key: bytes
    destroy_pending: bool
    stagings: tuple[Staging, ...]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The signed head of the log."""

    origin: str
    size: int
    root: bytes
    state_hash: bytes


def parse_head(row: bytes) -> tuple[bytes, State, bytes]:
    """Split the head row into the note, the state and the state's bytes."""
    octets = Octets(row)
    octets.start(0x48)
    note, state = octets.var32(), octets.rest()
    octets = Octets(state)
    numbers = octets.u64(), octets.u64(), octets.u64(), octets.u64()
    digests = octets.take(32), octets.take(32), octets.take(32)
    epoch, public_key, flags = octets.u32(), octets.take(32), octets.u8()
    demand(flags in {0, 1}, f"flags {flags} of the state")
    stagings = tuple(Staging(octets.u64(), octets.u64(), octets.u64()) for _ in range(octets.u8()))
    octets.end()
    return note, State(*numbers, *digests, epoch, public_key, bool(flags), stagings), state


def unbase64(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error:
        data = b""
    demand(base64.b64encode(data).decode() == text, "base64 that is not canonical")
    return data


def verify_note(note: bytes, name: str, public_key: bytes) -> str:
    """Verify a C2SP signed note, and return its text."""
    demand(not any(byte < 0x20 and byte != 0x0A for byte in note), "a control character in the note")
    text, separator, signatures = note.decode().rpartition("\n\n")
    demand(bool(separator) and signatures.endswith("\n"), "not a signed note")
    text += "\n"
    key_id = sha256(name.encode() + b"\n\x01" + public_key).digest()[:4]
    verified = False
    for line in signatures[:-1].split("\n"):
        parts = re.fullmatch(r"— ([^\s+]+) (\S+)", line)
        demand(parts is not None, "not a signature line")
        assert parts is not None
        signature = unbase64(parts[2])
        demand(len(signature) > 4, "a signature that is too short")
        if (parts[1], signature[:4]) == (name, key_id):
            Ed25519PublicKey.from_public_bytes(public_key).verify(signature[4:], text.encode())
            verified = True
    demand(verified, "no signature by the key of the epoch")
    return text


def parse_checkpoint(text: str) -> Checkpoint:
    """Read the text of a checkpoint: audit-log.md section 6."""
    lines = re.fullmatch(r"(securecfg/[0-9a-f]{32})\n(0|[1-9][0-9]{0,18})\n(\S+)\nstate (\S+)\n", text, re.ASCII)
    demand(lines is not None, "not a checkpoint")
    assert lines is not None
    root, state = unbase64(lines[3]), unbase64(lines[4])
    demand((len(root), len(state)) == (32, 32), "a hash of another size")
    return Checkpoint(lines[1], int(lines[2]), root, state)


def parse_anchor(data: bytes) -> list[tuple[int, int, bytes, bytes, bytes]]:
    """Read the slots of an anchor that count, the newest first: format.md section 10."""
    slots = []
    for row in (data[:1024], data[1024:]):
        if len(row) != 1024 or sha256(row[:992]).digest() != row[992:]:
            continue
        octets = Octets(row[:992])
        if octets.take(8) != b"SCFA\0\1\0\0":
            continue
        counter, size, root, key = octets.u64(), octets.u64(), octets.take(32), octets.take(32)
        octets.take(4 + 32)  # of a sealed scope: its charter
        slots.append((counter, size, root, key, octets.var32()))
        demand(not any(octets.rest()), "padding that is not zero")
    return sorted(slots, reverse=True)
