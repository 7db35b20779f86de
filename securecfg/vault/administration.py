"""The vault's own documents: policy and roles. They lie in it like secrets, under paths that no user path can have."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from securecfg.audit import Event, VerifierKey, origin_of
from securecfg.clock import to_datetime
from securecfg.crypto import KIND_TEXT
from securecfg.errors import Conflict, SecretNotFound, VersionNotFound
from securecfg.policy import Document, compile_policy
from securecfg.vault.drafts import Content, Drafts, NewVersion
from securecfg.vault.opened import POLICY_PATH, ROLES_PATH, memberships_of
from securecfg.vault.paths import check_principal, check_role
from securecfg.vault.session import Session
from securecfg.vault.writing import Wanted, Writes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from securecfg.policy import Policy
    from securecfg.vault.authority import Authority
    from securecfg.vault.opened import OpenVault
    from securecfg.vault.publishing import Plan, Publication
    from securecfg.vault.session import Identity

ADMIN = "admin"


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
        policy = self.check_policy(documents)
        content = _document([asdict(document) for document in documents])
        names = [document.name for document in documents]
        wanted = self._wanted(
            "policy.write",
            POLICY_PATH,
            content,
            Event.POLICY_APPLIED,
            lambda revision: {"rev": revision, "digest": policy.digest, "files": names},
        )
        return _number(self._writes.apply(wanted))

    def roll_back_policy(self, revision: int) -> int:
        """Apply an earlier revision again, as a new one, and return its number.

        Raises:
            AccessDenied: The caller may not `policy.write`.
            VersionNotFound: There is no such revision.
            InvalidPolicy, InvalidGrants: It no longer compiles with the roles of today.
        """
        self._authority.require("policy.write", "")
        documents = self._documents(revision)
        policy = self.check_policy(documents)
        wanted = self._wanted(
            "policy.write",
            POLICY_PATH,
            _document([asdict(document) for document in documents]),
            Event.POLICY_ROLLED_BACK,
            lambda number: {"rev": number, "source_rev": revision, "digest": policy.digest},
        )
        return _number(self._writes.apply(wanted))

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
        roles = self._roles()
        members = sorted({*roles.get(name, []), member})
        self._apply_roles(name, {**roles, name: members}, {"role": name, "members": members, "added": [member]})

    def remove_member(self, role: str, principal: str) -> None:
        """Take a role from a principal.

        Raises:
            AccessDenied: The caller may not `role.write`.
            InvalidMetadata: It is no role or no principal.
            SecretNotFound: The principal was not given the role in the vault.
            Conflict: It is the last administrator.
        """
        name, member = check_role(role), check_principal(principal)
        self._authority.require("role.write", "")
        roles = self._roles()
        if member not in roles.get(name, []):
            message = f"`{member}` was not given `role:{name}` in the vault"
            raise SecretNotFound(message, hint="memberships in a grant table are changed with `securecfg policy apply`")
        members = [other for other in roles[name] if other != member]
        if name == ADMIN and not members:
            message = f"`{member}` is the last administrator"
            raise Conflict(message, hint="make somebody else an administrator first")
        rest = {other: those for other, those in roles.items() if other != name}
        changed = {**rest, name: members} if members else rest
        self._apply_roles(name, changed, {"role": name, "members": members, "removed": [member]})

    def _apply_roles(self, name: str, roles: dict[str, list[str]], obj: Mapping[str, object]) -> None:
        compile_policy(self._documents(None), memberships=memberships_of(roles))
        del name
        self._writes.apply(self._wanted("role.write", ROLES_PATH, _document(roles), Event.ROLE_CHANGED, lambda _: obj))

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

    def _wanted(self, right: str, path: bytes, content: Content, event: Event, describe: Any) -> Wanted:  # noqa: ANN401 - a lambda of the caller
        new = NewVersion(self._authority.identity.principal, self._opened.clock.now_ns())
        return Wanted(((right, ""),), lambda drafts: drafts.write(path, content, new), event, describe)


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


def _number(result: object) -> int:
    return result if isinstance(result, int) else 0
