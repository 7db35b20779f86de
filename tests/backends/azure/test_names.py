"""Paths as names of secrets: one to one, whatever the path."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from securecfg.backends.azure_names import NAME_LENGTH_MAX, to_name, to_path
from securecfg.errors import InvalidPath
from securecfg.vault.paths import path_to_bytes

NAME = re.compile(r"[a-z0-9-]{1,127}", re.ASCII)
PATHS = st.text(st.one_of(st.sampled_from("aZ09-_/."), st.characters(codec="utf-8")), min_size=1, max_size=12)
NAMES = st.text(st.sampled_from("aAf09-"), min_size=1, max_size=40)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("a", "a"),
        ("app/db/main", "app--db--main"),
        ("db-password-1", "db-password-1"),
        ("payments/stripe/api_key", "payments--stripe--api---key"),
        ("Db", "----44b"),
        ("a.b", "a----2eb"),
        ("a/é", "a------c3----a9"),
        ("a--b", "a----2d----2db"),
        ("a/-b", "a------2db"),
        ("a_/b", "a----5f--b"),
        ("_a", "----5fa"),
    ],
)
def test_a_path_has_one_name(path: str, name: str) -> None:
    assert to_name(path) == name
    assert to_path(name) == path


@given(PATHS)
@example("a_-b")
@example("a-----b")
@settings(suppress_health_check=[HealthCheck.filter_too_much])
def test_every_path_comes_back_from_its_name(path: str) -> None:
    try:
        path_to_bytes(path)
        name = to_name(path)
    except InvalidPath:
        assume(False)
    assert NAME.fullmatch(name)
    assert to_path(name) == path


@given(NAMES)
@example("a----2d")
@example("a----61")
def test_a_name_that_stands_for_a_path_is_that_of_the_path_and_case_tells_none_apart(name: str) -> None:
    path = to_path(name)
    assert to_path(name.upper()) == path
    if path:
        assert to_name(path) == name.lower()


@pytest.mark.parametrize(
    "name", ["a----b", "a-----b", "-a", "a-", "----", "a----61", "a----2", "a----2D-----b", "a----ff", "a_b", "é", ""]
)
def test_a_name_that_nothing_is_written_as_stands_for_no_path(name: str) -> None:
    assert to_path(name) == ""


def test_a_name_that_is_too_long_is_refused_and_not_cut() -> None:
    assert len(to_name("a" * NAME_LENGTH_MAX)) == NAME_LENGTH_MAX
    for path in ("a" * 128, "a/" * 42 + "bb", "é" * 11):
        with pytest.raises(InvalidPath) as refused:
            to_name(path)
        assert "127" in refused.value.hint
