"""Identities: the key pairs of a person or a service, and the files that hold them (format, section 4.11).

A file has one line for the public half, which others are given, one for each key pair that the identity had before, and
a last one where it holds the private half too.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote, unquote

from securecfg.crypto import HYBRID_PRIVATE_BYTES, HYBRID_PUBLIC_BYTES, KeyBytes, Label, expand, hybrid_public_key
from securecfg.crypto import generate_key as generate_seed
from securecfg.errors import InvalidKeyUri, KeyProviderRefused, NotAVault, UnsupportedFormat, WrongKey
from securecfg.keys.calls import call_unwrap, call_wrap
from securecfg.keys.keyfile import read_small_file, verify_private
from securecfg.keys.provider import WrapContext
from securecfg.keys.slots import SLOT_ID_BYTES, Slot
from securecfg.keys.uri import names_code

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from securecfg.keys.provider import KeyProvider

PUBLIC_KEY_BYTES = HYBRID_PUBLIC_BYTES + 32
FILE_BYTES_MAX = 32_768
PREVIOUS_MAX = 8
UNPROTECTED = "none"

_DERIVED_BYTES = HYBRID_PRIVATE_BYTES + 32
_FINGERPRINT_BYTES = 16
_NAME = r"[!-~]{1,255}"
_PUBLIC = re.compile(rf"SECURECFG-IDENTITY-1 ({_NAME}) ([A-Za-z0-9_-]{{1664}}) [0-9a-f]{{32}}", re.ASCII)
_PREVIOUS = re.compile(
    r"SECURECFG-IDENTITY-PREVIOUS-1 ([A-Za-z0-9_-]{1664}) ([A-Za-z0-9_-]{86}) ([A-Za-z0-9_-]{86})", re.ASCII
)
_PRIVATE = re.compile(r"SECURECFG-IDENTITY-KEY-1 (\S{1,4096}) ([A-Za-z0-9_-]{1,5462}) [0-9a-f]{8}", re.ASCII)
_SAFE = "-._~:/?=,;@+&"


class Identity(NamedTuple):
    """The public half of an identity: what others may know.

    Attributes:
        name: The principal that it is.
        public_key: What is sealed to it with, 1,216 bytes, then its Ed25519 public key, 32.
    """

    name: str
    public_key: bytes

    @property
    def fingerprint(self) -> bytes:
        """What people compare, 16 bytes: it stands for the name and both public keys."""
        name = self.name.encode()
        told = Label.IDENTITY_ID.encode() + b"\x00" + bytes((len(name),)) + name + self.public_key
        return hashlib.sha256(told).digest()[:_FINGERPRINT_BYTES]

    @property
    def recipient(self) -> bytes:
        """The public key that is sealed to, 1,216 bytes."""
        return self.public_key[:HYBRID_PUBLIC_BYTES]

    @property
    def verifier(self) -> bytes:
        """Its Ed25519 public key, 32 bytes."""
        return self.public_key[HYBRID_PUBLIC_BYTES:]


class PrivateHalf(NamedTuple):
    """The private half of an identity as its file holds it.

    Attributes:
        protection: The URI of the key that opens it, or `none`.
        content: The seed, or a slot row that holds it.
    """

    protection: str
    content: KeyBytes


class Previous(NamedTuple):
    """A key pair that an identity had before.

    Attributes:
        public_key: As that of the identity, 1,248 bytes.
        signature: By its own signing key, over itself and the public key that came after it, 64 bytes.
        acceptance: The same by the signing key that came after it: nobody is given a former key pair that he never had.
    """

    public_key: bytes
    signature: bytes
    acceptance: bytes


class IdentityFile(NamedTuple):
    """What a file of an identity holds.

    Attributes:
        identity: The public half.
        private: The private half, or None where the file is for others.
        previous: The key pairs that it had before, the newest first.
    """

    identity: Identity
    private: PrivateHalf | None
    previous: tuple[Previous, ...] = ()

    @property
    def chain(self) -> tuple[Identity, ...]:
        """The identity with each of its key pairs, the one of today first."""
        return (self.identity, *(Identity(self.identity.name, one.public_key) for one in self.previous))


def generate_identity(name: str) -> tuple[Identity, KeyBytes]:
    """Return a new identity and its seed."""
    seed = generate_seed()
    return identity_of(name, seed), seed


def identity_of(name: str, seed: bytes) -> Identity:
    """Return the public half of the identity that a seed of 32 bytes is."""
    signer = signing_key_of(seed)
    return Identity(name, hybrid_public_key(opening_key_of(seed)) + signer.public_key().public_bytes_raw())


def opening_key_of(seed: bytes) -> KeyBytes:
    """Return the private key that opens what is sealed to an identity, 96 bytes."""
    return KeyBytes(expand(seed, Label.IDENTITY, b"", _DERIVED_BYTES)[:HYBRID_PRIVATE_BYTES])


def signing_key_of(seed: bytes) -> Ed25519PrivateKey:
    """Return the private key that an identity signs with."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    derived = KeyBytes(expand(seed, Label.IDENTITY, b"", _DERIVED_BYTES))
    return Ed25519PrivateKey.from_private_bytes(derived[HYBRID_PRIVATE_BYTES:])


# --- succession -------------------------------------------------------------------------------------------------------


def sign_succession(name: str, seed: bytes, successor_seed: bytes) -> Previous:
    """Return the statement of both key pairs that the second has taken the place of the first.

    Args:
        name: The identity's.
        seed: The former one's.
        successor_seed: The new one's.
    """
    former = identity_of(name, seed)
    told = _statement(former, identity_of(name, successor_seed))
    return Previous(former.public_key, signing_key_of(seed).sign(told), signing_key_of(successor_seed).sign(told))


def _is_succession(former: Identity, successor: Identity, statement: Previous) -> bool:
    """Return whether both key pairs have signed that the second came after the first."""
    told = _statement(former, successor)
    return _has_signed(former, statement.signature, told) and _has_signed(successor, statement.acceptance, told)


def _has_signed(identity: Identity, signature: bytes, told: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(identity.verifier).verify(signature, told)
    except (InvalidSignature, ValueError):
        return False
    return True


def _statement(former: Identity, successor: Identity) -> bytes:
    name = former.name.encode()
    told = bytes((len(name),)) + name + former.public_key + successor.public_key
    return Label.IDENTITY_NEXT.encode() + b"\x00" + told


# --- protection -------------------------------------------------------------------------------------------------------


def protect_seed(identity: Identity, seed: bytes, provider: KeyProvider, uri: str) -> PrivateHalf:
    """Return the private half of an identity under another key.

    Args:
        identity: The public half.
        seed: 32 bytes.
        provider: Holds the key.
        uri: What names it where the file is used; it is readable in the file.

    What is returned is opened before: it may take the place of the only other one.

    Raises:
        InvalidKeyUri: A key of this kind protects no identity.
        KeyProviderUnavailable, KeyProviderRefused: The key cannot be used, or does not open what it has just wrapped.
    """
    verify_protection(uri)
    slot_id = secrets.token_bytes(SLOT_ID_BYTES)
    wrapped = call_wrap(provider, KeyBytes(seed), WrapContext(identity.fingerprint, slot_id))
    private = PrivateHalf(uri, KeyBytes(Slot(provider.kind, slot_id, wrapped).to_bytes()))
    try:
        open_seed(identity, private, provider)
    except WrongKey:
        message = f"the `{provider.scheme}:` key does not open what it has just wrapped"
        raise KeyProviderRefused(message, hint="nothing was written; test it with `securecfg key test`") from None
    return private


def verify_protection(uri: str) -> None:
    """Check that a key may protect an identity.

    Raises:
        InvalidKeyUri: It may not.
    """
    scheme = uri.partition(":")[0].lower()
    if scheme == "pkcs11" and names_code(uri):
        message = "a `pkcs11:` key that protects an identity does not say where its module lies"
        raise InvalidKeyUri(message, hint="name a module of the system: `module-name=` instead of `module-path=`")
    # A file must not say which program is started, nor may one of several keys; identities could protect each other.
    if scheme in {"identity", "composite"} or names_code(uri):
        message = f"a `{scheme}:` key protects no identity"
        raise InvalidKeyUri(message, hint="use `passphrase:`, `file:PATH`, `keyring:` or a key service")


def open_seed(identity: Identity, private: PrivateHalf, provider: KeyProvider) -> KeyBytes:
    """Return the seed of an identity that another key protects.

    Raises:
        WrongKey: It is another key, or the content was altered.
        KeyProviderRefused: What it protects is not this identity.
        KeyProviderUnavailable: The key cannot be used now.
    """
    try:
        slot = Slot.parse(private.content)
    except (NotAVault, UnsupportedFormat):
        raise _damaged() from None
    if slot.kind != provider.kind:
        raise _damaged()
    seed = KeyBytes(call_unwrap(provider, slot.wrapped, WrapContext(identity.fingerprint, slot.slot_id)))
    if identity_of(identity.name, seed) != identity:
        raise _damaged()
    return seed


# --- text -------------------------------------------------------------------------------------------------------------


def format_identity(identity: Identity) -> str:
    """Return the first line of its public half, without its end."""
    return f"SECURECFG-IDENTITY-1 {identity.name} {_encode(identity.public_key)} {identity.fingerprint.hex()}"


def format_identity_file(file: IdentityFile) -> str:
    """Return the content of a file."""
    text = f"{format_identity(file.identity)}\n"
    for former in file.previous:
        text += f"SECURECFG-IDENTITY-PREVIOUS-1 {' '.join(map(_encode, former))}\n"
    if file.private is None:
        return text
    protection, content = file.private
    text += f"SECURECFG-IDENTITY-KEY-1 {quote(protection, safe=_SAFE)} {_encode(content)}"
    return f"{text} {hashlib.sha256(text.encode()).hexdigest()[:8]}\n"


def compose_identity_file(file: IdentityFile) -> bytes:
    """Return the content of a file that is going to be written, which reads back as it was given.

    Raises:
        InvalidKeyUri: The URI of the key that protects the private half does not fit into a file.
    """
    content = format_identity_file(file).encode()
    if len(content) <= FILE_BYTES_MAX and _parse(content) == file:
        return content
    del content, file  # a traceback that shows locals must not show them
    message = "the URI of the key that protects the identity does not fit into its file"
    raise InvalidKeyUri(message, hint="nothing was written; name a key whose URI or path is shorter")


def parse_identity_file(content: bytes) -> IdentityFile:
    """Return what a file of an identity holds.

    Whether a key service's or a passphrase's content is that of this identity is seen when it is opened.

    Raises:
        KeyProviderRefused: It is not one, or was altered.
    """
    file = _parse(content)
    del content  # a traceback that shows locals must not show it
    if file is None:
        raise _damaged()
    if file.private is not None and file.private.protection != UNPROTECTED:
        verify_protection(file.private.protection)
    return file


def read_identity_file(path: str | os.PathLike[str]) -> IdentityFile:
    """Return what a file holds.

    Raises:
        FileMissing: There is no such file.
        InvalidKeyUri: The file names a key that protects no identity.
        KeyProviderRefused: It is not the file of an identity, or was altered; or it holds a private half and others can
            read it, or it belongs to someone else.
    """
    content, status = read_small_file(path, FILE_BYTES_MAX)
    try:
        file = parse_identity_file(content)
    except KeyProviderRefused as error:
        message = f"`{os.fspath(path)}`: {error.message}"
        raise KeyProviderRefused(message, hint=error.hint) from None
    finally:
        del content
    if file.private is not None:
        verify_private(path, status)
    return file


def _parse(content: bytes) -> IdentityFile | None:
    lines = content.decode("latin-1").split("\n")
    public = _PUBLIC.fullmatch(lines[0])
    last = _PRIVATE.fullmatch(lines[-2]) if len(lines) > 2 else None  # noqa: PLR2004 - two lines, and an empty end
    previous = _parse_previous(lines[1 : -1 if last is None else -2])
    raw = _decode(public[2]) if public is not None else None
    if public is None or raw is None or previous is None:
        return None
    private = None
    if last is not None:
        encoded = _decode(last[2])
        if encoded is None:
            return None
        private = PrivateHalf(unquote(last[1]), KeyBytes(encoded))
    file = IdentityFile(Identity(public[1], raw), private, previous)
    # Comparing what it should have been refuses another check and a second spelling.
    if not hmac.compare_digest(format_identity_file(file).encode(), content) or not _is_chain(file.chain, previous):
        return None
    is_open = private is not None and private.protection == UNPROTECTED
    return None if is_open and private is not None and not _is_seed_of(private.content, file.identity) else file


def _parse_previous(lines: Sequence[str]) -> tuple[Previous, ...] | None:
    previous = []
    for line in lines:
        match = _PREVIOUS.fullmatch(line)
        decoded = [_decode(field) for field in match.groups()] if match is not None else [None]
        if None in decoded:
            return None
        previous.append(Previous(*(field or b"" for field in decoded)))
    return tuple(previous)


def _is_chain(chain: Sequence[Identity], previous: Sequence[Previous]) -> bool:
    """Return whether each former key pair, all of them different, and the next one have signed for each other."""
    if len(previous) > PREVIOUS_MAX or len(set(chain)) < len(chain):
        return False
    links = zip(chain[1:], chain, previous, strict=False)
    return all(_is_succession(former, successor, one) for former, successor, one in links)


def _is_seed_of(seed: bytes, identity: Identity) -> bool:
    return len(seed) == 32 and identity_of(identity.name, seed) == identity  # noqa: PLR2004 - the size of a key


def _encode(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes | None:
    try:
        return urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except ValueError:
        return None


def _damaged() -> KeyProviderRefused:
    message = "this is not the file of an identity, or it was altered"
    return KeyProviderRefused(
        message, hint="`securecfg identity create` makes one; `identity export` prints the public half"
    )
