"""Certificates of an internal authority: what may be issued by it, and whether something was (RFC 5280).

A path is a line here, never a graph: each certificate is issued by the next, and the last one is trusted. Revocation is
not checked, policies are not processed, and what the last certificate is signed with is not looked at.
"""

from __future__ import annotations

from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar, cast

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from securecfg.rotation.host_names import is_below
from securecfg.rotation.private_keys import Unfit, bounded_pem, check_strength

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from securecfg.rotation.host_names import Host
    from securecfg.rotation.private_keys import PrivateKey

_E = TypeVar("_E", bound=x509.ExtensionType)

Path = tuple[x509.Certificate, ...]
"""An issuer, who issued it, and so on; the last one is trusted."""

BACKDATED = timedelta(minutes=5)
"""How much earlier than now a certificate begins: for clients whose clocks are behind."""

_PATH_MAX = 8
_HASHES: Mapping[str, hashes.SHA256 | hashes.SHA384 | hashes.SHA512] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}
_MALFORMED = (
    ValueError,
    TypeError,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
_BROKEN_HASHES = (hashes.MD5, hashes.SHA1)
_UNDERSTOOD = frozenset(
    (
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.NAME_CONSTRAINTS,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
    )
)
"""Extensions that may be critical: what they say is held."""


def load_certificates(pem: str) -> Path:
    """Return the certificates of a PEM text in their order; none for a text that is empty.

    Raises:
        Unfit: Something else is there, or too many.
    """
    if not pem.strip():
        return ()
    try:
        found = tuple(x509.load_pem_x509_certificates(bounded_pem(pem)))
        for each in found:  # these are taken apart when they are asked for, and can be malformed until then
            _ = each.extensions, each.subject, each.issuer
    except (*_MALFORMED, CryptographyDeprecationWarning):  # a warning is an error where the program has said so
        message = "there is no certificate in PEM"
        raise Unfit(message) from None
    if any(each.serial_number <= 0 for each in found):
        message = "a certificate has a serial number that is none"
        raise Unfit(message)
    if len(found) > _PATH_MAX:
        message = f"there are more than {_PATH_MAX} certificates"
        raise Unfit(message)
    return found


def load_certificate(pem: str) -> x509.Certificate:
    """Return the one certificate of a PEM text.

    Raises:
        Unfit: There is none, or there are several.
    """
    found = load_certificates(pem)
    if len(found) != 1:
        message = f"there are {len(found)} certificates where one belongs"
        raise Unfit(message)
    return found[0]


def check_path(path: Path, usages: Iterable[x509.ObjectIdentifier]) -> None:
    """Check that each may issue what is before it, the first one certificates of hosts. Times are for `check_times`.

    Args:
        path: From the issuer to what is trusted.
        usages: What the certificates are for.

    Raises:
        Unfit: One is not a CA's, may not sign, not for these usages, or not so many below it; is weak; or was not
            issued by the next.
    """
    below = 0
    for place, certificate in enumerate(path, 1):
        _check_issuer(certificate, below, place)
        _check_usages(certificate, usages, f"certificate {place} of the CA")
        if certificate.issuer != certificate.subject:
            below += 1  # section 4.2.1.9: self-issued ones do not count
    for place, (issued, issuer) in enumerate(pairwise(path), 1):
        _check_issued(issued, issuer, f"certificate {place} of the CA")


def check_hosts(path: Path, hosts: Iterable[Host]) -> None:
    """Check that every certificate of a path permits names (section 4.2.1.10).

    A wildcard is refused where any name that it stands for is excluded.

    Raises:
        Unfit: One does not.
    """
    for place, certificate in enumerate(path, 1):
        constraints = _extension(certificate, x509.NameConstraints)
        if constraints is not None and not all(_is_permitted(host, constraints) for host in hosts):
            message = f"certificate {place} of the CA does not permit one of the names"
            raise Unfit(message)


def check_times(path: Iterable[x509.Certificate], now: datetime) -> None:
    """Check that all have begun and none has ended.

    Raises:
        Unfit: One has not, or has.
    """
    for certificate in path:
        if now < certificate.not_valid_before_utc:
            message = f"a certificate begins only at {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC"
            raise Unfit(message)
        if now > certificate.not_valid_after_utc:
            message = f"a certificate has ended at {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
            raise Unfit(message)


def check_leaf(leaf: x509.Certificate, issuer: x509.Certificate, usages: Iterable[x509.ObjectIdentifier]) -> None:
    """Check that a certificate was issued by another one, for a host rather than a CA, and for these usages.

    Raises:
        Unfit: It was not.
    """
    _check_critical(leaf, "the certificate")
    check_strength(_public_key(leaf))
    constraints = _extension(leaf, x509.BasicConstraints)
    if constraints is not None and constraints.ca:
        message = "the certificate is one of a CA"
        raise Unfit(message)
    usage = _extension(leaf, x509.KeyUsage)
    if usage is not None and not usage.digital_signature:
        message = "the certificate is not for signatures"
        raise Unfit(message)
    _check_usages(leaf, usages, "the certificate")
    _check_issued(leaf, issuer, "the certificate")


def hosts_of(leaf: x509.Certificate) -> frozenset[Host]:
    """Return the names that a certificate is for, DNS names in lower case."""
    names = _extension(leaf, x509.SubjectAlternativeName)
    if names is None:
        return frozenset()
    addresses = cast("Sequence[Host]", names.get_values_for_type(x509.IPAddress))
    return frozenset([*(name.lower() for name in names.get_values_for_type(x509.DNSName)), *addresses])


def without_root(path: Path) -> Path:
    """Return what a server sends along: not a last one that has issued itself, which clients have."""
    return path[:-1] if path and path[-1].issuer == path[-1].subject else path


def issue(
    key: PrivateKey,
    authority: tuple[PrivateKey, x509.Certificate],
    hosts: Iterable[Host],
    usages: Iterable[x509.ObjectIdentifier],
    window: tuple[datetime, datetime],
) -> x509.Certificate:
    """Return a new certificate of a host. What it may say is checked by `check_path`, `check_hosts` and `check_times`.

    It has no subject: names of hosts are in the extension that is for them, which is therefore critical
    (section 4.1.2.6). Its serial number has 159 random bits.

    Args:
        key: The host's.
        authority: The key and the certificate of who issues it.
        hosts: Its names.
        usages: What it is for.
        window: When it begins and ends.
    """
    issuer_key, issuer = authority
    known = _extension(issuer, x509.SubjectKeyIdentifier)
    identifier = (
        x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
        if known is None
        else x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(known)
    )
    names = [x509.DNSName(host) if isinstance(host, str) else x509.IPAddress(host) for host in hosts]
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(window[0])
        .not_valid_after(window[1])
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_ONLY_SIGNATURES, critical=True)
        .add_extension(x509.ExtendedKeyUsage(list(usages)), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(identifier, critical=False)
    )
    return builder.sign(issuer_key, _hash_for(issuer_key))


# Keys agree by (EC)DHE in TLS 1.2 and 1.3, for which a signature is all that is needed of them.
_ONLY_SIGNATURES = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)


def _hash_for(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384 | hashes.SHA512 | None:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return None
    return _HASHES[key.curve.name] if isinstance(key, ec.EllipticCurvePrivateKey) else hashes.SHA256()


def _check_issuer(certificate: x509.Certificate, below: int, place: int) -> None:
    _check_critical(certificate, f"certificate {place} of the CA")
    check_strength(_public_key(certificate))
    constraints = _extension(certificate, x509.BasicConstraints)
    if constraints is None or not constraints.ca:
        message = f"certificate {place} of the CA is not one of a CA"
        raise Unfit(message)
    if constraints.path_length is not None and constraints.path_length < below:
        message = f"certificate {place} of the CA permits no more than {constraints.path_length} below it"
        raise Unfit(message)
    usage = _extension(certificate, x509.KeyUsage)
    if usage is not None and not usage.key_cert_sign:
        message = f"certificate {place} of the CA is not for signing certificates"
        raise Unfit(message)


def _check_critical(certificate: x509.Certificate, what: str) -> None:
    if not all(each.oid in _UNDERSTOOD for each in certificate.extensions if each.critical):
        message = f"{what} demands what is not understood here: a critical extension"
        raise Unfit(message)


def _check_usages(certificate: x509.Certificate, usages: Iterable[x509.ObjectIdentifier], what: str) -> None:
    permitted = _extension(certificate, x509.ExtendedKeyUsage)
    if permitted is None or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in permitted:
        return
    if not all(usage in permitted for usage in usages):
        message = f"{what} is for another usage"
        raise Unfit(message)


def _check_issued(issued: x509.Certificate, issuer: x509.Certificate, what: str) -> None:
    try:
        if isinstance(issued.signature_hash_algorithm, _BROKEN_HASHES):
            message = f"{what} is signed with a hash that is broken"
            raise Unfit(message)
        issued.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        message = f"{what} was not issued by the next one"
        raise Unfit(message) from None


def _public_key(certificate: x509.Certificate) -> object:
    try:
        return certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None


def _extension(certificate: x509.Certificate, kind: type[_E]) -> _E | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _is_permitted(host: Host, constraints: x509.NameConstraints) -> bool:
    kind = x509.DNSName if isinstance(host, str) else x509.IPAddress
    permitted = [each.value for each in constraints.permitted_subtrees or () if isinstance(each, kind)]
    excluded = [each.value for each in constraints.excluded_subtrees or () if isinstance(each, kind)]
    if permitted and not any(_lies_in(host, each) for each in permitted):
        return False
    return not any(_lies_in(host, each) or _may_stand_for(host, each) for each in excluded)


def _lies_in(host: Host, subtree: object) -> bool:
    if isinstance(host, str) and isinstance(subtree, str):
        domain = subtree.lower()
        # Empty is every name; with a `.` before it, which is common and not in the standard, only what is below it.
        return not domain or (host.endswith(domain) if domain.startswith(".") else is_below(host, domain))
    return isinstance(subtree, IPv4Network | IPv6Network) and host in subtree


def _may_stand_for(host: Host, subtree: object) -> bool:
    if isinstance(host, str) and isinstance(subtree, str) and host.startswith("*."):
        return is_below(subtree.lower().removeprefix("."), host.removeprefix("*."))
    return False
