"""How long a caller waits for a service, and how often it asks again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Patience(NamedTuple):
    """How long a caller waits for a service.

    Attributes:
        deadline_s: For everything together: attempts, and the pauses between them.
        pauses_s: The longest pause before each further attempt; each is drawn at random between zero and this, so that
            many clients do not come back at the same moment.
    """

    deadline_s: float
    pauses_s: Sequence[float]


PATIENCE = Patience(deadline_s=30.0, pauses_s=(0.2, 0.4, 0.8, 1.6))
