from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securecfg.config import Config, Layer, Origin, as_dict, get, origin
from securecfg.config.from_json import parse_json
from securecfg.config.from_yaml import parse_yaml
from securecfg.config.keys import is_secret_name, key_path, parse_key_path, suggestion
from securecfg.errors import ConfigKeyNotFound

TEXT = """\
database: {host: db, port: 5432, replicas: [{host: a}, {host: b}]}
loggers: {my.app: {level: info}, my: {app: {level: other}}}
"""


@pytest.fixture
def config() -> Config:
    return parse_yaml(TEXT.encode(), Layer("app.yaml", "etc/app.yaml"))


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("databse", "did you mean `database`?"),
        ("database.hots", "did you mean `host`?"),
        ("database.host.x", ""),
        ("database.replicas.2", ""),
        ("database.replicas.x", ""),
        ("database.replicas.-1", ""),
        ("database.", ""),
        (".database", ""),
        ("", ""),
        ("zzz", ""),
        ('loggers."my.ap".level', "did you mean `my.app`?"),
        ('x."y', ""),
        ('x."y"z', ""),
    ],
)
def test_what_is_not_there_raises_with_a_suggestion(config: Config, path: str, hint: str) -> None:
    for look_up in (config.__getitem__, lambda path: get(config, path), lambda path: origin(config, path)):
        with pytest.raises(ConfigKeyNotFound) as caught:
            look_up(path)
        assert caught.value.code == "config-key-not-found"
        assert caught.value.hint == hint
    assert path not in config


def test_an_attribute_that_is_not_there_is_an_attribute_error(config: Config) -> None:
    with pytest.raises(AttributeError):
        _ = config.databse
    assert not hasattr(config, "keys")


def test_values_are_attributes_and_items(config: Config) -> None:
    assert config.database.host == config["database"]["host"] == config["database.host"] == "db"
    assert config["database.replicas.1.host"] == "b"
    assert config.database.replicas[0].host == "a"


def test_a_key_with_a_dot_is_found_as_it_is_and_quoted_in_a_path(config: Config) -> None:
    assert config.loggers["my.app"].level == config['loggers."my.app".level'] == "info"
    assert config["loggers.my.app.level"] == "other"


def test_is_a_mapping_by_its_operators(config: Config) -> None:
    assert list(config) == ["database", "loggers"]
    assert len(config) == 2
    assert "database" in config
    assert "database.port" in config
    assert 3 not in config
    assert config == parse_yaml(TEXT.encode(), Layer("other", "other"))
    assert config != parse_yaml(b"a: 1", Layer("other", "other"))
    assert config != {"database": 1}
    with pytest.raises(TypeError):
        hash(config)


def test_any_key_may_be_an_attribute_without_breaking_the_tree() -> None:
    keys = [
        "items",
        "keys",
        "get",
        "copy",
        "values",
        "self",
        "class",
        "_source",
        "_Config__source",
        "__dict__",
        "__class__",
    ]
    config = parse_yaml("\n".join(f"{key}: {n}" for n, key in enumerate(keys)).encode(), Layer("a", "a"))
    assert [config[key] for key in keys] == list(range(len(keys)))
    assert config.items == 0
    assert str(origin(config, "__dict__")) == "a:10:11"
    assert isinstance(config, Config)


def test_cannot_be_changed(config: Config) -> None:
    with pytest.raises(AttributeError):
        config.database = 1
    with pytest.raises(AttributeError):
        config.new = 1
    with pytest.raises(AttributeError):
        del config.database
    with pytest.raises(TypeError):
        config["a"] = 1
    assert isinstance(config.database.replicas, tuple)


def test_is_itself_when_copied_and_cannot_be_pickled(config: Config) -> None:
    assert copy.copy(config) is config
    assert copy.deepcopy(config) is config
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(config)


def test_shows_keys_and_no_values(config: Config) -> None:
    assert repr(config) == "<Config database, loggers>"
    assert repr(parse_yaml(b"", Layer("a", "a"))) == "<Config>"


def test_becomes_plain_dictionaries(config: Config) -> None:
    plain = as_dict(config)
    assert plain["database"] == {"host": "db", "port": 5432, "replicas": [{"host": "a"}, {"host": "b"}]}
    plain["database"]["host"] = "changed"
    assert config.database.host == "db"


def test_an_origin_is_data(config: Config) -> None:
    assert origin(config, "database.host") == Origin("app.yaml", "etc/app.yaml", 1, 18)
    assert origin(config.database, "host") == origin(config, "database.host")
    assert origin(config, "database.host").place == "etc/app.yaml:1:18"


@given(st.lists(st.text(st.characters(exclude_characters='"'), min_size=1), min_size=1))
def test_a_key_path_is_taken_apart_as_it_was_joined(keys: list[str]) -> None:
    assert parse_key_path(key_path(keys)) == keys


_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.integers() | st.sampled_from(["a", "b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
)


@given(st.dictionaries(st.sampled_from("abc"), _values))
def test_every_value_has_an_origin(tree: dict[str, Any]) -> None:
    import json

    config = parse_json(json.dumps(tree).encode(), Layer("a", "a"))

    def check(value: Any, path: tuple[str | int, ...]) -> None:  # noqa: ANN401 - any value
        if path:
            assert origin(config, key_path(path)).line == 1
            assert config[key_path(path)] == value
        children = value if isinstance(value, Config) else range(len(value)) if isinstance(value, tuple) else ()
        for key in children:
            check(value[key], (*path, key))

    check(config, ())


@pytest.mark.parametrize(
    "name", ["password", "DB_PASSWORD", "apiKey", "api_key", "client-secret", "token", "PrivateKey"]
)
def test_knows_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["host", "port", "key", "author", "passenger", "monkey"])
def test_knows_names_that_are_none(name: str) -> None:
    assert not is_secret_name(name)


def test_suggests_across_case_and_dashes() -> None:
    assert suggestion("Pool-Size", ["pool_size", "host"]) == "did you mean `pool_size`?"
