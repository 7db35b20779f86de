"""The typed context: checking what the host vouches for, and putting it to the engine."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from securecfg.policy.schema import TIME_ATTRIBUTES

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping
    from ipaddress import IPv4Address, IPv6Address

LONG_MIN: Final = -(2**63)
LONG_MAX: Final = 2**63 - 1


def to_address(value: object) -> IPv4Address | IPv6Address:
    """Return an address; an IPv4 address that came through an IPv6 socket is the IPv4 address.

    Raises:
        ValueError: It is none, or an IPv6 address of one link (`fe80::1%eth0`).
    """
    import ipaddress  # like `decimal` below, for attributes that few policies have

    address = ipaddress.ip_address(str(value))
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            message = "an address of one link says nothing elsewhere"
            raise ValueError(message)
        return address.ipv4_mapped or address
    return address


def _is_address(value: object) -> bool:
    import ipaddress

    if not isinstance(value, str | ipaddress.IPv4Address | ipaddress.IPv6Address):
        return False
    try:
        to_address(value)
    except ValueError:
        return False
    return True


def _is_decimal(value: object) -> bool:
    from decimal import Decimal

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
    "ipaddr": ("ip", lambda value: str(to_address(value))),
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


def _fits(type_name: str, value: object) -> bool:
    inner = element_type(type_name)
    if inner is None:
        return _FITS[type_name](value)
    return isinstance(value, list | tuple | set | frozenset) and all(map(_FITS[inner], value))


def context_problem(context: Mapping[str, object], types: Mapping[str, str]) -> str | None:
    """Return why what the host vouches for does not fit its types, without any value, or None."""
    for name, value in context.items():
        if name in TIME_ATTRIBUTES:
            return "the time is the vault's to set, not the context's"
        type_name = types.get(name)
        if type_name is None:
            return f"the context has no attribute `{name}`"
        if not _fits(type_name, value):
            return f"the context's `{name}` is not a {type_name}"
    return None


def to_json(name: str, value: Any, types: Mapping[str, str]) -> str:  # noqa: ANN401 - of the attribute's type
    """Return one attribute in Cedar's JSON, without braces; its value must fit its type."""
    type_name = types[name]
    inner = element_type(type_name)
    encoded = _encode(type_name, value) if inner is None else [_encode(inner, item) for item in value]
    return f"{json.dumps(name)}:{json.dumps(encoded)}"


def context_key(context: Mapping[str, object]) -> Hashable | None:
    """Return a key under which what is known of a context can be kept, or None. `True` and `1` are not the same."""
    key = tuple((name, type(value), value) for name, value in context.items())
    try:
        hash(key)
    except TypeError:
        return None
    return key
