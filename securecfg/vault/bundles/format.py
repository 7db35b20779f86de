"""The layout of a bundle: head, content and what vouches for them (docs/security/bundles.md). Bytes in, values out."""

from __future__ import annotations

import json
import re
import struct
from hashlib import sha256
from itertools import pairwise
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from securecfg.audit import VerifierKey, parse_vkey
from securecfg.audit.epoch import HandOver, follow_hand_overs, parse_hand_over
from securecfg.audit.note import decode_base64, encode_base64, open_note, parse_note
from securecfg.audit.proof import open_proof
from securecfg.crypto import (
    HYBRID_OVERHEAD_BYTES,
    HYBRID_PUBLIC_BYTES,
    KEY_BYTES,
    SUITE,
    ChunkOpener,
    ChunkSealer,
    KeyBytes,
    Label,
    bundle_context,
    expand,
    padme,
)
from securecfg.crypto.chunked import CHUNK_BYTES, HEADER_BYTES, ROW_BYTES, TAG_BYTES
from securecfg.errors import LogTampered, NotABundle, SignatureInvalid, Tampered, UnsupportedFormat, UsageError
from securecfg.octets import U16, U32, U64, Cursor, Malformed, var8, var16, var32
from securecfg.vault.kinds import BUNDLE_MAGIC

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

FORMAT = 1
BUNDLE_BYTES_MAX = 256 << 20
RECIPIENTS_MAX = 128
CHAIN_MAX = 32
PAYLOAD_BYTES = KEY_BYTES + 8
SLOT_BYTES = PAYLOAD_BYTES + HYBRID_OVERHEAD_BYTES
BUNDLE_ID_BYTES = 16
SCOPES_MAX = 255
INDEX = 0

_FRONT = struct.Struct(f">4sHBB{BUNDLE_ID_BYTES}sH")
_VERSION = struct.Struct(">IBQQBIQQQ")
_BASE = struct.Struct(f">{BUNDLE_ID_BYTES}s32s")
_SMALLEST_CONTENT = 4_096
_STATEMENT = re.compile(
    r"securecfg-bundle/1\n(?P<issuer>[!-~]{1,1024})\nrecord (?P<serial>0|[1-9][0-9]{0,15})\n"
    r"(?P<scopes>(?:scope [0-9a-f]{32} record (?:0|[1-9][0-9]{0,15})\n){0,255})"
    r"body (?P<body>[A-Za-z0-9+/]{43}=)\nevidence (?P<evidence>[A-Za-z0-9+/]{43}=)\n"
)
_SCOPE = re.compile(r"scope (?P<vault_id>[0-9a-f]{32}) record (?P<serial>[0-9]+)\n")
_VAULT_ID_BYTES = 16
_HINT = "ask for the file again, from where it was published"


class PublishedVersion(NamedTuple):
    """A version in a bundle. Times are nanoseconds since 1970, 0 for none.

    Attributes:
        number: The version's number, from 1.
        kind: Of the value.
        created: When it was written.
        expires: When it stops being readable.
        depth: In which content its message lies: 0 in this one, n in that of the n-th bundle that this one builds on.
        message: The message's number there.
        start: Where it begins there.
        sealed_length: How long it is there.
        length: How long the value is.
        author: The principal that wrote it.
        content_type: Of a configuration document, or empty.
        metadata: As JSON, or empty.
        key: The message's own, where it lies in another bundle; else None.
    """

    number: int
    kind: int
    created: int
    expires: int
    depth: int
    message: int
    start: int
    sealed_length: int
    length: int
    author: str
    content_type: str
    metadata: bytes
    key: KeyBytes | None = None


class PublishedSecret(NamedTuple):
    """A secret in a bundle.

    Attributes:
        is_listed: Whether those who may read it may see that it is there.
        labels: All labels of these versions, the vault's own among them.
        versions: Those that were published, newest first.
    """

    is_listed: bool
    labels: Mapping[str, int]
    versions: tuple[PublishedVersion, ...]


class Base(NamedTuple):
    """A bundle that another one builds on: its id and the SHA-256 of its body."""

    bundle_id: bytes
    digest: bytes


class PublishedScope(NamedTuple):
    """A sealed scope of which there are secrets in a bundle.

    Attributes:
        path: Where it lies, ending in `/`.
        vault_id: Of the vault that it is, 16 bytes.
        audit_key: What records of its secrets are sealed to.
    """

    path: str
    vault_id: bytes
    audit_key: bytes


class Index(NamedTuple):
    """What a bundle says once it is opened.

    Attributes:
        role: Whose it is, without `role:`.
        issued: When it was published.
        expires: Until when it may be used.
        policy: The digest of the policy that decided.
        audit_key: What its readers seal their records to.
        bases: What it builds on, the nearest first.
        secrets: By path.
        scopes: The sealed scopes that some of them lie in, by path ascending, but for the one that publishes itself.
    """

    role: str
    issued: int
    expires: int
    policy: str
    audit_key: bytes
    bases: tuple[Base, ...]
    secrets: Mapping[str, PublishedSecret]
    scopes: tuple[PublishedScope, ...] = ()

    def to_bytes(self) -> bytes:
        """Return the plaintext without its padding."""
        parts = [
            *(var8(self.role.encode()), U64.pack(self.issued), U64.pack(self.expires), var8(self.policy.encode())),
            *(self.audit_key, bytes((len(self.scopes),))),
            *(var16(scope.path.encode()) + scope.vault_id + scope.audit_key for scope in self.scopes),
            *(bytes((len(self.bases),)), *(_BASE.pack(*base) for base in self.bases)),
            U32.pack(len(self.secrets)),
        ]
        for path, (is_listed, labels, versions) in sorted(self.secrets.items(), key=lambda item: item[0].encode()):
            parts += [var16(path.encode()), bytes((is_listed,)), U16.pack(len(labels))]
            parts += [var8(name.encode()) + U32.pack(number) for name, number in sorted(labels.items())]
            parts.append(U16.pack(len(versions)))
            for version in versions:
                parts += [_VERSION.pack(*version[:9]), version.key or b"", var8(version.author.encode())]
                parts += [var8(version.content_type.encode()), var16(version.metadata)]
        return b"".join(parts)

    @classmethod
    def parse(cls, raw: bytes) -> Index:
        """Return what an index says. Its padding may be any number of zeros here.

        Raises:
            Malformed: It breaks the layout.
        """
        cursor = Cursor(raw)
        role, issued, expires, policy = cursor.str8(), cursor.u64(), cursor.u64(), cursor.str8()
        audit_key = cursor.take(HYBRID_PUBLIC_BYTES)
        scopes = tuple(
            PublishedScope(cursor.str16(), cursor.take(_VAULT_ID_BYTES), cursor.take(HYBRID_PUBLIC_BYTES))
            for _ in range(cursor.u8())
        )
        _verify_scopes(scopes)
        bases = [Base(*_BASE.unpack(cursor.take(_BASE.size))) for _ in range(cursor.u8())]
        secrets: dict[str, PublishedSecret] = {}
        last = b""
        for _ in range(cursor.u32()):
            path, listed = cursor.var16(), cursor.u8()
            named = [(cursor.str8(), cursor.u32()) for _ in range(cursor.u16())]
            labels = dict(named)
            versions = tuple(_parse_version(cursor, len(bases)) for _ in range(cursor.u16()))
            if path <= last or listed > 1 or [name for name, _ in named] != sorted(labels):
                raise Malformed
            numbers = [version.number for version in versions]
            if "current" not in labels or set(labels.values()) != set(numbers) or numbers != sorted(set(numbers))[::-1]:
                raise Malformed
            last = path
            try:
                secrets[path.decode()] = PublishedSecret(bool(listed), MappingProxyType(labels), versions)
            except UnicodeDecodeError:
                raise Malformed from None
        if raw.count(0, cursor.position) != len(raw) - cursor.position:
            raise Malformed
        return cls(role, issued, expires, policy, audit_key, tuple(bases), MappingProxyType(secrets), scopes)


def _verify_scopes(scopes: Sequence[PublishedScope]) -> None:
    paths = [scope.path for scope in scopes]
    overlap = any(other.startswith(path) for path, other in pairwise(paths))
    if paths != sorted(set(paths)) or overlap or not all(path.endswith("/") for path in paths):
        raise Malformed


def _parse_version(cursor: Cursor, bases: int) -> PublishedVersion:
    number, kind, created, expires, depth, message, start, sealed, length = _VERSION.unpack(cursor.take(_VERSION.size))
    place = (depth, message, start, sealed, length)
    key = KeyBytes(cursor.take(KEY_BYTES)) if depth else None
    told = (cursor.str8(), cursor.str8(), cursor.var16())
    version = PublishedVersion(number, kind, created, expires, *place, *told, key)
    if not version.number or version.depth > bases or not version.message:
        raise Malformed
    return version


class Front(NamedTuple):
    """The readable parts of a bundle.

    Attributes:
        bundle_id: 16 bytes.
        slots: What is sealed to each recipient.
        content: The messages.
        digest: The SHA-256 of the body.
        statement: What the vault's log key signed.
        proof: That the publication is in the log.
        hand_overs: How the log's key came to be another one.
        evidence: The SHA-256 of the two.
    """

    bundle_id: bytes
    slots: tuple[bytes, ...]
    content: memoryview
    digest: bytes
    statement: bytes
    proof: bytes
    hand_overs: bytes
    evidence: bytes


def parse_front(raw: bytes) -> Front:
    """Take a bundle apart; nothing that it says is verified.

    Raises:
        NotABundle: It does not have the layout of one.
        UnsupportedFormat: A later version made it.
    """
    if len(raw) < _FRONT.size or raw[:4] != BUNDLE_MAGIC:
        message = "the file is not a bundle"
        raise NotABundle(message, hint="`securecfg vault publish` makes one")
    _, number, suite, flags, bundle_id, count = _FRONT.unpack_from(raw)
    if (number, suite, flags) != (FORMAT, SUITE, 0):
        message = f"the bundle is of format {number}, suite {suite}"
        raise UnsupportedFormat(message, hint="a newer version of securecfg may read it")
    cursor = Cursor(raw, _FRONT.size)
    try:
        if not 0 < count <= RECIPIENTS_MAX or count & (count - 1) or len(raw) > BUNDLE_BYTES_MAX:
            raise Malformed
        slots = tuple(cursor.take(SLOT_BYTES) for _ in range(count))
        length = cursor.u64()
        start = cursor.position
        cursor.take(length)
        digest = sha256(memoryview(raw)[: cursor.position]).digest()
        content = memoryview(raw)[start : start + length]
        statement = cursor.var32()
        evidence_start = cursor.position
        proof, hand_overs = cursor.var32(), cursor.var32()
        cursor.finish()
    except Malformed:
        message = "the bundle is cut off, or is longer than it says"
        raise NotABundle(message, hint=_HINT) from None
    evidence = sha256(memoryview(raw)[evidence_start:]).digest()
    return Front(bundle_id, slots, content, digest, statement, proof, hand_overs, evidence)


class Vouched(NamedTuple):
    """What a bundle's signature vouches for.

    Attributes:
        issuer: The verifier key of the log's first epoch, as the bundle says.
        vault_id: 16 bytes, of the issuer's name.
        serial: The index of the record of the publication.
        epochs: How many hand-overs there were.
        scopes: The vault ids of the scopes of which there are secrets in it, and the indexes of their records.
    """

    issuer: VerifierKey
    vault_id: bytes
    serial: int
    epochs: int
    scopes: tuple[tuple[bytes, int], ...]


def claimed_issuer(front: Front) -> VerifierKey:
    """Return which key a bundle says that its vault's log began with. Nothing vouches for that yet.

    Raises:
        SignatureInvalid: It says nothing that could be one.
    """
    return _parse_statement(front.statement).issuer


def verify_front(front: Front, trusted: VerifierKey) -> Vouched:
    """Check that the vault of a trusted key published a bundle.

    Args:
        front: The bundle.
        trusted: The verifier key of an epoch of the vault's log.

    Raises:
        SignatureInvalid: It did not, or a byte was changed.
    """
    issuer, serial, scopes, body, evidence = _parse_statement(front.statement)
    try:
        hand_overs = _parse_hand_overs(front.hand_overs)
        keys = follow_hand_overs(issuer, hand_overs)
        if trusted not in keys:
            message = "the bundle is from another vault than it must be from"
            raise SignatureInvalid(
                message, hint="ask who published it, and compare what `securecfg audit verify` says there"
            )
        # What came before the trusted key proves nothing to its holder, so the chain is followed from it alone.
        key = follow_hand_overs(trusted, hand_overs)[-1]
        open_note(front.statement, [key])
        if body != front.digest or evidence != front.evidence:
            raise _altered()
        proved = open_proof(front.proof, [key])
        if proved.index != serial or len(parse_note(front.statement).signatures) != 1:
            raise _altered()
        return Vouched(issuer, bytes.fromhex(key.name.partition("/")[2]), serial, len(hand_overs), scopes)
    except (LogTampered, UnsupportedFormat, ValueError):
        raise _altered() from None


class _Statement(NamedTuple):
    issuer: VerifierKey
    serial: int
    scopes: tuple[tuple[bytes, int], ...]
    body: bytes
    evidence: bytes


def _parse_statement(raw: bytes) -> _Statement:
    match = _STATEMENT.fullmatch(parse_note(raw).text)
    if match is None:
        raise _altered()
    try:
        issuer = parse_vkey(match["issuer"])
        scopes = tuple((bytes.fromhex(one["vault_id"]), int(one["serial"])) for one in _SCOPE.finditer(match["scopes"]))
        hashes = decode_base64(match["body"]), decode_base64(match["evidence"])
        return _Statement(issuer, int(match["serial"]), scopes, *hashes)
    except (UsageError, ValueError):
        raise _altered() from None


def _parse_hand_overs(raw: bytes) -> list[HandOver]:
    objects = json.loads(raw)
    if not isinstance(objects, list) or _hand_overs_to_bytes(objects) != raw:
        raise _altered()
    return [parse_hand_over(obj) for obj in objects]


def _hand_overs_to_bytes(objects: Sequence[object]) -> bytes:
    return json.dumps(objects, sort_keys=True, separators=(",", ":")).encode()


class Evidence(NamedTuple):
    """What vouches for a publication: the proof that its record is in the log, and the log's hand-overs."""

    proof: bytes
    hand_overs: tuple[HandOver, ...]


def trailer_to_bytes(
    digest: bytes,
    issuer: VerifierKey,
    serials: tuple[int, Sequence[tuple[bytes, int]]],
    evidence: Evidence,
    key: Ed25519PrivateKey,
) -> bytes:
    """Return what follows the body: the signed statement, the proof and the hand-overs.

    Args:
        digest: The SHA-256 of the body.
        issuer: The verifier key of the log's first epoch.
        serials: The index of the record in that log, and the vault ids of scopes with those in theirs.
        evidence: Proof and hand-overs.
        key: Signs, by the newest epoch of the log.
    """
    from securecfg.audit.note import sign_note

    objects = [hand_over.to_object() for hand_over in evidence.hand_overs]
    told = var32(evidence.proof) + var32(_hand_overs_to_bytes(objects))
    text = (
        f"securecfg-bundle/1\n{issuer}\nrecord {serials[0]}\n"
        f"{''.join(f'scope {vault_id.hex()} record {serial}{chr(10)}' for vault_id, serial in serials[1])}"
        f"body {encode_base64(digest)}\n"
        f"evidence {encode_base64(sha256(told).digest())}\n"
    )
    return var32(sign_note(text, issuer.name, key)) + told


def message_key(file_key: KeyBytes, bundle_id: bytes, number: int) -> KeyBytes:
    """Return the key of one message, which opens no other."""
    return KeyBytes(expand(file_key, Label.BUNDLE, bundle_id + U32.pack(number), KEY_BYTES))


class Messages:
    """Seals and opens the messages of one bundle.

    Args:
        vault_id: 16 bytes.
        bundle_id: 16 bytes.
    """

    def __init__(self, vault_id: bytes, bundle_id: bytes) -> None:
        """Open nothing yet."""
        self._place = vault_id, bundle_id

    def seal(self, key: KeyBytes, number: int, pieces: Iterable[bytes]) -> bytes:
        """Return a message sealed with its own key."""
        return b"".join(ChunkSealer(key, self._context(number)).seal(pieces))

    def open(self, key: KeyBytes, number: int, sealed: memoryview) -> bytes:
        """Return the plaintext of a message.

        Raises:
            Tampered: It does not open.
        """
        return b"".join(ChunkOpener(key, self._context(number)).open(_rows(sealed)))

    def _context(self, number: int) -> bytes:
        return bundle_context(*self._place, number)


def _rows(sealed: memoryview) -> Iterator[bytes]:
    first = HEADER_BYTES + ROW_BYTES
    yield bytes(sealed[:first])
    for start in range(first, len(sealed), ROW_BYTES):
        yield bytes(sealed[start : start + ROW_BYTES])


def head_to_bytes(bundle_id: bytes, slots: Sequence[bytes]) -> bytes:
    """Return the head without the length of the content."""
    return _FRONT.pack(BUNDLE_MAGIC, FORMAT, SUITE, 0, bundle_id, len(slots)) + b"".join(slots)


def slot_info(bundle_id: bytes, fingerprint: bytes) -> bytes:
    """Return what a slot is bound to besides the key that it is sealed to."""
    return Label.BUNDLE.encode() + b"\x00" + bundle_id + fingerprint


def sealed_length(length: int) -> int:
    """Return how long the message of so many bytes is when it is sealed."""
    return HEADER_BYTES + length + TAG_BYTES * (length // CHUNK_BYTES + 1)


def padded_index_length(length: int, before: int) -> int:
    """Return to how many bytes an index is filled so that the length of the whole content tells little.

    Args:
        length: Of the index without padding.
        before: The sealed length of all values.
    """
    total = padme(max(before + sealed_length(length), _SMALLEST_CONTENT))
    while True:
        wanted = total - before - HEADER_BYTES
        filled = wanted - TAG_BYTES * (wanted // (CHUNK_BYTES + TAG_BYTES) + 1)
        if filled >= length and before + sealed_length(filled) == total:
            return filled
        total = padme(total + 1)


def verify_padding(index: Index, raw: bytes, before: int) -> None:
    """Check that an index is filled with as many zeros as its place asks for.

    Raises:
        Malformed: There are more or fewer.
    """
    if padded_index_length(len(index.to_bytes()), before) != len(raw):
        raise Malformed


def _altered() -> SignatureInvalid:
    return SignatureInvalid("the bundle is not what its signature vouches for", hint=_HINT)


def altered() -> Tampered:
    """Return the error for what does not open although it is signed."""
    return Tampered("the bundle does not open: it is damaged, or its publisher made it wrong", hint=_HINT)
