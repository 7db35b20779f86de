"""Slots that several keys open together: their parts, and the URIs that name the keys (format, section 4.16)."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from securecfg.crypto import KEY_BYTES, THRESHOLD_MIN, KeyBytes, Label, expand, interpolate
from securecfg.errors import InvalidKeyUri
from securecfg.keys.kek import parse_params, wrong_key
from securecfg.keys.provider import WrapContext
from securecfg.keys.slots import KIND_COMPOSITE, SLOT_ID_BYTES
from securecfg.octets import Cursor, Malformed, var16
from securecfg.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from securecfg.keys.provider import Ask
    from securecfg.keys.slots import Slot

PARTS_MAX = 8
SCHEME = "composite"

_NUMBER = re.compile(r"[2-8]", re.ASCII)
_HINT = "for instance `composite:all,file:/etc/app.key,awskms:alias/app`; a comma in a URI is written twice"


class Part(NamedTuple):
    """What one of several keys wraps.

    Attributes:
        kind: Which kind of provider opens it.
        wrapped: As in a slot of that kind.
    """

    kind: int
    wrapped: bytes


class Parts(NamedTuple):
    """The parts of a slot.

    Attributes:
        needed: How many open it.
        each: The parts in their order; the first is number 1.
    """

    needed: int
    each: tuple[Part, ...]

    @classmethod
    def parse(cls, wrapped: bytes) -> Parts:
        """Return the parts of a slot's wrapped key.

        Raises:
            WrongKey: The bytes are not laid out as a slot with parts.
        """
        cursor = Cursor(parse_params(wrapped))
        try:
            needed, count = cursor.u8(), cursor.u8()
            parts = tuple(Part(cursor.u8(), cursor.var16()) for _ in range(count))
            cursor.finish()
        except Malformed:
            raise wrong_key() from None
        if not THRESHOLD_MIN <= needed <= count <= PARTS_MAX or any(part.kind == KIND_COMPOSITE for part in parts):
            raise wrong_key()
        for part in parts:
            parse_params(part.wrapped)
        return cls(needed, parts)

    def to_bytes(self) -> bytes:
        """Return the parameters of the slot."""
        parts = b"".join(bytes((part.kind,)) + var16(part.wrapped) for part in self.each)
        return bytes((self.needed, len(self.each))) + parts

    @property
    def kinds(self) -> tuple[int, ...]:
        """The kinds of the parts in their order."""
        return tuple(part.kind for part in self.each)


def parts_of(slot: Slot) -> Parts | None:
    """Return the parts of a slot that several keys open together, or None for one of another kind.

    Raises:
        WrongKey: The slot is of this kind and not laid out as one.
    """
    return Parts.parse(slot.wrapped) if slot.kind == KIND_COMPOSITE else None


def part_context(context: WrapContext, number: int) -> WrapContext:
    """Return what a part is bound to, by its number from 1: no slot has this id."""
    told = Label.PART.encode() + b"\x00" + context.slot_id + bytes((number,))
    return WrapContext(context.vault_id, hashlib.sha256(told).digest()[:SLOT_ID_BYTES])


def derive_kek(shares: Sequence[bytes], context: WrapContext) -> KeyBytes:
    """Return the key-encryption key that enough shares make, each of 32 bytes and its number."""
    secret = interpolate(shares)
    return KeyBytes(expand(secret, Label.PARTS, context.vault_id + context.slot_id, KEY_BYTES))


# --- URIs -------------------------------------------------------------------------------------------------------------


def split_uris(rest: str) -> tuple[int, tuple[str, ...]]:
    """Return how many keys are needed, and their URIs, from what follows `composite:`.

    Raises:
        InvalidKeyUri: It is written otherwise, or a URI begins with `composite:` itself.
    """
    first, _, others = rest.partition(",")
    uris = tuple(piece.replace("\x00", ",") for piece in _halved(others).split(","))
    is_whole = all(uris) and "\x00" not in rest
    needed = len(uris) if first == "all" else int(first) if _NUMBER.fullmatch(first) else 0
    is_within = any(uri.partition(":")[0].lower() == SCHEME for uri in uris)
    is_twice = any(uris.count(uri) > 1 and not _is_asked_for(uri) for uri in uris)
    # What was given is not shown: a passphrase may be in it.
    del rest, first, others
    if not is_whole or not THRESHOLD_MIN <= needed <= len(uris) <= PARTS_MAX:
        del uris
        message = f"a `composite:` key names how many of its keys are needed, and from 2 to {PARTS_MAX} keys"
        raise InvalidKeyUri(message, hint=_HINT)
    if is_within or is_twice:
        del uris
        message = f"a `composite:` key names {'another of its kind' if is_within else 'one of its keys twice'}"
        hint = "name keys of other kinds, at one level" if is_within else "whoever had this one would need no other"
        raise InvalidKeyUri(message, hint=hint)
    return needed, uris


def join_uris(needed: int, uris: Sequence[str]) -> str:
    """Return the URI that stands for several keys, of which some are needed.

    Raises:
        InvalidKeyUri: There are too few or too many, or one is of this kind itself.
    """
    number = "all" if needed == len(uris) else str(needed)
    text = ",".join((number, *(uri.replace(",", ",,") for uri in uris)))
    split_uris(text)
    return f"{SCHEME}:{text}"


def asking_for(ask: Ask | None, number: int, count: int) -> Ask | None:
    """Return what asks a person for one of several keys, and says which."""
    return None if ask is None else lambda what: ask(f"{what} (key {number} of {count})")


def uris_of(key: str) -> tuple[str, ...]:
    """Return the URIs of the keys that a URI stands for: its own, where it stands for one.

    Raises:
        InvalidKeyUri: It begins with `composite:` and goes on otherwise than it may.
    """
    scheme, _, rest = key.partition(":")
    return split_uris(rest)[1] if scheme.lower() == SCHEME else (key,)


def _is_asked_for(uri: str) -> bool:
    """Return whether different people may answer, each with a key of their own."""
    scheme, _, rest = uri.partition(":")
    return not rest and scheme.lower() != "keyring"


def _halved(text: str) -> str:
    """Return a text with a zero byte for each comma written twice: from the left, since no URI begins with one."""
    return text.replace(",,", "\x00")
