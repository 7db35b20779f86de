"""Keys that tokens are signed with: JWT and other uses of HMAC, ECDSA, EdDSA and RSA.

Nobody is told of a new one: who verifies reads it, or the key set that `securecfg.rotation.jwks` makes. A new key is
published as soon as it is stored, and signs only when verifiers have had the time to see it.
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from securecfg.clock import SystemClock, to_datetime
from securecfg.errors import CredentialRefused, InvalidRotation
from securecfg.rotation.interface import Candidate, Strategy
from securecfg.rotation.jwks import ALGORITHMS, EC_CURVES, HMAC_BYTES, key_id, public_jwk
from securecfg.rotation.options import GivenOptions
from securecfg.rotation.private_keys import RSA_BITS, Unfit, key_to_pem
from securecfg.rotation.values import text_of
from securecfg.secret import Secret

if TYPE_CHECKING:
    from securecfg.clock import Clock
    from securecfg.rotation.interface import Fields, Options, Run
    from securecfg.rotation.private_keys import PrivateKey

PUBLISHED_S = 30
"""How long a key is published before it signs, unless told: PyJWT's client, for one, looks for a new key that often."""

_PUBLISHED_MAX_S = 86_400
_OWN_FIELDS = frozenset(("secret", "private_key", "kid", "algorithm", "signs_from"))
_KID_BYTES = 16


class SigningKeyRotator:
    """Proposes signing keys.

    Args:
        algorithm: One of `ALGORITHMS`.
        published: How long a key is published before it signs.
        clock: When it is.
    """

    strategy = Strategy.OVERLAPPING
    target = "signing-key"
    identity: frozenset[str] = frozenset()

    def __init__(self, algorithm: str, published: timedelta, clock: Clock) -> None:
        """Propose nothing yet."""
        self._algorithm = algorithm
        self._published = published
        self._clock = clock

    def propose(self, run: Run, /) -> Candidate:
        """Return a new key, and the fields that are not its own as they are.

        Raises:
            InvalidRotation: The secret has no fields.
        """
        if run.current is not None and "" in run.current:
            message = "the secret has no fields, and a signing key is several"
            raise InvalidRotation(message, hint="rotate it at another path")
        others = {name: content for name, content in (run.current or {}).items() if name not in _OWN_FIELDS}
        made = {
            **_new_key(self._algorithm),
            "algorithm": self._algorithm,
            "signs_from": (self._now() + self._published).isoformat(timespec="microseconds"),
        }
        return Candidate({**others, **{name: Secret(text) for name, text in made.items()}})

    def apply(self, run: Run, /) -> None:
        """Tell nobody: it is published since it is stored."""

    def verify(self, value: Fields, run: Run, /) -> None:
        """Check that a key is one for its algorithm, and that a candidate was published long enough.

        Raises:
            CredentialRefused: It is not, or was not yet.
        """
        try:
            _check(value)
            if run.pending is not None and text_of(value, "kid") == text_of(run.pending, "kid"):
                self._check_published(value)
        except (Unfit, InvalidRotation) as problem:
            raise CredentialRefused(str(problem)) from None

    def retire(self, run: Run, /) -> None:
        """Tell nobody: it is published no longer when it is not `previous` any more."""

    def _check_published(self, value: Fields) -> None:
        try:
            since = datetime.fromisoformat(text_of(value, "signs_from").reveal())
            is_over = since <= self._now()
        except (ValueError, TypeError):  # no time, or none that says of which zone
            message = "`signs_from` is no time"
            raise Unfit(message) from None
        if not is_over:
            message = "verifiers have not had the time yet to see the key"
            raise Unfit(message)

    def _now(self) -> datetime:
        return to_datetime(self._clock.now_ns())


def from_options(options: Options, clock: Clock | None = None) -> SigningKeyRotator:
    """Return the rotator `signing-key`.

    Args:
        options: What it is told.
        clock: When it is; None for the system's.

    Raises:
        InvalidRotation: The options make no sense.
    """
    given = GivenOptions("signing-key", options)
    algorithm = given.choice("algorithm", ALGORITHMS, ALGORITHMS[0])
    published = timedelta(seconds=given.number("publish-s", PUBLISHED_S, 0, _PUBLISHED_MAX_S))
    given.finish()
    return SigningKeyRotator(algorithm, published, clock or SystemClock())


def _new_key(algorithm: str) -> dict[str, str]:
    if algorithm in HMAC_BYTES:
        # No thumbprint: that of a secret would be a hash of it in the header of every token (RFC 7638, section 7).
        return {"secret": secrets.token_urlsafe(HMAC_BYTES[algorithm]), "kid": secrets.token_urlsafe(_KID_BYTES)}
    key: PrivateKey
    if algorithm == "EdDSA":
        key = ed25519.Ed25519PrivateKey.generate()
    elif algorithm in EC_CURVES:
        key = ec.generate_private_key(EC_CURVES[algorithm][1])
    else:
        key = rsa.generate_private_key(65_537, RSA_BITS)
    return {"private_key": key_to_pem(key), "kid": key_id(key, algorithm)}


def _check(value: Fields) -> None:
    algorithm = text_of(value, "algorithm").reveal()
    if algorithm not in HMAC_BYTES:
        public_jwk(value)
        return
    if len(text_of(value, "secret").reveal().encode("utf-8", "replace")) < HMAC_BYTES[algorithm]:
        message = f"the secret of {algorithm} has fewer than {HMAC_BYTES[algorithm]} bytes"
        raise Unfit(message)
    if not text_of(value, "kid").reveal():
        message = "the key has no name"
        raise Unfit(message)
