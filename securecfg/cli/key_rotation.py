"""`securecfg key rotate` and `retire`: replacing the keys of a vault while it is in use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from securecfg.cli.arguments import Number
from securecfg.cli.backup import note_backups
from securecfg.cli.groups import Noun, Verb
from securecfg.cli.invocation import Invocation, common_flags
from securecfg.cli.signing import signing_options
from securecfg.errors import ScopeSealed, UsageError
from securecfg.words import counted

if TYPE_CHECKING:
    from securecfg.cli.signing import SigningOptions
    from securecfg.vault import Vault
    from securecfg.vault.rekeying.scopes import ScopeKeyring

_DRY_RUN = click.option("--dry-run", is_flag=True, help="Only say what would be done.")
_WHOLE = "/"


@click.group(cls=Noun)
def rotate() -> None:
    """Replace a key by a new one; readers and writers go on meanwhile."""


@rotate.command(examples=("securecfg key rotate root",))
@signing_options
@_DRY_RUN
@common_flags
def root(invocation: Invocation, *, signing: SigningOptions, dry_run: bool) -> None:
    """Replace the root keys of the vault and of its sealed scopes.

    Every key that opens them goes on to do so, and nobody is asked for one. If it is interrupted, call it again.
    """
    from securecfg.vault.keys.changes import KeyChanges
    from securecfg.vault.rekeying.scopes import ScopeKeyring

    with signing.open(invocation) as (vault, sign_for):
        _require_root(vault, "the root keys are replaced")
        vault.authority.require("key.manage", "")
        slots = len(vault.opened.replica.keyring.slots)
        scopes = ScopeKeyring.with_signing(vault.authority, sign_for)
        if dry_run:
            paths = scopes.paths()
            told = f"would seal  a new root to {counted(slots, 'slot')}"
            lines = [told, *(f"would replace  the root of {path}" for path in paths)]
            invocation.emit({"slots": slots, "scopes": paths, "is_done": False}, *lines)
            return
        generation = KeyChanges(vault.authority).rotate_root()
        with invocation.progress("replacing the roots of scopes") as progress:
            paths = scopes.rotate_roots(progress)
        note_backups(invocation, vault)
    invocation.emit(
        {"generation": generation, "slots": slots, "scopes": paths},
        f"rotated  root, sealed to {counted(slots, 'slot')}",
        *(f"rotated  root of {path}" for path in paths),
    )


@rotate.command(
    examples=(
        "securecfg key rotate scope /",
        "securecfg key rotate scope / --resume           # goes on where an earlier call was interrupted",
        "securecfg key rotate scope payments             # of a sealed scope",
        "securecfg key rotate scope payments --resume --key identity:pay.identity    # what a reader can do",
    )
)
@click.argument("path", default=_WHOLE)
@click.option("--resume", is_flag=True, help="Put no new key in use; only bring everything to the one that is.")
@click.option("--keep", is_flag=True, help="Do not forget the old key when nothing needs it any more.")
@signing_options
@_DRY_RUN
@common_flags
def scope(
    invocation: Invocation, *, path: str, resume: bool, keep: bool, signing: SigningOptions, dry_run: bool
) -> None:
    """Replace the key that wraps the data keys and seals all names, and bring everything to the new one.

    Values are not encrypted anew (`securecfg key rotate data` does that), so it takes seconds for a million secrets. It
    may be interrupted anywhere; what is not done yet goes on with the old key until `--resume`.

    A sealed scope gets a new value key too. Whoever opens the vault by its root puts both in use and brings the names
    over; the data keys only a reader can, and does when it opens the scope next. `--resume` then forgets the old keys.
    """
    from securecfg.vault.rekeying.scopes import ScopeKeyring

    with signing.open(invocation) as (vault, sign_for):
        if path == _WHOLE:
            _rotate_whole(invocation, vault, resume=resume, keep=keep, dry_run=dry_run)
        elif vault.is_by_root:
            vault.authority.require("key.manage", "")
            scopes = ScopeKeyring.with_signing(vault.authority, sign_for)
            _rotate_scope(invocation, scopes, path, resume=resume, keep=keep, dry_run=dry_run)
        elif resume and not dry_run:
            _bring_over(invocation, vault, path)
        else:
            _require_root(vault, "new keys of a scope are put in use", "; with this key, `--resume` brings data keys")


def _rotate_whole(invocation: Invocation, vault: Vault, *, resume: bool, keep: bool, dry_run: bool) -> None:
    from securecfg.vault.keys.changes import KeyChanges

    _require_root(vault, "the keys of the vault are replaced")
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


def _rotate_scope(
    invocation: Invocation, scopes: ScopeKeyring, path: str, *, resume: bool, keep: bool, dry_run: bool
) -> None:
    if dry_run:
        where = scopes.around(path)
        what = "bring everything to the keys in use" if resume else "put a new scope key and a new value key in use"
        invocation.emit({"path": where, "is_done": False}, f"would {what} in {where}")
        return
    with invocation.progress("rotating") as progress:
        done = scopes.rotate(path, progress, resumes=resume, keeps=keep)
    result = {
        "path": done.path,
        "epoch": done.epoch,
        "value_epoch": done.value_epoch,
        "retired": done.is_scope_key_alone,
        "retired_value_epochs": list(done.retired_values),
        "waiting": done.waiting,
    }
    told = f"scope key of epoch {done.epoch}, value key of epoch {done.value_epoch}"
    left = "" if keep or done.waiting else ", older ones are forgotten"
    invocation.emit(result, f"rotated  {done.path}   {told}{left}")
    if done.waiting:
        waiting = f"{counted(done.waiting, 'data key')} of {done.path}"
        invocation.note(f"note: left under an older value key until a reader opens the scope: {waiting}")
        invocation.note(f"hint: then forget that key: `securecfg key rotate scope {done.path} --resume`")


def _bring_over(invocation: Invocation, vault: Vault, path: str) -> None:
    """Do what a member can: opening the scope brought over what its key reads."""
    from securecfg.vault.scopes.value_keys import count_waiting, rewrap_values

    part = vault.scope(path)
    rewrap_values(part.opened)
    waiting = count_waiting(part.opened)
    told = "all data keys are under the value key in use"
    if waiting:
        told = f"{counted(waiting, 'data key')} under value keys that this key was not granted"
    invocation.emit({"path": path, "waiting": waiting}, f"rotated  {path}   {told}")


@rotate.command(
    examples=(
        "securecfg key rotate data payments/stripe/api_key",
        "securecfg key rotate data payments/             # all secrets below",
        "securecfg key rotate data payments/ --key identity:pay.identity     # in a sealed scope",
    )
)
@click.argument("path")
@common_flags
def data(invocation: Invocation, *, path: str) -> None:
    """Encrypt every version of some secrets anew, under new data keys, and destroy the old ones.

    It is needed only where somebody may have kept data keys. Whoever has read a value goes on to know it: then write a
    new one.
    """
    from securecfg.vault.rekeying.data import rotate_data

    with invocation.open() as vault, invocation.progress("encrypting") as progress:
        done = rotate_data(vault, path, progress)
    secrets = counted(done.secrets, "secret")
    result = {"path": path, "secret_count": done.secrets, "left": list(done.left)}
    invocation.emit(result, f"rotated  the data keys of {secrets}")
    for scope_path in done.left:
        invocation.note(f"note: not in `{scope_path}`, which this key does not both read and write")


@rotate.command(examples=("securecfg key rotate audit", "securecfg key rotate audit payments     # of a sealed scope"))
@click.argument("path", default=_WHOLE)
@signing_options
@common_flags
def audit(invocation: Invocation, *, path: str, signing: SigningOptions) -> None:
    """Replace the key that signs the log; the old one signs the hand-over and is erased.

    It changes by itself after 2^20 records and when a slot is removed. Each sealed scope has a log of its own.
    """
    from securecfg.vault.commits.epochs import rotate_signing_key
    from securecfg.vault.rekeying.scopes import ScopeKeyring

    with signing.open(invocation) as (vault, sign_for):
        _require_root(vault, "the keys that sign logs are replaced")
        if path == _WHOLE:
            epoch = rotate_signing_key(vault.authority)
            vkey = str(vault.log.current_vkey)
        else:
            epoch, vkey = ScopeKeyring.with_signing(vault.authority, sign_for).rotate_audit(path)
    invocation.emit({"epoch": epoch, "vkey": vkey}, f"rotated  signing key of epoch {epoch}", f"vkey     {vkey}")


@click.command(
    cls=Verb,
    examples=(
        "securecfg key retire 0",
        "securecfg key retire 0 payments            # a scope key of a sealed scope",
        "securecfg key retire 0 payments --value    # a value key of it",
    ),
)
@click.argument("epoch", type=Number(0))
@click.argument("path", default=_WHOLE)
@click.option("--value", is_flag=True, help="Of a sealed scope: a value key, and what was granted of it.")
@signing_options
@common_flags
def retire(invocation: Invocation, *, epoch: int, path: str, value: bool, signing: SigningOptions) -> None:
    """Forget the scope key of an epoch, and all older ones, if nothing is sealed under them any more.

    Older copies of the vault that were made before the rotation still hold it, sealed.
    """
    from securecfg.vault.keys.changes import KeyChanges
    from securecfg.vault.rekeying.scopes import ScopeKeyring

    if value and path == _WHOLE:
        message = "only sealed scopes have value keys"
        raise UsageError(message, hint="name the scope: `securecfg key retire EPOCH PATH --value`")
    with signing.open(invocation) as (vault, sign_for):
        _require_root(vault, "keys are retired")
        if path == _WHOLE:
            KeyChanges(vault.authority).retire(epoch)
        else:
            ScopeKeyring.with_signing(vault.authority, sign_for).retire(path, epoch, of_values=value)
        note_backups(invocation, vault)
    kind = "value" if value else "scope"
    where = {} if path == _WHOLE else {"path": path, "kind": kind}
    invocation.emit({"epoch": epoch} | where, f"retired  {kind} key of epoch {epoch}")


def _require_root(vault: Vault, what: str, otherwise: str = "") -> None:
    """Refuse what only the administrators of a vault can do.

    Raises:
        ScopeSealed: The key at hand opens sealed scopes only.
    """
    if not vault.is_by_root:
        message = f"{what} by whoever opens the vault by its root; this key opens scopes of it"
        raise ScopeSealed(message, hint=f"give a key of an administrator: `--key URI`{otherwise}")
