"""Marks on secrets whose value somebody may know already, because it stood in the history of a repository.

A mark is open until the secret has a newer current version with another value. Marks are system documents, one each.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

from securecfg.audit import Event
from securecfg.clock import to_datetime
from securecfg.crypto import KIND_FIELDS, KIND_TEXT
from securecfg.errors import InvalidPath, ScopeSealed, StaleWrite, StoreBusy, Tampered
from securecfg.secret import Secret
from securecfg.vault.documents import parsing
from securecfg.vault.drafts import Content, NewVersion
from securecfg.vault.index.history import DESTROYED, check_number
from securecfg.vault.index.in_memory import prefix_end
from securecfg.vault.paths import FIRST_USER_PATH, SYSTEM, path_to_bytes
from securecfg.vault.values import decode_value
from securecfg.vault.writing import WantedChange, Writes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from securecfg.vault.authority import Authority
    from securecfg.vault.commits.publishing import Plan
    from securecfg.vault.drafts import Drafts
    from securecfg.vault.index.segments import Entry
    from securecfg.vault.opened import OpenVault

_MARKS = SYSTEM + b"exposed/"
_VERSION = 1
_COMMIT_SHOWN = 10
_RETRIES = 16


@dataclass(frozen=True, slots=True)
class Mark:
    """A value that was exposed.

    Attributes:
        path: The secret's path.
        field: The field under it, or empty where the value has none.
        version: The version that has the exposed value.
        commit: The first commit that shows it, its full id.
        since: When that was committed.
        file: The file's path in that commit.
        is_open: The value has not been replaced yet.
    """

    path: str
    field: str
    version: int
    commit: str
    since: datetime
    file: str
    is_open: bool = True

    @property
    def target(self) -> str:
        """What was exposed, as `path` or `path#field`."""
        return f"{self.path}#{self.field}" if self.field else self.path

    @property
    def short_commit(self) -> str:
        """The commit as people read it."""
        return self.commit[:_COMMIT_SHOWN]

    def days(self, now: datetime) -> int:
        """Return for how many whole days the value has been exposed, whatever the committer's clock said."""
        return max(now - self.since, timedelta(0)).days


class Exposures:
    """The marks of a vault, as one identity may see and change them.

    Args:
        authority: Decides and records for it.
    """

    def __init__(self, authority: Authority) -> None:
        """Change nothing yet."""
        self._authority = authority
        self._opened = authority.opened
        self._writes = Writes(authority)

    def mark(self, marks: Sequence[Mark]) -> None:
        """Mark some live secrets, each with a record; a mark that stands already is not made again.

        Raises:
            AccessDenied: The caller may not write one of the paths.
            CommitUnknown, StoreBusy, StoreFailed: As for `Vault.write`; the marks before stand.
        """
        known = self._opened.consistently(self._known)
        for mark in marks:
            for _ in range(_RETRIES):
                try:
                    self._mark(mark, known)
                    break
                except StaleWrite:
                    known = self._opened.consistently(self._known)
            else:
                raise _too_busy()

    def unrotated(self) -> list[Mark]:
        """Return the open marks that the caller may list, by path; close those whose secret was rotated since.

        A secret that was moved is listed under its new path. What is deleted is not listed, and is listed again once it
        is brought back; so is a value that comes back after its mark was closed.

        Raises:
            NotAuthenticated: Nobody says who asks.
            AuditUnavailable: That a mark is closed cannot be recorded.
            StoreBusy: Others change the marks faster than they can be looked at.
        """
        for _ in range(_RETRIES):
            try:
                return self._unrotated()
            except StaleWrite:
                continue  # a mark was replaced by a newer one, which may be open
        raise _too_busy()

    def now(self) -> datetime:
        """Return the vault's time."""
        return to_datetime(self._opened.clock.now_ns())

    def _known(self) -> tuple[list[Mark], dict[bytes, int]]:
        """Return the marks under the paths of now, and of each document its newest version."""
        return [stored.mark for stored in self._placed()], {stored.document: stored.number for stored in self._all()}

    def _mark(self, mark: Mark, known: tuple[list[Mark], dict[bytes, int]]) -> None:
        placed, numbers = known
        if mark in placed:
            return
        entry = self._opened.entry(path_to_bytes(mark.path))
        record = entry.rec_id if entry is not None else 0
        document = _document_path(mark, record)
        obj = {"path": mark.path, "ver": mark.version, "commit": mark.commit}
        obj |= {"days": mark.days(self.now()), "file": mark.file}
        stored = _Stored(document, mark, record, numbers.get(document, 0))
        self._write(stored, "write", Event.EXPOSURE_MARKED, obj)

    def _unrotated(self) -> list[Mark]:
        marks = self._opened.consistently(self._placed)
        listed = set(self._authority.filter_listed(sorted({each.mark.path for each in marks})))
        found = []
        for each in sorted(marks, key=lambda each: each.mark.target):
            current = self._current(each.mark.path) if each.mark.path in listed else 0
            if current and self._is_rotated(each.mark, current):
                if each.mark.is_open and not self._opened.options.read_only and self._opened.replica.may_change:
                    closed = each._replace(mark=replace(each.mark, is_open=False))
                    self._write(closed, "list", Event.EXPOSURE_CLOSED, {"path": each.mark.path, "ver": current})
            elif current:
                found.append(replace(each.mark, is_open=True))
        return found

    def _is_rotated(self, mark: Mark, current: int) -> bool:
        """Return whether the current value is another one. A rollback to an exposed value is no rotation."""
        if current <= mark.version:
            return False
        read = self._opened.consistently
        try:
            old = read(lambda: self._digests(mark.path, mark.version)).get(mark.field)
            new = read(lambda: self._digests(mark.path, current))
        except ScopeSealed:
            return not mark.is_open  # who does not read the scope cannot tell; a reader of it can
        # It is as well known under another field, or as the whole value.
        return old is None or old not in new.values()

    def _digests(self, path: str, number: int) -> dict[str, bytes]:
        """Return hashes of a version's value, and of each of its fields, where it was not destroyed.

        They are compared and do not leave this process.
        """
        opened, encoded = self._opened, path_to_bytes(path)
        entry = opened.replica.index.get(encoded)
        if entry is None:
            return {}
        try:
            located = opened.locate(encoded, entry, number)
        except KeyError:
            message = f"a version of `{path}` that was exposed is not in its history"
            raise Tampered(message) from None
        version = located.version
        if version.state == DESTROYED:
            return {}
        if version.value_rows and version.kind != KIND_FIELDS:
            hashed = hashlib.sha256()
            for piece in opened.open_chunked(located):
                hashed.update(piece)
            return {"": hashed.digest()}
        kind, content = version.kind, b""
        if version.value_rows:
            content = b"".join(opened.open_chunked(located))
        else:
            kind, content = opened.open_inline(located)
        value = decode_value(kind, content, path)
        if isinstance(value, Secret):
            return {"": hashlib.sha256(content).digest()}
        return {name: _digest(field) for name, field in value.items()}

    def _current(self, path: str) -> int:
        opened, encoded = self._opened, path_to_bytes(path)

        def read() -> int:
            entry = opened.replica.index.get(encoded)
            return opened.history(encoded, entry).current if entry is not None else 0

        return opened.consistently(read)

    def _all(self) -> list[_Stored]:
        opened = self._opened
        opened.refresh()
        found = [path for path, entry in opened.entries(_MARKS, prefix_end(_MARKS)) if entry.live]
        return [_read(opened, path) for path in found]

    def _placed(self) -> list[_Stored]:
        """Return all marks under the paths that their secrets have now."""
        index = self._opened.replica.index
        placed = []
        paths: dict[int, str] | None = None
        for each in self._all():
            entry = index.get(each.mark.path.encode())
            if entry is None or entry.rec_id != each.record:
                if paths is None:
                    paths = {entry.rec_id: path.decode() for path, entry in index.scan(FIRST_USER_PATH, None)}
                if each.record in paths:
                    placed.append(each._replace(mark=replace(each.mark, path=paths[each.record])))
            else:
                placed.append(each)
        return placed

    def _write(self, stored: _Stored, right: str, event: Event, obj: dict[str, object]) -> None:
        encoded = json.dumps(_to_json(stored), separators=(",", ":"), ensure_ascii=False).encode()
        content = Content.of(KIND_TEXT, encoded)
        principal, now_ns = self._authority.identity.principal, self._opened.clock.now_ns()
        new = NewVersion(principal, now_ns, expect=stored.number)

        def draft(drafts: Drafts) -> Plan:
            return drafts.write(stored.document, content, new)

        self._writes.apply(WantedChange(((right, stored.mark.path),), draft, event, lambda _: obj))


def marks_of(opened: OpenVault) -> dict[int, list[Mark]]:
    """Return the marks of a part, by the numbers of their secrets.

    Raises:
        Tampered: One is damaged.
    """
    found: dict[int, list[Mark]] = {}
    for path, entry in opened.entries(_MARKS, prefix_end(_MARKS)):
        if entry.live:
            stored = _read(opened, path)
            found.setdefault(stored.record, []).append(stored.mark)
    return found


def entries_of_marks(opened: OpenVault) -> dict[bytes, Entry]:
    """Return what tells the marks of a part from others, as of the state that was read last."""
    return dict(opened.replica.index.scan(_MARKS, prefix_end(_MARKS)))


def draft_mark(drafts: Drafts, mark: Mark, path: str, record: int, new: NewVersion) -> Plan:
    """Return the draft of a mark on a secret that came from another part.

    Args:
        drafts: In the part that it came to.
        mark: As it was there.
        path: Where the secret is now.
        record: Its number here.
        new: Who moved it, and when.
    """
    moved = replace(mark, path=path)
    encoded = json.dumps(_to_json(_Stored(b"", moved, record)), separators=(",", ":"), ensure_ascii=False).encode()
    return drafts.write(_document_path(moved, record), Content.of(KIND_TEXT, encoded), new)


class _Stored(NamedTuple):
    """A mark, its document, and the number of its secret, which stays when that is moved.

    Attributes:
        number: Which version of the document it is, or the one that it is to follow; 0 for none.
    """

    document: bytes
    mark: Mark
    record: int
    number: int = 0


def _document_path(mark: Mark, record: int) -> bytes:
    """Return where a mark lies: another secret at a path has marks of its own."""
    return _MARKS + hashlib.sha256(f"{record}/{mark.target}".encode()).hexdigest().encode()


def _to_json(stored: _Stored) -> dict[str, object]:
    mark = stored.mark
    return {
        "v": _VERSION,
        "path": mark.path,
        "field": mark.field,
        "version": mark.version,
        "commit": mark.commit,
        "since": int(mark.since.timestamp()),
        "file": mark.file,
        "open": mark.is_open,
        "record": stored.record,
    }


def _read(opened: OpenVault, name: bytes) -> _Stored:
    number = opened.consistently(lambda: _newest(opened, name))
    document: dict[str, object] = opened.system_document(name, {}, number)
    with parsing(opened, name):
        since = datetime.fromtimestamp(int(str(document["since"])), UTC)
        path, field, commit, file = (str(document[key]) for key in ("path", "field", "commit", "file"))
        version = check_number(int(str(document["version"])))
        _verify_path(path)
        mark = Mark(path, field, version, commit, since, file, bool(document["open"]))
        return _Stored(name, mark, int(str(document["record"])), number)


def _verify_path(path: str) -> None:
    """Check that a secret may lie at a path.

    Raises:
        ValueError: It may not.
    """
    try:
        path_to_bytes(path)
    except InvalidPath:
        raise ValueError from None


def _newest(opened: OpenVault, name: bytes) -> int:
    entry = opened.replica.index.get(name)
    return opened.history(name, entry).newest if entry is not None else 0


def _digest(field: Secret[str] | Secret[bytes]) -> bytes:
    content = field.reveal()
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).digest()


def _too_busy() -> StoreBusy:
    return StoreBusy("others change the marks all the time", hint="try again in a moment")
