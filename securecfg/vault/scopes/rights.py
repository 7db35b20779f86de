"""The rights of roles in a sealed scope, by the names that people give them."""

from __future__ import annotations

from securecfg.errors import InvalidMetadata
from securecfg.vault.scopes.charters import BREAK_GLASS, DROP, LIST, READ, WRITE

RIGHTS = {
    "list": LIST,
    "read": LIST | READ,
    "write": LIST | WRITE,
    "drop": DROP,
    "break-glass": LIST | READ | BREAK_GLASS,
}
"""What is granted by a name: nobody reads or writes who may not list."""

_WORDS = {"list": LIST, "read": READ, "write": WRITE, "drop": DROP, "break-glass": BREAK_GLASS}


def rights_to_words(rights: int) -> tuple[str, ...]:
    """Return the names of rights."""
    return tuple(word for word, bit in _WORDS.items() if rights & bit)


def revoked_by(right: str) -> int:
    """Return the rights that go with one: with `list` all others, that to drop too."""
    return LIST | READ | WRITE | DROP | BREAK_GLASS if right == "list" else _WORDS[right]


def no_collector(path: str) -> InvalidMetadata:
    """Return the error for a scope into which something is to be dropped, and nobody could take it in."""
    message = f"no role reads and writes in `{path}`, and so nobody would take in what is dropped"
    return InvalidMetadata(message, hint="give a role both rights: `--read role:NAME --write role:NAME`")
