"""What the commands of `audit` have in common: moments, and a vault that may be read-only."""

from __future__ import annotations

import os
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from securecfg.cli.arguments import Duration, parse_moment
from securecfg.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securecfg.cli.invocation import Invocation
    from securecfg.vault import Vault


SCOPE = click.option("--scope", metavar="PATH", help="The log of this sealed scope; else that of the vault.")


class Moment(click.ParamType[datetime]):
    """A moment in ISO 8601, or how long ago it was."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the moment.

        Raises:
            UsageError: It is neither, or is without a time zone.
        """
        if isinstance(value, datetime):
            return value
        moment = parse_moment(str(value))
        if moment is not None:
            return moment
        try:
            return datetime.now(UTC) - Duration().convert(value, param, ctx)
        except (UsageError, OverflowError):
            message = "a time is not written as one"
            raise UsageError(message, hint="for instance `2026-01-31`, `2026-01-31T12:00:00Z`, or `2h` ago") from None


@contextmanager
def open_for_audit(invocation: Invocation, scope: str | None = None) -> Iterator[Vault]:
    """Open the vault, or a sealed scope of it; a file that cannot be written read-only, where nothing can be recorded.

    Raises:
        SecretNotFound, ScopeSealed: There is no such scope, or the key does not open it.
    """
    from securecfg.vault import Vault

    path = invocation.vault_path()
    if not path.exists() or (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        with invocation.open() as vault:
            yield vault if scope is None else vault.scope(scope)
        return
    invocation.note("note: the vault cannot be written here, so what you do is not recorded in it")
    key = invocation.provider()
    with Vault.open(invocation.vault, key=key, principal=invocation.principal, read_only=True) as vault:
        yield vault if scope is None else vault.scope(scope)
