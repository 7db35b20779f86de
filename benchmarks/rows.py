"""The shape that every measurement has, and the way in which contenders meet the same machine."""

from __future__ import annotations

import gc
import time
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    # Runs once and returns what it measured: seconds for one call, mostly.
    Contender = Callable[[], float]

Unit = Literal["s", "/s", "B", "x"]
Series = tuple[float, ...]

ROUNDS = 7
SCALES = (1_000, 100_000, 1_000_000)


@dataclass(frozen=True, slots=True)
class Bench:
    """How a run was asked for.

    Attributes:
        folder: An empty folder on a real disk.
        rounds: How often each contender runs after the first, which warms up and is thrown away.
        scale: The largest number of secrets.
        cache: Where large vaults are kept between runs, if anywhere.
    """

    folder: Path
    rounds: int = ROUNDS
    scale: int = SCALES[-1]
    cache: Path | None = None

    @property
    def scales(self) -> list[int]:
        return [size for size in SCALES if size <= self.scale] or [self.scale]

    def repeats(self, count: int) -> int:
        """Return a count, or a tenth of it for a run that only shows that everything works."""
        return count if self.scale >= SCALES[0] else max(count // 10, 1)


@dataclass(frozen=True, slots=True)
class Goal:
    """What a figure is to reach."""

    bound: float
    is_ceiling: bool

    def is_reached(self, value: float) -> bool:
        return value <= self.bound if self.is_ceiling else value >= self.bound

    def margin(self, value: float) -> float:
        """Return how many times better than the goal a value is; below 1 where it was missed."""
        if not value:
            return float("inf")
        return self.bound / value if self.is_ceiling else value / self.bound


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison.

    Attributes:
        name: What was done.
        ours: What it took, in each round.
        unit: Of `ours` and `theirs`.
        against: The floor or the peer.
        theirs: What that took in the same rounds.
        figure: What is judged, in each round: a ratio, a difference or `ours` itself.
        figure_unit: Of `figure`.
        goal: What the median of `figure` is to reach.
        note: What a reader must know.
        is_measurable: Whether the floor was steady enough to compare with.
    """

    name: str
    ours: Series
    unit: Unit
    against: str = ""
    theirs: Series = ()
    figure: Series = ()
    figure_unit: Unit = "x"
    goal: Goal | None = None
    note: str = ""
    is_measurable: bool = True

    @property
    def is_reached(self) -> bool | None:
        """Whether the goal is reached; None where there is none or where this run cannot tell."""
        if self.goal is None or not self.is_measurable:
            return None
        return self.goal.is_reached(median(self.figure))

    @property
    def verdict(self) -> str:
        if self.goal is None:
            return ""
        return {None: "not measurable", True: "yes", False: "no"}[self.is_reached]

    def __str__(self) -> str:
        text = f"{self.name:<52} {show(median(self.ours), self.unit):>12}"
        if self.theirs:
            text += f"   {self.against}: {show(median(self.theirs), self.unit)}"
        if self.figure:
            text += f"   {spread(self.figure, self.figure_unit)}"
        if self.goal is not None:
            text += f"   to reach {show_goal(self.goal, self.figure_unit)}: {self.verdict}"
        return text


def over_floor(name: str, ours: Series, floor: tuple[str, Series], at_most: float | None = None, note: str = "") -> Row:
    """Return a row about how many times the floor something takes."""
    figure = tuple(mine / theirs for mine, theirs in zip(ours, floor[1], strict=True))
    return Row(name, ours, "s", *floor, figure, "x", _ceiling(at_most), note)


def beyond_floor(name: str, ours: Series, floor: tuple[str, Series], at_most_s: float) -> Row:
    """Return a row about how much longer than the floor something takes."""
    figure = tuple(mine - theirs for mine, theirs in zip(ours, floor[1], strict=True))
    return Row(name, ours, "s", *floor, figure, "s", Goal(at_most_s, is_ceiling=True))


def ahead_of(name: str, ours: Series, peer: tuple[str, Series], at_least: float | None = None, note: str = "") -> Row:
    """Return a row about how many times faster than a peer something is."""
    figure = tuple(theirs / mine for mine, theirs in zip(ours, peer[1], strict=True))
    return Row(name, ours, "s", *peer, figure, "x", _least(at_least), note)


def alone(name: str, ours: Series, unit: Unit, bound: float | None = None, note: str = "") -> Row:
    """Return a row that is judged by itself; a rate has a least, everything else a most."""
    goal = None if bound is None else Goal(bound, is_ceiling=unit != "/s")
    return Row(name, ours, unit, figure=ours, figure_unit=unit, goal=goal, note=note)


def repeated(call: Callable[[], object], count: int) -> Contender:
    """Return a contender that calls something `count` times."""

    def run() -> float:
        started = time.perf_counter()
        for _ in range(count):
            call()
        return (time.perf_counter() - started) / count

    return run


def interleave(contenders: Mapping[str, Contender], rounds: int) -> dict[str, Series]:
    """Run every contender once in each round, so that all meet the same machine."""
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(rounds + 1):
        for name, run in contenders.items():
            gc.collect()
            value = run()
            if number:  # the first warms up
                found[name].append(value)
    return {name: tuple(values) for name, values in found.items()}


def per_second(seconds: Series) -> Series:
    return tuple(1 / each for each in seconds)


def show(value: float, unit: Unit) -> str:
    """Return a value with a unit that suits its size."""
    if unit == "s":
        for factor, name in ((1, "s"), (1e3, "ms"), (1e6, "us")):
            if abs(value) * factor >= 1:
                return f"{value * factor:.3g} {name}"
        return f"{value * 1e6:.2f} us"
    if unit == "/s":
        return f"{value:,.0f}/s"
    if unit == "B":
        return f"{value / 1e6:.1f} MB"
    return f"{value:.1f}x" if value >= 10 else f"{value:.2f}x"


def spread(values: Series, unit: Unit) -> str:
    """Return the median with the least and the most."""
    if len(set(values)) == 1:
        return show(values[0], unit)
    return f"{show(median(values), unit)} ({show(min(values), unit)} to {show(max(values), unit)})"


def show_goal(goal: Goal, unit: Unit) -> str:
    return f"at {'most' if goal.is_ceiling else 'least'} {show(goal.bound, unit)}"


def _ceiling(bound: float | None) -> Goal | None:
    return None if bound is None else Goal(bound, is_ceiling=True)


def _least(bound: float | None) -> Goal | None:
    return None if bound is None else Goal(bound, is_ceiling=False)
