"""Cedar's typed tree back as text, for explanations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cedarpy import pst

from securecfg.policy.patterns import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

_INFIX: Final[Mapping[str, tuple[str, int]]] = {
    "or": ("||", 1),
    "and": ("&&", 2),
    "eq": ("==", 3),
    "not_eq": ("!=", 3),
    "less": ("<", 3),
    "less_eq": ("<=", 3),
    "greater": (">", 3),
    "greater_eq": (">=", 3),
    "in": ("in", 3),
    "add": ("+", 4),
    "sub": ("-", 4),
    "mul": ("*", 5),
}
_METHODS: Final[Mapping[str, str]] = {
    "is_empty": "isEmpty",
    "is_ipv4": "isIpv4",
    "is_ipv6": "isIpv6",
    "is_loopback": "isLoopback",
    "is_multicast": "isMulticast",
    "to_date": "toDate",
    "to_time": "toTime",
    "to_milliseconds": "toMilliseconds",
    "to_seconds": "toSeconds",
    "to_minutes": "toMinutes",
    "to_hours": "toHours",
    "to_days": "toDays",
    "contains": "contains",
    "contains_all": "containsAll",
    "contains_any": "containsAny",
    "get_tag": "getTag",
    "has_tag": "hasTag",
    "is_in_range": "isInRange",
    "offset": "offset",
    "duration_since": "durationSince",
    "decimal_less_than": "lessThan",
    "decimal_less_eq": "lessThanOrEqual",
    "decimal_greater": "greaterThan",
    "decimal_greater_eq": "greaterThanOrEqual",
}
_COMPARISON: Final = 3
_PREFIX: Final = 6
_MEMBER: Final = 7


def cedar_text(expr: pst.Expr) -> str:
    """Return an expression as Cedar text on one line, with no more parentheses than it needs."""
    return _render(expr)[0]


def _within(expr: pst.Expr, strength: int) -> str:
    """Return an expression as a part of one that binds with some strength."""
    text, own = _render(expr)
    return text if own >= strength else f"({text})"


def _render(expr: pst.Expr) -> tuple[str, int]:  # noqa: C901, PLR0911, PLR0912 - one case for each kind of node
    """Return text and how strongly its outermost operator binds."""
    match expr:
        case pst.BoolLit(value):
            return ("true" if value else "false"), _MEMBER
        case pst.LongLit(value):
            return str(value), _MEMBER if value >= 0 else _PREFIX
        case pst.StringLit(value):
            return quoted(value), _MEMBER
        case pst.EntityLit(uid):
            return f"{uid.type}::{quoted(uid.id)}", _MEMBER
        case pst.Var(name):
            return name, _MEMBER
        case pst.UnaryOp("not", argument):
            return f"!{_within(argument, _PREFIX)}", _PREFIX
        case pst.UnaryOp("neg", pst.LongLit(value)):
            return f"-({value})", _PREFIX  # without parentheses it would be a literal
        case pst.UnaryOp("neg", argument):
            return f"-{_within(argument, _MEMBER)}", _PREFIX
        case pst.UnaryOp("datetime" | "decimal" | "duration" | "ip" as function, argument):
            return f"{function}({cedar_text(argument)})", _MEMBER
        case pst.UnaryOp(operator, argument):
            return f"{_within(argument, _MEMBER)}.{_METHODS[operator]}()", _MEMBER
        case pst.BinaryOp(operator, left, right) if operator in _INFIX:
            sign, strength = _INFIX[operator]
            # Comparisons do not chain, and the others group to the left.
            left_text = _within(left, strength + (strength == _COMPARISON))
            return f"{left_text} {sign} {_within(right, strength + 1)}", strength
        case pst.BinaryOp(operator, left, right):
            return f"{_within(left, _MEMBER)}.{_METHODS[operator]}({cedar_text(right)})", _MEMBER
        case pst.GetAttr(base, name):
            return f"{_within(base, _MEMBER)}{_access(name)}", _MEMBER
        case pst.HasAttr(base, names):
            attributes = ".".join(names) if all(map(str.isidentifier, names)) else quoted(names[0])
            return f"{_within(base, _COMPARISON + 1)} has {attributes}", _COMPARISON
        case pst.Like(base, pattern):
            return f"{_within(base, _COMPARISON + 1)} like {_pattern(pattern)}", _COMPARISON
        case pst.Is(base, entity_type, inside):
            suffix = "" if inside is None else f" in {_within(inside, _COMPARISON + 1)}"
            return f"{_within(base, _COMPARISON + 1)} is {entity_type}{suffix}", _COMPARISON
        case pst.IfThenElse(condition, then, otherwise):
            return f"if {cedar_text(condition)} then {cedar_text(then)} else {cedar_text(otherwise)}", 0
        case pst.Set(elements):
            return f"[{', '.join(map(cedar_text, elements))}]", _MEMBER
        case pst.Record(fields):
            inner = ", ".join(f"{quoted(name)}: {cedar_text(value)}" for name, value in fields.items())
            return f"{{{inner}}}", _MEMBER
        case _:
            return f"?{expr.name}", _MEMBER


def _access(name: str) -> str:
    return f".{name}" if name.isascii() and name.isidentifier() else f"[{quoted(name)}]"


def _pattern(pattern: tuple[pst.PatternElem, ...]) -> str:
    parts = ("*" if isinstance(part, pst.Wildcard) else _character(part.value) for part in pattern)
    return f'"{"".join(parts)}"'


def _character(text: str) -> str:
    return r"\*" if text == "*" else quoted(text)[1:-1]
