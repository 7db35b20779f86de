"""Signed notes with Ed25519 keys, as c2sp.org/signed-note defines them.

A note is text followed by signature lines. A signature by a key that is not asked for is ignored; one by a key that is
asked for and does not verify condemns the whole note.
"""

from __future__ import annotations

import binascii
import hmac
import re
from hashlib import sha256
from typing import TYPE_CHECKING

from securecfg.errors import SignatureInvalid, UsageError
from securecfg.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

MAX_NOTE_BYTES = 1 << 20
MAX_SIGNATURES = 64
MAX_VKEY_CHARS = 1_024
KEY_BYTES = 32
SIGNATURE_BYTES = 64

_ED25519 = b"\x01"
_KEY_NAME = re.compile(r"[^\s+]+")
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_DASH = "\N{EM DASH} "


class VerifierKey:
    """A public key under the name that its signatures carry. It does not change.

    Attributes:
        name: Not empty, without spaces and plus signs.
        public_key: An Ed25519 public key, 32 bytes, RFC 8032.
    """

    __slots__ = ("name", "public_key")

    def __init__(self, name: str, public_key: bytes) -> None:
        """Refuse what cannot be a key.

        Raises:
            UsageError: The name or the length of the key is wrong.
        """
        if not _is_key_name(name) or len(public_key) != KEY_BYTES:
            message = "not the name and bytes of an Ed25519 verifier key"
            raise UsageError(message)
        self.name = name
        self.public_key = public_key

    def __eq__(self, other: object) -> bool:
        """Return whether it is the same key under the same name."""
        return isinstance(other, VerifierKey) and (self.name, self.public_key) == (other.name, other.public_key)

    def __hash__(self) -> int:
        """Return a hash of name and key."""
        return hash((self.name, self.public_key))

    @property
    def key_id(self) -> bytes:
        """The four bytes by which a signature line names its key."""
        return sha256(self.name.encode() + b"\n" + _ED25519 + self.public_key).digest()[:4]

    def __str__(self) -> str:
        """Return the key in the form `NAME+HEX+BASE64`, which `parse_vkey` reads."""
        return f"{self.name}+{self.key_id.hex()}+{encode_base64(_ED25519 + self.public_key)}"


class Signature(NamedTuple):
    """One signature line: by whom, and the bytes."""

    name: str
    key_id: bytes
    signature: bytes


class Note(NamedTuple):
    """A note that has been parsed and not verified: its text must not be acted on."""

    text: str
    signatures: tuple[Signature, ...]


def parse_vkey(text: str) -> VerifierKey:
    """Read a verifier key of the form `NAME+HEX+BASE64`.

    Raises:
        UsageError: It has another form, another algorithm than Ed25519, or a key id that does not fit.
    """
    name, _, rest = text.partition("+")
    key_id, _, encoded = rest.partition("+")
    try:
        if len(text) > MAX_VKEY_CHARS:
            raise ValueError
        raw = decode_base64(encoded)
        key = VerifierKey(name, raw[1:])
        if raw[:1] != _ED25519 or key.key_id.hex() != key_id:
            raise ValueError
    except (ValueError, UsageError):
        message = "not an Ed25519 verifier key"
        raise UsageError(message, hint="a verifier key is one line of the form `NAME+8 hex digits+BASE64`") from None
    return key


def vkey_of(name: str, key: Ed25519PrivateKey) -> VerifierKey:
    """Return the verifier key of a signing key.

    Raises:
        UsageError: The name cannot be a key name.
    """
    return VerifierKey(name, key.public_key().public_bytes_raw())


class NoteSigner:
    """Signs notes with one key under one name.

    Args:
        name: What the signature lines say.
        key: The signing key.

    Attributes:
        vkey: What others verify them with.

    Raises:
        UsageError: The name cannot be a key name.
    """

    __slots__ = ("_key", "_key_id", "_line", "vkey")

    def __init__(self, name: str, key: Ed25519PrivateKey) -> None:
        """Compute once what every signature line repeats."""
        self._key = key
        self.vkey = vkey_of(name, key)
        self._key_id = self.vkey.key_id
        self._line = f"\n{_DASH}{name} ".encode()

    def sign(self, text: str) -> bytes:
        """Return the note of a text that ends in a newline.

        Raises:
            UsageError: The text breaks the rules for notes.
        """
        if not text.endswith("\n") or _has_controls(text):
            message = "a note is text without control characters that ends in a newline"
            raise UsageError(message)
        body = text.encode()
        return body + self._line + binascii.b2a_base64(self._key_id + self._key.sign(body))

    def has_signed(self, raw: bytes) -> bool:
        """Return whether a note is, byte for byte, what this key makes of its text; False says nothing of others.

        An Ed25519 signature follows from key and text (RFC 8032, section 5.1.6), and one that was made anew and is the
        same is one that verifies. For who holds the key that takes a third of the time of verifying. Nothing of what
        was signed here gets out: the comparison takes as long wherever the two differ.
        """
        text, separator, _ = raw.rpartition(self._line)
        if not separator or not text.endswith(b"\n"):
            return False
        return hmac.compare_digest(raw, text + self._line + binascii.b2a_base64(self._key_id + self._key.sign(text)))


def sign_note(text: str, name: str, key: Ed25519PrivateKey) -> bytes:
    """Return the note of a text that ends in a newline, signed by one key.

    Raises:
        UsageError: The text or the name breaks the rules for notes.
    """
    return NoteSigner(name, key).sign(text)


def parse_note(raw: bytes) -> Note:
    """Take a note apart without verifying it.

    Raises:
        SignatureInvalid: It is not a well-formed note, or it is larger than 1 MiB, or it has over 64 signatures.
    """
    if len(raw) > MAX_NOTE_BYTES:
        message = f"a note is at most {MAX_NOTE_BYTES} bytes"
        raise SignatureInvalid(message)
    try:
        whole = raw.decode()
    except UnicodeDecodeError:
        message = "a note is not UTF-8 text"
        raise SignatureInvalid(message) from None
    text, separator, block = whole.rpartition("\n\n")
    if not separator or not block.endswith("\n") or _has_controls(whole):
        message = "a note lacks its signatures or has control characters"
        raise SignatureInvalid(message)
    lines = block[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        message = f"a note has at most {MAX_SIGNATURES} signatures"
        raise SignatureInvalid(message)
    return Note(text + "\n", tuple(_parse_signature(line) for line in lines))


def open_note(raw: bytes, keys: Iterable[VerifierKey]) -> tuple[str, VerifierKey]:
    """Return the text of a note and the first of its signers that is among the keys.

    Raises:
        SignatureInvalid: The note is malformed, a signature by one of the keys is wrong, or there is none.
    """
    note = parse_note(raw)
    known = {(key.name, key.key_id): key for key in keys}
    signers = []
    for signature in note.signatures:
        key = known.get((signature.name, signature.key_id))
        if key is not None:
            verify_signature(key.public_key, signature.signature, note.text.encode())
            signers.append(key)
    if not signers:
        message = "the note is not signed by a trusted key"
        raise SignatureInvalid(message, hint="compare the verifier key with the one printed when the vault was created")
    return note.text, signers[0]


def verify_signature(public_key: bytes, signature: bytes, message: bytes) -> None:
    """Check an Ed25519 signature.

    Raises:
        SignatureInvalid: It is not by this key over these bytes.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        text = "a signature does not verify"
        raise SignatureInvalid(text) from None


def encode_base64(raw: bytes) -> str:
    """Return standard base64 with padding, RFC 4648 section 4."""
    return binascii.b2a_base64(raw, newline=False).decode()


def decode_base64(text: str) -> bytes:
    """Return the bytes of standard base64, of which there is exactly one spelling.

    Raises:
        ValueError: The text is anything else.
    """
    try:
        raw = binascii.a2b_base64(text.encode("ascii"), strict_mode=True)
    except (binascii.Error, UnicodeEncodeError):
        raw = b""
    if encode_base64(raw) != text:
        message = "not canonical base64"
        raise ValueError(message)
    return raw


def _parse_signature(line: str) -> Signature:
    name, _, encoded = line.removeprefix(_DASH).partition(" ")
    try:
        raw = decode_base64(encoded)
    except ValueError:
        raw = b""
    if not line.startswith(_DASH) or not _is_key_name(name) or len(raw) <= 4:  # noqa: PLR2004 - the key id's length
        message = "a note has a malformed signature line"
        raise SignatureInvalid(message)
    return Signature(name, raw[:4], raw[4:])


def _is_key_name(name: str) -> bool:
    return _KEY_NAME.fullmatch(name) is not None


def _has_controls(text: str) -> bool:
    return _CONTROL.search(text) is not None
