"""Who signs what members of sealed scopes believe: charters, and who is a member of a role."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from securecfg.errors import SignaturesMissing
from securecfg.keys.trust import Trust

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from securecfg.keys.role_keys import RoleKey
    from securecfg.keys.trust import Signatures

    Sign = Callable[[bytes], bytes]
    Signing = Callable[[Trust], "Signatories"]


class Signatories(Protocol):
    """Administrators who sign: at one place, or one after the other.

    Attributes:
        trust: Who they are, and how many of them have to sign.
    """

    @property
    def trust(self) -> Trust:
        """Who they are, and how many of them have to sign."""

    def sign(self, messages: Sequence[bytes], summary: str) -> list[Signatures]:
        """Return enough signatures of each message, so that `trust` holds them.

        It may wait for people, so it is called with nothing locked and nothing changed.

        Args:
            messages: What readers verify: `Charter.message`, `Certificate.message` and others that say what they are.
            summary: What is asked for, in a few words, for people. Who signs is shown what the messages say.

        Raises:
            SignaturesMissing: Too few signed.
        """


class HeldKeys:
    """Administrators whose keys are at hand.

    Args:
        trust: Who the administrators are.
        keys: What signs by public key; those of others than administrators are left alone.
    """

    def __init__(self, trust: Trust, keys: Mapping[bytes, Sign]) -> None:
        """Sign nothing yet."""
        self.trust = trust
        self._keys = dict(keys)

    def sign(self, messages: Sequence[bytes], summary: str) -> list[Signatures]:
        """Return the signatures of every administrator whose key is at hand; see `Signatories.sign`."""
        signers = [(public, self._keys[public]) for public in self.trust.administrators if public in self._keys]
        missing = self.trust.threshold - len(signers)
        if missing > 0 and messages:
            raise signatures_missing(missing, self.trust, summary)
        return [tuple((public, sign(message)) for public, sign in signers) for message in messages]


def own_signatory(own: RoleKey, serial: int = 0) -> HeldKeys:
    """Return the vault's own key as its only administrator."""
    return HeldKeys(Trust((own.signing_key,), 1, serial), {own.signing_key: own.signer.sign})


def keeper_for(own: RoleKey, trust: Trust) -> Ed25519PrivateKey:
    """Return what vouches for what is done to a scope under a charter that some administrators sign.

    Where the vault's own key is one who signs alone it vouches too. Others sign for what is done once, by a key that is
    made for it and forgotten, so that whoever opens the vault by its root changes nothing without them.
    """
    return own.signer if own.signing_key in trust.alone() else Ed25519PrivateKey.generate()


def signatures_missing(missing: int, trust: Trust, summary: str) -> SignaturesMissing:
    """Return the error for a change that too few administrators have signed."""
    message = f"{summary}: {missing} of the {trust.threshold} signatures of administrators that it takes are missing"
    return SignaturesMissing(
        message, hint="`--sign identity:FILE` adds one; `--requests FOLDER` asks those who are elsewhere"
    )
