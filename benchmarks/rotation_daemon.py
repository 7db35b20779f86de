"""A daemon that measures itself: `python -m benchmarks.rotation_daemon FOLDER COUNT`, for the rows of `rotations`.

Prints a JSON object: how long it takes to know all rotations, the memory that it has then, the share of a processor
that it takes while nothing is due, and how late each of some rotations begins that become due one after the other.
"""

from __future__ import annotations

import json
import random
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.vaults import ADMIN, Place, path_of
from securecfg import Vault
from securecfg.rotation.daemon import Daemon, Limits
from securecfg.rotation.steps import Steps

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.rotation.runner import StepDetails

IDLE_S = 10.0
DUE = 200
SPACING_NS = 50_000_000
_AHEAD_NS = 5_000_000_000
_PATIENCE_S = 300.0


def main() -> None:
    place, count = Place(Path(sys.argv[1]), int(sys.argv[2])), int(sys.argv[2])
    delays_s: list[float] = []

    def observe(step: StepDetails) -> None:
        if step.from_ == "idle":
            delays_s.append((step.began_ns - step.due_ns) / 1e9)

    daemon = Daemon(
        lambda: Vault.open(place.vault, key=place.key, principal=ADMIN), limits=Limits(calls_per_s=1e6), observe=observe
    )
    before, began = _memory(), time.perf_counter()
    thread = threading.Thread(target=daemon.run)
    thread.start()
    try:
        _wait(lambda: daemon.health().is_ready)
        loaded_s, memory = time.perf_counter() - began, _memory() - before
        spent, since = time.process_time(), time.perf_counter()
        time.sleep(IDLE_S)
        idle = (time.process_time() - spent) / (time.perf_counter() - since)
        _make_due(place, count)
        _wait(lambda: len(delays_s) >= min(DUE, count))
    finally:
        daemon.stop()
        thread.join()
    print(json.dumps({"loaded_s": loaded_s, "memory": memory, "idle": idle, "delays_s": sorted(delays_s)}))


def _make_due(place: Place, count: int) -> None:
    """Make some rotations due, one after the other, from in a few seconds on."""
    chosen = random.Random(7).sample(range(count), min(DUE, count))
    with Vault.open(place.vault, key=place.key, principal=ADMIN) as vault:
        steps = Steps(vault.authority)
        start = vault.opened.clock.now_ns() + _AHEAD_NS
        for number, each in enumerate(chosen):
            stored = steps.find(path_of(each))
            after = stored.rotation._replace(due_ns=start + number * SPACING_NS)
            obj = {"path": stored.rotation.path, "rotator": "random", "action": "due"}
            steps.change(stored, lambda _, after=after: after, obj)  # type: ignore[misc]  # lambda default


def _wait(is_so: Callable[[], bool]) -> None:
    until = time.monotonic() + _PATIENCE_S
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.01)


def _memory() -> int:
    with open("/proc/self/status", encoding="ascii") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))


if __name__ == "__main__":
    main()
