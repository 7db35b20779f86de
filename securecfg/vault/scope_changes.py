"""Changing who may do what in one sealed scope: each change is one publication with a new charter."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from securecfg.audit import Event
from securecfg.crypto import KeyBytes, generate_key
from securecfg.errors import Conflict, SecretNotFound
from securecfg.keys import MOST_SLOTS, Purpose, SlotInfo, root_row_of, seal_slot
from securecfg.keys.value_grants import grant_row_of, seal_grant, value_public_key
from securecfg.store import Delete, Put, Space
from securecfg.vault.authority import Authority
from securecfg.vault.charters import LIST, READ, WRITE, Party, SignedCharter, keys_digest
from securecfg.vault.departures import note_departure
from securecfg.vault.drafts import Drafts, NewVersion
from securecfg.vault.epochs import plan_key_change, plan_new_epoch, seal_root_to_all
from securecfg.vault.key_changes import KeyChanges
from securecfg.vault.maintenance import finish_destruction
from securecfg.vault.paths import CHARTER_PATH
from securecfg.vault.publishing import Plan
from securecfg.vault.replica import SLOT_IDS
from securecfg.vault.scope_founding import charter_content
from securecfg.vault.scope_opening import charter_of, grants_of, slot_ids
from securecfg.vault.sealed_rows import SealedRows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from securecfg.keys import Keyring
    from securecfg.keys.role_keys import RoleKey, RolePublic
    from securecfg.vault.drafts import Content
    from securecfg.vault.opened import OpenVault
    from securecfg.vault.publishing import Publication
    from securecfg.vault.session import Identity

    Progress = Callable[[int, int], None]

RIGHTS = {"list": LIST, "read": LIST | READ, "write": LIST | WRITE}
_WORDS = {"list": LIST, "read": READ, "write": WRITE}


def rights_to_words(rights: int) -> tuple[str, ...]:
    """Return the names of rights."""
    return tuple(word for word, bit in _WORDS.items() if rights & bit)


class ScopeChanges:
    """An open scope, and the administrator who changes it.

    Args:
        opened: The scope.
        identity: On whose behalf.
        administrator: Signs charters.
    """

    def __init__(self, opened: OpenVault, identity: Identity, administrator: RoleKey) -> None:
        """Change nothing yet."""
        self.opened = opened
        self._authority = Authority(opened, identity)
        self._administrator = administrator

    def write_documents(self, documents: Mapping[bytes, Content]) -> None:
        """Replace those of the scope's documents that differ.

        Raises:
            CommitUnknown, StoreBusy, StoreFailed: As for a write.
        """

        def plan(publication: Publication) -> Plan:
            plan = Plan()
            changed = [path for path, content in documents.items() if self._differs(path, content)]
            if changed:
                drafts, new = Drafts(self.opened, publication), self._new_version()
                for path in changed:
                    plan.join(drafts.write(path, documents[path], new))
                charter = charter_of(self.opened)
                obj = {"path": charter.path, "rev": charter.serial, "digest": charter.digest.hex()}
                plan.records = [self._authority.session().record(Event.SCOPE_CHANGED, obj)]
            return plan

        self.opened.publisher.publish(plan)

    def grant(self, role: str, public: RolePublic, rights: int) -> None:
        """Give a role rights, and a slot where it has none yet.

        Raises:
            AccessDenied: The policy of the scope does not let the administrator.
            Conflict: There are too many roles.
            CommitUnknown, StoreBusy, StoreFailed: As for a write.
        """
        self._authority.require("key.manage", "")
        opened, replica = self.opened, self.opened.replica
        new_slot = seal_slot(replica.vault_id, public)

        def plan(publication: Publication) -> Plan:
            charter = charter_of(opened)
            party = charter.party(role)
            if party is not None and party.rights | rights == party.rights:
                return Plan()
            slots, keyring = dict(replica.slots), replica.keyring
            if party is None:
                row = next((number for number in SLOT_IDS if number not in slots), None)
                if row is None or len(keyring.slots) >= MOST_SLOTS:
                    message = f"a scope has at most {MOST_SLOTS} roles"
                    raise Conflict(message, hint="revoke one that nobody needs")
                slots |= new_slot.rows(row, replica.vault_id, replica.root)
                slot_id = new_slot.slot.slot_id
                added = opened.clock.now_ns()
                keyring = keyring.with_slot(SlotInfo(slot_id, new_slot.public_key, added, public.scheme, role))
                party = Party(role, 0, slot_id, public.signing_key)
            after = party._replace(rights=party.rights | rights)
            parties = (*(other for other in charter.parties if other.role != role), after)
            puts: list[Put] = []
            if rights & READ and not party.rights & READ:
                keyring, puts = self._grants_for(keyring, slots, parties, after)
            plan = plan_key_change(opened, publication, slots, keyring)
            plan.puts += puts
            change = {"role": role, "added": list(rights_to_words(after.rights & ~party.rights))}
            return self._with_charter(publication, plan, parties, keyring, change)

        opened.publisher.publish(plan)

    def revoke(self, role: str, right: str, progress: Progress | None = None) -> None:
        """Take a right from a role; with `list` go the others, and its slot.

        Raises:
            AccessDenied: The policy of the scope does not let the administrator.
            SecretNotFound: The role has no such right.
            DestroyPending, CommitUnknown, StoreBusy, StoreFailed: As for the removal of a slot.
        """
        self._authority.require("key.manage", "")
        has_finished = self._finish(progress)
        opened, replica = self.opened, self.opened.replica
        gone = LIST | READ | WRITE if right == "list" else _WORDS[right]

        def plan(publication: Publication) -> Plan:
            charter = charter_of(opened)
            party = charter.party(role)
            if party is None or not party.rights & _WORDS[right] or party.signing_key == self._own_key:
                message = f"`role:{role}` has no right to {right} here that could be taken away"
                raise SecretNotFound(message, hint=f"`securecfg scope show {charter.path}` shows who has which")
            after = party._replace(rights=party.rights & ~gone)
            others = tuple(other for other in charter.parties if other.role != role)
            parties = (*others, after) if after.rights else others
            if not any(other.rights & WRITE for other in parties):
                # Somebody has to be able to write.
                parties = tuple(
                    other._replace(rights=other.rights | WRITE) if other.signing_key == self._own_key else other
                    for other in parties
                )
            change = {"role": role, "removed": list(rights_to_words(party.rights & gone))}
            row = next(number for number, slot_id in slot_ids(replica.slots).items() if slot_id == party.slot_id)
            deletes = []
            if party.rights & gone & READ:
                epochs = [entry.epoch for entry in replica.keyring.keys if entry.purpose == Purpose.VALUE]
                deletes = [Delete(Space.GRANT, grant_row_of(row, epoch)) for epoch in epochs]
            if after.rights:
                keyring = replica.keyring
                puts: list[Put] = []
                if deletes:
                    keyring, puts = self._new_value_key(keyring, replica.slots, parties)
                plan = plan_key_change(opened, publication, replica.slots, keyring)
            else:
                plan, keyring, puts = self._plan_departure(publication, row, party, parties, is_reader=bool(deletes))
            plan.puts += puts
            plan.deletes += deletes
            return self._with_charter(publication, plan, parties, keyring, change)

        try:
            opened.publisher.publish(plan)
        except SecretNotFound:
            # What an earlier call had taken, and died over.
            if not has_finished:
                raise
        self._finish(progress)

    # --- pieces ------------------------------------------------------------------------------------------------------

    def _finish(self, progress: Progress | None) -> bool:
        """Bring everything to the scope key in use and erase old keys; return whether there was anything to do."""
        opened = self.opened
        is_stale = SealedRows(opened).is_used_before(opened.replica.keyring.active(Purpose.SCOPE).epoch)
        is_pending = opened.is_destruction_pending
        if is_stale:
            KeyChanges(self._authority).carry_over(progress)
        if opened.is_destruction_pending:
            finish_destruction(opened)
        return is_stale or is_pending

    @property
    def _own_key(self) -> bytes:
        return self._administrator.signing_key

    def _plan_departure(
        self, publication: Publication, row: int, party: Party, parties: tuple[Party, ...], *, is_reader: bool
    ) -> tuple[Plan, Keyring, list[Put]]:
        """Plan to remove a slot, with new keys of every kind, as for a vault."""
        opened, replica = self.opened, self.opened.replica
        info = replica.keyring.slot(party.slot_id)
        left = {number: raw for number, raw in replica.slots.items() if number not in (row, root_row_of(row))}
        keyring = replica.keyring.without_slot(party.slot_id)
        for purpose in (Purpose.SCOPE, Purpose.AUDIT):
            keyring = keyring.with_new_epoch(purpose, opened.clock.now_ns())
        puts: list[Put] = []
        if is_reader:
            keyring, puts = self._new_value_key(keyring, left, parties)
        root = generate_key()
        slots = seal_root_to_all(replica.vault_id, root, left, keyring)
        plan = plan_new_epoch(self._authority, publication, slots, keyring, root)
        number = row - SLOT_IDS.start + 1
        plan.join(note_departure(opened, publication, number, info, self._authority.identity.principal))
        plan.deletes += [Delete(Space.META, gone) for gone in (row, root_row_of(row))]
        return plan, keyring, puts

    def _grants_for(
        self, keyring: Keyring, slots: Mapping[int, bytes], parties: tuple[Party, ...], reader: Party
    ) -> tuple[Keyring, list[Put]]:
        """Return what a new reader is given: all that this process reads, or else a new key for what comes."""
        grants = grants_of(self.opened)
        if not grants.is_granted(grants.active):
            return self._new_value_key(keyring, slots, parties)
        vault_id = self.opened.replica.vault_id
        public_key = keyring.slot(reader.slot_id).public_key
        row = next(number for number, slot_id in slot_ids(slots).items() if slot_id == reader.slot_id)
        epochs = [entry.epoch for entry in keyring.keys if entry.purpose == Purpose.VALUE]
        return keyring, [
            Put(
                Space.GRANT,
                grant_row_of(row, epoch),
                seal_grant(public_key, vault_id, reader.slot_id, epoch, grants.seed(epoch)),
            )
            for epoch in epochs
            if grants.is_granted(epoch)
        ]

    def _new_value_key(
        self, keyring: Keyring, slots: Mapping[int, bytes], parties: tuple[Party, ...]
    ) -> tuple[Keyring, list[Put]]:
        """Return a keyring in which values are sealed under a new key, and the grants of that to all readers."""
        vault_id = self.opened.replica.vault_id
        epoch = keyring.active(Purpose.VALUE).epoch + 1
        seed = KeyBytes(generate_key())
        keyring = keyring.with_value_key(value_public_key(seed, vault_id, epoch), self.opened.clock.now_ns())
        readers = {party.slot_id for party in parties if party.rights & READ}
        return keyring, [
            Put(
                Space.GRANT,
                grant_row_of(row, epoch),
                seal_grant(keyring.slot(slot_id).public_key, vault_id, slot_id, epoch, seed),
            )
            for row, slot_id in slot_ids(slots).items()
            if slot_id in readers
        ]

    def _with_charter(
        self,
        publication: Publication,
        plan: Plan,
        parties: tuple[Party, ...],
        keyring: Keyring,
        change: Mapping[str, object],
    ) -> Plan:
        """Complete a plan by the charter that goes with it, signed."""
        before = charter_of(self.opened)
        charter = before._replace(
            serial=before.serial + 1, previous=before.digest, keys=keys_digest(keyring), parties=parties
        )
        signed = SignedCharter(charter, ()).signed_by(self._administrator.signer)
        plan.charter = signed
        plan.join(Drafts(self.opened, publication).write(CHARTER_PATH, charter_content(signed), self._new_version()))
        obj = {"path": charter.path, "rev": charter.serial, "digest": charter.digest.hex(), **change}
        # Of the records the first carries the changes of the index.
        plan.records.insert(0, self._authority.session().record(Event.SCOPE_CHANGED, obj))
        return plan

    def _differs(self, path: bytes, content: Content) -> bool:
        known: object = self.opened.system_document(path, None)
        return bool(known != json.loads(b"".join(content.pieces())))

    def _new_version(self) -> NewVersion:
        return NewVersion(self._authority.identity.principal, self.opened.clock.now_ns())
