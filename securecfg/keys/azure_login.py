"""How programs log in to Azure Key Vault, and what all clients of it are told.

Import this module on use: it imports the vendor's packages.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final, cast

from azure.core.exceptions import AzureError, ClientAuthenticationError, ServiceRequestError
from azure.identity import CredentialUnavailableError, DefaultAzureCredential

from securecfg.keys.azure_answers import is_busy

if TYPE_CHECKING:
    from azure.core.credentials import (
        AccessTokenInfo,
        SupportsTokenInfo,
        TokenProvider,
        TokenRequestOptions,
    )
    from azure.core.rest import HttpResponse

CONNECT_S = 3.0
READ_S = 10.0
PROCESS_S = 10

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
    """

    def __init__(self, *, asks_metadata: bool) -> None:
        """Ask for no token yet.

        Raises:
            ValueError, OSError: What the environment says of credentials is wrong in itself.
        """
        self._seen = threading.local()
        self._chain = DefaultAzureCredential(
            exclude_interactive_browser_credential=True,
            exclude_visual_studio_code_credential=True,
            exclude_shared_token_cache_credential=True,
            exclude_broker_credential=True,
            exclude_managed_identity_credential=not asks_metadata or None,  # None: as the environment says
            process_timeout=PROCESS_S,
            connection_timeout=CONNECT_S,
            read_timeout=READ_S,
            retry_total=0,
        )
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
