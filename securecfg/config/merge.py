"""Layers, merged: later ones win.

Mappings merge key by key, lists and scalars replace, and so does `null`. What only one layer has is shared, not copied.
Another way of merging is a strategy that the caller names for a path.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

from securecfg.config.keys import key_path
from securecfg.config.tree import Config, Layer, Merged, Place, Written, create_config, origin_in, parts_of, source_of
from securecfg.errors import ConfigTypeError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_Items = tuple[tuple[Layer, Place], ...]


class Strategy(Enum):
    """How the value of a higher layer meets the one below it, where the usual way is not wanted."""

    REPLACE = "replace"
    """The higher mapping replaces the lower one whole."""
    APPEND = "append"
    """The higher list's items come after the lower one's."""
    PREPEND = "prepend"
    """The higher list's items come before the lower one's."""
    UNIQUE = "unique"
    """As `APPEND`, without items that are there already."""


def merge(layers: Sequence[Config], strategies: Mapping[str, Strategy] | None = None) -> Config:
    """Merge layers, lowest first.

    Args:
        layers: At least one.
        strategies: For dotted paths, how their values merge.

    Raises:
        ConfigTypeError: A strategy for lists meets something else.
    """
    merged = layers[0]
    for layer in layers[1:]:
        merged = _merge(merged, layer, strategies, ()) if strategies else merge_plain(merged, layer)
    return merged


def merge_plain(low: Config, high: Config) -> Config:
    """Merge two mappings in the usual way."""
    below, above = low.__dict__, high.__dict__
    values = below | above
    for key in below.keys() & above.keys():
        old, new = below[key], above[key]
        if type(old) is Config and type(new) is Config:
            values[key] = merge_plain(old, new)
    return create_config(values, _merged_source(low, high, {}))


def _merge(low: Config, high: Config, strategies: Mapping[str, Strategy], path: tuple[str, ...]) -> Config:
    below, above = low.__dict__, high.__dict__
    values = below | above
    items: dict[str, _Items] = {}
    for key in below.keys() & above.keys():
        old, new = below[key], above[key]
        here = (*path, key)
        strategy = strategies.get(key_path(here))
        if strategy is None or strategy is Strategy.REPLACE:
            if strategy is None and isinstance(old, Config) and isinstance(new, Config):
                values[key] = _merge(old, new, strategies, here)
            continue
        if not isinstance(old, tuple) or not isinstance(new, tuple):
            part = high if isinstance(old, tuple) else low
            raise _not_a_list(part, key, here, strategy)
        joined = _join(old, new, items_of(low, key), items_of(high, key), strategy)
        values[key] = tuple(value for value, _ in joined)
        items[key] = tuple(place for _, place in joined)
    return create_config(values, _merged_source(low, high, items))


def _merged_source(low: Config, high: Config, items: dict[str, _Items]) -> Merged:
    inherited = source_of(low)
    if isinstance(inherited, Merged) and inherited.items:
        # A list that the higher layer replaced is its own again.
        kept = {key: value for key, value in inherited.items.items() if key not in high.__dict__}
        items = kept | items
    return Merged(parts_of(low) + parts_of(high), items)


def _join(
    old: tuple[Any, ...], new: tuple[Any, ...], old_items: _Items, new_items: _Items, strategy: Strategy
) -> list[tuple[Any, tuple[Layer, Place]]]:
    below = list(zip(old, old_items, strict=True))
    above = list(zip(new, new_items, strict=True))
    if strategy is Strategy.PREPEND:
        return above + below
    if strategy is Strategy.APPEND:
        return below + above
    # By identity of type as well: `1`, `True` and `1.0` are different items of a configuration.
    return below + [
        (value, place) for value, place in above if not any(type(value) is type(one) and value == one for one in old)
    ]


def items_of(config: Config, key: str) -> _Items:
    """Return where each item of a list was written."""
    source = source_of(config)
    if isinstance(source, Merged):
        if key in source.items:
            return source.items[key]
        return items_of(next(part for part in reversed(source.parts) if key in part.__dict__), key)
    place = source.places[key]
    children = place[1] if isinstance(place, tuple) else ()
    return tuple((source.layer, child) for child in children)


def _not_a_list(part: Config, key: str, path: tuple[str, ...], strategy: Strategy) -> ConfigTypeError:
    written = next(one for one in reversed(parts_of(part)) if key in one.__dict__)
    source = source_of(written)
    place = origin_in(source.layer, source.places[key]).place if isinstance(source, Written) else ""
    message = f"`{key_path(path)}` is merged by `{strategy.value}` and is not a list here"
    return ConfigTypeError(message, place=place)
