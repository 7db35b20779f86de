"""The ground of every HTTP server for tests: many connections at once, kept open, and nothing said of them."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class QuietServer(ThreadingHTTPServer):
    """Takes many connections, does not wait for them at its end, and says nothing of clients that go away."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def handle_error(self, _request: object, _client_address: object) -> None:
        """Say nothing: clients that give up are what tests are for."""


class QuietRequest(BaseHTTPRequestHandler):
    """Keeps its connection, and logs nothing."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, _format: str, *_args: object) -> None:
        """Say nothing."""
