"""Promises 1 to 5 and 9 over power cuts: a sample of what `make crash` explores, and controls that must be caught."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.reliability.crash import explored

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.no_cover


@pytest.mark.parametrize("seed", range(101, 104))
def test_no_crash_loses_tears_or_discloses_anything(tmp_path: Path, seed: int) -> None:
    report = explored(tmp_path, count=400, seed=seed)
    print(report.summary())
    assert len(report.digests) == 400
    assert report.violations == []


@pytest.mark.parametrize(
    ("syncs", "defect", "seed", "problem"),
    [
        ("lying", "", 1, "a change is lost, or there in part"),
        ("normal", "", 7, "a change is lost, or there in part"),
        ("honest", "split", 7, "records are missing from the log"),
        ("honest", "forgetful", 10, "a value was given out without a record"),
    ],
)
def test_a_planted_defect_is_caught(tmp_path: Path, syncs: str, defect: str, seed: int, problem: str) -> None:
    report = explored(tmp_path, count=400, seed=seed, syncs=syncs, defect=defect)  # type: ignore[arg-type]  # literals
    print(report.summary())
    assert report.violation_count > 3
    assert any(problem in violation.problem for violation in report.violations)
