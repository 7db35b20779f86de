"""`securecfg audit exposed`: the secrets whose value somebody may know."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from securecfg.cli.audit_access import open_for_audit
from securecfg.cli.groups import Verb
from securecfg.cli.invocation import Invocation, common_flags
from securecfg.cli.output import timestamp

if TYPE_CHECKING:
    from typing import Any

    from securecfg.errors import SecurecfgError
    from securecfg.vault.bundles.exposures import KnownFromBundle
    from securecfg.vault.imports.exposures import Mark
    from securecfg.vault.keys.departures import Exposed

_WORDS = {"compromise": "compromised: ", "moved": "moved from ", "removed-key": "removed "}


def _reason(exposed: Exposed) -> str:
    if exposed.is_move:
        return "moved"
    return "compromise" if exposed.is_compromise else "removed-key"


@click.command(cls=Verb, examples=("securecfg audit exposed", "securecfg audit exposed --json"))
@common_flags
def exposed(invocation: Invocation) -> int:
    """List the secrets that somebody may know who should not, until they are rotated.

    They stand in git history, where `securecfg import --history` found them, or could be read with a key that was
    removed since (in a sealed scope that of a role that may not read it any more), or where they were before they were
    moved into or out of a sealed scope, or were in a vault that was
    compromised, or lie in a bundle for a key that is no longer that of a member. A secret leaves the list when it has
    another value. Where a part of the vault cannot be read the others are listed all the same, and the command fails.
    """
    from securecfg.clock import SystemClock, to_datetime
    from securecfg.errors import IntegrityError
    from securecfg.vault.bundles.exposures import find_known_from_bundles
    from securecfg.vault.imports.exposures import Exposures
    from securecfg.vault.keys.departures import find_exposed

    marks: list[Mark] = []
    known: list[Exposed] = []
    published: list[KnownFromBundle] = []
    failures: dict[str, SecurecfgError] = {}
    now = to_datetime(SystemClock().now_ns())
    with open_for_audit(invocation) as vault:
        for scope, part in vault.parts(failures):
            authority = part.authority
            try:
                found = Exposures(authority).unrotated(), find_exposed(authority), find_known_from_bundles(authority)
            except IntegrityError as error:
                failures[scope] = error
                continue
            marks += found[0]
            known += found[1]
            published += found[2]
    result: dict[str, Any] = {
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
    if failures:
        result["failed"] = [
            {"part": scope or "/", "code": error.code, "message": error.message} for scope, error in failures.items()
        ]
    if rows or invocation.is_json:
        columns = ("PATH", "SINCE", "DAYS", "KNOWN FROM")
        invocation.emit_table(result, columns, rows, shorten=("KNOWN FROM", "PATH"))
    elif not failures:
        invocation.emit(result, "no secret is known to be exposed")
    for scope, failure in failures.items():
        invocation.note(f"error: what is exposed in `{scope or '/'}` cannot be read: {failure.message}")
    return next((failure.exit_code for failure in failures.values()), 0)
