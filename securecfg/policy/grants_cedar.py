"""Grants as Cedar text: one policy for each grant, under the same id."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.policy.patterns import Pattern, parse_pattern, pattern_term, quoted
from securecfg.policy.requests import KINDS
from securecfg.policy.schema import IMPERSONATE, ROOT, SECRET_ACTIONS
from securecfg.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from securecfg.policy.conditions import Condition
    from securecfg.policy.grants import Grant


class _Term(NamedTuple):
    """What a resource may be, and whether a scope can say it: there is no place in one for sets and wildcards."""

    cedar: str
    fits_scope: bool = True


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
    # Only hours over midnight are an `||` that nothing encloses yet.
    return " && ".join(f"({one.cedar})" if one.name == "hours" else one.cedar for one in conditions)


def _resource(grant: Grant) -> tuple[str, list[str]]:
    """Return the resource part of the scope, and the first clause where one scope cannot say it."""
    if grant.actions == (IMPERSONATE,):
        terms = _principal_terms(grant.principals)
    elif grant.actions[0] in SECRET_ACTIONS:
        if "**" in grant.paths:
            return "resource", []
        terms = _path_terms([parse_pattern(path) for path in grant.paths])
    else:
        terms = [_Term(f"resource == Folder::{quoted(ROOT)}")]
    if len(terms) == 1 and terms[0].fits_scope:
        return terms[0].cedar, []
    return "resource", [f"when {{ {' || '.join(term.cedar for term in terms)} }}"]


def _path_terms(patterns: Sequence[Pattern]) -> list[_Term]:
    folders = [pattern.folder for pattern in patterns if pattern.is_subtree and not pattern.has_wildcard]
    secrets = [
        "/".join(pattern.segments) for pattern in patterns if not pattern.is_subtree and not pattern.has_wildcard
    ]
    return [
        *_one_of("in", "Folder", folders),
        *_one_of("==", "Secret", secrets),
        *(_Term(pattern_term(pattern), fits_scope=False) for pattern in patterns if pattern.has_wildcard),
    ]


def _principal_terms(principals: Sequence[str]) -> list[_Term]:
    everyone = [_Term(f"resource is {KINDS[principal[:-2]]}") for principal in principals if principal.endswith(":*")]
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


def _one_of(operator: str, type_name: str, ids: Sequence[str]) -> list[_Term]:
    """Return no term for no id, a plain one for one, and one over a set for several."""
    entities = [f"{type_name}::{quoted(entity_id)}" for entity_id in ids]
    if len(entities) > 1:
        return [_Term(f"resource in [{', '.join(entities)}]", fits_scope=False)]
    return [_Term(f"resource {operator} {entity}") for entity in entities]
