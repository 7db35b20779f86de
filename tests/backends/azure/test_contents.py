"""What a secret holds for a value, and what its content type says of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securecfg.backends.azure_contents import BYTES, FIELDS, TEXT, VALUE_BYTES_MAX, Held, to_held, to_value
from securecfg.errors import BackendRefused, Unsupported, ValueTooLarge
from securecfg.secret import Secret

if TYPE_CHECKING:
    from securecfg.backends import Content

CHARACTERS = st.characters(codec="utf-8")
FIELD_MAPS = st.dictionaries(st.text(CHARACTERS, min_size=1, max_size=8), st.text(CHARACTERS), min_size=1, max_size=3)


def value_of(held: Held) -> Content:
    value = to_value(held, "a")
    return value.reveal() if isinstance(value, Secret) else {name: part.reveal() for name, part in value.items()}


@given(st.one_of(st.text(CHARACTERS), st.binary(), FIELD_MAPS))
def test_every_value_comes_back(content: Content) -> None:
    assert value_of(to_held(content)) == content


@pytest.mark.parametrize(
    ("content", "held"),
    [
        ("", ("", TEXT)),
        ('{"a":"b"}', ('{"a":"b"}', TEXT)),
        ({"a": "b"}, ('{"a":"b"}', FIELDS)),
        (b"\x00\xff", ("AP8=", BYTES)),
        (b"", ("", BYTES)),
    ],
)
def test_the_content_type_says_what_a_value_is(content: Content, held: tuple[str, str]) -> None:
    assert to_held(content) == held
    assert value_of(Held(*held)) == content


@pytest.mark.parametrize(
    ("text", "content_type", "value"),
    [
        ("x", "", "x"),
        ('{"user":"web","port":5432}', "", {"user": "web", "port": "5432"}),
        ('{"user":"web","port":5432}', FIELDS, {"user": "web", "port": "5432"}),
        ('{"user":"web"}', "password", '{"user":"web"}'),
        ('{"a":{"b":"c"}}', FIELDS, '{"a":{"b":"c"}}'),
        ("no JSON", FIELDS, "no JSON"),
        ("MIIB", "application/x-pkcs12", "MIIB"),
        ("AP8=", "application/octet-stream", "AP8="),
    ],
)
def test_what_others_wrote_is_read_as_it_is(text: str, content_type: str, value: Content) -> None:
    assert value_of(Held(text, content_type)) == value


@pytest.mark.parametrize("text", ["AP8", "A P8=", "AP8=\n", "canary", "Ä"])
def test_bytes_that_are_no_base64_are_refused(text: str) -> None:
    with pytest.raises(BackendRefused) as refused:
        to_value(Held(text, BYTES), "a")
    assert "canary" not in refused.value.message + refused.value.hint


def test_a_value_fits_as_it_is_held() -> None:
    assert to_held("x" * VALUE_BYTES_MAX).text
    assert to_held(bytes(VALUE_BYTES_MAX * 3 // 4)).text
    for content in (
        "é" * (VALUE_BYTES_MAX // 2) + "x",
        bytes(VALUE_BYTES_MAX * 3 // 4 + 1),
        {"a": "x" * (VALUE_BYTES_MAX - 7)},
        {"a": '"' * (VALUE_BYTES_MAX // 2)},
    ):
        with pytest.raises(ValueTooLarge):
            to_held(content)


def test_bytes_among_fields_are_refused() -> None:
    with pytest.raises(Unsupported):
        to_held({"a": "text", "b": b"\x00"})
