"""The shop, as far as its configuration goes: it says what it would connect to."""

from __future__ import annotations

import sys

from securecfg import Vault
from securecfg.errors import ConfigErrors, SecurecfgError
from settings import load_settings


def main() -> int:
    """Load the settings and show them, secrets masked."""
    try:
        with Vault.open() as vault:  # vault and key from the project's settings, principal from SECURECFG_AS
            settings = load_settings(vault)
    except SecurecfgError as error:
        problems = error.problems if isinstance(error, ConfigErrors) else (error,)
        for problem in problems:
            print(f"error: {problem.message}", file=sys.stderr)
        return max(problem.exit_code for problem in problems)
    print(f"{settings.shop.name}: {settings.shop.page_size} articles a page, in {settings.shop.currency}")
    print(f"database   {settings.database.url}, {settings.database.pool_size} connections")
    print(f"cache      {settings.cache.url}, kept {settings.cache.ttl}")
    print(f"mail       {settings.mail.user} at {settings.mail.host}, password {settings.mail.password}")
    print(f"search     {settings.search.host}, key {settings.search.api_key}")
    print(f"stripe     {settings.stripe.public_key}, key {settings.stripe.secret_key}")
    print(f"warehouse  {settings.warehouse.user} at {settings.warehouse.host}, password {settings.warehouse.password}")
    print(f"settings   {settings.paypal}")
    # Where a value is used, and only there, it is revealed.
    print(f"connecting with a URL of {len(settings.database.url.reveal())} characters")
    return 0


if __name__ == "__main__":
    sys.exit(main())
