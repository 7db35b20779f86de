"""The key of a new slot: asked for twice where it is made up now, made where it is missing, then looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging
    import os
    from collections.abc import Callable

    from securecfg.cli.invocation import Invocation
    from securecfg.keys import Ask, KeyProvider
    from securecfg.secret import Secret
    from securecfg.vault import Vault

# A person thinks of it now. A PIN, for one, is there already, and is asked for once.
_THOUGHT_OF_NOW = frozenset({"passphrase", "passphrase+file"})


def open_new_provider(invocation: Invocation, uri: str) -> KeyProvider:
    """Return the provider of a key that will open a vault; what a person makes up now is asked for twice.

    Raises:
        InvalidKeyUri, ExtraMissing: The key URI is wrong.
    """
    return _assembled(uri, lambda one, place: _open_new(invocation, one, place))


def _open_new(invocation: Invocation, uri: str, place: tuple[int, int]) -> KeyProvider:
    from securecfg.cli.prompts import ask_new
    from securecfg.keys import open_provider

    is_new = uri.partition(":")[0].lower() in _THOUGHT_OF_NOW
    ask = ask_new if is_new and invocation.ask is not None else invocation.ask
    return open_provider(uri, ask=_naming(ask, place))


def _assembled(uri: str, open_one: Callable[[str, tuple[int, int]], KeyProvider]) -> KeyProvider:
    """Return the provider that a URI names, made of one for each of its keys where it stands for several."""
    from securecfg.keys.parts import SCHEME, split_uris

    scheme, _, rest = uri.partition(":")
    if scheme.lower() != SCHEME:
        return open_one(uri, (1, 1))
    from securecfg.keys import CompositeProvider

    needed, uris = split_uris(rest)
    return CompositeProvider(needed, [open_one(one, (number, len(uris))) for number, one in enumerate(uris, start=1)])


def _naming(ask: Ask | None, place: tuple[int, int]) -> Ask | None:
    from securecfg.keys.parts import asking_for

    return ask if place == (1, 1) else asking_for(ask, *place)


def make_missing(provider: KeyProvider) -> bool:
    """Have a key made by its holder, where the holder lacks it and can make it; return whether it was made.

    Raises:
        InvalidKeyUri: The key URI does not say enough of the key.
        KeyProviderUnavailable, KeyProviderRefused, Unsupported: The key cannot be made.
    """
    from securecfg.keys.provider import CreatingProvider, providers_in

    made = [one.create_missing() for one in providers_in(provider) if isinstance(one, CreatingProvider)]
    return any(made)


def make_or_open_provider(invocation: Invocation, uri: str) -> tuple[KeyProvider, Secret[str] | None]:
    """Return the provider of a new key, and the recovery code where that is the key, or one of several: it is made now.

    Raises:
        InvalidKeyUri, ExtraMissing: The key URI is wrong.
    """
    from securecfg.keys import RecoveryProvider, generate_recovery_code

    codes: list[Secret[str]] = []

    def open_one(one: str, place: tuple[int, int]) -> KeyProvider:
        if one != "recovery:" or codes:
            return _open_new(invocation, one, place)
        codes.append(generate_recovery_code())
        return RecoveryProvider(codes[0])

    provider = _assembled(uri, open_one)
    return provider, codes[0] if codes else None


def create_vault(path: str | os.PathLike[str], provider: KeyProvider, admin: str) -> Vault:
    """Create a vault as `Vault.create` does. A weak passphrase is not logged besides: `warn_if_weak` says it.

    Raises:
        As for `Vault.create`.
    """
    from securecfg.vault import Vault
    from securecfg.vault.creation import WEAKNESS_EVENT
    from securecfg.vault.logger import logger

    def is_other(record: logging.LogRecord) -> bool:
        return getattr(record, "event", "") != WEAKNESS_EVENT

    log = logger()
    log.addFilter(is_other)
    try:
        return Vault.create(path, key=provider, admin=admin)
    finally:
        log.removeFilter(is_other)


def warn_if_weak(invocation: Invocation, provider: KeyProvider) -> None:
    """Say so where a new slot opens with a passphrase that is guessed early. It is the operator's to choose."""
    from securecfg.keys import PassphraseProvider
    from securecfg.keys.provider import providers_in

    for one in providers_in(provider):
        weakness = one.weakness() if isinstance(one, PassphraseProvider) else ""
        if not weakness:
            continue
        invocation.note(f"warning: the passphrase {weakness}; whoever copies the vault can guess as long as they like")
        invocation.note("hint: add a longer one with `securecfg key add passphrase:`, then remove this slot")
