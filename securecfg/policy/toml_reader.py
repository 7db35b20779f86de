"""Reading TOML documents strictly: every unknown key and every wrong value is a problem with a place."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Any, Final

from securecfg.policy.places import Key, TomlPlaces
from securecfg.policy.problems import Problem, Problems, did_you_mean
from securecfg.policy.texts import Places, check_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_KEY_PARTS: Final = 16
# `tomllib` takes a time that grows with the square of the number of parts.
_LONG_KEY = re.compile(
    rf"""(?:^|[\[{{,])[ \t]*+(?:(?>[A-Za-z0-9_-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){{{MAX_KEY_PARTS}}}""",
    re.MULTILINE,
)
_AT: Final = r" \(at (?:line (\d+), column (\d+)|end of document)\)$"


def load_toml(document: str, text: str, limit: int) -> tuple[dict[str, Any], TomlPlaces]:
    """Return a TOML document, and where its keys stand.

    Raises:
        Problems: The text is too long, has characters that no document may have, or is not TOML.
    """
    check_text(document, text, limit)
    match = _LONG_KEY.search(text)
    if match:
        raise Problems([Places(document, text).problem(match.start(), f"a key of more than {MAX_KEY_PARTS} parts")])
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        match = re.search(_AT, message)
        line, column = Places(document, text).at(len(text))
        if match and match[1]:
            line, column = int(match[1]), int(match[2])
        said = re.sub(_AT, "", message)
        raise Problems([Problem(document, line, column, said[:1].lower() + said[1:])]) from None
    except RecursionError:
        raise Problems([Problem(document, 1, 1, "nested too deeply")]) from None
    return content, TomlPlaces(document, text)


class TableReader:
    """Reads values of a TOML document, keeping every problem with its place.

    Attributes:
        document: What places are called by.
        problems: What was found so far.
    """

    def __init__(self, document: str, text: str, places: TomlPlaces) -> None:
        """Start without problems."""
        self.document = document
        self._lines = Places(document, text)
        self._places = places
        self.problems: list[Problem] = []

    def line_and_column(self, key: Key) -> tuple[int, int]:
        """Return where a key stands."""
        return self._lines.at(self._places.at(key))

    def complain(self, key: Key, message: str, hint: str = "") -> None:
        """Note a problem at a key."""
        self.problems.append(self._lines.problem(self._places.at(key), message, hint))

    def table(self, key: Key, value: object, known: Iterable[str]) -> Mapping[str, object]:
        """Return a table's known keys, complaining about others."""
        known = tuple(known)
        if not isinstance(value, dict):
            self.complain(key, f"`{key[-1]}` is not a table")
            return {}
        for name in value:
            if name not in known:
                self.complain((*key, name), f"unknown key `{name}`", did_you_mean(name, known))
        return {name: value[name] for name in value if name in known}

    def texts(self, key: Key, value: object) -> list[tuple[Key, str]]:
        """Return the items of a list of texts with their keys, complaining about repetitions and anything else."""
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.complain(key, f"`{key[-1]}` is not a list of texts")
            return []
        found: list[tuple[Key, str]] = []
        for index, item in enumerate(value):
            if item in value[:index]:
                self.complain((*key, index), f"`{item}` is there twice")
            else:
                found.append(((*key, index), item))
        return found

    def text(self, key: Key, value: object) -> str:
        """Return a text, complaining about anything else."""
        if isinstance(value, str):
            return value
        self.complain(key, f"`{key[-1]}` is not a text")
        return ""
