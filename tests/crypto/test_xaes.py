from __future__ import annotations

import hashlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography.hazmat.primitives.hashes import SHAKE128, XOFHash
from hypothesis import given
from hypothesis import strategies as st

from securecfg.crypto import XAES256GCM
from securecfg.errors import Tampered

NONCE = b"ABCDEFGHIJKLMNOPQRSTUVWX"
ACCUMULATED = {
    10_000: "e6b9edf2df6cec60c8cbd864e2211b597fb69a529160cd040d56c0c210081939",
    1_000_000: "2163ae1445985a30b60585ee67daa55674df06901b890593e824b8a7c885ab15",
}


@pytest.mark.parametrize(
    ("key", "aad", "ciphertext"),
    [
        (b"\x01" * 32, b"", "ce546ef63c9cc60765923609b33a9a1974e96e52daf2fcf7075e2271"),
        (b"\x03" * 32, b"c2sp.org/XAES-256-GCM", "986ec1832593df5443a179437fd083bf3fdb41abd740a21f71eb769d"),
    ],
    ids=["MSB of L is 0", "MSB of L is 1"],
)
def test_gives_the_published_answers(key: bytes, aad: bytes, ciphertext: str) -> None:
    box = XAES256GCM(key)._seal_with_nonce(NONCE, b"XAES-256-GCM", aad)
    assert box.hex() == NONCE.hex() + ciphertext
    assert XAES256GCM(key).open(box, aad) == b"XAES-256-GCM"


@pytest.mark.timeout(600)
def test_gives_the_published_accumulated_answer(exhaustive: bool) -> None:
    iterations = 1_000_000 if exhaustive else 10_000
    stream = XOFHash(SHAKE128(digest_size=sys.maxsize))
    accumulated = hashlib.shake_128()

    for _ in range(iterations):
        key, nonce = stream.squeeze(32), stream.squeeze(24)
        plaintext = stream.squeeze(stream.squeeze(1)[0])
        aad = stream.squeeze(stream.squeeze(1)[0])
        box = XAES256GCM(key)._seal_with_nonce(nonce, plaintext, aad)
        assert XAES256GCM(key).open(box, aad) == plaintext
        accumulated.update(box[24:])
    assert accumulated.hexdigest(32) == ACCUMULATED[iterations]


@pytest.mark.parametrize("size", [0, 16, 31, 33, 64])
def test_refuses_a_key_of_another_size(size: int) -> None:
    with pytest.raises(ValueError, match="key"):
        XAES256GCM(bytes(size))


def test_refuses_a_box_in_which_any_byte_was_changed() -> None:
    cipher = XAES256GCM(os.urandom(32))
    box = cipher.seal(b"canary", b"aad")
    for position in range(len(box)):
        altered = box[:position] + bytes((box[position] ^ 1,)) + box[position + 1 :]
        with pytest.raises(Tampered):
            cipher.open(altered, b"aad")


def test_refuses_every_truncation_and_an_extension() -> None:
    cipher = XAES256GCM(os.urandom(32))
    box = cipher.seal(b"canary", b"aad")
    for size in range(len(box)):
        with pytest.raises(Tampered):
            cipher.open(box[:size], b"aad")
    with pytest.raises(Tampered):
        cipher.open(box + b"\x00", b"aad")


def test_refuses_another_key_and_other_associated_data() -> None:
    cipher = XAES256GCM(os.urandom(32))
    box = cipher.seal(b"canary", b"aad")
    with pytest.raises(Tampered):
        cipher.open(box, b"aae")
    with pytest.raises(Tampered):
        XAES256GCM(os.urandom(32)).open(box, b"aad")


@given(key=st.binary(min_size=32, max_size=32), plaintext=st.binary(max_size=300), aad=st.binary(max_size=300))
def test_what_was_sealed_opens(key: bytes, plaintext: bytes, aad: bytes) -> None:
    assert XAES256GCM(key).open(XAES256GCM(key).seal(plaintext, aad), aad) == plaintext


def test_the_same_plaintext_never_gives_the_same_box() -> None:
    cipher = XAES256GCM(os.urandom(32))
    assert len({cipher.seal(b"canary", b"") for _ in range(1_000)}) == 1_000


def test_one_object_serves_many_threads() -> None:
    cipher = XAES256GCM(os.urandom(32))

    def work(number: int) -> bool:
        aad = number.to_bytes(4)
        return all(cipher.open(cipher.seal(aad * 9, aad), aad) == aad * 9 for _ in range(200))

    with ThreadPoolExecutor(32) as pool:
        assert all(pool.map(work, range(64)))
