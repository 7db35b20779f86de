"""Drop orders: what a role needs that may hand values in to a sealed scope and open nothing (sealed-scopes).

Whoever may write the file can put rows into it, so that a value key counts only where administrators have signed it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from securecfg.crypto import HYBRID_PUBLIC_BYTES, KIND_BYTES, Label, seal_to
from securecfg.errors import Tampered
from securecfg.keys import Purpose
from securecfg.keys.trust import read_signatures, signatures_to_bytes
from securecfg.octets import U16, U32, Cursor, Malformed, pad, var16, var32
from securecfg.store import Delete, Put, Space
from securecfg.tuples import NamedTuple
from securecfg.vault.drafts import Content
from securecfg.vault.paths import SYSTEM
from securecfg.vault.scopes.charters import DROP, lies_in
from securecfg.vault.trust.successions import successors

if TYPE_CHECKING:
    from collections.abc import Iterable

    from securecfg.keys import Keyring
    from securecfg.keys.role_keys import RoleKey
    from securecfg.keys.trust import Signatures, Trust
    from securecfg.vault.scopes.charters import Charter, Party

ORDER_PATH = SYSTEM + b"order"
FIRST_ORDER = 1 << 61
ADMISSIONS_MAX = 64

_FRONT = b"\x4f\x01"
_VAULT_ID_BYTES = 16
_SCOPE_ID_BYTES = 16
_PADDING_BYTES = 2_048


class DropOrder(NamedTuple):
    """Where and for whom to seal what is dropped into a scope.

    Attributes:
        vault_id: Of the vault that the scope is part of, 16 bytes.
        scope_id: The vault id of the scope, 16 bytes.
        serial: Of the charter that it goes with.
        path: The subtree, ending in `/`.
        excluded: What of it lies in other scopes.
        epoch: The value key in use.
        public_key: The public half of it, 1,216 bytes.
    """

    vault_id: bytes
    scope_id: bytes
    serial: int
    path: str
    excluded: tuple[str, ...]
    epoch: int
    public_key: bytes

    def to_bytes(self) -> bytes:
        """Return the bytes of it in the scope's document."""
        front = self.vault_id + self.scope_id + U32.pack(self.serial) + var16(self.path.encode())
        subtrees = b"".join(var16(subtree.encode()) for subtree in self.excluded)
        return front + bytes((len(self.excluded),)) + subtrees + U32.pack(self.epoch) + self.public_key

    @property
    def message(self) -> bytes:
        """What administrators sign."""
        return Label.ORDER.encode() + b"\x00" + self.to_bytes()

    @classmethod
    def read(cls, cursor: Cursor) -> DropOrder:
        """Return what stands at a position.

        Raises:
            Malformed: It breaks the format.
        """
        vault_id, scope_id = cursor.take(_VAULT_ID_BYTES), cursor.take(_SCOPE_ID_BYTES)
        serial, path = cursor.u32(), cursor.str16()
        excluded = tuple(cursor.str16() for _ in range(cursor.u8()))
        return cls(vault_id, scope_id, serial, path, excluded, cursor.u32(), cursor.take(HYBRID_PUBLIC_BYTES))

    def covers(self, path: str) -> bool:
        """Return whether a path lies in the scope."""
        return lies_in(path, self.path, self.excluded)


class SignedOrder(NamedTuple):
    """An order and the signatures of administrators."""

    order: DropOrder
    signatures: Signatures

    def to_bytes(self) -> bytes:
        """Return its bytes, as the scope's document has them too."""
        return self.order.to_bytes() + signatures_to_bytes(self.signatures)

    def to_content(self) -> Content:
        """Return the content of the scope's document."""
        raw = self.to_bytes()
        return Content.of(KIND_BYTES, raw)

    @classmethod
    def take(cls, cursor: Cursor) -> SignedOrder:
        """Return what stands at a position.

        Raises:
            Malformed: It breaks the format.
        """
        return cls(DropOrder.read(cursor), read_signatures(cursor))

    def seal(self, role_public: bytes, admissions: Iterable[Admission] = (), succession: bytes = b"") -> Put:
        """Return the row that gives it to the members of a role.

        Args:
            role_public: The role's public key, 1,248 bytes.
            admissions: Whom the members are asked to let into the role.
            succession: The document that says how those who signed came to be administrators; or empty.

        Raises:
            Tampered: The public key is none.
        """
        asked = [one.to_bytes() for one in admissions][:ADMISSIONS_MAX]
        told = U16.pack(len(asked)) + b"".join(asked) + var32(succession)
        plaintext = pad(var32(self.to_bytes() + told), _PADDING_BYTES)
        row = _FRONT + seal_to(role_public[:HYBRID_PUBLIC_BYTES], plaintext, _info(self.order.scope_id))
        return Put(Space.GRANT, order_row_of(role_public, self.order.scope_id), row)


class Admission(NamedTuple):
    """Somebody who is certified as a member of a role, and lacks its key.

    Attributes:
        identity: The public line of the identity.
        signatures: Of administrators, over the certificate.
    """

    identity: str
    signatures: Signatures

    def to_bytes(self) -> bytes:
        """Return its bytes in an order."""
        return var16(self.identity.encode()) + signatures_to_bytes(self.signatures)


def order_of(charter: Charter, keyring: Keyring) -> DropOrder:
    """Return the order that goes with a charter."""
    key = keyring.active(Purpose.VALUE)
    public_key, ids = bytes(key.key), (charter.vault_id, charter.scope_id)
    return DropOrder(*ids, charter.serial, charter.path, charter.excluded, key.epoch, public_key)


def droppers(parties: Iterable[Party]) -> set[str]:
    """Return the names of the roles that may drop."""
    return {party.role for party in parties if party.rights & DROP}


def parse_order(content: bytes) -> SignedOrder:
    """Return the order of a scope's document; who signed it is not looked at.

    Raises:
        Tampered: It is malformed.
    """
    try:
        cursor = Cursor(content)
        signed = SignedOrder.take(cursor)
        cursor.finish()
    except Malformed:
        raise _refusal() from None
    return signed


def remove_orders(scope_id: bytes, role_publics: Iterable[bytes]) -> list[Delete]:
    """Return what takes the orders of a scope from some roles, by their public keys."""
    return [Delete(Space.GRANT, order_row_of(public, scope_id)) for public in role_publics]


def order_row_of(role_public: bytes, scope_id: bytes) -> int:
    """Return the id of the row by which the members of a role find the order of a scope."""
    told = Label.ORDER.encode() + b"/row\x00" + role_public + scope_id
    return FIRST_ORDER + (int.from_bytes(hashlib.sha256(told).digest()[:8]) >> 3)


class Found(NamedTuple):
    """What a row gives to the members of a role that may drop.

    Attributes:
        order: The order.
        admissions: Whom they are asked to let into the role.
        trusts: The administrators, from those that were known beforehand to those who signed.
    """

    order: DropOrder
    admissions: list[Admission]
    trusts: tuple[Trust, ...]


def open_order(key: RoleKey, ids: tuple[bytes, bytes], row: bytes, trust: Trust) -> Found:
    """Return the order that a row gives to the members of a role.

    That it is the newest is for the caller to see to, and that those who ask to be let in are certified.

    Args:
        key: The role's.
        ids: The vault ids of the vault and of the partition that the row lies in.
        row: As it was read.
        trust: Who must have signed it, they or their successors.

    Raises:
        Tampered: It is not for this role and scope, malformed, or not signed as it must be.
        RollbackSuspected: It is as former administrators left it.
    """
    if row[: len(_FRONT)] != _FRONT:
        raise _refusal()
    plaintext = key.open_for_owner(row[len(_FRONT) :], _info(ids[1]))
    try:
        outer = Cursor(plaintext)
        cursor = Cursor(outer.var32())
        outer.finish_padding(_PADDING_BYTES)
        signed = SignedOrder.take(cursor)
        admissions = [Admission(cursor.str16(), read_signatures(cursor)) for _ in range(cursor.u16())]
        document = cursor.var32()
        cursor.finish()
    except Malformed:
        raise _refusal() from None
    if (signed.order.vault_id, signed.order.scope_id) != ids:
        raise _refusal()
    trusts = successors(ids[0], trust, document)
    if not trusts[-1].holds(signed.signatures, signed.order.message):
        message = "the drop order of the scope is not signed by its administrators"
        raise Tampered(message, hint=_HINT)
    return Found(signed.order, admissions, trusts)


def _info(scope_id: bytes) -> bytes:
    return Label.ORDER.encode() + b"\x00" + scope_id


def _refusal() -> Tampered:
    message = "the drop order of the scope was altered"
    return Tampered(message, hint=_HINT)


_HINT = "somebody who may write the file may have done so; ask an administrator of the scope"
