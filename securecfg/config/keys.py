"""Names of keys: dotted paths, names that suggest a secret, and what a misspelled name may have meant."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_SEGMENT = re.compile(r'"([^"]*)"|([^."]+)')

_SECRET_NAME = re.compile(
    r"pass(word|wd|phrase|code)?$|pwd|secret|token|credential|api[_-]?key|access[_-]?key|private[_-]?key|signing[_-]?key"
    r"|encryption[_-]?key|auth$|dsn|salt$|cookie|session[_-]?key",
    re.IGNORECASE,
)


def parse_key_path(path: str) -> list[str]:
    """Split a dotted path into its keys; a key that contains a dot stands in double quotes.

    What does not follow this form is one key, so that the caller's lookup simply fails.
    """
    if '"' not in path:
        return path.split(".")
    segments: list[str] = []
    position = 0
    while position <= len(path):
        match = _SEGMENT.match(path, position)
        if match is None:
            return [path]
        segments.append(match[1] if match[1] is not None else match[2])
        position = match.end()
        if position == len(path):
            return segments
        if path[position] != ".":
            return [path]
        position += 1
    return [path]


def key_path(segments: Iterable[str | int]) -> str:
    """Join keys to a dotted path that `parse_key_path` takes apart again."""
    return ".".join(f'"{segment}"' if "." in str(segment) else str(segment) for segment in segments)


def is_secret_name(key: str) -> bool:
    """Tell whether a key is named as secrets usually are."""
    return _SECRET_NAME.search(key) is not None


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return a hint with the known name nearest to a misspelled one, or an empty string."""
    from difflib import get_close_matches

    by_folded = {candidate.casefold().replace("-", "_"): candidate for candidate in known}
    near = get_close_matches(name.casefold().replace("-", "_"), by_folded, n=1)
    return f"did you mean `{by_folded[near[0]]}`?" if near else ""
