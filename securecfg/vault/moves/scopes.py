"""Sealing what is there already: scopes made around secrets, split and merged, as a vault's administrator does it.

Each is one move of a subtree between two parts of the vault, in one commit with what makes it a scope or ends one.
"""

from __future__ import annotations

import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING

from securecfg.audit import Event
from securecfg.errors import AlreadyExists, Conflict, InvalidPath, ScopeSealed
from securecfg.keys.role_keys import RolePublic
from securecfg.tuples import NamedTuple
from securecfg.vault.commits.joint import PartChange
from securecfg.vault.commits.maintenance import finish_destruction
from securecfg.vault.creation import open_rows
from securecfg.vault.drops.rows import count_waiting
from securecfg.vault.index.in_memory import prefix_end
from securecfg.vault.moves.copying import Subtree
from securecfg.vault.moves.relocation import WHOLE, Companions, Moved, Place, Relocation
from securecfg.vault.paths import scope_among
from securecfg.vault.scopes.changes import ScopeChanges
from securecfg.vault.scopes.charters import OWN_ROLE
from securecfg.vault.scopes.founding import Founding, found_scope
from securecfg.vault.scopes.making import (
    Footing,
    begin_making,
    changed_meanwhile,
    making,
    plan_made,
    plan_registry,
    verify_apart,
    verify_none_begun,
    verify_unmounted,
)
from securecfg.vault.scopes.memberships import find_roles, no_role, trust_of
from securecfg.vault.scopes.opening import charter_of, given_up, grants_of
from securecfg.vault.scopes.registry import ScopePlace
from securecfg.vault.scopes.rights import rights_to_words
from securecfg.vault.scopes.scopes import Scopes, scope_path, verify_collector
from securecfg.vault.scopes.seats import Seat
from securecfg.vault.state.head import FLAG_DESTRUCTION_PENDING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from securecfg.keys import IdentityProvider
    from securecfg.keys.role_keys import RoleKey
    from securecfg.store import Put
    from securecfg.vault.commits.publishing import Plan, Publication
    from securecfg.vault.opened import OpenVault
    from securecfg.vault.scopes.charters import Charter
    from securecfg.vault.scopes.registry import Registry
    from securecfg.vault.scopes.scopes import ScopeInfo

    Progress = Callable[[int, int], None]
    Planner = Callable[[Publication], Plan]


class Merging(NamedTuple):
    """What a merge of a scope would change in who may do what.

    Attributes:
        path: The scope.
        into: What it is merged into: the path of a scope, or `/`.
        secrets: How many secrets there are in it.
        before: The rights of each role in it.
        after: The rights of each role afterwards; where it goes into the vault itself, nobody but the root's holders.
    """

    path: str
    into: str
    secrets: int
    before: Mapping[str, tuple[str, ...]]
    after: Mapping[str, tuple[str, ...]]

    def lost(self) -> dict[str, tuple[str, ...]]:
        """Return the rights that each role loses."""
        return _without(self.before, self.after)

    @property
    def is_exposing(self) -> bool:
        """Whether somebody who read what is in it reads it no more."""
        return any("read" in rights for rights in self.lost().values())

    def gained(self) -> dict[str, tuple[str, ...]]:
        """Return the rights that each role gains."""
        return _without(self.after, self.before)


class ScopeMoves(Scopes):
    """As `Scopes`, where secrets go from one part of the vault to another."""

    def count_below(self, path: str) -> int:
        """Return how many secrets a scope at a path would be made with.

        Raises:
            AccessDenied: The caller may not `key.manage`.
            AlreadyExists: There is a scope at the path, in it or around it.
            Conflict: A store is mounted in it or around it.
        """
        self._authority.require("key.manage", "")
        scope = scope_path(path)
        verify_apart(self._registry(), scope)
        verify_unmounted(self._opened, scope)
        return len(self._opened.entries(scope.encode(), prefix_end(scope.encode())))

    def count_in_scope(self, path: str, subtree: str) -> int:
        """Return how many secrets a split would move.

        Raises:
            AccessDenied: The caller may not `key.manage`.
            SecretNotFound, InvalidPath, AlreadyExists: As for `split`.
        """
        self._authority.require("key.manage", "")
        outer, inner = self._verify_subtree(path, subtree)
        with self._inside(outer) as around:
            return len(around.opened.entries(inner.encode(), prefix_end(inner.encode())))

    def seal(
        self,
        path: str,
        *,
        roles: Mapping[str, Sequence[str]],
        is_shared: bool = False,
        progress: Progress | None = None,
    ) -> tuple[ScopeInfo, Moved]:
        """Make a sealed scope of a subtree with all the secrets that are in it.

        Until the end they are read and written where they are. Whoever opens the vault by its root could read every
        version that is moved, and may know it: the scope lists them as exposed until they have other values.

        Args:
            path: The subtree, a path with or without `/` at its end.
            roles: The roles of each right, `list`, `read` and `write`, as for `create`.
            is_shared: As for `create`.
            progress: Called with how many secrets are copied, and of how many.

        Raises:
            AccessDenied: The caller may not `key.manage`, or may not read, delete or write one of the secrets.
            AlreadyExists: There is a scope at the path, in it or around it.
            InvalidMetadata: A role has no member with a public key, or is reserved.
            ValueTooLarge: A value is larger than a scope takes.
            Conflict: An import that was interrupted holds a secret, somebody else makes the scope too, or one in it or
                around it, or a store is mounted there; or the own key, who signs or the key of a role was replaced
                meanwhile, or policy or members before all was signed. Nothing was changed.
            DestroyPending: It is done, but old keys may lie in the store's log until another reader lets go.
            CommitUnknown, StoreBusy, StoreFailed: As for a write; made again it goes on.
        """
        self._authority.require("key.manage", "")
        scope = scope_path(path)
        wanted = self.rights_of(roles)
        registry = self._registry()
        first = scope.encode()
        if scope in registry.scopes or not self._opened.entries(first, prefix_end(first)):
            info = self.create(
                path,
                read=roles.get("read", ()),
                list=roles.get("list", ()),
                write=roles.get("write", ()),
                drop=roles.get("drop", ()),
                is_shared=is_shared,
            )
            return info, Moved(0, 0)
        verify_apart(registry, scope)
        verify_none_begun(registry, scope, self._opened.clock.now_ns())
        verify_unmounted(self._opened, scope)
        verify_collector(scope, wanted.values(), is_shared=is_shared)
        certificates = self._certificates()
        memberships: list[Put] = []
        made_of = self._newest_documents()
        keys = {name: self._role_public(name, certificates, memberships) for name in wanted}
        granted = {name: (rights, keys[name]) for name, rights in wanted.items()}
        certificates.complete(keys, {name: self._members(name) for name in keys})
        scope_id, documents = secrets.token_bytes(16), self._documents(keys, certificates)
        founding = Founding(self._vault_id, scope_id, scope, is_shared, granted, documents)

        def begin() -> ScopePlace:
            self._stage_memberships(memberships, made_of)
            return begin_making(self._authority, scope, keys, scope_id, documents=made_of)

        with self._unfinished(begin, founding) as (inside, made):
            target = Place(inside.authority, scope)
            source = Place(self._authority, WHOLE)
            move = Relocation(source, target, Subtree(first), is_exposing=not is_shared, progress=progress)

            def companions() -> Companions:
                source = [made()]
                documents = inside.plan_documents(self._documents(keys, certificates))
                return Companions(source=source, target=[documents], target_writer=inside.keeper)

            moved = move.run(companions)
        move.erase()
        return self.show(scope), moved

    def split(
        self,
        path: str,
        subtree: str,
        *,
        reader: IdentityProvider | None = None,
        progress: Progress | None = None,
    ) -> tuple[ScopeInfo, Moved]:
        """Make a subtree of a scope a scope of its own, with the same roles and rights.

        Args:
            path: The scope.
            subtree: The subtree, by its whole path.
            reader: The identity of somebody who reads the scope, where the vault's own key does not.
            progress: Called with how many secrets are copied, and of how many.

        Raises:
            AccessDenied: The caller may not `key.manage`, or may not read, delete or write one of the secrets.
            SecretNotFound: There is no such scope.
            InvalidPath: The subtree is not one of the scope.
            AlreadyExists: It is a scope of its own already.
            ScopeSealed: The keys at hand do not read what is to be moved, or may not write.
            SignaturesMissing: Too few administrators signed.
            WrongKey: No role knows the reader.
            Conflict: Values wait in the scope that were dropped there; somebody else changed who may do what in it, or
                what it leaves out; or as for `seal`.
            DestroyPending: It is done, but old keys may lie in the store's log until another reader lets go.
            CommitUnknown, StoreBusy, StoreFailed: As for a write; made again it goes on.
        """
        self._authority.require("key.manage", "")
        outer, inner = self._verify_subtree(path, subtree)
        with self._inside(outer, self._reader_keys(reader)) as around:
            self._verify_reads(around, inner)
            _verify_nothing_waits(around.opened, outer)
            charter = charter_of(around.opened)
            scope_id = secrets.token_bytes(16)
            founding = self._founding_like(charter, inner, scope_id)
            keys = {name: key for name, (_, key) in founding.roles.items()}
            certificates = self._certificates()

            def exclude(excluded: tuple[str, ...]) -> tuple[str, ...]:
                return (*(other for other in excluded if not other.startswith(inner)), inner)

            def begin() -> ScopePlace:
                return begin_making(self._authority, inner, keys, scope_id, inside=outer)

            with self._unfinished(begin, founding, around=outer) as (inside, made):
                source, target = Place(around.authority, outer), Place(inside.authority, inner)
                chosen = Subtree(inner.encode())
                move = Relocation(source, target, chosen, is_exposing=False, progress=progress)

                def companions() -> Companions:
                    now = charter_of(around.opened)
                    if now.parties != charter.parties or _excluded_below(now, inner) != founding.excluded:
                        raise _changed_around(outer)
                    others = [PartChange(self._opened, [made()])]
                    return Companions(
                        source=[around.plan_exclusion(exclude)],
                        target=[inside.plan_documents(self._documents(keys, certificates))],
                        others=others,
                        source_writer=around.keeper,
                        target_writer=inside.keeper,
                        verify_settled=lambda: _verify_nothing_waits(around.opened, outer),
                    )

                with around.orders.giving():
                    moved = move.run(companions)
            move.erase()
        return self.show(inner), moved

    def plan_merge(self, path: str) -> Merging:
        """Return what a merge of a scope would change.

        Raises:
            AccessDenied: The caller may not `key.manage`.
            SecretNotFound: There is no such scope.
            ScopeSealed: It lies in one that was given up.
        """
        self._authority.require("key.manage", "")
        inner = scope_path(path)
        outer = self._registry().enclosing(inner)
        _verify_not_given_up(self._registry(), inner)
        with self._inside(inner) as inside:
            before = _rights(charter_of(inside.opened))
            first = inner.encode()
            count = len(inside.opened.entries(first, prefix_end(first)))
        after: dict[str, tuple[str, ...]] = {}
        if outer is not None:
            with self._inside(outer) as around:
                after = _rights(charter_of(around.opened))
        return Merging(inner, outer or WHOLE, count, before, after)

    def merge(
        self, path: str, *, reader: IdentityProvider | None = None, progress: Progress | None = None
    ) -> tuple[Merging, Moved]:
        """Put what is in a scope into the scope around it, or into the vault itself, and end the scope.

        Its log ends with it; the vault's log keeps the root of its tree.

        Args:
            path: The scope.
            reader: The identity of somebody who reads it, where the vault's own key does not.
            progress: Called with how many secrets are copied, and of how many.

        Raises:
            AccessDenied: The caller may not `key.manage`, or may not read, delete or write one of the secrets.
            SecretNotFound: There is no such scope.
            ScopeSealed: The keys at hand do not read what is in it, or may not write around it.
            SignaturesMissing: Too few administrators signed.
            WrongKey: No role knows the reader.
            Conflict: Somebody else changed the scopes, or who may do what in them; or values wait that were dropped.
            DestroyPending: It is done, but rows of the scope may lie in the store's log until another reader lets go.
            CommitUnknown, StoreBusy, StoreFailed: As for a write; made again it goes on.
        """
        merging = self.plan_merge(path)
        inner, keys = merging.path, self._reader_keys(reader)
        with self._inside(inner, keys) as inside:
            self._verify_reads(inside, inner)
            _verify_nothing_waits(inside.opened, inner)
            source, chosen = Place(inside.authority, inner), Subtree(inner.encode())
            end = Companions(ends_source=True, verify_settled=lambda: _verify_nothing_waits(inside.opened, inner))
            if merging.into == WHOLE:
                move = Relocation(source, Place(self._authority, WHOLE), chosen, progress=progress)

                def companions() -> Companions:
                    _verify_same_rights(inside, inner, merging.before)
                    return end._replace(target=[self._plan_merged(inside, merging)])

                moved = move.run(companions)
            else:
                with self._inside(merging.into, keys) as around:
                    target = Place(around.authority, merging.into)
                    exposing = merging.is_exposing
                    move = Relocation(source, target, chosen, is_exposing=exposing, progress=progress)

                    def companions() -> Companions:
                        _verify_same_rights(inside, inner, merging.before)
                        _verify_same_rights(around, merging.into, merging.after)
                        excluded = charter_of(inside.opened).excluded

                        def include(others: tuple[str, ...]) -> tuple[str, ...]:
                            return (*(other for other in others if other != inner), *excluded)

                        return end._replace(
                            target=[around.plan_exclusion(include)],
                            others=[PartChange(self._opened, [self._plan_merged(inside, merging)])],
                            target_writer=around.keeper,
                        )

                    with around.orders.giving():
                        moved = move.run(companions)
        finish_destruction(self._opened)
        return merging, moved

    # --- pieces ------------------------------------------------------------------------------------------------------

    def _reader_keys(self, reader: IdentityProvider | None) -> Sequence[RoleKey]:
        """Return the keys of the roles that an identity is a member of.

        Raises:
            WrongKey: No role of the vault knows it.
        """
        if reader is None:
            return ()
        known = {self._administrators().succession.first, self._administrators().trust}
        claimed = trust_of(find_roles(self._opened.store, self._vault_id, reader))
        keys = [key for trust, found in claimed.items() if trust in known for key in found]
        if not keys:
            raise no_role()
        return keys

    def _verify_reads(self, inside: ScopeChanges, below: str) -> None:
        """Check before anything is begun that the keys at hand read a scope, where there is something to read.

        Raises:
            ScopeSealed: They do not.
        """
        first = below.encode()
        grants = grants_of(inside.opened)
        if inside.opened.entries(first, prefix_end(first)) and not grants.is_granted(grants.active):
            message = f"what is in `{below}` is sealed from the vault's own key, and somebody has to read it to move it"
            raise ScopeSealed(message, hint="name one who does: `--with identity:FILE`")

    def _verify_subtree(self, path: str, subtree: str) -> tuple[str, str]:
        """Return the paths of a scope and of a subtree of it that can be split off.

        Raises:
            InvalidPath: It is no subtree of it.
            AlreadyExists: It is a scope of its own, or lies in one.
            ScopeSealed: It lies in one that was given up.
        """
        outer, inner = scope_path(path), scope_path(subtree)
        if not inner.startswith(outer) or inner == outer:
            message = f"`{inner}` is no subtree of `{outer}`"
            raise InvalidPath(message, hint="name it by its whole path: `securecfg scope split payments payments/eu`")
        registry = self._registry()
        nearest = inner if inner in registry.scopes else registry.enclosing(inner)
        if nearest not in {outer, None}:
            message = f"there is a sealed scope at `{nearest}`"
            raise AlreadyExists(message, hint=f"`securecfg scope show {nearest}` shows who may do what in it")
        _verify_not_given_up(registry, inner)
        verify_none_begun(registry, inner, self._opened.clock.now_ns())
        return outer, inner

    def _founding_like(self, charter: Charter, inner: str, scope_id: bytes) -> Founding:
        """Return how a scope is founded with the roles and rights of another one.

        Raises:
            Conflict: The vault does not know the key of a role.
        """
        known = self._registry().roles
        own = next(party for party in charter.parties if party.role == OWN_ROLE)
        roles = {}
        for party in charter.parties:
            if party is own:
                continue
            key = known.get(party.role)
            if key is None or RolePublic(key).signing_key != party.signing_key:
                message = f"the vault does not know the key that `role:{party.role}` has in `{charter.path}`"
                raise Conflict(message, hint="revoke the role's rights and grant them again")
            roles[party.role] = (party.rights, key)
        certificates, keys = self._certificates(), {name: key for name, (_, key) in roles.items()}
        certificates.complete(keys, {name: self._members(name) for name in keys})
        documents = self._documents(keys, certificates)
        excluded = _excluded_below(charter, inner)
        return Founding(self._vault_id, scope_id, inner, charter.is_shared, roles, documents, excluded, own.rights)

    @contextmanager
    def _unfinished(
        self, begin: Callable[[], ScopePlace], founding: Founding, *, around: str | None = None
    ) -> Iterator[tuple[ScopeChanges, Callable[[], Planner]]]:
        """Found a scope that nobody else sees until its head is committed.

        With it comes what returns, before its documents are copied once more, what plans that it is there.

        Args:
            begin: Returns where it lies. Called once everything is signed.
            founding: What it is made of.
            around: The scope that it is split from.
        """
        authority, opened = self._authority, self._opened
        own, signing = self._own_keys().current, self._signing()
        footing = Footing.of(opened, founding, own, signing.trust)
        with making(authority, founding.path, begin, inside=around) as begun:
            keeper = found_scope(begun.open_store, founding, own, signing, authority.identity, clock=opened.clock)
            seat = Seat(self._vault_id, signing.trust, keeper)
            inner, slot = open_rows(begun.part, own, None, opened.clock, opened.options, seat=seat)
            try:
                identity = authority.identity._replace(slot=slot.slot_id.hex())
                changes = ScopeChanges(inner, identity, own, signing, self._keys_of_roles(inner), keeper=keeper)
                yield changes, lambda: plan_made(authority, begun, footing, self._newest_documents())
            finally:
                inner.close()

    def _plan_merged(self, inside: ScopeChanges, merging: Merging) -> Planner:
        """Return what plans that a scope is no more."""
        replica, scope = inside.opened.replica, merging.path
        number = replica.store.part

        def change(registry: Registry) -> Registry:
            scopes = dict(registry.scopes)
            place = scopes.pop(scope, None)
            is_around = (registry.enclosing(scope) or WHOLE) == merging.into
            if place != ScopePlace(number, replica.vault_id) or not is_around:
                raise changed_meanwhile()
            return registry._replace(scopes=scopes, retired=(*registry.retired, place))

        def describe() -> dict[str, object]:
            checkpoint = replica.checkpoint
            return {"path": scope, "number": number, "digest": checkpoint.root.hex(), "size": checkpoint.size}

        flags = FLAG_DESTRUCTION_PENDING
        return plan_registry(self._authority, change, Event.SCOPE_MERGED, describe, flags=flags)


def _verify_not_given_up(registry: Registry, inner: str) -> None:
    """Check that a scope, or a subtree of one, lies in none that was given up and not made anew.

    Raises:
        ScopeSealed: It does.
    """
    around = inner.removesuffix("/")
    nearest = scope_among(registry.reserved, around)
    if nearest is not None and len(nearest) > len(registry.enclosing(inner) or ""):
        raise given_up(nearest)


def _verify_nothing_waits(opened: OpenVault, scope: str) -> None:
    """Check that nothing was dropped into a scope that nobody has taken in yet: it would be refused afterwards.

    Raises:
        Conflict: Something was.
    """
    if count_waiting(opened.store):
        message = f"values wait in `{scope}` that were dropped there"
        raise Conflict(message, hint=f"somebody who reads and writes takes them in: `securecfg scope collect {scope}`")


def _verify_same_rights(inside: ScopeChanges, scope: str, rights: Mapping[str, tuple[str, ...]]) -> None:
    """Check that everybody may still do in a scope what a merge was decided by.

    Raises:
        Conflict: Somebody else changed it.
    """
    if _rights(charter_of(inside.opened)) != rights:
        raise _changed_around(scope)


def _changed_around(scope: str) -> Conflict:
    message = f"somebody else changed who may do what in `{scope}`, or what it leaves out, at the same moment"
    return Conflict(message, hint=f"look at `securecfg scope show {scope}`, and try again")


def _excluded_below(charter: Charter, inner: str) -> tuple[str, ...]:
    """Return the subtrees of a subtree that a charter leaves out."""
    return tuple(other for other in charter.excluded if other.startswith(inner) and other != inner)


def _rights(charter: Charter) -> dict[str, tuple[str, ...]]:
    return {party.role: rights_to_words(party.rights) for party in charter.parties}


def _without(
    rights: Mapping[str, tuple[str, ...]], others: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    left = {role: tuple(word for word in words if word not in others.get(role, ())) for role, words in rights.items()}
    return {role: words for role, words in left.items() if words}
