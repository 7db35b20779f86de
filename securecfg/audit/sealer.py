"""Sealers: who can write records that only holders of the audit key can read.

Each session that writes makes one sealer: a random key, itself sealed (HPKE, RFC 9180) to the public half of the
vault's audit key and stored as the sealer row. The session derives the key of each of its leaves from it.

    type 0x53 | suite 0x01 | audit_key_id [8] | HPKE message (encapsulated key, ciphertext)
"""

from __future__ import annotations

import secrets
from hashlib import sha256
from typing import TYPE_CHECKING

from securecfg.audit.checkpoint import VAULT_ID_BYTES
from securecfg.audit.leaf import KEY_BYTES, SEALER_ID_BYTES, SUITE, derive_leaf_key, seal_leaf
from securecfg.crypto.derive import Label
from securecfg.crypto.hybrid import HYBRID_OVERHEAD_BYTES, HYBRID_PRIVATE_BYTES, hybrid_public_key, open_sealed, seal_to
from securecfg.errors import Tampered, VaultClosed

if TYPE_CHECKING:
    from collections.abc import Sequence

SEALER_TYPE = 0x53
AUDIT_KEY_ID_BYTES = 8

_PREFIX_BYTES = 2 + AUDIT_KEY_ID_BYTES
ROW_BYTES = _PREFIX_BYTES + HYBRID_OVERHEAD_BYTES + KEY_BYTES


class Sealer:
    """Seals the records of one session.

    It is not synchronised: an index is known only to whoever holds the lock of the log. A counter is never used twice,
    whether or not the commit of its leaf succeeds.

    Attributes:
        id: The first 16 bytes of the SHA-256 of the row.
        row: To be stored with the first leaf.
    """

    __slots__ = ("_counter", "_key", "_vault_id", "id", "row")

    _key: bytearray

    def __init__(self, vault_id: bytes, key: bytes, row: bytes) -> None:
        """Start at counter 0; use `create_sealer`."""
        self.id = sealer_id_of(row)
        self.row = row
        self._vault_id = vault_id
        self._key = bytearray(key)
        self._counter = 0

    def seal(self, record: bytes, index: int, delta_hashes: Sequence[bytes] = ()) -> bytes:
        """Return the leaf of a record at an index.

        Args:
            record: The record's bytes.
            index: Where the leaf will stand in the log.
            delta_hashes: The SHA-256 of each sealed delta row of the change that the record is about.

        Raises:
            ValueTooLarge: The record is longer than 32,764 bytes, or there are more than 64 deltas.
            VaultClosed: The key was wiped.
        """
        if not self._key:
            message = "the log is closed for this session"
            raise VaultClosed(message)
        counter = self._counter
        self._counter += 1
        leaf_key = derive_leaf_key(bytes(self._key), self._vault_id, self.id, counter, index)
        return seal_leaf(leaf_key, self.id, counter, record, delta_hashes)

    def wipe(self) -> None:
        """Overwrite the key; nothing can be sealed afterwards."""
        self._key[:] = bytes(len(self._key))
        self._key = bytearray()


def sealer_id_of(row: bytes) -> bytes:
    """Return the id by which leaves name the sealer of this row, 16 bytes."""
    return sha256(row).digest()[:SEALER_ID_BYTES]


def key_id_of(row: bytes) -> bytes:
    """Return which audit key a sealer row says that it is sealed to, 8 bytes, or fewer of a row that is cut off."""
    return row[2:_PREFIX_BYTES]


def audit_key_id(public_key: bytes) -> bytes:
    """Return the id by which sealer rows name the audit key they are sealed to, 8 bytes."""
    return sha256(public_key).digest()[:AUDIT_KEY_ID_BYTES]


def audit_public_key(private_key: bytes) -> bytes:
    """Return the public half of an audit key, 1,216 bytes.

    Raises:
        Tampered: The private key is not 96 bytes long.
    """
    if len(private_key) != HYBRID_PRIVATE_BYTES:
        message = f"an audit key is {HYBRID_PRIVATE_BYTES} bytes long"
        raise Tampered(message)
    return hybrid_public_key(private_key)


def create_sealer(vault_id: bytes, audit_key: bytes) -> Sealer:
    """Make the sealer of a session.

    Args:
        vault_id: 16 bytes.
        audit_key: The public half of the vault's audit key, 1,216 bytes.

    Raises:
        Tampered: The public key or the id has another length, or is not a key.
    """
    return _seal_to(vault_id, audit_key, secrets.token_bytes(KEY_BYTES))


def _seal_to(vault_id: bytes, audit_key: bytes, key: bytes) -> Sealer:
    prefix = bytes((SEALER_TYPE, SUITE)) + audit_key_id(audit_key)
    try:
        message = seal_to(audit_key, key, _info(vault_id, audit_key))
    except Tampered:
        text = "not the public half of an audit key"
        raise Tampered(text) from None
    return Sealer(vault_id, key, prefix + message)


def open_sealer(row: bytes, private_key: bytes, vault_id: bytes) -> bytes:
    """Return the key of the sealer in a row, 32 bytes.

    Args:
        row: The sealer row.
        private_key: The vault's audit key, 96 bytes.
        vault_id: 16 bytes.

    Raises:
        Tampered: The row is malformed, was altered, or is sealed to another key or vault.
    """
    public_key = audit_public_key(private_key)
    if len(row) != ROW_BYTES or row[:_PREFIX_BYTES] != bytes((SEALER_TYPE, SUITE)) + audit_key_id(public_key):
        message = "a sealer row does not belong to this audit key"
        raise Tampered(message)
    try:
        return open_sealed(private_key, row[_PREFIX_BYTES:], _info(vault_id, public_key))
    except Tampered:
        message = "a sealer row cannot be opened"
        raise Tampered(message) from None


def _info(vault_id: bytes, public_key: bytes) -> bytes:
    if len(vault_id) != VAULT_ID_BYTES:
        message = f"a vault id is {VAULT_ID_BYTES} bytes long"
        raise Tampered(message)
    return Label.SEALER.encode() + b"\x00" + vault_id + audit_key_id(public_key)
