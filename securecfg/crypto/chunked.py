"""Large messages as rows of sealed chunks: C2SP chunked-encryption with AES-256-GCM, Cobblestone-256.

A message is cut into rows of 16 chunks of 16 KiB; the first row has the message's header in front. There is one correct
cut for each length, and a message that is cut otherwise is refused, as is one that is truncated, reordered or extended.
Neither side ever holds more than a row.
"""

from __future__ import annotations

import hmac
import os
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from securecfg.crypto.derive import KEY_BYTES, hkdf_expand
from securecfg.errors import Tampered

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SALT_BYTES = 24
COMMITMENT_BYTES = 32
HEADER_BYTES = SALT_BYTES + COMMITMENT_BYTES
CHUNK_BYTES = 16 * 1024
TAG_BYTES = 16
SEALED_CHUNK_BYTES = CHUNK_BYTES + TAG_BYTES
CHUNKS_PER_ROW = 16
ROW_PLAINTEXT_BYTES = CHUNKS_PER_ROW * CHUNK_BYTES
ROW_BYTES = CHUNKS_PER_ROW * SEALED_CHUNK_BYTES

_NONCE_BYTES = 12
_MOST_CHUNKS = 1 << 38
_INFO = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\x00"


def count_rows(length: int) -> int:
    """Return how many rows a message of `length` bytes becomes."""
    return length // ROW_PLAINTEXT_BYTES + 1


class ChunkSealer:
    """Seals one message after another under one key and context, each with a salt of its own.

    Args:
        key: 32 uniformly random bytes.
        ctx: What the message is bound to.

    Raises:
        ValueError: The key does not have 32 bytes.
    """

    __slots__ = ("_ctx", "_key")

    def __init__(self, key: bytes, ctx: bytes) -> None:
        """Hold key and context."""
        _check_key(key)
        self._key = key
        self._ctx = ctx

    def seal(self, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the rows of the message that is the concatenation of `pieces`."""
        return self._seal_with_salt(os.urandom(SALT_BYTES), pieces)

    def _seal_with_salt(self, salt: bytes, pieces: Iterable[bytes]) -> Iterator[bytes]:
        stream = _ChunkStream(self._key, salt, self._ctx)
        head = salt + stream.commitment
        for block in _regroup(pieces):
            yield head + stream.seal_row(block)
            head = b""


class ChunkOpener:
    """Opens messages that were sealed under one key and context.

    Args:
        key: 32 bytes.
        ctx: What the message is bound to.

    Raises:
        ValueError: The key does not have 32 bytes.
    """

    __slots__ = ("_ctx", "_key")

    def __init__(self, key: bytes, ctx: bytes) -> None:
        """Hold key and context."""
        _check_key(key)
        self._key = key
        self._ctx = ctx

    def open(self, rows: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the plaintext row by row, each authenticated before it is yielded.

        That the message is complete is known only when the iterator ends without an error; whoever acts on a part
        before that acts on what may be a beginning.

        Raises:
            Tampered: The message was altered, truncated, extended, cut at other places, or belongs to another key or
                context.
        """
        remaining = iter(rows)
        first = next(remaining, b"")
        stream = _ChunkStream(self._key, first[:SALT_BYTES], self._ctx)
        # A header that is cut off cannot equal the commitment, whose size is fixed.
        if not hmac.compare_digest(first[SALT_BYTES:HEADER_BYTES], stream.commitment):
            raise _refusal()
        row = memoryview(first)[HEADER_BYTES:]
        while len(row) == ROW_BYTES:
            yield stream.open_row(row)
            row = memoryview(next(remaining, b""))
        yield stream.open_last_row(row)
        if next(remaining, None) is not None:
            raise _refusal()


class _ChunkStream:
    """The chunks of one message, in order."""

    __slots__ = ("_aead", "_base_nonce", "_counter", "commitment")

    def __init__(self, key: bytes, salt: bytes, ctx: bytes) -> None:
        output = hkdf_expand(key, _INFO + salt + ctx, KEY_BYTES + _NONCE_BYTES + COMMITMENT_BYTES)
        self._aead = AESGCM(output[:KEY_BYTES])
        self._base_nonce = int.from_bytes(output[KEY_BYTES : KEY_BYTES + _NONCE_BYTES], "big")
        self.commitment = output[KEY_BYTES + _NONCE_BYTES :]
        self._counter = 0

    def seal_row(self, block: memoryview) -> bytes:
        """Return the sealed chunks of a block; one that is not full gets the short chunk that ends the message."""
        ends = len(block) + (len(block) < ROW_PLAINTEXT_BYTES)
        return b"".join(
            self._aead.encrypt(self._next_nonce(), block[start : start + CHUNK_BYTES], None)
            for start in range(0, ends, CHUNK_BYTES)
        )

    def open_row(self, row: memoryview) -> bytes:
        try:
            return b"".join(
                self._aead.decrypt(self._next_nonce(), row[start : start + SEALED_CHUNK_BYTES], None)
                for start in range(0, len(row), SEALED_CHUNK_BYTES)
            )
        except InvalidTag:
            raise _refusal() from None

    def open_last_row(self, row: memoryview) -> bytes:
        # The last chunk is short and has its tag: a row that ends on a whole chunk, or within a tag, was truncated.
        if len(row) > ROW_BYTES or len(row) % SEALED_CHUNK_BYTES < TAG_BYTES:
            raise _refusal()
        return self.open_row(row)

    def _next_nonce(self) -> bytes:
        counter = self._counter
        if counter >= _MOST_CHUNKS:
            message = "a chunked message has at most 2^38 chunks"
            raise OverflowError(message)
        self._counter = counter + 1
        return (self._base_nonce ^ counter).to_bytes(_NONCE_BYTES, "big")


def _regroup(pieces: Iterable[bytes]) -> Iterator[memoryview]:
    """Yield full rows of plaintext and then one that is not full, perhaps empty."""
    buffer = bytearray()
    piece = b""
    try:
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                room = ROW_PLAINTEXT_BYTES - len(buffer)
                buffer += rest[:room]
                rest = rest[room:]
                if len(buffer) == ROW_PLAINTEXT_BYTES:
                    yield memoryview(buffer)
                    buffer = bytearray()
        yield memoryview(buffer)
    finally:
        # When the source raises, a traceback that shows locals must not show the message.
        buffer, piece = bytearray(), b""


def _check_key(key: bytes) -> None:
    if len(key) != KEY_BYTES:
        message = "the key of a chunked message has 32 bytes"
        raise ValueError(message)


def _refusal() -> Tampered:
    return Tampered("a large value is altered, cut off or extended")
