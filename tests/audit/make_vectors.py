"""Writes `vectors.json`: one good log of one record, and what is wrong with it in each of many ways."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from securecfg.audit import Checkpoint, Event, audit_public_key, leaf_hash, sign_checkpoint, vkey_of
from securecfg.audit.epoch import create_hand_over
from securecfg.audit.leaf import KEY_BYTES
from securecfg.audit.note import sign_note
from securecfg.audit.sealer import _seal_to
from tests.audit.sample import AUDIT_KEY, ORIGIN, STATE, VAULT_ID, record, signing_key

TARGET = Path(__file__).parent / "vectors.json"
DELTAS = (b"\xaa" * 32, b"\xbb" * 32)
INDEX = 41


def flip(raw: bytes, position: int) -> str:
    altered = bytearray(raw)
    altered[position] ^= 1
    return altered.hex()


def main() -> None:
    sealer = _seal_to(VAULT_ID, audit_public_key(AUDIT_KEY), bytes(range(100, 100 + KEY_BYTES)))
    entry = record(Event.SECRET_WRITTEN, {"path": "db/main", "ver": 3}, why=("admins-write",)).to_bytes()
    sealer.seal(b"a commit that failed", INDEX)
    leaf = sealer.seal(entry, INDEX, DELTAS)
    checkpoint = Checkpoint(ORIGIN, 1, leaf_hash(leaf), STATE)
    hand_over = create_hand_over(1, ORIGIN, signing_key(0), signing_key(1))
    key = signing_key(0)
    vkey = str(vkey_of(ORIGIN, key))
    note = sign_checkpoint(checkpoint, key).decode()
    row = sealer.row

    def signed(text: str) -> str:
        return sign_note(text, ORIGIN, key).decode()

    def handed(**change: object) -> str:
        return json.dumps(dataclasses.replace(hand_over, **change).to_object())  # type: ignore[arg-type]  # one field

    tampered, log_tampered, usage = "tampered", "log-tampered", "usage"
    bad: list[tuple[str, str, str, str]] = [
        ("sealer row of another type", "sealer_row", flip(row, 0), tampered),
        ("sealer row of another suite", "sealer_row", flip(row, 1), tampered),
        ("sealer row for another audit key", "sealer_row", flip(row, 2), tampered),
        ("sealer row with another ML-KEM ciphertext", "sealer_row", flip(row, 10), tampered),
        ("sealer row with another X25519 key", "sealer_row", flip(row, 10 + 1_088), tampered),
        ("sealer row with another tag", "sealer_row", flip(row, -1), tampered),
        ("sealer row cut short", "sealer_row", row[:-1].hex(), tampered),
        ("sealer row with a byte more", "sealer_row", row.hex() + "00", tampered),
        ("another vault", "vault_id", flip(VAULT_ID, 0), tampered),
        ("another audit key", "audit_key", flip(AUDIT_KEY, 0), tampered),
        ("audit key cut short", "audit_key", AUDIT_KEY[:-1].hex(), tampered),
        ("another index", "index", str(INDEX + 1), log_tampered),
        ("leaf of another type", "leaf", flip(leaf, 0), log_tampered),
        ("leaf of another suite", "leaf", flip(leaf, 1), log_tampered),
        ("leaf of another sealer", "leaf", flip(leaf, 2), log_tampered),
        ("leaf with another counter", "leaf", flip(leaf, 25), log_tampered),
        ("leaf with another number of deltas", "leaf", flip(leaf, 26), log_tampered),
        ("leaf with another delta", "leaf", flip(leaf, 27), log_tampered),
        ("leaf with another commitment", "leaf", flip(leaf, 27 + 64), log_tampered),
        ("leaf with another ciphertext", "leaf", flip(leaf, 27 + 64 + 32), log_tampered),
        ("leaf with another tag", "leaf", flip(leaf, -1), log_tampered),
        ("leaf cut short", "leaf", leaf[:-1].hex(), log_tampered),
        ("leaf with a byte more", "leaf", leaf.hex() + "00", log_tampered),
        ("empty leaf", "leaf", "", log_tampered),
        ("record of a later version", "record", entry.replace(b'"v":1', b'"v":2').hex(), "unsupported-format"),
        ("record with a space", "record", entry.replace(b'"v":1', b'"v": 1').hex(), log_tampered),
        ("record with an unknown event", "record", entry.replace(b"written", b"guessed").hex(), log_tampered),
        ("record with a fraction", "record", entry.replace(b'"ver":3', b'"ver":3.0').hex(), log_tampered),
        ("verifier key with another id", "vkey", vkey.replace("+", "+0", 1), usage),
        ("verifier key of another log", "vkey", str(vkey_of(ORIGIN[:-1] + "0", key)), log_tampered),
        ("checkpoint by another key", "checkpoint", sign_checkpoint(checkpoint, signing_key(1)).decode(), log_tampered),
        ("checkpoint with another root", "checkpoint", note.replace(note.split("\n")[2][:2], "AA"), log_tampered),
        ("checkpoint without a state", "checkpoint", signed("\n".join(note.split("\n")[:3]) + "\n"), log_tampered),
        (
            "checkpoint with leading zeros",
            "checkpoint",
            signed(checkpoint.text.replace("\n1\n", "\n01\n")),
            log_tampered,
        ),
        ("checkpoint with a line more", "checkpoint", signed(checkpoint.text + "more\n"), log_tampered),
        ("checkpoint without a signature", "checkpoint", checkpoint.text, log_tampered),
        ("hand-over of another number", "hand_over", handed(epoch=2), log_tampered),
        ("hand-over to another key", "hand_over", handed(key=vkey_of(ORIGIN, signing_key(2))), log_tampered),
        ("hand-over without the old key", "hand_over", handed(old_signature=bytes(64)), log_tampered),
        ("hand-over without the new key", "hand_over", handed(new_signature=bytes(64)), log_tampered),
    ]
    good = {
        "vault_id": VAULT_ID.hex(),
        "audit_key": AUDIT_KEY.hex(),
        "sealer_row": row.hex(),
        "index": str(INDEX),
        "leaf": leaf.hex(),
        "record": entry.hex(),
        "vkey": vkey,
        "checkpoint": note,
        "hand_over": json.dumps(hand_over.to_object()),
    }
    vectors = {
        "good": good,
        "bad": [{"desc": desc, "change": {name: value}, "code": code} for desc, name, value, code in bad],
    }
    TARGET.write_text(json.dumps(vectors, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
