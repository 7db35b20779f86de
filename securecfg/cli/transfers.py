"""`securecfg vault pull` and `push`: a whole store into the vault or out of it, without a mount."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from securecfg.cli.groups import Verb
from securecfg.cli.invocation import Invocation, common_flags

if TYPE_CHECKING:
    from securecfg.mounts.transfer import Transfer


@click.command(
    "pull",
    cls=Verb,
    examples=(
        "securecfg vault pull 'awssm:?region=eu-west-1' corp/ --dry-run",
        "securecfg vault pull vault:secret/team corp/",
    ),
)
@click.argument("uri")
@click.argument("folder")
@click.option("--replace", is_flag=True, help="Write over other values that are there.")
@click.option("--dry-run", is_flag=True, help="Show the plan and write nothing.")
@common_flags
def pull(invocation: Invocation, *, uri: str, folder: str, replace: bool, dry_run: bool) -> int:
    """Copy the current values of a whole store into a folder, once. `vault mount` leaves them where they are instead.

    Each path needs the right to write, and reads and writes are in the log. What is there with another value is a
    conflict. Interrupted, the same command goes on.
    """
    from securecfg.mounts.transfer import Transfer

    with invocation.open() as vault:
        return _transfer(invocation, Transfer.into(vault, uri, folder, replaces=replace), dry_run=dry_run)


@click.command(
    "push",
    cls=Verb,
    examples=(
        "securecfg vault push prod/ 'awssm:?region=eu-west-1' --dry-run",
        "securecfg vault push prod/ vault:secret/team --yes",
    ),
)
@click.argument("folder")
@click.argument("uri")
@click.option("--replace", is_flag=True, help="Write over other values that are there.")
@click.option("--dry-run", is_flag=True, help="Show the plan and write nothing.")
@common_flags
def push(invocation: Invocation, *, folder: str, uri: str, replace: bool, dry_run: bool) -> int:
    """Copy the current values of a folder into a whole store, once: `vault export` into a store.

    Each path needs the rights to export and to read, and reads and writes are in the log. What is there with another
    value is a conflict. Interrupted, the same command goes on.
    """
    from securecfg.mounts.transfer import Transfer

    with invocation.open() as vault:
        way = Transfer.out_of(vault, folder, uri, replaces=replace)
        return _transfer(invocation, way, dry_run=dry_run, question="Give {} out to the store?")


def _transfer(invocation: Invocation, way: Transfer, *, dry_run: bool, question: str = "") -> int:
    from securecfg.cli.copying import confirm, describe, exit_code, result_line, show, show_outcome
    from securecfg.words import counted

    with invocation.progress("comparing") as progress:
        plan = way.plan(progress)
    show(invocation, plan)
    if dry_run:
        if invocation.is_json:
            invocation.emit(describe(plan, None))
        return exit_code(plan, None)
    if question and plan.todo:
        invocation.confirm(question.format(counted(len(plan.todo), "secret")))
    elif not question:
        confirm(invocation, plan)
    with invocation.progress("writing") as progress:
        outcome = way.run(plan, progress)
    invocation.emit(describe(plan, outcome), result_line(outcome))
    show_outcome(invocation, outcome)
    return exit_code(plan, outcome)
