"""Stores of others under folders of a vault, with its policy and its log (`docs/security/mounts.md`)."""

from __future__ import annotations

from securecfg.lazy import load_names

TYPE_CHECKING = False

if TYPE_CHECKING:
    from securecfg.mounts.mounted import MountedVault
    from securecfg.mounts.table import Mount, Mounts, Rules

__all__ = ["Mount", "MountedVault", "Mounts", "Rules"]

__getattr__ = load_names(
    __name__,
    {
        "Mount": "securecfg.mounts.table",
        "MountedVault": "securecfg.mounts.mounted",
        "Mounts": "securecfg.mounts.table",
        "Rules": "securecfg.mounts.table",
    },
)
