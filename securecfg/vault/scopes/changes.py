"""Changing who may do what in one sealed scope: each change is one publication with a new charter."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from securecfg.audit import Event
from securecfg.crypto import KeyBytes, generate_key
from securecfg.errors import Conflict, SecretNotFound, Tampered
from securecfg.keys import MOST_SLOTS, Purpose, SlotInfo, root_row_of, seal_slot
from securecfg.keys.role_keys import RolePublic
from securecfg.keys.value_grants import slot_of_grant
from securecfg.vault.commits.epochs import plan_key_change
from securecfg.vault.commits.joint import PartChange, publish_together
from securecfg.vault.commits.maintenance import finish_destruction
from securecfg.vault.commits.publishing import Plan
from securecfg.vault.commits.staging import StagingMoved
from securecfg.vault.documents import decode_document
from securecfg.vault.drafts import Drafts, NewVersion
from securecfg.vault.keys.changes import KeyChanges
from securecfg.vault.keys.sealed_rows import SealedRows
from securecfg.vault.paths import SUCCESSION_PATH
from securecfg.vault.scopes.authority import AdministratorAuthority
from securecfg.vault.scopes.chartering import (
    WRITES_MAX,
    CharterDraft,
    Chartering,
    Prepared,
    draft_unchanged,
    settled,
    too_busy,
)
from securecfg.vault.scopes.charters import DROP, EXCLUDED_MAX, LIST, NO_SLOT, OWN_ROLE, PARTIES_MAX, READ, WRITE, Party
from securecfg.vault.scopes.grants import known_grants, new_value_key, withdrawn_grants
from securecfg.vault.scopes.late_grants import drop_needless
from securecfg.vault.scopes.opening import charter_of, grants_of
from securecfg.vault.scopes.orders import ScopeOrders
from securecfg.vault.scopes.rights import no_collector, revoked_by, rights_to_words
from securecfg.vault.scopes.slots import plan_departure, row_of, without_strays
from securecfg.vault.state.replica import SLOT_IDS
from securecfg.vault.trust.certificates import CERTIFICATES_PATH
from securecfg.vault.trust.signatories import keeper_for

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from securecfg.keys import Keyring
    from securecfg.keys.role_keys import RoleKey
    from securecfg.keys.trust import Trust
    from securecfg.store import Delete, Put
    from securecfg.vault.authority import Authority
    from securecfg.vault.commits.publishing import Publication
    from securecfg.vault.drafts import Content
    from securecfg.vault.drops.orders import Admission
    from securecfg.vault.index.segments import Entry
    from securecfg.vault.opened import OpenVault
    from securecfg.vault.session import Identity
    from securecfg.vault.trust.signatories import Signatories

    Progress = Callable[[int, int], None]


class ScopeChanges:
    """An open scope, and the administrator who changes it.

    Args:
        opened: The scope.
        identity: On whose behalf.
        own: The vault's own key.
        signatories: Sign charters.
        roles: The public keys of roles, 1,248 bytes each, and who is certified as a member and lacks the key.
        keeper: Of the charter in force, where it was made here; None for that of the next one.

    Attributes:
        opened: The scope.
        orders: Its drop orders.
    """

    def __init__(
        self,
        opened: OpenVault,
        identity: Identity,
        own: RoleKey,
        signatories: Signatories,
        roles: Mapping[str, tuple[bytes, Sequence[Admission]]],
        *,
        keeper: Ed25519PrivateKey | None = None,
    ) -> None:
        """Change nothing yet."""
        self._roles = dict(roles)
        self.opened = opened
        self._authority = AdministratorAuthority(opened, identity)
        self.orders = ScopeOrders(self._authority, self._roles)
        self._own_key = own.signing_key
        keeper = keeper or keeper_for(own, signatories.trust)
        self._chartering = Chartering(self._authority, self.orders, signatories, keeper)

    def write_documents(self, make: Callable[[], tuple[Mapping[bytes, Content], PartChange]]) -> None:
        """Replace those of the scope's documents that differ, under a new charter where it takes one.

        Args:
            make: Returns what they are to be, and what looks in the vault whether they still are when they are
                published; that raises `StagingMoved` where they have to be made anew.

        Raises:
            SignaturesMissing: It takes a charter, and too few administrators signed.
            Conflict: Somebody else changed the charter meanwhile.
            CommitUnknown, StoreBusy, StoreFailed: As for a write.
        """
        for _ in range(WRITES_MAX):
            self.opened.refresh()
            before = self.opened.entry(CERTIFICATES_PATH)
            documents, around = make()
            if not any(self._differs(path, content) for path, content in documents.items()):
                return
            try:
                self._write_made(documents, around, before)
            except StagingMoved:
                continue
            return
        raise too_busy()

    def _write_made(self, documents: Mapping[bytes, Content], around: PartChange, before: Entry | None) -> None:
        """Replace documents where the certificates, which others may have added to, are those that they were made of.

        Raises:
            StagingMoved: They are not, or as `around` says.
        """

        def verify(publication: Publication) -> None:
            if publication.entry(CERTIFICATES_PATH) != before:
                message = "the certificates changed meanwhile"
                raise StagingMoved(message)

        def plan(publication: Publication) -> Plan:
            verify(publication)
            return planned(publication)

        def plan_signed(publication: Publication, _draft: CharterDraft) -> Plan:
            verify(publication)
            return self._documents_plan(publication, documents)

        if self.opened.replica.may_change:
            planned = self.plan_documents(documents)
            publish_together([around, PartChange(self.opened, [plan])])
        else:
            unchanged = partial(draft_unchanged, self.opened)
            self._chartering.publish(unchanged, plan_signed, settled, around)

    def plan_documents(self, documents: Mapping[bytes, Content]) -> Callable[[Publication], Plan]:
        """Return what plans to replace those of the scope's documents that differ, with a record."""

        def plan(publication: Publication) -> Plan:
            plan = self._documents_plan(publication, documents)
            if plan.changes:
                charter = charter_of(self.opened)
                obj = {"path": charter.path, "rev": charter.serial, "digest": charter.digest.hex()}
                plan.records = [self._authority.session().record(Event.SCOPE_CHANGED, obj)]
            return plan

        return plan

    def plan_exclusion(self, change: Callable[[tuple[str, ...]], tuple[str, ...]]) -> Callable[[Publication], Plan]:
        """Return what plans a charter that leaves out other subtrees, signed. To be called in `orders.giving`.

        Args:
            change: Returns them, from those of the charter in force.

        Raises:
            SignaturesMissing: Too few administrators signed.
            Conflict: There are too many.
        """

        def draft() -> CharterDraft:
            charter = charter_of(self.opened)
            excluded = tuple(sorted(change(charter.excluded)))
            if len(excluded) > EXCLUDED_MAX:
                message = f"at most {EXCLUDED_MAX} subtrees of a scope can be scopes of their own"
                raise Conflict(message, hint="merge some that nobody needs")
            replica = self.opened.replica
            told = {"excluded": list(excluded)}
            return CharterDraft(charter.parties, replica.keyring, dict(replica.slots), told, [], excluded=excluded)

        prepared = self._chartering.prepare(draft, lambda _publication, _draft: Plan())
        if prepared is None:
            raise TypeError
        signatures = self._chartering.sign_once(prepared)
        self.orders.withdraw(prepared.charter)
        return partial(prepared.plan, signatures)

    def grant(
        self,
        role: str,
        public: RolePublic,
        rights: int,
        settle: Callable[[], Mapping[bytes, Content]],
        around: PartChange,
    ) -> None:
        """Give a role rights, and a slot where it needs one and has none yet.

        Args:
            role: Its name.
            public: Its key.
            rights: Which.
            settle: Called once administrators have signed, before the scope is changed; returns the documents of the
                scope, which name the members of the role from the moment on from which they may do anything.
            around: Checks, in the vault, that the role has no other key by then.

        Raises:
            AccessDenied: The policy of the scope does not let the administrator.
            SignaturesMissing: Too few administrators signed.
            Conflict: There are too many roles, or somebody else changed the charter or the role's key meanwhile.
            InvalidMetadata: It is to drop, and no role reads and writes.
            CommitUnknown, StoreBusy, StoreFailed: As for a write.
        """
        self._authority.require("key.manage", "")
        self._roles.setdefault(role, (public.public_key, ()))
        opened, replica = self.opened, self.opened.replica
        # What is random is drawn once, so that the state alone says what administrators sign.
        new_slot, seed = seal_slot(replica.vault_id, public), KeyBytes(generate_key())

        def draft() -> CharterDraft | None:
            charter = charter_of(opened)
            party = charter.party(role)
            if party is not None and party.rights | rights == party.rights:
                return None
            slots, keyring = dict(replica.slots), replica.keyring
            if party is None and len(charter.parties) >= PARTIES_MAX:
                message = f"a scope has at most {PARTIES_MAX} roles"
                raise Conflict(message, hint="revoke one that nobody needs")
            party = party or Party(role, 0, NO_SLOT, public.signing_key)
            slot_id = party.slot_id
            if rights & LIST and slot_id == NO_SLOT:
                row = next((number for number in SLOT_IDS if number not in slots), None)
                if row is None or len(keyring.slots) >= MOST_SLOTS:
                    message = f"a scope has at most {MOST_SLOTS} roles"
                    raise Conflict(message, hint="revoke one that nobody needs")
                slots |= new_slot.rows(row, replica.vault_id, replica.root)
                slot_id = new_slot.slot.slot_id
                added = opened.clock.now_ns()
                keyring = keyring.with_slot(SlotInfo(slot_id, new_slot.public_key, added, public.scheme, role))
            after = party._replace(rights=party.rights | rights, slot_id=slot_id)
            parties = (*(other for other in charter.parties if other.role != role), after)
            if rights & DROP and not charter._replace(parties=parties).has_collector:
                raise no_collector(charter.path)
            puts: list[Put] = []
            if rights & READ and not party.rights & READ:
                keyring, puts = self._grants_for(keyring, slots, parties, after, seed)
            change = {"role": role, "added": list(rights_to_words(after.rights & ~party.rights))}
            return CharterDraft(parties, keyring, slots, change, puts)

        documents: dict[bytes, Content] = {}

        def plan(publication: Publication, draft: CharterDraft, *_decided: object) -> Plan:
            plan = plan_key_change(opened, publication, draft.slots, draft.keyring)
            plan.join(self._documents_plan(publication, documents))
            return plan

        self._chartering.publish_allowed(draft, plan, lambda: documents.update(settle()), around)

    def revoke(self, role: str, right: str, progress: Progress | None = None) -> None:
        """Take a right from a role; with `list` go all others, that to drop too, and its slot.

        Nothing changes where it has no such right. What a role that read could know is listed from then on: each secret
        until it has another value.

        Raises:
            AccessDenied: The policy of the scope does not let the administrator.
            SignaturesMissing: Too few administrators signed.
            SecretNotFound: It is the vault's own right, which cannot be taken away.
            Conflict: Somebody else changed the charter meanwhile.
            DestroyPending, CommitUnknown, StoreBusy, StoreFailed: As for the removal of a slot.
        """
        self._authority.require("key.manage", "")
        self.finish(None, progress)
        opened, replica = self.opened, self.opened.replica
        gone = revoked_by(right)
        seed = KeyBytes(generate_key())

        def draft() -> CharterDraft | None:
            charter = charter_of(opened)
            party = charter.party(role)
            if party is None or not party.rights & gone:
                return draft_unchanged(self.opened) if self.is_behind else None
            if party.signing_key == self._own_key:
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
            row, has_slot = row_of(replica.slots, party.slot_id), party.slot_id != NO_SLOT
            slots, keyring = dict(replica.slots), replica.keyring
            if has_slot and not after.rights:
                if row:
                    del slots[row], slots[root_row_of(row)]
                keyring = keyring.without_slot(party.slot_id)
            puts: list[Put] = []
            deletes: list[Delete] = []
            if has_slot and party.rights & gone & READ:
                deletes = withdrawn_grants(keyring, row)
                keyring, puts = new_value_key(opened, keyring, slots, parties, seed)
            departing = party.slot_id if has_slot and not after.rights else b""
            reader = party.slot_id if has_slot and party.rights & gone & READ else b""
            return CharterDraft(parties, keyring, slots, change, puts, deletes, departing, reader)

        def plan(publication: Publication, draft: CharterDraft, *_decided: object) -> Plan:
            if not draft.departing:
                return plan_key_change(opened, publication, draft.slots, draft.keyring)
            return plan_departure(self._authority, publication, draft)

        self._chartering.publish_allowed(draft, plan, settled)
        self.finish(None, progress)

    def prepare_succession(
        self, trust: Trust, own: RoleKey, documents: Callable[[], Mapping[bytes, Content]]
    ) -> Prepared | None:
        """Prepare to put the scope under other administrators, or another key of the vault's own.

        Args:
            trust: The administrators from now on.
            own: The vault's own key from now on. Where it is another one, the scope gets new keys as after the
                departure of a role, and this handle ends with the publication.
            documents: Returns who the administrators are and what they have signed, once that is known.

        The policy of the scope is not asked: a writer of it could keep the vault from ever changing its own key.
        """
        opened, replica = self.opened, self.opened.replica
        new_slot, seed = seal_slot(replica.vault_id, own), KeyBytes(generate_key())
        self._chartering.keeper = keeper_for(own, trust)

        def draft() -> CharterDraft:
            charter = charter_of(opened)
            slots, keyring = without_strays(opened)
            party = charter.party(OWN_ROLE)
            if party is None or party.signing_key == own.signing_key:
                return CharterDraft(charter.parties, keyring, slots, {"role": OWN_ROLE}, [])
            old = row_of(slots, party.slot_id)
            row = next(number for number in SLOT_IDS if number not in slots)
            slots |= new_slot.rows(row, replica.vault_id, replica.root)
            del slots[old], slots[root_row_of(old)]
            added, slot_id = opened.clock.now_ns(), new_slot.slot.slot_id
            keyring = keyring.without_slot(party.slot_id)
            keyring = keyring.with_slot(SlotInfo(slot_id, new_slot.public_key, added, own.scheme, OWN_ROLE))
            after = party._replace(slot_id=slot_id, signing_key=own.signing_key)
            parties = (*(other for other in charter.parties if other.role != OWN_ROLE), after)
            change, gone = {"role": OWN_ROLE}, party.slot_id
            if not party.rights & READ:
                return CharterDraft(parties, keyring, slots, change, [], (), gone)
            deletes = withdrawn_grants(keyring, old)
            keyring, puts = new_value_key(opened, keyring, slots, parties, seed)
            # Nobody can give late what is not given with the change: this handle ends with it.
            puts.sort(key=lambda put: slot_of_grant(put.row) != slot_id)
            return CharterDraft(parties, keyring, slots, change, puts, deletes, gone, gone, heir=(row, slot_id))

        def plan(publication: Publication, draft: CharterDraft) -> Plan:
            plan = Plan()
            if draft.departing:
                plan = plan_departure(self._authority, publication, draft)
            told = documents()
            if SUCCESSION_PATH in told:
                self.orders.follow(b"".join(told[SUCCESSION_PATH].pieces()))
            plan.join(self._documents_plan(publication, told))
            return plan

        return self._chartering.prepare(draft, plan)

    def verify_parties(self) -> None:
        """Check that the vault knows the key of each role in the charter: new keys would be given to others, too.

        Whose slot a role has only its members can tell.

        Raises:
            Tampered: It does not know one, or the role has had another key.
        """
        charter = charter_of(self.opened)
        for party in charter.parties:
            known = self._roles.get(party.role)
            if known is None or RolePublic(known[0]).signing_key != party.signing_key:
                name, path = party.role, charter.path
                message = f"`role:{name}` takes part in `{path}` with a key that the vault does not know"
                hint = f"unless somebody knows better, `securecfg scope revoke {path} --list role:{name}`"
                if known is not None:
                    hint += f"; a key that the role had before is replaced by `securecfg role rotate {name} --resume`"
                raise Tampered(message, hint=f"{hint}; then `--resume`")

    @property
    def is_behind(self) -> bool:
        """Whether a change of keys is to be finished, which takes another charter, as nobody here may vouch for it."""
        return self._is_stale() and not self.opened.replica.may_change

    def finish(self, keeper: Ed25519PrivateKey | None, progress: Progress | None = None) -> None:
        """Bring all that is there to the keys in use, as after the departure of a role.

        Args:
            keeper: Of the charter in force, where it was made here.
            progress: As for `revoke`.

        Raises:
            DestroyPending, CommitUnknown, StoreBusy, StoreFailed: As for the removal of a slot.
        """
        if keeper is not None and self.opened.replica.seat is not None:
            self.opened.replica.seat.sign_with(keeper)
        self.orders.give()
        if self.opened.replica.may_change:
            self._finish(progress)

    def vouch(self) -> None:
        """Have a charter signed that changes nothing, where this process could vouch for no change of data otherwise.

        Raises:
            SignaturesMissing: Too few administrators signed.
            Conflict: Somebody else changed the charter meanwhile.
            CommitUnknown, StoreBusy, StoreFailed: As for a write.
        """
        if not self.opened.replica.may_change:
            self._chartering.publish(
                partial(draft_unchanged, self.opened), lambda _publication, _draft: Plan(), settled
            )

    @property
    def authority(self) -> Authority:
        """Decides and records in the scope."""
        return self._authority

    @property
    def keeper(self) -> Ed25519PrivateKey:
        """What vouches for what is done under the charters that are made here."""
        return self._chartering.keeper

    # --- pieces ------------------------------------------------------------------------------------------------------

    def _finish(self, progress: Progress | None) -> None:
        """Bring everything to the scope key in use and erase old keys, where an earlier call died over it too."""
        opened = self.opened
        if self._is_stale():
            KeyChanges(self._authority).carry_over(progress)
        drop_needless(opened)
        if opened.is_destruction_pending:
            finish_destruction(opened)

    def _is_stale(self) -> bool:
        opened = self.opened
        return SealedRows(opened).is_used_before(opened.replica.keyring.active(Purpose.SCOPE).epoch)

    def _grants_for(
        self, keyring: Keyring, slots: Mapping[int, bytes], parties: tuple[Party, ...], reader: Party, seed: KeyBytes
    ) -> tuple[Keyring, list[Put]]:
        """Return what a new reader is given: all that this process reads, or else a new key for what comes."""
        grants = grants_of(self.opened)
        if not grants.is_granted(grants.active):
            return new_value_key(self.opened, keyring, slots, parties, seed)
        row = row_of(slots, reader.slot_id)
        if not row:
            message = f"a writer of the scope has taken away the slot of `role:{reader.role}`"
            raise Conflict(message, hint="take `list` from the role and grant it anew; who writes here did that")
        return keyring, known_grants(self.opened, keyring, row, reader.slot_id)

    def _documents_plan(self, publication: Publication, documents: Mapping[bytes, Content]) -> Plan:
        """Return the draft that replaces those documents of the scope that differ."""
        plan = Plan()
        drafts, new = Drafts(self.opened, publication), self._new_version()
        for path, content in documents.items():
            if self._differs(path, content):
                plan.join(drafts.write(path, content, new))
        return plan

    def _differs(self, path: bytes, content: Content) -> bool:
        known = self.opened.system_bytes(path)
        try:
            return known is None or decode_document(known) != decode_document(b"".join(content.pieces()))
        except ValueError:
            return True

    def _new_version(self) -> NewVersion:
        return NewVersion(self._authority.identity.principal, self.opened.clock.now_ns())
