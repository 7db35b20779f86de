"""Section 5.2 of the format, kind 2."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securecfg.crypto import decode_fields, encode_fields
from securecfg.errors import InvalidMetadata, Tampered, ValueTooLarge

names = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60)
values = st.one_of(st.text(st.characters(codec="utf-8"), max_size=50), st.binary(max_size=50))


def field(name: bytes, kind: int, content: bytes) -> bytes:
    return bytes((len(name),)) + name + bytes((kind,)) + len(content).to_bytes(4) + content


def fields(*encoded: bytes) -> bytes:
    return len(encoded).to_bytes(2) + b"".join(encoded)


@given(st.dictionaries(names, values, max_size=20))
def test_what_was_encoded_decodes(mapping: dict[str, str | bytes]) -> None:
    assert decode_fields(encode_fields(mapping)) == mapping


@given(st.dictionaries(names, values, max_size=20))
def test_equal_mappings_have_equal_bytes(mapping: dict[str, str | bytes]) -> None:
    assert encode_fields(dict(reversed(mapping.items()))) == encode_fields(mapping)


@given(st.binary(max_size=80))
def test_what_decodes_encodes_to_the_same_bytes(content: bytes) -> None:
    try:
        mapping = decode_fields(content)
    except Tampered:
        return
    assert encode_fields(mapping) == content


def test_names_ascend_by_their_bytes() -> None:
    assert list(decode_fields(encode_fields({"é": "", "z": b"", "a": "1"}))) == ["a", "z", "é"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00",
        b"\x00\x01",
        fields() + b"\x00",
        fields(field(b"a", 1, b"x"))[:-1],
        fields(field(b"a", 1, b"x")) + b"\x00",
        fields(field(b"", 1, b"x")),
        fields(field(b"b", 1, b""), field(b"a", 1, b"")),
        fields(field(b"a", 1, b""), field(b"a", 1, b"")),
        fields(field(b"a", 2, b"")),
        fields(field(b"\xff", 0, b"")),
        fields(field(b"a", 1, b"\xff")),
        b"\xff\xff" + field(b"a", 1, b""),
        b"\x00\x01\x01a\x00\xff\xff\xff\xff",
    ],
    ids=[
        "empty",
        "half a count",
        "count without fields",
        "extended without fields",
        "cut off",
        "extended",
        "empty name",
        "descending names",
        "the same name twice",
        "unknown kind",
        "name that is not UTF-8",
        "text that is not UTF-8",
        "fewer fields than counted",
        "four gigabytes announced",
    ],
)
def test_refuses_content_that_is_not_canonical(content: bytes) -> None:
    with pytest.raises(Tampered):
        decode_fields(content)


@pytest.mark.parametrize("name", ["", "a" * 256, "é" * 128])
def test_refuses_a_name_that_is_empty_or_too_long(name: str) -> None:
    with pytest.raises(InvalidMetadata):
        encode_fields({name: "x"})


@pytest.mark.parametrize("mapping", [{"\ud800": "x"}, {"a": "\ud800"}])
def test_refuses_text_that_is_not_unicode(mapping: dict[str, str | bytes]) -> None:
    with pytest.raises(InvalidMetadata) as refused:
        encode_fields(mapping)
    assert refused.value.hint


def test_a_value_has_at_most_1000_fields() -> None:
    assert len(decode_fields(encode_fields({str(n): "x" for n in range(1000)}))) == 1000
    with pytest.raises(ValueTooLarge):
        encode_fields({str(n): "x" for n in range(1001)})
