"""Giving a role another key in every scope that it takes part in, so that who has left it reads nothing that comes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING

from securecfg.errors import Conflict, SecretNotFound, SecurecfgError
from securecfg.keys.role_keys import RolePublic, membership_row_of
from securecfg.store import Delete, Put, Space
from securecfg.vault.charters import READ
from securecfg.vault.maintenance import delete_rows
from securecfg.vault.members import identities_of
from securecfg.vault.paths import check_role
from securecfg.vault.scope_completion import complete_grants
from securecfg.vault.scope_formers import has_formers
from securecfg.vault.scope_keys import ScopeKeyring
from securecfg.vault.scope_opening import charter_of
from securecfg.vault.scope_registry import ABANDONED_NS
from securecfg.vault.value_keys import count_waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from securecfg.vault.drafts import Content
    from securecfg.vault.scope_registry import Registry
    from securecfg.vault.scope_rotation import ScopeRotation

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
            SecurecfgError: What the first of the scopes failed with, of which the others were done; `resumes` goes on.
        """
        self._authority.require("key.manage", "")
        name = check_role(role)
        if not resumes:
            self._verify_none_made(self._registry())
            if self.members(name):
                self.verify_kept(name)
            self._replace_key(name)
        self._delete_memberships(name)
        public = RolePublic(self._key_of(name))
        self._certificates().complete({name: public.public_key}, {name: self._members(name)})
        waiting: list[str] = []

        def replace(inside: ScopeRotation) -> None:
            if charter_of(inside.opened).party(name) is None:
                return
            inside.replace_role(name, public, partial(self._documents_with, inside, name, public))
            while complete_grants(inside.authority, self._own_keys().all):
                pass
            inside.rewrap_values()
            if count_waiting(inside.opened):
                waiting.append(charter_of(inside.opened).path)

        failure: SecurecfgError | None = None
        try:
            self._in_each(replace, progress)
        except SecurecfgError as error:
            failure = error
        scopes = self.takes_part(name)
        self.propagate(scopes)
        if failure is not None:
            raise failure
        self._finish_key(name, public)
        self.sweep_memberships()
        return RotatedRole(name, self.members(name), scopes, waiting)

    def verify_kept(self, role: str, leaving: str = "") -> None:
        """Check that somebody goes on to read what is in the scopes of a role when it gets another key.

        Args:
            role: Its name.
            leaving: A member that is about to be taken out of it.

        Raises:
            Conflict: Nobody who stays has the key of the role, and nobody else reads one of the scopes.
        """
        registry = self._registry()
        formers = registry.formers.get(role, ())
        keys = [key for key in (registry.roles.get(role), *formers) if key is not None]

        def verify(inside: ScopeRotation) -> None:
            charter = charter_of(inside.opened)
            party = charter.party(role)
            if party is None or {other.role for other in charter.parties if other.rights & READ} != {role}:
                return
            used = [key for key in keys if RolePublic(key).signing_key == party.signing_key]
            used += formers if has_formers(inside.opened.store) else ()
            if not all(set(self.holders(role, key)) - {leaving} for key in used):
                message = f"nobody who stays has the key of `role:{role}`, and nobody else reads `{charter.path}`"
                hint = "let a member with the key open the vault once, so that it lets the others in"
                raise Conflict(message, hint=f"{hint}; or grant another role to read the scope before")

        self._in_each(verify, None)

    # --- pieces ------------------------------------------------------------------------------------------------------

    def _documents_with(self, inside: ScopeRotation, name: str, public: RolePublic) -> Mapping[bytes, Content]:
        """Return the documents of a scope by which the members of a role have its newest key."""
        certificates = self._certificates()
        keys = self._learn(inside, certificates) | {name: public.public_key}
        return self._documents(keys, certificates)

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
        new = self._new_role_key(name, self._certificates(), memberships)
        self._opened.store.stage(memberships)
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

        self._change_registry(told, replaced)

    def _verify_none_made(self, known: Registry) -> None:
        """Check that no scope is being made of secrets that are there already.

        Raises:
            Conflict: One is.
        """
        now = self._opened.clock.now_ns()
        made = [path for path, making in known.making.items() if now - making.begun_ns <= ABANDONED_NS]
        if made:
            message = f"a scope is being made at `{made[0]}`"
            raise Conflict(message, hint="wait until it is there; what was interrupted is given up after two hours")

    def _finish_key(self, name: str, public: RolePublic) -> None:
        """Note that every scope has a key of a role, unless there is another one by now."""

        def finished(known: Registry) -> Registry:
            is_newest = known.roles[name] == public.public_key
            return known._replace(unfinished=known.unfinished - {name}) if is_newest else known

        if name in self._registry().unfinished:
            self._change_registry({"role": name, "members": self.members(name)}, finished)

    def _delete_memberships(self, name: str) -> None:
        """Delete the rows by which those came to keys of a role who are no members of it any more."""
        registry, members = self._registry(), set(self.members(name))
        keys = [*registry.formers.get(name, ()), *filter(None, [registry.roles.get(name)])]
        gone = [identity for who, identity in identities_of(self._opened).items() if who not in members]
        deletes = [Delete(Space.GRANT, membership_row_of(identity, key)) for identity in gone for key in keys]
        delete_rows(self._opened, deletes)


def _fingerprint(key: bytes) -> str:
    return sha256(key).hexdigest()[: 2 * _FINGERPRINT_BYTES]
