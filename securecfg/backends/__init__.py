"""Stores of secrets that somebody else keeps, under one contract (`docs/security/backends.md`)."""

from __future__ import annotations

from securecfg.lazy import load_names

TYPE_CHECKING = False

if TYPE_CHECKING:
    from securecfg.backends.handle import OpenBackend
    from securecfg.backends.interface import (
        Backend,
        Capabilities,
        Changes,
        Content,
        Deletion,
        Found,
        Kind,
        State,
        StoredVersion,
        Writing,
    )
    from securecfg.backends.uri import open_backend

__all__ = [
    "Backend",
    "Capabilities",
    "Changes",
    "Content",
    "Deletion",
    "Found",
    "Kind",
    "OpenBackend",
    "State",
    "StoredVersion",
    "Writing",
    "open_backend",
]

_CONTRACT = (
    "Backend",
    "Capabilities",
    "Changes",
    "Content",
    "Deletion",
    "Found",
    "Kind",
    "State",
    "StoredVersion",
    "Writing",
)

__getattr__ = load_names(
    __name__,
    {
        "OpenBackend": "securecfg.backends.handle",
        "open_backend": "securecfg.backends.uri",
        **dict.fromkeys(_CONTRACT, "securecfg.backends.interface"),
    },
)
