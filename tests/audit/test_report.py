from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securecfg.audit import Event, Record, Source, Subject, parse_record
from securecfg.audit.attestation import collect_evidence, open_attestation, prefix_checkpoint, sign_attestation
from securecfg.audit.merkle import leaf_hash
from securecfg.audit.note import encode_base64, sign_note
from securecfg.audit.report import HTML_OPEN, Report, Row, open_report, render_csv, render_html, render_jsonl
from securecfg.audit.verify import History
from securecfg.errors import LogTampered, LogTruncated, SecurecfgError, SignatureInvalid, UsageError
from tests.audit.sample import ORIGIN, START_NS, SampleLog, plain_log, record, sample_log, signing_key

DAY_NS = 86_400 * 10**9
HOSTILE = "</script><script>alert(1)</script>\"'&\u202e\u0000\n\N{ZERO WIDTH SPACE}é"


def every_event() -> list[Record]:
    """One record of each event with all its fields, each hostile."""
    from securecfg.audit.events import OBJECT_FIELDS, SHAPES, Field

    values: dict[Field, Any] = {
        Field.TEXT: HOSTILE,
        Field.TEXTS: [HOSTILE, "plain"],
        Field.NUMBER: 12_345,
        Field.VERSIONS: [[HOSTILE, 1], ["b", 2]],
        Field.PARTS: [["hash", "key"]],
    }
    return [
        Record(
            time_ns=START_NS,
            event=event,
            subject=Subject(HOSTILE, is_proved=True, roles=(HOSTILE,), slot="a", via=HOSTILE),
            source=Source(1, HOSTILE, HOSTILE),
            obj={name: values[OBJECT_FIELDS[name]] for name in sorted(shape.required | shape.optional)},
            why=(HOSTILE,),
            context={HOSTILE: HOSTILE, "mfa": True, "no": False, "list": ["a", 1, None]},
            count=7 if shape.is_counted else None,
            note=HOSTILE,
        )
        for event, shape in SHAPES.items()
    ]


def busy_log() -> SampleLog:
    log = sample_log(260)
    log.append(record(Event.ACCESS_DENIED, {"action": "read", "path": "pay/key"}, who="svc:intern"))
    log.append(record(Event.ACCESS_ERROR, {"action": "list"}, why=("office-hours",)))
    log.append(record(Event.ROLE_CHANGED, {"role": "role:web", "added": ["svc:web"]}, who="user:alice"))
    log.hand_over()
    log.append(record(Event.SECRET_MOVED, {"path": "a", "to": "b"}))
    log.append(record(Event.BATCH_WRITTEN, {"count": 2, "items": [["a", 1], ["b", 2]]}))
    return log


def report_on(log: SampleLog, start: int = 0, rows: int | None = None) -> Report:
    taken = History(log.genesis)
    for leaf in log.leaves:
        taken.add(leaf, log.opener)
    older = prefix_checkpoint(log, ORIGIN, start, signing_key(log.epoch))
    shown = [Row(index, each) for index, each in enumerate(log.records) if index >= start]
    return Report(
        start_ns=START_NS,
        end_ns=START_NS + DAY_NS,
        made_ns=START_NS + DAY_NS,
        rows=tuple(shown[:rows]),
        evidence=collect_evidence(log, older, log.checkpoint(), taken.epochs.hand_overs),
    )


LOG = busy_log()
KEY = signing_key(LOG.epoch)
REPORT = report_on(LOG, 250)
HTML = render_html(REPORT, KEY)
JSONL = render_jsonl(REPORT, KEY)


class Reader(HTMLParser):
    """Collects what a browser would run, load or show."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.shown: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.shown.append(data)


def read(page: bytes) -> Reader:
    reader = Reader()
    reader.feed(page.decode())
    return reader


class TestAReport:
    @pytest.mark.parametrize("start", [0, 1, 250, 256, 260, 266])
    def test_verifies_offline(self, start: int) -> None:
        report = report_on(LOG, start)
        for raw in (render_html(report, KEY), render_jsonl(report, KEY)):
            attestation = open_report(raw, LOG.vkey)
            assert (attestation.older.size, attestation.newer.size) == (start, 266)
            assert attestation.rows == 266 - start
            assert attestation.leaf_hashes == tuple(leaf_hash(leaf) for leaf in LOG.leaves[start:])

    def test_verifies_with_an_earlier_key_that_has_handed_over(self) -> None:
        assert open_report(HTML, LOG.genesis).newer.size == 266
        assert LOG.genesis != LOG.vkey

    def test_may_show_fewer_records_than_its_interval_has(self) -> None:
        attestation = open_report(render_html(report_on(LOG, 250, rows=3), KEY), LOG.vkey)
        assert (attestation.rows, len(attestation.leaf_hashes)) == (3, 16)

    def test_continues_the_report_before(self) -> None:
        log = sample_log(10)
        first = open_report(render_html(report_on(log), signing_key(0)), log.vkey)
        older = log.checkpoint()
        log.append(record(at_s=100))
        evidence = collect_evidence(log, older, log.checkpoint(), ())
        following = Report(
            start_ns=START_NS, end_ns=START_NS, made_ns=START_NS, rows=(Row(10, log.records[10]),), evidence=evidence
        )
        assert open_report(render_jsonl(following, signing_key(0)), log.vkey).older == first.newer

    @pytest.mark.parametrize("indexes", [[249], [266], [251, 250], [250, 250]])
    def test_has_no_rows_that_its_evidence_does_not_cover(self, indexes: list[int]) -> None:
        with pytest.raises(UsageError):
            Report(
                start_ns=0,
                end_ns=1,
                made_ns=1,
                rows=tuple(Row(index, record()) for index in indexes),
                evidence=REPORT.evidence,
            )

    def test_is_not_made_of_a_tampered_log(self) -> None:
        log = sample_log(300)
        older, newer = prefix_checkpoint(log, ORIGIN, 200, signing_key(0)), log.checkpoint()
        log.leaves[299] = log.leaves[298]
        with pytest.raises(LogTampered):
            collect_evidence(log, older, newer, ())
        log = sample_log(300)
        log.tiles[0, 0] = log.tiles[0, 0][:-1] + b"\x00"
        with pytest.raises(LogTampered):
            collect_evidence(log, older, newer, ())

    def test_is_not_made_backwards(self) -> None:
        log = sample_log(20)
        older = log.checkpoint()
        with pytest.raises(LogTruncated):
            collect_evidence(log, older, prefix_checkpoint(log, ORIGIN, 3, signing_key(0)), ())

    def test_shows_what_the_parts_of_a_batch_say(self) -> None:
        log = sample_log(1)
        log.append(record(Event.BATCH_WRITTEN, {"count": 2, "parts": [["digest", "key"]]}))
        evidence = report_on(log).evidence
        rows = (Row(1, log.records[1], (("pay/one", 1), ("pay/two", 2))),)
        report = Report(start_ns=START_NS, end_ns=START_NS, made_ns=START_NS, rows=rows, evidence=evidence)
        assert b"pay/two" in render_html(report, signing_key(0))
        assert json.loads(render_jsonl(report, signing_key(0)).split(b"\n")[0])["parts"] == [
            ["pay/one", 1],
            ["pay/two", 2],
        ]
        assert b"pay/two" in render_csv(report)


class TestThePage:
    def test_says_who_did_what(self) -> None:
        text = " ".join(read(HTML).shown)
        for fact in ("svc:intern", "pay/key", "could not be decided by office-hours", "role:web", "moved", "266"):
            assert fact in text

    def test_says_so_where_nothing_happened(self) -> None:
        page = render_html(report_on(LOG, 266), KEY)
        assert page.count(b"Nothing in this period.") == 6

    def test_loads_and_runs_nothing(self) -> None:
        for page in (HTML, self.hostile_page()):
            tags = read(page).tags
            assert [attrs for tag, attrs in tags if tag == "script"] == [
                {"type": "application/json", "id": "attestation"}
            ]
            assert not {tag for tag, _ in tags} & {"img", "link", "iframe", "object", "embed", "form", "base", "svg"}
            for _, attrs in tags:
                assert not [name for name in attrs if name.startswith("on") or name in {"src", "style"}]
                assert (attrs.get("href") or "#").startswith("#")
            assert b"default-src 'none'" in page
            assert b"url(" not in page
            assert b"@import" not in page

    def test_shows_hostile_text_as_text(self) -> None:
        page = self.hostile_page()
        assert b"alert(1)</script>" not in page
        assert "\u202e" not in page.decode()
        assert "\N{ZERO WIDTH SPACE}" not in page.decode()
        assert b"\x00" not in page
        shown = "".join(read(page).shown)
        assert "</script><script>alert(1)</script>\"'&\\u202e\\u0000\\u000a\\u200bé" in shown

    @staticmethod
    def hostile_page() -> bytes:
        log = sample_log(1)
        log.append(*(each for each in every_event() if each.event is not Event.VAULT_CREATED))
        evidence = collect_evidence(log, prefix_checkpoint(log, ORIGIN, 0, signing_key(0)), log.checkpoint(), ())
        rows = tuple(Row(index, each) for index, each in enumerate(log.records))
        page = render_html(
            Report(start_ns=START_NS, end_ns=START_NS + DAY_NS, made_ns=START_NS, rows=rows, evidence=evidence),
            signing_key(0),
        )
        open_report(page, log.vkey)
        return page


class TestLinesOfJson:
    def test_hold_the_records_and_where_they_stand(self) -> None:
        lines = JSONL.decode().splitlines()
        assert len(lines) == 17
        for index, line in enumerate(lines[:-1], start=250):
            parsed = json.loads(line)
            again = json.dumps(parsed["record"], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
            assert parse_record(again.encode(), index) == LOG.records[index]
            assert (parsed["index"], parsed["leaf"]) == (index, encode_base64(leaf_hash(LOG.leaves[index])))
        assert list(json.loads(lines[-1])) == ["attestation"]


class TestCsv:
    def test_holds_a_line_for_each_record(self) -> None:
        rows = list(csv.DictReader(io.StringIO(render_csv(REPORT).decode(), newline="")))
        assert [int(row["index"]) for row in rows] == list(range(250, 266))
        denied = rows[10]
        assert (denied["principal"], denied["decision"], denied["path"]) == ("svc:intern", "deny", "pay/key")
        # A hash that begins with `+` has the mark that keeps a spreadsheet from computing it.
        assert denied["leaf_hash"].removeprefix("'") == encode_base64(leaf_hash(LOG.leaves[260]))

    @pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\rx"])
    def test_holds_nothing_that_a_spreadsheet_would_compute(self, text: str) -> None:
        log = sample_log(1)
        log.append(record(note=text, who=text))
        row = list(csv.DictReader(io.StringIO(render_csv(report_on(log)).decode(), newline="")))[1]
        assert (row["note"], row["principal"]) == (f"'{text}", f"'{text}")

    def test_has_no_attestation(self) -> None:
        with pytest.raises(SignatureInvalid, match="lost its attestation"):
            open_report(render_csv(REPORT), LOG.vkey)


class TestAnAlteredReport:
    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"\n",
            b"{}\n",
            b'{"attestation":}\n',
            b'{"attestation":{}}\n',
            b'{"attestation":[]}\n',
            b'{"attestation":{"evidence":{},"statement":1}}\n',
            b'{"attestation":{"evidence":{},"statement":""}}\n',
            b'{"attestation":' + b"[" * 100_000 + b"}\n",
            b'{"attestation":\xff}\n',
            HTML_OPEN,
            HTML_OPEN + b"</script>",
            HTML.replace(b"svc:intern", b"svc:others"),
            HTML.replace(b"<td", b"<td hidden", 1),
            HTML.replace(b"break-after:avoid", b"break-after:page_"),
            HTML + b"\n",
            b"\n" + HTML,
            HTML[:-1],
            HTML.replace(HTML_OPEN, b""),
            HTML.replace(HTML_OPEN, HTML_OPEN + HTML_OPEN),
            HTML.replace(HTML_OPEN, HTML_OPEN + b" "),
            JSONL.replace(b"svc:intern", b"svc:others"),
            JSONL.replace(b'"index":250', b'"index":251', 1),
            JSONL[JSONL.index(b"\n") + 1 :],
            JSONL + b"\n",
            JSONL[:-1],
            JSONL + JSONL,
        ],
    )
    def test_is_refused(self, raw: bytes) -> None:
        with pytest.raises(SignatureInvalid):
            open_report(raw, LOG.vkey)

    @given(st.integers(0, 8 * len(HTML) - 1))
    @settings(max_examples=300, deadline=None)
    def test_is_refused_with_any_bit_flipped(self, position: int) -> None:
        raw = bytearray(HTML)
        raw[position // 8] ^= 1 << position % 8
        with pytest.raises(SecurecfgError) as caught:
            open_report(bytes(raw), LOG.vkey)
        assert caught.value.exit_code == 8

    def test_is_refused_under_another_key(self) -> None:
        for vkey in (SampleLog(epoch=3).vkey, plain_log(0).genesis.__class__("other", LOG.vkey.public_key)):
            with pytest.raises(SecurecfgError) as caught:
                open_report(HTML, vkey)
            assert caught.value.exit_code == 8


def attested(page: bytes = b"page", **changes: Any) -> str:  # noqa: ANN401 - untrusted JSON is made of it
    """An attestation by the right key whose evidence says something else."""
    whole = json.loads(sign_attestation(REPORT.evidence, page, 1, KEY))
    whole["evidence"] |= changes
    evidence = json.dumps(whole["evidence"], sort_keys=True, separators=(",", ":")).encode()
    from hashlib import sha256

    digest = encode_base64(sha256(evidence).digest())
    text = re.sub(r"evidence .*\n", f"evidence {digest}\n", whole["statement"].partition("\n\n")[0] + "\n")
    whole["statement"] = sign_note(text, ORIGIN, KEY).decode()
    return json.dumps(whole, sort_keys=True, separators=(",", ":"))


class TestTheEvidence:
    """Even the holder of the log's key cannot show what the tree does not hold."""

    def test_is_accepted_as_it_is(self) -> None:
        assert open_attestation(attested(), b"page", LOG.vkey).rows == 1

    @pytest.mark.parametrize(
        "changes",
        [
            {"leaves": ""},
            {"leaves": encode_base64(b"".join(REPORT.evidence.leaf_hashes[:-1]))},
            {"leaves": encode_base64(b"".join(reversed(REPORT.evidence.leaf_hashes)))},
            {"leaves": encode_base64(b"".join(REPORT.evidence.leaf_hashes) + bytes(32))},
            {"leaves": encode_base64(b"".join(REPORT.evidence.leaf_hashes) + b"x")},
            {"leaves": encode_base64(bytes(16 * 32))},
            {"peaks": []},
            {"peaks": [encode_base64(bytes(32))] * 6},
            {"peaks": [encode_base64(bytes(31))] * 6},
            {"consistency": []},
            {"consistency": [encode_base64(bytes(32))] * 3},
            {"older": prefix_checkpoint(LOG, ORIGIN, 251, KEY).decode()},
            {"older": SampleLog().checkpoint().decode()},
            {"older": ""},
            {"newer": prefix_checkpoint(LOG, ORIGIN, 265, KEY).decode()},
            {"newer": REPORT.evidence.older.decode()},
            {"newer": sample_log(266).checkpoint().decode()},
            {"newer": "\ufffd"},
            {"hand_overs": [{"epoch": 1}]},
            {"hand_overs": [None]},
        ],
    )
    def test_that_does_not_hold_is_refused(self, changes: dict[str, Any]) -> None:
        with pytest.raises((LogTampered, LogTruncated)):
            open_attestation(attested(**changes), b"page", LOG.vkey)

    @pytest.mark.parametrize(
        "changes",
        [
            {"leaves": None},
            {"leaves": "?"},
            {"older": 1},
            {"newer": "\ud800"},
            {"consistency": None},
            {"consistency": [1]},
            {"peaks": "x"},
            {"hand_overs": 5},
        ],
    )
    def test_that_is_malformed_is_refused(self, changes: dict[str, Any]) -> None:
        with pytest.raises(SignatureInvalid, match="evidence of the report is malformed"):
            open_attestation(attested(**changes), b"page", LOG.vkey)

    def test_is_bound_to_its_statement(self) -> None:
        one, other = json.loads(attested()), json.loads(attested(hand_overs=[]))
        mixed = json.dumps(one | {"evidence": other["evidence"]}, sort_keys=True, separators=(",", ":"))
        with pytest.raises(SignatureInvalid, match="evidence of the report was altered"):
            open_attestation(mixed, b"page", LOG.vkey)

    @pytest.mark.parametrize("text", ["other\n", REPORT.newer.text, f"securecfg-report/1\n{ORIGIN}\nrows -1\n"])
    def test_is_bound_by_a_statement_and_nothing_else_that_the_key_signed(self, text: str) -> None:
        whole = json.loads(attested()) | {"statement": sign_note(text, ORIGIN, KEY).decode()}
        with pytest.raises(SignatureInvalid, match="not the statement"):
            open_attestation(json.dumps(whole, sort_keys=True, separators=(",", ":")), b"page", LOG.vkey)

    def test_of_another_log_is_refused(self) -> None:
        whole = json.loads(attested())
        text = whole["statement"].partition("\n\n")[0].replace(ORIGIN, "securecfg/" + "f" * 32) + "\n"
        whole["statement"] = sign_note(text, ORIGIN, KEY).decode()
        with pytest.raises(SignatureInvalid, match="not the statement"):
            open_attestation(json.dumps(whole, sort_keys=True, separators=(",", ":")), b"page", LOG.vkey)
