"""What makes a sealed scope hold against its own members: the charter and the voucher (format, sections 4.14 and 7.1).

The charter says who may list, read and write, and is signed by administrators whom the reader knows beforehand. The
voucher is a writer's signature over the data as it stands. Whoever opens the scope can append records to its log; only
a writer can make a voucher that covers other data.
"""

from __future__ import annotations

import hashlib
import itertools
import struct
from typing import TYPE_CHECKING, Self

from securecfg.crypto import SUITE, Label
from securecfg.errors import Tampered
from securecfg.keys import Purpose
from securecfg.keys.trust import PUBLIC_KEY_BYTES, SIGNATURE_BYTES, is_signed, read_signatures, signatures_to_bytes
from securecfg.octets import U32, U64, Cursor, Malformed, var8, var16
from securecfg.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from securecfg.keys import Keyring
    from securecfg.keys.trust import Signatures, Trust
    from securecfg.vault.state.head import State

VOUCHER_ID = 4
PARTIES_MAX = 255
EXCLUDED_MAX = 255

LIST, READ, WRITE, DROP = 1, 2, 4, 8
BREAK_GLASS = 16
"""A mark, not a right: whoever opens the scope by this role records why before it reads."""
OWN_ROLE = "administrator"

_RIGHTS = LIST | READ | WRITE | DROP | BREAK_GLASS
_CHARTER = b"\x43\x01"
_VOUCHER = 0x56
_VAULT_ID_BYTES = 16
_SCOPE_ID_BYTES = 16
_SLOT_ID_BYTES = 16
NO_SLOT = bytes(_SLOT_ID_BYTES)
_VOUCHER_FIELDS = struct.Struct(">BB32sQ32s32s32s")


class Party(NamedTuple):
    """A role in a charter.

    Attributes:
        role: Its name.
        rights: `LIST`, with any of `READ`, `WRITE` and `DROP` added, and perhaps `BREAK_GLASS`; or `DROP` alone.
        slot_id: The unlock slot that the role's key opens, 16 bytes; `NO_SLOT` where it may only drop.
        signing_key: What the role signs with, 32 bytes.
    """

    role: str
    rights: int
    slot_id: bytes
    signing_key: bytes


class Charter(NamedTuple):
    """Who may do what in a sealed scope.

    Attributes:
        vault_id: Of the vault that the scope is part of, 16 bytes.
        scope_id: The vault id of the scope, 16 bytes.
        serial: 1 at creation, plus one at every change.
        previous: The digest of the charter before, 32 zero bytes for the first one.
        path: The subtree, ending in `/`.
        excluded: The subtrees of it that are no part of the scope, ascending; each is a scope of its own.
        is_shared: Whether the administrator's key reads its values too.
        keys: What `keys_digest` gives of the keyring: to whom root and values may be sealed.
        keeper: The Ed25519 public key that vouches, beside writers, for what is done under this charter, 32 bytes.
        parties: The roles.
    """

    vault_id: bytes
    scope_id: bytes
    serial: int
    previous: bytes
    path: str
    is_shared: bool
    keys: bytes
    keeper: bytes
    parties: tuple[Party, ...]
    excluded: tuple[str, ...] = ()

    def leaves_out(self, path: str) -> str | None:
        """Return the excluded subtree that a path lies in, None where the path is the scope's own."""
        return next((subtree for subtree in self.excluded if path.startswith(subtree)), None)

    @property
    def digest(self) -> bytes:
        """The SHA-256 by which vouchers and the next charter name it."""
        return hashlib.sha256(self.message).digest()

    @property
    def message(self) -> bytes:
        """What administrators sign."""
        return Label.CHARTER.encode() + b"\x00" + self.to_bytes()

    def party(self, role: str) -> Party | None:
        """Return a role's line, None where it has none."""
        return next((party for party in self.parties if party.role == role), None)

    def own_key(self) -> bytes:
        """Return the signing key of the vault itself, empty where it takes no part."""
        own = self.party(OWN_ROLE)
        return b"" if own is None else own.signing_key

    def writers(self) -> frozenset[bytes]:
        """Return the signing keys of the roles that may write."""
        return frozenset(party.signing_key for party in self.parties if party.rights & WRITE)

    @property
    def has_collector(self) -> bool:
        """Whether a role reads and writes, and so can take in what is dropped."""
        return any(party.rights & READ and party.rights & WRITE for party in self.parties)

    def covers(self, path: str) -> bool:
        """Return whether a path lies in the scope."""
        return lies_in(path, self.path, self.excluded)

    def to_bytes(self) -> bytes:
        """Return the bytes of it in the scope's document."""
        parts = [
            self.vault_id,
            self.scope_id,
            U32.pack(self.serial),
            self.previous,
            bytes((self.is_shared,)),
            self.keys,
            self.keeper,
            var16(self.path.encode()),
            bytes((len(self.excluded),)),
            *(var16(subtree.encode()) for subtree in self.excluded),
            bytes((len(self.parties),)),
        ]
        parts.extend(
            var8(party.role.encode()) + bytes((party.rights,)) + party.slot_id + party.signing_key
            for party in self.parties
        )
        return b"".join(parts)

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Return the charter of its bytes.

        Raises:
            Malformed: They break the format.
        """
        cursor = Cursor(raw)
        vault_id, scope_id = cursor.take(_VAULT_ID_BYTES), cursor.take(_SCOPE_ID_BYTES)
        serial, previous = cursor.u32(), cursor.take(32)
        shared, keys, keeper = cursor.u8(), cursor.take(32), cursor.take(PUBLIC_KEY_BYTES)
        path = cursor.str16()
        excluded = tuple(cursor.str16() for _ in range(cursor.u8()))
        parties = tuple(
            Party(cursor.str8(), cursor.u8(), cursor.take(_SLOT_ID_BYTES), cursor.take(PUBLIC_KEY_BYTES))
            for _ in range(cursor.u8())
        )
        cursor.finish()
        roles = {party.role for party in parties}
        slots = [party.slot_id for party in parties if party.slot_id != NO_SLOT]
        if not serial or shared > 1 or len(roles) < len(parties) or len(set(slots)) < len(slots):
            message = "breaks a rule of charters"
            raise Malformed(message)
        _verify_rights(parties)
        if not are_subtrees(path, excluded):
            message = "excludes what are no subtrees of the scope"
            raise Malformed(message)
        return cls(vault_id, scope_id, serial, previous, path, bool(shared), keys, keeper, parties, excluded)


def _verify_rights(parties: Iterable[Party]) -> None:
    """Check that each role has rights that there are, and a slot where it has more than that to drop.

    Raises:
        Malformed: One has not.
    """
    for party in parties:
        only_drops = party.rights == DROP
        if party.rights & ~_RIGHTS or not (only_drops or party.rights & LIST):
            message = "gives a right that there is not"
            raise Malformed(message)
        if only_drops != (party.slot_id == NO_SLOT):
            message = "gives a slot to a role that only drops, or none to another one"
            raise Malformed(message)


def lies_in(path: str, scope: str, excluded: Sequence[str]) -> bool:
    """Return whether a path lies in a scope, and in none of the subtrees that it leaves out."""
    return path.startswith(scope) and not path.startswith(tuple(excluded))


def are_subtrees(path: str, excluded: Sequence[str]) -> bool:
    """Return whether some paths are subtrees of another one, ascending, none of which lies in another one of them."""
    inside = all(subtree.startswith(path) and subtree.endswith("/") and subtree != path for subtree in excluded)
    return inside and all(one < other and not other.startswith(one) for one, other in itertools.pairwise(excluded))


class SignedCharter(NamedTuple):
    """A charter and the signatures of administrators."""

    charter: Charter
    signatures: Signatures

    def verify(self, trust: Trust) -> None:
        """Check that enough of the administrators signed.

        Raises:
            Tampered: They did not.
        """
        if not trust.holds(self.signatures, self.charter.message):
            text = "the charter of the scope is not signed by its administrators"
            raise Tampered(text, hint=_HINT)

    def to_bytes(self) -> bytes:
        """Return the content of the scope's document."""
        raw = self.charter.to_bytes()
        return _CHARTER + U32.pack(len(raw)) + raw + signatures_to_bytes(self.signatures)


def parse_charter(content: bytes, vault_id: bytes, scope_id: bytes, trust: Trust) -> SignedCharter:
    """Return the charter that enough administrators have signed.

    Args:
        content: Of the scope's document.
        vault_id: Of the vault that the scope must be part of.
        scope_id: Whose it must be.
        trust: Who must have signed.

    Raises:
        Tampered: It is malformed, of another scope or vault, or not signed as it must be.
    """
    try:
        cursor = Cursor(content)
        if cursor.take(2) != _CHARTER:
            raise _refusal()
        charter = Charter.parse(cursor.var32())
        signatures = read_signatures(cursor)
        cursor.finish()
    except Malformed:
        raise _refusal() from None
    if (charter.vault_id, charter.scope_id) != (vault_id, scope_id):
        raise _refusal()
    signed = SignedCharter(charter, signatures)
    signed.verify(trust)
    return signed


class Voucher(NamedTuple):
    """A writer's signature over the data of a scope.

    Attributes:
        charter_digest: Which charter made it a writer.
        size: The number of records of the log that it covers.
        root: The hash of the tree of these.
        data_digest: What `data_digest` gives of the state.
        writer: The Ed25519 public key.
        signature: Over all of these and the scope's id.
    """

    charter_digest: bytes
    size: int
    root: bytes
    data_digest: bytes
    writer: bytes
    signature: bytes

    def to_bytes(self) -> bytes:
        """Return the row."""
        return _VOUCHER_FIELDS.pack(_VOUCHER, SUITE, *self[:5]) + self.signature

    def verify_signature(self, scope_id: bytes, state: State) -> None:
        """Check that the one it names vouches for the data of a state. That he may is for `verify`.

        Raises:
            Tampered: He does not.
        """
        is_whole = is_signed(self.writer, self.signature, _vouched(scope_id, self))
        if self.data_digest != data_digest(state) or not is_whole:
            raise _not_vouched()

    def verify(self, scope_id: bytes, charter: Charter, state: State) -> None:
        """Check that a writer of the charter vouches for the data of a state.

        What the keeper of the charter vouches for counts as well.

        Raises:
            Tampered: Nobody does who may.
        """
        may_vouch = charter.writers() | {charter.keeper}
        if (
            self.charter_digest != charter.digest
            or self.data_digest != data_digest(state)
            or self.writer not in may_vouch
            or not is_signed(self.writer, self.signature, _vouched(scope_id, self))
        ):
            raise _not_vouched()


def parse_voucher(row: bytes | None) -> Voucher:
    """Return the voucher of a row, not verified yet.

    Raises:
        Tampered: It is missing or malformed.
    """
    if row is None or len(row) != _VOUCHER_FIELDS.size + SIGNATURE_BYTES or row[:2] != bytes((_VOUCHER, SUITE)):
        message = "the voucher of the scope is missing or malformed"
        raise Tampered(message, hint=_HINT)
    fields = _VOUCHER_FIELDS.unpack_from(row)[2:]
    return Voucher._make((*fields, row[_VOUCHER_FIELDS.size :]))


def sign_voucher(
    signer: Ed25519PrivateKey, scope_id: bytes, charter_digest: bytes, tree: tuple[int, bytes], state: State
) -> Voucher:
    """Return a voucher.

    Args:
        signer: A writer's key.
        scope_id: 16 bytes.
        charter_digest: Of the charter in force.
        tree: The size and the root of the log.
        state: The state whose data is vouched for.
    """
    public_key = signer.public_key().public_bytes_raw()
    unsigned = Voucher(charter_digest, *tree, data_digest(state), public_key, b"")
    return unsigned._replace(signature=signer.sign(_vouched(scope_id, unsigned)))


def data_digest(state: State) -> bytes:
    """Return the hash of what of a state only writers change."""
    fields = (state.manifest_digest, U64.pack(state.base_size), state.keyring_digest, state.header_digest)
    return hashlib.sha256(Label.VOUCHER.encode() + b"/data\x00" + b"".join(fields)).digest()


def keys_digest(keyring: Keyring) -> bytes:
    """Return the hash of all public keys that the root and the values of a scope are sealed to.

    A charter names it, so that no writer can put a key of his own among them.
    """
    values = sorted(U32.pack(entry.epoch) + entry.key for entry in keyring.keys if entry.purpose == Purpose.VALUE)
    slots = sorted(info.slot_id + info.public_key for info in keyring.slots)
    told = bytes((len(slots),)) + b"".join(slots) + b"".join(values)
    return hashlib.sha256(Label.CHARTER.encode() + b"/keys\x00" + told).digest()


def _vouched(scope_id: bytes, voucher: Voucher) -> bytes:
    return Label.VOUCHER.encode() + b"\x00" + scope_id + _VOUCHER_FIELDS.pack(_VOUCHER, SUITE, *voucher[:5])


def _not_vouched() -> Tampered:
    return Tampered("no writer of the scope vouches for what is in it", hint=_HINT)


def _refusal() -> Tampered:
    return Tampered("the charter of the scope was altered", hint=_HINT)


_HINT = "somebody who may open the scope, and not change it, may have done so; restore the vault from a backup"
