"""Connections to a server that is asked over HTTP without a client of its vendor's: one request, one answer.

Connections are kept and used again. TLS is verified, a redirect is not followed, and what is for this machine itself
passes no proxy. A request is sent once; whether it may have arrived decides which error it ends with.
"""

from __future__ import annotations

import os
import select
import time
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException
from socket import IPPROTO_TCP, SO_KEEPALIVE, SOL_SOCKET, TCP_KEEPCNT, TCP_KEEPIDLE, TCP_KEEPINTVL
from ssl import SSLCertVerificationError, SSLContext, SSLError
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urlsplit

from securecfg.addresses import is_safe_address, is_this_machine
from securecfg.errors import (
    BackendLoginRefused,
    BackendNotReached,
    BackendUnavailable,
    SecurecfgError,
    SettingMissing,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from http.client import HTTPResponse
    from socket import socket
    from urllib.parse import SplitResult

CONNECT_S = 3.0
ANSWER_S = 10.0
BODY_S = 25.0
"""For the whole of a body, however steadily it comes in."""
BODY_BYTES_MAX = 1 << 27

_IDLE_MAX = 32
_PIECE_BYTES = 1 << 16
_KEEP_ALIVE = {TCP_KEEPIDLE: 20, TCP_KEEPINTVL: 10, TCP_KEEPCNT: 3}
_PORTS = {"http": 80, "https": 443}
# What a server says in TLS of a client's certificate that is missing or wrong, before it takes a request.
_CERTIFICATE_REFUSED = frozenset(
    {
        "SSLV3_ALERT_BAD_CERTIFICATE",
        "SSLV3_ALERT_CERTIFICATE_EXPIRED",
        "SSLV3_ALERT_CERTIFICATE_REVOKED",
        "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
        "TLSV13_ALERT_CERTIFICATE_REQUIRED",
        "TLSV1_ALERT_UNKNOWN_CA",
    }
)


class Place(NamedTuple):
    """Where a server is, and how it and its client know each other.

    Attributes:
        endpoints: `https://`, or `http://` to this machine itself; all lead to the same, so the first that is reached
            is asked.
        authority: The file or folder of the authorities that its certificate is checked with, else those that are
            trusted anyway.
        certificate: The file of the certificate that the client shows.
        key: The file of its private key, where it is not in the same file.
        server_name: Whose certificate it must be, where not that of the endpoint's host.
    """

    endpoints: tuple[str, ...]
    authority: str = ""
    certificate: str = ""
    key: str = ""
    server_name: str = ""


class Request(NamedTuple):
    """What is asked.

    Attributes:
        verb: Of HTTP.
        target: The path below the endpoint with its query, encoded.
        headers: Names and values in printable ASCII.
        body: What is sent.
        answer_s: How long the server may take to begin to answer.
        body_bytes_max: How long the body of its answer may be.
    """

    verb: str
    target: str
    headers: Mapping[str, str]
    body: bytes | None = None
    answer_s: float = ANSWER_S
    body_bytes_max: int = BODY_BYTES_MAX


class Answer(NamedTuple):
    """What a server answers, neither 3xx nor cut off.

    Attributes:
        status: Of HTTP.
        body: The whole of it.
        headers: Names in lower case.
    """

    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def retry_after_s(self) -> float:
        """When to come back, in seconds; 0 where the server does not say."""
        return parse_retry_after(self.headers.get("retry-after"))


def is_endpoint(address: str) -> bool:
    """Return whether an address can be an endpoint: what it is sent crosses no network in the clear."""
    try:
        parts = urlsplit(address)
        return is_safe_address(address) and parts.port != 0 and not set("@?#") & set(address)
    except ValueError:  # of the port
        return False


class HttpClient:
    """Asks one server. May be used by many threads of one process; a forked child makes another one.

    Args:
        server: What it is called in an error, such as `the etcd server`.
        place: Where it is.
        hint: What names the authority of its certificate.
    """

    def __init__(self, server: str, place: Place, hint: str) -> None:
        """Connect to nothing yet."""
        self._server, self._place, self._hint = server, place, hint
        self._connections = _Connections()

    def ask(self, request: Request) -> Answer:
        """Return the answer to a request, which is sent once.

        Raises:
            BackendNotReached: It did not arrive, or the server points to another one.
            BackendUnavailable: No answer came, or one that breaks off.
            BackendLoginRefused: The server refuses the certificate that the client shows.
            SettingMissing: A file that connections need cannot be read.
        """
        connection = self._connections.take() or self._connect()
        failure: SecurecfgError
        try:
            response = connection.ask(request)
            answer = Answer(response.status, _read_all(response, request.body_bytes_max), _headers_of(response))
        except (OSError, HTTPException, ValueError) as error:
            connection.close()
            failure = self._lost(error)
        else:
            if not response.will_close:
                self._connections.give(connection)
            self._verify_own(answer.status)
            return answer
        raise failure  # here, so that it drags along no frame

    def stream(self, request: Request) -> Answer | Stream:
        """Return a body that has no end of its own, or an answer where the status is another than 200.

        Raises:
            SecurecfgError: As `ask`.
        """
        connection = self._connect()
        failure: SecurecfgError
        try:
            socket, response = connection.stream(request)
            if response.status == 200:  # noqa: PLR2004 - of HTTP
                return Stream(self._server, connection, socket, response)
            answer = Answer(response.status, _read_all(response, request.body_bytes_max), _headers_of(response))
        except (OSError, HTTPException, ValueError) as error:
            connection.close()
            failure = self._lost(error)
        else:
            connection.close()
            self._verify_own(answer.status)
            return answer
        raise failure

    def _connect(self) -> _Connection:
        """Return a connection to the first endpoint that can be reached, beginning with the one reached last."""
        endpoints, connections = self._place.endpoints, self._connections
        failure: SecurecfgError | None = None
        for turn in range(len(endpoints)):
            number = (connections.endpoint + turn) % len(endpoints)
            connection = self._connection_to(urlsplit(endpoints[number]))
            try:
                connection.connect()
            except SSLCertVerificationError:
                message = f"{self._server} has no certificate that is trusted here"
                failure = BackendNotReached(message, hint=self._hint)
            except (OSError, HTTPException, ValueError):
                failure = failure or BackendNotReached(f"{self._server} cannot be reached", hint="try again later")
            else:
                connections.endpoint = number
                return connection
            connection.close()
        raise failure or BackendNotReached(f"{self._server} cannot be reached")

    def _connection_to(self, endpoint: SplitResult) -> _Connection:
        host, port = endpoint.hostname or "", endpoint.port or _PORTS[endpoint.scheme]
        if endpoint.scheme == "http":
            return _Connection(endpoint, host, port, None)
        tls = _Tls(self._tls(), self._place.server_name or host)
        proxy = None if is_this_machine(host) else _proxy_for(host)
        if proxy is None:
            return _Connection(endpoint, host, port, tls)
        connection = _Connection(endpoint, proxy.hostname or "", proxy.port or _PORTS["http"], tls)
        connection.set_tunnel(host, port, _proxy_login(proxy))
        return connection

    def _tls(self) -> SSLContext:
        """Return how TLS is spoken, made anew for each connection: certificates that are short-lived are replaced."""
        from ssl import create_default_context

        authority, certificate, key = self._place.authority, self._place.certificate, self._place.key
        try:
            is_folder = os.path.isdir(authority)  # noqa: PTH112 - `pathlib` is not loaded for it
            context = create_default_context(
                cafile=authority if authority and not is_folder else None, capath=authority if is_folder else None
            )
        except OSError:
            context = None
        if context is None:
            message = f"the file of the authority of {self._server} cannot be read"
            raise SettingMissing(message, hint=self._hint)
        if not certificate:
            return context
        try:
            context.load_cert_chain(certificate, key or None, _no_passphrase)
            return context
        except (OSError, ValueError):
            message = f"the certificate to show to {self._server}, or its key, cannot be read"
        raise BackendLoginRefused(message, hint="both are PEM, and the key has no passphrase")

    def _lost(self, error: Exception) -> SecurecfgError:
        if isinstance(error, SSLError) and error.reason in _CERTIFICATE_REFUSED:
            message = f"{self._server} does not take the certificate that it is shown, or is shown none"
            return BackendLoginRefused(message, hint="see the backend's page for how a certificate is named")
        return BackendUnavailable(f"no answer came from {self._server}", hint="try again later")

    def _verify_own(self, status: int) -> None:
        if 300 <= status < 400:  # noqa: PLR2004 - of HTTP
            message = f"{self._server} points to another server (HTTP {status}), which is not followed"
            raise BackendNotReached(message, hint="name the server itself")


class Stream:
    """A body that comes in bit by bit and has no end of its own.

    Args:
        server: What the server is called in an error.
        connection: Which is this object's alone.
        socket: What it is read from, whether or not the connection has let go of it.
        response: Whose head has been read.
    """

    def __init__(self, server: str, connection: HTTPConnection, socket: socket, response: HTTPResponse) -> None:
        """Read nothing more yet."""
        self._server, self._connection, self._socket, self._response = server, connection, socket, response
        self._is_begun = False

    def read(self, wait_s: float) -> bytes | None:
        """Return what has come in, an empty text at the end, None where nothing came within a time.

        Raises:
            BackendUnavailable: The connection was lost.
        """
        try:
            if not self._is_begun:
                # What came in together with the head lies in a buffer, which this empties. Nothing is read through it
                # afterwards, as it refuses to be read from once a time limit has passed.
                self._is_begun = True
                return self._response.fp.read1(_PIECE_BYTES)
            self._socket.settimeout(wait_s)
            return self._socket.recv(_PIECE_BYTES)
        except TimeoutError:
            return None
        except (OSError, HTTPException, ValueError):
            message = f"the connection to {self._server} was lost"
        raise BackendUnavailable(message, hint="try again later")

    def close(self) -> None:
        """Let the server know that nobody listens any more."""
        self._response.close()
        self._socket.close()
        self._connection.close()


class _Connections:
    """The connections of one process that nobody is using.

    Attributes:
        endpoint: The number of the endpoint that was reached last.
    """

    def __init__(self) -> None:
        self.endpoint = 0
        self._idle: list[_Connection] = []

    def take(self) -> _Connection | None:
        """Return a connection that the server has not closed meanwhile, so that no request is sent into the void."""
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:  # another thread was faster
                break
            if connection.is_open():
                return connection
            connection.close()
        return None

    def give(self, connection: _Connection) -> None:
        if len(self._idle) < _IDLE_MAX:
            self._idle.append(connection)
        else:
            connection.close()


class _Tls(NamedTuple):
    context: SSLContext
    server_name: str


class _Connection(HTTPConnection):
    def __init__(self, endpoint: SplitResult, host: str, port: int, tls: _Tls | None) -> None:
        super().__init__(host, port, timeout=CONNECT_S)
        self._called, self._folder, self._tls = endpoint.netloc, endpoint.path.rstrip("/"), tls

    def connect(self) -> None:
        super().connect()  # through the tunnel, where there is one
        if self._tls is not None:
            self.sock = self._tls.context.wrap_socket(self.sock, server_hostname=self._tls.server_name)

    def __del__(self) -> None:
        """Close it with the last who knows it. What a forked child lets go of stays open in its parent."""
        self.close()

    def is_open(self) -> bool:
        """Return whether the server has neither closed it nor sent what nobody asked for."""
        return self.sock is not None and not _has_news(self.sock)

    def ask(self, request: Request) -> HTTPResponse:
        self.sock.settimeout(request.answer_s)
        self.request(request.verb, self._folder + request.target, request.body, dict(request.headers))
        return self.getresponse()

    def stream(self, request: Request) -> tuple[socket, HTTPResponse]:
        """Ask in HTTP/1.0, in which a body is not cut into chunks and can be read as it comes in."""
        self._http_vsn, self._http_vsn_str = 10, "HTTP/1.0"
        connection = self.sock  # the connection lets go of it when the head has been read
        # A server that is gone without a word would look like one that has nothing to say.
        connection.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
        for option, seconds_or_count in _KEEP_ALIVE.items():
            connection.setsockopt(IPPROTO_TCP, option, seconds_or_count)
        return connection, self.ask(request._replace(headers={"Host": self._called, **request.headers}))


def parse_date(text: str | None) -> datetime | None:
    """Return the time that a header tells, None where it tells none."""
    try:
        found = parsedate_to_datetime(text or "")
    except ValueError:
        return None
    return found if found.tzinfo else None


def parse_retry_after(text: str | None) -> float:
    """Return how many seconds a `Retry-After` means, which is a number of them or a date; 0 where it means none."""
    if text and text.isascii() and text.isdigit():
        return float(text)
    until = parse_date(text)
    return max(0.0, (until - datetime.now(UTC)) / timedelta(seconds=1)) if until else 0.0


def _read_all(response: HTTPResponse, bytes_max: int) -> bytes:
    """Return a body.

    Raises:
        TimeoutError: It does not come to an end.
        ValueError: It is too long.
        OSError, HTTPException: It breaks off.
    """
    until = time.monotonic() + BODY_S
    pieces, left, size = [], response.length, 0  # the length is None where it is chunked, or ends with the connection
    while left != 0:
        if response.chunked:
            piece = response.read1(_PIECE_BYTES)
        else:  # not by the response, whose `read1` does not count what it has read
            piece = response.fp.read1(_PIECE_BYTES if left is None else min(left, _PIECE_BYTES))
        if not piece:
            break
        pieces.append(piece)
        size += len(piece)
        left = None if left is None else left - len(piece)
        if size > bytes_max:
            message = "the body is too long"
            raise ValueError(message)
        if time.monotonic() > until:
            raise TimeoutError
    if left:
        message = "the body breaks off"
        raise ValueError(message)
    response.close()
    return b"".join(pieces)


def _has_news(connection: socket) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


def _headers_of(response: HTTPResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in response.getheaders()}


def _proxy_for(host: str) -> SplitResult | None:
    """Return the proxy that the environment names for `https://`, None where it names none for this host.

    Raises:
        SettingMissing: It is none that can be asked for a tunnel.
    """
    from urllib.request import getproxies, proxy_bypass

    proxies = getproxies()
    proxy = proxies.get("https")
    if not proxy or proxy_bypass(host, proxies):
        return None
    try:
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        is_usable = parts.scheme == "http" and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if is_usable:
        return parts
    message = "the proxy that HTTPS_PROXY names is none that is `http://`"  # it may hold a password
    raise SettingMissing(message, hint="NO_PROXY names the hosts that are asked without one")


def _proxy_login(proxy: SplitResult) -> dict[str, str]:
    from base64 import b64encode

    if proxy.username is None:
        return {}
    login = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {b64encode(login.encode()).decode()}"}


def _no_passphrase() -> str:
    """Be asked instead of whoever sits at the terminal."""
    return ""
