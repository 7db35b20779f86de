"""`passphrase:` - a key that a person remembers, through Argon2id."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from securecfg.crypto import DEFAULT_COSTS, FORMAT_LIMIT, Argon2Costs
from securecfg.keys.kek import open_under_kek, seal_under_kek
from securecfg.keys.secret_input import open_secret_input
from securecfg.keys.slots import KIND_PASSPHRASE
from securecfg.keys.stretching import new_params, parse_allowed_params, stretch_with

if TYPE_CHECKING:
    from securecfg.keys.provider import Ask, KeyUri, WrapContext
    from securecfg.secret import Secret


class PassphraseProvider:
    """Holds a passphrase.

    Args:
        passphrase: The passphrase; revealed when a slot is made or tried, not before.
        costs: What a new slot costs to try.
        limit: The most that a slot may cost to try, within the format's own limit.

    Raises:
        ValueError: The costs cannot be computed.
    """

    scheme: Final = "passphrase"
    kind: Final = KIND_PASSPHRASE

    def __init__(
        self, passphrase: Secret[str], *, costs: Argon2Costs = DEFAULT_COSTS, limit: Argon2Costs = FORMAT_LIMIT
    ) -> None:
        """Hold the passphrase without revealing it."""
        if not costs.is_computable():
            message = "Argon2id cannot be computed at these costs"
            raise ValueError(message)
        self._passphrase = passphrase
        self._costs = costs
        self._limit = limit

    def wrap(self, key: bytes, context: WrapContext) -> bytes:
        """Return `key` under the passphrase and a new salt.

        Raises:
            KeyProviderRefused: The passphrase is empty or not text.
            KeyProviderUnavailable: There is not enough memory.
            SettingMissing: There is nobody to ask for it.
        """
        params = new_params(self._costs)
        return seal_under_kek(stretch_with(self._passphrase, params), self.kind, params, key, context)

    def unwrap(self, wrapped: bytes, context: WrapContext) -> bytes:
        """Return the key that was wrapped under the passphrase.

        Raises:
            WrongKey: The passphrase, the bytes or the context are other ones.
            KeyProviderRefused: Trying would cost more than is allowed, or the passphrase is empty or not text.
            KeyProviderUnavailable: There is not enough memory.
            SettingMissing: There is nobody to ask for it.
        """
        params = parse_allowed_params(wrapped, self._limit)
        return open_under_kek(stretch_with(self._passphrase, params), self.kind, wrapped, context)

    def weakness(self) -> str:
        """Return what makes the passphrase easy to guess, as the end of a sentence about it, or an empty string.

        For whoever makes a slot; to open one with a weak passphrase is no mistake.

        Raises:
            KeyProviderRefused: The passphrase is empty or not text.
            SettingMissing: There is nobody to ask for it.
        """
        from securecfg.keys.weakness import weakness_of  # nothing that opens a vault needs it

        return weakness_of(self._passphrase.reveal())


def from_uri(uri: KeyUri, ask: Ask | None) -> PassphraseProvider:
    """Return the provider for `passphrase:`, `passphrase:?fd=N` or `passphrase:?env=NAME`.

    Raises:
        InvalidKeyUri: The URI says something else.
    """
    return PassphraseProvider(open_secret_input(uri, ask, what="passphrase", sources=("env", "fd")))
