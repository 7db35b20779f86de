"""The keyring: every long-lived key of a vault but the root, in one sealed row (format, section 4.3)."""

from __future__ import annotations

import os
from enum import IntEnum
from typing import TYPE_CHECKING, NoReturn, Self

from securecfg.crypto import (
    HYBRID_PUBLIC_BYTES,
    KEY_BYTES,
    ROOT_SCOPE,
    SUITE,
    XAES256GCM,
    KeyBytes,
    KeyWrap,
    Label,
    expand,
    keyring_context,
)
from securecfg.errors import InvalidMetadata, Tampered
from securecfg.octets import U16, U32, U64, Cursor, pad, var8, var16
from securecfg.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection

_TYPE = 0x4B
_FRONT_BYTES = 10
_PADDING_BYTES = 512
_AUDIT_KEY_BYTES = 96
_TEXT_LIMIT = 255
_EPOCH_MAX = (1 << 32) - 1


class Purpose(IntEnum):
    """What a key is for."""

    SCOPE = 1
    LOG_SIGNING = 2
    AUDIT = 3
    MASKING = 4
    VALUE = 5


class KeyState(IntEnum):
    """What a key may do."""

    ACTIVE = 1
    DECRYPT_ONLY = 2


_KEY_BYTES: dict[int, int] = {
    Purpose.SCOPE: KEY_BYTES,
    Purpose.LOG_SIGNING: KEY_BYTES,
    Purpose.AUDIT: _AUDIT_KEY_BYTES,
    Purpose.MASKING: KEY_BYTES,
    # The public half: what it seals only those open who were granted the other one.
    Purpose.VALUE: HYBRID_PUBLIC_BYTES,
}
_OF_EVERY_VAULT = (Purpose.SCOPE, Purpose.LOG_SIGNING, Purpose.AUDIT, Purpose.MASKING)


class KeyEntry(NamedTuple):
    """One key.

    Attributes:
        purpose: What it is for; a number of a later version is kept as it is.
        scope_id: The scope it belongs to, 16 bytes.
        epoch: Which key of this purpose and scope it is, counted from 0.
        state: Whether it is the one in use.
        created_ns: When it was made.
        key: The key itself.
    """

    purpose: int
    scope_id: bytes
    epoch: int
    state: KeyState
    created_ns: int
    key: KeyBytes

    @classmethod
    def generate(cls, purpose: Purpose, scope_id: bytes, epoch: int, created_ns: int) -> Self:
        """Return a new, active, random key."""
        return cls(purpose, scope_id, epoch, KeyState.ACTIVE, created_ns, KeyBytes(os.urandom(_KEY_BYTES[purpose])))


class SlotInfo(NamedTuple):
    """What is known of an unlock slot once the vault is open.

    Attributes:
        slot_id: 16 bytes.
        public_key: What a root is sealed to for it, 1,216 bytes.
        added_ns: When it was added.
        kind: The URI scheme of its key.
        label: What people call it.
        principals: Whom its key may speak for; empty means anyone.
    """

    slot_id: bytes
    public_key: bytes
    added_ns: int
    kind: str
    label: str = ""
    principals: tuple[str, ...] = ()

    def may_speak_for_any(self, principals: Collection[str]) -> bool:
        """Return whether its key may speak for one of some principals."""
        return not self.principals or not set(principals).isdisjoint(self.principals)


class ScopeKeys:
    """The keys of one scope and epoch, as ciphers that are made when first needed. May be shared by threads.

    Attributes:
        epoch: The epoch.
    """

    __slots__ = ("_binding", "_index", "_key", "_log", "_wrap", "epoch")

    def __init__(self, entry: KeyEntry) -> None:
        """Hold the scope key."""
        self.epoch = entry.epoch
        self._binding = entry.scope_id + U32.pack(entry.epoch)
        self._key = entry.key
        self._index: XAES256GCM | None = None
        self._log: XAES256GCM | None = None
        self._wrap: KeyWrap | None = None

    @property
    def index(self) -> XAES256GCM:
        """What seals manifest, segments and history pages."""
        # Two threads may both derive; they derive the same.
        if self._index is None:
            self._index = XAES256GCM(expand(self._key, Label.INDEX, self._binding, KEY_BYTES))
        return self._index

    @property
    def log(self) -> XAES256GCM:
        """What seals deltas."""
        if self._log is None:
            self._log = XAES256GCM(expand(self._key, Label.LOG, self._binding, KEY_BYTES))
        return self._log

    @property
    def wrap(self) -> KeyWrap:
        """What wraps data keys."""
        if self._wrap is None:
            self._wrap = KeyWrap(expand(self._key, Label.VALUE_WRAP, self._binding, 2 * KEY_BYTES))
        return self._wrap


class Keyring:
    """The keys and the slot list. Does not change: what adds or replaces returns another one.

    Args:
        keys: All keys; of each purpose and scope exactly one is active.
        slots: What is known of each unlock slot.

    Raises:
        ValueError: A key has the wrong size, appears twice, or a purpose and scope has not exactly one active key.
        InvalidMetadata: A text of a slot has more than 255 bytes, it has more than 255 principals, or its public key is
            none.
    """

    __slots__ = ("_scopes", "keys", "slots")

    def __init__(self, keys: tuple[KeyEntry, ...], slots: tuple[SlotInfo, ...]) -> None:
        """Check and hold."""
        _check(keys, slots)
        self.keys = keys
        self.slots = slots
        self._scopes: dict[tuple[bytes, int | None], ScopeKeys] = {}

    @classmethod
    def generate(cls, created_ns: int, slots: tuple[SlotInfo, ...]) -> Self:
        """Return the keyring of a new vault: one key of each purpose, epoch 0, scope `/`."""
        return cls(tuple(KeyEntry.generate(purpose, ROOT_SCOPE, 0, created_ns) for purpose in _OF_EVERY_VAULT), slots)

    @classmethod
    def open(cls, row: bytes, root: bytes, vault_id: bytes, generation: int) -> Self:
        """Return the keyring that a row holds.

        Args:
            row: The sealed row.
            root: The root key.
            vault_id: 16 bytes.
            generation: The header's, which must be the keyring's too.

        Raises:
            Tampered: The row was altered, is an older one, or belongs to another root key or vault.
        """
        box = _box(root, vault_id)
        del root  # a traceback that shows locals must not show it, nor what is in the row
        if row[:_FRONT_BYTES] != bytes((_TYPE, SUITE)) + U64.pack(generation):
            raise _refusal()
        try:
            return cls(*_parse(box.open(row[_FRONT_BYTES:], keyring_context(vault_id, generation))))
        except ValueError:  # `Malformed`, or an unknown state
            raise _refusal() from None

    def seal(self, root: bytes, vault_id: bytes, generation: int) -> bytes:
        """Return the sealed row."""
        box = _box(root, vault_id).seal(_encode(self.keys, self.slots), keyring_context(vault_id, generation))
        return bytes((_TYPE, SUITE)) + U64.pack(generation) + box

    def active(self, purpose: Purpose, scope_id: bytes = ROOT_SCOPE) -> KeyEntry:
        """Return the key in use.

        Raises:
            Tampered: There is none.
        """
        for entry in self.keys:
            if (entry.purpose, entry.scope_id, entry.state) == (purpose, scope_id, KeyState.ACTIVE):
                return entry
        raise _missing()

    def find(self, purpose: Purpose, epoch: int, scope_id: bytes = ROOT_SCOPE) -> KeyEntry:
        """Return the key of an epoch, in use or not.

        Raises:
            Tampered: There is none.
        """
        for entry in self.keys:
            if (entry.purpose, entry.scope_id, entry.epoch) == (purpose, scope_id, epoch):
                return entry
        raise _missing()

    @property
    def is_sealed(self) -> bool:
        """Whether values are sealed to a key of their own, which this keyring does not hold."""
        return any(entry.purpose == Purpose.VALUE for entry in self.keys)

    def with_value_key(self, public_key: bytes, created_ns: int) -> Keyring:
        """Return a keyring in which values are sealed to a new public key, of 1,216 bytes, from now on."""
        earlier = [entry for entry in self.keys if entry.purpose == Purpose.VALUE]
        epoch = 1 + max((entry.epoch for entry in earlier), default=-1)
        new = KeyEntry(Purpose.VALUE, ROOT_SCOPE, epoch, KeyState.ACTIVE, created_ns, KeyBytes(public_key))
        kept = (
            entry._replace(state=KeyState.DECRYPT_ONLY) if entry.purpose == Purpose.VALUE else entry
            for entry in self.keys
        )
        return Keyring((*kept, new), self.slots)

    def all(self, purpose: Purpose) -> list[KeyBytes]:
        """Return the keys of all epochs of a purpose, in use or not."""
        return [entry.key for entry in self.keys if entry.purpose == purpose]

    def scope(self, scope_id: bytes = ROOT_SCOPE, epoch: int | None = None) -> ScopeKeys:
        """Return the keys of a scope in an epoch, or in the one in use.

        Raises:
            Tampered: The keyring does not hold them.
        """
        keys = self._scopes.get((scope_id, epoch))
        if keys is None:
            if epoch is None:
                keys = self.scope(scope_id, self.active(Purpose.SCOPE, scope_id).epoch)
            else:
                keys = ScopeKeys(self.find(Purpose.SCOPE, epoch, scope_id))
            keys = self._scopes.setdefault((scope_id, epoch), keys)
        return keys

    def slot(self, slot_id: bytes) -> SlotInfo:
        """Return what is known of a slot.

        Raises:
            Tampered: The slot is not listed.
        """
        for info in self.slots:
            if info.slot_id == slot_id:
                return info
        message = "the keyring does not list the unlock slot"
        raise Tampered(message)

    def with_slot(self, info: SlotInfo) -> Keyring:
        """Return a keyring that lists one more slot.

        Raises:
            ValueError: The slot is listed already.
            InvalidMetadata: It cannot be written.
        """
        return Keyring(self.keys, (*self.slots, info))

    def without_slot(self, slot_id: bytes) -> Keyring:
        """Return a keyring that does not list a slot."""
        return Keyring(self.keys, tuple(info for info in self.slots if info.slot_id != slot_id))

    def with_new_epoch(self, purpose: Purpose, created_ns: int, scope_id: bytes = ROOT_SCOPE) -> Keyring:
        """Return a keyring with a fresh key of a purpose in use.

        The one used until now can only decrypt from here on; of log signing keys it is forgotten.

        Raises:
            Tampered: There is no key of this purpose and scope, or no number after that of the one in use.
        """
        old = self.active(purpose, scope_id)
        if old.epoch >= _EPOCH_MAX:
            raise _refusal()  # nobody gets there; a writer of a sealed scope may have put it there
        kept = () if purpose == Purpose.LOG_SIGNING else (old._replace(state=KeyState.DECRYPT_ONLY),)
        new = KeyEntry.generate(purpose, scope_id, old.epoch + 1, created_ns)
        return Keyring((*(entry for entry in self.keys if entry is not old), *kept, new), self.slots)

    def without_epoch(self, purpose: Purpose, epoch: int, scope_id: bytes = ROOT_SCOPE) -> Keyring:
        """Return a keyring that has forgotten a key that is not in use.

        Raises:
            Tampered: There is no such key.
            ValueError: It is the one in use.
        """
        gone = self.find(purpose, epoch, scope_id)
        return Keyring(tuple(entry for entry in self.keys if entry is not gone), self.slots)

    def __repr__(self) -> str:
        """Show how much there is, nothing of it."""
        return f"Keyring({len(self.keys)} keys, {len(self.slots)} slots)"

    def __reduce__(self) -> NoReturn:
        """Refuse: keys are not pickled."""
        message = "a Keyring cannot be pickled"
        raise TypeError(message)


def _box(root: bytes, vault_id: bytes) -> XAES256GCM:
    return XAES256GCM(expand(root, Label.KEYRING, vault_id, KEY_BYTES))


def _encode(keys: tuple[KeyEntry, ...], slots: tuple[SlotInfo, ...]) -> bytes:
    encoded = [U16.pack(len(keys))]
    encoded.extend(
        bytes((entry.purpose,))
        + entry.scope_id
        + U32.pack(entry.epoch)
        + bytes((entry.state,))
        + U64.pack(entry.created_ns)
        + var16(entry.key)
        for entry in keys
    )
    encoded.append(U16.pack(len(slots)))
    for info in slots:
        principals = b"".join(var8(principal.encode()) for principal in info.principals)
        encoded.append(info.slot_id + info.public_key + U64.pack(info.added_ns))
        encoded.append(var8(info.kind.encode()) + var8(info.label.encode()))
        encoded.append(bytes((len(info.principals),)) + principals)
    return pad(b"".join(encoded), _PADDING_BYTES)


def _parse(plaintext: bytes) -> tuple[tuple[KeyEntry, ...], tuple[SlotInfo, ...]]:
    cursor = Cursor(plaintext)
    keys = tuple(
        KeyEntry(
            cursor.u8(), cursor.take(16), cursor.u32(), KeyState(cursor.u8()), cursor.u64(), KeyBytes(cursor.var16())
        )
        for _ in range(cursor.u16())
    )
    slots = tuple(
        SlotInfo(
            cursor.take(16),
            cursor.take(HYBRID_PUBLIC_BYTES),
            cursor.u64(),
            cursor.str8(),
            cursor.str8(),
            tuple(cursor.str8() for _ in range(cursor.u8())),
        )
        for _ in range(cursor.u16())
    )
    cursor.finish_padding(_PADDING_BYTES)
    return keys, slots


def _check(keys: tuple[KeyEntry, ...], slots: tuple[SlotInfo, ...]) -> None:
    for entry in keys:
        if len(entry.key) != _KEY_BYTES.get(entry.purpose, len(entry.key)):
            message = "a key has the wrong size"
            raise ValueError(message)
    families = {(entry.purpose, entry.scope_id) for entry in keys}
    active = [(entry.purpose, entry.scope_id) for entry in keys if entry.state == KeyState.ACTIVE]
    if len(active) != len(families) or set(active) != families:
        message = "not exactly one key of each purpose and scope is active"
        raise ValueError(message)
    if len({(entry.purpose, entry.scope_id, entry.epoch) for entry in keys}) != len(keys):
        message = "two keys have the same purpose, scope and epoch"
        raise ValueError(message)
    if len({info.slot_id for info in slots}) != len(slots):
        message = "a slot is listed twice"
        raise ValueError(message)
    for info in slots:
        _check_slot(info)


def _check_slot(info: SlotInfo) -> None:
    if len(info.public_key) != HYBRID_PUBLIC_BYTES:
        message = f"the public key of a slot has {HYBRID_PUBLIC_BYTES} bytes"
        raise InvalidMetadata(message)
    sizes = (len(text.encode()) for text in (info.kind, info.label, *info.principals))
    if max(len(info.principals), *sizes) > _TEXT_LIMIT:
        message = f"a label or principal of a slot has more than {_TEXT_LIMIT} bytes, or there are too many"
        raise InvalidMetadata(message)


def _refusal() -> Tampered:
    return Tampered("the keyring was altered or belongs to another state of the vault")


def _missing() -> Tampered:
    return Tampered("the keyring lacks a key that a row names")
