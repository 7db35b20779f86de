"""Section 5.1 of the format: wrapped data keys."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securecfg.crypto import DekRewrap, DekWrap, KeyWrap, dek_context, parse_dek_epoch, unwrap_dek
from securecfg.errors import Tampered

VAULT = bytes(range(16))
SCOPE = bytes(16)
DEK = bytes(range(32))
CTX = dek_context(VAULT, SCOPE, 3, 7)


def read(row: bytes) -> bytes:
    """As a reader does: the epoch comes from the row, and the context from the epoch."""
    return unwrap_dek(KeyWrap(bytes(64)), row, dek_context(VAULT, SCOPE, parse_dek_epoch(row), 7))


def test_a_row_has_54_bytes_and_names_form_suite_and_epoch() -> None:
    row = DekWrap(KeyWrap(bytes(64)), VAULT, SCOPE, 3).seal(DEK, 7)
    assert len(row) == 54
    assert row[:6] == b"\x01\x01\x00\x00\x00\x03"
    assert parse_dek_epoch(row) == 3
    assert read(row) == DEK


def test_refuses_a_row_in_which_any_bit_was_flipped() -> None:
    row = DekWrap(KeyWrap(bytes(64)), VAULT, SCOPE, 3).seal(DEK, 7)
    for position in range(len(row)):
        for bit in range(8):
            altered = bytearray(row)
            altered[position] ^= 1 << bit
            with pytest.raises(Tampered):
                read(bytes(altered))


def test_refuses_every_truncation_and_an_extension() -> None:
    row = DekWrap(KeyWrap(bytes(64)), VAULT, SCOPE, 3).seal(DEK, 7)
    for wrong in [*(row[:size] for size in range(54)), row + b"\x00", row * 10_000]:
        with pytest.raises(Tampered):
            unwrap_dek(KeyWrap(bytes(64)), wrong, CTX)
        with pytest.raises(Tampered):
            parse_dek_epoch(wrong)


@pytest.mark.parametrize(
    "ctx",
    [
        dek_context(b"x" * 16, SCOPE, 3, 7),
        dek_context(VAULT, b"x" * 16, 3, 7),
        dek_context(VAULT, SCOPE, 4, 7),
        dek_context(VAULT, SCOPE, 3, 8),
    ],
    ids=["vault", "scope", "epoch", "row"],
)
def test_a_data_key_opens_at_its_own_place_only(ctx: bytes) -> None:
    row = DekWrap(KeyWrap(bytes(64)), VAULT, SCOPE, 3).seal(DEK, 7)
    with pytest.raises(Tampered):
        unwrap_dek(KeyWrap(bytes(64)), row, ctx)


def test_refuses_another_key() -> None:
    with pytest.raises(Tampered):
        KeyWrap(b"x" * 64).unwrap(KeyWrap(bytes(64)).wrap(DEK, CTX), CTX)


@pytest.mark.parametrize("size", [0, 16, 47, 49, 1_000_000])
def test_refuses_a_wrapped_key_of_another_size(size: int) -> None:
    with pytest.raises(Tampered):
        KeyWrap(bytes(64)).unwrap(bytes(size), CTX)


@pytest.mark.parametrize("size", [0, 31, 33, 64])
def test_wraps_keys_of_32_bytes_only(size: int) -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        KeyWrap(bytes(64)).wrap(bytes(size), CTX)
    with pytest.raises(ValueError, match="32 bytes"):
        DekWrap(KeyWrap(bytes(64)), VAULT, SCOPE, 3).seal(bytes(size), 7)


def test_a_data_key_that_is_wrapped_anew_is_as_if_the_new_key_had_wrapped_it_at_once() -> None:
    old, new = (KeyWrap(bytes(64)), 3), (KeyWrap(b"n" * 64), 4)
    row, wanted = (DekWrap(key, VAULT, SCOPE, epoch).seal(DEK, 7) for key, epoch in (old, new))
    rewrap = DekRewrap(VAULT, SCOPE, old, new)
    assert rewrap.rewrap(7, row) == wanted
    for dek_id, other in ((8, row), (7, row[:-1] + bytes((row[-1] ^ 1,))), (7, row[:-1]), (7, wanted)):
        with pytest.raises(Tampered, match=f"the data key {dek_id} does not match"):
            rewrap.rewrap(dek_id, other)
    for elsewhere in (DekRewrap(bytes(16), SCOPE, old, new), DekRewrap(VAULT, b"s" * 16, old, new)):
        with pytest.raises(Tampered):
            elsewhere.rewrap(7, row)


@pytest.mark.parametrize("size", [0, 32, 48, 63, 65])
def test_refuses_a_wrapping_key_of_another_size(size: int) -> None:
    with pytest.raises(ValueError, match="64 bytes"):
        KeyWrap(bytes(size))


@given(
    siv_key=st.binary(min_size=64, max_size=64), key=st.binary(min_size=32, max_size=32), ctx=st.binary(max_size=200)
)
def test_what_was_wrapped_unwraps(siv_key: bytes, key: bytes, ctx: bytes) -> None:
    wrapped = KeyWrap(siv_key).wrap(key, ctx)
    assert len(wrapped) == 48
    assert KeyWrap(siv_key).unwrap(wrapped, ctx) == key


def test_one_object_serves_many_threads() -> None:
    wrap = KeyWrap(os.urandom(64))

    def work(number: int) -> bool:
        key, ctx = number.to_bytes(32), number.to_bytes(90)
        return all(wrap.unwrap(wrap.wrap(key, ctx), ctx) == key for _ in range(200))

    with ThreadPoolExecutor(32) as pool:
        assert all(pool.map(work, range(64)))
