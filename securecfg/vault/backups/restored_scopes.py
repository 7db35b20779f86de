"""The sealed scopes of a vault that was just restored: checked, cleared of what nothing references, and recorded."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from securecfg.audit import Event
from securecfg.errors import IntegrityError, Tampered
from securecfg.vault.authority import Authority
from securecfg.vault.backups.restoring import anchor_restored, settle_restored
from securecfg.vault.backups.states import damaged_scope
from securecfg.vault.commits.publishing import Plan
from securecfg.vault.logger import logger
from securecfg.vault.scopes.scopes import Scopes
from securecfg.vault.scopes.sealed_states import root_of_log
from securecfg.vault.session import Identity
from securecfg.vault.state.anchor import AnchorFile, newest_known

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from securecfg.vault.backups.inventory import Holding
    from securecfg.vault.opened import OpenVault
    from securecfg.vault.scopes.sealed_states import Front


class Outcome(NamedTuple):
    """What became of one scope: how many records it has, whether a key opened it, whether it needs adoption."""

    record_count: int
    was_opened: bool
    needs_adoption: bool


class ScopeRestorer:
    """The scopes in a file that holds a restored vault and has no name yet.

    Args:
        opened: The vault.
        principal: Who restores it.
        obj: What records say of it, all but the size.
        path: Where the file will be.
    """

    def __init__(self, opened: OpenVault, principal: str, obj: Mapping[str, object], path: Path) -> None:
        """Open none yet."""
        self._opened = opened
        self._principal = principal
        self._obj = obj
        self._path = path
        self._door = Scopes(Authority(opened, Identity(principal))).doorway()
        registry = opened.scopes()
        scopes = registry.scopes if registry is not None else {}
        self._places = {place.number: (path, place.scope_id) for path, place in scopes.items()}

    def restore(self, held: Holding, front: Front) -> Outcome:
        """Check a scope, and record in it that it was restored.

        Args:
            held: What the backup says of it.
            front: What is sure of it without a key.

        Raises:
            Tampered: It is not what it was.
        """
        try:
            expected = self._places.get(held.number)
            if (expected is None and held.path) or (expected is not None and expected != (held.path, held.vault_id)):
                message = "the backup holds another scope than it says"
                raise Tampered(message)
            found = self._door.open(held.number, expected) if self._door is not None and expected is not None else None
            if found is None:
                return self.keep(held, front)
            opened, slot = found
            try:
                settle_restored(opened)
                self._record(opened, slot)
                _, needs_adoption = anchor_restored(opened, self._path)
                return Outcome(opened.replica.checkpoint.size, was_opened=True, needs_adoption=needs_adoption)
            finally:
                opened.close()
        except IntegrityError as error:
            raise damaged_scope(held, error) from None

    def keep(self, held: Holding, front: Front | None) -> Outcome:
        """Leave a scope as the backup has it: one that no key opens, or one that is damaged.

        Args:
            held: What the backup says of it.
            front: What is sure of it without a key; None where nothing is.
        """
        size = front.checkpoint.size if front is not None else 0
        return Outcome(size, was_opened=False, needs_adoption=self._anchor_closed(held, front))

    def _record(self, opened: OpenVault, slot: bytes) -> None:
        authority = Authority(opened, Identity(self._principal, slot=slot.hex()))
        obj = {**self._obj, "size": opened.replica.checkpoint.size}
        record = authority.session().record(Event.VAULT_RESTORED, obj)
        authority.publish(lambda _: Plan(records=[record]))

    def _anchor_closed(self, held: Holding, front: Front | None) -> bool:
        """Do for a scope that no key opens what `anchor_restored` does for others, and return whether it goes back."""
        try:
            known = newest_known(held.vault_id)
            if known is None:
                return False
            AnchorFile(held.vault_id, self._path).advance(known, lambda _: None)
        except OSError as error:
            logger().warning("the anchor cannot be written: %s", error.strerror, extra={"event": "anchor.failed"})
            return False
        if front is None or known.size > front.checkpoint.size:
            return True
        return root_of_log(self._opened.store.partition(held.number), known.size) != known.root
