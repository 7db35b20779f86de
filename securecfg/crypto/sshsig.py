"""Detached signatures that `ssh-keygen -Y` makes and checks (OpenSSH, PROTOCOL.sshsig).

A signature is an armoured blob: the magic `SSHSIG`, version 1, the public key, a namespace, a reserved field, the name
of a hash, and the signature proper, over

    "SSHSIG" || string namespace || string reserved || string hash name || string hash(message)

where `string` is a four-byte big-endian length and its bytes (RFC 4251 section 5). What is read here is read strictly:
there is one encoding of each signature, and nothing before, between or after its parts.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature

from securecfg.crypto.allowed_signers import AllowedSigner, is_match, parse_allowed_signers
from securecfg.crypto.ssh_keys import load_private_key, sign_bytes, verify_bytes
from securecfg.errors import SignatureInvalid, UsageError, ValueTooLarge
from securecfg.octets import U32, Cursor, Malformed, var32

MAX_SIGNATURE_BYTES = 64 << 10
MAX_MESSAGE_BYTES = 64 << 20

_BEGIN = "-----BEGIN SSH SIGNATURE-----"
_END = "-----END SSH SIGNATURE-----"
_LINE_CHARACTERS = 70
_MAGIC = b"SSHSIG"
_VERSION = 1
_HASHES = ("sha256", "sha512")


@dataclass(frozen=True, slots=True)
class _Signature:
    """The parts of a signature blob; `inner` is the signature proper, still encoded."""

    key: bytes
    namespace: str
    hash_name: str
    inner: bytes


def verify_signature(
    message: bytes,
    signature: bytes,
    *,
    allowed_signers: bytes,
    namespace: str,
    now_ns: int,
    principal: str | None = None,
    source: str = "allowed_signers",
) -> str:
    """Verify a detached signature and return whom the signing key speaks for.

    1. Parse the trust file and the signature.
    2. The signature is made for `namespace`.
    3. The trust file has a line with the very key that is named in the signature.
    4. One of these lines allows the principal, the namespace and the time.
    5. The key has signed this message.

    The time of *verification* is compared with `valid-after` and `valid-before`: a signature has no time of its own.

    Args:
        message: What was signed, at most 64 MiB.
        signature: The armoured signature, at most 64 KiB.
        allowed_signers: The trust file's bytes. Who may change it is the caller's to see to.
        namespace: What the signature must be made for.
        now_ns: Nanoseconds since 1970.
        principal: Whom the signature must be by; None means anyone in the trust file.
        source: What to call the trust file in messages.

    Returns:
        The principal asked for; without one the principals of the line that matched, as written there.

    Raises:
        SignatureInvalid: The signature is malformed, wrong, or not by a trusted signer.
        InvalidTrustFile: A line of the trust file is wrong.
        Unsupported: The trust file names a certificate authority.
        UsageError: The namespace is empty.
        ValueTooLarge: The message is too large.
    """
    _check_request(message, namespace)
    signers = parse_allowed_signers(allowed_signers, source=source)
    parsed = _parse_armoured(signature)
    if parsed.namespace != namespace:
        problem = f"the signature is not made for the namespace `{namespace}`"
        raise SignatureInvalid(problem, hint=f"sign again with `ssh-keygen -Y sign -n {namespace}`")
    signer = _find_signer(parsed, signers, now_ns=now_ns, principal=principal, source=source)
    signed = _signed_bytes(message, namespace, parsed.hash_name)
    try:
        verify_bytes(parsed.key, parsed.inner, signed)
    except Malformed as error:
        problem = f"the signature {error}"
        raise SignatureInvalid(problem) from None
    except InvalidSignature:
        problem = "the signature does not match"
        hint = "what was signed has changed since, or this signature belongs to something else"
        raise SignatureInvalid(problem, hint=hint) from None
    return signer.principals if principal is None else principal


def sign_message(message: bytes, private_key_pem: bytes, *, namespace: str, passphrase: bytes | None = None) -> bytes:
    """Sign as `ssh-keygen -Y sign` does, with SHA-512.

    Args:
        message: What to sign, at most 64 MiB.
        private_key_pem: A private key in OpenSSH's format: Ed25519, ECDSA or RSA.
        namespace: What the signature is for.
        passphrase: What protects the key, if anything does.

    Returns:
        The armoured signature.

    Raises:
        InvalidSigningKey: The key cannot be read, is too weak, or the passphrase is wrong or missing.
        ExtraMissing: A key with a passphrase needs the extra `ssh`.
        Unsupported: The key is of a kind that cannot sign here, for instance in a hardware token.
        UsageError: The namespace is empty.
        ValueTooLarge: The message is too large.
    """
    _check_request(message, namespace)
    private_key = load_private_key(private_key_pem, passphrase)
    key, inner = sign_bytes(private_key, _signed_bytes(message, namespace, "sha512"))
    blob = b"".join(
        (_MAGIC, U32.pack(_VERSION), var32(key), var32(namespace.encode()), var32(b""), var32(b"sha512"), var32(inner))
    )
    text = base64.b64encode(blob).decode()
    lines = [text[start : start + _LINE_CHARACTERS] for start in range(0, len(text), _LINE_CHARACTERS)]
    return "\n".join((_BEGIN, *lines, _END, "")).encode()


def _check_request(message: bytes, namespace: str) -> None:
    if not namespace:
        problem = "the namespace of a signature is empty"
        raise UsageError(problem)
    if len(message) > MAX_MESSAGE_BYTES:
        problem = f"what is signed is larger than {MAX_MESSAGE_BYTES} bytes"
        raise ValueTooLarge(problem)


def _signed_bytes(message: bytes, namespace: str, hash_name: str) -> bytes:
    digest = hashlib.new(hash_name, message).digest()
    return b"".join((_MAGIC, var32(namespace.encode()), var32(b""), var32(hash_name.encode()), var32(digest)))


# --- reading ----------------------------------------------------------------------------------------------------------


def _parse_armoured(signature: bytes) -> _Signature:
    try:
        return _parse_blob(_remove_armour(signature))
    except Malformed as error:
        problem = f"the signature {error}"
        raise SignatureInvalid(problem, hint="sign again with `ssh-keygen -Y sign`") from None


def _remove_armour(signature: bytes) -> bytes:
    if len(signature) > MAX_SIGNATURE_BYTES:
        problem = f"is larger than {MAX_SIGNATURE_BYTES} bytes"
        raise Malformed(problem)
    try:
        first, *lines, last, rest = signature.decode("ascii").split("\n")
        encoded = "".join(lines)
        blob = base64.b64decode(encoded, validate=True)
    except ValueError:
        problem = "is not armoured base64"
        raise Malformed(problem) from None
    # Base64 has several texts for some bytes; only the one that an encoder writes is accepted.
    if (first, last, rest, encoded) != (_BEGIN, _END, "", base64.b64encode(blob).decode()) or "" in lines:
        problem = "is not armoured as one SSH signature"
        raise Malformed(problem)
    return blob


def _parse_blob(blob: bytes) -> _Signature:
    cursor = Cursor(blob)
    if cursor.take(len(_MAGIC)) != _MAGIC:
        problem = "does not begin with its magic"
        raise Malformed(problem)
    version = cursor.u32()
    if version != _VERSION:
        problem = f"has the unknown version {version}"
        raise Malformed(problem)
    key, namespace, reserved, hash_name, inner = (cursor.var32() for _ in range(5))
    cursor.finish()
    if reserved:
        problem = "uses a field that is reserved"
        raise Malformed(problem)
    if hash_name not in {name.encode() for name in _HASHES}:
        problem = "uses an unknown hash"
        raise Malformed(problem)
    try:
        return _Signature(key, namespace.decode(), hash_name.decode(), inner)
    except UnicodeDecodeError:
        problem = "has a namespace that is not UTF-8"
        raise Malformed(problem) from None


# --- trust ------------------------------------------------------------------------------------------------------------


def _find_signer(
    parsed: _Signature, signers: tuple[AllowedSigner, ...], *, now_ns: int, principal: str | None, source: str
) -> AllowedSigner:
    refusals = []
    for signer in signers:
        if signer.key != parsed.key:
            continue
        refusal = _refusal(signer, parsed.namespace, now_ns // 1_000_000_000, principal)
        if not refusal:
            return signer
        refusals.append(refusal)
    if refusals:
        raise SignatureInvalid(refusals[0], hint=f"the line in `{source}` says for whom, what and when a key may sign")
    fingerprint = base64.b64encode(hashlib.sha256(parsed.key).digest()).decode().rstrip("=")
    problem = f"the signature is by a key that is not trusted: `SHA256:{fingerprint}`"
    raise SignatureInvalid(problem, hint=f"if it should be, add the public key to `{source}`")


def _refusal(signer: AllowedSigner, namespace: str, now_s: int, principal: str | None) -> str:
    """Return why a line does not allow this use of its key, or an empty string."""
    if principal is not None and not is_match(principal, signer.principals):
        return f"the signing key does not speak for `{principal}`"
    if signer.namespaces is not None and not is_match(namespace, signer.namespaces):
        return f"the signing key is not trusted in the namespace `{namespace}`"
    if signer.valid_after_s is not None and now_s < signer.valid_after_s:
        return "the signing key is not trusted yet"
    if signer.valid_before_s is not None and now_s > signer.valid_before_s:
        return "the signing key is not trusted any more"
    return ""
