"""An agent or server of Consul: tokens, and what an answer means.

Consul gives an error as plain text. Its words, those of its `structs/errors.go` and `acl/errors.go`, tell what was
refused before it was taken. They are never shown.
"""

from __future__ import annotations

import json
import os
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar
from urllib.parse import quote, urlencode

from securecfg.backends.answers import understood
from securecfg.backends.doubt import looking_first
from securecfg.errors import (
    BackendDenied,
    BackendLoginRefused,
    BackendNotReached,
    BackendRefused,
    BackendUnavailable,
    SecurecfgError,
    SettingMissing,
    ValueTooLarge,
)
from securecfg.http_client import ANSWER_S, Answer, HttpClient, Place, Request, is_endpoint
from securecfg.keys.credentials import CredentialMissing, find_credential
from securecfg.keys.per_process import PerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from securecfg.secret import Secret

T = TypeVar("T")

INDEX = "x-consul-index"
PERMISSION_DENIED = "Permission denied"

_CALLED = "the Consul agent"
_LOCAL = "127.0.0.1:8500"
_FILTERED = "x-consul-results-filtered-by-acls"
_NO_TOKEN = "ACL not found"  # noqa: S105 - a message
_ENTERPRISE = "Consul Enterprise feature"
_REFUSED_TOKEN = (
    BackendLoginRefused,
    "takes the token for none",
    "`consul acl token read -self` says whether it has ended",
)
_REFUSALS: dict[int, tuple[type[SecurecfgError], str, str]] = {
    401: _REFUSED_TOKEN,
    403: _REFUSED_TOKEN,
    404: (BackendRefused, "has no KV store at `/v1/kv/`", "is it a Consul agent that the address leads to?"),
    413: (
        ValueTooLarge,
        "takes no request of that size",
        "`limits.txn_max_req_len` of Consul says how long one may be",
    ),
    429: (BackendNotReached, "is asked too often", "try again later"),
}
# What is said before a request is handed to who would do it.
_NOT_TAKEN = (
    "No cluster leader",
    "No path to datacenter",
    "Remote DC has no server currently reachable",
    "No known Consul servers",
    "RPC rate limit exceeded",
    "rate limit exceeded",
)


class Where(NamedTuple):
    """Where the agent is and whose keys are meant; what is empty is found as the program `consul` finds it.

    Attributes:
        endpoint: Else that of `CONSUL_HTTP_ADDR`, else this machine's agent.
        datacenter: Else the agent's.
        namespace: Else that of `CONSUL_NAMESPACE`, where there may be none.
        partition: Else that of `CONSUL_PARTITION`, where there may be none.
        authority: Else what `CONSUL_CACERT` or `CONSUL_CAPATH` names.
        certificate: Else the file that `CONSUL_CLIENT_CERT` names.
        key: Else the file that `CONSUL_CLIENT_KEY` names.
        server_name: Else that of `CONSUL_TLS_SERVER_NAME`.
    """

    endpoint: str = ""
    datacenter: str = ""
    namespace: str = ""
    partition: str = ""
    authority: str = ""
    certificate: str = ""
    key: str = ""
    server_name: str = ""


class Credential(NamedTuple):
    """Where the token is; what is empty is found as the program `consul` finds it.

    Attributes:
        file: It lies in, else the one that `CONSUL_HTTP_TOKEN_FILE` names.
        variable: It lies in, else `CONSUL_HTTP_TOKEN`.
        given: What stands before variables of the environment, by their names.
    """

    file: str = ""
    variable: str = ""
    given: Mapping[str, Secret[str]] = MappingProxyType({})


class ConsulServer:
    """Asks one agent. May be used by many threads and by a forked child.

    Args:
        where: The agent.
        credential: Where its token is.
        folder: What is read to find out whether there are namespaces and partitions.
    """

    def __init__(self, where: Where, credential: Credential, folder: str) -> None:
        """Call nothing yet."""
        self._credential, self._folder = credential, folder
        self._agents = PerProcess(lambda: _Agent(where))

    def get(self, key: str, params: Mapping[str, str], pick: Callable[[Answer], T], wait_s: float = 0.0) -> T:
        """Return what `pick` makes of the answer, which makes no sense where a lookup, type or value fails in it.

        Args:
            key: Or what keys begin with.
            params: After the question mark.
            pick: Takes an answer apart whose status is 200, or 404 where there is no such key.
            wait_s: How long the agent may take besides.

        Raises:
            BackendLoginRefused: There is no token, or none that is taken.
            BackendDenied: It may not do this, or not see all that is asked for.
            BackendNotReached: The agent was not reached, or refused before it took the request.
            BackendUnavailable: It failed, or what it answers makes no sense.
            BackendRefused: It refuses.
            SettingMissing: Its address is not usable.
        """
        agent = self._agents.get()
        request = Request("GET", agent.target(f"kv/{quote(key)}", params), {}, None, ANSWER_S + wait_s)
        return understood(lambda: pick(self._read(agent, request)), _CALLED)

    def transact(self, operations: Sequence[Mapping[str, Any]], pick: Callable[[Answer], T]) -> T:
        """Return what `pick` makes of the answer to a transaction of operations on keys.

        Args:
            operations: What each is, as JSON.
            pick: Takes an answer apart whose status is 200, or 409 where nothing was done.

        Raises:
            ValueTooLarge: The agent takes no request of that size.
            SecurecfgError: As `get`.
        """
        agent = self._agents.get()
        if agent.tenancy and not agent.has_tenancy:
            # Without namespaces a transaction would be made in the only one there is, whatever it says.
            with looking_first():
                self.get(self._folder, {"keys": "", "separator": "/"}, _none)
            agent.has_tenancy = True
        body = json.dumps([{"KV": {**operation, **agent.tenancy}} for operation in operations], ensure_ascii=False)
        headers = {"Content-Type": "application/json"}
        request = Request("PUT", agent.target("txn", {}), headers, body.encode())

        def ask() -> T:
            answer = self._asked(agent, request)
            if answer.status not in {200, 409}:
                self._refuse(answer)
            return pick(answer)

        return understood(ask, _CALLED)

    def denied(self) -> SecurecfgError:
        """Return the error for what the token may not do, or for what cannot be done without one."""
        if self._token():
            message = "the Consul agent does not let this token do that"
            return BackendDenied(message, hint='its policies need `key_prefix "FOLDER/"` with `read`, or `write`')
        message = "the Consul agent wants a token"
        return BackendLoginRefused(message, hint=f"looked for in {self._places}")

    def _read(self, agent: _Agent, request: Request) -> Answer:
        answer = self._asked(agent, request)
        if answer.status not in {200, 404} or INDEX not in answer.headers:
            self._refuse(answer)
        if answer.headers.get(_FILTERED) == "true":
            message = "the Consul agent leaves out what this token may not read"
            raise BackendDenied(message, hint="its policies need `read` on all that begins with what was asked for")
        return answer

    def _asked(self, agent: _Agent, request: Request) -> Answer:
        token = self._token()
        headers = {**request.headers, **({"X-Consul-Token": token} if token else {})}
        return agent.client.ask(request._replace(headers=headers))

    def _refuse(self, answer: Answer) -> NoReturn:
        failure = self._refusal(answer.status, answer.body.decode("utf-8", "replace"))
        if isinstance(failure, BackendUnavailable):
            failure.retry_after_s = answer.retry_after_s
        raise failure

    def _refusal(self, status: int, words: str) -> SecurecfgError:
        if status == 403 and _NO_TOKEN not in words:  # noqa: PLR2004 - of HTTP
            return self.denied()
        kind, message, hint = _what_failed(status, words)
        return kind(f"{_CALLED} {message} (HTTP {status})", hint=hint)

    def _token(self) -> str:
        """Return the token as it is now, an empty text where there is none.

        Raises:
            BackendLoginRefused: It is not where the URI says, or is none.
        """
        file, variable, given = self._credential
        if not file and not variable and not given:
            file = "" if os.environ.get("CONSUL_HTTP_TOKEN") else os.environ.get("CONSUL_HTTP_TOKEN_FILE", "")
            if not file and not os.environ.get("CONSUL_HTTP_TOKEN"):
                return ""
        try:
            token = find_credential(file, variable or "CONSUL_HTTP_TOKEN", given=given)
        except CredentialMissing:
            token = ""
        if token and token.isascii() and token.isprintable():
            return token
        message = "there is no token for the Consul agent where it should be"
        raise BackendLoginRefused(message, hint=f"looked for in {self._places}")

    @property
    def _places(self) -> str:
        return self._credential.file or self._credential.variable or "CONSUL_HTTP_TOKEN, CONSUL_HTTP_TOKEN_FILE"


class _Agent:
    """What one process has: connections, and whether there are namespaces and partitions.

    Attributes:
        client: The connections.
        tenancy: In which namespace and partition a key is, as an operation says it.
        has_tenancy: Whether the agent is known to have such.
    """

    def __init__(self, where: Where) -> None:
        self.client = HttpClient(_CALLED, _place(where), "`cacert` in the URI, or CONSUL_CACERT, names its authority")
        self.has_tenancy = False
        tenancy = {
            "Namespace": where.namespace or os.environ.get("CONSUL_NAMESPACE", ""),
            "Partition": where.partition or os.environ.get("CONSUL_PARTITION", ""),
        }
        self.tenancy = {name: value for name, value in tenancy.items() if value}
        self._params = {
            name: value
            for name, value in (
                ("dc", where.datacenter),
                ("ns", tenancy["Namespace"]),
                ("partition", tenancy["Partition"]),
            )
            if value
        }

    def target(self, path: str, params: Mapping[str, str]) -> str:
        """Return what is asked, with the data center, namespace and partition that are meant."""
        query = urlencode({**params, **self._params})
        return f"/v1/{path}?{query}" if query else f"/v1/{path}"


def _place(where: Where) -> Place:
    """Return where to ask.

    Raises:
        SettingMissing: What is sent would cross the network in the clear, or the address is none.
    """
    certificate, key = where.certificate, where.key
    if not certificate:
        certificate, key = os.environ.get("CONSUL_CLIENT_CERT", ""), os.environ.get("CONSUL_CLIENT_KEY", "")
    endpoint = where.endpoint or os.environ.get("CONSUL_HTTP_ADDR") or _LOCAL
    if "://" not in endpoint:
        is_tls = os.environ.get("CONSUL_HTTP_SSL", "").lower() in {"1", "t", "true"}
        endpoint = f"{'https' if is_tls else 'http'}://{endpoint}"
    if not is_endpoint(endpoint):
        message = "the address of the Consul agent is neither `https://` nor this machine"
        raise SettingMissing(message, hint="set CONSUL_HTTP_ADDR, for instance to `https://consul.internal:8501`")
    authority = where.authority or os.environ.get("CONSUL_CACERT") or os.environ.get("CONSUL_CAPATH", "")
    server_name = where.server_name or os.environ.get("CONSUL_TLS_SERVER_NAME", "")
    return Place((endpoint,), authority, certificate, key, server_name)


def _what_failed(status: int, words: str) -> tuple[type[SecurecfgError], str, str]:
    """Return the error for a refusal that is no matter of rights.

    Raises:
        ValueError: It is none.
    """
    if status < 300:  # noqa: PLR2004 - of HTTP
        raise ValueError
    if status in _REFUSALS:
        return _REFUSALS[status]
    if _ENTERPRISE in words:
        return BackendRefused, "knows no namespaces or partitions", "only Consul Enterprise has such"
    if status < 500:  # noqa: PLR2004 - of HTTP
        return BackendRefused, "refuses what was asked", "its own log says why"
    if any(each in words for each in _NOT_TAKEN):
        hint = "try again later; is there such a `dc`? `consul operator raft list-peers` shows the leader"
        return BackendNotReached, "finds no server that would do it", hint
    return BackendUnavailable, "reports an error of its own", "try again later"


def _none(_answer: Answer) -> None:
    """Take an answer for one, whatever it holds."""
