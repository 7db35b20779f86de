"""What administrators sign, in words that are derived from the bytes themselves."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from securecfg.crypto import Label
from securecfg.errors import InvalidMetadata, InvalidPath
from securecfg.keys.role_keys import ROLE_PUBLIC_BYTES
from securecfg.keys.trust import Trust
from securecfg.octets import Cursor, Malformed
from securecfg.vault.administrators.introductions import is_introduction
from securecfg.vault.drops.orders import DropOrder
from securecfg.vault.paths import check_principal, check_role, path_to_bytes
from securecfg.vault.scopes.charters import Charter
from securecfg.vault.scopes.rights import rights_to_words
from securecfg.words import counted

if TYPE_CHECKING:
    from collections.abc import Callable

_ID_BYTES = 16
_KEY_DIGITS = 16


def to_words(message: bytes) -> list[str]:
    """Return what a message says that administrators sign, a line for each part of it.

    Raises:
        InvalidMetadata: It is nothing that administrators sign, or holds what cannot be shown.
    """
    if is_introduction(message):
        lines = message.decode().removesuffix("\n").split("\n")
        if all(line.isprintable() for line in lines):
            return ["an introduction to the vault and its scopes", *(f"  {line}" for line in lines)]
    for label, describe in _KINDS:
        front = label.encode() + b"\x00"
        if message.startswith(front):
            try:
                lines = describe(Cursor(message, len(front)))
            except (Malformed, InvalidMetadata, InvalidPath):
                break
            if all(line.isprintable() for line in lines):
                return lines
    text = "what is to be signed is nothing that an administrator signs"
    raise InvalidMetadata(text, hint="do not sign it; ask for the request again, from whom you know")


def key_to_words(key: bytes) -> str:
    """Return how people see the key that somebody signs with: the first half of its digits in groups."""
    digits = key.hex()[: 2 * _KEY_DIGITS]
    return " ".join(digits[at : at + 4] for at in range(0, len(digits), 4))


def _charter(cursor: Cursor) -> list[str]:
    charter = Charter.parse(cursor.take(len(cursor.data) - cursor.position))
    kind = "shared with the vault's root" if charter.is_shared else "sealed, also from the vault's root"
    return [
        *_scope(f"charter, revision {charter.serial} ({kind}), of the scope", charter.path),
        *(line for subtree in charter.excluded for line in _scope("  without the scope of its own", subtree)),
        f"  in the vault {charter.vault_id.hex()}, scope {charter.scope_id.hex()}",
        f"  after {charter.previous.hex()}",
        f"  sealed to the keys {charter.keys.hex()}",
        f"  kept by the key {key_to_words(charter.keeper)}",
        *(
            f"  {_role(party.role)}: {', '.join(rights_to_words(party.rights))}; "
            f"key {key_to_words(party.signing_key)}; slot {party.slot_id.hex()}"
            for party in charter.parties
        ),
    ]


def _order(cursor: Cursor) -> list[str]:
    order = DropOrder.read(cursor)
    cursor.finish()
    return [
        *_scope(f"drop order, revision {order.serial}, of the scope", order.path),
        f"  in the vault {order.vault_id.hex()}, scope {order.scope_id.hex()}",
        *(line for subtree in order.excluded for line in _scope("  without", subtree)),
        f"  values are sealed to key {order.epoch}: {key_to_words(hashlib.sha256(order.public_key).digest())}",
    ]


def _membership(cursor: Cursor) -> list[str]:
    vault_id, name, fingerprint = cursor.take(_ID_BYTES), check_principal(cursor.str8()), cursor.take(_ID_BYTES)
    role, public_key = _role(cursor.str8()), cursor.take(ROLE_PUBLIC_BYTES)
    trust = Trust.read(cursor)
    cursor.finish()
    return [
        f"`{name}` is a member of `role:{role}`",
        f"  fingerprint of the member {key_to_words(fingerprint)}",
        f"  key of the role {key_to_words(public_key[-32:])}",
        f"  it opens what is sealed to {hashlib.sha256(public_key[:-32]).hexdigest()}",
        f"  in the vault {vault_id.hex()}",
        *_trust(trust, f"  whose administrators are, after {counted(trust.serial, 'change')},"),
    ]


def _succession(cursor: Cursor) -> list[str]:
    vault_id, before, after = cursor.take(_ID_BYTES), Trust.read(cursor), Trust.read(cursor)
    cursor.finish()
    if after.serial != before.serial + 1:
        raise Malformed
    return [
        "other administrators take over",
        f"  in the vault {vault_id.hex()}, change {after.serial}",
        *_trust(before, "  until now"),
        *_trust(after, "  from now on"),
    ]


def _scope(what: str, path: str) -> list[str]:
    """Return what is said of a scope; its path is at the end, as much may stand in it."""
    if path_to_bytes(path.removesuffix("/")).decode() + "/" != path:
        raise Malformed
    letters = [] if path.isascii() else [f"  not all letters of the path are plain ones: {path!a}"]
    return [f"{what} `{path}`", *letters]


def _role(name: str) -> str:
    """Return the name of a role, which in what is signed is without `role:`."""
    if check_role(name) != name:
        raise Malformed
    return name


def _trust(trust: Trust, what: str) -> list[str]:
    count = len(trust.administrators)
    return [f"{what} {trust.threshold} of {count}:", *(f"    key {key_to_words(key)}" for key in trust.administrators)]


_KINDS: tuple[tuple[str, Callable[[Cursor], list[str]]], ...] = (
    (Label.CHARTER, _charter),
    (Label.ORDER, _order),
    (f"{Label.ROLE}/member", _membership),
    (Label.SUCCESSION, _succession),
)
