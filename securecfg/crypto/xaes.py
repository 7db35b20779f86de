"""XAES-256-GCM: AES-256-GCM with a 192-bit random nonce (c2sp.org/XAES-256-GCM).

For keys that live long: a random nonce never needs to be counted (2^80 messages at a risk of 2^-32).
"""

from __future__ import annotations

import os
import threading

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import ECB

from securecfg.errors import Tampered

NONCE_BYTES = 24
TAG_BYTES = 16
BOX_OVERHEAD_BYTES = NONCE_BYTES + TAG_BYTES

_FIRST_BLOCK = 0x0001_5800 << 96  # counter 1, the label `X`, a zero byte
_BLOCK_DIFFERENCE = 0x0003_0000 << 96  # counter 1 xor counter 2


class XAES256GCM:
    """Seals boxes under one key. May be shared by threads.

    Args:
        key: 32 uniformly random bytes.

    Raises:
        ValueError: The key does not have 32 bytes.
    """

    __slots__ = ("_block_cipher", "_lock", "_mask")

    def __init__(self, key: bytes) -> None:
        """Prepare the block cipher and the subkey K1 (steps 1 and 2)."""
        # ECB over whole blocks carries no state from one call to the next, so one context serves all of them.
        self._block_cipher = Cipher(AES256(key), ECB()).encryptor()  # noqa: S305 - the bare block cipher of step 5
        self._lock = threading.Lock()
        doubled = int.from_bytes(self._block_cipher.update(bytes(16)), "big") << 1
        k1 = (doubled & ((1 << 128) - 1)) ^ (0x87 * (doubled >> 128))
        self._mask = k1 ^ _FIRST_BLOCK

    def seal(self, plaintext: bytes, aad: bytes) -> bytes:
        """Return `nonce [24] || ciphertext || tag [16]` under a fresh random nonce."""
        return self._seal_with_nonce(os.urandom(NONCE_BYTES), plaintext, aad)

    def open(self, row: bytes, aad: bytes, start: int = 0) -> bytes:
        """Return the plaintext of a box.

        Args:
            row: The box, and what stands in front of it.
            aad: The associated data.
            start: Where in the row the box begins; what stands in front of it is looked at by the caller.

        Raises:
            Tampered: The box was altered, or sealed under another key or other associated data.
        """
        if len(row) - start >= BOX_OVERHEAD_BYTES:
            end = start + NONCE_BYTES
            nonce = row[start:end]
            try:
                return self._cipher(nonce).decrypt(nonce[12:], memoryview(row)[end:], aad)
            except InvalidTag:
                pass
        message = "a sealed row does not match its key and place"
        raise Tampered(message)

    def _seal_with_nonce(self, nonce: bytes, plaintext: bytes, aad: bytes) -> bytes:
        return nonce + self._cipher(nonce).encrypt(nonce[12:], plaintext, aad)

    def _cipher(self, nonce: bytes) -> AESGCM:
        first = self._mask ^ int.from_bytes(nonce[:12])
        blocks = (first << 128 | first ^ _BLOCK_DIFFERENCE).to_bytes(32)
        with self._lock:
            key = self._block_cipher.update(blocks)
        return AESGCM(key)
