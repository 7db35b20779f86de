"""`securecfg scope introduce` and `vault trust`: what an administrator knows, for who opens a vault the first time."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from securecfg.cli.groups import Verb
from securecfg.cli.invocation import Invocation, common_flags
from securecfg.cli.signing import signing_options
from securecfg.errors import SignatureInvalid, UsageError
from securecfg.words import counted

if TYPE_CHECKING:
    from pathlib import Path

    from securecfg.cli.signing import SigningOptions
    from securecfg.vault.administrators.introduced import Accepted
    from securecfg.vault.administrators.introductions import Introduction


@click.command(
    cls=Verb,
    examples=(
        "securecfg scope introduce --for svc:pay -o pay.introduction",
        "securecfg scope introduce -o everybody.introduction      # ids and hashes only",
    ),
)
@click.option("--for", "recipient", metavar="PRINCIPAL", help="Whom it is sealed to; else it names no scope.")
@click.option("--out", "-o", required=True, type=click.Path(), metavar="FILE", help="A new file.")
@signing_options
@common_flags
def introduce(invocation: Invocation, *, recipient: str | None, out: str, signing: SigningOptions) -> None:
    """Vouch for the administrators and the state of the scopes, for somebody who has not seen the vault yet.

    On the member's machine `securecfg vault trust FILE` takes it up; a program opens the vault with `introduction=`.
    Tell him the fingerprint by another way than the file goes.
    """
    from securecfg.files import create_public
    from securecfg.vault.administrators.introducing import introduce as make

    with signing.open(invocation) as (vault, sign_for):
        made = make(vault.authority, recipient, sign_for)
    create_public(out, made.content)
    member = made.member
    invocation.emit(
        {
            "file": out,
            "for": member.name if member is not None else None,
            "scopes": list(made.paths),
            "administrators_fingerprint": made.fingerprint,
        },
        f"written  {out}   for  {member.name if member is not None else 'everybody'}",
        f"scopes   {', '.join(made.paths)}",
        f"administrators  {made.fingerprint}",
    )


@click.command(
    cls=Verb,
    examples=(
        "securecfg vault trust pay.introduction --key identity:pay.identity",
        "securecfg vault trust pay.introduction --fingerprint 7K4M-Q2XZ-0V9D-6T1B-M3NE-H8RC     # asks nobody",
        "securecfg vault trust checkpoint-of-today      # of a vault without scopes",
    ),
)
@click.argument("file", type=click.Path())
@click.option("--fingerprint", metavar="TEXT", help="Instead of asking: what the administrators have told you.")
@common_flags
def trust(invocation: Invocation, *, file: str, fingerprint: str | None) -> None:
    """Take up what an administrator knows of the vault, as if this machine had seen it itself.

    FILE is of `scope introduce`, or a checkpoint of `audit checkpoint`. Before you say yes compare the fingerprint with
    the administrators', by telephone. What this machine knows already is never weakened, and what contradicts it is
    refused. An introduction that is sealed needs the `identity:` that it is for as --key.
    """
    from securecfg.vault.administrators.introduced import accept_introduction
    from securecfg.vault.administrators.introductions import is_sealed, read_introduction
    from securecfg.vault.trust.first_seen import fingerprint_of

    path = invocation.vault_path()
    provider = invocation.provider() if is_sealed(_content(file)) else None
    told = read_introduction(file, provider)
    shown = fingerprint_of(told.vault_id, told.trust) if told.trust is not None else None
    if fingerprint is not None:
        _verify_fingerprint(fingerprint, shown)
    else:
        _confirm(invocation, path, told, shown)
    accepted = accept_introduction(path, told)
    result = {
        "vault": str(path),
        "id": told.vault_id.hex(),
        "administrators_fingerprint": shown,
        "made": told.made or None,
        "logs": [_as_object(one, told) for one in accepted],
    }
    invocation.emit(
        result,
        f"trusted  {told.vault_id.hex()} at {path}",
        *([f"administrators  {shown}"] if shown is not None else []),
        *(_line(one, told) for one in accepted),
    )


def _content(file: str) -> bytes:
    from securecfg.files import read_bounded
    from securecfg.vault.administrators.introductions import FILE_BYTES_MAX

    return read_bounded(file, FILE_BYTES_MAX)


def _verify_fingerprint(given: str, shown: str | None) -> None:
    if shown is None:
        message = "a checkpoint names no administrators"
        raise UsageError(
            message, hint="give it without `--fingerprint`; nobody but who gave you the file vouches for it"
        )
    if _plain(given) != _plain(shown):
        message = "the introduction names administrators with another fingerprint"
        raise SignatureInvalid(
            message, hint="ask an administrator, by another way than the file came; it may be forged"
        )


def _plain(fingerprint: str) -> str:
    """Return a fingerprint as people write it in one spelling."""
    return re.sub("[- ]", "", fingerprint).upper().replace("O", "0").replace("I", "1").replace("L", "1")


def _confirm(invocation: Invocation, path: Path, told: Introduction, shown: str | None) -> None:
    if shown is None:
        invocation.confirm(f"Is {path} the vault {told.vault_id.hex()}, and is the checkpoint from somebody you trust?")
        return
    invocation.note(f"administrators  {shown}   made  {told.made}")
    invocation.confirm("Is that the fingerprint that an administrator has told you?")


def _as_object(one: Accepted, told: Introduction) -> dict[str, object]:
    mark = told.marks[one.log_id]
    return {
        "id": one.log_id.hex(),
        "path": told.paths.get(one.log_id),
        "record_count": one.size,
        "recorded_count": one.known,
        "revision": mark.serial or None,
    }


def _line(one: Accepted, told: Introduction) -> str:
    is_whole = one.log_id == told.vault_id
    name = "the vault" if is_whole else told.paths.get(one.log_id, f"scope {one.log_id.hex()}")
    known = f", of which this machine knew {one.known}" if one.known is not None else ""
    if one.known is not None and one.known >= one.size:
        known = f"; this machine knows {one.known} already"
    revision = "" if is_whole else f", revision {told.marks[one.log_id].serial}"
    return f"  {name}{revision}: {counted(one.size, 'record')}{known}"
