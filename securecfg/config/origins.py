"""Where a value came from, asked afterwards of the layers that a tree was merged from."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from securecfg.config.keys import parse_key_path
from securecfg.config.merge import items_of
from securecfg.config.tree import Config, Layer, Origin, Place, Written, find, origin_in, parts_of, source_of

if TYPE_CHECKING:
    from collections.abc import Sequence


def origin(config: Config, path: str) -> Origin:
    """Return where a value was written: `str(origin(cfg, "database.host"))` is `prod.yaml:12:9`.

    A section or a list that stands under a key is where its key is. The values of lower layers are in `shadowed`.

    Args:
        config: The configuration or a section of it.
        path: The dotted path of the value, in which a number picks an item of a list.

    Raises:
        ConfigKeyNotFound: There is no such value.
    """
    if path in config.__dict__:
        return locate(config, [path])
    find(config, path)
    return locate(config, parse_key_path(path))


def locate(config: Config, path: Sequence[str | int]) -> Origin:
    """Return the origin of the value at a path, or of the deepest section around it that there is.

    The outermost section has no line; it is where its lowest layer is.
    """
    lowest = source_of(parts_of(config)[0])
    found = origin_in(lowest.layer, None) if isinstance(lowest, Written) else Origin("", "")
    node: Config = config
    keys = iter(path)
    for key in keys:
        if not isinstance(key, str) or key not in node.__dict__:
            return found
        found = _origin_of_key(node, key)
        value = node.__dict__[key]
        if isinstance(value, tuple):
            places = items_of(node, key)
            while isinstance(value, tuple):
                index = next(keys, None)
                if index is None or not str(index).isdecimal() or int(index) >= len(value):
                    return found
                layer, place = places[int(index)]
                value, found = value[int(index)], origin_in(layer, place)
                places = _items_at(layer, place)
        if not isinstance(value, Config):
            return found
        node = value
    return found


def _origin_of_key(config: Config, key: str) -> Origin:
    origins = [
        origin_in(source.layer, source.places[key])
        for part in parts_of(config)
        if isinstance(source := source_of(part), Written) and key in part.__dict__
    ]
    winner = origins.pop()
    return replace(winner, shadowed=tuple(reversed(origins))) if origins else winner


def _items_at(layer: Layer, place: Place) -> tuple[tuple[Layer, Place], ...]:
    return tuple((layer, item) for item in place[1]) if isinstance(place, tuple) else ()
