"""`securecfg rotation plan` and `simulate`: what will be rotated when, and what a year of that comes to."""

from __future__ import annotations

from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from securecfg.cli.groups import Verb
from securecfg.cli.invocation import Invocation, common_flags
from securecfg.cli.output import printable, shown_time, timestamp
from securecfg.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from securecfg.rotation.calendar import Occurrence, Planned
    from securecfg.rotation.document import Rotation
    from securecfg.rotation.simulation import Outcome
    from securecfg.vault import Vault

_DAYS_MAX = 3_660
_ROWS_MAX = 10_000
_SHOWN_MAX = 20


@click.command(
    cls=Verb,
    examples=("securecfg rotation plan", "securecfg rotation plan db/ --days 7", "securecfg rotation plan --json"),
)
@click.argument("prefix", default="")
@click.option("--days", type=click.IntRange(1, _DAYS_MAX), default=30, metavar="N", help="For how many days: 30.")
@common_flags
def plan(invocation: Invocation, *, prefix: str, days: int) -> None:
    """Show day by day what will be rotated, as far as schedules tell. Times are in UTC; nothing is asked or done.

    Each rotation is taken to succeed when it begins. What is overdue is shown for now, or for its next window.
    """
    from securecfg.cli.rotation import open_rotations
    from securecfg.clock import to_datetime
    from securecfg.rotation.calendar import upcoming
    from securecfg.rotation.planning import begins_by_itself

    with invocation.open() as vault:
        opened = open_rotations(vault)
        rotations = opened.all(prefix)
        now = to_datetime(opened.now_ns())
        until = now + timedelta(days=days)
        found = list(islice(upcoming(_planned(vault, rotations), now=now, until=until), _ROWS_MAX + 1))
    is_complete = len(found) <= _ROWS_MAX
    found = found[:_ROWS_MAX]
    rotators = {each.path: each.rules.rotator for each in rotations}
    idle = [each for each in rotations if not begins_by_itself(each)]
    result = {
        "from": timestamp(now),
        "until": timestamp(until),
        "is_complete": is_complete,
        "days": list(_days(found, rotators)),
        "not_planned": [{"path": each.path, "why": _why_not(each)} for each in idle],
    }
    if found or invocation.is_json:
        invocation.emit_table(
            result, ("DAY", "TIME", "PATH", "ROTATOR", "NOTE"), list(_rows(found, rotators)), shorten=("NOTE", "PATH")
        )
    else:
        invocation.emit(result, f"nothing is rotated by itself in {counted(days, 'day')}")
    if invocation.is_json:
        return
    if not is_complete:
        invocation.note(f"note: only the first {_ROWS_MAX:,} are shown; ask for fewer days")
    for why in dict.fromkeys(map(_why_not, idle)):
        count = sum(_why_not(each) == why for each in idle)
        invocation.note(f"note: not planned: {counted(count, 'secret')} {why}")


@click.command(cls=Verb, examples=("securecfg rotation simulate", "securecfg rotation simulate --days 90 --json"))
@click.argument("prefix", default="")
@click.option("--days", type=click.IntRange(1, _DAYS_MAX), default=365, metavar="N", help="For how many days: 365.")
@common_flags
def simulate(invocation: Invocation, *, prefix: str, days: int) -> None:
    """Try the schedules out on a clock that is only counted, and tell where they collide and what lapses.

    A collision is more than five rotations at one target in ten minutes, which may refuse so many calls: one server, or
    one host of an API. A secret lapses that ceases to be good before its rotation begins. Nothing is asked or done.
    """
    from securecfg.cli.rotation import open_rotations
    from securecfg.clock import to_datetime
    from securecfg.rotation import simulation

    with invocation.open() as vault:
        opened = open_rotations(vault)
        planned = _planned(vault, opened.all(prefix))
        now = to_datetime(opened.now_ns())
    with invocation.progress("trying it out") as progress:
        outcome = simulation.simulate(planned, start=now, span=timedelta(days=days), progress=progress)
    invocation.emit(_outcome_to_json(outcome), *map(printable, _told(outcome, len(planned))))


def _planned(vault: Vault, rotations: Sequence[Rotation]) -> list[Planned]:
    """Return the plan of some rotations, each of the part of the vault that it lies in."""
    from securecfg.rotation.parts import part_of
    from securecfg.rotation.planning import plan_of

    return [planned for each in rotations for planned in plan_of(part_of(vault, each.path), [each])]


def _days(found: Sequence[Occurrence], rotators: dict[str, str]) -> Iterator[dict[str, Any]]:
    for day in dict.fromkeys(each.at.date() for each in found):
        yield {
            "day": day.isoformat(),
            "rotations": [
                {
                    "at": timestamp(each.at),
                    "path": each.name,
                    "rotator": rotators[each.name],
                    "expired": timestamp(each.expired),
                }
                for each in found
                if each.at.date() == day
            ],
        }


def _rows(found: Sequence[Occurrence], rotators: dict[str, str]) -> Iterator[tuple[str, ...]]:
    shown = None
    for each in found:
        day = each.at.date()
        note = f"has expired {shown_time(each.expired)}" if each.expired is not None else ""
        heading = f"{day:%a %Y-%m-%d}" if day != shown else ""
        yield heading, f"{each.at:%H:%M}", each.name, rotators[each.name], note
        shown = day


def _why_not(rotation: Rotation) -> str:
    from securecfg.cli.rotation_words import is_failed

    if is_failed(rotation):
        return "whose rotation has failed"
    return "that is paused" if rotation.is_paused else "only when asked"


def _outcome_to_json(outcome: Outcome) -> dict[str, Any]:
    peak = outcome.peak
    return {
        "from": timestamp(outcome.begins),
        "until": timestamp(outcome.ends),
        "is_complete": outcome.is_complete,
        "rotation_count": outcome.rotations,
        "peak": None if peak is None else {"day": peak[0].isoformat(), "rotation_count": peak[1]},
        "per_day": {day.isoformat(): count for day, count in outcome.per_day.items()},
        "collision_count": outcome.collision_count,
        "collisions": [
            {"target": each.target, "from": timestamp(each.begins), "until": timestamp(each.ends), "most": each.most}
            for each in outcome.collisions
        ],
        "lapses": [
            {
                "path": each.name,
                "expired": timestamp(each.expired),
                "rotated": timestamp(each.rotated),
                "times": each.times,
            }
            for each in outcome.lapses
        ],
        "never_due": list(outcome.never_due),
    }


def _told(outcome: Outcome, secrets: int) -> Iterator[str]:
    span = counted((outcome.ends - outcome.begins).days, "day")
    rotations = f"{outcome.rotations:,} rotation{'' if outcome.rotations == 1 else 's'}"
    yield f"tried      {span}: {rotations} of {counted(secrets, 'secret')}"
    if not outcome.is_complete:
        yield f"ended      {shown_time(outcome.ends)}, as there were too many to try them all"
    if outcome.peak is not None:
        yield f"busiest    {outcome.peak[0]:%a %Y-%m-%d}, {counted(outcome.peak[1], 'rotation')}"
    for collision in outcome.collisions[:_SHOWN_MAX]:
        when = f"{shown_time(collision.begins)} to {collision.ends:%H:%M:%S}Z"
        yield f"collision  {collision.target}   {when}, up to {collision.most} in 10 minutes"
    if outcome.collision_count > _SHOWN_MAX:
        yield f"collision  and {outcome.collision_count - _SHOWN_MAX:,} more"
    for lapse in outcome.lapses[:_SHOWN_MAX]:
        then = f"is rotated {shown_time(lapse.rotated)}" if lapse.rotated is not None else "is not rotated after that"
        often = f", {counted(lapse.times, 'time')}" if lapse.times > 1 else ""
        yield f"lapses     {lapse.name}   expires {shown_time(lapse.expired)}, {then}{often}"
    if len(outcome.lapses) > _SHOWN_MAX:
        yield f"lapses     and {len(outcome.lapses) - _SHOWN_MAX:,} more"
    for name in outcome.never_due:
        yield f"never due  {name}"
    if not (outcome.collision_count or outcome.lapses or outcome.never_due):
        yield "well       nothing collides, and no secret lapses"
