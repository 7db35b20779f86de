"""`securecfg audit exposed`: the secrets whose value somebody may know."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from securecfg.cli.audit_access import open_for_audit
from securecfg.cli.groups import Verb
from securecfg.cli.invocation import Invocation, common_flags
from securecfg.cli.output import timestamp

if TYPE_CHECKING:
    from securecfg.vault.departures import Exposed

_WORDS = {"compromise": "compromised: ", "moved": "moved from ", "removed-key": "removed "}


def _reason(exposed: Exposed) -> str:
    if exposed.is_move:
        return "moved"
    return "compromise" if exposed.is_compromise else "removed-key"


@click.command(cls=Verb, examples=("securecfg audit exposed", "securecfg audit exposed --json"))
@common_flags
def exposed(invocation: Invocation) -> None:
    """List the secrets that somebody may know who should not, until they are rotated.

    They stand in git history, where `securecfg import --history` found them, or could be read with a key that was
    removed since (in a sealed scope that of a role that may not read it any more), or where they were before they were
    moved into or out of a sealed scope, or were in a vault that was
    compromised, or lie in a bundle for a key that is no longer that of a member. A secret leaves the list when it has
    another value.
    """
    from securecfg.vault.bundle_exposures import find_known_from_bundles
    from securecfg.vault.departures import find_exposed
    from securecfg.vault.exposures import Exposures

    with open_for_audit(invocation) as vault:
        parts = [part.authority for _, part in vault.parts()]
        now = Exposures(parts[0]).now()
        marks = [mark for part in parts for mark in Exposures(part).unrotated()]
        known = [each for part in parts for each in find_exposed(part)]
        published = [each for part in parts for each in find_known_from_bundles(part)]
    result = {
        "secrets": [
            {
                "path": mark.path,
                "field": mark.field or None,
                "version": mark.version,
                "since": timestamp(mark.since),
                "days": mark.days(now),
                "reason": "git-history",
                "commit": mark.commit,
                "file": mark.file,
            }
            for mark in marks
        ]
        + [
            {
                "path": each.path,
                "field": None,
                "version": each.version,
                "since": timestamp(each.since),
                "days": each.days(now),
                "reason": _reason(each),
                "slot": each.slot,
                "kind": each.kind,
                "label": each.label,
            }
            for each in known
        ]
        + [
            {
                "path": each.path,
                "field": None,
                "version": each.version,
                "since": timestamp(each.since),
                "days": each.days(now),
                "reason": "bundle",
                "role": each.role,
                "principal": each.principal,
                "fingerprint": each.fingerprint,
            }
            for each in published
        ]
    }
    rows = [
        (mark.target, f"{mark.since:%Y-%m-%d}", str(mark.days(now)), f"commit {mark.short_commit}, {mark.file}")
        for mark in marks
    ] + [
        (
            each.path,
            f"{each.since:%Y-%m-%d}",
            str(each.days(now)),
            _WORDS[_reason(each)] + each.key,
        )
        for each in known
    ]
    rows += [
        (
            each.path,
            f"{each.since:%Y-%m-%d}",
            str(each.days(now)),
            f"bundle of {each.role} for {each.principal} {each.fingerprint}",
        )
        for each in published
    ]
    if rows or invocation.is_json:
        columns = ("PATH", "SINCE", "DAYS", "KNOWN FROM")
        invocation.emit_table(result, columns, rows, shorten=("KNOWN FROM", "PATH"))
    else:
        invocation.emit(result, "no secret is known to be exposed")
