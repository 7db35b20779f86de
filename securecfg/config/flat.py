"""Formats without structure of their own, whose names spell the structure: INI, `.env`, the environment."""

from __future__ import annotations

from sys import intern
from typing import TYPE_CHECKING, Any

from securecfg.config.references import read_text
from securecfg.config.text import MAX_DEPTH
from securecfg.config.tree import Config, Layer, Place, Written, create_config, origin_in
from securecfg.errors import ConfigLimitExceeded, ConfigSyntaxError

if TYPE_CHECKING:
    from collections.abc import Sequence

_SEPARATOR = "__"


class Nest:
    """A tree that is filled entry by entry and then frozen."""

    def __init__(self, layer: Layer) -> None:
        """Start empty."""
        self._layer = layer
        self._values: dict[str, Any] = {}
        self._places: dict[str, Any] = {}

    def section(self, keys: Sequence[str], place: Place) -> None:
        """Make sure that there is a mapping at this path.

        Raises:
            ConfigSyntaxError: A value is there already.
            ConfigLimitExceeded: The path is too long.
        """
        self._descend(keys, place)

    def add(self, keys: Sequence[str], text: str, place: Place) -> None:
        """Add a text.

        Raises:
            ConfigSyntaxError: The name is there already, or it is a part of another name.
            ConfigLimitExceeded: The name has too many parts.
            InvalidReference: A secret reference in the text is malformed.
        """
        values, places = self._descend(keys[:-1], place)
        key = intern(keys[-1])
        if key in values:
            both = "is there twice" if not isinstance(values[key], dict) else "is a value here and a section elsewhere"
            message = f"`{'.'.join(keys)}` {both}"
            raise ConfigSyntaxError(message, place=origin_in(self._layer, place).place)
        values[key] = read_text(text, self._layer, place)
        places[key] = place

    def freeze(self) -> Config:
        """Return the tree."""
        return self._freeze(self._values, self._places)

    def _descend(self, keys: Sequence[str], place: Place) -> tuple[dict[str, Any], dict[str, Any]]:
        if len(keys) >= MAX_DEPTH:
            message = f"is nested more than {MAX_DEPTH} levels deep"
            raise ConfigLimitExceeded(message, place=origin_in(self._layer, place).place)
        values, places = self._values, self._places
        for depth, key in enumerate(keys, start=1):
            values = values.setdefault(intern(key), {})
            if not isinstance(values, dict):
                message = f"`{'.'.join(keys[:depth])}` is a section here and a value elsewhere"
                raise ConfigSyntaxError(message, place=origin_in(self._layer, place).place)
            _, places = places.setdefault(key, (place, {}))
        return values, places

    def _freeze(self, values: dict[str, Any], places: dict[str, Any]) -> Config:
        own: dict[str, Place] = {}
        for key, value in values.items():
            if isinstance(value, dict):
                own[key], below = places[key]
                values[key] = self._freeze(value, below)
            else:
                own[key] = places[key]
        return create_config(values, Written(self._layer, own))


def split_name(name: str) -> list[str]:
    """Split a variable's name at `__`; a name with an empty part is one key as it is."""
    keys = name.split(_SEPARATOR)
    return keys if all(keys) else [name]
