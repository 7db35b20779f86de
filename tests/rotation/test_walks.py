"""Random walks: processes that die, people, moods of the target, and clocks that disagree; and a year by interval.

At each moment one stored version is accepted, and from each moment the rotation can be brought to its end.
"""

from __future__ import annotations

import contextlib
import os
import random
from typing import TYPE_CHECKING

import pytest

from securecfg.errors import Conflict, RotationBusy, RotationFailed
from securecfg.rotation import Strategy
from securecfg.rotation.document import NS, Rules
from securecfg.rotation.lease import Leases
from securecfg.rotation.machine import State
from securecfg.rotation.rotations import Rotations
from securecfg.rotation.runner import Runner
from securecfg.testing.account import Account, Mood
from securecfg.testing.rotation_kill_matrix import Died, MortalProcess, Point, SimulatedTime
from securecfg.vault.verification import verify_vault
from tests.rotation.conftest import FIRST, PATH

if TYPE_CHECKING:
    from securecfg.rotation.document import Stored
    from tests.rotation.conftest import RotationWorld

IS_EXHAUSTIVE = "SECURECFG_EXHAUSTIVE" in os.environ
WALKS, STEPS = (100, 60) if IS_EXHAUSTIVE else (8, 40)
MOODS = [Mood.WELL, Mood.WELL, Mood.WELL, *(mood for mood in Mood if mood is not Mood.HALF_APPLIED)]
SKEW_S = 40


class _Skewed(SimulatedTime):
    """The clocks of one machine, which agree with those of no other one."""

    def __init__(self, true: SimulatedTime, skew_s: float) -> None:
        super().__init__()
        self._true, self._skew_s = true, skew_s

    def now_ns(self) -> int:
        return self._true.now_ns() + int(self._skew_s * NS)

    def elapsed_s(self) -> float:
        return self._true.elapsed + 1e6 * self._skew_s


class _Walk:
    def __init__(self, world: RotationWorld, seed: int, strategy: Strategy) -> None:
        self.draw = random.Random(seed)
        self.world, self.time = world, SimulatedTime()
        self.account = Account(FIRST, strategy)
        self.times = [_Skewed(self.time, skew) for skew in (0.0, self.draw.uniform(-SKEW_S, SKEW_S))]
        self.vaults = [world.open(clock=time) for time in self.times]
        self.people = Rotations(self.vaults[0], find=self.account.rotator)
        self.people.set(PATH, Rules("account", grace_s=120, is_hard_cut=True))
        self.names = 0
        self.processes = [self._process(0), self._process(1)]
        self.stale: Stored | None = None
        self.written = 0

    def _process(self, machine: int, *, is_mortal: bool = True) -> MortalProcess:
        self.names += 1
        number = self.draw.randrange(1, 12)
        point = Point(self.draw.choice(["call", "commit"]), number, self.draw.random() < 1 / 2)
        vault, time = self.vaults[machine], self.times[machine]
        return MortalProcess(vault, self.account.rotator, time, f"process-{self.names}", point if is_mortal else None)

    # --- what may happen ---------------------------------------------------------------------------------------------

    def advance(self, stored: Stored | None = None) -> None:
        machine = self.draw.randrange(2)
        process = self.processes[machine]
        try:
            self.stale = process.runner.advance(stored or process.runner.steps.find(PATH), "asked")
        except RotationBusy:
            pass
        except Died:
            self.processes[machine] = self._process(machine)

    def advance_again(self) -> None:
        """Go on from what was seen some time ago."""
        self.advance(self.stale)

    def wait(self) -> None:
        self.time.wait(self.draw.choice([0.5, 6, 31, 70, 130, 4_000]))

    def change_mood(self) -> None:
        self.account.mood = self.draw.choice(MOODS)

    def write(self) -> None:
        self.written += 1
        password = f"written-by-hand-{self.written:04}"
        if self.draw.random() < 3 / 4:
            is_single = self.account.strategy is Strategy.SINGLE_SLOT
            self.vaults[0].write(PATH, {"username": "shop", "password": password})
            self.account.set_accepted(password, *(() if is_single else self.account.accepted))
        else:
            self.vaults[0].write(PATH, {"username": "shop", "password": password})

    def act(self) -> None:
        act = self.draw.choice([self.people.pause, self.people.resume, self.people.retry, self.people.cancel])
        with contextlib.suppress(Conflict, RotationFailed):
            act(PATH)

    # --- what holds --------------------------------------------------------------------------------------------------

    def verify(self) -> None:
        vault = self.vaults[0]
        live = [info for info in vault.history(PATH) if info.state.value == "live"]
        values = {vault.read(PATH, at=info.version).field("password").reveal() for info in live}
        assert values & self.account.accepted, "no stored version is accepted"
        labels = [label for info in live for label in info.labels]
        assert len(labels) == len(set(labels))
        assert "current" in labels
        progress = self.people.find(PATH).progress
        if progress is None or progress.is_over:
            assert "pending" not in labels
        elif progress.state in {State.PENDING, State.SET, State.TESTED}:
            assert next(info for info in live if "pending" in info.labels).version == progress.version

    def step(self) -> None:
        what = [self.advance] * 6 + [self.advance_again, self.wait, self.wait, self.wait, self.change_mood]
        self.draw.choice([*what, self.write, self.act])()
        self.verify()

    def end(self) -> None:
        """Bring it to its end, as people would, and rotate once more."""
        self.account.mood = Mood.WELL
        self.people.resume(PATH)
        process = self._process(0, is_mortal=False)
        for _ in range(2):
            for _ in range(40):
                stored = process.runner.steps.find(PATH)
                progress = stored.rotation.progress
                if progress is not None and progress.state is State.FAILED:
                    current = str(self.vaults[0].read(PATH).field("password").reveal())
                    self.account.set_accepted(current, *self.account.accepted)
                    self.people.retry(PATH)
                    continue
                with contextlib.suppress(RotationBusy):
                    stored = process.runner.advance(stored, "asked")
                progress = stored.rotation.progress
                self.verify()
                if progress is not None and progress.is_over:
                    break
                self.time.wait(200)
            assert progress is not None
            assert progress.is_over
        assert progress is not None
        assert progress.state is State.RETIRED
        assert self.account.accepts(str(self.vaults[0].read(PATH).field("password").reveal()))
        self.vaults[0].log.verify()
        checked = verify_vault(self.vaults[0].opened)
        assert not checked.problems
        assert not checked.orphan_rows
        for vault in self.vaults:
            vault.close()


@pytest.mark.parametrize("strategy", [Strategy.OVERLAPPING, Strategy.SINGLE_SLOT])
@pytest.mark.parametrize("seed", range(WALKS))
def test_one_stored_version_is_accepted_whatever_happens_and_every_rotation_can_be_ended(
    world: RotationWorld, seed: int, strategy: Strategy
) -> None:
    walk = _Walk(world, seed, strategy)
    for _ in range(STEPS):
        walk.step()
    walk.end()


# --- a year ----------------------------------------------------------------------------------------------------------

SECRETS, DAYS, DAY_S = (60, 365, 86_400) if IS_EXHAUSTIVE else (8, 365, 86_400)


def test_in_a_year_nothing_is_rotated_twice_and_nothing_is_missed(world: RotationWorld) -> None:
    draw = random.Random(4_711)
    time = SimulatedTime()
    vaults = [world.open(clock=time), world.open(clock=time)]
    paths = [f"app/random-{number}" for number in range(SECRETS)]
    rotations = Rotations(vaults[0])
    interval_days = {path: draw.randrange(30, 91) for path in paths}
    for path in paths:
        vaults[0].write(path, "the-first-value-4711")
        rotations.set(path, Rules("random", grace_s=DAY_S // 2))
    runners = [
        Runner(vault, leases=Leases(f"daemon-{number}", time.elapsed_s), jitter=lambda: 0.5)
        for number, vault in enumerate(vaults)
    ]
    due = {path: time.ns + interval_days[path] * DAY_S * NS for path in paths}
    expected = dict.fromkeys(paths, 0)
    for _ in range(DAYS):
        time.wait(DAY_S)
        for path in paths:
            seen = runners[0].steps.find(path)
            if due[path] > time.ns and not seen.rotation.is_running:
                continue
            why = "due" if due[path] <= time.ns else ""
            if why:
                due[path] = time.ns + interval_days[path] * DAY_S * NS
                expected[path] += 1
            # Two daemons have seen the same, and both want to do it.
            for runner in draw.sample(runners, 2):
                _advance(runner, seen, why)
    for path in paths:
        rotation = rotations.find(path)
        running = rotation.is_running
        assert rotation.rotations + running == expected[path] == DAYS // interval_days[path]
        assert len(vaults[1].history(path)) == 1 + expected[path]
    vaults[1].log.verify()
    assert not verify_vault(vaults[1].opened).problems


def _advance(runner: Runner, seen: Stored, why: str) -> None:
    with contextlib.suppress(RotationBusy):
        runner.advance(seen, why)
