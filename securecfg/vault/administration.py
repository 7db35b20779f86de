"""The vault's own documents: policy, roles and the public keys of members.

They lie in it like secrets, under paths that no user path can have.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from securecfg.audit import Event, VerifierKey, origin_of
from securecfg.clock import to_datetime
from securecfg.crypto import KIND_TEXT
from securecfg.errors import Conflict, InvalidMetadata, SecretNotFound, StaleWrite, StoreBusy, VersionNotFound
from securecfg.policy import Decision, Document, compile_policy
from securecfg.vault.drafts import Content, Drafts, NewVersion
from securecfg.vault.members import IDENTITIES_PATH, identities_of, identities_to_json
from securecfg.vault.opened import POLICY_PATH, ROLES_PATH, memberships_of
from securecfg.vault.paths import check_principal, check_role
from securecfg.vault.session import Session
from securecfg.vault.writing import WantedChange, Writes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from securecfg.keys import Identity as PublicHalf
    from securecfg.policy import Policy
    from securecfg.vault.authority import Authority, Stamp
    from securecfg.vault.commits.publishing import Plan, Publication
    from securecfg.vault.opened import OpenVault
    from securecfg.vault.session import Identity

ADMIN = "admin"

_RETRIES = 16


class Change(NamedTuple):
    """What documents are replaced by.

    Attributes:
        policy: What is in force then.
        documents: What is written, by path; the policy or the roles come first.
        describe: Returns the record's object for the new version's number of the first.
        keyed: The principal whose public key this sets, or empty.
    """

    policy: Policy
    documents: Mapping[bytes, Content]
    describe: Callable[[object], Mapping[str, object]]
    keyed: str = ""

    def with_identities(self, identities: Mapping[str, PublicHalf]) -> Change:
        """Return the change with public keys."""
        document = to_document(identities_to_json(identities))
        return self._replace(documents={**self.documents, IDENTITIES_PATH: document})


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
        content = to_document([document._asdict() for document in documents])
        names = [document.name for document in documents]

        def make() -> Change:
            policy = self.check_policy(documents)
            return Change(
                policy,
                {POLICY_PATH: content},
                lambda revision: {"rev": revision, "digest": policy.digest, "files": names},
            )

        return self._replace("policy.write", Event.POLICY_APPLIED, make)

    def roll_back_policy(self, revision: int) -> int:
        """Apply an earlier revision again, as a new one, and return its number.

        Raises:
            AccessDenied: The caller may not `policy.write`.
            VersionNotFound: There is no such revision.
            InvalidPolicy, InvalidGrants: It no longer compiles with the roles of today.
        """

        def make() -> Change:
            documents = self._documents(revision)
            policy = self.check_policy(documents)
            return Change(
                policy,
                {POLICY_PATH: to_document([document._asdict() for document in documents])},
                lambda number: {"rev": number, "source_rev": revision, "digest": policy.digest},
            )

        return self._replace("policy.write", Event.POLICY_ROLLED_BACK, make)

    def roles(self) -> dict[str, list[str]]:
        """Return the members of each role that was given in the vault, beside those that grant tables name.

        Raises:
            AccessDenied: The caller may not `role.read`.
        """
        self._authority.require("role.read", "")
        return self._roles()

    def identities(self) -> dict[str, PublicHalf]:
        """Return the public keys of those who were given roles in the vault, by principal.

        Raises:
            AccessDenied: The caller may not `role.read`.
        """
        self._authority.require("role.read", "")
        return identities_of(self._opened)

    def add_member(
        self, role: str, principal: str, *, identity: PublicHalf | None = None, replace: bool = False
    ) -> PublicHalf | None:
        """Give a principal a role, keep its public key where one is given, and return the one that it replaces.

        What the vault seals for members is sealed to their public keys. That a key is the principal's nobody but its
        owner can tell: compare fingerprints first.

        Args:
            role: The role's name.
            principal: `user:NAME` or `svc:NAME`.
            identity: The public half of the principal's identity; None keeps what is known.
            replace: Whether another key may take the place of the one that is known. What was sealed to the old one
                stays readable with it.

        Raises:
            AccessDenied: The caller may not `role.write`; or is no administrator, and this makes one or sets the key of
                one.
            InvalidMetadata: It is no role or no principal, or the identity is that of another principal.
            Conflict: Another key is known of the principal.
        """
        name, member = check_role(role), check_principal(principal)
        replaced: list[PublicHalf] = []
        if identity is not None and identity.name != member:
            message = f"this is the identity of `{identity.name}`, not of `{member}`"
            raise InvalidMetadata(message, hint="name the member as the identity does, or ask the member for its own")

        def make() -> Change:
            roles = self._roles()
            members = sorted({*roles.get(name, []), member})
            obj: dict[str, object] = {"role": name, "members": members, "added": [member]}
            change = self._change_of_roles({**roles, name: members}, obj)
            if identity is None:
                return change
            known = identities_of(self._opened)
            old = known.get(member)
            obj["fingerprint"] = identity.fingerprint.hex()
            replaced.clear()
            if old is not None and old != identity:
                if not replace:
                    raise _other_key(old)
                replaced.append(old)
                obj["old_fingerprint"] = old.fingerprint.hex()
            return change.with_identities({**known, member: identity})._replace(keyed="" if old == identity else member)

        self._replace("role.write", Event.ROLE_CHANGED, make)
        return replaced[0] if replaced else None

    def remove_member(self, role: str, principal: str) -> None:
        """Take a role from a principal. With the last role that it was given in the vault its public key is forgotten.

        Raises:
            AccessDenied: The caller may not `role.write`.
            InvalidMetadata: It is no role or no principal.
            SecretNotFound: The principal was not given the role in the vault.
            Conflict: It is the last administrator, or the last one for whom a key may speak.
        """
        name, member = check_role(role), check_principal(principal)

        def make() -> Change:
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
            after = {**rest, name: members} if members else rest
            obj: dict[str, object] = {"role": name, "members": members, "removed": [member]}
            change = self._change_of_roles(after, obj)
            known = identities_of(self._opened)
            if member not in known or any(member in those for those in after.values()):
                return change
            obj["old_fingerprint"] = known.pop(member).fingerprint.hex()
            return change.with_identities(known)

        self._replace("role.write", Event.ROLE_CHANGED, make)

    def _change_of_roles(self, roles: dict[str, list[str]], obj: Mapping[str, object]) -> Change:
        policy = compile_policy(self._documents(None), memberships=memberships_of(roles))
        return Change(policy, {ROLES_PATH: to_document(roles)}, lambda _: obj)

    def _replace(self, right: str, event: Event, make: Callable[[], Change]) -> int:
        """Replace documents by what is made of those in force, again where they change meanwhile."""
        for _ in range(_RETRIES):
            self._opened.refresh()
            stamp = self._opened.policy_stamp()
            session, _decision = self._authority.require(right, "")
            change = make()
            self._verify_administrators(session, right, change)
            new = NewVersion(self._authority.identity.principal, self._opened.clock.now_ns())

            def draft(drafts: Drafts, stamp: Stamp = stamp, change: Change = change, new: NewVersion = new) -> Plan:
                # No earlier plan of the same publication changes documents: such a plan ends its group.
                if self._opened.policy_stamp() != stamp:
                    message = "the policy or the roles changed meanwhile"
                    raise StaleWrite(message)
                self._verify_way_in(change.policy)
                (first, content), *others = change.documents.items()
                plan = drafts.write(first, content, new)
                for path, other in others:
                    plan.join(drafts.write(path, other, new))
                return plan

            try:
                number = self._writes.apply(WantedChange(((right, ""),), draft, event, change.describe))
            except StaleWrite:
                continue
            return number if isinstance(number, int) else 0
        message = "others changed the policy or the roles every time"
        raise StoreBusy(message, hint="try again in a moment")

    def _verify_administrators(self, session: Session, right: str, change: Change) -> None:
        """Refuse to let anyone but an administrator change who is one, or which public key is that of one.

        Raises:
            AccessDenied: The caller is none, and would.
        """
        now = session.policy.administrators()
        is_same = change.policy.administrators() == now
        if self._authority.identity.principal in now or (is_same and change.keyed not in now):
            return
        error = self._authority.deny(session, right, "", Decision(allowed=False, rules=(ADMIN,)))
        what = "the key of an administrator" if is_same else "who is an administrator"
        error.hint = f"this changes {what}, which only an administrator may do"
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
        plan = Drafts(opened, publication).write(ROLES_PATH, to_document({ADMIN: [creator.principal]}), new)
        _, policy = opened.policy()
        session = Session(creator, policy, opened.masker, clock, clock_trusted=True)
        vkey = VerifierKey(origin_of(opened.replica.vault_id), opened.replica.state.epoch_key)
        plan.records = [session.record(Event.VAULT_CREATED, {"vkey": str(vkey)})]
        return plan

    opened.publisher.publish(plan)


def _other_key(old: PublicHalf) -> Conflict:
    message = f"another key of `{old.name}` is known, with the fingerprint {old.fingerprint.hex()}"
    hint = "ask its owner which one holds; `--replace` takes the new one, and what was sealed to the old one stays"
    return Conflict(message, hint=f"{hint} readable with that")


def to_document(value: object) -> Content:
    """Return the content of a document of the vault itself."""
    encoded = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return Content.of(KIND_TEXT, encoded)
