"""Making backups of a vault that is in use, and knowing of those that were made."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Self

from securecfg.audit import Event
from securecfg.crypto import generate_key
from securecfg.errors import BackupChainBroken, Conflict, FileMissing, ScopeSealed, SettingMissing
from securecfg.keys import seal_slot
from securecfg.vault.backups.copying import VaultCopy
from securecfg.vault.backups.format import (
    End,
    Message,
    Messages,
    PartHeader,
    PartSlot,
    seal_part_key,
)
from securecfg.vault.backups.inventory import inventory_to_bytes
from securecfg.vault.backups.notes import (
    BackupNote,
    ChainNote,
    Recipient,
    draft_chain,
    draft_part,
    find_chain,
    find_notes,
)
from securecfg.vault.backups.parts import PARTS_MAX, PartDraft, locked, name_of_part, open_chain
from securecfg.vault.commits.publishing import Plan

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from securecfg.crypto import KeyBytes
    from securecfg.keys import KeyProvider
    from securecfg.policy import Decision
    from securecfg.vault.authority import Authority
    from securecfg.vault.backups.inventory import Inventory
    from securecfg.vault.backups.parts import Part
    from securecfg.vault.backups.rows import Progress
    from securecfg.vault.commits.publishing import Publication
    from securecfg.vault.session import Session
    from securecfg.vault.vault import Vault

_CHAIN_ID_BYTES = 16
_RECIPIENTS_MAX = 32  # their public keys have to fit into one note


@dataclass(frozen=True, slots=True)
class Backup:
    """A part that was made, or would be.

    Attributes:
        backup: The id of the chain, in hexadecimal digits.
        part: Its number in it.
        path: Its file.
        recipients: The schemes of the keys that open it.
        record_count: The number of records of the state that it holds.
        row_count: How many rows are in it.
        size_bytes: Of the file.
        scope_count: How many sealed scopes the state has.
        scopes: The paths of those that the vault names, where the caller may know them: who may `key.manage`.
    """

    backup: str
    part: int
    path: Path
    recipients: tuple[str, ...]
    record_count: int = 0
    row_count: int = 0
    size_bytes: int = 0
    scope_count: int = 0
    scopes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a part goes, and what it continues."""

    chain: ChainNote
    slots: tuple[bytes, ...]
    part: int
    previous: bytes
    inventory: Inventory
    is_new: bool


class Backups:
    """The backups of a vault with all its sealed scopes, as one identity may make them.

    A key of the vault is needed: a backup holds its root, and its log knows of every one. No scope has to be readable.

    Args:
        authority: Decides and records for it.

    Raises:
        ScopeSealed: It is that of a sealed scope.
    """

    def __init__(self, authority: Authority) -> None:
        """Make none yet."""
        self._authority = authority
        self._opened = authority.opened
        if self._opened.replica.seat is not None:
            raise _only_scopes()

    @classmethod
    def of(cls, vault: Vault) -> Self:
        """Return the backups of a vault that a key of it has opened.

        Raises:
            ScopeSealed: The key opens sealed scopes only.
        """
        first = next(vault.parts(), None)  # none where the key does no more than drop values
        if first is None or first[0]:
            raise _only_scopes()
        return cls(first[1].authority)

    def list(self) -> Sequence[BackupNote]:
        """Return what the vault knows of its backups, oldest first.

        Raises:
            AccessDenied: The caller may not `vault.backup`.
        """
        session, _ = self._authority.require("vault.backup", "")
        notes = find_notes(self._opened)
        return notes if _may_name_scopes(session) else [replace(note, scopes=()) for note in notes]

    def plan(self, folder: str | os.PathLike[str], recipients: Sequence[KeyProvider] = ()) -> Backup:
        """Return which part `make` would write, without writing anything.

        Raises:
            As for `make`.
        """
        self._authority.require("vault.backup", "")
        try:
            parts = open_chain(Path(folder))
        except FileMissing:
            parts = []
        if not parts:
            _check_recipients(recipients)
            return Backup("", 1, Path(folder) / name_of_part(1), tuple(provider.scheme for provider in recipients))
        place = self._continue(parts, recipients)
        return self._result(place, Path(folder) / name_of_part(place.part))

    def make(
        self,
        folder: str | os.PathLike[str],
        recipients: Sequence[KeyProvider] = (),
        progress: Progress | None = None,
    ) -> Backup:
        """Write the next part of the backup in a folder, or the first one, and read it back.

        The vault may be used meanwhile. Whoever holds a recipient's key can read everything that is in the vault now.

        Args:
            folder: Where; it is made where there is none.
            recipients: Whose keys open it, for the first part; the later ones are for the same.
            progress: Called with how much was looked at, and of how much.

        Raises:
            AccessDenied: The caller may not `vault.backup`.
            SettingMissing: There is no backup yet, and no recipient is given.
            Conflict: There is one, and recipients are given.
            BackupChainBroken: The parts in the folder are not those that this vault knows.
            NotABackup, BackupTruncated, BackupAltered: A part in the folder is not what it was.
            KeyProviderUnavailable, KeyProviderRefused: A recipient's key cannot be used.
            StoreBusy: Another process writes to the folder, or the vault changes too fast.
            AuditUnavailable: The backup cannot be recorded, so it was not made.
            Tampered: A sealed scope is not as it was signed, or is gone.
            RollbackSuspected: A sealed scope is older than what was recorded on this machine.
            StoreFailed: The file system refuses; nothing is left that could be taken for a part.
        """
        session, decision = self._authority.require("vault.backup", "")
        target = Path(folder)
        with locked(target):
            parts = open_chain(target)
            place = self._continue(parts, recipients) if parts else self._begin(recipients)
            begun_ns = self._opened.clock.now_ns()
            note: dict[str, object] = {"part": place.part, "begun": begun_ns, "place": str(target.absolute())}
            self._record_begin(session, decision, place, note)
            part_key = generate_key()
            header = self._header(place, part_key, begun_ns)
            draft = PartDraft(target, header)
            try:
                copy = self._copy(place, session)
                part = self._write(draft, place, (header, part_key), (copy, progress))
                self._record_end(place, copy, part, note)
                path = draft.keep()
            finally:
                draft.discard()
            done = self._result(place, path)
            return replace(
                done,
                record_count=copy.vault.size,
                row_count=copy.count,
                size_bytes=part.size_bytes,
                scope_count=copy.scope_count,
                scopes=tuple(sorted(copy.paths.values())) if _may_name_scopes(session) else (),
            )

    # --- steps -------------------------------------------------------------------------------------------------------

    def _begin(self, recipients: Sequence[KeyProvider]) -> _Place:
        _check_recipients(recipients)
        chain_id = secrets.token_bytes(_CHAIN_ID_BYTES)
        slots = [(provider.scheme, seal_slot(chain_id, provider)) for provider in recipients]
        known = tuple(Recipient(new.slot.slot_id, new.public_key, scheme) for scheme, new in slots)
        rows = tuple(new.slot.to_bytes() for _, new in slots)
        return _Place(ChainNote(chain_id, generate_key(), known), rows, 1, bytes(32), (), is_new=True)

    def _continue(self, parts: Sequence[Part], recipients: Sequence[KeyProvider]) -> _Place:
        last = parts[-1]
        chain_id, number = last.header.chain_id, last.header.part
        chain = find_chain(self._opened, chain_id)
        if chain is None or last.header.vault_id != self._opened.replica.vault_id:
            message = f"`{last.path.parent}` holds a backup that this vault does not know"
            raise BackupChainBroken(message, hint="begin a new backup in another folder")
        if recipients:
            message = f"the backup in `{last.path.parent}` has its recipients already"
            raise Conflict(message, hint="begin a new backup for others, in another folder")
        if number == PARTS_MAX:
            message = f"the backup in `{last.path.parent}` has as many parts as it can have"
            raise Conflict(message, hint="begin a new backup in another folder")
        digest = last.digest()
        known = [note for note in find_notes(self._opened) if note.backup == chain_id.hex() and note.part == number]
        if not known or known[0].digest != digest.hex():
            message = f"`{last.path}` is not the part that this vault made"
            raise BackupChainBroken(message, hint="begin a new backup in another folder, and keep this one")
        # That it opens shows that the header, and so the slots in it, are as the vault wrote them.
        inventory = last.open_inventory(chain.inventory_key)
        rows = tuple(slot.row for slot in last.header.slots)
        return _Place(chain, rows, number + 1, digest, inventory, is_new=False)

    def _header(self, place: _Place, part_key: KeyBytes, begun_ns: int) -> PartHeader:
        chain = place.chain
        slots = tuple(
            PartSlot(row, seal_part_key(each.public_key, chain.chain_id, each.slot_id, place.part, part_key))
            for row, each in zip(place.slots, chain.recipients, strict=True)
        )
        return PartHeader(self._opened.replica.vault_id, chain.chain_id, place.part, begun_ns, place.previous, slots)

    def _copy(self, place: _Place, session: Session) -> VaultCopy:
        doorway = None
        if self._opened.has_scopes:
            from securecfg.vault.scopes.scopes import Scopes  # few vaults have scopes

            doorway = Scopes(self._authority).doorway()
        return VaultCopy(self._opened, place.inventory, doorway, names_scopes=_may_name_scopes(session))

    def _write(
        self,
        draft: PartDraft,
        place: _Place,
        begun: tuple[PartHeader, KeyBytes],
        copying: tuple[VaultCopy, Progress | None],
    ) -> Part:
        """Write the messages and read them back."""
        (header, part_key), (copy, progress), key = begun, copying, place.chain.inventory_key
        messages = Messages(header, part_key, key)
        rows_digest = draft.append(messages.seal(Message.ROWS, copy.items(progress)))
        inventory = inventory_to_bytes(copy.inventory(place.part))
        inventory_digest = draft.append(messages.seal(Message.INVENTORY, (inventory,)))
        end = End(copy.taken_ns, copy.root, key, copy.count, rows_digest, inventory_digest, copy.heads)
        draft.append(messages.seal(Message.END, (end.to_bytes(),)))
        part = draft.finish()
        _read_back(part, part_key)
        return part

    def _record_begin(self, session: Session, decision: Decision, place: _Place, note: dict[str, object]) -> None:
        chain = place.chain
        names = [recipient.name for recipient in chain.recipients]
        obj = {"backup": chain.chain_id.hex(), "part": place.part, "recipients": names}
        author = session.identity.principal

        def plan(publication: Publication) -> Plan:
            plan = Plan(records=[session.record(Event.BACKUP_BEGUN, obj, decision=decision)])
            if place.is_new:
                plan.join(draft_chain(self._opened, publication, chain, author))
            plan.join(draft_part(self._opened, publication, chain.chain_id, note, author))
            return plan

        self._authority.publish(plan)

    def _record_end(self, place: _Place, copy: VaultCopy, part: Part, begun: dict[str, object]) -> None:
        session = self._authority.session()
        digest = part.digest().hex()
        chain_id = place.chain.chain_id
        size = copy.vault.size
        obj = {"backup": chain_id.hex(), "part": place.part, "size": size, "digest": digest}
        note = begun | {"size": size, "bytes": part.size_bytes, "digest": digest}
        if copy.scope_count:
            note |= {"scope_count": copy.scope_count, "scopes": sorted(copy.paths.values())}

        def plan(publication: Publication) -> Plan:
            plan = draft_part(self._opened, publication, chain_id, note, session.identity.principal)
            plan.records = [session.record(Event.BACKUP_FINISHED, obj)]
            return plan

        self._authority.publish(plan)

    def _result(self, place: _Place, path: Path) -> Backup:
        kinds = tuple(recipient.kind for recipient in place.chain.recipients)
        return Backup(place.chain.chain_id.hex(), place.part, path, kinds)


def _may_name_scopes(session: Session) -> bool:
    """Return whether a caller may know which scopes there are, as `securecfg scope list` decides it."""
    return session.decide("key.manage", "").allowed


def _only_scopes() -> ScopeSealed:
    message = "this key opens sealed scopes only, and a backup is of the whole vault"
    return ScopeSealed(message, hint="back up with a key of the vault; it need not be able to read the scopes")


def _check_recipients(recipients: Sequence[KeyProvider]) -> None:
    if not recipients:
        message = "a new backup needs a recipient: a key that opens it"
        raise SettingMissing(message, hint="give `--to URI`; best one that is not a key of the vault")
    if len(recipients) > _RECIPIENTS_MAX:
        message = f"a backup has at most {_RECIPIENTS_MAX} recipients"
        raise Conflict(message)


def _read_back(part: Part, part_key: KeyBytes) -> None:
    """Open everything that was written.

    Raises:
        BackupAltered: The file does not hold it.
    """
    read = part.open_with(part_key)
    read.inventory()
    for _ in read.rows():
        pass
