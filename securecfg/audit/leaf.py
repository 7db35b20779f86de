"""Leaves: what the log's tree is built over, one sealed record each.

    type 0x4C | suite 0x01 | sealer_id [16] | counter u64 | delta_count u8 | delta_count * SHA-256 of a delta row [32]
    | commitment [32] | AES-256-GCM ciphertext and tag

The key of a leaf comes from its sealer's key and belongs to one vault, sealer, counter and index. It is used once, so
the nonce is zero; all bytes before the commitment are associated data. Who is given a leaf's key can open that leaf
only.
"""

from __future__ import annotations

import struct
from hmac import compare_digest
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from securecfg.crypto.derive import Label, expand
from securecfg.errors import LogTampered, ValueTooLarge
from securecfg.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

LEAF_TYPE = 0x4C
SUITE = 0x01
KEY_BYTES = 32
SEALER_ID_BYTES = 16
MAX_DELTAS = 64
MAX_RECORD_BYTES = 32_768 - 4

_PLACE = struct.Struct(">QQ")
_HEADER = struct.Struct(f">BB{SEALER_ID_BYTES}sQB")
_HASH_BYTES = 32
_COMMITMENT_BYTES = 32
_TAG_BYTES = 16
_PADDING_BLOCK = 64
_SMALLEST_PLAINTEXT = 256
_LARGEST_PLAINTEXT = 32_768
_NONCE = bytes(12)


class Leaf(NamedTuple):
    """A leaf taken apart; what it says of itself is true only if its tree is verified.

    Attributes:
        header: All bytes before the commitment: the associated data.
        sealer_id: The first 16 bytes of the SHA-256 of the sealer row.
        counter: Never used twice by one sealer.
        delta_hashes: The SHA-256 of each sealed delta row of the change that the leaf records.
        commitment: Fixes the key that opens the leaf.
        ciphertext: The sealed record, with its tag.
    """

    header: bytes
    sealer_id: bytes
    counter: int
    delta_hashes: tuple[bytes, ...]
    commitment: bytes
    ciphertext: bytes


def parse_leaf(raw: bytes, index: int) -> Leaf:
    """Take a leaf apart.

    Args:
        raw: The row.
        index: Where it stands in the log, for the error.

    Raises:
        LogTampered: It does not follow the layout.
    """
    sealer_id, counter, end = _outline(raw, index)
    return Leaf(
        header=raw[:end],
        sealer_id=sealer_id,
        counter=counter,
        delta_hashes=_hashes(raw, end),
        commitment=raw[end : end + _COMMITMENT_BYTES],
        ciphertext=raw[end + _COMMITMENT_BYTES :],
    )


def parse_delta_hashes(raw: bytes, index: int) -> tuple[bytes, ...]:
    """Return the SHA-256 of each delta row that a leaf names, of a leaf that is checked as `parse_leaf` does.

    Raises:
        LogTampered: It does not follow the layout.
    """
    return _hashes(raw, _outline(raw, index)[2])


def _outline(raw: bytes, index: int) -> tuple[bytes, int, int]:
    """Return the sealer's id, the counter, and where the commitment begins."""
    if len(raw) < _HEADER.size:
        raise _malformed(index)
    kind, suite, sealer_id, counter, delta_count = _HEADER.unpack_from(raw)
    end = _HEADER.size + delta_count * _HASH_BYTES
    sealed_bytes = len(raw) - end - _COMMITMENT_BYTES - _TAG_BYTES
    if (
        (kind, suite) != (LEAF_TYPE, SUITE)
        or delta_count > MAX_DELTAS
        or not _SMALLEST_PLAINTEXT <= sealed_bytes <= _LARGEST_PLAINTEXT
        or sealed_bytes % _PADDING_BLOCK
    ):
        raise _malformed(index)
    return sealer_id, counter, end


def _hashes(raw: bytes, end: int) -> tuple[bytes, ...]:
    if end == _HEADER.size:
        return ()
    return tuple(raw[at : at + _HASH_BYTES] for at in range(_HEADER.size, end, _HASH_BYTES))


def derive_leaf_key(sealer_key: bytes, vault_id: bytes, sealer_id: bytes, counter: int, index: int) -> bytes:
    """Return the key that opens one leaf, 32 bytes.

    Args:
        sealer_key: The sealer's key, 32 uniformly random bytes.
        vault_id: 16 bytes.
        sealer_id: 16 bytes.
        counter: From the leaf.
        index: Where the leaf stands in the log.
    """
    return expand(sealer_key, Label.LEAF, vault_id + sealer_id + _PLACE.pack(counter, index), KEY_BYTES)


def seal_leaf(leaf_key: bytes, sealer_id: bytes, counter: int, record: bytes, delta_hashes: Sequence[bytes]) -> bytes:
    """Return the leaf of a record.

    Args:
        leaf_key: From `derive_leaf_key`; never used before.
        sealer_id: 16 bytes.
        counter: What the key was derived with.
        record: The record's bytes.
        delta_hashes: The SHA-256 of each sealed delta row of the change, in order.

    Raises:
        ValueTooLarge: The record is longer than 32,764 bytes, or there are more than 64 deltas.
    """
    if len(record) > MAX_RECORD_BYTES or len(delta_hashes) > MAX_DELTAS:
        message = f"a record is at most {MAX_RECORD_BYTES} bytes with at most {MAX_DELTAS} deltas"
        raise ValueTooLarge(message)
    header = _HEADER.pack(LEAF_TYPE, SUITE, sealer_id, counter, len(delta_hashes)) + b"".join(delta_hashes)
    keys = expand(leaf_key, Label.LEAF_KEY, b"", KEY_BYTES + _COMMITMENT_BYTES)
    sealed = AESGCM(keys[:KEY_BYTES]).encrypt(_NONCE, _pad(record), header)
    return header + keys[KEY_BYTES:] + sealed


def open_leaf(leaf: Leaf, leaf_key: bytes, index: int) -> bytes:
    """Return the bytes of the record in a leaf.

    Args:
        leaf: From `parse_leaf`.
        leaf_key: Its own key, from `derive_leaf_key` or disclosed.
        index: Where it stands in the log, for the error.

    Raises:
        LogTampered: The key is not this leaf's, or the leaf was altered; the two cannot be told apart.
    """
    keys = expand(leaf_key, Label.LEAF_KEY, b"", KEY_BYTES + _COMMITMENT_BYTES)
    if not compare_digest(keys[KEY_BYTES:], leaf.commitment):
        raise _not_opened(index)
    try:
        plaintext = AESGCM(keys[:KEY_BYTES]).decrypt(_NONCE, leaf.ciphertext, leaf.header)
    except InvalidTag:
        raise _not_opened(index) from None
    record = plaintext[4 : 4 + int.from_bytes(plaintext[:4])]
    if len(record) > MAX_RECORD_BYTES or _pad(record) != plaintext:
        raise _not_opened(index)
    return record


def _pad(record: bytes) -> bytes:
    padded = len(record).to_bytes(4) + record
    padded += bytes(-len(padded) % _PADDING_BLOCK)
    return padded.ljust(_SMALLEST_PLAINTEXT, b"\x00")


def _malformed(index: int) -> LogTampered:
    return LogTampered(f"record {index} is not a leaf of the log", index=index)


def _not_opened(index: int) -> LogTampered:
    return LogTampered(f"record {index} cannot be opened", index=index)
