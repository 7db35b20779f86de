"""Section 5.2 of the format: value records."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import example, given
from hypothesis import strategies as st

from securecfg.crypto import (
    CHUNKED_LIMIT_BYTES,
    FORM_CHUNKED,
    FORM_INLINE,
    INLINE_LIMIT_BYTES,
    KIND_BYTES,
    KIND_FIELDS,
    KIND_TEXT,
    ChunkedValueKey,
    ChunkSealer,
    Label,
    ValueKey,
    count_value_rows,
    expand,
    open_value,
    padded_length,
    seal_value,
    value_context,
)
from securecfg.errors import Tampered, UsageError, ValueTooLarge

if TYPE_CHECKING:
    from collections.abc import Iterator

VAULT = bytes(range(16))
SCOPE = bytes(16)
DEK = bytes(range(32))
INLINE = value_context(VAULT, SCOPE, (7, 1), 1_000, FORM_INLINE)
CHUNKED = value_context(VAULT, SCOPE, (7, 1), 1_000, FORM_CHUNKED)
ROW = 16 * 16384


def seal_plaintext(plaintext: bytes) -> tuple[bytes, bytes]:
    """The record of a plaintext that no writer would make."""
    derived = expand(DEK, Label.DEK, INLINE, 64)
    head = b"\x56\x01\x01\x00" + derived[32:]
    return head + AESGCM(derived[:32]).encrypt(bytes(12), plaintext, head), derived[32:]


@pytest.mark.parametrize("size", [0, 1, 55, 56, 1024, INLINE_LIMIT_BYTES])
def test_an_inline_record_is_laid_out_as_the_format_says(size: int) -> None:
    content = b"c" * size
    row, commitment = seal_value(DEK, INLINE, KIND_TEXT, content)
    plaintext = size.to_bytes(8) + b"\x01" + content
    plaintext += bytes(padded_length(len(plaintext)) - len(plaintext))
    assert (row, commitment) == seal_plaintext(plaintext)
    assert open_value(DEK, INLINE, row, commitment) == (KIND_TEXT, content)


@given(kind=st.sampled_from([KIND_BYTES, KIND_TEXT, KIND_FIELDS]), content=st.binary(max_size=300))
def test_what_was_sealed_opens(kind: int, content: bytes) -> None:
    row, commitment = seal_value(DEK, INLINE, kind, content)
    assert open_value(DEK, INLINE, row, commitment) == (kind, content)


@given(first=st.integers(0, 3_000), second=st.integers(0, 3_000))
def test_the_size_of_a_record_tells_only_the_padded_size(first: int, second: int) -> None:
    same_row = len(seal_value(DEK, INLINE, 0, bytes(first))[0]) == len(seal_value(DEK, INLINE, 0, bytes(second))[0])
    assert same_row == (padded_length(first + 9) == padded_length(second + 9))


def test_refuses_a_record_in_which_any_byte_was_changed() -> None:
    row, commitment = seal_value(DEK, INLINE, KIND_BYTES, b"canary")
    for position in range(len(row)):
        altered = row[:position] + bytes((row[position] ^ 0x80,)) + row[position + 1 :]
        with pytest.raises(Tampered):
            open_value(DEK, INLINE, altered, commitment)


def test_refuses_every_truncation_and_an_extension() -> None:
    row, commitment = seal_value(DEK, INLINE, KIND_BYTES, b"canary")
    for wrong in [*(row[:size] for size in range(len(row))), row + b"\x00"]:
        with pytest.raises(Tampered):
            open_value(DEK, INLINE, wrong, commitment)


@pytest.mark.parametrize(
    "ctx",
    [
        value_context(b"x" * 16, SCOPE, (7, 1), 1_000, FORM_INLINE),
        value_context(VAULT, b"x" * 16, (7, 1), 1_000, FORM_INLINE),
        value_context(VAULT, SCOPE, (8, 1), 1_000, FORM_INLINE),
        value_context(VAULT, SCOPE, (7, 2), 1_000, FORM_INLINE),
        value_context(VAULT, SCOPE, (7, 1), 1_001, FORM_INLINE),
        value_context(VAULT, SCOPE, (7, 1), 1_000, FORM_CHUNKED),
    ],
    ids=["vault", "scope", "record", "version", "created", "form"],
)
def test_a_value_opens_at_its_own_place_only(ctx: bytes) -> None:
    row, commitment = seal_value(DEK, INLINE, KIND_BYTES, b"canary")
    with pytest.raises(Tampered):
        open_value(DEK, ctx, row, commitment)


def test_refuses_another_data_key_and_another_commitment() -> None:
    row, commitment = seal_value(DEK, INLINE, KIND_BYTES, b"canary")
    with pytest.raises(Tampered):
        open_value(bytes(32), INLINE, row, commitment)
    for wrong in [b"", commitment[:31], bytes(32), commitment + b"\x00"]:
        with pytest.raises(Tampered):
            open_value(DEK, INLINE, row, wrong)


def test_a_swapped_record_with_the_commitment_of_the_first_is_refused() -> None:
    _row, commitment = seal_value(DEK, INLINE, KIND_BYTES, b"canary")
    other, other_commitment = seal_value(bytes(32), INLINE, KIND_BYTES, b"another")
    with pytest.raises(Tampered):
        open_value(bytes(32), INLINE, other, commitment)
    assert open_value(bytes(32), INLINE, other, other_commitment)[1] == b"another"


@pytest.mark.parametrize(
    "plaintext",
    [
        b"",
        bytes(8),
        bytes(9),
        bytes(63),
        bytes(65),
        (56).to_bytes(8) + bytes(56),
        (2**64 - 1).to_bytes(8) + bytes(56),
        (1).to_bytes(8) + b"\x00" + b"x" + bytes(53) + b"\x01",
        (1).to_bytes(8) + b"\x00" + b"x" + b"\x01" + bytes(53),
        (1).to_bytes(8) + b"\x00" + b"x" + bytes(70),
    ],
    ids=[
        "empty",
        "no kind",
        "not padded",
        "padded too little",
        "padded too much",
        "one byte longer than there is",
        "much longer than there is",
        "last byte of the padding set",
        "first byte of the padding set",
        "padded to another size",
    ],
)
def test_refuses_a_plaintext_that_is_not_padded_as_the_format_says(plaintext: bytes) -> None:
    row, commitment = seal_plaintext(plaintext)
    with pytest.raises(Tampered):
        open_value(DEK, INLINE, row, commitment)


def test_an_inline_value_has_at_most_65536_bytes() -> None:
    with pytest.raises(ValueTooLarge):
        seal_value(DEK, INLINE, KIND_BYTES, bytes(INLINE_LIMIT_BYTES + 1))


def test_one_value_key_opens_again_and_again() -> None:
    key = ValueKey(DEK, INLINE)
    row, commitment = seal_value(DEK, INLINE, KIND_TEXT, b"canary")
    assert key.commitment == commitment
    assert {key.open(row, key.commitment) for _ in range(3)} == {(KIND_TEXT, b"canary")}


# --- chunked ----------------------------------------------------------------------------------------------------------


def seal_rows(content: bytes) -> tuple[ChunkedValueKey, list[bytes]]:
    key = ChunkedValueKey(DEK, CHUNKED)
    return key, list(key.seal(KIND_BYTES, len(content), [content]))


def read(key: ChunkedValueKey, rows: list[bytes]) -> bytes:
    return b"".join(key.open(key.record, key.commitment, rows))


# The sizes at which a message gains a chunk or a row: the padded plaintext has a whole number of either.
@given(size=st.integers(0, 3 * ROW), piece=st.integers(1_000, 300_000))
@example(size=ROW - 9, piece=65_536)
@example(size=2 * ROW - 9, piece=1 << 20)
@example(size=0, piece=1)
def test_a_chunked_value_opens_however_it_was_fed(size: int, piece: int) -> None:
    content = hashlib.shake_128(b"content").digest(size)
    key = ChunkedValueKey(DEK, CHUNKED)
    pieces = [content[start : start + piece] for start in range(0, size, piece)]
    rows = list(key.seal(KIND_TEXT, size, pieces))
    assert len(rows) == count_value_rows(size)
    assert all(len(row) <= 512 * 1024 for row in rows)
    opened = key.open(key.record, key.commitment, rows)
    assert (opened.kind, opened.length) == (KIND_TEXT, size)
    assert b"".join(opened) == content


def test_a_chunked_record_is_type_suite_form_flags_and_commitment() -> None:
    key = ChunkedValueKey(DEK, CHUNKED)
    assert key.record == b"\x56\x01\x02\x00" + expand(DEK, Label.DEK, CHUNKED, 64)[32:]


def test_neither_side_holds_more_than_a_row() -> None:
    key = ChunkedValueKey(DEK, CHUNKED)
    size = 40 * ROW
    fed = 0

    def source() -> Iterator[bytes]:
        nonlocal fed
        for _ in range(size // 65_536):
            fed += 65_536
            yield bytes(65_536)

    taken = 0

    def rows() -> Iterator[bytes]:
        nonlocal taken
        for row in key.seal(KIND_BYTES, size, source()):
            assert fed <= taken + 2 * ROW
            taken += ROW
            yield row

    opened = 0
    for piece in key.open(key.record, key.commitment, rows()):
        opened += len(piece)
        assert taken <= opened + 2 * ROW
    assert opened == size


def test_refuses_a_record_or_commitment_that_was_changed() -> None:
    key, rows = seal_rows(b"canary")
    for position in range(len(key.record)):
        altered = key.record[:position] + bytes((key.record[position] ^ 1,)) + key.record[position + 1 :]
        with pytest.raises(Tampered):
            key.open(altered, key.commitment, rows)
    for record, commitment in [(key.record + b"\x00", key.commitment), (key.record, bytes(32)), (b"", b"")]:
        with pytest.raises(Tampered):
            key.open(record, commitment, rows)


def test_refuses_rows_that_were_altered_swapped_dropped_doubled_or_cut_elsewhere() -> None:
    content = hashlib.shake_128(b"content").digest(3 * ROW + 5_000)
    key, rows = seal_rows(content)
    assert len(rows) == 4
    assert read(key, rows) == content
    flipped = rows[2][:-1] + bytes((rows[2][-1] ^ 1,))
    wrong = {
        "none": [],
        "only the first": rows[:1],
        "last dropped": rows[:3],
        "first dropped": rows[1:],
        "middle dropped": [rows[0], *rows[2:]],
        "swapped": [rows[0], rows[2], rows[1], rows[3]],
        "doubled": [*rows[:2], *rows[1:]],
        "last doubled": [*rows, rows[3]],
        "extended by nothing": [*rows, b""],
        "last extended": [*rows[:3], rows[3] + b"\x00"],
        "last cut": [*rows[:3], rows[3][:-1]],
        "last cut in a tag": [*rows[:3], rows[3][:10]],
        "altered": [*rows[:2], flipped, rows[3]],
        "cut elsewhere": [rows[0] + rows[1][:16400], rows[1][16400:], *rows[2:]],
        "joined": [rows[0], rows[1] + rows[2], rows[3]],
        "split": [rows[0], rows[1][:16400], rows[1][16400:], *rows[2:]],
        "header only": [rows[0][:56]],
        "salt only": [rows[0][:24]],
    }
    for name, altered in wrong.items():
        with pytest.raises(Tampered):
            pytest.fail(f"{name} gave {len(read(key, altered))} bytes")


def test_a_chunked_value_opens_at_its_own_place_only() -> None:
    key, rows = seal_rows(b"canary")
    elsewhere = ChunkedValueKey(DEK, value_context(VAULT, SCOPE, (7, 2), 1_000, FORM_CHUNKED))
    with pytest.raises(Tampered):
        elsewhere.open(elsewhere.record, elsewhere.commitment, rows)
    assert read(key, rows) == b"canary"


@pytest.mark.parametrize(
    "plaintext",
    [
        b"",
        bytes(8),
        bytes(9),
        bytes(63),
        bytes(65),
        (56).to_bytes(8) + bytes(56),
        (1).to_bytes(8) + b"\x00x" + bytes(53) + b"\x01",
        (70_000).to_bytes(8) + bytes(70_000),
        (300_000).to_bytes(8) + bytes(300_001) + b"\x01" + bytes(padded_length(300_009) - 300_010),
    ],
    ids=[
        "empty",
        "no kind",
        "not padded",
        "padded too little",
        "padded too much",
        "one byte longer than there is",
        "last byte of the padding set",
        "large and not padded",
        "padding of the second row set",
    ],
)
def test_refuses_a_chunked_plaintext_that_is_not_padded_as_the_format_says(plaintext: bytes) -> None:
    key = ChunkedValueKey(DEK, CHUNKED)
    rows = list(ChunkSealer(expand(DEK, Label.DEK, CHUNKED, 64)[:32], CHUNKED).seal([plaintext]))
    with pytest.raises(Tampered):
        read(key, rows)


@pytest.mark.parametrize("pieces", [[], [b"12345"], [b"123456", b"7"], [b"1234567"], [b"123456", b"", b"78"]])
def test_refuses_a_source_that_does_not_have_the_size_announced(pieces: list[bytes]) -> None:
    key = ChunkedValueKey(DEK, CHUNKED)
    with pytest.raises(UsageError) as refused:
        list(key.seal(KIND_BYTES, 6, pieces))
    assert "6 bytes" in refused.value.message
    assert refused.value.hint


def test_a_value_has_at_most_one_gibibyte() -> None:
    with pytest.raises(ValueTooLarge):
        ChunkedValueKey(DEK, CHUNKED).seal(KIND_BYTES, CHUNKED_LIMIT_BYTES + 1, [])


def test_a_message_stops_at_the_last_chunk_that_the_counter_has() -> None:
    from securecfg.crypto.chunked import _ChunkStream

    stream = _ChunkStream(bytes(32), bytes(24), b"")
    stream._counter = 2**38 - 1
    stream.seal_row(memoryview(b"the last"))
    with pytest.raises(OverflowError):
        stream.seal_row(memoryview(b"one too many"))
