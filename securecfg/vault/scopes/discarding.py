"""Giving up a sealed scope that is lost for good: taken away or damaged, or with nobody left who reads it.

Its way:

1. judge    whether it is lost, by what the vault's own key opens and by what needs no key
2. commit   in one step it is named no more, its partition is retired, its head is gone, and its path is reserved
3. erase    its rows, now or by whoever opens the vault next
"""

from __future__ import annotations

from contextlib import closing, suppress
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

from securecfg.audit import Event
from securecfg.errors import AnchorMissing, Conflict, IntegrityError, NotAVault, RollbackSuspected, ScopeSealed
from securecfg.keys.role_keys import RolePublic
from securecfg.store import ID_LIMIT, PartCommit, Space
from securecfg.vault.administration import to_document
from securecfg.vault.commits.joint import PartChange, publish_together
from securecfg.vault.commits.maintenance import finish_destruction
from securecfg.vault.commits.publishing import Plan
from securecfg.vault.commits.staging import StagingMoved
from securecfg.vault.drafts import Drafts, NewVersion
from securecfg.vault.opened import Options
from securecfg.vault.scopes.charters import READ
from securecfg.vault.scopes.making import changed_meanwhile, object_of, plan_registry
from securecfg.vault.scopes.opening import charter_of, gone, grants_of
from securecfg.vault.scopes.registry import BREAK_GLASS_PATH, read_break_glass, read_registry
from securecfg.vault.scopes.scopes import Scopes, scope_path
from securecfg.vault.scopes.sealed_states import META_IDS, Witness, root_of_log
from securecfg.vault.state.head import FLAG_DESTRUCTION_PENDING
from securecfg.vault.state.replica import read_header
from securecfg.vault.verification import verify_vault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securecfg.store import Store
    from securecfg.vault.commits.publishing import Publication
    from securecfg.vault.opened import OpenVault
    from securecfg.vault.scopes.registry import Registry, ScopePlace

_ROWS_AT_ONCE = 64


class Condition(StrEnum):
    """What a scope is like; the words are those of the log."""

    WHOLE = "whole"
    MISSING = "missing"
    DAMAGED = "damaged"
    INCOMPLETE = "incomplete"
    CLOSED = "closed"
    UNREAD = "unread"


NOBODY_USES = frozenset({Condition.MISSING, Condition.DAMAGED})
"""Those in which nobody can be using the scope."""


class Judgement(NamedTuple):
    """What a scope was found to be like.

    Attributes:
        path: The scope, ending in `/`.
        place: Where it lies.
        head: Its head then, None where it had none.
        condition: What it is like.
        message: What is wrong; empty where nothing is.
        keys: For each key of a role that reads it, the name of the role and the key, as far as the vault knows it.
        readers: Who reads it by one of these, by their names.
    """

    path: str
    place: ScopePlace
    head: bytes | None
    condition: Condition
    message: str = ""
    keys: tuple[tuple[str, bytes], ...] = ()
    readers: tuple[str, ...] = ()


class LostScopes(Scopes):
    """The sealed scopes of a vault that its root has opened, as its administrator gives up those that are lost."""

    def judge(self, path: str) -> Judgement:
        """Look what a scope is like.

        Raises:
            AccessDenied: The caller may not `key.manage`.
            SecretNotFound: There is no such scope.
            RollbackSuspected: It is older than this machine knows, or as former administrators left it.
            AnchorMissing: This machine knows nothing of it, and is required to.
            StoreBusy, StoreFailed: It cannot be read now.
        """
        self._authority.require("key.manage", "")
        scope = scope_path(path)
        place = self._place_of(scope)
        partition = self._opened.store.partition(place.number)
        head = partition.head()
        judgement = Judgement(scope, place, head, Condition.WHOLE)
        if head is None:
            return judgement._replace(condition=Condition.MISSING, message=gone(scope).message)
        try:
            judgement = self._judge(judgement, partition, head)
        except (RollbackSuspected, AnchorMissing):
            raise
        except IntegrityError as error:
            judgement = judgement._replace(condition=Condition.DAMAGED, message=error.message)
        if partition.head() != head:
            raise changed_meanwhile()  # what was missed may rightly be gone
        return judgement

    def discard(self, judgement: Judgement, *, is_lost: bool = False, reason: str = "") -> None:
        """Give up a scope that is lost. What is in it, and its log, are gone for ever; its path stays sealed.

        Args:
            judgement: From `judge`.
            is_lost: Whether to do so also where somebody might still use what is there.
            reason: Why, for the log.

        Raises:
            AccessDenied: The caller may not `key.manage`.
            Conflict: It is whole and somebody reads it; or somebody might still use it, and `is_lost` does not say that
                nobody does; or it is not as it was judged any more.
            DestroyPending: It is done, but rows of the scope may lie in the store's log until another reader lets go.
            CommitUnknown, StoreBusy, StoreFailed: As for a write.
        """
        verify_lost(judgement, is_lost=is_lost)
        scope, place, head = judgement.path, judgement.place, judgement.head
        opened = self._opened

        def change(registry: Registry) -> Registry:
            if registry.scopes.get(scope) != place:
                raise changed_meanwhile()
            return registry.without_lost(scope)

        def describe() -> dict[str, object]:
            kind = {"kind": str(judgement.condition)}
            return object_of(scope, place) | kind | ({"reason": reason} if reason else {})

        def verify_same() -> None:
            is_same = opened.store.partition(place.number).head() == head
            if not is_same or self._readers(judgement.keys) != judgement.readers:
                raise changed_meanwhile()

        flags = FLAG_DESTRUCTION_PENDING
        planned = plan_registry(self._authority, change, Event.SCOPE_DISCARDED, describe, flags=flags)
        ends = [PartCommit(place.number, (), head, None)] if head is not None else []

        def plan(publication: Publication) -> Plan:
            plan = planned(publication)
            plan.join(self._plan_forgotten(publication, scope))
            return plan

        part = PartChange(opened, [plan], verify_settled=verify_same)
        try:
            publish_together([part], ends=ends)
        except StagingMoved:
            self._authority.require("key.manage", "")
            raise changed_meanwhile() from None
        finish_destruction(opened)

    # --- pieces ------------------------------------------------------------------------------------------------------

    def _judge(self, judgement: Judgement, partition: Store, head: bytes) -> Judgement:
        """Look what a scope is like that has a head.

        Raises:
            IntegrityError: It is not what its administrators and writers signed.
        """
        door = self.doorway()
        if door is None:
            raise TypeError
        place = judgement.place
        door = door._replace(options=Options(read_only=True))
        found = door.open(place.number, (judgement.path, place.scope_id))
        if found is None:
            _verify_without_key(partition, place.scope_id, head)
            message = f"the vault's own key does not open the scope `{judgement.path}`; members may open it still"
            return judgement._replace(condition=Condition.CLOSED, message=message)
        with closing(found[0]) as opened:
            message = _find_damage(opened)
            if message:
                return judgement._replace(condition=Condition.INCOMPLETE, message=message)
            grants = grants_of(opened)
            keys = self._reading_keys(opened)
            readers = self._readers(keys)
            judgement = judgement._replace(keys=keys, readers=readers)
            if readers or grants.is_granted(grants.active):
                return judgement
        message = f"nobody is left who reads `{judgement.path}`"
        return judgement._replace(condition=Condition.UNREAD, message=message)

    def _reading_keys(self, opened: OpenVault) -> tuple[tuple[str, bytes], ...]:
        """Return the roles that read an open scope, each with the key that its charter names."""
        registry = read_registry(self._opened)
        return tuple(
            (party.role, key)
            for party in charter_of(opened).parties
            if party.rights & READ
            for key in (*filter(None, [registry.roles.get(party.role)]), *registry.formers.get(party.role, ()))
            if RolePublic(key).signing_key == party.signing_key
        )

    def _readers(self, keys: tuple[tuple[str, bytes], ...]) -> tuple[str, ...]:
        return tuple(sorted({name for role, key in keys for name in self.holders(role, key)}))

    def _plan_forgotten(self, publication: Publication, scope: str) -> Plan:
        """Plan that no break-glass role waits to be granted a scope."""
        opened = self._opened
        roles = read_break_glass(opened)
        if not any(scope in paths for paths in roles.values()):
            return Plan()
        left = {role: [path for path in paths if path != scope] for role, paths in roles.items()}
        new = NewVersion(self._authority.identity.principal, opened.clock.now_ns())
        return Drafts(opened, publication).write(BREAK_GLASS_PATH, to_document(left), new)


def verify_lost(judgement: Judgement, *, is_lost: bool) -> None:
    """Check that a scope may be given up.

    Raises:
        Conflict: It is whole and somebody reads it; or somebody might still use it, and `is_lost` does not say that
            nobody does.
    """
    scope = judgement.path
    if judgement.condition is Condition.WHOLE:
        message = f"the scope `{scope}` is whole, and somebody reads it"
        raise Conflict(message, hint=f"`securecfg scope merge {scope}` ends a scope and keeps what is in it")
    if judgement.condition not in NOBODY_USES and not is_lost:
        hint = "somebody may still use what is there; restore it from a backup, or say `--lost` if it is lost for good"
        raise Conflict(judgement.message, hint=hint)


def _verify_without_key(partition: Store, scope_id: bytes, head: bytes) -> None:
    """Check what shows without any key of a scope that it is whole.

    Raises:
        IntegrityError: It is not.
    """
    if read_header(partition)[0].vault_id != scope_id:
        message = "another scope lies in its place"
        raise NotAVault(message)
    witness = Witness(scope_id)
    keys = [(Space.META, id_) for id_ in META_IDS]
    for (space, id_), row in zip(keys, partition.get_many(keys), strict=True):
        if row is not None:
            witness.take(space, id_, row)
    for space in (Space.DELTA, Space.LOG):
        for id_, row in _rows(partition, space):
            witness.take(space, id_, row)
    witness.verify(head)


def _rows(partition: Store, space: Space) -> Iterator[tuple[int, bytes]]:
    first = 0
    while rows := partition.scan(space, first, ID_LIMIT - 1, _ROWS_AT_ONCE):
        yield from rows
        first = rows[-1][0] + 1


def _find_damage(opened: OpenVault) -> str:
    """Return what is wrong with what is in an open scope, an empty text where nothing is."""
    try:
        checkpoint = opened.replica.checkpoint
        if root_of_log(opened.store, checkpoint.size) != checkpoint.root:
            return "the log of the scope is not the one that was signed"
        report = verify_vault(opened)
    except IntegrityError as error:
        return error.message
    for path, number, message in report.problems:
        with suppress(ScopeSealed):  # what lies where another scope begins counts for nothing
            opened.verify_own(path)
            return f"`{path}@{number}`: {message}" if number else f"`{path}`: {message}"
    return ""
