"""TOML: the standard library decides what it means, a scan of our own finds where each value stands.

No TOML parser for Python tells places, and writing another parser would be one more opinion on the format. The scan
runs over a document that is known to be valid, so it has nothing to check.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from sys import intern
from typing import TYPE_CHECKING, Any

from securecfg.config.references import read_text
from securecfg.config.text import MAX_DEPTH, Lines, decode
from securecfg.config.tree import Config, Place, Written, create_config
from securecfg.errors import ConfigLimitExceeded, ConfigSyntaxError

if TYPE_CHECKING:
    from securecfg.config.tree import Layer

_STRING = r'''"""(?:\\.|[^\\])*?"""(?!")|\'\'\'.*?\'\'\'(?!\')|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+' '''.strip()
_SEGMENT = r"""(?:[A-Za-z0-9_-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')"""

# What matters for depth: nesting brackets outside strings and comments, and dotted keys of absurd length.
_DEPTH_TOKEN = re.compile(
    rf"(?P<dotted>{_SEGMENT}(?:[ \t]*+\.[ \t]*+{_SEGMENT}){{{MAX_DEPTH},}}+)|{_STRING}|(?P<unclosed>\"\"\"|''')"
    r"|#[^\n]*+|(?P<open>[\[{])|(?P<close>[\]}])",
    re.DOTALL,
)
_SKIP = re.compile(r"(?:[ \t\r\n]++|#[^\n]*+)*+")
_SKIP_IN_LINE = re.compile(r"[ \t]*+")
_KEY = re.compile(_SEGMENT)
_SCALAR = re.compile(rf"{_STRING}|[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}} [0-9]{{2}}:[^,\]}}\s#]++|[^,\]}}\s#]++", re.DOTALL)
_PLACE_IN_MESSAGE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


def parse_toml(content: bytes, layer: Layer) -> Config:
    """Parse a TOML 1.0 document.

    Raises:
        ConfigSyntaxError: It is not TOML.
        ConfigLimitExceeded: It is too large or too deep.
        InvalidReference: A secret reference in it is malformed.
    """
    text = decode(content, layer.path).replace("\r\n", "\n")
    lines = Lines(text)
    _check_depth(text, lines, layer)
    problem = ""
    try:
        values = tomllib.loads(text)
    except ValueError as error:
        problem = str(error)
    except RecursionError:
        message = f"is nested more than {MAX_DEPTH} levels deep"
        raise ConfigLimitExceeded(message, place=layer.path) from None
    if problem:
        raise _syntax_error(problem, lines, layer)
    return _combine(values, _Scan(text, lines).document(), layer, 1)


def _check_depth(text: str, lines: Lines, layer: Layer) -> None:
    depth = 0
    for token in _DEPTH_TOKEN.finditer(text):
        kind = token.lastgroup
        if kind == "unclosed":
            return
        if kind == "open":
            depth += 1
        elif kind == "close":
            depth -= 1
        if depth > MAX_DEPTH or kind == "dotted":
            message = f"is nested more than {MAX_DEPTH} levels deep"
            raise ConfigLimitExceeded(message, place=f"{layer.path}:{lines.spell(token.start())}")


def _syntax_error(problem: str, lines: Lines, layer: Layer) -> ConfigSyntaxError:
    match = _PLACE_IN_MESSAGE.search(problem)
    if match is None:
        # The only message without a place is Python's own, on a number of thousands of digits.
        return ConfigSyntaxError("a number has too many digits", place=layer.path)
    at = f"{match[1]}:{match[2]}" if match[1] else lines.spell(None)
    return ConfigSyntaxError(problem[0].lower() + problem[1 : match.start()], place=f"{layer.path}:{at}")


@dataclass(slots=True)
class _Table:
    position: int
    places: dict[str, _Shape] = field(default_factory=dict)


@dataclass(slots=True)
class _Array:
    position: int
    items: list[_Shape] = field(default_factory=list)


_Shape = int | _Table | _Array


def _combine(values: dict[str, Any], table: _Table, layer: Layer, depth: int) -> Config:
    if depth > MAX_DEPTH:
        message = f"is nested more than {MAX_DEPTH} levels deep"
        raise ConfigLimitExceeded(message, place=layer.path)
    combined: dict[str, Any] = {}
    places: dict[str, Place] = {}
    for key, value in values.items():
        name = intern(key)
        combined[name], places[name] = _combine_value(value, table.places[key], layer, depth + 1)
    return create_config(combined, Written(layer, places))


def _combine_value(value: Any, shape: _Shape, layer: Layer, depth: int) -> tuple[Any, Place]:  # noqa: ANN401 - any value
    if isinstance(shape, _Table):
        return _combine(value, shape, layer, depth), shape.position
    if isinstance(shape, _Array):
        pairs = [_combine_value(item, place, layer, depth + 1) for item, place in zip(value, shape.items, strict=True)]
        return tuple(item for item, _ in pairs), (shape.position, tuple(place for _, place in pairs))
    return (read_text(value, layer, shape) if isinstance(value, str) else value), shape


class _Scan:
    """One pass over a valid document."""

    def __init__(self, text: str, lines: Lines) -> None:
        self.text = text
        self.lines = lines
        self.at = 0

    def document(self) -> _Table:
        root = current = _Table(self.lines.position(0))
        self.skip(_SKIP)
        while self.at < len(self.text):
            if self.text.startswith("[[", self.at):
                self.at += 2
                keys = self.keys()
                parent = self.descend(root, keys[:-1])
                key, position = keys[-1]
                tables = parent.places.setdefault(key, _Array(position))
                current = _Table(position)
                if isinstance(tables, _Array):
                    tables.items.append(current)
                self.at += 2
            elif self.text[self.at] == "[":
                self.at += 1
                current = self.descend(root, self.keys())
                self.at += 1
            else:
                self.pair(current)
            self.skip(_SKIP)
        return root

    def descend(self, table: _Table, keys: list[tuple[str, int]]) -> _Table:
        for key, position in keys:
            shape = table.places.setdefault(key, _Table(position))
            while isinstance(shape, _Array):
                shape = shape.items[-1]
            if isinstance(shape, _Table):
                table = shape
        return table

    def pair(self, table: _Table) -> None:
        keys = self.keys()
        self.at += 1  # the `=`
        self.skip(_SKIP_IN_LINE)
        key, position = keys[-1]
        shape = self.value()
        if not isinstance(shape, int):
            shape.position = position  # a section is where its key is
        self.descend(table, keys[:-1]).places[key] = shape

    def keys(self) -> list[tuple[str, int]]:
        """Read a dotted key, up to what follows it."""
        keys: list[tuple[str, int]] = []
        while True:
            self.skip(_SKIP_IN_LINE)
            start = self.at
            self.skip(_KEY)
            raw = self.text[start : self.at]
            # A quoted key is a TOML string; the escapes are the parser's business.
            name = next(iter(tomllib.loads(f"{raw} = 0"))) if raw[0] in "\"'" else raw
            keys.append((name, self.lines.position(start)))
            self.skip(_SKIP_IN_LINE)
            if self.text[self.at] != ".":
                return keys
            self.at += 1

    def value(self) -> _Shape:
        position = self.lines.position(self.at)
        character = self.text[self.at]
        if character == "[":
            array = _Array(position)
            self.at += 1
            self.skip(_SKIP)
            while self.text[self.at] != "]":
                array.items.append(self.value())
                self.separator()
            self.at += 1
            return array
        if character == "{":
            table = _Table(position)
            self.at += 1
            self.skip(_SKIP)
            while self.text[self.at] != "}":
                self.pair(table)
                self.separator()
            self.at += 1
            return table
        self.skip(_SCALAR)
        return position

    def separator(self) -> None:
        self.skip(_SKIP)
        if self.text[self.at] == ",":
            self.at += 1
            self.skip(_SKIP)

    def skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self.text, self.at)
        if match is not None:
            self.at = match.end()
