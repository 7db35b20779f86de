"""Where each value of a configuration file stands in its text.

A scanner turns the text of one file into `Scalar`s: the decoded value, its key path and the exact span of the text that
spells it. Everything outside the spans is nobody's to change, which is what keeps the comments, order, quoting and line
endings of a rewritten file as they were.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum, auto
from pathlib import PurePosixPath

from securecfg.errors import ConfigLimitExceeded, ConfigSyntaxError

MAX_DEPTH = 100
MAX_SCALARS = 500_000

KeyPath = tuple[str | int, ...]


class Format(Enum):
    """A file format in which secrets are looked for."""

    JSON = "JSON"
    YAML = "YAML"
    TOML = "TOML"
    INI = "INI"
    DOTENV = ".env"

    @classmethod
    def of(cls, name: str) -> Format | None:
        """Return the format that a file's name announces, or None."""
        base = PurePosixPath(name).name.lower()
        if base == ".env" or base.startswith(".env.") or base.endswith(".env"):
            return cls.DOTENV
        return _BY_NAME.get(base) or _BY_SUFFIX.get(PurePosixPath(base).suffix)


_BY_NAME = {".npmrc": Format.INI, ".pypirc": Format.INI}
_BY_SUFFIX = {
    ".json": Format.JSON,
    ".jsonc": Format.JSON,
    ".yaml": Format.YAML,
    ".yml": Format.YAML,
    ".toml": Format.TOML,
    ".ini": Format.INI,
    ".cfg": Format.INI,
    ".cnf": Format.INI,
}


class Style(Enum):
    """How a scalar is spelled, as far as it matters for spelling another value in its place."""

    PLAIN = auto()  # no delimiters
    FLOW = auto()  # YAML plain inside `{...}` or `[...]`, where braces end it
    DOUBLE = auto()  # "..." with backslash escapes
    SINGLE = auto()  # '...'
    LONG_DOUBLE = auto()  # TOML, three double quotes
    LONG_SINGLE = auto()  # TOML, three single quotes
    BLOCK = auto()  # YAML `|` and `>`
    FIXED = auto()  # a number, a boolean, a tagged value: not text, never replaced


QUOTES = {Style.DOUBLE: '"', Style.SINGLE: "'", Style.LONG_DOUBLE: '"""', Style.LONG_SINGLE: "'''"}


@dataclass(frozen=True, slots=True)
class Scalar:
    """One value of a file.

    Attributes:
        keys: The way from the root: names, and positions in lists from 0.
        value: The decoded value; of a `FIXED` one the text as it stands.
        start: Where its spelling begins in the text, delimiters included.
        end: Where its spelling ends.
        style: How it is spelled.
        named_by: What a sibling or an alias calls it, such as `DB_PASSWORD` in `{name: DB_PASSWORD, value: ...}`.
    """

    keys: KeyPath
    value: str = field(repr=False)
    start: int
    end: int
    style: Style
    named_by: tuple[str, ...] = ()


def scan(fmt: Format, name: str, text: str) -> list[Scalar]:
    """Return the scalars of a file in the order of the text.

    Args:
        fmt: The format to read it as.
        name: What to call the file in errors.
        text: Its text, without a byte order mark.

    Raises:
        ConfigSyntaxError: The text does not follow the format, or a key stands twice in one mapping.
        ConfigLimitExceeded: It is nested deeper, or holds more values, than the limits allow.
    """
    from securecfg.sources.detection import json_spans, line_spans, toml_spans, yaml_spans

    scanners = {
        Format.JSON: json_spans.scan_json,
        Format.YAML: yaml_spans.scan_yaml,
        Format.TOML: toml_spans.scan_toml,
        Format.INI: line_spans.scan_ini,
        Format.DOTENV: line_spans.scan_dotenv,
    }
    scalars = scanners[fmt](name, text)
    if len(scalars) > MAX_SCALARS:
        message = f"more than {MAX_SCALARS} values in one file"
        raise ConfigLimitExceeded(message, place=name)
    return scalars


def position(text: str, offset: int) -> tuple[int, int]:
    """Return the line and the column, both from 1, of an offset."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)


def syntax_error(name: str, text: str, offset: int, message: str) -> ConfigSyntaxError:
    """Return the error for a place in a text; the message must not quote the text."""
    line, column = position(text, offset)
    return ConfigSyntaxError(message, place=f"{name}:{line}:{column}")


def too_deep(name: str, text: str, offset: int) -> ConfigLimitExceeded:
    """Return the error for nesting beyond `MAX_DEPTH` at a place in a text."""
    line, column = position(text, offset)
    return ConfigLimitExceeded(f"nested deeper than {MAX_DEPTH} levels", place=f"{name}:{line}:{column}")


def is_encodable(value: str) -> bool:
    """Tell whether a decoded value is proper text: JSON can spell lone surrogates, which UTF-8 cannot hold."""
    return not any("\ud800" <= character <= "\udfff" for character in value)


def name_values(scalars: list[Scalar], first: int, depth: int) -> None:
    """Give the `value` of one mapping the name that its `name` says, as Kubernetes and others write pairs.

    Args:
        scalars: All scalars so far; those of the mapping, which has just ended, are replaced in place.
        first: The position of the mapping's first scalar.
        depth: How many keys lead to a direct child of the mapping.
    """
    own = scalars[first:]
    named = {scalar.keys[-1]: scalar for scalar in own if len(scalar.keys) == depth}
    name = next((named[key].value for key in ("name", "Name", "key", "Key", "type") if key in named), "")
    for index, scalar in enumerate(own, first):
        if name and len(scalar.keys) == depth and scalar.keys[-1] in {"value", "Value"}:
            scalars[index] = replace(scalar, named_by=(*scalar.named_by, name))
