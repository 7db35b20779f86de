"""The primitives that the format is built from, against Project Wycheproof."""

from __future__ import annotations

import hashlib
import hmac
import json
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV

from securecfg.crypto import ChunkOpener, ChunkSealer
from securecfg.crypto.chunked import HEADER_BYTES, ROW_BYTES
from securecfg.crypto.derive import hkdf_expand
from securecfg.errors import Tampered

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Test = tuple[dict[str, Any], dict[str, Any]]


def read(vectors: Path, name: str) -> list[Test]:
    """Every test of a file with the group it belongs to."""
    content = json.loads((vectors / "wycheproof" / name).read_text())
    tests = [(group, test) for group in content["testGroups"] for test in group["tests"]]
    assert len(tests) == content["numberOfTests"]
    return tests


def octets(test: dict[str, Any], *names: str) -> list[bytes]:
    return [bytes.fromhex(test[name]) for name in names]


def test_aes_gcm_seals_and_opens_what_wycheproof_calls_valid_and_refuses_the_rest(vectors: Path) -> None:
    tried = 0
    for group, test in read(vectors, "aes_gcm_test.json"):
        key, nonce, aad, message, ciphertext, tag = octets(test, "key", "iv", "aad", "msg", "ct", "tag")
        # The format uses nonces of 96 bits only.
        if group["ivSize"] != 96 or group["tagSize"] != 128:
            continue
        tried += 1
        cipher = AESGCM(key)
        if test["result"] == "valid":
            assert cipher.encrypt(nonce, message, aad) == ciphertext + tag
            assert cipher.decrypt(nonce, ciphertext + tag, aad) == message
        else:
            with pytest.raises(InvalidTag):
                cipher.decrypt(nonce, ciphertext + tag, aad)
    assert tried > 100


def test_aes_siv_seals_and_opens_what_wycheproof_calls_valid_and_refuses_the_rest(vectors: Path) -> None:
    for _group, test in read(vectors, "aead_aes_siv_cmac_test.json"):
        key, nonce, aad, message, ciphertext, tag = octets(test, "key", "iv", "aad", "msg", "ct", "tag")
        cipher = AESSIV(key)
        parts = [aad, nonce]
        if test["result"] == "valid":
            assert cipher.encrypt(message, parts) == tag + ciphertext
            assert cipher.decrypt(tag + ciphertext, parts) == message
        else:
            with pytest.raises(InvalidTag):
                cipher.decrypt(tag + ciphertext, parts)


def test_hkdf_expand_gives_the_keys_of_wycheproof(vectors: Path) -> None:
    for _group, test in read(vectors, "hkdf_sha512_test.json"):
        key, salt, info = octets(test, "ikm", "salt", "info")
        extracted = hmac.digest(salt or bytes(64), key, "sha512")
        if test["result"] == "valid":
            assert hkdf_expand(extracted, info, test["size"]).hex() == test["okm"]
        else:
            with pytest.raises(ValueError, match="HKDF"):
                hkdf_expand(extracted, info, test["size"])


def test_hmac_gives_the_tags_of_wycheproof(vectors: Path) -> None:
    for group, test in read(vectors, "hmac_sha256_test.json"):
        key, message, tag = octets(test, "key", "msg", "tag")
        computed = hmac.digest(key, message, "sha256")[: group["tagSize"] // 8]
        assert hmac.compare_digest(computed, tag) == (test["result"] == "valid")


def test_ed25519_accepts_what_wycheproof_calls_valid_and_refuses_the_rest(vectors: Path) -> None:
    for group, test in read(vectors, "ed25519_test.json"):
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(group["publicKey"]["pk"]))
        signature, message = octets(test, "sig", "msg")
        if test["result"] == "valid":
            key.verify(signature, message)
        else:
            with pytest.raises(InvalidSignature):
                key.verify(signature, message)


def test_x25519_gives_the_secrets_of_wycheproof(vectors: Path) -> None:
    for _group, test in read(vectors, "x25519_test.json"):
        private, public, shared = octets(test, "private", "public", "shared")
        key = X25519PrivateKey.from_private_bytes(private)
        peer = X25519PublicKey.from_public_bytes(public)
        if any(shared):
            assert key.exchange(peer) == shared
        else:
            with pytest.raises(ValueError, match="shared"):
                key.exchange(peer)


def rows(message: bytes) -> Iterator[bytes]:
    first = HEADER_BYTES + ROW_BYTES
    yield message[:first]
    for start in range(first, len(message), ROW_BYTES):
        yield message[start : start + ROW_BYTES]


def test_chunked_messages_open_where_wycheproof_says_so_and_nowhere_else(vectors: Path) -> None:
    for _group, test in read(vectors, "c2sp_chunked_encryption_aes_256_gcm_test.json"):
        key, ctx = octets(test, "key", "ctx")
        message = zlib.decompress(bytes.fromhex(test["ct"]))
        if "InvalidKeySize" in test["flags"]:
            with pytest.raises(ValueError, match="32 bytes"):
                ChunkOpener(key, ctx)
            with pytest.raises(ValueError, match="32 bytes"):
                ChunkSealer(key, ctx)
            continue
        opener = ChunkOpener(key, ctx)
        if test["result"] == "valid":
            plaintext = b"".join(opener.open(rows(message)))
            assert len(plaintext) == test["msgLength"]
            assert hashlib.sha512(plaintext).hexdigest() == test["msgSha512"]
            sealer = ChunkSealer(key, ctx)
            again = b"".join(sealer._seal_with_salt(message[:24], [plaintext]))
            assert again == message
        else:
            with pytest.raises(Tampered):
                list(opener.open(rows(message)))
