from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securecfg.audit import Category, Decision, Event, Masker, Record, Source, Subject, parse_record
from securecfg.audit.events import OBJECT_FIELDS, SHAPES, Field
from securecfg.audit.leaf import MAX_RECORD_BYTES
from securecfg.audit.record import MAX_INTEGER, MAX_TIME_NS, format_time
from securecfg.errors import InvalidMetadata, LogTampered, UnsupportedFormat
from tests.audit.sample import START_NS, record

if TYPE_CHECKING:
    from securecfg.audit.masking import Json

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
NUMBER = st.integers(0, MAX_INTEGER)
SCALAR = st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | TEXT
BY_FIELD: dict[Field, st.SearchStrategy[Any]] = {
    Field.TEXT: TEXT,
    Field.TEXTS: st.lists(TEXT, max_size=3),
    Field.NUMBER: NUMBER,
    Field.VERSIONS: st.lists(st.tuples(TEXT, NUMBER).map(list), max_size=3),
    Field.PARTS: st.lists(st.tuples(TEXT, TEXT).map(list), max_size=3),
}


@st.composite
def records(draw: st.DrawFn) -> Record:
    event = draw(st.sampled_from(Event))
    shape = SHAPES[event]
    names = sorted(shape.required) + draw(st.lists(st.sampled_from(sorted(shape.optional or {""})), unique=True))
    return Record(
        time_ns=draw(st.integers(0, MAX_TIME_NS - 1)),
        event=event,
        subject=Subject(
            draw(TEXT.filter(bool)),
            draw(st.booleans()),
            tuple(draw(st.lists(TEXT, max_size=3))),
            draw(TEXT),
            draw(TEXT),
        ),
        source=Source(draw(NUMBER), draw(TEXT), draw(TEXT)),
        obj={name: draw(BY_FIELD[OBJECT_FIELDS[name]]) for name in names if name},
        why=tuple(draw(st.lists(TEXT, max_size=3))),
        policy=draw(TEXT),
        context=draw(st.dictionaries(TEXT, SCALAR | st.lists(SCALAR, max_size=3), max_size=3)),
        request_id=draw(st.sampled_from(["", "0123456789abcdef" * 2])),
        count=draw(st.integers(1, MAX_INTEGER)) if shape.is_counted else None,
        note=draw(TEXT),
    )


class TestRecords:
    @given(records())
    @settings(max_examples=200, deadline=None)
    def test_survive_being_written_and_read(self, sample: Record) -> None:
        assert parse_record(sample.to_bytes(), 0) == sample

    @given(records())
    @settings(max_examples=50, deadline=None)
    def test_are_canonical_json(self, sample: Record) -> None:
        raw = sample.to_bytes()
        again = json.dumps(json.loads(raw), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert again.encode() == raw

    def test_are_equal_where_they_say_the_same(self) -> None:
        assert {record(), record()} == {record()}
        assert record(note="a") != record()
        assert record() != record().to_bytes()

    def test_look_like_this(self) -> None:
        sample = Record(
            time_ns=START_NS + 123_456_789,
            event=Event.SECRET_READ_COUNTED,
            subject=Subject("user:olga", is_proved=True, roles=("ops",), slot="a1", via="svc:web"),
            source=Source(12, "python", "m1:abc"),
            obj={"path": "db/main", "ver": 3},
            why=("ops-reads",),
            policy="sha256:00",
            context={"mfa": True},
            count=4,
        )
        assert sample.to_bytes().decode() == (
            '{"ctx":{"mfa":true},"dec":"allow","ev":"secret.read.counted","n":4,"obj":{"path":"db/main","ver":3},'
            '"pol":"sha256:00","src":{"host":"m1:abc","pid":12,"prog":"python"},'
            '"sub":{"auth":"proved","id":"user:olga","roles":["ops"],"slot":"a1","via":"svc:web"},'
            '"t":"2025-11-20T12:00:00.123456789Z","v":1,"why":["ops-reads"]}'
        )

    def test_decide_as_their_event_says(self) -> None:
        denied = record(Event.ACCESS_DENIED, {"action": "read", "path": "a"})
        assert (denied.decision, denied.category) == (Decision.DENY, Category.REFUSAL)
        failed = record(Event.ACCESS_ERROR, {"action": "read"})
        assert failed.decision is Decision.ERROR
        assert (record().decision, record().category) == (Decision.ALLOW, Category.READ)

    @pytest.mark.parametrize(
        "change",
        [
            {"time_ns": -1},
            {"time_ns": MAX_TIME_NS},
            {"subject": Subject("")},
            {"subject": Subject("a", roles="ops")},  # type: ignore[arg-type]  # a wrong type is the point
            {"subject": Subject("a", roles=(1,))},  # type: ignore[arg-type]  # as above
            {"subject": Subject("a", slot=None)},  # type: ignore[arg-type]  # as above
            {"subject": Subject("a" * 5_000)},
            {"source": Source(-1)},
            {"source": Source(True)},
            {"source": Source(1, program=2)},  # type: ignore[arg-type]  # as above
            {"obj": {}},
            {"obj": {"path": "a"}},
            {"obj": {"path": "a", "ver": 1, "value": "x"}},
            {"obj": {"path": "a", "ver": "1"}},
            {"obj": {"path": "a", "ver": 1.0}},
            {"obj": {"path": "a", "ver": True}},
            {"obj": {"path": "a", "ver": MAX_INTEGER + 1}},
            {"obj": {"path": b"a", "ver": 1}},
            {"event": Event.BATCH_WRITTEN, "obj": {"count": 1, "items": "ab"}},
            {"event": Event.BATCH_WRITTEN, "obj": {"count": 1, "items": [["a"]]}},
            {"event": Event.BATCH_WRITTEN, "obj": {"count": 1, "items": ["ab"]}},
            {"event": Event.BATCH_WRITTEN, "obj": {"count": 1, "items": [["a", "b"]]}},
            {"event": Event.BATCH_WRITTEN, "obj": {"count": 1, "parts": [["a", 1]]}},
            {"event": Event.ROLE_CHANGED, "obj": {"role": "a", "members": "user:a"}},
            {"why": ["a", 1]},
            {"policy": None},
            {"context": {"a": 1.5}},
            {"context": {"a": {"b": 1}}},
            {"context": {"a": [[1]]}},
            {"context": {"a": MAX_INTEGER + 1}},
            {"context": {1: "a"}},
            {"request_id": "0" * 31},
            {"request_id": "G" * 32},
            {"count": 1},
            {"event": Event.SECRET_READ_COUNTED},
            {"event": Event.SECRET_READ_COUNTED, "count": 0},
            {"event": Event.SECRET_READ_COUNTED, "count": -1},
            {"event": Event.SECRET_READ_COUNTED, "count": True},
            {"note": "x" * 5_000},
        ],
    )
    def test_refuse_what_the_catalogue_does_not_allow(self, change: dict[str, Any]) -> None:
        with pytest.raises(InvalidMetadata):
            Record(**{name: getattr(record(), name) for name in Record.__slots__} | change)

    def test_refuse_text_that_is_not_unicode(self) -> None:
        with pytest.raises(InvalidMetadata, match="not Unicode"):
            record(note="\ud800").to_bytes()

    def test_refuse_to_outgrow_their_leaf(self) -> None:
        with pytest.raises(InvalidMetadata, match="longer than"):
            record(context={str(n): "x" * 4_000 for n in range(10)}).to_bytes()

    def test_of_every_event_have_a_shape(self) -> None:
        assert set(SHAPES) == set(Event)
        for shape in SHAPES.values():
            assert (shape.required | shape.optional) <= set(OBJECT_FIELDS)
            assert not shape.required & shape.optional

    def test_of_no_event_have_a_field_for_a_value(self) -> None:
        assert not {"value", "secret", "old", "new"} & set(OBJECT_FIELDS)


GOOD = record().to_bytes()


class TestReadingRecords:
    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"null",
            b"[]",
            b"1",
            b'"v"',
            b"{}",
            GOOD[:-1],
            GOOD + b"\n",
            b" " + GOOD,
            GOOD + b"\x00",
            b"\xef\xbb\xbf" + GOOD,
            GOOD.replace(b'"v":1', b'"v":0'),
            GOOD.replace(b'"v":1', b'"v":"1"'),
            GOOD.replace(b'"v":1', b'"v":true'),
            GOOD.replace(b'"v":1', b'"v":1.0'),
            GOOD.replace(b'"v":1', b'"v":NaN'),
            GOOD.replace(b'"v":1', b'"v":' + b"9" * 5_000),
            GOOD.replace(b'"v":1', b'"v":1,"v":1'),
            GOOD.replace(b'"v":1', b'"v":1,"x":1'),
            GOOD.replace(b'"v":1', b'"v":1,"why":[]'),
            GOOD.replace(b'"v":1', b'"v":1,"why":"ab"'),
            GOOD.replace(b'"v":1', b'"v":1,"why":1'),
            GOOD.replace(b'"v":1', b'"v": 1'),
            GOOD.replace(b'"dec":"allow"', b'"dec":"deny"'),
            GOOD.replace(b'"dec":"allow",', b""),
            GOOD.replace(b'"ver":1', b'"ver":1.0'),
            GOOD.replace(b'"ver":1', b'"ver":-0'),
            GOOD.replace(b'"ver":1', b'"ver":1e0'),
            GOOD.replace(b'"ver":1', b'"ver":null'),
            GOOD.replace(b"secret.read", b"secret.stolen"),
            GOOD.replace(b'"secret.read"', b"[]"),
            GOOD.replace(b"asserted", b"trusted"),
            GOOD.replace(b"000000000Z", b"000000Z"),
            GOOD.replace(b"000000000Z", b"000000000+00:00"),
            GOOD.replace(b"2025-11-20", b"2025-13-20"),
            GOOD.replace(b"2025-11-20", b"2025-11-31"),
            GOOD.replace(b"2025-11-20T12", b"2025-11-20T24"),
            GOOD.replace(b"2025", b"1969"),
            GOOD.replace(b"2025", b"0000"),
            GOOD.replace(b'"pid":7', b'"pid":"7"'),
            GOOD.replace(b'{"pid":7,"prog":"python"}', b"7"),
            GOOD.replace(b'{"auth":"asserted","id":"svc:web"}', b"[]"),
            GOOD.replace(b"svc:web", b"svc\\u003aweb"),
            GOOD.replace(b"svc:web", b"svc\xffweb"),
            GOOD.replace(b"svc:web", b"svc\\ud800web"),
            GOOD.replace(b'{"path":"db/main","ver":1}', b'["path","ver"]'),
            GOOD.replace(b'{"dec"', b'{"ctx":1,"dec"'),
            GOOD.replace(b'{"dec"', b'{"ctx":' + b"[" * 1_000 + b"]" * 1_000 + b',"dec"'),
            b"[" * 30_000,
            b'{"v":1,"ctx":' * 2_000,
            GOOD + b" " * MAX_RECORD_BYTES,
            GOOD.decode().encode("utf-16"),
        ],
    )
    def test_refuses_every_other_spelling(self, raw: bytes) -> None:
        assert raw != GOOD
        with pytest.raises(LogTampered) as caught:
            parse_record(raw, 9)
        assert caught.value.index == 9

    @given(st.binary(max_size=200))
    def test_refuses_any_bytes(self, raw: bytes) -> None:
        with pytest.raises(LogTampered):
            parse_record(raw, 0)

    def test_says_that_a_later_version_is_needed(self) -> None:
        with pytest.raises(UnsupportedFormat, match="version 2"):
            parse_record(GOOD.replace(b'"v":1', b'"v":2'), 0)


class TestTimes:
    @pytest.mark.parametrize(
        ("time_ns", "text"),
        [(0, "1970-01-01T00:00:00.000000000Z"), (MAX_TIME_NS - 1, "9999-12-31T23:59:59.999999999Z")],
    )
    def test_are_written_in_rfc_3339(self, time_ns: int, text: str) -> None:
        assert format_time(time_ns) == text


class TestMasking:
    masker = Masker(3, b"k" * 32)

    def test_names_its_epoch_and_gives_96_bits(self) -> None:
        assert self.masker.mask("ip", "10.0.0.1") == "m3:u1FC9Iw-ld1o1CTp"

    @pytest.mark.parametrize(
        ("one", "two"),
        [(1, "1"), (1, True), (0, False), (1, 1.0), (None, "null"), ("", None), ([1], "[1]"), ([True], [1]), ({}, [])],
    )
    def test_tells_types_apart(self, one: Json, two: Json) -> None:
        assert self.masker.mask("f", one) != self.masker.mask("f", two)

    def test_tells_fields_epochs_and_keys_apart(self) -> None:
        masked = {
            masker.mask(field, "x").partition(":")[2]
            for masker in (self.masker, Masker(3, b"l" * 32))
            for field in "ab"
        }
        assert len(masked) == 4
        assert Masker(4, b"k" * 32).mask("a", "x").startswith("m4:")

    def test_does_not_depend_on_the_order_of_keys(self) -> None:
        assert self.masker.mask("f", {"a": 1, "b": 2}) == self.masker.mask("f", {"b": 2, "a": 1})

    @given(st.text())
    def test_takes_any_text(self, text: str) -> None:
        assert len(self.masker.mask(text, text)) == 19

    @given(
        st.dictionaries(
            TEXT,
            st.recursive(
                SCALAR | st.floats() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner)
            ),
            max_size=4,
        )
    )
    @settings(max_examples=50, deadline=None)
    def test_makes_every_context_fit_for_a_record(self, context: dict[str, Any]) -> None:
        masked = self.masker.mask_context(context, sensitive=list(context)[:1])
        assert set(masked) == set(context)
        assert parse_record(record(context=masked).to_bytes(), 0).context == masked

    @pytest.mark.parametrize("value", ["x" * 1_025, ["x" * 600, "y" * 600], {"a": "x" * 1_025}, 10**1_100])
    def test_masks_what_is_too_long_for_a_record(self, value: Json) -> None:
        assert self.masker.mask_context({"f": value}, ()) == {"f": self.masker.mask("f", value)}

    def test_leaves_what_is_not_sensitive(self) -> None:
        context: dict[str, Json] = {
            "mfa": True,
            "ip": "10.0.0.1",
            "age": 1.5,
            "by": ("a", "b"),
            "big": 2**60,
            "map": {"b": 1, "a": None},
        }
        assert self.masker.mask_context(context, {"ip"}) == {
            "mfa": True,
            "ip": self.masker.mask("ip", "10.0.0.1"),
            "age": "1.5",
            "by": ["a", "b"],
            "big": "1152921504606846976",
            "map": '{"a":null,"b":1}',
        }
