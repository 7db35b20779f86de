"""A proxy between a client and an HTTP server that hands on what it is sent, until it is told to do otherwise."""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, NamedTuple, Self, cast

from securecfg.testing.quiet_http import QuietRequest, QuietServer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from http.client import HTTPResponse
    from ssl import SSLContext

_HOP_BY_HOP = frozenset({"connection", "keep-alive", "trailer", "transfer-encoding", "content-length"})


@dataclass(frozen=True, slots=True)
class Delay:
    """Hand on what is sent after a while."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Reset:
    """Break off the connection without an answer."""


@dataclass(frozen=True, slots=True)
class CutOff:
    """Hand on the request, and break off the connection in the middle of the answer."""


@dataclass(frozen=True, slots=True)
class Silence:
    """Take the request and never answer."""


@dataclass(frozen=True, slots=True)
class SlowBody:
    """Hand on the request, and send the answer's body byte by byte."""

    pause_s: float


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer without asking the server."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


Fault = Delay | Reset | CutOff | Silence | SlowBody | Answer


class Exchange(NamedTuple):
    """A request that came in.

    Attributes:
        method: The verb.
        path: With its query.
        headers: Names in lower case.
        body: What was sent.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class FaultyProxy:
    """The proxy, which listens on a port of its own from the beginning of a `with` block to its end.

    Args:
        host: Where the server is.
        port: On which port.
        tls: With whose certificates to answer a client that asks for a tunnel to an `https://` host. The proxy is then
            what `HTTPS_PROXY` names, and every host is this server.

    Attributes:
        exchanges: All requests so far.
    """

    def __init__(self, host: str, port: int, *, tls: SSLContext | None = None) -> None:
        """Hand everything on."""
        self.exchanges: list[Exchange] = []
        self.tls = tls
        self._upstream = (host, port)
        self._lock = threading.Lock()
        self._always: Fault | None = None
        self._next: list[Fault] = []
        self._under_way = set[socket.socket]()
        self._closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Connection)
        self._server.proxy = self

    def __enter__(self) -> Self:
        """Begin to listen."""
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """Stop, and let everybody go who waits for an answer."""
        self._closing.set()
        self.break_off()
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def fail(self, fault: Fault | None) -> None:
        """Show a fault from now on, or none."""
        self._always = fault

    def fail_next(self, *faults: Fault) -> None:
        """Show these faults, one for each of the next requests."""
        with self._lock:
            self._next.extend(faults)

    def take(self, exchange: Exchange) -> Fault | None:
        """Note a request, and return what to do instead of handing it on."""
        with self._lock:
            self.exchanges.append(exchange)
            return self._next.pop(0) if self._next else self._always

    def ask(self, exchange: Exchange) -> Answer:
        """Return what the server answers."""
        with self.asking(exchange) as response:
            return Answer(response.status, response.read(), dict(response.getheaders()))

    @contextmanager
    def asking(self, exchange: Exchange) -> Iterator[HTTPResponse]:
        """Give what the server answers while it comes in; `break_off` breaks it off."""
        connection = HTTPConnection(*self._upstream, timeout=30)
        connection.connect()
        upstream = connection.sock
        try:
            connection.request(exchange.method, exchange.path, exchange.body, dict(exchange.headers))
            with connection.getresponse() as response:
                self._under_way.add(upstream)
                yield response
        finally:
            self._under_way.discard(upstream)
            connection.close()

    def break_off(self) -> None:
        """Break off all answers that are under way."""
        for upstream in self._under_way.copy():
            with suppress(OSError):  # it came to its end by itself
                upstream.shutdown(socket.SHUT_RDWR)

    def wait(self, seconds: float | None) -> None:
        """Wait, at most until the proxy closes."""
        self._closing.wait(seconds)


class _Server(QuietServer):
    proxy: FaultyProxy


class _Connection(QuietRequest):
    def handle_request(self) -> None:
        """Do what the proxy was told to do with a request."""
        proxy = cast("_Server", self.server).proxy
        length = int(self.headers.get("Content-Length", 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        exchange = Exchange(self.command, self.path, headers, self.rfile.read(length))
        match proxy.take(exchange):
            case Answer() as answer:
                self._send(answer)
            case Reset():
                self._reset()
            case Silence():
                proxy.wait(None)
                self._reset()
            case CutOff():
                answer = proxy.ask(exchange)
                self._send_head(answer)
                self.wfile.write(answer.body[: len(answer.body) // 2])
                self._reset()
            case SlowBody(pause_s):
                answer = proxy.ask(exchange)
                self._send_head(answer)
                for byte in answer.body:
                    proxy.wait(pause_s)
                    self.wfile.write(bytes((byte,)))
            case Delay(seconds):
                proxy.wait(seconds)
                self._send(proxy.ask(exchange))
            case None:
                with proxy.asking(exchange) as response:
                    self._hand_on(response)

    def _hand_on(self, response: HTTPResponse) -> None:
        headers = dict(response.getheaders())
        if not response.chunked:
            self._send(Answer(response.status, response.read(), headers))
            return
        # It may have no end, as that of a watch: each piece is handed on when it comes.
        pieces = iter(lambda: response.read1(65_536), b"")
        self._send_start(Answer(response.status, b"", headers))
        is_chunked = self.request_version == "HTTP/1.1"
        self.send_header(*(("Transfer-Encoding", "chunked") if is_chunked else ("Connection", "close")))
        self.end_headers()
        try:
            for piece in pieces:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece)
        except HTTPException:
            self._reset()
            return
        if is_chunked:
            self.wfile.write(b"0\r\n\r\n")

    def do_CONNECT(self) -> None:  # noqa: N802 - as the protocol calls it
        """Go on with TLS, and read what would have gone through the tunnel."""
        tls = cast("_Server", self.server).proxy.tls
        if tls is None:
            self._send(Answer(405, b""))
            return
        self.send_response_only(200)
        self.end_headers()
        self.request = self.connection = tls.wrap_socket(self.connection, server_side=True)
        super().setup()
        self.close_connection = False  # clients ask for tunnels in HTTP/1.0

    def finish(self) -> None:
        """Close a connection that went on with TLS, which the server does not know."""
        super().finish()
        self.connection.close()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_request  # noqa: N815 - as the base class calls them

    def _send(self, answer: Answer) -> None:
        self._send_head(answer)
        self.wfile.write(answer.body)

    def _send_start(self, answer: Answer) -> None:
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)

    def _send_head(self, answer: Answer) -> None:
        self._send_start(answer)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()

    def _reset(self) -> None:
        # Without lingering the peer gets a reset instead of an orderly end.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True
