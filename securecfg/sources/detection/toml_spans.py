"""Spans of the values of a TOML text.

No TOML reader tells positions, so the text is scanned here, and the result must equal what `tomllib` reads; a text on
which the two differ is refused.
"""

from __future__ import annotations

import re
import tomllib

from securecfg.errors import ConfigLimitExceeded, ConfigSyntaxError
from securecfg.sources.detection.scalars import (
    MAX_DEPTH,
    KeyPath,
    Scalar,
    Style,
    name_values,
    syntax_error,
    too_deep,
)

_BLANK = re.compile(r"[ \t]*+")
_BLANK_LINES = re.compile(r"(?:[ \t\r\n]++|#[^\n]*+)*+")
_KEY_PART = re.compile(r"""[A-Za-z0-9_-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+'""")
_STRINGS = (
    (Style.LONG_DOUBLE, re.compile(r'"""(?:\\.|[^\\"]|"{1,2}(?!"))*"{3,5}', re.DOTALL)),
    (Style.LONG_SINGLE, re.compile(r"'''(?:[^']|'{1,2}(?!'))*'{3,5}")),
    (Style.DOUBLE, re.compile(r'"(?:[^"\\\n]|\\.)*+"')),
    (Style.SINGLE, re.compile(r"'[^'\n]*+'")),
)
_FIXED = re.compile(r"[^\s,\]}#]++(?: \d\d:[^\s,\]}#]++)?")
_PLACE = re.compile(r"\(at (?:line (\d+), column (\d+)|end of document)\)")


def scan_toml(name: str, text: str) -> list[Scalar]:
    """Return the scalars of a TOML text.

    Raises:
        ConfigSyntaxError: It is not TOML.
        ConfigLimitExceeded: It is nested too deep.
    """
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _PLACE.search(str(error))
        line, column = (found.group(1), found.group(2)) if found else (None, None)
        place = f"{name}:{line}:{column}" if line else f"{name}:{text.count(chr(10)) + 1}"
        message = "not valid TOML"
        raise ConfigSyntaxError(message, place=place) from None
    except RecursionError:
        message = f"nested deeper than {MAX_DEPTH} levels"
        raise ConfigLimitExceeded(message, place=name) from None
    scanner = _Scanner(name, text)
    scanner.document()
    mine = {scalar.keys: scalar.value for scalar in scanner.scalars if scalar.style is not Style.FIXED}
    if mine != _strings(tree):
        message = "a spelling of TOML that cannot be edited in place"
        raise ConfigSyntaxError(message, place=name, hint="move the secrets of this file by hand")
    return scanner.scalars


def _strings(tree: object) -> dict[KeyPath, str]:
    found: dict[KeyPath, str] = {}
    waiting: list[tuple[KeyPath, object]] = [((), tree)]
    while waiting:
        keys, node = waiting.pop()
        if isinstance(node, str):
            found[keys] = node
        elif isinstance(node, dict):
            waiting.extend(((*keys, key), child) for key, child in node.items())
        elif isinstance(node, list):
            waiting.extend(((*keys, index), child) for index, child in enumerate(node))
    return found


class _Scanner:
    """Finds the spans in a text that `tomllib` has accepted."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        self.at = 0
        self.scalars: list[Scalar] = []
        self._table: KeyPath = ()
        self._tables: dict[KeyPath, int] = {}  # arrays of tables: the index of the last one
        self._first = 0

    def document(self) -> None:
        self._skip(_BLANK_LINES)
        while self.at < len(self.text):
            if self.text[self.at] == "[":
                self._header()
            else:
                self._pair(self._table)
            self._skip(_BLANK_LINES)
        self._leave_table()

    def _leave_table(self) -> None:
        name_values(self.scalars, self._first, len(self._table) + 1)
        self._first = len(self.scalars)

    def _header(self) -> None:
        self._leave_table()
        is_array = self.text.startswith("[[", self.at)
        self.at += 2 if is_array else 1
        parts = self._key()
        self.at += 2 if is_array else 1
        keys: KeyPath = ()
        for number, part in enumerate(parts, 1):
            keys = (*keys, part)
            if is_array and number == len(parts):
                self._tables[keys] = self._tables.get(keys, -1) + 1
            if keys in self._tables:
                keys = (*keys, self._tables[keys])
        self._table = keys

    def _pair(self, table: KeyPath) -> None:
        keys = (*table, *self._key())
        if len(keys) > MAX_DEPTH:
            raise too_deep(self.name, self.text, self.at)
        self.at += 1  # `=`
        self._skip(_BLANK)
        self._value(keys)

    def _key(self) -> tuple[str, ...]:
        parts: list[str] = []
        while True:
            self._skip(_BLANK)
            match = _KEY_PART.match(self.text, self.at)
            if match is None:
                raise syntax_error(self.name, self.text, self.at, "expected a key")
            raw = match.group()
            parts.append(tomllib.loads(f"x={raw}")["x"] if raw[0] in "\"'" else raw)
            self.at = match.end()
            self._skip(_BLANK)
            if self.text[self.at : self.at + 1] != ".":
                return tuple(parts)
            self.at += 1

    def _value(self, keys: KeyPath) -> None:
        if len(keys) > MAX_DEPTH:
            raise too_deep(self.name, self.text, self.at)
        following = self.text[self.at : self.at + 1]
        if following == "[":
            self._array(keys)
            return
        if following == "{":
            self._inline_table(keys)
            return
        for style, pattern in _STRINGS:
            match = pattern.match(self.text, self.at)
            if match is not None:
                value = tomllib.loads(f"x={match.group()}")["x"]
                self.scalars.append(Scalar(keys, value, self.at, match.end(), style))
                self.at = match.end()
                return
        match = _FIXED.match(self.text, self.at)
        if match is None:
            raise syntax_error(self.name, self.text, self.at, "expected a value")
        self.scalars.append(Scalar(keys, match.group(), self.at, match.end(), Style.FIXED))
        self.at = match.end()

    def _array(self, keys: KeyPath) -> None:
        self.at += 1
        index = 0
        while not self._closes("]"):
            self._value((*keys, index))
            index += 1

    def _inline_table(self, keys: KeyPath) -> None:
        self.at += 1
        first = len(self.scalars)
        while not self._closes("}"):
            self._pair(keys)
        name_values(self.scalars, first, len(keys) + 1)

    def _closes(self, bracket: str) -> bool:
        self._skip(_BLANK_LINES)
        if self.text[self.at : self.at + 1] == ",":
            self.at += 1
            self._skip(_BLANK_LINES)
        if self.text[self.at : self.at + 1] != bracket:
            return False
        self.at += 1
        return True

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self.text, self.at)
        if match is not None:
            self.at = match.end()
