"""The steps of an import in the vault: each is one transaction with its record, and of two processes one takes it."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from securecfg.audit import Event
from securecfg.errors import Conflict, IntegrityError, StaleWrite, StoreBusy, UndoUnavailable, Unsupported
from securecfg.secret import Secret
from securecfg.vault.authority import RECORDS_AT_ONCE
from securecfg.vault.commits.maintenance import finish_destruction
from securecfg.vault.commits.publishing import Plan, new_request_id, no_writer
from securecfg.vault.commits.staging import StagingArea, StagingMoved
from securecfg.vault.documents import decode_document, parsing, read_shaped
from securecfg.vault.drafts import Drafts, NewVersion
from securecfg.vault.imports.documents import (
    DETAILS,
    FINISHED,
    MATERIAL,
    REDO,
    STEPS,
    UNDO,
    FileState,
    Import,
    ImportState,
    describe,
    document_path,
    encode_details,
    encode_state,
    json_content,
    parse_import,
    split,
    value_content,
)
from securecfg.vault.index.history import DESTROYED
from securecfg.vault.index.in_memory import prefix_end
from securecfg.vault.paths import IMPORTS, path_to_bytes
from securecfg.vault.state.head import FLAG_DESTRUCTION_PENDING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from securecfg.audit import Record
    from securecfg.vault.authority import Authority, Stamp
    from securecfg.vault.commits.publishing import Publication
    from securecfg.vault.imports.documents import ImportedFile, ImportedSecret
    from securecfg.vault.index.history import Version
    from securecfg.vault.index.segments import Entry
    from securecfg.vault.opened import Located
    from securecfg.vault.values import Plain

_PIECES_AT_ONCE = 8
_DELETES_AT_ONCE = 6  # the history of each may be as long as a row can be
_RETRIES = 16
_ITEMS_IN_RECORD_BYTES = 16_384


class Imports:
    """The imports of a vault, as one identity may see and change them.

    Args:
        authority: Decides and records for it.
    """

    def __init__(self, authority: Authority) -> None:
        """Change nothing yet."""
        self._authority = authority
        self._opened = authority.opened

    # --- seeing ------------------------------------------------------------------------------------------------------

    def visible(self) -> list[Import]:
        """Return the imports that the caller made or may list a path of, oldest first.

        Raises:
            NotAuthenticated: Nobody says who asks.
            Tampered: A document is damaged.
        """
        imports = self._all()
        paths = {secret.path for each in imports for secret in each.secrets}
        listed = set(self._authority.filter_listed(sorted(paths)))
        own = self._authority.identity.principal
        return [each for each in imports if each.author == own or any(one.path in listed for one in each.secrets)]

    def may(self, action: str, of: Import) -> bool:
        """Return whether the caller may do something on every path of an import. Nothing is recorded.

        In a sealed scope, also whether the key at hand can: it writes there, and reads where that is asked.
        """
        replica = self._opened.replica
        if replica.seat is not None and not replica.seat.may_write:
            return False
        grants = replica.data_keys.grants
        if action == "read" and grants is not None and not grants.is_granted(grants.active):
            return False
        session = self._authority.session()
        return all(session.decide(action, secret.path).allowed for secret in of.secrets)

    def standing(self, path: str) -> tuple[int, int]:
        """Return the numbers of a path's newest and current versions, 0 for none. Writing to it would tell as much.

        Raises:
            InvalidPath: The path breaks the rules.
        """
        opened, encoded = self._opened, path_to_bytes(path)

        def read() -> tuple[int, int]:
            entry = opened.replica.index.get(encoded)
            if entry is None:
                return 0, 0
            history = opened.history(encoded, entry)
            return history.newest, history.current

        return opened.consistently(read)

    def is_destroyed(self, secret: ImportedSecret) -> bool:
        """Return whether the version that an import wrote was destroyed since."""
        opened, path = self._opened, path_to_bytes(secret.path)

        def read() -> bool:
            entry = opened.replica.index.get(path)
            return entry is not None and opened.locate(path, entry, secret.version).version.state == DESTROYED

        try:
            return opened.consistently(read)
        except KeyError:
            return False  # the path now holds another secret, which was moved there

    def lookalike(self, path: str) -> str | None:
        """Return an existing path that a new one looks like and that the caller may list, or None."""
        alike = self._opened.lookalikes.find(self._opened.replica.index, path_to_bytes(path))
        return alike if alike is not None and self._authority.filter_listed([alike]) else None

    def undo_material(self, of: Import) -> Secret[str]:
        """Return what `add` was given to take the import back. It holds the old secrets.

        For a caller that has recorded the reads that this amounts to: `begin_undo` does.

        Raises:
            UndoUnavailable: It was destroyed.
            Tampered: A document is damaged.
        """
        return self._read_pieces(document_path(of.import_id) + UNDO)

    def redo_material(self, of: Import) -> Secret[str]:
        """Return what `add` was given to go on.

        Raises:
            UndoUnavailable: It was destroyed.
            Tampered: A document is damaged.
        """
        return self._read_pieces(document_path(of.import_id) + REDO)

    # --- steps -------------------------------------------------------------------------------------------------------

    def add(self, planned: Import, values: Mapping[str, Plain], undo: Secret[str], redo: Secret[str]) -> Import:
        """Write the secrets, the undo material and the state of a new import in one transaction.

        Args:
            planned: The import; its own secrets carry the newest version that the plan has seen, 0 for none.
            values: The value of each of its own secrets.
            undo: What takes it back. It may hold the secrets.
            redo: What lets it go on. It does not.

        Raises:
            AccessDenied: The caller may not write one of the paths.
            StaleWrite: Somebody wrote one of the paths since it was planned.
            CommitUnknown, StoreBusy, StoreFailed: As for `Vault.write`.
        """
        contents = {path: value_content(value) for path, value in values.items()}
        result = planned

        def draft(drafts: Drafts, area: StagingArea) -> _Outcome:
            nonlocal result
            secrets = []
            for secret in planned.secrets:
                version = secret.version
                if secret.is_own:
                    new = self._new(expect=secret.version, is_lookalike_allowed=True)
                    version = _take(area, drafts.write(path_to_bytes(secret.path), contents[secret.path], new))
                secrets.append(replace(secret, version=version))
            result = replace(planned, secrets=tuple(secrets), revision=1)
            path = document_path(planned.import_id)
            for folder, document in ((DETAILS, encode_details(result)), (UNDO, undo), (REDO, redo)):
                for number, piece in enumerate(split(document)):
                    _take(area, drafts.write(path + folder + b"%06d" % number, piece, self._new(expect=0)))
            _take(area, drafts.write(path, json_content(encode_state(result)), self._new(expect=0)))
            items = [(secret.path, secret.version) for secret in secrets if secret.is_own]
            return _Outcome(items, lambda: [self._planned_record(result)])

        self._publish([("write", secret.path) for secret in planned.secrets], draft)
        return result

    def apply(self, of: Import, files: Sequence[ImportedFile]) -> Import:
        """Note that the files are rewritten, as far as their states say.

        Raises:
            AccessDenied: The caller may not write one of the paths.
            Conflict: Another process has taken a step with this import.
        """
        return self._advance(of, ImportState.APPLIED, "write", files)

    def begin_undo(self, of: Import) -> Import:
        """Record the reads that taking an import back amounts to, and note that it has begun.

        Raises:
            AccessDenied: The caller may not read and delete one of the paths.
            AuditUnavailable: The reads cannot be recorded.
            Conflict: Another process has taken a step with this import.
        """
        for secret in of.secrets:
            self._authority.require("delete", secret.path)
        session = self._authority.session()
        reads = []
        for secret in of.secrets:
            _, decision = self._authority.require("read", secret.path)
            obj = {"path": secret.path, "ver": secret.version}
            reads.append(session.record(Event.SECRET_READ, obj, decision=decision))
        if of.state is ImportState.UNDOING:
            self._authority.publish_records(reads)
            return of
        self._authority.publish_records(reads[RECORDS_AT_ONCE // 2 :])
        return self._advance(of, ImportState.UNDOING, "read", of.files, reads=reads[: RECORDS_AT_ONCE // 2])

    def end_undo(self, of: Import, files: Sequence[ImportedFile]) -> tuple[Import, Sequence[str]]:
        """Delete the versions that the restored files no longer refer to, and note what was restored.

        Returns:
            The import, and the paths that stay in the vault because they have a newer version or another import's
            files refer to them.

        Raises:
            AccessDenied: The caller may not delete one of the paths.
            Conflict: Another process has taken a step with this import.
        """
        done = (FileState.RESTORED, FileState.LEFT)
        freed = {index for index, file in enumerate(files) if file.state in done}
        fresh = {index for index in freed if of.files[index].state is not FileState.RESTORED}
        needed = self._needed_by_others(of)
        deletes: list[tuple[str, int]] = []
        kept: list[str] = []
        for secret in of.secrets:
            if not secret.is_own or secret.file not in fresh:
                continue
            _, current = self.standing(secret.path)
            if current == secret.version and (secret.path, secret.version) not in needed:
                deletes.append((secret.path, secret.version))
            elif current:
                kept.append(secret.path)
        if deletes:
            self._delete(deletes)
        state = ImportState.UNDONE if len(freed) == len(files) else ImportState.APPLIED
        obj = describe(of, (index for index in fresh if files[index].state is FileState.RESTORED))
        return self._advance(of, state, "delete", files, obj=obj), kept

    def confirm(self, of: Import) -> Import:
        """Destroy the undo material: from here on the import cannot be taken back.

        Raises:
            AccessDenied: The caller may not write one of the paths.
            Conflict: Another process has taken a step with this import.
            DestroyPending: The material is gone from the vault, but its bytes may lie in the write-ahead log until
                another reader lets go; the next opener finishes.
        """
        return self._advance(of, ImportState.CONFIRMED, "write", of.files)

    def release(self, path: str, version: int) -> None:
        """Destroy the undo material that still holds a version which is about to be destroyed.

        The imports that wrote it can then not be taken back. Whoever may destroy the version may do this.

        Raises:
            Conflict: Such an import is interrupted, and its material is needed to finish it.
            DestroyPending: As for `confirm`.
        """
        self._release(lambda secret: (secret.path, secret.version) == (path, version))

    def release_below(self, path: str) -> None:
        """Destroy the undo material that holds secrets which are about to be moved into another part of the vault.

        Args:
            path: A folder with its `/`, or the path of one secret.

        Raises:
            Conflict: Such an import is interrupted, and its material is needed to finish it.
            DestroyPending: As for `confirm`.
        """
        self._release(lambda secret: secret.path == path or (path.endswith("/") and secret.path.startswith(path)))

    def _release(self, holds: Callable[[ImportedSecret], bool]) -> None:
        for each in self._all():
            held = next((secret for secret in each.secrets if holds(secret)), None)
            if each.state in FINISHED or held is None:
                continue
            if each.state is not ImportState.APPLIED:
                message = (
                    f"the interrupted import `{each.import_id}` still holds version {held.version} of `{held.path}`"
                )
                raise Conflict(
                    message, hint="finish it with `securecfg import --resume`, or take it back with `--undo`"
                )
            self._advance(each, ImportState.CONFIRMED, "", each.files)

    def entries(self) -> dict[bytes, Entry]:
        """Return what tells the imports of a part from others, as of the state that was read last."""
        return dict(self._opened.replica.index.scan(IMPORTS, prefix_end(IMPORTS)))

    def sweep(self) -> None:
        """Destroy what a crash has left of the undo material of imports that are finished.

        Raises:
            DestroyPending: Its bytes may lie in the write-ahead log until another reader lets go.
            StoreBusy, StoreFailed: Some of it is still there; the next call goes on.
        """
        seat = self._opened.replica.seat
        if seat is not None and not seat.may_write:
            return  # it is left to who may
        for each in self._all():
            if each.state in FINISHED:
                self._destroy_material(each)

    # --- pieces ------------------------------------------------------------------------------------------------------

    def _advance(
        self,
        of: Import,
        state: ImportState,
        right: str,
        files: Sequence[ImportedFile],
        *,
        obj: Mapping[str, object] | None = None,
        reads: Sequence[Record] = (),
    ) -> Import:
        """Take one step: the state, its record and the end of the undo material, where it ends, in one transaction."""
        event = STEPS[of.state, state]
        after = replace(of, state=state, files=tuple(files), revision=of.revision + 1)
        records = list(reads)
        if event is not None:
            about = obj or describe(of, range(len(of.files)))
            records.append(self._authority.session().record(event, about))
        pieces = self._live_pieces(of)[:_PIECES_AT_ONCE] if state in FINISHED else []

        def plan(publication: Publication, verify: Callable[[], None]) -> Plan:
            verify()
            whole = self._plan_destruction(publication, pieces)
            new = self._new(expect=of.revision)
            try:
                step = Drafts(self._opened, publication).write(
                    document_path(of.import_id), json_content(encode_state(after)), new
                )
            except StaleWrite:
                message = f"another process works on the import `{of.import_id}`"
                raise Conflict(message, hint="`securecfg import --list` shows how far it is") from None
            whole.join(step)
            whole.records = records
            return whole

        def publish(verify: Callable[[], None]) -> None:
            for secret in of.secrets if right else ():
                self._authority.require(right, secret.path)
            self._opened.publisher.publish(lambda publication: plan(publication, verify))

        self._under_one_policy(publish)
        if pieces:
            self._destroy_material(after)
            finish_destruction(self._opened)
        return after

    def _delete(self, versions: Sequence[tuple[str, int]]) -> None:
        """Delete some versions, each with its record; what a crash leaves is deleted by the next call."""
        now = self._opened.clock.now_ns()
        for start in range(0, len(versions), _DELETES_AT_ONCE):
            part = versions[start : start + _DELETES_AT_ONCE]
            self._under_one_policy(partial(self._delete_part, part, now))

    def _delete_part(self, part: Sequence[tuple[str, int]], now_ns: int, verify: Callable[[], None]) -> None:
        records = []
        for path, version in part:
            session, decision = self._authority.require("delete", path)
            obj = {"path": path, "ver": version}
            records.append(session.record(Event.SECRET_DELETED, obj, decision=decision))

        def plan(publication: Publication) -> Plan:
            verify()
            whole = Plan(records=records)
            drafts = Drafts(self._opened, publication)
            for path, version in part:
                whole.join(drafts.delete(path_to_bytes(path), version, now_ns))
            return whole

        self._opened.publisher.publish(plan)

    def _destroy_material(self, of: Import) -> None:
        """Destroy what is left of the undo material of a finished import."""
        event = Event.IMPORT_UNDONE if of.state is ImportState.UNDONE else Event.IMPORT_CONFIRMED
        left = self._live_pieces(of)
        for start in range(0, len(left), _PIECES_AT_ONCE):
            part = left[start : start + _PIECES_AT_ONCE]

            def plan(publication: Publication, part: Sequence[bytes] = part) -> Plan:
                whole = self._plan_destruction(publication, part)
                obj = {"import": of.import_id, "count": len(part)}
                whole.records = [self._authority.session().record(event, obj)]
                return whole

            self._opened.publisher.publish(plan)
        if left:
            finish_destruction(self._opened)

    def _publish(self, rights: Sequence[tuple[str, str]], draft: Callable[[Drafts, StagingArea], _Outcome]) -> None:
        """Publish a draft of any size with its records, in one transaction."""
        opened = self._opened
        if opened.options.read_only:
            message = "the vault is open for reading only"
            raise Unsupported(message, hint="open it for writing")
        if opened.replica.seat is not None and not opened.replica.seat.may_write:
            raise no_writer()

        def publish(verify: Callable[[], None]) -> None:
            for action, path in rights:
                self._authority.require(action, path)
                opened.verify_own(path)
            area = StagingArea(opened)
            try:
                self._publish_staged(area, draft(Drafts(opened, area), area), verify)
            except BaseException as error:
                area.abandon()
                if isinstance(error, IntegrityError):
                    # Rows that another process replaced while they were read are no tampering.
                    area.verify_unmoved()
                raise

        self._under_one_policy(publish)

    def _under_one_policy(self, publish: Callable[[Callable[[], None]], None]) -> None:
        """Let something be decided on and published, anew where the policy changes in between.

        Args:
            publish: Decides and publishes; is given what raises, under the lock of the publication, where what decided
                is in force no longer.
        """
        opened = self._opened
        for _ in range(_RETRIES):
            opened.refresh()
            # Taken before the decisions, so that none of them is under an older policy.
            stamp = opened.policy_stamp()

            def verify(stamp: Stamp = stamp) -> None:
                if stamp != opened.policy_stamp():
                    message = "the policy changed meanwhile"
                    raise StagingMoved(message)

            try:
                publish(verify)
            except StagingMoved:
                continue
            return
        message = "other writers were faster every time"
        raise StoreBusy(message, hint="try again in a moment")

    def _publish_staged(self, area: StagingArea, outcome: _Outcome, verify: Callable[[], None]) -> None:
        request_id = new_request_id()
        items = list(outcome.items)
        obj: dict[str, object] = {"count": len(items)}
        if sum(2 * len(path.encode()) + 16 for path, _ in items) <= _ITEMS_IN_RECORD_BYTES:
            obj["items"] = [[path, version] for path, version in items]
        else:
            obj["parts"] = area.stage_parts(items)

        def make_records() -> list[Record]:
            records = outcome.make_records()
            if items:
                record = self._authority.session().record(Event.BATCH_WRITTEN, obj, request_id=request_id)
                records.insert(0, record)
            return records

        area.publish(make_records, verify, request_id)

    def _planned_record(self, of: Import) -> Record:
        return self._authority.session().record(Event.IMPORT_PLANNED, describe(of, range(len(of.files))))

    def _live_pieces(self, of: Import) -> Sequence[bytes]:
        folder = document_path(of.import_id) + MATERIAL
        return [path for path, entry in self._opened.entries(folder, prefix_end(folder)) if entry.live]

    def _new(self, *, expect: int, is_lookalike_allowed: bool = False) -> NewVersion:
        principal, now = self._authority.identity.principal, self._opened.clock.now_ns()
        return NewVersion(principal, now, expect=expect, is_lookalike_allowed=is_lookalike_allowed)

    def _all(self) -> list[Import]:
        self._opened.refresh()
        found = self._opened.entries(IMPORTS, prefix_end(IMPORTS))
        names = [path.removeprefix(IMPORTS) for path, entry in found if entry.live]
        return [self._read(name.decode()) for name in names if b"/" not in name]

    def _read(self, import_id: str) -> Import:
        path = document_path(import_id)
        state, version = self._opened.consistently(lambda: self._read_state(path))
        pieces = self._read_pieces(path + DETAILS)
        with parsing(self._opened, path):
            return parse_import(import_id, decode_document(state), json.loads(pieces.reveal()), version.number)

    def _read_state(self, path: bytes) -> tuple[bytes, Version]:
        version = self._locate(path).version
        return self._opened.system_bytes(path, version.number) or b"", version

    def _locate(self, path: bytes) -> Located:
        entry = self._opened.replica.index.get(path)
        if entry is None:
            message = "a document of an import is missing"
            raise IntegrityError(message)
        return self._opened.locate(path, entry, 0)

    def _read_pieces(self, folder: bytes) -> Secret[str]:
        opened = self._opened
        paths = [path for path, entry in opened.entries(folder, prefix_end(folder)) if entry.live]
        if not paths:
            message = "the undo material of this import was destroyed"
            raise UndoUnavailable(message, hint="`securecfg import --list` shows the imports")
        return Secret("".join(read_shaped(opened, path, str) for path in paths))

    def _needed_by_others(self, of: Import) -> set[tuple[str, int]]:
        return {
            (secret.path, secret.version)
            for other in self._all()
            if other.import_id != of.import_id and other.state is not ImportState.UNDONE
            for secret in other.secrets
            if other.files[secret.file].state in {FileState.PENDING, FileState.REWRITTEN}
        }

    def _plan_destruction(self, publication: Publication, pieces: Sequence[bytes]) -> Plan:
        whole = Plan()
        drafts = Drafts(self._opened, publication)
        for path in pieces:
            entry = publication.entry(path)
            if entry is not None and entry.live:
                whole.join(drafts.destroy(path, 1))
        if whole.changes:
            whole.state["flags"] = publication.state.flags | FLAG_DESTRUCTION_PENDING
        return whole


class _Outcome(NamedTuple):
    """What a draft of many changes came to: the versions it concerns, and its records besides the batch's own."""

    items: Sequence[tuple[str, int]]
    make_records: Callable[[], list[Record]]


def _take(area: StagingArea, plan: Plan) -> int:
    area.take(plan)
    return plan.result if isinstance(plan.result, int) else 0
