"""The keys of the sealed scopes of a vault, as its administrator replaces them: one scope after the other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from securecfg.audit import Event, VerifierKey, origin_of
from securecfg.errors import Conflict, SecretNotFound, SecurecfgError, Tampered, Unavailable
from securecfg.keys.role_keys import RolePublic, membership_row_of
from securecfg.store import Delete, Space
from securecfg.vault.commits.epochs import rotate_signing_key
from securecfg.vault.commits.maintenance import delete_rows
from securecfg.vault.documents import MALFORMED
from securecfg.vault.drafts import Drafts, NewVersion
from securecfg.vault.members import identities_of
from securecfg.vault.opened import REGISTRY_PATH
from securecfg.vault.paths import scope_among
from securecfg.vault.scopes.charters import OWN_ROLE
from securecfg.vault.scopes.formers import has_formers
from securecfg.vault.scopes.making import verify_documents
from securecfg.vault.scopes.opening import charter_of
from securecfg.vault.scopes.registry import draft_registry, read_registry
from securecfg.vault.scopes.scopes import Scopes
from securecfg.vault.scopes.value_keys import count_waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from securecfg.vault.commits.publishing import Plan, Publication
    from securecfg.vault.scopes.making import Documents
    from securecfg.vault.scopes.registry import Registry
    from securecfg.vault.scopes.rotation import ScopeRotation

    Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class RotatedScope:
    """What became of the keys of a scope.

    Attributes:
        path: The scope, ending in `/`.
        epoch: Of the scope key in use.
        value_epoch: Of the value key in use.
        is_scope_key_alone: Whether older scope keys are forgotten.
        retired_values: The epochs of value keys that were forgotten now.
        waiting: How many data keys wait for a reader.
    """

    path: str
    epoch: int
    value_epoch: int
    is_scope_key_alone: bool
    retired_values: tuple[int, ...]
    waiting: int


class ScopeKeyring(Scopes):
    """The keys of the sealed scopes of a vault that its root has opened."""

    def around(self, path: str) -> str:
        """Return the scope at a path, or that a path lies in.

        Raises:
            SecretNotFound: There is none.
        """
        scope = scope_among(self._registry().scopes, path if path.endswith("/") else f"{path}/")
        if scope is None:
            message = f"`{path}` is in no sealed scope"
            raise SecretNotFound(message, hint="`securecfg scope list` shows the scopes")
        return scope

    def rotate(
        self, path: str, progress: Progress | None = None, *, resumes: bool = False, keeps: bool = False
    ) -> RotatedScope:
        """Put a new scope key and a new value key in use, and bring over what the administrator can.

        He brings over index and history, and in a shared scope the data keys. Those of other scopes wait for the next
        reader that opens them; then `resumes` finishes.

        Args:
            path: The scope, or a path in it.
            progress: Called with how much of what is there was brought over, and of how much.
            resumes: Whether to put no new key in use, and only go on.
            keeps: Whether not to forget old keys that nothing needs any more.

        Raises:
            AccessDenied: The caller may not `key.manage`.
            SecretNotFound: There is no such scope.
            SignaturesMissing: Too few administrators signed.
            DestroyPending: It is done, but bytes of old keys may lie in the store's log until another reader lets go.
            CommitUnknown, StoreBusy, StoreFailed: As for a write.
        """
        self._authority.require("key.manage", "")
        scope = self.around(path)
        with self._inside(scope) as inside:
            if resumes:
                inside.vouch()
                inside.orders.give()
            else:
                inside.begin_epochs()
            inside.keys.carry_over(progress)
            inside.rewrap_values()
            retired = [] if keeps else inside.retire_unused_values()
            if not keeps:
                inside.keys.retire_older()
            epochs, is_alone = inside.epochs, inside.has_one_scope_key
            done = RotatedScope(scope, *epochs, is_alone, tuple(retired), count_waiting(inside.opened))
        self.sweep_memberships()
        return done

    def rotate_roots(self, progress: Progress | None = None) -> list[str]:
        """Replace the root of every scope; return their paths. It does no harm to call it again.

        Raises:
            AccessDenied: The caller may not `key.manage`.
            SecurecfgError: What the first of the scopes failed with, of which the others were done.
        """
        self._authority.require("key.manage", "")

        def rotate(inside: ScopeRotation) -> None:
            inside.vouch()
            inside.keys.rotate_root()

        return self._in_each(rotate, progress)

    def rotate_audit(self, path: str) -> tuple[int, str]:
        """Begin a new epoch of the key that signs the log of a scope; return its number and its verifier key.

        Raises:
            AccessDenied: The caller may not `key.manage`.
            SecretNotFound: There is no such scope.
            SignaturesMissing: Too few administrators signed.
            DestroyPending, CommitUnknown, StoreBusy, StoreFailed: As for `rotate_signing_key`.
        """
        self._authority.require("key.manage", "")
        with self._inside(self.around(path)) as inside:
            inside.vouch()
            epoch = rotate_signing_key(inside.authority)
            replica = inside.opened.replica
            return epoch, str(VerifierKey(origin_of(replica.vault_id), replica.state.epoch_key))

    def retire(self, path: str, epoch: int, *, of_values: bool = False) -> None:
        """Forget an old scope key of a scope, or an old value key, and all older ones, once nothing is under them.

        Raises:
            AccessDenied: The caller may not `key.manage`.
            SecretNotFound: There is no such scope.
            SignaturesMissing: Too few administrators signed.
            VersionNotFound: There is no such key.
            EpochInUse: Something is under one of them, or it is the key in use.
            DestroyPending, CommitUnknown, StoreBusy, StoreFailed: As for `KeyChanges.retire`.
        """
        self._authority.require("key.manage", "")
        with self._inside(self.around(path)) as inside:
            if of_values:
                inside.retire_values(epoch)
            else:
                inside.vouch()
                inside.keys.retire(epoch)

    def sweep_memberships(self) -> None:
        """Delete the memberships in former keys of roles, once no scope holds anything that only these open.

        They stay, too, where a scope does not open, or names one of these keys.

        Raises:
            CommitUnknown, StoreBusy, StoreFailed: As for a write.
        """
        registry, store = self._registry(), self._opened.store
        if not registry.formers or registry.unfinished:
            return
        if any(has_formers(store.partition(each.number)) for each in registry.scopes.values()):
            return
        keys = [key for former in registry.formers.values() for key in former]
        try:
            self._verify_unnamed(keys)
        except Unavailable:
            raise
        except SecurecfgError:
            return
        members = identities_of(self._opened).values()
        delete_rows(
            self._opened, [Delete(Space.GRANT, membership_row_of(member, key)) for member in members for key in keys]
        )

        def swept(known: Registry) -> Registry:
            if known.unfinished:
                return known
            left = {role: tuple(key for key in former if key not in keys) for role, former in known.formers.items()}
            return known._replace(formers={role: former for role, former in left.items() if former})

        self._change_registry({"role": OWN_ROLE}, swept)

    def _verify_unnamed(self, keys: Collection[bytes]) -> None:
        """Check that every scope is there, and none goes on to name a key that a role has no more.

        Raises:
            Conflict: One names it.
            SecurecfgError: What the first of the scopes does not open for.
        """
        former = {RolePublic(key).signing_key for key in keys}

        def verify(inside: ScopeRotation) -> None:
            charter = charter_of(inside.opened)
            named = [party.role for party in charter.parties if party.signing_key in former]
            if named:
                message = f"the scope `{charter.path}` names a former key of `role:{named[0]}`"
                raise Conflict(message, hint=f"`securecfg role rotate {named[0]} --resume` replaces it")

        self._in_each(verify, None)

    def _change_registry(
        self, obj: Mapping[str, object], change: Callable[[Registry], Registry], documents: Documents | None = None
    ) -> None:
        """Replace the registry by what is made of the one in force, with a record about a role.

        Args:
            obj: What the record says.
            change: Returns what comes in its place.
            documents: Those of the vault that the change was made of, which have to be in force still; None where it
                was made of none.

        Raises:
            Conflict: Somebody else changes it in the same publication, or changed the documents.
        """
        new = NewVersion(self._authority.identity.principal, self._opened.clock.now_ns())

        def plan(publication: Publication) -> Plan:
            if publication.entry(REGISTRY_PATH) != self._opened.entry(REGISTRY_PATH):
                message = "somebody else changed the scopes at the same moment"
                raise Conflict(message, hint="look at `securecfg scope list`, and try again")
            if documents is not None:
                verify_documents(self._opened, publication, documents)
            plan = draft_registry(Drafts(self._opened, publication), change(read_registry(self._opened)), new)
            plan.records = [self._authority.session().record(Event.ROLE_CHANGED, obj)]
            return plan

        self._opened.publisher.publish(plan)

    def _in_each(self, change: Callable[[ScopeRotation], object], progress: Progress | None) -> list[str]:
        """Make a change in every scope; where it fails in some, in the others all the same.

        Returns:
            Their paths.

        Raises:
            SecurecfgError: What the first of them failed with.
        """
        made, failures = self._tried_in_each(change, progress)
        for error in failures.values():
            told = f"this is about {' and '.join(f'`{path}`' for path in failures)}; all other scopes were tried"
            error.hint = "; ".join(filter(None, (error.hint, told)))
            raise error
        return made

    def _tried_in_each(
        self, change: Callable[[ScopeRotation], object], progress: Progress | None
    ) -> tuple[list[str], dict[str, SecurecfgError]]:
        """Make a change in every scope, and return their paths, and what those failed with in which it failed."""
        made = sorted(self._registry().scopes)
        failures: dict[str, SecurecfgError] = {}
        for number, path in enumerate(made, start=1):
            try:
                with self._inside(path) as inside:
                    change(inside)
            except SecurecfgError as error:
                failures[path] = error
            except MALFORMED as error:
                # What its writers left there must keep no other scope from its keys, whatever it is that fails.
                message = f"something in the scope `{path}` is malformed"
                failures[path] = Tampered(
                    message, hint="who may write there may have done so; see the log of the scope"
                )
                failures[path].__cause__ = error
            if progress is not None:
                progress(number, len(made))
        return made, failures
