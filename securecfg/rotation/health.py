"""How a daemon is, over HTTP: `/livez`, `/readyz` and `/metrics`. No answer names a secret or a principal."""

from __future__ import annotations

import io
import socket
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import TYPE_CHECKING, NamedTuple

from securecfg.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from securecfg.rotation.daemon import Daemon
    from securecfg.rotation.metrics import Metrics

PORT_MAX = 65_535
_READ_BYTES = 1_024
_TEXT = "text/plain; charset=utf-8"


class HealthLimits(NamedTuple):
    """What clients may take.

    Attributes:
        requests: How many are answered at once; another one is turned away.
        request_s: How long one may take from its first byte to the last of its answer.
        request_bytes: How long a request may be, with its headers.
    """

    requests: int = 16
    request_s: float = 5.0
    request_bytes: int = 8_192


class _Answer(NamedTuple):
    status: HTTPStatus
    body: bytes
    content_type: str = _TEXT


class HealthServer:
    """Answers in threads of its own, from `with` until its end.

    Args:
        daemon: Whose health.
        metrics: What is counted, None for none.
        host: Where to listen.
        port: At which port; 0 takes any.
        limits: What clients may take.

    Attributes:
        port: The port.

    Raises:
        UsageError: Nobody can listen there.
    """

    def __init__(
        self,
        daemon: Daemon,
        metrics: Metrics | None,
        host: str,
        port: int,
        *,
        limits: HealthLimits = HealthLimits(),  # noqa: B008 - a tuple, which nobody changes
    ) -> None:
        """Listen; answer nothing yet."""

        def answer(path: str) -> _Answer:
            return _answer(path, daemon, metrics)

        try:
            self._server = _Server((host, port), answer, limits)
        except OSError:
            message = f"nobody can listen at port {port} of `{host}`"
            raise UsageError(message, hint="another process may do so; choose another port") from None
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="securecfg-health", daemon=True)

    def __enter__(self) -> Self:
        """Answer from now on."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _answer(path: str, daemon: Daemon, metrics: Metrics | None) -> _Answer:
    if path == "/livez":
        return _verdict(daemon.health().is_alive, "does not look around any more")
    if path == "/readyz":
        health = daemon.health()
        return _verdict(health.is_ready, health.reason or "does not look around any more")
    if path == "/metrics" and metrics is not None:
        return _Answer(HTTPStatus.OK, metrics.text(), metrics.content_type)
    return _Answer(HTTPStatus.NOT_FOUND, b"/livez /readyz /metrics\n")


def _verdict(is_well: bool, reason: str) -> _Answer:  # noqa: FBT001 - what is asked
    if is_well:
        return _Answer(HTTPStatus.OK, b"ok\n")
    return _Answer(HTTPStatus.SERVICE_UNAVAILABLE, f"{reason}\n".encode())


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], answer: Callable[[str], _Answer], limits: HealthLimits) -> None:
        self.answer, self.limits = answer, limits
        self._turns = threading.BoundedSemaphore(limits.requests)
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        super().__init__(address, _Request)

    def server_bind(self) -> None:
        """Listen, without asking anybody for the name of this machine as the standard library's own server does."""
        TCPServer.server_bind(self)

    def process_request(self, request: socket.socket | tuple[bytes, socket.socket], client_address: object) -> None:
        if not self._turns.acquire(blocking=False):
            self.shutdown_request(request)  # who asks too much is not answered
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread can be started
            self._turns.release()
            self.shutdown_request(request)

    def process_request_thread(
        self, request: socket.socket | tuple[bytes, socket.socket], client_address: object
    ) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._turns.release()

    def handle_error(self, _request: object, _client_address: object) -> None:
        """Say nothing: a client that went away is no news."""


class _Bounded(io.RawIOBase):
    """What a client sends, and is sent: so much of it, until a time.

    A limit of each read alone would let a client that sends a byte now and then hold its place for ever.
    """

    def __init__(self, connection: socket.socket, limits: HealthLimits) -> None:
        self._connection = connection
        self._left_bytes = limits.request_bytes
        self._until_s = time.monotonic() + limits.request_s

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]  # what `BufferedReader` gives
        self._limit()
        count = self._connection.recv_into(buffer)
        self._left_bytes -= count
        if self._left_bytes < 0:
            raise TimeoutError
        return count

    def writable(self) -> bool:
        return True

    def write(self, content: memoryview, /) -> int:  # type: ignore[override]  # whatever has bytes
        self._limit()
        self._connection.sendall(content)  # all of it within the time
        return len(content)

    def _limit(self) -> None:
        left_s = self._until_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError
        self._connection.settimeout(left_s)


class _Request(BaseHTTPRequestHandler):
    server_version = "securecfg"
    sys_version = ""

    server: _Server

    def setup(self) -> None:
        self.connection = self.request
        bounded = _Bounded(self.connection, self.server.limits)
        # Reads of a few bytes at once keep to the limit of all of them closely.
        self.rfile = io.BufferedReader(bounded, _READ_BYTES)
        self.wfile = bounded  # type: ignore[assignment]  # `write`, `flush` and `close` are all that is asked of it

    def do_GET(self) -> None:
        self._write(is_whole=True)

    def do_HEAD(self) -> None:
        self._write(is_whole=False)

    def _write(self, *, is_whole: bool) -> None:
        answer = self.server.answer(self.path.partition("?")[0])
        self.send_response(answer.status)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if is_whole:
            self.wfile.write(answer.body)

    def log_message(self, _format: str, *_args: object) -> None:
        """Say nothing: what is asked every few seconds is no news."""
