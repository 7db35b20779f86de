"""One engine of a Vault or OpenBao server: requests, tokens, and what an answer means."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import quote

from securecfg.backends.answers import understood
from securecfg.backends.doubt import is_sent, looking_first
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
from securecfg.http_client import parse_date, parse_retry_after
from securecfg.keys.credentials import CredentialMissing
from securecfg.keys.discretion import discreet
from securecfg.keys.per_process import PerProcess
from securecfg.keys.uri import distribution_for
from securecfg.keys.vault_login import Login, Where, connect, find_token, login_request

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")

_CALLED = "the Vault server"
_CLIENTS = ("hvac", "requests", "urllib3")
_RENEW_AFTER = 2 / 3
_MOUNTS = "sys/internal/ui/mounts"

# Vault has no codes; these are its words, unchanged since they were introduced.
_CAS_FAILED = "check-and-set parameter did not match"
_CAS_NEEDED = "check-and-set parameter required"
_UPGRADING = "Upgrading from non-versioned to versioned data"
_NO_TOKEN = "missing client token"  # noqa: S105 - a message
_ENDED = "invalid token"
# What Vault and those before it answer to a request that it has not taken.
_NOT_TAKEN = frozenset({412, 429, 472, 473, 501, 503})


class Request(NamedTuple):
    """What is asked.

    Attributes:
        verb: Of HTTP; a listing is a `get` with the parameter `list`, which every proxy knows.
        path: Below `/v1/`, as it is.
        body: To be sent as JSON.
        params: After the question mark.
    """

    verb: str
    path: str
    body: Mapping[str, Any] | None = None
    params: Mapping[str, str] | None = None


class Answer(NamedTuple):
    """What the server answers where it neither refuses nor fails.

    Attributes:
        status: 2xx, 404, or 400 where a check-and-set failed.
        body: The JSON object that was sent, empty where there was none.
        said: The server's own words about an error; never to be shown.
        at: When the server said so, by its own clock where it tells.
    """

    status: int
    body: Mapping[str, Any]
    said: str
    at: datetime
    retry_after_s: float = 0.0

    @property
    def is_missing(self) -> bool:
        """Whether there is nothing where it was asked for."""
        return self.status == 404  # noqa: PLR2004 - of HTTP

    @property
    def is_stale(self) -> bool:
        """Whether a check-and-set failed."""
        return _CAS_FAILED in self.said


class VaultServer:
    """Asks one KV engine of a server. May be used by many threads and by a forked child, which logs in by itself.

    Args:
        where: The server.
        login: How to get a token.
        mount: Where the engine is mounted.
        kv: Which version of the engine that has to be.
    """

    def __init__(self, where: Where, login: Login, mount: str, kv: str) -> None:
        """Call nothing, and import nothing yet."""
        self.mount = mount
        self._where, self._login, self._kv = where, login, kv
        self._clients = PerProcess(self._connect)

    def ask(self, request: Request, pick: Callable[[Answer], T]) -> T:
        """Return what `pick` makes of the answer, which makes no sense where a lookup, type or value fails in it.

        Raises:
            BackendLoginRefused: There is no token, or none that is taken.
            BackendDenied: The token may not do this.
            BackendNotReached: The server was not reached, or refused before it took the request.
            BackendUnavailable: It failed, or what it answers makes no sense.
            BackendRefused: It refuses, or what is mounted is no such engine.
            ValueTooLarge: It takes no request of that size.
            ExtraMissing: The package `hvac` is not installed.
            SettingMissing: VAULT_ADDR is not set, or neither `https://` nor this machine.
        """
        client = self._clients.get()
        if not client.is_checked:
            before_a_change(lambda: self._verify_engine(client))
            client.is_checked = True
        return understood(lambda: pick(self._granted(client, request)), _CALLED)

    def _connect(self) -> _Client:
        try:
            return _Client(self._where, self._login)
        except ImportError:
            message = "`vault:` needs the package `hvac`"
            raise ExtraMissing(message, hint=f"pip install {distribution_for('vault')}") from None
        except CredentialMissing as error:
            raise _nothing_to_log_in_with(error.places) from None

    def _verify_engine(self, client: _Client) -> None:
        """Verify that the engine is of the version that it is spoken to as.

        An engine of version 1 would take what is meant for version 2 as another path with other fields, and keep it.
        """
        answer = self._granted(client, Request("get", f"{_MOUNTS}/{self.mount}"))
        if answer.is_missing:
            raise _no_engine(self.mount)
        mounted = answer.body["data"]
        if mounted["path"].strip("/") != self.mount or mounted["type"] not in {"kv", "generic"}:
            raise _no_engine(self.mount)
        kv = str((mounted.get("options") or {}).get("version") or "1")
        if kv != self._kv:
            message = f"the KV engine at `{self.mount}` is not of version {self._kv}"
            raise BackendRefused(message, hint=f"say `?kv={'1' if self._kv == '2' else '2'}` in the URI")

    def _granted(self, client: _Client, request: Request) -> Answer:
        """Return the answer of a server that grants what is asked; it is asked twice where the token had ended."""
        token = before_a_change(client.token)
        answer = client.send(request, token)
        if _is_denial(answer) and before_a_change(lambda: client.has_ended(answer, token)):
            if self._login.method == "token":
                message = "the Vault server takes the token for none any more"
                raise BackendLoginRefused(message, hint="`vault token lookup` says whether it has ended")
            answer = client.send(request, before_a_change(lambda: client.token(instead_of=token)))
        if _is_denial(answer):
            message = "the Vault server does not let this token do that"
            raise BackendDenied(message, hint=_missing_right(request))
        return self._accepted(answer)

    def _accepted(self, answer: Answer) -> Answer:
        status = answer.status
        if status < 400 or answer.is_stale or (answer.is_missing and not answer.said):  # noqa: PLR2004 - of HTTP
            return answer
        if answer.is_missing:
            raise _no_engine(self.mount)
        if status == 413:  # noqa: PLR2004 - of HTTP
            message = "the Vault server takes no value of that size"
            raise ValueTooLarge(message)
        if _UPGRADING in answer.said:
            message = f"the KV engine at `{self.mount}` is being made one of version 2"
            raise BackendNotReached(message, hint="try again later")
        if _CAS_NEEDED in answer.said:
            message = f"the KV engine at `{self.mount}` takes only writes that say which version they expect"
            raise BackendRefused(message, hint="write with `expect`")
        message = f"the Vault server refuses what was asked (HTTP {status})"
        raise BackendRefused(message, hint="its own log says why")


class _Client:
    """What one process has: connections, and the token that it got."""

    def __init__(self, where: Where, login: Login) -> None:
        from hvac.adapters import RawAdapter

        self._adapter = RawAdapter.from_adapter(connect(where, login).adapter)
        self._login = login
        self._lock = threading.Lock()
        self._lease: _Lease | None = None
        self.is_checked = False

    def token(self, *, instead_of: str = "") -> str:
        """Return a token: one that somebody else got as it is now, or one of our own, renewed or replaced in time.

        Args:
            instead_of: One that has ended.
        """
        if self._login.method == "token":
            try:
                return find_token(self._login)
            except CredentialMissing as error:
                raise _nothing_to_log_in_with(error.places) from None
        with self._lock:
            lease, now = self._lease, time.monotonic()
            if lease is None or lease.token == instead_of or now >= lease.ends:
                lease = self._log_in()
            elif now >= lease.renewed_at:
                lease = self._renewed(lease)
            self._lease = lease
            return lease.token

    def has_ended(self, denial: Answer, token: str) -> bool:
        """Return whether it is the token that is refused, and not what it may do.

        Vault before 1.17 and OpenBao say only that permission is denied. A token may look itself up as long as it is
        one, by the policy `default`.
        """
        if denial.status == 401 or _ENDED in denial.said or _NO_TOKEN in denial.said:  # noqa: PLR2004 - of HTTP
            return True
        return _is_denial(self.send(Request("get", "auth/token/lookup-self"), token))

    def send(self, request: Request, token: str) -> Answer:
        """Return the answer to a request, sent once.

        Raises:
            BackendNotReached: It did not arrive, or was refused before it was taken.
            BackendUnavailable: No answer came, or none that makes sense.
        """
        from requests.exceptions import RequestException, SSLError

        url = f"/v1/{quote(request.path)}"
        options = {"params": request.params, "json": request.body, "headers": {"X-Vault-Token": token} if token else {}}
        failure: SecurecfgError
        try:
            with discreet(*_CLIENTS):
                answer = _to_answer(self._adapter.request(request.verb, url, raise_exception=False, **options))
        except SSLError as error:
            failure = _not_trusted(is_sent=is_sent(error))
        except RequestException as error:
            failure = _lost(is_sent=is_sent(error))
        except OSError:  # a file that the client needs, before anything is sent
            failure = BackendNotReached(
                "the Vault server cannot be asked, as the file of its authority or a certificate cannot be read",
                hint="look at `cacert`, VAULT_CACERT and VAULT_CAPATH",
            )
        else:
            _verify_is_taken(answer)
            return answer
        raise failure  # here, so that it drags along no frame and no text of the client

    def _log_in(self) -> _Lease:
        now = time.monotonic()
        try:
            path, body = login_request(self._login)
        except CredentialMissing as error:
            raise _nothing_to_log_in_with(error.places) from None
        answer = self.send(Request("post", path.removeprefix("/v1/"), body), "")
        if answer.status >= 400:  # noqa: PLR2004 - of HTTP
            message = "the Vault server does not take what there is to log in with"
            hint = "look at the role, at where its method is mounted, and whether the secret has ended"
            raise BackendLoginRefused(message, hint=hint)
        return _to_lease(answer, now)

    def _renewed(self, lease: _Lease) -> _Lease:
        """Return the lease with more time, or another one where its token cannot be renewed any more."""
        now = time.monotonic()
        try:
            answer = self.send(Request("post", "auth/token/renew-self", {}), lease.token)
        except BackendUnavailable:
            return lease  # it has not ended yet
        if answer.status >= 400:  # noqa: PLR2004 - of HTTP
            return self._log_in()
        renewed = _to_lease(answer, now)
        # A token that is near its last day gets less and less time.
        return renewed if renewed.ends > lease.ends else self._log_in()


class _Lease(NamedTuple):
    token: str
    renewed_at: float
    ends: float


def _to_lease(answer: Answer, since: float) -> _Lease:
    auth = answer.body["auth"]
    token, seconds = auth["client_token"], float(auth["lease_duration"])
    if not isinstance(token, str) or not token:
        message = "no token"
        raise ValueError(message)
    if not seconds:
        return _Lease(token, float("inf"), float("inf"))
    is_renewable = auth.get("renewable") is True
    return _Lease(token, since + seconds * _RENEW_AFTER if is_renewable else float("inf"), since + seconds)


def _to_answer(response: Any) -> Answer:  # noqa: ANN401 - the package has no types
    try:
        body = json.loads(response.content) if response.content else {}
        errors = body.get("errors") or ()
        said = " ".join(map(str, errors))
    except (ValueError, TypeError, AttributeError, RecursionError):
        if response.ok:
            raise
        body, said = {}, ""
    return Answer(
        response.status_code,
        body,
        said,
        parse_date(response.headers.get("Date")) or datetime.now(UTC),
        parse_retry_after(response.headers.get("Retry-After")),
    )


def before_a_change(call: Callable[[], T]) -> T:
    """Return what has to be known before a request is sent; what fails there has changed nothing.

    Raises:
        BackendNotReached: It cannot be known now.
    """
    with looking_first():
        return understood(call, _CALLED)


def _verify_is_taken(answer: Answer) -> None:
    status = answer.status
    is_redirect = 300 <= status < 400  # noqa: PLR2004 - of HTTP
    failure: BackendUnavailable
    if is_redirect:
        message = f"the Vault server points to another server (HTTP {status}), which is not followed"
        failure = BackendNotReached(message, hint="let the address lead to the active server")
    elif status in _NOT_TAKEN:
        what = {429: "is asked too often", 503: "is sealed, or being maintained"}.get(status, "is not ready")
        failure = BackendNotReached(f"the Vault server {what} (HTTP {status})", hint="try again later")
    elif status >= 500:  # noqa: PLR2004 - of HTTP
        message = f"the Vault server reports an error of its own (HTTP {status})"
        failure = BackendUnavailable(message, hint="try again later")
    else:
        return
    failure.retry_after_s = answer.retry_after_s
    raise failure


def _is_denial(answer: Answer) -> bool:
    return answer.status in {401, 403} or (answer.status == 400 and _NO_TOKEN in answer.said)  # noqa: PLR2004 - of HTTP


def _missing_right(request: Request) -> str:
    if request.path.startswith(_MOUNTS):
        return "there is no such engine in this namespace, or nothing in it that the token's policy allows"
    right = {"get": "`read`", "delete": "`delete`"}.get(request.verb, "`create` and `update`")
    if request.params and "list" in request.params:
        right = "`list`"
    return f"its policy needs {right} on `{request.path}`"


def _lost(*, is_sent: bool) -> BackendUnavailable:
    if is_sent:
        return BackendUnavailable("no answer came from the Vault server", hint="try again later")
    return BackendNotReached("the Vault server cannot be reached", hint="try again later")


def _not_trusted(*, is_sent: bool) -> BackendUnavailable:
    kind = BackendUnavailable if is_sent else BackendNotReached
    message = "the Vault server has no certificate that is trusted here"
    return kind(message, hint="`cacert` in the URI, or VAULT_CACERT, names its authority")


def _nothing_to_log_in_with(places: str) -> BackendLoginRefused:
    message = "there is nothing to log in to the Vault server with"
    return BackendLoginRefused(message, hint=f"looked for in {places}")


def _no_engine(mount: str) -> BackendRefused:
    message = f"the Vault server has no KV engine at `{mount}`"
    return BackendRefused(message, hint="is it the right namespace? A `/` in a mount point is written as `%2F`")
