"""`securecfg doctor`: what is wrong with the installation or the vault, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from securecfg.cli.groups import Verb
from securecfg.cli.invocation import Invocation, common_flags
from securecfg.errors import FileMissing, Sealed, SecurecfgError, SettingMissing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securecfg.cli.findings import Finding

# Which problem decides the exit code: damage first, then what keeps the vault shut, then what is only in the way.
_GRAVITY = (8, 7, 10, 9, 5, 4, 6, 3, 2)


@click.command(
    cls=Verb, examples=("securecfg doctor", "securecfg doctor --json", "securecfg doctor --vault team.vault")
)
@common_flags
def doctor(invocation: Invocation) -> int:
    """Explain what is wrong with the installation or the vault, and what to do.

    Exits with 0 where there is no problem; notes and warnings are none. Else the gravest problem decides: 8 for damage,
    7 for a vault that does not open, 10 for what this machine does not support, 9 for what may pass.
    """
    from securecfg.cli.findings import Grade, look_at_installation

    findings = [("installation", finding) for finding in look_at_installation()]
    findings += [("vault", finding) for finding in _look_at_vault(invocation)]
    codes = {finding.exit_code for _, finding in findings if finding.grade is Grade.PROBLEM}
    worst = next((code for code in _GRAVITY if code in codes), 0)
    checks = [
        {
            "area": area,
            "name": finding.name,
            "grade": str(finding.grade),
            "message": finding.message,
            "hint": finding.hint,
        }
        for area, finding in findings
    ]
    invocation.emit({"checks": checks, "exit_code": worst}, *_lines(findings))
    return worst


def _look_at_vault(invocation: Invocation) -> Iterator[Finding]:
    from securecfg.cli.break_glass_findings import look_at_break_glass
    from securecfg.cli.findings import Finding, Grade, look_at_file, look_at_slots, look_inside, problem, recorded_size
    from securecfg.cli.inspection import Front
    from securecfg.cli.key_findings import look_at_limits, look_at_parts
    from securecfg.cli.mount_findings import look_at_mounts
    from securecfg.cli.rotation_findings import look_at_rotations
    from securecfg.cli.scope_findings import look_at_scopes

    try:
        path = invocation.vault_path()
    except SettingMissing as error:
        yield Finding("settings", Grade.NOTE, error.message, error.hint)
        return
    except SecurecfgError as error:
        yield problem("settings", error)
        return
    yield Finding("settings", Grade.OK, f"the vault is `{path}`{_named_in()}")
    try:
        front = Front.read(path)
        yield from look_at_file(path)
        yield from look_at_slots(front)
        recorded = recorded_size(front.header.vault_id, path)
        with invocation.open() as vault:
            yield from look_inside(vault, path, recorded)
            yield from look_at_limits(vault)
            yield from look_at_parts(vault, invocation.settings().key)
            yield from look_at_scopes(vault)
            yield from look_at_break_glass(vault)
            yield from look_at_mounts(vault)
            yield from look_at_rotations(vault)
    except FileMissing as error:
        hint = "restore the key file, or use the recovery code: `--key recovery:`"
        yield Finding("opens", Grade.PROBLEM, error.message, hint, Sealed.exit_code)
    except SecurecfgError as error:
        yield problem("opens", error)


def _named_in() -> str:
    from pathlib import Path

    from securecfg.vault.settings import read_project

    project = read_project(Path.cwd())
    files = [f"`{file}`" for file in (project.file, project.local) if file is not None]
    return f"; settings are in {' and '.join(files)}" if files else ""


def _lines(findings: list[tuple[str, Finding]]) -> Iterator[str]:
    area = ""
    for this, finding in findings:
        if this != area:
            area = this
            yield area
        yield f"  {finding.grade:<8} {finding.name}: {finding.message}"
        if finding.hint:
            yield f"           -> {finding.hint}"
