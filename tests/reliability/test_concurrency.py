"""Threads and processes on one vault: what each of them saw could have happened one after the other."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.conftest import ROOT
from tests.reliability.linearizability import NotLinearizable, Operation, verify_history
from tests.vault.world import World, text_of

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.no_cover

SECONDS = 4


def run_workers(world: World, shapes: list[tuple[int, str]]) -> tuple[dict[str, list[Operation]], int]:
    """Run processes with some threads each; return the operations of each path, and the number of compactions."""
    processes = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.reliability.worker", str(world.path), world.key),
                *(f"process{number}", str(threads), str(SECONDS), kind),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for number, (threads, kind) in enumerate(shapes)
    ]
    operations: dict[str, list[Operation]] = {}
    compactions = 0
    outcomes = [(process.communicate(timeout=100), process.returncode) for process in processes]
    for (output, problem), code in outcomes:
        assert code == 0, problem[-3_000:]
        for line in output.splitlines():
            path, kind, begin, end, version, value = json.loads(line)
            if kind == "compactions":
                compactions += version
            else:
                operations.setdefault(path, []).append(Operation(kind, begin, end, version, value))
    return operations, compactions


@pytest.mark.parametrize(
    "shapes",
    [
        pytest.param([(8, "work")] * 4 + [(1, "compact")], id="32 threads in 4 processes, and one that compacts"),
        pytest.param([(32, "work")], id="32 threads in one process"),
    ],
)
def test_every_history_is_linearizable(tmp_path: Path, shapes: list[tuple[int, str]]) -> None:
    world = World(tmp_path)
    world.create().close()
    operations, compactions = run_workers(world, shapes)
    writes = {path: [one for one in found if one.kind == "write"] for path, found in operations.items()}
    total = sum(map(len, operations.values()))
    print(f"{total} operations, {sum(map(len, writes.values()))} writes, {compactions} compactions")
    assert total > 200
    for history in operations.values():
        verify_history(history)
    vault = world.open()
    for path, history in writes.items():
        # Every write is there, and nothing else.
        assert sorted(one.version for one in history) == [info.version for info in reversed(vault.history(path))]
        newest = max(history, key=lambda one: one.version)
        assert text_of(vault, path)[:40] == newest.value
    vault.log.verify()
    world.close()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.vault", "key"]


def write(begin: int, end: int, version: int) -> Operation:
    return Operation("write", begin, end, version, f"v{version}")


def read(begin: int, end: int, version: int, value: str | None = None) -> Operation:
    return Operation("read", begin, end, version, f"v{version}" if value is None and version else value or "")


@pytest.mark.parametrize(
    "history",
    [
        [],
        [write(0, 1, 1), read(2, 3, 1)],
        [write(0, 9, 1), read(2, 3, 0), read(4, 5, 1)],
        [write(0, 9, 2), write(0, 9, 1), read(1, 2, 1), read(3, 4, 2)],
        [write(0, 1, 1), Operation("maybe", 2, 3, 0, "v2"), read(4, 5, 2)],
    ],
)
def test_accepts_what_could_have_happened(history: list[Operation]) -> None:
    verify_history(history)


@pytest.mark.parametrize(
    "history",
    [
        pytest.param([write(0, 1, 1), write(2, 3, 2), read(4, 5, 1)], id="a stale read"),
        pytest.param([write(0, 1, 1), read(2, 3, 0)], id="a read that finds nothing"),
        pytest.param([write(0, 9, 1), read(1, 2, 1), read(3, 4, 0)], id="a read that goes back"),
        pytest.param([write(4, 5, 1), read(1, 2, 1)], id="a read from the future"),
        pytest.param([read(1, 2, 1)], id="a read of what nobody wrote"),
        pytest.param([write(0, 1, 1), read(2, 3, 1, "other")], id="a wrong value"),
        pytest.param([write(0, 1, 1), write(2, 3, 1)], id="a version made twice"),
        pytest.param([write(0, 1, 2), write(2, 3, 1)], id="writes in the wrong order"),
    ],
)
def test_refuses_what_cannot_have_happened(history: list[Operation]) -> None:
    with pytest.raises(NotLinearizable):
        verify_history(history)
