"""`securecfg key ceremony`: people come together, are handed the shares of a key, or open a vault with them."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from securecfg.cli.arguments import Number
from securecfg.cli.ceremony_results import emit_rehearsal, lines_of, result_of, shown, taken_part, write_transcript
from securecfg.cli.groups import Noun
from securecfg.cli.invocation import Invocation, common_flags
from securecfg.errors import SettingMissing, UsageError
from securecfg.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from securecfg.cli.ceremony_holders import Invited
    from securecfg.cli.stage import Stage
    from securecfg.keys import Share
    from securecfg.secret import Secret
    from securecfg.vault import Vault

_TRANSCRIPT_BYTES_MAX = 1 << 20
_VKEY_BYTES_MAX = 4 << 10

_HOLDERS = click.option(
    "--holder",
    "holders",
    multiple=True,
    required=True,
    metavar="NAME[=FILE]",
    help="Who takes part, at the terminal or with a file; `NAME=FILE,identity:PATH` for a file only they can open.",
)
_THRESHOLD = click.option("--threshold", type=Number(2), required=True, metavar="K", help="How many shares are needed.")
_TRANSCRIPT = click.option(
    "--transcript",
    type=click.Path(),
    metavar="FILE",
    help="A new file: what was done, signed by the log's key.",
)
_DRY_RUN = click.option("--dry-run", is_flag=True, help="Rehearse: everything but the change and the transcript.")


@click.group(cls=Noun)
def ceremony() -> None:
    """Hand out the shares of a key to people who come together, and open a vault with them.

    Each comes to the terminal alone; what he is shown is taken away before the next one comes. Nothing secret is
    written but the files that holders asked for.
    """


@ceremony.command(
    "create",
    examples=(
        "securecfg key ceremony create board.vault --threshold 2 --holder ana --holder ben --holder eve --dry-run",
    ),
)
@click.argument("path", type=click.Path())
@click.option("--admin", metavar="NAME", help="The vault's administrator, user:NAME; else --as, or you.")
@_THRESHOLD
@_HOLDERS
@_TRANSCRIPT
@_DRY_RUN
@common_flags
def create(
    invocation: Invocation,
    *,
    path: str,
    admin: str | None,
    threshold: int,
    holders: tuple[str, ...],
    transcript: str | None,
    dry_run: bool,
) -> None:
    """Create a vault that opens with the shares alone, until other keys are added."""
    from securecfg.audit.transcript import Kind
    from securecfg.cli.ceremony_holders import refuse_existing, written
    from securecfg.cli.principals import login
    from securecfg.keys import ShamirProvider, generate_shares
    from securecfg.vault import Vault
    from securecfg.vault.keys.ceremonies import Ceremony

    invited = _invited(invocation, holders)
    file = _transcript(transcript, is_needed=not dry_run)
    refuse_existing([path, *file, *(one.file for one in invited if one.file)])
    begun_ns = _now_ns()
    shares = generate_shares(threshold, len(invited))
    with _stage(invocation, invited) as stage:
        _hand_out(stage, invited, shares, is_rehearsal=dry_run)
    if dry_run:
        emit_rehearsal(invocation, shares, f"would create  {path}")
        return
    provider = ShamirProvider(lambda: shares[:threshold])
    with written(invited, shares):
        created = Vault.create(path, key=provider, admin=admin or invocation.principal or login())
    with created as vault:
        write_transcript(
            invocation, vault, Ceremony(Kind.CREATED, begun_ns, shares[0], taken_part(invited, shares), 1), file[0]
        )
        vkey = str(vault.log.vkey)
    result = result_of(invited, shares, 1, file[0]) | {"vault": path, "vkey": vkey}
    invocation.emit(
        result,
        f"created  {path}   opens with {threshold} of {len(shares)} shares",
        f"written  {file[0]}",
        f"vkey     {vkey} (note it: transcripts and reports are verified with it)",
    )


@ceremony.command(
    "add",
    examples=(
        "securecfg key ceremony add --threshold 2 --holder ana --holder ben --holder eve --transcript may.txt",
        "securecfg key ceremony add --threshold 2 --holder ana --holder 'ben=ben.share,identity:ben.pub' --dry-run",
    ),
)
@_THRESHOLD
@_HOLDERS
@click.option("--label", default="", metavar="TEXT", help="What to call the slot.")
@_TRANSCRIPT
@_DRY_RUN
@common_flags
def add(
    invocation: Invocation,
    *,
    threshold: int,
    holders: tuple[str, ...],
    label: str,
    transcript: str | None,
    dry_run: bool,
) -> None:
    """Add a key to the vault of which each holder gets a share. It counts once all have confirmed theirs."""
    from securecfg.audit.transcript import Kind
    from securecfg.cli.ceremony_holders import refuse_existing, written
    from securecfg.keys import ShamirProvider, generate_shares
    from securecfg.vault.keys.ceremonies import Ceremony
    from securecfg.vault.keys.slots import Slots

    invited = _invited(invocation, holders)
    file = _transcript(transcript, is_needed=not dry_run)
    refuse_existing([*file, *(one.file for one in invited if one.file)])
    shares = generate_shares(threshold, len(invited))
    with invocation.open() as vault:
        vault.authority.require("key.manage", "")
        begun_ns = _now_ns()
        with _stage(invocation, invited) as stage:
            _hand_out(stage, invited, shares, is_rehearsal=dry_run)
        if dry_run:
            emit_rehearsal(invocation, shares, "would add  a slot")
            return
        with written(invited, shares):
            number = Slots(vault.authority).add(ShamirProvider(lambda: shares[:threshold]), label=label)
        write_transcript(
            invocation, vault, Ceremony(Kind.ADDED, begun_ns, shares[0], taken_part(invited, shares), number), file[0]
        )
    invocation.emit(
        result_of(invited, shares, number, file[0]),
        f"added    slot {number}  shamir, {threshold} of {len(shares)}",
        f"written  {file[0]}",
    )


@ceremony.command(
    "recover",
    examples=(
        "securecfg key ceremony recover --holder ana --holder ben --add-key file:new.key --transcript fire.txt",
        "securecfg key ceremony recover --holder ana --holder 'ben=ben.share,identity:ben.identity' --dry-run",
    ),
)
@_HOLDERS
@click.option("--add-key", metavar="URI", help="The key that the vault gets, in the place of what was lost.")
@click.option("--label", default="", metavar="TEXT", help="What to call its slot.")
@_TRANSCRIPT
@_DRY_RUN
@common_flags
def recover(
    invocation: Invocation,
    *,
    holders: tuple[str, ...],
    add_key: str | None,
    label: str,
    transcript: str | None,
    dry_run: bool,
) -> None:
    """Open the vault with shares, and give it a new key. With `--dry-run` it is the drill: do the shares open it?"""
    from securecfg.audit.transcript import Kind
    from securecfg.cli.ceremony_holders import collect, refuse_existing
    from securecfg.keys import ShamirProvider
    from securecfg.keys.shares import combine_shares
    from securecfg.vault.keys.ceremonies import Ceremony
    from securecfg.vault.keys.slots import find_slot

    if add_key is None and not dry_run:
        message = "a recovery gives the vault a new key"
        raise UsageError(message, hint="`--add-key URI`, or `--dry-run` to try the shares only")
    invited = _invited(invocation, holders)
    file = _transcript(transcript, is_needed=not dry_run)
    refuse_existing(file)
    path = invocation.vault_path()
    begun_ns = _now_ns()
    with _stage(invocation, invited) as stage:
        shares = collect(stage, invited)
    combine_shares(shares)
    provider = ShamirProvider(lambda: shares)
    number = find_slot(path, provider)
    if dry_run:
        emit_rehearsal(invocation, shares, f"would open  slot {number}")
        return
    with invocation._replace(key="shamir:").open(key=provider) as vault:
        new, code = _add_key(invocation, vault, str(add_key), label)
        if code is not None:
            # Before anything that can fail: the slot is there, and nobody else knows its key.
            invocation.note(f"recovery code {code.reveal()} (shown once)")
        made = Ceremony(Kind.RECOVERED, begun_ns, shares[0], taken_part(invited, shares), number, new)
        write_transcript(invocation, vault, made, file[0])
    invocation.emit(
        result_of(invited, shares, number, file[0])
        | {"new_slot": new}
        | ({"recovery_code": code.reveal()} if code else {}),
        f"opened   slot {number}   added  slot {new}",
        f"written  {file[0]}",
    )


@ceremony.command(
    "verify",
    examples=(
        "securecfg key ceremony verify may.txt",
        "securecfg key ceremony verify may.txt --vkey trusted.vkey      # needs no vault",
    ),
)
@click.argument("file", type=click.Path())
@click.option("--vkey", metavar="KEY", help="The log's verifier key, or a file that holds it; else the vault is asked.")
@common_flags
def verify(invocation: Invocation, *, file: str, vkey: str | None) -> None:
    """Check a transcript: that nobody altered it, and with the vault, that its log continues what was known then."""
    from securecfg.audit import parse_vkey
    from securecfg.audit.transcript import open_transcript
    from securecfg.files import read_bounded
    from securecfg.vault.keys.ceremonies import verify_transcript

    raw = read_bounded(file, _TRANSCRIPT_BYTES_MAX)
    if vkey is None:
        with invocation.open() as vault:
            found = verify_transcript(vault.authority, raw)
    else:
        text = read_bounded(vkey, _VKEY_BYTES_MAX).decode(errors="replace") if Path(vkey).is_file() else vkey
        found = open_transcript(raw, parse_vkey(text.strip()))
    invocation.emit(shown(found) | {"compared_with_vault": vkey is None}, *lines_of(found))


@ceremony.command(
    "open",
    examples=("securecfg key ceremony open ben.share --with identity:ben.identity --out share.txt",),
)
@click.argument("file", type=click.Path())
@click.option("--with", "with_", required=True, metavar="URI", help="The identity that the share was sealed to.")
@click.option("--out", required=True, type=click.Path(), metavar="FILE", help="A new file for the open share.")
@common_flags
def open_(invocation: Invocation, *, file: str, with_: str, out: str) -> None:
    """Open a share that was sealed to an identity, for `key combine` and `shamir:`. No vault is needed."""
    from securecfg.files import create_private, read_bounded
    from securecfg.keys import IdentityProvider, format_share, open_provider
    from securecfg.keys.sealed_shares import CHARACTERS_MAX, open_share, parse_sealed_share

    provider = open_provider(with_, ask=invocation.ask)
    if not isinstance(provider, IdentityProvider):
        message = "a share is sealed to an identity"
        raise UsageError(message, hint="`--with identity:PATH`")
    sealed = parse_sealed_share(read_bounded(file, CHARACTERS_MAX + 1).decode("latin-1").removesuffix("\n"))
    share = open_share(sealed, provider)
    create_private(out, f"{format_share(share)}\n".encode())
    result = {"share": share.number, "shares": share.total, "threshold": share.threshold, "file": out}
    invocation.emit(result, f"written  share {share.number} of {share.total} to {out} (mode 0600)")


# --- what they have in common -----------------------------------------------------------------------------------------


def _invited(invocation: Invocation, holders: Sequence[str]) -> tuple[Invited, ...]:
    from securecfg.cli.ceremony_holders import parse_holders

    return parse_holders(holders, invocation.ask)


def _transcript(file: str | None, *, is_needed: bool) -> list[str]:
    if file is None and is_needed:
        message = "a ceremony leaves a transcript"
        raise SettingMissing(message, hint="name a new file with `--transcript FILE`")
    return [file] if file is not None else []


@contextmanager
def _stage(invocation: Invocation, invited: Sequence[Invited]) -> Iterator[Stage | None]:
    """Open the terminal, where somebody has to come to it."""
    from securecfg.cli.stage import open_stage

    with ExitStack() as stack:
        is_needed = any(not one.file for one in invited)
        yield stack.enter_context(open_stage(is_silent=invocation.is_silent)) if is_needed else None


def _hand_out(stage: Stage | None, invited: Sequence[Invited], shares: Sequence[Share], *, is_rehearsal: bool) -> None:
    from securecfg.cli.ceremony_holders import hand_out

    if stage is not None:
        threshold = shares[0].threshold
        kind = "A rehearsal: nothing will be changed." if is_rehearsal else "It counts once all have confirmed."
        stage.say(f"{counted(len(shares), 'share')}, of which {threshold} will be needed. {kind}")
    hand_out(stage, invited, shares, is_rehearsal=is_rehearsal)


def _add_key(invocation: Invocation, vault: Vault, uri: str, label: str) -> tuple[int, Secret[str] | None]:
    """Return the number of the new slot, and the recovery code where that is its key."""
    from securecfg.cli.new_keys import make_missing, make_or_open_provider, warn_if_weak
    from securecfg.vault.keys.slots import Slots

    vault.authority.require("key.manage", "")
    provider, code = make_or_open_provider(invocation, uri)
    make_missing(provider)
    number = Slots(vault.authority).add(provider, label=label)
    warn_if_weak(invocation, provider)
    return number, code


def _now_ns() -> int:
    from securecfg.clock import SystemClock

    return SystemClock().now_ns()
