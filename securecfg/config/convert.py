"""One value to one type, and mappings to dataclasses."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Collection, Iterable, Mapping, MutableMapping, MutableSequence, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import MISSING, dataclass, fields
from enum import Enum
from types import NoneType
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, get_args, get_origin

from securecfg.config.annotations import fields_of, is_dataclass_model, is_pydantic_model, members_of, plain
from securecfg.config.keys import key_path
from securecfg.config.origins import locate
from securecfg.config.tree import Config
from securecfg.errors import ConfigTypeError, SecretInPlainField, SecurecfgError
from securecfg.secret import Secret
from securecfg.words import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.config.problems import KeyPath, Problems, Redactor

FAILED: Final = object()
"""What a conversion returns that has reported a problem."""

_LISTS: Mapping[Any, Callable[[Iterable[Any]], Any]] = {
    list: list,
    Sequence: list,
    MutableSequence: list,
    Collection: list,
    Iterable: list,
    tuple: tuple,
    set: set,
    AbstractSet: set,
    frozenset: frozenset,
}
_MAPPINGS = frozenset({dict, Mapping, MutableMapping})
_WORDS = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}
_INTEGER = re.compile(r"[-+]?[0-9]+(?:_[0-9]+)*")
# ISO 8601 (`P1DT2H`, `PT90S`) and the short form (`1d2h`, `90s`).
_DURATION = re.compile(
    r"(?:P(?=.))?(?:(?P<weeks>\d+)W)?(?:(?P<days>\d+)D)?(?:T(?=.))?(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?"
    r"(?:(?P<seconds>\d+(?:\.\d+)?)S)?",
    re.IGNORECASE | re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Released:
    """What is handed out of a configuration.

    Attributes:
        secrets: What each referring secret stands for, by identity. For one that is missing it was reported why.
        skipped: The paths of what is left out.
    """

    secrets: Mapping[int, Secret[str] | Secret[bytes]]
    skipped: AbstractSet[KeyPath]

    def plain(self, value: Any, path: KeyPath) -> Any:  # noqa: ANN401 - any value
        """Return a value as dictionaries and lists with the secrets that were resolved."""
        if isinstance(value, Config):
            items = value.__dict__.items()
            if not self.skipped:  # as nearly always; the paths need not be made
                return {key: self.plain(item, path) for key, item in items}
            return {key: self.plain(item, (*path, key)) for key, item in items if (*path, key) not in self.skipped}
        if isinstance(value, tuple):
            return [self.plain(item, (*path, index)) for index, item in enumerate(value)]
        return self.secrets.get(id(value), value) if isinstance(value, Secret) else value


class Converter:
    """Converts the values of one configuration and reports what does not fit."""

    def __init__(
        self,
        root: Config,
        problems: Problems,
        released: Released,
        redactor: Redactor,
    ) -> None:
        """Prepare.

        Args:
            root: The configuration, for places.
            problems: Where problems are reported.
            released: What is handed out of it.
            redactor: Keeps validators' messages from repeating secrets.
        """
        self.root = root
        self.problems = problems
        self.released = released
        self.redactor = redactor

    def convert(self, value: Any, annotation: Any, path: KeyPath) -> Any:  # noqa: ANN401, PLR0911 - one return for each kind of annotation
        """Return a value as the annotation asks, or `FAILED` after reporting why not."""
        annotation = plain(annotation)
        if annotation is Any or annotation is object:
            return self.released.plain(value, path)
        members = members_of(annotation)
        if len(members) > 1:
            return self.union(value, members, path)
        kind = get_origin(annotation) or annotation
        if isinstance(value, Secret) or kind is Secret:
            return self.secret(value, annotation, path)
        if value is None or kind is NoneType:
            return (
                None
                if value is None and kind is NoneType
                else self.fail(path, "must not be null" if value is None else "must be null")
            )
        if is_pydantic_model(kind):
            from securecfg.config.pydantic_models import validate

            return validate(self, value, kind, path)
        if is_dataclass_model(kind):
            return self.dataclass(value, kind, path)
        if kind is Config:
            return value if isinstance(value, Config) else self.fail(path, "must be a section")
        if kind in _MAPPINGS:
            return self.mapping(value, get_args(annotation), path)
        if kind in _LISTS:
            return self.list(value, kind, get_args(annotation), path)
        if kind is Literal:
            return self.choice(value, {argument: argument for argument in get_args(annotation)}, path)
        if isinstance(kind, TypeVar):
            return self.released.plain(value, path)
        return self.scalar(value, kind, path)

    def fail(self, path: KeyPath, problem: str, *, hint: str = "") -> Any:  # noqa: ANN401 - takes any result's place
        """Report a value that does not fit, without the value."""
        named = f"`{key_path(path)}`" if path else "the configuration"
        error = ConfigTypeError(f"{named} {problem}", place=locate(self.root, path).place, hint=hint)
        self.problems.add(path, error)
        return FAILED

    def union(self, value: Any, members: tuple[Any, ...], path: KeyPath) -> Any:  # noqa: ANN401 - any value
        """Return a value as the first member that it fits, exact types first."""
        for member in members:
            if type(value) is member:
                return value
        rest = [member for member in members if member is not NoneType]
        if len(rest) == 1:
            return self.convert(value, rest[0], path)
        before = len(self.problems)
        for member in rest:
            converted = self.convert(value, member, path)
            if len(self.problems) == before:
                return converted
            self.problems.drop_after(before)
        if isinstance(value, Secret):
            return self.secret(value, NoneType, path)
        return self.fail(path, "fits none of the types that it may have")

    def secret(self, value: Any, annotation: Any, path: KeyPath) -> Any:  # noqa: ANN401 - any value
        """Return a secret for a field that is one."""
        if not accepts_secret(annotation):
            self.problems.add(path, secret_in_plain_field(self.root, path))
            return FAILED
        wanted = get_args(annotation)[:1]
        if not isinstance(value, Secret):
            if isinstance(value, str) and wanted != (bytes,):
                return Secret(value, label=key_path(path))
            return self.fail(path, "must be text, to be a secret", hint="put it in quotes")
        resolved = self.released.secrets.get(id(value))
        if resolved is None:
            return FAILED  # it was reported why
        if wanted and isinstance(wanted[0], type) and not isinstance(resolved.reveal(), wanted[0]):
            return self.fail(path, "is a secret of bytes" if wanted[0] is str else "is a secret of text")
        return resolved

    def dataclass(self, value: Any, model: type, path: KeyPath) -> Any:  # noqa: ANN401 - any value
        """Return a section as a dataclass."""
        if not isinstance(value, Config):
            return self.fail(path, "must be a section")
        section = value.__dict__
        annotations = fields_of(model).annotations
        arguments: dict[str, Any] = {}
        for field in fields(model):
            if field.name in section and field.init:
                arguments[field.name] = self.convert(section[field.name], annotations[field.name], (*path, field.name))
            elif field.init and field.default is MISSING and field.default_factory is MISSING:
                arguments[field.name] = self.fail((*path, field.name), "is missing")
        if any(argument is FAILED for argument in arguments.values()):
            return FAILED
        refusal = None
        try:
            return model(**arguments)
        except SecurecfgError:
            if not self.problems:
                raise
            return FAILED  # a validator wanted a secret of which it is reported why there is none
        except ValueError as error:
            refusal = str(error)
        # Outside the handler: what a validator raised may hold the values.
        return self.refuse(path, refusal)

    def refuse(self, path: KeyPath, message: str) -> Any:  # noqa: ANN401 - takes any result's place
        """Report what a validator says, unless it repeats a secret."""
        said = self.redactor.redact(message)
        return self.fail(path, f"is refused: {said}" if said else "is refused by its validator")

    def mapping(self, value: Any, arguments: tuple[Any, ...], path: KeyPath) -> Any:  # noqa: ANN401 - any value
        """Return a section as a dictionary."""
        if not isinstance(value, Config):
            return self.fail(path, "must be a section")
        key_kind, item_kind = arguments or (str, Any)
        pairs = [
            (
                key if plain(key_kind) in {str, Any} else self.convert(key, key_kind, (*path, key)),
                self.convert(item, item_kind, (*path, key)),
            )
            for key, item in value.__dict__.items()
        ]
        return FAILED if any(FAILED in pair for pair in pairs) else dict(pairs)

    def list(self, value: Any, kind: Any, arguments: tuple[Any, ...], path: KeyPath) -> Any:  # noqa: ANN401 - any value
        """Return a list as the collection asked for."""
        if not isinstance(value, tuple):
            return self.fail(path, "must be a list")
        if kind is tuple and arguments and arguments[-1] is not ...:
            if len(value) != len(arguments):
                return self.fail(path, f"must have {counted(len(arguments), 'item')}")
            kinds = arguments
        else:
            kinds = (arguments[0] if arguments else Any,) * len(value)
        items = [
            self.convert(item, item_kind, (*path, index))
            for index, (item, item_kind) in enumerate(zip(value, kinds, strict=True))
        ]
        if any(item is FAILED for item in items):
            return FAILED
        try:
            return _LISTS[kind](items)
        except TypeError:
            return self.fail(path, "has an item that cannot be in a set")

    def choice(self, value: Any, choices: Mapping[Any, Any], path: KeyPath) -> Any:  # noqa: ANN401 - any value
        """Return what a value chooses; a text may spell a choice that is not one, as variables do."""
        for written, choice in choices.items():
            if (type(value) is type(written) and value == written) or (
                isinstance(value, str) and not isinstance(written, bool) and value == str(written)
            ):
                return choice
        return self.fail(path, f"must be one of {', '.join(f'`{written}`' for written in choices)}")

    def scalar(self, value: Any, kind: Any, path: KeyPath) -> Any:  # noqa: ANN401, PLR0911 - one return for each kind of scalar
        """Return a scalar as a simple type."""
        if isinstance(value, Config | tuple):
            return self.fail(path, "must be a single value")
        if isinstance(kind, type) and issubclass(kind, Enum):
            return self.choice(value, {member.value: member for member in kind}, path)
        if kind in _SCALARS:
            convert, problem = _SCALARS[kind]
            converted = convert(value)
            return self.fail(path, f"must be {problem}") if converted is None else converted
        if not callable(kind):
            return self.fail(path, "has a type that no configuration can have")
        if isinstance(kind, type) and isinstance(value, kind):
            return value
        # Any other class is made from the text: paths, addresses, decimals.
        refused = isinstance(value, bool)
        try:
            if not refused:
                return kind(value if isinstance(value, str | int) else str(value))
        except (ValueError, TypeError, ArithmeticError):
            refused = True
        return self.fail(path, f"does not fit `{getattr(kind, '__name__', 'its type')}`")


def accepts_secret(annotation: Any) -> bool:  # noqa: ANN401 - an annotation
    """Tell whether a field with this annotation keeps a secret masked."""
    return any((get_origin(member) or member) in {Secret, Any, object} for member in members_of(annotation))


def secret_in_plain_field(root: Config, path: KeyPath) -> SecretInPlainField:
    """Return the error for a secret that a plain field would show."""
    message = f"`{key_path(path)}` is a secret, and its field is not"
    return SecretInPlainField(message, place=locate(root, path).place, hint="annotate the field as `Secret[str]`")


def _boolean(value: object) -> bool | None:
    if isinstance(value, bool):
        return value
    return _WORDS.get(value.lower()) if isinstance(value, str) else None


def _integer(value: object) -> int | None:
    if isinstance(value, str) and _INTEGER.fullmatch(value.strip()) and len(value) < 4_000:  # noqa: PLR2004 - Python converts up to 4,300 digits
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _float(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _bytes(value: object) -> bytes | None:
    return value.encode() if isinstance(value, str) else None


def _moment(value: object) -> dt.datetime | None:
    if isinstance(value, dt.datetime):
        return value
    return _parsed(dt.datetime.fromisoformat, value)


def _date(value: object) -> dt.date | None:
    if isinstance(value, dt.date) and not isinstance(value, dt.datetime):
        return value
    return _parsed(dt.date.fromisoformat, value)


def _time(value: object) -> dt.time | None:
    return value if isinstance(value, dt.time) else _parsed(dt.time.fromisoformat, value)


_P = TypeVar("_P")


def _parsed(parse: Callable[[str], _P], value: object) -> _P | None:
    if not isinstance(value, str):
        return None
    try:
        return parse(value)
    except ValueError:
        return None


def _duration(value: object) -> dt.timedelta | None:
    seconds = _float(value)
    if seconds is None and isinstance(value, str) and value:
        match = _DURATION.fullmatch(value.replace(" ", ""))
        if match is not None and any(match.groups()):
            return _timedelta(**{unit: float(number) for unit, number in match.groupdict().items() if number})
    return None if seconds is None else _timedelta(seconds=seconds)


def _timedelta(**units: float) -> dt.timedelta | None:
    try:
        return dt.timedelta(**units)
    except (OverflowError, ValueError):
        return None


_SCALARS: Mapping[Any, tuple[Callable[[object], Any], str]] = {
    bool: (_boolean, "true or false"),
    int: (_integer, "a whole number"),
    float: (_float, "a number"),
    str: (_text, "text"),
    bytes: (_bytes, "text"),
    dt.datetime: (_moment, "a date and time such as `2026-01-31T12:00:00Z`"),
    dt.date: (_date, "a date such as `2026-01-31`"),
    dt.time: (_time, "a time such as `12:00:00`"),
    dt.timedelta: (_duration, "a duration such as `90s`, `1h30m` or `PT90S`, or a number of seconds"),
}
