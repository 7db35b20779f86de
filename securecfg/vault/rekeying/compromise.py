"""The worst day: everything that is in the vault may be known to somebody, and all of it is replaced (format 4.6).

One publication puts new keys of every kind in use. From then on whoever has the old ones reads nothing that is written;
then what is there is brought to the new keys, encrypted anew, and the old keys are erased. It may be interrupted
anywhere, and `resume` goes on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from securecfg.audit import Event
from securecfg.crypto import generate_key
from securecfg.errors import EpochInUse, IntegrityError, LastSlot, StoreBusy, VersionNotFound
from securecfg.keys import FIRST_ROOT_ROW, Purpose, Slot, root_row_of
from securecfg.vault.administrators.replacing import replace_exposed_key
from securecfg.vault.backups.notes import find_notes
from securecfg.vault.commits.epochs import plan_new_epoch, seal_root_to_all
from securecfg.vault.commits.maintenance import finish_destruction
from securecfg.vault.index.history import DESTROYED
from securecfg.vault.keys.changes import KeyChanges
from securecfg.vault.keys.departures import new_compromise, newest_compromise, note_compromise
from securecfg.vault.opened import REGISTRY_PATH
from securecfg.vault.paths import FIRST_USER_PATH
from securecfg.vault.scopes.making import changed_meanwhile
from securecfg.vault.scopes.registry import read_registry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from securecfg.policy import Decision
    from securecfg.vault.authority import Authority
    from securecfg.vault.backups.notes import BackupNote
    from securecfg.vault.commits.publishing import Plan, Publication
    from securecfg.vault.keys.departures import DeclaredCompromise
    from securecfg.vault.session import Session
    from securecfg.vault.trust.signatories import Signing

    Progress = Callable[[int, int], None]


_RETIRING_TRIES = 5
_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True)
class ExposedVersions:
    """A secret that was in the vault, with all versions that could be read.

    Attributes:
        path: The secret's path.
        versions: Their numbers, oldest first; deleted ones are among them, destroyed ones are not.
        is_live: Whether it has a current version.
    """

    path: str
    versions: tuple[int, ...]
    is_live: bool


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What was done, and what stays known or readable.

    Attributes:
        epoch: The epoch of the new scope key.
        slots: How many slots open the vault now.
        encrypted_count: How many secrets were encrypted anew, the vault's documents included.
        exposed: What could be read, as far as the caller may list it.
        backups: The backups that stay readable with their own keys.
    """

    epoch: int
    slots: int
    encrypted_count: int
    exposed: Sequence[ExposedVersions]
    backups: Sequence[BackupNote]


class Compromise:
    """What to do when all keys may be known, as one identity may do it.

    Args:
        authority: Decides and records for it.
        signing: Returns who signs for the administrators of sealed scopes, where these are people.
    """

    def __init__(self, authority: Authority, signing: Signing | None = None) -> None:
        """Change nothing yet."""
        self._authority = authority
        self._signing = signing
        self._opened = authority.opened

    def find_exposed(self) -> list[ExposedVersions]:
        """Return every version that can be read from the vault now, by path, as far as the caller may list it.

        Raises:
            AccessDenied: The caller may not `key.manage`.
            Tampered: A row does not match the signed state.
        """
        self._authority.require("key.manage", "")
        opened = self._opened
        opened.refresh()
        found = [
            each for path, _ in opened.entries(FIRST_USER_PATH, None) if (each := self._versions(path)) is not None
        ]
        listed = set(self._authority.filter_listed([each.path for each in found]))
        return [each for each in found if each.path in listed]

    def declare(self, *, reason: str = "", drops_slots: bool = False, progress: Progress | None = None) -> Aftermath:
        """Replace every key, encrypt everything anew, erase the old keys, and return what stays exposed.

        Who has the vault open goes on, unless the slot that they opened it with was dropped.

        Args:
            reason: Why, for the log and the list of what is exposed.
            drops_slots: Whether to remove every slot but the one that opened the vault here.
            progress: Called with how much of the present step was done, and of how much.

        Raises:
            AccessDenied: The caller may not `key.manage`.
            LastSlot: The slot that opened the vault may not speak for an administrator, and all others would go.
            Conflict: Somebody else changes the sealed scopes at the same moment; nothing was changed.
            DestroyPending: It is done, but old bytes may lie in the write-ahead log until another reader lets go; the
                next opener finishes.
            Tampered: Something was damaged, so that what could be read is not known in full; all keys are replaced.
            StoreBusy: Others change the vault so fast, or prepare a large change, that not all could be done: the new
                keys are in use, and `resume` goes on.
            SignaturesMissing: All is done but in the sealed scopes, whose administrators must sign; `resume` goes on.
            CommitUnknown, StoreFailed: As for `KeyChanges`; `resume` goes on.
        """
        exposed: list[ExposedVersions] = []
        damage: IntegrityError | None = None
        try:
            exposed = self.find_exposed()
        except IntegrityError as error:
            damage = error  # keys come first
        self.replace_keys(new_compromise(), reason, drops_slots=drops_slots)
        done = self.bring_over(newest_compromise(self._opened), exposed, progress)
        if damage is not None:
            raise damage
        return done

    def resume(self, progress: Progress | None = None) -> Aftermath:
        """Go on where `declare` was interrupted; it does no harm where it was not.

        Raises:
            VersionNotFound: No compromise was declared.
            As for `declare`.
        """
        return self.bring_over(newest_compromise(self._opened), self.find_exposed(), progress)

    # --- steps -------------------------------------------------------------------------------------------------------

    def replace_keys(self, name: str, reason: str, *, drops_slots: bool) -> None:
        """Put new keys of every kind in use, in one publication that says so. `bring_over` does the rest.

        Args:
            name: What the compromise is called, as `new_compromise` gives it.
            reason: Why.
            drops_slots: As for `declare`.

        Raises:
            AccessDenied, LastSlot, Conflict, CommitUnknown, StoreBusy, StoreFailed: As for `declare`.
        """
        opened = self._opened
        own = self._authority.identity.slot

        def plan(publication: Publication, session: Session, decision: Decision) -> Plan:
            replica = opened.replica
            slots, keyring = dict(replica.slots), replica.keyring
            dropped = self._dropped(own) if drops_slots else {}
            for row_id, slot_id in dropped.items():
                # Without a root they are no slots any more; `finish_destruction` deletes their rows.
                del slots[row_id], slots[root_row_of(row_id)]
                keyring = keyring.without_slot(slot_id)
            for purpose in (Purpose.SCOPE, Purpose.AUDIT, Purpose.MASKING):
                keyring = keyring.with_new_epoch(purpose, opened.clock.now_ns())
            obj: dict[str, object] = {"epoch": keyring.active(Purpose.SCOPE).epoch}
            obj |= {"reason": reason} if reason else {}
            obj |= {"removed": [slot_id.hex() for slot_id in dropped.values()]} if dropped else {}
            root = generate_key()
            sealed = seal_root_to_all(replica.vault_id, root, slots, keyring)
            plan = plan_new_epoch(self._authority, publication, sealed, keyring, root)
            # Of the records the first carries the changes of the index.
            plan.records.insert(0, session.record(Event.KEY_COMPROMISED, obj, decision=decision))
            author, scope_ids = session.identity.principal, self._scope_ids(publication)
            plan.join(note_compromise(opened, publication, name, reason, author, scope_ids=scope_ids))
            return plan

        self._authority.publish_allowed("key.manage", plan)

    def _scope_ids(self, publication: Publication) -> list[bytes]:
        """Return the ids of the scopes that the vault has, those included that are being made.

        Raises:
            Conflict: Somebody else changes which these are in the same publication.
        """
        if publication.entry(REGISTRY_PATH) != self._opened.entry(REGISTRY_PATH):
            raise changed_meanwhile()
        registry = read_registry(self._opened)
        places = [*registry.scopes.values(), *(making.place for making in registry.making.values())]
        return [place.scope_id for place in places]

    def _dropped(self, own: str) -> dict[int, bytes]:
        """Return the slots to drop by the ids of their rows.

        Raises:
            LastSlot: The one that stays may not speak for an administrator.
        """
        replica = self._opened.replica
        administrators = self._authority.session().policy.administrators()
        stays = replica.keyring.slot(bytes.fromhex(own))
        if not stays.may_speak_for_any(administrators):
            message = "the slot that opened the vault could not open it for an administrator if all others were gone"
            raise LastSlot(message, hint="open the vault with another key, or keep the slots")
        ids = {row_id: Slot.parse(row).slot_id for row_id, row in replica.slots.items() if row_id < FIRST_ROOT_ROW}
        return {row_id: slot_id for row_id, slot_id in ids.items() if slot_id != stays.slot_id}

    def bring_over(
        self, declared: DeclaredCompromise | None, exposed: Sequence[ExposedVersions], progress: Progress | None
    ) -> Aftermath:
        """Bring everything to the new keys, encrypt it anew, and erase the old ones.

        Args:
            declared: The compromise, as it is noted here; None where none is.
            exposed: What could be read, for the result.
            progress: As for `declare`.

        Raises:
            VersionNotFound: No compromise was declared.
            As for `declare`.
        """
        opened = self._opened
        changes = KeyChanges(self._authority)
        if declared is None:
            message = "no compromise was declared"
            raise VersionNotFound(message, hint="`securecfg key compromise` without `--resume` does")
        changes.carry_over(progress)
        count = changes.encrypt_older(declared.end, progress)
        self._retire(changes, progress)
        finish_destruction(opened)
        if opened.replica.seat is None:
            replace_exposed_key(self._authority, self._signing, progress)
        replica = opened.replica
        slots, epoch = len(replica.keyring.slots), replica.keyring.active(Purpose.SCOPE).epoch
        return Aftermath(epoch, slots, count, exposed, find_notes(opened))

    def _retire(self, changes: KeyChanges, progress: Progress | None) -> None:
        """Forget the old scope keys; what others prepared under them meanwhile is brought over first."""
        store = self._opened.store
        for attempt in range(1, _RETIRING_TRIES + 1):
            changes.carry_over(progress)
            try:
                changes.retire_older()
            except (StoreBusy, EpochInUse):
                if attempt == _RETIRING_TRIES:
                    raise
                store.wait(store.revision(), _PAUSE_S)
            else:
                return

    def _versions(self, path: bytes) -> ExposedVersions | None:
        opened = self._opened

        def look() -> ExposedVersions | None:
            entry = opened.replica.index.get(path)
            if entry is None:
                return None
            history = opened.history(path, entry)
            lines = list(history.versions)
            for page in range(len(history.older)):
                lines += opened.older_versions(history, page)
            numbers = sorted(line.number for line in lines if line.state != DESTROYED)
            return ExposedVersions(path.decode(), tuple(numbers), entry.live) if numbers else None

        return opened.consistently(look)
