"""The store against raw apsw on the same bytes: `python -m benchmarks --only store_rows`."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import apsw

from benchmarks.rows import interleave, over_floor, repeated
from securecfg.store import Put, Space, create_sqlite, open_sqlite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from benchmarks.rows import Bench, Row

VALUE_BYTES = 1024
VALUES = 20_000
SMALL = ((Space.DEK, b"k" * 54), (Space.HISTORY, b"y" * 200), (Space.DELTA, b"d" * 300), (Space.LOG, b"l" * 160))


def compare(
    bench: Bench, name: str, ours: Callable[[int], object], floor: tuple[str, Callable[[int], object]], count: int
) -> Row:
    count = bench.repeats(count)
    numbers = {"ours": itertools.count(), "floor": itertools.count()}
    contenders = {
        "ours": repeated(lambda: ours(next(numbers["ours"])), count),
        "floor": repeated(lambda: floor[1](next(numbers["floor"])), count),
    }
    found = interleave(contenders, bench.rounds)
    return over_floor(f"store: {name}", found["ours"], (floor[0], found["floor"]))


def raw(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON").fetchall()
    return connection


def rows(bench: Bench) -> Iterator[Row]:
    folder = bench.folder / "store"
    folder.mkdir()
    path = folder / "a.vault"
    store = create_sqlite(path)
    for first in range(0, VALUES, 64):
        store.stage([Put(Space.VALUE, i, b"v" * VALUE_BYTES) for i in range(first, min(first + 64, VALUES))])
    store.commit([], expect=None, head=b"h" * 400)
    store.close()
    store = open_sqlite(path)
    cursor = raw(path).cursor()

    def raw_get(number: int) -> object:
        return cursor.execute("SELECT b FROM s3 WHERE i = ?", (number * 7919 % VALUES,)).get

    yield compare(
        bench, "point read", lambda n: store.get(Space.VALUE, n * 7919 % VALUES), ("apsw row read", raw_get), 10_000
    )
    yield compare(
        bench,
        "freshness",
        lambda _: store.revision(),
        ("data_version", lambda _: cursor.execute("PRAGMA data_version").get),
        10_000,
    )

    floor = raw(folder / "floor.db").cursor()
    floor.execute("".join(f"CREATE TABLE s{space.value}(i INTEGER PRIMARY KEY, b BLOB NOT NULL);" for space in Space))
    floor.execute("CREATE TABLE h(i INTEGER PRIMARY KEY, b BLOB NOT NULL)")

    def publish(number: int) -> None:
        operations = [Put(Space.VALUE, VALUES + number, b"v" * VALUE_BYTES)]
        operations += [Put(space, number, row) for space, row in SMALL]
        store.commit(operations, expect=store.head(), head=b"%d" % number * 60)

    def raw_publish(number: int) -> None:
        floor.execute("BEGIN IMMEDIATE")
        floor.execute("INSERT OR REPLACE INTO s3 VALUES (?, ?)", (VALUES + number, b"v" * VALUE_BYTES))
        for space, row in SMALL:
            floor.execute(f"INSERT OR REPLACE INTO s{space.value} VALUES (?, ?)", (number, row))  # noqa: S608 - a number
        floor.execute("INSERT OR REPLACE INTO h VALUES (1, ?)", (b"%d" % number * 60,))
        floor.execute("COMMIT")

    yield compare(bench, "publication of 5 rows and the head", publish, ("raw FULL commit", raw_publish), 150)

    def stage(number: int) -> None:
        store.stage([Put(Space.SEGMENT, number * 64 + i, b"v" * VALUE_BYTES) for i in range(64)])

    def raw_stage(number: int) -> None:
        floor.execute("BEGIN IMMEDIATE")
        for i in range(64):
            floor.execute("INSERT OR REPLACE INTO s4 VALUES (?, ?)", (number * 64 + i, b"v" * VALUE_BYTES))
        floor.execute("COMMIT")

    yield compare(bench, "staging of 64 rows of 1 KiB", stage, ("raw FULL commit", raw_stage), 40)

    def open_and_read(_: int) -> None:
        opened = open_sqlite(path)
        opened.head()
        opened.close()

    def raw_open(_: int) -> None:
        opened = raw(path)
        assert opened.execute("SELECT b FROM h").fetchall()
        opened.close()

    yield compare(bench, "open, read the head, close", open_and_read, ("raw apsw", raw_open), 50)
    store.close()
