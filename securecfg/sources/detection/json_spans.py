"""Spans of the values of a JSON text, comments and trailing commas allowed as editors' settings files use them."""

from __future__ import annotations

import json
import re

from securecfg.sources.detection.scalars import (
    MAX_DEPTH,
    KeyPath,
    Scalar,
    Style,
    is_encodable,
    name_values,
    syntax_error,
    too_deep,
)

# No possessive groups within a possessive group: Python 3.11.2 matches them wrongly. Nothing follows, so nothing is
# tried again either.
_BLANK = re.compile(r"(?:[ \t\r\n]+|//[^\n]*|/\*[^*]*\*+(?:[^/*][^*]*\*+)*/)*")
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9A-Fa-f]{4})*+"')
_FIXED = re.compile(r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+|true|false|null|NaN|-?Infinity")


def scan_json(name: str, text: str) -> list[Scalar]:
    """Return the scalars of a JSON text.

    Raises:
        ConfigSyntaxError: It is not JSON, or a key stands twice in one object.
        ConfigLimitExceeded: It is nested too deep.
    """
    scanner = _Scanner(name, text)
    scanner.document()
    return scanner.scalars


class _Scanner:
    """A recursive descent whose depth is bounded."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self.at = 0
        self.scalars: list[Scalar] = []

    def document(self) -> None:
        self._skip()
        self._value(())
        self._skip()
        if self.at != len(self.text):
            raise syntax_error(self.name, self.text, self.at, "text after the end of the JSON value")

    def _skip(self) -> None:
        match = _BLANK.match(self.text, self.at)
        if match is not None:
            self.at = match.end()

    def _value(self, keys: KeyPath) -> None:
        following = self.text[self.at : self.at + 1]
        if following == "{":
            self._object(keys)
        elif following == "[":
            self._array(keys)
        elif following == '"':
            start = self.at
            value = self._string()
            style = Style.DOUBLE if is_encodable(value) else Style.FIXED
            self.scalars.append(Scalar(keys, value, start, self.at, style))
        else:
            match = _FIXED.match(self.text, self.at)
            if match is None:
                raise syntax_error(self.name, self.text, self.at, "expected a JSON value")
            self.scalars.append(Scalar(keys, match.group(), self.at, match.end(), Style.FIXED))
            self.at = match.end()

    def _string(self) -> str:
        match = _STRING.match(self.text, self.at)
        if match is None:
            raise syntax_error(self.name, self.text, self.at, "a string that does not end, or with a wrong escape")
        self.at = match.end()
        value: str = json.loads(match.group())
        return value

    def _object(self, keys: KeyPath) -> None:
        self._enter(keys)
        first = len(self.scalars)
        seen: set[str] = set()
        while not self._closes("}"):
            if self.text[self.at : self.at + 1] != '"':
                raise syntax_error(self.name, self.text, self.at, "expected a key in double quotes")
            start = self.at
            key = self._string()
            if key in seen:
                raise syntax_error(self.name, self.text, start, "a key that stands twice in one object")
            seen.add(key)
            self._skip()
            if self.text[self.at : self.at + 1] != ":":
                raise syntax_error(self.name, self.text, self.at, "expected `:` after a key")
            self.at += 1
            self._skip()
            self._value((*keys, key))
            self._separate("}")
        name_values(self.scalars, first, len(keys) + 1)

    def _array(self, keys: KeyPath) -> None:
        self._enter(keys)
        index = 0
        while not self._closes("]"):
            self._value((*keys, index))
            index += 1
            self._separate("]")

    def _enter(self, keys: KeyPath) -> None:
        if len(keys) >= MAX_DEPTH:
            raise too_deep(self.name, self.text, self.at)
        self.at += 1
        self._skip()

    def _closes(self, bracket: str) -> bool:
        if self.text[self.at : self.at + 1] != bracket:
            return False
        self.at += 1
        return True

    def _separate(self, bracket: str) -> None:
        self._skip()
        following = self.text[self.at : self.at + 1]
        if following == ",":
            self.at += 1
            self._skip()
        elif following != bracket:
            raise syntax_error(self.name, self.text, self.at, f"expected `,` or `{bracket}`")
