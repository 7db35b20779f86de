"""The tree that every format is read into: immutable, plain to read, and aware of where each value was written.

A `Config` is one mapping of the tree. Its values are its attributes, so that `cfg.database.host` costs what any
attribute costs, and it has no public method that a key could collide with; what is done *with* a tree is a function.
Lists are tuples. Beside the values each mapping keeps the places of its values as packed numbers, and a merged mapping
keeps the mappings that it was merged from: origins cost nothing until someone asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, cast

from securecfg.config.keys import parse_key_path, suggestion
from securecfg.errors import ConfigKeyNotFound

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from securecfg.config.references import SecretResolver

_SHIFT = 32
_COLUMN = (1 << _SHIFT) - 1

Position: TypeAlias = "int | str"
"""Where one value is written: line and column from 0, packed into an integer, or the name of a variable."""

Place: TypeAlias = "int | str | tuple[int | str, tuple[Place, ...]]"
"""A position; for a list also the places of its items."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One source of values: a file, the environment, a document.

    Attributes:
        name: What an origin calls it: a file's name, seen from the directory that was loaded.
        path: What an error calls it: the path as the caller gave it.
        resolver: Who resolves the secret references in it.
        foreign: It may hold keys that are not for this program, so that an unknown key in it is no mistake.
    """

    name: str
    path: str
    resolver: SecretResolver | None = None
    foreign: bool = False


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value was written.

    Attributes:
        name: The source: a file's name, `environment`, or a document such as `vault:app/config`.
        path: The same as an error message spells it; for a file its path.
        line: From 1, or 0 where the source has no lines.
        column: From 1, or 0 where the source has no lines.
        variable: The environment variable, or an empty string.
        shadowed: The values of lower layers that this one replaced, nearest first.
    """

    name: str
    path: str
    line: int = 0
    column: int = 0
    variable: str = ""
    shadowed: tuple[Origin, ...] = ()

    @property
    def place(self) -> str:
        """The origin as an error message spells it."""
        return self._spelt(self.path)

    def __str__(self) -> str:
        """Spell it as `prod.yaml:12:9` or `environment:APP_PORT`."""
        return self._spelt(self.name)

    def _spelt(self, name: str) -> str:
        if self.variable:
            return f"{name}:{self.variable}"
        return f"{name}:{self.line}:{self.column}" if self.line else name


def pack(line: int, column: int) -> int:
    """Return a line and a column, both from 1, as a position."""
    return (line - 1) << _SHIFT | (column - 1)


def position_of(place: Place) -> Position:
    """Return where a value itself starts, without the places of its items."""
    return place[0] if isinstance(place, tuple) else place


def origin_in(layer: Layer, place: Place | None) -> Origin:
    """Return the origin of a place in a layer; of the layer as a whole without a place."""
    position = None if place is None else position_of(place)
    if isinstance(position, str):
        return Origin(layer.name, layer.path, variable=position)
    if position is None:
        return Origin(layer.name, layer.path)
    return Origin(layer.name, layer.path, (position >> _SHIFT) + 1, (position & _COLUMN) + 1)


@dataclass(slots=True)  # not frozen: there is one for each mapping, and a frozen one takes three times as long
class Written:
    """The source of a mapping that one layer wrote.

    Attributes:
        layer: The layer.
        places: The place of each value.
    """

    layer: Layer
    places: Mapping[str, Place]


@dataclass(frozen=True, slots=True)
class Merged:
    """The source of a mapping that was merged.

    Attributes:
        parts: The mappings that single layers wrote, lowest first.
        items: For each list that was joined from several: where each item was written.
    """

    parts: tuple[Config, ...]
    items: Mapping[str, tuple[tuple[Layer, Place], ...]]


class Config:
    """One mapping of a configuration: `cfg.database.host`, `cfg["database.host"]`, `"database" in cfg`, `len`, `iter`.

    It cannot be changed, compares by its values, and shows its keys but never a value. An item may be a dotted path; a
    key that itself contains a dot is found first as it is, and is quoted inside a longer path (`loggers."my.app"`).
    """

    # The first is the values themselves. The second is a data descriptor, which no key of the same name can hide.
    __slots__ = ("__dict__", "__source")

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...  # noqa: ANN401, D105 - for type checkers: any key may be there

    def __getitem__(self, path: str) -> Any:  # noqa: ANN401 - a value of the configuration
        """Return the value of a key or of a dotted path.

        Raises:
            ConfigKeyNotFound: There is no such value.
        """
        values = self.__dict__
        if path in values:
            return values[path]
        return find(self, path)

    def __contains__(self, path: object) -> bool:
        """Tell whether there is a value of this key or dotted path."""
        if not isinstance(path, str):
            return False
        try:
            self[path]
        except ConfigKeyNotFound:
            return False
        return True

    def __iter__(self) -> Iterator[str]:
        """Yield the keys, as written and in order."""
        return iter(self.__dict__)

    def __len__(self) -> int:
        """Count the keys."""
        return len(self.__dict__)

    def __eq__(self, other: object) -> bool:
        """Compare the values, wherever they came from."""
        return self.__dict__ == other.__dict__ if isinstance(other, Config) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # it compares by values, some of which have no hash

    def __repr__(self) -> str:
        """Show the keys; a value could be a secret that nobody moved into a vault yet."""
        return f"<Config {', '.join(self.__dict__)}>" if self.__dict__ else "<Config>"

    def __setattr__(self, _name: str, _value: object) -> NoReturn:
        """Refuse: a configuration does not change."""
        message = "a configuration cannot be changed"
        raise AttributeError(message)

    def __delattr__(self, _name: str) -> NoReturn:
        """Refuse: a configuration does not change."""
        message = "a configuration cannot be changed"
        raise AttributeError(message)

    def __copy__(self) -> Config:
        """Return itself."""
        return self

    def __deepcopy__(self, _memo: object) -> Config:
        """Return itself."""
        return self

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        """Refuse to be pickled: its secrets would have to travel with it."""
        message = "a configuration cannot be pickled; load it where it is needed"
        raise TypeError(message)


# `Config` refuses to be set from outside, so the two slots are filled through their descriptors.
_SET_VALUES = cast("Any", Config.__dict__["__dict__"]).__set__
_SET_SOURCE = cast("Any", Config.__dict__["_Config__source"]).__set__
_GET_SOURCE = cast("Any", Config.__dict__["_Config__source"]).__get__


def create_config(values: dict[str, Any], source: Written | Merged) -> Config:
    """Make a mapping of the tree, which takes over the dictionary: the caller must not keep it."""
    config = Config.__new__(Config)
    _SET_VALUES(config, values)
    _SET_SOURCE(config, source)
    return config


def source_of(config: Config) -> Written | Merged:
    """Return what a mapping was made from."""
    return cast("Written | Merged", _GET_SOURCE(config))


def parts_of(config: Config) -> tuple[Config, ...]:
    """Return the mappings that single layers wrote and that make up this one, lowest first."""
    source = source_of(config)
    return (config,) if isinstance(source, Written) else source.parts


def find(config: Config, path: str) -> Any:  # noqa: ANN401 - a value of the configuration
    """Return the value of a dotted path, in which a number picks an item of a list.

    Raises:
        ConfigKeyNotFound: There is no such value.
    """
    value: Any = config
    for segment in parse_key_path(path):
        if isinstance(value, Config):
            values = value.__dict__
            if segment not in values:
                raise _missing(path, segment, values)
            value = values[segment]
        elif isinstance(value, tuple) and segment.isdecimal() and int(segment) < len(value):
            value = value[int(segment)]
        else:
            raise _missing(path, segment, ())
    return value


def as_dict(config: Config) -> dict[str, Any]:
    """Return a tree as new dictionaries and lists. Secrets stay secrets."""
    return {key: _plain(value) for key, value in config.__dict__.items()}


def _plain(value: Any) -> Any:  # noqa: ANN401 - a value of the configuration
    if isinstance(value, Config):
        return as_dict(value)
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _missing(path: str, segment: str, known: Any) -> ConfigKeyNotFound:  # noqa: ANN401 - any iterable of keys
    return ConfigKeyNotFound(f"the configuration has no `{path}`", hint=suggestion(segment, known))
