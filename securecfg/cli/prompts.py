"""Asking a person, on the terminal itself, so that standard input may be a pipe."""

from __future__ import annotations

import sys
import warnings

from securecfg.errors import SettingMissing, UsageError


def is_somebody_there() -> bool:
    """Return whether there is a terminal to ask on."""
    try:
        with open("/dev/tty", "rb"):
            return True
    except OSError:
        return sys.stdin is not None and sys.stdin.isatty()


def ask_hidden(what: str) -> str:
    """Ask for a text that is not shown while it is typed.

    Raises:
        SettingMissing: The terminal cannot hide it, or was closed.
    """
    import getpass  # most commands ask whether somebody is there, and few ask them anything

    with warnings.catch_warnings():
        # `getpass` would go on and show what is typed.
        warnings.simplefilter("error", getpass.GetPassWarning)
        try:
            return getpass.getpass(f"{what}: ")
        except (getpass.GetPassWarning, EOFError):
            message = f"a {what} is needed and there is no terminal to ask on"
            raise SettingMissing(message) from None


def ask_new(what: str, *, if_empty: str = "type one, or stop with Ctrl-C") -> str:
    """Ask twice for a text that is not shown, and return it.

    Args:
        what: What the text is called.
        if_empty: The hint for somebody who types nothing.

    Raises:
        SettingMissing: There is no terminal to ask on.
        UsageError: Nothing was typed, or the two differ.
    """
    first = ask_hidden(what)
    if not first:
        message = f"the {what} is empty"
        raise UsageError(message, hint=if_empty)
    if ask_hidden(f"{what} again") != first:
        message = f"the two entries of the {what} differ"
        raise UsageError(message, hint="try again")
    return first


def ask_yes(question: str, *, default: bool = False) -> bool:
    """Ask a yes-or-no question on the terminal. The end of the input is a no."""
    shown = f"{question} {'[Y/n]' if default else '[y/N]'} "
    try:
        with open("/dev/tty", "r+b", buffering=0) as terminal:
            terminal.write(shown.encode(errors="backslashreplace"))
            answer = terminal.readline().decode(errors="replace")
    except OSError:
        sys.stderr.write(shown)
        sys.stderr.flush()
        answer = sys.stdin.readline()
    if not answer:
        return False
    answer = answer.strip().lower()
    return default if not answer else answer in {"y", "yes"}
