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
from benchmarks.vaults import Place, Replay, create, fill, open_captured, path_of
from securecfg.testing.faults import FaultyVfs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from benchmarks.rows import Bench
    from securecfg import Vault

COMMITS = 100
THREADS = 32
READS_OF_A_THREAD = 6
BULK = 10_000
# A floor that differs this much between rounds says more about the file system than about what stands on it.
STEADY = 3.0


def rows(bench: Bench) -> Iterator[Row]:
    yield disk(bench)
    count = bench.repeats(COMMITS)
    place = create(bench.folder / "writes", (bench.rounds + 1) * count)
    yield from first_reads(bench, place, count)
    yield from single_writes(bench, place, count)
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


def durable(name: str, bench: Bench, folder: Path, place: Place, calls: Callable[[Vault], float]) -> Row:
    """Compare calls that each commit once with raw commits of the same rows."""
    vault, capture = open_captured(place)
    floor = Replay(folder / "floor.db")
    counts: list[int] = []

    def ours() -> float:
        return calls(vault)

    def replay() -> float:
        counts.append(len(capture.commits))
        return floor.replay(capture) / counts[-1]

    with vault:
        found = interleave({"ours": ours, "floor": replay}, bench.rounds)
    floor.close()
    assert len(set(counts)) == 1
    is_steady = max(found["floor"]) < STEADY * min(found["floor"])
    row = over_floor(name, found["ours"], ("raw FULL commit of the same rows", found["floor"]), 1.5)
    note = "the file system gave the floor very different times in this run"
    return row if is_steady else replace(row, note=note, is_measurable=False)


def first_reads(bench: Bench, place: Place, count: int) -> Iterator[Row]:
    numbers = itertools.count()

    def read(vault: Vault) -> float:
        paths = [path_of(next(numbers)) for _ in range(count)]
        session = vault.authority.session()
        for path in paths:
            session.decide("read", path)
        started = time.perf_counter()
        for path in paths:
            vault.read(path)
        return (time.perf_counter() - started) / count

    folder = bench.folder / "first-reads"
    folder.mkdir()
    yield durable("first read, durably recorded", bench, folder, place, read)


def single_writes(bench: Bench, place: Place, count: int) -> Iterator[Row]:
    numbers = itertools.count()

    def write(vault: Vault) -> float:
        paths = [path_of(next(numbers)) for _ in range(count)]
        session = vault.authority.session()
        for path in paths:
            session.decide("write", path)
        started = time.perf_counter()
        for path in paths:
            vault.write(path, "another value of the usual length, 38")
        return (time.perf_counter() - started) / count

    folder = bench.folder / "single-writes"
    folder.mkdir()
    yield durable("single write, signed checkpoint included", bench, folder, place, write)


def threads(bench: Bench, delay_s: float, at_least: float) -> Iterator[Row]:
    """Compare 32 threads with one where every sync takes longer by a delay."""
    each = THREADS * READS_OF_A_THREAD
    place = create(bench.folder / f"threads-{delay_s}", (bench.rounds + 1) * (each + READS_OF_A_THREAD * 4))
    numbers = itertools.count()
    with FaultyVfs(sync_delay_s=delay_s) as vfs:
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
