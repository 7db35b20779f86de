"""`securecfg audit exposed`: the secrets whose value somebody may know."""

from __future__ import annotations

import click

from securecfg.cli.audit_access import open_for_audit
from securecfg.cli.groups import Verb
from securecfg.cli.invocation import Invocation, common_flags
from securecfg.cli.output import timestamp


@click.command(cls=Verb, examples=("securecfg audit exposed", "securecfg audit exposed --json"))
@common_flags
def exposed(invocation: Invocation) -> None:
    """List the secrets that stand in git history, until they are rotated.

    `securecfg import --history` finds them. A secret leaves the list when it has a newer version with another value,
    which is recorded.
    """
    from securecfg.vault.exposures import Exposures

    with open_for_audit(invocation) as vault:
        exposures = Exposures(vault.authority)
        marks, now = exposures.unrotated(), exposures.now()
    result = {
        "secrets": [
            {
                "path": mark.path,
                "field": mark.field or None,
                "version": mark.version,
                "since": timestamp(mark.since),
                "days": mark.days(now),
                "commit": mark.commit,
                "file": mark.file,
            }
            for mark in marks
        ]
    }
    rows = [
        (mark.target, f"{mark.since:%Y-%m-%d}", mark.short_commit, str(mark.days(now)), mark.file) for mark in marks
    ]
    if rows or invocation.is_json:
        invocation.emit_table(result, ("PATH", "SINCE", "COMMIT", "DAYS", "FILE"), rows)
    else:
        invocation.emit(result, "no secret is known to be exposed")
