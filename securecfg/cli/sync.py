"""`securecfg sync`: two folders that are made alike, again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from securecfg.cli.groups import Noun
from securecfg.cli.invocation import Invocation, common_flags

if TYPE_CHECKING:
    from collections.abc import Callable

    from securecfg.mounts.sync_plan import Rules


@click.group(cls=Noun)
def sync() -> None:
    """Make two folders alike: mounts, or folders of the vault itself."""


def _rule_options(function: Callable[..., object]) -> Callable[..., object]:
    for option in reversed(
        (
            click.argument("from_", metavar="FROM"),
            click.argument("to"),
            click.option("--both", is_flag=True, help="Do what each side has changed on the other one, too."),
            click.option(
                "--delete", "deletes", is_flag=True, help="Delete what only TO has; with --both what one deleted."
            ),
            click.option(
                "--prefer",
                type=click.Choice(["from", "to", "newest", "none"]),
                default="none",
                help="Whose value counts where both have changed; none leaves it alone.",
            ),
        )
    ):
        function = option(function)
    return function


@sync.command(examples=("securecfg sync plan corp/ backup/", "securecfg sync plan corp/ team/ --both --json"))
@_rule_options
@common_flags
def plan(invocation: Invocation, *, from_: str, to: str, both: bool, deletes: bool, prefer: str) -> int:
    """Show what a run would do, and do nothing. Both sides are read; each read is in the log.

    A line for each secret: new, changed, deleted, only there, in conflict, or what the other side cannot hold. Nothing
    is printed of values. What is in conflict, cannot be held or cannot be read is the exit code, as of a run.
    """
    from securecfg.cli.copying import describe, exit_code, show
    from securecfg.mounts.sync_run import Synchronisation

    with invocation.open() as vault:
        pair = Synchronisation(vault, from_, to, _rules(both=both, deletes=deletes, prefer=prefer))
        with invocation.progress("comparing") as progress:
            found = pair.plan(progress)
    show(invocation, found)
    if invocation.is_json:
        invocation.emit({"from": from_, "to": to} | describe(found, None))
    return exit_code(found, None)


@sync.command(
    examples=(
        "securecfg sync run corp/ backup/ --yes",
        "securecfg sync run corp/ backup/ --plan 5f0c...      # what `sync plan` showed, and nothing else",
    )
)
@_rule_options
@click.option("--plan", "shown", metavar="ID", help="Only where the plan is still this one.")
@common_flags
def run(
    invocation: Invocation, *, from_: str, to: str, both: bool, deletes: bool, prefer: str, shown: str | None
) -> int:
    """Make TO as FROM, or with --both each as the other, where the sides are still as they were planned.

    Nothing is deleted without --delete, and what both have changed is left alone without --prefer. A run that is
    interrupted is continued by the next one; nothing is written twice.
    """
    from securecfg.cli.copying import confirm, describe, exit_code, result_line, show, show_outcome
    from securecfg.mounts.sync_run import Synchronisation, verify_planned

    with invocation.open() as vault:
        pair = Synchronisation(vault, from_, to, _rules(both=both, deletes=deletes, prefer=prefer))
        with invocation.progress("comparing") as progress:
            found = pair.plan(progress)
        verify_planned(found, shown)
        show(invocation, found)
        if shown is None:
            confirm(invocation, found)
        with invocation.progress("writing") as progress:
            outcome = pair.run(found, progress)
    invocation.emit({"from": from_, "to": to} | describe(found, outcome), result_line(outcome))
    show_outcome(invocation, outcome)
    return exit_code(found, outcome)


@sync.command(examples=("securecfg sync status",))
@common_flags
def status(invocation: Invocation) -> None:
    """Show which folders you have made alike, and what the last run found that was news. No store is asked."""
    from securecfg.cli.copying import summary
    from securecfg.cli.output import shown_time, timestamp
    from securecfg.mounts.sync_state import LastRuns

    with invocation.open() as vault:
        runs = LastRuns(vault.authority).all()
    result = {
        "runs": [
            {
                "from": each.from_,
                "to": each.to,
                "finished": timestamp(each.finished),
                "alike": len(each.digests),
                "counts": dict(each.counts),
            }
            for each in runs
        ]
    }
    rows = [
        (each.from_, each.to, shown_time(each.finished), str(len(each.digests)), summary(each.counts)) for each in runs
    ]
    if rows or invocation.is_json:
        invocation.emit_table(result, ("FROM", "TO", "SINCE", "ALIKE", "FOUND"), rows, shorten=("FOUND", "SINCE"))
    else:
        invocation.emit(result, "nothing was synchronised yet")


def _rules(*, both: bool, deletes: bool, prefer: str) -> Rules:
    from securecfg.mounts.sync_plan import Prefer, Rules

    return Rules(is_both=both, deletes=deletes, prefer=Prefer(prefer))
