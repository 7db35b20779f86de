"""What the holders of other keys may know: every secret that has not had another value since.

A key that opened the vault could read all of it, whatever the policy said, from the file or a copy; the key of a role
could read the sealed scopes that were granted to it. So each removal of one is noted, and each move of secrets from
where other keys opened them; what that leaves exposed is worked out when it is asked for.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, NamedTuple

from securecfg.clock import to_datetime
from securecfg.crypto import KIND_TEXT
from securecfg.errors import ScopeSealed
from securecfg.vault.commits.publishing import Plan
from securecfg.vault.documents import parsing
from securecfg.vault.drafts import Content, Drafts, NewVersion
from securecfg.vault.index.history import DESTROYED
from securecfg.vault.index.in_memory import prefix_end
from securecfg.vault.moves.copying import Original
from securecfg.vault.opened import Located
from securecfg.vault.paths import SYSTEM

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime
    from typing import Any

    from securecfg.keys import SlotInfo
    from securecfg.vault.authority import Authority
    from securecfg.vault.commits.publishing import Publication
    from securecfg.vault.drafts import Workspace
    from securecfg.vault.index.history import History, Version
    from securecfg.vault.index.segments import Entry
    from securecfg.vault.opened import OpenVault

    Ranges = tuple[tuple[int, int], ...]

NO_NUMBER = 0

_NOTES = SYSTEM + b"departed/"
_FIRST_USER_PATH = b"\x02"
_VERSION = 1
_COMPROMISE = "compromise"
_MOVE = "move"
_NAME_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Exposed:
    """A secret that the holder of a removed key may know, or whoever read it where it was before.

    Attributes:
        path: The secret's path.
        version: The newest version with a value that may be known.
        slot: The number that the removed slot had, or 0 where everything was compromised, the secret was moved, or a
            writer of the scope had taken the slot away before.
        kind: The scheme of its key URIs.
        label: What people called it; of a move where the secret was, the path of a sealed scope or `/`.
        since: When it was removed or moved.
    """

    path: str
    version: int
    slot: int
    kind: str
    label: str
    since: datetime

    @property
    def is_compromise(self) -> bool:
        """Whether not one key was removed, but all of them are taken to be known to others."""
        return self.kind == _COMPROMISE and self.slot == NO_NUMBER

    @property
    def is_move(self) -> bool:
        """Whether it lay elsewhere, where others could read it."""
        return self.kind == _MOVE and self.slot == NO_NUMBER

    @property
    def key(self) -> str:
        """The removed key as people read it; of a compromise why it was declared, of a move where it was."""
        if self.is_move:
            return f"`{self.label}`" if self.label != "/" else "the vault, by its root"
        if self.is_compromise:
            return f"everything{f' ({self.label})' if self.label else ''}"
        name = f"slot {self.slot}" if self.slot else "a slot"
        return f"{name} ({self.kind}{f', {self.label}' if self.label else ''})"

    def days(self, now: datetime) -> int:
        """Return for how many whole days the value has been exposed, whatever the clocks said."""
        return max(now - self.since, timedelta(0)).days


class Departure(NamedTuple):
    """A note: which slot went, when, the first id that was not given yet, and which secrets it is about.

    Those are named by where they were put, and by the ids that were given to what was put there, their own numbers
    among them: a secret that is given another path or other data keys later is still one of them.
    """

    slot: int
    kind: str
    label: str
    removed_ns: int
    next_id: int
    below: str = ""
    ranges: tuple[tuple[int, int], ...] = ()
    scopes: tuple[str, ...] | None = None

    def covers(self, path: bytes, rec_id: int) -> bool:
        """Return whether the note is about a secret: below a folder, at the only path, or brought with them."""
        below = self.below.encode()
        if path == below or path.startswith(below if below.endswith(b"/") or not below else below + b"/"):
            return True
        return any(first <= rec_id <= last for first, last in self.ranges)

    def could_read(self, version: Version) -> bool:
        """Return whether a version was there when the slot went. Clocks may differ, so either sign is enough."""
        return version.created <= self.removed_ns or 0 < version.dek_id < self.next_id

    def until(self, versions: Iterable[Version]) -> Departure:
        """Return the note with a time that covers versions as their ids do, which change."""
        latest = max((version.created for version in versions if self.could_read(version)), default=0)
        return self._replace(removed_ns=max(latest, self.removed_ns))


def note_departure(opened: OpenVault, publication: Publication, number: int, info: SlotInfo, author: str) -> Plan:
    """Return the draft of a note that a slot goes, for the publication that removes it."""
    now = opened.clock.now_ns()
    departure = Departure(number, info.kind, info.label, now, publication.next_id)
    return _draft(opened, publication, departure, info.slot_id.hex(), author)


class DeclaredCompromise(NamedTuple):
    """A note that all that was in a vault, or in a sealed scope, may be known.

    Attributes:
        end: The first id that was not given yet.
        name: What it is called.
        reason: Why it was declared.
        scope_ids: Of a vault, the scopes that there were; None where the note does not say.
    """

    end: int
    name: str
    reason: str
    scope_ids: frozenset[str] | None = None

    def concerns(self, scope_id: bytes) -> bool:
        """Return whether a scope was there, as the vault says: neither a clock nor the scope itself is asked."""
        return self.scope_ids is None or scope_id.hex() in self.scope_ids

    def name_in(self, scope_id: bytes) -> str:
        """Return what it is called in a scope, where nobody can note it as done who only knows another scope."""
        if self.scope_ids is None:
            return self.name
        return f"{_COMPROMISE}-{sha256(self.name.encode() + scope_id).hexdigest()[:_NAME_DIGITS]}"


def new_compromise() -> str:
    """Return a name for a compromise that is about to be declared."""
    return f"{_COMPROMISE}-{secrets.token_hex(8)}"


def note_compromise(
    opened: OpenVault,
    publication: Publication,
    name: str,
    reason: str,
    author: str,
    *,
    scope_ids: Sequence[bytes] | None = None,
) -> Plan:
    """Return the draft of a note that all that is in a part may be known, for the publication that says so.

    Args:
        opened: The part.
        publication: Says so.
        name: What the compromise is called in it.
        reason: Why.
        author: Who declares it.
        scope_ids: Of the vault, the ids of the scopes that there are, 16 bytes each.
    """
    named = tuple(sorted(scope_id.hex() for scope_id in scope_ids)) if scope_ids is not None else None
    departure = Departure(NO_NUMBER, _COMPROMISE, reason, opened.clock.now_ns(), publication.next_id, scopes=named)
    return _draft(opened, publication, departure, name, author)


def notes_of(opened: OpenVault) -> list[Departure]:
    """Return the notes of a part, by time.

    Raises:
        Tampered: One is damaged.
    """
    return _departures(opened)


def entries_of_notes(opened: OpenVault) -> dict[bytes, Entry]:
    """Return what tells the notes of a part from others, as of the state that was read last."""
    return dict(opened.replica.index.scan(_NOTES, prefix_end(_NOTES)))


def draft_carried(drafts: Drafts, departure: Departure, name: str, below: str, ranges: Ranges, *, author: str) -> Plan:
    """Return the draft of a note that was in the part which secrets came from, as far as it is about them.

    Args:
        drafts: In the part that they came to.
        departure: The note.
        name: Names it.
        below: Where they are now: a folder with its `/`, or the path of one.
        ranges: The ids that were given to their rows.
        author: Who moved them.
    """
    # Ids say nothing in another part; versions keep their times.
    return _write_note(drafts, departure._replace(next_id=0, below=below, ranges=ranges), name, author)


def draft_kept(opened: OpenVault, workspace: Workspace, paths: Iterable[bytes], author: str) -> Plan:
    """Return the draft of notes that are about some secrets still when these have other ids.

    Whoever removes a key meanwhile puts other keys in use, under which nothing is published that was staged before.

    Args:
        opened: The part.
        workspace: Where they get other ids.
        paths: Of the secrets, as they are in the part now.
        author: Who encrypts them anew.

    Raises:
        IntegrityError: One of them was changed meanwhile.
    """
    noted = [path for path in entries_of_notes(opened) if workspace.entry(path) is not None]
    plan, before = Plan(), _notes(opened) if noted else []
    after = dict(before)
    for path in paths if before else ():
        entry = opened.entry(path)
        if entry is not None:
            versions = Original.read(opened, path, entry).versions
            for name, note in after.items():
                if note.covers(path, entry.rec_id):
                    after[name] = note.until(versions)
    for name, note in before:
        if after[name] != note:
            plan.join(_write_note(Drafts(opened, workspace), after[name], name, author))
    return plan


def draft_move(drafts: Drafts, departure: MoveNote, author: str) -> Plan:
    """Return the draft of a note that secrets came from where others could read them.

    Args:
        drafts: In the part that they came to; all of their data keys have been given their ids.
        departure: What the note says.
        author: Who moved them.
    """
    where = departure.moved_ns, departure.next_id, departure.below, departure.ranges
    note = Departure(NO_NUMBER, _MOVE, departure.source, *where)
    return _write_note(drafts, note, f"{_MOVE}-{departure.note_id}", author)


class MoveNote(NamedTuple):
    """What a note of a move says.

    Attributes:
        note_id: Names it.
        source: Where the secrets were: the path of a sealed scope, or `/`.
        below: Where they are now: a folder with its `/`, or the path of one.
        moved_ns: When they came.
        next_id: An id that is above those of all their data keys.
        ranges: The ids that were given to their rows, and to no others but notes of the move.
    """

    note_id: str
    source: str
    below: str
    moved_ns: int
    next_id: int
    ranges: Ranges


def newest_compromise(opened: OpenVault) -> DeclaredCompromise | None:
    """Return the newest compromise that was declared, or None where none was.

    In a scope that is what its writers say; `find_compromise` looks for one that the vault names.

    Raises:
        Tampered: A note is damaged.
    """
    return max(_compromises(opened), key=lambda each: each.end, default=None)


def find_compromise(opened: OpenVault, name: str) -> DeclaredCompromise | None:
    """Return the compromise of a name, or None where it was not noted.

    Raises:
        Tampered: A note is damaged.
    """
    return next((each for each in _compromises(opened) if each.name == name), None)


def newest_departure(opened: OpenVault) -> int | None:
    """Return the first id that was not given yet when a key was last removed or a compromise declared, or None.

    Raises:
        Tampered: A note is damaged.
    """
    return max((note.next_id for note in _departures(opened) if note.kind != _MOVE), default=None)


def _draft(opened: OpenVault, publication: Publication, departure: Departure, name: str, author: str) -> Plan:
    return _write_note(Drafts(opened, publication), departure, name, author)


def _write_note(drafts: Drafts, departure: Departure, name: str, author: str) -> Plan:
    document = {"v": _VERSION} | departure._asdict()
    if not departure.below:
        del document["below"]
    if not departure.ranges:
        del document["ranges"]
    if departure.scopes is None:
        del document["scopes"]
    encoded = json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    content = Content.of(KIND_TEXT, encoded)
    return drafts.write(_NOTES + name.encode(), content, NewVersion(author, departure.removed_ns))


def find_exposed(authority: Authority) -> list[Exposed]:
    """Return what the holders of removed keys may know, by path, as far as the caller may list it.

    A secret leaves the list when its current value is another than all that it had when the key was removed. Who lists
    a sealed scope and does not read it cannot compare values: for him each new version counts as another value.

    Raises:
        NotAuthenticated: Nobody says who asks.
        Tampered: A row does not match the signed state.
    """
    opened = authority.opened
    opened.refresh()
    departures = _departures(opened)
    if not departures:
        return []
    live = [path for path, entry in opened.entries(_FIRST_USER_PATH, None) if entry.live]
    listed = set(authority.filter_listed([path.decode() for path in live]))
    found = []
    for path in live:
        if path.decode() in listed:
            found += opened.consistently(partial(_exposed, opened, path, departures))
    return found


def _departures(opened: OpenVault) -> list[Departure]:
    return sorted((note for _, note in _notes(opened)), key=lambda note: note.removed_ns)


def _compromises(opened: OpenVault) -> list[DeclaredCompromise]:
    return [
        DeclaredCompromise(note.next_id, name, note.label, frozenset(note.scopes) if note.scopes is not None else None)
        for name, note in _notes(opened)
        if note.slot == NO_NUMBER and note.kind == _COMPROMISE and not note.below
    ]


def _notes(opened: OpenVault) -> list[tuple[str, Departure]]:
    notes = []
    for path, entry in opened.entries(_NOTES, prefix_end(_NOTES)):
        if entry.live:
            document: dict[str, Any] = opened.system_document(path, {})
            with parsing(opened, path):
                # No id can be above those that were given; a writer could else say that nothing is new enough.
                departure = _parse(document, opened.replica.state.next_id)
                notes.append((path.removeprefix(_NOTES).decode(), departure))
    return notes


def _parse(document: dict[str, Any], next_id: int) -> Departure:
    """Return what a note says.

    Raises:
        KeyError, TypeError, ValueError, OverflowError: It is malformed.
    """
    slot, removed_ns = int(document["slot"]), int(document["removed_ns"])
    kind, label, below = (str(document.get(name, "")) for name in ("kind", "label", "below"))
    ranges = tuple((int(first), int(last)) for first, last in document.get("ranges", ()))
    scopes = tuple(map(str, document["scopes"])) if "scopes" in document else None
    to_datetime(removed_ns)
    return Departure(slot, kind, label, removed_ns, min(int(document["next_id"]), next_id), below, ranges, scopes)


def _exposed(opened: OpenVault, path: bytes, departures: list[Departure]) -> list[Exposed]:
    entry = opened.replica.index.get(path)
    if entry is None or not entry.live:
        return []
    history = opened.history(path, entry)
    current = history.find(history.current)
    if current is None:
        current = opened.locate(path, entry, history.current).version
    notes = [note for note in departures if note.covers(path, history.rec_id)]
    is_clear = all(note.could_read(current) for note in notes)
    versions = [] if is_clear else list(all_versions(opened, history))
    return [
        Exposed(path.decode(), current.number, note.slot, note.kind, note.label, to_datetime(note.removed_ns))
        for note in notes
        if note.could_read(current)
        or any(same_values(opened, Located(entry, history, current), filter(note.could_read, versions)))
    ]


def all_versions(opened: OpenVault, history: History) -> Iterator[Version]:
    """Yield the versions of a secret, the newest first on each page."""
    yield from history.versions
    for page in range(len(history.older)):
        yield from opened.older_versions(history, page)


def same_values(opened: OpenVault, current: Located, versions: Iterable[Version]) -> Iterator[Version]:
    """Yield those of some versions of a secret that have the value of its current one, as far as the key at hand reads.

    What was destroyed has no value any more that could be compared.
    """
    entry, history, newest = current
    known = [each for each in versions if each.state != DESTROYED and each.length == newest.length and each != newest]
    if not known:
        return
    try:
        digest = _digest(opened, entry, history, newest)
        for version in known:
            if _digest(opened, entry, history, version) == digest:
                yield version
    except ScopeSealed:
        return


def _digest(opened: OpenVault, entry: Entry, history: History, version: Version) -> bytes:
    """Return a hash of a value, which is compared and does not leave this process."""
    located = Located(entry, history, version)
    if version.value_rows:
        hashed = sha256()
        for piece in opened.open_chunked(located):
            hashed.update(piece)
        return hashed.digest()
    return sha256(opened.open_inline(located)[1]).digest()
