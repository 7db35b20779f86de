"""`securecfg key rotate` and `retire`: replacing the keys of a vault while it is in use."""

from __future__ import annotations

import click

from securecfg.cli.arguments import Number
from securecfg.cli.backup import note_backups
from securecfg.cli.groups import Noun, Verb
from securecfg.cli.invocation import Invocation, common_flags
from securecfg.errors import InvalidPath
from securecfg.words import counted

_DRY_RUN = click.option("--dry-run", is_flag=True, help="Only say what would be done.")


@click.group(cls=Noun)
def rotate() -> None:
    """Replace a key by a new one; readers and writers go on meanwhile."""


@rotate.command(examples=("securecfg key rotate root",))
@_DRY_RUN
@common_flags
def root(invocation: Invocation, *, dry_run: bool) -> None:
    """Replace the root key. Every key that opens the vault goes on to do so, and nobody is asked for one."""
    from securecfg.vault.key_changes import KeyChanges

    with invocation.open() as vault:
        vault.authority.require("key.manage", "")
        slots = len(vault.opened.replica.keyring.slots)
        if dry_run:
            invocation.emit({"slots": slots, "is_done": False}, f"would seal  a new root to {counted(slots, 'slot')}")
            return
        generation = KeyChanges(vault.authority).rotate_root()
        note_backups(invocation, vault)
    invocation.emit({"generation": generation, "slots": slots}, f"rotated  root, sealed to {counted(slots, 'slot')}")


@rotate.command(
    examples=(
        "securecfg key rotate scope /",
        "securecfg key rotate scope / --resume           # goes on where an earlier call was interrupted",
    )
)
@click.argument("path", default="/")
@click.option("--resume", is_flag=True, help="Put no new key in use; only bring everything to the one that is.")
@click.option("--keep", is_flag=True, help="Do not forget the old key when nothing needs it any more.")
@_DRY_RUN
@common_flags
def scope(invocation: Invocation, *, path: str, resume: bool, keep: bool, dry_run: bool) -> None:
    """Replace the key that wraps the data keys and seals all names, and bring everything to the new one.

    Values are not encrypted anew (`securecfg key rotate data` does that), so it takes seconds for a million secrets. It
    may be interrupted anywhere; what is not done yet goes on with the old key until `--resume`.
    """
    from securecfg.vault.key_changes import KeyChanges

    if path != "/":
        message = "there is only the scope `/`"
        raise InvalidPath(message, hint="`securecfg key rotate scope /`")
    with invocation.open() as vault:
        changes = KeyChanges(vault.authority)
        usage = [key for key in changes.usage() if key.purpose == "scope"]
        active = next(key.epoch for key in usage if key.is_active)
        if dry_run:
            rows = sum(key.rows or 0 for key in usage if not (resume and key.is_active))
            epoch = active if resume else active + 1
            result = {"epoch": epoch, "rows": rows, "is_done": False}
            invocation.emit(result, f"would bring  {counted(rows, 'row')} to the scope key of epoch {epoch}")
            return
        epoch = active if resume else changes.begin_scope_epoch()
        with invocation.progress("rotating") as progress:
            changes.carry_over(progress)
        is_alone = not keep and changes.retire_older()
    left = ", older ones are forgotten" if is_alone else ""
    invocation.emit({"epoch": epoch, "retired": is_alone}, f"rotated  scope key of epoch {epoch}{left}")


@rotate.command(
    examples=(
        "securecfg key rotate data payments/stripe/api_key",
        "securecfg key rotate data payments/             # all secrets below",
    )
)
@click.argument("path")
@common_flags
def data(invocation: Invocation, *, path: str) -> None:
    """Encrypt every version of some secrets anew, under new data keys, and destroy the old ones.

    It is needed only where somebody may have kept data keys. Whoever has read a value goes on to know it: then write a
    new one.
    """
    from securecfg.vault.key_changes import KeyChanges

    with invocation.open() as vault, invocation.progress("encrypting") as progress:
        count = KeyChanges(vault.authority).rotate_data(path, progress)
    secrets = counted(count, "secret")
    invocation.emit({"path": path, "secret_count": count}, f"rotated  the data keys of {secrets}")


@rotate.command(examples=("securecfg key rotate audit",))
@common_flags
def audit(invocation: Invocation) -> None:
    """Replace the key that signs the log; the old one signs the hand-over and is erased.

    It changes by itself after 2^20 records and when a slot is removed.
    """
    from securecfg.vault.epochs import rotate_signing_key

    with invocation.open() as vault:
        epoch = rotate_signing_key(vault.authority)
        vkey = str(vault.log.current_vkey)
    invocation.emit({"epoch": epoch, "vkey": vkey}, f"rotated  signing key of epoch {epoch}", f"vkey     {vkey}")


@click.command(cls=Verb, examples=("securecfg key retire 0",))
@click.argument("epoch", type=Number(0))
@common_flags
def retire(invocation: Invocation, *, epoch: int) -> None:
    """Forget the scope key of an epoch, and all older ones, if nothing is sealed under them any more.

    Older copies of the vault that were made before the rotation still hold it, sealed.
    """
    from securecfg.vault.key_changes import KeyChanges

    with invocation.open() as vault:
        KeyChanges(vault.authority).retire(epoch)
        note_backups(invocation, vault)
    invocation.emit({"epoch": epoch}, f"retired  scope key of epoch {epoch}")
