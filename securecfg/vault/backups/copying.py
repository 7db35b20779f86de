"""Copying a vault and its sealed scopes, each in a state of its own and all of one moment (format 13.3).

No head ever comes back. So if none has moved between the last one that was read and another look at all of them, they
were all in force in between. Where others write too often for that, they are kept out for the last look.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from securecfg.crypto import KeyBytes
from securecfg.errors import IntegrityError, NotAVault, RollbackSuspected, StoreBusy, Tampered
from securecfg.vault.backups.format import partition_to_bytes
from securecfg.vault.backups.inventory import digest_of_grants
from securecfg.vault.backups.rows import RowsCopy, read_grants
from securecfg.vault.opened import Options
from securecfg.vault.state.head import CLOCK_TOLERANCE_NS
from securecfg.vault.state.replica import read_header

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securecfg.store import Store
    from securecfg.vault.backups.inventory import Holding, Inventory
    from securecfg.vault.backups.rows import Progress
    from securecfg.vault.opened import OpenVault
    from securecfg.vault.scopes.opening import Doorway
    from securecfg.vault.scopes.registry import ScopePlace

_VAULT = 0
_ROUNDS_WITH_OTHERS = 4
_HINT = "restore the file from a backup made before; `securecfg scope verify` says more of one scope"


class VaultCopy:
    """The rows of one moment. Iterate over `items` first; then it knows the rest.

    Args:
        opened: The vault.
        known: What the chain has; nothing for a first part.
        doorway: Opens scopes, so that their charters and anchors are checked; None where no administrator is known.
        names_scopes: Whether errors may say the paths of scopes.

    Attributes:
        vault: The state of the vault itself.
        root: Its root key in that state.
        taken_ns: When the heads were in force.
        paths: The paths of the scopes that are there, by the numbers of their partitions.
    """

    def __init__(
        self, opened: OpenVault, known: Inventory, doorway: Doorway | None, *, names_scopes: bool = True
    ) -> None:
        """Copy nothing yet."""
        self._opened = opened
        self._store = opened.store
        self._known = {held.number: held for held in known}
        self._doorway = doorway
        self._names_scopes = names_scopes
        self._copies: dict[int, RowsCopy] = {}
        self._unchanged: dict[int, bytes] = {}
        self._places: dict[int, tuple[str, ScopePlace]] = {}
        self._current = _VAULT
        self.vault = RowsCopy(
            self._store, opened.replica.vault_id, self._known.get(_VAULT), opened.clock, is_scope=False
        )
        self.root = KeyBytes()
        self.taken_ns = 0
        self.paths: dict[int, str] = {}

    @property
    def count(self) -> int:
        """How many rows were new."""
        return self.vault.count + sum(copy.count for copy in self._copies.values())

    @property
    def scope_count(self) -> int:
        """How many sealed scopes there are."""
        return len(self._copies) + len(self._unchanged)

    @property
    def heads(self) -> tuple[tuple[int, bytes], ...]:
        """The heads of what is new, each with the number of its partition; the vault first."""
        return (_VAULT, self.vault.head), *((number, copy.head) for number, copy in sorted(self._copies.items()))

    def items(self, progress: Progress | None = None) -> Iterator[bytes]:
        """Yield the rows that are new, as a part holds them.

        Raises:
            StoreBusy: Others change the vault faster than it can be copied.
            Tampered: A row that is needed is missing, or a scope is not as it was signed, or is not there.
            RollbackSuspected: A scope is older than what was recorded on this machine.
            StoreFailed: The store cannot be read.
        """
        yield from self._of(_VAULT, self.vault.begin(progress))
        for _ in range(_ROUNDS_WITH_OTHERS):
            yield from self._settle()
            if self._is_one_moment():
                break
        else:
            with self._store.reserve():
                rest = list(self._settle())
                if not self._is_one_moment():
                    message = "the vault changes faster than it can be copied"
                    raise StoreBusy(message, hint="try again when fewer write to it")
            yield from rest
        self._verify_none_is_gone()
        for number, copy in ((_VAULT, self.vault), *sorted(self._copies.items())):
            yield from self._of(number, copy.finish())

    def inventory(self, part: int) -> Inventory:
        """Return what the state consists of, for the part that it was copied into."""
        held = [self._known[number]._replace(path=self.paths.get(number, "")) for number in self._unchanged]
        held += [copy.holding(number, self.paths.get(number, ""), part) for number, copy in self._copies.items()]
        return self.vault.holding(_VAULT, "", part), *sorted(held)

    # --- pieces ------------------------------------------------------------------------------------------------------

    def _of(self, number: int, items: Iterator[bytes]) -> Iterator[bytes]:
        """Yield the items of a partition, and before the first that it is theirs."""
        for item in items:
            if number != self._current:
                self._current = number
                yield partition_to_bytes(number)
            yield item

    def _settle(self) -> Iterator[bytes]:
        """Yield what is new where a head has moved since it was copied, or was never copied."""
        numbers = self._store.partitions()
        self._read_places()
        for gone in self._copies.keys() - set(numbers):
            del self._copies[gone]
        for gone in self._unchanged.keys() - set(numbers):
            del self._unchanged[gone]
        for number in numbers:
            yield from self._of(number, self._settle_partition(number))
        if self.vault.head != self._store.head():
            yield from self._of(_VAULT, self.vault.settle())

    def _settle_partition(self, number: int) -> Iterator[bytes]:
        store = self._store.partition(number)
        head = store.head() or b""
        known, copy = self._known.get(number), self._copies.get(number)
        try:
            if copy is None:
                if known is not None and _is_as_known(known, store, head):
                    self._unchanged[number] = head
                    return
                self._unchanged.pop(number, None)
                scope_id = read_header(store)[0].vault_id
                self._verify_scope(number, scope_id)
                known = known if known is not None and known.vault_id == scope_id else None
                copy = self._copies[number] = RowsCopy(store, scope_id, known, self._opened.clock, is_scope=True)
                yield from copy.begin()
            if copy.head != head:
                yield from copy.settle()
        except RollbackSuspected as error:
            message = f"{self._name(number)}: {error.message}"
            raise RollbackSuspected(message, hint=error.hint) from None
        except (NotAVault, IntegrityError) as error:
            message = f"{self._name(number)}: {error.message}"
            raise Tampered(message, hint=error.hint or _HINT) from None

    def _verify_scope(self, number: int, scope_id: bytes) -> None:
        """Open a scope, where it is known which one it must be and there is a key that opens it.

        Raises:
            Tampered: It is another one, or not what its administrators and writers signed.
            RollbackSuspected: It is older than what was recorded on this machine.
        """
        if number not in self._places:
            return
        path, place = self._places[number]
        if scope_id != place.scope_id:
            message = "another scope lies in its place"
            raise Tampered(message, hint="somebody who may write the file may have exchanged them")
        if self._doorway is not None:
            found = self._doorway._replace(options=Options(read_only=True)).open(number, (path, place.scope_id))
            if found is not None:
                found[0].close()

    def _is_one_moment(self) -> bool:
        """Return whether all that was copied was in force at once, and take up the root and the scopes of then."""
        opened, store, replica = self._opened, self._store, self._opened.replica
        heads = {**self._unchanged, **{number: copy.head for number, copy in self._copies.items()}}
        opened.refresh()
        with replica.lock:
            state, known = self.vault.state, replica.state
            if (known.header_digest, known.keyring_digest) != (state.header_digest, state.keyring_digest):
                return False
            is_newest = replica.head == self.vault.head
            self.root = KeyBytes(replica.root)
        if not heads and not self._places and not store.partitions():
            self.taken_ns = max(self.vault.taken_ns, self.vault.state.published)
            return True
        self._read_places()
        taken_ns = opened.clock.now_ns()
        if not is_newest or store.head() != self.vault.head or store.partitions() != sorted(heads):
            return False
        if any(store.partition(number).head() != head for number, head in heads.items()):
            return False
        # Whatever a state holds was published by then, whoever's clock that was; but who may write in one scope, or
        # only the file, does not date the backup of all.
        latest_ns = max(taken_ns, state.published)
        published = [copy.state.published for copy in self._copies.values()]
        self.taken_ns = max(latest_ns, *(ns for ns in published if ns <= latest_ns + CLOCK_TOLERANCE_NS), 0)
        self.paths = {number: path for number, (path, _) in self._places.items() if number in heads}
        return True

    def _read_places(self) -> None:
        registry = self._opened.scopes()
        scopes = registry.scopes if registry is not None else {}
        self._places = {place.number: (path, place) for path, place in scopes.items()}

    def _verify_none_is_gone(self) -> None:
        """Check that each scope that the vault names is there.

        Raises:
            Tampered: One is not.
        """
        for number in self._places.keys() - self._copies.keys() - self._unchanged.keys():
            message = f"{self._name(number)} is not there"
            raise Tampered(message, hint="restore the file from a backup made before")

    def _name(self, number: int) -> str:
        if number in self._places and self._names_scopes:
            return f"the sealed scope `{self._places[number][0]}`"
        return f"the sealed scope in partition {number}"


def _is_as_known(known: Holding, store: Store, head: bytes) -> bool:
    """Return whether the chain has all of a partition: its head, and what comes and goes without a new one."""
    return sha256(head).digest() == known.head_digest and digest_of_grants(read_grants(store)) == known.grants_digest
