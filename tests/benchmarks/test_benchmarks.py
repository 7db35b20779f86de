"""The suite of benchmarks runs; what it measures is never asserted."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from benchmarks.rows import Goal, Row, interleave, over_floor, repeated
from tests.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

# The other topics compare with packages that only the bench group installs.
TOPICS = ("reads", "writes", "sizes", "provider_opens", "policy_decisions", "audit_verify", "processes", "store_rows")


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    environment = os.environ | {"SECURECFG_BENCH_DIR": str(folder)}
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, env=environment)


def test_every_topic_runs_and_reports(tmp_path: Path) -> None:
    output = tmp_path / "results"
    output.mkdir()
    small = ("--scale", "200", "--rounds", "1", "--only", ",".join(TOPICS), "--output", str(output))
    done = run(tmp_path, *small)
    assert done.returncode == 0, done.stderr
    page = (output / "results.md").read_text(encoding="utf-8")
    assert "| read, hot |" in page
    assert "securecfg secret get --reveal" in page
    assert "cores" in page
    assert ET.fromstring((output / "results.svg").read_text(encoding="utf-8")).tag.endswith("svg")  # noqa: S314 - our own


def test_an_unknown_topic_is_refused_before_anything_runs(tmp_path: Path) -> None:
    done = run(tmp_path, "--only", "nothing")
    assert done.returncode == 2
    assert "no such topic: nothing" in done.stderr


def test_contenders_run_in_turn_and_the_first_round_is_thrown_away() -> None:
    calls: list[str] = []

    def count(name: str) -> float:
        calls.append(name)
        return float(len(calls))

    found = interleave({"a": lambda: count("a"), "b": lambda: count("b")}, 2)
    assert calls == ["a", "b"] * 3
    assert found == {"a": (3.0, 5.0), "b": (4.0, 6.0)}
    assert interleave({"c": repeated(lambda: calls.append("c"), 4)}, 0) == {"c": ()}
    assert calls.count("c") == 4


@pytest.mark.parametrize(
    ("is_ceiling", "value", "is_reached", "margin"),
    [(True, 1.0, True, 2.0), (True, 4.0, False, 0.5), (False, 4.0, True, 2.0), (False, 1.0, False, 0.5)],
)
def test_a_goal_is_a_ceiling_or_a_floor(is_ceiling: bool, value: float, is_reached: bool, margin: float) -> None:
    goal = Goal(2.0, is_ceiling=is_ceiling)
    assert goal.is_reached(value) is is_reached
    assert goal.margin(value) == margin


def test_a_ratio_is_taken_in_each_round_before_the_median() -> None:
    row: Row = over_floor("row", (1.0, 9.0, 2.0), ("floor", (1.0, 3.0, 1.0)), 2.0)
    assert row.figure == (1.0, 3.0, 2.0)
    assert row.is_reached
    assert "2.00x (1.00x to 3.00x)" in str(row)
