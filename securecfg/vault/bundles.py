"""Publishing bundles: what a role may read, sealed to its members, for places that cannot hold a vault (bundles.md)."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from dataclasses import replace as replaced
from datetime import timedelta
from hashlib import sha256
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from securecfg.audit import Event, VerifierKey, audit_public_key
from securecfg.audit.epoch import parse_hand_over
from securecfg.audit.proof import create_proof
from securecfg.audit.record import format_time
from securecfg.clock import to_datetime
from securecfg.crypto import generate_key
from securecfg.errors import (
    BundleChainBroken,
    Conflict,
    NotABundle,
    NotFound,
    SecurecfgError,
    StaleWrite,
    Unsupported,
    UsageError,
    ValueTooLarge,
)
from securecfg.files import read_bounded
from securecfg.keys import Purpose
from securecfg.policy import Request
from securecfg.vault.bundle_file import put_bundle, verified_target
from securecfg.vault.bundle_format import (
    BUNDLE_BYTES_MAX,
    BUNDLE_ID_BYTES,
    CHAIN_MAX,
    RECIPIENTS_MAX,
    Base,
    Evidence,
    Index,
    PublishedSecret,
    PublishedVersion,
    parse_front,
    trailer_to_bytes,
)
from securecfg.vault.bundle_notes import Earlier, find_earlier, note_content, note_path
from securecfg.vault.bundle_sealing import BundleSealing
from securecfg.vault.drafts import Drafts, NewVersion
from securecfg.vault.history import LIVE
from securecfg.vault.kinds import is_database
from securecfg.vault.members import identities_of
from securecfg.vault.opened import ROLES_PATH
from securecfg.vault.paths import FIRST_USER_PATH, check_role
from securecfg.vault.reading import Reads
from securecfg.vault.storedlog import StoredLog
from securecfg.vault.writing import Wanted, Writes

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from securecfg.crypto import KeyBytes
    from securecfg.keys import Identity
    from securecfg.policy import Policy
    from securecfg.vault.authority import Authority, Stamp
    from securecfg.vault.history import Version
    from securecfg.vault.publishing import Plan

TTL_MAX = timedelta(days=3_650)

_AT_ONCE = 64
_VALUES_BYTES_MAX = BUNDLE_BYTES_MAX - (32 << 20)
_LOOKED_AT = 4_096


@dataclass(frozen=True, slots=True)
class Published:
    """A bundle that was published, or would be.

    Attributes:
        role: Whose it is, without `role:`.
        paths: The secrets in it.
        recipients: Who can open it, and the fingerprints of their keys.
        without_key: Members of the role that cannot, because the vault knows no public key of theirs.
        expired: Paths that were left out because the current version has expired.
        expires: Until when it may be used.
        serial: Its serial number.
        issuer: The verifier key that its readers may be given.
        value_count: How many values are in this file.
        size_bytes: Of the file.
    """

    role: str
    paths: tuple[str, ...]
    recipients: Mapping[str, str]
    without_key: tuple[str, ...]
    expired: tuple[str, ...]
    expires: datetime
    serial: int = 0
    issuer: str = ""
    value_count: int = 0
    size_bytes: int = 0


class _Selection(NamedTuple):
    """What goes into a bundle, and for whom, as one policy has it."""

    role: str
    stamp: Stamp
    policy: Policy
    recipients: Mapping[str, Identity]
    versions: Mapping[str, tuple[Mapping[str, int], tuple[Version, ...]]]
    expired: tuple[str, ...]
    listed: frozenset[str]

    def published(self, expires_ns: int, without_key: tuple[str, ...]) -> Published:
        fingerprints = {name: identity.fingerprint.hex() for name, identity in self.recipients.items()}
        return Published(
            self.role, tuple(self.versions), fingerprints, without_key, self.expired, to_datetime(expires_ns)
        )


class Bundles:
    """Bundles of a vault, as one identity may publish them.

    Args:
        authority: Decides and records for it.
    """

    def __init__(self, authority: Authority) -> None:
        """Publish nothing yet."""
        self._authority = authority
        self._opened = authority.opened
        self._reads = Reads(authority)
        self._writes = Writes(authority)

    def plan(self, role: str, ttl: timedelta) -> Published:
        """Return what `publish` would write, without reading a value or writing anything.

        Raises:
            As for `publish`.
        """
        selection = self._select(role)
        return selection.published(self._expiry(ttl), self._without_key(selection))

    def publish(
        self,
        role: str,
        path: str | os.PathLike[str],
        *,
        ttl: timedelta,
        since: str | os.PathLike[str] | None = None,
        replace: bool = False,
    ) -> Published:
        """Write a bundle of what a role may read, sealed to those of its members whose public keys the vault knows.

        Each version is recorded as read before it is opened, and the bundle before the file is there.

        Args:
            role: The role's name.
            path: The file.
            ttl: How long it may be used.
            since: An earlier bundle of the role, whose values are left out where they are the same still.
            replace: Whether the file may take the place of another bundle.

        Raises:
            AccessDenied: The caller may not `role.read`, or not `list`, `read` and `export` each path.
            AlreadyExists: There is something at the path that may not be replaced, or a bundle that builds on it.
            AuditUnavailable: The reads cannot be recorded, so nothing was read.
            BundleChainBroken: The earlier bundle is not one that this vault published for the role.
            Conflict: Too many, or none, of the members have a public key; or the policy or a secret changed meanwhile.
            NotABundle, FileMissing: There is no earlier bundle at its path.
            NotFound: The role may read nothing that is there.
            StoreFailed: The file cannot be written.
            Unsupported: The vault is a sealed scope.
            UsageError: The time is none, or longer than ten years.
            ValueTooLarge: It would be larger than a bundle may be.
        """
        target = verified_target(path, replace=replace)
        selection = self._select(role)
        earlier = None if since is None else self._find_earlier(selection.role, since)
        issued = self._opened.clock.now_ns()
        expires = self._expiry(ttl)
        file_key, bundle_id = generate_key(), secrets.token_bytes(BUNDLE_ID_BYTES)
        sealing = BundleSealing(self._opened.replica.vault_id, bundle_id, file_key)
        index = Index(
            selection.role,
            issued,
            expires,
            selection.policy.digest,
            audit_public_key(self._opened.replica.keyring.active(Purpose.AUDIT).key),
            earlier.bases if earlier is not None else (),
            {},
        )
        index = index._replace(secrets=self._seal_values(selection, sealing, earlier))
        body = sealing.finish(index, selection.recipients)
        digest = sha256(body).digest()
        self._record(selection, index, Base(bundle_id, digest), file_key)
        issuer, serial, evidence, signer = self._vouch(digest)
        whole = body + trailer_to_bytes(digest, issuer, serial, evidence, signer)
        if len(whole) > BUNDLE_BYTES_MAX:
            raise _too_large()
        put_bundle(target, whole, replace=replace)
        done = selection.published(expires, self._without_key(selection))
        return replaced(done, serial=serial, issuer=str(issuer), value_count=sealing.count, size_bytes=len(whole))

    # --- steps -------------------------------------------------------------------------------------------------------

    def _select(self, role: str) -> _Selection:
        if self._opened.replica.seat is not None:
            message = "what lies in a sealed scope is not published"
            raise Unsupported(message, hint="its members read it where the vault is, with their own keys")
        name = check_role(role)
        session, _ = self._authority.require("role.read", "")
        opened = self._opened
        stamp, policy = opened.policy()
        recipients = {
            principal: identity
            for principal, identity in sorted(identities_of(opened).items())
            if f"role:{name}" in policy.roles_of(principal)
        }
        if not recipients:
            message = f"the vault knows no public key of a member of `role:{name}`"
            hint = f"`securecfg role add {name} --member PRINCIPAL --identity PUBLIC-FILE` gives it one"
            raise Conflict(message, hint=hint)
        if len(recipients) > RECIPIENTS_MAX:
            message = f"`role:{name}` has {len(recipients)} members with public keys, of at most {RECIPIENTS_MAX}"
            raise Conflict(message, hint="make smaller roles")
        live = [path.decode() for path, entry in opened.entries(FIRST_USER_PATH, None) if entry.live]
        asking = self._asking(name, list(recipients))
        paths = _allowed_always(policy, asking, live)
        # Who may not list all of them must not learn which ones there are.
        if not all(session.decide_many("list", paths)):
            raise self._authority.deny(session, "list", "", session.decide("list", ""))
        for action in ("read", "export"):
            for path, allowed in zip(paths, session.decide_many(action, paths), strict=True):
                if not allowed:
                    raise self._authority.deny(session, action, path, session.decide(action, path))
        listed = _allowed_always(policy, [ask._replace(action="list") for ask in asking], paths)
        return self._find_versions(_Selection(name, stamp, policy, recipients, {}, (), frozenset(listed)), paths)

    def _asking(self, role: str, recipients: Sequence[str]) -> list[Request]:
        """Return who must be allowed to read: somebody with nothing but the role, and each recipient."""
        now = to_datetime(self._opened.clock.now_ns())
        trusted = self._opened.is_clock_trusted()
        kinds = sorted({principal.partition(":")[0] for principal in recipients})
        # Somebody whom no rule can name: a principal's name does not end in a dot.
        held = frozenset({f"role:{role}"})
        asking = [Request(f"{kind}:anybody.", "read", "", {}, now, held, trusted) for kind in kinds]
        return asking + [Request(name, "read", "", {}, now, frozenset(), trusted) for name in recipients]

    def _find_versions(self, selection: _Selection, paths: Sequence[str]) -> _Selection:
        now = self._opened.clock.now_ns()
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
        if not found:
            message = f"`role:{selection.role}` may read nothing that is in the vault"
            raise NotFound(message, hint="`securecfg policy explain read PATH --principal MEMBER` says what is missing")
        if sum(version.length for _, kept in found.values() for version in kept) > _VALUES_BYTES_MAX:
            raise _too_large()
        return selection._replace(versions=found, expired=tuple(expired))

    def _labelled(self, path: bytes) -> tuple[dict[str, int], list[Version]]:
        """Return the labels of a secret, and the versions that they point at, newest first."""
        opened = self._opened

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

    def _seal_values(
        self, selection: _Selection, sealing: BundleSealing, earlier: Earlier | None
    ) -> dict[str, PublishedSecret]:
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

    def _record(self, selection: _Selection, index: Index, base: Base, file_key: KeyBytes) -> None:
        """Record the publication, together with the note that later bundles build on."""
        opened = self._opened
        commitments = {
            (path, version.number): version.commitment.hex()
            for path, (_, versions) in selection.versions.items()
            for version in versions
        }
        fingerprints = {name: identity.fingerprint.hex() for name, identity in selection.recipients.items()}
        content = note_content(base.digest, file_key, index, commitments, fingerprints)
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
            return drafts.write(note_path(base.bundle_id), content, new)

        self._writes.apply(Wanted((("role.read", ""),), draft, Event.BUNDLE_PUBLISHED, lambda _: obj))

    def _vouch(self, digest: bytes) -> tuple[VerifierKey, int, Evidence, Ed25519PrivateKey]:
        """Return the issuer, the serial number, and what vouches for both: proof, hand-overs and the signing key."""
        opened = self._opened
        opened.refresh()
        with opened.replica.lock:
            log = StoredLog(opened.store, opened.replica.header, opened.replica.keyring, opened.mark().note)
            signer = opened.replica.signer
            epoch = opened.replica.keyring.active(Purpose.LOG_SIGNING).epoch
        size = log.checkpoint.size
        serial = next(
            (size - 1 - back for back in range(min(size, _LOOKED_AT)) if _is_publication(log, size - 1 - back, digest)),
            None,
        )
        if serial is None:
            message = "others recorded so much meanwhile that the record of the bundle is not found"
            raise Conflict(message, hint="publish again")
        hand_overs = []
        if epoch:
            for index, row in log.rows(0, size - 1):
                record = log.opener.open_row(row, index)
                if record.event is Event.AUDIT_EPOCH:
                    hand_overs.append(parse_hand_over(record.obj, index))
        return log.genesis, serial, Evidence(create_proof(log.tree, serial, log.note), tuple(hand_overs)), signer

    def _find_earlier(self, role: str, path: str | os.PathLike[str]) -> Earlier:
        if is_database(path):
            message = f"`{path}` is a vault"
            raise NotABundle(message, hint="name a bundle that was published before")
        front = parse_front(read_bounded(path, BUNDLE_BYTES_MAX))
        earlier = find_earlier(self._opened, front.bundle_id)
        if earlier is None or (earlier.role, earlier.bases[0].digest) != (role, front.digest):
            message = f"`{path}` is not a bundle that this vault published for `role:{role}`"
            raise BundleChainBroken(message, hint="publish all of it, without `--since`")
        if len(earlier.bases) >= CHAIN_MAX:
            message = f"`{path}` builds on as many bundles as one can"
            raise BundleChainBroken(message, hint="publish all of it, without `--since`")
        return earlier

    def _expiry(self, ttl: timedelta) -> int:
        if not timedelta(0) < ttl <= TTL_MAX:
            message = f"a bundle may be used for at most {TTL_MAX.days} days, and for longer than no time"
            raise UsageError(message, hint="a short time is better: nothing takes back what was published")
        return self._opened.clock.now_ns() + int(ttl / timedelta(microseconds=1)) * 1_000

    def _without_key(self, selection: _Selection) -> tuple[str, ...]:
        roles: dict[str, list[str]] = self._opened.system_document(ROLES_PATH, {})
        members = {member for those in roles.values() for member in those}
        wanted = f"role:{selection.role}"
        return tuple(
            sorted(
                member
                for member in members
                if member not in selection.recipients and wanted in selection.policy.roles_of(member)
            )
        )


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


def _too_large() -> ValueTooLarge:
    message = f"a bundle is at most {BUNDLE_BYTES_MAX >> 20} MiB"
    return ValueTooLarge(message, hint="publish for smaller roles, or keep large files elsewhere")
