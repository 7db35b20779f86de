"""`securecfg scope abandon` and `discard`: what an administrator gives up of sealed scopes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from securecfg.cli.groups import Verb
from securecfg.cli.invocation import Invocation, common_flags
from securecfg.cli.output import shown_age, timestamp

if TYPE_CHECKING:
    from securecfg.vault.scopes.abandoning import UnfinishedScope

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
    from securecfg.vault.scopes.abandoning import abandon as give_up
    from securecfg.vault.scopes.abandoning import find_unfinished

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


@click.command(
    cls=Verb,
    examples=(
        "securecfg scope discard payments --dry-run",
        "securecfg scope discard payments --reason 'the disk failed, and no backup has it'",
        "securecfg scope discard payments --lost      # also where somebody might still use what is there",
    ),
)
@click.argument("path")
@click.option("--lost", "is_lost", is_flag=True, help="Also where somebody might still use what is there.")
@_DRY_RUN
@common_flags
def discard(invocation: Invocation, *, path: str, is_lost: bool, dry_run: bool) -> None:
    """Give up a sealed scope that is lost for good: damaged, taken away, or with nobody left who reads it.

    What is in it, and its log, are gone for ever; keep a copy of the file if you may need them as evidence, and restore
    a backup instead where there is one. A scope that is whole and that somebody reads is not given up. Its path stays
    sealed until another scope is made there.
    """
    from securecfg.vault.scopes.discarding import LostScopes, verify_lost

    with invocation.open() as vault:
        scopes = LostScopes(vault.authority)
        with invocation.progress("looking at the scope"):
            judgement = scopes.judge(path)
        verify_lost(judgement, is_lost=is_lost)
        if not dry_run:
            invocation.note(f"{judgement.condition}: {judgement.message}")
            invocation.confirm(f"Give up {judgement.path} for ever, with all that is in it and its log?")
            scopes.discard(judgement, is_lost=is_lost, reason=invocation.reason)
    result = {"path": judgement.path, "condition": str(judgement.condition), "message": judgement.message}
    word = "would give up" if dry_run else "given up"
    invocation.emit(result | {"is_done": not dry_run}, f"{word}  {judgement.path} ({judgement.condition})")
    if not dry_run:
        invocation.note("note: who read it may still know what was in it: change those values where they are used")


def making_as_object(unfinished: UnfinishedScope) -> dict[str, Any]:
    """Return what programs are shown of a scope that is being made."""
    return {
        "path": unfinished.path,
        "begun": timestamp(unfinished.begun),
        "age_s": int(unfinished.age.total_seconds()),
        "is_in_the_way": unfinished.is_in_the_way,
    }
