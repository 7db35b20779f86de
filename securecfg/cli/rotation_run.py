"""`securecfg rotation run`: secrets that are rotated now, and what is waited for until the command ends."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from securecfg.cli.arguments import Duration
from securecfg.cli.groups import Verb
from securecfg.cli.invocation import Invocation, common_flags
from securecfg.errors import Conflict, RotationBusy, RotationFailed, RotationWaits, SecurecfgError, UsageError
from securecfg.words import counted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from securecfg.rotation.document import Rotation
    from securecfg.rotation.machine import Progress
    from securecfg.rotation.rotations import Rotations
    from securecfg.rotation.runner import Runner
    from securecfg.vault import Vault

_NS = 1_000_000_000
_BUSY_S = 1.0
"""How long until it is looked again whether another process has done it."""
_TICK_S = 0.25
_NEVER_S = float("inf")

# What is worse comes first where several rotations end in several ways.
_GRAVITY = (8, 7, 6, 5, 4, 3, 2, 10, 9)


class Outcome(NamedTuple):
    """What became of one rotation.

    Attributes:
        path: Of which secret.
        word: `rotated`, `retired`, `taken-back`, `waits`, `failed` or `refused`.
        rotation: How it is now; None where that is not known.
        error: Why it is not done; None where it is.
        resume_s: In how many seconds it can go on, where that is worth waiting for; None where it is not.
    """

    path: str
    word: str
    rotation: Rotation | None = None
    error: SecurecfgError | None = None
    resume_s: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what programs read."""
        from securecfg.cli.output import error_to_json
        from securecfg.cli.rotation_words import describe

        return {
            "path": self.path,
            "outcome": self.word,
            "rotation": None if self.rotation is None else describe(self.rotation),
            "error": None if self.error is None else error_to_json(self.error),
        }

    def line(self) -> str:
        """Return what people read where it is done."""
        progress = self.rotation.progress if self.rotation is not None else None
        if self.rotation is None or progress is None:
            return f"{self.word}  {self.path}"
        is_paused = self.rotation.is_paused
        if self.word == "retired":
            return f"ended     the old value of {self.path}"
        if self.word == "taken-back":
            told = f"taken back  {self.path}   readers get the old value, as before"
            return f"{told}; paused, as it is due: `securecfg rotation resume {self.path}`" if is_paused else told
        return f"{self.word}  {self.path}@{progress.version}{_told_former(self.rotation, progress)}"


@click.command(
    cls=Verb,
    examples=(
        "securecfg rotation run db/shop",
        "securecfg rotation run db/shop --dry-run",
        "securecfg rotation run --due --wait 0s      # from cron: what is due, and what is under way",
        "securecfg rotation run --exposed            # what `audit exposed` lists",
        "securecfg rotation run --all --yes",
    ),
)
@click.argument("path", required=False)
@click.option("--due", is_flag=True, help="What is due, and what is under way.")
@click.option("--exposed", is_flag=True, help="What somebody may know: in git history, or by a key that was removed.")
@click.option("--all", "is_all", is_flag=True, help="Everything that you may rotate; asks first.")
@click.option(
    "--wait",
    type=Duration(),
    default="2m",
    metavar="DURATION",
    help="How long to wait for what can go on soon: 2m; 0s for not at all.",
)
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@common_flags
def run(
    invocation: Invocation, *, path: str | None, due: bool, exposed: bool, is_all: bool, wait: timedelta, dry_run: bool
) -> int:
    """Rotate a secret now, and return as soon as readers get the new value.

    What was current stays readable as `previous` until its consumers have the new one or the grace is over; then the
    next run, or the daemon, makes the target refuse it. A rotation that is under way is led on.

    A target that gives no answer is asked again, for as long as --wait says. What is left undone after that ends with
    exit code 9 and is not lost: whoever runs it next goes on. One that has failed ends with 6 and needs a person.
    """
    if sum((path is not None, due, exposed, is_all)) != 1:
        message = "what is to be rotated is a path, or one of `--due`, `--exposed` and `--all`"
        raise UsageError(message, hint="`securecfg rotation status` lists what is rotated")
    with invocation.open() as vault:
        leader = Leader(vault, invocation)
        without: list[str] = []
        if path is not None:
            leader.rotations.verify_may_rotate(path)
            wanted = {path: "asked"}
        elif exposed:
            wanted, without = leader.find_exposed()
        else:
            wanted = leader.find_due() if due else leader.find_all()
        if dry_run:
            return _emit_planned(invocation, leader, wanted, without)
        if is_all and wanted:
            invocation.confirm(f"Rotate {counted(len(wanted), 'secret')} now?")
        outcomes = leader.lead(wanted, wait.total_seconds())
        if exposed:
            leader.close_marks()
    return _emit_outcomes(invocation, outcomes, without, is_single=path is not None)


class _Task:
    """One rotation that is to be led on.

    Args:
        path: Of which secret.
        why: What it begins for; empty where it is only led on.
    """

    __slots__ = ("began_ns", "path", "why")

    def __init__(self, path: str, why: str) -> None:
        """Nothing is done yet."""
        self.path = path
        self.why = why
        self.began_ns = 0


class Leader:
    """Leads rotations on until readers get the new values, as far as that can be had in a time.

    Args:
        vault: The vault as it is open.
        invocation: Shows what is waited for.
    """

    def __init__(self, vault: Vault, invocation: Invocation) -> None:
        """Do nothing yet."""
        from securecfg.cli.rotation import open_rotations

        self._vault = vault
        self.rotations = open_rotations(vault)
        self._invocation = invocation
        self._runners: dict[Vault, Runner] = {}

    # --- what --------------------------------------------------------------------------------------------------------

    def find_all(self) -> dict[str, str]:
        """Return everything that the caller may rotate, but for what is paused, or in a scope that he does not write.

        Raises:
            AccessDenied: There is something, and he may rotate nothing of it.
        """
        return {each.path: "asked" for each in self._allowed() if not each.is_paused}

    def find_due(self) -> dict[str, str]:
        """Return what is due, has failed, or can be led on now.

        Raises:
            AccessDenied: As for `find_all`.
        """
        from securecfg.cli.rotation_words import is_failed
        from securecfg.rotation.runner import has_work

        wanted: dict[str, str] = {}
        now = self._now_ns()
        for each in self._allowed():
            if each.is_paused:
                continue
            if each.is_running:
                is_swapped = each.progress is not None and each.progress.swapped_ns
                if is_failed(each) or has_work(each, now) or not is_swapped:
                    wanted[each.path] = ""
            elif _may_begin(each, now):
                wanted[each.path] = "due"
        return wanted

    def find_exposed(self) -> tuple[dict[str, str], list[str]]:
        """Return what somebody may know who should not and has a rotation, and the paths of what has none.

        Raises:
            NotAuthenticated: Nobody says who asks.
            Tampered: A note of that, or a row, is damaged.
        """
        from securecfg.vault.bundles.exposures import find_known_from_bundles
        from securecfg.vault.imports.exposures import Exposures
        from securecfg.vault.keys.departures import find_exposed

        paths: set[str] = set()
        failures: dict[str, SecurecfgError] = {}
        for _, part in self._vault.parts(failures):
            authority = part.authority
            paths |= {mark.path for mark in Exposures(authority).unrotated()}
            paths |= {each.path for each in find_exposed(authority)}
            paths |= {each.path for each in find_known_from_bundles(authority)}
        for scope, failure in failures.items():
            self._invocation.note(f"error: what is exposed in `{scope}` cannot be read: {failure.message}")
        rotated = {each.path for each in self.rotations.all(failures={})}
        # What lies in a scope that this key does not lead is refused, and stays exposed: that is told.
        return dict.fromkeys(sorted(paths & rotated), "exposed"), sorted(paths - rotated)

    def close_marks(self) -> None:
        """Close the marks of git histories whose secrets have another value now; the others close by themselves."""
        from securecfg.vault.imports.exposures import Exposures

        for _, part in self._vault.parts({}):
            Exposures(part.authority).unrotated()

    def _allowed(self) -> list[Rotation]:
        found = all_of(self._invocation, self.rotations)
        allowed = [each for each in found if self.rotations.may_lead(each.path)]
        if found and not allowed:
            self.rotations.verify_may_rotate(found[0].path)
        return allowed

    # --- doing -------------------------------------------------------------------------------------------------------

    def lead(self, wanted: Mapping[str, str], wait_s: float) -> list[Outcome]:
        """Lead rotations on, one after the other, and again those that wait for what comes in time.

        Args:
            wanted: Which, and what for.
            wait_s: How long to wait, in all.
        """
        until = time.monotonic() + wait_s
        tasks = [_Task(path, why) for path, why in wanted.items()]
        outcomes: dict[str, Outcome] = {}
        at_s = dict.fromkeys(wanted, 0.0)
        with self._invocation.status() as show:
            while True:
                ready = [task for task in tasks if at_s[task.path] <= time.monotonic()]
                for number, task in enumerate(ready, 1):
                    show(f"rotating {task.path}" + (f" ({number} of {len(ready)})" if len(ready) > 1 else ""))
                    outcome = outcomes[task.path] = self._try(task)
                    at_s[task.path] = _NEVER_S if outcome.resume_s is None else time.monotonic() + outcome.resume_s
                path, soonest = min(at_s.items(), key=lambda item: item[1], default=("", _NEVER_S))
                if soonest > until:
                    break
                while (left_s := soonest - time.monotonic()) > 0:
                    show(f"{path} goes on in {left_s:.0f} s ({_told_wait(outcomes[path])})")
                    time.sleep(min(left_s, _TICK_S))
        return [outcomes[path] for path in wanted]

    def take_back(self, path: str) -> Outcome:
        """Do at once what a rotation that is cancelled is still to do."""
        return self._try(_Task(path, ""))

    def plan(self, path: str, why: str) -> tuple[Rotation, str]:
        """Return a rotation, and what a run would do with it, in words.

        Raises:
            AccessDenied: The caller may not rotate it.
            RotationNotFound: Nothing rotates the secret.
        """
        from securecfg.cli.rotation_words import is_failed, waiting_words
        from securecfg.rotation.runner import has_work

        self.rotations.verify_may_rotate(path)
        rotation = self.rotations.find(path)
        if rotation.is_paused:
            return rotation, "do nothing, as it is paused"
        if is_failed(rotation):
            return rotation, "do nothing, as it has failed"
        if not rotation.is_running:
            return rotation, "rotate" if why else "do nothing"
        if has_work(rotation, self._now_ns()):
            return rotation, "go on"
        return rotation, f"wait for {waiting_words(rotation)}"

    def _try(self, task: _Task) -> Outcome:
        try:
            self.rotations.verify_may_rotate(task.path)
            return self._go(task)
        except RotationBusy as error:
            return Outcome(task.path, "waits", None, error, _BUSY_S)
        except SecurecfgError as error:
            return Outcome(task.path, "refused", None, error)

    def _go(self, task: _Task) -> Outcome:
        runner = self._runner_of(task.path)
        stored = runner.steps.find(task.path)
        rotation = stored.rotation
        if rotation.is_paused:
            raise _paused(task.path)
        begins = bool(task.why) and not task.began_ns
        if begins and rotation.is_running and not _is_former(rotation):
            task.began_ns, begins = _progress_of(rotation).began_ns, False
        after = runner.advance(stored, task.why if begins else "").rotation
        if begins and rotation.is_running and not after.is_running:
            # That was the rest of the one before.
            after = runner.advance(runner.steps.find(task.path), task.why).rotation
            rotation = after
        if begins and not (rotation.is_running and _is_former(after)):
            task.began_ns = _progress_of(after).began_ns
        return self._judge(task, after)

    def _judge(self, task: _Task, rotation: Rotation) -> Outcome:
        """Return what a rotation has come to."""
        from securecfg.cli.rotation_words import next_step, reason_of
        from securecfg.rotation.machine import State

        progress, path = _progress_of(rotation), task.path
        if progress.state is State.FAILED:
            message = f"the rotation of `{path}` has failed: {reason_of(progress).what} ({progress.reason})"
            return Outcome(path, "failed", rotation, RotationFailed(message, hint=next_step(rotation, progress)))
        if progress.state is State.CANCELLED:
            return Outcome(path, "taken-back", rotation, _paused(path) if task.why and rotation.is_paused else None)
        is_own = task.began_ns == progress.began_ns
        if progress.swapped_ns and is_own:
            return Outcome(path, "rotated", rotation)
        if progress.state is State.RETIRED:
            return Outcome(path, "retired", rotation)
        if progress.state is State.CURRENT and not task.why:
            return Outcome(path, "rotated", rotation)
        resume_s = max(0.0, (progress.not_before_ns - self._now_ns()) / _NS)
        return Outcome(path, "waits", rotation, _waits(rotation, progress), resume_s)

    def _runner_of(self, path: str) -> Runner:
        """Return what leads on in the part of the vault that a secret lies in."""
        from securecfg.rotation.parts import part_of
        from securecfg.rotation.runner import Runner

        part = part_of(self._vault, path)
        runner = self._runners.get(part)
        if runner is None:
            runner = self._runners[part] = Runner(part)
        return runner

    def _now_ns(self) -> int:
        return self.rotations.now_ns()


def all_of(invocation: Invocation, rotations: Rotations, prefix: str = "") -> list[Rotation]:
    """Return the rotations of all that opens, and tell of the sealed scopes that do not.

    Raises:
        NotAuthenticated, Tampered: As for `Rotations.all`.
    """
    failures: dict[str, SecurecfgError] = {}
    found = rotations.all(prefix, failures)
    for scope, failure in failures.items():
        invocation.note(f"error: what is rotated in `{scope}` cannot be read: {failure.message}")
    return found


def emit_outcome(invocation: Invocation, outcome: Outcome) -> int:
    """Print what became of one rotation; a failure is raised, or with `--json` a part of the object.

    Raises:
        SecurecfgError: It was left undone.
    """
    return _emit_outcomes(invocation, [outcome], [], is_single=True)


def _emit_outcomes(invocation: Invocation, outcomes: Sequence[Outcome], without: list[str], *, is_single: bool) -> int:
    from securecfg.cli.output import error_to_json, printable, write_json

    result: dict[str, Any] = {"results": [each.to_json() for each in outcomes]}
    if without:
        result["without_rotation"] = without
    failure = _summed_up(outcomes, is_single=is_single)
    if invocation.is_json:
        write_json(result if failure is None else result | {"error": error_to_json(failure)})
        return 0 if failure is None else failure.exit_code
    lines = []
    for each in outcomes:
        if each.error is None:
            lines.append(each.line())
        elif not is_single:
            lines.append(f"{each.word}  {each.path}: {each.error.message}")
            lines += [f"{'':>{len(each.word)}}  -> {each.error.hint}"] if each.error.hint else []
    lines += ["nothing is to be done"] if not outcomes else []
    invocation.emit(result, *(printable(line) for line in lines))
    for path in without:
        invocation.note(
            printable(f"note: `{path}` has no rotation; write a new value with `securecfg secret put {path}`")
        )
    if failure is not None:
        raise failure
    return 0


def _emit_planned(invocation: Invocation, leader: Leader, wanted: Mapping[str, str], without: list[str]) -> int:
    from securecfg.cli.output import printable
    from securecfg.cli.rotation_words import describe

    planned = [leader.plan(path, why) for path, why in wanted.items()]
    result: dict[str, Any] = {
        "planned": [{"path": each.path, "would": would, "rotation": describe(each)} for each, would in planned],
        "is_done": False,
    }
    if without:
        result["without_rotation"] = without
    lines = [f"would {would}  {each.path}   by {each.rules.rotator}" for each, would in planned]
    invocation.emit(result, *(printable(line) for line in lines or ["nothing is to be done"]))
    if not invocation.is_json:
        for path in without:
            invocation.note(printable(f"note: `{path}` has no rotation"))
    return 0


def _summed_up(outcomes: Sequence[Outcome], *, is_single: bool) -> SecurecfgError | None:
    """Return the error that a command ends with: of several the gravest, with how many they are."""
    errors = [each.error for each in outcomes if each.error is not None]
    if not errors:
        return None
    worst = min(errors, key=lambda error: _GRAVITY.index(error.exit_code))
    if is_single:
        return worst
    alike = sum(error.exit_code == worst.exit_code for error in errors)
    rest = f", {len(errors) - alike} more for another reason" if len(errors) > alike else ""
    message = f"{alike} of {counted(len(outcomes), 'rotation')} left undone{rest}: {worst.message}"
    return type(worst)(message, hint="`securecfg rotation status` says what each waits for, or needs")


def _waits(rotation: Rotation, progress: Progress) -> RotationWaits:
    from securecfg.cli.rotation_words import waiting_words
    from securecfg.rotation.machine import State

    path = rotation.path
    waits = waiting_words(rotation)
    if progress.swapped_ns:
        message = f"the rotation of `{path}` before this one is not over: it waits for {waits}"
        hint = f"then `securecfg rotation run {path}` ends its old value and begins the next"
    elif progress.state is State.CANCELLING:
        message = f"the rotation of `{path}` is not taken back yet, and readers get the old value: it waits for {waits}"
        hint = f"`securecfg rotation run {path}` goes on then"
    else:
        message = f"the rotation of `{path}` is left undone, and readers get the old value: it waits for {waits}"
        hint = f"`securecfg rotation run {path}` goes on then; `securecfg rotation cancel {path}` takes it back"
    return RotationWaits(message, hint=hint)


def _told_former(rotation: Rotation, progress: Progress) -> str:
    from securecfg.cli.output import shown_time
    from securecfg.cli.rotation_words import awaited
    from securecfg.clock import to_datetime
    from securecfg.rotation.machine import State

    if not progress.former or progress.state is not State.CURRENT:
        return ""
    consumers = awaited(rotation)
    told = f", or until {' and '.join(consumers)} {'has' if len(consumers) == 1 else 'have'} this one"
    until = shown_time(to_datetime(progress.not_before_ns))
    return f"   @{progress.former} stays as `previous` until {until}{told if consumers else ''}"


def _told_wait(outcome: Outcome) -> str:
    progress = outcome.rotation.progress if outcome.rotation is not None else None
    if progress is None:
        return "another process is at work on it"
    return progress.reason or "the grace"


def _may_begin(rotation: Rotation, now_ns: int) -> bool:
    """Return whether a rotation is due, and inside one of its windows where it has such.

    Raises:
        InvalidRotation: Its schedule is malformed, or its time zone not known here.
    """
    if not 0 < rotation.due_ns <= now_ns:
        return False
    if rotation.rules.schedule is None:
        return True
    from securecfg.clock import to_datetime
    from securecfg.rotation.schedule import Schedule, begin_at

    now = to_datetime(now_ns)
    return begin_at(Schedule.from_json(rotation.rules.schedule), due=to_datetime(rotation.due_ns), now=now) <= now


def _is_former(rotation: Rotation) -> bool:
    """Return whether what is under way is only the rest of a rotation: readers have its value, or never will."""
    from securecfg.cli.rotation_words import is_before_swap
    from securecfg.rotation.machine import State

    progress = _progress_of(rotation)
    state = progress.state if progress.failed_in is None else progress.failed_in
    return state is State.CANCELLING or not is_before_swap(progress)


def _progress_of(rotation: Rotation) -> Progress:
    assert rotation.progress is not None  # noqa: S101 - asked of rotations that have begun
    return rotation.progress


def _paused(path: str) -> Conflict:
    message = f"the rotation of `{path}` is paused"
    return Conflict(message, hint=f"`securecfg rotation resume {path}` lets it go on")
