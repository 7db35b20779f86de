"""Random passwords by the rules of a target."""

from __future__ import annotations

import secrets
import string
from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

from securecfg.errors import InvalidRotation

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.rotation.options import GivenOptions

LENGTH_MAX = 1_024
BITS_MIN = 64
"""Of the weakest password that is made; a shorter one, or of fewer characters, is refused."""

CHANCE_MIN = 0.001
"""Of drawing a password that has what it requires; with less, it would be drawn anew for very long."""

ALPHABETS = {
    "alphanumeric": string.ascii_letters + string.digits,
    "hex": string.digits + "abcdef",
    "digits": string.digits,
    # Without what shells, URLs, SQL and configuration files give a meaning to, and without what looks alike.
    "safe": "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789-_",
    "printable": "".join(map(chr, range(0x21, 0x7F))),
}
CLASSES = {
    "lower": string.ascii_lowercase,
    "upper": string.ascii_uppercase,
    "digit": string.digits,
    "symbol": "".join(character for character in ALPHABETS["printable"] if not character.isalnum()),
}


class Rules(NamedTuple):
    """What a password must be like.

    Attributes:
        length: How many characters.
        alphabet: Which characters there may be, each once.
        needs: Sets of characters of each of which there must be one.
    """

    length: int
    alphabet: str
    needs: tuple[str, ...] = ()


def take_rules(options: GivenOptions) -> Rules:
    """Return the rules that the options `length`, `alphabet`, `exclude` and `require` describe.

    Raises:
        InvalidRotation: They make no sense, or make weak passwords.
    """
    length = options.number("length", 32, 1, LENGTH_MAX)
    named = options.text("alphabet", "alphanumeric")
    excluded = options.text("exclude", "")
    alphabet = "".join(dict.fromkeys(each for each in ALPHABETS.get(named, named) if each not in excluded))
    if not alphabet.isprintable():
        message = "the alphabet of a password is printable characters, or the name of one: " + ", ".join(ALPHABETS)
        raise InvalidRotation(message)
    required = [name for name in options.text("require", "").split(",") if name]
    if not set(required) <= CLASSES.keys():
        message = f"what a password requires is some of {', '.join(CLASSES)}"
        raise InvalidRotation(message)
    needs = tuple("".join(each for each in CLASSES[name] if each in alphabet) for name in required)
    rules = Rules(length, alphabet, needs)
    if not all(needs) or len(needs) > length:
        message = "the alphabet or the length has no room for what a password requires"
        raise InvalidRotation(message)
    if len(alphabet) ** length < 2**BITS_MIN:
        message = f"such a password has fewer than {BITS_MIN} bits"
        raise InvalidRotation(message, hint="give a greater `length`, or a larger `alphabet`")
    if _chance(rules) < CHANCE_MIN:
        message = "hardly any password of such an alphabet and length has what is required"
        raise InvalidRotation(message, hint="give a greater `length`, or an `alphabet` with more of that in it")
    return rules


def new_password(rules: Rules) -> str:
    """Return a random password by the rules: of all those that follow them, each is as likely."""
    return _draw(rules, secrets.choice)


def _chance(rules: Rules) -> float:
    """Return which part of all texts has what is required, by inclusion and exclusion of what may be missing."""
    needs = set(rules.needs)
    return sum(
        (-1.0) ** count * (1 - len("".join(missing)) / len(rules.alphabet)) ** rules.length
        for count in range(len(needs) + 1)
        for missing in combinations(needs, count)
    )


def _draw(rules: Rules, choose: Callable[[str], str]) -> str:
    # Drawn anew as a whole: putting the required ones in their places would make some passwords likelier than others.
    while True:
        password = "".join(choose(rules.alphabet) for _ in range(rules.length))
        if all(any(each in need for each in password) for need in rules.needs):
            return password
