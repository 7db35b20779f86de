"""What a role was granted under a key that it has no more, kept for those of its members who have both keys.

An administrator who gives a role another key knows none of the seeds by which the role reads what is there. So what was
granted to its slot stays, sealed as it was, until nothing is under those seeds any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.audit import Event
from securecfg.errors import Conflict, NotAVault, Tampered, UnsupportedFormat, WrongKey
from securecfg.keys import Purpose, Slot, open_slot
from securecfg.keys.former_grants import EPOCHS_KEPT_MAX, FIRST_FORMER_ROW, LAST_FORMER_ROW, FormerGrants
from securecfg.keys.role_keys import RolePublic
from securecfg.keys.value_grants import ValueGrants, grant_row_of, is_grant_of, seal_grant
from securecfg.octets import Malformed
from securecfg.store import Delete, Put, Space
from securecfg.vault.commits.publishing import Plan
from securecfg.vault.scopes.charters import READ
from securecfg.vault.scopes.opening import charter_of, grants_of, slot_ids, verify_slots

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from securecfg.keys import Keyring
    from securecfg.keys.role_keys import RoleKey
    from securecfg.store import Store
    from securecfg.vault.authority import Authority
    from securecfg.vault.commits.publishing import Publication
    from securecfg.vault.opened import OpenVault

_ROWS_AT_ONCE = 32


def put_former(opened: OpenVault, row: int) -> list[Put]:
    """Return the row that keeps what a slot was granted which is about to go.

    Raises:
        Conflict: There are too many value keys.
    """
    slot = Slot.parse(opened.replica.slots[row])
    found = {
        epoch: opened.store.get(Space.GRANT, grant_row_of(row, epoch)) for epoch in _epochs(opened.replica.keyring)
    }
    grants = {epoch: raw for epoch, raw in found.items() if raw is not None and is_grant_of(raw, slot.slot_id)}
    if len(grants) > EPOCHS_KEPT_MAX:
        message = f"the scope `{charter_of(opened).path}` has too many value keys"
        hint = f"open it with a key that reads it, then `securecfg key rotate scope {charter_of(opened).path} --resume`"
        raise Conflict(message, hint=hint)
    former = FormerGrants(slot, grants)
    return [Put(Space.GRANT, former.row_id, former.to_bytes())] if grants else []


def has_formers(store: Store) -> bool:
    """Return whether a scope holds anything that was granted to a former slot."""
    return bool(store.scan(Space.GRANT, FIRST_FORMER_ROW, LAST_FORMER_ROW, 1))


def granted_epochs(opened: OpenVault, keys: Mapping[str, Sequence[bytes]]) -> Iterator[tuple[str, bytes, set[int]]]:
    """Yield the roles that read a scope, each with a key and the epochs of value keys that rows say were granted to it.

    Slots that the roles had before count too. Nothing is opened: who could write the file can have made a row up.

    Args:
        opened: The scope.
        keys: The public keys of roles, those that they had before included. A key in a charter that is not among them
            is empty.
    """
    charter, replica = charter_of(opened), opened.replica
    epochs, rows = _epochs(replica.keyring), {slot_id: row for row, slot_id in slot_ids(replica.slots).items()}
    readers = {party.role: party for party in charter.parties if party.rights & READ}
    for role, party in readers.items():
        row = rows.get(party.slot_id)
        found = {
            epoch
            for epoch in epochs
            if row and is_grant_of(opened.store.get(Space.GRANT, grant_row_of(row, epoch)), party.slot_id)
        }
        known = (key for key in keys.get(role, ()) if RolePublic(key).signing_key == party.signing_key)
        yield role, next(known, b""), found
    for _, former in _formers(opened.store):
        for role in readers.keys() & keys.keys() if former is not None else ():
            for key in keys[role]:
                if former is not None and RolePublic(key).fits(former.slot, replica.vault_id):
                    yield role, key, set(epochs) & former.grants.keys()


def retired_formers(store: Store, oldest: int) -> list[Delete]:
    """Return the deletion of what former slots were granted only of value keys that are older than an epoch."""
    return [
        Delete(Space.GRANT, number)
        for number, former in _formers(store)
        if former is None or max(former.grants, default=-1) < oldest
    ]


def recover_grants(authority: Authority, keys: Sequence[RoleKey]) -> int:
    """Give the slot of a role what was granted to the one before it, as far as a former key of the role is at hand.

    Returns:
        How many value keys the role reads now that it did not.

    Raises:
        Tampered: The charter gives the slot of a role, the key of which is at hand, to another one.
    """
    opened, own = authority.opened, bytes.fromhex(authority.identity.slot)
    lacking = _lacking(opened)
    found: dict[int, ValueGrants] = {}
    if lacking and _may_read(opened, own):
        found = {
            epoch: grants
            for grants, epochs in _open_formers(opened, keys)
            for epoch in epochs
            if epoch in lacking and _holds(grants, epoch)
        }

    def plan(_publication: Publication) -> Plan:
        replica, charter = opened.replica, charter_of(opened)
        row = next((number for number, slot_id in slot_ids(replica.slots).items() if slot_id == own), None)
        if row is None or not _may_read(opened, own):
            return Plan(result=0)
        verify_slots(opened, keys)
        public_key = replica.keyring.slot(own).public_key
        puts = [
            Put(
                Space.GRANT,
                grant_row_of(row, epoch),
                seal_grant(public_key, replica.vault_id, own, epoch, found[epoch].seed(epoch)),
            )
            for epoch in sorted(_lacking(opened) & found.keys())[:_ROWS_AT_ONCE]
        ]
        obj = {"path": charter.path, "rev": charter.serial, "digest": charter.digest.hex()}
        obj |= {"role": replica.keyring.slot(own).label, "added": ["read"]}
        records = [authority.session().record(Event.SCOPE_CHANGED, obj)] if puts else []
        return Plan(puts=puts, records=records, result=len(puts))

    count = opened.publisher.publish(plan) if found else 0
    return count if isinstance(count, int) else 0


def _may_read(opened: OpenVault, slot_id: bytes) -> bool:
    return any(party.slot_id == slot_id and party.rights & READ for party in charter_of(opened).parties)


def _epochs(keyring: Keyring) -> list[int]:
    return [entry.epoch for entry in keyring.keys if entry.purpose == Purpose.VALUE]


def _lacking(opened: OpenVault) -> set[int]:
    grants = grants_of(opened)
    return {epoch for epoch in _epochs(opened.replica.keyring) if not grants.is_granted(epoch)}


def _formers(store: Store) -> Iterator[tuple[int, FormerGrants | None]]:
    """Yield the rows of former slots, and what is in them where they are well formed."""
    first = FIRST_FORMER_ROW
    while first <= LAST_FORMER_ROW and (rows := store.scan(Space.GRANT, first, LAST_FORMER_ROW, _ROWS_AT_ONCE)):
        for number, row in rows:
            try:
                yield number, FormerGrants.parse(row)
            except (Malformed, NotAVault, UnsupportedFormat):
                yield number, None
        first = rows[-1][0] + 1


def _open_formers(opened: OpenVault, keys: Sequence[RoleKey]) -> Iterator[tuple[ValueGrants, list[int]]]:
    """Yield what each former slot that a key opens was granted, and of which epochs."""
    vault_id, keyring = opened.replica.vault_id, opened.replica.keyring
    for _, former in _formers(opened.store):
        if former is None:
            continue
        for key in keys:
            try:
                _, slot_key = open_slot(vault_id, {0: former.slot}, key)
            except WrongKey:
                continue
            yield ValueGrants(vault_id, keyring, slot_key, former.grants.get), list(former.grants)


def _holds(grants: ValueGrants, epoch: int) -> bool:
    try:
        return grants.is_granted(epoch)
    except Tampered:
        return False
