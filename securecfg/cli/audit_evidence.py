"""`securecfg audit prove` and `audit report`: files that convince others, and their verification."""

from __future__ import annotations

import sys
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from securecfg.cli.arguments import Number
from securecfg.cli.audit_access import SCOPE, Moment, open_for_audit
from securecfg.cli.groups import Noun
from securecfg.cli.invocation import Invocation, common_flags
from securecfg.cli.output import printable, write_bytes, write_json
from securecfg.errors import UsageError
from securecfg.words import counted

if TYPE_CHECKING:
    from securecfg.audit import VerifierKey
    from securecfg.audit.report import Report

_REPORT_BYTES_MAX = 1 << 30
_VKEY_BYTES_MAX = 4 << 10
_VKEY = click.option("--vkey", metavar="KEY", help="The log's verifier key, or a file that holds it; else the vault's.")
_OUTPUT = click.option(
    "-o",
    "--output",
    metavar="FILE",
    callback=lambda _context, _parameter, given: None if given == "-" else given,
    help="Where to; else, or with `-`, standard output.",
)


class Evidence(Noun):
    """A group whose own arguments are those of its verb `create`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `create` in front of what names no verb."""
        names = {*self.commands, *ctx.help_option_names}
        return super().parse_args(ctx, args if args and args[0] in names else ["create", *args])


# --- one record -------------------------------------------------------------------------------------------------------


@click.group(cls=Evidence)
def prove() -> None:
    """Prove one record: `audit prove N`, which is `audit prove create N`, and `audit prove verify FILE`."""


@prove.command(
    "create",
    examples=("securecfg audit prove 7 -o record-7.tlog-proof", "securecfg audit prove 7 --open > record-7.tlog-proof"),
)
@click.argument("index", type=Number(0), metavar="N")
@click.option("--open", "opens", is_flag=True, help="Disclose what the record says, and of no other record.")
@_OUTPUT
@common_flags
def create_proof(invocation: Invocation, *, index: int, opens: bool, output: str | None) -> None:
    """Write the proof that record N is in the log (c2sp.org/tlog-proof)."""
    with open_for_audit(invocation) as vault:
        proof = vault.log.prove(index, opens_record=opens)
    if output is not None:
        _write(output, proof)
        invocation.emit({"index": index, "file": output, "is_open": opens}, f"proved  record {index} in {output}")
        return
    if invocation.is_json:
        write_json({"index": index, "proof": proof.decode(), "is_open": opens})
    else:
        write_bytes(proof)


@prove.command(
    "verify",
    examples=(
        "securecfg audit prove verify record-7.tlog-proof",
        "securecfg audit prove verify record-7.tlog-proof --vkey trusted.vkey      # needs no vault",
    ),
)
@click.argument("file")
@_VKEY
@common_flags
def verify_proof(invocation: Invocation, *, file: str, vkey: str | None) -> None:
    """Check the proof of a record, and show the record if it is disclosed."""
    from securecfg.audit.proof import MAX_PROOF_BYTES, open_proof
    from securecfg.cli.audit_records import Listing, to_json
    from securecfg.files import read_bounded
    from securecfg.vault.auditlog import Entry

    raw = read_bounded(file, MAX_PROOF_BYTES)
    proved = open_proof(raw, _keys(invocation, vkey))
    lines = [f"proved  record {proved.index} of {proved.checkpoint.size} in {proved.checkpoint.origin}"]
    record: dict[str, Any] | None = None
    if proved.record is not None:
        entry = Entry(proved.index, proved.record)
        items = [(str(path), int(number)) for path, number in proved.record.obj.get("items", ())]
        record = to_json(entry, items)
        lines += Listing(date.min, lambda _: items).lines([entry])
    result = {
        "index": proved.index,
        "record_count": proved.checkpoint.size,
        "origin": proved.checkpoint.origin,
        "record": record,
    }
    invocation.emit(result, *lines)


# --- a period ---------------------------------------------------------------------------------------------------------


@click.group(cls=Evidence)
def report() -> None:
    """Report a period: `audit report`, which is `audit report create`, and `audit report verify FILE`."""


@report.command(
    "create",
    examples=(
        "securecfg audit report --from 2026-10-01 --to 2027-01-01 -o q4.html",
        "securecfg audit report --from 7d --format jsonl > week.jsonl",
    ),
)
@click.option(
    "--from",
    "start",
    type=Moment(),
    metavar="TIME",
    help="From then on: 2026-10-01, or 7d ago; else from the first record on.",
)
@click.option("--to", "end", type=Moment(), metavar="TIME", help="Before then; else up to now.")
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["html", "csv", "jsonl"]),
    default="html",
    show_default=True,
    metavar="FORMAT",
    help="html, csv or jsonl.",
)
@_OUTPUT
@SCOPE
@common_flags
def create_report(
    invocation: Invocation,
    *,
    start: datetime | None,
    end: datetime | None,
    file_format: str,
    output: str | None,
    scope: str | None,
) -> None:
    """Report who read and changed what, what was refused, and what administrators did.

    The page and the lines of JSON carry an attestation, which `audit report verify` checks offline; CSV is for
    spreadsheets and carries none.
    """
    from securecfg.clock import to_ns

    first = to_ns(start) if start is not None else None
    last = to_ns(end) if end is not None else None
    if first is not None and last is not None and last <= first:
        message = "the report ends before it begins"
        raise UsageError(message, hint="`--from` is before `--to`")
    if invocation.is_json and output is None:
        message = "`--json` and the report would both go to standard output"
        raise UsageError(message, hint="name a file with `-o`")
    if file_format == "html" and output is None and sys.stdout.isatty():
        message = "the report is a page, which a terminal cannot show"
        raise UsageError(message, hint="name a file with `-o report.html`, or take `--format csv`")
    with open_for_audit(invocation, scope) as vault:
        made = vault.log.report(first, last, file_format)
        content = _render(made, file_format, vault.opened.replica.signer)
    if output is None:
        write_bytes(content)
        return
    _write(output, content)
    invocation.emit(
        {"file": output, "format": file_format, "record_count": len(made.rows)},
        f"reported  {counted(len(made.rows), 'record')} in {output}",
    )


@report.command(
    "verify",
    examples=(
        "securecfg audit report verify q4.html",
        "securecfg audit report verify q4.html --vkey trusted.vkey      # needs no vault",
    ),
)
@click.argument("file")
@_VKEY
@common_flags
def verify_report(invocation: Invocation, *, file: str, vkey: str | None) -> None:
    """Check a report: that nobody altered it, and that the log only grew in its period."""
    from securecfg.audit.report import open_report
    from securecfg.files import read_bounded

    raw = read_bounded(file, _REPORT_BYTES_MAX)
    attestation = open_report(raw, _keys(invocation, vkey)[0])
    older, newer = attestation.older, attestation.newer
    invocation.emit(
        {
            "result": "sound",
            "origin": newer.origin,
            "row_count": attestation.rows,
            "older_record_count": older.size,
            "newer_record_count": newer.size,
        },
        f"sound  {counted(attestation.rows, 'row')}; the log grew from {older.size} to {counted(newer.size, 'record')}",
        f"log    {printable(newer.origin)}",
    )


def _render(made: Report, file_format: str, key: Any) -> bytes:  # noqa: ANN401 - the log's signing key
    from securecfg.audit.report import render_csv, render_html, render_jsonl

    if file_format == "csv":
        return render_csv(made)
    return (render_html if file_format == "html" else render_jsonl)(made, key)


def _keys(invocation: Invocation, vkey: str | None) -> list[VerifierKey]:
    """Return the keys that are trusted: the one given, or those of the vault, the first one first."""
    from securecfg.audit import parse_vkey
    from securecfg.files import read_bounded

    if vkey is None:
        with open_for_audit(invocation) as vault:
            return [vault.log.vkey, vault.log.current_vkey]
    text = vkey
    if Path(vkey).is_file():
        text = read_bounded(vkey, _VKEY_BYTES_MAX).decode(errors="replace")
    return [parse_vkey(text.strip())]


def _write(path: str, content: bytes) -> None:
    from securecfg.files import write_atomically

    write_atomically(path, content)
