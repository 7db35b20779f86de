"""Changing the keys of a vault while it is in use: the root, and the epochs of the scope key.

A new scope key is used at once by whoever writes. What older ones sealed stays readable and is brought to the new one
in steps that may stop anywhere and be repeated: data keys are wrapped anew in place, history pages and segments are
sealed anew. Only then may an old key go (format, section 4.6).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from securecfg.audit import Event
from securecfg.clock import to_datetime
from securecfg.crypto import DEK_FORM_WRAPPED, ROOT_SCOPE, DekRewrap, generate_key, parse_dek
from securecfg.errors import Conflict, EpochInUse, IntegrityError, SecretNotFound, StoreBusy, VersionNotFound
from securecfg.keys import KeyState, Purpose
from securecfg.store import STAGE_LIMIT_OPERATIONS, Space, to_replace
from securecfg.vault.commits.epochs import plan_key_change, seal_root_to_all
from securecfg.vault.commits.maintenance import compact, finish_destruction
from securecfg.vault.commits.publishing import Plan
from securecfg.vault.commits.staging import StagingArea, StagingMoved
from securecfg.vault.index.in_memory import prefix_end
from securecfg.vault.index.rows import epoch_of
from securecfg.vault.keys.departures import draft_kept
from securecfg.vault.keys.drafts import KeyDrafts
from securecfg.vault.keys.sealed_rows import SealedRows
from securecfg.vault.paths import is_vault_document, path_to_bytes
from securecfg.vault.state.head import FLAG_DESTRUCTION_PENDING

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from securecfg.audit import Record
    from securecfg.keys import KeyEntry
    from securecfg.policy import Decision
    from securecfg.store import Replace
    from securecfg.vault.authority import Authority
    from securecfg.vault.commits.publishing import Publication
    from securecfg.vault.opened import OpenVault
    from securecfg.vault.session import Session

    Progress = Callable[[int, int], None]

_SECRETS_AT_ONCE = 4_096
_VALUES_AT_ONCE = 256
_FIRST_USER_PATH = b"\x02"
_RETRIES = 16
_TRIES_TOGETHER = 2
_PAUSE_S = 0.05


@dataclass(frozen=True, slots=True)
class KeyUsage:
    """One key of the vault, and how much it is used.

    Attributes:
        purpose: `scope`, `log-signing`, `audit` or `masking`, in a sealed scope `value` too.
        epoch: Which key of this purpose it is, from 0.
        is_active: Whether it is the one in use; others only open what they sealed.
        created: When it was made.
        rows: How many rows it sealed that are still there, or how many records it signed; None where that is not
            counted.
    """

    purpose: str
    epoch: int
    is_active: bool
    created: datetime
    rows: int | None


class _Change(NamedTuple):
    """How secrets are brought to other keys.

    Attributes:
        kind: What the record says is rotated.
        draft: Makes the draft of one secret.
        part: Makes as much of it as fits into one publication; its result is how much is left. None where a secret
            cannot be changed in parts.
        flags: Bits to set in the flags of the state with it.
        gives_ids: Whether versions get data keys with other ids.
    """

    kind: str
    draft: Callable[[KeyDrafts, bytes], Plan]
    part: Callable[[KeyDrafts, bytes], Plan] | None = None
    flags: int = 0
    gives_ids: bool = False


_PAGES = _Change("pages", KeyDrafts.seal_anew, KeyDrafts.seal_some_anew)
_DATA_KEYS = _Change("data", KeyDrafts.encrypt_anew, flags=FLAG_DESTRUCTION_PENDING, gives_ids=True)


class KeyChanges:
    """The keys of a vault, as one identity may change them.

    Args:
        authority: Decides and records for it.
    """

    def __init__(self, authority: Authority) -> None:
        """Change nothing yet."""
        self._authority = authority
        self._opened = authority.opened
        self._sealed = SealedRows(authority.opened)

    def rotate_root(self) -> int:
        """Replace the root key, seal the new one to every slot, and return the header's new generation.

        Every key that opened the vault still does. Other processes that have it open go on.

        Raises:
            AccessDenied: The caller may not `key.manage`.
            DestroyPending: The new root is in use, but what the old one sealed may lie in the store's log until another
                reader lets go; the next opener finishes.
            CommitUnknown, StoreBusy, StoreFailed: As for a write.
        """
        opened = self._opened

        def plan(publication: Publication, session: Session, decision: Decision) -> Plan:
            replica = opened.replica
            root = generate_key()
            slots = seal_root_to_all(replica.vault_id, root, replica.slots, replica.keyring)
            plan = plan_key_change(opened, publication, slots, replica.keyring, root)
            generation = replica.header.generation + 1
            obj = {"kind": "root", "epoch": generation}
            plan.records.append(session.record(Event.KEY_ROTATED, obj, decision=decision))
            plan.state["flags"] = publication.state.flags | FLAG_DESTRUCTION_PENDING
            plan.result = generation
            return plan

        self._authority.publish_allowed("key.manage", plan)
        finish_destruction(opened)
        return opened.replica.header.generation

    def begin_scope_epoch(self, seen: int | None = None) -> int:
        """Put a new scope key in use and return its epoch. `carry_over` brings what is there to it.

        Args:
            seen: The epoch that it is to take the place of; None for whichever is in use.

        Raises:
            AccessDenied: The caller may not `key.manage`.
            Conflict: Another epoch than the one seen is in use by now.
            CommitUnknown, StoreBusy, StoreFailed: As for a write.
        """
        opened = self._opened

        def plan(publication: Publication, session: Session, decision: Decision) -> Plan:
            replica = opened.replica
            if seen is not None and replica.keyring.active(Purpose.SCOPE).epoch != seen:
                message = "another scope key was put in use meanwhile"
                raise Conflict(message, hint="`securecfg key usage` shows the keys that there are")
            keyring = replica.keyring.with_new_epoch(Purpose.SCOPE, opened.clock.now_ns())
            plan = plan_key_change(opened, publication, replica.slots, keyring)
            epoch = keyring.active(Purpose.SCOPE).epoch
            obj = {"kind": "scope", "epoch": epoch}
            plan.records.append(session.record(Event.KEY_ROTATED, obj, decision=decision))
            plan.result = epoch
            return plan

        self._authority.publish_allowed("key.manage", plan)
        return opened.replica.keyring.active(Purpose.SCOPE).epoch

    def carry_over(self, progress: Progress | None = None) -> None:
        """Wrap every data key and seal every page and segment under the scope key in use, as far as they are not yet.

        It may be interrupted anywhere and called again, and several processes may do it at once.

        Args:
            progress: Called with the number of data keys and secrets done, and of all of them.

        Raises:
            AccessDenied: The caller may not `key.manage`.
            Tampered: A row does not match the signed state.
            CommitUnknown, StoreBusy, StoreFailed: As for a write.
        """
        self._authority.require("key.manage", "")
        for _ in range(_RETRIES):
            epoch = self._active()
            self.rewrap(progress)
            self._seal_pages_anew(progress)
            compact(self._opened, seals_anew=True)
            self._opened.refresh()
            # What a busy store did not let go of, or another process compacts right now, goes in the next round.
            if self._active() == epoch and not self._sealed.is_used_before(epoch):
                return
            time.sleep(_PAUSE_S)
        message = "other writers kept the store, or changed the keys, every time"
        raise StoreBusy(message, hint="go on with `securecfg key rotate scope / --resume`")

    def rotate_data(self, prefix: str, progress: Progress | None = None) -> int:
        """Encrypt every version of some secrets under new data keys; return how many secrets that were.

        The old data keys are destroyed. Versions, labels and times stay as they are.

        Args:
            prefix: A path, or a folder ending in `/`; empty for all.
            progress: Called with the number of secrets done and of all of them.

        Raises:
            AccessDenied: The caller may not `key.manage`.
            SecretNotFound: There is nothing below the prefix.
            DestroyPending: It is done, but the old data keys may lie in the store's log until another reader lets go;
                the next opener finishes.
            CommitUnknown, StoreBusy, StoreFailed: As for a write.
        """
        self._authority.require("key.manage", "")
        opened, encoded = self._opened, prefix.encode()
        if prefix.endswith("/") or not prefix:
            where = encoded or _FIRST_USER_PATH, prefix_end(encoded)
        else:
            where = path_to_bytes(prefix), encoded + b"\0"
        opened.refresh()
        end = opened.replica.state.next_id
        listed = _listed(opened, *where)
        if not listed:
            message = f"there is no secret `{prefix}`"
            raise SecretNotFound(message, hint="`securecfg secret list` shows what there is")
        chosen = frozenset(rec_id for _, rec_id in listed)
        paths = [path for path, _ in listed]
        for _ in range(_RETRIES):
            self._encrypt_anew(paths, progress)
            # What got another path meanwhile still has its old data keys.
            paths = find_older(opened, end, where, chosen)
            if not paths:
                finish_destruction(opened)
                return len(listed)
        raise _too_busy()

    def encrypt_older(self, end: int, progress: Progress | None = None) -> int:
        """Encrypt every version anew whose data key has an id below one; return how many secrets that were.

        It is as `rotate_data`, and takes in deleted secrets and the documents of the vault. In a sealed scope it leaves
        out what the key at hand does not both read and write.

        Args:
            end: The first id that is new enough.
            progress: Called with the number of secrets done and of all of them.

        Raises:
            AccessDenied: The caller may not `key.manage`.
            Tampered: A version does not open.
            StoreBusy: Others change the vault faster than that.
            DestroyPending, CommitUnknown, StoreFailed: As for `rotate_data`.
        """
        self._authority.require("key.manage", "")
        return self.finish_encryption(end, progress)

    def finish_encryption(self, end: int, progress: Progress | None = None) -> int:
        """Do as `encrypt_older` what was declared by somebody who may: it changes nothing that a person sees.

        Raises:
            As for `encrypt_older`.
        """
        opened = self._opened
        count = 0
        for _ in range(_RETRIES):
            opened.refresh()
            may_encrypt = self._encrypts()
            paths = [path for path in find_older(opened, end) if may_encrypt(path)]
            if not paths:
                return count
            self._encrypt_anew(paths, progress)
            count += len(paths)
            finish_destruction(opened)
        raise _too_busy()

    def rewrap(self, progress: Progress | None = None) -> int:
        """Wrap every data key under the scope key in use, and return how many were not before.

        Args:
            progress: Called with the number of data keys done and the highest id that one may have.

        Raises:
            AccessDenied: The caller may not `key.manage`.
            Tampered: A data key does not match its key and place.
            StoreBusy, StoreFailed: As for a write.
        """
        self._authority.require("key.manage", "")
        opened = self._opened
        opened.refresh()
        store, end = opened.store, opened.replica.state.next_id
        older = {entry.epoch for entry in self._scope_keys() if entry.state != KeyState.ACTIVE}
        rewraps: dict[int, DekRewrap] = {}
        done = first = 0
        while rows := store.scan(Space.DEK, first, end, STAGE_LIMIT_OPERATIONS):
            replacing: list[Replace] = []
            for dek_id, row in rows:
                form, epoch = parse_dek(row)
                # A key that was retired wrapped nothing that is in force: what is left of it is swept.
                if form == DEK_FORM_WRAPPED and epoch in older:
                    rewrap = rewraps.get(epoch) or rewraps.setdefault(epoch, self._rewrap_from(epoch))
                    replacing.append(to_replace((Space.DEK, dek_id, row, rewrap.rewrap(dek_id, row))))
            if replacing:
                # A row that somebody deleted or replaced meanwhile is left as it is.
                store.stage(replacing)
                done += len(replacing)
            first = rows[-1][0] + 1
            if progress is not None:
                progress(first, end)
        return done

    def retire(self, epoch: int) -> None:
        """Forget an old scope key, and all older ones, once nothing is sealed under them; erase them.

        Raises:
            AccessDenied: The caller may not `key.manage`.
            VersionNotFound: There is no such key.
            EpochInUse: Something still needs one of them, or it is the key in use.
            CommitUnknown, StoreBusy, StoreFailed: As for a write.
            DestroyPending: The keys are forgotten, but their bytes may lie in the store's log until another reader lets
                go; the next opener finishes.
        """
        self._authority.require("key.manage", "")
        opened = self._opened
        opened.refresh()
        self._leaving(epoch)
        # What is not under one of them by now never will be: no publication adds a row under a key not in use.
        self._sealed.verify_unused(epoch)

        def plan(publication: Publication, session: Session, decision: Decision) -> Plan:
            keyring = opened.replica.keyring
            for old in self._leaving(epoch):
                keyring = keyring.without_epoch(Purpose.SCOPE, old)
            plan = plan_key_change(opened, publication, opened.replica.slots, keyring)
            obj = {"kind": "scope", "epoch": epoch}
            plan.records.append(session.record(Event.KEY_RETIRED, obj, decision=decision))
            plan.state["flags"] = publication.state.flags | FLAG_DESTRUCTION_PENDING
            return plan

        self._authority.publish_allowed("key.manage", plan)
        finish_destruction(opened)

    def retire_older(self) -> bool:
        """Forget every scope key but the one in use; return whether there were others.

        Raises:
            As for `retire`.
        """
        self._authority.require("key.manage", "")
        older = [entry.epoch for entry in self._scope_keys() if entry.state != KeyState.ACTIVE]
        if older:
            self.retire(max(older))
        return bool(older)

    def usage(self) -> list[KeyUsage]:
        """Return every key of the vault with how much it is used.

        Raises:
            AccessDenied: The caller may not `key.manage`.
        """
        self._authority.require("key.manage", "")
        counts = {Purpose.SCOPE: self._sealed.count(), Purpose.VALUE: self._sealed.count_sealed_values()}
        replica = self._opened.replica
        names = {
            Purpose.SCOPE: "scope",
            Purpose.LOG_SIGNING: "log-signing",
            Purpose.AUDIT: "audit",
            Purpose.VALUE: "value",
        }
        usages = []
        for entry in replica.keyring.keys:
            rows = counts[Purpose(entry.purpose)][entry.epoch] if entry.purpose in counts else None
            name = names.get(Purpose(entry.purpose), "masking")
            is_active = entry.state == KeyState.ACTIVE
            usages.append(KeyUsage(name, entry.epoch, is_active, to_datetime(entry.created_ns), rows))
        return usages

    # --- pieces ------------------------------------------------------------------------------------------------------

    def _encrypts(self) -> Callable[[bytes], bool]:
        """Return what tells which paths the key at hand can encrypt anew."""
        replica = self._opened.replica
        grants = replica.data_keys.grants
        if grants is None:
            return lambda _: True
        if not replica.may_change:
            return lambda _: False
        reads = all(grants.is_granted(entry.epoch) for entry in replica.keyring.keys if entry.purpose == Purpose.VALUE)
        return lambda path: reads or is_vault_document(path)

    def _active(self) -> int:
        return self._opened.replica.keyring.active(Purpose.SCOPE).epoch

    def _scope_keys(self) -> list[KeyEntry]:
        return [entry for entry in self._opened.replica.keyring.keys if entry.purpose == Purpose.SCOPE]

    def _rewrap_from(self, epoch: int) -> DekRewrap:
        replica = self._opened.replica
        old, new = replica.keyring.scope(ROOT_SCOPE, epoch), replica.keyring.scope(ROOT_SCOPE)
        return DekRewrap(replica.vault_id, ROOT_SCOPE, (old.wrap, old.epoch), (new.wrap, new.epoch))

    def _seal_pages_anew(self, progress: Progress | None) -> None:
        """Seal anew the history pages that are not under the key in use."""
        opened = self._opened
        old = {number for number, row in self._sealed.rows(Space.HISTORY) if epoch_of(row) != self._active()}
        if not old:
            return
        entries = opened.entries(b"", None)
        stale = [path for path, entry in entries if entry.history_id in old]
        if len(stale) < len(old):
            stale += [path for path, entry in entries if entry.history_id not in old and self._has_page(path, old)]
        for start in range(0, len(stale), _SECRETS_AT_ONCE):
            self._publish_anew(_PAGES, stale[start : start + _SECRETS_AT_ONCE])
            if progress is not None:
                progress(min(len(stale), start + _SECRETS_AT_ONCE), len(stale))

    def _has_page(self, path: bytes, old: set[int]) -> bool:
        """Return whether one of the older pages of a secret is among some rows, as the secret is now."""

        def look() -> bool:
            # Who writes to it all the time replaces its newest page, and leaves the older ones as they are.
            entry = self._opened.replica.index.get(path)
            return entry is not None and any(page.history_id in old for page in self._opened.history(path, entry).older)

        return self._opened.consistently(look)

    def _encrypt_anew(self, paths: list[bytes], progress: Progress | None) -> None:
        """Encrypt what is at some paths under new data keys."""
        for start in range(0, len(paths), _VALUES_AT_ONCE):
            self._publish_anew(_DATA_KEYS, paths[start : start + _VALUES_AT_ONCE])
            if progress is not None:
                progress(min(len(paths), start + _VALUES_AT_ONCE), len(paths))

    def _publish_anew(self, change: _Change, paths: list[bytes]) -> None:
        """Publish the drafts of some secrets that are still there: together, or in parts where others are faster."""
        for _ in range(_RETRIES if len(paths) == 1 else _TRIES_TOGETHER):
            try:
                self._publish_staged(change, paths)
                return
            except StagingMoved:
                if len(paths) == 1 and change.part is not None:
                    self._publish_in_parts(change, change.part, paths[0])
                    return
        if len(paths) == 1:
            message = "other writers were faster every time"
            raise StoreBusy(message, hint="try again in a moment")
        middle = len(paths) // 2
        self._publish_anew(change, paths[:middle])
        self._publish_anew(change, paths[middle:])

    def _publish_staged(self, change: _Change, paths: list[bytes]) -> None:
        """Stage the drafts of some secrets and publish them with one record.

        Raises:
            StagingMoved: One of them changed meanwhile.
        """
        area = StagingArea(self._opened)
        drafts = KeyDrafts(self._opened, area)
        epoch = self._active()
        try:
            there = [path for path in paths if area.entry(path) is not None]
            for path in there:
                area.take(change.draft(drafts, path))
            if there:
                if change.gives_ids:
                    area.take(draft_kept(self._opened, area, there, self._authority.identity.principal))
                record = self._record(change, epoch, len(there))
                area.publish(lambda: [record], self._opened.check_open, "", flags=change.flags)
        except IntegrityError:
            area.abandon()
            # Rows that another process replaced while they were read are no tampering.
            area.verify_unmoved()
            raise
        except BaseException:
            # What was staged is seen by nobody, and goes as a whole.
            area.abandon()
            raise

    def _publish_in_parts(self, change: _Change, part: Callable[[KeyDrafts, bytes], Plan], path: bytes) -> None:
        """Publish the drafts of one secret from the newest state each, however fast others change it."""

        def plan(publication: Publication) -> Plan:
            if publication.entry(path) is None:
                return Plan(result=0)
            plan = part(KeyDrafts(self._opened, publication), path)
            plan.records = [self._record(change, self._active(), 1)]
            return plan

        while self._opened.publisher.publish(plan):
            pass

    def _record(self, change: _Change, epoch: int, count: int) -> Record:
        obj = {"kind": change.kind, "epoch": epoch, "count": count}
        return self._authority.session().record(Event.KEY_ROTATED, obj)

    def _leaving(self, epoch: int) -> list[int]:
        """Return the epochs up to one, which must not be in use."""
        found = [entry for entry in self._scope_keys() if entry.epoch <= epoch]
        if not any(entry.epoch == epoch for entry in found):
            message = f"there is no scope key of epoch {epoch}"
            raise VersionNotFound(message, hint="`securecfg key usage` lists the keys")
        if any(entry.state == KeyState.ACTIVE for entry in found):
            message = f"the scope key of epoch {epoch} is in use"
            raise EpochInUse(message, hint="put a new one in use first: `securecfg key rotate scope /`")
        return [entry.epoch for entry in found]


def find_older(
    opened: OpenVault,
    end: int,
    where: tuple[bytes, bytes | None] = (b"", None),
    chosen: frozenset[int] = frozenset(),
) -> list[bytes]:
    """Return the paths of secrets and documents with a version whose data key has an id below one.

    No secret gets an older data key later. So it is enough that each one is looked at once, wherever it is then.

    Args:
        opened: The vault, or the sealed scope.
        end: The first id that is new enough.
        where: The first path to look at, and the first one after it that is not.
        chosen: The numbers of secrets to look at wherever they are.

    Raises:
        StoreBusy: They get other paths faster than they can be looked at.
        Tampered: A row does not match the signed state.
    """
    found: list[bytes] = []
    seen: set[tuple[bytes, int]] = set()
    for _ in range(_RETRIES):
        opened.refresh()
        listed = _listed(opened, *where)
        if not chosen.issubset(rec_id for _, rec_id in listed):
            listed += [each for each in _listed(opened, _FIRST_USER_PATH, None) if each[1] in chosen]
        left = set(listed) - seen
        for path, rec_id in sorted(left):
            is_older = opened.consistently(partial(_has_older_key, opened, path, rec_id, end))
            if is_older is None:
                continue
            left.remove((path, rec_id))
            seen.add((path, rec_id))
            if is_older:
                found.append(path)
        if not left:
            return found
    raise _too_busy()


def _listed(opened: OpenVault, first: bytes, end: bytes | None) -> list[tuple[bytes, int]]:
    """Return paths and the numbers of the secrets at them, all of one state."""
    with opened.replica.lock:
        return [(path, entry.rec_id) for path, entry in opened.entries(first, end)]


def _has_older_key(opened: OpenVault, path: bytes, rec_id: int, end: int) -> bool | None:
    """Return whether a secret has a version whose data key has an id below one, None where it is not at the path."""
    entry = opened.replica.index.get(path)
    if entry is None or entry.rec_id != rec_id:
        return None
    history = opened.history(path, entry)
    pages = (opened.older_versions(history, page) for page in range(len(history.older)))
    return any(0 < version.dek_id < end for version in chain(history.versions, *pages))


def _too_busy() -> StoreBusy:
    message = "the secrets change faster than they can be encrypted"
    return StoreBusy(message, hint="try again when nobody else changes them")
