"""A small API that issues, lists, tries and revokes tokens, as many have one."""

from __future__ import annotations

import json
import secrets
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

from securecfg.testing.quiet_http import QuietRequest, QuietServer

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterator

ADMIN = "canary-admin-token-4711"


class TokenServer(QuietServer):
    """The tokens: for each id the token, its name and its owner."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Call)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
        self.tokens: dict[str, tuple[str, str, str]] = {}
        self.keys: dict[str, str] = {}
        self.is_idempotent = False
        self.calls: list[str] = []

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def issue(self, name: str, owner: str = "payments") -> tuple[str, str]:
        """Return id and token of a new one."""
        number, token = f"id/{len(self.tokens) + secrets.randbelow(1 << 30)}?é", secrets.token_urlsafe(24)
        self.tokens[number] = (token, name, owner)
        return number, token

    def owner_of(self, token: str) -> str | None:
        return next((owner for known, _, owner in self.tokens.values() if known == token), None)


@contextmanager
def token_server(tls: ssl.SSLContext | None = None) -> Iterator[TokenServer]:
    """Run the server in a thread."""
    server = TokenServer(tls)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


class _Call(QuietRequest):
    def _handle(self) -> None:
        server = cast("TokenServer", self.server)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        server.calls.append(f"{self.command} {self.path}")
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        owner = "admin" if token == ADMIN else server.owner_of(token)
        if owner is None:
            self._answer(401, {"error": f"no such token: {token}"})
        elif owner == "reader" and self.path != "/v1/me":
            self._answer(403, {"error": f"not for {token}"})
        elif self.command == "POST":
            key = self.headers["Idempotency-Key"]
            number = server.keys.get(key) if server.is_idempotent else None
            if number is None or number not in server.tokens:
                number, _ = server.issue(json.loads(body)["name"])
                server.keys[key] = number
            self._answer(201, {"data": {"token": server.tokens[number][0], "id": number}})
        elif self.command == "DELETE":
            from urllib.parse import unquote

            found = server.tokens.pop(unquote(self.path.removeprefix("/v1/tokens/")), None)
            self._answer(200 if found else 404, {})
        elif self.path == "/v1/tokens":
            listed = [{"data": {"id": number}, "name": each[1]} for number, each in server.tokens.items()]
            self._answer(200, {"items": listed})
        else:
            self._answer(200, {"owner": owner})

    do_GET = do_POST = do_DELETE = _handle  # noqa: N815 - as http.server calls them

    def _answer(self, status: int, document: object) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
