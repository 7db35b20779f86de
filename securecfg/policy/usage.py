"""What a rule looks at beside its scope."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from cedarpy import pst

from securecfg.policy.schema import TIME_ATTRIBUTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


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


def usage_of(clauses: Iterable[pst.Clause]) -> Usage:
    """Return what clauses mention."""
    total = NOTHING
    for clause in clauses:
        for usage in _mentions(clause.expr):
            total |= usage
    return total


def _mentions(expr: object) -> Iterator[Usage]:
    match expr:
        case pst.GetAttr(pst.Var("context"), name) | pst.HasAttr(pst.Var("context"), (name, *_)):
            yield Usage(context=frozenset({name}))
            return
        case pst.Var("context"):
            yield Usage(whole_context=True)
        case pst.Var("resource"):
            yield Usage(resource=True)
        case pst.EntityLit(uid) if uid.type.basename in {"Secret", "Folder"}:
            # What is known of an entity that is named depends on whether it happens to be the resource.
            yield Usage(resource=True)
        case pst.BinaryOp("get_tag" | "has_tag"):
            yield Usage(tags=True)
        case _:
            pass
    yield from (usage for child in children(expr) for usage in _mentions(child))


def children(node: object) -> Iterator[object]:
    """Yield the expressions directly in an expression."""
    if not is_dataclass(node) or isinstance(node, type):
        return
    for field in fields(node):
        value = getattr(node, field.name)
        if isinstance(value, tuple):
            yield from value
        elif isinstance(value, dict):
            yield from value.values()
        else:
            yield value
