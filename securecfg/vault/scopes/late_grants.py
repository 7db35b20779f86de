"""Grants of value keys that one publication does not take: given, or deleted, right after the change they belong to.

Who is not given his by then, because the process died, gets it from the readers who have theirs (`completion`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.keys.value_grants import EPOCHS_MAX, ROWS_OF_EPOCH, slot_of_grant
from securecfg.store import Delete, Space
from securecfg.vault.commits.publishing import Plan
from securecfg.vault.scopes.charters import READ
from securecfg.vault.scopes.opening import charter_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from securecfg.store import Put
    from securecfg.vault.commits.publishing import Publication
    from securecfg.vault.opened import OpenVault

WITH_CHANGE = 16
"""How many are given, and how many deleted, in the publication of the change itself."""

_AT_ONCE = 48


def give_late(opened: OpenVault, grants: Sequence[Put]) -> None:
    """Publish grants that did not fit, as far as the charter by then still names who gets them.

    Raises:
        CommitUnknown, StoreBusy, StoreFailed: As for a write.
    """

    def plan(_publication: Publication) -> Plan:
        readers = _readers(opened)
        return Plan(puts=[put for put in part if slot_of_grant(put.row) in readers])

    for start in range(0, len(grants), _AT_ONCE):
        part = grants[start : start + _AT_ONCE]
        opened.publisher.publish(plan)


def drop_needless(opened: OpenVault) -> bool:
    """Delete what was granted to slots that are no reader's any more; return whether there was anything.

    Raises:
        CommitUnknown, StoreBusy, StoreFailed: As for a write.
    """

    def plan(_publication: Publication) -> Plan:
        readers = _readers(opened)
        # Beyond lie drop orders and dropped values.
        rows = opened.store.scan(Space.GRANT, 0, EPOCHS_MAX * ROWS_OF_EPOCH - 1, EPOCHS_MAX)
        gone = [Delete(Space.GRANT, id_) for id_, row in rows if slot_of_grant(row) not in readers]
        return Plan(deletes=gone[:_AT_ONCE], result=bool(gone))

    has_dropped = False
    while opened.publisher.publish(plan):
        has_dropped = True
    return has_dropped


def _readers(opened: OpenVault) -> set[bytes]:
    """Return the ids of the slots that the charter names as readers'."""
    return {party.slot_id for party in charter_of(opened).parties if party.rights & READ}
