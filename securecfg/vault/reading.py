"""The way of a read.

1. who asks            the session: principal, roles, context set by the host
2. may they            the policy, on action and path
3. which version       the index; not found and not allowed to know look the same
4. record it           durable in the log before the value is returned; repeats are counted
5. open it             scope key, data key, commitment, AEAD
6. hand out a Secret   that masks itself everywhere
"""

from __future__ import annotations

from datetime import datetime
from functools import partial
from itertools import chain, islice
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from securecfg.audit import Event
from securecfg.clock import to_datetime, to_ns
from securecfg.crypto import KIND_FIELDS
from securecfg.errors import (
    AuditUnavailable,
    Conflict,
    IntegrityError,
    InvalidReference,
    SecretDestroyed,
    SecretExpired,
    SecretNotFound,
    SecurecfgError,
    StoreBusy,
    VersionNotFound,
)
from securecfg.store import Space
from securecfg.vault.authority import RECORDS_AT_ONCE
from securecfg.vault.commits.publishing import Plan
from securecfg.vault.documents import metadata_of
from securecfg.vault.index.history import DELETED, DESTROYED, check_number, labels_of, number_of_label
from securecfg.vault.index.in_memory import prefix_end
from securecfg.vault.opened import Located
from securecfg.vault.paths import FIRST_USER_PATH, path_to_bytes
from securecfg.vault.values import SecretVersion, decode_value, to_secret_version

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from securecfg.audit import Record
    from securecfg.crypto import ChunkedContent, ValueKey
    from securecfg.policy import Decision
    from securecfg.vault.authority import Authority, Stamp
    from securecfg.vault.commits.publishing import Publication
    from securecfg.vault.index.history import History, Version
    from securecfg.vault.index.segments import Entry
    from securecfg.vault.session import Session

    # Path and number, the label of the value, and all that follows it.
    Frame = tuple[
        tuple[str, int],
        str,
        tuple[datetime, datetime | None, tuple[str, ...], Mapping[str, str], str, str],
    ]

At = int | str | datetime | None

LOCATIONS_KEPT = 4_096
_COUNTS_CHECKED_EVERY = 0x3FF
_RETRIES = 8
_SUGGESTIONS_SCANNED = 200


class Finding(NamedTuple):
    """A version that may be read: what steps 1 to 3 come to."""

    path: str
    encoded: bytes
    session: Session
    stamp: Stamp
    decision: Decision
    located: Located


to_finding = partial(tuple.__new__, Finding)


class _Hit:
    """A read that was decided and recorded, kept for its repeats."""

    __slots__ = ("count", "expires", "finding", "frame", "key", "revision", "version")

    def __init__(self, revision: object, finding: Finding, version: SecretVersion | None, key: ValueKey | None) -> None:
        self.revision = revision
        self.finding = finding
        self.version = version
        self.key = key
        self.frame: Frame | None = None
        self.expires = finding.located.version.expires
        self.count = 0


class _Moved(Conflict):
    """The policy or the secret changed between two steps; the read starts over."""

    code = "moved"


class Reads:
    """The reads of one identity.

    Args:
        authority: Decides and records for it.
    """

    def __init__(self, authority: Authority) -> None:
        """Nothing was read yet."""
        opened = authority.opened
        self._authority = authority
        self._opened = opened
        self._keeps_values = opened.options.cache_values > 0
        self._kept = opened.options.cache_values or LOCATIONS_KEPT
        self._hits: dict[str, _Hit] = {}
        self._recorded: set[tuple[int, int]] = set()
        self._revision = opened.store.revision
        self._get = opened.store.get
        self._now_ns = opened.clock.now_ns

    def read(self, path: str, at: At, *, allow_expired: bool) -> SecretVersion:
        """Return a version of a secret. See `Vault.read`."""
        if at is None:
            hit = self._hits.get(path)
            if (
                hit is not None
                and (hit.revision == self._revision() or self._is_still_valid(path, hit))
                and (not hit.expires or hit.expires > self._now_ns())
            ):
                hit.count += 1
                if not hit.count & _COUNTS_CHECKED_EVERY:
                    self._authority.flush_if_due()
                return hit.version or self._reopen(hit)
        return self._first_read(path, at, allow_expired=allow_expired)

    def read_many(self, wanted: Sequence[tuple[str, At]]) -> list[SecretVersion | SecurecfgError]:
        """Return several versions, or the error of each, with one flush of the log for all of them."""
        for _ in range(_RETRIES):
            try:
                findings = [self._find_or_error(path, at) for path, at in wanted]
                self._record([finding for finding in findings if isinstance(finding, Finding)])
            except _Moved:
                continue
            return [
                self._hand_out_or_error(finding, at) if isinstance(finding, Finding) else finding
                for (_, at), finding in zip(wanted, findings, strict=True)
            ]
        message = "the policy changes faster than the secrets can be read"
        raise StoreBusy(message, hint="try again")

    def stream(self, path: str, at: At) -> tuple[SecretVersion, Iterator[bytes]]:
        """Return a version with its content in pieces; of a large one the pieces are read as they are consumed."""
        for _ in range(_RETRIES):
            try:
                finding = self._find(path, at, allow_expired=False)
                self._record([finding])
                frame = _frame_of(finding)  # first, as in `_hand_out`
                if finding.located.version.value_rows:
                    content = self._open_chunked(finding)
                    if content.kind != KIND_FIELDS:
                        return _framed(frame, content.kind, b""), self._pieces(finding, content)
                    # Fields are of use only as a whole, so they are the value and not pieces.
                    return _framed(frame, content.kind, self._join(finding, content)), iter(())
                kind, whole = self._open_inline(finding)
                return _framed(frame, kind, whole), iter((whole,))
            except _Moved:
                continue
        raise _too_fast(path)

    def history(self, path: str) -> tuple[History, list[Version]]:
        """Return a secret's newest history page and all its versions, newest first. Reveals no value.

        Raises:
            AccessDenied: The path may not be listed.
            SecretNotFound: It never held a secret.
        """
        encoded = path_to_bytes(path)
        self._authority.require("list", path)
        opened = self._opened
        opened.verify_own(path)

        def look_up() -> tuple[History, list[Version]]:
            entry = opened.replica.index.get(encoded)
            if entry is None:
                raise self._not_found(path)
            history = opened.history(encoded, entry)
            return history, list(self._newest_first(history))

        return opened.consistently(look_up)

    def take_counts(self) -> dict[tuple[str, int], int]:
        """Return how often each version was read again since the last call, and begin to count anew."""
        counts: dict[tuple[str, int], int] = {}
        for path, hit in list(self._hits.items()):
            count, hit.count = hit.count, 0
            if count:
                counts[path, hit.finding.located.version.number] = count
        return counts

    def forget(self) -> None:
        """Drop every value that is kept."""
        self._hits = {}

    # --- steps -------------------------------------------------------------------------------------------------------

    def _first_read(self, path: str, at: At, *, allow_expired: bool) -> SecretVersion:
        for _ in range(_RETRIES):
            try:
                revision = self._revision()
                finding = self._find(path, at, allow_expired=allow_expired)
                self._record([finding])
                version = self._hand_out(finding)
            except _Moved:
                continue
            if at is None:
                self._remember(revision, finding, version)
            return version
        raise _too_fast(path)

    def _find_or_error(self, path: str, at: At) -> Finding | SecurecfgError:
        try:
            return self._find(path, at, allow_expired=False)
        except _Moved:
            raise
        except SecurecfgError as error:
            return error

    def _find(self, path: str, at: At, *, allow_expired: bool) -> Finding:
        """Take steps 1 to 3."""
        encoded = path_to_bytes(path)
        # Taken before the decision, which may so be under a newer policy and start over, but never under an older one.
        stamp = self._opened.policy_stamp()
        session, decision = self._authority.require("read", path)
        self._opened.verify_own(path)
        entry = self._opened.entry(encoded)
        if entry is None or (at is None and not entry.live):
            if session.decide("list", path).allowed:
                raise self._not_found(path)
            raise self._authority.deny(session, "read", path, decision)
        try:
            try:
                located = self._locate(path, encoded, at, entry)
            except IntegrityError:
                located = self._locate_again(path, encoded, at)
            self._verify_state(path, located.version, at, allow_expired=allow_expired)
        except (SecretNotFound, VersionNotFound, SecretDestroyed, SecretExpired):
            # Of a deleted secret no error tells that it was there.
            if entry.live or session.decide("list", path).allowed:
                raise
            raise self._authority.deny(session, "read", path, decision) from None
        finding: Finding = to_finding((path, encoded, session, stamp, decision, located))
        if self._opened.replica.data_keys.grants is not None:
            # A record says who got a value, so there is none where the key at hand does not open it.
            self._verify_granted(finding)
        return finding

    def _locate_again(self, path: str, encoded: bytes, at: At) -> Located:
        """Look entry and rows up once more, which may have been those of two states, as long as the vault changes."""
        return self._opened.consistently(
            lambda: self._locate(path, encoded, at, self._opened.replica.index.get(encoded))
        )

    def _locate(self, path: str, encoded: bytes, at: At, entry: Entry | None) -> Located:
        opened = self._opened
        if entry is None:
            raise self._not_found(path)
        try:
            if at is None:
                return opened.locate(encoded, entry, 0)
            if isinstance(at, int):
                return opened.locate(encoded, entry, check_number(at))
            history = opened.history(encoded, entry)
            if isinstance(at, datetime):
                return Located(entry, history, self._version_of_time(history, at))
            return opened.locate(encoded, entry, number_of_label(history, at))
        except KeyError:
            message = f"`{path}` has no version `{'current' if at is None else at}`"
            raise VersionNotFound(message, hint=f"`securecfg secret history {path}` lists its versions") from None

    def _verify_state(self, path: str, version: Version, at: At, *, allow_expired: bool) -> None:
        number = version.number
        if version.state == DESTROYED:
            raise _destroyed(path, number)
        if version.state == DELETED and not isinstance(at, datetime):
            message = f"version {number} of `{path}` is deleted"
            raise VersionNotFound(message, hint=f"`securecfg secret undelete {path} {number}` brings it back")
        if version.expires and version.expires <= self._now_ns() and not allow_expired:
            message = f"version {number} of `{path}` expired at {to_datetime(version.expires):%Y-%m-%d %H:%M:%S}Z"
            raise SecretExpired(message, hint="write a new version, or allow expired ones on purpose")

    def _version_of_time(self, history: History, moment: datetime) -> Version:
        try:
            then = to_ns(moment)
        except ValueError:
            message = "a point in time needs a time zone"
            raise InvalidReference(message, hint="give an aware datetime, such as one in UTC") from None
        for version in self._newest_first(history):
            if version.created <= then and not 0 < version.deleted <= then:
                return version
        raise KeyError(moment)

    def _newest_first(self, history: History) -> Iterator[Version]:
        yield from history.versions
        for page in range(len(history.older) - 1, -1, -1):
            yield from self._opened.older_versions(history, page)

    def _record(self, findings: Sequence[Finding]) -> None:
        """Take step 4: what this handle has not recorded yet becomes durable before anything is opened."""
        options = self._opened.options
        fresh = findings
        if not options.strict:
            fresh = []
            for finding in findings:
                place = _recorded_as(finding)
                if place in self._recorded:
                    self._authority.count_read(finding.path, place[1])
                else:
                    fresh.append(finding)
        if not fresh:
            return
        if options.read_only:
            message = "the vault is open for reading only, and a read cannot be recorded in it"
            hint = "open it for writing, or publish what is read here: `securecfg vault publish --for ROLE -o FILE`"
            raise AuditUnavailable(message, hint=hint)
        for start in range(0, len(fresh), RECORDS_AT_ONCE):
            self._authority.publish(partial(self._plan_records, fresh[start : start + RECORDS_AT_ONCE]))
        self._recorded.update(map(_recorded_as, fresh))

    def _plan_records(self, findings: Sequence[Finding], _publication: Publication) -> Plan:
        records: list[Record] = []
        for path, _, session, stamp, decision, located in findings:
            if stamp != self._opened.policy_stamp():
                message = "the policy changed meanwhile"
                raise _Moved(message)
            obj = {"path": path, "ver": located.version.number}
            records.append(session.record(Event.SECRET_READ, obj, decision=decision))
        return Plan(records=records)

    def _hand_out(self, finding: Finding) -> SecretVersion:
        """Take steps 5 and 6."""
        frame = _frame_of(finding)  # first: it may fail, and then no local holds the value
        if finding.located.version.value_rows:
            content = self._open_chunked(finding)
            return _framed(frame, content.kind, self._join(finding, content))
        return _framed(frame, *self._open_inline(finding))

    def _hand_out_or_error(self, finding: Finding, at: At) -> SecretVersion | SecurecfgError:
        """Return the version that was found and recorded, read anew where it changed meanwhile, or why not."""
        try:
            try:
                return self._hand_out(finding)
            except _Moved:
                return self._first_read(finding.path, at, allow_expired=False)
        except SecurecfgError as error:
            return error

    def _verify_granted(self, finding: Finding) -> None:
        """Check that the key at hand opens the data key of a version.

        Raises:
            ScopeSealed: It does not.
        """
        keyring = self._keyring()
        try:
            self._opened.data_key(finding.located.version.dek_id)
        except IntegrityError:
            self._verify_unmoved(finding, keyring)
            raise

    def _open_inline(self, finding: Finding) -> tuple[int, bytes]:
        keyring = self._keyring()
        try:
            return self._opened.open_inline(finding.located)
        except IntegrityError:
            self._verify_unmoved(finding, keyring)
            raise

    def _open_chunked(self, finding: Finding) -> ChunkedContent:
        keyring = self._keyring()
        try:
            return self._opened.open_chunked(finding.located)
        except IntegrityError:
            self._verify_unmoved(finding, keyring)
            raise

    def _join(self, finding: Finding, content: ChunkedContent) -> bytes:
        keyring = self._keyring()
        try:
            return b"".join(content)
        except IntegrityError:
            self._verify_unmoved(finding, keyring)
            raise

    def _pieces(self, finding: Finding, content: ChunkedContent) -> Iterator[bytes]:
        """Yield the pieces of a large value. A stream cannot start over: it says what became of the version.

        Raises:
            SecretDestroyed: The version was destroyed meanwhile.
            Conflict: It was encrypted anew, or moved into another part of the vault.
        """
        try:
            yield from content
        except IntegrityError:
            self._verify_in_place(finding)
            raise

    def _verify_in_place(self, finding: Finding) -> None:
        """Check that a version still has the data key with which it was found, at whatever path it is.

        Raises:
            SecretDestroyed, Conflict: As for a stream.
        """
        opened, number = self._opened, finding.located.version.number
        try:
            newer = opened.consistently(partial(self._find_again, finding))
        except IntegrityError:
            if opened.has_head():
                raise
            newer = None  # the sealed scope was merged
        if newer is not None and newer.state == DESTROYED:
            raise _destroyed(finding.path, number) from None
        if newer is None or newer.dek_id != finding.located.version.dek_id:
            message = f"version {number} of `{finding.path}` was encrypted anew or moved while it was read"
            raise Conflict(message, hint="read it again") from None

    def _find_again(self, finding: Finding) -> Version | None:
        """Return a version that was found as it is now, wherever its secret was moved to; None where it is gone."""
        opened = self._opened
        opened.refresh()
        index = opened.replica.index
        record, number = _recorded_as(finding)
        places = chain(((finding.encoded, index.get(finding.encoded)),), index.scan(FIRST_USER_PATH, None))
        for path, entry in places:
            if entry is not None and entry.rec_id == record:
                return opened.locate(path, entry, number).version
        return None

    def _verify_unmoved(self, finding: Finding, keyring: bytes) -> None:
        """Let the read start over where the secret changed after it was found, so that old rows are rightly gone.

        So it does where the keys have changed: a data key may be wrapped by one that was not known yet.

        Args:
            finding: What was found.
            keyring: The digest of the keys that it was to be opened with.
        """
        self._opened.refresh()
        if self._opened.entry(finding.encoded) != finding.located.entry or self._keyring() != keyring:
            message = f"`{finding.path}` changed meanwhile"
            raise _Moved(message)

    def _keyring(self) -> bytes:
        return self._opened.replica.state.keyring_digest

    # --- repeats -----------------------------------------------------------------------------------------------------

    def _remember(self, revision: object, finding: Finding, version: SecretVersion) -> None:
        if not finding.decision.cacheable or finding.located.version.value_rows or self._opened.options.strict:
            return
        if len(self._hits) >= self._kept:
            oldest = next(iter(self._hits), None)
            if oldest is not None:
                self._drop(oldest)
        if finding.path in self._hits:
            self._drop(finding.path)  # another thread's hit has counts
        if self._keeps_values:
            self._hits[finding.path] = _Hit(revision, finding, version, None)
        elif self._opened.replica.data_keys.grants is None:
            key = self._opened.value_key(finding.located)
            self._hits[finding.path] = _Hit(revision, finding, None, key)
        if self._opened.is_closed:
            # Another thread closed the vault, and has perhaps dropped already what is kept.
            self.forget()

    def _is_still_valid(self, path: str, hit: _Hit) -> bool:
        """Return whether a commit since the hit left the policy and this secret alone."""
        revision = self._revision()
        self._opened.refresh()
        finding = hit.finding
        if (
            finding.stamp == self._opened.policy_stamp()
            and self._opened.entry(finding.encoded) == finding.located.entry
        ):
            hit.revision = revision
            return True
        self._drop(path)
        return False

    def _drop(self, path: str) -> None:
        hit = self._hits.pop(path, None)
        if hit is not None and hit.count:
            self._authority.count_read(path, hit.finding.located.version.number, hit.count)

    def _reopen(self, hit: _Hit) -> SecretVersion:
        """Take steps 5 and 6 again with the key that was kept."""
        key, version = hit.key, hit.finding.located.version
        row = self._get(Space.VALUE, version.value_id)
        try:
            if row is not None and key is not None:
                kind, content = key.open(row, version.commitment)
                if hit.frame is None:
                    hit.frame = _frame_of(hit.finding)
                return _framed(hit.frame, kind, content)
        except IntegrityError:
            pass
        # Either the secret changed a moment ago or the row is wrong; a read from the start tells which.
        self._drop(hit.finding.path)
        return self._first_read(hit.finding.path, None, allow_expired=False)

    def _not_found(self, path: str) -> SecretNotFound:
        return SecretNotFound(f"there is no secret `{path}`", hint=self._suggestion(path))

    def _suggestion(self, path: str) -> str:
        """Return a hint that names a similar path among the neighbours that may be listed."""
        from difflib import get_close_matches

        folder = path[: path.rfind("/") + 1].encode()

        def neighbours() -> list[str]:
            scan = self._opened.replica.index.scan(folder or FIRST_USER_PATH, prefix_end(folder))
            live = (encoded.decode() for encoded, entry in scan if entry.live)
            return list(islice(live, _SUGGESTIONS_SCANNED))

        allowed = self._authority.filter_listed(self._opened.consistently(neighbours))
        close = get_close_matches(path, allowed, n=1)
        return f"did you mean `{close[0]}`?" if close else "`securecfg secret list` shows what there is"


_NO_METADATA: MappingProxyType[str, str] = MappingProxyType({})


def _frame_of(finding: Finding) -> Frame:
    """Return what stands around the value of a version: all that repeats have in common is worked out here."""
    path, _, _, _, _, (_, history, version) = finding
    number, expires, metadata = version.number, version.expires, version.metadata
    around = (
        to_datetime(version.created),
        to_datetime(expires) if expires else None,
        labels_of(history, number),
        metadata_of(metadata) if metadata else _NO_METADATA,
        version.author,
        version.content_type,
    )
    return (path, number), f"{path}@{number}", around


def _framed(frame: Frame, kind: int, content: bytes) -> SecretVersion:
    """Return a version with its value."""
    front, label, back = frame
    return to_secret_version((*front, decode_value(kind, content, label), *back))


def _too_fast(path: str) -> StoreBusy:
    return StoreBusy(f"`{path}` changes faster than it can be read", hint="try again")


def _destroyed(path: str, number: int) -> SecretDestroyed:
    message = f"version {number} of `{path}` was destroyed"
    return SecretDestroyed(message, hint=f"`securecfg secret history {path}` shows what is left")


def _recorded_as(finding: Finding) -> tuple[int, int]:
    entry, _, version = finding.located
    return entry.rec_id, version.number
