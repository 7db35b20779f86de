"""What tests of rotators have in common: values, runs, and targets that nothing is asked of."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from securecfg.rotation import Run
from securecfg.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.rotation import Fields, Options

TOKEN = "a1" * 16


class Nobody:
    """What needs to be told of no new value.

    Args:
        options: What the rotator is told.
        current: What is accepted.
        accepts: Says of a value whether it is any good.
    """

    is_remote = False

    def __init__(self, options: Options, current: Fields, accepts: Callable[[Fields], bool] = bool) -> None:
        self.options = options
        self.current = current
        self._accepts = accepts

    def accepts(self, value: Fields, /) -> bool:
        return self._accepts(value)

    def cut_off(self) -> None:
        """Nothing is reached."""

    def restore(self) -> None:
        """Nothing was reached."""


def login(username: str, password: str, **fields: str) -> Fields:
    """Return the value of a login."""
    return {name: Secret(text) for name, text in {"username": username, "password": password, **fields}.items()}


def run_of(current: Fields | None = None, pending: Fields | None = None, timeout_s: float = 10.0) -> Run:
    """Return a run that begins now."""
    return Run(TOKEN, datetime.now(UTC), timeout_s, current, None, pending)


def pending_of(run: Run) -> Fields:
    """Return the candidate of a run that has one."""
    assert run.pending is not None
    return run.pending
