"""Where each key of a TOML document stands.

`tomllib` decides what a document means and whether it is TOML at all; it does not say where a key was written. This
walk over the same text finds lines and columns. It never fails: what it does not understand it leaves out, and the
caller falls back on the nearest place known.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Final

from securecfg.policy.texts import Places

Key = tuple[str | int, ...]

MAX_DEPTH: Final = 16
_BLANK = re.compile(r"(?:[ \t\r\n,]+|#[^\n]*)*")
_PART = re.compile(r"""[ \t]*(?:"((?:[^"\\\n]|\\.)*)"|'([^'\n]*)'|([A-Za-z0-9_-]+))[ \t]*(\.?)""")
_EQUALS = re.compile("=")
_CLOSING = re.compile(r"\]{1,2}")
_SCALAR = re.compile(
    r'''"""(?:[^\\]|\\.)*?"""|'''
    r"'''.*?'''|"
    r'"(?:[^"\\\n]|\\.)*"|'
    r"'[^'\n]*'|"
    r"\d{4}-\d\d-\d\d \d[^\s,\]}#]*|"
    r"""[^\s,\]}#"']+""",
    re.DOTALL,
)


class _LostError(Exception):
    """The walk does not understand what it sees."""


class TomlPlaces:
    """The places of the keys and items of one document."""

    __slots__ = ("_found", "_places", "_position", "_tables", "_text")

    def __init__(self, document: str, text: str) -> None:
        """Find them."""
        self._places = Places(document, text)
        self._text = text
        self._found: dict[Key, int] = {}
        self._tables: dict[Key, int] = {}
        self._position = 0
        with suppress(_LostError):
            self._walk()

    def at(self, key: Key) -> int:
        """Return the offset of a key, else of the nearest key around it that is known, else 0."""
        while key and key not in self._found:
            key = key[:-1]
        return self._found.get(key, 0)

    def _walk(self) -> None:
        table: Key = ()
        while True:
            self._expect(_BLANK)
            start = self._position
            if start >= len(self._text):
                return
            brackets = 2 if self._text.startswith("[[", start) else 1 if self._text.startswith("[", start) else 0
            self._position += brackets
            name = self._key()
            if not brackets:
                self._assignment((*table, *name), start, 0)
                continue
            self._expect(_CLOSING)
            table = self._resolve(name)
            if brackets == 2:  # noqa: PLR2004 - `[[` is two brackets
                index = self._tables[table] = self._tables.get(table, -1) + 1
                table = (*table, index)
            self._note(table, start)

    def _resolve(self, name: tuple[str, ...]) -> Key:
        """Return the key of a table header, with the index of the last item of every array of tables in it."""
        key: Key = ()
        for part in name[:-1]:
            key = (*key, part)
            if key in self._tables:
                key = (*key, self._tables[key])
        return (*key, name[-1])

    def _note(self, key: Key, offset: int) -> None:
        for length in range(1, len(key) + 1):
            self._found.setdefault(key[:length], offset)

    def _expect(self, pattern: re.Pattern[str]) -> re.Match[str]:
        """Step over what fits a pattern."""
        match = pattern.match(self._text, self._position)
        if match is None:
            raise _LostError
        self._position = match.end()
        return match

    def _take(self, text: str) -> bool:
        """Step over blanks, and over a text if it comes next."""
        self._expect(_BLANK)
        is_next = self._text.startswith(text, self._position)
        if is_next:
            self._position += len(text)
        return is_next

    def _key(self) -> tuple[str, ...]:
        parts: list[str] = []
        while True:
            *names, dot = self._expect(_PART).groups()
            parts.append(next(name for name in names if name is not None))
            if not dot:
                return tuple(parts)

    def _assignment(self, key: Key, offset: int, depth: int) -> None:
        self._expect(_EQUALS)
        self._note(key, offset)
        self._value(key, depth)

    def _value(self, key: Key, depth: int) -> None:
        """Step over a value, noting what lies in it."""
        if depth > MAX_DEPTH or len(key) > MAX_DEPTH:
            raise _LostError
        if self._take("["):
            index = 0
            while not self._take("]"):
                self._note((*key, index), self._position)
                self._value((*key, index), depth + 1)
                index += 1
        elif self._take("{"):
            while not self._take("}"):
                offset = self._position
                self._assignment((*key, *self._key()), offset, depth + 1)
        else:
            self._expect(_SCALAR)
