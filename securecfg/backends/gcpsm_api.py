"""Google Secret Manager as it is asked: a client for each process, and what becomes of a request.

The client speaks HTTP here, not gRPC: a process that has used gRPC cannot be relied on to fork (decision 0014).
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from securecfg.backends.doubt import is_sent
from securecfg.backends.gcpsm_login import credentials_of
from securecfg.backends.gcpsm_names import TITLE
from securecfg.backends.refusal import Refusal
from securecfg.errors import (
    BackendDenied,
    BackendLoginRefused,
    BackendNotReached,
    BackendUnavailable,
    ExtraMissing,
    SecurecfgError,
)
from securecfg.http_client import parse_retry_after
from securecfg.keys.discretion import discreet
from securecfg.keys.gcp import ANSWER_S, ask_once, may_pass, needs_metadata, words_of
from securecfg.keys.per_process import PerProcess
from securecfg.keys.uri import distribution_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from securecfg.secret import Secret

T = TypeVar("T")
Answer = Any
"""An answer of Google's client, whose types are there when it is installed."""

PAGE = 1_000

_CLIENTS = ("google", "requests", "urllib3")
_UNAUTHORIZED, _FORBIDDEN, _TOO_MANY_REQUESTS = 401, 403, 429
_REFUSALS = range(400, 500)
# Of these Google does not say that nothing was done; nor of 503, as `google.rpc.Code` warns of repeating what is
# UNAVAILABLE.
_DISTURBANCES = frozenset({"ABORTED", "CANCELLED", "DEADLINE_EXCEEDED"})
_GIVEN_HINT = "look at the key or the access token that was given; a token lasts an hour"


class Place(NamedTuple):
    """Where a service is asked, and as whom.

    Attributes:
        parent: The resource name of the project, or of a location in it.
        endpoint: None for the service's global endpoint.
        asks_metadata: Whether credentials may come from a metadata service of this machine.
        given: Credentials that were verified, which are used then, and nothing else.
    """

    parent: str
    endpoint: str | None
    asks_metadata: bool
    given: Mapping[str, Secret[str]] = MappingProxyType({})


class SecretManagerApi:
    """Google Secret Manager, asked once for each call.

    Credentials are those that are given, or else found as Google's own clients find them.

    Args:
        place: Where it is.
    """

    def __init__(self, place: Place) -> None:
        """Call nothing, and import nothing yet."""
        self._place = place
        self._client = PerProcess(self._make_client)

    @property
    def where(self) -> str:
        """What the service is called in errors."""
        return f"{TITLE} in `{self._place.parent}`"

    def ask(self, operation: str, understand: Callable[[Answer], T], **request: object) -> T:
        """Return what an answer means.

        Args:
            operation: The client's method.
            understand: Returns what is wanted of the answer; a lookup, type or value that fails in it makes no sense.
            request: What is asked.

        Raises:
            Refusal: The service refuses, for a reason that has no error of its own.
            SecurecfgError: See section 7 of the contract.
        """
        try:
            from google.api_core.exceptions import GoogleAPICallError
            from google.auth.exceptions import GoogleAuthError
            from google.cloud import secretmanager_v1  # noqa: F401 - its loggers are there before they are kept quiet
            from google.protobuf.json_format import ParseError
            from requests import RequestException
        except ImportError:
            message = "`gcpsm:` needs the package `google-cloud-secret-manager`"
            raise ExtraMissing(message, hint=f"pip install {distribution_for('gcpsm')}") from None
        failure: SecurecfgError
        try:
            with discreet(*_CLIENTS):
                call = getattr(self._client.get(), operation)
                # Asking again is the caller's business.
                return understand(call(request=request, retry=None, timeout=ANSWER_S))
        except GoogleAPICallError as error:
            failure = self._answered(error, operation)
        except GoogleAuthError as error:
            failure = self._not_authenticated(error)
        except RequestException as error:
            failure = self._lost(is_sent=is_sent(error))
        except (ParseError, LookupError, TypeError, ValueError, AttributeError, RecursionError):
            failure = self._disturbed("gave no answer that can be understood")
        raise failure  # here, so that it drags along no frame and no text of the client

    def pages(self, operation: str, understand: Callable[[Answer], list[T]], parent: str) -> Iterator[T]:
        """Yield the entries of a listing below a parent, each page asked for when it is needed."""
        token = ""
        while True:
            found, following = self.ask(
                operation,
                lambda page: (understand(page), str(page.next_page_token)),
                parent=parent,
                page_size=PAGE,
                page_token=token,
            )
            yield from found
            if not following:
                return
            if following == token:
                what = "gives the same page for ever"
                raise self._disturbed(what)
            token = following

    def _make_client(self) -> Any:  # noqa: ANN401 - Google's types are there when they are installed
        from google.auth.exceptions import GoogleAuthError
        from google.cloud.secretmanager_v1 import SecretManagerServiceClient

        given = self._place.given
        if not given and not self._place.asks_metadata and needs_metadata():
            raise self._no_credentials()
        options = {"api_endpoint": self._place.endpoint} if self._place.endpoint else None
        try:
            known = credentials_of(given) if given else None
            return ask_once(SecretManagerServiceClient(credentials=known, transport="rest", client_options=options))
        except GoogleAuthError:
            raise
        except (OSError, LookupError, TypeError, ValueError, AttributeError):
            pass  # a file of credentials that cannot be read, or makes no sense
        raise self._no_credentials()

    def _answered(self, error: Any, operation: str) -> SecurecfgError:  # noqa: ANN401 - as above
        """Return the error for an answer that refuses."""
        http, (status, reason) = error.code or 0, words_of(error.response)
        words = " ".join(f"`{word}`" for word in (status, reason) if word)
        shown = f" ({words or f'HTTP {http}'})"
        failure: SecurecfgError
        if http == _UNAUTHORIZED:
            hint = "log in again; `gcloud auth application-default print-access-token` says whether there are any"
            hint = _GIVEN_HINT if self._place.given else hint
            failure = BackendLoginRefused(f"{self.where} does not take the credentials{shown}", hint=hint)
        elif http == _FORBIDDEN:
            hint = f"they need `{_permission(operation)}`, and the API has to be enabled; or there is no such secret, "
            hint += "which only those are told who may see it"
            failure = BackendDenied(f"{self.where} does not let these credentials do this{shown}", hint=hint)
        elif http == _TOO_MANY_REQUESTS:
            failure = BackendNotReached(f"{self.where} has been asked too often{shown}", hint="try again later")
        elif http not in _REFUSALS or status in _DISTURBANCES:
            failure = self._disturbed(f"is disturbed{shown}")
        else:
            failure = Refusal(f"{self.where} refuses what was asked{shown}", hint="the audit logs may say more")
            failure.reason = status
        if isinstance(failure, BackendUnavailable):
            failure.retry_after_s = parse_retry_after(error.response.headers.get("Retry-After"))
        return failure

    def _not_authenticated(self, error: Any) -> SecurecfgError:  # noqa: ANN401 - as above
        """Return the error where there are no credentials, or no token for them; nothing has been sent, or taken."""
        if may_pass(error):
            message = f"{self.where} cannot be asked, for Google gives no access token"
            return BackendNotReached(message, hint="try again later")
        return self._no_credentials()

    def _no_credentials(self) -> BackendLoginRefused:
        hint = "log in with `gcloud auth application-default login`, set GOOGLE_APPLICATION_CREDENTIALS, or add "
        hint += "`?metadata=yes` where the service account of this machine or container is meant"
        hint = _GIVEN_HINT if self._place.given else hint
        return BackendLoginRefused(f"there are no usable Google credentials for {self.where}", hint=hint)

    def _lost(self, *, is_sent: bool) -> BackendUnavailable:
        if is_sent:
            return self._disturbed("gave no answer")
        return BackendNotReached(f"{self.where} cannot be reached", hint="try again later")

    def _disturbed(self, what: str) -> BackendUnavailable:
        return BackendUnavailable(f"{self.where} {what}", hint="try again later")


def _permission(operation: str) -> str:
    verb, _, kind = operation.partition("_")
    return f"secretmanager.{'versions' if 'version' in kind else 'secrets'}.{verb}"
