"""The API server of a cluster: requests in one namespace, and what its answers mean."""

from __future__ import annotations

import json
import re
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from securecfg.backends.k8s_login import log_in
from securecfg.errors import (
    BackendDenied,
    BackendLoginRefused,
    BackendNotReached,
    BackendRefused,
    BackendUnavailable,
    ExtraMissing,
    SecurecfgError,
    ValueTooLarge,
)
from securecfg.keys.discretion import discreet
from securecfg.keys.per_process import PerProcess
from securecfg.keys.uri import distribution_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from securecfg.backends.k8s_login import Access, Login

T = TypeVar("T")
Body = Any
"""A JSON object that the API server answered with."""

CONNECT_S, ANSWER_S = 5.0, 10.0
WATCH_S = 8
"""How long one request watches; the server ends it then."""

_CLIENTS = ("kubernetes", "urllib3")
_ABOUT = "application/json;as={};g=meta.k8s.io;v=v1,application/json"
"""Asks for what is about an object, without what is in it; for the whole of it where a server knows no such thing."""
_REASON = re.compile(r"[A-Za-z]{1,64}", re.ASCII)
_ANONYMOUS = 'User "system:anonymous"'
_QUOTA = "exceeded quota"
_TERMINATING = "NamespaceTerminating"


class Request(NamedTuple):
    """What is asked.

    Attributes:
        verb: As roles call it.
        method: Of the client, where `{}` stands for the kind of objects.
        arguments: By position, without the namespace.
        options: By name.
        has_values: Whether the answer is to hold values.
    """

    verb: str
    method: str
    arguments: tuple[str, ...]
    options: Mapping[str, Any]
    has_values: bool = False


class Refusal(BackendRefused):
    """The server refuses, for a reason that the backend may know better.

    Attributes:
        status: Of HTTP.
        reason: The server's word for it.
        resource: What it is about: `secrets`, `namespaces`.
        causes: The reason of each thing that is wrong with an object, and in which field.
        following: Where a listing may go on nevertheless.
    """

    status: int = 0
    reason: str = ""
    resource: str = ""
    causes: tuple[tuple[str, str], ...] = ()
    following: str = ""


class Cluster:
    """Asks one namespace of a cluster. May be used by many threads and by a forked child, which logs in by itself.

    Args:
        access: Which cluster, and as whom.
        namespace: Where.
        method: The kind of objects, as the methods of the client call it.
        resource: The same, as roles call it.
    """

    def __init__(self, access: Access, namespace: str, method: str, resource: str) -> None:
        """Call nothing, and import nothing yet."""
        self.namespace = namespace
        self._method, self._resource = method, resource
        self._clients = PerProcess(lambda: _Clients(access))

    def ask(self, request: Request, pick: Callable[[Body], T]) -> T:
        """Return what `pick` makes of the answer, which makes no sense where a lookup, type or value fails in it.

        Raises:
            Refusal: The server refuses, for a reason that has no error of its own.
            SecurecfgError: See section 7 of the contract.
        """
        return _understood(lambda: pick(json.loads(self._granted(request).data)))

    @contextmanager
    def watch(self, request: Request, pick: Callable[[Body], T]) -> Iterator[Iterator[T]]:
        """Give what `pick` makes of each event from now on, until the server ends its answer.

        Raises:
            Refusal: The server refuses, for a reason that has no error of its own.
            SecurecfgError: See section 7 of the contract.
        """
        response = _understood(lambda: self._granted(request))
        try:
            yield self._events(request, response, pick)
        finally:
            response.close()  # what may still come is not waited for
            response.release_conn()

    def _granted(self, request: Request) -> Any:  # noqa: ANN401 - of urllib3
        """Return the answer of a server that grants what is asked, a second time where the credentials had ended."""
        clients = self._clients.get()
        client = clients.get()
        try:
            return self._send(client, request)
        except Refusal as refusal:
            if refusal.status != 401:  # noqa: PLR2004 - of HTTP
                raise
        other = clients.get(instead_of=client)
        if other.login.identity != client.login.identity:
            try:
                return self._send(other, request)
            except Refusal as refusal:
                if refusal.status != 401:  # noqa: PLR2004 - of HTTP
                    raise
        raise _login_refused(other.login)

    def _send(self, client: _Client, request: Request) -> Any:  # noqa: ANN401 - of urllib3
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        method = client.method(request.method.format(self._method), request)
        is_watched = "watch" in request.options
        failure: SecurecfgError
        try:
            with discreet(*_CLIENTS):
                response = method(
                    *request.arguments,
                    self.namespace,
                    **request.options,
                    _preload_content=False,
                    _request_timeout=(CONNECT_S, ANSWER_S),
                )
                if not is_watched:
                    _ = response.data  # reads it all, and lets the connection go
            return response
        except ApiException as error:
            failure = self._failure(error, request, client)
        except HTTPError as error:
            failure = _lost(error)
        except OSError:  # a file that the client needs, before anything is sent
            failure = _file_missing(client)
        raise failure  # here, so that it drags along no frame and no text of the client

    def _events(self, request: Request, response: Any, pick: Callable[[Body], T]) -> Iterator[T]:  # noqa: ANN401 - of urllib3
        from urllib3.exceptions import HTTPError

        begun = b""
        failure: SecurecfgError
        try:
            for chunk in response.stream(None):
                *lines, begun = (begun + chunk).split(b"\n")
                for line in lines:
                    event = _understood(lambda line=line: _event(line))  # type: ignore[misc]  # of each turn
                    if event["type"] == "ERROR":
                        raise self._failure_of(event["object"].get("code"), event["object"], {}, request)
                    yield _understood(lambda event=event: pick(event))  # type: ignore[misc]  # of each turn
        except HTTPError as error:
            failure = _lost(error)
        else:
            return
        raise failure

    def _failure(self, error: Any, request: Request, client: _Client) -> SecurecfgError:  # noqa: ANN401 - its own
        """Return the error for what the client raises."""
        if not error.status:  # it is about TLS, and the client has thrown away what it was
            failed = error.__cause__ or error.__context__
            cause = failed.args[0] if failed is not None and failed.args else None
            return _file_missing(client) if _is_of_a_file(cause) else _not_trusted(cause)
        said = _said(error.body)
        if error.status == 403 and client.login.is_anonymous and _ANONYMOUS in str(said.get("message")):  # noqa: PLR2004 - of HTTP
            return _login_refused(client.login)
        return self._failure_of(error.status, said, error.headers or {}, request)

    def _failure_of(self, status: object, said: Body, headers: Mapping[str, str], request: Request) -> SecurecfgError:
        """Return the error for a `Status`."""
        if not isinstance(status, int):
            return _senseless()
        found = _disturbed(status, _seconds(headers, said))
        if found is not None:
            return found
        if status == 403:  # noqa: PLR2004 - of HTTP
            return self._denial(said, request)
        if status == 413:  # noqa: PLR2004 - of HTTP
            return ValueTooLarge("the cluster takes no object of that size")
        if said.get("kind") != "Status" and status != 401:  # noqa: PLR2004 - of HTTP
            return _senseless()
        return _refusal(status, said)

    def _denial(self, said: Body, request: Request) -> SecurecfgError:
        words = str(said.get("message"))
        if _TERMINATING in (reason for reason, _ in _causes(said)):
            return BackendRefused(f"the namespace `{self.namespace}` is being deleted")
        if _QUOTA in words:
            return BackendRefused(f"the quota of the namespace `{self.namespace}` is used up")
        message = "the cluster does not let these credentials do this"
        hint = f"a role needs `{request.verb}` on `{self._resource}` in `{self.namespace}`; or a webhook refuses"
        return BackendDenied(message, hint=hint)


class _Clients:
    """The client of one process, made anew where its credentials are to be renewed."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._lock = threading.Lock()
        self._client: _Client | None = None

    def get(self, *, instead_of: _Client | None = None) -> _Client:
        """Return the client.

        Args:
            instead_of: One whose credentials are not taken any more.
        """
        with self._lock:
            client = self._client
            if (
                client is None
                or client is instead_of
                or client.is_broken
                or time.monotonic() >= client.login.renewed_at
            ):
                client = self._client = self._made_anew(client)
            return client

    def _made_anew(self, former: _Client | None) -> _Client:
        try:
            import kubernetes.client  # whose loggers have to be there before they can be kept quiet

            with discreet(*_CLIENTS):
                login = log_in(self._access)
                if former is not None and not former.is_broken and former.login.identity == login.identity:
                    return _Client(login, former.rest)
                return _Client(login, kubernetes.client.ApiClient(login.configuration).rest_client)
        except ImportError:
            message = "`k8s:` needs the package `kubernetes`"
            raise ExtraMissing(message, hint=f"pip install {distribution_for('k8s')}") from None


class _Client:
    """Connections, and as whom they are used.

    Attributes:
        login: As whom.
        rest: The connections.
        is_broken: Whether it lacks a file.
    """

    def __init__(self, login: Login, rest: Any) -> None:  # noqa: ANN401 - of the client, whose types differ between its versions
        self.login, self.rest = login, rest
        self.is_broken = False
        self._whole = self._api("application/json")
        self._about_one = self._api(_ABOUT.format("PartialObjectMetadata"))
        self._about_many = self._api(_ABOUT.format("PartialObjectMetadataList"))

    def method(self, name: str, request: Request) -> Callable[..., Any]:
        """Return a method of the client."""
        is_list = request.verb == "list"
        api = self._whole if request.has_values else self._about_many if is_list else self._about_one
        found: Callable[..., Any] = getattr(api, name)
        return found

    def _api(self, accepted: str) -> Any:  # noqa: ANN401 - the same
        from kubernetes.client import ApiClient, CoreV1Api

        client = ApiClient(self.login.configuration)
        client.rest_client = self.rest
        client.set_default_header("Accept", accepted)
        return CoreV1Api(client)


# --- answers ----------------------------------------------------------------------------------------------------------


def _understood(call: Callable[[], T]) -> T:
    try:
        return call()
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError):
        pass
    raise _senseless()


def _event(line: bytes) -> Body:
    event = json.loads(line)
    if not isinstance(event["type"], str) or not isinstance(event["object"], dict):
        raise TypeError
    return event


def _said(body: object) -> Body:
    """Return the `Status` that comes with an error, an empty object where there is none."""
    try:
        said = json.loads(body if isinstance(body, str | bytes) else "")
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _details(said: Body) -> Body:
    details = said.get("details")
    return details if isinstance(details, dict) else {}


def _causes(said: Body) -> tuple[tuple[str, str], ...]:
    causes = _details(said).get("causes")
    found = [cause for cause in causes if isinstance(cause, dict)] if isinstance(causes, list) else []
    return tuple((str(cause.get("reason")), str(cause.get("field"))) for cause in found)


def _refusal(status: int, said: Body) -> Refusal:
    reason = str(said.get("reason"))
    shown = f" (`{reason}`)" if _REASON.fullmatch(reason) else ""
    refusal = Refusal(f"the cluster refuses what was asked (HTTP {status}){shown}", hint="`kubectl` may say more")
    refusal.status, refusal.reason = status, reason
    refusal.resource, refusal.causes = str(_details(said).get("kind")), _causes(said)
    about = said.get("metadata")
    refusal.following = str(about.get("continue") or "") if isinstance(about, dict) else ""
    return refusal


def _seconds(headers: Mapping[str, str], said: Body) -> float:
    """Return when to come back: Kubernetes says whole seconds, in the header or in the `Status`."""
    header = headers.get("Retry-After")
    if header and header.isascii() and header.isdigit():
        return float(header)
    seconds = _details(said).get("retryAfterSeconds")
    return float(seconds) if isinstance(seconds, int) and seconds > 0 else 0.0


# --- errors -----------------------------------------------------------------------------------------------------------


def _disturbed(status: int, retry_after_s: float) -> BackendUnavailable | None:
    failure: BackendUnavailable
    if 300 <= status < 400:  # noqa: PLR2004 - of HTTP
        message = f"the cluster points to another server (HTTP {status}), which is not followed"
        failure = BackendNotReached(message, hint="look at `server` in the kubeconfig")
    elif status in {429, 503}:
        what = "is asked too often" if status == 429 else "is not ready"  # noqa: PLR2004 - of HTTP
        failure = BackendNotReached(f"the cluster {what} (HTTP {status})", hint="try again later")
    elif status >= 500:  # noqa: PLR2004 - of HTTP
        message = f"the cluster reports an error of its own (HTTP {status})"
        failure = BackendUnavailable(message, hint="try again later")
    else:
        return None
    failure.retry_after_s = retry_after_s
    return failure


def _is_of_a_file(cause: object) -> bool:
    from ssl import SSLError

    return isinstance(cause, OSError) and not isinstance(cause, SSLError)


def _file_missing(client: _Client) -> BackendNotReached:
    """Return the error for a file that cannot be read, and let the client be made anew."""
    client.is_broken = True
    message = "the cluster cannot be asked, as the file of its authority or a certificate cannot be read"
    return BackendNotReached(message, hint="look at the kubeconfig")


def _lost(error: Exception) -> BackendUnavailable:
    """Return the error for a request that has no answer."""
    from urllib3.exceptions import ConnectTimeoutError, NewConnectionError, ProxyError, SSLError

    if isinstance(error, SSLError):
        return _not_trusted(error.args[0] if error.args else None)
    if isinstance(error, ConnectTimeoutError | NewConnectionError | ProxyError):
        return BackendNotReached("the cluster cannot be reached", hint="try again later")
    return BackendUnavailable("no answer came from the cluster", hint="try again later")


def _not_trusted(cause: object) -> BackendUnavailable:
    """Return the error for TLS that failed; where it was the certificate, nothing had been sent."""
    from ssl import SSLCertVerificationError

    kind = BackendNotReached if isinstance(cause, SSLCertVerificationError) else BackendUnavailable
    message = "the cluster has no certificate that is trusted here"
    return kind(message, hint="`certificate-authority` in the kubeconfig names its authority")


def _senseless() -> BackendUnavailable:
    message = "the cluster gave no answer that can be understood"
    return BackendUnavailable(message, hint="is it the API of Kubernetes that the address leads to?")


def _login_refused(login: Login) -> BackendLoginRefused:
    if login.is_anonymous:
        message = "there is nothing to log in to the cluster with"
        return BackendLoginRefused(message, hint="the kubeconfig names no user, or one without credentials")
    message = "the cluster does not take the credentials"
    if login.is_given:
        return BackendLoginRefused(message, hint="look at the token or the certificate that was given")
    return BackendLoginRefused(message, hint="`kubectl auth whoami` says whose they are, and whether they have ended")
