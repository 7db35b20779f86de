"""The hosts at which Azure keeps vaults, as parts of regular expressions; nobody else is spoken to."""

from __future__ import annotations

from typing import Final

VAULT_NAME: Final = r"[A-Za-z][A-Za-z0-9-]{1,22}[A-Za-z0-9]"
AZURE_DOMAIN: Final = r"(?:azure\.net|azure\.cn|usgovcloudapi\.net)"
"""Of the public cloud, of China and of the US government."""
