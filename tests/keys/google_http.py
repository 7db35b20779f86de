"""What the doubles of Google's services share: refusals, who asks, and a JSON face by the HTTP rules of the client."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import parse_qsl, urlsplit

import grpc
from google.api_core.exceptions import from_grpc_status
from google.auth import exceptions, jwt

from securecfg.keys.gcp import crc32c
from securecfg.testing.quiet_http import QuietRequest, QuietServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import ModuleType

Code = grpc.StatusCode


class Refusal(Exception):
    """What the service answers instead."""

    def __init__(self, code: grpc.StatusCode, message: str, violation: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.violation = violation

    def to_json(self) -> bytes:
        """Return the body of the answer over HTTP."""
        http = http_status(self.code)
        error: dict[str, Any] = {"code": http, "message": self.message, "status": self.code.name}
        if self.violation:
            kind = "type.googleapis.com/google.rpc.PreconditionFailure"
            error["details"] = [{"@type": kind, "violations": [{"type": self.violation}]}]
        return json.dumps({"error": error}).encode()


def http_status(code: grpc.StatusCode) -> int:
    return from_grpc_status(code, "").code or 500  # type: ignore[no-untyped-call]  # published without types


def refuse(code: grpc.StatusCode, message: str, violation: str = "") -> NoReturn:
    raise Refusal(code, message, violation)


def verify_checksum(field: str, data: bytes, checksum: int | None) -> bool:
    if checksum is not None and checksum != crc32c(data):
        message = f"The checksum in field {field}_crc32c did not match the data in field {field}."
        refuse(Code.INVALID_ARGUMENT, message)
    return checksum is not None


def caller_of(authorization: str, public_key: str, audience: str) -> str:
    """Return the service account that asks, by a token that it has signed by itself.

    Raises:
        Refusal: It is none.
    """
    try:
        token = authorization.removeprefix("Bearer ")
        return str(jwt.decode(token, public_key, audience=audience)["sub"])  # type: ignore[no-untyped-call]  # published without types
    except (exceptions.GoogleAuthError, ValueError):
        refuse(Code.UNAUTHENTICATED, "Request had invalid authentication credentials.")


class Route:
    """A method of the service as HTTP has it."""

    def __init__(self, method: str, rule: Mapping[str, str], request: Any) -> None:  # noqa: ANN401 - one type for each method
        self.method = method
        self._request = request
        self.verb = rule["method"].upper()
        self._body = rule.get("body", "")
        field, template = re.findall(r"\{(.+?)=(.+?)\}", rule["uri"])[0]
        self._field: list[str] = field.split(".")
        before, _, after = rule["uri"].partition(f"{{{field}={template}}}")
        resource = re.escape(template).replace(r"\*\*", ".+").replace(r"\*", "[^/]+")
        self._path = re.compile(f"{re.escape(before)}({resource}){re.escape(after)}")

    def parse(self, url: str, body: bytes) -> Any:  # noqa: ANN401 - one type for each method
        """Return the request, or None where it is for another method."""
        parts = urlsplit(url)
        path = self._path.fullmatch(parts.path)
        if not path:
            return None
        fields: dict[str, Any] = {name: value for name, value in parse_qsl(parts.query) if not name.startswith("$")}
        given = json.loads(body) if body else {}
        if self._body:
            fields |= given if self._body == "*" else {self._body: given}
        inner: Any = fields
        for name in self._field[:-1]:
            inner = inner[name]
        inner[self._field[-1]] = path[1]
        return self._request.from_json(json.dumps(fields))


def routes(rules: type, messages: ModuleType, methods: Iterable[str]) -> list[Route]:
    """Return the routes of methods.

    Args:
        rules: The client's own, of its transport over HTTP.
        messages: Where the classes of requests are.
        methods: Which.
    """
    return [
        Route(method, rule, getattr(messages, f"{method}Request"))
        for method in methods
        for rule in getattr(rules, f"_Base{method}")._get_http_options()
    ]


class JsonFace(QuietRequest):
    """Answers over HTTP."""

    routes: list[Route]
    call: Callable[[str, Any, str], Any]

    def handle_request(self) -> None:
        """Answer one request."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            status, answer = 200, self._ask(body)
        except Refusal as refusal:
            status, answer = http_status(refusal.code), refusal.to_json()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/json; charset=UTF-8")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_PATCH = do_DELETE = handle_request  # noqa: N815 - as the base class calls them

    def _ask(self, body: bytes) -> bytes:
        for route in self.routes:
            request = route.parse(self.path, body) if route.verb == self.command else None
            if request is not None:
                answer = type(self).call(route.method, request, self.headers.get("Authorization", ""))
                return b"{}" if answer is None else str(type(answer).to_json(answer)).encode()
        refuse(Code.NOT_FOUND, "The requested URL was not found on this server.")


class Server(QuietServer):
    """Serves it."""
