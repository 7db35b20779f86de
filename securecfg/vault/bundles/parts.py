"""What of one part of a vault goes into a bundle: of the vault itself, or of a sealed scope."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from securecfg.audit import Event, audit_public_key
from securecfg.audit.record import format_time
from securecfg.clock import to_datetime
from securecfg.errors import Conflict, SecurecfgError, StaleWrite
from securecfg.keys import Purpose
from securecfg.policy import Request
from securecfg.vault.bundles.format import RECIPIENTS_MAX, PublishedScope, PublishedSecret, PublishedVersion
from securecfg.vault.bundles.notes import Noted, find_earlier, keys_content, keys_path, note_content, note_path
from securecfg.vault.documents import read_shaped
from securecfg.vault.drafts import Drafts, NewVersion
from securecfg.vault.index.history import LIVE
from securecfg.vault.members import identities_of
from securecfg.vault.opened import ROLES_PATH
from securecfg.vault.paths import FIRST_USER_PATH
from securecfg.vault.reading import Reads
from securecfg.vault.scopes.charters import READ
from securecfg.vault.scopes.opening import charter_of, grants_of
from securecfg.vault.state.storedlog import StoredLog
from securecfg.vault.trust.certificates import read_certificates, signatures_from_json
from securecfg.vault.writing import WantedChange, Writes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from securecfg.crypto import KeyBytes
    from securecfg.keys import Identity
    from securecfg.policy import Policy
    from securecfg.vault.authority import Authority, Stamp
    from securecfg.vault.bundles.format import Base, Index
    from securecfg.vault.bundles.notes import Earlier
    from securecfg.vault.bundles.sealing import BundleSealing
    from securecfg.vault.commits.publishing import Plan
    from securecfg.vault.index.history import Version

_AT_ONCE = 64
_LOOKED_AT = 4_096


class Selection(NamedTuple):
    """What goes into a bundle, and for whom, as the policy of one part has it.

    Attributes:
        role: Whose the bundle is.
        stamp: Of the policy.
        policy: What decided.
        recipients: The members of the role whose public keys are known.
        versions: By path the labels and the versions.
        expired: Paths whose current version has expired.
        listed: The paths that may be listed.
    """

    role: str
    stamp: Stamp
    policy: Policy
    recipients: Mapping[str, Identity]
    versions: Mapping[str, tuple[Mapping[str, int], tuple[Version, ...]]]
    expired: tuple[str, ...]
    listed: frozenset[str]

    @property
    def fingerprints(self) -> dict[str, str]:
        """Who can open it, and the fingerprints of their keys."""
        return {name: identity.fingerprint.hex() for name, identity in self.recipients.items()}

    @property
    def size_bytes(self) -> int:
        """How long all values are."""
        return sum(version.length for _, kept in self.versions.values() for version in kept)


class BundlePart:
    """One part of a vault, as one identity may publish of it.

    Args:
        path: Empty for the vault itself, else the path of the scope, ending in `/`.
        authority: Decides and records for it.
    """

    def __init__(self, path: str, authority: Authority) -> None:
        """Publish nothing yet."""
        self.path = path
        self.opened = authority.opened
        self._authority = authority
        self._reads = Reads(authority)
        self._writes = Writes(authority)

    @property
    def can_publish(self) -> bool:
        """Whether the key at hand reads the values, and what it writes counts, as the note of a bundle has to."""
        if self.opened.replica.seat is None:
            return True
        grants = grants_of(self.opened)
        return grants.is_granted(grants.active) and self.opened.replica.may_change

    def is_read_by(self, role: str) -> bool:
        """Return whether a role may read the part at all: of a sealed scope, as its charter says."""
        if self.opened.replica.seat is None:
            return True
        party = charter_of(self.opened).party(role)
        return party is not None and bool(party.rights & READ)

    def scope(self) -> PublishedScope:
        """Return what a bundle says of the scope."""
        audit_key = audit_public_key(self.opened.replica.keyring.active(Purpose.AUDIT).key)
        return PublishedScope(self.path, self.opened.replica.vault_id, audit_key)

    def recipients(self, role: str) -> dict[str, Identity]:
        """Return the members of a role whose public keys are known.

        What the documents of a sealed scope say is the word of its writers. So of a scope those count whom
        administrators have certified, and only who has the key of the role can tell.

        Raises:
            AccessDenied: The caller may not `role.read`.
            Conflict: There are too many, or none.
        """
        self._authority.require("role.read", "")
        opened, seat = self.opened, self.opened.replica.seat
        policy = opened.policy()[1]
        found = {
            principal: identity
            for principal, identity in sorted(identities_of(opened).items())
            if f"role:{role}" in policy.roles_of(principal)
        }
        if seat is not None:
            encoded = read_certificates(opened)
            found = {
                name: identity
                for name, identity in found.items()
                if seat.is_certified(role, identity, signatures_from_json(encoded.get(role, {}).get(name, [])))
            }
        if not found:
            message = f"the vault knows no public key of a member of `role:{role}`"
            hint = f"`securecfg role add {role} --member PRINCIPAL --identity PUBLIC-FILE` gives it one"
            if seat is not None:
                message = f"this key is not that of `role:{role}`, so it cannot tell who its members are"
                hint = "publish for a role of the key at hand, or with a key of the vault's root"
            raise Conflict(message, hint=hint)
        if len(found) > RECIPIENTS_MAX:
            message = f"`role:{role}` has {len(found)} members with public keys, of at most {RECIPIENTS_MAX}"
            raise Conflict(message, hint="make smaller roles")
        return found

    def without_scope_key(self, role: str, recipients: Mapping[str, Identity]) -> list[str]:
        """Return which recipients are members of a role by policy alone, and so have no key of it."""
        roles: dict[str, list[str]] = read_shaped(self.opened, ROLES_PATH, dict, list, str)
        return sorted(set(recipients) - set(roles.get(role, []))) if self.opened.replica.seat is None else []

    def paths_of(self, role: str, recipients: Mapping[str, Identity]) -> tuple[Selection, list[str]]:
        """Return which paths a role and all recipients may read.

        Raises:
            AccessDenied: The caller may not `role.read`.
        """
        self._authority.require("role.read", "")
        opened = self.opened
        stamp, policy = opened.policy()
        live = [path.decode() for path, entry in opened.entries(FIRST_USER_PATH, None) if entry.live]
        asking = self._asking(role, list(recipients))
        paths = _allowed_always(policy, asking, live)
        listed = _allowed_always(policy, [ask._replace(action="list") for ask in asking], paths)
        return Selection(role, stamp, policy, recipients, {}, (), frozenset(listed)), paths

    def select(self, role: str, recipients: Mapping[str, Identity]) -> Selection:
        """Return what goes into a bundle for a role.

        Raises:
            AccessDenied: The caller may not `list`, `read` and `export` each path.
            As for `paths_of`.
        """
        selection, paths = self.paths_of(role, recipients)
        session = self._authority.session()
        # Who may not list all of them must not learn which ones there are.
        if not all(session.decide_many("list", paths)):
            raise self._authority.deny(session, "list", "", session.decide("list", ""))
        for action in ("read", "export"):
            for path, allowed in zip(paths, session.decide_many(action, paths), strict=True):
                if not allowed:
                    raise self._authority.deny(session, action, path, session.decide(action, path))
        return self._find_versions(selection, paths)

    def find_earlier(self, bundle_id: bytes) -> Earlier | None:
        """Return what the part remembers of a bundle, or None where it published none of that id."""
        return find_earlier(self.opened, bundle_id)

    def seal_values(
        self, selection: Selection, sealing: BundleSealing, earlier: Earlier | None
    ) -> dict[str, PublishedSecret]:
        """Seal the values of a selection, each recorded as read before; return the lines of the index.

        Raises:
            AccessDenied, AuditUnavailable, Conflict: As for `Bundles.publish`.
        """
        lines: dict[str, list[PublishedVersion]] = {path: [] for path in selection.versions}
        fresh: list[tuple[str, Version]] = []
        for path, (_, versions) in selection.versions.items():
            for version in versions:
                known = earlier.versions.get((path, version.number)) if earlier is not None else None
                commitment = earlier.commitments.get((path, version.number)) if earlier is not None else None
                if known is not None and commitment == version.commitment.hex():
                    # What is said of it may have changed, the expiry included, where it was set anew.
                    place = (known.depth, known.message, known.start, known.sealed_length)
                    lines[path].append(_line(version, place)._replace(key=known.key))
                else:
                    fresh.append((path, version))
        rest = iter(fresh)
        while part := list(islice(rest, _AT_ONCE)):
            found = self._reads.read_many([(path, version.number) for path, version in part])
            for (path, version), read in zip(part, found, strict=True):
                if isinstance(read, SecurecfgError):
                    raise read
                if read.created != to_datetime(version.created):
                    # Another secret was moved to the path.
                    message = f"`{path}` changed meanwhile"
                    raise Conflict(message, hint="publish again")
                lines[path].append(_line(version, sealing.add(read.value)))
        return {
            path: PublishedSecret(path in selection.listed, labels, tuple(sorted(lines[path], reverse=True)))
            for path, (labels, _) in selection.versions.items()
        }

    def record(self, selection: Selection, index: Index, base: Base, file_key: KeyBytes) -> int:
        """Record the publication, together with what later bundles build on; return the index of the record.

        Args:
            selection: What was published of this part.
            index: The same, as the bundle has it.
            base: The bundle.
            file_key: Its key.

        Raises:
            Conflict: The policy changed meanwhile, or others record too much.
        """
        opened = self.opened
        versions = tuple(
            (path, version.number, version.created, version.commitment.hex())
            for path, (_, kept) in selection.versions.items()
            for version in kept
        )
        fingerprints = selection.fingerprints
        noted = Noted(selection.role, selection.policy.digest, index.issued, base.digest.hex(), fingerprints, versions)
        note, keys = note_content(noted), keys_content(base, file_key, index)
        new = NewVersion(self._authority.identity.principal, opened.clock.now_ns())
        obj = {
            "role": selection.role,
            "count": len(selection.versions),
            "expires": format_time(index.expires),
            "digest": base.digest.hex(),
            "recipients": [f"{name}:{fingerprint}" for name, fingerprint in fingerprints.items()],
        }

        def draft(drafts: Drafts) -> Plan:
            if opened.policy_stamp() != selection.stamp:
                message = "the policy or the roles changed meanwhile"
                raise StaleWrite(message, hint="publish again")
            for path in selection.versions:
                # What is moved to another part after this takes the note along.
                if opened.entry(path.encode()) is None:
                    message = f"`{path}` changed meanwhile"
                    raise StaleWrite(message, hint="publish again")
            plan = drafts.write(note_path(base.bundle_id), note, new)
            plan.join(drafts.write(keys_path(base.bundle_id), keys, new))
            return plan

        self._writes.apply(WantedChange((("role.read", ""),), draft, Event.BUNDLE_PUBLISHED, lambda _: obj))
        opened.refresh()
        log = self.log()
        size = log.checkpoint.size
        for index_of in range(size - 1, max(-1, size - 1 - _LOOKED_AT), -1):
            if _is_publication(log, index_of, base.digest):
                return index_of
        message = "others recorded so much meanwhile that the record of the bundle is not found"
        raise Conflict(message, hint="publish again")

    def log(self) -> StoredLog:
        """Return the log of the part as it is now."""
        opened = self.opened
        with opened.replica.lock:
            return StoredLog(opened.store, opened.replica.header, opened.replica.keyring, opened.mark().note)

    def without_key(self, selection: Selection) -> tuple[str, ...]:
        """Return the members of the role that the part knows no public key of."""
        roles: dict[str, list[str]] = read_shaped(self.opened, ROLES_PATH, dict, list, str)
        members = {member for those in roles.values() for member in those}
        wanted = f"role:{selection.role}"
        return tuple(
            sorted(
                member
                for member in members
                if member not in selection.recipients and wanted in selection.policy.roles_of(member)
            )
        )

    # --- pieces ------------------------------------------------------------------------------------------------------

    def _asking(self, role: str, recipients: Sequence[str]) -> list[Request]:
        """Return who must be allowed to read: somebody with nothing but the role, and each recipient."""
        now = to_datetime(self.opened.clock.now_ns())
        trusted = self.opened.is_clock_trusted()
        kinds = sorted({principal.partition(":")[0] for principal in recipients})
        # Somebody whom no rule can name: a principal's name does not end in a dot.
        held = frozenset({f"role:{role}"})
        asking = [Request(f"{kind}:anybody.", "read", "", {}, now, held, trusted) for kind in kinds]
        return asking + [Request(name, "read", "", {}, now, frozenset(), trusted) for name in recipients]

    def _find_versions(self, selection: Selection, paths: Sequence[str]) -> Selection:
        now = self.opened.clock.now_ns()
        found: dict[str, tuple[Mapping[str, int], tuple[Version, ...]]] = {}
        expired = []
        for path in paths:
            labels, versions = self._labelled(path.encode())
            kept = tuple(version for version in versions if version.state == LIVE and not 0 < version.expires <= now)
            numbers = {version.number for version in kept}
            if labels.get("current") in numbers:
                found[path] = {name: number for name, number in labels.items() if number in numbers}, kept
            elif labels:
                expired.append(path)
        return selection._replace(versions=found, expired=tuple(expired))

    def _labelled(self, path: bytes) -> tuple[dict[str, int], list[Version]]:
        """Return the labels of a secret, and the versions that they point at, newest first."""
        opened = self.opened

        def look() -> tuple[dict[str, int], list[Version]]:
            entry = opened.replica.index.get(path)
            if entry is None or not entry.live:
                return {}, []
            history = opened.history(path, entry)
            labels = dict(history.labels)
            own = {"current": history.current, "previous": history.previous, "pending": history.pending}
            labels |= {name: number for name, number in own.items() if number}
            numbers = sorted(set(labels.values()), reverse=True)
            return labels, [opened.locate(path, entry, number).version for number in numbers]

        return opened.consistently(look)


def _allowed_always(policy: Policy, asking: Sequence[Request], paths: list[str]) -> list[str]:
    """Return the paths that all who ask are allowed, and whatever the time."""
    for request in asking:
        allowed = policy.decide_many(request, paths)
        paths = [path for path, is_allowed in zip(paths, allowed, strict=True) if is_allowed]
    return [path for path in paths if all(policy.decide(ask._replace(path=path)).cacheable for ask in asking)]


def _line(version: Version, place: tuple[int, int, int, int]) -> PublishedVersion:
    times = (version.number, version.kind, version.created, version.expires)
    told = (version.length, version.author, version.content_type, version.metadata)
    return PublishedVersion(*times, *place, *told)


def _is_publication(log: StoredLog, index: int, digest: bytes) -> bool:
    record = log.opener.open_row(log.tree.leaf(index), index)
    return record.event is Event.BUNDLE_PUBLISHED and record.obj["digest"] == digest.hex()
