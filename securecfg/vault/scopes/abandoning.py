"""Makings of sealed scopes that did not come to their end, and giving them up before they end by themselves.

Nothing tells one whose process is gone from one that goes on. So what is given up is the note: the commit that would
make it a scope looks for that note, and is refused without it.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from securecfg.clock import to_datetime
from securecfg.errors import Conflict, SecretNotFound
from securecfg.vault.commits.maintenance import finish_destruction
from securecfg.vault.scopes.making import give_up
from securecfg.vault.scopes.registry import ABANDONED_NS, read_registry
from securecfg.vault.scopes.scopes import scope_path

if TYPE_CHECKING:
    from datetime import datetime

    from securecfg.policy import Decision
    from securecfg.vault.authority import Authority
    from securecfg.vault.commits.publishing import Plan, Publication
    from securecfg.vault.opened import OpenVault
    from securecfg.vault.scopes.registry import ScopePlace
    from securecfg.vault.session import Session


class UnfinishedScope(NamedTuple):
    """A scope that is noted as being made.

    Attributes:
        path: The subtree, ending in `/`.
        place: Where it will lie.
        begun: When it was begun, by the clock of who makes it.
        age: How long ago that is; nothing where that clock was ahead.
        is_in_the_way: Whether it still keeps others from making a scope there, and roles from getting another key.
    """

    path: str
    place: ScopePlace
    begun: datetime
    age: timedelta
    is_in_the_way: bool


def unfinished_scopes(opened: OpenVault) -> list[UnfinishedScope]:
    """Return the scopes that are noted as being made, by their paths.

    Raises:
        Tampered: The document that notes them is damaged.
    """
    now_ns = opened.clock.now_ns()
    return [
        UnfinishedScope(
            path,
            making.place,
            to_datetime(making.begun_ns),
            timedelta(microseconds=max(0, now_ns - making.begun_ns) // 1_000),
            now_ns - making.begun_ns <= ABANDONED_NS,
        )
        for path, making in sorted(read_registry(opened).making.items())
    ]


def find_unfinished(authority: Authority, path: str) -> UnfinishedScope:
    """Return the scope that is noted as being made at a path.

    Raises:
        AccessDenied: The caller may not `key.manage`.
        InvalidPath: It breaks the rules for paths.
        SecretNotFound: None is.
    """
    authority.require("key.manage", "")
    scope = scope_path(path)
    found = next((each for each in unfinished_scopes(authority.opened) if each.path == scope), None)
    if found is None:
        raise _none_made(authority.opened, scope)
    return found


def abandon(authority: Authority, unfinished: UnfinishedScope, *, reason: str = "") -> None:
    """Give up a scope that is being made, and erase what there is of it.

    Where somebody goes on to make it, that ends with `Conflict` and changes nothing: the secrets that were to go into
    it stay where they are.

    Args:
        authority: Decides and records in the vault.
        unfinished: The making, as it was looked at. Another one that took its place is left alone.
        reason: Why, for the log.

    Raises:
        AccessDenied: The caller may not `key.manage`.
        SecretNotFound: It is not being made any more: it is there, or was given up.
        Conflict: Somebody has begun it again.
        DestroyPending: It is given up, but its rows may lie in the store's log until another reader lets go.
        CommitUnknown, StoreBusy, StoreFailed: As for a write.
    """
    opened = authority.opened
    scope = unfinished.path

    def plan(publication: Publication, session: Session, decision: Decision) -> Plan:
        making = scope, unfinished.place
        planned = give_up(opened, publication, session, making, decision=decision, reason=reason)
        if planned is not None:
            return planned
        if scope not in read_registry(opened).making:
            raise _none_made(opened, scope)
        message = f"somebody has begun to make `{scope}` again since you looked"
        raise Conflict(message, hint="look at `securecfg scope list`, and try again")

    authority.publish_allowed("key.manage", plan)
    if opened.is_destruction_pending:
        finish_destruction(opened)


def _none_made(opened: OpenVault, scope: str) -> SecretNotFound:
    message = f"no scope is being made at `{scope}`"
    is_there = scope in read_registry(opened).scopes
    hint = f"it is there: `securecfg scope show {scope}`" if is_there else "`securecfg scope list` shows what is"
    return SecretNotFound(message, hint=hint)
