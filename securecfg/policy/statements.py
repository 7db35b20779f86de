"""Cedar text, cut into statements whose places are known, before the Cedar engine sees it.

The engine reports neither lines nor columns, and its recursive parser overflows the stack on deeply nested text, which
ends the process. So the text is scanned here first: tokens, nesting, and the beginning of every statement.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from typing import TYPE_CHECKING, Final, NamedTuple

from securecfg.policy.problems import Problems
from securecfg.policy.texts import Places

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_STATEMENTS: Final = 20_000
MAX_STATEMENT: Final = 64 * 1024
MAX_BRACKETS: Final = 24
MAX_NESTING: Final = 90
"""How deep an expression may nest, chained operators included. The engine's own limit, past parsing, is 100."""

_TOKEN = re.compile(
    r"""(?P<space>\s+|//[^\r\n]*)
      | (?P<string>"(?:[^"\\]|\\.)*")
      | (?P<word>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<number>[0-9]+)
      | (?P<mark>::|&&|\|\||==|!=|<=|>=|.)""",
    re.VERBOSE | re.DOTALL,
)
# What the engine quotes, or names last.
_NAMED = re.compile(r"[`']([^`']+?)[`']|([^\s`:]+)$")
_OPENING: Final = {"(": ")", "[": "]", "{": "}"}
_INFIX: Final = frozenset({"&&", "||", "+", "-", "*", "if", "!", "has", "like", "is", "in"})


class Token(NamedTuple):
    """A word of the text.

    Attributes:
        kind: `string`, `word`, `number` or `mark`.
        text: As written.
        start: Where it begins, in characters.
    """

    kind: str
    text: str
    start: int


class Statement(NamedTuple):
    """One statement with its closing semicolon.

    Attributes:
        tokens: Its words.
        start: Where the first one begins.
        end: Just after the last one.
    """

    tokens: tuple[Token, ...]
    start: int
    end: int


def split_statements(document: str, text: str) -> list[Statement]:
    """Cut Cedar text at its semicolons.

    Raises:
        Problems: A bracket or string is not closed, the nesting is too deep, or a statement is too long.
    """
    places = Places(document, text)
    statements: list[Statement] = []
    tokens: list[Token] = []
    nesting = _Nesting(places)
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or ""
        if kind == "space":
            continue
        token = Token(kind, match[0], match.start())
        if token.text == '"':
            raise Problems([places.problem(token.start, "a string is not closed")])
        tokens.append(token)
        if match.end() - tokens[0].start > MAX_STATEMENT:
            raise Problems([places.problem(tokens[0].start, f"a policy longer than {MAX_STATEMENT} characters")])
        nesting.step(token)
        if token.text == ";" and not nesting.open:
            if len(statements) == MAX_STATEMENTS:
                raise Problems([places.problem(tokens[0].start, f"more than {MAX_STATEMENTS} policies")])
            statements.append(Statement(tuple(tokens), tokens[0].start, match.end()))
            tokens = []
            nesting = _Nesting(places)
    if nesting.open:
        bracket = nesting.open[-1]
        raise Problems([places.problem(bracket.start, f"`{bracket.text}` is not closed")])
    if tokens:
        last = tokens[-1]
        raise Problems([places.problem(last.start + len(last.text), "`;` is missing at the end of a policy")])
    return statements


class _Nesting:
    """Bounds how deep the engine will recurse, from above."""

    __slots__ = ("_chains", "_places", "open")

    def __init__(self, places: Places) -> None:
        self._places = places
        self.open: list[Token] = []
        # For each open bracket: operators that chain, and member accesses since the last of them.
        self._chains: list[list[int]] = [[0, 0]]

    def step(self, token: Token) -> None:
        text = token.text
        if token.kind in {"string", "number"}:
            return
        chain = self._chains[-1]
        if text in _OPENING:
            self.open.append(token)
            chain[1] += text != "{"
            self._chains.append([0, 0])
        elif text in _OPENING.values():
            if not self.open or _OPENING[self.open[-1].text] != text:
                raise Problems([self._places.problem(token.start, f"`{text}` closes nothing")])
            self.open.pop()
            self._chains.pop()
            if text == "}" and len(self._chains) == 1:
                self._chains[0] = [0, 0]
        elif text == ",":
            chain[:] = [0, 0]
        elif text == ".":
            chain[1] += 1
        elif text in _INFIX:
            chain[0] += 1
            chain[1] = 0
        if len(self.open) > MAX_BRACKETS or sum(map(sum, self._chains)) > MAX_NESTING:
            raise Problems(
                [self._places.problem(token.start, "nested too deeply", "split the policy into several smaller ones")]
            )


def wrong_token(statement: Statement, text: str, complaint: Callable[[str], str]) -> Token:
    """Return the token that the engine's parser complains about, as well as its words tell.

    An LR parser accepts every prefix of what it accepts, up to asking for more. So the shortest prefix that draws
    another complaint than the one about the end ends in the token that is wrong, or in the one after it. What the
    parser finds wrong only afterwards it calls by name.

    Args:
        statement: One that does not parse.
        text: The document.
        complaint: Returns what the engine says about a text, or an empty string.
    """
    tokens = statement.tokens

    def is_wrong(count: int) -> bool:
        last = tokens[count - 1]
        said = complaint(text[statement.start : last.start + len(last.text)])
        return bool(said) and said != "unexpected end of input"

    shortest = bisect_left(range(1, len(tokens)), x=True, key=is_wrong) + 1
    said = complaint(text[statement.start : statement.end])
    named = {match[1] or match[2] for match in _NAMED.finditer(said)}
    if said.startswith("unexpected token"):
        return next((token for token in reversed(tokens[:shortest]) if token.text in named), tokens[shortest - 1])
    return next((token for token in tokens if token.text in named), tokens[0])
