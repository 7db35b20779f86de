"""Making a vault file of a backup: whole and verified, or not at all (format 13.4)."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from securecfg.audit import Event, Tree, leaf_hash
from securecfg.clock import SystemClock, to_datetime
from securecfg.errors import (
    AlreadyExists,
    NotABackup,
    RollbackSuspected,
    Tampered,
    VersionNotFound,
)
from securecfg.files import give_name
from securecfg.keys import Slot, Unlocked, open_slot
from securecfg.store import Delete, Put, Space, create_sqlite
from securecfg.vault.auditlog import AuditLog
from securecfg.vault.authority import Authority
from securecfg.vault.backups.parts import open_chain
from securecfg.vault.backups.states import RowsOfState, StateCheck, damaged_scope
from securecfg.vault.commits.maintenance import delete_rows, freed_rows, stored_deltas
from securecfg.vault.commits.publishing import Plan
from securecfg.vault.commits.staging import sweep
from securecfg.vault.keys.slots import Slots
from securecfg.vault.logger import logger
from securecfg.vault.opened import OpenVault, Options
from securecfg.vault.paths import check_principal
from securecfg.vault.session import Identity
from securecfg.vault.state.anchor import AnchorFile, lineage, newest_known
from securecfg.vault.state.replica import Replica, tile_id
from securecfg.vault.verification import verify_vault

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from securecfg.clock import Clock
    from securecfg.keys import KeyProvider, SlotKey
    from securecfg.store import Store
    from securecfg.vault.backups.inventory import Inventory
    from securecfg.vault.backups.parts import OpenPart

    Progress = Callable[[int, int], None]

_LEAVES_AT_ONCE = 512
_TILES_AT_ONCE = 256  # of 8 KiB each


@dataclass(frozen=True, slots=True)
class BackupState:
    """A state of a vault that a backup holds.

    Attributes:
        part: The number of the part that holds it.
        taken: When it was the newest.
        size_bytes: Of the part's file.
    """

    part: int
    taken: datetime
    size_bytes: int


@dataclass(frozen=True, slots=True)
class RestoredScope:
    """A sealed scope that was restored.

    Attributes:
        path: Of its subtree; empty where the vault does not name it.
        record_count: The number of records in its log now.
        was_opened: Whether the administrators' key opened it, so that its charter, its index and its rows were checked.
            What shows without a key was checked of every scope.
        needs_adoption: Whether it does not continue what this machine knew of it.
        damage: What is wrong with it, where it was kept in spite of that: it is as the backup has it, and its members
            refuse what is not as it was signed.
    """

    path: str
    record_count: int
    was_opened: bool
    needs_adoption: bool
    damage: str = ""


@dataclass(frozen=True, slots=True)
class Restored:
    """What was restored.

    Attributes:
        state: Which state.
        record_count: The number of records in the vault now.
        secret_count: How many secrets there are, the vault's documents included.
        recorded_count: The number of records that this machine knew of, or None where it knew of none.
        needs_adoption: Whether the vault does not continue those, so that it is refused until somebody adopts it.
        scopes: The sealed scopes.
    """

    state: BackupState
    record_count: int
    secret_count: int
    recorded_count: int | None
    needs_adoption: bool
    scopes: tuple[RestoredScope, ...] = ()


class Restoring:
    """A backup that a recipient has opened.

    Args:
        folder: Where its parts are.
        provider: Holds the key of one of its recipients.
        clock: The time.

    Raises:
        FileMissing: There is no such folder.
        NotABackup: It holds no part, or something else under the name of one.
        BackupTruncated, BackupAltered: A part is not what it was.
        BackupChainBroken: A part is missing, or is of another chain.
        WrongKey: The key opens none of its slots.
        KeyProviderUnavailable, KeyProviderRefused: The key cannot be used.
        StoreFailed: A file cannot be read.
    """

    def __init__(self, folder: str | os.PathLike[str], provider: KeyProvider, clock: Clock | None = None) -> None:
        """Open the end of every part."""
        self._clock = clock or SystemClock()
        parts = open_chain(Path(folder))
        if not parts:
            message = f"`{folder}` holds no part of a backup"
            raise NotABackup(message, hint="name the folder that `securecfg vault backup` wrote")
        first = parts[0].header
        slots = {number: Slot.parse(slot.row) for number, slot in enumerate(first.slots)}
        self._slot_key: SlotKey = open_slot(first.chain_id, slots, provider)[1]
        self._chain = first.chain_id.hex()
        self._vault_id = first.vault_id
        self._parts: Sequence[OpenPart] = [part.open(self._slot_key) for part in parts]
        self._rows = RowsOfState(self._parts)

    def states(self) -> list[BackupState]:
        """Return the states that can be restored, oldest first."""
        return [
            BackupState(part.part.header.part, to_datetime(part.end.taken_ns), part.part.size_bytes)
            for part in self._parts
        ]

    def find(self, *, part: int | None = None, at: datetime | None = None) -> BackupState:
        """Return the state of a part, the newest one that is not after a time, or the newest of all.

        Raises:
            VersionNotFound: There is none.
        """
        states = self.states()
        if part is not None:
            states = [state for state in states if state.part == part]
        elif at is not None:
            states = [state for state in states if state.taken <= at]
        if not states:
            what = f"no part {part}" if part is not None else "no state that is as old as that"
            message = f"the backup has {what}"
            raise VersionNotFound(message, hint="`securecfg vault restore --dry-run` lists what there is")
        return states[-1]

    def scopes(self, state: BackupState) -> list[str]:
        """Return the paths of the sealed scopes in a state; an empty one for each that the vault did not name.

        Raises:
            BackupAltered, StoreFailed: As for `Restoring`.
        """
        return sorted(held.path for held in self._rows.inventory(state.part)[1:])

    def verify(self, state: BackupState, progress: Progress | None = None) -> None:
        """Read everything that a state needs, without writing anything, and check of its scopes what needs no key.

        Raises:
            BackupAltered, BackupChainBroken, StoreFailed: As for `Restoring`.
            Tampered: A sealed scope is not as it was signed.
        """
        check = StateCheck(self._rows, state.part)
        self._rows.copy(state.part, check.stage, progress)
        check.verify()

    def restore(
        self,
        state: BackupState,
        target: str | os.PathLike[str],
        principal: str,
        *,
        add: KeyProvider | None = None,
        reason: str = "",
        keeps_damaged: bool = False,
        progress: Progress | None = None,
    ) -> Restored:
        """Write a state to a new vault file. The vault and each scope are as they were, with one record more.

        Where this machine knows of a newer vault, or scope, that is refused as a rollback until somebody adopts it.

        Args:
            state: Which one.
            target: Where; there must be nothing.
            principal: Who restores it; needs the right `vault.restore` under the policy of the state.
            add: Another key that opens the restored vault, for who lost those that it had.
            reason: Why, for the log.
            keeps_damaged: Whether to restore the rest where sealed scopes are damaged: who may write in one scope, or
                the file, could else spoil all that is made from then on. They stay as the backup has them.
            progress: Called with how much was done, and of how much.

        Raises:
            AlreadyExists: There is something at the path.
            AccessDenied: The principal may not `vault.restore`.
            BackupAltered, BackupChainBroken: A part is not what it was.
            Tampered: What the backup holds is not what its head vouches for.
            StoreFailed: The file system refuses. In all cases nothing is at the path.
        """
        name = check_principal(principal)
        path = Path(target)
        if path.exists() or path.is_symlink():
            message = f"`{path}` exists already"
            raise AlreadyExists(message, hint="restore to another path; nothing is ever written over")
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.restoring")
        store = create_sqlite(temporary)
        try:
            try:
                end = self._parts[state.part - 1].end
                inventory, check = self._write(store, state, progress, keeps_damaged=keeps_damaged)
                unlocked = Unlocked(end.root, self._slot_key)
                opened = OpenVault(Replica(store, unlocked), None, self._clock, Options())
                try:
                    secret_count = self._verify(opened, progress)
                    self._record(opened, state, (name, reason), path, add)
                    known, needs_adoption = anchor_restored(opened, path)
                    size = opened.replica.checkpoint.size
                    told = (name, self._object(state, path, reason))
                    scopes = self._restore_scopes(opened, (inventory, check), told, path, keeps_damaged=keeps_damaged)
                    needs_adoption = needs_adoption or any(scope.needs_adoption for scope in scopes)
                    restored = Restored(state, size, secret_count, known, needs_adoption, scopes)
                finally:
                    opened.close()
            finally:
                store.close()
            give_name(temporary, path)
        except BaseException:
            # It has no name that anybody would find it by.
            for suffix in ("", "-wal", "-shm"):
                temporary.with_name(temporary.name + suffix).unlink(missing_ok=True)
            raise
        return restored

    # --- steps -------------------------------------------------------------------------------------------------------

    def _write(
        self, store: Store, state: BackupState, progress: Progress | None, *, keeps_damaged: bool
    ) -> tuple[Inventory, StateCheck]:
        """Write the rows of a state, the tiles that follow from its leaves, and its heads; the vault's is the last.

        Returns:
            What the state consists of, and what is sure of its scopes without a key.
        """
        places = {0: store}
        check = StateCheck(self._rows, state.part)

        def stage(number: int, puts: Sequence[Put]) -> None:
            if number not in places:
                places[number] = store.partition(number)
            check.stage(number, puts)
            places[number].stage(puts)

        inventory = self._rows.copy(state.part, stage, progress)
        if keeps_damaged:
            check.judge()
        else:
            check.verify()
        for held in reversed(inventory):
            place = store if not held.number else store.partition(held.number)
            if held.number not in check.damage:
                _write_tiles(place)
            place.commit([], expect=None, head=self._rows.head_of(held))
        return inventory, check

    def _verify(self, opened: OpenVault, progress: Progress | None) -> int:
        """Check everything that the head vouches for, delete what it does not, and return how many secrets there are.

        Raises:
            Tampered: Something is not what it vouches for.
        """
        if opened.replica.vault_id != self._vault_id:
            message = "the backup holds another vault than it says"
            raise Tampered(message)
        return settle_restored(opened, progress)

    def _object(self, state: BackupState, path: Path, reason: str) -> dict[str, object]:
        """Return what records say of what was restored, all but the size."""
        obj: dict[str, object] = {"backup": self._chain, "part": state.part, "lineage": lineage(path)}
        return obj | ({"reason": reason} if reason else {})

    def _record(
        self, opened: OpenVault, state: BackupState, who: tuple[str, str], path: Path, add: KeyProvider | None
    ) -> None:
        """Record who restored the vault and why, and add a key of theirs."""
        principal, reason = who
        authority = Authority(opened, Identity(principal, slot=self._slot_key.slot_id.hex()))
        session, decision = authority.require("vault.restore", "")
        obj = self._object(state, path, reason) | {"size": opened.replica.checkpoint.size}
        record = session.record(Event.VAULT_RESTORED, obj, decision=decision)
        authority.publish(lambda _: Plan(records=[record]))
        if add is not None:
            Slots(authority).add(add, label="restored")

    def _restore_scopes(
        self,
        opened: OpenVault,
        state: tuple[Inventory, StateCheck],
        told: tuple[str, Mapping[str, object]],
        path: Path,
        *,
        keeps_damaged: bool,
    ) -> tuple[RestoredScope, ...]:
        """Check the scopes of a restored vault, and record in each that it was restored.

        Raises:
            Tampered: One is not what it was, and damaged ones are not kept.
        """
        (_, *scopes), check = state
        if not scopes:
            return ()
        from securecfg.vault.backups.restored_scopes import ScopeRestorer  # few vaults have scopes

        restorer = ScopeRestorer(opened, told[0], told[1], path)
        restored = []
        for held in scopes:
            front, damage = check.fronts.get(held.number), ""
            if front is None:
                damage = damaged_scope(held, check.damage[held.number]).message
            else:
                try:
                    restored.append(RestoredScope(held.path, *restorer.restore(held, front)))
                except Tampered as error:
                    if not keeps_damaged:
                        raise
                    damage = error.message
            if damage:
                restored.append(RestoredScope(held.path, *restorer.keep(held, front), damage))
        return tuple(restored)


def settle_restored(opened: OpenVault, progress: Progress | None = None) -> int:
    """Check all that a restored vault or scope holds, delete what nothing references, and return the number of secrets.

    Raises:
        Tampered: Something is not what its head vouches for.
    """
    sweep(opened, opened.replica.state.stagings)  # nobody will publish what they have reserved
    report = verify_vault(opened, progress)
    if report.problems:
        _, _, problem = report.problems[0]
        message = f"{len(report.problems)} of the values in the backup are damaged: {problem}"
        raise Tampered(message, hint="restore another state")
    AuditLog(Authority(opened, Identity(""))).verify()
    _delete_unreferenced(opened, report.orphan_rows)
    return report.secrets


def anchor_restored(opened: OpenVault, path: Path) -> tuple[int | None, bool]:
    """Let the machine know a restored vault or scope by the newest checkpoint that it has of it, wherever that lay.

    Args:
        opened: What was restored.
        path: Where the file will be.

    Returns:
        The size of that checkpoint, and whether what was restored does not continue it.
    """
    vault_id = opened.replica.vault_id
    try:
        known = newest_known(vault_id)
        if known is None:
            return None, False
        AnchorFile(vault_id, path).advance(known, lambda _: None)
    except OSError as error:
        logger().warning("the anchor cannot be written: %s", error.strerror, extra={"event": "anchor.failed"})
        return None, False
    try:
        opened.verify_mark(known)
    except RollbackSuspected:
        return known.size, True
    return known.size, False


def _write_tiles(store: Store) -> None:
    """Write the tiles that follow from the leaves."""
    tree = Tree()
    tiles: dict[int, bytes] = {}
    size = 0
    while rows := store.scan(Space.LOG, size, size + _LEAVES_AT_ONCE - 1, _LEAVES_AT_ONCE):
        for index, leaf in rows:
            if index != size:
                message = f"record {size} is missing from the log"
                raise Tampered(message)
            for tile in tree.append(leaf_hash(leaf)):
                tiles[tile_id(tile.level, tile.index)] = tile.hashes
            size += 1
    puts = [Put(Space.TILE, id_, hashes) for id_, hashes in tiles.items()]
    for start in range(0, len(puts), _TILES_AT_ONCE):
        store.stage(puts[start : start + _TILES_AT_ONCE])


def _delete_unreferenced(opened: OpenVault, orphans: Sequence[tuple[Space, int]]) -> None:
    """Delete rows that nothing references: what was destroyed or replaced while the backup was made."""
    replica = opened.replica
    deletes = [Delete(space, id_) for space, id_ in orphans]
    for _, delta in stored_deltas(opened, replica.state.base_size, replica.checkpoint.size):
        deletes += freed_rows(opened.store, delta.freed)
    delete_rows(opened, deletes)
    opened.store.purge()
