"""Shares that are kept for one identity: a line of text that nobody else can open (format, section 4.10)."""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import TYPE_CHECKING, NamedTuple

from securecfg.crypto import Label, seal_to
from securecfg.errors import KeyProviderRefused, ShareRefused, Tampered
from securecfg.keys.shares import format_share, parse_share

if TYPE_CHECKING:
    from securecfg.keys.identity import Identity
    from securecfg.keys.providers.identity import IdentityProvider
    from securecfg.keys.shares import Share

CHARACTERS_MAX = 4_096
PREFIX = "SECURECFG-SEALED-SHARE-1 "

_PLACE = r"[0-9a-f]{16}-[0-9]{1,3}of[0-9]{1,3}-[0-9]{1,3}"
_TEXT = re.compile(rf"{PREFIX}({_PLACE}) ([0-9a-f]{{32}}) ([A-Za-z0-9_-]+) [0-9a-f]{{8}}", re.ASCII)


class SealedShare(NamedTuple):
    """A share that one identity opens.

    Attributes:
        place: Set id, numbers and x as the share itself has them.
        fingerprint: The identity's, 16 bytes.
        message: What was sealed to it.
    """

    place: str
    fingerprint: bytes
    message: bytes


def seal_share(share: Share, identity: Identity) -> str:
    """Return a share as a line of text for one identity, without its end.

    Raises:
        KeyProviderRefused: The public half of the identity is none.
    """
    place = _place(share)
    try:
        message = seal_to(identity.recipient, format_share(share).encode(), _info(place, identity.fingerprint))
    except Tampered:
        text = f"the public key of `{identity.name}` is none"
        raise KeyProviderRefused(text, hint="ask its owner for the line again") from None
    return _format(SealedShare(place, identity.fingerprint, message))


def parse_sealed_share(text: str) -> SealedShare:
    """Return what `seal_share` wrote.

    Raises:
        ShareRefused: The text is anything else.
    """
    match = _TEXT.fullmatch(text) if len(text) <= CHARACTERS_MAX else None
    if match is not None:
        place, fingerprint, encoded = match.groups()
        try:
            message = urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
        except ValueError:
            message = b""
        sealed = SealedShare(place, bytes.fromhex(fingerprint), message)
        # Comparing what it should have been refuses a wrong check and a second spelling.
        if hmac.compare_digest(_format(sealed), text):
            return sealed
    del text  # a traceback that shows locals must not show it: it may be a share that is not sealed
    reason = "this is not a sealed share, or it was altered"
    raise ShareRefused(reason, hint="a sealed share is one line that begins with SECURECFG-SEALED-SHARE-1")


def open_share(sealed: SealedShare, provider: IdentityProvider) -> Share:
    """Return the share that was sealed to an identity.

    Raises:
        ShareRefused: It is another identity's, was altered, or does not hold the share that it says.
        FileMissing, KeyProviderRefused, KeyProviderUnavailable, SettingMissing, WrongKey: The identity cannot be used.
    """
    identity = provider.read_identity()
    if identity.fingerprint != sealed.fingerprint:
        message = f"the share was sealed to another identity than that of `{identity.name}`"
        raise ShareRefused(message, hint=f"it is that of the fingerprint {sealed.fingerprint.hex()}")
    share = _opened(sealed, provider)
    if share is None or _place(share) != sealed.place:
        del share  # a traceback that shows locals must not show it
        message = "the sealed share does not open, or holds another one than it says"
        raise ShareRefused(message, hint="ask for a copy of the file")
    return share


def _opened(sealed: SealedShare, provider: IdentityProvider) -> Share | None:
    # Its caller raises, from a frame that holds nothing of the content.
    try:
        text = provider.open_for_owner(sealed.message, _info(sealed.place, sealed.fingerprint))
        return parse_share(text.decode("latin-1"))
    except (Tampered, ShareRefused):
        return None


def _place(share: Share) -> str:
    return f"{share.set_id.hex()}-{share.threshold}of{share.total}-{share.number}"


def _info(place: str, fingerprint: bytes) -> bytes:
    return Label.SHARE.encode() + b"\x00" + f"{place} {fingerprint.hex()}".encode()


def _format(sealed: SealedShare) -> str:
    encoded = urlsafe_b64encode(sealed.message).rstrip(b"=").decode()
    text = f"{PREFIX}{sealed.place} {sealed.fingerprint.hex()} {encoded}"
    return f"{text} {hashlib.sha256(text.encode()).hexdigest()[:8]}"
