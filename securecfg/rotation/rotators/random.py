"""Random values that no target needs to be told of: session keys, webhook secrets, pepper.

Consumers read the new version when they like, and the old one as `previous` until then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.errors import CredentialRefused
from securecfg.rotation.interface import Candidate, Strategy
from securecfg.rotation.options import GivenOptions
from securecfg.rotation.passwords import new_password, take_rules
from securecfg.rotation.values import text_of, with_field
from securecfg.secret import Secret

if TYPE_CHECKING:
    from securecfg.rotation.interface import Fields, Options, Run
    from securecfg.rotation.passwords import Rules


class RandomRotator:
    """Proposes random text.

    Args:
        rules: What it must be like.
        field: Which field it is, or empty for a value without fields.
    """

    strategy = Strategy.OVERLAPPING
    target = "random"
    identity: frozenset[str] = frozenset()

    def __init__(self, rules: Rules, field: str) -> None:
        """Propose nothing yet."""
        self._rules = rules
        self._field = field

    def propose(self, run: Run, /) -> Candidate:
        """Return a random value, and the other fields as they are."""
        return Candidate(with_field(run.current, self._field, Secret(new_password(self._rules))))

    def apply(self, run: Run, /) -> None:
        """Tell nobody."""

    def verify(self, value: Fields, run: Run, /) -> None:
        """Check that there is a value at all.

        Raises:
            CredentialRefused: There is none.
        """
        del run
        if not text_of(value, self._field).reveal():
            message = "the value is empty"
            raise CredentialRefused(message)

    def retire(self, run: Run, /) -> None:
        """Tell nobody."""


def from_options(options: Options) -> RandomRotator:
    """Return the rotator `random`.

    Raises:
        InvalidRotation: The options make no sense.
    """
    given = GivenOptions("random", options)
    rules, field = take_rules(given), given.text("field", "")
    given.finish()
    return RandomRotator(rules, field)
