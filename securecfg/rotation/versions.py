"""Which versions of a secret have become current since somebody looked. Pure: values in, values out."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from securecfg.vault.index.history import LIVE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from securecfg.vault.index.history import History, Version


class Seen(NamedTuple):
    """What was seen of a secret.

    Attributes:
        path: Where it was.
        digest: Of its newest history page: while that stands, so does the rest.
        current: The number of the current version, 0 for none.
        newest: Of the newest one, deleted ones included.
        pending: Of the candidate, 0 for none.
    """

    path: bytes
    digest: bytes
    current: int
    newest: int
    pending: int

    @classmethod
    def of(cls, history: History, digest: bytes) -> Seen:
        """Return what is seen of a history."""
        return cls(history.path, digest, history.current, history.newest, history.pending)


def became_current(seen: Seen | None, history: History, versions: Sequence[Version], since_ns: int) -> list[int]:
    """Return the numbers of the versions that became current, the one that is current now last.

    A version that is neither deleted nor a candidate was current at some time: what is written is, a candidate that is
    taken back or rejected is deleted, and one that is not has taken the place of another version.

    Args:
        seen: What was seen before; None for a secret that was not there.
        history: As it is now.
        versions: Those that may be new, in any order.
        since_ns: From when on it would have been seen; older versions came with a secret that was moved here.
    """
    if seen is None:
        fresh = [version for version in versions if version.created >= since_ns]
    else:
        fresh = [version for version in versions if version.number > seen.newest or version.number == seen.pending]
    live = {version.number for version in fresh if version.state == LIVE}
    found = sorted(live - {history.current, history.pending})
    former = seen.current if seen is not None else 0
    if history.current and (found or history.current != former):
        found.append(history.current)
    return found
