"""What a mount has cost is added up over processes, by day, and a day has its number of calls."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from securecfg.errors import BackendUnavailable
from securecfg.mounts.usage import DAYS_KEPT, Numbers, Usage, total
from tests.vault.world import ManualClock

if TYPE_CHECKING:
    from pathlib import Path


def test_processes_add_up_what_they_count(tmp_path: Path) -> None:
    clock = ManualClock()
    one, two = Usage(str(tmp_path / "m"), clock), Usage(str(tmp_path / "m"), clock)
    one.take(3)
    two.take(2)
    two.note(Numbers(failures=1, hits=2, last_good=1))
    assert one.days() == {}
    one.save()
    two.save()
    two.save()
    assert list(one.days().values()) == [Numbers(5, 1, 2, 1)]
    assert one.mine == Numbers(calls=3)
    assert (tmp_path / "m").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "m" / "usage").stat().st_mode & 0o777 == 0o600


def test_what_is_counted_is_saved_every_minute(tmp_path: Path) -> None:
    clock = ManualClock()
    usage = Usage(str(tmp_path), clock)
    usage.take(1)
    clock.advance(timedelta(seconds=61))
    usage.take(1)
    assert total(usage.days()) == Numbers(calls=2)


def test_a_day_has_its_number_of_calls_over_all_processes(tmp_path: Path) -> None:
    clock = ManualClock()
    one, two = Usage(str(tmp_path), clock, 10), Usage(str(tmp_path), clock, 10)
    one.take(6)
    two.take(4)
    for each in (one, two, Usage(str(tmp_path), clock, 10)):
        with pytest.raises(BackendUnavailable) as refused:
            each.take(1)
        assert "--calls-per-day" in refused.value.hint
    assert total(one.days()).calls == 10
    clock.advance(timedelta(days=1))
    one.take(10)
    with pytest.raises(BackendUnavailable):
        two.take(1)
    assert [numbers.calls for numbers in one.days().values()] == [10, 10]


def test_more_at_once_than_are_left_are_none(tmp_path: Path) -> None:
    usage = Usage(str(tmp_path), ManualClock(), 10)
    with pytest.raises(BackendUnavailable):
        usage.take(11)
    usage.take(10)


def test_threads_lose_no_count(tmp_path: Path) -> None:
    usage = Usage(str(tmp_path), ManualClock(), 100_000)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: usage.take(1), range(800)))
    usage.save()
    assert total(usage.days()).calls == 800


def test_old_days_are_forgotten(tmp_path: Path) -> None:
    clock = ManualClock()
    usage = Usage(str(tmp_path), clock)
    for _ in range(DAYS_KEPT + 5):
        usage.take(1)
        clock.advance(timedelta(days=1))
    usage.take(1)
    usage.save()
    assert len(usage.days()) == DAYS_KEPT


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"{",
        b"[]",
        b'{"2026-01-01": 1}',
        b'{"2026-01-01": [1, "2"]}',
        b'{"a": [1, 2, 3, 4, 5]}',
        b"[" * 70_000,
    ],
    ids=str,
)
def test_a_file_that_makes_no_sense_is_begun_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "usage").write_bytes(content)
    usage = Usage(str(tmp_path), ManualClock(), 10)
    assert usage.days() == {}
    usage.take(2)
    usage.save()
    assert total(usage.days()).calls == 2


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"precious")
    (tmp_path / "usage").symlink_to(tmp_path / "other")
    usage = Usage(str(tmp_path), ManualClock(), 10)
    usage.take(2)
    usage.save()
    assert (tmp_path / "other").read_bytes() == b"precious"
    with pytest.raises(BackendUnavailable):
        usage.take(9)


def test_without_a_place_a_process_counts_alone() -> None:
    usage = Usage(None, ManualClock(), 2)
    usage.take(2)
    usage.save()
    with pytest.raises(BackendUnavailable):
        usage.take(1)
