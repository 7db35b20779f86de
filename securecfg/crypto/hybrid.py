"""Sealing to a public key: HPKE (RFC 9180) with MLKEM768-X25519, HKDF-SHA256 and AES-256-GCM.

The KEM is 0x647A of the IANA registry, also called X-Wing: what is sealed stays sealed unless both ML-KEM-768 and
X25519 fall. Keys are raw bytes here. Public: ML-KEM-768 encapsulation key [1184] || X25519 public key [32]. Private:
ML-KEM-768 seed [64] || X25519 private key [32]. A sealed message is the encapsulated key [1120], ciphertext and tag.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.crypto.key_bytes import KeyBytes
from securecfg.errors import Tampered

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    from cryptography.hazmat.primitives.hpke import Suite

HYBRID_PUBLIC_BYTES = 1_184 + 32
HYBRID_PRIVATE_BYTES = 64 + 32
HYBRID_OVERHEAD_BYTES = 1_088 + 32 + 16

_MLKEM_PUBLIC_BYTES = 1_184
_MLKEM_SEED_BYTES = 64


def hybrid_public_key(private_key: bytes) -> bytes:
    """Return the public half of a private key of 96 uniformly random bytes; it has 1,216.

    Raises:
        Tampered: The private key has another length.
    """
    private_key = KeyBytes(private_key)  # masked in the frames of what is raised below
    mlkem, x25519 = _parts(private_key)
    return mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()


def seal_to(public_key: bytes, message: bytes, info: bytes) -> bytes:
    """Return a message that only the holder of the private half opens, 1,136 bytes longer.

    Args:
        public_key: 1,216 bytes.
        message: What to seal. Nobody is told who sealed it.
        info: What it is bound to; the same is needed to open it.

    Raises:
        Tampered: The public key has another length, or is none.
    """
    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PublicKey
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
    from cryptography.hazmat.primitives.hpke import MLKEM768X25519PublicKey

    try:
        public = MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(public_key[:_MLKEM_PUBLIC_BYTES]),
            X25519PublicKey.from_public_bytes(public_key[_MLKEM_PUBLIC_BYTES:]),
        )
        # A point of small order is found only here: no secret can be agreed on with it.
        return _suite().encrypt(message, public, info)
    except ValueError:
        del message  # a traceback that shows locals must not show it
        text = "not the public half of a hybrid key"
        raise Tampered(text) from None


def open_sealed(private_key: bytes, sealed: bytes, info: bytes) -> bytes:
    """Return the message that was sealed to the public half of a key.

    Raises:
        Tampered: Key, info or bytes are other ones; they cannot be told apart.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.hpke import MLKEM768X25519PrivateKey

    private_key = KeyBytes(private_key)  # masked in the frames of what is raised below
    try:
        return _suite().decrypt(sealed, MLKEM768X25519PrivateKey(*_parts(private_key)), info)
    except (InvalidTag, ValueError):
        message = "a message does not open with this key"
        raise Tampered(message) from None


def _parts(private_key: KeyBytes) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
    from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    if len(private_key) != HYBRID_PRIVATE_BYTES:
        message = f"a hybrid private key is {HYBRID_PRIVATE_BYTES} bytes long"
        raise Tampered(message)
    return (
        MLKEM768PrivateKey.from_seed_bytes(private_key[:_MLKEM_SEED_BYTES]),
        X25519PrivateKey.from_private_bytes(private_key[_MLKEM_SEED_BYTES:]),
    )


def _suite() -> Suite:
    from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

    return Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
