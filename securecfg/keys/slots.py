"""Unlock slots: a slot key under each of several keys, and the root sealed to it (format, sections 4.2 and 4.5)."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Self

from securecfg.crypto import SUITE, KeyBytes, generate_key
from securecfg.errors import (
    KeyProviderRefused,
    KeyProviderUnavailable,
    NotAVault,
    SecurecfgError,
    UnsupportedFormat,
    WrongKey,
)
from securecfg.keys.calls import call_unwrap, call_wrap, gravest
from securecfg.keys.kek import SEALED_BYTES, parse_params
from securecfg.keys.provider import WrapContext, is_parted, is_remote
from securecfg.keys.remote import is_hinted
from securecfg.keys.roots import FIRST_ROOT_ROW, ROWS_APART, SlotKey, seal_root
from securecfg.octets import Cursor, Malformed, pad
from securecfg.patience import PATIENCE
from securecfg.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from securecfg.keys.header import Header
    from securecfg.keys.provider import KeyProvider
    from securecfg.patience import Patience

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
KIND_ROLE = 15


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
    KIND_COMPOSITE: "composite",
    KIND_ROLE: "role",
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
            cursor.finish_padding(SLOT_UNIT_BYTES)
        except Malformed as error:
            message = f"an unlock slot {error}"
            raise NotAVault(message) from None
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
        key: The key pair of the slot that opened, which opens the next root too.
        vouched: The header's row and the slots that this root was found to vouch for; None where nothing was checked.
    """

    root: KeyBytes
    key: SlotKey
    vouched: tuple[bytes, Mapping[int, bytes]] | None = None

    @property
    def slot_id(self) -> bytes:
        """The slot that opened, 16 bytes."""
        return self.key.slot_id


class NewSlot(NamedTuple):
    """A slot that was made.

    Attributes:
        slot: The slot itself.
        public_key: For the keyring, 1,216 bytes.
    """

    slot: Slot
    public_key: bytes

    def rows(self, row_id: int, vault_id: bytes, root: bytes) -> dict[int, bytes]:
        """Return the row of the slot and the sealed root by their numbers, given the slot's."""
        sealed = seal_root(self.public_key, vault_id, self.slot.slot_id, KeyBytes(root))
        return {row_id: self.slot.to_bytes(), root_row_of(row_id): sealed}


def root_row_of(row_id: int) -> int:
    """Return the number that the sealed root for the slot of a row id goes by."""
    return row_id + ROWS_APART


def seal_slot(vault_id: bytes, provider: KeyProvider, patience: Patience = PATIENCE) -> NewSlot:
    """Return a new slot that this provider opens.

    Args:
        vault_id: 16 bytes.
        provider: Who holds the key.
        patience: How long a service may take.

    Raises:
        KeyProviderUnavailable: The provider cannot be reached.
        KeyProviderRefused: It refuses.
        SettingMissing: It has nobody to ask.
    """
    slot_id = secrets.token_bytes(SLOT_ID_BYTES)
    key = generate_key()  # masked in the frames of whatever the provider raises
    wrapped = call_wrap(provider, key, WrapContext(vault_id, slot_id), patience)
    return NewSlot(Slot(provider.kind, slot_id, wrapped), SlotKey(key, vault_id, slot_id).public_key)


def rewrap_slot(vault_id: bytes, slot: Slot, public_key: bytes, provider: KeyProvider) -> Slot:
    """Return a slot with its key wrapped anew by the provider that opens it.

    What is returned is tried before, since it takes the place of the only other one.

    Args:
        vault_id: 16 bytes.
        slot: The slot as it is.
        public_key: The slot's, from the keyring.
        provider: Holds the key that opens it.

    Raises:
        WrongKey: The provider does not open the slot.
        KeyProviderUnavailable: The provider cannot be reached.
        KeyProviderRefused: It refuses, or does not open what it wrapped.
        SettingMissing: It has nobody to ask.
    """
    if slot.kind != provider.kind:
        message = f"the slot does not take a key of the kind `{provider.scheme}:`"
        raise WrongKey(message, hint="name the key of that very slot")
    context = WrapContext(vault_id, slot.slot_id)
    if is_parted(provider):
        # Some of the keys open the slot; a new one is made of all.
        provider.verify_parts(slot.wrapped, context)
    key = KeyBytes(call_unwrap(provider, slot.wrapped, context))
    if SlotKey(key, vault_id, slot.slot_id).public_key != public_key:
        message = "the key does not open this slot"
        raise WrongKey(message, hint="name the key of that very slot")
    wrapped = call_wrap(provider, key, context)
    try:
        if is_parted(provider):
            # Enough of the keys may open it where another one has become useless.
            provider.verify_parts(wrapped, context)
        is_sound = call_unwrap(provider, wrapped, context) == key
    except WrongKey:
        is_sound = False
    if not is_sound:
        message = f"the `{provider.scheme}:` key does not open what it has just wrapped"
        raise KeyProviderRefused(message, hint="nothing was changed; test it with `securecfg key test`")
    return Slot(slot.kind, slot.slot_id, wrapped)


def unlock(
    header: Header, slot_rows: Mapping[int, bytes], provider: KeyProvider, patience: Patience = PATIENCE
) -> Unlocked:
    """Find the slot that a key opens, and check that header and slots are those that the root key vouches for.

    These are steps 2 and 3 (its first half) of section 8 of the format. Slots of other kinds are not touched.

    Args:
        header: The parsed header.
        slot_rows: All slots by their row id, 256 to 511, and sealed roots by that of their slot and 256.
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
    slots = {row_id: Slot.parse(slot_rows[row_id]) for row_id in sorted(slot_rows) if row_id < FIRST_ROOT_ROW}
    row_id, key = open_slot(header.vault_id, slots, provider, patience)
    root = key.open_root(slot_rows.get(root_row_of(row_id)))
    header.verify(root, slot_rows)
    return Unlocked(root, key, (header.row, slot_rows))


def open_slot(
    owner_id: bytes, slots: Mapping[int, Slot], provider: KeyProvider, patience: Patience = PATIENCE
) -> tuple[int, SlotKey]:
    """Find the slot that a key opens and return its number with its key pair. Slots of other kinds are not touched.

    Args:
        owner_id: What the slots belong to, 16 bytes: a vault's id, or that of a chain of backups.
        slots: The slots by their numbers.
        provider: Who holds the key.
        patience: How long a service may take.

    Raises:
        WrongKey: No slot opens; a wrong key, another vault's slot and an altered one look the same.
        KeyProviderUnavailable: The provider cannot be reached.
        KeyProviderRefused: It refuses.
        SettingMissing: It has nobody to ask.
    """
    candidates = {number: slot for number, slot in slots.items() if slot.kind == provider.kind}
    kinds = {slot.kind for slot in slots.values()}
    if not candidates:
        message = f"no unlock slot takes a key of the kind `{provider.scheme}:`"
        raise WrongKey(message, hint=_other_ways(kinds))
    try:
        return _try(owner_id, candidates, provider, patience)
    except (KeyProviderUnavailable, KeyProviderRefused) as error:
        error.hint = "; ".join(filter(None, (error.hint, _other_ways(kinds - {provider.kind}))))
        raise


def _try(
    vault_id: bytes, candidates: dict[int, Slot], provider: KeyProvider, patience: Patience
) -> tuple[int, SlotKey]:
    ordered = list(candidates.items())
    if is_remote(provider):
        # Of many slots of one kind the right one comes first, so that the service is asked once.
        name = provider.key_name
        ordered.sort(key=lambda each: not is_hinted(parse_params(each[1].wrapped), name, each[1].slot_id))
    # One slot's refusal must not keep another from opening, so it is raised only when none does.
    passing: tuple[type[SecurecfgError], ...] = (WrongKey, KeyProviderRefused)
    if is_parted(provider):
        # What keeps the keys of one slot from opening it may not matter for another's.
        passing, provider = (SecurecfgError,), provider.for_one_attempt()
    failures: list[SecurecfgError] = []
    for row_id, slot in ordered:
        try:
            key = call_unwrap(provider, slot.wrapped, WrapContext(vault_id, slot.slot_id), patience)
            return row_id, SlotKey(key, vault_id, slot.slot_id)
        except passing as error:
            failures.append(error)
    raise gravest(failures)


def _other_ways(kinds: set[int]) -> str:
    """Say which other keys open a vault. Nothing vouches for the kinds yet; a key that fits will."""
    if not kinds:
        return ""
    names = [f"`{_SCHEMES[kind]}:`" if kind in _SCHEMES else name_of_kind(kind) for kind in sorted(kinds)]
    return "the vault has slots for other keys, too: " + ", ".join(names)
