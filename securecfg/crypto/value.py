"""Value records: a value under its own data key, with a commitment to that key (format, section 5.2)."""

from __future__ import annotations

import hmac
import struct
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from securecfg.crypto.chunked import ChunkOpener, ChunkSealer, count_rows
from securecfg.crypto.context import SUITE
from securecfg.crypto.derive import KEY_BYTES, Label, expand
from securecfg.crypto.padding import padded_length
from securecfg.errors import Tampered, UsageError, ValueTooLarge

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

COMMITMENT_BYTES = 32
INLINE_LIMIT_BYTES = 65_536
CHUNKED_LIMIT_BYTES = 1 << 30
FORM_INLINE = 1
FORM_CHUNKED = 2
KIND_BYTES = 0
KIND_TEXT = 1
KIND_FIELDS = 2

_TYPE = 0x56
_INLINE = bytes((_TYPE, SUITE, FORM_INLINE, 0))
_CHUNKED = bytes((_TYPE, SUITE, FORM_CHUNKED, 0))
_RECORD_HEAD_BYTES = len(_INLINE) + COMMITMENT_BYTES
_PLAIN_HEAD = struct.Struct(">QB")
_PLAIN_HEAD_BYTES = 9
_NONCE = bytes(12)  # a data key encrypts once, so the nonce may be constant
_PIECE_BYTES = 1 << 16


class ValueKey:
    """What a data key opens: one inline value. May be cached, and shared by threads.

    Args:
        dek: The data key, 32 bytes.
        ctx: The context 0x17 with form 1.
    """

    __slots__ = ("_aead", "_head", "commitment")

    def __init__(self, dek: bytes, ctx: bytes) -> None:
        """Derive the encryption key and the commitment."""
        derived = expand(dek, Label.DEK, ctx, KEY_BYTES + COMMITMENT_BYTES)
        self._aead = AESGCM(derived[:KEY_BYTES])
        self.commitment = derived[KEY_BYTES:]
        self._head = _INLINE + self.commitment

    def open(self, row: bytes, expected_commitment: bytes) -> tuple[int, bytes]:
        """Return the kind and the content of a record.

        Args:
            row: The record.
            expected_commitment: The commitment that the secret's history names.

        Raises:
            Tampered: Record, data key, place and history do not belong together.
        """
        head = self._head
        compare = hmac.compare_digest
        # All three commitments are compared before anything is decrypted.
        if compare(row[:_RECORD_HEAD_BYTES], head) and compare(expected_commitment, self.commitment):
            try:
                plaintext = self._aead.decrypt(_NONCE, row[_RECORD_HEAD_BYTES:], head)
            except InvalidTag:
                raise _refusal() from None
            size = len(plaintext)
            if size >= _PLAIN_HEAD_BYTES:
                length, kind = _PLAIN_HEAD.unpack_from(plaintext)
                end = _PLAIN_HEAD_BYTES + length
                if end <= size == padded_length(end) and plaintext.endswith(bytes(size - end)):
                    return kind, plaintext[_PLAIN_HEAD_BYTES:end]
            plaintext = b""  # a traceback that shows locals must not show the value
        raise _refusal()


class ChunkedValueKey:
    """What a data key opens: one chunked value.

    Args:
        dek: The data key, 32 bytes.
        ctx: The context 0x17 with form 2.
    """

    __slots__ = ("_ctx", "_key", "commitment", "record")

    def __init__(self, dek: bytes, ctx: bytes) -> None:
        """Derive the encryption key and the commitment."""
        derived = expand(dek, Label.DEK, ctx, KEY_BYTES + COMMITMENT_BYTES)
        self._key = derived[:KEY_BYTES]
        self._ctx = ctx
        self.commitment = derived[KEY_BYTES:]
        self.record = _CHUNKED + self.commitment

    def seal(self, kind: int, length: int, pieces: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the rows that follow the record, `count_value_rows(length)` of them.

        Args:
            kind: 0 bytes, 1 text, 2 fields.
            length: The size of the content.
            pieces: The content, in pieces of any size.

        Raises:
            ValueTooLarge: The content has more than 1 GiB.
            UsageError: The pieces do not add up to `length`.
        """
        if length > CHUNKED_LIMIT_BYTES:
            message = f"a value has at most {CHUNKED_LIMIT_BYTES} bytes"
            raise ValueTooLarge(message)
        return ChunkSealer(self._key, self._ctx).seal(_plaintext(kind, length, pieces))

    def open(self, record: bytes, expected_commitment: bytes, rows: Iterable[bytes]) -> ChunkedContent:
        """Return the kind, the length and the content of a chunked value.

        Args:
            record: The value record.
            expected_commitment: The commitment that the secret's history names.
            rows: The rows that follow the record, in order; fetched as the content is consumed.

        Raises:
            Tampered: Record, first row, data key, place and history do not belong together.
        """
        compare = hmac.compare_digest
        if not (compare(record, self.record) and compare(expected_commitment, self.commitment)):
            raise _refusal()
        return ChunkedContent(ChunkOpener(self._key, self._ctx).open(rows))


class ChunkedContent:
    """The content of a chunked value, in pieces, to be consumed once.

    Attributes:
        kind: 0 bytes, 1 text, 2 fields.
        length: The size of the content.
    """

    __slots__ = ("_first", "_plaintext", "kind", "length")

    def __init__(self, plaintext: Iterator[bytes]) -> None:
        """Read the head that the first row holds."""
        first = next(plaintext)
        if len(first) < _PLAIN_HEAD_BYTES:
            raise _refusal()
        self.length, self.kind = _PLAIN_HEAD.unpack_from(first)
        self._first = first[_PLAIN_HEAD_BYTES:]
        self._plaintext = plaintext

    def __iter__(self) -> Iterator[bytes]:
        """Yield the content.

        Each piece is authentic, but that the value is complete is known only when the iteration ends without an error.

        Raises:
            Tampered: A row was altered, is missing, or does not belong here.
        """
        end = _PLAIN_HEAD_BYTES + self.length
        wanted = self.length
        padding = padded_length(end) - end
        piece = self._first
        while True:
            content = piece[:wanted]
            wanted -= len(content)
            tail = len(piece) - len(content)
            padding -= tail
            if padding < 0 or not piece.endswith(bytes(tail)):
                piece = content = b""
                raise _refusal()
            if content:
                yield content
            # Nothing of the value may be in this frame when what follows raises: a traceback may show locals.
            piece = content = b""
            following = next(self._plaintext, None)
            if following is None:
                break
            piece, following = following, b""
        if wanted or padding:
            raise _refusal()


def seal_value(dek: bytes, ctx: bytes, kind: int, content: bytes) -> tuple[bytes, bytes]:
    """Return the inline record of a value and its commitment. One data key seals one value, ever.

    Args:
        dek: The data key, 32 bytes.
        ctx: The context 0x17 with form 1.
        kind: 0 bytes, 1 text, 2 fields.
        content: The value; text as UTF-8, fields as `encode_fields` gives them.

    Raises:
        ValueTooLarge: The content has more than 65,536 bytes.
    """
    length = len(content)
    if length > INLINE_LIMIT_BYTES:
        message = f"an inline value has at most {INLINE_LIMIT_BYTES} bytes"
        raise ValueTooLarge(message)
    derived = expand(dek, Label.DEK, ctx, KEY_BYTES + COMMITMENT_BYTES)
    commitment = derived[KEY_BYTES:]
    head = _INLINE + commitment
    plaintext = _PLAIN_HEAD.pack(length, kind) + content
    padded = plaintext.ljust(padded_length(len(plaintext)), b"\x00")
    return head + AESGCM(derived[:KEY_BYTES]).encrypt(_NONCE, padded, head), commitment


def open_value(dek: bytes, ctx: bytes, row: bytes, expected_commitment: bytes) -> tuple[int, bytes]:
    """Return the kind and the content of an inline record.

    Raises:
        Tampered: Record, data key, place and history do not belong together.
    """
    return ValueKey(dek, ctx).open(row, expected_commitment)


def count_value_rows(length: int) -> int:
    """Return how many rows follow the record of a chunked value with content of `length` bytes."""
    return count_rows(padded_length(_PLAIN_HEAD_BYTES + length))


def _plaintext(kind: int, length: int, pieces: Iterable[bytes]) -> Iterator[bytes]:
    yield _PLAIN_HEAD.pack(length, kind)
    seen = 0
    piece = b""
    try:
        for piece in pieces:
            seen += len(piece)
            if seen > length:
                break
            yield piece
    finally:
        # When the source raises, a traceback that shows locals must not show the value.
        piece, pieces = b"", ()
    if seen != length:
        message = f"the content does not have the {length} bytes that were announced"
        raise UsageError(message, hint="the source changed while it was read; try again")
    end = _PLAIN_HEAD_BYTES + length
    padding = padded_length(end) - end
    while padding:
        zeros = bytes(min(padding, _PIECE_BYTES))
        padding -= len(zeros)
        yield zeros


def _refusal() -> Tampered:
    return Tampered("a value does not match its key, its place or its history")
