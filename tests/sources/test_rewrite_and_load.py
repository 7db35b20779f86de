"""What `load` reads from a rewritten file is what it read before."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from securecfg.config.formats import parse_document
from securecfg.config.tree import Layer, as_dict
from securecfg.errors import ConfigError
from securecfg.secret import Secret
from securecfg.sources.detection import Format, Plan, SourceFile, find_secrets
from securecfg.sources.detection.shapes import is_placeholder, looks_like_example
from securecfg.sources.rewrite import rewrite
from tests.corpus.reading import read_corpus

if TYPE_CHECKING:
    from collections.abc import Sequence

    from securecfg.config.references import Reference

Tree = Any  # of any shape
CONTENT_TYPES = {
    Format.JSON: "application/json",
    Format.YAML: "application/yaml",
    Format.TOML: "application/toml",
    Format.INI: "application/x-ini",
    Format.DOTENV: "application/x-dotenv",
}


class PlannedSecrets:
    """Answers with what an import would have written."""

    def __init__(self, plan: Plan) -> None:
        self._values = plan.of_path()

    def resolve(self, references: Sequence[Reference], /) -> Sequence[Secret[str]]:
        answers: list[Secret[str]] = []
        for reference in references:
            value = self._values[reference.path]
            if isinstance(value, dict):
                assert reference.field is not None
                value = value[reference.field]
            answers.append(value)
        return answers


def revealed(value: Tree) -> Tree:
    if isinstance(value, dict):
        return {key: revealed(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [revealed(child) for child in value]
    return value.reveal() if isinstance(value, Secret) else value


# What RFC 3986 lets stand in a password as it is, and what must be encoded, as most programs write it.
PASSWORDS = st.lists(
    st.sampled_from([*string.ascii_letters, *string.digits, *"-._~!$&'()*+,;=", "%40", "%3A", "%2F", "%25"])
)
WRITTEN = {
    "a.yaml": "url: {}\nother: 1\n",
    "a.json": '{{"url": "{}"}}\n',
    "a.toml": 'url = "{}"\n',
    ".env": 'URL="{}"\n',
}


@pytest.mark.parametrize("name", WRITTEN)
@settings(deadline=None)
@given(parts=PASSWORDS)
def test_a_url_loads_byte_for_byte_as_it_was_written(name: str, parts: list[str]) -> None:
    password = f"hunter2{''.join(parts)}"
    assume(not (is_placeholder(unquote(password)) or looks_like_example(unquote(password))))
    url = f"postgres://app:{password}@db.internal:5432/shop?sslmode=require"
    assume(not (name == ".env" and "$" in url))  # between double quotes a dollar is escaped
    source = SourceFile(name, WRITTEN[name].format(url).encode())
    plan = find_secrets([source])
    content = rewrite(source, plan.findings).content
    assert b"hunter2" not in content
    assert b"|url}@db.internal" in content
    layer = Layer(name, name, PlannedSecrets(plan))
    fmt = Format.of(name)
    assert fmt is not None
    (loaded, *_) = as_dict(parse_document(content, CONTENT_TYPES[fmt], layer)).values()
    assert loaded.reveal() == url


@pytest.mark.parametrize("source", read_corpus(), ids=lambda source: source.name)
def test_a_rewritten_file_loads_as_before(source: SourceFile) -> None:
    plan = find_secrets([source])
    fmt = Format.of(source.name)
    assert fmt is not None
    try:
        before = parse_document(source.content, CONTENT_TYPES[fmt], Layer(source.name, source.name))
    except ConfigError:
        return  # a dialect, or several documents, that `load` does not read: it has no meaning to keep
    layer = Layer(source.name, source.name, PlannedSecrets(plan))
    after = parse_document(rewrite(source, plan.findings).content, CONTENT_TYPES[fmt], layer)
    assert revealed(as_dict(after)) == revealed(as_dict(before))
