from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securecfg.config import Config, Layer, as_dict, origin
from securecfg.config.from_dotenv import parse_dotenv
from securecfg.config.from_environment import parse_environment
from securecfg.config.from_ini import parse_ini
from securecfg.errors import ConfigLimitExceeded, ConfigSyntaxError, InvalidReference, SecurecfgError, UsageError

INI = Layer("app.ini", "etc/app.ini")
DOTENV = Layer(".env", "etc/.env")
ENVIRONMENT = Layer("environment", "environment")


def dotenv(text: str) -> dict[str, Any]:
    return as_dict(parse_dotenv(text.encode(), DOTENV))


def environment(variables: dict[str, str], prefix: str = "PRE") -> Config:
    return parse_environment(variables, prefix, ENVIRONMENT)


# --- INI --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("just text\n", "1:1"),
        ("[open\n", "1:1"),
        ("[]\n", "1:1"),
        ("[a..b]\n", "1:1"),
        ("= 1\n", "1:1"),
        ("[a]\nx = 1\nx = 2\n", "3:5"),
        ("[a]\n[b]\n[a]\n", "3:1"),
        ("a = 1\n[a]\n", "2:1"),
        ("[a.b]\n[a]\nb = 1\n", "3:5"),
        ("[a]\nb = 1\n[a.b]\n", "3:1"),
        ("a = 1\0\n", "1:6"),
    ],
)
def test_ini_refuses_what_does_not_follow_the_format(text: str, place: str) -> None:
    with pytest.raises(ConfigSyntaxError) as caught:
        parse_ini(text.encode(), INI)
    assert caught.value.message.startswith(f"etc/app.ini:{place}: ")


def test_ini_refuses_deep_sections() -> None:
    with pytest.raises(ConfigLimitExceeded, match=r"etc/app.ini:1:1: is nested"):
        parse_ini(("[" + ".".join("a" * 1_000) + "]").encode(), INI)


def test_ini_names_the_place_of_a_malformed_reference() -> None:
    with pytest.raises(InvalidReference, match=r"^etc/app.ini:2:5: "):
        parse_ini(b"[a]\nb = ${secret:}\n", INI)


def test_ini_reads_sections_keys_comments_and_continued_lines() -> None:
    text = (
        "\ufefftop: 1\r\n; no\r\n[A b]\r\n# no\r\nKey = one\r\n  two\r\n\r\n  three\r\nempty =\r\n"
        "url = http://x/?a=b ; kept\r\n[A b.sub]\r\nx=%(y)s\r\n"
    )
    config = parse_ini(text.encode(), INI)
    assert as_dict(config) == {
        "top": "1",
        "A b": {
            "Key": "one\ntwo\n\nthree",
            "empty": "",
            "url": "http://x/?a=b ; kept",
            "sub": {"x": "%(y)s"},
        },
    }
    assert str(origin(config, "A b.Key")) == "app.ini:5:7"
    assert str(origin(config, "A b.sub.x")) == "app.ini:12:3"
    assert str(origin(config, "A b")) == "app.ini:3:1"


# --- .env -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("just text\n", "1:1"),
        ("A=1\nB\n", "2:1"),
        ("export A\n", "1:1"),
        ("1A=1\n", "1:1"),
        ("A B=1\n", "1:1"),
        ("=1\n", "1:1"),
        ("A='open\n", "1:3"),
        ('A="open\nB=2\n', "1:3"),
        ('A="x" y\n', "1:6"),
        ("A='x'y\n", "1:6"),
        ("A=1\nA=2\n", "2:3"),
        ("A=1\nA__B=2\n", "2:6"),
        ("A__B=1\nA=2\n", "2:3"),
        ("A=\0\n", "1:3"),
    ],
)
def test_dotenv_refuses_what_does_not_follow_the_format(text: str, place: str) -> None:
    with pytest.raises(ConfigSyntaxError) as caught:
        dotenv(text)
    assert caught.value.message.startswith(f"etc/.env:{place}: ")


def test_dotenv_refuses_names_that_nest_too_deep() -> None:
    with pytest.raises(ConfigLimitExceeded, match=r"etc/.env:1:"):
        dotenv("__".join("A" * 1_000) + "=1")


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=x", "x"),
        ("A=", ""),
        ("A = x y ", "x y"),
        ("export A=x", "x"),
        ("A=x # comment", "x"),
        ("A=# comment", ""),
        ("A=x#y", "x#y"),
        ("A='x # y' # comment", "x # y"),
        ("A='x\\ny'", "x\\ny"),
        ('A="x\\ny\\t\\"\\\\\\q"', 'x\ny\t"\\\\q'),
        ('A="one\ntwo"', "one\ntwo"),
        ("A='one\ntwo'", "one\ntwo"),
        ("A=$HOME/${HOME}", "$HOME/${HOME}"),
        ("A=x\r\n", "x"),
        ("A='x'\r\n", "x"),
    ],
)
def test_dotenv_reads_quotes_comments_and_escapes(line: str, value: str) -> None:
    assert dotenv(f"# first\n\n{line}") == {"A": value}


def test_dotenv_names_are_keys_as_written_and_nest() -> None:
    config = parse_dotenv(b"Db__Host=x\nDb__port=1\n__A=2\nB__=3\nC____D=4\nA.b-c=5\n", DOTENV)
    assert as_dict(config) == {"Db": {"Host": "x", "port": "1"}, "__A": "2", "B__": "3", "C____D": "4", "A.b-c": "5"}
    assert str(origin(config, "Db.port")) == ".env:2:10"


@given(st.text(st.characters(codec="utf-8", exclude_characters="'\0\r"), max_size=30))
@settings(deadline=None)
def test_dotenv_single_quotes_keep_any_text(text: str) -> None:
    try:
        assert dotenv(f"A='{text}'\nB=1") == {"A": text.replace("$${", "${"), "B": "1"}
    except InvalidReference:
        assert "${" in text


@given(st.text(alphabet="AB=_'\"\\#$ \n{}x", max_size=40))
@settings(deadline=None, max_examples=300)
def test_dotenv_gives_a_tree_or_an_error_of_ours(text: str) -> None:
    try:
        dotenv(text)
    except SecurecfgError as error:
        assert error.message.startswith("etc/.env:")  # noqa: PT017 - either outcome is right


# --- the environment --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "_", "__"])
def test_environment_refuses_to_take_everything(prefix: str) -> None:
    with pytest.raises(UsageError, match="is empty"):
        environment({"A": "1"}, prefix)


@pytest.mark.parametrize("variables", [{"PRE_A": "1", "PRE_A__B": "2"}, {"PRE_a": "1", "PRE_A": "2"}])
def test_environment_refuses_variables_that_contradict_each_other(variables: dict[str, str]) -> None:
    with pytest.raises(ConfigSyntaxError, match=r"^environment:PRE_"):
        environment(variables)


@pytest.mark.parametrize("variables", [{"PRE_A": "\udcff"}, {"PRE_\udcff": "x"}])
def test_environment_refuses_what_is_not_utf8(variables: dict[str, str]) -> None:
    with pytest.raises(ConfigSyntaxError, match="is not UTF-8"):
        environment(variables)


def test_environment_refuses_names_that_nest_too_deep() -> None:
    with pytest.raises(ConfigLimitExceeded):
        environment({"PRE_" + "__".join("A" * 1_000): "1"})


def test_environment_names_the_variable_of_a_malformed_reference() -> None:
    with pytest.raises(InvalidReference, match=r"^environment:PRE_A: "):
        environment({"PRE_A": "${secret:}"})


@pytest.mark.parametrize("prefix", ["PRE", "PRE_"])
def test_environment_takes_lower_case_names_after_the_prefix(prefix: str) -> None:
    config = environment({"PRE_A__B": "1", "PRE_C": "", "PREA": "no", "PRE": "no", "PRE_": "no", "X": "no"}, prefix)
    assert as_dict(config) == {"a": {"b": "1"}, "c": ""}
    assert str(origin(config, "a.b")) == "environment:PRE_A__B"
    assert origin(config, "a.b").variable == "PRE_A__B"
