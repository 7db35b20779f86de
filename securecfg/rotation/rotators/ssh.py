"""SSH certificates of users and hosts, signed by an authority whose key lies in the vault.

Nobody is told of a new certificate: whoever trusts the authority takes it. Nobody can be told of an old one either,
short of a list of revoked keys on each server; it ends by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.hazmat.primitives.serialization.ssh import SSHCertificate, load_ssh_public_identity

from securecfg.clock import SystemClock, to_datetime
from securecfg.crypto.ssh_keys import load_private_key
from securecfg.errors import (
    CandidateRejected,
    CredentialRefused,
    InvalidRotation,
    InvalidSigningKey,
    PrivilegeMissing,
    Unsupported,
)
from securecfg.rotation.interface import Candidate, Strategy
from securecfg.rotation.options import GivenOptions
from securecfg.rotation.ssh_grants import take_grant
from securecfg.rotation.values import is_current, text_of
from securecfg.secret import Secret

if TYPE_CHECKING:
    from securecfg.clock import Clock
    from securecfg.crypto.ssh_keys import PrivateKey, PublicKey
    from securecfg.rotation.interface import Fields, Options, Run
    from securecfg.rotation.ssh_grants import Grant

FIELDS = ("private_key", "certificate", "public_key")
BACKDATED_S = 300
"""By how much a certificate begins earlier than now, for servers whose clocks are slow."""

_NS = 1_000_000_000
_SERIAL_DIGITS = 16
_KEY_TYPES = ("ed25519", "ecdsa-p256")


class SshRotator:
    """Makes a new key pair each time, and certifies it.

    Args:
        authority: The private key of the authority.
        grant: What a certificate says of its holder.
        key_type: One of `ed25519` and `ecdsa-p256`.
        clock: What time it is.
    """

    strategy = Strategy.LEASED
    target = "ssh"
    identity: frozenset[str] = frozenset()

    def __init__(self, authority: PrivateKey, grant: Grant, key_type: str, clock: Clock) -> None:
        """Sign nothing yet."""
        self._authority = authority
        self._grant = grant
        self._key_type = key_type
        self._clock = clock

    def propose(self, run: Run, /) -> Candidate:
        """Return a key pair with a certificate, and the other fields as they are.

        Raises:
            InvalidRotation: The secret has no fields.
        """
        current = run.current or {}
        if "" in current:
            message = "the secret has no fields"
            raise InvalidRotation(message, hint=f"the rotator `ssh` keeps {', '.join(FIELDS)}: take another path")
        key = Ed25519PrivateKey.generate() if self._key_type == "ed25519" else ec.generate_private_key(ec.SECP256R1())
        now_s = self._clock.now_ns() // _NS
        ends_s = now_s + int(self._grant.lifetime.total_seconds())
        certificate = (
            self._grant.builder()
            .public_key(key.public_key())
            .serial(int(run.token[:_SERIAL_DIGITS], 16))
            .key_id(f"securecfg-{run.token}".encode())
            .valid_after(now_s - BACKDATED_S)
            .valid_before(ends_s)
            .sign(self._authority)
        )
        pair = {
            "private_key": Secret(key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()),
            "certificate": Secret(certificate.public_bytes().decode()),
            "public_key": Secret(_line(key.public_key()).decode()),
        }
        return Candidate({**current, **pair}, to_datetime(ends_s * _NS))

    def apply(self, run: Run, /) -> None:
        """Tell nobody.

        Raises:
            CandidateRejected: The candidate has ended meanwhile, or is not what the options say any more.
        """
        try:
            self.verify(run.pending or {}, run)
        except (CredentialRefused, PrivilegeMissing):
            message = "the certificate has ended, or is not what the rotation is for"
            raise CandidateRejected(message) from None

    def verify(self, value: Fields, run: Run, /) -> None:
        """Check a certificate as a server would that trusts the authority.

        1. The three fields can be read, and belong to one key.
        2. The authority has signed it.
        3. It has begun and has not ended.
        4. It says of its holder what the options say: kind, principals, critical options, extensions.

        What is current may have ended, and is left as it is: a run over it could else be neither ended nor taken back.

        Raises:
            CredentialRefused: One of the first three does not hold.
            PrivilegeMissing: The fourth does not.
        """
        if is_current(value, run):
            return
        certificate = _parse_certificate(value)
        if _line(certificate.signature_key()) != _line(self._authority.public_key()):
            message = "the certificate is of another authority"
            raise CredentialRefused(message)
        if not certificate.valid_after <= self._clock.now_ns() // _NS < certificate.valid_before:
            message = "the certificate has not begun, or has ended"
            raise CredentialRefused(message)
        if not self._grant.is_of(certificate):
            message = "the certificate says of its holder something else than the rotation"
            raise PrivilegeMissing(message, hint="the options were changed: a new certificate says what they say")

    def retire(self, run: Run, /) -> None:
        """Leave the old certificate to its end."""


def from_options(options: Options) -> SshRotator:
    """Return the rotator `ssh`.

    Raises:
        InvalidRotation: The options make no sense, or the authority's key cannot sign certificates.
    """
    given = GivenOptions("ssh", options)
    key_text = given.secret("ca-key")
    grant, key_type = take_grant(given), given.choice("key-type", _KEY_TYPES, "ed25519")
    given.finish()
    if key_text is None:
        message = "the option `ca-key` of the rotator `ssh` is needed"
        raise InvalidRotation(message, hint="such as `${secret:ssh/user-ca}`")
    return SshRotator(_load_authority(key_text), grant, key_type, SystemClock())


def _load_authority(text: Secret[str]) -> PrivateKey:
    try:
        return load_private_key(text.reveal().encode(), None)
    except (InvalidSigningKey, Unsupported, ValueError):
        message = "the option `ca-key` of the rotator `ssh` refers to no private key that can sign certificates"
        hint = "`ssh-keygen -t ed25519` makes one; the vault protects it, so it has no passphrase"
        raise InvalidRotation(message, hint=hint) from None


def _parse_certificate(value: Fields) -> SSHCertificate:
    """Return the certificate in a value, of which it is certain that its authority signed it, and for this key.

    Raises:
        CredentialRefused: It is not so.
    """
    try:
        private, certified, public = (text_of(value, field).reveal().encode() for field in FIELDS)
        certificate = load_ssh_public_identity(certified)
        key = _line(load_private_key(private, None).public_key())
        if isinstance(certificate, SSHCertificate):
            certificate.verify_cert_signature()
            if _line(certificate.public_key()) == key == public:
                return certificate
    except (InvalidRotation, InvalidSigningKey, InvalidSignature, Unsupported, UnsupportedAlgorithm, ValueError):
        pass  # all are one failure; what was wrong would be told from parts of the value
    message = "there is no private key with a signed certificate and the public key that belong to it"
    raise CredentialRefused(message)


def _line(key: PublicKey) -> bytes:
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
