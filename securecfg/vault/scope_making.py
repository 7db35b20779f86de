"""How a sealed scope comes to be: noted, written into a partition without a head, and there with one commit.

The commit that gives it its head makes the note the scope's line in the vault. So no scope is ever there that the vault
does not name, none is named that is not there, and none is there that stands on what was replaced meanwhile.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from securecfg.audit import Event
from securecfg.errors import AlreadyExists, CommitUnknown, Conflict, DestroyPending, SecurecfgError
from securecfg.tuples import NamedTuple
from securecfg.vault.charters import BREAK_GLASS, LIST
from securecfg.vault.departures import newest_compromise
from securecfg.vault.drafts import Drafts, NewVersion
from securecfg.vault.maintenance import finish_destruction
from securecfg.vault.members import IDENTITIES_PATH
from securecfg.vault.opened import POLICY_PATH, REGISTRY_PATH, ROLES_PATH
from securecfg.vault.publishing import Plan
from securecfg.vault.scope_registry import (
    ABANDONED_NS,
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
from securecfg.vault.staging import StagingMoved
from securecfg.vault.state import FLAG_DESTRUCTION_PENDING
from securecfg.vault.unfinished import UnfinishedPart

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from securecfg.keys.role_keys import RoleKey
    from securecfg.keys.trust import Trust
    from securecfg.store import Store
    from securecfg.vault.authority import Authority
    from securecfg.vault.opened import OpenVault
    from securecfg.vault.publishing import Publication
    from securecfg.vault.scope_founding import Founding
    from securecfg.vault.scope_registry import Registry

    Planner = Callable[[Publication], Plan]

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
    """

    keys: Mapping[str, bytes]
    openers: frozenset[str]
    marked: frozenset[str]
    own_key: bytes
    trust: Trust
    compromise: str

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
        return cls(founding.keys, openers, marked, own.signing_key, trust, _newest_compromise(opened))

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

    Attributes:
        path: The path of the scope.
    """

    def __init__(self, store: Store, path: str, begin: Callable[[], ScopePlace]) -> None:
        """Begin nothing yet."""
        self.path = path
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
def making(authority: Authority, scope: str, begin: Callable[[], ScopePlace]) -> Iterator[Begun]:
    """Make a scope in the block, and give it up where that fails; see `Begun`."""
    begun = Begun(authority.opened.store, scope, begin)
    try:
        yield begun
    except CommitUnknown:
        raise  # it may be there
    except BaseException:
        if begun.is_noted:
            with suppress(SecurecfgError):  # it is given up when somebody makes it again
                _give_up(authority, begun)
        raise


def begin_making(
    authority: Authority, scope: str, keys: Mapping[str, bytes], scope_id: bytes, *, inside: str | None = None
) -> ScopePlace:
    """Note that a scope is being made, and where; one that was begun before and not finished is given up.

    Args:
        authority: Decides and records in the vault.
        scope: Its path.
        keys: The public keys of its roles, which no role may have in the place of another one by now.
        scope_id: The vault id in it, 16 bytes.
        inside: The scope that it is split from.

    Raises:
        AccessDenied: The caller may not `key.manage`.
        AlreadyExists: There is a scope at the path, in it or around it.
        Conflict: A role has another key by now.
        CommitUnknown, StoreBusy, StoreFailed: As for a write.
    """
    opened = authority.opened
    new = NewVersion(authority.identity.principal, opened.clock.now_ns())
    session, decision = authority.require("key.manage", "")
    taken = opened.store.partitions()

    def plan(publication: Publication) -> Plan:
        registry = fresh_registry(opened, publication)
        if inside is None:
            verify_apart(registry, scope)
        elif registry.enclosing(scope) != inside or scope in registry.scopes:
            raise changed_meanwhile()
        if any(registry.roles.get(name, key) != key for name, key in keys.items()):
            raise changed_meanwhile()
        retired = registry.retired
        registry = registry.without_making(scope)
        for other, noted in registry.making.items():
            if new.created - noted.begun_ns > ABANDONED_NS:
                registry = registry.without_making(other)
        place = ScopePlace(registry.next_number(taken), scope_id)
        after = registry._replace(
            making={**registry.making, scope: Making(place, new.created)}, roles={**registry.roles, **keys}
        )
        plan = draft_registry(Drafts(opened, publication), after, new)
        plan.records = [session.record(Event.SCOPE_BEGUN, _object_of(scope, place), decision=decision)]
        if after.retired != retired:
            plan.state["flags"] = publication.state.flags | FLAG_DESTRUCTION_PENDING
        plan.result = place
        return plan

    place = opened.publisher.publish(plan)
    if opened.is_destruction_pending:
        with suppress(DestroyPending):  # it stays noted, and is in nobody's way
            finish_destruction(opened)
    if not isinstance(place, ScopePlace):
        raise TypeError
    return place


def documents_of(opened: OpenVault) -> tuple[bytes | None, ...]:
    """Return the vault's documents that every scope has copies of: policy, roles and members."""
    return tuple(opened.system_bytes(path) for path in _DOCUMENTS)


def plan_made(authority: Authority, begun: Begun, footing: Footing, documents: tuple[bytes | None, ...]) -> Planner:
    """Return what plans that a scope is there from now on.

    It raises `Conflict` where the scope would stand on what was replaced: the vault's own key could not open it, or who
    signs no more would have signed it. It raises `StagingMoved` where only the documents are to be copied again.

    Args:
        authority: Decides and records in the vault.
        begun: The scope.
        footing: What it was founded on.
        documents: What its documents were made of, as `documents_of` returns it.
    """
    opened = authority.opened

    def change(registry: Registry) -> Registry:
        making = dict(registry.making)
        noted = making.pop(begun.path, None)
        if noted is None or noted.place != begun.place:
            message = f"somebody else makes the scope `{begun.path}` too"
            raise Conflict(message, hint="look at `securecfg scope list`, and try again")
        if any(registry.roles.get(name) != key for name, key in footing.keys.items()):
            raise changed_meanwhile()
        return registry._replace(scopes={**registry.scopes, begun.path: begun.place}, making=making)

    registered = plan_registry(authority, change, Event.SCOPE_CREATED, lambda: _object_of(begun.path, begun.place))

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
    """Return what plans another registry, with a record.

    Args:
        authority: Decides and records in the vault.
        change: Returns it, from the one in force.
        event: What the record tells.
        describe: Returns of what.
        flags: Of the state, set with it.
    """
    opened = authority.opened

    def plan(publication: Publication) -> Plan:
        session, decision = authority.session(), authority.session().decide("key.manage", "")
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


def changed_meanwhile() -> Conflict:
    """Return the error for a change that was planned from scopes which are others by now."""
    message = "somebody else changed the scopes, or what is below this one, at the same moment"
    return Conflict(message, hint="look at `securecfg scope list`, and try again")


def _verify_footing(opened: OpenVault, publication: Publication, footing: Footing) -> None:
    """Check that what a scope was founded on was not replaced.

    Raises:
        Conflict: It was.
    """
    for path in (OWN_KEY_PATH, ADMINISTRATORS_PATH, BREAK_GLASS_PATH, *_DOCUMENTS):
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


def _give_up(authority: Authority, begun: Begun) -> None:
    """Take back that a scope is being made, and erase what there is of it."""
    opened = authority.opened

    def plan(publication: Publication) -> Plan:
        registry = fresh_registry(opened, publication)
        noted = registry.making.get(begun.path)
        if noted is None or noted.place != begun.place:
            return Plan()
        new = NewVersion(authority.identity.principal, opened.clock.now_ns())
        plan = draft_registry(Drafts(opened, publication), registry.without_making(begun.path), new)
        plan.records = [authority.session().record(Event.SCOPE_ABANDONED, _object_of(begun.path, begun.place))]
        plan.state["flags"] = publication.state.flags | FLAG_DESTRUCTION_PENDING
        return plan

    opened.publisher.publish(plan)
    if opened.is_destruction_pending:
        finish_destruction(opened)


def _object_of(scope: str, place: ScopePlace) -> dict[str, object]:
    return {"path": scope, "number": place.number, "digest": place.scope_id.hex()}
