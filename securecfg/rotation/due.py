"""When a rotation is due, by its schedule and by what its secret has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from securecfg.clock import to_datetime, to_ns

if TYPE_CHECKING:
    from securecfg.rotation.document import Rules
    from securecfg.rotation.steps import Standing


def due_after(rules: Rules, record: int, now_ns: int, standing: Standing) -> int:
    """Return when a rotation is due after a time, 0 for only when asked.

    Args:
        rules: With the schedule.
        record: The number of the secret: those that are due at the same time are spread by it.
        now_ns: After when.
        standing: What the secret has.

    Raises:
        ExtraMissing: The schedule needs a library that is not installed.
    """
    if rules.schedule is None:
        return 0
    from securecfg.rotation.schedule import Schedule, next_due

    # A version that was made while a clock was far ahead is not left alone until that time has come.
    created_ns = min(standing.created_ns, now_ns)
    due = next_due(
        Schedule.from_json(rules.schedule),
        after=to_datetime(now_ns),
        created=to_datetime(created_ns) if created_ns else None,
        expires=to_datetime(standing.expires_ns) if standing.expires_ns else None,
        seed=record.to_bytes(8, "big"),
    )
    return to_ns(due) if due is not None else 0


def begin_ns(rules: Rules, due_ns: int, now_ns: int) -> int:
    """Return when what is due may begin: at once, or where that is outside of the windows when the next one opens.

    Raises:
        ExtraMissing: The schedule needs a library that is not installed.
    """
    if rules.schedule is None:
        return due_ns
    from securecfg.rotation.schedule import Schedule, begin_at

    return to_ns(begin_at(Schedule.from_json(rules.schedule), due=to_datetime(due_ns), now=to_datetime(now_ns)))
