"""The code blocks of a page, and what a comment before one says of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FENCE = re.compile(
    r"^(?P<indent> *)(?P<ticks>`{3,})(?P<language>\S*) *\n(?P<text>.*?)^ *(?P=ticks) *$", re.MULTILINE | re.DOTALL
)
_COMMENT = re.compile(r"<!-- (?P<kind>not run|file): (?P<what>[^\n]+?) -->\n+ *\Z")
_FILE_LINE = re.compile(r"# ((?:[\w.-]+/)*[\w-]*\.(?:yaml|toml|env|ini))\n")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block.

    Attributes:
        line: Where it begins in its page.
        language: What its fence says.
        text: What is in it.
        not_run: Why it cannot be run, or an empty string.
        file: The file that it is the content of, or an empty string.
    """

    line: int
    language: str
    text: str
    not_run: str
    file: str


@dataclass(frozen=True, slots=True)
class Command:
    """A command of a console block and what the page says that it prints."""

    line: int
    command: str
    output: str


def blocks_of(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page in their order."""
    whole = page.read_text(encoding="utf-8")
    for fence in _FENCE.finditer(whole):
        indent = fence["indent"]
        text = "".join(line.removeprefix(indent) for line in fence["text"].splitlines(keepends=True))
        comment = _COMMENT.search(whole, 0, fence.start())
        said = {comment["kind"]: comment["what"]} if comment else {}
        named = _FILE_LINE.match(text)
        yield Block(
            whole.count("\n", 0, fence.start()) + 1,
            fence["language"],
            text,
            said.get("not run", ""),
            said.get("file", named[1] if named else ""),
        )


def commands_of(block: Block) -> list[Command]:
    """Return the commands of a console block: lines that begin with `$ `, continued by lines with `> `."""
    commands: list[Command] = []
    for number, line in enumerate(block.text.splitlines(), block.line + 1):
        if line.startswith("$ "):
            commands.append(Command(number, line[2:], ""))
            continue
        assert commands, f"line {number}: output before the first command"
        last = commands[-1]
        if line.startswith("> ") and not last.output:
            commands[-1] = Command(last.line, f"{last.command}\n{line[2:]}", "")
        else:
            commands[-1] = Command(last.line, last.command, f"{last.output}{line}\n")
    assert commands, f"line {block.line}: a console block without a command"
    return commands
