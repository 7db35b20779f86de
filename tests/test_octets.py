"""Length-prefixed fields: what is written is read, and nothing that is cut off or goes on is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securecfg.octets import Cursor, Malformed, pad, var8, var16, var32


@given(st.binary(max_size=255), st.binary(max_size=400), st.binary(max_size=400))
def test_reads_what_was_written(first: bytes, second: bytes, third: bytes) -> None:
    cursor = Cursor(var8(first) + var16(second) + var32(third) + b"\x01" + bytes(7) + b"\x02")
    assert (cursor.var8(), cursor.var16(), cursor.var32(), cursor.u64(), cursor.u8()) == (
        first,
        second,
        third,
        1 << 56,
        2,
    )
    cursor.finish()


@given(st.binary(max_size=40), st.data())
def test_refuses_what_is_cut_off(content: bytes, data: st.DataObject) -> None:
    whole = var32(content)
    cut = whole[: data.draw(st.integers(0, len(whole) - 1))]
    with pytest.raises(Malformed):
        Cursor(cut).var32()


def test_refuses_what_follows() -> None:
    with pytest.raises(Malformed):
        Cursor(b"x").finish()
    with pytest.raises(Malformed):
        Cursor(b"\x01\xff").str8()
    with pytest.raises(Malformed):
        Cursor(b"\x00\x01\xff").str16()


@given(st.binary(max_size=100), st.integers(1, 64))
def test_pads_to_a_multiple(content: bytes, multiple: int) -> None:
    padded = pad(content, multiple)
    assert len(padded) % multiple == 0
    assert len(padded) - len(content) < multiple
    assert padded.startswith(content)


@given(st.binary(max_size=100), st.integers(1, 64), st.integers(-64, 64).filter(bool))
def test_takes_the_fewest_zeros_as_padding_and_no_others(content: bytes, multiple: int, more: int) -> None:
    padded = pad(content, multiple)
    Cursor(padded, len(content)).finish_padding(multiple)
    other = padded[: max(len(content), len(padded) + more)] + bytes(max(0, more))
    if other != padded:
        with pytest.raises(Malformed):
            Cursor(other, len(content)).finish_padding(multiple)


@pytest.mark.parametrize("tail", [b"\x00\x00\x01", b"\x01\x00\x00", b"\x00\x00", bytes(7), bytes(67)])
def test_padding_is_zero_and_reaches_the_nearest_multiple(tail: bytes) -> None:
    Cursor(b"x" + bytes(3), 1).finish_padding(4)
    with pytest.raises(Malformed):
        Cursor(b"x" + tail, 1).finish_padding(4)
