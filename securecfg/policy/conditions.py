"""The `when` and `unless` of a grant: what they say, and the same in Cedar."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NoReturn

from securecfg.policy.patterns import quoted
from securecfg.policy.problems import did_you_mean
from securecfg.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MAX_ALTERNATIVES: Final = 16
_HOURS: Final = r"([01][0-9]|2[0-3]):([0-5][0-9])-(?:([01][0-9]|2[0-3]):([0-5][0-9])|(24):(00))"


class ConditionError(ValueError):
    """A condition is wrong; the text says why, and the hint what is right."""

    def __init__(self, message: str, hint: str = "") -> None:
        """Keep the hint apart."""
        super().__init__(message)
        self.message = message
        self.hint = hint


def _refuse(message: str, hint: str = "") -> NoReturn:
    raise ConditionError(message, hint) from None


class Condition(NamedTuple):
    """One condition.

    Attributes:
        name: `mfa`, `hours`, `weekdays`, `source` or `purpose`.
        value: As in the table, in canonical form.
        cedar: A Cedar expression that is true where the condition holds and never an error.
        needs: What it needs, in words.
    """

    name: str
    value: bool | str | tuple[str, ...]
    cedar: str
    needs: str


def _mfa(value: object) -> Condition:
    if value is not True:
        _refuse("`mfa` can only be `true`", "leave it out where it is not needed")
    return Condition("mfa", value=True, cedar="context.mfa", needs="a second factor")


def _hours(value: object) -> Condition:
    match = re.fullmatch(_HOURS, value) if isinstance(value, str) else None
    if match is None:
        _refuse("`hours` is not `HH:MM-HH:MM`", 'for instance "08:00-18:00", in UTC, the end not included')
    numbers = [int(group) for group in match.groups() if group is not None]
    begin, end = numbers[0] * 60 + numbers[1], numbers[2] * 60 + numbers[3]
    if begin == end:
        _refuse("`hours` begins when it ends", "leave it out for the whole day")
    joint = "&&" if begin < end else "||"
    cedar = f"context.minute_of_day >= {begin} {joint} context.minute_of_day < {end}"
    return Condition("hours", match[0], cedar, f"{match[0]} UTC")


def _weekday(name: str) -> int:
    if name not in WEEKDAYS:
        _refuse(f"`{name}` is not a day of the week", did_you_mean(name, WEEKDAYS))
    return WEEKDAYS.index(name)


def _weekdays(value: object) -> Condition:
    spans = _texts("weekdays", value.split(",") if isinstance(value, str) else value)
    days: set[int] = set()
    for span in (span.strip() for span in spans):
        first, dash, last = span.partition("-")
        begin = _weekday(first)
        length = (_weekday(last) - begin) % 7 + 1 if dash else 1
        days.update((begin + offset) % 7 for offset in range(length))
    numbers = ", ".join(str(day + 1) for day in sorted(days))
    written = ",".join(span.strip() for span in spans)
    return Condition("weekdays", written, f"[{numbers}].contains(context.weekday)", f"{written} (UTC)")


def _source(value: object) -> Condition:
    import ipaddress

    networks = _texts("source", [value] if isinstance(value, str) else value)
    for text in networks:
        try:
            network = ipaddress.ip_network(text)
        except ValueError:
            _refuse(f"`{text}` is not an address or network", 'for instance "10.0.0.0/8"')
        if str(network) != text and str(network.network_address) != text:
            _refuse(f"`{text}` is not in canonical form", f"write `{network}`")
    tests = " || ".join(f"context.source.isInRange(ip({quoted(text)}))" for text in networks)
    cedar = f"context has source && {tests}" if len(networks) == 1 else f"context has source && ({tests})"
    return Condition("source", networks, cedar, "a request from " + " or ".join(networks))


def _purpose(value: object) -> Condition:
    if value is True:
        return Condition("purpose", value=True, cedar='context has purpose && context.purpose != ""', needs="a purpose")
    patterns = _texts("purpose", [value] if isinstance(value, str) else value)
    for text in patterns:
        if not text or not text.isprintable() or "\\" in text:
            _refuse("a `purpose` is empty or has characters that cannot be shown")
    tests = " || ".join(f"context.purpose like {quoted(text)}" for text in patterns)
    cedar = f"context has purpose && {tests}" if len(patterns) == 1 else f"context has purpose && ({tests})"
    return Condition("purpose", patterns, cedar, "a purpose like " + " or ".join(f"`{text}`" for text in patterns))


def _texts(name: str, value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        _refuse(f"`{name}` is neither text nor a list of texts")
    if len(value) > MAX_ALTERNATIVES:
        _refuse(f"`{name}` has more than {MAX_ALTERNATIVES} items", "use several grants")
    return tuple(value)


_PARSERS: Final[Mapping[str, Callable[[object], Condition]]] = {
    "mfa": _mfa,
    "hours": _hours,
    "weekdays": _weekdays,
    "source": _source,
    "purpose": _purpose,
}
CONDITIONS: Final = tuple(_PARSERS)


def parse_condition(name: str, value: object) -> Condition:
    """Return one condition of a grant.

    Args:
        name: One of `CONDITIONS`.
        value: As `tomllib` returns it.

    Raises:
        ConditionError: The value does not fit.
    """
    return _PARSERS[name](value)
