"""What a plan says, decided from what both sides hold and when they were alike."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securecfg.backends import Kind
from securecfg.errors import VersionDisabled
from securecfg.mounts.sync_plan import CHANGING, Action, Pair, Plan, Prefer, Rules, Seen, Way, make_plan, next_last
from securecfg.testing.memory_backend import ALL

if TYPE_CHECKING:
    from securecfg.errors import SecurecfgError

PAIR = Pair(ALL, ALL, here_is_store=True, there_is_store=True)
OWN = Pair(ALL, ALL, here_is_store=False, there_is_store=False)
OLD, NEW = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC)


def seen(value: str, created: datetime | None = OLD) -> Seen:
    return Seen("1", value.encode(), created, Kind.TEXT, len(value), {}, (), expires=False, content_type="")


def line(here: str | None, there: str | None, last: str | None, **rules: object) -> str:
    """Return the one line of a plan for values that are told apart by their digests."""
    plan = make_plan(
        {} if here is None else {"a": seen(here)},
        {} if there is None else {"a": seen(there)},
        {} if last is None else {"a": last.encode()},
        PAIR,
        Rules(**rules),  # type: ignore[arg-type]  # fields of the rules
    )
    (item,) = plan.items
    return f"{item.action} {item.way}".strip()


@pytest.mark.parametrize(
    ("here", "there", "last", "one_way", "both", "both_deleting"),
    [
        ("1", "1", None, "same", "same", "same"),
        ("1", "1", "0", "same", "same", "same"),
        ("1", None, None, "new forth", "new forth", "new forth"),
        (None, "1", None, "only-there", "new back", "new back"),
        ("1", "2", None, "changed forth", "conflict", "conflict"),
        ("1", "0", "0", "changed forth", "changed forth", "changed forth"),
        ("0", "1", "0", "changed forth", "changed back", "changed back"),
        ("1", "2", "0", "conflict", "conflict", "conflict"),
        ("0", None, "0", "new forth", "only-here", "deleted back"),
        (None, "0", "0", "only-there", "only-there", "deleted forth"),
        ("1", None, "0", "conflict", "conflict", "conflict"),
        (None, "1", "0", "only-there", "conflict", "conflict"),
    ],
)
def test_a_line_follows_from_both_sides_and_the_last_run(
    here: str | None, there: str | None, last: str | None, one_way: str, both: str, both_deleting: str
) -> None:
    assert line(here, there, last) == one_way
    assert line(here, there, last, is_both=True) == both
    assert line(here, there, last, is_both=True, deletes=True) == both_deleting


def test_one_way_deletes_what_only_the_second_side_has_but_not_what_it_has_changed() -> None:
    assert line(None, "1", None, deletes=True) == "deleted forth"
    assert line(None, "0", "0", deletes=True) == "deleted forth"
    assert line(None, "1", "0", deletes=True) == "conflict"


def test_another_value_is_a_conflict_where_nothing_may_be_written_over() -> None:
    assert line("1", "2", None, replaces=False) == "conflict"
    assert line("1", None, None, replaces=False) == "new forth"


@pytest.mark.parametrize(
    ("times", "line"),
    [
        ((NEW, OLD), "changed forth"),
        ((OLD, NEW), "changed back"),
        ((OLD, OLD), "conflict"),
        ((None, NEW), "conflict"),
        ((NEW, None), "conflict"),
    ],
)
def test_the_newest_is_known_only_where_both_sides_say_when(
    times: tuple[datetime | None, datetime | None], line: str
) -> None:
    here, there = seen("1", times[0]), seen("2", times[1])
    plan = make_plan({"a": here}, {"a": there}, {}, PAIR, Rules(is_both=True, prefer=Prefer.NEWEST))
    assert f"{plan.items[0].action} {plan.items[0].way}".strip() == line


def test_what_cannot_be_read_is_left_alone_whatever_is_preferred() -> None:
    error: SecurecfgError = VersionDisabled("disabled")
    for here, there in ((error, seen("1")), (seen("1"), error)):
        plan = make_plan({"a": here}, {"a": there}, {}, PAIR, Rules(is_both=True, deletes=True, prefer=Prefer.FROM))
        assert plan.items[0].action is Action.UNREADABLE


def test_a_time_to_live_goes_into_no_store_and_bad_metadata_into_no_vault() -> None:
    living = seen("1")._replace(expires=True)
    assert make_plan({"a": living}, {}, {}, PAIR, Rules()).items[0].action is Action.CANNOT
    assert make_plan({"a": living}, {}, {}, OWN, Rules()).items[0].action is Action.NEW
    marked = seen("1")._replace(metadata={"": "nothing"})
    assert make_plan({"a": marked}, {}, {}, OWN, Rules()).items[0].action is Action.CANNOT
    assert make_plan({"a": marked}, {}, {}, PAIR, Rules()).items[0].action is Action.NEW


VALUES = st.sampled_from([None, "0", "1", "2"])


@given(VALUES, VALUES, VALUES, st.booleans(), st.booleans(), st.sampled_from(Prefer))
def test_doing_what_a_plan_says_makes_the_next_one_say_that_nothing_is_to_be_done(
    here: str | None,
    there: str | None,
    last: str | None,
    is_both: bool,
    deletes: bool,
    prefer: Prefer,
) -> None:
    sides = [{} if value is None else {"a": seen(value)} for value in (here, there)]
    known = {} if last is None else {"a": last.encode()}
    rules = Rules(is_both=is_both, deletes=deletes, prefer=prefer)
    plan = make_plan(sides[0], sides[1], known, PAIR, rules)
    done: dict[str, bytes | None] = {}
    for item in plan.todo:
        source, goal = (sides[0], sides[1]) if item.way is Way.FORTH else (sides[1], sides[0])
        assert goal.get("a") != source.get("a")
        if item.action is Action.DELETED:
            assert deletes
            done["a"] = None
            del goal["a"]
        else:
            done["a"], goal["a"] = source["a"].digest, source["a"]
    again = make_plan(sides[0], sides[1], next_last(plan, known, done), PAIR, rules)
    assert not any(item.action in CHANGING for item in again.items)
    if prefer is Prefer.NONE:
        assert [item.action for item in again.items if item.action is Action.CONFLICT] == [
            item.action for item in plan.items if item.action is Action.CONFLICT
        ]
    if not is_both:
        assert sides[0] == ({} if here is None else {"a": seen(here)})


def test_a_plan_is_told_from_others_by_what_it_does_and_to_which_versions() -> None:
    plans = [
        make_plan({"a": seen("1")}, {}, {}, PAIR, Rules()),
        make_plan({"b": seen("1")}, {}, {}, PAIR, Rules()),
        make_plan({"a": seen("1")._replace(version="2")}, {}, {}, PAIR, Rules()),
        make_plan({"a": seen("1")}, {}, {}, PAIR, Rules(deletes=True)),
        make_plan({"a": seen("1")}, {"a": seen("2")}, {}, PAIR, Rules()),
    ]
    assert len({plan.id for plan in plans}) == len(plans)
    assert plans[0].id == make_plan({"a": seen("other")}, {}, {}, PAIR, Rules()).id  # nothing of a value
    assert Plan((), Rules()).counts == {}
