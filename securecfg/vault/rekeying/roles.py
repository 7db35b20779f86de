"""Giving a role another key in every scope that it takes part in, so that who has left it reads nothing that comes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING

from securecfg.errors import Conflict, InvalidMetadata, SecretNotFound, Unavailable
from securecfg.keys.role_keys import RolePublic, membership_row_of
from securecfg.store import Delete, Put, Space
from securecfg.vault.commits.maintenance import delete_rows
from securecfg.vault.members import identities_of
from securecfg.vault.paths import check_role
from securecfg.vault.rekeying.scopes import ScopeKeyring
from securecfg.vault.scopes.completion import complete_grants
from securecfg.vault.scopes.formers import granted_epochs
from securecfg.vault.scopes.making import being_made
from securecfg.vault.scopes.opening import charter_of, grants_of
from securecfg.vault.scopes.value_keys import count_waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from securecfg.errors import SecurecfgError
    from securecfg.keys import Identity
    from securecfg.vault.scopes.registry import Registry
    from securecfg.vault.scopes.rotation import ScopeRotation

    Progress = Callable[[int, int], None]

_FINGERPRINT_BYTES = 16


@dataclass(frozen=True, slots=True)
class RotatedRole:
    """What became of the key of a role.

    Attributes:
        role: Its name.
        members: Who was given the key in use.
        scopes: The scopes in which the role takes part with it.
        waiting: Those of them in which data keys wait for a reader.
    """

    role: str
    members: Sequence[str]
    scopes: Sequence[str]
    waiting: Sequence[str]


class RoleRotation(ScopeKeyring):
    """The keys of roles, as the administrator replaces them."""

    def takes_part(self, role: str) -> list[str]:
        """Return the paths of the scopes in which a role has rights.

        Raises:
            AccessDenied: The caller may not `key.manage`.
            SecretNotFound: It has no key, since it never had a right in a scope.
        """
        self._authority.require("key.manage", "")
        self._key_of(check_role(role))
        return [path for path in self.paths() if role in self.show(path).roles]

    def has_key(self, role: str) -> bool:
        """Return whether a role ever had a right in a sealed scope."""
        return role in self._registry().roles

    def members(self, role: str) -> list[str]:
        """Return the members of a role that a new key is sealed to."""
        return sorted(member.name for member in self._members(role))

    def rotate_role(self, role: str, progress: Progress | None = None, *, resumes: bool = False) -> RotatedRole:
        """Give a role a new key, sealed to those who are its members now, in the place of the old one in every scope.

        Each scope changes in one publication, as when a role loses all rights and another is given them: new keys of
        every kind, and what the role could read is listed as exposed. Members who are there have both keys for some
        time; the next of them to open a scope brings its data keys over.

        Args:
            role: Its name.
            progress: Called with the number of scopes done, and of all of them.
            resumes: Whether to make no new key, and only bring the newest to the scopes that have it not.

        Raises:
            AccessDenied: The caller may not `key.manage`.
            SecretNotFound: The role never had a right in a scope.
            InvalidMetadata: No member has a public key.
            SignaturesMissing: Too few administrators signed.
            Conflict: Somebody else changed the scopes meanwhile; or nobody who stays could read what is in one of them.
                Where `resumes` says so all is done but to forget by which key others could.
            SecurecfgError: What the first of the scopes failed with, of which the others were done; `resumes` goes on.
        """
        self._authority.require("key.manage", "")
        name = check_role(role)
        key = self._key_of(name)
        if not resumes:
            self._verify_none_made(self._registry())
        gone = self._others(name)
        lost, failures = self._look(name)
        if not resumes:
            self._verify_left(name, lost)
            self._replace_key(name)
            key = self._key_of(name)
        if not lost and not failures:
            self._delete_memberships(name, gone)
        public = RolePublic(key)
        self._certificates().complete({name: key}, {name: self._members(name)})
        scopes: list[str] = []
        waiting: list[str] = []

        def replace(inside: ScopeRotation) -> None:
            path = charter_of(inside.opened).path
            if charter_of(inside.opened).party(name) is None:
                return
            documents = partial(self._documents_with, inside, name, public)
            inside.replace_role(name, public, documents, self._holding(name, public))
            while complete_grants(inside.authority, self._own_keys().all):
                pass
            inside.rewrap_values()
            scopes.append(path)
            if count_waiting(inside.opened):
                waiting.append(path)

        _, failures = self._tried_in_each(replace, progress)
        self.propagate(scopes)
        for error in failures.values():
            left = ", ".join(f"`{path}`" for path in failures)
            told = f"all scopes but {left} are done, and `securecfg role rotate {name} --resume` goes on"
            error.hint = f"{told}; {error.hint}" if error.hint else told
            raise error
        self._finish_key(name, public)
        self.sweep_memberships()
        for error in lost.values():
            raise error
        return RotatedRole(name, self.members(name), scopes, waiting)

    def verify_kept(self, role: str, leaving: str = "") -> None:
        """Check that a role can get another key, and somebody goes on to read what is in its scopes.

        A scope that does not open is passed over: while there is one, nothing is forgotten by which it is read.

        Args:
            role: Its name.
            leaving: A member that is about to be taken out of it.

        Raises:
            Conflict: Nobody who stays could read what is in one of the scopes.
            InvalidMetadata: No member who stays has a public key.
        """
        if self.has_key(role):
            self._verify_left(role, self._look(role, leaving)[0], leaving)

    # --- pieces ------------------------------------------------------------------------------------------------------

    def _verify_left(self, name: str, lost: Mapping[str, Conflict], leaving: str = "") -> None:
        if not set(self.members(name)) - {leaving}:
            message = f"`role:{name}` has no other member with a public key, to whom another key could be given"
            hint = f"`securecfg scope revoke PATH --list role:{name}` takes its rights in a scope"
            raise InvalidMetadata(message, hint=f"{hint}; or add another member before")
        for error in lost.values():
            raise error

    def _look(self, role: str, leaving: str = "") -> tuple[dict[str, Conflict], dict[str, SecurecfgError]]:
        """Look what nobody would read any more if a role forgot the keys that it has.

        A value key is kept where a role that reads was granted it, by a key that one of the members who stay has.

        Returns:
            By the paths of scopes: for those in which something would be lost, and what others did not open for.

        Raises:
            StoreBusy, StoreFailed: A scope cannot be read now.
        """
        registry = self._registry()
        keys = {name: (key, *registry.formers.get(name, ())) for name, key in registry.roles.items()}
        staying = {
            (name, key): set(self.holders(name, key)) - ({leaving} if name == role else set())
            for name, those in keys.items()
            for key in those
        }
        lost: dict[str, Conflict] = {}

        def look(inside: ScopeRotation) -> None:
            path, own = charter_of(inside.opened).path, grants_of(inside.opened)
            kept: set[int] = set()
            held: set[int] = set()
            for name, key, epochs in granted_epochs(inside.opened, keys):
                kept |= epochs if staying.get((name, key)) else set()
                held |= epochs if name == role else set()
            lacking = {epoch for epoch in held - kept if not own.is_granted(epoch)}
            if lacking and lacking & inside.used_values():
                message = f"nobody who stays has the key of `role:{role}`, and nobody else reads `{path}`"
                hint = "let somebody who reads it open the vault once, so that the others are given what they lack; "
                hint += "or add who had the key to the role again"
                lost[path] = Conflict(message, hint=hint)

        _, failures = self._tried_in_each(look, None)
        for error in failures.values():
            if isinstance(error, Unavailable):
                raise error
        return lost, failures

    def _key_of(self, name: str) -> bytes:
        key = self._registry().roles.get(name)
        if key is None:
            message = f"`role:{name}` never had a right in a sealed scope, and so has no key"
            raise SecretNotFound(message, hint="`securecfg scope list` shows which roles have")
        return key

    def _replace_key(self, name: str) -> None:
        """Make a new key for a role and put it in the place of the old one, in the vault."""
        old = self._key_of(name)
        memberships: list[Put] = []
        documents = self._newest_documents()
        new = self._new_role_key(name, self._certificates(), memberships)
        self._stage_memberships(memberships, documents)
        told = {"role": name, "members": self.members(name)}
        told |= {"fingerprint": _fingerprint(new), "old_fingerprint": _fingerprint(old)}

        def replaced(known: Registry) -> Registry:
            # A scope that is being made has the old key, and would have it afterwards.
            self._verify_none_made(known)
            return known._replace(
                roles={**known.roles, name: new},
                formers={**known.formers, name: (*known.formers.get(name, ()), known.roles[name])},
                unfinished=known.unfinished | {name},
            )

        self._change_registry(told, replaced, documents)

    def _verify_none_made(self, known: Registry) -> None:
        """Check that no scope is being made.

        Raises:
            Conflict: One is.
        """
        made = known.begun(self._opened.clock.now_ns())
        if made:
            raise being_made(made[0])

    def _finish_key(self, name: str, public: RolePublic) -> None:
        """Note that every scope has a key of a role, unless there is another one by now.

        Raises:
            Conflict: A scope names a former one.
            SecurecfgError: What the first of the scopes does not open for.
        """

        def finished(known: Registry) -> Registry:
            is_newest = known.roles.get(name) == public.public_key
            return known._replace(unfinished=known.unfinished - {name}) if is_newest else known

        registry = self._registry()
        if name in registry.unfinished:
            self._verify_unnamed(registry.formers.get(name, ()))
            self._change_registry({"role": name, "members": self.members(name)}, finished)

    def _others(self, name: str) -> list[Identity]:
        """Return those who are no members of a role."""
        members = set(self.members(name))
        return [identity for who, identity in identities_of(self._opened).items() if who not in members]

    def _delete_memberships(self, name: str, gone: Sequence[Identity]) -> None:
        """Delete the rows by which those came to keys of a role who are no members of it, if they still are none."""
        registry, still = self._registry(), self._others(name)
        keys = [*registry.formers.get(name, ()), *filter(None, [registry.roles.get(name)])]
        left = [identity for identity in gone if identity in still]
        delete_rows(
            self._opened, [Delete(Space.GRANT, membership_row_of(identity, key)) for identity in left for key in keys]
        )


def _fingerprint(key: bytes) -> str:
    return sha256(key).hexdigest()[: 2 * _FINGERPRINT_BYTES]
