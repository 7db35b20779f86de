"""Random policies and requests, and the answer of the Cedar engine to the whole of a policy at once."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import cedarpy

from securecfg.policy import Document, Request

if TYPE_CHECKING:
    from random import Random

    from securecfg.policy import Policy

ROLES = ["ops", "web", "dev"]
USERS = ["user:olga", "user:me", "svc:web", "svc:job"]
NAMES = ["a", "b", "ab", "c"]
START = datetime(2026, 1, 5, tzinfo=UTC)

PRINCIPALS = [
    "principal",
    'principal == User::"olga"',
    'principal == Service::"web"',
    'principal in Role::"ops"',
    'principal in Role::"web"',
    'principal in Role::"dev"',
    "principal is User",
    'principal is Service in Role::"ops"',
]
ACTIONS = [
    'action == Action::"read"',
    'action in [Action::"read", Action::"list"]',
    'action in [Action::"write", Action::"read", Action::"list", Action::"destroy"]',
]
RESOURCES = [
    "resource",
    'resource == Secret::"a/b"',
    'resource in Folder::"a"',
    'resource in Folder::"a/b"',
    'resource in Folder::"/"',
    "resource is Secret",
    'resource is Secret in Folder::"ab"',
]
FIRST = [
    'when { resource in [Folder::"a", Folder::"b/c"] }',
    'when { resource in [Folder::"a/a", Folder::"b"] || resource == Secret::"c" }',
    'when { (resource is Secret && resource in Folder::"a" && resource.path like "a/*/b" && resource.depth == 3) }',
    'when { resource in Folder::"a" && resource.hasTag("2") && resource.getTag("2") == "b" }',
    'when { resource in Folder::"b" || (resource.hasTag("1") && resource.getTag("1") like "a*") }',
    'when { resource == Folder::"a" || resource in Folder::"a/b" }',
    'when { resource == Secret::"c" || resource.depth > 2 }',
    'when { resource.path == "a/b" || resource in [Secret::"c", Secret::"a/c"] }',
    'when { !(resource in Folder::"a") }',
    'when { resource.path != "c" && resource.depth != 1 }',
    'when { context.mfa || resource in Folder::"b" }',
    "when { if context.mfa then resource.depth >= 2 else resource.depth < 2 }",
    'unless { resource in Folder::"a" }',
    'when { resource == Secret::"c" && context.minute_of_day + 9223372036854775000 > 0 }',
    "",
    "",
]
LATER = [
    "when { context.mfa }",
    "unless { context.mfa }",
    'when { context has source && context.source.isInRange(ip("10.0.0.0/8")) }',
    'when { context has purpose && context.purpose like "INC-*" }',
    "when { context.minute_of_day >= 480 && context.minute_of_day < 1080 }",
    "when { [1, 2, 3].contains(context.weekday) }",
    'when { context.now < datetime("2026-01-08T00:00:00Z") }',
    'when { context.now.toTime() >= duration("8h30m") }',
    "when { context.hour * 400000000000000000 > 0 }",
    "when { context has ticket && context.ticket.contains(3) }",
    'when { principal in Role::"ops" }',
    "when { resource.depth > 1 }",
    'unless { Secret::"c".depth > 1 }',
    "when { [context].contains(context) && context == context }",
    'when { {"when": context.weekday}.when == 3 || {a: {b: context.mfa}} has a.b }',
    "",
    "",
    "",
]
EXTENSION = Document("extra.cedarschema", "schema-extension", "type Context = { ticket?: Set<Long> };")


@dataclass(frozen=True, slots=True)
class World:
    """Documents and memberships."""

    documents: tuple[Document, ...]
    memberships: dict[str, frozenset[str]]


def random_rule(random: Random, number: int) -> str:
    effect = "forbid" if random.random() < 0.2 else "permit"
    scope = ", ".join(random.choice(parts) for parts in (PRINCIPALS, ACTIONS, RESOURCES))
    clauses = [random.choice(FIRST), *(random.choice(LATER) for _ in range(random.randrange(3)))]
    return f'@id("r{number}")\n{effect} ({scope})\n' + "\n".join(filter(None, clauses)) + ";\n"


def random_world(random: Random, rules: int) -> World:
    text = "\n".join(random_rule(random, number) for number in range(rules))
    memberships = {user: frozenset(f"role:{role}" for role in ROLES if random.random() < 0.4) for user in USERS}
    if random.random() < 0.3:
        memberships["role:dev"] = frozenset({"role:web"})
    return World((Document("rules.cedar", "cedar", text), EXTENSION), memberships)


def random_path(random: Random) -> str:
    return "/".join(random.choice(NAMES) for _ in range(random.randrange(1, 5)))


def random_request(random: Random) -> Request:
    context: dict[str, object] = {}
    if random.random() < 0.5:
        context["mfa"] = random.random() < 0.7
    if random.random() < 0.5:
        context["source"] = random.choice(["10.1.2.3", "192.0.2.1", "2001:db8::1"])
    if random.random() < 0.5:
        context["purpose"] = random.choice(["INC-1", "curiosity"])
    if random.random() < 0.3:
        context["ticket"] = random.choice([[], [3, 1], {3}])
    action = random.choice(["read", "read", "list", "write", "destroy"])
    path = random_path(random)
    if action == "list" and random.random() < 0.3:
        path = random.choice(["", path + "/"])
    now = START + timedelta(minutes=random.randrange(7 * 24 * 60))
    return Request(random.choice(USERS), action, path, context, now)


def engine_decision(policy: Policy, request: Request) -> tuple[bool, tuple[str, ...], bool]:
    """Return allowed, determining ids and whether there was an error, from all rules at once.

    Nothing of the package's own way from a request to the engine is used, except for roles.
    """
    kind, _, name = request.principal.partition(":")
    principal = {"type": {"user": "User", "svc": "Service"}[kind], "id": name}
    roles = [{"type": "Role", "id": role.removeprefix("role:")} for role in sorted(policy.roles_of(request.principal))]
    bare = request.path.rstrip("/")
    names = bare.split("/") if bare else []
    is_folder = bare != request.path or not bare
    resource = {"type": "Folder" if is_folder else "Secret", "id": bare or "/"}
    folders = ["/".join(names[:count]) for count in range(1, len(names))] + (["/"] if bare else [])
    levels = names if is_folder else names[:-1]
    entities = [
        {"uid": principal, "attrs": {}, "parents": roles},
        {
            "uid": resource,
            "attrs": {"path": bare, "depth": len(names)},
            "parents": [{"type": "Folder", "id": folder} for folder in folders],
            "tags": {str(level): tag for level, tag in enumerate(levels, 1)},
        },
    ]
    now = request.now.astimezone(UTC)
    context: dict[str, object] = {"mfa": False, **request.context}
    if "source" in context:
        context["source"] = {"__extn": {"fn": "ip", "arg": context["source"]}}
    if "ticket" in context:
        context["ticket"] = list(context["ticket"])  # type: ignore[call-overload]  # a collection, see above
    context |= {
        "now": {"__extn": {"fn": "datetime", "arg": now.strftime("%Y-%m-%dT%H:%M:%SZ")}},
        "hour": now.hour,
        "minute_of_day": now.hour * 60 + now.minute,
        "weekday": now.isoweekday(),
    }
    result = cedarpy.is_authorized(
        {
            "principal": principal,
            "action": {"type": "Action", "id": request.action},
            "resource": resource,
            "context": json.dumps(context),
        },
        "\n".join(rule.cedar for rule in policy.rules),
        json.dumps(entities),
    )
    if result.diagnostics.errors or result.decision is cedarpy.Decision.NoDecision:
        return False, (), True
    return result.allowed, tuple(sorted(result.diagnostics.id_annotations_by_reason.values())), False
