"""Signing keys as secrets keep them, and the JSON Web Key Set of their public halves (RFC 7517, 7518, 8037).

A set is made of the private keys themselves, never of what a version says of its public one. The key of an HMAC is in
none.
"""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from securecfg.errors import InvalidRotation, NotFound, SecurecfgError
from securecfg.rotation.private_keys import Unfit, load_key
from securecfg.rotation.values import text_of
from securecfg.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from securecfg.rotation.interface import Fields
    from securecfg.rotation.private_keys import PrivateKey
    from securecfg.vault.vault import Vault

HMAC_BYTES: Mapping[str, int] = {"HS256": 32, "HS384": 48, "HS512": 64}
"""The algorithms of HMAC, and the size of their keys (RFC 7518, section 3.2)."""

EC_CURVES: Mapping[str, tuple[str, ec.EllipticCurve]] = {
    "ES256": ("P-256", ec.SECP256R1()),
    "ES384": ("P-384", ec.SECP384R1()),
    "ES512": ("P-521", ec.SECP521R1()),
}
RSA_ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
ALGORITHMS = (*EC_CURVES, "EdDSA", *RSA_ALGORITHMS, *HMAC_BYTES)

_LABELS = ("pending", None, "previous")
"""In this order: a candidate that becomes current between two reads is in both of them, and never in none."""


def public_jwks(versions: Iterable[Fields]) -> dict[str, list[dict[str, str]]]:
    """Return the key set of versions of a signing key, each once, in the order in which they are given.

    Verifiers choose by `kid`, and take no other algorithm than the key's `alg`. Versions for HMAC are left out.

    Args:
        versions: Those with which a token that has to be accepted was or will be signed: as `read_versions` returns.

    Raises:
        InvalidRotation: One is no signing key, or none has a public half: an empty set would refuse every token.
    """
    keys = {}
    for value in versions:
        try:
            if text_of(value, "algorithm").reveal() not in HMAC_BYTES:
                key = public_jwk(value)
                keys[key["kid"]] = key
        except Unfit as problem:
            message = f"a version is no signing key: {problem}"
            raise InvalidRotation(message) from None
    if not keys:
        message = "no version has a key that may be published"
        raise InvalidRotation(message, hint="those of HMAC are secret on both sides: verifiers read the vault")
    return {"keys": list(keys.values())}


def read_versions(vault: Vault, path: str) -> tuple[Fields, ...]:
    """Return the versions of a signing key by which tokens are verified: the current, pending and previous one.

    The current one is first: it is what new tokens are signed with. One that there is not is left out.

    Args:
        vault: On whose behalf they are read. Reading a version is reading its private key.
        path: Where it lies.

    Raises:
        As for `Vault.read`, for the current version; for others too, unless there is none.
    """
    pending, current, previous = vault.read_many([(path, label) for label in _LABELS])
    values: list[Fields] = []
    for found, is_optional in ((current, False), (pending, True), (previous, True)):
        if isinstance(found, SecurecfgError):
            if is_optional and isinstance(found, NotFound):
                continue
            raise found
        values.append({"": found.value} if isinstance(found.value, Secret) else found.value)
    return tuple(values)


def public_jwk(value: Fields) -> dict[str, str]:
    """Return the public half of the key of one version.

    Raises:
        InvalidRotation: A field is missing.
        Unfit: It is no private key, one for another algorithm than the version says, or one that `kid` does not name.
    """
    algorithm = text_of(value, "algorithm").reveal()
    key = _jwk_of(load_key(text_of(value, "private_key").reveal()), algorithm)
    kid = thumbprint(key)
    if text_of(value, "kid").reveal() != kid:
        message = "`kid` is not the thumbprint of the key"
        raise Unfit(message)
    return {**key, "kid": kid, "alg": algorithm, "use": "sig"}


def key_id(key: PrivateKey, algorithm: str) -> str:
    """Return what names a key.

    Raises:
        Unfit: It is for another algorithm.
    """
    return thumbprint(_jwk_of(key, algorithm))


def thumbprint(key: Mapping[str, str]) -> str:
    """Return the SHA-256 thumbprint of a key's required members, which must be all that is given (RFC 7638)."""
    return _base64url(hashlib.sha256(json.dumps(key, sort_keys=True, separators=(",", ":")).encode()).digest())


def _jwk_of(key: PrivateKey, algorithm: str) -> dict[str, str]:
    if isinstance(key, ed25519.Ed25519PrivateKey) and algorithm == "EdDSA":
        raw = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return {"kty": "OKP", "crv": "Ed25519", "x": _base64url(raw)}
    if isinstance(key, rsa.RSAPrivateKey) and algorithm in RSA_ALGORITHMS:
        public = key.public_key().public_numbers()
        return {"kty": "RSA", "n": _number(public.n), "e": _number(public.e)}
    if isinstance(key, ec.EllipticCurvePrivateKey) and algorithm in EC_CURVES:
        name, curve = EC_CURVES[algorithm]
        if key.curve.name == curve.name:
            point = key.public_key().public_numbers()
            size = (key.key_size + 7) // 8  # leading zeros stay (RFC 7518, section 6.2.1.2)
            return {"kty": "EC", "crv": name, "x": _number(point.x, size), "y": _number(point.y, size)}
    message = "the key is not one for its algorithm"
    raise Unfit(message)


def _number(number: int, size: int = 0) -> str:
    return _base64url(number.to_bytes(size or (number.bit_length() + 7) // 8))


def _base64url(content: bytes) -> str:
    return urlsafe_b64encode(content).rstrip(b"=").decode()
