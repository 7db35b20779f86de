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
from securecfg.vault.backups.format import (
    SEALED_KEY_BYTES,
    End,
    PartHeader,
    PartSlot,
    item_to_bytes,
    parse_items,
    partition_to_bytes,
)
from securecfg.vault.backups.inventory import (
    Holding,
    Runs,
    digest_of_grants,
    inventory_to_bytes,
    mark_of,
    parse_inventory,
    pieces_of,
    runs_of,
)

ids = st.sets(st.integers(0, 2**63 - 1) | st.integers(0, 40), min_size=1, max_size=60)
rows_spaces = st.sampled_from([space for space in Space if space is not Space.TILE])
grouped = st.sampled_from([space for space in Space if space not in {Space.TILE, Space.META, Space.GRANT}])
digests = st.integers(0, 255).map(lambda byte: bytes((byte,)) * 32)
GROUP = bytes((3, 0, 0, 0, 0)) + (1).to_bytes(8)
PART = 5


@st.composite
def holdings(draw: st.DrawFn) -> tuple[Holding, ...]:
    numbers = [0, *sorted(draw(st.sets(st.integers(1, 2**31 - 1), max_size=2)))]
    held = []
    for number in numbers:
        part = draw(st.integers(1, PART)) if number else PART
        found: dict[tuple[Space, int], set[int]] = draw(
            st.dictionaries(st.tuples(grouped, st.integers(0, 2**32 - 1)), ids, max_size=3)
        )
        runs: Runs = {group: runs_of(sorted(each)) for group, each in found.items()}
        assert {group: {id_ for run in each for id_ in run} for group, each in runs.items()} == found
        held.append(
            Holding(
                number,
                draw(digests)[:16],
                draw(st.sampled_from(["", "pay/", "é/b/"])) if number else "",
                draw(digests),
                part,
                draw(digests),
                draw(st.integers(1, part)),
                runs,
                {
                    group: [draw(st.binary(min_size=8, max_size=8)) * len(list(pieces_of(run))) for run in each]
                    for group, each in runs.items()
                }
                if number
                else {},
            )
        )
    return tuple(held)


@given(holdings())
def test_an_inventory_is_read_as_it_was_written(inventory: tuple[Holding, ...]) -> None:
    raw = inventory_to_bytes(inventory)
    assert parse_inventory(raw, PART) == inventory
    assert inventory_to_bytes(parse_inventory(raw, PART)) == raw


def line(number: int = 0, part: int = PART, grants_part: int = PART) -> bytes:
    """Return the line of a partition, up to its groups."""
    front = number.to_bytes(4) + bytes(16) + b"\x00\x00"
    return front + bytes(32) + part.to_bytes(4) + bytes(32) + grants_part.to_bytes(4)


NO_ROWS = b"\x00\x00"


@pytest.mark.parametrize(
    "groups",
    [
        b"",
        b"\x00",
        NO_ROWS + b"more",
        b"\x00\x01" + GROUP,
        b"\x00\x01" + GROUP + b"\x05",
        b"\x00\x01" + GROUP + b"\x05\x00",
        b"\x00\x01" + GROUP + b"\x85\x00\x01",
        b"\x00\x01" + GROUP + b"\x80" * 10 + b"\x01\x01",
        b"\x00\x01" + GROUP + b"\xff" * 9 + b"\x01\x01",
        b"\x00\x01" + GROUP + b"\x05\x01more",
        *(b"\x00\x01" + bytes((space,)) + GROUP[1:] + b"\x05\x01" for space in (0, 7, 8, 11, 99)),
        b"\x00\x02" + (GROUP + b"\x05\x01") * 2,
        b"\x00\x01" + GROUP[:5] + (2).to_bytes(8) + b"\x05\x01\x00\x01",
        b"\x00\x01" + GROUP[:5] + b"\xff" * 8,
    ],
)
def test_refuses_rows_of_an_inventory_that_are_written_otherwise(groups: bytes) -> None:
    assert parse_inventory(bytes((0, 0, 0, 1)) + line() + NO_ROWS, PART)
    with pytest.raises(BackupAltered):
        parse_inventory(bytes((0, 0, 0, 1)) + line() + groups, PART)


@pytest.mark.parametrize(
    "run",
    [b"\x05\x01", b"\x05\x01" + bytes(7), b"\x05\x01" + bytes(9), b"\x05\x41" + bytes(8), b"\x05\x40" + bytes(16)],
)
def test_refuses_rows_of_a_partition_that_have_not_the_marks_of_their_number(run: bytes) -> None:
    def raw(run: bytes) -> bytes:
        return bytes((0, 0, 0, 2)) + line() + NO_ROWS + line(1) + b"\x00\x01" + GROUP + run

    assert parse_inventory(raw(b"\x05\x41" + bytes(16)), PART)[1].runs == {(Space.VALUE, 0): [range(5, 70)]}
    with pytest.raises(BackupAltered):
        parse_inventory(raw(run), PART)


def test_a_mark_tells_rows_from_others() -> None:
    assert [len(piece) for piece in pieces_of(range(5, 140))] == [64, 64, 7]
    assert mark_of([bytes(32)]) != mark_of([bytes(32)] * 2)
    assert len(mark_of([])) == 8


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [line(1)],
        [line(), line()],
        [line(), line(2), line(1)],
        [line(), line(2), line(2)],
        [line(), line(2**31)],
        [line(), line(2**32 - 1)],
        [line(part=PART - 1, grants_part=1)],
        [line(), line(1, part=0)],
        [line(), line(1, part=PART + 1)],
        [line(), line(1, grants_part=0)],
        [line(), line(1, part=2, grants_part=3)],
    ],
)
def test_refuses_an_inventory_of_what_cannot_be(lines: list[bytes]) -> None:
    raw = len(lines).to_bytes(4) + b"".join(each + NO_ROWS for each in lines)
    with pytest.raises(BackupAltered):
        parse_inventory(raw, PART)


def test_the_hash_of_grants_binds_ids_rows_and_their_edges() -> None:
    some = [[], [(1, b"ab")], [(1, b"a")], [(2, b"ab")], [(1, b"a"), (2, b"b")], [(1, b"ab"), (2, b"")]]
    assert len({digest_of_grants(rows) for rows in some}) == len(some)


@given(
    st.lists(
        st.tuples(st.integers(0, 2**31 - 1), rows_spaces, st.integers(0, 2**63 - 1), st.binary(max_size=50)), max_size=8
    ),
    st.integers(1, 40),
)
def test_rows_are_read_wherever_the_message_is_cut(rows: list[tuple[int, Space, int, bytes]], width: int) -> None:
    raw = b"".join(partition_to_bytes(number) + item_to_bytes(space, id_, row) for number, space, id_, row in rows)
    pieces = [raw[start : start + width] for start in range(0, len(raw), width)]
    assert list(parse_items(pieces)) == rows


def test_rows_are_of_the_vault_until_a_partition_is_named() -> None:
    row = item_to_bytes(Space.VALUE, 1, b"row")
    raw = row + partition_to_bytes(7) + row + row + partition_to_bytes(0) + row
    assert [number for number, *_ in parse_items([raw])] == [0, 7, 7, 0]


@pytest.mark.parametrize(
    "raw",
    [
        b"\x00",
        item_to_bytes(Space.VALUE, 1, b"row")[:-1],
        item_to_bytes(Space.TILE, 1, b"row"),
        b"\x0b" + item_to_bytes(Space.VALUE, 1, b"row")[1:],
        item_to_bytes(Space.VALUE, 2**63, b"row"),
        partition_to_bytes(2**31),
        b"\xff" + item_to_bytes(Space.VALUE, 1, b"row")[1:],
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
    end = End(1, root, KeyBytes(bytes(32)), 2, bytes(32), bytes(32), ((0, b"head"), (7, b"another")))
    assert End.parse(end.to_bytes()) == end
    for raw in (end.to_bytes() + b"more", end.to_bytes()[:-1], b""):
        with pytest.raises(BackupAltered) as refused:
            End.parse(raw)
        shown = traceback.TracebackException.from_exception(refused.value, capture_locals=True)
        frames = [frame for frame in shown.stack if frame.filename.endswith("securecfg/vault/backups/format.py")]
        assert frames
        assert not any("canary-root" in text for frame in frames for text in (frame.locals or {}).values())
