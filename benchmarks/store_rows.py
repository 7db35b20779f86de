"""The store against raw apsw on the same bytes: `python -m benchmarks.store_rows`.

Each row interleaves the store and its floor in every round, so that both meet the same machine.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import apsw

from securecfg.store import Put, Space, create_sqlite, open_sqlite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROUNDS = 7
VALUE_BYTES = 1024
VALUES = 20_000
SMALL = ((Space.DEK, b"k" * 54), (Space.HISTORY, b"y" * 200), (Space.DELTA, b"d" * 300), (Space.LOG, b"l" * 160))


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison.

    Attributes:
        ours_us: Microseconds of one call, for each round.
        floor_us: The same of the floor.
    """

    name: str
    floor: str
    ours_us: tuple[float, ...]
    floor_us: tuple[float, ...]

    def ratios(self) -> list[float]:
        return sorted(ours / floor for ours, floor in zip(self.ours_us, self.floor_us, strict=True))

    def __str__(self) -> str:
        low, *_, high = ratios = self.ratios()
        ours, floor = statistics.median(self.ours_us), statistics.median(self.floor_us)
        return (
            f"{self.name:<34} {ours:9.2f} us   {self.floor}: {floor:9.2f} us   "
            f"ratio {statistics.median(ratios):5.2f} ({low:.2f}-{high:.2f})"
        )


def timed(call: Callable[[int], object], count: int, first: int) -> float:
    started = time.perf_counter()
    for number in range(first, first + count):
        call(number)
    return (time.perf_counter() - started) / count * 1e6


def compare(name: str, ours: Callable[[int], object], floor: tuple[str, Callable[[int], object]], count: int) -> Row:
    mine, theirs = [], []
    for round_ in range(ROUNDS + 1):
        pair = (timed(ours, count, round_ * count), timed(floor[1], count, round_ * count))
        if round_:  # the first warms up
            mine.append(pair[0])
            theirs.append(pair[1])
    return Row(name, floor[0], tuple(mine), tuple(theirs))


def raw(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA secure_delete = ON").fetchall()
    return connection


def rows(folder: Path) -> Iterator[Row]:
    """Measure everything in an empty folder."""
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

    yield compare("point read", lambda n: store.get(Space.VALUE, n * 7919 % VALUES), ("apsw row read", raw_get), 10_000)
    yield compare(
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

    yield compare("publication of 5 rows and the head", publish, ("raw FULL commit", raw_publish), 150)

    def stage(number: int) -> None:
        store.stage([Put(Space.SEGMENT, number * 64 + i, b"v" * VALUE_BYTES) for i in range(64)])

    def raw_stage(number: int) -> None:
        floor.execute("BEGIN IMMEDIATE")
        for i in range(64):
            floor.execute("INSERT OR REPLACE INTO s4 VALUES (?, ?)", (number * 64 + i, b"v" * VALUE_BYTES))
        floor.execute("COMMIT")

    yield compare("staging of 64 rows of 1 KiB", stage, ("raw FULL commit", raw_stage), 40)

    def open_and_read(_: int) -> None:
        opened = open_sqlite(path)
        opened.head()
        opened.close()

    def raw_open(_: int) -> None:
        opened = raw(path)
        assert opened.execute("SELECT b FROM h").fetchall()
        opened.close()

    yield compare("open, read the head, close", open_and_read, ("raw apsw", raw_open), 50)
    store.close()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for row in rows(Path(folder)):
            print(row)


if __name__ == "__main__":
    main()
