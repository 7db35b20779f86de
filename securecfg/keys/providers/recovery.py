"""`recovery:` - a key on paper, for the day when every other one is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from securecfg.crypto import KEY_BYTES, Label, expand
from securecfg.keys.kek import open_under_kek, seal_under_kek
from securecfg.keys.recovery import CODE_BYTES, parse_recovery_code
from securecfg.keys.secret_input import open_secret_input
from securecfg.keys.slots import KIND_RECOVERY

if TYPE_CHECKING:
    from securecfg.keys.provider import Ask, KeyUri, WrapContext
    from securecfg.secret import Secret


class RecoveryProvider:
    """Holds a recovery code.

    Args:
        code: What `generate_recovery_code` returned, as a person may have written it down.
    """

    scheme: Final = "recovery"
    kind: Final = KIND_RECOVERY

    def __init__(self, code: Secret[str]) -> None:
        """Hold the code without revealing it."""
        self._code = code

    def wrap(self, key: bytes, context: WrapContext) -> bytes:
        """Return `key` under the code.

        Raises:
            KeyProviderRefused: The code is mistyped.
            SettingMissing: There is nobody to ask for it.
        """
        return seal_under_kek(self._derive(context), self.kind, b"", key, context)

    def unwrap(self, wrapped: bytes, context: WrapContext) -> bytes:
        """Return the key that was wrapped under the code.

        Raises:
            WrongKey: The code, the bytes or the context are other ones.
            KeyProviderRefused: The code is mistyped.
            SettingMissing: There is nobody to ask for it.
        """
        return open_under_kek(self._derive(context), self.kind, wrapped, context)

    def _derive(self, context: WrapContext) -> bytes:
        code = parse_recovery_code(self._code.reveal())
        return expand(code + bytes(KEY_BYTES - CODE_BYTES), Label.RECOVERY, context.vault_id, KEY_BYTES)


def from_uri(uri: KeyUri, ask: Ask | None) -> RecoveryProvider:
    """Return the provider for `recovery:`, `recovery:?env=NAME`, `recovery:?fd=N` or `recovery:?file=PATH`.

    Raises:
        InvalidKeyUri: The URI says something else.
    """
    return RecoveryProvider(open_secret_input(uri, ask, what="recovery code", sources=("env", "fd", "file")))
