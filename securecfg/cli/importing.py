"""`securecfg import`: move the secrets of configuration files into the vault, and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from securecfg.cli.groups import Verb
from securecfg.cli.invocation import Invocation, common_flags
from securecfg.cli.output import printable, shown_time, timestamp, write_lines
from securecfg.errors import ConfirmationRequired, Conflict, SettingMissing, UsageError
from securecfg.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from securecfg.errors import SecurecfgError
    from securecfg.sources.detection import Finding
    from securecfg.sources.importing import ImportOutcome, ImportPlan
    from securecfg.vault import Vault

_UNDO = "undo: securecfg import --undo"
_COMMIT_SHOWN = 10


@click.command(
    "import",
    cls=Verb,
    examples=(
        "securecfg import .env config/",
        "securecfg import config/ --dry-run               # the plan, and nothing else",
        "securecfg import .env config/ --history          # what stands in the git history too",
        "securecfg import --undo                          # the newest one; or name one of --list",
        "securecfg import --confirm                       # it works: destroy what --undo needs",
    ),
)
@click.argument("paths", nargs=-1, metavar="[FILE|DIR|IMPORT]...")
@click.option("--prefix", default="", metavar="PATH", help="What every path in the vault begins with.")
@click.option("--dry-run", is_flag=True, help="Show the plan and change nothing.")
@click.option("--history", is_flag=True, help="Look for the values in git history, and mark those that stand there.")
@click.option("--undo", "mode", flag_value="undo", help="Restore the files and delete what was written.")
@click.option("--resume", "mode", flag_value="resume", help="Finish what was interrupted.")
@click.option("--confirm", "mode", flag_value="confirm", help="Destroy the undo material, for ever.")
@click.option("--list", "mode", flag_value="list", help="Show the imports and how far they are.")
@common_flags
def import_(
    invocation: Invocation, *, paths: tuple[str, ...], prefix: str, dry_run: bool, history: bool, mode: str | None
) -> int:
    """Move the secrets of configuration files into the vault and leave references in their place.

    Everything else in the files stays as it is, to the byte. The plan is shown first. An import that is interrupted
    loses nothing: the next one, --resume or --undo goes on from there. Undoing works until it is confirmed.
    """
    if mode is None:
        if not paths:
            message = "no file or folder is named"
            raise UsageError(message, hint="for instance `securecfg import .env config/`")
        return _import(invocation, paths, prefix=prefix, dry_run=dry_run, history=history)
    if prefix or dry_run or history:
        message = f"`--{mode}` goes with none of `--prefix`, `--dry-run` and `--history`"
        raise UsageError(message)
    most = 1 if mode in {"undo", "confirm"} else 0
    if len(paths) > most:
        message = f"`--{mode}` takes {'at most one import' if most else 'nothing else'}"
        raise UsageError(message, hint="`securecfg import --list` shows the imports")
    chosen = paths[0] if paths else None
    with invocation.open() as vault:
        if mode == "undo":
            return _undo(invocation, vault, chosen)
        if mode == "confirm":
            return _confirm(invocation, vault, chosen)
        return _resume(invocation, vault) if mode == "resume" else _list(invocation, vault)


# --- moving -----------------------------------------------------------------------------------------------------------


def _import(invocation: Invocation, paths: Sequence[str], *, prefix: str, dry_run: bool, history: bool) -> int:
    from securecfg.sources.importing import plan_import

    if dry_run:
        try:
            with invocation.open() as vault:
                plan = _plan(invocation, vault, paths, prefix=prefix, history=history)
        except SettingMissing:
            plan = plan_import(None, paths, prefix=prefix, history=history)  # before the project has a vault
            invocation.note("note: no vault is named, so the plan is one for an empty vault")
        _show(invocation, plan, _summary(plan))
        _emit(invocation, plan, None)
        return _exit_code(plan, None)
    with invocation.open() as vault:
        _finish_earlier(invocation, vault)
        plan = _plan(invocation, vault, paths, prefix=prefix, history=history)
        for path in plan.standings:
            vault.authority_over(path).require("write", path)
        outcome = None
        if plan.findings:
            _ask(invocation, plan)
            outcome = _apply(invocation, vault, plan)
        else:
            _show(invocation, plan, _summary(plan))
    _emit(invocation, plan, outcome)
    return _exit_code(plan, outcome)


def _plan(invocation: Invocation, vault: Vault, paths: Sequence[str], *, prefix: str, history: bool) -> ImportPlan:
    from securecfg.sources.importing import plan_import

    with invocation.progress("searching the git history") as progress:
        return plan_import(vault, paths, prefix=prefix, history=history, progress=progress)


def _finish_earlier(invocation: Invocation, vault: Vault) -> None:
    from securecfg.sources.importing import resume_imports

    for outcome in resume_imports(vault):
        invocation.note(f"note: an earlier import was interrupted and is finished now: {_described(outcome)}")
        _note_problems(invocation, outcome.problems)


def _ask(invocation: Invocation, plan: ImportPlan) -> None:
    from securecfg.cli.prompts import ask_yes, is_somebody_there

    question = f"{_summary(plan)} Move them?"
    if invocation.is_confirmed:
        _show(invocation, plan, _summary(plan))
        return
    _show(invocation, plan, "")
    if invocation.is_silent or not is_somebody_there():
        message = "moving the secrets was not confirmed"
        raise ConfirmationRequired(message, hint="give `--yes`; `--dry-run` shows the plan")
    if not ask_yes(question, default=True):
        message = "nothing was changed"
        raise ConfirmationRequired(message, hint="answer `y` to move them")


def _apply(invocation: Invocation, vault: Vault, plan: ImportPlan) -> ImportOutcome | None:
    from securecfg.sources.importing import apply_import

    try:
        with invocation.progress("rewriting files") as progress:
            return apply_import(vault, plan, progress=progress)
    except KeyboardInterrupt:
        invocation.note("interrupted; nothing is lost: `securecfg import --resume` goes on, `--undo` takes it back")
        raise


def _show(invocation: Invocation, plan: ImportPlan, summary: str) -> None:
    """Print the plan; with `--json` it is a part of the result, and a person who is asked sees it on standard error."""
    from securecfg.cli.tables import SHORTEST, lay_out

    found = [_row(finding, plan) for finding in (*plan.findings, *plan.conflicts)]
    lines = lay_out(found, [(2, SHORTEST), (1, SHORTEST), (4, SHORTEST)]) if found else []
    if summary:
        lines.append(summary)
    if not invocation.is_json:
        write_lines(lines)
    elif not invocation.is_confirmed:
        for line in lines:
            invocation.note(line)
    for notice in plan.notices:
        place = f"{notice.file}:{notice.line}" if notice.line else notice.file
        invocation.note(printable(f"note: {place}: {f'{notice.key}: ' if notice.key else ''}{notice.text}"))
    _note_problems(invocation, plan.problems)
    if plan.conflicts:
        invocation.note("conflict: the vault holds something else there, or what you may not read; left in the files")
        invocation.note("hint: import them with `--prefix`, or write the new value with `securecfg secret put`")


def _row(finding: Finding, plan: ImportPlan) -> tuple[str, ...]:
    from datetime import UTC, datetime

    exposure = plan.exposures.get(finding.target)
    last = "conflict" if finding in plan.conflicts else ""
    if exposure is not None:
        days = counted(exposure.age(datetime.now(UTC)).days, "day")
        last = f"exposed since {exposure.commit[:_COMMIT_SHOWN]} ({days})"
    cells = (f"{finding.file}:{finding.line}", finding.key, f"{finding.why} ", f"-> {finding.target}", last)
    return tuple(printable(cell) for cell in cells)


def _summary(plan: ImportPlan) -> str:
    conflicts = f", {len(plan.conflicts)} in conflict" if plan.conflicts else ""
    return f"{len(plan.findings)} found, {plan.untouched} untouched{conflicts}."


def _emit(invocation: Invocation, plan: ImportPlan, outcome: ImportOutcome | None) -> None:
    problems = [*plan.problems, *(outcome.problems if outcome else ())]
    result: dict[str, Any] = {
        "import": outcome.import_id if outcome else None,
        "findings": [_finding(finding, plan) for finding in plan.findings],
        "conflicts": [_finding(finding, plan) for finding in plan.conflicts],
        "untouched": plan.untouched,
        "files": list(outcome.files) if outcome else [],
        "notices": [
            {"file": notice.file, "line": notice.line, "key": notice.key, "text": notice.text}
            for notice in plan.notices
        ],
        "problems": [_problem(problem) for problem in problems],
    }
    lines = [f"{_described(outcome)}    {_UNDO}"] if outcome else []
    invocation.emit(result, *lines)
    if outcome:
        _note_problems(invocation, outcome.problems)
        _note_named_only(invocation, outcome)


def _note_named_only(invocation: Invocation, outcome: ImportOutcome) -> None:
    from pathlib import Path

    from securecfg.cli.config_sources import named_only
    from securecfg.sources.importing import shown_path
    from securecfg.vault.settings import read_project

    files = named_only(read_project(Path.cwd()), outcome.files)
    if files:
        named = printable(", ".join(map(shown_path, files)))
        invocation.note(f"note: `securecfg run` loads `config/` and `.env`, and where `--config` names it: {named}")


def _finding(finding: Finding, plan: ImportPlan) -> dict[str, Any]:
    from datetime import UTC, datetime

    exposure = plan.exposures.get(finding.target)
    exposed = None
    if exposure is not None:
        exposed = {
            "commit": exposure.commit,
            "since": timestamp(exposure.committed),
            "days": exposure.age(datetime.now(UTC)).days,
            "file": exposure.path,
        }
    return {
        "file": finding.file,
        "line": finding.line,
        "column": finding.column,
        "key": finding.key,
        "why": finding.why,
        "confidence": finding.confidence.name.lower(),
        "path": finding.path,
        "field": finding.field or None,
        "exposed": exposed,
    }


def _exit_code(plan: ImportPlan, outcome: ImportOutcome | None) -> int:
    """Return 0 where everything asked for was done, else the code of what was not."""
    if plan.problems:
        return plan.problems[0].exit_code
    return Conflict.exit_code if plan.conflicts or (outcome and outcome.problems) else 0


# --- afterwards -------------------------------------------------------------------------------------------------------


def _undo(invocation: Invocation, vault: Vault, chosen: str | None) -> int:
    from securecfg.sources.importing import undo_import

    with invocation.progress("restoring files") as progress:
        outcome = undo_import(vault, chosen, progress=progress)
    for path in outcome.kept:
        invocation.note(f"note: {path} stays in the vault: it has a newer version, or other files refer to it")
    return _emit_outcomes(invocation, [outcome])


def _confirm(invocation: Invocation, vault: Vault, chosen: str | None) -> int:
    from securecfg.sources.importing import confirm_import, find_import

    found = find_import(vault, chosen, "confirmed")
    for secret in found.secrets:
        vault.authority_over(secret.path).require("write", secret.path)
    invocation.confirm(f"Destroy what `--undo` needs of the import {found.import_id} for ever?")
    return _emit_outcomes(invocation, [confirm_import(vault, found.import_id)])


def _resume(invocation: Invocation, vault: Vault) -> int:
    from securecfg.sources.importing import resume_imports

    with invocation.progress("rewriting files") as progress:
        outcomes = resume_imports(vault, progress=progress)
    if not outcomes:
        invocation.emit({"imports": []}, "nothing was interrupted")
        return 0
    return _emit_outcomes(invocation, outcomes)


def _list(invocation: Invocation, vault: Vault) -> int:
    from securecfg.sources.importing import list_imports, shown_path

    imports = list_imports(vault)
    result = {
        "imports": [
            {
                "import": each.import_id,
                "state": str(each.state),
                "created": timestamp(each.created),
                "author": each.author,
                "secrets": [{"path": secret.path, "version": secret.version} for secret in each.secrets],
                "files": [{"file": file.path, "state": str(file.state)} for file in each.files],
            }
            for each in imports
        ]
    }
    rows = [
        (
            each.import_id,
            str(each.state),
            shown_time(each.created),
            each.author,
            str(len(each.secrets)),
            " ".join(shown_path(file.path) for file in each.files),
        )
        for each in imports
    ]
    if rows or invocation.is_json:
        columns = ("IMPORT", "STATE", "CREATED", "BY", "SECRETS", "FILES")
        invocation.emit_table(result, columns, rows, shorten=("FILES", "CREATED", "BY"))
    else:
        invocation.emit(result, "no imports")
    return 0


def _emit_outcomes(invocation: Invocation, outcomes: Sequence[ImportOutcome]) -> int:
    results = [
        {
            "import": outcome.import_id,
            "state": str(outcome.state),
            "secrets": outcome.secrets,
            "files": list(outcome.files),
            "kept": list(outcome.kept),
            "problems": [_problem(problem) for problem in outcome.problems],
        }
        for outcome in outcomes
    ]
    invocation.emit({"imports": results}, *map(_described, outcomes))
    for outcome in outcomes:
        _note_problems(invocation, outcome.problems)
    return Conflict.exit_code if any(outcome.problems for outcome in outcomes) else 0


def _described(outcome: ImportOutcome) -> str:
    from securecfg.sources.importing import ImportState

    what = f"{counted(outcome.secrets, 'secret')}, {counted(len(outcome.files), 'file')}"
    if outcome.state is ImportState.CONFIRMED:
        return f"confirmed  {outcome.import_id}: it can no longer be undone"
    if outcome.is_undo:
        return f"restored  {what}"
    return f"moved  {what}"


def _problem(problem: SecurecfgError) -> dict[str, str]:
    return {"code": problem.code, "message": problem.message, "hint": problem.hint}


def _note_problems(invocation: Invocation, problems: Iterable[SecurecfgError]) -> None:
    for problem in problems:
        invocation.note(printable(f"problem: {problem.message}"))
        if problem.hint:
            invocation.note(printable(f"hint: {problem.hint}"))
