"""What is said of a plan that copies secrets, and of what became of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from securecfg.cli.output import printable
from securecfg.errors import Conflict
from securecfg.mounts.sync_plan import Action, Way
from securecfg.words import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from securecfg.cli.invocation import Invocation
    from securecfg.errors import SecurecfgError
    from securecfg.mounts.sync_plan import Item, Plan
    from securecfg.mounts.sync_run import Outcome

_ARROWS = {Way.FORTH: "->", Way.BACK: "<-", Way.NONE: ""}
_NOT_DONE = frozenset((Action.CONFLICT, Action.CANNOT, Action.UNREADABLE))


def describe(plan: Plan, outcome: Outcome | None) -> dict[str, Any]:
    """Return a plan, and what became of it, as JSON shows it."""
    described: dict[str, Any] = {
        "plan": plan.id,
        "counts": {str(action): count for action, count in plan.counts.items()},
        "secrets": [
            {
                "path": item.name,
                "line": str(item.action),
                "way": str(item.way) or None,
                "reason": item.reason or None,
                "left_behind": list(item.losses),
            }
            for item in plan.items
        ],
        "is_done": outcome is not None,
    }
    if outcome is not None:
        described |= {
            "done": [item.name for item in outcome.done],
            "moved": [item.name for item in outcome.moved],
            "failed": [
                {"path": failure.item.name, "code": failure.error.code, "message": failure.error.message}
                for failure in outcome.failed
            ],
        }
    return described


def show(invocation: Invocation, plan: Plan) -> None:
    """Show a plan line by line, but for what is alike; with `--json` it is a part of the result."""
    if invocation.is_json:
        return
    from securecfg.cli.output import write_lines
    from securecfg.cli.tables import SHORTEST, lay_out

    rows = [_row(item) for item in plan.items if item.action is not Action.SAME]
    lines = lay_out(rows, [(1, SHORTEST), (2, SHORTEST)]) if rows else []
    write_lines([*lines, f"{summary(plan.counts)}   plan {plan.id}"])


def summary(counts: Mapping[Any, int]) -> str:
    """Return counts in words."""
    return ", ".join(f"{count} {action}" for action, count in counts.items()) or "nothing on either side"


def show_outcome(invocation: Invocation, outcome: Outcome) -> None:
    """Say on standard error what was not done."""
    for item in outcome.moved:
        invocation.note(printable(f"moved  {item.name}: it has changed since it was planned"))
    for failure in outcome.failed:
        invocation.note(printable(f"failed  {failure.item.name}: {failure.error.message}"))


def result_line(outcome: Outcome) -> str:
    """Return what was done, in words."""
    left = len(outcome.moved) + len(outcome.failed)
    return f"done  {counted(len(outcome.done), 'secret')}" + (f", {left} not" if left else "")


def exit_code(plan: Plan, outcome: Outcome | None) -> int:
    """Return 0 where everything is alike or was done, else the code of what was not."""
    failure: SecurecfgError | None = outcome.failed[0].error if outcome is not None and outcome.failed else None
    if failure is not None:
        return failure.exit_code
    is_left = any(item.action in _NOT_DONE for item in plan.items) or (outcome is not None and outcome.moved)
    return Conflict.exit_code if is_left else 0


def confirm(invocation: Invocation, plan: Plan) -> None:
    """Ask before values are written over or deleted.

    Raises:
        ConfirmationRequired: The answer is no, or nobody can be asked.
    """
    changed, deleted = plan.counts.get(Action.CHANGED, 0), plan.counts.get(Action.DELETED, 0)
    if changed or deleted:
        invocation.confirm(f"Write over {counted(changed, 'value')} and delete {counted(deleted, 'secret')}?")


def _row(item: Item) -> tuple[str, ...]:
    why = item.reason or (f"without {', '.join(item.losses)}" if item.losses else "")
    return tuple(printable(cell) for cell in (f"{item.action} {_ARROWS[item.way]}".strip(), item.name, why))
