"""Proofs that one record is in the log, in the form of c2sp.org/tlog-proof, for people who do not get the log.

The extra line carries the leaf and, where its content is disclosed, the key that opens this leaf and no other:

    version 1 (u8) | leaf length u16 | leaf | leaf key [32], or nothing
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from securecfg.audit.checkpoint import open_checkpoint, parse_checkpoint
from securecfg.audit.leaf import KEY_BYTES, open_leaf, parse_leaf
from securecfg.audit.merkle import MAX_SIZE, inclusion_proof, leaf_hash, verify_inclusion
from securecfg.audit.note import MAX_NOTE_BYTES, decode_base64, encode_base64
from securecfg.audit.record import parse_record
from securecfg.errors import LogTampered

if TYPE_CHECKING:
    from collections.abc import Iterable

    from securecfg.audit.checkpoint import Checkpoint
    from securecfg.audit.leaf import Leaf
    from securecfg.audit.merkle import HashReader
    from securecfg.audit.note import VerifierKey
    from securecfg.audit.record import Record

MAX_PROOF_BYTES = MAX_NOTE_BYTES + (1 << 18)

_VERSION = 1
_PREFIX_BYTES = 3
_HEAD = re.compile(
    r"c2sp\.org/tlog-proof@v1\n"
    r"extra (?P<extra>[A-Za-z0-9+/=]+)\n"
    r"index (?P<index>0|[1-9][0-9]{0,18})\n"
    r"(?P<path>(?:[A-Za-z0-9+/]{43}=\n){0,63})"
)


@dataclass(frozen=True, slots=True)
class ProvedRecord:
    """A record that is proved to be in the log.

    Attributes:
        index: Where it stands.
        checkpoint: The signed head that it is proved against.
        leaf: The sealed record.
        record: Its content, or None where it was not disclosed.
    """

    index: int
    checkpoint: Checkpoint
    leaf: Leaf
    record: Record | None


def create_proof(reader: HashReader, index: int, checkpoint: bytes, leaf_key: bytes = b"") -> bytes:
    """Return the proof of a record, checked before it is handed out.

    Args:
        reader: Where tiles and leaves come from.
        index: Where the record stands.
        checkpoint: The signed note of the head.
        leaf_key: What opens this leaf, to disclose its content; empty to keep it sealed.

    Raises:
        LogTampered: There is no such record, or the stored tiles do not lead to the signed root, or the key does not
            open the leaf.
    """
    head = parse_checkpoint(checkpoint)
    path = inclusion_proof(reader, index, head.size)
    leaf = reader.leaf(index)
    verify_inclusion(index, head.size, leaf_hash(leaf), path, head.root)
    if leaf_key:
        open_leaf(parse_leaf(leaf, index), leaf_key, index)
    extra = bytes((_VERSION,)) + len(leaf).to_bytes(2) + leaf + leaf_key
    lines = ["c2sp.org/tlog-proof@v1", f"extra {encode_base64(extra)}", f"index {index}", *map(encode_base64, path)]
    return "".join(f"{line}\n" for line in lines).encode() + b"\n" + checkpoint


def open_proof(raw: bytes, keys: Iterable[VerifierKey]) -> ProvedRecord:
    """Verify a proof, and open its record if the key is disclosed.

    Args:
        raw: The file.
        keys: The keys of the log that are trusted.

    Raises:
        LogTampered: It is malformed, its checkpoint is not signed by one of the keys, or the record is not in the log.
        UnsupportedFormat: The record was written by a later version of this library.
    """
    head, _, checkpoint = raw[:MAX_PROOF_BYTES].partition(b"\n\n")
    match = _HEAD.fullmatch((head + b"\n").decode("ascii", errors="replace"))
    if match is None or int(match["index"]) >= MAX_SIZE or len(raw) > MAX_PROOF_BYTES:
        raise _malformed()
    index = int(match["index"])
    try:
        extra = decode_base64(match["extra"])
        path = [decode_base64(line) for line in match["path"].splitlines()]
    except ValueError:
        raise _malformed() from None
    end = _PREFIX_BYTES + int.from_bytes(extra[1:_PREFIX_BYTES])
    leaf_row, leaf_key = extra[_PREFIX_BYTES:end], extra[end:]
    if extra[:1] != bytes((_VERSION,)) or len(extra) < end or len(leaf_key) not in {0, KEY_BYTES}:
        raise _malformed()
    signed = open_checkpoint(checkpoint, keys)
    verify_inclusion(index, signed.size, leaf_hash(leaf_row), path, signed.root)
    leaf = parse_leaf(leaf_row, index)
    record = parse_record(open_leaf(leaf, leaf_key, index), index) if leaf_key else None
    return ProvedRecord(index, signed, leaf, record)


def _malformed() -> LogTampered:
    return LogTampered("the proof of a record is malformed")
