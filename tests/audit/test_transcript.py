"""Transcripts of key ceremonies: what a verified one says, and that no other text passes for one."""

from __future__ import annotations

import re

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from securecfg.audit import Checkpoint, VerifierKey, origin_of, vkey_of
from securecfg.audit.epoch import create_hand_over
from securecfg.audit.note import sign_note
from securecfg.audit.transcript import Holder, Kind, SlotNamed, Transcript, open_transcript, sign_transcript
from securecfg.errors import LogTampered, SignatureInvalid, UsageError

VAULT_ID = bytes(range(16))
ORIGIN = origin_of(VAULT_ID)
KEYS = [Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in range(1, 5)]
VKEYS = [vkey_of(ORIGIN, key) for key in KEYS]
HAND_OVERS = tuple(create_hand_over(number, ORIGIN, KEYS[number - 1], KEYS[number]) for number in (1, 2))

MADE = Transcript(
    kind=Kind.ADDED,
    begun="2026-03-01T12:00:00.000000000Z",
    ended="2026-03-01T12:30:00.000000001Z",
    auth="asserted",
    principal="user:ana",
    slot=SlotNamed(3, "0f" * 16, "shamir"),
    threshold=2,
    total=3,
    set_id="0123456789abcdef",
    holders=(
        Holder(1, "00c0ffee", "terminal", "Ana Müller"),
        Holder(2, "0badf00d", f"identity:{'ab' * 16}", "ben"),
        Holder(3, "deadbeef", "file", "safe in room 4"),
    ),
    new=None,
    checkpoint=Checkpoint(ORIGIN, 17, bytes(32), b"\x01" * 32),
    hand_overs=(),
)
RECOVERED = MADE._replace(
    kind=Kind.RECOVERED, holders=MADE.holders[1:], new=SlotNamed(4, "1e" * 16, "passphrase+file"), hand_overs=HAND_OVERS
)


def text_of(made: Transcript, key: Ed25519PrivateKey = KEYS[0]) -> str:
    return sign_transcript(made, key).decode().partition("\n\n")[0] + "\n"


def signed(text: str, key: Ed25519PrivateKey = KEYS[0], name: str = ORIGIN) -> bytes:
    return sign_note(text, name, key)


@pytest.mark.parametrize("made", [MADE, MADE._replace(kind=Kind.CREATED, auth="proved")], ids=["added", "created"])
def test_a_transcript_says_what_was_signed(made: Transcript) -> None:
    assert open_transcript(sign_transcript(made, KEYS[0]), VKEYS[0]) == made


def test_any_key_from_the_first_to_the_one_in_use_is_enough_to_trust_it() -> None:
    raw = sign_transcript(RECOVERED, KEYS[2])
    for vkey in VKEYS[:3]:
        assert open_transcript(raw, vkey) == RECOVERED
    with pytest.raises(LogTampered):
        open_transcript(raw, VKEYS[3])


def test_an_erased_key_signs_no_transcript_of_a_later_time() -> None:
    for old in KEYS[:2]:
        with pytest.raises(SignatureInvalid):
            open_transcript(sign_transcript(RECOVERED, old), VKEYS[0])


def test_hand_overs_that_are_missing_or_forged_are_noticed() -> None:
    for wrong in (HAND_OVERS[1:], HAND_OVERS[:1], HAND_OVERS[::-1], ()):
        with pytest.raises((LogTampered, SignatureInvalid)):
            open_transcript(sign_transcript(RECOVERED._replace(hand_overs=wrong), KEYS[2]), VKEYS[0])


def test_a_transcript_of_another_vault_is_refused() -> None:
    other = origin_of(bytes(16))
    with pytest.raises(SignatureInvalid, match="another log"):
        open_transcript(sign_transcript(MADE, KEYS[0]), VerifierKey(other, VKEYS[0].public_key))
    with pytest.raises(SignatureInvalid):
        open_transcript(signed(text_of(MADE), name=other), VKEYS[0])


def test_no_character_of_a_transcript_can_be_changed_unnoticed() -> None:
    raw = sign_transcript(RECOVERED, KEYS[2])
    for place in range(len(raw)):
        altered = raw[:place] + bytes((raw[place] ^ 1,)) + raw[place + 1 :]
        with pytest.raises((SignatureInvalid, LogTampered)):
            open_transcript(altered, VKEYS[0])


@pytest.mark.parametrize(
    ("pattern", "other"),
    [
        (r"securecfg-ceremony/1", "securecfg-ceremony/2"),
        (r"\Asecurecfg", " securecfg"),
        (r"kind added", "kind made"),
        (r"kind added", "kind recovered"),
        (r"begun 2026", "begun 26"),
        (r"begun (.*)Z", r"begun \1"),
        (r"by asserted", "by guessed"),
        (r"by asserted user:ana", "by asserted"),
        (r"slot 3 0f", "slot 3 0F"),
        (r"slot 3", "slot 03"),
        (r"slot 3", "slot x"),
        (r"shares 2", "shares 1"),
        (r"shares 2", "shares 4"),
        (r"shares 2 of 3", "shares 2 of 4"),
        (r"shares 2 of 3", "shares 2 of 256"),
        (r"0123456789abcdef\n", "0123456789abcde\n"),
        (r"holder 1 .*\n", ""),
        (r"holder 3 .*\n", ""),
        (r"(holder 1 .*\n)(holder 2 .*\n)", r"\2\1"),
        (r"(holder 1 .*\n)", r"\1\1"),
        (r"holder 1", "holder 0"),
        (r"holder 3", "holder 4"),
        (r"00c0ffee", "00C0FFEE"),
        (r"00c0ffee", "00c0ffe"),
        (r"terminal", "telephone"),
        (r"identity:ab", "identity:"),
        (r"terminal Ana", "terminal  Ana"),
        (r"Müller", "Müller "),
        (r"Müller", "M\u202eüller"),
        (r"Müller", "M" * 65),
        (r"terminal Ana Müller", "terminal "),
        (r"(?=checkpoint)", "new 4 " + "1e" * 16 + " file\n"),
        (r"checkpoint 17", "checkpoint 017"),
        (r"checkpoint 17 A", "checkpoint 17 B"),
        (r"checkpoint 17 AAAA", "checkpoint 17 "),
        (r"checkpoint .*\n", ""),
        (r"\Z", "epoch 1\n"),
        (r"\Z", "\n"),
        (r"\Z", "and more\n"),
    ],
)
def test_every_other_text_is_refused_though_it_is_signed(pattern: str, other: str) -> None:
    text = text_of(MADE)
    wrong = re.sub(pattern, other, text, count=1)
    if pattern == r"checkpoint 17 A":
        assert open_transcript(signed(wrong), VKEYS[0]) != MADE
        return
    assert wrong != text
    with pytest.raises(SignatureInvalid):
        open_transcript(signed(wrong), VKEYS[0])


def test_a_recovery_names_the_new_slot_and_at_least_as_many_holders_as_are_needed() -> None:
    for wrong in (RECOVERED._replace(new=None), RECOVERED._replace(holders=RECOVERED.holders[:1])):
        with pytest.raises(UsageError):
            sign_transcript(wrong, KEYS[2])


@pytest.mark.parametrize("name", ["", " a", "a ", "a\nb", "a\x1b[2J", "x" * 65])
def test_a_holder_whose_name_could_be_mistaken_is_never_signed(name: str) -> None:
    wrong = MADE._replace(holders=(Holder(1, "00c0ffee", "terminal", name), *MADE.holders[1:]))
    with pytest.raises(UsageError):
        sign_transcript(wrong, KEYS[0])


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(SignatureInvalid):
        open_transcript(raw, VKEYS[0])
