from __future__ import annotations

import datetime as dt
import tomllib
from typing import Any

import pytest
import tomlkit
from hypothesis import given, settings
from hypothesis import strategies as st

from securecfg.config import Config, Layer, as_dict, origin
from securecfg.config.from_toml import parse_toml
from securecfg.errors import ConfigError, ConfigLimitExceeded, ConfigSyntaxError, InvalidReference, SecurecfgError

LAYER = Layer("app.toml", "etc/app.toml")


def parse(text: str | bytes) -> Config:
    return parse_toml(text.encode() if isinstance(text, str) else text, LAYER)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a", "1:2"),
        ("a =", "1:4"),
        ("a = 1\nb = \n", "2:5"),
        ("a = 1\na = 2\n", "2:6"),
        ("[t]\n[t]\n", "2:3"),
        ("a = [1, 2", "1:10"),
        ("a = {b = 1", "1:11"),
        ("a = {b = 1, b = 2}", "1:18"),
        ('a = "open\n', "1:10"),
        ('a = """open\n', "2:1"),
        ("a = 2026-13-01\n", "1:9"),
        ("a = 01\n", "1:6"),
        ("a = yes\n", "1:5"),
        ("[a\nb = 1\n", "1:3"),
        ("a = 1\0\n", "1:6"),
        ("a.b = 1\na = 2\n", "2:6"),
        ("a = 1\n[a.b]\n", "2:5"),
        ('a = "\\q"\n', "1:8"),
    ],
)
def test_refuses_what_is_not_toml_and_names_the_place(text: str, place: str) -> None:
    with pytest.raises(ConfigSyntaxError) as caught:
        parse(text)
    assert caught.value.message.startswith(f"etc/app.toml:{place}: ")
    assert caught.value.code == "config-syntax"
    assert caught.value.message[len(f"etc/app.toml:{place}: ")].islower()
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 1_000 + "]" * 1_000,
        "a = " + "{b = " * 1_000 + "1" + "}" * 1_000,
        "[" + ".".join("a" * 1_000) + "]",
        ".".join(['"a"'] * 1_000) + " = 1",
        "[" + ".".join("a" * 90) + "]\n" + ".".join("b" * 90) + " = 1",
        "a = " + "[" * 50_000,
    ],
)
def test_refuses_deep_nesting_without_crashing(text: str) -> None:
    with pytest.raises(ConfigLimitExceeded, match="is nested more than 100 levels deep"):
        parse(text)


def test_brackets_and_dots_in_texts_and_comments_are_no_depth() -> None:
    dots = ".".join("a" * 200)
    text = f'a = "{"[" * 200}" # {"[" * 200}\nb = \'\'\'{"{" * 200}\'\'\'\nc = "{dots}"\nd = """\n{dots}\\""""\n'
    assert len(parse(text)) == 4


@pytest.mark.parametrize("text", ["a = " + '\\"""' * 50_000, 'a = "' + "\\" * 100_000, '"' * 100_001, "a." * 100_000])
def test_refuses_hostile_text_in_linear_time(text: str) -> None:
    with pytest.raises(ConfigError):
        parse(text)


def test_refuses_a_number_of_too_many_digits() -> None:
    with pytest.raises(ConfigSyntaxError, match="a number has too many digits"):
        parse("a = " + "9" * 5_000)


def test_refuses_what_is_not_utf8() -> None:
    with pytest.raises(ConfigSyntaxError, match=r"etc/app.toml:2:6: is not UTF-8"):
        parse(b'a = 1\nb = "\xff"')


def test_names_the_place_of_a_malformed_reference() -> None:
    with pytest.raises(InvalidReference, match=r"^etc/app.toml:3:5: "):
        parse('[t]\n\na = "${secret:a//b}"')


def test_knows_the_place_of_every_value() -> None:
    text = (
        "# top\r\n"
        'a = 1 # "one"\r\n'
        "b.c = 'x'\r\n"
        '"d e".f = [1, [2, 3],\r\n'
        '  {g = 4, "h.i" = """\r\nx""", j.k = 5}]\r\n'
        "[t.u]\r\n"
        "v = 2026-01-31 12:00:00 # when\r\n"
        "w = [2026-01-31 12:00:00, 1.5]\r\n"
        "[[s]]\r\n"
        "n = 1\r\n"
        "[s.o]\r\n"
        "p = 1\r\n"
        "[[s]]\r\n"
        "n = '''a'b'''''\r\n"
        "[[s.q]]\r\n"
        "r = true\r\n"
    )
    config = parse(text)
    places = {
        "a": "2:5",
        "b": "3:1",
        "b.c": "3:7",
        "d e.f": "4:7",
        "d e.f.0": "4:12",
        "d e.f.1.1": "4:19",
        "d e.f.2": "5:3",
        "d e.f.2.g": "5:8",
        'd e.f.2."h.i"': "5:19",
        "d e.f.2.j.k": "6:13",
        "t": "7:2",
        "t.u": "7:4",
        "t.u.v": "8:5",
        "t.u.w.1": "9:27",
        "s": "10:3",
        "s.0": "10:3",
        "s.0.n": "11:5",
        "s.0.o.p": "13:5",
        "s.1": "14:3",
        "s.1.n": "15:5",
        "s.1.q.0.r": "17:5",
    }
    assert {path: str(origin(config, path)) for path in places} == {
        path: f"app.toml:{place}" for path, place in places.items()
    }
    assert config["t.u.v"] == dt.datetime(2026, 1, 31, 12)  # noqa: DTZ001 - TOML's local datetime
    assert config["s.1.n"] == "a'b''"


_keys = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=8)
_values = st.recursive(
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=3),
)


@given(st.dictionaries(_keys, _values, max_size=4))
@settings(deadline=None)
def test_reads_what_the_standard_library_reads(tree: dict[str, Any]) -> None:
    try:
        dumped = tomlkit.dumps(tree)
        expected = tomllib.loads(dumped)
    except ValueError:
        return  # tomlkit wrote what is not TOML
    assert "${" in dumped or as_dict(parse(dumped)) == expected


@given(st.text(alphabet="ab.=[]{}\"'\\,#\n 01-:T+e_$", max_size=50))
@settings(deadline=None, max_examples=500)
def test_accepts_exactly_what_the_standard_library_accepts(text: str) -> None:
    try:
        expected: dict[str, Any] | None = tomllib.loads(text)
    except ValueError:
        expected = None
    try:
        parsed: dict[str, Any] | None = as_dict(parse(text))
    except SecurecfgError:
        parsed = None
    assert parsed == expected
