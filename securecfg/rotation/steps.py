"""What is stored of rotations, and how it is changed: each change is one transaction with its record."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from securecfg.audit import Event
from securecfg.errors import RotationBusy, RotationNotFound, StaleWrite
from securecfg.rotation.document import Rotation, Stored, all_rotations, document_path, encode_rotation, find_rotation
from securecfg.rotation.news import draft_news
from securecfg.vault.commits.publishing import Plan
from securecfg.vault.drafts import NewVersion
from securecfg.vault.index.history import DESTROYED
from securecfg.vault.paths import FIRST_USER_PATH, path_to_bytes
from securecfg.vault.writing import WantedChange, Writes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from securecfg.vault.authority import Authority
    from securecfg.vault.drafts import Drafts
    from securecfg.vault.index.history import History, Version

    Effect = Callable[[Drafts], Plan]
    After = Callable[[int], Rotation]


class Standing(NamedTuple):
    """What versions a rotated secret has by now.

    Attributes:
        current: The number of what readers get, 0 for none.
        previous: Of what they got before, 0 for none.
        pending: Of the candidate, 0 for none.
        created_ns: When the current version was written, 0 for none.
        expires_ns: When it ends, 0 for never.
    """

    current: int
    previous: int
    pending: int
    created_ns: int = 0
    expires_ns: int = 0


class Steps:
    """The documents of the rotations of a vault, as one identity may see and change them.

    Args:
        authority: Decides and records for it; of the vault itself.
    """

    def __init__(self, authority: Authority) -> None:
        """Change nothing yet."""
        self._authority = authority
        self._opened = authority.opened
        self._writes = Writes(authority)

    def find(self, path: str) -> Stored:
        """Return the rotation of the secret at a path. Nothing is decided or recorded.

        Raises:
            InvalidPath: The path breaks the rules.
            RotationNotFound: Nothing rotates it.
            Tampered: The document is damaged.
            UnsupportedFormat: A newer version has written it.
        """
        encoded = path_to_bytes(path)
        self._opened.refresh()
        entry = self._opened.entry(encoded)
        stored = find_rotation(self._opened, entry.rec_id) if entry is not None else None
        if stored is None:
            message = f"nothing rotates `{path}`"
            raise RotationNotFound(message, hint=f"`securecfg rotation set {path} --rotator NAME` sets a rotation")
        return Stored(stored.rotation._replace(path=path), stored.number)

    def find_record(self, record: int) -> Stored | None:
        """Return the rotation of a secret by its number, under the path that it has by now; None where it has none.

        Raises:
            Tampered: The document is damaged.
            UnsupportedFormat: A newer version has written it.
        """
        self._opened.refresh()
        stored = find_rotation(self._opened, record)
        if stored is None:
            return None
        entry = self._opened.entry(path_to_bytes(stored.rotation.path))
        if entry is not None and entry.rec_id == record:
            return stored
        for path, moved in self._opened.replica.index.scan(FIRST_USER_PATH, None):
            if moved.rec_id == record:
                return Stored(stored.rotation._replace(path=path.decode()), stored.number)
        return None

    def newer(self) -> list[str]:
        """Return the secrets whose rotations a newer version of this library has set: nobody else leads them on.

        Nothing is decided or recorded.

        Raises:
            Tampered: A document is damaged.
        """
        self._opened.refresh()
        found: set[int] = set()
        self._opened.consistently(lambda: list(all_rotations(self._opened, found)))
        entries = self._opened.replica.index.scan(FIRST_USER_PATH, None) if found else ()
        return [path.decode() for path, entry in entries if entry.rec_id in found]

    def standing(self, path: str) -> Standing:
        """Return which versions of a secret there are.

        Raises:
            IntegrityError: They cannot be read.
        """
        encoded = path_to_bytes(path)

        def read() -> Standing:
            entry = self._opened.replica.index.get(encoded)
            if entry is None:
                return Standing(0, 0, 0)
            history = self._opened.history(encoded, entry)
            current = self._current(history, encoded)
            marks = (history.current, history.previous, history.pending)
            return Standing(*marks) if current is None else Standing(*marks, current.created, current.expires)

        return self._opened.consistently(read)

    def create(self, path: str, make: Callable[[int, Stored | None], Rotation], obj: Mapping[str, object]) -> Stored:
        """Store the rotation of a secret, in place of what there is.

        Args:
            path: Of the secret.
            make: Returns the rotation for the number of the secret and what is stored by now.
            obj: What the record says.

        Raises:
            AccessDenied: The caller may not read, write and rotate the secret.
            RotationBusy: It was changed in the same moment.
        """
        encoded = path_to_bytes(path)

        def draft(drafts: Drafts) -> Plan:
            record = drafts.record(encoded)
            drafts.number(encoded, "current")
            known = find_rotation(self._opened, record)
            rotation = make(record, known)
            # What an earlier plan of the same publication does to it is not seen yet, and must not be undone.
            expect = None if known is None else known.number
            plan = drafts.supersede(document_path(record), encode_rotation(rotation), self._new(expect))
            return self._told(drafts, plan, Stored(rotation, _number(plan)))

        rights = (("rotate", path), ("write", path), ("read", path))
        return self._apply(WantedChange(rights, draft, Event.ROTATION_SET, lambda _: obj))

    def change(self, stored: Stored, after: After, obj: Mapping[str, object], effect: Effect | None = None) -> Stored:
        """Store what a rotation comes to, with what that does to the versions of its secret.

        Args:
            stored: What it was, and has still to be.
            after: Returns the rotation for the result of the effect, 0 where there is none.
            obj: What the record says; where it has a token it is one of a step, else of a person's change.
            effect: Drafts what happens to the secret.

        Raises:
            AccessDenied: The caller may not rotate the secret.
            RotationBusy: The rotation was changed meanwhile, or the secret moved.
        """
        record, path = stored.rotation.record, stored.rotation.path
        encoded, is_step = path_to_bytes(path), "token" in obj

        def draft(drafts: Drafts) -> Plan:
            if drafts.record(encoded) != record or drafts.document(document_path(record))[0] != stored.number:
                raise _busy(path)
            plan = Plan(result=0)
            if effect is not None:
                drafted = effect(drafts)
                plan.join(drafted)
                plan.result = drafted.result
            rotation = after(_number(plan))
            written = drafts.supersede(document_path(record), encode_rotation(rotation), self._new(stored.number))
            plan.join(written)
            plan.result = done = Stored(rotation, _number(written))
            # Whoever is at work tells when he begins, for he may die of it, and when he ends; a person always does.
            is_midway = rotation.holder is not None and rotation.holder == stored.rotation.holder
            return plan if is_step and is_midway else self._told(drafts, plan, done)

        event = Event.ROTATION_STEPPED if is_step else Event.ROTATION_SET
        wanted = WantedChange((("rotate", path),), draft, event, lambda result: _described(obj, result))
        return self._apply(wanted, path)

    def verify_place(self, rotation: Rotation) -> None:
        """Check that the secret is where the rotation says, as of the state that was read last.

        Raises:
            RotationBusy: It was moved; there may be another secret now.
        """
        entry = self._opened.entry(path_to_bytes(rotation.path))
        if entry is None or entry.rec_id != rotation.record:
            raise _busy(rotation.path)

    def acknowledge(self, stored: Stored, after: Rotation, version: int) -> Stored:
        """Store that a consumer has a version, which needs the right to read it.

        Raises:
            AccessDenied: The caller may not read the secret.
            RotationBusy: The rotation was changed meanwhile.
        """
        path = stored.rotation.path

        def draft(drafts: Drafts) -> Plan:
            if drafts.document(document_path(stored.rotation.record))[0] != stored.number:
                raise _busy(path)
            new = self._new(stored.number)
            plan = drafts.supersede(document_path(stored.rotation.record), encode_rotation(after), new)
            return self._told(drafts, plan, Stored(after, _number(plan)))

        obj = {"path": path, "ver": version}
        return self._apply(WantedChange((("read", path),), draft, Event.ROTATION_ACKNOWLEDGED, lambda _: obj), path)

    def remove(self, stored: Stored, *, releases: bool = False) -> None:
        """End a rotation; the secret stays as it is.

        Args:
            stored: What it was, and has still to be.
            releases: Whether its candidate becomes a version like any other, which no later rotation deletes.

        Raises:
            AccessDenied: The caller may not rotate the secret.
            RotationBusy: The rotation was changed meanwhile.
        """
        rotation = stored.rotation
        name = document_path(rotation.record)

        def draft(drafts: Drafts) -> Plan:
            if drafts.document(name)[0] != stored.number:
                raise _busy(rotation.path)
            plan = drafts.destroy(name, stored.number)
            if releases:
                plan.join(drafts.release_pending(path_to_bytes(rotation.path)))
            return self._told(drafts, plan, stored)

        obj = {"path": rotation.path, "rotator": rotation.rules.rotator}
        wanted = WantedChange((("rotate", rotation.path),), draft, Event.ROTATION_REMOVED, lambda _: obj)
        self._apply(wanted, rotation.path)

    def _told(self, drafts: Drafts, plan: Plan, stored: Stored) -> Plan:
        """Return the plan of a change, with news of it."""
        plan.join(draft_news(drafts, stored.rotation.record, self._new(None)))
        plan.result = stored
        return plan

    def _current(self, history: History, encoded: bytes) -> Version | None:
        if not history.current:
            return None
        version = history.find(history.current)
        if version is None:
            entry = self._opened.replica.index.get(encoded)
            if entry is None:
                return None
            version = self._opened.locate(encoded, entry, history.current).version
        return version if version.state != DESTROYED else None

    def _new(self, expect: int | None) -> NewVersion:
        return NewVersion(self._authority.identity.principal, self._opened.clock.now_ns(), expect=expect)

    def _apply(self, wanted: WantedChange, path: str = "") -> Stored:
        try:
            result = self._writes.apply(wanted)
        except StaleWrite:
            raise _busy(path) from None
        assert isinstance(result, Stored)  # noqa: S101 - what every draft here gives
        return result


def _number(plan: Plan) -> int:
    return plan.result if isinstance(plan.result, int) else 0


def _described(obj: Mapping[str, object], result: object) -> Mapping[str, object]:
    """Return what the record of a change says, of a step with the candidate that there is by then."""
    progress = result.rotation.progress if isinstance(result, Stored) else None
    return {**obj, "ver": progress.version} if "token" in obj and progress is not None and progress.version else obj


def _busy(path: str) -> RotationBusy:
    message = f"the rotation of `{path}` was changed in the same moment"
    return RotationBusy(message, hint="look at it with `securecfg rotation status`, and try again")
