"""The root key, sealed to each unlock slot (format, section 4.5).

A slot does not hold the root but a slot key, from which the slot's key pair follows. So whoever holds the root can put
a new one in its place for every slot, without the key that opens any of them.
"""

from __future__ import annotations

from securecfg.crypto import (
    HYBRID_OVERHEAD_BYTES,
    HYBRID_PRIVATE_BYTES,
    KEY_BYTES,
    SUITE,
    KeyBytes,
    Label,
    expand,
    hybrid_public_key,
    open_sealed,
    seal_to,
)
from securecfg.errors import Tampered

FIRST_ROOT_ROW = 512
ROWS_APART = 256

_TYPE = 0x52
_SLOT_ID_BYTES = 16
_FRONT_BYTES = 2 + _SLOT_ID_BYTES
SEALED_ROOT_BYTES = _FRONT_BYTES + HYBRID_OVERHEAD_BYTES + KEY_BYTES


class SlotKey:
    """The key pair of an unlock slot, for whoever has opened it.

    Args:
        key: The slot key, 32 uniformly random bytes.
        vault_id: 16 bytes.
        slot_id: 16 bytes.
    """

    __slots__ = ("_private_key", "_vault_id", "slot_id")

    def __init__(self, key: bytes, vault_id: bytes, slot_id: bytes) -> None:
        """Derive the private key."""
        self._private_key = KeyBytes(expand(key, Label.SLOT_KEY, vault_id + slot_id, HYBRID_PRIVATE_BYTES))
        self._vault_id = vault_id
        self.slot_id = slot_id

    @property
    def public_key(self) -> bytes:
        """What others seal a root to, 1,216 bytes."""
        return hybrid_public_key(self._private_key)

    def open_root(self, row: bytes | None) -> KeyBytes:
        """Return the root that a row holds for this slot.

        Raises:
            Tampered: The row is missing, was altered, or belongs to another slot or vault.
        """
        if row is None or len(row) != SEALED_ROOT_BYTES or row[:_FRONT_BYTES] != _front(self.slot_id):
            raise _refusal()
        try:
            return KeyBytes(open_sealed(self._private_key, row[_FRONT_BYTES:], _info(self._vault_id, self.slot_id)))
        except Tampered:
            raise _refusal() from None

    def open(self, sealed: bytes, info: bytes) -> KeyBytes:
        """Return another key that was sealed to this slot.

        Raises:
            Tampered: It was altered, or belongs to another slot or purpose.
        """
        return KeyBytes(open_sealed(self._private_key, sealed, info))


def seal_root(public_key: bytes, vault_id: bytes, slot_id: bytes, root: KeyBytes) -> bytes:
    """Return the row with a root for the holder of a slot's key.

    Args:
        public_key: The slot's, 1,216 bytes, from the keyring.
        vault_id: 16 bytes.
        slot_id: 16 bytes.
        root: 32 bytes.

    Raises:
        Tampered: The public key is none.
    """
    return _front(slot_id) + seal_to(public_key, root, _info(vault_id, slot_id))


def _front(slot_id: bytes) -> bytes:
    return bytes((_TYPE, SUITE)) + slot_id


def _info(vault_id: bytes, slot_id: bytes) -> bytes:
    return Label.ROOT.encode() + b"\x00" + vault_id + slot_id


def _refusal() -> Tampered:
    return Tampered("the root key of an unlock slot was altered", hint="restore the vault from a backup")
