"""What is asked, what is answered, and how the question is put to the engine."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from securecfg.policy.schema import ACTIONS, ADMINISTRATIVE_ACTIONS, IMPERSONATE, ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

ADMIN_ROLE: Final = "role:admin"
ADMIN_RULE: Final = "admin"
"""The id under which the built-in rule about administrators appears in decisions."""

KINDS: Final = {"user": "User", "svc": "Service", "role": "Role"}
_ADMINISTRATIVE: Final = frozenset(ADMINISTRATIVE_ACTIONS)
_ACTIONS: Final = frozenset(ACTIONS)


@dataclass(frozen=True, slots=True)
class Request:
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


@dataclass(frozen=True, slots=True)
class Decision:
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


@dataclass(frozen=True, slots=True)
class Entity:
    """A principal or resource, as the engine and the index need it.

    Attributes:
        type: Its Cedar type.
        id: Its Cedar id.
        ancestors: Its roles or folders, as (type, id).
        keys: What the index finds rules by: itself, each ancestor, its type, and anything.
        json: The entity in Cedar's JSON without tags.
        attributes: What a rule can read of it.
        tags: Names of the folders it lies in by level; for a folder, its own as well.
    """

    type: str
    id: str
    ancestors: tuple[tuple[str, str], ...]
    keys: tuple[str, ...]
    json: str
    attributes: Mapping[str, object] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)

    @property
    def json_with_tags(self) -> str:
        """The entity in Cedar's JSON with its tags."""
        return f'{self.json[:-1]},"tags":{json.dumps(self.tags)}}}'


ANYTHING: Final = "*"


def key_of(type_name: str, entity_id: str) -> str:
    """Return the index key of one entity."""
    return f"{type_name}::{entity_id}"


def _entity(
    type_name: str,
    entity_id: str,
    ancestors: tuple[tuple[str, str], ...],
    attributes: Mapping[str, object],
    tags: Mapping[str, str],
) -> Entity:
    keys = (
        key_of(type_name, entity_id),
        *(key_of(*ancestor) for ancestor in ancestors),
        type_name,
        ANYTHING,
    )
    text = json.dumps(
        {
            "uid": {"type": type_name, "id": entity_id},
            "attrs": attributes,
            "parents": [{"type": kind, "id": name} for kind, name in ancestors],
        }
    )
    return Entity(type_name, entity_id, ancestors, keys, text, attributes, tags)


def principal_entity(principal: str, roles: frozenset[str]) -> Entity:
    """Return the entity of a principal that holds the given roles (`role:NAME`), all of them, transitively."""
    kind, _, name = principal.partition(":")
    parents = tuple(("Role", role.partition(":")[2]) for role in sorted(roles))
    return _entity(KINDS[kind], name, parents, {}, {})


def resource_entity(path: str) -> Entity:
    """Return the entity of a secret, or of a folder where the path ends in a slash or is empty."""
    is_folder = not path or path.endswith("/")
    bare = path.rstrip("/")
    segments = bare.split("/") if bare else []
    folders = segments if is_folder else segments[:-1]
    prefixes = ["/".join(folders[:count]) for count in range(len(folders), 0, -1)]
    if is_folder:
        prefixes = prefixes[1:]
    ancestors = tuple(("Folder", prefix) for prefix in prefixes)
    if bare:
        ancestors += (("Folder", ROOT),)
    attributes = {"path": bare, "depth": len(segments)}
    tags = {str(level): name for level, name in enumerate(folders, 1)}
    return _entity("Folder" if is_folder else "Secret", bare or ROOT, ancestors, attributes, tags)


def is_principal(text: str) -> bool:
    """Whether a text is `user:NAME` or `svc:NAME`."""
    kind, _, name = text.partition(":")
    return kind in {"user", "svc"} and bool(name)


def misshapen(request: Request) -> str | None:
    """Return why a request has no meaning, or None."""
    if request.action not in _ACTIONS:
        return "the action is not known"
    if not is_principal(request.principal):
        return "the principal is neither `user:NAME` nor `svc:NAME`"
    if request.now.tzinfo is None:
        return "the time has no time zone"
    return _misshapen_path(request.action, request.path)


def _misshapen_path(action: str, path: str) -> str | None:
    if action == IMPERSONATE:
        return None if is_principal(path) else "`impersonate` needs the principal to act for as its path"
    if action in _ADMINISTRATIVE:
        return None if path == "" else f"`{action}` is of the whole vault: its path is empty"
    if path.startswith("/") or "//" in path:
        return "the path has an empty segment"
    if action != "list" and (not path or path.endswith("/")):
        return f"`{action}` is of a secret, not of a folder"
    return None


def context_values(request: Request) -> dict[str, object]:
    """Return all attributes of the context of a request: the host's, and those of time."""
    now = request.now.astimezone(UTC)
    return {
        "mfa": False,
        **request.context,
        "now": now,
        "hour": now.hour,
        "weekday": now.isoweekday(),
    }
