"""Tokens of any API that issues, tries and revokes them over HTTP with JSON.

1. propose   revokes what an earlier attempt of the same run has left, then `create`: POST
2. apply     asks whether the API can be asked; a token that was issued is accepted
3. verify    `verify`: GET with the token
4. retire    `revoke`: DELETE

Where requests go is what the options say: no answer leads anywhere else.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from securecfg.errors import (
    CredentialRefused,
    InvalidRotation,
    PrivilegeMissing,
    RotationFailed,
    SecurecfgError,
    TargetUnavailable,
)
from securecfg.http_client import Request
from securecfg.rotation.deadline import Deadline
from securecfg.rotation.http_target import (
    OK,
    Address,
    ask,
    is_absolute,
    is_disturbed,
    is_header_text,
    parse_address,
    take_address,
)
from securecfg.rotation.interface import Candidate, Strategy
from securecfg.rotation.options import GivenOptions
from securecfg.rotation.values import is_field_name, text_of
from securecfg.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Sequence

    from securecfg.http_client import Answer
    from securecfg.rotation.interface import Fields, Options, Run

NAME_PLACE = "{name}"
"""What stands in `create-body` for the name of the token that an attempt makes."""
ID_PLACE = "{id}"

_BODY_BYTES_MAX = 64 << 10
_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]{0,63}", re.ASCII)
_SCHEME = re.compile(r"[A-Za-z0-9_-]{0,32}", re.ASCII)
_POINTER = re.compile(r"(?:/(?:[^~/]|~[01])*)*")
_INDEX = re.compile(r"0|[1-9][0-9]{0,8}", re.ASCII)
_ID_LENGTH_MAX = 1_024
_GONE = frozenset({404, 410})
_UNAUTHORIZED, _FORBIDDEN = 401, 403


class Pointers(NamedTuple):
    """Where things are in answers, as JSON pointers (RFC 6901).

    Attributes:
        token: In the answer to `create`.
        id: In the same, and in each item of the list.
        items: In the answer to `list`.
        name: In each item of the list.
        owner: In the answer to `verify`; None where nobody compares it.
    """

    token: str
    id: str
    items: str
    name: str
    owner: str | None


class Api(NamedTuple):
    """Where an API is, and what it is like.

    Attributes:
        create: Where a token is made.
        revoke: Where one is revoked, with `{id}` in its target.
        verify: What a token is tried with.
        listing: Where all tokens are; None where the API answers the same token to the same `Idempotency-Key`.
        body: What is sent to make one.
        pointers: Where things are in answers.
        header: What a token is sent in.
        scheme: What stands before it there.
        authority: The file of the authority of the certificate, or empty.
    """

    create: Address
    revoke: Address
    verify: Address
    listing: Address | None
    body: Any
    pointers: Pointers
    header: str
    scheme: str
    authority: str


class HttpRotator:
    """Has an API issue tokens.

    Args:
        api: Which one.
        fields: Which fields of the value hold the token and its id.
        login: The token that tokens are made with; None for the current one.
    """

    strategy = Strategy.OVERLAPPING
    identity: frozenset[str] = frozenset()

    def __init__(self, api: Api, fields: tuple[str, str], login: Secret[str] | None) -> None:
        """Call nothing yet."""
        self._api, self._login = api, login
        self._field, self._id_field = fields

    @property
    def target(self) -> str:
        """The host that makes tokens."""
        return f"http {self._api.create.host}"

    def propose(self, run: Run, /) -> Candidate:
        """Have a token made, and revoke what an earlier attempt of this run has left.

        Raises:
            InvalidRotation: The current value has no token, or no id to revoke it by later.
            RotationFailed: The API refuses.
            TargetUnavailable, CredentialRefused, PrivilegeMissing: It was asked, and makes none.
        """
        deadline, login = Deadline(run.timeout_s, self.target), self._login_of(run)
        stored = set() if run.current is None else {self._id_of(run.current)}
        with suppress(InvalidRotation):  # there is none, or somebody has written something else by mistake
            stored.add(self._id_of(run.previous))
        name = f"securecfg-{run.token}"
        for left in self._named(name, login, deadline):
            if left not in stored:
                self._revoke(left, login, deadline)
        body = json.dumps(_with_name(self._api.body, name)).encode()
        answer = self._ask(self._api.create, "POST", login, deadline, body=body, key=run.token)
        self._verify_done(answer, "make a token")
        pointers = self._api.pointers
        token, number = _find_text(answer, pointers.token), _find_id(answer, pointers.id)
        if number in stored:
            message = f"the server `{self._api.create.host}` gives out a token again that is stored already"
            raise RotationFailed(message)
        return Candidate({**(run.current or {}), self._field: Secret(token), self._id_field: Secret(number)})

    def apply(self, run: Run, /) -> None:
        """See that the API can be asked: it knows the token that it has made, perhaps not everywhere yet.

        Raises:
            TargetUnavailable: It cannot.
        """
        deadline = Deadline(run.timeout_s, self.target)
        answer = self._ask(self._api.verify, "GET", text_of(run.pending, self._field), deadline)
        if is_disturbed(answer):
            self._verify_done(answer, "try a token")

    def verify(self, value: Fields, run: Run, /) -> None:
        """Check that the API answers to a token, and where that is told, that it is its owner's of the current one.

        Raises:
            CredentialRefused: It does not take it.
            PrivilegeMissing: The token may not do what it is tried with.
            InvalidRotation: It belongs to somebody else.
            TargetUnavailable: It cannot be asked.
        """
        deadline = Deadline(run.timeout_s, self.target)
        owner = self._owner(value, deadline)
        if owner is None or run.current is None:
            return
        if text_of(run.current, self._field).reveal() == text_of(value, self._field).reveal():
            return
        try:
            current = self._owner(run.current, deadline)
        except CredentialRefused:
            return  # it is gone, so there is nobody to compare with
        if current != owner:
            message = f"a token of `{self._api.verify.host}` is for somebody else than the current one"
            raise InvalidRotation(message)

    def retire(self, run: Run, /) -> None:
        """Revoke the old token; nothing where it is gone.

        Raises:
            InvalidRotation: It is the current one.
            RotationFailed: The API refuses.
            TargetUnavailable, CredentialRefused, PrivilegeMissing: It was asked, and does not do it.
        """
        previous = self._id_of(run.previous)
        if run.current is not None and previous == self._id_of(run.current):
            message = "the old token is the current one"
            raise InvalidRotation(message)
        self._revoke(previous, self._login_of(run), Deadline(run.timeout_s, self.target))

    def check(self, run: Run, /) -> Sequence[str]:
        """Return whether the list of tokens may be read. Nothing else can be tried without changing something.

        Raises:
            TargetUnavailable, CredentialRefused: The API cannot be asked.
        """
        try:
            self._named("", self._login_of(run), Deadline(run.timeout_s, self.target))
        except PrivilegeMissing as error:
            return [error.message]
        return []

    def _login_of(self, run: Run) -> Secret[str]:
        if self._login is None and run.current is None:
            message = "the first token is made by hand, or with a login of its own"
            raise InvalidRotation(message, hint="give the option `login`")
        return self._login if self._login is not None else text_of(run.current, self._field)

    def _id_of(self, value: Fields | None) -> str:
        found = text_of(value, self._id_field).reveal()
        if not _is_id(found):
            message = f"the field `{self._id_field}` holds no id of a token"
            raise InvalidRotation(message)
        return found

    def _owner(self, value: Fields, deadline: Deadline) -> str | None:
        answer = self._ask(self._api.verify, "GET", text_of(value, self._field), deadline)
        self._verify_done(answer, "do what a token is tried with")
        return None if self._api.pointers.owner is None else _find_id(answer, self._api.pointers.owner)

    def _named(self, name: str, login: Secret[str], deadline: Deadline) -> list[str]:
        """Return the ids of tokens with a name, none where the API has no list."""
        if self._api.listing is None:
            return []
        answer = self._ask(self._api.listing, "GET", login, deadline)
        self._verify_done(answer, "list tokens")
        items = _find(_json_of(answer), self._api.pointers.items)
        if not isinstance(items, list):
            raise _not_understood()
        pointers = self._api.pointers
        return [_id_text(_find(item, pointers.id)) for item in items if _find(item, pointers.name) == name]

    def _revoke(self, number: str, login: Secret[str], deadline: Deadline) -> None:
        revoke = self._api.revoke
        address = revoke._replace(target=revoke.target.replace(ID_PLACE, quote(number, safe="")))
        answer = self._ask(address, "DELETE", login, deadline)
        if answer.status not in _GONE:
            self._verify_done(answer, "revoke a token")

    def _ask(
        self,
        address: Address,
        verb: str,
        token: Secret[str],
        deadline: Deadline,
        *,
        body: bytes | None = None,
        key: str = "",
    ) -> Answer:
        text = token.reveal()
        if not is_header_text(text):
            message = "a token holds what cannot be sent in a header"
            raise InvalidRotation(message)
        shown = f"{self._api.scheme} {text}" if self._api.scheme else text
        headers = {"Accept": "application/json", self._api.header: shown}
        if body is not None:
            headers |= {"Content-Type": "application/json", "Idempotency-Key": key}
        return ask(address.endpoint, Request(verb, address.target, headers, body), deadline, self._api.authority)

    def _verify_done(self, answer: Answer, what: str) -> None:
        if answer.status in OK:
            return
        status, server = answer.status, f"the server `{self._api.create.host}`"
        failure: SecurecfgError
        if status == _UNAUTHORIZED:
            failure = CredentialRefused(f"{server} does not take a token (HTTP {status})")
        elif status == _FORBIDDEN:
            failure = PrivilegeMissing(f"{server} does not let a token {what} (HTTP {status})")
        elif is_disturbed(answer):
            failure = TargetUnavailable(f"{server} is disturbed or busy (HTTP {status})", hint="try again later")
        else:
            hint = "is the address the right one, and `create-body`?"
            failure = RotationFailed(f"{server} refuses to {what} (HTTP {status})", hint=hint)
        raise failure


def from_options(options: Options) -> HttpRotator:
    """Return the rotator `http`.

    Raises:
        InvalidRotation: The options make no sense.
    """
    given = GivenOptions("http", options)
    create, verify = (take_address(given, "http", name) for name in ("create", "verify"))
    revoke, listed = take_address(given, "http", "revoke"), given.text("list", "")
    listing = parse_address(listed, "http", "list") if listed else None
    body, is_idempotent = given.text("create-body", "{}"), given.choice("idempotent", ("yes", "no"), "no") == "yes"
    owner = given.text("owner-pointer", "")
    pointers = Pointers(
        given.text("token-pointer", "/token"),
        given.text("id-pointer", "/id"),
        given.text("list-pointer", ""),
        given.text("name-pointer", "/name"),
        owner or None,
    )
    header, scheme = given.text("header", "Authorization"), given.text("scheme", "Bearer")
    fields = given.text("field", "token"), given.text("id-field", "id")
    login, authority = given.secret("login"), given.text("cacert", "")
    given.finish()
    template = _parse_body(body)
    problem = _problem_of(pointers, header, scheme, fields, authority)
    if ID_PLACE not in revoke.target or ID_PLACE in revoke.endpoint:
        problem = f"`revoke` says with `{ID_PLACE}` in its path which token is meant"
    elif listing is None and not is_idempotent:
        problem = (
            "what an attempt has left is found by `list`, or the API keeps `Idempotency-Key` and `idempotent` is `yes`"
        )
    elif listing is not None and _with_name(template, "") == template:
        problem = f"with `list` there is a `{NAME_PLACE}` in `create-body`, by which a token is found again"
    if problem:
        message = f"the options of the rotator `http` make no sense: {problem}"
        raise InvalidRotation(message)
    return HttpRotator(
        Api(create, revoke, verify, listing, template, pointers, header, scheme, authority), fields, login
    )


def _problem_of(pointers: Pointers, header: str, scheme: str, fields: tuple[str, str], authority: str) -> str:
    if not all(_POINTER.fullmatch(pointer) for pointer in pointers if pointer is not None):
        return "a pointer is empty or begins with `/` (RFC 6901)"
    if not _HEADER.fullmatch(header) or not _SCHEME.fullmatch(scheme):
        return "`header` and `scheme` are words"
    if header.lower() in {"host", "content-length", "transfer-encoding", "connection"}:
        return "a token is not sent in this `header`"
    if fields[0] == fields[1] or not all(map(is_field_name, fields)):
        return "`field` and `id-field` are two names"
    if authority and not is_absolute(authority):
        return "`cacert` is an absolute path"
    return ""


def _parse_body(text: str) -> Any:  # noqa: ANN401 - JSON
    try:
        body = json.loads(text) if len(text) <= _BODY_BYTES_MAX else None
    except (ValueError, RecursionError):
        body = None
    if isinstance(body, dict):
        return body
    message = "the option `create-body` of the rotator `http` is a JSON object"
    raise InvalidRotation(message)


def _with_name(body: Any, name: str) -> Any:  # noqa: ANN401 - JSON
    if isinstance(body, str):
        return body.replace(NAME_PLACE, name)
    if isinstance(body, list):
        return [_with_name(each, name) for each in body]
    if isinstance(body, dict):
        return {key: _with_name(each, name) for key, each in body.items()}
    return body


def _json_of(answer: Answer) -> Any:  # noqa: ANN401 - JSON
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        pass
    raise _not_understood()


def _find(document: Any, pointer: str) -> Any:  # noqa: ANN401 - JSON
    """Return what a pointer points at.

    Raises:
        TargetUnavailable: There is nothing.
    """
    for step in pointer.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(document, dict) and name in document:
            document = document[name]
        elif isinstance(document, list) and _INDEX.fullmatch(name) and int(name) < len(document):
            document = document[int(name)]
        else:
            raise _not_understood()
    return document


def _find_text(answer: Answer, pointer: str) -> str:
    found = _find(_json_of(answer), pointer)
    if not isinstance(found, str) or not is_header_text(found):
        raise _not_understood()
    return found


def _find_id(answer: Answer, pointer: str) -> str:
    return _id_text(_find(_json_of(answer), pointer))


def _id_text(found: object) -> str:
    text = str(found) if isinstance(found, int) and not isinstance(found, bool) else found
    if not isinstance(text, str) or not _is_id(text):
        raise _not_understood()
    return text


def _is_id(text: str) -> bool:
    """Return whether a text can stand for `{id}`; a path of dots would lead to another place."""
    return text.isprintable() and 0 < len(text) <= _ID_LENGTH_MAX and text not in {".", ".."}


def _not_understood() -> TargetUnavailable:
    return TargetUnavailable(
        "an answer over HTTP is not what the pointers say", hint="look at the options that end in `-pointer`"
    )
