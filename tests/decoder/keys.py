"""What opens a slot, and header, slots and keyring: format.md section 4."""

from __future__ import annotations

import base64
import hmac
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.decoder.ciphers import box_open, context, derive, hpke_open, same, siv_open
from tests.decoder.identity import Identity
from tests.decoder.octets import Octets, u8, u16, u64
from tests.decoder.refusals import (
    FormatRefused,
    HeaderRefused,
    KeyringRefused,
    SlotRefused,
    SnapshotRefused,
    demand,
    refusing,
)
from tests.decoder.shares import Shares, value_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

NO_SCOPE = bytes(16)
ROOT_SCOPE = bytes(16)
FIRST_SLOT = 256
CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
SCOPE_KEY, SIGNING_KEY, AUDIT_KEY, MASKING_KEY = 1, 2, 3, 4
KEY_SIZES = {SCOPE_KEY: 32, SIGNING_KEY: 32, AUDIT_KEY: 96, MASKING_KEY: 32}
ACTIVE, DECRYPT_ONLY = 1, 2


@dataclass(frozen=True, slots=True)
class Passphrase:
    """The key of slots of kind 1."""

    text: str
    kind = 1

    def kek(self, params: bytes, _place: bytes) -> bytes:
        octets = Octets(params)
        salt, memory, passes, lanes = octets.take(16), octets.u32(), octets.u8(), octets.u8()
        octets.end()
        demand(memory <= 2 * 1024 * 1024 and passes <= 16 and lanes <= 16, "Argon2 parameters above the limit")
        demand(passes > 0 and lanes > 0 and memory >= 8 * lanes, "Argon2 parameters that cannot be")
        phrase = unicodedata.normalize("NFC", self.text).encode()
        return Argon2id(salt=salt, length=32, iterations=passes, lanes=lanes, memory_cost=memory).derive(phrase)


@dataclass(frozen=True, slots=True)
class KeyFile:
    """The key of slots of kind 2."""

    path: Path
    kind = 2

    def kek(self, params: bytes, _place: bytes) -> bytes:
        demand(not params, "a file slot with parameters")
        demand(not self.path.stat().st_mode & 0o077, "a key file that others can read")
        line = re.fullmatch(r"SECURECFG-KEY-1-([\w-]{43})-([0-9a-f]{8})\n", self.path.read_bytes().decode(), re.ASCII)
        demand(line is not None, "not a key file")
        assert line is not None
        key = base64.urlsafe_b64decode(line[1] + "=")
        demand(base64.urlsafe_b64encode(key) == line[1].encode() + b"=", "a key that is not canonical base64url")
        demand(sha256(key).hexdigest()[:8] == line[2], "a key file with a wrong check")
        return key


@dataclass(frozen=True, slots=True)
class PassphraseAndKeyFile:
    """The key of slots of kind 13: section 4.13."""

    text: str
    path: Path
    kind = 13

    def kek(self, params: bytes, place: bytes) -> bytes:
        demand(bool(self.text), "an empty passphrase")
        stretched = Passphrase(self.text).kek(params, place)
        return derive(hmac.digest(stretched, KeyFile(self.path).kek(b"", place), "sha512"), "securecfg/1/both", b"", 32)


@dataclass(frozen=True, slots=True)
class Together:
    """The key of slots of kind 14, of keys of other kinds: section 4.16."""

    needed: int
    keys: tuple[Key, ...]
    kind = 14

    def kek(self, params: bytes, place: bytes) -> bytes:
        octets = Octets(params)
        needed, count = octets.u8(), octets.u8()
        demand(2 <= needed <= count <= 8, "numbers that cannot be")
        parts = [(octets.u8(), octets.str16()) for _ in range(count)]
        octets.end()
        slots = []
        for x, (kind, part) in enumerate(parts, start=1):
            demand(kind != 14, "a part of this kind itself")
            inner = Octets(part)
            part_id = sha256(b"securecfg/1/part\0" + place[16:] + u8(x)).digest()[:16]
            slots.append(Slot(kind, part_id, inner.str16(), inner.take(32), inner.take(48)))
            inner.end()
        demand(needed == self.needed and len(self.keys) <= count, "keys of another slot")
        points: dict[int, bytes] = {}
        for key in self.keys:
            for x, slot in enumerate(slots, start=1):
                share = None if x in points else _open_with(key, place[:16], slot)
                if share is not None:
                    points[x] = share
                    break
        demand(len(points) >= needed, "too few keys")
        secret = value_at(dict(list(points.items())[:needed]), 0)
        return derive(secret, "securecfg/1/parts", place, 32)


def _open_with(key: Key, vault_id: bytes, slot: Slot) -> bytes | None:
    try:
        return unlock(Header(b"", vault_id, 1, 1, b"", 1, b""), [slot], key)[1]
    except SlotRefused:
        return None


@dataclass(frozen=True, slots=True)
class RecoveryCode:
    """The key of slots of kind 4."""

    text: str
    kind = 4

    def kek(self, params: bytes, place: bytes) -> bytes:
        demand(not params, "a recovery slot with parameters")
        plain = re.sub(r"[\s-]", "", self.text).upper().replace("O", "0").replace("I", "1").replace("L", "1")
        demand(len(plain) == 36 and set(plain) <= set(CROCKFORD), "not a recovery code")
        bits = "".join(f"{CROCKFORD.index(letter):05b}" for letter in plain)
        code = int(bits[:160], 2).to_bytes(20, "big")
        check = int.from_bytes(sha256(b"securecfg recovery" + code).digest()[:3], "big") >> 4
        demand(int(bits[160:], 2) == check, "a slip in the recovery code")
        return derive(code + bytes(12), "securecfg/1/recovery", place[:16], 32)


@dataclass(frozen=True, slots=True)
class Kek:
    """The key-encryption key of a slot, come by outside this decoder."""

    key: bytes
    kind: int

    def kek(self, _params: bytes, _place: bytes) -> bytes:
        return self.key


Key = Passphrase | KeyFile | PassphraseAndKeyFile | RecoveryCode | Shares | Identity | Together | Kek


@dataclass(frozen=True, slots=True)
class Header:
    """The readable row."""

    row: bytes
    vault_id: bytes
    slots: int
    generation: int
    first_public_key: bytes
    created: int
    mac: bytes


def parse_header(row: bytes) -> Header:
    """Read the header: section 4.1."""
    with refusing(SnapshotRefused, "header"):
        octets = Octets(row)
        demand(octets.take(4) == b"SCFG", "another magic")
        format_, oldest_reader, _oldest_writer = octets.u16(), octets.u16(), octets.u16()
    with refusing(FormatRefused, "header"):
        demand(oldest_reader <= 1, f"format {format_}, readers from {oldest_reader}")
        demand(octets.u8() == 1, "another suite")
        demand(octets.u8() == 0, "flags")
    with refusing(SnapshotRefused, "header"):
        demand(len(row) == 112, f"{len(row)} bytes instead of 112")
        demand(format_ > 0, "no format")
        vault_id, slots, reserved = octets.take(16), octets.u16(), octets.u16()
        with refusing(FormatRefused, "header"):
            demand(reserved == 0, "reserved bytes that are not zero")
        header = Header(row, vault_id, slots, octets.u64(), octets.take(32), octets.u64(), octets.take(32))
        octets.end()
    return header


@dataclass(frozen=True, slots=True)
class Slot:
    """An unlock slot."""

    kind: int
    slot_id: bytes
    params: bytes
    commitment: bytes
    sealed: bytes


def parse_slot(row: bytes) -> Slot:
    """Read a slot: section 4.2."""
    with refusing(SnapshotRefused, "slot"):
        demand(0 < len(row) <= 4096 and len(row) % 256 == 0, f"a slot of {len(row)} bytes")
        octets = Octets(row)
        kind, suite = octets.u8(), octets.u8()
        if suite != 1:
            reason = "a slot of another suite"
            raise FormatRefused(reason)
        slot = Slot(kind, octets.take(16), octets.str16(), octets.take(32), octets.take(48))
        octets.padding(256)
    return slot


def unlock(header: Header, slots: Sequence[Slot], key: Key) -> tuple[bytes, bytes]:
    """Find the slot that a key opens; return its id and the slot key: section 4.2."""
    for slot in slots:
        if slot.kind != key.kind:
            continue
        with refusing(SlotRefused):
            fields = slot.slot_id + u8(slot.kind) + u16(len(slot.params)) + slot.params
            aad = context(0x10, header.vault_id, NO_SCOPE, 0, fields)
            material = derive(key.kek(slot.params, header.vault_id + slot.slot_id), "securecfg/1/slot", aad, 96)
            if same(material[64:], slot.commitment):
                return slot.slot_id, siv_open(material[:64], slot.sealed, aad)
    reason = "no slot that this key opens"
    raise SlotRefused(reason)


def open_root(header: Header, slot_id: bytes, slot_key: bytes, roots: Iterable[bytes]) -> bytes:
    """Open the root that is sealed to a slot: section 4.5."""
    with refusing(HeaderRefused):
        for row in roots:
            if row[2:18] == slot_id:
                octets = Octets(row)
                octets.start(0x52)
                place = header.vault_id + octets.take(16)
                sealed = octets.take(1168)
                octets.end()
                private = derive(slot_key, "securecfg/1/slot-key", place, 96)
                return hpke_open(private, sealed, b"securecfg/1/root\0" + place)
    reason = "no root for the slot"
    raise HeaderRefused(reason)


def parse_roots(row: bytes) -> dict[int, bytes]:
    """Read the roots that are sealed to slots, by the rows of these: section 4.5."""
    with refusing(SnapshotRefused, "roots"):
        octets = Octets(row)
        octets.start(0x53)
        roots: dict[int, bytes] = {}
        for _ in range(octets.u8()):
            number = FIRST_SLOT + octets.u8()
            demand(all(number > other for other in roots), "roots that do not ascend")
            roots[number] = octets.take(1186)
        octets.end()
    return roots


def verify_header(header: Header, slots: Mapping[int, bytes], roots: bytes, root: bytes) -> None:
    """Compare the MAC over header, roots and slots: section 4.1."""
    covered = header.row[:80] + b"".join(map(var32, [roots, *(row for _, row in sorted(slots.items()))]))
    mac = hmac.digest(derive(root, "securecfg/1/hdr", header.vault_id, 32), covered, "sha256")
    with refusing(HeaderRefused):
        demand(same(mac, header.mac), "another MAC")
        demand(header.slots == len(slots), f"{header.slots} slots announced, {len(slots)} there")
        demand(parse_roots(roots).keys() == slots.keys(), "roots without their slots")


def var32(row: bytes) -> bytes:
    return len(row).to_bytes(4, "big") + row


@dataclass(frozen=True, slots=True)
class SlotEntry:
    """What the keyring says of a slot."""

    slot_id: bytes
    public_key: bytes
    added: int
    kind: str
    label: str
    principals: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Keyring:
    """The keys of a vault."""

    vault_id: bytes
    keys: Mapping[tuple[int, bytes, int], bytes]
    active: Mapping[tuple[int, bytes], int]
    slots: tuple[SlotEntry, ...]

    def scope_key(self, label: str, epoch: int, size: int) -> bytes:
        """Derive a key of the scope `/`."""
        parent = self.keys.get((SCOPE_KEY, ROOT_SCOPE, epoch))
        demand(parent is not None, f"no scope key of epoch {epoch}")
        assert parent is not None
        return derive(parent, label, ROOT_SCOPE + epoch.to_bytes(4, "big"), size)

    def open_box(self, label: str, kind: int, epoch: int, fields: bytes, box: bytes) -> bytes:
        """Open a box that is sealed to the index or log key of an epoch."""
        aad = context(kind, self.vault_id, ROOT_SCOPE, epoch, fields)
        return box_open(self.scope_key(label, epoch, 32), box, aad)

    def signing_key(self) -> tuple[int, bytes]:
        """Return the epoch of the log and the public half of its key."""
        held = [(epoch, seed) for (purpose, _, epoch), seed in self.keys.items() if purpose == SIGNING_KEY]
        demand(len(held) == 1, "not exactly one signing seed")
        epoch, seed = held[0]
        public = Ed25519PrivateKey.from_private_bytes(seed).public_key()
        return epoch, public.public_bytes(Encoding.Raw, PublicFormat.Raw)

    def audit_keys(self) -> list[bytes]:
        return [key for (purpose, _, _), key in self.keys.items() if purpose == AUDIT_KEY]


def open_keyring(header: Header, row: bytes, root: bytes, slots: Mapping[int, bytes]) -> Keyring:
    """Open the keyring: section 4.3."""
    with refusing(KeyringRefused):
        octets = Octets(row)
        octets.start(0x4B)
        generation = octets.u64()
        aad = context(0x11, header.vault_id, NO_SCOPE, 0, u64(generation))
        plain = Octets(box_open(derive(root, "securecfg/1/kr", header.vault_id, 32), octets.rest(), aad))
        keys: dict[tuple[int, bytes, int], bytes] = {}
        active: dict[tuple[int, bytes], int] = {}
        families: Counter[tuple[int, bytes]] = Counter()
        for _ in range(plain.u16()):
            purpose, scope, epoch, state = plain.u8(), plain.take(16), plain.u32(), plain.u8()
            plain.u64()
            key = plain.str16()
            demand(state in {ACTIVE, DECRYPT_ONLY}, f"a key in state {state}")
            demand((purpose, scope, epoch) not in keys, "two keys of one epoch")
            demand(len(key) == KEY_SIZES.get(purpose, len(key)), "a key of another size")
            keys[purpose, scope, epoch] = key
            families[purpose, scope] += 1
            if state == ACTIVE:
                demand((purpose, scope) not in active, "two active keys")
                active[purpose, scope] = epoch
        demand(set(active) == set(families), "keys none of which is active")
        entries = [
            SlotEntry(
                plain.take(16),
                plain.take(1216),
                plain.u64(),
                plain.str8(),
                plain.str8(),
                tuple(plain.str8() for _ in range(plain.u8())),
            )
            for _ in range(plain.u16())
        ]
        plain.padding(512)
        demand(generation == header.generation, f"generation {generation}, the header's is {header.generation}")
        listed = sorted(entry.slot_id for entry in entries)
        demand(
            listed == sorted(row[2:18] for row in slots.values()),
            "other slots than those of the vault",
        )
        demand((SCOPE_KEY, ROOT_SCOPE) in active, "no key of the scope `/`")
        demand((AUDIT_KEY, NO_SCOPE) in active, "no audit key")
    return Keyring(header.vault_id, keys, active, tuple(entries))
