"""Which kinds of keys can be used on this machine, and what the others need."""

from __future__ import annotations

from importlib.metadata import entry_points
from importlib.util import find_spec
from typing import NamedTuple

from securecfg.keys.uri import BUILT_IN, ENTRY_POINT_GROUP, EXTRAS, distribution_for

_OWN = "securecfg-vault"


class Installed(NamedTuple):
    """A kind of keys.

    Attributes:
        scheme: What its URIs begin with.
        origin: The distribution that its provider comes from.
        missing: Whether something has to be installed first.
        install: How, or an empty string.
    """

    scheme: str
    origin: str
    missing: bool
    install: str


def list_providers() -> list[Installed]:
    """Return all known kinds of keys by their schemes; no provider is loaded."""
    known = {scheme: _own(scheme) for scheme in (*BUILT_IN, *EXTRAS)}
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        if entry.name not in BUILT_IN:
            origin = entry.dist.name if entry.dist else entry.module
            known[entry.name] = Installed(entry.name, origin, missing=False, install="")
    return [known[scheme] for scheme in sorted(known)]


def is_there(module: str) -> bool:
    """Return whether a module can be imported; it is not."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package around it
        return False


def _own(scheme: str) -> Installed:
    if scheme in BUILT_IN and (scheme not in EXTRAS or is_there(EXTRAS[scheme])):
        return Installed(scheme, _OWN, missing=False, install="")
    upgrade = "" if scheme in BUILT_IN else "--upgrade "
    return Installed(scheme, _OWN, missing=True, install=f"pip install {upgrade}{distribution_for(scheme)}")
