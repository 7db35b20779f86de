"""The typed context: checking what the host vouches for, and putting it to the engine."""

from __future__ import annotations

import ipaddress
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

LONG_MIN: Final = -(2**63)
LONG_MAX: Final = 2**63 - 1


def _is_address(value: object) -> bool:
    if isinstance(value, ipaddress.IPv4Address | ipaddress.IPv6Address):
        return True
    if not isinstance(value, str):
        return False
    try:
        return "%" not in str(ipaddress.ip_address(value))
    except ValueError:
        return False


def _is_decimal(value: object) -> bool:
    return (
        isinstance(value, Decimal)
        and value.is_finite()
        and value == value.quantize(Decimal("0.0001"))
        and LONG_MIN <= value * 10_000 <= LONG_MAX
    )


_FITS: Final[Mapping[str, Callable[[object], bool]]] = {
    "Bool": lambda value: isinstance(value, bool),
    "Long": lambda value: isinstance(value, int) and not isinstance(value, bool) and LONG_MIN <= value <= LONG_MAX,
    "String": lambda value: isinstance(value, str) and value.isprintable(),
    "ipaddr": _is_address,
    "datetime": lambda value: isinstance(value, datetime) and value.tzinfo is not None,
    "duration": lambda value: isinstance(value, timedelta),
    "decimal": _is_decimal,
}
SCALAR_TYPES: Final = tuple(_FITS)


def _instant(value: datetime) -> str:
    return value.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def milliseconds(value: timedelta) -> int:
    """Return a duration in whole milliseconds, as Cedar counts it."""
    return value // timedelta(milliseconds=1)


_TO_CEDAR: Final[Mapping[str, tuple[str, Callable[..., str]]]] = {
    "ipaddr": ("ip", str),
    "datetime": ("datetime", _instant),
    "duration": ("duration", lambda value: f"{milliseconds(value)}ms"),
    "decimal": ("decimal", lambda value: f"{value:.4f}"),
}


def _encode(type_name: str, value: object) -> object:
    constructor = _TO_CEDAR.get(type_name)
    if constructor is None:
        return value
    function, text = constructor
    return {"__extn": {"fn": function, "arg": text(value)}}


def element_type(type_name: str) -> str | None:
    """Return `T` for `Set<T>`, else None."""
    return type_name[4:-1] if type_name.startswith("Set<") else None


def context_problem(context: Mapping[str, object], types: Mapping[str, str]) -> str | None:
    """Return why a context does not fit its types, without any value, or None.

    Args:
        context: What the host gives. The attributes of time are not its to give.
        types: Names and Cedar types of what it may give.
    """
    for name, value in context.items():
        type_name = types.get(name)
        if type_name is None:
            return f"the context has no attribute `{name}`"
        inner = element_type(type_name)
        if inner is None:
            fits = _FITS[type_name](value)
        else:
            fits = isinstance(value, list | tuple | set | frozenset) and all(map(_FITS[inner], value))
        if not fits:
            return f"the context's `{name}` is not a {type_name}"
    return None


def context_json(values: Mapping[str, object], types: Mapping[str, str], wanted: Iterable[str]) -> str:
    """Return the wanted attributes in Cedar's JSON; those that have no value are left out."""
    encoded: dict[str, object] = {}
    for name in wanted:
        if name not in values:
            continue
        type_name = types[name]
        inner = element_type(type_name)
        value = values[name]
        if inner is None:
            encoded[name] = _encode(type_name, value)
        else:
            encoded[name] = [_encode(inner, item) for item in value]  # type: ignore[attr-defined]  # checked before
    return json.dumps(encoded)
