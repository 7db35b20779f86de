from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securecfg.config import Config, Layer, as_dict, origin
from securecfg.config.from_json import parse_json
from securecfg.errors import ConfigLimitExceeded, ConfigSyntaxError, InvalidReference, SecurecfgError

LAYER = Layer("app.json", "etc/app.json")


def parse(text: str | bytes) -> Config:
    return parse_json(text.encode() if isinstance(text, str) else text, LAYER)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "1:1"),
        ("  \n ", "2:2"),
        ("[1]", "1:1"),
        ("1", "1:1"),
        ("{", "1:2"),
        ('{"a"', "1:5"),
        ('{"a":', "1:6"),
        ('{"a": 1', "1:8"),
        ('{"a": 1,', "1:9"),
        ('{"a": 1,}', "1:9"),
        ('{"a": [1,]}', "1:10"),
        ('{"a": [1 2]}', "1:10"),
        ('{"a": 1}\n{"b": 2}', "2:1"),
        ('{"a": 1,\n "a": 2}', "2:2"),
        ('{"a": NaN}', "1:7"),
        ('{"a": Infinity}', "1:7"),
        ('{"a": -Infinity}', "1:7"),
        ('{"a": 1e999}', "1:7"),
        ('{"a": 01}', "1:8"),
        ('{"a": .5}', "1:7"),
        ('{"a": +1}', "1:7"),
        ('{"a": tru}', "1:7"),
        ("{'a': 1}", "1:2"),
        ("{a: 1}", "1:2"),
        ('{"a": 1} // no', "1:10"),
        ('{"a": "open}', "1:7"),
        ('{"a": "\\x"}', "1:8"),
        ('{"a": "\\u12"}', "1:9"),
        ('{"a": "\\ud800"}', "1:7"),
        ('{"a": "tab\there"}', "1:11"),
        ('{"a": "\0"}', "1:8"),
    ],
)
def test_refuses_what_is_not_json_and_names_the_place(text: str, place: str) -> None:
    with pytest.raises(ConfigSyntaxError) as caught:
        parse(text)
    assert caught.value.message.startswith(f"etc/app.json:{place}: ")
    assert caught.value.code == "config-syntax"
    assert caught.value.__context__ is None


def test_refuses_what_is_not_utf8() -> None:
    with pytest.raises(ConfigSyntaxError, match=r"etc/app.json:1:8: is not UTF-8"):
        parse(b'{"a": "\xe9"}')


@pytest.mark.parametrize("text", ['{"a": ' + "[" * 1_000 + "]" * 1_000 + "}", '{"a": ' * 1_000, "[" * 100_000])
def test_refuses_deep_nesting_without_crashing(text: str) -> None:
    with pytest.raises((ConfigLimitExceeded, ConfigSyntaxError)):
        parse(text)


def test_accepts_a_hundred_levels_and_not_one_more() -> None:
    parse('{"a": ' + "[" * 99 + "]" * 99 + "}")
    with pytest.raises(ConfigLimitExceeded, match=r"1:106: is nested more than 100 levels deep"):
        parse('{"a": ' + "[" * 100 + "]" * 100 + "}")


def test_refuses_a_number_of_too_many_digits() -> None:
    with pytest.raises(ConfigSyntaxError, match="1:7: a number is out of range"):
        parse('{"a": ' + "9" * 5_000 + "}")


def test_names_the_place_of_a_malformed_reference() -> None:
    with pytest.raises(InvalidReference, match=r"^etc/app.json:2:7: "):
        parse('{\n "a": "${secret:}"}')


def test_skips_a_byte_order_mark() -> None:
    assert as_dict(parse(b'\xef\xbb\xbf{"a": 1}')) == {"a": 1}


def test_knows_the_place_of_every_value() -> None:
    config = parse('{"a": 1,\n "b": {"c": "x"},\n "d": [true,\n  {"e": null}, [2]]}')
    places = [str(origin(config, path)) for path in ("a", "b", "b.c", "d", "d.0", "d.1", "d.1.e", "d.2.0")]
    lines = ["1:7", "2:2", "2:13", "3:2", "3:8", "4:3", "4:9", "4:17"]
    assert places == [f"app.json:{line}" for line in lines]


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@pytest.mark.no_cover
@given(st.dictionaries(st.text(), _values, max_size=5), st.sampled_from([None, 1]), st.booleans())
@settings(deadline=None)
def test_reads_whatever_the_standard_library_writes(tree: dict[str, Any], indent: int | None, ascii_only: bool) -> None:
    dumped = json.dumps(tree, indent=indent, ensure_ascii=ascii_only)
    assert "${" in dumped or as_dict(parse(dumped)) == tree


@given(st.text(alphabet='{}[]",:0123456789.eE+-truefalsn\\u d$', max_size=40))
@settings(deadline=None, max_examples=300)
def test_takes_nothing_that_the_standard_library_refuses(text: str) -> None:
    try:
        parsed = as_dict(parse(text))
    except SecurecfgError:
        return
    assert parsed == json.loads(text)
