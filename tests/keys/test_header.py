"""Section 4.1 of the format."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securecfg.errors import NotAVault, SecurecfgError, Tampered, UnsupportedFormat
from securecfg.keys import Header, build_header

ROOT = bytes(range(32))
VAULT = bytes(range(16))
LOG_KEY = bytes(range(64, 96))
ROWS = {256: b"a" * 256, 300: b"b" * 256, 512: b"c" * 1_186, 556: b"d" * 1_186}
ROW = build_header(ROOT, ROWS, vault_id=VAULT, generation=7, first_log_key=LOG_KEY, created_ns=1_000)


def changed(offset: int, content: bytes) -> bytes:
    return ROW[:offset] + content + ROW[offset + len(content) :]


def test_a_header_is_laid_out_as_the_format_says() -> None:
    assert len(ROW) == 112
    assert ROW[:80] == (
        b"SCFG"
        + struct.pack(">HHHBB", 1, 1, 1, 1, 0)
        + VAULT
        + struct.pack(">HHQ", 2, 0, 7)
        + LOG_KEY
        + struct.pack(">Q", 1_000)
    )


def test_what_was_built_parses_and_verifies() -> None:
    header = Header.parse(ROW)
    header.verify(ROOT, ROWS)
    assert header == Header(VAULT, 2, 7, LOG_KEY, 1_000, is_writable=True, row=ROW)


def test_no_byte_can_be_changed_unnoticed() -> None:
    for position in range(len(ROW)):
        for bit in range(8):
            altered = changed(position, bytes((ROW[position] ^ 1 << bit,)))
            with pytest.raises((NotAVault, UnsupportedFormat, Tampered)):
                Header.parse(altered).verify(ROOT, ROWS)


@pytest.mark.parametrize(
    "rows",
    [
        {},
        {256: ROWS[256], 512: ROWS[512]},
        ROWS | {300: b"c" * 256},
        ROWS | {556: b"c" * 1_186},
        ROWS | {256: ROWS[300], 300: ROWS[256]},
        ROWS | {512: ROWS[556], 556: ROWS[512]},
        ROWS | {301: b"c" * 256, 557: b"c" * 1_186},
    ],
    ids=["none", "one missing", "slot altered", "root altered", "slots swapped", "roots swapped", "one more"],
)
def test_a_header_vouches_for_exactly_its_slots(rows: dict[int, bytes]) -> None:
    with pytest.raises(Tampered) as refused:
        Header.parse(ROW).verify(ROOT, rows)
    assert refused.value.hint


@pytest.mark.parametrize(
    "rows",
    [
        {256: b"a", 300: b"b", 512: b"c"},
        {256: b"a", 300: b"b"},
        {256: b"a", 300: b"b", 512: b"c", 556: b"d", 557: b"e"},
        {256: b"a", 300: b"b", 512: b"c", 557: b"d"},
    ],
    ids=["a root missing", "no root", "a root more", "a root elsewhere"],
)
def test_each_slot_has_a_root_and_each_root_a_slot(rows: dict[int, bytes]) -> None:
    row = build_header(ROOT, rows, vault_id=VAULT, generation=7, first_log_key=LOG_KEY, created_ns=1_000)
    with pytest.raises(Tampered):
        Header.parse(row).verify(ROOT, rows)


def test_slots_count_in_the_order_of_their_ids_whatever_the_order_they_come_in() -> None:
    Header.parse(ROW).verify(ROOT, dict(reversed(ROWS.items())))


def test_another_root_key_does_not_verify() -> None:
    with pytest.raises(Tampered):
        Header.parse(ROW).verify(bytes(32), ROWS)


@pytest.mark.parametrize(
    "row",
    [
        b"",
        b"SCF",
        b"SQLite format 3\x00",
        ROW[:111],
        ROW + b"\x00",
        b"SCFG",
        changed(0, b"scfg"),
        changed(4, b"\x00\x00"),
    ],
    ids=["empty", "short", "another file", "cut off", "extended", "magic only", "lower case", "format 0"],
)
def test_what_is_not_a_header_is_not_a_vault(row: bytes) -> None:
    with pytest.raises(NotAVault):
        Header.parse(row)


@pytest.mark.parametrize(
    "row",
    [
        changed(6, b"\x00\x02"),
        changed(6, b"\x00\x02") + bytes(100),
        changed(10, b"\x02"),
        changed(11, b"\x01"),
        changed(30, b"\x00\x01"),
    ],
    ids=["newer readers only", "newer readers only, another size", "suite", "flags", "reserved"],
)
def test_what_a_newer_version_wrote_is_unsupported(row: bytes) -> None:
    with pytest.raises(UnsupportedFormat) as refused:
        Header.parse(row)
    assert "upgrade" in refused.value.hint


def test_a_vault_for_newer_writers_is_read_only() -> None:
    assert not Header.parse(changed(8, b"\x00\x02")).is_writable
    assert Header.parse(changed(4, b"\x00\x02")).is_writable


@given(st.binary(max_size=200))
def test_random_bytes_give_a_named_error(row: bytes) -> None:
    with pytest.raises(SecurecfgError):
        Header.parse(b"SCFG" + row).verify(ROOT, ROWS)
