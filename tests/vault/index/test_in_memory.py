"""The index in memory against a dictionary."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securecfg.vault.index.in_memory import Index, prefix_end
from securecfg.vault.index.segments import Entry, Manifest, Segment, SegmentLine, build_segment

Items = dict[bytes, Entry]

PATHS = st.text(min_size=1, max_size=3).map(str.encode)
CHANGES = st.lists(st.tuples(PATHS, st.booleans()), max_size=30)


def entry(number: int) -> Entry:
    return Entry(number, number + 1, b"%032d" % number, number % 2)


def index_of(items: Items, width: int = 4) -> Index:
    ordered = sorted(items.items())
    parts = [ordered[start : start + width] for start in range(0, len(ordered), width)]
    segments = {number: Segment(build_segment(part)) for number, part in enumerate(parts)}
    lines = tuple(SegmentLine(number, b"", len(part)) for number, part in enumerate(parts))
    manifest = Manifest(0, (), len(ordered), lines, tuple(part[0][0] for part in parts))
    return Index(manifest, lambda line: segments[line.segment_id])


@given(st.dictionaries(PATHS, st.integers(0, 99)), CHANGES, PATHS, PATHS)
def test_finds_and_scans_what_a_dictionary_holds(
    base: dict[bytes, int], changes: list[tuple[bytes, bool]], first: bytes, end: bytes
) -> None:
    model = {path: entry(number) for path, number in base.items()}
    index = index_of(model)
    for number, (path, is_set) in enumerate(changes):
        new = entry(1_000 + number) if is_set else None
        index.apply(number, ((path, new),))
        if new is None:
            model.pop(path, None)
        else:
            model[path] = new
    for path in {*base, *(path for path, _ in changes), first}:
        assert index.get(path) == model.get(path)
    assert list(index.scan(b"", None)) == sorted(model.items())
    assert list(index.scan(first, end)) == sorted(item for item in model.items() if first <= item[0] < end)
    for path in (*model, first, end):
        assert index.holds_below(path[:1]) == any(known.startswith(path[:1]) for known in model)
        assert index.holds(path) == any(known == path or known.startswith(path + b"/") for known in model)


@given(st.dictionaries(PATHS, st.integers(0, 99), min_size=1), PATHS)
def test_a_prefix_ends_where_its_last_path_ends(base: dict[bytes, int], prefix: bytes) -> None:
    index = index_of({path: entry(number) for path, number in base.items()})
    found = [path for path, _ in index.scan(prefix, prefix_end(prefix))]
    assert found == sorted(path for path in base if path.startswith(prefix))


def test_nothing_lies_above_a_prefix_of_the_highest_bytes() -> None:
    assert prefix_end(b"\xff\xff") is None
    assert prefix_end(b"") is None
    assert prefix_end(b"a\xff") == b"b"


def test_a_scan_is_of_one_state_whatever_changes_during_it() -> None:
    index = index_of({b"a": entry(1), b"b": entry(2), b"c": entry(3)})
    index.apply(0, ((b"d", entry(4)),))
    before = list(index.scan(b"", None))
    scan = index.scan(b"", None)
    assert next(scan) == (b"a", entry(1))
    index.apply(1, ((b"b", entry(20)), (b"c", None), (b"d", None), (b"e", entry(4))))
    assert list(scan) == before[1:]
    assert [path for path, _ in index.scan(b"", None)] == [b"a", b"b", b"e"]


def test_a_scan_waits_for_a_change_that_is_half_put_on_top(monkeypatch: pytest.MonkeyPatch) -> None:
    index = index_of({b"a": entry(1)})
    waiting: list[float] = []

    def end_the_change(seconds: float) -> None:
        waiting.append(seconds)
        index.apply(0, ((b"b", entry(1)),))
        index._begun -= 1

    monkeypatch.setattr("securecfg.vault.index.in_memory.time.sleep", end_the_change)
    index._overlay[b"a"] = None
    index._begun += 1  # another thread is in the middle of a move
    assert list(index.scan(b"", None)) == [(b"b", entry(1))]
    assert len(waiting) == 1


def test_what_is_put_on_a_copy_is_not_in_the_index() -> None:
    index = index_of({b"a": entry(1)})
    index.apply(0, ((b"b", entry(2)), (b"\x01x", entry(9))))
    copy = index.copied()
    copy.apply(1, ((b"a", None), (b"\x01y", entry(9))))
    assert [path for path, _ in index.scan(b"a", None)] == [b"a", b"b"]
    assert [path for path, _ in copy.scan(b"a", None)] == [b"b"]
    assert (index.applied, index.system_changes) == (1, 1)
    assert (copy.applied, copy.system_changes) == (2, 2)


def test_a_rebased_index_keeps_what_the_manifest_does_not_include() -> None:
    index = index_of({b"a": entry(1)})
    index.apply(0, ((b"b", entry(2)),))
    index.apply(1, ((b"c", entry(3)),))
    newer = Manifest(1, (), 1, index.manifest.lines, index.manifest.fences)
    rebased = index.rebased(newer)
    assert [path for path, _ in rebased.scan(b"", None)] == [b"a", b"c"]
    assert rebased.overlay_size == 1
    assert index.changes_before(1) == {b"b": entry(2)}


def test_an_index_is_rebased_while_others_load_its_segments() -> None:
    items = {b"%d" % number: entry(number) for number in range(9)}
    index = index_of(items, width=1)

    class Loads(int):
        def __hash__(self) -> int:  # somebody looks for another path right now
            index.get(b"%d" % (len(index._segments) % 8))
            return int.__hash__(self)

    index._segments[Loads(8)] = Segment(build_segment([(b"8", entry(8))]))
    assert list(index.rebased(index.manifest).scan(b"", None)) == sorted(items.items())


def test_a_segment_that_cannot_be_loaded_is_not_remembered() -> None:
    calls = []

    def load(line: SegmentLine) -> Segment:
        calls.append(line)
        if len(calls) == 1:
            raise LookupError
        return Segment(build_segment([(b"a", entry(1))]))

    index = Index(Manifest(0, (), 1, (SegmentLine(1, b"", 1),), (b"a",)), load)
    with pytest.raises(LookupError):
        index.get(b"a")
    assert index.get(b"a") == entry(1)


def test_what_changed_since_a_size_of_the_log_is_known_as_long_as_the_manifest_is_older() -> None:
    index = index_of({b"a": entry(1), b"b": entry(2)})
    index.apply(3, ((b"a", entry(10)),))
    index.apply(5, ((b"b", None), (b"c", entry(3))))
    index.apply(7, ((b"a", entry(11)),))
    assert index.changed_since(0) == {b"a", b"b", b"c"}
    assert index.changed_since(4) == {b"a", b"b", b"c"}
    assert index.changed_since(6) == {b"a"}
    assert index.changed_since(8) == set()
    newer = index.rebased(index.manifest._replace(base_size=6))
    assert newer.changed_since(6) == {b"a"}
    assert newer.changed_since(5) is None
