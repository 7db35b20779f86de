"""The layout of a part of a backup, sentence by sentence of section 13 of the format; most of it must be refused."""

from __future__ import annotations

import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securecfg.crypto import KeyBytes
from securecfg.errors import BackupAltered, NotABackup, SecurecfgError, UnsupportedFormat
from securecfg.keys import seal_slot
from securecfg.keys.providers.recovery import RecoveryProvider
from securecfg.keys.recovery import generate_recovery_code
from securecfg.store import Space
from securecfg.vault.backup_format import (
    SEALED_KEY_BYTES,
    End,
    PartHeader,
    PartSlot,
    inventory_to_bytes,
    item_to_bytes,
    parse_inventory,
    parse_items,
    runs_of,
)

ids = st.sets(st.integers(0, 2**63 - 1) | st.integers(0, 40), min_size=1, max_size=60)
spaces = st.sampled_from([space for space in Space if space is not Space.TILE])
GROUP = bytes((3, 0, 0, 0, 0)) + (1).to_bytes(8)


@given(st.dictionaries(st.tuples(spaces, st.integers(0, 2**32 - 1)), ids, max_size=5))
def test_an_inventory_is_read_as_it_was_written(found: dict[tuple[Space, int], set[int]]) -> None:
    inventory = {group: runs_of(sorted(numbers)) for group, numbers in found.items()}
    raw = inventory_to_bytes(inventory)
    assert parse_inventory(raw) == inventory
    assert {group: {id_ for run in runs for id_ in run} for group, runs in inventory.items()} == found
    assert inventory_to_bytes(parse_inventory(raw)) == raw


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x00",
        b"\x00\x00more",
        b"\x00\x01" + GROUP,
        b"\x00\x01" + GROUP + b"\x05",
        b"\x00\x01" + GROUP + b"\x05\x00",
        b"\x00\x01" + GROUP + b"\x85\x00\x01",
        b"\x00\x01" + GROUP + b"\x80" * 10 + b"\x01\x01",
        b"\x00\x01" + GROUP + b"\xff" * 9 + b"\x01\x01",
        b"\x00\x01" + GROUP + b"\x05\x01more",
        b"\x00\x01\x07" + GROUP[1:] + b"\x05\x01",
        b"\x00\x01\x63" + GROUP[1:] + b"\x05\x01",
        b"\x00\x02" + (GROUP + b"\x05\x01") * 2,
        b"\x00\x01" + GROUP[:5] + (2).to_bytes(8) + b"\x05\x01\x00\x01",
        b"\x00\x01" + GROUP[:5] + b"\xff" * 8,
    ],
)
def test_refuses_an_inventory_that_is_written_otherwise(raw: bytes) -> None:
    with pytest.raises(BackupAltered):
        parse_inventory(raw)


@given(
    st.lists(st.tuples(spaces, st.integers(0, 2**63 - 1), st.binary(max_size=50)), max_size=8),
    st.integers(1, 40),
)
def test_rows_are_read_wherever_the_message_is_cut(rows: list[tuple[Space, int, bytes]], width: int) -> None:
    raw = b"".join(item_to_bytes(*row) for row in rows)
    pieces = [raw[start : start + width] for start in range(0, len(raw), width)]
    assert list(parse_items(pieces)) == rows


@pytest.mark.parametrize(
    "raw",
    [
        b"\x00",
        item_to_bytes(Space.VALUE, 1, b"row")[:-1],
        item_to_bytes(Space.TILE, 1, b"row"),
        b"\x0b" + item_to_bytes(Space.VALUE, 1, b"row")[1:],
        item_to_bytes(Space.VALUE, 2**63, b"row"),
    ],
)
def test_refuses_rows_that_cannot_be(raw: bytes) -> None:
    with pytest.raises(BackupAltered):
        list(parse_items([raw]))


def header() -> PartHeader:
    row = seal_slot(bytes(16), RecoveryProvider(generate_recovery_code())).slot.to_bytes()
    return PartHeader(bytes(16), bytes(range(16)), 1, 5, bytes(32), (PartSlot(row, bytes(SEALED_KEY_BYTES)),))


def test_a_header_is_read_as_it_was_written() -> None:
    raw = header().to_bytes()
    assert PartHeader.parse(raw + b"rows") == (PartHeader.parse(raw)[0], len(raw))
    assert PartHeader.parse(raw)[0].to_bytes() == raw


@pytest.mark.parametrize(
    ("position", "byte", "refused"),
    [
        (0, 0, NotABackup),
        (5, 2, UnsupportedFormat),
        (6, 2, UnsupportedFormat),
        (7, 1, UnsupportedFormat),
        (43, 0, NotABackup),
        (85, 0, NotABackup),
        (85, 2, NotABackup),
        (86, 255, NotABackup),
    ],
)
def test_refuses_a_header_that_cannot_be(position: int, byte: int, refused: type[SecurecfgError]) -> None:
    raw = bytearray(header().to_bytes())
    raw[position] = byte
    with pytest.raises(refused):
        PartHeader.parse(bytes(raw))


def test_an_end_that_is_malformed_shows_no_key() -> None:
    root = KeyBytes(b"canary-root-0123456789abcdefghij")
    end = End(1, root, KeyBytes(bytes(32)), 2, bytes(32), bytes(32), b"head")
    assert End.parse(end.to_bytes()) == end
    for raw in (end.to_bytes() + b"more", end.to_bytes()[:-1], b""):
        with pytest.raises(BackupAltered) as refused:
            End.parse(raw)
        shown = traceback.TracebackException.from_exception(refused.value, capture_locals=True)
        frames = [frame for frame in shown.stack if frame.filename.endswith("securecfg/vault/backup_format.py")]
        assert frames
        assert not any("canary-root" in text for frame in frames for text in (frame.locals or {}).values())
