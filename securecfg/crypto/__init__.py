"""The cryptography of the vault format: pure functions and ciphers over bytes (docs/security/format.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.crypto.chunked import ChunkOpener, ChunkSealer, count_rows
from securecfg.crypto.context import (
    NEWEST_PAGE,
    ROOT_SCOPE,
    SUITE,
    ContextType,
    backup_context,
    bundle_context,
    context,
    dek_context,
    delta_context,
    history_context,
    keyring_context,
    manifest_context,
    segment_context,
    slot_context,
    value_context,
)
from securecfg.crypto.derive import KEY_BYTES, Label, expand
from securecfg.crypto.fields import decode_fields, encode_fields
from securecfg.crypto.hybrid import (
    HYBRID_OVERHEAD_BYTES,
    HYBRID_PRIVATE_BYTES,
    HYBRID_PUBLIC_BYTES,
    hybrid_public_key,
    open_sealed,
    seal_to,
)
from securecfg.crypto.key_bytes import KeyBytes, generate_key
from securecfg.crypto.padding import padded_length, padme
from securecfg.crypto.value import (
    CHUNKED_LIMIT_BYTES,
    FORM_CHUNKED,
    FORM_INLINE,
    INLINE_LIMIT_BYTES,
    KIND_BYTES,
    KIND_FIELDS,
    KIND_TEXT,
    ChunkedContent,
    ChunkedValueKey,
    ValueKey,
    count_value_rows,
    open_value,
    seal_value,
)
from securecfg.crypto.wrap import (
    DEK_FORM_GRANTED,
    DEK_FORM_WRAPPED,
    DekRewrap,
    DekWrap,
    KeyWrap,
    open_granted_dek,
    parse_dek,
    parse_dek_epoch,
    seal_dek,
    unwrap_dek,
)
from securecfg.crypto.xaes import XAES256GCM
from securecfg.lazy import load_names

if TYPE_CHECKING:
    from securecfg.crypto.password import DEFAULT_COSTS, FORMAT_LIMIT, Argon2Costs, stretch
    from securecfg.crypto.shamir import SHARES_MAX, THRESHOLD_MIN, interpolate, split_secret

__all__ = [
    "CHUNKED_LIMIT_BYTES",
    "DEFAULT_COSTS",
    "DEK_FORM_GRANTED",
    "DEK_FORM_WRAPPED",
    "FORMAT_LIMIT",
    "FORM_CHUNKED",
    "FORM_INLINE",
    "HYBRID_OVERHEAD_BYTES",
    "HYBRID_PRIVATE_BYTES",
    "HYBRID_PUBLIC_BYTES",
    "INLINE_LIMIT_BYTES",
    "KEY_BYTES",
    "KIND_BYTES",
    "KIND_FIELDS",
    "KIND_TEXT",
    "NEWEST_PAGE",
    "ROOT_SCOPE",
    "SHARES_MAX",
    "SUITE",
    "THRESHOLD_MIN",
    "XAES256GCM",
    "Argon2Costs",
    "ChunkOpener",
    "ChunkSealer",
    "ChunkedContent",
    "ChunkedValueKey",
    "ContextType",
    "DekRewrap",
    "DekWrap",
    "KeyBytes",
    "KeyWrap",
    "Label",
    "ValueKey",
    "backup_context",
    "bundle_context",
    "context",
    "count_rows",
    "count_value_rows",
    "decode_fields",
    "dek_context",
    "delta_context",
    "encode_fields",
    "expand",
    "generate_key",
    "history_context",
    "hybrid_public_key",
    "interpolate",
    "keyring_context",
    "manifest_context",
    "open_granted_dek",
    "open_sealed",
    "open_value",
    "padded_length",
    "padme",
    "parse_dek",
    "parse_dek_epoch",
    "seal_dek",
    "seal_to",
    "seal_value",
    "segment_context",
    "slot_context",
    "split_secret",
    "stretch",
    "unwrap_dek",
    "value_context",
]

# Few keys are passphrases or shares; the others are opened without what those need.
_STRETCHING = "securecfg.crypto.password"
_SHARING = "securecfg.crypto.shamir"
__getattr__ = load_names(
    __name__,
    {
        "DEFAULT_COSTS": _STRETCHING,
        "FORMAT_LIMIT": _STRETCHING,
        "Argon2Costs": _STRETCHING,
        "stretch": _STRETCHING,
        "SHARES_MAX": _SHARING,
        "THRESHOLD_MIN": _SHARING,
        "interpolate": _SHARING,
        "split_secret": _SHARING,
    },
)
