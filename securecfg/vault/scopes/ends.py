"""The end of sealed scopes that were merged or given up: no row of theirs is left, whoever puts some back."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from securecfg.errors import HeadMoved, SecurecfgError
from securecfg.store import PartCommit
from securecfg.vault.commits.maintenance import finish_destruction
from securecfg.vault.commits.publishing import Plan
from securecfg.vault.commits.unfinished import erase_rows
from securecfg.vault.logger import logger
from securecfg.vault.state.anchor import AnchorFile
from securecfg.vault.state.head import FLAG_DESTRUCTION_PENDING

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


def erase_put_back(opened: OpenVault) -> None:
    """Erase retired scopes to which somebody has given a head again. What fails is left to the next."""
    registry = opened.scopes()
    if registry is None or not registry.retired or opened.options.read_only:
        return
    if {place.number for place in registry.retired}.isdisjoint(opened.store.partitions()):
        return
    try:
        opened.publisher.publish(
            lambda publication: Plan(state={"flags": publication.state.flags | FLAG_DESTRUCTION_PENDING})
        )
        finish_destruction(opened)
    except SecurecfgError as error:
        told = "a scope that is no more was put back, and is erased later: %s"
        logger().warning(told, error.message, extra={"event": "scope.putback"})
