"""The steps of an import that change files: rewriting, restoring, and noting what became of each.

Every step may be taken twice, and is left to be taken again where it could not be finished.
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

from securecfg.errors import Conflict, FileMissing, SecurecfgError, StoreFailed, UndoUnavailable, ValueTooLarge
from securecfg.files import read_bounded, write_atomically
from securecfg.secret import Secret
from securecfg.sources.detection import MAX_FILE_BYTES
from securecfg.sources.import_plan import without_frames
from securecfg.sources.rewrite import apply_undo
from securecfg.vault.imports.documents import FileState, Import, ImportedFile, ImportState
from securecfg.vault.imports.exposures import Exposures, Mark
from securecfg.vault.imports.steps import Imports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from securecfg.vault import Vault

    Progress = Callable[[int, int], None]

RESUME_HINT = "`securecfg import --resume` goes on, `securecfg import --undo` takes it back; nothing is lost"

# References may be longer than what they replace.
_REWRITTEN_BYTES_MAX = 4 * MAX_FILE_BYTES
_LEFTOVER = re.compile(r"\.(.+)\.[0-9a-f]{12}\.tmp")


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


class ImportRun:
    """Takes the steps of one import that are left, in either direction.

    Args:
        vault: Where it is.
        of: Which import.
        observe: Learns of each step.
        progress: Called with the number of files that are done, and of all.
    """

    def __init__(self, vault: Vault, of: Import, observe: Observer | None, progress: Progress | None) -> None:
        """Take none yet."""
        self._vault = vault
        self._imports = Imports(vault.authority)
        self._import = of
        self._observe = observe or _nobody
        self._progress = progress or _nothing

    def go_on(self) -> ImportOutcome:
        """Rewrite the files that are not yet.

        Raises:
            AccessDenied: The caller may not write one of the paths.
            Conflict: Another process has taken the import back.
            StoreFailed: A file cannot be written; everything else is done.
        """
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
        return outcome_of(after, FileState.REWRITTEN, problems)

    def go_back(self) -> ImportOutcome:
        """Restore the files that are not yet, then delete what nothing refers to.

        Raises:
            AccessDenied: The caller may not read and delete one of the paths.
            AuditUnavailable: The reads cannot be recorded.
            Conflict: Another process has taken a step with the import.
            StoreFailed: A file cannot be written; everything else is done.
        """
        self._import = self._imports.begin_undo(self._import)
        self._observe("undoing", "")
        changes = self._imports.undo_material(self._import)
        files, problems = self._change((FileState.PENDING, FileState.REWRITTEN), FileState.RESTORED, changes)
        after, kept = self._imports.end_undo(self._import, files)
        self._observe("undone", "")
        return replace(outcome_of(after, FileState.RESTORED, problems), kept=tuple(kept), is_undo=True)

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
            failure.hint = RESUME_HINT
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


def outcome_of(of: Import, state: FileState, problems: Sequence[SecurecfgError] = ()) -> ImportOutcome:
    """Return what became of an import, as far as its files have come to a state."""
    chosen = {index for index, file in enumerate(of.files) if file.state is state}
    return ImportOutcome(
        of.import_id,
        of.state,
        sum(secret.file in chosen for secret in of.secrets),
        tuple(file.path for file in of.files if file.state is state),
        tuple(problems),
    )


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
