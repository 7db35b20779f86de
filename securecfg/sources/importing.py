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
from typing import TYPE_CHECKING

from securecfg.clock import to_datetime
from securecfg.errors import Conflict, UndoUnavailable
from securecfg.secret import Secret
from securecfg.sources.import_plan import ImportPlan, PlannedFile, Standing, plan_import
from securecfg.sources.import_run import RESUME_HINT, ImportOutcome, ImportRun, Observer, outcome_of, shown_path
from securecfg.vault.import_documents import FINISHED, FileState, Import, ImportedFile, ImportedSecret, ImportState
from securecfg.vault.imports import Imports

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable

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
    return ImportRun(vault, imports.add(planned, own, undo, redo), observe, progress).go_on()


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
            outcomes.append(ImportRun(vault, each, observe, progress).go_on())
        elif each.state is ImportState.UNDOING and imports.may("read", each) and imports.may("delete", each):
            outcomes.append(ImportRun(vault, each, observe, progress).go_back())
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
    return ImportRun(vault, find_import(vault, import_id, "undone"), observe, progress).go_back()


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
        raise Conflict(message, hint=RESUME_HINT)
    return outcome_of(Imports(vault.authority).confirm(chosen), FileState.REWRITTEN)


def list_imports(vault: Vault) -> list[Import]:
    """Return the imports of which the caller may list a path, oldest first.

    Raises:
        NotAuthenticated: Nobody says who asks.
    """
    return Imports(vault.authority).visible()


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
