"""Processes that are killed while they write: real locks, real shared memory, real recovery.

What this shows is about processes. It says nothing about power cuts: the operating system still holds what was
written. That is for `securecfg.testing.crash`.
"""

from __future__ import annotations

import random
import subprocess
import time
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_START_LIMIT_S = 60.0


@dataclass(slots=True)
class KillReport:
    """What a loop did.

    Attributes:
        rounds: How often a set of processes was started.
        kills: How many processes were killed while they were at work.
        acknowledged: How many lines of acknowledgement they wrote.
    """

    rounds: int = 0
    kills: int = 0
    acknowledged: int = 0
    lines: list[list[str]] = field(default_factory=list)


def kill_repeatedly(
    command: Callable[[int, int], Sequence[str]],
    check: Callable[[list[list[str]]], None],
    *,
    processes: int,
    duration_s: float,
    seed: int = 0,
) -> KillReport:
    """Start processes, kill them with SIGKILL one after the other at random moments, check, and begin again.

    A process writes a line to its standard output, and flushes it, after each thing it was told is durable. A process
    that ends by itself is a failure, and its standard error is shown.

    Args:
        command: The arguments of process `number` in round `round`: `command(round, number)`.
        check: Called after each round with the complete lines of each process in all rounds so far, in the order
            of starts; raises where something acknowledged is missing or wrong.
        processes: How many write at the same time.
        duration_s: After this time no new round begins.
        seed: What makes the moments repeatable, as far as processes are.

    Raises:
        AssertionError: A process ended by itself or never began to write.
    """
    draw = random.Random(seed)  # noqa: S311 - a failure should be repeatable
    report = KillReport()
    end = time.monotonic() + duration_s
    while time.monotonic() < end:
        started = [
            # Unbuffered: what a buffer read ahead of the first line, `communicate` would not see.
            subprocess.Popen(command(report.rounds, number), stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
            for number in range(processes)
        ]
        try:
            firsts = [_first_line(process) for process in started]
            for process in draw.sample(started, len(started)):
                time.sleep(draw.uniform(0.001, 0.1))
                process.kill()
        finally:
            for process in started:
                process.kill()
        for process, first in zip(started, firsts, strict=True):
            rest, problem = process.communicate()
            if process.returncode >= 0:
                message = f"a writer ended by itself with {process.returncode}: {problem.decode().strip()}"
                raise AssertionError(message)
            # The kill may have cut the last line.
            lines = (first + rest).rpartition(b"\n")[0].decode().splitlines()
            report.lines.append(lines)
            report.acknowledged += len(lines)
            report.kills += 1
        report.rounds += 1
        check(report.lines)
    return report


def _first_line(process: subprocess.Popen[bytes]) -> bytes:
    pipe: IO[bytes] | None = process.stdout
    line = pipe.readline() if pipe else b""
    if not line:
        _, problem = process.communicate(timeout=_START_LIMIT_S)
        message = f"a writer never began: {problem.decode().strip()}"
        raise AssertionError(message)
    return line
