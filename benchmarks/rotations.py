"""Rotations: how fast they are led on where the target costs nothing, and what many that wait cost a daemon."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from statistics import quantiles
from typing import TYPE_CHECKING, Any

from benchmarks.rows import SCALES, alone, over_floor
from benchmarks.vaults import ADMIN, create, path_of
from securecfg import Vault
from securecfg.rotation.daemon import Daemon, Limits
from securecfg.rotation.document import Rules
from securecfg.rotation.lease import Leases
from securecfg.rotation.rotations import Rotations
from securecfg.rotation.runner import Runner
from securecfg.rotation.steps import Steps

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from benchmarks.rows import Bench, Row
    from benchmarks.vaults import Place

ROTATED = 100
SCHEDULED = SCALES[1]
_RULES = Rules("random", grace_s=0)
_IDLE_SHARE = 0.01


def rows(bench: Bench) -> Iterator[Row]:
    yield from led_on(bench)
    yield from waiting(bench)


def led_on(bench: Bench) -> Iterator[Row]:
    """Rotate where the target costs nothing: seven steps, each a commit with its record."""
    count = bench.repeats(ROTATED)
    place = create(bench.folder / "rotated", count)
    single, writes, leases, daemons = [], [], [], []
    with Vault.open(place.vault, key=place.key, principal=ADMIN) as vault:
        _set(vault, count)
        steps, runner = Steps(vault.authority), Runner(vault)
        for _ in range(bench.rounds + 1):
            single.append(_time(lambda: _rotate(runner, steps, count)) / count)
            writes.append(_time(lambda: _write(vault, count)) / count)
            leases.append(_time(lambda: _hold(steps, count)) / count / 2)
            daemons.append(count / _by_daemon(place, steps, count))
    floor = ("seven writes of a secret", tuple(7 * each for each in writes[1:]))
    yield over_floor("rotate a secret, no target", tuple(single[1:]), floor)
    yield alone("rotations of a daemon, no target", tuple(daemons[1:]), "/s")
    yield over_floor("take a lease", tuple(leases[1:]), ("a write of a secret", tuple(writes[1:])))


def waiting(bench: Bench) -> Iterator[Row]:
    """Let many rotations wait until they are due, and some of them become so."""
    count = min(bench.scale, SCHEDULED)
    place = create(bench.folder / "scheduled", count)
    with Vault.open(place.vault, key=place.key, principal=ADMIN) as vault:
        began = time.perf_counter()
        _set(vault, count)
        rate = count / (time.perf_counter() - began)
    found = _measured(place.folder, count)
    name = f"{count:,} rotations that wait"
    yield alone(f"set {count:,} rotations", (rate,), "/s")
    yield alone(f"{name}: until a daemon knows them", (found["loaded_s"],), "s")
    yield alone(f"{name}: memory", (found["memory"],), "B")
    note = "share of one processor while nothing is due"
    yield alone(f"{name}: idle", (found["idle"],), "x", _IDLE_SHARE, note)
    late = quantiles(found["delays_s"], n=100)[98] if len(found["delays_s"]) > 1 else found["delays_s"][0]
    yield alone(f"{name}: due until begun, 99th percentile", (late,), "s")


def _set(vault: Vault, count: int) -> None:
    rotations = Rotations(vault)
    for number in range(count):
        rotations.set(path_of(number), _RULES)


def _rotate(runner: Runner, steps: Steps, count: int) -> None:
    for number in range(count):
        runner.advance(steps.find(path_of(number)), "asked")


def _write(vault: Vault, count: int) -> None:
    for number in range(count):
        vault.write(path_of(number), "another value of some length")


def _hold(steps: Steps, count: int) -> None:
    """Note who is at work, as each taking of a lease does."""
    holder = Leases().holder
    for number in range(count):
        stored = steps.find(path_of(number))
        after = stored.rotation._replace(holder=holder)
        obj = {"path": stored.rotation.path, "token": "0" * 32, "from": "idle", "to": "idle"}
        held = steps.change(stored, lambda _, after=after: after, obj)  # type: ignore[misc]  # lambda default
        steps.change(held, lambda _, stored=stored: stored.rotation, obj)  # type: ignore[misc]  # as above


def _by_daemon(place: Place, steps: Steps, count: int) -> float:
    """Return how long a daemon takes to rotate everything once."""
    for number in range(count):
        stored = steps.find(path_of(number))
        after = stored.rotation._replace(due_ns=1)
        obj = {"path": stored.rotation.path, "rotator": "random", "action": "due"}
        steps.change(stored, lambda _, after=after: after, obj)  # type: ignore[misc]  # lambda default
    daemon = Daemon(lambda: Vault.open(place.vault, key=place.key, principal=ADMIN), limits=Limits(calls_per_s=1e6))
    thread = threading.Thread(target=daemon.run)
    began = time.perf_counter()
    thread.start()
    while not _has_done_all(daemon):
        time.sleep(0.002)
    took = time.perf_counter() - began
    daemon.stop()
    thread.join()
    return took


def _has_done_all(daemon: Daemon) -> bool:
    health = daemon.health()
    return health.is_ready and not health.working and health.next_ns is None


def _time(call: Callable[[], None]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _measured(folder: Path, count: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.rotation_daemon", str(folder), str(count)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found
