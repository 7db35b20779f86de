"""Fields as JSON: what is written comes back as it was or is refused, and what others wrote is told apart."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securecfg.backends.json_fields import parse_fields, to_text, to_value
from securecfg.errors import Unsupported
from securecfg.secret import Secret

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
FIELDS = st.dictionaries(TEXT.filter(bool), TEXT, min_size=1)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
)


def back(held: str | bytes) -> object:
    value = to_value(held, "a")
    return value.reveal() if isinstance(value, Secret) else {name: part.reveal() for name, part in value.items()}


@given(FIELDS)
def test_fields_come_back(fields: dict[str, str]) -> None:
    assert back(to_text(fields)) == fields


@given(TEXT | JSON.map(json.dumps))
def test_a_text_comes_back_or_is_refused(text: str) -> None:
    try:
        held = to_text(text)
    except Unsupported:
        assert isinstance(json.loads(text), dict)
    else:
        assert back(held) == held == text


@given(st.binary())
def test_bytes_come_back(content: bytes) -> None:
    assert back(to_text(content)) == content


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        " {} ",
        "{",
        '{"a": "b"',
        '{"a": "b"} x',
        '{"a": "b"}{"a": "b"}',
        '["a"]',
        '"{}"',
        "null",
        '{"a": null}',
        '{"a": ["b"]}',
        '{"a": {"b": "c"}}',
        '{"a": "b", "a": "c"}',
        '{"a": 1, "a": 1}',
        '{"": "b"}',
        '{"a": NaN}',
        '{"a": Infinity}',
        '{"a": -Infinity}',
        '{"a": 01}',
        '{"a": "\n"}',
        '{"a": "\\ud800"}',
        '{"\\udc00": "b"}',
        "{'a': 'b'}",
        '{"a": "b",}',
        '\ufeff{"a": "b"}',
        '\xa0{"a": "b"}',
        '{"a":' * 100_000,
        "[" * 100_000,
        '{"a":' + "[" * 100_000 + "]" * 100_000 + "}",
    ],
    ids=lambda text: repr(text[:24]),
)
def test_what_is_no_object_of_texts_is_a_text(text: str) -> None:
    assert parse_fields(text) is None
    assert back(to_text(text)) == text


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ('{"a":"b"}', {"a": "b"}),
        (' \t\r\n{ "a" : "b" } \n', {"a": "b"}),
        ('{"port": 5432}', {"port": "5432"}),
        ('{"n": -0, "m": 1.50, "e": 1E400}', {"n": "-0", "m": "1.50", "e": "1E400"}),
        ('{"n": ' + "9" * 5_000 + "}", {"n": "9" * 5_000}),
        ('{"t": true, "f": false}', {"t": "true", "f": "false"}),
        ('{"a": "\\ud83d\\udd11"}', {"a": "🔑"}),
        ('{"a": "\\u0000", "b": ""}', {"a": "\0", "b": ""}),
        ('{"a": "{\\"b\\": \\"c\\"}"}', {"a": '{"b": "c"}'}),
        ('{"a": "1", "A": "2"}', {"a": "1", "A": "2"}),
    ],
    ids=lambda given: repr(given)[:24],
)
def test_what_others_wrote_as_an_object_of_texts_is_fields_and_no_text(text: str, fields: dict[str, str]) -> None:
    assert parse_fields(text) == fields
    assert back(text) == fields
    with pytest.raises(Unsupported) as refused:
        to_text(text)
    assert "fields" in refused.value.hint


def test_the_order_of_fields_is_kept() -> None:
    fields = {name: name for name in "zyxabc"}
    assert list(parse_fields(str(to_text(fields))) or ()) == list(fields)


def test_a_field_of_bytes_is_refused_without_being_shown() -> None:
    with pytest.raises(Unsupported) as refused:
        to_text({"a": "text", "b": b"canary"})
    assert "canary" not in refused.value.message + refused.value.hint


def test_fields_are_written_without_escapes_and_spaces() -> None:
    assert to_text({"ключ": "🔑", "b": "1"}) == '{"ключ":"🔑","b":"1"}'


def test_each_secret_says_which_field_it_is() -> None:
    value = to_value('{"user":"web"}', "app/db")
    assert not isinstance(value, Secret)
    assert value["user"].label == "app/db#user"
    assert "web" not in repr(value)
