"""Reports of a period: who read and changed what, what was refused and why, administration, and an attestation.

A report is made from opened records, as one HTML page, as lines of JSON or as CSV. The page and the lines carry an
attestation that `open_report` checks offline; CSV is for spreadsheets and carries none.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from securecfg.audit.attestation import open_attestation, sign_attestation
from securecfg.audit.checkpoint import parse_checkpoint
from securecfg.audit.note import encode_base64
from securecfg.audit.record import format_time
from securecfg.errors import SignatureInvalid, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from securecfg.audit.attestation import Attestation, Evidence
    from securecfg.audit.checkpoint import Checkpoint
    from securecfg.audit.note import VerifierKey
    from securecfg.audit.record import Record

HTML_OPEN = b'<script type="application/json" id="attestation">'
HTML_CLOSE = b"</script>"

_JSONL_OPEN = b'{"attestation":'
_JSONL_CLOSE = b"}\n"
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
_COLUMNS = (
    "index",
    "time",
    "event",
    "category",
    "decision",
    "principal",
    "auth",
    "via",
    "roles",
    "action",
    "path",
    "version",
    "count",
    "rules",
    "policy",
    "program",
    "pid",
    "host",
    "request",
    "context",
    "object",
    "parts",
    "note",
    "leaf_hash",
)


@dataclass(frozen=True, slots=True)
class Row:
    """A record that a report shows.

    Attributes:
        index: Where it stands in the log.
        record: Its content.
        parts: The paths and versions in the parts of a batch's record, where it has parts.
    """

    index: int
    record: Record
    parts: tuple[tuple[str, int], ...] = ()

    @property
    def versions(self) -> Sequence[tuple[str, int]]:
        """The paths and versions that a batch has written."""
        return self.parts or self.record.obj.get("items", ())


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a report is made from.

    Attributes:
        start_ns: The first moment of the period, nanoseconds since 1970.
        end_ns: The first moment after it.
        made_ns: When the report is made.
        rows: The records of the period, in the log's order; all in the interval of the evidence.
        evidence: From `collect_evidence`.
    """

    start_ns: int
    end_ns: int
    made_ns: int
    rows: tuple[Row, ...]
    evidence: Evidence

    def __post_init__(self) -> None:
        """Refuse rows that the evidence does not cover.

        Raises:
            UsageError: A row lies outside the interval, or the rows do not rise.
        """
        indexes = [row.index for row in self.rows]
        if indexes and not self.older.size <= indexes[0] <= indexes[-1] < self.newer.size:
            message = f"the rows of a report of the records {self.older.size} to {self.newer.size - 1} lie outside it"
            raise UsageError(message)
        if sorted(set(indexes)) != indexes:
            message = "the rows of a report are not in the order of the log"
            raise UsageError(message)

    @property
    def older(self) -> Checkpoint:
        """Where the interval of the log begins."""
        return parse_checkpoint(self.evidence.older)

    @property
    def newer(self) -> Checkpoint:
        """Where it ends."""
        return parse_checkpoint(self.evidence.newer)

    def hashed_rows(self) -> Iterator[tuple[Row, bytes]]:
        """Yield each row with the hash of its leaf, by which a holder of the log finds it."""
        first = self.older.size
        for row in self.rows:
            yield row, self.evidence.leaf_hashes[row.index - first]


def render_html(report: Report, key: Ed25519PrivateKey) -> bytes:
    """Return one page that needs nothing else, with its attestation.

    Args:
        report: What to show.
        key: The log's current signing key.
    """
    from securecfg.audit.page import render_page

    before, after = render_page(report)
    before, after = before + HTML_OPEN, HTML_CLOSE + after
    attestation = sign_attestation(report.evidence, before + after, len(report.rows), key)
    return before + attestation.encode() + after


def render_jsonl(report: Report, key: Ed25519PrivateKey) -> bytes:
    """Return one line of JSON for each record, and the attestation as the last line.

    Args:
        report: What to show.
        key: The log's current signing key.
    """
    page = b"".join(
        b'{"index":%d,"leaf":"%s",%s"record":%s}\n'
        % (row.index, encode_base64(hashed).encode(), _parts(row), row.record.to_bytes())
        for row, hashed in report.hashed_rows()
    )
    attestation = sign_attestation(report.evidence, page, len(report.rows), key)
    return page + _JSONL_OPEN + attestation.encode() + _JSONL_CLOSE


def render_csv(report: Report) -> bytes:
    """Return the records as CSV (RFC 4180), UTF-8, without an attestation.

    A cell that a spreadsheet would take for a formula gets an apostrophe in front.
    """
    output = io.StringIO()
    writer = csv.writer(output)
    writer.writerow(_COLUMNS)
    for row, hashed in report.hashed_rows():
        writer.writerow([_cell(value) for value in (*_values(row), encode_base64(hashed))])
    return output.getvalue().encode()


def open_report(raw: bytes, vkey: VerifierKey) -> Attestation:
    """Verify a report in HTML or in lines of JSON, offline.

    What is proved, and what the signer of the report vouches for, is said in `securecfg.audit.attestation`.

    Args:
        raw: The file.
        vkey: A key of the log that is trusted: the current one, or an earlier one that has handed over.

    Raises:
        SignatureInvalid: The report has no attestation, was altered, or is signed by another key.
        LogTampered: Its evidence does not hold.
        LogTruncated: Its newer checkpoint is smaller than the older.
    """
    if HTML_OPEN in raw:
        before, _, rest = raw.partition(HTML_OPEN)
        attestation, _, after = rest.partition(HTML_CLOSE)
        page = before + HTML_OPEN + HTML_CLOSE + after
    else:
        start = raw.rfind(b"\n", 0, len(raw) - 1) + 1
        page, last = raw[:start], raw[start:]
        if not last.startswith(_JSONL_OPEN) or not last.endswith(_JSONL_CLOSE):
            message = "the file is not a report, or has lost its attestation"
            raise SignatureInvalid(message, hint="reports in HTML and in lines of JSON have one, CSV has none")
        attestation = last.removeprefix(_JSONL_OPEN).removesuffix(_JSONL_CLOSE)
    return open_attestation(attestation.decode(errors="replace"), page, vkey)


def _parts(row: Row) -> bytes:
    return f'"parts":{_compact(row.parts)},'.encode() if row.parts else b""


def _values(row: Row) -> list[Any]:
    record = row.record
    subject, source, obj = record.subject, record.source, record.obj
    return [
        row.index,
        format_time(record.time_ns),
        record.event.value,
        record.category.value,
        record.decision.value,
        subject.id,
        "proved" if subject.is_proved else "asserted",
        subject.via,
        " ".join(subject.roles),
        obj.get("action", ""),
        obj.get("path", ""),
        obj.get("ver", obj.get("version", "")),
        record.count or "",
        " ".join(record.why),
        record.policy,
        source.program,
        source.pid,
        source.host,
        record.request_id,
        _compact(dict(record.context)),
        _compact(dict(obj)),
        _compact(row.parts),
        record.note,
    ]


def _compact(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False) if value else ""


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA_STARTS) else value
