"""Sealing to a public key, as `securecfg/crypto/hybrid.py` says; the decoder opens the same by hand."""

from __future__ import annotations

import os
import traceback
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securecfg.crypto import (
    HYBRID_OVERHEAD_BYTES,
    HYBRID_PRIVATE_BYTES,
    HYBRID_PUBLIC_BYTES,
    hybrid_public_key,
    open_sealed,
    seal_to,
)
from securecfg.errors import Tampered
from tests.decoder.ciphers import hpke_open

if TYPE_CHECKING:
    from collections.abc import Callable

PRIVATE = bytes(range(96))
PUBLIC = hybrid_public_key(PRIVATE)
CANARY = b"cAnArY-hybrid"


@settings(max_examples=20)
@given(message=st.binary(max_size=200), info=st.binary(max_size=80))
def test_what_was_sealed_opens_and_has_the_size_that_is_said(message: bytes, info: bytes) -> None:
    sealed = seal_to(PUBLIC, message, info)
    assert len(sealed) == len(message) + HYBRID_OVERHEAD_BYTES
    assert open_sealed(PRIVATE, sealed, info) == message
    assert hpke_open(PRIVATE, sealed, info) == message


def test_two_sealings_of_one_message_have_nothing_in_common() -> None:
    assert seal_to(PUBLIC, CANARY, b"") != seal_to(PUBLIC, CANARY, b"")
    assert len(PUBLIC) == HYBRID_PUBLIC_BYTES


def test_refuses_another_key_another_info_and_every_altered_region() -> None:
    sealed = seal_to(PUBLIC, CANARY, b"info")
    wrong = [(os.urandom(HYBRID_PRIVATE_BYTES), sealed, b"info"), (PRIVATE, sealed, b"inf")]
    for position in (*range(0, len(sealed), 61), len(sealed) - 1):
        altered = bytearray(sealed)
        altered[position] ^= 1
        wrong.append((PRIVATE, bytes(altered), b"info"))
    wrong += [(PRIVATE, sealed[:size], b"info") for size in (0, 1, 1_088, 1_120, 1_135, len(sealed) - 1)]
    wrong.append((PRIVATE, sealed + b"\x00", b"info"))
    for private, message, info in wrong:
        with pytest.raises(Tampered):
            open_sealed(private, message, info)


@pytest.mark.parametrize("size", [0, 32, 64, 95, 97, 10_000])
def test_refuses_keys_of_another_size(size: int) -> None:
    with pytest.raises(Tampered):
        hybrid_public_key(bytes(size))
    with pytest.raises(Tampered):
        open_sealed(bytes(size), seal_to(PUBLIC, b"", b""), b"")
    with pytest.raises(Tampered):
        seal_to(bytes(size), b"", b"")


def test_refuses_a_public_key_with_which_nothing_can_be_agreed_on() -> None:
    for point in (bytes(32), b"\x01" + bytes(31)):
        with pytest.raises(Tampered):
            seal_to(PUBLIC[:-32] + point, CANARY, b"")


def test_a_refusal_shows_neither_key_nor_message() -> None:
    private = CANARY.ljust(96, b"k")
    calls: tuple[Callable[[], bytes], ...] = (
        lambda: open_sealed(private, bytes(1_200), b""),
        lambda: open_sealed(private[:-1], bytes(1_200), b""),
        lambda: seal_to(bytes(HYBRID_PUBLIC_BYTES - 1), CANARY, b""),
        lambda: seal_to(PUBLIC[:-32] + bytes(32), CANARY, b""),
    )
    for call in calls:
        with pytest.raises(Tampered) as refused:
            call()
        inner = [frame for frame in traceback.walk_tb(refused.tb) if "securecfg/crypto" in frame[0].f_code.co_filename]
        assert inner
        assert not any("cAnArY" in repr(frame.f_locals) for frame, _ in inner)
