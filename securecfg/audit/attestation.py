"""What makes a report checkable: evidence from the log's tree, and a statement that the log's key signs.

Evidence is two checkpoints, the consistency proof between them, and the hashes of all records in between with the roots
that lead from the older checkpoint to the newer. The statement binds the evidence to the bytes of the page:

    securecfg-report/1
    <origin of the log>
    rows <number of records shown>
    page <base64 of the SHA-256 of the page without the attestation>
    evidence <base64 of the SHA-256 of the evidence's JSON>

Proved by the tree: the log only grew between the checkpoints, and these are the hashes of all its records in between,
in order. Vouched for by whoever holds the log's key: that the text of a row is what its sealed record says.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from securecfg.audit.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint, sign_checkpoint
from securecfg.audit.epoch import follow_hand_overs, parse_hand_over
from securecfg.audit.merkle import (
    HASH_BYTES,
    TILE_WIDTH,
    Tree,
    consistency_proof,
    leaf_hash,
    root_after,
    subtree_roots,
)
from securecfg.audit.note import decode_base64, encode_base64, open_note, sign_note
from securecfg.audit.verify import verify_continues
from securecfg.errors import LogTampered, SignatureInvalid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from securecfg.audit.epoch import HandOver
    from securecfg.audit.merkle import HashReader
    from securecfg.audit.note import VerifierKey

FORMAT = "securecfg-report/1"

_STATEMENT = re.compile(
    FORMAT + r"\n(?P<origin>securecfg/[0-9a-f]{32})\nrows (?P<rows>0|[1-9][0-9]{0,15})\n"
    r"page (?P<page>[A-Za-z0-9+/]{43}=)\nevidence (?P<evidence>[A-Za-z0-9+/]{43}=)\n"
)


@dataclass(frozen=True, slots=True)
class Evidence:
    """What shows that the hashes of the records between two checkpoints are those of the log.

    Attributes:
        older: A checkpoint, as a signed note. What vouches for it is the consistency proof to the newer one.
        newer: The newest checkpoint, as a signed note.
        consistency: The proof from one to the other, empty if the older one is of the empty log.
        peaks: The roots of the complete subtrees of the older tree, largest first.
        leaf_hashes: The hashes of all records from the older size up to the newer.
        hand_overs: All hand-overs of the log's signing key so far.
    """

    older: bytes
    newer: bytes
    consistency: tuple[bytes, ...]
    peaks: tuple[bytes, ...]
    leaf_hashes: tuple[bytes, ...]
    hand_overs: tuple[HandOver, ...]


@dataclass(frozen=True, slots=True)
class Attestation:
    """What a verified report is known to rest on.

    Attributes:
        older: Where its interval of the log begins; compare it with the newer one of the report before.
        newer: Where it ends.
        rows: How many records it shows.
        leaf_hashes: The hashes of all records in between, in order.
    """

    older: Checkpoint
    newer: Checkpoint
    rows: int
    leaf_hashes: tuple[bytes, ...]


def prefix_checkpoint(reader: HashReader, origin: str, size: int, key: Ed25519PrivateKey) -> bytes:
    """Sign a checkpoint of an earlier size of the log, for a report whose period begins there.

    It says nothing of the state that the vault had then: its state is zero.

    Raises:
        LogTampered: A needed tile is missing.
    """
    root = Tree(size, subtree_roots(reader, size)).root()
    return sign_checkpoint(Checkpoint(origin, size, root, bytes(HASH_BYTES)), key)


def collect_evidence(reader: HashReader, older: bytes, newer: bytes, hand_overs: Sequence[HandOver]) -> Evidence:
    """Gather the evidence for a report, checked before it is handed out.

    Args:
        reader: Where tiles and leaves come from.
        older: The signed note where the interval begins, from an earlier report or from `prefix_checkpoint`.
        newer: The signed note of the head.
        hand_overs: All hand-overs of the log so far.

    Raises:
        LogTampered: What the reader returns does not lead from one checkpoint to the other.
        LogTruncated: The newer checkpoint is smaller.
    """
    first, last = parse_checkpoint(older), parse_checkpoint(newer)
    evidence = Evidence(
        older=older,
        newer=newer,
        consistency=consistency_proof(reader, first.size, last.size) if 0 < first.size <= last.size else (),
        peaks=subtree_roots(reader, first.size),
        leaf_hashes=tuple(_stored_leaf_hash(reader, index) for index in range(first.size, last.size)),
        hand_overs=tuple(hand_overs),
    )
    _verify_tree_between(first, last, evidence)
    return evidence


def sign_attestation(evidence: Evidence, page: bytes, rows: int, key: Ed25519PrivateKey) -> str:
    """Return the attestation of a page as one line of JSON that is safe inside HTML.

    Args:
        evidence: From `collect_evidence`.
        page: The bytes of the page without the attestation.
        rows: How many records the page shows.
        key: The log's current signing key.
    """
    origin = parse_checkpoint(evidence.newer).origin
    data = _to_json(evidence)
    text = (
        f"{FORMAT}\n{origin}\nrows {rows}\npage {encode_base64(sha256(page).digest())}\n"
        f"evidence {encode_base64(sha256(_encode(data)).digest())}\n"
    )
    return _encode({"evidence": data, "statement": sign_note(text, origin, key).decode()}).decode()


def open_attestation(text: str, page: bytes, vkey: VerifierKey) -> Attestation:
    """Verify the attestation of a page.

    1. The statement is signed by the trusted key, or by one that it handed over to.
    2. It is about these bytes of the page and this evidence.
    3. The newer checkpoint is signed likewise, and is of the same log.
    4. The log only grew from the older checkpoint to the newer, by exactly the records whose hashes are given.

    Args:
        text: The attestation's JSON.
        page: The bytes of the page without it.
        vkey: A key of the log that is trusted.

    Raises:
        SignatureInvalid: The page or the statement was altered, or is signed by another key.
        LogTampered: The evidence does not hold.
        LogTruncated: The newer checkpoint is smaller than the older.
    """
    data, statement = _parse(text)
    evidence = _from_json(data)
    keys = follow_hand_overs(vkey, evidence.hand_overs)
    match = _STATEMENT.fullmatch(open_note(statement.encode(errors="replace"), keys)[0])  # 1
    if match is None or match["origin"] != vkey.name:
        message = "what is signed is not the statement of a report of this log"
        raise SignatureInvalid(message)
    if match["page"] != encode_base64(sha256(page).digest()):  # 2
        message = "the report was altered after it was made"
        raise SignatureInvalid(message)
    if match["evidence"] != encode_base64(sha256(_encode(data)).digest()):
        message = "the evidence of the report was altered after it was made"
        raise SignatureInvalid(message)
    newer = open_checkpoint(evidence.newer, keys)  # 3
    older = parse_checkpoint(evidence.older)
    _verify_tree_between(older, newer, evidence)  # 4
    return Attestation(older, newer, int(match["rows"]), evidence.leaf_hashes)


def _verify_tree_between(older: Checkpoint, newer: Checkpoint, evidence: Evidence) -> None:
    verify_continues(older, newer, evidence.consistency)
    if (
        len(evidence.leaf_hashes) != newer.size - older.size
        or root_after(older.size, evidence.peaks, ()) != older.root
        or root_after(older.size, evidence.peaks, evidence.leaf_hashes) != newer.root
    ):
        message = f"the hashes are not those of the records {older.size} to {newer.size - 1}"
        raise LogTampered(message)


def _stored_leaf_hash(reader: HashReader, index: int) -> bytes:
    tile = reader.tile(0, index // TILE_WIDTH)
    if tile is None:
        return leaf_hash(reader.leaf(index))
    at = index % TILE_WIDTH * HASH_BYTES
    return tile[at : at + HASH_BYTES]


def _to_json(evidence: Evidence) -> dict[str, Any]:
    return {
        "older": evidence.older.decode(),
        "newer": evidence.newer.decode(),
        "consistency": [encode_base64(node) for node in evidence.consistency],
        "peaks": [encode_base64(peak) for peak in evidence.peaks],
        "leaves": encode_base64(b"".join(evidence.leaf_hashes)),
        "hand_overs": [hand_over.to_object() for hand_over in evidence.hand_overs],
    }


def _from_json(data: Any) -> Evidence:  # noqa: ANN401 - untrusted JSON
    try:
        leaves = decode_base64(data["leaves"])
        return Evidence(
            older=data["older"].encode(),
            newer=data["newer"].encode(),
            consistency=tuple(decode_base64(node) for node in data["consistency"]),
            peaks=tuple(decode_base64(peak) for peak in data["peaks"]),
            leaf_hashes=tuple(leaves[at : at + HASH_BYTES] for at in range(0, len(leaves), HASH_BYTES)),
            hand_overs=tuple(parse_hand_over(obj) for obj in data["hand_overs"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        message = "the evidence of the report is malformed"
        raise SignatureInvalid(message) from None


def _parse(text: str) -> tuple[Any, str]:
    try:
        whole = json.loads(text)
        data, statement = whole["evidence"], whole["statement"]
        if not isinstance(statement, str) or _encode(whole).decode() != text:
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError):
        message = "the attestation of the report is malformed"
        raise SignatureInvalid(message) from None
    return data, statement


def _encode(value: object) -> bytes:
    """Return the one JSON encoding, in ASCII and with nothing that could end a script element."""
    encoded = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return encoded.replace("<", "\\u003c").replace(">", "\\u003e").encode()
