"""The keys of the values of a sealed scope, granted to unlock slots apart from its root (format, section 4.13).

Of each epoch there is one seed. Its public half is in the keyring, so that whoever may write seals values to it; the
seed is sealed to the slots of the readers alone.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from securecfg.crypto import (
    HYBRID_OVERHEAD_BYTES,
    HYBRID_PRIVATE_BYTES,
    KEY_BYTES,
    ROOT_SCOPE,
    SUITE,
    KeyBytes,
    KeyWrap,
    Label,
    expand,
    hybrid_public_key,
    seal_to,
)
from securecfg.errors import ScopeSealed, Tampered
from securecfg.keys.keyring import Purpose
from securecfg.keys.slots import FIRST_SLOT_ROW
from securecfg.octets import U32

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.keys.keyring import Keyring
    from securecfg.keys.roots import SlotKey

ROWS_OF_EPOCH = 256
EPOCHS_MAX = 1 << 24

_TYPE = 0x56
_SLOT_ID_BYTES = 16
_FRONT_BYTES = 2 + 4 + _SLOT_ID_BYTES
GRANT_BYTES = _FRONT_BYTES + HYBRID_OVERHEAD_BYTES + KEY_BYTES


def value_public_key(seed: bytes, vault_id: bytes, epoch: int) -> bytes:
    """Return the public half of the seed of an epoch, 1,216 bytes, which the keyring holds."""
    return hybrid_public_key(_private_key(seed, vault_id, epoch))


def grant_row_of(slot_row: int, epoch: int) -> int:
    """Return the id, in the space of grants, of what the slot of a row id is granted of an epoch."""
    return epoch * ROWS_OF_EPOCH + slot_row - FIRST_SLOT_ROW


def seal_grant(public_key: bytes, vault_id: bytes, slot_id: bytes, epoch: int, seed: KeyBytes) -> bytes:
    """Return the row that gives the seed of an epoch to the holder of a slot's key.

    Args:
        public_key: The slot's, 1,216 bytes, from the keyring.
        vault_id: 16 bytes.
        slot_id: 16 bytes.
        epoch: Which seed it is.
        seed: 32 bytes.

    Raises:
        Tampered: The public key is none.
    """
    return _front(slot_id, epoch) + seal_to(public_key, seed, _info(vault_id, slot_id, epoch))


def is_grant_of(row: bytes | None, slot_id: bytes) -> bool:
    """Return whether a row says that it is for a slot; nothing else is looked at."""
    return row is not None and slot_of_grant(row) == slot_id


def slot_of_grant(row: bytes) -> bytes:
    """Return the id of the slot that a row says it is for; empty where it is no grant."""
    return row[_FRONT_BYTES - _SLOT_ID_BYTES : _FRONT_BYTES] if len(row) == GRANT_BYTES else b""


class ValueGrants:
    """The seeds that one slot was granted, opened when they are first needed. May be shared by threads.

    Args:
        vault_id: 16 bytes.
        keyring: Holds the public half of each seed.
        key: The key pair of the slot.
        load: Returns the row of an epoch that is for this slot, None where there is none.
    """

    def __init__(self, vault_id: bytes, keyring: Keyring, key: SlotKey, load: Callable[[int], bytes | None]) -> None:
        """Open nothing yet."""
        self._vault_id = vault_id
        self._keyring = keyring
        self._key = key
        self._load = load
        self._seeds: dict[int, KeyBytes] = {}
        self._wraps: dict[int, KeyWrap] = {}

    @property
    def active(self) -> int:
        """The epoch that new values are sealed under."""
        return self._keyring.active(Purpose.VALUE).epoch

    @property
    def public_key(self) -> bytes:
        """What new values can be sealed to without being granted anything."""
        return self._keyring.active(Purpose.VALUE).key

    def is_granted(self, epoch: int) -> bool:
        """Return whether this slot was granted the seed of an epoch.

        Raises:
            Tampered: What it was granted is altered.
        """
        return epoch in self._seeds or (self._row(epoch) is not None and bool(self.seed(epoch)))

    def seed(self, epoch: int) -> KeyBytes:
        """Return the seed of an epoch, 32 bytes.

        Raises:
            ScopeSealed: This slot was not granted it.
            Tampered: What it was granted is altered, or is not the seed that the keyring vouches for.
        """
        seed = self._seeds.get(epoch)
        if seed is None:
            row = self._row(epoch)
            if row is None:
                message = "the values are sealed from this key"
                raise ScopeSealed(
                    message, hint="an administrator may grant them: `securecfg scope grant PATH --read ROLE`"
                )
            seed = self._seeds[epoch] = self._open(row, epoch)
        return seed

    def wrap(self, epoch: int) -> KeyWrap:
        """Return what wraps the data keys of an epoch for its readers.

        Raises:
            ScopeSealed, Tampered: As for `seed`.
        """
        wrap = self._wraps.get(epoch)
        if wrap is None:
            binding = ROOT_SCOPE + U32.pack(epoch)
            wrap = KeyWrap(expand(self.seed(epoch), Label.VALUE_WRAP, binding, 2 * KEY_BYTES))
            self._wraps[epoch] = wrap
        return wrap

    def private_key(self, epoch: int) -> KeyBytes:
        """Return what opens data keys that were sealed to the public half of an epoch, 96 bytes.

        Raises:
            ScopeSealed, Tampered: As for `seed`.
        """
        return _private_key(self.seed(epoch), self._vault_id, epoch)

    def _row(self, epoch: int) -> bytes | None:
        """Return what was granted, None where nothing was; what the slot before in its place was granted is nothing."""
        row = self._load(epoch)
        is_of_another = row is not None and len(row) == GRANT_BYTES and not is_grant_of(row, self._key.slot_id)
        return None if is_of_another else row

    def _open(self, row: bytes, epoch: int) -> KeyBytes:
        public_key = self._keyring.find(Purpose.VALUE, epoch).key
        slot_id = self._key.slot_id
        if len(row) == GRANT_BYTES and row[:_FRONT_BYTES] == _front(slot_id, epoch):
            seed = self._key.open(row[_FRONT_BYTES:], _info(self._vault_id, slot_id, epoch))
            # Anybody can seal something to a slot; only the right seed has the public half that the keyring holds.
            if hmac.compare_digest(value_public_key(seed, self._vault_id, epoch), public_key):
                return seed
        message = "a grant of the scope was altered"
        raise Tampered(message, hint="ask an administrator of the scope to grant it again")


def _private_key(seed: bytes, vault_id: bytes, epoch: int) -> KeyBytes:
    return KeyBytes(expand(seed, Label.VALUE_KEY, vault_id + U32.pack(epoch), HYBRID_PRIVATE_BYTES))


def _front(slot_id: bytes, epoch: int) -> bytes:
    return bytes((_TYPE, SUITE)) + U32.pack(epoch) + slot_id


def _info(vault_id: bytes, slot_id: bytes, epoch: int) -> bytes:
    return Label.GRANT.encode() + b"\x00" + vault_id + slot_id + U32.pack(epoch)
