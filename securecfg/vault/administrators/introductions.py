"""Introductions: what an administrator vouches for towards somebody who opens a vault for the first time.

The text is a signed note (sealed-scopes.md, "Introductions"). A checkpoint that was kept elsewhere serves a vault that
is opened by its root in the same way; nobody but who hands it over vouches for that.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import TYPE_CHECKING

from securecfg.audit import VerifierKey, origin_of, parse_checkpoint
from securecfg.audit.note import encode_base64, parse_note
from securecfg.crypto import Label, seal_to
from securecfg.errors import KeyProviderRefused, LogTampered, SignatureInvalid, Tampered, WrongKey
from securecfg.files import read_bounded
from securecfg.keys import IdentityProvider
from securecfg.keys.trust import Trust
from securecfg.octets import Cursor, Malformed, pad, var32
from securecfg.tuples import NamedTuple
from securecfg.vault.state.anchor import NOTE_MAX, Mark

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from securecfg.keys import Identity, KeyProvider
    from securecfg.keys.trust import Signatures

FILE_BYTES_MAX = 1 << 20

_FIRST_LINE = "securecfg-introduction/1"
_SEALED = "SECURECFG-SEALED-INTRODUCTION-1 "
_CHECKPOINT = b"securecfg/"
_PADDING_BYTES = 1_024
_UNKNOWN = bytes(32)
_SERIAL_LIMIT = 1 << 32
_SIZE_LIMIT = 1 << 63
_NUMBER = r"[1-9][0-9]{0,18}"
_TEXT = re.compile(
    rf"{_FIRST_LINE}\n"
    r"securecfg/(?P<vault>[0-9a-f]{32})\n"
    r"made (?P<made>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{9}Z)\n"
    r"threshold (?P<threshold>[1-9][0-9]{0,2}) of (?P<count>[1-9][0-9]{0,2}) change (?P<serial>0|[1-9][0-9]{0,9})\n"
    r"(?P<administrators>(?:administrator [0-9a-f]{64}\n){1,255})"
    rf"log (?P<size>{_NUMBER}) (?P<root>[0-9a-f]{{64}})\n"
    rf"(?P<scopes>(?:scope [0-9a-f]{{32}} {_NUMBER} [0-9a-f]{{64}} {_NUMBER} [0-9a-f]{{64}}(?: [^\n]+)?\n)+)"
)
_LINE = re.compile(rf"{_SEALED}([0-9a-f]{{32}}) ([A-Za-z0-9_-]+) [0-9a-f]{{8}}", re.ASCII)


class IntroducedScope(NamedTuple):
    """A sealed scope as an introduction has it.

    Attributes:
        scope_id: The vault id in its partition, 16 bytes.
        serial: Of its charter.
        charter: The digest of that, 32 bytes.
        size: The number of records in its log.
        root: The root of the tree over them, 32 bytes.
        path: The subtree; empty in an introduction that everybody may read.
    """

    scope_id: bytes
    serial: int
    charter: bytes
    size: int
    root: bytes
    path: str = ""


class Introduction(NamedTuple):
    """What is known of a vault from elsewhere.

    Attributes:
        vault_id: The vault's id, 16 bytes.
        marks: What the logs have to continue, by the vault id of each: of scopes, or of the vault itself.
        trust: Its administrators; None where it is a checkpoint.
        made: When it was made, as it says; empty where it is a checkpoint.
        paths: The subtrees of scopes, as far as they are told, by the vault id of each.
    """

    vault_id: bytes
    marks: Mapping[bytes, Mark]
    trust: Trust | None = None
    made: str = ""
    paths: Mapping[bytes, str] = {}


# --- making -----------------------------------------------------------------------------------------------------------


def word_introduction(
    vault_id: bytes, trust: Trust, log: tuple[int, bytes], scopes: Sequence[IntroducedScope], made: str
) -> str:
    """Return the text that administrators sign.

    Args:
        vault_id: 16 bytes.
        trust: The administrators.
        log: The size of the vault's own log, and the root of the tree over it.
        scopes: What is vouched for, at least one.
        made: When, RFC 3339 in UTC with nine digits of seconds.
    """
    lines = [
        _FIRST_LINE,
        origin_of(vault_id),
        f"made {made}",
        f"threshold {trust.threshold} of {len(trust.administrators)} change {trust.serial}",
        *(f"administrator {key.hex()}" for key in trust.administrators),
        f"log {log[0]} {log[1].hex()}",
    ]
    for scope in scopes:
        line = f"scope {scope.scope_id.hex()} {scope.serial} {scope.charter.hex()} {scope.size} {scope.root.hex()}"
        lines.append(f"{line} {scope.path}" if scope.path else line)
    return "".join(f"{line}\n" for line in lines)


def sign_introduction(text: str, vault_id: bytes, signatures: Signatures) -> bytes:
    """Return the signed note of a text.

    Args:
        text: From `word_introduction`.
        vault_id: 16 bytes.
        signatures: Public keys of administrators, each with its signature of the text.
    """
    name = _signer_name(vault_id)
    lines = [
        f"\N{EM DASH} {name} {encode_base64(VerifierKey(name, key).key_id + signature)}\n"
        for key, signature in signatures
    ]
    return f"{text}\n{''.join(lines)}".encode()


def seal_introduction(note: bytes, member: Identity) -> bytes:
    """Return a file with an introduction that only one member can read.

    Raises:
        KeyProviderRefused: The public key of the member is none.
    """
    fingerprint = member.fingerprint
    try:
        message = seal_to(member.recipient, pad(var32(note), _PADDING_BYTES), _info(fingerprint))
    except Tampered:
        reason = f"the public key of `{member.name}` is none"
        raise KeyProviderRefused(reason, hint="ask its owner for the line again") from None
    return f"{_sealed_line(fingerprint, message)}\n".encode()


# --- reading ----------------------------------------------------------------------------------------------------------


def is_introduction(message: bytes) -> bool:
    """Return whether what somebody is to sign is the text of an introduction."""
    try:
        return _TEXT.fullmatch(message.decode()) is not None
    except UnicodeDecodeError:
        return False


def is_sealed(content: bytes) -> bool:
    """Return whether a file holds an introduction that only one member can read."""
    return content.startswith(_SEALED.encode())


def read_introduction(path: str | os.PathLike[str], provider: KeyProvider | None = None) -> Introduction:
    """Return what a file says: an introduction, or a checkpoint that was kept elsewhere.

    Whether the administrators are those of the vault, nobody but its reader can tell.

    Args:
        path: The file.
        provider: Holds the identity that it may be sealed to.

    Raises:
        FileMissing, StoreFailed, ValueTooLarge: The file cannot be read.
        SignatureInvalid: It is neither, or not signed by the administrators that it names.
        WrongKey: It is sealed to another identity, or there is none at hand.
        KeyProviderRefused, KeyProviderUnavailable, SettingMissing: The identity cannot be used.
    """
    content = read_bounded(path, FILE_BYTES_MAX)
    if is_sealed(content):
        content = _open_sealed(content, provider)
    if content.startswith(_CHECKPOINT):
        return _from_checkpoint(content)
    return parse_introduction(content)


def parse_introduction(raw: bytes) -> Introduction:
    """Return what a signed note says.

    Raises:
        SignatureInvalid: It is malformed, or fewer of the administrators that it names have signed it than must.
    """
    note = parse_note(raw)
    match = _TEXT.fullmatch(note.text)
    if match is None:
        raise _refusal()
    vault_id = bytes.fromhex(match["vault"])
    administrators = tuple(bytes.fromhex(line.split(" ")[1]) for line in match["administrators"].splitlines())
    trust = Trust(administrators, int(match["threshold"]), _number(match["serial"], _SERIAL_LIMIT))
    scopes = [_parse_scope(line) for line in match["scopes"].splitlines()]
    log = _number(match["size"], _SIZE_LIMIT), bytes.fromhex(match["root"])
    marks = {vault_id: Mark(*log, _UNKNOWN, b"")} | {
        scope.scope_id: Mark(scope.size, scope.root, _UNKNOWN, b"", scope.serial, scope.charter) for scope in scopes
    }
    paths = {scope.scope_id: scope.path for scope in scopes if scope.path}
    text = word_introduction(vault_id, trust, log, scopes, match["made"])
    is_whole = len(marks) == len(scopes) + 1 and text == note.text
    if not is_whole or int(match["count"]) != len(set(administrators)) or trust.threshold > len(administrators):
        raise _refusal()
    name, message = _signer_name(vault_id), note.text.encode()
    ids = {VerifierKey(name, key).key_id: key for key in administrators}
    signatures = tuple(
        (ids[line.key_id], line.signature) for line in note.signatures if line.name == name and line.key_id in ids
    )
    if not trust.holds(signatures, message):
        reason = f"it takes the signatures of {trust.threshold} of its administrators, and not so many have signed it"
        raise SignatureInvalid(reason, hint="ask an administrator for another one: `securecfg scope introduce`")
    return Introduction(vault_id, marks, trust, match["made"], paths)


def _parse_scope(line: str) -> IntroducedScope:
    _, scope_id, serial, charter, size, root, *path = line.split(" ", 6)
    return IntroducedScope(
        bytes.fromhex(scope_id),
        _number(serial, _SERIAL_LIMIT),
        bytes.fromhex(charter),
        _number(size, _SIZE_LIMIT),
        bytes.fromhex(root),
        "".join(path),
    )


def _number(digits: str, limit: int) -> int:
    number = int(digits)
    if number >= limit:
        raise _refusal()
    return number


def _from_checkpoint(content: bytes) -> Introduction:
    try:
        checkpoint = parse_checkpoint(content)
    except LogTampered:
        raise _refusal() from None
    vault_id = bytes.fromhex(checkpoint.origin.partition("/")[2])
    if not checkpoint.size or len(content) > NOTE_MAX:
        raise _refusal()
    return Introduction(vault_id, {vault_id: Mark(checkpoint.size, checkpoint.root, _UNKNOWN, content)})


def _open_sealed(content: bytes, provider: KeyProvider | None) -> bytes:
    match = _LINE.fullmatch(content.removesuffix(b"\n").decode("latin-1"))
    try:
        message = urlsafe_b64decode(match[2] + "=" * (-len(match[2]) % 4)) if match is not None else b""
    except ValueError:
        message = b""
    if match is None or not hmac.compare_digest(
        f"{_sealed_line(bytes.fromhex(match[1]), message)}\n".encode(), content
    ):
        raise _refusal()
    fingerprint = bytes.fromhex(match[1])
    if not isinstance(provider, IdentityProvider) or provider.read_identity().fingerprint != fingerprint:
        reason = "the introduction is sealed to another identity"
        raise WrongKey(reason, hint=f"give the `identity:` with the fingerprint {match[1]}")
    try:
        cursor = Cursor(provider.open_for_owner(message, _info(fingerprint)))
        note = cursor.var32()
        cursor.finish_padding(_PADDING_BYTES)
    except (Tampered, Malformed):
        raise _refusal() from None
    return note


def _sealed_line(fingerprint: bytes, message: bytes) -> str:
    text = f"{_SEALED}{fingerprint.hex()} {urlsafe_b64encode(message).rstrip(b'=').decode()}"
    return f"{text} {hashlib.sha256(text.encode()).hexdigest()[:8]}"


def _info(fingerprint: bytes) -> bytes:
    return Label.INTRODUCTION.encode() + b"\x00" + fingerprint


def _signer_name(vault_id: bytes) -> str:
    return f"{origin_of(vault_id)}/administrator"


def _refusal() -> SignatureInvalid:
    message = "this is no introduction, or it was altered"
    return SignatureInvalid(message, hint="`securecfg scope introduce` makes one; ask for a copy of the file")
