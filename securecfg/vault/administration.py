"""The vault's own documents: policy and roles. They lie in it like secrets, under paths that no user path can have."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from securecfg.audit import Event, VerifierKey, origin_of
from securecfg.clock import to_datetime
from securecfg.crypto import KIND_TEXT
from securecfg.errors import Conflict, SecretNotFound, StaleWrite, StoreBusy, VersionNotFound
from securecfg.policy import Decision, Document, compile_policy
from securecfg.vault.drafts import Content, Drafts, NewVersion
from securecfg.vault.opened import POLICY_PATH, ROLES_PATH, memberships_of
from securecfg.vault.paths import check_principal, check_role
from securecfg.vault.session import Session
from securecfg.vault.writing import Wanted, Writes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from securecfg.policy import Policy
    from securecfg.vault.authority import Authority, Stamp
    from securecfg.vault.opened import OpenVault
    from securecfg.vault.publishing import Plan, Publication
    from securecfg.vault.session import Identity

ADMIN = "admin"

_RETRIES = 16


class _Change(NamedTuple):
    """What a document is replaced by.

    Attributes:
        policy: What is in force then.
        content: The document.
        describe: Returns the record's object for the new version's number.
    """

    policy: Policy
    content: Content
    describe: Callable[[object], Mapping[str, object]]


@dataclass(frozen=True, slots=True)
class PolicyRevision:
    """One revision of the applied policy.

    Attributes:
        revision: Its number, from 1.
        created: When it was applied.
        author: By whom.
        is_current: Whether it is in force.
    """

    revision: int
    created: datetime
    author: str
    is_current: bool


class Administration:
    """Policy and roles, as one identity may change them.

    Args:
        authority: Decides and records for it.
    """

    def __init__(self, authority: Authority) -> None:
        """Change nothing yet."""
        self._authority = authority
        self._opened = authority.opened
        self._writes = Writes(authority)

    def policy(self) -> Policy:
        """Return the compiled policy in force.

        Raises:
            AccessDenied: The caller may not `policy.read`.
        """
        self._authority.require("policy.read", "")
        return self._opened.policy()[1]

    def policy_documents(self, revision: int | None = None) -> list[Document]:
        """Return the applied documents, of the revision in force or of an earlier one.

        Raises:
            AccessDenied: The caller may not `policy.read`.
            VersionNotFound: There is no such revision.
        """
        self._authority.require("policy.read", "")
        return self._documents(revision)

    def policy_revisions(self) -> list[PolicyRevision]:
        """Return all revisions, newest first.

        Raises:
            AccessDenied: The caller may not `policy.read`.
        """
        self._authority.require("policy.read", "")
        opened = self._opened
        entry = opened.replica.index.get(POLICY_PATH)
        if entry is None:
            return []
        history = opened.history(POLICY_PATH, entry)
        versions = list(history.versions)
        for page in range(len(history.older) - 1, -1, -1):
            versions += opened.older_versions(history, page)
        return [
            PolicyRevision(
                version.number, to_datetime(version.created), version.author, version.number == history.current
            )
            for version in versions
        ]

    def check_policy(self, documents: Sequence[Document]) -> Policy:
        """Compile documents with the roles of this vault, without applying them.

        Raises:
            InvalidPolicy, InvalidGrants: They are wrong; the message names every problem with its place.
        """
        return compile_policy(documents, memberships=memberships_of(self._roles()))

    def apply_policy(self, documents: Sequence[Document]) -> int:
        """Replace the policy by some documents and return the new revision.

        Raises:
            AccessDenied: The caller may not `policy.write`.
            InvalidPolicy, InvalidGrants: They are wrong; nothing is changed.
        """
        content = _document([document._asdict() for document in documents])
        names = [document.name for document in documents]

        def make() -> _Change:
            policy = self.check_policy(documents)
            return _Change(policy, content, lambda revision: {"rev": revision, "digest": policy.digest, "files": names})

        return self._replace("policy.write", POLICY_PATH, Event.POLICY_APPLIED, make)

    def roll_back_policy(self, revision: int) -> int:
        """Apply an earlier revision again, as a new one, and return its number.

        Raises:
            AccessDenied: The caller may not `policy.write`.
            VersionNotFound: There is no such revision.
            InvalidPolicy, InvalidGrants: It no longer compiles with the roles of today.
        """

        def make() -> _Change:
            documents = self._documents(revision)
            policy = self.check_policy(documents)
            return _Change(
                policy,
                _document([document._asdict() for document in documents]),
                lambda number: {"rev": number, "source_rev": revision, "digest": policy.digest},
            )

        return self._replace("policy.write", POLICY_PATH, Event.POLICY_ROLLED_BACK, make)

    def roles(self) -> dict[str, list[str]]:
        """Return the members of each role that was given in the vault, beside those that grant tables name.

        Raises:
            AccessDenied: The caller may not `role.read`.
        """
        self._authority.require("role.read", "")
        return self._roles()

    def add_member(self, role: str, principal: str) -> None:
        """Give a principal a role.

        Raises:
            AccessDenied: The caller may not `role.write`.
            InvalidMetadata: It is no role or no principal.
        """
        name, member = check_role(role), check_principal(principal)

        def make() -> _Change:
            roles = self._roles()
            members = sorted({*roles.get(name, []), member})
            obj = {"role": name, "members": members, "added": [member]}
            return self._change_of_roles({**roles, name: members}, obj)

        self._replace("role.write", ROLES_PATH, Event.ROLE_CHANGED, make)

    def remove_member(self, role: str, principal: str) -> None:
        """Take a role from a principal.

        Raises:
            AccessDenied: The caller may not `role.write`.
            InvalidMetadata: It is no role or no principal.
            SecretNotFound: The principal was not given the role in the vault.
            Conflict: It is the last administrator, or the last one for whom a key may speak.
        """
        name, member = check_role(role), check_principal(principal)

        def make() -> _Change:
            roles = self._roles()
            if member not in roles.get(name, []):
                message = f"`{member}` was not given `role:{name}` in the vault"
                hint = "memberships in a grant table are changed with `securecfg policy apply`"
                raise SecretNotFound(message, hint=hint)
            members = [other for other in roles[name] if other != member]
            if name == ADMIN and not members:
                message = f"`{member}` is the last administrator"
                raise Conflict(message, hint="make somebody else an administrator first")
            rest = {other: those for other, those in roles.items() if other != name}
            obj = {"role": name, "members": members, "removed": [member]}
            return self._change_of_roles({**rest, name: members} if members else rest, obj)

        self._replace("role.write", ROLES_PATH, Event.ROLE_CHANGED, make)

    def _change_of_roles(self, roles: dict[str, list[str]], obj: Mapping[str, object]) -> _Change:
        policy = compile_policy(self._documents(None), memberships=memberships_of(roles))
        return _Change(policy, _document(roles), lambda _: obj)

    def _replace(self, right: str, path: bytes, event: Event, make: Callable[[], _Change]) -> int:
        """Replace a document by what is made of those in force, again where they change meanwhile."""
        for _ in range(_RETRIES):
            self._opened.refresh()
            stamp = self._opened.policy_stamp()
            session, _decision = self._authority.require(right, "")
            change = make()
            self._verify_administrators(session, right, change.policy)
            new = NewVersion(self._authority.identity.principal, self._opened.clock.now_ns())

            def draft(drafts: Drafts, stamp: Stamp = stamp, change: _Change = change, new: NewVersion = new) -> Plan:
                if self._opened.policy_stamp() != stamp:
                    message = "the policy or the roles changed meanwhile"
                    raise StaleWrite(message)
                self._verify_way_in(change.policy)
                return drafts.write(path, change.content, new)

            try:
                number = self._writes.apply(Wanted(((right, ""),), draft, event, change.describe))
            except StaleWrite:
                continue
            return number if isinstance(number, int) else 0
        message = "others changed the policy or the roles every time"
        raise StoreBusy(message, hint="try again in a moment")

    def _verify_administrators(self, session: Session, right: str, after: Policy) -> None:
        """Refuse to let anyone but an administrator change who is one.

        Raises:
            AccessDenied: The caller is none, and would.
        """
        now = session.policy.administrators()
        if self._authority.identity.principal in now or after.administrators() == now:
            return
        error = self._authority.deny(session, right, "", Decision(allowed=False, rules=(ADMIN,)))
        error.hint = "this changes who is an administrator, which only an administrator may do"
        raise error

    def _verify_way_in(self, after: Policy) -> None:
        """Refuse to leave a vault that no administrator could open.

        Raises:
            Conflict: No slot's key may speak for any of those who would be administrators.
        """
        administrators = after.administrators()
        if not any(slot.may_speak_for_any(administrators) for slot in self._opened.replica.keyring.slots):
            message = "no key that opens the vault could speak for an administrator any more"
            raise Conflict(message, hint="add a key of another administrator first: `securecfg key add URI`")

    def _roles(self) -> dict[str, list[str]]:
        self._opened.refresh()
        roles: dict[str, list[str]] = self._opened.system_document(ROLES_PATH, {})
        return roles

    def _documents(self, revision: int | None) -> list[Document]:
        opened = self._opened
        try:
            raw: list[dict[str, Any]] = opened.system_document(POLICY_PATH, [], revision or 0)
        except KeyError:
            message = f"the policy has no revision {revision}"
            raise VersionNotFound(message, hint="`securecfg policy history` lists them") from None
        return [Document(**document) for document in raw]


def found(opened: OpenVault, creator: Identity) -> None:
    """Write the first record of a new vault and make its creator the administrator."""
    clock = opened.clock

    def plan(publication: Publication) -> Plan:
        new = NewVersion(creator.principal, clock.now_ns())
        plan = Drafts(opened, publication).write(ROLES_PATH, _document({ADMIN: [creator.principal]}), new)
        _, policy = opened.policy()
        session = Session(creator, policy, opened.masker, clock, clock_trusted=True)
        vkey = VerifierKey(origin_of(opened.replica.vault_id), opened.replica.state.epoch_key)
        plan.records = [session.record(Event.VAULT_CREATED, {"vkey": str(vkey)})]
        return plan

    opened.publisher.publish(plan)


def _document(value: object) -> Content:
    encoded = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return Content(KIND_TEXT, len(encoded), lambda: (encoded,))
