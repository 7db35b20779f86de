"""How a vault of Azure Key Vault is asked: one request, with a token of whoever runs this program.

Requests go through the vendor's `SecretClient`, which follows the vault's challenge and verifies it. Why nothing else
of its package is used: docs/decisions, record 0015.

Import this module on use: it imports the vendor's packages.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError
from azure.core.rest import HttpRequest
from azure.keyvault.secrets import SecretClient

from securecfg.backends.doubt import is_sent
from securecfg.errors import (
    BackendLoginRefused,
    BackendNotReached,
    BackendRefused,
    BackendUnavailable,
    SecurecfgError,
)
from securecfg.http_client import parse_retry_after
from securecfg.keys.azure_login import CLIENT_OPTIONS, Clients, Login, LoginAway, parse_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from azure.core.credentials import TokenCredential

    from securecfg.secret import Secret

_UNAUTHORIZED = 401
_GIVEN_HINT = "look at the tenant, the client and the secret that were given"


class Answered(NamedTuple):
    """What came back for a request.

    Attributes:
        status: Of HTTP.
        answer: A JSON object, an empty one where it was something else.
        retry_after_s: When to come back, where that is said.
    """

    status: int
    answer: dict[str, Any]
    retry_after_s: float


class Sessions:
    """The login of a process, and another one where it has ended.

    Args:
        host: Where the vault is.
        given: Credentials that stand before all others, by the names of their variables.
        asks_metadata: Whether a metadata service may be asked for credentials.
    """

    def __init__(self, host: str, given: Mapping[str, Secret[str]], *, asks_metadata: bool) -> None:
        """Ask nothing yet.

        Raises:
            BackendLoginRefused: What there is of credentials is wrong in itself.
        """
        self._host = host
        self._given = given
        self._asks_metadata = asks_metadata
        self._lock = threading.Lock()
        self._current = self._log_in()

    def send(self, verb: str, url: str, body: Mapping[str, object] | None) -> Answered:
        """Return what comes back; what is refused as its token has ended is sent once more, with another one.

        Args:
            verb: Of HTTP.
            url: Below the vault.
            body: Sent as JSON, where there is one.

        Raises:
            BackendLoginRefused: There are no credentials that could be used.
            BackendNotReached: It was not sent.
            BackendUnavailable: No answer came.
            BackendRefused: What answers is not Azure Key Vault.
        """
        session = self._current
        answered = self._send(session, HttpRequest(verb, url, json=body))
        if answered.status == _UNAUTHORIZED:
            answered = self._send(self._replace(session), HttpRequest(verb, url, json=body))
        return answered

    def _send(self, session: Clients, request: HttpRequest) -> Answered:
        failure: SecurecfgError
        try:
            response = session.send(request)
            come_back_s = parse_retry_after(response.headers.get("Retry-After"))
            return Answered(response.status_code, parse_object(response), come_back_s)
        except LoginAway:
            message = f"the login service of Azure cannot be reached for `{self._host}`, or is busy"
            failure = BackendNotReached(message, hint="try again later")
        except ClientAuthenticationError:
            failure = self._no_credentials()
        except HttpResponseError as error:  # there was an answer, of the kind that proxies give
            return Answered(error.status_code or 0, {}, 0.0)
        except AzureError as error:
            if is_sent(error.inner_exception):
                failure = BackendUnavailable(f"`{self._host}` gave no answer", hint="try again later")
            else:
                failure = BackendNotReached(f"`{self._host}` cannot be reached", hint="try again later")
        except ValueError:  # the client's word for a challenge that it does not follow
            failure = BackendRefused(
                f"what answers as `{self._host}` asks for a token of another service",
                hint="it got no token; is it really Azure Key Vault that answers there?",
            )
        raise failure  # here, so that it drags along no text of the client

    def _replace(self, ended: Clients) -> Clients:
        """Return a session whose tokens are not those of one that has ended."""
        with self._lock:
            if self._current is ended:
                self._current = self._log_in()
            return self._current

    def _log_in(self) -> Clients:
        try:
            # The client takes the newer form of a login, which its annotation does not.
            login = cast("TokenCredential", Login(asks_metadata=self._asks_metadata, given=self._given))
            return Clients(lambda: SecretClient(f"https://{self._host}", login, **CLIENT_OPTIONS))
        except (ValueError, OSError):
            pass
        message = "what there is of Azure credentials cannot be used"
        hint = "look at the variables that begin with `AZURE_`"
        if self._given:
            hint = _GIVEN_HINT
        elif not self._asks_metadata:
            hint += "; a managed identity is used only with `?metadata=yes`"
        raise BackendLoginRefused(message, hint=hint)

    def _no_credentials(self) -> BackendLoginRefused:
        hint = "log in with `az login`, or set AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_CLIENT_SECRET"
        if self._given:
            hint = _GIVEN_HINT
        elif not self._asks_metadata:
            hint += "; add `?metadata=yes` where the managed identity of this machine or container is meant"
        return BackendLoginRefused(f"there are no usable Azure credentials for `{self._host}`", hint=hint)
