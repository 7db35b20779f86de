"""More rows than one publication may hold: prepared as rows that nothing references, published by one small batch.

The range of ids in use is noted in the state first, so that what a crash leaves behind is found and deleted.
"""

from __future__ import annotations

import json
from base64 import b64encode
from hashlib import sha256
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from securecfg.crypto import generate_key
from securecfg.errors import CommitUnknown, Conflict, SecurecfgError, StoreBusy, StoreFailed, ValueTooLarge
from securecfg.keys import KeyState, Purpose
from securecfg.octets import pad, var32
from securecfg.store import STAGE_LIMIT_BYTES, STAGE_LIMIT_OPERATIONS, Delete, Put, Space
from securecfg.vault.commits.maintenance import delete_rows, freed_rows
from securecfg.vault.commits.publishing import DELTA_LIMIT_BYTES, Plan
from securecfg.vault.index.deltas import Delta, FreedRun, split_changes
from securecfg.vault.index.lookalikes import NewNames
from securecfg.vault.index.rows import digest_id
from securecfg.vault.logger import logger
from securecfg.vault.state.head import CLOCK_TOLERANCE_NS, STAGINGS_MAX, Staging

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from securecfg.audit import Record
    from securecfg.vault.commits.publishing import Publication
    from securecfg.vault.index.segments import Entry
    from securecfg.vault.opened import OpenVault

ALLOCATED_SPACES = (Space.HISTORY, Space.DEK, Space.VALUE, Space.SEGMENT)
CHANGES_MAX = 200_000

# Each further range of an area is twice as large, as few stagings fit into a state.
_BLOCK = 16_384
_BLOCK_MAX = 1 << 20
_LIFETIME_NS = 3_600 * 1_000_000_000
CONDEMNED = 1  # an expiry that no writer chooses and that is long past
_PART_BYTES = 384 * 1024
PART_FRONT = b"\x50\x01"
PART_PADDING = 4_096
_NONCE = bytes(12)
_FREED_PER_DELTA = 5_000
_FREED_MAX = 20_000  # in a delta that changes nothing else


class StagingMoved(Conflict):
    """What a staging was built on has changed; it is abandoned and made anew. Never leaves the vault."""

    code = "staging-moved"


class StagingArea:
    """A workspace whose rows go to the store at once. Used by one thread.

    Args:
        opened: The vault.
    """

    def __init__(self, opened: OpenVault) -> None:
        """Reserve nothing yet."""
        self._opened = opened
        self._epochs = self._active_epochs()
        self._ranges: list[Staging] = []
        self._next = self._end = 0
        self._block = _BLOCK
        self._buffer: dict[tuple[Space, int], Put] = {}
        self._buffered_bytes = 0
        self._seen: dict[bytes, Entry | None] = {}
        # The index of the first look, and how much was applied: nothing that was seen changes while both stand.
        index = opened.replica.index
        self._looked = (index, index.applied)
        self._pending: dict[bytes, Entry | None] = {}
        self._names = NewNames(self._pending)
        self.new_names = (self._names,)
        self._freed: list[FreedRun] = []
        self._digests: list[bytes] | None = None
        self._loose: list[Delete] = []
        self._is_in_doubt = False

    @property
    def ranges(self) -> tuple[tuple[int, int], ...]:
        """The first and the last of the ids of each range that is reserved, which nobody else is given."""
        return tuple((staging.first, staging.last) for staging in self._ranges)

    # --- workspace ---------------------------------------------------------------------------------------------------

    def entry(self, path: bytes) -> Entry | None:
        """Return the entry of a path, earlier drafts included."""
        if path in self._pending:
            return self._pending[path]
        entry = self._opened.entry(path)
        # The first look counts: a draft may have used it before it looks again.
        self._seen.setdefault(path, entry)
        return entry

    def row(self, space: Space, id_: int) -> bytes | None:
        """Return a row, earlier drafts included."""
        put = self._buffer.get((space, id_))
        return put.row if put is not None else self._opened.store.get(space, id_)

    def allocate(self, count: int = 1) -> int:
        """Return the first of some consecutive ids of the reserved range; reserve more where it is used up.

        Raises:
            StoreBusy: Too many writers are staging at once.
        """
        if self._next + count > self._end:
            self._reserve(max(self._block, count))
            self._block = min(2 * self._block, _BLOCK_MAX)
        first = self._next
        self._next += count
        return first

    def take(self, plan: Plan) -> None:
        """Stage the rows of a draft and remember its changes.

        Raises:
            StoreFailed: The store cannot write.
            ValueTooLarge: There are more changes than one publication can record.
        """
        self._put_all(plan.puts)
        for space, first, rows in plan.streams:
            self._put_all(Put(space, id_, row) for id_, row in enumerate(rows, start=first))
        if plan.deletes:
            self._freed += [FreedRun(delete.space, delete.id, 1) for delete in plan.deletes]
        self._freed += plan.freed
        for path, entry in plan.changes:
            self._pending[path] = entry
        self._names.add(plan.changes)
        if len(self._pending) > CHANGES_MAX:
            message = f"a batch holds at most {CHANGES_MAX} changes"
            raise ValueTooLarge(message, hint="split it")

    def verify_unmoved(self) -> None:
        """Check that what the drafts were made from is still the state of the vault.

        Raises:
            StagingMoved: A secret that was read for the staging has changed.
        """
        self._opened.refresh()
        for path, entry in self._seen.items():
            if self._opened.entry(path) != entry:
                message = f"`{path.decode()}` changed meanwhile"
                raise StagingMoved(message)

    # --- publication -------------------------------------------------------------------------------------------------

    def publish(
        self,
        make_records: Callable[[], list[Record]],
        verify: Callable[[], None],
        request_id: str,
        *,
        flags: int = 0,
    ) -> None:
        """Publish everything that was staged with its records.

        Args:
            make_records: Makes the records, under the lock of the publication.
            verify: Raises where the decision to allow this no longer holds.
            request_id: For an ambiguous commit.
            flags: Bits to set in the flags of the state.

        Raises:
            StagingMoved: A secret that was read for the staging has changed, or a key.
            CommitUnknown: The store failed while committing.
            StoreBusy: The staging took so long that another writer swept it away.
        """
        self._opened.publisher.publish(self.prepare(make_records, verify, flags=flags), request_id)
        self.conclude()

    def prepare(
        self, make_records: Callable[[], list[Record]], verify: Callable[[], None], *, flags: int = 0
    ) -> Callable[[Publication], Plan]:
        """Write all that is left to write, and return what plans the publication of everything that was staged.

        For the arguments see `publish`. Once it is published `conclude` is to be called.
        """
        digests = self._stage_deltas()
        self._flush()
        mine = set(self._ranges)

        def plan(publication: Publication) -> Plan:
            self._is_in_doubt = False
            verify()
            self._verify_epochs()
            if not mine <= set(publication.stagings):
                raise _took_too_long()
            if not publication.is_of(*self._looked):
                for path, entry in self._seen.items():
                    if publication.entry(path) != entry:
                        message = f"`{path.decode()}` changed meanwhile"
                        raise StagingMoved(message)
            publication.stagings = [staging for staging in publication.stagings if staging not in mine]
            self._is_in_doubt = True
            plan = Plan(records=make_records(), changes=list(self._pending.items()), delta_digests=digests)
            if flags:
                plan.state["flags"] = publication.state.flags | flags
            return plan

        return plan

    def conclude(self) -> None:
        """Note that everything was published, and delete what nothing references since then."""
        self._ranges = []
        try:
            self.sweep_freed()
        except SecurecfgError as error:
            # The change is durable; compaction deletes these rows too.
            logger().info("freed rows are left for later: %s", error.message, extra={"event": "sweep.postponed"})

    def publish_manifest(self, put: Put, digest: bytes, base_size: int, base_digest: bytes) -> None:
        """Publish a manifest whose segments were staged.

        Args:
            put: The manifest's row.
            digest: Its SHA-256.
            base_size: The size of the log that it includes.
            base_digest: The SHA-256 of the manifest that it was made from.

        Raises:
            StagingMoved: Another compaction was faster, or a key has changed.
        """
        self._flush()
        mine = set(self._ranges)

        def plan(publication: Publication) -> Plan:
            self._is_in_doubt = False
            self._verify_epochs()
            if publication.state.manifest_digest != base_digest or not mine <= set(publication.stagings):
                message = "another process compacted the index meanwhile"
                raise StagingMoved(message)
            publication.stagings = [staging for staging in publication.stagings if staging not in mine]
            self._is_in_doubt = True
            return Plan(puts=[put], state={"manifest_digest": digest, "base_size": base_size})

        self._opened.publisher.publish(plan)
        self._ranges = []

    def _active_epochs(self) -> set[tuple[int, int]]:
        """Return which keys seal rows: the scope key, and in a sealed scope the value key."""
        sealing = (entry for entry in self._opened.replica.keyring.keys if entry.state == KeyState.ACTIVE)
        return {(entry.purpose, entry.epoch) for entry in sealing if entry.purpose in {Purpose.SCOPE, Purpose.VALUE}}

    def _verify_epochs(self) -> None:
        """Check that the rows are sealed under the keys in use: only then may an old one ever be forgotten.

        Nor may a value be published under a key that somebody holds who may not read it any more.

        Raises:
            StagingMoved: There is a new one since the first row.
        """
        if self._active_epochs() != self._epochs:
            message = "the keys of the vault changed meanwhile"
            raise StagingMoved(message)

    def retract_deltas(self) -> None:
        """Delete what was written for a publication that was refused, so that more can be staged for the next one.

        Raises:
            Unavailable: The store cannot write.
        """
        self._flush()
        delete_rows(self._opened, self._loose)
        self._loose, self._digests = [], None

    def sweep_freed(self) -> None:
        """Delete the rows that nothing references since the publication.

        Raises:
            Unavailable: The store cannot write.
        """
        delete_rows(self._opened, freed_rows(self._opened.store, self._freed))
        self._freed = []

    def abandon(self) -> None:
        """Delete what was staged. What cannot be deleted now is found later: by its range, and by its deltas."""
        ranges, self._ranges = self._ranges, []
        self._buffer = {}
        try:
            condemned = _condemn(self._opened, ranges)
            # What was perhaps published is not there to be condemned; neither is what another writer has swept.
            unpublished = condemned if self._is_in_doubt else ranges
            if unpublished:
                _delete_ranges(self._opened, unpublished)
                delete_rows(self._opened, self._loose)
            _drop(self._opened, condemned)
        except SecurecfgError:
            return

    def stage_parts(self, items: Sequence[tuple[str, int]]) -> list[list[str]]:
        """Stage the parts of a record that lists more than fits into it; return what the record names them by.

        All changes have been taken.
        """
        self._stage_deltas()  # they tell of the parts, should this process not come to the end
        parts = []
        for run in _split_items(items):
            key = generate_key()
            digest = self._put_loose(Space.PART, seal_part(run, key))
            parts.append([b64encode(digest).decode(), b64encode(key).decode()])
        return parts

    def _stage_deltas(self) -> list[bytes]:
        if self._digests is None:
            self._digests = []
            freed = tuple(self._freed)
            for run in split_changes(list(self._pending.items()), DELTA_LIMIT_BYTES):
                part, freed = freed[:_FREED_PER_DELTA], freed[_FREED_PER_DELTA:]
                row = self._opened.replica.rows.seal_delta(Delta(run, part))
                self._digests.append(self._put_loose(Space.DELTA, row))
            while freed:
                part, freed = freed[:_FREED_MAX], freed[_FREED_MAX:]
                row = self._opened.replica.rows.seal_delta(Delta((), part))
                self._digests.append(self._put_loose(Space.DELTA, row))
        return self._digests

    def _put_loose(self, space: Space, row: bytes) -> bytes:
        """Stage a row whose id is not of a range, and return its digest."""
        if not self._ranges:
            # Without one in the state others take the row for a leftover, and delete it.
            self._reserve(1)
        digest = sha256(row).digest()
        self.put(Put(space, digest_id(digest), row))
        # In the order in which they are to be deleted: deltas last.
        self._loose.insert(0, Delete(space, digest_id(digest)))
        return digest

    def put(self, put: Put) -> None:
        """Stage a row.

        Raises:
            StagingMoved: A key has changed since the first row.
            StoreFailed: The store cannot write.
        """
        self._put_all((put,))

    def _put_all(self, puts: Iterable[Put]) -> None:
        for put in puts:
            space, id_, row = put
            size = len(row)
            if len(self._buffer) >= STAGE_LIMIT_OPERATIONS or self._buffered_bytes + size > STAGE_LIMIT_BYTES:
                self._flush()
            self._buffer[space, id_] = put
            self._buffered_bytes += size

    def _flush(self) -> None:
        if self._buffer:
            self._opened.refresh()
            self._verify_epochs()
            if not set(self._ranges) <= set(self._opened.replica.state.stagings):
                # Another writer has swept it. What is written now would be found by nobody.
                raise _took_too_long()
            try:
                self._opened.store.stage(list(self._buffer.values()))
            except CommitUnknown:
                raise _not_prepared() from None
            self._buffer = {}
            self._buffered_bytes = 0

    def _reserve(self, count: int) -> None:
        def plan(publication: Publication) -> Plan:
            if len(publication.stagings) >= STAGINGS_MAX:
                message = "too many writers prepare large changes at once"
                raise StoreBusy(message, hint="try again in a moment")
            first = publication.allocate(count)
            expires = self._opened.clock.now_ns() + _LIFETIME_NS
            staging = Staging(first, first + count - 1, expires)
            publication.stagings.append(staging)
            return Plan(result=staging)

        try:
            staging = self._opened.publisher.publish(plan)
        except CommitUnknown:
            raise _not_prepared() from None
        if not isinstance(staging, Staging):
            raise TypeError
        self._ranges.append(staging)
        self._next, self._end = staging.first, staging.last + 1


def _not_prepared() -> StoreFailed:
    """Return what an ambiguous commit of rows that nothing references yet means: the change was not made."""
    return StoreFailed("the store failed while a large change was prepared", hint="nothing was changed; try again")


def _took_too_long() -> StoreBusy:
    return StoreBusy("preparing the change took too long", hint="split it into smaller batches")


def sweep(opened: OpenVault, stagings: Sequence[Staging]) -> None:
    """Delete all rows in the ranges of stagings that were not published, then drop the stagings from the state.

    They are condemned first: from then on nobody can publish them, so no row that something references is deleted, even
    where a slow writer or an ambiguous commit is about to.

    Raises:
        Unavailable: The store cannot write.
    """
    condemned = _condemn(opened, stagings)
    _delete_ranges(opened, condemned)
    _drop(opened, condemned)


def _delete_ranges(opened: OpenVault, stagings: Sequence[Staging]) -> None:
    store = opened.store
    for staging in stagings:
        for space in ALLOCATED_SPACES:
            first = staging.first
            while rows := store.scan(space, first, staging.last, STAGE_LIMIT_OPERATIONS):
                store.stage([Delete(space, id_) for id_, _ in rows])
                first = rows[-1][0] + 1


def _drop(opened: OpenVault, condemned: Sequence[Staging]) -> None:
    """Take stagings out of the state whose rows are deleted."""
    if not condemned:
        return
    gone = set(condemned)

    def plan(publication: Publication) -> Plan:
        publication.stagings = [staging for staging in publication.stagings if staging not in gone]
        return Plan()

    opened.publisher.publish(plan)


def _condemn(opened: OpenVault, stagings: Sequence[Staging]) -> list[Staging]:
    """Make it impossible to publish some stagings, and return those that nobody has published."""
    if not stagings:
        return []
    wanted = set(stagings)

    def plan(publication: Publication) -> Plan:
        condemned = [staging._replace(expires=CONDEMNED) for staging in publication.stagings if staging in wanted]
        others = [staging for staging in publication.stagings if staging not in wanted]
        publication.stagings = sorted(others + condemned)
        return Plan(result=condemned)

    condemned = opened.publisher.publish(plan)
    return condemned if isinstance(condemned, list) else []


def sweep_expired(opened: OpenVault) -> None:
    """Delete what writers that crashed have staged.

    Raises:
        Unavailable: The store cannot write.
    """
    now, state = opened.clock.now_ns(), opened.replica.state
    # What a right clock reserves expires by then; one that was ahead is found out once the vault was adopted.
    latest = now + _LIFETIME_NS + CLOCK_TOLERANCE_NS
    is_trusted = opened.is_clock_trusted()
    sweep(opened, [one for one in state.stagings if one.expires < now or (is_trusted and one.expires > latest)])


def seal_part(items: Sequence[tuple[str, int]], key: bytes) -> bytes:
    """Return the row of a part of a record (format 6.5). The key is used once."""
    text = json.dumps(list(items), separators=(",", ":"), ensure_ascii=False).encode()
    return PART_FRONT + AESGCM(key).encrypt(_NONCE, pad(var32(text), PART_PADDING), PART_FRONT)


def _split_items(items: Sequence[tuple[str, int]]) -> Iterable[list[tuple[str, int]]]:
    run: list[tuple[str, int]] = []
    size = 0
    for item in items:
        cost = 2 * len(item[0].encode()) + 32
        if run and size + cost > _PART_BYTES:
            yield run
            run, size = [], 0
        run.append(item)
        size += cost
    if run:
        yield run
