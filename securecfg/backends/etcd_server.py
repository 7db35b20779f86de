"""An etcd cluster: its HTTP gateway, tokens, and what an answer means.

The gateway gives an error as that of gRPC: a number, and words of etcd's, which are those of its `rpctypes/error.go`.
One number means several things, so the words decide. They are never shown.
"""

from __future__ import annotations

import json
import os
import threading
from base64 import b64decode, b64encode
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar

from securecfg.backends.answers import understood
from securecfg.backends.doubt import looking_first
from securecfg.errors import (
    BackendDenied,
    BackendLoginRefused,
    BackendNotReached,
    BackendRefused,
    BackendUnavailable,
    SecurecfgError,
    SettingMissing,
    ValueTooLarge,
)
from securecfg.http_client import ANSWER_S, Answer, HttpClient, Place, Request, Stream, is_endpoint
from securecfg.keys.credentials import CredentialMissing, find_credential
from securecfg.keys.per_process import PerProcess

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from securecfg.secret import Secret

T = TypeVar("T")

_CALLED = "the etcd server"
_PERMISSION_DENIED, _UNAUTHENTICATED = 7, 16  # of gRPC
_TIMED_OUT, _TOO_MANY, _SERVER_ERRORS = 408, 429, 500  # of HTTP

_GONE = ("required revision has been compacted", "required revision is a future revision")
_ENDED = ("invalid auth token", "revision of auth store is old")
_WORDS_OF = {_PERMISSION_DENIED: "permission denied", _UNAUTHENTICATED: "invalid auth token"}
_NO_LOGIN = (
    BackendLoginRefused,
    "the etcd server wants a user, and there is none, or none that it takes",
    "`user` in the URI, or ETCDCTL_USER, with the password",
)
_TOO_LARGE = (
    ValueTooLarge,
    "the etcd server takes no request of that size",
    "`--max-request-bytes` of etcd says how long one may be",
)
_REFUSALS: tuple[tuple[str, type[SecurecfgError], str, str], ...] = (
    ("user name is empty", *_NO_LOGIN),
    *((ended, *_NO_LOGIN) for ended in _ENDED),
    (
        "authentication failed",
        BackendLoginRefused,
        "the etcd server takes the user and the password for none",
        "`etcdctl user get` says whether there is such a user",
    ),
    (
        "authentication is not enabled",
        BackendLoginRefused,
        "the etcd server knows no users, as authentication is not enabled",
        "enable it, or leave out `user` and ETCDCTL_USER",
    ),
    (
        "permission denied",
        BackendDenied,
        "the etcd server does not let this user do that",
        "a role of theirs needs `read` or `readwrite` on what begins with the folder",
    ),
    ("request is too large", *_TOO_LARGE),
    ("message larger than max", *_TOO_LARGE),
    (
        "database space exceeded",
        BackendRefused,
        "the etcd server has no space left, and takes no more writes",
        "`etcdctl alarm list`; compact, defragment, and disarm the alarm",
    ),
)


class Where(NamedTuple):
    """Where a cluster is; what is empty is found as `etcdctl` finds it.

    Attributes:
        endpoints: Else those of `ETCDCTL_ENDPOINTS`.
        authority: Else the file that `ETCDCTL_CACERT` names.
        certificate: Else the file that `ETCDCTL_CERT` names.
        key: Else the file that `ETCDCTL_KEY` names.
    """

    endpoints: tuple[str, ...] = ()
    authority: str = ""
    certificate: str = ""
    key: str = ""


class Login(NamedTuple):
    """Who asks; what is empty is found as `etcdctl` finds it.

    Attributes:
        user: Else that of `ETCDCTL_USER`, where there may be none.
        file: Of the password; empty where it is in a variable.
        variable: That holds it, else `ETCDCTL_PASSWORD`.
        given: What stands before variables of the environment, by their names.
    """

    user: str = ""
    file: str = ""
    variable: str = ""
    given: Mapping[str, Secret[str]] = MappingProxyType({})


class KeyRange(NamedTuple):
    """Keys of etcd.

    Attributes:
        first: The first key.
        end: The first key that is none of them any more; a zero byte where there is none.
    """

    first: bytes
    end: bytes

    def to_json(self) -> dict[str, str]:
        """Return them as the gateway takes them."""
        return {"key": encode(self.first), "range_end": encode(self.end)}


class RevisionGone(Exception):
    """What was asked for is of a revision that etcd has compacted, or has not come to."""


class EtcdServer:
    """Asks one cluster. May be used by many threads and by a forked child, which logs in by itself.

    Args:
        where: The cluster.
        login: Who asks.
    """

    def __init__(self, where: Where, login: Login) -> None:
        """Call nothing yet."""
        self._sessions = PerProcess(lambda: _Session(where, login))

    def ask(self, method: str, body: Mapping[str, Any], pick: Callable[[Mapping[str, Any]], T]) -> T:
        """Return what `pick` makes of the answer, which makes no sense where a lookup, type or value fails in it.

        Args:
            method: Below `/v3/`.
            body: As JSON.
            pick: Takes the answer apart.

        Raises:
            RevisionGone: The revision that is asked for cannot be read.
            BackendLoginRefused: There are no credentials, or none that are taken.
            BackendDenied: They may not do this.
            BackendNotReached: The cluster was not reached, or refused before it took the request.
            BackendUnavailable: It failed, or what it answers makes no sense.
            BackendRefused: It refuses.
            ValueTooLarge: It takes no request of that size.
            SettingMissing: It is not known where it is.
        """
        session = self._sessions.get()
        return understood(lambda: pick(session.granted(method, body)), _CALLED)

    def follow(self, keys: KeyRange, start: int | None) -> Following:
        """Begin to watch keys, from a revision on or from now on.

        Raises:
            RevisionGone: The revision is compacted.
            SecurecfgError: As `ask`.
        """
        return understood(lambda: self._sessions.get().follow(keys, start), _CALLED)


class Following:
    """A watch that etcd has begun.

    Args:
        stream: Messages, each on a line of its own.
        start: The revision that was asked for; None for the one after that in which etcd was.

    Attributes:
        start: The first revision of which nothing has been seen yet.
        is_progressing: Whether it has gone on for a while, so that it is worth to go on with it elsewhere.
    """

    def __init__(self, stream: Stream, start: int | None) -> None:
        """Wait until etcd says that it has begun.

        Raises:
            RevisionGone, SecurecfgError: It says that it has not.
        """
        self._stream, self._rest = stream, b""
        self.is_progressing = False
        first = self._message(ANSWER_S)
        if first is None or "created" not in first:
            raise ValueError
        self.start = int(first["header"]["revision"]) + 1 if start is None else start

    def keys(self, wait_s: float) -> list[bytes]:
        """Return the keys that have changed, none where nothing was said within a time.

        Raises:
            RevisionGone: What comes next is compacted.
            BackendUnavailable: The connection was lost, or what is said makes no sense.
        """
        return understood(lambda: self._keys(wait_s), _CALLED)

    def _keys(self, wait_s: float) -> list[bytes]:
        message = self._message(wait_s)
        self.is_progressing = True
        if message is None:
            return []
        events = [event["kv"] for event in message.get("events", ())]
        found = [decode(event["key"]) for event in events]
        # What events there are may be behind the revision that the message is of.
        last = events[-1]["mod_revision"] if events else message["header"]["revision"]
        self.start = max(self.start, int(last) + 1)
        return found

    def close(self) -> None:
        """End it."""
        self._stream.close()

    def _message(self, wait_s: float) -> Mapping[str, Any] | None:
        while b"\n" not in self._rest:
            piece = self._stream.read(wait_s)
            if piece is None:
                return None
            if not piece:
                raise _ended()
            self._rest += piece
        line, _, self._rest = self._rest.partition(b"\n")
        message = json.loads(line)
        if "error" in message:
            _refuse(Answer(_SERVER_ERRORS, json.dumps(message["error"]).encode(), {}))
        result: Mapping[str, Any] = message["result"]
        if result.get("canceled"):
            raise _why_canceled(result)
        return result


class _Session:
    """What one process has: connections, and the token that it got."""

    def __init__(self, where: Where, login: Login) -> None:
        self._client = HttpClient(_CALLED, _place(where), "`cacert` in the URI, or ETCDCTL_CACERT, names its authority")
        self._login = login
        self._lock = threading.Lock()
        self._token: str | None = None

    def granted(self, method: str, body: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the answer to a request; it is asked twice where the token had ended."""
        with looking_first():
            token = self._any_token()
        answer = self._client.ask(_request(method, body, token))
        if token and _has_ended(answer):
            with looking_first():
                token = self._any_token(instead_of=token)
            answer = self._client.ask(_request(method, body, token))
        return _accepted(answer)

    def follow(self, keys: KeyRange, start: int | None) -> Following:
        """Begin to watch; tried twice where the token had ended."""
        token = self._any_token()
        try:
            return self._follow(keys, start, token)
        except BackendLoginRefused:
            if not token:
                raise
        return self._follow(keys, start, self._any_token(instead_of=token))

    def _follow(self, keys: KeyRange, start: int | None, token: str) -> Following:
        what = {**keys.to_json(), "progress_notify": True, **({} if start is None else {"start_revision": str(start)})}
        stream = self._client.stream(_request("watch", {"create_request": what}, token))
        if isinstance(stream, Answer):
            _refuse(stream)
        try:
            return Following(stream, start)
        except BaseException:
            stream.close()
            raise

    def _any_token(self, *, instead_of: str = "") -> str:
        """Return a token, got where there is none yet or where it has ended; an empty text where nobody logs in."""
        with self._lock:
            if self._token is None or (instead_of and self._token == instead_of):
                self._token = self._log_in()
            return self._token

    def _log_in(self) -> str:
        user, password = _user(self._login)
        if not user:
            return ""
        answer = self._client.ask(_request("auth/authenticate", {"name": user, "password": password}, ""))
        return understood(lambda: _token(answer), _CALLED)


def encode(raw: bytes) -> str:
    """Return bytes as the gateway has them."""
    return b64encode(raw).decode()


def decode(text: str) -> bytes:
    """Return the bytes that the gateway means.

    Raises:
        ValueError: It means none.
    """
    return b64decode(text, validate=True)


# --- settings ---------------------------------------------------------------------------------------------------------


def _place(where: Where) -> Place:
    """Return where to ask.

    Raises:
        SettingMissing: It is not known, or what is sent would cross the network in the clear.
    """
    certificate, key = where.certificate, where.key
    if not certificate:
        certificate, key = os.environ.get("ETCDCTL_CERT", ""), os.environ.get("ETCDCTL_KEY", "")
    authority = where.authority or os.environ.get("ETCDCTL_CACERT", "")
    # `etcdctl` takes one without a scheme, and speaks TLS where it knows an authority or a certificate.
    scheme = "https" if authority or certificate else "http"
    named = [one.strip() for one in os.environ.get("ETCDCTL_ENDPOINTS", "").split(",")]
    endpoints = where.endpoints or tuple(one if "://" in one else f"{scheme}://{one}" for one in named if one)
    if not endpoints or not all(map(is_endpoint, endpoints)):
        message = "the address of the etcd server is not known, or neither `https://` nor this machine"
        raise SettingMissing(message, hint="set ETCDCTL_ENDPOINTS, for instance to `https://etcd.internal:2379`")
    return Place(endpoints, authority, certificate, key)


def _user(login: Login) -> tuple[str, str]:
    """Return who logs in, and the password; empty texts where nobody does.

    Raises:
        BackendLoginRefused: There is no password.
    """
    user, colon, password = os.environ.get("ETCDCTL_USER", "").partition(":")
    if login.user:
        user, colon = login.user, ""
    if not user or colon:
        return user, password
    try:
        return user, find_credential(login.file, login.variable or "ETCDCTL_PASSWORD", given=login.given)
    except CredentialMissing as error:
        places = error.places
    message = "there is no password to log in to the etcd server with"
    raise BackendLoginRefused(message, hint=f"looked for in {places}")


# --- answers ----------------------------------------------------------------------------------------------------------


def _request(method: str, body: Mapping[str, Any], token: str) -> Request:
    headers = {"Content-Type": "application/json", **({"Authorization": token} if token else {})}
    return Request("POST", f"/v3/{method}", headers, json.dumps(body).encode())


def _token(answer: Answer) -> str:
    token = _accepted(answer)["token"]
    if not isinstance(token, str) or not (token.isascii() and token.isprintable()):
        raise TypeError
    return token


def _said(answer: Answer) -> tuple[int, str]:
    """Return the number and the words of a refusal; 0 and an empty text where it is none of etcd's."""
    try:
        body = json.loads(answer.body)
        words = body.get("message") or body.get("error") or ""
        return int(body.get("code") or body.get("grpc_code") or 0), str(words)
    except (ValueError, TypeError, AttributeError, RecursionError):
        return 0, ""


def _has_ended(answer: Answer) -> bool:
    number, words = _said(answer)
    return answer.status >= 400 and (number == _UNAUTHENTICATED or any(each in words for each in _ENDED))  # noqa: PLR2004 - of HTTP


def _accepted(answer: Answer) -> Mapping[str, Any]:
    """Return the body of an answer that is no refusal.

    Raises:
        ValueError, LookupError, TypeError: It makes no sense.
    """
    if answer.status != 200:  # noqa: PLR2004 - of HTTP
        _refuse(answer)
    body: Mapping[str, Any] = json.loads(answer.body)
    int(body["header"]["revision"])
    return body


def _refuse(answer: Answer) -> NoReturn:
    number, words = _said(answer)
    failure = _refusal(answer.status, number, words)
    if isinstance(failure, BackendUnavailable):
        failure.retry_after_s = answer.retry_after_s
    raise failure


def _refusal(status: int, number: int, words: str) -> Exception:
    """Return the error for what etcd says, by its own words first: the same number means several things."""
    return _by_words(words) or _by_words(_WORDS_OF.get(number, "")) or _by_status(status)


def _by_words(words: str) -> Exception | None:
    if any(each in words for each in _GONE):
        return RevisionGone()
    for each, kind, message, hint in _REFUSALS:
        if each in words:
            return kind(message, hint=hint)
    return None


def _by_status(status: int) -> SecurecfgError:
    if status == _TOO_MANY:
        message = f"the etcd server is asked too often (HTTP {status})"
        return BackendNotReached(message, hint="try again later")
    # 503 is in doubt too: etcd says so where it waited in vain for a change to be agreed on.
    if status >= _SERVER_ERRORS or status == _TIMED_OUT:
        message = f"the etcd server reports an error of its own (HTTP {status})"
        return BackendUnavailable(
            message, hint="try again later; `etcdctl endpoint health` says whether it has a leader"
        )
    if status == 404:  # noqa: PLR2004 - of HTTP
        message = "there is no gateway of etcd at `/v3/`"
        return BackendRefused(message, hint="etcd 3.4 and later have one, unless `--enable-grpc-gateway=false`")
    message = f"the etcd server refuses what was asked (HTTP {status})"
    return BackendRefused(message, hint="its own log says why")


def _why_canceled(result: Mapping[str, Any]) -> Exception:
    if int(result.get("compact_revision") or 0):
        return RevisionGone()
    failure = _by_words(str(result.get("cancel_reason", "")))
    return failure or _ended()


def _ended() -> BackendUnavailable:
    return BackendUnavailable(f"{_CALLED} has ended what was watched", hint="try again later")
