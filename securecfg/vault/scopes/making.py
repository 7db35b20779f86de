"""How a sealed scope comes to be: noted, written into a partition without a head, and there with one commit.

The commit that gives it its head makes the note the scope's line in the vault. So no scope is ever there that the vault
does not name, none is named that is not there, and none is there that stands on what was replaced meanwhile.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from securecfg.audit import Event
from securecfg.errors import AlreadyExists, CommitUnknown, Conflict, DestroyPending, IntegrityError, SecurecfgError
from securecfg.tuples import NamedTuple
from securecfg.vault.authority import PolicyMoved
from securecfg.vault.commits.maintenance import finish_destruction
from securecfg.vault.commits.publishing import Plan
from securecfg.vault.commits.staging import StagingMoved
from securecfg.vault.commits.unfinished import UnfinishedPart
from securecfg.vault.drafts import Drafts, NewVersion
from securecfg.vault.keys.departures import newest_compromise
from securecfg.vault.members import IDENTITIES_PATH
from securecfg.vault.opened import POLICY_PATH, REGISTRY_PATH, ROLES_PATH
from securecfg.vault.paths import MOUNTS_PATH
from securecfg.vault.scopes.charters import BREAK_GLASS, LIST
from securecfg.vault.scopes.registry import (
    ADMINISTRATORS_PATH,
    BREAK_GLASS_PATH,
    OWN_KEY_PATH,
    Making,
    ScopePlace,
    draft_registry,
    read_administrators,
    read_break_glass,
    read_own_keys,
    read_registry,
)
from securecfg.vault.state.head import FLAG_DESTRUCTION_PENDING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from securecfg.keys.role_keys import RoleKey
    from securecfg.keys.trust import Trust
    from securecfg.policy import Decision
    from securecfg.store import Store
    from securecfg.vault.authority import Authority
    from securecfg.vault.commits.publishing import Publication
    from securecfg.vault.opened import OpenVault
    from securecfg.vault.scopes.founding import Founding
    from securecfg.vault.scopes.registry import Registry
    from securecfg.vault.session import Session

    Planner = Callable[[Publication], Plan]
    Documents = tuple[bytes | None, ...]

_DOCUMENTS = (POLICY_PATH, ROLES_PATH, IDENTITIES_PATH)


class Footing(NamedTuple):
    """What a scope is founded on, and what must still be so when it is there.

    Attributes:
        keys: The public key of each of its roles.
        openers: Those of the roles that open it.
        marked: Those of them that are break-glass.
        own_key: What the vault's own key signs with, 32 bytes.
        trust: The administrators.
        compromise: The name of the newest compromise that was declared; empty where none was.
        excluded: What it leaves out.
    """

    keys: Mapping[str, bytes]
    openers: frozenset[str]
    marked: frozenset[str]
    own_key: bytes
    trust: Trust
    compromise: str
    excluded: tuple[str, ...]

    @classmethod
    def of(cls, opened: OpenVault, founding: Founding, own: RoleKey, trust: Trust) -> Footing:
        """Return it, before anything random is drawn for the scope.

        Args:
            opened: The vault.
            founding: What the scope is made of.
            own: The vault's own key.
            trust: Who signs.
        """
        rights = {name: granted for name, (granted, _) in founding.roles.items()}
        openers = frozenset(name for name, granted in rights.items() if granted & LIST)
        marked = frozenset(name for name, granted in rights.items() if granted & BREAK_GLASS)
        compromise, excluded = _newest_compromise(opened), tuple(sorted(founding.excluded))
        return cls(founding.keys, openers, marked, own.signing_key, trust, compromise, excluded)

    def is_kept(self, opened: OpenVault) -> bool:
        """Return whether all but the keys of the roles, which are in the registry, is as it was."""
        own = read_own_keys(opened)
        return (
            own is not None
            and own.current.signing_key == self.own_key
            and read_administrators(opened, own.current).trust == self.trust
            and read_break_glass(opened).keys() & self.openers == self.marked
            and _newest_compromise(opened) == self.compromise
        )


class Begun:
    """A scope that is being made: where it lies, and its rows, which nobody else sees.

    Args:
        store: The vault's.
        path: The path of the scope.
        begin: Notes it, and returns where it lies; see `begin_making`.
        inside: The scope that it is split from; None where it may lie in none.

    Attributes:
        path: The path of the scope.
        inside: The scope that it is split from.
    """

    def __init__(self, store: Store, path: str, begin: Callable[[], ScopePlace], inside: str | None) -> None:
        """Begin nothing yet."""
        self.path = path
        self.inside = inside
        self._store = store
        self._begin = begin
        self._found: tuple[ScopePlace, UnfinishedPart] | None = None

    def open_store(self) -> UnfinishedPart:
        """Note the scope, and return its partition. To be called once, when everything is signed."""
        place = self._begin()
        part = UnfinishedPart(self._store.partition(place.number))
        self._found = place, part
        return part

    @property
    def is_noted(self) -> bool:
        """Whether the vault has a note of it."""
        return self._found is not None

    @property
    def place(self) -> ScopePlace:
        """Where it lies."""
        return self._opened[0]

    @property
    def part(self) -> UnfinishedPart:
        """Its rows."""
        return self._opened[1]

    @property
    def _opened(self) -> tuple[ScopePlace, UnfinishedPart]:
        if self._found is None:
            raise TypeError
        return self._found


@contextmanager
def making(
    authority: Authority, scope: str, begin: Callable[[], ScopePlace], *, inside: str | None = None
) -> Iterator[Begun]:
    """Make a scope in the block, and give it up where that fails; see `Begun`."""
    begun = Begun(authority.opened.store, scope, begin, inside)
    try:
        yield begun
    except CommitUnknown:
        raise  # it may be there
    except BaseException as error:
        if begun.is_noted:
            # Where another one took its place, or it was given up, its rows were erased.
            moved = _find_moved(authority, begun) if isinstance(error, IntegrityError) else None
            with suppress(SecurecfgError):  # it is given up when somebody makes it again
                _give_up(authority, begun)
            if moved is not None:
                raise moved from None
        raise


def begin_making(
    authority: Authority,
    scope: str,
    keys: Mapping[str, bytes],
    scope_id: bytes,
    *,
    inside: str | None = None,
    documents: Documents | None = None,
) -> ScopePlace:
    """Note that a scope is being made, and where; one that was begun before and not finished is given up.

    Args:
        authority: Decides and records in the vault.
        scope: Its path.
        keys: The public keys of its roles, which no role may have in the place of another one by now.
        scope_id: The vault id in it, 16 bytes.
        inside: The scope that it is split from.
        documents: Those of the vault that new keys were made of, which have to be in force still; None where none were.

    Raises:
        AccessDenied: The caller may not `key.manage`.
        AlreadyExists: There is a scope at the path, in it or around it.
        Conflict: A role has another key by now, a scope is being made in it or around it, a store is mounted there, or
            the documents are others.
        CommitUnknown, StoreBusy, StoreFailed: As for a write.
    """
    opened = authority.opened
    new = NewVersion(authority.identity.principal, opened.clock.now_ns())
    taken = opened.store.partitions()

    def plan(publication: Publication, session: Session, decision: Decision) -> Plan:
        registry = fresh_registry(opened, publication)
        if documents is not None:
            verify_documents(opened, publication, documents)
        _verify_unplanned(opened, publication, MOUNTS_PATH)
        _verify_place(opened, registry, scope, inside)
        verify_none_begun(registry, scope, new.created)
        if any(registry.roles.get(name, key) != key for name, key in keys.items()):
            raise changed_meanwhile()
        retired = registry.retired
        registry = registry.without_making(scope)
        for other in registry.making.keys() - registry.begun(new.created):
            registry = registry.without_making(other)
        place = ScopePlace(registry.next_number(taken), scope_id)
        after = registry._replace(
            making={**registry.making, scope: Making(place, new.created)}, roles={**registry.roles, **keys}
        )
        plan = draft_registry(Drafts(opened, publication), after, new)
        plan.records = [session.record(Event.SCOPE_BEGUN, object_of(scope, place), decision=decision)]
        if after.retired != retired:
            plan.state["flags"] = publication.state.flags | FLAG_DESTRUCTION_PENDING
        plan.result = place
        return plan

    place = authority.publish_allowed("key.manage", plan)
    if opened.is_destruction_pending:
        with suppress(DestroyPending):  # it stays noted, and is in nobody's way
            finish_destruction(opened)
    if not isinstance(place, ScopePlace):
        raise TypeError
    return place


def documents_of(opened: OpenVault) -> Documents:
    """Return the vault's documents that every scope has copies of: policy, roles and members."""
    return tuple(opened.system_bytes(path) for path in _DOCUMENTS)


def verify_documents(opened: OpenVault, publication: Publication, documents: Documents) -> None:
    """Check that policy, roles and members are those that something was made of.

    Raises:
        Conflict: They are others, or an earlier plan of the same publication changes them.
    """
    for path in _DOCUMENTS:
        _verify_unplanned(opened, publication, path)
    if documents_of(opened) != documents:
        raise other_documents()


def other_documents() -> Conflict:
    """Return the error for what was made for members or by a policy that are others by now."""
    message = "somebody else changed the policy or the members of roles before all was signed"
    return Conflict(message, hint="look at `securecfg role list`, and try again")


def plan_made(authority: Authority, begun: Begun, footing: Footing, documents: Documents) -> Planner:
    """Return what plans that a scope is there from now on.

    It raises `Conflict` where the scope would stand on what was replaced: the vault's own key could not open it, or who
    signs no more would have signed it; or where it would not lie where it was begun. It raises `StagingMoved` where
    only the documents are to be copied again, or the caller may not `key.manage` any more: see `plan_registry`.

    Args:
        authority: Decides and records in the vault.
        begun: The scope.
        footing: What it was founded on.
        documents: What its documents were made of, as `documents_of` returns it.

    Raises:
        AccessDenied: The caller may not `key.manage`.
    """
    opened = authority.opened

    def change(registry: Registry) -> Registry:
        _verify_begun(opened, registry, begun)
        if any(registry.roles.get(name) != key for name, key in footing.keys.items()):
            raise changed_meanwhile()
        if begun.inside is None and registry.within(begun.path) != footing.excluded:
            raise changed_meanwhile()
        return registry.with_made(begun.path, begun.place)

    registered = plan_registry(authority, change, Event.SCOPE_CREATED, lambda: object_of(begun.path, begun.place))

    def plan(publication: Publication) -> Plan:
        _verify_footing(opened, publication, footing)
        if documents_of(opened) != documents:
            message = "policy, roles or members changed meanwhile"
            raise StagingMoved(message)
        return registered(publication)

    return plan


def plan_registry(
    authority: Authority,
    change: Callable[[Registry], Registry],
    event: Event,
    describe: Callable[[], Mapping[str, object]],
    *,
    flags: int = 0,
) -> Planner:
    """Return what plans another registry, with a record, for one attempt of a joint commit.

    It raises `StagingMoved` where the policy in force in the commit does not let the caller manage keys; who tries
    again is denied here.

    Args:
        authority: Decides and records in the vault.
        change: Returns it, from the one in force.
        event: What the record tells.
        describe: Returns of what.
        flags: Of the state, set with it.

    Raises:
        AccessDenied: The caller may not `key.manage`.
    """
    opened = authority.opened
    authority.require("key.manage", "")

    def plan(publication: Publication) -> Plan:
        try:
            session, decision = authority.decide_now(publication, "key.manage")
        except PolicyMoved as error:
            raise StagingMoved(error.message) from None
        new = NewVersion(session.identity.principal, opened.clock.now_ns())
        after = change(fresh_registry(opened, publication))
        plan = draft_registry(Drafts(opened, publication), after, new)
        plan.records = [session.record(event, describe(), decision=decision)]
        if flags:
            plan.state["flags"] = publication.state.flags | flags
        return plan

    return plan


def fresh_registry(opened: OpenVault, publication: Publication) -> Registry:
    """Return the registry as of a publication.

    Raises:
        Conflict: An earlier plan of the same publication changes it.
    """
    _verify_unplanned(opened, publication, REGISTRY_PATH)
    return read_registry(opened)


def verify_apart(registry: Registry, scope: str) -> None:
    """Check that a scope would lie in no other one, and no other one in it.

    Raises:
        AlreadyExists: It would.
    """
    other = registry.overlapping(scope)
    if other is not None:
        message = f"there is a sealed scope at `{other}`"
        hint = f"`securecfg scope show {other}` shows who may do what in it"
        if scope.startswith(other) and scope != other:
            hint = f"`securecfg scope split {other} {scope}` makes a part of it a scope of its own"
        raise AlreadyExists(message, hint=hint)


def verify_unmounted(opened: OpenVault, scope: str) -> None:
    """Check that a scope would lie in no mount, and no mount in it: what is written there would go into a store.

    Raises:
        Conflict: It would.
    """
    for folder in opened.mounts():
        if folder.startswith(scope) or scope.startswith(folder):
            message = f"a store is mounted at `{folder}`"
            raise Conflict(message, hint="make the scope where no store is mounted")


def verify_none_begun(registry: Registry, scope: str, now_ns: int) -> None:
    """Check that no scope is being made in another one or around it, which would then lie in one that is not its own.

    Args:
        registry: What the vault knows of its scopes.
        scope: The path of the other one. That one may have been begun itself.
        now_ns: The time.

    Raises:
        Conflict: One is.
    """
    other = registry.overlapping_begun(scope, now_ns)
    if other is not None:
        raise being_made(other)


def being_made(scope: str) -> Conflict:
    """Return the error for a change that has to wait for a scope which is being made."""
    message = f"a scope is being made at `{scope}`"
    hint = f"wait until it is there; where that was interrupted make it again, or `securecfg scope abandon {scope}`"
    return Conflict(message, hint=hint)


def changed_meanwhile() -> Conflict:
    """Return the error for a change that was planned from scopes which are others by now."""
    message = "somebody else changed the scopes, or what is below this one, at the same moment"
    return Conflict(message, hint="look at `securecfg scope list`, and try again")


def _verify_place(opened: OpenVault, registry: Registry, scope: str, inside: str | None) -> None:
    """Check that a scope can be made where it was decided to lie.

    Args:
        opened: The vault.
        registry: What it knows of its scopes now.
        scope: Its path.
        inside: The scope that it is split from, None where it may lie in none.

    Raises:
        AlreadyExists: There is a scope in it or around it.
        Conflict: It does not lie in the scope that it is split from any more, or is there already; or a store is
            mounted in it or around it.
    """
    verify_unmounted(opened, scope)
    if inside is None:
        verify_apart(registry, scope)
    elif registry.enclosing(scope) != inside or scope in registry.scopes:
        raise changed_meanwhile()


def _verify_begun(opened: OpenVault, registry: Registry, begun: Begun) -> None:
    """Check that a scope that is being made can still lie where it was begun, and is noted there.

    Raises:
        AlreadyExists: There is a scope in it or around it.
        Conflict: It was given up, somebody else makes it too, it does not lie in the scope that it is split from any
            more, or a store is mounted in it or around it.
    """
    _verify_place(opened, registry, begun.path, begun.inside)
    noted = registry.making.get(begun.path)
    if noted is None:
        message = f"the making of the scope `{begun.path}` was given up"
        raise Conflict(message, hint="nothing was changed; `securecfg audit show` says by whom")
    if noted.place != begun.place:
        message = f"somebody else makes the scope `{begun.path}` too"
        raise Conflict(message, hint="look at `securecfg scope list`, and try again")


def _find_moved(authority: Authority, begun: Begun) -> Conflict | AlreadyExists | None:
    """Return why a scope that is being made cannot be there any more, None where it can."""
    authority.opened.refresh()
    try:
        _verify_begun(authority.opened, read_registry(authority.opened), begun)
    except (Conflict, AlreadyExists) as error:
        return error
    return None


def _verify_footing(opened: OpenVault, publication: Publication, footing: Footing) -> None:
    """Check that what a scope was founded on was not replaced.

    Raises:
        Conflict: It was.
    """
    for path in (OWN_KEY_PATH, ADMINISTRATORS_PATH, BREAK_GLASS_PATH, MOUNTS_PATH, *_DOCUMENTS):
        _verify_unplanned(opened, publication, path)
    if not footing.is_kept(opened):
        message = "the vault's own key, its administrators or a break-glass role was replaced while the scope was made"
        raise Conflict(message, hint="nothing was changed; make it again")


def _newest_compromise(opened: OpenVault) -> str:
    declared = newest_compromise(opened)
    return declared.name if declared is not None else ""


def _verify_unplanned(opened: OpenVault, publication: Publication, path: bytes) -> None:
    """Check that no earlier plan of the same publication changes a document.

    Raises:
        Conflict: One does.
    """
    if publication.entry(path) != opened.entry(path):
        raise changed_meanwhile()


def give_up(
    opened: OpenVault,
    publication: Publication,
    session: Session,
    making: tuple[str, ScopePlace],
    *,
    decision: Decision | None = None,
    reason: str = "",
) -> Plan | None:
    """Plan that a scope is not being made any more, and that what there is of it is erased.

    Whoever makes it finds no note of it in the commit that would give it its head, and is refused.

    Args:
        opened: The vault.
        publication: What it is planned for.
        session: Of who gives it up.
        making: The path of the scope, and where it would have been.
        decision: Who let them, where somebody else makes it.
        reason: Why, for the log.

    Returns:
        None where no such making is noted.

    Raises:
        Conflict: An earlier plan of the same publication changes the scopes.
    """
    scope, place = making
    registry = fresh_registry(opened, publication)
    noted = registry.making.get(scope)
    if noted is None or noted.place != place:
        return None
    new = NewVersion(session.identity.principal, opened.clock.now_ns())
    plan = draft_registry(Drafts(opened, publication), registry.without_making(scope), new)
    obj = object_of(scope, place) | ({"reason": reason} if reason else {})
    plan.records = [session.record(Event.SCOPE_ABANDONED, obj, decision=decision)]
    plan.state["flags"] = publication.state.flags | FLAG_DESTRUCTION_PENDING
    return plan


def _give_up(authority: Authority, begun: Begun) -> None:
    """Take back that a scope is being made, and erase what there is of it."""
    opened = authority.opened

    def plan(publication: Publication) -> Plan:
        planned = give_up(opened, publication, authority.session(), (begun.path, begun.place))
        if planned is not None:
            return planned
        if begun.place not in read_registry(opened).retired:
            return Plan()
        # Somebody else gave it up, and erased what there was by then.
        return Plan(state={"flags": publication.state.flags | FLAG_DESTRUCTION_PENDING})

    opened.publisher.publish(plan)
    if opened.is_destruction_pending:
        finish_destruction(opened)


def object_of(scope: str, place: ScopePlace) -> dict[str, object]:
    """Return what a record says of a scope and where it lies."""
    return {"path": scope, "number": place.number, "digest": place.scope_id.hex()}
