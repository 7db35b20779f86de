"""The key pair of a role of sealed scopes: what each of its members holds (format, section 4.12).

A role is an identity without a file: its seed is sealed to every member, and the slots of scopes are wrapped for it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from securecfg.crypto import HYBRID_PUBLIC_BYTES, KeyBytes, Label, seal_to
from securecfg.errors import Tampered
from securecfg.keys.identity import identity_of, opening_key_of, signing_key_of
from securecfg.keys.recipients import unwrap_as_recipient, wrap_to_recipient
from securecfg.keys.slots import KIND_ROLE
from securecfg.octets import Cursor, Malformed, pad, var8, var16

if TYPE_CHECKING:
    from securecfg.keys.identity import Identity
    from securecfg.keys.provider import WrapContext

SEED_BYTES = 32
ROLE_PUBLIC_BYTES = HYBRID_PUBLIC_BYTES + 32

_FRONT = b"\x4d\x01"
_KEY_BYTES = 32
_SIGNATURE_BYTES = 64
_PADDING_BYTES = 256


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
        return wrap_to_recipient(recipient, self.kind, Label.ROLE_SLOT, key, context)

    def unwrap(self, wrapped: bytes, context: WrapContext) -> bytes:
        """Refuse: this is the public half.

        Raises:
            WrongKey: Always.
        """
        return unwrap_as_recipient(_nobody, self.kind, Label.ROLE_SLOT, wrapped, context)


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
        return unwrap_as_recipient(lambda: self._opening_key, self.kind, Label.ROLE_SLOT, wrapped, context)


class Certificate(NamedTuple):
    """An administrator's word that somebody is a member of a role, and whom the member may believe.

    Attributes:
        role: Its name.
        public_key: The role's, 1,248 bytes.
        administrators: The Ed25519 public keys of those who sign charters.
        threshold: How many of them have to.
        signer: Which of them signed this.
        signature: Over all of it, the vault and the member.
    """

    role: str
    public_key: bytes
    administrators: tuple[bytes, ...]
    threshold: int
    signer: bytes = b""
    signature: bytes = b""

    def signed(self, key: Ed25519PrivateKey, vault_id: bytes, member: Identity) -> Certificate:
        """Return it signed by an administrator."""
        unsigned = self._replace(signer=key.public_key().public_bytes_raw(), signature=b"")
        return unsigned._replace(signature=key.sign(_to_sign(unsigned, vault_id, member)))

    def is_signed(self, vault_id: bytes, member: Identity) -> bool:
        """Return whether one of the administrators that it names signed it, for this member of this vault."""
        return self.signer in self.administrators and is_signed(
            self.signer, self.signature, _to_sign(self, vault_id, member)
        )


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
    role, _, administrators, threshold, signer, signature = certificate
    content = var8(role.encode()) + seed + bytes((threshold, len(administrators))) + b"".join(administrators)
    plaintext = KeyBytes(pad(var16(content + signer + signature), _PADDING_BYTES))
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
        threshold, count = cursor.u8(), cursor.u8()
        administrators = tuple(cursor.take(_KEY_BYTES) for _ in range(count))
        signer, signature = cursor.take(_KEY_BYTES), cursor.take(_SIGNATURE_BYTES)
        cursor.finish()
    except Malformed:
        message = "a membership is malformed"
        raise Tampered(message) from None
    key = RoleKey(role, seed)
    return key, Certificate(role, key.public_key, administrators, threshold, signer, signature)


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


def is_signed(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Return whether a signature is that of an Ed25519 key over a message."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _to_sign(certificate: Certificate, vault_id: bytes, member: Identity) -> bytes:
    role, public_key, administrators, threshold, signer, _ = certificate
    told = var8(role.encode()) + public_key + bytes((threshold, len(administrators))) + b"".join(administrators)
    return Label.ROLE.encode() + b"/member\x00" + vault_id + member.fingerprint + told + signer


def _nobody() -> KeyBytes:
    message = "the public half of a role opens nothing"
    raise Tampered(message)
