"""Shares of a key as people hold them: one line of text each (format, section 4.10)."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import TYPE_CHECKING, NamedTuple

from securecfg.crypto import SHARES_MAX, THRESHOLD_MIN, KeyBytes, generate_key, interpolate, split_secret
from securecfg.errors import ShareRefused, UsageError
from securecfg.keys.keyfile import read_private_file

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

SET_ID_BYTES = 8
TEXT_CHARACTERS_MAX = 128

_TEXT = re.compile(
    r"SECURECFG-SHARE-1-([0-9a-f]{16})-([0-9]{1,3})of([0-9]{1,3})-[0-9]{1,3}-([A-Za-z0-9_-]{44})-[0-9a-f]{8}", re.ASCII
)


class Share(NamedTuple):
    """One share of a key.

    Attributes:
        set_id: 8 random bytes, the same for all shares of a key.
        threshold: How many shares give the key again.
        total: How many shares there are.
        raw: 32 bytes, then the x coordinate.
    """

    set_id: bytes
    threshold: int
    total: int
    raw: KeyBytes

    @property
    def number(self) -> int:
        """Which share of its set it is, from 1 to `total`: its x coordinate."""
        return self.raw[-1]

    @property
    def check(self) -> str:
        """The end of its text, by which people find a share again; it says nothing of the rest."""
        return format_share(self)[-8:]

    def is_of_set(self, other: Share) -> bool:
        """Return whether two shares say that they belong together."""
        return self[:3] == other[:3]


def generate_shares(threshold: int, count: int) -> tuple[Share, ...]:
    """Return the shares of a new random key.

    Raises:
        UsageError: There cannot be so many, or the threshold is above their number or below two.
    """
    if not THRESHOLD_MIN <= threshold <= count <= SHARES_MAX:
        message = f"{count} shares of which {threshold} are needed cannot be made"
        hint = f"from {THRESHOLD_MIN} to {SHARES_MAX} shares, of which at least {THRESHOLD_MIN} are needed"
        raise UsageError(message, hint=hint)
    set_id = secrets.token_bytes(SET_ID_BYTES)
    return tuple(Share(set_id, threshold, count, raw) for raw in split_secret(generate_key(), threshold, count))


def format_share(share: Share) -> str:
    """Return the text of a share, without an end of line."""
    raw = urlsafe_b64encode(share.raw).decode()
    text = f"SECURECFG-SHARE-1-{share.set_id.hex()}-{share.threshold}of{share.total}-{share.number}-{raw}"
    return f"{text}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def parse_share(text: str) -> Share:
    """Return the share that `format_share` wrote.

    Raises:
        ShareRefused: The text is anything else.
    """
    share = _parse(text)
    if share is not None:
        return share
    del text  # a traceback that shows locals must not show it
    message = "this is not a share, or it was altered"
    raise ShareRefused(
        message, hint="a share is one line that begins with SECURECFG-SHARE-1-; compare it letter by letter"
    )


def _parse(text: str) -> Share | None:
    match = _TEXT.fullmatch(text) if len(text) <= TEXT_CHARACTERS_MAX else None
    if match is None:
        return None
    set_id, threshold, count, raw = match.groups()
    share = Share(bytes.fromhex(set_id), int(threshold), int(count), KeyBytes(urlsafe_b64decode(raw)))
    if not THRESHOLD_MIN <= share.threshold <= share.total <= SHARES_MAX or not 0 < share.number <= share.total:
        return None
    # Comparing what it should have been refuses a wrong check, another number and leading zeros.
    return share if hmac.compare_digest(format_share(share), text) else None


def read_share(path: str | os.PathLike[str]) -> Share:
    """Return the share in a file.

    Raises:
        FileMissing: There is no such file.
        KeyProviderRefused: Others can read the file, or it belongs to someone else.
        ShareRefused: It does not hold one line with a share.
    """
    share = _parse_line(read_private_file(path, TEXT_CHARACTERS_MAX))
    if share is not None:
        return share
    message = f"`{path}` is not a share, or it was altered"
    raise ShareRefused(message, hint="a share is one line that begins with SECURECFG-SHARE-1-")


def _parse_line(content: bytes) -> Share | None:
    # Its caller raises, from a frame that holds nothing of the content.
    return _parse(content.removesuffix(b"\n").decode("latin-1"))


def combine_shares(shares: Sequence[Share]) -> KeyBytes:
    """Return the key that shares were made of, 32 bytes.

    Shares beyond the threshold are compared with what the others say they must be.

    Raises:
        ShareRefused: There are too few, two are the same, or they do not belong together.
    """
    verify_distinct(shares)
    if not shares or len(shares) < shares[0].threshold:
        needed = f"{shares[0].threshold} shares are needed" if shares else "shares are needed"
        message = f"{needed}, and {len(shares) or 'none'} given"
        raise ShareRefused(message, hint="every share says how many of its set are needed, as in `3of5`")
    enough = [share.raw for share in shares[: shares[0].threshold]]
    for share in shares[len(enough) :]:
        if not hmac.compare_digest(interpolate(enough, share.number), share.raw[:-1]):
            message = f"share {share.number} contradicts the others, or one of them is forged"
            raise ShareRefused(message, hint="try each of the shares with others")
    return interpolate(enough)


def verify_distinct(shares: Sequence[Share]) -> None:
    """Check that shares are different ones of one set, however many there are.

    Raises:
        ShareRefused: They are not.
    """
    seen: set[int] = set()
    for share in shares:
        if not share.is_of_set(shares[0]):
            message = f"share {share.number} belongs to another set than share {shares[0].number}"
            hint = f"their sets are {share.set_id.hex()} and {shares[0].set_id.hex()}"
            raise ShareRefused(message, hint=hint)
        if share.number in seen:
            message = f"share {share.number} is given twice"
            raise ShareRefused(message, hint="each person gives a share of their own")
        seen.add(share.number)
