from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.utils import CryptographyDeprecationWarning
from hypothesis import given, settings
from hypothesis import strategies as st

from securecfg.crypto.sshsig import MAX_MESSAGE_BYTES, MAX_SIGNATURE_BYTES, sign_message, verify_signature
from securecfg.errors import (
    ExtraMissing,
    InvalidSigningKey,
    InvalidTrustFile,
    SignatureInvalid,
    Unsupported,
    UsageError,
    ValueTooLarge,
)
from securecfg.octets import U32, Cursor, var32

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Key = Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

NAMESPACE = "securecfg-config@v1"
MESSAGE = b"database:\n  host: db.internal\n"
NOW_NS = 1_790_000_000_000_000_000
PASSPHRASE = b"canary-passphrase"

ED25519 = Ed25519PrivateKey.generate()
KEYS: dict[str, Key] = {
    "ed25519": ED25519,
    "nistp256": ec.generate_private_key(ec.SECP256R1()),
    "nistp384": ec.generate_private_key(ec.SECP384R1()),
    "nistp521": ec.generate_private_key(ec.SECP521R1()),
    "rsa": rsa.generate_private_key(65537, 2048),
}
WEAK_RSA = rsa.generate_private_key(65537, 1024)  # noqa: S505 - it must be refused
every_key = pytest.mark.parametrize("kind", KEYS)


def _pem(key: Key, passphrase: bytes | None = None) -> bytes:
    protection = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, protection)


def _public(key: Key) -> bytes:
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)


def _wire(key: Key) -> bytes:
    return base64.b64decode(_public(key).split()[1])


def _trust(key: Key, options: str = "", principals: str = "alice@example.com") -> bytes:
    return f"{principals} {options} ".encode() + _public(key) + b"\n"


SIGNATURE = sign_message(MESSAGE, _pem(ED25519), namespace=NAMESPACE)
TRUST = _trust(ED25519)


def _verify(
    signature: bytes = SIGNATURE,
    *,
    message: bytes = MESSAGE,
    trust: bytes = TRUST,
    namespace: str = NAMESPACE,
    now_ns: int = NOW_NS,
    principal: str | None = None,
) -> str:
    return verify_signature(
        message, signature, allowed_signers=trust, namespace=namespace, now_ns=now_ns, principal=principal
    )


def _refused(signature: bytes = SIGNATURE, **changes: bytes | str | int) -> str:
    with pytest.raises(SignatureInvalid) as caught:
        _verify(signature, **changes)  # type: ignore[arg-type]  # the names are _verify's own
    assert caught.value.code == "signature-invalid"
    assert caught.value.message.isprintable()
    return caught.value.message


def _armour(blob: bytes) -> bytes:
    text = base64.b64encode(blob)
    lines = [text[start : start + 70] for start in range(0, len(text), 70)]
    return b"\n".join((b"-----BEGIN SSH SIGNATURE-----", *lines, b"-----END SSH SIGNATURE-----", b""))


def _signed(namespace: str = NAMESPACE, hash_name: str = "sha512", message: bytes = MESSAGE) -> bytes:
    digest = hashlib.new(hash_name, message).digest()
    return b"SSHSIG" + b"".join(map(var32, (namespace.encode(), b"", hash_name.encode(), digest)))


def _blob(
    key: bytes,
    inner: bytes,
    *,
    magic: bytes = b"SSHSIG",
    version: int = 1,
    namespace: bytes = NAMESPACE.encode(),
    reserved: bytes = b"",
    hash_name: bytes = b"sha512",
) -> bytes:
    return magic + U32.pack(version) + b"".join(map(var32, (key, namespace, reserved, hash_name, inner)))


def _inner(signed: bytes) -> bytes:
    return var32(b"ssh-ed25519") + var32(ED25519.sign(signed))


def _mpint(number: int) -> bytes:
    return var32(number.to_bytes(number.bit_length() // 8 + 1))


# --- the armour -------------------------------------------------------------------------------------------------------


def test_any_changed_byte_of_a_signature_is_refused() -> None:
    for mask in (0x01, 0x20, 0x80):
        for position in range(len(SIGNATURE)):
            changed = bytearray(SIGNATURE)
            changed[position] ^= mask
            _refused(bytes(changed))


def test_any_changed_byte_of_a_message_is_refused() -> None:
    for position in range(len(MESSAGE)):
        changed = bytearray(MESSAGE)
        changed[position] ^= 1
        assert _refused(message=bytes(changed)) == "the signature does not match"


def test_every_truncation_is_refused() -> None:
    for size in range(len(SIGNATURE)):
        _refused(SIGNATURE[:size])


@pytest.mark.parametrize(
    "changed",
    [
        b"",
        b"\n" + SIGNATURE,
        SIGNATURE + b"\n",
        SIGNATURE + b"x",
        SIGNATURE + SIGNATURE,
        SIGNATURE.replace(b"\n", b"\r\n"),
        SIGNATURE.replace(b"\n", b"\n\n", 1),
        SIGNATURE.replace(b"\n", b" \n", 1),
        SIGNATURE.replace(b"SSH", b"PGP"),
        SIGNATURE.replace(b"-----BEGIN", b"----BEGIN"),
        SIGNATURE.decode().encode("utf-16"),
        b"-----BEGIN SSH SIGNATURE-----\n-----END SSH SIGNATURE-----\n",
        b"\0" * 300,
    ],
)
def test_refuses_what_is_not_armoured_as_one_signature(changed: bytes) -> None:
    _refused(changed)


def test_refuses_the_other_base64_texts_of_the_same_bytes() -> None:
    # The last character before `=` has bits that stand for nothing; decoders ignore them.
    namespace = "config"
    text = sign_message(MESSAGE, _pem(ED25519), namespace=namespace).decode()
    last = text.index("=") - 1
    same = text[:last] + chr(ord(text[last]) + 1) + text[last + 1 :]
    first_body, second_body = ("".join(each.splitlines()[1:-1]) for each in (text, same))
    assert base64.b64decode(first_body) == base64.b64decode(second_body)
    assert _verify(text.encode(), namespace=namespace)
    assert _refused(same.encode(), namespace=namespace) == "the signature is not armoured as one SSH signature"


def test_refuses_a_signature_beyond_the_limit() -> None:
    assert "larger than" in _refused(b"A" * (MAX_SIGNATURE_BYTES + 1))


def test_accepts_lines_of_any_width() -> None:
    body = b"".join(SIGNATURE.splitlines()[1:-1])
    wide = b"-----BEGIN SSH SIGNATURE-----\n" + body + b"\n-----END SSH SIGNATURE-----\n"
    assert _verify(wide) == "alice@example.com"


# --- the blob ---------------------------------------------------------------------------------------------------------


def test_accepts_the_blob_that_the_following_tests_break() -> None:
    assert _verify(_armour(_blob(_wire(ED25519), _inner(_signed())))) == "alice@example.com"


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"magic": b"SSHSIH"}, "the signature does not begin with its magic"),
        ({"version": 0}, "the signature has the unknown version 0"),
        ({"version": 2}, "the signature has the unknown version 2"),
        ({"reserved": b"x"}, "the signature uses a field that is reserved"),
        ({"hash_name": b"sha1"}, "the signature uses an unknown hash"),
        ({"hash_name": b"SHA512"}, "the signature uses an unknown hash"),
        ({"hash_name": b""}, "the signature uses an unknown hash"),
        ({"hash_name": b"sha256"}, "the signature does not match"),
        ({"namespace": b"file"}, "the signature is not made for the namespace `securecfg-config@v1`"),
        ({"namespace": b"a\nb"}, "the signature is not made for the namespace `securecfg-config@v1`"),
        ({"namespace": b"\xff"}, "the signature has a namespace that is not UTF-8"),
    ],
)
def test_refuses_a_field_that_is_not_as_signed(fields: dict[str, bytes | int], problem: str) -> None:
    blob = _blob(_wire(ED25519), _inner(_signed()), **fields)  # type: ignore[arg-type]  # the names are _blob's own
    assert _refused(_armour(blob)) == problem


def test_refuses_a_blob_with_something_behind_it() -> None:
    blob = _blob(_wire(ED25519), _inner(_signed()))
    assert _refused(_armour(blob + b"\0")) == "the signature is followed by other bytes"
    assert _refused(_armour(blob + blob)) == "the signature is followed by other bytes"


@pytest.mark.parametrize(
    ("inner", "problem"),
    [
        (b"", "the signature ends too early"),
        (var32(b"ssh-ed25519"), "the signature ends too early"),
        (_inner(_signed()) + b"\0", "the signature is followed by other bytes"),
        (var32(b"ssh-rsa") + var32(bytes(64)), "the signature uses an algorithm that does not belong to its key"),
        (var32(b"ssh-ed25519") + var32(bytes(63)), "the signature does not match"),
        (var32(b"ssh-ed25519") + var32(b""), "the signature does not match"),
        (U32.pack(0xFFFFFFFF), "the signature ends too early"),
    ],
)
def test_refuses_a_malformed_signature_proper(inner: bytes, problem: str) -> None:
    assert _refused(_armour(_blob(_wire(ED25519), inner))) == problem


def _trust_wire(wire: bytes) -> bytes:
    kind = Cursor(wire).var32()
    return b"alice@example.com " + kind + b" " + base64.b64encode(wire) + b"\n"


@pytest.mark.parametrize(
    ("wire", "algorithm", "problem"),
    [
        (var32(b"ssh-ed25519") + var32(bytes(31)), b"ssh-ed25519", "is by a key that is not valid"),
        (var32(b"ssh-ed25519") + var32(bytes(32)) + b"\0", b"ssh-ed25519", "is followed by other bytes"),
        (var32(b"ssh-ed25519"), b"ssh-ed25519", "ends too early"),
        (var32(b"ssh-dss"), b"ssh-dss", "is by a key of a type that is not supported"),
        (
            var32(b"ecdsa-sha2-nistp256") + var32(b"nistp384") + var32(b"\4" + bytes(64)),
            b"ecdsa-sha2-nistp256",
            "is by a key on another curve than its type says",
        ),
        (
            var32(b"ecdsa-sha2-nistp256") + var32(b"nistp256") + var32(b"\4" + bytes(64)),
            b"ecdsa-sha2-nistp256",
            "is by a key that is not valid",
        ),
        (
            var32(b"ssh-rsa") + _mpint(65537) + _mpint(1 << 1023),
            b"rsa-sha2-512",
            "is by an RSA key of 1024 bits; 2048 to 16384 are accepted",
        ),
        (
            var32(b"ssh-rsa") + _mpint(65537) + _mpint(1 << 16384),
            b"rsa-sha2-512",
            "is by an RSA key of 16385 bits; 2048 to 16384 are accepted",
        ),
        (var32(b"ssh-rsa") + _mpint(2) + _mpint(1 << 2047), b"rsa-sha2-512", "is by a key that is not valid"),
        (
            var32(b"ssh-rsa") + var32(b"\0\1\0\1") + _mpint(1 << 2047),
            b"rsa-sha2-512",
            "holds a number that is not in its shortest form",
        ),
        (
            var32(b"ssh-rsa") + var32(b"\xff") + _mpint(1 << 2047),
            b"rsa-sha2-512",
            "holds a number that is not in its shortest form",
        ),
        (var32(b"ssh-rsa") + var32(b"") + _mpint(1 << 2047), b"rsa-sha2-512", "is by a key that is not valid"),
    ],
)
def test_refuses_a_trusted_key_that_is_weak_or_malformed(wire: bytes, algorithm: bytes, problem: str) -> None:
    signature = _armour(_blob(wire, var32(algorithm) + var32(bytes(64))))
    assert _refused(signature, trust=_trust_wire(wire)) == f"the signature {problem}"


def test_refuses_rsa_with_sha1() -> None:
    key = KEYS["rsa"]
    signature = _armour(_blob(_wire(key), var32(b"ssh-rsa") + var32(bytes(256))))
    assert _refused(signature, trust=_trust(key)).endswith("an algorithm that does not belong to its key")


def test_refuses_an_ecdsa_signature_with_something_behind_its_numbers() -> None:
    key = KEYS["nistp256"]
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    r, s = decode_dss_signature(key.sign(_signed(), ec.ECDSA(hashes.SHA256())))
    name = var32(b"ecdsa-sha2-nistp256")
    good = _armour(_blob(_wire(key), name + var32(_mpint(r) + _mpint(s))))
    assert _verify(good, trust=_trust(key))
    bad = _armour(_blob(_wire(key), name + var32(_mpint(r) + _mpint(s) + b"\0")))
    assert _refused(bad, trust=_trust(key)) == "the signature is followed by other bytes"


# --- trust ------------------------------------------------------------------------------------------------------------


@every_key
def test_a_signature_by_another_key_is_refused(kind: str) -> None:
    signature = sign_message(MESSAGE, _pem(KEYS[kind]), namespace=NAMESPACE)
    other = Ed25519PrivateKey.generate()
    assert _refused(signature, trust=_trust(other)).startswith(
        "the signature is by a key that is not trusted: `SHA256:"
    )


def test_an_empty_trust_file_trusts_nobody() -> None:
    assert "not trusted" in _refused(trust=b"")
    assert "not trusted" in _refused(trust=b"# " + TRUST)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ('namespaces="file"', "the signing key is not trusted in the namespace `securecfg-config@v1`"),
        ('namespaces="*,!securecfg-*"', "the signing key is not trusted in the namespace `securecfg-config@v1`"),
        ('valid-after="20270101Z"', "the signing key is not trusted yet"),
        ('valid-before="20260101Z"', "the signing key is not trusted any more"),
    ],
)
def test_an_option_narrows_what_a_key_may_sign(options: str, problem: str) -> None:
    assert _refused(trust=_trust(ED25519, options)) == problem


def test_validity_includes_its_first_and_last_second() -> None:
    trust = _trust(ED25519, 'namespaces="securecfg-*",valid-after="20260921133320Z",valid-before="20260921133321Z"')
    assert _verify(trust=trust, now_ns=1_789_997_600_000_000_000)
    assert _verify(trust=trust, now_ns=1_789_997_601_999_999_999)
    assert _refused(trust=trust, now_ns=1_789_997_599_999_999_999) == "the signing key is not trusted yet"
    assert _refused(trust=trust, now_ns=1_789_997_602_000_000_000) == "the signing key is not trusted any more"


def test_a_later_line_may_allow_what_an_earlier_one_does_not() -> None:
    trust = _trust(ED25519, 'valid-before="20200101Z"', "old") + _trust(KEYS["rsa"]) + _trust(ED25519, "", "new")
    assert _verify(trust=trust) == "new"


def test_a_principal_that_is_asked_for_must_match() -> None:
    trust = _trust(ED25519, principals="*@example.com,!mallory@*")
    assert _verify(trust=trust) == "*@example.com,!mallory@*"
    assert _verify(trust=trust, principal="bob@example.com") == "bob@example.com"
    expected = "the signing key does not speak for `mallory@example.com`"
    assert _refused(trust=trust, principal="mallory@example.com") == expected


def test_a_wrong_trust_file_is_refused_before_the_signature_is_looked_at() -> None:
    with pytest.raises(InvalidTrustFile, match=r"^\.trust:1:1: "):
        verify_signature(b"", b"", allowed_signers=b'"', namespace="file", now_ns=0, source=".trust")
    with pytest.raises(Unsupported):
        _verify(trust=_trust(ED25519, "cert-authority"))


def test_an_empty_namespace_is_misuse() -> None:
    with pytest.raises(UsageError, match="namespace"):
        _verify(namespace="")
    with pytest.raises(UsageError, match="namespace"):
        sign_message(MESSAGE, _pem(ED25519), namespace="")


def test_a_message_beyond_the_limit_is_neither_signed_nor_verified() -> None:
    message = bytes(MAX_MESSAGE_BYTES + 1)
    with pytest.raises(ValueTooLarge):
        _verify(message=message)
    with pytest.raises(ValueTooLarge):
        sign_message(message, _pem(ED25519), namespace=NAMESPACE)


# --- hardware tokens: the signatures that one would make --------------------------------------------------------------


def _token_signature(kind: str, *, flags: int = 1, hash_name: str = "sha512") -> tuple[bytes, bytes]:
    application, counter = b"ssh:", 7
    signed = hashlib.sha256(_signed(hash_name=hash_name)).digest()
    what = hashlib.sha256(application).digest() + bytes((flags,)) + U32.pack(counter) + signed
    key = KEYS[kind]
    public = Cursor(_wire(key))
    plain_name = public.var32()
    if isinstance(key, Ed25519PrivateKey):
        name, fields, raw = b"sk-ssh-ed25519@openssh.com", var32(public.var32()), key.sign(what)
    else:
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        name = b"sk-" + plain_name + b"@openssh.com"
        fields = var32(public.var32()) + var32(public.var32())
        r, s = decode_dss_signature(key.sign(what, ec.ECDSA(hashes.SHA256())))
        raw = _mpint(r) + _mpint(s)
    wire = var32(name) + fields + var32(application)
    inner = var32(name) + var32(raw) + bytes((flags,)) + U32.pack(counter)
    return wire, _armour(_blob(wire, inner, hash_name=hash_name.encode()))


@pytest.mark.parametrize("kind", ["ed25519", "nistp256"])
@pytest.mark.parametrize("flags", [0x01, 0x05])
def test_accepts_a_token_whose_user_was_present(kind: str, flags: int) -> None:
    wire, signature = _token_signature(kind, flags=flags)
    assert _verify(signature, trust=_trust_wire(wire)) == "alice@example.com"


@pytest.mark.parametrize("kind", ["ed25519", "nistp256"])
@pytest.mark.parametrize("flags", [0x00, 0x04])
def test_refuses_a_token_whose_user_was_not_present(kind: str, flags: int) -> None:
    wire, signature = _token_signature(kind, flags=flags)
    expected = "the signature was made without its user being present"
    assert _refused(signature, trust=_trust_wire(wire)) == expected


@pytest.mark.parametrize("kind", ["ed25519", "nistp256"])
def test_any_changed_byte_of_a_tokens_signature_is_refused(kind: str) -> None:
    wire, signature = _token_signature(kind)
    for position in range(len(signature)):
        changed = bytearray(signature)
        changed[position] ^= 1
        _refused(bytes(changed), trust=_trust_wire(wire))


def test_refuses_a_token_signature_under_a_plain_keys_name() -> None:
    wire, signature = _token_signature("ed25519")
    assert "not trusted" in _refused(signature, trust=TRUST)
    assert "not trusted" in _refused(SIGNATURE, trust=_trust_wire(wire))


# --- signing ----------------------------------------------------------------------------------------------------------


@every_key
def test_what_is_signed_verifies(kind: str) -> None:
    for passphrase in (None, PASSPHRASE):
        signature = sign_message(MESSAGE, _pem(KEYS[kind], passphrase), namespace=NAMESPACE, passphrase=passphrase)
        assert _verify(signature, trust=_trust(KEYS[kind])) == "alice@example.com"


@settings(max_examples=50)
@given(st.binary(max_size=300), st.text(min_size=1, max_size=40).filter(lambda text: text.isprintable()))
def test_any_message_and_namespace_round_trip(message: bytes, namespace: str) -> None:
    signature = sign_message(message, _pem(ED25519), namespace=namespace)
    assert _verify(signature, message=message, namespace=namespace)
    _refused(signature, message=message + b"\0", namespace=namespace)


@given(st.binary(max_size=400))
def test_arbitrary_bytes_are_refused_as_a_signature(content: bytes) -> None:
    _refused(content)
    _refused(_armour(content))
    _refused(_armour(b"SSHSIG\0\0\0\1" + content))
    _refused(_armour(_blob(_wire(ED25519), content)))


@pytest.mark.parametrize(
    ("pem", "passphrase", "problem"),
    [
        (b"", None, "the signing key cannot be read"),
        (b"not a key", None, "the signing key cannot be read"),
        (_pem(ED25519)[:-60], None, "the signing key cannot be read"),
        (_public(ED25519), None, "the signing key cannot be read"),
        (_pem(ED25519, PASSPHRASE), None, "the signing key needs a passphrase"),
        (_pem(ED25519, PASSPHRASE), b"wrong", "the signing key cannot be read"),
        (_pem(ED25519), PASSPHRASE, "the signing key has no passphrase"),
        (_pem(WEAK_RSA), None, "the signing key is an RSA key of less than 2048 bits"),
    ],
)
def test_refuses_a_signing_key_that_cannot_be_used(pem: bytes, passphrase: bytes | None, problem: str) -> None:
    with pytest.raises(InvalidSigningKey) as caught:
        sign_message(MESSAGE, pem, namespace=NAMESPACE, passphrase=passphrase)
    assert caught.value.message == problem
    assert "canary" not in caught.value.message + caught.value.hint


@pytest.mark.filterwarnings("ignore:SSH DSA:cryptography.utils.CryptographyDeprecationWarning")
def test_refuses_dsa_as_unsupported() -> None:
    key = dsa.generate_private_key(1024)  # noqa: S505 - SSH knows no longer one, and this one is refused
    with pytest.warns(CryptographyDeprecationWarning):
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    with pytest.raises(Unsupported):
        sign_message(MESSAGE, pem, namespace=NAMESPACE)


def test_refuses_a_private_key_in_a_token_as_unsupported() -> None:
    kind = var32(b"sk-ssh-ed25519@openssh.com")
    public = kind + var32(bytes(32)) + var32(b"ssh:")
    private = U32.pack(1) * 2 + public + b"\1" + var32(b"handle") + var32(b"") + var32(b"comment")
    private += bytes(range(1, 1 + -len(private) % 8))
    body = b"openssh-key-v1\0" + b"".join(map(var32, (b"none", b"none", b""))) + U32.pack(1)
    text = base64.encodebytes(body + var32(public) + var32(private))
    pem = b"-----BEGIN OPENSSH PRIVATE KEY-----\n" + text + b"-----END OPENSSH PRIVATE KEY-----\n"
    with pytest.raises(Unsupported):
        sign_message(MESSAGE, pem, namespace=NAMESPACE)


def test_names_the_extra_that_a_passphrase_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bcrypt", None)
    with pytest.raises(ExtraMissing) as caught:
        sign_message(MESSAGE, _pem(ED25519), namespace=NAMESPACE, passphrase=PASSPHRASE)
    assert caught.value.hint == "pip install 'securecfg-vault[ssh]'"


# --- against ssh-keygen, both ways ------------------------------------------------------------------------------------


class Keygen:
    """`ssh-keygen -Y` in a folder of its own."""

    def __init__(self, program: str, folder: Path) -> None:
        self.program = program
        self.folder = folder

    def run(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [self.program, *arguments], input=stdin, capture_output=True, cwd=self.folder, check=False, timeout=30
        )

    def sign(self, key: Key, message: bytes, *options: str) -> bytes:
        path = self.folder / "key"
        path.unlink(missing_ok=True)
        path.write_bytes(_pem(key))
        path.chmod(0o600)
        (self.folder / "message").write_bytes(message)
        (self.folder / "message.sig").unlink(missing_ok=True)
        done = self.run("-Y", "sign", "-n", NAMESPACE, "-f", "key", *options, "message")
        assert done.returncode == 0, done.stderr
        return (self.folder / "message.sig").read_bytes()

    def accepts(
        self,
        signature: bytes,
        trust: bytes,
        *options: str,
        principal: str = "alice@example.com",
        message: bytes = MESSAGE,
    ) -> bool:
        (self.folder / "trust").write_bytes(trust)
        (self.folder / "sig").write_bytes(signature)
        arguments = ("-Y", "verify", "-n", NAMESPACE, "-I", principal, "-f", "trust", "-s", "sig", *options)
        return self.run(*arguments, stdin=message).returncode == 0


@pytest.fixture
def keygen(program: Callable[[str], str], tmp_path: Path) -> Keygen:
    return Keygen(program("ssh-keygen"), tmp_path)


@every_key
@pytest.mark.parametrize("hash_name", ["sha256", "sha512"])
def test_what_ssh_keygen_signs_verifies_here(keygen: Keygen, kind: str, hash_name: str) -> None:
    key = KEYS[kind]
    signature = keygen.sign(key, MESSAGE, "-O", f"hashalg={hash_name}")
    assert _verify(signature, trust=_trust(key), principal="alice@example.com") == "alice@example.com"
    assert _refused(signature, message=MESSAGE + b"\n", trust=_trust(key)) == "the signature does not match"


@every_key
def test_what_is_signed_here_verifies_with_ssh_keygen(keygen: Keygen, kind: str) -> None:
    key = KEYS[kind]
    signature = sign_message(MESSAGE, _pem(key), namespace=NAMESPACE)
    assert keygen.accepts(signature, _trust(key))
    assert not keygen.accepts(signature, _trust(key), message=MESSAGE + b"\n")
    (keygen.folder / "sig").write_bytes(signature)
    checked = keygen.run("-Y", "check-novalidate", "-n", NAMESPACE, "-s", "sig", stdin=MESSAGE)
    assert checked.returncode == 0, checked.stderr
    (keygen.folder / "trust").write_bytes(_trust(key, principals="*@example.com,bob"))
    found = keygen.run("-Y", "find-principals", "-s", "sig", "-f", "trust").stdout.decode().split()
    assert ",".join(found) == _verify(signature, trust=_trust(key, principals="*@example.com,bob"))


def test_deterministic_signatures_are_the_same_bytes(keygen: Keygen) -> None:
    assert keygen.sign(ED25519, MESSAGE) == SIGNATURE
    rsa_key = KEYS["rsa"]
    assert keygen.sign(rsa_key, MESSAGE) == sign_message(MESSAGE, _pem(rsa_key), namespace=NAMESPACE)


@pytest.mark.parametrize("kind", ["ed25519", "nistp256"])
def test_ssh_keygen_agrees_on_token_signatures(keygen: Keygen, kind: str) -> None:
    for hash_name in ("sha256", "sha512"):
        wire, signature = _token_signature(kind, hash_name=hash_name)
        assert keygen.accepts(signature, _trust_wire(wire))
        assert _verify(signature, trust=_trust_wire(wire))


@pytest.mark.parametrize("principal", ["alice@example.com", "Alice@example.com", "bob"])
@pytest.mark.parametrize(
    ("principals", "options"),
    [
        ("alice@example.com", ""),
        ("bob,alice@example.com", ""),
        ('"bob,alice@example.com"', ""),
        ("*@example.com,!alice@*", ""),
        ("!bob,*", ""),
        ("?ob", ""),
        ("*", 'namespaces="file,securecfg-config@v?"'),
        ("*", 'namespaces="*,!securecfg-*"'),
        ("*", 'namespaces=""'),
        ("*", 'Valid-After="20260101Z",VALID-BEFORE="20261231Z"'),
        ("*", 'valid-after="20260921"'),
        ("*", 'valid-before="202609211422"'),
        ("*", 'valid-after="20260921141321Z"'),
        ("*", 'valid-before="20260921141319Z"'),
        ("*", 'namespaces="a",namespaces="*"'),
        ("*", "namespaces=*"),
        ("*", 'valid-after="tomorrow"'),
        ("*", 'valid-after="20260102Z",valid-before="20260101Z"'),
        ("*", 'purpose="any"'),
    ],
)
def test_ssh_keygen_agrees_on_whom_to_trust(keygen: Keygen, principals: str, options: str, principal: str) -> None:
    trust = _trust(ED25519, options, principals)
    try:
        _verify(trust=trust, principal=principal)
    except (SignatureInvalid, InvalidTrustFile):
        accepted = False
    else:
        accepted = True
    assert keygen.accepts(SIGNATURE, trust, "-O", "verify-time=20260921141320Z", principal=principal) is accepted


def test_refuses_a_second_signature_that_ssh_keygen_ignores(keygen: Keygen) -> None:
    # OpenSSH reads the first and drops the rest; here nothing may follow.
    twice = SIGNATURE + SIGNATURE
    assert keygen.accepts(twice, TRUST)
    assert _refused(twice) == "the signature is not armoured base64"
