"""What is the same for every service of Google Cloud: where it is, who asks, and what its answers say."""

from __future__ import annotations

import json
import os
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from securecfg.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

ANSWER_S = 10.0

PROJECT = r"projects/[a-z0-9.:-]{1,128}"
LOCATION = r"locations/[a-z0-9-]{1,63}"
# The access token goes where the endpoint is, so there is no other than Google's and this machine.
ENDPOINT = re.compile(
    r"https://(?:[a-z0-9-]{1,63}\.){1,5}googleapis\.com|http://(?:127\.0\.0\.1|localhost|\[::1\])(?::[0-9]{1,5})?",
    re.ASCII,
)
_STATUS = re.compile(r"[A-Z_]{1,40}", re.ASCII)
_REASON = re.compile(r"[A-Z][A-Z0-9_]{1,61}[A-Z0-9]", re.ASCII)
_ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"


class Words(NamedTuple):
    """What Google says of a refusal, without a text that may quote something.

    Attributes:
        status: The canonical status, such as `INVALID_ARGUMENT`; empty where there is none.
        reason: A more precise word of the service, such as `SERVICE_DISABLED`; empty where there is none.
    """

    status: str
    reason: str


def ask_once(client: Any) -> Any:  # noqa: ANN401 - Google's types are there when they are installed
    """Return a client over HTTP that follows no redirection, and replaces a token that has ended once in each call."""
    session = vars(client.transport)["_session"]
    # The client has no option for it, and would send what it was given wherever a redirection points.
    session.max_redirects = 0
    vars(session)["_max_refresh_attempts"] = 1
    return client


def may_pass(error: Any) -> bool:  # noqa: ANN401 - as above
    """Return whether credentials that could not be had, as a `GoogleAuthError` says, can perhaps be had later."""
    from google.auth import exceptions

    return bool(error.retryable) or isinstance(error, exceptions.TransportError | exceptions.TimeoutError)


def needs_metadata() -> bool:
    """Return whether Google's own chain would have a metadata service of this machine asked for credentials.

    It does where no file names any; and where one names a service that is not asked over TLS, as those of machines
    in other clouds are.
    """
    from google.auth import _cloud_sdk, environment_vars

    named = os.environ.get(environment_vars.CREDENTIALS, "")
    path = Path(named or _cloud_sdk.get_application_default_credentials_path())  # type: ignore[no-untyped-call]  # no types
    if not named and not path.is_file():
        return True
    try:
        account = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False  # the chain ends here, and says so itself
    return any(_is_metadata(source) for source in _sources(account))


def words_of(response: Any) -> Words:  # noqa: ANN401 - as above
    """Return what an answer that refuses says."""
    try:
        error = response.json()["error"]
        status = _word(_STATUS, error["status"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return Words("", "")
    try:
        reason = next(each["reason"] for each in error["details"] if each["@type"] == _ERROR_INFO)
    except (LookupError, TypeError, StopIteration):
        return Words(status, "")
    return Words(status, _word(_REASON, reason))


def crc32c(data: bytes) -> int:
    """Return the checksum CRC32C of RFC 3720, section 12.1."""
    table, checksum = _crc32c_table(), 0xFFFFFFFF
    for byte in data:
        checksum = checksum >> 8 ^ table[checksum & 0xFF ^ byte]
    return checksum ^ 0xFFFFFFFF


@cache
def _crc32c_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        checksum = byte
        for _ in range(8):
            checksum = checksum >> 1 ^ (0x82F63B78 if checksum & 1 else 0)
        table.append(checksum)
    return tuple(table)


def _word(allowed: re.Pattern[str], word: object) -> str:
    return word if isinstance(word, str) and allowed.fullmatch(word) else ""


def _sources(account: object) -> Iterator[dict[str, object]]:
    """Yield where credentials of an account, and of those that it acts through, come from."""
    while isinstance(account, dict):
        source = account.get("credential_source")
        if isinstance(source, dict):
            yield source
        account = account.get("source_credentials")


def _is_metadata(source: dict[str, object]) -> bool:
    places = [source[name] for name in ("url", "region_url", "imdsv2_session_token_url") if name in source]
    return any(not str(place).startswith("https://") for place in places) or "environment_id" in source
