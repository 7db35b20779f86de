"""The key pair of a role of sealed scopes: what each of its members holds (format, section 4.12).

A role is an identity without a file: its seed is sealed to every member, and the slots of scopes are wrapped for it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, NamedTuple

from securecfg.crypto import HYBRID_PUBLIC_BYTES, KeyBytes, Label, open_sealed, seal_to
from securecfg.errors import Tampered
from securecfg.keys.identity import identity_of, opening_key_of, signing_key_of
from securecfg.keys.kek import parse_params
from securecfg.keys.provider import WrapContext
from securecfg.keys.recipients import unwrap_as_recipient, wrap_to_recipient
from securecfg.keys.slots import KIND_ROLE
from securecfg.keys.trust import Trust, read_signatures, signatures_to_bytes
from securecfg.octets import Cursor, Malformed, pad, var8, var16

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from securecfg.keys.identity import Identity
    from securecfg.keys.slots import Slot
    from securecfg.keys.trust import Signatures

SEED_BYTES = 32
ROLE_PUBLIC_BYTES = HYBRID_PUBLIC_BYTES + 32

_FRONT = b"\x4d\x01"
_PADDING_BYTES = 256
_TAG_BYTES = 8


class RolePublic:
    """The public half of a role's key: what scopes are granted to. It makes slots and opens none.

    Args:
        public_key: 1,248 bytes: what is sealed to, then the Ed25519 public key.
    """

    scheme: Final = "role"
    kind: Final = KIND_ROLE

    def __init__(self, public_key: bytes) -> None:
        """Hold it."""
        self.public_key = public_key

    @property
    def signing_key(self) -> bytes:
        """The Ed25519 public key, 32 bytes."""
        return self.public_key[HYBRID_PUBLIC_BYTES:]

    def wrap(self, key: bytes, context: WrapContext) -> bytes:
        """Return `key` wrapped for the members of the role.

        Raises:
            Tampered: The public key is none.
        """
        recipient = self.public_key[:HYBRID_PUBLIC_BYTES]
        return wrap_to_recipient(recipient, self.kind, Label.ROLE_SLOT, key, context, tag=self._tag(context))

    def unwrap(self, wrapped: bytes, context: WrapContext) -> bytes:
        """Refuse: this is the public half.

        Raises:
            WrongKey: Always.
        """
        return unwrap_as_recipient(_nobody, self.kind, Label.ROLE_SLOT, wrapped, context, tag=self._tag(context))

    def fits(self, slot: Slot, vault_id: bytes) -> bool:
        """Return whether a slot is for this role, by its tag: nothing is opened, and nothing is authentic yet."""
        context = WrapContext(vault_id, slot.slot_id)
        return slot.kind == self.kind and parse_params(slot.wrapped)[:_TAG_BYTES] == self._tag(context)

    def _tag(self, context: WrapContext) -> bytes:
        """Return what a slot for this role begins with; to whoever lacks the public key it is random."""
        told = Label.ROLE_SLOT.encode() + b"/tag\x00" + context.vault_id + context.slot_id + self.public_key
        return hashlib.sha256(told).digest()[:_TAG_BYTES]


class RoleKey(RolePublic):
    """A role's key as its members hold it.

    Args:
        name: The role, without `role:`.
        seed: 32 bytes.
    """

    def __init__(self, name: str, seed: bytes) -> None:
        """Derive both halves."""
        self.name = name
        self.seed = KeyBytes(seed)
        self._opening_key = opening_key_of(self.seed)
        super().__init__(identity_of(name, self.seed).public_key)

    @property
    def signer(self) -> Ed25519PrivateKey:
        """What members vouch with for what they write."""
        return signing_key_of(self.seed)

    def unwrap(self, wrapped: bytes, context: WrapContext) -> bytes:
        """Return the key that was wrapped for the role.

        Raises:
            WrongKey: It was wrapped for another role, or the bytes or the context are other ones.
        """
        tag = self._tag(context)
        return unwrap_as_recipient(lambda: self._opening_key, self.kind, Label.ROLE_SLOT, wrapped, context, tag=tag)

    def open_for_owner(self, sealed: bytes, info: bytes) -> KeyBytes:
        """Return a message that was sealed to the role otherwise than in an unlock slot.

        Raises:
            Tampered: It was sealed to another role, or the bytes or `info` are other ones.
        """
        return KeyBytes(open_sealed(self._opening_key, sealed, info))


class Certificate(NamedTuple):
    """The word of administrators that somebody is a member of a role, and whom the member may believe.

    Attributes:
        role: Its name.
        public_key: The role's, 1,248 bytes.
        trust: Who signs charters, and this.
        signatures: Over all of it, the vault and the member.
    """

    role: str
    public_key: bytes
    trust: Trust
    signatures: Signatures = ()

    def message(self, vault_id: bytes, member: Identity) -> bytes:
        """Return what administrators sign."""
        told = var8(member.name.encode()) + member.fingerprint + var8(self.role.encode()) + self.public_key
        return Label.ROLE.encode() + b"/member\x00" + vault_id + told + self.trust.to_bytes()

    def is_signed(self, vault_id: bytes, member: Identity) -> bool:
        """Return whether enough of the administrators that it names signed it, for this member of this vault."""
        return self.trust.holds(self.signatures, self.message(vault_id, member))


def seal_membership(seed: KeyBytes, certificate: Certificate, vault_id: bytes, member: Identity) -> bytes:
    """Return the row by which a member comes to the key of a role; only the member can tell for whom it is.

    Args:
        seed: The role's, 32 bytes.
        certificate: For this member.
        vault_id: The vault's id, 16 bytes.
        member: Whom it is for.

    Raises:
        Tampered: The member's public key is none.
    """
    content = var8(certificate.role.encode()) + seed + certificate.trust.to_bytes()
    plaintext = KeyBytes(pad(var16(content + signatures_to_bytes(certificate.signatures)), _PADDING_BYTES))
    return _FRONT + seal_to(member.recipient, plaintext, membership_info(vault_id))


def parse_membership(plaintext: KeyBytes) -> tuple[RoleKey, Certificate]:
    """Return the role's key and the certificate that a member opened; who signed that is not looked at yet.

    Raises:
        Tampered: It is malformed.
    """
    try:
        outer = Cursor(plaintext)
        cursor = Cursor(outer.var16())
        outer.finish_padding(_PADDING_BYTES)
        role, seed = cursor.str8(), KeyBytes(cursor.take(SEED_BYTES))
        trust, signatures = Trust.read(cursor), read_signatures(cursor)
        cursor.finish()
    except Malformed:
        message = "a membership is malformed"
        raise Tampered(message) from None
    key = RoleKey(role, seed)
    return key, Certificate(role, key.public_key, trust, signatures)


def sealed_membership_of(row: bytes) -> bytes | None:
    """Return what is sealed in a row of the space of grants, None where it is no membership."""
    return row[len(_FRONT) :] if row[: len(_FRONT)] == _FRONT else None


def membership_row_of(member: Identity, role_public: bytes) -> int:
    """Return the id of the row by which a member comes to the key of a role."""
    told = Label.ROLE.encode() + b"/row\x00" + member.fingerprint + role_public
    return int.from_bytes(hashlib.sha256(told).digest()[:8]) >> 1


def membership_info(vault_id: bytes) -> bytes:
    """Return what a sealed membership is bound to."""
    return Label.ROLE.encode() + b"\x00" + vault_id


def _nobody() -> KeyBytes:
    message = "the public half of a role opens nothing"
    raise Tampered(message)
