"""`securecfg scope break-glass`: an identity that people hold together, for when nobody else can read."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from securecfg.cli.arguments import Number
from securecfg.cli.groups import Verb
from securecfg.cli.identity import grouped
from securecfg.cli.invocation import Invocation, common_flags
from securecfg.cli.signing import signing_options
from securecfg.errors import SecurecfgError, SettingMissing, UsageError
from securecfg.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from securecfg.cli.signing import SigningOptions
    from securecfg.keys import Identity, Share
    from securecfg.vault.administrators.break_glass_sets import Prepared

NAME = "break-glass"


@click.command(
    "break-glass",
    cls=Verb,
    examples=(
        "securecfg scope break-glass payments --threshold 3 --shares 5 --out glass",
        "securecfg scope break-glass payments web --threshold 2 --holder ana.pub --holder ben.pub --out glass",
        "securecfg scope break-glass --renew --threshold 3 --shares 5 --out glass-2     # after a use, or a lost share",
    ),
)
@click.argument("paths", nargs=-1)
@click.option("--threshold", type=Number(), required=True, metavar="K", help="How many shares open the scopes.")
@click.option("--shares", "count", type=Number(), metavar="N", help="How many shares there are.")
@click.option("--holder", "holders", multiple=True, metavar="FILE", help="A public half that one share is sealed to.")
@click.option("--out", required=True, type=click.Path(), metavar="DIR", help="A folder to make, for all files.")
@click.option("--name", default=NAME, show_default=True, metavar="NAME", help="What role and identity are called.")
@click.option("--renew", is_flag=True, help="Another identity and other shares; the former ones open nothing any more.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@signing_options
@common_flags
def break_glass(  # noqa: PLR0913 - one parameter for each option
    invocation: Invocation,
    *,
    paths: tuple[str, ...],
    threshold: int,
    count: int | None,
    holders: tuple[str, ...],
    out: str,
    name: str,
    renew: bool,
    dry_run: bool,
    signing: SigningOptions,
) -> None:
    """Let K of N people together read scopes, without any other key, and never without a record.

    It makes an identity whose private half opens with K shares only, a role of its own, and lets that read the scopes.
    Whoever opens them with it says why (`--reason`), which is in the log of each scope before anything is read. The
    policy has to let the role list and read there.
    """
    from securecfg.cli.key_shares import make_folder, refuse_existing
    from securecfg.keys import generate_shares
    from securecfg.vault.administrators.break_glass import look_for_break_glass
    from securecfg.vault.administrators.break_glass_sets import BreakGlass

    people = _holders(holders)
    shares = generate_shares(threshold, _count(count, people))
    with signing.open(invocation) as (vault, sign_for):
        glass = BreakGlass(vault.authority, sign_for)
        prepared = glass.prepare(paths, name, is_renewal=renew)
        refuse_existing(Path(out))
        result = _result(prepared, shares, out)
        if dry_run:
            invocation.emit(result | {"is_done": False}, *_lines(prepared, shares, "would let", "would read"))
            return
        if renew:
            invocation.confirm(f"Renew `role:{prepared.role}`? Its former identity and shares will open nothing.")
        make_folder(Path(out))
        made = _write(Path(out), prepared, shares, people)
        try:
            with invocation.progress("changing keys") as progress:
                glass.install(prepared, made, progress)
        except SecurecfgError as error:
            hint = f"keep `{out}`, which may be let in already; `--renew` with another folder finishes it"
            error.hint = f"{hint}; {error.hint}"
            raise
    with invocation.open() as vault:
        is_complete = all(one.is_complete for one in look_for_break_glass(vault) if one.role == prepared.role)
    invocation.emit(
        result | {"fingerprint": made.fingerprint.hex(), "is_complete": is_complete, "is_done": True},
        *_lines(prepared, shares, "made   ", "reads  "),
        f"fingerprint  {grouped(made.fingerprint)}",
        f"written  {out}/{prepared.role}.identity, and {counted(len(shares), 'share')} beside it (mode 0600)",
    )
    invocation.note("hint: give each share to another person, and keep the identity where all of them find it")
    if renew:
        invocation.note("note: what the former identity could read may be known: `securecfg audit exposed` lists it")
    if not is_complete:
        invocation.note("note: what was written before now it reads once a reader of the scopes has opened them")


def _holders(files: Sequence[str]) -> list[Identity]:
    from securecfg.keys.identity import read_identity_file

    people = [read_identity_file(file).identity for file in files]
    if len({one.fingerprint for one in people}) < len(people):
        message = "two holders are the same"
        raise UsageError(message, hint="each is somebody else, with an identity of his own")
    return people


def _count(count: int | None, people: Sequence[Identity]) -> int:
    if people and count not in {None, len(people)}:
        message = f"{counted(len(people), 'holder')} cannot have {count} shares"
        raise UsageError(message, hint="name as many holders as there are shares, without `--shares`")
    if not people and count is None:
        message = "nothing says how many shares there are"
        raise SettingMissing(message, hint="give `--shares N`, or a `--holder FILE` for each")
    return count or len(people)


def _write(folder: Path, prepared: Prepared, shares: Sequence[Share], people: Sequence[Identity]) -> Identity:
    """Write identity and shares into a new folder, and return the public half; where it fails, nothing is left."""
    from securecfg.files import create_private, create_public
    from securecfg.keys import ShamirProvider
    from securecfg.keys.identity import IdentityFile, compose_identity_file, generate_identity, protect_seed

    made, seed = generate_identity(prepared.principal)
    private = protect_seed(made, seed, ShamirProvider(lambda: shares[: shares[0].threshold]), "shamir:")
    try:
        create_private(folder / f"{prepared.role}.identity", compose_identity_file(IdentityFile(made, private)))
        create_public(folder / f"{prepared.role}.pub", compose_identity_file(IdentityFile(made, None)))
        for place, share in enumerate(shares):
            _write_share(folder, share, people[place] if people else None)
    except BaseException:
        with suppress(OSError):
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()
        raise
    return made


def _write_share(folder: Path, share: Share, holder: Identity | None) -> None:
    from securecfg.files import create_private
    from securecfg.keys import format_share
    from securecfg.keys.sealed_shares import seal_share

    # No text of the share is kept in a variable, which a traceback might show.
    name = f"share-{share.number:0{len(str(share.total))}}"
    if holder is None:
        create_private(folder / f"{name}.txt", f"{format_share(share)}\n".encode())
    else:
        create_private(folder / f"{name}.sealed", f"{seal_share(share, holder)}\n".encode())


def _result(prepared: Prepared, shares: Sequence[Share], out: str) -> dict[str, object]:
    return {
        "role": prepared.role,
        "principal": prepared.principal,
        "scopes": list(prepared.scopes),
        "threshold": shares[0].threshold,
        "shares": len(shares),
        "out": out,
        "former_fingerprint": prepared.former.fingerprint.hex() if prepared.former is not None else None,
    }


def _lines(prepared: Prepared, shares: Sequence[Share], made: str, reads: str) -> list[str]:
    return [
        f"{made}  {prepared.principal}, {shares[0].threshold} of {len(shares)} shares",
        f"{reads}  {', '.join(prepared.scopes)}",
    ]
