"""What of a vault the key at hand does not open."""

from __future__ import annotations

from securecfg.tuples import NamedTuple


class Closed(NamedTuple):
    """What of a vault the key at hand does not open.

    Attributes:
        is_whole: Whether that is the vault itself, so that only scopes are open.
        scope_count: How many of its sealed scopes; where it opens none, how many it drops values into.
        scopes: The paths of those that the vault names.
    """

    is_whole: bool = False
    scope_count: int = 0
    scopes: tuple[str, ...] = ()
