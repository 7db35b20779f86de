"""When rotations are due: what people write, what is stored, and what comes out."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from securecfg.errors import ExtraMissing, InvalidRotation
from securecfg.rotation import cron
from securecfg.rotation.machine import State
from securecfg.rotation.placing import JITTER_MAX
from securecfg.rotation.schedule import (
    Schedule,
    begin_at,
    describe_schedule,
    next_due,
    parse_schedule,
    zone_of,
)
from securecfg.rotation.windows import WINDOWS_MAX, opening_after

if TYPE_CHECKING:
    from tests.rotation.conftest import RotationWorld

BERLIN, NEW_YORK, LORD_HOWE = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"
ZONES = ("UTC", BERLIN, NEW_YORK, LORD_HOWE, "Asia/Kathmandu", "Africa/Casablanca", "Pacific/Apia")
WINTER = datetime(2026, 1, 1, tzinfo=UTC)
CREATED = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
SEED = (4711).to_bytes(8, "big")


def _due(
    schedule: Schedule,
    after: datetime = CREATED,
    created: datetime | None = CREATED,
    expires: datetime | None = None,
    seed: bytes = SEED,
) -> datetime | None:
    return next_due(schedule, after=after, created=created, expires=expires, seed=seed)


def _at(text: str, zone: str = "UTC") -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)


def _local_times(schedule: Schedule, after: str, count: int) -> list[str]:
    """Return the next times as the clock of the schedule shows them, with its offset."""
    zone, moment, times = zone_of(schedule.zone), _at(after, schedule.zone), []
    for _ in range(count):
        due = next_due(schedule, after=moment, created=None, expires=None, seed=b"")
        assert due is not None
        times.append(due.astimezone(zone).strftime("%m-%d %H:%M%z"))
        moment = due
    return times


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        {"every": "30d", "cron": "0 3 * * *"},
        {"every": "30d", "ttl_fraction": "0.8"},
        {"cron": "0 3 * * *", "ttl_fraction": "0.8"},
        {"windows": ["Sat 02:00-05:00"]},
        {"jitter": "5%"},
        {"every": ""},
        {"every": "0d"},
        {"every": "030d"},
        {"every": "-1d"},
        {"every": "30"},
        {"every": "30 d"},
        {"every": "30D"},
        {"every": "1.5d"},
        {"every": "30d\n"},
        {"every": "\u0663d"},
        {"every": "36501d"},
        {"every": "9" * 5_000 + "d"},
        {"every": "1y"},
        {"ttl_fraction": "0"},
        {"ttl_fraction": "0.000"},
        {"ttl_fraction": "0.951"},
        {"ttl_fraction": "1"},
        {"ttl_fraction": "100%"},
        {"ttl_fraction": "1e-1"},
        {"ttl_fraction": ".5"},
        {"ttl_fraction": "nan"},
        {"ttl_fraction": "80.55%"},
        {"every": "30d", "jitter": "51%"},
        {"every": "30d", "jitter": "-1%"},
        {"every": "30d", "jitter": "5%%"},
        {"every": "30d", "zone": ""},
        {"every": "30d", "zone": "Europe/Atlantis"},
        {"every": "30d", "zone": "Europe"},
        {"every": "30d", "zone": "localtime"},
        {"every": "30d", "zone": "../../etc/passwd"},
        {"every": "30d", "zone": "/etc/localtime"},
        {"every": "30d", "zone": "Europe/Berlin\x00"},
        {"every": "30d", "zone": "E" * 5_000},
        {"every": "30d", "windows": ["Sat 02:00-05:00"] * (WINDOWS_MAX + 1)},
    ],
)
def test_refuses_what_is_no_schedule(given: dict[str, Any]) -> None:
    with pytest.raises(InvalidRotation) as caught:
        parse_schedule(**given)
    assert caught.value.code == "invalid-rotation"
    assert caught.value.hint
    assert len(str(caught.value)) < 200
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Sat",
        "02:00",
        "Sat 02:00",
        "Sat 2:00-5:00",
        "Sat 02:00-02:00",
        "Sat 24:00-05:00",
        "Sat 02:00-24:01",
        "Sat 02:60-05:00",
        "Sat 02:00-00:00",
        "Saturday 02:00-05:00",
        "Sat, Sun 02:00-05:00",
        "Sat,,Sun 02:00-05:00",
        "Sat- 02:00-05:00",
        "-Sat 02:00-05:00",
        "Mon-Tue-Wed 02:00-05:00",
        "Sat  02:00-05:00",
        " 02:00-05:00",
        "Sat 02:00-05:00 UTC",
        "Sat 02:00\u201305:00",
        "Sat \u0660\u0662:00-05:00",
        "Sat 02:00-05:00\n",
        "Sat," * 5_000 + "Sun 02:00-05:00",
    ],
)
def test_refuses_what_is_no_window_and_says_which(text: str) -> None:
    with pytest.raises(InvalidRotation) as caught:
        parse_schedule(every="30d", windows=["Sat 02:00-05:00", text])
    assert str(caught.value).startswith("`--window` 2, ")
    assert "Sat,Sun" in caught.value.hint
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize(
    "text",
    [
        "",
        "* * * *",
        "* * * * * *",
        "@daily",
        "60 * * * *",
        "* 24 * * *",
        "* * 0 * *",
        "* * 32 * *",
        "* * * 13 *",
        "* * * * 8",
        "* * * * MOX",
        "*/0 * * * *",
        "5-1 * * * *",
        "1,,2 * * * *",
        "** * * * *",
        "-1 * * * *",
        "1- * * * *",
        "1/2/3 * * * *",
        "0 0 L/2- * *",
        "0 0 * * MON#6",
        "0 0 * * L",
        "0 0 * * 1#1/2",
        "0\t0 * * *",
        "0  0 * * *",
        "0 0 * * *\n",
        " 0 0 * * *",
        "\u0660 0 * * *",
        "H H * * *",
        "0 0 * * ?",
        "9" * 5_000 + " * * * *",
        "1," * 5_000 + "1 * * * *",
    ],
)
def test_refuses_what_is_no_cron_expression(text: str) -> None:
    with pytest.raises(InvalidRotation) as caught:
        parse_schedule(cron=text)
    assert "0 3 * * SAT" in caught.value.hint
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("text", ["0 0 30 2 *", "0 0 31 2,4,6,9,11 *", "0 0 */20 * 1L", "* * */30 * MON#2"])
def test_refuses_a_cron_expression_that_never_comes_true(text: str) -> None:
    with pytest.raises(InvalidRotation, match="never comes"):
        parse_schedule(cron=text)


@given(st.text(alphabet="0123456789*,-/#LWSUNMO ", max_size=40))
@settings(max_examples=300, deadline=None)
def test_any_text_for_a_cron_expression_is_understood_or_refused(text: str) -> None:
    try:
        schedule = parse_schedule(cron=text)
    except InvalidRotation:
        return
    due = _due(schedule)
    assert due is not None
    assert due > CREATED
    assert text in describe_schedule(schedule)


def test_a_cron_expression_needs_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cronsim", None)
    cron._is_hourly.cache_clear()
    with pytest.raises(ExtraMissing) as caught:
        parse_schedule(cron="17 3 * * *")
    assert "securecfg-vault[rotation]" in caught.value.hint
    with pytest.raises(ExtraMissing):
        _due(Schedule(cron="17 3 * * *"))
    assert describe_schedule(Schedule(cron="17 3 * * *")) == "by the cron expression `17 3 * * *` UTC"
    assert _due(parse_schedule(every="1d")) is not None


@pytest.mark.parametrize(
    "change",
    [
        {"format": 2},
        {"format": True},
        {"format": None},
        {"every_s": 0},
        {"every_s": 1.0},
        {"every_s": True},
        {"every_s": "86400"},
        {"every_s": 10**20},
        {"cron": "0 3 * * *"},
        {"every_s": None, "cron": 3},
        {"every_s": None, "cron": "0 3 * *"},
        {"every_s": None, "cron": "1," * 100 + " * * * *"},
        {"every_s": None, "ttl_permille": 951},
        {"every_s": None, "ttl_permille": 0},
        {"every_s": None},
        {"jitter_permille": 501},
        {"jitter_permille": -1},
        {"jitter_permille": 0.5},
        {"windows": None},
        {"windows": {}},
        {"windows": [[[5], 120]]},
        {"windows": [[[5], 120, 120]]},
        {"windows": [[[5], 1440, 120]]},
        {"windows": [[[5], 120, 1441]]},
        {"windows": [[[5], 120, 0]]},
        {"windows": [[[5], -1, 120]]},
        {"windows": [[[], 120, 300]]},
        {"windows": [[[7], 120, 300]]},
        {"windows": [[[6, 5], 120, 300]]},
        {"windows": [[[5, 5], 120, 300]]},
        {"windows": [[[True], 120, 300]]},
        {"windows": [[["5"], 120, 300]]},
        {"windows": [[5, 120, 300]]},
        {"windows": [[[5], 120, 300]] * (WINDOWS_MAX + 1)},
        {"zone": None},
        {"zone": "Europe/Atlantis"},
        {"more": 1},
    ],
)
def test_refuses_a_stored_schedule_that_is_malformed(change: dict[str, object]) -> None:
    document = parse_schedule(every="30d", windows=["Sat 02:00-05:00"]).to_json()
    assert Schedule.from_json(document)
    with pytest.raises(InvalidRotation):
        Schedule.from_json({**document, **change})


@pytest.mark.parametrize("document", [None, [], "", 1, {}, {"format": 1}])
def test_refuses_a_document_that_is_none(document: object) -> None:
    with pytest.raises(InvalidRotation):
        Schedule.from_json(document)  # type: ignore[arg-type]  # what is refused


def test_a_stored_cron_expression_without_a_meaning_is_refused_when_it_is_used() -> None:
    schedule = Schedule.from_json(Schedule(cron="99 3 * * *").to_json())
    with pytest.raises(InvalidRotation):
        _due(schedule)


def test_refuses_a_time_without_a_time_zone() -> None:
    naive = datetime(2026, 1, 1)  # noqa: DTZ001 - what is refused
    for after, created, expires in ((naive, None, None), (CREATED, naive, None), (CREATED, None, naive)):
        with pytest.raises(ValueError, match="ambiguous"):
            _due(parse_schedule(every="1d"), after, created, expires)


# --- what is written and shown ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "only when asked"),
        ({"every": "1d"}, "every day"),
        ({"every": "90m"}, "every 90 minutes"),
        ({"every": "2w"}, "every 14 days"),
        ({"every": "30d", "jitter": "0"}, "every 30 days, not spread"),
        ({"every": "30d", "jitter": "2.5%"}, "every 30 days, spread over 2.5 %"),
        (
            {"every": "30d", "windows": ["Sat,Sun 02:00-05:00"], "zone": BERLIN},
            "every 30 days, Sat and Sun 02:00-05:00 Europe/Berlin",
        ),
        (
            {"every": "30d", "windows": ["fri-sun 22:00-04:00", "12:00-24:00"]},
            "every 30 days, Fri to Sun 22:00-04:00, daily 12:00-24:00 UTC",
        ),
        (
            {"every": "30d", "windows": ["Sat-Mon,Wed 02:00-05:00"]},
            "every 30 days, Mon, Wed, Sat and Sun 02:00-05:00 UTC",
        ),
        ({"cron": "0 3 * * *", "zone": BERLIN}, "at 03:00 every day (cron `0 3 * * *`) Europe/Berlin"),
        ({"ttl_fraction": "80%", "jitter": "0.1"}, "when 80 % of its life is over, spread over 10 %"),
        ({"ttl_fraction": "0.125"}, "when 12.5 % of its life is over"),
    ],
)
def test_a_schedule_is_told_in_words(given: dict[str, Any], said: str) -> None:
    assert describe_schedule(parse_schedule(**given)) == said


_WINDOWS = st.builds(
    lambda days, opens, length: f"{','.join(days)} {_clock(opens)}-{_clock((opens + length) % 1_440 or 1_440)}",
    st.lists(st.sampled_from(["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]), min_size=1, max_size=4, unique=True),
    st.integers(0, 1_439),
    st.integers(1, 1_439),
)
_CRONS = st.sampled_from(
    [
        "0 3 * * *",
        "*/15 * * * *",
        "30 2 * * *",
        "0 0 1 * *",
        "15,45 */6 * * *",
        "0 0 L * *",
        "30 1 * * 0",
        "0 12 29 2 *",
    ]
)
_INTERVALS = st.sampled_from(["1s", "90s", "1h", "1d", "7d", "30d", "365d"])
_FRACTIONS = st.sampled_from(["0.001", "0.5", "80%", "0.95"])


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


@st.composite
def _schedules(draw: st.DrawFn, *, jitter: bool = True) -> Schedule:
    kind, values = draw(st.sampled_from([("every", _INTERVALS), ("cron", _CRONS), ("ttl_fraction", _FRACTIONS)]))
    return parse_schedule(
        **{kind: draw(values)},
        jitter=draw(st.sampled_from([None, "0", "5%", "50%"])) if jitter else "0",
        windows=draw(st.lists(_WINDOWS, max_size=3)),
        zone=draw(st.sampled_from(ZONES)),
    )


_MOMENTS = st.datetimes(datetime(2024, 1, 1), datetime(2027, 12, 31), timezones=st.just(UTC))  # noqa: DTZ001 - as Hypothesis wants it
_LIVES = st.none() | st.timedeltas(timedelta(seconds=1), timedelta(days=400))


@given(_schedules())
def test_what_is_stored_is_what_was_parsed(schedule: Schedule) -> None:
    stored = json.dumps(schedule.to_json())
    assert Schedule.from_json(json.loads(stored)) == schedule
    assert Schedule.from_json(MappingProxyType(json.loads(stored))) == schedule


# --- intervals and lives ----------------------------------------------------------------------------------------------


def test_is_never_due_when_it_is_only_asked_for() -> None:
    assert parse_schedule().is_asked_for
    assert _due(parse_schedule()) is None


def test_an_interval_is_spread_over_its_last_twentieth_and_never_longer_than_told() -> None:
    schedule = parse_schedule(every="10d")
    times = [_due(schedule, seed=number.to_bytes(8, "big")) for number in range(200)]
    ends = CREATED + timedelta(days=10)
    assert all(time is not None and ends - timedelta(hours=12) <= time <= ends for time in times)
    assert len(set(times)) > 190


def test_spreading_ends_at_a_day() -> None:
    schedule = parse_schedule(every="365d", jitter="50%")
    times = [_due(schedule, seed=bytes([number])) for number in range(100)]
    assert all(time is not None and CREATED + timedelta(days=364) <= time for time in times)
    assert timedelta(days=1) == JITTER_MAX


def test_an_interval_counts_from_the_last_change_where_the_age_of_the_version_is_not_known() -> None:
    assert _due(parse_schedule(every="10d", jitter="0"), created=None) == CREATED + timedelta(days=10)


def test_what_was_missed_is_due_once_and_at_once() -> None:
    schedule = parse_schedule(every="10d")
    after = CREATED + timedelta(days=100)
    assert _due(schedule, after=after) == after
    following = _due(schedule, after=after, created=after)
    assert following is not None
    assert following > after + timedelta(days=9)


def test_a_part_of_a_life_needs_a_life() -> None:
    schedule = parse_schedule(ttl_fraction="0.8")
    assert _due(schedule) is None
    assert _due(schedule, created=None, expires=CREATED + timedelta(days=10)) is None
    assert _due(schedule, expires=CREATED + timedelta(days=10)) == CREATED + timedelta(days=8)


def test_an_interval_that_is_longer_than_the_life_does_not_let_it_lapse() -> None:
    due = _due(parse_schedule(every="30d"), expires=CREATED + timedelta(days=10))
    assert due == CREATED + timedelta(days=9, hours=12)


def test_what_has_lapsed_is_due_at_once() -> None:
    for schedule in (parse_schedule(every="30d"), parse_schedule(ttl_fraction="0.8")):
        assert _due(
            schedule, after=CREATED + timedelta(days=9), expires=CREATED + timedelta(days=2)
        ) == CREATED + timedelta(days=9)


def test_a_time_beyond_the_calendar_is_never() -> None:
    late = datetime(9_999, 12, 31, 23, 59, 59, tzinfo=UTC)
    windowed: dict[str, Any] = {"windows": ["Sat 02:00-05:00"], "zone": BERLIN}
    for schedule in (parse_schedule(every="36500d", **windowed), parse_schedule(cron="0 0 29 2 *", **windowed)):
        assert _due(schedule, after=late, created=late) is None
        assert _due(schedule, after=CREATED, created=late, expires=late) != late


# --- cron -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "after", "times"),
    [
        ("*/20 * * * *", "2026-01-01T00:00", ["01-01 00:20", "01-01 00:40", "01-01 01:00"]),
        ("5,10-12 0 * * *", "2026-01-01T00:05", ["01-01 00:10", "01-01 00:11", "01-01 00:12", "01-02 00:05"]),
        ("0 0 * * MON", "2026-01-01T00:00", ["01-05 00:00", "01-12 00:00"]),
        ("0 0 * * 7", "2026-01-01T00:00", ["01-04 00:00", "01-11 00:00"]),
        ("0 0 * * 0", "2026-01-01T00:00", ["01-04 00:00", "01-11 00:00"]),
        ("0 0 * * 5-7", "2026-01-01T00:00", ["01-02 00:00", "01-03 00:00", "01-04 00:00", "01-09 00:00"]),
        # Day of the month *or* day of the week where both are restricted, *and* where one begins with a star.
        ("0 0 13 * FRI", "2026-01-01T00:00", ["01-02 00:00", "01-09 00:00", "01-13 00:00", "01-16 00:00"]),
        ("0 0 */7 * FRI", "2026-01-01T00:00", ["05-01 00:00", "05-08 00:00", "05-15 00:00"]),
        ("0 0 31 * *", "2026-01-31T00:00", ["03-31 00:00", "05-31 00:00"]),
        ("0 0 29 2 *", "2026-01-01T00:00", ["02-29 00:00"]),
        ("0 0 1 */3 *", "2026-01-01T00:00", ["04-01 00:00", "07-01 00:00"]),
        ("0 22-23/1 * jan-FEB *", "2026-02-28T22:00", ["02-28 23:00", "01-01 22:00"]),
        ("0 0 L * *", "2026-01-01T00:00", ["01-31 00:00", "02-28 00:00"]),
        ("0 0 LW * *", "2026-01-01T00:00", ["01-30 00:00", "02-27 00:00"]),
        ("0 0 * * 5L", "2026-01-01T00:00", ["01-30 00:00", "02-27 00:00"]),
        ("0 0 * * MON#1", "2026-01-01T00:00", ["01-05 00:00", "02-02 00:00"]),
    ],
)
def test_an_expression_means_what_it_means_to_cron(text: str, after: str, times: list[str]) -> None:
    assert _local_times(parse_schedule(cron=text), after, len(times)) == [f"{time}+0000" for time in times]


@pytest.mark.parametrize(
    ("text", "zone", "after", "times"),
    [
        # crontab(5) of Debian: what would have run in the hour that is skipped runs immediately ...
        ("30 2 * * *", BERLIN, "2026-03-28T03:00", ["03-29 03:00+0200", "03-30 02:30+0200"]),
        ("0,30 2,3 * * *", BERLIN, "2026-03-29T00:00", ["03-29 03:00+0200", "03-29 03:30+0200", "03-30 02:00+0200"]),
        ("30 2 * * SUN", NEW_YORK, "2026-03-02T00:00", ["03-08 03:00-0400", "03-15 02:30-0400"]),
        ("15 2 * * *", LORD_HOWE, "2026-10-03T12:00", ["10-04 02:30+1100", "10-05 02:15+1100"]),
        # ... and nothing runs twice in the hour that comes twice.
        ("30 2 * * *", BERLIN, "2026-10-24T12:00", ["10-25 02:30+0200", "10-26 02:30+0100"]),
        ("30 1 * * *", NEW_YORK, "2026-10-31T12:00", ["11-01 01:30-0400", "11-02 01:30-0500"]),
        ("45 1 * * *", LORD_HOWE, "2026-04-04T12:00", ["04-05 01:45+1100", "04-06 01:45+1030"]),
        ("15 2,3 * * *", LORD_HOWE, "2026-04-05T00:00", ["04-05 02:15+1030", "04-05 03:15+1030"]),
        # What runs each hour goes on by the hours that pass.
        ("30 * * * *", BERLIN, "2026-03-29T01:00", ["03-29 01:30+0100", "03-29 03:30+0200"]),
        ("30 * * * *", BERLIN, "2026-10-25T02:00", ["10-25 02:30+0200", "10-25 02:30+0100", "10-25 03:30+0100"]),
        ("0 * * * *", NEW_YORK, "2026-11-01T00:30", ["11-01 01:00-0400", "11-01 01:00-0500", "11-01 02:00-0500"]),
        ("*/15 * * * *", LORD_HOWE, "2026-04-05T01:40", ["04-05 01:45+1100", "04-05 01:30+1030", "04-05 01:45+1030"]),
        ("*/15 * * * *", LORD_HOWE, "2026-10-04T01:40", ["10-04 01:45+1030", "10-04 02:30+1100", "10-04 02:45+1100"]),
        # What has certain hours counts each time of the clock once, however often in the hour.
        ("*/30 2 * * *", BERLIN, "2026-03-29T00:00", ["03-29 03:00+0200", "03-30 02:00+0200"]),
        ("*/30 2 * * *", BERLIN, "2026-10-25T00:00", ["10-25 02:00+0200", "10-25 02:30+0200", "10-26 02:00+0100"]),
        ("*/15 2 * * *", LORD_HOWE, "2026-04-05T00:30", ["04-05 02:00+1030", "04-05 02:15+1030", "04-05 02:30+1030"]),
        # A day that a country left out.
        ("0 12 * * *", "Pacific/Apia", "2011-12-29T12:00", ["12-31 00:00+1400", "12-31 12:00+1400"]),
        # Hours on days that are far from each other.
        ("30 * 25 10 *", BERLIN, "2026-10-25T02:45", ["10-25 02:30+0100", "10-25 03:30+0100"]),
        ("30 * 1 12 *", BERLIN, "2026-10-25T02:45", ["12-01 00:30+0100"]),
    ],
)
def test_nothing_is_due_twice_and_nothing_skipped_where_the_clock_is_set(
    text: str, zone: str, after: str, times: list[str]
) -> None:
    assert _local_times(parse_schedule(cron=text, zone=zone), after, len(times)) == times


def test_asked_in_the_second_of_two_hours_nothing_is_due_that_has_gone_by() -> None:
    schedule = parse_schedule(cron="30 2 * * *", zone=BERLIN)
    second = datetime(2026, 10, 25, 2, 15, tzinfo=ZoneInfo(BERLIN), fold=1)
    due = _due(schedule, after=second.astimezone(UTC))
    assert due == _at("2026-10-26T02:30", BERLIN)
    hourly = _due(parse_schedule(cron="30 * * * *", zone=BERLIN), after=second.astimezone(UTC))
    assert hourly == second.astimezone(UTC) + timedelta(minutes=15)


def test_a_missed_time_is_the_first_of_those_that_were_missed() -> None:
    schedule = parse_schedule(cron="0 3 * * *")
    due = _due(schedule)
    assert due == _at("2026-03-05T03:00")
    now = CREATED + timedelta(days=40, hours=2)
    assert begin_at(schedule, due=due, now=now) == now


@pytest.mark.parametrize("zone", [BERLIN, NEW_YORK, LORD_HOWE])
@pytest.mark.parametrize("text", ["30 2 * * *", "0 0 * * *", "45 1,2 * * *"])
def test_each_time_of_a_year_comes_once(text: str, zone: str) -> None:
    schedule = parse_schedule(cron=text, zone=zone)
    moment, days = _at("2026-01-01T00:00", zone) - timedelta(seconds=1), []
    while moment < _at("2027-01-01T00:00", zone) - timedelta(seconds=1):
        due = next_due(schedule, after=moment, created=None, expires=None, seed=b"")
        assert due is not None
        assert due > moment
        moment = due
        days.append(due.astimezone(zone_of(zone)).date())
    times_a_day = len(text.split()[1].split(","))
    # Both times of a day can be in the hour that is skipped, and then are one: no zone here does that.
    assert len(days[:-1]) == 365 * times_a_day
    assert all(days.count(day) == times_a_day for day in set(days[:-1]))


# --- windows ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("window", "zone", "moment", "start", "end"),
    [
        ("Sat,Sun 02:00-05:00", "UTC", "2026-01-01T12:00+00:00", "2026-01-03T02:00+00:00", "2026-01-03T05:00+00:00"),
        ("Sat,Sun 02:00-05:00", "UTC", "2026-01-03T04:59+00:00", "2026-01-03T02:00+00:00", "2026-01-03T05:00+00:00"),
        ("Sat,Sun 02:00-05:00", "UTC", "2026-01-03T05:00+00:00", "2026-01-04T02:00+00:00", "2026-01-04T05:00+00:00"),
        ("Sat 22:00-04:00", "UTC", "2026-01-04T03:59+00:00", "2026-01-03T22:00+00:00", "2026-01-04T04:00+00:00"),
        ("Sat 22:00-04:00", "UTC", "2026-01-04T04:00+00:00", "2026-01-10T22:00+00:00", "2026-01-11T04:00+00:00"),
        ("Sat 00:00-24:00", "UTC", "2026-01-01T00:00+00:00", "2026-01-03T00:00+00:00", "2026-01-04T00:00+00:00"),
        # The clock jumps from 2 to 3: what lies in that hour as a whole opens after it.
        ("Sun 02:00-05:00", BERLIN, "2026-03-28T12:00+00:00", "2026-03-29T01:00+00:00", "2026-03-29T03:00+00:00"),
        ("Sun 01:30-02:30", BERLIN, "2026-03-28T12:00+00:00", "2026-03-29T00:30+00:00", "2026-03-29T01:00+00:00"),
        ("Sun 02:00-03:00", BERLIN, "2026-03-28T12:00+00:00", "2026-03-29T01:00+00:00", "2026-03-29T02:00+00:00"),
        ("Sun 02:10-02:20", LORD_HOWE, "2026-10-03T00:00+00:00", "2026-10-03T15:30+00:00", "2026-10-03T15:40+00:00"),
        # The hour from 2 to 3 comes twice.
        ("Sun 02:00-05:00", BERLIN, "2026-10-24T12:00+00:00", "2026-10-25T00:00+00:00", "2026-10-25T04:00+00:00"),
        ("Sun 01:00-02:30", NEW_YORK, "2026-10-31T12:00+00:00", "2026-11-01T05:00+00:00", "2026-11-01T07:30+00:00"),
    ],
)
def test_a_window_opens_by_the_clock(window: str, zone: str, moment: str, start: str, end: str) -> None:
    schedule = parse_schedule(every="1d", windows=[window], zone=zone)
    opening = opening_after(schedule.windows, zone_of(zone), datetime.fromisoformat(moment))
    assert (opening.start, opening.end) == (datetime.fromisoformat(start), datetime.fromisoformat(end))


def test_what_is_due_outside_is_put_off_and_spread_in_the_next_window() -> None:
    schedule = parse_schedule(every="30d", windows=["Sat,Sun 02:00-05:00"], zone=BERLIN)
    times = {_due(schedule, seed=bytes([number])) for number in range(100)}
    opens, closes = _at("2026-04-04T02:00", BERLIN), _at("2026-04-04T05:00", BERLIN)
    assert all(time is not None and opens <= time < closes for time in times)
    assert len(times) > 90


def test_what_expires_before_the_next_window_is_due_in_the_last_one_before() -> None:
    schedule = parse_schedule(every="30d", windows=["Sat 02:00-05:00"])
    due = _due(schedule, expires=_at("2026-04-02T00:00"))
    assert due is not None
    assert _at("2026-03-28T02:00") <= due < _at("2026-03-28T05:00")


def test_no_window_is_broken_for_what_expires_before_any() -> None:
    schedule = parse_schedule(every="30d", windows=["Sat 02:00-05:00"])
    due = _due(schedule, expires=_at("2026-03-06T00:00"))
    assert due is not None
    assert _at("2026-03-07T02:00") <= due < _at("2026-03-07T05:00")


def test_a_version_that_was_made_in_a_window_is_not_replaced_in_the_same() -> None:
    """It would be again and again, for as long as the window is open, and expire before the next all the same."""
    schedule = parse_schedule(every="30d", windows=["Sat 02:00-05:00"])
    made = _at("2026-03-07T02:10")
    due = _due(schedule, after=made, created=made, expires=made + timedelta(days=3))
    assert due is not None
    assert due >= _at("2026-03-14T02:00")


def test_what_was_missed_is_made_up_for_in_a_window() -> None:
    schedule = parse_schedule(every="30d", windows=["Sat 02:00-05:00"])
    due = _at("2026-04-04T02:30")
    assert begin_at(schedule, due=due, now=due - timedelta(days=1)) == due
    assert begin_at(schedule, due=due, now=_at("2026-04-04T04:59")) == _at("2026-04-04T04:59")
    assert begin_at(schedule, due=due, now=_at("2026-04-04T05:00")) == _at("2026-04-11T02:00")


# --- what always holds ------------------------------------------------------------------------------------------------


def _is_open(schedule: Schedule, moment: datetime) -> bool:
    return not schedule.windows or opening_after(schedule.windows, zone_of(schedule.zone), moment).start <= moment


@given(_schedules(), _MOMENTS, st.timedeltas(timedelta(), timedelta(days=90)), _LIVES, st.binary(max_size=8))
@settings(max_examples=300, deadline=None)
def test_is_never_due_before_and_always_in_a_window(
    schedule: Schedule, created: datetime, age: timedelta, life: timedelta | None, seed: bytes
) -> None:
    after, expires = created + age, None if life is None else created + life
    due = _due(schedule, after, created, expires, seed)
    assert due == _due(schedule, after, created, expires, seed)
    if due is None:
        assert schedule.ttl_permille is not None
        assert expires is None
        return
    assert due >= after
    assert _is_open(schedule, due)
    begins = begin_at(schedule, due=due, now=due + age)
    assert begins >= due + age
    assert _is_open(schedule, begins)


@given(_schedules(), _MOMENTS, st.timedeltas(timedelta(), timedelta(days=90)), st.data(), _LIVES)
@settings(max_examples=300, deadline=None)
def test_who_asks_later_is_told_no_earlier_time(
    schedule: Schedule, created: datetime, age: timedelta, data: st.DataObject, life: timedelta | None
) -> None:
    expires = None if life is None else created + life
    later = data.draw(st.timedeltas(age, timedelta(days=120)))
    first, second = (_due(schedule, created + since, created, expires) for since in (age, later))
    assert (first is None) == (second is None)
    assert first is None or (second is not None and first <= second)


@given(_schedules(), _MOMENTS, _LIVES)
@settings(max_examples=200, deadline=None)
def test_each_rotation_is_later_than_the_one_before(
    schedule: Schedule, created: datetime, life: timedelta | None
) -> None:
    for _ in range(6):
        due = _due(schedule, created, created, None if life is None else created + life)
        if due is None:
            return
        assert due > created
        created = due


@given(_schedules(), _MOMENTS, _LIVES)
@settings(max_examples=200, deadline=None)
def test_without_windows_nothing_lapses(schedule: Schedule, created: datetime, life: timedelta | None) -> None:
    assume(life is not None and life > timedelta(seconds=2))
    assert life is not None
    due = _due(schedule._replace(windows=()), created, created, created + life)
    assert due is not None
    assert due < created + life


@given(_schedules(jitter=False), _MOMENTS, st.sampled_from([10, 50, 500]), _LIVES)
@settings(max_examples=200, deadline=None)
def test_spreading_moves_a_time_by_no_more_than_its_share(
    schedule: Schedule, created: datetime, share: int, life: timedelta | None
) -> None:
    schedule = schedule._replace(windows=())
    expires = None if life is None else created + life
    even, spread = (
        _due(each, created, created, expires) for each in (schedule, schedule._replace(jitter_permille=share))
    )
    if even is None or spread is None:
        assert even == spread
    elif schedule.cron is None:
        assert even - min((even - created) * share / 1_000, JITTER_MAX) - timedelta(seconds=1) <= spread <= even
    else:
        following = _due(schedule, even, even)
        assert following is not None
        assert even <= spread <= even + min((following - even) * share / 1_000, JITTER_MAX)


def test_nothing_is_begun_or_led_on_that_could_not_be_ended_here(
    world: RotationWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = world.begin(schedule=parse_schedule(cron="0 3 * * SUN").to_json())
    runner = world.runner(vault)
    with monkeypatch.context() as here:
        here.setitem(sys.modules, "cronsim", None)
        cron._is_hourly.cache_clear()
        with pytest.raises(ExtraMissing):
            world.advance(runner, "due")
    assert world.account.calls == []
    world.advance(runner, "due")
    world.wait(61)
    called = len(world.account.calls)
    with monkeypatch.context() as here:
        here.setitem(sys.modules, "cronsim", None)
        cron._is_hourly.cache_clear()
        with pytest.raises(ExtraMissing):
            world.advance(runner)
    assert len(world.account.calls) == called
    assert world.lead_on(runner).state is State.RETIRED
