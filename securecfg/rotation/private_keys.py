"""Private keys of the kinds that certificates and tokens are signed with, as text in PEM."""

from __future__ import annotations

from typing import cast

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

PEM_BYTES_MAX = 65_536
RSA_BITS = 3_072
"""Of a new key: 128 bits of security (NIST SP 800-57 part 1, table 2)."""

_RSA_BITS_MIN = 2_048
_CURVES = frozenset(("secp256r1", "secp384r1", "secp521r1"))


class Unfit(Exception):
    """A key, a certificate or a path is not what it has to be; says why, without a value."""


def load_key(pem: str) -> PrivateKey:
    """Return the private key of a PEM text.

    Raises:
        Unfit: It is none, is protected by a passphrase, or is of another kind, or weak.
    """
    try:
        key = load_pem_private_key(bounded_pem(pem), None)
    except TypeError:
        message = "the key is protected by a passphrase"
        raise Unfit(message) from None
    except (ValueError, UnsupportedAlgorithm):
        message = "the key is no private key in PEM"
        raise Unfit(message) from None
    check_strength(key.public_key())
    return cast("PrivateKey", key)


def key_to_pem(key: PrivateKey) -> str:
    """Return a private key as PKCS#8 in PEM, not encrypted."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def check_strength(key: object) -> None:
    """Check that a public key is of a kind that is taken here, and not weak.

    Raises:
        Unfit: It is not.
    """
    if isinstance(key, ed25519.Ed25519PublicKey):
        return
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _CURVES:
        return
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= _RSA_BITS_MIN:
        return
    message = f"a key is Ed25519, ECDSA on P-256, P-384 or P-521, or RSA of at least {_RSA_BITS_MIN} bits"
    raise Unfit(message)


def bounded_pem(pem: str) -> bytes:
    """Return the bytes of a text in PEM.

    Raises:
        Unfit: There are too many.
    """
    content = pem.encode("utf-8", "replace")
    if len(content) > PEM_BYTES_MAX:
        message = f"a text in PEM has at most {PEM_BYTES_MAX} bytes here"
        raise Unfit(message)
    return content
