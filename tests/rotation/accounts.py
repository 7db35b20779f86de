"""The rotator `account` for tests of what takes rotators by their names: it is at the account that is set here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.errors import TargetUnavailable
from securecfg.rotation.options import GivenOptions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from securecfg.rotation import Candidate, Fields, Options, Rotator, Run
    from securecfg.testing.account import Account

ACCOUNTS: list[Account] = []
MISSING: list[str] = []


class CheckedRotator:
    """A rotator for the account that can say what it will be missing."""

    def __init__(self, rotator: Rotator) -> None:
        self._rotator = rotator
        self.strategy = rotator.strategy
        self.target = rotator.target
        self.identity = rotator.identity

    def propose(self, run: Run, /) -> Candidate:
        return self._rotator.propose(run)

    def apply(self, run: Run, /) -> None:
        self._rotator.apply(run)

    def verify(self, value: Fields, run: Run, /) -> None:
        self._rotator.verify(value, run)

    def retire(self, run: Run, /) -> None:
        self._rotator.retire(run)

    def check(self, run: Run, /) -> Sequence[str]:
        del run
        if MISSING == ["nobody answers"]:
            message = "the target does not answer"
            raise TargetUnavailable(message)
        return tuple(MISSING)


def from_options(options: Options) -> Rotator:
    given = GivenOptions("account", options)
    given.secret("admin")
    given.finish()
    return CheckedRotator(ACCOUNTS[-1].rotator())
