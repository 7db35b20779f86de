"""Accepting a vault that this machine's anchor does not know: a copy, a restored backup, or a lost anchor.

It is also the one way to accept this machine's clock where another one dated the newest publication into the future.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from securecfg.audit import Event
from securecfg.clock import SystemClock
from securecfg.errors import StoreFailed
from securecfg.vault.authority import Authority
from securecfg.vault.commits.publishing import Plan
from securecfg.vault.creation import identify, open_vault
from securecfg.vault.opened import Options
from securecfg.vault.paths import check_principal
from securecfg.vault.state.anchor import AnchorFile, lineage

if TYPE_CHECKING:
    import os

    from securecfg.clock import Clock
    from securecfg.keys import KeyProvider
    from securecfg.vault.opened import OpenVault


@dataclass(frozen=True, slots=True)
class Adoption:
    """What was accepted.

    Attributes:
        size: The number of records in the vault.
        recorded_size: The number that the anchor knew of, or None where there was no anchor.
        ahead: By how much its newest publication is dated after the clock of who accepts it, where that is more than
            five minutes; acceptance sets that back.
    """

    size: int
    recorded_size: int | None
    ahead: timedelta


def compare_with_anchor(
    path: str | os.PathLike[str],
    provider: KeyProvider,
    clock: Clock | None = None,
) -> Adoption:
    """Return the sizes of a vault and of its anchor, without accepting anything.

    Raises:
        As for `open_vault`, but never `RollbackSuspected`.
    """
    opened, _ = open_vault(path, provider, clock or SystemClock(), Options(read_only=True), is_adopting=True)
    try:
        return _compare(opened, AnchorFile(opened.replica.vault_id, path))
    finally:
        opened.close()


def adopt(
    path: str | os.PathLike[str],
    provider: KeyProvider,
    principal: str,
    *,
    reason: str = "",
    clock: Clock | None = None,
) -> Adoption:
    """Accept a vault as it is, record that, and start a new anchor for it.

    Where a clock that was ahead has dated a publication into the future, that is set back to the present.

    Args:
        path: The vault.
        provider: Holds one of its keys.
        principal: Who accepts it; needs the right `vault.restore`.
        reason: Why, for the log.
        clock: The time.

    Raises:
        AccessDenied: The principal may not `vault.restore`.
        StoreFailed: The anchor cannot be written.
        As for `open_vault`, but never `RollbackSuspected`.
    """
    name = check_principal(principal)
    opened, slot = open_vault(path, provider, clock or SystemClock(), Options(), is_adopting=True)
    try:
        authority = Authority(opened, identify(slot, provider, name))
        session, decision = authority.require("vault.restore", "")
        anchor = AnchorFile(opened.replica.vault_id, path)
        found = _compare(opened, anchor)
        obj: dict[str, object] = {"size": found.size, "old_size": found.recorded_size or 0, "lineage": lineage(path)}
        if reason:
            obj["reason"] = reason
        record = session.record(Event.VAULT_ADOPTED, obj, decision=decision)
        authority.publish(lambda _: Plan(records=[record], state={"published": record.time_ns}))
        try:
            anchor.replace(opened.mark())
        except OSError as error:
            message = f"the anchor cannot be written: {error.strerror}"
            raise StoreFailed(message) from None
        if opened.has_scopes:
            from securecfg.vault.scopes.scopes import Scopes  # few vaults have scopes

            Scopes(authority).adopt()
        return replace(found, size=opened.replica.checkpoint.size)
    finally:
        opened.close()


def _compare(opened: OpenVault, anchor: AnchorFile) -> Adoption:
    replica, known = opened.replica, anchor.read()
    ahead = timedelta(microseconds=replica.state.clock_behind_ns(opened.clock.now_ns()) // 1_000)
    return Adoption(replica.checkpoint.size, known.mark.size if known else None, ahead)
