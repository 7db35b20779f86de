"""`policy fmt` and `policy show`: documents in their canonical form, and all rules as Cedar text."""

from __future__ import annotations

import re
import tomllib
from typing import TYPE_CHECKING, Final

from securecfg.errors import InvalidGrants, InvalidPolicy
from securecfg.policy.grants import parse_grants
from securecfg.policy.problems import Problem, Problems, raise_all
from securecfg.policy.rules import read_cedar

if TYPE_CHECKING:
    from securecfg.policy.decisions import Policy

WIDTH: Final = 100
INDENT: Final = "    "
_ASSIGNMENT = re.compile(r"^([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*)[ \t]*=[ \t]*")
_STRING_OR_COMMENT = re.compile(r""""(?:[^"\\]|\\.)*"|'[^']*'|#.*""")


def to_cedar(policy: Policy) -> str:
    """Return all rules of a policy as Cedar text, each under a comment that says where it comes from."""
    parts = [f"// {rule.document}:{rule.line}:{rule.column}\n{rule.cedar.strip()}\n" for rule in policy.rules]
    return _formatted("\n".join(parts)) if parts else ""


def format_cedar(document: str, text: str) -> str:
    """Return a Cedar document in canonical form.

    Args:
        document: What places are called by.
        text: The document.

    Raises:
        InvalidPolicy: It does not parse, or a policy has no id; with places.
    """
    try:
        rules = read_cedar(document, text)
    except Problems as found:
        raise_all(InvalidPolicy, found.problems)
    return _formatted(text) if rules else text


def _formatted(text: str) -> str:
    import cedarpy

    return cedarpy.format_policies(text, line_width=WIDTH).rstrip() + "\n"


def format_grants(document: str, text: str) -> str:
    """Return a grant table in canonical form; what it says, its comments and its order stay.

    Headers and keys begin their lines, items of a list over several lines are indented, there is one space around `=`,
    none at the end of a line, and an empty line above each table.

    Args:
        document: What places are called by.
        text: The document.

    Raises:
        InvalidGrants: Something is wrong with it; with places.
    """
    try:
        parse_grants(document, text)
    except Problems as found:
        raise_all(InvalidGrants, found.problems)
    formatted = _tidy(text)
    if tomllib.loads(formatted) != tomllib.loads(text):
        # Only where a text of several lines looks like TOML itself.
        raise_all(InvalidGrants, [Problem(document, 1, 1, "cannot be formatted without changing what it says")])
    return formatted


def _tidy(text: str) -> str:
    lines: list[str] = []
    depth = 0
    for line in text.splitlines():
        bare = line.strip()
        if depth:
            bare = bare if bare.startswith("]") or not bare else f"{INDENT}{bare}"
        elif bare.startswith("["):
            _separate(lines)
        else:
            bare = _ASSIGNMENT.sub(r"\1 = ", bare)
        rest = _STRING_OR_COMMENT.sub("", bare)
        depth += rest.count("[") + rest.count("{") - rest.count("]") - rest.count("}")
        if bare or (lines and lines[-1]):
            lines.append(bare)
    return "\n".join(lines).strip("\n") + "\n" if any(lines) else ""


def _separate(lines: list[str]) -> None:
    """Put an empty line above the next table, and above the comments directly above it, which belong to it."""
    above = len(lines)
    while above and lines[above - 1].startswith("#"):
        above -= 1
    if above and lines[above - 1]:
        lines.insert(above, "")
