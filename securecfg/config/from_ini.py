"""INI: sections of `key = value` or `key: value`, every value a text.

The common dialect, without interpolation and without defaults that leak into other sections: whole-line comments with
`#` or `;`, values that continue on indented lines, keys in the case in which they are written. `[a.b]` is `b` within
`a`; keys before the first section are at the top.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.config.flat import Nest
from securecfg.config.text import decode
from securecfg.config.tree import Config, pack
from securecfg.errors import ConfigSyntaxError

if TYPE_CHECKING:
    from securecfg.config.tree import Layer


def parse_ini(content: bytes, layer: Layer) -> Config:
    """Parse an INI file.

    Raises:
        ConfigSyntaxError: It does not follow the format, or has a section or key twice.
        ConfigLimitExceeded: It is too large, or a section too deep.
        InvalidReference: A secret reference in it is malformed.
    """
    nest = Nest(layer)
    section: list[str] = []
    seen: set[str] = set()
    pending: tuple[str, list[str], int] | None = None

    def finish() -> None:
        if pending is not None:
            key, texts, position = pending
            nest.add([*section, key], "\n".join(texts).rstrip(), position)

    for number, line in enumerate(decode(content, layer.path).split("\n"), start=1):
        text = line.strip()
        if text.startswith(("#", ";")):
            continue
        if not text:
            if pending is not None:
                pending[1].append("")
            continue
        indent = len(line) - len(line.lstrip())
        if indent and pending is not None:
            pending[1].append(text)
            continue
        finish()
        pending = None
        place = f"{layer.path}:{number}:{indent + 1}"
        if text.startswith("["):
            section = _section(text, place)
            name = ".".join(section)
            if name in seen:
                message = f"the section `{name}` is there twice"
                raise ConfigSyntaxError(message, place=place)
            seen.add(name)
            nest.section(section, pack(number, indent + 1))
        else:
            key, value, column = _pair(line, place)
            pending = key, [value], pack(number, column)
    finish()
    return nest.freeze()


def _section(text: str, place: str) -> list[str]:
    keys = [key.strip() for key in text[1:-1].split(".")]
    if not text.endswith("]") or not all(keys):
        message = "a section is not written `[name]`"
        raise ConfigSyntaxError(message, place=place)
    return keys


def _pair(line: str, place: str) -> tuple[str, str, int]:
    at = min((line.index(sign) for sign in "=:" if sign in line), default=-1)
    key = line[:at].strip()
    if at < 0 or not key:
        message = "a line is neither a section nor `key = value`"
        raise ConfigSyntaxError(message, place=place)
    value = line[at + 1 :]
    column = at + 2 + len(value) - len(value.lstrip())
    return key, value.strip(), column
