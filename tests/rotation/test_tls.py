"""The rotator `tls`: what it refuses to issue, what it issues, and what clients and OpenSSL say of that."""

from __future__ import annotations

import base64
import random
import socket
import ssl
import subprocess
import threading
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, NamedTuple, Self

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from securecfg import Vault
from securecfg.clock import to_ns
from securecfg.errors import CredentialRefused, InvalidRotation
from securecfg.keys import generate_key_file
from securecfg.rotation import ChecksPrivileges, Run, open_rotator
from securecfg.rotation.private_keys import PEM_BYTES_MAX
from securecfg.rotation.rotators.tls import from_options
from securecfg.secret import Secret
from securecfg.testing.rotator_conformance import RotatorConformance, plain
from tests.rotation.authority import NOW, RIGHT, SERVER, Ca, Wrong, new_ca

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes

    from securecfg.rotation import Candidate, Fields, Options, Rotator
    from securecfg.rotation.rotators.tls import TlsRotator

DAY = timedelta(days=1)


class _At(NamedTuple):
    """A clock that stands still."""

    when: datetime = NOW

    def now_ns(self) -> int:
        return to_ns(self.when)


@pytest.fixture(scope="module")
def root() -> Ca:
    return new_ca()


@pytest.fixture(scope="module")
def issuing(root: Ca) -> Ca:
    return new_ca(root, Wrong(path_length=0))


def _rotator(options: Options, when: datetime = NOW) -> TlsRotator:
    return from_options(options, _At(when))


def _run(current: Fields | None = None) -> Run:
    return Run("a1" * 16, NOW, 1.0, current)


def _fields(candidate: Candidate) -> Fields:
    assert not isinstance(candidate.value, Secret)
    return candidate.value


def _made(options: Options, when: datetime = NOW) -> dict[str, str]:
    value = plain(_fields(_rotator(options, when).propose(_run())))
    return {name: content for name, content in value.items() if isinstance(content, str)}


def _leaf(value: Mapping[str, str]) -> x509.Certificate:
    return x509.load_pem_x509_certificate(value["certificate"].encode())


def _refusal(options: Options) -> str:
    with pytest.raises(InvalidRotation) as caught:
        from_options(options, _At())
    assert caught.value.code == "invalid-rotation"
    assert caught.value.__cause__ is None
    return f"{caught.value} {caught.value.hint}"


# --- the contract -----------------------------------------------------------------------------------------------------


class _Clients:
    """Who trusts the root, and needs to be told of no certificate."""

    is_remote = False

    def __init__(self, options: Options, root: Ca) -> None:
        self.options = options
        self.current = _fields(from_options(options).propose(_run()))
        self._root = root.certificate

    def accepts(self, value: Fields, /) -> bool:
        texts = {name: content for name, content in plain(value).items() if isinstance(content, str)}
        verifier = PolicyBuilder().store(Store([self._root])).build_server_verifier(x509.DNSName("a.shop.internal"))
        chain = x509.load_pem_x509_certificates(texts["chain"].encode()) if texts["chain"] else []
        try:
            verifier.verify(_leaf(texts), chain)
        except VerificationError:
            return False
        return True

    def cut_off(self) -> None:
        """Nothing is reached."""

    def restore(self) -> None:
        """Nothing was reached."""


class TestTls(RotatorConformance):
    def make(self, options: Options) -> Rotator:
        return from_options(options)

    @pytest.fixture(params=["from the root", "from an intermediate"])
    def target(self, request: pytest.FixtureRequest) -> _Clients:
        today = Wrong(begins=datetime.now(UTC) - DAY, ends=datetime.now(UTC) + 100 * DAY)
        root = new_ca(None, today)
        if request.param == "from the root":
            return _Clients(root.options(), root)
        return _Clients(new_ca(root, today).options(root), root)


def test_is_found_by_its_name(root: Ca) -> None:
    rotator = open_rotator("tls", root.options())
    assert rotator.strategy == "leased"
    assert isinstance(rotator, ChecksPrivileges)


# --- what is no CA, or may not issue this -----------------------------------------------------------------------------

GARBAGE = (
    "",
    " ",
    "canary",
    "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
    "-----BEGIN CERTIFICATE-----\nY2FuYXJ5\n-----END CERTIFICATE-----\n",
    "-----BEGIN PRIVATE KEY-----\nY2FuYXJ5\n-----END PRIVATE KEY-----\n",
    "-----BEGIN CERTIFICATE-----\n",
    "\x00\ud800canary",
    "canary" * PEM_BYTES_MAX,
)


@pytest.mark.parametrize("option", ["ca-key", "ca-certificate", "ca-chain"])
@pytest.mark.parametrize("pem", GARBAGE, ids=lambda pem: ascii(pem[:12]))
def test_refuses_what_is_no_key_and_no_certificate(root: Ca, option: str, pem: str) -> None:
    if option == "ca-chain" and not pem.strip():
        pytest.skip("not applicable: there may be nobody above")
    assert "canary" not in _refusal({**root.options(), option: Secret(pem)})


def test_refuses_pem_that_was_cut_or_altered(root: Ca) -> None:
    lines = root.pem.splitlines(keepends=True)
    for damaged in (
        "".join(lines[:-1]),
        "".join(lines[:3] + lines[4:]),
        root.pem.replace("MII", "MIJ", 1),
        root.key_pem,
    ):
        _refusal({**root.options(), "ca-certificate": Secret(damaged)})
    _refusal({**root.options(), "ca-key": Secret(root.pem)})
    _refusal({**root.options(), "ca-key": Secret(root.key_pem[:-60])})


def test_refuses_a_certificate_whose_subject_is_no_text(root: Ca) -> None:
    der = root.certificate.public_bytes(Encoding.DER)
    common_name = bytes.fromhex("0603550403")
    bits = der.replace(common_name + b"\x0c", common_name + b"\x03")
    assert bits != der
    assert "no certificate in PEM" in _refusal({**root.options(), "ca-certificate": Secret(_to_pem(bits))})


def test_refuses_a_negative_serial_number_whether_or_not_warnings_are_errors(root: Ca) -> None:
    number = root.certificate.serial_number
    serial = number.to_bytes(number.bit_length() // 8 + 1)
    der = root.certificate.public_bytes(Encoding.DER).replace(serial, b"\x80" + serial[1:])
    options = {**root.options(), "ca-certificate": Secret(_to_pem(der))}
    assert "no certificate in PEM" in _refusal(options)
    with pytest.warns(UserWarning, match="Parsed a serial number"):
        assert "serial number" in _refusal(options)


def test_what_was_altered_anywhere_is_refused_by_an_error_of_its_own(root: Ca, issuing: Ca) -> None:
    options = issuing.options(root)
    rotator = _rotator(options)
    value = _fields(rotator.propose(_run()))
    leaf = _leaf({"certificate": str(value["certificate"].reveal())}).public_bytes(Encoding.DER)
    ca = issuing.certificate.public_bytes(Encoding.DER)
    chosen = random.Random(20_260_601)
    for _ in range(300):
        with pytest.raises(CredentialRefused):
            rotator.verify({**value, "certificate": Secret(_to_pem(_altered(leaf, chosen)))}, _run())
        _refusal({**options, "ca-certificate": Secret(_to_pem(_altered(ca, chosen)))})


@pytest.mark.parametrize("option", ["ca-key", "ca-certificate"])
def test_needs_a_key_and_a_certificate_by_reference(root: Ca, option: str) -> None:
    assert option in _refusal({name: value for name, value in root.options().items() if name != option})
    assert "reference" in _refusal({**root.options(), option: root.pem})
    _refusal({**root.options(), option: Secret(root.pem.encode())})


def test_refuses_several_certificates_where_one_belongs(root: Ca, issuing: Ca) -> None:
    assert "2 certificates" in _refusal({**root.options(), "ca-certificate": Secret(issuing.pem + root.pem)})
    assert "more than" in _refusal({**root.options(), "ca-chain": Secret(root.pem * 9)})


def test_refuses_a_key_behind_a_passphrase(root: Ca) -> None:
    sealed = root.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"canary")).decode()
    assert "passphrase" in _refusal({**root.options(), "ca-key": Secret(sealed)})


def test_refuses_the_key_of_another_ca(root: Ca) -> None:
    said = _refusal({**root.options(), "ca-key": Secret(new_ca().key_pem)})
    assert "is not the key" in said


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (Wrong(is_ca=False), "is not one of a CA"),
        (Wrong(is_ca=None), "is not one of a CA"),
        (Wrong(signs=False), "is not for signing certificates"),
        (Wrong(usages=(ExtendedKeyUsageOID.CODE_SIGNING,)), "is for another usage"),
        (Wrong(usages=(ExtendedKeyUsageOID.CLIENT_AUTH,)), "is for another usage"),
        (Wrong(extra=x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"\x05\x00")), "critical extension"),
    ],
)
def test_refuses_a_ca_that_may_not_issue(root: Ca, wrong: Wrong, reason: str) -> None:
    assert reason in _refusal(new_ca(None, wrong).options())
    below = new_ca(root, wrong)
    assert reason in _refusal(below.options(root))
    assert reason in _refusal(new_ca(new_ca(None, wrong)).options(new_ca(None, wrong)))


def test_takes_a_ca_that_openssl_makes_without_being_told_more() -> None:
    from_options(new_ca(None, Wrong(signs=None)).options())
    from_options(new_ca(None, Wrong(usages=(ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,))).options())


@pytest.mark.parametrize(
    "make",
    [
        lambda: rsa.generate_private_key(65_537, 1_024),  # noqa: S505 - refused
        lambda: dsa.generate_private_key(1_024),  # noqa: S505 - refused
        lambda: ec.generate_private_key(ec.SECP256K1()),
        ed448.Ed448PrivateKey.generate,
    ],
    ids=["rsa-1024", "dsa", "secp256k1", "ed448"],
)
def test_refuses_keys_that_are_weak_or_of_a_kind_that_clients_do_not_take(
    root: Ca, make: Callable[[], CertificateIssuerPrivateKeyTypes]
) -> None:
    key = make()
    pem = Ca(key, root.certificate).key_pem
    assert "a key is" in _refusal({**root.options(), "ca-key": Secret(pem)})


def test_refuses_a_weak_key_above() -> None:
    weak = new_ca(None, RIGHT, rsa.generate_private_key(65_537, 1_024))  # noqa: S505 - refused
    assert "a key is" in _refusal(new_ca(weak).options(weak))


def test_refuses_a_path_that_does_not_hold_together(root: Ca, issuing: Ca) -> None:
    other = new_ca()
    assert "not issued by the next" in _refusal(issuing.options(other))  # of the same name, with another key
    assert "not issued by the next" in _refusal(issuing.options(new_ca(None, Wrong(subject="Another Root"))))
    assert "not issued by the next" in _refusal(new_ca(root).options(root, new_ca(root)))
    assert "not issued by the next" in _refusal(root.options(issuing))


def test_refuses_a_path_that_is_signed_with_a_broken_hash(root: Ca) -> None:
    # SHA-1 cannot be asked for any more; a certificate that says so must be refused before its signature is looked at.
    der = new_ca(root).certificate.public_bytes(Encoding.DER)
    ecdsa_with = bytes.fromhex("06082a8648ce3d0403"), bytes.fromhex("06072a8648ce3d0401")
    assert der.count(ecdsa_with[0]) == 2
    sha1 = b"".join(_shorter(der, ecdsa_with))
    issued = x509.load_der_x509_certificate(sha1)
    assert isinstance(issued.signature_hash_algorithm, hashes.SHA1)
    pem = issued.public_bytes(Encoding.PEM).decode()
    above = Secret(root.pem)
    said = _refusal({**root.options(), "ca-certificate": Secret(pem), "ca-chain": above})
    assert "hash that is broken" in said


def test_refuses_more_below_a_ca_than_it_permits() -> None:
    top = new_ca(None, Wrong(path_length=0, subject="Top"))
    from_options(top.options())
    middle = new_ca(top, Wrong(subject="Middle"))
    assert "permits no more than 0" in _refusal(middle.options(top))
    top = new_ca(None, Wrong(path_length=1, subject="Top"))
    middle = new_ca(top, Wrong(subject="Middle"))
    from_options(middle.options(top))
    bottom = new_ca(middle, Wrong(subject="Bottom"))
    assert "permits no more than 1" in _refusal(bottom.options(middle, top))
    # A CA that has renewed itself under the same name does not count.
    renewed = new_ca(top, Wrong(subject="Top"))
    from_options(new_ca(renewed, Wrong(subject="Middle")).options(renewed, top))


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("names", ["", "bücher.internal", "*", "*.internal", "a_b.internal", "::", "10.0.0.0/8"])
def test_refuses_what_is_no_name_of_a_host(root: Ca, names: str) -> None:
    _refusal(root.options(names=names))


@pytest.mark.parametrize(
    ("names", "allowed"),
    [
        ("a.shop.internal,evil.example", "shop.internal"),
        ("notshop.internal", "shop.internal"),
        ("*.shop.internal", "a.shop.internal"),
        ("10.0.0.1", "shop.internal"),
        ("10.0.0.1", "192.0.2.0/24"),
        ("a.shop.internal", "10.0.0.0/8"),
        ("a.shop.internal", ""),
        ("a.shop.internal", "*.shop.internal"),
    ],
)
def test_refuses_names_outside_of_what_is_allowed(root: Ca, names: str, allowed: str) -> None:
    _refusal(root.options(names=names, allowed_names=allowed))


PERMITTED = (x509.DNSName("shop.internal"), x509.IPAddress(ip_network("10.0.0.0/8")))
EXCLUDED = (x509.DNSName("Pay.shop.internal"), x509.IPAddress(ip_network("10.9.0.0/16")))


@pytest.mark.parametrize(
    ("name", "is_permitted"),
    [
        ("shop.internal", True),
        ("a.shop.internal", True),
        ("*.a.shop.internal", True),
        ("notshop.internal", False),
        ("evil.example", False),
        ("pay.shop.internal", False),
        ("a.pay.shop.internal", False),
        ("*.shop.internal", False),  # stands for `pay.shop.internal` too
        ("10.1.0.1", True),
        ("10.9.0.1", False),
        ("11.0.0.1", False),
        ("::1", False),
    ],
)
@pytest.mark.parametrize("of", ["the issuer", "the root"])
def test_keeps_to_the_names_that_the_ca_permits(name: str, is_permitted: bool, of: str) -> None:
    constrained = Wrong(constraints=x509.NameConstraints(PERMITTED, EXCLUDED))
    root = new_ca(None, constrained if of == "the root" else RIGHT)
    issuing = new_ca(root, constrained if of == "the issuer" else RIGHT)
    options = issuing.options(root, names=name)
    if is_permitted:
        from_options(options)
    else:
        assert "does not permit" in _refusal(options)


@pytest.mark.parametrize(
    ("subtree", "name", "is_permitted"),
    [
        (".shop.internal", "a.shop.internal", True),
        (".shop.internal", "shop.internal", False),
        ("", "a.shop.internal", True),
        ("SHOP.internal", "a.shop.internal", True),
        ("shop.internal", "10.0.0.1", True),
    ],
)
def test_takes_the_forms_of_name_constraints_that_there_are(subtree: str, name: str, is_permitted: bool) -> None:
    ca = new_ca(None, Wrong(constraints=x509.NameConstraints([x509.DNSName(subtree)], None)))
    if is_permitted:
        from_options(ca.options(names=name))
    else:
        _refusal(ca.options(names=name))


def test_an_empty_subtree_that_is_excluded_excludes_every_name() -> None:
    ca = new_ca(None, Wrong(constraints=x509.NameConstraints(None, [x509.DNSName("")])))
    _refusal(ca.options(names="a.shop.internal"))
    from_options(ca.options(names="10.0.0.1"))


def test_other_kinds_of_names_do_not_matter() -> None:
    person = x509.DirectoryName(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "somebody")]))
    ca = new_ca(None, Wrong(constraints=x509.NameConstraints([person], None)))
    from_options(ca.options())


@pytest.mark.parametrize(
    "more",
    [
        {"days": "0"},
        {"days": "826"},
        {"days": "soon"},
        {"key_type": "rsa-1024"},
        {"key_type": "ECDSA-P256"},
        {"usage": "code-signing"},
        {"usage": ""},
        {"crl": "yes"},
    ],
)
def test_refuses_other_options_that_make_no_sense(root: Ca, more: dict[str, str]) -> None:
    _refusal(root.options(**more))


# --- times ------------------------------------------------------------------------------------------------------------


def test_a_ca_that_has_ended_issues_nothing(root: Ca, issuing: Ca) -> None:
    late = root.certificate.not_valid_after_utc + timedelta(seconds=1)
    for options in (root.options(), issuing.options(root)):
        rotator = _rotator(options, late)
        with pytest.raises(InvalidRotation, match="has ended"):
            rotator.propose(_run())
        assert "has ended" in rotator.check(_run())[0]


def test_a_ca_that_has_not_begun_issues_nothing(root: Ca) -> None:
    rotator = _rotator(root.options(), root.certificate.not_valid_before_utc - timedelta(seconds=1))
    with pytest.raises(InvalidRotation, match="begins only"):
        rotator.propose(_run())
    assert "begins only" in rotator.check(_run())[0]


def test_a_ca_issues_nothing_in_its_last_hour(root: Ca, issuing: Ca) -> None:
    ends = root.certificate.not_valid_after_utc
    _rotator(root.options(), ends - timedelta(hours=1)).propose(_run())
    late = _rotator(issuing.options(root), ends - timedelta(minutes=59))
    with pytest.raises(InvalidRotation, match="within the hour"):
        late.propose(_run())
    assert "within the hour" in late.check(_run())[0]


def test_begins_five_minutes_ago_and_ends_after_the_days_that_were_asked_for(root: Ca) -> None:
    rotator = _rotator(root.options(days="7"))
    candidate = rotator.propose(_run())
    leaf = _leaf({name: str(content) for name, content in plain(_fields(candidate)).items()})
    assert leaf.not_valid_before_utc == NOW - timedelta(minutes=5)
    assert leaf.not_valid_after_utc == NOW + 7 * DAY == candidate.ends
    assert rotator.check(_run()) == []


def test_is_never_good_before_or_beyond_its_ca(root: Ca) -> None:
    brief = new_ca(root, Wrong(begins=NOW - timedelta(minutes=1), ends=NOW + 3 * DAY))
    rotator = _rotator(brief.options(root, days="30"))
    candidate = rotator.propose(_run())
    leaf = _leaf({name: str(content) for name, content in plain(_fields(candidate)).items()})
    assert leaf.not_valid_before_utc == NOW - timedelta(minutes=1)
    assert leaf.not_valid_after_utc == NOW + 3 * DAY == candidate.ends
    [said] = rotator.check(_run())
    assert "2026-06-04" in said


def test_is_never_good_beyond_the_root() -> None:
    root = new_ca(None, Wrong(ends=NOW + 3 * DAY))
    value = _made(new_ca(root).options(root))
    assert _leaf(value).not_valid_after_utc == NOW + 3 * DAY


# --- what is made -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key_type", ["ecdsa-p256", "ed25519", "rsa-3072"])
def test_the_certificate_says_what_it_is_for_and_no_more(issuing: Ca, root: Ca, key_type: str) -> None:
    names = "a.shop.internal,*.web.shop.internal,10.0.0.7,::1"
    value = _made(issuing.options(root, names=names, key_type=key_type))
    leaf = _leaf(value)
    assert leaf.version is x509.Version.v3
    assert leaf.subject == x509.Name([])
    found = leaf.extensions
    alternative = found.get_extension_for_class(x509.SubjectAlternativeName)
    assert alternative.critical
    assert alternative.value.get_values_for_type(x509.DNSName) == ["a.shop.internal", "*.web.shop.internal"]
    assert alternative.value.get_values_for_type(x509.IPAddress) == [ip_address("10.0.0.7"), ip_address("::1")]
    basic = found.get_extension_for_class(x509.BasicConstraints)
    assert basic.critical
    assert not basic.value.ca
    usage = found.get_extension_for_class(x509.KeyUsage)
    assert usage.critical
    assert usage.value.digital_signature
    assert not any((usage.value.key_cert_sign, usage.value.crl_sign, usage.value.key_encipherment))
    assert list(found.get_extension_for_class(x509.ExtendedKeyUsage).value) == list(SERVER)
    assert leaf.serial_number.bit_length() > 64
    assert value["serial"] == f"{leaf.serial_number:040x}"
    assert value["private_key"].startswith("-----BEGIN PRIVATE KEY-----\n")
    assert value["chain"] == issuing.pem


def test_each_has_a_key_and_a_serial_number_of_its_own(root: Ca) -> None:
    made = [_made(root.options()) for _ in range(20)]
    assert len({value["private_key"] for value in made}) == 20
    assert len({value["serial"] for value in made}) == 20


def test_a_root_is_not_sent_along(root: Ca) -> None:
    assert _made(root.options())["chain"] == ""


@pytest.mark.parametrize("usage", ["client", "server,client"])
def test_can_be_for_clients(root: Ca, usage: str) -> None:
    options = root.options(usage=usage)
    value = _made(options)
    builder = PolicyBuilder().store(Store([root.certificate])).time(NOW)
    builder.build_client_verifier().verify(_leaf(value), [])
    server = builder.build_server_verifier(x509.DNSName("a.shop.internal"))
    if usage == "client":
        with pytest.raises(VerificationError):
            server.verify(_leaf(value), [])
    else:
        server.verify(_leaf(value), [])


def test_leaves_other_fields_alone(root: Ca) -> None:
    current: Fields = {"owner": Secret("team-web"), "private_key": Secret("old")}
    value = plain(_fields(_rotator(root.options()).propose(_run(current))))
    assert value["owner"] == "team-web"
    assert value["private_key"] != "old"


def test_replaces_no_value_that_has_no_fields(root: Ca) -> None:
    with pytest.raises(InvalidRotation):
        _rotator(root.options()).propose(_run({"": Secret("old")}))


@pytest.mark.parametrize(
    "ca_key",
    [
        rsa.generate_private_key(65_537, 2_048),
        ec.generate_private_key(ec.SECP384R1()),
        ec.generate_private_key(ec.SECP521R1()),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["rsa", "p384", "p521", "ed25519"],
)
@pytest.mark.parametrize("key_type", ["ecdsa-p256", "ed25519"])
def test_openssl_takes_what_is_issued(
    program: Callable[[str], str], tmp_path: Path, ca_key: CertificateIssuerPrivateKeyTypes, key_type: str
) -> None:
    openssl = program("openssl")
    root = new_ca(None, Wrong(constraints=x509.NameConstraints(PERMITTED, None)), ca_key)
    issuing = new_ca(root, Wrong(path_length=0))
    value = _made(issuing.options(root, names="a.shop.internal,10.0.0.7", key_type=key_type))
    (tmp_path / "root.pem").write_text(root.pem)
    (tmp_path / "chain.pem").write_text(value["chain"])
    (tmp_path / "leaf.pem").write_text(value["certificate"])
    command = [openssl, "verify", "-x509_strict", "-purpose", "sslserver", "-attime", str(int(NOW.timestamp()))]
    command += ["-CAfile", "root.pem", "-untrusted", "chain.pem"]
    for name in (["-verify_hostname", "a.shop.internal"], ["-verify_ip", "10.0.0.7"]):
        subprocess.run([*command, *name, "leaf.pem"], cwd=tmp_path, check=True, capture_output=True, timeout=20)
    wrong = subprocess.run(
        [*command, "-verify_hostname", "b.shop.internal", "leaf.pem"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        timeout=20,
    )
    assert wrong.returncode


# --- what is verified -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "content"),
    [
        *(("private_key", pem) for pem in GARBAGE),
        *(("certificate", pem) for pem in GARBAGE),
        *(("chain", pem) for pem in GARBAGE if pem.strip()),
    ],
)
def test_accepts_no_garbage_for_a_value(root: Ca, field: str, content: str) -> None:
    rotator = _rotator(root.options())
    value = {**_fields(rotator.propose(_run())), field: Secret(content)}
    with pytest.raises(CredentialRefused) as caught:
        rotator.verify(value, _run())
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("field", ["private_key", "certificate", "chain"])
def test_accepts_no_value_that_lacks_a_field_or_holds_bytes(root: Ca, field: str) -> None:
    rotator = _rotator(root.options())
    whole = _fields(rotator.propose(_run()))
    with pytest.raises(CredentialRefused):
        rotator.verify({name: content for name, content in whole.items() if name != field}, _run())
    with pytest.raises(CredentialRefused):
        rotator.verify({**whole, field: Secret(b"bytes")}, _run())
    with pytest.raises(CredentialRefused):
        rotator.verify({"": Secret("text")}, _run())


def test_accepts_no_certificate_with_the_key_of_another(root: Ca) -> None:
    rotator = _rotator(root.options())
    one, other = (_fields(rotator.propose(_run())) for _ in range(2))
    with pytest.raises(CredentialRefused, match="for another key"):
        rotator.verify({**one, "private_key": other["private_key"]}, _run())


def test_accepts_no_certificate_of_another_ca(root: Ca) -> None:
    value = _fields(_rotator(new_ca().options()).propose(_run()))
    with pytest.raises(CredentialRefused, match="not issued"):
        _rotator(root.options()).verify(value, _run())


def test_accepts_no_chain_that_leads_elsewhere(root: Ca, issuing: Ca) -> None:
    other = new_ca()
    value = _fields(_rotator(new_ca(other).options(other)).propose(_run()))
    with pytest.raises(CredentialRefused, match="not issued"):
        _rotator(issuing.options(root)).verify(value, _run())
    missing = {**_fields(_rotator(issuing.options(root)).propose(_run())), "chain": Secret("")}
    with pytest.raises(CredentialRefused, match="not issued"):
        _rotator(issuing.options(root)).verify(missing, _run())


def test_accepts_no_certificate_of_a_ca_for_one_of_a_host(root: Ca) -> None:
    below = new_ca(root)
    value: Fields = {"private_key": Secret(below.key_pem), "certificate": Secret(below.pem), "chain": Secret("")}
    with pytest.raises(CredentialRefused, match="one of a CA"):
        _rotator(root.options()).verify(value, _run())


def test_accepts_no_certificate_that_may_not_sign_or_has_no_names(root: Ca) -> None:
    for signs, reason in ((True, "not for signatures"), (False, "lacks a name")):
        host = new_ca(root, Wrong(is_ca=False, signs=signs))
        value: Fields = {"private_key": Secret(host.key_pem), "certificate": Secret(host.pem), "chain": Secret("")}
        with pytest.raises(CredentialRefused, match=reason):
            _rotator(root.options()).verify(value, _run())


def test_accepts_a_chain_with_the_root_in_it(root: Ca, issuing: Ca) -> None:
    rotator = _rotator(issuing.options(root))
    rotator.verify({**_fields(rotator.propose(_run())), "chain": Secret(issuing.pem + root.pem)}, _run())


def test_accepts_no_certificate_that_a_host_has_issued(root: Ca) -> None:
    host = new_ca(root, Wrong(is_ca=False, signs=False))
    evil = new_ca(host, Wrong(is_ca=False, signs=False))
    value: Fields = {"private_key": Secret(evil.key_pem), "certificate": Secret(evil.pem), "chain": Secret(host.pem)}
    with pytest.raises(CredentialRefused, match="not one of a CA"):
        _rotator(root.options()).verify(value, _run())


def test_accepts_no_certificate_beyond_its_times(root: Ca) -> None:
    value = _fields(_rotator(root.options(days="7")).propose(_run()))
    for when in (NOW + 7 * DAY, NOW - timedelta(minutes=5)):
        _rotator(root.options(), when).verify(value, _run())
    with pytest.raises(CredentialRefused, match="has ended"):
        _rotator(root.options(), NOW + 7 * DAY + timedelta(seconds=1)).verify(value, _run())
    with pytest.raises(CredentialRefused, match="begins only"):
        _rotator(root.options(), NOW - timedelta(minutes=6)).verify(value, _run())


def test_accepts_no_certificate_that_lacks_a_name_or_a_usage(root: Ca) -> None:
    value = _fields(_rotator(root.options()).propose(_run()))
    for more in ({"names": "a.shop.internal,b.shop.internal"}, {"names": "10.0.0.1"}):
        with pytest.raises(CredentialRefused, match="lacks a name"):
            _rotator(root.options(**more)).verify(value, _run())
    with pytest.raises(CredentialRefused, match="another usage"):
        _rotator(root.options(usage="server,client")).verify(value, _run())


def test_accepts_no_certificate_for_names_that_its_ca_does_not_permit(root: Ca) -> None:
    value = _fields(_rotator(root.options()).propose(_run()))
    constrained = Wrong(constraints=x509.NameConstraints([x509.DNSName("other.internal")], None))
    narrow = new_ca(None, constrained, root.key)
    with pytest.raises(CredentialRefused, match="does not permit"):
        _rotator(narrow.options(names="other.internal")).verify(value, _run())


# --- a server that loads what becomes current -------------------------------------------------------------------------


class _Server:
    """A TLS server that loads a certificate while it serves."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "server.pem"
        self._context: ssl.SSLContext | None = None
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)

    def load(self, value: Fields) -> None:
        """Serve with another certificate from the next connection on.

        Into a context of its own: one that serves has for a moment a certificate and the key of another while it loads.
        """
        self._file.touch(0o600)
        self._file.write_text("".join(str(value[name].reveal()) for name in ("private_key", "certificate", "chain")))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._file)
        self._context = context

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(10)
            assert self._context is not None
            try:
                with self._context.wrap_socket(connection, server_side=True) as served:
                    served.recv(1)
                    served.unwrap()
            except OSError:
                connection.close()


class _Client:
    """Connects again and again, and keeps what it was shown; `failures` is what must stay empty."""

    def __init__(self, port: int, root: Ca) -> None:
        self._port = port
        self._context = ssl.create_default_context(cadata=root.pem)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._connect)
        self._shown = threading.Condition()
        self.serials: list[int] = []
        self.failures: list[Exception] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join(10)

    def wait_for(self, serial: int) -> None:
        """Return when the server has shown a certificate."""
        with self._shown:
            assert self._shown.wait_for(lambda: serial in self.serials[-3:] or self.failures, 10), "it is not shown"

    def _connect(self) -> None:
        while not self._is_over.is_set():
            try:
                with (
                    socket.create_connection(("127.0.0.1", self._port), 10) as plain_socket,
                    self._context.wrap_socket(plain_socket, server_hostname="a.shop.internal") as connection,
                ):
                    shown = connection.getpeercert(binary_form=True)
                    assert shown is not None
                    serial = x509.load_der_x509_certificate(shown).serial_number
            except (OSError, AssertionError) as failure:
                with self._shown:
                    self.failures.append(failure)
                    self._shown.notify_all()
                return
            with self._shown:
                self.serials.append(serial)
                self._shown.notify_all()


@pytest.fixture
def today() -> tuple[Ca, Ca]:
    """A root and an issuer that are valid by the clock of this machine."""
    now = datetime.now(UTC)
    root = new_ca(None, Wrong(begins=now - DAY, ends=now + 100 * DAY))
    return root, new_ca(root, Wrong(begins=now - DAY, ends=now + 100 * DAY, path_length=0))


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    generate_key_file(tmp_path / "key")
    with Vault.create(tmp_path / "a.vault", key=f"file:{tmp_path / 'key'}", admin="alice") as vault:
        yield vault


def test_a_client_that_always_verifies_sees_no_failure_over_a_change(
    today: tuple[Ca, Ca], vault: Vault, tmp_path: Path
) -> None:
    root, issuing = today
    rotator = from_options(issuing.options(root, key_type="ed25519"))

    def load(_: object) -> None:
        value = vault.read("tls/web").value
        assert not isinstance(value, Secret)
        server.load(value)

    server = _Server(tmp_path)
    run = _run()
    vault.write("tls/web", _fields(rotator.propose(run)))
    load(None)
    stop = vault.ref("tls/web").on_change(load)
    serials = []
    with server, _Client(server.port, root) as client:
        for _ in range(3):
            current = vault.read("tls/web").value
            assert not isinstance(current, Secret)
            client.wait_for(int(str(current["serial"].reveal()), 16))
            run = _run(current)
            run = run._replace(pending=_fields(rotator.propose(run)))
            assert run.pending is not None
            rotator.apply(run)
            rotator.verify(run.pending, run)
            vault.write("tls/web", run.pending)
            serials.append(int(str(run.pending["serial"].reveal()), 16))
            client.wait_for(serials[-1])
            rotator.retire(run._replace(current=run.pending, previous=run.current, pending=None))
            rotator.verify(run.pending, run)
    stop()
    assert client.failures == []
    assert set(serials) < set(client.serials)


def test_openssl_takes_what_is_served(today: tuple[Ca, Ca], tmp_path: Path, program: Callable[[str], str]) -> None:
    openssl = program("openssl")
    root, issuing = today
    (tmp_path / "root.pem").write_text(root.pem)
    server = _Server(tmp_path)
    server.load(_fields(from_options(issuing.options(root)).propose(_run())))
    with server:
        command = [openssl, "s_client", "-connect", f"127.0.0.1:{server.port}", "-CAfile", str(tmp_path / "root.pem")]
        command += ["-servername", "a.shop.internal", "-verify_return_error", "-verify_hostname"]
        for name, is_its_own in (("a.shop.internal", True), ("b.shop.internal", False)):
            done = subprocess.run([*command, name], check=False, input=b"x", capture_output=True, timeout=20)
            assert (done.returncode == 0) is is_its_own, done.stderr


def _shorter(der: bytes, oids: tuple[bytes, bytes]) -> Iterator[bytes]:
    """Yield a certificate whose algorithms are SHA-1's; the identifier of that is a byte shorter."""
    outer_length = int.from_bytes(der[2:4]) - 2
    inner_length = int.from_bytes(der[6:8]) - 1
    body = der[8:]
    # AlgorithmIdentifier: SEQUENCE, length 10, OID of 8 bytes ending in 02 (SHA-256) -> SEQUENCE, length 9, OID of 7.
    changed = body.replace(b"\x30\x0a" + oids[0] + b"\x02", b"\x30\x09" + oids[1])
    yield der[:2] + outer_length.to_bytes(2) + der[4:6] + inner_length.to_bytes(2) + changed


def _to_pem(der: bytes) -> str:
    return f"-----BEGIN CERTIFICATE-----\n{base64.encodebytes(der).decode()}-----END CERTIFICATE-----\n"


def _altered(der: bytes, chosen: random.Random) -> bytes:
    """Return a certificate with one byte changed; not the one that says how many bits of its signature do not count."""
    uncounted = len(der) - len(x509.load_der_x509_certificate(der).signature) - 1
    place = chosen.choice([number for number in range(len(der)) if number != uncounted])
    return der[:place] + bytes([der[place] ^ chosen.randrange(1, 256)]) + der[place + 1 :]
