"""`.env`: lines of `NAME=value`, every value a text.

What Docker, shells and the dotenv libraries agree on: `export` in front, `#` comments, single quotes for text as it is,
double quotes with escapes, both over several lines. Variables are not expanded. Names are keys as written, and `__`
nests.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from securecfg.config.flat import Nest, split_name
from securecfg.config.text import Lines, decode
from securecfg.errors import ConfigSyntaxError

if TYPE_CHECKING:
    from securecfg.config.tree import Config, Layer

_SKIP = re.compile(r"(?:[ \t\r\n]++|#[^\n]*+)*+")
_NAME = re.compile(r"(?:export[ \t]++)?+([A-Za-z_][A-Za-z0-9_.-]*+)[ \t]*+=[ \t]*+")
_SINGLE = re.compile(r"'([^']*+)'")
_DOUBLE = re.compile(r'"((?:[^"\\]|\\.)*+)"', re.DOTALL)
_BARE = re.compile(r"[^\r\n]*+")
_COMMENT = re.compile(r"(?:^|[ \t])#.*")
_END = re.compile(r"[ \t]*+(?:#[^\n]*+)?(?:\r?\n|\Z)")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\n": ""}


def parse_dotenv(content: bytes, layer: Layer) -> Config:
    """Parse a `.env` file.

    Raises:
        ConfigSyntaxError: It does not follow the format, or has a name twice.
        ConfigLimitExceeded: It is too large, or a name nests too deep.
        InvalidReference: A secret reference in it is malformed.
    """
    text = decode(content, layer.path)
    lines = Lines(text)
    nest = Nest(layer)
    at = _end(_SKIP, text, 0)
    while at < len(text):
        name = _NAME.match(text, at)
        if name is None:
            message = "a line is not `NAME=value`"
            raise ConfigSyntaxError(message, place=f"{layer.path}:{lines.spell(at)}")
        start = name.end()
        value, end = _value(text, start)
        rest = _END.match(text, end)
        if rest is None:
            unclosed = end == start
            message = "a quote is not closed" if unclosed else "something follows the closing quote"
            raise ConfigSyntaxError(message, place=f"{layer.path}:{lines.spell(end)}")
        nest.add(split_name(name[1]), value, lines.position(start))
        at = _end(_SKIP, text, rest.end())
    return nest.freeze()


def _value(text: str, start: int) -> tuple[str, int]:
    """Return a value and where it ends; where it starts if its quote is not closed."""
    if text.startswith("'", start):
        match = _SINGLE.match(text, start)
        return (match[1], match.end()) if match else ("", start)
    if text.startswith('"', start):
        match = _DOUBLE.match(text, start)
        # An escape that means nothing keeps its backslash, as in a shell.
        return (_ESCAPE.sub(_unescape, match[1]), match.end()) if match else ("", start)
    end = _end(_BARE, text, start)
    return _COMMENT.sub("", text[start:end]).strip(), end


def _unescape(match: re.Match[str]) -> str:
    character = match[1]
    return _ESCAPES.get(character, character if character in "\"\\$'`" else match[0])


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return at if match is None else match.end()
