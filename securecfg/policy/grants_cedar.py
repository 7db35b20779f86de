"""Grants as Cedar text: one policy for each grant, under the same id."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.policy.patterns import Pattern, parse_pattern, pattern_term, quoted
from securecfg.policy.requests import KINDS
from securecfg.policy.schema import IMPERSONATE, ROOT, SECRET_ACTIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from securecfg.policy.conditions import Condition
    from securecfg.policy.grants import Grant


def grant_to_cedar(grant: Grant) -> str:
    """Return a grant as one Cedar policy."""
    effect = "forbid" if grant.forbids else "permit"
    actions = [f"Action::{quoted(action)}" for action in grant.actions]
    action = f"action == {actions[0]}" if len(actions) == 1 else f"action in [{', '.join(actions)}]"
    resource, clauses = _resource(grant)
    clauses += [f"when {{ {condition.cedar} }}" for condition in grant.when]
    if grant.unless:
        clauses.append(f"unless {{ {_all(grant.unless)} }}")
    head = (
        f"@id({quoted(grant.id)})\n{effect} (\n  principal in Role::{quoted(grant.role)},\n  {action},\n  {resource}\n)"
    )
    return "\n".join([head, *clauses]) + ";\n"


def _all(conditions: Sequence[Condition]) -> str:
    if len(conditions) == 1:
        return conditions[0].cedar
    return " && ".join(f"({condition.cedar})" for condition in conditions)


def _resource(grant: Grant) -> tuple[str, list[str]]:
    """Return the resource part of the scope, and the first clause where one scope cannot say it."""
    if grant.actions == (IMPERSONATE,):
        terms = _principal_terms(grant.principals)
    elif grant.actions[0] in SECRET_ACTIONS:
        if "**" in grant.paths:
            return "resource", []
        terms = _path_terms([parse_pattern(path) for path in grant.paths])
    else:
        terms = [f"resource == Folder::{quoted(ROOT)}"]
    if len(terms) == 1 and not terms[0].startswith("("):
        return terms[0], []
    return "resource", [f"when {{ {' || '.join(terms)} }}"]


def _path_terms(patterns: Sequence[Pattern]) -> list[str]:
    folders = [pattern.folder for pattern in patterns if pattern.is_subtree and not pattern.has_wildcard]
    secrets = [
        "/".join(pattern.segments) for pattern in patterns if not pattern.is_subtree and not pattern.has_wildcard
    ]
    return [
        *_one_of("in", "Folder", folders),
        *_one_of("==", "Secret", secrets),
        *(pattern_term(pattern) for pattern in patterns if pattern.has_wildcard),
    ]


def _principal_terms(principals: Sequence[str]) -> list[str]:
    everyone = [f"resource is {KINDS[principal[:-2]]}" for principal in principals if principal.endswith(":*")]
    named: dict[str, list[str]] = {"user": [], "svc": [], "role": []}
    for principal in principals:
        kind, _, name = principal.partition(":")
        if name != "*":
            named[kind].append(name)
    return [
        *everyone,
        *_one_of("==", "User", named["user"]),
        *_one_of("==", "Service", named["svc"]),
        *_one_of("in", "Role", named["role"]),
    ]


def _one_of(operator: str, type_name: str, ids: Sequence[str]) -> list[str]:
    """Return no term for no id, a plain one for one, and one over a set for several."""
    entities = [f"{type_name}::{quoted(entity_id)}" for entity_id in ids]
    if len(entities) > 1:
        return [f"resource in [{', '.join(entities)}]"]
    return [f"resource {operator} {entity}" for entity in entities]
