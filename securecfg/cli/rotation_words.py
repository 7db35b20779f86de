"""Rotations as people and programs read them: in which state, who waits for what, and what to do where one failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from securecfg.cli.output import shown_time, timestamp
from securecfg.clock import to_datetime
from securecfg.errors import ExtraMissing, InvalidRotation
from securecfg.rotation.document import Stored
from securecfg.rotation.lease import Leases
from securecfg.rotation.machine import BEFORE_SWAP, State
from securecfg.words import brief_age, counted

if TYPE_CHECKING:
    from securecfg.rotation.document import Rotation, Rules
    from securecfg.rotation.machine import Progress

NS = 1_000_000_000
_UNSEEN = -1
"""No document has it as its number, so that no lease is taken for one that was seen before."""

_WORDS = {
    State.BEGUN: "asks for a new value",
    State.PENDING: "tells the target the new value",
    State.SET: "tries the new value",
    State.TESTED: "about to hand out the new value",
    State.CURRENT: "new value in use, old one still good",
    State.PREVIOUS: "ends the old value",
    State.RETIRED: "done",
    State.CANCELLING: "is being taken back",
    State.CANCELLED: "was taken back",
}
_IDLE = "not rotated yet"


class Reason(NamedTuple):
    """What a code of a failed rotation means.

    Attributes:
        what: What has happened.
        next: What a person does about it, with `{path}` for the secret.
    """

    what: str
    next: str


REASONS = {
    "candidate-rejected": Reason(
        "the target would have none of the new values",
        "make the new values fit its rules, with other options of the rotator: `securecfg rotation set {path}`",
    ),
    "credential-refused": Reason(
        "the target refuses a login that it should accept",
        "find out at the target why, or who changed the password there; write the one that works, where you know it, "
        "with `securecfg secret put {path}`",
    ),
    "privilege-missing": Reason(
        "a login works, and may not do what it has to",
        "grant what `securecfg rotation check {path}` names as missing",
    ),
    "rotation-failed": Reason(
        "the rotator can do nothing until somebody has changed something",
        "`securecfg rotation check {path}` may say what, and so may the log of its program or service; mend that",
    ),
    "rotator-broken": Reason(
        "the rotator failed in a way that nobody foresaw",
        "tell those who made the rotator; the value that readers get is as it was",
    ),
    "version-not-found": Reason(
        "the new value was deleted while the rotation was under way",
        "nothing is to be mended, as another one is made",
    ),
    "invalid-rotation": Reason(
        "the rotator can do nothing with its options, or with the value of the secret",
        "`securecfg rotation check {path}` says what is wrong; put the value of the secret right",
    ),
    "extra-missing": Reason(
        "a library that the rotator needs is not installed where it ran",
        "install what `securecfg rotation check {path}` asks for there",
    ),
    "secret-not-found": Reason(
        "a secret that an option of the rotator refers to is not there",
        "write it, or name another one with `securecfg rotation set {path}`",
    ),
    "secret-expired": Reason(
        "a secret that an option of the rotator refers to has expired",
        "write a new version of it",
    ),
    "denied": Reason(
        "whoever ran it may not read what an option of the rotator refers to",
        "let that principal read it; `securecfg policy explain` says which rule is missing",
    ),
    "value-too-large": Reason(
        "the new value is larger than a secret can be",
        "make it smaller with the options of the rotator",
    ),
}
"""Every reason for which the runner itself fails, and those that its rotators give."""

_OTHER = Reason("the rotator, or what it needs, failed", "the reference of errors says what this code means; mend that")


def describe(rotation: Rotation) -> dict[str, Any]:
    """Return a rotation as JSON shows it."""
    rules, progress = rotation.rules, rotation.progress
    return {
        "path": rotation.path,
        "rotator": rules.rotator,
        "options": dict(rules.options),
        "schedule": None if rules.schedule is None else dict(rules.schedule),
        "when": schedule_words(rules),
        "grace_s": rules.grace_s,
        "propagation_s": rules.propagation_s,
        "timeout_s": rules.timeout_s,
        "consumers": list(rules.consumers),
        "is_hard_cut": rules.is_hard_cut,
        "set_by": rotation.set_by,
        "state": "idle" if progress is None else str(progress.state),
        "is_paused": rotation.is_paused,
        "is_held": is_held(rotation),
        "due": _moment(rotation.due_ns),
        "last": _moment(last_ns(rotation)),
        "rotation_count": rotation.rotations,
        "run": None if progress is None else _describe_run(rotation, progress),
    }


def _describe_run(rotation: Rotation, progress: Progress) -> dict[str, Any]:
    is_failed = progress.state is State.FAILED
    reason = reason_of(progress) if is_failed else None
    return {
        "token": progress.token,
        "why": progress.why,
        "began": _moment(progress.began_ns),
        "version": progress.version or None,
        "former": progress.former or None,
        "swapped": _moment(progress.swapped_ns),
        "not_before": _moment(progress.not_before_ns) if rotation.is_running else None,
        "attempts": progress.attempts,
        "candidates": progress.candidates,
        "waits_for": awaited(rotation),
        "acknowledged": list(progress.acknowledged),
        "reason": progress.reason or None,
        "failed_in": None if progress.failed_in is None else str(progress.failed_in),
        "failed": _moment(progress.failed_ns) if is_failed else None,
        "what": reason.what if reason is not None else None,
        "next_step": next_step(rotation, progress) if is_failed else None,
    }


def state_words(rotation: Rotation) -> str:
    """Return how a rotation is, in words."""
    progress = rotation.progress
    if progress is None:
        words = _IDLE
    elif progress.state is State.FAILED:
        words = f"failed: {progress.reason}"
    else:
        words = _WORDS[progress.state]
    return f"paused, {words}" if rotation.is_paused else words


def waiting_words(rotation: Rotation) -> str:
    """Return who waits for what, in words; empty where nobody does."""
    progress = rotation.progress
    if progress is None or progress.is_over or progress.state is State.FAILED:
        return ""
    if rotation.is_paused:
        return "`rotation resume`"
    if is_held(rotation):
        return "a process that is at work on it"
    until = f"until {shown_time(to_datetime(progress.not_before_ns))}" if progress.not_before_ns else ""
    if progress.state is State.CURRENT:
        return f"{', '.join(awaited(rotation)) or 'the end of the grace'}, {until}"
    if progress.reason and progress.attempts:
        return f"the target, {until} ({progress.reason}, {counted(progress.attempts, 'attempt')})"
    return "the next run"


def awaited(rotation: Rotation) -> list[str]:
    """Return the consumers that have not said yet that they have the new version."""
    progress = rotation.progress
    if progress is None or progress.state is not State.CURRENT:
        return []
    return [each for each in rotation.rules.consumers if each not in progress.acknowledged]


def reason_of(progress: Progress) -> Reason:
    """Return what the code of a failed rotation means."""
    return REASONS.get(progress.reason, _OTHER)


def next_step(rotation: Rotation, progress: Progress) -> str:
    """Return what a person does about a failed rotation."""
    first = reason_of(progress).next.format(path=rotation.path)
    then = f"`securecfg rotation retry {rotation.path}`"
    if f"rotation cancel {rotation.path}" in first:
        return first
    back = f", or take it back: `securecfg rotation cancel {rotation.path}`" if is_before_swap(progress) else ""
    return f"{first}; then {then}{back}"


def failure_lines(rotation: Rotation, now_ns: int) -> list[str]:
    """Return what people read of a failed rotation: what, since when, what readers get, what to do; else nothing."""
    progress = rotation.progress
    if progress is None or progress.state is not State.FAILED:
        return []
    age = brief_age(max(0, now_ns - progress.failed_ns) // NS)
    readers = "the old value" if is_before_swap(progress) else "the new value"
    return [
        f"failed  {rotation.path}: {reason_of(progress).what} ({progress.reason}), {age} ago; readers get {readers}",
        f"        -> {next_step(rotation, progress)}",
    ]


def is_failed(rotation: Rotation) -> bool:
    """Return whether a person is needed."""
    return rotation.progress is not None and rotation.progress.state is State.FAILED


def is_before_swap(progress: Progress) -> bool:
    """Return whether readers get the old version, of a failed rotation too."""
    state = progress.failed_in if progress.failed_in is not None else progress.state
    return state in BEFORE_SWAP or state is State.CANCELLING


def is_held(rotation: Rotation) -> bool:
    """Return whether another process is at work, as far as can be told at first sight."""
    return rotation.holder is not None and not Leases().may_take(Stored(rotation, _UNSEEN))


def schedule_words(rules: Rules) -> str:
    """Return when a secret is rotated, in words; a cron expression as it is where it cannot be put into words here."""
    if rules.schedule is None:
        return "only when asked"
    from securecfg.rotation.schedule import Schedule, describe_schedule

    try:
        return describe_schedule(Schedule.from_json(rules.schedule))
    except (ExtraMissing, InvalidRotation):
        return str(rules.schedule.get("cron") or "by a schedule that this version cannot read")


def due_words(rotation: Rotation, now_ns: int) -> str:
    """Return when a rotation is due, in words."""
    if not rotation.due_ns:
        return "when asked"
    if rotation.due_ns <= now_ns:
        return f"{brief_age((now_ns - rotation.due_ns) // NS)} ago"
    return f"in {brief_age((rotation.due_ns - now_ns) // NS)}"


def last_ns(rotation: Rotation) -> int:
    """Return when readers were given another value last; 0 for never."""
    swapped = rotation.progress.swapped_ns if rotation.progress is not None else 0
    return max(rotation.finished_ns, swapped)


def _moment(time_ns: int) -> str | None:
    return timestamp(to_datetime(time_ns)) if time_ns else None
