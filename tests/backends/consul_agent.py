"""A Consul agent for tests: its published HTTP API as far as keys need it, written from what a real agent answered.

Transactions are all or nothing; one whose keys are as they should be already changes no index; a `cas` of index 0
creates; results that a token may not read are left out; a blocking query waits until its prefix changes. A denied write
is a 409 in a transaction. Tokens, policies for a prefix, namespaces (as Consul Enterprise has them, where it is told)
and limits count.
"""

from __future__ import annotations

import json
import threading
from base64 import b64decode, b64encode
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast
from urllib.parse import parse_qsl, unquote, urlsplit

from securecfg.testing.faulty_proxy import Answer, FaultyProxy
from securecfg.testing.quiet_http import QuietRequest, QuietServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import pytest

TOKEN = "canary-consul-token"
VARIABLES = (
    "HTTP_ADDR",
    "HTTP_TOKEN",
    "HTTP_TOKEN_FILE",
    "HTTP_SSL",
    "CACERT",
    "CAPATH",
    "CLIENT_CERT",
    "CLIENT_KEY",
    "TLS_SERVER_NAME",
    "NAMESPACE",
    "PARTITION",
)
REQUEST_MAX = 524_288
OPERATIONS_MAX = 64
JITTER = 16
MISSING, UNKNOWN, STALE = "key {} doesn't exist", "unknown KV verb {}", "failed to set key {}, index is stale"
DENIED = "Permission denied: token with AccessorID '175a11bd-5762-e491-80ec-9b9b2b9e963e' lacks permission"
DENIED_WRITE = DENIED + " 'key:write' on {}"


@dataclass
class _Entry:
    value: bytes
    created: int
    modified: int
    flags: int = 0


class _Failure(Exception):
    """What an operation of a transaction fails with."""

    def __init__(self, what: str, key: str) -> None:
        super().__init__(what.format(f'"{key}"'))


class _Stop(Exception):
    """An answer with an error in plain text."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.answer = Answer(status, words.encode(), {"Content-Type": "text/plain; charset=utf-8"})


@dataclass
class Rights:
    """What a token may do: with keys that begin with a prefix.

    Attributes:
        read: The prefixes of what it may read.
        write: The prefixes of what it may write.
    """

    read: tuple[str, ...] = ("",)
    write: tuple[str, ...] = ("",)


@dataclass
class ConsulAgent:
    """The agent, which listens on a port of its own from the beginning of a `with` block to its end.

    Attributes:
        keys: What there is, by namespace and key.
        tokens: What each may do; the empty one is of whoever shows none.
        index: Of the last change of all.
        is_enterprise: Whether there are namespaces and partitions.
        knows_get_or_empty: Whether it is of version 1.14 or later.
    """

    keys: dict[tuple[str, str], _Entry] = field(default_factory=dict)
    tokens: dict[str, Rights] = field(default_factory=lambda: {TOKEN: Rights(), "": Rights((), ())})
    index: int = 10
    is_enterprise: bool = False
    knows_get_or_empty: bool = True

    def __post_init__(self) -> None:
        """Hold nothing."""
        self.news = threading.Condition()
        self._graves: dict[tuple[str, str], int] = {}
        self._is_closing = False
        self._server = _Server(("127.0.0.1", 0), _Request)
        self._server.agent = self

    def __enter__(self) -> Self:
        """Begin to listen."""
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """Stop, and let everybody go who waits."""
        with self.news:
            self._is_closing = True
            self.news.notify_all()
        self._server.shutdown()
        self._server.server_close()

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._server.server_address[1]
        return port

    def put(self, key: str, value: bytes, namespace: str = "") -> int:
        """Write as somebody else would, and return the index."""
        with self.news:
            self.index += 1
            self._set((namespace, key), value, 0, self.index)
            self.news.notify_all()
            return self.index

    def remove(self, key: str) -> None:
        """Delete as somebody else would."""
        with self.news:
            self.index += 1
            self._delete(("", key), self.index)
            self.news.notify_all()

    # --- requests -----------------------------------------------------------------------------------------------------

    def answer(self, verb: str, target: str, token: str, body: bytes) -> Answer:
        """Return what a request is answered with."""
        url = urlsplit(target)
        params = dict(parse_qsl(url.query, keep_blank_values=True))
        try:
            if token not in self.tokens:
                raise _Stop(403, "ACL not found")
            if "dc" in params and params["dc"] != "dc1":
                raise _Stop(500, "No path to datacenter")
            if verb == "GET" and url.path.startswith("/v1/kv/"):
                return self._get(unquote(url.path.removeprefix("/v1/kv/")), params, self.tokens[token])
            if verb == "PUT" and url.path == "/v1/txn":
                return self._transact(body, self.tokens[token])
        except _Stop as stop:
            return stop.answer
        return Answer(404, b"Invalid URL path: not a recognized HTTP API endpoint")

    def _get(self, key: str, params: Mapping[str, str], rights: Rights) -> Answer:
        for name, what in (("ns", "Namespaces"), ("partition", "Partitions")):
            if name in params and not self.is_enterprise:
                raise _Stop(400, f'Invalid query parameter: "{name}" - {what} are a Consul Enterprise feature')
        space, is_prefix = params.get("ns", ""), "keys" in params or "recurse" in params
        if not is_prefix and not _may(rights.read, key):
            raise _Stop(403, f"{DENIED} 'key:read' on \"{key}\"")
        with self.news:
            self._wait(lambda: self._index_of(space, key, is_prefix=is_prefix), params)
            index = self._index_of(space, key, is_prefix=is_prefix)
            found = sorted(
                name for at, name in self.keys if at == space and (name.startswith(key) if is_prefix else name == key)
            )
            shown = [name for name in found if _may(rights.read, name)]
            entries = [self._to_json(space, name) for name in shown]
        headers = {"X-Consul-Index": str(index), "Content-Type": "application/json"}
        if len(shown) != len(found):
            headers["X-Consul-Results-Filtered-By-ACLs"] = "true"
        if not (shown if "keys" not in params else found):
            return Answer(404, b"", headers)
        return Answer(200, json.dumps(shown if "keys" in params else entries).encode(), headers)

    def _wait(self, index: Callable[[], int], params: Mapping[str, str]) -> None:
        known = int(params.get("index", 0))
        if known > 0:
            seconds = float(params["wait"].removesuffix("s"))
            self.news.wait_for(lambda: self._is_closing or index() > known, seconds + seconds / JITTER)

    def _index_of(self, space: str, key: str, *, is_prefix: bool) -> int:
        indexes = {name: entry.modified for name, entry in self.keys.items()}
        found = [
            index
            for (at, name), index in (*indexes.items(), *self._graves.items())
            if at == space and (name.startswith(key) if is_prefix else name == key)
        ]
        return max(found, default=self.index)

    def _transact(self, body: bytes, rights: Rights) -> Answer:
        if len(body) > REQUEST_MAX:
            raise _Stop(413, f"Request body({len(body)} bytes) too large, max size: {REQUEST_MAX} bytes.")
        try:
            operations = [each["KV"] for each in json.loads(body)]
        except (ValueError, TypeError, LookupError):
            raise _Stop(400, "Failed to parse body: canary") from None
        if len(operations) > OPERATIONS_MAX:
            raise _Stop(413, f"Transaction contains too many operations ({len(operations)} > {OPERATIONS_MAX})")
        with self.news:
            keys, graves, index = dict(self.keys), dict(self._graves), self.index + 1
            results, errors = [], []
            for number, operation in enumerate(operations):
                try:
                    results += self._operate(operation, rights, index)
                except _Failure as failure:
                    errors.append({"OpIndex": number, "What": str(failure)})
            if errors:
                self.keys, self._graves = keys, graves
                return _json(409, {"Results": None, "Errors": errors})
            if self.keys != keys:
                self.index = index
                self.news.notify_all()
        return _json(200, {"Results": [{"KV": result} for result in results], "Errors": None})

    def _operate(self, operation: Mapping[str, Any], rights: Rights, index: int) -> list[dict[str, Any]]:
        verb, key = operation["Verb"], operation["Key"]
        space = operation.get("Namespace", "") if self.is_enterprise else ""
        held = self.keys.get((space, key))
        if verb in {"set", "cas", "delete"} and not _may(rights.write, key):
            raise _Failure(DENIED_WRITE, key)
        match verb:
            case "get" if held is None:
                raise _Failure(MISSING, key)
            case "get-or-empty" if not self.knows_get_or_empty:
                raise _Failure(UNKNOWN, verb)
            case "get" | "get-or-empty":
                return [self._to_json(space, key)] if _may(rights.read, key) else []
            case "cas" if operation["Index"] != (held.modified if held else 0):
                raise _Failure(STALE, key)
            case "set" | "cas":
                self._set((space, key), b64decode(operation["Value"]), operation.get("Flags", 0), index)
                return [{**self._to_json(space, key), "Value": None}]
            case "delete":
                self._delete((space, key), index)
                return []
        raise _Failure(UNKNOWN, verb)

    def _set(self, at: tuple[str, str], value: bytes, flags: int, index: int) -> None:
        held = self.keys.get(at)
        if held is None or (held.value, held.flags) != (value, flags):
            self.keys[at] = _Entry(value, held.created if held else index, index, flags)

    def _delete(self, at: tuple[str, str], index: int) -> None:
        if self.keys.pop(at, None) is not None:
            self._graves[at] = index

    def _to_json(self, space: str, key: str) -> dict[str, Any]:
        held = self.keys.get((space, key), _Entry(b"", 0, 0))
        return {
            "LockIndex": 0,
            "Key": key,
            "Flags": held.flags,
            "Value": b64encode(held.value).decode() or None,
            "CreateIndex": held.created,
            "ModifyIndex": held.modified,
        }


class Keys(NamedTuple):
    """An agent.

    Attributes:
        agent: Itself.
        proxy: In front of it.
    """

    agent: ConsulAgent
    proxy: FaultyProxy

    @property
    def targets(self) -> list[str]:
        """What was asked for."""
        return [f"{exchange.method} {exchange.path.removeprefix('/v1/')}" for exchange in self.proxy.exchanges]


@contextmanager
def consul_keys(monkeypatch: pytest.MonkeyPatch) -> Iterator[Keys]:
    """Run an agent, and let the environment lead to it."""
    with ConsulAgent() as agent, FaultyProxy("127.0.0.1", agent.port) as proxy:
        for variable in VARIABLES:
            monkeypatch.delenv(f"CONSUL_{variable}", raising=False)
        monkeypatch.setenv("CONSUL_HTTP_ADDR", proxy.url)
        monkeypatch.setenv("CONSUL_HTTP_TOKEN", TOKEN)
        yield Keys(agent, proxy)


def _may(prefixes: tuple[str, ...], key: str) -> bool:
    return any(key.startswith(prefix) for prefix in prefixes)


def _json(status: int, body: object) -> Answer:
    return Answer(status, json.dumps(body).encode(), {"Content-Type": "application/json"})


class _Server(QuietServer):
    agent: ConsulAgent


class _Request(QuietRequest):
    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        agent = cast("_Server", self.server).agent
        answer = agent.answer(self.command, self.path, self.headers.get("X-Consul-Token", ""), body)
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    do_GET = do_PUT = do_DELETE = _answer  # noqa: N815 - as the base class calls them
