"""Which rules might apply to a request, found by their scope.

Cedar evaluates a rule only if its scope (principal, action, resource) matches, and errors arise only in what is
evaluated. So leaving out rules whose scope cannot match changes neither decisions, nor reasons, nor errors. The cost of
a decision then follows the few rules that remain, not the size of the policy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from securecfg.policy.requests import ANYTHING, key_of
from securecfg.policy.schema import ACTIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from securecfg.policy.cedar import Tree

ANY_ENTITY: Final = (ANYTHING,)


def scope_key(constraint: Tree) -> str:
    """Return the key that an entity must have for a scope to match."""
    match constraint:
        case {"entity": {"type": kind, "id": name}} | {"in": {"entity": {"type": kind, "id": name}}}:
            return key_of(kind, name)
        case {"op": "is", "entity_type": kind}:
            return str(kind)
        case _:
            return ANYTHING


def scope_actions(constraint: Tree) -> tuple[str, ...]:
    """Return the actions that a scope covers. The schema has no groups of actions."""
    match constraint:
        case {"entity": {"id": action}}:
            return (action,)
        case {"entities": entities}:
            return tuple(dict.fromkeys(entity["id"] for entity in entities))
        case _:
            return ACTIONS


def resource_keys(tree: Tree) -> tuple[str, ...]:
    """Return keys of which a resource must have one for a rule to apply.

    A scope names one resource; a rule of many says `when { resource in [...] }`, or an `||` of such terms, in its
    first clause. Only the first counts: a later one is not reached where an earlier one is an error.
    """
    key = scope_key(tree["resource"])
    if key != ANYTHING:
        return (key,)
    match tree["conditions"]:
        case [{"kind": "when", "body": expr}, *_]:
            return tuple(dict.fromkeys(_keys_of(expr)))
        case _:
            return ANY_ENTITY


def _keys_of(expr: Tree) -> tuple[str, ...]:
    """Return keys of which a resource must have one for an expression to be other than false, or `ANY_ENTITY`."""
    match expr:
        case {"||": {"left": left, "right": right}}:
            found = (_keys_of(left), _keys_of(right))
            return ANY_ENTITY if ANY_ENTITY in found else found[0] + found[1]
        case {"&&": {"left": left, "right": right}}:
            keys = _keys_of(left)
            # `resource is Secret` cannot be an error, so what follows it may narrow as well.
            return _keys_of(right) if keys == ANY_ENTITY and _is_of_type(left) else keys
        case {"==": {"left": {"Var": "resource"}, "right": {"Value": {"__entity": entity}}}} | {
            "in": {"left": {"Var": "resource"}, "right": {"Value": {"__entity": entity}}}
        }:
            return (key_of(entity["type"], entity["id"]),)
        case {"in": {"left": {"Var": "resource"}, "right": {"Set": elements}}}:
            entities = named_entities(elements)
            return tuple(key_of(*entity) for entity in entities) or ANY_ENTITY
        case _:
            return ANY_ENTITY


def _is_of_type(expr: Tree) -> bool:
    """Whether an expression asks for the type of the resource and no more."""
    match expr:
        case {"is": {"left": {"Var": "resource"}, **rest}}:
            return "in" not in rest
        case _:
            return False


def named_entities(elements: Sequence[Tree]) -> list[tuple[str, str]]:
    """Return type and id of the entities of a set, or nothing where it has other elements."""
    found: list[tuple[str, str]] = []
    for element in elements:
        match element:
            case {"Value": {"__entity": {"type": kind, "id": name}}}:
                found.append((kind, name))
            case _:
                return []
    return found


class ScopeIndex:
    """Rules by action, principal and resource."""

    __slots__ = ("_by_action",)

    def __init__(self, trees: Sequence[Tree]) -> None:
        """Index rules by their position."""
        self._by_action: dict[str, dict[str, dict[str, list[int]]]] = {action: {} for action in ACTIONS}
        for position, tree in enumerate(trees):
            principal = scope_key(tree["principal"])
            keys = resource_keys(tree)
            for action in scope_actions(tree["action"]):
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
