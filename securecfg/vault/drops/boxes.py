"""Drop boxes: the sealed scopes into which an identity may hand values, as far as it comes to know of them.

A drop box opens nothing. It is found by a drop order, and takes a value, for which it gives a receipt.
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import TYPE_CHECKING

from securecfg.errors import (
    CommitUnknown,
    Conflict,
    InvalidKeyUri,
    InvalidMetadata,
    InvalidPath,
    KeyProviderRefused,
    ScopeSealed,
    Tampered,
    Unavailable,
    Unsupported,
    VaultClosed,
    VaultForked,
)
from securecfg.keys.identity import parse_identity_file
from securecfg.keys.role_keys import membership_row_of
from securecfg.store import Put, Space
from securecfg.store.forks import FORKS
from securecfg.tuples import NamedTuple
from securecfg.vault.drafts import METADATA_BYTES_MAX
from securecfg.vault.drops.memory import DropMemory
from securecfg.vault.drops.orders import open_order, order_row_of
from securecfg.vault.drops.rows import (
    VALUE_BYTES_MAX,
    WAITING_MAX,
    Place,
    count_waiting,
    receipt_of,
    row_id_at,
    seal_drop,
    too_large,
    waiting_rows,
)
from securecfg.vault.logger import logger
from securecfg.vault.paths import path_to_bytes, scope_among
from securecfg.vault.scopes.completion import seal_admission
from securecfg.vault.state.replica import read_header

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securecfg.keys import IdentityProvider
    from securecfg.keys.role_keys import RoleKey
    from securecfg.store import Store
    from securecfg.vault.drops.memory import Held
    from securecfg.vault.drops.orders import DropOrder, Found
    from securecfg.vault.drops.rows import Drop
    from securecfg.vault.scopes.opening import Doorway


class Receipt(NamedTuple):
    """What one gets who drops a value.

    Attributes:
        path: Where it is to become a version.
        id: 32 hexadecimal digits, by which it can be asked for.
    """

    path: str
    id: str


class DropBox:
    """A scope that an identity may drop into. May be used by any thread.

    Args:
        store: The partition of the scope.
        door: How scopes are opened: whom to believe, the time, and whether anything may be written.
        key: Of the role that may drop.
        found: The order, as it was found.
        provider: Holds the identity.

    Attributes:
        path: The subtree, ending in `/`.
        trusts: The administrators, from those that were known beforehand to those who signed.
    """

    def __init__(self, store: Store, door: Doorway, key: RoleKey, found: Found, provider: IdentityProvider) -> None:
        """Take up what was found."""
        self.path = found.order.path
        self.trusts = found.trusts
        self._found = found
        self._store = store
        self._door = door
        self._key = key
        self._scope_id = found.order.scope_id
        self._provider = provider
        place, is_required = door.path or "", door.is_anchor_required
        self._memory = DropMemory(place, self._scope_id, is_required=is_required)

    @property
    def role(self) -> str:
        """The role that may drop."""
        return self._key.name

    def take_up(self) -> None:
        """Note the order, and let in whom it asks to, once those who signed it are believed.

        Raises:
            RollbackSuspected: The order is older than one that this machine has seen.
            AnchorMissing: None was seen, and that is required.
        """
        if not self._door.is_adopting:
            with self._memory.held() as held:
                held.note_order(self._found.order.serial)
        _admit(self._door, self._key, self._found)

    def compare(self) -> tuple[int, int | None]:
        """Return the serial of the order, and of the one that this machine has seen, None where it has seen none.

        Raises:
            StoreFailed: What was noted cannot be read.
        """
        known = self._memory.read()
        return self._found.order.serial, known.serial if known is not None else None

    def adopt(self) -> None:
        """Accept the order, also where this machine has seen a newer one.

        Raises:
            StoreFailed: What was noted cannot be read.
        """
        self._memory.replace(self._found.order.serial)

    def drop(self, drop: Drop) -> Receipt:
        """Hand in a value.

        Raises:
            InvalidPath: The path breaks the rules, or lies elsewhere.
            ValueTooLarge: The value has more than 256 KiB.
            ScopeSealed: The role may not drop any more.
            Conflict: As many values wait as may.
            RollbackSuspected: The drop order is older than one that this machine has seen.
            Tampered: The drop order is not what administrators signed.
            CommitUnknown: The store failed while committing; the receipt is its request id.
            StoreBusy, StoreFailed: Nothing was handed in.
            Unsupported: The vault is open for reading only.
        """
        if self._door.options.read_only:
            message = "the vault is open for reading only"
            raise Unsupported(message, hint="open it for writing")
        path_to_bytes(drop.path)
        if len(drop.content) > VALUE_BYTES_MAX:
            raise too_large()
        if len(drop.metadata or b"") > METADATA_BYTES_MAX:
            message = f"metadata has at most {METADATA_BYTES_MAX} bytes"
            raise InvalidMetadata(message)
        # Nobody changes the order, or drops another value, before this one is there.
        with self._memory.held() as held, self._store.reserve():
            return self._commit(drop, held)

    def now_ns(self) -> int:
        """Return the time."""
        return self._door.clock.now_ns()

    def has_head(self) -> bool:
        """Return whether the scope is still there."""
        return self._store.head() is not None

    def leaves_out(self, scope: str) -> bool:
        """Return whether the scope says that another one lies in it; also where its order is gone, and says nothing.

        Raises:
            Conflict, Tampered: As for `drop`.
        """
        try:
            return scope.startswith(self._newest_order().excluded)
        except ScopeSealed:
            return True

    def is_waiting(self, receipt: str) -> bool:
        """Return whether a value waits that a receipt was given for."""
        return is_waiting(self._store, receipt)

    def _commit(self, drop: Drop, held: Held) -> Receipt:
        """Put the row beside the state that it was made for, which stays as it is."""
        store = self._store
        head = store.head()
        if head is None:  # its rows may still be there, and whoever gave it a head would keep them there
            message = f"the scope `{self.path}` is no more"
            raise ScopeSealed(message, hint="it was merged; open the vault again")
        order = self._newest_order()
        held.note_order(order.serial)
        if not order.covers(drop.path):
            if drop.path.startswith(self.path):
                message = f"`{drop.path}` lies in another sealed scope inside `{self.path}`"
                raise ScopeSealed(message, hint="ask an administrator for the right to drop there")
            message = f"`{drop.path}` does not lie in `{self.path}`"
            raise InvalidPath(message)
        if count_waiting(store) >= WAITING_MAX:
            message = f"{WAITING_MAX} dropped values wait in `{self.path}` already"
            hint = f"who reads and writes there takes them in: `securecfg scope collect {self.path}`"
            raise Conflict(message, hint=hint)
        time_ms = held.next_time_ms(self.now_ns() // 1_000_000)
        row_id = row_id_at(time_ms, secrets.randbits(64))
        while store.get(Space.GRANT, row_id) is not None:
            row_id = row_id_at(time_ms, secrets.randbits(64))
        place = Place(self._scope_id, order.epoch, row_id)
        row = seal_drop(drop, place, order.public_key, self._key.signer.sign, self._provider.sign)
        receipt = Receipt(drop.path, receipt_of(row))
        try:
            store.commit([Put(Space.GRANT, row_id, row)], expect=head, head=head)
        except CommitUnknown as error:
            hint = f"`securecfg secret receipt {receipt.id}` tells whether it waits"
            raise CommitUnknown(error.message, request_id=receipt.id, hint=hint) from None
        return receipt

    def _newest_order(self) -> DropOrder:
        row = self._store.get(Space.GRANT, order_row_of(self._key.public_key, self._scope_id))
        if row is None:
            message = f"`role:{self.role}` may not drop into `{self.path}` any more, or not while its keys are changed"
            hint = "try again; an administrator may grant it: `securecfg scope grant PATH --drop ROLE`"
            raise ScopeSealed(message, hint=hint)
        order = open_order(self._key, (self._door.vault_id, self._scope_id), row, self._door.trust).order
        if order.path != self.path:
            message = f"the scope `{self.path}` is at `{order.path}` by now"
            raise Conflict(message, hint="open the vault again")
        return order


class DropBoxes:
    """The drop boxes of one identity, by path.

    Args:
        boxes: What was found.
        principal: Whose identity it is.
    """

    def __init__(self, boxes: dict[str, DropBox], principal: str) -> None:
        """Take them up."""
        self._boxes: dict[str, DropBox] | None = boxes
        self._is_inherited = False
        self.principal = principal
        FORKS.watch(self)

    def __iter__(self) -> Iterator[DropBox]:
        """Yield them."""
        return iter(self._held().values())

    def of(self, path: str) -> DropBox | None:
        """Return the one that a path lies in, None where it lies in none.

        Raises:
            VaultClosed, VaultForked: They are used no more, or were a parent's.
        """
        boxes = self._held()
        scope = scope_among(boxes, path)
        return boxes[scope] if scope is not None else None

    def get(self, path: str) -> DropBox:
        """Return the one that a path lies in.

        Raises:
            InvalidPath: The path breaks the rules.
            ScopeSealed: It lies in none.
            Tampered: It lies in a scope that the one around it does not leave out.
            VaultClosed, VaultForked: They are used no more, or were a parent's.
        """
        path_to_bytes(path)
        box = self.of(path)
        if box is None:
            raise no_box(path)
        boxes = self._held()
        outer = scope_among(boxes, box.path.removesuffix("/"))
        if outer is not None and not boxes[outer].leaves_out(box.path) and box.has_head():
            raise put_back(box.path, outer)
        return box

    def close(self) -> None:
        """Forget the keys. May be called again."""
        FORKS.discard(self)
        self._boxes = None

    def before_fork(self) -> None:
        """Do nothing: the store comes to rest."""

    def after_fork_in_parent(self) -> None:
        """Do nothing."""

    def after_fork_in_child(self) -> None:
        """Forget the keys, which are the parent's."""
        self._is_inherited = True
        self._boxes = None

    def _held(self) -> dict[str, DropBox]:
        if self._boxes is not None:
            return self._boxes
        if self._is_inherited:
            message = "the vault was opened before this process was forked"
            raise VaultForked(message, hint="open it again in the child")
        message = "the vault is closed"
        raise VaultClosed(message, hint="open it again")


def find_box(number: int, door: Doorway, provider: IdentityProvider) -> DropBox | None:
    """Return the drop box of a partition, None where there is none for an identity.

    An order that does not open, or that its administrators have not signed, is passed over as if it were not there.

    Args:
        number: The partition.
        door: How scopes are opened.
        provider: Holds the identity.

    Raises:
        RollbackSuspected: The order is as former administrators left it.
    """
    store = door.store.partition(number)
    if door.path is None or store.head() is None:
        return None
    scope_id = read_header(store)[0].vault_id
    for key in door.keys:
        row = store.get(Space.GRANT, order_row_of(key.public_key, scope_id))
        if row is None:
            continue
        with suppress(Tampered):
            return DropBox(store, door, key, open_order(key, (door.vault_id, scope_id), row, door.trust), provider)
    return None


def _admit(door: Doorway, key: RoleKey, found: Found) -> None:
    """Give the key of a role to those whom administrators certified as its members. What fails is left to the next.

    Who only drops cannot record that; the log of the vault says who was made a member.
    """
    if door.options.read_only:
        return
    for admission in found.admissions:
        try:
            member = parse_identity_file(f"{admission.identity}\n".encode()).identity
            row_id = membership_row_of(member, key.public_key)
            row = seal_admission(key, member, door.vault_id, found.trusts[-1], admission.signatures)
            if row is not None and door.store.get(Space.GRANT, row_id) is None:
                door.store.stage([Put(Space.GRANT, row_id, row)])
        except (KeyProviderRefused, InvalidKeyUri, Tampered, Unavailable) as error:
            logger().info("a member is let in later: %s", error.message, extra={"event": "admission.postponed"})


def is_waiting(store: Store, receipt: str) -> bool:
    """Return whether a value waits in a scope that a receipt was given for."""
    return any(receipt_of(row) == receipt for _, row in waiting_rows(store))


def no_box(path: str) -> ScopeSealed:
    """Return the error for a path at which nothing can be dropped with the key at hand."""
    message = f"`{path}` lies in no scope that this key may drop into"
    return ScopeSealed(message, hint="an administrator may grant it: `securecfg scope grant PATH --drop ROLE`")


def put_back(scope: str, outer: str) -> Tampered:
    """Return the error for a scope in another one that does not leave it out."""
    message = f"`{scope}` says that it is a scope, and `{outer}` around it does not"
    return Tampered(message, hint="somebody who may write the file may have put back a scope that was merged")


def only_drops(path: str) -> ScopeSealed:
    """Return the error for whoever would do more in a scope than drop values into it."""
    message = f"values can be dropped at `{path}` with this key, and no more"
    return ScopeSealed(message, hint="`vault.drop` hands one in; `securecfg secret put` does so by itself")
