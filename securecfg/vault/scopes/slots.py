"""The slots of a sealed scope when who may do what in it changes: where they lie, and how one goes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.crypto import generate_key
from securecfg.keys import Purpose, root_row_of
from securecfg.store import Delete, Space
from securecfg.vault.commits.epochs import plan_new_epoch, seal_root_to_all
from securecfg.vault.keys.departures import NO_NUMBER, note_departure
from securecfg.vault.scopes.opening import charter_of, slot_ids
from securecfg.vault.state.replica import SLOT_IDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from securecfg.keys import Keyring
    from securecfg.vault.authority import Authority
    from securecfg.vault.commits.publishing import Plan, Publication
    from securecfg.vault.opened import OpenVault
    from securecfg.vault.scopes.chartering import CharterDraft


def row_of(slots: Mapping[int, bytes], slot_id: bytes) -> int:
    """Return the id of the row of a slot, 0 where a writer, who has the root, has taken it away."""
    return next((number for number, known in slot_ids(slots).items() if known == slot_id), 0)


def without_strays(opened: OpenVault) -> tuple[dict[int, bytes], Keyring]:
    """Return slots and keyring without what no role in the charter has: somebody who knew the root put it there."""
    replica, named = opened.replica, {party.slot_id for party in charter_of(opened).parties}
    strays = {row for row, slot_id in slot_ids(replica.slots).items() if slot_id not in named}
    gone = strays | {root_row_of(row) for row in strays}
    keyring = replica.keyring
    for info in keyring.slots:
        if info.slot_id not in named:
            keyring = keyring.without_slot(info.slot_id)
    return {row: raw for row, raw in replica.slots.items() if row not in gone}, keyring


def plan_departure(authority: Authority, publication: Publication, draft: CharterDraft) -> Plan:
    """Plan to remove a slot, with new keys of every kind, as for a vault."""
    opened, replica = authority.opened, authority.opened.replica
    row = row_of(replica.slots, draft.departing)
    keyring = draft.keyring
    for purpose in (Purpose.SCOPE, Purpose.AUDIT):
        keyring = keyring.with_new_epoch(purpose, opened.clock.now_ns())
    root = generate_key()
    slots = seal_root_to_all(replica.vault_id, root, draft.slots, keyring)
    plan = plan_new_epoch(authority, publication, slots, keyring, root)
    if row:
        plan.deletes.append(Delete(Space.META, row))
    return plan


def note_reader(authority: Authority, publication: Publication, slot_id: bytes) -> Plan:
    """Return the draft of a note of what the holder of a slot could read, taken away by a writer as it may be."""
    opened, replica = authority.opened, authority.opened.replica
    row = row_of(replica.slots, slot_id)
    number, author = row - SLOT_IDS.start + 1 if row else NO_NUMBER, authority.identity.principal
    return note_departure(opened, publication, number, replica.keyring.slot(slot_id), author)
