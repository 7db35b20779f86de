"""What is wrong with a document, and where."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from securecfg.errors import InvalidGrants, InvalidPolicy
from securecfg.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from securecfg.errors import UsageError

MAX_SHOWN = 50


class Problem(NamedTuple):
    """One thing that is wrong.

    Attributes:
        document: The name of the document.
        line: From 1.
        column: From 1, in characters.
        message: What is wrong.
        hint: What to do, or an empty string.
    """

    document: str
    line: int
    column: int
    message: str
    hint: str = ""

    @property
    def place(self) -> str:
        """`name:line:column`."""
        return f"{self.document}:{self.line}:{self.column}"


class Problems(Exception):
    """Carries findings inside the package; at its rim they become one of the library's errors."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        """Keep the findings."""
        super().__init__()
        self.problems = tuple(problems)


def raise_all(error: type[UsageError], problems: Sequence[Problem]) -> NoReturn:
    """Raise all problems as one error.

    Raises:
        UsageError: Of the class given, with every problem and its place, in the order given.
    """
    hint = next((problem.hint for problem in problems if problem.hint), "")
    lines = [f"{problem.place}: {problem.message}" for problem in problems[:MAX_SHOWN]]
    if len(problems) == 1:
        raise error(lines[0], hint=hint)
    more = len(problems) - len(lines)
    if more:
        lines.append(f"and {more} more")
    raise error(f"{len(problems)} problems" + "".join(f"\n  {line}" for line in lines), hint=hint)


def raise_invalid(problems: Sequence[Problem], kinds: Mapping[str, str]) -> NoReturn:
    """Raise the problems of policy documents.

    Args:
        problems: What is wrong.
        kinds: The kind of each document, by name.

    Raises:
        InvalidGrants: All of them are in grant tables.
        InvalidPolicy: Some are not.
    """
    in_grants = all(kinds.get(problem.document) == "grants" for problem in problems)
    raise_all(InvalidGrants if in_grants else InvalidPolicy, problems)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a hint that names the known word nearest to a mistaken one, else all known words."""
    import difflib

    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=1)
    if near:
        return f"did you mean `{near[0]}`?"
    return "known are " + ", ".join(f"`{name}`" for name in known)
