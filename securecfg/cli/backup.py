"""`securecfg vault backup`, `backups` and `restore`: a copy of the vault under keys of its own, and the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from securecfg.cli.arguments import Number, parse_moment
from securecfg.cli.groups import Verb
from securecfg.cli.invocation import Invocation, common_flags
from securecfg.cli.output import shown_time, timestamp
from securecfg.errors import NotAuthenticated, UsageError
from securecfg.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from securecfg.vault import Vault
    from securecfg.vault.backups.restoring import BackupState, Restoring


@click.command(
    cls=Verb,
    examples=(
        "securecfg vault backup /backup/shop --to file:/media/safe/backup.key --to recovery:",
        "securecfg vault backup /backup/shop             # the next part: what changed since",
    ),
)
@click.argument("folder", type=click.Path())
@click.option("--to", "recipients", multiple=True, metavar="URI", help="A key that opens it; for a new backup.")
@click.option("--dry-run", is_flag=True, help="Only say what would be written.")
@common_flags
def backup(invocation: Invocation, *, folder: str, recipients: tuple[str, ...], dry_run: bool) -> None:
    """Back the vault up into a folder: all of it at first, later what changed. It may be in use meanwhile.

    A backup opens with its own keys and not with those of the vault, and whoever holds one can read all of it, but what
    is in sealed scopes. These are in it as they are, sealed to their readers; it needs a key of the vault to make one,
    and none of theirs. It is read back before it counts. What is destroyed in the vault later stays in the backups made
    before.
    """
    from securecfg.cli.new_keys import make_or_open_provider, warn_if_weak
    from securecfg.vault.backups.backups import Backups

    with invocation.open() as vault:
        backups = Backups.of(vault)
        made = [make_or_open_provider(invocation, uri) for uri in recipients]
        providers = [provider for provider, _ in made]
        if dry_run:
            would = backups.plan(folder, providers)
            result = {"path": str(would.path), "part": would.part, "recipients": list(would.recipients)}
            invocation.emit(result | {"is_done": False}, f"would write  {would.path}")
            return
        with invocation.progress("backing up") as progress:
            done = backups.make(folder, providers, progress)
    codes = [code.reveal() for _, code in made if code is not None]
    result = {
        "backup": done.backup,
        "part": done.part,
        "path": str(done.path),
        "recipients": list(done.recipients),
        "record_count": done.record_count,
        "row_count": done.row_count,
        "size_bytes": done.size_bytes,
        "scope_count": done.scope_count,
        "scopes": list(done.scopes),
    }
    invocation.emit(
        result | ({"recovery_codes": codes} if codes else {}),
        f"written  {done.path}   rows  {done.row_count}   bytes  {done.size_bytes}   read back, whole",
        *_scope_lines(done.scope_count, done.scopes),
        *(f"recovery code  {code}" for code in codes),
    )
    if codes:
        invocation.note("write the code down; it is shown once, and opens the backup without anything else")
    for provider in providers:
        warn_if_weak(invocation, provider)


@click.command(cls=Verb, examples=("securecfg vault backups",))
@common_flags
def backups(invocation: Invocation) -> None:
    """List the backups of the vault: when and where each was made, and which kinds of keys open it.

    One that was begun and not finished is listed too, since a part of it may lie somewhere.
    """
    from securecfg.vault.backups.backups import Backups

    with invocation.open() as vault:
        notes = Backups.of(vault).list()
    invocation.emit_table(
        {
            "backups": [
                {
                    "backup": note.backup,
                    "part": note.part,
                    "begun": timestamp(note.begun),
                    "place": note.place,
                    "recipients": list(note.recipients),
                    "is_finished": note.is_finished,
                    "record_count": note.record_count,
                    "size_bytes": note.size_bytes,
                    "digest": note.digest or None,
                    "scope_count": note.scope_count,
                    "scopes": list(note.scopes),
                }
                for note in notes
            ]
        },
        ("BACKUP", "PART", "MADE", "BYTES", "OPENED BY", "WHERE"),
        [
            (
                note.backup[:8],
                str(note.part),
                shown_time(note.begun),
                str(note.size_bytes) if note.is_finished else "unfinished",
                ", ".join(note.recipients),
                note.place,
            )
            for note in notes
        ],
    )


@click.command(
    cls=Verb,
    examples=(
        "securecfg vault restore /backup/shop restored.vault --with file:/media/safe/backup.key",
        "securecfg vault restore /backup/shop restored.vault --with recovery: --at 2026-03-01T12:00:00Z",
        "securecfg vault restore /backup/shop restored.vault --with file:backup.key --dry-run",
    ),
)
@click.argument("folder", type=click.Path())
@click.argument("path", type=click.Path())
@click.option("--with", "with_", required=True, metavar="URI", help="The key of one of the backup's recipients.")
@click.option("--part", type=Number(), help="The state of this part; else the newest.")
@click.option("--at", metavar="TIME", help="The newest state that is not after this.")
@click.option("--add-key", metavar="URI", help="Another key for the restored vault, where its own are lost.")
@click.option("--keep-damaged", is_flag=True, help="Restore the rest where sealed scopes are damaged; they stay so.")
@click.option("--dry-run", is_flag=True, help="Only read the backup, and say what would be restored.")
@common_flags
def restore(  # noqa: PLR0913 - one parameter for each option
    invocation: Invocation,
    *,
    folder: str,
    path: str,
    with_: str,
    part: int | None,
    at: str | None,
    add_key: str | None,
    keep_damaged: bool,
    dry_run: bool,
) -> None:
    """Make a vault of a backup, at a path where nothing is. It is verified whole before it gets its name.

    It opens with the keys that it had then. Where this machine knows of a newer vault, the restored one is refused as a
    rollback until `securecfg vault adopt` accepts it.
    """
    from securecfg.cli.new_keys import open_new_provider
    from securecfg.keys import open_provider
    from securecfg.vault.backups.restoring import Restoring

    if part is not None and at is not None:
        message = "both a part and a time are given"
        raise UsageError(message, hint="give `--part` or `--at`")
    restoring = Restoring(folder, open_provider(with_, ask=invocation.ask))
    state = restoring.find(part=part, at=_moment(at))
    if dry_run:
        with invocation.progress("reading") as progress:
            restoring.verify(state, progress)
        _say_states(invocation, restoring, state)
        return
    add = open_new_provider(invocation, add_key) if add_key is not None else None
    with invocation.progress("restoring") as progress:
        done = restoring.restore(
            state,
            path,
            _principal(invocation),
            add=add,
            reason=invocation.reason,
            keeps_damaged=keep_damaged,
            progress=progress,
        )
    result = {
        "vault": path,
        "part": state.part,
        "taken": timestamp(state.taken),
        "record_count": done.record_count,
        "recorded_count": done.recorded_count,
        "secret_count": done.secret_count,
        "needs_adoption": done.needs_adoption,
        "scopes": [
            {
                "path": scope.path or None,
                "record_count": scope.record_count,
                "was_opened": scope.was_opened,
                "needs_adoption": scope.needs_adoption,
                "damage": scope.damage or None,
            }
            for scope in done.scopes
        ],
    }
    invocation.emit(
        result,
        f"restored  {path}   as of  {shown_time(state.taken)}   records  {done.record_count}   verified, whole",
        *_scope_lines(len(done.scopes), [scope.path for scope in done.scopes if scope.path]),
    )
    for scope in done.scopes:
        if scope.damage:
            invocation.note(f"kept as it is: {scope.damage}")
        elif not scope.was_opened:
            name = f"`{scope.path}`" if scope.path else "that the vault does not name"
            invocation.note(
                f"no key at hand opens the sealed scope {name}: only its signatures and hashes were checked"
            )
    if done.needs_adoption:
        known = counted(done.recorded_count or 0, "record")
        invocation.note(f"this machine knows of {known} of this vault, which the restored one does not continue")
        invocation.note(f"hint: `securecfg vault adopt --vault {path}` accepts it; until then it does not open")
    if done.scopes:
        invocation.note("members of its scopes accept them with `securecfg vault adopt --key identity:PATH`, each once")


def _scope_lines(count: int, names: Sequence[str]) -> list[str]:
    if not count:
        return []
    named = f": {', '.join(names)}" if names else ""
    return [f"scopes  {count}{named}   sealed as they are"]


def note_backups(invocation: Invocation, vault: Vault) -> None:
    """Say how many backups hold what was just removed from the vault."""
    from securecfg.vault.backups.notes import find_notes

    if notes := find_notes(vault.opened):
        stay = "stays" if len(notes) == 1 else "stay"
        invocation.note(f"{counted(len(notes), 'backup')} made before {stay} readable: `securecfg vault backups`")


def _say_states(invocation: Invocation, restoring: Restoring, chosen: BackupState) -> None:
    states = restoring.states()
    scopes = {state.part: restoring.scopes(state) for state in states}
    invocation.emit_table(
        {
            "states": [
                {
                    "part": state.part,
                    "taken": timestamp(state.taken),
                    "size_bytes": state.size_bytes,
                    "scopes": [path or None for path in scopes[state.part]],
                }
                for state in states
            ],
            "part": chosen.part,
            "is_done": False,
        },
        ("PART", "TAKEN", "BYTES", "SCOPES", ""),
        [
            (
                str(state.part),
                shown_time(state.taken),
                str(state.size_bytes),
                ", ".join(path or "?" for path in scopes[state.part]) or "-",
                "would be restored" if state == chosen else "",
            )
            for state in states
        ],
    )


def _moment(at: str | None) -> datetime | None:
    if at is None:
        return None
    moment = parse_moment(at)
    if moment is None:
        message = "the time is not written as one"
        raise UsageError(message, hint="for instance `2026-03-01` or `2026-03-01T12:00:00Z`")
    return moment


def _principal(invocation: Invocation) -> str:
    from securecfg.vault.settings import find_settings

    # Neither the vault nor its key has to be named, or to be there still.
    principal = find_settings("-", "-", invocation.principal).principal
    if not principal:
        message = "nobody says who is asking"
        raise NotAuthenticated(message, hint="name a principal: `--as user:NAME` or SECURECFG_AS")
    return principal
