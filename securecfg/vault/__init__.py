"""The vault: who asks, may they, which version, record it, open it.

Names are loaded when they are first used: a program that reads a secret does not pay for reports.
"""

from __future__ import annotations

from securecfg.lazy import load_names

TYPE_CHECKING = False

if TYPE_CHECKING:
    from securecfg.vault.auditlog import AuditLog
    from securecfg.vault.drops.boxes import Receipt
    from securecfg.vault.drops.dropping import Dropped, DropState
    from securecfg.vault.listing import VersionInfo, VersionState
    from securecfg.vault.references import SecretRef
    from securecfg.vault.values import SecretVersion
    from securecfg.vault.vault import Batch, Vault

__all__ = [
    "AuditLog",
    "Batch",
    "DropState",
    "Dropped",
    "Receipt",
    "SecretRef",
    "SecretVersion",
    "Vault",
    "VersionInfo",
    "VersionState",
]

__getattr__ = load_names(
    __name__,
    {
        "AuditLog": "securecfg.vault.auditlog",
        "Batch": "securecfg.vault.vault",
        "DropState": "securecfg.vault.drops.dropping",
        "Dropped": "securecfg.vault.drops.dropping",
        "Receipt": "securecfg.vault.drops.boxes",
        "SecretRef": "securecfg.vault.references",
        "SecretVersion": "securecfg.vault.values",
        "Vault": "securecfg.vault.vault",
        "VersionInfo": "securecfg.vault.listing",
        "VersionState": "securecfg.vault.listing",
    },
)
