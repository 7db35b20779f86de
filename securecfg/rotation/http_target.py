"""Targets that are asked over HTTP: addresses taken strictly, one request, and what its failure means."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from securecfg.addresses import is_safe_address
from securecfg.errors import (
    BackendLoginRefused,
    BackendUnavailable,
    CredentialRefused,
    InvalidRotation,
    SecurecfgError,
    SettingMissing,
    TargetUnavailable,
)
from securecfg.http_client import ANSWER_S, HttpClient, Place

if TYPE_CHECKING:
    from securecfg.http_client import Answer, Request
    from securecfg.rotation.deadline import Deadline
    from securecfg.rotation.options import GivenOptions

BODY_BYTES_MAX = 1 << 20
"""Of an answer."""

OK = range(200, 300)
"""The statuses that say that something is done."""

_PASSING = frozenset({408, 421, 425, 429})
_SERVER_ERRORS = 500

_ADDRESS = re.compile(
    r"https?://(?P<host>[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?(?:/[!-~]*)?", re.ASCII
)
_HEADER_TEXT = re.compile(r"[!-~](?:[ -~]{0,8190}[!-~])?", re.ASCII)


class Address(NamedTuple):
    """Where a request goes.

    Attributes:
        endpoint: Scheme, host and port.
        target: Path and query, encoded.
    """

    endpoint: str
    target: str

    @property
    def host(self) -> str:
        """Host and port."""
        return self.endpoint.partition("://")[2]


def take_address(given: GivenOptions, rotator: str, name: str) -> Address:
    """Return an option that is an address to which secrets may be sent.

    Raises:
        InvalidRotation: It is none, or holds a login.
    """
    return parse_address(given.text(name), rotator, name)


def parse_address(text: str, rotator: str, name: str) -> Address:
    """Return an address to which secrets may be sent.

    Raises:
        InvalidRotation: It is none, or holds a login.
    """
    try:
        parts = urlsplit(text)
        is_one = bool(_ADDRESS.fullmatch(text)) and is_safe_address(text) and parts.port != 0 and "#" not in text
    except ValueError:  # of the port
        is_one = False
    if not is_one:
        # What was given is not shown: people put tokens into addresses all the same.
        message = (
            f"the option `{name}` of the rotator `{rotator}` is an address that nobody on the network can listen to"
        )
        raise InvalidRotation(
            message, hint="`https://`, or `http://` to this machine itself; without a login and without `#`"
        )
    query = f"?{parts.query}" if parts.query else ""
    return Address(f"{parts.scheme}://{parts.netloc}", (parts.path or "/") + query)


def is_header_text(text: str) -> bool:
    """Return whether a text can be sent in a header as it is."""
    return bool(_HEADER_TEXT.fullmatch(text))


def is_absolute(path: str) -> bool:
    """Return whether the file of an authority is named by its absolute path."""
    return path.startswith("/") and path.isprintable()


def is_disturbed(answer: Answer) -> bool:
    """Return whether an answer says that the same request may be taken later."""
    return answer.status in _PASSING or answer.status >= _SERVER_ERRORS


def ask(endpoint: str, request: Request, deadline: Deadline, authority: str = "") -> Answer:
    """Return the answer to a request, which is sent once. No redirection is followed.

    Args:
        endpoint: Of the address that the request goes to.
        request: Its limits are set here.
        deadline: When it has to be over.
        authority: The file of the authority of the certificate, or empty.

    Raises:
        TargetUnavailable: It cannot be asked, points elsewhere, or gives no answer in time.
        CredentialRefused: It wants a certificate of the client.
        InvalidRotation: The file of the authority cannot be read.
    """
    server = f"the server `{endpoint.partition('://')[2]}`"
    client = HttpClient(server, Place((endpoint,), authority), "see the option `cacert`")
    limited = request._replace(answer_s=min(ANSWER_S, deadline.left_s()), body_bytes_max=BODY_BYTES_MAX)
    failure: SecurecfgError
    try:
        return deadline.bound(lambda: client.ask(limited))
    except BackendUnavailable as error:
        failure = TargetUnavailable(error.message, hint=error.hint)
    except BackendLoginRefused as error:
        failure = CredentialRefused(error.message)
    except SettingMissing as error:
        failure = InvalidRotation(error.message, hint=error.hint)
    raise failure
