"""How programs log in to Azure Key Vault, and what all clients of it are told.

Import this module on use: it imports the vendor's packages.
"""

from __future__ import annotations

import logging
import threading
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast

from azure.core.exceptions import AzureError, ClientAuthenticationError, ServiceRequestError
from azure.identity import (
    ChainedTokenCredential,
    ClientSecretCredential,
    CredentialUnavailableError,
    DefaultAzureCredential,
)

from securecfg.keys.azure_answers import is_busy
from securecfg.keys.azure_hosts import CREDENTIALS
from securecfg.keys.discretion import discreet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from azure.core.credentials import (
        AccessTokenInfo,
        SupportsTokenInfo,
        TokenProvider,
        TokenRequestOptions,
    )
    from azure.core.rest import HttpRequest, HttpResponse
    from azure.keyvault.keys import KeyClient
    from azure.keyvault.secrets import SecretClient

    from securecfg.secret import Secret

CONNECT_S = 3.0
READ_S = 10.0
PROCESS_S = 10

_LOGIN_OPTIONS: Final[dict[str, Any]] = {
    "connection_timeout": CONNECT_S,
    "read_timeout": READ_S,
    "retry_total": 0,
}
CLIENT_OPTIONS: Final[dict[str, Any]] = {
    "connection_timeout": CONNECT_S,
    "read_timeout": READ_S,
    "retry_total": 0,  # asking again is the caller's business
    "permit_redirects": False,
}


class LoginAway(ServiceRequestError):
    """The login service of Azure cannot be reached, or is busy."""


class Login:
    """The credentials that `azure-identity` finds without asking a person.

    Its chain reports any failure as refused credentials; this tells a login service that is away from a wrong password.

    Args:
        asks_metadata: Whether the metadata service of a machine or a container may be asked for its managed identity.
        given: All of `CREDENTIALS`, which are used then, and nothing else.
    """

    def __init__(self, *, asks_metadata: bool, given: Mapping[str, Secret[str]] = MappingProxyType({})) -> None:
        """Ask for no token yet.

        Raises:
            ValueError, OSError: What is given, or what the environment says of credentials, is wrong in itself.
        """
        self._seen = threading.local()
        self._chain = _chain_of(given) if given else _chain_of_platform(asks_metadata=asks_metadata)
        watched = tuple(_Watched(cast("SupportsTokenInfo", each), self._seen) for each in self._chain.credentials)
        self._chain.credentials = cast("tuple[TokenProvider, ...]", watched)

    def get_token_info(self, *scopes: str, options: TokenRequestOptions | None = None) -> AccessTokenInfo:
        """Return a token.

        Raises:
            LoginAway: The login service cannot be reached, or is busy.
            ClientAuthenticationError: There are no credentials, or the login service refuses them.
        """
        self._seen.away = False
        try:
            return self._chain.get_token_info(*scopes, options=options)
        except AzureError:
            if not self._seen.away:
                raise
        message = "no answer of the login service"
        raise LoginAway(message)


class Clients:
    """The clients of one vault of Azure, with their connections, that nobody uses just now.

    A client that threads share may lose its token between looking for it and using it, so each has one for itself.

    Args:
        make: Makes another one.
    """

    def __init__(self, make: Callable[[], KeyClient | SecretClient]) -> None:
        """Make none yet."""
        self._make = make
        self._idle: list[KeyClient | SecretClient] = []

    def send(self, request: HttpRequest) -> HttpResponse:
        """Return the answer to a request; a client with which something went wrong is used no more.

        Raises:
            AzureError, ValueError: As the client does.
        """
        try:
            client = self._idle.pop()
        except IndexError:
            client = self._make()
        # The warnings of its packages repeat what our errors say, and quote what the login service answered.
        with discreet("azure", "msal", "urllib3", least=logging.CRITICAL):
            try:
                response = client.send_request(request)
            except BaseException:
                client.close()
                raise
        self._idle.append(client)
        return response


def _chain_of_platform(*, asks_metadata: bool) -> ChainedTokenCredential:
    return DefaultAzureCredential(
        exclude_interactive_browser_credential=True,
        exclude_visual_studio_code_credential=True,
        exclude_shared_token_cache_credential=True,
        exclude_broker_credential=True,
        exclude_managed_identity_credential=not asks_metadata or None,  # None: as the environment says
        process_timeout=PROCESS_S,
        **_LOGIN_OPTIONS,
    )


def _chain_of(given: Mapping[str, Secret[str]]) -> ChainedTokenCredential:
    tenant, client, secret = (given[name].reveal() for name in CREDENTIALS)
    return ChainedTokenCredential(ClientSecretCredential(tenant, client, secret, **_LOGIN_OPTIONS))


class _Watched:
    """One credential of a chain, which notes that it failed because the login service is away."""

    def __init__(self, credential: SupportsTokenInfo, seen: threading.local) -> None:
        self._credential = credential
        self._seen = seen

    def get_token_info(self, *scopes: str, options: TokenRequestOptions | None = None) -> AccessTokenInfo:
        try:
            return self._credential.get_token_info(*scopes, options=options)
        except CredentialUnavailableError:
            raise  # this one is not set up, and the chain goes on to the next
        except ClientAuthenticationError as error:
            # What nobody refused but went wrong otherwise is raised as this, too, with what happened as its cause; only
            # a ValueError among these is a matter of settings.
            self._seen.away = is_busy(error.status_code or 0) or not isinstance(error.__cause__, ValueError | None)
            raise
        except AzureError:
            self._seen.away = True
            raise


def parse_object(response: HttpResponse) -> dict[str, Any]:
    """Return a JSON object, an empty one if it is something else."""
    try:
        answer = response.json()
    except (ValueError, AzureError):
        return {}
    return answer if isinstance(answer, dict) else {}
