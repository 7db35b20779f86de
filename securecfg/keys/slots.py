"""Unlock slots: the root key under each of several keys (format, section 4.2)."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, NamedTuple, Self

from securecfg.crypto import SUITE, KeyBytes
from securecfg.errors import KeyProviderRefused, KeyProviderUnavailable, NotAVault, UnsupportedFormat, WrongKey
from securecfg.keys.calls import PATIENCE, call_unwrap, call_wrap
from securecfg.keys.kek import SEALED_BYTES, parse_params
from securecfg.keys.provider import RemoteKeyProvider, WrapContext
from securecfg.keys.remote import is_hinted
from securecfg.octets import Cursor, Malformed, pad

if TYPE_CHECKING:
    from collections.abc import Mapping

    from securecfg.keys.calls import Patience
    from securecfg.keys.header import Header
    from securecfg.keys.provider import KeyProvider

SLOT_UNIT_BYTES = 256
MOST_SLOT_BYTES = 4096
SLOT_ID_BYTES = 16
FIRST_SLOT_ROW = 256
MOST_SLOTS = 255

KIND_PASSPHRASE = 1
KIND_FILE = 2
KIND_KEYRING = 3
KIND_RECOVERY = 4
KIND_PKCS11 = 5
KIND_AWSKMS = 6
KIND_GCPKMS = 7
KIND_AZUREKEYVAULT = 8
KIND_VAULTTRANSIT = 9
KIND_SHAMIR = 10
KIND_IDENTITY = 11
KIND_COMMAND = 12
KIND_PASSPHRASE_AND_FILE = 13
KIND_COMPOSITE = 14


_SCHEMES = {
    KIND_PASSPHRASE: "passphrase",
    KIND_FILE: "file",
    KIND_KEYRING: "keyring",
    KIND_RECOVERY: "recovery",
    KIND_PKCS11: "pkcs11",
    KIND_AWSKMS: "awskms",
    KIND_GCPKMS: "gcpkms",
    KIND_AZUREKEYVAULT: "azurekeyvault",
    KIND_VAULTTRANSIT: "vaulttransit",
    KIND_SHAMIR: "shamir",
    KIND_IDENTITY: "identity",
    KIND_COMMAND: "command",
    KIND_PASSPHRASE_AND_FILE: "passphrase+file",
}


def name_of_kind(kind: int) -> str:
    """Return the URI scheme of a kind of slots, or its number where it belongs to somebody else's provider."""
    return _SCHEMES.get(kind, f"kind {kind}")


class Slot(NamedTuple):
    """One unlock slot as it lies in the vault.

    Attributes:
        kind: Which kind of provider opens it.
        slot_id: 16 bytes.
        wrapped: What the provider wrapped; its padding is off.
    """

    kind: int
    slot_id: bytes
    wrapped: bytes

    @classmethod
    def parse(cls, row: bytes) -> Self:
        """Return the slot that a row holds, of whatever kind.

        Raises:
            NotAVault: The row is not laid out as a slot.
            UnsupportedFormat: It belongs to another suite.
        """
        if not row or len(row) % SLOT_UNIT_BYTES or len(row) > MOST_SLOT_BYTES:
            message = f"an unlock slot has {len(row)} bytes"
            raise NotAVault(message)
        if row[1] != SUITE:
            message = f"an unlock slot is of the unknown suite {row[1]}"
            raise UnsupportedFormat(message, hint="a newer version of securecfg may open this vault")
        cursor = Cursor(row, 2)
        try:
            slot_id = cursor.take(SLOT_ID_BYTES)
            start = cursor.position
            cursor.var16()
            cursor.take(SEALED_BYTES)
            wrapped = row[start : cursor.position]
            cursor.finish_padding()
        except Malformed as error:
            message = f"an unlock slot {error}"
            raise NotAVault(message) from None
        if len(row) - cursor.position >= SLOT_UNIT_BYTES:
            message = "an unlock slot has more padding than it needs"
            raise NotAVault(message)
        return cls(row[0], slot_id, wrapped)

    def to_bytes(self) -> bytes:
        """Return the row.

        Raises:
            ValueError: The provider's parameters do not fit.
        """
        row = bytes((self.kind, SUITE)) + self.slot_id + self.wrapped
        if len(row) > MOST_SLOT_BYTES:
            message = "the parameters of a provider do not fit into a slot"
            raise ValueError(message)
        return pad(row, SLOT_UNIT_BYTES)


class Unlocked(NamedTuple):
    """An opened slot.

    Attributes:
        root: The root key, 32 bytes.
        slot_id: The slot that opened.
    """

    root: KeyBytes
    slot_id: bytes


def seal_slot(vault_id: bytes, provider: KeyProvider, root: bytes, patience: Patience = PATIENCE) -> Slot:
    """Return a new slot that this provider opens.

    Args:
        vault_id: 16 bytes.
        provider: Who holds the key.
        root: The root key.
        patience: How long a service may take.

    Raises:
        KeyProviderUnavailable: The provider cannot be reached.
        KeyProviderRefused: It refuses.
        SettingMissing: It has nobody to ask.
    """
    slot_id = secrets.token_bytes(SLOT_ID_BYTES)
    root = KeyBytes(root)  # masked in the frames of whatever the provider raises
    wrapped = call_wrap(provider, root, WrapContext(vault_id, slot_id), patience)
    return Slot(provider.kind, slot_id, wrapped)


def unlock(
    header: Header, slot_rows: Mapping[int, bytes], provider: KeyProvider, patience: Patience = PATIENCE
) -> Unlocked:
    """Find the slot that a key opens, and check that header and slots are those that the root key vouches for.

    These are steps 2 and 3 (its first half) of section 8 of the format. Slots of other kinds are not touched.

    Args:
        header: The parsed header.
        slot_rows: All slots by their row id, 256 to 511.
        provider: Who holds the key.
        patience: How long a service may take.

    Raises:
        WrongKey: No slot opens; a wrong key, another vault's slot and an altered one look the same.
        Tampered: A slot opens, but header and slots are not as the root key's holder left them.
        NotAVault: A slot is not laid out as one.
        UnsupportedFormat: A slot belongs to another suite.
        KeyProviderUnavailable: The provider cannot be reached.
        KeyProviderRefused: It refuses.
        SettingMissing: It has nobody to ask.
    """
    slots = [Slot.parse(slot_rows[row_id]) for row_id in sorted(slot_rows)]
    candidates = [slot for slot in slots if slot.kind == provider.kind]
    if not candidates:
        message = f"no unlock slot takes a key of the kind `{provider.scheme}:`"
        raise WrongKey(message, hint="`securecfg vault status` shows which kinds open this vault")
    try:
        unlocked = _try(header.vault_id, candidates, provider, patience)
    except (KeyProviderUnavailable, KeyProviderRefused) as error:
        others = {slot.kind for slot in slots} - {provider.kind}
        error.hint = "; ".join(filter(None, (error.hint, _other_ways(others))))
        raise
    header.verify(unlocked.root, slot_rows)
    return unlocked


def _try(vault_id: bytes, candidates: list[Slot], provider: KeyProvider, patience: Patience) -> Unlocked:
    if isinstance(provider, RemoteKeyProvider):
        # Of many slots of one kind the right one comes first, so that the service is asked once.
        name = provider.key_name
        candidates.sort(key=lambda slot: not is_hinted(parse_params(slot.wrapped), name, slot.slot_id))
    # One slot's refusal must not keep another from opening, so it is raised only when none does.
    failures: list[WrongKey | KeyProviderRefused] = []
    for slot in candidates:
        try:
            root = call_unwrap(provider, slot.wrapped, WrapContext(vault_id, slot.slot_id), patience)
            return Unlocked(KeyBytes(root), slot.slot_id)
        except (WrongKey, KeyProviderRefused) as error:
            failures.append(error)
    refusals = [failure for failure in failures if isinstance(failure, KeyProviderRefused)]
    raise (refusals or failures)[0]


def _other_ways(kinds: set[int]) -> str:
    """Say which other keys open a vault. Nothing vouches for the kinds yet; a key that fits will."""
    if not kinds:
        return ""
    names = [f"`{_SCHEMES[kind]}:`" if kind in _SCHEMES else name_of_kind(kind) for kind in sorted(kinds)]
    return "the vault has slots for other keys, too: " + ", ".join(names)
