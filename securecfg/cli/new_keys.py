"""The key of a new slot: asked for twice where it is made up now, made where it is missing, then looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import logging
    import os

    from securecfg.cli.invocation import Invocation
    from securecfg.keys import KeyProvider
    from securecfg.secret import Secret
    from securecfg.vault import Vault

# A person thinks of it now. A PIN, for one, is there already, and is asked for once.
_THOUGHT_OF_NOW = frozenset({"passphrase", "passphrase+file"})


def open_new_provider(invocation: Invocation, uri: str) -> KeyProvider:
    """Return the provider of a key that will open a vault; what a person makes up now is asked for twice.

    Raises:
        InvalidKeyUri, ExtraMissing: The key URI is wrong.
    """
    from securecfg.cli.prompts import ask_new
    from securecfg.keys import open_provider

    is_new = uri.partition(":")[0].lower() in _THOUGHT_OF_NOW
    return open_provider(uri, ask=ask_new if is_new and invocation.ask is not None else invocation.ask)


def make_missing(provider: KeyProvider) -> bool:
    """Have a key made by its holder, where the holder lacks it and can make it; return whether it was made.

    Raises:
        InvalidKeyUri: The key URI does not say enough of the key.
        KeyProviderUnavailable, KeyProviderRefused, Unsupported: The key cannot be made.
    """
    from securecfg.keys.provider import CreatingProvider

    return isinstance(provider, CreatingProvider) and provider.create_missing()


def make_or_open_provider(invocation: Invocation, uri: str) -> tuple[KeyProvider, Secret[str] | None]:
    """Return the provider of a new key, and the recovery code where that is the key: it is made now.

    Raises:
        InvalidKeyUri, ExtraMissing: The key URI is wrong.
    """
    from securecfg.keys import RecoveryProvider, generate_recovery_code

    if uri == "recovery:":
        code = generate_recovery_code()
        return RecoveryProvider(code), code
    return open_new_provider(invocation, uri), None


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

    weakness = provider.weakness() if isinstance(provider, PassphraseProvider) else ""
    if weakness:
        invocation.note(f"warning: the passphrase {weakness}; whoever copies the vault can guess as long as they like")
        invocation.note("hint: add a longer one with `securecfg key add passphrase:`, then remove this slot")
