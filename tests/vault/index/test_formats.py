"""Every parser of the index meets what is cut, too long, hostile or garbage."""

from __future__ import annotations

import contextlib
import struct
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securecfg.octets import Malformed, pad
from securecfg.store import ID_LIMIT, Space
from securecfg.vault.index.deltas import Delta, FreedRun, parse_delta, split_changes
from securecfg.vault.index.history import (
    LIVE,
    PAGE_BYTES,
    PAGE_FULL,
    PAGE_MOVED,
    History,
    OlderPage,
    Version,
    check_number,
    count_overflow,
    find_version,
    number_of_label,
    older_page_to_bytes,
    parse_older_page,
)
from securecfg.vault.index.segments import ENTRIES_MAX, Entry, Manifest, Segment, SegmentLine, build_segment
from securecfg.vault.state.anchor import SLOT_SIZE, Anchor, Mark, parse_slot
from securecfg.vault.state.head import Staging, State, build_head, parse_head

if TYPE_CHECKING:
    from collections.abc import Callable


def version(number: int, metadata: bytes = b"") -> Version:
    return Version(number, LIVE, 1, 10, 11, 0, 5, b"c" * 32, 100, 0, 0, "user:ada", "", metadata)


ENTRY = Entry(1, 2, b"d" * 32, 1)
HISTORY = History(
    7,
    b"app/a",
    3,
    3,
    2,
    0,
    (OlderPage(5, b"o" * 32, 1, 1),),
    {"stable": 2},
    (version(3), version(2)),
)
STATE = State(3, 4, 5, 6, b"m" * 32, b"k" * 32, b"h" * 32, 0, b"e" * 32, 1, (Staging(1, 2, 3),))

SEGMENT = build_segment([(b"a", ENTRY), (b"b", ENTRY)])
MANIFEST = Manifest(9, (b"p" * 32,), 2, (SegmentLine(3, b"s" * 32, 2),), (b"a",))
DELTA = Delta(((b"a", ENTRY), (b"b", None)), (FreedRun(3, 4, 5),))
OLDER = older_page_to_bytes(7, 0, (version(1),))
HEAD = build_head(b"note", STATE.to_bytes())

PARSERS: dict[str, tuple[bytes, Callable[[bytes], object]]] = {
    "segment": (SEGMENT, Segment),
    "manifest": (MANIFEST.to_bytes(), lambda raw: Manifest.parse(raw, 9)),
    "delta": (DELTA.to_bytes(), parse_delta),
    "history": (HISTORY.to_bytes(), History.parse),
    "version": (HISTORY.to_bytes(), lambda raw: find_version(raw, 2)),
    "older": (OLDER, lambda raw: parse_older_page(raw, 7, 0)),
    "head": (HEAD, parse_head),
}


def parameters() -> list[object]:
    return [pytest.param(raw, parse, id=name) for name, (raw, parse) in PARSERS.items()]


@pytest.mark.parametrize(("raw", "parse"), parameters())
def test_parses_what_was_made(raw: bytes, parse: Callable[[bytes], object]) -> None:
    parse(raw)


@pytest.mark.parametrize(("raw", "parse"), parameters())
def test_refuses_every_cut_into_the_content(
    raw: bytes, parse: Callable[[bytes], object], request: pytest.FixtureRequest
) -> None:
    content = len(raw.rstrip(b"\x00"))
    if "version" in request.node.callspec.id:
        content -= len(version(2).to_bytes())
    for size in range(content):
        with pytest.raises(Malformed):
            parse(raw[:size])


@pytest.mark.parametrize(("raw", "parse"), [parameter for parameter in parameters() if parameter.id != "version"])  # type: ignore[attr-defined]  # pytest's parameter sets have ids
def test_refuses_what_follows(raw: bytes, parse: Callable[[bytes], object]) -> None:
    with pytest.raises(Malformed):
        parse(raw + b"\x01")
    with pytest.raises(Malformed):
        parse(pad(raw, 512) + b"\x00" * 511 + b"x")


@pytest.mark.parametrize(("raw", "parse"), parameters())
def test_garbage_is_malformed_and_nothing_else(raw: bytes, parse: Callable[[bytes], object]) -> None:
    @given(st.binary(max_size=300))
    def check(garbage: bytes) -> None:
        with contextlib.suppress(Malformed):
            parse(garbage)

    @given(st.integers(0, len(raw.rstrip(b"\x00")) - 1), st.integers(1, 255))
    def check_flip(at: int, by: int) -> None:
        flipped = bytearray(raw)
        flipped[at] ^= by
        with contextlib.suppress(Malformed):
            parse(bytes(flipped))

    check()
    check_flip()


@pytest.mark.parametrize("count", [0, ENTRIES_MAX + 1, 2**32 - 1])
def test_a_segment_with_an_impossible_count_is_refused_before_it_costs_memory(count: int) -> None:
    with pytest.raises(Malformed):
        Segment(struct.pack(">I", count) + SEGMENT[4:])


def test_a_manifest_that_counts_wrongly_is_refused() -> None:
    wrong = Manifest(9, (), 3, MANIFEST.lines, MANIFEST.fences).to_bytes()
    with pytest.raises(Malformed):
        Manifest.parse(wrong, 9)


def test_a_page_of_another_secret_or_place_is_refused() -> None:
    with pytest.raises(Malformed):
        parse_older_page(OLDER, 8, 0)
    with pytest.raises(Malformed):
        parse_older_page(OLDER, 7, 1)


@given(
    st.lists(st.tuples(st.text(max_size=20).map(str.encode), st.booleans()), max_size=20),
    st.lists(st.tuples(st.integers(0, 10), st.integers(0, 2**62), st.integers(0, 2**62)), max_size=5),
)
def test_a_delta_comes_back(changes: list[tuple[bytes, bool]], freed: list[tuple[int, int, int]]) -> None:
    delta = Delta(
        tuple((path, ENTRY if is_set else None) for path, is_set in changes), tuple(FreedRun(*run) for run in freed)
    )
    assert parse_delta(delta.to_bytes()) == delta
    runs = split_changes(delta.changes, 100)
    assert tuple(change for run in runs for change in run) == delta.changes


def test_a_segment_finds_what_follows_an_empty_path() -> None:
    """No program writes one; whoever writes a sealed scope could."""
    paths = [b"", b"\x01charter", b"\x01policy", b"app/a"]
    segment = Segment(build_segment([(path, ENTRY._replace(rec_id=at)) for at, path in enumerate(paths)]))
    assert [entry and entry.rec_id for entry in map(segment.find, paths[1:])] == [1, 2, 3]


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8).map(str.encode), st.integers(0, ID_LIMIT - 1), min_size=1, max_size=50
    )
)
def test_a_segment_comes_back_and_finds(items: dict[bytes, int]) -> None:
    ordered = [(path, Entry(number, number, b"d" * 32, 0)) for path, number in sorted(items.items())]
    segment = Segment(build_segment(ordered))
    assert list(segment.items()) == ordered
    for path, entry in ordered:
        assert segment.find(path) == entry
        assert segment.find(path + b"\x00") == dict(ordered).get(path + b"\x00")


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 31, 32, 33, ENTRIES_MAX - 1, ENTRIES_MAX])
def test_a_segment_of_any_size_finds_all_that_it_holds_and_nothing_else(count: int) -> None:
    """A search begins at every sixteenth path: the sizes are those around the steps."""
    paths = [b"%05d" % (2 * number + 1) for number in range(count)]
    segment = Segment(build_segment([(path, ENTRY._replace(rec_id=at)) for at, path in enumerate(paths)]))
    for number in range(2 * count + 2):
        found = segment.find(b"%05d" % number)
        assert (found.rec_id if found is not None else None) == (
            number // 2 if number % 2 and number < 2 * count else None
        )


def test_what_stands_inside_a_path_or_over_two_of_them_is_no_path() -> None:
    paths = [b"ab", b"abc", b"bc", b"c"]
    segment = Segment(build_segment([(path, ENTRY._replace(rec_id=at)) for at, path in enumerate(paths)]))
    for absent in (b"a", b"b", b"ba", b"bab", b"bcc", b"abab", b"cc"):
        assert segment.find(absent) is None
    for at, path in enumerate(paths):
        assert segment.find(path) == ENTRY._replace(rec_id=at)


@given(st.sets(st.text("ab", min_size=1, max_size=4).map(str.encode), min_size=1), st.text("ab", max_size=5))
def test_paths_that_are_parts_of_others_are_told_apart(paths: set[bytes], wanted: str) -> None:
    entries = {path: ENTRY._replace(rec_id=at) for at, path in enumerate(sorted(paths))}
    assert Segment(build_segment(list(entries.items()))).find(wanted.encode()) == entries.get(wanted.encode())


def test_history_and_state_come_back() -> None:
    assert History.parse(HISTORY.to_bytes()) == HISTORY
    front, found = find_version(HISTORY.to_bytes(), 2)
    assert found == version(2)
    assert front == HISTORY._replace(versions=())
    assert find_version(HISTORY.to_bytes(), 9)[1] is None
    assert parse_head(HEAD)[:2] == (b"note", STATE)


NO_ID = ENTRY._replace(history_id=ID_LIMIT)
NO_RECORD = ENTRY._replace(rec_id=ID_LIMIT)
HALF = "\u00e9".encode()[:1]
IMPOSSIBLE: dict[str, tuple[bytes, Callable[[bytes], object]]] = {
    "a path of a change": (Delta(((HALF, ENTRY),)).to_bytes(), parse_delta),
    "a path that goes": (Delta(((HALF, None),)).to_bytes(), parse_delta),
    "a history of a change": (Delta(((b"a", NO_ID),)).to_bytes(), parse_delta),
    "a secret of a change": (Delta(((b"a", NO_RECORD),)).to_bytes(), parse_delta),
    "a space": (Delta((), (FreedRun(200, 1, 1),)).to_bytes(), parse_delta),
    "rows that are freed": (Delta((), (FreedRun(Space.DEK, ID_LIMIT - 1, 2),)).to_bytes(), parse_delta),
    "a path in a segment": (build_segment([(b"a", ENTRY), (b"b" + HALF, ENTRY)]), Segment),
    "a character over two paths": (build_segment([(b"a" + HALF, ENTRY), ("\u00e9".encode()[1:], ENTRY)]), Segment),
    "a history in a segment": (build_segment([(b"a", ENTRY), (b"b", NO_ID)]), Segment),
    "a secret in a segment": (build_segment([(b"a", NO_RECORD), (b"b", ENTRY)]), Segment),
    "a segment": (
        MANIFEST._replace(lines=(SegmentLine(ID_LIMIT, b"s" * 32, 2),)).to_bytes(),
        lambda raw: Manifest.parse(raw, 9),
    ),
    "an older page": (
        HISTORY._replace(older=(OlderPage(ID_LIMIT, b"o" * 32, 1, 1),)).to_bytes(),
        History.parse,
    ),
    "a data key": (
        older_page_to_bytes(7, 0, (version(1)._replace(dek_id=ID_LIMIT),)),
        lambda raw: parse_older_page(raw, 7, 0),
    ),
    "rows of a value": (
        older_page_to_bytes(7, 0, (version(1)._replace(value_id=ID_LIMIT - 1, value_rows=1),)),
        lambda raw: parse_older_page(raw, 7, 0),
    ),
    "the next id": (build_head(b"", STATE._replace(next_id=ID_LIMIT).to_bytes()), parse_head),
    "a generation": (build_head(b"", STATE._replace(generation=ID_LIMIT).to_bytes()), parse_head),
    "a staging": (build_head(b"", STATE._replace(stagings=(Staging(1, ID_LIMIT, 3),)).to_bytes()), parse_head),
}


@pytest.mark.parametrize("what", IMPOSSIBLE)
def test_what_there_cannot_be_is_refused_where_it_is_read(what: str) -> None:
    raw, parse = IMPOSSIBLE[what]
    with pytest.raises(Malformed):
        parse(raw)


def test_paths_that_are_text_of_any_kind_are_found() -> None:
    paths = sorted(text.encode() for text in ("a", "\u00e9", "\u00e9\u4e2d", "\U0001f511/x"))
    segment = Segment(build_segment([(path, ENTRY) for path in paths]))
    assert [path for path, _ in segment.items()] == paths


def test_an_unknown_state_of_a_version_is_refused() -> None:
    for state in (0, 4, 255):
        with pytest.raises(Malformed):
            History.parse(HISTORY._replace(versions=(version(3)._replace(state=state),)).to_bytes())


@given(st.lists(st.sampled_from([0, 100, 5_000, 16_384]), min_size=1, max_size=PAGE_FULL + 1))
def test_what_overflows_a_page_is_the_oldest_and_fits_a_page(sizes: list[int]) -> None:
    versions = tuple(version(len(sizes) - at, b"m" * size) for at, size in enumerate(sizes))
    kept = versions
    while count := count_overflow(kept):
        moved, kept = kept[-count:], kept[:-count]
        assert len(moved) <= PAGE_MOVED
        assert sum(one.size_bytes for one in moved) <= PAGE_BYTES
        assert kept
    assert len(kept) <= PAGE_FULL
    assert sum(one.size_bytes for one in kept) <= PAGE_BYTES
    assert version(1, b"m" * 9).size_bytes == len(version(1, b"m" * 9).to_bytes())


@pytest.mark.parametrize("number", [0, -1, 2**32, True])
def test_refuses_what_is_no_number_of_a_version(number: int) -> None:
    with pytest.raises(KeyError):
        check_number(number)


@pytest.mark.parametrize("label", ["", "missing", "pending", "0", "\u0663", "99999999999999"])
def test_a_label_that_points_at_nothing_is_none(label: str) -> None:
    with pytest.raises(KeyError):
        number_of_label(HISTORY, label)


def test_a_label_points_at_its_version() -> None:
    assert [number_of_label(HISTORY, label) for label in ("current", "previous", "stable", "3")] == [3, 2, 2, 3]


ANCHOR = Anchor(4, Mark(5, b"r" * 32, b"k" * 32, b"note"))


def test_an_anchor_comes_back() -> None:
    assert parse_slot(ANCHOR.to_bytes()) == ANCHOR


@given(st.integers(0, SLOT_SIZE - 1), st.integers(1, 255))
def test_a_slot_of_an_anchor_with_any_byte_changed_counts_as_absent(at: int, by: int) -> None:
    raw = bytearray(ANCHOR.to_bytes())
    raw[at] ^= by
    assert parse_slot(bytes(raw)) is None


@given(st.binary(max_size=2 * SLOT_SIZE))
def test_garbage_is_no_anchor(raw: bytes) -> None:
    assert parse_slot(raw) is None
