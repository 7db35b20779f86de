"""Reads: repeats of one secret, opened each time, and the first look at a secret in vaults of several sizes."""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING

import apsw
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from benchmarks.rows import alone, beyond_floor, interleave, over_floor
from benchmarks.vaults import create, path_of, scale_vault, value_of
from securecfg import Vault
from securecfg.store import Space

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.rows import Bench, Contender, Row

REPEATS = 50_000
WARM = 1_000
WARM_READS = 10_000
COLD_READS = 400


def rows(bench: Bench) -> Iterator[Row]:
    yield from hot(bench)
    yield from decrypted(bench)
    yield from cold(bench)


def hot(bench: Bench) -> Iterator[Row]:
    place = create(bench.folder / "hot", 10)
    path = path_of(3)
    with place.open() as vault, place.open() as other:
        assert vault.read(path).field("").reveal() == value_of(3)
        other.write(path, "changed elsewhere")
        kept = vault.read(path)
        assert kept.field("").reveal() == "changed elsewhere"
        table = {path: kept}

        def ours() -> float:
            started = time.perf_counter()
            for _ in range(REPEATS):
                vault.read(path)
            return (time.perf_counter() - started) / REPEATS

        def floor() -> float:
            started = time.perf_counter()
            for _ in range(REPEATS):
                table[path]
            return (time.perf_counter() - started) / REPEATS

        found = interleave({"ours": ours, "floor": floor}, bench.rounds)
        assert vault.read(path) is kept
    yield beyond_floor("read, hot", found["ours"], ("dict lookup", found["floor"]), 2e-6)


def decrypted(bench: Bench) -> Iterator[Row]:
    count = min(WARM, bench.scale)
    place = create(bench.folder / "decrypted", count)
    paths = [path_of(number) for number in range(count)]
    order = random.Random(5).choices(range(count), k=bench.repeats(WARM_READS))
    with place.open(cache_values=0) as vault:
        vault.read_many([(path, None) for path in paths])
        for path in paths:
            vault.read(path)
        size = max(len(row) for _, row in vault.opened.store.scan(Space.VALUE, 0, 1 << 40, 100))
        floor = SealedRows(bench.folder / "sealed-rows.db", count, size)

        def ours() -> float:
            read = vault.read
            started = time.perf_counter()
            for number in order:
                read(paths[number])
            return (time.perf_counter() - started) / len(order)

        def raw() -> float:
            read = floor.read
            started = time.perf_counter()
            for number in order:
                read(number)
            return (time.perf_counter() - started) / len(order)

        assert vault.read(paths[7]).field("").reveal() == value_of(7)
        found = interleave({"ours": ours, "floor": raw}, bench.rounds)
        floor.close()
    yield over_floor(
        "read, value decrypted each time", found["ours"], ("apsw row read and one AES-GCM call", found["floor"]), 2.0
    )


class SealedRows:
    """Raw apsw rows of one size, sealed with AES-GCM under one key."""

    def __init__(self, path: Path, count: int, size: int) -> None:
        self._aead = AESGCM(os.urandom(32))
        self._connection = apsw.Connection(str(path))
        self._connection.execute("PRAGMA journal_mode = WAL").fetchall()
        self._cursor = self._connection.cursor()
        self._cursor.execute("CREATE TABLE s(i INTEGER PRIMARY KEY, b BLOB NOT NULL); BEGIN")
        for number in range(count):
            nonce = os.urandom(12)
            row = nonce + self._aead.encrypt(nonce, bytes(size - 28), b"")
            self._cursor.execute("INSERT INTO s VALUES (?, ?)", (number, row))
        self._cursor.execute("COMMIT")

    def read(self, number: int) -> bytes:
        row = self._cursor.execute("SELECT b FROM s WHERE i = ?", (number,)).get
        return self._aead.decrypt(row[:12], row[12:], b"")

    def close(self) -> None:
        self._connection.close()


class EveryRead(set[tuple[int, int]]):
    """Takes every read for recorded, so that only the rest of it is measured."""

    def __contains__(self, _: object) -> bool:
        return True


def cold(bench: Bench) -> Iterator[Row]:
    vaults = {size: scale_vault(bench, size).open(read_only=True) for size in bench.scales}
    contenders: dict[str, Contender] = {}
    for size, vault in vaults.items():
        count = min(bench.repeats(COLD_READS), size)
        contenders[f"{size}"] = cold_reads(vault, size, count)
        contenders[f"segment of {size}"] = segment_opening(vault, size)
    found = interleave(contenders, bench.rounds)
    smallest = bench.scales[0]
    for size, vault in vaults.items():
        note = "its index segment open, the decision cached, the audit commit apart"
        yield alone(f"read, cold, {size:,} secrets", found[f"{size}"], "s", 40e-6 if size == 100_000 else None, note)
        if size != smallest:
            floor = (f"{smallest:,} secrets", found[f"{smallest}"])
            yield over_floor(f"read, cold, {size:,} over {smallest:,} secrets", found[f"{size}"], floor, 1.5)
        yield alone(f"first look into a segment of the index, {size:,} secrets", found[f"segment of {size}"], "s")
        vault.close()


def cold_reads(vault: Vault, size: int, count: int) -> Contender:
    """Return a contender that reads secrets through a handle that has read nothing before."""
    draw = random.Random(size)

    def run() -> float:
        paths = [path_of(number) for number in draw.sample(range(size), count)]
        handle = Vault(vault.opened, vault.authority.identity)
        handle._owns = False
        handle._reads._recorded = EveryRead()
        session = handle.authority.session()
        for path in paths:
            session.decide("read", path)
            vault.opened.entry(path.encode())
        started = time.perf_counter()
        for path in paths:
            handle.read(path)
        seconds = time.perf_counter() - started
        handle.close()
        return seconds / count

    return run


def segment_opening(vault: Vault, size: int) -> Contender:
    """Return a contender that reads, verifies and opens segments of the index."""
    draw = random.Random(size)
    index = vault.opened.replica.index

    def run() -> float:
        lines = draw.choices(index.manifest.lines, k=20)
        started = time.perf_counter()
        for line in lines:
            index._load(line)
        return (time.perf_counter() - started) / len(lines)

    return run
