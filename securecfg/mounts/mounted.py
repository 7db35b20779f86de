"""A vault with stores of others under some of its folders: what lies there is decided, recorded and named as its own.

A read is decided first, then fetched, then recorded, then handed out. A change is decided, recorded as begun, made, and
recorded as done or failed.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple, Self, cast

from securecfg.audit import Event
from securecfg.backends import Deletion, State
from securecfg.clock import to_datetime
from securecfg.errors import (
    AccessDenied,
    AlreadyExists,
    AuditUnavailable,
    Conflict,
    PathMounted,
    SecretNotFound,
    SecurecfgError,
    StoreBusy,
    Unsupported,
    VersionNotFound,
)
from securecfg.mounts.copies import copies_of
from securecfg.mounts.recording import change_recorded
from securecfg.mounts.source import Served, Source
from securecfg.mounts.table import read_mounts
from securecfg.secret import Secret, behind
from securecfg.vault.authority import RECORDS_AT_ONCE
from securecfg.vault.commits.publishing import Plan
from securecfg.vault.listing import Origin, VersionInfo, VersionState, cut_to_depth
from securecfg.vault.paths import check_prefix, path_to_bytes, scope_among
from securecfg.vault.values import SecretVersion
from securecfg.vault.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import timedelta
    from typing import BinaryIO, TypeVar

    from securecfg.audit import Record
    from securecfg.backends import StoredVersion
    from securecfg.mounts.source import Answer
    from securecfg.mounts.table import Mount
    from securecfg.policy import Decision, Explanation
    from securecfg.vault.administration import Administration
    from securecfg.vault.auditlog import AuditLog
    from securecfg.vault.authority import Authority, Stamp
    from securecfg.vault.closed import Closed
    from securecfg.vault.commits.outcomes import Outcome
    from securecfg.vault.drops.boxes import Receipt
    from securecfg.vault.drops.dropping import Dropped
    from securecfg.vault.opened import OpenVault
    from securecfg.vault.reading import At
    from securecfg.vault.session import Session
    from securecfg.vault.values import Plain, VersionId
    from securecfg.vault.writing import Wanted

    T = TypeVar("T")
    Paths = list[str]
    Versions = list[VersionInfo]
    Results = list[SecretVersion | SecurecfgError]
    Failures = list[SecurecfgError]
    Changed = list[object]

_RETRIES = 8
_OWN_KEPT = 65_536
_MOVED = "the policy changed meanwhile"
_COUNTS_CHECKED_EVERY = 0x3FF
_STATES = {
    State.LIVE: VersionState.LIVE,
    State.DISABLED: VersionState.DISABLED,
    State.DELETED: VersionState.DELETED,
    State.DESTROYED: VersionState.DESTROYED,
}


class _Place(NamedTuple):
    """Where a mounted path lies."""

    source: Source
    path: str
    inner: str


class _Hit:
    """A read that was decided and recorded, kept for its repeats."""

    __slots__ = ("changes", "count", "described", "revision", "source", "stamp", "until_ns", "version")

    def __init__(self, seen: tuple[object, Stamp, int], version: SecretVersion, answer: Answer, source: Source) -> None:
        self.revision, self.stamp, self.changes = seen
        self.version, self.source = version, source
        self.until_ns = answer.fresh_until_ns
        self.described = _described(version.path, answer)
        self.count = 0


class Sources:
    """The mounts of an open vault, each opened once for all handles on it.

    Args:
        opened: The vault.
    """

    def __init__(self, opened: OpenVault) -> None:
        """Open what is mounted; nothing is called."""
        self._opened = opened
        self._lock = threading.Lock()
        self._raw: Mapping[str, Secret[str]] = {}
        self._sources: dict[str, Source] = {}

    def all(self) -> dict[str, Source]:
        """Return what is mounted now, by folder."""
        raw = self._opened.mounts()
        if raw is not self._raw:
            with self._lock:
                if raw is not self._raw:
                    old = self._sources
                    self._sources = {mount.folder: self._open(old, mount) for mount in read_mounts(self._opened)}
                    self._raw = raw
                    for folder, source in old.items():
                        if self._sources.get(folder) is not source:
                            source.close()
        return self._sources

    def of(self, path: str) -> _Place | None:
        """Return where a path lies, None for what lies in no mount."""
        sources = self.all()
        folder = scope_among(sources, path)
        return _Place(sources[folder], path, path[len(folder) :]) if folder is not None else None

    def close(self) -> None:
        """Close them all."""
        for source in self._sources.values():
            source.close()

    def _open(self, known: Mapping[str, Source], mount: Mount) -> Source:
        source = known.get(mount.folder)
        if source is not None and source.mount == mount:
            return source
        return Source(mount, copies_of(self._opened, mount), self._opened.clock, self._opened.options.cache_values)


class MountedVault(Vault):
    """A vault and the stores that are mounted in it. Used as any `Vault`.

    Args:
        inner: The vault itself, with its sealed scopes.
        sources: What is mounted.
    """

    def __init__(self, inner: Vault, sources: Sources) -> None:
        """Take up what is open; programs call `Vault.open`."""
        self._inner, self._sources = inner, sources
        self._opened, self._authority = inner.opened, inner.authority
        self._revision = self._opened.store.revision
        self._now = self._opened.clock.now_ns
        self._hits: dict[str, _Hit] = {}
        self._kept = self._opened.options.cache_values
        self._recorded: set[tuple[str, str, str, str]] = set()
        self._counts: dict[tuple[str, str, str, str], int] = {}
        self._lock = threading.Lock()
        self._has_ended = False
        self._owns = True
        # What was in no mount the last time; where there is one by now, the vault itself says so.
        self._own: set[str] = set()
        self._read_own = inner.reads.read if type(inner) is Vault else _reader_of(inner)
        self._authority.flush_with(self._flush)

    @classmethod
    def over(cls, vault: Vault) -> Self:
        """Return a vault with its mounts."""
        return cls(vault, Sources(vault.opened))

    @property
    def sources(self) -> Mapping[str, Source]:
        """What is mounted, by folder."""
        return self._sources.all()

    # --- as the vault itself -----------------------------------------------------------------------------------------

    @property
    def administration(self) -> Administration:
        """Policy and roles."""
        return self._inner.administration

    @property
    def log(self) -> AuditLog:
        """The audit log, of what is mounted too."""
        return self._inner.log

    @property
    def is_by_root(self) -> bool:
        """Whether the vault itself is open."""
        return self._inner.is_by_root

    def parts(self, failures: dict[str, SecurecfgError] | None = None) -> Iterator[tuple[str, Vault]]:
        """Yield the vault itself and its sealed scopes; see `Vault.parts`."""
        return self._inner.parts(failures)

    def part_of(self, path: str) -> tuple[str, Vault]:
        """Return where a path lies; what is mounted is in the vault itself. See `Vault.part_of`."""
        return ("", self) if self._sources.of(path) is not None else self._inner.part_of(path)

    def authority_over(self, path: str) -> Authority:
        """Return the decisions and records that a path is under."""
        return self._authority if self._sources.of(path) is not None else self._inner.authority_over(path)

    def closed(self, prefix: str = "") -> Closed:
        """Return what may lie below a prefix that the key at hand does not open; see `Vault.closed`."""
        return self._inner.closed(prefix)

    def scope(self, path: str) -> Vault:
        """Return a sealed scope; see `Vault.scope`."""
        return self._inner.scope(path)

    def resolve(self, request_id: str) -> Outcome | None:
        """Return what became of a change of the vault itself; see `Vault.resolve`."""
        return self._inner.resolve(request_id)

    def explain(self, action: str, path: str, *, principal: str | None = None) -> Explanation:
        """Return why an action is allowed or denied; see `Vault.explain`."""
        return self._inner.explain(action, path, principal=principal)

    def drop(
        self,
        path: str,
        value: Plain | BinaryIO,
        *,
        ttl: timedelta | None = None,
        metadata: Mapping[str, str] | None = None,
        content_type: str = "",
    ) -> Receipt:
        """Hand a value in to a sealed scope; see `Vault.drop`."""
        try:
            return self._inner.drop(path, value, ttl=ttl, metadata=metadata, content_type=content_type)
        finally:
            del value  # a traceback that shows locals must not show it

    def may_only_drop(self, path: str) -> bool:
        """Return whether values can be dropped at a path, and not written."""
        return self._inner.may_only_drop(path)

    def find_drop(self, receipt: str) -> Dropped:
        """Return what became of a dropped value; see `Vault.find_drop`."""
        return self._inner.find_drop(receipt)

    # --- reading -----------------------------------------------------------------------------------------------------

    def read(self, path: str, *, at: At = None, allow_expired: bool = False) -> SecretVersion:
        """Return a version of a secret; see `Vault.read`.

        Raises:
            BackendUnavailable: The store cannot be reached, and no copy is young enough.
            BackendLoginRefused, BackendDenied, BackendRefused: The store does not give it.
        """
        if path in self._own:
            try:
                return self._read_own(path, at, allow_expired=allow_expired)
            except PathMounted:
                self._own.clear()
        if at is None:
            hit = self._hits.get(path)
            if (
                hit is not None
                and hit.until_ns > self._now()
                and hit.changes == hit.source.changes
                and (hit.revision == self._revision() or self._is_still_valid(path, hit))
            ):
                hit.count += 1
                if not hit.count & _COUNTS_CHECKED_EVERY:
                    self._authority.flush_if_due()
                return hit.version
        place = self._sources.of(path)
        if place is None:
            if len(self._own) >= _OWN_KEPT:
                self._own.clear()
            self._own.add(path)
            return self._read_own(path, at, allow_expired=allow_expired)
        return self._first_read(place, at)

    def read_many(self, wanted: Sequence[tuple[str, At]]) -> Results:
        """Return several versions, or the error of each; each mount is asked in as few calls as its store allows."""
        self._opened.refresh()
        results: dict[int, SecretVersion | SecurecfgError] = {}
        own: list[int] = []
        mounted: dict[str, list[tuple[int, _Place]]] = {}
        for position, (path, at) in enumerate(wanted):
            place = self._sources.of(path)
            if place is None:
                own.append(position)
            elif at is None:
                mounted.setdefault(place.source.mount.folder, []).append((position, place))
            else:
                results[position] = self._read_or_error(path, at)
        if own:
            found = self._inner.read_many([wanted[position] for position in own])
            results.update(zip(own, found, strict=True))
        for places in mounted.values():
            results |= self._read_together(places, places[0][1].source.read_many)
        return [results[position] for position in range(len(wanted))]

    def prefetch(self, paths: Iterable[str]) -> int:
        """Fetch what is mounted ahead of its reads and return how many secrets are known; see `Vault.prefetch`.

        Raises:
            BackendUnavailable: A store cannot be reached, and no copy, or no listing, is young enough.
            BackendLoginRefused, BackendDenied, BackendRefused: A store does not give something.
        """
        paths = list(paths)
        self._inner.prefetch(paths)  # which checks them, and who asks
        self._opened.refresh()
        failures: Failures = []
        wanted: dict[Source, list[str]] = {}
        for path in dict.fromkeys(paths):
            is_secret = path and not path.endswith("/")
            for place in self._to_read(path) if is_secret else self._to_read_below(path, failures):
                wanted.setdefault(place.source, []).append(place.inner)
        known = 0
        for source, names in wanted.items():
            try:
                fetched = source.prefetch(names)
            except SecurecfgError as error:
                failures.append(error)
            else:
                known += fetched.known
                failures += fetched.failures
        if failures:
            raise failures[0]
        return known

    def stream(self, path: str, *, at: At = None) -> tuple[SecretVersion, Iterator[bytes]]:
        """Return a version and its content in pieces; what is mounted comes in one. See `Vault.stream`."""
        if self._place_now(path) is None:
            return self._inner.stream(path, at=at)
        version = self.read(path, at=at)
        if not isinstance(version.value, Secret):
            return version, iter(())
        content = version.value.reveal()
        whole = content.encode() if isinstance(content, str) else content
        empty: Secret[str] | Secret[bytes] = (
            Secret("", label=path) if isinstance(content, str) else Secret(b"", label=path)
        )
        return version._replace(value=empty), iter((whole,))

    def list(self, prefix: str = "", *, depth: int | None = None) -> Paths:
        """Return the paths of live secrets that begin with a prefix and that the caller may list; see `Vault.list`.

        Raises:
            BackendUnavailable: A store below the prefix cannot be reached, and was not listed lately.
        """
        check_prefix(prefix)
        paths = self._inner.list(prefix)  # which sees what others have mounted, too
        for folder, source in self._sources.all().items():
            if folder.startswith(prefix) or prefix.startswith(folder):
                below = prefix[len(folder) :] if prefix.startswith(folder) else ""
                names = source.list(below[: below.rfind("/") + 1])
                paths += self._authority.filter_listed(
                    [path for name in names if (path := folder + name).startswith(prefix)]
                )
        paths.sort()
        return paths if depth is None else cut_to_depth(paths, prefix, depth)

    def search(self, text: str) -> Paths:
        """Return the paths of live secrets that contain a text and that the caller may list; see `Vault.search`."""
        wanted = text.casefold()
        found = self._inner.search(text)
        for folder, source in self._sources.all().items():
            paths = [path for name in source.list("") if wanted in (path := folder + name).casefold()]
            found += self._authority.filter_listed(paths)
        return sorted(found)

    def history(self, path: str) -> Versions:
        """Return all versions of a secret, newest first, without their values; see `Vault.history`."""
        place = self._place_now(path)
        if place is None:
            return self._inner.history(path)
        path_to_bytes(path)
        self._authority.require("list", path)
        source = place.source
        if not source.first.capabilities.keeps_versions:
            return [_current(source.read(place.inner))]
        origin = Origin(source.first.name, Served.STORE, to_datetime(self._now()))
        return [_info(version, origin) for version in source.versions(place.inner)]

    def current(self, path: str) -> VersionInfo:
        """Return what is known of the version that `read` would return, without its value; see `Vault.current`.

        Only by reading it a store says which one that is, so it is fetched as by `read`, and handed out to nobody.

        Raises:
            BackendUnavailable: The store cannot be reached, and no copy is young enough.
        """
        place = self._place_now(path)
        if place is None:
            return self._inner.current(path)
        path_to_bytes(path)
        self._authority.require("list", path)
        return _current(place.source.read(place.inner))

    def standing(self, path: str) -> object:
        """Return what changes whenever a secret changes; see `Vault.standing`."""
        place = self._place_now(path)
        if place is None:
            return self._inner.standing(path)
        if not self._authority.session().decide("read", path).allowed:
            return None  # as of what is not there, and without asking for it
        try:
            return place.source.read(place.inner).found.version.id
        except SecretNotFound:
            return None

    def read_now(self, paths: Sequence[str]) -> Results:
        """Return the current versions of secrets of one mount as its store has them at this moment, or their errors.

        Raises:
            BackendUnavailable: The first backend gives no answer.
            As for `read_many`.
        """
        places = [(position, self._place(path)) for position, path in enumerate(paths)]
        if not places:
            return []
        results = self._read_together(places, places[0][1].source.read_now)
        return [results[position] for position in range(len(paths))]

    def list_now(self, folder: str) -> Paths:
        """Return the paths below a folder in a mount as its store lists them at this moment, and that may be listed.

        Raises:
            BackendUnavailable: The first backend gives no answer.
        """
        check_prefix(folder)
        place = self._place(f"{folder}-")
        names = place.source.list_now(place.inner[:-1]).paths
        return self._authority.filter_listed([place.source.mount.folder + name for name in names])

    # --- changing ----------------------------------------------------------------------------------------------------

    def write(
        self,
        path: str,
        value: Plain | BinaryIO,
        *,
        expect: VersionId | None = None,
        ttl: timedelta | None = None,
        metadata: Mapping[str, str] | None = None,
        content_type: str = "",
        allow_lookalike: bool = False,
    ) -> VersionId:
        """Write a new version and return its number, or what the store calls it; see `Vault.write`.

        Raises:
            Unsupported: The store cannot hold it, or cannot do what is asked for besides.
            CommitUnknown: No answer came, and it may have been written.
        """
        place = self._place_now(path)
        try:
            if place is None:
                return self._inner.write(
                    path,
                    value,
                    expect=expect,
                    ttl=ttl,
                    metadata=metadata,
                    content_type=content_type,
                    allow_lookalike=allow_lookalike,
                )
            if ttl is not None or content_type:
                message = f"what is mounted at `{place.source.mount.folder}` holds no time to live and no content type"
                raise Unsupported(message, hint="write it without")
            load = behind(cast("Plain", value.read() if hasattr(value, "read") else value))
        finally:
            del value  # a traceback that shows locals must not show it
        return self._write(place, load, expect, metadata)

    def delete(self, path: str, version: VersionId | None = None) -> None:
        """Delete a secret as its store does, never a single version of one that is mounted; see `Vault.delete`."""
        place = self._place_now(path)
        if place is None:
            self._inner.delete(path, version)
            return
        if version is not None:
            message = f"what is mounted at `{place.source.mount.folder}` deletes no single versions"
            raise Unsupported(message, hint="leave the version out, and the secret is deleted")
        self._change_store(place, "delete", lambda: place.source.delete(place.inner))

    def undelete(self, path: str, version: VersionId) -> None:
        """Bring a deleted secret back; see `Vault.undelete`. What is mounted comes back with all its versions."""
        place = self._place_now(path)
        if place is None:
            self._inner.undelete(path, version)
            return
        self._change_store(place, "undelete", lambda: place.source.recover(place.inner))

    def rollback(self, path: str, to: VersionId) -> VersionId:
        """Write the value of an old version as a new one; see `Vault.rollback`."""
        place = self._place_now(path)
        if place is None:
            return self._inner.rollback(path, to)
        self._authority.require("write", path)
        try:
            found = place.source.read_version(place.inner, str(to)).found
        except (SecretNotFound, VersionNotFound):
            self._verify_may_know("write", path)
            raise
        return self._write(place, behind(cast("Plain", found.value)), None, None)

    def label(self, path: str, label: str, version: VersionId | None) -> None:
        """Make a label point at a version; see `Vault.label`."""
        place = self._place_now(path)
        if place is None:
            self._inner.label(path, label, version)
            return
        wanted = None if version is None else str(version)
        self._change_store(place, "write", lambda: place.source.label(place.inner, label, wanted), label=label)

    def destroy(self, path: str, version: VersionId) -> None:
        """Destroy a version for ever; see `Vault.destroy`. Of what is mounted nothing can be destroyed."""
        place = self._place_now(path)
        if place is None:
            self._inner.destroy(path, version)
            return
        message = f"nothing can be destroyed in what is mounted at `{place.source.mount.folder}`"
        raise Unsupported(message, hint="`securecfg secret delete` deletes it as its store does")

    def move(self, path: str, target: str, *, allow_lookalike: bool = False) -> None:
        """Give a secret another path; see `Vault.move`.

        Into a mount and out of one only the current version goes, so a secret with others does not move. It is there
        first and here no more afterwards: after a failure it may be in both places.

        Raises:
            Unsupported: It has other versions; or the store cannot write only where there is nothing.
        """
        source, goal = self._place_now(path), self._place_now(target)
        if source is None and goal is None:
            self._inner.move(path, target, allow_lookalike=allow_lookalike)
            return
        path_to_bytes(target)
        for action, where in (("delete", path), ("read", path), ("write", target)):
            self.authority_over(where).require(action, where)
        if goal is not None and not goal.source.first.capabilities.creates:
            message = f"what is mounted at `{goal.source.mount.folder}` cannot write only where there is nothing"
            raise Unsupported(message, hint="write the secret there, and delete it here")
        if source is not None and source.source.first.capabilities.deletes is Deletion.NONE:
            message = f"what is mounted at `{source.source.mount.folder}` deletes nothing"
            raise Unsupported(message, hint="write the secret where it is to be")
        if len([info for info in self.history(path) if info.state is not VersionState.DESTROYED]) > 1:
            message = f"`{path}` has earlier versions, and only the current one would go"
            raise Unsupported(message, hint="`securecfg migrate` takes a whole mount along with its versions")
        version = self.read(path)
        metadata = dict(version.metadata) or None
        if goal is not None:
            _verify_holds(goal.source, version)
        try:
            self.write(
                target, cast("Plain", version.value), expect=0, metadata=metadata, allow_lookalike=allow_lookalike
            )
        except Conflict as error:
            if goal is None and not isinstance(error, AlreadyExists):
                message = f"there is a secret `{target}`, or there was one"
                raise AlreadyExists(message) from None
            raise
        self.delete(path)

    # --- life --------------------------------------------------------------------------------------------------------

    @contextmanager
    def acting(self, principal: str, *, context: Mapping[str, object] | None = None) -> Iterator[Vault]:
        """Lend the vault to one request of another principal; see `Vault.acting`."""
        with self._inner.acting(principal, context=context) as inner:
            lent = MountedVault(inner, self._sources)
            try:
                yield lent
            finally:
                lent._end()

    def close(self) -> None:
        """Record the counts of repeated reads, forget all values, and close the vault; see `Vault.close`."""
        if self._owns:
            self._sources.close()
        try:
            self._inner.close()
        finally:
            self._end()

    def _end(self) -> None:
        """Hand out nothing any more. What was counted is recorded when the authority ends."""
        with self._lock:
            self._has_ended = True
            for hit in self._hits.values():
                if hit.count:
                    self._count(hit.described, hit.count)
            self._hits = {}

    def _apply(self, wanted: Wanted, *, is_large: bool = False) -> object:
        return self._inner._apply(wanted, is_large=is_large)  # noqa: SLF001 - of a vault, as this is one

    def _apply_batch(self, batch: Sequence[Wanted]) -> Changed:
        for wanted in batch:
            for _, path in wanted.rights:
                if self._sources.of(path) is not None:
                    message = f"one batch cannot reach into a mount, as `{path}` does"
                    raise Unsupported(message, hint="make the changes one by one: a store knows no transactions")
        return self._inner._apply_batch(batch)  # noqa: SLF001 - of a vault, as this is one

    # --- pieces ------------------------------------------------------------------------------------------------------

    def _first_read(self, place: _Place, at: At) -> SecretVersion:
        path = place.path
        path_to_bytes(path)
        for _ in range(_RETRIES):
            stamp, revision = self._opened.policy_stamp(), self._revision()
            session, decision = self._authority.require("read", path)
            if not self._is_there(place):  # which the decision has just seen
                return self.read(path, at=at)
            changes = place.source.changes
            try:
                answer = _fetch(place, at)
            except (SecretNotFound, VersionNotFound):
                if session.decide("list", path).allowed:
                    raise
                # Not found and not allowed to know look the same.
                raise self._authority.deny(session, "read", path, decision) from None
            if not self._record([(path, answer, session, decision)], stamp):
                continue
            version = _version(path, answer)
            # As in the vault itself: what depends on the time, or on what nobody vouches for twice, is decided anew.
            if at is None and decision.cacheable and self._kept and not self._opened.options.strict:
                self._remember(path, _Hit((revision, stamp, changes), version, answer, place.source))
            return version
        raise _too_fast(path)

    def _is_still_valid(self, path: str, hit: _Hit) -> bool:
        """Return whether a hit holds although somebody has written to the vault."""
        revision = self._revision()
        self._opened.refresh()
        if hit.stamp != self._opened.policy_stamp() or not self._authority.session().decide("read", path).allowed:
            return False
        hit.revision = revision
        return True

    def _remember(self, path: str, hit: _Hit) -> None:
        self._drop_hit(path)
        with self._lock:
            while len(self._hits) >= self._kept:
                first = next(iter(self._hits))
                gone = self._hits.pop(first)
                if gone.count:
                    self._count(gone.described, gone.count)
            if not self._has_ended:
                self._hits[path] = hit

    def _drop_hit(self, path: str) -> None:
        """Hand a read out no more; how often it was repeated is still to be recorded."""
        with self._lock:
            gone = self._hits.pop(path, None)
            if gone is not None and gone.count:
                self._count(gone.described, gone.count)

    def _read_or_error(self, path: str, at: At) -> SecretVersion | SecurecfgError:
        try:
            return self.read(path, at=at)
        except SecurecfgError as error:
            return error

    def _place_now(self, path: str) -> _Place | None:
        """Return where a path lies by what others have mounted and unmounted until now."""
        self._opened.refresh()
        return self._sources.of(path)

    def _is_there(self, place: _Place) -> bool:
        """Return whether a store is still mounted where it was a moment ago."""
        now = self._sources.of(place.path)
        return now is not None and now.source is place.source

    def _place(self, path: str) -> _Place:
        place = self._place_now(path)
        if place is None:
            message = f"nothing is mounted where `{path}` lies"
            raise SecretNotFound(message, hint="`securecfg vault mounts` shows what is mounted")
        return place

    def _to_read(self, path: str) -> Sequence[_Place]:
        """Return where a path lies, if in a mount and the caller may read it; where he may not, that is recorded."""
        place = self._sources.of(path)
        if place is not None:
            with suppress(AccessDenied):
                self._authority.require("read", path)
                return [place]
        return ()

    def _to_read_below(self, prefix: str, failures: Failures) -> Iterator[_Place]:
        """Yield what stores list below a folder and the caller may list and read; note which gives no listing."""
        for folder, source in self._sources.all().items():
            if folder.startswith(prefix) or prefix.startswith(folder):
                below = prefix[len(folder) :]
                try:
                    names = source.list(below)
                except SecurecfgError as error:
                    failures.append(error)
                    continue
                listed = self._authority.filter_listed([folder + name for name in names])
                allowed = self._authority.session().decide_many("read", listed)
                for path, is_allowed in zip(listed, allowed, strict=True):
                    if is_allowed:
                        yield _Place(source, path, path[len(folder) :])

    def _read_together(
        self,
        places: Sequence[tuple[int, _Place]],
        ask: Callable[[Sequence[str]], dict[str, Answer | SecurecfgError]],
    ) -> dict[int, SecretVersion | SecurecfgError]:
        for _ in range(_RETRIES):
            results: dict[int, SecretVersion | SecurecfgError] = {}
            if not all(self._is_there(place) for _, place in places):
                break
            stamp = self._opened.policy_stamp()
            allowed: list[tuple[int, _Place, Session, Decision]] = []
            for position, place in places:
                try:
                    path_to_bytes(place.path)
                    allowed.append((position, place, *self._authority.require("read", place.path)))
                except AuditUnavailable:
                    raise
                except SecurecfgError as error:
                    results[position] = error
            answers = ask([place.inner for _, place, _, _ in allowed])
            recorded = []
            for position, place, session, decision in allowed:
                answer = answers[place.inner]
                if not isinstance(answer, SecurecfgError):
                    recorded.append((place.path, answer, session, decision))
                    results[position] = _version(place.path, answer)
                elif isinstance(answer, SecretNotFound) and not session.decide("list", place.path).allowed:
                    results[position] = self._authority.deny(session, "read", place.path, decision)
                else:
                    results[position] = answer
            if self._record(recorded, stamp):
                return results
        else:
            raise _too_fast(places[0][1].path)
        # The mount has ended, or is another one, since they were sorted by it.
        again = self.read_many([(place.path, None) for _, place in places])
        return {position: found for (position, _), found in zip(places, again, strict=True)}

    def _record(self, reads: Sequence[tuple[str, Answer, Session, Decision]], stamp: Stamp) -> bool:
        """Make reads durable in the log; False where the policy has changed since they were decided."""
        options = self._opened.options
        fresh = []
        for read in reads:
            described = _described(read[0], read[1])
            if options.strict or described not in self._recorded:
                fresh.append((described, read))
            else:
                with self._lock:
                    self._count(described, 1)
        if fresh and options.read_only:
            message = "the vault is open for reading only, and a read cannot be recorded in it"
            raise AuditUnavailable(message, hint="open it for writing")
        for start in range(0, len(fresh), RECORDS_AT_ONCE):
            records = [
                session.record(Event.MOUNT_READ, _object(described) | self._age(answer), decision=decision)
                for described, (_, answer, session, decision) in fresh[start : start + RECORDS_AT_ONCE]
            ]

            def plan(_: object, records: list[Record] = records) -> Plan:
                if stamp != self._opened.policy_stamp():
                    raise _Moved(_MOVED)
                return Plan(records=records)

            try:
                self._authority.publish(plan)
            except _Moved:
                return False
        if self._has_ended:
            self._authority.session()  # says so
        self._opened.refresh()
        if stamp != self._opened.policy_stamp():
            return False
        self._recorded.update(described for described, _ in fresh)
        self._authority.flush_if_due()
        return True

    def _age(self, answer: Answer) -> dict[str, object]:
        if answer.served is Served.STORE:
            return {}
        return {"age_s": max(0, self._now() - answer.fetched_ns) // 1_000_000_000}

    def _write(
        self,
        place: _Place,
        load: Callable[[], Plain],
        expect: VersionId | None,
        metadata: Mapping[str, str] | None,
    ) -> str:
        wanted = None if expect is None else "" if expect == 0 else str(expect)
        return self._change_store(place, "write", lambda: place.source.write(place.inner, load(), wanted, metadata))

    def _change_store(self, place: _Place, action: str, change: Callable[[], T], label: str = "") -> T:
        """Make a change of a store, between the record that it is begun and the one of what became of it."""
        path = place.path
        path_to_bytes(path)
        self._opened.check_open()
        if self._opened.options.read_only:
            message = "the vault is open for reading only"
            raise Unsupported(message, hint="open it for writing")
        obj: dict[str, object] = {"path": path, "action": action, "store": place.source.first.name}
        if label:
            obj["label"] = label

        def change_mounted() -> T:
            # The record before has shown what others have mounted by then.
            if not self._is_there(place):
                message = f"what was mounted where `{path}` lies is not there any more"
                raise PathMounted(message, hint="try again: the path is what it is now")
            return change()

        try:
            return change_recorded(self._authority, action, obj, change_mounted)
        except (SecretNotFound, VersionNotFound):
            self._verify_may_know(action, path)
            raise
        finally:
            self._drop_hit(path)

    def _verify_may_know(self, action: str, path: str) -> None:
        """Tell nobody what is not there who may not list it.

        Raises:
            AccessDenied: He may not, and is told what he would be told without the right to do it.
        """
        session = self._authority.session()
        if not session.decide("list", path).allowed:
            raise self._authority.deny(session, action, path, session.decide(action, path)) from None

    def _count(self, described: tuple[str, str, str, str], count: int) -> None:
        self._counts[described] = self._counts.get(described, 0) + count

    def _flush(self) -> None:
        """Record how often reads were repeated since the last time.

        Raises:
            AuditUnavailable: The log cannot be written; the counts are kept.
        """
        with self._lock:
            for hit in list(self._hits.values()):
                count, hit.count = hit.count, 0
                if count:
                    self._count(hit.described, count)
            counts, self._counts = self._counts, {}
        if not counts or self._opened.options.read_only:
            return
        session = self._authority.session()
        try:
            self._authority.publish_records(
                [
                    session.record(Event.MOUNT_READ_COUNTED, _object(described), count=count)
                    for described, count in counts.items()
                ]
            )
        except SecurecfgError:
            with self._lock:
                for described, count in counts.items():
                    self._count(described, count)
            raise


class _Moved(Conflict):
    """The policy changed between the decision and the record. Never leaves this module."""

    code = "moved"


def _reader_of(vault: Vault) -> Callable[..., SecretVersion]:
    def read(path: str, at: At, *, allow_expired: bool) -> SecretVersion:
        return vault.read(path, at=at, allow_expired=allow_expired)

    return read


def _verify_holds(source: Source, version: SecretVersion) -> None:
    """Refuse to take into a store what it would lose.

    Raises:
        Unsupported: It holds no time to live, no content type, or no metadata, and there are some.
    """
    has = {
        "time to live": version.expires is not None,
        "content type": bool(version.content_type),
        "metadata": bool(version.metadata) and not source.first.capabilities.metadata,
    }
    lost = [name for name, is_there in has.items() if is_there]
    if lost:
        message = f"what is mounted at `{source.mount.folder}` holds no " + " and no ".join(lost)
        raise Unsupported(message, hint="write the value there without, and delete it here")


def _fetch(place: _Place, at: At) -> Answer:
    source, inner = place.source, place.inner
    if at is None:
        return source.read(inner)
    if isinstance(at, datetime):
        return source.read_version(inner, source.version_at(inner, at))
    return source.read_version(inner, str(at))


def _described(path: str, answer: Answer) -> tuple[str, str, str, str]:
    return path, answer.found.version.id, answer.store, answer.served


def _object(described: tuple[str, str, str, str]) -> dict[str, object]:
    path, version, store, served = described
    return {"path": path, "version": version, "store": store, "served": str(served)}


def _version(path: str, answer: Answer) -> SecretVersion:
    value, version, metadata = answer.found
    return SecretVersion(path, version.id, value, version.created, None, version.labels, metadata, "", "")


def _current(answer: Answer) -> VersionInfo:
    origin = Origin(answer.store, answer.served, to_datetime(answer.fetched_ns))
    return replace(_info(answer.found.version, origin), metadata=answer.found.metadata)


def _info(version: StoredVersion, origin: Origin) -> VersionInfo:
    return VersionInfo(
        version=version.id,
        state=_STATES[version.state],
        created=version.created,
        expires=None,
        deleted=None,
        labels=version.labels,
        metadata={},
        author="",
        content_type="",
        size_bytes=None,
        origin=origin,
    )


def _too_fast(path: str) -> StoreBusy:
    message = f"the policy changes faster than `{path}` can be read"
    return StoreBusy(message, hint="try again")
