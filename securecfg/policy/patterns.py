"""Path patterns of grant tables.

`db/main` is that secret alone. `payments/**` is everything below the folder `payments`, and the folder itself, but not
a secret that is called `payments`, and nothing in `payments2`. `*` is any part of one segment: `a/*/b` has exactly
three segments, and `payments/*` is the secrets directly in the folder. `**` alone is everything.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Final

from securecfg.policy.schema import ROOT
from securecfg.tuples import NamedTuple

MAX_PATH_BYTES: Final = 1024
MAX_WILDCARD_SEGMENTS: Final = 16
_WILDCARDS: Final = "[^/]*"
_FORBIDDEN = re.compile(r"[#@{}?|\\\"]")


class Pattern(NamedTuple):
    """A pattern that is known to be well formed.

    Attributes:
        segments: What the pattern is made of, without a closing `**`.
        is_subtree: Whether it ends in `**`.
    """

    segments: tuple[str, ...]
    is_subtree: bool

    @property
    def folder(self) -> str:
        """The Cedar id of the innermost folder whose name is written out and which holds all that matches."""
        literal: list[str] = []
        for segment in self.segments if self.is_subtree else self.segments[:-1]:
            if "*" in segment:
                break
            literal.append(segment)
        return "/".join(literal) or ROOT

    @property
    def beginning(self) -> str:
        """What every path that matches begins with; of a pattern without a wildcard for one secret, its path."""
        whole = "/".join(self.segments) + "/" * (self.is_subtree and bool(self.segments))
        return whole.partition("*")[0]

    def to_regex(self) -> re.Pattern[str]:
        """Return the regular expression that fits, as a whole, the paths of the secrets that match."""
        segments = [_WILDCARDS.join(map(re.escape, segment.split("*"))) for segment in self.segments]
        return re.compile("/".join([*segments, ".+"] if self.is_subtree else segments), re.DOTALL)

    @property
    def has_wildcard(self) -> bool:
        """Whether a segment has a `*`."""
        return any("*" in segment for segment in self.segments)


def segment_problem(segment: str) -> str | None:
    """Return what is wrong with one segment of a path or pattern, or None."""
    if segment in {"", ".", ".."}:
        return "has an empty, `.` or `..` segment"
    found = _FORBIDDEN.search(segment)
    if found:
        return f"contains `{found[0]}`"
    if any(unicodedata.category(character)[0] in "CZ" and character != " " for character in segment):
        return "contains a control, invisible or unassigned character"
    if unicodedata.normalize("NFC", segment) != segment:
        return "is not in Unicode normal form NFC"
    return None


def path_problem(text: str) -> str | None:
    """Return what is wrong with a path or pattern, or None."""
    if len(text.encode()) > MAX_PATH_BYTES:
        return f"is longer than {MAX_PATH_BYTES} bytes"
    return next(filter(None, map(segment_problem, text.split("/"))), None)


def pattern_problem(text: str) -> tuple[str, str] | None:
    """Return what is wrong with a pattern, and a hint, or None."""
    if text.startswith("/"):
        return "begins with `/`", "paths have no slash in front"
    if text.endswith("/"):
        return "ends with `/`", f"`{text}**` is everything below this folder"
    problem = path_problem(text)
    if problem:
        return problem, ""
    if any("**" in segment for segment in text.removesuffix("/**").split("/")) and text != "**":
        return "has `**` before its end or within a segment", "`*` is one segment; `**` comes last and alone"
    if "*" in text.removesuffix("**") and text.count("/") >= MAX_WILDCARD_SEGMENTS:
        return f"has a `*` and more than {MAX_WILDCARD_SEGMENTS} segments", ""
    return None


def parse_pattern(text: str) -> Pattern:
    """Return a pattern in which `pattern_problem` finds nothing wrong."""
    segments = tuple(text.split("/"))
    if segments[-1] == "**":
        return Pattern(segments[:-1], is_subtree=True)
    return Pattern(segments, is_subtree=False)


def quoted(text: str) -> str:
    """Return text as a Cedar string. What our documents allow in names needs no other escapes than JSON's."""
    return json.dumps(text, ensure_ascii=False)


def _segment_test(level: int, segment: str) -> str:
    has_tag = f'resource.hasTag("{level}")'
    if segment == "*":
        return has_tag
    operator = f"like {quoted(segment)}" if "*" in segment else f"== {quoted(segment)}"
    return f'{has_tag} && resource.getTag("{level}") {operator}'


def pattern_term(pattern: Pattern) -> str:
    """Return a Cedar expression over `resource` that is true for what a pattern with a wildcard matches."""
    inside = f"resource in Folder::{quoted(pattern.folder)}"
    if not pattern.is_subtree:
        path = quoted("/".join(pattern.segments))
        # `*` also matches slashes, but then there would be more segments.
        depth = len(pattern.segments)
        return f"(resource is Secret && {inside} && resource.path like {path} && resource.depth == {depth})"
    known = 0 if pattern.folder == ROOT else pattern.folder.count("/") + 1
    tests = [_segment_test(level, segment) for level, segment in enumerate(pattern.segments, 1) if level > known]
    return f"({' && '.join([inside, *tests])})"
