"""JSON, with the place of each value.

Strict where the standard library is lenient: duplicate keys, `NaN`, infinities and lone surrogates are errors.
"""

from __future__ import annotations

import re
from json import JSONDecodeError
from json.decoder import scanstring  # type: ignore[attr-defined]  # in C; absent from the stubs
from math import isinf
from sys import intern
from typing import TYPE_CHECKING, Any, NoReturn

from securecfg.config.references import read_text
from securecfg.config.text import MAX_DEPTH, Lines, decode
from securecfg.config.tree import Config, Place, Written, create_config
from securecfg.errors import ConfigLimitExceeded, ConfigSyntaxError

if TYPE_CHECKING:
    from securecfg.config.tree import Layer

_SPACE = re.compile(r"[ \t\n\r]*")
_NUMBER = re.compile(r"(-?(?:0|[1-9][0-9]*))(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_CONSTANTS = (("true", True), ("false", False), ("null", None))


def parse_json(content: bytes, layer: Layer) -> Config:
    """Parse a JSON document whose root is an object.

    Raises:
        ConfigSyntaxError: It is not such a document.
        ConfigLimitExceeded: It is too large or too deep.
        InvalidReference: A secret reference in it is malformed.
    """
    text = decode(content, layer.path)
    return _Reader(text, layer).document()


class _Reader:
    def __init__(self, text: str, layer: Layer) -> None:
        self.text = text
        self.layer = layer
        self.lines = Lines(text)
        self.at = 0

    def document(self) -> Config:
        self.skip_space()
        if not self.text.startswith("{", self.at):
            self.fail("the root is not an object")
        config, _ = self.mapping(self.at, 1)
        self.skip_space()
        if self.at != len(self.text):
            self.fail("something follows the end of the document")
        return config

    def value(self, depth: int) -> tuple[Any, Place]:
        start = self.at
        character = self.text[start : start + 1]
        if character == '"':
            position = self.lines.position(start)
            return read_text(self.string(), self.layer, position), position
        if character == "{":
            return self.mapping(start, depth)
        if character == "[":
            return self.list(depth)
        position = self.lines.position(start)
        match = _NUMBER.match(self.text, start)
        if match is not None:
            self.at = match.end()
            return self.number(match), position
        for name, constant in _CONSTANTS:
            if self.text.startswith(name, start):
                self.at = start + len(name)
                return constant, position
        return self.fail("a value is missing or is not JSON")

    def mapping(self, start: int, depth: int) -> tuple[Config, Place]:
        self.check_depth(depth)
        position = self.lines.position(start)
        values: dict[str, Any] = {}
        places: dict[str, Place] = {}
        self.at += 1
        self.skip_space()
        while not self.text.startswith("}", self.at):
            if values:
                self.expect(",", "a `,` or `}` is missing")
            key_start = self.at
            if not self.text.startswith('"', key_start):
                self.fail("a key in double quotes is missing")
            key = intern(self.string())
            if key in values:
                self.at = key_start
                self.fail(f"the key `{key}` is there twice" if key.isprintable() else "a key is there twice")
            self.skip_space()
            self.expect(":", "a `:` is missing after a key")
            value, place = self.value(depth + 1)
            values[key] = value
            if isinstance(value, Config):
                place = self.lines.position(key_start)  # a section is where its key is
            elif isinstance(place, tuple):
                place = (self.lines.position(key_start), place[1])
            places[key] = place
            self.skip_space()
        self.at += 1
        return create_config(values, Written(self.layer, places)), position

    def list(self, depth: int) -> tuple[tuple[Any, ...], Place]:
        self.check_depth(depth)
        position = self.lines.position(self.at)
        items: list[Any] = []
        places: list[Place] = []
        self.at += 1
        self.skip_space()
        while not self.text.startswith("]", self.at):
            if items:
                self.expect(",", "a `,` or `]` is missing")
            value, place = self.value(depth + 1)
            items.append(value)
            places.append(place)
            self.skip_space()
        self.at += 1
        return tuple(items), (position, tuple(places))

    def string(self) -> str:
        start = self.at
        try:
            value, self.at = scanstring(self.text, start + 1, True)  # noqa: FBT003 - strict, in C and positional only
        except JSONDecodeError as error:
            self.at, problem = error.pos, error.msg
        else:
            if value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value):
                return str(value)
            self.at, problem = start, "Lone surrogate in a string"
        # Outside the handler: a decoding error carries the whole document with it.
        return self.fail(problem[:1].lower() + problem[1:].partition(" starting at")[0])

    def number(self, match: re.Match[str]) -> int | float:
        whole, fraction, exponent = match.groups()
        if fraction is None and exponent is None:
            try:
                return int(whole)
            except ValueError:
                number = float("inf")  # more digits than Python converts
        else:
            number = float(match[0])
        if isinf(number):
            self.at = match.start()
            self.fail("a number is out of range")
        return number

    def skip_space(self) -> None:
        match = _SPACE.match(self.text, self.at)
        if match is not None:
            self.at = match.end()

    def expect(self, character: str, problem: str) -> None:
        if not self.text.startswith(character, self.at):
            self.fail(problem)
        self.at += 1
        self.skip_space()

    def check_depth(self, depth: int) -> None:
        if depth > MAX_DEPTH:
            message = f"is nested more than {MAX_DEPTH} levels deep"
            raise ConfigLimitExceeded(message, place=f"{self.layer.path}:{self.lines.spell(self.at)}")

    def fail(self, problem: str) -> NoReturn:
        raise ConfigSyntaxError(problem, place=f"{self.layer.path}:{self.lines.spell(self.at)}")
