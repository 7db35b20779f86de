"""Move the secrets of configuration files into a vault, and back.

An import takes four steps, each durable before the next one begins:

1. plan      find the secrets, compare with the vault, compute every new file; nothing is written
2. write     all secrets, the sealed undo material and the import's state, in one transaction of the vault
3. rewrite   each file as a whole, only if it still holds the bytes that were read
4. record    what became of each file

Secrets that go to several parts of a vault, itself and its sealed scopes, are an import in each of them with one name,
the undo material of each sealed where its secrets lie. A file with secrets of several is rewritten in a step for each,
in the order of their paths, and restored in the other order.

After an interruption between any two of them `resume_imports` goes on and `undo_import` goes back: the vault knows what
each file was and what it is to become, and every step may be taken twice.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from securecfg.clock import to_datetime
from securecfg.errors import Conflict, SecurecfgError, UndoUnavailable
from securecfg.secret import Secret
from securecfg.sources.import_plan import ImportPlan, PlannedFile, Standing, plan_import
from securecfg.sources.import_run import RESUME_HINT, ImportOutcome, ImportRun, Observer, outcome_of, shown_path
from securecfg.vault.imports.documents import FINISHED, FileState, Import, ImportedFile, ImportedSecret, ImportState
from securecfg.vault.imports.steps import Imports

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

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
        vault: The vault that it was made for, open by the same key.
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
    part_of = {scope: vault.part_of(path)[1] for path, scope in plan.parts.items()}
    first = next(iter(part_of.values()))
    now = to_datetime(first.opened.clock.now_ns())
    runs: list[ImportRun] = []
    try:
        for scope, part in sorted(part_of.items()):
            added = _add(part, plan, scope, now)
            runs.append(ImportRun(part, added, observe, progress))
    except BaseException:
        # Nothing was rewritten, so nothing is left of the parts before.
        for run in reversed(runs):
            with suppress(SecurecfgError):
                run.go_back()
        raise
    return _joined([run.go_on() for run in runs])


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
    outcomes = []
    placed = _placed(vault)
    for part, each in placed:
        if each.state is ImportState.PLANNED and Imports(part.authority).may("write", each):
            outcomes.append(ImportRun(part, each, observe, progress).go_on())
    for part, each in reversed(placed):
        imports = Imports(part.authority)
        if each.state is ImportState.UNDOING and imports.may("read", each) and imports.may("delete", each):
            outcomes.append(ImportRun(part, each, observe, progress).go_back())
    for _, part in vault.parts():
        Imports(part.authority).sweep()
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
    chosen = _unfinished(vault, find_import(vault, import_id, "undone").import_id)
    planned = [(part, each) for part, each in chosen if each.state is ImportState.PLANNED]
    if planned and len(chosen) > 1:
        # A file goes back through the steps that it came by, so it first takes those that are missing.
        for part, each in planned:
            ImportRun(part, each, observe, progress).go_on()
        chosen = _unfinished(vault, chosen[0][1].import_id)
    outcomes: list[ImportOutcome] = []
    for part, each in reversed(chosen):
        outcomes.append(ImportRun(part, each, observe, progress).go_back())
        if outcomes[-1].problems:
            break  # the steps before are restored once this one is
    return _joined(outcomes)


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
    chosen = _unfinished(vault, find_import(vault, import_id, "confirmed").import_id)
    if any(each.state is not ImportState.APPLIED for _, each in chosen):
        message = f"the import `{chosen[0][1].import_id}` was interrupted"
        raise Conflict(message, hint=RESUME_HINT)
    return _joined([outcome_of(Imports(part.authority).confirm(each), FileState.REWRITTEN) for part, each in chosen])


def list_imports(vault: Vault) -> list[Import]:
    """Return the imports of which the caller may list a path, oldest first; one of several parts of a vault for each.

    Raises:
        NotAuthenticated: Nobody says who asks.
    """
    return [each for _, each in _placed(vault)]


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


def _placed(vault: Vault) -> list[tuple[Vault, Import]]:
    """Return the imports that the caller sees, each with the part of the vault that it lies in, oldest first."""
    found = [
        (each.import_id, scope, part, each)
        for scope, part in vault.parts()
        for each in Imports(part.authority).visible()
    ]
    return [(part, each) for _, _, part, each in sorted(found, key=lambda one: one[:2])]


def _unfinished(vault: Vault, import_id: str) -> list[tuple[Vault, Import]]:
    """Return what of an import is not finished, in the order of its steps."""
    return [(part, each) for part, each in _placed(vault) if each.import_id == import_id and each.state not in FINISHED]


def _add(part: Vault, plan: ImportPlan, scope: str, now: datetime) -> Import:
    """Write into one part of a vault what goes there, with what takes it back and lets it go on."""
    files = [file for file in plan.files if file.part == scope]
    index_of = {file.name: index for index, file in enumerate(files)}
    file_of = {finding.path: index_of[finding.file] for finding in plan.findings if plan.parts[finding.path] == scope}
    planned = Import(
        import_id=f"{now:%Y%m%d-%H%M%S-%f}",
        state=ImportState.PLANNED,
        created=now,
        author=part.principal,
        files=tuple(ImportedFile(file.path) for file in files),
        secrets=tuple(
            ImportedSecret(path, standing.version, file_of[path], is_own=not standing.is_same)
            for path, standing in plan.standings.items()
            if plan.parts[path] == scope
        ),
        marks=tuple(_marks(plan, scope)),
    )
    own = {secret.path: plan.values[secret.path] for secret in planned.secrets if secret.is_own}
    undo = Secret(json.dumps([file.undo.reveal().decode() for file in files], ensure_ascii=False))
    redo = Secret(json.dumps([file.redo.decode() for file in files], ensure_ascii=False))
    return Imports(part.authority).add(planned, own, undo, redo)


def _joined(outcomes: Sequence[ImportOutcome]) -> ImportOutcome:
    """Return what became of an import in several parts of a vault as one."""
    last = outcomes[-1]
    states = {outcome.state for outcome in outcomes}
    return replace(
        last,
        state=last.state if len(states) == 1 else next(state for state in ImportState if state in states),
        secrets=sum(outcome.secrets for outcome in outcomes),
        files=tuple(dict.fromkeys(file for outcome in outcomes for file in outcome.files)),
        problems=tuple(problem for outcome in outcomes for problem in outcome.problems),
        kept=tuple(path for outcome in outcomes for path in outcome.kept),
    )


def _marks(plan: ImportPlan, scope: str) -> Iterable[dict[str, object]]:
    for finding in plan.findings:
        exposure = plan.exposures.get(finding.target)
        if exposure is not None and plan.parts[finding.path] == scope:
            yield {
                "path": finding.path,
                "field": finding.field,
                "commit": exposure.commit,
                "since": exposure.committed.isoformat(),
                "file": exposure.path,
            }
