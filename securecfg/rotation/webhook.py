"""Signatures of webhooks, in the form of Standard Webhooks 1.0: the rotator `webhook` makes them, receivers verify.

    webhook-id          names the message
    webhook-timestamp   when it was sent, in seconds since 1970
    webhook-signature   `v1,` and in base64 HMAC-SHA256 of `ID.TIMESTAMP.BODY`; several of them separated by spaces

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from securecfg.errors import InvalidRotation, SignatureInvalid
from securecfg.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["TOLERANCE", "parse_webhook_secret", "sign_webhook", "verify_webhook"]

TOLERANCE = timedelta(minutes=5)
"""How far the clock of a sender may be off, and for how long what was overheard can be sent again."""

ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER = "webhook-id", "webhook-timestamp", "webhook-signature"

_PREFIX = "whsec_"
_VERSION = "v1,"
_KEY_BYTES = range(24, 65)
# Without the dot: what is signed as `a.1` at 2 would be signed as `a` at 1 too, with another body.
_ID = re.compile(r"[!-\-/-~]{1,256}", re.ASCII)
_SECONDS = re.compile(r"[1-9][0-9]{0,11}", re.ASCII)
_SIGNATURES_LENGTH_MAX = 4_096


def parse_webhook_secret(secret: Secret[str] | str) -> bytes:
    """Return the key that a secret stands for: `whsec_` and 24 to 64 bytes in base64.

    Raises:
        InvalidRotation: It stands for none. The error does not hold what was given.
    """
    text = secret.reveal() if isinstance(secret, Secret) else secret
    key = b""
    if text.startswith(_PREFIX) and text.isascii():
        try:
            key = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
        except (binascii.Error, ValueError):
            key = b""
    del secret, text
    if len(key) in _KEY_BYTES:
        return key
    message = f"the secret of a webhook is `{_PREFIX}` and 24 to 64 random bytes in base64"
    raise InvalidRotation(message, hint="for instance `echo whsec_$(openssl rand -base64 32)`")


def sign_webhook(message_id: str, body: bytes, key: bytes, *, now: datetime) -> dict[str, str]:
    """Return the headers that go with a body.

    Args:
        message_id: Printable ASCII without a dot or space.
        body: What is sent.
        key: As `parse_webhook_secret` returns it.
        now: The time, aware.

    Raises:
        InvalidRotation: The id is none.
    """
    if not _ID.fullmatch(message_id):
        message = "the id of a webhook is printable ASCII without a dot or space"
        raise InvalidRotation(message)
    timestamp = str(int(now.timestamp()))
    signature = base64.b64encode(_digest(message_id, timestamp, body, key)).decode()
    return {ID_HEADER: message_id, TIMESTAMP_HEADER: timestamp, SIGNATURE_HEADER: _VERSION + signature}


def verify_webhook(
    headers: Mapping[str, str],
    body: bytes,
    secret: Secret[str] | str,
    *,
    now: datetime | None = None,
    tolerance: timedelta = TOLERANCE,
) -> str:
    """Check that a webhook was sent by who knows the secret, now, and as it arrived; return its id.

    Verify before the body is parsed, and give the bytes as they came in. What was overheard can be sent again within
    the tolerance: a receiver that must not take a message twice remembers the ids that it has seen for twice as long,
    which is not done here. The rotator `webhook` gives each request an id of its own, those that repeat a step too.

    Args:
        headers: Of the request, in any case. One that is there twice, joined by a comma or not, is refused.
        body: Of the request.
        secret: Which both know, `whsec_...`.
        now: The time, aware; that of this machine by default.
        tolerance: How far the time of sending may be from that, in either direction.

    Raises:
        SignatureInvalid: A header is missing or malformed, the time is out of the tolerance, or no signature is right.
            Which of these it was is not told.
        InvalidRotation: The secret is none.
    """
    key = parse_webhook_secret(secret)
    del secret
    found = {name: _only(headers, name) for name in (ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER)}
    message_id, timestamp, signatures = found.values()
    is_right = bool(_ID.fullmatch(message_id)) and bool(_SECONDS.fullmatch(timestamp))
    if is_right:
        off_s = abs((now or datetime.now(UTC)).timestamp() - int(timestamp))
        expected = _digest(message_id, timestamp, body, key)
        # All are looked at, and each in the same time, whatever is in it.
        right = [hmac.compare_digest(expected, each) for each in _parse_signatures(signatures)]
        is_right = any(right) and off_s <= tolerance.total_seconds()
    if not is_right:
        message = "a webhook is not signed by who knows the secret, or not now"
        raise SignatureInvalid(message, hint="is the body the bytes that came in, and are both clocks right?")
    return message_id


def _digest(message_id: str, timestamp: str, body: bytes, key: bytes) -> bytes:
    return hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, hashlib.sha256)


def _only(headers: Mapping[str, str], name: str) -> str:
    values = [value for given, value in headers.items() if given.lower() == name]
    return values[0] if len(values) == 1 else ""


def _parse_signatures(text: str) -> list[bytes]:
    """Return those of version 1, which are whole; others are for other receivers."""
    found = []
    for each in text.split(" ") if len(text) <= _SIGNATURES_LENGTH_MAX and text.isascii() else []:
        if each.startswith(_VERSION):
            try:
                found.append(base64.b64decode(each.removeprefix(_VERSION), validate=True))
            except (binascii.Error, ValueError):
                continue
    return found
