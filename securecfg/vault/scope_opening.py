"""Opening sealed scopes: with the key of a role that the charter names, or with that of a vault's administrator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.errors import WrongKey
from securecfg.store import Put, Space
from securecfg.tuples import NamedTuple
from securecfg.vault.charters import READ
from securecfg.vault.creation import open_rows
from securecfg.vault.seats import Seat

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    from securecfg.clock import Clock
    from securecfg.keys.role_keys import RoleKey
    from securecfg.keys.value_grants import ValueGrants
    from securecfg.store import Store
    from securecfg.vault.charters import Charter, Trust
    from securecfg.vault.opened import OpenVault, Options


class Doorway(NamedTuple):
    """How the scopes of a vault are opened.

    Attributes:
        store: The vault's.
        path: Its file; None for stores without a place.
        clock: The time.
        options: As the vault is opened.
        trust: Whose signatures make a charter.
        keys: The keys of roles at hand.
    """

    store: Store
    path: str | os.PathLike[str] | None
    clock: Clock
    options: Options
    trust: Trust
    keys: Sequence[RoleKey]

    def open(self, number: int) -> tuple[OpenVault, bytes] | None:
        """Open a scope with the key that has the most rights in it, and return it with the id of that slot.

        Args:
            number: Its partition.

        Returns:
            None where no key opens it, or there is nothing yet.

        Raises:
            Tampered: A key opens it, but what is in it is not what its administrators and writers signed.
            RollbackSuspected: It is older than what was recorded on this machine.
        """
        if self.store.partition(number).head() is None:
            return None  # its making was interrupted
        for key in self.keys:
            try:
                found = self._open(number, key)
            except WrongKey:
                continue
            best = _best(self.keys, charter_of(found[0]))
            if best is not None and best is not key:
                found[0].close()
                found = self._open(number, best)
            complete_grants(found[0])
            return found
        return None

    def _open(self, number: int, key: RoleKey) -> tuple[OpenVault, bytes]:
        seat = Seat(self.trust, key.signer)
        opened, slot = open_rows(self.store.partition(number), key, self.path, self.clock, self.options, seat=seat)
        return opened, slot.slot_id


def charter_of(opened: OpenVault) -> Charter:
    """Return the charter in force of an open scope."""
    seat = opened.replica.seat
    if seat is None or seat.charter is None:
        message = "an ordinary vault has no charter"
        raise TypeError(message)
    return seat.charter.charter


def grants_of(opened: OpenVault) -> ValueGrants:
    """Return what the key at hand was granted of the values of an open scope."""
    grants = opened.replica.data_keys.grants
    if grants is None:
        message = "an ordinary vault has no grants"
        raise TypeError(message)
    return grants


def complete_grants(opened: OpenVault) -> int:
    """Give the other readers of a scope what this one has and they lack, and return how much that was.

    An administrator who does not read the values can make somebody a reader of what is written from then on. What was
    written before only another reader can give; who the readers are is in the charter, which administrators signed.
    """
    missing = [] if opened.options.read_only else list(_missing_grants(opened))
    if missing:
        opened.store.stage(missing)
    return len(missing)


def _missing_grants(opened: OpenVault) -> Iterator[Put]:
    from securecfg.keys import Purpose
    from securecfg.keys.value_grants import grant_row_of, seal_grant

    replica, grants = opened.replica, grants_of(opened)
    epochs = [entry.epoch for entry in replica.keyring.keys if entry.purpose == Purpose.VALUE]
    held = [epoch for epoch in epochs if grants.is_granted(epoch)]
    readers = {party.slot_id for party in charter_of(opened).parties if party.rights & READ}
    for row, slot_id in slot_ids(replica.slots).items():
        if slot_id in readers:
            public_key = replica.keyring.slot(slot_id).public_key
            for epoch in held:
                number = grant_row_of(row, epoch)
                if opened.store.get(Space.GRANT, number) is None:
                    seed = grants.seed(epoch)
                    yield Put(Space.GRANT, number, seal_grant(public_key, replica.vault_id, slot_id, epoch, seed))


def slot_ids(slots: Mapping[int, bytes]) -> dict[int, bytes]:
    """Return the ids of slots by the ids of their rows."""
    from securecfg.keys import FIRST_ROOT_ROW, Slot

    return {row: Slot.parse(raw).slot_id for row, raw in slots.items() if row < FIRST_ROOT_ROW}


def _best(keys: Sequence[RoleKey], charter: Charter) -> RoleKey | None:
    """Return the key with the most rights in a charter, the first of several."""
    rights = {party.signing_key: party.rights for party in charter.parties}
    return max(keys, key=lambda key: rights.get(key.signing_key, 0).bit_count(), default=None)
