"""`securecfg identity`: the key pair of a person or a service."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from securecfg.cli.groups import Noun
from securecfg.cli.invocation import Invocation, common_flags
from securecfg.errors import SignatureInvalid, UsageError

if TYPE_CHECKING:
    from securecfg.crypto import KeyBytes
    from securecfg.keys import Identity
    from securecfg.keys.identity import PrivateHalf

_OF_PEOPLE = frozenset({"passphrase", "recovery", "shamir"})


@click.group(cls=Noun)
def identity() -> None:
    """Make and show identities: key pairs that prove who a person or a service is."""


@identity.command(
    examples=(
        "securecfg identity create svc:web --out web.identity --public web.pub",
        "securecfg identity create ana --out ~/ana.identity --public ana.pub --protect passphrase:",
    )
)
@click.argument("name")
@click.option("--out", required=True, type=click.Path(), metavar="FILE", help="A new file for the private half.")
@click.option("--public", required=True, type=click.Path(), metavar="FILE", help="A new file for the public half.")
@click.option("--protect", metavar="URI", help="The key that protects the private half; without one it lies open.")
@common_flags
def create(invocation: Invocation, *, name: str, out: str, public: str, protect: str | None) -> None:
    """Make an identity: a file that its owner keeps, and one that others are given.

    NAME is a principal, `user:NAME` or `svc:NAME`; a name without a kind is a user's. The public half is one line, and
    all that somebody needs to let this identity open a vault: `securecfg key add identity:FILE`.
    """
    from securecfg.files import create_private, create_public
    from securecfg.keys.identity import IdentityFile, compose_identity_file, generate_identity, verify_protection
    from securecfg.vault.paths import check_principal

    principal = check_principal(name if ":" in name else f"user:{name}")
    if Path(out).absolute() == Path(public).absolute():
        message = "the two halves of an identity lie in two files"
        raise UsageError(message, hint="the private half is for its owner, the public half for others")
    made, seed = generate_identity(principal)
    if protect is not None:
        verify_protection(protect)
    private = _protected(invocation, made, seed, protect)
    create_private(out, compose_identity_file(IdentityFile(made, private)))
    try:
        create_public(public, compose_identity_file(IdentityFile(made, None)))
    except BaseException:
        # Half an identity is of use to nobody, and would be in the way of a whole one.
        with suppress(OSError):
            Path(out).unlink()
        raise
    if protect is None:
        invocation.note(f"warning: nothing protects `{out}` but its mode; `--protect passphrase:` would")
    invocation.emit(
        {
            "name": principal,
            "fingerprint": made.fingerprint.hex(),
            "private": out,
            "public": public,
            "protection": _shown(private),
        },
        f"made     {principal}   fingerprint  {grouped(made.fingerprint)}",
        f"written  {out} (private, mode 0600) and {public} (for others)",
    )


@identity.command(
    examples=(
        "securecfg identity rotate web.identity --public web-2.pub --keep web-old.identity",
        "securecfg identity rotate ana.identity --protect passphrase:",
    )
)
@click.argument("file", type=click.Path())
@click.option("--public", type=click.Path(), metavar="FILE", help="A new file for the new public half.")
@click.option("--keep", type=click.Path(), metavar="FILE", help="A new file for the old private half; else it is gone.")
@click.option("--protect", metavar="URI", help="The key that protects the new private half; else that of the old one.")
@common_flags
def rotate(invocation: Invocation, *, file: str, public: str | None, keep: str | None, protect: str | None) -> None:
    """Give an identity a new key pair under the same name, and have both sign that the new one is the successor.

    The file is replaced as a whole. Vaults and shares that were sealed to the old key pair do not open with the new
    one: keep the old one until `securecfg key add identity:PUBLIC` has let the new one in. Where a passphrase protects
    it, FILE may end in `?env=NAME` or `?fd=N`.
    """
    from securecfg.cli.identity_rotation import Rotation
    from securecfg.keys.identity import verify_protection

    if protect is not None:
        verify_protection(protect)
    rotation = Rotation.open(file, invocation.ask)
    if keep is None:
        invocation.confirm(f"Replace the key pair in `{rotation.path}`? What is sealed to the old one will not open.")
    seed, made = rotation.seed, rotation.successor
    private = rotation.protected() if protect is None else _protected(invocation, made, seed, protect)
    rotation.write(private, public, keep)
    if private.protection == "none":
        invocation.note(f"warning: nothing protects `{rotation.path}` but its mode; `--protect passphrase:` would")
    former = rotation.former
    invocation.emit(
        {
            "name": made.name,
            "fingerprint": made.fingerprint.hex(),
            "former_fingerprint": former.fingerprint.hex(),
            "private": rotation.path,
            "public": public,
            "kept": keep,
            "protection": _shown(private),
        },
        f"rotated  {made.name}   fingerprint  {grouped(made.fingerprint)}",
        f"before   {grouped(former.fingerprint)}, which signed for it",
        f"written  {rotation.path} (private, mode 0600){f' and {public} (for others)' if public else ''}",
    )


@identity.command(
    examples=(
        "securecfg identity show web.identity",
        "securecfg identity show web-2.pub --from 3f0a-91c4-...   # the fingerprint that you trusted before",
    )
)
@click.argument("file", type=click.Path())
@click.option("--from", "former", metavar="FINGERPRINT", help="Fail unless it is this one's, or the successor of it.")
@common_flags
def show(invocation: Invocation, *, file: str, former: str | None) -> None:
    """Show whose identity a file is, and the fingerprint that people compare before they trust it.

    The fingerprints of its former key pairs follow; each and the next one have signed for each other, which is checked.
    """
    from securecfg.keys.identity import read_identity_file

    held = read_identity_file(file)
    public, private = held.identity, held.private
    earlier = [one.fingerprint.hex() for one in held.chain[1:]]
    if former is not None and _digits(former) not in {public.fingerprint.hex(), *earlier}:
        message = f"no key pair with this fingerprint has signed for the one in `{file}`"
        raise SignatureInvalid(
            message, hint="ask its owner, by another way than the file came; it may be somebody else's"
        )
    said = "the public half only" if private is None else f"private, protection: {_shown(private)}"
    invocation.emit(
        {
            "name": public.name,
            "fingerprint": public.fingerprint.hex(),
            "former_fingerprints": earlier,
            "has_private": private is not None,
            "protection": _shown(private),
        },
        f"name         {public.name}",
        f"fingerprint  {grouped(public.fingerprint)}",
        *(f"before       {grouped(one.fingerprint)}, which signed for its successor" for one in held.chain[1:]),
        f"holds        {said}",
    )


@identity.command(examples=("securecfg identity export web.identity > web.pub",))
@click.argument("file", type=click.Path())
@common_flags
def export(invocation: Invocation, *, file: str) -> None:
    """Print the public half of an identity, which others are given. What protects the private half is not needed."""
    from securecfg.keys.identity import format_identity_file, read_identity_file

    held = read_identity_file(file)
    public = held.identity
    text = format_identity_file(held._replace(private=None)).removesuffix("\n")
    invocation.emit({"name": public.name, "fingerprint": public.fingerprint.hex(), "public": text}, text)


def grouped(fingerprint: bytes) -> str:
    """Return a fingerprint as people compare it: eight groups of four digits."""
    digits = fingerprint.hex()
    return "-".join(digits[start : start + 4] for start in range(0, len(digits), 4))


def _digits(fingerprint: str) -> str:
    digits = re.sub("[ -]", "", fingerprint).lower()
    if not re.fullmatch("[0-9a-f]{32}", digits):
        message = "a fingerprint has 32 hexadecimal digits"
        raise UsageError(message, hint="`securecfg identity show FILE` prints it")
    return digits


def _protected(invocation: Invocation, made: Identity, seed: KeyBytes, protect: str | None) -> PrivateHalf:
    from securecfg.cli.new_keys import open_new_provider
    from securecfg.keys import PassphraseProvider
    from securecfg.keys.identity import UNPROTECTED, PrivateHalf, protect_seed

    if protect is None:
        return PrivateHalf(UNPROTECTED, seed)
    provider = open_new_provider(invocation, protect)
    weakness = provider.weakness() if isinstance(provider, PassphraseProvider) else ""
    if weakness:
        invocation.note(f"warning: the passphrase {weakness}; whoever copies the file can guess as long as they like")
    return protect_seed(made, seed, provider, _kept(provider.scheme, protect))


def _kept(scheme: str, uri: str) -> str:
    """Return the URI that a file keeps: the same key wherever it is used, and nothing about where it came from now."""
    if scheme in _OF_PEOPLE:
        return f"{scheme}:"
    if scheme == "file":
        return f"file:{Path(uri.partition(':')[2].removeprefix('//')).expanduser().absolute()}"
    return uri


def _shown(private: PrivateHalf | None) -> str | None:
    """Return the kind of key that protects a private half; its URI may say more than everybody should see."""
    return None if private is None else private.protection.partition(":")[0]
