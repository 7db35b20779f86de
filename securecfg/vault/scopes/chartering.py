"""A change of who may do what in one sealed scope: drafted, signed by administrators, and published with its charter.

What is signed is drafted anew in the publication, from the state of then; it is published where that comes to the same.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from securecfg.audit import Event
from securecfg.errors import Conflict, StoreBusy
from securecfg.store import STAGE_LIMIT_OPERATIONS
from securecfg.tuples import NamedTuple
from securecfg.vault.authority import PolicyMoved
from securecfg.vault.commits.joint import PartChange, publish_together
from securecfg.vault.commits.publishing import Plan
from securecfg.vault.commits.staging import StagingMoved
from securecfg.vault.drafts import Drafts, NewVersion
from securecfg.vault.drops.orders import SignedOrder, droppers
from securecfg.vault.paths import CHARTER_PATH
from securecfg.vault.scopes.charters import SignedCharter, keys_digest
from securecfg.vault.scopes.founding import charter_content, order_after
from securecfg.vault.scopes.grants import known_grants
from securecfg.vault.scopes.late_grants import WITH_CHANGE, give_late
from securecfg.vault.scopes.opening import charter_of
from securecfg.vault.scopes.orders import ORDERS_WITH_CHANGE
from securecfg.vault.scopes.slots import note_reader

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from securecfg.keys import Keyring
    from securecfg.keys.trust import Signatures
    from securecfg.policy import Decision
    from securecfg.store import Delete, Put
    from securecfg.vault.authority import Authority
    from securecfg.vault.commits.publishing import Publication
    from securecfg.vault.opened import OpenVault
    from securecfg.vault.scopes.charters import Charter, Party
    from securecfg.vault.scopes.orders import ScopeOrders
    from securecfg.vault.session import Session
    from securecfg.vault.trust.signatories import Signatories


def settled() -> None:
    """Do nothing: a change that concerns its scope alone has nothing to settle before."""


WRITES_MAX = 16
"""How often a change is tried that others overtake: they change what it was made from."""


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


def draft_unchanged(opened: OpenVault) -> CharterDraft:
    """Return the draft of a charter by which everybody may do what they may now."""
    replica = opened.replica
    return CharterDraft(charter_of(opened).parties, replica.keyring, replica.slots, {}, [])


class Chartering:
    """An open scope, and those who sign its next charters.

    Args:
        authority: Decides and records for the administrator in the scope.
        orders: The drop orders of the scope.
        signatories: Sign the charters.
        keeper: Vouches for what is done under them.

    Attributes:
        keeper: As given; another one where those who are to sign the next charter are others.
    """

    def __init__(
        self, authority: Authority, orders: ScopeOrders, signatories: Signatories, keeper: Ed25519PrivateKey
    ) -> None:
        """Change nothing yet."""
        self._opened = authority.opened
        self._authority = authority
        self._orders = orders
        self._signatories = signatories
        self.keeper = keeper
        self._signed: dict[tuple[bytes, ...], list[Signatures]] = {}

    def publish_allowed(
        self,
        draft: Callable[[], CharterDraft | None],
        plan: Callable[[Publication, CharterDraft, Session, Decision], Plan],
        settle: Callable[[], None],
        around: PartChange | None = None,
    ) -> None:
        """Do as `publish` where the policy of the scope lets the caller manage keys, also once it is signed.

        Raises:
            AccessDenied: It does not any more.
            Conflict: Somebody else changed the charter meanwhile, or the policy at the same moment.
        """

        def decided(publication: Publication, draft: CharterDraft) -> Plan:
            return plan(publication, draft, *self._authority.decide_now(publication, "key.manage"))

        for _ in range(WRITES_MAX):
            try:
                self.publish(draft, decided, settle, around)
            except PolicyMoved as error:
                self._authority.require("key.manage", "")
                raise Conflict(error.message, hint="try again") from None
            except StagingMoved:
                continue  # what was settled is so no more
            return
        raise too_busy()

    def publish(
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
        prepared = self.prepare(draft, plan, around)
        if prepared is not None:
            signatures = self.sign_once(prepared)
            settle()
            prepared.publish(signatures)

    def prepare(
        self,
        draft: Callable[[], CharterDraft | None],
        plan: Callable[[Publication, CharterDraft], Plan],
        around: PartChange | None = None,
    ) -> Prepared | None:
        """Return a change that is to be signed, None where a draft finds nothing to change.

        Args:
            draft: Returns the change as the newest state has it.
            plan: Plans what goes with it.
            around: Looks at another part of the vault in the same commit.
        """
        self._opened.refresh()
        drafted = draft()
        if drafted is None:
            return None
        charter = self._charter_after(drafted)
        early = known_grants(self._opened, drafted.keyring, *drafted.heir) if drafted.heir is not None else []
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
                planned.join(note_reader(self._authority, publication, drafted.reader))
            signed = SignedOrder(order, signatures[1]) if order is not None else None
            self._orders.complete_plan(publication, planned, charter, signed)
            return self._with_charter(publication, planned, SignedCharter(charter, signatures[0]), drafted.change)

        def publish(signatures: Sequence[Signatures]) -> None:
            for start in range(0, len(early), STAGE_LIMIT_OPERATIONS):
                self._opened.store.stage(early[start : start + STAGE_LIMIT_OPERATIONS])
            planner = partial(signed_plan, signatures)
            with self._orders.giving():
                self._orders.withdraw(charter)
                if around is None:
                    self._opened.publisher.publish(planner)
                else:
                    publish_together([around, PartChange(self._opened, [planner])])
                if self._opened.replica.seat is not None:
                    self._opened.replica.seat.sign_with(self.keeper)
                give_late(self._opened, late)

        return Prepared(charter, messages, publish, self.keeper, signed_plan)

    def sign_once(self, prepared: Prepared) -> list[Signatures]:
        """Have a change signed; people are asked once, however often it is tried.

        Raises:
            SignaturesMissing: Too few administrators signed.
        """
        messages = prepared.messages
        if messages not in self._signed:
            self._signed[messages] = self._signatories.sign(messages, f"the charter of `{prepared.charter.path}`")
        return self._signed[messages]

    # --- pieces ------------------------------------------------------------------------------------------------------

    def _charter_after(self, draft: CharterDraft) -> Charter:
        before = charter_of(self._opened)
        return before._replace(
            serial=before.serial + 1,
            previous=before.digest,
            keys=keys_digest(draft.keyring),
            keeper=self.keeper.public_key().public_bytes_raw(),
            parties=draft.parties,
            excluded=before.excluded if draft.excluded is None else draft.excluded,
        )

    def _with_charter(
        self, publication: Publication, plan: Plan, signed: SignedCharter, change: Mapping[str, object]
    ) -> Plan:
        """Complete a plan by the charter that goes with it."""
        plan.charter, plan.writer = signed, self.keeper
        new = NewVersion(self._authority.identity.principal, self._opened.clock.now_ns())
        plan.join(Drafts(self._opened, publication).write(CHARTER_PATH, charter_content(signed), new))
        charter = signed.charter
        obj = {"path": charter.path, "rev": charter.serial, "digest": charter.digest.hex(), **change}
        # Of the records the first carries the changes of the index.
        plan.records.insert(0, self._authority.session().record(Event.SCOPE_CHANGED, obj))
        return plan


def too_busy() -> StoreBusy:
    """Return the error for a change that was overtaken every time."""
    message = "others change the policy or the members of roles all the time"
    return StoreBusy(message, hint="`securecfg scope administrators resume` brings them to the scopes")
