"""What is due of many rotations, and what a year of it comes to."""

from __future__ import annotations

import sys
import tracemalloc
from bisect import bisect_left, bisect_right
from datetime import UTC, date, datetime, timedelta
from itertools import islice, pairwise
from typing import TYPE_CHECKING, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from securecfg.rotation.calendar import Occurrence, Planned, upcoming
from securecfg.rotation.schedule import Schedule, begin_at, next_due, parse_schedule
from securecfg.rotation.simulation import COLLISIONS_MAX, Collision, Lapse, simulate

if TYPE_CHECKING:
    from collections.abc import Sequence

NOW = datetime(2026, 1, 1, tzinfo=UTC)
YEAR = timedelta(days=365)
SPRING, SPAN = datetime(2026, 3, 6, 4, 30, 0, 250, tzinfo=UTC), timedelta(days=25)
"""When clocks are set forward in New York and in Berlin."""
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


def test_a_life_that_is_too_short_to_be_led_lapses_each_time() -> None:
    plans = [_planned("short", parse_schedule(every="1h"), life=timedelta(milliseconds=500))]
    outcome = simulate(plans, start=NOW, span=timedelta(seconds=10))
    assert outcome.rotations == 9
    assert [lapse.times for lapse in outcome.lapses] == [10]


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


def test_what_is_too_much_ends_at_a_whole_second_and_tells_of_what_has_lapsed_by_then() -> None:
    lapsing = _planned(
        "lapsing", parse_schedule(every="1d", windows=["03:00-03:01"], jitter="0"), life=timedelta(hours=1)
    )
    plans = [lapsing, *(_planned(str(number), DAILY) for number in range(5))]
    outcome = simulate(plans, start=NOW, events_max=9)
    assert (outcome.rotations, outcome.ends, outcome.is_complete) == (6, _at("2026-01-02T03:00"), False)
    assert outcome.lapses == (Lapse("lapsing", _at("2026-01-01T01:00"), _at("2026-01-01T03:00"), 2),)
    assert outcome.per_day == {date(2026, 1, 1): 6}
    assert simulate(plans[:1], start=NOW, events_max=0).lapses == (Lapse("lapsing", _at("2026-01-01T01:00"), None, 1),)


def test_says_how_far_it_is() -> None:
    told: list[tuple[int, int]] = []
    simulate([_planned("daily", DAILY)], start=NOW, span=timedelta(days=3), progress=lambda *far: told.append(far))
    assert told == [(day * 86_400, 3 * 86_400) for day in (1, 2, 3)]


def test_millions_of_rotations_are_counted_together() -> None:
    plans = [_planned(str(number), DAILY, target=f"db-{number % 50}") for number in range(20_000)]
    outcome = simulate(plans, start=NOW)
    assert outcome.rotations == 365 * 20_000
    assert outcome.peak == (date(2026, 1, 1), 20_000)
    assert outcome.collision_count == 365 * 50


def test_all_collisions_are_counted_and_not_all_kept() -> None:
    plans = [_planned(str(number), parse_schedule(cron="0 * * * *")) for number in range(2)]
    outcome = simulate(plans, start=NOW, span=timedelta(hours=COLLISIONS_MAX + 10), at_once=1)
    assert outcome.collision_count == COLLISIONS_MAX + 9
    assert len(outcome.collisions) == COLLISIONS_MAX


class _Walked(NamedTuple):
    """What a walk from one time to the next, of one secret after the other, comes to."""

    per_day: dict[date, int]
    collisions: tuple[Collision, ...]
    lapses: tuple[Lapse, ...]


def _times_of(plan: Planned, end: datetime) -> tuple[list[datetime], list[tuple[datetime, datetime | None]]]:
    """Return when a secret is rotated, and which of its versions lapse until when."""
    times: list[datetime] = []
    lapses: list[tuple[datetime, datetime | None]] = []
    after, created, expires = plan.after, plan.created, plan.expires
    life = None if expires is None else max(expires - (created or after), timedelta())
    due = next_due(plan.schedule, after=after, created=created, expires=expires, seed=plan.seed)
    if due is not None and due < SPRING:
        due = begin_at(plan.schedule, due=due, now=SPRING)
    while due is not None and due < end:
        times.append(due)
        if expires is not None and expires <= due:
            lapses.append((expires, due))
        expires = None if life is None else due + life
        due = next_due(plan.schedule, after=due, created=due, expires=expires, seed=plan.seed)
    if expires is not None and expires < end:
        lapses.append((expires, None))
    return times, lapses


def _collisions_of(target: str, times: list[datetime], at_once: int, within: timedelta) -> list[Collision]:
    """Return the stretches of time at each of whose ends too many are within a time before it."""
    seconds = sorted(at.replace(microsecond=0) for at in times)
    found: list[Collision] = []
    for at in sorted(set(seconds)):
        recent = seconds[bisect_right(seconds, at - within) : bisect_right(seconds, at)]
        before = bisect_left(recent, at)
        if before > at_once:
            found[-1] = found[-1]._replace(ends=at, most=max(found[-1].most, len(recent)))
        elif len(recent) > at_once:
            found.append(Collision(target, recent[0], at, len(recent)))
    return found


def _walked(plans: Sequence[Planned], end: datetime, at_once: int, within: timedelta) -> _Walked:
    of = {plan.name: _times_of(plan, end) for plan in plans}
    per_day: dict[date, int] = {}
    for at in sorted(at for times, _ in of.values() for at in times):
        per_day[at.date()] = per_day.get(at.date(), 0) + 1
    targets = {
        plan.target: [at for each in plans if each.target == plan.target for at in of[each.name][0]] for plan in plans
    }
    collisions = [each for target, times in targets.items() for each in _collisions_of(target, times, at_once, within)]
    lapses = [Lapse(name, *gone[0], len(gone)) for name, (_, gone) in of.items() if gone]
    return _Walked(
        per_day,
        tuple(sorted(collisions, key=lambda each: (each.begins, each.target))),
        tuple(sorted(lapses, key=lambda each: (each.expired, each.name))),
    )


_SCHEDULES = st.one_of(
    st.builds(
        lambda every, jitter, windows: parse_schedule(
            every=every, jitter=jitter, windows=windows, zone="Europe/Berlin"
        ),
        st.sampled_from(["50m", "25h", "1d", "3d"]),
        st.sampled_from([None, "0", "50%"]),
        st.sampled_from([(), ("02:00-05:00",), ("Sat,Sun 22:30-01:00", "Wed 02:15-02:45")]),
    ),
    st.builds(
        lambda cron, jitter, windows: parse_schedule(
            cron=cron, jitter=jitter, windows=windows, zone="America/New_York"
        ),
        st.sampled_from(["0 3 * * *", "30 1,2 * * *", "*/45 * * * *", "0 0 * * MON"]),
        st.sampled_from(["0", "20%"]),
        st.sampled_from([(), ("Mon-Fri 01:30-04:00",)]),
    ),
    st.builds(
        lambda share, jitter, windows: parse_schedule(ttl_fraction=share, jitter=jitter, windows=windows),
        st.sampled_from(["0.2", "0.5", "0.95"]),
        st.sampled_from(["0", "50%"]),
        st.sampled_from([(), ("Sat 02:00-02:30",)]),
    ),
    st.just(Schedule()),
)
_SECRETS = st.tuples(
    _SCHEDULES,
    st.sampled_from(["db", "cloud"]),
    st.none() | st.timedeltas(timedelta(), timedelta(days=9)),
    st.none() | st.timedeltas(timedelta(hours=6), timedelta(days=9)),
)


@given(st.lists(_SECRETS, max_size=5), st.integers(1, 3), st.sampled_from([timedelta(minutes=10), timedelta(hours=2)]))
@settings(max_examples=60, deadline=None)
def test_comes_to_what_a_walk_from_one_time_to_the_next_comes_to(
    secrets: Sequence[tuple[Schedule, str, timedelta | None, timedelta | None]], at_once: int, within: timedelta
) -> None:
    plans = [
        _planned(
            str(number),
            schedule,
            target=target,
            created=None if age is None else SPRING - age,
            after=SPRING - (age or timedelta()),
            life=life,
        )
        for number, (schedule, target, age, life) in enumerate(secrets)
    ]
    outcome = simulate(plans, start=SPRING, span=SPAN, at_once=at_once, within=within)
    walked = _walked(plans, SPRING + SPAN, at_once, within)
    assert outcome.per_day == walked.per_day
    assert list(outcome.per_day) == sorted(outcome.per_day)
    assert outcome.rotations == sum(walked.per_day.values())
    assert outcome.collision_count == len(walked.collisions)
    assert outcome.collisions == walked.collisions[:COLLISIONS_MAX]
    assert outcome.lapses == walked.lapses


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
