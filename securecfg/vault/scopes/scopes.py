"""The sealed scopes of a vault, as its administrator makes and changes them."""

from __future__ import annotations

import secrets
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Self

from securecfg.audit import Event
from securecfg.crypto import generate_key
from securecfg.errors import (
    Conflict,
    InvalidMetadata,
    ScopeSealed,
    SecretNotFound,
    SecurecfgError,
    SignaturesMissing,
    StoreFailed,
    Unavailable,
)
from securecfg.keys import Purpose
from securecfg.keys.identity import format_identity
from securecfg.keys.role_keys import Certificate, RoleKey, RolePublic, membership_row_of, seal_membership
from securecfg.store import Put, Space
from securecfg.vault.administration import to_document
from securecfg.vault.commits.joint import PartChange, publish_together
from securecfg.vault.commits.publishing import Plan
from securecfg.vault.commits.staging import StagingMoved
from securecfg.vault.drafts import Drafts, NewVersion
from securecfg.vault.drops.memory import DropMemory
from securecfg.vault.drops.orders import Admission, droppers
from securecfg.vault.drops.rows import count_waiting
from securecfg.vault.index.in_memory import prefix_end
from securecfg.vault.members import IDENTITIES_PATH, identities_of, identities_to_json
from securecfg.vault.opened import POLICY_PATH, ROLES_PATH
from securecfg.vault.paths import SUCCESSION_PATH, check_role, path_to_bytes
from securecfg.vault.scopes.charters import BREAK_GLASS, DROP, LIST, OWN_ROLE, READ, WRITE
from securecfg.vault.scopes.founding import Founding, found_scope, rights_of_administrator
from securecfg.vault.scopes.making import (
    Footing,
    begin_making,
    changed_meanwhile,
    documents_of,
    fresh_registry,
    making,
    other_documents,
    plan_made,
    verify_apart,
    verify_documents,
    verify_none_begun,
    verify_unmounted,
)
from securecfg.vault.scopes.opening import Doorway, charter_of, gone
from securecfg.vault.scopes.registry import (
    OWN_KEY_PATH,
    Administrators,
    OwnKeys,
    Registry,
    ScopePlace,
    draft_own_keys,
    draft_registry,
    new_own_key,
    read_administrators,
    read_break_glass,
    read_own_keys,
    read_registry,
)
from securecfg.vault.scopes.rights import RIGHTS, no_collector, rights_to_words
from securecfg.vault.scopes.rotation import ScopeRotation
from securecfg.vault.state.anchor import AnchorFile
from securecfg.vault.trust.certificates import CERTIFICATES_PATH, Certificates, read_certificates, signatures_from_json
from securecfg.vault.trust.first_seen import fingerprint_of
from securecfg.vault.trust.signatories import HeldKeys

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from securecfg.keys import Identity as PublicHalf
    from securecfg.policy import Decision
    from securecfg.vault.authority import Authority
    from securecfg.vault.commits.publishing import Publication
    from securecfg.vault.drafts import Content
    from securecfg.vault.opened import OpenVault
    from securecfg.vault.scopes.changes import ScopeChanges
    from securecfg.vault.scopes.making import Documents
    from securecfg.vault.session import Session
    from securecfg.vault.trust.signatories import Signatories, Signing

    Progress = Callable[[int, int], None]
    # `Scopes.create` hides the built-in name.
    Puts = list[Put]


@dataclass(frozen=True, slots=True)
class ScopeInfo:
    """A sealed scope, as far as its administrator sees it.

    Attributes:
        path: The subtree, ending in `/`.
        number: Its partition.
        is_shared: Whether the administrator's key reads its values.
        revision: The serial of its charter.
        roles: The rights of each role: `list`, `read`, `write`.
        value_epochs: How many keys values are sealed under.
        waiting: How many dropped values wait; above the 1,000 that may wait, one more.
        excluded: The subtrees of it that are scopes of their own.
    """

    path: str
    number: int
    is_shared: bool
    revision: int
    roles: Mapping[str, tuple[str, ...]]
    value_epochs: int
    waiting: int
    excluded: tuple[str, ...] = ()


class Scopes:
    """The sealed scopes of a vault that its root has opened.

    Args:
        authority: Decides and records in the vault.
        signatories: Sign charters, and who is a member of a role; without them only the vault's own key does, where it
            is the administrator.
    """

    def __init__(self, authority: Authority, signatories: Signatories | None = None) -> None:
        """Open nothing yet."""
        self._authority = authority
        self._opened = authority.opened
        self._signatories = signatories
        self._kept: Certificates | None = None
        self._settled: Documents | None = None  # what those were made of that a scope gets with a key

    @classmethod
    def with_signing(cls, authority: Authority, signing: Signing | None) -> Self:
        """Return the scopes of a vault with those who sign for its administrators of today.

        Args:
            authority: Decides and records in the vault.
            signing: Returns who signs for some administrators; None where the vault's own key does.
        """
        opened = authority.opened
        opened.refresh()
        own = read_own_keys(opened)
        if own is None or signing is None:
            return cls(authority)
        trust = read_administrators(opened, own.current).trust
        return cls(authority, None if trust.administrators == (own.current.signing_key,) else signing(trust))

    def paths(self) -> list[str]:
        """Return the paths of all scopes, sorted.

        Raises:
            AccessDenied: The caller may not `key.manage`.
        """
        self._authority.require("key.manage", "")
        return sorted(self._registry().scopes)

    def show(self, path: str) -> ScopeInfo:
        """Return what a scope's charter says.

        Raises:
            AccessDenied: The caller may not `key.manage`.
            SecretNotFound: There is no such scope.
            Tampered: What is in it is not what its administrators and writers signed.
        """
        self._authority.require("key.manage", "")
        with self._inside(path) as inside:
            charter, keyring = charter_of(inside.opened), inside.opened.replica.keyring
            epochs = sum(entry.purpose == Purpose.VALUE for entry in keyring.keys)
            roles = {party.role: rights_to_words(party.rights) for party in charter.parties}
            number = self._registry().scopes[charter.path].number
            waiting, told = count_waiting(inside.opened.store), charter.excluded
            return ScopeInfo(charter.path, number, charter.is_shared, charter.serial, roles, epochs, waiting, told)

    def administrators_fingerprint(self) -> str:
        """Return what members compare before they believe the vault's administrators.

        Raises:
            SecretNotFound: The vault never had a sealed scope.
        """
        if read_own_keys(self._opened) is None:
            message = "the vault has no sealed scopes, and so no administrators that sign"
            raise SecretNotFound(message, hint="`securecfg scope create` makes one")
        return fingerprint_of(self._vault_id, self._administrators().trust)

    def signatories(self) -> Signatories:
        """Return who signs for the administrators of today.

        Raises:
            Conflict: Those who were asked are not the administrators any more.
        """
        return self._signing()

    def create(
        self,
        path: str,
        *,
        read: Sequence[str] = (),
        list: Sequence[str] = (),  # noqa: A002 - the right, as everywhere else
        write: Sequence[str] = (),
        drop: Sequence[str] = (),
        is_shared: bool = False,
    ) -> ScopeInfo:
        """Make a sealed scope of a subtree in which there is nothing yet.

        Args:
            path: The subtree, a path with or without `/` at its end.
            read: The roles that read values, and so list.
            list: The roles that only list.
            write: The roles that write, and so list; without any the administrator writes, who does not read.
            drop: The roles that hand values in, and need not even list; another one then has to read and write.
            is_shared: Whether the administrator, and so whoever opens the vault by its root, reads it too.

        Raises:
            AccessDenied: The caller may not `key.manage`.
            AlreadyExists: There is a scope at the path, in it or around it.
            Conflict: There are secrets below the path; `ScopeMoves.seal` takes them along. Or a scope is being made, or
                a store is mounted, in it or around it; or the own key, who signs, policy, roles or members were
                replaced meanwhile. Nothing was changed.
            InvalidMetadata: A role has no member with a public key, or is reserved, or some are to drop and none reads
                and writes.
            SignaturesMissing: Too few administrators signed.
            CommitUnknown, StoreBusy, StoreFailed: As for a write.
        """
        self._authority.require("key.manage", "")
        scope = scope_path(path)
        wanted = self.rights_of({"list": list, "read": read, "write": write, "drop": drop})
        self.verify_free(path)
        verify_collector(scope, wanted.values(), is_shared=is_shared)
        own = self._own_keys().current
        certificates = self._certificates()
        memberships: Puts = []
        documents = self._newest_documents()
        keys = {name: self._role_public(name, certificates, memberships) for name in wanted}
        scope_id = secrets.token_bytes(16)
        certificates.complete(keys, {name: self._members(name) for name in keys})
        founding = Founding(
            self._vault_id,
            scope_id,
            scope,
            is_shared,
            {name: (rights, keys[name]) for name, rights in wanted.items()},
            self._documents(keys, certificates),
            self._registry().within(scope),
        )

        def begin() -> ScopePlace:
            self._stage_memberships(memberships, documents)
            return begin_making(self._authority, scope, keys, scope_id, documents=documents)

        with making(self._authority, scope, begin) as begun:
            signing, creator = self._signing(), self._authority.identity
            footing = Footing.of(self._opened, founding, own, signing.trust)
            found_scope(begun.open_store, founding, own, signing, creator, clock=self._opened.clock)
            made = plan_made(self._authority, begun, footing, documents)
            change = PartChange(self._opened, [partial(self._plan_free, scope), made])
            try:
                publish_together([change], complete=[begun.part])
            except StagingMoved:
                self._authority.require("key.manage", "")
                raise other_documents() from None
        return self.show(scope)

    def verify_free(self, path: str) -> None:
        """Check that a scope can be made at a path.

        Raises:
            AlreadyExists: There is a scope at the path, in it or around it.
            Conflict: There are secrets below the path, or a scope is being made, or a store is mounted, in it or around
                it.
        """
        scope = scope_path(path)
        registry = self._registry()
        verify_apart(registry, scope)
        verify_none_begun(registry, scope, self._opened.clock.now_ns())
        verify_unmounted(self._opened, scope)
        first = scope.encode()
        if self._opened.entries(first, prefix_end(first)):
            message = f"there are secrets below `{scope}` already"
            raise Conflict(message, hint=f"`securecfg scope create {scope} --move` seals what is there")

    def grant(self, path: str, role: str, right: str) -> ScopeInfo:
        """Give a role a right in a scope: `list`, `read`, `write` or `drop`.

        Where the administrator does not read the values himself, a new reader reads what is written from now on; what
        was written before is given to him by the next other reader that opens the scope.

        Raises:
            AccessDenied: The caller may not `key.manage`.
            SecretNotFound: There is no such scope.
            InvalidMetadata: The role has no member with a public key, or is reserved.
            Conflict: Somebody else changed the scope, or gave the role another key, at the same moment; or, where the
                role gets its first key, changed the policy or the members of roles before all was signed.
            CommitUnknown, StoreBusy, StoreFailed: As for a write.
        """
        self._authority.require("key.manage", "")
        name = check_role(role)
        memberships: list[Put] = []
        scope = scope_path(path)
        documents = self._newest_documents()
        with self._inside(path) as inside:
            public = RolePublic(self._role_public(name, self._certificates(), memberships))

            def register() -> Mapping[bytes, Content]:
                # Whoever is removed once the key is registered loses his row with the role.
                is_new = bool(memberships) and self._registry().roles.get(name) != public.public_key
                if is_new:
                    self._stage_memberships(memberships, documents)
                made_of = documents if is_new else None
                self._register(scope, inside.opened.replica.vault_id, name, public.public_key, made_of)
                return self._documents_with(inside, name, public)

            inside.grant(name, public, self._rights(name, right), register, self._holding(name, public))
        self.propagate([scope])
        return self.show(path)

    def revoke(self, path: str, role: str, right: str, progress: Progress | None = None) -> ScopeInfo:
        """Take a right from a role in a scope; without `list` it has none. It does no harm to take it again.

        Values that are written from now on are sealed from a role that read them; those that were written before it may
        know, and they want to be replaced.

        Raises:
            AccessDenied: The caller may not `key.manage`.
            SecretNotFound: There is no such scope or role, or the right cannot be taken away.
            DestroyPending: It is done, but bytes of old keys may lie in the store's log until another reader lets go.
            CommitUnknown, StoreBusy, StoreFailed: As for a write.
        """
        self._authority.require("key.manage", "")
        name = check_role(role)
        with self._inside(path) as inside:
            is_party = charter_of(inside.opened).party(name) is not None
            if not is_party and name not in self._registry().roles:
                message = f"`role:{name}` never had a right in a sealed scope"
                raise SecretNotFound(message, hint=f"`securecfg scope show {path}` shows who has which")
            inside.revoke(name, right, progress)
        return self.show(path)

    def propagate(self, only: Collection[str] | None = None) -> None:
        """Bring the policy, the roles and the members of the vault to its scopes, where they differ.

        Args:
            only: The paths of the scopes that a change concerns; None for all.

        Raises:
            SignaturesMissing: Too few administrators signed who is a new member of a role; all else is done.
            CommitUnknown, StoreBusy, StoreFailed: As for a write.
        """
        registry = self._registry()
        if not registry.scopes:
            return
        certificates = self._certificates()
        failures: list[SecurecfgError] = []
        scopes: dict[str, dict[str, bytes]] = {}
        for path in registry.scopes:
            if only is not None and path not in only:
                continue
            try:
                with self._inside(path) as inside:
                    scopes[path] = self._learn(inside, certificates)
            except SecurecfgError as error:
                # The others get it all the same.
                failures.append(error)
        keys = {name: key for those in scopes.values() for name, key in those.items()}
        try:
            certificates.complete(keys, {name: self._members(name) for name in keys})
        except SignaturesMissing as error:
            failures.append(error)
        for path in scopes:
            try:
                with self._inside(path) as inside:
                    inside.write_documents(partial(self._newest_for, inside, certificates))
                    has_drops = bool(droppers(charter_of(inside.opened).parties))
                if has_drops:
                    with self._inside(path) as inside:
                        inside.orders.ask_for_admission()
            except SecurecfgError as error:
                failures.append(error)
        if failures:
            raise failures[0]

    def has_member(self, role: str, principal: str) -> bool:
        """Return whether somebody has a role by what the vault says, and not by a grant table."""
        self._opened.refresh()
        members: dict[str, list[str]] = self._opened.system_document(ROLES_PATH, {})
        return principal in members.get(role, ())

    def holders(self, role: str, key: bytes) -> list[str]:
        """Return which members of a role have come to a key of it, by their names."""
        store = self._opened.store
        return [
            member.name
            for member in self._members(role)
            if store.get(Space.GRANT, membership_row_of(member, key)) is not None
        ]

    def adopt(self) -> int:
        """Accept every scope as it is, as the vault around them was accepted, and return how many there are.

        Raises:
            ScopeSealed: One does not open, or is not what was signed in it; the others are accepted.
            StoreFailed: An anchor cannot be written.
        """
        door = self.doorway()
        if door is None or door.path is None:
            return 0
        count = 0
        closed = []
        for path, place in self._registry().scopes.items():
            try:
                found = door._replace(is_adopting=True).open(place.number, (path, place.scope_id))
            except Unavailable:
                raise
            except SecurecfgError:
                found = None
            if found is not None:
                try:
                    AnchorFile(place.scope_id, door.path).replace(found[0].mark())
                    DropMemory(door.path, place.scope_id).replace(charter_of(found[0]).serial)
                except OSError as error:
                    message = f"the anchor of `{path}` cannot be written: {error.strerror}"
                    raise StoreFailed(message) from None
                finally:
                    found[0].close()
                count += 1
            else:
                closed.append(path)
        for path in closed:
            message = f"the vault's own key does not open the scope `{path}`; the others are accepted"
            raise ScopeSealed(message, hint="it may be damaged: restore the vault from another backup")
        return count

    # --- pieces ------------------------------------------------------------------------------------------------------

    def doorway(self) -> Doorway | None:
        """Return how scopes are opened with the vault's own key, None where there are none."""
        own = read_own_keys(self._opened)
        return None if own is None else self._doorway(own)

    def _doorway(self, own: OwnKeys) -> Doorway:
        opened, administrators = self._opened, read_administrators(self._opened, own.current)
        first, newest = administrators.succession.first, administrators.trust
        clock, options = opened.clock, opened.options
        return Doorway(opened.store, opened.path, clock, options, self._vault_id, first, own.all, newest=newest)

    def rights_of(self, roles: Mapping[str, Sequence[str]]) -> dict[str, int]:
        """Return the rights of each role, from the roles of each right.

        Raises:
            InvalidMetadata: One is not a role.
        """
        wanted: dict[str, int] = {}
        for right, names in roles.items():
            for role in names:
                name = check_role(role)
                wanted[name] = wanted.get(name, 0) | self._rights(name, right)
        return wanted

    def _rights(self, role: str, right: str) -> int:
        """Return a right in bits, marked where the role is break-glass: nothing of it opens without a record."""
        opens = bool(RIGHTS[right] & LIST)
        return RIGHTS[right] | (BREAK_GLASS if opens and role in read_break_glass(self._opened) else 0)

    def _administrators(self) -> Administrators:
        own = self._own_keys()
        return read_administrators(self._opened, own.current)

    def _signing(self) -> Signatories:
        """Return who signs for the administrators of today.

        Raises:
            Conflict: Those who were asked are not the administrators any more.
        """
        trust = self._administrators().trust
        if self._signatories is None:
            return HeldKeys(trust, {key.signing_key: key.signer.sign for key in self._own_keys().all})
        if self._signatories.trust != trust:
            message = "the administrators are not those whose signatures were asked for"
            raise Conflict(message, hint="`securecfg scope administrators show` shows them")
        return self._signatories

    def _certificates(self) -> Certificates:
        signatories = self._signing()
        if self._kept is None or self._kept.trust != signatories.trust:
            self._kept = Certificates(self._vault_id, signatories)
            if self._signatories is not None:
                # People are not asked for what they have signed.
                for path in self._registry().scopes:
                    with suppress(SecurecfgError), self._inside(path) as inside:
                        self._learn(inside, self._kept)
        return self._kept

    def _learn(self, inside: ScopeChanges, certificates: Certificates) -> dict[str, bytes]:
        """Take up the certificates of an open scope, and return the public keys of the roles in it."""
        names = {party.role for party in charter_of(inside.opened).parties}
        keys = {name: key for name, key in self._registry().roles.items() if name in names}
        certificates.learn(read_certificates(inside.opened), keys, {name: self._members(name) for name in keys})
        return keys

    def _registry(self) -> Registry:
        self._opened.refresh()
        return read_registry(self._opened)

    def _own_keys(self) -> OwnKeys:
        """Return the vault's own key, made now where there is none."""
        self._opened.refresh()
        known = read_own_keys(self._opened)
        if known is None:
            new = NewVersion(self._authority.identity.principal, self._opened.clock.now_ns())
            made = new_own_key()

            def plan(publication: Publication) -> Plan:
                is_there = publication.entry(OWN_KEY_PATH) is not None
                if is_there or read_own_keys(self._opened) is not None:
                    return Plan()
                keys = OwnKeys(made, publication.next_id)
                plan = draft_own_keys(Drafts(self._opened, publication), keys, new)
                session = self._authority.session()
                plan.records = [session.record(Event.ROLE_CHANGED, {"role": OWN_ROLE})]
                return plan

            self._opened.publisher.publish(plan)
            known = read_own_keys(self._opened)
        if known is None:
            raise TypeError
        return known

    def _role_public(self, name: str, certificates: Certificates, memberships: list[Put]) -> bytes:
        """Return the public key of a role, made now where it has none yet.

        Args:
            name: The role.
            certificates: Get those of its members.
            memberships: Get what gives a new key to its members, to be staged before anybody else hears of the key.

        Raises:
            InvalidMetadata: It has no member with a public key, or is reserved.
            SignaturesMissing: Too few administrators signed who its members are.
        """
        if name == OWN_ROLE:
            message = f"`role:{name}` is the administrator's own in every scope"
            raise InvalidMetadata(message, hint="name another role")
        known = self._registry().roles.get(name)
        if known is not None:
            return known
        return self._new_role_key(name, certificates, memberships)

    def _new_role_key(self, name: str, certificates: Certificates, memberships: list[Put]) -> bytes:
        """Make a key for a role, seal it to all its members, forget it, and return its public half.

        Args:
            name: The role.
            certificates: Get those of its members.
            memberships: Get what gives the key to its members, to be staged before anybody else hears of the key.

        Raises:
            InvalidMetadata: It has no member with a public key.
            SignaturesMissing: Too few administrators signed who its members are.
        """
        members = self._members(name)
        if not members:
            message = f"no member of `role:{name}` has a public key"
            hint = f"`securecfg role add {name} --member PRINCIPAL --identity PUBLIC-FILE` adds one"
            raise InvalidMetadata(message, hint=hint)
        key = RoleKey(name, generate_key())
        certificates.complete({name: key.public_key}, {name: members})
        memberships += [
            Put(
                Space.GRANT,
                membership_row_of(member, key.public_key),
                seal_membership(key.seed, certificates.of(name, key.public_key, member), self._vault_id, member),
            )
            for member in members
        ]
        return key.public_key

    def _keys_of_roles(self, opened: OpenVault) -> dict[str, tuple[bytes, list[Admission]]]:
        """Return the public keys of roles, each with the members certified in a scope who lack the other half.

        The vault's own is among them.

        Where a scope does not know the newest key of a role yet it is the one that it knows.
        """
        document = read_certificates(opened)
        charter, registry = charter_of(opened), self._registry()
        trust, found = self._administrators().trust, {}
        for name, newest in registry.roles.items():
            party, formers = charter.party(name), registry.formers.get(name, ())
            known = (each for each in formers if party and RolePublic(each).signing_key == party.signing_key)
            key = next(known, newest)
            lacking = []
            for member in self._members(name) if name in document else ():
                if self._opened.store.get(Space.GRANT, membership_row_of(member, key)) is None:
                    signatures = signatures_from_json(document[name].get(member.name, []))
                    if Certificate(name, key, trust, signatures).is_signed(self._vault_id, member):
                        lacking.append(Admission(format_identity(member), signatures))
            found[name] = key, lacking
        own = self._own_keys()
        held = (each for each in own.all if each.signing_key == charter.own_key())
        return found | {OWN_ROLE: (next(held, own.current).public_key, [])}

    def _members(self, role: str) -> list[PublicHalf]:
        members: dict[str, list[str]] = self._opened.system_document(ROLES_PATH, {})
        identities = identities_of(self._opened)
        return [identities[member] for member in members.get(role, []) if member in identities]

    @property
    def _vault_id(self) -> bytes:
        return self._opened.replica.vault_id

    def _newest_documents(self) -> Documents:
        """Return the policy, the roles and the members in force, of which keys of roles and scopes are made."""
        self._opened.refresh()
        return documents_of(self._opened)

    def _stage_memberships(self, memberships: Sequence[Put], documents: Documents) -> None:
        """Put down what gives the new keys of roles to their members, if these are so still.

        Who is removed from here on finds the key registered, and takes the row away with the role; or is found by who
        registers it.

        Args:
            memberships: The rows.
            documents: Those that tell of the members that the keys were sealed to.

        Raises:
            Conflict: Somebody changed them.
        """
        if documents != self._newest_documents():
            raise other_documents()
        self._opened.store.stage(memberships)

    def _plan_free(self, scope: str, publication: Publication) -> Plan:
        """Plan nothing, where there is still nothing below a scope that is made without it.

        Raises:
            Conflict: There is something.
        """
        if publication.holds_below(scope.encode()):
            raise changed_meanwhile()
        return Plan()

    def _register(self, scope: str, scope_id: bytes, name: str, key: bytes, documents: Documents | None) -> None:
        """Note the public key of a role, before a scope has it.

        Args:
            scope: The path of the scope.
            scope_id: The vault id in it, 16 bytes.
            name: The role.
            key: Its public key.
            documents: Those that a new key was made of, which have to be in force still; None where it is none.

        Raises:
            AccessDenied: The caller may not `key.manage`.
            Conflict: The scope is no more, or the role has another key by now, or the documents are others.
        """
        new = NewVersion(self._authority.identity.principal, self._opened.clock.now_ns())

        def plan(publication: Publication, session: Session, decision: Decision) -> Plan:
            registry = fresh_registry(self._opened, publication)
            if documents is not None:
                verify_documents(self._opened, publication, documents)
            place = registry.scopes.get(scope)
            if place is None or place.scope_id != scope_id or registry.roles.get(name, key) != key:
                raise changed_meanwhile()
            if name in registry.roles:
                return Plan()
            after = registry._replace(roles={**registry.roles, name: key})
            plan = draft_registry(Drafts(self._opened, publication), after, new)
            obj = {"path": scope, "number": place.number, "digest": place.scope_id.hex()}
            plan.records = [session.record(Event.SCOPE_CREATED, obj, decision=decision)]
            return plan

        self._authority.publish_allowed("key.manage", plan)

    def _documents_with(self, inside: ScopeChanges, name: str, public: RolePublic) -> Mapping[bytes, Content]:
        """Return the documents of a scope by which the members of a role have its newest key; see `_holding`."""
        self._settled = self._newest_documents()
        certificates = self._certificates()
        keys = self._learn(inside, certificates) | {name: public.public_key}
        return self._documents(keys, certificates)

    def _holding(self, role: str, public: RolePublic) -> PartChange:
        """Return what keeps the key of a role as it is, in the vault, while a scope is given it.

        So are the documents that the scope gets with it, which are made anew where others are in force.
        """

        def verify() -> None:
            if self._settled not in {None, documents_of(self._opened)}:
                message = "policy, roles or members changed meanwhile"
                raise StagingMoved(message)
            if read_registry(self._opened).roles.get(role) != public.public_key:
                message = f"`role:{role}` was given another key at the same moment"
                raise Conflict(message, hint="look at `securecfg scope show PATH`, and try again")

        return PartChange(self._opened, verify_settled=verify)

    def _newest_for(
        self, inside: ScopeChanges, certificates: Certificates
    ) -> tuple[Mapping[bytes, Content], PartChange]:
        """Return the documents that a scope is to have, and what looks in the vault whether they are the newest still.

        Whoever is faster with newer ones could else have older ones put in their place: with somebody in them who has
        a role no more.
        """
        made_of = self._newest_documents()

        def verify() -> None:
            if documents_of(self._opened) != made_of:
                message = "policy, roles or members changed meanwhile"
                raise StagingMoved(message)

        documents = self._documents(self._learn(inside, certificates), certificates)
        return documents, PartChange(self._opened, verify_settled=verify)

    def _documents(self, keys: Mapping[str, bytes], certificates: Certificates) -> dict[bytes, Content]:
        """Return the documents of the vault that a scope has too: policy, roles, and who may be let into its roles."""
        opened = self._opened
        policy: list[object] = opened.system_document(POLICY_PATH, [])
        roles: dict[str, list[str]] = opened.system_document(ROLES_PATH, {})
        documents = {ROLES_PATH: to_document(roles)}
        succession = self._administrators().succession
        if succession.steps:
            documents[SUCCESSION_PATH] = to_document(succession.to_json())
        if policy:
            documents[POLICY_PATH] = to_document(policy)
        members = {name: self._members(name) for name in keys}
        known = {member.name: member for those in members.values() for member in those}
        documents[IDENTITIES_PATH] = to_document(identities_to_json(known))
        documents[CERTIFICATES_PATH] = to_document(certificates.to_json(keys, members))
        return documents

    def _place_of(self, scope: str) -> ScopePlace:
        """Return where a scope lies.

        Raises:
            SecretNotFound: There is none.
        """
        place = self._registry().scopes.get(scope)
        if place is None:
            message = f"there is no sealed scope `{scope}`"
            raise SecretNotFound(message, hint="`securecfg scope list` shows the scopes")
        return place

    @contextmanager
    def _inside(self, path: str, others: Sequence[RoleKey] = (), *, is_behind: bool = False) -> Iterator[ScopeRotation]:
        """Open a scope with the vault's own key.

        Args:
            path: The scope's.
            others: Keys of roles that may do more in it.
            is_behind: Whether it may be as former administrators left it.

        Raises:
            SecretNotFound: There is no such scope.
            ScopeSealed: The vault's own key does not open it.
            Tampered: It is not there any more, or not as it was signed.
        """
        scope = scope_path(path)
        place = self._place_of(scope)
        own = self._own_keys()
        door = self._doorway(own)
        door = door._replace(keys=[*door.keys, *others], newest=None if is_behind else door.newest)
        found = door.open(place.number, (scope, place.scope_id))
        if found is None:
            is_there = self._opened.store.partition(place.number).head() is not None
            if self._place_of(scope) != place:
                raise changed_meanwhile()
            if not is_there:
                raise gone(scope)
            message = f"the vault's own key does not open the scope `{scope}`"
            raise ScopeSealed(message, hint="somebody may have altered its slots; restore the vault from a backup")
        opened, slot = found
        try:
            identity = self._authority.identity._replace(slot=slot.hex())
            yield ScopeRotation(opened, identity, own.current, self._signing(), self._keys_of_roles(opened))
        finally:
            opened.close()


def verify_collector(scope: str, rights: Collection[int], *, is_shared: bool) -> None:
    """Check that somebody could take in what is dropped into a scope, where somebody is to drop.

    Raises:
        InvalidMetadata: Nobody could.
    """
    founded = [*rights, rights_of_administrator(rights, is_shared=is_shared)]
    if any(one & DROP for one in rights) and not any(one & READ and one & WRITE for one in founded):
        raise no_collector(scope)


def scope_path(path: str) -> str:
    """Return the path of a scope as it is kept, with `/` at its end.

    Raises:
        InvalidPath: It breaks the rules for paths.
    """
    return path_to_bytes(path.removesuffix("/")).decode() + "/"
