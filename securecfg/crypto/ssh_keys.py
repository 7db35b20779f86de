"""SSH's keys and signatures in their wire form: RFC 4253 section 6.6, RFC 5656, RFC 8332, RFC 8709, PROTOCOL.u2f.

Keys in hardware tokens (`sk-...`) are verified, never used to sign. A token's signature must say that its user was
present.
"""

from __future__ import annotations

import base64
import hashlib
from importlib.util import find_spec
from typing import TYPE_CHECKING

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key

from securecfg.errors import ExtraMissing, InvalidSigningKey, Unsupported
from securecfg.octets import U32, Cursor, Malformed, var32

if TYPE_CHECKING:
    from collections.abc import Callable

    PrivateKey = Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    PublicKey = Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey

MIN_RSA_BITS = 2048
MAX_RSA_BITS = 16384

_USER_PRESENT = 0x01
_RSA_HASHES = {b"rsa-sha2-256": hashes.SHA256(), b"rsa-sha2-512": hashes.SHA512()}
_CURVES: dict[bytes, tuple[ec.EllipticCurve, hashes.HashAlgorithm]] = {
    b"nistp256": (ec.SECP256R1(), hashes.SHA256()),
    b"nistp384": (ec.SECP384R1(), hashes.SHA384()),
    b"nistp521": (ec.SECP521R1(), hashes.SHA512()),
}


def verify_bytes(key: bytes, signature: bytes, signed: bytes) -> None:
    """Verify a signature with a key, both in wire form.

    Raises:
        InvalidSignature: The key did not sign these bytes (the exception of `cryptography`).
        Malformed: The key or the signature is not what its type says, or of no type that is supported.
    """
    key_fields, parts = Cursor(key), Cursor(signature)
    kind = key_fields.var32()
    algorithm = parts.var32()
    read = _READERS.get(kind)
    if read is None:
        problem = "is by a key of a type that is not supported"
        raise Malformed(problem)
    if algorithm not in (_RSA_HASHES if kind == b"ssh-rsa" else (kind,)):
        problem = "uses an algorithm that does not belong to its key"
        raise Malformed(problem)
    try:
        public_key = read(key_fields)
    except Malformed:
        raise
    except ValueError:
        problem = "is by a key that is not valid"
        raise Malformed(problem) from None
    raw = parts.var32()
    if kind.startswith(b"sk-"):
        signed = _signed_by_token(key_fields.var32(), parts, signed)
    key_fields.finish()
    parts.finish()
    if isinstance(public_key, Ed25519PublicKey):
        public_key.verify(raw, signed)
    elif isinstance(public_key, ec.EllipticCurvePublicKey):
        _, algorithm_hash = _CURVES[_curve_name(public_key.curve)]
        public_key.verify(_ecdsa_to_der(raw), signed, ec.ECDSA(algorithm_hash))
    else:
        public_key.verify(raw, signed, PKCS1v15(), _RSA_HASHES[algorithm])


def sign_bytes(private_key: PrivateKey, signed: bytes) -> tuple[bytes, bytes]:
    """Return the public key and the signature, both in wire form."""
    public = private_key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    key = base64.b64decode(public.split(b" ")[1])
    if isinstance(private_key, Ed25519PrivateKey):
        return key, var32(b"ssh-ed25519") + var32(private_key.sign(signed))
    if isinstance(private_key, rsa.RSAPrivateKey):
        raw = private_key.sign(signed, PKCS1v15(), hashes.SHA512())
        return key, var32(b"rsa-sha2-512") + var32(raw)
    name = _curve_name(private_key.curve)
    r, s = decode_dss_signature(private_key.sign(signed, ec.ECDSA(_CURVES[name][1])))
    return key, var32(b"ecdsa-sha2-" + name) + var32(_mpint(r) + _mpint(s))


def load_private_key(pem: bytes, passphrase: bytes | None) -> PrivateKey:
    """Load a private key in OpenSSH's format.

    Raises:
        InvalidSigningKey: The key cannot be read, is too weak, or the passphrase is wrong or missing.
        ExtraMissing: A key with a passphrase needs the extra `ssh`.
        Unsupported: The key is of a kind that cannot sign here.
    """
    if passphrase is not None and find_spec("bcrypt") is None:
        problem = "a signing key with a passphrase needs the package `bcrypt`"
        raise ExtraMissing(problem, hint="pip install 'securecfg-vault[ssh]'")
    try:
        private_key = load_ssh_private_key(pem, passphrase)
    except TypeError:
        problem = "the signing key needs a passphrase" if passphrase is None else "the signing key has no passphrase"
        raise InvalidSigningKey(problem) from None
    except ValueError:
        problem = "the signing key cannot be read"
        hint = "it must be in the format that `ssh-keygen` writes, and the passphrase must be right"
        raise InvalidSigningKey(problem, hint=hint) from None
    except UnsupportedAlgorithm:
        raise _unsupported_key() from None
    if not isinstance(private_key, Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise _unsupported_key()
    if isinstance(private_key, rsa.RSAPrivateKey) and private_key.key_size < MIN_RSA_BITS:
        problem = f"the signing key is an RSA key of less than {MIN_RSA_BITS} bits"
        raise InvalidSigningKey(problem)
    return private_key


def _unsupported_key() -> Unsupported:
    message = "a signing key of this kind cannot be used here"
    return Unsupported(message, hint="`ssh-keygen -Y sign` uses keys in hardware tokens")


def _signed_by_token(application: bytes, parts: Cursor, signed: bytes) -> bytes:
    """Return what a token signs in the place of `signed` (PROTOCOL.u2f, SSH U2F Signatures)."""
    flags = parts.u8()
    counter = parts.u32()
    if not flags & _USER_PRESENT:
        problem = "was made without its user being present"
        raise Malformed(problem)
    digest = hashlib.sha256(signed).digest()
    return hashlib.sha256(application).digest() + bytes((flags,)) + U32.pack(counter) + digest


def _read_ed25519(fields: Cursor) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(fields.var32())


def _read_ecdsa(curve_name: bytes) -> Callable[[Cursor], ec.EllipticCurvePublicKey]:
    def read(fields: Cursor) -> ec.EllipticCurvePublicKey:
        if fields.var32() != curve_name:
            problem = "is by a key on another curve than its type says"
            raise Malformed(problem)
        return ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[curve_name][0], fields.var32())

    return read


def _read_rsa(fields: Cursor) -> rsa.RSAPublicKey:
    exponent, modulus = _read_mpint(fields), _read_mpint(fields)
    if not MIN_RSA_BITS <= modulus.bit_length() <= MAX_RSA_BITS:
        problem = f"is by an RSA key of {modulus.bit_length()} bits; {MIN_RSA_BITS} to {MAX_RSA_BITS} are accepted"
        raise Malformed(problem)
    return rsa.RSAPublicNumbers(exponent, modulus).public_key()


_READERS: dict[bytes, Callable[[Cursor], PublicKey]] = {
    b"ssh-ed25519": _read_ed25519,
    b"sk-ssh-ed25519@openssh.com": _read_ed25519,
    b"ssh-rsa": _read_rsa,
    b"sk-ecdsa-sha2-nistp256@openssh.com": _read_ecdsa(b"nistp256"),
    **{b"ecdsa-sha2-" + name: _read_ecdsa(name) for name in _CURVES},
}


def _curve_name(curve: ec.EllipticCurve) -> bytes:
    return b"nistp%d" % curve.key_size


def _ecdsa_to_der(raw: bytes) -> bytes:
    fields = Cursor(raw)
    r, s = _read_mpint(fields), _read_mpint(fields)
    fields.finish()
    return encode_dss_signature(r, s)


def _read_mpint(fields: Cursor) -> int:
    """Return a non-negative integer in its one encoding (RFC 4251 section 5)."""
    content = fields.var32()
    number = int.from_bytes(content)
    if _mpint(number) != var32(content):
        problem = "holds a number that is not in its shortest form"
        raise Malformed(problem)
    return number


def _mpint(number: int) -> bytes:
    return var32(number.to_bytes(number.bit_length() // 8 + 1) if number else b"")
