"""What is asked, what is answered, and how the question is put to the engine."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from securecfg.policy.schema import ACTIONS, ADMINISTRATIVE_ACTIONS, IMPERSONATE, ROOT
from securecfg.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

ADMIN_ROLE: Final = "role:admin"
ADMIN_RULE: Final = "admin"
"""The id under which the built-in rule about administrators appears in decisions."""

KINDS: Final = {"user": "User", "svc": "Service", "role": "Role"}
_ADMINISTRATIVE: Final = frozenset(ADMINISTRATIVE_ACTIONS)
_ACTIONS: Final = frozenset(ACTIONS)
_NO_TEXT: Final = "a name or the path is not Unicode text"


class Request(NamedTuple):
    """One question.

    Attributes:
        principal: Who asks: `user:NAME` or `svc:NAME`.
        action: What they want to do.
        path: A secret (`payments/stripe/key`), a folder (`payments/`) or the root folder (an empty string). For
            `impersonate`, the principal to act for.
        context: What the host program vouches for: `mfa`, `source`, `purpose`, and what a schema extension adds.
        now: An aware datetime.
        extra_roles: Roles that the host vouches for beside those the vault knows. `role:admin` is not one of them,
            however it is reached.
        clock_trusted: False if the clock is behind the log. Then permits that mention time do not apply, and
            a decision to which a forbid that mentions time might apply is an error.
    """

    principal: str
    action: str
    path: str
    context: Mapping[str, object]
    now: datetime
    extra_roles: frozenset[str] = frozenset()
    clock_trusted: bool = True


class Decision(NamedTuple):
    """One answer.

    Attributes:
        allowed: Whether the action may go on.
        error: Why no decision could be made, without any value; then `allowed` is False. None otherwise.
        rules: The ids of the rules that determine the decision, sorted; none where nothing permits.
        cacheable: Whether the same principal, action, path, context and extra roles get the same answer as long as
            the policy's digest stays: False where a rule that might apply mentions time, and for errors.
    """

    allowed: bool
    error: str | None = None
    rules: tuple[str, ...] = ()
    cacheable: bool = True


class Entity(NamedTuple):
    """A principal or resource, as the engine and the index need it.

    Attributes:
        type: Its Cedar type.
        id: Its Cedar id.
        ancestors: Its roles or folders, all of them, as (type, id).
        keys: What the index finds rules by: itself, each ancestor, its type, and anything.
        json: The entity in Cedar's JSON without tags.
        attributes: What a rule can read of it.
        folders: The names of the folders it lies in, outermost first; for a folder, its own as well.
    """

    type: str
    id: str
    ancestors: tuple[tuple[str, str], ...]
    keys: tuple[str, ...]
    json: str
    attributes: Mapping[str, object]
    folders: tuple[str, ...]

    @property
    def tags(self) -> dict[str, str]:
        """The names of the folders by level, from "1"."""
        return {str(level): name for level, name in enumerate(self.folders, 1)}

    @property
    def json_with_tags(self) -> str:
        """The entity in Cedar's JSON with its tags."""
        return f'{self.json[:-1]},"tags":{json.dumps(self.tags)}}}'


ANYTHING: Final = "*"


def key_of(type_name: str, entity_id: str) -> str:
    """Return the index key of one entity."""
    return f"{type_name}::{entity_id}"


def _uid_json(type_name: str, entity_id: str) -> str:
    return f'{{"type":"{type_name}","id":{json.dumps(entity_id)}}}'


def principal_entity(principal: str, roles: frozenset[str]) -> Entity:
    """Return the entity of a principal that holds the given roles (`role:NAME`), all of them, transitively."""
    kind, _, name = principal.partition(":")
    type_name = KINDS[kind]
    ancestors = tuple(("Role", role.partition(":")[2]) for role in sorted(roles))
    parents = ",".join(_uid_json(*ancestor) for ancestor in ancestors)
    return Entity(
        type_name,
        name,
        ancestors,
        (key_of(type_name, name), *(key_of(*ancestor) for ancestor in ancestors), type_name, ANYTHING),
        f'{{"uid":{_uid_json(type_name, name)},"attrs":{{}},"parents":[{parents}]}}',
        {},
        (),
    )


class _Folder(NamedTuple):
    """What all that lies directly in a folder has in common."""

    names: tuple[str, ...]
    ancestors: tuple[tuple[str, str], ...]
    keys: tuple[str, ...]


@lru_cache(maxsize=4096)
def _folder(path: str) -> _Folder:
    names = tuple(path.split("/")) if path else ()
    prefixes = ["/".join(names[:count]) for count in range(len(names), 0, -1)]
    ancestors = tuple(("Folder", prefix) for prefix in (*prefixes, ROOT))
    keys = tuple(key_of(*ancestor) for ancestor in ancestors)
    return _Folder(names, ancestors, keys)


@lru_cache(maxsize=4096)
def _parents_json(path: str) -> str:
    return ",".join(_uid_json(*ancestor) for ancestor in _folder(path).ancestors)


def resource_entity(path: str) -> Entity:
    """Return the entity of a secret, or of a folder where the path ends in a slash or is empty."""
    if not path:
        return _resource(ROOT, "", _Folder((), (), ()), "", "Folder")
    bare = path.removesuffix("/")
    outer = bare.rpartition("/")[0]
    return _resource(bare, bare, _folder(outer), _parents_json(outer), "Secret" if bare == path else "Folder")


def _resource(entity_id: str, path: str, inside: _Folder, parents: str, type_name: str) -> Entity:
    depth = path.count("/") + 1 if path else 0
    written = json.dumps(path)
    text = (
        f'{{"uid":{_uid_json(type_name, entity_id)},"attrs":{{"path":{written},"depth":{depth}}},'
        f'"parents":[{parents}]}}'
    )
    keys = (key_of(type_name, entity_id), *inside.keys, type_name, ANYTHING)
    own = (path.rpartition("/")[2],) if path and type_name == "Folder" else ()
    folders = (*inside.names, *own)
    return Entity(type_name, entity_id, inside.ancestors, keys, text, {"path": path, "depth": depth}, folders)


def is_principal(text: str) -> bool:
    """Whether a text is `user:NAME` or `svc:NAME`."""
    kind, _, name = text.partition(":")
    return kind in {"user", "svc"} and bool(name)


def is_text(text: str) -> bool:
    """Whether a string is text: lone surrogates, which stand for bytes that are not UTF-8, are not."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def failed(error: str) -> Decision:
    """Return the denial that stands for an error."""
    return Decision(allowed=False, error=error, cacheable=False)


def misshapen(request: Request) -> str | None:
    """Return why a request has no meaning, or None."""
    if request.action not in _ACTIONS:
        return "the action is not known"
    if not is_principal(request.principal):
        return "the principal is neither `user:NAME` nor `svc:NAME`"
    if request.now.tzinfo is None:
        return "the time has no time zone"
    if not all(map(is_text, (request.principal, *request.extra_roles))):
        return _NO_TEXT
    if not all(role.startswith("role:") and role != "role:" for role in request.extra_roles):
        return "an extra role is not `role:NAME`"
    return misshapen_path(request.action, request.path)


def misshapen_path(action: str, path: str) -> str | None:
    """Return why an action on a path has no meaning, or None."""
    if not is_text(path):
        return _NO_TEXT
    if action == IMPERSONATE:
        return None if is_principal(path) else "`impersonate` needs the principal to act for as its path"
    if action in _ADMINISTRATIVE:
        return None if path == "" else f"`{action}` is of the whole vault: its path is empty"
    if path.startswith("/") or "//" in path:
        return "the path has an empty segment"
    if action != "list" and (not path or path.endswith("/")):
        return f"`{action}` is of a secret, not of a folder"
    return None


def time_values(moment: datetime) -> dict[str, object]:
    """Return the attributes of time of the context."""
    now = moment.astimezone(UTC)
    return {
        "now": now,
        "hour": now.hour,
        "minute_of_day": now.hour * 60 + now.minute,
        "weekday": now.isoweekday(),
    }


def context_values(request: Request) -> dict[str, object]:
    """Return all attributes of the context of a request: the host's, and those of time."""
    return {"mfa": False, **request.context, **time_values(request.now)}
