"""`securecfg scope administrators`: who signs what members of sealed scopes believe; and `securecfg scope sign`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from securecfg.cli.groups import Noun, Verb
from securecfg.cli.identity import grouped
from securecfg.cli.invocation import Invocation, common_flags
from securecfg.cli.signing import open_identity, signing_options
from securecfg.errors import UsageError

if TYPE_CHECKING:
    from securecfg.cli.signing import SigningOptions
    from securecfg.vault.administrators.replacing import AdministratorsInfo

_DRY_RUN = click.option("--dry-run", is_flag=True, help="Only say what would be done.")


@click.group(cls=Noun)
def administrators() -> None:
    """Say who signs for sealed scopes: who may do what in them, and who is a member of a role.

    At first a key does that the vault keeps, so that whoever opens the vault by its root signs alone. From `set` on it
    takes the signatures of several people.
    """


@administrators.command(examples=("securecfg scope administrators show",))
@common_flags
def show(invocation: Invocation) -> None:
    """Show the administrators, and the scopes that are not under them yet."""
    from securecfg.vault.administrators.replacing import AdministratorChanges

    with invocation.open() as vault:
        info = AdministratorChanges(vault.authority).look()
    _emit(invocation, info)


@administrators.command(
    "set",
    examples=(
        "securecfg scope administrators set --threshold 2 --administrator alice.pub --administrator bob.pub \\",
        "    --administrator carol.pub --sign identity:alice.identity --sign identity:bob.identity",
        "securecfg scope administrators set --threshold 2 --administrator alice.pub --administrator bob.pub \\",
        "    --requests /srv/requests",
        "securecfg scope administrators set --vault-key --sign identity:alice.identity --sign identity:bob.identity",
    ),
)
@click.option(
    "--administrator",
    "files",
    multiple=True,
    type=click.Path(),
    metavar="PUBLIC-FILE",
    help="The public half of an identity; may be repeated.",
)
@click.option("--threshold", type=click.IntRange(min=1), default=1, show_default=True, help="How many have to sign.")
@click.option("--vault-key", is_flag=True, help="Hand back to the key that the vault keeps.")
@signing_options
@_DRY_RUN
@common_flags
def set_(
    invocation: Invocation,
    *,
    files: tuple[str, ...],
    threshold: int,
    vault_key: bool,
    signing: SigningOptions,
    dry_run: bool,
) -> None:
    """Make people the administrators, in place of those of today.

    As many of those of today as it takes sign that they hand over, and as many of the new ones sign every scope anew,
    so that nobody becomes an administrator who cannot sign. Compare the fingerprints with their owners first.
    """
    from securecfg.keys.identity import read_identity_file
    from securecfg.vault.administrators.replacing import AdministratorChanges

    if bool(files) == vault_key:
        message = "it is not said who is to be an administrator"
        raise UsageError(message, hint="name people with `--administrator PUBLIC-FILE`, or give `--vault-key` alone")
    people = [read_identity_file(file).identity for file in files]
    told = [f"  {person.name}   fingerprint  {grouped(person.fingerprint)}" for person in people]
    with signing.open(invocation) as (vault, sign_for), invocation.progress("changing keys") as progress:
        changes = AdministratorChanges(vault.authority, sign_for)
        if dry_run:
            changes.look()
            result = {"threshold": threshold, "administrators": [person.name for person in people], "is_done": False}
            invocation.emit(result, f"would make administrators, of whom {threshold} sign:", *told)
            return
        vault.authority.require("key.manage", "")
        for line in told:
            invocation.note(line)
        invocation.confirm("Make these the administrators? Only they can replace themselves afterwards.")
        info = changes.set(people, threshold, progress)
    _emit(invocation, info)


@administrators.command(
    examples=(
        "securecfg scope administrators rotate",
        "securecfg scope administrators rotate --sign identity:alice.identity --sign identity:bob.identity",
    )
)
@signing_options
@_DRY_RUN
@common_flags
def rotate(invocation: Invocation, *, signing: SigningOptions, dry_run: bool) -> None:
    """Replace the key that the vault keeps, which opens its scopes and signs where nobody else was named to.

    Whoever has opened the vault by its root may have copied it. Each scope gets new keys, as when a role departs.
    """
    from securecfg.vault.administrators.replacing import AdministratorChanges

    with signing.open(invocation) as (vault, sign_for), invocation.progress("changing keys") as progress:
        changes = AdministratorChanges(vault.authority, sign_for)
        if dry_run:
            changes.look()
            invocation.emit({"is_done": False}, "would replace the vault's own key in every scope")
            return
        info = changes.rotate(progress)
    _emit(invocation, info)


@administrators.command(
    examples=(
        "securecfg scope administrators resume",
        "securecfg scope administrators resume --accept payments/",
    )
)
@click.option(
    "--accept",
    multiple=True,
    metavar="PATH",
    help="Take over this scope as former administrators left it after they had handed over; may be repeated.",
)
@signing_options
@common_flags
def resume(invocation: Invocation, *, accept: tuple[str, ...], signing: SigningOptions) -> None:
    """Finish a change of administrators, or of the vault's own key, that was interrupted.

    The own key is replaced too where somebody may know it whose key of the vault was removed.
    """
    from securecfg.vault.administrators.replacing import AdministratorChanges

    accepted = [f"{path.removesuffix('/')}/" for path in accept]
    with signing.open(invocation) as (vault, sign_for), invocation.progress("changing keys") as progress:
        info = AdministratorChanges(vault.authority, sign_for).resume(progress, accept=accepted)
    _emit(invocation, info)


@click.command(
    cls=Verb, examples=("securecfg scope sign /srv/requests/0f3a5b77c1d2e480.request --key identity:bob.identity",)
)
@click.argument("request", type=click.Path(), metavar="REQUEST")
@common_flags
def sign(invocation: Invocation, *, request: str) -> None:
    """Sign, as an administrator, what somebody asks for by a file.

    It takes no vault. What is signed is shown in words that are made from the bytes to be signed, whatever else the
    file says; the signatures are written beside the file, where whoever asked waits for them.
    """
    from securecfg.vault.administrators.signing_requests import read_request, write_signatures
    from securecfg.vault.administrators.signing_words import key_to_words
    from securecfg.words import counted

    if invocation.key is None:
        message = "it is not said who signs"
        raise UsageError(message, hint="name your identity: `--key identity:FILE`")
    signer = open_identity(invocation, invocation.key)
    asked = read_request(request)
    words = asked.to_words()
    identity = signer.read_identity()
    for line in words:
        invocation.note(line)
    what = counted(len(asked.messages), "statement")
    invocation.confirm(f"Sign {what} as {identity.name}, with the key {key_to_words(identity.verifier)}?")
    place = write_signatures(request, asked, identity.verifier, signer.sign)
    invocation.emit(
        {"request": asked.id, "signer": identity.name, "signatures": str(place), "words": words},
        f"signed  as {identity.name}, in {place}",
    )


def _emit(invocation: Invocation, info: AdministratorsInfo) -> None:
    people: list[dict[str, Any]] = [
        {"principal": person.name, "fingerprint": person.fingerprint.hex(), "key": person.verifier.hex()}
        for person in info.people
    ]
    result = {
        "threshold": info.threshold,
        "administrators": people,
        "revision": info.serial,
        "pending": list(info.pending),
        "damaged": list(info.damaged),
        "exposed": info.is_exposed,
    }
    who = f"{info.threshold} of {len(people)} sign" if people else "the vault's own key signs"
    invocation.emit(
        result,
        f"administrators  revision {info.serial}, {who}",
        *(f"  {person.name}   fingerprint  {grouped(person.fingerprint)}" for person in info.people),
        *(f"pending  {path}: `securecfg scope administrators resume`" for path in info.pending),
        *(f"damaged  {path}: does not open; restore it from a backup" for path in info.damaged),
        *(["exposed  the vault's own key: `securecfg scope administrators resume`"] if info.is_exposed else []),
    )
