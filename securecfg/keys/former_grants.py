"""What a slot was granted of value keys before its role got another key, in one row (format, section 4.17).

Nothing vouches for such a row, and nothing has to: the slot opens with the former key or not at all, and a seed that it
gives has the public half that the keyring holds, or it is refused.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple, Self

from securecfg.crypto import SUITE, Label
from securecfg.keys.slots import Slot
from securecfg.keys.value_grants import GRANT_BYTES
from securecfg.octets import U32, Cursor, Malformed, var16

if TYPE_CHECKING:
    from collections.abc import Mapping

FIRST_FORMER_ROW = 1 << 60
LAST_FORMER_ROW = (1 << 61) - 1
EPOCHS_KEPT_MAX = 255

_FRONT = bytes((0x46, SUITE))


class FormerGrants(NamedTuple):
    """A slot that is gone, and what it was granted.

    Attributes:
        slot: The slot, as it lay in the scope.
        grants: The rows of what it was granted, by the epochs of value keys.
    """

    slot: Slot
    grants: Mapping[int, bytes]

    @property
    def row_id(self) -> int:
        """The id of the row, in the space of grants, above those of grants and below those of drop orders."""
        told = Label.GRANT.encode() + b"/former\x00" + self.slot.slot_id
        return FIRST_FORMER_ROW | int.from_bytes(hashlib.sha256(told).digest()[:8]) >> 4

    def to_bytes(self) -> bytes:
        """Return the row."""
        grants = b"".join(U32.pack(epoch) + raw for epoch, raw in sorted(self.grants.items()))
        return _FRONT + var16(self.slot.to_bytes()) + bytes((len(self.grants),)) + grants

    @classmethod
    def parse(cls, row: bytes) -> Self:
        """Return what a row holds.

        Raises:
            Malformed: It breaks the format.
            NotAVault, UnsupportedFormat: The slot in it does.
        """
        cursor = Cursor(row)
        if cursor.take(len(_FRONT)) != _FRONT:
            message = "is of another kind"
            raise Malformed(message)
        slot = Slot.parse(cursor.var16())
        grants = {cursor.u32(): cursor.take(GRANT_BYTES) for _ in range(cursor.u8())}
        cursor.finish()
        return cls(slot, grants)
