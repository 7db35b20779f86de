"""Leaves, sealers and tiles taken apart from `docs/security/audit-log.md` alone, without the package's own readers.

The vectors are in `vectors.json`; `python -m tests.audit.make_vectors` writes them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, MLKEM768X25519PrivateKey, Suite

from securecfg.audit import parse_leaf, parse_record, parse_vkey
from securecfg.audit.checkpoint import open_checkpoint
from securecfg.audit.epoch import parse_hand_over, verify_hand_over
from securecfg.audit.leaf import derive_leaf_key, open_leaf
from securecfg.audit.sealer import open_sealer, sealer_id_of
from securecfg.errors import SecurecfgError

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "vectors.json").read_text())
GOOD: dict[str, str] = VECTORS["good"]
BAD: list[dict[str, Any]] = VECTORS["bad"]


def raw(name: str) -> bytes:
    return bytes.fromhex(GOOD[name])


def expand(key: bytes, info: bytes) -> bytes:
    return hmac.new(key, info + b"\x01", hashlib.sha512).digest()


def test_the_page_alone_is_enough_to_open_a_leaf() -> None:
    private, vault_id, row, leaf = raw("audit_key"), raw("vault_id"), raw("sealer_row"), raw("leaf")
    mlkem, x25519 = MLKEM768PrivateKey.from_seed_bytes(private[:64]), X25519PrivateKey.from_private_bytes(private[64:])
    public = mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()
    key_id = hashlib.sha256(public).digest()[:8]
    assert row[:10] == b"\x53\x01" + key_id
    info = b"securecfg/1/sealer\x00" + vault_id + key_id
    suite = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
    sealer_key = suite.decrypt(row[10:], MLKEM768X25519PrivateKey(mlkem, x25519), info)

    assert leaf[:2] == b"\x4c\x01"
    sealer_id, counter, deltas = leaf[2:18], leaf[18:26], leaf[26]
    assert sealer_id == hashlib.sha256(row).digest()[:16]
    end = 27 + 32 * deltas
    index = int(GOOD["index"]).to_bytes(8)
    leaf_key = expand(sealer_key, b"securecfg/1/leaf\x00" + vault_id + sealer_id + counter + index)[:32]
    keys = expand(leaf_key, b"securecfg/1/leaf-key\x00")
    assert leaf[end : end + 32] == keys[32:]
    plaintext = AESGCM(keys[:32]).decrypt(bytes(12), leaf[end + 32 :], leaf[:end])
    length = int.from_bytes(plaintext[:4])
    assert plaintext[4 : 4 + length] == raw("record")
    assert plaintext[4 + length :].strip(b"\x00") == b""
    assert json.loads(plaintext[4 : 4 + length])["ev"] == "secret.written"


def test_the_page_alone_is_enough_to_verify_a_checkpoint_of_one_record() -> None:
    text, _, line = GOOD["checkpoint"].partition("\n\n")
    origin, size, root, state = text.split("\n")
    assert (origin, size) == (f"securecfg/{GOOD['vault_id']}", "1")
    assert base64.b64decode(root) == hashlib.sha256(b"\x00" + raw("leaf")).digest()
    assert len(base64.b64decode(state.removeprefix("state "))) == 32
    name, key_id, key = GOOD["vkey"].split("+", 2)
    signed = base64.b64decode(line.split(" ")[2])
    assert (name, key_id, base64.b64decode(key)[:1]) == (origin, signed[:4].hex(), b"\x01")
    Ed25519PublicKey.from_public_bytes(base64.b64decode(key)[1:]).verify(signed[4:], text.encode() + b"\n")


def test_the_package_reads_what_the_page_says() -> None:
    open_everything(GOOD)


@pytest.mark.parametrize("vector", BAD, ids=lambda vector: vector["desc"])
def test_each_altered_vector_fails_in_its_named_way(vector: dict[str, Any]) -> None:
    with pytest.raises(SecurecfgError) as caught:
        open_everything(GOOD | vector["change"])
    assert caught.value.code == vector["code"]


def open_everything(vector: dict[str, str]) -> None:
    vault_id, index = bytes.fromhex(vector["vault_id"]), int(vector["index"])
    row = bytes.fromhex(vector["sealer_row"])
    sealer_key = open_sealer(row, bytes.fromhex(vector["audit_key"]), vault_id)
    leaf = parse_leaf(bytes.fromhex(vector["leaf"]), index)
    leaf_key = derive_leaf_key(sealer_key, vault_id, sealer_id_of(row), leaf.counter, index)
    assert open_leaf(leaf, leaf_key, index) == raw("record")
    parse_record(bytes.fromhex(vector["record"]), index)
    vkey = parse_vkey(vector["vkey"])
    open_checkpoint(vector["checkpoint"].encode(), [vkey])
    verify_hand_over(parse_hand_over(json.loads(vector["hand_over"])), vkey)
