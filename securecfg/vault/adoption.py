"""Accepting a vault that this machine's anchor does not know: a copy, a restored backup, or a lost anchor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from securecfg.audit import Event
from securecfg.clock import SystemClock
from securecfg.errors import StoreFailed
from securecfg.vault.anchor import AnchorFile, lineage
from securecfg.vault.authority import Authority
from securecfg.vault.creation import open_vault, verify_principal
from securecfg.vault.opened import Options
from securecfg.vault.paths import check_principal
from securecfg.vault.session import Identity

if TYPE_CHECKING:
    import os

    from securecfg.clock import Clock
    from securecfg.keys import KeyProvider


@dataclass(frozen=True, slots=True)
class Adoption:
    """What was accepted.

    Attributes:
        size: The number of records in the vault.
        recorded_size: The number that the anchor knew of, or None where there was no anchor.
    """

    size: int
    recorded_size: int | None


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
        known = AnchorFile(opened.replica.vault_id, path).read()
        return Adoption(opened.replica.checkpoint.size, known.mark.size if known else None)
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
        verify_principal(slot, name)
        authority = Authority(opened, Identity(name, slot=slot.slot_id.hex()))
        session, decision = authority.require("vault.restore", "")
        anchor = AnchorFile(opened.replica.vault_id, path)
        known = anchor.read()
        old_size = known.mark.size if known else 0
        obj: dict[str, object] = {
            "size": opened.replica.checkpoint.size,
            "old_size": old_size,
            "lineage": lineage(path),
        }
        if reason:
            obj["reason"] = reason
        authority.publish_records([session.record(Event.VAULT_ADOPTED, obj, decision=decision)])
        try:
            anchor.replace(opened.mark())
        except OSError as error:
            message = f"the anchor cannot be written: {error.strerror}"
            raise StoreFailed(message) from None
        return Adoption(opened.replica.checkpoint.size, known.mark.size if known else None)
    finally:
        opened.close()
