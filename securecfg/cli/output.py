"""What is printed: JSON, lines and progress. `rich` draws on a terminal only."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from securecfg.errors import SecurecfgError, StoreFailed
from securecfg.words import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime, timedelta

    from rich.console import Console

_PROGRESS_AFTER_S = 1.0


def write_json(value: dict[str, Any]) -> None:
    """Print one object: on one line for programs, indented on a terminal.

    Raises:
        StoreFailed: Standard output cannot be written.
    """
    indent = 2 if sys.stdout.isatty() else None
    write_lines([json.dumps(value, ensure_ascii=False, indent=indent)])


def error_to_json(error: SecurecfgError) -> dict[str, str]:
    """Return what programs read of an error."""
    return {"code": error.code, "message": error.message, "hint": error.hint}


def write_lines(lines: Iterable[str]) -> None:
    """Print lines.

    Raises:
        StoreFailed: Standard output cannot be written.
    """
    write_bytes("".join(f"{line}\n" for line in lines).encode(sys.stdout.encoding, "backslashreplace"))


def write_bytes(content: bytes) -> None:
    """Print bytes as they are.

    Raises:
        StoreFailed: Standard output cannot be written.
    """
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        message = f"cannot write to standard output: {error.strerror}"
        raise StoreFailed(message) from None


def printable(text: str) -> str:
    """Return text in which nothing can move the cursor, colour the terminal or hide."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "backslashreplace").decode()
        for character in text
    )


def timestamp(moment: datetime | None) -> str | None:
    """Return a moment as JSON shows it, such as `2026-01-31T12:00:00Z`."""
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")


def shown_time(moment: datetime | None) -> str:
    """Return a moment as people read it, in UTC; empty where there is none."""
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}Z"


def shown_age(age: timedelta) -> str:
    """Return for how long something has been so, as people read it, in whole minutes, hours or days."""
    minutes = int(age.total_seconds()) // 60
    for unit, length in (("day", 24 * 60), ("hour", 60), ("minute", 1)):
        if minutes >= length:
            return counted(minutes // length, unit)
    return "less than a minute"


def shown_size(size_bytes: int) -> str:
    """Return a size as people read it."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:  # noqa: PLR2004 - the next unit
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


@contextmanager
def draw_progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on standard error once something has taken a second. Yields a function of done and total."""
    import time

    start = time.monotonic()
    bar: Any = None
    task: Any = None

    def advance(done: int, total: int) -> None:
        nonlocal bar, task
        if bar is None:
            if time.monotonic() - start < _PROGRESS_AFTER_S:
                return
            from rich.progress import Progress

            bar = Progress(console=_console(), transient=True)
            task = bar.add_task(what, total=total)
            bar.start()
        bar.update(task, completed=done, total=total)

    try:
        yield advance
    finally:
        if bar is not None:
            bar.stop()


@contextmanager
def draw_status() -> Iterator[Callable[[str], None]]:
    """Show on one line of standard error what is done, once it has taken a second. Yields a function of the text."""
    import time

    start = time.monotonic()
    drawn: Any = None

    def show(text: str) -> None:
        nonlocal drawn
        if drawn is None:
            if time.monotonic() - start < _PROGRESS_AFTER_S:
                return
            drawn = _console().status(printable(text))
            drawn.start()
        drawn.update(printable(text))

    try:
        yield show
    finally:
        if drawn is not None:
            drawn.stop()


def _console() -> Console:
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False)
