"""The vault: who asks, may they, which version, record it, open it.

Names are loaded when they are first used: a program that reads a secret does not pay for reports.
"""

from __future__ import annotations

TYPE_CHECKING = False

if TYPE_CHECKING:
    from securecfg.vault.auditlog import AuditLog
    from securecfg.vault.listing import VersionInfo, VersionState
    from securecfg.vault.references import SecretRef
    from securecfg.vault.values import SecretVersion
    from securecfg.vault.vault import Batch, Vault

__all__ = ["AuditLog", "Batch", "SecretRef", "SecretVersion", "Vault", "VersionInfo", "VersionState"]

_HOMES = {
    "AuditLog": "auditlog",
    "Batch": "vault",
    "SecretRef": "references",
    "SecretVersion": "values",
    "Vault": "vault",
    "VersionInfo": "listing",
    "VersionState": "listing",
}


def __getattr__(name: str) -> object:
    """Load a public name on first use."""
    home = _HOMES.get(name)
    if home is None:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    from importlib import import_module

    value = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
