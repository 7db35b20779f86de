"""`passphrase+file:` - a key file and a passphrase, neither of which opens anything alone (format, section 4.13)."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final

from securecfg.crypto import DEFAULT_COSTS, FORMAT_LIMIT, KEY_BYTES, Argon2Costs, KeyBytes, Label, expand
from securecfg.errors import InvalidKeyUri
from securecfg.keys.kek import open_under_kek, seal_under_kek
from securecfg.keys.keyfile import read_key_file
from securecfg.keys.provider import KeyUri
from securecfg.keys.secret_input import open_secret_input, split_source
from securecfg.keys.slots import KIND_PASSPHRASE_AND_FILE
from securecfg.keys.stretching import new_params, parse_allowed_params, stretch_with

if TYPE_CHECKING:
    import os

    from securecfg.keys.provider import Ask, WrapContext
    from securecfg.secret import Secret


class PassphraseFileProvider:
    """Holds a passphrase and names a key file. Whoever has one of them guesses the other in vain.

    Args:
        path: The key file, which is read when a slot is made or tried.
        passphrase: The passphrase; revealed then too, not before.
        costs: What a new slot costs to try.
    """

    scheme: Final = "passphrase+file"
    kind: Final = KIND_PASSPHRASE_AND_FILE

    def __init__(
        self, path: str | os.PathLike[str], passphrase: Secret[str], *, costs: Argon2Costs = DEFAULT_COSTS
    ) -> None:
        """Hold both without touching the file or revealing the passphrase."""
        self._path = path
        self._passphrase = passphrase
        self._costs = costs

    def wrap(self, key: bytes, context: WrapContext) -> bytes:
        """Return `key` under the passphrase, a new salt and the key in the file.

        Raises:
            FileMissing: There is no such file.
            KeyProviderRefused: Others can read the file, it is not a key file, or the passphrase is empty or not text.
            KeyProviderUnavailable: There is not enough memory.
            SettingMissing: There is nobody to ask for the passphrase.
        """
        params = new_params(self._costs)
        return seal_under_kek(self._derive(params), self.kind, params, key, context)

    def unwrap(self, wrapped: bytes, context: WrapContext) -> bytes:
        """Return the key that was wrapped under both.

        Raises:
            WrongKey: The passphrase, the file's key, the bytes or the context are other ones; nothing says which.
            KeyProviderRefused: Trying would cost more than is allowed; or as for `wrap`.
            FileMissing, KeyProviderUnavailable, SettingMissing: As for `wrap`.
        """
        params = parse_allowed_params(wrapped, FORMAT_LIMIT)
        return open_under_kek(self._derive(params), self.kind, wrapped, context)

    def _derive(self, params: bytes) -> KeyBytes:
        # The file comes first: nobody is asked for a passphrase that could not be used.
        file_key = read_key_file(self._path)
        extracted = KeyBytes(hmac.digest(stretch_with(self._passphrase, params), file_key, "sha512"))
        return KeyBytes(expand(extracted, Label.BOTH, b"", KEY_BYTES))


def from_uri(uri: KeyUri, ask: Ask | None) -> PassphraseFileProvider:
    """Return the provider for `passphrase+file:PATH`, with `?env=NAME` or `?fd=N` after it for the passphrase.

    Raises:
        InvalidKeyUri: There is no path.
    """
    path, source = split_source(uri)
    if not path:
        message = "a `passphrase+file:` key names a key file"
        raise InvalidKeyUri(message, hint="for instance `passphrase+file:~/team.key`; the passphrase is asked for")
    passphrase = open_secret_input(KeyUri(uri.scheme, source), ask, what="passphrase", sources=("env", "fd"))
    return PassphraseFileProvider(path, passphrase)
