"""A process's seat in a sealed scope: whom it believes, what it has verified, and what it vouches with itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.errors import RollbackSuspected, Tampered
from securecfg.keys.role_keys import Certificate, RolePublic
from securecfg.store import Space
from securecfg.vault.paths import CHARTER_PATH, SUCCESSION_PATH
from securecfg.vault.scopes.charters import VOUCHER_ID, keys_digest, parse_charter, parse_voucher
from securecfg.vault.trust.successions import successors

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from securecfg.keys import Identity, Keyring
    from securecfg.keys.trust import Signatures, Trust
    from securecfg.store import Store
    from securecfg.vault.scopes.charters import Charter, SignedCharter, Voucher
    from securecfg.vault.state.head import State

    Load = Callable[[bytes], bytes | None]
    Heard = Callable[[tuple[Trust, ...]], None]


class Seat:
    """What a replica of a sealed scope has beside one of an ordinary vault. Used under the replica's lock.

    Args:
        vault_id: Of the vault that the scope is part of, 16 bytes.
        trust: Whose signatures make a charter, or those of their successors.
        signer: What this process signs with, where it may change anything.
        founding: The first charter of a scope that is being made, in which there is no voucher yet.
        heard: Called with `trusts` when a charter takes the place of one that this process knew, before it is believed;
            raises where others are known to be administrators.

    Attributes:
        trusts: The administrators that were known beforehand, and all that they were succeeded by.
        charter: The charter in force, None until the scope is open.
        voucher: What the newest writer has vouched for; None while the scope is being made.
        role_keys: The public keys of the roles whose keys are at hand, 1,248 bytes each.
    """

    def __init__(
        self,
        vault_id: bytes,
        trust: Trust,
        signer: Ed25519PrivateKey | None = None,
        founding: SignedCharter | None = None,
        heard: Heard | None = None,
    ) -> None:
        """Believe nothing yet."""
        self._vault_id = vault_id
        self.trusts: tuple[Trust, ...] = (trust,)
        self._signer = signer
        self._public_key = signer.public_key().public_bytes_raw() if signer is not None else b""
        self._founding = founding
        self._heard = heard
        self.charter: SignedCharter | None = None
        self.voucher: Voucher | None = None
        self.role_keys: tuple[bytes, ...] = ()

    @property
    def administrators_fingerprint(self) -> str:
        """What people compare of the administrators whom this process believes."""
        from securecfg.vault.trust.first_seen import fingerprint_of  # only people look at it

        return fingerprint_of(self._vault_id, self.trusts[-1])

    @property
    def signer(self) -> Ed25519PrivateKey | None:
        """What this process vouches with, None where its vouching would count for nothing."""
        is_keeper = self.charter is not None and self._public_key == self.charter.charter.keeper
        return self._signer if is_keeper or self.may_write or self._founding is not None else None

    @property
    def may_write(self) -> bool:
        """Whether the charter names this process's key among its writers'."""
        return self.charter is not None and self._public_key in self.charter.charter.writers()

    @property
    def charter_digest(self) -> bytes:
        """The digest of the charter in force; empty where there is none yet."""
        return self.charter.charter.digest if self.charter is not None else b""

    def is_certified(self, role: str, member: Identity, signatures: Signatures) -> bool:
        """Return whether administrators signed that somebody is a member of a role whose key is at hand.

        What the documents of a scope say is the word of its writers, and this is not.
        """
        party = self.charter.charter.party(role) if self.charter is not None else None
        keys = [key for key in self.role_keys if party is not None and RolePublic(key).signing_key == party.signing_key]
        return any(
            Certificate(role, key, self.trusts[-1], signatures).is_signed(self._vault_id, member) for key in keys
        )

    def verify_continues(self, serial: int, digest: bytes) -> None:
        """Check that the charter in force is one that is known from outside, or came after it.

        Raises:
            RollbackSuspected: It is older, or another one.
        """
        if self.charter is not None:
            _verify_follows(self.charter.charter, serial, digest)

    def sign_with(self, signer: Ed25519PrivateKey) -> None:
        """Vouch with another key from now on."""
        self._signer, self._public_key = signer, signer.public_key().public_bytes_raw()

    def forget(self) -> None:
        """Drop what this process signs with."""
        self._signer = None

    def read_voucher(self, store: Store) -> Voucher | None:
        """Return the voucher that lies in the store, of which only the form is checked yet.

        Raises:
            Tampered: There is none, or it is malformed.
        """
        row = store.get(Space.META, VOUCHER_ID)
        return None if row is None and self._founding is not None else parse_voucher(row)

    def verify(
        self,
        voucher: Voucher | None,
        scope_id: bytes,
        keyring: Keyring,
        state: State,
        load: Load,
    ) -> SignedCharter | None:
        """Return the charter of a state, once it is sure that one who may vouches for the data in it.

        Args:
            voucher: As it was read.
            scope_id: The vault id of the scope.
            keyring: As it goes with the state.
            state: What is vouched for.
            load: Returns one of the scope's documents as of the state, None where it is missing.

        Raises:
            RollbackSuspected: The charter is an older one than was known, or of former administrators.
            Tampered: The charter is not its administrators', or nobody vouches for the state who may.
        """
        if voucher is None:
            return self._founding
        known, trusts = self.charter, self.trusts
        if known is None or known.charter.digest != voucher.charter_digest:
            trusts = self._successors(load(SUCCESSION_PATH))
            known = parse_charter(load(CHARTER_PATH) or b"", self._vault_id, scope_id, trusts[-1])
            if self.charter is not None:
                _verify_follows(known.charter, self.charter.charter.serial, self.charter_digest)
        voucher.verify(scope_id, known.charter, state)
        if known.charter.keys != keys_digest(keyring):
            message = "the keys of the scope are not those that its administrators signed"
            raise Tampered(message)
        if self._heard is not None and self.charter not in {None, known}:
            self._heard(trusts)
        self.trusts = trusts
        return known

    def _successors(self, document: bytes | None) -> tuple[Trust, ...]:
        return (*self.trusts[:-1], *successors(self._vault_id, self.trusts[-1], document))


def _verify_follows(charter: Charter, serial: int, digest: bytes) -> None:
    """Check that a charter is one that was known before, or came after it.

    Raises:
        RollbackSuspected: It is older, or another one.
    """
    if charter.serial == serial:
        follows = charter.digest == digest
    elif charter.serial == serial + 1:
        follows = charter.previous == digest
    else:
        follows = charter.serial > serial
    if not follows:
        message = "the charter of the scope went back"
        raise RollbackSuspected(message, hint="somebody who may open the scope may have put back an older one")
