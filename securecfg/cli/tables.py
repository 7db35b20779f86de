"""Tables: aligned text; on a terminal no line is wider than it, and what matters least is shortened."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from typing import TYPE_CHECKING

from securecfg.cli.output import printable, write_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

_GAP = "  "
_BOLD = "1"
SHORTEST = 11
"""What stays of a column that is shortened: a date and the ellipsis."""


def write_table(columns: Sequence[str], rows: Sequence[tuple[str, ...]], *, shorten: Sequence[str] = ()) -> None:
    """Print a table.

    On a terminal columns without any content are left out, and cells are shortened so that no line is folded. Elsewhere
    everything is printed as it is.

    Args:
        columns: The heading.
        rows: The cells.
        shorten: The names of the columns that may be shortened, what matters least first.

    Raises:
        StoreFailed: Standard output cannot be written.
    """
    table = [tuple(columns), *(tuple(map(printable, row)) for row in rows)]
    if not sys.stdout.isatty():
        write_lines(lay_out(table))
        return
    used = [number for number, _ in enumerate(columns) if not rows or any(row[number] for row in table[1:])]
    steps = [(used.index(number), SHORTEST) for number in map(columns.index, shorten) if number in used]
    heading, *lines = lay_out([tuple(row[number] for number in used) for row in table], steps)
    write_lines([coloured(heading, _BOLD), *lines])


def lay_out(rows: Sequence[tuple[str, ...]], steps: Sequence[tuple[int, int]] = ()) -> list[str]:
    """Return rows as lines whose cells begin in the same columns; on a terminal no line is wider than it.

    Args:
        rows: The cells, which have to be printable.
        steps: What may be shortened on a terminal, as for `shrink`. What is too wide even then is cut at the end of the
            line.
    """
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    if not sys.stdout.isatty():
        return [join(row, widths) for row in rows]
    limit = terminal_width()
    widths = shrink(widths, steps, limit)
    return [shortened(join(row, widths), limit) for row in rows]


def shrink(widths: Sequence[int], steps: Sequence[tuple[int, int]], limit: int) -> list[int]:
    """Return the widths of columns, made smaller until all fit into a limit, as far as that goes.

    Args:
        widths: How wide the columns are.
        steps: Which column is made smaller first, and how much of it stays; then the next.
        limit: How wide a line may be.
    """
    fitted = list(widths)
    for column, least in steps:
        excess = sum(fitted) + len(_GAP) * (len(fitted) - 1) - limit
        fitted[column] -= max(0, min(excess, fitted[column] - least))
    return fitted


def join(cells: Sequence[str], widths: Sequence[int]) -> str:
    """Return cells as one line, each shortened or padded to its width."""
    fitted = (shortened(cell, most) for cell, most in zip(cells, widths, strict=True))
    return _GAP.join(cell + " " * (most - width(cell)) for cell, most in zip(fitted, widths, strict=True)).rstrip()


def width(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    if text.isascii():
        return len(text)
    return sum(_width_of(character) for character in text)


def shortened(text: str, most: int) -> str:
    """Return a text, or its beginning and an ellipsis where it is wider than allowed."""
    if width(text) <= most:
        return text
    ellipsis = "\N{HORIZONTAL ELLIPSIS}" if "utf" in sys.stdout.encoding.lower() else "..."
    if most < len(ellipsis):
        return ""
    kept = text[:most]
    while width(kept) > most - len(ellipsis):
        kept = kept[:-1]
    return f"{kept.rstrip()}{ellipsis}"


def terminal_width() -> int:
    """Return how wide the terminal is."""
    return shutil.get_terminal_size().columns


def _width_of(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def coloured(text: str, attribute: str) -> str:
    """Return a text with an attribute of terminals, such as `31` for red; as it is where none is wanted.

    What is in it has to be printable already.
    """
    is_plain = not sys.stdout.isatty() or "NO_COLOR" in os.environ or os.environ.get("TERM", "dumb") == "dumb"
    return text if is_plain else f"\x1b[{attribute}m{text}\x1b[0m"
