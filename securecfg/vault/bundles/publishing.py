"""Publishing bundles: what a role may read, sealed to its members, for places that cannot hold a vault (bundles.md)."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from dataclasses import replace as replaced
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING

from securecfg.audit import Event, audit_public_key
from securecfg.audit.epoch import parse_hand_over
from securecfg.audit.proof import create_proof
from securecfg.clock import to_datetime
from securecfg.crypto import generate_key
from securecfg.errors import (
    BundleChainBroken,
    Conflict,
    NotABundle,
    NotFound,
    ScopeSealed,
    UsageError,
    ValueTooLarge,
)
from securecfg.files import read_bounded
from securecfg.keys import Purpose
from securecfg.vault.bundles.file import put_bundle, verified_target
from securecfg.vault.bundles.format import (
    BUNDLE_BYTES_MAX,
    BUNDLE_ID_BYTES,
    CHAIN_MAX,
    SCOPES_MAX,
    Base,
    Evidence,
    Index,
    parse_front,
    trailer_to_bytes,
)
from securecfg.vault.bundles.parts import BundlePart
from securecfg.vault.bundles.sealing import BundleSealing
from securecfg.vault.kinds import is_database
from securecfg.vault.paths import check_role
from securecfg.vault.scopes.opening import charter_of

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from securecfg.audit import VerifierKey
    from securecfg.vault.authority import Authority
    from securecfg.vault.bundles.notes import Earlier
    from securecfg.vault.bundles.parts import Selection
    from securecfg.vault.vault import Vault

TTL_MAX = timedelta(days=3_650)

_VALUES_BYTES_MAX = BUNDLE_BYTES_MAX - (32 << 20)


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
        scopes: The sealed scopes of which there are secrets in it.
        left_out: Those that the role reads and the key at hand does not publish.
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
    scopes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


class Bundles:
    """Bundles of a vault, as one identity may publish them.

    Args:
        authority: Decides and records for it, over the part whose log vouches for bundles.
        scopes: The same for the sealed scopes that the key at hand opens, by their paths.
    """

    def __init__(self, authority: Authority, scopes: Mapping[str, Authority] | None = None) -> None:
        """Publish nothing yet."""
        self._opened = authority.opened
        is_scope = authority.opened.replica.seat is not None
        self._main = BundlePart(charter_of(authority.opened).path if is_scope else "", authority)
        others = sorted((scopes or {}).items())
        self._scopes = [BundlePart(path, each) for path, each in others if path != self._main.path]

    @classmethod
    def over(cls, vault: Vault, issuer: str = "") -> Bundles:
        """Return the bundles of a vault with its sealed scopes, as far as the key at hand opens them.

        Args:
            vault: As it is open.
            issuer: Where the root of the vault is not at hand, the scope whose log vouches for bundles; empty takes the
                first one.

        Raises:
            ScopeSealed: The key at hand does not open that scope.
        """
        parts = {path: part.authority for path, part in vault.parts()}
        first = "" if "" in parts else (f"{issuer.removesuffix('/')}/" if issuer else next(iter(parts)))
        if first not in parts:
            message = f"`{first}` is no scope that this key opens"
            raise ScopeSealed(message, hint="`securecfg scope list` shows the scopes to an administrator")
        return cls(parts[first], {path: each for path, each in parts.items() if path})

    def plan(self, role: str, ttl: timedelta, *, is_partial: bool = False) -> Published:
        """Return what `publish` would write, without reading a value or writing anything.

        Raises:
            As for `publish`.
        """
        selections, left_out = self._select(check_role(role), is_partial=is_partial)
        return self._published(selections, left_out, self._expiry(ttl))

    def publish(
        self,
        role: str,
        path: str | os.PathLike[str],
        *,
        ttl: timedelta,
        since: str | os.PathLike[str] | None = None,
        replace: bool = False,
        is_partial: bool = False,
    ) -> Published:
        """Write a bundle of what a role may read, sealed to those of its members whose public keys the vault knows.

        Each version is recorded as read before it is opened, and the bundle before the file is there: in the log of the
        part of the vault that it lies in.

        Args:
            role: The role's name.
            path: The file.
            ttl: How long it may be used.
            since: An earlier bundle of the role, whose values are left out where they are the same still.
            replace: Whether the file may take the place of another bundle.
            is_partial: Whether to leave out the sealed scopes that the role reads and the key at hand does not publish.

        Raises:
            AccessDenied: The caller may not `role.read`, or not `list`, `read` and `export` each path.
            AlreadyExists: There is something at the path that may not be replaced, or a bundle that builds on it.
            AuditUnavailable: The reads cannot be recorded, so nothing was read.
            BundleChainBroken: The earlier bundle is not one that this vault published for the role.
            Conflict: Too many, or none, of the members have a public key; or the policy or a secret changed meanwhile.
            NotABundle, FileMissing: There is no earlier bundle at its path.
            NotFound: The role may read nothing that is there.
            ScopeSealed: The role reads sealed scopes that the key at hand does not both read and write.
            StoreFailed: The file cannot be written.
            UsageError: The time is none, or longer than ten years.
            ValueTooLarge: It would be larger than a bundle may be.
        """
        target = verified_target(path, replace=replace)
        selections, left_out = self._select(check_role(role), is_partial=is_partial)
        chosen = selections[self._main]
        earlier, bases = ({}, ()) if since is None else self._find_earlier(chosen.role, since, list(selections))
        issued, expires = self._opened.clock.now_ns(), self._expiry(ttl)
        file_key, bundle_id = generate_key(), secrets.token_bytes(BUNDLE_ID_BYTES)
        sealing = BundleSealing(self._opened.replica.vault_id, bundle_id, file_key)
        audit_key = audit_public_key(self._opened.replica.keyring.active(Purpose.AUDIT).key)
        empty = Index(chosen.role, issued, expires, chosen.policy.digest, audit_key, bases, {})
        indexes = {
            part: empty._replace(secrets=part.seal_values(selection, sealing, earlier.get(part)))
            for part, selection in selections.items()
        }
        others = [part for part in selections if part is not self._main]
        whole = {secret: line for each in indexes.values() for secret, line in each.secrets.items()}
        index = empty._replace(secrets=whole, scopes=tuple(part.scope() for part in others))
        body = sealing.finish(index, chosen.recipients)
        base = Base(bundle_id, sha256(body).digest())
        serials = {
            part: part.record(selection, indexes[part], base, file_key) for part, selection in selections.items()
        }
        recorded = [(part.opened.replica.vault_id, serials[part]) for part in others]
        issuer, trailer = self._vouch(base.digest, serials[self._main], recorded)
        content = body + trailer
        if len(content) > BUNDLE_BYTES_MAX:
            raise _too_large()
        put_bundle(target, content, replace=replace)
        done = self._published(selections, left_out, expires)
        return replaced(
            done, serial=serials[self._main], issuer=str(issuer), value_count=sealing.count, size_bytes=len(content)
        )

    # --- steps -------------------------------------------------------------------------------------------------------

    def _select(self, role: str, *, is_partial: bool) -> tuple[dict[BundlePart, Selection], list[str]]:
        """Return what goes in from each part, the issuing one first, and the scopes that are left out.

        Raises:
            As for `publish`.
        """
        recipients = self._main.recipients(role)
        main, _ = self._main.paths_of(role, recipients)
        left_out = []
        selections = {self._main: main}
        for part in (self._main, *self._scopes):
            if not part.is_read_by(role):
                continue
            if part.can_publish:
                selection = part.select(role, recipients)
                if part is self._main or selection.versions or selection.expired:
                    selections[part] = selection
            elif part.paths_of(role, recipients)[1]:
                left_out.append(part.path)
        if not self._main.can_publish:
            message = f"this key does not both read and write `{self._main.path}`, whose log would vouch for the bundle"
            raise ScopeSealed(message, hint="name another scope of it, or publish with another key")
        if left_out and not is_partial:
            message = f"`role:{role}` reads {_named(left_out)} too, which this key does not both read and write"
            raise ScopeSealed(message, hint="publish with a key that does, or leave that out: `--partial`")
        self._verify(role, selections)
        return selections, left_out

    def _verify(self, role: str, selections: Mapping[BundlePart, Selection]) -> None:
        if not any(selection.versions for selection in selections.values()):
            message = f"`role:{role}` may read nothing that is in the vault"
            raise NotFound(message, hint="`securecfg policy explain read PATH --principal MEMBER` says what is missing")
        if sum(selection.size_bytes for selection in selections.values()) > _VALUES_BYTES_MAX:
            raise _too_large()
        if len(selections) > SCOPES_MAX:
            message = f"a bundle holds secrets of at most {SCOPES_MAX} sealed scopes"
            raise ValueTooLarge(message, hint="publish for smaller roles")
        keyless = self._main.without_scope_key(role, selections[self._main].recipients)
        if keyless and any(part.path for part in selections):
            message = f"{_named(keyless)} would read sealed scopes, and is no member of `role:{role}` with its key"
            hint = f"`securecfg role add {role} --member PRINCIPAL` makes one, whom a member lets in"
            raise Conflict(message, hint=hint)

    def _find_earlier(
        self, role: str, path: str | os.PathLike[str], parts: Sequence[BundlePart]
    ) -> tuple[dict[BundlePart, Earlier], tuple[Base, ...]]:
        """Return what each part remembers of an earlier bundle, and that bundle with those that it builds on."""
        if is_database(path):
            message = f"`{path}` is a vault"
            raise NotABundle(message, hint="name a bundle that was published before")
        front = parse_front(read_bounded(path, BUNDLE_BYTES_MAX))
        found = {part: each for part in parts if (each := part.find_earlier(front.bundle_id)) is not None}
        main = found.get(self._main)
        if main is None or (main.role, main.bases[0].digest) != (role, front.digest):
            message = f"`{path}` is not a bundle that this vault published for `role:{role}`"
            raise BundleChainBroken(message, hint="publish all of it, without `--since`")
        if len(main.bases) >= CHAIN_MAX:
            message = f"`{path}` builds on as many bundles as one can"
            raise BundleChainBroken(message, hint="publish all of it, without `--since`")
        return {part: each for part, each in found.items() if each.bases == main.bases}, main.bases

    def _vouch(self, digest: bytes, serial: int, recorded: Sequence[tuple[bytes, int]]) -> tuple[VerifierKey, bytes]:
        """Return the issuer, and what vouches for the bundle: the signed statement, the proof and the hand-overs."""
        opened = self._opened
        with opened.replica.lock:
            log, signer = self._main.log(), opened.replica.signer
            epoch = opened.replica.keyring.active(Purpose.LOG_SIGNING).epoch
        hand_overs = []
        if epoch:
            for index, row in log.rows(0, log.checkpoint.size - 1):
                record = log.opener.open_row(row, index)
                if record.event is Event.AUDIT_EPOCH:
                    hand_overs.append(parse_hand_over(record.obj, index))
        evidence = Evidence(create_proof(log.tree, serial, log.note), tuple(hand_overs))
        return log.genesis, trailer_to_bytes(digest, log.genesis, (serial, recorded), evidence, signer)

    def _published(
        self, selections: Mapping[BundlePart, Selection], left_out: Sequence[str], expires_ns: int
    ) -> Published:
        main = selections[self._main]
        paths = sorted(path for selection in selections.values() for path in selection.versions)
        expired = sorted(path for selection in selections.values() for path in selection.expired)
        return Published(
            main.role,
            tuple(paths),
            main.fingerprints,
            self._main.without_key(main),
            tuple(expired),
            to_datetime(expires_ns),
            scopes=tuple(part.path for part, each in selections.items() if part.path and each.versions),
            left_out=tuple(left_out),
        )

    def _expiry(self, ttl: timedelta) -> int:
        if not timedelta(0) < ttl <= TTL_MAX:
            message = f"a bundle may be used for at most {TTL_MAX.days} days, and for longer than no time"
            raise UsageError(message, hint="a short time is better: nothing takes back what was published")
        return self._opened.clock.now_ns() + int(ttl / timedelta(microseconds=1)) * 1_000


def _named(paths: Sequence[str]) -> str:
    return ", ".join(f"`{path}`" for path in paths)


def _too_large() -> ValueTooLarge:
    message = f"a bundle is at most {BUNDLE_BYTES_MAX >> 20} MiB"
    return ValueTooLarge(message, hint="publish for smaller roles, or keep large files elsewhere")
