"""Rewriting changes the secrets and nothing else."""

from __future__ import annotations

import json
import tomllib
import traceback
from dataclasses import replace

import pytest
import yaml

from securecfg.errors import ConfigError, UndoUnavailable
from securecfg.sources.detection import SourceFile, find_secrets
from securecfg.sources.rewrite import apply_undo, rewrite


def moved(name: str, text: str) -> str:
    """Return the text of a file after its secrets were moved, and check that they can be put back."""
    source = SourceFile(name, text.encode())
    plan = find_secrets([source])
    assert plan.problems == ()
    rewritten = rewrite(source, plan.findings)
    assert apply_undo(rewritten.content, rewritten.undo.reveal()) == source.content
    return rewritten.content.decode()


CASES = [
    # name, before, after
    ("a.json", '{"password" : "p\\u0040ss\\"9"}', '{"password" : "${secret:a/password}"}'),
    ("a.json", '{"u":"amqp:\\/\\/u:pw%40 9x@h"}', '{"u":"amqp:\\/\\/u:pw%40 9x@h"}'),
    ("a.json", '{"u":"amqp:\\/\\/u:pw%40x@h"}', '{"u":"amqp://u:${secret:a/u#password|url}@h"}'),
    ("a.yaml", "password: hunter2   # why\n", "password: ${secret:a/password}   # why\n"),
    ("a.yaml", "password: 'it''s m3'\r\n", "password: '${secret:a/password}'\r\n"),
    ("a.yaml", 'password: "a\\tb1"', 'password: "${secret:a/password}"'),
    ("a.yaml", "{password: hunter2, b: 1}", '{password: "${secret:a/password}", b: 1}'),
    ("a.yaml", "{u: redis://:hunter2@h/1}", '{u: "redis://:${secret:a/u#password|url}@h/1"}'),
    ("a.yaml", "password: &p hunter2\nother: *p\n", "password: &p ${secret:a/password}\nother: *p\n"),
    ("a.yaml", "password: !!str hunter2\n", "password: !!str ${secret:a/password}\n"),
    ("a.yaml", "password: one\n  two2\nb: 1\n", "password: ${secret:a/password}\nb: 1\n"),
    (
        "a.yaml",
        "password: | # keep\n  hunter2\n\n# end\nb: 1\n",
        "password: ${secret:a/password} # keep\n\n# end\nb: 1\n",
    ),
    ("a.yaml", "password: >-\n  hunter2\n  more2", "password: ${secret:a/password}"),
    ("a.yaml", "c: |\n  x\n  u=redis://:pw1@h\n", "c: |\n  x\n  u=redis://:${secret:a/c#password|url}@h\n"),
    ("a.toml", 'password="hunter2"# c\n', 'password="${secret:a/password}"# c\n'),
    ("a.toml", "password = '''\nhunter2'''\n", 'password = "${secret:a/password}"\n'),
    ("a.toml", 'password = """a""9"""\n', 'password = "${secret:a/password}"\n'),
    ("a.ini", "[s]\npassword = hunter2 ; c\n", "[s]\npassword = ${secret:a/s/password} ; c\n"),
    ("a.ini", "[s]\npassword : 'hunter2'\n", "[s]\npassword : '${secret:a/s/password}'\n"),
    ("a.ini", "[s]\npassword =\n  one1\n  two2\nb = 1\n", "[s]\npassword =${secret:a/s/password}\nb = 1\n"),
    (".env", "export PASSWORD=hunter2 # c\n", "export PASSWORD=${secret:env/PASSWORD} # c\n"),
    (".env", "PASSWORD='hunter2'", "PASSWORD='${secret:env/PASSWORD}'"),
    (".env", 'PASSWORD="a\\n\nb9"\nB=1', 'PASSWORD="${secret:env/PASSWORD}"\nB=1'),
    (".env", "\ufeffPASSWORD=hunter2\r\n", "\ufeffPASSWORD=${secret:env/PASSWORD}\r\n"),
    (".env.production", "PASSWORD=hunter2\n", "PASSWORD=${secret:env.production/PASSWORD}\n"),
    (".env", "A=$HOME ${X} $${Y}\nPASSWORD=hunter2\n", "A=$HOME ${X} $${Y}\nPASSWORD=${secret:env/PASSWORD}\n"),
]


@pytest.mark.parametrize(("name", "before", "after"), CASES)
def test_replaces_only_the_secret(name: str, before: str, after: str) -> None:
    assert moved(name, before) == after


def test_two_passwords_in_one_value_become_two_fields() -> None:
    text = "hosts: redis://:pw1@a,redis://:pw2@b\n"
    assert moved("a.yaml", text) == (
        "hosts: redis://:${secret:a/hosts#password|url}@a,redis://:${secret:a/hosts#password_2|url}@b\n"
    )


@pytest.mark.parametrize(
    "text",
    [
        "secret: ${secret:a/b}\n",
        "url: postgres://u:${secret:a/b|url}@h\n",
        "password: !secret a/b\n",
        "password: !vault |\n  abc123\n",
    ],
)
def test_what_is_a_reference_already_is_left_alone(text: str) -> None:
    assert moved("a.yaml", text) == text


def test_refuses_findings_of_other_bytes() -> None:
    plan = find_secrets([SourceFile("a.yaml", b"password: hunter2\n")])
    with pytest.raises(ConfigError) as caught:
        rewrite(SourceFile("a.yaml", b"# new\npassword: hunter2\n"), plan.findings)
    assert caught.value.code == "config"
    assert caught.value.place == "a.yaml"


def test_refuses_what_would_be_read_as_an_escaped_dollar() -> None:
    source = SourceFile("a.yaml", b"x: $hunter2\n")
    finding = replace(
        find_secrets([SourceFile("a.yaml", b"password: hunter2\n")]).findings[0], span=(3, 11), part=(1, 8)
    )
    with pytest.raises(ConfigError) as caught:
        rewrite(source, [finding])
    assert "hunter2" not in "".join(traceback.format_exception_only(caught.value))


def test_refuses_findings_of_another_file() -> None:
    plan = find_secrets([SourceFile("b.yaml", b"password: hunter2\n")])
    with pytest.raises(ConfigError):
        rewrite(SourceFile("a.yaml", b"password: hunter2\n"), plan.findings)


def test_without_findings_nothing_changes() -> None:
    source = SourceFile("a.yaml", b"\xef\xbb\xbfa: 1 \r\n\r\n")
    assert rewrite(source, ()).content == source.content


@pytest.mark.parametrize("change", [b"", b"x", b"password: other\n"])
def test_undo_refuses_a_file_that_changed(change: bytes) -> None:
    source = SourceFile("a.yaml", b"password: hunter2\n")
    rewritten = rewrite(source, find_secrets([source]).findings)
    with pytest.raises(UndoUnavailable) as caught:
        apply_undo(change, rewritten.undo.reveal())
    assert caught.value.code == "undo-unavailable"
    assert "hunter2" not in "".join(traceback.format_exception_only(caught.value))


def test_undo_of_a_restored_file_is_the_file() -> None:
    source = SourceFile("a.yaml", b"password: hunter2\n")
    rewritten = rewrite(source, find_secrets([source]).findings)
    assert apply_undo(source.content, rewritten.undo.reveal()) == source.content


UNDO = rewrite(
    SourceFile("a.yaml", b"password: hunter2\n"), find_secrets([SourceFile("a.yaml", b"password: hunter2\n")]).findings
)


def altered(**changes: object) -> bytes:
    return json.dumps({**json.loads(UNDO.undo.reveal()), **changes}).encode()


@pytest.mark.parametrize(
    "undo",
    [
        b"",
        b"\xff",
        b"[]",
        b"{}",
        b"null",
        b"[" * 10_000,
        UNDO.undo.reveal()[:-1],
        altered(version=2),
        altered(old="00"),
        altered(edits=[[0, 1]]),
        altered(edits=[[0, 1, "x"]]),
        altered(edits=[["x", 1, "x"]]),
        altered(edits=5),
    ],
)
def test_refuses_undo_material_that_is_not_ours(undo: bytes) -> None:
    with pytest.raises(UndoUnavailable):
        apply_undo(UNDO.content, undo)


def test_neither_the_result_nor_its_undo_shows_a_value() -> None:
    assert "hunter2" not in repr(UNDO)
    assert b"hunter2" in UNDO.undo.reveal()


def test_independent_readers_agree_on_what_was_changed() -> None:
    reference = "${secret:a/x/password}"
    old = {"x": {"password": "hunter2", "b": [1, True, "t"]}, "y": "ü"}
    new = {"x": {"password": reference, "b": [1, True, "t"]}, "y": "ü"}
    assert json.loads(moved("a.json", json.dumps(old))) == new
    assert yaml.safe_load(moved("a.yaml", yaml.safe_dump(old))) == new
    toml = 'y = "ü"\n[x]\npassword = "hunter2"\nb = [1, true, "t"]\n'
    assert tomllib.loads(moved("a.toml", toml)) == new
