"""`securecfg rotation status` and `history`: how rotations are, and how they went."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from securecfg.cli.arguments import written_duration
from securecfg.cli.audit_access import open_for_audit
from securecfg.cli.groups import Verb
from securecfg.cli.invocation import Invocation, common_flags
from securecfg.cli.output import printable, shown_time, timestamp, write_lines
from securecfg.errors import AccessDenied, RotationNotFound
from securecfg.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from securecfg.rotation.document import Rotation
    from securecfg.vault.auditlog import Entry

_RED = "31"


@click.command(
    cls=Verb,
    examples=(
        "securecfg rotation status",
        "securecfg rotation status db/            # below a folder",
        "securecfg rotation status db/shop        # all that is known of one",
        "securecfg rotation status --failed --json",
    ),
)
@click.argument("path", default="", metavar="[PATH|PREFIX]")
@click.option("--failed", "only_failed", is_flag=True, help="Only those that need a person.")
@common_flags
def status(invocation: Invocation, *, path: str, only_failed: bool) -> None:
    """Show what is rotated, when it is due, and who waits for what; what has failed comes first.

    Of a failed rotation it says why it failed and what to do. That ends with exit code 0: it was shown. No target is
    asked; `rotation check` does that.
    """
    from securecfg.cli.rotation import open_rotations
    from securecfg.cli.rotation_run import all_of
    from securecfg.cli.rotation_words import describe, failure_lines, is_failed
    from securecfg.rotation.parts import parts_of
    from securecfg.rotation.steps import Steps

    with invocation.open() as vault:
        rotations = open_rotations(vault)
        found = all_of(invocation, rotations, path)
        exact = [each for each in found if each.path == path]
        newer = [
            each
            for _, part in parts_of(vault, {})
            for each in part.authority.filter_listed(Steps(part.authority).newer())
            if each.startswith(path)
        ]
        if path and not found and path in (newer or [path]) and not path.endswith("/"):
            exact = [rotations.find(path)]  # which says why there is none
        now = rotations.now_ns()
    shown = [each for each in exact or found if is_failed(each) or not only_failed]
    shown.sort(key=lambda each: (not is_failed(each), not each.is_running, each.path))
    result = {"rotations": [describe(each) for each in shown]} | ({"newer": newer} if newer else {})
    for each in newer:
        invocation.note(f"note: a newer version has set the rotation of `{printable(each)}`, and leads it on")
    if invocation.is_json:
        invocation.emit(result)
    elif exact and shown:
        invocation.emit(result, *map(printable, _details(shown[0], now)))
        _write_failures(failure_lines(shown[0], now))
    elif not shown:
        invocation.emit(result, "no rotation has failed" if only_failed else "nothing is rotated")
    else:
        columns = ("PATH", "ROTATOR", "STATE", "DUE", "LAST", "WAITS FOR")
        invocation.emit_table(
            result, columns, [_row(each, now) for each in shown], shorten=("LAST", "WAITS FOR", "STATE", "PATH")
        )
        _write_failures([line for each in shown for line in failure_lines(each, now)])


@click.command(
    cls=Verb,
    examples=("securecfg rotation history db/shop", "securecfg rotation history db/shop --json"),
)
@click.argument("path")
@common_flags
def history(invocation: Invocation, *, path: str) -> None:
    """List from the log what became of the rotations of a secret, oldest first, step by step.

    It takes the right audit.read, and is recorded. Steps of a time when the secret had another path are under that.
    Attempts that led nowhere are told with their reason. Times are in UTC.
    """
    try:
        with open_for_audit(invocation) as vault:
            # Of a secret in a sealed scope they are in the log of that.
            log = vault.part_of(path)[1].log
            entries = [entry for entry in log.records() if _is_about(entry, path)]
    except AccessDenied as error:
        error.hint = f"`securecfg secret history {path}` lists the versions without it"
        raise
    if not entries:
        message = f"the log has no rotation of `{path}`"
        raise RotationNotFound(message, hint=f"`securecfg rotation set {path} --rotator NAME` sets one")
    result = {"path": path, "events": [_event_to_json(entry) for entry in entries]}
    rows = [row for entry in entries for row in _event_rows(entry)]
    invocation.emit_table(result, ("TIME", "WHO", "WHAT", "VERSION", "REASON"), rows, shorten=("REASON", "WHO"))


def _row(rotation: Rotation, now_ns: int) -> tuple[str, ...]:
    from securecfg.cli.rotation_words import due_words, last_ns, state_words, waiting_words
    from securecfg.clock import to_datetime

    last = last_ns(rotation)
    return (
        rotation.path,
        rotation.rules.rotator,
        state_words(rotation),
        due_words(rotation, now_ns),
        shown_time(to_datetime(last)) if last else "never",
        waiting_words(rotation),
    )


def _details(rotation: Rotation, now_ns: int) -> Iterator[str]:
    from securecfg.cli.rotation_words import due_words, last_ns, schedule_words, state_words, waiting_words
    from securecfg.clock import to_datetime

    rules, progress, last = rotation.rules, rotation.progress, last_ns(rotation)
    finished = f", finished {counted(rotation.rotations, 'time')}" if rotation.rotations else ""
    pairs = [
        ("path", rotation.path),
        ("rotator", rules.rotator),
        *(("option", f"{name}={text}") for name, text in rules.options.items()),
        ("set by", rotation.set_by),
        ("state", state_words(rotation)),
        ("waits for", waiting_words(rotation)),
        ("when", schedule_words(rules)),
        ("due", due_words(rotation, now_ns) if rotation.due_ns else ""),
        ("last", f"{shown_time(to_datetime(last))}{finished}" if last else "never"),
        ("grace", written_duration(rules.grace_s)),
        ("propagation", written_duration(rules.propagation_s)),
        ("timeout", written_duration(rules.timeout_s)),
        ("consumers", ", ".join(rules.consumers)),
        ("hard cut", "acknowledged" if rules.is_hard_cut else ""),
    ]
    if progress is not None:
        began = shown_time(to_datetime(progress.began_ns))
        pairs.append(("run", f"begun {began}, {progress.why}"))
        if progress.version:
            former = f"in place of @{progress.former}" if progress.former else ""
            pairs.append(("version", f"@{progress.version} {former}".rstrip()))
        pairs.append(("has it", ", ".join(progress.acknowledged)))
        pairs.append(("token", progress.token))
    for name, text in pairs:
        if text:
            yield f"{name:<11}  {text}"


def _write_failures(lines: list[str]) -> None:
    from securecfg.cli.tables import coloured

    if lines:
        first = coloured("failed", _RED)
        shown = map(printable, lines)
        write_lines(["", *(line.replace("failed", first, 1) if line.startswith("failed") else line for line in shown)])


def _is_about(entry: Entry, path: str) -> bool:
    record = entry.record
    return record.event.value.startswith("rotation.") and record.obj.get("path") == path


def _event_to_json(entry: Entry) -> dict[str, Any]:
    from securecfg.cli.audit_records import OUTCOMES
    from securecfg.clock import to_datetime

    record = entry.record
    obj = record.obj
    return {
        "index": entry.index,
        "time": timestamp(to_datetime(record.time_ns)),
        "event": record.event.value,
        "outcome": OUTCOMES[record.decision],
        "principal": record.subject.id,
        "token": obj.get("token"),
        "from": obj.get("from"),
        "to": obj.get("to"),
        "version": obj.get("ver"),
        "reason": obj.get("reason"),
        "rotator": obj.get("rotator"),
        "action": obj.get("action"),
    }


def _event_rows(entry: Entry) -> Iterator[tuple[str, ...]]:
    """Yield a line for what has happened; that somebody is still at work is nothing new to people."""
    from securecfg.audit import Event
    from securecfg.clock import to_datetime

    record = entry.record
    obj = record.obj
    match record.event:
        case Event.ROTATION_STEPPED:
            if obj["from"] == obj["to"] and not obj.get("reason"):
                return
            what = f"{obj['from']} -> {obj['to']}" if obj["from"] != obj["to"] else f"waits in {obj['to']}"
        case Event.ROTATION_SET:
            what = str(obj.get("action") or f"set, by {obj['rotator']}")
        case Event.ROTATION_REMOVED:
            what = "unset"
        case Event.ROTATION_ACKNOWLEDGED:
            what = "has the new value"
        case _:
            what = "was told of it, and failed"
    version = f"@{obj['ver']}" if "ver" in obj else ""
    when = shown_time(to_datetime(record.time_ns))
    yield when, record.subject.id, what, version, str(obj.get("reason", ""))
