"""Replacing the keys of one sealed scope, as an administrator may: he signs for the value keys, and reads none."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from securecfg.audit import Event
from securecfg.crypto import KeyBytes, generate_key
from securecfg.errors import EpochInUse, VersionNotFound
from securecfg.keys import Purpose, SlotInfo, root_row_of, seal_slot
from securecfg.vault.commits.epochs import plan_key_change, plan_new_epoch, seal_root_to_all
from securecfg.vault.commits.maintenance import finish_destruction
from securecfg.vault.drops.orders import remove_orders
from securecfg.vault.keys.changes import KeyChanges
from securecfg.vault.keys.departures import note_compromise
from securecfg.vault.keys.sealed_rows import SealedRows
from securecfg.vault.scopes.changes import ScopeChanges
from securecfg.vault.scopes.chartering import CharterDraft, draft_unchanged, settled
from securecfg.vault.scopes.charters import DROP, NO_SLOT, READ
from securecfg.vault.scopes.formers import put_former
from securecfg.vault.scopes.grants import new_value_key, withdrawn_grants
from securecfg.vault.scopes.opening import charter_of
from securecfg.vault.scopes.rights import rights_to_words
from securecfg.vault.scopes.slots import plan_departure, row_of, without_strays
from securecfg.vault.scopes.value_keys import epochs_of_drops, rewrap_values
from securecfg.vault.state.head import FLAG_DESTRUCTION_PENDING
from securecfg.vault.state.replica import SLOT_IDS
from securecfg.words import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from securecfg.keys.role_keys import RolePublic
    from securecfg.policy import Decision
    from securecfg.vault.commits.joint import PartChange
    from securecfg.vault.commits.publishing import Plan, Publication
    from securecfg.vault.drafts import Content
    from securecfg.vault.scopes.charters import Charter, Party
    from securecfg.vault.session import Session

    Progress = Callable[[int, int], None]


class ScopeRotation(ScopeChanges):
    """An open scope, and the administrator who replaces its keys."""

    @property
    def keys(self) -> KeyChanges:
        """The changes of keys that a scope has in common with any vault."""
        return KeyChanges(self._authority)

    @property
    def epochs(self) -> tuple[int, int]:
        """Which scope key and which value key are in use."""
        keyring = self.opened.replica.keyring
        return keyring.active(Purpose.SCOPE).epoch, keyring.active(Purpose.VALUE).epoch

    def begin_epochs(self) -> None:
        """Put a new scope key and a new value key in use, the latter granted to all readers, in one publication.

        Raises:
            AccessDenied: The policy of the scope does not let the administrator.
            SignaturesMissing: Too few administrators signed.
            Tampered: A role takes part with a key that the vault does not know.
            Conflict: Somebody else changed the charter meanwhile.
            CommitUnknown, StoreBusy, StoreFailed: As for a write.
        """
        self._authority.require("key.manage", "")
        opened = self.opened
        draft = partial(self._draft_new_values, KeyBytes(generate_key()))

        def plan(publication: Publication, draft: CharterDraft, session: Session, decision: Decision) -> Plan:
            keyring = draft.keyring.with_new_epoch(Purpose.SCOPE, opened.clock.now_ns())
            plan = plan_key_change(opened, publication, draft.slots, keyring)
            for kind, purpose in (("scope", Purpose.SCOPE), ("value", Purpose.VALUE)):
                obj = {"kind": kind, "epoch": keyring.active(purpose).epoch}
                plan.records.append(session.record(Event.KEY_ROTATED, obj, decision=decision))
            return plan

        self._chartering.publish_allowed(draft, plan, settled)

    @property
    def has_one_scope_key(self) -> bool:
        """Whether older scope keys are forgotten."""
        return sum(entry.purpose == Purpose.SCOPE for entry in self.opened.replica.keyring.keys) == 1

    def replace_role(
        self,
        role: str,
        public: RolePublic,
        settle: Callable[[], Mapping[bytes, Content]],
        around: PartChange,
        progress: Progress | None = None,
    ) -> None:
        """Give a role a slot for another key in the place of the one it has, and change all that the old key opened.

        It is the departure of the one and the arrival of the other in one publication. What the old slot was granted of
        value keys is kept for members who have both keys; the new slot is granted the next one, which is in use from
        then on. A role that only drops has no slot: it gets an order for the other key, and the one before is deleted.

        Args:
            role: Its name.
            public: Its key from then on.
            settle: As for `grant`.
            around: As for `grant`.
            progress: As for `revoke`.

        Raises:
            AccessDenied: The policy of the scope does not let the administrator.
            SignaturesMissing: Too few administrators signed.
            Conflict: Somebody else changed the charter meanwhile, or gave the role yet another key.
            DestroyPending, CommitUnknown, StoreBusy, StoreFailed: As for the removal of a slot.
        """
        self._authority.require("key.manage", "")
        self.finish(None, progress)
        opened, replica = self.opened, self.opened.replica
        before, admissions = self._roles[role]
        new_slot, seed = seal_slot(replica.vault_id, public), KeyBytes(generate_key())

        def draft() -> CharterDraft | None:
            charter = charter_of(opened)
            party = charter.party(role)
            if party is None or party.signing_key == public.signing_key:
                return draft_unchanged(opened) if self.is_behind else None
            rights = list(rights_to_words(party.rights))
            change = {"role": role, "added": rights, "removed": rights}
            orders = remove_orders(charter.scope_id, [before] if party.rights & DROP else [])
            if party.slot_id == NO_SLOT:
                parties = _with_party(charter, party, party._replace(signing_key=public.signing_key))
                return CharterDraft(parties, replica.keyring, replica.slots, change, [], orders)
            row, gone = row_of(replica.slots, party.slot_id), party.slot_id
            free = next(number for number in SLOT_IDS if number not in replica.slots)
            rows = (row, root_row_of(row)) if row else ()
            slots = {number: raw for number, raw in replica.slots.items() if number not in rows}
            slots |= new_slot.rows(free, replica.vault_id, replica.root)
            slot_id = new_slot.slot.slot_id
            info = SlotInfo(slot_id, new_slot.public_key, opened.clock.now_ns(), public.scheme, role)
            keyring = replica.keyring.without_slot(party.slot_id).with_slot(info)
            after = party._replace(slot_id=slot_id, signing_key=public.signing_key)
            parties = _with_party(charter, party, after)
            if not party.rights & READ:
                return CharterDraft(parties, keyring, slots, change, [], orders, gone)
            deletes = withdrawn_grants(keyring, row)  # the former row has them all
            keyring, puts = new_value_key(opened, keyring, slots, parties, seed)
            # It is among the first, which go with the change: nobody could give it later.
            puts = [*(put_former(opened, row) if row else ()), *puts]
            return CharterDraft(parties, keyring, slots, change, puts, [*orders, *deletes], gone, gone)

        documents: dict[bytes, Content] = {}

        def plan(publication: Publication, draft: CharterDraft, *_decided: object) -> Plan:
            self._roles[role] = public.public_key, () if before != public.public_key else admissions
            if draft.departing:
                plan = plan_departure(self._authority, publication, draft)
            else:
                plan = plan_key_change(opened, publication, draft.slots, draft.keyring)
            plan.join(self._documents_plan(publication, documents))
            return plan

        self._chartering.publish_allowed(draft, plan, lambda: documents.update(settle()), around)
        self.finish(None, progress)

    def replace_everything(self, name: str, reason: str) -> None:
        """Put new keys of every kind in use, since all that is in the scope may be known (format 4.6).

        Args:
            name: What the compromise is called in the vault.
            reason: Why it was declared.

        Raises:
            AccessDenied: The policy of the scope does not let the administrator.
            SignaturesMissing: Too few administrators signed.
            Tampered: A role takes part with a key that the vault does not know.
            Conflict: Somebody else changed the charter meanwhile.
            CommitUnknown, StoreBusy, StoreFailed: As for a write.
        """
        self._authority.require("key.manage", "")
        opened = self.opened
        draft = partial(self._draft_new_values, KeyBytes(generate_key()))

        def plan(publication: Publication, draft: CharterDraft, session: Session, decision: Decision) -> Plan:
            keyring = draft.keyring
            for purpose in (Purpose.SCOPE, Purpose.AUDIT, Purpose.MASKING):
                keyring = keyring.with_new_epoch(purpose, opened.clock.now_ns())
            root = generate_key()
            slots = seal_root_to_all(opened.replica.vault_id, root, draft.slots, keyring)
            plan = plan_new_epoch(self._authority, publication, slots, keyring, root)
            obj: dict[str, object] = {"epoch": keyring.active(Purpose.SCOPE).epoch}
            obj |= {"reason": reason} if reason else {}
            plan.records.append(session.record(Event.KEY_COMPROMISED, obj, decision=decision))
            plan.join(note_compromise(opened, publication, name, reason, session.identity.principal))
            return plan

        self._chartering.publish_allowed(draft, plan, settled)

    def rewrap_values(self) -> int:
        """Bring the data keys that the administrator reads, in a shared scope, to the value key in use."""
        return rewrap_values(self.opened)

    def retire_values(self, epoch: int) -> None:
        """Forget an old value key, and all older ones, once no data key is under them; shred what was granted of them.

        Raises:
            AccessDenied: The policy of the scope does not let the administrator.
            SignaturesMissing: Too few administrators signed.
            Conflict: Somebody else changed the charter meanwhile.
            VersionNotFound: There is no such key.
            EpochInUse: A data key is under one of them, or it is the key in use.
            DestroyPending, CommitUnknown, StoreBusy, StoreFailed: As for `KeyChanges.retire`.
        """
        self._authority.require("key.manage", "")
        opened = self.opened
        opened.refresh()
        self._leaving(epoch)
        # What is not under one of them by now never will be: no publication adds a row under a key not in use.
        counts = SealedRows(opened).count_sealed_values()
        used = sum(count for older, count in counts.items() if older <= epoch)
        if used:
            message = f"the value key of epoch {epoch} or an older one still opens {counted(used, 'data key')}"
            hint = "the next reader to open the scope brings them to the key in use: `--key identity:FILE`"
            raise EpochInUse(message, hint=hint)
        waiting = sum(older <= epoch for older in epochs_of_drops(opened))
        if waiting:
            message = f"the value key of epoch {epoch} or an older one still opens {counted(waiting, 'dropped value')}"
            hint = f"who reads and writes takes them in: `securecfg scope collect {charter_of(opened).path}`"
            raise EpochInUse(message, hint=hint)

        def draft() -> CharterDraft:
            keyring = opened.replica.keyring
            for old in self._leaving(epoch):
                keyring = keyring.without_epoch(Purpose.VALUE, old)
            return CharterDraft(charter_of(opened).parties, keyring, opened.replica.slots, {}, [])

        def plan(publication: Publication, draft: CharterDraft, session: Session, decision: Decision) -> Plan:
            plan = plan_key_change(opened, publication, draft.slots, draft.keyring)
            obj = {"kind": "value", "epoch": epoch}
            plan.records.append(session.record(Event.KEY_RETIRED, obj, decision=decision))
            plan.state["flags"] = publication.state.flags | FLAG_DESTRUCTION_PENDING
            return plan

        self._chartering.publish_allowed(draft, plan, settled)
        finish_destruction(opened)

    def used_values(self) -> set[int]:
        """Return the epochs of value keys that a data key, or a dropped value, is under, and of the one in use."""
        used = [epoch for epoch, count in SealedRows(self.opened).count_sealed_values().items() if count]
        return {*used, *epochs_of_drops(self.opened), self.epochs[1]}

    def retire_unused_values(self) -> list[int]:
        """Forget those value keys that are older than every one that a data key, or a dropped value, is under.

        Returns:
            Their epochs.

        Raises:
            As for `retire_values`.
        """
        self.opened.refresh()
        first = min(self.used_values())
        unused = [epoch for epoch in self._value_epochs() if epoch < first]
        if unused:
            self.retire_values(max(unused))
        return unused

    # --- pieces ------------------------------------------------------------------------------------------------------

    def _draft_new_values(self, seed: KeyBytes) -> CharterDraft:
        """Draft a charter under which values are sealed under a new key, granted to all readers.

        Raises:
            Tampered: The vault does not know one of them.
        """
        self.verify_parties()
        parties, (slots, keyring) = charter_of(self.opened).parties, without_strays(self.opened)
        keyring, puts = new_value_key(self.opened, keyring, slots, parties, seed)
        return CharterDraft(parties, keyring, slots, {}, puts)

    def _value_epochs(self) -> list[int]:
        return [entry.epoch for entry in self.opened.replica.keyring.keys if entry.purpose == Purpose.VALUE]

    def _leaving(self, epoch: int) -> list[int]:
        """Return the epochs up to one, which must not be in use."""
        known, active = self._value_epochs(), self.epochs[1]
        if epoch not in known:
            message = f"there is no value key of epoch {epoch}"
            raise VersionNotFound(message, hint="`securecfg key usage PATH` lists the keys of a scope")
        if epoch == active:
            message = f"the value key of epoch {epoch} is in use"
            raise EpochInUse(message, hint="put a new one in use first: `securecfg key rotate scope PATH`")
        return [old for old in known if old <= epoch]


def _with_party(charter: Charter, before: Party, after: Party) -> tuple[Party, ...]:
    return tuple(after if party == before else party for party in charter.parties)
