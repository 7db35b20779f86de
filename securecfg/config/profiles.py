"""Profiles: variants of a configuration, which may extend each other.

A profile file names its parents in a top-level `extends: base` or `extends: [base, eu]`, which is no part of the
configuration. Parents come before their children, and each profile counts once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from securecfg.config.keys import suggestion
from securecfg.config.tree import Config, Origin, Written, create_config, origin_in, source_of
from securecfg.errors import ConfigSyntaxError, ConfigTypeError, UnknownProfile, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

DEFAULT = "default"
EXTENDS = "extends"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


@dataclass(frozen=True, slots=True)
class Parent:
    """A profile that another one extends, and where it says so."""

    name: str
    origin: Origin


def check_profile_name(name: str) -> None:
    """Refuse what cannot be the name of a profile.

    Raises:
        UsageError: It is not a plain name, or it is `default`, which is always loaded.
    """
    if not _NAME.fullmatch(name) or name == DEFAULT:
        message = "a profile's name is letters, digits, `-` and `_`, and is not `default`"
        raise UsageError(message, hint="name the profile as its file without the ending")


def split_extends(config: Config) -> tuple[Config, tuple[Parent, ...]]:
    """Take `extends` out of what a profile's file holds.

    Raises:
        ConfigTypeError: `extends` is neither a name nor a list of names.
    """
    source = source_of(config)
    if EXTENDS not in config.__dict__ or not isinstance(source, Written):
        return config, ()
    origin = origin_in(source.layer, source.places[EXTENDS])
    named = config.__dict__[EXTENDS]
    names = named if isinstance(named, tuple) else (named,)
    if not all(isinstance(name, str) and _NAME.fullmatch(name) for name in names):
        message = "`extends` is neither a profile's name nor a list of names"
        raise ConfigTypeError(message, place=origin.place)
    values = {key: value for key, value in config.__dict__.items() if key != EXTENDS}
    places = {key: place for key, place in source.places.items() if key != EXTENDS}
    parents = tuple(Parent(name, origin) for name in names if name != DEFAULT)
    return create_config(values, Written(source.layer, places)), parents


def linearize(
    profile: str, parents_of: Callable[[str], tuple[Parent, ...] | None], available: Iterable[str]
) -> tuple[str, ...]:
    """Return a profile and all that it extends, in the order in which they are layered.

    Args:
        profile: The profile asked for.
        parents_of: What a profile extends; None if there is no such profile.
        available: The profiles that exist, for a suggestion.

    Raises:
        UnknownProfile: The profile, or one that it extends, does not exist.
        ConfigSyntaxError: Profiles extend each other in a circle.
    """
    order: list[str] = []

    def visit(name: str, trail: tuple[Parent, ...]) -> None:
        if name in order:
            return
        names = [profile, *(parent.name for parent in trail)]
        if name in names[:-1]:
            circle = trail[names.index(name) :]
            message = "profiles extend each other: " + ", ".join(f"`{p.name}` at {p.origin.place}" for p in circle)
            raise ConfigSyntaxError(message, place=circle[-1].origin.place, hint="remove one `extends`")
        parents = parents_of(name)
        if parents is None:
            hint = suggestion(name, available) or _known(available)
            place = trail[-1].origin.place if trail else ""
            message = f"there is no profile `{name}`"
            raise UnknownProfile(message, place=place, hint=hint)
        for parent in parents:
            visit(parent.name, (*trail, parent))
        order.append(name)

    visit(profile, ())
    return tuple(order)


def _known(available: Iterable[str]) -> str:
    names = sorted(available)
    return f"there are: {', '.join(f'`{name}`' for name in names)}" if names else "a profile is a file `PROFILE.yaml`"
