"""Keys: who can open a vault, and what the keys inside it are (docs/security/format.md, section 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.keys.calls import call_unwrap, call_wrap
from securecfg.keys.header import Header, build_header
from securecfg.keys.kek import open_under_kek, parse_params, seal_under_kek
from securecfg.keys.keyfile import generate_key_file
from securecfg.keys.keyring import KeyEntry, Keyring, KeyState, Purpose, ScopeKeys, SlotInfo
from securecfg.keys.provider import (
    Ask,
    KeyProvider,
    KeyUri,
    ProvesPrincipal,
    ProviderFactory,
    RemoteKeyProvider,
    WrapContext,
    proves_principal,
)
from securecfg.keys.remote import open_with_service, seal_with_service
from securecfg.keys.roots import (
    FIRST_ROOT_ROW,
    ROOTS_ROW,
    SlotKey,
    rows_of_slots,
    seal_root,
    slots_of_rows,
    slots_to_bytes,
)
from securecfg.keys.slots import (
    FIRST_SLOT_ROW,
    KIND_IDENTITY,
    MOST_SLOTS,
    NewSlot,
    Slot,
    Unlocked,
    open_slot,
    rewrap_slot,
    root_row_of,
    seal_slot,
    unlock,
)
from securecfg.keys.uri import open_provider
from securecfg.lazy import load_names

if TYPE_CHECKING:
    from securecfg.keys.identity import Identity
    from securecfg.keys.providers.command import CommandProvider
    from securecfg.keys.providers.composite import CompositeProvider
    from securecfg.keys.providers.file import FileProvider
    from securecfg.keys.providers.identity import IdentityProvider
    from securecfg.keys.providers.keyring import KeyringProvider
    from securecfg.keys.providers.passphrase import PassphraseProvider
    from securecfg.keys.providers.passphrase_file import PassphraseFileProvider
    from securecfg.keys.providers.recovery import RecoveryProvider
    from securecfg.keys.providers.shamir import ShamirProvider
    from securecfg.keys.recovery import generate_recovery_code
    from securecfg.keys.shares import Share, format_share, generate_shares

__all__ = [
    "FIRST_ROOT_ROW",
    "FIRST_SLOT_ROW",
    "KIND_IDENTITY",
    "MOST_SLOTS",
    "ROOTS_ROW",
    "Ask",
    "CommandProvider",
    "CompositeProvider",
    "FileProvider",
    "Header",
    "Identity",
    "IdentityProvider",
    "KeyEntry",
    "KeyProvider",
    "KeyState",
    "KeyUri",
    "Keyring",
    "KeyringProvider",
    "NewSlot",
    "PassphraseFileProvider",
    "PassphraseProvider",
    "ProvesPrincipal",
    "ProviderFactory",
    "Purpose",
    "RecoveryProvider",
    "RemoteKeyProvider",
    "ScopeKeys",
    "ShamirProvider",
    "Share",
    "Slot",
    "SlotInfo",
    "SlotKey",
    "Unlocked",
    "WrapContext",
    "build_header",
    "call_unwrap",
    "call_wrap",
    "format_share",
    "generate_key_file",
    "generate_recovery_code",
    "generate_shares",
    "open_provider",
    "open_slot",
    "open_under_kek",
    "open_with_service",
    "parse_params",
    "proves_principal",
    "rewrap_slot",
    "root_row_of",
    "rows_of_slots",
    "seal_root",
    "seal_slot",
    "seal_under_kek",
    "seal_with_service",
    "slots_of_rows",
    "slots_to_bytes",
    "unlock",
]

# A session needs one provider, which its key URI names.
__getattr__ = load_names(
    __name__,
    {
        "FileProvider": "securecfg.keys.providers.file",
        "Identity": "securecfg.keys.identity",
        "IdentityProvider": "securecfg.keys.providers.identity",
        "KeyringProvider": "securecfg.keys.providers.keyring",
        "CommandProvider": "securecfg.keys.providers.command",
        "CompositeProvider": "securecfg.keys.providers.composite",
        "PassphraseFileProvider": "securecfg.keys.providers.passphrase_file",
        "PassphraseProvider": "securecfg.keys.providers.passphrase",
        "RecoveryProvider": "securecfg.keys.providers.recovery",
        "ShamirProvider": "securecfg.keys.providers.shamir",
        "Share": "securecfg.keys.shares",
        "format_share": "securecfg.keys.shares",
        "generate_recovery_code": "securecfg.keys.recovery",
        "generate_shares": "securecfg.keys.shares",
    },
)
