"""Recovery codes: 160 random bits that people can write down (format, section 4.2)."""

from __future__ import annotations

import hashlib
import os

from securecfg.crypto import KeyBytes
from securecfg.errors import KeyProviderRefused
from securecfg.secret import Secret

CODE_BYTES = 20

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_VALUES = {character: value for value, character in enumerate(_ALPHABET)} | {"O": 0, "I": 1, "L": 1}
_CHARACTERS = 36
_CHECK_BITS = 20
_CHECK_LABEL = b"securecfg recovery"
_MOST_CHARACTERS = 128


def generate_recovery_code() -> Secret[str]:
    """Return a new code, nine groups of four characters."""
    return Secret(format_recovery_code(os.urandom(CODE_BYTES)), label="recovery code")


def format_recovery_code(code: bytes) -> str:
    """Return 20 bytes as nine groups of four characters, the last of which guards against slips of the pen.

    Raises:
        ValueError: There are not 20 bytes.
    """
    if len(code) != CODE_BYTES:
        message = "a recovery code has 20 bytes"
        raise ValueError(message)
    return group_base32(int.from_bytes(code) << _CHECK_BITS | _check(code), _CHARACTERS)


def group_base32(number: int, count: int) -> str:
    """Return a number as some characters of Crockford's base 32, in groups of four for people."""
    characters = "".join(_ALPHABET[number >> shift & 31] for shift in range(5 * (count - 1), -1, -5))
    return "-".join(characters[start : start + 4] for start in range(0, count, 4))


def parse_recovery_code(text: str) -> KeyBytes:
    """Return the 20 bytes of a code as a person wrote it: case, `-` and spaces do not matter.

    Raises:
        KeyProviderRefused: The text cannot be a code; there is a slip of the pen in it.
    """
    code = _decode(text)
    if code is not None:
        return code
    del text  # a traceback that shows locals must not show it
    message = "the recovery code is mistyped or incomplete"
    raise KeyProviderRefused(
        message, hint="it has nine groups of four characters; compare it with what was written down"
    )


def _decode(text: str) -> KeyBytes | None:
    if len(text) > _MOST_CHARACTERS or not text.isascii():
        return None
    values = [_VALUES.get(character, -1) for character in text.upper() if character not in "- \t\r\n"]
    if len(values) != _CHARACTERS or min(values) < 0:
        return None
    number = 0
    for value in values:
        number = number << 5 | value
    code = KeyBytes((number >> _CHECK_BITS).to_bytes(CODE_BYTES))
    return code if number & (1 << _CHECK_BITS) - 1 == _check(code) else None


def _check(code: bytes) -> int:
    return int.from_bytes(hashlib.sha256(_CHECK_LABEL + code).digest()[:3]) >> 4
