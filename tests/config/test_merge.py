from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securecfg.config import Config, Layer, Strategy, as_dict, merge, origin
from securecfg.config.from_json import parse_json
from securecfg.config.from_yaml import parse_yaml
from securecfg.errors import ConfigKeyNotFound, ConfigTypeError


def layer(name: str, text: str) -> Config:
    return parse_yaml(text.encode(), Layer(f"{name}.yaml", f"etc/{name}.yaml"))


def shadows(config: Config, path: str) -> list[str]:
    found = origin(config, path)
    return [str(found), *(str(one) for one in found.shadowed)]


def test_mappings_merge_and_the_rest_replaces() -> None:
    low = layer("low", "a: {x: 1, y: [1, 2], z: {k: 1}}\nb: 1\nc: {k: 1}\nd: 1\n")
    high = layer("high", "a: {y: [3], z: {l: 2}}\nb: {k: 2}\nc: 3\nd: null\n")
    assert as_dict(merge([low, high])) == {
        "a": {"x": 1, "y": [3], "z": {"k": 1, "l": 2}},
        "b": {"k": 2},
        "c": 3,
        "d": None,
    }


def test_layers_themselves_do_not_change() -> None:
    low, high = layer("low", "a: {x: 1}"), layer("high", "a: {x: 2, y: 3}")
    merge([low, high])
    assert (as_dict(low), as_dict(high)) == ({"a": {"x": 1}}, {"a": {"x": 2, "y": 3}})


def test_what_one_layer_has_is_shared() -> None:
    low = layer("low", "a: {x: {k: 1}}\nb: {k: 1}\n")
    high = layer("high", "a: {y: {k: 2}}\n")
    merged = merge([low, high])
    assert merged.b is low.b
    assert merged.a.x is low.a.x
    assert merged.a.y is high.a.y


def test_one_layer_is_itself() -> None:
    low = layer("low", "a: 1")
    assert merge([low]) is low


def test_names_the_winner_and_what_it_shadows() -> None:
    merged = merge(
        [
            layer("one", "a: {x: 1, y: 1}\n"),
            layer("two", "a:\n  x: 2\n"),
            layer("three", "b: 1\na: {y: 3}\n"),
        ]
    )
    assert shadows(merged, "a.x") == ["two.yaml:2:6", "one.yaml:1:8"]
    assert shadows(merged, "a.y") == ["three.yaml:2:8", "one.yaml:1:14"]
    assert shadows(merged.a, "y") == ["three.yaml:2:8", "one.yaml:1:14"]
    assert shadows(merged, "a") == ["three.yaml:2:1", "two.yaml:1:1", "one.yaml:1:1"]
    assert shadows(merged, "b") == ["three.yaml:1:4"]


def test_a_section_that_replaced_a_value_hides_the_section_before_it() -> None:
    merged = merge([layer("one", "a: {x: 1, y: 1}"), layer("two", "a: 2"), layer("three", "a: {x: 3}")])
    assert as_dict(merged) == {"a": {"x": 3}}
    assert shadows(merged, "a.x") == ["three.yaml:1:8"]
    with pytest.raises(ConfigKeyNotFound):
        origin(merged, "a.y")


@pytest.mark.parametrize(
    ("strategy", "items", "places"),
    [
        (Strategy.APPEND, [1, 2, 2, 3], ["low.yaml:1:9", "low.yaml:1:12", "high.yaml:1:9", "high.yaml:1:12"]),
        (Strategy.PREPEND, [2, 3, 1, 2], ["high.yaml:1:9", "high.yaml:1:12", "low.yaml:1:9", "low.yaml:1:12"]),
        (Strategy.UNIQUE, [1, 2, 3], ["low.yaml:1:9", "low.yaml:1:12", "high.yaml:1:12"]),
        (Strategy.REPLACE, [2, 3], ["high.yaml:1:9", "high.yaml:1:12"]),
    ],
)
def test_a_strategy_joins_lists_and_keeps_their_origins(
    strategy: Strategy, items: list[int], places: list[str]
) -> None:
    merged = merge([layer("low", "a: {l: [1, 2]}"), layer("high", "a: {l: [2, 3]}")], {"a.l": strategy})
    assert as_dict(merged) == {"a": {"l": items}}
    assert [str(origin(merged, f"a.l.{index}")) for index in range(len(items))] == places


def test_a_strategy_may_replace_a_section_whole() -> None:
    merged = merge([layer("low", "a: {x: 1}"), layer("high", "a: {y: 2}")], {"a": Strategy.REPLACE})
    assert as_dict(merged) == {"a": {"y": 2}}
    assert shadows(merged, "a.y") == ["high.yaml:1:8"]


def test_joined_lists_keep_their_origins_over_several_layers() -> None:
    layers = [layer(name, f"l: [{name}, {{k: [x, y]}}]\n") for name in ("one", "two", "three")]
    merged = merge([*layers, layer("four", "other: 1")], {"l": Strategy.APPEND})
    assert str(origin(merged, "l.0")) == "one.yaml:1:5"
    assert str(origin(merged, "l.2")) == "two.yaml:1:5"
    assert str(origin(merged, "l.5.k.1")) == "three.yaml:1:20"


def test_a_list_that_is_replaced_later_has_its_own_origins() -> None:
    joined = merge([layer("one", "l: [1]"), layer("two", "l: [2]")], {"l": Strategy.APPEND})
    merged = merge([joined, layer("three", "l: [3]")])
    assert [str(origin(merged, "l.0")), as_dict(merged)] == ["three.yaml:1:5", {"l": [3]}]


def test_unique_tells_types_apart() -> None:
    merged = merge([layer("low", "l: [1, 'a']"), layer("high", "l: [true, 1.0, 1, a]")], {"l": Strategy.UNIQUE})
    assert [type(item) for item in merged.l] == [int, str, bool, float]


@pytest.mark.parametrize(("low", "high", "place"), [("a: 1", "a: [1]", "low"), ("a: [1]", "a: {b: 1}", "high")])
def test_a_strategy_for_lists_refuses_anything_else(low: str, high: str, place: str) -> None:
    with pytest.raises(ConfigTypeError, match=rf"^etc/{place}.yaml:1:\d: `a` is merged by `append`") as caught:
        merge([layer("low", low), layer("high", high)], {"a": Strategy.APPEND})
    assert caught.value.code == "config-type"


_trees = st.dictionaries(
    st.sampled_from("abc"),
    st.recursive(
        st.integers(0, 3) | st.none() | st.lists(st.integers(0, 3), max_size=2),
        lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    ),
)


def expected(low: Any, high: Any) -> Any:  # noqa: ANN401 - any value
    if not isinstance(low, dict) or not isinstance(high, dict):
        return high
    return {
        key: expected(low[key], high[key]) if key in low and key in high else {**low, **high}[key]
        for key in [*low, *(key for key in high if key not in low)]
    }


@given(st.lists(_trees, min_size=1, max_size=4))
def test_merges_as_the_rule_says_and_the_winner_has_the_value(trees: list[dict[str, Any]]) -> None:
    layers = [parse_json(json.dumps(tree).encode(), Layer(str(n), str(n))) for n, tree in enumerate(trees)]
    merged = merge(layers)
    wanted: Any = trees[0]
    for tree in trees[1:]:
        wanted = expected(wanted, tree)
    assert as_dict(merged) == wanted

    def check(section: Config, path: str) -> None:
        for key in section:
            here = f"{path}{key}"
            if isinstance(section[key], Config):
                check(section[key], f"{here}.")
            else:
                assert layers[int(origin(merged, here).name)][here] == section[key]

    check(merged, "")
