"""What a rule looks at beside its scope."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from securecfg.policy.schema import TIME_ATTRIBUTES
from securecfg.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from securecfg.policy.cedar import Tree


class Usage(NamedTuple):
    """What clauses mention.

    Attributes:
        context: Names of the context's attributes.
        whole_context: Whether the context as such is mentioned, and thus all of it.
        tags: Whether tags are asked for.
        resource: Whether the resource is, by the variable or by a name.
    """

    context: frozenset[str] = frozenset()
    whole_context: bool = False
    tags: bool = False
    resource: bool = False

    @property
    def time(self) -> bool:
        """Whether the time is mentioned."""
        return self.whole_context or not self.context.isdisjoint(TIME_ATTRIBUTES)

    def __or__(self, other: Usage) -> Usage:
        """Join what two mention."""
        return Usage(
            self.context | other.context,
            self.whole_context or other.whole_context,
            self.tags or other.tags,
            self.resource or other.resource,
        )


NOTHING: Final = Usage()


def usage_of(conditions: Iterable[Tree]) -> Usage:
    """Return what the clauses of a rule mention."""
    total = NOTHING
    for condition in conditions:
        for usage in _mentions(condition["body"]):
            total |= usage
    return total


def _mentions(expr: Tree) -> Iterator[Usage]:
    match expr:
        case {".": {"left": {"Var": "context"}, "attr": name}} | {"has": {"left": {"Var": "context"}, "attr": name}}:
            yield Usage(context=frozenset({name}))
            return
        case {"Var": "context"}:
            yield Usage(whole_context=True)
        case {"Var": "resource"}:
            yield Usage(resource=True)
        case {"Value": {"__entity": {"type": "Secret" | "Folder"}}}:
            # What is known of an entity that is named depends on whether it happens to be the resource.
            yield Usage(resource=True)
        case {"getTag": _} | {"hasTag": _}:
            yield Usage(tags=True)
        case _:
            pass
    for child in _children(expr):
        yield from _mentions(child)


def _children(expr: Tree) -> Iterator[Tree]:
    """Yield the expressions directly in an expression."""
    ((kind, body),) = expr.items()
    if kind in {"Value", "Var"}:
        return
    # The elements of a set and the arguments of a function are a list; all else has names, and names of other things.
    yield from (part for part in (body if isinstance(body, list) else body.values()) if isinstance(part, dict))
