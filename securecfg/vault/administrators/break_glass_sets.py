"""Making a break-glass role: an identity that nobody holds alone, the role that is its own, and the scopes it reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from securecfg.audit import Event
from securecfg.errors import AlreadyExists, Conflict, SecretNotFound
from securecfg.keys.role_keys import membership_row_of
from securecfg.policy import Document, compile_policy
from securecfg.store import Delete, Space
from securecfg.vault.administration import to_document
from securecfg.vault.administrators.break_glass import may_read
from securecfg.vault.commits.publishing import Plan
from securecfg.vault.drafts import Drafts, NewVersion
from securecfg.vault.members import identities_of
from securecfg.vault.opened import POLICY_PATH, REGISTRY_PATH, ROLES_PATH, memberships_of
from securecfg.vault.paths import check_principal, check_role
from securecfg.vault.scopes.registry import (
    BREAK_GLASS_PATH,
    draft_registry,
    read_break_glass,
    read_registry,
)
from securecfg.vault.scopes.scoped_administration import ScopedAdministration
from securecfg.vault.scopes.scopes import Scopes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from securecfg.keys import Identity
    from securecfg.policy import Decision
    from securecfg.vault.authority import Authority
    from securecfg.vault.commits.publishing import Publication
    from securecfg.vault.opened import OpenVault
    from securecfg.vault.session import Session
    from securecfg.vault.trust.signatories import Signing

    Progress = Callable[[int, int], None]

RIGHT = "break-glass"


class Prepared(NamedTuple):
    """What will be made, once it is sure that it can be.

    Attributes:
        role: The role, without `role:`.
        principal: Its only member.
        scopes: The paths of what it will read.
        former: The identity that it has until then, or None.
    """

    role: str
    principal: str
    scopes: tuple[str, ...]
    former: Identity | None


class BreakGlass:
    """The break-glass roles of a vault that its root has opened.

    Args:
        authority: Over the whole vault.
        signing: Returns who signs, for some administrators; None where the vault's own key does.
    """

    def __init__(self, authority: Authority, signing: Signing | None = None) -> None:
        """Change nothing yet."""
        self._authority = authority
        self._opened = authority.opened
        self._scopes = Scopes.with_signing(authority, signing)
        self._administration = ScopedAdministration(authority, signing)

    def prepare(self, paths: Sequence[str], name: str, *, is_renewal: bool) -> Prepared:
        """Check that a break-glass role can be made, or renewed, before anybody makes keys for it.

        Args:
            paths: Scopes; of a renewal those that are added.
            name: What the role is called, and its identity, a service.
            is_renewal: Whether the role is there, and gets another identity and another key.

        Raises:
            AccessDenied: The caller may not `key.manage` or not `role.write`.
            InvalidMetadata: The name is none.
            SecretNotFound: There is no such scope, or for a renewal no such role.
            AlreadyExists: The role or its identity is there already, and it is no renewal.
            Conflict: The role has other members, or the policy does not let it read.
        """
        for right in ("key.manage", "role.write"):
            self._authority.require(right, "")
        role, principal = check_role(name), check_principal(f"svc:{name}")
        infos = {info.path: info for info in map(self._scopes.show, self._scopes.paths())}
        wanted = [self._scopes.show(path).path for path in paths]
        known = {path for path, info in infos.items() if RIGHT in info.roles.get(role, ())}
        members: dict[str, list[str]] = self._opened.system_document(ROLES_PATH, {})
        former = identities_of(self._opened).get(principal)
        known |= set(unfinished(self._opened).get(role, ()))
        is_there = bool(known or former or members.get(role))
        if is_there and not is_renewal:
            message = f"there is a `role:{role}` or an identity of `{principal}` already"
            hint = "`--renew` gives it another identity and other shares; `--name` makes another one"
            raise AlreadyExists(message, hint=hint)
        if is_renewal and not is_there:
            message = f"there is no `role:{role}` that could be renewed"
            raise SecretNotFound(message, hint="without `--renew` it is made")
        if {*members.get(role, [])} - {principal} or any(role in i.roles for p, i in infos.items() if p not in known):
            message = f"`role:{role}` has other members or rights than those of break-glass"
            raise Conflict(message, hint="`--name` makes another one")
        scopes = tuple(sorted({*wanted, *known}))
        if not scopes:
            message = f"no scope is named that `role:{role}` is to read"
            raise SecretNotFound(message, hint="`securecfg scope list` shows the scopes")
        self._verify_policy(role, principal, scopes, members)
        return Prepared(role, principal, scopes, former)

    def install(self, prepared: Prepared, identity: Identity, progress: Progress | None = None) -> None:
        """Let an identity be the only one of a break-glass role, with a new key of the role; the former one is out.

        Each step is complete, and a renewal does what is left. Until the last one the role does not read all scopes.

        Args:
            prepared: From `prepare`.
            identity: The public half of the new identity, of the same name.
            progress: Called with how far keys are changed.

        Raises:
            SignaturesMissing: Too few administrators signed.
            CommitUnknown, StoreBusy, StoreFailed, DestroyPending: As for a write, or the removal of a role.
        """
        role, principal = prepared.role, prepared.principal
        self._note(role, prepared.scopes)
        for path in prepared.scopes:
            if role in self._scopes.show(path).roles:
                self._scopes.revoke(path, role, "list", progress)
        self._forget_key(role, prepared.former)
        self._administration.add_member(role, principal, identity=identity, replace=True)
        for path in prepared.scopes:
            self._scopes.grant(path, role, RIGHT)
        self._note(role, ())

    # --- pieces ------------------------------------------------------------------------------------------------------

    def _verify_policy(self, role: str, principal: str, scopes: Sequence[str], members: dict[str, list[str]]) -> None:
        raw: list[dict[str, Any]] = self._opened.system_document(POLICY_PATH, [])
        after = memberships_of({**members, role: [principal]})
        policy = compile_policy([Document(**document) for document in raw], memberships=after)
        closed = [path for path in scopes if not may_read(self._opened, policy, principal, path)]
        if closed:
            message = f"the policy does not let `role:{role}` list and read below {', '.join(f'`{p}`' for p in closed)}"
            patterns = ", ".join(f'"{path}**"' for path in closed)
            hint = f'apply a grant of `actions = ["list", "read"]`, `paths = [{patterns}]` to the role first'
            raise Conflict(message, hint=hint)

    def _note(self, role: str, scopes: Sequence[str]) -> None:
        """Note that a role is break-glass, and which scopes it is still to be granted."""
        new = NewVersion(self._authority.identity.principal, self._opened.clock.now_ns())

        def plan(publication: Publication, session: Session, decision: Decision) -> Plan:
            if publication.entry(BREAK_GLASS_PATH) != self._opened.entry(BREAK_GLASS_PATH):
                raise _changed_meanwhile()
            rest = read_break_glass(self._opened)
            after = {**rest, role: list(scopes)}
            plan = Drafts(self._opened, publication).write(BREAK_GLASS_PATH, to_document(after), new)
            plan.records = [session.record(Event.ROLE_CHANGED, {"role": role}, decision=decision)]
            return plan

        self._authority.publish_allowed("key.manage", plan)

    def _forget_key(self, role: str, former: Identity | None) -> None:
        """Forget the key of a role that no scope knows any more, so that the next grant makes another one."""
        new = NewVersion(self._authority.identity.principal, self._opened.clock.now_ns())

        def plan(publication: Publication, session: Session, decision: Decision) -> Plan:
            if publication.entry(REGISTRY_PATH) != self._opened.entry(REGISTRY_PATH):
                raise _changed_meanwhile()
            registry = read_registry(self._opened)
            key = registry.roles.get(role)
            if key is None:
                return Plan()
            rest = {name: public for name, public in registry.roles.items() if name != role}
            after = registry._replace(roles=rest, unfinished=registry.unfinished - {role})
            plan = draft_registry(Drafts(self._opened, publication), after, new)
            obj: dict[str, object] = {"role": role}
            if former is not None:
                obj |= {"removed": [former.name], "old_fingerprint": former.fingerprint.hex()}
                row = membership_row_of(former, key)
                if self._opened.store.get(Space.GRANT, row) is not None:
                    plan.deletes.append(Delete(Space.GRANT, row))
            plan.records = [session.record(Event.ROLE_CHANGED, obj, decision=decision)]
            return plan

        self._authority.publish_allowed("key.manage", plan)


def unfinished(opened: OpenVault) -> dict[str, list[str]]:
    """Return the scopes of those break-glass roles whose making or renewal did not come to its end.

    Raises:
        Tampered: The document is damaged.
    """
    return {role: paths for role, paths in read_break_glass(opened).items() if paths}


def _changed_meanwhile() -> Conflict:
    message = "somebody else changed the scopes or break-glass at the same moment"
    return Conflict(message, hint="try again with `--renew`")
