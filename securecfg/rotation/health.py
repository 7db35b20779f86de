"""How a daemon is, over HTTP: `/livez`, `/readyz` and `/metrics`. No answer names a secret or a principal."""

from __future__ import annotations

import socket
import threading
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

REQUESTS_MAX = 16
TIMEOUT_S = 5.0
PORT_MAX = 65_535
_TEXT = "text/plain; charset=utf-8"


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

    Attributes:
        port: The port.

    Raises:
        UsageError: Nobody can listen there.
    """

    def __init__(self, daemon: Daemon, metrics: Metrics | None, host: str, port: int) -> None:
        """Listen; answer nothing yet."""

        def answer(path: str) -> _Answer:
            return _answer(path, daemon, metrics)

        try:
            self._server = _Server((host, port), answer)
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

    def __init__(self, address: tuple[str, int], answer: Callable[[str], _Answer]) -> None:
        self.answer = answer
        self._turns = threading.BoundedSemaphore(REQUESTS_MAX)
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


class _Request(BaseHTTPRequestHandler):
    timeout = TIMEOUT_S
    server_version = "securecfg"
    sys_version = ""

    server: _Server

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
