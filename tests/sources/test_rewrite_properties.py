"""For any document and any choice of secrets in it: only these change, and the undo gives the identical bytes."""

from __future__ import annotations

import configparser
import json
import re
import tomllib
from dataclasses import replace
from typing import Any

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from securecfg.secret import Secret
from securecfg.sources.detection import Confidence, Finding, Format, SourceFile
from securecfg.sources.detection.scalars import Scalar, Style, scan
from securecfg.sources.rewrite import apply_undo, rewrite

pytestmark = pytest.mark.no_cover

Tree = Any  # of any shape
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc", "Zl", "Zp"), exclude_characters="$\ufeff"))
LINES = st.lists(TEXTS, max_size=3).map("\n".join)
KEYS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_-]{0,8}", fullmatch=True)
LEAVES = TEXTS | LINES | st.integers(-(2**40), 2**40) | st.booleans()
TREES = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)
DOCUMENTS = st.dictionaries(KEYS, TREES, max_size=5)
CHOICES = st.lists(st.tuples(st.booleans(), st.booleans(), st.floats(0, 1), st.floats(0, 1)), max_size=30)


def finding(index: int, scalar: Scalar, part: tuple[int, int]) -> Finding:
    return Finding(
        file="f",
        line=1,
        column=1,
        key="",
        why="chosen",
        confidence=Confidence.CERTAIN,
        path=f"chosen/{index}",
        field="",
        value=Secret(scalar.value[slice(*part)]),
        span=(scalar.start, scalar.end),
        part=part,
        in_url=False,
    )


def choose(fmt: Format, text: str, choices: list[tuple[bool, bool, float, float]]) -> list[tuple[Scalar, Finding]]:
    chosen = []
    scalars = scan(fmt, "f", text)
    for index, (scalar, (taken, whole, low, high)) in enumerate(zip(scalars, choices, strict=False)):
        if not taken or scalar.style is Style.FIXED or not scalar.value:
            continue
        size = len(scalar.value)
        start, end = sorted((int(low * size), int(high * size)))
        part = (0, size) if whole or start == end else (start, end)
        chosen.append((scalar, finding(index, scalar, part)))
    return chosen


def replaced(tree: Tree, chosen: list[tuple[Scalar, Finding]]) -> Tree:
    copy = json.loads(json.dumps(tree))
    for scalar, each in chosen:
        node = copy
        for key in scalar.keys[:-1]:
            node = node[key]
        assert node[scalar.keys[-1]] == scalar.value
        start, end = each.part
        node[scalar.keys[-1]] = scalar.value[:start] + each.reference + scalar.value[end:]
    return copy


def check(suffix: str, fmt: Format, text: str, choices: list[tuple[bool, bool, float, float]]) -> tuple[str, Tree]:
    chosen = choose(fmt, text, choices)
    source = SourceFile(f"f{suffix}", text.encode())
    findings = [each for _, each in chosen]
    rewritten = rewrite(source, [_named(each, source.name) for each in findings])
    assert apply_undo(rewritten.content, rewritten.undo.reveal()) == source.content
    return rewritten.content.decode(), chosen


def _named(each: Finding, name: str) -> Finding:
    return replace(each, file=name)


@given(DOCUMENTS, CHOICES, st.sampled_from([None, 1, 2, "\t"]), st.booleans())
def test_json(document: dict[str, Tree], choices: Tree, indent: int | str | None, ascii_only: bool) -> None:
    text = json.dumps(document, indent=indent, ensure_ascii=ascii_only)
    after, chosen = check(".json", Format.JSON, text, choices)
    assert json.loads(after) == replaced(document, chosen)


@given(
    DOCUMENTS, CHOICES, st.sampled_from([None, "'", '"', "|", ">"]), st.booleans(), st.booleans(), st.integers(5, 100)
)
def test_yaml(document: Tree, choices: Tree, style: str | None, flow: bool, unicode: bool, width: int) -> None:
    text = yaml.safe_dump(document, default_style=style, default_flow_style=flow, allow_unicode=unicode, width=width)
    # PyYAML cannot read everything that it writes, such as a folded `" \xa0`; that is not what is tested here.
    assume(yaml.safe_load(text) == document)
    after, chosen = check(".yaml", Format.YAML, text, choices)
    assert yaml.safe_load(after) == replaced(document, chosen)


def to_toml(value: Tree) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {to_toml(child)}" for key, child in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(to_toml(child) for child in value) + "]"
    if isinstance(value, str):
        if "'" not in value and "\n" in value:
            return f"'''\n{value}'''"
        if "'" not in value and len(value) % 2:
            return f"'{value}'" if "\n" not in value else f"'''\n{value}'''"
        return re.sub(r"[\x7f-\x9f]", lambda found: f"\\u{ord(found.group()):04x}", json.dumps(value))
    return json.dumps(value)


def without_surrogate_pairs(text: str) -> str:
    return re.sub(
        r"\\ud[89ab]..\\ud[c-f]..", lambda found: str(json.loads(f'"{found.group()}"')), text, flags=re.IGNORECASE
    )


@given(DOCUMENTS, CHOICES, st.booleans())
def test_toml(document: Tree, choices: Tree, tables: bool) -> None:
    lines = [f"{key} = {to_toml(value)} # c" for key, value in document.items()]
    if tables:
        lines = [f"[[t.{key}]]\nv = {to_toml(value)}\n[[t.{key}]]" for key, value in document.items()]
        document = {"t": {key: [{"v": value}, {}] for key, value in document.items()}} if document else {}
    text = without_surrogate_pairs("\n".join(lines))
    assert tomllib.loads(text) == document
    after, chosen = check(".toml", Format.TOML, text, choices)
    assert tomllib.loads(after) == replaced(document, chosen)


WORDS = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Z"), exclude_characters="$;#\"'\\[]`="), min_size=1
)
FLAT = st.dictionaries(KEYS, st.lists(WORDS, max_size=3).map(" ".join), max_size=5)


@given(FLAT, CHOICES)
def test_ini(document: Tree, choices: Tree) -> None:
    text = "[s]\n" + "".join(f"{key} = {value}\n; comment\n" for key, value in document.items())
    after, chosen = check(".ini", Format.INI, text, choices)
    parser = configparser.RawConfigParser()
    parser.optionxform = str  # type: ignore[method-assign, assignment]  # how configparser is told to keep the case
    parser.read_string(after)
    assert {"s": dict(parser["s"])} == replaced({"s": document}, chosen)


def to_dotenv(key: str, value: str) -> str:
    if "'" not in value and len(value) % 2:
        return f"export {key}='{value}' # c"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n" if len(value) % 4 else "\n")
    return f'{key}="{escaped}"'


@given(st.dictionaries(st.from_regex(r"[A-Z]{1,8}", fullmatch=True), LINES, max_size=5), CHOICES)
def test_dotenv(document: Tree, choices: Tree) -> None:
    text = "# c\n" + "\n".join(to_dotenv(key, value) for key, value in document.items())
    after, chosen = check(".env", Format.DOTENV, text, choices)
    expected = replaced(document, chosen)
    scalars = scan(Format.DOTENV, "f", after)
    assert {scalar.keys[0]: scalar.value for scalar in scalars} == expected
