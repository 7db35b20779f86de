"""The worst day of a vault with sealed scopes: who opens it by its root replaces all keys, readers encrypt anew."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from securecfg.errors import IntegrityError, ScopeSealed, SecurecfgError, Unavailable, VersionNotFound
from securecfg.keys import Purpose
from securecfg.vault.administrators.replacing import AdministratorChanges
from securecfg.vault.commits.maintenance import finish_destruction
from securecfg.vault.keys.changes import KeyChanges, find_older
from securecfg.vault.keys.departures import find_compromise, new_compromise, newest_compromise
from securecfg.vault.paths import is_vault_document
from securecfg.vault.rekeying.compromise import Compromise
from securecfg.vault.rekeying.data import verify_encrypts
from securecfg.vault.rekeying.scopes import ScopeKeyring
from securecfg.vault.scopes.charters import READ, WRITE
from securecfg.vault.scopes.opening import charter_of
from securecfg.vault.scopes.value_keys import count_waiting, epochs_of_drops, rewrap_values

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.vault.authority import Authority
    from securecfg.vault.keys.departures import DeclaredCompromise
    from securecfg.vault.opened import OpenVault
    from securecfg.vault.rekeying.compromise import Aftermath, ExposedVersions
    from securecfg.vault.scopes.rotation import ScopeRotation
    from securecfg.vault.trust.signatories import Signatories, Signing
    from securecfg.vault.vault import Vault

    Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class ScopeAftermath:
    """What is left to do in a scope, for others than who has done the rest.

    Attributes:
        path: The scope, ending in `/`.
        waiting: How many data keys wait for a reader, under a value key that may be known.
        secrets: How many secrets wait for somebody who reads and writes, to be encrypted anew.
        drops: How many dropped values wait for somebody who reads and writes, under a value key that may be known.
        has_both: Whether a role both reads and writes.
    """

    path: str
    waiting: int
    secrets: int
    drops: int
    has_both: bool

    @property
    def is_done(self) -> bool:
        """Whether nothing is left."""
        return not (self.waiting or self.secrets or self.drops)


class ScopeCompromise(ScopeKeyring):
    """What to do when all keys of a vault and of its scopes may be known.

    Args:
        authority: Decides and records in the vault.
        signatories: As for `Scopes`.
        signing: Returns who signs for the administrators of sealed scopes, where these are people.
    """

    def __init__(
        self, authority: Authority, signatories: Signatories | None = None, signing: Signing | None = None
    ) -> None:
        """Change nothing yet."""
        super().__init__(authority, signatories)
        self._signing_for = signing

    @classmethod
    def with_signing(cls, authority: Authority, signing: Signing | None) -> Self:
        """Return what to do, with those who sign for the administrators of today; see `Scopes.with_signing`."""
        worst = super().with_signing(authority, signing)
        worst._signing_for = signing  # noqa: SLF001 - of its own kind
        return worst

    def find_exposed(self) -> list[ExposedVersions]:
        """Return every version that can be read from the vault and its scopes now, as far as the caller may list it.

        Raises:
            AccessDenied: The caller may not `key.manage`.
            Tampered: A row does not match the signed state.
        """
        found, failures = self._look_for_exposed()
        for failure in failures:
            raise failure
        return found

    def declare(
        self, *, reason: str = "", drops_slots: bool = False, progress: Progress | None = None
    ) -> tuple[Aftermath, list[ScopeAftermath]]:
        """Replace every key of the vault and of its scopes, then do as much of the rest as the key at hand can.

        Args:
            reason: As for `Compromise.declare`.
            drops_slots: As for `Compromise.declare`; slots of scopes are for roles, and stay.
            progress: As for `Compromise.declare`.

        Returns:
            What was done, and of each scope what is left.

        Raises:
            SignaturesMissing: All is done but in scopes whose administrators must sign.
            Tampered: Something was damaged, so that what could be read is not known in full; all keys are replaced.
            SecurecfgError: What the first of the scopes failed with that does not open; all others are done.
            As for `Compromise.declare`; `resume` goes on.
        """
        exposed, failures = self._look_for_exposed()
        Compromise(self._authority).replace_keys(new_compromise(), reason, drops_slots=drops_slots)
        return self._bring_over(exposed, failures, progress)

    def resume(self, progress: Progress | None = None) -> tuple[Aftermath, list[ScopeAftermath]]:
        """Go on where `declare` was interrupted, or where it waited for others; it does no harm where it did not.

        Raises:
            VersionNotFound: No compromise was declared.
            As for `declare`.
        """
        # It may have been interrupted while the own key of the vault was replaced, which some scopes do not know yet.
        earlier = AdministratorChanges(self._authority, self._signing_for)
        failures = _collected(lambda: earlier.finish(progress))
        exposed, unread = self._look_for_exposed()
        return self._bring_over(exposed, failures + unread, progress)

    def _look_for_exposed(self) -> tuple[list[ExposedVersions], list[SecurecfgError]]:
        """Return what can be read, and what the vault, and the first of the scopes that do not open, failed with."""
        found: list[ExposedVersions] = []
        failures = _collected(lambda: found.extend(Compromise(self._authority).find_exposed()))
        failures += self._tried(lambda inside: found.extend(Compromise(inside.authority).find_exposed()))
        return sorted(found, key=lambda each: each.path), failures

    def _tried(self, change: Callable[[ScopeRotation], object]) -> list[SecurecfgError]:
        """Make a change in every scope; return what the first failed with, which keeps nothing else from being done."""
        return _collected(lambda: self._in_each(change, None))

    def _bring_over(
        self, exposed: list[ExposedVersions], failures: list[SecurecfgError], progress: Progress | None
    ) -> tuple[Aftermath, list[ScopeAftermath]]:
        """Do all that can be done, then raise the first of the failures, those before included."""
        declared = newest_compromise(self._opened)
        # What a writer has left of the policy of his scope must not keep the vault from changing its keys.
        failures += _collected(self.propagate)
        if declared is not None:
            # The keys of all come first: until then what is written in a scope may be read by whoever has the old ones.
            failures += self._tried(lambda inside: _replace_keys(inside, declared))
        done: Aftermath | None = None
        try:
            done = Compromise(self._authority, self._signing_for).bring_over(declared, exposed, progress)
        except (Unavailable, VersionNotFound):
            raise
        except SecurecfgError as error:
            failures.append(error)
        left: list[ScopeAftermath] = []

        def finish(inside: ScopeRotation) -> None:
            noted = _find_noted(inside.opened, declared)
            if noted is not None:
                inside.vouch()
                inside.rewrap_values()
                Compromise(inside.authority).bring_over(noted, [], progress)
                inside.retire_unused_values()
                left.append(_look(inside.opened, noted.end))

        failures += self._tried(finish)
        if failures or done is None:
            raise failures[0]
        self.sweep_memberships()
        return replace(done, exposed=exposed), left


def finish_as_member(vault: Vault, progress: Progress | None = None) -> list[tuple[int, ScopeAftermath]]:
    """Do what a member can in the scopes that his key opens, once a compromise was declared by the root of the vault.

    Opening a scope has brought its data keys over. Nothing is asked of the policy: no value leaves the process, and
    nothing changes that a person sees.

    Returns:
        Of each scope how many secrets were encrypted anew, and what is left.

    Raises:
        VersionNotFound: No compromise was declared.
        DestroyPending, StoreBusy, CommitUnknown, StoreFailed, Tampered: As for `KeyChanges.encrypt_older`.
    """
    done = []
    failures: dict[str, SecurecfgError] = {}
    for scope, part in vault.parts(failures):
        try:
            finished = _finish_in(part, progress)
        except IntegrityError as error:
            failures[scope] = error  # the others are finished all the same
            continue
        if finished is not None:
            done.append(finished)
    for failure in failures.values():
        raise failure
    if not done:
        message = "no compromise was declared in the scopes that this key opens"
        raise VersionNotFound(message, hint="who opens the vault by its root does: `securecfg key compromise`")
    return done


def _finish_in(part: Vault, progress: Progress | None) -> tuple[int, ScopeAftermath] | None:
    declared = newest_compromise(part.opened)
    if declared is None:
        return None
    rewrap_values(part.opened)
    count = 0
    with suppress(ScopeSealed):  # what is left says so
        verify_encrypts(part.opened)
        count = KeyChanges(part.authority).finish_encryption(declared.end, progress)
        finish_destruction(part.opened)
    return count, _look(part.opened, declared.end)


def _collected(change: Callable[[], object]) -> list[SecurecfgError]:
    """Return what a change failed with, where that is to keep nothing else from being done."""
    try:
        change()
    except SecurecfgError as error:
        return [error]
    return []


def _replace_keys(inside: ScopeRotation, declared: DeclaredCompromise) -> None:
    """Replace the keys of a scope that was there when a compromise was declared, and was not reached yet."""
    scope_id = inside.opened.replica.vault_id
    if declared.concerns(scope_id) and _find_noted(inside.opened, declared) is None:
        inside.replace_everything(declared.name_in(scope_id), declared.reason)


def _find_noted(opened: OpenVault, declared: DeclaredCompromise | None) -> DeclaredCompromise | None:
    """Return what a scope notes of a compromise that the vault names, None where it was not reached yet."""
    return find_compromise(opened, declared.name_in(opened.replica.vault_id)) if declared is not None else None


def _look(opened: OpenVault, end: int) -> ScopeAftermath:
    opened.refresh()
    charter = charter_of(opened)
    older = [path for path in find_older(opened, end) if not is_vault_document(path)]
    has_both = any(party.rights & READ and party.rights & WRITE for party in charter.parties)
    active = opened.replica.keyring.active(Purpose.VALUE).epoch
    drops = sum(epoch != active for epoch in epochs_of_drops(opened))
    return ScopeAftermath(charter.path, count_waiting(opened), len(older), drops, has_both)
