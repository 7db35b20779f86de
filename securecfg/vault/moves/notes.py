"""What was noted in one part of a vault about secrets that move to another, and is to be known of them there.

Who may know them, what bundles gave of them, and where they stood in the open; and that they came from elsewhere.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from securecfg.vault.bundles.notes import draft_carried_bundle, entries_of_bundles, given_from, is_about
from securecfg.vault.drafts import NewVersion
from securecfg.vault.imports.exposures import draft_mark, entries_of_marks, marks_of
from securecfg.vault.index.history import DESTROYED
from securecfg.vault.keys.departures import MoveNote, draft_carried, draft_move, entries_of_notes, notes_of

if TYPE_CHECKING:
    from securecfg.vault.bundles.notes import Noted
    from securecfg.vault.commits.staging import StagingArea
    from securecfg.vault.index.history import Version
    from securecfg.vault.index.segments import Entry
    from securecfg.vault.keys.departures import Departure
    from securecfg.vault.moves.copying import Copy, Original, Resealing, Single, Subtree
    from securecfg.vault.moves.relocation import Place


class RelocationNotes:
    """The notes of one attempt to move secrets.

    Args:
        source: Where they are.
        target: Where they go.
        chosen: Which.
        arriving: Where the copies are staged, and the notes with them.
        drafts: Drafts there.
        note_id: What tells the notes of this move from others.
        is_exposing: Whether others than those who open the new place could read them.
    """

    def __init__(
        self,
        source: Place,
        target: Place,
        chosen: Subtree | Single,
        *,
        arriving: StagingArea,
        drafts: Resealing,
        note_id: str,
        is_exposing: bool,
    ) -> None:
        """Read none yet."""
        self._source = source
        self._target = target
        self._chosen = chosen
        self._arriving = arriving
        self._drafts = drafts
        self._note_id = note_id
        self._is_exposing = is_exposing
        self._noted: dict[bytes, Entry] | None = None
        self._carried: dict[Departure, Departure] = {}
        self._given: dict[str, tuple[Noted, set[tuple[str, int, int, str]]]] = {}

    def read(self) -> bool:
        """Read what is noted in the old place about secrets, and return whether that is something new."""
        opened = self._source.opened
        noted = opened.consistently(self._entries)
        if noted == self._noted:
            return False
        self._departures, self._marks = opened.consistently(lambda: (notes_of(opened), marks_of(opened)))
        self._bundles: dict[tuple[int, int], list[tuple[str, Noted]]] = {}
        for bundle in opened.consistently(lambda: list(given_from(opened))):
            for then, number, created, _ in bundle.versions:
                self._bundles.setdefault((number, created), []).append((then, bundle))
        self._noted = noted
        return True

    def have_changed(self) -> bool:
        """Return whether something else is noted in the old place than what was read. To be asked under its lock."""
        return self._noted != self._entries()

    def carry(self, path: bytes, original: Original, copy: Copy) -> None:
        """Take along what was noted in the old place about a secret: who may know it, where it stood in the open."""
        target = self._chosen.target_of(path).decode()
        self._carried |= self._about(path, original)
        for version in _kept(original):
            # The value is sealed anew, so what tells it from others there is nothing here.
            place, opened = (version.number, version.created), self._source.opened
            for then, bundle in self._bundles.get(place, ()):
                if opened.consistently(partial(is_about, opened, (then, *place), path)):
                    self._given.setdefault(bundle.digest, (bundle, set()))[1].add((target, *place, ""))
        new = NewVersion(self._target.authority.identity.principal, self._target.opened.clock.now_ns())
        for mark in self._marks.get(copy.entry.rec_id, ()):
            self._arriving.take(draft_mark(self._drafts, mark, target, copy.target.rec_id, new))

    def is_known_to_more(self, path: bytes, original: Original) -> bool:
        """Return whether others may know a secret, as it is now, than those who are noted to in the new place."""
        return self._carried | self._about(path, original) != self._carried

    def stage(self) -> None:
        """Note in the new place who may know what came: those who opened the old one, and whoever was noted there."""
        author = self._target.authority.identity.principal
        below = self._chosen.target_below
        for number, note in enumerate(sorted(self._carried.values(), key=lambda note: note.removed_ns)):
            name, ranges = f"carried-{self._note_id}-{number}", self._arriving.ranges
            self._arriving.take(draft_carried(self._drafts, note, name, below, ranges, author=author))
        new = NewVersion(author, self._target.opened.clock.now_ns())
        for bundle, lines in self._given.values():
            noted = bundle._replace(versions=tuple(sorted(lines)))
            self._arriving.take(draft_carried_bundle(self._drafts, noted, self._note_id, new))
        if self._is_exposing:
            self._arriving.take(draft_move(self._drafts, self.note_of_move(self._arriving.allocate()), author))

    def note_of_move(self, next_id: int, *late: tuple[int, int]) -> MoveNote:
        """Return the note of the move itself.

        Args:
            next_id: The first id that nothing has got that came with it.
            late: Ids of rows that come in the commit, the first and the last one.
        """
        now_ns = self._target.opened.clock.now_ns()
        ranges = (*self._arriving.ranges, *late)
        return MoveNote(self._note_id, self._source.name, self._chosen.target_below, now_ns, next_id, ranges)

    # --- pieces ------------------------------------------------------------------------------------------------------

    def _entries(self) -> dict[bytes, Entry]:
        opened = self._source.opened
        return entries_of_notes(opened) | entries_of_marks(opened) | entries_of_bundles(opened)

    def _about(self, path: bytes, original: Original) -> dict[Departure, Departure]:
        """Return the notes of those who may know a value of a secret, and what is to be noted in the new place."""
        kept = _kept(original)
        return {
            note: self._carried.get(note, note).until(kept)
            for note in self._departures
            if note.covers(path, original.entry.rec_id) and any(map(note.could_read, kept))
        }


def _kept(original: Original) -> list[Version]:
    return [version for version in original.versions if version.state != DESTROYED]
