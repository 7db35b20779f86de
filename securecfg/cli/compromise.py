"""`securecfg key compromise`: replace everything, and say what stays known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from securecfg.cli.groups import Verb
from securecfg.cli.invocation import Invocation, common_flags
from securecfg.cli.output import shown_time, timestamp
from securecfg.cli.signing import signing_options
from securecfg.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from securecfg.cli.signing import SigningOptions
    from securecfg.vault.backup_notes import BackupNote
    from securecfg.vault.compromise import ExposedVersions


@click.command(
    cls=Verb,
    examples=(
        "securecfg key compromise --dry-run",
        "securecfg key compromise --reason 'laptop of Ana stolen, unlocked'",
        "securecfg key compromise --drop-slots           # keeps only the key with which it is opened now",
        "securecfg key compromise --resume               # goes on where an earlier call was interrupted",
    ),
)
@click.option("--drop-slots", is_flag=True, help="Remove every slot but the one that opens the vault now.")
@click.option("--resume", is_flag=True, help="Put no new keys in use; only finish what was begun.")
@click.option("--dry-run", is_flag=True, help="Only say what is exposed, and which backups stay readable.")
@signing_options
@common_flags
def compromise(
    invocation: Invocation, *, drop_slots: bool, resume: bool, dry_run: bool, signing: SigningOptions
) -> None:
    """Replace every key of the vault, encrypt everything anew, and list what somebody may know.

    For the day when somebody may have had the vault open, or the file and a key of it. Slots stay, with their key
    pairs: whoever holds the key of a slot goes on to open the vault. If such a key is what was lost, drop the slots. It
    makes nobody forget: every secret that is listed needs a new value. The key that opens sealed scopes is replaced
    too, which their administrators sign where these are people.
    """
    from securecfg.vault.backup_notes import find_notes
    from securecfg.vault.compromise import Compromise

    with signing.open(invocation) as (vault, sign_for):
        worst = Compromise(vault.authority, sign_for)
        if dry_run:
            exposed, backups = worst.find_exposed(), find_notes(vault.opened)
            count = len(vault.opened.replica.keyring.slots)
            result = {"slots": count, "is_done": False} | _told(exposed, backups)
            invocation.emit(result, *_lines(exposed, backups), f"would replace  all keys, {counted(count, 'slot')}")
            return
        vault.authority.require("key.manage", "")
        if not resume:
            dropping = ", and remove every other slot" if drop_slots else ""
            invocation.confirm(f"Replace every key of this vault{dropping}?")
        with invocation.progress("replacing everything") as progress:
            if resume:
                done = worst.resume(progress)
            else:
                done = worst.declare(reason=invocation.reason, drops_slots=drop_slots, progress=progress)
    result = {"epoch": done.epoch, "slots": done.slots, "encrypted_count": done.encrypted_count}
    anew = f"{counted(done.encrypted_count, 'value')} encrypted anew"
    kept = f"{counted(done.slots, 'slot')} open{'s' if done.slots == 1 else ''} the vault"
    invocation.emit(
        result | _told(done.exposed, done.backups),
        f"replaced  all keys; scope key of epoch {done.epoch}; {anew}; {kept}",
        *_lines(done.exposed, done.backups),
    )
    invocation.note("hint: give each of them a new value; `securecfg audit exposed` lists those that have none yet")


def _told(exposed: Sequence[ExposedVersions], backups: Sequence[BackupNote]) -> dict[str, object]:
    return {
        "exposed": [{"path": each.path, "versions": list(each.versions), "is_live": each.is_live} for each in exposed],
        "backups": [
            {"backup": note.backup, "part": note.part, "begun": timestamp(note.begun), "place": note.place}
            for note in backups
        ],
    }


def _lines(exposed: Sequence[ExposedVersions], backups: Sequence[BackupNote]) -> list[str]:
    lines = [
        f"exposed  {each.path}@{','.join(map(str, each.versions))}{'' if each.is_live else '  (deleted)'}"
        for each in exposed
    ]
    lines += [
        f"readable  backup {note.backup[:8]} part {note.part} of {shown_time(note.begun)} in {note.place}"
        for note in backups
    ]
    return lines
