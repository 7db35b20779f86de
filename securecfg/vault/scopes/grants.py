"""What a change of who may do what gives to the slots of a sealed scope, and takes from them: grants of value keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.keys import Purpose
from securecfg.keys.value_grants import grant_row_of, seal_grant, value_public_key
from securecfg.store import Delete, Put, Space
from securecfg.vault.scopes.charters import READ
from securecfg.vault.scopes.late_grants import WITH_CHANGE
from securecfg.vault.scopes.opening import grants_of, slot_ids

if TYPE_CHECKING:
    from collections.abc import Mapping

    from securecfg.crypto import KeyBytes
    from securecfg.keys import Keyring
    from securecfg.vault.opened import OpenVault
    from securecfg.vault.scopes.charters import Party


def known_grants(opened: OpenVault, keyring: Keyring, row: int, slot_id: bytes) -> list[Put]:
    """Return the grants to a slot of all that this process reads."""
    grants, vault_id = grants_of(opened), opened.replica.vault_id
    public_key = keyring.slot(slot_id).public_key
    epochs = [entry.epoch for entry in keyring.keys if entry.purpose == Purpose.VALUE]
    return [
        Put(
            Space.GRANT,
            grant_row_of(row, epoch),
            seal_grant(public_key, vault_id, slot_id, epoch, grants.seed(epoch)),
        )
        for epoch in epochs
        if grants.is_granted(epoch)
    ]


def new_value_key(
    opened: OpenVault, keyring: Keyring, slots: Mapping[int, bytes], parties: tuple[Party, ...], seed: KeyBytes
) -> tuple[Keyring, list[Put]]:
    """Return a keyring in which values are sealed under a new key, and the grants of that to all readers."""
    vault_id = opened.replica.vault_id
    epoch = keyring.active(Purpose.VALUE).epoch + 1
    keyring = keyring.with_value_key(value_public_key(seed, vault_id, epoch), opened.clock.now_ns())
    readers = {party.slot_id for party in parties if party.rights & READ}
    return keyring, [
        Put(
            Space.GRANT,
            grant_row_of(row, epoch),
            seal_grant(keyring.slot(slot_id).public_key, vault_id, slot_id, epoch, seed),
        )
        for row, slot_id in slot_ids(slots).items()
        if slot_id in readers
    ]


def withdrawn_grants(keyring: Keyring, row: int) -> list[Delete]:
    """Return what takes the newest of its grants from the slot at a row, as many as go with a change.

    Where there are more, `drop_needless` deletes them after it.
    """
    epochs = [entry.epoch for entry in keyring.keys if entry.purpose == Purpose.VALUE and row]
    return [Delete(Space.GRANT, grant_row_of(row, epoch)) for epoch in epochs[-WITH_CHANGE:]]
