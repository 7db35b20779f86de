"""A vault of Azure Key Vault that is asked for secrets, once for each call, and what its answers mean."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from securecfg.errors import (
    BackendDenied,
    BackendLoginRefused,
    BackendNotReached,
    BackendRefused,
    BackendUnavailable,
    ExtraMissing,
    SecurecfgError,
)
from securecfg.keys.azure_answers import code_of
from securecfg.keys.per_process import PerProcess
from securecfg.keys.uri import distribution_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from securecfg.backends.azure_sessions import Answered, Sessions
    from securecfg.secret import Secret

T = TypeVar("T")
Answer = Any
"""A JSON object of the service, as its REST API describes it for each call."""

PAGE = 25
"""How many entries a page has at most."""

IS_DELETED = "ObjectIsDeletedButRecoverable"
NOT_THERE = "SecretNotFound"
KEPT_BACK = frozenset({"SecretDisabled", "SecretExpired", "SecretNotYetValid"})
"""The service gives expired secrets out, and says so in its documentation; were it to stop, these are its words."""

_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _CONFLICT = 401, 403, 404, 409
_NOT_TAKEN = frozenset({429, 503})
_SUCCESSES, _REFUSALS = range(200, 300), range(400, 500)
_QUERY = re.compile(r"[!-~]{1,4096}", re.ASCII)


class Refusal(BackendRefused):
    """The service refuses, for a reason that the backend may know better by its code.

    Attributes:
        reason: The code.
    """

    reason: str = ""


class Request(NamedTuple):
    """What is asked.

    Attributes:
        right: The permission that it needs.
        verb: Of HTTP.
        path: Below the vault.
        query: After the question mark, the version of the interface excepted.
        body: To be sent as JSON.
    """

    right: str
    verb: str
    path: str
    query: str = ""
    body: Mapping[str, object] | None = None


class AzureVault:
    """Asks one vault. May be used by many threads and by a forked child, which logs in by itself.

    Args:
        scheme: Of the URI.
        host: Where the vault is.
        given: Credentials that stand before all others, by the names of their variables.
        asks_metadata: Whether a metadata service may be asked for credentials.
    """

    def __init__(self, scheme: str, host: str, given: Mapping[str, Secret[str]], *, asks_metadata: bool) -> None:
        """Call nothing, and import nothing yet."""
        self.host = host
        self._scheme = scheme
        self._given = given
        self._asks_metadata = asks_metadata
        self._sessions = PerProcess(self._open)

    def ask(self, request: Request, understand: Callable[[Answer], T]) -> T:
        """Return what an answer means.

        Args:
            request: What is asked.
            understand: Returns what is wanted of the answer; a lookup, type or value that fails in it means that the
                answer makes no sense.

        Raises:
            Refusal: The service refuses, for a reason that has no error of its own.
            SecurecfgError: See section 7 of the contract.
        """
        url = f"/{request.path}?{request.query}" if request.query else f"/{request.path}"
        answered = self._sessions.get().send(request.verb, url, request.body)
        failure: SecurecfgError = self._disturbed("gave no answer that can be understood")
        if answered.status in _SUCCESSES:
            try:
                return understand(answered.answer)
            except (LookupError, TypeError, ValueError, AttributeError, OverflowError, OSError):
                pass
        else:
            failure = self._refused(request, answered)
        del answered
        raise failure  # here, so that it drags along no frame that holds an answer

    def pages(self, path: str, understand: Callable[[Answer], T]) -> Iterator[T]:
        """Yield what is understood of each entry of all pages, each page asked for when it is needed."""
        query = f"maxresults={PAGE}"
        while True:
            found, following = self.ask(
                Request("list", "GET", path, query),
                lambda answer: ([understand(entry) for entry in answer["value"]], self._following(answer, path)),
            )
            yield from found
            if not following:
                return
            if following == query:
                what = "gives the same page for ever"
                raise self._disturbed(what)
            query = following

    def verify_id(self, id_: str, path: str) -> str:
        """Return what stands behind a path in the id of a secret, which is a URL of this vault.

        Raises:
            ValueError: It is another vault's, or stands for something else.
        """
        url = urlsplit(id_)
        if url.hostname != self.host.lower() or not url.path.lower().startswith(f"/{path}/".lower()):
            message = "the id of something else"
            raise ValueError(message)
        return url.path[len(path) + 2 :]

    def _following(self, answer: Answer, path: str) -> str:
        """Return the query of the next page: nobody else than this vault is asked for it."""
        link = answer.get("nextLink")
        if not link:
            return ""
        url = urlsplit(str(link))
        if url.hostname != self.host.lower() or url.path != f"/{path}" or not _QUERY.fullmatch(url.query):
            message = "the next page of something else"
            raise ValueError(message)
        return url.query

    def _open(self) -> Sessions:
        try:
            from securecfg.backends.azure_sessions import Sessions
        except ImportError:
            message = f"`{self._scheme}:` needs the packages `azure-identity` and `azure-keyvault-secrets`"
            raise ExtraMissing(message, hint=f"pip install {distribution_for(self._scheme)}") from None
        return Sessions(self.host, self._given, asks_metadata=self._asks_metadata)

    def _refused(self, request: Request, answered: Answered) -> SecurecfgError:
        """Return the error for an answer that is not what was asked for."""
        status, code = answered.status, code_of(answered.answer)
        shown = f" (`{code}`)" if code else ""
        error: SecurecfgError
        if code in KEPT_BACK or code == IS_DELETED or (status == _NOT_FOUND and code):
            error = Refusal(f"`{self.host}` refuses what was asked{shown}", hint="the vault's log says more")
            error.reason = NOT_THERE if status == _NOT_FOUND else code
        elif status == _UNAUTHORIZED:
            error = BackendLoginRefused(
                f"`{self.host}` does not take the credentials{shown}",
                hint="log in again; `az account show` says whose they are",
            )
        elif status == _FORBIDDEN:
            hint = (
                f"they need the right to `{request.right}` secrets, and the vault's firewall has to let this machine in"
            )
            error = BackendDenied(f"`{self.host}` does not let these credentials do this{shown}", hint=hint)
        elif status == _CONFLICT:  # the secret is being deleted, brought back or written by somebody else just now
            error = BackendNotReached(f"`{self.host}` is busy with this secret{shown}", hint="try again later")
        elif status in _NOT_TAKEN:
            error = BackendNotReached(f"`{self.host}` is busy, or asked too often{shown}", hint="try again later")
        elif status in _REFUSALS and code:
            error = BackendRefused(f"`{self.host}` refuses what was asked{shown}", hint="the vault's log says more")
        else:
            error = self._disturbed(f"is disturbed{shown}")
        if isinstance(error, BackendUnavailable):
            error.retry_after_s = answered.retry_after_s
        return error

    def _disturbed(self, what: str) -> BackendUnavailable:
        return BackendUnavailable(f"`{self.host}` {what}", hint="try again later")
