"""Internal CAs for tests, right ones and wrong ones, made without the code that is tested."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from securecfg.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
SERVER = (ExtendedKeyUsageOID.SERVER_AUTH,)


class Ca(NamedTuple):
    """A certificate and its key."""

    key: CertificateIssuerPrivateKeyTypes
    certificate: x509.Certificate

    @property
    def key_pem(self) -> str:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    def options(self, *above: Ca, **more: str) -> dict[str, str | Secret[str] | Secret[bytes]]:
        """Return options of the rotator `tls`, with the certificates of who issued this one."""
        options: dict[str, str | Secret[str] | Secret[bytes]] = {
            "ca-key": Secret(self.key_pem),
            "ca-certificate": Secret(self.pem),
            "names": "a.shop.internal",
            **{name.replace("_", "-"): text for name, text in more.items()},
        }
        if above:
            options["ca-chain"] = Secret("".join(each.pem for each in above))
        return options


class Wrong(NamedTuple):
    """What is unusual about a certificate; nothing unless told."""

    is_ca: bool | None = True
    path_length: int | None = None
    signs: bool | None = True
    usages: Sequence[x509.ObjectIdentifier] = ()
    constraints: x509.NameConstraints | None = None
    begins: datetime = NOW - timedelta(days=30)
    ends: datetime = NOW + timedelta(days=365)
    extra: x509.UnrecognizedExtension | None = None
    subject: str = ""


RIGHT = Wrong()


def new_ca(
    issuer: Ca | None = None,
    wrong: Wrong = RIGHT,
    key: CertificateIssuerPrivateKeyTypes | None = None,
) -> Ca:
    """Return a CA that has issued itself, or that another one has issued."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    signer = issuer.key if issuer else key
    name = wrong.subject or ("Shop Issuing CA" if issuer else "Shop Root CA")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(wrong.begins)
        .not_valid_after(wrong.ends)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if wrong.is_ca is not None:
        constraints = x509.BasicConstraints(wrong.is_ca, wrong.path_length if wrong.is_ca else None)
        builder = builder.add_extension(constraints, critical=True)
    if wrong.signs is not None:
        builder = builder.add_extension(key_usage(key_cert_sign=wrong.signs), critical=True)
    if wrong.usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(list(wrong.usages)), critical=False)
    if wrong.constraints:
        builder = builder.add_extension(wrong.constraints, critical=True)
    if wrong.extra:
        builder = builder.add_extension(wrong.extra, critical=True)
    if issuer:
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
        builder = builder.add_extension(identifier, critical=False)
    is_edwards = isinstance(signer, ed25519.Ed25519PrivateKey)
    return Ca(key, builder.sign(signer, None if is_edwards else hashes.SHA256()))


def key_usage(*, key_cert_sign: bool) -> x509.KeyUsage:
    """Return the usage of a CA, or of something else."""
    return x509.KeyUsage(
        digital_signature=not key_cert_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=key_cert_sign,
        encipher_only=False,
        decipher_only=False,
    )
