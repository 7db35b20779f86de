"""The API server of Kubernetes on this machine, as far as Secrets and ConfigMaps of a namespace need it.

Written from the published API (v1, release 1.34) and from the sources of the real one: what it validates, when a
resource version changes, which parts of a strategic merge patch there are, what a `Status` says, how a listing goes on
page by page and how a watch resumes. One counter gives resource versions, as etcd's revision does.
"""

from __future__ import annotations

import copy
import json
import os
import re
import threading
import time
from base64 import b64decode, urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast
from urllib.parse import parse_qsl, urlsplit

from securecfg.testing.quiet_http import QuietRequest, QuietServer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from ssl import SSLContext

VERBS = ("get", "list", "watch", "create", "patch", "delete")
SIZE_BYTES_MAX = 1 << 20
ANNOTATIONS_BYTES_MAX = 1 << 18
REQUEST_BYTES_MAX = 3 << 20
NAME_LENGTH_MAX = 253

_KINDS = {"secrets": "Secret", "configmaps": "ConfigMap"}
_PATH = re.compile(r"/api/v1/namespaces/([a-z0-9-]+)/(secrets|configmaps)(?:/([^/]+))?")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_KEY = re.compile(r"[-._a-zA-Z0-9]{1,253}")
_ABOUT = re.compile(r"application/json;as=(PartialObjectMetadata(?:List)?);g=meta\.k8s\.io;v=v1")
_PATCH_TYPE = "application/strategic-merge-patch+json"
_REQUIRED = {
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
}
_REASONS = {"Forbidden": "FieldValueForbidden", "Invalid": "FieldValueInvalid", "Required": "FieldValueRequired"}
_WORDS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    422: "Invalid",
}

Object = dict[str, Any]


class Event(NamedTuple):
    """What has happened.

    Attributes:
        version: When.
        kind: `ADDED`, `MODIFIED` or `DELETED`.
        namespace: Where.
        resource: To what kind of object.
        object: As it is since then.
    """

    version: int
    kind: str
    namespace: str
    resource: str
    object: Object


class Refused(Exception):
    """What the server answers instead.

    Attributes:
        body: The `Status`.
        headers: Besides.
    """

    def __init__(self, code: int, message: str, reason: str = "", **details: object) -> None:
        """Say what is wrong."""
        super().__init__(message)
        self.headers: dict[str, str] = {}
        self.body: Object = status(code, message, reason, **details)


def status(code: int, message: str, reason: str = "", **details: object) -> Object:
    """Return a `Status` of a failure."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason or _WORDS.get(code, "InternalError"),
        "details": details,
        "code": code,
    }


class KubernetesApi:
    """The server, which listens on a port of its own from the beginning of a `with` block to its end.

    Args:
        tls: How it shows itself; None for plain HTTP.

    Attributes:
        tokens: What each token, or nothing, may do in all namespaces. A token that is not here is none.
        namespaces: Those that there are.
        events: All that happened and is not forgotten.
        forgotten: The newest version before which a watch cannot begin any more.
        watch_s_max: After which time it ends an answer that watches, whatever it was asked for.
        bookmark_s: How long before that it sends a bookmark.
        tears: After how many events each of the next answers that watch breaks off.
        page_max: How many objects it gives at once, whatever it was asked for.
    """

    def __init__(self, tls: SSLContext | None = None) -> None:
        """Hold nothing."""
        self.lock = threading.RLock()
        self.news = threading.Condition(self.lock)
        self.clear()
        self._closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Request)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._server.service = self

    def clear(self) -> None:
        """Hold nothing any more, let everybody do everything, and forget what was set."""
        with self.lock:
            self.tokens: dict[str, set[str]] = {}
            self.namespaces = {"default", "team"}
            self.objects: dict[tuple[str, str], dict[str, Object]] = {}
            self.events: list[Event] = []
            self.version = 1_000
            self.forgotten = 0
            self.watch_s_max = 60.0
            self.bookmark_s = 0.05
            self.tears: list[int] = []
            self.page_max = 1_000_000

    def __enter__(self) -> Self:
        """Begin to listen."""
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """Stop, and let everybody go who watches."""
        self._closing.set()
        with self.news:
            self.news.notify_all()
        self._server.shutdown()
        self._server.server_close()

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._server.server_address[1]
        return port

    def give_token(self, *verbs: str) -> str:
        """Return a token that may do this."""
        token = f"canary-token-{os.urandom(16).hex()}"
        self.tokens[token] = set(verbs or VERBS)
        return token

    def all(self, namespace: str, resource: str) -> dict[str, Object]:
        """Return the objects of one kind in a namespace by their names."""
        return self.objects.setdefault((namespace, resource), {})

    def put(self, resource: str, name: str, namespace: str = "team", **members: object) -> Object:
        """Make an object, or give it other members, as others do it: nothing is checked."""
        with self.news:
            former = self.all(namespace, resource).get(name)
            made: Object = copy.deepcopy(former) if former else _new(resource, namespace, name)
            about = cast("Mapping[str, Any]", members.pop("metadata", {}))
            made = {**made, **members, "metadata": {**made["metadata"], **about}}
            return self._keep("MODIFIED" if former else "ADDED", namespace, resource, made)

    def remove(self, resource: str, name: str, namespace: str = "team") -> None:
        """Take an object away."""
        with self.news:
            self._keep("DELETED", namespace, resource, self.all(namespace, resource).pop(name))

    def forget(self) -> None:
        """Forget all that happened so far, as a compaction of etcd does."""
        with self.news:
            self.version += 1
            self.forgotten = self.version
            self.events.clear()
            self.news.notify_all()

    @property
    def is_closing(self) -> bool:
        """Whether it stops."""
        return self._closing.is_set()

    # --- requests -----------------------------------------------------------------------------------------------------

    def create(self, namespace: str, resource: str, body: Object) -> Object:
        """Make an object."""
        name = body["metadata"]["name"]
        with self.news:
            if namespace not in self.namespaces:
                message = f'namespaces "{namespace}" not found'
                raise Refused(404, message, name=namespace, kind="namespaces")
            if name in self.all(namespace, resource):
                message = f'{resource} "{name}" already exists'
                raise Refused(409, message, "AlreadyExists", name=name, kind=resource)
            made = _new(resource, namespace, name)
            made["metadata"] |= {key: value for key, value in body["metadata"].items() if key == "annotations"}
            made |= {part: keys for part, keys in body.items() if part in {"data", "binaryData", "immutable", "type"}}
            _validate(resource, made)
            return self._keep("ADDED", namespace, resource, made)

    def patch(self, namespace: str, resource: str, name: str, patch: Object) -> Object:
        """Lay a strategic merge patch over an object."""
        with self.news:
            former = self._find(namespace, resource, name)
            made = merged(former, patch)
            if made["metadata"]["resourceVersion"] != former["metadata"]["resourceVersion"]:
                message = f'Operation cannot be fulfilled on {resource} "{name}": the object has been modified'
                raise Refused(409, message, name=name, kind=resource)
            _validate(resource, made, former)
            if made == former:
                return former  # nothing is written, and the version stays
            return self._keep("MODIFIED", namespace, resource, made)

    def delete(self, namespace: str, resource: str, name: str, options: Object) -> Object:
        """Delete an object, or mark it where somebody holds it."""
        with self.news:
            found = self._find(namespace, resource, name)
            wanted = options.get("preconditions") or {}
            if wanted.get("uid", found["metadata"]["uid"]) != found["metadata"]["uid"]:
                message = f"Precondition failed: UID in precondition: {wanted['uid']}"
                raise Refused(409, message, name=name, kind=resource)
            if found["metadata"].get("finalizers"):
                if "deletionTimestamp" in found["metadata"]:
                    return found
                return self.put(resource, name, namespace, metadata={"deletionTimestamp": _now()})
            self.remove(resource, name, namespace)
            done = status(200, "", "")
            return done | {"status": "Success", "details": {"name": name, "kind": resource}}

    def list(self, namespace: str, resource: str, query: Mapping[str, str]) -> Object:
        """Return a page of a listing."""
        with self.lock:
            version, after = self.version, ""
            if "continue" in query:
                version, after = json.loads(urlsafe_b64decode(query["continue"]))
                if 0 <= version < self.forgotten:
                    refused = Refused(410, "The provided continue parameter is too old")
                    refused.body["metadata"] = {"continue": _continue(-1, after)}
                    raise refused
                version = self.version if version < 0 else version
            limit = min(int(query.get("limit", "0")) or self.page_max, self.page_max)
            found = sorted(self.all(namespace, resource).items())
            wanted = [(name, each) for name, each in found if name > after and _is_selected(each, query)]
            page, rest = wanted[:limit], wanted[limit:]
            about: Object = {"resourceVersion": str(version)}
            if rest:
                about |= {"continue": _continue(version, page[-1][0]), "remainingItemCount": len(rest)}
            items = [each for _, each in page]
            return {"kind": f"{_KINDS[resource]}List", "apiVersion": "v1", "metadata": about, "items": items}

    def watch(self, namespace: str, resource: str, query: Mapping[str, str]) -> Iterator[Object]:
        """Yield what happens."""
        version = int(query["resourceVersion"])
        ends = time.monotonic() + min(float(query.get("timeoutSeconds", "60")), self.watch_s_max)
        is_marked = query.get("allowWatchBookmarks") != "true"
        while not self.is_closing:
            with self.news:
                if version < self.forgotten:
                    yield {"type": "ERROR", "object": status(410, "too old resource version")}
                    return
                events = [event for event in self.events if event.version > version]
                version = self.version
                left = ends - time.monotonic()
                if not events and left > 0 and (is_marked or left > self.bookmark_s):
                    self.news.wait(left if is_marked else left - self.bookmark_s)
                    continue
            for event in events:
                if (event.namespace, event.resource) == (namespace, resource) and _is_selected(event.object, query):
                    yield {"type": event.kind, "object": event.object}
            if not is_marked and ends - time.monotonic() <= self.bookmark_s:
                is_marked = True
                about = {"resourceVersion": str(version), "creationTimestamp": None}
                yield {"type": "BOOKMARK", "object": {"kind": _KINDS[resource], "apiVersion": "v1", "metadata": about}}
            elif time.monotonic() >= ends:
                return

    def find(self, namespace: str, resource: str, name: str) -> Object:
        """Return an object."""
        with self.lock:
            return self._find(namespace, resource, name)

    def _find(self, namespace: str, resource: str, name: str) -> Object:
        found = self.all(namespace, resource).get(name)
        if found is None:
            message = f'{resource} "{name}" not found'
            raise Refused(404, message, name=name, kind=resource)
        return found

    def _keep(self, kind: str, namespace: str, resource: str, made: Object) -> Object:
        self.version += 1
        changed = {"manager": "securecfg", "operation": "Update", "apiVersion": "v1", "time": _now()}
        about = {**made["metadata"], "resourceVersion": str(self.version), "managedFields": [changed]}
        made = {**made, "metadata": about}
        if kind != "DELETED":
            self.all(namespace, resource)[about["name"]] = made
        self.events.append(Event(self.version, kind, namespace, resource, made))
        self.news.notify_all()
        return made


def merged(original: Object, patch: Object) -> Object:
    """Return what a strategic merge patch makes of an object: maps are merged or replaced, null takes away."""
    if patch.get("$patch") == "replace":
        return {key: value for key, value in patch.items() if key != "$patch"}
    made = dict(original)
    for key, value in patch.items():
        if value is None:
            made.pop(key, None)
        elif isinstance(value, dict):
            held = made.get(key)
            made[key] = merged(held if isinstance(held, dict) else {}, value)
        else:
            made[key] = value
    return made


def _new(resource: str, namespace: str, name: str) -> Object:
    about = {"name": name, "namespace": namespace, "uid": os.urandom(16).hex(), "creationTimestamp": _now()}
    made: Object = {"kind": _KINDS[resource], "apiVersion": "v1", "metadata": about}
    return made | ({"type": "Opaque"} if resource == "secrets" else {})


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _continue(version: int, after: str) -> str:
    return urlsafe_b64encode(json.dumps([version, after]).encode()).decode()


def _is_selected(each: Object, query: Mapping[str, str]) -> bool:
    selectors = [selector.split("!=") for selector in query.get("fieldSelector", "").split(",") if selector]
    return all(each[field] != value for field, value in selectors)


def _validate(resource: str, made: Object, former: Object | None = None) -> None:
    """Check an object as the server does before it keeps it."""
    wrong: list[tuple[str, str, str]] = []
    name = made["metadata"]["name"]
    if not _NAME.fullmatch(name) or len(name) > NAME_LENGTH_MAX:
        wrong.append(("Invalid", "metadata.name", "a lowercase RFC 1123 subdomain must consist of"))
    annotations = made["metadata"].get("annotations") or {}
    if sum(len(key.encode()) + len(text.encode()) for key, text in annotations.items()) > ANNOTATIONS_BYTES_MAX:
        wrong.append(("TooLong", "metadata.annotations", "may not be more than 262144 bytes"))
    texts, binary = made.get("data") or {}, made.get("binaryData") or {}
    if resource == "secrets":
        texts, binary = {}, texts
    try:
        size = sum(len(text.encode()) for text in texts.values())
        size += sum(len(b64decode(text, validate=True)) for text in binary.values())
    except Base64Error:
        message = f"{_KINDS[resource]} in version v1 cannot be handled: illegal base64 data at input byte 4"
        raise Refused(400, message) from None
    wrong += [
        ("Invalid", f"data[{key}]", "a valid config key must consist of alphanumeric characters")
        for key in [*texts, *binary]
        if not _KEY.fullmatch(key) or key == "." or key.startswith("..")
    ]
    if size > SIZE_BYTES_MAX:
        wrong.append(("TooLong", "data" if resource == "secrets" else "", "may not be more than 1048576 bytes"))
    wrong += [("Required", f"data[{key}]", "") for key in _REQUIRED.get(made.get("type", ""), ()) if key not in binary]
    if former is not None:
        if former.get("type") != made.get("type"):
            wrong.append(("Invalid", "type", "field is immutable"))
        if former.get("immutable"):
            words = "field is immutable when `immutable` is set"
            parts = [part for part in ("data", "binaryData") if former.get(part) != made.get(part)]
            wrong += [("Forbidden", part, words) for part in parts]
    if wrong:
        causes = [
            {"reason": _REASONS.get(what, f"FieldValue{what}"), "message": f"{what}: {words}", "field": field}
            for what, field, words in wrong
        ]
        message = f'{_KINDS[resource]} "{name}" is invalid: ' + ", ".join(field for _, field, _ in wrong)
        raise Refused(422, message, name=name, kind=_KINDS[resource], causes=causes)


class _Server(QuietServer):
    service: KubernetesApi


class _Request(QuietRequest):
    def answer(self) -> None:
        """Answer a request."""
        length = int(self.headers.get("Content-Length", 0))
        content = self.rfile.read(length)
        url = urlsplit(self.path)
        try:
            if length > REQUEST_BYTES_MAX:
                raise Refused(413, "Request entity too large: limit is 3145728")
            code, answer = self._do(url.path, dict(parse_qsl(url.query)), content)
        except Refused as refused:
            self._send(refused.body["code"], refused.body, refused.headers)
        else:
            if isinstance(answer, dict):
                self._send(code, self._shaped(answer), {})
            else:
                self._stream(answer)

    do_GET = do_POST = do_PATCH = do_DELETE = answer  # noqa: N815 - as the base class calls them

    def _do(self, path: str, query: Mapping[str, str], content: bytes) -> tuple[int, Object | Iterator[Object]]:
        service = cast("_Server", self.server).service
        match = _PATH.fullmatch(path)
        if not match:
            raise Refused(404, "the server could not find the requested resource")
        namespace, resource, name = match.groups()
        is_watch = query.get("watch") in {"true", "True", "1"}
        verb = {"GET": "get" if name else "watch" if is_watch else "list", "POST": "create"}
        self._check_token(verb.get(self.command, self.command.lower()), resource, name, namespace)
        body = json.loads(content) if content else {}
        match self.command:
            case "GET" if name:
                return 200, service.find(namespace, resource, name)
            case "GET" if is_watch:
                return 200, service.watch(namespace, resource, query)
            case "GET":
                return 200, service.list(namespace, resource, query)
            case "POST":
                return 201, service.create(namespace, resource, body)
            case "PATCH" if self.headers["Content-Type"] != _PATCH_TYPE:
                raise Refused(415, "the body of the request was in an unknown format")
            case "PATCH":
                return 200, service.patch(namespace, resource, name, body)
            case _:
                return 200, service.delete(namespace, resource, name, body)

    def _check_token(self, verb: str, resource: str, name: str | None, namespace: str) -> None:
        tokens = cast("_Server", self.server).service.tokens
        token = re.sub("^[Bb]earer ", "", self.headers.get("Authorization", ""))
        if token and token not in tokens:
            raise Refused(401, "Unauthorized")
        if verb not in tokens.get(token, set()):
            user = "system:serviceaccount:team:app" if token else "system:anonymous"
            message = f'{resource} "{name}" is forbidden: User "{user}" cannot {verb} resource "{resource}"'
            raise Refused(403, f'{message} in API group "" in the namespace "{namespace}"', name=name, kind=resource)

    def _shaped(self, answer: Object) -> Object:
        """Return only what is about an object, or about those of a list, where no more was asked for."""
        asked = _ABOUT.match(self.headers.get("Accept", ""))
        if not asked or answer["kind"] == "Status":
            return answer
        about = {"kind": asked[1], "apiVersion": "meta.k8s.io/v1", "metadata": answer["metadata"]}
        if asked[1] == "PartialObjectMetadataList":
            return about | {"items": [{"metadata": item["metadata"]} for item in answer["items"]]}
        return about

    def _send(self, code: int, body: Object, headers: Mapping[str, str]) -> None:
        content = json.dumps(body).encode()
        self.send_response_only(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _stream(self, events: Iterator[Object]) -> None:
        self.send_response_only(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        tears = cast("_Server", self.server).service.tears
        left = tears.pop(0) if tears else -1
        for event in events:
            if left == 0:
                self.close_connection = True
                return
            left -= 1
            line = json.dumps({**event, "object": self._shaped(event["object"])}).encode() + b"\n"
            self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
        self.wfile.write(b"0\r\n\r\n")
