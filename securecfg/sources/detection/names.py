"""What the name of a key says about its value.

The head noun decides, as in English: `password_min_length` is a length and `secret_name` is a name, while
`STRIPE_SECRET_KEY_LIVE` is still a key, because a word that only says which one (`live`, `prod`, `2`) is skipped.
"""

from __future__ import annotations

import re
from enum import Enum, auto

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")


def word_set(text: str) -> frozenset[str]:
    """Return the words of a text; a table of words is easier to read and to extend that way."""
    return frozenset(text.split())


_QUALIFIERS = word_set(
    "prod production stage staging dev development test testing live sandbox local default old new current "
    "previous prev fallback fallbacks value string str plain plaintext text raw base b64 base64 primary secondary "
    "main backup eu us v"
)
_PASSWORD_HEADS = word_set("password passwd pwd pass passphrase passcode pw psk requirepass masterauth")
_PASSWORD_ENDS = ("password", "passwd", "passphrase", "dbpass", "userpass")
_SECRET_HEADS = word_set(
    "secret token apikey secretkey accesskey authtoken accesstoken clientsecret privatekey credential credentials"
)
_SECRET_ENDS = ("secret", "token", "apikey")
_KEY_OWNERS = word_set(
    "api access secret private encryption encrypt crypto cipher aes signing signature master account auth "
    "authorization session jwt hmac ssh storage service deploy shared app application client consumer license "
    "cookie webhook"
)
_WEAK_KEY_OWNERS = word_set("routing integration ingest instrumentation")
_OTHER_MEANINGS = word_set(
    "public publishable existing tls pull image cert certificate ca csrf ref checksum hash hashed htpasswd digest "
    "pad eos bos unk sep"
)
_LISTS = {
    "passwords": "password",
    "secrets": "secret",
    "tokens": "token",
    "keys": "key",
    "apikeys": "apikey",
    "passphrases": "passphrase",
}

# What makes a random-looking value something else than a secret.
IDENTIFYING = word_set(
    "hash hashes digest checksum checksums sha sha1 sha256 sha512 md5 integrity fingerprint thumbprint revision "
    "commit etag id ids uuid guid arn cert certificate certs public pub version ref image url uri href path file "
    "files verification site sid signature resolved cursor ami sum"
)


class Meaning(Enum):
    """What a name says."""

    NOTHING = auto()
    PASSWORD = auto()  # chosen by people: may be short, or words
    PASSPHRASE = auto()  # may hold spaces
    SECRET = auto()  # made by machines, so a value of plain words is something else
    OWNED_SECRET = auto()  # the name says whose (`jwt_secret`), so plain words are a careless secret


def words_of(name: str) -> list[str]:
    """Return the words of a name in snake, kebab, dotted or camel case, in lower case."""
    return [word.lower() for word in _WORD.findall(name)]


def meaning_of(name: str, *, in_list: bool = False) -> Meaning:
    """Return what a name says about its value.

    Args:
        name: The key.
        in_list: The value is one of a list under this key, so that a plural counts.
    """
    if name == "_auth":  # npm: base64 of `user:password`
        return Meaning.OWNED_SECRET
    words = words_of(name)
    while len(words) > 1 and (words[-1].isdigit() or words[-1] in _QUALIFIERS):
        words.pop()
    if not words or _OTHER_MEANINGS.intersection(words) or words[-2:] == ["key", "secret"]:
        return Meaning.NOTHING
    head = _LISTS.get(words[-1], words[-1]) if in_list else words[-1]
    return _meaning_of_head(frozenset(words[:-1]), head)


def _meaning_of_head(owners: frozenset[str], head: str) -> Meaning:
    if head == "passphrase":
        return Meaning.PASSPHRASE
    if head in _PASSWORD_HEADS or head.endswith(_PASSWORD_ENDS):
        return Meaning.PASSWORD
    if head == "cookie" and "erlang" in owners:
        return Meaning.OWNED_SECRET
    is_key = head == "key" and not (_KEY_OWNERS | _WEAK_KEY_OWNERS).isdisjoint(owners)
    if not (is_key or head in _SECRET_HEADS or head.endswith(_SECRET_ENDS)):
        return Meaning.NOTHING
    return Meaning.OWNED_SECRET if _KEY_OWNERS.difference({"secret"}).intersection(owners) else Meaning.SECRET
