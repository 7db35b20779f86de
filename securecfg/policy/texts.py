"""The text of a document: what it may not contain, and where things stand in it."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from itertools import accumulate
from typing import Final

from securecfg.policy.problems import Problem, Problems

MAX_DOCUMENT: Final = 4 * 1024 * 1024
_SUSPECT = re.compile(r"[^\t\n\r -~]")


class Places:
    """Turns offsets in a text into lines and columns."""

    __slots__ = ("_starts", "document")

    def __init__(self, document: str, text: str) -> None:
        """Find the line starts."""
        self.document = document
        self._starts = list(accumulate((len(line) for line in text.split("\n")), lambda a, b: a + b + 1, initial=0))

    def at(self, offset: int) -> tuple[int, int]:
        """Return line and column, from 1."""
        line = min(bisect_right(self._starts, offset), len(self._starts) - 1)
        return line, offset - self._starts[line - 1] + 1

    def problem(self, offset: int, message: str, hint: str = "") -> Problem:
        """Return a problem at an offset."""
        return Problem(self.document, *self.at(offset), message, hint)


def check_text(document: str, text: str, limit: int = MAX_DOCUMENT) -> None:
    """Refuse text that no document may contain.

    Raises:
        Problems: The text is too long, or has control or invisible characters.
    """
    places = Places(document, text[:limit])
    if len(text) > limit:
        raise Problems([Problem(document, 1, 1, f"longer than {limit} characters", "split the document")])
    if text.startswith("\ufeff"):
        raise Problems([places.problem(0, "begins with a byte order mark", "save it as UTF-8 without one")])
    for match in _SUSPECT.finditer(text):
        category = unicodedata.category(match[0])
        if category[0] == "C":
            kind = "control" if category == "Cc" else "invisible or unassigned"
            message = f"has the {kind} character U+{ord(match[0]):04X}"
            raise Problems([places.problem(match.start(), message, "a rule that cannot be read cannot be reviewed")])
