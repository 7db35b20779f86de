"""The hosts of Azure's vaults, as parts of regular expressions, and what a login is called. Imports nothing."""

from __future__ import annotations

from typing import Final

VAULT_NAME: Final = r"[A-Za-z][A-Za-z0-9-]{1,22}[A-Za-z0-9]"
AZURE_DOMAIN: Final = r"(?:azure\.net|azure\.cn|usgovcloudapi\.net)"
"""Of the public cloud, of China and of the US government."""
CREDENTIALS: Final = ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET")
"""The variables that hold the login of a program."""
