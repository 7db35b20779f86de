"""An application that needs five secrets and does not know where they lie: it says what it would connect with."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path

from securecfg import Secret, Vault, load
from securecfg.errors import ConfigErrors, SecurecfgError

SETTINGS = Path(__file__).with_name("settings.yaml")


@dataclass(frozen=True)
class Database:
    """Where the orders are."""

    host: str
    user: Secret[str]
    password: Secret[str]


@dataclass(frozen=True)
class Key:
    """A key of a service."""

    key: Secret[str]


@dataclass(frozen=True)
class Mail:
    """Where mails are sent from."""

    password: Secret[str]


@dataclass(frozen=True)
class Settings:
    """All of them."""

    database: Database
    payments: Key
    mail: Mail
    search: Key
    session: Key


def main() -> int:
    """Load the settings, and show that they are those that are expected without showing one."""
    try:
        with Vault.open() as vault:  # vault, key and principal from the environment
            settings = load(SETTINGS, model=Settings, vault=vault)
    except SecurecfgError as error:
        for problem in error.problems if isinstance(error, ConfigErrors) else (error,):
            print(f"error: {problem.message}", file=sys.stderr)
        return error.exit_code
    secrets = (
        settings.database.user,
        settings.database.password,
        settings.payments.key,
        settings.mail.password,
        settings.search.key,
        settings.session.key,
    )
    print(f"database  {settings.database.user}:{settings.database.password} at {settings.database.host}")
    print(f"payments  {settings.payments.key}   mail  {settings.mail.password}   search  {settings.search.key}")
    digest = hashlib.sha256("\n".join(secret.reveal() for secret in secrets).encode()).hexdigest()
    print(f"ready, with secrets {digest[:16]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
