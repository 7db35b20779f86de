"""`securecfg audit`: the log, shown, verified and exported."""

from __future__ import annotations

import json
import sys
from collections import deque
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from securecfg.cli.arguments import Duration, Number
from securecfg.cli.audit_access import SCOPE, Moment, open_for_audit
from securecfg.cli.audit_evidence import prove, report
from securecfg.cli.audit_exposed import exposed
from securecfg.cli.audit_merge import merge
from securecfg.cli.groups import Noun
from securecfg.cli.invocation import Invocation, common_flags
from securecfg.cli.output import shown_time, timestamp, write_bytes, write_json, write_lines
from securecfg.errors import LogTampered, UsageError
from securecfg.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from securecfg.cli.audit_records import Filter
    from securecfg.vault.auditlog import AuditLog, Entry
    from securecfg.vault.state.storedlog import Verified

_FOLLOW_TIMEOUT_S = 1.0
_CHECKPOINT_BYTES_MAX = 64 << 10


@click.group(cls=Noun)
def audit() -> None:
    """Show who did what, and prove that the log of it is whole."""


@audit.command(
    examples=(
        "securecfg audit show",
        "securecfg audit show --since 24h --outcome denied",
        "securecfg audit show --principal svc:shop --path 'prod/**' --last 20",
        "securecfg audit show --follow",
    )
)
@click.option("--since", type=Moment(), metavar="TIME", help="From then on: 2026-01-31, or 2h for two hours ago.")
@click.option("--until", type=Moment(), metavar="TIME", help="Before then.")
@click.option("--principal", "who", metavar="PRINCIPAL", help="What this principal asked for.")
@click.option("--path", "glob", metavar="GLOB", help="About these paths; `*` within a segment, `**` across them.")
@click.option("--action", metavar="ACTION", help="An action such as read, or an event such as policy.applied.")
@click.option(
    "--outcome", type=click.Choice(["allowed", "denied", "error"]), metavar="OUTCOME", help="allowed, denied or error."
)
@click.option("--last", type=Number(), metavar="N", help="Only the newest N of them.")
@click.option("--follow", is_flag=True, help="Go on with what is recorded from now, until interrupted.")
@SCOPE
@common_flags
def show(invocation: Invocation, /, **options: Any) -> None:  # noqa: ANN401 - what the options above declare
    """List what was recorded, oldest first. That you read the log is recorded too.

    Times are local. A batch is followed by what it changed. On a terminal what is too wide is shortened; a pipe and
    --json get all of it. With --follow, --json prints one object for each record.
    """
    from securecfg.cli.audit_records import Filter, path_pattern

    glob = options["glob"]
    chosen = Filter(
        since=options["since"],
        until=options["until"],
        principal=options["who"],
        action=options["action"],
        outcome=options["outcome"],
        path=path_pattern(glob) if glob is not None else None,
    )
    with open_for_audit(invocation, options["scope"]) as vault:
        _show(invocation, vault.log, chosen, last=options["last"], follows=options["follow"])


@audit.command(
    examples=(
        "securecfg audit verify",
        "securecfg audit verify --max-age 1h",
        "securecfg audit verify --against checkpoint-of-last-month",
    )
)
@click.option("--level", type=click.IntRange(1, 4), default=4, show_default=True, metavar="N", help="How far to go.")
@click.option("--max-age", type=Duration(), metavar="DURATION", help="Fail where the newest record is older.")
@click.option("--against", metavar="FILE", help="A checkpoint that was kept elsewhere; the log must continue it.")
@common_flags
def verify(invocation: Invocation, *, level: int, max_age: timedelta | None, against: str | None) -> int:
    """Check that the log is whole.

    Level 1 checks the signature of the newest checkpoint; 2, that every record and tile hashes to it; 3 opens every
    record and checks what they say together; 4, that the log continues what this machine recorded and --against, and
    that the vault's state follows from it.

    Works where the vault is too damaged to be opened, or read-only; needs no principal. It fails with exit code 8:
    `log-tampered` names the first record that is wrong, `log-truncated` and `log-stale` say what their names say, and
    `tampered` means that something else than the log was altered.
    """
    from securecfg.files import read_bounded
    from securecfg.vault.state.storedlog import RECORDS, STATE, Expectation, verify_log_file

    if (max_age is not None and level < RECORDS) or (against is not None and level < STATE):
        message = "the level is too low for what it is to be checked against"
        raise UsageError(message, hint="`--max-age` needs level 3, `--against` level 4")
    kept = read_bounded(against, _CHECKPOINT_BYTES_MAX) if against is not None else None
    provider = invocation.provider()
    try:
        with invocation.progress("verifying") as progress:
            found = verify_log_file(
                invocation.vault_path(),
                provider,
                level=level,
                expected=Expectation(max_age, kept),
                progress=progress,
            )
    except LogTampered as error:
        if not invocation.is_json or error.index is None:
            raise
        failure = {"code": error.code, "message": error.message, "hint": error.hint, "index": error.index}
        write_json({"error": failure})
        return error.exit_code
    _emit_verified(invocation, level, found)
    return 0


@audit.command(examples=("securecfg audit export --tiles log-export",))
@click.option("--tiles", "folder", required=True, metavar="DIR", help="Where: a new folder, or an earlier export.")
@common_flags
def export(invocation: Invocation, *, folder: str) -> None:
    """Write the log for an auditor: its order and completeness, and no content.

    DIR gets `checkpoint`, `vkey` and `tile/`, in the layout of c2sp.org/tlog-tiles, which programs of others verify.
    Give the auditor the verifier key on another way.
    """
    with open_for_audit(invocation) as vault:
        log = vault.log
        size = log.export_tiles(Path(folder))
        vkey = str(log.current_vkey)
    invocation.emit(
        {"directory": folder, "record_count": size, "vkey": vkey},
        f"exported  {counted(size, 'record')} to {folder}",
        f"vkey  {vkey}",
    )


@audit.command(examples=("securecfg audit checkpoint > checkpoint-of-today",))
@common_flags
def checkpoint(invocation: Invocation) -> None:
    """Print the newest checkpoint, to be kept where the vault is not.

    `audit verify --against FILE` shows later that the log has only grown since.
    """
    from securecfg.audit import parse_checkpoint

    with open_for_audit(invocation) as vault:
        note, vkey = vault.log.note, str(vault.log.current_vkey)
    if invocation.is_json:
        size = parse_checkpoint(note).size
        write_json({"checkpoint": note.decode(), "record_count": size, "vkey": vkey})
    else:
        write_bytes(note)


audit.add_command(exposed)
audit.add_command(merge)
audit.add_command(prove)
audit.add_command(report)


# --- showing ----------------------------------------------------------------------------------------------------------


def _show(invocation: Invocation, log: AuditLog, chosen: Filter, *, last: int | None, follows: bool) -> None:
    from securecfg.cli.audit_records import Listing, to_json
    from securecfg.cli.tables import terminal_width

    limit = terminal_width() if sys.stdout.isatty() else None
    listing = Listing(datetime.now(UTC).astimezone().date(), log.items, limit)
    following = 0

    def select(entries: Iterable[Entry]) -> Iterator[Entry]:
        nonlocal following
        for entry in entries:
            following = entry.index + 1
            if chosen.takes(entry.record) and (
                chosen.path is None or chosen.takes_path(entry.record, log.items(entry.record))
            ):
                yield entry

    def write(entries: list[Entry]) -> None:
        if invocation.is_json:
            # One object to a line even on a terminal: there is no end to them.
            write_lines(json.dumps(to_json(entry, log.items(entry.record)), ensure_ascii=False) for entry in entries)
        elif entries:
            write_lines(listing.lines(entries))

    shown = list(deque(select(log.records()), maxlen=last))
    if not follows and invocation.is_json:
        write_json({"records": [to_json(entry, log.items(entry.record)) for entry in shown]})
        return
    write(shown)
    while follows:
        write(list(select(log.follow(following, _FOLLOW_TIMEOUT_S))))


# --- verifying --------------------------------------------------------------------------------------------------------


def _emit_verified(invocation: Invocation, level: int, found: Verified) -> None:
    from securecfg.clock import to_datetime

    newest = to_datetime(found.last_time_ns) if found.last_time_ns else None
    lines = [
        f"sound   {counted(found.size, 'record')}, {counted(found.epochs, 'signing key')}"
        + (f", newest {shown_time(newest)}" if newest else ""),
        f"level   {level} of 4",
        f"vkey    {found.vkey}",
    ]
    if found.behind:
        lines.append(f"clock   {counted(len(found.behind), 'record')} written by a clock far behind")
    invocation.emit(
        {
            "result": "sound",
            "level": level,
            "record_count": found.size,
            "epoch_count": found.epochs,
            "newest": timestamp(newest),
            "records_behind": list(found.behind),
            "vkey": str(found.vkey),
            "first_vkey": str(found.genesis),
        },
        *lines,
    )
