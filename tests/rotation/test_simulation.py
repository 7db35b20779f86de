"""What is due of many rotations, and what a year of it comes to."""

from __future__ import annotations

import sys
import tracemalloc
from datetime import UTC, date, datetime, timedelta
from itertools import islice, pairwise
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from securecfg.rotation.calendar import Occurrence, Planned, upcoming
from securecfg.rotation.schedule import Schedule, next_due, parse_schedule
from securecfg.rotation.simulation import COLLISIONS_MAX, Collision, simulate

if TYPE_CHECKING:
    from collections.abc import Sequence

NOW = datetime(2026, 1, 1, tzinfo=UTC)
YEAR = timedelta(days=365)
DAILY = parse_schedule(cron="0 3 * * *")


def _planned(
    name: str,
    schedule: Schedule,
    *,
    target: str = "db",
    created: datetime | None = NOW,
    after: datetime = NOW,
    life: timedelta | None = None,
) -> Planned:
    expires = None if life is None or created is None else created + life
    return Planned(name, target, schedule, name.encode(), after, created, expires)


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# --- what is due ------------------------------------------------------------------------------------------------------


def test_nothing_is_due_of_nothing() -> None:
    assert list(upcoming([], now=NOW, until=NOW + YEAR)) == []
    assert list(upcoming([_planned("asked", Schedule())], now=NOW, until=NOW + YEAR)) == []


def test_times_of_several_come_in_order() -> None:
    plans = [
        _planned("daily", DAILY),
        _planned("weekly", parse_schedule(every="7d", jitter="0")),
        _planned("leased", parse_schedule(ttl_fraction="0.5"), target="cloud", life=timedelta(days=10)),
    ]
    found = list(upcoming(plans, now=NOW, until=NOW + timedelta(days=8)))
    assert [(each.at, each.name) for each in found if each.name != "daily"] == [
        (_at("2026-01-06"), "leased"),
        (_at("2026-01-08"), "weekly"),
    ]
    assert [each.at for each in found] == sorted(each.at for each in found)
    assert [each.name for each in found].count("daily") == 8


def test_what_was_missed_is_due_once_and_now() -> None:
    plan = _planned("daily", DAILY, after=NOW - timedelta(days=30))
    now = NOW + timedelta(hours=12)
    found = list(upcoming([plan], now=now, until=now + timedelta(days=1)))
    assert [each.at for each in found] == [now, _at("2026-01-02T03:00")]


def test_what_was_missed_waits_for_a_window() -> None:
    plan = _planned(
        "daily", parse_schedule(cron="0 3 * * *", windows=["Sat 02:00-05:00"]), after=NOW - timedelta(days=30)
    )
    found = list(upcoming([plan], now=NOW, until=NOW + timedelta(days=3)))
    assert [each.at for each in found] == [_at("2026-01-03T02:00"), _at("2026-01-03T03:00")]


def test_a_version_that_lapses_is_told_where_it_is_replaced() -> None:
    plan = _planned(
        "late", parse_schedule(every="30d", windows=["Sat 02:00-02:30"], jitter="0"), life=timedelta(days=1)
    )
    [first] = islice(upcoming([plan], now=NOW, until=NOW + YEAR), 1)
    assert first == Occurrence(_at("2026-01-03T02:00"), "late", "db", NOW + timedelta(days=1))


def test_what_is_far_off_is_not_worked_out() -> None:
    every_second = [_planned(str(number), parse_schedule(every="1s")) for number in range(10)]
    found = list(islice(upcoming(every_second, now=NOW, until=NOW + 1_000 * YEAR / 10), 100))
    assert found[-1].at == NOW + timedelta(seconds=10)


@given(st.lists(st.sampled_from(["1h", "36h", "7d", "30d"]), max_size=6), st.integers(0, 40))
@settings(max_examples=50, deadline=None)
def test_the_times_of_each_are_those_that_follow_each_other(intervals: Sequence[str], days: int) -> None:
    until = NOW + timedelta(days=days)
    plans = [_planned(str(number), parse_schedule(every=every)) for number, every in enumerate(intervals)]
    found = list(upcoming(plans, now=NOW, until=until))
    assert all(first.at <= second.at for first, second in pairwise(found))
    for plan in plans:
        at: datetime | None = NOW
        expected = []
        while (
            at is not None
            and (at := next_due(plan.schedule, after=at, created=at, expires=None, seed=plan.seed)) is not None
        ):
            if at >= until:
                break
            expected.append(at)
        assert [each.at for each in found if each.name == plan.name] == expected


# --- what it comes to -------------------------------------------------------------------------------------------------


def test_counts_each_day_and_finds_the_peak() -> None:
    plans = [_planned("daily", DAILY), _planned("weekly", parse_schedule(cron="0 4 * * SAT"))]
    outcome = simulate(plans, start=NOW, span=timedelta(days=9))
    assert outcome.rotations == 10
    assert outcome.per_day[date(2026, 1, 3)] == 2
    assert outcome.peak == (date(2026, 1, 3), 2)
    assert outcome.is_complete
    assert (outcome.collisions, outcome.lapses, outcome.never_due) == ((), (), ())


def test_of_nothing_comes_nothing() -> None:
    outcome = simulate([], start=NOW)
    assert (outcome.rotations, outcome.per_day, outcome.peak) == (0, {}, None)


def test_names_what_is_never_due() -> None:
    plans = [
        _planned("asked", Schedule()),
        _planned("endless", parse_schedule(ttl_fraction="0.8")),
        _planned("daily", DAILY),
    ]
    assert simulate(plans, start=NOW, span=timedelta(days=2)).never_due == ("asked", "endless")


def test_finds_too_many_at_one_target_and_not_at_several() -> None:
    schedule = parse_schedule(cron="0 3 * * SUN")
    crowd = [_planned(f"crowd-{number}", schedule) for number in range(6)]
    few = [_planned(f"few-{number}", schedule, target=f"db-{number % 2}") for number in range(10)]
    outcome = simulate([*crowd, *few], start=NOW, span=timedelta(days=14), at_once=5)
    times = (_at("2026-01-04T03:00"), _at("2026-01-11T03:00"))
    assert outcome.collisions == tuple(Collision("db", time, time, 6) for time in times)
    assert outcome.collision_count == 2


def test_those_that_come_close_behind_each_other_are_one_collision() -> None:
    plans = [_planned(str(minute), parse_schedule(cron=f"{minute} 3 * * *")) for minute in range(0, 60, 2)]
    outcome = simulate(plans, start=NOW, span=timedelta(days=1), at_once=3, within=timedelta(minutes=10))
    assert outcome.collisions == (Collision("db", _at("2026-01-01T03:00"), _at("2026-01-01T03:58"), 5),)
    assert simulate(plans, start=NOW, span=timedelta(days=1), at_once=5).collision_count == 0


def test_finds_what_lapses_how_often_and_when_it_is_good_again() -> None:
    late = parse_schedule(every="30d", windows=["Sat 02:00-02:30"], jitter="0")
    plans = [
        _planned("late", late, life=timedelta(days=3)),
        _planned("asked", Schedule(), life=timedelta(days=10)),
        _planned("fine", parse_schedule(ttl_fraction="0.8"), life=timedelta(days=3)),
        _planned("later", parse_schedule(cron="0 0 1 6 *"), life=timedelta(days=364), created=NOW),
    ]
    outcome = simulate(plans, start=NOW, span=timedelta(days=30))
    late_lapse, asked_lapse = outcome.lapses
    assert late_lapse.name == "late"
    assert late_lapse.expired == _at("2026-01-06T02:00")
    assert late_lapse.rotated == _at("2026-01-10T02:00")
    assert late_lapse.times == 4
    assert (asked_lapse.name, asked_lapse.expired, asked_lapse.rotated) == ("asked", NOW + timedelta(days=10), None)


def test_what_is_too_much_is_tried_out_as_far_as_told() -> None:
    outcome = simulate([_planned("busy", parse_schedule(every="1s"))], start=NOW, events_max=1_000)
    assert not outcome.is_complete
    assert outcome.rotations == 1_000
    assert outcome.ends == NOW + timedelta(seconds=1_001)


def test_all_collisions_are_counted_and_not_all_kept() -> None:
    plans = [_planned(str(number), parse_schedule(cron="0 * * * *")) for number in range(2)]
    outcome = simulate(plans, start=NOW, span=timedelta(hours=COLLISIONS_MAX + 10), at_once=1)
    assert outcome.collision_count == COLLISIONS_MAX + 9
    assert len(outcome.collisions) == COLLISIONS_MAX


def test_a_thousand_secrets_are_tried_out_for_a_year() -> None:
    kinds = [
        parse_schedule(every="30d"),
        parse_schedule(every="90d", windows=["Sat,Sun 02:00-05:00"], zone="Europe/Berlin"),
        parse_schedule(cron="0 3 * * SUN", zone="America/New_York"),
        parse_schedule(ttl_fraction="0.8"),
    ]
    plans = [
        _planned(str(number), kinds[number % 4], target=f"db-{number % 20}", life=timedelta(days=60))
        for number in range(1_000)
    ]
    outcome = simulate(plans, start=NOW)
    assert outcome.is_complete
    assert outcome.rotations == 19_250
    assert outcome.lapses == ()
    assert sum(outcome.per_day.values()) == outcome.rotations


def test_memory_is_taken_for_secrets_and_not_for_times() -> None:
    plans = [_planned(str(number), parse_schedule(every="1h"), target=f"db-{number % 5}") for number in range(20)]
    if sys.gettrace() is None:  # what measures coverage takes memory of its own
        tracemalloc.start()
    try:
        simulate(plans, start=NOW, span=timedelta(days=2))
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        outcome = simulate(plans, start=NOW, span=timedelta(days=20))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert outcome.rotations > 9_000
    assert peak - before < 400_000
