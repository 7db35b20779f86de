"""Spans of the values of INI and `.env` texts, which are read line by line."""

from __future__ import annotations

import re

from securecfg.sources.detection.scalars import KeyPath, Scalar, Style, syntax_error

_LINE = re.compile(r"([^\r\n]*+)(?:\r\n|\n|\r|$)")
_SECTION = re.compile(r"[ \t]*\[([^\]\r\n]+)\]")
_OPTION = re.compile(r"[ \t]*+([^=:\s][^=:]*+)[=:][ \t]*+")
_FLAG = re.compile(r"[^=:]++")
_QUOTED = re.compile(r"""("[^"]*"|'[^']*')(?:[ \t]*|[ \t]+[;#].*)""")
_INLINE_COMMENT = re.compile(r"(?<![ \t])[ \t]++[;#](?:[ \t].*)?$")

_NAME = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][\w.-]*)[ \t]*(=)[ \t]*")
_DOUBLE = re.compile(r'"(?:[^"\\]|\\.)*+"', re.DOTALL)
_SINGLE = re.compile(r"'[^']*+'")
_UNQUOTED_COMMENT = re.compile(r"(?:^|(?<![ \t])[ \t]++)#.*$")
_AFTER_QUOTE = re.compile(r"[ \t]*(?:#.*)?$")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "\n": ""}


def scan_ini(name: str, text: str) -> list[Scalar]:
    """Return the scalars of an INI text. A key that stands twice is returned twice, as some dialects mean it.

    A value in quotes and a comment behind a value (` ; like this`) are recognised so that they stay as they are.

    Raises:
        ConfigSyntaxError: A line is neither a section, an option, a flag, a comment nor a continuation.
    """
    scalars: list[Scalar] = []
    section: KeyPath = ()
    indent: int | None = None  # of the option that a deeper line continues
    blank_lines = 0
    for match in _LINE.finditer(text):
        line, start = match.group(1), match.start()
        body = line.strip(" \t")
        if not body or body[0] in ";#":
            blank_lines += not body
            continue
        depth = len(line) - len(line.lstrip(" \t"))
        if indent is not None and depth > indent and scalars:
            scalars[-1] = _continued(scalars[-1], text, "\n" * blank_lines + body, start + depth + len(body))
            blank_lines = 0
            continue
        blank_lines = 0
        header = _SECTION.match(line)
        if header is not None:
            section, indent = tuple(part.strip() for part in header.group(1).split(".")), None
            continue
        option = _OPTION.match(line)
        if option is None:
            if _FLAG.fullmatch(line) is None:
                raise syntax_error(name, text, start, "not a line of an INI file")
            indent = None
            continue
        keys = (*section, option.group(1).rstrip(" \t"))
        indent = depth
        scalars.append(_ini_value(keys, line, start, option.end()))
    return scalars


def _ini_value(keys: KeyPath, line: str, start: int, offset: int) -> Scalar:
    rest = line[offset:].rstrip(" \t")
    quoted = _QUOTED.fullmatch(rest)
    if quoted is not None:
        inner = quoted.group(1)
        style = Style.DOUBLE if inner[0] == '"' else Style.SINGLE
        return Scalar(keys, inner[1:-1], start + offset, start + offset + len(inner), style)
    value = _INLINE_COMMENT.sub("", rest)
    return Scalar(keys, value, start + offset, start + offset + len(value), Style.PLAIN)


def _continued(scalar: Scalar, text: str, more: str, end: int) -> Scalar:
    # As `load` joins them: the lines without their indentation; quotes and comments behind the first are text then.
    line = _LINE.match(text, scalar.start)
    first = line.group(1).rstrip(" \t") if line is not None and "\n" not in scalar.value else scalar.value
    return Scalar(scalar.keys, f"{first}\n{more}", scalar.start, end, Style.PLAIN)


def scan_dotenv(name: str, text: str) -> list[Scalar]:
    """Return the scalars of a `.env` text. Where a name stands twice both are returned; readers take the last.

    Raises:
        ConfigSyntaxError: A line is not `NAME=value`, or a quote does not end.
    """
    scalars: list[Scalar] = []
    at = 0
    while at < len(text):
        line = _LINE.match(text, at)
        body = line.group(1) if line is not None else ""
        after = line.end() if line is not None else len(text)
        stripped = body.strip(" \t\f")
        if not stripped or stripped[0] == "#":
            at = after
            continue
        match = _NAME.match(text, at)
        if match is None or match.end() > at + len(body):
            if re.fullmatch(r"(?:export[ \t]+)?[A-Za-z_][\w.-]*", stripped):
                at = after  # a name without a value
                continue
            raise syntax_error(name, text, at, "expected `NAME=value`")
        scalar = _dotenv_value(name, text, match)
        scalars.append(scalar)
        rest = _LINE.match(text, scalar.end)
        at = rest.end() if rest is not None else len(text)
    return scalars


def _dotenv_value(name: str, text: str, match: re.Match[str]) -> Scalar:
    start, keys = match.end(), (match.group(1),)
    for pattern, style in ((_DOUBLE, Style.DOUBLE), (_SINGLE, Style.SINGLE)):
        if not text.startswith('"' if style is Style.DOUBLE else "'", start):
            continue
        quoted = pattern.match(text, start)
        if quoted is None:
            raise syntax_error(name, text, start, "a quote that does not end")
        rest = _LINE.match(text, quoted.end())
        if rest is None or _AFTER_QUOTE.fullmatch(rest.group(1)) is None:
            raise syntax_error(name, text, quoted.end(), "text behind a closing quote")
        return Scalar(keys, unescape_dotenv(quoted.group()), start, quoted.end(), style)
    line = _LINE.match(text, start)
    raw = line.group(1) if line is not None else ""
    value = _UNQUOTED_COMMENT.sub("", raw).rstrip(" \t")
    return Scalar(keys, value, start, start + len(value), Style.PLAIN)


def unescape_dotenv(quoted: str) -> str:
    """Return what a quoted value of a `.env` file means, as `load` reads it."""
    return quoted[1:-1] if quoted[0] == "'" else _ESCAPE.sub(_unescape, quoted[1:-1])


def _unescape(match: re.Match[str]) -> str:
    character = match.group(1)
    return _ESCAPES.get(character, character if character in "\"\\$'`" else match.group())
