"""The root key, sealed to each unlock slot (format, section 4.5).

A slot does not hold the root but a slot key, from which the slot's key pair follows. So whoever holds the root can put
a new one in its place for every slot, without the key that opens any of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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
from securecfg.octets import Cursor, Malformed, var32

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOTS_ROW = 255
FIRST_ROOT_ROW = 512
ROWS_APART = 256

_TYPE = 0x52
_ROWS_TYPE = 0x53
_FRONT = bytes((_ROWS_TYPE, SUITE))
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


def parse_roots(row: bytes | None) -> dict[int, bytes]:
    """Return the sealed roots of a row, each by the number of its slot's row and 256.

    Raises:
        Malformed: The row is missing, or is not laid out as one.
    """
    cursor = Cursor(row or b"")
    if cursor.take(len(_FRONT)) != _FRONT:
        message = "are not the sealed roots"
        raise Malformed(message)
    roots: dict[int, bytes] = {}
    for _ in range(cursor.u8()):
        number = FIRST_ROOT_ROW + cursor.u8()
        if roots and number <= max(roots):
            message = "are not in ascending order"
            raise Malformed(message)
        roots[number] = cursor.take(SEALED_ROOT_BYTES)
    cursor.finish()
    return roots


def slots_of_rows(rows: Mapping[int, bytes]) -> dict[int, bytes]:
    """Return the slots that some rows of META hold by their ids, and the sealed roots by those of their slots and 256.

    A slot that no root is sealed to is none: it was removed, and its row waits to be deleted.

    Raises:
        Malformed: The row with the sealed roots is missing, or not laid out as one.
    """
    roots = parse_roots(rows.get(ROOTS_ROW))
    return {number: row for number, row in rows.items() if number + ROWS_APART in roots} | roots


def rows_of_slots(slots: Mapping[int, bytes]) -> dict[int, bytes]:
    """Return the rows of META that hold some slots and sealed roots, by their ids: all roots lie in one.

    So a new root is one small publication, however many slots there are.
    """
    roots = {number: sealed for number, sealed in sorted(slots.items()) if number >= FIRST_ROOT_ROW}
    joined = b"".join(bytes((number - FIRST_ROOT_ROW,)) + sealed for number, sealed in roots.items())
    rows = {number: row for number, row in slots.items() if number < FIRST_ROOT_ROW}
    return rows | {ROOTS_ROW: _FRONT + bytes((len(roots),)) + joined}


def slots_to_bytes(slots: Mapping[int, bytes]) -> bytes:
    """Return what the header's MAC and its hash in the state cover of some slots and sealed roots."""
    return b"".join(var32(row) for _, row in sorted(rows_of_slots(slots).items()))


def _front(slot_id: bytes) -> bytes:
    return bytes((_TYPE, SUITE)) + slot_id


def _info(vault_id: bytes, slot_id: bytes) -> bytes:
    return Label.ROOT.encode() + b"\x00" + vault_id + slot_id


def _refusal() -> Tampered:
    return Tampered("the root key of an unlock slot was altered", hint="restore the vault from a backup")
