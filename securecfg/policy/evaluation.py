"""A second evaluator of Cedar's expressions, which can say what it saw.

The engine decides; this one explains. It evaluates rules that passed strict validation, so types always fit, and what
can still fail is arithmetic and attributes of entities that are not there. Whoever uses it compares its outcome with
the engine's (`securecfg.policy.explanation` does) and shows nothing where the two differ.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from cedarpy import pst

from securecfg.policy.context import LONG_MAX, LONG_MIN, element_type, milliseconds, to_address

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from securecfg.policy.requests import Entity

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
DAY_MS: Final = 86_400_000
_PART_MS: Final = {"d": DAY_MS, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_DURATION = re.compile(r"(\d+)(ms|[dhms])")
_DATETIME = re.compile(r"(\d{4}-\d\d-\d\d)(?:T(\d\d:\d\d:\d\d)(\.\d{3})?(Z|[+-]\d{4}))?")


class EvaluationFailed(Exception):
    """An expression has no value; the text says why, without any value."""


@dataclass(frozen=True, slots=True, order=True)
class Instant:
    """A point in time, in milliseconds since 1970."""

    ms: int


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A duration in milliseconds."""

    ms: int


@dataclass(frozen=True, slots=True, order=True)
class Fixed:
    """A decimal number, in ten-thousandths."""

    units: int


def _long(value: int) -> int:
    if not LONG_MIN <= value <= LONG_MAX:
        message = "a number is out of range"
        raise EvaluationFailed(message)
    return value


def _parse_duration(text: str) -> Span:
    total = sum(int(number) * _PART_MS[unit] for number, unit in _DURATION.findall(text))
    return Span(_long(-total if text.startswith("-") else total))


def _parse_instant(text: str) -> Instant:
    date, time, fraction, zone = _DATETIME.findall(text)[0]  # the engine's validation admits no other literal
    written = f"{date}T{time or '00:00:00'}{fraction or ''}{zone or 'Z'}"
    return _milliseconds_since_epoch(datetime.fromisoformat(written))


def _parse_decimal(text: str) -> Fixed:
    return Fixed(_long(int(Decimal(text) * 10_000)))


def _milliseconds_since_epoch(value: datetime) -> Instant:
    return Instant((value - EPOCH) // timedelta(milliseconds=1))


_FROM_CONTEXT: Final[Mapping[str, Callable[[Any], object]]] = {
    "ipaddr": lambda value: ipaddress.ip_interface(to_address(value)),
    "datetime": _milliseconds_since_epoch,
    "duration": lambda value: Span(milliseconds(value)),
    "decimal": lambda value: Fixed(int(value * 10_000)),
}


def to_value(type_name: str, value: Any) -> object:  # noqa: ANN401 - of the type named
    """Return a value of the context as this evaluator computes with it."""
    inner = element_type(type_name)
    if inner is not None:
        return frozenset(to_value(inner, item) for item in value)
    convert = _FROM_CONTEXT.get(type_name)
    return value if convert is None else convert(value)


def _truncated(dividend: int, divisor: int) -> int:
    """Divide towards zero, as Cedar does."""
    quotient = abs(dividend) // divisor
    return quotient if dividend >= 0 else -quotient


def _is_in_range(inner: Any, outer: Any) -> bool:  # noqa: ANN401 - interfaces of either family
    return bool(inner.version == outer.version and inner.network.subnet_of(outer.network))


def _in_multicast(address: Any) -> bool:  # noqa: ANN401 - interfaces of either family
    reserved = ipaddress.ip_network("224.0.0.0/4" if address.version == 4 else "ff00::/8")  # noqa: PLR2004 - IPv4
    return bool(address.network.subnet_of(reserved))


def _is_loopback(address: Any) -> bool:  # noqa: ANN401 - interfaces of either family
    loopback = ipaddress.ip_network("127.0.0.0/8" if address.version == 4 else "::1/128")  # noqa: PLR2004 - IPv4
    return bool(address.network.subnet_of(loopback))


_UNARY: Final[Mapping[str, Callable[[Any], object]]] = {
    "not": lambda value: not value,
    "neg": lambda value: _long(-value),
    "is_empty": lambda value: not value,
    "datetime": _parse_instant,
    "decimal": _parse_decimal,
    "duration": _parse_duration,
    "ip": ipaddress.ip_interface,
    "is_ipv4": lambda value: value.version == 4,  # noqa: PLR2004 - IPv4
    "is_ipv6": lambda value: value.version == 6,  # noqa: PLR2004 - IPv6
    "is_loopback": _is_loopback,
    "is_multicast": _in_multicast,
    "to_date": lambda value: Instant(_long(value.ms // DAY_MS * DAY_MS)),
    "to_time": lambda value: Span(value.ms % DAY_MS),
    "to_milliseconds": lambda value: value.ms,
    "to_seconds": lambda value: _truncated(value.ms, 1_000),
    "to_minutes": lambda value: _truncated(value.ms, 60_000),
    "to_hours": lambda value: _truncated(value.ms, 3_600_000),
    "to_days": lambda value: _truncated(value.ms, DAY_MS),
}

_BINARY: Final[Mapping[str, Callable[[Any, Any], object]]] = {
    "eq": lambda left, right: left == right,
    "not_eq": lambda left, right: left != right,
    "less": lambda left, right: left < right,
    "less_eq": lambda left, right: left <= right,
    "greater": lambda left, right: left > right,
    "greater_eq": lambda left, right: left >= right,
    "add": lambda left, right: _long(left + right),
    "sub": lambda left, right: _long(left - right),
    "mul": lambda left, right: _long(left * right),
    "contains": lambda left, right: right in left,
    "contains_all": lambda left, right: right <= left,
    "contains_any": lambda left, right: not right.isdisjoint(left),
    "is_in_range": _is_in_range,
    "offset": lambda left, right: Instant(_long(left.ms + right.ms)),
    "duration_since": lambda left, right: Span(_long(left.ms - right.ms)),
    "decimal_less_than": lambda left, right: left < right,
    "decimal_less_eq": lambda left, right: left <= right,
    "decimal_greater": lambda left, right: left > right,
    "decimal_greater_eq": lambda left, right: left >= right,
}


@cache
def entity_uid(type_name: str, entity_id: str) -> pst.EntityUid:
    """Return the tree's form of an entity."""
    return pst.EntityUid(pst.EntityType(type_name), entity_id)


def like_pattern(pattern: tuple[pst.PatternElem, ...]) -> re.Pattern[str]:
    """Return the regular expression that fits, as a whole, what a pattern of `like` fits."""
    parts = (".*" if isinstance(part, pst.Wildcard) else re.escape(part.value) for part in pattern)
    return re.compile("".join(parts), re.DOTALL)


class Evaluator:
    """Evaluates expressions for one request.

    Attributes:
        seen: What expressions read of the context and the resource, by name, in the order of reading; None where
            there was nothing.
    """

    def __init__(
        self,
        principal: Entity,
        action: str,
        resource: Entity,
        context: Mapping[str, object],
        types: Mapping[str, str],
    ) -> None:
        """Take what the engine would be given, and the types of the context's attributes."""
        self._principal = entity_uid(principal.type, principal.id)
        self._resource = entity_uid(resource.type, resource.id)
        self._entities = {self._resource: resource, self._principal: principal}
        self._ancestors = {
            uid: {uid, *(entity_uid(*ancestor) for ancestor in entity.ancestors)}
            for uid, entity in self._entities.items()
        }
        self._variables: dict[str, object] = {
            "principal": self._principal,
            "action": entity_uid("Action", action),
            "resource": self._resource,
            "context": pst.FrozenMap({name: to_value(types[name], value) for name, value in context.items()}),
        }
        self._given = context
        self.seen: dict[str, object] = {}

    def is_within(self, entity: pst.EntityUid, other: pst.EntityUid) -> bool:
        """Whether an entity is another or lies in it."""
        return other in self._ancestors.get(entity, {entity})

    def matches(self, name: pst.VarName, constraint: pst.PrincipalOrResourceConstraint) -> bool:
        """Whether the principal or the resource fits its part of a scope."""
        entity = self._principal if name == "principal" else self._resource
        match constraint:
            case pst.ScopeEq(pst.EntityUid() as uid):
                return entity == uid
            case pst.ScopeIn(pst.EntityUid() as uid):
                return self.is_within(entity, uid)
            case pst.ScopeIs(entity_type):
                return entity.type == entity_type
            case pst.ScopeIsIn(entity_type, pst.EntityUid() as uid):
                return entity.type == entity_type and self.is_within(entity, uid)
            case _:
                return True

    def is_true(self, expr: pst.Expr) -> bool:
        """Whether an expression is true.

        Raises:
            EvaluationFailed: It has no value.
        """
        return self._value(expr) is True

    def _value(self, expr: pst.Expr) -> Any:  # noqa: ANN401, C901, PLR0911, PLR0912 - one case for each kind of node
        match expr:
            case pst.BoolLit(value) | pst.LongLit(value) | pst.StringLit(value) | pst.EntityLit(value):
                return value
            case pst.Var(name):
                return self._variables[name]
            case pst.BinaryOp("and", left, right):
                return self._value(left) and self._value(right)
            case pst.BinaryOp("or", left, right):
                return self._value(left) or self._value(right)
            case pst.BinaryOp("in", left, right):
                return self._is_in(self._value(left), self._value(right))
            case pst.BinaryOp("has_tag", left, right):
                return self._value(right) in self._tags(self._value(left))
            case pst.BinaryOp("get_tag", left, right):
                return self._tag(self._value(left), self._value(right))
            case pst.BinaryOp(operator, left, right):
                return _BINARY[operator](self._value(left), self._value(right))
            case pst.UnaryOp(operator, argument):
                return _UNARY[operator](self._value(argument))
            case pst.GetAttr(base, name):
                return self._attribute(base, name)
            case pst.HasAttr(base, names):
                return self._has(base, names)
            case pst.Like(base, pattern):
                return like_pattern(pattern).fullmatch(self._value(base)) is not None
            case pst.Is(base, entity_type, inside):
                entity = self._value(base)
                return entity.type == entity_type and (inside is None or self._is_in(entity, self._value(inside)))
            case pst.IfThenElse(condition, then, otherwise):
                return self._value(then if self._value(condition) else otherwise)
            case pst.Set(elements):
                return frozenset(map(self._value, elements))
            case pst.Record(fields):
                return pst.FrozenMap({name: self._value(value) for name, value in fields.items()})
            case _:
                message = f"`{type(expr).__name__}` is not known here"
                raise EvaluationFailed(message)

    def _is_in(self, entity: pst.EntityUid, container: pst.EntityUid | frozenset[pst.EntityUid]) -> bool:
        if isinstance(container, frozenset):
            return any(self.is_within(entity, other) for other in container)
        return self.is_within(entity, container)

    def _entity(self, uid: pst.EntityUid) -> Entity:
        entity = self._entities.get(uid)
        if entity is None:
            message = "a rule asks about an entity other than the principal and the resource"
            raise EvaluationFailed(message)
        return entity

    def _tags(self, uid: pst.EntityUid) -> Mapping[str, str]:
        entity = self._entities.get(uid)
        return {} if entity is None else entity.tags

    def _tag(self, uid: pst.EntityUid, name: str) -> str:
        tags = self._entity(uid).tags
        if name not in tags:
            message = "a rule reads a tag that is not there"
            raise EvaluationFailed(message)
        return tags[name]

    def _attribute(self, base: pst.Expr, name: str) -> object:
        value = self._value(base)
        fields = self._entity(value).attributes if isinstance(value, pst.EntityUid) else value
        if name not in fields:
            message = "a rule reads an attribute that is not there"
            raise EvaluationFailed(message)
        if base == pst.Var("context"):
            self.seen[f"context.{name}"] = self._given[name]
        return fields[name]

    def _has(self, base: pst.Expr, names: tuple[str, ...]) -> bool:
        value = self._value(base)
        for name in names:
            fields = self._attributes_or_none(value)
            if name not in fields:
                if base == pst.Var("context"):
                    self.seen[f"context.{name}"] = None
                return False
            value = fields[name]
        return True

    def _attributes_or_none(self, value: Any) -> Mapping[str, object]:  # noqa: ANN401 - an entity or a record
        if isinstance(value, pst.EntityUid):
            entity = self._entities.get(value)
            return {} if entity is None else entity.attributes
        return value  # type: ignore[no-any-return]  # validated: what has attributes is an entity or a record
