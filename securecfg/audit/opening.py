"""Opening records with the vault's audit key."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.audit.leaf import derive_leaf_key, open_leaf, parse_leaf
from securecfg.audit.record import parse_record
from securecfg.audit.sealer import audit_key_id, audit_public_key, key_id_of, open_sealer, sealer_id_of
from securecfg.errors import LogTampered, Tampered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from securecfg.audit.leaf import Leaf
    from securecfg.audit.record import Record


class RecordOpener:
    """Opens leaves for a holder of the audit key, whichever session sealed them.

    Args:
        private_keys: The vault's audit keys of all epochs, 96 bytes each.
        vault_id: 16 bytes.
        sealer_row: Returns the stored sealer row for an id of 16 bytes, or None. What it returns is checked.
    """

    __slots__ = ("_keys", "_private_keys", "_sealer_row", "_vault_id")

    def __init__(
        self, private_keys: Iterable[bytes], vault_id: bytes, sealer_row: Callable[[bytes], bytes | None]
    ) -> None:
        """Open nothing yet; sealers are opened when a leaf needs them, and then remembered."""
        self._private_keys = {audit_key_id(audit_public_key(key)): key for key in private_keys}
        self._vault_id = vault_id
        self._sealer_row = sealer_row
        self._keys: dict[bytes, bytes] = {}

    def leaf_key(self, leaf: Leaf, index: int) -> bytes:
        """Return the key of one leaf, which may be disclosed: it opens nothing else.

        Raises:
            LogTampered: The sealer row is missing or was altered.
        """
        key = self._keys.get(leaf.sealer_id)
        if key is None:
            key = self._keys[leaf.sealer_id] = self._open_sealer(leaf.sealer_id, index)
        return derive_leaf_key(key, self._vault_id, leaf.sealer_id, leaf.counter, index)

    def open(self, leaf: Leaf, index: int) -> Record:
        """Return the record in a leaf.

        Raises:
            LogTampered: The leaf, its sealer row or the record was altered.
            UnsupportedFormat: The record was written by a later version of this library.
        """
        return parse_record(open_leaf(leaf, self.leaf_key(leaf, index), index), index)

    def open_row(self, row: bytes, index: int) -> Record:
        """Return the record in a leaf row.

        Raises:
            LogTampered: The row, its sealer row or the record was altered.
            UnsupportedFormat: The record was written by a later version of this library.
        """
        return self.open(parse_leaf(row, index), index)

    def _open_sealer(self, sealer_id: bytes, index: int) -> bytes:
        row = self._sealer_row(sealer_id)
        if row is None or sealer_id_of(row) != sealer_id:
            message = f"the sealer of record {index} is missing or was altered"
            raise LogTampered(message, index=index)
        try:
            return open_sealer(row, self._private_keys.get(key_id_of(row), b""), self._vault_id)
        except Tampered as error:
            message = f"the sealer of record {index} does not open: {error.message}"
            raise LogTampered(message, index=index) from None
