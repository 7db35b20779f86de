"""Move the secrets of configuration files into a vault, and back.

An import takes four steps, each durable before the next one begins:

1. plan      find the secrets, compare with the vault, compute every new file; nothing is written
2. write     all secrets, the sealed undo material and the import's state, in one transaction of the vault
3. rewrite   each file as a whole, only if it still holds the bytes that were read
4. record    what became of each file

After an interruption between any two of them `resume_imports` goes on and `undo_import` goes back: the vault knows what
each file was and what it is to become, and every step may be taken twice.
"""

from __future__ import annotations

import json
import re
import stat
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from securecfg.clock import to_datetime
from securecfg.errors import Conflict, FileMissing, SecurecfgError, StoreFailed, UndoUnavailable, ValueTooLarge
from securecfg.files import read_bounded, write_atomically
from securecfg.secret import Secret
from securecfg.sources.detection import MAX_FILE_BYTES
from securecfg.sources.import_plan import ImportPlan, PlannedFile, Standing, plan_import, without_frames
from securecfg.sources.rewrite import apply_undo
from securecfg.vault.exposures import Exposures, Mark
from securecfg.vault.import_documents import FINISHED, FileState, Import, ImportedFile, ImportedSecret, ImportState
from securecfg.vault.imports import Imports

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from securecfg.vault import Vault

    Progress = Callable[[int, int], None]

__all__ = [
    "ImportOutcome",
    "ImportPlan",
    "ImportState",
    "Observer",
    "PlannedFile",
    "Standing",
    "apply_import",
    "confirm_import",
    "find_import",
    "import_secrets",
    "list_imports",
    "plan_import",
    "resume_imports",
    "shown_path",
    "undo_import",
]

# References may be longer than what they replace.
_REWRITTEN_BYTES_MAX = 4 * MAX_FILE_BYTES
_LEFTOVER = re.compile(r"\.(.+)\.[0-9a-f]{12}\.tmp")
_RESUME_HINT = "`securecfg import --resume` goes on, `securecfg import --undo` takes it back; nothing is lost"


class Observer(Protocol):
    """Learns of each step of an import as it is taken."""

    def __call__(self, step: str, file: str, /) -> None:
        """Take note.

        Args:
            step: `planned`, `marked`, `rewriting`, `rewritten`, `applied`; on the way back `undoing`, `restoring`,
                `restored`, `undone`. A file is about to change at `rewriting` and `restoring`; all else is durable.
            file: Which file, at the steps that are about one.
        """
        ...


@dataclass(frozen=True, slots=True)
class ImportOutcome:
    """What became of an import.

    Attributes:
        import_id: Its name, for `undo_import` and `confirm_import`.
        state: How far it is.
        secrets: How many secrets were moved, or moved back.
        files: The files that were rewritten or restored.
        problems: Why other files were not.
        kept: Paths that stay in the vault after an undo: they have a newer version, or other files refer to them.
        is_undo: The files were restored, or some of them.
    """

    import_id: str
    state: ImportState
    secrets: int
    files: tuple[str, ...]
    problems: tuple[SecurecfgError, ...] = ()
    kept: tuple[str, ...] = ()
    is_undo: bool = False


def import_secrets(
    vault: Vault, paths: Iterable[str | os.PathLike[str]], *, prefix: str = "", history: bool = False
) -> ImportOutcome | None:
    """Move the secrets of files and folders into a vault and leave references in their place.

    What `plan_import` would show is done at once; to see it first, call that and then `apply_import`.

    Args:
        vault: Where to.
        paths: Files, and folders with all below them.
        prefix: What every path in the vault begins with.
        history: Whether to look through git history for each value, and to mark those that stand there.

    Returns:
        What became of it, or None where there is nothing to move.

    Raises:
        As for `plan_import` and `apply_import`.
        SecurecfgError: The first file that cannot be read or rewritten; then nothing is changed.
        Conflict: The vault holds something else at a path; then nothing is changed.
    """
    plan = plan_import(vault, paths, prefix=prefix, history=history)
    if plan.problems:
        raise plan.problems[0]
    if plan.conflicts:
        message = f"the vault holds something else at `{plan.conflicts[0].path}`"
        raise Conflict(message, hint="import under another prefix, or write the new value with `Vault.write`")
    return apply_import(vault, plan)


def apply_import(
    vault: Vault, plan: ImportPlan, *, observe: Observer | None = None, progress: Progress | None = None
) -> ImportOutcome | None:
    """Do what a plan says.

    Args:
        vault: The vault that it was made for.
        plan: What to do.
        observe: Learns of each step.
        progress: Called with the number of files that are done, and of all.

    Returns:
        What became of it, or None where there is nothing to move. A file that changed since it was read is left, and
        is among the outcome's problems.

    Raises:
        AccessDenied: The caller may not write one of the paths; nothing was changed.
        StaleWrite: Somebody wrote one of the paths meanwhile; nothing was changed.
        StoreFailed: A file cannot be written. The secrets are in the vault, and `resume_imports` goes on.
        CommitUnknown, StoreBusy: As for `Vault.write`.
    """
    if not plan.findings:
        return None
    imports = Imports(vault.authority)
    index_of = {file.name: index for index, file in enumerate(plan.files)}
    file_of = {finding.path: index_of[finding.file] for finding in plan.findings}
    now = to_datetime(vault.opened.clock.now_ns())
    planned = Import(
        import_id=f"{now:%Y%m%d-%H%M%S-%f}",
        state=ImportState.PLANNED,
        created=now,
        author=vault.principal,
        files=tuple(ImportedFile(file.path) for file in plan.files),
        secrets=tuple(
            ImportedSecret(path, standing.version, file_of[path], is_own=not standing.is_same)
            for path, standing in plan.standings.items()
        ),
        marks=tuple(_marks(plan)),
    )
    own = {secret.path: plan.values[secret.path] for secret in planned.secrets if secret.is_own}
    undo = Secret(json.dumps([file.undo.reveal().decode() for file in plan.files], ensure_ascii=False))
    redo = Secret(json.dumps([file.redo.decode() for file in plan.files], ensure_ascii=False))
    return _Runner(vault, imports.add(planned, own, undo, redo), observe, progress).go_on()


def resume_imports(
    vault: Vault, *, observe: Observer | None = None, progress: Progress | None = None
) -> list[ImportOutcome]:
    """Finish what was interrupted: imports of which files are not rewritten yet, and undos.

    An import on whose paths the caller has not the rights that are needed is left to others.

    Returns:
        What became of each.

    Raises:
        StoreFailed: A file cannot be written; everything before it is done.
        CommitUnknown, StoreBusy: As for `Vault.write`.
    """
    imports = Imports(vault.authority)
    outcomes = []
    for each in imports.visible():
        if each.state is ImportState.PLANNED and imports.may("write", each):
            outcomes.append(_Runner(vault, each, observe, progress).go_on())
        elif each.state is ImportState.UNDOING and imports.may("read", each) and imports.may("delete", each):
            outcomes.append(_Runner(vault, each, observe, progress).go_back())
    imports.sweep()
    return outcomes


def undo_import(
    vault: Vault, import_id: str | None = None, *, observe: Observer | None = None, progress: Progress | None = None
) -> ImportOutcome:
    """Restore the files of an import byte for byte, and delete what it wrote where that is still current.

    Restoring puts values back into files, so it is recorded as reading them.

    Args:
        vault: Where to.
        import_id: Which import; None for the newest that is not finished.
        observe: Learns of each step.
        progress: Called with the number of files that are done, and of all.

    Returns:
        What became of it. A file that changed since, or is gone, is left with its references, which stay in the vault;
        it is among the outcome's problems, and the undo may be called again.

    Raises:
        UndoUnavailable: There is no such import, or it was confirmed or undone.
        AccessDenied: The caller may not read and delete one of the paths.
        AuditUnavailable: The reads cannot be recorded.
        StoreFailed: A file cannot be written; `resume_imports` goes on.
        CommitUnknown, StoreBusy: As for `Vault.write`.
    """
    return _Runner(vault, find_import(vault, import_id, "undone"), observe, progress).go_back()


def confirm_import(vault: Vault, import_id: str | None = None) -> ImportOutcome:
    """Destroy the undo material of an import: it can never be taken back.

    Args:
        vault: Where it is.
        import_id: Which import; None for the newest that is not finished.

    Raises:
        UndoUnavailable: There is no such import, or it was confirmed or undone.
        Conflict: It was interrupted and is not finished.
        AccessDenied: The caller may not write one of the paths.
        DestroyPending: It is gone from the vault, but its bytes may lie in the write-ahead log until another reader
            lets go; the next opener finishes.
        CommitUnknown, StoreBusy, StoreFailed: As for `Vault.write`.
    """
    chosen = find_import(vault, import_id, "confirmed")
    if chosen.state is not ImportState.APPLIED:
        message = f"the import `{chosen.import_id}` was interrupted"
        raise Conflict(message, hint=_RESUME_HINT)
    return _outcome(Imports(vault.authority).confirm(chosen), FileState.REWRITTEN)


def list_imports(vault: Vault) -> list[Import]:
    """Return the imports of which the caller may list a path, oldest first.

    Raises:
        NotAuthenticated: Nobody says who asks.
    """
    return Imports(vault.authority).visible()


class _Runner:
    """Takes the steps of one import that are left, in either direction."""

    def __init__(self, vault: Vault, of: Import, observe: Observer | None, progress: Progress | None) -> None:
        self._vault = vault
        self._imports = Imports(vault.authority)
        self._import = of
        self._observe = observe or _nobody
        self._progress = progress or _nothing

    def go_on(self) -> ImportOutcome:
        """Rewrite the files that are not yet."""
        self._observe("planned", "")
        marks = [_mark(self._import, mark) for mark in self._import.marks]
        if marks:
            Exposures(self._vault.authority).mark(marks)
            self._observe("marked", "")
        changes = self._imports.redo_material(self._import)
        files, problems = self._change((FileState.PENDING,), FileState.REWRITTEN, changes)
        try:
            after = self._imports.apply(self._import, files)
        except Conflict:
            after = self._finished_elsewhere()
        self._observe("applied", "")
        return _outcome(after, FileState.REWRITTEN, problems)

    def go_back(self) -> ImportOutcome:
        """Restore the files that are not yet, then delete what nothing refers to."""
        self._import = self._imports.begin_undo(self._import)
        self._observe("undoing", "")
        changes = self._imports.undo_material(self._import)
        files, problems = self._change((FileState.PENDING, FileState.REWRITTEN), FileState.RESTORED, changes)
        after, kept = self._imports.end_undo(self._import, files)
        self._observe("undone", "")
        return replace(_outcome(after, FileState.RESTORED, problems), kept=tuple(kept), is_undo=True)

    def _finished_elsewhere(self) -> Import:
        """Return the import as another process has finished it: whoever resumes does what the first one does.

        Raises:
            Conflict: It did something else with it.
        """
        now = next((each for each in self._imports.visible() if each.import_id == self._import.import_id), None)
        if now is None or now.state is not ImportState.APPLIED:
            message = f"another process has taken the import `{self._import.import_id}` back"
            raise Conflict(message, hint="`securecfg import --list` shows how far it is")
        return now

    def _change(
        self, before: Sequence[FileState], after: FileState, material: Secret[str]
    ) -> tuple[list[ImportedFile], list[SecurecfgError]]:
        """Change the files, as many as can be; what cannot be written ends this once the others are done."""
        files = list(self._import.files)
        problems: list[SecurecfgError] = []
        failure: StoreFailed | None = None
        changes = [Secret(change.encode()) for change in json.loads(material.reveal())]
        _remove_leftovers([Path(file.path) for file in files if file.state in before])
        for index, change in enumerate(changes):
            file = files[index]
            if file.state in before:
                try:
                    self._change_file(index, change, after)
                    files[index] = replace(file, state=after)
                except StoreFailed as error:
                    failure = failure or error
                except (Conflict, FileMissing, ValueTooLarge) as error:
                    problems.append(error)
                    if after is FileState.REWRITTEN:
                        files[index] = replace(file, state=FileState.LEFT)
            self._progress(index + 1, len(changes))
        if failure is not None:
            failure.hint = _RESUME_HINT
            raise failure
        return files, problems

    def _change_file(self, index: int, change: Secret[bytes], after: FileState) -> None:
        path = self._import.files[index].path
        if Path(path).exists() and not Path(path).is_file():  # opening a pipe would wait for ever
            message = f"`{shown_path(path)}` is no regular file any more"
            raise Conflict(message, hint="put it back and try again")
        current = Secret(read_bounded(path, _REWRITTEN_BYTES_MAX))
        content = _applied(change, current)
        if content is None:
            message = f"`{shown_path(path)}` has changed since its secrets were found; it was left as it is"
            if after is FileState.REWRITTEN:
                raise Conflict(message, hint="import it again")
            raise UndoUnavailable(message, hint="put its values back by hand: `securecfg secret get PATH --reveal`")
        if content != current:
            if after is FileState.RESTORED:
                self._verify_not_destroyed(index)
            doing, done = ("rewriting", "rewritten") if after is FileState.REWRITTEN else ("restoring", "restored")
            self._observe(doing, path)
            _replace_file(Path(path), content)
            self._observe(done, path)

    def _verify_not_destroyed(self, index: int) -> None:
        """Refuse to bring back what somebody destroyed on purpose."""
        for secret in self._import.of_file(index):
            if self._imports.is_destroyed(secret):
                path = shown_path(self._import.files[index].path)
                message = f"`{path}` was not restored: version {secret.version} of `{secret.path}` was destroyed"
                raise UndoUnavailable(message, hint="write the value into the file by hand if you still know it")


def shown_path(path: str) -> str:
    """Return a file's path as people know it: relative to where they are, if it lies below."""
    here = Path.cwd()
    return str(Path(path).relative_to(here)) if Path(path).is_relative_to(here) else path


def find_import(vault: Vault, import_id: str | None, done: str) -> Import:
    """Return an import that is not finished.

    Args:
        vault: Where it is.
        import_id: Which import; None for the newest that is not finished.
        done: What is to be done with it, for the message.

    Raises:
        UndoUnavailable: There is no such import, or it was confirmed or undone.
        NotAuthenticated: Nobody says who asks.
    """
    imports = list_imports(vault)
    hint = "`securecfg import --list` shows the imports"
    if import_id is None:
        chosen = next((each for each in reversed(imports) if each.state not in FINISHED), None)
        if chosen is None:
            message = f"there is no import that could be {done}"
            raise UndoUnavailable(message, hint=hint)
        return chosen
    chosen = next((each for each in imports if each.import_id == import_id), None)
    if chosen is None:
        message = "there is no such import"
        raise UndoUnavailable(message, hint=hint)
    if chosen.state in FINISHED:
        message = f"the import `{import_id}` is {chosen.state} and cannot be {done}"
        raise UndoUnavailable(message, hint=hint)
    return chosen


def _outcome(of: Import, state: FileState, problems: Sequence[SecurecfgError] = ()) -> ImportOutcome:
    chosen = {index for index, file in enumerate(of.files) if file.state is state}
    return ImportOutcome(
        of.import_id,
        of.state,
        sum(secret.file in chosen for secret in of.secrets),
        tuple(file.path for file in of.files if file.state is state),
        tuple(problems),
    )


def _marks(plan: ImportPlan) -> Iterable[dict[str, object]]:
    for finding in plan.findings:
        exposure = plan.exposures.get(finding.target)
        if exposure is not None:
            yield {
                "path": finding.path,
                "field": finding.field,
                "commit": exposure.commit,
                "since": exposure.committed.isoformat(),
                "file": exposure.path,
            }


def _mark(of: Import, mark: Mapping[str, Any]) -> Mark:
    version = next(secret.version for secret in of.secrets if secret.path == mark["path"])
    since = datetime.fromisoformat(mark["since"])
    return Mark(mark["path"], mark["field"], version, mark["commit"], since, mark["file"])


def _applied(change: Secret[bytes], current: Secret[bytes]) -> Secret[bytes] | None:
    """Return what a file becomes, or None where it is not what the change is for."""
    try:
        return Secret(apply_undo(current.reveal(), change.reveal()))
    except UndoUnavailable:
        return None


def _replace_file(path: Path, content: Secret[bytes]) -> None:
    try:
        write_atomically(path, content.reveal(), mode=stat.S_IMODE(path.stat().st_mode))
        return
    except StoreFailed as caught:
        error = without_frames(caught)
    except OSError as gone:
        error = StoreFailed(f"cannot write `{path}`: {gone.strerror}")
    raise error


def _remove_leftovers(files: Iterable[Path]) -> None:
    """Remove what a killed process may have left of its attempts to replace some files."""
    names: dict[Path, set[str]] = defaultdict(set)
    for file in files:
        names[file.parent].add(file.name)
    for folder, known in names.items():
        with suppress(OSError):
            for entry in folder.iterdir():
                match = _LEFTOVER.fullmatch(entry.name)
                if match is not None and match[1] in known:
                    entry.unlink()


def _nobody(_step: str, _file: str, /) -> None:
    """Nobody watches."""


def _nothing(_done: int, _total: int) -> None:
    """Nothing is shown."""
