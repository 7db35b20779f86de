"""`securecfg identity`: the key pair of a person or a service."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from securecfg.cli.groups import Noun
from securecfg.cli.invocation import Invocation, common_flags
from securecfg.errors import UsageError

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
    from securecfg.keys.identity import IdentityFile, format_identity_file, generate_identity, verify_protection
    from securecfg.vault.paths import check_principal

    principal = check_principal(name if ":" in name else f"user:{name}")
    if Path(out).absolute() == Path(public).absolute():
        message = "the two halves of an identity lie in two files"
        raise UsageError(message, hint="the private half is for its owner, the public half for others")
    made, seed = generate_identity(principal)
    if protect is not None:
        verify_protection(protect)
    private = _protected(invocation, made, seed, protect)
    create_private(out, format_identity_file(IdentityFile(made, private)).encode())
    try:
        create_public(public, format_identity_file(IdentityFile(made, None)).encode())
    except BaseException:
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


@identity.command(examples=("securecfg identity show web.identity", "securecfg identity show web.pub --json"))
@click.argument("file", type=click.Path())
@common_flags
def show(invocation: Invocation, *, file: str) -> None:
    """Show whose identity a file is, and the fingerprint that people compare before they trust it."""
    from securecfg.keys.identity import read_identity_file

    public, private = read_identity_file(file)
    said = "the public half only" if private is None else f"private, protection: {_shown(private)}"
    invocation.emit(
        {
            "name": public.name,
            "fingerprint": public.fingerprint.hex(),
            "has_private": private is not None,
            "protection": _shown(private),
        },
        f"name         {public.name}",
        f"fingerprint  {grouped(public.fingerprint)}",
        f"holds        {said}",
    )


@identity.command(examples=("securecfg identity export web.identity > web.pub",))
@click.argument("file", type=click.Path())
@common_flags
def export(invocation: Invocation, *, file: str) -> None:
    """Print the public half of an identity, which others are given. What protects the private half is not needed."""
    from securecfg.keys.identity import format_identity, read_identity_file

    public = read_identity_file(file).identity
    line = format_identity(public)
    invocation.emit({"name": public.name, "fingerprint": public.fingerprint.hex(), "public": line}, line)


def grouped(fingerprint: bytes) -> str:
    """Return a fingerprint as people compare it: eight groups of four digits."""
    digits = fingerprint.hex()
    return "-".join(digits[start : start + 4] for start in range(0, len(digits), 4))


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
