"""`securecfg rotation`: which secrets are replaced by new ones, how, and when."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from securecfg.cli.arguments import Duration, parse_pairs
from securecfg.cli.groups import Noun
from securecfg.cli.invocation import Invocation, common_flags
from securecfg.cli.rotation_daemon import daemon
from securecfg.cli.rotation_plan import plan, simulate
from securecfg.cli.rotation_run import run
from securecfg.cli.rotation_status import history, status
from securecfg.errors import SecurecfgError, UsageError
from securecfg.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from securecfg.rotation.document import Rotation, Rules
    from securecfg.rotation.rotations import Rotations
    from securecfg.vault import Vault

_SECONDS = {"grace": "grace_s", "propagation": "propagation_s", "timeout": "timeout_s"}


@click.group(cls=Noun)
def rotation() -> None:
    """Replace secrets by new ones, so that at each moment one of them works."""


@rotation.command(
    "set",
    examples=(
        "securecfg rotation set web/session-key --rotator random --option length=48",
        "securecfg rotation set db/shop --rotator postgresql --option host=db.internal --hard-cut",
        "securecfg rotation set db/shop --option username=u --option admin=a --option 'admin-password=${secret:db/a}'",
        "securecfg rotation set db/shop --grace 15m --consumer svc:web --consumer svc:jobs    # the rest stays",
        "securecfg rotation set db/shop --every 30d --window 'Sat,Sun 02:00-05:00' --zone Europe/Berlin",
        "securecfg rotation check db/shop      # what it will be missing",
    ),
)
@click.argument("path")
@click.option("--rotator", metavar="NAME", help="Who does it; `rotation rotators` lists them. Sets all anew.")
@click.option("--every", metavar="DURATION", help="Rotate it at most so long after it was made, as in 30d.")
@click.option("--cron", metavar="EXPRESSION", help="Rotate it when a clock shows this, as in '0 3 * * 6'.")
@click.option("--ttl-fraction", metavar="PART", help="Rotate it when so much of its life is over, as in 0.8 or 80%.")
@click.option("--window", "windows", multiple=True, metavar="WINDOW", help="Only then: 'Sat,Sun 02:00-05:00'.")
@click.option("--zone", metavar="ZONE", help="The time zone of --cron and --window: UTC, or Europe/Berlin.")
@click.option("--jitter", metavar="PART", help="Over how much of the interval to spread it: 5% with --every.")
@click.option("--no-schedule", is_flag=True, help="Without --rotator: rotate it only when asked.")
@click.option(
    "--option", "options", multiple=True, metavar="NAME=TEXT", help="What the rotator is told; may be repeated."
)
@click.option("--no-options", is_flag=True, help="Without --rotator: tell it nothing any more, but what is given.")
@click.option("--grace", type=Duration(), metavar="DURATION", help="How long the old value works after it: 1h.")
@click.option("--propagation", type=Duration(), metavar="DURATION", help="How long the target may take to know: 60s.")
@click.option("--timeout", type=Duration(), metavar="DURATION", help="How long one call may take: 30s.")
@click.option(
    "--consumer", "consumers", multiple=True, metavar="PRINCIPAL", help="Who has to have the new value; ends the grace."
)
@click.option("--no-consumers", is_flag=True, help="Without --rotator: wait for nobody, only for the grace.")
@click.option("--hard-cut", is_flag=True, help="Acknowledge that the old value is refused at once.")
@common_flags
def set_(invocation: Invocation, /, *, path: str, **options: Any) -> None:  # noqa: ANN401 - what the options above declare
    """Say how a secret is rotated. That rotates nothing yet.

    With --rotator everything is set anew; without it a rotation that is there is changed, and what is not given stays.
    A schedule is replaced as a whole. Without one it is rotated only when asked.
    It takes the rights to read, write and rotate the secret, and to read what the options refer to.

    What is secret is never an argument: an option names a secret of the vault, as `${secret:db/admin#password}` in
    single quotes. It is read whenever the rotator is called.
    """
    from securecfg.cli.rotation_words import describe

    with invocation.open() as vault:
        rotations = open_rotations(vault)
        rotations.verify_may_rotate(path)
        made = rotations.set(path, _rules(rotations, path, options))
        now = rotations.now_ns()
    invocation.emit({"rotation": describe(made)}, f"set  {made.path}   {_told(made.rules)}, {_told_due(made, now)}")


@rotation.command(
    examples=(
        "securecfg rotation unset db/shop",
        "securecfg rotation unset db/shop --abandon   # its server is no more",
    )
)
@click.argument("path")
@click.option(
    "--abandon",
    is_flag=True,
    help="Also where `rotation cancel` cannot end, since the target is gone for good; whoever still accepts the new "
    "value is not told to refuse it.",
)
@common_flags
def unset(invocation: Invocation, *, path: str, abandon: bool) -> None:
    """Rotate a secret no more. The secret, and what its target accepts, stay as they are."""
    with invocation.open() as vault:
        open_rotations(vault).remove(path, is_abandoned=abandon)
    invocation.emit({"path": path}, f"unset  {path}   the secret stays as it is")


rotation.add_command(status)
rotation.add_command(history)
rotation.add_command(run)
rotation.add_command(daemon)
rotation.add_command(plan)
rotation.add_command(simulate)


@rotation.command(examples=("securecfg rotation pause db/shop",))
@click.argument("path")
@common_flags
def pause(invocation: Invocation, *, path: str) -> None:
    """Begin nothing, and go no step of what has begun, until `rotation resume`.

    Both values go on to work meanwhile as they do now.
    """
    with invocation.open() as vault:
        changed = open_rotations(vault).pause(path)
    _emit_changed(invocation, "paused", changed, f"`securecfg rotation resume {path}` lets it go on")


@rotation.command(examples=("securecfg rotation resume db/shop",))
@click.argument("path")
@common_flags
def resume(invocation: Invocation, *, path: str) -> None:
    """Go on after `rotation pause`, with the next run."""
    with invocation.open() as vault:
        changed = open_rotations(vault).resume(path)
    _emit_changed(invocation, "resumed", changed, _goes_on(changed))


@rotation.command(
    examples=("securecfg rotation retry db/shop", "securecfg rotation run db/shop      # goes on at once")
)
@click.argument("path")
@common_flags
def retry(invocation: Invocation, *, path: str) -> None:
    """Let a rotation go on that has failed, from where it was, once what it failed for is mended.

    The next run first finds out what the target accepts.
    """
    with invocation.open() as vault:
        changed = open_rotations(vault).retry(path)
    _emit_changed(invocation, "retried", changed, _goes_on(changed))


@rotation.command(examples=("securecfg rotation cancel db/shop",))
@click.argument("path")
@common_flags
def cancel(invocation: Invocation, *, path: str) -> int:
    """Take a rotation back whose new value nobody was given yet, at once.

    The target is made to accept the old value, and the new one no more. Where that cannot be done now it is done by the
    next run, and this ends with exit code 9. After the swap there is nothing to take back: run it again. What is due
    all the same is paused, or it would begin anew at once.
    """
    from securecfg.cli.rotation_run import Leader, emit_outcome

    with invocation.open() as vault:
        open_rotations(vault).cancel(path)
        outcome = Leader(vault, invocation).take_back(path)
    return emit_outcome(invocation, outcome)


@rotation.command(
    examples=("securecfg rotation check db/shop", "securecfg rotation check      # of all that you may rotate")
)
@click.argument("path", required=False)
@common_flags
def check(invocation: Invocation, *, path: str | None) -> int:
    """Ask the target what a rotation will be missing, and change nothing.

    What the rotator needs is read, and each read is in the log. Where something is missing this ends with exit code 6,
    where a target cannot be asked with the code of that.
    """
    with invocation.open() as vault:
        rotations = open_rotations(vault)
        if path is not None:
            rotations.verify_may_rotate(path)
            chosen = [rotations.find(path)]
        else:
            chosen = [each for each in rotations.all() if rotations.may_lead(each.path)]
        with invocation.progress("asking") as progress:
            checked = [_check(rotations, each, number, chosen, progress) for number, each in enumerate(chosen)]
    if path is not None and checked[0].error is not None:
        raise checked[0].error
    return _emit_checked(invocation, checked)


@rotation.command(examples=("securecfg rotation rotators", "securecfg rotation rotators --json"))
@common_flags
def rotators(invocation: Invocation) -> None:
    """List the rotators that can be named, of this package and of others, and what becomes of the old value with each.

    single-slot: it is refused at once. two-users: two logins take turns. overlapping: both work until the old one is
    ended. leased: as overlapping, and each ends by itself.
    """
    from securecfg.rotation.listing import all_rotators

    found = all_rotators()
    result = {
        "rotators": [
            {
                "name": each.name,
                "is_built_in": each.is_built_in,
                "strategy": None if each.strategy is None else str(each.strategy),
                "about": each.about,
                "failure": each.failure or None,
            }
            for each in found
        ]
    }
    rows = []
    for each in found:
        about = f"cannot be loaded: {each.failure}" if each.failure else each.about
        strategy = "" if each.failure else str(each.strategy or "by its options")
        rows.append((each.name, strategy, "securecfg" if each.is_built_in else "another package", about))
    invocation.emit_table(result, ("ROTATOR", "STRATEGY", "FROM", "FOR"), rows, shorten=("FOR", "FROM"))


def open_rotations(vault: Vault) -> Rotations:
    """Return the rotations of a vault, and of its sealed scopes that are open."""
    from securecfg.rotation.rotations import Rotations

    return Rotations(vault)


def _rules(rotations: Rotations, path: str, options: dict[str, Any]) -> Rules:
    """Return the rules that the options of the command say, on top of those that are there where they say no rotator.

    Raises:
        UsageError: The options do not go together, or one of the rotator is written wrongly.
        RotationNotFound: There is no rotation to change.
    """
    from securecfg.rotation.document import Rules

    told = parse_pairs(options["options"], "an option of a rotator", "--option length=48")
    if options["rotator"] is not None:
        if options["no_options"] or options["no_consumers"] or options["no_schedule"]:
            message = "`--rotator` sets everything anew"
            raise UsageError(message, hint="leave `--no-options`, `--no-consumers` and `--no-schedule` out")
        old = Rules(options["rotator"])
    else:
        old = rotations.find(path).rules
    given: dict[str, Any] = {}
    for name, field in _SECONDS.items():
        duration: timedelta | None = options[name]
        if duration is not None:
            given[field] = duration // timedelta(seconds=1)
    if options["consumers"] or options["no_consumers"]:
        given["consumers"] = tuple(dict.fromkeys(options["consumers"]))
    given |= _schedule(options)
    kept = {} if options["no_options"] else dict(old.options)
    return old._replace(options=kept | told, is_hard_cut=old.is_hard_cut or options["hard_cut"], **given)


def _schedule(options: dict[str, Any]) -> dict[str, Any]:
    """Return the schedule that is given, as a part of the rules; nothing where none is.

    Raises:
        UsageError: What goes with a schedule is given without one, or one is given and taken away.
        InvalidRotation: It makes no sense.
        ExtraMissing: A cron expression needs a library that is not installed.
    """
    named = {name: options[name] for name in ("every", "cron", "ttl_fraction") if options[name] is not None}
    others = any(options[name] for name in ("windows", "zone", "jitter"))
    if options["no_schedule"] and (named or others):
        message = "`--no-schedule` goes with no part of a schedule"
        raise UsageError(message, hint="a schedule that is given takes the place of the one before")
    if options["no_schedule"]:
        return {"schedule": None}
    if not named:
        if others:
            message = "a window, a time zone or a jitter is of a schedule, and none is given"
            raise UsageError(message, hint="give one of `--every`, `--cron` and `--ttl-fraction` with it")
        return {}
    from securecfg.rotation.schedule import parse_schedule

    zone = options["zone"] or "UTC"
    made = parse_schedule(**named, jitter=options["jitter"], windows=options["windows"], zone=zone)
    return {"schedule": made.to_json()}


def _told(rules: Rules) -> str:
    # What they refer to is shown, and nothing of what is read there.
    words = [rules.rotator, *(f"{name}={text}" for name, text in rules.options.items())]
    return " ".join(words)


def _told_due(made: Rotation, now_ns: int) -> str:
    from securecfg.cli.rotation_words import due_words, schedule_words

    due = f"{schedule_words(made.rules)}, due {due_words(made, now_ns)}" if made.due_ns else "when asked"
    return f"{due}; paused: `securecfg rotation resume {made.path}` lets it begin" if made.is_paused else due


def _emit_changed(invocation: Invocation, word: str, changed: Rotation, then: str) -> None:
    from securecfg.cli.rotation_words import describe

    invocation.emit({"rotation": describe(changed)}, f"{word}  {changed.path}   {then}")


def _goes_on(changed: Rotation) -> str:
    if not changed.is_running:
        return "nothing is under way"
    return f"`securecfg rotation run {changed.path}` goes on at once"


class _Checked(NamedTuple):
    """What asking for one rotation came to.

    Attributes:
        rotation: Which.
        missing: What it will be missing, in words.
        error: Why that is not known.
    """

    rotation: Rotation
    missing: Sequence[str]
    error: SecurecfgError | None = None

    @property
    def is_well(self) -> bool:
        return not self.missing and self.error is None

    def to_json(self) -> dict[str, Any]:
        from securecfg.cli.output import error_to_json

        return {
            "path": self.rotation.path,
            "rotator": self.rotation.rules.rotator,
            "is_well": self.is_well,
            "missing": list(self.missing),
            "error": None if self.error is None else error_to_json(self.error),
        }

    def lines(self) -> Iterator[str]:
        name = f"{self.rotation.path}   {self.rotation.rules.rotator}"
        if self.is_well:
            yield f"well     {name}"
        for each in self.missing:
            yield f"missing  {name}: {each}"
        if self.error is not None:
            yield f"unknown  {name}: {self.error.message} ({self.error.code})"
            if self.error.hint:
                yield f"         -> {self.error.hint}"


def _check(rotations: Rotations, one: Rotation, number: int, chosen: Sequence[Rotation], progress: Any) -> _Checked:  # noqa: ANN401 - of `Invocation.progress`
    progress(number, len(chosen))
    try:
        return _Checked(one, rotations.check(one.path))
    except SecurecfgError as error:
        return _Checked(one, (), error)


def _emit_checked(invocation: Invocation, checked: list[_Checked]) -> int:
    from securecfg.cli.output import error_to_json, printable, write_json
    from securecfg.errors import CheckFailed

    result = {"checks": [each.to_json() for each in checked]}
    lines = [printable(line) for each in checked for line in each.lines()] or ["there is nothing to check"]
    wrong = [each for each in checked if not each.is_well]
    if not wrong:
        invocation.emit(result, *lines)
        return 0
    missing = [each for each in wrong if each.missing]
    first = wrong[0].error
    if missing or first is None:
        message = f"{counted(len(missing), 'rotation')} will be missing something at the target"
        failure: SecurecfgError = CheckFailed(message, hint="grant it there, and check again")
    else:
        failure = first
    if not invocation.is_json:
        invocation.emit(result, *lines)
        raise failure
    write_json(result | {"error": error_to_json(failure)})
    return failure.exit_code
