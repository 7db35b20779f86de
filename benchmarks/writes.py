"""What has to be durable: first reads, writes, many threads at once, many secrets at once."""

from __future__ import annotations

import itertools
import os
import threading
import time
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.rows import Goal, Row, alone, interleave, over_floor, per_second, show
from benchmarks.slow_disk import SlowDisk
from benchmarks.vaults import Place, Replay, create, fill, open_captured, path_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.rows import Bench
    from securecfg import Vault

COMMITS = 100
SLOW_SYNC_S = 0.001
THREADS = 32
READS_OF_A_THREAD = 6
BULK = 10_000
# A floor that differs this much between rounds says more about the file system than about what stands on it.
STEADY = 3.0


def rows(bench: Bench) -> Iterator[Row]:
    yield disk(bench)
    yield from singles(bench, "", None)
    # Where a sync takes long, what is judged is how often there is one and what waits for it, whatever the CPU.
    with SlowDisk(SLOW_SYNC_S) as vfs:
        yield from singles(bench, f", sync {show(SLOW_SYNC_S, 's')} slower", vfs.vfs_name)
    for delay_s, at_least in ((0.001, 5.0), (0.0002, 1.8)):
        yield from threads(bench, delay_s, at_least)
    yield from bulk(bench)


def disk(bench: Bench) -> Row:
    """Show what a sync costs here, without SQLite."""
    descriptor = os.open(bench.folder / "sync", os.O_RDWR | os.O_CREAT, 0o600)

    def sync() -> float:
        count = bench.repeats(COMMITS)
        started = time.perf_counter()
        for _ in range(count):
            os.write(descriptor, bytes(4096))
            os.fdatasync(descriptor)
        return (time.perf_counter() - started) / count

    found = interleave({"sync": sync}, bench.rounds)
    os.close(descriptor)
    return alone("append of 4 KiB and fdatasync, for orientation", found["sync"], "s")


def singles(bench: Bench, suffix: str, vfs: str | None) -> Iterator[Row]:
    """Compare calls that each commit once, through one VFS, with raw commits of the same rows through the same."""
    place = create(bench.folder / f"singles{suffix}", (bench.rounds + 1) * bench.repeats(COMMITS))
    for action in SINGLES:
        yield durable(bench, place, action, suffix, vfs)


def write(vault: Vault, path: str) -> None:
    vault.write(path, "another value of the usual length, 38")


SINGLES: dict[str, tuple[str, Callable[[Vault, str], object]]] = {
    "read": ("first read, durably recorded", lambda vault, path: vault.read(path)),
    "write": ("single write, signed checkpoint included", write),
}


def durable(bench: Bench, place: Place, action: str, suffix: str, vfs: str | None) -> Row:
    name, call = SINGLES[action]
    count = bench.repeats(COMMITS)
    vault, capture = open_captured(place, vfs)
    floor = Replay(place.folder / f"{action}-floor.db", vfs)
    numbers = itertools.count()
    counts: list[int] = []

    def ours() -> float:
        paths = [path_of(next(numbers)) for _ in range(count)]
        session = vault.authority.session()
        for path in paths:
            session.decide(action, path)
        started = time.perf_counter()
        for path in paths:
            call(vault, path)
        return (time.perf_counter() - started) / count

    def replay() -> float:
        counts.append(len(capture.commits))
        return floor.replay(capture) / counts[-1]

    with vault:
        found = interleave({"ours": ours, "floor": replay}, bench.rounds)
    floor.close()
    assert len(set(counts)) == 1
    is_steady = max(found["floor"]) < STEADY * min(found["floor"])
    row = over_floor(name + suffix, found["ours"], ("raw FULL commit of the same rows", found["floor"]), 1.5)
    note = "the file system gave the floor very different times in this run"
    return row if is_steady else replace(row, note=note, is_measurable=False)


def threads(bench: Bench, delay_s: float, at_least: float) -> Iterator[Row]:
    """Compare 32 threads with one where every sync takes longer by a delay."""
    each = THREADS * READS_OF_A_THREAD
    place = create(bench.folder / f"threads-{delay_s}", (bench.rounds + 1) * (each + READS_OF_A_THREAD * 4))
    numbers = itertools.count()
    with SlowDisk(delay_s) as vfs:
        vault, capture = open_captured(place, vfs.vfs_name)
        floor = Replay(place.folder / "floor.db", vfs.vfs_name)

        def paths(count: int) -> list[str]:
            found = [path_of(next(numbers)) for _ in range(count)]
            session = vault.authority.session()
            for path in found:
                session.decide("read", path)
            return found

        def one() -> float:
            wanted = paths(READS_OF_A_THREAD * 4)
            capture.commits.clear()
            started = time.perf_counter()
            for path in wanted:
                vault.read(path)
            return (time.perf_counter() - started) / len(wanted)

        def raw() -> float:
            count = len(capture.commits)
            return floor.replay(capture) / count

        def many() -> float:
            shares = [paths(READS_OF_A_THREAD) for _ in range(THREADS)]
            barrier = threading.Barrier(THREADS + 1)

            def work(share: list[str]) -> None:
                barrier.wait()
                for path in share:
                    vault.read(path)

            workers = [threading.Thread(target=work, args=(share,)) for share in shares]
            for worker in workers:
                worker.start()
            barrier.wait()
            started = time.perf_counter()
            for worker in workers:
                worker.join()
            return (time.perf_counter() - started) / each

        with vault:
            found = interleave({"one": one, "raw": raw, "many": many}, bench.rounds)
        floor.close()
    raw_s = median(found["raw"])
    figure = tuple(alone / together for alone, together in zip(found["one"], found["many"], strict=True))
    yield Row(
        f"first reads by {THREADS} threads, sync {show(delay_s, 's')} slower",
        per_second(found["many"]),
        "/s",
        "one thread",
        per_second(found["one"]),
        figure,
        "x",
        Goal(at_least, is_ceiling=False),
        f"a raw commit costs {show(raw_s, 's')} here",
        is_measurable=raw_s < STEADY * delay_s,  # the goal is for commits of about this cost
    )


def bulk(bench: Bench) -> Iterator[Row]:
    count = bench.repeats(BULK)
    place = create(bench.folder / "bulk", 0)
    vault, capture = open_captured(place)
    floor = Replay(place.folder / "floor.db")
    starts = itertools.count(0, count)

    def ours() -> float:
        capture.commits.clear()
        started = time.perf_counter()
        fill(vault, next(starts), count)
        return (time.perf_counter() - started) / count

    def raw() -> float:
        return floor.replay(capture) / count

    with vault:
        found = interleave({"ours": ours, "floor": raw}, bench.rounds)
    floor.close()
    name = f"bulk write, batches of {count:,} secrets"
    yield alone(name, per_second(found["ours"]), "/s", 20_000)
    yield over_floor(name, found["ours"], ("raw commits of the same rows", found["floor"]))
