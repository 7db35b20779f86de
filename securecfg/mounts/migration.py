"""A whole mount comes home: section 5 of `docs/security/synchronisation.md`.

1. fetch       all values, into the sealed copies of the mount
2. compare     the store with what was fetched, until nothing differs any more
3. take over   all secrets, and the end of the mount, in one transaction
4. read back   from the vault, and once more from the store; then the copies are erased

A process that dies goes on where it was: before step 3 by the copies, after it by a document that step 4 destroys.
"""

from __future__ import annotations

import hmac
import json
import os
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

from securecfg.audit import Event
from securecfg.backends import Found, State, StoredVersion
from securecfg.crypto import KEY_BYTES, KIND_TEXT
from securecfg.errors import (
    BackendUnavailable,
    Conflict,
    DestroyPending,
    InvalidMetadata,
    NotFound,
    SecretDestroyed,
    SecretNotFound,
    SecurecfgError,
    Tampered,
    Unsupported,
    ValueTooLarge,
    VersionDisabled,
    VersionNotFound,
)
from securecfg.mounts.copies import Copy, copies_of
from securecfg.mounts.mounted import MountedVault
from securecfg.mounts.sides import StoreSide, batch_size, is_of_the_side
from securecfg.mounts.sync_plan import digest_of, find_bad_metadata
from securecfg.mounts.table import (
    PATIENCE,
    draft_mounts,
    find_mount,
    mount_from_json,
    mount_to_json,
    read_mounts,
    store_names,
    without,
)
from securecfg.policy import Decision
from securecfg.vault.changes import encode_metadata
from securecfg.vault.commits.maintenance import finish_destruction
from securecfg.vault.documents import parsing, verify_shape
from securecfg.vault.drafts import Content, NewVersion
from securecfg.vault.paths import HOMECOMINGS, RESERVED_LABELS, check_label, path_to_bytes
from securecfg.vault.state.head import FLAG_DESTRUCTION_PENDING
from securecfg.vault.values import SecretVersion, encode_value
from securecfg.vault.writing import WantedChange, WantedWrite, Writes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from contextlib import AbstractContextManager

    from securecfg.mounts.copies import Copies
    from securecfg.mounts.source import Source
    from securecfg.mounts.table import Mount
    from securecfg.vault import Vault
    from securecfg.vault.commits.publishing import Plan
    from securecfg.vault.drafts import Drafts
    from securecfg.vault.opened import OpenVault
    from securecfg.vault.writing import Wanted

    Progress = Callable[[int, int], None]
    Show = Callable[[str], AbstractContextManager[Progress]]

CHANGES_MAX = 200_000
PASSES_MAX = 8
_ATTEMPTS = 3
_ID_DIGITS = 32
_READ_BACK_AT_ONCE = 200
_VERSION = 1
_EARLIER = "\x01"  # before the version and path of a copy of an earlier version, which no path begins with
_NOT_PATHS = ("\x00", _EARLIER)


class Lost(NamedTuple):
    """What of a secret does not come along, or why it cannot.

    Attributes:
        name: Which secret, below the mount.
        what: What it is about.
        reason: Why.
    """

    name: str
    what: str
    reason: str


class Report(NamedTuple):
    """What is known before anything is written.

    Attributes:
        secrets: How many there are.
        versions: How many versions will be written.
        lost: What will not come along.
        obstacles: The secrets that cannot come, for which the migration does not begin.
        passed_over: How many names in the store are no paths.
    """

    secrets: int
    versions: int
    lost: list[Lost]
    obstacles: list[Lost]
    passed_over: int


class Homecome(NamedTuple):
    """What a migration came to.

    Attributes:
        secrets: How many secrets came into the vault.
        verified: How many were compared with what was fetched.
        late: The names of those that have changed in the store since.
        is_store_checked: Whether the store could be asked for that.
    """

    secrets: int
    verified: int
    late: list[str]
    is_store_checked: bool


class _Weight(NamedTuple):
    """What is kept of a value in memory: its kind, its length in bytes, and the keyed digest of both."""

    kind: int
    length: int
    digest: bytes


class _Held(NamedTuple):
    """What the store says of one secret.

    Attributes:
        version: The current version.
        weight: Of its value.
        metadata: As the vault will have them.
        others: All versions, newest first, where those come along.
    """

    version: StoredVersion
    weight: _Weight
    metadata: bytes
    others: tuple[StoredVersion, ...]


class _Earlier(NamedTuple):
    version: StoredVersion
    weight: _Weight


class _CopyMoved(Conflict):
    """Another process has changed a copy. Never leaves this module."""

    code = "copy-moved"


class Homecoming:
    """One mount on its way home.

    Args:
        vault: The vault, open itself.
        folder: Of the mount.
        show: Shows the progress of a step.
        takes_versions: Whether earlier live versions come along.

    Raises:
        AccessDenied: The caller may not `mount.manage`.
        SecretNotFound: Nothing is mounted there.
        Unsupported: The vault has no file, so there is no place for copies.
    """

    def __init__(self, vault: Vault, folder: str, show: Show, *, takes_versions: bool) -> None:
        """Ask the store nothing yet."""
        vault.authority.require("mount.manage", "")
        self._mount = find_mount(read_mounts(vault.opened), folder)
        if not isinstance(vault, MountedVault):
            message = f"a store is mounted at `{folder}` since the vault was opened"
            raise Conflict(message, hint="open the vault again")
        self._vault, self._folder, self._show, self._takes_versions = vault, folder, show, takes_versions
        self._authority, self._opened = vault.authority, vault.opened
        self._source: Source = vault.sources[folder]
        copies = copies_of(self._opened, self._mount)
        if copies is None:
            message = "a vault without a file has no place for copies"
            raise Unsupported(message)
        self._copies: Copies = copies
        self._key = os.urandom(KEY_BYTES)
        self._held: dict[str, _Held] = {}
        self._earlier: dict[str, list[_Earlier]] = {}
        self._unreadable: dict[str, SecurecfgError] = {}
        self._gone: list[Lost] = []
        self._passed_over = 0

    def survey(self) -> Report:
        """Return what would come home and what not. Nothing is kept of what is read.

        Raises:
            As for `fetch`.
        """
        with self._show("reading") as progress:
            self._pass(progress, keep=False)
        return self._report()

    def fetch(self) -> Report:
        """Fetch all that is not there yet, and then what differs, until a pass finds nothing (steps 1 and 2).

        Raises:
            AccessDenied: The caller may not read and write every path below the mount.
            BackendUnavailable, BackendLoginRefused: The store gives no answer.
            Conflict: It changes faster than it can be read.
        """
        with self._show("fetching") as progress:
            self._fetch(progress)
        for _ in range(PASSES_MAX):
            with self._show("comparing") as progress:
                if not self._pass(progress, keep=True):
                    return self._report()
        message = f"what is mounted at `{self._folder}` changes faster than it can be read"
        raise Conflict(message, hint="try again when less is written to it; what was fetched is kept")

    def take_over(self, report: Report) -> Homecome:
        """Write everything and end the mount, read it back, and erase the copies (steps 3 and 4).

        Raises:
            Conflict: A secret cannot come; or the mount has changed meanwhile; or too much comes at once.
            As for `fetch`.
        """
        for _ in range(_ATTEMPTS):
            if report.obstacles:
                message = f"of what is mounted at `{self._folder}` some cannot come into the vault"
                raise Conflict(message, hint="`--dry-run` says what and why; change or delete it in the store first")
            batch = self._batch()
            if len(batch) > CHANGES_MAX:
                message = f"{len(batch)} changes are more than the {CHANGES_MAX} of one transaction"
                raise Conflict(message, hint="migrate without `--versions all`, or mount and migrate folder by folder")
            try:
                with self._show("writing") as progress:
                    progress(0, 1)
                    Writes(self._authority, unmounting=self._folder).apply_batch(batch)
                break
            except _CopyMoved:
                report = self.fetch()
        else:
            message = f"what is mounted at `{self._folder}` changes faster than it can be read"
            raise Conflict(message, hint="try again when less is written to it; what was fetched is kept")
        done = finish_homecoming(self._vault, self._folder, self._show)
        if done is None:
            message = "the note of the migration is gone"
            raise Tampered(message)
        return done

    # --- steps 1 and 2 ------------------------------------------------------------------------------------------------

    def _names(self) -> list[str]:
        """Return what the store has, where the caller may take all of it.

        Raises:
            AccessDenied: He may not.
        """
        listed = self._source.list_now("")
        self._passed_over = listed.passed_over
        paths = [self._folder + name for name in listed.paths]
        for action in ("read", "write"):
            session = self._authority.session()
            if not all(session.decide_many(action, paths)):
                # One record for all of them, of the folder: who migrates it is not probing each path.
                raise self._authority.deny(session, action, self._folder, Decision(allowed=False))
        return listed.paths

    def _fetch(self, progress: Progress) -> None:
        names = self._names()
        missing = []
        for name in names:
            copy = self._copies.get(name)
            if copy is None:
                missing.append(name)
            else:
                self._note(name, copy.found, ())
        size = self._batch_size()
        for start in range(0, len(missing), size):
            progress(len(names) - len(missing) + start, len(names))
            now = self._opened.clock.now_ns()  # before the store is asked: a change meanwhile is newer
            for name, found in self._read(missing[start : start + size]).items():
                if isinstance(found, SecretVersion):
                    self._take(name, found, now)

    def _pass(self, progress: Progress, *, keep: bool) -> int:
        """Read everything anew, and return how much is not as it was known."""
        names = self._names()
        changed = 0
        for name in self._held.keys() - set(names):
            del self._held[name]
            self._copies.drop(name)
            changed += 1
        self._unreadable, self._gone = {}, []
        size = self._batch_size()
        for start in range(0, len(names), size):
            progress(start, len(names))
            now = self._opened.clock.now_ns()
            for name, found in self._read(names[start : start + size]).items():
                if isinstance(found, SecretVersion):
                    changed += self._compare(name, found, now if keep else None)
                elif isinstance(found, SecretNotFound):
                    changed += 1  # between the listing and this
                else:
                    self._unreadable[name] = found
        return changed

    def _compare(self, name: str, found: SecretVersion, fetched_ns: int | None) -> int:
        """Return 1 where a secret is not as it was known; keep a copy then, where it is said when it was fetched."""
        known = self._held.get(name)
        others = tuple(self._source.versions(name)) if self._takes_versions else ()
        stored = _found(found)
        try:
            now = self._note(name, stored, others)
        except SecurecfgError as error:
            self._unreadable[name] = error.with_traceback(None)
            return 0
        if fetched_ns is not None and known is not None:
            known = known._replace(others=now.others)
        is_changed = known != now
        if is_changed and fetched_ns is not None and not self._keep(name, stored, fetched_ns):
            del self._held[name]
            return 1
        self._earlier[name] = self._read_earlier(name, now, keep=fetched_ns is not None)
        return int(is_changed)

    def _read_earlier(self, name: str, held: _Held, *, keep: bool) -> list[_Earlier]:
        """Return the earlier live versions, oldest first, and note those that are lost."""
        earlier: list[_Earlier] = []
        for version in reversed(held.others):
            if version.id == held.version.id:
                continue
            if version.state is not State.LIVE:
                self._gone.append(Lost(name, f"version {version.id}", f"it is {version.state}"))
                continue
            key = _earlier_key(name, version.id)
            copy, fetched_ns = self._copies.get(key), self._opened.clock.now_ns()
            try:
                found = copy.found if copy is not None else _found(self._vault.read(self._folder + name, at=version.id))
                weight = self._weigh(found)
            except (NotFound, VersionDisabled, SecretDestroyed, InvalidMetadata, ValueTooLarge) as error:
                self._gone.append(Lost(name, f"version {version.id}", error.message))
                continue
            if keep and copy is None:
                self._copies.put(Copy(key, found, fetched_ns, self._source.first.name))
            earlier.append(_Earlier(version, weight))
        return earlier

    def _read(self, names: Sequence[str]) -> dict[str, SecretVersion | SecurecfgError]:
        found = dict(zip(names, self._vault.read_now([self._folder + name for name in names]), strict=True))
        for one in found.values():
            if isinstance(one, SecurecfgError) and is_of_the_side(one):
                raise one
        return found

    def _take(self, name: str, found: SecretVersion, fetched_ns: int) -> None:
        stored = _found(found)
        try:
            self._note(name, stored, ())
        except SecurecfgError:
            return  # the pass over all says so
        if not self._keep(name, stored, fetched_ns):
            del self._held[name]

    def _keep(self, name: str, found: Found, fetched_ns: int) -> bool:
        """Put a copy; False where this process has changed the secret since, as all others would be handed the older.

        Args:
            name: Of the secret.
            found: What the store said.
            fetched_ns: When, from before it was asked.
        """
        copy = Copy(name, found, fetched_ns, self._source.first.name)
        if self._source._is_changed(copy):  # noqa: SLF001 - of the copies that the source itself keeps
            return False
        self._copies.put(copy)
        return True

    def _note(self, name: str, found: Found, others: tuple[StoredVersion, ...]) -> _Held:
        """Keep what there is to know of a secret.

        Raises:
            InvalidMetadata, ValueTooLarge: The vault cannot hold it.
        """
        path_to_bytes(self._folder + name)
        bad = find_bad_metadata(found.metadata)
        if bad:
            raise InvalidMetadata(bad)
        weight = self._weigh(found)
        version = found.version._replace(labels=tuple(sorted(found.version.labels)), created=None)
        held = _Held(version, weight, encode_metadata(found.metadata), others)
        self._held[name] = held
        return held

    def _weigh(self, found: Found) -> _Weight:
        """Return what is kept of a value; its content is in no other frame, where a traceback might show it.

        Raises:
            InvalidMetadata, ValueTooLarge: The vault cannot hold it.
        """
        kind, content = encode_value(found.value)
        return _Weight(kind, len(content), hmac.digest(self._key, bytes((kind,)) + content, "sha256"))

    def _batch_size(self) -> int:
        return max(self._source.first.capabilities.reads_at_once, 1)

    def _report(self) -> Report:
        lost = list(self._gone)
        versions = len(self._held)
        for name, held in self._held.items():
            earlier = self._earlier.get(name, [])
            versions += len(earlier)
            coming = {held.version.id, *(each.version.id for each in earlier)}
            for version in (held.version, *held.others):
                for label in version.labels:
                    if label in RESERVED_LABELS:
                        continue
                    if version.id not in coming:
                        lost.append(Lost(name, f"label {label}", f"version {version.id} does not come along"))
                    elif not _is_label(label):
                        lost.append(Lost(name, f"label {label}", "the vault has no such labels"))
        obstacles = [Lost(name, "the secret", error.message) for name, error in self._unreadable.items()]
        return Report(len(self._held), versions, list(dict.fromkeys(lost)), obstacles, self._passed_over)

    # --- step 3 -------------------------------------------------------------------------------------------------------

    def _batch(self) -> list[Wanted]:
        batch: list[Wanted] = []
        numbers: dict[str, int] = {}
        principal, now = self._authority.identity.principal, self._opened.clock.now_ns()
        for name, held in sorted(self._held.items()):
            path, number = self._folder + name, 0
            encoded = path_to_bytes(path)
            labels: dict[str, int] = {}
            for each in self._earlier.get(name, []):
                content = self._content(_earlier_key(name, each.version.id), each.weight)
                new = NewVersion(principal, now, metadata=b"", expect=number, is_lookalike_allowed=True)
                batch.append(WantedWrite(path, encoded, content, new))
                number += 1
                labels |= dict.fromkeys(each.version.labels, number)
            content = self._content(name, held.weight)
            new = NewVersion(principal, now, metadata=held.metadata, expect=number, is_lookalike_allowed=True)
            batch.append(WantedWrite(path, encoded, content, new))
            numbers[name] = number + 1
            labels |= dict.fromkeys(held.version.labels, number + 1)
            batch += [_wanted_label(path, label, at) for label, at in sorted(labels.items()) if _is_label(label)]
        batch.append(self._ending(numbers))
        return batch

    def _content(self, key: str, weight: _Weight) -> Content:
        """Return content that is read from its copy when it is sealed, so that not all of it is in memory."""

        def pieces() -> Iterable[bytes]:
            copy = self._copies.get(key)
            if copy is None or not hmac.compare_digest(self._weigh(copy.found).digest, weight.digest):
                message = "a copy is not what was fetched"
                raise _CopyMoved(message)
            return (encode_value(copy.found.value)[1],)

        return Content(weight.kind, weight.length, pieces)

    def _ending(self, numbers: dict[str, int]) -> Wanted:
        folder, mount, opened = self._folder, self._mount, self._opened
        obj = {"path": folder, "store": store_names(mount.backends), "count": len(numbers)}
        note = {
            "v": _VERSION,
            "folder": folder,
            "mount": mount_to_json(mount),
            "count": len(numbers),
            "numbers": {name: number for name, number in numbers.items() if number != 1},
        }
        text = json.dumps(note, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()

        def draft(drafts: Drafts) -> Plan:
            mounts = read_mounts(opened)
            if find_mount(mounts, folder).id != mount.id:
                message = f"the mount at `{folder}` has been changed meanwhile"
                raise Conflict(message, hint="run it again")
            plan = draft_mounts(opened, drafts, without(mounts, folder), self._authority.session())
            new = NewVersion(self._authority.identity.principal, opened.clock.now_ns())
            plan.join(drafts.write(_note_path(folder), Content.of(KIND_TEXT, text), new))
            return plan

        return WantedChange((("mount.manage", ""),), draft, Event.MOUNT_REMOVED, lambda _: obj)


# --- step 4 -----------------------------------------------------------------------------------------------------------


def finish_homecoming(vault: Vault, folder: str, show: Show) -> Homecome | None:
    """Read back what has come home, compare it with the copies and the store, and erase the copies.

    Returns:
        What it came to; None where no migration of the folder is unfinished.

    Raises:
        AccessDenied: The caller may not `mount.manage`.
        Tampered: The vault has something else than what was fetched; the copies are kept.
    """
    authority, opened = vault.authority, vault.opened
    if not vault.is_by_root:
        return None
    opened.refresh()
    path = _note_path(folder)
    if opened.system_bytes(path) is None:
        return None
    authority.require("mount.manage", "")
    mount, count, numbers = _read_note(opened, path, folder)
    copies = copies_of(opened, mount)
    kept = {copy.path: copy for copy in copies.all() if not copy.path.startswith(_NOT_PATHS)} if copies else {}
    key = os.urandom(KEY_BYTES)
    digests = {name: digest_of(key, _version_of(copy)) for name, copy in kept.items()}
    verified = _verify_home(vault, folder, (key, digests), numbers, show)
    late, is_checked = _find_late(vault, folder, mount, (key, digests), show)
    if copies is not None:
        copies.erase()
    obj = {"path": store_names(mount.backends), "to": folder, "count": count}

    def draft(drafts: Drafts) -> Plan:
        plan = drafts.destroy(path, drafts.number(path, "current"))
        plan.state["flags"] = opened.replica.state.flags | FLAG_DESTRUCTION_PENDING
        return plan

    Writes(authority).apply(WantedChange((("mount.manage", ""),), draft, Event.SYNC_FINISHED, lambda _: obj))
    with suppress(DestroyPending):  # it stays noted, and what came home is told
        finish_destruction(opened)
    return Homecome(count, verified, late, is_checked)


def _verify_home(
    vault: Vault, folder: str, expected: tuple[bytes, dict[str, bytes]], numbers: dict[str, int], show: Show
) -> int:
    key, digests = expected
    names, verified = sorted(digests), 0
    with show("reading back") as progress:
        for start in range(0, len(names), _READ_BACK_AT_ONCE):
            part = names[start : start + _READ_BACK_AT_ONCE]
            progress(start, len(names))
            wanted = [(folder + name, numbers.get(name, 1)) for name in part]
            for name, found in zip(part, vault.read_many(wanted), strict=True):
                if isinstance(found, NotFound | VersionNotFound | SecretDestroyed):
                    continue  # somebody has deleted it since
                if isinstance(found, SecurecfgError):
                    raise found
                if not hmac.compare_digest(digest_of(key, found), digests[name]):
                    message = f"`{folder}{name}` is not in the vault as it was in the store"
                    raise Tampered(message, hint="the store still has it, and so have the sealed copies")
                verified += 1
    return verified


def _find_late(
    vault: Vault, folder: str, mount: Mount, expected: tuple[bytes, dict[str, bytes]], show: Show
) -> tuple[list[str], bool]:
    """Return what has changed in the store since it was fetched, and whether the store could be asked."""
    key, digests = expected
    side = StoreSide(vault, folder, mount.open(mount.backends[0], PATIENCE), "read")
    late: list[str] = []
    try:
        names = side.list()
        size = batch_size(side)
        with show("asking the store once more") as progress:
            for start in range(0, len(names), size):
                progress(start, len(names))
                for name, standing in side.look(names[start : start + size]).items():
                    found = standing.found
                    if (
                        not isinstance(found, SecretVersion)
                        or name not in digests
                        or not hmac.compare_digest(digest_of(key, found), digests[name])
                    ):
                        late.append(name)
        return sorted({*late, *(digests.keys() - set(names))}), True
    except BackendUnavailable:
        return [], False


def _read_note(opened: OpenVault, path: bytes, folder: str) -> tuple[Mount, int, dict[str, int]]:
    document: Any = opened.system_document(path, {})
    with parsing(opened, path):
        verify_shape(document["numbers"], dict, int)
        verify_shape(document["count"], int)
        if document["folder"] != folder:
            raise ValueError
        return mount_from_json(folder, document["mount"]), document["count"], document["numbers"]


def _note_path(folder: str) -> bytes:
    return HOMECOMINGS + sha256(folder.encode()).hexdigest()[:_ID_DIGITS].encode()


def _earlier_key(name: str, version: str) -> str:
    return f"{_EARLIER}{version}\x00{name}"


def _found(version: SecretVersion) -> Found:
    stored = StoredVersion(str(version.version), State.LIVE, version.created, tuple(version.labels))
    return Found(version.value, stored, dict(version.metadata))


def _version_of(copy: Copy) -> SecretVersion:
    return SecretVersion(copy.path, copy.found.version.id, copy.found.value, None, None, (), {}, "", "")


def _is_label(label: str) -> bool:
    try:
        check_label(label)
    except InvalidMetadata:
        return False
    return True


def _wanted_label(path: str, label: str, number: int) -> Wanted:
    encoded = path_to_bytes(path)
    return WantedChange(
        (("write", path),),
        lambda drafts: drafts.label(encoded, label, number),
        Event.SECRET_LABELLED,
        lambda _: {"path": path, "label": label, "ver": number},
    )
