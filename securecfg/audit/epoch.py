"""Epochs of the log's signing key: each key hands over to the next one in a record that both sign.

The old key is then erased, so that whoever takes the vault's keys later cannot rewrite what was signed before. A
verifier starts from the key of epoch 0, or any later one that it trusts, and follows the hand-overs.

The signed message is `securecfg/1/audit-epoch`, a newline, the new epoch's number in decimal digits, a newline and the
32 bytes of the new public key.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from securecfg.audit.note import (
    VerifierKey,
    decode_base64,
    encode_base64,
    parse_vkey,
    verify_signature,
    vkey_of,
)
from securecfg.crypto.derive import Label
from securecfg.errors import LogTampered, SignatureInvalid, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class HandOver:
    """From one epoch's key to the next.

    Attributes:
        epoch: The number of the new epoch, from 1.
        key: Its verifier key.
        old_signature: By the key of the epoch before.
        new_signature: By the new key, which shows that it is held.
    """

    epoch: int
    key: VerifierKey
    old_signature: bytes
    new_signature: bytes

    @property
    def message(self) -> bytes:
        """What both keys sign."""
        return f"{Label.AUDIT_EPOCH}\n{self.epoch}\n".encode() + self.key.public_key

    def to_object(self) -> dict[str, Any]:
        """Return the object of the record `audit.epoch`."""
        return {
            "epoch": self.epoch,
            "vkey": str(self.key),
            "old_sig": encode_base64(self.old_signature),
            "new_sig": encode_base64(self.new_signature),
        }


def create_hand_over(epoch: int, origin: str, old_key: Ed25519PrivateKey, new_key: Ed25519PrivateKey) -> HandOver:
    """Sign the hand-over to a new epoch.

    Args:
        epoch: The number of the new epoch, from 1.
        origin: The log's origin line.
        old_key: The key of the epoch before; to be erased when the record is durable.
        new_key: The key of the new epoch.
    """
    unsigned = HandOver(epoch, vkey_of(origin, new_key), b"", b"")
    return HandOver(epoch, unsigned.key, old_key.sign(unsigned.message), new_key.sign(unsigned.message))


def parse_hand_over(obj: Mapping[str, Any], index: int | None = None) -> HandOver:
    """Read the object of a record `audit.epoch`, without checking its signatures.

    Args:
        obj: The object.
        index: Where the record stands in the log, for the error.

    Raises:
        LogTampered: It is malformed.
    """
    try:
        epoch = obj["epoch"]
        if type(epoch) is not int or epoch < 1:
            raise ValueError(epoch)
        return HandOver(epoch, parse_vkey(obj["vkey"]), decode_base64(obj["old_sig"]), decode_base64(obj["new_sig"]))
    except (KeyError, ValueError, TypeError, AttributeError, UsageError):
        message = "a hand-over to a new signing key is malformed"
        raise LogTampered(message, index=index) from None


def verify_hand_over(hand_over: HandOver, old_key: VerifierKey, index: int | None = None) -> None:
    """Check that the old key and the new key both signed, for the same log.

    Raises:
        LogTampered: A signature is wrong, the key is of another log, or it is the old key again.
    """
    try:
        verify_signature(old_key.public_key, hand_over.old_signature, hand_over.message)
        verify_signature(hand_over.key.public_key, hand_over.new_signature, hand_over.message)
    except SignatureInvalid:
        message = f"the hand-over to epoch {hand_over.epoch} is not signed by both keys"
        raise LogTampered(message, index=index) from None
    if hand_over.key.name != old_key.name or hand_over.key == old_key:
        message = f"the hand-over to epoch {hand_over.epoch} is not to a new key of this log"
        raise LogTampered(message, index=index)


def follow_hand_overs(pinned: VerifierKey, hand_overs: Sequence[HandOver]) -> tuple[VerifierKey, ...]:
    """Return the keys that a trusted key vouches for, itself first.

    Args:
        pinned: The key that is trusted, of whatever epoch.
        hand_overs: Those of the log, in order; the ones up to the pinned key's own prove nothing to its holder.

    Raises:
        LogTampered: The chain from the pinned key on is broken.
    """
    own = [position for position, hand_over in enumerate(hand_overs, start=1) if hand_over.key == pinned]
    keys = [pinned]
    for hand_over in hand_overs[own[0] if own else 0 :]:
        verify_hand_over(hand_over, keys[-1])
        keys.append(hand_over.key)
    return tuple(keys)


class Epochs:
    """The keys of a log as its records establish them, from the key of epoch 0."""

    __slots__ = ("_ends", "_hand_overs", "_keys")

    def __init__(self, genesis: VerifierKey) -> None:
        """Start in epoch 0."""
        self._keys = [genesis]
        self._hand_overs: list[HandOver] = []
        self._ends: list[int] = []

    @property
    def keys(self) -> tuple[VerifierKey, ...]:
        """The key of each epoch, from 0."""
        return tuple(self._keys)

    @property
    def hand_overs(self) -> tuple[HandOver, ...]:
        """The hand-overs so far, in order."""
        return tuple(self._hand_overs)

    def add(self, hand_over: HandOver, index: int) -> None:
        """Take the next hand-over.

        Args:
            hand_over: From the record `audit.epoch`.
            index: Where that record stands in the log.

        Raises:
            LogTampered: It is not to the next epoch, a signature is wrong, or its key was used before.
        """
        if hand_over.epoch != len(self._keys) or hand_over.key in self._keys:
            message = f"epoch {len(self._keys) - 1} is not followed by exactly one hand-over to a new key"
            raise LogTampered(message, index=index)
        verify_hand_over(hand_over, self._keys[-1], index)
        self._keys.append(hand_over.key)
        self._hand_overs.append(hand_over)
        self._ends.append(index)

    def signers_of(self, size: int) -> tuple[VerifierKey, ...]:
        """Return the keys that may sign a checkpoint of a size that the records so far cover.

        The checkpoint that ends with a hand-over may be signed by either of its keys; after it the old one is gone.
        """
        first = sum(end + 1 < size for end in self._ends)
        last = sum(end < size for end in self._ends)
        return tuple(self._keys[first : last + 1])
