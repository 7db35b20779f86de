"""Which rules might apply to a request, found by their scope.

Cedar evaluates a rule only if its scope (principal, action, resource) matches, and errors arise only in what is
evaluated. So leaving out rules whose scope cannot match changes neither decisions, nor reasons, nor errors. The cost of
a decision then follows the few rules that remain, not the size of the policy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cedarpy import pst

from securecfg.policy.requests import ANYTHING, key_of
from securecfg.policy.schema import ACTIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

ANY_ENTITY: Final = (ANYTHING,)


def entity_key(uid: pst.EntityUid) -> str:
    """Return the index key of an entity that a rule names."""
    return key_of(uid.type.basename, uid.id)


def scope_key(constraint: pst.PrincipalOrResourceConstraint) -> str:
    """Return the key that an entity must have for a scope to match."""
    match constraint:
        case pst.ScopeEq(pst.EntityUid() as uid) | pst.ScopeIn(pst.EntityUid() as uid):
            return entity_key(uid)
        case pst.ScopeIsIn(_, pst.EntityUid() as uid):
            return entity_key(uid)
        case pst.ScopeIs(entity_type):
            return entity_type.basename
        case _:
            return ANYTHING


def scope_actions(constraint: pst.ActionConstraint) -> tuple[str, ...]:
    """Return the actions that a scope covers. The schema has no groups of actions."""
    match constraint:
        case pst.ActionEq(uid):
            return (uid.id,)
        case pst.ActionIn(uids):
            return tuple(dict.fromkeys(uid.id for uid in uids))
        case _:
            return ACTIONS


def resource_keys(template: pst.Template) -> tuple[str, ...]:
    """Return keys of which a resource must have one for a rule to apply.

    A scope names one resource; a rule of many says `when { resource in [...] }`, or an `||` of such terms, in its
    first clause. Only the first counts: a later one is not reached where an earlier one is an error.
    """
    key = scope_key(template.resource)
    if key != ANYTHING or not template.clauses:
        return (key,)
    first = template.clauses[0]
    if not isinstance(first, pst.When):
        return ANY_ENTITY
    return tuple(dict.fromkeys(_keys_of(first.expr))) or ANY_ENTITY


def _keys_of(expr: pst.Expr) -> tuple[str, ...]:
    """Return keys of which a resource must have one for an expression to be other than false, or `ANY_ENTITY`."""
    match expr:
        case pst.BinaryOp("or", left, right):
            found = (_keys_of(left), _keys_of(right))
            return ANY_ENTITY if ANY_ENTITY in found else found[0] + found[1]
        case pst.BinaryOp("and", left, right):
            keys = _keys_of(left)
            # `resource is Secret` cannot be an error, so what follows it may narrow as well.
            if keys == ANY_ENTITY and isinstance(left, pst.Is) and left.base == pst.Var("resource"):
                return _keys_of(right) if left.in_expr is None else ANY_ENTITY
            return keys
        case pst.BinaryOp("eq" | "in", pst.Var("resource"), pst.EntityLit(uid)):
            return (entity_key(uid),)
        case pst.BinaryOp("in", pst.Var("resource"), pst.Set(elements)) if elements and all(
            isinstance(element, pst.EntityLit) for element in elements
        ):
            return tuple(entity_key(element.value) for element in elements if isinstance(element, pst.EntityLit))
        case _:
            return ANY_ENTITY


class ScopeIndex:
    """Rules by action, principal and resource."""

    __slots__ = ("_by_action",)

    def __init__(self, templates: Sequence[pst.Template]) -> None:
        """Index rules by their position."""
        self._by_action: dict[str, dict[str, dict[str, list[int]]]] = {action: {} for action in ACTIONS}
        for position, template in enumerate(templates):
            principal = scope_key(template.principal)
            keys = resource_keys(template)
            for action in scope_actions(template.action):
                resources = self._by_action[action].setdefault(principal, {})
                for key in keys:
                    resources.setdefault(key, []).append(position)

    def for_principal(self, action: str, keys: Iterable[str]) -> list[dict[str, list[int]]]:
        """Return the maps from resource keys to rules that concern a principal with the given keys."""
        principals = self._by_action[action]
        return [principals[key] for key in keys if key in principals]


def candidates(maps: Sequence[dict[str, list[int]]], keys: Sequence[str]) -> tuple[int, ...]:
    """Return the rules that might apply to a resource with the given keys, in order, each once."""
    return tuple(sorted(set(_found(maps, keys))))


def _found(maps: Sequence[dict[str, list[int]]], keys: Sequence[str]) -> Iterator[int]:
    for resources in maps:
        for key in keys:
            rules = resources.get(key)
            if rules is not None:
                yield from rules
