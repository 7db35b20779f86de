"""How Azure Key Vault is asked: one request, with a token of whoever runs this program.

The vendor's `KeyClient` makes the requests, finds the login service by the vault's challenge and checks that the vault
belongs to the resource that the challenge names. Why nothing else of its package is used: docs/decisions, record 0015.

Import this module on use: it imports the vendor's packages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from azure.core.exceptions import AzureError, ClientAuthenticationError, HttpResponseError
from azure.core.rest import HttpRequest
from azure.keyvault.keys import KeyClient

from securecfg.errors import KeyAccessDenied, KeyProviderRefused, SecurecfgError
from securecfg.keys.azure_answers import Operation, refused, unavailable
from securecfg.keys.azure_login import CLIENT_OPTIONS, Clients, Login, LoginAway, parse_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from azure.core.credentials import TokenCredential

_OK = 200


class KeyVault:
    """A vault that can be asked.

    Args:
        vault_url: Where it is.
        key_name: What the key is called in errors.
    """

    def __init__(self, vault_url: str, key_name: str) -> None:
        """Ask nothing yet.

        Raises:
            KeyAccessDenied: What the environment says of credentials is wrong in itself.
        """
        self._key_name = key_name
        try:
            # The client takes the newer form of a login, which its annotation does not.
            login = cast("TokenCredential", Login(asks_metadata=True))
        except (ValueError, OSError):
            message = "what the environment says of Azure credentials cannot be used"
            raise KeyAccessDenied(message, hint="look at the variables that begin with `AZURE_`") from None
        self._clients = Clients(lambda: KeyClient(vault_url, login, **CLIENT_OPTIONS))

    def ask(self, operation: Operation, path: str, body: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Return what the vault answers, a JSON object.

        Args:
            operation: What is asked for.
            path: Where, below the vault's URL.
            body: Sent as JSON, where there is one.

        Raises:
            WrongKey: It cannot unwrap what it was sent.
            KeyProviderUnavailable: It cannot be reached, is too busy, or reports an error of its own.
            KeyProviderRefused: It refuses; `KeyAccessDenied`, `KeyDisabled` or `KeyMissing` where it says why.
        """
        failure: SecurecfgError
        try:
            response = self._clients.send(HttpRequest("POST" if body else "GET", path, json=body))
            answer = parse_object(response)
            if response.status_code == _OK and answer:
                return answer
            failure = refused(self._key_name, operation, response.status_code, answer)
        except LoginAway:
            failure = unavailable(self._key_name, "the login service of Azure cannot be reached, or is busy")
        except ClientAuthenticationError:
            failure = KeyAccessDenied(
                f"there are no usable Azure credentials for the key `{self._key_name}`",
                hint="log in with `az login`, or set AZURE_CLIENT_ID, AZURE_TENANT_ID and AZURE_CLIENT_SECRET",
            )
        except HttpResponseError as error:  # there was an answer, of the kind that proxies give
            failure = refused(self._key_name, operation, error.status_code or 0, {})
        except AzureError:
            failure = unavailable(self._key_name, "Azure Key Vault cannot be reached")
        except ValueError:  # the client's word for a challenge that it does not follow
            failure = KeyProviderRefused(
                f"what answers for the key `{self._key_name}` asks for a token of another service",
                hint="it got no token; is it really Azure Key Vault that answers at this address?",
            )
        del body  # a traceback that shows locals must not show it
        raise failure  # here, so that it drags along no frame and no text of the client
