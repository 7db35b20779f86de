"""What a backend of Google is given to log in with: the key of a service account, or an access token.

Google's formats of credentials can name servers and programs. What is sealed in a mount says who asks, and not where:
so only the key of a service account is taken, whose token service is Google's own, and of it only what is named here.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from securecfg.errors import InvalidBackendUri
from securecfg.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from securecfg.secret import Secret

KEY, TOKEN = "GOOGLE_CREDENTIALS", "GOOGLE_OAUTH_ACCESS_TOKEN"
CREDENTIALS = (KEY, TOKEN)
"""As Terraform calls them; Google's own clients know variables that name files, and none that holds credentials."""

TOKEN_URI = "https://oauth2.googleapis.com/token"  # noqa: S105 - an address
UNIVERSE = "googleapis.com"

_ACCOUNT = "service_account"
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)
"""RFC 6750, section 2.1."""
_PARTS = ("client_email", "private_key", "private_key_id")


def verify_given(given: Mapping[str, Secret[str]]) -> None:
    """Check what is given to log in with; whether the private key is one is seen when it is used.

    Raises:
        InvalidBackendUri: It is of another kind, names another server, or is too much or too little.
    """
    if len(given) > 1:
        message = "of the credentials of `gcpsm:` there is one, or none"
        raise InvalidBackendUri(message, hint=" or ".join(f"`{name}`" for name in CREDENTIALS))
    if TOKEN in given and not _TOKEN.fullmatch(given[TOKEN].reveal()):
        message = f"`{TOKEN}` of `gcpsm:` can be no access token"
        raise InvalidBackendUri(message, hint="`gcloud auth print-access-token` prints one")
    fault = _fault_of(_parse(given[KEY].reveal())) if KEY in given else None
    if fault is not None:
        message = f"`{KEY}` of `gcpsm:` {fault.what}"
        raise InvalidBackendUri(message, hint=fault.hint)  # here, so that it drags along no frame that holds a key


def credentials_of(given: Mapping[str, Secret[str]]) -> Any:  # noqa: ANN401 - Google's types are there when installed
    """Return what was verified as credentials of Google's clients. Nobody is asked.

    Raises:
        ValueError: The private key is none.
    """
    if TOKEN in given:
        from google.oauth2.credentials import Credentials

        return Credentials(given[TOKEN].reveal())  # type: ignore[no-untyped-call]  # published without types
    from google.oauth2 import service_account

    account = _parse(given[KEY].reveal())
    parts = {name: account[name] for name in _PARTS} | {"token_uri": TOKEN_URI}
    return service_account.Credentials.from_service_account_info(parts)  # type: ignore[no-untyped-call]  # as above


class _Fault(NamedTuple):
    what: str
    hint: str


def _parse(text: str) -> dict[str, Any]:
    """Return a JSON object, an empty one where it is something else."""
    try:
        account = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return account if isinstance(account, dict) else {}


def _fault_of(account: Mapping[str, Any]) -> _Fault | None:
    """Return what is wrong with the key of a service account, in words that hold nothing of it."""
    if not account:
        return _Fault("is no JSON object", "it is the content of a key file of a service account, not its path")
    if account.get("type") != _ACCOUNT:
        hint = f"only the type `{_ACCOUNT}` is taken: others name servers and programs to get a token from"
        return _Fault("is not the key of a service account", hint)
    if account.get("token_uri") != TOKEN_URI or account.get("universe_domain", UNIVERSE) != UNIVERSE:
        hint = f"`token_uri` is `{TOKEN_URI}`, and `universe_domain` is `{UNIVERSE}` or not there"
        return _Fault("names another token service, or another universe, than Google's own", hint)
    if not all(isinstance(account.get(name), str) and account[name] for name in _PARTS):
        return _Fault("lacks a part", "there are " + ", ".join(f"`{name}`" for name in _PARTS))
    return None
