"""Data keys of sealed scopes: wrapped by readers, or sealed to the public half by those who only write."""

from __future__ import annotations

import pytest

from securecfg.crypto import (
    DEK_FORM_GRANTED,
    DekWrap,
    KeyBytes,
    KeyWrap,
    dek_context,
    generate_key,
    hybrid_public_key,
    open_granted_dek,
    parse_dek,
    seal_dek,
    seal_to,
)
from securecfg.errors import Tampered

VAULT = b"v" * 16
CONTEXT = dek_context(VAULT, bytes(16), 3, 7)
PRIVATE = KeyBytes(b"p" * 96)
WRAP = KeyWrap(b"w" * 64)


def test_both_forms_open_for_a_reader_in_their_place_only() -> None:
    dek = generate_key()
    rows = (
        DekWrap(WRAP, VAULT, bytes(16), 3, DEK_FORM_GRANTED).seal(dek, 7),
        seal_dek(hybrid_public_key(PRIVATE), 3, dek, CONTEXT),
    )
    assert [parse_dek(row) for row in rows] == [(2, 3), (3, 3)]
    elsewhere = dek_context(VAULT, bytes(16), 3, 8)
    for row in rows:
        assert open_granted_dek(row, CONTEXT, WRAP, PRIVATE) == dek
        with pytest.raises(Tampered):
            open_granted_dek(row, elsewhere, WRAP, PRIVATE)
        with pytest.raises(Tampered):
            open_granted_dek(row[:-1] + bytes((row[-1] ^ 1,)), CONTEXT, WRAP, PRIVATE)
    with pytest.raises(Tampered):
        open_granted_dek(rows[0], CONTEXT, KeyWrap(b"x" * 64), PRIVATE)
    with pytest.raises(Tampered):
        open_granted_dek(rows[1], CONTEXT, WRAP, KeyBytes(b"q" * 96))


def test_a_sealed_data_key_has_its_size() -> None:
    row = b"\x03\x01" + (3).to_bytes(4) + seal_to(hybrid_public_key(PRIVATE), b"x" * 31, CONTEXT)
    with pytest.raises(Tampered, match="size"):
        open_granted_dek(row, CONTEXT, WRAP, PRIVATE)


@pytest.mark.parametrize("form", [1, 2, 3])
def test_rows_of_no_form_are_refused(form: int) -> None:
    size = 1_174 if form == 3 else 54
    whole = bytes((form, 1)) + (5).to_bytes(4) + bytes(size - 6)
    assert parse_dek(whole) == (form, 5)
    for bad in (
        whole[:-1],
        whole + b"x",
        b"\x00" + whole[1:],
        b"\x04" + whole[1:],
        whole[:1] + b"\x02" + whole[2:],
        b"",
    ):
        with pytest.raises(Tampered, match="malformed"):
            parse_dek(bad)
