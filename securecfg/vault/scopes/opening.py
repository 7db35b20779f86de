"""Opening sealed scopes: with the key of a role that the charter names, or with that of a vault's administrator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.errors import Tampered, WrongKey
from securecfg.store import Space
from securecfg.tuples import NamedTuple
from securecfg.vault.creation import open_rows
from securecfg.vault.scopes.charters import BREAK_GLASS, NO_SLOT, READ, WRITE
from securecfg.vault.scopes.seats import Seat
from securecfg.vault.state.replica import HEADER_ID, SLOT_IDS
from securecfg.vault.trust.successions import former_administrators

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from securecfg.clock import Clock
    from securecfg.keys.role_keys import RoleKey
    from securecfg.keys.trust import Trust
    from securecfg.keys.value_grants import ValueGrants
    from securecfg.store import Store
    from securecfg.vault.opened import OpenVault, Options
    from securecfg.vault.scopes.charters import Charter
    from securecfg.vault.scopes.seats import Heard
    from securecfg.vault.state.anchor import Mark


class Doorway(NamedTuple):
    """How the scopes of a vault are opened.

    Attributes:
        store: The vault's.
        path: Its file; None for stores without a place.
        clock: The time.
        options: As the vault is opened.
        vault_id: The vault's id, 16 bytes.
        trust: Whose signatures make a charter, or those of their successors.
        keys: The keys of roles at hand.
        is_anchor_required: Whether to refuse a scope that no checkpoint was recorded of.
        is_adopting: Whether to accept one that is older than, or not a continuation of, what was recorded.
        newest: Who the administrators are by now, where that is known; else whom the scope itself leads to.
        known: Checkpoints that are known from elsewhere, by the ids of scopes.
        heard: As a `Seat` has it.
    """

    store: Store
    path: str | os.PathLike[str] | None
    clock: Clock
    options: Options
    vault_id: bytes
    trust: Trust
    keys: Sequence[RoleKey]
    is_anchor_required: bool = False
    is_adopting: bool = False
    newest: Trust | None = None
    known: Mapping[bytes, Mark] | None = None
    heard: Heard | None = None

    def open(self, number: int, expected: tuple[str, bytes] | None = None) -> tuple[OpenVault, bytes] | None:
        """Open a scope with the keys that have the most rights in it, and return it with the id of the slot.

        Args:
            number: Its partition.
            expected: The path and the vault id that it must have, where they are known.

        Returns:
            None where no key opens it, or there is nothing yet.

        Raises:
            Tampered: A key opens it, but what is in it is not what its administrators and writers signed, or it is
                another scope than is expected.
            RollbackSuspected: It is older than what was recorded on this machine, or is as former administrators
                left it.
            AnchorMissing: Nothing was recorded, and it is required.
        """
        partition = self.store.partition(number)
        fitting = _fitting(partition, self.keys)
        if not fitting or partition.head() is None:
            return None  # for others, or still being made
        for key in fitting:
            try:
                opened, slot_id = self._open(number, key, key)
            except WrongKey:
                continue
            try:
                charter = charter_of(opened)
                if expected is not None and (charter.path, opened.replica.vault_id) != expected:
                    message = f"another scope lies in the place of `{expected[0]}`"
                    raise Tampered(message, hint="somebody who may write the file may have exchanged them")
                verify_slots(opened, self.keys)
                verify_succeeded(opened, self.newest)
            except BaseException:
                # The caller gets nothing to close.
                opened.close()
                raise
            reader, signer = _best(self.keys, charter, READ), _best(self.keys, charter, WRITE)
            if (reader, signer) != (key, key):
                opened.close()
                opened, slot_id = self._open(number, reader, signer)
            return opened, slot_id
        return None

    def _open(self, number: int, key: RoleKey, signer: RoleKey) -> tuple[OpenVault, bytes]:
        seat = Seat(self.vault_id, self.trust, signer.signer, heard=self.heard)
        seat.role_keys = tuple(each.public_key for each in self.keys)
        opened, slot = open_rows(
            self.store.partition(number),
            key,
            self.path,
            self.clock,
            self.options,
            is_anchor_required=self.is_anchor_required,
            is_adopting=self.is_adopting,
            seat=seat,
            known=self.known,
        )
        return opened, slot.slot_id


def _fitting(partition: Store, keys: Sequence[RoleKey]) -> list[RoleKey]:
    """Return those keys that a scope has a slot for, by the tags; of a scope that is for others no more is read.

    Raises:
        NotAVault: The header or a slot is malformed.
        UnsupportedFormat: The scope needs a newer program.
    """
    from securecfg.keys import Header, Slot

    row = partition.get(Space.META, HEADER_ID)
    if row is None:
        return []
    header = Header.parse(row)
    rows = partition.scan(Space.META, SLOT_IDS.start, SLOT_IDS.stop - 1, len(SLOT_IDS))
    slots = [Slot.parse(row) for _, row in rows]
    return [key for key in keys if any(key.fits(slot, header.vault_id) for slot in slots)]


def charter_of(opened: OpenVault) -> Charter:
    """Return the charter in force of an open scope."""
    seat = opened.replica.seat
    if seat is None or seat.charter is None:
        message = "an ordinary vault has no charter"
        raise TypeError(message)
    return seat.charter.charter


def verify_slots(opened: OpenVault, keys: Sequence[RoleKey]) -> None:
    """Check that the charter of an open scope gives each role at hand the slot that its key opens.

    Readers give values to the slots of other readers, and only who has the key of a role can tell which one is its. A
    slot that somebody has taken away is given nothing.

    Raises:
        Tampered: It gives a role another slot, or the slot another public key.
    """
    from securecfg.keys import Slot, open_slot

    replica, charter = opened.replica, charter_of(opened)
    slots = {slot_id: Slot.parse(replica.slots[row]) for row, slot_id in slot_ids(replica.slots).items()}
    held = {key.signing_key: key for key in keys}
    for party in charter.parties:
        key, slot = held.get(party.signing_key), slots.get(party.slot_id)
        if key is None or party.slot_id == NO_SLOT:
            continue
        if slot is None and not any(key.fits(each, replica.vault_id) for each in slots.values()):
            continue
        try:
            public_key = open_slot(replica.vault_id, {0: slot} if slot is not None else {}, key)[1].public_key
        except WrongKey:
            public_key = b""
        if public_key != replica.keyring.slot(party.slot_id).public_key:
            message = f"the charter of `{charter.path}` gives a role the slot of another one"
            hint = "who made the change that administrators signed last, or a writer of the scope, may have done so"
            raise Tampered(message, hint=hint)


def trusts_of(opened: OpenVault) -> tuple[Trust, ...]:
    """Return the administrators of an open scope, from those that were known beforehand to the newest."""
    seat = opened.replica.seat
    return () if seat is None else seat.trusts


def verify_succeeded(opened: OpenVault, newest: Trust | None) -> None:
    """Check that an open scope has the newest administrators.

    Raises:
        RollbackSuspected: It is as former administrators left it.
    """
    if newest is not None and trusts_of(opened)[-1] != newest:
        raise former_administrators(charter_of(opened).path)


def gone(scope: str) -> Tampered:
    """Return the error for a scope that the vault names and that has no head: each has one as long as it is named."""
    message = f"the sealed scope `{scope}` is not there"
    hint = "somebody who may write the file may have taken it out; restore the file from a backup"
    return Tampered(message, hint=hint)


def grants_of(opened: OpenVault) -> ValueGrants:
    """Return what the key at hand was granted of the values of an open scope."""
    grants = opened.replica.data_keys.grants
    if grants is None:
        message = "an ordinary vault has no grants"
        raise TypeError(message)
    return grants


def slot_ids(slots: Mapping[int, bytes]) -> dict[int, bytes]:
    """Return the ids of slots by the ids of their rows."""
    from securecfg.keys import FIRST_ROOT_ROW, Slot

    return {row: Slot.parse(raw).slot_id for row, raw in slots.items() if row < FIRST_ROOT_ROW}


def _best(keys: Sequence[RoleKey], charter: Charter, right: int) -> RoleKey:
    """Return the key that has a right in a charter, and of several the one with the most others."""
    rights = {party.signing_key: party.rights for party in charter.parties}

    def worth(key: RoleKey) -> tuple[bool, bool, int]:
        held = rights.get(key.signing_key, 0)
        return bool(held & right), not held & BREAK_GLASS, held.bit_count()

    return max(keys, key=worth)
