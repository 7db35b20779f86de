"""A terminal that several people come to, one after the other, and that keeps nothing of one for the next."""

from __future__ import annotations

import signal
import sys
import termios
import threading
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING

from securecfg.cli.prompts import ask_hidden, is_somebody_there
from securecfg.errors import SettingMissing

if TYPE_CHECKING:
    from collections.abc import Iterator

_CLEAR = "\x1b[2J\x1b[3J\x1b[H"
# What is shown on the other screen is in no scroll-back when that is left.
_OTHER_SCREEN, _OWN_SCREEN = "\x1b[?1049h", "\x1b[?1049l"


class Stage:
    """The terminal, whatever standard input and output are."""

    def __init__(self, terminal: IO[bytes]) -> None:
        """Show nothing yet."""
        self._terminal = terminal

    def say(self, *lines: str) -> None:
        """Show lines.

        Raises:
            SettingMissing: The terminal was closed.
        """
        is_shown = self._write("".join(f"{line}\n" for line in lines))
        del lines  # a traceback that shows locals must not show them
        if not is_shown:
            raise _closed()

    def wait(self, what: str) -> None:
        """Show a text, and wait for Enter.

        Raises:
            SettingMissing: The terminal was closed.
        """
        self._read_line(f"{what} [Enter] ")

    def call(self, what: str, name: str, number: int) -> None:
        """Call the next one, who shows by typing a number that he has come: whoever leaves may press Enter once more.

        Raises:
            SettingMissing: The terminal was closed.
        """
        with suppress(OSError, termios.error):  # then it is closed, which is seen next
            termios.tcflush(self._terminal.fileno(), termios.TCIFLUSH)
        while self._read_line(f"{what}; all others look away, {name} types {number}: ").strip() != b"%d" % number:
            pass

    def _read_line(self, prompt: str) -> bytes:
        try:
            answer = self._terminal.readline() if self._write(prompt) else b""
        except OSError:
            answer = b""
        if not answer:
            raise _closed()
        return answer

    @contextmanager
    def private(self) -> Iterator[None]:
        """Show what follows on a screen of its own, of which nothing is left afterwards, whatever happens."""
        with _ended_by_exception():
            self._write(_OTHER_SCREEN + _CLEAR)
            try:
                yield
            finally:
                self._write(_CLEAR + _OWN_SCREEN)

    def clear(self) -> None:
        """Take away what is shown."""
        self._write(_CLEAR)

    def ask_hidden(self, what: str) -> str:
        """Return a text that is not shown while it is typed.

        Raises:
            SettingMissing: The terminal cannot hide it, or was closed.
        """
        return ask_hidden(what)

    def _write(self, text: str) -> bool:
        # Its caller raises, from a frame that holds nothing of the text.
        try:
            self._terminal.write(text.encode(errors="backslashreplace"))
        except OSError:
            return False
        return True


@contextmanager
def _ended_by_exception() -> Iterator[None]:
    """Have the signals that end a process raise, so that what has to be cleared is; ignored ones stay ignored."""

    def end(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    former = {}
    if threading.current_thread() is threading.main_thread():  # no other one may say
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) is signal.SIG_DFL:
                former[number] = signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _closed() -> SettingMissing:
    return SettingMissing("the terminal was closed", hint="begin again; nothing was changed")


@contextmanager
def open_stage(*, is_silent: bool) -> Iterator[Stage]:
    """Open the terminal.

    Raises:
        SettingMissing: There is none, or nobody may be asked.
    """
    message = "people have to come to a terminal, and there is none"
    hint = "give each a file or an identity with `--holder NAME=...`, or run it on a terminal"
    if is_silent or not is_somebody_there():
        raise SettingMissing(message, hint=hint)
    try:
        terminal = open("/dev/tty", "r+b", buffering=0)  # noqa: SIM115 - closed below
    except OSError:
        raise SettingMissing(message, hint=hint) from None
    with terminal:
        sys.stdout.flush()
        yield Stage(terminal)
