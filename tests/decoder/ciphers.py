"""The algorithms that format.md names, from `cryptography` and the specifications of C2SP."""

from __future__ import annotations

import hmac
from hashlib import sha3_256, sha256
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESSIV
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from tests.decoder.octets import Octets, u8, u16, u32
from tests.decoder.refusals import demand

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ZERO_NONCE = bytes(12)
CHUNK = 16_384
TAG = 16
CHUNKS_IN_A_ROW = 16
X_WING = bytes.fromhex("5c2e2f2f5e5c")


def same(one: bytes, other: bytes) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(one, other)


def derive(parent: bytes, label: str, rest: bytes, size: int) -> bytes:
    """Derive a key: section 3."""
    return HKDFExpand(SHA512(), size, label.encode() + b"\0" + rest).derive(parent)


def context(kind: int, vault_id: bytes, scope_id: bytes, epoch: int, fields: bytes) -> bytes:
    """Build the associated data of a ciphertext: section 3."""
    return b"securecfg/1\0" + u8(kind) + u8(1) + vault_id + scope_id + u32(epoch) + fields


def siv_open(key: bytes, sealed: bytes, aad: bytes) -> bytes:
    return AESSIV(key).decrypt(sealed, [aad])


def gcm_open(key: bytes, sealed: bytes, aad: bytes) -> bytes:
    """Open what was sealed under a key of one use, hence with a nonce of zeros."""
    demand(len(sealed) >= TAG, "no room for a tag")
    return AESGCM(key).decrypt(ZERO_NONCE, sealed, aad)


def box_open(key: bytes, box: bytes, aad: bytes) -> bytes:
    """Open a sealed box: XAES-256-GCM of C2SP under a random nonce of 24 bytes."""
    demand(len(box) >= 24 + TAG, "a box without room for nonce and tag")
    nonce, sealed = box[:24], box[24:]
    halves = []
    for counter in (1, 2):
        # A message of one whole block, so that CMAC is AES of M xor K1, as the specification spells it out.
        mac = CMAC(AES(key))
        mac.update(u16(counter) + b"X\0" + nonce[:12])
        halves.append(mac.finalize())
    return AESGCM(b"".join(halves)).decrypt(nonce[12:], sealed, aad)


def chunked_open(key: bytes, rows: Iterable[bytes], info: bytes) -> Iterator[bytes]:
    """Open a C2SP chunked-encryption message row by row, and refuse one that is cut otherwise than section 5.2 says."""
    whole = CHUNKS_IN_A_ROW * (CHUNK + TAG)
    keys: AESGCM | None = None
    base = counter = 0
    ended = False
    for row in rows:
        demand(not ended, "a row after the last chunk")
        octets = Octets(row)
        if keys is None:
            salt, commitment = octets.take(24), octets.take(32)
            material = derive(key, "c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM", salt + info, 32 + 12 + 32)
            demand(same(material[44:], commitment), "another commitment of the chunked message")
            keys, base = AESGCM(material[:32]), int.from_bytes(material[32:44], "big")
        sealed = octets.rest()
        demand(len(sealed) <= whole, "a row of more than 16 chunks")
        ended = len(sealed) < whole
        for start in range(0, max(len(sealed), 1), CHUNK + TAG):
            chunk = sealed[start : start + CHUNK + TAG]
            demand(len(chunk) >= TAG, "a chunk without room for a tag")
            yield keys.decrypt((base ^ counter).to_bytes(12, "big"), chunk, None)
            counter += 1
        demand(not ended or len(sealed) % (CHUNK + TAG) >= TAG, "no last chunk that is shorter than the others")
    demand(ended, "no last chunk that is shorter than the others")


def _audit_key(private: bytes) -> tuple[MLKEM768PrivateKey, X25519PrivateKey]:
    return MLKEM768PrivateKey.from_seed_bytes(private[:64]), X25519PrivateKey.from_private_bytes(private[64:])


def audit_key_id(private: bytes) -> bytes:
    mlkem, x25519 = _audit_key(private)
    return sha256(mlkem.public_key().public_bytes_raw() + x25519.public_key().public_bytes_raw()).digest()[:8]


def hpke_open(private: bytes, message: bytes, info: bytes) -> bytes:
    """Open an HPKE message in base mode, by hand: KEM 0x647A (X-Wing), KDF 1 and AEAD 2; audit-log.md section 3."""
    mlkem, x25519 = _audit_key(private)
    encapsulated, ephemeral, sealed = message[:1088], message[1088:1120], message[1120:]
    agreed = x25519.exchange(X25519PublicKey.from_public_bytes(ephemeral))
    public = x25519.public_key().public_bytes_raw()
    shared = sha3_256(mlkem.decapsulate(encapsulated) + agreed + ephemeral + public + X_WING).digest()
    suite = b"HPKE-v1HPKE" + u16(0x647A) + u16(1) + u16(2)

    def extract(salt: bytes, label: bytes, content: bytes) -> bytes:
        return hmac.digest(salt, suite + label + content, "sha256")

    def expand(label: bytes, size: int) -> bytes:
        return hmac.digest(secret, u16(size) + suite + label + schedule + b"\1", "sha256")[:size]

    schedule = b"\0" + extract(b"", b"psk_id_hash", b"") + extract(b"", b"info_hash", info)
    secret = extract(shared, b"secret", b"")
    return AESGCM(expand(b"key", 32)).decrypt(expand(b"base_nonce", 12), sealed, b"")


def padme(size: int) -> int:
    """Round a size up: section 5.2."""
    exponent = size.bit_length() - 1
    kept = exponent.bit_length()
    step = 1 << (exponent - kept)
    return -(-size // step) * step
