"""What a calendar, or a simulation of one, is made from: the rotations of a vault that begin by themselves."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING

from securecfg.clock import to_datetime
from securecfg.rotation.calendar import Planned
from securecfg.rotation.due import due_after
from securecfg.rotation.machine import State
from securecfg.rotation.names import open_rotator
from securecfg.rotation.references import split_options
from securecfg.rotation.schedule import Schedule
from securecfg.rotation.steps import Steps
from securecfg.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from securecfg.rotation.document import Rotation, Rules
    from securecfg.rotation.interface import Options, Rotator
    from securecfg.vault.vault import Vault

WITHOUT_TARGET = frozenset(("random", "signing-key", "ssh", "tls"))
"""Rotators that call nobody: however many begin at once, nobody is asked too often."""

_STAND_IN = Secret(f"whsec_{b64encode(bytes(32)).decode()}")
"""For what an option refers to; in the form that `webhook` wants."""


def begins_by_itself(rotation: Rotation) -> bool:
    """Return whether a rotation is due at times, and neither paused nor failed."""
    has_failed = rotation.progress is not None and rotation.progress.state is State.FAILED
    return rotation.due_ns > 0 and rotation.rules.schedule is not None and not rotation.is_paused and not has_failed


def target_of(rules: Rules, find: Callable[[str, Options], Rotator] = open_rotator) -> str:
    """Return which target a rotation calls: what its rotator says, by which the daemon limits its calls, too.

    Every rotator of this package says it by options that are plain text, so a stand-in is enough for a secret. A
    rotator of others that wants to see the secret itself is taken to call one target, which goes by its name.
    """
    try:
        plain, references = split_options(rules.options)
        return str(find(rules.rotator, {**plain, **dict.fromkeys(references, _STAND_IN)}).target)
    except Exception:  # noqa: BLE001 - foreign code, which may not be installed here; a plan is not refused for it
        return rules.rotator


def plan_of(vault: Vault, rotations: Iterable[Rotation]) -> list[Planned]:
    """Return those of some rotations that begin by themselves, as calendars take them. Reads no value.

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
        due_ns = each.due_ns
        if each.is_running and each.progress is not None and each.progress.swapped_ns:
            # What it was due for is done, and only its end is waited for.
            due_ns = due_after(each.rules, each.record, vault.opened.clock.now_ns(), standing)
        if not due_ns:
            continue
        planned.append(
            Planned(
                each.path,
                f"{each.rules.rotator} {each.path}" if each.rules.rotator in WITHOUT_TARGET else target_of(each.rules),
                Schedule.from_json(each.rules.schedule),
                each.record.to_bytes(8, "big"),
                to_datetime(due_ns),
                to_datetime(standing.created_ns) if standing.created_ns else None,
                to_datetime(standing.expires_ns) if standing.expires_ns else None,
                # Whatever was written since: it is that time at which a daemon begins.
                to_datetime(due_ns),
            )
        )
    return planned
