"""The results as a page and as a chart."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html import escape
from importlib.metadata import PackageNotFoundError, version
from math import log10
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.rows import show, show_goal, spread

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from benchmarks.rows import Bench, Goal, Row

    Found = Mapping[str, Sequence[Row]]

PACKAGES = (
    "securecfg-vault",
    "apsw",
    "cryptography",
    "cedarpy",
    "click",
    "PyYAML",
    "pydantic",
    "pydantic-settings",
    "dynaconf",
    "aws-secretsmanager-caching",
    "hvac",
)
# Above this share of the cores, somebody else's work was measured too.
BUSY = 0.75


@dataclass(slots=True)
class Machine:
    """Where the run took place.

    Attributes:
        load: The load of the last minute, at the start and at the end.
    """

    file_system: str
    started: datetime
    load: list[float] = field(default_factory=list)

    @classmethod
    def look(cls, folder: Path) -> Machine:
        kind = subprocess.run(["stat", "-f", "-c", "%T", folder], check=True, capture_output=True, text=True)
        return cls(kind.stdout.strip(), datetime.now(UTC), [os.getloadavg()[0]])

    def look_again(self) -> None:
        self.load.append(os.getloadavg()[0])

    @property
    def was_busy(self) -> bool:
        return self.load[0] > BUSY * (os.cpu_count() or 1)

    def lines(self) -> Iterator[str]:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        yield f"- {self.started:%Y-%m-%d %H:%M} UTC, commit {_commit()}"
        yield f"- {_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB of memory"
        yield f"- {platform.system()} {platform.release()}, file system {self.file_system}"
        yield f"- {platform.python_implementation()} {platform.python_version()}; {', '.join(_versions())}"
        yield f"- load of the last minute: {self.load[0]:.1f} at the start, {self.load[-1]:.1f} at the end"


def _commit() -> str:
    try:
        command = ["git", "describe", "--always", "--dirty"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _versions() -> Iterator[str]:
    for package in PACKAGES:
        try:
            yield f"{package} {version(package)}"
        except PackageNotFoundError:
            continue
    import apsw

    yield f"SQLite {apsw.sqlite_lib_version()}"
    age = shutil.which("age")
    if age:
        yield f"age {subprocess.run([age, '--version'], check=True, capture_output=True, text=True).stdout.strip()}"


# --- the page ---------------------------------------------------------------------------------------------------------


def write(found: Found, machine: Machine, bench: Bench) -> str:
    """Return the page."""
    lines = [
        "# Benchmarks",
        "",
        "Written by `make bench`. Every row and what it is compared with ran in turn, in the same rounds of the same",
        f"run: {bench.rounds} rounds after one that warms up. A figure is the median, with the least and the most.",
        "",
        *machine.lines(),
        "",
    ]
    if machine.was_busy:
        lines += [
            "**The machine was busy with other work during this run.** Times are longer than they would be alone;",
            "ratios suffer less, but those of durable rows and whole processes do. The spread says by how much.",
            "",
        ]
    lines += _verdict(found)
    lines += ["![How far each row is from its goal](results.svg)", ""]
    for topic, rows in found.items():
        lines += [
            f"## {topic}",
            "",
            "| what | took | beside | figure | to reach | reached |",
            "|---|--:|---|--:|--:|---|",
        ]
        lines += [_line(row) for row in rows]
        lines.append("")
    return "\n".join(lines)


def _verdict(found: Found) -> list[str]:
    judged = [row for rows in found.values() for row in rows if row.goal is not None]
    reached = sum(row.is_reached is True for row in judged)
    missed = [row for row in judged if row.is_reached is False]
    lines = [f"{reached} of {len(judged)} rows with a goal reach it."]
    if missed:
        lines += ["Missed:", "", *(f"- {row.name}: {_figure(row)}, {_goal(row)}" for row in missed)]
    return [*lines, ""]


def _line(row: Row) -> str:
    beside = f"{row.against}: {show(median(row.theirs), row.unit)}" if row.theirs else ""
    name = f"{row.name} ({row.note})" if row.note else row.name
    reached = "**no**" if row.is_reached is False else row.verdict
    return f"| {name} | {show(median(row.ours), row.unit)} | {beside} | {_figure(row)} | {_goal(row)} | {reached} |"


def _figure(row: Row) -> str:
    return spread(row.figure, row.figure_unit)


def _goal(row: Row) -> str:
    return show_goal(row.goal, row.figure_unit) if row.goal is not None else ""


# --- the chart --------------------------------------------------------------------------------------------------------

LABEL, WIDTH, BAR, GAP, TOP = 420, 560, 14, 8, 56
LEAST, MOST = -0.7, 2.0  # powers of ten that the chart shows


def draw(found: Found) -> str:
    """Return an SVG with a bar for each row that has a goal: how many times better than the goal it is."""
    judged = [(row, row.goal) for rows in found.values() for row in rows if row.goal is not None]
    height = TOP + len(judged) * (BAR + GAP) + 16
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LABEL + WIDTH + 90} {height}">',
        "<style>text { font: 12px system-ui, sans-serif } .title { font: 600 14px system-ui, sans-serif }</style>",
        '<rect width="100%" height="100%" fill="#fff"/>',
        '<text class="title" x="12" y="20">Times better than the goal (logarithmic)</text>',
        '<text x="12" y="38" fill="#555">left of 1: missed; line: least and most; grey: not measurable here</text>',
    ]
    for tick in (0.2, 0.5, 1, 2, 5, 10, 20, 50, 100):
        x = _x(tick)
        style = 'stroke="#222"' if tick == 1 else 'stroke="#ddd"'
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 6}" y2="{height - 12}" {style}/>')
        parts.append(f'<text x="{x:.1f}" y="{TOP - 10}" text-anchor="middle" fill="#555">{tick:g}</text>')
    for place, (row, goal) in enumerate(judged):
        parts += _bar(row, goal, TOP + place * (BAR + GAP))
    return "\n".join([*parts, "</svg>", ""])


def _bar(row: Row, goal: Goal, y: int) -> Iterator[str]:
    middle = goal.margin(median(row.figure))
    low, high = sorted((goal.margin(min(row.figure)), goal.margin(max(row.figure))))
    colour = {None: "#999", True: "#2f7d4f", False: "#b3392f"}[row.is_reached]
    start, end = sorted((_x(1), _x(middle)))
    yield f'<text x="{LABEL - 8}" y="{y + 11}" text-anchor="end">{escape(_label(row))}</text>'
    yield f'<rect x="{start:.1f}" y="{y}" width="{max(end - start, 1):.1f}" height="{BAR}" fill="{colour}"/>'
    line = y + BAR / 2
    yield f'<line x1="{_x(low):.1f}" x2="{_x(high):.1f}" y1="{line}" y2="{line}" stroke="#111" stroke-width="1.5"/>'
    yield f'<text x="{LABEL + WIDTH + 8}" y="{y + 11}" fill="#333">{show(median(row.figure), row.figure_unit)}</text>'


def _label(row: Row) -> str:
    text = row.name.replace("`", "")
    return text if len(text) <= 62 else f"{text[:60]}..."


def _x(margin: float) -> float:
    power = min(max(log10(margin), LEAST), MOST) if margin > 0 else MOST if margin else LEAST
    return LABEL + (power - LEAST) / (MOST - LEAST) * WIDTH
