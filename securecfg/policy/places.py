"""Where each key of a TOML document stands.

`tomllib` decides what a document means and whether it is TOML at all; it does not say where a key was written. This
walk over the same text finds lines and columns. It never fails: what it does not understand it leaves out, and the
caller falls back on the nearest place known.
"""

from __future__ import annotations

import re
from typing import Final

from securecfg.policy.statements import Places

Key = tuple[str | int, ...]

MAX_DEPTH: Final = 16
_BLANK = re.compile(r"(?:[ \t\r\n,]+|#[^\n]*)*")
_PART = re.compile(r"""[ \t]*(?:"((?:[^"\\\n]|\\.)*)"|'([^'\n]*)'|([A-Za-z0-9_-]+))[ \t]*""")
_SCALAR = re.compile(
    r'''"""(?:[^\\]|\\.)*?"""|\'\'\'.*?\'\'\'|"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[^\s,\]}#"']+''',
    re.DOTALL,
)


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
        self._walk()

    def at(self, key: Key) -> int:
        """Return the offset of a key, else of the nearest key around it that is known, else 0."""
        while key and key not in self._found:
            key = key[:-1]
        return self._found.get(key, 0)

    def _walk(self) -> None:
        table: Key = ()
        while True:
            self._blank()
            start = self._position
            if start >= len(self._text):
                return
            brackets = 2 if self._text.startswith("[[", start) else 1 if self._text.startswith("[", start) else 0
            self._position += brackets
            offset = self._position
            name = self._key()
            if not name or not self._take("]" * brackets if brackets else "="):
                return
            if not brackets:
                self._note((*table, *name), offset)
                if not self._value((*table, *name), 0):
                    return
                continue
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

    def _blank(self) -> None:
        match = _BLANK.match(self._text, self._position)
        self._position = match.end() if match else self._position

    def _take(self, text: str) -> bool:
        if not self._text.startswith(text, self._position):
            return False
        self._position += len(text)
        return True

    def _key(self) -> tuple[str, ...]:
        parts: list[str] = []
        while match := _PART.match(self._text, self._position):
            parts.append(next(group for group in match.groups() if group is not None))
            self._position = match.end()
            if len(parts) > MAX_DEPTH:
                return ()
            if not self._take("."):
                return tuple(parts)
        return ()

    def _value(self, key: Key, depth: int) -> bool:
        """Step over a value, noting what lies in it; return whether it was understood."""
        self._blank()
        if depth > MAX_DEPTH:
            return False
        if self._take("["):
            return self._array(key, depth)
        if self._take("{"):
            return self._inline_table(key, depth)
        match = _SCALAR.match(self._text, self._position)
        if match is None:
            return False
        self._position = match.end()
        return True

    def _array(self, key: Key, depth: int) -> bool:
        index = 0
        while True:
            self._blank()
            if self._take("]"):
                return True
            self._note((*key, index), self._position)
            if not self._value((*key, index), depth + 1):
                return False
            index += 1

    def _inline_table(self, key: Key, depth: int) -> bool:
        while True:
            self._blank()
            if self._take("}"):
                return True
            offset = self._position
            name = self._key()
            if not name or not self._take("="):
                return False
            self._note((*key, *name), offset)
            if not self._value((*key, *name), depth + 1):
                return False
