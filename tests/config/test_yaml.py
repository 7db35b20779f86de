from __future__ import annotations

import json
import math
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from securecfg.config import Config, Layer, as_dict, origin
from securecfg.config.from_yaml import parse_yaml
from securecfg.errors import ConfigError, ConfigLimitExceeded, ConfigSyntaxError, InvalidReference, SecurecfgError
from securecfg.secret import Secret

LAYER = Layer("app.yaml", "etc/app.yaml")


def parse(text: str | bytes) -> Config:
    return parse_yaml(text.encode() if isinstance(text, str) else text, LAYER)


def values(text: str) -> dict[str, Any]:
    return as_dict(parse(text))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: 1\nb: [1, 2\n", "3:1"),
        ("a: 1\n b: 2\n", "2:3"),
        ('a: "open\n', "2:1"),
        ("a: b: c\n", "1:5"),
        ("a:\n\t- 1\n", "2:1"),
        ("%YAML 3.0\n---\na: 1\n", "1:1"),
        ("a: @x\n", "1:4"),
        ("a: 1\n? [b]\n: 2\n", "2:3"),
        ("a: 1\n{b: 2}: 3\n", "2:1"),
        ("a: &x 1\n*x : 2\n", "2:1"),
        ("- 1\n", "1:1"),
        ("just text\n", "1:1"),
        ("a: 1\n---\nb: 2\n", "2:1"),
        ("a: 1\nb: 2\na: 3\n", "3:1"),
        ("a: {b: 1, b: 2}\n", "1:11"),
        ("a: *nowhere\n", "1:4"),
        ("a: &x [*x]\n", "1:8"),
        ("a: &x {b: *x}\n", "1:11"),
        ("&k a: 1\n", "1:1"),
        ("a: !!python/object/apply:os.system [ls]\n", "1:4"),
        ("a: !!str 1\n", "1:4"),
        ("a: !!binary aGk=\n", "1:4"),
        ("a: !Secret x\n", "1:4"),
        ("a: !secret [x]\n", "1:4"),
        ("a: !secret {x: y}\n", "1:4"),
        ("!secret a: 1\n", "1:1"),
        ("<<: 3\na: 1\n", "1:1"),
        ("<<: [1]\na: 1\n", "1:1"),
        ("a: 1\x01\n", "1:5"),
        ("a: é\x01\n", "1:5"),
        ("a: 1\nb: x\0y\n", "2:5"),
    ],
)
def test_refuses_what_is_no_plain_configuration_and_names_the_place(text: str, place: str) -> None:
    with pytest.raises(ConfigSyntaxError) as caught:
        parse(text)
    assert caught.value.code == "config-syntax"
    assert caught.value.message.startswith(f"etc/app.yaml:{place}: ")
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    ("content", "place"),
    [(b"a: 1\nb: \xff\n", "2:4"), (b"\xff\xfea\x00:\x00 \x001\x00", "1:1"), (b"\xef\xbb\xbfa: \xc3\x28", "1:4")],
)
def test_refuses_what_is_not_utf8(content: bytes, place: str) -> None:
    with pytest.raises(ConfigSyntaxError, match="is not UTF-8") as caught:
        parse(content)
    assert caught.value.place == f"etc/app.yaml:{place}"
    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "text",
    [
        "a: " + "[" * 1_000 + "]" * 1_000,
        "a: " + "[" * 200_000,
        "".join(f"{' ' * depth}a:\n" for depth in range(1_000)),
        "a: " + "{a: " * 1_000,
        "- " * 1_000,
    ],
)
def test_refuses_deep_nesting_without_crashing(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(f"x:\n  {text}" if text.startswith("-") else text)
    assert caught.value.code in {"config-limit", "config-syntax"}


def test_accepts_a_hundred_levels_and_not_one_more() -> None:
    parse("a: " + "[" * 99 + "]" * 99)
    with pytest.raises(ConfigLimitExceeded, match=r"1:103: is nested more than 100 levels deep"):
        parse("a: " + "[" * 100 + "]" * 100)


def test_refuses_a_bomb_of_aliases() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    with pytest.raises(ConfigLimitExceeded, match="repeats more than"):
        parse("\n".join(lines))


def test_refuses_a_bomb_of_merge_keys() -> None:
    lines = ["a0: &a0 {" + ", ".join(f"k{n}: 0" for n in range(1_000)) + "}"]
    lines += [f"b{n}: {{<<: *a0}}" for n in range(200)]
    with pytest.raises(ConfigLimitExceeded, match="repeats more than"):
        parse("\n".join(lines))


def test_refuses_depth_that_is_made_of_aliases() -> None:
    lines = ["a0: &a0 [[[[[[[[[x]]]]]]]]]"]
    lines += [f"a{n}: &a{n} [[[[[[[[[*a{n - 1}]]]]]]]]]" for n in range(1, 20)]
    with pytest.raises(ConfigLimitExceeded, match="levels deep through aliases"):
        parse("\n".join(lines))


def test_does_not_count_what_is_written_out() -> None:
    assert len(parse("\n".join(f"k{n}: {n}" for n in range(150_000)))) == 150_000


def test_refuses_a_document_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("securecfg.config.text.MAX_BYTES", 10)
    with pytest.raises(ConfigLimitExceeded, match="is larger than 10 bytes"):
        parse("a: 12345678")


def test_refuses_a_number_of_too_many_digits() -> None:
    with pytest.raises(ConfigLimitExceeded, match="1:4: a number has too many digits"):
        parse("a: " + "9" * 5_000)


@pytest.mark.parametrize(
    ("text", "place"),
    [("a: ${secret:}", "1:4"), ("a:\n  - x ${secrets:x}", "2:5"), ("a: !secret ../x", "1:4"), ("a: ${secret:x", "1:4")],
)
def test_names_the_place_of_a_malformed_reference(text: str, place: str) -> None:
    with pytest.raises(InvalidReference) as caught:
        parse(text)
    assert caught.value.code == "invalid-reference"
    assert caught.value.message.startswith(f"etc/app.yaml:{place}: ")


@pytest.mark.parametrize("text", ["", "\n", "# only a comment\n", "---\n", "---\n...\n", "{}"])
def test_takes_an_empty_document_for_an_empty_mapping(text: str) -> None:
    assert values(text) == {}


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("true", True),
        ("FALSE", False),
        ("tRue", "tRue"),
        ("null", None),
        ("~", None),
        ("", None),
        ("010", 10),
        ("-7", -7),
        ("+7", 7),
        ("0o17", 15),
        ("0x1F", 31),
        ("1_000", "1_000"),
        ("1.5", 1.5),
        ("1.", 1.0),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("-.inf", -math.inf),
        ("12:30:45", "12:30:45"),
        ("2024-01-15", "2024-01-15"),
        ("1.2.3", "1.2.3"),
        ("-", None),
        ("'1'", "1"),
        ('"true"', "true"),
        ("|\n  1\n", "1\n"),
        (">-\n  a\n  b\n", "a b"),
        ('"\\u00e9"', "é"),
        ("=", "="),
        ("'<<'", "<<"),
    ],
)
def test_reads_scalars_by_the_core_schema(scalar: str, value: object) -> None:
    if scalar == "-":
        assert values("a:\n  -") == {"a": [None]}
        return
    parsed = values(f"a: {scalar}")["a"]
    assert parsed == value
    assert type(parsed) is type(value)


def test_reads_not_a_number() -> None:
    assert math.isnan(values("a: .nan")["a"])


def test_keys_are_texts_as_written() -> None:
    assert list(parse("1: a\ntrue: b\nnull: c\n1.50: d\n'': e\n")) == ["1", "true", "null", "1.50", ""]


def test_merge_keys_give_what_is_not_there_and_earlier_ones_win() -> None:
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {<<: [*a, *b], x: 3}\nd:\n  x: 4\n  <<: *b\n"
    assert values(text)["c"] == {"x": 3, "y": 1, "z": 2}
    assert values(text)["d"] == {"x": 4, "y": 2, "z": 2}


def test_a_quoted_merge_key_is_a_key() -> None:
    assert values("a: {'<<': 1}") == {"a": {"<<": 1}}


def test_an_anchor_may_be_given_again() -> None:
    assert values("a: &x 1\nb: *x\nc: &x 2\nd: *x\n") == {"a": 1, "b": 1, "c": 2, "d": 2}


def test_knows_the_place_of_every_value() -> None:
    text = "a: 1\nb:\n  c: é\n  d: 'x'\nlist:\n  - 1\n  - {k: v}\n  - [2, 3]\nx: &x 5\ny: *x\nlast: |\n  text\n"
    config = parse(text)
    places = {
        path: str(origin(config, path))
        for path in ("a", "b", "b.c", "b.d", "list", "list.0", "list.1.k", "list.2.1", "y", "last")
    }
    assert places == {
        "a": "app.yaml:1:4",
        "b": "app.yaml:2:1",
        "b.c": "app.yaml:3:6",
        "b.d": "app.yaml:4:6",
        "list": "app.yaml:5:1",
        "list.0": "app.yaml:6:5",
        "list.1.k": "app.yaml:7:9",
        "list.2.1": "app.yaml:8:9",
        "y": "app.yaml:10:4",
        "last": "app.yaml:11:7",
    }


def test_a_merged_key_is_where_it_was_written() -> None:
    config = parse("a: &a\n  x: 1\nb:\n  <<: *a\n  y: 2\n")
    assert str(origin(config, "b.x")) == "app.yaml:2:6"


def test_a_secret_tag_makes_a_secret_of_a_path() -> None:
    config = parse("a: !secret db/main#password@3\nb: !secret 'db/main'\n")
    assert isinstance(config.a, Secret)
    assert repr(config.a) == "<Secret db/main ***>"


def test_reads_the_same_without_libyaml(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a: &a {x: [1, 2.5, true]}\nb: {<<: *a}\nc: 'q'\n"
    with_libyaml = values(text)
    monkeypatch.setattr(yaml, "__with_libyaml__", False)
    assert values(text) == with_libyaml
    with pytest.raises(ConfigSyntaxError, match=r"etc/app.yaml:1:4"):
        parse("a: @x")
    with pytest.raises(ConfigSyntaxError, match=r"etc/app.yaml:1:5"):
        parse("a: é\x01\n")


# What JSON may hold raw and YAML may not, or folds: controls and separators.
_texts = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"], include_characters=" "))
_scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | _texts
_keys = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=20)
_trees = st.dictionaries(
    _keys,
    st.recursive(_scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_keys, inner, max_size=4)),
    max_size=5,
)


@pytest.mark.no_cover
@given(_trees)
@settings(deadline=None)
def test_yaml_contains_json(tree: dict[str, Any]) -> None:
    dumped = json.dumps(tree, ensure_ascii=False)
    assert "${" in dumped or as_dict(parse(dumped)) == tree


@given(st.binary(max_size=60) | st.text(alphabet="ab:-[]{}&*!<>|'\"#%@ \n\t0.${}", max_size=60).map(str.encode))
@settings(deadline=None, max_examples=300)
def test_whatever_is_read_gives_a_tree_or_an_error_of_ours(content: bytes) -> None:
    try:
        assert isinstance(parse(content), Config)
    except SecurecfgError as error:
        assert "\n" not in error.message  # noqa: PT017 - either outcome is right
