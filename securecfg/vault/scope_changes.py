"""Changing who may do what in one sealed scope: each change is one publication with a new charter."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from securecfg.audit import Event
from securecfg.crypto import KeyBytes, generate_key
from securecfg.errors import (
    Conflict,
    InvalidGrants,
    InvalidMetadata,
    InvalidPolicy,
    SecretNotFound,
    SecurecfgError,
    StoreBusy,
    Tampered,
)
from securecfg.keys import MOST_SLOTS, Purpose, SlotInfo, root_row_of, seal_slot
from securecfg.keys.role_keys import RolePublic
from securecfg.keys.value_grants import grant_row_of, seal_grant, slot_of_grant, value_public_key
from securecfg.policy import open_policy
from securecfg.store import STAGE_LIMIT_OPERATIONS, Delete, Put, Space
from securecfg.tuples import NamedTuple
from securecfg.vault.authority import Authority, PolicyMoved
from securecfg.vault.certificates import CERTIFICATES_PATH
from securecfg.vault.charters import (
    BREAK_GLASS,
    DROP,
    EXCLUDED_MAX,
    LIST,
    NO_SLOT,
    OWN_ROLE,
    PARTIES_MAX,
    READ,
    WRITE,
    Party,
    SignedCharter,
    keys_digest,
)
from securecfg.vault.departures import NO_NUMBER, note_departure
from securecfg.vault.documents import decode_document
from securecfg.vault.drafts import Drafts, NewVersion
from securecfg.vault.drop_orders import ORDER_PATH, SignedOrder, droppers, order_row_of, parse_order, remove_orders
from securecfg.vault.epochs import plan_key_change, plan_new_epoch, seal_root_to_all
from securecfg.vault.joint import PartChange, publish_together
from securecfg.vault.key_changes import KeyChanges
from securecfg.vault.late_grants import WITH_CHANGE, drop_needless, give_late
from securecfg.vault.maintenance import delete_rows, finish_destruction
from securecfg.vault.paths import CHARTER_PATH, SUCCESSION_PATH
from securecfg.vault.publishing import Plan
from securecfg.vault.replica import SLOT_IDS
from securecfg.vault.scope_founding import charter_content, order_after
from securecfg.vault.scope_opening import charter_of, grants_of, slot_ids
from securecfg.vault.sealed_rows import SealedRows
from securecfg.vault.session import Session
from securecfg.vault.signatories import keeper_for
from securecfg.vault.staging import StagingMoved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from securecfg.keys import Keyring
    from securecfg.keys.role_keys import RoleKey
    from securecfg.keys.trust import Signatures, Trust
    from securecfg.policy import Decision
    from securecfg.vault.charters import Charter
    from securecfg.vault.drafts import Content
    from securecfg.vault.drop_orders import Admission
    from securecfg.vault.opened import OpenVault
    from securecfg.vault.publishing import Publication
    from securecfg.vault.segments import Entry
    from securecfg.vault.session import Identity
    from securecfg.vault.signatories import Signatories

    Progress = Callable[[int, int], None]

ORDERS_WITH_CHANGE = 4
"""How many drop orders are given in the publication of the change itself; the others right after it."""

_ORDERS_AT_ONCE = 16
_WRITES_MAX = 16
_ORDERS_BYTES = 400_000

RIGHTS = {
    "list": LIST,
    "read": LIST | READ,
    "write": LIST | WRITE,
    "drop": DROP,
    "break-glass": LIST | READ | BREAK_GLASS,
}
_WORDS = {"list": LIST, "read": READ, "write": WRITE, "drop": DROP, "break-glass": BREAK_GLASS}


def no_collector(path: str) -> InvalidMetadata:
    """Return the error for a scope into which something is to be dropped, and nobody could take it in."""
    message = f"no role reads and writes in `{path}`, and so nobody would take in what is dropped"
    return InvalidMetadata(message, hint="give a role both rights: `--read role:NAME --write role:NAME`")


def rights_to_words(rights: int) -> tuple[str, ...]:
    """Return the names of rights."""
    return tuple(word for word, bit in _WORDS.items() if rights & bit)


def settled() -> None:
    """Do nothing: a change that concerns its scope alone has nothing to settle before."""


class CharterDraft(NamedTuple):
    """A change of who may do what, as one state has it.

    Attributes:
        parties: Of the charter.
        keyring: Without new keys that no charter names.
        slots: The slots and sealed roots.
        change: What the record says of it.
        puts: Grants of value keys.
        deletes: Grants that nobody needs any more.
        departing: The id of the slot that goes, empty where none does.
        reader: The id of the slot whose holder could read what is there and may not read what comes, empty for none.
        excluded: The subtrees that are scopes of their own; None for those that are.
        heir: The row and the id of a slot that is given what this process reads, before that goes.
    """

    parties: tuple[Party, ...]
    keyring: Keyring
    slots: dict[int, bytes]
    change: Mapping[str, object]
    puts: list[Put]
    deletes: Sequence[Delete] = ()
    departing: bytes = b""
    reader: bytes = b""
    excluded: tuple[str, ...] | None = None
    heir: tuple[int, bytes] | None = None


class Prepared(NamedTuple):
    """A change that waits for the signatures of administrators.

    Attributes:
        charter: What it is about.
        messages: What they sign: the charter, and the drop order that goes with it.
        publish: Publishes it, given what they signed, in the same order.
        keeper: Vouches for what is done under it.
        plan: Plans it for a publication, given what they signed.
    """

    charter: Charter
    messages: tuple[bytes, ...]
    publish: Callable[[Sequence[Signatures]], None]
    keeper: Ed25519PrivateKey
    plan: Callable[[Sequence[Signatures], Publication], Plan]


class _Administering(Authority):
    """What decides and records for an administrator, whom no writer keeps from mending the policy of the scope."""

    def session(self) -> Session:
        """Return the session under the policy of the scope; under one that allows nothing where it cannot be read."""
        try:
            return super().session()
        except (InvalidGrants, InvalidPolicy, Tampered):
            opened, nothing = self.opened, open_policy([], memberships={})
            return Session(self.identity, nothing, opened.masker, opened.clock, clock_trusted=opened.is_clock_trusted())

    def require(self, action: str, path: str) -> tuple[Session, Decision]:
        """Return the session and the decision as `Authority.require` does; without a policy nothing is decided.

        Raises:
            AccessDenied: It is not allowed.
            Tampered: The policy of the scope is damaged.
        """
        super().session()
        return super().require(action, path)


class ScopeChanges:
    """An open scope, and the administrator who changes it.

    Args:
        opened: The scope.
        identity: On whose behalf.
        own: The vault's own key.
        signatories: Sign charters.
        roles: The public keys of roles, 1,248 bytes each, and who is certified as a member and lacks the key.
        keeper: Of the charter in force, where it was made here; None for that of the next one.
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
        self._succession = opened.system_bytes(SUCCESSION_PATH) or b""
        self.opened = opened
        self._authority = _Administering(opened, identity)
        self._own_key = own.signing_key
        self._signatories = signatories
        self._keeper = keeper or keeper_for(own, signatories.trust)
        self._signed: dict[tuple[bytes, ...], list[Signatures]] = {}

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
        for _ in range(_WRITES_MAX):
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
        raise _too_busy()

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
            self._publish(self._unchanged, plan_signed, settled, around)

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
        """Return what plans a charter that leaves out other subtrees, signed. To be called in `giving_orders`.

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

        prepared = self._prepare(draft, lambda _publication, _draft: Plan())
        if prepared is None:
            raise TypeError
        signatures = self._signatures_for(prepared)
        self._withdraw_orders(prepared.charter)
        return partial(prepared.plan, signatures)

    def ask_for_admission(self) -> None:
        """Ask the members of roles that drop to let in who lacks the key: they may read no document of the scope.

        An order that is gone is given anew.

        Raises:
            CommitUnknown, StoreBusy, StoreFailed: As for a write.
        """
        self._seal_orders(lambda name: bool(self._roles[name][1]) or self._lacks_order(name))

    def give_orders(self) -> None:
        """Give their drop order to the roles that may drop and lack it: of many some get it after the change.

        Raises:
            CommitUnknown, StoreBusy, StoreFailed: As for a write.
        """
        self._seal_orders(self._lacks_order)

    @contextmanager
    def giving_orders(self) -> Iterator[None]:
        """Give the drop orders that do not fit into a change right after it; where it failed, those that are gone."""
        try:
            yield
        except BaseException:
            with suppress(SecurecfgError):  # whoever finishes the change gives them
                self.give_orders()
            raise
        late = self._late_droppers(charter_of(self.opened))
        self._seal_orders(lambda name: name in late or self._lacks_order(name))

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

        self._publish_allowed(draft, plan, lambda: documents.update(settle()), around)

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
        gone = LIST | READ | WRITE | DROP | BREAK_GLASS if right == "list" else _WORDS[right]
        seed = KeyBytes(generate_key())

        def draft() -> CharterDraft | None:
            charter = charter_of(opened)
            party = charter.party(role)
            if party is None or not party.rights & gone:
                return self._unchanged() if self.is_behind else None
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
                epochs = [entry.epoch for entry in keyring.keys if entry.purpose == Purpose.VALUE and row]
                # Where there are more, `_finish` deletes them.
                deletes = [Delete(Space.GRANT, grant_row_of(row, epoch)) for epoch in epochs[-WITH_CHANGE:]]
                keyring, puts = self._new_value_key(keyring, slots, parties, seed)
            departing = party.slot_id if has_slot and not after.rights else b""
            reader = party.slot_id if has_slot and party.rights & gone & READ else b""
            return CharterDraft(parties, keyring, slots, change, puts, deletes, departing, reader)

        def plan(publication: Publication, draft: CharterDraft, *_decided: object) -> Plan:
            if not draft.departing:
                return plan_key_change(opened, publication, draft.slots, draft.keyring)
            return self._plan_departure(publication, draft)

        self._publish_allowed(draft, plan, settled)
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
        self._keeper = keeper_for(own, trust)

        def draft() -> CharterDraft:
            charter = charter_of(opened)
            slots, keyring = self._without_strays()
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
            epochs = [entry.epoch for entry in keyring.keys if entry.purpose == Purpose.VALUE]
            deletes = [Delete(Space.GRANT, grant_row_of(old, epoch)) for epoch in epochs[-WITH_CHANGE:]]
            keyring, puts = self._new_value_key(keyring, slots, parties, seed)
            # Nobody can give late what is not given with the change: this handle ends with it.
            puts.sort(key=lambda put: slot_of_grant(put.row) != slot_id)
            return CharterDraft(parties, keyring, slots, change, puts, deletes, gone, gone, heir=(row, slot_id))

        def plan(publication: Publication, draft: CharterDraft) -> Plan:
            plan = Plan()
            if draft.departing:
                plan = self._plan_departure(publication, draft)
            drafts, new = Drafts(opened, publication), self._new_version()
            for path, content in documents().items():
                if path == SUCCESSION_PATH:
                    self._succession = b"".join(content.pieces())
                if self._differs(path, content):
                    plan.join(drafts.write(path, content, new))
            return plan

        return self._prepare(draft, plan)

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
        self.give_orders()
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
            self._publish(self._unchanged, lambda _publication, _draft: Plan(), settled)

    # --- pieces ------------------------------------------------------------------------------------------------------

    def _unchanged(self) -> CharterDraft:
        """Return the draft of a charter by which everybody may do what they may now."""
        replica = self.opened.replica
        return CharterDraft(charter_of(self.opened).parties, replica.keyring, replica.slots, {}, [])

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

    @property
    def authority(self) -> Authority:
        """Decides and records in the scope."""
        return self._authority

    @property
    def keeper(self) -> Ed25519PrivateKey:
        """What vouches for what is done under the charters that are made here."""
        return self._keeper

    def _publish_allowed(
        self,
        draft: Callable[[], CharterDraft | None],
        plan: Callable[[Publication, CharterDraft, Session, Decision], Plan],
        settle: Callable[[], None],
        around: PartChange | None = None,
    ) -> None:
        """Do as `_publish` where the policy of the scope lets the caller manage keys, also once it is signed.

        Raises:
            AccessDenied: It does not any more.
            Conflict: Somebody else changed the charter meanwhile, or the policy at the same moment.
        """

        def decided(publication: Publication, draft: CharterDraft) -> Plan:
            return plan(publication, draft, *self._authority.decide_now(publication, "key.manage"))

        for _ in range(_WRITES_MAX):
            try:
                self._publish(draft, decided, settle, around)
            except PolicyMoved as error:
                self._authority.require("key.manage", "")
                raise Conflict(error.message, hint="try again") from None
            except StagingMoved:
                continue  # what was settled is so no more
            return
        raise _too_busy()

    def _publish(
        self,
        draft: Callable[[], CharterDraft | None],
        plan: Callable[[Publication, CharterDraft], Plan],
        settle: Callable[[], None],
        around: PartChange | None = None,
    ) -> None:
        """Have the charter of a draft signed, and publish the draft where it still is what was signed.

        Raises:
            Conflict: Somebody else changed the charter meanwhile.
            As for what the other part raises that is looked at.
        """
        prepared = self._prepare(draft, plan, around)
        if prepared is not None:
            signatures = self._signatures_for(prepared)
            settle()
            prepared.publish(signatures)

    def _signatures_for(self, prepared: Prepared) -> list[Signatures]:
        """Have a change signed. People are asked once, however often it is tried."""
        messages = prepared.messages
        if messages not in self._signed:
            self._signed[messages] = self._signatories.sign(messages, f"the charter of `{prepared.charter.path}`")
        return self._signed[messages]

    def _prepare(
        self,
        draft: Callable[[], CharterDraft | None],
        plan: Callable[[Publication, CharterDraft], Plan],
        around: PartChange | None = None,
    ) -> Prepared | None:
        self.opened.refresh()
        drafted = draft()
        if drafted is None:
            return None
        charter = self._charter_after(drafted)
        early = self._known_grants(drafted.keyring, *drafted.heir) if drafted.heir is not None else []
        late: list[Put] = []
        order = order_after(charter, drafted.keyring)

        messages = (charter.message, *((order.message,) if order is not None else ()))

        def signed_plan(signatures: Sequence[Signatures], publication: Publication) -> Plan:
            late.clear()  # of an attempt that came to nothing
            drafted = draft()
            if drafted is None:
                return Plan()
            is_given = all(publication.row(put.space, put.id) == put.row for put in early)
            if self._charter_after(drafted) != charter or not is_given:
                message = "somebody else changed who may do what in the scope at the same moment"
                raise Conflict(message, hint=f"look at `securecfg scope show {charter.path}`, and try again")
            planned = plan(publication, drafted)
            # Drop orders that go with the change take the room of grants.
            room = WITH_CHANGE - min(ORDERS_WITH_CHANGE, len(droppers(charter.parties)))
            planned.puts += drafted.puts[:room]
            late[:] = drafted.puts[room:]
            planned.deletes += drafted.deletes
            if drafted.reader:
                planned.join(self._note_reader(publication, drafted.reader))
            signed = SignedOrder(order, signatures[1]) if order is not None else None
            self._put_orders(publication, planned, charter, signed)
            return self._with_charter(publication, planned, SignedCharter(charter, signatures[0]), drafted.change)

        def publish(signatures: Sequence[Signatures]) -> None:
            for start in range(0, len(early), STAGE_LIMIT_OPERATIONS):
                self.opened.store.stage(early[start : start + STAGE_LIMIT_OPERATIONS])
            planner = partial(signed_plan, signatures)
            with self.giving_orders():
                self._withdraw_orders(charter)
                if around is None:
                    self.opened.publisher.publish(planner)
                else:
                    publish_together([around, PartChange(self.opened, [planner])])
                if self.opened.replica.seat is not None:
                    self.opened.replica.seat.sign_with(self._keeper)
                give_late(self.opened, late)

        return Prepared(charter, messages, publish, self._keeper, signed_plan)

    def _charter_after(self, draft: CharterDraft) -> Charter:
        before = charter_of(self.opened)
        return before._replace(
            serial=before.serial + 1,
            previous=before.digest,
            keys=keys_digest(draft.keyring),
            keeper=self._keeper.public_key().public_bytes_raw(),
            parties=draft.parties,
            excluded=before.excluded if draft.excluded is None else draft.excluded,
        )

    def _plan_departure(self, publication: Publication, draft: CharterDraft) -> Plan:
        """Plan to remove a slot, with new keys of every kind, as for a vault."""
        opened, replica = self.opened, self.opened.replica
        row = row_of(replica.slots, draft.departing)
        keyring = draft.keyring
        for purpose in (Purpose.SCOPE, Purpose.AUDIT):
            keyring = keyring.with_new_epoch(purpose, opened.clock.now_ns())
        root = generate_key()
        slots = seal_root_to_all(replica.vault_id, root, draft.slots, keyring)
        plan = plan_new_epoch(self._authority, publication, slots, keyring, root)
        if row:
            plan.deletes.append(Delete(Space.META, row))
        return plan

    def _without_strays(self) -> tuple[dict[int, bytes], Keyring]:
        """Return slots and keyring without what no role in the charter has: somebody who knew the root put it there."""
        replica, named = self.opened.replica, {party.slot_id for party in charter_of(self.opened).parties}
        strays = {row for row, slot_id in slot_ids(replica.slots).items() if slot_id not in named}
        gone = strays | {root_row_of(row) for row in strays}
        keyring = replica.keyring
        for info in keyring.slots:
            if info.slot_id not in named:
                keyring = keyring.without_slot(info.slot_id)
        return {row: raw for row, raw in replica.slots.items() if row not in gone}, keyring

    def _note_reader(self, publication: Publication, slot_id: bytes) -> Plan:
        """Return the draft of a note of what the holder of a slot could read, taken away by a writer as it may be."""
        replica = self.opened.replica
        row = row_of(replica.slots, slot_id)
        number, author = row - SLOT_IDS.start + 1 if row else NO_NUMBER, self._authority.identity.principal
        return note_departure(self.opened, publication, number, replica.keyring.slot(slot_id), author)

    def _grants_for(
        self, keyring: Keyring, slots: Mapping[int, bytes], parties: tuple[Party, ...], reader: Party, seed: KeyBytes
    ) -> tuple[Keyring, list[Put]]:
        """Return what a new reader is given: all that this process reads, or else a new key for what comes."""
        grants = grants_of(self.opened)
        if not grants.is_granted(grants.active):
            return self._new_value_key(keyring, slots, parties, seed)
        row = row_of(slots, reader.slot_id)
        if not row:
            message = f"a writer of the scope has taken away the slot of `role:{reader.role}`"
            raise Conflict(message, hint="take `list` from the role and grant it anew; who writes here did that")
        return keyring, self._known_grants(keyring, row, reader.slot_id)

    def _known_grants(self, keyring: Keyring, row: int, slot_id: bytes) -> list[Put]:
        """Return the grants to a slot of all that this process reads."""
        grants, vault_id = grants_of(self.opened), self.opened.replica.vault_id
        public_key = keyring.slot(slot_id).public_key
        epochs = [entry.epoch for entry in keyring.keys if entry.purpose == Purpose.VALUE]
        return [
            Put(
                Space.GRANT,
                grant_row_of(row, epoch),
                seal_grant(public_key, vault_id, slot_id, epoch, grants.seed(epoch)),
            )
            for epoch in epochs
            if grants.is_granted(epoch)
        ]

    def _new_value_key(
        self, keyring: Keyring, slots: Mapping[int, bytes], parties: tuple[Party, ...], seed: KeyBytes
    ) -> tuple[Keyring, list[Put]]:
        """Return a keyring in which values are sealed under a new key, and the grants of that to all readers."""
        vault_id = self.opened.replica.vault_id
        epoch = keyring.active(Purpose.VALUE).epoch + 1
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
        self, publication: Publication, plan: Plan, signed: SignedCharter, change: Mapping[str, object]
    ) -> Plan:
        """Complete a plan by the charter that goes with it."""
        plan.charter, plan.writer = signed, self._keeper
        plan.join(Drafts(self.opened, publication).write(CHARTER_PATH, charter_content(signed), self._new_version()))
        charter = signed.charter
        obj = {"path": charter.path, "rev": charter.serial, "digest": charter.digest.hex(), **change}
        # Of the records the first carries the changes of the index.
        plan.records.insert(0, self._authority.session().record(Event.SCOPE_CHANGED, obj))
        return plan

    def _documents_plan(self, publication: Publication, documents: Mapping[bytes, Content]) -> Plan:
        """Return the draft that replaces those documents of the scope that differ."""
        plan = Plan()
        drafts, new = Drafts(self.opened, publication), self._new_version()
        for path, content in documents.items():
            if self._differs(path, content):
                plan.join(drafts.write(path, content, new))
        return plan

    def _put_orders(self, publication: Publication, plan: Plan, charter: Charter, order: SignedOrder | None) -> None:
        """Give roles that may drop an order for the keys in use, and take theirs from those that may no more.

        Raises:
            Conflict: A role that gets its order after the change has the one before.
        """
        names = droppers(charter.parties)
        gone = droppers(charter_of(self.opened).parties) - names
        plan.deletes += remove_orders(charter.scope_id, (self._roles[name][0] for name in gone & self._roles.keys()))
        if order is None:
            return
        late = remove_orders(charter.scope_id, (self._roles[name][0] for name in self._late_droppers(charter)))
        if any(publication.row(old.space, old.id) is not None for old in late):
            message = "somebody else gave the drop orders of the scope anew at the same moment"
            raise Conflict(message, hint="try again")
        plan.puts += [
            order.seal(*self._roles[name], self._succession) for name in self._droppers(charter)[:ORDERS_WITH_CHANGE]
        ]
        plan.join(Drafts(self.opened, publication).write(ORDER_PATH, order.to_content(), self._new_version()))

    def _withdraw_orders(self, charter: Charter) -> None:
        """Take the orders from those that get the next one after the change, so that nobody drops under the old key."""
        publics = (self._roles[name][0] for name in self._late_droppers(charter))
        delete_rows(self.opened, remove_orders(charter.scope_id, publics))

    def _droppers(self, charter: Charter) -> list[str]:
        """Return the roles that may drop; one that the vault does not know gets no order."""
        return sorted(droppers(charter.parties) & self._roles.keys())

    def _late_droppers(self, charter: Charter) -> list[str]:
        """Return those that get their order after the change that a charter goes with."""
        return self._droppers(charter)[ORDERS_WITH_CHANGE:]

    def _seal_orders(self, is_chosen: Callable[[str], bool]) -> None:
        """Give some of the roles that may drop the order of the scope, as many in one publication as it takes."""
        opened = self.opened
        left = list(filter(is_chosen, self._droppers(charter_of(opened))))

        def plan(_publication: Publication) -> Plan:
            charter = charter_of(opened)
            names = droppers(charter.parties)
            puts: list[Put] = []
            for name in left:
                if name in names:
                    order = parse_order(opened.system_bytes(ORDER_PATH) or b"")
                    puts.append(order.seal(*self._roles[name], self._succession))
                if len(puts) == _ORDERS_AT_ONCE or sum(len(put.row) for put in puts) > _ORDERS_BYTES:
                    break
            obj = {"path": charter.path, "rev": charter.serial, "digest": charter.digest.hex()}
            records = [self._authority.session().record(Event.SCOPE_CHANGED, obj)] if puts else []
            return Plan(puts=puts, records=records, result=name)

        while left:
            last = opened.publisher.publish(plan)
            left = [name for name in left if name > str(last)]

    def _lacks_order(self, name: str) -> bool:
        row = order_row_of(self._roles[name][0], charter_of(self.opened).scope_id)
        return self.opened.store.get(Space.GRANT, row) is None

    def _differs(self, path: bytes, content: Content) -> bool:
        known = self.opened.system_bytes(path)
        try:
            return known is None or decode_document(known) != decode_document(b"".join(content.pieces()))
        except ValueError:
            return True

    def _new_version(self) -> NewVersion:
        return NewVersion(self._authority.identity.principal, self.opened.clock.now_ns())


def _too_busy() -> StoreBusy:
    message = "others change the policy or the members of roles all the time"
    return StoreBusy(message, hint="`securecfg scope administrators resume` brings them to the scopes")


def row_of(slots: Mapping[int, bytes], slot_id: bytes) -> int:
    """Return the id of the row of a slot, 0 where a writer, who has the root, has taken it away."""
    return next((number for number, known in slot_ids(slots).items() if known == slot_id), 0)
