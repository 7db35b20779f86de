"""Opening a bundle: who made it, for whom, how new it is, and the values in it (bundles.md, section 3)."""

from __future__ import annotations

import json
import os
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from securecfg.audit import parse_vkey
from securecfg.audit.epoch import follow_hand_overs, parse_hand_over
from securecfg.clock import to_datetime
from securecfg.crypto import KEY_BYTES, KeyBytes
from securecfg.errors import (
    BundleChainBroken,
    BundleExpired,
    IssuerUnknown,
    Tampered,
    WrongKey,
)
from securecfg.files import read_bounded
from securecfg.octets import Malformed
from securecfg.vault.bundles.format import (
    BUNDLE_BYTES_MAX,
    INDEX,
    Index,
    Messages,
    altered,
    claimed_issuer,
    message_key,
    parse_front,
    slot_info,
    verify_front,
    verify_padding,
)
from securecfg.vault.bundles.state import BundleState, Seen, Trust
from securecfg.vault.logger import logger
from securecfg.vault.paths import scope_among

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from securecfg.audit import VerifierKey
    from securecfg.clock import Clock
    from securecfg.keys import Identity, IdentityProvider
    from securecfg.vault.bundles.format import Front, PublishedVersion

_CLOCK_TOLERANCE_NS = 5 * 60 * 1_000_000_000

UNVERIFIED = "unverified"
"""The issuer that stands for whoever signed the file: nothing then tells a bundle from one that somebody else made."""


class Origin(NamedTuple):
    """Which vault, or sealed scope of it, a secret of a bundle comes from.

    Attributes:
        vault_id: 16 bytes.
        serial: The index of the record of the publication in its log.
        audit_key: What records of reads are sealed to.
    """

    vault_id: bytes
    serial: int
    audit_key: bytes


class OpenBundle(NamedTuple):
    """A bundle that was verified and opened.

    Attributes:
        path: The file, the newest of those that build on one another.
        issuer: The verifier key of the first epoch of the vault's log.
        vault_id: 16 bytes.
        serial: Its serial number.
        digest: The SHA-256 of its body, in hexadecimal digits.
        bundle_id: 16 bytes.
        reader: The identity that opened it.
        file_key: Of the file itself, and of none that it builds on.
        inventory: What is in it.
        parts: What each depth lies in: the content, and what opens its messages.
        origins: Of the secrets that lie in sealed scopes, by the paths of these.
    """

    path: str
    issuer: VerifierKey
    vault_id: bytes
    serial: int
    digest: str
    bundle_id: bytes
    reader: Identity
    file_key: KeyBytes
    inventory: Index
    parts: tuple[tuple[memoryview, Messages], ...]
    origins: Mapping[str, Origin]

    def origin_of(self, path: str) -> Origin:
        """Return where a path comes from, or would, were it in the bundle."""
        scope = scope_among(self.origins, path)
        return Origin(self.vault_id, self.serial, self.inventory.audit_key) if scope is None else self.origins[scope]

    def open_value(self, version: PublishedVersion) -> bytes:
        """Return the content of a version.

        Raises:
            Tampered: It does not open.
        """
        content, messages = self.parts[version.depth]
        key = version.key or message_key(self.file_key, self.bundle_id, version.message)
        return messages.open(key, version.message, content[version.start : version.start + version.sealed_length])


def open_bundle(
    path: str | os.PathLike[str],
    provider: IdentityProvider,
    clock: Clock,
    *,
    issuer: str = "",
    is_issuer_required: bool = False,
) -> OpenBundle:
    """Open a bundle, or the newest of those that build on it and lie beside it.

    Args:
        path: The file.
        provider: Holds the identity of a recipient.
        clock: The time.
        issuer: The verifier key of the vault that it must come from; `unverified` for any; empty for the one that is
            recorded on this machine, or else, once, for any.
        is_issuer_required: Whether not to take one that is not recorded.

    Raises:
        BundleChainBroken: A bundle that it builds on is missing or another one.
        BundleExpired: Its time has passed, or has not begun by this clock.
        FileMissing, StoreFailed, ValueTooLarge: The file, or what is recorded, cannot be read.
        IssuerUnknown: Nothing says which vault it must come from.
        KeyProviderRefused, KeyProviderUnavailable: The identity cannot be used.
        NotABundle, UnsupportedFormat: It is not a bundle that this program reads.
        RollbackSuspected: A newer one was opened here before, or one of another role at its place.
        SignatureInvalid: It was altered, or another vault made it.
        Tampered: It is signed and does not open.
        UsageError: The issuer is not a verifier key.
        WrongKey: It was not published for this identity.
    """
    files = _files(os.fspath(path))
    newest = files[-1]
    front = parse_front(read_bounded(newest, BUNDLE_BYTES_MAX))
    state = BundleState(path)
    trusted = _trusted(state, front, issuer, is_issuer_required=is_issuer_required)
    vouched = verify_front(front, trusted)
    hand_overs = [parse_hand_over(obj) for obj in json.loads(front.hand_overs)]
    signer = follow_hand_overs(trusted, hand_overs)[-1]
    reader = provider.read_identity()
    file_key, start = _open_slot(front, provider, reader)
    messages = Messages(vouched.vault_id, front.bundle_id)
    try:
        raw = messages.open(message_key(file_key, front.bundle_id, INDEX), INDEX, front.content[start:])
        index = Index.parse(raw)
        verify_padding(index, raw, start)
        origins = _origins(index, vouched.scopes)
        del raw  # it holds keys, and a traceback that shows locals must not show them
    except (Malformed, Tampered):
        raise altered() from None
    seen = Seen(str(vouched.issuer), str(signer), index.role, vouched.serial, front.digest.hex())
    is_verified = issuer != UNVERIFIED
    trust = Trust(trusted, hand_overs, is_named=is_verified and bool(issuer), is_verified=is_verified)
    state.verify(seen, trust)
    if clock.now_ns() + _CLOCK_TOLERANCE_NS < index.issued:
        message = f"the bundle was published at {to_datetime(index.issued):%Y-%m-%d %H:%M:%S}Z, after this clock's time"
        raise BundleExpired(message, hint="set the clock: by one that is behind a bundle would never expire")
    if index.expires <= clock.now_ns():
        message = f"the bundle could be used until {to_datetime(index.expires):%Y-%m-%d %H:%M:%S}Z"
        raise BundleExpired(message, hint="ask for a newer one; `securecfg vault publish` makes it")
    parts = ((front.content, messages), *_parts(index, files[:-1], vouched.vault_id))
    _verify_places(index, parts)
    if is_verified:
        _record(state, seen, trust)
    place = (newest, vouched.issuer, vouched.vault_id, vouched.serial, front.digest.hex(), front.bundle_id)
    return OpenBundle(*place, reader, file_key, index, parts, origins)


def _origins(index: Index, recorded: Sequence[tuple[bytes, int]]) -> dict[str, Origin]:
    """Return the origins of what lies in sealed scopes, which the index names as the statement does.

    Raises:
        Malformed: It does not.
    """
    if [scope.vault_id for scope in index.scopes] != [vault_id for vault_id, _ in recorded]:
        raise Malformed
    return {
        scope.path: Origin(scope.vault_id, serial, scope.audit_key)
        for scope, (_, serial) in zip(index.scopes, recorded, strict=True)
    }


def _files(path: str) -> list[str]:
    """Return a file and those beside it that may build on it, in order."""
    files = [path]
    for number in count(1):
        name = f"{path}.{number}"
        # One that is there and cannot be read is no end of the row: it would hide what is newer.
        if not os.path.lexists(name):
            return files
        files.append(name)
    raise AssertionError


def _trusted(state: BundleState, front: Front, issuer: str, *, is_issuer_required: bool) -> VerifierKey:
    """Return which key must vouch for a bundle."""
    if issuer == UNVERIFIED:
        return claimed_issuer(front)
    if issuer:
        return parse_vkey(issuer)
    if recorded := state.issuer():
        return parse_vkey(recorded)
    # Who could lay a bundle where a vault was would otherwise choose what is read instead.
    was_vault = state.is_place_of_vault()
    if is_issuer_required or was_vault or not state.is_writable():
        why = "is recorded here" if is_issuer_required or was_vault else "is recorded here, nor can it be"
        message = f"no vault that the bundle must come from is named, and none {why}"
        if was_vault:
            message = "a vault was opened at this path before, and nothing says which one the bundle must come from"
        hint = (
            f"give the verifier key that `securecfg vault publish` shows as issuer, or `{UNVERIFIED}` to trust the file"
        )
        raise IssuerUnknown(message, hint=hint)
    return claimed_issuer(front)


def _open_slot(front: Front, provider: IdentityProvider, reader: Identity) -> tuple[KeyBytes, int]:
    info = slot_info(front.bundle_id, reader.fingerprint)
    for slot in front.slots:
        try:
            payload = provider.open_for_owner(slot, info)
        except Tampered:
            continue
        return KeyBytes(payload[:KEY_BYTES]), int.from_bytes(payload[KEY_BYTES:])
    message = f"the bundle was not published for this key of `{reader.name}`"
    raise WrongKey(message, hint="ask who published it whether the vault knows the key: `securecfg role list`")


def _parts(index: Index, files: list[str], vault_id: bytes) -> list[tuple[memoryview, Messages]]:
    """Return the contents that a bundle builds on, the nearest first."""
    if not index.bases:
        return []
    fronts = {front.digest: front for front in (parse_front(read_bounded(file, BUNDLE_BYTES_MAX)) for file in files)}
    parts = []
    for base in index.bases:
        front = fronts.get(base.digest)
        if front is None or front.bundle_id != base.bundle_id:
            message = "a bundle that this one builds on is missing, or is another one"
            hint = "keep `NAME`, `NAME.1`, `NAME.2` and so on together as they were published, or publish all anew"
            raise BundleChainBroken(message, hint=hint)
        parts.append((front.content, Messages(vault_id, base.bundle_id)))
    return parts


def _verify_places(index: Index, parts: tuple[tuple[memoryview, Messages], ...]) -> None:
    for secret in index.secrets.values():
        for version in secret.versions:
            if version.start + version.sealed_length > len(parts[version.depth][0]):
                raise altered()


def _record(state: BundleState, seen: Seen, trust: Trust) -> None:
    if not state.is_writable():
        message = "the state of bundles cannot be written here; an older bundle may pass unnoticed until it expires"
        logger().info(message, extra={"event": "bundle.unrecorded"})
        return
    state.record(seen, trust)
