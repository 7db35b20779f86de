# ruff: noqa: D102, S101 - a suite of tests: names are sentences, asserts are the point
"""What must hold wherever a rotation is cut off; subclass `RotationKillMatrix` beside `RotatorConformance`.

The process that rotates dies before or after a call of the rotator or a commit, while the target is well or not, and
the target may then be found to hold the old value, the new one or neither. Another process goes on. At each of these
moments one stored version is accepted, and in the end the rotation is over without a person having done anything.
Time is simulated: nothing sleeps. Normally a sample is tried, the same in each run; all with `SECURECFG_EXHAUSTIVE`.
"""

from __future__ import annotations

import os
import random
from contextlib import suppress
from enum import StrEnum
from functools import cached_property
from itertools import product
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import pytest

from securecfg.errors import CandidateRejected, CredentialRefused, RotationBusy, RotationFailed, TargetUnavailable
from securecfg.keys.keyfile import generate_key_file
from securecfg.rotation import Strategy
from securecfg.rotation.document import NS, Rules
from securecfg.rotation.lease import Leases
from securecfg.rotation.machine import BEFORE_SWAP, State
from securecfg.rotation.rotations import Rotations
from securecfg.rotation.runner import Runner
from securecfg.rotation.steps import Steps
from securecfg.secret import Secret
from securecfg.testing.rotator_conformance import plain
from securecfg.vault.vault import Vault
from securecfg.vault.verification import verify_vault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from securecfg.rotation import Candidate, Fields, Options, Rotator, Run
    from securecfg.rotation.document import Rotation, Stored
    from securecfg.rotation.steps import After, Effect
    from securecfg.testing.rotator_conformance import RotationTarget
    from securecfg.vault.values import VersionId

T = TypeVar("T")

PATH = "kill/matrix"
GRACE_S = 600
IS_EXHAUSTIVE = "SECURECFG_EXHAUSTIVE" in os.environ
_ADMIN = "user:matrix"
_ROUNDS_MAX = 200
_REFUSALS = 3
_SEED = 4_711
_TIME_LIMIT_S = 3_600 if IS_EXHAUSTIVE else 120
"""All cases of one trouble take minutes, and longer on a machine that has other work."""


class Died(BaseException):
    """The process is gone, in the middle of what it did."""


class Trouble(StrEnum):
    """What the target does to whoever rotates, until the process dies, and after that too.

    Attributes:
        NONE: What it should.
        NOT_REACHED: Half of the calls do not reach it, the first one among them.
        LOST_ANSWER: Half of the calls do their work, and the answer is lost.
        SLOW: What was applied is refused three times at first.
        REJECTING: It will have none of the first two candidates.
        HALF_APPLIED: Where it can be made to: it forgets the old value, fails, and has not learnt the new one.
    """

    NONE = "none"
    NOT_REACHED = "not-reached"
    LOST_ANSWER = "lost-answer"
    SLOW = "slow"
    REJECTING = "rejecting"
    HALF_APPLIED = "half-applied"


class Held(StrEnum):
    """What the target is found to accept after a death."""

    AS_IT_WAS = "as-it-was"
    OLD = "old"
    NEW = "new"
    NEITHER = "neither"


class Point(NamedTuple):
    """Where a process dies.

    Attributes:
        kind: At a `call` of the rotator, or at a `commit` of the runner.
        number: Which one since the rotation began, from 1.
        is_after: Whether it takes effect before.
    """

    kind: str
    number: int
    is_after: bool


class Case(NamedTuple):
    """One way in which a rotation is cut off, and what is found then.

    Attributes:
        trouble: Of the target.
        point: Where the process dies that began.
        held: What the target is found to accept then.
        is_cancelled: Whether a person takes the rotation back then, where that is possible.
        again: Where the process dies that goes on, for a third one to end it.
    """

    trouble: Trouble
    point: Point
    held: Held = Held.AS_IT_WAS
    is_cancelled: bool = False
    again: Point | None = None


class KillFigures(NamedTuple):
    """What was tried.

    Attributes:
        cases: How many cases there are.
        tried: How many of them were tried.
        deaths: In how many of those a process died.
        cancelled: In how many the rotation was taken back after that.
    """

    cases: int
    tried: int
    deaths: int
    cancelled: int


class SimulatedTime:
    """All clocks of all processes, which only move when they are told to, but for a microsecond at each look."""

    def __init__(self, ns: int = 1_800_000_000 * NS) -> None:
        """Begin at some time."""
        self.ns = ns
        self.elapsed = 0.0

    def now_ns(self) -> int:
        """Return the time of day."""
        self.ns += 1_000
        return self.ns

    def elapsed_s(self) -> float:
        """Return the time of the clock that nobody sets."""
        return self.elapsed

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.ns += int(seconds * NS)
        self.elapsed += seconds


class MortalProcess:
    """A process that works at rotations until it dies.

    Args:
        vault: The vault, which it shares with others that think they were alone.
        find: Returns the rotator.
        time: The clocks.
        name: What it is called as a holder; no two are called the same.
        dies_at: Where it dies; None for never.

    Attributes:
        runner: What works; a dead one calls nothing and stores nothing any more.
        points: How many calls and commits there were.
        is_dead: Whether it has died.
    """

    def __init__(
        self,
        vault: Vault,
        find: Callable[[str, Options], Rotator],
        time: SimulatedTime,
        name: str,
        dies_at: Point | None = None,
    ) -> None:
        """Begin to live."""
        self.points = {"call": 0, "commit": 0}
        self.is_dead = False
        self._dies_at = dies_at
        leases = Leases(name, time.elapsed_s)
        self.runner = Runner(
            vault, leases=leases, jitter=lambda: 0.5, find=lambda *given: _MortalRotator(self, find(*given))
        )
        self.runner.steps = _MortalSteps(vault.authority, self)

    def do(self, kind: str, perform: Callable[[], T]) -> T:
        """Do something at which the process may die.

        Raises:
            Died: It has died, now or before.
        """
        self.points[kind] += 1
        at = Point(kind, self.points[kind], is_after=False)
        self._die_if(self.is_dead or at == self._dies_at)
        try:
            return perform()
        finally:
            # Also where it has failed: who has heard that may die before he says so.
            self._die_if(at._replace(is_after=True) == self._dies_at)

    def _die_if(self, is_so: bool) -> None:  # noqa: FBT001 - the condition, as an assertion has it
        if is_so:
            self.is_dead = True
            raise Died


class _MortalSteps(Steps):
    def __init__(self, authority: object, process: MortalProcess) -> None:
        super().__init__(authority)  # type: ignore[arg-type]  # the vault's
        self._process = process

    def change(self, stored: Stored, after: After, obj: Mapping[str, object], effect: Effect | None = None) -> Stored:
        change = super().change
        return self._process.do("commit", lambda: change(stored, after, obj, effect))


class _MortalRotator:
    def __init__(self, process: MortalProcess, rotator: Rotator) -> None:
        self._do, self._rotator = process.do, rotator
        self.strategy, self.target, self.identity = rotator.strategy, rotator.target, rotator.identity

    def propose(self, run: Run, /) -> Candidate:
        return self._do("call", lambda: self._rotator.propose(run))

    def apply(self, run: Run, /) -> None:
        self._do("call", lambda: self._rotator.apply(run))

    def verify(self, value: Fields, run: Run, /) -> None:
        self._do("call", lambda: self._rotator.verify(value, run))

    def retire(self, run: Run, /) -> None:
        self._do("call", lambda: self._rotator.retire(run))


class _Troubled:
    """A rotator whose target is in trouble, whichever process asks."""

    def __init__(self, rotator: Rotator, matrix: _Matrix) -> None:
        self._trouble, self._rotator, self._target = matrix.trouble, rotator, matrix.target
        self._count, self._before = matrix.count, matrix.before
        self.strategy, self.target, self.identity = rotator.strategy, rotator.target, rotator.identity

    def propose(self, run: Run, /) -> Candidate:
        return self._flap(lambda: self._rotator.propose(run))

    def apply(self, run: Run, /) -> None:
        is_candidate = run.pending is not None and _key(run.pending) != self._before
        if self._trouble is Trouble.REJECTING and is_candidate and not self._is_known(run.pending):
            self._count["rejected"] = self._count.get("rejected", 0) + 1
            if self._count["rejected"] <= 2 * 2:
                message = "the target will not have this value"
                raise CandidateRejected(message)
        if self._trouble is Trouble.HALF_APPLIED and not self._count.get("half"):
            self._count["half"] = 1
            if self.strategy is Strategy.SINGLE_SLOT:
                _hold(self._target)
            raise _unavailable()
        self._flap(lambda: self._rotator.apply(run))

    def verify(self, value: Fields, run: Run, /) -> None:
        known = _key(value)
        if self._trouble is Trouble.SLOW and run.pending == value and self._count.get(known, 0) < _REFUSALS:
            self._count[known] = self._count.get(known, 0) + 1
            message = "the target does not know it yet"
            raise CredentialRefused(message)
        self._flap(lambda: self._rotator.verify(value, run))

    def retire(self, run: Run, /) -> None:
        self._flap(lambda: self._rotator.retire(run))

    def _flap(self, perform: Callable[[], T]) -> T:
        number = self._count["calls"] = self._count.get("calls", 0) + 1
        # In no order that the calls of a step could fall in with.
        is_lost = random.Random(number).random() < 1 / 2  # noqa: S311 - a failure should be repeatable
        if is_lost and self._trouble is Trouble.NOT_REACHED:
            raise _unavailable()
        done = perform()
        if is_lost and self._trouble is Trouble.LOST_ANSWER:
            raise _unavailable()
        return done

    def _is_known(self, value: Fields | None) -> bool:
        return value is not None and self._target.accepts(value)


class _Matrix:
    """One vault with one rotated secret, whose rotations are cut off one after the other."""

    def __init__(
        self, folder: Path, target: RotationTarget, make: Callable[[Options], Rotator], time: SimulatedTime
    ) -> None:
        self.target, self.make, self.time = target, make, time
        generate_key_file(folder / "key")
        self.vault = Vault.create(folder / "matrix.vault", key=f"file:{folder / 'key'}", admin=_ADMIN, clock=self.time)
        value = plain(target.current)
        self.vault.write(PATH, value.get("", value))
        self.trouble, self.count, self.before = Trouble.NONE, dict[str, int](), _key(target.current)
        self.names = 0
        self.strategy = make(target.options).strategy
        self.rotations = Rotations(self.vault, find=self.find)
        self.rotations.set(PATH, Rules("matrix", grace_s=GRACE_S, is_hard_cut=True))

    def find(self, name: str, options: Options) -> Rotator:
        del name, options
        return _Troubled(self.make(self.target.options), self)

    def process(self, dies_at: Point | None = None) -> MortalProcess:
        self.names += 1
        return MortalProcess(self.vault, self.find, self.time, f"process-{self.names}", dies_at)

    def begin(self, trouble: Trouble) -> None:
        """Wish for a rotation in a trouble."""
        self.trouble, self.count, self.before = trouble, {}, _key(self.values()["current"])

    def lead_on(self, process: MortalProcess, why: str = "") -> Rotation:
        """Let a process lead the rotation on until it is over; time passes as it must."""
        stored = process.runner.steps.find(PATH)
        for _ in range(_ROUNDS_MAX):
            try:
                stored = process.runner.advance(stored, why)
            except RotationBusy:
                self.time.wait(process.runner.leases.free_in_s(stored) + 0.001)
                stored = process.runner.steps.find(PATH)
                continue
            why = ""
            progress = stored.rotation.progress
            assert progress is not None
            assert progress.state is not State.FAILED, f"a person is needed: {progress.reason}"
            if progress.is_over:
                return stored.rotation
            self.time.wait(max((progress.not_before_ns - self.time.ns) / NS, 0.001))
        message = f"the rotation is not over after {_ROUNDS_MAX} rounds: {stored.rotation.progress}"
        raise AssertionError(message)

    def values(self) -> dict[str, Fields]:
        """Return what readers can get, by its label."""
        found: dict[str, Fields] = {}
        for info in self.vault.history(PATH):
            for label in {"current", "previous", "pending"}.intersection(info.labels):
                value = self.vault.read(PATH, at=info.version, allow_expired=True).value
                found[label] = {"": value} if isinstance(value, Secret) else value
        return found

    def verify_labels(self, rotation: Rotation, numbers: set[VersionId]) -> None:
        """Check that the labels say what the state says, and that no version is lost."""
        history = {info.version: info for info in self.vault.history(PATH)}
        assert numbers <= history.keys(), "a version is lost"
        labels = {label: number for number, info in history.items() for label in info.labels}
        progress = rotation.progress
        if progress is None or progress.is_over:
            assert "pending" not in labels
            assert "previous" not in labels
            return
        state = progress.failed_in or progress.state
        if state in BEFORE_SWAP - {State.BEGUN}:
            assert labels["pending"] == progress.version
            assert labels["current"] != progress.version
        elif state in {State.CURRENT, State.PREVIOUS}:
            assert labels == {"current": progress.version, "previous": progress.former}

    def verify_accepted(self) -> None:
        """Check that one stored version at least is accepted, and with several slots the one that readers get."""
        values = self.values()
        assert any(map(self.target.accepts, values.values())), "no stored version is accepted"
        if self.strategy is not Strategy.SINGLE_SLOT:
            assert self.target.accepts(values["current"]), "what readers get is not accepted"

    def hold(self, held: Held, rotation: Rotation) -> None:
        """Let the target accept something else, where it can; no candidate that it has rejected is a new value."""
        values = self.values()
        if rotation.progress is not None and not rotation.progress.version:
            values.pop("pending", None)
        old, new = values.get("previous", values["current"]), values.get("pending", values["current"])
        wanted = {Held.OLD: (old,), Held.NEW: (new,), Held.NEITHER: ()}
        if held is not Held.AS_IT_WAS:
            _hold(self.target, *wanted[held])

    def run(self, case: Case) -> tuple[bool, bool]:
        """Try one case; return whether a process died, and whether the rotation was taken back."""
        numbers = {info.version for info in self.vault.history(PATH)}
        self.begin(case.trouble)
        mortal = self.process(case.point)
        try:
            self.lead_on(mortal, "asked")
        except Died:
            pass
        else:
            assert not mortal.is_dead
            return False, False
        is_half = case.trouble is Trouble.HALF_APPLIED and self.strategy is Strategy.SINGLE_SLOT
        if not is_half:
            self.verify_accepted()
        rotation = self.rotations.find(PATH)
        self.verify_labels(rotation, numbers)
        if not rotation.is_running:
            # It died before the first commit, or after the last one.
            self.verify_end(rotation, numbers)
            return True, False
        self.hold(case.held, rotation)
        is_cancelled = case.is_cancelled and self._cancel()
        if case.again is not None:
            with suppress(Died):
                self.lead_on(self.process(case.again), "asked")
            rotation = self.rotations.find(PATH)
            self.verify_labels(rotation, numbers)
            if not is_half and case.held is Held.AS_IT_WAS:
                self.verify_accepted()
        after = self.lead_on(self.process()) if rotation.is_running else rotation
        assert after.progress is not None
        assert after.progress.state is (State.CANCELLED if is_cancelled else State.RETIRED)
        if is_cancelled and not after.progress.version and case.held is not Held.AS_IT_WAS:
            _hold(self.target, self.values()["current"])  # nobody has told the target anything
        self.verify_end(after, numbers)
        return True, is_cancelled

    def verify_end(self, rotation: Rotation, numbers: set[VersionId]) -> None:
        """Check that nothing is left of a rotation that is over but one version that is accepted."""
        self.verify_labels(rotation, numbers)
        values = self.values()
        assert values.keys() == {"current"}
        assert self.target.accepts(values["current"]), "what readers get is not accepted in the end"

    def _cancel(self) -> bool:
        try:
            self.rotations.cancel(PATH)
        except RotationFailed:
            return False
        return True

    def verify_vault(self) -> None:
        """Check the vault as a whole: the log, every version, every row."""
        self.vault.log.verify()
        checked = verify_vault(self.vault.opened)
        assert not checked.problems
        assert not checked.orphan_rows


class RotationKillMatrix:
    """What holds wherever a rotation is cut off.

    A target MAY have a method `hold(*values)` that makes it accept just these, of the login that it is for; then what
    is found after a death is varied too.

    Attributes:
        sample: How many cases with each trouble are tried in a normal run.
        most: How many at most where all are tried; of more that many are drawn.
        has_administrator: Whether the rotator has a login of its own, with which it can set what the target accepts
            where that accepts nothing that is stored.
    """

    sample = 3
    most = 10_000
    has_administrator = True

    @cached_property
    def time(self) -> SimulatedTime:
        """The clocks of all processes, for a rotator that needs to know what time it is."""
        return SimulatedTime()

    def make(self, options: Options) -> Rotator:
        """Return a rotator: what its factory returns."""
        raise NotImplementedError

    @pytest.fixture
    def target(self) -> RotationTarget:
        raise NotImplementedError

    @pytest.mark.timeout(_TIME_LIMIT_S)
    @pytest.mark.parametrize("trouble", Trouble)
    def test_one_stored_version_is_accepted_wherever_a_process_dies(
        self, trouble: Trouble, target: RotationTarget, tmp_path: Path
    ) -> None:
        if trouble is Trouble.HALF_APPLIED and not self._can_hold_nothing(target):
            pytest.skip("not applicable: the target cannot be made to accept nothing")
        figures = self.explore(trouble, target, tmp_path)
        print(figures)  # noqa: T201 - shown by `pytest -rP`
        assert figures.deaths >= figures.tried // 2, f"hardly any process died: {figures}"

    def explore(self, trouble: Trouble, target: RotationTarget, folder: Path) -> KillFigures:
        """Try the cases with one trouble, in an empty folder.

        Raises:
            AssertionError: Something does not hold; a note says in which case.
        """
        matrix = _Matrix(folder, target, self.make, self.time)
        draw = random.Random(_SEED)  # noqa: S311 - a failure should be repeatable
        cases = self._cases(matrix, trouble, draw)
        matrix.verify_accepted()
        sample = draw.sample(cases, min(self.most if IS_EXHAUSTIVE else self.sample, len(cases)))
        deaths = cancelled = 0
        for case in sample:
            try:
                has_died, is_cancelled = matrix.run(case)
            except Exception as error:
                error.add_note(f"the case is {case}")
                raise
            deaths, cancelled = deaths + has_died, cancelled + is_cancelled
        matrix.verify_vault()
        matrix.vault.close()
        return KillFigures(len(cases), len(sample), deaths, cancelled)

    def _cases(self, matrix: _Matrix, trouble: Trouble, draw: random.Random) -> list[Case]:
        held = list(Held) if hasattr(matrix.target, "hold") else [Held.AS_IT_WAS]
        if not self.has_administrator and Held.NEITHER in held:
            held.remove(Held.NEITHER)
        matrix.begin(trouble)
        process = matrix.process()
        matrix.lead_on(process, "asked")
        points = [
            Point(kind, number, is_after)
            for kind, count in process.points.items()
            for number in range(1, count + 1)
            for is_after in (False, True)
        ]
        cases = [Case(trouble, *given) for given in product(points, held, (False, True))]
        again = [case._replace(again=draw.choice(points)) for case in draw.sample(cases, len(cases) // 4)]
        return cases + again

    def _can_hold_nothing(self, target: RotationTarget) -> bool:
        return hasattr(target, "hold") and self.has_administrator


def _hold(target: RotationTarget, *values: Fields) -> None:
    hold: Callable[..., None] | None = getattr(target, "hold", None)
    if hold is not None:
        hold(*values)


def _key(value: Fields) -> str:
    return repr(sorted(plain(value).items()))


def _unavailable() -> TargetUnavailable:
    return TargetUnavailable("the target does not answer")
