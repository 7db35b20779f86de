"""Checkpoints: the signed head of the log, as c2sp.org/tlog-checkpoint defines it.

Ours have exactly one extension line, which binds the vault's state to the log:

    securecfg/0123456789abcdef0123456789abcdef
    70000
    <base64 of the 32-byte root>
    state <base64 of the 32-byte state hash>
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from securecfg.audit.merkle import HASH_BYTES, MAX_SIZE
from securecfg.audit.note import decode_base64, encode_base64, open_note, parse_note, sign_note
from securecfg.errors import LogTampered, SignatureInvalid

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from securecfg.audit.note import NoteSigner, VerifierKey

VAULT_ID_BYTES = 16

_ORIGIN = re.compile(r"securecfg/[0-9a-f]{32}")
_TEXT = re.compile(
    rf"(?P<origin>{_ORIGIN.pattern})\n"
    r"(?P<size>0|[1-9][0-9]{0,18})\n"
    r"(?P<root>[A-Za-z0-9+/]{43}=)\n"
    r"state (?P<state>[A-Za-z0-9+/]{43}=)\n"
)


class Checkpoint:
    """What the log's key signs. It does not change.

    Attributes:
        origin: `securecfg/` and the vault's id in hexadecimal digits.
        size: The number of records.
        root: The root of the Merkle tree over them, 32 bytes.
        state: A hash of the vault's state after the last record, 32 bytes.
        text: What is signed; it follows from the others.
    """

    __slots__ = ("origin", "root", "size", "state", "text")

    def __init__(self, origin: str, size: int, root: bytes, state: bytes) -> None:
        """Word it, and refuse what cannot be signed.

        Raises:
            LogTampered: A field breaks the layout.
        """
        if not _is_origin(origin) or not 0 <= size < MAX_SIZE or not len(root) == len(state) == HASH_BYTES:
            message = "not the fields of a checkpoint"
            raise LogTampered(message)
        self.origin = origin
        self.size = size
        self.root = root
        self.state = state
        self.text = f"{origin}\n{size}\n{encode_base64(root)}\nstate {encode_base64(state)}\n"

    def __eq__(self, other: object) -> bool:
        """Return whether another one says the same."""
        return isinstance(other, Checkpoint) and self.text == other.text

    def __hash__(self) -> int:
        """Return a hash of what it says."""
        return hash(self.text)


@lru_cache(maxsize=16)
def _is_origin(text: str) -> bool:
    # The checkpoints of a process are mostly of one log.
    return _ORIGIN.fullmatch(text) is not None


def origin_of(vault_id: bytes) -> str:
    """Return the origin line, which is also the name of every key of this log.

    Raises:
        LogTampered: The id is not 16 bytes long.
    """
    if len(vault_id) != VAULT_ID_BYTES:
        message = f"a vault id is {VAULT_ID_BYTES} bytes long"
        raise LogTampered(message)
    return f"securecfg/{vault_id.hex()}"


def sign_checkpoint(checkpoint: Checkpoint, key: Ed25519PrivateKey) -> bytes:
    """Return the signed note of a checkpoint.

    Whoever signs must know that the tree continues every tree that was signed before.
    """
    return sign_note(checkpoint.text, checkpoint.origin, key)


def open_checkpoint(raw: bytes, keys: Iterable[VerifierKey]) -> Checkpoint:
    """Return the checkpoint of a note that one of the log's keys has signed.

    Raises:
        LogTampered: The note or its text is malformed, is of another log than its signer, or is not signed by any of
            the keys.
    """
    return open_signed_checkpoint(raw, keys)[0]


def open_own_checkpoint(raw: bytes, signer: NoteSigner) -> Checkpoint:
    """Return the checkpoint of a note that a key has signed, for who holds that key. It is as `open_checkpoint`.

    Raises:
        LogTampered: As for `open_checkpoint`.
    """
    if signer.has_signed(raw):
        checkpoint = parse_checkpoint(raw)
        if checkpoint.origin == signer.vkey.name:
            return checkpoint
    return open_checkpoint(raw, [signer.vkey])


def open_signed_checkpoint(raw: bytes, keys: Iterable[VerifierKey]) -> tuple[Checkpoint, VerifierKey]:
    """Return the checkpoint and which of the keys has signed it.

    Raises:
        LogTampered: As for `open_checkpoint`.
    """
    try:
        text, key = open_note(raw, keys)
    except SignatureInvalid as error:
        message = f"the checkpoint cannot be trusted: {error.message}"
        raise LogTampered(message, hint=error.hint) from None
    checkpoint = _parse_text(text)
    if checkpoint.origin != key.name:
        message = f"the checkpoint is of `{checkpoint.origin}` and signed by `{key.name}`"
        raise LogTampered(message)
    return checkpoint, key


def parse_checkpoint(raw: bytes) -> Checkpoint:
    """Return what a checkpoint claims, without any check of its signatures.

    Use it only where something else vouches for the content, such as a consistency proof to a verified checkpoint.

    Raises:
        LogTampered: The note or its text is malformed.
    """
    try:
        return _parse_text(parse_note(raw).text)
    except SignatureInvalid as error:
        message = f"the checkpoint is malformed: {error.message}"
        raise LogTampered(message) from None


def _parse_text(text: str) -> Checkpoint:
    match = _TEXT.fullmatch(text)
    if match is None:
        message = "the checkpoint is not origin, size, root and state"
        raise LogTampered(message)
    try:
        root, state = decode_base64(match["root"]), decode_base64(match["state"])
    except ValueError:
        message = f"a hash of the checkpoint is not {HASH_BYTES} bytes of canonical base64"
        raise LogTampered(message) from None
    return Checkpoint(match["origin"], int(match["size"]), root, state)
