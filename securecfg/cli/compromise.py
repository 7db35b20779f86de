"""`securecfg key compromise`: replace everything, and say what stays known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from securecfg.cli.groups import Verb
from securecfg.cli.invocation import Invocation, common_flags
from securecfg.cli.output import shown_time, timestamp
from securecfg.cli.signing import signing_options
from securecfg.errors import ScopeSealed
from securecfg.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from securecfg.cli.signing import SigningOptions
    from securecfg.vault import Vault
    from securecfg.vault.backups.notes import BackupNote
    from securecfg.vault.rekeying.compromise import ExposedVersions
    from securecfg.vault.rekeying.scope_compromise import ScopeAftermath


@click.command(
    cls=Verb,
    examples=(
        "securecfg key compromise --dry-run",
        "securecfg key compromise --reason 'laptop of Ana stolen, unlocked'",
        "securecfg key compromise --drop-slots           # keeps only the key with which it is opened now",
        "securecfg key compromise --resume               # goes on where an earlier call was interrupted",
        "securecfg key compromise --resume --key identity:pay.identity    # what a reader of sealed scopes can do",
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
    makes nobody forget: every secret that is listed needs a new value.

    Sealed scopes get new keys too. What this key does not read in them waits for somebody who does: it is listed, and
    done with `--resume` by a member's key. `--resume` by the vault's root then erases the old keys. The key that opens
    scopes is replaced as well. Where people are the administrators of scopes they sign all of it.
    """
    from securecfg.vault.backups.notes import find_notes
    from securecfg.vault.rekeying.scope_compromise import ScopeCompromise

    with signing.open(invocation) as (vault, sign_for):
        if not vault.is_by_root:
            _finish_as_member(invocation, vault, resume=resume)
            return
        worst = ScopeCompromise.with_signing(vault.authority, sign_for)
        if dry_run:
            exposed, backups = worst.find_exposed(), find_notes(vault.opened)
            count, paths = len(vault.opened.replica.keyring.slots), worst.paths()
            result = {"slots": count, "scopes": paths, "is_done": False} | _told(exposed, backups)
            would = f"would replace  all keys, {counted(count, 'slot')}"
            inside = [f"would replace  all keys of {path}" for path in paths]
            invocation.emit(result, *_lines(exposed, backups), would, *inside)
            return
        vault.authority.require("key.manage", "")
        if not resume:
            dropping = ", and remove every other slot" if drop_slots else ""
            invocation.confirm(f"Replace every key of this vault{dropping}?")
        with invocation.progress("replacing everything") as progress:
            if resume:
                done, scopes = worst.resume(progress)
            else:
                done, scopes = worst.declare(reason=invocation.reason, drops_slots=drop_slots, progress=progress)
    result = {"epoch": done.epoch, "slots": done.slots, "encrypted_count": done.encrypted_count}
    result |= {"scopes": [_scope_to_json(each) for each in scopes]}
    anew = f"{counted(done.encrypted_count, 'value')} encrypted anew"
    kept = f"{counted(done.slots, 'slot')} open{'s' if done.slots == 1 else ''} the vault"
    invocation.emit(
        result | _told(done.exposed, done.backups),
        f"replaced  all keys; scope key of epoch {done.epoch}; {anew}; {kept}",
        *(f"replaced  all keys of {each.path}" for each in scopes),
        *_lines(done.exposed, done.backups),
    )
    for each in scopes:
        _note_what_is_left(invocation, each)
    invocation.note("hint: give each of them a new value; `securecfg audit exposed` lists those that have none yet")


def _finish_as_member(invocation: Invocation, vault: Vault, *, resume: bool) -> None:
    """Do what a member of a role can: encrypt anew what its key reads and writes.

    Raises:
        ScopeSealed: It was not asked to go on.
    """
    from securecfg.vault.rekeying.scope_compromise import finish_as_member

    if not resume:
        message = "a compromise is declared by whoever opens the vault by its root; this key opens scopes of it"
        raise ScopeSealed(
            message, hint="give a key of an administrator: `--key URI`; with this key, `--resume` goes on"
        )
    with invocation.progress("encrypting anew") as progress:
        done = finish_as_member(vault, progress)
    invocation.emit(
        {"scopes": [_scope_to_json(each) | {"encrypted_count": count} for count, each in done]},
        *(f"replaced  {each.path}   {counted(count, 'secret')} encrypted anew" for count, each in done),
    )
    for _, each in done:
        _note_what_is_left(invocation, each)


def _note_what_is_left(invocation: Invocation, scope: ScopeAftermath) -> None:
    if scope.is_done:
        return
    command = "`securecfg key compromise --resume --key identity:FILE`"
    if scope.waiting:
        waiting = counted(scope.waiting, "data key")
        invocation.note(f"note: {waiting} of {scope.path} wait for somebody who reads it: {command}")
    elif scope.secrets:
        waiting = counted(scope.secrets, "secret")
        invocation.note(f"note: {waiting} of {scope.path} wait for somebody who reads and writes it: {command}")
    if scope.drops:
        waiting = counted(scope.drops, "dropped value")
        wait = "waits" if scope.drops == 1 else "wait"
        command = f"`securecfg scope collect {scope.path} --key identity:FILE`"
        invocation.note(f"note: {waiting} of {scope.path} {wait} under a key that may be known: {command}")
    if not (scope.has_both or scope.waiting):
        invocation.note(f"hint: no role does both; for that time: `securecfg scope grant {scope.path} --write ROLE`")


def _scope_to_json(scope: ScopeAftermath) -> dict[str, object]:
    return {
        "path": scope.path,
        "waiting_data_keys": scope.waiting,
        "waiting_secrets": scope.secrets,
        "waiting_drops": scope.drops,
        "has_both": scope.has_both,
        "is_done": scope.is_done,
    }


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
