"""Extensions of the schema: further attributes of the context, which the host program sets.

    type Context = {
      ticket?: String,
      approvers?: Set<String>,
    };

Entities and actions are the vault's and cannot be extended: a rule about them would never be asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from securecfg.policy.context import SCALAR_TYPES
from securecfg.policy.problems import Problem, Problems, did_you_mean
from securecfg.policy.statements import Token, split_statements
from securecfg.policy.texts import Places, check_text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_HINT: Final = "an extension is `type Context = { NAME?: TYPE, ... };`"
_TYPES: Final = (*SCALAR_TYPES, *(f"Set<{name}>" for name in SCALAR_TYPES))
_RESERVED: Final = frozenset({"true", "false", "if", "then", "else", "in", "is", "like", "has", "__cedar"})
MAX_ATTRIBUTES: Final = 100


def parse_extension(document: str, text: str, taken: Collection[str]) -> dict[str, str]:
    """Read an extension and return its attributes' names and types.

    Args:
        document: What places are called by.
        text: The extension.
        taken: Names that attributes have already.

    Raises:
        Problems: What is wrong with it.
    """
    check_text(document, text)
    places = Places(document, text)
    attributes: dict[str, str] = {}
    problems: list[Problem] = []
    for statement in split_statements(document, text):
        words = iter(statement.tokens)
        for expected in ("type", "Context", "=", "{"):
            _expect(words, expected, places)
        for name, type_name in _attributes(words, places):
            if name.text in _RESERVED:
                problems.append(places.problem(name.start, f"`{name.text}` is a word of the language"))
            elif name.text in attributes or name.text in taken:
                problems.append(places.problem(name.start, f"the context already has an attribute `{name.text}`"))
            elif type_name not in _TYPES:
                problems.append(
                    places.problem(name.start, f"unknown type `{type_name}`", did_you_mean(type_name, _TYPES))
                )
            attributes.setdefault(name.text, type_name)
        _expect(words, ";", places)
    if len(attributes) > MAX_ATTRIBUTES:
        problems.append(Problem(document, 1, 1, f"more than {MAX_ATTRIBUTES} attributes"))
    if problems:
        raise Problems(problems)
    return attributes


def _attributes(words: Iterator[Token], places: Places) -> Iterator[tuple[Token, str]]:
    """Yield names and types up to the closing brace."""
    token = next(words)
    while token.text != "}":
        if token.kind != "word":
            raise Problems([places.problem(token.start, f"`{token.text}` where a name should be", _HINT)])
        name, mark = token, next(words)
        if mark.text != "?":
            message = f"the attribute `{name.text}` is not optional"
            raise Problems([places.problem(name.start, message, f"write `{name.text}?:`, since a host may not set it")])
        _expect(words, ":", places)
        parts: list[str] = []
        token = next(words)
        while token.text not in {",", "}"}:
            parts.append(token.text)
            token = next(words)
        yield name, "".join(parts)
        if token.text == ",":
            token = next(words)


def _expect(words: Iterator[Token], text: str, places: Places) -> None:
    token = next(words)
    if token.text != text:
        raise Problems([places.problem(token.start, f"`{token.text}` where `{text}` should be", _HINT)])
