from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from securecfg.audit.checkpoint import (
    Checkpoint,
    open_checkpoint,
    open_own_checkpoint,
    open_signed_checkpoint,
    origin_of,
    parse_checkpoint,
    sign_checkpoint,
)
from securecfg.audit.note import NoteSigner, encode_base64, parse_note, sign_note, vkey_of
from securecfg.errors import LogTampered
from tests.audit.sample import ORIGIN, STATE, VAULT_ID, signing_key

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = signing_key(0)
SIGNER = NoteSigner(ORIGIN, KEY)
VKEY = vkey_of(ORIGIN, KEY)
ROOT = bytes(range(32))
B64 = encode_base64(ROOT)
GOOD = f"{ORIGIN}\n70000\n{B64}\nstate {B64}\n"


def test_is_what_the_specification_shows() -> None:
    checkpoint = Checkpoint(ORIGIN, 70_000, ROOT, ROOT)
    assert checkpoint.text == GOOD
    assert ORIGIN == "securecfg/000102030405060708090a0b0c0d0e0f"
    note = sign_checkpoint(checkpoint, KEY)
    assert open_checkpoint(note, [VKEY]) == checkpoint
    assert open_own_checkpoint(note, SIGNER) == checkpoint
    assert SIGNER.has_signed(note)
    assert open_signed_checkpoint(note, [VKEY]) == (checkpoint, VKEY)
    assert parse_checkpoint(note) == checkpoint


@given(st.integers(0, 2**63 - 1), st.binary(min_size=32, max_size=32), st.binary(min_size=32, max_size=32))
def test_survives_being_written_and_read(size: int, root: bytes, state: bytes) -> None:
    checkpoint = Checkpoint(origin_of(VAULT_ID), size, root, state)
    assert open_checkpoint(sign_checkpoint(checkpoint, KEY), [VKEY]) == checkpoint


@pytest.mark.parametrize(
    "text",
    [
        GOOD[1:],
        GOOD.replace("70000", "070000"),
        GOOD.replace("70000", "-1"),
        GOOD.replace("70000", "+1"),
        GOOD.replace("70000", "7e4"),
        GOOD.replace("70000", ""),
        GOOD.replace("70000", " 70000"),
        GOOD.replace("70000", "\N{ARABIC-INDIC DIGIT SEVEN}"),
        GOOD.replace("70000", str(2**63)),
        GOOD.replace("70000", "9" * 19),
        GOOD.replace("70000", "9" * 20),
        GOOD.replace("70000", "9" * 5_000),
        GOOD.replace("securecfg/", "other/"),
        GOOD.replace("0a0b", "0A0B"),
        GOOD.replace("0a0b", "0a0"),
        GOOD.replace("state ", "state  "),
        GOOD.replace("state ", "status "),
        GOOD.replace("state ", ""),
        GOOD + "extra\n",
        GOOD + f"state {B64}\n",
        "\n" + GOOD,
        GOOD.removesuffix(f"state {B64}\n"),
        GOOD.replace(B64, B64[:-1]),
        GOOD.replace(B64, encode_base64(ROOT + b"x")),
        GOOD.replace(B64, encode_base64(ROOT[:-1])),
        GOOD.replace(B64, B64[:-2] + "9="),
        "\n",
        "securecfg-report/1\n" + GOOD,
    ],
)
def test_of_another_form_is_refused(text: str) -> None:
    note = sign_note(text, ORIGIN, KEY)
    with pytest.raises(LogTampered):
        open_checkpoint(note, [VKEY])
    with pytest.raises(LogTampered):
        open_own_checkpoint(note, SIGNER)
    with pytest.raises(LogTampered):
        parse_checkpoint(note)


@pytest.mark.parametrize("raw", [b"", b"\xff", GOOD.encode(), b"\n\n" * 1000])
def test_that_is_no_note_is_refused(raw: bytes) -> None:
    with pytest.raises(LogTampered):
        open_checkpoint(raw, [VKEY])
    with pytest.raises(LogTampered):
        open_own_checkpoint(raw, SIGNER)
    with pytest.raises(LogTampered, match="malformed"):
        parse_checkpoint(raw)


def test_by_another_key_is_refused() -> None:
    note = sign_checkpoint(Checkpoint(ORIGIN, 1, ROOT, STATE), signing_key(1))
    with pytest.raises(LogTampered, match="cannot be trusted"):
        open_checkpoint(note, [VKEY])
    with pytest.raises(LogTampered, match="cannot be trusted"):
        open_own_checkpoint(note, SIGNER)


def test_with_any_bit_changed_is_refused_by_who_holds_the_key_as_by_others() -> None:
    note = sign_checkpoint(Checkpoint(ORIGIN, 70_000, ROOT, STATE), KEY)
    for place in range(len(note)):
        changed = note[:place] + bytes((note[place] ^ 1,)) + note[place + 1 :]
        assert not SIGNER.has_signed(changed)
        assert _code_of(lambda raw=changed: open_own_checkpoint(raw, SIGNER)) == "log-tampered"  # type: ignore[misc]  # lambda default


def test_that_the_key_signed_in_another_way_is_taken_by_who_holds_it() -> None:
    checkpoint = Checkpoint(ORIGIN, 1, ROOT, STATE)
    own = sign_checkpoint(checkpoint, KEY)
    # Valid, and not the one that RFC 8032 leads to: signed with a random nonce, as another implementation might.
    line = parse_note(own).signatures[0]
    signature = line.key_id + _sign_at_random(KEY, checkpoint.text.encode())
    other = own.replace(encode_base64(line.key_id + line.signature).encode(), encode_base64(signature).encode())
    assert other != own
    assert not SIGNER.has_signed(other)
    assert open_own_checkpoint(other, SIGNER) == open_checkpoint(other, [VKEY]) == checkpoint
    # Others may sign besides, before or after.
    lines = parse_note(sign_checkpoint(checkpoint, signing_key(1))).signatures
    foreign = f"\N{EM DASH} witness {encode_base64(lines[0].key_id + lines[0].signature)}\n".encode()
    text, signed = own.split(b"\n\n")
    for both in (own + foreign, text + b"\n\n" + foreign + signed):
        assert open_own_checkpoint(both, SIGNER) == checkpoint


def _code_of(call: Callable[[], object]) -> str:
    with pytest.raises(LogTampered) as caught:
        call()
    return caught.value.code


def _sign_at_random(key: Ed25519PrivateKey, message: bytes) -> bytes:
    """Sign with a nonce that does not follow from key and message (RFC 8032, section 5.1.6, with another step 2)."""
    seed = b"any nonce".ljust(32)
    nonce_point = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    public = key.public_key().public_bytes_raw()
    order = 2**252 + 27742317777372353535851937790883648493
    challenge = int.from_bytes(hashlib.sha512(nonce_point + public + message).digest(), "little")
    scalar = (_secret_scalar(seed) + challenge * _secret_scalar(key.private_bytes_raw())) % order
    return nonce_point + scalar.to_bytes(32, "little")


def _secret_scalar(seed: bytes) -> int:
    low = bytearray(hashlib.sha512(seed).digest()[:32])
    low[0] &= 248
    low[31] = low[31] & 127 | 64
    return int.from_bytes(low, "little")


def test_of_another_log_than_its_signer_is_refused() -> None:
    other = origin_of(bytes(16))
    note = sign_note(GOOD, other, KEY)
    with pytest.raises(LogTampered, match="signed by"):
        open_checkpoint(note, [vkey_of(other, KEY)])
    with pytest.raises(LogTampered, match="signed by"):
        open_own_checkpoint(note, NoteSigner(other, KEY))


@pytest.mark.parametrize("fields", [(ORIGIN, -1, ROOT, ROOT), (ORIGIN, 2**63, ROOT, ROOT), ("x", 1, ROOT, ROOT)])
def test_with_impossible_fields_is_not_made(fields: tuple[str, int, bytes, bytes]) -> None:
    with pytest.raises(LogTampered):
        Checkpoint(*fields)


@pytest.mark.parametrize("short", [b"", ROOT[:-1], ROOT + b"x"])
def test_with_hashes_of_another_length_is_not_made(short: bytes) -> None:
    with pytest.raises(LogTampered):
        Checkpoint(ORIGIN, 1, short, ROOT)
    with pytest.raises(LogTampered):
        Checkpoint(ORIGIN, 1, ROOT, short)


def test_is_equal_to_one_that_says_the_same() -> None:
    checkpoint = Checkpoint(ORIGIN, 1, ROOT, STATE)
    assert {checkpoint, Checkpoint(ORIGIN, 1, ROOT, STATE)} == {checkpoint}
    assert checkpoint != Checkpoint(ORIGIN, 2, ROOT, STATE)
    assert checkpoint != checkpoint.text


def test_is_not_named_after_an_id_of_another_length() -> None:
    with pytest.raises(LogTampered):
        origin_of(bytes(15))
