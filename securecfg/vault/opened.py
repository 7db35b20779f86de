"""An open vault: what all handles on it in this process share."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING, NoReturn, TypeVar
from weakref import WeakSet

from securecfg.audit import Masker, audit_public_key, create_sealer
from securecfg.crypto import (
    ROOT_SCOPE,
    ChunkedValueKey,
    ValueKey,
    value_context,
)
from securecfg.errors import (
    IntegrityError,
    PathMounted,
    RollbackSuspected,
    ScopeSealed,
    SecurecfgError,
    Tampered,
    VaultClosed,
    VaultForked,
)
from securecfg.keys import Purpose
from securecfg.policy import Document, open_policy
from securecfg.store import Space
from securecfg.store.forks import FORKS
from securecfg.tuples import NamedTuple
from securecfg.vault.commits.publisher import Publisher
from securecfg.vault.documents import decode_document, parsing, read_shaped, split_document
from securecfg.vault.index.lookalikes import Lookalikes
from securecfg.vault.logger import logger
from securecfg.vault.paths import MOUNTS_PATH, SYSTEM, scope_among
from securecfg.vault.state.anchor import Mark
from securecfg.vault.state.head import FLAG_DESTRUCTION_PENDING
from securecfg.vault.state.prefixes import ON_THIS_MACHINE, verify_prefix

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

    from securecfg.audit import Sealer
    from securecfg.clock import Clock
    from securecfg.crypto import ChunkedContent
    from securecfg.policy import Policy
    from securecfg.secret import Secret
    from securecfg.vault.drops.collecting import Collected
    from securecfg.vault.index.history import History, Version
    from securecfg.vault.index.in_memory import Index
    from securecfg.vault.index.segments import Entry
    from securecfg.vault.reading import Reads
    from securecfg.vault.scopes.registry import Registry
    from securecfg.vault.state.anchor import AnchorFile
    from securecfg.vault.state.replica import Member, Replica

    T = TypeVar("T")

POLICY_PATH = SYSTEM + b"policy"
ROLES_PATH = SYSTEM + b"roles"
REGISTRY_PATH = SYSTEM + b"scopes"
FORM_INLINE, FORM_CHUNKED = 1, 2
_HISTORY, _DEK, _VALUE = Space.HISTORY, Space.DEK, Space.VALUE  # to look a member up takes as long as a call

_RETRIES = 16


class Located(NamedTuple):
    """A version, found and vouched for, its value not yet opened."""

    entry: Entry
    history: History
    version: Version


to_located = partial(tuple.__new__, Located)
"""Makes one from a tuple of its fields, in half the time."""


class Options(NamedTuple):
    """How a vault was opened.

    Attributes:
        read_only: Nothing may be written, not even records.
        strict: Every read is durable in the log before its value is returned, repeats too.
        cache_values: How many opened values each handle keeps at most; 0 keeps none.
    """

    read_only: bool = False
    strict: bool = False
    cache_values: int = 1_024


class OpenVault:
    """The store, the state, the policy and the publisher of one open vault. May be used by any thread.

    Args:
        replica: The state.
        anchor: Where the newest checkpoint is recorded, or None for stores without a place.
        clock: The time.
        options: How it was opened.
        path: Its file; None for stores without a place.

    Attributes:
        collected: What was taken in of what had been dropped, when a sealed scope was opened.
    """

    def __init__(
        self,
        replica: Replica,
        anchor: AnchorFile | None,
        clock: Clock,
        options: Options,
        path: str | os.PathLike[str] | None = None,
    ) -> None:
        """Take up an unlocked vault."""
        self.path = path
        self.replica = replica
        self.store = replica.store
        self.clock = clock
        self.options = options
        self.lookalikes = Lookalikes()
        replica.after_change = self.lookalikes.clear
        self.collected: Collected | None = None
        self.publisher = Publisher(replica, clock, self._make_sealer, self._after_commit)
        self.is_closed = False
        self._is_inherited = False
        self._caches: WeakSet[Reads] = WeakSet()
        FORKS.watch(self)
        self.compaction_lock = threading.Lock()
        self._anchor = anchor
        self._policy_lock = threading.Lock()
        self._stamp: tuple[tuple[Index, int], tuple[bytes, bytes, bytes]] | None = None
        self._policy: tuple[tuple[bytes, bytes, bytes], Policy] | None = None
        self._scopes: tuple[tuple[Index, int], Registry | None] | None = None
        self._mounts: tuple[tuple[Index, int], Mapping[str, Secret[str]]] | None = None
        self._undivided: tuple[Index, int] | None = None  # of what state it is known that there are neither
        self._cleanups: list[Callable[[], None]] = []
        self._after_commits: list[Callable[[], None]] = []

    # --- state -------------------------------------------------------------------------------------------------------

    def check_open(self) -> None:
        """Refuse a vault that was closed, or opened by a parent of this process.

        Raises:
            VaultClosed: It was closed.
            VaultForked: The keys are the parent's.
        """
        if self._is_inherited or self.is_closed:
            self._refuse()

    def refresh(self) -> None:
        """See what others have committed.

        Raises:
            VaultClosed: The vault was closed.
            RollbackSuspected: The vault went back.
            Tampered: A row does not match the signed state.
        """
        if self._is_inherited or self.is_closed:
            self._refuse()
        self.replica.refresh()

    def has_head(self) -> bool:
        """Return whether this part of the store is there at all. A sealed scope may have been merged."""
        return self.store.head() is not None

    def is_clock_trusted(self) -> bool:
        """Return whether the clock is not far behind the newest publication."""
        return self.replica.state.clock_behind_ns(self.clock.now_ns()) == 0

    def consistently(self, read: Callable[[], T]) -> T:
        """Return what a read returns, again where another process changed the vault in the middle of it.

        Raises:
            IntegrityError: A row is wrong although nobody changed anything.
        """
        for _ in range(_RETRIES):
            head = self.replica.head
            try:
                return read()
            except IntegrityError:
                self.refresh()
                if self.replica.head == head:
                    raise
        return read()

    def entry(self, path: bytes) -> Entry | None:
        """Return the index entry of a path.

        Raises:
            Tampered: The segment that may hold it does not match the signed state.
        """
        try:
            return self.replica.index.get(path)
        except IntegrityError:
            return self.consistently(partial(self._entry_now, path))

    def _entry_now(self, path: bytes) -> Entry | None:
        return self.replica.index.get(path)

    def entries(self, first: bytes, end: bytes | None) -> list[tuple[bytes, Entry]]:
        """Return paths and entries from `first` on, up to but without `end`, in order, all of one state.

        Raises:
            Tampered: A segment does not match the signed state.
        """
        return self.consistently(lambda: list(self.replica.index.scan(first, end)))

    @property
    def masker(self) -> Masker:
        """What masks fields of records."""
        masking = self.replica.keyring.active(Purpose.MASKING)
        return Masker(masking.epoch, masking.key)

    # --- policy ------------------------------------------------------------------------------------------------------

    def policy_stamp(self) -> tuple[bytes, bytes, bytes]:
        """Return what tells the policy, the roles, the sealed scopes and the mounts in force from others."""
        index = self.replica.index
        place = (index, index.system_changes)
        known = self._stamp
        if known is None or known[0] != place:
            self._stamp = known = (place, self._read_stamp())
        return known[1]

    def _read_stamp(self) -> tuple[bytes, bytes, bytes]:
        paths = (POLICY_PATH, ROLES_PATH, REGISTRY_PATH, MOUNTS_PATH)
        policy, roles, scopes, mounts = (self.entry(path) for path in paths)
        seat = self.replica.seat
        return (
            policy.digest if policy else b"",
            roles.digest if roles else b"",
            (scopes.digest if scopes else b"") + (mounts.digest if mounts else b"")
            if seat is None
            else seat.charter_digest,
        )

    def policy(self) -> tuple[tuple[bytes, bytes, bytes], Policy]:
        """Return the policy in force and its stamp.

        Raises:
            Tampered: The documents in the vault are damaged.
        """
        stamp = self.policy_stamp()
        known = self._policy
        if known is not None and known[0] == stamp:
            return known
        # Reading may wait for the replica's lock, whose holder may ask for the policy: not under another lock.
        raw: list[dict[str, Any]] = read_shaped(self, POLICY_PATH, list, dict, str)
        roles: dict[str, list[str]] = read_shaped(self, ROLES_PATH, dict, list, str)
        with self._policy_lock:
            known = self._policy
            if known is None or known[0] != stamp:
                with parsing(self, POLICY_PATH):
                    documents = [Document(**document) for document in raw]
                    self._policy = known = (stamp, open_policy(documents, memberships=memberships_of(roles)))
            return known

    def scopes(self) -> Registry | None:
        """Return which subtrees are sealed scopes, None where none is.

        Raises:
            Tampered: The document that says so is damaged.
        """
        index = self.replica.index
        place = (index, index.system_changes)
        known = self._scopes
        if known is None or known[0] != place:
            registry = None
            if self.entry(REGISTRY_PATH) is not None:
                from securecfg.vault.scopes.registry import read_registry  # few vaults have scopes

                registry = read_registry(self)
            self._scopes = known = (place, registry)
        return known[1]

    @property
    def has_scopes(self) -> bool:
        """Whether there is a sealed scope, or one is named that is not there.

        Raises:
            Tampered: The document that names them is damaged.
        """
        if self.store.partitions():
            return True
        registry = self.scopes()
        return registry is not None and bool(registry.scopes)

    def mounts(self) -> Mapping[str, Secret[str]]:
        """Return what is mounted, by folder, as JSON that holds credentials; empty where nothing is.

        Raises:
            Tampered: The document that says so is damaged.
        """
        index = self.replica.index
        place = (index, index.system_changes)
        known = self._mounts
        if known is None or known[0] != place:
            mounts = self._read_mounts() if self.entry(MOUNTS_PATH) is not None else {}
            self._mounts = known = (place, mounts)
        return known[1]

    def _read_mounts(self) -> Mapping[str, Secret[str]]:
        content = self.system_bytes(MOUNTS_PATH)
        mounts = split_document(content if content is not None else b"{}")
        del content  # a traceback that shows locals must not show it
        with parsing(self, MOUNTS_PATH):
            if mounts is None:
                raise ValueError
        return mounts or {}

    def verify_own(self, path: str, unmounting: str | None = None) -> None:
        """Refuse what belongs into a sealed scope inside of this part, or into a store, whatever this part holds there.

        Args:
            path: Which.
            unmounting: The folder of a mount that ends with what is done.

        Raises:
            ScopeSealed: The path lies in a scope.
            PathMounted: A store is mounted there.
        """
        index = self.replica.index
        place = (index, index.system_changes)
        if place == self._undivided:
            return
        mounts = self.mounts()
        if mounts and (mount := scope_among(mounts, path)) is not None and mount != unmounting:
            message = f"a store is mounted at `{mount}` since the vault was opened"
            raise PathMounted(message, hint="open the vault again")
        scope = self._scope_inside(path)
        if scope is not None:
            registry = self.scopes() if self.replica.seat is None else None
            if registry is not None and scope in registry.reserved and scope not in registry.scopes:
                from securecfg.vault.scopes.opening import given_up  # few vaults have lost one

                raise given_up(scope)
            message = f"`{scope}` is a sealed scope of its own"
            hint = "open the vault again; if that does not help, an administrator may grant it: `securecfg scope grant`"
            raise ScopeSealed(message, hint=hint)
        if not mounts and self.replica.seat is None and self.scopes() is None:
            self._undivided = place

    def own(self, found: list[tuple[bytes, Entry]]) -> list[tuple[bytes, Entry]]:
        """Return those of some paths that do not belong into a sealed scope inside of this part."""
        seat = self.replica.seat
        if seat is None or seat.charter is None or not seat.charter.charter.excluded:
            return found
        return [(path, entry) for path, entry in found if self._scope_inside(path.decode()) is None]

    def _scope_inside(self, path: str) -> str | None:
        seat = self.replica.seat
        if seat is not None:
            return seat.charter.charter.leaves_out(path) if seat.charter is not None else None
        registry = self.scopes()
        return registry.sealed_around(path) if registry is not None else None

    def system_document(self, path: bytes, default: T, number: int = 0) -> T:
        """Return a system document, decoded from JSON, or a default where there is none.

        Args:
            path: Which document.
            default: What to return where it was never written.
            number: An earlier version; 0 stands for the current one.

        Raises:
            KeyError: There is no such version.
            Tampered: It is damaged.
        """
        content = self.system_bytes(path, number)
        if content is None:
            return default
        with parsing(self, path):
            document: T = decode_document(content)
        return document

    def system_bytes(self, path: bytes, number: int = 0) -> bytes | None:
        """Return the content of a system document, None where there is none; see `system_document`."""
        found = self.numbered_bytes(path, number)
        return None if found is None else found[1]

    def numbered_bytes(self, path: bytes, number: int = 0) -> tuple[int, bytes] | None:
        """Return which version of a system document that is, and its content; see `system_bytes`."""

        def read() -> tuple[int, bytes] | None:
            entry = self.replica.index.get(path)
            if entry is None or not entry.live:
                return None
            located = self.locate(path, entry, number)
            if located.version.value_rows:
                return located.version.number, b"".join(self.open_chunked(located))
            return located.version.number, self.open_inline(located)[1]

        return self.consistently(read)

    def current_version(self, path: str) -> tuple[int, bytes] | None:
        """Return what changes whenever a secret changes, without deciding or recording anything."""
        entry = self.entry(path.encode())
        return None if entry is None else (entry.history_id, entry.digest)

    # --- versions ----------------------------------------------------------------------------------------------------

    def history(self, path: bytes, entry: Entry) -> History:
        """Return the newest page of a secret's history.

        Raises:
            Tampered: It does not match the index.
        """
        row = self.store.get(Space.HISTORY, entry.history_id)
        return self.replica.rows.open_history(row, entry.rec_id, path, entry.digest)

    def locate(self, path: bytes, entry: Entry, number: int) -> Located:
        """Return a version of a secret; 0 stands for the current one.

        Raises:
            KeyError: There is no such version.
            Tampered: A history page does not match the index, or the current version is not there.
        """
        rec_id, history_id, digest, _ = entry
        row = self.store.get(_HISTORY, history_id)
        history, version = self.replica.rows.find_version(row, (rec_id, path), digest, number)
        if version is None:
            version = self._find_older(history, number or history.current)
        if version is None:
            if entry.live and number in {0, history.current}:
                message = "the current version of a secret is not in its history"
                raise Tampered(message)
            raise KeyError(number)
        return to_located((entry, history, version))

    def older_versions(self, history: History, page: int) -> tuple[Version, ...]:
        """Return the versions of an older page, newest first.

        Raises:
            Tampered: It does not match the newest page.
        """
        place = history.older[page]
        row = self.store.get(Space.HISTORY, place.history_id)
        return self.replica.rows.open_older_page(row, history.rec_id, page, place.digest)

    def data_key(self, dek_id: int) -> bytes:
        """Return a version's data key.

        Raises:
            Tampered: It is missing or another one.
        """
        return self.unwrap_data_key(dek_id, self.store.get(Space.DEK, dek_id))

    def unwrap_data_key(self, dek_id: int, row: bytes | None) -> bytes:
        """Return a data key from its row, which may not be in the store yet.

        Raises:
            Tampered: It is missing or another one.
        """
        return self.replica.data_keys.open(dek_id, row)

    def value_key(self, located: Located) -> ValueKey:
        """Return what opens an inline value.

        Raises:
            Tampered: The data key is missing or another one.
        """
        entry, _, version = located
        dek = self.data_key(version.dek_id)
        return ValueKey(dek, self.value_context(entry.rec_id, version))

    def value_context(self, rec_id: int, version: Version) -> bytes:
        """Return the context that a version's value is bound to."""
        form = FORM_CHUNKED if version.value_rows else FORM_INLINE
        return value_context(self.replica.vault_id, ROOT_SCOPE, (rec_id, version.number), version.created, form)

    def open_inline(self, located: Located) -> tuple[int, bytes]:
        """Return the kind and the content of an inline value.

        Raises:
            Tampered: A row is missing or does not belong to this version.
        """
        entry, _, version = located
        number, _, _, dek_id, value_id, _, _, commitment, created, *_ = version
        data_keys = self.replica.data_keys
        dek_row, row = self.store.get_many(((_DEK, dek_id), (_VALUE, value_id)))
        if row is None:
            message = f"a value of record {entry.rec_id} is missing"
            raise Tampered(message)
        ctx = value_context(data_keys.vault_id, ROOT_SCOPE, (entry.rec_id, number), created, FORM_INLINE)
        key = ValueKey(data_keys.open(dek_id, dek_row), ctx)
        return key.open(row, data_keys.expect(commitment, key.commitment, (row,)))

    def open_chunked(self, located: Located) -> ChunkedContent:
        """Return the content of a large value, whose rows are read as it is consumed.

        Raises:
            Tampered: A row is missing or does not belong to this version.
        """
        entry, _, version = located
        dek = self.data_key(version.dek_id)
        record = self.store.get(Space.VALUE, version.value_id)
        if record is None:
            message = f"a value of record {entry.rec_id} is missing"
            raise Tampered(message)
        key = ChunkedValueKey(dek, self.value_context(entry.rec_id, version))
        data_keys, rows = self.replica.data_keys, self._value_rows(version)
        if data_keys.grants is None:
            return key.open(record, version.commitment, rows)
        data_keys.verify_size(version.length)
        whole = list(rows)
        return key.open(record, data_keys.expect(version.commitment, key.commitment, (record, *whole)), whole)

    def verify_sealed(self, version: Version) -> None:
        """Check the rows of a value that is sealed from the key at hand.

        Raises:
            Tampered: A row is missing, or does not belong to this version.
        """
        record = self.store.get(Space.VALUE, version.value_id)
        if record is None:
            message = "a value is missing"
            raise Tampered(message)
        self.replica.data_keys.verify_rows(version.commitment, (record, *self._value_rows(version)))

    def _value_rows(self, version: Version) -> Iterator[bytes]:
        for number in range(version.value_id + 1, version.value_id + 1 + version.value_rows):
            row = self.store.get(Space.VALUE, number)
            if row is None:
                message = "a part of a large value is missing"
                raise Tampered(message)
            yield row

    def _find_older(self, history: History, number: int) -> Version | None:
        for page, place in enumerate(history.older):
            if place.first <= number <= place.last:
                for version in self.older_versions(history, page):
                    if version.number == number:
                        return version
        return None

    # --- log and anchor ----------------------------------------------------------------------------------------------

    def verify_mark(self, mark: Mark, known: str = ON_THIS_MACHINE) -> None:
        """Check that the vault continues a checkpoint that is known from outside, and a scope its charter too.

        Args:
            mark: The checkpoint.
            known: How it came to be known, `ON_THIS_MACHINE` or `INTRODUCED`.

        Raises:
            RollbackSuspected: The vault is older, or took another way.
        """
        if mark.size > self.replica.checkpoint.size:
            # Another process may have recorded what this one has not seen yet.
            self.refresh()
        verify_prefix(self.store, mark, self.replica.checkpoint, known)
        if self.replica.seat is not None and mark.serial:
            self.replica.seat.verify_continues(mark.serial, mark.charter)

    def mark(self) -> Mark:
        """Return the newest checkpoint as an anchor keeps it."""
        seat = self.replica.seat
        if seat is None:
            return self._bare_mark()
        with self.replica.lock:
            mark = self._bare_mark()
            if seat.charter is None:
                return mark
            return mark._replace(serial=seat.charter.charter.serial, charter=seat.charter_digest)

    def _bare_mark(self) -> Mark:
        checkpoint = self.replica.checkpoint
        return Mark(checkpoint.size, checkpoint.root, self.replica.state.epoch_key, self.replica.note)

    def advance_anchor(self) -> None:
        """Record the newest checkpoint outside the vault. A failure is logged and fails nothing.

        Raises:
            RollbackSuspected: Another process recorded a checkpoint that this vault does not continue.
        """
        if self._anchor is None or self.options.read_only:
            return
        try:
            self._anchor.advance(self.mark(), self.verify_mark)
        except OSError as error:
            logger().warning(
                "the anchor `%s` cannot be written: %s; an older copy of the vault may pass unnoticed",
                self._anchor.path,
                error.strerror,
                extra={"event": "anchor.failed"},
            )

    @property
    def is_destruction_pending(self) -> bool:
        """Whether bytes of something destroyed may still lie in the store's files."""
        return bool(self.replica.state.flags & FLAG_DESTRUCTION_PENDING)

    def on_close(self, cleanup: Callable[[], None]) -> None:
        """Call something before the vault is closed."""
        self._cleanups.append(cleanup)

    def on_commit(self, call: Callable[[], None]) -> None:
        """Call something after every durable commit of this process. It must be quick."""
        self._after_commits.append(call)

    def off_close(self, cleanup: Callable[[], None]) -> None:
        """Do not call something any more."""
        self._cleanups.remove(cleanup)

    def add_cache(self, cache: Reads) -> None:
        """Let a forked child forget what is kept here."""
        self._caches.add(cache)

    def before_fork(self) -> None:
        """Do nothing: the store comes to rest."""

    def after_fork_in_parent(self) -> None:
        """Do nothing."""

    def after_fork_in_child(self) -> None:
        """Forget all keys and values, and what was to be recorded, which the parent records."""
        self._is_inherited = True
        self._cleanups.clear()
        self._after_commits.clear()
        self._forget()

    def close(self) -> None:
        """Flush, close the store and forget the keys. May be called again."""
        if self.is_closed:
            return
        try:
            failures = [error for cleanup in list(self._cleanups) if (error := _failure_of(cleanup)) is not None]
        finally:
            self.is_closed = True
            FORKS.discard(self)
            if self._anchor is not None:
                self._anchor.close()
            try:
                self.store.close()
            finally:
                # Who holds the lock may be taking up new keys, or making a sealer. In a forked child, where all is
                # forgotten already, nobody may be there to let go of it.
                if not self._is_inherited:
                    with self.replica.lock:
                        self._forget()
        if failures:
            raise failures[0]

    def _forget(self) -> None:
        self.publisher.wipe()
        self.replica.forget_keys(self._refuse)
        self._policy = None
        for cache in list(self._caches):
            cache.forget()

    def _refuse(self) -> NoReturn:
        if self._is_inherited:
            message = "the vault was opened before this process was forked"
            raise VaultForked(message, hint="open it again in the child")
        message = "the vault is closed"
        raise VaultClosed(message, hint="open it again")

    def _make_sealer(self) -> Sealer:
        replica = self.replica
        public_key = audit_public_key(replica.keyring.active(Purpose.AUDIT).key)
        return create_sealer(replica.vault_id, public_key)

    def _after_commit(self, members: Sequence[Member]) -> None:
        for member in members:
            for path, entry in member.changes:
                if entry is not None:
                    self.lookalikes.add(path)
        try:
            self.advance_anchor()
        except RollbackSuspected as error:
            # The commit is durable all the same; who opens the vault next is refused.
            logger().error(error.message, extra={"event": "anchor.forked"})
        for call in self._after_commits:
            call()


def _failure_of(cleanup: Callable[[], None]) -> SecurecfgError | None:
    try:
        cleanup()
    except SecurecfgError as error:
        return error
    return None


def memberships_of(roles: dict[str, list[str]]) -> dict[str, frozenset[str]]:
    """Return the roles of each principal from the members of each role."""
    held: dict[str, set[str]] = {}
    for role, members in roles.items():
        for member in members:
            held.setdefault(member, set()).add(f"role:{role}")
    return {member: frozenset(names) for member, names in held.items()}
