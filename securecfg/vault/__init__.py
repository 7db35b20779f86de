"""The vault: who asks, may they, which version, record it, open it."""

from securecfg.vault.auditlog import AuditLog
from securecfg.vault.listing import VersionInfo, VersionState
from securecfg.vault.references import SecretRef
from securecfg.vault.values import SecretVersion
from securecfg.vault.vault import Batch, Vault

__all__ = ["AuditLog", "Batch", "SecretRef", "SecretVersion", "Vault", "VersionInfo", "VersionState"]
