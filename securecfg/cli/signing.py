"""Options of commands that administrators sign: who signs here, and how others are asked."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from securecfg.errors import InvalidKeyUri

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from securecfg.cli.invocation import Invocation
    from securecfg.keys import IdentityProvider
    from securecfg.keys.trust import Trust
    from securecfg.vault import Vault
    from securecfg.vault.administration import Administration
    from securecfg.vault.trust.signatories import Signatories, Signing

_MINUTE_S = 60.0


class SigningOptions(NamedTuple):
    """What a command line says of signatures.

    Attributes:
        keys: Key URIs of identities.
        requests: Where to ask those who are elsewhere; None asks nobody.
        wait_min: How long to wait for them, in minutes.
    """

    keys: tuple[str, ...]
    requests: str | None
    wait_min: float

    @contextmanager
    def open(self, invocation: Invocation) -> Iterator[tuple[Vault, Signing]]:
        """Open the vault, and return with it what signs for its administrators; the identity that opens it signs too.

        Raises:
            InvalidKeyUri: A key is no identity.
            As for `Vault.open`.
        """
        from securecfg.keys import IdentityProvider

        key = invocation.provider()
        signers = [open_identity(invocation, uri) for uri in self.keys]
        with invocation.open(key=key) as vault:
            opener = [key] if isinstance(key, IdentityProvider) else []
            yield vault, self._signing([*opener, *signers], invocation)

    def _signing(self, signers: list[IdentityProvider], invocation: Invocation) -> Signing:
        def sign_for(trust: Trust) -> Signatories:
            from securecfg.vault.administrators.signing_requests import RequestedSignatures
            from securecfg.vault.trust.signatories import HeldKeys

            keys = {signer.read_identity().verifier: signer.sign for signer in signers}
            if self.requests is None:
                return HeldKeys(trust, keys)
            told = f"administrators are asked in `{self.requests}`; each signs with `securecfg scope sign FILE.request`"
            invocation.note(told)
            progress = partial(invocation.progress, "waiting for signatures")
            wait_s = self.wait_min * _MINUTE_S
            return RequestedSignatures(trust, keys, Path(self.requests), wait_s=wait_s, progress=progress)

        return sign_for


def signing_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add `--sign`, `--requests` and `--wait`, which the command gets as `signing`."""

    @wraps(command)
    def signed(*args: Any, sign: tuple[str, ...], requests: str | None, wait: float, **options: Any) -> None:  # noqa: ANN401 - those of the command
        command(*args, signing=SigningOptions(sign, requests, wait), **options)

    for option in (
        click.option(
            "--wait",
            type=click.FloatRange(min=0),
            default=60.0,
            show_default=True,
            metavar="MINUTES",
            help="How long to wait for signatures that were asked for.",
        ),
        click.option(
            "--requests",
            type=click.Path(file_okay=False),
            metavar="FOLDER",
            help="Ask administrators who are elsewhere, by a file in this folder.",
        ),
        click.option(
            "--sign", multiple=True, metavar="identity:FILE", help="Sign as this administrator too; may be repeated."
        ),
    ):
        signed = option(signed)
    return signed


def open_identity(invocation: Invocation, uri: str) -> IdentityProvider:
    """Return the identity that a key URI names.

    Raises:
        InvalidKeyUri: It names another kind of key.
    """
    from securecfg.keys import IdentityProvider, open_provider

    provider = open_provider(uri, ask=invocation.ask)
    if not isinstance(provider, IdentityProvider):
        message = "an administrator signs with an identity"
        raise InvalidKeyUri(
            message, hint="for instance `identity:alice.identity`; `securecfg identity create` makes one"
        )
    return provider


def administration_of(vault: Vault, signing: Signing) -> Administration:
    """Return policy and roles of a vault, whose administrators sign for its sealed scopes where it has some."""
    from securecfg.vault.scopes.scoped_administration import ScopedAdministration

    administration = vault.administration
    is_scoped = isinstance(administration, ScopedAdministration)
    return ScopedAdministration(vault.authority, signing) if is_scoped else administration
