"""What is found in the corpus, exactly; the rates in docs/reference/detection.md are these."""

from __future__ import annotations

from collections import Counter

import pytest

from securecfg.sources.detection import Plan, find_secrets
from securecfg.sources.rewrite import apply_undo, rewrite
from tests.corpus.reading import FOLDER, TOKENS, read_corpus, read_marks

# `keyboard cat` under `secret` in JSON: two words read as a label.
KNOWN_MISSES = ["node/config/default.json:3"]
KNOWN_FALSE_FINDINGS: list[str] = []


@pytest.fixture(scope="module")
def plan() -> Plan:
    return find_secrets(read_corpus())


def test_finds_exactly_the_marked_secrets(plan: Plan) -> None:
    found = Counter(f"{finding.file}:{finding.line}" for finding in plan.findings)
    marked = Counter(read_marks("secrets.txt"))
    assert sorted((marked - found).elements()) == KNOWN_MISSES
    assert sorted((found - marked).elements()) == KNOWN_FALSE_FINDINGS


def test_the_documented_rates_are_the_measured_ones(plan: Plan) -> None:
    marked, found = len(read_marks("secrets.txt")), len(plan.findings)
    right = marked - len(KNOWN_MISSES)
    text = (FOLDER.parent.parent / "docs/reference/detection.md").read_text(encoding="utf-8")
    line = f"| securecfg | {right / found:.1%} | {right / marked:.1%} |"
    assert line.replace("%", " %") in text
    assert f"{len(read_corpus())} files with {marked} secrets and {plan.untouched} other values" in text


def test_reads_every_file_of_the_corpus(plan: Plan) -> None:
    assert plan.problems == ()


def test_every_target_is_chosen_once(plan: Plan) -> None:
    targets = Counter(finding.target for finding in plan.findings)
    assert targets.most_common(1)[0][1] == 1


def test_the_same_files_in_another_order_get_the_same_targets(plan: Plan) -> None:
    again = find_secrets(read_corpus()[::-1])
    assert sorted(f"{f.file}:{f.line}:{f.column} {f.target}" for f in again.findings) == sorted(
        f"{f.file}:{f.line}:{f.column} {f.target}" for f in plan.findings
    )


def test_every_file_is_rewritten_without_its_secrets_and_restored(plan: Plan) -> None:
    for file in read_corpus():
        findings = plan.of_file(file.name)
        if not findings:
            continue
        rewritten = rewrite(file, findings)
        assert rewritten.content != file.content
        assert apply_undo(rewritten.content, rewritten.undo.reveal()) == file.content
        again = find_secrets([type(file)(file.name, rewritten.content)])
        assert again.findings == (), file.name


def test_the_plan_shows_no_value(plan: Plan) -> None:
    shown = repr(plan)
    for finding in plan.findings:
        value = finding.value.reveal()
        if len(value) >= 10 and "postgres" not in value:
            assert value not in shown


def test_the_stored_corpus_holds_no_real_looking_token() -> None:
    stored = "".join(path.read_text(encoding="utf-8") for path in (FOLDER / "files").rglob("*") if path.is_file())
    for token in TOKENS.values():
        assert token not in stored
