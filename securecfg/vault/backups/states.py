"""The rows of one state of a backup, out of all parts up to it (format 13.4)."""

from __future__ import annotations

from collections import defaultdict
from hashlib import sha256
from typing import TYPE_CHECKING

from securecfg.errors import BackupChainBroken, Tampered
from securecfg.store import STAGE_LIMIT_BYTES, STAGE_LIMIT_OPERATIONS, Put, Space
from securecfg.vault.backups.inventory import digest_of_grants
from securecfg.vault.backups.parts import verify_previous
from securecfg.vault.scopes.sealed_states import Witness

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from securecfg.errors import IntegrityError
    from securecfg.vault.backups.inventory import Holding, Inventory
    from securecfg.vault.backups.parts import OpenPart
    from securecfg.vault.scopes.sealed_states import Front

    Stage = Callable[[int, Sequence[Put]], None]
    Progress = Callable[[int, int], None]


class StateCheck:
    """Checks of each sealed scope in a state what needs no key of it, while its rows pass.

    Args:
        state: The state.
        number: Of its part.
    """

    def __init__(self, state: RowsOfState, number: int) -> None:
        """Begin with what the part says that there is."""
        self._state = state
        self._scopes = {held.number: held for held in state.inventory(number) if held.number}
        self._witnesses = {number: Witness(held.vault_id) for number, held in self._scopes.items()}
        self.fronts: dict[int, Front] = {}
        self.damage: dict[int, Tampered] = {}

    def stage(self, number: int, puts: Sequence[Put]) -> None:
        """Look at rows."""
        witness = self._witnesses.get(number)
        if witness is not None and number not in self.damage:
            try:
                for put in puts:
                    witness.take(*put)
            except Tampered as error:
                self.damage[number] = error

    def judge(self) -> None:
        """Check each scope, once all rows have passed: `fronts` has those that fit together, `damage` the others."""
        for number, held in self._scopes.items():
            if number not in self.damage:
                try:
                    self.fronts[number] = self._witnesses[number].verify(self._state.head_of(held))
                except Tampered as error:
                    self.damage[number] = error

    def verify(self) -> None:
        """Check all scopes, once all rows have passed.

        Raises:
            Tampered: One does not fit together.
        """
        self.judge()
        for number, error in sorted(self.damage.items()):
            raise damaged_scope(self._scopes[number], error)


def damaged_scope(held: Holding, error: IntegrityError) -> Tampered:
    """Return the error for a scope in a backup that is not as it was signed."""
    name = f"`{held.path}`" if held.path else f"in partition {held.number}"
    message = f"the sealed scope {name} in the backup is damaged: {error.message}"
    return Tampered(message, hint="restore another state, or all but this scope with `--keep-damaged`")


class RowsOfState:
    """What the parts of a chain hold, opened by one of its recipients.

    Args:
        parts: All parts, in their order.
    """

    def __init__(self, parts: Sequence[OpenPart]) -> None:
        """Read nothing yet."""
        self._parts = parts

    def inventory(self, number: int) -> Inventory:
        """Return what the state of a part consists of.

        Raises:
            BackupAltered: The part is not as it was made.
            StoreFailed: It cannot be read.
        """
        return self._parts[number - 1].inventory()

    def head_of(self, held: Holding) -> bytes:
        """Return the head of the vault, or of a partition, in a state.

        Raises:
            BackupChainBroken: The part that should have it has another one.
        """
        heads = dict(self._parts[held.part - 1].end.heads)
        head = heads.get(held.number, b"")
        if sha256(head).digest() != held.head_digest:
            raise self._lacking(held.part)
        return head

    def copy(self, number: int, stage: Stage, progress: Progress | None = None) -> Inventory:
        """Hand over the rows of a state, oldest first, check every part that may hold one, and return the inventory.

        Args:
            number: Of the part whose state it is.
            stage: Takes rows, and the partition that they are of.
            progress: Called with how many rows were looked at, and of how many.

        Raises:
            BackupAltered: A part is not as it was made.
            BackupChainBroken: A part does not continue the one before, or something of the state is in none.
            StoreFailed: A part cannot be read.
        """
        parts = self._parts[:number]
        inventory = self.inventory(number)
        wanted = _Wanted(inventory)
        batches = _Batches(stage)
        total = sum(part.end.rows for part in parts)
        done = 0
        for part in parts:
            wanted.begin(part.part.header.part)
            for partition, space, id_, row in part.rows():
                done += 1
                if progress is not None:
                    progress(done, total)
                if wanted.takes(partition, space, id_, row):
                    batches.add(partition, Put(space, id_, row))
        batches.flush()
        verify_previous([part.part for part in parts])
        for held in inventory:
            self.head_of(held)
        if wanted.lacks_any():
            raise self._lacking(number)
        return inventory

    def _lacking(self, number: int) -> BackupChainBroken:
        name = self._parts[number - 1].part.path.name
        message = f"the parts up to {name} lack rows of its state"
        return BackupChainBroken(message, hint="put the parts of one chain, all of them, into one folder")


class _Wanted:
    """Which rows a state needs, and which of them have not come yet."""

    def __init__(self, inventory: Inventory) -> None:
        self._held = {held.number: held for held in inventory}
        self._ids: dict[tuple[int, Space], set[int]] = {}
        for held in inventory:
            for (space, _), runs in held.runs.items():
                known = self._ids.setdefault((held.number, space), set())
                known.update(id_ for run in runs for id_ in run)
        self._missing = {place: set(ids) for place, ids in self._ids.items()}
        self._grants: dict[int, dict[int, bytes]] = defaultdict(dict)
        self._part = 0

    def begin(self, part: int) -> None:
        self._part = part

    def takes(self, partition: int, space: Space, id_: int, row: bytes) -> bool:
        """Return whether a row of the part at hand is one of the state."""
        held = self._held.get(partition)
        if held is None:
            return False
        if space is Space.META:
            return held.part == self._part
        if space is Space.GRANT:
            if held.grants_part != self._part:
                return False
            self._grants[partition][id_] = row
            return True
        place = (partition, space)
        if id_ not in self._ids.get(place, ()):
            return False
        self._missing[place].discard(id_)
        return True

    def lacks_any(self) -> bool:
        """Return whether a row is in no part, or the grants are others."""
        return any(self._missing.values()) or any(
            held.grants_digest != digest_of_grants(sorted(self._grants[number].items()))
            for number, held in self._held.items()
        )


class _Batches:
    """Rows on their way into a store, as many at once as that takes."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._partition = 0
        self._puts: list[Put] = []
        self._size_bytes = 0

    def add(self, partition: int, put: Put) -> None:
        is_full = len(self._puts) == STAGE_LIMIT_OPERATIONS or self._size_bytes + len(put.row) > STAGE_LIMIT_BYTES
        if is_full or partition != self._partition:
            self.flush()
            self._partition = partition
        self._puts.append(put)
        self._size_bytes += len(put.row)

    def flush(self) -> None:
        if self._puts:
            self._stage(self._partition, self._puts)
        self._puts, self._size_bytes = [], 0
