"""Write the vectors of the format: `python tests/vectors/generate.py`. The same bytes every time.

Each vector that must fail differs from one that opens in a single point, and everything that depends on that point
(MACs, commitments, tags) is made anew, so that only a reader that checks this very point refuses it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import struct
import unicodedata
import zlib
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV

from securecfg.crypto import (
    Argon2Costs,
    ChunkSealer,
    encode_fields,
    hybrid_public_key,
    padded_length,
    seal_to,
    stretch,
)
from securecfg.crypto.derive import hkdf_expand
from securecfg.crypto.xaes import XAES256GCM
from securecfg.keys.keyfile import format_key
from securecfg.keys.recovery import format_recovery_code

FOLDER = Path(__file__).resolve().parent
Vector = dict[str, Any]


def fixed(name: str, size: int) -> bytes:
    """Bytes that look random and never change."""
    return hashlib.shake_128(b"securecfg vectors: " + name.encode()).digest(size)


def flip(octets: bytes, position: int, mask: int = 1) -> bytes:
    position %= len(octets)
    return octets[:position] + bytes((octets[position] ^ mask,)) + octets[position + 1 :]


def expand(key: bytes, label: str, rest: bytes, length: int) -> bytes:
    return hkdf_expand(key, label.encode() + b"\x00" + rest, length)


def context(kind: int, scope_id: bytes, epoch: int, fields: bytes, vault_id: bytes | None = None) -> bytes:
    return b"securecfg/1\x00" + bytes((kind, 1)) + (vault_id or VAULT) + scope_id + struct.pack(">I", epoch) + fields


ROOT = fixed("root", 32)
VAULT = fixed("vault", 16)
OTHER_VAULT = fixed("other vault", 16)
SCOPE = bytes(16)
OTHER_SCOPE = fixed("other scope", 16)


# --- 4.1 header -------------------------------------------------------------------------------------------------------

HEADER = struct.Struct(">4sHHHBB16sHHQ32sQ")
SLOTS = {
    256: fixed("slot 256", 256),
    257: fixed("slot 257", 256),
}
ROOTS = {0: fixed("root of slot 256", 1_186), 1: fixed("root of slot 257", 1_186)}


def header(**changes: Any) -> bytes:  # noqa: ANN401 - fields of several types
    fields: dict[str, Any] = {
        "magic": b"SCFG",
        "format": 1,
        "reader": 1,
        "writer": 1,
        "suite": 1,
        "flags": 0,
        "vault_id": VAULT,
        "slots": 2,
        "reserved": 0,
        "generation": 7,
        "log_key": fixed("log key", 32),
        "created": 1_700_000_000_000_000_000,
    }
    return HEADER.pack(*(fields | changes).values())


def mac(fields: bytes, rows: list[bytes], *, root: bytes = ROOT, vault_id: bytes = VAULT) -> bytes:
    key = expand(root, "securecfg/1/hdr", vault_id, 32)
    return hmac.digest(key, fields + b"".join(struct.pack(">I", len(row)) + row for row in rows), "sha256")


def roots_row(roots: dict[int, bytes]) -> bytes:
    return bytes((0x53, 1, len(roots))) + b"".join(bytes((number,)) + sealed for number, sealed in roots.items())


def header_vectors() -> list[Vector]:
    roots = roots_row(ROOTS)
    rows = {255: roots, **SLOTS}
    in_order = list(rows.values())
    good = header()

    def vector(name: str, result: str, row: bytes, slots: dict[int, bytes] | None = None, **expected: object) -> Vector:
        stored = {str(number): slot.hex() for number, slot in (rows if slots is None else slots).items()}
        return {"name": name, "result": result, "row": row.hex(), "root": ROOT.hex(), "slots": stored, **expected}

    def changed(name: str, result: str, **changes: Any) -> Vector:  # noqa: ANN401 - as above
        fields = header(**changes)
        return vector(name, result, fields + mac(fields, in_order))

    def changed_rows(name: str, result: str, changed: dict[int, bytes]) -> Vector:
        return vector(name, result, good + mac(good, list(changed.values())), changed)

    read: dict[str, Any] = {"vault_id": VAULT.hex(), "generation": 7, "created": 1_700_000_000_000_000_000}
    no_slots, no_roots = header(slots=0), roots_row({})
    newer = header(format=2, writer=2)
    plain = hmac.digest(expand(ROOT, "securecfg/1/hdr", VAULT, 32), good + b"".join(in_order), "sha256")
    return [
        vector("two slots", "valid", good + mac(good, in_order), **read, writable=True),
        vector("no slots", "valid", no_slots + mac(no_slots, [no_roots]), {255: no_roots}, **read, writable=True),
        vector("for newer writers", "valid", newer + mac(newer, in_order), **read, writable=False),
        changed("another magic", "not-a-vault", magic=b"SCFH"),
        changed("format 0", "not-a-vault", format=0),
        changed("for newer readers", "unsupported-format", format=2, reader=2, writer=2),
        changed("another suite", "unsupported-format", suite=2),
        changed("a flag", "unsupported-format", flags=1),
        changed("a reserved bit", "unsupported-format", reserved=1),
        changed("counts a slot more than there are", "tampered", slots=3),
        vector("a byte short", "not-a-vault", (good + mac(good, in_order))[:-1]),
        vector("a byte long", "not-a-vault", good + mac(good, in_order) + b"\x00"),
        vector("a bit of the MAC", "tampered", flip(good + mac(good, in_order), -1)),
        vector("MAC under another root key", "tampered", good + mac(good, in_order, root=fixed("another root", 32))),
        vector("MAC key of another vault", "tampered", good + mac(good, in_order, vault_id=OTHER_VAULT)),
        vector("MAC over the slots in descending order", "tampered", good + mac(good, in_order[::-1])),
        vector("MAC over the slots without their lengths", "tampered", good + plain),
        vector("MAC over no slots", "tampered", good + mac(good, [])),
        vector("an altered slot", "tampered", good + mac(good, in_order), {**rows, 257: flip(SLOTS[257], 99)}),
        vector("an altered root", "tampered", good + mac(good, in_order), {**rows, 255: flip(roots, 99)}),
        vector("a slot removed", "tampered", good + mac(good, in_order), {255: roots, 256: SLOTS[256]}),
        vector(
            "a slot removed with its root",
            "tampered",
            good + mac(good, in_order),
            {255: roots_row({0: ROOTS[0]}), 256: SLOTS[256]},
        ),
        vector(
            "the row of a slot that was removed",
            "valid",
            good + mac(good, in_order),
            {**rows, 258: fixed("slot 258", 256)},
            **read,
            writable=True,
        ),
        changed_rows("a root without its slot", "tampered", {255: roots_row({**ROOTS, 2: ROOTS[1]}), **SLOTS}),
        changed_rows("a slot without its root", "tampered", {255: roots_row({0: ROOTS[0]}), **SLOTS}),
        changed_rows(
            "roots in the place of other slots'", "tampered", {255: roots_row({0: ROOTS[0], 2: ROOTS[1]}), **SLOTS}
        ),
        changed_rows("no roots", "not-a-vault", dict(SLOTS)),
        changed_rows("roots in descending order", "not-a-vault", {255: roots_row({1: ROOTS[1], 0: ROOTS[0]}), **SLOTS}),
        changed_rows("a root twice", "not-a-vault", {255: roots[:2] + b"\x02" + 2 * roots[3:1190], **SLOTS}),
        changed_rows("roots of another suite", "not-a-vault", {255: flip(roots, 1), **SLOTS}),
        changed_rows("roots of another type", "not-a-vault", {255: flip(roots, 0), **SLOTS}),
        changed_rows("a root more than is counted", "not-a-vault", {255: roots[:2] + b"\x01" + roots[3:], **SLOTS}),
        changed_rows("a root that is a byte short", "not-a-vault", {255: roots[:-1], **SLOTS}),
        changed_rows("a byte after the roots", "not-a-vault", {255: roots + b"\x00", **SLOTS}),
    ]


# --- 4.2 slots --------------------------------------------------------------------------------------------------------

SLOT_ID = fixed("slot", 16)
PASSPHRASE = "corr\u00e9ct horse"
COSTS = Argon2Costs(256, 2, 1)
PARAMS = fixed("salt", 16) + COSTS.to_bytes()
KEY_FILE = fixed("key file", 32)
CODE = fixed("recovery code", 20)


def slot_context(kind: int, params: bytes, slot_id: bytes = SLOT_ID, vault_id: bytes = VAULT) -> bytes:
    fields = slot_id + bytes((kind,)) + struct.pack(">H", len(params)) + params
    return context(0x10, bytes(16), 0, fields, vault_id)


def sealed(kek: bytes, ctx: bytes, *, aad: list[bytes] | None = None, content: bytes = ROOT) -> tuple[bytes, bytes]:
    derived = expand(kek, "securecfg/1/slot", ctx, 96)
    return derived[64:], AESSIV(derived[:64]).encrypt(content, [ctx] if aad is None else aad)


def slot_row(kind: int, params: bytes, commitment: bytes, siv: bytes, suite: int = 1) -> bytes:
    row = bytes((kind, suite)) + SLOT_ID + struct.pack(">H", len(params)) + params + commitment + siv
    return row + bytes(-len(row) % 256)


def slot_vectors() -> list[Vector]:
    nfc = {"passphrase": PASSPHRASE}

    def vector(name: str, result: str, row: bytes, key: dict[str, str], vault_id: bytes = VAULT) -> Vector:
        opened = {"opens_to": ROOT.hex()} if result == "valid" else {}
        return {"name": name, "result": result, "row": row.hex(), "vault_id": vault_id.hex(), "key": key, **opened}

    def passphrase_row(params: bytes = PARAMS, **changes: Any) -> bytes:  # noqa: ANN401 - parts of a context
        costs = Argon2Costs.from_bytes(params[16:22]) if len(params) >= 22 else COSTS
        # What may not be derived is sealed under what the reader cannot reach anyway.
        allowed = costs.is_computable() and costs.memory_kib <= 1 << 16
        kek = stretch(PASSPHRASE, params[:16].ljust(16, b"\x00"), costs) if allowed else bytes(32)
        return slot_row(1, params, *sealed(kek, slot_context(1, params, **changes)))

    kek = stretch(PASSPHRASE, PARAMS[:16], COSTS)
    ctx = slot_context(1, PARAMS)
    commitment, siv = sealed(kek, ctx)
    good = slot_row(1, PARAMS, commitment, siv)
    recovery_kek = expand(CODE + bytes(12), "securecfg/1/recovery", VAULT, 32)
    default = fixed("another salt", 16) + Argon2Costs(65536, 3, 4).to_bytes()
    text = format_recovery_code(CODE)

    def recovery_row(kek: bytes) -> bytes:
        return slot_row(4, b"", *sealed(kek, slot_context(4, b"")))

    def key_row(kind: int, kek: bytes) -> bytes:
        return slot_row(kind, b"", *sealed(kek, slot_context(kind, b"")))

    foreign = {"kek": KEY_FILE.hex()}

    def foreign_row(size: int) -> bytes:
        params = (fixed("parameters", 32) * 128)[:size]
        return slot_row(200, params, *sealed(KEY_FILE, slot_context(200, params)))

    return [
        vector("passphrase", "valid", good, nfc),
        vector("passphrase in NFD", "valid", good, {"passphrase": unicodedata.normalize("NFD", PASSPHRASE)}),
        vector("passphrase at the default costs", "valid", passphrase_row(default), nfc),
        vector("key file", "valid", key_row(2, KEY_FILE), {"file": format_key(KEY_FILE) + "\n"}),
        vector("operating system's keyring", "valid", key_row(3, KEY_FILE), {"keyring": format_key(KEY_FILE)}),
        vector("recovery code", "valid", recovery_row(recovery_kek), {"recovery": text}),
        vector(
            "recovery code as people write it",
            "valid",
            recovery_row(recovery_kek),
            {"recovery": text.lower().replace("0", "o").replace("1", "l").replace("-", " ")},
        ),
        vector("wrong passphrase", "wrong-key", good, {"passphrase": "correct horse"}),
        vector("wrong key file", "wrong-key", key_row(2, KEY_FILE), {"file": format_key(ROOT) + "\n"}),
        vector("wrong key in the keyring", "wrong-key", key_row(3, KEY_FILE), {"keyring": format_key(ROOT)}),
        vector(
            "wrong recovery code",
            "wrong-key",
            recovery_row(recovery_kek),
            {"recovery": format_recovery_code(ROOT[:20])},
        ),
        vector("recovery key without the vault's id", "wrong-key", recovery_row(CODE + bytes(12)), {"recovery": text}),
        vector("mistyped recovery code", "key-provider-refused", recovery_row(recovery_kek), {"recovery": text[:-1]}),
        vector(
            "damaged key file", "key-provider-refused", key_row(2, KEY_FILE), {"file": format_key(KEY_FILE)[:-1] + "\n"}
        ),
        vector("another vault", "wrong-key", good, nfc, OTHER_VAULT),
        vector("sealed for another vault", "wrong-key", passphrase_row(vault_id=OTHER_VAULT), nfc),
        vector("sealed for another slot", "wrong-key", passphrase_row(slot_id=bytes(16)), nfc),
        vector("sealed for another kind", "wrong-key", slot_row(1, PARAMS, *sealed(kek, slot_context(2, PARAMS))), nfc),
        vector(
            "sealed with other parameters",
            "wrong-key",
            slot_row(1, PARAMS, *sealed(kek, slot_context(1, default))),
            nfc,
        ),
        vector("another commitment, the SIV is right", "wrong-key", slot_row(1, PARAMS, flip(commitment, 0), siv), nfc),
        vector(
            "another SIV, the commitment is right", "wrong-key", slot_row(1, PARAMS, commitment, flip(siv, -1)), nfc
        ),
        vector("SIV without associated data", "wrong-key", slot_row(1, PARAMS, *sealed(kek, ctx, aad=[])), nfc),
        vector("21 bytes of parameters", "wrong-key", passphrase_row(PARAMS[:21]), nfc),
        vector("23 bytes of parameters", "wrong-key", passphrase_row(PARAMS + b"\x00"), nfc),
        vector("no passes", "wrong-key", passphrase_row(PARAMS[:16] + Argon2Costs(256, 0, 1).to_bytes()), nfc),
        vector("no lanes", "wrong-key", passphrase_row(PARAMS[:16] + Argon2Costs(256, 1, 0).to_bytes()), nfc),
        vector(
            "more than 2 GiB",
            "key-provider-refused",
            passphrase_row(PARAMS[:16] + Argon2Costs(2 * 1024 * 1024 + 1, 1, 1).to_bytes()),
            nfc,
        ),
        vector(
            "17 passes", "key-provider-refused", passphrase_row(PARAMS[:16] + Argon2Costs(256, 17, 1).to_bytes()), nfc
        ),
        vector(
            "17 lanes", "key-provider-refused", passphrase_row(PARAMS[:16] + Argon2Costs(256, 1, 17).to_bytes()), nfc
        ),
        vector("another suite", "unsupported-format", slot_row(1, PARAMS, commitment, siv, suite=2), nfc),
        vector("of another's provider", "valid", foreign_row(0), foreign),
        vector("parameters that fill a slot of 256 bytes", "valid", foreign_row(156), foreign),
        vector("parameters that need 512 bytes", "valid", foreign_row(157), foreign),
        vector("parameters that fill the largest slot", "valid", foreign_row(3_996), foreign),
        vector("parameters that fill no slot", "not-a-vault", foreign_row(3_997), foreign),
        vector("wrong key for a large slot", "wrong-key", foreign_row(1_200), {"kek": ROOT.hex()}),
        vector("a large slot with other parameters", "wrong-key", flip(foreign_row(1_200), 800), foreign),
        vector("a large slot that is cut off", "not-a-vault", foreign_row(1_200)[:1_280], foreign),
        vector("padding for a unit more", "not-a-vault", good + bytes(256), nfc),
        vector("padding that reaches into the next unit", "not-a-vault", good[:-1] + b"\x01" + bytes(256), nfc),
        vector("a byte short", "not-a-vault", good[:-1], nfc),
        vector("a byte long", "not-a-vault", good + b"\x00", nfc),
        vector("parameters beyond the end", "not-a-vault", good[:18] + b"\x00\x9d" + good[20:], nfc),
        vector("first byte of the padding", "not-a-vault", flip(good, 18 + 2 + 22 + 80), nfc),
        vector("last byte of the padding", "not-a-vault", flip(good, -1), nfc),
    ]


# --- 4.5 sealed root --------------------------------------------------------------------------------------------------

SLOT_KEY = fixed("slot key", 32)


def slot_private_key(key: bytes, vault_id: bytes = VAULT, slot_id: bytes = SLOT_ID) -> bytes:
    return expand(key, "securecfg/1/slot-key", vault_id + slot_id, 96)


def sealed_root(name: str, known: dict[str, bytes], key: bytes = SLOT_KEY, **place: bytes) -> bytes:
    """The HPKE message of a vector. It draws randomness, so one that was made before is kept."""
    vault_id, slot_id = place.get("vault_id", VAULT), place.get("slot_id", SLOT_ID)
    label = place.get("label", b"securecfg/1/root")
    public_key = hybrid_public_key(slot_private_key(key, vault_id, slot_id))
    message = known.get(name) or seal_to(public_key, ROOT, label + b"\x00" + vault_id + slot_id)
    return b"\x52\x01" + SLOT_ID + message


def root_vectors() -> list[Vector]:
    path = FOLDER / "roots.json"
    made: list[Vector] = json.loads(path.read_text())["vectors"] if path.exists() else []
    known = {vector["name"]: bytes.fromhex(vector["message"]) for vector in made if "message" in vector}

    def vector(name: str, result: str, row: bytes, *, is_made: bool = False) -> Vector:
        opened = {"root": ROOT.hex()} if result == "valid" else {}
        message = {"message": row[18:].hex()} if is_made else {}
        place = {"slot_key": SLOT_KEY.hex(), "vault_id": VAULT.hex(), "slot_id": SLOT_ID.hex()}
        return {"name": name, "result": result, "row": row.hex(), **place, **opened, **message}

    def sealed(name: str, result: str, key: bytes = SLOT_KEY, **place: bytes) -> Vector:
        return vector(name, result, sealed_root(name, known, key, **place), is_made=True)

    good = sealed_root("sealed to the slot", known)
    return [
        vector("sealed to the slot", "valid", good, is_made=True),
        sealed("sealed to another slot key", "tampered", fixed("another slot key", 32)),
        sealed("sealed for another vault", "tampered", vault_id=OTHER_VAULT),
        sealed("sealed for another slot", "tampered", slot_id=fixed("another slot", 16)),
        sealed("sealed for another use", "tampered", label=b"securecfg/1/sealer"),
        vector("another type", "tampered", b"\x53" + good[1:]),
        vector("another suite", "tampered", flip(good, 1, 3)),
        vector("names another slot", "tampered", flip(good, 2)),
        vector("a bit of the ML-KEM ciphertext", "tampered", flip(good, 18)),
        vector("a bit of the X25519 key", "tampered", flip(good, 18 + 1_088)),
        vector("a bit of the root", "tampered", flip(good, 18 + 1_120)),
        vector("a bit of the tag", "tampered", flip(good, -1)),
        vector("a byte short", "tampered", good[:-1]),
        vector("a byte long", "tampered", good + b"\x00"),
        vector("empty", "tampered", b""),
    ]


# --- 4.3 keyring ------------------------------------------------------------------------------------------------------


def key_entry(purpose: int, epoch: int, state: int = 1, size: int = 32, scope_id: bytes = SCOPE) -> bytes:
    key = fixed(f"key {purpose} {epoch}", size)
    front = bytes((purpose,)) + scope_id + struct.pack(">IBQH", epoch, state, 1_700_000_000_000_000_000, size)
    return front + key


def slot_entry(label: bytes = b"Olga's", principals: tuple[bytes, ...] = (b"user:olga",)) -> bytes:
    texts = [b"passphrase", label]
    listed = b"".join(bytes((len(text),)) + text for text in principals)
    front = SLOT_ID + fixed("public key", 1_216) + struct.pack(">Q", 1_700_000_000_000_000_000)
    return front + b"".join(bytes((len(text),)) + text for text in texts) + bytes((len(principals),)) + listed


def keyring_plaintext(keys: list[bytes], slots: list[bytes]) -> bytes:
    plain = struct.pack(">H", len(keys)) + b"".join(keys) + struct.pack(">H", len(slots)) + b"".join(slots)
    return plain + bytes(-len(plain) % 512)


def keyring_row(plain: bytes, **changes: Any) -> bytes:  # noqa: ANN401 - parts of a row
    parts: dict[str, Any] = {
        "front": b"\x4b\x01",
        "generation": 3,
        "bound": 3,
        "root": ROOT,
        "vault_id": VAULT,
    } | changes
    cipher = XAES256GCM(expand(parts["root"], "securecfg/1/kr", parts["vault_id"], 32))
    ctx = context(0x11, bytes(16), 0, struct.pack(">Q", parts["bound"]), parts["vault_id"])
    box = cipher._seal_with_nonce(fixed("keyring nonce", 24), plain, ctx)
    front: bytes = parts["front"] + struct.pack(">Q", parts["generation"])
    return front + box


def keyring_vectors() -> list[Vector]:
    def vector(name: str, result: str, row: bytes, **expected: object) -> Vector:
        given = {"row": row.hex(), "root": ROOT.hex(), "vault_id": VAULT.hex(), "generation": 3}
        return {"name": name, "result": result, **given, **expected}

    new = [key_entry(1, 0), key_entry(2, 0), key_entry(3, 0, size=96), key_entry(4, 0)]
    epochs = [key_entry(1, 0, state=2), key_entry(1, 1), key_entry(2, 5), *new[2:]]
    plain = keyring_plaintext(new, [slot_entry()])

    def refused(name: str, plaintext: bytes) -> Vector:
        return vector(name, "tampered", keyring_row(plaintext))

    good = keyring_row(plain)
    return [
        vector("a new vault", "valid", good, keys=[[1, 0, 1], [2, 0, 1], [3, 0, 1], [4, 0, 1]], labels=["Olga's"]),
        vector(
            "two epochs of the scope, the sixth of the log",
            "valid",
            keyring_row(keyring_plaintext(epochs, [])),
            keys=[[1, 0, 2], [1, 1, 1], [2, 5, 1], [3, 0, 1], [4, 0, 1]],
            labels=[],
        ),
        vector(
            "a key of another scope and one of an unknown purpose",
            "valid",
            keyring_row(
                keyring_plaintext([*new, key_entry(1, 0, scope_id=OTHER_SCOPE), key_entry(200, 0, size=5)], [])
            ),
            keys=[[1, 0, 1], [2, 0, 1], [3, 0, 1], [4, 0, 1], [1, 0, 1], [200, 0, 1]],
            labels=[],
        ),
        vector("another type", "tampered", keyring_row(plain, front=b"\x4c\x01")),
        vector("another suite", "tampered", keyring_row(plain, front=b"\x4b\x02")),
        vector("an older generation", "tampered", keyring_row(plain, generation=2, bound=2)),
        vector("an older generation under the header's number", "tampered", keyring_row(plain, bound=2)),
        vector("another root key", "tampered", keyring_row(plain, root=fixed("another root", 32))),
        vector("another vault", "tampered", keyring_row(plain, vault_id=OTHER_VAULT)),
        vector("a bit of the nonce", "tampered", flip(good, 10)),
        vector("a bit of the ciphertext", "tampered", flip(good, 40)),
        vector("a bit of the tag", "tampered", flip(good, -1)),
        vector("a byte short", "tampered", good[:-1]),
        vector("a byte long", "tampered", good + b"\x00"),
        vector("no box", "tampered", good[:10]),
        refused("no active key", keyring_plaintext([key_entry(1, 0, state=2), *new[1:]], [])),
        refused("two active keys", keyring_plaintext([*new, key_entry(1, 1)], [])),
        refused("the same epoch twice", keyring_plaintext([*new, key_entry(1, 0, state=2)], [])),
        refused("an unknown state", keyring_plaintext([*new, key_entry(1, 1, state=3)], [])),
        refused("a scope key of 31 bytes", keyring_plaintext([key_entry(1, 0, size=31), *new[1:]], [])),
        refused("an audit key of 32 bytes", keyring_plaintext([*new[:2], key_entry(3, 0), new[3]], [])),
        refused("a slot listed twice", keyring_plaintext(new, [slot_entry(), slot_entry()])),
        refused("a label that is not UTF-8", keyring_plaintext(new, [slot_entry(label=b"\xff")])),
        refused("padding that is not zero", flip(plain, -1)),
        refused("more keys counted than there are", flip(keyring_plaintext([], []), 0)),
        refused("cut off in the slot list", plain[: len(b"".join(new)) + 2]),
        refused("empty", b""),
    ]


# --- 5.1 wrapped data keys --------------------------------------------------------------------------------------------

DEK = fixed("data key", 32)
SCOPE_KEY = fixed("scope key", 32)


def dek_row(**changes: Any) -> bytes:  # noqa: ANN401 - parts of a row
    parts: dict[str, Any] = {
        "front": b"\x01\x01",
        "epoch": 2,
        "bound": None,
        "vault_id": VAULT,
        "scope_id": SCOPE,
        "dek_id": 21,
        "scope_key": SCOPE_KEY,
    } | changes
    epoch = parts["epoch"] if parts["bound"] is None else parts["bound"]
    siv = AESSIV(expand(parts["scope_key"], "securecfg/1/val", parts["scope_id"] + struct.pack(">I", epoch), 64))
    ctx = context(0x16, parts["scope_id"], epoch, struct.pack(">Q", parts["dek_id"]), parts["vault_id"])
    wrapped = siv.encrypt(DEK, changes.get("aad", [ctx]))
    return bytes(parts["front"]) + struct.pack(">I", parts["epoch"]) + wrapped


def dek_vectors() -> list[Vector]:
    def vector(name: str, result: str, row: bytes) -> Vector:
        opened = {"dek": DEK.hex()} if result == "valid" else {}
        place = {"vault_id": VAULT.hex(), "scope_id": SCOPE.hex(), "dek_id": 21}
        return {"name": name, "result": result, "row": row.hex(), "scope_key": SCOPE_KEY.hex(), **place, **opened}

    good = dek_row()
    return [
        vector("epoch 2", "valid", good),
        vector("epoch 0", "valid", dek_row(epoch=0)),
        vector("the last epoch", "valid", dek_row(epoch=2**32 - 1)),
        vector("the form that is reserved", "tampered", dek_row(front=b"\x02\x01")),
        vector("another suite", "tampered", dek_row(front=b"\x01\x02")),
        vector("another epoch than it is sealed for", "tampered", dek_row(bound=3)),
        vector("another scope key", "tampered", dek_row(scope_key=fixed("another scope key", 32))),
        vector("another vault", "tampered", dek_row(vault_id=OTHER_VAULT)),
        vector("another scope", "tampered", dek_row(scope_id=OTHER_SCOPE)),
        vector("the row of another data key", "tampered", dek_row(dek_id=22)),
        vector("no associated data", "tampered", dek_row(aad=[])),
        vector("a bit of the synthetic IV", "tampered", flip(good, 6)),
        vector("a bit of the key", "tampered", flip(good, -1)),
        vector("a byte short", "tampered", good[:-1]),
        vector("a byte long", "tampered", good + b"\x00"),
        vector("empty", "tampered", b""),
    ]


# --- 5.2 value records ------------------------------------------------------------------------------------------------

CREATED = 1_700_000_000_000_000_000
FIELDS = encode_fields({"user": "shop", "password": "canary", "key": b"\x00\xff"})


def value_context(form: int, **changes: Any) -> bytes:  # noqa: ANN401 - parts of a context
    parts: dict[str, Any] = {
        "vault_id": VAULT,
        "scope_id": SCOPE,
        "epoch": 0,
        "place": (9, 4),
        "created": CREATED,
    } | changes
    fields = struct.pack(">QIQB", *parts["place"], parts["created"], form)
    return context(0x17, parts["scope_id"], parts["epoch"], fields, parts["vault_id"])


def plaintext(kind: int, content: bytes, length: int | None = None) -> bytes:
    plain = struct.pack(">QB", len(content) if length is None else length, kind) + content
    return plain + bytes(padded_length(len(plain)) - len(plain))


def inline_row(plain: bytes, **changes: Any) -> tuple[bytes, bytes]:  # noqa: ANN401 - parts of a row
    """The record and the commitment that history would name."""
    parts: dict[str, Any] = {"front": b"\x56\x01\x01\x00", "nonce": bytes(12), "ctx": value_context(1)} | changes
    derived = expand(parts.get("dek", DEK), "securecfg/1/dek", parts["ctx"], 64)
    head = bytes(parts["front"]) + bytes(parts.get("commitment", derived[32:]))
    body = AESGCM(derived[:32]).encrypt(parts["nonce"], plain, parts.get("aad", head))
    return head + body, derived[32:]


def value_vectors() -> list[Vector]:
    def vector(name: str, result: str, made: tuple[bytes, bytes], *, kind: int = 1, content: bytes = b"") -> Vector:
        row, commitment = made
        place = {"vault_id": VAULT.hex(), "scope_id": SCOPE.hex(), "rec_id": 9, "version": 4, "created": CREATED}
        opened = {"kind": kind, "content": content.hex()} if result == "valid" else {}
        given = {"row": row.hex(), "dek": DEK.hex(), "commitment": commitment.hex()}
        return {"name": name, "result": result, **given, **place, **opened}

    def valid(name: str, kind: int, content: bytes) -> Vector:
        return vector(name, "valid", inline_row(plaintext(kind, content)), kind=kind, content=content)

    def refused(name: str, plain: bytes, **changes: Any) -> Vector:  # noqa: ANN401 - parts of a row
        return vector(name, "tampered", inline_row(plain, **changes))

    plain = plaintext(1, b"canary")
    row, commitment = inline_row(plain)
    other = fixed("another data key", 32)
    elsewhere: dict[str, dict[str, Any]] = {
        "another vault": {"vault_id": OTHER_VAULT},
        "another scope": {"scope_id": OTHER_SCOPE},
        "another record": {"place": (8, 4)},
        "another version": {"place": (9, 3)},
        "another time": {"created": CREATED + 1},
        "an epoch in the context": {"epoch": 1},
    }
    return [
        valid("text", 1, b"canary"),
        valid("bytes", 0, bytes(range(256))),
        valid("fields", 2, FIELDS),
        valid("empty", 0, b""),
        valid("the most that fits into 64 bytes", 0, b"x" * 55),
        valid("the least that does not", 0, b"x" * 56),
        valid("no padding", 0, b"x" * (1088 - 9)),
        *(refused(name, plain, ctx=value_context(1, **changes)) for name, changes in elsewhere.items()),
        refused("the form of a chunked value in the context", plain, ctx=value_context(2)),
        refused("another data key", plain, dek=other),
        refused("another type", plain, front=b"\x57\x01\x01\x00"),
        refused("another suite", plain, front=b"\x56\x02\x01\x00"),
        refused("another form", plain, front=b"\x56\x01\x02\x00"),
        refused("a flag", plain, front=b"\x56\x01\x01\x01"),
        refused("another commitment in the record", plain, commitment=flip(commitment, 0)),
        refused("another nonce", plain, nonce=b"\x00" * 11 + b"\x01"),
        refused("no associated data", plain, aad=b""),
        vector("another commitment in the history", "tampered", (row, flip(commitment, -1))),
        vector("a bit of the ciphertext", "tampered", (flip(row, 36), commitment)),
        vector("a bit of the tag", "tampered", (flip(row, -1), commitment)),
        vector("a byte short", "tampered", (row[:-1], commitment)),
        vector("a byte long", "tampered", (row + b"\x00", commitment)),
        vector("only the front", "tampered", (row[:36], commitment)),
        refused("padding that is not zero", flip(plain, -1)),
        refused("less padding", plain[:-1]),
        refused("more padding", plain + bytes(8)),
        refused("a length beyond the end", plaintext(1, b"", length=56)),
        refused("the longest length", plaintext(1, b"", length=2**64 - 1)),
        refused("no room for a kind", bytes(8)),
    ]


# --- 5.2 chunked values -----------------------------------------------------------------------------------------------

SALT = fixed("salt of a message", 24)
ROW_BYTES = 16 * 16400


def message(plain: bytes, *, key: bytes | None = None, ctx: bytes | None = None) -> bytes:
    context_bytes = value_context(2) if ctx is None else ctx
    enc_key = expand(DEK, "securecfg/1/dek", value_context(2), 64)[:32] if key is None else key
    return b"".join(ChunkSealer(enc_key, context_bytes)._seal_with_salt(SALT, [plain]))


def cut(sealed_message: bytes, first: int = 56 + ROW_BYTES) -> list[bytes]:
    rest = sealed_message[first:]
    return [sealed_message[:first], *(rest[start : start + ROW_BYTES] for start in range(0, len(rest), ROW_BYTES))]


def content_that_compresses(size: int) -> bytes:
    """The content whose ciphertext is all zeros, so that two rows of it take a kilobyte here."""
    chunks = message(bytes(9 + size))[56:]
    stream = b"".join(chunks[start : start + 16400][:-16] for start in range(0, len(chunks), 16400))
    return stream[9:]


def chunked_vectors() -> list[Vector]:
    derived = expand(DEK, "securecfg/1/dek", value_context(2), 64)
    record = b"\x56\x01\x02\x00" + derived[32:]

    def vector(name: str, result: str, rows: list[bytes], *, content: bytes = b"", record: bytes = record) -> Vector:
        opened = {"kind": 0, "length": len(content), "content_sha256": hashlib.sha256(content).hexdigest()}
        place = {"vault_id": VAULT.hex(), "scope_id": SCOPE.hex(), "rec_id": 9, "version": 4, "created": CREATED}
        packed = [zlib.compress(row, 9).hex() for row in rows]
        given = {"row": record.hex(), "rows_zlib": packed, "dek": DEK.hex(), "commitment": derived[32:].hex()}
        return {"name": name, "result": result, **given, **place, **(opened if result == "valid" else {})}

    def refused(name: str, rows: list[bytes], record: bytes = record) -> Vector:
        return vector(name, "tampered", rows, record=record)

    small = message(plaintext(0, b"canary"))
    content = content_that_compresses(300_000)
    whole = message(plaintext(0, content))
    rows = cut(whole)
    exact = content_that_compresses(16 * 16384 - 9)
    boundary = cut(message(plaintext(0, exact)))
    return [
        vector("one short chunk", "valid", [small], content=b"canary"),
        vector("two rows", "valid", rows, content=content),
        vector("a row of whole chunks and an empty chunk", "valid", boundary, content=exact),
        refused("no rows", []),
        refused("the last row is missing", rows[:1]),
        refused("the empty chunk is missing", boundary[:1]),
        refused("the first row is missing", rows[1:]),
        refused("rows swapped", rows[::-1]),
        refused("a row twice", [*rows, rows[1]]),
        refused("an empty row behind the last", [*rows, b""]),
        refused("cut after 15 chunks", cut(whole, 56 + 15 * 16400)),
        refused("one row for all", [whole]),
        refused("a bit of the salt", [flip(small, 0)]),
        refused("a bit of the message's commitment", [flip(small, 24)]),
        refused("a bit of a chunk", [flip(small, 56)]),
        refused("a bit of a tag", [flip(small, -1)]),
        refused("a byte short", [small[:-1]]),
        refused("a byte long", [small + b"\x00"]),
        refused("only the message's header", [small[:56]]),
        refused("sealed with the data key itself", [message(plaintext(0, b"canary"), key=DEK)]),
        refused("sealed without a context", [message(plaintext(0, b"canary"), ctx=b"")]),
        refused("a record with a body", [small], record + b"\x00"),
        refused("the record of an inline value", [small], b"\x56\x01\x01\x00" + derived[32:]),
        refused("another commitment in the record", [small], flip(record, -1)),
        refused("padding that is not zero", [message(flip(plaintext(0, b"canary"), -1))]),
        refused("less padding", [message(plaintext(0, b"canary")[:-1])]),
        refused("a length beyond the end", [message(plaintext(0, b"", length=56))]),
        refused("no room for a kind", [message(bytes(8))]),
    ]


# --- 5.2 fields -------------------------------------------------------------------------------------------------------


def field(name: bytes, kind: int, content: bytes) -> bytes:
    return bytes((len(name),)) + name + bytes((kind,)) + struct.pack(">I", len(content)) + content


def field_vectors() -> list[Vector]:
    def vector(name: str, result: str, encoded: list[bytes], tail: bytes = b"", **expected: object) -> Vector:
        content = struct.pack(">H", len(encoded)) + b"".join(encoded) + tail
        return {"name": name, "result": result, "content": content.hex(), **expected}

    password, user = field(b"password", 1, b"canary"), field(b"user", 1, b"shop")
    return [
        vector(
            "text and bytes", "valid", [field(b"a", 0, b"\xff"), user], fields={"a": [0, "ff"], "user": [1, "73686f70"]}
        ),
        vector("none", "valid", [], fields={}),
        vector("descending", "tampered", [user, password]),
        vector("the same name twice", "tampered", [user, user]),
        vector("an empty name", "tampered", [field(b"", 1, b"")]),
        vector("an unknown kind", "tampered", [field(b"a", 2, b"")]),
        vector("a name that is not UTF-8", "tampered", [field(b"\xc3", 1, b"")]),
        vector("a text that is not UTF-8", "tampered", [field(b"a", 1, b"\xff")]),
        vector("something behind the last", "tampered", [user], b"\x00"),
        vector("cut off", "tampered", [user[:-1]]),
    ]


def build() -> dict[str, str]:
    """The files by their names."""
    made = {
        "headers": ("4.1", header_vectors()),
        "slots": ("4.2", slot_vectors()),
        "keyrings": ("4.3", keyring_vectors()),
        "roots": ("4.5", root_vectors()),
        "data-keys": ("5.1", dek_vectors()),
        "values": ("5.2, form 1", value_vectors()),
        "chunked-values": ("5.2, form 2", chunked_vectors()),
        "fields": ("5.2, kind 2", field_vectors()),
    }
    return {
        f"{name}.json": json.dumps({"section": section, "vectors": vectors}, indent=1, ensure_ascii=True) + "\n"
        for name, (section, vectors) in made.items()
    }


if __name__ == "__main__":
    for file_name, text in build().items():
        (FOLDER / file_name).write_text(text)
