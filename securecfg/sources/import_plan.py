"""What an import would do: the secrets of some files, where each goes, and what each file is to become.

Files are read and nothing is written, but that reading a secret of the vault to compare it is recorded there.
"""

from __future__ import annotations

import os
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from securecfg.errors import ConfigError, ScopeSealed, SecurecfgError, UsageError
from securecfg.secret import Secret
from securecfg.sources.detection import Notice, collect, find_secrets
from securecfg.sources.rewrite import make_redo, rewrite_in_steps
from securecfg.vault.imports.steps import Imports

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from securecfg.sources.detection import Finding, SourceFile
    from securecfg.sources.git_history import Exposure
    from securecfg.vault import Vault

    Progress = Callable[[int, int], None]
    Value = Secret[str] | dict[str, Secret[str]]

E = TypeVar("E", bound=SecurecfgError)


class Standing(NamedTuple):
    """What the vault holds at a path that a secret goes to.

    Attributes:
        version: The newest version, 0 for none; where the value is the same, the current one.
        is_same: The value is there already.
    """

    version: int
    is_same: bool


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """A file and what it is to become.

    Attributes:
        name: Its path as it was given.
        path: Where it really is.
        undo: What restores it. It holds the secrets.
        redo: What rewrites it.
        part: The part of the vault that the secrets of this step go to: the path of a sealed scope, or empty.
    """

    name: str
    path: str
    undo: Secret[bytes]
    redo: bytes = field(repr=False)
    part: str = ""


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """What an import would do.

    Attributes:
        findings: The secrets that would be moved.
        conflicts: Those that stay where they are, because the vault holds something else at their path.
        untouched: How many other values the files hold.
        notices: What a person may want to look at.
        problems: The files that cannot be read or rewritten; the others are planned all the same.
        exposures: For each target that stands in the git history of its repository, its first commit.
        files: The files that would be rewritten, once for each part of the vault that their secrets go to.
        values: What goes into the vault, by path.
        standings: What the vault holds there now, by path.
        parts: Which part of the vault each path lies in: the path of a sealed scope, or empty.
    """

    findings: tuple[Finding, ...]
    conflicts: tuple[Finding, ...]
    untouched: int
    notices: tuple[Notice, ...]
    problems: tuple[SecurecfgError, ...]
    exposures: Mapping[str, Exposure]
    files: tuple[PlannedFile, ...]
    values: Mapping[str, Value] = field(repr=False)
    standings: Mapping[str, Standing] = field(repr=False)
    parts: Mapping[str, str] = field(default_factory=dict)


def plan_import(
    vault: Vault | None,
    paths: Iterable[str | os.PathLike[str]],
    *,
    prefix: str = "",
    history: bool = False,
    progress: Progress | None = None,
) -> ImportPlan:
    """Find secrets and say what an import would do with each; nothing is changed.

    Args:
        vault: Where to, or None to plan for an empty one.
        paths: Files, and folders with all below them.
        prefix: What every path in the vault begins with.
        history: Whether to look through git history for each value.
        progress: Called now and then with the number of objects of the history that were searched, and of all.

    Raises:
        InvalidPath: The prefix is no path.
        ScopeSealed: A secret would go into a sealed scope that the key at hand does not write.
        NotAuthenticated: Nobody says who asks.
        AuditUnavailable: A read for the comparison cannot be recorded.
        UsageError: `history` is asked for outside a git repository.
        Unsupported, StoreFailed: The history cannot be searched.
    """
    collected = collect(paths)
    found = find_secrets(collected.files, prefix=prefix)
    notices = [*collected.notices, *found.notices]
    problems = [*collected.problems, *found.problems]
    wanted = found.of_path()
    parts = _find_parts(vault, wanted)
    standings = _compare(vault, wanted)
    files: list[PlannedFile] = []
    moved: list[Finding] = []
    for source in collected.files:
        own = [finding for finding in found.of_file(source.name) if finding.path in standings]
        if own:
            try:
                files += _plan_file(source, own, parts)
            except ConfigError as error:
                problems.append(error)
                continue
            moved += own
            notices += _notices(vault, source, own, standings)
    chosen = {finding.path for finding in moved}
    return ImportPlan(
        findings=tuple(moved),
        conflicts=tuple(finding for finding in found.findings if finding.path not in standings),
        untouched=found.untouched,
        notices=tuple(notices),
        problems=tuple(map(without_frames, problems)),
        exposures=_find_exposures(moved, files, progress) if history and moved else {},
        files=tuple(files),
        values={path: value for path, value in wanted.items() if path in chosen},
        standings={path: standing for path, standing in standings.items() if path in chosen},
        parts={path: part for path, part in parts.items() if path in chosen},
    )


def without_frames(error: E) -> E:
    """Return an error without the frames that it came through, whose variables hold secrets."""
    error.__cause__ = error.__context__ = None
    return error.with_traceback(None)


def _compare(vault: Vault | None, wanted: Mapping[str, Value]) -> dict[str, Standing]:
    """Return where the values may go; a path that holds something else is left out."""
    if vault is None:
        return {path: Standing(0, is_same=False) for path in wanted}
    standings: dict[str, Standing] = {}
    present: dict[str, int] = {}
    for path in wanted:
        newest, current = Imports(vault.authority_over(path)).standing(path)
        if current:
            present[path] = current
        else:
            standings[path] = Standing(newest, is_same=False)
    versions = vault.read_many(list(present.items()))
    for (path, number), version in zip(present.items(), versions, strict=True):
        if isinstance(version, SecurecfgError):
            continue
        value = version.value if isinstance(version.value, Secret) else dict(version.value)
        if value == wanted[path]:
            standings[path] = Standing(number, is_same=True)
    return standings


def _find_parts(vault: Vault | None, paths: Iterable[str]) -> dict[str, str]:
    """Return which part of the vault each path lies in, once it is sure that the key at hand writes there.

    Raises:
        ScopeSealed: One lies where it does not.
    """
    if vault is None:
        return dict.fromkeys(paths, "")
    parts: dict[str, str] = {}
    for path in paths:
        try:
            scope, part = vault.part_of(path)
        except ScopeSealed:
            message = f"`{path}` lies in no scope that this key opens"
            raise ScopeSealed(message, hint=_WRITER_HINT) from None
        part.opened.refresh()
        part.opened.verify_own(path)
        seat = part.opened.replica.seat
        if seat is not None and not seat.may_write:
            message = f"`{path}` lies in the sealed scope `{scope}`, which this key does not write"
            raise ScopeSealed(message, hint=_WRITER_HINT)
        parts[path] = scope
    return parts


def _plan_file(source: SourceFile, findings: list[Finding], parts: Mapping[str, str]) -> list[PlannedFile]:
    """Plan to rewrite a file, in a step for each part of the vault that its secrets go to."""
    steps: dict[str, list[Finding]] = {}
    for finding in sorted(findings, key=lambda finding: parts[finding.path]):
        steps.setdefault(parts[finding.path], []).append(finding)
    path = os.path.realpath(source.name)
    return [
        PlannedFile(source.name, path, each.undo, make_redo(each.undo.reveal(), each.content), scope)
        for scope, each in zip(steps, rewrite_in_steps(source, list(steps.values())), strict=True)
    ]


_WRITER_HINT = "import with a key that writes it (`--key identity:FILE`), or under another path (`--prefix`)"


def _notices(
    vault: Vault | None, source: SourceFile, findings: list[Finding], standings: Mapping[str, Standing]
) -> list[Notice]:
    notices = []
    links = 1
    with suppress(OSError):
        links = Path(source.name).stat().st_nlink
    if links > 1:
        text = f"the file has {links} names (hard links): the others keep the old content"
        notices.append(Notice(source.name, 0, "", text))
    if vault is not None:
        for finding in findings:
            imports = Imports(vault.authority_over(finding.path))
            alike = None if standings[finding.path].version else imports.lookalike(finding.path)
            if alike is not None:
                text = f"the new path `{finding.path}` looks like `{alike}`, which exists"
                notices.append(Notice(source.name, finding.line, finding.key, text))
    return notices


def _find_exposures(
    findings: list[Finding], files: list[PlannedFile], progress: Progress | None
) -> dict[str, Exposure]:
    """Look for each value in the history of the repository that its file lies in."""
    from securecfg.sources.git_history import find_in_history

    folder_of = {file.name: _repository_of(Path(file.path)) for file in files}
    values: dict[Path, dict[str, Secret[str]]] = defaultdict(dict)
    for finding in findings:
        folder = folder_of[finding.file]
        if folder is not None:
            values[folder][finding.target] = finding.value
    if not values:
        message = "none of the files is in a git repository"
        raise UsageError(message, hint="--history looks through git history")
    found: dict[str, Exposure] = {}
    try:
        for folder, wanted in values.items():
            found |= {exposure.label: exposure for exposure in find_in_history(folder, wanted, progress=progress)}
        return found
    except SecurecfgError as caught:
        error = without_frames(caught)
    raise error


def _repository_of(file: Path) -> Path | None:
    return next((folder for folder in file.parents if (folder / ".git").exists()), None)
