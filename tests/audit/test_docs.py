"""The Python blocks of the pages on the log run as they stand, on files of the names that they use."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from securecfg.audit import parse_leaf
from securecfg.audit.attestation import collect_evidence, prefix_checkpoint
from securecfg.audit.events import OBJECT_FIELDS, SHAPES, Event, Field
from securecfg.audit.proof import create_proof
from securecfg.audit.report import Report, Row, render_html
from securecfg.audit.tiles import export_tiles
from tests.audit.sample import ORIGIN, START_NS, sample_log, signing_key

if TYPE_CHECKING:
    import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
MARKS = {Field.TEXT: "", Field.NUMBER: "#", Field.TEXTS: "[]", Field.VERSIONS: "[]", Field.PARTS: "[]"}


def test_the_how_to_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    log = sample_log(20)
    export_tiles(tmp_path / "log-export", log.leaves, log.checkpoint(), log.vkey)
    (tmp_path / "trusted.vkey").write_text(f"{log.vkey}\n")
    key = log.opener.leaf_key(parse_leaf(log.leaves[7], 7), 7)
    (tmp_path / "record-7.tlog-proof").write_bytes(create_proof(log, 7, log.checkpoint(), key))
    evidence = collect_evidence(log, prefix_checkpoint(log, ORIGIN, 0, signing_key(0)), log.checkpoint(), ())
    rows = tuple(Row(index, record) for index, record in enumerate(log.records))
    report = Report(start_ns=START_NS, end_ns=START_NS + 1, made_ns=START_NS, rows=rows, evidence=evidence)
    (tmp_path / "report.html").write_bytes(render_html(report, signing_key(0)))

    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "how-to/verify-the-log.md").read_text(), re.DOTALL)
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)  # noqa: S102 - the page's own code
    assert capsys.readouterr().out.splitlines() == [
        "20 records, sound",
        "7 secret.read svc:web",
        "20 rows, records 0 to 19",
    ]


def test_the_catalogue_is_the_one_in_the_page() -> None:
    page = (DOCS / "security/audit-log.md").read_text()
    described: dict[str, tuple[set[str], set[str]]] = {}
    for events, fields in re.findall(r"^\| (`[a-z_.]+`(?:, `[a-z_.]+`)*) \| (.*) \|$", page, re.MULTILINE):
        if "." not in events and "recovery" not in events:
            continue
        required, _, optional = fields.partition("(")
        names = [
            set(re.findall(r"[a-z_]+(?:#|\[\])?", re.sub(r" of \[[^]]*\]|\bor ", "", part)))
            for part in (required, optional)
        ]
        for event in re.findall(r"`([^`]+)`", events):
            described[event] = (names[0], names[1])
    assert described == {
        event.value: (marked(SHAPES[event].required), marked(SHAPES[event].optional)) for event in Event
    }


def marked(names: frozenset[str]) -> set[str]:
    return {name + MARKS[OBJECT_FIELDS[name]] for name in names}
