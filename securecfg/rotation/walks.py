"""Many rotations led through time together, a stretch of it at once: the times of a calendar without its heap.

Each is taken to succeed when it begins, and the new version to live as long as the one before, as in `calendar`. Once a
secret was rotated, its next time depends on the last one alone; those for which it does so in the same way are a group.
`Placing` says how (`_Placed`), and two kinds take a shorter way to the same times:

- where an expression alone says when, all of a group are due together, and are counted (`_Struck`);
- where neither a window nor a clock has a say, a time is a sum (`_Paced`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from hashlib import sha256
from typing import TYPE_CHECKING, Protocol

from securecfg.rotation.calendar import next_of
from securecfg.rotation.placing import DAY, LAST, SECOND, Placing, Timeline, latest_of, to_us
from securecfg.rotation.schedule import zone_of
from securecfg.tuples import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from securecfg.rotation.calendar import Planned
    from securecfg.rotation.schedule import Schedule


class Gone(NamedTuple):
    """A version that ceased to be good before it was replaced.

    Attributes:
        name: Of the secret.
        expired: When it did.
        at: When it was replaced; None where it was not.
    """

    name: str
    expired: int
    at: int | None


class Stretch:
    """What begins in a stretch of time.

    Attributes:
        times: For each target when, in no order.
        gone: What had ceased to be good by then, of each secret in order.
    """

    def __init__(self) -> None:
        """Hold nothing yet."""
        self.times: defaultdict[str, list[int]] = defaultdict(list)
        self.gone: list[Gone] = []

    @property
    def count(self) -> int:
        """How many begin."""
        return sum(map(len, self.times.values()))


class Walk:
    """Rotations on their way, each with the one time that is its next.

    Args:
        rotations: What is rotated.
        now: What was due before begins now, or in the next window.

    Attributes:
        never_due: Those that have no time.
    """

    def __init__(self, rotations: Iterable[Planned], *, now: datetime) -> None:
        """Find the next time of each."""
        self.never_due: list[Planned] = []
        self._begins = to_us(now)
        self._days: defaultdict[int, list[tuple[int, Planned]]] = defaultdict(list)
        self._groups: dict[tuple[Schedule, int | None, str], _Group] = {}
        self._timelines: dict[tuple[object, ...], Timeline] = {}
        self._often, self._clocks = 0, Counter[Timeline]()
        for planned in rotations:
            at = next_of(planned, now)
            if at is None:
                self.never_due.append(planned)
            else:
                self._days[to_us(at) // DAY].append((to_us(at), planned))

    def most_on(self, day: int) -> int:
        """Return about how many begin on a day at most."""
        by_clock = (count * each.cron_between(day * DAY, (day + 1) * DAY) for each, count in self._clocks.items())
        return len(self._days.get(day, ())) + self._often + sum(by_clock)

    def take(self, until: int) -> Stretch:
        """Return what begins on the day that it is by now and before a time of it, and go on from there."""
        day, stretch = (until - 1) // DAY, Stretch()
        for at, planned in self._days.pop(day, ()):
            if at >= until:
                self._days[day].append((at, planned))
                continue
            stretch.times[planned.target].append(at)
            if planned.expires is not None and (expired := to_us(planned.expires)) <= at:
                stretch.gone.append(Gone(planned.name, expired, at))
            group = self._group_of(planned)
            group.enter(at, planned)
            self._often += group.often
            self._clocks[group.timeline] += 1
        for group in self._groups.values():
            group.go(day, until, stretch)
        if until % DAY == 0:
            for timeline in self._timelines.values():
                timeline.forget(until - DAY)
        return stretch

    def lapsing(self, end: int) -> Iterator[Gone]:
        """Yield the versions by now that cease to be good before an end."""
        waiting = [planned for each in self._days.values() for _, planned in each]
        for planned in (*self.never_due, *waiting):
            if planned.expires is not None and (expired := to_us(planned.expires)) < end:
                yield Gone(planned.name, expired, None)
        for group in self._groups.values():
            yield from group.lapsing(end)

    def _group_of(self, planned: Planned) -> _Group:
        life = None
        if planned.expires is not None:
            life = max(to_us(planned.expires) - to_us(planned.created or planned.after), 0)
        key = (planned.schedule, life, planned.target)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = self._new_group(planned.schedule, life, planned.target)
        return group

    def _new_group(self, schedule: Schedule, life: int | None, target: str) -> _Group:
        asked = (schedule.cron, schedule.windows, schedule.zone)
        timeline = self._timelines.get(asked)
        if timeline is None:
            timeline = self._timelines[asked] = Timeline(schedule, zone_of(schedule.zone), self._begins)
        placing = Placing(schedule, timeline)
        if not schedule.windows and schedule.cron is not None and life is None and not schedule.jitter_permille:
            return _Struck(target, timeline)
        length = placing.length(0, life)
        # A life so short that it lapses is one of the others, who note that.
        if not schedule.windows and length is not None and (life is None or latest_of(0, life) < life):
            return _Paced(target, timeline, (length, placing.share_of(length)), life)
        return _Placed(target, placing, timeline, life)


class _Group(Protocol):
    """Those who come from one time to the next in the same way.

    Attributes:
        timeline: Their clock.
        often: How often a day one of them begins at most, besides whenever that clock strikes.
    """

    timeline: Timeline
    often: int

    def enter(self, at: int, planned: Planned) -> None:
        """Take in a secret that was rotated at a time."""
        ...

    def go(self, day: int, until: int, stretch: Stretch) -> None:
        """Add what begins on a day before a time of it."""
        ...

    def lapsing(self, end: int) -> Iterable[Gone]:
        """Return the versions by now that cease to be good before an end."""
        ...


class _Struck:
    """When a clock strikes: how many wait for which time."""

    def __init__(self, target: str, timeline: Timeline) -> None:
        self._target = target
        self.timeline, self.often = timeline, 0
        self._waiting: defaultdict[int, int] = defaultdict(int)

    def enter(self, at: int, planned: Planned) -> None:
        del planned
        self._wait(at, 1)

    def go(self, day: int, until: int, stretch: Stretch) -> None:
        del day
        while self._waiting and (at := min(self._waiting)) < until:
            count = self._waiting.pop(at)
            stretch.times[self._target] += [at] * count
            self._wait(at, count)

    def lapsing(self, end: int) -> Iterable[Gone]:
        del end
        return ()

    def _wait(self, at: int, count: int) -> None:
        following = self.timeline.cron_after(at)
        if following is not None:
            self._waiting[following] += count


class _Paced:
    """By sums: a step from one time to the earliest of the next, and what is drawn on top of it."""

    def __init__(self, target: str, timeline: Timeline, interval: tuple[int, int], life: int | None) -> None:
        self._target = target
        length, share = interval
        self._step, self._latest = length - share, None if life is None else latest_of(0, life)
        if self._latest is not None and self._latest > self._step:
            share = min(share, self._latest - self._step)
        self._parts = share // SECOND + 1
        self.timeline, self.often = timeline, DAY // min(self._step, self._latest or DAY) + 1
        self._days: defaultdict[int, list[tuple[int, bytes]]] = defaultdict(list)

    def enter(self, at: int, planned: Planned) -> None:
        self._lead_on([(at, planned.seed)], at + 1, [])

    def go(self, day: int, until: int, stretch: Stretch) -> None:
        members = self._days.pop(day, None)
        if members is None:
            return
        self._lead_on(members, until, stretch.times[self._target])

    def lapsing(self, end: int) -> Iterable[Gone]:
        del end
        return ()

    def _lead_on(self, members: list[tuple[int, bytes]], until: int, times: list[int]) -> None:
        days, step, latest, parts = self._days, self._step, self._latest, self._parts
        add, to_number = times.append, int.from_bytes
        for at, seed in members:
            while at < until:
                add(at)
                start = at + step
                if parts > 1:
                    drawn = to_number(sha256(b"%d:%b" % (start // SECOND, seed)).digest()[:8])
                    start += SECOND * (parts * drawn >> 64)
                at = start if latest is None else min(start, at + latest)  # noqa: PLW2901 - the next one of the same
            days[at // DAY].append((at, seed))


class _Member(NamedTuple):
    """One of those who are placed.

    Attributes:
        at: When it is next.
        expires: When the version by now ceases to be good.
        name: Of the secret.
        seed: What spreads it.
    """

    at: int
    expires: int | None
    name: str
    seed: bytes


class _Placed:
    """By windows, by what expires, by an expression that is spread."""

    def __init__(self, target: str, placing: Placing, timeline: Timeline, life: int | None) -> None:
        self._target = target
        self._placing, self._life = placing, life
        length = placing.length(0, life)
        self.timeline, self.often = timeline, 1 if length is None else DAY // (length - placing.share_of(length)) + 1
        if life is not None:
            self.often += DAY // latest_of(0, life)
        self._days: defaultdict[int, list[_Member]] = defaultdict(list)

    def enter(self, at: int, planned: Planned) -> None:
        expires = None if self._life is None else at + self._life
        following = self._placing.due(at, at, expires, planned.seed)
        self._wait(_Member(LAST if following is None else following, expires, planned.name, planned.seed))

    def go(self, day: int, until: int, stretch: Stretch) -> None:
        members = self._days.pop(day, None)
        if members is None:
            return
        due, life, times = self._placing.due, self._life, stretch.times[self._target]
        for member in members:
            at: int | None
            at, expires, name, seed = member
            while at is not None and at < until:
                times.append(at)
                if expires is not None and expires <= at:
                    stretch.gone.append(Gone(name, expires, at))
                expires = None if life is None else at + life
                at = due(at, at, expires, seed)
            self._wait(_Member(LAST if at is None else at, expires, name, seed))

    def lapsing(self, end: int) -> Iterable[Gone]:
        for _, expires, name, _ in (each for some in self._days.values() for each in some):
            if expires is not None and expires < end:
                yield Gone(name, expires, None)

    def _wait(self, member: _Member) -> None:
        self._days[member.at // DAY].append(member)
