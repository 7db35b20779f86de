"""Derived keys: HKDF-Expand with SHA-512 and the registry of labels (format, section 3)."""

from __future__ import annotations

import hmac
from enum import StrEnum

KEY_BYTES = 32
_BLOCK_BYTES = 64
_MOST_BLOCKS = 255


class Label(StrEnum):
    """Every label of the format: what a derived key or a hash is for.

    With the zero byte that follows it, no label is the beginning of another.
    """

    HEADER_MAC = "securecfg/1/hdr"
    KEYRING = "securecfg/1/kr"
    SLOT = "securecfg/1/slot"
    SLOT_KEY = "securecfg/1/slot-key"
    ROOT = "securecfg/1/root"
    RECOVERY = "securecfg/1/recovery"
    BOTH = "securecfg/1/both"
    PART = "securecfg/1/part"
    PARTS = "securecfg/1/parts"
    SHARE = "securecfg/1/share"
    IDENTITY = "securecfg/1/identity"
    IDENTITY_ID = "securecfg/1/identity-id"
    IDENTITY_NEXT = "securecfg/1/identity-next"
    IDENTITY_SLOT = "securecfg/1/identity-slot"
    INDEX = "securecfg/1/idx"
    VALUE_WRAP = "securecfg/1/val"
    LOG = "securecfg/1/log"
    PREVIOUS_EPOCH = "securecfg/1/prev"
    DEK = "securecfg/1/dek"
    LEAF = "securecfg/1/leaf"
    LEAF_KEY = "securecfg/1/leaf-key"
    SEALER = "securecfg/1/sealer"
    AUDIT_EPOCH = "securecfg/1/audit-epoch"
    STATE = "securecfg/1/state"
    HEADER_HASH = "securecfg/1/header"
    BACKUP = "securecfg/1/backup"
    BUNDLE = "securecfg/1/bundle"
    SINK = "securecfg/1/sink"
    GRANT = "securecfg/1/grant"
    ROLE = "securecfg/1/role"
    ROLE_SLOT = "securecfg/1/role-slot"
    VALUE_KEY = "securecfg/1/value-key"
    VALUE_ROWS = "securecfg/1/value-rows"
    CHARTER = "securecfg/1/charter"
    VOUCHER = "securecfg/1/voucher"
    SUCCESSION = "securecfg/1/succession"
    ORDER = "securecfg/1/order"
    DROP = "securecfg/1/drop"
    ANCHOR = "securecfg/1/anchor"
    ADMINISTRATORS = "securecfg/1/administrators"
    INTRODUCTION = "securecfg/1/introduction"
    COPY = "securecfg/1/copy"
    COPY_NAME = "securecfg/1/copy-name"


_FRONTS: dict[str, bytes] = {label: label.encode() + b"\x00" for label in Label}


def expand(key: bytes, label: str, rest: bytes, length: int) -> bytes:
    """Return `HKDF-Expand-SHA512(key, label || 0x00 || rest, length)`.

    Args:
        key: Uniformly random bytes; there is no extract step.
        label: One of `Label`, so that keys for different uses differ; another one is a `KeyError`.
        rest: What the key is bound to.
        length: How many bytes, at most 255 * 64.

    Raises:
        ValueError: The length is not from 1 to 255 * 64.
    """
    info = _FRONTS[label] + rest
    if 0 < length <= _BLOCK_BYTES:
        # The common case, and the only one on the way of a read: one block is one HMAC.
        return hmac.digest(key, info + b"\x01", "sha512")[:length]
    return hkdf_expand(key, info, length)


def hkdf_expand(key: bytes, info: bytes, length: int) -> bytes:
    """Return `HKDF-Expand` of RFC 5869, section 2.3, with SHA-512.

    Raises:
        ValueError: The length is not from 1 to 255 * 64.
    """
    if not 0 < length <= _MOST_BLOCKS * _BLOCK_BYTES:
        message = "HKDF yields from 1 to 16320 bytes"
        raise ValueError(message)
    output = block = b""
    for counter in range(1, -(-length // _BLOCK_BYTES) + 1):
        block = hmac.digest(key, block + info + bytes((counter,)), "sha512")
        output += block
    return output[:length]
