"""Records of the log as people and programs read them, and which of them were asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from securecfg.audit import Decision, Event
from securecfg.audit.record import format_time, served_of
from securecfg.cli.output import printable
from securecfg.cli.tables import SHORTEST, join, shortened, shrink, width
from securecfg.clock import to_datetime, to_ns
from securecfg.errors import CommitUnknown
from securecfg.words import counted

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date, datetime

    from securecfg.audit import Record
    from securecfg.vault.auditlog import Entry

    Items = list[tuple[str, int]]

OUTCOMES = {Decision.ALLOW: "allowed", Decision.DENY: "denied", Decision.ERROR: "error"}

# What the events of secrets are called as actions; any other event is called by its own name.
_ACTIONS = {
    Event.SECRET_READ: "read",
    Event.SECRET_READ_COUNTED: "read",
    Event.SECRET_WRITTEN: "write",
    Event.SECRET_DELETED: "delete",
    Event.SECRET_UNDELETED: "undelete",
    Event.SECRET_DESTROYED: "destroy",
    Event.SECRET_MOVED: "move",
    Event.SECRET_LABELLED: "label",
    Event.SECRET_ROLLED_BACK: "rollback",
    Event.BATCH_WRITTEN: "write",
    Event.MOUNT_READ: "read",
    Event.MOUNT_READ_COUNTED: "read",
}
# What has become of a change of a store: it is asked between two records.
_STATES = {Event.MOUNT_CHANGING: "begun", Event.MOUNT_FAILED: "failed"}
# How the store stands in a line.
_IN_STORES = {
    Event.MOUNT_READ: "from",
    Event.MOUNT_READ_COUNTED: "from",
    Event.MOUNT_CHANGING: "in",
    Event.MOUNT_CHANGED: "in",
    Event.MOUNT_FAILED: "in",
}
# Shown by name in front, elsewhere in the line, or of use to programs only.
_APART = frozenset(
    {"action", "path", "ver", "to", "label", "items", "parts", "reason", "digest", "vkey", "old_sig", "new_sig"}
    | {"version", "served", "age_s"}
)
# Where a line is too wide, what becomes shorter and how much stays: about what, why, who; then more of about what.
_STEPS = ((3, 28), (5, SHORTEST), (5, 0), (1, SHORTEST), (3, SHORTEST), (2, SHORTEST))
_ID_CHARS = 8
# So that it is not overlooked among what was allowed.
_BREAK_GLASS = "BREAK-GLASS"
_SECOND_CHARS = len("2026-01-31T12:00:00")
_WIDEST = 40
_TITLES = {"rev": "revision", "source_rev": "from revision", "source_ver": "from version"}


@dataclass(frozen=True, slots=True)
class Filter:
    """Which records were asked for; what is None does not matter.

    Attributes:
        since: From this moment on.
        until: Before this moment.
        principal: Asked by this principal, or for it by another.
        action: An action or an event.
        outcome: `allowed`, `denied` or `error`.
        path: About a path that this pattern matches; `*` is within a segment, `**` any number of them.
    """

    since: datetime | None = None
    until: datetime | None = None
    principal: str | None = None
    action: str | None = None
    outcome: str | None = None
    path: re.Pattern[str] | None = None

    def takes(self, record: Record) -> bool:
        """Return whether a record was asked for, as far as it tells without its parts."""
        return (
            (self.since is None or record.time_ns >= to_ns(self.since))
            and (self.until is None or record.time_ns < to_ns(self.until))
            and (self.principal is None or self.principal in {record.subject.id, record.subject.via})
            and (self.action is None or self.action in {action_of(record), record.event.value})
            and (self.outcome is None or self.outcome == OUTCOMES[record.decision])
        )

    def takes_path(self, record: Record, items: Items) -> bool:
        """Return whether a record, with the items of a batch, is about a path that was asked for."""
        if self.path is None:
            return True
        about = [str(record.obj[name]) for name in ("path", "to") if name in record.obj]
        return any(map(self.path.fullmatch, [*about, *(path for path, _ in items)]))


def path_pattern(glob: str) -> re.Pattern[str]:
    """Return what a pattern of paths matches."""
    parts = re.split(r"(\*\*|\*)", glob)
    return re.compile("".join({"**": ".*", "*": "[^/]*"}.get(part, re.escape(part)) for part in parts))


def action_of(record: Record) -> str:
    """Return what was done or asked for."""
    event = Event(record.obj.get("change", record.event))
    return str(record.obj.get("action", "")) or _ACTIONS.get(event, event.value)


class Listing:
    """Lines of records in columns that stay where they are; a date stands above the first record of a day.

    Args:
        today: The day whose date goes without saying.
        items: Returns the paths and versions of a batch.
        limit: How wide a line may be, on a terminal; None leaves everything as it is.
    """

    def __init__(self, today: date, items: Callable[[Record], Items], limit: int | None = None) -> None:
        """Nothing is listed yet."""
        self._day = today
        self._items = items
        self._limit = limit
        self._widths = [0] * 6

    def lines(self, entries: list[Entry]) -> list[str]:
        """Return the next lines."""
        rows = [(entry.record, _cells(entry.record)) for entry in entries]
        for _, cells in rows:
            self._widths = [
                max(min(width(cell), _WIDEST), known) for cell, known in zip(cells, self._widths, strict=True)
            ]
        lines: list[str] = []
        for record, cells in rows:
            day = to_datetime(record.time_ns).astimezone().date()
            if day != self._day:
                self._day = day
                lines.append(f"{day:%Y-%m-%d}")
            lines.append(self._line(cells))
            if record.event is Event.BATCH_WRITTEN:
                lines += (f"          {printable(path)}@{version}" for path, version in self._items(record))
        return lines

    def _line(self, cells: tuple[str, ...]) -> str:
        """Return a line. Where it has room a cell may be wider than its column, which moves only what follows it."""
        widths = self._widths if self._limit is None else shrink(self._widths, _STEPS, self._limit)
        whole = join(cells, [max(width(cell), known) for cell, known in zip(cells, widths, strict=True)])
        if self._limit is None or width(whole) <= self._limit:
            return whole
        return shortened(join(cells, widths), self._limit)


def _cells(record: Record) -> tuple[str, ...]:
    cells = (
        f"{to_datetime(record.time_ns).astimezone():%H:%M:%S}",
        _who(record),
        action_of(record),
        _about(record),
        _outcome(record),
        _why(record),
    )
    return tuple(map(printable, cells))


def _who(record: Record) -> str:
    subject = record.subject
    via = f" via {subject.via}" if subject.via else ""
    return f"{subject.id}{via} ({'proved' if subject.is_proved else 'asserted'})"


def _about(record: Record) -> str:
    obj = record.obj
    path = str(obj.get("path", ""))
    version = obj.get("ver", obj.get("version", ""))
    words = [f"{path}@{version}" if path and version != "" else path]
    words += [f"-> {obj['to']}"] if "to" in obj else []
    words += [str(obj["label"])] if "label" in obj else []
    for name, value in obj.items():
        if name == "store" and record.event in _IN_STORES:
            words.append(f"{_IN_STORES[record.event]} {value}")
        elif name not in _APART and value:
            listed = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            brief = {"slot": listed[:_ID_CHARS], "expires": f"{listed[:_SECOND_CHARS]}Z"}.get(name, listed)
            words.append(f"{_TITLES.get(name, name)} {brief}")
    served = served_of(obj)
    words += [f"({served})"] if served else []
    return " ".join(word for word in words if word)


def _outcome(record: Record) -> str:
    if record.event is Event.BREAKGLASS_OPENED:
        return _BREAK_GLASS
    if record.event is Event.MOUNT_FAILED and record.obj["reason"] == CommitUnknown.code:
        return "unknown"
    return _STATES.get(record.event, OUTCOMES[record.decision])


def _why(record: Record) -> str:
    words = [f"by {', '.join(record.why)}"] if record.why else []
    words += [str(record.obj["reason"])] if "reason" in record.obj else []
    words += [counted(record.count, "time")] if record.count is not None else []
    return "  ".join(words)


def to_json(entry: Entry, items: Items) -> dict[str, Any]:
    """Return a record for programs."""
    record = entry.record
    subject, source = record.subject, record.source
    return {
        "index": entry.index,
        "time": format_time(record.time_ns),
        "event": record.event.value,
        "action": action_of(record),
        "outcome": OUTCOMES[record.decision],
        "principal": subject.id,
        "is_proved": subject.is_proved,
        "via": subject.via,
        "roles": list(subject.roles),
        "object": {name: value for name, value in record.obj.items() if name not in {"items", "parts"}},
        "items": [{"path": path, "version": version} for path, version in items],
        "rules": list(record.why),
        "policy": record.policy,
        "count": record.count,
        "program": source.program,
        "pid": source.pid,
        "host": source.host,
        "request_id": record.request_id,
        "context": dict(record.context),
        "note": record.note,
    }
