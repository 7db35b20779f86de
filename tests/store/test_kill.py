"""Writers that are killed at any moment: what they had been told is durable is there, and nothing is there in part."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from securecfg.store import Space, create_sqlite, open_sqlite
from securecfg.testing.kill import kill_repeatedly

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.no_cover

SPACES = (Space.VALUE, Space.DEK, Space.LOG)
WRITER = """
import sys
from securecfg.errors import HeadMoved
from securecfg.store import Put, Space, open_sqlite
store = open_sqlite(sys.argv[1], busy_timeout_s=60)
while True:
    head = store.head()
    number = int(head) + 1
    rows = [Put(space, number, b"%d:" % number * 400) for space in (Space.VALUE, Space.DEK, Space.LOG)]
    try:
        store.commit(rows, expect=head, head=b"%d" % number)
    except HeadMoved:
        continue
    print(number, flush=True)
    if number % 37 == 0:
        store.close()
        store = open_sqlite(sys.argv[1], busy_timeout_s=60)
"""


def test_killed_writers_lose_nothing_and_leave_nothing_in_part(tmp_path: Path) -> None:
    path = tmp_path / "a.vault"
    store = create_sqlite(path)
    store.commit([], expect=None, head=b"0")
    store.close()

    def check(lines: list[list[str]]) -> None:
        acknowledged = [int(line) for process in lines for line in process]
        assert len(set(acknowledged)) == len(acknowledged), "two writers published the same number"
        store = open_sqlite(path)
        head = int(store.head() or b"")
        assert head >= max(acknowledged)
        for space in SPACES:
            found = store.scan(space, 0, 10**9, 10**6)
            assert [number for number, _ in found] == list(range(1, head + 1))
            assert all(row == b"%d:" % number * 400 for number, row in found)
        store.close()
        assert [entry.name for entry in tmp_path.iterdir()] == ["a.vault"]

    report = kill_repeatedly(
        lambda _round, _number: [sys.executable, "-c", WRITER, str(path)], check, processes=3, duration_s=4
    )
    print(f"{report.kills} kills in {report.rounds} rounds, {report.acknowledged} publications acknowledged")
    assert report.kills >= 3
    assert report.acknowledged > 20


def test_a_writer_that_ends_by_itself_is_a_failure() -> None:
    def no_check(_lines: list[list[str]]) -> None:
        """The kill may come before the end; then the next round decides."""

    with pytest.raises(AssertionError, match=r"ended by itself with 3|never began"):
        kill_repeatedly(
            lambda _round, _number: [sys.executable, "-c", "print(1, flush=True); raise SystemExit(3)"],
            no_check,
            processes=1,
            duration_s=20,
        )
    with pytest.raises(AssertionError, match="never began: gone"):
        kill_repeatedly(
            lambda _round, _number: [sys.executable, "-c", "raise SystemExit('gone')"],
            no_check,
            processes=1,
            duration_s=20,
        )
