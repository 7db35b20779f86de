"""What a calendar, or a simulation of one, is made from: the rotations of a vault that begin by themselves."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from securecfg.clock import to_datetime
from securecfg.rotation.calendar import Planned
from securecfg.rotation.machine import State
from securecfg.rotation.schedule import Schedule
from securecfg.rotation.steps import Steps

if TYPE_CHECKING:
    from collections.abc import Iterable

    from securecfg.rotation.document import Rotation
    from securecfg.vault.vault import Vault

_WITHOUT_TARGET = frozenset(("random",))
_BEFORE = timedelta(seconds=1)


def begins_by_itself(rotation: Rotation) -> bool:
    """Return whether a rotation is due at times, and neither paused nor failed."""
    has_failed = rotation.progress is not None and rotation.progress.state is State.FAILED
    return rotation.due_ns > 0 and rotation.rules.schedule is not None and not rotation.is_paused and not has_failed


def plan_of(vault: Vault, rotations: Iterable[Rotation]) -> list[Planned]:
    """Return those of some rotations that begin by themselves, as calendars take them. Reads no value.

    Which target a rotator calls is in secrets; all that one rotator does is therefore taken for calls of one target.

    Raises:
        InvalidRotation: A stored schedule is malformed.
        IntegrityError: The versions of a secret cannot be read.
    """
    steps = Steps(vault.authority)
    planned = []
    for each in rotations:
        if not begins_by_itself(each) or each.rules.schedule is None:
            continue
        standing = steps.standing(each.path)
        rotator = each.rules.rotator
        planned.append(
            Planned(
                each.path,
                f"{rotator} {each.path}" if rotator in _WITHOUT_TARGET else rotator,
                Schedule.from_json(each.rules.schedule),
                each.record.to_bytes(8, "big"),
                to_datetime(each.due_ns) - _BEFORE,
                to_datetime(standing.created_ns) if standing.created_ns else None,
                to_datetime(standing.expires_ns) if standing.expires_ns else None,
            )
        )
    return planned
