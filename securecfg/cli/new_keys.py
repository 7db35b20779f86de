"""The key of a new slot: asked for twice, and looked at once the slot is made."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from securecfg.cli.invocation import Invocation
    from securecfg.keys import KeyProvider
    from securecfg.secret import Secret


def open_new_provider(invocation: Invocation, uri: str) -> KeyProvider:
    """Return the provider of a key that will open a vault; what a person types is asked for twice.

    Raises:
        InvalidKeyUri, ExtraMissing: The key URI is wrong.
    """
    from securecfg.cli.prompts import ask_new
    from securecfg.keys import open_provider

    return open_provider(uri, ask=ask_new if invocation.ask is not None else None)


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


def warn_if_weak(invocation: Invocation, provider: KeyProvider) -> None:
    """Say so where a new slot opens with a passphrase that is guessed early. It is the operator's to choose."""
    from securecfg.keys import PassphraseProvider

    weakness = provider.weakness() if isinstance(provider, PassphraseProvider) else ""
    if weakness:
        invocation.note(f"warning: the passphrase {weakness}; whoever copies the vault can guess as long as they like")
        invocation.note("hint: add a longer one with `securecfg key add passphrase:`, then remove this slot")
