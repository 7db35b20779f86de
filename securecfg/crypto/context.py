"""Contexts: what every ciphertext is bound to (format, section 3).

A context names the vault, the scope, the epoch, the kind of record and its place. A ciphertext that is moved to another
place, vault or epoch does not open there. The encoding is injective: fixed fields have fixed sizes, and the fields that
follow are the only ones of variable length.
"""

from __future__ import annotations

import struct
from enum import IntEnum

SUITE = 1
ROOT_SCOPE = bytes(16)
NO_SCOPE = bytes(16)
NEWEST_PAGE = 0xFFFF_FFFF
DEK_ID_BYTES = 8

_PREFIX = struct.Struct(">12sBB16s16sI")
_SLOT = struct.Struct(">16sBH")
_HISTORY = struct.Struct(">12sBB16s16sIQI")
_DEK = struct.Struct(">12sBB16s16sIQ")
_VALUE = struct.Struct(">12sBB16s16sIQIQB")
_BACKUP = struct.Struct(">16sIB32s")
_BUNDLE = struct.Struct(">16sI")
_MAGIC = b"securecfg/1\x00"
_ID_BYTES = 16


class ContextType(IntEnum):
    """The kinds of ciphertext."""

    SLOT = 0x10
    KEYRING = 0x11
    MANIFEST = 0x12
    SEGMENT = 0x13
    HISTORY = 0x14
    DELTA = 0x15
    DEK = 0x16
    VALUE = 0x17
    BACKUP = 0x18
    BUNDLE = 0x19
    COPY = 0x1A


# Plain numbers for what is on the way of every read: to look a member up takes longer than to pack it.
_A_HISTORY, _A_DEK, _A_VALUE = int(ContextType.HISTORY), int(ContextType.DEK), int(ContextType.VALUE)


def context(kind: ContextType, vault_id: bytes, scope_id: bytes, epoch: int, fields: bytes) -> bytes:
    """Return the context of a record.

    Args:
        kind: What is sealed.
        vault_id: 16 bytes.
        scope_id: 16 bytes; sixteen zero bytes for the scope `/` and for what belongs to no scope.
        epoch: The epoch of the key in use, or 0 where the format says so.
        fields: The fields of this kind, encoded as the format says.

    Raises:
        ValueError: An id does not have 16 bytes.
    """
    _check_ids(vault_id, scope_id)
    return _PREFIX.pack(_MAGIC, kind, SUITE, vault_id, scope_id, epoch) + fields


def slot_context(vault_id: bytes, slot_id: bytes, kind: int, params: bytes) -> bytes:
    """Return the context of an unlock slot.

    Raises:
        ValueError: An id does not have 16 bytes.
    """
    _check_ids(vault_id, slot_id)
    return context(ContextType.SLOT, vault_id, NO_SCOPE, 0, _SLOT.pack(slot_id, kind, len(params)) + params)


def keyring_context(vault_id: bytes, generation: int) -> bytes:
    """Return the context of the keyring.

    Raises:
        ValueError: The vault's id does not have 16 bytes.
    """
    return context(ContextType.KEYRING, vault_id, NO_SCOPE, 0, generation.to_bytes(8, "big"))


def manifest_context(vault_id: bytes, scope_id: bytes, epoch: int, base_size: int) -> bytes:
    """Return the context of a manifest that holds the state after `base_size` records.

    Raises:
        ValueError: An id does not have 16 bytes.
    """
    return context(ContextType.MANIFEST, vault_id, scope_id, epoch, base_size.to_bytes(8, "big"))


def segment_context(vault_id: bytes, scope_id: bytes, epoch: int, segment_id: int) -> bytes:
    """Return the context of an index segment.

    Raises:
        ValueError: An id does not have 16 bytes.
    """
    return context(ContextType.SEGMENT, vault_id, scope_id, epoch, segment_id.to_bytes(8, "big"))


def history_context(vault_id: bytes, scope_id: bytes, epoch: int, rec_id: int, page: int = NEWEST_PAGE) -> bytes:
    """Return the context of a page of a secret's history.

    Raises:
        ValueError: An id does not have 16 bytes.
    """
    if len(vault_id) != _ID_BYTES or len(scope_id) != _ID_BYTES:
        raise _no_id()
    return _HISTORY.pack(_MAGIC, _A_HISTORY, SUITE, vault_id, scope_id, epoch, rec_id, page)


def delta_context(vault_id: bytes, scope_id: bytes, epoch: int) -> bytes:
    """Return the context of a delta.

    Raises:
        ValueError: An id does not have 16 bytes.
    """
    return context(ContextType.DELTA, vault_id, scope_id, epoch, b"")


def dek_context(vault_id: bytes, scope_id: bytes, epoch: int, dek_id: int) -> bytes:
    """Return the context of a wrapped data key.

    Args:
        vault_id: 16 bytes.
        scope_id: 16 bytes.
        epoch: The epoch of the value key that wraps.
        dek_id: The id of the row.

    Raises:
        ValueError: An id does not have 16 bytes.
    """
    if len(vault_id) != _ID_BYTES or len(scope_id) != _ID_BYTES:
        raise _no_id()
    return _DEK.pack(_MAGIC, _A_DEK, SUITE, vault_id, scope_id, epoch, dek_id)


def dek_context_front(vault_id: bytes, scope_id: bytes, epoch: int) -> bytes:
    """Return what the contexts of all data keys that one value key wraps begin with: what follows is the id of the row.

    Raises:
        ValueError: An id does not have 16 bytes.
    """
    return dek_context(vault_id, scope_id, epoch, 0)[:-DEK_ID_BYTES]


def value_context(vault_id: bytes, scope_id: bytes, record: tuple[int, int], created_ns: int, form: int) -> bytes:
    """Return the context of a value.

    Args:
        vault_id: 16 bytes.
        scope_id: 16 bytes.
        record: The record's id and the version.
        created_ns: When the version was created, in nanoseconds since the epoch.
        form: 1 inline, 2 chunked.

    Raises:
        ValueError: An id does not have 16 bytes.
    """
    if len(vault_id) != _ID_BYTES or len(scope_id) != _ID_BYTES:
        raise _no_id()
    rec_id, version = record
    return _VALUE.pack(_MAGIC, _A_VALUE, SUITE, vault_id, scope_id, 0, rec_id, version, created_ns, form)


def _check_ids(first: bytes, second: bytes) -> None:
    # `struct` would pad or cut an id in silence, which would end injectivity.
    # On the way of every read and write the check is made in place.
    if len(first) != _ID_BYTES or len(second) != _ID_BYTES:
        raise _no_id()


def _no_id() -> ValueError:
    return ValueError("an id has 16 bytes")


def backup_context(vault_id: bytes, chain_id: bytes, part: int, message: int, header_digest: bytes) -> bytes:
    """Return the context of a message of a part of a backup.

    Raises:
        ValueError: An id does not have 16 bytes.
    """
    _check_ids(vault_id, chain_id)
    return context(ContextType.BACKUP, vault_id, NO_SCOPE, 0, _BACKUP.pack(chain_id, part, message, header_digest))


def bundle_context(vault_id: bytes, bundle_id: bytes, number: int) -> bytes:
    """Return the context of a message of a bundle.

    Raises:
        ValueError: An id does not have 16 bytes.
    """
    _check_ids(vault_id, bundle_id)
    return context(ContextType.BUNDLE, vault_id, NO_SCOPE, 0, _BUNDLE.pack(bundle_id, number))
