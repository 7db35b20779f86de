"""Unlock slots of an open vault: who else can open it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from securecfg.audit import Event
from securecfg.clock import to_datetime
from securecfg.crypto import generate_key
from securecfg.errors import Conflict, InvalidMetadata, LastSlot, SecretNotFound
from securecfg.keys import (
    FIRST_ROOT_ROW,
    MOST_SLOTS,
    Purpose,
    Slot,
    SlotInfo,
    WrapContext,
    rewrap_slot,
    root_row_of,
    seal_slot,
    unlock,
)
from securecfg.keys.parts import parts_of
from securecfg.keys.slots import name_of_kind
from securecfg.policy import Decision
from securecfg.store import Delete, Space, open_sqlite
from securecfg.vault.commits.epochs import plan_key_change, plan_new_epoch, seal_root_to_all
from securecfg.vault.commits.maintenance import finish_destruction
from securecfg.vault.creation import proved_principals
from securecfg.vault.keys.changes import KeyChanges
from securecfg.vault.keys.departures import note_departure
from securecfg.vault.paths import check_principal
from securecfg.vault.state.head import FLAG_DESTRUCTION_PENDING
from securecfg.vault.state.replica import SLOT_IDS, read_header

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from securecfg.keys import KeyProvider
    from securecfg.keys.provider import PartedProvider, PartState
    from securecfg.vault.authority import Authority
    from securecfg.vault.commits.publishing import Plan, Publication
    from securecfg.vault.keys.changes import Progress
    from securecfg.vault.session import Session
    from securecfg.vault.state.replica import Replica
    from securecfg.vault.trust.signatories import Signing

_LABEL_MAX = 255


@dataclass(frozen=True, slots=True)
class UnlockSlot:
    """One way to open the vault.

    Attributes:
        number: Its number for people, from 1.
        slot_id: 16 bytes, in hexadecimal digits.
        kind: The scheme of its key URIs.
        label: What people call it.
        principals: Whom its key may speak for; empty means anyone.
        added: When it was added.
        parts: The kinds of its keys, where it takes several together.
        needed: How many of its keys open it.
    """

    number: int
    slot_id: str
    kind: str
    label: str
    principals: tuple[str, ...]
    added: datetime
    parts: tuple[str, ...] = ()
    needed: int = 1

    @property
    def shown_kind(self) -> str:
        """The kind, and of what it is made."""
        return f"{self.needed} of {' '.join(self.parts)}" if self.parts else self.kind


def find_slot(path: Path, provider: KeyProvider) -> int:
    """Return the number of the slot of a vault that a key opens. The key is all that is needed; nothing is revealed.

    Raises:
        VaultNotFound: There is no such file.
        NotAVault: It is not a vault.
        UnsupportedFormat: It needs a newer version of this library.
        WrongKey: No slot opens.
        Tampered: A slot opens, and header and slots are not as a holder of the root key left them.
        KeyProviderUnavailable, KeyProviderRefused: The key cannot be used.
    """
    store = open_sqlite(path, read_only=True)
    try:
        header, rows = read_header(store)
    finally:
        store.close()
    return _number_of(rows, unlock(header, rows, provider).slot_id)


def described_slots(replica: Replica) -> list[tuple[int, Slot, SlotInfo]]:
    """Return the numbers of the unlock slots, the slots, and what the keyring says of them, all of one state."""
    with replica.lock:
        rows, keyring = replica.slots, replica.keyring
    slots = [(_number(row_id), Slot.parse(row)) for row_id, row in sorted(rows.items()) if row_id < FIRST_ROOT_ROW]
    return [(number, slot, keyring.slot(slot.slot_id)) for number, slot in slots]


class Slots:
    """The unlock slots, as one identity may change them.

    Args:
        authority: Decides and records for it.
    """

    def __init__(self, authority: Authority) -> None:
        """Change nothing yet."""
        self._authority = authority
        self._opened = authority.opened

    def list(self) -> Sequence[UnlockSlot]:
        """Return the slots in the order of their numbers.

        Raises:
            AccessDenied: The caller may not `key.manage`.
        """
        self._authority.require("key.manage", "")
        slots = []
        for number, slot, info in described_slots(self._opened.replica):
            parts = parts_of(slot)
            slots.append(
                UnlockSlot(
                    number,
                    info.slot_id.hex(),
                    info.kind,
                    info.label,
                    info.principals,
                    to_datetime(info.added_ns),
                    () if parts is None else tuple(map(name_of_kind, parts.kinds)),
                    1 if parts is None else parts.needed,
                ),
            )
        return slots

    def test(self, provider: KeyProvider) -> int:
        """Return the number of the slot that a key opens.

        Raises:
            AccessDenied: The caller may not `key.manage`.
            WrongKey: It opens none.
            KeyProviderUnavailable, KeyProviderRefused: The key cannot be used.
        """
        self._authority.require("key.manage", "")
        replica = self._opened.replica
        with replica.lock:
            header, rows = replica.header, replica.slots
        return _number_of(rows, unlock(header, rows, provider).slot_id)

    def try_parts(self, number: int, provider: PartedProvider) -> Sequence[PartState]:
        """Return what becomes of each of the keys that open a slot together, where all are tried.

        Raises:
            AccessDenied: The caller may not `key.manage`.
            SecretNotFound: There is no such slot.
            WrongKey: The slot is of another kind, or has other numbers of keys.
        """
        self._authority.require("key.manage", "")
        slot = Slot.parse(self._row(number)[1])
        return provider.try_parts(slot.wrapped, WrapContext(self._opened.replica.vault_id, slot.slot_id))

    def add(self, provider: KeyProvider, *, label: str = "", principals: Sequence[str] = ()) -> int:
        """Add a slot that a key opens, and return its number.

        Args:
            provider: Holds the key.
            label: What to call it.
            principals: Whom the key may speak for; empty means anyone, but where the key proves whose it is, that one.

        Raises:
            AccessDenied: The caller may not `key.manage`, or is no administrator and the key could speak for one.
            InvalidMetadata: The label is too long, or a principal is not one, or another than the key proves.
            Conflict: The vault has as many slots as the format allows, or somebody else changed who is an
                administrator.
            KeyProviderUnavailable, KeyProviderRefused: The key cannot be used.
        """
        if len(label.encode()) > _LABEL_MAX or not label.isprintable():
            message = f"a label has at most {_LABEL_MAX} printable bytes"
            raise InvalidMetadata(message)
        session, _ = self._authority.require("key.manage", "")
        names = _names(provider, principals)
        administrators = session.policy.administrators()
        if session.identity.principal not in administrators and (not names or administrators.intersection(names)):
            error = self._authority.deny(session, "key.manage", "", Decision(allowed=False, rules=("admin",)))
            error.hint = "name principals of the new key, none of them an administrator"
            raise error
        replica = self._opened.replica
        new = seal_slot(replica.vault_id, provider)
        slot_id = new.slot.slot_id
        info = SlotInfo(slot_id, new.public_key, self._opened.clock.now_ns(), provider.scheme, label, names)

        def plan(publication: Publication, current: Session, decision: Decision) -> Plan:
            taken = replica.slots.keys()
            if current.policy.administrators() != administrators:
                message = "somebody else changed who is an administrator at the same moment"
                raise Conflict(message, hint="try again")
            if len(replica.keyring.slots) >= MOST_SLOTS:
                message = f"a vault has at most {MOST_SLOTS} unlock slots"
                raise Conflict(message, hint="remove one that nobody uses")
            row_id = next(number for number in SLOT_IDS if number not in taken)
            obj = {"slot": slot_id.hex(), "kind": provider.scheme, "principals": list(names)}
            record = current.record(Event.KEY_SLOT_ADDED, obj | ({"label": label} if label else {}), decision=decision)
            slots = replica.slots | new.rows(row_id, replica.vault_id, replica.root)
            plan = plan_key_change(self._opened, publication, slots, replica.keyring.with_slot(info))
            plan.records.append(record)
            plan.result = _number(row_id)
            return plan

        return cast("int", self._authority.publish_allowed("key.manage", plan))

    def rewrap(self, number: int, provider: KeyProvider) -> bool:
        """Wrap a slot anew under the key that opens it, and return whether that made a difference.

        A passphrase is stretched at today's costs, a key service uses its newest version. Number, label and principals
        stay. Whoever has an older copy of the file can try the key there at the old costs.

        Args:
            number: The slot's number.
            provider: Holds its key.

        Raises:
            AccessDenied: The caller may not `key.manage`.
            SecretNotFound: There is no such slot.
            WrongKey: The key is another one.
            KeyProviderUnavailable, KeyProviderRefused: The key cannot be used, or does not open what it wrapped anew.
            Conflict: The slot was changed meanwhile.
            DestroyPending: It is done, but the old bytes may lie in the write-ahead log until another reader lets go;
                the next opener finishes.
        """
        self._authority.require("key.manage", "")
        opened, replica = self._opened, self._opened.replica
        with replica.lock:
            row_id, before = self._row(number)
            slot = Slot.parse(before)
            public_key = replica.keyring.slot(slot.slot_id).public_key
        after = rewrap_slot(replica.vault_id, slot, public_key, provider).to_bytes()
        if after == before:
            return False

        def plan(publication: Publication, session: Session, decision: Decision) -> Plan:
            if replica.slots.get(row_id) != before:
                message = f"slot {number} was changed meanwhile"
                raise Conflict(message, hint="look at `securecfg key list`, and try again")
            plan = plan_key_change(opened, publication, {**replica.slots, row_id: after}, replica.keyring)
            obj = {"kind": "slot", "epoch": replica.header.generation + 1, "slot": slot.slot_id.hex()}
            plan.records.append(session.record(Event.KEY_ROTATED, obj, decision=decision))
            plan.state["flags"] = publication.state.flags | FLAG_DESTRUCTION_PENDING
            return plan

        self._authority.publish_allowed("key.manage", plan)
        finish_destruction(opened)
        return True

    def _row(self, number: int) -> tuple[int, bytes]:
        row_id = SLOT_IDS.start + number - 1
        row = self._opened.replica.slots.get(row_id) if row_id in SLOT_IDS else None
        if row is None:
            message = f"there is no slot {number}"
            raise SecretNotFound(message, hint="`securecfg key list` shows the slots")
        return row_id, row

    def remove(self, number: int, progress: Progress | None = None, *, signing: Signing | None = None) -> None:
        """Remove a slot, and change every key that its holder knew: root, scope, audit, log, and that of sealed scopes.

        Whoever held the slot's key and a copy of the file can still open that copy, and knows the data keys in it: what
        it could read stays exposed until each secret has another value.

        Args:
            number: The slot's number.
            progress: Called with how much of what is there has been brought to the new keys, and of how much.
            signing: Returns who signs for the administrators of sealed scopes, where these are people.

        Raises:
            AccessDenied: The caller may not `key.manage`.
            SignaturesMissing: The slot is removed, but too few administrators signed that the key of the sealed scopes
                is another one.
            DestroyPending: The slot is removed, but its bytes may lie in the write-ahead log until another reader lets
                go; the next opener finishes.
            SecretNotFound: There is no such slot.
            LastSlot: It is the last one whose key may speak for an administrator.
        """
        replica = self._opened.replica

        def plan(publication: Publication, session: Session, decision: Decision) -> Plan:
            row_id, row = self._row(number)
            slot_id = Slot.parse(row).slot_id
            info = replica.keyring.slot(slot_id)
            left = [other for other in replica.keyring.slots if other.slot_id != slot_id]
            administrators = self._authority.session().policy.administrators()
            if not any(other.may_speak_for_any(administrators) for other in left):
                message = f"slot {number} is the last one with which an administrator can open the vault"
                raise LastSlot(message, hint="add another key first: `securecfg key add URI`")
            obj = {"slot": slot_id.hex(), "kind": info.kind} | ({"label": info.label} if info.label else {})
            record = session.record(Event.KEY_SLOT_REMOVED, obj, decision=decision)
            left_rows = {
                other: content for other, content in replica.slots.items() if other not in (row_id, root_row_of(row_id))
            }
            keyring = replica.keyring.without_slot(slot_id)
            for purpose in (Purpose.SCOPE, Purpose.AUDIT):
                keyring = keyring.with_new_epoch(purpose, self._opened.clock.now_ns())
            root = generate_key()
            rest = seal_root_to_all(replica.vault_id, root, left_rows, keyring)
            plan = plan_new_epoch(self._authority, publication, rest, keyring, root)
            # Of the records the first carries the changes of the index.
            plan.records.insert(0, record)
            author = self._authority.identity.principal
            plan.join(note_departure(self._opened, publication, number, info, author))
            plan.deletes.append(Delete(Space.META, row_id))
            plan.result = number
            return plan

        self._authority.publish_allowed("key.manage", plan)
        KeyChanges(self._authority).carry_over(progress)
        finish_destruction(self._opened)
        from securecfg.vault.administrators.replacing import replace_exposed_key  # few vaults have scopes

        replace_exposed_key(self._authority, signing, progress)


def _number(row_id: int) -> int:
    return row_id - SLOT_IDS.start + 1


def _number_of(rows: Mapping[int, bytes], slot_id: bytes) -> int:
    slots = ((row_id, Slot.parse(row)) for row_id, row in rows.items() if row_id in SLOT_IDS)
    return next(_number(row_id) for row_id, slot in slots if slot.slot_id == slot_id)


def _names(provider: KeyProvider, principals: Sequence[str]) -> tuple[str, ...]:
    """Return whom a new key may speak for."""
    names = tuple(check_principal(principal) for principal in principals)
    proved = proved_principals(provider)
    if proved and names not in {(), proved}:
        message = f"the key is the identity of `{proved[0]}`, and speaks for nobody else"
        raise InvalidMetadata(message, hint="leave out the principal, or add a key of another kind")
    return proved or names
