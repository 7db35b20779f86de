"""`securecfg scope abandon`: what an administrator gives up of sealed scopes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from securecfg.cli.groups import Verb
from securecfg.cli.invocation import Invocation, common_flags
from securecfg.cli.output import shown_age, timestamp

if TYPE_CHECKING:
    from securecfg.vault.scope_abandoning import UnfinishedScope

_DRY_RUN = click.option("--dry-run", is_flag=True, help="Only say what would be done.")


@click.command(
    cls=Verb,
    examples=(
        "securecfg scope abandon payments --dry-run",
        "securecfg scope abandon payments --reason 'the machine that made it lost power'",
    ),
)
@click.argument("path")
@_DRY_RUN
@common_flags
def abandon(invocation: Invocation, *, path: str, dry_run: bool) -> None:
    """Give up the making of a sealed scope that was interrupted.

    Until then it keeps others from making a scope there, and roles from getting another key, for two hours. It does no
    harm where somebody goes on to make it: that ends with a conflict. Secrets that were to go into it stay where they
    are.
    """
    from securecfg.vault.scope_abandoning import abandon as give_up
    from securecfg.vault.scope_abandoning import find_unfinished

    with invocation.open() as vault:
        unfinished = find_unfinished(vault.authority, path)
        age = shown_age(unfinished.age)
        if not dry_run:
            invocation.confirm(f"Give up the making of {unfinished.path}, begun {age} ago?")
            give_up(vault.authority, unfinished, reason=invocation.reason)
    word = "would give up" if dry_run else "given up"
    invocation.emit(
        making_as_object(unfinished) | {"is_done": not dry_run},
        f"{word}  the making of {unfinished.path}, begun {age} ago",
    )


def making_as_object(unfinished: UnfinishedScope) -> dict[str, Any]:
    """Return what programs are shown of a scope that is being made."""
    return {
        "path": unfinished.path,
        "begun": timestamp(unfinished.begun),
        "age_s": int(unfinished.age.total_seconds()),
        "is_in_the_way": unfinished.is_in_the_way,
    }
