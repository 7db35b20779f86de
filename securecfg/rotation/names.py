"""The names of rotators, and what is found under them."""

from __future__ import annotations

import re
from importlib import import_module
from typing import TYPE_CHECKING, cast

from securecfg.errors import InvalidRotation

if TYPE_CHECKING:
    from securecfg.rotation.interface import Options, Rotator, RotatorFactory

ENTRY_POINT_GROUP = "securecfg.rotators"
_NAMES = (
    "awsiam",
    "exec",
    "http",
    "mysql",
    "postgresql",
    "random",
    "redis",
    "signing-key",
    "ssh",
    "tls",
    "webhook",
)
BUILT_IN = {name: f"securecfg.rotation.rotators.{name.replace('-', '_')}" for name in _NAMES}
"""The module of each rotator of this package, so that they work from a source checkout and cost no scan."""

_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}", re.ASCII)


def open_rotator(name: str, options: Options) -> Rotator:
    """Return a rotator by its name. Nothing is called yet.

    Args:
        name: Such as `postgresql`.
        options: What it is told.

    Raises:
        InvalidRotation: There is no such rotator, or the options make no sense to it.
    """
    return _find_factory(name)(options)


def _find_factory(name: str) -> RotatorFactory:
    if name in BUILT_IN:
        return cast("RotatorFactory", import_module(BUILT_IN[name]).from_options)
    if _NAME.fullmatch(name):
        from importlib.metadata import entry_points

        for found in entry_points(group=ENTRY_POINT_GROUP, name=name):
            return cast("RotatorFactory", found.load())
    message = "there is no such rotator"
    raise InvalidRotation(message, hint=f"there are {', '.join(f'`{each}`' for each in sorted(BUILT_IN))}")
