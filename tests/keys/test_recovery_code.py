"""Section 4.2 of the format: recovery codes."""

from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securecfg.errors import KeyProviderRefused
from securecfg.keys import generate_recovery_code
from securecfg.keys.recovery import format_recovery_code, parse_recovery_code

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
CODE = bytes(range(20))
TEXT = format_recovery_code(CODE)

codes = st.binary(min_size=20, max_size=20)


def test_a_code_is_nine_groups_of_four() -> None:
    assert re.fullmatch(rf"[{ALPHABET}]{{4}}(-[{ALPHABET}]{{4}}){{8}}", TEXT)
    bits = "".join(f"{ALPHABET.index(character):05b}" for character in TEXT.replace("-", ""))
    assert int(bits[:160], 2).to_bytes(20) == CODE
    assert bits[160:] == f"{int.from_bytes(hashlib.sha256(b'securecfg recovery' + CODE).digest()):0256b}"[:20]


def test_every_code_is_new_and_masked() -> None:
    codes = [generate_recovery_code() for _ in range(100)]
    assert len({code.reveal() for code in codes}) == 100
    assert all(len(parse_recovery_code(code.reveal())) == 20 for code in codes)
    assert codes[0].reveal() not in f"{codes[0]!r}{codes[0]}"


@given(codes)
def test_what_was_formatted_parses(code: bytes) -> None:
    assert parse_recovery_code(format_recovery_code(code)) == code


@given(codes)
def test_case_dashes_spaces_and_letters_that_look_like_digits_do_not_matter(code: bytes) -> None:
    text = format_recovery_code(code)
    sloppy = text.replace("0", "o").replace("1", "l").replace("-", "  ").lower() + "\r\n"
    assert parse_recovery_code(sloppy) == code
    assert parse_recovery_code(text.replace("1", "I").replace("0", "O").replace("-", "")) == code


@given(code=codes, position=st.integers(0, 43), character=st.sampled_from(ALPHABET))
def test_one_wrong_character_is_told_from_a_wrong_code(code: bytes, position: int, character: str) -> None:
    text = format_recovery_code(code)
    if text[position] in {"-", character}:
        return
    with pytest.raises(KeyProviderRefused):
        parse_recovery_code(text[:position] + character + text[position + 1 :])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        TEXT[:-1],
        TEXT[5:],
        TEXT[:-5],
        TEXT + "0",
        TEXT + "-" + TEXT,
        "U" + TEXT[1:],
        "*" + TEXT[1:],
        "é" + TEXT[1:],
        "\u0131" + TEXT[1:],
        "\x00" + TEXT[1:],
        TEXT + "\x00",
        "0" * 36,
        TEXT[5:9] + "-" + TEXT[:4] + TEXT[9:],
        "7" * 1_000_000,
        "-" * 1_000_000,
    ],
)
def test_refuses_what_cannot_be_a_code(text: str) -> None:
    with pytest.raises(KeyProviderRefused) as refused:
        parse_recovery_code(text)
    assert refused.value.code == "key-provider-refused"
    assert "nine groups" in refused.value.hint


def test_an_error_shows_nothing_of_the_code() -> None:
    with pytest.raises(KeyProviderRefused) as refused:
        parse_recovery_code(TEXT[:-1])
    assert TEXT[:9] not in f"{refused.value!r}{refused.value.hint}"


@pytest.mark.parametrize("size", [0, 19, 21])
def test_a_code_has_20_bytes(size: int) -> None:
    with pytest.raises(ValueError, match="20 bytes"):
        format_recovery_code(bytes(size))
