"""An application that reads its secrets through a vault."""

from __future__ import annotations

import json

from securecfg import Vault


def load_secrets() -> dict[str, str]:
    """Return what the application connects with."""
    with Vault.open() as vault:  # SECURECFG_VAULT, SECURECFG_KEY and SECURECFG_AS
        paths = {"user": "hashicorp/database#user", "password": "hashicorp/database#password", "stripe": "aws/stripe"}
        return {name: str(vault.ref(path).reveal()) for name, path in paths.items()}


def change_stripe_key(new: str) -> None:
    """Write another key of the payment service."""
    with Vault.open() as vault:
        vault.write("aws/stripe", new)


if __name__ == "__main__":
    print(json.dumps(load_secrets()))
