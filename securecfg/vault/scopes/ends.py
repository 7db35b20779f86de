"""The end of sealed scopes that were merged, or given up before they were finished: no row of theirs is left."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from securecfg.errors import HeadMoved
from securecfg.store import PartCommit
from securecfg.vault.commits.unfinished import erase_rows
from securecfg.vault.state.anchor import AnchorFile

if TYPE_CHECKING:
    from securecfg.vault.opened import OpenVault
    from securecfg.vault.scopes.registry import Registry


def erase_retired(opened: OpenVault, registry: Registry) -> None:
    """Delete what is left of scopes that a vault says are no more, and what this machine recorded of them.

    Raises:
        Unavailable: The store cannot be read or written.
    """
    for place in registry.retired:
        part = opened.store.partition(place.number)
        while (head := part.head()) is not None:  # somebody has put it back, and it is as dead as before
            with suppress(HeadMoved):  # another process has met it too
                opened.store.commit_parts([PartCommit(place.number, (), head, None)])
        erase_rows(part)
        if opened.path is not None:
            with suppress(OSError):  # what is left says no more than that there was a scope
                Path(AnchorFile(place.scope_id, opened.path).path).unlink(missing_ok=True)
