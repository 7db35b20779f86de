"""What `doctor` says of the sealed scopes of a vault."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from securecfg.cli.findings import Finding, Grade, problem
from securecfg.cli.output import shown_age
from securecfg.errors import IntegrityError, ScopeSealed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securecfg.vault import Vault

_NAME = "scopes"
_LONG = timedelta(hours=1)  # what is moved into a scope expires after that


def look_at_scopes(vault: Vault) -> Iterator[Finding]:
    """Look at the scopes of a vault that its root has opened, where the caller manages keys."""
    from securecfg.vault.scopes.abandoning import unfinished_scopes
    from securecfg.vault.scopes.scopes import Scopes

    if vault.opened.replica.seat is not None or vault.opened.scopes() is None:
        return
    if not vault.principal or not vault.authority.session().decide("key.manage", "").allowed:
        return
    scopes = Scopes(vault.authority)
    for path in scopes.paths():
        try:
            scopes.show(path)
        except (IntegrityError, ScopeSealed) as error:
            yield problem(f"scope {path}", error)
    for each in unfinished_scopes(vault.opened):
        message = f"`{each.path}` is being made, begun {shown_age(each.age)} ago"
        hint = f"where nobody goes on with that: `securecfg scope abandon {each.path}`, or make it again"
        yield Finding(_NAME, Grade.WARNING if each.age > _LONG else Grade.NOTE, message, hint)
