"""A year of rotations in minutes: real daemons, runners and schedules on a clock that is only counted.

Two daemons, each with a handle and leases of its own, take turns at the secrets of one vault. Now and then one of them
dies in the middle of a step, and is started anew some time later; now and then a target is away. What is expected of
the times is worked out here without the code that schedules.
"""

from __future__ import annotations

import random
import threading
import time as real_time
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

from securecfg.clock import to_datetime, to_ns
from securecfg.errors import TargetUnavailable
from securecfg.keys.keyfile import generate_key_file
from securecfg.rotation import Candidate
from securecfg.rotation.daemon import Limits
from securecfg.rotation.document import NS, Rules
from securecfg.rotation.posts import Post
from securecfg.rotation.rotations import Rotations
from securecfg.rotation.schedule import parse_schedule
from securecfg.rotation.steps import Steps
from securecfg.testing.account import Account
from securecfg.testing.rotation_kill_matrix import Died, MortalProcess, Point, SimulatedTime
from securecfg.vault.vault import Vault
from securecfg.vault.verification import verify_vault
from tests.vault.world import ADMIN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from securecfg.rotation import Fields, Options, Run, Strategy
    from securecfg.rotation import Rotator as RotatorProtocol
    from securecfg.rotation.runner import Runner

LATE_NS = 5 * NS
"""How late a rotation may begin: one of the daemons is always there, and somebody may die as it begins."""

_GRACE_S = 3_600
_SERVERS = 20
_DEATH_AFTER = 300
_DOWN_S = (1, 900)
_AWAY_S = (60, 6 * 3_600)
_AWAY_EVERY_S = 3 * 86_400
_LOOKED_AT = 1 / 20
_MINUTE = timedelta(minutes=1)
_DAY = timedelta(days=1)
_TRANSITIONS = ("idle", "begun", "pending", "set", "tested", "current", "previous", "retired")


class Window(NamedTuple):
    """When something may begin: on some days, 0 for Monday, for some minutes from a minute of the day on."""

    days: frozenset[int]
    opens: int
    minutes: int


class Kind(NamedTuple):
    """A schedule, as people write it, and what it means.

    Attributes:
        written: The arguments of `parse_schedule`.
        at_least: After which time since a version was made it is replaced at the earliest; None where a clock says so.
        at_most: After which time at the latest, were it not for windows.
        is_day: On which days a clock says so.
        minute: At which minute of the day.
        spread: Over which time after that at most.
        window: When it may begin; None for always.
        life: How long a version is good; None for ever.
    """

    written: dict[str, object]
    at_least: timedelta | None = None
    at_most: timedelta | None = None
    is_day: Callable[[date], bool] | None = None
    minute: int = 0
    spread: timedelta = timedelta()
    window: Window | None = None
    life: timedelta | None = None

    @property
    def zone(self) -> str:
        return str(self.written.get("zone", "UTC"))


def _days(number: float) -> timedelta:
    return timedelta(days=number)


KINDS: Mapping[str, Kind] = {
    "interval": Kind({"every": "30d"}, _days(28.5), _days(30)),
    "interval, weekends": Kind(
        {"every": "14d", "windows": ["Sat,Sun 02:00-05:00"], "zone": "Europe/Berlin"},
        _days(13.3),
        _days(14),
        window=Window(frozenset({5, 6}), 120, 180),
    ),
    "interval, an hour that is passed over": Kind(
        {"every": "21d", "windows": ["Sun 02:15-02:45"], "zone": "Pacific/Auckland"},
        _days(20),
        _days(21),
        window=Window(frozenset({6}), 135, 30),
    ),
    "interval, not spread": Kind(
        {"every": "90d", "jitter": "0", "windows": ["Sun 01:00-04:00"], "zone": "America/New_York"},
        _days(90),
        _days(90),
        window=Window(frozenset({6}), 60, 180),
    ),
    "weekly, when clocks are set": Kind(
        {"cron": "30 2 * * SUN", "zone": "Europe/Berlin"}, is_day=lambda day: day.weekday() == 6, minute=150
    ),
    "monthly": Kind({"cron": "0 9 1 * *", "zone": "America/New_York"}, is_day=lambda day: day.day == 1, minute=540),
    "monthly, spread": Kind(
        {"cron": "0 0 15 * *", "zone": "Asia/Kathmandu", "jitter": "10%"},
        is_day=lambda day: day.day == 15,
        spread=_days(1),
    ),
    "monthly, over midnight": Kind(
        {"cron": "0 12 10 * *", "windows": ["Sat 22:00-02:00"], "zone": "America/Sao_Paulo"},
        is_day=lambda day: day.day == 10,
        minute=720,
        window=Window(frozenset({5}), 1_320, 240),
    ),
    "part of the life": Kind({"ttl_fraction": "80%"}, _days(24), _days(24), life=_days(30)),
    "part of the life, at night": Kind(
        {"ttl_fraction": "0.7", "windows": ["Mon-Fri 22:00-23:30"], "zone": "Australia/Lord_Howe"},
        _days(31.5),
        _days(31.5),
        window=Window(frozenset(range(5)), 1_320, 90),
        life=_days(45),
    ),
    "only when asked": Kind({}),
}


class Figures(NamedTuple):
    """What a run came to."""

    secrets: int
    days: float
    rotations: int
    deaths: int
    unanswered: int
    looked_at: int
    steps: int
    records: int
    latest_s: float
    took_s: float


class _Server:
    """A target, which is away now and then."""

    def __init__(self, draw: random.Random, begins_ns: int, ends_ns: int) -> None:
        self.unanswered = 0
        self._away: list[tuple[int, int]] = []
        moment = begins_ns
        while moment < ends_ns:
            moment += int(draw.uniform(0, 2 * _AWAY_EVERY_S) * NS)
            self._away.append((moment, moment + int(draw.uniform(*_AWAY_S) * NS)))

    def verify_is_there(self, now_ns: int) -> None:
        while self._away and self._away[0][1] <= now_ns:
            self._away.pop(0)
        if self._away and self._away[0][0] <= now_ns:
            self.unanswered += 1
            message = "the target is away"
            raise TargetUnavailable(message)


class _SoakRotator:
    """The rotator of an account, at a server that others use too."""

    identity = frozenset({"username"})

    def __init__(self, soak: Soak, name: str) -> None:
        number = int(name)
        self._soak = soak
        self._account = soak.accounts[number].rotator()
        self._server = soak.servers[number % _SERVERS]
        self._life = soak.kind(number).life
        self._told = soak.told[number]
        self.strategy: Strategy = self._account.strategy
        self.target = f"server-{number % _SERVERS}"

    def propose(self, run: Run, /) -> Candidate:
        value = self._account.propose(run).value
        now = to_datetime(self._soak.time.now_ns())
        return Candidate(value, None if self._life is None else now + self._life)

    def apply(self, run: Run, /) -> None:
        self._server.verify_is_there(self._soak.time.ns)
        assert run.pending is not None
        self._told.add(str(run.pending["password"].reveal()))
        self._account.apply(run)

    def verify(self, value: Fields, run: Run, /) -> None:
        self._server.verify_is_there(self._soak.time.ns)
        self._account.verify(value, run)

    def retire(self, run: Run, /) -> None:
        self._server.verify_is_there(self._soak.time.ns)
        self._account.retire(run)


class _SteppedPost(Post):
    """A daemon that does what is due when it is its turn, in the thread of who says so."""

    def __init__(self, vault: Vault, runner: Runner, time: SimulatedTime) -> None:
        super().__init__(threading.Condition())
        self.vault, self._time = vault, time
        self._runner = runner
        self.load(runner)
        self._revision = vault.opened.store.revision()

    def take_turn(self) -> None:
        """Do what is due as far as is known, and look at what others have done, as the loop of a daemon does."""
        self.take_back(self._runner)
        while taken := self.agenda.take(self._time.ns, Limits().workers):
            self.working.update(taken)
            for record in taken:
                self.work(self._runner, record)
            self.take_back(self._runner)
        if (revision := self.vault.opened.store.revision()) != self._revision:
            self._revision = revision
            self.follow(self._runner)

    def next_ns(self) -> int | None:
        """Return when it wants to have its next turn."""
        self.take_back(self._runner)
        return self.agenda.next_ns()


class _Rotated(NamedTuple):
    """One rotation, as the log tells of it."""

    began_ns: int
    made_ns: int
    ended_ns: int


class Soak:
    """A vault with many secrets, and who rotates them.

    Args:
        folder: An empty one.
        secrets: How many.
        span: For how long.
        seed: What makes it repeatable.
    """

    def __init__(self, folder: Path, secrets: int, span: timedelta, seed: int) -> None:
        """Write the secrets, and set their rotations in the course of the first day."""
        self._began_s = real_time.perf_counter()
        self._draw = random.Random(seed)
        self.time = SimulatedTime()
        self._span = span
        self._begins_ns = self.time.ns
        self._ends_ns = self.time.ns + int(span.total_seconds() * NS)
        self._folder = folder
        self.servers = [_Server(self._draw, self._begins_ns, self._ends_ns) for _ in range(_SERVERS)]
        self.accounts = [Account(f"first-password-{number}") for number in range(secrets)]
        self.told: list[set[str]] = [set() for _ in range(secrets)]
        self._names = list(KINDS)
        self._set_ns: list[tuple[int, int]] = []
        self._deaths = self._started = self._looked_at = 0
        key = f"file:{folder / 'key'}"
        generate_key_file(folder / "key")
        self._vault = Vault.create(folder / "soak.vault", key=key, admin=ADMIN, clock=self.time)
        self._rotations = Rotations(self._vault, find=self.find)
        for number in range(secrets):
            self._set(number)
            self.time.wait(self._draw.uniform(0, 86_400 / secrets))
        self._daemons: list[_SteppedPost | None] = [None, None]
        self._restarts_ns = [self.time.ns, self.time.ns]

    def kind(self, number: int) -> Kind:
        return KINDS[self._names[number % len(self._names)]]

    def find(self, name: str, options: Options) -> RotatorProtocol:
        assert name == "account"
        return _SoakRotator(self, str(options["number"]))

    def _set(self, number: int) -> None:
        path, kind = _path(number), self.kind(number)
        made_ns = self.time.ns
        self._vault.write(path, {"username": "shop", "password": f"first-password-{number}"}, ttl=kind.life)
        self._set_rules(number, parse_schedule(**kind.written).to_json() if kind.written else None)  # type: ignore[arg-type]  # as written
        self._set_ns.append((made_ns, self.time.ns))

    def _set_rules(self, number: int, schedule: Mapping[str, object] | None) -> None:
        self._rotations.set(_path(number), Rules("account", {"number": str(number)}, schedule, _GRACE_S))

    # --- the year ----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Let the time pass; then let nothing be due any more, and what is under way come to its end."""
        while self.time.ns < self._ends_ns:
            self._pass(self._ends_ns)
            if self._draw.random() < _LOOKED_AT:
                self._look(self._draw.randrange(len(self.accounts)))
        for number in range(len(self.accounts)):
            self._set_rules(number, None)
        until = self._ends_ns + 2 * int(_DAY.total_seconds()) * NS
        while self.time.ns < until:
            self._pass(until)

    def _look(self, number: int) -> None:
        """Check that what readers get is accepted, at whatever moment this is."""
        value = self._vault.read(_path(number), allow_expired=True)
        assert self.accounts[number].accepts(str(value.field("password").reveal()))
        self._looked_at += 1

    def _pass(self, until_ns: int) -> None:
        moments = [until_ns]
        for number in self._draw.sample(range(2), 2):
            daemon = self._daemons[number]
            if daemon is None and self._restarts_ns[number] <= self.time.ns:
                daemon = self._daemons[number] = self._new_daemon()
            if daemon is None:
                moments.append(self._restarts_ns[number])
                continue
            try:
                daemon.take_turn()
            except Died:
                self._bury(number)
                moments.append(self._restarts_ns[number])
        # Asked of all at the end: what one has done the other may have to look at again.
        for daemon in self._daemons:
            if daemon is not None:
                moment = daemon.next_ns()  # 0 is at once
                moments.append(until_ns if moment is None else moment)
        self.time.wait(max((min(moments) - self.time.ns) / NS, 0.001))

    def _bury(self, number: int) -> None:
        """One is gone; it comes again some time later, at once where there is no other."""
        daemon, self._daemons[number] = self._daemons[number], None
        assert daemon is not None
        daemon.vault.close()
        self._deaths += 1
        self._restarts_ns[number] = self.time.ns
        if self._daemons[1 - number] is not None:
            self._restarts_ns[number] += int(self._draw.uniform(*_DOWN_S) * NS)
        else:
            self._restarts_ns[1 - number] = self.time.ns

    def _new_daemon(self) -> _SteppedPost:
        self._started += 1
        vault = Vault.open(
            self._folder / "soak.vault", key=f"file:{self._folder / 'key'}", principal=ADMIN, clock=self.time
        )
        kind, number = self._draw.choice(("call", "commit")), self._draw.randrange(1, _DEATH_AFTER)
        dies_at = Point(kind, number, self._draw.random() < 1 / 2)
        process = MortalProcess(vault, self.find, self.time, f"daemon-{self._started}", dies_at)
        return _SteppedPost(vault, process.runner, self.time)

    # --- what holds --------------------------------------------------------------------------------------------------

    def verify(self) -> Figures:
        """Check all that was promised.

        Raises:
            AssertionError: Something of it does not hold.
        """
        transitions: list[list[tuple[str, str, int]]] = [[] for _ in self.accounts]
        tokens: dict[str, str] = {}
        steps = records = 0
        for entry in self._vault.log.records():
            records += 1
            record = entry.record
            if record.event.value != "rotation.stepped":
                continue
            steps += 1
            path = str(record.obj["path"])
            assert tokens.setdefault(str(record.obj["token"]), path) == path
            if record.obj["from"] != record.obj["to"]:
                transitions[_number(path)].append((str(record.obj["from"]), str(record.obj["to"]), record.time_ns))
        rotations = latest_ns = written = 0
        for number, made in enumerate(transitions):
            rotated = list(_rotations_of(made))
            assert len(rotated) * (len(_TRANSITIONS) - 1) == len(made)
            self._verify_end(number, len(rotated))
            latest_ns = max(latest_ns, self._verify_times(number, rotated))
            rotations += len(rotated)
            written += Steps(self._vault.authority).find(_path(number)).number - 2
        assert rotations == len(tokens)
        assert written == steps, "the log and the documents do not tell of the same steps"
        self._vault.log.verify()
        assert not verify_vault(self._vault.opened).problems
        return Figures(
            len(self.accounts),
            self._span / _DAY,
            rotations,
            self._deaths,
            sum(server.unanswered for server in self.servers),
            self._looked_at,
            steps,
            records,
            latest_ns / NS,
            real_time.perf_counter() - self._began_s,
        )

    def _verify_end(self, number: int, rotations: int) -> None:
        """Check that nothing is under way, that each rotation made one candidate, and that what is current works."""
        path, account = _path(number), self.accounts[number]
        rotation = self._rotations.find(path)
        assert not rotation.is_running
        assert rotation.rotations == rotations
        standing = Steps(self._vault.authority).standing(path)
        assert standing[:3] == (1 + rotations, 0, 0)
        value = self._vault.read(path, allow_expired=True)
        assert account.accepted == {value.field("password").reveal()}
        assert len(self.told[number]) == rotations

    def _verify_times(self, number: int, rotated: list[_Rotated]) -> int:
        """Check that each rotation began when it was due and no other time; return by how much one was late at most,
        of those that need not wait for a window.
        """
        kind, (made_ns, set_ns) = self.kind(number), self._set_ns[number]
        after_ns, latest_ns = set_ns, 0
        last = _Rotated(0, made_ns, set_ns)
        for each in [*rotated, None]:
            due = self._due(kind, last.made_ns, after_ns)
            if due is None or (each is None and due[1] + LATE_NS >= self._ends_ns):
                assert each is None
                break
            assert each is not None, f"{kind.written} was not done at {to_datetime(due[1])}"
            when = f"{kind.written}: {to_datetime(each.began_ns)} is not {[to_datetime(moment) for moment in due]}"
            assert due[0] - NS <= each.began_ns <= due[1] + LATE_NS, when
            if kind.life is not None:
                assert each.began_ns < last.made_ns + int(kind.life.total_seconds() * NS)
            if kind.window is None:
                latest_ns = max(latest_ns, each.began_ns - due[1])
            last, after_ns = each, each.ended_ns
        return latest_ns

    def _due(self, kind: Kind, made_ns: int, after_ns: int) -> tuple[int, int] | None:
        """Return from when on and until when what was made at a time is to be replaced; None for never."""
        if not kind.written:
            return None
        if kind.is_day is not None:
            times = _clock_times(kind.zone, tuple(self._matching(kind)), kind.minute)
            first = next(moment for moment in times if moment > after_ns)
            last = first + int(kind.spread.total_seconds() * NS)
        else:
            assert kind.at_least is not None
            assert kind.at_most is not None
            first, last = (made_ns + int(length.total_seconds() * NS) for length in (kind.at_least, kind.at_most))
        if kind.window is None:
            return first, last
        openings = _openings(kind.zone, tuple(self._matching(kind._replace(is_day=None))), kind.window)
        return (
            max(next(opens for opens, closes in openings if closes > first), first),
            next(closes for _, closes in openings if closes > last) - LATE_NS,
        )

    def _matching(self, kind: Kind) -> Iterator[date]:
        """Return the days of the span, and some more, on which a clock says so or a window opens."""
        first = to_datetime(self._begins_ns).date() - 2 * _DAY
        for number in range(self._span // _DAY + 120):
            day = first + number * _DAY
            if kind.is_day(day) if kind.is_day else kind.window is None or day.weekday() in kind.window.days:
                yield day


def _rotations_of(made: list[tuple[str, str, int]]) -> Iterator[_Rotated]:
    """Return the rotations of one secret, each of which has made each transition once, in the right order."""
    whole = len(_TRANSITIONS) - 1
    for first in range(0, len(made), whole):
        steps = made[first : first + whole]
        assert [step[:2] for step in steps] == list(pairwise(_TRANSITIONS))
        yield _Rotated(steps[0][2], steps[1][2], steps[-1][2])


@cache
def _clock_times(zone: str, days: tuple[date, ...], minute: int) -> tuple[int, ...]:
    """Return when a clock shows a time first on each of some days, or has passed it over."""
    return tuple(_shows(zone, day, minute) for day in days)


@cache
def _openings(zone: str, days: tuple[date, ...], window: Window) -> tuple[tuple[int, int], ...]:
    """Return when a window opens and closes; one that is passed over as a whole is as long as any."""
    found = []
    for day in days:
        opens, closes = (_shows(zone, day, window.opens + minutes) for minutes in (0, window.minutes))
        found.append((opens, closes if closes > opens else opens + window.minutes * 60 * NS))
    return tuple(found)


@cache
def _shows(zone: str, day: date, minute: int) -> int:
    """Return the first minute in which a clock shows a time of a day, or a later one."""
    wanted = datetime(day.year, day.month, day.day) + minute * _MINUTE  # noqa: DTZ001 - what a clock on a wall shows
    # No clock is further from UTC, nor set by more than an hour.
    moment = wanted.replace(tzinfo=UTC) - timedelta(hours=16)
    for step in (timedelta(hours=1), timedelta(minutes=1)):
        while (moment + step).astimezone(ZoneInfo(zone)).replace(tzinfo=None) < wanted:
            moment += step
    return to_ns(moment + _MINUTE)


def _path(number: int) -> str:
    return f"soak/{number:04}"


def _number(path: str) -> int:
    return int(path.rpartition("/")[2])
