"""`k8s:NAMESPACE` - Secrets, or ConfigMaps, of a namespace of Kubernetes."""

from __future__ import annotations

import re
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from securecfg.backends.doubt import looking_first
from securecfg.backends.interface import Capabilities, Changes, Deletion, Found, Kind
from securecfg.backends.k8s_cluster import WATCH_S, Cluster, Refusal, Request
from securecfg.backends.k8s_given import AUTHORITY, CREDENTIALS, is_endpoint, verify_given
from securecfg.backends.k8s_login import Access
from securecfg.backends.k8s_objects import (
    CONFIG_MAPS,
    NAME_LENGTH_MAX,
    SECRETS,
    VALUE_BYTES_MAX,
    text_of,
    to_found,
    to_name,
    to_new,
    to_patch,
    to_path,
    to_version,
)
from securecfg.backends.uri import take_options
from securecfg.errors import (
    AlreadyExists,
    BackendNotReached,
    BackendRefused,
    BackendUnavailable,
    InvalidBackendUri,
    InvalidMetadata,
    SecretNotFound,
    SecurecfgError,
    StaleWrite,
    ValueTooLarge,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    from securecfg.backends.interface import Backend, BackendUri, Content, Writing
    from securecfg.backends.k8s_objects import ObjectKind

PAGE = 500
MANAGER = "securecfg"
"""What the `managedFields` of an object call who wrote it."""

_OPTIONS = ("kind", "context", "kubeconfig", "endpoint", "cacert")
_KINDS = {"secret": SECRETS, "configmap": CONFIG_MAPS}
_NAMESPACE = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
_VERSION = re.compile(r"[1-9][0-9]{0,19}", re.ASCII)
_IMMUTABLE = frozenset({("FieldValueForbidden", "data"), ("FieldValueForbidden", "binaryData")})
_EXISTS, _CONFLICT = "AlreadyExists", "Conflict"
_TOO_LONG = "FieldValueTooLong"


def from_uri(uri: BackendUri) -> Backend:
    """Return the backend for `k8s:NAMESPACE`, with options after a `?`.

    Raises:
        InvalidBackendUri: The URI says something else, or what is given to log in with cannot be used.
    """
    options = take_options(uri, _OPTIONS, CREDENTIALS)
    if not _NAMESPACE.fullmatch(uri.rest):
        message = "a `k8s:` URI names a namespace"
        raise InvalidBackendUri(message, hint="for instance `k8s:shop`")
    kind = _KINDS.get(options.get("kind", "secret"))
    if kind is None or "" in options.values():
        message = "`kind` in a `k8s:` URI is `secret` or `configmap`, and no option is empty"
        raise InvalidBackendUri(message)
    return KubernetesObjects(Cluster(_access(uri, options), uri.rest, kind.method, kind.resource), kind)


def _access(uri: BackendUri, options: Mapping[str, str]) -> Access:
    endpoint = options.get("endpoint", "")
    if endpoint and not is_endpoint(endpoint):
        message = "the `endpoint` of a `k8s:` URI is `https://`, or `http://` to this machine, without a user"
        raise InvalidBackendUri(message, hint="for instance `endpoint=https://10.0.0.1:6443`")
    if endpoint and options.keys() & {"kubeconfig", "context"}:
        message = "a `k8s:` URI names the cluster by its `endpoint`, or by a `kubeconfig` and a `context`"
        raise InvalidBackendUri(message, hint="what an endpoint is logged in to with is given")
    if not endpoint and "cacert" in options:
        message = "the `cacert` of a `k8s:` URI is that of its `endpoint`"
        raise InvalidBackendUri(message, hint="a kubeconfig has `certificate-authority`")
    verify_given(uri.credentials)
    if AUTHORITY in uri.credentials and (not endpoint or "cacert" in options):
        message = f"`{AUTHORITY}` of `k8s:` vouches for the `endpoint` of a URI that names no `cacert`"
        raise InvalidBackendUri(message, hint="for all others the URI, the kubeconfig or the pod says who does")
    kubeconfig, context, cacert = (options.get(name, "") for name in ("kubeconfig", "context", "cacert"))
    return Access(kubeconfig, context, endpoint, cacert, uri.credentials)


class KubernetesObjects:
    """Speaks to the API server about the objects of one kind in one namespace.

    Args:
        cluster: Asks it.
        kind: Of the objects.
    """

    scheme: Final = "k8s"
    capabilities: Final = Capabilities(
        kinds=frozenset(Kind),
        value_bytes_max=VALUE_BYTES_MAX,
        path_bytes_max=NAME_LENGTH_MAX,
        writes=True,
        creates=True,
        compares=True,
        metadata=True,
        deletes=Deletion.FINAL,
        watches=True,
    )

    def __init__(self, cluster: Cluster, kind: ObjectKind) -> None:
        """Call nothing yet."""
        self._cluster, self._kind = cluster, kind

    def __repr__(self) -> str:
        """Show which store."""
        return f"{type(self).__name__}({self.name!r})"

    @property
    def name(self) -> str:
        """Namespace, and kind of objects."""
        return f"{self._cluster.namespace}, {self._kind.resource}"

    def read(self, path: str, _version: str | None) -> Found:
        """Return a secret.

        Raises:
            SecretNotFound: There is none, or it waits for its deletion.
        """
        request = Request("get", "read_namespaced_{}", (to_name(path),), {}, has_values=True)
        try:
            return self._cluster.ask(request, lambda body: self._found(body, path))
        except Refusal as refusal:
            raise self._refused(path, refusal) from None

    def list(self, prefix: str) -> Iterator[str]:
        """Yield the paths that begin with a prefix. The names of all are asked for, page by page, and no values."""
        following = ""
        while True:
            options = self._selected(limit=PAGE) | ({"_continue": following} if following else {})
            names, after = self._page(Request("list", "list_namespaced_{}", (), options))
            paths = [to_path(name) for name in names]
            yield from (path for path in paths if not path or path.startswith(prefix))
            if not after:
                return
            if after == following:
                message = "the cluster gives the same page for ever"
                raise BackendUnavailable(message)
            following = after

    def write(self, path: str, content: Content, writing: Writing) -> str:
        """Write the value, and the metadata where they are given, in one request; return the object's version.

        Raises:
            Unsupported: It would come back as something else.
            AlreadyExists, StaleWrite, SecretNotFound: It is not what the writer expects.
        """
        name, expect = to_name(path), writing.expect
        if expect and not _VERSION.fullmatch(expect):
            # Not sent: by `0` the API server would compare nothing.
            raise _stale(path)
        try:
            if expect == "":
                return self._create(name, content, writing)
            if expect is None:
                return self._put(path, name, content, writing)
            return self._replace(path, name, content, writing)
        except Refusal as refusal:
            raise self._refused(path, refusal) from None

    def delete(self, path: str) -> None:
        """Delete the object that is there when it is looked for, and none that comes into its place meanwhile.

        Raises:
            SecretNotFound: There is none, or it waits for its deletion.
        """
        name = to_name(path)
        try:
            uid = self._uid(path, name)
            body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
            self._cluster.ask(Request("delete", "delete_namespaced_{}", (name,), {"body": body}), _verify_answered)
        except Refusal as refusal:
            raise (_contended(path) if refusal.reason == _CONFLICT else self._refused(path, refusal)) from None

    def watch(self, prefix: str) -> Iterator[Changes]:
        """Yield what changes, from the version on that was the newest at the beginning.

        Each request watches for a few seconds, and the next one goes on where it ended. Where the cluster has forgotten
        that version, it is watched from its newest one on.
        """
        version, is_whole = self._newest(), True
        while True:
            try:
                with closing(self._seen(version)) as seen:
                    next(seen)
                    yield Changes((), is_whole=is_whole)
                    is_whole, told_at = True, time.monotonic()
                    for change in seen:
                        version, path = change
                        paths = (path,) if path and path.startswith(prefix) else ()
                        if paths or time.monotonic() - told_at >= WATCH_S:
                            yield Changes(paths, is_whole=True)
                            told_at = time.monotonic()
            except Refusal as refusal:
                if refusal.status != 410 or not is_whole:  # noqa: PLR2004 - of HTTP
                    raise _expired(refusal) from None
                version, is_whole = self._newest(), False

    # --- requests -----------------------------------------------------------------------------------------------------

    def _create(self, name: str, content: Content, writing: Writing) -> str:
        body = to_new(self._kind, name, content, writing.metadata or {})
        request = Request("create", "create_namespaced_{}", (), {"body": body, "field_manager": MANAGER})
        return self._cluster.ask(request, lambda answer: to_version(answer).id)

    def _replace(self, path: str, name: str, content: Content, writing: Writing) -> str:
        body = to_patch(self._kind, content, writing.metadata, writing.expect)
        request = Request("patch", "patch_namespaced_{}", (name,), {"body": body, "field_manager": MANAGER})
        version, is_going = self._cluster.ask(request, lambda answer: (to_version(answer).id, _is_going(answer)))
        if is_going:
            message = f"`{path}` was deleted before, and goes with what was written when those who hold it let it go"
            raise BackendRefused(message, hint="`metadata.finalizers` says who holds it")
        return version

    def _put(self, path: str, name: str, content: Content, writing: Writing) -> str:
        """Write whatever there is."""
        for _ in range(2):
            try:
                return self._replace(path, name, content, writing)
            except Refusal as refusal:
                if refusal.reason == _CONFLICT:
                    break
                if not self._is_missing(refusal):
                    raise
            try:
                return self._create(name, content, writing)
            except Refusal as refusal:
                if refusal.reason != _EXISTS:
                    raise
        raise _contended(path)

    def _uid(self, path: str, name: str) -> str:
        """Return which object there is by that name.

        Raises:
            SecretNotFound: None, or one that waits for its deletion.
        """
        with looking_first():
            request = Request("get", "read_namespaced_{}", (name,), {})
            uid, is_going = self._cluster.ask(request, lambda body: (text_of(body["metadata"]["uid"]), _is_going(body)))
        if is_going:
            raise _not_there(path)
        return uid

    def _page(self, request: Request) -> tuple[Sequence[str], str]:
        """Return the names of a page, and where the next one begins; empty where there is none."""
        try:
            return self._cluster.ask(request, _names)
        except Refusal as refusal:
            # What the listing began with is forgotten. The names after it are taken as they are by now.
            following = refusal.following
            if refusal.status != 410 or not following:  # noqa: PLR2004 - of HTTP
                raise _expired(refusal) from None
        return [], following

    def _newest(self) -> str:
        """Return the version of all objects together."""
        request = Request("list", "list_namespaced_{}", (), self._selected(limit=1))
        return self._cluster.ask(request, lambda body: text_of(body["metadata"]["resourceVersion"]))

    def _seen(self, version: str) -> Generator[tuple[str, str]]:
        """Yield nothing new when the cluster watches, and then versions with the paths that they changed."""
        options = self._selected(
            watch=True, resource_version=version, allow_watch_bookmarks=True, timeout_seconds=WATCH_S
        )
        is_quiet = True
        with self._cluster.watch(Request("watch", "list_namespaced_{}", (), options), _changed) as changes:
            yield version, ""
            try:
                for change in changes:
                    is_quiet = False
                    yield change
            except BackendUnavailable:
                if is_quiet:
                    raise

    def _selected(self, **options: object) -> dict[str, object]:
        return options | ({"field_selector": self._kind.selector} if self._kind.selector else {})

    def _found(self, body: Any, path: str) -> Found:  # noqa: ANN401 - a JSON object
        if body["kind"] != self._kind.kind:
            raise ValueError
        if _is_going(body):
            raise _not_there(path)
        return to_found(self._kind, body, path)

    # --- refusals -----------------------------------------------------------------------------------------------------

    def _is_missing(self, refusal: Refusal) -> bool:
        return refusal.status == 404 and refusal.resource == self._kind.resource  # noqa: PLR2004 - of HTTP

    def _refused(self, path: str, refusal: Refusal) -> SecurecfgError:
        """Return the error for what the API server refuses."""
        if self._is_missing(refusal):
            return _not_there(path)
        if refusal.status == 404 and refusal.resource == "namespaces":  # noqa: PLR2004 - of HTTP
            return BackendRefused(f"there is no namespace `{self._cluster.namespace}`")
        if refusal.reason == _EXISTS:
            hint = "one that waits for its deletion is there too"
            return AlreadyExists(f"`{path}` is there already", hint=hint)
        if refusal.reason == _CONFLICT:
            return _stale(path)
        return _invalid(path, refusal)


def _invalid(path: str, refusal: Refusal) -> SecurecfgError:
    """Return the error for an object that does not pass the API server's checks."""
    if _IMMUTABLE & set(refusal.causes):
        message = f"`{path}` is immutable: it can be deleted, and not written"
        return BackendRefused(message, hint="`immutable: true` was set by who made it, and cannot be taken back")
    too_long = {field for reason, field in refusal.causes if reason == _TOO_LONG}
    if too_long == {"metadata.annotations"}:
        message = f"the annotations of `{path}` would be longer than Kubernetes takes"
        return InvalidMetadata(message, hint="256 KiB, together with those of others")
    if too_long:
        return ValueTooLarge(f"`{path}` would be longer than Kubernetes takes")
    return refusal


def _names(body: Any) -> tuple[list[str], str]:  # noqa: ANN401 - a JSON object
    names = [text_of(item["metadata"]["name"]) for item in body["items"] if not _is_going(item)]
    return names, text_of(body["metadata"].get("continue") or "")


def _changed(event: Any) -> tuple[str, str]:  # noqa: ANN401 - a JSON object
    """Return the version that an event brings, and the path that it changed; an empty text for none."""
    about = event["object"]["metadata"]
    path = "" if event["type"] == "BOOKMARK" else to_path(about["name"])
    return text_of(about["resourceVersion"]), path


def _is_going(body: Any) -> bool:  # noqa: ANN401 - a JSON object
    """Return whether an object waits for its deletion until others let it go."""
    return body["metadata"].get("deletionTimestamp") is not None


def _verify_answered(body: Any) -> None:  # noqa: ANN401 - a JSON object
    text_of(body["kind"])


def _not_there(path: str) -> SecretNotFound:
    return SecretNotFound(f"there is no secret `{path}`")


def _stale(path: str) -> StaleWrite:
    return StaleWrite(f"`{path}` has another version by now", hint="read it again")


def _contended(path: str) -> BackendNotReached:
    message = f"somebody else makes, writes or deletes `{path}` at the same time"
    return BackendNotReached(message, hint="try again later")


def _expired(refusal: Refusal) -> SecurecfgError:
    """Return the error for a page that is not given."""
    if refusal.status != 410:  # noqa: PLR2004 - of HTTP
        return refusal
    message = "the cluster does not remember any more what a listing began with"
    return BackendUnavailable(message, hint="try again")
