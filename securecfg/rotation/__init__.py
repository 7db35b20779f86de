"""Credentials that are replaced; at each moment one that is stored is accepted (`docs/security/rotation.md`)."""

from __future__ import annotations

from securecfg.lazy import load_names

TYPE_CHECKING = False

if TYPE_CHECKING:
    from securecfg.rotation.connecting import with_retry_on_auth_failure
    from securecfg.rotation.interface import (
        Candidate,
        ChecksPrivileges,
        Fields,
        Options,
        Rotator,
        RotatorFactory,
        Run,
        Strategy,
    )
    from securecfg.rotation.names import open_rotator

__all__ = [
    "Candidate",
    "ChecksPrivileges",
    "Fields",
    "Options",
    "Rotator",
    "RotatorFactory",
    "Run",
    "Strategy",
    "open_rotator",
    "with_retry_on_auth_failure",
]

_CONTRACT = ("Candidate", "ChecksPrivileges", "Fields", "Options", "Rotator", "RotatorFactory", "Run", "Strategy")

__getattr__ = load_names(
    __name__,
    {
        "open_rotator": "securecfg.rotation.names",
        "with_retry_on_auth_failure": "securecfg.rotation.connecting",
        **dict.fromkeys(_CONTRACT, "securecfg.rotation.interface"),
    },
)
