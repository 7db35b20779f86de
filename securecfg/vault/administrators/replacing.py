"""Replacing the administrators of a vault's scopes, and the key of the vault's own that opens them.

All that has to be signed is signed first. Then the vault says who the administrators are, which is the point of no
return; then each scope is put under them, in one publication. A kill anywhere leaves scopes that are as before or as
after, and `resume` goes on with those that are as before.
"""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from securecfg.audit import Event
from securecfg.errors import (
    Conflict,
    InvalidMetadata,
    RollbackSuspected,
    SecurecfgError,
    SignaturesMissing,
    SlotRemoved,
    Unavailable,
)
from securecfg.keys.trust import ADMINISTRATORS_MAX, Trust
from securecfg.vault.administration import to_document
from securecfg.vault.commits.publishing import Plan
from securecfg.vault.drafts import Drafts, NewVersion
from securecfg.vault.keys.departures import newest_departure
from securecfg.vault.paths import SUCCESSION_PATH
from securecfg.vault.scopes.opening import charter_of, trusts_of
from securecfg.vault.scopes.registry import (
    ADMINISTRATORS_PATH,
    OWN_KEY_PATH,
    Administrators,
    OwnKeys,
    draft_administrators,
    draft_own_keys,
    new_own_key,
    read_administrators,
    read_own_keys,
)
from securecfg.vault.scopes.rights import rights_to_words
from securecfg.vault.scopes.scopes import Scopes
from securecfg.vault.trust.certificates import CERTIFICATES_PATH, Certificates
from securecfg.vault.trust.signatories import HeldKeys
from securecfg.vault.trust.successions import SUCCESSION_BYTES_MAX, step_message

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from securecfg.keys import Identity
    from securecfg.keys.trust import Signatures
    from securecfg.policy import Decision
    from securecfg.vault.authority import Authority
    from securecfg.vault.commits.publishing import Publication
    from securecfg.vault.drafts import Content
    from securecfg.vault.scopes.changes import ScopeChanges
    from securecfg.vault.scopes.chartering import Prepared
    from securecfg.vault.scopes.charters import Charter
    from securecfg.vault.session import Session
    from securecfg.vault.trust.signatories import Signatories, Signing

    Progress = Callable[[int, int], None]
    Keepers = dict[str, Ed25519PrivateKey]


@dataclass(frozen=True, slots=True)
class AdministratorsInfo:
    """Who signs for the scopes of a vault.

    Attributes:
        threshold: How many of them have to.
        people: Their identities; none where the vault's own key is the administrator.
        serial: How often administrators were replaced.
        pending: The scopes that are as former administrators left them, or that a former key of the vault opens.
        damaged: The scopes that the vault's own key does not open; they are left as they are.
        is_exposed: Whether somebody may know the vault's own key whose key of the vault was removed since.
    """

    threshold: int
    people: Sequence[Identity]
    serial: int
    pending: Sequence[str]
    damaged: Sequence[str]
    is_exposed: bool


class AdministratorChanges(Scopes):
    """Who signs for the scopes of a vault that its root has opened.

    Args:
        authority: Decides and records in the vault.
        signing: Returns who signs for some administrators; None where the vault's own key is the only one.
    """

    def __init__(self, authority: Authority, signing: Signing | None = None) -> None:
        """Change nothing yet."""
        super().__init__(authority)
        self._signing_for = signing
        self._damaged: dict[str, SecurecfgError] = {}
        self._left: dict[str, SecurecfgError] = {}  # these open, and are left as they are all the same

    def look(self) -> AdministratorsInfo:
        """Return who the administrators are.

        Raises:
            AccessDenied: The caller may not `key.manage`.
        """
        self._authority.require("key.manage", "")
        administrators = self._administrators()
        trust, people = administrators.trust, administrators.people
        named = [people[key] for key in trust.administrators if key in people]
        with ExitStack() as stack:
            pending = [charter_of(inside.opened).path for inside in self._behind(stack, self._own_keys())]
        damaged, exposed = sorted(self._damaged), self._is_exposed()
        return AdministratorsInfo(trust.threshold, named, trust.serial, pending, damaged, exposed)

    def set(self, people: Sequence[Identity], threshold: int, progress: Progress | None = None) -> AdministratorsInfo:
        """Make some people the administrators, of whom a number has to sign; none hand back to the vault's own key.

        The administrators of today sign that they hand over, and those of tomorrow sign each scope's charter anew, so
        that nobody is made one who cannot sign.

        Raises:
            AccessDenied: The caller may not `key.manage`.
            InvalidMetadata: Somebody is named twice, or the number cannot be reached.
            SignaturesMissing: Too few of those of today or of tomorrow signed; nothing was changed.
            Conflict: Somebody else changed the administrators meanwhile, or a scope of theirs is still to be finished.
            CommitUnknown, StoreBusy, StoreFailed: As for a write; where scopes are left, `resume` goes on.
        """
        self._authority.require("key.manage", "")
        own, before = self._own_keys(), self._administrators()
        keys = tuple(person.verifier for person in people) or (own.current.signing_key,)
        if not 0 < threshold <= len(keys) <= ADMINISTRATORS_MAX or len(set(keys)) < len(keys):
            message = f"{threshold} of {len(keys)} administrators cannot be"
            hint = f"name each of at most {ADMINISTRATORS_MAX} once, and no more signatures than there are people"
            raise InvalidMetadata(message, hint=hint)
        trust = Trust(keys, threshold, before.trust.serial + 1)
        self._replace(own, before, own, trust, people, progress)
        return self._finished()

    def rotate(self, progress: Progress | None = None) -> AdministratorsInfo:
        """Replace the key of the vault's own that opens its scopes; each gets new keys, as when a role departs.

        Where that key is the administrator, it signs that its successor is.

        Raises:
            As for `set`.
            DestroyPending: It is done, but bytes of old keys may lie in the store's log until another reader lets go.
        """
        self._authority.require("key.manage", "")
        self._rotate(progress)
        return self._finished()

    def _rotate(self, progress: Progress | None) -> None:
        before, administrators = self._own_keys(), self._administrators()
        after = OwnKeys(new_own_key(), former=tuple(before.all))
        trust = administrators.trust
        if trust.administrators == (before.current.signing_key,):
            trust = Trust((after.current.signing_key,), 1, trust.serial + 1)
        self._replace(before, administrators, after, trust, list(administrators.people.values()), progress)

    def resume(self, progress: Progress | None = None, *, accept: Collection[str] = ()) -> AdministratorsInfo:
        """Go on where `set` or `rotate` was interrupted, and rotate where the own key may be known to somebody.

        Policy, roles and members are brought to the scopes that lack them for want of signatures. It does no harm where
        nothing is to be done.

        Args:
            progress: Called with how much is done, and of how much.
            accept: The paths of scopes that are taken over also where former administrators changed them after they had
                handed over: whoever says so has looked at what they did.

        Raises:
            SignaturesMissing: Too few administrators signed.
            RollbackSuspected: Former administrators changed a scope after they had handed over.
            As for `rotate`.
        """
        self._finish_earlier(progress, accept)
        if self._is_exposed():
            self._rotate(progress)
        try:
            self.propagate()
        except Unavailable:
            raise
        except SecurecfgError:
            if not (self._damaged or self._left):
                raise
        return self._finished()

    def finish(self, progress: Progress | None = None, accept: Collection[str] = ()) -> None:
        """Go on where `set` or `rotate` was interrupted, and no more.

        Args:
            progress: As for `resume`.
            accept: As for `resume`.

        Raises:
            SignaturesMissing: Too few administrators signed.
            RollbackSuspected: Former administrators changed a scope after they had handed over.
            As for `rotate`.
        """
        self._finish_earlier(progress, accept)
        for error in self._left.values():
            raise error

    # --- steps -------------------------------------------------------------------------------------------------------

    def _finish_earlier(self, progress: Progress | None, accept: Collection[str]) -> None:
        """Go on where an earlier change was interrupted; scopes in which that fails keep no other from it."""
        self._authority.require("key.manage", "")
        self._left = {}
        if read_own_keys(self._opened) is not None:
            self._bring_over({}, progress, accept)

    def _replace(  # noqa: PLR0917 - from what to what
        self,
        own_before: OwnKeys,
        before: Administrators,
        own: OwnKeys,
        trust: Trust,
        people: Sequence[Identity],
        progress: Progress | None,
    ) -> None:
        known = self._opened.entry(ADMINISTRATORS_PATH), self._opened.entry(OWN_KEY_PATH)
        with ExitStack() as stack:
            if any(charter_of(inside.opened).path not in self._left for inside in self._behind(stack, own_before)):
                message = "the last change of administrators is not finished"
                raise Conflict(message, hint="`securecfg scope administrators resume` finishes it")
        succession = before.succession
        messages: list[bytes] = []
        if trust != before.trust:
            messages = [step_message(self._vault_id, before.trust, trust)]
            (handed_over,) = self._signatories_of(before.trust, own_before).sign(messages, "other administrators")
            succession = succession.extended(trust, handed_over)
            if len(succession.to_json()["succession"]) > SUCCESSION_BYTES_MAX:
                message = "the administrators were replaced too often to be followed"
                raise Conflict(message, hint="move what the vault holds into a new one")
        after = Administrators(succession, {person.verifier: person for person in people})
        with ExitStack() as stack:
            publish, awaited = self._prepare(stack, own, after, messages)
            self._note(known, own if own != own_before else None, after._replace(awaited=awaited))
            keepers = publish()
        self._bring_over(keepers, progress)

    def _finished(self) -> AdministratorsInfo:
        """Return who the administrators are, where that is so in every scope.

        A scope that does not open keeps the others from nothing, nor does one in which a role takes part that the vault
        does not know: it is taken over with it, as it can be revoked only then.

        Raises:
            Tampered: The vault does not know a role in a scope.
            SecurecfgError: A scope was left as it is; this is what it could not be opened for.
        """
        info = self.look()
        for path, error in self._damaged.items():
            error.hint = f"all other scopes are done; restore `{path}`, then `securecfg scope administrators resume`"
            raise error
        for error in self._left.values():
            raise error
        with ExitStack() as stack:
            for inside in self._open_all(stack):
                inside.verify_parties()
        return info

    def _open_all(self, stack: ExitStack) -> list[ScopeChanges]:
        """Return, open, all scopes; those that the vault's own key does not open, or that are gone, are noted."""
        found: list[ScopeChanges] = []
        self._damaged = {}
        for path in self._registry().scopes:
            try:
                found.append(stack.enter_context(self._inside(path, is_behind=True)))
            except Unavailable:
                raise
            except SecurecfgError as error:
                self._damaged[path] = error
        return found

    def _note(self, known: tuple[object, object], own: OwnKeys | None, after: Administrators) -> None:
        """Write into the vault who the administrators are, and what its own key is."""
        new = NewVersion(self._authority.identity.principal, self._opened.clock.now_ns())
        obj: dict[str, object] = {"role": "administrator"}
        obj |= {"members": sorted(person.name for person in after.people.values())}

        def plan(publication: Publication, session: Session, decision: Decision) -> Plan:
            if (publication.entry(ADMINISTRATORS_PATH), publication.entry(OWN_KEY_PATH)) != known:
                message = "somebody else changed the administrators at the same moment"
                raise Conflict(message, hint="look at `securecfg scope administrators show`, and try again")
            drafts = Drafts(self._opened, publication)
            plan = draft_administrators(drafts, after, new)
            if own is not None:
                plan.join(draft_own_keys(drafts, own._replace(made=publication.next_id), new))
            plan.records = [session.record(Event.ROLE_CHANGED, obj, decision=decision)]
            return plan

        self._authority.publish_allowed("key.manage", plan)

    def _bring_over(self, keepers: Keepers, progress: Progress | None, accept: Collection[str] = ()) -> None:
        """Put every scope under the administrators and the own key of today, and forget former keys of the vault.

        A scope that has a charter of former administrators which was not there when they handed over is left as it is.
        """
        own, administrators = self._own_keys(), self._administrators()
        with ExitStack() as stack:
            behind = self._behind(stack, own)
            for inside in behind:
                charter = charter_of(inside.opened)
                is_former = trusts_of(inside.opened)[-1] != administrators.trust
                is_awaited = administrators.awaited.get(charter.path) == charter.digest or charter.path in accept
                if is_former and not is_awaited:
                    self._left[charter.path] = _changed_by_former(charter)
            if any(charter_of(inside.opened).path not in keepers.keys() | self._left.keys() for inside in behind):
                publish, _ = self._prepare(stack, own, administrators, [])
                keepers = keepers | publish()
        for path in self._registry().scopes:
            if path not in self._damaged.keys() | self._left.keys():
                try:
                    with self._inside(path) as inside:
                        inside.finish(keepers.get(path), progress)
                except Unavailable:
                    raise
                except SecurecfgError as error:
                    self._left[path] = error
        if (own.former or administrators.awaited) and not (self._damaged or self._left):
            self._forget_former(own, administrators)

    def _forget_former(self, known: OwnKeys, finished: Administrators) -> None:
        """Note that no scope is under former administrators, or opened by a former key of the vault, any more.

        Where somebody has begun the next change since, what is former is still needed.
        """
        new = NewVersion(self._authority.identity.principal, self._opened.clock.now_ns())

        def plan(publication: Publication) -> Plan:
            plan, drafts = Plan(), Drafts(self._opened, publication)
            own = read_own_keys(self._opened)
            if own is None:
                return plan
            administrators = read_administrators(self._opened, own.current)
            if own.current.signing_key != known.current.signing_key or administrators.trust != finished.trust:
                return plan
            if administrators.awaited:
                plan.join(draft_administrators(drafts, administrators._replace(awaited={}), new))
            if own.former:
                plan.join(draft_own_keys(drafts, own._replace(former=()), new))
            if not plan.changes:
                return plan
            plan.records = [self._authority.session().record(Event.ROLE_CHANGED, {"role": "administrator"})]
            return plan

        self._opened.publisher.publish(plan)

    def _behind(self, stack: ExitStack, own: OwnKeys) -> list[ScopeChanges]:
        """Return, open, the scopes that are not under the administrators, or the own key, of today."""
        trust = self._administrators().trust
        found: list[ScopeChanges] = []
        for inside in self._open_all(stack):
            own_key = charter_of(inside.opened).own_key()
            is_done = trusts_of(inside.opened)[-1] == trust and own.current.signing_key == own_key
            if not is_done or inside.is_behind:
                found.append(inside)
        return found

    def _prepare(
        self, stack: ExitStack, own: OwnKeys, after: Administrators, accepted: Sequence[bytes]
    ) -> tuple[Callable[[], Keepers], dict[str, bytes]]:
        """Have signed what takes the scopes over to some administrators, and return what does that.

        With it come the digests of the charters that are taken over, by the paths of scopes.

        Args:
            stack: Holds the scopes open.
            own: The vault's own keys from then on.
            after: The administrators from then on.
            accepted: What those sign besides: that others hand over to them.
        """
        signatories = self._signatories_of(after.trust, own)
        certificates = Certificates(self._vault_id, signatories)
        scopes = []
        for inside in self._open_all(stack):
            is_done = trusts_of(inside.opened)[-1] == after.trust and not inside.is_behind
            if is_done and own.current.signing_key == charter_of(inside.opened).own_key():
                continue
            if charter_of(inside.opened).path in self._left:
                continue
            scopes.append((inside, self._learn(inside, certificates)))

        def documents_of(keys: Mapping[str, bytes]) -> Mapping[bytes, Content]:
            documents = {}
            if after.succession.steps:
                documents[SUCCESSION_PATH] = to_document(after.succession.to_json())
            members = {name: self._members(name) for name in keys}
            documents[CERTIFICATES_PATH] = to_document(certificates.to_json(keys, members))
            return documents

        prepared: list[Prepared] = []
        awaited: dict[str, bytes] = {}
        for inside, keys in scopes:
            charter = charter_of(inside.opened)
            awaited[charter.path] = charter.digest
            try:
                one = inside.prepare_succession(after.trust, own.current, partial(documents_of, keys))
            except Unavailable:
                raise
            except SecurecfgError as error:
                self._left[charter.path] = error
                continue
            if one is not None:
                prepared.append(one)
        all_keys = {name: key for _, keys in scopes for name, key in keys.items()}
        missing = certificates.missing(all_keys, {name: self._members(name) for name in all_keys})
        charters = [message for one in prepared for message in one.messages]
        signed = signatories.sign([*accepted, *charters, *missing], "administrators of every scope")
        signed = signed[len(accepted) :]
        certificates.take(missing, signed[len(charters) :])

        def publish() -> Keepers:
            return self._publish_each(prepared, signed)

        return publish, awaited | {one.charter.path: one.charter.previous for one in prepared}

    def _publish_each(self, prepared: Sequence[Prepared], signed: Sequence[Signatures]) -> Keepers:
        """Publish what is signed; a scope in which that fails is left as it is, and keeps no other from it."""
        left, keepers = iter(signed), {}
        for one in prepared:
            signatures = [next(left) for _ in one.messages]
            try:
                # The key that the scope was opened with may be the one that goes.
                with suppress(SlotRemoved):
                    one.publish(signatures)
            except Unavailable:
                raise
            except SecurecfgError as error:
                self._left[one.charter.path] = error
            else:
                keepers[one.charter.path] = one.keeper
        return keepers

    def _is_exposed(self) -> bool:
        departed = newest_departure(self._opened)
        return departed is not None and departed >= self._own_keys().made

    def _signatories_of(self, trust: Trust, own: OwnKeys) -> Signatories:
        held = {key.signing_key: key.signer.sign for key in own.all}
        if set(trust.administrators) <= held.keys():
            return HeldKeys(trust, held)
        return self._signing_for(trust) if self._signing_for is not None else HeldKeys(trust, {})

    def _signing(self) -> Signatories:
        return self._signatories_of(self._administrators().trust, self._own_keys())


def _changed_by_former(charter: Charter) -> RollbackSuspected:
    roles = ", ".join(f"{party.role} ({' '.join(rights_to_words(party.rights))})" for party in charter.parties)
    message = f"former administrators changed `{charter.path}` after they had handed over; in it are: {roles}"
    accepts = f"`securecfg scope administrators resume --accept {charter.path}`"
    return RollbackSuspected(message, hint=f"restore it from a backup; if it is as it should be, {accepts}")


def replace_exposed_key(authority: Authority, signing: Signing | None, progress: Progress | None) -> None:
    """Replace the key of the vault's own that opens its scopes, after somebody's key of the vault was removed.

    Raises:
        SignaturesMissing: Administrators have to sign that, and too few did. The removal is done.
        As for `AdministratorChanges.rotate`.
    """
    if read_own_keys(authority.opened) is None:
        return
    try:
        AdministratorChanges(authority, signing).resume(progress)
    except SignaturesMissing as error:
        told = "the keys of the vault are changed, and those of its scopes are not: "
        error.hint = f"{told}`securecfg scope administrators resume` does that, with the signatures"
        raise
