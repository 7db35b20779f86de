"""The header of a vault: the one row that is readable without a key (format, section 4.1)."""

from __future__ import annotations

import hmac
import struct
from typing import TYPE_CHECKING, Self

from securecfg.crypto import KEY_BYTES, SUITE, Label, expand
from securecfg.errors import NotAVault, Tampered, UnsupportedFormat
from securecfg.keys.roots import FIRST_ROOT_ROW, ROWS_APART, slots_to_bytes
from securecfg.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

MAGIC = b"SCFG"
FORMAT = 1
HEADER_BYTES = 112

_FIELDS = struct.Struct(">4sHHHBB16sHHQ32sQ")


class Header(NamedTuple):
    """A parsed header. Until `verify` has returned nothing in it is authentic.

    Attributes:
        vault_id: 16 random bytes.
        slot_count: How many unlock slots there are.
        generation: Goes up by one with every change of header, slots or keyring.
        first_log_key: The Ed25519 public key of log epoch 0.
        created_ns: When the vault was created.
        is_writable: Whether this version may write to the vault.
        row: The bytes that were parsed.
    """

    vault_id: bytes
    slot_count: int
    generation: int
    first_log_key: bytes
    created_ns: int
    is_writable: bool
    row: bytes

    @classmethod
    def parse(cls, row: bytes) -> Self:
        """Return the header that a row holds.

        Raises:
            NotAVault: The row is not a header.
            UnsupportedFormat: It was written for newer readers.
        """
        if row[: len(MAGIC)] != MAGIC:
            message = "the header does not begin as that of a vault"
            raise NotAVault(message)
        # A later format may have a header of another size, so the version is looked at before the size.
        if len(row) >= 8 and int.from_bytes(row[6:8]) > FORMAT:  # noqa: PLR2004 - offsets of the format
            message = "the vault was written by a newer version, in a format that this one cannot read"
            raise _newer(message)
        if len(row) != HEADER_BYTES:
            message = f"the header does not have {HEADER_BYTES} bytes"
            raise NotAVault(message)
        fields = _FIELDS.unpack_from(row)
        _magic, written, _reader, writer, suite, flags, vault_id, slots, reserved, generation, log_key, created = fields
        if not written:
            message = "the header has no format number"
            raise NotAVault(message)
        if suite != SUITE:
            message = f"the vault is of the unknown suite {suite}"
            raise _newer(message)
        if flags or reserved:
            message = "the vault has features that this version does not know"
            raise _newer(message)
        return cls(vault_id, slots, generation, log_key, created, writer <= FORMAT, row)

    def verify(self, root: bytes, slot_rows: Mapping[int, bytes]) -> None:
        """Check that header and slots are those that a holder of the root key left.

        Raises:
            Tampered: They are not.
        """
        expected = _mac(root, self.vault_id, self.row[: _FIELDS.size], slot_rows)
        del root  # a traceback that shows locals must not show it
        if (
            self.slot_count != _count_slots(slot_rows)
            or not _are_paired(slot_rows)
            or not hmac.compare_digest(self.row[_FIELDS.size :], expected)
        ):
            message = "the header or an unlock slot was altered"
            raise Tampered(message, hint="restore the vault from a backup")


def build_header(
    root: bytes,
    slot_rows: Mapping[int, bytes],
    *,
    vault_id: bytes,
    generation: int,
    first_log_key: bytes,
    created_ns: int,
) -> bytes:
    """Return the row of a header that vouches for all slots.

    Args:
        root: The root key.
        slot_rows: All slots by their row id, 256 to 511, and sealed roots by that of their slot and 256.
        vault_id: 16 bytes.
        generation: 1 at creation, plus one at every change of header, slots or keyring.
        first_log_key: The Ed25519 public key of log epoch 0, 32 bytes.
        created_ns: When the vault was created.
    """
    fields = _FIELDS.pack(
        MAGIC,
        FORMAT,
        FORMAT,
        FORMAT,
        SUITE,
        0,
        vault_id,
        _count_slots(slot_rows),
        0,
        generation,
        first_log_key,
        created_ns,
    )
    return fields + _mac(root, vault_id, fields, slot_rows)


def _count_slots(slot_rows: Mapping[int, bytes]) -> int:
    """Return how many slots there are; each has a sealed root besides, at its own place."""
    return sum(row_id < FIRST_ROOT_ROW for row_id in slot_rows)


def _are_paired(slot_rows: Mapping[int, bytes]) -> bool:
    slots = {row_id for row_id in slot_rows if row_id < FIRST_ROOT_ROW}
    return {row_id - ROWS_APART for row_id in slot_rows if row_id >= FIRST_ROOT_ROW} == slots


def _mac(root: bytes, vault_id: bytes, fields: bytes, slot_rows: Mapping[int, bytes]) -> bytes:
    key = expand(root, Label.HEADER_MAC, vault_id, KEY_BYTES)
    return hmac.digest(key, fields + slots_to_bytes(slot_rows), "sha256")


def _newer(message: str) -> UnsupportedFormat:
    return UnsupportedFormat(message, hint="upgrade securecfg-vault")
