"""Whether a passphrase is among the first that somebody with a copy of the file would try.

The check is cheap and finds the worst only: what passes it is not thereby strong. Nothing here refuses a passphrase.
"""

from __future__ import annotations

import re
import unicodedata

LENGTH_LEAST = 12
_CHARACTERS_LEAST = 5
# What people choose, perhaps with digits and signs around it.
_CHOSEN = """
abc access admin administrator asdf baseball changeit changeme correcthorsebattery correcthorsebatterystaple default
dragon example football geheim hello iloveyou letmein letmeinplease login master masterkey masterpassword monkey
motdepasse mypassphrase mypassword mysecret p4ssw0rd pa55word pass passphrase passw0rd password passwort princess
production qwerty qwertz root secret secretkey secretpassword securecfg shadow summer sunshine superman supersecret
supersecretkey supersecretpassword test testing thisisapassword thisisasecret topsecret trustno vault welcome winter
"""
_WORDS = frozenset(_CHOSEN.split())
_RUNS = (
    "0123456789012345678901234567890",
    "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz",
    "qwertyuiopasdfghjklzxcvbnm",
    "qwertzuiopasdfghjklyxcvbnm",
    "1q2w3e4r5t6y7u8i9o0p",
)
_SIGNS = re.compile(r"[\W_]+")


def weakness_of(passphrase: str) -> str:
    """Return what makes a passphrase easy to guess, as the end of a sentence about it, or an empty string."""
    text = unicodedata.normalize("NFC", passphrase).casefold()
    if len(text) < LENGTH_LEAST:
        return f"has fewer than {LENGTH_LEAST} characters"
    # Where the text first occurs again in two of it tells how long the part is that it repeats.
    if len(set(text)) < _CHARACTERS_LEAST or (text + text).find(text, 1) < LENGTH_LEAST:
        return "repeats a few characters"
    letters = _SIGNS.sub("", text)
    is_run = any(letters in run or letters in run[::-1] for run in _RUNS)
    return "is among the first that are tried" if is_run or letters.strip("0123456789") in _WORDS else ""
